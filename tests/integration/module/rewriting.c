/* A module for tests whose command filter makes "rewritten" of each last argument that is "rewrite". */
#include <stddef.h>
#include <string.h>

typedef int (*GetApi)(const char *name, void *pointer);
static int (*count)(void *filter);
static void *(*get)(void *filter, int at);
static int (*replace)(void *filter, int at, void *string);
static const char *(*text)(const void *string, size_t *len);
static void *(*create)(void *ctx, const char *bytes, size_t len);

static void rewrite(void *filter) {
    size_t len;
    int last = count(filter) - 1;
    const char *bytes = text(get(filter, last), &len);
    if (len == 7 && memcmp(bytes, "rewrite", len) == 0) replace(filter, last, create(NULL, "rewritten", 9));
}

int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
    (void)argv, (void)argc;
    GetApi api;
    void (*attributes)(void *ctx, const char *name, int version, int api_version);
    void *(*filter)(void *ctx, void (*callback)(void *filter), int flags);
    memcpy(&api, ctx, sizeof(api));
    if (api("RedisModule_SetModuleAttribs", &attributes) != 0 ||
        api("RedisModule_RegisterCommandFilter", &filter) != 0 ||
        api("RedisModule_CommandFilterArgsCount", &count) != 0 || api("RedisModule_CommandFilterArgGet", &get) != 0 ||
        api("RedisModule_CommandFilterArgReplace", &replace) != 0 || api("RedisModule_StringPtrLen", &text) != 0 ||
        api("RedisModule_CreateString", &create) != 0)
        return 1;
    attributes(ctx, "rewriting", 1, 1);
    return filter(ctx, rewrite, 0) == NULL;
}
