/* After the command in hand, before what comes after it from elsewhere. */
#ifndef GEARSYNC_SOON_H
#define GEARSYNC_SOON_H

#include "shard.h"

typedef void (*SoonFunction)(RedisModuleCtx *ctx, int db, RedisModuleString *key);
bool soon_needed(void); /* whether a command must not add to lanes itself */
void soon_do(SoonFunction function, int db, RedisModuleString *key);
/* Whether the server takes our own keys for others just now: then what writes them has to be done soon. */
bool soon_is_due(RedisModuleCtx *ctx);
void soon_free(void);

#endif
