/* Checks that a text is one JSON object: a worker's report goes into the status as it is. */
#include "json.h"

#include <ctype.h>
#include <string.h>

#define DEPTH_MOST 32

typedef struct {
    const char *at, *end;
} Cursor;

static bool value(Cursor *cursor, int depth);

static void skip_space(Cursor *cursor) {
    while (cursor->at < cursor->end && strchr(" \t\r\n", *cursor->at) != NULL && *cursor->at != '\0') cursor->at++;
}

static bool take(Cursor *cursor, char wanted) {
    skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != wanted) return false;
    cursor->at++;
    return true;
}

static bool word(Cursor *cursor, const char *wanted) {
    size_t length = strlen(wanted);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, wanted, length) != 0) return false;
    cursor->at += length;
    return true;
}

static bool digits(Cursor *cursor) {
    const char *start = cursor->at;
    while (cursor->at < cursor->end && isdigit((unsigned char)*cursor->at)) cursor->at++;
    return cursor->at > start;
}

static bool number(Cursor *cursor) {
    word(cursor, "-");
    const char *start = cursor->at;
    if (!digits(cursor) || (*start == '0' && cursor->at - start > 1)) return false;
    if (word(cursor, ".") && !digits(cursor)) return false;
    if (!word(cursor, "e") && !word(cursor, "E")) return true;
    if (!word(cursor, "+")) word(cursor, "-");
    return digits(cursor);
}

static bool escape(Cursor *cursor) {
    if (cursor->at == cursor->end) return false;
    char kind = *cursor->at++;
    if (kind != 'u') return kind != '\0' && strchr("\"\\/bfnrt", kind) != NULL;
    for (int i = 0; i < 4; i++)
        if (cursor->at == cursor->end || !isxdigit((unsigned char)*cursor->at++)) return false;
    return true;
}

/* Of ASCII alone, as Python writes it: so the status is text in any case. */
static bool string(Cursor *cursor) {
    if (!take(cursor, '"')) return false;
    while (cursor->at < cursor->end) {
        unsigned char byte = (unsigned char)*cursor->at++;
        if (byte == '"') return true;
        if (byte < 0x20 || byte > 0x7e || (byte == '\\' && !escape(cursor))) return false;
    }
    return false;
}

static bool member(Cursor *cursor, bool named, int depth) {
    return (!named || (string(cursor) && take(cursor, ':'))) && value(cursor, depth);
}

static bool members(Cursor *cursor, bool named, int depth) {
    char close = named ? '}' : ']';
    if (depth > DEPTH_MOST) return false;
    if (take(cursor, close)) return true;
    do {
        if (!member(cursor, named, depth + 1)) return false;
    } while (take(cursor, ','));
    return take(cursor, close);
}

static bool value(Cursor *cursor, int depth) {
    skip_space(cursor);
    if (cursor->at == cursor->end) return false;
    if (take(cursor, '{')) return members(cursor, true, depth);
    if (take(cursor, '[')) return members(cursor, false, depth);
    if (*cursor->at == '"') return string(cursor);
    return word(cursor, "true") || word(cursor, "false") || word(cursor, "null") || number(cursor);
}

bool json_is_object(Slice text) {
    Cursor cursor = {text.bytes, text.bytes + text.len};
    if (!take(&cursor, '{') || !members(&cursor, true, 0)) return false;
    skip_space(&cursor);
    return cursor.at == cursor.end;
}
