/* What the files of the module share: the words of docs/design.md as structures, and who does what.
 *
 * Everything here runs on Redis' main thread. Nothing here waits.
 */
#ifndef GEARSYNC_H
#define GEARSYNC_H

#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

#include "api.h"

#define GEARSYNC_VERSION_TEXT "0.1.0"
/* Stands in the file as it is, so that Python can tell the version of a built module. */
#define GEARSYNC_MARK "gearsync module " GEARSYNC_VERSION_TEXT
#define GEARSYNC_VERSION 100
#define KEY_PREFIX "gearsync:{"
#define NAME_MAX_BYTES 64
#define MAX_LANES 64
#define EPOCH_BELIEVED (1ULL << 62) /* by hand it is set up to 2^60, from where it grows; SQL has 63 bits for it */
#define MAX_ALL_LANES 1024          /* of all targets of a deployment together: they are searched one by one */

/* -- text.c: growable text ------------------------------------------------------------------------------------ */
typedef struct {
    char *bytes;
    size_t len, capacity;
} Text;
typedef struct {
    const char *bytes;
    size_t len;
} Slice;
void text_add(Text *text, const char *bytes, size_t len);
void text_reserve(Text *text, size_t more);
void text_printf(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_json(Text *text, const char *bytes,
               size_t len); /* as a quoted JSON string; bytes that are not ASCII as \u00XX */
void text_free(Text *text);
char *slice_copy(Slice slice);                               /* NUL-terminated, to be freed */
static inline bool slice_is(Slice slice, const char *word) { /* equal, ASCII case ignored */
    return slice.len == strlen(word) && strncasecmp(slice.bytes, word, slice.len) == 0;
}
static inline Slice string_slice(const RedisModuleString *string) {
    Slice slice;
    slice.bytes = RedisModule_StringPtrLen(string, &slice.len);
    return slice;
}
static inline bool strings_equal(const RedisModuleString *a, const RedisModuleString *b) {
    Slice one = string_slice(a), other = string_slice(b);
    return one.len == other.len && memcmp(one.bytes, other.bytes, one.len) == 0;
}

/* -- template.c: key templates and lanes of keys -------------------------------------------------------------- */
typedef struct {
    bool capture; /* a {name}; else a literal */
    bool rest;    /* a {name*} */
    char *literal;
    size_t len;
} TemplatePart;
typedef struct {
    TemplatePart *parts;
    int count;
} Template;
const char *template_parse(Template *template, Slice text); /* NULL, or what is wrong */
bool template_has_prefix(const Template *template, Slice key);
bool template_matches(const Template *template, Slice key);
void template_free(Template *template);
uint64_t key_hash(Slice key); /* FNV-1a, 64 bits */
Slice hash_tag(Slice key);    /* empty: it has none */
unsigned key_slot(Slice key); /* Redis Cluster's slot, hash tags respected */

/* -- registry.c: deployments, source, epoch ------------------------------------------------------------------- */
struct Chunk;   /* bytes.c */
struct Buckets; /* waiting.c */
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

/* What the keys of a mapping hold: kinds.c. */
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

/* A function whose changes are held back (hold.c): paused, or resumed and not through with what was held. */
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
    char **targets;
    long long *captured_of; /* changes, by target */
    int ntargets;
    Rule *rules;
    int nrules;
    ReadRule *reads;
    int nreads;
    Lane **lanes; /* current ones, target by target, then retired ones */
    int lane_count;
    struct Earlier *earlier; /* earlier.c; oldest first */
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
    uint64_t flushed; /* the epoch that the last flush, of whichever database, raised to; 0: none did */
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

/* -- earlier.c ------------------------------------------------------------------------------------------------- */

void earlier_free(Deployment *deployment);
void earlier_inherit(Deployment *deployment, Deployment *old);
void earlier_forget_lane(Deployment *deployment, const Lane *lane);
void earlier_keep(RedisModuleCtx *ctx, Deployment *deployment,
                  Deployment *old);                                       /* old is replaced, and has its lanes yet */
RedisModuleString *earlier_text(const Deployment *deployment, int index); /* for the registry, */
bool earlier_load(int index, Slice rest, Slice value); /* and out of it; false: it is another one's */
int versions_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- pause.c --------------------------------------------------------------------------------------------------- */

int pause_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int resume_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
void pause_free(Deployment *deployment);
char *pause_check(const Deployment *deployment, const Deployment *old); /* NULL, or the error */
void pause_inherit(Deployment *deployment, Deployment *old);
RedisModuleString *pause_text(const Pause *pause); /* for the registry, */
void pause_load(Slice name, Slice value);          /* and out of it: the deployment's, */
void pause_load_target(Slice rest, Slice value);   /* and "<target>:<deployment>" */
/* What clients of a target are told; NULL: neither it nor the deployment is paused. */
const char *pause_of_write(const Deployment *deployment, int target);
const char *pause_of_read(const Deployment *deployment, int target);
bool pause_is_of_target(const Deployment *deployment, const char *target); /* it is paused alone */
bool pause_any_target(const Deployment *deployment);
void pause_status(Text *out, const Pause *pause); /* as a JSON object */
void pause_add_line(Text *text, Slice slice);     /* without what stands in the way of a line */
void pause_add_since(Text *text, long long ms, const Text *by, const Text *why); /* "since … by …: …" */
Deployment *pause_find(RedisModuleCtx *ctx, RedisModuleString *name);            /* NULL: the error is replied */
#define PAUSE_MOST_BYTES 1000                                                    /* of who and why together */

/* -- hold.c ---------------------------------------------------------------------------------------------------- */

Hold *hold_find(const Deployment *deployment, const char *function);
/* Both take names of functions, and return NULL, or the error. */
const char *hold_pause(RedisModuleCtx *ctx, Deployment *deployment, Slice who, Slice why, RedisModuleString **names,
                       int count);
const char *hold_resume(RedisModuleCtx *ctx, Deployment *deployment, RedisModuleString **names, int count);
/* The stream that holds back what a lane has of a function; NULL: there is none. */
Lane *hold_stream(const Deployment *deployment, const Lane *lane, const char *function);
bool hold_is_of(const Lane *held, const Lane *lane);
bool hold_any_paused(const Deployment *deployment);
void hold_open(RedisModuleCtx *ctx, Deployment *deployment, const Lane *lane, const char *function);
bool hold_end(RedisModuleCtx *ctx, Deployment *deployment, Lane *held); /* false: it has changes, or is paused */
/* Whether a held stream may have changes of a key. */
bool hold_concerns(const Deployment *deployment, const Lane *held, int db, Slice key);
void hold_inherit(Deployment *deployment, Deployment *old);
char *hold_check(const Deployment *deployment, const Deployment *old); /* NULL, or the error */
void hold_free(Deployment *deployment);
/* For the registry, and out of it: what is held, and the streams that hold it. */
RedisModuleString *hold_field(const Deployment *deployment, int index);
RedisModuleString *hold_text(const Deployment *deployment, int index);
void hold_load(Slice rest, Slice value);
void hold_load_stream(RedisModuleCtx *ctx, Deployment *deployment, Lane *held, Slice function, bool holds);
const char *hold_state(const Deployment *deployment, const Lane *held); /* held, or resumed */
void hold_status(Text *out, const Deployment *deployment, const char *function);

/* -- held.c ---------------------------------------------------------------------------------------------------- */

bool held_before(RedisModuleCtx *ctx, const Deployment *deployment, const Lane *lane, RedisModuleStreamID id,
                 const Slice *key, bool *all_paused); /* whether held streams of a lane have changes up to an id */
/* Why the row of a key will not be read for now: what is held back of it; NULL: it may be. */
const char *held_of_read(int db, Slice key);
int holds_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int hold_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int unhold_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- main.c --------------------------------------------------------------------------------------------------- */

/* Whether the module may write by itself, outside of a client's command. While writes are paused (CLIENT PAUSE, a
 * failover, a shutdown that waits for replicas) the server ends itself if anything is to be replicated. */
bool shard_may_write(void);
int shard_reply_replica(RedisModuleCtx *ctx); /* the error of what only a primary does */

Deployment *registry_find(Slice name);
Lane *registry_find_lane(Slice stream, Deployment **owner);
char *registry_deploy(RedisModuleCtx *ctx, Slice *arguments, int count,
                      bool check_only); /* NULL, or the error, to be freed */
void registry_undeploy(RedisModuleCtx *ctx, Deployment *deployment, bool discard);
void registry_finish_drained(RedisModuleCtx *ctx);
void registry_load(RedisModuleCtx *ctx);                  /* from the keyspace into memory */
void registry_refresh(RedisModuleCtx *ctx);               /* what a replica shows, right before it is shown */
void registry_write(RedisModuleCtx *ctx, bool replicate); /* the other way */
void registry_write_if_dirty(RedisModuleCtx *ctx);
void registry_raise_epoch(uint64_t epoch);
void registry_free(void);
bool registry_is_key(Slice key);
void registry_leave_tag(RedisModuleCtx *ctx, const char *tag);    /* its keys, once there is another tag */
void registry_adopt(RedisModuleCtx *ctx, RedisModuleString *key); /* a key of another shard that a resharding brought */
void registry_drop_strays(RedisModuleCtx *ctx);
void registry_note_applied(RedisModuleCtx *ctx, Lane *lane, uint64_t epoch, RedisModuleStreamID id);
void registry_note_flush(void); /* raises the epoch, and remembers that it was for a flush */
/* How this process came to capture: by a load of the data, a promotion, or MODULE LOAD into a running primary. */
typedef enum { AFTER_LOAD, AFTER_PROMOTION, AFTER_MODULE_LOAD } TakeOver;
void registry_take_over(RedisModuleCtx *ctx, TakeOver after);

/* -- rights.c --------------------------------------------------------------------------------------------------- */
bool rights_refused(RedisModuleCtx *ctx); /* the client was told that it may not run its command */

/* -- deployment.c: one deployment, from the arguments of GEARSYNC.DEPLOY --------------------------------------- */
char *deployment_parse(Slice *arguments, int count, Deployment **out); /* NULL, or the error, to be freed */
char *deployment_parse_resp(Slice resp, Deployment **out);
void deployment_free(Deployment *deployment);
void deployment_add_lane(Deployment *deployment, Lane *lane);
bool name_is_valid(Slice name);

/* -- lanes.c ------------------------------------------------------------------------------------------------- */
Lane *lane_create(Slice stream, const char *target, int index, int count, bool retired);
Lane *lane_for(const char *source, const char *deployment, const char *target, int index, int count);
void lane_free(Lane *lane);
void lane_refresh(RedisModuleCtx *ctx, Lane *lane); /* reads length and last id from the keyspace */
void lanes_weigh_again(RedisModuleCtx *ctx);        /* those that the server could not measure yet */
size_t lane_dead_letters(RedisModuleCtx *ctx, Lane *lane);
bool lane_first(RedisModuleCtx *ctx, Lane *lane, RedisModuleStreamID *id); /* of its first entry; false: it has none */
uint64_t lane_last_epoch(RedisModuleCtx *ctx, Lane *lane);
long long lane_oldest_ms(RedisModuleCtx *ctx, Lane *lane); /* the age of the change at its head; 0: none waits */
long long lane_acknowledge(RedisModuleCtx *ctx, Lane *lane, RedisModuleStreamID id); /* the number left */
int stream_id_compare(RedisModuleStreamID a, RedisModuleStreamID b);
bool stream_id_parse(Slice text, RedisModuleStreamID *id);
RedisModuleString *stream_id_string(RedisModuleStreamID id); /* the caller frees it */
void stream_id_reply(RedisModuleCtx *ctx, RedisModuleStreamID id);

/* -- bytes.c: about what the changes of a lane take -------------------------------------------------------------- */
void bytes_add(Lane *lane, size_t count, uint64_t bytes); /* that many changes more */
void bytes_take(Lane *lane, size_t count);                /* that many fewer, at the head */
void bytes_free(Lane *lane);

/* -- image.c -------------------------------------------------------------------------------------------------- */
#define MAX_FIXED 64 /* rules of one target that are told apart, and strings of an image without an allocation */
typedef struct {
    RedisModuleString *key, *meta; /* meta: the operation, the epoch, perhaps a ticket */
    RedisModuleString *ticketed;   /* the meta, if it is of this image alone */
    RedisModuleString **argv;      /* field, value… */
    size_t count, capacity;
    Rule *rule;        /* the only one that the fields are of; NULL: several, or a whole hash */
    bool fields_owned; /* they are to be freed, as values are */
    bool values_lent;  /* they are not */
    RedisModuleString *fixed[MAX_FIXED];
} Image;
void image_start(Image *image, RedisModuleString *key, char op);
void image_add(Image *image, RedisModuleString *field, RedisModuleString *value);
/* What the rules of one target map; the whole hash when those are too many. */
void image_read(Image *image, RedisModuleKey *key, Rule **rules, int count);
void image_ticket(Image *image, Slice ticket); /* puts a text behind the epoch */
/* Says that the change belongs to the one before it in its lane; before a ticket is put there. */
void image_go_on(Image *image, char op);
void image_end(Image *image);
void image_forget_metas(void); /* after the epoch changed */

/* -- entry.c: changes as a stream has them --------------------------------------------------------------------- */
typedef struct {
    RedisModuleString **strings; /* pairs of a stream entry */
    size_t count;
    RedisModuleString *pair[2];
} Packed;
void entry_pack(Packed *packed, const Image *image);
void entry_drop(Packed *packed);
typedef struct {
    RedisModuleString **strings; /* key, meta, then field, value…; none: it is no change */
    size_t count;
} Entry;
void entry_read(Entry *entry, RedisModuleKey *stream, long pairs); /* where the stream's iterator stands */
void entry_free(Entry *entry);
/* The key of an entry's strings, as they stand in the stream; false: it is no change. */
bool entry_key(RedisModuleString **strings, long count, Slice *key);
void entry_free_shared(void);

/* -- given.c: images that need not be read --------------------------------------------------------------------- */
typedef struct {
    Rule *rule;
    Packed packed;
} Given;
void given_see_command(RedisModuleCommandFilterCtx *filter, Slice name, int argc); /* as it is about to run */
/* An "hset" of the key is all that has happened to it. Whether the change is known by that: */
bool given_take(int db, RedisModuleString *key);
const Given *given_for(const RedisModuleString *key); /* the very string of the event; NULL: the hash is to be read */
void given_forget(void);

/* -- kinds.c: keys that are no hashes --------------------------------------------------------------------------- */
bool kind_is(Slice word, Kind *kind);
Kind kind_of_event(int type); /* KIND_HASH, too, for events that belong to no kind */
bool kind_is_members(Kind kind);
/* Whether the key holds what a mapping of the kind is about; of a document also its text, to be freed. */
bool kind_holds(RedisModuleCtx *ctx, Kind kind, RedisModuleKey *key, RedisModuleString *name,
                RedisModuleString **document);
/* The image of such a key: a document is one field, members have none. Takes the document over. */
void kind_read(Image *image, RedisModuleString **document);
void kinds_free(void);

/* -- capture.c ------------------------------------------------------------------------------------------------ */
int capture_on_event(RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *key);
int capture_again(RedisModuleCtx *ctx, int db, RedisModuleString *key,
                  bool if_there); /* its present state; changes appended */
void capture_flush(RedisModuleCtx *ctx, int db);
/* The present state of a key, at once, not at the end of the unit; changes appended. */
int capture_now(RedisModuleCtx *ctx, int db, RedisModuleString *key);
void heal_tails(RedisModuleCtx *ctx); /* heal.c: of all lanes */

/* -- appends.c: changes get into their lanes ------------------------------------------------------------------- */
/* False: it is too large for a stream entry; errno says how. */
bool capture_append(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, const Image *image);
/* A mark in a lane: from here on (i), or up to here (m), node has the key; what names a key may be any string. */
void capture_mark(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, char op,
                  const char *node);
void capture_went(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key, const char *node);
void capture_count(Deployment *deployment, int target, Rule **rules, int count); /* one change for these rules */

/* -- pending.c: events until the end of their unit ------------------------------------------------------------- */
bool capture_is_noted(int db, Slice key);               /* an event of the key is still to be captured in this unit */
bool capture_is_pending(void);                          /* the server is to call us at the end of the execution unit */
void capture_before_flush(RedisModuleCtx *ctx, int db); /* -1: all; what the unit in hand wrote before it */
void capture_before_intent(RedisModuleCtx *ctx, int db, RedisModuleString *key); /* what it did with the key */
void capture_free(void);

/* -- units.c -------------------------------------------------------------------------------------------------- */
uint64_t unit_now(void);
void unit_end(void);
void unit_see_command(void); /* it passes the filter */
bool unit_in_transaction(RedisModuleCtx *ctx);
/* Whether the next change in a lane belongs to the last one there. */
bool unit_goes_on(RedisModuleCtx *ctx, const Deployment *deployment, const Lane *lane);

/* -- soon.c: after the command in hand, before what comes after it from elsewhere ------------------------------ */
typedef void (*SoonFunction)(RedisModuleCtx *ctx, int db, RedisModuleString *key);
bool soon_needed(void); /* whether a command must not add to lanes itself */
void soon_do(SoonFunction function, int db, RedisModuleString *key);
/* Whether the server takes our own keys for others just now: then what writes them has to be done soon. */
bool soon_is_due(RedisModuleCtx *ctx);
void soon_free(void);

/* -- operations.c --------------------------------------------------------------------------------------------- */
typedef struct {
    char kind;               /* = + - ~, or ? for what begins with none of these; 0: there is no field '#' */
    bool plain;              /* the key was also written without '#', or is another one: that has to get to SQL */
    RedisModuleString *text; /* all that the field held */
} Operation;
bool operations_cover(int db, Slice key);
bool operation_writes(int type, const char *event); /* whether an event is of a field's new value */
/* Takes the field out of the hash. */
Operation operation_take(RedisModuleCtx *ctx, int db, RedisModuleString *name);
void operation_free(Operation *operation);
Slice operation_ticket(const Operation *operation);
bool operation_deletes(const Operation *operation);
void operation_delete(RedisModuleCtx *ctx, int db, RedisModuleString *name);
void operation_acknowledge(RedisModuleCtx *ctx, int db, RedisModuleString *name, Slice ticket);

/* -- waiting.c: keys of which a change waits -------------------------------------------------------------------- */
void waiting_watch(void);  /* from now on it is told which keys they are; before, all of a lane that is not empty */
void waiting_forget(void); /* the module goes */
void waiting_free(Lane *lane);
void waiting_note(Lane *lane, Slice key); /* lane->last is a change of key */
void waiting_note_all(Lane *lane);        /* … or of any key */
bool waiting_for(int db, Slice key);
bool waiting_in(Lane *lane, Slice key);
bool waiting_since_mark(int db, Slice key); /* or whether one has come to SQL since the mark that was read last */

/* -- marks.c: what has changed since rows were read ------------------------------------------------------------- */
typedef struct {
    bool valid;
    uint64_t tick;
} ReadMark;
bool mark_read(const RedisModuleString *text, ReadMark *mark); /* false: it is no mark */
bool mark_is_passed(const ReadMark *mark, int db, Slice key);  /* the key's row may have changed since */
void mark_overtake(Slice key);                                 /* somebody says that the key's row has changed */
void marks_forget(void);                                       /* the module goes */
int mark_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- put.c: rows become hashes -------------------------------------------------------------------------------- */
/* Sets (nfields pairs) or deletes (none) a hash, which is no change for SQL. Keys of which a change waits
 * are left alone, and those that are no hash; without replace also those that exist. Refused: there is no memory. ttl_ms
 * 0: no expiry. */
typedef enum { PUT_LEFT, PUT_DONE, PUT_REFUSED } PutResult;
PutResult put_row(RedisModuleCtx *ctx, int db, RedisModuleString *key, RedisModuleString **fields, long long nfields,
                  long long ttl_ms, bool replace);
bool put_is_ours(RedisModuleCtx *ctx, RedisModuleString *key); /* the cluster lets us write it; true without one */
int put_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int waiting_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- images.c: hashes as they are ------------------------------------------------------------------------------- */
int images_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- reads.c, misses.c, loads.c: rows for keys that are read and not there -------------------------------------- */
ReadRule *reads_rule_for(int db, Slice key); /* NULL: none */
void reads_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc);
/* What waits for the row of a key, without a client: called with NULL, or why the row can't be had. */
typedef void (*RowReady)(void *waiter, const char *failure);
struct Reader;
/* NULL: the key is there, or has no row, or nobody reads it through; else it is loaded, and on_ready is called. */
struct Reader *reads_want(RedisModuleCtx *ctx, int db, RedisModuleString *key, RowReady on_ready, void *waiter);
/* Why the row that such a key wants will not be read for now; NULL: it may be, or none is wanted. */
const char *reads_paused(RedisModuleCtx *ctx, int db, RedisModuleString *key);
void reads_want_no_more(struct Reader *reader);
bool reads_key_exists(RedisModuleCtx *ctx, int db, RedisModuleString *name);
void reads_collect(void); /* frees clients that timed out or left */
void reads_fail_all(const char *failure);
int reads_register(RedisModuleCtx *ctx);
/* Something has happened to the key, or to its row: it counts more than a row that was read before. */
void misses_overtake(RedisModuleCtx *ctx, int db, RedisModuleString *key);
void misses_changed(const Slice *key); /* a change of it was captured; NULL: it may be of any */
void misses_look_again(void);          /* changes have come to SQL */
void misses_rules_changed(void);
/* All of them, or (target >= 0) those of one target. */
void misses_fail(const Deployment *deployment, int target, const char *failure);
void misses_give_back(const Deployment *deployment, int target); /* what a worker took, and won't answer */
size_t misses_waiting(const Deployment *deployment);             /* clients */
void loads_collect(void);                                        /* as reads_collect, of workers */
void loads_step_aside(void);                                     /* no worker waits here for a moment */
int misses_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int loaded_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int unread_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- inner.c: commands of ours with a client's own behind them -------------------------------------------------- */
void inner_forget(void);            /* what is known of users */
void inner_see_command(Slice name); /* of every command that passes the filter while there are such rules */
/* Puts command, or its twin, before the command in the filter. */
void inner_insert(RedisModuleCommandFilterCtx *filter, const char *command);
/* Makes command and its twin; flags as for CreateCommand. */
int inner_register(RedisModuleCtx *ctx, const char *command, RedisModuleCmdFunc function, const char *flags);
/* The server asks for the keys: they are told, and there is nothing else to do. First of all in such a command. */
bool inner_tells_keys(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
/* Whether the client may run its own command, argv[1] and what follows; false: the error is replied. */
bool inner_allowed(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
/* Whether the cluster has the slot, or the keys, of a command that was called elsewhere; error: errno right after it. */
bool inner_has_moved(RedisModuleCallReply *reply, int error);
/* Runs it, and passes its reply on. */
int inner_run(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, bool writes);
/* -- effects.c ------------------------------------------------------------------------------------------------ */
typedef enum {
    SET_FIELDS,
    SET_NEW_FIELD,
    ADD_INTEGER,
    ADD_FLOAT,
    REMOVE_FIELDS,
    DELETE_KEYS,
    EXPIRE_IN_SECONDS,
    EXPIRE_IN_MS,
    EXPIRE_AT_SECOND,
    EXPIRE_AT_MS,
    OTHER_WRITE
} WriteKind;
typedef struct {
    RedisModuleString *field, *value; /* value NULL: the field is removed */
} FieldChange;
typedef struct {
    char op; /* of the intent: U, R or D; 0: the command changes nothing for SQL */
    FieldChange *changes;
    int count;
    Text command; /* what brings Redis to the same state, whatever came in between; in the words of the protocol */
    Text reply;   /* of the client's own command; none for DEL, UNLINK and EXPIRE */
    bool existed; /* the key was there before */
} Effect;
WriteKind effect_kind(Slice name);
Effect effect_of(RedisModuleCtx *ctx, int db, RedisModuleString **argv, int argc);
/* Adds to an image what the rules map of a key, as it will be. */
void effect_image(RedisModuleCtx *ctx, const Effect *effect, int db, RedisModuleString *name, Rule **rules, int count,
                  Image *image);
/* Runs "<db> <command>"; false: it is none, or the server refuses it. With a ! before it, an HSET makes its key also in a slot
 * that is leaving: no other shard has it. */
bool effect_run(RedisModuleCtx *ctx, Slice text);
void effect_free(Effect *effect);

/* -- turns.c -------------------------------------------------------------------------------------------------- */
struct Turn;
typedef struct {
    void *write;
    struct Turn *turns;
    int count;
    int ahead; /* at so many of its keys it is not the first */
} Turns;
void turns_take(Turns *turns, void *write, int db, RedisModuleString **keys, int count);
/* Calls ready for each write that has all its turns by this. */
void turns_leave(Turns *turns, void (*ready)(void *write));
void *turns_holder(int db, Slice key); /* the write whose turn it is; NULL: none has this key */
void turns_free(void);

/* -- through.c ------------------------------------------------------------------------------------------------ */
#define THROUGH_COMMAND "gearsync.through"
bool through_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc); /* whether it took the command */
int through_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_take_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_settle_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_deny_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_redo_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int through_applied_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
void through_see_event(int db, RedisModuleString *key);
void through_see_flush(void);
bool through_is_pending(void);
/* Whether SQL may have writes of a lane that Redis has forgotten, since no worker has looked yet. */
bool through_is_behind(const Deployment *deployment, const Lane *lane);
void through_fail_all(const char *reason);
void through_start_ready(RedisModuleCtx *ctx); /* those whose turn has come, or whose row is there */
void through_tick(RedisModuleCtx *ctx);
int through_waiting(const Deployment *deployment); /* clients */
void through_free(void);

/* -- moves.c -------------------------------------------------------------------------------------------------- */
#define NODE_ID_BYTES 40
#define NO_NODE "0000000000000000000000000000000000000000" /* of a mark that only carries its epoch */
void move_forget(void);                                    /* another MIGRATE is about to run */
/* The id of the node that takes the slot of key from us in this MIGRATE; NULL: it is no resharding. */
const char *move_target(RedisModuleCtx *ctx, Slice key);

/* -- written.c ------------------------------------------------------------------------------------------------- */
typedef bool (*KeyTest)(RedisModuleString *key, unsigned kinds); /* by a rule of one of the kinds, as 1 << Kind */
/* The first key that the command may change and that passes the test; NULL: none. */
RedisModuleString *written_find(RedisModuleString **argv, int argc, KeyTest wanted);
RedisModuleString *written_find_in(RedisModuleCommandFilterCtx *filter, Slice name, int argc, KeyTest wanted);

/* -- backlog.c ------------------------------------------------------------------------------------------------ */
void backlog_update(Deployment *deployment);
void backlog_recount(void);                                                     /* after deployments came or went */
bool backlog_filter(RedisModuleCommandFilterCtx *filter, Slice name, int argc); /* whether it refused the command */
int backlog_refuse_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- backfill.c ----------------------------------------------------------------------------------------------- */
int backfill_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* -- filter.c ------------------------------------------------------------------------------------------------- */
bool filter_in_transaction(RedisModuleCommandFilterCtx *filter); /* false where the server can't tell */
void filter_command(RedisModuleCommandFilterCtx *filter);

/* -- barrier.c ------------------------------------------------------------------------------------------------ */
int barrier_wait_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
void barrier_check(void);
/* A resharding took a lane away: who waited for it waits for the mark that follows it in the lanes that go on. */
void barrier_lane_moved(Deployment *deployment, const Lane *old);
void barrier_collect(void); /* frees clients that timed out or left */
void barrier_fail_all(const char *error);
int barrier_waiting(void);

/* -- aof.c ---------------------------------------------------------------------------------------------------- */

/* After a load: see whether the AOF ends within a transaction. */
void aof_check(RedisModuleCtx *ctx);
/* Have such a file written anew, once the server can. */
void aof_tick(RedisModuleCtx *ctx);

/* -- json.c --------------------------------------------------------------------------------------------------- */

/* Whether a text is one JSON object, in ASCII. */
bool json_is_object(Slice text);

/* -- flush.c -------------------------------------------------------------------------------------------------- */
void flush_on_event(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data);
void flush_expect_reload(bool expected);
void flush_reload_done(void);
bool flush_is_pending(void);

/* -- reaching.c ----------------------------------------------------------------------------------------------- */

char *reaching_config(RedisModuleCtx *ctx, const char *name); /* to be freed; empty: no such setting, or no CONFIG */
Text reaching_url(RedisModuleCtx *ctx);                       /* may hold a password, or env:NAME, file:PATH */
bool reaching_is_known(RedisModuleCtx *ctx);

/* -- workers.c ------------------------------------------------------------------------------------------------ */
void worker_init(Worker *worker);
void worker_retry_now(Worker *worker); /* a new version may mend what made it fail */
void workers_tick(RedisModuleCtx *ctx);
void workers_shutdown(void);
void workers_unload(void);           /* as well, and leaves no process behind */
long long workers_clock_ms(void);    /* of the times in Worker; never set back */
void worker_release(Worker *worker); /* of a deployment that goes: asks the process to end */
int worker_heartbeat_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
const char *worker_state_name(WorkerState state);

/* -- openings.c: clients' writes in slots that change their shard ------------------------------------------------- */
/* Why CLUSTER SETSLOT must wait for writes that are on their way to SQL; NULL: it need not. */
const char *opening_refusal(unsigned slot, Slice what, Slice node);

/* -- cluster.c ------------------------------------------------------------------------------------------------ */
char *cluster_nodes(RedisModuleCtx *ctx); /* what CLUSTER NODES says, to be freed */
/* Whether the cluster serves writes here, as far as this node knows; true on a server that is no cluster. */
bool cluster_is_ok(RedisModuleCtx *ctx);
/* Sets shard.tag to one whose slot is ours; to none while there is no such slot. False: the cluster does not tell. */
bool cluster_choose_tag(RedisModuleCtx *ctx);
void cluster_check_tag(RedisModuleCtx *ctx);
/* Before anything is captured: a shard that had no slot may have got its first one. Whether there is a tag. */
bool cluster_settle(RedisModuleCtx *ctx);
void cluster_see_command(RedisModuleCommandFilterCtx *filter, int argc); /* CLUSTER … is about to run */
void cluster_see_migrate(RedisModuleCommandFilterCtx *filter, int argc);
bool cluster_is_pending(void);
/* What this node has to do with a slot, the least first: nothing; it is on its way away, or here; it is ours. */
typedef enum { SLOT_STRANGE, SLOT_LEAVING, SLOT_COMING, SLOT_OWN } SlotState;
SlotState cluster_slot_state(RedisModuleCtx *ctx, unsigned slot);
/* The slot of our own keys is on its way away, or here, and there is no better one. */
bool cluster_home_leaves(void);
bool cluster_home_comes(void);
bool cluster_is_own_key(Slice key);
int cluster_own_keys(void); /* at most so many there are */

/* -- slots.c -------------------------------------------------------------------------------------------------- */
/* CLUSTER SETSLOT, or GETKEYSINSLOT, is about to run; whether there will be marks to put then. */
bool slots_see_command(unsigned slot, Slice what, Slice node);
bool slots_see_question(unsigned slot);
bool slots_is_open(unsigned slot);
bool slots_are_due(void);
void slots_put_marks(RedisModuleCtx *ctx);
/* A key of this name is about to be captured: what must stand before it in the lanes is put there. */
void slots_before_capture(RedisModuleCtx *ctx, Slice key);
/* The lane has that a key is gone. */
void slots_after_end(RedisModuleCtx *ctx, Deployment *deployment, Lane *lane, RedisModuleString *key);
void slots_forget(void);

/* -- status.c ------------------------------------------------------------------------------------------------- */
int status_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
void status_info(RedisModuleInfoCtx *ctx, int for_crash_report);

/* -- commands.c ----------------------------------------------------------------------------------------------- */
int commands_register(RedisModuleCtx *ctx);

#endif
