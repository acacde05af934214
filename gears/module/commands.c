/* The GEARSYNC.* commands that are not told elsewhere: deploy, undeploy, deployments, lanes, ack, recapture, epoch. */
#include "main.h"

#include <stdlib.h>
#include <string.h>

#include "capture/capture.h"
#include "clients/inner.h"
#include "clients/rights.h"
#include "clients/soon.h"
#include "clients/turns.h"
#include "lanes/backlog.h"
#include "lanes/ids.h"
#include "lanes/lanes.h"
#include "listeners.h"
#include "pauses/hold.h"
#include "pauses/pause.h"
#include "reads/reads.h"
#include "registry/registry.h"
#include "rows/rows.h"
#include "through/through.h"
#include "waits/barrier.h"
#include "workers/workers.h"

/* It grows by itself afterwards, and SQL holds it as a signed number of 64 bits. */
#define EPOCH_MOST (1LL << 60)

static int reply_error(RedisModuleCtx *ctx, char *message) {
    Text text = {0};
    text_printf(&text, "ERR %s", message);
    RedisModule_Free(message);
    RedisModule_ReplyWithError(ctx, text.bytes);
    text_free(&text);
    return REDISMODULE_OK;
}

static int reply_slice(RedisModuleCtx *ctx, Slice slice) {
    return RedisModule_ReplyWithStringBuffer(ctx, slice.bytes, slice.len);
}

static int reply_text(RedisModuleCtx *ctx, const char *text) {
    return RedisModule_ReplyWithStringBuffer(ctx, text, strlen(text));
}

static int deploy(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    if (argc < 3) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    bool check_only = argc > 3 && slice_is(string_slice(argv[3]), "check");
    Slice *arguments = RedisModule_Alloc(sizeof(Slice) * (size_t)argc);
    int count = 0;
    for (int i = 1; i < argc; i++)
        if (!(check_only && i == 3)) arguments[count++] = string_slice(argv[i]);
    char *error = registry_deploy(ctx, arguments, count, check_only);
    RedisModule_Free(arguments);
    if (error != NULL) return reply_error(ctx, error);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

static int undeploy(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    if (argc != 2 && argc != 3) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    bool discard = argc == 3 && slice_is(string_slice(argv[2]), "discard");
    if (argc == 3 && !discard) return RedisModule_ReplyWithError(ctx, "ERR use GEARSYNC.UNDEPLOY name [DISCARD]");
    Deployment *deployment = shard_find(string_slice(argv[1]));
    if (deployment == NULL)
        return RedisModule_ReplyWithError(ctx, "ERR there is no deployment of that name on this server");
    if (deployment->paused.since_ms > 0 && !discard)
        return RedisModule_ReplyWithError(ctx,
                                          "ERR the deployment is paused, so that it would never be empty; resume "
                                          "it first, or drop what waits");
    if (hold_any_paused(deployment) && !discard)
        return RedisModule_ReplyWithError(
            ctx,
            "ERR a function of the deployment is paused, so that it would never be empty; "
            "resume it first, or drop what waits");
    if (pause_any_target(deployment) && !discard)
        return RedisModule_ReplyWithError(ctx,
                                          "ERR a target of the deployment is paused, so that it would never be empty; "
                                          "resume it first, or drop what waits");
    registry_undeploy(ctx, deployment, discard);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

static int deployments(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 1) return RedisModule_WrongArity(ctx);
    registry_refresh(ctx);
    RedisModule_ReplyWithArray(ctx, shard.count);
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        RedisModule_ReplyWithArray(ctx, 4);
        reply_text(ctx, deployment->name);
        RedisModule_ReplyWithLongLong(ctx, deployment->version);
        reply_text(ctx, deployment->draining ? "draining" : "active");
        reply_slice(ctx, (Slice){deployment->payload, deployment->payload_len});
    }
    return REDISMODULE_OK;
}

static void reply_lane(RedisModuleCtx *ctx, Lane *lane) {
    RedisModule_ReplyWithArray(ctx, 5);
    RedisModule_ReplyWithString(ctx, lane->stream);
    RedisModule_ReplyWithString(ctx, lane->dead_stream);
    reply_text(ctx, lane->target);
    RedisModule_ReplyWithLongLong(ctx, lane->index);
    reply_text(ctx, lane->retired ? "retired" : "current");
}

static void reply_paused_targets(RedisModuleCtx *ctx, const Deployment *deployment) {
    long count = 0;
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    for (int i = 0; i < deployment->ntargets; i++) {
        if (deployment->target_pauses[i].since_ms == 0) continue;
        reply_text(ctx, deployment->targets[i]);
        count++;
    }
    RedisModule_ReplySetArrayLength(ctx, count);
}

static int lanes(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    Deployment *deployment = shard_find(string_slice(argv[1]));
    if (deployment == NULL)
        return RedisModule_ReplyWithError(ctx, "ERR there is no deployment of that name on this server");
    RedisModule_ReplyWithArray(ctx, 8);
    RedisModule_ReplyWithLongLong(ctx, (long long)shard.epoch);
    reply_text(ctx, shard.source);
    reply_text(ctx, deployment->draining ? "draining" : deployment->paused.since_ms > 0 ? "paused" : "active");
    RedisModule_ReplyWithLongLong(ctx, deployment->version);
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    long count = 0;
    for (int retired = 1; retired >= 0; retired--)
        for (int i = 0; i < deployment->lane_count; i++) {
            Lane *lane = deployment->lanes[i];
            if (lane->function != NULL || lane->retired != (retired == 1)) continue;
            reply_lane(ctx, lane);
            count++;
        }
    RedisModule_ReplySetArrayLength(ctx, count);
    reply_paused_targets(ctx, deployment);
    reply_text(ctx, deployment->digest);
    return reply_text(ctx, shard.life);
}

static int acknowledge(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    RedisModuleStreamID id;
    Deployment *deployment = NULL;
    long long epoch = 0;
    if (argc != 3 && argc != 5) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    if (!stream_id_parse(string_slice(argv[2]), &id))
        return RedisModule_ReplyWithError(ctx, "ERR the id must be <milliseconds>-<sequence>");
    if (argc == 5 && RedisModule_StringToLongLong(argv[3], &epoch) != REDISMODULE_OK)
        return RedisModule_ReplyWithError(ctx, "ERR the epoch must be a whole number");
    /* What was read before a crash that took the end of the lane, or a promotion: its id may be another change's. */
    if (argc == 5 && ((uint64_t)epoch != shard.epoch || !slice_is(string_slice(argv[4]), shard.life)))
        return RedisModule_ReplyWithError(ctx, "EPOCH this server has another epoch by now; read the lane again");
    Lane *lane = shard_find_lane(string_slice(argv[1]), &deployment);
    if (lane == NULL) return RedisModule_ReplyWithError(ctx, "ERR there is no lane of that name on this server");
    long long left = lane_acknowledge(ctx, lane, id);
    backlog_update(deployment);
    listeners.went_on();
    return RedisModule_ReplyWithLongLong(ctx, left);
}

/* While a client's write of a key waits for SQL, the hash is older than the row that may be committed at any moment,
 * and must not stand behind it in the lane. */
static int recapture(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    int db = RedisModule_GetSelectedDb(ctx), appended = 0;
    for (int i = 1; i < argc; i++)
        if (turns_holder(db, string_slice(argv[i])) != NULL)
            return RedisModule_ReplyWithError(ctx,
                                              "THROUGH a client's write of this key is on its way to SQL; ask again");
    for (int i = 1; i < argc; i++) appended += capture_again(ctx, db, argv[i], false);
    RedisModule_SelectDb(ctx, db);
    return RedisModule_ReplyWithLongLong(ctx, appended);
}

static int epoch(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc == 2 && rights_refused(ctx)) return REDISMODULE_OK;
    long long wanted;
    if (argc > 2) return RedisModule_WrongArity(ctx);
    if (argc == 2) {
        if (!shard.primary) return shard_reply_replica(ctx);
        if (RedisModule_StringToLongLong(argv[1], &wanted) != REDISMODULE_OK || wanted < 0 ||
            (uint64_t)wanted <= shard.epoch || wanted > EPOCH_MOST)
            return RedisModule_ReplyWithError(
                ctx, "ERR the epoch can only be raised: give a number above the present one, up to 2^60");
        registry_raise_epoch((uint64_t)wanted);
        registry_write(ctx, true);
    }
    return RedisModule_ReplyWithLongLong(ctx, (long long)shard.epoch);
}

/* Where one is inside of what has keys, servers may take ours for others (soon.c): what writes or reads them is
 * refused. */
static const struct {
    const char *name;
    RedisModuleCmdFunc function;
    const char *flags;
    int first_key, last_key, key_step;
    bool anywhere; /* also in a transaction or a script with keys of another slot than ours */
} commands[] = {
    {"gearsync.deploy", deploy, "write deny-oom admin no-monitor", 0, 0, 0, false},
    {"gearsync.undeploy", undeploy, "write admin", 0, 0, 0, false},
    {"gearsync.deployments", deployments, "readonly", 0, 0, 0, true},
    {"gearsync.versions", versions_command, "readonly", 0, 0, 0, true},
    {"gearsync.pause", pause_command, "write admin", 0, 0, 0, false},
    {"gearsync.resume", resume_command, "write admin", 0, 0, 0, false},
    {"gearsync.holds", holds_command, "readonly", 0, 0, 0, false},
    {"gearsync.hold", hold_command, "write", 1, 1, 1, false},
    {"gearsync.unhold", unhold_command, "write", 1, 1, 1, false},
    {"gearsync.lanes", lanes, "readonly", 0, 0, 0, false},
    {"gearsync.ack", acknowledge, "write fast", 1, 1, 1, true},
    {"gearsync.recapture", recapture, "write", 1, -1, 1, true},
    {"gearsync.backfill", backfill_command, "write", 1, -1, 1, true},
    {"gearsync.put", put_command, "write", 0, 0, 0, false},
    {"gearsync.mark", mark_command, "readonly", 0, 0, 0, true},
    {"gearsync.waiting", waiting_command, "readonly", 0, 0, 0, true},
    {"gearsync.images", images_command, "readonly", 0, 0, 0, false},
    {"gearsync.misses", misses_command, "readonly", 0, 0, 0, true},
    {"gearsync.loaded", loaded_command, "write", 0, 0, 0, false},
    {"gearsync.unread", unread_command, "readonly", 0, 0, 0, true},
    {"gearsync.wait", barrier_wait_command, "readonly", 0, 0, 0, true},
    {"gearsync.heartbeat", worker_heartbeat_command, "readonly fast", 0, 0, 0, false},
    {"gearsync.epoch", epoch, "write admin", 0, 0, 0, false},
    {"gearsync.status", status_command, "readonly", 0, 0, 0, false},
    {"gearsync.take", through_take_command, "write fast", 0, 0, 0, false},
    {"gearsync.settle", through_settle_command, "write", 0, 0, 0, false},
    {"gearsync.deny", through_deny_command, "write", 0, 0, 0, false},
    {"gearsync.redo", through_redo_command, "write", 0, 0, 0, false},
    {"gearsync.applied", through_applied_command, "readonly fast", 0, 0, 0, false},
    {"gearsync.refuse", backlog_refuse_command, "readonly fast", 0, 0, 0, true},
};

static int run_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Slice name = string_slice(argv[0]);
    size_t at = 0;
    while (at + 1 < sizeof(commands) / sizeof(commands[0]) && !slice_is(name, commands[at].name)) at++;
    int inside = REDISMODULE_CTX_FLAGS_MULTI | REDISMODULE_CTX_FLAGS_LUA;
    if (!commands[at].anywhere && (RedisModule_GetContextFlags(ctx) & inside) && soon_is_due(ctx))
        return RedisModule_ReplyWithError(
            ctx, "ERR this command can't be in a transaction or a script with keys of another slot; send it alone");
    return commands[at].function(ctx, argv, argc);
}

int commands_register(RedisModuleCtx *ctx) {
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (RedisModule_CreateCommand(ctx, commands[i].name, run_command, commands[i].flags, commands[i].first_key,
                                      commands[i].last_key, commands[i].key_step) != REDISMODULE_OK)
            return REDISMODULE_ERR;
    if (reads_register(ctx, through_start_ready) != REDISMODULE_OK) return REDISMODULE_ERR;
    return inner_register(ctx, THROUGH_COMMAND, through_command, "write getkeys-api");
}
