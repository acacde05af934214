/* Mappings whose keys are no hashes: documents, and keys of many members (docs/design.md, "Kinds of keys").
 *
 * A document, JSON in a string or of the server's JSON type, is captured whole. Of members only that they have changed
 * is: who has a set of ten thousand would pay for all of them with each SADD. The worker reads them when it comes to
 * it.
 */
#include "kinds.h"

#include <errno.h>

static RedisModuleString *document_field;

bool kind_is(Slice word, Kind *kind) {
    static const struct {
        const char *word;
        Kind kind;
    } WORDS[] = {{"json", KIND_JSON}, {"set", KIND_SET}, {"list", KIND_LIST}, {"zset", KIND_ZSET}};
    for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++) {
        if (!slice_is(word, WORDS[i].word)) continue;
        *kind = WORDS[i].kind;
        return true;
    }
    return false;
}

Kind kind_of_event(int type) {
    if (type & (REDISMODULE_NOTIFY_STRING | REDISMODULE_NOTIFY_MODULE)) return KIND_JSON;
    if (type & REDISMODULE_NOTIFY_SET) return KIND_SET;
    if (type & REDISMODULE_NOTIFY_LIST) return KIND_LIST;
    return type & REDISMODULE_NOTIFY_ZSET ? KIND_ZSET : KIND_HASH;
}

bool kind_is_members(Kind kind) { return kind == KIND_SET || kind == KIND_LIST || kind == KIND_ZSET; }

/* By commands that change nothing: where a string is looked at by the API, the server may put another object in its
 * place, under the hands of the command that has just written it. False: the key is of another type. In a slot that is
 * on its way here only clients who are ASKING reach a key, and a module can't: the document is NULL, and the worker
 * reads it. */
static bool read_document(RedisModuleCtx *ctx, RedisModuleKey *key, RedisModuleString *name,
                          RedisModuleString **document) {
    int type = RedisModule_KeyType(key);
    if (type != REDISMODULE_KEYTYPE_STRING && type != REDISMODULE_KEYTYPE_MODULE) return false;
    const char *command = type == REDISMODULE_KEYTYPE_STRING ? "GET" : "JSON.GET";
    errno = 0;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, command, "s", name);
    /* No such command: it is a key of another module. */
    bool refused = shard.cluster && reply == NULL && errno != ENOENT;
    if (reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_STRING) {
        size_t len;
        const char *bytes = RedisModule_CallReplyStringPtr(reply, &len);
        *document = RedisModule_CreateString(NULL, bytes, len);
    }
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return *document != NULL || refused;
}

bool kind_holds(RedisModuleCtx *ctx, Kind kind, RedisModuleKey *key, RedisModuleString *name,
                RedisModuleString **document) {
    static const int TYPES[] = {[KIND_HASH] = REDISMODULE_KEYTYPE_HASH,
                                [KIND_SET] = REDISMODULE_KEYTYPE_SET,
                                [KIND_LIST] = REDISMODULE_KEYTYPE_LIST,
                                [KIND_ZSET] = REDISMODULE_KEYTYPE_ZSET};
    *document = NULL;
    if (key == NULL) return false;
    if (kind == KIND_JSON) return read_document(ctx, key, name, document);
    /* Redis 6.2 says "del" of a list that was emptied while it is still there. */
    return RedisModule_KeyType(key) == TYPES[kind] && (kind == KIND_HASH || RedisModule_ValueLength(key) > 0);
}

void kind_read(Image *image, RedisModuleString **document) {
    if (*document == NULL) return;
    if (document_field == NULL) document_field = RedisModule_CreateString(NULL, "$", 1);
    image_add(image, document_field, *document);
    *document = NULL;
}

void kinds_free(void) {
    if (document_field != NULL) RedisModule_FreeString(NULL, document_field);
    document_field = NULL;
}
