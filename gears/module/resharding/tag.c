/* Our tag goes from a slot that leaves to another one: its lanes become retired, and the registry goes along. Commands
 * that move slots are seen here before they run. */
#define _GNU_SOURCE
#include "parts.h"
#include "resharding.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cluster/cluster.h"
#include "lanes/append.h"
#include "lanes/backlog.h"
#include "lanes/lanes.h"
#include "listeners.h"
#include "registry/registry.h"

static bool timer_set;
static bool promoted; /* just now */

bool resharding_is_pending(void) { return timer_set; }

/* Of what SQL has of lanes of these names from before, when the tag was ours for the last time, nothing is to be done
 * again. A lane that has come back since goes on. */
static void add_lanes(Deployment *deployment, Lane **before, int count) {
    for (int i = 0; i < deployment->ntargets; i++)
        for (int j = 0; j < deployment->nlanes; j++) {
            Lane *lane = lane_for(shard.source, deployment->name, deployment->targets[i], j, deployment->nlanes);
            lane->applied_epoch = shard.epoch;
            for (int k = 0; k < count; k++) {
                if (before[k] == NULL || !strings_equal(lane->stream, before[k]->stream)) continue;
                lane_free(lane);
                lane = before[k];
                before[k] = NULL;
                lane->retired = false;
                if (lane->applied_epoch == EPOCH_BELIEVED) lane->applied_epoch = shard.epoch;
                break;
            }
            deployment_add_lane(deployment, lane);
        }
}

static void renew_lanes(RedisModuleCtx *ctx, Deployment *deployment) {
    Lane **before = deployment->lanes;
    int count = deployment->lane_count;
    deployment->lanes = NULL;
    deployment->lane_count = 0;
    add_lanes(deployment, before, count);
    for (int j = 0; j < count; j++) {
        if (before[j] == NULL) continue;
        if (before[j]->length > 0) append_lane_marks(ctx, deployment, before[j]);
        before[j]->retired = true;
        deployment_add_lane(deployment, before[j]);
    }
    if (before != NULL) RedisModule_Free(before);
}

static bool has_changes(RedisModuleCtx *ctx) {
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++) {
            lane_refresh(ctx, shard.deployments[i]->lanes[j]);
            if (shard.deployments[i]->lanes[j]->length > 0) return true;
        }
    return false;
}

/* The last slot has gone, and all that waited with it: no lane can be named until there is a slot again. */
static void leave_home(RedisModuleCtx *ctx) {
    if (shard.tag[0] == '\0' || has_changes(ctx)) return;
    RedisModule_Log(ctx, "notice", "this shard has no slot any more; its deployments wait for one");
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        for (int j = 0; j < deployment->lane_count; j++) lane_free(deployment->lanes[j]);
        deployment->lane_count = 0;
        backlog_update(deployment);
    }
    shard.tag[0] = '\0';
    listeners.went_on();
}

/* Moves to another tag: the lanes of the old one become retired, wherever the cluster takes them. */
static void change_tag(RedisModuleCtx *ctx) {
    char old[sizeof(shard.tag)];
    memcpy(old, shard.tag, sizeof(old));
    bool was_open = cluster_home_is_open();
    TagChoice choice = cluster_choose_tag(ctx);
    /* The registry may have left with a slot that stays after all. */
    if (was_open && !cluster_home_is_open()) shard.registry_dirty = true;
    shard.tag_lost = choice == TAG_UNKNOWN;
    if (choice == TAG_NONE) leave_home(ctx);
    if (choice != TAG_FOUND || strcmp(old, shard.tag) == 0) return;
    RedisModule_Log(ctx, "notice", "the slot of tag %s is not this shard's: lanes go on under tag %s", old, shard.tag);
    registry_raise_epoch(shard.epoch + 1);
    for (int i = 0; i < shard.count; i++) renew_lanes(ctx, shard.deployments[i]);
    if (old[0] != '\0')
        registry_leave_tag(ctx, old);
    else
        registry_write(ctx, true);
}

bool tag_settle(RedisModuleCtx *ctx) {
    if (shard.tag[0] == '\0' && shard.cluster && shard.count > 0) change_tag(ctx);
    return shard.tag[0] != '\0';
}

/* A failover gives the slots of its shard to a replica in the moment in which it is promoted. One that has none then
 * was taken out of its cluster (CLUSTER RESET), and its shard lives on: under one source, each of the two would take
 * the other's lanes for its own. */
static void leave_shard(RedisModuleCtx *ctx) {
    promoted = false;
    if (shard.source[0] == '\0' || cluster_has_slot(ctx)) return;
    leave_home(ctx);
    if (shard.tag[0] == '\0') registry_draw_source();
}

static void on_timer(RedisModuleCtx *ctx, void *data) {
    (void)data;
    timer_set = false;
    if (promoted) leave_shard(ctx);
    /* If not now, then at the next tick. */
    if (shard_may_write() && shard.tag_lost) change_tag(ctx);
    if (shard_may_write()) slots_put_marks(ctx);
}

/* After the command in hand, and before its client can know that it is done. */
static void set_timer(void) {
    if (!timer_set) RedisModule_CreateTimer(shard.detached, 0, on_timer, NULL);
    timer_set = true;
}

void resharding_see_promotion(void) {
    promoted = shard.cluster;
    if (promoted) set_timer();
}

static bool is_home(unsigned slot) { return shard.tag[0] != '\0' && cluster_slot_of(shard.tag) == slot; }

static void slot_leaves(unsigned slot) {
    if (!is_home(slot)) return;
    shard.tag_lost = true;
    /* Before the keys of the slot go, so that the marks go with the lanes. */
    set_timer();
}

void tag_check(RedisModuleCtx *ctx) {
    static long long last_check;
    if (!shard.cluster || !shard.primary || shard.count == 0) return;
    if (slots_are_due()) slots_put_marks(ctx);
    long long now = RedisModule_Milliseconds();
    if (!shard.tag_lost && now - last_check < 1000) return;
    last_check = now;
    change_tag(ctx);
}

/* -- Commands that move slots -------------------------------------------------------------------------------------- */

static Slice argument(RedisModuleCommandFilterCtx *filter, int at) {
    return string_slice(RedisModule_CommandFilterArgGet(filter, at));
}

bool tag_is_of(Slice key) {
    char prefix[sizeof(KEY_PREFIX) + sizeof(shard.tag) + 1];
    int len = snprintf(prefix, sizeof(prefix), KEY_PREFIX "%s}", shard.tag);
    return key.len > (size_t)len && memcmp(key.bytes, prefix, (size_t)len) == 0;
}

/* At most so many keys of our own there are. */
int tag_most_keys(void) {
    int count = 1;
    for (int i = 0; i < shard.count; i++) count += 1 + 2 * shard.deployments[i]->lane_count;
    return count;
}

/* Who asks for the keys of our last slot, to move them, gets so many that others are among them, if there are any. */
static void ask_for_more(RedisModuleCommandFilterCtx *filter, unsigned slot) {
    long long count;
    if (!cluster_home_leaves() || !is_home(slot)) return;
    if (RedisModule_StringToLongLong(RedisModule_CommandFilterArgGet(filter, 3), &count) != REDISMODULE_OK) return;
    if (count <= 0 || count > INT_MAX) return;
    RedisModule_CommandFilterArgReplace(filter, 3,
                                        RedisModule_CreateStringPrintf(NULL, "%lld", count + tag_most_keys()));
}

void resharding_see_cluster(RedisModuleCommandFilterCtx *filter, int argc, SlotRefusal refusal_of) {
    long long slot;
    if (argc < 4 || !shard.primary) return;
    if (RedisModule_StringToLongLong(RedisModule_CommandFilterArgGet(filter, 2), &slot) != REDISMODULE_OK) return;
    if (slot < 0 || slot >= CLUSTER_SLOTS) return;
    if (slice_is(argument(filter, 1), "setslot")) {
        Slice what = argument(filter, 3), node = {"", 0};
        if (argc > 4) node = argument(filter, 4);
        const char *refusal = refusal_of((unsigned)slot, what, node);
        if (refusal != NULL) {
            RedisModule_CommandFilterArgReplace(filter, 0, RedisModule_CreateString(NULL, refusal, strlen(refusal)));
            return;
        }
        if (slice_is(what, "migrating")) slot_leaves((unsigned)slot);
        if (slots_see_command((unsigned)slot, what, node)) set_timer();
    } else if (slice_is(argument(filter, 1), "getkeysinslot")) {
        ask_for_more(filter, (unsigned)slot);
        if (slots_see_question((unsigned)slot)) set_timer();
    }
}

/* The lanes go last: a change that is captured after them would make a lane of the same name, and that would take the
 * place of the first one over there. So a MIGRATE of our last slot takes no lane as long as it has other keys to
 * take. */
void resharding_see_migrate(RedisModuleCommandFilterCtx *filter, int argc) {
    int first = 5, own = 0;
    if (!cluster_home_leaves() || argc < 7) return;
    while (first < argc && !slice_is(argument(filter, first), "keys")) first++;
    first++;
    for (int i = first; i < argc; i++) own += tag_is_of(argument(filter, i));
    if (own == 0 || own == argc - first) return;
    for (int i = argc - 1; i >= first; i--)
        if (tag_is_of(argument(filter, i))) RedisModule_CommandFilterArgDelete(filter, i);
}
