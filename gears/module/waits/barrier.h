/* Barriers: clients that wait until changes are in SQL. */
#ifndef GEARSYNC_BARRIER_H
#define GEARSYNC_BARRIER_H

#include "shard.h"

int barrier_wait_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
void barrier_check(void);
/* A resharding took a lane away: who waited for it waits for the mark that follows it in the lanes that go on. */
void barrier_lane_moved(Deployment *deployment, const Lane *old);
void barrier_collect(void); /* frees clients that timed out or left */
void barrier_fail_all(const char *error);
int barrier_waiting(void);

#endif
