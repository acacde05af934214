/* Keys and rows that are brought along or compared. */
#ifndef GEARSYNC_ROWS_H
#define GEARSYNC_ROWS_H

#include "shard.h"

/* -- put.c: rows become hashes -------------------------------------------------------------------------------- */
/* Sets (nfields pairs) or deletes (none) a hash, which is no change for SQL. Keys of which a change waits
 * are left alone, and those that are no hash; without replace also those that exist. Refused: there is no memory.
 * ttl_ms 0: no expiry. */
typedef enum { PUT_LEFT, PUT_DONE, PUT_REFUSED } PutResult;
PutResult put_row(RedisModuleCtx *ctx, int db, RedisModuleString *key, RedisModuleString **fields, long long nfields,
                  long long ttl_ms, bool replace);
bool put_is_ours(RedisModuleCtx *ctx, RedisModuleString *key); /* the cluster lets us write it; true without one */
int put_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int waiting_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- images.c: hashes as they are ------------------------------------------------------------------------------- */
int images_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- marks.c: what has changed since rows were read ------------------------------------------------------------- */
void marks_forget(void); /* the module goes */
int mark_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- backfill.c ----------------------------------------------------------------------------------------------- */
int backfill_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

#endif
