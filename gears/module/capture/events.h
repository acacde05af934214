/* Only for the files of capture: what they share. */
#ifndef GEARSYNC_EVENTS_H
#define GEARSYNC_EVENTS_H

#include "changes/entry.h"
#include "changes/image.h"
#include "shard.h"

/* Why an event came: what the state of the key does not tell. */
enum {
    CAUSE_REMOVED = 1 << 0,  /* fields were removed */
    CAUSE_REPLACED = 1 << 1, /* the whole value is another one */
    CAUSE_GONE = 1 << 2,
    CAUSE_EXPIRED = 1 << 3,
    CAUSE_EVICTED = 1 << 4,
    CAUSE_FIELDS_EXPIRED = 1 << 5, /* some of them; with the last one the key goes too */
    CAUSE_HASH = 1 << 6,           /* the event is one of a hash: no cause, but a key that should be covered */
    CAUSE_LEFT = 1 << 7,           /* a resharding took the key away: a mark, no change of the row */
    CAUSE_CAME = 1 << 8,           /* a resharding brought it */
    CAUSE_ASKED = 1 << 9,          /* GEARSYNC.RECAPTURE */
    CAUSE_DONE = 1 << 10,          /* noted, and captured before the end of the unit */
    CAUSE_APPLIED = 1 << 12,       /* a write that SQL has already: nothing for write-through */
    CAUSE_ADOPTED = 1 << 11,       /* one of our own keys, which a resharding brought */
    CAUSE_OVER = 1 << 13,          /* a command that replaces a value of any type by one of its own */
    CAUSE_KIND = 1 << 14,          /* … << Kind, as CAUSE_HASH, for kinds that are no hashes; the highest bits */
    CAUSES_OF_KINDS = CAUSE_HASH | CAUSE_KIND << KIND_JSON | CAUSE_KIND << KIND_SET | CAUSE_KIND << KIND_LIST |
        CAUSE_KIND << KIND_ZSET,
    CAUSE_FILL = 1 << 19,    /* GEARSYNC.BACKFILL: what is there is captured, and nothing of what is not */
    CAUSE_APART = 1 << 20,   /* it belongs to no transaction with others of its unit */
    CAUSE_FOREIGN = 1 << 21, /* an event that the server has not: of a module's command, which may write any type */
    CAUSES_OF_ALL = CAUSE_REPLACED | CAUSE_GONE | CAUSE_EXPIRED | CAUSE_EVICTED | CAUSE_ASKED | CAUSE_OVER |
        CAUSE_FILL | CAUSE_FOREIGN,
};

typedef struct {
    RedisModuleString *key;
    int db;
    int cause;
    int writes; /* of fields; counted only while there are operations */
} Event;

/* -- operations.c -------------------------------------------------------------------------------------------------- */
typedef struct {
    char kind;               /* = + - ~, or ? for what begins with none of these; 0: there is no field '#' */
    bool plain;              /* the key was also written without '#', or is another one: that has to get to SQL */
    RedisModuleString *text; /* all that the field held */
} Operation;
bool operations_cover(int db, Slice key);
bool operation_writes(int type, const char *event); /* whether an event is of a field's new value */
/* Takes the field out of the hash. */
Operation operation_take(RedisModuleCtx *ctx, int db, RedisModuleString *name);
void operation_free(Operation *operation);
Slice operation_ticket(const Operation *operation);
bool operation_deletes(const Operation *operation);
void operation_delete(RedisModuleCtx *ctx, int db, RedisModuleString *name);
void operation_acknowledge(RedisModuleCtx *ctx, int db, RedisModuleString *name, Slice ticket);

/* -- given.c: images that need not be read ------------------------------------------------------------------------- */
typedef struct {
    Rule *rule;
    Packed packed;
} Given;
/* An "hset" of the key is all that has happened to it. Whether the change is known by that: */
bool given_take(int db, RedisModuleString *key);
const Given *given_for(const RedisModuleString *key); /* the very string of the event; NULL: the hash is to be read */

/* -- capture.c ----------------------------------------------------------------------------------------------------- */
void capture_event(RedisModuleCtx *ctx, Event event); /* appends what it means */

/* -- causes.c ------------------------------------------------------------------------------------------------------ */
int cause_of(int type, const char *event); /* -1: the event changes nothing that can be mapped */
int cause_of_kind(Kind kind);
bool cause_concerns(const Rule *rule, int cause);   /* whether it can matter to a rule: SADD is nothing to hashes */
int cause_for(Kind kind, int cause, bool is_there); /* what it means to a rule of a kind, whose key is there or not */
char cause_forces(int cause); /* the operation of what is captured anew, whatever happened; or 0 */
/* Operations; 0: nothing goes to SQL. forced: captured anew. */
char op_for_state(int cause, char forced, bool is_there, int db, Slice key);   /* where no field # says it */
char op_for_operation(const Operation *operation, int cause, bool is_hash);    /* of functions with operations */
char op_beside_operation(const Operation *operation, int cause, bool is_hash); /* of the others then */

/* -- pending.c ----------------------------------------------------------------------------------------------------- */
void pending_note(RedisModuleCtx *ctx, int db, RedisModuleString *key, int cause, bool writes);
bool pending_tells_more(int db, Slice key);    /* of the key: what was noted after the event in hand */
void pending_take(Event *event);               /* what else the unit did with its key is a part of it */
bool pending_expects_end(RedisModuleCtx *ctx); /* whether the server is to call us at the end of the unit */

#endif
