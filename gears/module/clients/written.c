/* Which keys a command may change, before it runs. */
#include "written.h"

#include <string.h>

/* Commands whose changes of a key are captured, by which of their arguments they change. */
typedef enum { EVERY_KEY, COUNTED_PAIRS, FIRST_ARGUMENT, SECOND_ARGUMENT, EVERY_THIRD, AFTER_STORE } Written;

/* Those that end, replace or make a key of any type. */
static const char *const EVERY[] = {"hset", "hmset", "hsetnx", "hincrby", "hincrbyfloat", "hdel", "hgetdel", "hsetex",
                                    "hgetex", "hexpire", "hpexpire", "hexpireat", "hpexpireat", "hpersist", "del",
                                    "delex", "delifeq", "unlink", "getdel", "rename", "renamenx", "restore", "move",
                                    "set", "setex", "psetex", "setnx", "getset", "mset", "msetnx", "gearsync.recapture",
                                    /* They delete the key of another type with its last element. */
                                    "lpop", "rpop", "blpop", "brpop", "lmpop", "blmpop", "lrem", "ltrim", "spop",
                                    "srem", "zpopmin", "zpopmax", "bzpopmin", "bzpopmax", "zmpop", "bzmpop", "zrem",
                                    "zremrangebyscore", "zremrangebyrank", "zremrangebylex", "vrem", NULL};
/* Valkey 9.1 runs it, and names its keys by COMMAND GETKEYS, but not to a module. */
static const char *const COUNTED[] = {"msetex", NULL};
static const char *const FIRST[] = {"sunionstore", "sinterstore", "sdiffstore",     "zunionstore", "zinterstore",
                                    "zdiffstore",  "zrangestore", "geosearchstore", "smove",       "lmove",
                                    "blmove",      "rpoplpush",   "brpoplpush",     NULL};
static const char *const SECOND[] = {"copy", "bitop", NULL};
static const char *const STORING[] = {"sort", "georadius", "georadiusbymember", NULL};
/* Those that change a key of one kind. */
static const char *const STRINGS[] = {"append",   "incr",   "decr",  "incrby",   "decrby",  "incrbyfloat",
                                      "setrange", "setbit", "pfadd", "bitfield", "pfmerge", NULL};
static const char *const SETS[] = {"sadd", NULL};
static const char *const TO_SETS[] = {"smove", NULL};
static const char *const LISTS[] = {"lpush", "rpush", "lpushx", "rpushx", "linsert", "lset", NULL};
static const char *const TO_LISTS[] = {"lmove", "blmove", "rpoplpush", "brpoplpush", NULL};
static const char *const SORTED_SETS[] = {"zadd", "zincrby", "geoadd", NULL};
static const char *const DOCUMENTS[] = {"json.mset", NULL};

#define ANY_KIND (~0u)
static const struct {
    const char *const *names;
    Written written;
    unsigned kinds; /* those of whose keys a change is captured, as bits 1 << Kind */
} WRITES[] = {
    {EVERY, EVERY_KEY, ANY_KIND},
    {COUNTED, COUNTED_PAIRS, ANY_KIND},
    {FIRST, FIRST_ARGUMENT, ANY_KIND},
    {SECOND, SECOND_ARGUMENT, ANY_KIND},
    {STORING, AFTER_STORE, ANY_KIND},
    {STRINGS, FIRST_ARGUMENT, 1u << KIND_JSON},
    {DOCUMENTS, EVERY_THIRD, 1u << KIND_JSON},
    {SETS, FIRST_ARGUMENT, 1u << KIND_SET},
    {TO_SETS, SECOND_ARGUMENT, 1u << KIND_SET},
    {LISTS, FIRST_ARGUMENT, 1u << KIND_LIST},
    {TO_LISTS, SECOND_ARGUMENT, 1u << KIND_LIST},
    {SORTED_SETS, FIRST_ARGUMENT, 1u << KIND_ZSET},
};
#define WRITES_COUNT ((int)(sizeof(WRITES) / sizeof(WRITES[0])))

static bool is_among(Slice name, const char *const *names) {
    for (; *names != NULL; names++)
        if (slice_is(name, *names)) return true;
    return false;
}

/* Of a module with documents every command changes its first key that is not known to read it. */
static bool changes_document(Slice name) {
    static const char *const READS[] = {"json.get",    "json.mget",     "json.type",    "json.strlen",
                                        "json.arrlen", "json.arrindex", "json.objkeys", "json.objlen",
                                        "json.resp",   "json.debug",    "json.mset",    NULL};
    if (!(shard.kinds & 1u << KIND_JSON) || name.len < 6) return false;
    return slice_is((Slice){name.bytes, 5}, "json.") && !is_among(name, READS);
}

static RedisModuleString *among_keys(RedisModuleString **argv, int argc, unsigned kinds, KeyTest wanted) {
    int count = 0;
    RedisModuleString *found = NULL;
    int *positions = RedisModule_GetCommandKeys(shard.detached, argv, argc, &count);
    for (int i = 0; i < count && found == NULL; i++)
        if (wanted(argv[positions[i]], kinds)) found = argv[positions[i]];
    if (positions != NULL) api_free_theirs(positions);
    return found;
}

/* MSETEX numkeys key value [key value …] […]; the server itself refuses a number that is none. */
static RedisModuleString *among_pairs(RedisModuleString **argv, int argc, unsigned kinds, KeyTest wanted) {
    long long pairs = 0;
    if (argc < 4 || RedisModule_StringToLongLong(argv[1], &pairs) != REDISMODULE_OK) return NULL;
    for (int at = 2; at + 1 < argc && pairs > 0; at += 2, pairs--)
        if (wanted(argv[at], kinds)) return argv[at];
    return NULL;
}

/* SORT … STORE key, GEORADIUS … STORE|STOREDIST key: the last one counts; without any they only read. */
static RedisModuleString *stored(RedisModuleString **argv, int argc, unsigned kinds, KeyTest wanted) {
    for (int i = argc - 2; i > 1; i--) {
        Slice word = string_slice(argv[i]);
        if (slice_is(word, "store") || slice_is(word, "storedist"))
            return wanted(argv[i + 1], kinds) ? argv[i + 1] : NULL;
    }
    return NULL;
}

/* JSON.MSET key path text [key path text …]. */
static RedisModuleString *among_thirds(RedisModuleString **argv, int argc, unsigned kinds, KeyTest wanted) {
    for (int at = 1; at + 2 < argc; at += 3)
        if (wanted(argv[at], kinds)) return argv[at];
    return NULL;
}

static RedisModuleString *found_as(Written written, RedisModuleString **argv, int argc, unsigned kinds,
                                   KeyTest wanted) {
    if (written == EVERY_KEY) return among_keys(argv, argc, kinds, wanted);
    if (written == COUNTED_PAIRS) return among_pairs(argv, argc, kinds, wanted);
    if (written == EVERY_THIRD) return among_thirds(argv, argc, kinds, wanted);
    if (written == AFTER_STORE) return stored(argv, argc, kinds, wanted);
    int at = written == FIRST_ARGUMENT ? 1 : 2;
    return at < argc && wanted(argv[at], kinds) ? argv[at] : NULL;
}

RedisModuleString *written_find(RedisModuleString **argv, int argc, KeyTest wanted) {
    if (argc < 2) return NULL;
    Slice name = string_slice(argv[0]);
    RedisModuleString *found = NULL;
    for (int i = 0; i < WRITES_COUNT && found == NULL; i++)
        if ((WRITES[i].kinds & shard.kinds) && is_among(name, WRITES[i].names))
            found = found_as(WRITES[i].written, argv, argc, WRITES[i].kinds, wanted);
    if (found == NULL && changes_document(name)) found = wanted(argv[1], 1u << KIND_JSON) ? argv[1] : NULL;
    return found;
}

static bool writes(Slice name) {
    for (int i = 0; i < WRITES_COUNT; i++)
        if ((WRITES[i].kinds & shard.kinds) && is_among(name, WRITES[i].names)) return true;
    return changes_document(name);
}

bool written_by(Slice name) {
    for (int i = 0; i < WRITES_COUNT; i++)
        if (WRITES[i].kinds == ANY_KIND && is_among(name, WRITES[i].names)) return true;
    return false;
}

RedisModuleString *written_find_in(RedisModuleCommandFilterCtx *filter, Slice name, int argc, KeyTest wanted) {
    if (!writes(name)) return NULL;
    RedisModuleString *fixed[64];
    RedisModuleString **argv = argc <= 64 ? fixed : RedisModule_Alloc(sizeof(*argv) * (size_t)argc);
    for (int i = 0; i < argc; i++) argv[i] = RedisModule_CommandFilterArgGet(filter, i);
    RedisModuleString *found = written_find(argv, argc, wanted);
    if (argv != fixed) RedisModule_Free(argv);
    return found;
}
