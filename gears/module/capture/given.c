/* What the command in hand gives. An HSET that sets all the fields of a rule is the image that it leaves behind: the
 * hash need not be read, which costs more than all else of a capture.
 *
 * The command filter notes the arguments; the event tells by its key whether it is of that command, because the server
 * passes the very string that was the argument. That string is held, so that no other can take its place. Each command
 * that passes the filter ends what was noted before, and so does each further event of the unit: then the hash is read.
 */
#include "capture.h"
#include "events.h"

#include <string.h>

#include "changes/entry.h"
#include "changes/image.h"

#define MOST_ARGUMENTS 258 /* of an HSET that is looked at: its name, the key, 128 fields and values */

static RedisModuleString *noted_key; /* NULL: no command in hand is one to be looked at */
static RedisModuleString *arguments[MOST_ARGUMENTS];
static int noted;
static Rule *noted_rule;
static Given given; /* of the event that the noted command has made */

void given_forget(void) {
    if (noted_key == NULL) return;
    RedisModule_FreeString(NULL, noted_key);
    noted_key = NULL;
    if (given.rule != NULL) entry_drop(&given.packed);
    given.rule = NULL;
}

static bool sets_fields(Slice name) {
    return (name.len == 4 && slice_is(name, "hset")) || (name.len == 5 && slice_is(name, "hmset"));
}

/* The only rule of this key; NULL: there is none, or another one has its prefix at least, in whichever database. */
static Rule *only_rule(Slice key) {
    Rule *found = NULL;
    for (int i = 0; i < shard.nrules; i++) {
        Rule *rule = shard.rules[i];
        if (!template_has_prefix(&rule->template, key)) continue;
        if (found != NULL) return NULL;
        found = rule;
    }
    if (found == NULL || found->kind != KIND_HASH || found->nfields <= 0) return NULL;
    return template_matches(&found->template, key) ? found : NULL;
}

void given_see_command(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    given_forget();
    if (argc < 4 || argc % 2 != 0 || argc > MOST_ARGUMENTS || !sets_fields(name)) return;
    if (shard.nrules == 0 || shard.operations || !shard.primary || shard.loading) return;
    RedisModuleString *key = RedisModule_CommandFilterArgGet(filter, 1);
    noted_rule = only_rule(string_slice(key));
    if (noted_rule == NULL || argc < 2 + noted_rule->nfields * 2) return;
    for (int i = 2; i < argc; i++) arguments[i] = RedisModule_CommandFilterArgGet(filter, i);
    noted = argc;
    noted_key = RedisModule_HoldString(NULL, key);
}

/* The value that the command leaves in a field: the last one that it sets. NULL: it sets none. */
static RedisModuleString *value_of(RedisModuleString *field) {
    for (int i = noted - 2; i >= 2; i -= 2)
        if (strings_equal(arguments[i], field)) return arguments[i + 1];
    return NULL;
}

/* With as many fields as the rule has, each in its place, none is set twice. */
static bool in_place(const Rule *rule) {
    if (noted != 2 + rule->nfields * 2) return false;
    for (int i = 0; i < rule->nfields; i++)
        if (!strings_equal(arguments[2 + i * 2], rule->fields[i])) return false;
    return true;
}

bool given_take(int db, RedisModuleString *key) {
    Rule *rule = noted_rule;
    if (key != noted_key || rule->db != db || given.rule != NULL) return false;
    Image image;
    image_start(&image, key, 'u');
    image.rule = rule;
    image.values_lent = true;
    bool same = in_place(rule);
    for (int i = 0; i < rule->nfields; i++) {
        RedisModuleString *value = same ? arguments[3 + i * 2] : value_of(rule->fields[i]);
        if (value == NULL) break;
        image_add(&image, rule->fields[i], value);
    }
    if (image.count == (size_t)rule->nfields * 2) {
        entry_pack(&given.packed, &image);
        given.rule = rule;
    }
    image_end(&image);
    return given.rule != NULL;
}

const Given *given_for(const RedisModuleString *key) { return given.rule != NULL && key == noted_key ? &given : NULL; }
