/* What the worker asks and says of the writes of clients that wait (docs/design.md, "Write-through"). */
#include "effects.h"
#include "through.h"
#include "writes.h"

#include <string.h>

#include "capture/capture.h"
#include "clients/rights.h"
#include "cluster/cluster.h"
#include "lanes/backlog.h"
#include "lanes/ids.h"
#include "lanes/lanes.h"
#include "listeners.h"
#include "registry/registry.h"

/* Whether the key's time was over, or it was evicted or flushed, after its write was logged: so it goes in the lane,
 * and that is what Redis has. Looking is what ends it, if nothing has yet. */
static bool has_ended(RedisModuleCtx *ctx, const Write *write) {
    if (!write->existed || write->reply.len == 0) return false;
    RedisModule_SelectDb(ctx, write->db);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, write->argv[1], REDISMODULE_READ);
    if (key == NULL) return true;
    RedisModule_CloseKey(key);
    return false;
}

/* DEL of a key that is not there changes nothing here, but its row is gone: who has read that row sees it by WATCH. */
static void tell_watchers(RedisModuleCtx *ctx, const Write *write) {
    if (effect_kind(string_slice(write->argv[0])) != DELETE_KEYS) return;
    int count;
    RedisModuleString **keys = write_keys(write, &count);
    RedisModule_SelectDb(ctx, write->db);
    for (int i = 0; i < count; i++) RedisModule_SignalModifiedKey(ctx, keys[i]);
}

static void apply(RedisModuleCtx *ctx, Write *write) {
    if (write->told) { /* Committed all the same: SQL goes back to what Redis has. */
        int count;
        RedisModuleString **keys = write_keys(write, &count);
        for (int i = 0; i < count; i++) capture_again(ctx, write->db, keys[i], false);
        write_finish(write, (Text){0});
        return;
    }
    if (has_ended(ctx, write)) {
        Text reply = write->reply;
        write->reply = (Text){0};
        write_finish(write, reply);
        return;
    }
    /* A key that something else has changed meanwhile is captured: SQL follows. */
    shard.applying = !write->turns.disturbed;
    bool moved = false;
    Text reply = write_run(ctx, write->db, write->argv, write->argc, &moved);
    shard.applying = false;
    tell_watchers(ctx, write);
    if (moved) {
        text_free(&reply);
        reply = write_error(
            "SQL has committed this, but another shard took the slot of its key by force meanwhile, and may "
            "not have it; write it again",
            (Slice){"", 0});
    }
    /* Not what was logged, as when the time of a field was over in between, of which no event may have told. */
    bool differs = write->reply.len > 0 &&
                   !slices_equal((Slice){reply.bytes, reply.len}, (Slice){write->reply.bytes, write->reply.len});
    if (differs && !moved) capture_again(ctx, write->db, write->argv[1], false);
    if (reply.bytes[0] == '-')
        RedisModule_Log(ctx, "warning", "write-through: %.*s is in SQL, and Redis refuses it: %.*s",
                        (int)string_slice(write->argv[0]).len, string_slice(write->argv[0]).bytes, (int)reply.len,
                        reply.bytes);
    write_finish(write, reply);
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

/* What SQL has committed stays to be done, by the worker's next REDO, while a cluster that is down refuses it: it must
 * not be taken for done. */
static bool is_refused_here(RedisModuleCtx *ctx) {
    if (cluster_is_ok(ctx)) return false;
    RedisModule_ReplyWithError(ctx, "CLUSTERDOWN the cluster is down, so that nothing can be written here; try again");
    return true;
}

static Lane *own_lane(RedisModuleCtx *ctx, RedisModuleString *stream, Deployment **deployment) {
    Lane *lane = shard.primary ? shard_find_lane(string_slice(stream), deployment) : NULL;
    if (!shard.primary)
        shard_reply_replica(ctx);
    else if (lane == NULL)
        RedisModule_ReplyWithError(ctx, "ERR there is no lane of that name on this server");
    return lane;
}

/* Whether a worker was the last to ask for this lane since this server became its primary; if not, it is from now on,
 * but has to begin anew: what SQL has committed meanwhile, or Redis has forgotten, it does not know of. */
static bool is_taker(RedisModuleCtx *ctx, Lane *lane, RedisModuleString *worker) {
    uint64_t name = key_hash(string_slice(worker));
    if (lane->taker == name) return true;
    lane->taker = name;
    RedisModule_ReplyWithError(ctx, "FENCED another worker had this lane, or another primary; begin with REDO");
    return false;
}

/* GEARSYNC.TAKE stream id worker: the intents up to id that are to be committed, by their ids, after the deployment's
 * version. Only who has begun with REDO takes, and from then on no other worker settles them. */
int through_take_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    RedisModuleStreamID id;
    Deployment *deployment = NULL;
    if (argc != 4 || !stream_id_parse(string_slice(argv[2]), &id))
        return RedisModule_ReplyWithError(ctx, "ERR use GEARSYNC.TAKE stream id worker");
    Lane *lane = own_lane(ctx, argv[1], &deployment);
    if (lane == NULL) return REDISMODULE_OK;
    if (!is_taker(ctx, lane, argv[3])) return REDISMODULE_OK;
    /* Whoever takes has had everything done first that SQL has committed. */
    if (lane->behind) writes_look_again();
    lane->behind = false;
    Slice stream = string_slice(argv[1]);
    long taken = 0;
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    RedisModule_ReplyWithLongLong(ctx, deployment->version);
    for (Write *write = writes_first, *next; write != NULL; write = next) {
        next = write->next;
        bool open = write->stage == LOGGED || (write->stage == TAKEN && !write->told);
        if (!open || !write_is_of(write, stream) || stream_id_compare(write->id, id) > 0) continue;
        if (write->turns.stale) { /* Not committed, or REDO would have found it. */
            write_finish(write,
                         write_error("nothing was written: what SQL has of this key from before a promotion or a "
                                     "restart came first; try again",
                                     (Slice){"", 0}));
            continue;
        }
        if (write->stage == LOGGED && !opening_admits(ctx, write)) {
            write_finish(write, opening_error());
            continue;
        }
        write->stage = TAKEN;
        stream_id_reply(ctx, write->id);
        taken++;
    }
    RedisModule_ReplySetArrayLength(ctx, taken + 1);
    through_start_ready(ctx);
    return REDISMODULE_OK;
}

/* GEARSYNC.SETTLE stream id worker [id reason]…: SQL has committed what was taken up to id, but for those that are
 * named. */
int through_settle_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    static const char *const usage = "ERR use GEARSYNC.SETTLE stream id worker [id reason]...";
    RedisModuleStreamID id;
    Deployment *deployment = NULL;
    int count = 0;
    if (argc < 4 || !stream_id_parse(string_slice(argv[2]), &id)) return RedisModule_ReplyWithError(ctx, usage);
    Lane *lane = own_lane(ctx, argv[1], &deployment);
    if (lane == NULL) return REDISMODULE_OK;
    if (lane->taker != key_hash(string_slice(argv[3])))
        return RedisModule_ReplyWithError(ctx, "FENCED another worker has taken this lane");
    if (is_refused_here(ctx)) return REDISMODULE_OK;
    Refused *refused = parse_refused(argv + 4, argc - 4, &count);
    if (refused == NULL) return RedisModule_ReplyWithError(ctx, usage);
    Slice stream = string_slice(argv[1]);
    long long committed = 0;
    uint64_t epoch = shard.epoch;
    for (Write *write = writes_first, *next; write != NULL; write = next) {
        next = write->next;
        if (write->stage != TAKEN || !write_is_of(write, stream) || stream_id_compare(write->id, id) > 0) continue;
        const Refused *found = find_refused(refused, count, write->id);
        committed += found == NULL;
        /* In which SQL has their record: a flush may have begun another one since. */
        epoch = write->epoch;
        *(found == NULL ? &deployment->through.committed : &deployment->through.refused) += 1;
        if (found == NULL)
            apply(ctx, write);
        else
            write_finish(write, write_error("", found->reason));
    }
    RedisModule_Free(refused);
    if (committed > 0) registry_note_applied(ctx, lane, epoch, id);
    lane_acknowledge(ctx, lane, id);
    backlog_update(deployment);
    listeners.went_on();
    through_start_ready(ctx);
    return RedisModule_ReplyWithLongLong(ctx, committed);
}

/* GEARSYNC.DENY stream reason: what no worker has yet is refused: the database is away. The number of them. */
int through_deny_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    if (argc != 3) return RedisModule_WrongArity(ctx);
    const Lane *lane = own_lane(ctx, argv[1], NULL);
    if (lane == NULL) return REDISMODULE_OK;
    long long refused = 0;
    for (Write *write = writes_first, *next; write != NULL; write = next) {
        next = write->next;
        bool open = write->stage == BEHIND || write->stage == LOGGED;
        if (!open || write_lane(write) != lane) continue;
        write_finish(write, write_error("", string_slice(argv[2])));
        refused++;
    }
    through_start_ready(ctx);
    return RedisModule_ReplyWithLongLong(ctx, refused);
}

/* An old primary that did not know of this one yet can have had another write of that id, in its older epoch. */
static Write *find_write(Slice stream, uint64_t epoch, RedisModuleStreamID id) {
    for (Write *write = writes_first; write != NULL; write = write->next)
        if (write->epoch <= epoch && write->stage != WAITING && stream_id_compare(write->id, id) == 0 &&
            write_is_of(write, stream))
            return write;
    return NULL;
}

static void redo(RedisModuleCtx *ctx, Slice stream, uint64_t epoch, RedisModuleStreamID id, Slice command,
                 Slice reason) {
    Write *write = find_write(stream, epoch, id);
    if (write != NULL && command.len == 0)
        write_finish(write, write_error("", reason));
    else if (write != NULL)
        apply(ctx, write);
    else if (command.len > 0) {
        shard.redoing = true;
        bool done = effect_run(ctx, command);
        shard.redoing = false;
        if (!done)
            RedisModule_Log(
                ctx, "warning",
                "write-through: what SQL committed as %llu-%llu of %.*s was forgotten here, and Redis refuses "
                "it now; gearsync verify finds its key",
                (unsigned long long)id.ms, (unsigned long long)id.seq, (int)stream.len, stream.bytes);
    }
}

/* GEARSYNC.REDO stream epoch id worker [id command reason]…: SQL has committed these, or refused those without a
 * command, and Redis may not know of it: up to id of that epoch they are done now, whatever was lost. Without any, the
 * lane is that worker's from now on. Who has asked SQL before another one began may come with what that one has done
 * already, and clients have written over since. */
int through_redo_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    static const char *const usage = "ERR use GEARSYNC.REDO stream epoch id worker [id command reason]...";
    RedisModuleStreamID id, each;
    long long epoch;
    if (argc < 5 || (argc - 5) % 3 != 0 || RedisModule_StringToLongLong(argv[2], &epoch) != REDISMODULE_OK ||
        !stream_id_parse(string_slice(argv[3]), &id))
        return RedisModule_ReplyWithError(ctx, usage);
    for (int i = 5; i < argc; i += 3)
        if (!stream_id_parse(string_slice(argv[i]), &each)) return RedisModule_ReplyWithError(ctx, usage);
    Lane *lane = own_lane(ctx, argv[1], NULL);
    if (lane == NULL || is_refused_here(ctx)) return REDISMODULE_OK;
    if (argc > 5 && !is_taker(ctx, lane, argv[4])) return REDISMODULE_OK;
    lane->taker = key_hash(string_slice(argv[4]));
    for (int i = 5; i < argc; i += 3) {
        stream_id_parse(string_slice(argv[i]), &each);
        redo(ctx, string_slice(argv[1]), (uint64_t)epoch, each, string_slice(argv[i + 1]), string_slice(argv[i + 2]));
    }
    registry_note_applied(ctx, lane, (uint64_t)epoch, id);
    through_start_ready(ctx);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* GEARSYNC.APPLIED stream: the epoch and the id up to which what SQL committed is in Redis. */
int through_applied_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    Lane *lane = own_lane(ctx, argv[1], NULL);
    if (lane == NULL) return REDISMODULE_OK;
    RedisModule_ReplyWithArray(ctx, 2);
    RedisModule_ReplyWithLongLong(ctx, (long long)lane->applied_epoch);
    stream_id_reply(ctx, lane->applied);
    return REDISMODULE_OK;
}
