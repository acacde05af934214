/* Changes get into their lanes: the entry, its weight, its text for the AOF and the replicas. A part of the hot
 * path. */
#include "capture.h"
#include "events.h"

#include <errno.h>
#include <string.h>

#include "changes/entry.h"
#include "changes/image.h"
#include "cluster/cluster.h"
#include "lanes/backlog.h"
#include "lanes/lanes.h"
#include "lanes/waiting.h"
#include "reads/reads.h"

Lane *lane_of_key(Deployment *deployment, int target, RedisModuleString *key) {
    int index = deployment->nlanes > 1 ? (int)(key_hash(string_slice(key)) % (uint64_t)deployment->nlanes) : 0;
    return deployment->lanes[target * deployment->nlanes + index];
}

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

/* False: it is too large for a stream entry; errno says how. */
static bool append_packed(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key,
                          const Packed *packed) {
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
    misses_changed(string_slice(key));
    weigh(lane, packed);
    deployment->captured++;
    replicate(ctx, lane, packed, id);
    backlog_update(deployment);
    return true;
}

bool capture_append(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Image *image) {
    Packed packed;
    entry_pack(&packed, image);
    bool appended = append_packed(ctx, deployment, lane, image->key, &packed);
    int error = errno;
    entry_drop(&packed);
    errno = error;
    return appended;
}

static bool end_append(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, bool appended) {
    if (appended)
        lane->unit = unit_now();
    else
        append_failed(ctx, lane, deployment, key, errno);
    return appended;
}

bool append_image(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Image *image) {
    return end_append(ctx, deployment, lane, image->key, capture_append(ctx, deployment, lane, image));
}

bool append_given(RedisModuleCtx *ctx, RedisModuleString *key, const Given *known) {
    Deployment *deployment = known->rule->deployment;
    int target = known->rule->target;
    Rule *rule = known->rule;
    if (shard.tag[0] == '\0' && !cluster_settle(ctx)) return true;
    slots_before_capture(ctx, string_slice(key));
    Lane *lane = lane_of_key(deployment, target, key);
    if (unit_goes_on(ctx, deployment, lane)) return false;
    if (end_append(ctx, deployment, lane, key, append_packed(ctx, deployment, lane, key, &known->packed)))
        capture_count(deployment, target, &rule, 1);
    return true;
}

void capture_count(Deployment *deployment, int target, Rule **rules, int count) {
    deployment->captured_of[target]++;
    for (int i = 0; i < count && i < MAX_FIXED; i++) rules[i]->captured++;
}

static void append_mark(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, char op,
                        bool goes_on, const char *node) {
    Image image;
    image_start(&image, key, op);
    if (goes_on) image_go_on(&image, op);
    image.fields_owned = true;
    image_add(&image, RedisModule_CreateString(NULL, "n", 1), RedisModule_CreateString(NULL, node, NODE_ID_BYTES));
    append_image(ctx, deployment, lane, &image);
    image_end(&image);
}

/* A mark in the lane of a key that changes its shard, with the id of the node that has it from now on. */
void capture_mark(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, char op,
                  const char *node) {
    if (node == NULL) return;
    append_mark(ctx, deployment, lane, key, op, false, node);
    lane->unit = 0;
}

/* Right behind the change that says that a key is gone: where it may be made anew. A part of the same transaction. */
void capture_went(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, const char *node) {
    append_mark(ctx, deployment, lane, key, 'w', unit_goes_on(ctx, deployment, lane), node);
}

/* That the members of a key have changed. */
void append_members(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key) {
    Image image;
    image_start(&image, key, 'r');
    append_image(ctx, deployment, lane, &image);
    image_end(&image);
}
