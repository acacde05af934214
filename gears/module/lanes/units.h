/* Execution units: what one MULTI/EXEC, script or command did. */
#ifndef GEARSYNC_UNITS_H
#define GEARSYNC_UNITS_H

#include "shard.h"

uint64_t unit_now(void);
void unit_end(void);
void unit_see_command(void); /* it passes the filter */
bool unit_in_transaction(RedisModuleCtx *ctx);
/* Whether the next change in a lane belongs to the last one there. */
bool unit_goes_on(RedisModuleCtx *ctx, const Deployment *deployment, const Lane *lane);

#endif
