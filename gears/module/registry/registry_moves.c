/* The registry where keys change their shard: lanes that come, what comes with them, and a home slot that leaves. */
#include "parts.h"
#include "registry.h"

#include <string.h>

#include "lanes/lanes.h"

/* What a shard that has left had besides lanes, its registry above all: two of them here, and the next start would not
 * know which is ours. Deleted at a tick, when the slot is ours and takes commands. */
#define MAX_STRAYS 64
static RedisModuleString *strays[MAX_STRAYS];
static int stray_count;

static void note_stray(RedisModuleString *key) {
    Slice name = string_slice(key);
    RedisModuleString *ours = registry_key();
    Slice own = string_slice(ours);
    size_t prefix = own.len - strlen("registry");
    bool is_ours = name.len > prefix && memcmp(name.bytes, own.bytes, prefix) == 0;
    if (is_ours || shard.moving != MOVING_HERE)
        shard.registry_dirty = true;
    else if (stray_count < MAX_STRAYS)
        strays[stray_count++] = RedisModule_HoldString(NULL, key);
    RedisModule_FreeString(NULL, ours);
}

void registry_drop_strays(RedisModuleCtx *ctx) {
    int kept = 0;
    for (int i = 0; i < stray_count; i++) {
        if (registry_delete_key(ctx, strays[i]))
            RedisModule_FreeString(NULL, strays[i]);
        else
            strays[kept++] = strays[i];
    }
    stray_count = kept;
}

static bool is_stream(Slice key) {
    char *name = slice_copy(key);
    bool found = strstr(name, "}:lane:") != NULL || strstr(name, "}:dead:") != NULL;
    RedisModule_Free(name);
    return found;
}

void registry_adopt(RedisModuleCtx *ctx, RedisModuleString *key) {
    Slice stream = string_slice(key);
    if (!is_stream(stream)) {
        note_stray(key);
        return;
    }
    /* Dead letters come with their lane, or after it, when it is empty and so is no key. */
    char *name = slice_copy(stream), *word = strstr(name, "}:dead:");
    if (word != NULL) memcpy(word + 2, "lane", 4);
    Slice lane_name = {name, stream.len};
    registry_add_retired(ctx, lane_name);
    Deployment *deployment = NULL;
    Lane *lane = shard_find_lane(lane_name, &deployment);
    if (lane != NULL) {
        lane_refresh(ctx, lane);
        /* Its checkpoint belongs to a worker of the epoch in which it was written last: ours must be above. */
        uint64_t seen = lane_last_epoch(ctx, lane);
        if (seen >= shard.epoch) registry_raise_epoch(seen + 1);
        /* It left when all writes of clients in it were done: none is to be done again here. */
        if (lane->retired) lane->applied_epoch = EPOCH_BELIEVED;
        /* At once: after a crash only the registry tells that this lane is to be emptied here. */
        registry_write(ctx, true);
    } else if (strstr(name, "}:lane:") != NULL) {
        RedisModule_Log(ctx, "warning", "the lane %s came here, but its deployment is not on this shard; deploy it",
                        name);
    }
    RedisModule_Free(name);
}

/* Wheels go to the new tag by value: no command of a cluster takes keys of two slots. */
static void move_wheels(RedisModuleCtx *ctx, const char *tag, const char *deployment) {
    RedisModuleString *from = registry_wheels(tag, deployment);
    RedisModuleString *to = registry_wheels(shard.tag, deployment);
    RedisModuleCallReply *dumped = RedisModule_Call(ctx, "DUMP", "s", from);
    if (dumped != NULL && RedisModule_CallReplyType(dumped) == REDISMODULE_REPLY_STRING) {
        size_t length;
        const char *bytes = RedisModule_CallReplyStringPtr(dumped, &length);
        RedisModuleCallReply *reply = RedisModule_Call(ctx, "RESTORE", "!scb", to, "0", bytes, length);
        if (reply != NULL) RedisModule_FreeCallReply(reply);
        registry_delete_key(ctx, from);
    }
    if (dumped != NULL) RedisModule_FreeCallReply(dumped);
    RedisModule_FreeString(NULL, from);
    RedisModule_FreeString(NULL, to);
}

void registry_leave_tag(RedisModuleCtx *ctx, const char *tag) {
    registry_write(ctx, true);
    RedisModuleString *old = RedisModule_CreateStringPrintf(NULL, "gearsync:{%s}:registry", tag);
    RedisModule_SelectDb(ctx, 0);
    shard.writing_registry = true;
    for (int i = 0; i < shard.count; i++) move_wheels(ctx, tag, shard.deployments[i]->name);
    registry_delete_key(ctx, old);
    shard.writing_registry = false;
    RedisModule_FreeString(NULL, old);
}

void registry_forget_strays(void) {
    while (stray_count > 0) RedisModule_FreeString(NULL, strays[--stray_count]);
}
