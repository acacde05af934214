/* Why an event came, and what operation its change is by that: what the state of the key does not tell. */
#include "events.h"

#include <string.h>

#include "changes/kinds.h"

/* -- Causes -------------------------------------------------------------------------------------------------------- */

int cause_of_kind(Kind kind) { return kind == KIND_HASH ? CAUSE_HASH : CAUSE_KIND << kind; }

/* Whether what happened can matter to a rule: SADD is nothing to one of hashes. */
bool cause_concerns(const Rule *rule, int cause) {
    return (cause & CAUSES_OF_ALL) || !(cause & CAUSES_OF_KINDS) || (cause & cause_of_kind(rule->kind));
}

/* What the cause means to a rule of that kind, whose key is there or not. */
int cause_for(Kind kind, int cause, bool is_there) {
    if ((cause & CAUSE_OVER) && (kind == KIND_HASH || !is_there)) cause |= CAUSE_GONE;
    if ((cause & CAUSE_FOREIGN) && !is_there) cause |= CAUSE_GONE;
    /* A document that is written anew lacks what it has not, and so do members. */
    return kind == KIND_HASH ? cause : cause | CAUSE_REMOVED;
}

/* What captures a key anew, whatever happened to it. */
char cause_forces(int cause) { return cause & (CAUSE_ASKED | CAUSE_FILL) ? 'r' : 0; }

/* Commands that replace any value by one of another type make no "del" for the old one. */
static bool overwrites(const char *event) {
    size_t len = strlen(event);
    return strcmp(event, "set") == 0 || (len > 5 && strcmp(event + len - 5, "store") == 0);
}

/* The cause behind an event of keys that are no hashes. */
static int cause_of_other(int type, const char *event) {
    Kind kind = kind_of_event(type);
    int cause = overwrites(event) ? CAUSE_OVER : 0;
    if (kind != KIND_HASH && (shard.kinds & 1u << kind)) cause |= cause_of_kind(kind);
    return cause != 0 ? cause : -1;
}

/* The cause behind an event; -1: the event changes no hash. */
int cause_of(int type, const char *event) {
    /* An event of a hash; Valkey, when time takes the fields, makes it one of expired keys. */
    if (strcmp(event, "hexpired") == 0) return CAUSE_HASH | CAUSE_REMOVED | CAUSE_FIELDS_EXPIRED;
    if (type & REDISMODULE_NOTIFY_HASH) return strcmp(event, "hdel") == 0 ? CAUSE_HASH | CAUSE_REMOVED : CAUSE_HASH;
    if (type & REDISMODULE_NOTIFY_EXPIRED) return CAUSE_EXPIRED;
    if (type & REDISMODULE_NOTIFY_EVICTED) return CAUSE_EVICTED;
    if (type & REDISMODULE_NOTIFY_MODULE) return CAUSE_OVER | CAUSE_KIND << KIND_JSON;
    if (!(type & REDISMODULE_NOTIFY_GENERIC)) return cause_of_other(type, event);
    if (strcmp(event, "del") == 0 || strcmp(event, "rename_from") == 0 || strcmp(event, "move_from") == 0)
        return CAUSE_GONE;
    if (strcmp(event, "expire") == 0 || strcmp(event, "persist") == 0) return -1;
    if (strcmp(event, "rename_to") == 0 || strcmp(event, "move_to") == 0 || strcmp(event, "copy_to") == 0 ||
        strcmp(event, "restore") == 0)
        return CAUSE_REPLACED | CAUSE_GONE;
    /* Valkey's documents have such events ("json.del" of a whole one, with no "del"), where RedisJSON has those of
     * modules. */
    return overwrites(event) ? CAUSE_OVER : CAUSE_FOREIGN;
}

/* -- Operations ---------------------------------------------------------------------------------------------------- */

/* The operation for a key that holds what its mapping is about: a hash, for most. */
static char op_for_hash(int cause) {
    if (cause & (CAUSE_REPLACED | CAUSE_GONE | CAUSE_EXPIRED | CAUSE_EVICTED)) return 'n';
    return cause & CAUSE_REMOVED ? 'r' : 'u';
}

/* The operation for a key that does not; 0: none, another event says it. */
static char op_for_gone(int cause, int db, Slice key) {
    if (cause & (CAUSE_EXPIRED | CAUSE_FIELDS_EXPIRED)) return 'x';
    if (cause & CAUSE_EVICTED) return 'v';
    if (cause & CAUSE_GONE) return 'd';
    /* HDEL of the last field: the "del" that follows says it. Else the key has just expired under our hands. */
    if (shard.has_jobs) return pending_tells_more(db, key) ? 0 : 'x';
    return cause & CAUSE_REMOVED ? 0 : 'x';
}

/* For a key that is known to be gone, or to be none for SQL; 0: it was none before either. */
static char op_for_cause(int cause) {
    if (cause & CAUSE_EXPIRED) return 'x';
    if (cause & CAUSE_EVICTED) return 'v';
    return cause & CAUSE_GONE ? 'd' : 0;
}

/* The operation byte for functions with operations; 0: nothing goes to SQL. */
char op_for_operation(const Operation *operation, int cause, bool is_hash) {
    if (operation->kind == '~') return 't';
    if (operation->kind == '?' && is_hash) return 'q';
    return is_hash && (operation->kind == '=' || operation->plain) ? op_for_hash(cause) : op_for_cause(cause);
}

/* The same for functions without: a client wrote the key, or deleted it. */
char op_beside_operation(const Operation *operation, int cause, bool is_hash) {
    if (operation_deletes(operation)) return 'd';
    return is_hash ? op_for_hash(cause) : op_for_cause(cause);
}

/* The operation where no field # says it. forced: captured anew; 0: nothing is. */
char op_for_state(int cause, char forced, bool is_there, int db, Slice key) {
    if (is_there) return forced ? forced : op_for_hash(cause);
    /* Of a backfill: why the rows of this rule have no such key, its own event said, and that decides about them. */
    if ((cause & CAUSE_FILL) && !(cause & CAUSE_ASKED)) return op_for_cause(cause);
    return forced ? 'd' : op_for_gone(cause, db, key);
}
