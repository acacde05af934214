/* A module for tests whose command makes its client one of a user of the module's own, whom ACL does not know. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef int (*GetApi)(const char *name, void *pointer);
static void *user;
static int (*become)(void *ctx, void *user, void (*changed)(uint64_t id, void *data), void *data, uint64_t *id);
static int (*reply)(void *ctx, const char *text);

static int authenticate(void *ctx, void **argv, int argc) {
    (void)argv, (void)argc;
    become(ctx, user, NULL, NULL, NULL);
    return reply(ctx, "OK");
}

int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
    (void)argv, (void)argc;
    GetApi api;
    void (*attributes)(void *ctx, const char *name, int version, int api_version);
    void *(*create)(const char *name);
    int (*rule)(void *user, const char *acl);
    int (*command)(void *ctx, const char *name, int (*function)(void *, void **, int), const char *flags, int, int, int);
    memcpy(&api, ctx, sizeof(api));
    if (api("RedisModule_SetModuleAttribs", &attributes) != 0 || api("RedisModule_CreateModuleUser", &create) != 0 ||
        api("RedisModule_SetModuleUserACL", &rule) != 0 || api("RedisModule_CreateCommand", &command) != 0 ||
        api("RedisModule_AuthenticateClientWithUser", &become) != 0 ||
        api("RedisModule_ReplyWithSimpleString", &reply) != 0)
        return 1;
    attributes(ctx, "authenticating", 1, 1);
    user = create("nobody-knows");
    rule(user, "on");
    rule(user, "allcommands");
    rule(user, "~person:*");
    return command(ctx, "authenticating.become", authenticate, "no-auth", 0, 0, 0);
}
