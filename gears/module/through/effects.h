/* Only for the files of through: what a write will do, told before it runs. */
#ifndef GEARSYNC_EFFECTS_H
#define GEARSYNC_EFFECTS_H

#include "changes/image.h"
#include "shard.h"

typedef enum {
    SET_FIELDS,
    SET_NEW_FIELD,
    ADD_INTEGER,
    ADD_FLOAT,
    REMOVE_FIELDS,
    DELETE_KEYS,
    EXPIRE_IN_SECONDS,
    EXPIRE_IN_MS,
    EXPIRE_AT_SECOND,
    EXPIRE_AT_MS,
    OTHER_WRITE
} WriteKind;
typedef struct {
    RedisModuleString *field, *value; /* value NULL: the field is removed */
} FieldChange;
typedef struct {
    char op; /* of the intent: U, R or D; 0: the command changes nothing for SQL */
    FieldChange *changes;
    int count, room;
    Text command; /* what brings Redis to the same state, whatever came in between; in the words of the protocol */
    Text reply;   /* of the client's own command; none for DEL, UNLINK and EXPIRE */
    bool existed; /* the key was there before */
} Effect;
WriteKind effect_kind(Slice name);
Effect effect_of(RedisModuleCtx *ctx, int db, RedisModuleString **argv, int argc);
/* Adds to an image what the rules map of a key, as it will be. */
void effect_image(RedisModuleCtx *ctx, const Effect *effect, int db, RedisModuleString *name, Rule **rules, int count,
                  Image *image);
/* Runs "<db> <command>"; false: it is none, or the server refuses it. With a ! before it, an HSET makes its key also in
 * a slot that is leaving: no other shard has it. */
bool effect_run(RedisModuleCtx *ctx, Slice text);
void effect_free(Effect *effect);

#endif
