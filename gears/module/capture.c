/* Capture: turns a keyspace event on a covered key into one change in the key's lane, in the same execution unit as
 * the write. The hot path of the module: no parsing, no reply objects, strings are shared where they can be.
 *
 * Where the server has post-notification jobs the event is only noted, and the key's state is read at the end of the
 * unit; elsewhere it is read at once. Either way the state decides: a hash is an image, anything else a delete. What
 * the command itself gives need not be read: given.c.
 */
#include "gearsync.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Why an event came: what the state of the key does not tell. */
enum {
    CAUSE_REMOVED = 1 << 0,  /* fields were removed */
    CAUSE_REPLACED = 1 << 1, /* the whole value is another one */
    CAUSE_GONE = 1 << 2,
    CAUSE_EXPIRED = 1 << 3,
    CAUSE_EVICTED = 1 << 4,
    CAUSE_FIELDS_EXPIRED = 1 << 5, /* some of them; with the last one the key goes too */
    CAUSE_HASH = 1 << 6,           /* the event is one of a hash: no cause, but a key that should be covered */
    CAUSE_LEFT = 1 << 7,           /* a resharding took the key away: a mark, no change of the row */
    CAUSE_CAME = 1 << 8,           /* a resharding brought it */
    CAUSE_ASKED = 1 << 9,          /* GEARSYNC.RECAPTURE */
    CAUSE_DONE = 1 << 10,          /* noted, and captured before the end of the unit */
    CAUSE_APPLIED = 1 << 12,       /* a write that SQL has already: nothing for write-through */
    CAUSE_ADOPTED = 1 << 11,       /* one of our own keys, which a resharding brought */
    CAUSE_OVER = 1 << 13,          /* a command that replaces a value of any type by one of its own */
    CAUSE_KIND = 1 << 14,          /* … << Kind, as CAUSE_HASH, for kinds that are no hashes; the highest bits */
    CAUSES_OF_KINDS = CAUSE_HASH | CAUSE_KIND << KIND_JSON | CAUSE_KIND << KIND_SET | CAUSE_KIND << KIND_LIST |
        CAUSE_KIND << KIND_ZSET,
    CAUSE_FILL = 1 << 19, /* GEARSYNC.BACKFILL: what is there is captured, and nothing of what is not */
    CAUSES_OF_ALL = CAUSE_REPLACED | CAUSE_GONE | CAUSE_EXPIRED | CAUSE_EVICTED | CAUSE_ASKED | CAUSE_OVER | CAUSE_FILL,
};

typedef struct {
    RedisModuleString *key;
    int db;
    int cause;
    int writes; /* of fields; counted only while there are operations */
} Pending;

static Pending *pending;
static int pending_count, pending_capacity, pending_running;

void capture_free(void) {
    image_forget_metas();
    entry_free_shared();
    kinds_free();
    if (pending != NULL) RedisModule_Free(pending);
    pending = NULL;
    pending_count = pending_capacity = pending_running = 0;
}

bool capture_is_pending(void) { return pending_count > 0; }

bool capture_is_noted(int db, Slice key) {
    for (int i = pending_running; i < pending_count; i++) {
        Slice other = string_slice(pending[i].key);
        if (pending[i].db == db && !(pending[i].cause & CAUSE_DONE) && other.len == key.len &&
            memcmp(other.bytes, key.bytes, key.len) == 0)
            return true;
    }
    return false;
}

/* -- Appending ----------------------------------------------------------------------------------------------------- */

/* A change that the stream can't take (over 1 GiB) must not vanish: the lane's dead letters say which key it was. */
static void append_failed(RedisModuleCtx *ctx, Lane *lane, Deployment *deployment, RedisModuleString *key, int error) {
    deployment->failed++;
    Slice name = string_slice(key);
    RedisModule_Log(ctx, "warning", "a change of key %.*s can't be stored in its lane (%s); it is a dead letter now",
                    name.len > 200 ? 200 : (int)name.len, name.bytes, strerror(error));
    RedisModuleCallReply *reply = RedisModule_Call(
        ctx, "XADD", "!sccccccs", lane->dead_stream, "*", "reason",
        "the image is too large for a stream entry; make the hash smaller and retry", "op", "u", "key", key);
    if (reply != NULL) RedisModule_FreeCallReply(reply);
}

/* The append with the id that it got, to the AOF and the replicas. The id is written by hand: this is the hot path. */
static void replicate(RedisModuleCtx *ctx, Lane *lane, const Packed *packed, RedisModuleStreamID id) {
    if (!shard.propagates) return;
    char text[44], *at = text + sizeof(text);
    for (uint64_t n = id.seq; n > 0 || at == text + sizeof(text); n /= 10) *--at = (char)('0' + n % 10);
    *--at = '-';
    for (uint64_t n = id.ms; n > 0; n /= 10) *--at = (char)('0' + n % 10);
    RedisModuleString *string = RedisModule_CreateString(NULL, at, (size_t)(text + sizeof(text) - at));
    RedisModule_Replicate(ctx, "XADD", "ssv", lane->stream, string, packed->strings, packed->count);
    RedisModule_FreeString(NULL, string);
}

/* About what a change takes in the stream: names of fields only where they are not those of the change before. */
static void weigh(Lane *lane, const Packed *packed) {
    RedisModuleString *label = packed->strings[0];
    uint64_t bytes = 10;
    for (size_t i = 1; i < packed->count; i += 2) bytes += string_slice(packed->strings[i]).len + 2;
    if (packed->count > 2 || (lane->label != label && (lane->label == NULL || !strings_equal(lane->label, label)))) {
        for (size_t i = 0; i < packed->count; i += 2) bytes += string_slice(packed->strings[i]).len + 4;
        if (lane->label != NULL) RedisModule_FreeString(NULL, lane->label);
        lane->label = RedisModule_HoldString(NULL, label);
    }
    bytes_add(lane, 1, bytes);
}

/* False: it is too large for a stream entry; errno says how. */
static bool append_packed(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key,
                          const Packed *packed) {
    RedisModuleStreamID id;
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *stream = RedisModule_OpenKey(ctx, lane->stream, REDISMODULE_READ | REDISMODULE_WRITE);
    int failed =
        RedisModule_StreamAdd(stream, REDISMODULE_STREAM_ADD_AUTOID, &id, packed->strings, (long)packed->count / 2);
    int error = errno;
    if (failed == REDISMODULE_OK) lane->length = RedisModule_ValueLength(stream);
    RedisModule_CloseKey(stream);
    errno = error;
    if (failed != REDISMODULE_OK) return false;
    lane->last = id;
    waiting_note(lane, string_slice(key));
    weigh(lane, packed);
    deployment->captured++;
    replicate(ctx, lane, packed, id);
    backlog_update(deployment);
    return true;
}

bool capture_append(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Image *image) {
    Packed packed;
    entry_pack(&packed, image);
    bool appended = append_packed(ctx, deployment, lane, image->key, &packed);
    int error = errno;
    entry_drop(&packed);
    errno = error;
    return appended;
}

static bool end_append(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, bool appended) {
    if (appended)
        lane->unit = unit_now();
    else
        append_failed(ctx, lane, deployment, key, errno);
    return appended;
}

static bool append(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Image *image) {
    return end_append(ctx, deployment, lane, image->key, capture_append(ctx, deployment, lane, image));
}

void capture_count(Deployment *deployment, int target, Rule **rules, int count) {
    deployment->captured_of[target]++;
    for (int i = 0; i < count && i < MAX_FIXED; i++) rules[i]->captured++;
}

static Lane *lane_of_key(Deployment *deployment, int target, RedisModuleString *key) {
    int index = deployment->nlanes > 1 ? (int)(key_hash(string_slice(key)) % (uint64_t)deployment->nlanes) : 0;
    return deployment->lanes[target * deployment->nlanes + index];
}

/* -- One key --------------------------------------------------------------------------------------------------------- */

/* The operation for a key that holds what its mapping is about: a hash, for most. */
static char op_for_hash(int cause) {
    if (cause & (CAUSE_REPLACED | CAUSE_GONE | CAUSE_EXPIRED | CAUSE_EVICTED)) return 'n';
    return cause & CAUSE_REMOVED ? 'r' : 'u';
}

/* Whether an event that was noted after the one in hand tells more of the key. */
static bool is_noted_again(int db, Slice key) {
    for (int i = pending_running + 1; i < pending_count; i++) {
        Slice other = string_slice(pending[i].key);
        if (pending[i].db == db && !(pending[i].cause & CAUSE_DONE) && other.len == key.len &&
            memcmp(other.bytes, key.bytes, key.len) == 0)
            return true;
    }
    return false;
}

/* The operation for a key that does not; 0: none, another event says it. */
static char op_for_gone(int cause, int db, Slice key) {
    if (cause & (CAUSE_EXPIRED | CAUSE_FIELDS_EXPIRED)) return 'x';
    if (cause & CAUSE_EVICTED) return 'v';
    if (cause & CAUSE_GONE) return 'd';
    /* HDEL of the last field: the "del" that follows says it. Else the key has just expired under our hands. */
    if (shard.has_jobs) return is_noted_again(db, key) ? 0 : 'x';
    return cause & CAUSE_REMOVED ? 0 : 'x';
}

/* For a key that is known to be gone, or to be none for SQL; 0: it was none before either. */
static char op_for_cause(int cause) {
    if (cause & CAUSE_EXPIRED) return 'x';
    if (cause & CAUSE_EVICTED) return 'v';
    return cause & CAUSE_GONE ? 'd' : 0;
}

/* The operation byte for functions with operations; 0: nothing goes to SQL. */
static char op_for_operation(const Operation *operation, int cause, bool is_hash) {
    if (operation->kind == '~') return 't';
    if (operation->kind == '?' && is_hash) return 'q';
    return is_hash && (operation->kind == '=' || operation->plain) ? op_for_hash(cause) : op_for_cause(cause);
}

/* The same for functions without: a client wrote the key, or deleted it. */
static char op_beside_operation(const Operation *operation, int cause, bool is_hash) {
    if (operation_deletes(operation)) return 'd';
    return is_hash ? op_for_hash(cause) : op_for_cause(cause);
}

/* The operation where no field # says it. forced: captured anew; 0: nothing is. */
static char op_for_state(int cause, char forced, bool is_there, int db, Slice key) {
    if (is_there) return forced ? forced : op_for_hash(cause);
    /* Of a backfill: why the rows of this rule have no such key, its own event said, and that decides about them. */
    if ((cause & CAUSE_FILL) && !(cause & CAUSE_ASKED)) return op_for_cause(cause);
    return forced ? 'd' : op_for_gone(cause, db, key);
}

/* What captures a key anew, whatever happened to it. */
static char forced_by(int cause) { return cause & (CAUSE_ASKED | CAUSE_FILL) ? 'r' : 0; }

static int cause_of_kind(Kind kind) { return kind == KIND_HASH ? CAUSE_HASH : CAUSE_KIND << kind; }

/* Whether what happened can matter to a rule: SADD is nothing to one of hashes. */
static bool concerns(const Rule *rule, int cause) {
    return (cause & CAUSES_OF_ALL) || !(cause & CAUSES_OF_KINDS) || (cause & cause_of_kind(rule->kind));
}

/* What the cause means to a rule of that kind, whose key is there or not. */
static int cause_for(Kind kind, int cause, bool is_there) {
    if ((cause & CAUSE_OVER) && (kind == KIND_HASH || !is_there)) cause |= CAUSE_GONE;
    /* A document that is written anew lacks what it has not, and so do members. */
    return kind == KIND_HASH ? cause : cause | CAUSE_REMOVED;
}

static bool obey(Rule **rules, int count) {
    for (int i = 0; i < count && i < MAX_FIXED; i++)
        if (rules[i]->operations) return true;
    return false;
}

/* The rules of rules[from…] with the same target that cover key (matched: the first MAX_FIXED of them); returns where the
 * next target starts. prefix_seen: one of the kind that the cause is of has the key's prefix at least. */
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

/* A mark in the lane of a key that changes its shard, with the id of the node that has it from now on. */
void capture_mark(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, char op,
                  const char *node) {
    if (node == NULL) return;
    Image image;
    image_start(&image, key, op);
    image.fields_owned = true;
    image_add(&image, RedisModule_CreateString(NULL, "n", 1), RedisModule_CreateString(NULL, node, NODE_ID_BYTES));
    append(ctx, deployment, lane, &image);
    image_end(&image);
    lane->unit = 0;
}

/* That the members of a key have changed. */
static void capture_members(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key) {
    Image image;
    image_start(&image, key, 'r');
    append(ctx, deployment, lane, &image);
    image_end(&image);
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
    if (shard.tag[0] == '\0' && !cluster_settle(ctx)) return 0;
    slots_before_capture(ctx, text);
    for (int i = 0; i < shard.nrules;) {
        Deployment *deployment = shard.rules[i]->deployment;
        Rule *matched[MAX_FIXED];
        int count, target = shard.rules[i]->target;
        i = match_group(i, db, text, cause, matched, &count, &prefix_seen);
        Kind kind = count > 0 ? matched[0]->kind : KIND_HASH;
        if (count > 0 && (((cause & CAUSE_APPLIED) && matched[0]->timeout_ms > 0) || !concerns(matched[0], cause))) {
            covered = true;
        } else if (count > 0 && (cause & (CAUSE_LEFT | CAUSE_CAME))) {
            covered = true;
            bool left = (cause & CAUSE_LEFT) != 0;
            capture_mark(ctx, deployment, lane_of_key(deployment, target, name), name, left ? 'm' : 'i',
                         left ? move_target(ctx, text) : RedisModule_GetMyClusterID());
            /* The worker of the shard that it came from can't read them any more. */
            if (!left && kind_is_members(kind))
                capture_members(ctx, deployment, lane_of_key(deployment, target, name), name);
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
                if (append(ctx, deployment, lane_of_key(deployment, target, name), &image))
                    capture_count(deployment, target, matched, count);
                image_end(&image);
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

/* -- Events ------------------------------------------------------------------------------------------------------------ */

static bool is_covered(int db, Slice key) {
    for (int i = 0; i < shard.nrules; i++)
        if (shard.rules[i]->db == db && template_has_prefix(&shard.rules[i]->template, key)) return true;
    return false;
}

/* Commands that replace any value by one of another type make no "del" for the old one. */
static bool overwrites(const char *event) {
    size_t len = strlen(event);
    return strcmp(event, "set") == 0 || (len > 5 && strcmp(event + len - 5, "store") == 0);
}

/* The cause behind an event of keys that are no hashes. */
static int cause_of_other(int type, const char *event) {
    Kind kind = kind_of_event(type);
    int cause = overwrites(event) ? CAUSE_OVER : 0;
    if (kind != KIND_HASH && (shard.kinds & 1u << kind)) cause |= cause_of_kind(kind);
    return cause != 0 ? cause : -1;
}

/* The cause behind an event; -1: the event changes no hash. */
static int cause_of(int type, const char *event) {
    /* An event of a hash; Valkey, when time takes the fields, makes it one of expired keys. */
    if (strcmp(event, "hexpired") == 0) return CAUSE_HASH | CAUSE_REMOVED | CAUSE_FIELDS_EXPIRED;
    if (type & REDISMODULE_NOTIFY_HASH) return strcmp(event, "hdel") == 0 ? CAUSE_HASH | CAUSE_REMOVED : CAUSE_HASH;
    if (type & REDISMODULE_NOTIFY_EXPIRED) return CAUSE_EXPIRED;
    if (type & REDISMODULE_NOTIFY_EVICTED) return CAUSE_EVICTED;
    if (type & REDISMODULE_NOTIFY_MODULE) return CAUSE_OVER | CAUSE_KIND << KIND_JSON;
    if (!(type & REDISMODULE_NOTIFY_GENERIC)) return cause_of_other(type, event);
    if (strcmp(event, "del") == 0 || strcmp(event, "rename_from") == 0 || strcmp(event, "move_from") == 0)
        return CAUSE_GONE;
    if (strcmp(event, "expire") == 0 || strcmp(event, "persist") == 0) return -1;
    if (strcmp(event, "rename_to") == 0 || strcmp(event, "move_to") == 0 || strcmp(event, "copy_to") == 0 ||
        strcmp(event, "restore") == 0)
        return CAUSE_REPLACED | CAUSE_GONE;
    return overwrites(event) ? CAUSE_OVER : 0;
}

/* What else the unit did with the key of event is a part of it: the operation is one for all. */
static void take_others(Pending *event) {
    Slice key = string_slice(event->key);
    for (int i = pending_running + 1; i < pending_count; i++) {
        Slice other = string_slice(pending[i].key);
        if (pending[i].db != event->db || other.len != key.len || memcmp(other.bytes, key.bytes, key.len) != 0 ||
            (pending[i].cause & (CAUSE_DONE | CAUSE_ADOPTED | CAUSE_LEFT | CAUSE_CAME)))
            continue;
        event->cause |= pending[i].cause & ~(CAUSE_ASKED | CAUSE_FILL);
        event->writes += pending[i].writes;
        pending[i].cause |= CAUSE_DONE;
    }
}

static void run_with_operations(RedisModuleCtx *ctx, Pending event) {
    Operation operation = {0};
    if (!(event.cause & (CAUSE_LEFT | CAUSE_CAME)) && operations_cover(event.db, string_slice(event.key)))
        operation = operation_take(ctx, event.db, event.key);
    if (operation.kind != 0) take_others(&event);
    /* A hash that comes whole brings its fields, not a client's wish. */
    if (operation.kind != 0 && event.writes == 0) operation.kind = '=';
    operation.plain = event.writes > 1 || (event.cause & CAUSE_REPLACED);
    capture_key(ctx, event.db, event.key, event.cause, forced_by(event.cause), &operation);
    if (operation_deletes(&operation)) operation_delete(ctx, event.db, event.key);
    operation_free(&operation);
}

/* As capture_key, of a key whose only rule and whose image are known. False: the change has to say that it goes on. */
static bool capture_given(RedisModuleCtx *ctx, RedisModuleString *key, const Given *known) {
    Deployment *deployment = known->rule->deployment;
    int target = known->rule->target;
    Rule *rule = known->rule;
    if (shard.tag[0] == '\0' && !cluster_settle(ctx)) return true;
    slots_before_capture(ctx, string_slice(key));
    Lane *lane = lane_of_key(deployment, target, key);
    if (unit_goes_on(ctx, deployment, lane)) return false;
    if (end_append(ctx, deployment, lane, key, append_packed(ctx, deployment, lane, key, &known->packed)))
        capture_count(deployment, target, &rule, 1);
    return true;
}

static void run_one(RedisModuleCtx *ctx, Pending event) {
    if (event.cause & CAUSE_DONE) return;
    /* Keys that are brought along together have nothing to do with each other. */
    if (event.cause & CAUSE_FILL) unit_end();
    const Given *known = given_for(event.key);
    if (known != NULL && capture_given(ctx, event.key, known)) {
        given_forget();
        return;
    }
    if (event.cause & CAUSE_ADOPTED)
        registry_adopt(ctx, event.key);
    else if (shard.operations)
        run_with_operations(ctx, event);
    else
        capture_key(ctx, event.db, event.key, event.cause, forced_by(event.cause), &no_operation);
    if (event.cause & CAUSE_FILL) unit_end();
}

/* What must stand before keys of slots that are on their way here does not part a transaction. */
static void put_marks_first(RedisModuleCtx *ctx) {
    for (int i = 0; i < pending_count && shard.primary && shard.tag[0] != '\0'; i++)
        slots_before_capture(ctx, string_slice(pending[i].key));
}

static void run_pending(RedisModuleCtx *ctx, void *pd) {
    (void)pd;
    if (shard.cluster && shard.whole) put_marks_first(ctx);
    /* Reading a key can expire it or one of its fields, which notes more; those run in this loop as well. */
    for (pending_running = 0; pending_running < pending_count; pending_running++) {
        Pending event = pending[pending_running];
        if (shard.primary) run_one(ctx, event);
        RedisModule_FreeString(NULL, event.key);
    }
    pending_count = pending_running = 0;
    unit_end();
}

/* What one unit wrote and then flushes (db -1: every database) is captured while it is there: at the end of the unit it
 * would look like keys whose time is over. */
void capture_before_flush(RedisModuleCtx *ctx, int db) {
    for (pending_running = 0; pending_running < pending_count; pending_running++) {
        Pending event = pending[pending_running];
        if ((event.cause & CAUSE_ADOPTED) || (db >= 0 && event.db != db)) continue;
        pending[pending_running].cause |= CAUSE_DONE;
        run_one(ctx, event);
    }
}

static void note(RedisModuleCtx *ctx, int db, RedisModuleString *key, int cause, bool writes) {
    Slice name = string_slice(key);
    if (pending_count > 0) {
        given_forget();
        Pending *last = &pending[pending_count - 1];
        Slice other = string_slice(last->key);
        if (last->db == db && !(last->cause & CAUSE_DONE) && other.len == name.len &&
            memcmp(other.bytes, name.bytes, name.len) == 0) {
            int both = last->cause & cause & CAUSE_APPLIED;
            last->cause = ((last->cause | cause) & ~CAUSE_APPLIED) | both;
            last->writes += writes;
            return;
        }
    }
    if (pending_count == 0 && RedisModule_AddPostNotificationJob(ctx, run_pending, NULL, NULL) != REDISMODULE_OK)
        return;
    if (pending_count == pending_capacity) {
        pending_capacity = pending_capacity > 0 ? pending_capacity * 2 : 64;
        pending = RedisModule_Realloc(pending, sizeof(Pending) * (size_t)pending_capacity);
    }
    pending[pending_count++] = (Pending){RedisModule_HoldString(NULL, key), db, cause, writes};
}

/* At the end of the unit: inside a command with keys, Redis 7.4 and Valkey 8 take every key for one of their slot, and the
 * registry is of another. */
static void adopt(RedisModuleCtx *ctx, RedisModuleString *key) {
    if (shard.has_jobs)
        note(ctx, 0, key, CAUSE_ADOPTED, false);
    else
        registry_adopt(ctx, key);
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
    Lane *lane = registry_find_lane(name, &deployment);
    if (strcmp(event, "restore") == 0) {
        adopt(ctx, key);
    } else if (lane != NULL && strcmp(event, "xadd") != 0) {
        size_t before = lane->length;
        lane_refresh(ctx, lane);
        if (lane->length < before && shard.moving == MOVING_AWAY) {
            RedisModule_Log(ctx, "notice", "the lane %.*s moves to another shard, whose worker goes on with it",
                            (int)name.len, name.bytes);
            barrier_lane_moved(deployment, lane);
        } else if (lane->length < before) {
            RedisModule_Log(ctx, "warning", "%s on the lane %.*s took %zu waiting changes away; they are not in SQL",
                            event, (int)name.len, name.bytes, before - lane->length);
        }
        backlog_update(deployment);
        barrier_check();
    } else if (registry_is_key(name)) {
        shard.registry_dirty = true;
    }
}

int capture_on_event(RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *key) {
    if (shard.loading || (shard.nrules == 0 && shard.count == 0 && shard.primary)) return REDISMODULE_OK;
    Slice name = string_slice(key);
    static const size_t prefix_len = sizeof(KEY_PREFIX) - 1;
    if (name.len > prefix_len && memcmp(name.bytes, KEY_PREFIX, prefix_len) == 0) {
        on_own_key(ctx, event, key);
        return REDISMODULE_OK;
    }
    int db = RedisModule_GetSelectedDb(ctx);
    if (!shard.primary || shard.operating || !is_covered(db, name)) return REDISMODULE_OK;
    int cause = cause_of(type, event);
    if (shard.through) through_see_event(db, key);
    if (shard.applying && cause >= 0) cause |= CAUSE_APPLIED;
    if (shard.moving == MOVING_AWAY && cause == CAUSE_GONE && move_target(ctx, name) != NULL) cause = CAUSE_LEFT;
    if (shard.moving == MOVING_HERE && strcmp(event, "restore") == 0) {
        cause = CAUSE_CAME;
        shard.came++;
    }
    if (cause < 0) return REDISMODULE_OK;
    if (cause == CAUSE_HASH && strcmp(event, "hset") == 0 && pending_count == 0) given_take(db, key);
    if (shard.has_jobs)
        note(ctx, db, key, cause, shard.operations && operation_writes(type, event));
    else
        run_one(ctx, (Pending){key, db, cause, 0});
    return REDISMODULE_OK;
}

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
    if (targets > 0) note(ctx, db, key, if_there ? CAUSE_FILL : CAUSE_ASKED, false);
    return targets;
}

/* A flush has no events of keys; the change 'f' stands for all of them where a mapping wants its rows deleted. */
void capture_flush(RedisModuleCtx *ctx, int db) {
    if (shard.tag[0] == '\0') return; /* no slot, so no keys */
    /* What the unit writes afterwards belongs to the flush, and what comes after the unit does not. */
    if (shard.whole && shard.has_jobs && pending_count == 0 &&
        RedisModule_AddPostNotificationJob(ctx, run_pending, NULL, NULL) != REDISMODULE_OK)
        unit_end();
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
        append(ctx, rule->deployment, lane, &image);
        image_end(&image);
    }
    RedisModule_FreeString(NULL, none);
}
