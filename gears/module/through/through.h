/* Write-through: clients that wait until SQL has committed their writes. */
#ifndef GEARSYNC_THROUGH_H
#define GEARSYNC_THROUGH_H

#include "shard.h"

#define THROUGH_COMMAND "gearsync.through"
bool through_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc); /* whether it took the command */
int through_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_take_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_settle_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_deny_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_redo_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_applied_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
void through_see_flush(void);
void through_see_leaving(uint64_t client); /* it is disconnected, and whatever it waits for is told right after */
bool through_is_pending(void);
void through_fail_all(const char *reason);
/* Those of a deployment, or (target >= 0) of one target, that no worker has taken; then those whose turn has come
 * start. */
void through_fail_logged(RedisModuleCtx *ctx, const Deployment *deployment, int target, const char *reason);
void through_start_ready(RedisModuleCtx *ctx); /* those whose turn has come, or whose row is there */
void through_tick(RedisModuleCtx *ctx);
int through_waiting(const Deployment *deployment); /* clients */
void through_free(void);

/* -- openings.c: clients' writes in slots that change their shard ------------------------------------------------- */
/* Why CLUSTER SETSLOT must wait for writes that are on their way to SQL; NULL: it need not. */
const char *opening_refusal(unsigned slot, Slice what, Slice node);

#endif
