/* Functions that are paused alone (docs/design.md, "Pausing"): of each lane, what is theirs is held back in a stream of
 * its own. Here is what is held and by which stream; held.c moves the changes. */
#include "hold.h"
#include "parts.h"
#include "pause.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "changes/kinds.h"
#include "lanes/lanes.h"
#include "listeners.h"

#define SUFFIX_BYTES 18 /* ":h" and the hash of the function's name, as 16 hex digits */

static Slice c_slice(const char *text) { return (Slice){text, strlen(text)}; }

Hold *hold_find(const Deployment *deployment, const char *function) {
    for (int i = 0; i < deployment->nholds; i++)
        if (strcmp(deployment->holds[i].function, function) == 0) return &deployment->holds[i];
    return NULL;
}

bool hold_any_paused(const Deployment *deployment) {
    for (int i = 0; i < deployment->nholds; i++)
        if (deployment->holds[i].paused) return true;
    return false;
}

/* What a worker knows of it is of yesterday from now on; a number is never given twice, in no process. */
static void changed(Deployment *deployment) {
    long long now = RedisModule_Milliseconds();
    deployment->hold_number = deployment->hold_number >= now ? deployment->hold_number + 1 : now;
}

static void hold_clear(Hold *hold) {
    RedisModule_Free(hold->function);
    text_free(&hold->by);
    text_free(&hold->why);
}

void hold_free(Deployment *deployment) {
    for (int i = 0; i < deployment->nholds; i++) hold_clear(&deployment->holds[i]);
    if (deployment->holds != NULL) RedisModule_Free(deployment->holds);
    deployment->holds = NULL;
    deployment->nholds = 0;
}

static Hold *add(Deployment *deployment, Slice function) {
    deployment->holds = RedisModule_Realloc(deployment->holds, sizeof(Hold) * (size_t)(deployment->nholds + 1));
    Hold *hold = &deployment->holds[deployment->nholds++];
    *hold = (Hold){.function = slice_copy(function)};
    return hold;
}

static void take_out(Deployment *deployment, Hold *hold) {
    hold_clear(hold);
    *hold = deployment->holds[--deployment->nholds];
}

static const Rule *rule_of(const Deployment *deployment, const char *function) {
    for (int i = 0; i < deployment->nrules; i++)
        if (deployment->rules[i].name != NULL && strcmp(deployment->rules[i].name, function) == 0)
            return &deployment->rules[i];
    return NULL;
}

/* -- Streams ------------------------------------------------------------------------------------------------------- */

bool hold_is_of(const Lane *held, const Lane *lane) {
    if (held->function == NULL || lane->function != NULL) return false;
    Slice a = string_slice(held->stream), b = string_slice(lane->stream);
    return a.len == b.len + SUFFIX_BYTES && memcmp(a.bytes, b.bytes, b.len) == 0;
}

Lane *hold_stream(const Deployment *deployment, const Lane *lane, const char *function) {
    for (int i = 0; i < deployment->lane_count; i++)
        if (hold_is_of(deployment->lanes[i], lane) && strcmp(deployment->lanes[i]->function, function) == 0)
            return deployment->lanes[i];
    return NULL;
}

void hold_load_stream(RedisModuleCtx *ctx, Deployment *deployment, Lane *held, Slice function, bool holds) {
    held->function = slice_copy(function);
    held->holds = holds;
    lane_refresh(ctx, held);
    deployment_add_lane(deployment, held);
}

static void hold_lane(RedisModuleCtx *ctx, Deployment *deployment, const Lane *lane, const char *function) {
    Lane *held = hold_stream(deployment, lane, function);
    if (held == NULL) {
        Text name = {0};
        text_printf(&name, "%s:h%016llx", string_slice(lane->stream).bytes,
                    (unsigned long long)key_hash(c_slice(function)));
        held = lane_create((Slice){name.bytes, name.len}, lane->target, lane->index, lane->count, true);
        text_free(&name);
        hold_load_stream(ctx, deployment, held, c_slice(function), true);
    }
    held->holds = true;
}

bool hold_concerns(const Deployment *deployment, const Lane *held, int db, Slice key) {
    if (held->count > 1 && key_hash(key) % (uint64_t)held->count != (uint64_t)held->index) return false;
    const Rule *rule = rule_of(deployment, held->function);
    return rule == NULL || ((db < 0 || rule->db == db) && template_matches(&rule->template, key));
}

/* -- Pause and resume ---------------------------------------------------------------------------------------------- */

static const char *why_not(const Deployment *deployment, RedisModuleString **names, int count) {
    if (shard.cluster)
        return "ERR a function can't be paused alone on a Redis Cluster, because keys that move to another shard could "
               "overtake what is held; pause the deployment";
    if (deployment->whole)
        return "ERR a function can't be paused alone where transactions stay whole; pause the deployment";
    for (int i = 0; i < deployment->nrules; i++)
        if (deployment->rules[i].timeout_ms > 0)
            return "ERR a function can't be paused alone beside write-through functions; pause the deployment";
    for (int i = 0; i < deployment->lane_count; i++) {
        const Lane *lane = deployment->lanes[i];
        if (lane->retired && lane->function == NULL && lane->length > 0)
            return "ERR changes still wait in lanes of an earlier version, in which no function can be paused alone; "
                   "try again when they are in SQL";
    }
    for (int i = 0; i < count; i++) {
        const Rule *rule = rule_of(deployment, RedisModule_StringPtrLen(names[i], NULL));
        if (rule == NULL) return "ERR the deployment has no function of that name which brings writes to SQL";
        if (kind_is_members(rule->kind))
            return "ERR a function over sets, lists or sorted sets can't be paused alone, because their members are "
                   "read "
                   "when they are applied; pause the deployment";
    }
    return NULL;
}

const char *hold_pause(RedisModuleCtx *ctx, Deployment *deployment, Slice who, Slice why, RedisModuleString **names,
                       int count) {
    const char *error = why_not(deployment, names, count);
    if (error != NULL) return error;
    for (int i = 0; i < count; i++) {
        const char *function = RedisModule_StringPtrLen(names[i], NULL);
        Hold *hold = hold_find(deployment, function);
        if (hold == NULL) hold = add(deployment, string_slice(names[i]));
        if (!hold->paused) hold->since_ms = RedisModule_Milliseconds();
        hold->paused = true;
        text_free(&hold->by);
        text_free(&hold->why);
        pause_add_line(&hold->by, who);
        pause_add_line(&hold->why, why);
        int target = rule_of(deployment, function)->target;
        for (int j = 0; j < deployment->nlanes && shard.tag[0] != '\0'; j++)
            hold_lane(ctx, deployment, deployment->lanes[target * deployment->nlanes + j], function);
        RedisModule_Log(ctx, "notice", "function %s of deployment %s is paused", function, deployment->name);
    }
    changed(deployment);
    listeners.kept_changed(ctx);
    listeners.went_on();
    return NULL;
}

const char *hold_resume(RedisModuleCtx *ctx, Deployment *deployment, RedisModuleString **names, int count) {
    for (int i = 0; i < count; i++) {
        const char *function = RedisModule_StringPtrLen(names[i], NULL);
        if (rule_of(deployment, function) == NULL && hold_find(deployment, function) == NULL)
            return "ERR the deployment has no function of that name which brings writes to SQL";
    }
    for (int i = 0; i < count; i++) {
        Hold *hold = hold_find(deployment, RedisModule_StringPtrLen(names[i], NULL));
        if (hold == NULL || !hold->paused) continue;
        hold->paused = false;
        changed(deployment);
        RedisModule_Log(ctx, "notice", "function %s of deployment %s goes on", hold->function, deployment->name);
    }
    listeners.kept_changed(ctx);
    return NULL;
}

/* SQL knows that changes of a function were held, and we do not: a crash, or a promotion, has taken the pause. What the
 * lane still has of them must not be passed over. */
void hold_open(RedisModuleCtx *ctx, Deployment *deployment, const Lane *lane, const char *function) {
    if (hold_find(deployment, function) == NULL)
        add(deployment, c_slice(function))->since_ms = RedisModule_Milliseconds();
    hold_lane(ctx, deployment, lane, function);
    changed(deployment);
    listeners.kept_changed(ctx);
}

bool hold_end(RedisModuleCtx *ctx, Deployment *deployment, Lane *held) {
    Hold *hold = hold_find(deployment, held->function);
    if (held->length > 0 || !held->holds || (hold != NULL && hold->paused)) return false;
    held->holds = false;
    bool any = false;
    for (int i = 0; i < deployment->lane_count; i++) {
        const Lane *each = deployment->lanes[i];
        any = any || (each->holds && strcmp(each->function, held->function) == 0);
    }
    if (hold != NULL && !any) take_out(deployment, hold);
    changed(deployment);
    listeners.kept_changed(ctx);
    return true;
}

/* -- Upgrades ------------------------------------------------------------------------------------------------------ */

static char *refusal(const Deployment *deployment, const char *function, const char *what) {
    Text text = {0};
    text_printf(&text,
                "the function %s of %s holds changes back, and this version %s; resume it first (gearsync resume %s "
                "--function ...), and wait until what it holds is in SQL",
                function, deployment->name, what, deployment->name);
    return text.bytes;
}

char *hold_check(const Deployment *deployment, const Deployment *old) {
    for (int i = 0; i < old->nholds; i++) {
        const char *function = old->holds[i].function;
        const Rule *before = rule_of(old, function), *now = rule_of(deployment, function);
        if (now == NULL) return refusal(deployment, function, "leaves it out");
        if (deployment->whole) return refusal(deployment, function, "has transactions that stay whole");
        if (deployment->nlanes != old->nlanes) return refusal(deployment, function, "has another number of lanes");
        if (before == NULL || strcmp(deployment->targets[now->target], old->targets[before->target]) != 0)
            return refusal(deployment, function, "has another target for it");
        /* What is held is told by its function's keys: a barrier or a read of an old one would not find it. */
        if (before->db != now->db || !template_is_same(&before->template, &now->template))
            return refusal(deployment, function, "gives it other keys");
        if (kind_is_members(now->kind)) return refusal(deployment, function, "makes it one of members");
        for (int j = 0; j < deployment->nrules; j++)
            if (deployment->rules[j].timeout_ms > 0)
                return refusal(deployment, function, "has write-through functions");
    }
    return NULL;
}

void hold_inherit(Deployment *deployment, Deployment *old) {
    deployment->holds = old->holds;
    deployment->nholds = old->nholds;
    deployment->hold_number = old->hold_number;
    old->holds = NULL;
    old->nholds = 0;
    if (deployment->nholds > 0) changed(deployment);
}

/* -- The registry, and the status ---------------------------------------------------------------------------------- */

RedisModuleString *hold_field(const Deployment *deployment, int index) {
    uint64_t hash = key_hash(c_slice(deployment->holds[index].function));
    return RedisModule_CreateStringPrintf(NULL, "hold:%016llx:%s", (unsigned long long)hash, deployment->name);
}

/* "<paused> <ms> <bytes of function> <bytes of who> <function><who><why>" */
RedisModuleString *hold_text(const Deployment *deployment, int index) {
    const Hold *hold = &deployment->holds[index];
    Text text = {0};
    text_printf(&text, "%d %lld %zu %zu %s", hold->paused, hold->since_ms, strlen(hold->function), hold->by.len,
                hold->function);
    text_add(&text, hold->by.bytes, hold->by.len);
    text_add(&text, hold->why.bytes, hold->why.len);
    RedisModuleString *string = RedisModule_CreateString(NULL, text.bytes, text.len);
    text_free(&text);
    return string;
}

void hold_load(Slice rest, Slice value) {
    const char *colon = memchr(rest.bytes, ':', rest.len);
    if (colon == NULL) return;
    Deployment *deployment = shard_find((Slice){colon + 1, rest.len - (size_t)(colon + 1 - rest.bytes)});
    char *text = slice_copy(value);
    int paused, at = 0;
    long long ms;
    size_t function, by;
    if (deployment != NULL && sscanf(text, "%d %lld %zu %zu%n", &paused, &ms, &function, &by, &at) == 4 &&
        (size_t)at < value.len && function < value.len && by < value.len &&
        (size_t)at + 1 + function + by <= value.len) {
        const char *start = text + at + 1;
        Hold *hold = add(deployment, (Slice){start, function});
        hold->paused = paused != 0;
        hold->since_ms = ms;
        text_add(&hold->by, start + function, by);
        text_add(&hold->why, start + function + by, value.len - (size_t)at - 1 - function - by);
        changed(deployment);
    }
    RedisModule_Free(text);
}

const char *hold_state(const Deployment *deployment, const Lane *held) {
    const Hold *hold = hold_find(deployment, held->function);
    return hold != NULL && hold->paused ? "held" : "resumed";
}

void hold_status(Text *out, const Deployment *deployment, const char *function) {
    const Hold *hold = hold_find(deployment, function);
    unsigned long long held = 0;
    if (hold == NULL) return;
    for (int i = 0; i < deployment->lane_count; i++)
        if (deployment->lanes[i]->function != NULL && strcmp(deployment->lanes[i]->function, function) == 0)
            held += deployment->lanes[i]->length;
    text_printf(out, ", \"held\": %llu", held);
    if (!hold->paused) return;
    text_printf(out, ", ");
    pause_status(out, &(Pause){.since_ms = hold->since_ms, .by = hold->by, .why = hold->why});
}
