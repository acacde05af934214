/* Ids of stream entries. */
#ifndef GEARSYNC_IDS_H
#define GEARSYNC_IDS_H

#include "shard.h"

int stream_id_compare(RedisModuleStreamID a, RedisModuleStreamID b);
bool stream_id_parse(Slice text, RedisModuleStreamID *id);
RedisModuleString *stream_id_string(RedisModuleStreamID id); /* the caller frees it */
void stream_id_reply(RedisModuleCtx *ctx, RedisModuleStreamID id);

#endif
