/* Capture: turns a keyspace event on a covered key into one change in the key's lane, in the same execution unit as
 * the write. The hot path of the module: no parsing, no reply objects, strings are shared where they can be.
 *
 * Where the server has post-notification jobs the event is only noted, and the key's state is read at the end of the
 * unit; elsewhere it is read at once. Either way the state decides: a hash is an image, anything else a delete. What
 * the command itself gives need not be read: given.c.
 */
#include "capture.h"
#include "events.h"

#include <string.h>

#include "changes/image.h"
#include "changes/kinds.h"
#include "clients/turns.h"
#include "cluster/cluster.h"
#include "lanes/append.h"
#include "lanes/backlog.h"
#include "lanes/lanes.h"
#include "lanes/units.h"
#include "listeners.h"
#include "registry/registry.h"
#include "resharding/resharding.h"

/* -- One key ------------------------------------------------------------------------------------------------------- */

static bool obey(Rule **rules, int count) {
    for (int i = 0; i < count && i < MAX_FIXED; i++)
        if (rules[i]->operations) return true;
    return false;
}

/* The rules of rules[from…] with the same target that cover key (matched: the first MAX_FIXED of them); returns where
 * the next target starts. prefix_seen: one of the kind that the cause is of has the key's prefix at least. */
static int match_group(int from, int db, Slice key, int cause, Rule **matched, int *count, bool *prefix_seen) {
    const Rule *first = shard.rules[from];
    int i = from;
    *count = 0;
    for (; i < shard.nrules; i++) {
        Rule *rule = shard.rules[i];
        if (rule->deployment != first->deployment || rule->target != first->target) break;
        if (rule->db != db || !template_has_prefix(&rule->template, key)) continue;
        *prefix_seen = *prefix_seen || (cause & cause_of_kind(rule->kind));
        if (!template_matches(&rule->template, key)) continue;
        if (*count < MAX_FIXED) matched[*count] = rule;
        (*count)++;
    }
    return i;
}

static void note_missed(Deployment *deployment, Slice key) {
    deployment->missed++;
    if (deployment->missed_key != NULL) RedisModule_Free(deployment->missed_key);
    deployment->missed_key_len = key.len > 200 ? 200 : key.len;
    deployment->missed_key = slice_copy((Slice){key.bytes, deployment->missed_key_len});
}

static const Operation no_operation;

/* Appends to each target whose rules cover the key. op 0: by the state and the cause. Returns the changes appended. */
static int capture_key(RedisModuleCtx *ctx, int db, RedisModuleString *name, int cause, char forced,
                       const Operation *operation) {
    Slice text = string_slice(name);
    RedisModuleKey *key = NULL;
    RedisModuleString *document = NULL;
    bool opened = false;
    int appended = 0;
    bool prefix_seen = false, covered = false, acknowledge = false;
    if (shard.tag[0] == '\0' && !tag_settle(ctx)) return 0;
    slots_before_capture(ctx, text);
    for (int i = 0; i < shard.nrules;) {
        Deployment *deployment = shard.rules[i]->deployment;
        Rule *matched[MAX_FIXED];
        int count, target = shard.rules[i]->target;
        i = match_group(i, db, text, cause, matched, &count, &prefix_seen);
        Kind kind = count > 0 ? matched[0]->kind : KIND_HASH;
        if (count > 0 &&
            (((cause & CAUSE_APPLIED) && matched[0]->timeout_ms > 0) || !cause_concerns(matched[0], cause))) {
            covered = true;
        } else if (count > 0 && (cause & (CAUSE_LEFT | CAUSE_CAME))) {
            covered = true;
            bool left = (cause & CAUSE_LEFT) != 0;
            append_mark(ctx, deployment, lane_of_key(deployment, target, name), name, left ? 'm' : 'i',
                        left ? move_target(ctx, text) : RedisModule_GetMyClusterID());
            /* The worker of the shard that it came from can't read them any more. */
            if (!left && kind_is_members(kind))
                append_members(ctx, deployment, lane_of_key(deployment, target, name), name);
        } else if (count > 0) {
            covered = true;
            if (!opened) {
                RedisModule_SelectDb(ctx, db);
                key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
                opened = true;
            }
            bool is_there = kind_holds(ctx, kind, key, name, &document);
            int why = cause_for(kind, cause, is_there);
            bool obeys = operation->kind != 0 && obey(matched, count);
            char op = op_for_state(why, forced, is_there, db, text);
            if (operation->kind != 0)
                op = obeys ? op_for_operation(operation, why, is_there) : op_beside_operation(operation, why, is_there);
            if (op != 0) {
                Image image;
                image_start(&image, name, op);
                if (unit_goes_on(ctx, deployment, lane_of_key(deployment, target, name))) image_go_on(&image, op);
                if (obeys) image_ticket(&image, operation_ticket(operation));
                if (is_there && memchr("urnq", op, 4) != NULL) {
                    if (kind == KIND_HASH) image_read(&image, key, matched, count);
                    kind_read(&image, &document);
                }
                if (append_image(ctx, deployment, lane_of_key(deployment, target, name), &image))
                    capture_count(deployment, target, matched, count);
                image_end(&image);
                if (memchr("dxvt", op, 4))
                    slots_after_end(ctx, deployment, lane_of_key(deployment, target, name), name);
                if (forced != 0 && !is_there) {
                    /* Its row goes, of which no event tells: who has read that row sees it by WATCH. */
                    RedisModule_SelectDb(ctx, db);
                    RedisModule_SignalModifiedKey(ctx, name);
                }
                appended++;
            } else if (obeys) {
                acknowledge = true;
            }
            if (document != NULL) RedisModule_FreeString(NULL, document);
            document = NULL;
        }
        bool last_of_deployment = i == shard.nrules || shard.rules[i]->deployment != deployment;
        if (last_of_deployment) {
            if (prefix_seen && !covered && (cause & CAUSES_OF_KINDS)) note_missed(deployment, text);
            prefix_seen = covered = false;
        }
    }
    if (key != NULL) RedisModule_CloseKey(key);
    if (acknowledge) operation_acknowledge(ctx, db, name, operation_ticket(operation));
    return appended;
}

void capture_count(Deployment *deployment, int target, Rule **rules, int count) {
    deployment->captured_of[target]++;
    for (int i = 0; i < count && i < MAX_FIXED; i++) rules[i]->captured++;
}

/* -- Events -------------------------------------------------------------------------------------------------------- */

static void run_with_operations(RedisModuleCtx *ctx, Event event) {
    Operation operation = {0};
    if (!(event.cause & (CAUSE_LEFT | CAUSE_CAME)) && operations_cover(event.db, string_slice(event.key)))
        operation = operation_take(ctx, event.db, event.key);
    if (operation.kind != 0) pending_take(&event);
    /* A hash that comes whole brings its fields, not a client's wish. */
    if (operation.kind != 0 && event.writes == 0) operation.kind = '=';
    operation.plain = event.writes > 1 || (event.cause & CAUSE_REPLACED);
    capture_key(ctx, event.db, event.key, event.cause, cause_forces(event.cause), &operation);
    if (operation_deletes(&operation)) operation_delete(ctx, event.db, event.key);
    operation_free(&operation);
}

/* A key whose only rule and whose image are known. False: the change has to say that it goes on. */
static bool append_given(RedisModuleCtx *ctx, RedisModuleString *key, const Given *known) {
    Deployment *deployment = known->rule->deployment;
    int target = known->rule->target;
    Rule *rule = known->rule;
    if (shard.tag[0] == '\0' && !tag_settle(ctx)) return true;
    slots_before_capture(ctx, string_slice(key));
    Lane *lane = lane_of_key(deployment, target, key);
    if (unit_goes_on(ctx, deployment, lane)) return false;
    if (append_packed(ctx, deployment, lane, key, &known->packed)) capture_count(deployment, target, &rule, 1);
    return true;
}

/* First of all the tag: by it the registry tells what is ours. */
static void adopt(RedisModuleCtx *ctx, RedisModuleString *key) {
    tag_settle(ctx);
    registry_adopt(ctx, key);
}

void capture_event(RedisModuleCtx *ctx, Event event) {
    if (event.cause & CAUSE_DONE) return;
    if (event.cause & CAUSE_APART) unit_end();
    const Given *known = given_for(event.key);
    if (known != NULL && append_given(ctx, event.key, known)) {
        given_forget();
        return;
    }
    if (event.cause & CAUSE_ADOPTED)
        adopt(ctx, event.key);
    else if (shard.operations)
        run_with_operations(ctx, event);
    else
        capture_key(ctx, event.db, event.key, event.cause, cause_forces(event.cause), &no_operation);
    if (event.cause & CAUSE_APART) unit_end();
}

static bool is_covered(int db, Slice key) {
    for (int i = 0; i < shard.nrules; i++)
        if (shard.rules[i]->db == db && template_has_prefix(&shard.rules[i]->template, key)) return true;
    return false;
}

/* At the end of the unit: inside a command with keys, Redis 7.4 and Valkey 8 take every key for one of their slot, and
 * the registry is of another. */
static void adopt_late(RedisModuleCtx *ctx, RedisModuleString *key) {
    if (shard.has_jobs)
        pending_note(ctx, 0, key, CAUSE_ADOPTED, false);
    else
        adopt(ctx, key);
}

/* Whether ids of a lane may be given again that its worker has seen: then only the epoch tells new changes from old
 * ones. */
static bool ids_may_fall_back(RedisModuleCtx *ctx, const char *event, RedisModuleString *lane) {
    if (strcmp(event, "xsetid") == 0) return true;
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, lane, REDISMODULE_READ);
    bool is_there = key != NULL && RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_STREAM;
    if (key != NULL) RedisModule_CloseKey(key);
    return !is_there;
}

/* Events on our own keys: somebody else touched a lane or the registry, or a resharding brought a lane here. */
static void on_own_key(RedisModuleCtx *ctx, const char *event, RedisModuleString *key) {
    if (shard.writing_registry) return;
    Slice name = string_slice(key);
    if (!shard.primary) {
        shard.registry_stale = shard.registry_stale || registry_is_key(name);
        return;
    }
    Deployment *deployment = NULL;
    Lane *lane = shard_find_lane(name, &deployment);
    if (strcmp(event, "restore") == 0) {
        adopt_late(ctx, key);
    } else if (lane != NULL && strcmp(event, "xadd") != 0) {
        size_t before = lane->length;
        lane_refresh(ctx, lane);
        if (lane->length < before && shard.moving == MOVING_AWAY) {
            RedisModule_Log(ctx, "notice", "the lane %.*s moves to another shard, whose worker goes on with it",
                            (int)name.len, name.bytes);
            listeners.lane_moved(deployment, lane);
        } else if (lane->length < before) {
            RedisModule_Log(ctx, "warning", "%s on the lane %.*s took %zu waiting changes away; they are not in SQL",
                            event, (int)name.len, name.bytes, before - lane->length);
        }
        if (shard.moving != MOVING_AWAY && ids_may_fall_back(ctx, event, key)) registry_raise_epoch(shard.epoch + 1);
        backlog_update(deployment);
        listeners.went_on();
    } else if (registry_is_key(name)) {
        shard.registry_dirty = true;
    }
}

int capture_on_event(RedisModuleCtx *ctx, int db, int type, const char *event, RedisModuleString *key) {
    if (shard.loading || (shard.nrules == 0 && shard.count == 0 && shard.primary)) return REDISMODULE_OK;
    Slice name = string_slice(key);
    static const size_t prefix_len = sizeof(KEY_PREFIX) - 1;
    if (name.len > prefix_len && memcmp(name.bytes, KEY_PREFIX, prefix_len) == 0) {
        on_own_key(ctx, event, key);
        return REDISMODULE_OK;
    }
    if (!shard.primary || shard.operating || !is_covered(db, name)) return REDISMODULE_OK;
    int cause = cause_of(type, event);
    if (shard.through) turns_see_event(db, name);
    if (shard.applying && cause >= 0) cause |= CAUSE_APPLIED;
    if (shard.moving == MOVING_AWAY && cause == CAUSE_GONE && move_target(ctx, name) != NULL) cause = CAUSE_LEFT;
    if (shard.moving == MOVING_HERE && strcmp(event, "restore") == 0) {
        cause = CAUSE_CAME;
        shard.came++;
    }
    if (cause < 0) return REDISMODULE_OK;
    if (cause == CAUSE_HASH && strcmp(event, "hset") == 0 && !capture_is_pending()) given_take(db, key);
    if (shard.has_jobs)
        pending_note(ctx, db, key, cause, shard.operations && operation_writes(type, event));
    else
        capture_event(ctx, (Event){key, db, cause, 0});
    return REDISMODULE_OK;
}

/* -- What is captured without an event ----------------------------------------------------------------------------- */

/* How many changes a key makes: one a target that covers it. */
static int count_targets(int db, Slice key) {
    Rule *matched[MAX_FIXED];
    int targets = 0, count;
    bool prefix_seen = false;
    for (int i = 0; i < shard.nrules;) {
        i = match_group(i, db, key, 0, matched, &count, &prefix_seen);
        targets += count > 0;
    }
    return targets;
}

int capture_now(RedisModuleCtx *ctx, int db, RedisModuleString *key) {
    return capture_key(ctx, db, key, 0, 'r', &no_operation);
}

int capture_again(RedisModuleCtx *ctx, int db, RedisModuleString *key, bool if_there) {
    if (!shard.has_jobs) return capture_key(ctx, db, key, if_there ? CAUSE_FILL : 0, 'r', &no_operation);
    /* At the end of the unit: inside a command with keys, Redis 7.4 takes every key for one of their slot. */
    int targets = count_targets(db, string_slice(key));
    int cause = if_there ? CAUSE_FILL : CAUSE_ASKED;
    /* Keys that one command brings along have nothing to do with each other; in MULTI somebody wants them together. */
    if (if_there && !unit_in_transaction(ctx)) cause |= CAUSE_APART;
    if (targets > 0) pending_note(ctx, db, key, cause, false);
    return targets;
}

/* A flush has no events of keys; the change 'f' stands for all of them where a mapping wants its rows deleted. */
void capture_flush(RedisModuleCtx *ctx, int db) {
    if (shard.tag[0] == '\0') return; /* no slot, so no keys */
    /* What the unit writes afterwards belongs to the flush, and what comes after the unit does not. */
    if (shard.whole && shard.has_jobs && !pending_expects_end(ctx)) unit_end();
    RedisModuleString *none = RedisModule_CreateString(NULL, "", 0);
    for (int i = 0; i < shard.nrules; i++) {
        Rule *rule = shard.rules[i];
        bool done = false;
        for (int j = 0; j < i; j++)
            done = done || (shard.rules[j]->delete_on_flush && shard.rules[j]->deployment == rule->deployment &&
                            shard.rules[j]->target == rule->target);
        if (done || !rule->delete_on_flush || (db >= 0 && rule->db != db)) continue;
        Image image;
        image_start(&image, none, 'f');
        Lane *lane = rule->deployment->lanes[rule->target * rule->deployment->nlanes];
        if (unit_goes_on(ctx, rule->deployment, lane)) image_go_on(&image, 'f');
        append_image(ctx, rule->deployment, lane, &image);
        image_end(&image);
    }
    RedisModule_FreeString(NULL, none);
}
