/* Barriers: GEARSYNC.WAIT blocks its client until all that was captured before it is acknowledged. */
#include "barrier.h"

#include <string.h>

#include "lanes/ids.h"
#include "pauses/hold.h"
#include "pauses/pause.h"
#include "registry/registry.h"

/* Some 30 years. The server does not take a time that overflows, and answers in our place without blocking the
 * client. */
#define TIMEOUT_MOST_MS (1LL << 40)

typedef struct {
    char *stream;
    RedisModuleStreamID id;
} Mark;

typedef struct Waiter {
    RedisModuleBlockedClient *client;
    char *key; /* only its changes matter; NULL: those of any key */
    size_t key_len;
    Mark *marks;
    int count;
    bool left;             /* timed out or disconnected: only to be freed */
    long long deadline_ms; /* 0: none */
    struct Waiter *next;
} Waiter;

static Waiter *waiters;

/* REACHED: all up to the mark is in SQL; HELD: but for changes of functions and targets that are paused. */
typedef enum { WAITS, HELD, REACHED } Reach;

static Reach reach_of_lane(const Waiter *waiter, const Mark *mark, const Deployment *deployment, const Lane *lane) {
    Slice key = {waiter->key, waiter->key_len};
    bool all_paused = true, passed = lane->length == 0 || stream_id_compare(lane->acked, mark->id) >= 0;
    if (lane->function != NULL) {
        const Hold *hold = hold_find(deployment, lane->function);
        return passed ? REACHED : hold != NULL && hold->paused ? HELD : WAITS;
    }
    if (!passed) return WAITS;
    if (deployment->nholds == 0 ||
        !held_before(shard.detached, deployment, lane, mark->id, waiter->key != NULL ? &key : NULL, &all_paused))
        return REACHED;
    return all_paused ? HELD : WAITS;
}

static Reach reach_of(const Waiter *waiter, const Mark *mark) {
    Deployment *deployment = NULL;
    Lane *lane = shard_find_lane((Slice){mark->stream, strlen(mark->stream)}, &deployment);
    if (lane == NULL) return REACHED;
    Reach reach = reach_of_lane(waiter, mark, deployment, lane);
    return reach == WAITS && pause_is_of_target(deployment, lane->target) ? HELD : reach;
}

/* The least of all marks: HELD when nothing but paused functions and targets is in the way. */
static Reach reach_of_all(const Waiter *waiter) {
    Reach least = REACHED;
    for (int i = 0; i < waiter->count && least != WAITS; i++) {
        Reach reach = reach_of(waiter, &waiter->marks[i]);
        if (reach < least) least = reach;
    }
    return least;
}

static bool mark_reached(const Waiter *waiter, const Mark *mark) { return reach_of(waiter, mark) == REACHED; }

static bool all_reached(const Waiter *waiter) { return reach_of_all(waiter) == REACHED; }

static void waiter_free(Waiter *waiter) {
    for (int i = 0; i < waiter->count; i++) RedisModule_Free(waiter->marks[i].stream);
    if (waiter->marks != NULL) RedisModule_Free(waiter->marks);
    if (waiter->key != NULL) RedisModule_Free(waiter->key);
    RedisModule_Free(waiter);
}

static void add_mark(Waiter *waiter, const Lane *lane, RedisModuleStreamID last) {
    if (lane->length == 0) return;
    waiter->marks = RedisModule_Realloc(waiter->marks, sizeof(Mark) * (size_t)(waiter->count + 1));
    waiter->marks[waiter->count++] = (Mark){slice_copy(string_slice(lane->stream)), last};
}

static bool is_of(const Mark *mark, const Lane *lane) { return slice_equals(string_slice(lane->stream), mark->stream); }

/* Takes the mark of a lane out; false: there is none, or it was reached. */
static bool take_mark(Waiter *waiter, const Lane *lane) {
    for (int i = 0; i < waiter->count; i++) {
        if (!is_of(&waiter->marks[i], lane)) continue;
        bool open = stream_id_compare(lane->acked, waiter->marks[i].id) < 0;
        RedisModule_Free(waiter->marks[i].stream);
        waiter->marks[i] = waiter->marks[--waiter->count];
        return open;
    }
    return false;
}

void barrier_lane_moved(Deployment *deployment, const Lane *old) {
    for (Waiter *waiter = waiters; waiter != NULL; waiter = waiter->next) {
        if (!take_mark(waiter, old)) continue;
        for (int i = 0; i < deployment->lane_count; i++) {
            Lane *lane = deployment->lanes[i];
            if (!lane->retired && strcmp(lane->target, old->target) == 0) add_mark(waiter, lane, lane->last);
        }
    }
}

static bool covers(const Deployment *deployment, Slice key) {
    for (int i = 0; i < deployment->nrules; i++)
        if (template_matches(&deployment->rules[i].template, key)) return true;
    return false;
}

/* Which change of a lane is the last that may be of a key; false: none can be. A retired lane may hold any key, and
 * what earlier versions captured may be of keys that this one does not cover. */
static bool last_of_key(const Deployment *deployment, const Lane *lane, Slice key, bool covered,
                        RedisModuleStreamID *last) {
    *last = lane->last;
    if (lane->function != NULL) return hold_concerns(deployment, lane, -1, key);
    if (!lane->retired && key_hash(key) % (uint64_t)lane->count != (uint64_t)lane->index) return false;
    return covered || lane->retired || earlier_waits(deployment, lane, last);
}

/* The lanes to wait for: all, one deployment's, or those that hold one key's changes. */
static void collect(Waiter *waiter, const Deployment *only, const Slice *key) {
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        if (only != NULL && deployment != only) continue;
        bool covered = key == NULL || covers(deployment, *key);
        for (int j = 0; j < deployment->lane_count; j++) {
            const Lane *lane = deployment->lanes[j];
            RedisModuleStreamID last = lane->last;
            if (key == NULL || last_of_key(deployment, lane, *key, covered, &last)) add_mark(waiter, lane, last);
        }
    }
}

static const char held_back[] =
    "PAUSED all else is in SQL, and changes of what is paused are held back; see GEARSYNC.STATUS";

static int reply_reached(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv, (void)argc;
    const char *error = RedisModule_GetBlockedClientPrivateData(ctx);
    return error != NULL ? RedisModule_ReplyWithError(ctx, error) : RedisModule_ReplyWithSimpleString(ctx, "OK");
}

static Waiter *waiter_of(RedisModuleBlockedClient *client) {
    Waiter *waiter = waiters;
    while (waiter != NULL && waiter->client != client) waiter = waiter->next;
    return waiter;
}

static int reply_timeout(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv, (void)argc;
    Waiter *waiter = waiter_of(RedisModule_GetBlockedClientHandle(ctx));
    if (waiter != NULL && (!shard.primary || all_reached(waiter))) {
        waiter->left = true;
        return shard.primary ? RedisModule_ReplyWithSimpleString(ctx, "OK") : shard_reply_replica(ctx);
    }
    Text text = {0};
    text_printf(&text, "TIMEOUT not all changes are in SQL yet:");
    for (int i = 0; waiter != NULL && i < waiter->count; i++) {
        if (mark_reached(waiter, &waiter->marks[i])) continue;
        Lane *lane = shard_find_lane((Slice){waiter->marks[i].stream, strlen(waiter->marks[i].stream)}, NULL);
        if (lane != NULL) text_printf(&text, " %zu in %s;", lane->length, waiter->marks[i].stream);
    }
    text_printf(&text, " see GEARSYNC.STATUS");
    if (waiter != NULL) waiter->left = true;
    int result = RedisModule_ReplyWithError(ctx, text.bytes);
    text_free(&text);
    return result;
}

static void on_disconnect(RedisModuleCtx *ctx, RedisModuleBlockedClient *client) {
    (void)ctx;
    Waiter *waiter = waiter_of(client);
    if (waiter != NULL) waiter->left = true;
}

/* Each form at most once: of two, one would go unheard. NULL, or the error. */
static const char *parse_scope(RedisModuleString **argv, int argc, Deployment **only, Slice *key, bool *has_key) {
    static const char *const usage = "ERR use GEARSYNC.WAIT timeout-ms [DEPLOYMENT name] [KEY key]";
    for (int i = 2; i < argc; i += 2) {
        Slice word = string_slice(argv[i]);
        if (i + 1 < argc && slice_is(word, "deployment") && *only == NULL) {
            *only = shard_find(string_slice(argv[i + 1]));
            if (*only == NULL) return "ERR there is no deployment of that name on this server";
        } else if (i + 1 < argc && slice_is(word, "key") && !*has_key) {
            *key = string_slice(argv[i + 1]);
            *has_key = true;
        } else {
            return usage;
        }
    }
    return NULL;
}

int barrier_wait_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    long long timeout;
    Deployment *only = NULL;
    Slice key = {NULL, 0};
    bool has_key = false;
    if (argc < 2) return RedisModule_WrongArity(ctx);
    if (RedisModule_StringToLongLong(argv[1], &timeout) != REDISMODULE_OK || timeout < 0 || timeout > TIMEOUT_MOST_MS)
        return RedisModule_ReplyWithError(ctx, "ERR the timeout must be milliseconds up to 2^40, 0 for no limit");
    if (!shard.primary) return shard_reply_replica(ctx);
    /* Also when nothing waits yet: what was written in the same MULTI or script is captured at its end. */
    int denied = REDISMODULE_CTX_FLAGS_MULTI | REDISMODULE_CTX_FLAGS_LUA | REDISMODULE_CTX_FLAGS_DENY_BLOCKING;
    if (RedisModule_GetContextFlags(ctx) & denied)
        return RedisModule_ReplyWithError(ctx, "ERR GEARSYNC.WAIT can't wait inside MULTI or a script");
    const char *error = parse_scope(argv, argc, &only, &key, &has_key);
    if (error != NULL) return RedisModule_ReplyWithError(ctx, error);
    Waiter *waiter = RedisModule_Calloc(1, sizeof(*waiter));
    collect(waiter, only, has_key ? &key : NULL);
    if (has_key) {
        waiter->key = slice_copy(key);
        waiter->key_len = key.len;
    }
    Reach reach = reach_of_all(waiter);
    if (reach != WAITS) {
        waiter_free(waiter);
        return reach == HELD ? RedisModule_ReplyWithError(ctx, held_back)
                             : RedisModule_ReplyWithSimpleString(ctx, "OK");
    }
    waiter->client = RedisModule_BlockClient(ctx, reply_reached, reply_timeout, NULL, timeout);
    RedisModule_SetDisconnectCallback(waiter->client, on_disconnect);
    waiter->deadline_ms = timeout > 0 ? RedisModule_Milliseconds() + timeout : 0;
    waiter->next = waiters;
    waiters = waiter;
    return REDISMODULE_OK;
}

static void release(bool (*due)(const Waiter *), const char *error) {
    for (Waiter **at = &waiters; *at != NULL;) {
        Waiter *waiter = *at;
        if (!due(waiter)) {
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        RedisModule_UnblockClient(waiter->client, (void *)(uintptr_t)error);
        waiter_free(waiter);
    }
}

/* A client whose time is over in the very moment in which it is unblocked would get no reply from the server: the
 * timeout itself then says that all is reached. */
static bool is_at_its_end(const Waiter *waiter) {
    return waiter->deadline_ms != 0 && waiter->deadline_ms - RedisModule_Milliseconds() < 50;
}

static bool waits_on(const Waiter *waiter) { return !waiter->left && !is_at_its_end(waiter); }
static bool is_reached(const Waiter *waiter) { return waits_on(waiter) && all_reached(waiter); }
static bool is_held(const Waiter *waiter) { return waits_on(waiter) && reach_of_all(waiter) == HELD; }
static bool has_left(const Waiter *waiter) { return waiter->left; }

void barrier_check(void) {
    release(is_reached, NULL);
    release(is_held, held_back);
}
void barrier_collect(void) { release(has_left, NULL); }
void barrier_fail_all(const char *error) { release(waits_on, error); }

int barrier_waiting(void) {
    int count = 0;
    for (Waiter *waiter = waiters; waiter != NULL; waiter = waiter->next) count += !waiter->left;
    return count;
}
