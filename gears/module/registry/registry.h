/* The registry: deployments, source, epoch. */
#ifndef GEARSYNC_REGISTRY_H
#define GEARSYNC_REGISTRY_H

#include "shard.h"

char *registry_deploy(RedisModuleCtx *ctx, Slice *arguments, int count,
                      bool check_only); /* NULL, or the error, to be freed */
void registry_undeploy(RedisModuleCtx *ctx, Deployment *deployment, bool discard);
void registry_finish_drained(RedisModuleCtx *ctx);
void registry_refresh(RedisModuleCtx *ctx);               /* what a replica shows, right before it is shown */
void registry_write(RedisModuleCtx *ctx, bool replicate); /* from memory into the keyspace */
void registry_write_if_dirty(RedisModuleCtx *ctx);
void registry_raise_epoch(uint64_t epoch);
void registry_draw_source(void); /* another one: this is not the shard any more that it was */
void registry_free(void);
bool registry_is_key(Slice key);
/* Where the wheels of a deployment are under a tag; the caller frees it. */
RedisModuleString *registry_wheels(const char *tag, const char *deployment);
/* Calls visit for each key of a deployment that holds something a user would miss. */
void registry_each_key(RedisModuleCtx *ctx, const Deployment *deployment,
                       void (*visit)(RedisModuleCtx *, RedisModuleString *));
void registry_leave_tag(RedisModuleCtx *ctx, const char *tag);    /* its keys, once there is another tag */
void registry_adopt(RedisModuleCtx *ctx, RedisModuleString *key); /* a key of another shard that a resharding brought */
void registry_drop_strays(RedisModuleCtx *ctx);
void registry_note_applied(RedisModuleCtx *ctx, Lane *lane, uint64_t epoch, RedisModuleStreamID id);
void registry_note_flush(void); /* raises the epoch, and remembers that it was for a flush */
/* How this process came to capture: by a load of the data, a promotion, or MODULE LOAD into a running primary. */
typedef enum { AFTER_LOAD, AFTER_PROMOTION, AFTER_MODULE_LOAD } TakeOver;
void registry_take_over(RedisModuleCtx *ctx, TakeOver after);

/* -- earlier.c ------------------------------------------------------------------------------------------------- */
int versions_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
/* Whether a lane still has changes of versions that were replaced, which may be of keys that nobody covers any more,
 * and which is the last of them. */
bool earlier_waits(const Deployment *deployment, const Lane *lane, RedisModuleStreamID *last);

#endif
