/* Only for the files beside main.c: where the server comes in, for which they call the folders. */
#ifndef GEARSYNC_MAIN_H
#define GEARSYNC_MAIN_H

#include "shard.h"

/* -- filter.c ------------------------------------------------------------------------------------------------- */
void filter_command(RedisModuleCommandFilterCtx *filter);

/* -- flush.c -------------------------------------------------------------------------------------------------- */
void flush_on_event(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data);
void flush_expect_reload(bool expected);
void flush_reload_done(void);
bool flush_is_pending(void);

/* -- commands.c ----------------------------------------------------------------------------------------------- */
int commands_register(RedisModuleCtx *ctx);

/* -- pausing.c ------------------------------------------------------------------------------------------------ */
int pause_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int resume_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- status.c ------------------------------------------------------------------------------------------------- */
int status_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
void status_info(RedisModuleInfoCtx *ctx, int for_crash_report);

#endif
