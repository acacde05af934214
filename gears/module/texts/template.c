/* Key templates, the lane hash and the cluster slot of a key. tests/vectors.json holds this file and Python's
 * gears/declaring/template.py to the same answers. */
#include "template.h"

#include <string.h>

/* Room for one more after count of them; the room doubles, whenever count is a power of two. */
static void *grown(void *items, size_t count, size_t size) {
    if ((count & (count - 1)) != 0) return items;
    return RedisModule_Realloc(items, (count > 0 ? count * 2 : 1) * size);
}

static TemplatePart *add_part(Template *template) {
    template->parts = grown(template->parts, (size_t)template->count, sizeof(TemplatePart));
    TemplatePart *part = &template->parts[template->count++];
    memset(part, 0, sizeof(*part));
    return part;
}

static void add_literal_byte(Template *template, char byte) {
    TemplatePart *last = template->count > 0 ? &template->parts[template->count - 1] : NULL;
    if (last == NULL || last->capture) last = add_part(template);
    last->literal = grown(last->literal, last->len, 1);
    last->literal[last->len++] = byte;
}

/* Parses one {name} that starts at text[*at]; NULL, or what is wrong. */
static const char *parse_capture(Template *template, Slice text, size_t *at) {
    const char *close = memchr(text.bytes + *at, '}', text.len - *at);
    if (close == NULL) return "a { in the key template is not closed";
    size_t len = (size_t)(close - (text.bytes + *at)) - 1;
    bool rest = len > 0 && close[-1] == '*';
    if (len == (rest ? 1u : 0u)) return "a {} in the key template has no name";
    if (template->count > 0 && template->parts[template->count - 1].capture)
        return "two {names} in the key template stand side by side";
    TemplatePart *part = add_part(template);
    part->capture = true;
    part->rest = rest;
    *at += len + 1;
    if (rest && *at + 1 != text.len) return "{name*} may only stand at the end of the key template";
    return NULL;
}

const char *template_parse(Template *template, Slice text) {
    memset(template, 0, sizeof(*template));
    int captures = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.bytes[i];
        bool doubled = i + 1 < text.len && text.bytes[i + 1] == c;
        if ((c == '{' || c == '}') && doubled) {
            add_literal_byte(template, c);
            i++;
        } else if (c == '{') {
            const char *error = parse_capture(template, text, &i);
            if (error != NULL) return error;
            captures++;
        } else if (c == '}') {
            return "a } in the key template closes nothing; write }} for the character";
        } else {
            add_literal_byte(template, c);
        }
    }
    return captures > 0 ? NULL : "the key template has no {name}";
}

bool template_has_prefix(const Template *template, Slice key) {
    const TemplatePart *first = &template->parts[0];
    if (first->capture) return true;
    return key.len >= first->len && memcmp(key.bytes, first->literal, first->len) == 0;
}

/* The length of what a {name} matches at the start of key: up to the first byte of the next literal, and never a
 * colon. */
static size_t capture_length(Slice key, const TemplatePart *next) {
    for (size_t i = 0; i < key.len; i++) {
        if (key.bytes[i] == ':') return i;
        if (next != NULL && key.bytes[i] == next->literal[0]) return i;
    }
    return key.len;
}

bool template_matches(const Template *template, Slice key) {
    for (int i = 0; i < template->count; i++) {
        const TemplatePart *part = &template->parts[i];
        size_t len = part->len;
        if (!part->capture) {
            if (key.len < len || memcmp(key.bytes, part->literal, len) != 0) return false;
        } else {
            len = part->rest ? key.len : capture_length(key, i + 1 < template->count ? part + 1 : NULL);
            if (len == 0) return false;
        }
        key.bytes += len;
        key.len -= len;
    }
    return key.len == 0;
}

bool template_is_same(const Template *one, const Template *other) {
    if (one->count != other->count) return false;
    for (int i = 0; i < one->count; i++) {
        const TemplatePart *a = &one->parts[i], *b = &other->parts[i];
        if (a->capture != b->capture || a->rest != b->rest) return false;
        if (!a->capture && (a->len != b->len || memcmp(a->literal, b->literal, a->len) != 0)) return false;
    }
    return true;
}

void template_free(Template *template) {
    for (int i = 0; i < template->count; i++)
        if (template->parts[i].literal != NULL) RedisModule_Free(template->parts[i].literal);
    if (template->parts != NULL) RedisModule_Free(template->parts);
    memset(template, 0, sizeof(*template));
}

uint64_t key_hash(Slice key) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < key.len; i++) {
        hash ^= (unsigned char)key.bytes[i];
        hash *= 0x100000001b3u;
    }
    return hash;
}

Slice hash_tag(Slice key) {
    const char *open = key.len > 0 ? memchr(key.bytes, '{', key.len) : NULL;
    if (open == NULL) return (Slice){"", 0};
    size_t left = key.len - (size_t)(open + 1 - key.bytes);
    const char *close = left > 0 ? memchr(open + 1, '}', left) : NULL;
    return close == NULL ? (Slice){"", 0} : (Slice){open + 1, (size_t)(close - open - 1)};
}

unsigned key_slot(Slice key) {
    Slice tag = hash_tag(key);
    if (tag.len > 0) key = tag;
    /* CRC-16/XMODEM, as Redis Cluster's specification says. */
    unsigned crc = 0;
    for (size_t i = 0; i < key.len; i++) {
        crc ^= (unsigned)(unsigned char)key.bytes[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 0x8000u) ? ((crc << 1) ^ 0x1021u) & 0xffffu : (crc << 1) & 0xffffu;
    }
    return crc & 16383u;
}
