/* Resolves the module API pointers that api.h declares. */
#include "api.h"

#include <stdlib.h>

#define API_DEFINE(type, name, args) type(*RedisModule_##name) args;
API_REQUIRED(API_DEFINE)
API_OPTIONAL(API_DEFINE)
#undef API_DEFINE

static void (*free_of_server)(void *);

void api_free_theirs(void *memory) { free_of_server(memory); }

/* A sanitizer sees what malloc gave out, not what comes from the allocator that most servers have built in. */
static void choose_memory(void) {
    free_of_server = RedisModule_Free;
#ifdef __SANITIZE_ADDRESS__
    RedisModule_Alloc = malloc;
    RedisModule_Calloc = calloc;
    RedisModule_Realloc = realloc;
    RedisModule_Free = free;
#endif
}

typedef int (*GetApiFunc)(const char *name, void *pointer);

const char *api_resolve(RedisModuleCtx *ctx) {
    /* The server passes its own GetApi as the first word of the context. */
    GetApiFunc get_api = *(GetApiFunc *)(void *)ctx;
    const char *missing = NULL;
#define API_GET(type, name, args)                                                                                      \
    if (get_api("RedisModule_" #name, (void *)&RedisModule_##name) != REDISMODULE_OK) {                                \
        RedisModule_##name = NULL;                                                                                     \
        if (missing == NULL) missing = #name;                                                                          \
    }
    API_REQUIRED(API_GET)
#undef API_GET
#define API_TRY(type, name, args)                                                                                      \
    if (get_api("RedisModule_" #name, (void *)&RedisModule_##name) != REDISMODULE_OK) RedisModule_##name = NULL;
    API_OPTIONAL(API_TRY)
#undef API_TRY
    choose_memory();
    return missing;
}
