/* Who sends the command that is about to run. */
#include "sender.h"

bool sender_of(RedisModuleCommandFilterCtx *filter, RedisModuleClientInfo *info) {
    if (RedisModule_CommandFilterGetClientId == NULL) return false;
    *info = (RedisModuleClientInfo){.version = 1};
    uint64_t id = RedisModule_CommandFilterGetClientId(filter);
    return id != 0 && RedisModule_GetClientInfoById(info, id) == REDISMODULE_OK;
}

bool sender_in_transaction(RedisModuleCommandFilterCtx *filter) {
    RedisModuleClientInfo info;
    return sender_of(filter, &info) && (info.flags & REDISMODULE_CLIENTINFO_FLAG_MULTI) != 0;
}
