/* Execution units, for deployments whose transactions stay whole: what one MULTI/EXEC, script or command did. A change
 * that stands in its lane right behind another one of its unit has a + behind its epoch, and the worker never parts the
 * two. That needs no number for a unit, which a restart or a promotion could give again.
 *
 * Where there are post-notification jobs, the job in which all of a unit is captured ends it. Elsewhere the server says
 * whether a transaction or a script runs, and no two of them run without a command between that passes the filter.
 */
#include "units.h"

static uint64_t unit = 1; /* a lane has 0 where nothing can go on */

uint64_t unit_now(void) { return unit; }

void unit_end(void) { unit++; }

bool unit_in_transaction(RedisModuleCtx *ctx) {
    return (RedisModule_GetContextFlags(ctx) & (REDISMODULE_CTX_FLAGS_MULTI | REDISMODULE_CTX_FLAGS_LUA)) != 0;
}

void unit_see_command(void) {
    if (!shard.has_jobs && !unit_in_transaction(shard.detached)) unit_end();
}

bool unit_goes_on(RedisModuleCtx *ctx, const Deployment *deployment, const Lane *lane) {
    return deployment->whole && lane->unit == unit && (shard.has_jobs || unit_in_transaction(ctx));
}
