/* Only for the files of reads: what they share (docs/design.md, "Read-through"). reads.c sees the commands of clients
 * and holds those that miss; misses.c knows the keys whose rows are wanted; missing.c those that have none; loads.c is
 * the worker's side. */
#ifndef GEARSYNC_MISSES_H
#define GEARSYNC_MISSES_H

#include "reads.h"
#include "shard.h"

/* A row that is wanted: it waits for changes of its key to be in SQL, then for a worker, then for SQL. */
typedef enum { MISS_LANE, MISS_QUEUED, MISS_TAKEN, MISS_STATES } MissState;

struct Reader;
struct Miss;

/* One client that waits for one row. */
typedef struct Link {
    struct Reader *reader;
    struct Miss *miss; /* NULL: settled */
    struct Link *prev, *next;
} Link;

typedef struct Miss {
    ReadRule *rule;
    int db;
    RedisModuleString *key;
    MissState state;
    bool refresh;   /* the hash is there, and near its end */
    uint64_t token; /* of who has taken it; a new one each time */
    Link *links;
    struct Miss *next_in_place;
    struct Miss *prev, *next; /* of the same state */
} Miss;

/* Who waits for rows: a client, or a write of write-through. */
typedef struct Reader {
    RedisModuleBlockedClient *client;
    RowReady on_ready; /* of a write, which has no client here */
    void *waiter;
    bool left;   /* timed out or disconnected: only to be freed */
    bool late;   /* it is served by its timeout, which is at hand: see reader_go_on */
    bool failed; /* and with an error */
    long long deadline_ms;
    long long timeout_ms;
    int count, open; /* rows it waits for, and those of them that are not settled */
    struct Reader *next;
    Link links[];
} Reader;

/* -- misses.c -- */
Miss *miss_find(int db, Slice key);
Miss *miss_make(ReadRule *rule, int db, RedisModuleString *key, bool refresh);
Miss *misses_first(MissState state);
void miss_look(Miss *miss); /* whether it still waits for a lane; wakes a worker when not */
void miss_join(Miss *miss, Link *link);
void miss_leave(Link *link); /* the client has left */
void miss_take(Miss *miss);
void miss_start_again(Miss *miss); /* what was read of it must not be used any more */
void miss_hide(Miss *miss);        /* it is about to be settled: what happens to its key is our own doing */
/* The row is there, or there is none, or (failure) it could not be read: clients go on, and the miss is over. */
void miss_settle(Miss *miss, const char *failure);
void misses_give_back(const Deployment *deployment, int target); /* what a worker took, and won't answer */
size_t misses_count(void);

/* -- missing.c -- */
void missing_remember(int db, RedisModuleString *key, long long ms);
bool missing_knows(int db, Slice key);
void missing_forget(int db, Slice key);
void missing_forget_all(void);

/* -- reads.c -- */
ReadRule *reads_rule_for(int db, Slice key); /* NULL: none */
bool reads_key_exists(RedisModuleCtx *ctx, int db, RedisModuleString *name);
void reader_go_on(Reader *reader, const char *failure); /* NULL: runs its command */
void reads_rows_done(RedisModuleCtx *ctx);              /* calls RowsDone */

/* -- loads.c -- */
void loads_wake(const Miss *miss);

#endif
