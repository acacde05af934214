/* A module for tests with a type of documents, as RedisJSON has it: JSON.SET and JSON.DEL, each with a keyspace event, and
 * JSON.GET. It keeps the text, and takes no part of one. With the argument GENERIC its event and its errors are those of
 * Valkey's module. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct Ctx Ctx;
typedef struct Key Key;
typedef struct String String;
typedef struct Type Type;
typedef struct Io Io;
typedef int (*Command)(Ctx *, String **, int);
typedef struct {
    uint64_t version;
    void *(*load)(Io *, int);
    void (*save)(Io *, void *);
    void *rewrite, *usage, *digest;
    void (*free)(void *);
    void *aux[3], *effort, *unlink;
    void *(*copy)(String *, String *, const void *);
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
static int (*KeyType)(Key *);
static Type *(*ModuleTypeGetType)(Key *);
static void *(*ModuleTypeGetValue)(Key *);
static const char *(*StringPtrLen)(const String *, size_t *);
static int (*NotifyKeyspaceEvent)(Ctx *, int, const char *, String *);
static int (*ReplyWithSimpleString)(Ctx *, const char *);
static int (*ReplyWithStringBuffer)(Ctx *, const char *, size_t);
static int (*ReplyWithLongLong)(Ctx *, long long);
static int (*ReplyWithNull)(Ctx *);
static int (*ReplyWithError)(Ctx *, const char *);
static int (*ReplicateVerbatim)(Ctx *);
static void (*SaveStringBuffer)(Io *, const char *, size_t);
static char *(*LoadStringBuffer)(Io *, size_t *);
static void (*Free)(void *);

#define KEYTYPE_EMPTY 0
#define NOTIFY_GENERIC (1 << 2)
#define NOTIFY_MODULE (1 << 13)

static Type *type;
static int event_type = NOTIFY_MODULE;
static const char *wrong_type = "Existing key has wrong Redis type";

static char *copied(const char *text, size_t len) {
    char *copy = calloc(1, len + 1);
    memcpy(copy, text, len);
    return copy;
}

static void save(Io *io, void *text) { SaveStringBuffer(io, text, strlen(text)); }

static void *load(Io *io, int version) {
    size_t len;
    char *loaded = LoadStringBuffer(io, &len), *text = copied(loaded, len);
    (void)version;
    Free(loaded);
    return text;
}

static void *copy(String *from, String *to, const void *text) {
    (void)from, (void)to;
    return copied(text, strlen(text));
}

static int set(Ctx *ctx, String **argv, int argc) {
    if (argc != 4) return ReplyWithError(ctx, "ERR JSON.SET key $ text");
    Key *key = OpenKey(ctx, argv[1], 3);
    if (KeyType(key) != KEYTYPE_EMPTY && ModuleTypeGetType(key) != type) {
        CloseKey(key);
        return ReplyWithError(ctx, wrong_type);
    }
    size_t len;
    const char *text = StringPtrLen(argv[3], &len);
    ModuleTypeSetValue(key, type, copied(text, len));
    CloseKey(key);
    NotifyKeyspaceEvent(ctx, event_type, "json.set", argv[1]);
    ReplicateVerbatim(ctx);
    return ReplyWithSimpleString(ctx, "OK");
}

static int get(Ctx *ctx, String **argv, int argc) {
    if (argc != 2) return ReplyWithError(ctx, "ERR JSON.GET key");
    Key *key = OpenKey(ctx, argv[1], 1);
    if (key == NULL) return ReplyWithNull(ctx);
    const char *text = ModuleTypeGetType(key) == type ? ModuleTypeGetValue(key) : NULL;
    if (text == NULL)
        ReplyWithError(ctx, wrong_type);
    else
        ReplyWithStringBuffer(ctx, text, strlen(text));
    CloseKey(key);
    return 0;
}

/* Of the whole document: the key goes, and there is no event "del". */
static int del(Ctx *ctx, String **argv, int argc) {
    if (argc != 2 && argc != 3) return ReplyWithError(ctx, "ERR JSON.DEL key [$]");
    Key *key = OpenKey(ctx, argv[1], 3);
    int there = ModuleTypeGetType(key) == type;
    if (!there && KeyType(key) != KEYTYPE_EMPTY)
        ReplyWithError(ctx, wrong_type);
    else
        ReplyWithLongLong(ctx, there);
    if (there) DeleteKey(key);
    CloseKey(key);
    if (!there) return 0;
    NotifyKeyspaceEvent(ctx, event_type, "json.del", argv[1]);
    return ReplicateVerbatim(ctx);
}

#define RESOLVE(name) missing = missing || GetApi("RedisModule_" #name, (void *)&name) != 0

int RedisModule_OnLoad(Ctx *ctx, String **argv, int argc) {
    int missing = 0;
    memcpy(&GetApi, (void *)ctx, sizeof(GetApi));
    RESOLVE(SetModuleAttribs), RESOLVE(CreateCommand), RESOLVE(CreateDataType), RESOLVE(OpenKey), RESOLVE(CloseKey);
    RESOLVE(DeleteKey), RESOLVE(ModuleTypeSetValue), RESOLVE(ModuleTypeGetType), RESOLVE(ModuleTypeGetValue);
    RESOLVE(StringPtrLen), RESOLVE(NotifyKeyspaceEvent), RESOLVE(ReplyWithSimpleString), RESOLVE(ReplyWithNull);
    RESOLVE(ReplyWithStringBuffer), RESOLVE(ReplyWithError), RESOLVE(ReplicateVerbatim);
    RESOLVE(ReplyWithLongLong), RESOLVE(KeyType), RESOLVE(SaveStringBuffer), RESOLVE(LoadStringBuffer), RESOLVE(Free);
    if (missing) return 1;
    size_t len;
    if (argc > 0 && strcmp(StringPtrLen(argv[0], &len), "GENERIC") == 0) {
        event_type = NOTIFY_GENERIC;
        wrong_type = "WRONGTYPE Not a JSON document key";
    }
    SetModuleAttribs(ctx, "ReJSON", 1, 1);
    Methods methods = {.version = 3, .load = load, .save = save, .free = free, .copy = copy};
    type = CreateDataType(ctx, "ReJSON-RL", 3, &methods);
    return type == NULL || CreateCommand(ctx, "json.set", set, "write", 1, 1, 1) ||
           CreateCommand(ctx, "json.get", get, "readonly", 1, 1, 1) ||
           CreateCommand(ctx, "json.del", del, "write", 1, 1, 1);
}
