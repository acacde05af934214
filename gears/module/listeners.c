/* Who listens to what (listeners.h). */
#include "listeners.h"

#include "capture/capture.h"
#include "reads/reads.h"
#include "registry/registry.h"
#include "waits/barrier.h"

static void on_went_on(void) {
    barrier_check();
    misses_look_again();
}

static void on_rules_changed(void) {
    given_forget();
    misses_rules_changed();
}

static void on_kept_changed(RedisModuleCtx *ctx) { registry_write(ctx, true); }

const Listeners listeners = {
    .changed = misses_changed,
    .went_on = on_went_on,
    .lane_moved = barrier_lane_moved,
    .row_changed = misses_overtake,
    .rules_changed = on_rules_changed,
    .kept_changed = on_kept_changed,
};
