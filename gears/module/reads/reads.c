/* Read-through, the clients' side: a command that reads a key which is not there, and which a function reads through,
 * is held until the row of the key has become a hash, or is known not to exist. Then it runs as it is. */
#include "misses.h"

#include <string.h>

#include "clients/inner.h"
#include "clients/soon.h"
#include "pauses/hold.h"
#include "pauses/pause.h"
#include "resharding/resharding.h"

#define COMMAND "gearsync.read"
#define READER_PLACES 1024
#define LATE_MS 50
/* Hashes that are loaded again before their end, at the same time; more of them have to expire. */
#define MOST_REFRESHED 10000
#define SOON_MS 1000 /* also the time from MULTI to EXEC, mostly */

/* What reads a hash, with the fewest and the most words of it; 0: no most. */
static const struct {
    const char *name;
    int fewest, most;
    bool many_keys;
} COMMANDS[] = {
    {"hget", 3, 3, false}, {"hmget", 3, 0, false},      {"hgetall", 2, 2, false}, {"hexists", 3, 3, false},
    {"hlen", 2, 2, false}, {"hstrlen", 3, 3, false},    {"hkeys", 2, 2, false},   {"hvals", 2, 2, false},
    {"type", 2, 2, false}, {"hrandfield", 2, 4, false}, {"exists", 2, 0, true},
};

static Reader *readers[READER_PLACES];

/* The last of the words that are keys; 0: no command that reads a hash, or one that the server will refuse. */
static int last_key(Slice name, int argc) {
    for (size_t i = 0; i < sizeof(COMMANDS) / sizeof(COMMANDS[0]); i++) {
        if (!slice_is(name, COMMANDS[i].name)) continue;
        if (argc < COMMANDS[i].fewest || (COMMANDS[i].most > 0 && argc > COMMANDS[i].most)) return 0;
        return COMMANDS[i].many_keys ? argc - 1 : 1;
    }
    return 0;
}

ReadRule *reads_rule_for(int db, Slice key) {
    for (int i = 0; i < shard.nreads; i++)
        if (shard.reads[i]->db == db && template_matches(&shard.reads[i]->template, key)) return shard.reads[i];
    return NULL;
}

/* -- Keys ---------------------------------------------------------------------------------------------------------- */

/* Where the server can: without any effect, so that it is safe outside of a command; a key whose time is over is not
 * there. The database is selected. */
static RedisModuleKey *open_quietly(RedisModuleCtx *ctx, RedisModuleString *key) {
    return RedisModule_OpenKey(ctx, key, REDISMODULE_READ | (shard.has_jobs ? REDISMODULE_OPEN_KEY_NOEFFECTS : 0));
}

bool reads_key_exists(RedisModuleCtx *ctx, int db, RedisModuleString *name) {
    RedisModule_SelectDb(ctx, db);
    RedisModuleKey *key = open_quietly(ctx, name);
    if (key == NULL) return false;
    RedisModule_CloseKey(key);
    return true;
}

/* Whether a key that is there is near its end. */
static bool is_near_end(const ReadRule *rule, RedisModuleKey *key) {
    if (rule->refresh_ms == 0 || RedisModule_KeyType(key) != REDISMODULE_KEYTYPE_HASH) return false;
    long long left = (long long)RedisModule_GetExpire(key);
    return left >= 0 && left < rule->refresh_ms;
}

/* -- The filter ---------------------------------------------------------------------------------------------------- */

/* Whether the command in the filter has to be looked at when it runs. A key that is there now can be gone by then: its
 * time is over, or the server evicts it before the command. */
static bool is_concerned(ReadRule *rule, RedisModuleString *name) {
    if (!shard.has_jobs || RedisModule_GetUsedMemoryRatio() >= 1) return true;
    RedisModule_SelectDb(shard.detached, rule->db);
    RedisModuleKey *key = open_quietly(shard.detached, name);
    if (key == NULL) return true;
    long long left = (long long)RedisModule_GetExpire(key);
    bool ends = is_near_end(rule, key) || (left >= 0 && left < SOON_MS);
    RedisModule_CloseKey(key);
    return ends;
}

/* The database of the client is not known to a filter on every server: a rule of any may be meant. */
static bool concerns_any(RedisModuleString *name) {
    Slice key = string_slice(name);
    for (int i = 0; i < shard.nreads; i++)
        if (template_matches(&shard.reads[i]->template, key) && is_concerned(shard.reads[i], name)) return true;
    return false;
}

void reads_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    int last = last_key(name, argc);
    for (int i = 1; i <= last; i++) {
        if (!concerns_any(RedisModule_CommandFilterArgGet(filter, i))) continue;
        inner_insert(filter, COMMAND);
        return;
    }
}

/* -- Clients that are held ----------------------------------------------------------------------------------------- */

static Reader **place_of(const RedisModuleBlockedClient *client) {
    return &readers[((uintptr_t)client >> 4) % READER_PLACES];
}

static Reader *reader_of(RedisModuleBlockedClient *client) {
    Reader *reader = *place_of(client);
    while (reader != NULL && reader->client != client) reader = reader->next;
    return reader;
}

static void reader_leave(Reader *reader) {
    reader->left = true;
    for (int i = 0; i < reader->count; i++) miss_leave(&reader->links[i]);
}

static void unblock(Reader *reader, char *failure) {
    Reader **at = place_of(reader->client);
    while (*at != reader) at = &(*at)->next;
    *at = reader->next;
    RedisModule_UnblockClient(reader->client, failure);
    RedisModule_Free(reader);
}

void reader_go_on(Reader *reader, const char *failure) {
    reader_leave(reader);
    if (reader->on_ready != NULL) {
        RowReady on_ready = reader->on_ready;
        void *waiter = reader->waiter;
        RedisModule_Free(reader);
        on_ready(waiter, failure);
        return;
    }
    /* A client whose time is over in the very moment in which it is unblocked would get no reply from the server. */
    if (reader->deadline_ms - RedisModule_Milliseconds() < LATE_MS) {
        reader->late = true;
        reader->failed = failure != NULL;
        return;
    }
    unblock(reader, failure != NULL ? slice_copy((Slice){failure, strlen(failure)}) : NULL);
}

void reads_collect(void) {
    for (int i = 0; i < READER_PLACES; i++)
        for (Reader *reader = readers[i], *next; reader != NULL; reader = next) {
            next = reader->next;
            bool waits = reader->late && RedisModule_Milliseconds() < reader->deadline_ms + LATE_MS;
            if (reader->left && !waits) unblock(reader, NULL);
        }
}

void reads_fail_all(const char *failure) {
    for (int i = 0; i < READER_PLACES; i++)
        for (Reader *reader = readers[i], *next; reader != NULL; reader = next) {
            next = reader->next;
            if (!reader->left) reader_go_on(reader, failure);
        }
}

static int reply_failure(RedisModuleCtx *ctx, const char *what) {
    Text text = {0};
    text_printf(&text, "READTHROUGH %s", what);
    RedisModule_ReplyWithError(ctx, text.bytes);
    text_free(&text);
    return REDISMODULE_OK;
}

static int on_reply(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    const char *failure = RedisModule_GetBlockedClientPrivateData(ctx);
    return failure != NULL ? reply_failure(ctx, failure) : inner_run(ctx, argv, argc, false);
}

static void free_failure(RedisModuleCtx *ctx, void *failure) {
    (void)ctx;
    if (failure != NULL) RedisModule_Free(failure);
}

static const char *reason_of(const Miss *miss) {
    if (miss->state == MISS_LANE) return "a change of it still waits to be in SQL";
    return miss->state == MISS_QUEUED ? "no worker takes it" : "the database has not answered";
}

/* The first row that should have come, and whose client is to be told so. */
static const Miss *late_miss(const Reader *reader) {
    for (int i = 0; i < reader->count; i++)
        if (reader->links[i].miss != NULL && !reader->links[i].miss->rule->misses) return reader->links[i].miss;
    return NULL;
}

static int on_timeout(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Reader *reader = reader_of(RedisModule_GetBlockedClientHandle(ctx));
    if (reader != NULL && reader->failed) return reply_failure(ctx, "the row could not be read in time");
    if (reader == NULL || reader->left) return inner_run(ctx, argv, argc, false);
    Text text = {0};
    const Miss *late = late_miss(reader);
    if (late != NULL) {
        Slice key = string_slice(late->key);
        text_printf(&text, "the row of key %.*s was not read within %lld ms: %s", key.len > 200 ? 200 : (int)key.len,
                    key.bytes, reader->timeout_ms, reason_of(late));
    }
    for (int i = 0; i < reader->count; i++)
        if (reader->links[i].miss != NULL) reader->links[i].miss->rule->deployment->read_counts.failed++;
    reader_leave(reader);
    int result = late != NULL ? reply_failure(ctx, text.bytes) : inner_run(ctx, argv, argc, false);
    text_free(&text);
    return result;
}

static void on_disconnect(RedisModuleCtx *ctx, RedisModuleBlockedClient *client) {
    (void)ctx;
    Reader *reader = reader_of(client);
    if (reader != NULL) reader_leave(reader);
}

/* -- The command --------------------------------------------------------------------------------------------------- */

/* The rule under which a key of the command is to be loaded; NULL: it is there, or has no row, or nobody loads it. A
 * hash near its end is put in the queue behind the reply. */
static ReadRule *rule_of_missing(RedisModuleCtx *ctx, int db, RedisModuleString *name) {
    Slice text = string_slice(name);
    ReadRule *rule = reads_rule_for(db, text);
    if (rule == NULL) return NULL;
    /* Not quietly: a key whose time is over has to go first, as an expiry like any other. */
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    if (key == NULL) return missing_knows(db, text) ? NULL : rule;
    bool ends = is_near_end(rule, key);
    RedisModule_CloseKey(key);
    if (ends && pause_of_read(rule->deployment, rule->target) == NULL && misses_count() < MOST_REFRESHED &&
        miss_find(db, text) == NULL)
        miss_look(miss_make(rule, db, name, true));
    return NULL;
}

static bool can_wait(RedisModuleCtx *ctx) {
    int denied = REDISMODULE_CTX_FLAGS_MULTI | REDISMODULE_CTX_FLAGS_LUA | REDISMODULE_CTX_FLAGS_DENY_BLOCKING;
    return (RedisModule_GetContextFlags(ctx) & denied) == 0;
}

static Reader *reader_make(RedisModuleCtx *ctx, int most, long long timeout_ms) {
    Reader *reader = RedisModule_Calloc(1, sizeof(*reader) + sizeof(Link) * (size_t)most);
    reader->timeout_ms = timeout_ms;
    reader->deadline_ms = RedisModule_Milliseconds() + timeout_ms;
    reader->client = RedisModule_BlockClient(ctx, on_reply, on_timeout, free_failure, timeout_ms);
    RedisModule_SetDisconnectCallback(reader->client, on_disconnect);
    reader->next = *place_of(reader->client);
    *place_of(reader->client) = reader;
    return reader;
}

/* A slot on its way here: changes of the key may wait on its old shard, and a mark will say so. */
static void look(RedisModuleCtx *ctx, int db, RedisModuleString *key) {
    Slice name = string_slice(key);
    slots_before_capture(ctx, name);
    RedisModule_SelectDb(ctx, db);
    Miss *miss = miss_find(db, name);
    if (miss != NULL) miss_look(miss);
}

static void wait_for_row(RedisModuleCtx *ctx, Reader *reader, ReadRule *rule, int db, RedisModuleString *key) {
    Slice name = string_slice(key);
    Miss *miss = miss_find(db, name);
    if (miss == NULL) miss = miss_make(rule, db, key, false);
    for (const Link *link = miss->links; link != NULL; link = link->next)
        if (link->reader == reader) return;
    Link *link = &reader->links[reader->count++];
    link->reader = reader;
    reader->open++;
    miss_join(miss, link);
    if (soon_needed())
        soon_do(look, db, key);
    else
        look(ctx, db, key);
}

const char *reads_paused(RedisModuleCtx *ctx, int db, RedisModuleString *key) {
    if (shard.nreads == 0) return NULL;
    RedisModule_SelectDb(ctx, db);
    const ReadRule *rule = rule_of_missing(ctx, db, key);
    return rule != NULL ? pause_of_write(rule->deployment, rule->target) : NULL;
}

struct Reader *reads_want(RedisModuleCtx *ctx, int db, RedisModuleString *key, RowReady on_ready, void *waiter) {
    if (shard.nreads == 0) return NULL;
    RedisModule_SelectDb(ctx, db);
    ReadRule *rule = rule_of_missing(ctx, db, key);
    if (rule == NULL) return NULL;
    rule->deployment->read_counts.misses++;
    Reader *reader = RedisModule_Calloc(1, sizeof(*reader) + sizeof(Link));
    reader->on_ready = on_ready;
    reader->waiter = waiter;
    wait_for_row(ctx, reader, rule, db, key);
    return reader;
}

void reads_want_no_more(struct Reader *reader) {
    reader_leave(reader);
    RedisModule_Free(reader);
}

/* keys: of the command, those with a rule are missing. */
static void hold(RedisModuleCtx *ctx, RedisModuleString **keys, ReadRule **rules, int count) {
    int db = RedisModule_GetSelectedDb(ctx);
    long long timeout_ms = 0;
    for (int i = 0; i < count; i++)
        if (rules[i] != NULL && (timeout_ms == 0 || rules[i]->timeout_ms < timeout_ms))
            timeout_ms = rules[i]->timeout_ms;
    Reader *reader = reader_make(ctx, count, timeout_ms);
    for (int i = 0; i < count; i++)
        if (rules[i] != NULL) wait_for_row(ctx, reader, rules[i], db, keys[i]);
}

/* Whether the client is to be told that it can't be held; else it misses. */
static bool must_fail(ReadRule **rules, int count) {
    for (int i = 0; i < count; i++)
        if (rules[i] != NULL && !rules[i]->misses) return true;
    return false;
}

/* Why a row will not be read for now; NULL: it may be. */
static const char *pause_among(int db, RedisModuleString **keys, ReadRule **rules, int count) {
    for (int i = 0; i < count; i++) {
        if (rules[i] == NULL) continue;
        const char *paused = pause_of_read(rules[i]->deployment, rules[i]->target);
        if (paused == NULL) paused = held_of_read(db, string_slice(keys[i]));
        if (paused != NULL) return paused;
    }
    return NULL;
}

static int run_or_hold(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int count) {
    ReadRule *fixed[16];
    ReadRule **rules = count <= 16 ? fixed : RedisModule_Alloc(sizeof(*rules) * (size_t)count);
    int db = RedisModule_GetSelectedDb(ctx), missing = 0, result = REDISMODULE_OK;
    for (int i = 0; i < count; i++) {
        rules[i] = rule_of_missing(ctx, db, argv[i + 2]);
        missing += rules[i] != NULL;
        if (rules[i] != NULL) rules[i]->deployment->read_counts.misses++;
    }
    const char *paused = pause_among(db, argv + 2, rules, count);
    bool held = missing > 0 && paused == NULL && can_wait(ctx);
    if (held)
        hold(ctx, argv + 2, rules, count);
    else if (missing > 0 && must_fail(rules, count))
        result = reply_failure(ctx, paused != NULL ? paused
                                                   : "a row can't be waited for inside MULTI or a script; read the key "
                                                     "before, alone");
    else
        result = inner_run(ctx, argv, argc, false);
    if (rules != fixed) RedisModule_Free(rules);
    return result;
}

static int read_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (inner_tells_keys(ctx, argv, argc)) return REDISMODULE_OK;
    if (argc < 3) return RedisModule_WrongArity(ctx);
    int count = last_key(string_slice(argv[1]), argc - 1);
    if (count == 0) return RedisModule_ReplyWithError(ctx, "ERR gearsync.read is for commands that read hashes");
    if (!inner_allowed(ctx, argv, argc)) return REDISMODULE_OK;
    if (!shard.primary || shard.loading || shard.nreads == 0) return inner_run(ctx, argv, argc, false);
    return run_or_hold(ctx, argv, argc, count);
}

static RowsDone rows_done;

void reads_rows_done(RedisModuleCtx *ctx) { rows_done(ctx); }

int reads_register(RedisModuleCtx *ctx, RowsDone done) {
    rows_done = done;
    return inner_register(ctx, COMMAND, read_command, "readonly getkeys-api");
}
