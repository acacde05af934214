/* Lanes: the streams in which changes wait, and what the module remembers of each. */
#ifndef GEARSYNC_LANES_H
#define GEARSYNC_LANES_H

#include "shard.h"

Lane *lane_create(Slice stream, const char *target, int index, int count, bool retired);
Lane *lane_for(const char *source, const char *deployment, const char *target, int index, int count);
Lane *lane_of_key(Deployment *deployment, int target, RedisModuleString *key);
void lane_free(Lane *lane);
void lane_refresh(RedisModuleCtx *ctx, Lane *lane); /* reads length and last id from the keyspace */
void lanes_weigh_again(RedisModuleCtx *ctx);        /* those that the server could not measure yet */
size_t lane_dead_letters(RedisModuleCtx *ctx, Lane *lane);
bool lane_first(RedisModuleCtx *ctx, Lane *lane, RedisModuleStreamID *id); /* of its first entry; false: it has none */
uint64_t lane_last_epoch(RedisModuleCtx *ctx, Lane *lane);
long long lane_oldest_ms(RedisModuleCtx *ctx, Lane *lane); /* the age of the change at its head; 0: none waits */
long long lane_acknowledge(RedisModuleCtx *ctx, Lane *lane, RedisModuleStreamID id); /* the number left */
/* Whether SQL may have writes of a lane that Redis has forgotten, since no worker has looked yet. */
bool lane_is_behind(const Deployment *deployment, const Lane *lane);

/* -- bytes.c: about what the changes of a lane take -------------------------------------------------------------- */
void bytes_add(Lane *lane, size_t count, uint64_t bytes); /* that many changes more */

#endif
