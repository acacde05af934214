/* Only for the files of resharding: tag.c and slots.c. */
#ifndef GEARSYNC_RESHARDING_PARTS_H
#define GEARSYNC_RESHARDING_PARTS_H

#include "shard.h"

/* -- tag.c ---------------------------------------------------------------------------------------------------- */
bool tag_is_of(Slice key); /* it is a key of our own */
int tag_most_keys(void);   /* at most so many there are */

/* -- slots.c -------------------------------------------------------------------------------------------------- */
/* CLUSTER SETSLOT, or GETKEYSINSLOT, is about to run; whether there will be marks to put then. */
bool slots_see_command(unsigned slot, Slice what, Slice node);
bool slots_see_question(unsigned slot);
bool slots_are_due(void);
void slots_put_marks(RedisModuleCtx *ctx);

#endif
