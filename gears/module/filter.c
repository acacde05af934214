/* The command filter: sees every command before it runs, so that its first lines decide nearly always. */
#include "main.h"

#include <string.h>

#include "capture/capture.h"
#include "clients/inner.h"
#include "clients/sender.h"
#include "cluster/cluster.h"
#include "lanes/backlog.h"
#include "lanes/units.h"
#include "reads/reads.h"
#include "resharding/resharding.h"
#include "through/through.h"

static Slice argument(RedisModuleCommandFilterCtx *filter, int at) {
    return string_slice(RedisModule_CommandFilterArgGet(filter, at));
}

/* Commands after which somebody may read what we replicate: a replica that attaches, or an AOF that is turned on.
 * Until the first of them the module spares itself the work. */
static bool starts_propagation(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    if (argc > 1 && slice_is(name, "config")) return slice_is(argument(filter, 1), "set");
    return slice_is(name, "psync") || slice_is(name, "sync") || slice_is(name, "replicaof") ||
           slice_is(name, "slaveof") || slice_is(name, "failover");
}

/* Holds until the next command: one that was refused must not make a later flush look like a reload. */
static bool reloads(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    if (name.len != 5 || argc < 2 || !slice_is(name, "debug")) return false;
    Slice what = argument(filter, 1);
    return slice_is(what, "reload") || slice_is(what, "loadaof");
}

/* Whether the command that is about to run moves keys of a slot that changes its owner. */
static void see_move(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    shard.moving = MOVING_NOTHING;
    if (name.len == 7 && slice_is(name, "migrate")) {
        shard.moving = MOVING_AWAY;
        move_forget();
        resharding_see_migrate(filter, argc);
    } else if (name.len == 14 && slice_is(name, "restore-asking")) {
        shard.moving = MOVING_HERE;
    }
}

/* In a transaction on keys, a cluster of Redis 7.4 and newer or Valkey 8 takes every key for one of their slot: the
 * lanes would not be found, and so not be kept. */
static bool is_flush_that_loses_changes(RedisModuleCommandFilterCtx *filter, Slice name) {
    return shard.server_version >= 0x070400 && shard.primary && shard.count > 0 &&
           (slice_is(name, "flushall") || slice_is(name, "flushdb")) && sender_in_transaction(filter);
}

/* All of ours is in database 0: swapped away, changes that wait would come to SQL no more, and a restart would find
 * nothing deployed. No event tells what that does to the keys of users. */
static bool is_swap_that_loses_changes(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    if (name.len != 6 || argc != 3 || !slice_is(name, "swapdb") || !shard.primary || shard.count == 0) return false;
    return slice_is(argument(filter, 1), "0") || slice_is(argument(filter, 2), "0");
}

/* A queued command fails when it is queued, so that EXEC aborts, if the server does not know it. */
static void refuse(RedisModuleCommandFilterCtx *filter, const char *words) {
    RedisModule_CommandFilterArgReplace(filter, 0, RedisModule_CreateString(NULL, words, strlen(words)));
}

/* From 7.2 on, a command that waits as long as writes are paused passes no filter again when it runs, and what was
 * noted of it is that of others by then: a key that changes its shard would pass for a deleted one. So it must not
 * wait; nor in a transaction, where no command passes the filter as it runs. NULL: it does not. */
static const char *why_not_later(RedisModuleCommandFilterCtx *filter, bool reload) {
    if (!shard.has_jobs || !shard.primary || (!reload && shard.moving == MOVING_NOTHING)) return NULL;
    if (RedisModule_AvoidReplicaTraffic())
        return "PAUSED: writes are paused, and gearsync can't tell what this is if it waits for that; try again";
    return sender_in_transaction(filter) ? "MULTI: gearsync can't tell what this is in a transaction; send it alone"
                                         : NULL;
}

static void see_read(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    inner_see_command(name);
    if (name.len == 6 && slice_is(name, "module")) loads_step_aside();
    if (shard.primary && !shard.loading) reads_filter(filter, name, argc);
}

/* The database of the client of a COPY (on_key); -1: there is none, or the server does not tell. */
static int db_of_copy(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    if (name.len != 4 || argc < 5 || !slice_is(name, "copy")) return -1;
    RedisModuleClientInfo info;
    return sender_of(filter, &info) ? info.db : -1;
}

void filter_command(RedisModuleCommandFilterCtx *filter) {
    Slice name = argument(filter, 0);
    int argc = RedisModule_CommandFilterArgsCount(filter);
    shard.copies_from = db_of_copy(filter, name, argc);
    if (shard.cluster) see_move(filter, name, argc);
    if (shard.whole) unit_see_command();
    if (!shard.propagates && starts_propagation(filter, name, argc)) shard.propagates = true;
    if (shard.through) inner_see_command(name);
    bool reload = reloads(filter, name, argc);
    const char *not_later = why_not_later(filter, reload);
    flush_expect_reload(reload);
    given_forget();
    if (shard.cluster && is_flush_that_loses_changes(filter, name))
        refuse(filter, "FLUSH: gearsync can't keep its changes in a transaction of a cluster; send it alone");
    else if (not_later != NULL)
        refuse(filter, not_later);
    else if (is_swap_that_loses_changes(filter, name, argc))
        refuse(filter, "SWAPDB: what gearsync has deployed, and the changes that wait, are in database 0");
    else if (shard.cluster && name.len == 7 && slice_is(name, "cluster"))
        resharding_see_cluster(filter, argc, opening_refusal);
    else if (!backlog_filter(filter, name, argc) && !through_filter(filter, name, argc)) {
        if (shard.nreads > 0) see_read(filter, name, argc);
        given_see_command(filter, name, argc);
    }
}
