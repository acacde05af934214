/* GEARSYNC.PUT: brings rows to Redis. What it sets and deletes is no change: SQL has it already. */
#include "marks.h"
#include "rows.h"

#include <errno.h>
#include <string.h>

#include "clients/rights.h"
#include "lanes/waiting.h"
#include "listeners.h"
#include "waits/keys.h"

#define TTL_MOST_MS (1LL << 50)

/* One key of the command; its pairs stand at fields. No row: nfields is -1. */
typedef struct {
    RedisModuleString *key;
    RedisModuleString **fields;
    long long nfields;
} Row;

typedef struct {
    RedisModuleCtx *ctx;
    int db;
    bool replace;
    long long ttl_ms;
    const ReadMark *since;         /* NULL: the rows are as new as can be */
    RedisModuleCallReply *refused; /* the first reply that is an error, as when there is no memory */
} Put;

static const char USAGE[] =
    "ERR use GEARSYNC.PUT name db ABSENT|REPLACE [SINCE mark] ttl-ms count {key nfields field value …}…, nfields -1 "
    "for no row";

/* Whether the server did it; the first refusal is kept. A key of a slot that is not ours makes no reply that counts. */
static bool done(Put *put, RedisModuleCallReply *reply) {
    if (reply == NULL) return false;
    if (RedisModule_CallReplyType(reply) != REDISMODULE_REPLY_ERROR) {
        RedisModule_FreeCallReply(reply);
        return true;
    }
    if (put->refused == NULL)
        put->refused = reply;
    else
        RedisModule_FreeCallReply(reply);
    return false;
}

static bool has_field(const Row *row, Slice name) {
    for (long long i = 0; i < row->nfields; i++)
        if (slices_equal(string_slice(row->fields[i * 2]), name)) return true;
    return false;
}

/* Takes out of the hash what the row has not. */
static bool drop_others(Put *put, const Row *row) {
    RedisModuleCallReply *keys = RedisModule_Call(put->ctx, "HKEYS", "s", row->key);
    bool sound = keys != NULL && RedisModule_CallReplyType(keys) == REDISMODULE_REPLY_ARRAY;
    for (size_t i = 0; sound && i < RedisModule_CallReplyLength(keys); i++) {
        Slice name = {NULL, 0};
        name.bytes = RedisModule_CallReplyStringPtr(RedisModule_CallReplyArrayElement(keys, i), &name.len);
        if (!has_field(row, name))
            sound = done(put, RedisModule_Call(put->ctx, "HDEL", "!sb", row->key, name.bytes, name.len));
    }
    if (keys != NULL) RedisModule_FreeCallReply(keys);
    return sound;
}

/* First what needs memory, where the server can look at that for a module: then nothing is lost when there is none. */
static bool set_hash(Put *put, const Row *row, bool existed) {
    const char *format = shard.server_version >= 0x070000 ? "!MEsv" : "!sv";
    if (!done(put, RedisModule_Call(put->ctx, "HSET", format, row->key, row->fields, (size_t)row->nfields * 2)))
        return false;
    if (existed && !drop_others(put, row)) return false;
    if (put->ttl_ms > 0) return done(put, RedisModule_Call(put->ctx, "PEXPIRE", "!sl", row->key, put->ttl_ms));
    return !existed || done(put, RedisModule_Call(put->ctx, "PERSIST", "!s", row->key));
}

typedef enum { KEY_ABSENT, KEY_HASH, KEY_OTHER } Found;

/* Also makes a key whose time is over go, as an expiry like any other. */
static Found look(RedisModuleCtx *ctx, RedisModuleString *name) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    if (key == NULL) return KEY_ABSENT;
    int type = RedisModule_KeyType(key);
    RedisModule_CloseKey(key);
    return type == REDISMODULE_KEYTYPE_EMPTY ? KEY_ABSENT : (type == REDISMODULE_KEYTYPE_HASH ? KEY_HASH : KEY_OTHER);
}

bool put_is_ours(RedisModuleCtx *ctx, RedisModuleString *key) {
    if (!shard.cluster) return true;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "EXISTS", "s", key);
    bool ours = reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_INTEGER;
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return ours;
}

static bool put_one(Put *put, const Row *row) {
    RedisModule_SelectDb(put->ctx, put->db);
    Found found = look(put->ctx, row->key);
    bool has_row = row->nfields > 0;
    /* Nothing happens to the key, so no event says that a row which is being read may be an older one; nor would a
     * worker that was stopped with it in hand see that by its WATCH. */
    if (found == KEY_ABSENT && !has_row) {
        listeners.row_changed(put->ctx, put->db, row->key);
        RedisModule_SignalModifiedKey(put->ctx, row->key);
    }
    if (put->replace) mark_overtake(string_slice(row->key));
    if (found == KEY_OTHER || (found == KEY_HASH && !put->replace) || (found == KEY_ABSENT && !has_row)) return false;
    if (waiting_for(put->db, string_slice(row->key)) || !put_is_ours(put->ctx, row->key)) return false;
    if (put->since != NULL && mark_is_passed(put->since, put->db, string_slice(row->key))) return false;
    shard.operating = true;
    bool changed =
        has_row ? set_hash(put, row, found == KEY_HASH) : done(put, RedisModule_Call(put->ctx, "DEL", "!s", row->key));
    shard.operating = false;
    return changed;
}

PutResult put_row(RedisModuleCtx *ctx, int db, RedisModuleString *key, RedisModuleString **fields, long long nfields,
                  long long ttl_ms, bool replace) {
    Put put = {ctx, db, replace, ttl_ms, NULL, NULL};
    Row row = {key, fields, nfields};
    bool changed = put_one(&put, &row);
    if (put.refused == NULL) return changed ? PUT_DONE : PUT_LEFT;
    RedisModule_FreeCallReply(put.refused);
    return PUT_REFUSED;
}

/* The rows of the command; NULL: it is not well formed. */
static Row *parse_rows(RedisModuleString **argv, int argc, int at, long long count) {
    Row *rows = RedisModule_Alloc(sizeof(Row) * (size_t)(count > 0 ? count : 1));
    bool sound = true;
    for (long long i = 0; sound && i < count; i++) {
        Row *row = &rows[i];
        sound = at + 1 < argc && RedisModule_StringToLongLong(argv[at + 1], &row->nfields) == REDISMODULE_OK &&
                row->nfields >= -1 && row->nfields <= (argc - at - 2) / 2;
        if (!sound) break;
        row->key = argv[at];
        row->fields = argv + at + 2;
        at += 2 + (row->nfields > 0 ? (int)row->nfields * 2 : 0);
    }
    if (sound && at == argc) return rows;
    RedisModule_Free(rows);
    return NULL;
}

static int put_rows(Put *put, const Row *rows, long long count) {
    long long changed = 0;
    for (long long i = 0; i < count; i++) changed += put_one(put, &rows[i]);
    if (put->refused == NULL) return RedisModule_ReplyWithLongLong(put->ctx, changed);
    RedisModule_ReplyWithCallReply(put->ctx, put->refused);
    RedisModule_FreeCallReply(put->refused);
    return REDISMODULE_OK;
}

int put_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    long long db, ttl, count;
    if (argc < 6) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    Slice mode = string_slice(argv[3]);
    bool replace = slice_is(mode, "replace");
    ReadMark mark = {0};
    bool since = argc > 7 && slice_is(string_slice(argv[4]), "since");
    int at = since ? 6 : 4;
    if (!(replace || slice_is(mode, "absent")) || RedisModule_StringToLongLong(argv[2], &db) != REDISMODULE_OK ||
        RedisModule_StringToLongLong(argv[at], &ttl) != REDISMODULE_OK || ttl < 0 || ttl > TTL_MOST_MS ||
        RedisModule_StringToLongLong(argv[at + 1], &count) != REDISMODULE_OK || count < 0 || count > argc ||
        (since && !mark_read(argv[5], &mark)))
        return RedisModule_ReplyWithError(ctx, USAGE);
    Deployment *deployment = shard_find(string_slice(argv[1]));
    if (deployment == NULL || deployment->draining)
        return RedisModule_ReplyWithError(ctx, "ERR there is no active deployment of that name on this server");
    int before = RedisModule_GetSelectedDb(ctx);
    if (db < 0 || db > (1 << 20) || RedisModule_SelectDb(ctx, (int)db) != REDISMODULE_OK)
        return RedisModule_ReplyWithError(ctx, "ERR this server has no database of that number");
    Row *rows = parse_rows(argv, argc, at + 2, count);
    if (rows == NULL) return RedisModule_ReplyWithError(ctx, USAGE);
    waiting_watch();
    Put put = {ctx, (int)db, replace, ttl, since ? &mark : NULL, NULL};
    int result = put_rows(&put, rows, count);
    RedisModule_Free(rows);
    RedisModule_SelectDb(ctx, before);
    return result;
}

/* GEARSYNC.WAITING db key…: those of which a change may still wait here. In one MULTI with GEARSYNC.PUT, what that has
 * left alone because of them. */
int waiting_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    long long db;
    if (argc < 3) return RedisModule_WrongArity(ctx);
    if (RedisModule_StringToLongLong(argv[1], &db) != REDISMODULE_OK || db < 0 || db > (1 << 20))
        return RedisModule_ReplyWithError(ctx, "ERR use GEARSYNC.WAITING db key…");
    waiting_watch();
    long found = 0;
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    for (int i = 2; i < argc; i++) {
        if (!waiting_for((int)db, string_slice(argv[i]))) continue;
        RedisModule_ReplyWithString(ctx, argv[i]);
        found++;
    }
    RedisModule_ReplySetArrayLength(ctx, found);
    return REDISMODULE_OK;
}
