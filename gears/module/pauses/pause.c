/* Pausing (docs/design.md, "Pausing"): capture goes on, and nothing of a deployment goes to SQL until it is resumed. */
#define _GNU_SOURCE /* gmtime_r */
#include "reads/reads.h"
#include "through/writes.h"

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

static int target_index(const Deployment *deployment, Slice name) {
    for (int i = 0; i < deployment->ntargets; i++)
        if (strlen(deployment->targets[i]) == name.len && memcmp(deployment->targets[i], name.bytes, name.len) == 0)
            return i;
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

void pause_add_since(Text *text, long long ms, const Text *by, const Text *why) {
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

/* -- Upgrades -------------------------------------------------------------------------------------------------------- */

char *pause_check(const Deployment *deployment, const Deployment *old) {
    for (int i = 0; i < old->ntargets; i++) {
        if (old->target_pauses[i].since_ms == 0 || target_index(deployment, c_slice(old->targets[i])) >= 0) continue;
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
        int now = target_index(deployment, c_slice(old->targets[i]));
        if (now < 0) continue;
        deployment->target_pauses[now] = old->target_pauses[i];
        old->target_pauses[i] = (Pause){0};
    }
}

/* -- The registry, and the status ------------------------------------------------------------------------------------ */

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
    Deployment *deployment = registry_find(name);
    if (deployment != NULL) load(deployment, -1, value);
}

void pause_load_target(Slice rest, Slice value) {
    const char *colon = memchr(rest.bytes, ':', rest.len);
    if (colon == NULL) return;
    size_t len = (size_t)(colon - rest.bytes);
    Deployment *deployment = registry_find((Slice){colon + 1, rest.len - len - 1});
    int target = deployment != NULL ? target_index(deployment, (Slice){rest.bytes, len}) : -1;
    if (target >= 0) load(deployment, target, value);
}

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
    return pause != NULL ? pause->sentence.bytes + strlen(PREFIX) : NULL;
}

bool pause_is_of_target(const Deployment *deployment, const char *target) {
    int index = target_index(deployment, c_slice(target));
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

/* -- The commands ---------------------------------------------------------------------------------------------------- */

static bool is_logged_for(const Write *write, const Deployment *deployment, int target) {
    if (write->stage != LOGGED || write_deployment(write) != deployment) return false;
    const Lane *lane = target < 0 ? NULL : write_lane(write);
    return target < 0 || (lane != NULL && strcmp(lane->target, deployment->targets[target]) == 0);
}

/* Clients whose writes no worker has taken, and those that wait for a row, are told now. */
static void tell_clients(RedisModuleCtx *ctx, Deployment *deployment, int target) {
    const char *sentence = pause_at(deployment, target)->sentence.bytes;
    misses_fail(deployment, target, sentence + strlen(PREFIX));
    for (Write *write = writes_first, *next; write != NULL; write = next) {
        next = write->next;
        if (is_logged_for(write, deployment, target)) write_finish(write, write_error(sentence, (Slice){"", 0}));
    }
    through_start_ready(ctx);
}

Deployment *pause_find(RedisModuleCtx *ctx, RedisModuleString *name) {
    Deployment *deployment = shard.primary ? registry_find(string_slice(name)) : NULL;
    if (!shard.primary)
        shard_reply_replica(ctx);
    else if (deployment == NULL)
        RedisModule_ReplyWithError(ctx, "ERR there is no deployment of that name on this server");
    return deployment;
}

/* What of a deployment a command is about: all of it, FUNCTION function…, or TARGET target…. */
typedef enum { OF_ALL, OF_FUNCTIONS, OF_TARGETS, OF_NOTHING } Scope;

static Scope scope_of(RedisModuleString **argv, int argc, int at) {
    if (argc <= at) return OF_ALL;
    if (argc > at + 1 && slice_is(string_slice(argv[at]), "function")) return OF_FUNCTIONS;
    if (argc > at + 1 && slice_is(string_slice(argv[at]), "target")) return OF_TARGETS;
    return OF_NOTHING;
}

static int reply_done(RedisModuleCtx *ctx, const char *error) {
    return error != NULL ? RedisModule_ReplyWithError(ctx, error) : RedisModule_ReplyWithSimpleString(ctx, "OK");
}

static const char *unknown_target(const Deployment *deployment, RedisModuleString **names, int count) {
    for (int i = 0; i < count; i++)
        if (target_index(deployment, string_slice(names[i])) < 0)
            return "ERR the deployment has no target of that name";
    return NULL;
}

static void begin(RedisModuleCtx *ctx, Deployment *deployment, int target, Slice who, Slice why) {
    const Pause *before = pause_at(deployment, target);
    set(deployment, target, before->since_ms > 0 ? before->since_ms : RedisModule_Milliseconds(), who, why);
    RedisModule_Log(ctx, "notice", "%s%s%sdeployment %s is paused", target < 0 ? "" : "target ",
                    target < 0 ? "" : deployment->targets[target], target < 0 ? "" : " of ", deployment->name);
}

static void end(RedisModuleCtx *ctx, Deployment *deployment, int target) {
    Pause *pause = pause_at(deployment, target);
    if (pause->since_ms == 0) return;
    clear(pause);
    RedisModule_Log(ctx, "notice", "%s%s%sdeployment %s goes on", target < 0 ? "" : "target ",
                    target < 0 ? "" : deployment->targets[target], target < 0 ? "" : " of ", deployment->name);
}

static const char *pause_targets(RedisModuleCtx *ctx, Deployment *deployment, Slice who, Slice why,
                                 RedisModuleString **names, int count) {
    const char *error = unknown_target(deployment, names, count);
    if (error != NULL) return error;
    for (int i = 0; i < count; i++) begin(ctx, deployment, target_index(deployment, string_slice(names[i])), who, why);
    registry_write(ctx, true);
    for (int i = 0; i < count; i++) tell_clients(ctx, deployment, target_index(deployment, string_slice(names[i])));
    barrier_check();
    return NULL;
}

static const char *resume_targets(RedisModuleCtx *ctx, Deployment *deployment, RedisModuleString **names, int count) {
    const char *error = unknown_target(deployment, names, count);
    if (error != NULL) return error;
    for (int i = 0; i < count; i++) end(ctx, deployment, target_index(deployment, string_slice(names[i])));
    registry_write(ctx, true);
    return NULL;
}

/* GEARSYNC.PAUSE name [who [why [FUNCTION function…|TARGET target…]]]: who pauses what is paused already says so anew;
 * since when stays. */
int pause_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    Scope scope = scope_of(argv, argc, 4);
    if (argc < 2 || scope == OF_NOTHING) return RedisModule_WrongArity(ctx);
    Deployment *deployment = pause_find(ctx, argv[1]);
    if (deployment == NULL) return REDISMODULE_OK;
    Slice nothing = {"", 0}, who = argc > 2 ? string_slice(argv[2]) : nothing;
    Slice why = argc > 3 ? string_slice(argv[3]) : nothing;
    if (deployment->draining)
        return RedisModule_ReplyWithError(ctx, "ERR the deployment is being undeployed, and ends when it is empty");
    if (who.len + why.len > PAUSE_MOST_BYTES)
        return RedisModule_ReplyWithError(ctx, "ERR who and why must have at most 1000 bytes together");
    if (scope == OF_FUNCTIONS) return reply_done(ctx, hold_pause(ctx, deployment, who, why, argv + 5, argc - 5));
    if (scope == OF_TARGETS) return reply_done(ctx, pause_targets(ctx, deployment, who, why, argv + 5, argc - 5));
    begin(ctx, deployment, -1, who, why);
    registry_write(ctx, true);
    tell_clients(ctx, deployment, -1);
    return reply_done(ctx, NULL);
}

/* GEARSYNC.RESUME name [FUNCTION function…|TARGET target…]: also what is not paused. */
int resume_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    Scope scope = scope_of(argv, argc, 2);
    if (argc < 2 || scope == OF_NOTHING) return RedisModule_WrongArity(ctx);
    Deployment *deployment = pause_find(ctx, argv[1]);
    if (deployment == NULL) return REDISMODULE_OK;
    if (scope == OF_FUNCTIONS) return reply_done(ctx, hold_resume(ctx, deployment, argv + 3, argc - 3));
    if (scope == OF_TARGETS) return reply_done(ctx, resume_targets(ctx, deployment, argv + 3, argc - 3));
    end(ctx, deployment, -1);
    registry_write(ctx, true);
    return reply_done(ctx, NULL);
}
