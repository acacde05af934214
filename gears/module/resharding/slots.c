/* Slots that change their shard, and the keys that are gone by then. A key that a resharding moves has marks of its own
 * (moves.c). One that was deleted has none; but it may be made again over there, while its last changes still wait
 * here. So an open slot makes two pairs of marks in each lane, as if it were a key: the old owner puts an "m" when the
 * slot is opened and one when it has no more keys; the new owner puts an "i" before the first key that comes or is made
 * there, and one when the slot is its own. An "m" is always put before the "i" that waits for it, so that no two shards
 * wait for each other. A key that ends while its slot is open has a "w" behind its end (docs/design.md,
 * "Resharding"). */
#include "parts.h"
#include "resharding.h"

#include <stdio.h>
#include <string.h>

#include "cluster/cluster.h"
#include "lanes/append.h"

typedef enum { MARK_NONE, MARK_DUE, MARK_DONE } MarkState;

typedef struct OpenSlot {
    unsigned slot;
    bool leaves;                  /* else it comes */
    char node[NODE_ID_BYTES + 1]; /* that gets it */
    MarkState first, last;
    bool look; /* whether it has keys left */
    bool ended;
    bool told; /* by a command, of which nobody has seen yet whether the server took it */
    bool seen; /* the cluster still says that it is open */
    struct OpenSlot *next;
} OpenSlot;

static OpenSlot *open_slots;
static bool unsure; /* some of them are told */

/* One that has ended is only there until its marks are put. */
static OpenSlot *find(unsigned slot) {
    OpenSlot *at = open_slots;
    while (at != NULL && (at->slot != slot || at->ended)) at = at->next;
    return at;
}

/* Wherever it belongs from now on: both sides put what they have not put yet, so that each mark has its other one. */
static void end(OpenSlot *open) {
    open->ended = true;
    if (open->last == MARK_NONE) open->last = MARK_DUE;
}

static bool is_as(const OpenSlot *open, bool leaves, Slice node) {
    return open != NULL && open->leaves == leaves && memcmp(open->node, node.bytes, NODE_ID_BYTES) == 0;
}

/* The cluster tells one thing of a slot: not that it comes where it still says that it leaves, though it has left. */
static void note_seen(unsigned slot, bool leaves, Slice node) {
    for (OpenSlot *at = open_slots; at != NULL; at = at->next) {
        if (at->slot != slot) continue;
        if (is_as(at, leaves, node)) at->seen = true;
        if (leaves && !at->leaves) at->told = false;
    }
}

/* Of a command that the server refused: what it would have begun has not begun. */
static bool is_refused(OpenSlot *open) {
    if (!open->told || open->ended || open->seen) return false;
    if (open->first == MARK_DONE) end(open);
    return !open->ended;
}

/* And what it would have ended goes on. */
static void go_on(OpenSlot *open) {
    if (!open->told || !open->ended || !open->seen || find(open->slot) != NULL) return;
    open->ended = false;
    if (open->last == MARK_DUE) open->last = MARK_NONE;
}

/* Asks the cluster what has become of the commands that were seen before they ran. */
static void make_sure(RedisModuleCtx *ctx) {
    if (!unsure) return;
    unsure = false;
    for (OpenSlot *at = open_slots; at != NULL; at = at->next) at->seen = false;
    bool tells = cluster_each_open_slot(ctx, note_seen) && !cluster_defers_moves(ctx);
    for (OpenSlot *at = open_slots; at != NULL; at = at->next) at->told = at->told && tells;
    for (OpenSlot **at = &open_slots; *at != NULL;) {
        OpenSlot *open = *at;
        if (is_refused(open)) {
            *at = open->next;
            RedisModule_Free(open);
        } else {
            at = &open->next;
        }
    }
    for (OpenSlot *at = open_slots; at != NULL; at = at->next) {
        go_on(at);
        at->told = false;
    }
}

static void put_one(RedisModuleCtx *ctx, const OpenSlot *open, const char *when) {
    for (int i = 0; i < shard.count; i++) {
        Deployment *deployment = shard.deployments[i];
        int count = deployment->draining ? 0 : deployment->ntargets * deployment->nlanes;
        for (int j = 0; j < count; j++) {
            Lane *lane = deployment->lanes[j];
            RedisModuleString *key = RedisModule_CreateStringPrintf(NULL, "gearsync:slot:%u:%s:%d.%d", open->slot, when,
                                                                    lane->index, lane->count);
            append_mark(ctx, deployment, lane, key, open->leaves ? 'm' : 'i', open->node);
            RedisModule_FreeString(NULL, key);
        }
    }
}

/* Nothing has come, and this node has no slot of its own: lanes that it made now would be in one that it never gets.
 * What is to pair the other shard's marks waits for its first slot. */
static bool is_early(RedisModuleCtx *ctx, const OpenSlot *open) {
    if (shard.count == 0 || !open->ended || open->leaves || open->first != MARK_NONE) return false;
    /* If it is the first slot itself, the registry is to be there before anybody knows. */
    if (cluster_home_is_own()) return false;
    return !tag_settle(ctx) || cluster_slot_state(ctx, cluster_slot_of(shard.tag)) != SLOT_OWN;
}

/* Puts those marks that are due. */
static void put(RedisModuleCtx *ctx, OpenSlot *open) {
    if (shard.tag[0] == '\0' && !tag_settle(ctx)) return;
    /* Our lanes have left with this slot: what came after them would make lanes that nobody looks for. */
    if (open->leaves && open->ended && cluster_slot_of(shard.tag) == open->slot) return;
    if (open->first == MARK_DUE || (open->first == MARK_NONE && open->last == MARK_DUE)) {
        open->first = MARK_DONE;
        put_one(ctx, open, "opened");
    }
    if (open->last != MARK_DUE) return;
    open->last = MARK_DONE;
    put_one(ctx, open, "moved");
}

/* Whether nothing but our own keys, which go last, is left in a slot. */
static bool is_empty(RedisModuleCtx *ctx, unsigned slot) {
    RedisModuleCallReply *reply =
        RedisModule_Call(ctx, "CLUSTER", "cll", "GETKEYSINSLOT", (long long)slot, (long long)tag_most_keys() + 1);
    bool empty = reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ARRAY;
    for (size_t i = 0; empty && i < RedisModule_CallReplyLength(reply); i++) {
        Slice key = {NULL, 0};
        key.bytes = RedisModule_CallReplyStringPtr(RedisModule_CallReplyArrayElement(reply, i), &key.len);
        empty = key.bytes != NULL && tag_is_of(key);
    }
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return empty;
}

bool slots_is_open(unsigned slot) { return find(slot) != NULL; }

bool slots_are_due(void) {
    if (unsure) return true;
    for (const OpenSlot *at = open_slots; at != NULL; at = at->next)
        if (at->look || at->ended || at->first == MARK_DUE || at->last == MARK_DUE) return true;
    return false;
}

void slots_put_marks(RedisModuleCtx *ctx) {
    make_sure(ctx);
    for (OpenSlot **at = &open_slots; *at != NULL;) {
        OpenSlot *open = *at;
        if (open->look && open->last == MARK_NONE && is_empty(ctx, open->slot)) open->last = MARK_DUE;
        open->look = false;
        bool early = is_early(ctx, open);
        if (!early) put(ctx, open);
        if (open->ended && !early) {
            *at = open->next;
            RedisModule_Free(open);
        } else {
            at = &open->next;
        }
    }
}

void slots_before_capture(RedisModuleCtx *ctx, Slice key) {
    make_sure(ctx);
    unsigned slot = open_slots != NULL ? key_slot(key) : 0;
    for (OpenSlot *open = open_slots; open != NULL; open = open->next) {
        if (open->slot != slot || open->leaves) continue;
        if (open->first == MARK_NONE) open->first = MARK_DUE;
        put(ctx, open);
    }
}

/* From here on the key can be made anew on the other shard, whose worker may be ahead of ours: ours will see to it. */
void slots_after_end(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key) {
    const OpenSlot *open = open_slots != NULL ? find(key_slot(string_slice(key))) : NULL;
    if (open != NULL && open->leaves) append_went(ctx, deployment, lane, key, open->node);
}

/* Also one whose end was not seen here: who took it, told the others alone, or it goes to another node after all. */
static OpenSlot *set_open(unsigned slot, bool leaves, Slice node) {
    OpenSlot *open = find(slot);
    if (node.len != NODE_ID_BYTES || is_as(open, leaves, node)) return open;
    if (open != NULL) end(open);
    open = RedisModule_Calloc(1, sizeof(*open));
    *open = (OpenSlot){.slot = slot, .leaves = leaves, .first = leaves ? MARK_DUE : MARK_NONE, .next = open_slots};
    memcpy(open->node, node.bytes, NODE_ID_BYTES);
    open_slots = open;
    return open;
}

static void see_open(unsigned slot, bool leaves, Slice node) {
    bool is_known = is_as(find(slot), leaves, node);
    OpenSlot *open = set_open(slot, leaves, node);
    /* The old owner has put its first mark when the slot was opened. The new one may not have; a second one finds no
     * token, and then asks whether there will be one. */
    if (!is_known && leaves) open->first = MARK_DONE;
    open->seen = true;
}

/* What was opened before a restart, or before this replica was promoted (Valkey 8 and newer tell it); and what was
 * closed while another one was the primary. */
void slots_take_over(RedisModuleCtx *ctx) {
    if (!shard.cluster) return;
    for (OpenSlot *at = open_slots; at != NULL; at = at->next) at->seen = at->ended;
    cluster_each_open_slot(ctx, see_open);
    for (OpenSlot **at = &open_slots; *at != NULL;) {
        OpenSlot *open = *at;
        if (open->seen) {
            at = &open->next;
            continue;
        }
        *at = open->next;
        RedisModule_Free(open);
    }
}

bool slots_see_command(unsigned slot, Slice what, Slice node) {
    static const size_t id = NODE_ID_BYTES;
    const char *myself = RedisModule_GetMyClusterID();
    OpenSlot *open = find(slot);
    if (open != NULL) open->told = true;
    if (slice_is(what, "migrating"))
        open = set_open(slot, true, node);
    else if (slice_is(what, "importing") && myself != NULL)
        open = set_open(slot, false, (Slice){myself, id});
    else if (open != NULL && (slice_is(what, "node") || slice_is(what, "stable")))
        end(open);
    if (open != NULL) open->told = unsure = true;
    return slots_are_due();
}

bool slots_see_question(unsigned slot) {
    OpenSlot *open = open_slots != NULL ? find(slot) : NULL;
    if (open != NULL && open->leaves && open->last == MARK_NONE) open->look = true;
    return open != NULL && open->look;
}

void slots_forget(void) {
    unsure = false;
    while (open_slots != NULL) {
        OpenSlot *next = open_slots->next;
        RedisModule_Free(open_slots);
        open_slots = next;
    }
}
