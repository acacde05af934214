/* The words of docs/design.md as structures: what a shard knows, and all files of the module share. What can be done
 * with them is declared in the folders' headers: a file includes those of what it uses (docs/design.md, "The module's
 * folders").
 *
 * Everything here runs on Redis' main thread. Nothing here waits.
 */
#ifndef GEARSYNC_SHARD_H
#define GEARSYNC_SHARD_H

#include <sys/types.h>

#include "texts/template.h"
#include "texts/text.h"

#define KEY_PREFIX "gearsync:{"
#define NAME_MAX_BYTES 64
#define NODE_ID_BYTES 40 /* of a node of a cluster */
#define LIFE_BYTES 40    /* what tells two lives of a primary apart that have the same epoch */
#define DIGEST_BYTES 16  /* of a payload: its hash in hex */
#define MAX_LANES 64
#define EPOCH_BELIEVED (1ULL << 62) /* by hand it is set up to 2^60, from where it grows; SQL has 63 bits for it */
#define MAX_ALL_LANES 1024          /* of all targets of a deployment together: they are searched one by one */

struct Chunk;   /* lanes/bytes.c */
struct Buckets; /* lanes/waiting.c */
typedef struct {
    RedisModuleString *stream, *dead_stream;
    char *target;
    int index, count;
    bool retired;
    RedisModuleStreamID last;  /* of the last change appended or found at load; 0-0: none known */
    RedisModuleStreamID acked; /* the last id acknowledged since this server started */
    uint64_t applied_epoch;    /* of write-through: up to here, what SQL has committed is in Redis */
    RedisModuleStreamID applied;
    bool behind;    /* SQL may have committed intents that are not known here: none was taken since the takeover */
    uint64_t taker; /* which worker may settle intents: the hash of its name */
    size_t length;  /* changes that wait */
    uint64_t bytes; /* about what they take: the sum of the chunks */
    bool unweighed; /* bytes are not those of all: the server could not say yet */
    struct Chunk *chunks; /* from first_chunk up to end_chunk, oldest first */
    size_t first_chunk, end_chunk, chunk_capacity;
    RedisModuleString *label;   /* which fields the last change has; NULL: none is known */
    struct Buckets *buckets;    /* the last changes of keys, once somebody asks */
    RedisModuleStreamID marked; /* what SQL had at the mark that was read last */
    uint64_t unit;              /* of the last change; 0: none that could go on */
    char *function;             /* of a held stream: whose changes these are; NULL: it is a lane of all functions */
    bool holds;                 /* changes of its function are still put here */
} Lane;

typedef enum { WORKER_STOPPED, WORKER_STARTING, WORKER_RUNNING, WORKER_BACKOFF, WORKER_FENCED } WorkerState;

typedef struct {
    WorkerState state;
    pid_t pid;
    int pipe;          /* our end of the worker's standard input; -1: none */
    long long version; /* of the deployment it was started for */
    long long next_start_ms, backoff_ms, started_ms, stopping_since_ms, heartbeat_ms;
    long long restarts;
    char last_exit[160];
    char id[80];  /* who sent the last heartbeat */
    char *report; /* its JSON */
} Worker;

/* What the keys of a mapping hold: changes/kinds.c. */
typedef enum { KIND_HASH, KIND_JSON, KIND_SET, KIND_LIST, KIND_ZSET } Kind;

struct Deployment;
typedef struct {
    struct Deployment *deployment;
    int target; /* index into the deployment's targets */
    Kind kind;
    int db;
    Template template;
    bool delete_on_flush;
    bool operations;      /* the field '#' is one */
    long long timeout_ms; /* of a client that waits until SQL has its write; 0: none does */
    int nfields;          /* -1: the whole hash */
    RedisModuleString **fields;
    RedisModuleString *label; /* of an image that has all of them; NULL: there was none yet */
    char *name;               /* NULL: of a version that told none */
    long long captured;       /* changes of this function */
} Rule;

/* Reads of keys that are not there, which load a row. */
typedef struct {
    struct Deployment *deployment;
    int target;
    int db;
    Template template;
    long long timeout_ms, missing_ms, refresh_ms;
    bool misses; /* when the row can't be read, the reply is as if there were no key; else an error */
} ReadRule;

/* A function whose changes are held back (pauses/hold.c): paused, or resumed and not through with what was held. */
typedef struct {
    char *function;
    bool paused;
    long long since_ms;
    Text by, why;
} Hold;

/* Since when nothing goes to SQL (0: it does), by whom and why, and how clients are told that. */
typedef struct {
    long long since_ms;
    Text by, why, sentence;
} Pause;

typedef struct Deployment {
    char *name;
    long long version;
    bool draining, discard;
    int nlanes;
    unsigned long long limit_entries, limit_bytes;
    bool refuse_when_full, external_worker;
    bool whole;     /* what one unit did lands in one SQL transaction */
    Text arguments; /* of its GEARSYNC.DEPLOY, as a RESP array */
    char *payload;
    size_t payload_len;
    char digest[DIGEST_BYTES + 1]; /* of the payload: versions begin anew once a deployment is gone */
    char **targets;
    long long *captured_of; /* changes, by target */
    int ntargets;
    Rule *rules;
    int nrules;
    ReadRule *reads;
    int nreads;
    Lane **lanes; /* current ones, target by target, then retired ones */
    int lane_count;
    struct Earlier *earlier; /* registry/earlier.c; oldest first */
    int nearlier;
    bool full;
    Pause paused;
    Pause *target_pauses; /* of targets that are paused alone, by target */
    Hold *holds;
    int nholds;
    long long hold_number; /* another one after each change of what is held; 0: nothing was yet */
    long long captured, missed, refused_writes, failed;
    struct {
        long long committed, refused, timed_out;
    } through; /* writes of clients that waited */
    char *missed_key;
    size_t missed_key_len;
    struct {
        long long misses;          /* reads of keys that were not there */
        long long loaded, missing; /* rows that became hashes; rows that do not exist */
        long long failed;          /* reads whose row could not be read */
    } read_counts;
    Worker worker;
} Deployment;

/* What the command in hand does to keys of a cluster: a resharding takes them away, or brings them. */
typedef enum { MOVING_NOTHING, MOVING_AWAY, MOVING_HERE } Moving;

typedef struct {
    bool primary, loading, cluster, has_jobs;
    int copies_from; /* the database of the client whose COPY is in hand; -1: of none */
    bool heals;      /* Redis 6.2 can tear a change from its write */
    Moving moving;
    long long came;        /* keys that a resharding brought, since the start */
    bool registry_dirty;   /* to be written to the keyspace at the next tick */
    bool registry_stale;   /* the keyspace has what memory has not (a replica, or just loaded) */
    bool propagates;       /* an AOF or a replica may read what we replicate */
    bool tag_lost;         /* the shard no longer owns the slot of its tag */
    bool writing_registry; /* our own writes make events too */
    bool operations;       /* a rule has them; only where there are post-notification jobs */
    bool operating;        /* as writing_registry, of what we do to users' keys and is no change for SQL */
    bool through;          /* a rule has clients that wait for SQL */
    bool whole;            /* a deployment's transactions stay whole */
    bool applying;         /* a write that SQL has committed */
    bool redoing;          /* what SQL has committed and Redis had forgotten is done */
    unsigned kinds;        /* of all active rules, as bits 1 << Kind */
    int server_version;
    char tag[8]; /* empty: this node of a cluster has no slot, so its deployments have no lanes yet */
    char source[13];
    uint64_t epoch;
    char life[LIFE_BYTES]; /* the epoch in which it began in hex, a dash, and what nobody else has; empty: none began */
    uint64_t flushed;      /* the epoch that the last flush, of whichever database, raised to; 0: none did */
    Deployment **deployments;
    int count;
    Rule **rules; /* of all active deployments; rules of one target stand together */
    int nrules;
    ReadRule **reads; /* of all active deployments */
    int nreads;
    char *python, *worker_url;
    bool supervise;
    RedisModuleCtx *detached; /* for API calls that want a context where there is none */
} Shard;
extern Shard shard;

/* Whether the module may write by itself, outside of a client's command. While writes are paused (CLIENT PAUSE, a
 * failover, a shutdown that waits for replicas) the server ends itself if anything is to be replicated. */
bool shard_may_write(void);
int shard_reply_replica(RedisModuleCtx *ctx); /* the error of what only a primary does */

Deployment *shard_find(Slice name);
Lane *shard_find_lane(Slice stream, Deployment **owner);
Lane *deployment_find_lane(Deployment *deployment, Slice stream);
void deployment_add_lane(Deployment *deployment, Lane *lane);

#endif
