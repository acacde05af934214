/* Who may run commands that do what a user of gearsync's own keys could do by hand, and more: code that is deployed
 * runs in the workers, and rows are put into any key. A user who has all commands but no rights to these keys must not
 * get at them by such a command, for which Redis asks for no key. Redis 6.2 can't tell a module what a user may do. */
#include "rights.h"

#include <string.h>

static RedisModuleString *text_of(const char *text) { return RedisModule_CreateString(NULL, text, strlen(text)); }

/* Whether a user may write the registry. */
static bool may_write(RedisModuleString *name) {
    Text key = {0};
    text_printf(&key, KEY_PREFIX "%s}:registry", shard.tag[0] != '\0' ? shard.tag : "0");
    RedisModuleString *words[] = {text_of("HSET"), text_of(key.bytes), text_of("field"), text_of("value")};
    RedisModuleUser *user = RedisModule_GetModuleUserFromUserName(name);
    bool may = user != NULL && RedisModule_ACLCheckCommandPermissions(user, words, 4) == REDISMODULE_OK;
    if (user != NULL) RedisModule_FreeModuleUser(user);
    for (int i = 0; i < 4; i++) RedisModule_FreeString(NULL, words[i]);
    text_free(&key);
    return may;
}

bool rights_refused(RedisModuleCtx *ctx) {
    if (RedisModule_ACLCheckCommandPermissions == NULL) return false;
    RedisModuleString *name = RedisModule_GetClientUserNameById(ctx, RedisModule_GetClientId(ctx));
    if (name == NULL) {
        /* No client: a script, whose user is not told, or the server itself. */
        if ((RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_LUA) == 0) return false;
        RedisModule_ReplyWithError(ctx, "NOPERM this command of gearsync is not for scripts");
        return true;
    }
    bool may = may_write(name);
    RedisModule_FreeString(ctx, name);
    if (may) return false;
    RedisModule_ReplyWithError(ctx,
                               "NOPERM this command does what writing gearsync's own keys does; the user needs the "
                               "right to run HSET on the keys gearsync:*");
    return true;
}
