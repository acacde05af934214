/* What the parts of the registry have in common: registry.c, registry_stored.c and registry_moves.c. */
#pragma once

#include "gearsync.h"

RedisModuleString *registry_key(void); /* the caller frees it */
/* Where the wheels of a deployment are under a tag; the caller frees it. */
RedisModuleString *registry_wheels(const char *tag, const char *deployment);
/* False: the cluster refuses it. */
bool registry_delete_key(RedisModuleCtx *ctx, RedisModuleString *key);
void registry_put(Deployment *deployment);
void registry_index(void); /* the rules that capture looks through, after deployments changed */
void registry_inherit(Deployment *deployment, Deployment *old);
bool registry_give_lanes(RedisModuleCtx *ctx, Deployment *deployment, Deployment *old, uint64_t begins);
Lane *registry_lane_of(Deployment *deployment, Slice stream);
/* A lane of this name that is no longer written to, if its deployment is here. */
void registry_add_retired(RedisModuleCtx *ctx, Slice stream);
void registry_forget_strays(void);
