/* The registry: which deployments this shard has, its source and epoch, as they are in memory. */
#include "registry.h"
#include "parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "changes/image.h"
#include "clients/inner.h"
#include "cluster/cluster.h"
#include "lanes/append.h"
#include "lanes/backlog.h"
#include "lanes/lanes.h"
#include "lanes/waiting.h"
#include "listeners.h"
#include "pauses/hold.h"
#include "pauses/pause.h"
#include "workers/workers.h"

bool registry_is_key(Slice key) {
    static const char end[] = "}:registry";
    size_t len = sizeof(end) - 1;
    return key.len > len && memcmp(key.bytes + key.len - len, end, len) == 0;
}

/* -- The index of rules that capture looks through ------------------------------------------------------------- */

static void rebuild_reads(void) {
    int total = 0;
    for (int i = 0; i < shard.count; i++) total += shard.deployments[i]->nreads;
    shard.reads = RedisModule_Realloc(shard.reads, sizeof(ReadRule *) * (size_t)(total + 1));
    shard.nreads = 0;
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->nreads && !shard.deployments[i]->draining; j++)
            shard.reads[shard.nreads++] = &shard.deployments[i]->reads[j];
    if (shard.nreads > 0) waiting_watch();
    inner_forget();
    listeners.rules_changed();
}

void registry_index(void) {
    int total = 0;
    for (int i = 0; i < shard.count; i++) total += shard.deployments[i]->nrules;
    shard.rules = RedisModule_Realloc(shard.rules, sizeof(Rule *) * (size_t)(total + 1));
    shard.nrules = 0;
    shard.operations = shard.through = shard.whole = false;
    shard.kinds = 0;
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        if (deployment->draining) continue;
        shard.whole = shard.whole || deployment->whole;
        for (int j = 0; j < deployment->nrules; j++) {
            shard.rules[shard.nrules++] = &deployment->rules[j];
            shard.kinds |= 1u << deployment->rules[j].kind;
            shard.through = shard.through || deployment->rules[j].timeout_ms > 0;
            shard.operations = shard.operations || (shard.has_jobs && deployment->rules[j].operations);
        }
    }
    backlog_recount();
    rebuild_reads();
}

void registry_put(Deployment *deployment) {
    shard.deployments = RedisModule_Realloc(shard.deployments, sizeof(Deployment *) * (size_t)(shard.count + 1));
    shard.deployments[shard.count++] = deployment;
}

static void take_out(Deployment *deployment) {
    int kept = 0;
    for (int i = 0; i < shard.count; i++)
        if (shard.deployments[i] != deployment) shard.deployments[kept++] = shard.deployments[i];
    shard.count = kept;
}

/* -- Lanes of a deployment --------------------------------------------------------------------------------------- */

/* Takes the lane of that name out of old, if it has it. */
static Lane *take_lane(Deployment *old, Lane *like) {
    for (int i = 0; old != NULL && i < old->lane_count; i++) {
        if (!strings_equal(old->lanes[i]->stream, like->stream)) continue;
        Lane *found = old->lanes[i];
        old->lanes[i] = old->lanes[--old->lane_count];
        return found;
    }
    return NULL;
}

/* Whether a lane was made that old has not. Of such a lane SQL can have records from when there was one of its name
 * before: they are of epochs before the one in which it begins, and none of its own. */
bool registry_give_lanes(RedisModuleCtx *ctx, Deployment *deployment, Deployment *old, uint64_t begins) {
    bool made = false;
    /* A node without a slot names its lanes when it gets one. */
    int ntargets = shard.tag[0] != '\0' ? deployment->ntargets : 0;
    for (int t = 0; t < ntargets; t++) {
        for (int i = 0; i < deployment->nlanes; i++) {
            Lane *lane = lane_for(shard.source, deployment->name, deployment->targets[t], i, deployment->nlanes);
            Lane *known = take_lane(old, lane);
            if (known != NULL) {
                lane_free(lane);
                lane = known;
                lane->retired = false;
            } else {
                lane_refresh(ctx, lane);
                lane->applied_epoch = begins;
                made = true;
            }
            deployment_add_lane(deployment, lane);
        }
    }
    for (int i = 0; old != NULL && i < old->lane_count; i++) {
        Lane *lane = old->lanes[i];
        bool needed = lane->holds || lane->length > 0 || lane_dead_letters(ctx, lane) > 0;
        lane->retired = true;
        if (needed)
            deployment_add_lane(deployment, lane);
        else
            lane_free(lane);
    }
    if (old != NULL) old->lane_count = 0;
    return made;
}

static void inherit_counts(Deployment *deployment, const Deployment *old) {
    for (int i = 0; i < deployment->ntargets; i++)
        for (int j = 0; j < old->ntargets; j++)
            if (strcmp(deployment->targets[i], old->targets[j]) == 0) deployment->captured_of[i] = old->captured_of[j];
    for (int i = 0; i < deployment->nrules; i++) {
        Rule *rule = &deployment->rules[i];
        for (int j = 0; j < old->nrules && rule->name != NULL; j++)
            if (old->rules[j].name != NULL && strcmp(rule->name, old->rules[j].name) == 0)
                rule->captured = old->rules[j].captured;
    }
}

/* What outlives an upgrade: the worker and the counters. */
void registry_inherit(Deployment *deployment, Deployment *old) {
    deployment->worker = old->worker;
    worker_init(&old->worker);
    worker_retry_now(&deployment->worker);
    deployment->captured = old->captured;
    inherit_counts(deployment, old);
    deployment->missed = old->missed;
    deployment->missed_key = old->missed_key;
    deployment->missed_key_len = old->missed_key_len;
    old->missed_key = NULL;
    deployment->refused_writes = old->refused_writes;
    deployment->through = old->through;
    deployment->failed = old->failed;
    deployment->read_counts = old->read_counts;
}

/* -- Deploy and undeploy ------------------------------------------------------------------------------------------ */

/* A target that an upgrade leaves out must have no change waiting: no later version could apply it. */
static char *check_dropped_targets(RedisModuleCtx *ctx, Deployment *deployment, Deployment *old) {
    for (int i = 0; i < old->lane_count; i++) {
        Lane *lane = old->lanes[i];
        bool kept = false;
        for (int t = 0; t < deployment->ntargets; t++) kept = kept || strcmp(lane->target, deployment->targets[t]) == 0;
        size_t dead = kept ? 0 : lane_dead_letters(ctx, lane);
        if (kept || lane->length + dead == 0) continue;
        Text error = {0};
        text_printf(
            &error,
            "version %lld of %s leaves out the target %s, which still has %zu changes waiting and %zu dead letters; "
            "wait until they are applied, or drop them",
            deployment->version, deployment->name, lane->target, lane->length, dead);
        return error.bytes;
    }
    return NULL;
}

static char *check_databases(RedisModuleCtx *ctx, const Deployment *deployment) {
    int before = RedisModule_GetSelectedDb(ctx), missing = -1;
    for (int i = 0; i < deployment->nrules && missing < 0; i++)
        if (RedisModule_SelectDb(ctx, deployment->rules[i].db) != REDISMODULE_OK) missing = deployment->rules[i].db;
    RedisModule_SelectDb(ctx, before);
    if (missing < 0) return NULL;
    Text error = {0};
    text_printf(&error, "a function is about database %d, which this server does not have", missing);
    return error.bytes;
}

/* Without post-notification jobs, all that an operation does would stand before its own write in the AOF. */
static char *check_operations(const Deployment *deployment) {
    static const char words[] =
        "operations need Redis 7.2 or newer, or Valkey: this server can't do them behind the "
        "write that asks for them";
    bool any = false;
    for (int i = 0; i < deployment->nrules; i++) any = any || deployment->rules[i].operations;
    return any && !shard.has_jobs ? slice_copy((Slice){words, sizeof(words) - 1}) : NULL;
}

void registry_draw_source(void) {
    RedisModule_GetRandomHexChars(shard.source, 12);
    shard.source[12] = '\0';
}

/* Where the marks of versions tell nothing: of a lane that a resharding has taken to another shard. */
static void mark_left_lanes(RedisModuleCtx *ctx, Deployment *deployment) {
    for (int i = 0; i < deployment->lane_count; i++) {
        Lane *lane = deployment->lanes[i];
        if (lane->retired && lane->length > 0) append_lane_marks(ctx, deployment, lane);
    }
}

char *registry_deploy(RedisModuleCtx *ctx, Slice *arguments, int count, bool check_only) {
    Deployment *deployment = NULL;
    char *error = deployment_parse(arguments, count, &deployment);
    if (error != NULL) return error;
    Deployment *old = shard_find((Slice){deployment->name, strlen(deployment->name)});
    error = check_operations(deployment);
    if (error == NULL) error = check_databases(ctx, deployment);
    if (error == NULL && old != NULL) error = check_dropped_targets(ctx, deployment, old);
    if (error == NULL && old != NULL) error = hold_check(deployment, old);
    if (error == NULL && old != NULL) error = pause_check(deployment, old);
    if (error == NULL && shard.tag[0] == '\0' && cluster_choose_tag(ctx) == TAG_UNKNOWN)
        error = slice_copy((Slice){"the cluster does not tell which slots this node has", 51});
    if (error != NULL || check_only) {
        deployment_free(deployment);
        return error;
    }
    if (shard.source[0] == '\0') registry_draw_source();
    if (shard.epoch == 0) {
        shard.epoch = 1;
        registry_begin_life();
    }
    if (old != NULL) {
        registry_inherit(deployment, old);
        pause_inherit(deployment, old);
        hold_inherit(deployment, old);
        earlier_keep(ctx, deployment, old);
        take_out(old);
    }
    /* A lane of that name that was emptied and dropped before has a checkpoint, which is ahead if the clock was set
     * back. */
    uint64_t begins = old != NULL ? shard.epoch + 1 : shard.epoch;
    bool made = registry_give_lanes(ctx, deployment, old, begins);
    bool leaves_lanes = shard.cluster && old != NULL && old->nlanes != deployment->nlanes;
    if (old != NULL && (made || leaves_lanes)) registry_raise_epoch(begins);
    registry_put(deployment);
    registry_index();
    backlog_update(deployment);
    if (leaves_lanes) mark_left_lanes(ctx, deployment);
    if (old != NULL) deployment_free(old);
    registry_write(ctx, true);
    RedisModule_Log(ctx, "notice", "deployment %s version %lld: %d functions, %d targets, %d lanes", deployment->name,
                    deployment->version, deployment->nrules, deployment->ntargets, deployment->nlanes);
    return NULL;
}

void registry_raise_epoch(uint64_t epoch) {
    shard.epoch = epoch;
    shard.registry_dirty = true;
    image_forget_metas();
}

void registry_note_flush(void) {
    registry_raise_epoch(shard.epoch + 1);
    shard.flushed = shard.epoch;
}

RedisModuleString *registry_wheels(const char *tag, const char *deployment) {
    return RedisModule_CreateStringPrintf(NULL, "gearsync:{%s}:wheels:%s", tag, deployment);
}

void registry_each_key(RedisModuleCtx *ctx, const Deployment *deployment,
                       void (*visit)(RedisModuleCtx *, RedisModuleString *)) {
    for (int i = 0; i < deployment->lane_count; i++) {
        visit(ctx, deployment->lanes[i]->stream);
        visit(ctx, deployment->lanes[i]->dead_stream);
    }
    RedisModuleString *wheels = registry_wheels(shard.tag, deployment->name);
    visit(ctx, wheels);
    RedisModule_FreeString(NULL, wheels);
}

/* Also where no command is taken on it, as in a cluster that is down: what waits in a lane that stays would be applied
 * after all, once there is a lane of its name again. */
static void delete_key(RedisModuleCtx *ctx, RedisModuleString *name) {
    if (registry_delete_key(ctx, name)) return;
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    if (key == NULL) return;
    RedisModule_DeleteKey(key);
    RedisModule_CloseKey(key);
    /* One that was renamed is not known by its name. */
    if (RedisModule_Replicate(ctx, "DEL", "s", name) != REDISMODULE_OK) RedisModule_Replicate(ctx, "UNLINK", "s", name);
}

static void remove_deployment(RedisModuleCtx *ctx, Deployment *deployment) {
    shard.writing_registry = true;
    registry_each_key(ctx, deployment, delete_key);
    shard.writing_registry = false;
    RedisModule_Log(ctx, "notice", "deployment %s is gone", deployment->name);
    take_out(deployment);
    registry_index();
    deployment_free(deployment);
    /* Lanes of its name may be made again, and SQL remembers how far the old ones were: ahead, if the clock is set
     * back. */
    registry_raise_epoch(shard.epoch + 1);
    registry_write(ctx, true);
    listeners.went_on();
}

void registry_undeploy(RedisModuleCtx *ctx, Deployment *deployment, bool discard) {
    deployment->draining = true;
    registry_index();
    backlog_update(deployment);
    if (discard) {
        size_t waiting = 0;
        for (int i = 0; i < deployment->lane_count; i++) waiting += deployment->lanes[i]->length;
        RedisModule_Log(ctx, "warning", "deployment %s is undeployed with DISCARD: %zu waiting changes are dropped",
                        deployment->name, waiting);
        remove_deployment(ctx, deployment);
        return;
    }
    RedisModule_Log(ctx, "notice", "deployment %s captures no more; it ends when its lanes are empty",
                    deployment->name);
    registry_write(ctx, true);
}

static bool is_drained(RedisModuleCtx *ctx, Deployment *deployment) {
    for (int i = 0; i < deployment->lane_count; i++)
        if (deployment->lanes[i]->length > 0 || lane_dead_letters(ctx, deployment->lanes[i]) > 0) return false;
    return true;
}

static void drop_empty_retired(RedisModuleCtx *ctx, Deployment *deployment) {
    int kept = 0;
    for (int i = 0; i < deployment->lane_count; i++) {
        Lane *lane = deployment->lanes[i];
        bool done = lane->length == 0 && !lane_is_behind(deployment, lane);
        if (lane->retired && !lane->holds && done && lane_dead_letters(ctx, lane) == 0) {
            shard.writing_registry = true;
            delete_key(ctx, lane->stream);
            shard.writing_registry = false;
            earlier_forget_lane(deployment, lane);
            lane_free(lane);
            shard.registry_dirty = true;
        } else {
            deployment->lanes[kept++] = lane;
        }
    }
    deployment->lane_count = kept;
}

void registry_finish_drained(RedisModuleCtx *ctx) {
    for (int i = shard.count - 1; i >= 0; i--) {
        Deployment *deployment = shard.deployments[i];
        drop_empty_retired(ctx, deployment);
        if (deployment->draining && is_drained(ctx, deployment)) remove_deployment(ctx, deployment);
    }
}

void registry_free(void) {
    registry_forget_strays();
    for (int i = 0; i < shard.count; i++) deployment_free(shard.deployments[i]);
    if (shard.deployments != NULL) RedisModule_Free(shard.deployments);
    if (shard.rules != NULL) RedisModule_Free(shard.rules);
    if (shard.reads != NULL) RedisModule_Free(shard.reads);
    shard.deployments = NULL;
    shard.rules = NULL;
    shard.reads = NULL;
    shard.count = shard.nrules = shard.nreads = 0;
    listeners.rules_changed();
}
