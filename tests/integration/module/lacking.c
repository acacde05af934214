/* A module for tests that loads gearsync in its own place, in a server that seems to lack one function of the API.
 * Arguments: the path of gearsync.so, the name of the function (as RedisModule_Log), then those of gearsync. */
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

typedef int (*GetApi)(const char *name, void *pointer);
typedef int (*OnLoad)(void *ctx, void **argv, int argc);
typedef const char *(*StringPtrLen)(const void *string, size_t *len);

static GetApi server;
static const char *lacking;

static int get_api(const char *name, void *pointer) { return strcmp(name, lacking) == 0 ? 1 : server(name, pointer); }

int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
    StringPtrLen text;
    memcpy(&server, ctx, sizeof(server));
    if (argc < 2 || server("RedisModule_StringPtrLen", &text) != 0) return 1;
    void *library = dlopen(text(argv[0], NULL), RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return 1;
    lacking = text(argv[1], NULL);
    GetApi ours = get_api;
    memcpy(ctx, &ours, sizeof(ours));
    OnLoad load;
    *(void **)&load = dlsym(library, "RedisModule_OnLoad");
    int result = load == NULL ? 1 : load(ctx, argv + 2, argc - 2);
    memcpy(ctx, &server, sizeof(server));
    if (result != 0) dlclose(library);
    return result;
}
