/* Writes of clients that wait for SQL, in slots that change their shard. While a slot is open, each of its two shards
 * takes only a part of its writes: the old one those of keys that it has, the new one those of who comes ASKING. That
 * is known when a worker takes a write, and must stay so until SQL's commit is done here: else SQL would have it alone.
 * So a write whose shard is another one by then is not taken, and a slot does not go while one is (docs/design.md,
 * "Resharding"). */
#include "effects.h"
#include "through.h"
#include "writes.h"

#include <errno.h>
#include <stdlib.h>

#include "clients/inner.h"
#include "cluster/cluster.h"
#include "lanes/lanes.h"
#include "resharding/resharding.h"

#define AWAY "TRYAGAIN the slot of this key is on its way to another shard, or has gone there"

/* -- Whether a write can be taken ---------------------------------------------------------------------------------- */

bool opening_admits(RedisModuleCtx *ctx, const Write *write) {
    if (!shard.cluster) return true;
    int count;
    RedisModuleString **keys = write_keys(write, &count);
    RedisModule_SelectDb(ctx, write->db);
    errno = 0;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "EXISTS", "v", keys, (size_t)count);
    bool elsewhere = inner_has_moved(reply, errno);
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return !elsewhere;
}

Text opening_error(void) {
    Text text = {0};
    text_printf(&text, "-%s", AWAY);
    return text;
}

/* -- A write that the cluster does not take as it is --------------------------------------------------------------- */

/* Of several keys one may have ended meanwhile, which an open slot takes for one that is on the other shard. */
static Text delete_each(RedisModuleCtx *ctx, SlotState state, RedisModuleString **argv, int argc, bool *moved) {
    long long count = 0;
    *moved = false;
    for (int i = 1; i < argc; i++) {
        RedisModuleString *words[] = {argv[0], argv[i]};
        bool away = false;
        Text reply = write_run_as_is(ctx, words, 2, &away);
        if (!away && reply.bytes[0] == ':') count += strtoll(reply.bytes + 1, NULL, 10);
        *moved = *moved || (away && state != SLOT_LEAVING);
        text_free(&reply);
    }
    Text text = {0};
    text_printf(&text, ":%lld\r\n", count);
    return text;
}

Text opening_run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, bool *moved) {
    WriteKind kind = effect_kind(string_slice(argv[0]));
    SlotState state = cluster_slot_state(ctx, key_slot(string_slice(argv[1])));
    Text text = {0};
    if (kind == DELETE_KEYS && state != SLOT_STRANGE) text = delete_each(ctx, state, argv, argc, moved);
    /* A key that it would have ended has ended by itself. */
    if (kind >= EXPIRE_IN_SECONDS && kind <= EXPIRE_AT_MS && state == SLOT_LEAVING) {
        *moved = false;
        text_printf(&text, ":0\r\n");
    }
    if (!*moved) return text;
    text_free(&text);
    return opening_error();
}

/* -- Slots that wait for writes ------------------------------------------------------------------------------------ */

static bool is_of_slot(const Write *write, unsigned slot) {
    return write->argc > 1 && key_slot(string_slice(write->argv[1])) == slot;
}

/* It is to make a key, which the old shard of an open slot can't. */
static bool makes_key(const Write *write) {
    return !write->existed && effect_kind(string_slice(write->argv[0])) < DELETE_KEYS;
}

static bool any_behind(void) {
    for (int i = 0; i < shard.count; i++)
        for (int j = 0; j < shard.deployments[i]->lane_count; j++)
            if (lane_is_behind(shard.deployments[i], shard.deployments[i]->lanes[j])) return true;
    return false;
}

static bool is_other_node(Slice node) {
    const char *myself = RedisModule_GetMyClusterID();
    return myself == NULL || node.len != NODE_ID_BYTES || memcmp(myself, node.bytes, NODE_ID_BYTES) != 0;
}

/* Also when it has been given up: should it be committed yet, its row is taken back from here. */
const char *opening_refusal(unsigned slot, Slice what, Slice node) {
    static const char busy[] = "THROUGH: a write of a key in this slot is on its way to SQL; try again";
    static const char behind[] =
        "THROUGH: SQL may have writes of this shard that its worker has yet to bring back after a restart; try again";
    if (!shard.through) return NULL;
    bool leaves = slice_is(what, "migrating"), comes = slice_is(what, "importing") && !slots_is_open(slot);
    bool stays = slice_is(what, "stable"), goes = slice_is(what, "node") && is_other_node(node);
    if (!leaves && !comes && !stays && !goes) return NULL;
    for (const Write *write = writes_first; write != NULL; write = write->next) {
        if (!is_of_slot(write, slot)) continue;
        bool taken = write->stage == TAKEN;
        if (comes || (taken && leaves && makes_key(write))) return busy;
        SlotState state = taken && (stays || goes) ? cluster_slot_state(shard.detached, slot) : SLOT_STRANGE;
        if (state == SLOT_COMING || (goes && state != SLOT_STRANGE)) return busy;
    }
    bool ends_here = (leaves || goes) && any_behind() && cluster_slot_state(shard.detached, slot) != SLOT_STRANGE;
    return ends_here ? behind : NULL;
}
