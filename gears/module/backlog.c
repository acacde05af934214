/* The bound of the backlog: covered writes are refused, before they run, while a deployment's lanes are full. */
#include "gearsync.h"

#include <string.h>
#include <strings.h>

static int full_deployments;

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

void backlog_recount(void) {
    full_deployments = 0;
    for (int i = 0; i < shard.count; i++) full_deployments += shard.deployments[i]->full;
}

void backlog_update(Deployment *deployment) {
    unsigned long long entries = 0, bytes = 0;
    if (deployment->limit_entries == 0 && deployment->limit_bytes == 0) return;
    for (int i = 0; i < deployment->lane_count; i++) {
        entries += deployment->lanes[i]->length;
        bytes += deployment->lanes[i]->bytes;
    }
    bool full = deployment->refuse_when_full && !deployment->draining &&
                ((deployment->limit_entries > 0 && entries >= deployment->limit_entries) ||
                 (deployment->limit_bytes > 0 && bytes >= deployment->limit_bytes));
    if (full == deployment->full) return;
    deployment->full = full;
    backlog_recount();
    if (deployment->draining) return;
    RedisModule_Log(NULL, full ? "warning" : "notice", "backlog of deployment %s: %llu changes, about %llu bytes: %s",
                    deployment->name, entries, bytes, full ? "full, covered writes are refused" : "has room again");
}

static Written what_is_written(Slice name) {
    for (int kind = 0; kind < NOTHING; kind++)
        for (int i = 0; WRITES[kind][i] != NULL; i++)
            if (slice_is(name, WRITES[kind][i])) return (Written)kind;
    return NOTHING;
}

/* The full deployment that covers a key; NULL: none. The database of the client is not known to a filter on every
 * server, so that a key counts in any of them. */
static Deployment *full_covering(RedisModuleString *name) {
    Slice key = string_slice(name);
    for (int i = 0; i < shard.nrules; i++) {
        Rule *rule = shard.rules[i];
        if (rule->deployment->full && template_matches(&rule->template, key)) return rule->deployment;
    }
    return NULL;
}

static Deployment *full_for_keys(RedisModuleString **argv, int argc) {
    int count = 0;
    Deployment *found = NULL;
    int *positions = RedisModule_GetCommandKeys(shard.detached, argv, argc, &count);
    for (int i = 0; i < count && found == NULL; i++) found = full_covering(argv[positions[i]]);
    if (positions != NULL) api_free_theirs(positions);
    return found;
}

/* MSETEX numkeys key value [key value …] […]; the server itself refuses a number that is none. */
static Deployment *full_for_pairs(RedisModuleString **argv, int argc) {
    long long pairs = 0;
    Deployment *found = NULL;
    if (argc < 4 || RedisModule_StringToLongLong(argv[1], &pairs) != REDISMODULE_OK) return NULL;
    for (int at = 2; at + 1 < argc && pairs > 0 && found == NULL; at += 2, pairs--) found = full_covering(argv[at]);
    return found;
}

/* SORT … STORE key, GEORADIUS … STORE|STOREDIST key: the last one counts; without any they only read. */
static Deployment *full_for_stored(RedisModuleString **argv, int argc) {
    for (int i = argc - 2; i > 1; i--) {
        Slice word = string_slice(argv[i]);
        if (slice_is(word, "store") || slice_is(word, "storedist")) return full_covering(argv[i + 1]);
    }
    return NULL;
}

/* The full deployment that covers a key which the command may change; NULL: none. */
static Deployment *full_for(Written written, RedisModuleString **argv, int argc) {
    if (written == EVERY_KEY) return full_for_keys(argv, argc);
    if (written == COUNTED_PAIRS) return full_for_pairs(argv, argc);
    if (written == AFTER_STORE) return full_for_stored(argv, argc);
    int at = written == FIRST_ARGUMENT ? 1 : 2;
    return at < argc ? full_covering(argv[at]) : NULL;
}

static void refuse(RedisModuleCommandFilterCtx *filter, int argc, Deployment *deployment) {
    deployment->refused_writes++;
    for (int i = argc - 1; i > 1; i--) RedisModule_CommandFilterArgDelete(filter, i);
    RedisModuleString *name = RedisModule_CreateString(NULL, deployment->name, strlen(deployment->name));
    RedisModule_CommandFilterArgReplace(filter, 1, name);
    /* A queued command must fail when it is queued, so that EXEC aborts: an unknown command does. */
    const char *command =
        filter_in_transaction(filter) ? "BACKLOG: gearsync's backlog is full, nothing was written" : "GEARSYNC.REFUSE";
    RedisModule_CommandFilterArgReplace(filter, 0, RedisModule_CreateString(NULL, command, strlen(command)));
}

static void refuse_if_covered(RedisModuleCommandFilterCtx *filter, Written written, int argc) {
    RedisModuleString *fixed[64];
    RedisModuleString **argv = argc <= 64 ? fixed : RedisModule_Alloc(sizeof(*argv) * (size_t)argc);
    for (int i = 0; i < argc; i++) argv[i] = RedisModule_CommandFilterArgGet(filter, i);
    Deployment *deployment = full_for(written, argv, argc);
    if (argv != fixed) RedisModule_Free(argv);
    if (deployment != NULL) refuse(filter, argc, deployment);
}

void backlog_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    if (full_deployments == 0 || argc < 2 || !shard.primary) return;
    Written written = what_is_written(name);
    if (written != NOTHING) refuse_if_covered(filter, written, argc);
}

int backlog_refuse_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    Slice name = string_slice(argv[1]);
    Text text = {0};
    text_printf(
        &text,
        "BACKLOG the change stream of deployment %.*s is full, so nothing was written; its database is away or too "
        "slow (see GEARSYNC.STATUS), or raise its backlog limit",
        name.len > NAME_MAX_BYTES ? NAME_MAX_BYTES : (int)name.len, name.bytes);
    int result = RedisModule_ReplyWithError(ctx, text.bytes);
    text_free(&text);
    return result;
}
