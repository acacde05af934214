/* Commands that the filter puts before a client's own: "GEARSYNC.READ HGET person:1 name". Rights are those of the
 * client's own command, so the command that is put there asks for none ("no-auth"), and looks at the client's itself.
 *
 * The server lets clients that have not authenticated run such a command too. Those are of the user default, so a
 * client of it that could be one gets the twin of the command, NAME.auth, before which the server asks for a password.
 */
#include "inner.h"

#include <errno.h>
#include <string.h>

#define TWIN ".auth"

/* LUAI_MAXCSTACK */
#define MOST_WORDS_OF_LUA 8000

/* What the user default means for a client that has it: anybody may be one; nobody can become one; it has a
 * password. */
typedef enum { DEFAULT_UNKNOWN, DEFAULT_OPEN, DEFAULT_OFF, DEFAULT_GUARDED } DefaultUser;

static DefaultUser default_user;

void inner_forget(void) { default_user = DEFAULT_UNKNOWN; }

/* Commands after which the user default can be another one. */
void inner_see_command(Slice name) {
    if (slice_is(name, "acl") || slice_is(name, "config") || slice_is(name, "exec")) inner_forget();
}

static bool has_flag(RedisModuleCallReply *flags, const char *wanted) {
    for (size_t i = 0; i < RedisModule_CallReplyLength(flags); i++) {
        Slice flag = {NULL, 0};
        flag.bytes = RedisModule_CallReplyStringPtr(RedisModule_CallReplyArrayElement(flags, i), &flag.len);
        if (flag.bytes != NULL && slice_is(flag, wanted)) return true;
    }
    return false;
}

/* As of now, remembered until inner_see_command. */
static DefaultUser look_at_default(RedisModuleCtx *ctx) {
    if (default_user != DEFAULT_UNKNOWN) return default_user;
    RedisModuleCallReply *user = RedisModule_Call(ctx, "ACL", "cc", "GETUSER", "default");
    bool told = user != NULL && RedisModule_CallReplyType(user) == REDISMODULE_REPLY_ARRAY;
    for (size_t i = 0; told && i + 1 < RedisModule_CallReplyLength(user); i += 2) {
        Slice label = {NULL, 0};
        label.bytes = RedisModule_CallReplyStringPtr(RedisModule_CallReplyArrayElement(user, i), &label.len);
        if (label.bytes == NULL || !slice_is(label, "flags")) continue;
        RedisModuleCallReply *flags = RedisModule_CallReplyArrayElement(user, i + 1);
        default_user =
            has_flag(flags, "off") ? DEFAULT_OFF : (has_flag(flags, "nopass") ? DEFAULT_OPEN : DEFAULT_GUARDED);
    }
    if (user != NULL) RedisModule_FreeCallReply(user);
    return default_user == DEFAULT_UNKNOWN ? DEFAULT_GUARDED : default_user;
}

static bool is_default(RedisModuleString *name) { return slice_is(string_slice(name), "default"); }

/* Of a client by its id; of a script or another module there is none, and those are past any password. */
static bool may_be_unauthenticated(uint64_t client) {
    RedisModuleString *name = RedisModule_GetClientUserNameById(shard.detached, client);
    bool unknown = name != NULL && is_default(name);
    if (name != NULL) RedisModule_FreeString(shard.detached, name);
    return unknown;
}

static bool needs_twin(RedisModuleCommandFilterCtx *filter) {
    if (RedisModule_ACLCheckCommandPermissions == NULL) return true;
    DefaultUser known = look_at_default(shard.detached);
    if (known == DEFAULT_OPEN) return false;
    if (RedisModule_CommandFilterGetClientId == NULL) return known == DEFAULT_GUARDED;
    return may_be_unauthenticated(RedisModule_CommandFilterGetClientId(filter));
}

/* Before 7.0.8 a server keeps the array of a script's words for the script's next command, and takes it for as long as
 * it was before the insertion cut it to what is needed: so it gets room for as many words as Lua can give. */
static void keep_room_for_scripts(RedisModuleCommandFilterCtx *filter) {
    if (shard.server_version >= 0x070008) return;
    if ((RedisModule_GetContextFlags(shard.detached) & REDISMODULE_CTX_FLAGS_LUA) == 0) return;
    int argc = RedisModule_CommandFilterArgsCount(filter);
    RedisModuleString *filler = RedisModule_CommandFilterArgGet(filter, 0);
    for (int i = argc; i <= MOST_WORDS_OF_LUA; i++)
        RedisModule_CommandFilterArgInsert(filter, i, RedisModule_HoldString(NULL, filler));
    for (int i = MOST_WORDS_OF_LUA; i >= argc; i--) RedisModule_CommandFilterArgDelete(filter, i);
}

void inner_insert(RedisModuleCommandFilterCtx *filter, const char *command) {
    RedisModuleString *name = RedisModule_CreateStringPrintf(NULL, "%s%s", command, needs_twin(filter) ? TWIN : "");
    RedisModule_CommandFilterArgInsert(filter, 0, name);
    keep_room_for_scripts(filter);
}

int inner_register(RedisModuleCtx *ctx, const char *command, RedisModuleCmdFunc function, const char *flags) {
    Text twin = {0}, open = {0};
    text_printf(&twin, "%s%s", command, TWIN);
    text_printf(&open, "%s no-auth", flags);
    int result = REDISMODULE_OK;
    /* Where the module can't check rights, the server checks those of the twin. */
    if (RedisModule_ACLCheckCommandPermissions != NULL)
        result = RedisModule_CreateCommand(ctx, command, function, open.bytes, 0, 0, 0);
    if (result == REDISMODULE_OK) result = RedisModule_CreateCommand(ctx, twin.bytes, function, flags, 0, 0, 0);
    text_free(&twin);
    text_free(&open);
    return result;
}

/* -- Keys ---------------------------------------------------------------------------------------------------------- */

/* Nobody puts it before another one of ours: as deep as a client likes, the server would ask for keys. */
static bool is_ours(RedisModuleString *name) {
    Slice text = string_slice(name);
    size_t len = sizeof("gearsync.") - 1;
    return text.len > len && slice_is((Slice){text.bytes, len}, "gearsync.");
}

bool inner_tells_keys(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (!RedisModule_IsKeysPositionRequest(ctx)) return false;
    if (argc < 2 || is_ours(argv[1])) return true;
    int count = 0, *flags = NULL;
    int *positions = RedisModule_GetCommandKeysWithFlags != NULL
                         ? RedisModule_GetCommandKeysWithFlags(ctx, argv + 1, argc - 1, &count, &flags)
                         : RedisModule_GetCommandKeys(ctx, argv + 1, argc - 1, &count);
    for (int i = 0; positions != NULL && i < count; i++) {
        if (flags != NULL)
            RedisModule_KeyAtPosWithFlags(ctx, positions[i] + 1, flags[i]);
        else
            RedisModule_KeyAtPos(ctx, positions[i] + 1);
    }
    if (positions != NULL) api_free_theirs(positions);
    if (flags != NULL) api_free_theirs(flags);
    return true;
}

/* -- Rights -------------------------------------------------------------------------------------------------------- */

static bool is_twin(RedisModuleString *name) {
    Slice text = string_slice(name);
    size_t len = sizeof(TWIN) - 1;
    return text.len > len && slice_is((Slice){text.bytes + text.len - len, len}, TWIN);
}

/* As the server says it; from 7.2 on it says so itself, and logs it, by a run that is none. */
static void refuse(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, int error) {
    if (shard.server_version >= 0x070200) {
        const char *name = RedisModule_StringPtrLen(argv[1], NULL);
        RedisModuleCallReply *reply = RedisModule_Call(ctx, name, "CDEv", argv + 2, (size_t)argc - 2);
        if (reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ERROR) {
            RedisModule_ReplyWithCallReply(ctx, reply);
            RedisModule_FreeCallReply(reply);
            return;
        }
        if (reply != NULL) RedisModule_FreeCallReply(reply);
    }
    Text text = {0};
    Slice name = string_slice(argv[1]);
    if (error == ENOENT)
        text_printf(&text, "ERR unknown command");
    else
        text_printf(
            &text,
            "NOPERM this user has no permissions to run the '%.*s' command or to access one of the keys used as "
            "arguments",
            name.len > 64 ? 64 : (int)name.len, name.bytes);
    RedisModule_ReplyWithError(ctx, text.bytes);
    text_free(&text);
}

/* Also of a client that was authenticated as default before that was turned off; the server would still let it. */
static bool refuse_unauthenticated(RedisModuleCtx *ctx, RedisModuleString *command, RedisModuleString *user) {
    if (is_twin(command) || !is_default(user) || look_at_default(ctx) == DEFAULT_OPEN) return false;
    RedisModule_ReplyWithError(ctx, "NOAUTH Authentication required.");
    return true;
}

/* The server says it by a run that is none; where it has none such, inner_run finds it out. */
static bool server_allows(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    errno = 0;
    RedisModuleCallReply *reply =
        RedisModule_Call(ctx, RedisModule_StringPtrLen(argv[1], NULL), "CDEv", argv + 2, (size_t)argc - 2);
    /* Allowed: none, or in Valkey 9 one that says nothing. */
    bool allowed = reply == NULL || errno == ENOTSUP || RedisModule_CallReplyType(reply) != REDISMODULE_REPLY_ERROR;
    if (!allowed) RedisModule_ReplyWithCallReply(ctx, reply);
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return allowed;
}

/* Of a script or another module, which have no client of their own. */
static bool script_allowed(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if ((RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_LUA) == 0) return true;
    return server_allows(ctx, argv, argc);
}

/* A user of another module's is none that can be asked for by its name. */
static bool user_allowed(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleString **argv, int argc) {
    RedisModuleUser *user = RedisModule_GetModuleUserFromUserName(name);
    if (user == NULL && shard.server_version >= 0x070200) return server_allows(ctx, argv, argc);
    bool allowed = user != NULL && RedisModule_ACLCheckCommandPermissions(user, argv + 1, argc - 1) == REDISMODULE_OK;
    int error = errno;
    if (user != NULL) RedisModule_FreeModuleUser(user);
    if (!allowed) refuse(ctx, argv, argc, error);
    return allowed;
}

bool inner_allowed(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (RedisModule_ACLCheckCommandPermissions == NULL) return true;
    RedisModuleString *name = RedisModule_GetClientUserNameById(ctx, RedisModule_GetClientId(ctx));
    if (name == NULL) return script_allowed(ctx, argv, argc);
    bool allowed = !refuse_unauthenticated(ctx, argv[0], name) && user_allowed(ctx, name, argv, argc);
    RedisModule_FreeString(ctx, name);
    return allowed;
}

/* -- The client's own command -------------------------------------------------------------------------------------- */

static void reply_failure(RedisModuleCtx *ctx, const char *command, int error) {
    Text text = {0};
    if (error == EINVAL)
        text_printf(&text, "ERR wrong number of arguments for '%s' command", command);
    else
        text_printf(&text, "ERR the server does not run '%s' here: %s", command, strerror(error));
    RedisModule_ReplyWithError(ctx, text.bytes);
    text_free(&text);
}

/* With the rights of its user, which the server looks at once more: those of SORT … GET are about more than its keys.
 * Another module has no user, and all rights. */
static RedisModuleCallReply *call_as_user(RedisModuleCtx *ctx, const char *command, const char *format,
                                          RedisModuleString **argv, size_t argc) {
    Text as_user = {0};
    text_printf(&as_user, "C%s", format);
    errno = 0;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, command, as_user.bytes, argv, argc);
    text_free(&as_user);
    if (errno != ENOTSUP) return reply;
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return RedisModule_Call(ctx, command, format, argv, argc);
}

/* A client that was held here while the slot went to another shard; the server can't send it there from here. */
bool inner_has_moved(RedisModuleCallReply *reply, int error) {
    return shard.cluster && error == EPERM &&
           (reply == NULL || RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ERROR);
}

int inner_run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, bool writes) {
    const char *command = RedisModule_StringPtrLen(argv[1], NULL);
    bool old = shard.server_version < 0x070000; /* neither errors as replies, nor the client's protocol */
    bool script = (RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_LUA) != 0;
    const char *format = old ? (writes ? "!v" : "v") : writes ? (script ? "!E0v" : "!ME0v") : "E0v";
    errno = 0;
    RedisModuleCallReply *reply = (script || writes) && !old
                                      ? call_as_user(ctx, command, format, argv + 2, (size_t)argc - 2)
                                      : RedisModule_Call(ctx, command, format, argv + 2, (size_t)argc - 2);
    int error = errno;
    if (inner_has_moved(reply, error))
        RedisModule_ReplyWithError(ctx, "TRYAGAIN the slot of this key has moved to another shard meanwhile");
    else if (reply == NULL)
        reply_failure(ctx, command, error);
    else
        RedisModule_ReplyWithCallReply(ctx, reply);
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return REDISMODULE_OK;
}
