/* What the cluster says of this node: which slots are its own, and where keys go that leave it. */
#ifndef GEARSYNC_CLUSTER_H
#define GEARSYNC_CLUSTER_H

#include "shard.h"

/* Whether the cluster serves writes here, as far as this node knows; true on a server that is no cluster. */
bool cluster_is_ok(RedisModuleCtx *ctx);
char *cluster_nodes(RedisModuleCtx *ctx); /* what CLUSTER NODES says, to be freed */
#define CLUSTER_SLOTS 16384
/* What this node has to do with a slot, the least first: nothing; it is on its way away, or here; it is ours. */
typedef enum { SLOT_STRANGE, SLOT_LEAVING, SLOT_COMING, SLOT_OWN } SlotState;
bool cluster_has_slot(RedisModuleCtx *ctx); /* true also where the cluster does not tell */
/* Calls visit for each slot that is on its way from here, or (to this node) here; false: the cluster does not tell. */
bool cluster_each_open_slot(RedisModuleCtx *ctx, void (*visit)(unsigned slot, bool leaves, Slice node));
/* Whether CLUSTER SETSLOT is done some time after it has come: when the replicas have it. */
bool cluster_defers_moves(RedisModuleCtx *ctx);
SlotState cluster_slot_state(RedisModuleCtx *ctx, unsigned slot);
unsigned cluster_slot_of(const char *tag);
/* Sets shard.tag to one whose slot is ours, and leaves it as it is where there is no such slot, or the cluster does not
 * tell. */
typedef enum { TAG_UNKNOWN, TAG_NONE, TAG_FOUND } TagChoice;
TagChoice cluster_choose_tag(RedisModuleCtx *ctx);
/* When it was looked at last, the slot of our own keys was on its way away, ours, or (open) on its way at all, and
 * there was no better one. */
bool cluster_home_leaves(void);
bool cluster_home_is_own(void);
bool cluster_home_is_open(void);

/* -- moves.c -------------------------------------------------------------------------------------------------- */
void move_forget(void); /* another MIGRATE is about to run */
/* The id of the node that takes the slot of key from us in this MIGRATE; NULL: it is no resharding. */
const char *move_target(RedisModuleCtx *ctx, Slice key);

#endif
