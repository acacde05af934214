/* Whether a change of a key waits: in any lane (lanes/waiting.c), held back, or noted and about to be captured. */
#include "keys.h"

#include "capture/capture.h"
#include "lanes/waiting.h"
#include "pauses/hold.h"
#include "registry/registry.h"

static bool covers(const Deployment *deployment, int db, Slice key) {
    for (int i = 0; i < deployment->nrules; i++)
        if (deployment->rules[i].db == db && template_matches(&deployment->rules[i].template, key)) return true;
    return false;
}

/* A retired lane may hold changes of what older versions covered; so may any, for as long as it has some of theirs. */
static bool may_hold(const Deployment *deployment, const Lane *lane, int db, Slice key, bool covered) {
    RedisModuleStreamID last;
    if (lane->function != NULL) return hold_concerns(deployment, lane, db, key);
    return covered || lane->retired || earlier_waits(deployment, lane, &last);
}

static bool in_any_lane(int db, Slice key, bool (*is_in)(Lane *lane, Slice key)) {
    for (int i = 0; i < shard.count; i++) {
        const Deployment *deployment = shard.deployments[i];
        bool covered = covers(deployment, db, key);
        for (int j = 0; j < deployment->lane_count; j++) {
            Lane *lane = deployment->lanes[j];
            if (may_hold(deployment, lane, db, key, covered) && is_in(lane, key)) return true;
        }
    }
    return false;
}

bool waiting_for(int db, Slice key) { return capture_is_noted(db, key) || in_any_lane(db, key, waiting_in); }

bool waiting_since_mark(int db, Slice key) { return in_any_lane(db, key, waiting_in_since_mark); }
