/* Lanes: the streams in which changes wait, and what the module remembers of each. */
#include "lanes.h"
#include "backlog.h"
#include "ids.h"
#include "parts.h"

#include <stdlib.h>
#include <string.h>

#include "changes/entry.h"

Lane *lane_create(Slice stream, const char *target, int index, int count, bool retired) {
    Lane *lane = RedisModule_Calloc(1, sizeof(*lane));
    lane->stream = RedisModule_CreateString(NULL, stream.bytes, stream.len);
    lane->target = slice_copy((Slice){target, strlen(target)});
    lane->index = index;
    lane->count = count;
    lane->retired = retired;
    /* A dead-letter stream is named as its lane, with "dead" in the place of the first "lane" (right after the tag). */
    char *dead = slice_copy(stream);
    char *word = strstr(dead, "}:lane:");
    if (word != NULL) memcpy(word + 2, "dead", 4);
    lane->dead_stream = RedisModule_CreateString(NULL, dead, stream.len);
    RedisModule_Free(dead);
    return lane;
}

Lane *lane_for(const char *source, const char *deployment, const char *target, int index, int count) {
    Text name = {0};
    text_printf(&name, "gearsync:{%s}:lane:%s:%s:%s:%d.%d", shard.tag, source, deployment, target, index, count);
    Lane *lane = lane_create((Slice){name.bytes, name.len}, target, index, count, false);
    text_free(&name);
    return lane;
}

Lane *lane_of_key(Deployment *deployment, int target, RedisModuleString *key) {
    int index = deployment->nlanes > 1 ? (int)(key_hash(string_slice(key)) % (uint64_t)deployment->nlanes) : 0;
    return deployment->lanes[target * deployment->nlanes + index];
}

void lane_free(Lane *lane) {
    RedisModule_FreeString(NULL, lane->stream);
    RedisModule_FreeString(NULL, lane->dead_stream);
    RedisModule_Free(lane->target);
    if (lane->function != NULL) RedisModule_Free(lane->function);
    if (lane->label != NULL) RedisModule_FreeString(NULL, lane->label);
    bytes_free(lane);
    waiting_free(lane);
    RedisModule_Free(lane);
}

static size_t stream_length(RedisModuleCtx *ctx, RedisModuleString *name) {
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    if (key == NULL) return 0;
    size_t length = RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_STREAM ? RedisModule_ValueLength(key) : 0;
    RedisModule_CloseKey(key);
    return length;
}

size_t lane_dead_letters(RedisModuleCtx *ctx, Lane *lane) { return stream_length(ctx, lane->dead_stream); }

static void read_epoch(RedisModuleKey *stream, long pairs, uint64_t *epoch) {
    Entry entry;
    char hex[20] = {0};
    entry_read(&entry, stream, pairs);
    Slice meta = entry.count > 1 ? string_slice(entry.strings[1]) : (Slice){"", 0};
    if (meta.len > 1) {
        /* An operation's ticket may follow, after a colon. */
        memcpy(hex, meta.bytes + 1, meta.len <= sizeof(hex) ? meta.len - 1 : sizeof(hex) - 1);
        *epoch = strtoull(hex, NULL, 16);
        /* Somebody else's: a worker makes it a dead letter, and ours could not get above it. */
        if (*epoch > EPOCH_BELIEVED) *epoch = 0;
    }
    entry_free(&entry);
}

/* The id and the epoch of a lane's last entry; false: it has none. By the API, since a cluster takes no command on a
 * key of a slot that is still on its way here. */
static bool last_entry(RedisModuleCtx *ctx, Lane *lane, RedisModuleStreamID *id, uint64_t *epoch) {
    bool found = false;
    long fields;
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, lane->stream, REDISMODULE_READ);
    if (key == NULL) return false;
    if (RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_STREAM &&
        RedisModule_StreamIteratorStart(key, REDISMODULE_STREAM_ITERATOR_REVERSE, NULL, NULL) == REDISMODULE_OK) {
        found = RedisModule_StreamIteratorNextID(key, id, &fields) == REDISMODULE_OK;
        if (found) read_epoch(key, fields, epoch);
        RedisModule_StreamIteratorStop(key);
    }
    RedisModule_CloseKey(key);
    return found;
}

bool lane_first(RedisModuleCtx *ctx, Lane *lane, RedisModuleStreamID *id) {
    bool found = false;
    long fields;
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, lane->stream, REDISMODULE_READ);
    if (key == NULL) return false;
    if (RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_STREAM &&
        RedisModule_StreamIteratorStart(key, 0, NULL, NULL) == REDISMODULE_OK) {
        found = RedisModule_StreamIteratorNextID(key, id, &fields) == REDISMODULE_OK;
        RedisModule_StreamIteratorStop(key);
    }
    RedisModule_CloseKey(key);
    return found;
}

/* All that the lane has, as the server measures it. A node of a cluster that has just loaded its data can't yet. */
static void weigh(RedisModuleCtx *ctx, Lane *lane) {
    RedisModule_SelectDb(ctx, 0);
    RedisModuleCallReply *usage = RedisModule_Call(ctx, "MEMORY", "cscc", "USAGE", lane->stream, "SAMPLES", "0");
    lane->unweighed = usage == NULL || RedisModule_CallReplyType(usage) == REDISMODULE_REPLY_ERROR;
    if (!lane->unweighed) bytes_take(lane, SIZE_MAX);
    if (lane->length > 0 && usage != NULL && RedisModule_CallReplyType(usage) == REDISMODULE_REPLY_INTEGER)
        bytes_add(lane, lane->length, (uint64_t)RedisModule_CallReplyInteger(usage));
    if (usage != NULL) RedisModule_FreeCallReply(usage);
}

void lanes_weigh_again(RedisModuleCtx *ctx) {
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        bool any = false;
        for (int j = 0; j < deployment->lane_count; j++) {
            if (!deployment->lanes[j]->unweighed) continue;
            weigh(ctx, deployment->lanes[j]);
            any = true;
        }
        if (any) backlog_update(deployment);
    }
}

void lane_refresh(RedisModuleCtx *ctx, Lane *lane) {
    size_t before = lane->length;
    uint64_t epoch = 0;
    lane->length = stream_length(ctx, lane->stream);
    last_entry(ctx, lane, &lane->last, &epoch);
    waiting_note_all(lane);
    if (lane->length > before || (lane->length > 0 && lane->bytes == 0))
        weigh(ctx, lane);
    else
        bytes_take(lane, lane->length > 0 ? before - lane->length : SIZE_MAX);
}

uint64_t lane_last_epoch(RedisModuleCtx *ctx, Lane *lane) {
    RedisModuleStreamID id;
    uint64_t epoch = 0;
    last_entry(ctx, lane, &id, &epoch);
    return epoch;
}

long long lane_oldest_ms(RedisModuleCtx *ctx, Lane *lane) {
    RedisModuleStreamID id = {0, 0};
    long fields;
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *key = lane->length > 0 ? RedisModule_OpenKey(ctx, lane->stream, REDISMODULE_READ) : NULL;
    if (key == NULL) return 0;
    if (RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_STREAM &&
        RedisModule_StreamIteratorStart(key, 0, NULL, NULL) == REDISMODULE_OK) {
        if (RedisModule_StreamIteratorNextID(key, &id, &fields) != REDISMODULE_OK) id.ms = 0;
        RedisModule_StreamIteratorStop(key);
    }
    RedisModule_CloseKey(key);
    long long now = RedisModule_Milliseconds();
    return id.ms > 0 && now > (long long)id.ms ? now - (long long)id.ms : 0;
}

long long lane_acknowledge(RedisModuleCtx *ctx, Lane *lane, RedisModuleStreamID id) {
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, lane->stream, REDISMODULE_READ | REDISMODULE_WRITE);
    size_t before = lane->length;
    lane->length = 0;
    if (key != NULL && RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_STREAM) {
        /* Trimming keeps what is at or after the id given: so the one that follows. */
        RedisModuleStreamID first = {id.ms, id.seq + 1};
        if (id.seq == UINT64_MAX) first = id.ms == UINT64_MAX ? id : (RedisModuleStreamID){id.ms + 1, 0};
        long long trimmed = RedisModule_StreamTrimByID(key, 0, &first);
        lane->length = RedisModule_ValueLength(key);
        if (trimmed > 0) {
            RedisModuleString *text = stream_id_string(first);
            RedisModule_Replicate(ctx, "XTRIM", "sccs", lane->stream, "MINID", "=", text);
            RedisModule_FreeString(NULL, text);
        }
    }
    if (key != NULL) RedisModule_CloseKey(key);
    if (lane->length < before) bytes_take(lane, lane->length > 0 ? before - lane->length : SIZE_MAX);
    /* An id that was never given must not open the barriers to come. */
    if (stream_id_compare(id, lane->last) > 0) id = lane->last;
    if (stream_id_compare(id, lane->acked) > 0) lane->acked = id;
    return (long long)lane->length;
}

bool lane_is_behind(const Deployment *deployment, const Lane *lane) {
    for (int i = 0; i < deployment->nrules && lane->behind; i++)
        if (deployment->rules[i].timeout_ms > 0) return true;
    return false;
}
