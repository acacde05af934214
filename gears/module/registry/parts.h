/* Only for the files of the registry: what its parts have in common. */
#ifndef GEARSYNC_REGISTRY_PARTS_H
#define GEARSYNC_REGISTRY_PARTS_H

#include "shard.h"

/* -- registry.c, registry_stored.c and registry_moves.c ------------------------------------------------------------ */
RedisModuleString *registry_key(void); /* the caller frees it */
/* False: the cluster refuses it. */
bool registry_delete_key(RedisModuleCtx *ctx, RedisModuleString *key);
void registry_put(Deployment *deployment);
void registry_index(void); /* the rules that capture looks through, after deployments changed */
void registry_inherit(Deployment *deployment, Deployment *old);
bool registry_give_lanes(RedisModuleCtx *ctx, Deployment *deployment, Deployment *old, uint64_t begins);
/* A lane of this name that is no longer written to, if its deployment is here. */
void registry_add_retired(RedisModuleCtx *ctx, Slice stream);
void registry_forget_strays(void);
void registry_begin_life(void); /* as a primary, in the present epoch */

/* -- deployment.c: one deployment, from the arguments of GEARSYNC.DEPLOY --------------------------------------- */
char *deployment_parse(Slice *arguments, int count, Deployment **out); /* NULL, or the error, to be freed */
char *deployment_parse_resp(Slice resp, Deployment **out);
void deployment_free(Deployment *deployment);

/* -- earlier.c ------------------------------------------------------------------------------------------------- */
void earlier_free(Deployment *deployment);
void earlier_forget_lane(Deployment *deployment, const Lane *lane);
void earlier_keep(RedisModuleCtx *ctx, Deployment *deployment,
                  Deployment *old);                                       /* old is replaced, and has its lanes yet */
RedisModuleString *earlier_text(const Deployment *deployment, int index); /* for the registry, */
bool earlier_load(int index, Slice rest, Slice value); /* and out of it; false: it is another one's */

#endif
