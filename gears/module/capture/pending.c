/* Events are noted, and captured at the end of their unit: where the server has post-notification jobs. */
#include "capture.h"
#include "events.h"

#include <string.h>

#include "changes/entry.h"
#include "changes/image.h"
#include "changes/kinds.h"
#include "clients/soon.h"
#include "lanes/units.h"
#include "listeners.h"
#include "resharding/resharding.h"

static Event *pending;
static int pending_count, pending_capacity, pending_running;
static bool job_set; /* the server calls us at the end of the unit */

#define FEW 64 /* keys, or events, that are looked through one by one */

/* Of each event from one up to another, the index of the next one of its key; 0: there is none. */
static int *followers, followed_from, followed;

void capture_free(void) {
    image_forget_metas();
    entry_free_shared();
    kinds_free();
    if (pending != NULL) RedisModule_Free(pending);
    if (followers != NULL) RedisModule_Free(followers);
    followers = NULL;
    followed = 0;
    pending = NULL;
    pending_count = pending_capacity = pending_running = 0;
    job_set = false;
}

bool capture_is_pending(void) { return pending_count > 0; }

static bool is_about(const Event *event, int db, Slice key) {
    return event->db == db && !(event->cause & CAUSE_DONE) && slices_equal(string_slice(event->key), key);
}

static bool is_noted_from(int at, int db, Slice key) {
    for (int i = at; i < pending_count; i++)
        if (is_about(&pending[i], db, key)) return true;
    return false;
}

bool capture_is_noted(int db, Slice key) { return is_noted_from(pending_running, db, key); }

/* Whether an event that was noted after the one in hand tells more of the key. */
bool pending_tells_more(int db, Slice key) { return is_noted_from(pending_running + 1, db, key); }

/* For a unit of many events, each of which will ask for those of its key. */
static void find_followers(void) {
    RedisModuleDict *last = RedisModule_CreateDict(NULL);
    followers = RedisModule_Realloc(followers, sizeof(*followers) * (size_t)pending_count);
    for (int i = pending_running; i < pending_count; i++) {
        Text name = {0};
        Slice key = string_slice(pending[i].key);
        text_printf(&name, "%d:", pending[i].db);
        text_add(&name, key.bytes, key.len);
        uintptr_t before = (uintptr_t)RedisModule_DictGetC(last, name.bytes, name.len, NULL);
        if (before > 0) {
            followers[before - 1] = i;
            RedisModule_DictDelC(last, name.bytes, name.len, NULL);
        }
        followers[i] = 0;
        RedisModule_DictSetC(last, name.bytes, name.len, (void *)(uintptr_t)(i + 1));
        text_free(&name);
    }
    RedisModule_FreeDict(NULL, last);
    followed_from = pending_running;
    followed = pending_count;
}

static void take(Event *event, Event *other) {
    if (!is_about(other, event->db, string_slice(event->key)) ||
        (other->cause & (CAUSE_ADOPTED | CAUSE_LEFT | CAUSE_CAME)))
        return;
    event->cause |= other->cause & ~(CAUSE_ASKED | CAUSE_FILL | CAUSE_APART);
    event->writes += other->writes;
    other->cause |= CAUSE_DONE;
}

/* What else the unit did with the key of event is a part of it: the operation is one for all. */
void pending_take(Event *event) {
    if (followed == 0 && pending_count > FEW) find_followers();
    bool known = pending_running >= followed_from && pending_running < followed;
    for (int i = known ? followers[pending_running] : 0; i > 0; i = followers[i]) take(event, &pending[i]);
    for (int i = known ? followed : pending_running + 1; i < pending_count; i++) take(event, &pending[i]);
}

/* What must stand before keys of slots that are on their way here does not part a transaction. */
static void put_marks_first(RedisModuleCtx *ctx) {
    for (int i = 0; i < pending_count && shard.primary && shard.tag[0] != '\0'; i++)
        slots_before_capture(ctx, string_slice(pending[i].key));
}

static void capture_pending(RedisModuleCtx *ctx) {
    if (shard.cluster && shard.whole) put_marks_first(ctx);
    /* Reading a key can expire it or one of its fields, which notes more; those run in this loop as well. */
    for (pending_running = 0; pending_running < pending_count; pending_running++) {
        Event event = pending[pending_running];
        if (shard.primary) capture_event(ctx, event);
        RedisModule_FreeString(NULL, event.key);
    }
    pending_count = pending_running = followed = 0;
    unit_end();
}

static void capture_late(RedisModuleCtx *ctx, int db, RedisModuleString *key) {
    (void)db, (void)key;
    if (pending_count > 0) capture_pending(ctx);
    listeners.went_on(); /* what was noted was in the way of rows */
}

/* A client that is held, for a key whose time was over, ends its unit as if it were inside its command: the key's end
 * is captured right after it, or with what comes in between. */
static void run_pending(RedisModuleCtx *ctx, void *pd) {
    (void)pd;
    job_set = false;
    if (pending_count > 0 && soon_is_due(ctx)) {
        given_forget();
        soon_do(capture_late, 0, pending[0].key);
        return;
    }
    capture_pending(ctx);
}

/* Those of a key (NULL: all) in a database (-1: in all of them), before the end of the unit. */
static void capture_early(RedisModuleCtx *ctx, int db, const Slice *key) {
    int running = pending_running;
    for (; pending_running < pending_count; pending_running++) {
        Event event = pending[pending_running];
        if ((event.cause & CAUSE_ADOPTED) || (db >= 0 && event.db != db) ||
            (key != NULL && !is_about(&event, db, *key)))
            continue;
        pending[pending_running].cause |= CAUSE_DONE;
        capture_event(ctx, event);
    }
    pending_running = running;
}

/* What one unit wrote and then flushes is captured while it is there: at the end of the unit it would look like keys
 * whose time is over. */
void capture_before_flush(RedisModuleCtx *ctx, int db) { capture_early(ctx, db, NULL); }

/* What the unit noted of the keys has happened before the write whose intent goes into the lane now. Of many keys it is
 * not looked for one by one. */
void capture_before_intent(RedisModuleCtx *ctx, int db, RedisModuleString **keys, int count) {
    for (int i = 0; i < count && count <= FEW; i++) {
        Slice name = string_slice(keys[i]);
        capture_early(ctx, db, &name);
    }
    if (count > FEW) capture_early(ctx, db, NULL);
}

bool pending_expects_end(RedisModuleCtx *ctx) {
    job_set = job_set || RedisModule_AddPostNotificationJob(ctx, run_pending, NULL, NULL) == REDISMODULE_OK;
    return job_set;
}

void pending_note(RedisModuleCtx *ctx, int db, RedisModuleString *key, int cause, bool writes) {
    Slice name = string_slice(key);
    if (!pending_expects_end(ctx)) return;
    if (pending_count > 0) {
        given_forget();
        Event *last = &pending[pending_count - 1];
        if (is_about(last, db, name)) {
            int both = last->cause & cause & CAUSE_APPLIED;
            last->cause = ((last->cause | cause) & ~CAUSE_APPLIED) | both;
            last->writes += writes;
            return;
        }
    }
    if (pending_count == pending_capacity) {
        pending_capacity = pending_capacity > 0 ? pending_capacity * 2 : 64;
        pending = RedisModule_Realloc(pending, sizeof(Event) * (size_t)pending_capacity);
    }
    pending[pending_count++] = (Event){RedisModule_HoldString(NULL, key), db, cause, writes};
}
