/* Copies of streams and hashes of ours, by the API alone: for where the server takes no command on them. */
#ifndef GEARSYNC_COPIES_H
#define GEARSYNC_COPIES_H

#include "shard.h"

typedef struct Copy Copy;
Copy *copy_take(RedisModuleCtx *ctx, RedisModuleString *key);             /* NULL: nothing is there */
bool copy_put(RedisModuleCtx *ctx, RedisModuleString *key, Copy *copy);   /* where nothing is */
void copy_replicate(RedisModuleCtx *ctx, RedisModuleString *key, Copy *); /* in place of whatever is there */
void copy_free(Copy *copy);

#endif
