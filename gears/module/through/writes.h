/* Only for the files of through: what writes.c, through.c, settle.c and openings.c share. */
#ifndef GEARSYNC_WRITES_H
#define GEARSYNC_WRITES_H

#include "clients/turns.h"
#include "shard.h"

typedef enum {
    WAITING,  /* for its turn */
    LOADING,  /* for the row of its key, which is not in Redis */
    BEHIND,   /* for what SQL has committed and Redis may have forgotten: what it does now may be something else then */
    LOGGED,   /* in the lane */
    TAKEN,    /* the worker may commit it at any time */
    CANCELLED /* its client has left or was told so, and no worker has it */
} Stage;

typedef struct Write {
    struct Write *next, *previous;
    RedisModuleBlockedClient *client;
    RedisModuleString **argv;
    int argc, db;
    RedisModuleString *stream;
    long long timeout_ms, deadline_ms;
    Turns turns;
    Stage stage;
    struct Reader *reader;  /* while it is LOADING */
    bool loaded;            /* the row was looked for */
    RedisModuleStreamID id; /* of its last entry in the lane */
    uint64_t epoch;         /* in which it was logged */
    bool told;              /* its client has had an error: it must not come true */
    bool existed;           /* its key was there when it was logged, */
    Text reply;             /* and this is what the command says of it then */
} Write;

/* All of them. Those in the lane stand in the order of their ids. */
extern Write *writes_first;
extern int writes_count;
/* A turn has come; to be started once the command in hand is through with the list. */
extern bool writes_any_ready;

void write_link_last(Write *write);
void write_take_out(Write *write);
void write_free(Write *write);
bool write_is_of(const Write *write, Slice stream);
const Lane *write_lane(const Write *write); /* where it is logged, or will be; NULL: no function covers it any more */
void writes_look_again(void);               /* those that are BEHIND have their turn again */
Deployment *write_deployment(const Write *write); /* NULL: it has not been logged, or the deployment has gone */
RedisModuleString **write_keys(const Write *write, int *count); /* the keys that it writes, which stand in a row */
bool key_is_among(RedisModuleString **keys, int count, RedisModuleString *key);
/* Ends a write; its client gets the reply, which is freed. Who was told an error, or has left, only is let go. */
void write_finish(Write *write, Text reply);
Text write_error(const char *sentence, Slice detail);
/* The reply in the words of the protocol. moved: the cluster has its slot, or its keys, elsewhere, and nothing was
 * done. */
Text write_run(RedisModuleCtx *ctx, int db, RedisModuleString **argv, int argc, bool *moved);

Text write_run_as_is(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, bool *moved);

/* -- openings.c: slots that change their shard -- */
/* Whether the cluster would take the write from the one who calls, who has to be ASKING for a slot that comes. */
bool opening_admits(RedisModuleCtx *ctx, const Write *write);
Text opening_error(void);
/* What there is to do here of a write that the cluster does not take as it is. */
Text opening_run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, bool *moved);
/* Callbacks of its blocked client. */
int write_on_unblocked(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int write_on_unblock_asked(RedisModuleCtx *ctx, RedisModuleString **argv, int argc); /* CLIENT UNBLOCK */
void write_on_disconnect(RedisModuleCtx *ctx, RedisModuleBlockedClient *client);
void write_free_reply(RedisModuleCtx *ctx, void *data);
/* Has a timer run for the deadline of a write that has just come. */
void write_watch(RedisModuleCtx *ctx, const Write *write);

#endif
