/* Marks: who reads rows of keys that it does not know yet takes one before, and GEARSYNC.PUT sees by it which of the
 * rows may be older than what has come to SQL since. A mark says of each lane what SQL had of it. */
#include "marks.h"
#include "rows.h"

#include <stdlib.h>
#include <string.h>

#include "lanes/waiting.h"
#include "waits/keys.h"

#define BUCKETS 65536

/* At which tick somebody last said that the row of a key in the bucket has changed; NULL until there is a mark. */
static uint64_t *overtaken;
static uint64_t ticks;

static uint64_t *bucket_of(Slice key) { return &overtaken[key_hash(key) % BUCKETS]; }

void marks_forget(void) {
    if (overtaken != NULL) RedisModule_Free(overtaken);
    overtaken = NULL;
}

void mark_overtake(Slice key) {
    if (overtaken != NULL) *bucket_of(key) = ++ticks;
}

/* An empty lane has brought all to SQL, also what was acknowledged before this server started. */
static RedisModuleStreamID in_sql(const Lane *lane) { return lane->length == 0 ? lane->last : lane->acked; }

int mark_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    waiting_watch();
    if (overtaken == NULL) overtaken = RedisModule_Calloc(BUCKETS, sizeof(*overtaken));
    Text text = {0};
    text_printf(&text, "%llu %llu", (unsigned long long)shard.epoch, (unsigned long long)ticks);
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++) {
            const Lane *lane = shard.deployments[i]->lanes[j];
            Slice stream = string_slice(lane->stream);
            RedisModuleStreamID id = in_sql(lane);
            text_printf(&text, " %.*s %llu-%llu", (int)stream.len, stream.bytes, (unsigned long long)id.ms,
                        (unsigned long long)id.seq);
        }
    RedisModule_ReplyWithStringBuffer(ctx, text.bytes, text.len);
    text_free(&text);
    return REDISMODULE_OK;
}

/* A number and the character behind it. */
static bool read_number(const char **at, char end, uint64_t *number) {
    char *after;
    *number = strtoull(*at, &after, 10);
    bool sound = after != *at && *after == end;
    *at = sound ? after + 1 : after;
    return sound;
}

/* Notes what a mark says of one lane. One that is gone had changes of whatever keys: then the mark says nothing. */
static bool read_lane(const char **at, ReadMark *mark) {
    Slice stream = {*at, strcspn(*at, " ")};
    RedisModuleStreamID id;
    *at += stream.len;
    if (stream.len == 0 || **at != ' ') return false;
    (*at)++;
    if (!read_number(at, '-', &id.ms)) return false;
    char *after;
    id.seq = strtoull(*at, &after, 10);
    if (after == *at) return false;
    *at = after;
    Deployment *owner;
    Lane *lane = shard_find_lane(stream, &owner);
    if (lane == NULL)
        mark->valid = false;
    else
        lane->marked = id;
    return true;
}

bool mark_read(const RedisModuleString *text, ReadMark *mark) {
    Slice slice = string_slice(text);
    const char *at = slice.bytes;
    uint64_t epoch;
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++)
            shard.deployments[i]->lanes[j]->marked = (RedisModuleStreamID){0, 0};
    if (!read_number(&at, ' ', &epoch)) return false;
    char *after;
    mark->tick = strtoull(at, &after, 10);
    if (after == at) return false;
    at = after;
    mark->valid = epoch == shard.epoch && overtaken != NULL;
    while (*at == ' ') {
        at++;
        if (!read_lane(&at, mark)) return false;
    }
    return at == slice.bytes + slice.len;
}

bool mark_is_passed(const ReadMark *mark, int db, Slice key) {
    return !mark->valid || *bucket_of(key) > mark->tick || waiting_since_mark(db, key);
}
