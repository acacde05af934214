/* Slots of a cluster: which are ours, and keys that change their shard. */
#ifndef GEARSYNC_CLUSTER_H
#define GEARSYNC_CLUSTER_H

#include "shard.h"

/* Whether the cluster serves writes here, as far as this node knows; true on a server that is no cluster. */
bool cluster_is_ok(RedisModuleCtx *ctx);
/* Sets shard.tag to one whose slot is ours; to none while there is no such slot. False: the cluster does not tell. */
bool cluster_choose_tag(RedisModuleCtx *ctx);
void cluster_check_tag(RedisModuleCtx *ctx);
/* Before anything is captured: a shard that had no slot may have got its first one. Whether there is a tag. */
bool cluster_settle(RedisModuleCtx *ctx);
/* Why CLUSTER SETSLOT must not be done now, as a command that the server does not know; NULL: it may be. */
typedef const char *(*SlotRefusal)(unsigned slot, Slice what, Slice node);
/* CLUSTER … is about to run. */
void cluster_see_command(RedisModuleCommandFilterCtx *filter, int argc, SlotRefusal refusal_of);
void cluster_see_migrate(RedisModuleCommandFilterCtx *filter, int argc);
bool cluster_is_pending(void);
/* What this node has to do with a slot, the least first: nothing; it is on its way away, or here; it is ours. */
typedef enum { SLOT_STRANGE, SLOT_LEAVING, SLOT_COMING, SLOT_OWN } SlotState;
SlotState cluster_slot_state(RedisModuleCtx *ctx, unsigned slot);
/* The slot of our own keys is on its way away, or here, and there is no better one. */
bool cluster_home_leaves(void);
bool cluster_home_comes(void);

/* -- moves.c -------------------------------------------------------------------------------------------------- */
#define NODE_ID_BYTES 40
#define NO_NODE "0000000000000000000000000000000000000000" /* of a mark that only carries its epoch */
void move_forget(void);                                    /* another MIGRATE is about to run */
/* The id of the node that takes the slot of key from us in this MIGRATE; NULL: it is no resharding. */
const char *move_target(RedisModuleCtx *ctx, Slice key);

/* -- slots.c -------------------------------------------------------------------------------------------------- */
bool slots_is_open(unsigned slot);
/* A key of this name is about to be captured: what must stand before it in the lanes is put there. */
void slots_before_capture(RedisModuleCtx *ctx, Slice key);
/* The lane has that a key is gone. */
void slots_after_end(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key);
void slots_forget(void);

#endif
