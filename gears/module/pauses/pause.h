/* What is paused: a deployment, or single targets of it. */
#ifndef GEARSYNC_PAUSE_H
#define GEARSYNC_PAUSE_H

#include "shard.h"

void pause_free(Deployment *deployment);
char *pause_check(const Deployment *deployment, const Deployment *old); /* NULL, or the error */
void pause_inherit(Deployment *deployment, Deployment *old);
RedisModuleString *pause_text(const Pause *pause); /* for the registry, */
void pause_load(Slice name, Slice value);          /* and out of it: the deployment's, */
void pause_load_target(Slice rest, Slice value);   /* and "<target>:<deployment>" */
const char *pause_reason(const Pause *pause);      /* its sentence, without that nothing was written */
/* What clients of a target are told; NULL: neither it nor the deployment is paused. */
const char *pause_of_write(const Deployment *deployment, int target);
const char *pause_of_read(const Deployment *deployment, int target);
bool pause_is_of_target(const Deployment *deployment, const char *target); /* it is paused alone */
bool pause_any_target(const Deployment *deployment);
int pause_target_index(const Deployment *deployment, Slice name); /* -1: it has no target of that name */
/* target: its index, or -1 of the whole deployment. */
void pause_begin(RedisModuleCtx *ctx, Deployment *deployment, int target, Slice who, Slice why);
void pause_end(RedisModuleCtx *ctx, Deployment *deployment, int target);
void pause_status(Text *out, const Pause *pause);                     /* as a JSON object */
Deployment *pause_find(RedisModuleCtx *ctx, RedisModuleString *name); /* NULL: the error is replied */

#endif
