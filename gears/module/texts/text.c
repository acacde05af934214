/* Growable text, slices, and JSON strings. */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void text_reserve(Text *text, size_t more) {
    if (text->len + more + 1 <= text->capacity) return;
    text->capacity = (text->len + more + 1) * 2;
    text->bytes = RedisModule_Realloc(text->bytes, text->capacity);
}

void text_add(Text *text, const char *bytes, size_t len) {
    text_reserve(text, len);
    if (len > 0) memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
    text->bytes[text->len] = '\0';
}

void text_printf(Text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len > 0) {
        text_reserve(text, (size_t)len);
        vsnprintf(text->bytes + text->len, (size_t)len + 1, format, again);
        text->len += (size_t)len;
    }
    va_end(again);
}

void text_json(Text *text, const char *bytes, size_t len) {
    text_add(text, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\')
            text_printf(text, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            text_printf(text, "\\u%04x", c);
        else
            text_add(text, (const char *)&bytes[i], 1);
    }
    text_add(text, "\"", 1);
}

void text_free(Text *text) {
    if (text->bytes != NULL) RedisModule_Free(text->bytes);
    *text = (Text){0};
}

char *slice_copy(Slice slice) {
    char *copy = RedisModule_Alloc(slice.len + 1);
    if (slice.len > 0) memcpy(copy, slice.bytes, slice.len);
    copy[slice.len] = '\0';
    return copy;
}
