/* What is held back: changes of functions that are paused alone. */
#ifndef GEARSYNC_HOLD_H
#define GEARSYNC_HOLD_H

#include "shard.h"

Hold *hold_find(const Deployment *deployment, const char *function);
/* Both take names of functions, and return NULL, or the error. */
const char *hold_pause(RedisModuleCtx *ctx, Deployment *deployment, Slice who, Slice why, RedisModuleString **names,
                       int count);
const char *hold_resume(RedisModuleCtx *ctx, Deployment *deployment, RedisModuleString **names, int count);
bool hold_is_of(const Lane *held, const Lane *lane);
bool hold_any_paused(const Deployment *deployment);
/* Whether a held stream may have changes of a key. */
bool hold_concerns(const Deployment *deployment, const Lane *held, int db, Slice key);
void hold_inherit(Deployment *deployment, Deployment *old);
char *hold_check(const Deployment *deployment, const Deployment *old); /* NULL, or the error */
void hold_free(Deployment *deployment);
/* For the registry, and out of it: what is held, and the streams that hold it. */
RedisModuleString *hold_field(const Deployment *deployment, int index);
RedisModuleString *hold_text(const Deployment *deployment, int index);
void hold_load(Slice rest, Slice value);
void hold_load_stream(RedisModuleCtx *ctx, Deployment *deployment, Lane *held, Slice function, bool holds);
const char *hold_state(const Deployment *deployment, const Lane *held); /* held, or resumed */
void hold_status(Text *out, const Deployment *deployment, const char *function);

/* -- held.c ---------------------------------------------------------------------------------------------------- */

bool held_before(RedisModuleCtx *ctx, const Deployment *deployment, const Lane *lane, RedisModuleStreamID id,
                 const Slice *key, bool *all_paused); /* whether held streams of a lane have changes up to an id */
/* Why the row of a key will not be read for now: what is held back of it; NULL: it may be. */
const char *held_of_read(int db, Slice key);
int holds_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int hold_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int unhold_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

#endif
