/* Pausing (docs/design.md, "Pausing"): capture goes on, and nothing of a deployment goes to SQL until it is resumed. */
#define _GNU_SOURCE /* gmtime_r */
#include "pause.h"
#include "parts.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PREFIX "nothing was written: "

static void clear(Pause *pause) {
    pause->since_ms = 0;
    text_free(&pause->by);
    text_free(&pause->why);
    text_free(&pause->sentence);
}

void pause_free(Deployment *deployment) {
    clear(&deployment->paused);
    if (deployment->target_pauses == NULL) return;
    for (int i = 0; i < deployment->ntargets; i++) clear(&deployment->target_pauses[i]);
    RedisModule_Free(deployment->target_pauses);
}

int pause_target_index(const Deployment *deployment, Slice name) {
    for (int i = 0; i < deployment->ntargets; i++)
        if (slice_equals(name, deployment->targets[i])) return i;
    return -1;
}

static Slice c_slice(const char *text) { return (Slice){text, strlen(text)}; }

/* What stands in the way of a line, or of an error reply, becomes a blank. */
void pause_add_line(Text *text, Slice slice) {
    for (size_t i = 0; i < slice.len; i++) {
        char byte = slice.bytes[i];
        text_add(text, (unsigned char)byte < ' ' || byte == 127 ? " " : &byte, 1);
    }
}

static void pause_add_since(Text *text, long long ms, const Text *by, const Text *why) {
    char since[32];
    time_t seconds = (time_t)(ms / 1000);
    struct tm broken;
    gmtime_r(&seconds, &broken);
    strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", &broken);
    text_printf(text, "since %s", since);
    if (by->len > 0) text_printf(text, " by %s", by->bytes);
    if (why->len > 0) text_printf(text, ": %s", why->bytes);
}

/* target: its index, or -1 of the whole deployment. */
static Pause *pause_at(Deployment *deployment, int target) {
    return target < 0 ? &deployment->paused : &deployment->target_pauses[target];
}

static void set(Deployment *deployment, int target, long long ms, Slice who, Slice why) {
    Pause *pause = pause_at(deployment, target);
    clear(pause);
    pause->since_ms = ms;
    pause_add_line(&pause->by, who);
    pause_add_line(&pause->why, why);
    text_printf(&pause->sentence, PREFIX);
    if (target >= 0) text_printf(&pause->sentence, "the target %s of ", deployment->targets[target]);
    text_printf(&pause->sentence, "the deployment %s is paused ", deployment->name);
    pause_add_since(&pause->sentence, ms, &pause->by, &pause->why);
}

/* -- Upgrades ------------------------------------------------------------------------------------------------------ */

char *pause_check(const Deployment *deployment, const Deployment *old) {
    for (int i = 0; i < old->ntargets; i++) {
        if (old->target_pauses[i].since_ms == 0 || pause_target_index(deployment, c_slice(old->targets[i])) >= 0)
            continue;
        Text text = {0};
        text_printf(&text,
                    "the target %s of %s is paused, and this version leaves it out; resume it first (gearsync resume "
                    "%s --target %s)",
                    old->targets[i], old->name, old->name, old->targets[i]);
        return text.bytes;
    }
    return NULL;
}

void pause_inherit(Deployment *deployment, Deployment *old) {
    deployment->paused = old->paused;
    old->paused = (Pause){0};
    for (int i = 0; i < old->ntargets; i++) {
        int now = pause_target_index(deployment, c_slice(old->targets[i]));
        if (now < 0) continue;
        deployment->target_pauses[now] = old->target_pauses[i];
        old->target_pauses[i] = (Pause){0};
    }
}

/* -- The registry, and the status ---------------------------------------------------------------------------------- */

/* "<ms> <bytes of who> <who><why>", as the registry has it. */
RedisModuleString *pause_text(const Pause *pause) {
    Text text = {0};
    text_printf(&text, "%lld %zu ", pause->since_ms, pause->by.len);
    text_add(&text, pause->by.bytes, pause->by.len);
    text_add(&text, pause->why.bytes, pause->why.len);
    RedisModuleString *string = RedisModule_CreateString(NULL, text.bytes, text.len);
    text_free(&text);
    return string;
}

static void load(Deployment *deployment, int target, Slice value) {
    char *text = slice_copy(value), *at = text;
    long long ms = strtoll(at, &at, 10), who = strtoll(at, &at, 10);
    long long left = (long long)value.len - (at - text) - 1;
    if (ms > 0 && who >= 0 && who <= left && *at == ' ')
        set(deployment, target, ms, (Slice){at + 1, (size_t)who}, (Slice){at + 1 + who, (size_t)(left - who)});
    RedisModule_Free(text);
}

void pause_load(Slice name, Slice value) {
    Deployment *deployment = shard_find(name);
    if (deployment != NULL) load(deployment, -1, value);
}

void pause_load_target(Slice rest, Slice value) {
    const char *colon = memchr(rest.bytes, ':', rest.len);
    if (colon == NULL) return;
    size_t len = (size_t)(colon - rest.bytes);
    Deployment *deployment = shard_find((Slice){colon + 1, rest.len - len - 1});
    int target = deployment != NULL ? pause_target_index(deployment, (Slice){rest.bytes, len}) : -1;
    if (target >= 0) load(deployment, target, value);
}

const char *pause_reason(const Pause *pause) { return pause->sentence.bytes + strlen(PREFIX); }

static const Pause *pause_in_force(const Deployment *deployment, int target) {
    if (deployment->paused.since_ms > 0) return &deployment->paused;
    return deployment->target_pauses[target].since_ms > 0 ? &deployment->target_pauses[target] : NULL;
}

const char *pause_of_write(const Deployment *deployment, int target) {
    const Pause *pause = pause_in_force(deployment, target);
    return pause != NULL ? pause->sentence.bytes : NULL;
}

const char *pause_of_read(const Deployment *deployment, int target) {
    const Pause *pause = pause_in_force(deployment, target);
    return pause != NULL ? pause_reason(pause) : NULL;
}

bool pause_is_of_target(const Deployment *deployment, const char *target) {
    int index = pause_target_index(deployment, c_slice(target));
    return index >= 0 && deployment->target_pauses[index].since_ms > 0;
}

bool pause_any_target(const Deployment *deployment) {
    for (int i = 0; i < deployment->ntargets; i++)
        if (deployment->target_pauses[i].since_ms > 0) return true;
    return false;
}

void pause_status(Text *out, const Pause *pause) {
    text_printf(out, "\"paused\": {\"since_ms\": %lld, \"by\": ", pause->since_ms);
    text_json(out, pause->by.bytes, pause->by.len);
    text_printf(out, ", \"reason\": ");
    text_json(out, pause->why.bytes, pause->why.len);
    text_printf(out, "}");
}

/* -- Who pauses, and resumes --------------------------------------------------------------------------------------- */

Deployment *pause_find(RedisModuleCtx *ctx, RedisModuleString *name) {
    Deployment *deployment = shard.primary ? shard_find(string_slice(name)) : NULL;
    if (!shard.primary)
        shard_reply_replica(ctx);
    else if (deployment == NULL)
        RedisModule_ReplyWithError(ctx, "ERR there is no deployment of that name on this server");
    return deployment;
}

void pause_begin(RedisModuleCtx *ctx, Deployment *deployment, int target, Slice who, Slice why) {
    const Pause *before = pause_at(deployment, target);
    set(deployment, target, before->since_ms > 0 ? before->since_ms : RedisModule_Milliseconds(), who, why);
    RedisModule_Log(ctx, "notice", "%s%s%sdeployment %s is paused", target < 0 ? "" : "target ",
                    target < 0 ? "" : deployment->targets[target], target < 0 ? "" : " of ", deployment->name);
}

void pause_end(RedisModuleCtx *ctx, Deployment *deployment, int target) {
    Pause *pause = pause_at(deployment, target);
    if (pause->since_ms == 0) return;
    clear(pause);
    RedisModule_Log(ctx, "notice", "%s%s%sdeployment %s goes on", target < 0 ? "" : "target ",
                    target < 0 ? "" : deployment->targets[target], target < 0 ? "" : " of ", deployment->name);
}
