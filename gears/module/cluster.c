/* Which slots are ours: lanes and the registry live under one hash tag whose slot this shard owns. */
#define _GNU_SOURCE
#include "gearsync.h"

#include <stdio.h>
#include <string.h>

#define SLOTS 16384

static int leaving_slot = -1;
static bool timer_set;

bool cluster_is_pending(void) { return timer_set; }

static char *ask_cluster(RedisModuleCtx *ctx, const char *what) {
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "CLUSTER", "c", what);
    Slice text = {"", 0};
    if (reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_STRING)
        text.bytes = RedisModule_CallReplyStringPtr(reply, &text.len);
    char *copy = slice_copy(text);
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return copy;
}

/* Not CLUSTER SLOTS: Valkey 8.0 makes its answer for the client's connection, and a module's call has none. */
char *cluster_nodes(RedisModuleCtx *ctx) { return ask_cluster(ctx, "NODES"); }

bool cluster_is_ok(RedisModuleCtx *ctx) {
    if (!shard.cluster) return true;
    char *info = ask_cluster(ctx, "INFO");
    bool ok = strstr(info, "cluster_state:ok") != NULL;
    RedisModule_Free(info);
    return ok;
}

/* The slots at the end of this node's own line, after eight other fields: "0-5460 7000 [93->-<node>]". */
static void mark_slots(char *fields, bool owned[SLOTS]) {
    char *rest = NULL;
    int at = 0;
    for (char *field = strtok_r(fields, " ", &rest); field != NULL; field = strtok_r(NULL, " ", &rest)) {
        int first, last;
        if (at++ < 8 || field[0] == '[') continue;
        int found = sscanf(field, "%d-%d", &first, &last);
        if (found == 1) last = first;
        for (int slot = first; found >= 1 && slot <= last && slot >= 0 && slot < SLOTS; slot++) owned[slot] = true;
    }
}

/* Marks the slots of which this node is the primary; false: the cluster does not tell. */
static bool read_slots(RedisModuleCtx *ctx, bool owned[SLOTS]) {
    char *nodes = cluster_nodes(ctx), *rest = NULL;
    bool found = false;
    memset(owned, 0, SLOTS * sizeof(bool));
    for (char *line = strtok_r(nodes, "\n", &rest); line != NULL && !found; line = strtok_r(NULL, "\n", &rest)) {
        if (strstr(line, "myself") == NULL) continue;
        found = true;
        mark_slots(line, owned);
    }
    RedisModule_Free(nodes);
    return found;
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

/* What waits in an old lane must be in SQL before what the new one takes, whoever has the old one by then. */
static void mark_lanes(RedisModuleCtx *ctx, Deployment *deployment, Lane *old) {
    for (int i = 0; i < deployment->lane_count; i++) {
        Lane *lane = deployment->lanes[i];
        /* A lane of an older version may hold any key. */
        bool follows = !lane->retired && strcmp(lane->target, old->target) == 0 &&
                       (old->count != lane->count || old->index == lane->index);
        if (!follows) continue;
        Slice name = string_slice(old->stream);
        RedisModuleString *key =
            RedisModule_CreateStringPrintf(NULL, "%.*s %d", (int)name.len, name.bytes, lane->index);
        capture_mark(ctx, deployment, old, key, 'm', RedisModule_GetMyClusterID());
        capture_mark(ctx, deployment, lane, key, 'i', RedisModule_GetMyClusterID());
        RedisModule_FreeString(NULL, key);
    }
}

static void renew_lanes(RedisModuleCtx *ctx, Deployment *deployment) {
    Lane **before = deployment->lanes;
    int count = deployment->lane_count;
    deployment->lanes = NULL;
    deployment->lane_count = 0;
    for (int t = 0; t < deployment->ntargets; t++)
        for (int j = 0; j < deployment->nlanes; j++)
            deployment_add_lane(
                deployment, lane_for(shard.source, deployment->name, deployment->targets[t], j, deployment->nlanes));
    for (int j = 0; j < count; j++) {
        if (before[j]->length > 0) mark_lanes(ctx, deployment, before[j]);
        before[j]->retired = true;
        deployment_add_lane(deployment, before[j]);
    }
    RedisModule_Free(before);
}

/* Moves to another tag: the lanes of the old one become retired, wherever the cluster takes them. */
static void change_tag(RedisModuleCtx *ctx) {
    char old[sizeof(shard.tag)];
    memcpy(old, shard.tag, sizeof(old));
    if (!cluster_choose_tag(ctx) || strcmp(old, shard.tag) == 0) return;
    RedisModule_Log(ctx, "notice", "the slot of tag %s leaves this shard: lanes go on under tag %s", old, shard.tag);
    for (int i = 0; i < shard.count; i++) renew_lanes(ctx, shard.deployments[i]);
    shard.tag_lost = false;
    registry_leave_tag(ctx, old);
}

static void on_timer(RedisModuleCtx *ctx, void *data) {
    (void)data;
    timer_set = false;
    /* If not now, then at the next tick. */
    if (shard_may_write() && shard.tag_lost) change_tag(ctx);
}

void cluster_slot_leaves(unsigned slot) {
    if (shard.tag[0] == '\0' || slot_of_tag(shard.tag) != slot) return;
    leaving_slot = (int)slot;
    shard.tag_lost = true;
    /* Before the keys of the slot go, so that the marks go with the lanes. */
    if (!timer_set) RedisModule_CreateTimer(shard.detached, 0, on_timer, NULL);
    timer_set = true;
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
