/* Turns: the writes of one key run one after another, in the order in which they came. A write of several keys waits
 * for its turn at each; since all of a write's turns are taken at once, no two writes wait for each other. */
#include "turns.h"

#include <string.h>

struct Turn {
    Turns *owner;
    struct Queue *queue;
    struct Turn *next;
    int key; /* which one of those that were named */
};

typedef struct Queue {
    char *name;
    size_t len;
    struct Turn *first, *last;
} Queue;

static RedisModuleDict *queues;
static int takers; /* writes that have turns */

static Text name_of(int db, Slice key) {
    Text name = {0};
    text_printf(&name, "%d:", db);
    text_add(&name, key.bytes, key.len);
    return name;
}

static Queue *queue_of(int db, Slice key, bool create) {
    if (queues == NULL) queues = RedisModule_CreateDict(NULL);
    Text name = name_of(db, key);
    Queue *queue = RedisModule_DictGetC(queues, name.bytes, name.len, NULL);
    if (queue == NULL && create) {
        queue = RedisModule_Calloc(1, sizeof(*queue));
        queue->name = name.bytes;
        queue->len = name.len;
        RedisModule_DictSetC(queues, queue->name, queue->len, queue);
        return queue;
    }
    text_free(&name);
    return queue;
}

static void join(Turns *turns, struct Turn *turn, Queue *queue, int key) {
    *turn = (struct Turn){turns, queue, NULL, key};
    if (queue->first == NULL)
        queue->first = turn;
    else
        queue->last->next = turn;
    queue->last = turn;
    turns->ahead += queue->first != turn;
}

void turns_take(Turns *turns, void *write, int db, RedisModuleString **keys, int count) {
    *turns = (Turns){.write = write, .turns = RedisModule_Calloc((size_t)count, sizeof(struct Turn))};
    takers++;
    for (int i = 0; i < count; i++) {
        Queue *queue = queue_of(db, string_slice(keys[i]), true);
        /* A key that the command names twice has one turn. Nobody else has come in between. */
        if (queue->last != NULL && queue->last->owner == turns) continue;
        join(turns, &turns->turns[turns->count++], queue, i);
    }
}

int turns_key(const Turns *turns, int at) { return turns->turns[at].key; }

static void leave(struct Turn *turn, void (*ready)(void *write)) {
    Queue *queue = turn->queue;
    bool was_first = queue->first == turn;
    struct Turn **at = &queue->first, *before = NULL;
    while (*at != turn) {
        before = *at;
        at = &before->next;
    }
    *at = turn->next;
    if (queue->last == turn) queue->last = before;
    if (queue->first == NULL) {
        RedisModule_DictDelC(queues, queue->name, queue->len, NULL);
        RedisModule_Free(queue->name);
        RedisModule_Free(queue);
    } else if (was_first && --queue->first->owner->ahead == 0) {
        ready(queue->first->owner->write);
    }
}

void turns_leave(Turns *turns, void (*ready)(void *write)) {
    takers--;
    for (int i = 0; i < turns->count; i++) leave(&turns->turns[i], ready);
    if (turns->turns != NULL) RedisModule_Free(turns->turns);
    *turns = (Turns){0};
}

static Turns *holder_of(int db, Slice key) {
    if (queues == NULL) return NULL;
    Queue *queue = queue_of(db, key, false);
    return queue != NULL ? queue->first->owner : NULL;
}

void *turns_holder(int db, Slice key) {
    const Turns *turns = holder_of(db, key);
    return turns != NULL ? turns->write : NULL;
}

void turns_see_event(int db, Slice key) {
    if (takers == 0 || shard.applying) return;
    Turns *turns = holder_of(db, key);
    if (turns == NULL) return;
    turns->disturbed = true;
    if (shard.redoing) turns->stale = true;
}

void turns_free(void) {
    if (queues != NULL) RedisModule_FreeDict(NULL, queues);
    queues = NULL;
}
