/* GEARSYNC.PAUSE and GEARSYNC.RESUME (docs/design.md, "Pausing"): what stands still, and who is told. */
#include "main.h"

#include "clients/rights.h"
#include "listeners.h"
#include "pauses/hold.h"
#include "pauses/pause.h"
#include "reads/reads.h"
#include "registry/registry.h"
#include "through/through.h"

#define PAUSE_MOST_BYTES 1000 /* of who and why together */

/* Clients whose writes no worker has taken, and those that wait for a row, are told now. */
static void tell_clients(RedisModuleCtx *ctx, const Deployment *deployment, int target) {
    const Pause *pause = target < 0 ? &deployment->paused : &deployment->target_pauses[target];
    misses_fail(deployment, target, pause_reason(pause));
    through_fail_logged(ctx, deployment, target, pause->sentence.bytes);
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
        if (pause_target_index(deployment, string_slice(names[i])) < 0)
            return "ERR the deployment has no target of that name";
    return NULL;
}

static const char *pause_targets(RedisModuleCtx *ctx, Deployment *deployment, Slice who, Slice why,
                                 RedisModuleString **names, int count) {
    const char *error = unknown_target(deployment, names, count);
    if (error != NULL) return error;
    for (int i = 0; i < count; i++)
        pause_begin(ctx, deployment, pause_target_index(deployment, string_slice(names[i])), who, why);
    registry_write(ctx, true);
    for (int i = 0; i < count; i++)
        tell_clients(ctx, deployment, pause_target_index(deployment, string_slice(names[i])));
    listeners.went_on();
    return NULL;
}

static const char *resume_targets(RedisModuleCtx *ctx, Deployment *deployment, RedisModuleString **names, int count) {
    const char *error = unknown_target(deployment, names, count);
    if (error != NULL) return error;
    for (int i = 0; i < count; i++) pause_end(ctx, deployment, pause_target_index(deployment, string_slice(names[i])));
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
    pause_begin(ctx, deployment, -1, who, why);
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
    pause_end(ctx, deployment, -1);
    registry_write(ctx, true);
    return reply_done(ctx, NULL);
}
