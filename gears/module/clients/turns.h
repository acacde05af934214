/* Turns of writes at their keys, and whether a key has changed meanwhile. */
#ifndef GEARSYNC_TURNS_H
#define GEARSYNC_TURNS_H

#include "shard.h"

struct Turn;
typedef struct {
    void *write;
    struct Turn *turns;
    int count;      /* of its keys, each once */
    int ahead;      /* at so many of its keys it is not the first */
    bool disturbed; /* a key of it has changed since it was logged */
    bool stale;     /* by what SQL had committed before it: its image must not be committed */
} Turns;
void turns_take(Turns *turns, void *write, int db, RedisModuleString **keys, int count);
int turns_key(const Turns *turns, int at); /* the index of one of its keys among those that were given */
/* Calls ready for each write that has all its turns by this. */
void turns_leave(Turns *turns, void (*ready)(void *write));
void *turns_holder(int db, Slice key); /* the write whose turn it is; NULL: none has this key */
void turns_see_event(int db, Slice key);
void turns_free(void);

#endif
