/* The workers: one process a deployment, started on a primary, ended on a replica, started again with backoff when it
 * dies. The module only starts, watches and ends them; what they do is Python's. */
#define _GNU_SOURCE
#include "workers.h"
#include "reaching.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clients/rights.h"
#include "texts/json.h"

#define BACKOFF_FIRST_MS 500
#define BACKOFF_MOST_MS 30000
#define STEADY_MS 60000 /* a worker that ran this long starts with the first backoff again */
#define KILL_AFTER_MS 15000
#define HEARTBEAT_FRESH_MS 5000
#define UNLOAD_MS 200 /* the most that unloading waits for killed workers */
#define EXIT_FENCED 3

/* Processes of deployments that are gone, still to be reaped. */
typedef struct Orphan {
    pid_t pid;
    long long since_ms;
    struct Orphan *next;
} Orphan;
static Orphan *orphans;

long long workers_clock_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void worker_init(Worker *worker) {
    memset(worker, 0, sizeof(*worker));
    worker->pipe = -1;
    worker->backoff_ms = BACKOFF_FIRST_MS;
}

void worker_retry_now(Worker *worker) {
    worker->next_start_ms = 0;
    worker->backoff_ms = BACKOFF_FIRST_MS;
}

const char *worker_state_name(WorkerState state) {
    static const char *const names[] = {"stopped", "starting", "running", "backoff", "fenced"};
    return names[state];
}

/* -- Starting and ending ------------------------------------------------------------------------------------------- */

/* The first line a worker reads: how to reach this server. It goes through the pipe, so that a password is in no
 * process list and no environment. */
static bool send_greeting(RedisModuleCtx *ctx, int fd, const Deployment *deployment) {
    Text line = {0}, url = reaching_url(ctx);
    char *dir = reaching_config(ctx, "dir");
    text_printf(&line, "{\"url\": ");
    text_json(&line, url.bytes, url.len);
    text_printf(&line, ", \"version\": %lld, \"work_dir\": ", deployment->version);
    text_json(&line, dir, strlen(dir));
    text_printf(&line, "}\n");
    bool sent = write(fd, line.bytes, line.len) == (ssize_t)line.len;
    RedisModule_Free(dir);
    text_free(&url);
    text_free(&line);
    return sent;
}

/* Servers open some files without O_CLOEXEC, the AOF among them: a worker must not be able to write to it. */
static void keep_descriptors_here(void) {
    DIR *open_ones = opendir("/dev/fd");
    if (open_ones == NULL) return; /* the worker closes what it finds open at its start */
    for (struct dirent *entry = readdir(open_ones); entry != NULL; entry = readdir(open_ones)) {
        int fd = atoi(entry->d_name);
        if (fd > 2) fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    closedir(open_ones);
}

/* The environment of the server. Valkey 8.1 and newer load a module such that the name "environ" in it means a variable
 * of the C library which the program has replaced by its own, so that it is NULL: the program is asked for it by
 * name. */
static char **server_environment(void) {
    static char *nothing[] = {NULL};
    void *program = dlopen(NULL, RTLD_LAZY);
    char ***found = program != NULL ? dlsym(program, "environ") : NULL;
    char **environment = found != NULL && *found != NULL ? *found : nothing;
    if (program != NULL) dlclose(program);
    return environment;
}

static int spawn(const Deployment *deployment, int input, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    char *arguments[] = {shard.python, "-m", "gears.worker", "--deployment", deployment->name, "--supervised", NULL};
    sigemptyset(&none);
    sigemptyset(&defaults);
    int reset[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD};
    for (size_t i = 0; i < sizeof(reset) / sizeof(reset[0]); i++) sigaddset(&defaults, reset[i]);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    /* A group of its own: a Ctrl-C in the server's terminal ends the server, which then ends the worker in order. */
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    keep_descriptors_here();
    int error = posix_spawnp(pid, shard.python, &actions, &attributes, arguments, server_environment());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static void back_off(Worker *worker, long long now) {
    worker->state = WORKER_BACKOFF;
    worker->next_start_ms = now + worker->backoff_ms;
    worker->backoff_ms = worker->backoff_ms * 2 > BACKOFF_MOST_MS ? BACKOFF_MOST_MS : worker->backoff_ms * 2;
}

/* Says why a worker can't be started: once, not at each try. */
static void start_failed(RedisModuleCtx *ctx, Deployment *deployment, const char *why, long long now) {
    Worker *worker = &deployment->worker;
    worker->pid = 0;
    if (strcmp(worker->last_exit, why) != 0)
        RedisModule_Log(ctx, "warning", "worker of %s: %s; trying again from time to time", deployment->name, why);
    snprintf(worker->last_exit, sizeof(worker->last_exit), "%s", why);
    back_off(worker, now);
}

static void start(RedisModuleCtx *ctx, Deployment *deployment, long long now) {
    Worker *worker = &deployment->worker;
    char why[sizeof(worker->last_exit)];
    int ends[2];
    if (!reaching_is_known(ctx)) {
        start_failed(ctx, deployment,
                     "can't be started: the command CONFIG is renamed, so that this server's address is unknown; load "
                     "gearsync with URL redis://host:port",
                     now);
        return;
    }
    int error = pipe2(ends, O_CLOEXEC) == 0 ? 0 : errno;
    if (error == 0) {
        error = spawn(deployment, ends[0], &worker->pid);
        close(ends[0]);
        if (error != 0) close(ends[1]);
    }
    if (error != 0) {
        snprintf(why, sizeof(why), "%.90s can't be started: %s", shard.python, strerror(error));
        start_failed(ctx, deployment, why, now);
        return;
    }
    worker->pipe = ends[1];
    worker->state = WORKER_STARTING;
    worker->version = deployment->version;
    worker->started_ms = now;
    worker->stopping_since_ms = 0;
    worker->heartbeat_ms = 0;
    worker->restarts++;
    if (!send_greeting(ctx, worker->pipe, deployment))
        RedisModule_Log(ctx, "warning", "worker of %s did not take its greeting", deployment->name);
    RedisModule_Log(ctx, "notice", "worker of %s started, pid %d", deployment->name, (int)worker->pid);
}

static void close_pipe(Worker *worker) {
    if (worker->pipe >= 0) close(worker->pipe);
    worker->pipe = -1;
}

/* The worker and what it has started, such as pip: they are a group. */
static void kill_group(pid_t pid) { kill(-pid, SIGKILL); }

static void ask_to_end(Worker *worker, long long now) {
    if (worker->pid <= 0) return;
    if (worker->stopping_since_ms == 0) {
        worker->stopping_since_ms = now;
        kill(worker->pid, SIGTERM);
    } else if (now - worker->stopping_since_ms > KILL_AFTER_MS) {
        kill_group(worker->pid);
    }
}

/* Whether the process has ended; *status is -1 when the server reaped it before us, as it does while it saves. Then the
 * number may belong to a stranger by now. */
static bool has_ended(pid_t pid, int *status) {
    pid_t got = waitpid(pid, status, WNOHANG);
    if (got == pid) return true;
    *status = -1;
    return got < 0 && errno == ECHILD;
}

static void describe_exit(Worker *worker, int status) {
    char *to = worker->last_exit;
    size_t size = sizeof(worker->last_exit);
    if (status == -1)
        snprintf(to, size, "ended, status unknown");
    else if (WIFSIGNALED(status))
        snprintf(to, size, "killed by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) == EXIT_FENCED)
        snprintf(to, size, "fenced: another worker owns the lanes");
    else
        snprintf(to, size, "exit code %d", WEXITSTATUS(status));
}

static void after_exit(RedisModuleCtx *ctx, Deployment *deployment, int status, long long now) {
    Worker *worker = &deployment->worker;
    bool asked = worker->stopping_since_ms > 0;
    describe_exit(worker, status);
    RedisModule_Log(ctx, asked ? "notice" : "warning", "worker of %s, pid %d: %s", deployment->name, (int)worker->pid,
                    worker->last_exit);
    close_pipe(worker);
    worker->pid = 0;
    worker->stopping_since_ms = 0;
    if (now - worker->started_ms > STEADY_MS) worker->backoff_ms = BACKOFF_FIRST_MS;
    if (asked || worker->version != deployment->version) {
        worker->state = WORKER_STOPPED;
        worker->next_start_ms = 0;
        worker->backoff_ms = BACKOFF_FIRST_MS;
        return;
    }
    back_off(worker, now);
    if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FENCED) worker->state = WORKER_FENCED;
}

void worker_release(Worker *worker) {
    close_pipe(worker);
    if (worker->pid <= 0) return;
    kill(worker->pid, SIGTERM);
    Orphan *orphan = RedisModule_Alloc(sizeof(*orphan));
    *orphan = (Orphan){worker->pid, workers_clock_ms(), orphans};
    orphans = orphan;
    worker->pid = 0;
}

static void reap_orphans(long long now) {
    for (Orphan **at = &orphans; *at != NULL;) {
        Orphan *orphan = *at;
        int status;
        if (has_ended(orphan->pid, &status)) {
            *at = orphan->next;
            RedisModule_Free(orphan);
            continue;
        }
        if (now - orphan->since_ms > KILL_AFTER_MS) kill_group(orphan->pid);
        at = &orphan->next;
    }
}

static bool heartbeat_is_fresh(const Worker *worker, long long now) {
    return worker->heartbeat_ms > 0 && now - worker->heartbeat_ms < HEARTBEAT_FRESH_MS;
}

static void tick_one(RedisModuleCtx *ctx, Deployment *deployment, long long now,
                     bool (*may_start)(RedisModuleCtx *ctx)) {
    Worker *worker = &deployment->worker;
    bool wanted = shard.primary && !shard.loading && shard.supervise && !deployment->external_worker;
    int status;
    if (worker->pid > 0 && has_ended(worker->pid, &status)) after_exit(ctx, deployment, status, now);
    if (worker->pid > 0) {
        if (!wanted || worker->version != deployment->version || worker->stopping_since_ms > 0) ask_to_end(worker, now);
        return;
    }
    if (!wanted) {
        bool alive = shard.primary && heartbeat_is_fresh(worker, now);
        worker->state = alive ? WORKER_RUNNING : WORKER_STOPPED;
        return;
    }
    /* Another worker owns the lanes: to start ours would only take them away from it. */
    if (worker->state == WORKER_FENCED && heartbeat_is_fresh(worker, now)) return;
    if (now < worker->next_start_ms) return;
    /* A primary that comes back takes itself for one until the cluster tells it who is by now. */
    if (may_start(ctx)) start(ctx, deployment, now);
}

void workers_tick(RedisModuleCtx *ctx, bool (*may_start)(RedisModuleCtx *ctx)) {
    long long now = workers_clock_ms();
    reap_orphans(now);
    for (int i = 0; i < shard.count; i++) tick_one(ctx, shard.deployments[i], now, may_start);
}

void workers_shutdown(void) {
    for (int i = 0; i < shard.count; i++) worker_release(&shard.deployments[i]->worker);
}

/* Who could reap them later? So they are killed (what they have open is rolled back, and applied again) and waited for,
 * which takes the kernel some milliseconds. */
void workers_unload(void) {
    int status;
    workers_shutdown();
    for (Orphan *orphan = orphans; orphan != NULL; orphan = orphan->next) kill_group(orphan->pid);
    long long deadline = workers_clock_ms() + UNLOAD_MS;
    while (orphans != NULL) {
        Orphan *orphan = orphans;
        while (!has_ended(orphan->pid, &status) && workers_clock_ms() < deadline) usleep(500);
        orphans = orphan->next;
        RedisModule_Free(orphan);
    }
}

/* -- Heartbeats ---------------------------------------------------------------------------------------------------- */

static void take_heartbeat(Worker *worker, Slice id, Slice report) {
    snprintf(worker->id, sizeof(worker->id), "%.*s", (int)id.len, id.bytes);
    worker->heartbeat_ms = workers_clock_ms();
    /* The beat of another worker does not bring ours back from its fence or its pause. */
    if (worker->state == WORKER_STARTING || worker->state == WORKER_STOPPED) worker->state = WORKER_RUNNING;
    if (worker->report != NULL) RedisModule_Free(worker->report);
    worker->report = slice_copy(report);
}

int worker_heartbeat_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (rights_refused(ctx)) return REDISMODULE_OK;
    if (argc != 4) return RedisModule_WrongArity(ctx);
    Slice id = string_slice(argv[2]), report = string_slice(argv[3]);
    Deployment *deployment = shard_find(string_slice(argv[1]));
    if (!json_is_object(report)) return RedisModule_ReplyWithError(ctx, "ERR the report must be a JSON object");
    const char *state = "stop";
    if (deployment != NULL && shard.primary) {
        Worker *worker = &deployment->worker;
        bool other_fresh = strcmp(worker->id, "") != 0 && !slice_equals(id, worker->id) &&
                           heartbeat_is_fresh(worker, workers_clock_ms());
        /* Two at once: the connector's fence settles who commits; the status shows the one that came last. */
        if (other_fresh)
            RedisModule_Log(ctx, "debug", "two workers of %s beat: %s and %.*s", deployment->name, worker->id,
                            (int)id.len, id.bytes);
        take_heartbeat(worker, id, report);
        state = deployment->draining ? "drain" : deployment->paused.since_ms > 0 ? "pause" : "run";
    }
    RedisModule_ReplyWithArray(ctx, 3);
    RedisModule_ReplyWithLongLong(ctx, (long long)shard.epoch);
    RedisModule_ReplyWithLongLong(ctx, deployment != NULL ? deployment->version : 0);
    return RedisModule_ReplyWithStringBuffer(ctx, state, strlen(state));
}
