/* Which keys have a change that still waits in a lane: SQL has an older row of them than Redis has, or had. Each lane
 * remembers the last change of each of its buckets of keys, so that the answer can be yes for a key of the same bucket,
 * and is never wrongly no. */
#include "waiting.h"
#include "ids.h"
#include "parts.h"

#include <string.h>

#define ALL_BUCKETS 65536 /* of the lanes of one target together */
#define FEWEST_BUCKETS 4096

struct Buckets {
    RedisModuleStreamID all; /* no key has a later change than this one, or than its bucket's */
    size_t count;
    RedisModuleStreamID last[];
};

static bool watching;

/* Lanes have their buckets from here on: somebody asks. What waits already is not told apart. */
static void watch_lane(Lane *lane) {
    size_t count = ALL_BUCKETS / (size_t)(lane->count > 0 ? lane->count : 1);
    if (count < FEWEST_BUCKETS) count = FEWEST_BUCKETS;
    lane->buckets = RedisModule_Calloc(1, sizeof(*lane->buckets) + count * sizeof(RedisModuleStreamID));
    lane->buckets->count = count;
    lane->buckets->all = lane->last;
}

static void watch_lanes(void) {
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++)
            if (shard.deployments[i]->lanes[j]->buckets == NULL) watch_lane(shard.deployments[i]->lanes[j]);
}

void waiting_watch(void) {
    watching = true;
    watch_lanes();
}

void waiting_forget(void) { watching = false; }

void waiting_free(Lane *lane) {
    if (lane->buckets != NULL) RedisModule_Free(lane->buckets);
    lane->buckets = NULL;
}

static RedisModuleStreamID *bucket_of(Lane *lane, Slice key) {
    uint64_t hash = key_hash(key);
    return &lane->buckets->last[(hash / (uint64_t)lane->count) % lane->buckets->count];
}

/* A flush, and marks of slots and lanes, say something of every key. */
bool waiting_is_of_all(Slice key) {
    size_t len = sizeof("gearsync:") - 1;
    return key.len == 0 || (key.len > len && memcmp(key.bytes, "gearsync:", len) == 0);
}

void waiting_note(Lane *lane, Slice key) {
    if (lane->buckets == NULL) {
        if (watching) watch_lane(lane);
    } else if (waiting_is_of_all(key)) {
        lane->buckets->all = lane->last;
    } else {
        *bucket_of(lane, key) = lane->last;
    }
}

/* After a lane was found anew in the keyspace: another server may have put changes there. */
void waiting_note_all(Lane *lane) {
    if (lane->buckets != NULL) lane->buckets->all = lane->last;
}

static bool changed_after(Lane *lane, Slice key, RedisModuleStreamID id) {
    if (!lane->retired && lane->count > 1 && key_hash(key) % (uint64_t)lane->count != (uint64_t)lane->index)
        return false;
    if (lane->buckets == NULL) return true;
    return stream_id_compare(*bucket_of(lane, key), id) > 0 || stream_id_compare(lane->buckets->all, id) > 0;
}

bool waiting_in(Lane *lane, Slice key) { return lane->length > 0 && changed_after(lane, key, lane->acked); }

bool waiting_in_since_mark(Lane *lane, Slice key) { return changed_after(lane, key, lane->marked); }
