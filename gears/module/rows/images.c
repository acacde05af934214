/* GEARSYNC.IMAGES: the hashes of many keys as they are, for who compares them with their rows. No read-through function
 * answers for what is not there, and no key counts as used. */
#include "marks.h"
#include "rows.h"

#include "clients/rights.h"
#include "waits/keys.h"

static const char USAGE[] = "ERR use GEARSYNC.IMAGES db [SINCE mark] nfields field… key…, nfields -1 for whole hashes";

typedef struct {
    RedisModuleCtx *ctx;
    RedisModuleString **fields;
    long long nfields;
    long count; /* replies of the hash in hand */
} Look;

static void reply_field(RedisModuleKey *key, RedisModuleString *field, RedisModuleString *value, void *pd) {
    (void)key;
    Look *look = pd;
    if (value == NULL) return;
    RedisModule_ReplyWithString(look->ctx, field);
    RedisModule_ReplyWithString(look->ctx, value);
    look->count += 2;
}

static void reply_whole(Look *look, RedisModuleKey *key) {
    look->count = 0;
    RedisModule_ReplyWithArray(look->ctx, REDISMODULE_POSTPONED_LEN);
    RedisModuleScanCursor *cursor = RedisModule_ScanCursorCreate();
    while (RedisModule_ScanKey(key, cursor, reply_field, look)) continue;
    RedisModule_ScanCursorDestroy(cursor);
    RedisModule_ReplySetArrayLength(look->ctx, look->count);
}

static void reply_fields(Look *look, RedisModuleKey *key) {
    RedisModule_ReplyWithArray(look->ctx, (long)look->nfields);
    for (long long i = 0; i < look->nfields; i++) {
        RedisModuleString *value = NULL;
        RedisModule_HashGet(key, REDISMODULE_HASH_NONE, look->fields[i], &value, NULL);
        if (value == NULL) {
            RedisModule_ReplyWithNull(look->ctx);
            continue;
        }
        RedisModule_ReplyWithString(look->ctx, value);
        RedisModule_FreeString(look->ctx, value);
    }
}

/* A key whose time is over goes here, as for every reader: its row has to follow. */
static void reply_image(Look *look, RedisModuleString *name) {
    RedisModuleKey *key = RedisModule_OpenKey(look->ctx, name, REDISMODULE_READ | REDISMODULE_OPEN_KEY_NOTOUCH);
    if (key == NULL || RedisModule_KeyType(key) != REDISMODULE_KEYTYPE_HASH)
        RedisModule_ReplyWithNull(look->ctx);
    else if (look->nfields < 0)
        reply_whole(look, key);
    else
        reply_fields(look, key);
    if (key != NULL) RedisModule_CloseKey(key);
}

/* Those of which SQL may have another row than the one that was read after the mark; by their place among the keys. */
static void reply_unsettled(RedisModuleCtx *ctx, int db, const ReadMark *mark, RedisModuleString **keys, int count) {
    long found = 0;
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    for (int i = 0; mark != NULL && i < count; i++) {
        Slice key = string_slice(keys[i]);
        if (!waiting_for(db, key) && !mark_is_passed(mark, db, key)) continue;
        RedisModule_ReplyWithLongLong(ctx, i);
        found++;
    }
    RedisModule_ReplySetArrayLength(ctx, found);
}

int images_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    long long db, nfields;
    ReadMark mark = {0};
    if (argc < 3) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    bool since = argc > 4 && slice_is(string_slice(argv[2]), "since");
    int at = since ? 4 : 2;
    if (RedisModule_StringToLongLong(argv[1], &db) != REDISMODULE_OK || db < 0 || db > (1 << 20) ||
        RedisModule_StringToLongLong(argv[at], &nfields) != REDISMODULE_OK || nfields < -1 || nfields > argc - at - 1 ||
        (since && !mark_read(argv[3], &mark)))
        return RedisModule_ReplyWithError(ctx, USAGE);
    int before = RedisModule_GetSelectedDb(ctx);
    if (RedisModule_SelectDb(ctx, (int)db) != REDISMODULE_OK)
        return RedisModule_ReplyWithError(ctx, "ERR this server has no database of that number");
    Look look = {ctx, argv + at + 1, nfields, 0};
    RedisModuleString **keys = look.fields + (nfields > 0 ? nfields : 0);
    int count = (int)(argv + argc - keys);
    RedisModule_ReplyWithArray(ctx, 2);
    RedisModule_ReplyWithArray(ctx, count);
    for (int i = 0; i < count; i++) reply_image(&look, keys[i]);
    RedisModule_SelectDb(ctx, before);
    reply_unsettled(ctx, (int)db, since ? &mark : NULL, keys, count);
    return REDISMODULE_OK;
}
