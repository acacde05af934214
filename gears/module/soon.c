/* What has to wait until the command in hand is over. Inside a command with keys, clusters of Redis 7.4 and newer, and of
 * Valkey 8, take every key for one of the command's slot, and a lane is of another: an entry that is added there spoils the
 * server's data. The end of the unit is no better for a client that is held, which the server counts as inside its command.
 */
#include "gearsync.h"

#define PAUSE_MS 5 /* before the next attempt, while a failover keeps the data still */

typedef struct Work {
    struct Work *next;
    SoonFunction function;
    int db;
    RedisModuleString *key;
} Work;

static Work *first, *last;
static bool timer_set;

bool soon_needed(void) { return shard.cluster && shard.has_jobs; }

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
