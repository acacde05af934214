/* The shard: what this server knows of itself and its deployments. */
#include "shard.h"

#include "texts/text.h"

Shard shard;

bool shard_may_write(void) { return shard.primary && !shard.loading && !RedisModule_AvoidReplicaTraffic(); }

int shard_reply_replica(RedisModuleCtx *ctx) {
    return RedisModule_ReplyWithError(ctx, "ERR this server is a replica; ask its primary");
}

Deployment *shard_find(Slice name) {
    for (int i = 0; i < shard.count; i++)
        if (slice_equals(name, shard.deployments[i]->name)) return shard.deployments[i];
    return NULL;
}

Lane *deployment_find_lane(Deployment *deployment, Slice stream) {
    for (int i = 0; i < deployment->lane_count; i++)
        if (slices_equal(stream, string_slice(deployment->lanes[i]->stream))) return deployment->lanes[i];
    return NULL;
}

Lane *shard_find_lane(Slice stream, Deployment **owner) {
    for (int i = 0; i < shard.count; i++) {
        Lane *lane = deployment_find_lane(shard.deployments[i], stream);
        if (lane == NULL) continue;
        if (owner != NULL) *owner = shard.deployments[i];
        return lane;
    }
    return NULL;
}

void deployment_add_lane(Deployment *deployment, Lane *lane) {
    deployment->lanes = RedisModule_Realloc(deployment->lanes, sizeof(Lane *) * (size_t)(deployment->lane_count + 1));
    deployment->lanes[deployment->lane_count++] = lane;
}
