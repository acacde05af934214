/* Read-through, the worker's side: it takes misses (GEARSYNC.MISSES) and brings rows (GEARSYNC.LOADED), or says why
 * there are none (GEARSYNC.UNREAD). One connection takes those of one target at a time: who takes more has given up
 * what it took before. */
#include "misses.h"

#include <string.h>

#include "clients/rights.h"
#include "rows/rows.h"
#include "waits/keys.h"
#include "workers/workers.h"

#define MOST_TAKEN 10000
#define LONGEST_WAIT_MS 60000
#define ASIDE_MS 1000
#define TTL_MOST_MS (1LL << 50)
#define LATE_MS 20

/* A worker that waits for misses. */
typedef struct Taker {
    RedisModuleBlockedClient *client;
    char *deployment, *target;
    bool left;
    long long deadline_ms;
    struct Taker *next;
} Taker;

static Taker *takers;
static int on_misses(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
static long long aside_until_ms;

/* -- Who waits ----------------------------------------------------------------------------------------------------- */

static void let_go(Taker **at) {
    Taker *taker = *at;
    *at = taker->next;
    RedisModule_UnblockClient(taker->client, NULL);
    RedisModule_Free(taker->deployment);
    RedisModule_Free(taker->target);
    RedisModule_Free(taker);
}

void loads_wake(const Miss *miss) {
    const Deployment *deployment = miss->rule->deployment;
    for (Taker **at = &takers; *at != NULL; at = &(*at)->next) {
        /* One whose time is over in the very moment in which it is unblocked would get no reply from the server; its
         * timeout gives it what is there. */
        if ((*at)->left || (*at)->deadline_ms - RedisModule_Milliseconds() < LATE_MS ||
            strcmp((*at)->deployment, deployment->name) != 0 ||
            strcmp((*at)->target, deployment->targets[miss->rule->target]) != 0)
            continue;
        let_go(at);
        return;
    }
}

void loads_collect(void) {
    for (Taker **at = &takers; *at != NULL;) {
        if ((*at)->left)
            let_go(at);
        else
            at = &(*at)->next;
    }
}

/* The server does not unload a module that holds a client. */
void loads_step_aside(void) {
    aside_until_ms = workers_clock_ms() + ASIDE_MS;
    while (takers != NULL) let_go(&takers);
}

static Taker *taker_of(RedisModuleBlockedClient *client) {
    Taker *taker = takers;
    while (taker != NULL && taker->client != client) taker = taker->next;
    return taker;
}

static void on_disconnect(RedisModuleCtx *ctx, RedisModuleBlockedClient *client) {
    (void)ctx;
    Taker *taker = taker_of(client);
    if (taker != NULL) taker->left = true;
}

static int on_timeout(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    on_disconnect(ctx, RedisModule_GetBlockedClientHandle(ctx));
    return on_misses(ctx, argv, argc);
}

/* -- GEARSYNC.MISSES name version target max timeout-ms [digest] --------------------------------------------------- */

/* The deployment and the index of its target that a command is about, words from at on; NULL: the error is replied. */
static Deployment *find_target(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleString *target, int *index) {
    Deployment *deployment = shard.primary ? shard_find(string_slice(name)) : NULL;
    Slice wanted = string_slice(target);
    for (*index = 0; deployment != NULL && *index < deployment->ntargets; (*index)++)
        if (slice_equals(wanted, deployment->targets[*index])) return deployment;
    if (!shard.primary)
        shard_reply_replica(ctx);
    else
        RedisModule_ReplyWithError(ctx, "ERR there is no deployment of that name with that target here");
    return NULL;
}

static int reply_taken(RedisModuleCtx *ctx, const Deployment *deployment, int target, long long most) {
    long taken = 0;
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    for (Miss *miss = misses_first(MISS_QUEUED), *next; miss != NULL && taken < most; miss = next) {
        next = miss->next;
        if (miss->rule->deployment != deployment || miss->rule->target != target) continue;
        /* A change that no event has told of may have come since it was put in the queue. */
        miss_look(miss);
        if (miss->state != MISS_QUEUED) continue;
        miss_take(miss);
        RedisModule_ReplyWithArray(ctx, 3);
        RedisModule_ReplyWithLongLong(ctx, (long long)miss->token);
        RedisModule_ReplyWithLongLong(ctx, miss->rule - deployment->reads);
        RedisModule_ReplyWithString(ctx, miss->key);
        taken++;
    }
    RedisModule_ReplySetArrayLength(ctx, taken);
    return REDISMODULE_OK;
}

static bool any_queued(const Deployment *deployment, int target) {
    for (const Miss *miss = misses_first(MISS_QUEUED); miss != NULL; miss = miss->next)
        if (miss->rule->deployment == deployment && miss->rule->target == target) return true;
    return false;
}

/* The words of the command; false: the error is replied. */
typedef struct {
    Deployment *deployment;
    int target;
    long long most, timeout_ms;
} Asked;

static bool parse_asked(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, Asked *asked) {
    long long version;
    if (RedisModule_StringToLongLong(argv[2], &version) != REDISMODULE_OK ||
        RedisModule_StringToLongLong(argv[4], &asked->most) != REDISMODULE_OK || asked->most < 1 ||
        asked->most > MOST_TAKEN || RedisModule_StringToLongLong(argv[5], &asked->timeout_ms) != REDISMODULE_OK ||
        asked->timeout_ms < 1 || asked->timeout_ms > LONGEST_WAIT_MS) {
        RedisModule_ReplyWithError(ctx, "ERR use GEARSYNC.MISSES name version target max timeout-ms [digest]");
        return false;
    }
    asked->deployment = find_target(ctx, argv[1], argv[3], &asked->target);
    if (asked->deployment == NULL) return false;
    bool is_same = argc < 7 || slice_is(string_slice(argv[6]), asked->deployment->digest);
    if (asked->deployment->version == version && is_same) return true;
    RedisModule_ReplyWithError(ctx, "ERR another version of the deployment is there by now");
    return false;
}

static int on_misses(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Asked asked;
    return parse_asked(ctx, argv, argc, &asked) ? reply_taken(ctx, asked.deployment, asked.target, asked.most)
                                                : REDISMODULE_OK;
}

static char *copy_of(RedisModuleString *string) { return slice_copy(string_slice(string)); }

int misses_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    Asked asked;
    if (argc != 6 && argc != 7) return RedisModule_WrongArity(ctx);
    if (!parse_asked(ctx, argv, argc, &asked)) return REDISMODULE_OK;
    misses_give_back(asked.deployment, asked.target);
    int denied = REDISMODULE_CTX_FLAGS_MULTI | REDISMODULE_CTX_FLAGS_LUA | REDISMODULE_CTX_FLAGS_DENY_BLOCKING;
    if (any_queued(asked.deployment, asked.target) || (RedisModule_GetContextFlags(ctx) & denied) ||
        workers_clock_ms() < aside_until_ms)
        return reply_taken(ctx, asked.deployment, asked.target, asked.most);
    Taker *taker = RedisModule_Calloc(1, sizeof(*taker));
    taker->deployment = copy_of(argv[1]);
    taker->target = copy_of(argv[3]);
    taker->client = RedisModule_BlockClient(ctx, on_misses, on_timeout, NULL, asked.timeout_ms);
    RedisModule_SetDisconnectCallback(taker->client, on_disconnect);
    taker->deadline_ms = RedisModule_Milliseconds() + asked.timeout_ms;
    taker->next = takers;
    takers = taker;
    return REDISMODULE_OK;
}

/* -- GEARSYNC.LOADED name target count {token ttl-ms nfields field value…}… ---------------------------------------- */

static Miss *find_taken(const Deployment *deployment, int target, long long token) {
    for (Miss *miss = misses_first(MISS_TAKEN); miss != NULL; miss = miss->next)
        if ((long long)miss->token == token && miss->rule->deployment == deployment && miss->rule->target == target)
            return miss;
    return NULL;
}

typedef struct {
    long long token, ttl_ms, nfields;
    RedisModuleString **fields;
} Loaded;

/* The next row; where the one after it begins, 0: the command is not well formed. */
static int parse_row(RedisModuleString **argv, int argc, int at, Loaded *row) {
    if (at + 2 >= argc || RedisModule_StringToLongLong(argv[at], &row->token) != REDISMODULE_OK ||
        RedisModule_StringToLongLong(argv[at + 1], &row->ttl_ms) != REDISMODULE_OK || row->ttl_ms < 0 ||
        row->ttl_ms > TTL_MOST_MS || RedisModule_StringToLongLong(argv[at + 2], &row->nfields) != REDISMODULE_OK ||
        row->nfields < -1 || row->nfields > (argc - at - 3) / 2)
        return 0;
    row->fields = argv + at + 3;
    return at + 3 + (row->nfields > 0 ? (int)row->nfields * 2 : 0);
}

static bool is_sound(RedisModuleString **argv, int argc, long long count) {
    Loaded row;
    int at = 4;
    for (long long i = 0; i < count && at > 0; i++) at = parse_row(argv, argc, at, &row);
    return at == argc;
}

/* One row becomes a hash, as far as it is still wanted and nothing newer has come; whether it did. */
static bool load(RedisModuleCtx *ctx, Miss *miss, const Loaded *row) {
    ReadRule *rule = miss->rule;
    Slice key = string_slice(miss->key);
    if (!put_is_ours(ctx, miss->key)) {
        miss_settle(miss, NULL);
        return false;
    }
    if (waiting_for(miss->db, key)) {
        miss_start_again(miss);
        return false;
    }
    miss_hide(miss);
    if (row->nfields <= 0) {
        rule->deployment->read_counts.missing++;
        if (miss->refresh) put_row(ctx, miss->db, miss->key, NULL, -1, 0, true);
        missing_remember(miss->db, miss->key, rule->missing_ms);
        miss_settle(miss, NULL);
        return false;
    }
    PutResult result = put_row(ctx, miss->db, miss->key, row->fields, row->nfields, row->ttl_ms, miss->refresh);
    rule->deployment->read_counts.loaded += result == PUT_DONE;
    miss_settle(miss, result == PUT_REFUSED ? "Redis has no memory for the row" : NULL);
    return result == PUT_DONE;
}

int loaded_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    int target;
    long long count, done = 0;
    if (argc < 4) return RedisModule_WrongArity(ctx);
    Deployment *deployment = find_target(ctx, argv[1], argv[2], &target);
    if (deployment == NULL) return REDISMODULE_OK;
    if (RedisModule_StringToLongLong(argv[3], &count) != REDISMODULE_OK || count < 0 || count > argc ||
        !is_sound(argv, argc, count))
        return RedisModule_ReplyWithError(
            ctx,
            "ERR use GEARSYNC.LOADED name target count {token ttl-ms nfields field value…}…, nfields -1 for no row");
    int before = RedisModule_GetSelectedDb(ctx);
    for (int at = 4; at < argc;) {
        Loaded row;
        at = parse_row(argv, argc, at, &row);
        Miss *miss = find_taken(deployment, target, row.token);
        done += miss != NULL && load(ctx, miss, &row);
    }
    reads_rows_done(ctx);
    RedisModule_SelectDb(ctx, before);
    return RedisModule_ReplyWithLongLong(ctx, done);
}

/* GEARSYNC.UNREAD name target sentence token…: the number of misses that are over by that. */
int unread_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    int target;
    long long token, over = 0;
    if (argc < 4) return RedisModule_WrongArity(ctx);
    Deployment *deployment = find_target(ctx, argv[1], argv[2], &target);
    if (deployment == NULL) return REDISMODULE_OK;
    char *sentence = copy_of(argv[3]);
    for (char *at = sentence; *at != '\0'; at++)
        if (*at == '\r' || *at == '\n') *at = ' ';
    for (int i = 4; i < argc; i++) {
        Miss *miss = RedisModule_StringToLongLong(argv[i], &token) == REDISMODULE_OK
                         ? find_taken(deployment, target, token)
                         : NULL;
        if (miss == NULL) continue;
        miss_settle(miss, sentence);
        over++;
    }
    RedisModule_Free(sentence);
    reads_rows_done(ctx);
    return RedisModule_ReplyWithLongLong(ctx, over);
}
