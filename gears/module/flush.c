/* FLUSHALL and FLUSHDB take every key, so also the changes that wait. They are saved when a flush starts and put back
 * right after it: here at once, and for replicas and the AOF from a timer, because what an event replicates stands
 * before the flush itself. The timer runs in the same turn of the event loop, so before the AOF is written out.
 */
#include "main.h"

#include <errno.h>
#include <string.h>

#include "capture/capture.h"
#include "cluster/cluster.h"
#include "lanes/copies.h"
#include "lanes/lanes.h"
#include "registry/registry.h"
#include "through/through.h"

#define PAUSE_MS 10 /* between two looks whether writes are still paused */

typedef struct {
    RedisModuleString *key, *payload; /* as DUMP gives it; NULL: there is a copy */
    Copy *copy;
} Saved;

static Saved *saved;
static int saved_count;
static bool reload_expected; /* DEBUG RELOAD empties the server only to load it again */
static bool timer_set;

void flush_expect_reload(bool expected) { reload_expected = expected; }
void flush_reload_done(void) { reload_expected = false; }
bool flush_is_pending(void) { return timer_set; }

/* Whether the server takes RESTORE of such a key, also while there is none; as it does not where its slot is on its way
 * or the cluster is down, nor where the command has another name. */
static bool is_restored(RedisModuleCtx *ctx, RedisModuleString *key) {
    if (shard.cluster) return cluster_is_ok(ctx) && cluster_slot_state(ctx, key_slot(string_slice(key))) == SLOT_OWN;
    errno = 0;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "RESTORE", "");
    bool known = errno != ENOENT;
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return known;
}

/* NULL: there is none, or the server can't do it. */
static RedisModuleString *dump(RedisModuleCtx *ctx, RedisModuleString *key) {
    RedisModule_SelectDb(ctx, 0);
    RedisModuleString *payload = NULL;
    if (!is_restored(ctx, key)) return NULL;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "DUMP", "s", key);
    if (reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_STRING) {
        size_t len;
        const char *bytes = RedisModule_CallReplyStringPtr(reply, &len);
        payload = RedisModule_CreateString(NULL, bytes, len);
    }
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return payload;
}

/* CLUSTER RESET makes a replica a primary before it flushes it: what that has is its shard's, which lives on. */
static bool is_ours(RedisModuleCtx *ctx, RedisModuleString *key) {
    return !shard.cluster || cluster_slot_state(ctx, key_slot(string_slice(key))) != SLOT_STRANGE;
}

static void save_key(RedisModuleCtx *ctx, RedisModuleString *key) {
    RedisModuleString *payload = dump(ctx, key);
    Copy *copy = payload == NULL && is_ours(ctx, key) ? copy_take(ctx, key) : NULL;
    if (payload == NULL && copy == NULL) return;
    saved = RedisModule_Realloc(saved, sizeof(Saved) * (size_t)(saved_count + 1));
    saved[saved_count++] = (Saved){RedisModule_HoldString(NULL, key), payload, copy};
}

static void forget_saved(void) {
    for (int i = 0; i < saved_count; i++) {
        RedisModule_FreeString(NULL, saved[i].key);
        if (saved[i].payload != NULL) RedisModule_FreeString(NULL, saved[i].payload);
        if (saved[i].copy != NULL) copy_free(saved[i].copy);
    }
    if (saved != NULL) RedisModule_Free(saved);
    saved = NULL;
    saved_count = 0;
}

/* Calls visit for each key of ours that holds something a user would miss. */
static void each_key(RedisModuleCtx *ctx, void (*visit)(RedisModuleCtx *, RedisModuleString *)) {
    for (int i = 0; i < shard.count; i++) registry_each_key(ctx, shard.deployments[i], visit);
}

static bool load_payload(RedisModuleCtx *ctx, RedisModuleString *key, RedisModuleString *payload) {
    RedisModule_SelectDb(ctx, 0);
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "RESTORE", "scsc", key, "0", payload, "REPLACE");
    bool done = reply != NULL && RedisModule_CallReplyType(reply) != REDISMODULE_REPLY_ERROR;
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return done;
}

static void restore(RedisModuleCtx *ctx, const Saved *one) {
    if (one->copy != NULL ? !copy_put(ctx, one->key, one->copy) : !load_payload(ctx, one->key, one->payload))
        RedisModule_Log(ctx, "warning", "a change stream could not be put back after a flush: %s",
                        RedisModule_StringPtrLen(one->key, NULL));
}

static void replicate_key(RedisModuleCtx *ctx, RedisModuleString *key) {
    RedisModuleString *payload = dump(ctx, key);
    Copy *copy = payload == NULL ? copy_take(ctx, key) : NULL;
    if (copy != NULL) {
        copy_replicate(ctx, key, copy);
        copy_free(copy);
    }
    if (payload == NULL) return;
    RedisModule_Replicate(ctx, "RESTORE", "scsc", key, "0", payload, "REPLACE");
    RedisModule_FreeString(NULL, payload);
}

static void on_timer(RedisModuleCtx *ctx, void *data) {
    (void)data;
    timer_set = shard.primary && !shard_may_write();
    if (timer_set) RedisModule_CreateTimer(ctx, PAUSE_MS, on_timer, NULL);
    if (!shard_may_write()) return;
    RedisModule_SelectDb(ctx, 0);
    registry_write(ctx, true);
    each_key(ctx, replicate_key);
}

static void flush_starts(RedisModuleCtx *ctx) {
    forget_saved();
    each_key(ctx, save_key);
}

static void flush_ended(RedisModuleCtx *ctx, int db) {
    size_t waiting = 0;
    shard.writing_registry = true;
    for (int i = 0; i < saved_count; i++) restore(ctx, &saved[i]);
    shard.writing_registry = false;
    forget_saved();
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++) {
            Lane *lane = shard.deployments[i]->lanes[j];
            lane_refresh(ctx, lane);
            if (lane->length == 0) lane->acked = (RedisModuleStreamID){0, 0};
            waiting += lane->length;
        }
    /* A lane that was empty starts anew: its ids could fall behind the checkpoint if the clock was set back. */
    registry_note_flush();
    registry_write(ctx, false);
    capture_flush(ctx, db);
    RedisModule_Log(
        ctx, "warning",
        "the server was flushed: %zu waiting changes of %d deployments are kept; tables keep their rows unless "
        "a mapping says on_flush=\"delete\"",
        waiting, shard.count);
    if (!timer_set) RedisModule_CreateTimer(ctx, 0, on_timer, NULL);
    timer_set = true;
}

/* Another database than that of our keys: nothing has to be saved. What the event replicates stands before the flush,
 * so no crash can keep the flush and lose its mark. */
static void other_ended(RedisModuleCtx *ctx, int db) {
    if (shard.heals) {
        registry_note_flush();
        registry_write(ctx, true);
    }
    capture_flush(ctx, db);
}

void flush_on_event(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event;
    int db = ((RedisModuleFlushInfo *)data)->dbnum;
    if (!shard.primary || shard.loading || reload_expected || shard.count == 0) return;
    if (subevent == REDISMODULE_SUBEVENT_FLUSHDB_START) {
        capture_before_flush(ctx, db);
        through_see_flush();
    }
    if (db > 0) {
        if (subevent == REDISMODULE_SUBEVENT_FLUSHDB_END) other_ended(ctx, db);
    } else if (subevent == REDISMODULE_SUBEVENT_FLUSHDB_START) {
        flush_starts(ctx);
    } else {
        flush_ended(ctx, db);
    }
}
