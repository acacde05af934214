/* Write-through: the client of a covered write waits until SQL has committed it (docs/design.md, "Write-through").
 *
 * A write goes through stages. It waits for its turn at its keys; then what it will do is logged in the lane, as an
 * intent; the worker takes the intents of many clients, commits them in one transaction and settles them here: each
 * is applied by its own command, whose reply its client gets, or is refused with the reason. */
#include "through.h"
#include "effects.h"
#include "writes.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "capture/capture.h"
#include "changes/image.h"
#include "clients/inner.h"
#include "clients/sender.h"
#include "clients/soon.h"
#include "clients/turns.h"
#include "clients/written.h"
#include "lanes/append.h"
#include "lanes/lanes.h"
#include "pauses/pause.h"
#include "reads/reads.h"
#include "resharding/resharding.h"
#include "workers/workers.h"

#define RECAPTURE "gearsync.recapture"

/* -- Rules --------------------------------------------------------------------------------------------------------- */

static bool covers(const Rule *rule, int db, Slice key) {
    return rule->timeout_ms > 0 && (db < 0 || rule->db == db) && template_matches(&rule->template, key);
}

static Rule *rule_for(int db, Slice key) {
    for (int i = 0; i < shard.nrules; i++)
        if (covers(shard.rules[i], db, key)) return shard.rules[i];
    return NULL;
}

/* The rules of the same deployment, and so of the same target, that cover a key. */
static int rules_for(const Deployment *deployment, int db, Slice key, Rule **rules) {
    int count = 0;
    for (int i = 0; i < shard.nrules; i++) {
        if (shard.rules[i]->deployment != deployment || !covers(shard.rules[i], db, key)) continue;
        if (count < MAX_FIXED) rules[count] = shard.rules[i];
        count++;
    }
    return count;
}

static Lane *lane_of_rule(const Rule *rule) { return rule->deployment->lanes[rule->target * rule->deployment->nlanes]; }

static bool is_covered(RedisModuleString *key) { return rule_for(-1, string_slice(key)) != NULL; }

static bool is_covered_hash(RedisModuleString *key, unsigned kinds) {
    return (kinds & 1u << KIND_HASH) && is_covered(key);
}

static int reply_error(RedisModuleCtx *ctx, const char *sentence) {
    Text text = write_error(sentence, (Slice){"", 0});
    RedisModule_ReplyWithError(ctx, text.bytes + 1);
    text_free(&text);
    return REDISMODULE_OK;
}

/* -- Logging an intent --------------------------------------------------------------------------------------------- */

/* The first entry of an intent says what to do in Redis; "+" stands in those that follow it. */
static Text ticket_of(const Write *write, const Effect *effect, bool is_first) {
    Text ticket = {0};
    if (!is_first) {
        text_add(&ticket, "+", 1);
        return ticket;
    }
    text_printf(&ticket, "%d ", write->db);
    text_add(&ticket, effect->command.bytes, effect->command.len);
    return ticket;
}

static bool log_key(RedisModuleCtx *ctx, Write *write, const Effect *effect, Deployment *deployment,
                    RedisModuleString *key, bool is_first) {
    Rule *rules[MAX_FIXED];
    int count = rules_for(deployment, write->db, string_slice(key), rules);
    if (count == 0) return true;
    slots_before_capture(ctx, string_slice(key));
    Lane *lane = lane_of_rule(rules[0]);
    Text ticket = ticket_of(write, effect, is_first);
    Image image;
    image_start(&image, key, effect->op);
    image_ticket(&image, (Slice){ticket.bytes, ticket.len});
    if (effect->op != 'D') effect_image(ctx, effect, write->db, key, rules, count, &image);
    bool logged = append_try(ctx, deployment, lane, &image);
    image_end(&image);
    text_free(&ticket);
    if (!logged) return false;
    capture_count(deployment, rules[0]->target, rules, count);
    write->id = lane->last;
    write->epoch = shard.epoch;
    if (write->stream == NULL) write->stream = RedisModule_HoldString(NULL, lane->stream);
    return true;
}

/* NULL, or what is wrong. */
static const char *log_intent(RedisModuleCtx *ctx, Write *write, const Effect *effect, Deployment *deployment) {
    int count;
    RedisModuleString **keys = write_keys(write, &count);
    /* Of all its keys first: the entries of an intent stand side by side. */
    capture_before_intent(ctx, write->db, keys, count);
    for (int i = 0; i < write->turns.count; i++) {
        RedisModuleString *key = keys[turns_key(&write->turns, i)];
        if (!log_key(ctx, write, effect, deployment, key, write->stream == NULL))
            return "the hash is too large for a stream entry; nothing was written";
    }
    write->stage = LOGGED;
    write->turns.disturbed = write->turns.stale = false;
    return NULL;
}

static Rule *first_rule(const Write *write) {
    int count;
    RedisModuleString **keys = write_keys(write, &count);
    Rule *rule = NULL;
    for (int i = 0; i < count && rule == NULL; i++) rule = rule_for(write->db, string_slice(keys[i]));
    return rule;
}

const Lane *write_lane(const Write *write) {
    if (write->stream != NULL) return shard_find_lane(string_slice(write->stream), NULL);
    const Rule *rule = first_rule(write);
    return rule != NULL ? lane_of_rule(rule) : NULL;
}

static void on_row(void *waiter, const char *failure) {
    Write *write = waiter;
    write->reader = NULL;
    write->loaded = true;
    if (failure != NULL) {
        Text reply = write_error("nothing was written: ", (Slice){failure, strlen(failure)});
        write_finish(write, reply);
    } else if (write->stage == LOADING) {
        write->stage = WAITING;
        writes_any_ready = true;
    }
}

/* A key that is read through, and not in Redis, has a row perhaps: what changes a part of it begins with that. */
static bool may_want_row(const Write *write) {
    return !write->loaded && effect_kind(string_slice(write->argv[0])) < DELETE_KEYS && write->argc >= 2;
}

static bool waits_for_row(RedisModuleCtx *ctx, Write *write) {
    if (!may_want_row(write)) return false;
    write->reader = reads_want(ctx, write->db, write->argv[1], on_row, write);
    if (write->reader != NULL) write->stage = LOADING;
    return write->reader != NULL;
}

/* The turn of a write has come: it is logged, unless it has no effect for SQL. NULL, or why it can't be. */
static const char *start(RedisModuleCtx *ctx, Write *write) {
    Rule *rule = first_rule(write);
    const char *paused = rule != NULL ? pause_of_write(rule->deployment, rule->target) : NULL;
    if (paused == NULL && rule != NULL && may_want_row(write)) paused = reads_paused(ctx, write->db, write->argv[1]);
    if (paused != NULL) return paused;
    if (rule == NULL) return NULL;
    /* Without a tag there is no lane: its first slot may be on its way here. */
    if (shard.tag[0] == '\0' && !tag_settle(ctx)) return "this node of the cluster has no slot";
    Effect effect = effect_of(ctx, write->db, write->argv, write->argc);
    /* Asked of what the effect has seen: outside of a command time goes on between two looks. */
    if (!effect.existed && waits_for_row(ctx, write)) {
        effect_free(&effect);
        return NULL;
    }
    if (effect.op == 0 && lane_of_rule(rule)->behind) {
        write->stage = BEHIND;
        effect_free(&effect);
        return NULL;
    }
    const char *problem = effect.op != 0 ? log_intent(ctx, write, &effect, rule->deployment) : NULL;
    write->existed = effect.existed;
    write->reply = effect.reply;
    effect.reply = (Text){0};
    effect_free(&effect);
    return problem;
}

static Write *find_ready(void) {
    for (Write *write = writes_first; write != NULL; write = write->next)
        if (write->stage == WAITING && write->turns.ahead == 0) return write;
    return NULL;
}

/* While writes are paused, also a command that only reads can come here (GEARSYNC.UNREAD); then the tick does it. */
void through_start_ready(RedisModuleCtx *ctx) {
    while (writes_any_ready && shard_may_write()) {
        writes_any_ready = false;
        for (Write *write = find_ready(); write != NULL; write = find_ready()) {
            const char *problem = start(ctx, write);
            bool moved = false;
            if (write->stage == WAITING) {
                write_finish(write, problem != NULL ? write_error(problem, (Slice){"", 0})
                                                    : write_run(ctx, write->db, write->argv, write->argc, &moved));
            } else {
                write_take_out(write);
                write_link_last(write);
            }
        }
    }
}

/* -- The client's command ------------------------------------------------------------------------------------------ */

/* Whether functions of two deployments cover the keys argv[1…]. */
static bool is_of_two(int db, RedisModuleString **argv, int argc) {
    const Deployment *found = NULL;
    for (int i = 1; i < argc; i++)
        for (int j = 0; j < shard.nrules; j++) {
            if (!covers(shard.rules[j], db, string_slice(argv[i]))) continue;
            if (found != NULL && found != shard.rules[j]->deployment) return true;
            found = shard.rules[j]->deployment;
        }
    return false;
}

/* NULL, or why such a command can't be held. */
static const char *refusal(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    int flags = RedisModule_GetContextFlags(ctx);
    if (flags & (REDISMODULE_CTX_FLAGS_MULTI | REDISMODULE_CTX_FLAGS_LUA | REDISMODULE_CTX_FLAGS_DENY_BLOCKING))
        return "a write of this key waits for its SQL commit, which nothing can in MULTI, a script or a function; "
               "send it alone";
    WriteKind kind = effect_kind(string_slice(argv[0]));
    if (is_of_two(RedisModule_GetSelectedDb(ctx), argv, kind == DELETE_KEYS ? argc : 2))
        return "it is of write-through functions of two deployments, which can't be one SQL transaction; send its keys "
               "one by one, or undeploy one of the two";
    if (kind == OTHER_WRITE)
        return "this command can't wait for an SQL commit; change this key by HSET, HSETNX, HINCRBY, HINCRBYFLOAT, "
               "HDEL, DEL, UNLINK or EXPIRE";
    return NULL;
}

static Write *write_create(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Write *write = RedisModule_Calloc(1, sizeof(*write));
    write->db = RedisModule_GetSelectedDb(ctx);
    write->argc = argc;
    write->argv = RedisModule_Alloc(sizeof(*argv) * (size_t)argc);
    for (int i = 0; i < argc; i++) write->argv[i] = RedisModule_HoldString(NULL, argv[i]);
    int count;
    RedisModuleString **keys = write_keys(write, &count);
    turns_take(&write->turns, write, write->db, keys, count);
    write_link_last(write);
    writes_count++;
    return write;
}

static int db_in_hand;

static bool is_covered_here(RedisModuleString *key, unsigned kinds) {
    return (kinds & 1u << KIND_HASH) && rule_for(db_in_hand, string_slice(key)) != NULL;
}

static Rule *rule_of_written(int db, RedisModuleString **argv, int argc) {
    db_in_hand = db;
    RedisModuleString *key = written_find(argv, argc, is_covered_here);
    return key != NULL ? rule_for(db, string_slice(key)) : NULL;
}

/* The database that a COPY or MOVE names; -1: none. */
static int named_db(Slice name, RedisModuleString **argv, int argc) {
    long long db = -1;
    if (slice_is(name, "move") && argc == 3 && RedisModule_StringToLongLong(argv[2], &db) != REDISMODULE_OK) return -1;
    for (int i = 3; slice_is(name, "copy") && i + 1 < argc; i++)
        if (slice_is(string_slice(argv[i]), "db")) RedisModule_StringToLongLong(argv[i + 1], &db);
    return db >= 0 && db <= INT_MAX ? (int)db : -1;
}

/* A rule that covers a key which the command would write. COPY writes in the database that it names alone, and MOVE
 * there too. */
static Rule *any_rule(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    int db = RedisModule_GetSelectedDb(ctx);
    Slice name = string_slice(argv[0]);
    WriteKind kind = effect_kind(name);
    if (kind == OTHER_WRITE) {
        int other = named_db(name, argv, argc);
        Rule *rule = other >= 0 ? rule_of_written(other, argv, argc) : NULL;
        return rule == NULL && (other < 0 || slice_is(name, "move")) ? rule_of_written(db, argv, argc) : rule;
    }
    int last = kind == DELETE_KEYS ? argc - 1 : 1;
    for (int i = 1; i <= last; i++) {
        Rule *rule = i < argc ? rule_for(db, string_slice(argv[i])) : NULL;
        if (rule != NULL) return rule;
    }
    return NULL;
}

static void start_soon(RedisModuleCtx *ctx, int db, RedisModuleString *key) {
    (void)db, (void)key;
    writes_any_ready = true;
    through_start_ready(ctx);
}

/* What needs memory is refused as the server would: not by our command's flags, since DEL has the same. */
static bool has_no_memory(Slice name) {
    return effect_kind(name) < REMOVE_FIELDS && RedisModule_GetUsedMemoryRatio() > 1;
}

/* argv[0] is our command, before that of the client. What has no effect for SQL, and needs no turn, is run at once. */
static int hold(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, const Rule *rule) {
    Write *write = write_create(ctx, argv + 1, argc - 1);
    write->timeout_ms = rule->timeout_ms;
    bool waits = write->turns.ahead > 0 || soon_needed();
    if (waits && write->turns.ahead == 0) soon_do(start_soon, write->db, argv[2]);
    const char *problem = waits ? NULL : start(ctx, write);
    int db = write->db;
    RedisModule_SelectDb(ctx, db);
    if (waits || write->stage != WAITING) {
        write->client = RedisModule_BlockClient(ctx, write_on_unblocked, write_on_unblock_asked, write_free_reply, 0);
        write->deadline_ms = workers_clock_ms() + rule->timeout_ms;
        write_watch(ctx, write);
        RedisModule_SetDisconnectCallback(write->client, write_on_disconnect);
        return REDISMODULE_OK;
    }
    write_take_out(write);
    write_free(write);
    return problem != NULL ? reply_error(ctx, problem) : inner_run(ctx, argv, argc, true);
}

/* Whether the filter puts our command before one of that name. Others must not be run by it: what a script does, or a
 * command of ours, would be done with all rights. */
static bool may_be_inner(Slice name) {
    if (slice_is(name, RECAPTURE)) return false;
    return effect_kind(name) != OTHER_WRITE || written_by(name);
}

int through_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (inner_tells_keys(ctx, argv, argc)) return REDISMODULE_OK;
    if (argc < 2) return RedisModule_WrongArity(ctx);
    if (!may_be_inner(string_slice(argv[1])))
        return RedisModule_ReplyWithError(ctx, "ERR gearsync.through is for commands that change keys of any type");
    if (!inner_allowed(ctx, argv, argc)) return REDISMODULE_OK;
    /* Our filter does not put it there on a replica that takes writes. */
    Rule *rule = shard.primary ? any_rule(ctx, argv + 1, argc - 1) : NULL;
    if (rule == NULL) return inner_run(ctx, argv, argc, true);
    const char *problem = refusal(ctx, argv + 1, argc - 1);
    if (problem != NULL) return reply_error(ctx, problem);
    if (has_no_memory(string_slice(argv[1])))
        return RedisModule_ReplyWithError(ctx, "OOM command not allowed when used memory > 'maxmemory'.");
    return hold(ctx, argv, argc, rule);
}

/* Whether a command that is about to run may change a key that is covered, in whichever database. */
static bool is_concerned(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    WriteKind kind = effect_kind(name);
    if (kind == OTHER_WRITE) return written_find_in(filter, name, argc, is_covered_hash) != NULL;
    int last = kind == DELETE_KEYS ? argc - 1 : 1;
    for (int i = 1; i <= last; i++)
        if (is_covered(RedisModule_CommandFilterArgGet(filter, i))) return true;
    return false;
}

/* Whether no function has keys of a database, and the command none of another one. Run by ours, a command such as BLPOP
 * could not wait. */
static bool is_elsewhere(Slice name, int db) {
    if (slice_is(name, "copy") || slice_is(name, "move")) return false;
    for (int i = 0; i < shard.nrules; i++)
        if (shard.rules[i]->timeout_ms > 0 && shard.rules[i]->db == db) return false;
    return true;
}

/* Before a lane leaves, what SQL has committed of it has to be done here: who has it next has not its keys. */
static bool is_unfinished_lane(Slice name) {
    Deployment *deployment = NULL;
    const Lane *lane = shard_find_lane(name, &deployment);
    return lane != NULL && lane_is_behind(deployment, lane);
}

/* A key that leaves while its write is on its way to SQL would be made anew here by the write. */
static bool leaves_amid_write(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    if (name.len != 7 || !slice_is(name, "migrate")) return false;
    for (int i = 1; i < argc; i++)
        if (is_unfinished_lane(string_slice(RedisModule_CommandFilterArgGet(filter, i)))) return true;
    for (const Write *write = writes_first; write != NULL; write = write->next) {
        int count;
        RedisModuleString **keys = write_keys(write, &count);
        for (int i = 1; i < argc; i++) {
            RedisModuleString *key = RedisModule_CommandFilterArgGet(filter, i);
            if (key_is_among(keys, count, key) || write_is_of(write, string_slice(key))) return true;
        }
    }
    return false;
}

static void refuse(RedisModuleCommandFilterCtx *filter, const char *words) {
    /* An unknown command fails when it is queued, so that EXEC aborts. */
    RedisModule_CommandFilterArgReplace(filter, 0, RedisModule_CreateString(NULL, words, strlen(words)));
}

bool through_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    if (!shard.through || argc < 2 || !shard.primary) return false;
    if (leaves_amid_write(filter, name, argc)) {
        refuse(filter,
               "THROUGH: a write of one of these keys, or in one of these lanes, is on its way to SQL; try again");
        return true;
    }
    /* It changes no key; it looks itself whether a client's write is on its way. */
    if (slice_is(name, RECAPTURE) || !is_concerned(filter, name, argc)) return false;
    RedisModuleClientInfo sender;
    bool is_known = sender_of(filter, &sender), queues = is_known && (sender.flags & REDISMODULE_CLIENTINFO_FLAG_MULTI);
    if (is_known && !queues && is_elsewhere(name, sender.db)) return false;
    if (queues)
        refuse(filter, "THROUGH: a write of this key waits for its SQL commit, not in MULTI; send it alone");
    else
        inner_insert(filter, THROUGH_COMMAND);
    return true;
}
