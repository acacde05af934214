/* A module for tests with a type of documents, as RedisJSON has it: JSON.SET and JSON.DEL, each with a keyspace event of
 * modules, and JSON.GET. It keeps the text, and takes no part of one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct Ctx Ctx;
typedef struct Key Key;
typedef struct String String;
typedef struct Type Type;
typedef int (*Command)(Ctx *, String **, int);
typedef struct {
    uint64_t version;
    void *load, *save, *rewrite, *usage, *digest;
    void (*free)(void *);
    void *rest[40];
} Methods;

static int (*GetApi)(const char *, void *);
static int (*SetModuleAttribs)(Ctx *, const char *, int, int);
static int (*CreateCommand)(Ctx *, const char *, Command, const char *, int, int, int);
static Type *(*CreateDataType)(Ctx *, const char *, int, Methods *);
static Key *(*OpenKey)(Ctx *, String *, int);
static void (*CloseKey)(Key *);
static int (*DeleteKey)(Key *);
static int (*ModuleTypeSetValue)(Key *, Type *, void *);
static Type *(*ModuleTypeGetType)(Key *);
static void *(*ModuleTypeGetValue)(Key *);
static const char *(*StringPtrLen)(const String *, size_t *);
static int (*NotifyKeyspaceEvent)(Ctx *, int, const char *, String *);
static int (*ReplyWithSimpleString)(Ctx *, const char *);
static int (*ReplyWithStringBuffer)(Ctx *, const char *, size_t);
static int (*ReplyWithNull)(Ctx *);
static int (*ReplyWithError)(Ctx *, const char *);
static int (*ReplicateVerbatim)(Ctx *);

#define NOTIFY_MODULE (1 << 13)

static Type *type;

static int set(Ctx *ctx, String **argv, int argc) {
    if (argc != 4) return ReplyWithError(ctx, "ERR JSON.SET key $ text");
    size_t len;
    const char *text = StringPtrLen(argv[3], &len);
    char *copy = calloc(1, len + 1);
    memcpy(copy, text, len);
    Key *key = OpenKey(ctx, argv[1], 3);
    ModuleTypeSetValue(key, type, copy);
    CloseKey(key);
    NotifyKeyspaceEvent(ctx, NOTIFY_MODULE, "json.set", argv[1]);
    ReplicateVerbatim(ctx);
    return ReplyWithSimpleString(ctx, "OK");
}

static int get(Ctx *ctx, String **argv, int argc) {
    if (argc != 2) return ReplyWithError(ctx, "ERR JSON.GET key");
    Key *key = OpenKey(ctx, argv[1], 1);
    if (key == NULL) return ReplyWithNull(ctx);
    const char *text = ModuleTypeGetType(key) == type ? ModuleTypeGetValue(key) : NULL;
    if (text == NULL)
        ReplyWithError(ctx, "WRONGTYPE no document");
    else
        ReplyWithStringBuffer(ctx, text, strlen(text));
    CloseKey(key);
    return 0;
}

/* Of the whole document: the key goes, and there is no event "del". */
static int del(Ctx *ctx, String **argv, int argc) {
    if (argc != 2) return ReplyWithError(ctx, "ERR JSON.DEL key");
    Key *key = OpenKey(ctx, argv[1], 3);
    DeleteKey(key);
    CloseKey(key);
    NotifyKeyspaceEvent(ctx, NOTIFY_MODULE, "json.del", argv[1]);
    ReplicateVerbatim(ctx);
    return ReplyWithSimpleString(ctx, "OK");
}

#define RESOLVE(name) missing = missing || GetApi("RedisModule_" #name, (void *)&name) != 0

int RedisModule_OnLoad(Ctx *ctx, String **argv, int argc) {
    int missing = 0;
    (void)argv, (void)argc;
    memcpy(&GetApi, (void *)ctx, sizeof(GetApi));
    RESOLVE(SetModuleAttribs), RESOLVE(CreateCommand), RESOLVE(CreateDataType), RESOLVE(OpenKey), RESOLVE(CloseKey);
    RESOLVE(DeleteKey), RESOLVE(ModuleTypeSetValue), RESOLVE(ModuleTypeGetType), RESOLVE(ModuleTypeGetValue);
    RESOLVE(StringPtrLen), RESOLVE(NotifyKeyspaceEvent), RESOLVE(ReplyWithSimpleString), RESOLVE(ReplyWithNull);
    RESOLVE(ReplyWithStringBuffer), RESOLVE(ReplyWithError), RESOLVE(ReplicateVerbatim);
    if (missing) return 1;
    SetModuleAttribs(ctx, "ReJSON", 1, 1);
    Methods methods = {.version = 1, .free = free};
    type = CreateDataType(ctx, "ReJSON-RL", 3, &methods);
    return type == NULL || CreateCommand(ctx, "json.set", set, "write", 1, 1, 1) ||
           CreateCommand(ctx, "json.get", get, "readonly", 1, 1, 1) ||
           CreateCommand(ctx, "json.del", del, "write", 1, 1, 1);
}
