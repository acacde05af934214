/* Changes of functions that are paused alone: the worker has them moved from their lane to the stream that holds them
 * back, with the ids that they have, so that what was moved before is not moved again. */
#include "hold.h"
#include "parts.h"
#include "pause.h"

#include <errno.h>
#include <string.h>

#include "changes/entry.h"
#include "lanes/backlog.h"
#include "lanes/ids.h"
#include "lanes/lanes.h"
#include "lanes/waiting.h"
#include "listeners.h"

/* -- One change ---------------------------------------------------------------------------------------------------- */

typedef struct {
    RedisModuleString **argv;
    long count, capacity;
    uint64_t bytes;
} Moved; /* an entry as it stands in the stream */

static void moved_clear(Moved *entry) {
    for (long i = 0; i < entry->count; i++) RedisModule_FreeString(NULL, entry->argv[i]);
    entry->count = 0;
    entry->bytes = 0;
}

static void moved_add(Moved *entry, RedisModuleString *string) {
    if (entry->count == entry->capacity) {
        entry->capacity = entry->capacity * 2 + 16;
        entry->argv = RedisModule_Realloc(entry->argv, sizeof(*entry->argv) * (size_t)entry->capacity);
    }
    entry->argv[entry->count++] = string;
    entry->bytes += string_slice(string).len + 3;
}

/* False: it is not there any more. */
static bool read_entry(RedisModuleKey *key, RedisModuleStreamID id, Moved *entry) {
    long fields = 0;
    RedisModuleString *name, *value;
    RedisModuleStreamID found;
    moved_clear(entry);
    if (RedisModule_StreamIteratorStart(key, 0, &id, &id) != REDISMODULE_OK) return false;
    if (RedisModule_StreamIteratorNextID(key, &found, &fields) == REDISMODULE_OK)
        while (fields-- > 0 && RedisModule_StreamIteratorNextField(key, &name, &value) == REDISMODULE_OK) {
            moved_add(entry, name);
            moved_add(entry, value);
        }
    RedisModule_StreamIteratorStop(key);
    Slice name_of_key;
    return entry_key(entry->argv, entry->count, &name_of_key);
}

/* How many were put there: none when this one, or a later one, was there before; -1: the server can't. */
static int put_entry(RedisModuleCtx *ctx, RedisModuleKey *key, Lane *held, RedisModuleStreamID id, Moved *entry) {
    if (RedisModule_StreamAdd(key, 0, &id, entry->argv, entry->count / 2) != REDISMODULE_OK)
        return errno == EDOM ? 0 : -1;
    held->length = RedisModule_ValueLength(key);
    held->last = id;
    Slice name = {"", 0};
    entry_key(entry->argv, entry->count, &name);
    waiting_note(held, name);
    listeners.changed(name);
    bytes_add(held, 1, entry->bytes);
    RedisModuleString *text = stream_id_string(id);
    RedisModule_Replicate(ctx, "XADD", "ssv", held->stream, text, entry->argv, (size_t)entry->count);
    RedisModule_FreeString(NULL, text);
    return 1;
}

/* How many; -1: not all could be. */
static long long move(RedisModuleCtx *ctx, Lane *lane, Lane *held, RedisModuleString **ids, int count) {
    long long moved = 0;
    Moved entry = {0};
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *from = RedisModule_OpenKey(ctx, lane->stream, REDISMODULE_READ);
    if (from == NULL) return 0;
    RedisModuleKey *to = RedisModule_OpenKey(ctx, held->stream, REDISMODULE_READ | REDISMODULE_WRITE);
    for (int i = 0; i < count && moved >= 0; i++) {
        RedisModuleStreamID id;
        if (!stream_id_parse(string_slice(ids[i]), &id) || !read_entry(from, id, &entry)) continue;
        int put = put_entry(ctx, to, held, id, &entry);
        moved = put < 0 ? -1 : moved + put;
    }
    RedisModule_CloseKey(to);
    RedisModule_CloseKey(from);
    moved_clear(&entry);
    if (entry.argv != NULL) RedisModule_Free(entry.argv);
    return moved;
}

/* -- Commands ------------------------------------------------------------------------------------------------------ */

static int reply_changed(RedisModuleCtx *ctx) {
    return RedisModule_ReplyWithError(ctx, "HOLDS what is held back has changed; ask GEARSYNC.HOLDS again");
}

static void reply_text(RedisModuleCtx *ctx, const char *text) {
    RedisModule_ReplyWithStringBuffer(ctx, text, strlen(text));
}

static const Lane *lane_of(const Deployment *deployment, const Lane *held) {
    for (int i = 0; i < deployment->lane_count; i++)
        if (hold_is_of(held, deployment->lanes[i])) return deployment->lanes[i];
    return NULL;
}

static bool reply_one(RedisModuleCtx *ctx, const Deployment *deployment, const Lane *held) {
    const Lane *lane = held->holds ? lane_of(deployment, held) : NULL;
    if (lane == NULL) return false;
    const Hold *hold = hold_find(deployment, held->function);
    RedisModule_ReplyWithArray(ctx, 7);
    reply_text(ctx, held->function);
    reply_text(ctx, hold != NULL && hold->paused ? "paused" : "resumed");
    RedisModule_ReplyWithString(ctx, lane->stream);
    RedisModule_ReplyWithString(ctx, held->stream);
    RedisModule_ReplyWithString(ctx, held->dead_stream);
    RedisModule_ReplyWithLongLong(ctx, (long long)held->length);
    stream_id_reply(ctx, held->last);
    return true;
}

/* GEARSYNC.HOLDS name: [version, number, [[function, paused|resumed, lane, stream, dead-letter stream, length, last
 * id]…], digest of the payload, life of the server] */
int holds_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    Deployment *deployment = pause_find(ctx, argv[1]);
    if (deployment == NULL) return REDISMODULE_OK;
    long count = 0;
    RedisModule_ReplyWithArray(ctx, 5);
    RedisModule_ReplyWithLongLong(ctx, deployment->version);
    RedisModule_ReplyWithLongLong(ctx, deployment->hold_number);
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    for (int i = 0; i < deployment->lane_count; i++)
        if (deployment->lanes[i]->function != NULL) count += reply_one(ctx, deployment, deployment->lanes[i]);
    RedisModule_ReplySetArrayLength(ctx, count);
    RedisModule_ReplyWithStringBuffer(ctx, deployment->digest, DIGEST_BYTES);
    return RedisModule_ReplyWithStringBuffer(ctx, shard.life, strlen(shard.life));
}

/* GEARSYNC.HOLD stream function number id…: how many were moved. GEARSYNC.HOLD stream function OPEN: from now on they
 * are to be, also of a function that is not paused. */
int hold_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Deployment *deployment = NULL;
    if (argc < 4) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    Lane *lane = shard_find_lane(string_slice(argv[1]), &deployment);
    if (lane == NULL || lane->function != NULL)
        return RedisModule_ReplyWithError(ctx, "ERR there is no lane of that name on this server");
    const char *function = RedisModule_StringPtrLen(argv[2], NULL);
    if (slice_is(string_slice(argv[3]), "open")) {
        hold_open(ctx, deployment, lane, function);
        return RedisModule_ReplyWithSimpleString(ctx, "OK");
    }
    long long number;
    Lane *held = hold_stream(deployment, lane, function);
    if (RedisModule_StringToLongLong(argv[3], &number) != REDISMODULE_OK || number != deployment->hold_number ||
        held == NULL || !held->holds)
        return reply_changed(ctx);
    long long moved = move(ctx, lane, held, argv + 4, argc - 4);
    backlog_update(deployment);
    if (moved < 0)
        return RedisModule_ReplyWithError(ctx, "ERR a change can't be stored in the stream that holds it back");
    return RedisModule_ReplyWithLongLong(ctx, moved);
}

/* GEARSYNC.UNHOLD stream number: 1, or 0 when it can't end yet. */
int unhold_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Deployment *deployment = NULL;
    long long number;
    if (argc != 3) return RedisModule_WrongArity(ctx);
    if (!shard.primary) return shard_reply_replica(ctx);
    Lane *held = shard_find_lane(string_slice(argv[1]), &deployment);
    if (held == NULL || held->function == NULL || RedisModule_StringToLongLong(argv[2], &number) != REDISMODULE_OK ||
        number != deployment->hold_number)
        return reply_changed(ctx);
    return RedisModule_ReplyWithLongLong(ctx, hold_end(ctx, deployment, held));
}

/* -- Reads --------------------------------------------------------------------------------------------------------- */

const char *held_of_read(int db, Slice key) {
    for (int i = 0; i < shard.count; i++) {
        const Deployment *deployment = shard.deployments[i];
        for (int j = 0; deployment->nholds > 0 && j < deployment->lane_count; j++) {
            Lane *held = deployment->lanes[j];
            if (held->function == NULL || strcmp(hold_state(deployment, held), "held") != 0) continue;
            if (hold_concerns(deployment, held, db, key) && waiting_in(held, key))
                return "its changes are held back until a function that is paused is resumed, so that SQL has an older "
                       "row";
        }
    }
    return NULL;
}

/* -- Barriers ------------------------------------------------------------------------------------------------------ */

bool held_before(RedisModuleCtx *ctx, const Deployment *deployment, const Lane *lane, RedisModuleStreamID id,
                 const Slice *key, bool *all_paused) {
    bool any = false;
    for (int i = 0; i < deployment->lane_count; i++) {
        Lane *held = deployment->lanes[i];
        RedisModuleStreamID first;
        if (held->length == 0 || !hold_is_of(held, lane)) continue;
        if (key != NULL && !hold_concerns(deployment, held, -1, *key)) continue;
        if (!lane_first(ctx, held, &first) || stream_id_compare(first, id) > 0) continue;
        const Hold *hold = hold_find(deployment, held->function);
        any = true;
        *all_paused = *all_paused && hold != NULL && hold->paused;
    }
    return any;
}
