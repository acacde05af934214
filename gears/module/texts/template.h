/* Key templates, and lanes of keys. */
#ifndef GEARSYNC_TEMPLATE_H
#define GEARSYNC_TEMPLATE_H

#include "texts/text.h"

typedef struct {
    bool capture; /* a {name}; else a literal */
    bool rest;    /* a {name*} */
    char *literal;
    size_t len;
} TemplatePart;
typedef struct {
    TemplatePart *parts;
    int count;
} Template;
const char *template_parse(Template *template, Slice text); /* NULL, or what is wrong */
bool template_has_prefix(const Template *template, Slice key);
bool template_matches(const Template *template, Slice key);
bool template_is_same(const Template *one, const Template *other); /* but for the names of what they match */
void template_free(Template *template);
uint64_t key_hash(Slice key); /* FNV-1a, 64 bits */
Slice hash_tag(Slice key);    /* empty: it has none */
unsigned key_slot(Slice key); /* Redis Cluster's slot, hash tags respected */

#endif
