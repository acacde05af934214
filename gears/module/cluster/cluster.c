/* Which slots are ours: lanes and the registry live under one hash tag whose slot this shard owns. */
#define _GNU_SOURCE
#include "cluster.h"

#include <stdio.h>
#include <string.h>

static SlotState home; /* of the slot of our own keys, when it was looked at last */

bool cluster_home_leaves(void) { return home == SLOT_LEAVING; }
bool cluster_home_is_own(void) { return home == SLOT_OWN; }
bool cluster_home_is_open(void) { return home == SLOT_LEAVING || home == SLOT_COMING; }

static char *ask_cluster(RedisModuleCtx *ctx, const char *what) {
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "CLUSTER", "c", what);
    Slice text = {"", 0};
    if (reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_STRING)
        text.bytes = RedisModule_CallReplyStringPtr(reply, &text.len);
    char *copy = slice_copy(text);
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return copy;
}

/* Not CLUSTER SLOTS: Valkey 8.0 makes its answer for the client's connection, and a module's call has none. */
char *cluster_nodes(RedisModuleCtx *ctx) { return ask_cluster(ctx, "NODES"); }

bool cluster_is_ok(RedisModuleCtx *ctx) {
    if (!shard.cluster) return true;
    char *info = ask_cluster(ctx, "INFO");
    bool ok = strstr(info, "cluster_state:ok") != NULL;
    RedisModule_Free(info);
    return ok;
}

/* The slots at the end of this node's own line, after eight other fields: "0-5460 7000 [93->-<node>] [77-<-<node>]". */
static void mark_slots(char *fields, SlotState slots[CLUSTER_SLOTS]) {
    char *rest = NULL;
    int at = 0;
    for (char *field = strtok_r(fields, " ", &rest); field != NULL; field = strtok_r(NULL, " ", &rest)) {
        int first, last;
        if (at++ < 8) continue;
        bool open = field[0] == '[';
        int found = sscanf(field + open, "%d-%d", &first, &last);
        if (found == 1 || open) last = first;
        for (int slot = first; found >= 1 && slot <= last && slot >= 0 && slot < CLUSTER_SLOTS; slot++)
            slots[slot] = !open ? SLOT_OWN : strstr(field, "->-") != NULL ? SLOT_LEAVING : SLOT_COMING;
    }
}

/* Its flags, after its id and its address, in which a host may be called anything. */
static bool is_myself(const char *line) {
    const char *address = strchr(line, ' '), *flags = address != NULL ? strchr(address + 1, ' ') : NULL;
    return flags != NULL && strncmp(flags + 1, "myself", 6) == 0;
}

/* The line about this node in what CLUSTER NODES says, which it cuts there; NULL: there is none. */
static char *own_line(char *nodes) {
    char *rest = NULL, *line = strtok_r(nodes, "\n", &rest);
    while (line != NULL && !is_myself(line)) line = strtok_r(NULL, "\n", &rest);
    return line;
}

bool cluster_each_open_slot(RedisModuleCtx *ctx, void (*visit)(unsigned slot, bool leaves, Slice node)) {
    const char *myself = RedisModule_GetMyClusterID();
    char *nodes = cluster_nodes(ctx), *rest = NULL, *line = own_line(nodes);
    unsigned slot;
    char way[4], node[NODE_ID_BYTES + 1];
    bool tells = line != NULL && myself != NULL;
    for (char *field = tells ? strtok_r(line, " ", &rest) : NULL; field != NULL; field = strtok_r(NULL, " ", &rest)) {
        if (sscanf(field, "[%u%3[-<>]%40[0-9a-f]]", &slot, way, node) != 3 || slot >= CLUSTER_SLOTS) continue;
        bool leaves = strcmp(way, "->-") == 0;
        visit(slot, leaves, (Slice){leaves ? node : myself, NODE_ID_BYTES});
    }
    RedisModule_Free(nodes);
    return tells;
}

/* As Valkey does from 8 on. */
bool cluster_defers_moves(RedisModuleCtx *ctx) {
    const char *myself = RedisModule_GetMyClusterID();
    if (shard.server_version < 0x080000 || myself == NULL) return false;
    char words[NODE_ID_BYTES + 8];
    snprintf(words, sizeof(words), "slave %.*s", NODE_ID_BYTES, myself);
    char *nodes = cluster_nodes(ctx);
    bool found = strstr(nodes, words) != NULL;
    RedisModule_Free(nodes);
    return found;
}

/* Marks the slots of which this node is the primary, or is to be; false: the cluster does not tell. */
static bool read_slots(RedisModuleCtx *ctx, SlotState slots[CLUSTER_SLOTS]) {
    char *nodes = cluster_nodes(ctx), *line = own_line(nodes);
    memset(slots, 0, CLUSTER_SLOTS * sizeof(SlotState));
    if (line != NULL) mark_slots(line, slots);
    RedisModule_Free(nodes);
    return line != NULL;
}

SlotState cluster_slot_state(RedisModuleCtx *ctx, unsigned slot) {
    SlotState slots[CLUSTER_SLOTS];
    return read_slots(ctx, slots) ? slots[slot] : SLOT_STRANGE;
}

bool cluster_has_slot(RedisModuleCtx *ctx) {
    SlotState slots[CLUSTER_SLOTS];
    bool found = !read_slots(ctx, slots);
    for (int i = 0; i < CLUSTER_SLOTS && !found; i++) found = slots[i] == SLOT_OWN;
    return found;
}

unsigned cluster_slot_of(const char *tag) { return key_slot((Slice){tag, strlen(tag)}); }

/* Sets the tag to one whose slot is in that state; one that is so already stays. */
static bool choose_among(const SlotState slots[CLUSTER_SLOTS], SlotState state) {
    if (shard.tag[0] != '\0' && slots[cluster_slot_of(shard.tag)] == state) return true;
    for (int i = 0; i < 65536; i++) {
        char tag[sizeof(shard.tag)];
        snprintf(tag, sizeof(tag), "%d", i);
        if (slots[cluster_slot_of(tag)] != state) continue;
        memcpy(shard.tag, tag, sizeof(tag));
        return true;
    }
    return false;
}

/* Of a slot of ours, else of one that is on its way. A slot that comes is better than one that leaves. */
TagChoice cluster_choose_tag(RedisModuleCtx *ctx) {
    if (!shard.cluster) {
        snprintf(shard.tag, sizeof(shard.tag), "0");
        return TAG_FOUND;
    }
    SlotState slots[CLUSTER_SLOTS];
    if (!read_slots(ctx, slots)) return TAG_UNKNOWN;
    for (home = SLOT_OWN; home > SLOT_STRANGE; home--)
        if (choose_among(slots, home)) return TAG_FOUND;
    return TAG_NONE;
}
