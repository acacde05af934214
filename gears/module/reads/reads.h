/* Rows for keys that are read and not there. */
#ifndef GEARSYNC_READS_H
#define GEARSYNC_READS_H

#include "shard.h"

void reads_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc);
/* What waits for the row of a key, without a client: called with NULL, or why the row can't be had. */
typedef void (*RowReady)(void *waiter, const char *failure);
struct Reader;
/* NULL: the key is there, or has no row, or nobody reads it through; else it is loaded, and on_ready is called. */
struct Reader *reads_want(RedisModuleCtx *ctx, int db, RedisModuleString *key, RowReady on_ready, void *waiter);
/* Why the row that such a key wants will not be read for now; NULL: it may be, or none is wanted. */
const char *reads_paused(RedisModuleCtx *ctx, int db, RedisModuleString *key);
void reads_want_no_more(struct Reader *reader);
void reads_collect(void); /* frees clients that timed out or left */
void reads_fail_all(const char *failure);
/* Called when a worker's command is through with its rows: whose on_ready was called by it may go on. */
typedef void (*RowsDone)(RedisModuleCtx *ctx);
int reads_register(RedisModuleCtx *ctx, RowsDone done);

/* -- misses.c ------------------------------------------------------------------------------------------------- */
/* Something has happened to the key, or to its row: it counts more than a row that was read before. */
void misses_overtake(RedisModuleCtx *ctx, int db, RedisModuleString *key);
void misses_changed(Slice key); /* a change of it was captured, or one that says something of every key */
void misses_look_again(void);   /* changes have come to SQL */
void misses_rules_changed(void);
/* All of them, or (target >= 0) those of one target. */
void misses_fail(const Deployment *deployment, int target, const char *failure);
size_t misses_waiting(const Deployment *deployment); /* clients */

/* -- loads.c -------------------------------------------------------------------------------------------------- */
void loads_collect(void);    /* as reads_collect, of workers */
void loads_step_aside(void); /* no worker waits here for a moment */
int misses_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int loaded_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int unread_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

#endif
