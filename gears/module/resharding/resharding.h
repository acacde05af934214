/* Slots that come and go: what of it must stand in the lanes, and where our own keys go on. */
#ifndef GEARSYNC_RESHARDING_H
#define GEARSYNC_RESHARDING_H

#include "shard.h"

/* -- tag.c ---------------------------------------------------------------------------------------------------- */
void tag_check(RedisModuleCtx *ctx); /* at a tick: whether the slot of our own keys is still ours */
/* Before anything is captured: a shard that had no slot may have got its first one. Whether there is a tag. */
bool tag_settle(RedisModuleCtx *ctx);
/* Why CLUSTER SETSLOT must not be done now, as a command that the server does not know; NULL: it may be. */
typedef const char *(*SlotRefusal)(unsigned slot, Slice what, Slice node);
/* CLUSTER … is about to run. */
void resharding_see_cluster(RedisModuleCommandFilterCtx *filter, int argc, SlotRefusal refusal_of);
void resharding_see_migrate(RedisModuleCommandFilterCtx *filter, int argc);
bool resharding_is_pending(void);
void resharding_see_promotion(void);

/* -- slots.c -------------------------------------------------------------------------------------------------- */
bool slots_is_open(unsigned slot);
/* A key of this name is about to be captured: what must stand before it in the lanes is put there. */
void slots_before_capture(RedisModuleCtx *ctx, Slice key);
/* The lane has that a key is gone. */
void slots_after_end(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key);
/* This process begins to capture: what it does not remember of open slots, the cluster does. */
void slots_take_over(RedisModuleCtx *ctx);
void slots_forget(void); /* the module goes */

#endif
