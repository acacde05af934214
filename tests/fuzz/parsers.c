/* What a fuzzer runs of the module: the parsing that needs no server, without one (tests/fuzz/__main__.py).
 *
 * The first byte of the input says what the rest is for. Beside memory faults and leaks, which the sanitizers see,
 * what must hold for every input is asserted. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "changes/image.h"
#include "lanes/lanes.h"
#include "pauses/hold.h"
#include "pauses/pause.h"
#include "registry/parts.h"
#include "texts/json.h"
#include "workers/workers.h"

#define MOST_WORDS 512

Shard shard;

/* -- Stand-ins for what the server gives -------------------------------------------------------------------------- */

struct RedisModuleString {
    char *bytes;
    size_t len;
};

static RedisModuleString *create_string(RedisModuleCtx *ctx, const char *bytes, size_t len) {
    (void)ctx;
    RedisModuleString *string = malloc(sizeof(*string));
    string->bytes = slice_copy((Slice){bytes, len});
    string->len = len;
    return string;
}

static void free_string(RedisModuleCtx *ctx, RedisModuleString *string) {
    (void)ctx;
    free(string->bytes);
    free(string);
}

static const char *string_ptr_len(const RedisModuleString *string, size_t *len) {
    *len = string->len;
    return string->bytes;
}

/* -- and for those parts of a deployment that parsing does not make ----------------------------------------------- */

void worker_init(Worker *worker) { worker->pipe = -1; }
void worker_release(Worker *worker) { assert(worker->pid == 0); }
void pause_free(Deployment *deployment) { RedisModule_Free(deployment->target_pauses); }
void earlier_free(Deployment *deployment) { assert(deployment->nearlier == 0); }
void lane_free(Lane *lane) { assert(lane == NULL); }
void hold_free(Deployment *deployment) { assert(deployment->nholds == 0); }
void image_add(Image *image, RedisModuleString *field, RedisModuleString *value) {
    (void)image, (void)field, (void)value;
    abort(); /* parsing captures nothing */
}

/* -- What is tried ------------------------------------------------------------------------------------------------ */

/* A template, and behind a NUL a key. */
static void try_template(Slice input) {
    const char *end = memchr(input.bytes, 0, input.len);
    Slice text = {input.bytes, end != NULL ? (size_t)(end - input.bytes) : input.len};
    Slice key = {"", 0};
    if (end != NULL) key = (Slice){end + 1, input.len - text.len - 1};
    Template template;
    if (template_parse(&template, text) == NULL) {
        bool matches = template_matches(&template, key);
        assert(!matches || template_has_prefix(&template, key));
    }
    template_free(&template);
    assert(key_slot(key) < 16384);
    assert(hash_tag(key).len <= key.len);
    key_hash(key);
}

static void check_deployment(Deployment *deployment) {
    Deployment *again = NULL;
    Slice saved = {deployment->arguments.bytes, deployment->arguments.len};
    char *error = deployment_parse_resp(saved, &again);
    /* What the registry holds is read back after a restart. */
    assert(error == NULL && again->nrules == deployment->nrules && again->nreads == deployment->nreads);
    assert(again->arguments.len == saved.len && memcmp(again->arguments.bytes, saved.bytes, saved.len) == 0);
    assert(deployment->ntargets * deployment->nlanes <= MAX_ALL_LANES);
    for (int i = 0; i < deployment->nrules; i++)
        assert(deployment->rules[i].target >= 0 && deployment->rules[i].target < deployment->ntargets);
    deployment_free(again);
}

/* The arguments of GEARSYNC.DEPLOY, each on its line; in memory of their own, so that reading behind one is seen. */
static void try_arguments(Slice input) {
    Slice words[MOST_WORDS];
    int count = 0;
    for (size_t at = 0; at <= input.len && count < MOST_WORDS; count++) {
        const char *start = input.bytes + at, *end = memchr(start, '\n', input.len - at);
        size_t len = end != NULL ? (size_t)(end - start) : input.len - at;
        char *copy = malloc(len > 0 ? len : 1);
        if (len > 0) memcpy(copy, start, len);
        words[count] = (Slice){copy, len};
        at += len + 1;
    }
    Deployment *deployment = NULL;
    char *error = deployment_parse(words, count, &deployment);
    assert((error == NULL) == (deployment != NULL));
    if (deployment != NULL) {
        check_deployment(deployment);
        deployment_free(deployment);
    }
    free(error);
    for (int i = 0; i < count; i++) free((char *)words[i].bytes);
}

/* What a registry that somebody damaged could hold. */
static void try_saved(Slice input) {
    Deployment *deployment = NULL;
    char *error = deployment_parse_resp(input, &deployment);
    assert((error == NULL) == (deployment != NULL));
    if (deployment != NULL) {
        check_deployment(deployment);
        deployment_free(deployment);
    }
    free(error);
}

static void try_report(Slice input) {
    Text text = {0};
    bool sound = json_is_object(input);
    if (sound) assert(input.len >= 2);
    /* Whatever a name holds, what the status makes of it is one string of JSON. */
    text_add(&text, "{\"a\":", 5);
    text_json(&text, input.bytes, input.len);
    text_add(&text, "}", 1);
    assert(json_is_object((Slice){text.bytes, text.len}));
    text_free(&text);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    RedisModule_Alloc = malloc;
    RedisModule_Calloc = calloc;
    RedisModule_Realloc = realloc;
    RedisModule_Free = free;
    RedisModule_CreateString = create_string;
    RedisModule_FreeString = free_string;
    RedisModule_StringPtrLen = string_ptr_len;
    return 0;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    static void (*const tries[])(Slice) = {try_template, try_arguments, try_saved, try_report};
    if (size == 0) return 0;
    /* Not in front of the byte that chooses: so a read before the beginning is seen as well. */
    char *copy = malloc(size);
    memcpy(copy, data + 1, size - 1);
    tries[data[0] % 4]((Slice){copy, size - 1});
    free(copy);
    return 0;
}
