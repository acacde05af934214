/* The registry in the keyspace: one hash (docs/design.md, "Keys in Redis"), so that RDB, AOF and replication carry
 * it. */
#include "parts.h"
#include "registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "changes/image.h"
#include "cluster/cluster.h"
#include "lanes/append.h"
#include "lanes/backlog.h"
#include "lanes/ids.h"
#include "lanes/lanes.h"
#include "pauses/hold.h"
#include "pauses/pause.h"

RedisModuleString *registry_key(void) {
    return RedisModule_CreateStringPrintf(NULL, "gearsync:{%s}:registry", shard.tag);
}

/* False: the cluster refuses it. */
bool registry_delete_key(RedisModuleCtx *ctx, RedisModuleString *key) {
    RedisModule_SelectDb(ctx, 0);
    bool before = shard.writing_registry;
    shard.writing_registry = true;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "DEL", "!s", key);
    shard.writing_registry = before;
    bool done = reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_INTEGER;
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return done;
}

/* The parts of "gearsync:{T}:lane:<source>:<deployment>:<target>:<i>.<n>"; names hold no colon. */
static bool registry_parse_stream(Slice stream, char deployment[65], char target[65], int *index, int *count,
                                  bool *held) {
    char *text = slice_copy(stream);
    char source[33], tag[33];
    int end = 0;
    bool sound = sscanf(text, "gearsync:{%32[0-9]}:lane:%32[^:]:%64[^:]:%64[^:]:%d.%d%n", tag, source, deployment,
                        target, index, count, &end) == 6;
    *held = sound && text[end] == ':' && text[end + 1] == 'h';
    sound = sound && (*held || (size_t)end == stream.len) && *index >= 0 && *index < *count;
    RedisModule_Free(text);
    return sound;
}

void registry_add_retired(RedisModuleCtx *ctx, Slice stream) {
    char name[65], target[65];
    int index, count;
    bool held;
    if (!registry_parse_stream(stream, name, target, &index, &count, &held) || held) return;
    Deployment *deployment = shard_find((Slice){name, strlen(name)});
    if (deployment == NULL || deployment_find_lane(deployment, stream) != NULL) return;
    Lane *lane = lane_create(stream, target, index, count, true);
    lane_refresh(ctx, lane);
    deployment_add_lane(deployment, lane);
}

static void add_held_stream(RedisModuleCtx *ctx, Slice stream, Slice function, bool holds) {
    char name[65], target[65];
    int index, count;
    bool held;
    if (!registry_parse_stream(stream, name, target, &index, &count, &held) || !held) return;
    Deployment *deployment = shard_find((Slice){name, strlen(name)});
    if (deployment != NULL)
        hold_load_stream(ctx, deployment, lane_create(stream, target, index, count, true), function, holds);
}

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
        if (lane->applied_epoch == 0) continue;
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
        if (deployment->paused.since_ms > 0) {
            strings_add(fields, RedisModule_CreateStringPrintf(NULL, "paused:%s", deployment->name));
            strings_add(fields, pause_text(&deployment->paused));
        }
        for (int j = 0; j < deployment->ntargets; j++) {
            if (deployment->target_pauses[j].since_ms == 0) continue;
            strings_add(fields, RedisModule_CreateStringPrintf(NULL, "paused-target:%s:%s", deployment->targets[j],
                                                               deployment->name));
            strings_add(fields, pause_text(&deployment->target_pauses[j]));
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

/* By the API, since a cluster takes no command on a new key of a slot that is on its way. When it leaves, the registry
 * may have left already, and must not stay behind. */
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

/* A cluster that is down takes no command, and commands may have another name. In the slot of another shard there is
 * nothing to be written. */
static bool may_write_open(RedisModuleCtx *ctx) {
    return !shard.cluster || cluster_home_is_open() || cluster_slot_state(ctx, cluster_slot_of(shard.tag)) == SLOT_OWN;
}

static bool write_fields(RedisModuleCtx *ctx, RedisModuleString *name, const Strings *fields, bool replicate) {
    RedisModuleCallReply *gone = RedisModule_Call(ctx, "DEL", replicate ? "!s" : "s", name);
    RedisModuleCallReply *set =
        RedisModule_Call(ctx, "HSET", replicate ? "!sv" : "sv", name, fields->strings, fields->count);
    bool written = gone != NULL && set != NULL && RedisModule_CallReplyType(set) != REDISMODULE_REPLY_ERROR;
    if (gone != NULL) RedisModule_FreeCallReply(gone);
    if (set != NULL) RedisModule_FreeCallReply(set);
    return written;
}

/* A lane that goes on to another shard must not be behind the epoch in which this one's worker has claimed it, or it
 * would be fenced there for good. */
static void stamp_retired(RedisModuleCtx *ctx) {
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++) {
            Lane *lane = shard.deployments[i]->lanes[j];
            if (lane->retired && lane->function == NULL && lane->length > 0 && lane_last_epoch(ctx, lane) < shard.epoch)
                append_mark(ctx, shard.deployments[i], lane, lane->stream, 'm', NO_NODE);
        }
}

void registry_write(RedisModuleCtx *ctx, bool replicate) {
    if (shard.tag[0] == '\0' || shard.source[0] == '\0') return;
    if (shard.cluster && replicate) stamp_retired(ctx);
    Strings fields = {0};
    collect_fields(&fields);
    RedisModuleString *key = registry_key();
    RedisModule_SelectDb(ctx, 0);
    shard.writing_registry = true;
    bool written = !cluster_home_is_open() && write_fields(ctx, key, &fields, replicate);
    if (!written && may_write_open(ctx)) {
        write_open(ctx, key, &fields, replicate);
        written = true;
    }
    shard.writing_registry = false;
    /* Somebody else's slot; the tick tries again until it is written. */
    shard.registry_dirty = !written || !replicate;
    RedisModule_FreeString(NULL, key);
    strings_free(&fields);
}

void registry_write_if_dirty(RedisModuleCtx *ctx) {
    if (shard.registry_dirty && shard_may_write()) registry_write(ctx, true);
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

/* Finds the registry by its tag: always 0 on a server that is no cluster, else the first one whose slot is ours. That
 * of a shard which is about to leave may have come too: in a slot that is not ours yet. */
static bool find_registry(RedisModuleCtx *ctx, Strings *pairs) {
    if (shard.tag[0] != '\0' && read_registry(ctx, pairs)) return true;
    if (!shard.cluster) return false;
    char found[sizeof(shard.tag)];
    bool is_ours = false, any = false;
    memcpy(found, shard.tag, sizeof(found));
    for (int i = 0; i < 65536 && !is_ours; i++) {
        Strings others = {0};
        snprintf(shard.tag, sizeof(shard.tag), "%d", i);
        if (read_registry(ctx, &others)) {
            is_ours = cluster_slot_state(ctx, cluster_slot_of(shard.tag)) == SLOT_OWN;
            if (is_ours || !any) {
                Strings before = *pairs;
                memcpy(found, shard.tag, sizeof(found));
                *pairs = others;
                others = before;
            }
            any = true;
        }
        strings_free(&others);
    }
    memcpy(shard.tag, found, sizeof(found));
    return any;
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
        registry_inherit(deployment, old);
        deployment_free(old);
    }
    registry_give_lanes(ctx, deployment, NULL, 0);
    registry_put(deployment);
}

/* One field, because each group of writes brings it. It only grows: a worker that has slept may come with an older
 * one. */
void registry_note_applied(RedisModuleCtx *ctx, Lane *lane, uint64_t epoch, RedisModuleStreamID id) {
    bool ahead = epoch == lane->applied_epoch ? stream_id_compare(id, lane->applied) > 0 : epoch > lane->applied_epoch;
    if (!ahead) return;
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
    Lane *lane = shard_find_lane(stream, NULL);
    char *text = slice_copy(value);
    unsigned long long epoch, ms, seq;
    if (lane != NULL && sscanf(text, "%llu %llu-%llu", &epoch, &ms, &seq) == 3) {
        lane->applied_epoch = epoch;
        lane->applied = (RedisModuleStreamID){ms, seq};
    }
    RedisModule_Free(text);
}

static void registry_load(RedisModuleCtx *ctx) {
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
            if (starts_with(string_slice(pairs.strings[i]), "retired:", &rest)) registry_add_retired(ctx, rest);
        for (size_t i = 0; i + 1 < pairs.count; i += 2) {
            Slice field = string_slice(pairs.strings[i]), value = string_slice(pairs.strings[i + 1]);
            if (starts_with(field, "held:", &rest)) add_held_stream(ctx, rest, value, true);
            if (starts_with(field, "freed:", &rest)) add_held_stream(ctx, rest, value, false);
            if (starts_with(field, "hold:", &rest)) hold_load(rest, value);
        }
        for (size_t i = 0; i + 1 < pairs.count; i += 2)
            if (starts_with(string_slice(pairs.strings[i]), "applied:", &rest))
                load_applied(rest, string_slice(pairs.strings[i + 1]));
        for (size_t i = 0; i + 1 < pairs.count; i += 2) {
            Slice field = string_slice(pairs.strings[i]), value = string_slice(pairs.strings[i + 1]);
            if (starts_with(field, "paused:", &rest)) pause_load(rest, value);
            if (starts_with(field, "paused-target:", &rest)) pause_load_target(rest, value);
        }
        load_earlier(&pairs);
    }
    for (int i = 0; i < before.count; i++)
        if (before.deployments[i] != NULL) deployment_free(before.deployments[i]);
    if (before.deployments != NULL) RedisModule_Free(before.deployments);
    strings_free(&pairs);
    registry_index();
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

void registry_begin_life(void) {
    char drawn[13] = {0};
    RedisModule_GetRandomHexChars(drawn, sizeof(drawn) - 1);
    snprintf(shard.life, sizeof(shard.life), "%llx-%s", (unsigned long long)shard.epoch, drawn);
}

static void raise_for(RedisModuleCtx *ctx, TakeOver after) {
    if (shard.count == 0) return;
    uint64_t epoch = shard.epoch;
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++) {
            uint64_t seen = lane_last_epoch(ctx, shard.deployments[i]->lanes[j]);
            shard.deployments[i]->lanes[j]->behind = true;
            if (seen > epoch) epoch = seen;
        }
    registry_raise_epoch(after == AFTER_PROMOTION ? ((epoch >> 20) + 1) << 20 : epoch + 1);
    RedisModule_Log(ctx, "notice", "primary with %d deployments, epoch %llu", shard.count,
                    (unsigned long long)shard.epoch);
}

void registry_take_over(RedisModuleCtx *ctx, TakeOver after) {
    registry_load(ctx);
    raise_for(ctx, after);
    registry_begin_life();
}
