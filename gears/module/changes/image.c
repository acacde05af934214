/* The image of a hash as a change carries it: the pairs of a stream entry. A part of the hot path of capture. */
#include "image.h"

#include <string.h>

static RedisModuleString *metas[2][128]; /* by operation byte: "<op><epoch>", and "<op><epoch>+" */

void image_forget_metas(void) {
    for (int i = 0; i < 256; i++) {
        RedisModuleString **meta = &metas[i / 128][i % 128];
        if (*meta != NULL) RedisModule_FreeString(NULL, *meta);
        *meta = NULL;
    }
}

static RedisModuleString *meta_for(char op, bool goes_on) {
    RedisModuleString **meta = &metas[goes_on][(int)op];
    if (*meta == NULL)
        *meta =
            RedisModule_CreateStringPrintf(NULL, goes_on ? "%c%llx+" : "%c%llx", op, (unsigned long long)shard.epoch);
    return *meta;
}

static void image_push(Image *image, RedisModuleString *string) {
    if (image->count == image->capacity) {
        size_t capacity = image->capacity * 2;
        RedisModuleString **grown = RedisModule_Alloc(sizeof(*grown) * capacity);
        memcpy(grown, image->argv, sizeof(*grown) * image->count);
        if (image->argv != image->fixed) RedisModule_Free(image->argv);
        image->argv = grown;
        image->capacity = capacity;
    }
    image->argv[image->count++] = string;
}

void image_start(Image *image, RedisModuleString *key, char op) {
    image->key = key;
    image->meta = meta_for(op, false);
    image->ticketed = NULL;
    image->argv = image->fixed;
    image->capacity = MAX_FIXED;
    image->count = 0;
    image->rule = NULL;
    image->fields_owned = image->values_lent = false;
}

void image_ticket(Image *image, Slice ticket) {
    if (ticket.len == 0) return;
    Text meta = {0};
    Slice before = string_slice(image->meta);
    text_add(&meta, before.bytes, before.len);
    text_add(&meta, ":", 1);
    text_add(&meta, ticket.bytes, ticket.len);
    image->meta = image->ticketed = RedisModule_CreateString(NULL, meta.bytes, meta.len);
    text_free(&meta);
}

void image_go_on(Image *image, char op) { image->meta = meta_for(op, true); }

void image_add(Image *image, RedisModuleString *field, RedisModuleString *value) {
    image_push(image, field);
    image_push(image, value);
}

void image_end(Image *image) {
    for (size_t i = 0; i < image->count && !image->values_lent; i += 2) {
        if (image->fields_owned) RedisModule_FreeString(NULL, image->argv[i]);
        RedisModule_FreeString(NULL, image->argv[i + 1]);
    }
    if (image->ticketed != NULL) RedisModule_FreeString(NULL, image->ticketed);
    if (image->argv != image->fixed) RedisModule_Free(image->argv);
}

static void add_scanned(RedisModuleKey *key, RedisModuleString *field, RedisModuleString *value, void *pd) {
    (void)key;
    if (value != NULL) image_add(pd, RedisModule_HoldString(NULL, field), RedisModule_HoldString(NULL, value));
}

static void read_whole(Image *image, RedisModuleKey *key) {
    image->fields_owned = true;
    RedisModuleScanCursor *cursor = RedisModule_ScanCursorCreate();
    while (RedisModule_ScanKey(key, cursor, add_scanned, image)) continue;
    RedisModule_ScanCursorDestroy(cursor);
}

static bool has_field(const Image *image, RedisModuleString *field) {
    for (size_t i = 0; i < image->count; i += 2)
        if (strings_equal(image->argv[i], field)) return true;
    return false;
}

static void read_fields(Image *image, RedisModuleKey *key, const Rule *rule, bool check_double) {
    for (int i = 0; i < rule->nfields; i++) {
        if (check_double && has_field(image, rule->fields[i])) continue;
        RedisModuleString *value = NULL;
        RedisModule_HashGet(key, REDISMODULE_HASH_NONE, rule->fields[i], &value, NULL);
        if (value != NULL) image_add(image, rule->fields[i], value);
    }
}

/* The image for one target: the union of what its matching rules map; the whole hash when those are too many. */
void image_read(Image *image, RedisModuleKey *key, Rule **rules, int count) {
    if (count > MAX_FIXED) {
        read_whole(image, key);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (rules[i]->nfields >= 0) continue;
        read_whole(image, key);
        return;
    }
    if (count == 1) image->rule = rules[0];
    for (int i = 0; i < count; i++) read_fields(image, key, rules[i], i > 0);
}
