/* What a crash has torn. */
#ifndef GEARSYNC_CRASHES_H
#define GEARSYNC_CRASHES_H

#include "shard.h"

/* -- aof.c ---------------------------------------------------------------------------------------------------- */

/* After a load: see whether the AOF ends within a transaction. */
void aof_check(RedisModuleCtx *ctx);
/* Have such a file written anew, once the server can. */
void aof_tick(RedisModuleCtx *ctx);

/* -- heal.c --------------------------------------------------------------------------------------------------- */
void heal_tails(RedisModuleCtx *ctx); /* of all lanes */

#endif
