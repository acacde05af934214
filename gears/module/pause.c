/* Pausing (docs/design.md, "Pausing"): capture goes on, and nothing of a deployment goes to SQL until it is resumed. */
#define _GNU_SOURCE /* gmtime_r */
#include "reads.h"
#include "writes.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PREFIX "nothing was written: "

void pause_clear(Deployment *deployment) {
    deployment->paused_ms = 0;
    text_free(&deployment->paused_by);
    text_free(&deployment->paused_why);
    text_free(&deployment->paused_sentence);
}

/* What stands in the way of a line, or of an error reply, becomes a blank. */
void pause_add_line(Text *text, Slice slice) {
    for (size_t i = 0; i < slice.len; i++) {
        char byte = slice.bytes[i];
        text_add(text, (unsigned char)byte < ' ' || byte == 127 ? " " : &byte, 1);
    }
}

void pause_add_since(Text *text, long long ms, const Text *by, const Text *why) {
    char since[32];
    time_t seconds = (time_t)(ms / 1000);
    struct tm broken;
    gmtime_r(&seconds, &broken);
    strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", &broken);
    text_printf(text, "since %s", since);
    if (by->len > 0) text_printf(text, " by %s", by->bytes);
    if (why->len > 0) text_printf(text, ": %s", why->bytes);
}

/* What clients are told. */
static void write_sentence(Deployment *deployment) {
    Text *text = &deployment->paused_sentence;
    text_printf(text, PREFIX "the deployment %s is paused ", deployment->name);
    pause_add_since(text, deployment->paused_ms, &deployment->paused_by, &deployment->paused_why);
}

static void set(Deployment *deployment, long long ms, Slice who, Slice why) {
    pause_clear(deployment);
    deployment->paused_ms = ms;
    pause_add_line(&deployment->paused_by, who);
    pause_add_line(&deployment->paused_why, why);
    write_sentence(deployment);
}

void pause_inherit(Deployment *deployment, Deployment *old) {
    deployment->paused_ms = old->paused_ms;
    deployment->paused_by = old->paused_by;
    deployment->paused_why = old->paused_why;
    deployment->paused_sentence = old->paused_sentence;
    old->paused_by = old->paused_why = old->paused_sentence = (Text){0};
}

/* "<ms> <bytes of who> <who><why>", as the registry has it. */
RedisModuleString *pause_text(const Deployment *deployment) {
    Text text = {0};
    text_printf(&text, "%lld %zu ", deployment->paused_ms, deployment->paused_by.len);
    text_add(&text, deployment->paused_by.bytes, deployment->paused_by.len);
    text_add(&text, deployment->paused_why.bytes, deployment->paused_why.len);
    RedisModuleString *string = RedisModule_CreateString(NULL, text.bytes, text.len);
    text_free(&text);
    return string;
}

void pause_load(Slice name, Slice value) {
    Deployment *deployment = registry_find(name);
    char *text = slice_copy(value), *at = text;
    long long ms = strtoll(at, &at, 10), who = strtoll(at, &at, 10);
    long long left = (long long)value.len - (at - text) - 1;
    if (deployment != NULL && ms > 0 && who >= 0 && who <= left && *at == ' ')
        set(deployment, ms, (Slice){at + 1, (size_t)who}, (Slice){at + 1 + who, (size_t)(left - who)});
    RedisModule_Free(text);
}

const char *pause_of_write(const Deployment *deployment) {
    return deployment->paused_ms > 0 ? deployment->paused_sentence.bytes : NULL;
}

const char *pause_of_read(const Deployment *deployment) {
    return deployment->paused_ms > 0 ? deployment->paused_sentence.bytes + strlen(PREFIX) : NULL;
}

void pause_status(Text *out, const Deployment *deployment) {
    if (deployment->paused_ms == 0) return;
    text_printf(out, "      \"paused\": {\"since_ms\": %lld, \"by\": ", deployment->paused_ms);
    text_json(out, deployment->paused_by.bytes, deployment->paused_by.len);
    text_printf(out, ", \"reason\": ");
    text_json(out, deployment->paused_why.bytes, deployment->paused_why.len);
    text_printf(out, "},\n");
}

/* Clients whose writes no worker has taken, and those that wait for a row, are told now. */
static void tell_clients(RedisModuleCtx *ctx, Deployment *deployment) {
    misses_fail(deployment, pause_of_read(deployment));
    for (Write *write = writes_first, *next; write != NULL; write = next) {
        next = write->next;
        if (write->stage == LOGGED && write_deployment(write) == deployment)
            write_finish(write, write_error(pause_of_write(deployment), (Slice){"", 0}));
    }
    through_start_ready(ctx);
}

Deployment *pause_find(RedisModuleCtx *ctx, RedisModuleString *name) {
    Deployment *deployment = shard.primary ? registry_find(string_slice(name)) : NULL;
    if (deployment == NULL)
        RedisModule_ReplyWithError(ctx, shard.primary ? "ERR there is no deployment of that name on this server"
                                                      : "ERR this server is a replica; ask its primary");
    return deployment;
}

static bool names_functions(RedisModuleString **argv, int argc, int at) {
    return argc > at + 1 && slice_is(string_slice(argv[at]), "function");
}

static int reply_done(RedisModuleCtx *ctx, const char *error) {
    return error != NULL ? RedisModule_ReplyWithError(ctx, error) : RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* GEARSYNC.PAUSE name [who [why [FUNCTION function…]]]: who pauses what is paused already says so anew; since when
 * stays. */
int pause_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    bool functions = names_functions(argv, argc, 4);
    if (argc < 2 || (argc > 4 && !functions)) return RedisModule_WrongArity(ctx);
    Deployment *deployment = pause_find(ctx, argv[1]);
    if (deployment == NULL) return REDISMODULE_OK;
    Slice nothing = {"", 0}, who = argc > 2 ? string_slice(argv[2]) : nothing;
    Slice why = argc > 3 ? string_slice(argv[3]) : nothing;
    if (deployment->draining)
        return RedisModule_ReplyWithError(ctx, "ERR the deployment is being undeployed, and ends when it is empty");
    if (who.len + why.len > PAUSE_MOST_BYTES)
        return RedisModule_ReplyWithError(ctx, "ERR who and why must have at most 1000 bytes together");
    if (functions) return reply_done(ctx, hold_pause(ctx, deployment, who, why, argv + 5, argc - 5));
    long long since = deployment->paused_ms > 0 ? deployment->paused_ms : RedisModule_Milliseconds();
    set(deployment, since, who, why);
    registry_write(ctx, true);
    tell_clients(ctx, deployment);
    RedisModule_Log(ctx, "notice", "deployment %s is paused", deployment->name);
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}

/* GEARSYNC.RESUME name [FUNCTION function…]: also what is not paused. */
int resume_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    bool functions = names_functions(argv, argc, 2);
    if (argc != 2 && !functions) return RedisModule_WrongArity(ctx);
    Deployment *deployment = pause_find(ctx, argv[1]);
    if (deployment == NULL) return REDISMODULE_OK;
    if (functions) return reply_done(ctx, hold_resume(ctx, deployment, argv + 3, argc - 3));
    if (deployment->paused_ms > 0) {
        pause_clear(deployment);
        registry_write(ctx, true);
        RedisModule_Log(ctx, "notice", "deployment %s goes on", deployment->name);
    }
    return RedisModule_ReplyWithSimpleString(ctx, "OK");
}
