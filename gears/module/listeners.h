/* What files tell others that stand above them, without knowing them: listeners.c says who listens. Who waits is told
 * in the unit in which a thing happens. */
#ifndef GEARSYNC_LISTENERS_H
#define GEARSYNC_LISTENERS_H

#include "shard.h"

typedef struct {
    void (*changed)(Slice key); /* a change of it was captured, or one that says something of every key */
    void (*went_on)(void);      /* changes have come to SQL, or are not waited for any more */
    void (*lane_moved)(Deployment *deployment, const Lane *old); /* a resharding took it away */
    /* The row of a key is another one, of which no event tells. */
    void (*row_changed)(RedisModuleCtx *ctx, int db, RedisModuleString *key);
    void (*rules_changed)(void);
    void (*kept_changed)(RedisModuleCtx *ctx); /* what the registry keeps of pauses */
} Listeners;
extern const Listeners listeners;

#endif
