/* Ids of stream entries. */
#include "ids.h"

#include <ctype.h>

int stream_id_compare(RedisModuleStreamID a, RedisModuleStreamID b) {
    if (a.ms != b.ms) return a.ms < b.ms ? -1 : 1;
    if (a.seq != b.seq) return a.seq < b.seq ? -1 : 1;
    return 0;
}

static bool parse_digits(const char **at, const char *end, uint64_t *value) {
    const char *start = *at;
    *value = 0;
    for (; *at < end && isdigit((unsigned char)**at); (*at)++) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (*value > (UINT64_MAX - digit) / 10) return false;
        *value = *value * 10 + digit;
    }
    return *at > start;
}

bool stream_id_parse(Slice text, RedisModuleStreamID *id) {
    const char *at = text.bytes, *end = text.bytes + text.len;
    if (!parse_digits(&at, end, &id->ms) || at == end || *at++ != '-') return false;
    return parse_digits(&at, end, &id->seq) && at == end;
}

RedisModuleString *stream_id_string(RedisModuleStreamID id) {
    return RedisModule_CreateStringPrintf(NULL, "%llu-%llu", (unsigned long long)id.ms, (unsigned long long)id.seq);
}

void stream_id_reply(RedisModuleCtx *ctx, RedisModuleStreamID id) {
    RedisModuleString *text = stream_id_string(id);
    RedisModule_ReplyWithString(ctx, text);
    RedisModule_FreeString(NULL, text);
}
