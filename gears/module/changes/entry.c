/* A change as an entry of its lane (docs/design.md, "A change as a stream entry"): one pair, so that the stream, the
 * AOF and the links to replicas handle two strings, however many fields there are. The field of the pair names the
 * fields of the image, the same for most changes of a function; the value holds all else, with a byte between them that
 * is in none. Where all bytes are in some, there is a pair for each. */
#include "entry.h"

#include <string.h>

#define FORMAT 'c'
#define SEPARATOR 0x1f

static Text scratch;
#define SCRATCH_KEPT (1 << 20)

void entry_free_shared(void) { text_free(&scratch); }

/* -- Packing ------------------------------------------------------------------------------------------------------- */

static void add_name(Text *label, RedisModuleString *name) {
    Slice text = string_slice(name);
    text_printf(label, "%zu:", text.len);
    text_add(label, text.bytes, text.len);
}

static RedisModuleString *make_label(RedisModuleString **fields, size_t count, size_t step) {
    char format = FORMAT;
    Text label = {0};
    text_add(&label, &format, 1);
    for (size_t i = 0; i < count; i++) add_name(&label, fields[i * step]);
    RedisModuleString *string = RedisModule_CreateString(NULL, label.bytes, label.len);
    text_free(&label);
    return string;
}

/* Whether the image has just the fields of its rule, in their order. */
static bool is_whole(const Image *image) {
    const Rule *rule = image->rule;
    if (rule == NULL || image->count != (size_t)rule->nfields * 2) return false;
    for (int i = 0; i < rule->nfields; i++)
        if (image->argv[i * 2] != rule->fields[i]) return false;
    return true;
}

static RedisModuleString *label_of(const Image *image) {
    if (!is_whole(image)) return make_label(image->argv, image->count / 2, 2);
    Rule *rule = image->rule;
    if (rule->label == NULL) rule->label = make_label(rule->fields, (size_t)rule->nfields, 1);
    return RedisModule_HoldString(NULL, rule->label);
}

static size_t count_parts(const Image *image) { return 2 + image->count / 2; }

static Slice part_of(const Image *image, size_t i) {
    return string_slice(i == 0 ? image->meta : i == 1 ? image->key : image->argv[i * 2 - 3]);
}

/* The separator, then the parts with it between them. False: one of them has it. */
static bool pack(const Image *image, char separator) {
    size_t parts = count_parts(image);
    scratch.len = 0;
    for (size_t i = 0; i < parts; i++) {
        Slice part = part_of(image, i);
        if (memchr(part.bytes, separator, part.len) != NULL) return false;
        if (scratch.len + part.len + 2 > scratch.capacity) text_reserve(&scratch, part.len + 1);
        scratch.bytes[scratch.len++] = separator;
        memcpy(scratch.bytes + scratch.len, part.bytes, part.len);
        scratch.len += part.len;
    }
    return true;
}

/* The first byte from the unit separator on that is in none of the parts, by one look at them all: there may be many
 * megabytes. -1: each is in some. */
static int find_unused(const Image *image) {
    bool used[UINT8_MAX + 1] = {false};
    size_t left = sizeof(used) / sizeof(used[0]);
    for (size_t i = 0; i < count_parts(image); i++) {
        Slice part = part_of(image, i);
        for (size_t at = 0; at < part.len && left > 0; at++) {
            bool *seen = &used[(unsigned char)part.bytes[at]];
            left -= !*seen;
            *seen = true;
        }
    }
    for (unsigned byte = SEPARATOR; byte <= SEPARATOR + UINT8_MAX; byte++)
        if (!used[byte % sizeof(used)]) return (int)(byte % sizeof(used));
    return -1;
}

/* Texts have no unit separators: nearly always the first one will do. */
static bool pack_by_any(const Image *image) {
    if (pack(image, SEPARATOR)) return true;
    int byte = find_unused(image);
    return byte >= 0 && pack(image, (char)byte);
}

static void make_pairs(Packed *packed, const Image *image) {
    packed->count = 4 + image->count;
    packed->strings = RedisModule_Alloc(sizeof(*packed->strings) * packed->count);
    packed->strings[0] = RedisModule_CreateString(NULL, "k", 1);
    packed->strings[1] = RedisModule_HoldString(NULL, image->key);
    packed->strings[2] = RedisModule_CreateString(NULL, "m", 1);
    packed->strings[3] = RedisModule_HoldString(NULL, image->meta);
    for (size_t i = 0; i < image->count; i++) packed->strings[4 + i] = RedisModule_HoldString(NULL, image->argv[i]);
}

void entry_pack(Packed *packed, const Image *image) {
    if (!pack_by_any(image)) {
        make_pairs(packed, image);
        return;
    }
    packed->count = 2;
    packed->strings = packed->pair;
    packed->pair[0] = label_of(image);
    packed->pair[1] = RedisModule_CreateString(NULL, scratch.bytes, scratch.len);
    if (scratch.capacity > SCRATCH_KEPT) text_free(&scratch);
}

void entry_drop(Packed *packed) {
    for (size_t i = 0; i < packed->count; i++) RedisModule_FreeString(NULL, packed->strings[i]);
    if (packed->strings != packed->pair) RedisModule_Free(packed->strings);
    packed->count = 0;
}

/* -- Reading ------------------------------------------------------------------------------------------------------- */

/* Takes the next "<length>:<name>" off the rest of a label. */
static bool next_name(Slice *rest, Slice *name) {
    size_t at = 0, len = 0;
    for (; at < rest->len && rest->bytes[at] >= '0' && rest->bytes[at] <= '9' && len < SCRATCH_KEPT; at++)
        len = len * 10 + (size_t)(rest->bytes[at] - '0');
    if (at == 0 || at == rest->len || rest->bytes[at] != ':' || len > rest->len - at - 1) return false;
    *name = (Slice){rest->bytes + at + 1, len};
    *rest = (Slice){name->bytes + len, rest->len - at - 1 - len};
    return true;
}

static void keep(Entry *entry, Slice text) {
    entry->strings[entry->count++] = RedisModule_CreateString(NULL, text.bytes, text.len);
}

static bool is_packed(size_t count, Slice label, Slice packed) {
    return count == 2 && label.len > 0 && label.bytes[0] == FORMAT && packed.len > 0;
}

static size_t count_separators(Slice packed) {
    size_t found = 0;
    for (size_t i = 0; i < packed.len; i++) found += packed.bytes[i] == packed.bytes[0];
    return found;
}

/* Fills the entry, which has room for two strings for each separator, and two more. */
static void unpack(Entry *entry, Slice label, Slice packed) {
    Slice names = {label.bytes + 1, label.len - 1}, meta = {"", 0}, name;
    const char *at = packed.bytes + 1, *end = packed.bytes + packed.len;
    for (size_t part = 0; at <= end; part++) {
        const char *stop = at < end ? memchr(at, packed.bytes[0], (size_t)(end - at)) : NULL;
        Slice text = {at, (size_t)((stop != NULL ? stop : end) - at)};
        at += text.len + 1;
        if (part == 0) meta = text;
        if (part > 1 && next_name(&names, &name)) keep(entry, name);
        if (part > 0) keep(entry, text);
        if (part == 1) keep(entry, meta);
    }
}

/* Two pairs for key and meta, then one for each field. */
static void read_pairs(Entry *entry, RedisModuleString **strings, size_t count) {
    for (size_t i = 1; i < count; i += i < 3 ? 2 : 1) keep(entry, string_slice(strings[i]));
}

void entry_read(Entry *entry, RedisModuleKey *stream, long pairs) {
    size_t count = 0;
    RedisModuleString **strings = RedisModule_Calloc((size_t)pairs * 2 + 1, sizeof(*strings));
    while (count < (size_t)pairs * 2 &&
           RedisModule_StreamIteratorNextField(stream, &strings[count], &strings[count + 1]) == REDISMODULE_OK)
        count += 2;
    Slice first = count > 0 ? string_slice(strings[0]) : (Slice){"", 0};
    Slice second = count > 0 ? string_slice(strings[1]) : (Slice){"", 0};
    bool packed = is_packed(count, first, second);
    size_t room = packed ? count_separators(second) * 2 + 2 : count + 1;
    *entry = (Entry){RedisModule_Calloc(room, sizeof(*entry->strings)), 0};
    if (packed)
        unpack(entry, first, second);
    else if (count >= 4)
        read_pairs(entry, strings, count);
    for (size_t i = 0; i < count; i++) RedisModule_FreeString(NULL, strings[i]);
    RedisModule_Free(strings);
}

void entry_free(Entry *entry) {
    for (size_t i = 0; i < entry->count; i++) RedisModule_FreeString(NULL, entry->strings[i]);
    RedisModule_Free(entry->strings);
}

bool entry_key(RedisModuleString **strings, long count, Slice *key) {
    if (count >= 4) *key = string_slice(strings[1]);
    if (count != 2) return count >= 4;
    Slice packed = string_slice(strings[1]);
    if (packed.len == 0) return false;
    const char *end = packed.bytes + packed.len, *meta = packed.bytes + 1;
    const char *at = memchr(meta, packed.bytes[0], (size_t)(end - meta));
    if (at == NULL) return false;
    const char *stop = memchr(at + 1, packed.bytes[0], (size_t)(end - at - 1));
    *key = (Slice){at + 1, (size_t)((stop != NULL ? stop : end) - at - 1)};
    return true;
}
