/* What a write will do to a hash, told before it runs: the state that SQL has to commit first, and the command that
 * brings Redis there whatever came in between. Nothing is changed here.
 *
 * What a command refuses (a wrong number of arguments, a value that is no number, a key of another type), and what
 * changes no field, is no effect: the command itself then says so. */
#include "effects.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "changes/image.h"
#include "clients/inner.h"
#include "cluster/cluster.h"

#define FEW 32 /* names that are looked through as quickly as they are put into a dictionary */

static const struct {
    const char *name;
    WriteKind kind;
} KINDS[] = {{"hset", SET_FIELDS},      {"hmset", SET_FIELDS},          {"hsetnx", SET_NEW_FIELD},
             {"hincrby", ADD_INTEGER},  {"hincrbyfloat", ADD_FLOAT},    {"hdel", REMOVE_FIELDS},
             {"del", DELETE_KEYS},      {"unlink", DELETE_KEYS},        {"expire", EXPIRE_IN_SECONDS},
             {"pexpire", EXPIRE_IN_MS}, {"expireat", EXPIRE_AT_SECOND}, {"pexpireat", EXPIRE_AT_MS}};

WriteKind effect_kind(Slice name) {
    for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++)
        if (slice_is(name, KINDS[i].name)) return KINDS[i].kind;
    return OTHER_WRITE;
}

static void add_word(Text *command, Slice word) {
    text_printf(command, "$%zu\r\n", word.len);
    text_add(command, word.bytes, word.len);
    text_add(command, "\r\n", 2);
}

static void start_command(Text *command, const char *name, int argc) {
    text_printf(command, "*%d\r\n", argc);
    add_word(command, (Slice){name, strlen(name)});
}

static void add_change(Effect *effect, RedisModuleString *field, RedisModuleString *value) {
    if (effect->count == effect->room) {
        effect->room = effect->room * 2 + 16;
        effect->changes = RedisModule_Realloc(effect->changes, sizeof(*effect->changes) * (size_t)effect->room);
    }
    effect->changes[effect->count++] = (FieldChange){field, value};
}

void effect_free(Effect *effect) {
    for (int i = 0; i < effect->count; i++)
        if (effect->changes[i].value != NULL) RedisModule_FreeString(NULL, effect->changes[i].value);
    if (effect->changes != NULL) RedisModule_Free(effect->changes);
    text_free(&effect->command);
    text_free(&effect->reply);
    memset(effect, 0, sizeof(*effect));
}

static RedisModuleString *hash_get(RedisModuleKey *key, RedisModuleString *field) {
    RedisModuleString *value = NULL;
    if (key != NULL) RedisModule_HashGet(key, REDISMODULE_HASH_NONE, field, &value, NULL);
    return value;
}

/* The effect of fields that are set, as HSET says it. */
static void sets(Effect *effect, RedisModuleString *key) {
    effect->op = 'U';
    start_command(&effect->command, "HSET", 2 + effect->count * 2);
    add_word(&effect->command, string_slice(key));
    for (int i = 0; i < effect->count; i++) {
        add_word(&effect->command, string_slice(effect->changes[i].field));
        add_word(&effect->command, string_slice(effect->changes[i].value));
    }
}

static bool has_field(RedisModuleKey *key, RedisModuleString *field) {
    int exists = 0;
    if (key != NULL) RedisModule_HashGet(key, REDISMODULE_HASH_EXISTS, field, &exists, NULL);
    return exists != 0;
}

static RedisModuleDict *names_for(int count) { return count > FEW ? RedisModule_CreateDict(NULL) : NULL; }

static void names_free(RedisModuleDict *names) {
    if (names != NULL) RedisModule_FreeDict(NULL, names);
}

/* names: of those that this was asked of before; NULL: they are few. */
static bool is_named_before(RedisModuleDict *names, RedisModuleString **argv, int at, int step) {
    Slice name = string_slice(argv[at]);
    if (names != NULL) return RedisModule_DictSetC(names, name.bytes, name.len, NULL) != REDISMODULE_OK;
    for (int i = 2; i < at; i += step)
        if (slices_equal(string_slice(argv[i]), name)) return true;
    return false;
}

static void of_set(Effect *effect, RedisModuleKey *key, RedisModuleString **argv, int argc) {
    int added = 0;
    if (argc < 4 || argc % 2 != 0) return;
    RedisModuleDict *names = names_for(argc / 2);
    for (int i = 2; i < argc; i += 2) {
        add_change(effect, argv[i], RedisModule_HoldString(NULL, argv[i + 1]));
        added += !has_field(key, argv[i]) && !is_named_before(names, argv, i, 2);
    }
    names_free(names);
    sets(effect, argv[1]);
    if (slice_is(string_slice(argv[0]), "hmset"))
        text_printf(&effect->reply, "+OK\r\n");
    else
        text_printf(&effect->reply, ":%d\r\n", added);
}

static void of_set_new(Effect *effect, RedisModuleKey *key, RedisModuleString **argv, int argc) {
    if (argc != 4) return;
    if (!has_field(key, argv[2])) of_set(effect, key, argv, argc);
}

static void of_sum(Effect *effect, RedisModuleString **argv, RedisModuleString *sum, bool is_text) {
    add_change(effect, argv[2], sum);
    sets(effect, argv[1]);
    if (is_text)
        add_word(&effect->reply, string_slice(sum));
    else
        text_printf(&effect->reply, ":%s\r\n", string_slice(sum).bytes);
}

static void of_add_integer(Effect *effect, RedisModuleKey *key, RedisModuleString **argv, int argc) {
    long long present = 0, more, sum;
    if (argc != 4 || RedisModule_StringToLongLong(argv[3], &more) != REDISMODULE_OK) return;
    RedisModuleString *value = hash_get(key, argv[2]);
    bool sound = value == NULL || RedisModule_StringToLongLong(value, &present) == REDISMODULE_OK;
    if (value != NULL) RedisModule_FreeString(NULL, value);
    if (sound && !__builtin_add_overflow(present, more, &sum))
        of_sum(effect, argv, RedisModule_CreateStringFromLongLong(NULL, sum), false);
}

static void of_add_float(Effect *effect, RedisModuleKey *key, RedisModuleString **argv, int argc) {
    long double present = 0, more;
    if (argc != 4 || RedisModule_StringToLongDouble(argv[3], &more) != REDISMODULE_OK) return;
    RedisModuleString *value = hash_get(key, argv[2]);
    bool sound = value == NULL || RedisModule_StringToLongDouble(value, &present) == REDISMODULE_OK;
    if (value != NULL) RedisModule_FreeString(NULL, value);
    long double sum = present + more;
    if (sound && !isnan(sum) && !isinf(sum))
        of_sum(effect, argv, RedisModule_CreateStringFromLongDouble(NULL, sum, 1), true);
}

static void deletes(Effect *effect, RedisModuleString **keys, int count) {
    effect->op = 'D';
    start_command(&effect->command, "DEL", 1 + count);
    for (int i = 0; i < count; i++) add_word(&effect->command, string_slice(keys[i]));
}

static void of_remove(Effect *effect, RedisModuleKey *key, RedisModuleString **argv, int argc) {
    if (argc < 3 || key == NULL) return;
    RedisModuleDict *names = names_for(argc);
    for (int i = 2; i < argc; i++)
        if (has_field(key, argv[i]) && !is_named_before(names, argv, i, 1)) add_change(effect, argv[i], NULL);
    names_free(names);
    if (effect->count == 0) return;
    text_printf(&effect->reply, ":%d\r\n", effect->count);
    if ((size_t)effect->count == RedisModule_ValueLength(key)) {
        deletes(effect, argv + 1, 1);
        return;
    }
    effect->op = 'R';
    start_command(&effect->command, "HDEL", 2 + effect->count);
    add_word(&effect->command, string_slice(argv[1]));
    for (int i = 0; i < effect->count; i++) add_word(&effect->command, string_slice(effect->changes[i].field));
}

/* Whether NX, XX, GT or LT let a time that has passed be set. The server refuses what is none of them. */
static bool condition_holds(RedisModuleKey *key, Slice word) {
    bool expires = RedisModule_GetExpire(key) != REDISMODULE_NO_EXPIRE;
    if (slice_is(word, "nx")) return !expires;
    if (slice_is(word, "xx")) return expires;
    return slice_is(word, "lt"); /* what has passed is before any end, and never after one */
}

/* Whether all conditions hold, and the server takes them: NX stands alone, and before 7.0 there are none. */
static bool conditions_hold(RedisModuleKey *key, RedisModuleString **argv, int argc) {
    bool nx = false, other = false;
    for (int i = 3; i < argc; i++) {
        Slice word = string_slice(argv[i]);
        if (!condition_holds(key, word)) return false;
        *(slice_is(word, "nx") ? &nx : &other) = true;
    }
    return argc == 3 || (!(nx && other) && shard.server_version >= 0x070000);
}

/* A time that has passed deletes the key; any other changes no field. */
static void of_expire(Effect *effect, WriteKind kind, RedisModuleKey *key, RedisModuleString **argv, int argc) {
    long long time;
    if (argc < 3 || key == NULL || RedisModule_StringToLongLong(argv[2], &time) != REDISMODULE_OK) return;
    long long now = RedisModule_Milliseconds();
    bool seconds = kind == EXPIRE_IN_SECONDS || kind == EXPIRE_AT_SECOND;
    /* The server refuses what are too many milliseconds. */
    if ((seconds && time < LLONG_MIN / 1000) || !conditions_hold(key, argv, argc)) return;
    bool at = kind == EXPIRE_AT_SECOND || kind == EXPIRE_AT_MS;
    if (at ? time <= (seconds ? now / 1000 : now) : time <= 0) deletes(effect, argv + 1, 1);
}

Effect effect_of(RedisModuleCtx *ctx, int db, RedisModuleString **argv, int argc) {
    Effect effect = {0};
    WriteKind kind = effect_kind(string_slice(argv[0]));
    if (kind == DELETE_KEYS) {
        /* Also of keys that are not there: their rows may be. */
        if (argc > 1) deletes(&effect, argv + 1, argc - 1);
        return effect;
    }
    if (argc < 2) return effect;
    RedisModule_SelectDb(ctx, db);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, argv[1], REDISMODULE_READ);
    int type = key != NULL ? RedisModule_KeyType(key) : REDISMODULE_KEYTYPE_EMPTY;
    if (type == REDISMODULE_KEYTYPE_EMPTY || type == REDISMODULE_KEYTYPE_HASH) {
        effect.existed = key != NULL;
        if (kind == SET_FIELDS) of_set(&effect, key, argv, argc);
        if (kind == SET_NEW_FIELD) of_set_new(&effect, key, argv, argc);
        if (kind == ADD_INTEGER) of_add_integer(&effect, key, argv, argc);
        if (kind == ADD_FLOAT) of_add_float(&effect, key, argv, argc);
        if (kind == REMOVE_FIELDS) of_remove(&effect, key, argv, argc);
        if (kind >= EXPIRE_IN_SECONDS && kind <= EXPIRE_AT_MS) of_expire(&effect, kind, key, argv, argc);
    }
    if (key != NULL) RedisModule_CloseKey(key);
    return effect;
}

/* -- Doing it ------------------------------------------------------------------------------------------------------ */

/* Reads "<mark><number>" and the end of its line at *at; -1: it is not there. */
static long long read_number(Slice text, size_t *at, char mark) {
    long long number = 0;
    if (*at >= text.len || text.bytes[*at] != mark) return -1;
    for ((*at)++; *at < text.len && text.bytes[*at] >= '0' && text.bytes[*at] <= '9' && number < (1LL << 40); (*at)++)
        number = number * 10 + (text.bytes[*at] - '0');
    *at += 2;
    return number;
}

/* By the API, which asks nobody whose the slot is; the server would send a command that makes a key to the shard that
 * takes the slot. */
static bool make_hash(RedisModuleCtx *ctx, RedisModuleString **argv, size_t argc) {
    RedisModuleKey *key = RedisModule_OpenKey(ctx, argv[1], REDISMODULE_READ | REDISMODULE_WRITE);
    bool absent = RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_EMPTY;
    for (size_t i = 2; absent && i + 1 < argc; i += 2)
        RedisModule_HashSet(key, REDISMODULE_HASH_NONE, argv[i], argv[i + 1], NULL);
    RedisModule_CloseKey(key);
    if (!absent) return false;
    RedisModule_Replicate(ctx, "HSET", "v", argv + 1, argc - 1);
    RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_HASH, "hset", argv[1]);
    return true;
}

bool effect_run(RedisModuleCtx *ctx, Slice text) {
    bool lost = text.len > 0 && text.bytes[0] == '!';
    if (lost) text = (Slice){text.bytes + 1, text.len - 1};
    char *end, *copy = slice_copy(text);
    long db = strtol(copy, &end, 10);
    size_t at = (size_t)(end - copy) + 1;
    RedisModule_Free(copy);
    long long argc = read_number(text, &at, '*'), count = 0;
    if (argc < 2 || argc > (long long)text.len) return false;
    RedisModuleString **argv = RedisModule_Calloc((size_t)argc, sizeof(*argv));
    for (; count < argc; count++) {
        long long len = read_number(text, &at, '$');
        if (len < 0 || at + (size_t)len + 2 > text.len) break;
        argv[count] = RedisModule_CreateString(NULL, text.bytes + at, (size_t)len);
        at += (size_t)len + 2;
    }
    RedisModuleCallReply *reply = NULL;
    errno = 0;
    if (count == argc && RedisModule_SelectDb(ctx, (int)db) == REDISMODULE_OK)
        reply = RedisModule_Call(ctx, string_slice(argv[0]).bytes, "!v", argv + 1, (size_t)(argc - 1));
    bool moved = inner_has_moved(reply, errno);
    bool done = reply != NULL && RedisModule_CallReplyType(reply) != REDISMODULE_REPLY_ERROR;
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    if (moved && lost && effect_kind(string_slice(argv[0])) == SET_FIELDS &&
        cluster_slot_state(ctx, key_slot(string_slice(argv[1]))) == SLOT_LEAVING)
        done = make_hash(ctx, argv, (size_t)argc);
    for (long long i = 0; i < count; i++) RedisModule_FreeString(NULL, argv[i]);
    RedisModule_Free(argv);
    return done;
}

/* -- The image after it ----------------------------------------------------------------------------------------- */

static void note_place(RedisModuleDict *places, const Image *image, size_t at) {
    Slice name = string_slice(image->argv[at]);
    RedisModule_DictSetC(places, name.bytes, name.len, (void *)(uintptr_t)(at + 1));
}

/* Where the image has each field; NULL: it is looked through for so few changes. */
static RedisModuleDict *places_for(const Image *image, int changes) {
    RedisModuleDict *places = names_for(changes);
    for (size_t at = 0; places != NULL && at < image->count; at += 2) note_place(places, image, at);
    return places;
}

/* The end of the image: it has no such field. */
static size_t place_of(RedisModuleDict *places, const Image *image, RedisModuleString *field) {
    Slice name = string_slice(field);
    if (places != NULL) {
        uintptr_t found = (uintptr_t)RedisModule_DictGetC(places, name.bytes, name.len, NULL);
        return found > 0 ? found - 1 : image->count;
    }
    for (size_t at = 0; at < image->count; at += 2)
        if (image->argv[at] != NULL && strings_equal(image->argv[at], field)) return at;
    return image->count;
}

/* Leaves a gap. */
static void drop(Image *image, size_t at) {
    if (image->fields_owned) RedisModule_FreeString(NULL, image->argv[at]);
    RedisModule_FreeString(NULL, image->argv[at + 1]);
    image->argv[at] = NULL;
}

static void close_gaps(Image *image) {
    size_t to = 0;
    for (size_t at = 0; at < image->count; at += 2) {
        if (image->argv[at] == NULL) continue;
        image->argv[to++] = image->argv[at];
        image->argv[to++] = image->argv[at + 1];
    }
    image->count = to;
}

/* Of more rules than are told apart, the image is the whole hash. */
static bool is_mapped(RedisModuleString *field, Rule **rules, int count) {
    if (count > MAX_FIXED) return true;
    for (int i = 0; i < count; i++) {
        if (rules[i]->nfields < 0) return true;
        for (int j = 0; j < rules[i]->nfields; j++)
            if (strings_equal(rules[i]->fields[j], field)) return true;
    }
    return false;
}

void effect_image(RedisModuleCtx *ctx, const Effect *effect, int db, RedisModuleString *name, Rule **rules, int count,
                  Image *image) {
    RedisModule_SelectDb(ctx, db);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    if (key != NULL && RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_HASH) image_read(image, key, rules, count);
    if (key != NULL) RedisModule_CloseKey(key);
    RedisModuleDict *places = places_for(image, effect->count);
    for (int i = 0; i < effect->count; i++) {
        FieldChange change = effect->changes[i];
        size_t at = place_of(places, image, change.field);
        if (at < image->count && change.value == NULL) {
            drop(image, at);
        } else if (at < image->count) {
            RedisModule_FreeString(NULL, image->argv[at + 1]);
            image->argv[at + 1] = RedisModule_HoldString(NULL, change.value);
        } else if (change.value != NULL && is_mapped(change.field, rules, count)) {
            if (image->fields_owned) RedisModule_HoldString(NULL, change.field);
            image_add(image, change.field, RedisModule_HoldString(NULL, change.value));
            if (places != NULL) note_place(places, image, at);
        }
    }
    names_free(places);
    close_gaps(image);
}
