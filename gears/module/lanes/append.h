/* Changes and marks get into their lanes. */
#ifndef GEARSYNC_APPEND_H
#define GEARSYNC_APPEND_H

#include "changes/entry.h"
#include "changes/image.h"
#include "shard.h"

/* False: it is too large for a stream entry; errno says how. */
bool append_try(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Image *image);
/* The same; but what is too large is a dead letter then. */
bool append_image(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Image *image);
bool append_packed(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key,
                   const Packed *packed);
void append_members(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key); /* they changed */
/* A mark: from here on (i), or up to here (m), node has the key; what names a key may be any string. No node: none. */
#define NO_NODE "0000000000000000000000000000000000000000" /* of a mark that only carries its epoch */
void append_mark(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, char op,
                 const char *node);
/* Marks between a lane that is left and each one that takes its keys. In a cluster; the epoch was raised for it. */
void append_lane_marks(RedisModuleCtx *ctx, Deployment *deployment, Lane *old);
/* Right behind the change that says that a key is gone: where it may be made anew. A part of the same transaction. */
void append_went(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, const char *node);

#endif
