/* Only for the files of cluster: cluster.c, moves.c and slots.c. */
#ifndef GEARSYNC_CLUSTER_PARTS_H
#define GEARSYNC_CLUSTER_PARTS_H

#include "shard.h"

/* -- cluster.c ------------------------------------------------------------------------------------------------ */
char *cluster_nodes(RedisModuleCtx *ctx); /* what CLUSTER NODES says, to be freed */
bool cluster_is_own_key(Slice key);
int cluster_own_keys(void); /* at most so many there are */

/* -- slots.c -------------------------------------------------------------------------------------------------- */
/* CLUSTER SETSLOT, or GETKEYSINSLOT, is about to run; whether there will be marks to put then. */
bool slots_see_command(unsigned slot, Slice what, Slice node);
bool slots_see_question(unsigned slot);
bool slots_are_due(void);
void slots_put_marks(RedisModuleCtx *ctx);

#endif
