/* Operations: the field '#' of a hash, for functions with that option (docs/design.md, "Operations"). It is taken out
 * at the end of the unit that wrote it, and so before any other sees the hash; what was done is replicated behind the
 * write.
 */
#include "events.h"

#include <stdio.h>
#include <string.h>

#include "lanes/ids.h"
#include "resharding/resharding.h"

#define FIELD "#"
#define ACKNOWLEDGMENT_SECONDS 3600

bool operations_cover(int db, Slice key) {
    for (int i = 0; i < shard.nrules; i++)
        if (shard.rules[i]->operations && shard.rules[i]->db == db && template_matches(&shard.rules[i]->template, key))
            return true;
    return false;
}

bool operation_writes(int type, const char *event) {
    return (type & REDISMODULE_NOTIFY_HASH) && strncmp(event, "hexp", 4) != 0 && strcmp(event, "hpersist") != 0;
}

/* What a reply says that is an error, or none at all, into the log. */
static void check_reply(RedisModuleCtx *ctx, RedisModuleCallReply *reply, const char *what, Slice name) {
    if (reply == NULL || RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ERROR) {
        size_t len = 0;
        const char *said = reply != NULL ? RedisModule_CallReplyStringPtr(reply, &len) : "";
        RedisModule_Log(ctx, "warning", "operation of key %.*s: %s failed: %.*s", name.len > 200 ? 200 : (int)name.len,
                        name.bytes, what, (int)len, said);
    }
    if (reply != NULL) RedisModule_FreeCallReply(reply);
}

/* -- In a slot that is on its way ----------------------------------------------------------------------------------
 * The server takes commands on its keys from clients who are ASKING alone, and none that makes one where it leaves. The
 * API asks nobody. */

static bool is_on_its_way(RedisModuleString *name) {
    return shard.cluster && slots_is_open(key_slot(string_slice(name)));
}

static RedisModuleKey *open_to_write(RedisModuleCtx *ctx, RedisModuleString *name) {
    return RedisModule_OpenKey(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE);
}

static void remove_field(RedisModuleCtx *ctx, RedisModuleString *name) {
    RedisModuleKey *key = open_to_write(ctx, name);
    RedisModule_HashSet(key, REDISMODULE_HASH_CFIELDS, FIELD, REDISMODULE_HASH_DELETE, NULL);
    bool is_gone = RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_EMPTY;
    RedisModule_CloseKey(key);
    RedisModule_Replicate(ctx, "HDEL", "sc", name, FIELD);
    RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_HASH, "hdel", name);
    if (is_gone) RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_GENERIC, "del", name);
}

static void remove_key(RedisModuleCtx *ctx, RedisModuleString *name) {
    RedisModuleKey *key = open_to_write(ctx, name);
    bool was_there = RedisModule_KeyType(key) != REDISMODULE_KEYTYPE_EMPTY;
    if (was_there) RedisModule_DeleteKey(key);
    RedisModule_CloseKey(key);
    if (!was_there) return;
    RedisModule_Replicate(ctx, "DEL", "s", name);
    RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_GENERIC, "del", name);
}

/* False: the key is of another type. */
static bool add_done(RedisModuleCtx *ctx, RedisModuleString *stream) {
    RedisModuleStreamID id;
    RedisModuleString *pair[] = {RedisModule_CreateString(NULL, "status", 6),
                                 RedisModule_CreateString(NULL, "done", 4)};
    RedisModuleKey *key = open_to_write(ctx, stream);
    bool added = RedisModule_StreamAdd(key, REDISMODULE_STREAM_ADD_AUTOID, &id, pair, 1) == REDISMODULE_OK;
    if (added) RedisModule_SetExpire(key, ACKNOWLEDGMENT_SECONDS * 1000LL);
    RedisModule_CloseKey(key);
    if (added) {
        RedisModuleString *text = stream_id_string(id);
        RedisModule_Replicate(ctx, "XADD", "ssv", stream, text, pair, (size_t)2);
        RedisModule_Replicate(ctx, "EXPIRE", "sl", stream, (long long)ACKNOWLEDGMENT_SECONDS);
        RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_STREAM, "xadd", stream);
        RedisModule_FreeString(NULL, text);
    }
    for (int i = 0; i < 2; i++) RedisModule_FreeString(NULL, pair[i]);
    return added;
}

/* -- What an operation does ---------------------------------------------------------------------------------------- */

Operation operation_take(RedisModuleCtx *ctx, int db, RedisModuleString *name) {
    Operation operation = {0};
    RedisModule_SelectDb(ctx, db);
    RedisModuleKey *key = RedisModule_OpenKey(ctx, name, REDISMODULE_READ);
    if (key == NULL) return operation;
    if (RedisModule_KeyType(key) == REDISMODULE_KEYTYPE_HASH)
        RedisModule_HashGet(key, REDISMODULE_HASH_CFIELDS, FIELD, &operation.text, NULL);
    RedisModule_CloseKey(key);
    if (operation.text == NULL) return operation;
    Slice text = string_slice(operation.text);
    operation.kind = text.len > 0 && memchr("=+-~", text.bytes[0], 4) != NULL ? text.bytes[0] : '?';
    shard.operating = true;
    if (is_on_its_way(name))
        remove_field(ctx, name);
    else
        check_reply(ctx, RedisModule_Call(ctx, "HDEL", "!sc", name, FIELD), "HDEL", string_slice(name));
    shard.operating = false;
    return operation;
}

void operation_free(Operation *operation) {
    if (operation->text != NULL) RedisModule_FreeString(NULL, operation->text);
    operation->text = NULL;
}

/* What followed the operation; all of it where there is none, for the dead letter. */
Slice operation_ticket(const Operation *operation) {
    if (operation->text == NULL) return (Slice){"", 0};
    Slice text = string_slice(operation->text);
    if (text.len == 0) return text;
    return operation->kind == '?' ? text : (Slice){text.bytes + 1, text.len - 1};
}

bool operation_deletes(const Operation *operation) { return operation->kind == '-' || operation->kind == '~'; }

void operation_delete(RedisModuleCtx *ctx, int db, RedisModuleString *name) {
    RedisModule_SelectDb(ctx, db);
    shard.operating = true;
    if (is_on_its_way(name))
        remove_key(ctx, name);
    else
        check_reply(ctx, RedisModule_Call(ctx, "DEL", "!s", name), "DEL", string_slice(name));
    shard.operating = false;
}

/* The smallest number whose slot is that of the key (gears/applying/acknowledgments.py has the other half). */
static int number_of_slot(Slice key) {
    static int numbers[16384]; /* one more than the number, where it is known; the largest is 109757 */
    int *wanted = &numbers[key_slot(key)];
    for (int number = 0; *wanted == 0; number++) {
        char text[16];
        int len = snprintf(text, sizeof(text), "%d", number);
        int *found = &numbers[key_slot((Slice){text, (size_t)len})];
        if (*found == 0) *found = number + 1;
    }
    return *wanted - 1;
}

/* In the slot of the key: a hash tag of its own comes first. One with a closing brace and without a tag is no tag
 * itself, so another one of its slot stands there. */
static void add_tag(Text *stream, Slice key) {
    Slice tag = hash_tag(key);
    if (tag.len > 0) {
        text_add(stream, "{", 1);
        text_add(stream, tag.bytes, tag.len);
        text_add(stream, "}", 1);
    } else if (key.len > 0 && memchr(key.bytes, '}', key.len) != NULL) {
        text_printf(stream, "{%d}", number_of_slot(key));
    }
}

static void add_done_by_command(RedisModuleCtx *ctx, RedisModuleString *stream, Slice key) {
    check_reply(ctx, RedisModule_Call(ctx, "XADD", "!sccc", stream, "*", "status", "done"), "XADD", key);
    check_reply(ctx, RedisModule_Call(ctx, "EXPIRE", "!sl", stream, (long long)ACKNOWLEDGMENT_SECONDS), "EXPIRE", key);
}

void operation_acknowledge(RedisModuleCtx *ctx, int db, RedisModuleString *name, Slice ticket) {
    if (ticket.len == 0) return;
    Slice key = string_slice(name);
    Text stream = {0};
    add_tag(&stream, key);
    text_add(&stream, "{", 1);
    text_add(&stream, key.bytes, key.len);
    text_add(&stream, "}", 1);
    text_add(&stream, ticket.bytes, ticket.len);
    RedisModuleString *string = RedisModule_CreateString(NULL, stream.bytes, stream.len);
    text_free(&stream);
    RedisModule_SelectDb(ctx, db);
    shard.operating = true;
    if (!is_on_its_way(name))
        add_done_by_command(ctx, string, key);
    else if (!add_done(ctx, string))
        check_reply(ctx, NULL, "XADD", key);
    shard.operating = false;
    RedisModule_FreeString(NULL, string);
}
