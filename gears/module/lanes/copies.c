/* Copies of streams and hashes of ours, by the API alone. A cluster that is down takes no command on a key, nor does it
 * take one that makes a key in a slot that is on its way; and commands may be renamed. */
#include "copies.h"
#include "ids.h"

typedef struct {
    RedisModuleStreamID id; /* of an entry of a stream */
    size_t first, count;    /* of its strings */
} Part;

struct Copy {
    bool is_stream; /* else a hash, which is one part */
    RedisModuleString **strings;
    size_t count, capacity;
    Part *parts;
    size_t nparts, part_capacity;
};

static void add_part(Copy *copy, RedisModuleStreamID id) {
    if (copy->nparts == copy->part_capacity) {
        copy->part_capacity = copy->part_capacity * 2 + 16;
        copy->parts = RedisModule_Realloc(copy->parts, sizeof(*copy->parts) * copy->part_capacity);
    }
    copy->parts[copy->nparts++] = (Part){id, copy->count, 0};
}

static void add_string(Copy *copy, RedisModuleString *string) {
    if (copy->count == copy->capacity) {
        copy->capacity = copy->capacity * 2 + 16;
        copy->strings = RedisModule_Realloc(copy->strings, sizeof(*copy->strings) * copy->capacity);
    }
    copy->strings[copy->count++] = string;
    copy->parts[copy->nparts - 1].count++;
}

static void take_stream(Copy *copy, RedisModuleKey *key) {
    RedisModuleStreamID id;
    RedisModuleString *name, *value;
    long pairs;
    if (RedisModule_StreamIteratorStart(key, 0, NULL, NULL) != REDISMODULE_OK) return;
    while (RedisModule_StreamIteratorNextID(key, &id, &pairs) == REDISMODULE_OK) {
        add_part(copy, id);
        while (pairs-- > 0 && RedisModule_StreamIteratorNextField(key, &name, &value) == REDISMODULE_OK) {
            add_string(copy, name);
            add_string(copy, value);
        }
    }
    RedisModule_StreamIteratorStop(key);
}

static void take_pair(RedisModuleKey *key, RedisModuleString *field, RedisModuleString *value, void *copy) {
    (void)key;
    add_string(copy, RedisModule_HoldString(NULL, field));
    add_string(copy, RedisModule_HoldString(NULL, value));
}

static void take_hash(Copy *copy, RedisModuleKey *key) {
    RedisModuleScanCursor *cursor = RedisModule_ScanCursorCreate();
    add_part(copy, (RedisModuleStreamID){0, 0});
    while (RedisModule_ScanKey(key, cursor, take_pair, copy)) continue;
    RedisModule_ScanCursorDestroy(cursor);
}

Copy *copy_take(RedisModuleCtx *ctx, RedisModuleString *name) {
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    if (key == NULL) return NULL;
    int type = RedisModule_KeyType(key);
    Copy *copy = RedisModule_Calloc(1, sizeof(*copy));
    copy->is_stream = type == REDISMODULE_KEYTYPE_STREAM;
    if (copy->is_stream) take_stream(copy, key);
    if (type == REDISMODULE_KEYTYPE_HASH) take_hash(copy, key);
    RedisModule_CloseKey(key);
    if (copy->count > 0) return copy;
    copy_free(copy);
    return NULL;
}

bool copy_put(RedisModuleCtx *ctx, RedisModuleString *name, Copy *copy) {
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
    bool done = true;
    for (size_t i = 0; i < copy->nparts; i++) {
        Part *part = &copy->parts[i];
        RedisModuleString **strings = copy->strings + part->first;
        if (copy->is_stream)
            done = RedisModule_StreamAdd(key, 0, &part->id, strings, (long)part->count / 2) == REDISMODULE_OK && done;
        for (size_t at = 0; !copy->is_stream && at < part->count; at += 2)
            RedisModule_HashSet(key, REDISMODULE_HASH_NONE, strings[at], strings[at + 1], NULL);
    }
    RedisModule_CloseKey(key);
    return done;
}

void copy_replicate(RedisModuleCtx *ctx, RedisModuleString *name, Copy *copy) {
    RedisModule_Replicate(ctx, "DEL", "s", name);
    for (size_t i = 0; i < copy->nparts; i++) {
        const Part *part = &copy->parts[i];
        RedisModuleString **strings = copy->strings + part->first;
        if (!copy->is_stream) {
            RedisModule_Replicate(ctx, "HSET", "sv", name, strings, part->count);
            continue;
        }
        RedisModuleString *id = stream_id_string(part->id);
        RedisModule_Replicate(ctx, "XADD", "ssv", name, id, strings, part->count);
        RedisModule_FreeString(NULL, id);
    }
}

void copy_free(Copy *copy) {
    for (size_t i = 0; i < copy->count; i++) RedisModule_FreeString(NULL, copy->strings[i]);
    if (copy->strings != NULL) RedisModule_Free(copy->strings);
    if (copy->parts != NULL) RedisModule_Free(copy->parts);
    RedisModule_Free(copy);
}
