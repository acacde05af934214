/* Whether a change of a key waits: in any lane (lanes/waiting.c), held back, or noted and about to be captured. */
#include "keys.h"

#include "capture/capture.h"
#include "lanes/waiting.h"
#include "pauses/hold.h"

static bool covers(const Deployment *deployment, int db, Slice key) {
    for (int i = 0; i < deployment->nrules; i++)
        if (deployment->rules[i].db == db && template_matches(&deployment->rules[i].template, key)) return true;
    return false;
}

/* A retired lane may hold changes of what older versions covered. */
static bool in_any_lane(int db, Slice key, bool (*is_in)(Lane *lane, Slice key)) {
    for (int i = 0; i < shard.count; i++) {
        const Deployment *deployment = shard.deployments[i];
        bool covered = covers(deployment, db, key);
        for (int j = 0; j < deployment->lane_count; j++) {
            Lane *lane = deployment->lanes[j];
            bool may = lane->function != NULL ? hold_concerns(deployment, lane, db, key) : covered || lane->retired;
            if (may && is_in(lane, key)) return true;
        }
    }
    return false;
}

bool waiting_for(int db, Slice key) { return capture_is_noted(db, key) || in_any_lane(db, key, waiting_in); }

bool waiting_since_mark(int db, Slice key) { return in_any_lane(db, key, waiting_in_since_mark); }
