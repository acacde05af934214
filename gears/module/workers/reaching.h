/* Only for the files of workers: how a worker reaches this server. */
#ifndef GEARSYNC_REACHING_H
#define GEARSYNC_REACHING_H

#include "shard.h"

char *reaching_config(RedisModuleCtx *ctx, const char *name); /* to be freed; empty: no such setting, or no CONFIG */
Text reaching_url(RedisModuleCtx *ctx);                       /* may hold a password, or env:NAME, file:PATH */
bool reaching_is_known(RedisModuleCtx *ctx);

#endif
