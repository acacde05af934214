/* Loading and unloading: arguments, subscriptions, and the server's events that change what the shard is. */
#include "main.h"
#include "gearsync.h"

#include <stdio.h>
#include <string.h>

#include "capture/capture.h"
#include "clients/inner.h"
#include "clients/soon.h"
#include "cluster/cluster.h"
#include "crashes/crashes.h"
#include "lanes/lanes.h"
#include "lanes/waiting.h"
#include "reads/reads.h"
#include "registry/registry.h"
#include "resharding/resharding.h"
#include "rows/rows.h"
#include "through/through.h"
#include "waits/barrier.h"
#include "workers/workers.h"

#define EXPORT __attribute__((visibility("default")))

/* Most servers have done so before this event. Valkey 9 leaves all that wait for no key as they are in a cluster, and
 * outside of one those who also read from replicas. */
static void let_all_go(void) {
    through_fail_all("this server is a replica now; whether the write came true is not known: read the key");
    reads_fail_all("this server is a replica now; ask its primary");
    barrier_fail_all("UNBLOCKED this server is a replica now; ask its primary");
}

/* Redis 6.2 can tear a change from its write (docs/design.md, "Redis 6.2"). Nothing is torn by MODULE LOAD. */
static void take_over(RedisModuleCtx *ctx, TakeOver after) {
    registry_take_over(ctx, after);
    slots_take_over(ctx);
    if (shard.heals && after != AFTER_MODULE_LOAD) heal_tails(ctx);
}

static void on_role(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event, (void)data;
    bool primary = subevent == REDISMODULE_SUBEVENT_ROLE_NOW_MASTER;
    if (primary == shard.primary) return;
    shard.primary = primary;
    shard.propagates = true;
    if (!primary) let_all_go();
    RedisModule_Log(ctx, "notice", "this server is a %s now", primary ? "primary" : "replica");
    if (primary) {
        take_over(ctx, AFTER_PROMOTION);
        resharding_see_promotion();
    } else {
        shard.registry_stale = true;
    }
    workers_tick(ctx, cluster_is_ok);
}

static void on_loading(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event, (void)data;
    static bool of_aof;
    if (subevent <= REDISMODULE_SUBEVENT_LOADING_REPL_START)
        of_aof = subevent == REDISMODULE_SUBEVENT_LOADING_AOF_START;
    shard.loading = subevent != REDISMODULE_SUBEVENT_LOADING_ENDED && subevent != REDISMODULE_SUBEVENT_LOADING_FAILED;
    if (shard.loading) return;
    flush_reload_done();
    if (of_aof) aof_check(ctx);
    shard.primary = (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_MASTER) != 0;
    if (subevent == REDISMODULE_SUBEVENT_LOADING_ENDED && shard.primary)
        take_over(ctx, AFTER_LOAD);
    else
        shard.registry_stale = true;
}

/* What the filter has not seen, or saw too early: commands that are renamed, or that a paused server runs later. */
static void see_settings(RedisModuleCtx *ctx) {
    shard.propagates = shard.propagates || (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_AOF) != 0;
    inner_forget();
}

static void on_cron(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event, (void)subevent, (void)data;
    static long long last;
    long long now = RedisModule_Milliseconds();
    if (now - last < 90 && now >= last) return;
    last = now;
    see_settings(ctx);
    barrier_collect();
    reads_collect();
    loads_collect();
    misses_look_again();
    workers_tick(ctx, cluster_is_ok);
    if (!shard.loading) aof_tick(ctx);
    if (!shard_may_write()) return;
    tag_check(ctx);
    registry_drop_strays(ctx);
    lanes_weigh_again(ctx);
    registry_finish_drained(ctx);
    registry_write_if_dirty(ctx);
    through_tick(ctx);
}

static void on_client(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)ctx, (void)event;
    if (subevent == REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED)
        through_see_leaving(((RedisModuleClientInfo *)data)->id);
}

static void on_shutdown(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)ctx, (void)event, (void)subevent, (void)data;
    workers_shutdown();
}

static RedisModuleCommandFilter *filter;

static bool register_filter(RedisModuleCtx *ctx) {
    filter = RedisModule_RegisterCommandFilter(ctx, filter_command, REDISMODULE_CMDFILTER_NOSELF);
    return filter != NULL;
}

/* Filters run in the order of their registration. Ours has to see the arguments as no other one changes them any
 * more. */
static void on_module(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event, (void)data;
    if (subevent != REDISMODULE_SUBEVENT_MODULE_LOADED) return;
    if (RedisModule_UnregisterCommandFilter(ctx, filter) == REDISMODULE_OK) register_filter(ctx);
}

static bool take_argument(RedisModuleCtx *ctx, Slice name, Slice value) {
    if (slice_is(name, "python")) {
        shard.python = slice_copy(value);
    } else if (slice_is(name, "url")) {
        shard.worker_url = slice_copy(value);
    } else if (slice_is(name, "supervise") && (slice_is(value, "yes") || slice_is(value, "no"))) {
        shard.supervise = slice_is(value, "yes");
    } else {
        RedisModule_Log(ctx, "warning",
                        "gearsync can't be loaded: argument %.*s %.*s is unknown; use PYTHON path, URL url, "
                        "SUPERVISE yes|no",
                        (int)name.len, name.bytes, (int)value.len, value.bytes);
        return false;
    }
    return true;
}

static bool take_arguments(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    shard.supervise = true;
    if (argc % 2 != 0) {
        RedisModule_Log(ctx, "warning", "gearsync can't be loaded: each argument is a name and a value");
        return false;
    }
    for (int i = 0; i < argc; i += 2)
        if (!take_argument(ctx, string_slice(argv[i]), string_slice(argv[i + 1]))) return false;
    if (shard.python == NULL) shard.python = slice_copy((Slice){"python3", 7});
    return true;
}

/* The database of the client whose command an event of another database is about; -1: it is its own, or not known. */
static int db_of_client(int db, int type, const char *event) {
    static int moved_from = -1;
    if (!(type & REDISMODULE_NOTIFY_GENERIC)) return -1;
    if (strcmp(event, "copy_to") == 0) return shard.copies_from;
    if (strcmp(event, "move_to") == 0) return moved_from;
    if (strcmp(event, "move_from") == 0) moved_from = db;
    return -1;
}

/* Valkey 9.1 calls the client's database the selected one in MULTI, also where an event is about another one. The key
 * is opened where the event is. */
static int db_of_event(RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *name) {
    int db = RedisModule_GetSelectedDb(ctx);
    bool other =
        (type & REDISMODULE_NOTIFY_GENERIC) && (strcmp(event, "copy_to") == 0 || strcmp(event, "move_to") == 0);
    if (!other || !shard.has_jobs || RedisModule_GetDbIdFromModuleKey == NULL) return db;
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_OPEN_KEY_NOEFFECTS);
    if (key == NULL) return db;
    db = RedisModule_GetDbIdFromModuleKey(key);
    RedisModule_CloseKey(key);
    return db;
}

/* Valkey 8.1 tells of an event in the name of the client itself, and leaves it in the event's database. */
static int on_key(RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *key) {
    int db = db_of_event(ctx, type, event, key), own = db_of_client(db, type, event);
    int result = capture_on_event(ctx, db, type, event, key);
    /* Behind the capture: whether a change of the key waits is known by then. */
    if (shard.nreads > 0 && shard.primary && !shard.loading) misses_overtake(ctx, db, key);
    if (own >= 0) RedisModule_SelectDb(ctx, own);
    return result;
}

static bool subscribe(RedisModuleCtx *ctx) {
    static const struct {
        uint64_t id;
        RedisModuleEventCallback callback;
    } events[] = {
        {REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, on_role},
        {REDISMODULE_EVENT_LOADING, on_loading},
        {REDISMODULE_EVENT_FLUSHDB, flush_on_event},
        {REDISMODULE_EVENT_CRON_LOOP, on_cron},
        {REDISMODULE_EVENT_SHUTDOWN, on_shutdown},
        {REDISMODULE_EVENT_CLIENT_CHANGE, on_client},
        {REDISMODULE_EVENT_MODULE_CHANGE, on_module},
    };
    const int types = REDISMODULE_NOTIFY_GENERIC | REDISMODULE_NOTIFY_STRING | REDISMODULE_NOTIFY_LIST |
                      REDISMODULE_NOTIFY_SET | REDISMODULE_NOTIFY_HASH | REDISMODULE_NOTIFY_ZSET |
                      REDISMODULE_NOTIFY_EXPIRED | REDISMODULE_NOTIFY_EVICTED | REDISMODULE_NOTIFY_STREAM |
                      REDISMODULE_NOTIFY_MODULE;
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        RedisModuleEvent event = {events[i].id, 1};
        if (RedisModule_SubscribeToServerEvent(ctx, event, events[i].callback) != REDISMODULE_OK) return false;
    }
    return RedisModule_SubscribeToKeyspaceEvents(ctx, types, on_key) == REDISMODULE_OK && register_filter(ctx) &&
           RedisModule_RegisterInfoFunc(ctx, status_info) == REDISMODULE_OK;
}

/* Whether an AOF or replicas are there already. Later ones announce themselves to the command filter. */
static bool has_readers(RedisModuleCtx *ctx) {
    bool none = false;
    RedisModuleCallReply *info = RedisModule_Call(ctx, "INFO", "c", "replication");
    if (info != NULL && RedisModule_CallReplyType(info) == REDISMODULE_REPLY_STRING) {
        Slice text;
        text.bytes = RedisModule_CallReplyStringPtr(info, &text.len);
        char *copy = slice_copy(text);
        none = strstr(copy, "\nconnected_slaves:0") != NULL && strstr(copy, "\nrepl_backlog_active:0") != NULL;
        RedisModule_Free(copy);
    }
    if (info != NULL) RedisModule_FreeCallReply(info);
    return !none || shard.cluster || (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_AOF) != 0;
}

/* Some servers lack single functions of the API: then nothing of the module would be sound. */
static bool check_api(RedisModuleCtx *ctx, const char *missing) {
    if (missing == NULL) return true;
    if (RedisModule_Log != NULL)
        RedisModule_Log(
            ctx, "warning",
            "gearsync can't be loaded: this server's module API lacks %s; gearsync needs Redis 6.2 or newer, or Valkey",
            missing);
    return false;
}

static void start_shard(RedisModuleCtx *ctx) {
    memset(&shard, 0, sizeof(shard));
    int flags = RedisModule_GetContextFlags(ctx);
    shard.primary = (flags & REDISMODULE_CTX_FLAGS_MASTER) != 0;
    shard.loading = (flags & REDISMODULE_CTX_FLAGS_LOADING) != 0;
    shard.cluster = (flags & REDISMODULE_CTX_FLAGS_CLUSTER) != 0;
    shard.has_jobs = RedisModule_AddPostNotificationJob != NULL;
    shard.server_version = RedisModule_GetServerVersion();
    shard.heals = shard.server_version < 0x070000;
    shard.detached = RedisModule_GetDetachedThreadSafeContext(ctx);
    shard.propagates = has_readers(ctx);
    if (!shard.cluster) cluster_choose_tag(ctx);
}

static void end_shard(void) {
    slots_forget();
    registry_free();
    capture_free();
    given_forget();
    waiting_forget();
    marks_forget();
    move_forget();
    through_free();
    soon_free();
    RedisModule_FreeThreadSafeContext(shard.detached);
    if (shard.python != NULL) RedisModule_Free(shard.python);
    if (shard.worker_url != NULL) RedisModule_Free(shard.worker_url);
    memset(&shard, 0, sizeof(shard));
}

EXPORT int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (!check_api(ctx, api_resolve(ctx))) return REDISMODULE_ERR;
    if (RedisModule_IsModuleNameBusy("gearsync")) {
        RedisModule_Log(ctx, "warning", "gearsync can't be loaded: it is loaded already; unload it first");
        return REDISMODULE_ERR;
    }
    RedisModule_SetModuleAttribs(ctx, "gearsync", GEARSYNC_VERSION, REDISMODULE_APIVER_1);
    start_shard(ctx);
    if (!take_arguments(ctx, argv, argc) || commands_register(ctx) != REDISMODULE_OK || !subscribe(ctx)) {
        end_shard();
        return REDISMODULE_ERR;
    }
    /* Loaded into a running server: its deployments are there already. */
    if (shard.primary && !shard.loading) take_over(ctx, AFTER_MODULE_LOAD);
    shard.registry_stale = !shard.primary;
    RedisModule_Log(ctx, "notice", GEARSYNC_MARK " loaded: capture by %s",
                    shard.has_jobs ? "post-notification jobs" : "notifications");
    return REDISMODULE_OK;
}

/* What the server would call after the module is gone; newer servers refuse by themselves while there are timers. */
static const char *what_is_pending(void) {
    if (capture_is_pending()) return "changes of this transaction are still to be captured";
    if (flush_is_pending()) return "a flush is still to be made good for the replicas and the AOF";
    if (through_is_pending()) return "clients wait for the SQL commit of their writes";
    return resharding_is_pending() ? "lanes are about to leave their slot" : NULL;
}

EXPORT int RedisModule_OnUnload(RedisModuleCtx *ctx) {
    const char *pending = what_is_pending();
    if (pending != NULL) {
        RedisModule_Log(ctx, "warning", "gearsync can't be unloaded now: %s; try again", pending);
        return REDISMODULE_ERR;
    }
    registry_write_if_dirty(ctx);
    if (shard.primary && shard.nrules > 0)
        RedisModule_Log(ctx, "warning",
                        "gearsync is unloaded with %d deployments: what is written until it is loaded again is not "
                        "captured (docs/guide.md says how to change the module without a gap)",
                        shard.count);
    workers_unload();
    end_shard();
    return REDISMODULE_OK;
}
