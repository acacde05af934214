/* Which keys a command may change, before it runs. */
#include "gearsync.h"

#include <string.h>

/* Commands whose changes of a key are captured, by which of their arguments they change. */
typedef enum { EVERY_KEY, COUNTED_PAIRS, FIRST_ARGUMENT, SECOND_ARGUMENT, AFTER_STORE, NOTHING } Written;

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
static const char *const *const WRITES[] = {[EVERY_KEY] = EVERY,
                                            [COUNTED_PAIRS] = COUNTED,
                                            [FIRST_ARGUMENT] = FIRST,
                                            [SECOND_ARGUMENT] = SECOND,
                                            [AFTER_STORE] = STORING};

static Written what_is_written(Slice name) {
    for (int kind = 0; kind < NOTHING; kind++)
        for (int i = 0; WRITES[kind][i] != NULL; i++)
            if (slice_is(name, WRITES[kind][i])) return (Written)kind;
    return NOTHING;
}

static RedisModuleString *among_keys(RedisModuleString **argv, int argc, KeyTest wanted) {
    int count = 0;
    RedisModuleString *found = NULL;
    int *positions = RedisModule_GetCommandKeys(shard.detached, argv, argc, &count);
    for (int i = 0; i < count && found == NULL; i++)
        if (wanted(argv[positions[i]])) found = argv[positions[i]];
    if (positions != NULL) api_free_theirs(positions);
    return found;
}

/* MSETEX numkeys key value [key value …] […]; the server itself refuses a number that is none. */
static RedisModuleString *among_pairs(RedisModuleString **argv, int argc, KeyTest wanted) {
    long long pairs = 0;
    if (argc < 4 || RedisModule_StringToLongLong(argv[1], &pairs) != REDISMODULE_OK) return NULL;
    for (int at = 2; at + 1 < argc && pairs > 0; at += 2, pairs--)
        if (wanted(argv[at])) return argv[at];
    return NULL;
}

/* SORT … STORE key, GEORADIUS … STORE|STOREDIST key: the last one counts; without any they only read. */
static RedisModuleString *stored(RedisModuleString **argv, int argc, KeyTest wanted) {
    for (int i = argc - 2; i > 1; i--) {
        Slice word = string_slice(argv[i]);
        if (slice_is(word, "store") || slice_is(word, "storedist")) return wanted(argv[i + 1]) ? argv[i + 1] : NULL;
    }
    return NULL;
}

RedisModuleString *written_find(RedisModuleString **argv, int argc, KeyTest wanted) {
    Written written = argc > 1 ? what_is_written(string_slice(argv[0])) : NOTHING;
    if (written == NOTHING) return NULL;
    if (written == EVERY_KEY) return among_keys(argv, argc, wanted);
    if (written == COUNTED_PAIRS) return among_pairs(argv, argc, wanted);
    if (written == AFTER_STORE) return stored(argv, argc, wanted);
    int at = written == FIRST_ARGUMENT ? 1 : 2;
    return at < argc && wanted(argv[at]) ? argv[at] : NULL;
}

RedisModuleString *written_find_in(RedisModuleCommandFilterCtx *filter, Slice name, int argc, KeyTest wanted) {
    if (what_is_written(name) == NOTHING) return NULL;
    RedisModuleString *fixed[64];
    RedisModuleString **argv = argc <= 64 ? fixed : RedisModule_Alloc(sizeof(*argv) * (size_t)argc);
    for (int i = 0; i < argc; i++) argv[i] = RedisModule_CommandFilterArgGet(filter, i);
    RedisModuleString *found = written_find(argv, argc, wanted);
    if (argv != fixed) RedisModule_Free(argv);
    return found;
}
