/* Keys that change their shard: a resharding takes them away with MIGRATE, and brings them with RESTORE-ASKING. Neither
 * changes a row. What the old owner has captured of a key must be in SQL before what the new one captures: so both put
 * a mark into their lanes, with the id of the new owner, and the workers see to the rest (docs/design.md,
 * "Resharding"). */
#include "cluster.h"

#include <stdio.h>
#include <string.h>

static char *nodes; /* CLUSTER NODES as it is during the MIGRATE in hand; NULL: not asked yet */
static char target[NODE_ID_BYTES + 1];

void move_forget(void) {
    if (nodes != NULL) RedisModule_Free(nodes);
    nodes = NULL;
}

/* In the line of this node an open slot stands as [<slot>->-<id of the node that takes it>]. */
const char *move_target(RedisModuleCtx *ctx, Slice key) {
    char mark[24];
    if (nodes == NULL) nodes = cluster_nodes(ctx);
    snprintf(mark, sizeof(mark), "[%u->-", key_slot(key));
    const char *found = strstr(nodes, mark);
    if (found == NULL || strlen(found) < strlen(mark) + NODE_ID_BYTES) return NULL;
    memcpy(target, found + strlen(mark), NODE_ID_BYTES);
    return target;
}
