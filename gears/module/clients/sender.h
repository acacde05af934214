/* Who sends the command that is about to run. */
#ifndef GEARSYNC_SENDER_H
#define GEARSYNC_SENDER_H

#include "shard.h"

/* False: there is no client, or the server does not tell. */
bool sender_of(RedisModuleCommandFilterCtx *filter, RedisModuleClientInfo *info);
bool sender_in_transaction(RedisModuleCommandFilterCtx *filter); /* false where the server can't tell */

#endif
