/* The writes of clients that wait: what they are, how they end, and what happens to them from outside. */
#include "writes.h"
#include "effects.h"
#include "through.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clients/inner.h"
#include "clients/turns.h"
#include "reads/reads.h"
#include "workers/workers.h"

Write *writes_first;
static Write *writes_last;
int writes_count;
bool writes_any_ready;

static void stop_timer(void);

/* -- The list of writes -------------------------------------------------------------------------------------------- */

void write_link_last(Write *write) {
    write->next = NULL;
    write->previous = writes_last;
    *(writes_last != NULL ? &writes_last->next : &writes_first) = write;
    writes_last = write;
}

void write_take_out(Write *write) {
    *(write->previous != NULL ? &write->previous->next : &writes_first) = write->next;
    *(write->next != NULL ? &write->next->previous : &writes_last) = write->previous;
}

bool write_is_of(const Write *write, Slice stream) {
    return write->stream != NULL && slices_equal(string_slice(write->stream), stream);
}

static void on_turn(void *write) {
    (void)write;
    writes_any_ready = true;
}

void write_free(Write *write) {
    if (write->reader != NULL) reads_want_no_more(write->reader);
    turns_leave(&write->turns, on_turn);
    for (int i = 0; i < write->argc; i++) RedisModule_FreeString(NULL, write->argv[i]);
    RedisModule_Free(write->argv);
    if (write->stream != NULL) RedisModule_FreeString(NULL, write->stream);
    text_free(&write->reply);
    RedisModule_Free(write);
    /* A server does not unload a module that has a timer. */
    if (--writes_count == 0) stop_timer();
}

/* Ends a write; its client gets the reply, which is freed. Who was told an error, or has left, only is let go. */
void write_finish(Write *write, Text reply) {
    Text *copy = NULL;
    if (!write->told && write->stage != CANCELLED && reply.len > 0) {
        copy = RedisModule_Alloc(sizeof(*copy));
        *copy = reply;
    } else {
        text_free(&reply);
    }
    write_take_out(write);
    if (write->client != NULL) RedisModule_UnblockClient(write->client, copy);
    write_free(write);
}

Text write_error(const char *sentence, Slice detail) {
    Text text = {0};
    text_printf(&text, "-THROUGH %s", sentence);
    text_add(&text, detail.bytes, detail.len);
    return text;
}

/* -- Running a command, and passing its reply on ------------------------------------------------------------------- */

Text write_run_as_is(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, bool *moved) {
    Text text = {0};
    const char *format = shard.server_version < 0x070000 ? "!v" : "!Ev";
    errno = 0;
    RedisModuleCallReply *reply =
        RedisModule_Call(ctx, string_slice(argv[0]).bytes, format, argv + 1, (size_t)(argc - 1));
    *moved = inner_has_moved(reply, errno);
    if (*moved) {
        if (reply != NULL) RedisModule_FreeCallReply(reply);
        return opening_error();
    }
    if (reply == NULL) {
        text_printf(&text, "-ERR the server does not run this command here: %s", strerror(errno));
        return text;
    }
    size_t len = 0;
    const char *proto = RedisModule_CallReplyProto(reply, &len);
    text_add(&text, proto, len);
    RedisModule_FreeCallReply(reply);
    return text;
}

Text write_run(RedisModuleCtx *ctx, int db, RedisModuleString **argv, int argc, bool *moved) {
    RedisModule_SelectDb(ctx, db);
    Text reply = write_run_as_is(ctx, argv, argc, moved);
    if (!*moved) return reply;
    text_free(&reply);
    return opening_run(ctx, argv, argc, moved);
}

/* The replies of the commands that are held: a number, a status, a string, an error. */
static int pass_on(RedisModuleCtx *ctx, const Text *reply) {
    Text line = {0};
    size_t end = 1;
    while (end < reply->len && reply->bytes[end] != '\r') end++;
    text_add(&line, reply->bytes + 1, end - 1);
    if (reply->bytes[0] == ':')
        RedisModule_ReplyWithLongLong(ctx, strtoll(line.bytes, NULL, 10));
    else if (reply->bytes[0] == '$')
        RedisModule_ReplyWithStringBuffer(ctx, reply->bytes + end + 2, (size_t)strtoll(line.bytes, NULL, 10));
    else if (reply->bytes[0] == '+')
        RedisModule_ReplyWithSimpleString(ctx, line.bytes);
    else
        RedisModule_ReplyWithError(ctx, line.bytes);
    text_free(&line);
    return REDISMODULE_OK;
}

int write_on_unblocked(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv, (void)argc;
    const Text *reply = RedisModule_GetBlockedClientPrivateData(ctx);
    return pass_on(ctx, reply);
}

void write_free_reply(RedisModuleCtx *ctx, void *data) {
    (void)ctx;
    Text *reply = data;
    text_free(reply);
    RedisModule_Free(reply);
}

/* The keys that the command writes; they stand in a row. */
RedisModuleString **write_keys(const Write *write, int *count) {
    *count = effect_kind(string_slice(write->argv[0])) == DELETE_KEYS ? write->argc - 1 : 1;
    return write->argv + 1;
}

bool key_is_among(RedisModuleString **keys, int count, RedisModuleString *key) {
    for (int i = 0; i < count; i++)
        if (strings_equal(keys[i], key)) return true;
    return false;
}

/* -- Clients that wait no longer ----------------------------------------------------------------------------------- */

static Write *write_of(const RedisModuleBlockedClient *client) {
    Write *write = writes_first;
    while (write != NULL && write->client != client) write = write->next;
    return write;
}

static uint64_t leaving;

void through_see_leaving(uint64_t client) { leaving = client; }

void write_on_disconnect(RedisModuleCtx *ctx, RedisModuleBlockedClient *client) {
    Write *write = write_of(client);
    if (write == NULL) return;
    /* What the worker has goes its way, whoever is there to hear of it. But who is let go by the server itself (CLIENT
     * UNBLOCK … ERROR, a cluster that is down) is told an error by it: as if nothing were written. */
    if (write->stage != TAKEN)
        write->stage = CANCELLED;
    else
        write->told = RedisModule_GetClientId(ctx) != leaving;
}

/* NULL: it has not been logged, or the deployment has gone. */
Deployment *write_deployment(const Write *write) {
    Deployment *deployment = NULL;
    if (write->stream != NULL) shard_find_lane(string_slice(write->stream), &deployment);
    return deployment;
}

static Text timeout_text(const Write *write) {
    Text text = {0};
    text_printf(&text, "-THROUGH the database has not committed this within %lld ms, so %s", write->timeout_ms,
                write->stage == TAKEN ? "it is given up: should it be committed yet, its row is taken back"
                                      : "nothing was written");
    return text;
}

int write_on_unblock_asked(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv, (void)argc;
    Write *write = write_of(RedisModule_GetBlockedClientHandle(ctx));
    if (write == NULL) return RedisModule_ReplyWithError(ctx, "THROUGH unblocked by CLIENT UNBLOCK");
    Text text = timeout_text(write);
    write->told = true;
    if (write->stage != TAKEN) write->stage = CANCELLED;
    RedisModule_ReplyWithError(ctx, text.bytes + 1);
    text_free(&text);
    return REDISMODULE_OK;
}

/* -- Time -------------------------------------------------------------------------------------------------------------
 * The server has timeouts of its own for blocked clients, which are not used: a client whose time is over in the very
 * moment in which it is unblocked would get no reply at all. */

static RedisModuleTimerID timer;
static long long timer_ms; /* the deadline that it runs for; 0: it does not */

static void stop_timer(void) {
    if (timer_ms != 0) RedisModule_StopTimer(shard.detached, timer, NULL);
    timer_ms = 0;
}

static void give_up(Write *write) {
    Text reply = timeout_text(write), *copy;
    Deployment *deployment = write_deployment(write);
    if (deployment != NULL) deployment->through.timed_out++;
    if (write->stage != TAKEN) {
        write_finish(write, reply);
        return;
    }
    copy = RedisModule_Alloc(sizeof(*copy));
    *copy = reply;
    RedisModule_UnblockClient(write->client, copy);
    write->client = NULL;
    write->told = true;
}

static void on_timer(RedisModuleCtx *ctx, void *data);

static void run_timer(RedisModuleCtx *ctx, long long deadline_ms) {
    long long left = deadline_ms - workers_clock_ms();
    timer = RedisModule_CreateTimer(ctx, left > 0 ? left : 1, on_timer, NULL);
    timer_ms = deadline_ms;
}

static void on_timer(RedisModuleCtx *ctx, void *data) {
    (void)data;
    long long now = workers_clock_ms(), first = 0;
    timer_ms = 0;
    for (Write *write = writes_first, *next; write != NULL; write = next) {
        next = write->next;
        if (write->client == NULL) continue;
        if (write->deadline_ms <= now)
            give_up(write);
        else if (first == 0 || write->deadline_ms < first)
            first = write->deadline_ms;
    }
    if (first != 0) run_timer(ctx, first);
}

void write_watch(RedisModuleCtx *ctx, const Write *write) {
    if (timer_ms != 0 && timer_ms <= write->deadline_ms) return;
    stop_timer();
    run_timer(ctx, write->deadline_ms);
}

/* -- What happens around ------------------------------------------------------------------------------------------- */

void through_see_flush(void) {
    for (Write *write = writes_first; write != NULL; write = write->next) write->turns.disturbed = true;
}

int through_waiting(const Deployment *deployment) {
    int count = 0;
    for (const Write *write = writes_first; write != NULL; write = write->next)
        count += write->stage != CANCELLED && !write->told && write_deployment(write) == deployment;
    return count;
}

bool through_is_pending(void) { return writes_count > 0; }

void through_fail_all(const char *reason) {
    while (writes_first != NULL) write_finish(writes_first, write_error(reason, (Slice){"", 0}));
}

static bool is_logged_for(const Write *write, const Deployment *deployment, int target) {
    if (write->stage != LOGGED || write_deployment(write) != deployment) return false;
    const Lane *lane = target < 0 ? NULL : write_lane(write);
    return target < 0 || (lane != NULL && strcmp(lane->target, deployment->targets[target]) == 0);
}

void through_fail_logged(RedisModuleCtx *ctx, const Deployment *deployment, int target, const char *reason) {
    for (Write *write = writes_first, *next; write != NULL; write = next) {
        next = write->next;
        if (is_logged_for(write, deployment, target)) write_finish(write, write_error(reason, (Slice){"", 0}));
    }
    through_start_ready(ctx);
}

void writes_look_again(void) {
    for (Write *write = writes_first; write != NULL; write = write->next) {
        if (write->stage != BEHIND) continue;
        write->stage = WAITING;
        writes_any_ready = true;
    }
}

void through_tick(RedisModuleCtx *ctx) {
    for (Write *write = writes_first, *next; write != NULL; write = next) {
        next = write->next;
        bool gone = write->stream != NULL && shard_find_lane(string_slice(write->stream), NULL) == NULL;
        if (gone && write->stage == TAKEN)
            write_finish(write, write_error("the deployment was taken away; whether this was written is not known",
                                            (Slice){"", 0}));
        else if (gone)
            write_finish(write, write_error("the deployment was taken away; nothing was written", (Slice){"", 0}));
        else if (write->stage == CANCELLED)
            write_finish(write, (Text){0});
    }
    writes_look_again();
    through_start_ready(ctx);
}

void through_free(void) { turns_free(); }
