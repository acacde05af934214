/* One deployment, parsed from the arguments of GEARSYNC.DEPLOY (docs/design.md) or from their saved form. */
#include "parts.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "changes/kinds.h"
#include "lanes/lanes.h"
#include "pauses/hold.h"
#include "pauses/pause.h"
#include "workers/workers.h"

#define MAX_TIMEOUT_MS 3600000

/* Walks over the arguments; the first mistake sticks, so that callers can read on and check once. */
typedef struct {
    Slice *arguments;
    int count, at;
    char *error;
} Reader;

static void fail(Reader *reader, const char *what) {
    if (reader->error != NULL) return;
    Text text = {0};
    text_printf(&text, "%s (argument %d of GEARSYNC.DEPLOY)", what, reader->at + 1);
    reader->error = text.bytes;
}

static Slice next(Reader *reader, const char *what) {
    if (reader->at >= reader->count) {
        Text text = {0};
        text_printf(&text, "%s is missing", what);
        fail(reader, text.bytes);
        text_free(&text);
        return (Slice){"", 0};
    }
    return reader->arguments[reader->at++];
}

static void expect(Reader *reader, const char *word) {
    Slice slice = next(reader, word);
    if (reader->error == NULL && !slice_is(slice, word)) {
        Text text = {0};
        text_printf(&text, "%s is expected here", word);
        reader->at--;
        fail(reader, text.bytes);
        text_free(&text);
    }
}

static long long next_number(Reader *reader, const char *what, long long low, long long high) {
    Slice slice = next(reader, what);
    if (reader->error != NULL) return low;
    char digits[24] = {0};
    char *end = digits;
    if (slice.len > 0 && slice.len < sizeof(digits)) memcpy(digits, slice.bytes, slice.len);
    long long value = strtoll(digits, &end, 10);
    bool all_digits = isdigit((unsigned char)digits[digits[0] == '-']) && (size_t)(end - digits) == slice.len;
    if (!all_digits || value < low || value > high) {
        Text text = {0};
        text_printf(&text, "%s must be a whole number from %lld to %lld", what, low, high);
        reader->at--;
        fail(reader, text.bytes);
        text_free(&text);
        return low;
    }
    return value;
}

static bool next_choice(Reader *reader, const char *yes, const char *no) {
    Slice slice = next(reader, yes);
    if (reader->error != NULL || slice_is(slice, yes)) return true;
    if (slice_is(slice, no)) return false;
    Text text = {0};
    text_printf(&text, "%s or %s is expected here", yes, no);
    reader->at--;
    fail(reader, text.bytes);
    text_free(&text);
    return true;
}

static bool name_is_valid(Slice name) {
    if (name.len == 0 || name.len > NAME_MAX_BYTES) return false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.bytes[i];
        if (!(isalnum(c) || c == '_' || c == '-') || c >= 0x80) return false;
    }
    return true;
}

static char *next_name(Reader *reader, const char *what) {
    Slice slice = next(reader, what);
    if (reader->error == NULL && !name_is_valid(slice)) {
        Text text = {0};
        text_printf(&text, "%s must be 1 to %d of the characters A-Z a-z 0-9 _ -", what, NAME_MAX_BYTES);
        reader->at--;
        fail(reader, text.bytes);
        text_free(&text);
    }
    return slice_copy(slice);
}

static void read_fields(Reader *reader, Rule *rule) {
    rule->nfields = (int)next_number(reader, "the number of fields", -1, 100000);
    if (reader->error != NULL || rule->nfields <= 0) return;
    if (rule->nfields > reader->count - reader->at) {
        /* Not first a string for each of those that are missing. */
        rule->nfields = 0;
        reader->at = reader->count;
        next(reader, "a field");
        return;
    }
    rule->fields = RedisModule_Calloc((size_t)rule->nfields, sizeof(RedisModuleString *));
    for (int i = 0; i < rule->nfields; i++) {
        Slice field = next(reader, "a field");
        rule->fields[i] = RedisModule_CreateString(NULL, field.bytes, field.len);
    }
}

/* Its index; -1: there is none of that name. */
static int next_target(Reader *reader, const Deployment *deployment) {
    Slice target = next(reader, "a function's target");
    for (int i = 0; i < deployment->ntargets; i++)
        if (slice_equals(target, deployment->targets[i])) return i;
    fail(reader, "this function's target is not among the TARGETS");
    return -1;
}

static void next_template(Reader *reader, Template *template) {
    const char *problem = template_parse(template, next(reader, "a function's key template"));
    if (problem != NULL) fail(reader, problem);
}

static void read_kind(Reader *reader, Rule *rule) {
    if (reader->at >= reader->count || !slice_is(reader->arguments[reader->at], "TYPE")) return;
    reader->at++;
    if (!kind_is(next(reader, "the type of a function's keys"), &rule->kind)) {
        reader->at--;
        fail(reader, "JSON, SET, LIST or ZSET is expected here");
    }
    if (rule->operations || rule->timeout_ms > 0) fail(reader, "operations and write-through are for hashes alone");
}

static void read_rule(Reader *reader, Deployment *deployment, Rule *rule) {
    rule->deployment = deployment;
    rule->target = next_target(reader, deployment);
    rule->db = (int)next_number(reader, "a function's database number", 0, 1 << 20);
    next_template(reader, &rule->template);
    rule->delete_on_flush = !next_choice(reader, "KEEP", "DELETE");
    if (rule->delete_on_flush && deployment->nlanes > 1)
        fail(reader, "rows can be deleted at a flush only with one lane: lanes have no order among each other");
    rule->operations = reader->at < reader->count && slice_is(reader->arguments[reader->at], "OPERATIONS");
    if (rule->operations) reader->at++;
    if (reader->at < reader->count && slice_is(reader->arguments[reader->at], "THROUGH")) {
        reader->at++;
        rule->timeout_ms = next_number(reader, "a write's timeout", 1, MAX_TIMEOUT_MS);
    }
    if (reader->at < reader->count && slice_is(reader->arguments[reader->at], "NAMED")) {
        reader->at++;
        rule->name = slice_copy(next(reader, "a function's name"));
    }
    read_kind(reader, rule);
    if (deployment->whole && (rule->timeout_ms > 0 || kind_is_members(rule->kind)))
        fail(reader, "transactions can't stay whole with write-through, nor with keys whose members are read later");
    if (rule->operations && rule->db != 0) fail(reader, "operations are for keys of database 0 alone");
    read_fields(reader, rule);
}

static void read_read_rule(Reader *reader, Deployment *deployment, ReadRule *rule) {
    rule->deployment = deployment;
    rule->target = next_target(reader, deployment);
    rule->db = (int)next_number(reader, "a function's database number", 0, 1 << 20);
    next_template(reader, &rule->template);
    rule->timeout_ms = next_number(reader, "a read's timeout", 1, MAX_TIMEOUT_MS);
    rule->missing_ms = next_number(reader, "how long a missing row is remembered", 0, MAX_TIMEOUT_MS);
    rule->refresh_ms = next_number(reader, "the time to refresh ahead", 0, 1LL << 50);
    rule->misses = next_choice(reader, "MISS", "ERROR");
}

static int compare_rules(const void *a, const void *b) { return ((const Rule *)a)->target - ((const Rule *)b)->target; }

static void read_settings(Reader *reader, Deployment *deployment) {
    expect(reader, "LANES");
    deployment->nlanes = (int)next_number(reader, "the number of lanes", 1, MAX_LANES);
    expect(reader, "BACKLOG");
    deployment->limit_entries = (unsigned long long)next_number(reader, "the backlog's entries", 0, 1LL << 50);
    deployment->limit_bytes = (unsigned long long)next_number(reader, "the backlog's bytes", 0, 1LL << 50);
    deployment->refuse_when_full = next_choice(reader, "REFUSE", "GROW");
    expect(reader, "WORKER");
    deployment->external_worker = !next_choice(reader, "SUPERVISED", "EXTERNAL");
    if (reader->at < reader->count && slice_is(reader->arguments[reader->at], "TRANSACTIONS")) {
        reader->at++;
        expect(reader, "WHOLE");
        deployment->whole = true;
    }
    if (deployment->whole && deployment->nlanes > 1)
        fail(reader, "transactions stay whole only with one lane: lanes have no order among each other");
    expect(reader, "PAYLOAD");
    Slice payload = next(reader, "the payload");
    deployment->payload = slice_copy(payload);
    deployment->payload_len = payload.len;
    snprintf(deployment->digest, sizeof(deployment->digest), "%016llx", (unsigned long long)key_hash(payload));
}

static void read_read_rules(Reader *reader, Deployment *deployment) {
    if (reader->error != NULL || reader->at == reader->count) return;
    if (!slice_is(reader->arguments[reader->at], "READS")) return;
    reader->at++;
    deployment->nreads = (int)next_number(reader, "the number of functions that read", 1, 10000);
    if (reader->error != NULL) deployment->nreads = 0;
    deployment->reads = RedisModule_Calloc((size_t)deployment->nreads + 1, sizeof(ReadRule));
    for (int i = 0; i < deployment->nreads && reader->error == NULL; i++)
        read_read_rule(reader, deployment, &deployment->reads[i]);
}

static void read_targets_and_rules(Reader *reader, Deployment *deployment) {
    expect(reader, "TARGETS");
    deployment->ntargets = (int)next_number(reader, "the number of targets", 1, 1000);
    if (reader->error == NULL && deployment->ntargets * deployment->nlanes > MAX_ALL_LANES)
        fail(reader, "the lanes of all targets together must be at most 1024");
    if (reader->error != NULL) deployment->ntargets = 0;
    deployment->targets = RedisModule_Calloc((size_t)deployment->ntargets + 1, sizeof(char *));
    deployment->captured_of = RedisModule_Calloc((size_t)deployment->ntargets + 1, sizeof(long long));
    deployment->target_pauses = RedisModule_Calloc((size_t)deployment->ntargets + 1, sizeof(Pause));
    for (int i = 0; i < deployment->ntargets; i++) {
        deployment->targets[i] = next_name(reader, "a target's name");
        for (int j = 0; j < i; j++)
            if (strcmp(deployment->targets[i], deployment->targets[j]) == 0) fail(reader, "this target is named twice");
    }
    expect(reader, "FUNCTIONS");
    deployment->nrules = (int)next_number(reader, "the number of functions", 0, 10000);
    if (reader->error != NULL) deployment->nrules = 0;
    deployment->rules = RedisModule_Calloc((size_t)deployment->nrules + 1, sizeof(Rule));
    for (int i = 0; i < deployment->nrules && reader->error == NULL; i++)
        read_rule(reader, deployment, &deployment->rules[i]);
    read_read_rules(reader, deployment);
    if (reader->error == NULL && reader->at != reader->count)
        fail(reader, "nothing more is expected after the functions");
    qsort(deployment->rules, (size_t)deployment->nrules, sizeof(Rule), compare_rules);
}

static void save_arguments(Deployment *deployment, const Slice *arguments, int count) {
    text_printf(&deployment->arguments, "*%d\r\n", count);
    for (int i = 0; i < count; i++) {
        text_printf(&deployment->arguments, "$%zu\r\n", arguments[i].len);
        text_add(&deployment->arguments, arguments[i].bytes, arguments[i].len);
        text_add(&deployment->arguments, "\r\n", 2);
    }
}

char *deployment_parse(Slice *arguments, int count, Deployment **out) {
    Reader reader = {arguments, count, 0, NULL};
    Deployment *deployment = RedisModule_Calloc(1, sizeof(*deployment));
    worker_init(&deployment->worker);
    deployment->name = next_name(&reader, "the deployment's name");
    deployment->version = next_number(&reader, "the version", 1, 1LL << 50);
    read_settings(&reader, deployment);
    read_targets_and_rules(&reader, deployment);
    if (reader.error != NULL) {
        deployment_free(deployment);
        return reader.error;
    }
    save_arguments(deployment, arguments, count);
    *out = deployment;
    return NULL;
}

/* Reads "<mark><number>\r\n" at *at; -1 when it is not there. */
static long long resp_number(Slice resp, size_t *at, char mark) {
    if (*at >= resp.len || resp.bytes[*at] != mark) return -1;
    long long value = 0;
    size_t i = *at + 1;
    for (; i < resp.len && isdigit((unsigned char)resp.bytes[i]) && value < (1LL << 40); i++)
        value = value * 10 + (resp.bytes[i] - '0');
    if (i == *at + 1 || i + 2 > resp.len || memcmp(resp.bytes + i, "\r\n", 2) != 0) return -1;
    *at = i + 2;
    return value;
}

char *deployment_parse_resp(Slice resp, Deployment **out) {
    size_t at = 0;
    long long count = resp_number(resp, &at, '*');
    bool sound = count > 0 && count <= (long long)resp.len;
    Slice *arguments = RedisModule_Calloc(sound ? (size_t)count : 1, sizeof(Slice));
    for (long long i = 0; sound && i < count; i++) {
        long long len = resp_number(resp, &at, '$');
        sound = len >= 0 && at + (size_t)len + 2 <= resp.len;
        if (!sound) break;
        arguments[i] = (Slice){resp.bytes + at, (size_t)len};
        at += (size_t)len + 2;
    }
    char *error;
    if (sound) {
        error = deployment_parse(arguments, (int)count, out);
    } else {
        error = slice_copy((Slice){"its saved form is damaged", 25});
    }
    RedisModule_Free(arguments);
    return error;
}

static void free_rule(Rule *rule) {
    template_free(&rule->template);
    if (rule->name != NULL) RedisModule_Free(rule->name);
    for (int i = 0; i < rule->nfields; i++)
        if (rule->fields != NULL && rule->fields[i] != NULL) RedisModule_FreeString(NULL, rule->fields[i]);
    if (rule->fields != NULL) RedisModule_Free(rule->fields);
    if (rule->label != NULL) RedisModule_FreeString(NULL, rule->label);
}

static void free_if(void *pointer) {
    if (pointer != NULL) RedisModule_Free(pointer);
}

void deployment_free(Deployment *deployment) {
    for (int i = 0; i < deployment->nrules; i++) free_rule(&deployment->rules[i]);
    for (int i = 0; i < deployment->nreads; i++) template_free(&deployment->reads[i].template);
    for (int i = 0; i < deployment->ntargets; i++) free_if(deployment->targets[i]);
    for (int i = 0; i < deployment->lane_count; i++) lane_free(deployment->lanes[i]);
    worker_release(&deployment->worker);
    text_free(&deployment->arguments);
    pause_free(deployment);
    hold_free(deployment);
    earlier_free(deployment);
    free_if(deployment->name);
    free_if(deployment->payload);
    free_if(deployment->targets);
    free_if(deployment->captured_of);
    free_if(deployment->rules);
    free_if(deployment->reads);
    free_if(deployment->lanes);
    free_if(deployment->missed_key);
    free_if(deployment->worker.report);
    RedisModule_Free(deployment);
}
