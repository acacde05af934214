/* Versions that an upgrade replaced (docs/design.md, "Earlier versions"): kept so that what they captured is applied by
 * their rules, and to go back to. */
#include "parts.h"
#include "registry.h"

#include <stdlib.h>
#include <string.h>

#include "lanes/ids.h"
#include "lanes/lanes.h"
#include "pauses/hold.h"

#define KEPT 5 /* that have nothing waiting */

/* Marks are lines "<stream> <id>": up to there the lane holds what this version captured, or one before it. */
struct Earlier {
    Text arguments; /* of its GEARSYNC.DEPLOY, as a RESP array */
    Text marks;
};

void earlier_free(Deployment *deployment) {
    for (int i = 0; i < deployment->nearlier; i++) {
        text_free(&deployment->earlier[i].arguments);
        text_free(&deployment->earlier[i].marks);
    }
    if (deployment->earlier != NULL) RedisModule_Free(deployment->earlier);
    deployment->earlier = NULL;
    deployment->nearlier = 0;
}

static struct Earlier *add(Deployment *deployment) {
    deployment->earlier =
        RedisModule_Realloc(deployment->earlier, sizeof(struct Earlier) * (size_t)(deployment->nearlier + 1));
    deployment->earlier[deployment->nearlier] = (struct Earlier){0};
    return &deployment->earlier[deployment->nearlier++];
}

/* The next line of the marks at *at; false: there is none. */
static bool next_mark(const struct Earlier *earlier, size_t *at, Slice *stream, RedisModuleStreamID *id) {
    const char *line = earlier->marks.bytes + *at, *end = earlier->marks.len > *at ? strchr(line, '\n') : NULL;
    const char *blank = end != NULL ? memchr(line, ' ', (size_t)(end - line)) : NULL;
    if (blank == NULL) return false;
    *at += (size_t)(end - line) + 1;
    *stream = (Slice){line, (size_t)(blank - line)};
    return stream_id_parse((Slice){blank + 1, (size_t)(end - blank - 1)}, id);
}

/* Whether a change at or before the mark still waits. */
static bool is_open(RedisModuleCtx *ctx, Slice stream, RedisModuleStreamID mark) {
    Deployment *deployment = NULL;
    Lane *lane = shard_find_lane(stream, &deployment);
    RedisModuleStreamID first;
    bool all_paused = true;
    if (lane == NULL) return false;
    if (lane_first(ctx, lane, &first) && stream_id_compare(first, mark) <= 0) return true;
    return held_before(ctx, deployment, lane, mark, NULL, &all_paused);
}

bool earlier_waits(const Deployment *deployment, const Lane *lane, RedisModuleStreamID *last) {
    Slice name = string_slice(lane->stream), stream;
    RedisModuleStreamID id;
    bool any = false;
    for (int i = 0; i < deployment->nearlier && lane->length > 0; i++)
        for (size_t at = 0; next_mark(&deployment->earlier[i], &at, &stream, &id);) {
            if (!slices_equal(stream, name)) continue;
            if (stream_id_compare(id, any ? *last : lane->acked) <= 0) continue;
            *last = id;
            any = true;
        }
    return any;
}

/* The last change of a lane, or of what is held back of it, which has the ids of its lane; false: nothing waits. */
static bool last_waiting(const Deployment *deployment, const Lane *lane, RedisModuleStreamID *last) {
    bool any = lane->length > 0;
    *last = lane->last;
    for (int i = 0; i < deployment->lane_count; i++) {
        const Lane *held = deployment->lanes[i];
        if (held->length == 0 || !hold_is_of(held, lane)) continue;
        if (stream_id_compare(held->last, *last) > 0) *last = held->last;
        any = true;
    }
    return any;
}

static bool has_waiting(RedisModuleCtx *ctx, const struct Earlier *earlier) {
    Slice stream;
    RedisModuleStreamID id;
    for (size_t at = 0; next_mark(earlier, &at, &stream, &id);)
        if (is_open(ctx, stream, id)) return true;
    return false;
}

/* The lane goes. One of its name may be made anew, whose ids are lower if the clock was set back meanwhile. */
void earlier_forget_lane(Deployment *deployment, const Lane *lane) {
    Slice gone = string_slice(lane->stream), stream;
    RedisModuleStreamID id;
    for (int i = 0; i < deployment->nearlier; i++) {
        struct Earlier *each = &deployment->earlier[i];
        Text kept = {0};
        for (size_t at = 0, start = 0; next_mark(each, &at, &stream, &id); start = at)
            if (!slices_equal(stream, gone)) text_add(&kept, each->marks.bytes + start, at - start);
        text_free(&each->marks);
        each->marks = kept;
    }
}

static void drop_oldest(RedisModuleCtx *ctx, Deployment *deployment) {
    int over = deployment->nearlier - KEPT, kept = 0;
    for (int i = 0; i < deployment->nearlier; i++) {
        struct Earlier *each = &deployment->earlier[i];
        if (over-- > 0 && !has_waiting(ctx, each)) {
            text_free(&each->arguments);
            text_free(&each->marks);
        } else {
            deployment->earlier[kept++] = *each;
        }
    }
    deployment->nearlier = kept;
}

static void earlier_inherit(Deployment *deployment, Deployment *old) {
    deployment->earlier = old->earlier;
    deployment->nearlier = old->nearlier;
    old->earlier = NULL;
    old->nearlier = 0;
}

void earlier_keep(RedisModuleCtx *ctx, Deployment *deployment, Deployment *old) {
    earlier_inherit(deployment, old);
    struct Earlier *kept = add(deployment);
    text_add(&kept->arguments, old->arguments.bytes, old->arguments.len);
    for (int i = 0; i < old->lane_count; i++) {
        const Lane *lane = old->lanes[i];
        RedisModuleStreamID last;
        if (lane->function != NULL || !last_waiting(old, lane, &last)) continue;
        Slice stream = string_slice(lane->stream);
        text_add(&kept->marks, stream.bytes, stream.len);
        text_printf(&kept->marks, " %llu-%llu\n", (unsigned long long)last.ms, (unsigned long long)last.seq);
    }
    drop_oldest(ctx, deployment);
}

/* "<bytes of the marks> <marks><arguments>", as the registry has it. */
RedisModuleString *earlier_text(const Deployment *deployment, int index) {
    const struct Earlier *earlier = &deployment->earlier[index];
    Text text = {0};
    text_printf(&text, "%zu ", earlier->marks.len);
    text_add(&text, earlier->marks.bytes, earlier->marks.len);
    text_add(&text, earlier->arguments.bytes, earlier->arguments.len);
    RedisModuleString *string = RedisModule_CreateString(NULL, text.bytes, text.len);
    text_free(&text);
    return string;
}

/* The rest of the field's name is "<index>:<name>"; the fields come in any order, and are asked for by their index. */
bool earlier_load(int index, Slice rest, Slice value) {
    char *end;
    if (strtol(rest.bytes, &end, 10) != index || *end != ':') return false;
    Slice name = {end + 1, rest.len - (size_t)(end + 1 - rest.bytes)};
    Deployment *deployment = shard_find(name);
    long long marks = strtoll(value.bytes, &end, 10), left = (long long)value.len - (end + 1 - value.bytes);
    if (deployment == NULL || marks < 0 || marks > left || *end != ' ') return true;
    struct Earlier *loaded = add(deployment);
    text_add(&loaded->marks, end + 1, (size_t)marks);
    text_add(&loaded->arguments, end + 1 + marks, (size_t)(left - marks));
    return true;
}

static void reply_one(RedisModuleCtx *ctx, const struct Earlier *earlier) {
    Deployment *parsed = NULL;
    char *error = deployment_parse_resp((Slice){earlier->arguments.bytes, earlier->arguments.len}, &parsed);
    RedisModule_ReplyWithArray(ctx, 3);
    RedisModule_ReplyWithLongLong(ctx, parsed != NULL ? parsed->version : 0);
    RedisModule_ReplyWithStringBuffer(ctx, parsed != NULL ? parsed->payload : "",
                                      parsed != NULL ? parsed->payload_len : 0);
    RedisModule_ReplyWithArray(ctx, REDISMODULE_POSTPONED_LEN);
    long count = 0;
    Slice stream;
    RedisModuleStreamID id;
    for (size_t at = 0; next_mark(earlier, &at, &stream, &id);) {
        if (!is_open(ctx, stream, id)) continue;
        RedisModule_ReplyWithArray(ctx, 3);
        RedisModule_ReplyWithStringBuffer(ctx, stream.bytes, stream.len);
        RedisModule_ReplyWithLongLong(ctx, (long long)id.ms);
        RedisModule_ReplyWithLongLong(ctx, (long long)id.seq);
        count++;
    }
    RedisModule_ReplySetArrayLength(ctx, count);
    if (parsed != NULL) deployment_free(parsed);
    if (error != NULL) RedisModule_Free(error);
}

/* GEARSYNC.VERSIONS name: [[version, payload, [[stream, ms, seq]…]]…], those before the present one, oldest first. */
int versions_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 2) return RedisModule_WrongArity(ctx);
    registry_refresh(ctx);
    Deployment *deployment = shard_find(string_slice(argv[1]));
    if (deployment == NULL)
        return RedisModule_ReplyWithError(ctx, "ERR there is no deployment of that name on this server");
    RedisModule_ReplyWithArray(ctx, deployment->nearlier);
    for (int i = 0; i < deployment->nearlier; i++) reply_one(ctx, &deployment->earlier[i]);
    return REDISMODULE_OK;
}
