/* The registry: which deployments this shard has, its source and epoch. It lives in memory and in one hash of the
 * keyspace (docs/design.md, "Keys in Redis"), so that RDB, AOF and replication carry it. */
#include "gearsync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Shard shard;

static RedisModuleString *registry_key(void) {
    return RedisModule_CreateStringPrintf(NULL, "gearsync:{%s}:registry", shard.tag);
}

bool registry_is_key(Slice key) {
    static const char end[] = "}:registry";
    size_t len = sizeof(end) - 1;
    return key.len > len && memcmp(key.bytes + key.len - len, end, len) == 0;
}

Deployment *registry_find(Slice name) {
    for (int i = 0; i < shard.count; i++)
        if (strlen(shard.deployments[i]->name) == name.len &&
            memcmp(shard.deployments[i]->name, name.bytes, name.len) == 0)
            return shard.deployments[i];
    return NULL;
}

static Lane *find_lane(Deployment *deployment, Slice stream) {
    for (int i = 0; i < deployment->lane_count; i++) {
        Slice name = string_slice(deployment->lanes[i]->stream);
        if (name.len == stream.len && memcmp(name.bytes, stream.bytes, name.len) == 0) return deployment->lanes[i];
    }
    return NULL;
}

Lane *registry_find_lane(Slice stream, Deployment **owner) {
    for (int i = 0; i < shard.count; i++) {
        Lane *lane = find_lane(shard.deployments[i], stream);
        if (lane == NULL) continue;
        if (owner != NULL) *owner = shard.deployments[i];
        return lane;
    }
    return NULL;
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
    misses_rules_changed();
}

static void rebuild_rules(void) {
    int total = 0;
    for (int i = 0; i < shard.count; i++) total += shard.deployments[i]->nrules;
    shard.rules = RedisModule_Realloc(shard.rules, sizeof(Rule *) * (size_t)(total + 1));
    shard.nrules = 0;
    given_forget();
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

static void put(Deployment *deployment) {
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
        Slice a = string_slice(old->lanes[i]->stream), b = string_slice(like->stream);
        if (a.len != b.len || memcmp(a.bytes, b.bytes, a.len) != 0) continue;
        Lane *found = old->lanes[i];
        old->lanes[i] = old->lanes[--old->lane_count];
        return found;
    }
    return NULL;
}

/* Whether a lane was made that old has not. */
static bool give_lanes(RedisModuleCtx *ctx, Deployment *deployment, Deployment *old) {
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
static void inherit(Deployment *deployment, Deployment *old) {
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

static void ensure_source(void) {
    if (shard.source[0] != '\0') return;
    RedisModule_GetRandomHexChars(shard.source, 12);
    shard.source[12] = '\0';
}

char *registry_deploy(RedisModuleCtx *ctx, Slice *arguments, int count, bool check_only) {
    Deployment *deployment = NULL;
    char *error = deployment_parse(arguments, count, &deployment);
    if (error != NULL) return error;
    Deployment *old = registry_find((Slice){deployment->name, strlen(deployment->name)});
    error = check_operations(deployment);
    if (error == NULL) error = check_databases(ctx, deployment);
    if (error == NULL && old != NULL) error = check_dropped_targets(ctx, deployment, old);
    if (error == NULL && old != NULL) error = hold_check(deployment, old);
    if (error == NULL && shard.tag[0] == '\0' && !cluster_choose_tag(ctx))
        error = slice_copy((Slice){"the cluster does not tell which slots this node has", 51});
    if (error != NULL || check_only) {
        deployment_free(deployment);
        return error;
    }
    ensure_source();
    if (shard.epoch == 0) shard.epoch = 1;
    if (old != NULL) {
        inherit(deployment, old);
        pause_inherit(deployment, old);
        hold_inherit(deployment, old);
        earlier_keep(ctx, deployment, old);
        take_out(old);
    }
    /* A lane of that name that was emptied and dropped before has a checkpoint, which is ahead if the clock was set back. */
    if (give_lanes(ctx, deployment, old) && old != NULL) registry_raise_epoch(shard.epoch + 1);
    put(deployment);
    rebuild_rules();
    backlog_update(deployment);
    if (old != NULL) deployment_free(old);
    registry_write(ctx, true);
    RedisModule_Log(ctx, "notice", "deployment %s version %lld: %d functions, %d targets, %d lanes", deployment->name,
                    deployment->version, deployment->nrules, deployment->ntargets, deployment->nlanes);
    return NULL;
}

/* False: the cluster refuses it. */
static bool delete_key(RedisModuleCtx *ctx, RedisModuleString *key) {
    RedisModule_SelectDb(ctx, 0);
    bool before = shard.writing_registry;
    shard.writing_registry = true;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "DEL", "!s", key);
    shard.writing_registry = before;
    bool done = reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_INTEGER;
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return done;
}

static void remove_deployment(RedisModuleCtx *ctx, Deployment *deployment) {
    shard.writing_registry = true;
    for (int i = 0; i < deployment->lane_count; i++) {
        delete_key(ctx, deployment->lanes[i]->stream);
        delete_key(ctx, deployment->lanes[i]->dead_stream);
    }
    RedisModuleString *wheels =
        RedisModule_CreateStringPrintf(ctx, "gearsync:{%s}:wheels:%s", shard.tag, deployment->name);
    delete_key(ctx, wheels);
    RedisModule_FreeString(ctx, wheels);
    shard.writing_registry = false;
    RedisModule_Log(ctx, "notice", "deployment %s is gone", deployment->name);
    take_out(deployment);
    rebuild_rules();
    deployment_free(deployment);
    /* Lanes of its name may be made again, and SQL remembers how far the old ones were: ahead, if the clock is set back. */
    registry_raise_epoch(shard.epoch + 1);
    registry_write(ctx, true);
    barrier_check();
}

void registry_undeploy(RedisModuleCtx *ctx, Deployment *deployment, bool discard) {
    deployment->draining = true;
    rebuild_rules();
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
        if (lane->retired && !lane->holds && lane->length == 0 && lane_dead_letters(ctx, lane) == 0) {
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

/* -- To and from the keyspace ------------------------------------------------------------------------------------- */

typedef struct {
    RedisModuleString **strings;
    size_t count;
} Strings;

static void strings_add(Strings *strings, RedisModuleString *string) {
    strings->strings = RedisModule_Realloc(strings->strings, sizeof(RedisModuleString *) * (strings->count + 1));
    strings->strings[strings->count++] = string;
}

static void strings_free(Strings *strings) {
    for (size_t i = 0; i < strings->count; i++) RedisModule_FreeString(NULL, strings->strings[i]);
    if (strings->strings != NULL) RedisModule_Free(strings->strings);
}

static RedisModuleString *applied_text(const Lane *lane) {
    return RedisModule_CreateStringPrintf(NULL, "%llu %llu-%llu", (unsigned long long)lane->applied_epoch,
                                          (unsigned long long)lane->applied.ms, (unsigned long long)lane->applied.seq);
}

static void add_retired(Strings *fields, Deployment *deployment) {
    for (int i = 0; i < deployment->lane_count; i++) {
        const Lane *lane = deployment->lanes[i];
        if (!lane->retired) continue;
        if (lane->function != NULL) {
            const char *kind = lane->holds ? "held" : "freed";
            strings_add(fields, RedisModule_CreateStringPrintf(NULL, "%s:%s", kind, string_slice(lane->stream).bytes));
            strings_add(fields, RedisModule_CreateString(NULL, lane->function, strlen(lane->function)));
            continue;
        }
        size_t len;
        const char *stream = RedisModule_StringPtrLen(deployment->lanes[i]->stream, &len);
        strings_add(fields, RedisModule_CreateStringPrintf(NULL, "retired:%s", stream));
        strings_add(fields, RedisModule_CreateString(NULL, deployment->name, strlen(deployment->name)));
    }
}

static void add_applied(Strings *fields, const Deployment *deployment) {
    for (int i = 0; i < deployment->lane_count; i++) {
        const Lane *lane = deployment->lanes[i];
        if (lane->applied.ms == 0) continue;
        strings_add(fields, RedisModule_CreateStringPrintf(NULL, "applied:%s", string_slice(lane->stream).bytes));
        strings_add(fields, applied_text(lane));
    }
}

static void collect_fields(Strings *fields) {
    strings_add(fields, RedisModule_CreateString(NULL, "meta", 4));
    Text meta = {0};
    text_printf(&meta, "%s %llu", shard.source, (unsigned long long)shard.epoch);
    if (shard.flushed > 0) text_printf(&meta, " %llu", (unsigned long long)shard.flushed);
    strings_add(fields, RedisModule_CreateString(NULL, meta.bytes, meta.len));
    text_free(&meta);
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        const char *kind = deployment->draining ? "draining" : "deployment";
        strings_add(fields, RedisModule_CreateStringPrintf(NULL, "%s:%s", kind, deployment->name));
        strings_add(fields, RedisModule_CreateString(NULL, deployment->arguments.bytes, deployment->arguments.len));
        if (deployment->paused_ms > 0) {
            strings_add(fields, RedisModule_CreateStringPrintf(NULL, "paused:%s", deployment->name));
            strings_add(fields, pause_text(deployment));
        }
        for (int j = 0; j < deployment->nholds; j++) {
            strings_add(fields, hold_field(deployment, j));
            strings_add(fields, hold_text(deployment, j));
        }
        for (int j = 0; j < deployment->nearlier; j++) {
            strings_add(fields, RedisModule_CreateStringPrintf(NULL, "earlier:%d:%s", j, deployment->name));
            strings_add(fields, earlier_text(deployment, j));
        }
        add_retired(fields, deployment);
        add_applied(fields, deployment);
    }
}

/* By the API, since a cluster takes no command on a new key of a slot that is on its way. When it leaves, the registry may
 * have left already, and must not stay behind. */
static void write_open(RedisModuleCtx *ctx, RedisModuleString *name, const Strings *fields, bool replicate) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    bool has_left = cluster_home_leaves() && RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_EMPTY;
    if (!has_left) RedisModule_DeleteKey(key);
    for (size_t i = 0; !has_left && i + 1 < fields->count; i += 2)
        RedisModule_HashSet(key, REDISMODULE_HASH_NONE, fields->strings[i], fields->strings[i + 1], NULL);
    RedisModule_CloseKey(key);
    if (has_left || !replicate) return;
    RedisModule_Replicate(ctx, "DEL", "s", name);
    RedisModule_Replicate(ctx, "HSET", "sv", name, fields->strings, fields->count);
}

static bool write_fields(RedisModuleCtx *ctx, RedisModuleString *name, const Strings *fields, bool replicate) {
    RedisModuleCallReply *gone = RedisModule_Call(ctx, "DEL", replicate ? "!s" : "s", name);
    RedisModuleCallReply *set =
        RedisModule_Call(ctx, "HSET", replicate ? "!sv" : "sv", name, fields->strings, fields->count);
    bool written = set != NULL && RedisModule_CallReplyType(set) != REDISMODULE_REPLY_ERROR;
    if (gone != NULL) RedisModule_FreeCallReply(gone);
    if (set != NULL) RedisModule_FreeCallReply(set);
    return written;
}

void registry_write(RedisModuleCtx *ctx, bool replicate) {
    if (shard.tag[0] == '\0' || shard.source[0] == '\0') return;
    Strings fields = {0};
    collect_fields(&fields);
    RedisModuleString *key = registry_key();
    RedisModule_SelectDb(ctx, 0);
    shard.writing_registry = true;
    bool open = cluster_home_leaves() || cluster_home_comes(), written = true;
    if (open)
        write_open(ctx, key, &fields, replicate);
    else
        written = write_fields(ctx, key, &fields, replicate);
    shard.writing_registry = false;
    /* A cluster that is down refuses; the tick tries again until it is written. */
    shard.registry_dirty = !written || !replicate;
    RedisModule_FreeString(NULL, key);
    strings_free(&fields);
}

void registry_write_if_dirty(RedisModuleCtx *ctx) {
    if (shard.registry_dirty && shard_may_write()) registry_write(ctx, true);
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

static void collect_pair(RedisModuleKey *key, RedisModuleString *field, RedisModuleString *value, void *pd) {
    (void)key;
    strings_add(pd, RedisModule_HoldString(NULL, field));
    strings_add(pd, RedisModule_HoldString(NULL, value));
}

static bool read_registry(RedisModuleCtx *ctx, Strings *pairs) {
    RedisModule_SelectDb(ctx, 0);
    RedisModuleString *name = registry_key();
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    RedisModule_FreeString(NULL, name);
    if (key == NULL) return false;
    bool is_hash = RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_HASH;
    if (is_hash) {
        RedisModuleScanCursor *cursor = RedisModule_ScanCursorCreate();
        while (RedisModule_ScanKey(key, cursor, collect_pair, pairs)) continue;
        RedisModule_ScanCursorDestroy(cursor);
    }
    RedisModule_CloseKey(key);
    return is_hash;
}

/* Finds the registry by its tag: always 0 on a server that is no cluster, else the first of those that exist. */
static bool find_registry(RedisModuleCtx *ctx, Strings *pairs) {
    if (shard.tag[0] != '\0' && read_registry(ctx, pairs)) return true;
    if (!shard.cluster) return false;
    char before[sizeof(shard.tag)];
    memcpy(before, shard.tag, sizeof(before));
    for (int i = 0; i < 65536; i++) {
        snprintf(shard.tag, sizeof(shard.tag), "%d", i);
        if (read_registry(ctx, pairs)) return true;
    }
    memcpy(shard.tag, before, sizeof(before));
    return false;
}

static bool starts_with(Slice slice, const char *prefix, Slice *rest) {
    size_t len = strlen(prefix);
    if (slice.len < len || memcmp(slice.bytes, prefix, len) != 0) return false;
    *rest = (Slice){slice.bytes + len, slice.len - len};
    return true;
}

static void load_meta(Slice value) {
    char *text = slice_copy(value);
    unsigned long long epoch = 0, flushed = 0;
    char source[13] = {0};
    if (sscanf(text, "%12s %llu %llu", source, &epoch, &flushed) >= 2) {
        memcpy(shard.source, source, sizeof(source));
        shard.epoch = epoch;
        shard.flushed = flushed;
    }
    RedisModule_Free(text);
}

static void load_deployment(RedisModuleCtx *ctx, Slice name, Slice value, bool draining, Shard *before) {
    Deployment *deployment = NULL, *old = NULL;
    char *error = deployment_parse_resp(value, &deployment);
    if (error != NULL) {
        RedisModule_Log(ctx, "warning", "deployment %.*s can't be restored from the registry: %s; deploy it again",
                        (int)name.len, name.bytes, error);
        RedisModule_Free(error);
        return;
    }
    deployment->draining = draining;
    for (int i = 0; i < before->count; i++)
        if (before->deployments[i] != NULL && strcmp(before->deployments[i]->name, deployment->name) == 0) {
            old = before->deployments[i];
            before->deployments[i] = NULL;
        }
    if (old != NULL) {
        inherit(deployment, old);
        deployment_free(old);
    }
    give_lanes(ctx, deployment, NULL);
    put(deployment);
}

/* The parts of "gearsync:{T}:lane:<source>:<deployment>:<target>:<i>.<n>"; names hold no colon. */
static bool parse_stream_name(Slice stream, char deployment[65], char target[65], int *index, int *count, bool *held) {
    char *text = slice_copy(stream);
    char source[33], tag[33];
    int end = 0;
    bool sound = sscanf(text, "gearsync:{%32[0-9]}:lane:%32[^:]:%64[^:]:%64[^:]:%d.%d%n", tag, source, deployment,
                        target, index, count, &end) == 6;
    *held = sound && text[end] == ':' && text[end + 1] == 'h';
    sound = sound && (*held || (size_t)end == stream.len);
    RedisModule_Free(text);
    return sound;
}

static void add_retired_lane(RedisModuleCtx *ctx, Slice stream) {
    char name[65], target[65];
    int index, count;
    bool held;
    if (!parse_stream_name(stream, name, target, &index, &count, &held) || held) return;
    Deployment *deployment = registry_find((Slice){name, strlen(name)});
    if (deployment == NULL || find_lane(deployment, stream) != NULL) return;
    Lane *lane = lane_create(stream, target, index, count, true);
    lane_refresh(ctx, lane);
    deployment_add_lane(deployment, lane);
}

static void add_held_stream(RedisModuleCtx *ctx, Slice stream, Slice function, bool holds) {
    char name[65], target[65];
    int index, count;
    bool held;
    if (!parse_stream_name(stream, name, target, &index, &count, &held) || !held) return;
    Deployment *deployment = registry_find((Slice){name, strlen(name)});
    if (deployment != NULL)
        hold_load_stream(ctx, deployment, lane_create(stream, target, index, count, true), function, holds);
}

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
        if (delete_key(ctx, strays[i]))
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
    cluster_settle(ctx);
    add_retired_lane(ctx, lane_name);
    Deployment *deployment = NULL;
    Lane *lane = registry_find_lane(lane_name, &deployment);
    if (lane != NULL) {
        lane_refresh(ctx, lane);
        /* Its checkpoint belongs to a worker of the epoch in which it was written last: ours must be above, and the
         * next shard that the lane may go to must see ours. */
        uint64_t seen = lane_last_epoch(ctx, lane);
        if (seen >= shard.epoch) registry_raise_epoch(seen + 1);
        if (lane->length > 0) capture_mark(ctx, deployment, lane, lane->stream, 'm', NO_NODE);
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
    RedisModuleString *from = RedisModule_CreateStringPrintf(NULL, "gearsync:{%s}:wheels:%s", tag, deployment);
    RedisModuleString *to = RedisModule_CreateStringPrintf(NULL, "gearsync:{%s}:wheels:%s", shard.tag, deployment);
    RedisModuleCallReply *dumped = RedisModule_Call(ctx, "DUMP", "s", from);
    if (dumped != NULL && RedisModule_CallReplyType(dumped) == REDISMODULE_REPLY_STRING) {
        size_t length;
        const char *bytes = RedisModule_CallReplyStringPtr(dumped, &length);
        RedisModuleCallReply *reply = RedisModule_Call(ctx, "RESTORE", "!scb", to, "0", bytes, length);
        if (reply != NULL) RedisModule_FreeCallReply(reply);
        delete_key(ctx, from);
    }
    if (dumped != NULL) RedisModule_FreeCallReply(dumped);
    RedisModule_FreeString(NULL, from);
    RedisModule_FreeString(NULL, to);
}

/* One field, because each group of writes brings it. */
void registry_note_applied(RedisModuleCtx *ctx, Lane *lane, uint64_t epoch, RedisModuleStreamID id) {
    lane->applied_epoch = epoch;
    lane->applied = id;
    RedisModuleString *key = registry_key(), *text = applied_text(lane);
    RedisModuleString *field = RedisModule_CreateStringPrintf(NULL, "applied:%s", string_slice(lane->stream).bytes);
    RedisModule_SelectDb(ctx, 0);
    shard.writing_registry = true;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "HSET", "!sss", key, field, text);
    shard.writing_registry = false;
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    RedisModule_FreeString(NULL, key);
    RedisModule_FreeString(NULL, field);
    RedisModule_FreeString(NULL, text);
}

/* The fields are in no order: one round for each index, until there is none of it. */
static void load_earlier(const Strings *pairs) {
    bool any = true;
    for (int index = 0; any; index++) {
        any = false;
        for (size_t i = 0; i + 1 < pairs->count; i += 2) {
            Slice rest;
            if (starts_with(string_slice(pairs->strings[i]), "earlier:", &rest))
                any = earlier_load(index, rest, string_slice(pairs->strings[i + 1])) || any;
        }
    }
}

static void load_applied(Slice stream, Slice value) {
    Lane *lane = registry_find_lane(stream, NULL);
    char *text = slice_copy(value);
    unsigned long long epoch, ms, seq;
    if (lane != NULL && sscanf(text, "%llu %llu-%llu", &epoch, &ms, &seq) == 3) {
        lane->applied_epoch = epoch;
        lane->applied = (RedisModuleStreamID){ms, seq};
    }
    RedisModule_Free(text);
}

void registry_leave_tag(RedisModuleCtx *ctx, const char *tag) {
    registry_write(ctx, true);
    RedisModuleString *old = RedisModule_CreateStringPrintf(NULL, "gearsync:{%s}:registry", tag);
    RedisModule_SelectDb(ctx, 0);
    shard.writing_registry = true;
    for (int i = 0; i < shard.count; i++) move_wheels(ctx, tag, shard.deployments[i]->name);
    delete_key(ctx, old);
    shard.writing_registry = false;
    RedisModule_FreeString(NULL, old);
}

void registry_load(RedisModuleCtx *ctx) {
    Strings pairs = {0};
    shard.registry_stale = false;
    Shard before = shard;
    shard.deployments = NULL;
    shard.count = 0;
    if (find_registry(ctx, &pairs)) {
        Slice rest;
        for (size_t i = 0; i + 1 < pairs.count; i += 2) {
            Slice field = string_slice(pairs.strings[i]), value = string_slice(pairs.strings[i + 1]);
            if (starts_with(field, "meta", &rest)) load_meta(value);
        }
        for (size_t i = 0; i + 1 < pairs.count; i += 2) {
            Slice field = string_slice(pairs.strings[i]), value = string_slice(pairs.strings[i + 1]);
            if (starts_with(field, "deployment:", &rest)) load_deployment(ctx, rest, value, false, &before);
            if (starts_with(field, "draining:", &rest)) load_deployment(ctx, rest, value, true, &before);
        }
        for (size_t i = 0; i + 1 < pairs.count; i += 2)
            if (starts_with(string_slice(pairs.strings[i]), "retired:", &rest)) add_retired_lane(ctx, rest);
        for (size_t i = 0; i + 1 < pairs.count; i += 2) {
            Slice field = string_slice(pairs.strings[i]), value = string_slice(pairs.strings[i + 1]);
            if (starts_with(field, "held:", &rest)) add_held_stream(ctx, rest, value, true);
            if (starts_with(field, "freed:", &rest)) add_held_stream(ctx, rest, value, false);
            if (starts_with(field, "hold:", &rest)) hold_load(rest, value);
        }
        for (size_t i = 0; i + 1 < pairs.count; i += 2)
            if (starts_with(string_slice(pairs.strings[i]), "applied:", &rest))
                load_applied(rest, string_slice(pairs.strings[i + 1]));
        for (size_t i = 0; i + 1 < pairs.count; i += 2)
            if (starts_with(string_slice(pairs.strings[i]), "paused:", &rest))
                pause_load(rest, string_slice(pairs.strings[i + 1]));
        load_earlier(&pairs);
    }
    for (int i = 0; i < before.count; i++)
        if (before.deployments[i] != NULL) deployment_free(before.deployments[i]);
    if (before.deployments != NULL) RedisModule_Free(before.deployments);
    strings_free(&pairs);
    rebuild_rules();
    image_forget_metas();
    for (int i = 0; i < shard.count; i++) backlog_update(shard.deployments[i]);
}

/* A replica captures nothing and acknowledges nothing: what it knows of its lanes is what the keyspace has. */
void registry_refresh(RedisModuleCtx *ctx) {
    if (shard.primary || shard.loading) return;
    if (shard.registry_stale) registry_load(ctx);
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++) lane_refresh(ctx, shard.deployments[i]->lanes[j]);
}

void registry_take_over(RedisModuleCtx *ctx, TakeOver after) {
    registry_load(ctx);
    if (shard.count == 0) return;
    uint64_t epoch = shard.epoch;
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++) {
            uint64_t seen = lane_last_epoch(ctx, shard.deployments[i]->lanes[j]);
            if (seen > epoch) epoch = seen;
        }
    registry_raise_epoch(after == AFTER_PROMOTION ? ((epoch >> 20) + 1) << 20 : epoch + 1);
    /* Redis 6.2 can tear a change from its write (docs/design.md, "Redis 6.2"). Nothing is torn by MODULE LOAD. */
    if (shard.heals && after != AFTER_MODULE_LOAD) capture_heal_tail(ctx);
    RedisModule_Log(ctx, "notice", "primary with %d deployments, epoch %llu", shard.count,
                    (unsigned long long)shard.epoch);
}

void registry_free(void) {
    slots_forget();
    while (stray_count > 0) RedisModule_FreeString(NULL, strays[--stray_count]);
    for (int i = 0; i < shard.count; i++) deployment_free(shard.deployments[i]);
    if (shard.deployments != NULL) RedisModule_Free(shard.deployments);
    if (shard.rules != NULL) RedisModule_Free(shard.rules);
    if (shard.reads != NULL) RedisModule_Free(shard.reads);
    shard.deployments = NULL;
    shard.rules = NULL;
    shard.reads = NULL;
    shard.count = shard.nrules = shard.nreads = 0;
    misses_rules_changed();
}
