/* Capture: from an event to a change in its lane. */
#ifndef GEARSYNC_CAPTURE_H
#define GEARSYNC_CAPTURE_H

#include "changes/image.h"
#include "shard.h"

int capture_on_event(RedisModuleCtx *ctx, int db, int type, const char *event, RedisModuleString *key);
int capture_again(RedisModuleCtx *ctx, int db, RedisModuleString *key,
                  bool if_there); /* its present state; changes appended */
void capture_flush(RedisModuleCtx *ctx, int db);
/* The present state of a key, at once, not at the end of the unit; changes appended. */
int capture_now(RedisModuleCtx *ctx, int db, RedisModuleString *key);
void capture_count(Deployment *deployment, int target, Rule **rules, int count); /* one change for these rules */

/* -- given.c: images that need not be read --------------------------------------------------------------------- */
void given_see_command(RedisModuleCommandFilterCtx *filter, Slice name, int argc); /* as it is about to run */
void given_forget(void);

/* -- pending.c: events until the end of their unit ------------------------------------------------------------- */
bool capture_is_noted(int db, Slice key);               /* an event of the key is still to be captured in this unit */
bool capture_is_pending(void);                          /* the server is to call us at the end of the execution unit */
void capture_before_flush(RedisModuleCtx *ctx, int db); /* -1: all; what the unit in hand wrote before it */
/* What it did with keys that a client's write is about. */
void capture_before_intent(RedisModuleCtx *ctx, int db, RedisModuleString **keys, int count);
void capture_free(void);

#endif
