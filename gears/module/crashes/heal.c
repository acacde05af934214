/* Redis 6.2: changes whose write was lost in a crash are captured anew (docs/design.md, "Redis 6.2"). */
#include "crashes.h"

#include <stdlib.h>
#include <string.h>

#include "capture/capture.h"
#include "changes/entry.h"
#include "changes/image.h"
#include "changes/kinds.h"

#define HEAL_PAGE 1000
#define HEAL_SEEN (1 << 15)

/* Hashes of the keys whose latest entry was looked at; a power of two of places, at most half of them used. */
typedef struct {
    uint64_t *places;
    size_t used;
} SeenKeys;

static bool seen_before(SeenKeys *seen, Slice key) {
    uint64_t hash = key_hash(key) | 1;
    size_t at = (hash >> 1) & (HEAL_SEEN - 1);
    while (seen->places[at] != 0 && seen->places[at] != hash) at = (at + 1) & (HEAL_SEEN - 1);
    if (seen->places[at] == hash) return true;
    seen->places[at] = hash;
    seen->used++;
    return false;
}

/* Up to HEAL_PAGE entries of a lane, backwards from *end, which becomes the id of the last one read. By the API: a node
 * of a cluster that has just loaded its data takes no command on a key yet. */
static size_t read_page(RedisModuleCtx *ctx, Lane *lane, RedisModuleStreamID *end, Entry *page) {
    size_t count = 0;
    long pairs;
    RedisModule_SelectDb(ctx, 0);
    RedisModuleKey *stream = RedisModule_OpenKey(ctx, lane->stream, REDISMODULE_READ);
    if (stream == NULL) return 0;
    if (RedisModule_KeyType(stream) == REDISMODULE_KEYTYPE_STREAM &&
        RedisModule_StreamIteratorStart(stream, REDISMODULE_STREAM_ITERATOR_REVERSE, NULL, end) == REDISMODULE_OK) {
        while (count < HEAL_PAGE && RedisModule_StreamIteratorNextID(stream, end, &pairs) == REDISMODULE_OK)
            entry_read(&page[count++], stream, pairs);
        RedisModule_StreamIteratorStop(stream);
    }
    RedisModule_CloseKey(stream);
    return count;
}

static bool image_is(const Image *image, const Entry *entry) {
    if (entry->count != image->count + 2) return false;
    for (size_t i = 0; i < image->count; i++)
        if (!strings_equal(image->argv[i], entry->strings[i + 2])) return false;
    return true;
}

typedef enum { STATE_UNCOVERED, STATE_SAME, STATE_GONE, STATE_HASH } State;

/* What Redis has of a key, against an entry of the lane. */
static State compare_state(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, int db, const Entry *entry) {
    RedisModuleString *name = entry->strings[0];
    Rule *matched[MAX_FIXED];
    int count = 0;
    for (int i = 0; i < deployment->nrules; i++) {
        Rule *rule = &deployment->rules[i];
        if (rule->db != db || strcmp(deployment->targets[rule->target], lane->target) != 0 ||
            !template_matches(&rule->template, string_slice(name)))
            continue;
        if (count < MAX_FIXED) matched[count] = rule;
        count++;
    }
    if (count == 0) return STATE_UNCOVERED;
    RedisModule_SelectDb(ctx, db);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    bool says_gone = memchr("dxv", string_slice(entry->strings[1]).bytes[0], 3) != NULL;
    State state = says_gone ? STATE_SAME : STATE_GONE;
    RedisModuleString *document;
    if (kind_holds(ctx, matched[0]->kind, key, name, &document)) {
        Image image;
        image_start(&image, name, 'u');
        if (matched[0]->kind == KIND_HASH) image_read(&image, key, matched, count);
        kind_read(&image, &document);
        state = !says_gone && image_is(&image, entry) ? STATE_SAME : STATE_HASH;
        image_end(&image);
    }
    if (key != NULL) RedisModule_CloseKey(key);
    return state;
}

/* Whether an entry stood in the AOF before the last flush. Then it has its write: a crash tears off the end alone. That
 * its key is gone says nothing, since a flush takes keys whose rows may be meant to stay. */
static bool is_before_flush(Slice meta) {
    char *text = slice_copy(meta);
    uint64_t epoch = strtoull(text + 1, NULL, 16);
    RedisModule_Free(text);
    return epoch < shard.flushed;
}

/* Captures the key of an entry anew when Redis has another state of it; whether it did. */
static bool heal_entry(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Entry *entry, SeenKeys *seen) {
    if (entry->count < 2) return false;
    Slice key = string_slice(entry->strings[0]), meta = string_slice(entry->strings[1]);
    /* The change before it says what it is about. */
    if (meta.len > 0 && meta.bytes[0] == 'w') return false;
    /* A mark says all that there is to say of its key: a key that a resharding took away is gone, and has its row. An
     * intent is not done yet. */
    if (key.len == 0 || meta.len == 0 || seen_before(seen, key) || memchr("miURD", meta.bytes[0], 5) != NULL ||
        is_before_flush(meta))
        return false;
    int db = -1;
    bool same = false;
    for (int i = 0; i < deployment->nrules && !same; i++) {
        int of_rule = deployment->rules[i].db;
        State state = compare_state(ctx, deployment, lane, of_rule, entry);
        same = state == STATE_SAME;
        if (state == STATE_HASH || (state == STATE_GONE && db < 0)) db = of_rule;
    }
    return !same && db >= 0 && capture_now(ctx, db, entry->strings[0]) > 0;
}

/* One page of the lane, backwards from *end, which moves to the page before it; whether to go on there. The page is
 * read before anything is appended to the lane. */
static bool heal_page(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleStreamID *end,
                      SeenKeys *seen) {
    Entry *page = RedisModule_Calloc(HEAL_PAGE, sizeof(*page));
    size_t count = read_page(ctx, lane, end, page);
    bool healed = false;
    for (size_t i = 0; i < count; i++) {
        healed = heal_entry(ctx, deployment, lane, &page[i], seen) || healed;
        entry_free(&page[i]);
    }
    RedisModule_Free(page);
    return healed && count == HEAL_PAGE && seen->used < HEAL_SEEN / 2 - HEAL_PAGE;
}

/* One command can leave many such changes (DEL of many keys), so whole pages are looked at, as long as one had any. A
 * retired lane got its changes before the registry said that it is retired, so none is torn; and its keys may be those
 * of another shard. */
void heal_tails(RedisModuleCtx *ctx) {
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        for (int j = 0; j < deployment->lane_count && !deployment->draining; j++) {
            if (deployment->lanes[j]->retired) continue;
            SeenKeys seen = {RedisModule_Calloc(HEAL_SEEN, sizeof(uint64_t)), 0};
            RedisModuleStreamID end = {UINT64_MAX, UINT64_MAX};
            while (heal_page(ctx, deployment, deployment->lanes[j], &end, &seen)) continue;
            RedisModule_Free(seen.places);
        }
    }
}
