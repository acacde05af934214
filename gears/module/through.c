/* Write-through: the client of a covered write waits until SQL has committed it (docs/design.md, "Write-through").
 *
 * A write goes through stages. It waits for its turn at its keys; then what it will do is logged in the lane, as an
 * intent; the worker takes the intents of many clients, commits them in one transaction and settles them here: each
 * is applied by its own command, whose reply its client gets, or is refused with the reason. */
#include "gearsync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef enum {
    WAITING,  /* for its turn */
    LOGGED,   /* in the lane */
    TAKEN,    /* the worker may commit it at any time */
    CANCELLED /* its client has left or was told so, and no worker has it */
} Stage;

typedef struct Write {
    struct Write *next, *previous;
    RedisModuleBlockedClient *client;
    RedisModuleString **argv;
    int argc, db;
    RedisModuleString *stream;
    long long timeout_ms;
    Turns turns;
    Stage stage;
    RedisModuleStreamID id; /* of its last entry in the lane */
    bool told;              /* its client has had an error: it must not come true */
    bool disturbed;         /* a key of it has changed since it was logged */
} Write;

/* All writes. Those in the lane stand in the order of their ids. */
static Write *first_write, *last_write;
static int write_count;
/* A turn has come; to be started once the command in hand is through with the list. */
static bool any_ready;

/* -- Rules ---------------------------------------------------------------------------------------------------------- */

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

static bool is_covered(RedisModuleString *key) { return rule_for(-1, string_slice(key)) != NULL; }

/* -- The list of writes --------------------------------------------------------------------------------------------- */

static void link_last(Write *write) {
    write->next = NULL;
    write->previous = last_write;
    *(last_write != NULL ? &last_write->next : &first_write) = write;
    last_write = write;
}

static void take_out(Write *write) {
    *(write->previous != NULL ? &write->previous->next : &first_write) = write->next;
    *(write->next != NULL ? &write->next->previous : &last_write) = write->previous;
}

static bool is_of(const Write *write, Slice stream) {
    Slice name = string_slice(write->stream);
    return name.len == stream.len && memcmp(name.bytes, stream.bytes, name.len) == 0;
}

static void on_turn(void *write) {
    (void)write;
    any_ready = true;
}

static void write_free(Write *write) {
    turns_leave(&write->turns, on_turn);
    for (int i = 0; i < write->argc; i++) RedisModule_FreeString(NULL, write->argv[i]);
    RedisModule_Free(write->argv);
    if (write->stream != NULL) RedisModule_FreeString(NULL, write->stream);
    RedisModule_Free(write);
    write_count--;
}

/* Ends a write; its client gets the reply, which is freed. Who was told an error, or has left, only is let go. */
static void finish(Write *write, Text reply) {
    Text *copy = NULL;
    if (!write->told && write->stage != CANCELLED && reply.len > 0) {
        copy = RedisModule_Alloc(sizeof(*copy));
        *copy = reply;
    } else {
        text_free(&reply);
    }
    take_out(write);
    if (write->client != NULL) RedisModule_UnblockClient(write->client, copy);
    write_free(write);
}

static Text error_text(const char *sentence, Slice detail) {
    Text text = {0};
    text_printf(&text, "-THROUGH %s", sentence);
    text_add(&text, detail.bytes, detail.len);
    return text;
}

static int reply_error(RedisModuleCtx *ctx, const char *sentence) {
    Text text = error_text(sentence, (Slice){"", 0});
    RedisModule_ReplyWithError(ctx, text.bytes + 1);
    text_free(&text);
    return REDISMODULE_OK;
}

/* -- Running a command, and passing its reply on ---------------------------------------------------------------------- */

/* The reply in the words of the protocol. */
static Text run(RedisModuleCtx *ctx, int db, RedisModuleString **argv, int argc) {
    Text text = {0};
    RedisModule_SelectDb(ctx, db);
    const char *format = shard.server_version < 0x070000 ? "!v" : "!Ev";
    RedisModuleCallReply *reply =
        RedisModule_Call(ctx, string_slice(argv[0]).bytes, format, argv + 1, (size_t)(argc - 1));
    if (reply == NULL) {
        text_printf(&text, "-ERR the server does not run this command here: %s", strerror(errno));
        return text;
    }
    size_t len = 0;
    const char *proto = RedisModule_CallReplyProto(reply, &len);
    text_add(&text, proto, len);
    RedisModule_FreeCallReply(reply);
    return text;
}

/* The replies of the commands that are held: a number, a status, a string, an error. */
static int pass_on(RedisModuleCtx *ctx, const Text *reply) {
    Text line = {0};
    size_t end = 1;
    while (end < reply->len && reply->bytes[end] != '\r') end++;
    text_add(&line, reply->bytes + 1, end - 1);
    if (reply->bytes[0] == ':')
        RedisModule_ReplyWithLongLong(ctx, strtoll(line.bytes, NULL, 10));
    else if (reply->bytes[0] == '$')
        RedisModule_ReplyWithStringBuffer(ctx, reply->bytes + end + 2, (size_t)strtoll(line.bytes, NULL, 10));
    else if (reply->bytes[0] == '+')
        RedisModule_ReplyWithSimpleString(ctx, line.bytes);
    else
        RedisModule_ReplyWithError(ctx, line.bytes);
    text_free(&line);
    return REDISMODULE_OK;
}

static int on_unblocked(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv, (void)argc;
    const Text *reply = RedisModule_GetBlockedClientPrivateData(ctx);
    return pass_on(ctx, reply);
}

static void free_reply(RedisModuleCtx *ctx, void *data) {
    (void)ctx;
    Text *reply = data;
    text_free(reply);
    RedisModule_Free(reply);
}

/* -- Clients that wait no longer ---------------------------------------------------------------------------------------- */

static Write *write_of(const RedisModuleBlockedClient *client) {
    Write *write = first_write;
    while (write != NULL && write->client != client) write = write->next;
    return write;
}

static void on_disconnect(RedisModuleCtx *ctx, RedisModuleBlockedClient *client) {
    (void)ctx;
    Write *write = write_of(client);
    /* What the worker has goes its way, whoever is there to hear of it. */
    if (write != NULL && write->stage != TAKEN) write->stage = CANCELLED;
}

static int on_timeout(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv, (void)argc;
    Write *write = write_of(RedisModule_GetBlockedClientHandle(ctx));
    long long waited = write != NULL ? write->timeout_ms : 0;
    bool taken = write != NULL && write->stage == TAKEN;
    Text text = {0};
    text_printf(&text, "THROUGH the database has not committed this within %lld ms, so %s", waited,
                taken ? "it is given up: should it be committed yet, its row is taken back" : "nothing was written");
    if (write != NULL) write->told = true;
    if (write != NULL && !taken) write->stage = CANCELLED;
    int result = RedisModule_ReplyWithError(ctx, text.bytes);
    text_free(&text);
    return result;
}

/* -- Logging an intent ---------------------------------------------------------------------------------------------------- */

/* The keys that the command writes; they stand in a row. */
static RedisModuleString **keys_of(const Write *write, int *count) {
    *count = effect_kind(string_slice(write->argv[0])) == DELETE_KEYS ? write->argc - 1 : 1;
    return write->argv + 1;
}

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
    Lane *lane = deployment->lanes[rules[0]->target * deployment->nlanes];
    Text ticket = ticket_of(write, effect, is_first);
    Image image;
    image_start(&image, key, effect->op);
    RedisModuleString *meta = image_ticket(&image, effect->op, (Slice){ticket.bytes, ticket.len});
    if (effect->op != 'D') effect_image(ctx, effect, write->db, key, rules, count, &image);
    bool logged = capture_append(ctx, deployment, lane, &image);
    image_end(&image);
    RedisModule_FreeString(NULL, meta);
    text_free(&ticket);
    if (!logged) return false;
    write->id = lane->last;
    if (write->stream == NULL) write->stream = RedisModule_HoldString(NULL, lane->stream);
    return true;
}

static bool is_among(RedisModuleString **keys, int count, RedisModuleString *key) {
    Slice name = string_slice(key);
    for (int i = 0; i < count; i++) {
        Slice other = string_slice(keys[i]);
        if (other.len == name.len && memcmp(other.bytes, name.bytes, name.len) == 0) return true;
    }
    return false;
}

/* NULL, or what is wrong. */
static const char *log_intent(RedisModuleCtx *ctx, Write *write, const Effect *effect, Deployment *deployment) {
    if (shard.tag[0] == '\0' && !cluster_settle(ctx)) return "this node of the cluster has no slot";
    int count;
    RedisModuleString **keys = keys_of(write, &count);
    for (int i = 0; i < count; i++)
        if (!is_among(keys, i, keys[i]) && !log_key(ctx, write, effect, deployment, keys[i], write->stream == NULL))
            return "the hash is too large for a stream entry; nothing was written";
    write->stage = LOGGED;
    return NULL;
}

static Rule *first_rule(const Write *write) {
    int count;
    RedisModuleString **keys = keys_of(write, &count);
    Rule *rule = NULL;
    for (int i = 0; i < count && rule == NULL; i++) rule = rule_for(write->db, string_slice(keys[i]));
    return rule;
}

/* The turn of a write has come: it is logged, unless it has no effect for SQL. NULL, or why it can't be. */
static const char *start(RedisModuleCtx *ctx, Write *write) {
    Rule *rule = first_rule(write);
    if (rule == NULL) return NULL;
    Effect effect = effect_of(ctx, write->db, write->argv, write->argc);
    const char *problem = effect.op != 0 ? log_intent(ctx, write, &effect, rule->deployment) : NULL;
    effect_free(&effect);
    return problem;
}

static Write *find_ready(void) {
    for (Write *write = first_write; write != NULL; write = write->next)
        if (write->stage == WAITING && write->turns.ahead == 0) return write;
    return NULL;
}

static void start_ready(RedisModuleCtx *ctx) {
    while (any_ready) {
        any_ready = false;
        for (Write *write = find_ready(); write != NULL; write = find_ready()) {
            const char *problem = start(ctx, write);
            if (write->stage == WAITING) {
                finish(write, problem != NULL ? error_text(problem, (Slice){"", 0})
                                              : run(ctx, write->db, write->argv, write->argc));
            } else {
                take_out(write);
                link_last(write);
            }
        }
    }
}

/* -- The client's command --------------------------------------------------------------------------------------------------- */

/* NULL, or why such a command can't be held. */
static const char *refusal(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    int flags = RedisModule_GetContextFlags(ctx);
    if (flags & (REDISMODULE_CTX_FLAGS_MULTI | REDISMODULE_CTX_FLAGS_LUA | REDISMODULE_CTX_FLAGS_DENY_BLOCKING))
        return "a write of this key waits for its SQL commit, which nothing can in MULTI, a script or a function; "
               "send it alone";
    WriteKind kind = effect_kind(string_slice(argv[0]));
    if (kind == OTHER_WRITE)
        return "this command can't wait for an SQL commit; change this key by HSET, HSETNX, HINCRBY, HINCRBYFLOAT, "
               "HDEL, DEL, UNLINK or EXPIRE";
    if (kind != DELETE_KEYS || argc < 3) return NULL;
    Deployment *deployment = NULL;
    for (int i = 1; i < argc; i++) {
        Rule *rule = rule_for(RedisModule_GetSelectedDb(ctx), string_slice(argv[i]));
        if (rule == NULL) continue;
        if (deployment != NULL && rule->deployment != deployment)
            return "these keys are of two deployments, which can't be one SQL transaction; delete them one by one";
        deployment = rule->deployment;
    }
    return NULL;
}

static Write *write_create(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Write *write = RedisModule_Calloc(1, sizeof(*write));
    write->db = RedisModule_GetSelectedDb(ctx);
    write->argc = argc;
    write->argv = RedisModule_Alloc(sizeof(*argv) * (size_t)argc);
    for (int i = 0; i < argc; i++) write->argv[i] = RedisModule_HoldString(NULL, argv[i]);
    int count;
    RedisModuleString **keys = keys_of(write, &count);
    turns_take(&write->turns, write, write->db, keys, count);
    link_last(write);
    write_count++;
    return write;
}

static Rule *any_rule(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    int db = RedisModule_GetSelectedDb(ctx);
    for (int i = 1; i < argc; i++) {
        Rule *rule = rule_for(db, string_slice(argv[i]));
        if (rule != NULL) return rule;
    }
    return NULL;
}

/* argv[0] is our command, before that of the client. What has no effect for SQL, and needs no turn, is run at once. */
static int hold(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, const Rule *rule) {
    Write *write = write_create(ctx, argv + 1, argc - 1);
    write->timeout_ms = rule->timeout_ms;
    const char *problem = write->turns.ahead == 0 ? start(ctx, write) : NULL;
    int db = write->db;
    RedisModule_SelectDb(ctx, db);
    if (write->stage == LOGGED || write->turns.ahead > 0) {
        write->client = RedisModule_BlockClient(ctx, on_unblocked, on_timeout, free_reply, rule->timeout_ms);
        RedisModule_SetDisconnectCallback(write->client, on_disconnect);
        return REDISMODULE_OK;
    }
    take_out(write);
    write_free(write);
    return problem != NULL ? reply_error(ctx, problem) : inner_run(ctx, argv, argc, true);
}

int through_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (inner_tells_keys(ctx, argv, argc)) return REDISMODULE_OK;
    if (argc < 2) return RedisModule_WrongArity(ctx);
    if (!inner_allowed(ctx, argv, argc)) return REDISMODULE_OK;
    Rule *rule = any_rule(ctx, argv + 1, argc - 1);
    if (rule == NULL) return inner_run(ctx, argv, argc, true);
    const char *problem = refusal(ctx, argv + 1, argc - 1);
    if (problem != NULL) return reply_error(ctx, problem);
    return hold(ctx, argv, argc, rule);
}

/* Whether a command that is about to run may change a key that is covered, in whichever database. */
static bool is_concerned(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    WriteKind kind = effect_kind(name);
    if (kind == OTHER_WRITE) return written_find_in(filter, name, argc, is_covered) != NULL;
    int last = kind == DELETE_KEYS ? argc - 1 : 1;
    for (int i = 1; i <= last; i++)
        if (is_covered(RedisModule_CommandFilterArgGet(filter, i))) return true;
    return false;
}

/* A key that leaves while its write is on its way to SQL would be made anew here by the write. */
static bool leaves_amid_write(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    if (write_count == 0 || name.len != 7 || !slice_is(name, "migrate")) return false;
    for (const Write *write = first_write; write != NULL; write = write->next) {
        int count;
        RedisModuleString **keys = keys_of(write, &count);
        for (int i = 1; i < argc; i++)
            if (is_among(keys, count, RedisModule_CommandFilterArgGet(filter, i))) return true;
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
        refuse(filter, "THROUGH: a write of one of these keys is on its way to SQL; try again");
        return true;
    }
    if (!is_concerned(filter, name, argc)) return false;
    if (filter_in_transaction(filter))
        refuse(filter, "THROUGH: a write of this key waits for its SQL commit, not in MULTI; send it alone");
    else
        inner_insert(filter, THROUGH_COMMAND);
    return true;
}

/* -- What the worker asks ----------------------------------------------------------------------------------------------------- */

static void apply(RedisModuleCtx *ctx, Write *write) {
    if (write->told) { /* Committed all the same: SQL goes back to what Redis has. */
        int count;
        RedisModuleString **keys = keys_of(write, &count);
        for (int i = 0; i < count; i++) capture_again(ctx, write->db, keys[i]);
        finish(write, (Text){0});
        return;
    }
    /* A key that something else has changed meanwhile (its time was over) is captured: SQL follows. */
    shard.applying = !write->disturbed;
    Text reply = run(ctx, write->db, write->argv, write->argc);
    shard.applying = false;
    if (reply.bytes[0] == '-')
        RedisModule_Log(ctx, "warning", "write-through: %.*s is in SQL, and Redis refuses it: %.*s",
                        (int)string_slice(write->argv[0]).len, string_slice(write->argv[0]).bytes, (int)reply.len,
                        reply.bytes);
    finish(write, reply);
}

typedef struct {
    RedisModuleStreamID id;
    Slice reason;
} Refused;

static const Refused *find_refused(const Refused *refused, int count, RedisModuleStreamID id) {
    for (int i = 0; i < count; i++)
        if (stream_id_compare(refused[i].id, id) == 0) return &refused[i];
    return NULL;
}

/* Pairs of an id and a sentence; NULL: they are none. */
static Refused *parse_refused(RedisModuleString **argv, int argc, int *count) {
    *count = argc / 2;
    Refused *refused = RedisModule_Calloc((size_t)*count + 1, sizeof(*refused));
    bool sound = argc % 2 == 0;
    for (int i = 0; i < *count && sound; i++) {
        sound = stream_id_parse(string_slice(argv[i * 2]), &refused[i].id);
        refused[i].reason = string_slice(argv[i * 2 + 1]);
    }
    if (sound) return refused;
    RedisModule_Free(refused);
    return NULL;
}

static Lane *own_lane(RedisModuleCtx *ctx, RedisModuleString *stream, Deployment **deployment) {
    Lane *lane = shard.primary ? registry_find_lane(string_slice(stream), deployment) : NULL;
    if (lane == NULL)
        RedisModule_ReplyWithError(ctx, shard.primary ? "ERR there is no lane of that name on this server"
                                                      : "ERR this server is a replica; ask its primary");
    return lane;
}

/* GEARSYNC.TAKE stream id worker: the intents up to id that are to be committed, by their ids, after the deployment's
 * version. From now on no other worker settles them. */
int through_take_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    RedisModuleStreamID id;
    Deployment *deployment = NULL;
    if (argc != 4 || !stream_id_parse(string_slice(argv[2]), &id))
        return RedisModule_ReplyWithError(ctx, "ERR use GEARSYNC.TAKE stream id worker");
    Lane *lane = own_lane(ctx, argv[1], &deployment);
    if (lane == NULL) return REDISMODULE_OK;
    lane->taker = key_hash(string_slice(argv[3]));
    Slice stream = string_slice(argv[1]);
    long taken = 0;
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    RedisModule_ReplyWithLongLong(ctx, deployment->version);
    for (Write *write = first_write; write != NULL; write = write->next) {
        bool open = write->stage == LOGGED || (write->stage == TAKEN && !write->told);
        if (!open || !is_of(write, stream) || stream_id_compare(write->id, id) > 0) continue;
        write->stage = TAKEN;
        RedisModuleString *text = RedisModule_CreateStringPrintf(ctx, "%llu-%llu", (unsigned long long)write->id.ms,
                                                                 (unsigned long long)write->id.seq);
        RedisModule_ReplyWithString(ctx, text);
        RedisModule_FreeString(ctx, text);
        taken++;
    }
    RedisModule_ReplySetArrayLength(ctx, taken + 1);
    return REDISMODULE_OK;
}

/* GEARSYNC.SETTLE stream id worker [id reason]…: SQL has committed what was taken up to id, but for those that are named. */
int through_settle_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    static const char *const usage = "ERR use GEARSYNC.SETTLE stream id worker [id reason]...";
    RedisModuleStreamID id;
    Deployment *deployment = NULL;
    int count = 0;
    if (argc < 4 || !stream_id_parse(string_slice(argv[2]), &id)) return RedisModule_ReplyWithError(ctx, usage);
    Lane *lane = own_lane(ctx, argv[1], &deployment);
    if (lane == NULL) return REDISMODULE_OK;
    if (lane->taker != key_hash(string_slice(argv[3])))
        return RedisModule_ReplyWithError(ctx, "FENCED another worker has taken this lane");
    Refused *refused = parse_refused(argv + 4, argc - 4, &count);
    if (refused == NULL) return RedisModule_ReplyWithError(ctx, usage);
    Slice stream = string_slice(argv[1]);
    long long committed = 0;
    for (Write *write = first_write, *next; write != NULL; write = next) {
        next = write->next;
        if (write->stage != TAKEN || !is_of(write, stream) || stream_id_compare(write->id, id) > 0) continue;
        const Refused *found = find_refused(refused, count, write->id);
        committed += found == NULL;
        if (found == NULL)
            apply(ctx, write);
        else
            finish(write, error_text("", found->reason));
    }
    RedisModule_Free(refused);
    if (committed > 0) registry_note_applied(ctx, lane, shard.epoch, id);
    lane_acknowledge(ctx, lane, id);
    backlog_update(deployment);
    barrier_check();
    start_ready(ctx);
    return RedisModule_ReplyWithLongLong(ctx, committed);
}

/* GEARSYNC.DENY stream reason: what no worker has yet is refused: the database is away. The number of them. */
int through_deny_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 3) return RedisModule_WrongArity(ctx);
    if (own_lane(ctx, argv[1], NULL) == NULL) return REDISMODULE_OK;
    long long refused = 0;
    for (Write *write = first_write, *next; write != NULL; write = next) {
        next = write->next;
        if (write->stage != LOGGED || !is_of(write, string_slice(argv[1]))) continue;
        finish(write, error_text("", string_slice(argv[2])));
        refused++;
    }
    start_ready(ctx);
    return RedisModule_ReplyWithLongLong(ctx, refused);
}

static Write *find_write(Slice stream, RedisModuleStreamID id) {
    for (Write *write = first_write; write != NULL; write = write->next)
        if (write->stage != WAITING && stream_id_compare(write->id, id) == 0 && is_of(write, stream)) return write;
    return NULL;
}

static void redo(RedisModuleCtx *ctx, Slice stream, RedisModuleStreamID id, Slice command, Slice reason) {
    Write *write = find_write(stream, id);
    if (write != NULL && command.len == 0)
        finish(write, error_text("", reason));
    else if (write != NULL)
        apply(ctx, write);
    else if (command.len > 0)
        effect_run(ctx, command);
}

/* GEARSYNC.REDO stream epoch id worker [id command reason]…: SQL has committed these, or refused those without a command, and Redis
 * may not know of it: up to id of that epoch they are done now, whatever was lost. */
int through_redo_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    static const char *const usage = "ERR use GEARSYNC.REDO stream epoch id worker [id command reason]...";
    RedisModuleStreamID id, each;
    long long epoch;
    if (argc < 5 || (argc - 5) % 3 != 0 || RedisModule_StringToLongLong(argv[2], &epoch) != REDISMODULE_OK ||
        !stream_id_parse(string_slice(argv[3]), &id))
        return RedisModule_ReplyWithError(ctx, usage);
    for (int i = 5; i < argc; i += 3)
        if (!stream_id_parse(string_slice(argv[i]), &each)) return RedisModule_ReplyWithError(ctx, usage);
    Lane *lane = own_lane(ctx, argv[1], NULL);
    if (lane == NULL) return REDISMODULE_OK;
    lane->taker = key_hash(string_slice(argv[4]));
    for (int i = 5; i < argc; i += 3) {
        stream_id_parse(string_slice(argv[i]), &each);
        redo(ctx, string_slice(argv[1]), each, string_slice(argv[i + 1]), string_slice(argv[i + 2]));
    }
    registry_note_applied(ctx, lane, (uint64_t)epoch, id);
    start_ready(ctx);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* GEARSYNC.APPLIED stream: the epoch and the id up to which what SQL committed is in Redis. */
int through_applied_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    Lane *lane = own_lane(ctx, argv[1], NULL);
    if (lane == NULL) return REDISMODULE_OK;
    RedisModule_ReplyWithArray(ctx, 2);
    RedisModule_ReplyWithLongLong(ctx, (long long)lane->applied_epoch);
    RedisModuleString *text = RedisModule_CreateStringPrintf(ctx, "%llu-%llu", (unsigned long long)lane->applied.ms,
                                                             (unsigned long long)lane->applied.seq);
    RedisModule_ReplyWithString(ctx, text);
    RedisModule_FreeString(ctx, text);
    return REDISMODULE_OK;
}

/* -- What happens around ------------------------------------------------------------------------------------------------------- */

void through_see_event(int db, RedisModuleString *key) {
    if (write_count == 0 || shard.applying) return;
    Write *write = turns_holder(db, string_slice(key));
    if (write != NULL) write->disturbed = true;
}

void through_see_flush(void) {
    for (Write *write = first_write; write != NULL; write = write->next) write->disturbed = true;
}

bool through_is_pending(void) { return write_count > 0; }

void through_fail_all(const char *reason) {
    while (first_write != NULL) finish(first_write, error_text(reason, (Slice){"", 0}));
}

void through_tick(RedisModuleCtx *ctx) {
    for (Write *write = first_write, *next; write != NULL; write = next) {
        next = write->next;
        bool gone = write->stream != NULL && registry_find_lane(string_slice(write->stream), NULL) == NULL;
        if (gone)
            finish(write, error_text("the deployment was taken away; nothing was written", (Slice){"", 0}));
        else if (write->stage == CANCELLED)
            finish(write, (Text){0});
    }
    start_ready(ctx);
}

void through_free(void) { turns_free(); }
