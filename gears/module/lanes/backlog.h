/* The bound of the backlog. */
#ifndef GEARSYNC_BACKLOG_H
#define GEARSYNC_BACKLOG_H

#include "shard.h"

void backlog_update(Deployment *deployment);
void backlog_recount(void);                                                     /* after deployments came or went */
bool backlog_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc); /* whether it refused the command */
int backlog_refuse_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

#endif
