/* What has to wait until the command in hand is over. Inside a command with keys, clusters of Redis 7.4 and newer, and
 * of Valkey 8, take every key for one of the command's slot, and a lane is of another: an entry that is added there
 * spoils the server's data. The end of the unit is no better for a client that is held, which the server counts as
 * inside its command.
 */
#include "soon.h"

#define PAUSE_MS 5 /* before the next attempt, while a failover keeps the data still */

typedef struct Work {
    struct Work *next;
    SoonFunction function;
    int db;
    RedisModuleString *key;
} Work;

static Work *first, *last;
static RedisModuleString *registry; /* the name of its key */
static bool timer_set;

bool soon_needed(void) { return shard.cluster && shard.has_jobs; }

/* The registry is there, but for a shard whose last slot has just gone. That a client was held can't be asked for: the
 * server, or another module, does it too. */
bool soon_is_due(RedisModuleCtx *ctx) {
    static char tag[sizeof(shard.tag)];
    if (!soon_needed() || shard.count == 0 || !shard.primary || shard.tag[0] == '\0') return false;
    if (registry == NULL || strcmp(tag, shard.tag) != 0) {
        soon_free();
        memcpy(tag, shard.tag, sizeof(tag));
        registry = RedisModule_CreateStringPrintf(NULL, KEY_PREFIX "%s}:registry", tag);
    }
    int db = RedisModule_GetSelectedDb(ctx);
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, registry, REDISMODULE_READ | REDISMODULE_OPEN_KEY_NOEFFECTS);
    if (key != NULL) RedisModule_CloseKey(key);
    RedisModule_SelectDb(ctx, db);
    return key == NULL;
}

void soon_free(void) {
    if (registry != NULL) RedisModule_FreeString(NULL, registry);
    registry = NULL;
}

static Work *take_first(void) {
    Work *work = first;
    first = work->next;
    if (first == NULL) last = NULL;
    return work;
}

/* On a server that has become a replica, those that wait have been let go. */
static void on_timer(RedisModuleCtx *ctx, void *data) {
    (void)data;
    timer_set = shard.primary && !shard_may_write();
    if (timer_set) {
        RedisModule_CreateTimer(ctx, PAUSE_MS, on_timer, NULL);
        return;
    }
    while (first != NULL) {
        Work *work = take_first();
        if (shard.primary) work->function(ctx, work->db, work->key);
        RedisModule_FreeString(NULL, work->key);
        RedisModule_Free(work);
    }
}

void soon_do(SoonFunction function, int db, RedisModuleString *key) {
    Work *work = RedisModule_Alloc(sizeof(*work));
    *work = (Work){NULL, function, db, RedisModule_HoldString(NULL, key)};
    if (last != NULL)
        last->next = work;
    else
        first = work;
    last = work;
    if (!timer_set) RedisModule_CreateTimer(shard.detached, 0, on_timer, NULL);
    timer_set = true;
}
