/* What the module says of itself: GEARSYNC.STATUS (one JSON document) and INFO gearsync. */
#include "gearsync.h"
#include "main.h"

#include <stdio.h>
#include <string.h>

#include "lanes/lanes.h"
#include "pauses/hold.h"
#include "pauses/pause.h"
#include "reads/reads.h"
#include "registry/registry.h"
#include "through/through.h"
#include "waits/barrier.h"
#include "workers/workers.h"

static void add_id(Text *out, const char *name, RedisModuleStreamID id) {
    text_printf(out, "\"%s\": \"%llu-%llu\"", name, (unsigned long long)id.ms, (unsigned long long)id.seq);
}

static void add_string(Text *out, const char *name, Slice value) {
    text_printf(out, "\"%s\": ", name);
    text_json(out, value.bytes, value.len);
}

static Slice c_slice(const char *text) { return (Slice){text != NULL ? text : "", text != NULL ? strlen(text) : 0}; }

static void add_lane(RedisModuleCtx *ctx, Text *out, const Deployment *deployment, Lane *lane) {
    text_printf(out, "          {");
    add_string(out, "stream", string_slice(lane->stream));
    text_printf(out, ", ");
    add_string(out, "dead_stream", string_slice(lane->dead_stream));
    text_printf(out,
                ", \"status\": \"%s\", \"length\": %zu, \"bytes\": %llu, \"oldest_ms\": %lld, "
                "\"dead_letters\": %zu, ",
                lane->function != NULL ? hold_state(deployment, lane)
                : lane->retired        ? "retired"
                                       : "current",
                lane->length, (unsigned long long)lane->bytes, lane_oldest_ms(ctx, lane), lane_dead_letters(ctx, lane));
    add_id(out, "last_id", lane->last);
    text_printf(out, ", ");
    add_id(out, "acked_id", lane->acked);
    text_printf(out, "}");
}

static void add_target(RedisModuleCtx *ctx, Text *out, Deployment *deployment, const char *target) {
    size_t dead = 0;
    for (int i = 0; i < deployment->lane_count; i++)
        if (strcmp(deployment->lanes[i]->target, target) == 0) dead += lane_dead_letters(ctx, deployment->lanes[i]);
    text_printf(out, "        {\"name\": \"%s\", ", target);
    for (int i = 0; i < deployment->ntargets; i++)
        if (strcmp(deployment->targets[i], target) == 0)
            text_printf(out, "\"captured\": %lld, ", deployment->captured_of[i]);
    text_printf(out, "\"dead_letters\": %zu, ", dead);
    for (int i = 0; i < deployment->ntargets; i++) {
        if (strcmp(deployment->targets[i], target) != 0 || deployment->target_pauses[i].since_ms == 0) continue;
        pause_status(out, &deployment->target_pauses[i]);
        text_printf(out, ", ");
    }
    text_printf(out, "\"lanes\": [\n");
    bool first = true;
    for (int i = 0; i < deployment->lane_count; i++) {
        if (strcmp(deployment->lanes[i]->target, target) != 0) continue;
        if (!first) text_printf(out, ",\n");
        first = false;
        add_lane(ctx, out, deployment, deployment->lanes[i]);
    }
    text_printf(out, "\n        ]}");
}

static bool is_target_of_version(const Deployment *deployment, const char *target) {
    for (int i = 0; i < deployment->ntargets; i++)
        if (strcmp(deployment->targets[i], target) == 0) return true;
    return false;
}

static void add_targets(RedisModuleCtx *ctx, Text *out, Deployment *deployment) {
    for (int i = 0; i < deployment->ntargets; i++) {
        if (i > 0) text_printf(out, ",\n");
        add_target(ctx, out, deployment, deployment->targets[i]);
    }
    /* A target that an upgrade left out stays visible as long as it has lanes. */
    for (int i = 0; i < deployment->lane_count; i++) {
        const char *target = deployment->lanes[i]->target;
        bool shown = is_target_of_version(deployment, target);
        for (int j = 0; j < i; j++) shown = shown || strcmp(deployment->lanes[j]->target, target) == 0;
        if (shown) continue;
        text_printf(out, ",\n");
        add_target(ctx, out, deployment, target);
    }
}

static void backlog_of(const Deployment *deployment, unsigned long long *entries, unsigned long long *bytes) {
    *entries = *bytes = 0;
    for (int i = 0; i < deployment->lane_count; i++) {
        *entries += deployment->lanes[i]->length;
        *bytes += deployment->lanes[i]->bytes;
    }
}

static void add_worker(Text *out, const Deployment *deployment) {
    const Worker *worker = &deployment->worker;
    long long age = worker->heartbeat_ms > 0 ? workers_clock_ms() - worker->heartbeat_ms : -1;
    bool external = deployment->external_worker || !shard.supervise;
    text_printf(out, "      \"worker\": {\"mode\": \"%s\", \"pid\": %d, \"state\": \"%s\", \"restarts\": %lld, ",
                external ? "external" : "supervised", (int)worker->pid, worker_state_name(worker->state),
                worker->restarts > 0 ? worker->restarts - 1 : 0);
    add_string(out, "last_exit", c_slice(worker->last_exit));
    text_printf(out, ", \"heartbeat_age_ms\": %lld, \"report\": %s},\n", age,
                worker->report != NULL ? worker->report : "null");
}

static void add_reads(Text *out, const Deployment *deployment) {
    text_printf(out,
                "      \"reads\": {\"misses\": %lld, \"loaded\": %lld, \"missing\": %lld, \"waiting\": %zu, "
                "\"failed\": %lld},\n",
                deployment->read_counts.misses, deployment->read_counts.loaded, deployment->read_counts.missing,
                misses_waiting(deployment), deployment->read_counts.failed);
}

static void add_functions(Text *out, const Deployment *deployment) {
    text_printf(out, "      \"functions\": [");
    bool first = true;
    for (int i = 0; i < deployment->nrules; i++) {
        const Rule *rule = &deployment->rules[i];
        if (rule->name == NULL) continue;
        text_printf(out, "%s{", first ? "" : ", ");
        add_string(out, "name", c_slice(rule->name));
        text_printf(out, ", \"target\": \"%s\", \"captured\": %lld", deployment->targets[rule->target], rule->captured);
        hold_status(out, deployment, rule->name);
        text_printf(out, "}");
        first = false;
    }
    text_printf(out, "],\n");
}

static void add_through(Text *out, const Deployment *deployment) {
    bool any = false;
    for (int i = 0; i < deployment->nrules; i++) any = any || deployment->rules[i].timeout_ms > 0;
    if (!any) return;
    text_printf(out,
                "      \"through\": {\"waiting\": %d, \"committed\": %lld, \"refused\": %lld, \"timed_out\": %lld},\n",
                through_waiting(deployment), deployment->through.committed, deployment->through.refused,
                deployment->through.timed_out);
}

static void add_deployment(RedisModuleCtx *ctx, Text *out, Deployment *deployment) {
    unsigned long long entries, bytes;
    backlog_of(deployment, &entries, &bytes);
    text_printf(out, "    {\"name\": \"%s\", \"version\": %lld, \"state\": \"%s\",\n", deployment->name,
                deployment->version,
                deployment->draining              ? "draining"
                : deployment->paused.since_ms > 0 ? "paused"
                                                  : "active");
    if (deployment->paused.since_ms > 0) {
        text_printf(out, "      ");
        pause_status(out, &deployment->paused);
        text_printf(out, ",\n");
    }
    text_printf(out, "      \"captured\": %lld, \"failed\": %lld, \"missed\": %lld, ", deployment->captured,
                deployment->failed, deployment->missed);
    add_string(out, "missed_key", (Slice){deployment->missed_key, deployment->missed_key_len});
    text_printf(out, ", \"refused_writes\": %lld,\n", deployment->refused_writes);
    text_printf(
        out,
        "      \"backlog\": {\"entries\": %llu, \"bytes\": %llu, \"limit_entries\": %llu, \"limit_bytes\": %llu, "
        "\"on_full\": \"%s\", \"full\": %s},\n",
        entries, bytes, deployment->limit_entries, deployment->limit_bytes,
        deployment->refuse_when_full ? "refuse" : "grow", deployment->full ? "true" : "false");
    if (deployment->nholds > 0) text_printf(out, "      \"holds\": %lld,\n", deployment->hold_number);
    add_functions(out, deployment);
    if (deployment->nreads > 0) add_reads(out, deployment);
    add_through(out, deployment);
    add_worker(out, deployment);
    text_printf(out, "      \"targets\": [\n");
    add_targets(ctx, out, deployment);
    text_printf(out, "\n      ]}");
}

int status_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    registry_refresh(ctx);
    Text out = {0};
    int version = shard.server_version;
    text_printf(&out, "{\"module\": \"%s\", \"server\": \"%d.%d.%d\", \"role\": \"%s\", ", GEARSYNC_VERSION_TEXT,
                (version >> 16) & 0xff, (version >> 8) & 0xff, version & 0xff, shard.primary ? "primary" : "replica");
    text_printf(
        &out,
        "\"source\": \"%s\", \"epoch\": %llu, \"life\": \"%s\", \"tag\": \"%s\", \"jobs\": %s, \"barriers\": %d, "
        "\"came\": %lld,\n",
        shard.source, (unsigned long long)shard.epoch, shard.life, shard.tag, shard.has_jobs ? "true" : "false",
        barrier_waiting(), shard.came);
    text_printf(&out, "  \"deployments\": [\n");
    for (int i = 0; i < shard.count; i++) {
        if (i > 0) text_printf(&out, ",\n");
        add_deployment(ctx, &out, shard.deployments[i]);
    }
    text_printf(&out, "\n  ]}\n");
    RedisModule_ReplyWithStringBuffer(ctx, out.bytes, out.len);
    text_free(&out);
    return REDISMODULE_OK;
}

void status_info(RedisModuleInfoCtx *ctx, int for_crash_report) {
    if (!for_crash_report) registry_refresh(shard.detached);
    RedisModule_InfoAddSection(ctx, "");
    RedisModule_InfoAddFieldCString(ctx, "version", GEARSYNC_VERSION_TEXT);
    RedisModule_InfoAddFieldCString(ctx, "role", shard.primary ? "primary" : "replica");
    RedisModule_InfoAddFieldCString(ctx, "source", shard.source);
    RedisModule_InfoAddFieldULongLong(ctx, "epoch", shard.epoch);
    RedisModule_InfoAddFieldLongLong(ctx, "deployments", shard.count);
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        unsigned long long entries, bytes;
        char name[NAME_MAX_BYTES + 32];
        backlog_of(deployment, &entries, &bytes);
        const char *const fields[] = {"backlog_entries", "backlog_bytes", "captured", "refused_writes"};
        unsigned long long values[] = {entries, bytes, (unsigned long long)deployment->captured,
                                       (unsigned long long)deployment->refused_writes};
        for (size_t f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
            snprintf(name, sizeof(name), "%s_%s", deployment->name, fields[f]);
            RedisModule_InfoAddFieldULongLong(ctx, name, values[f]);
        }
        snprintf(name, sizeof(name), "%s_paused", deployment->name);
        RedisModule_InfoAddFieldULongLong(ctx, name, deployment->paused.since_ms > 0);
        snprintf(name, sizeof(name), "%s_worker", deployment->name);
        RedisModule_InfoAddFieldCString(ctx, name, worker_state_name(deployment->worker.state));
    }
}
