/* The workers: processes beside the server. */
#ifndef GEARSYNC_WORKERS_H
#define GEARSYNC_WORKERS_H

#include "shard.h"

void worker_init(Worker *worker);
void worker_retry_now(Worker *worker); /* a new version may mend what made it fail */
/* may_start: asked before a process is started. */
void workers_tick(RedisModuleCtx *ctx, bool (*may_start)(RedisModuleCtx *ctx));
void workers_shutdown(void);
void workers_unload(void);           /* as well, and leaves no process behind */
long long workers_clock_ms(void);    /* of the times in Worker; never set back */
void worker_release(Worker *worker); /* of a deployment that goes: asks the process to end */
int worker_heartbeat_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
const char *worker_state_name(WorkerState state);

#endif
