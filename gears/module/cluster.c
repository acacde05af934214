/* Which slots are ours: lanes and the registry live under one hash tag whose slot this shard owns. */
#include "gearsync.h"

#include <stdio.h>
#include <string.h>

#define SLOTS 16384

static int leaving_slot = -1;

static bool reply_is(RedisModuleCallReply *reply, const char *text) {
    if (reply == NULL || RedisModule_CallReplyType(reply) != REDISMODULE_REPLY_STRING) return false;
    size_t len;
    const char *bytes = RedisModule_CallReplyStringPtr(reply, &len);
    return len >= 40 && memcmp(bytes, text, 40) == 0;
}

/* Marks the slots of which this node is the primary. One range is [start, end, [ip, port, id, …], replicas…]. */
static bool read_slots(RedisModuleCtx *ctx, bool owned[SLOTS]) {
    const char *me = RedisModule_GetMyClusterID();
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "CLUSTER", "c", "SLOTS");
    bool sound = me != NULL && reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ARRAY;
    memset(owned, 0, SLOTS * sizeof(bool));
    for (size_t i = 0; sound && i < RedisModule_CallReplyLength(reply); i++) {
        RedisModuleCallReply *range = RedisModule_CallReplyArrayElement(reply, i);
        RedisModuleCallReply *node = RedisModule_CallReplyArrayElement(range, 2);
        if (!reply_is(RedisModule_CallReplyArrayElement(node, 2), me)) continue;
        long long start = RedisModule_CallReplyInteger(RedisModule_CallReplyArrayElement(range, 0));
        long long end = RedisModule_CallReplyInteger(RedisModule_CallReplyArrayElement(range, 1));
        for (long long slot = start; slot <= end && slot < SLOTS; slot++) owned[slot] = true;
    }
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return sound;
}

static unsigned slot_of_tag(const char *tag) { return key_slot((Slice){tag, strlen(tag)}); }

bool cluster_choose_tag(RedisModuleCtx *ctx) {
    bool owned[SLOTS];
    if (!shard.cluster) {
        snprintf(shard.tag, sizeof(shard.tag), "0");
        return true;
    }
    if (!read_slots(ctx, owned)) return false;
    for (int i = 0; i < 65536; i++) {
        char tag[sizeof(shard.tag)];
        snprintf(tag, sizeof(tag), "%d", i);
        if (!owned[slot_of_tag(tag)] || (int)slot_of_tag(tag) == leaving_slot) continue;
        memcpy(shard.tag, tag, sizeof(tag));
        return true;
    }
    return false;
}

void cluster_slot_leaves(unsigned slot) {
    if (shard.tag[0] == '\0' || slot_of_tag(shard.tag) != slot) return;
    leaving_slot = (int)slot;
    shard.tag_lost = true;
}

/* Moves to another tag: the lanes of the old one become retired, wherever the cluster takes them. */
static void change_tag(RedisModuleCtx *ctx) {
    char old[sizeof(shard.tag)];
    memcpy(old, shard.tag, sizeof(old));
    if (!cluster_choose_tag(ctx) || strcmp(old, shard.tag) == 0) return;
    RedisModule_Log(ctx, "notice", "the slot of tag %s leaves this shard: lanes go on under tag %s", old, shard.tag);
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        Lane **before = deployment->lanes;
        int count = deployment->lane_count;
        deployment->lanes = NULL;
        deployment->lane_count = 0;
        for (int t = 0; t < deployment->ntargets; t++)
            for (int j = 0; j < deployment->nlanes; j++)
                deployment_add_lane(deployment, lane_for(shard.source, deployment->name, deployment->targets[t], j,
                                                         deployment->nlanes));
        for (int j = 0; j < count; j++) {
            before[j]->retired = true;
            deployment_add_lane(deployment, before[j]);
        }
        RedisModule_Free(before);
    }
    shard.tag_lost = false;
    shard.registry_dirty = true;
}

void cluster_check_tag(RedisModuleCtx *ctx) {
    static long long last_check;
    bool owned[SLOTS];
    if (!shard.cluster || shard.tag[0] == '\0' || !shard.primary || shard.count == 0) return;
    long long now = RedisModule_Milliseconds();
    if (!shard.tag_lost && now - last_check < 1000) return;
    last_check = now;
    if (!shard.tag_lost && read_slots(ctx, owned) && !owned[slot_of_tag(shard.tag)]) shard.tag_lost = true;
    if (shard.tag_lost) change_tag(ctx);
}
