/* Changes get into their lanes: the entry, its weight, its text for the AOF and the replicas. A part of the hot
 * path. */
#include "append.h"
#include "backlog.h"
#include "lanes.h"
#include "units.h"
#include "waiting.h"

#include <errno.h>
#include <string.h>

#include "listeners.h"

/* A change that the stream can't take (over 1 GiB) must not vanish: the lane's dead letters say which key it was. */
static void append_failed(RedisModuleCtx *ctx, Lane *lane, Deployment *deployment, RedisModuleString *key, int error) {
    deployment->failed++;
    Slice name = string_slice(key);
    RedisModule_Log(ctx, "warning", "a change of key %.*s can't be stored in its lane (%s); it is a dead letter now",
                    name.len > 200 ? 200 : (int)name.len, name.bytes, strerror(error));
    RedisModuleCallReply *reply = RedisModule_Call(
        ctx, "XADD", "!sccccccs", lane->dead_stream, "*", "reason",
        "the image is too large for a stream entry; make the hash smaller and retry", "op", "u", "key", key);
    if (reply != NULL) RedisModule_FreeCallReply(reply);
}

/* The append with the id that it got, to the AOF and the replicas. The id is written by hand: this is the hot path. */
static void replicate(RedisModuleCtx *ctx, Lane *lane, const Packed *packed, RedisModuleStreamID id) {
    if (!shard.propagates) return;
    char text[44], *at = text + sizeof(text);
    for (uint64_t n = id.seq; n > 0 || at == text + sizeof(text); n /= 10) *--at = (char)('0' + n % 10);
    *--at = '-';
    for (uint64_t n = id.ms; n > 0; n /= 10) *--at = (char)('0' + n % 10);
    RedisModuleString *string = RedisModule_CreateString(NULL, at, (size_t)(text + sizeof(text) - at));
    RedisModule_Replicate(ctx, "XADD", "ssv", lane->stream, string, packed->strings, packed->count);
    RedisModule_FreeString(NULL, string);
}

/* About what a change takes in the stream: names of fields only where they are not those of the change before. */
static void weigh(Lane *lane, const Packed *packed) {
    RedisModuleString *label = packed->strings[0];
    uint64_t bytes = 10;
    for (size_t i = 1; i < packed->count; i += 2) bytes += string_slice(packed->strings[i]).len + 2;
    if (packed->count > 2 || (lane->label != label && (lane->label == NULL || !strings_equal(lane->label, label)))) {
        for (size_t i = 0; i < packed->count; i += 2) bytes += string_slice(packed->strings[i]).len + 4;
        if (lane->label != NULL) RedisModule_FreeString(NULL, lane->label);
        lane->label = RedisModule_HoldString(NULL, label);
    }
    bytes_add(lane, 1, bytes);
}

static bool add(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, const Packed *packed) {
    RedisModuleStreamID id;
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *stream = RedisModule_OpenKey(ctx, lane->stream, REDISMODULE_READ | REDISMODULE_WRITE);
    int failed =
        RedisModule_StreamAdd(stream, REDISMODULE_STREAM_ADD_AUTOID, &id, packed->strings, (long)packed->count / 2);
    int error = errno;
    if (failed == REDISMODULE_OK) lane->length = RedisModule_ValueLength(stream);
    RedisModule_CloseKey(stream);
    errno = error;
    if (failed != REDISMODULE_OK) return false;
    lane->last = id;
    waiting_note(lane, string_slice(key));
    listeners.changed(string_slice(key));
    weigh(lane, packed);
    deployment->captured++;
    replicate(ctx, lane, packed, id);
    backlog_update(deployment);
    return true;
}

bool append_try(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Image *image) {
    Packed packed;
    entry_pack(&packed, image);
    bool appended = add(ctx, deployment, lane, image->key, &packed);
    int error = errno;
    entry_drop(&packed);
    errno = error;
    return appended;
}

static bool end(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, bool appended) {
    if (appended)
        lane->unit = unit_now();
    else
        append_failed(ctx, lane, deployment, key, errno);
    return appended;
}

bool append_packed(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key,
                   const Packed *packed) {
    return end(ctx, deployment, lane, key, add(ctx, deployment, lane, key, packed));
}

bool append_image(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Image *image) {
    return end(ctx, deployment, lane, image->key, append_try(ctx, deployment, lane, image));
}

static void put_mark(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, char op,
                     bool goes_on, const char *node) {
    Image image;
    image_start(&image, key, op);
    if (goes_on) image_go_on(&image, op);
    image.fields_owned = true;
    image_add(&image, RedisModule_CreateString(NULL, "n", 1), RedisModule_CreateString(NULL, node, NODE_ID_BYTES));
    append_image(ctx, deployment, lane, &image);
    image_end(&image);
}

void append_mark(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, char op,
                 const char *node) {
    if (node == NULL) return;
    put_mark(ctx, deployment, lane, key, op, false, node);
    lane->unit = 0;
}

/* What waits in an old lane must be in SQL before what those take that follow it, whoever has the old one by then. The
 * epoch must be another one each time: marks of one name would be taken for each other where an old lane outlives
 * several tags. */
void append_lane_marks(RedisModuleCtx *ctx, Deployment *deployment, Lane *old) {
    for (int i = 0; i < deployment->lane_count; i++) {
        Lane *lane = deployment->lanes[i];
        /* A lane of an older version may hold any key. */
        bool follows = !lane->retired && strcmp(lane->target, old->target) == 0 &&
                       (old->count != lane->count || old->index == lane->index);
        if (!follows) continue;
        Slice name = string_slice(old->stream);
        RedisModuleString *key = RedisModule_CreateStringPrintf(NULL, "%.*s %d %llu", (int)name.len, name.bytes,
                                                                lane->index, (unsigned long long)shard.epoch);
        append_mark(ctx, deployment, old, key, 'm', RedisModule_GetMyClusterID());
        append_mark(ctx, deployment, lane, key, 'i', RedisModule_GetMyClusterID());
        RedisModule_FreeString(NULL, key);
    }
}

void append_went(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, const char *node) {
    put_mark(ctx, deployment, lane, key, 'w', unit_goes_on(ctx, deployment, lane), node);
}

void append_members(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key) {
    Image image;
    image_start(&image, key, 'r');
    append_image(ctx, deployment, lane, &image);
    image_end(&image);
}
