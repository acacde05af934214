/* Misses: the keys whose rows are wanted, each once, however many clients wait for it. What happens to a key meanwhile
 * counts more than a row that is on its way: a miss that was overtaken is read again, or is over. */
#include "misses.h"

#include <stdlib.h>
#include <string.h>

#include "lanes/waiting.h"
#include "waits/keys.h"

#define PLACES 4096

typedef struct {
    Miss *first, *last;
} List;

static Miss *places[PLACES];
static List lists[MISS_STATES];
static size_t count;
static uint64_t last_token;

static Miss **place_of(Slice key) { return &places[key_hash(key) % PLACES]; }

static bool is_named(const Miss *miss, Slice key) { return slices_equal(string_slice(miss->key), key); }

Miss *miss_find(int db, Slice key) {
    if (count == 0) return NULL;
    for (Miss *miss = *place_of(key); miss != NULL; miss = miss->next_in_place)
        if (miss->db == db && is_named(miss, key)) return miss;
    return NULL;
}

Miss *misses_first(MissState state) { return lists[state].first; }
size_t misses_count(void) { return count; }

static void list_add(Miss *miss, MissState state) {
    List *list = &lists[state];
    miss->state = state;
    miss->prev = list->last;
    miss->next = NULL;
    if (list->last != NULL)
        list->last->next = miss;
    else
        list->first = miss;
    list->last = miss;
}

static void list_take_out(Miss *miss) {
    List *list = &lists[miss->state];
    if (miss->prev != NULL)
        miss->prev->next = miss->next;
    else
        list->first = miss->next;
    if (miss->next != NULL)
        miss->next->prev = miss->prev;
    else
        list->last = miss->prev;
}

static void set_state(Miss *miss, MissState state) {
    list_take_out(miss);
    list_add(miss, state);
}

Miss *miss_make(ReadRule *rule, int db, RedisModuleString *key, bool refresh) {
    Slice name = string_slice(key);
    Miss *miss = RedisModule_Calloc(1, sizeof(*miss));
    *miss = (Miss){.rule = rule, .db = db, .refresh = refresh};
    miss->key = RedisModule_CreateString(NULL, name.bytes, name.len);
    miss->next_in_place = *place_of(name);
    *place_of(name) = miss;
    list_add(miss, MISS_LANE);
    count++;
    return miss;
}

void miss_hide(Miss *miss) {
    Miss **at = place_of(string_slice(miss->key));
    while (*at != NULL && *at != miss) at = &(*at)->next_in_place;
    if (*at != NULL) *at = miss->next_in_place;
}

static void miss_free(Miss *miss) {
    miss_hide(miss);
    list_take_out(miss);
    count--;
    RedisModule_FreeString(NULL, miss->key);
    RedisModule_Free(miss);
}

void miss_look(Miss *miss) {
    if (miss->state == MISS_TAKEN) return;
    if (waiting_for(miss->db, string_slice(miss->key))) {
        if (miss->state != MISS_LANE) set_state(miss, MISS_LANE);
        return;
    }
    if (miss->state == MISS_QUEUED) return;
    set_state(miss, MISS_QUEUED);
    loads_wake(miss);
}

/* A worker that was stopped may answer a miss of another process, or of the module before it was loaded anew. */
static uint64_t first_token(void) {
    char drawn[12] = {0};
    RedisModule_GetRandomHexChars(drawn, sizeof(drawn) - 1);
    return (uint64_t)strtoull(drawn, NULL, 16) << 16;
}

void miss_take(Miss *miss) {
    if (last_token == 0) last_token = first_token();
    set_state(miss, MISS_TAKEN);
    miss->token = ++last_token;
}

void miss_join(Miss *miss, Link *link) {
    link->miss = miss;
    link->prev = NULL;
    link->next = miss->links;
    if (miss->links != NULL) miss->links->prev = link;
    miss->links = link;
}

static void unlink_client(Link *link) {
    if (link->prev != NULL)
        link->prev->next = link->next;
    else
        link->miss->links = link->next;
    if (link->next != NULL) link->next->prev = link->prev;
    link->miss = NULL;
}

/* Nobody wants it any more. A row that is being read will do for the next client. */
static bool is_unwanted(const Miss *miss) { return miss->links == NULL && !miss->refresh && miss->state != MISS_TAKEN; }

void miss_leave(Link *link) {
    Miss *miss = link->miss;
    if (miss == NULL) return;
    unlink_client(link);
    if (is_unwanted(miss)) miss_free(miss);
}

void miss_settle(Miss *miss, const char *failure) {
    while (miss->links != NULL) {
        Link *link = miss->links;
        Reader *reader = link->reader;
        /* A write must not begin from nothing because the database is away. */
        bool fails = failure != NULL && (!miss->rule->misses || reader->on_ready != NULL);
        unlink_client(link);
        if (failure != NULL) miss->rule->deployment->read_counts.failed++;
        reader->open--;
        if (fails || reader->open == 0) reader_go_on(reader, fails ? failure : NULL);
    }
    miss_free(miss);
}

void miss_start_again(Miss *miss) {
    if (miss->state == MISS_TAKEN) set_state(miss, MISS_LANE);
    miss->token = 0;
    if (is_unwanted(miss))
        miss_free(miss);
    else
        miss_look(miss);
}

void misses_give_back(const Deployment *deployment, int target) {
    for (Miss *miss = lists[MISS_TAKEN].first, *next; miss != NULL; miss = next) {
        next = miss->next;
        if (miss->rule->deployment == deployment && miss->rule->target == target) miss_start_again(miss);
    }
}

/* No event may have told of it: after a flush, or when a write that SQL has already is taken back. */
void misses_changed(Slice key) {
    if (lists[MISS_TAKEN].first == NULL) return;
    bool any = waiting_is_of_all(key);
    Miss *miss = any ? lists[MISS_TAKEN].first : *place_of(key);
    for (Miss *next; miss != NULL; miss = next) {
        next = any ? miss->next : miss->next_in_place;
        if (miss->state == MISS_TAKEN && (any || is_named(miss, key))) miss_start_again(miss);
    }
}

void misses_look_again(void) {
    for (Miss *miss = lists[MISS_LANE].first, *next; miss != NULL; miss = next) {
        next = miss->next;
        miss_look(miss);
    }
}

void misses_overtake(RedisModuleCtx *ctx, int db, RedisModuleString *key) {
    Slice name = string_slice(key);
    missing_forget(db, name);
    Miss *miss = miss_find(db, name);
    if (miss == NULL) return;
    if (reads_key_exists(ctx, db, key)) {
        miss_settle(miss, NULL);
    } else {
        miss->refresh = false;
        miss_start_again(miss);
    }
}

void misses_rules_changed(void) {
    missing_forget_all();
    for (int state = 0; state < MISS_STATES; state++)
        for (Miss *miss = lists[state].first; miss != NULL; miss = miss->next)
            miss->rule = reads_rule_for(miss->db, string_slice(miss->key));
    for (int state = 0; state < MISS_STATES; state++)
        for (Miss *miss = lists[state].first, *next; miss != NULL; miss = next) {
            next = miss->next;
            if (miss->rule == NULL) miss_settle(miss, NULL);
        }
    for (Miss *miss = lists[MISS_TAKEN].first, *next; miss != NULL; miss = next) {
        next = miss->next;
        miss_start_again(miss);
    }
}

/* The list is begun anew each time: a client that goes on may end other misses too. */
static Miss *any_of(const Deployment *deployment, int target) {
    for (int state = 0; state < MISS_STATES; state++)
        for (Miss *miss = lists[state].first; miss != NULL; miss = miss->next)
            if (miss->rule->deployment == deployment && (target < 0 || miss->rule->target == target)) return miss;
    return NULL;
}

void misses_fail(const Deployment *deployment, int target, const char *failure) {
    for (Miss *miss = any_of(deployment, target); miss != NULL; miss = any_of(deployment, target))
        miss_settle(miss, failure);
}

size_t misses_waiting(const Deployment *deployment) {
    size_t clients = 0;
    for (int state = 0; state < MISS_STATES; state++)
        for (const Miss *miss = lists[state].first; miss != NULL; miss = miss->next)
            for (const Link *link = miss->links; link != NULL && miss->rule->deployment == deployment;
                 link = link->next)
                clients++;
    return clients;
}
