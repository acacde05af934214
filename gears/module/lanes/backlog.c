/* The bound of the backlog: covered writes are refused, before they run, while a deployment's lanes are full. */
#include "backlog.h"

#include <string.h>

#include "clients/sender.h"
#include "clients/written.h"

static int full_deployments;

void backlog_recount(void) {
    full_deployments = 0;
    for (int i = 0; i < shard.count; i++) full_deployments += shard.deployments[i]->full;
}

void backlog_update(Deployment *deployment) {
    unsigned long long entries = 0, bytes = 0;
    if (deployment->limit_entries == 0 && deployment->limit_bytes == 0) return;
    for (int i = 0; i < deployment->lane_count; i++) {
        entries += deployment->lanes[i]->length;
        bytes += deployment->lanes[i]->bytes;
    }
    bool full = deployment->refuse_when_full && !deployment->draining &&
                ((deployment->limit_entries > 0 && entries >= deployment->limit_entries) ||
                 (deployment->limit_bytes > 0 && bytes >= deployment->limit_bytes));
    if (full == deployment->full) return;
    deployment->full = full;
    backlog_recount();
    if (deployment->draining) return;
    RedisModule_Log(NULL, full ? "warning" : "notice", "backlog of deployment %s: %llu changes, about %llu bytes: %s",
                    deployment->name, entries, bytes, full ? "full, covered writes are refused" : "has room again");
}

/* The full deployment that covers a key by a rule of one of the kinds; NULL: none. The database of the client is not
 * known to a filter on every server, so that a key counts in any of them. */
static Deployment *full_covering(RedisModuleString *name, unsigned kinds) {
    Slice key = string_slice(name);
    for (int i = 0; i < shard.nrules; i++) {
        Rule *rule = shard.rules[i];
        if (rule->deployment->full && (kinds & 1u << rule->kind) && template_matches(&rule->template, key))
            return rule->deployment;
    }
    return NULL;
}

static void refuse(RedisModuleCommandFilterCtx *filter, int argc, Deployment *deployment) {
    deployment->refused_writes++;
    for (int i = argc - 1; i > 1; i--) RedisModule_CommandFilterArgDelete(filter, i);
    RedisModuleString *name = RedisModule_CreateString(NULL, deployment->name, strlen(deployment->name));
    RedisModule_CommandFilterArgReplace(filter, 1, name);
    /* A queued command must fail when it is queued, so that EXEC aborts: an unknown command does. */
    const char *command =
        sender_in_transaction(filter) ? "BACKLOG: gearsync's backlog is full, nothing was written" : "GEARSYNC.REFUSE";
    RedisModule_CommandFilterArgReplace(filter, 0, RedisModule_CreateString(NULL, command, strlen(command)));
}

static bool is_full(RedisModuleString *key, unsigned kinds) { return full_covering(key, kinds) != NULL; }

bool backlog_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc) {
    if (full_deployments == 0 || argc < 2 || !shard.primary) return false;
    RedisModuleString *key = written_find_in(filter, name, argc, is_full);
    if (key != NULL) refuse(filter, argc, full_covering(key, ~0u));
    return key != NULL;
}

int backlog_refuse_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    Slice name = string_slice(argv[1]);
    Text text = {0};
    text_printf(
        &text,
        "BACKLOG the change stream of deployment %.*s is full, so nothing was written; its database is away or too "
        "slow (see GEARSYNC.STATUS), or raise its backlog limit",
        name.len > NAME_MAX_BYTES ? NAME_MAX_BYTES : (int)name.len, name.bytes);
    int result = RedisModule_ReplyWithError(ctx, text.bytes);
    text_free(&text);
    return result;
}
