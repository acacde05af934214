/* GEARSYNC.BACKFILL: keys that were there before anybody captured them come to SQL, through the lanes like any
 * change. */
#include "rows.h"

#include "capture/capture.h"
#include "changes/kinds.h"
#include "clients/turns.h"

enum { IS_NO_HASH = -1, IS_BEING_WRITTEN = -2 };

/* Whether a mapping that covers it takes what it holds; without one, whether it is a hash. Looking also makes a key
 * whose time is over go, as an expiry like any other. */
static bool is_held(RedisModuleCtx *ctx, int db, RedisModuleString *name) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    bool covered = false, found = false;
    for (int i = 0; key != NULL && !found && i < shard.nrules; i++) {
        const Rule *rule = shard.rules[i];
        RedisModuleString *document = NULL;
        if (rule->db != db || !template_matches(&rule->template, string_slice(name))) continue;
        covered = true;
        found = kind_holds(ctx, rule->kind, key, name, &document);
        if (document != NULL) RedisModule_FreeString(NULL, document);
    }
    if (!covered) found = key != NULL && RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_HASH;
    if (key != NULL) RedisModule_CloseKey(key);
    return found;
}

/* A key that is gone makes no change, unlike with GEARSYNC.RECAPTURE: its end was captured by its own event, and why it
 * ended decides about the row. While a client's write of it waits for SQL, the hash is older than the row that may be
 * committed at any moment, and must not stand behind it in the lane. */
static int backfill(RedisModuleCtx *ctx, int db, RedisModuleString *name) {
    RedisModule_SelectDb(ctx, db);
    if (turns_holder(db, string_slice(name)) != NULL) return IS_BEING_WRITTEN;
    return is_held(ctx, db, name) ? capture_again(ctx, db, name, true) : IS_NO_HASH;
}

/* GEARSYNC.BACKFILL key…: for each key the number of changes appended, -1 for none that is captured, -2 for one that a
 * client writes. */
int backfill_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    int db = RedisModule_GetSelectedDb(ctx);
    RedisModule_ReplyWithArray(ctx, argc - 1);
    for (int i = 1; i < argc; i++) RedisModule_ReplyWithLongLong(ctx, backfill(ctx, db, argv[i]));
    RedisModule_SelectDb(ctx, db);
    return REDISMODULE_OK;
}
