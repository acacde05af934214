/* Growable text, and slices of bytes that are somebody else's. */
#ifndef GEARSYNC_TEXT_H
#define GEARSYNC_TEXT_H

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "api.h"

typedef struct {
    char *bytes;
    size_t len, capacity;
} Text;
typedef struct {
    const char *bytes;
    size_t len;
} Slice;
void text_add(Text *text, const char *bytes, size_t len);
void text_reserve(Text *text, size_t more);
void text_printf(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_json(Text *text, const char *bytes,
               size_t len); /* as a quoted JSON string; bytes that are not ASCII as \u00XX */
void text_free(Text *text);
char *slice_copy(Slice slice);                               /* NUL-terminated, to be freed */
static inline bool slice_is(Slice slice, const char *word) { /* equal, ASCII case ignored */
    return slice.len == strlen(word) && strncasecmp(slice.bytes, word, slice.len) == 0;
}
static inline Slice string_slice(const RedisModuleString *string) {
    Slice slice;
    slice.bytes = RedisModule_StringPtrLen(string, &slice.len);
    return slice;
}
static inline bool slices_equal(Slice one, Slice other) {
    return one.len == other.len && (one.len == 0 || memcmp(one.bytes, other.bytes, one.len) == 0);
}
static inline bool slice_equals(Slice slice, const char *text) {
    return slices_equal(slice, (Slice){text, strlen(text)});
}
static inline bool strings_equal(const RedisModuleString *a, const RedisModuleString *b) {
    return slices_equal(string_slice(a), string_slice(b));
}

#endif
