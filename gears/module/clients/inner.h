/* Commands of ours with a client's own behind them. */
#ifndef GEARSYNC_INNER_H
#define GEARSYNC_INNER_H

#include "shard.h"

void inner_forget(void);            /* what is known of users */
void inner_see_command(Slice name); /* of every command that passes the filter while there are such rules */
/* Puts command, or its twin, before the command in the filter. */
void inner_insert(RedisModuleCommandFilterCtx *filter, const char *command);
/* Makes command and its twin; flags as for CreateCommand. */
int inner_register(RedisModuleCtx *ctx, const char *command, RedisModuleCmdFunc function, const char *flags);
/* The server asks for the keys: they are told, and there is nothing else to do. First of all in such a command. */
bool inner_tells_keys(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
/* Whether the client may run its own command, argv[1] and what follows; false: the error is replied. */
bool inner_allowed(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
/* Whether the cluster has the slot, or the keys, of a command that was called elsewhere; error: errno right after
 * it. */
bool inner_has_moved(RedisModuleCallReply *reply, int error);
/* Runs it, and passes its reply on. */
int inner_run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, bool writes);

#endif
