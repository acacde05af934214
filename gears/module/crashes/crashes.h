/* What a crash has torn. */
#ifndef GEARSYNC_CRASHES_H
#define GEARSYNC_CRASHES_H

#include "shard.h"

/* -- aof.c ---------------------------------------------------------------------------------------------------- */

/* After a load of the AOF: if it ends within a transaction, that is cut off. */
void aof_check(RedisModuleCtx *ctx);
/* Have a file written anew that could not be cut, once the server can. */
void aof_tick(RedisModuleCtx *ctx);

/* -- heal.c --------------------------------------------------------------------------------------------------- */
void heal_tails(RedisModuleCtx *ctx); /* of all lanes */

#endif
