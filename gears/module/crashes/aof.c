/* An AOF that ends within a transaction.
 *
 * When a crash tears the last command of a transaction, the server cuts off that command alone at its next start: the
 * file keeps an open MULTI. What is written from then on stands inside of it, and the start after that runs what
 * this one has dropped: a write without its change, or a change without its write. From Redis 7 on it does not start at
 * all if the file is no longer the last one. With this module loaded most writes are transactions in the AOF, so the
 * file is looked at after each load of it, before anything is appended, and the open transaction cut off. */
#define _GNU_SOURCE
#include "crashes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parts.h"

#define WINDOW ((long)1 << 16)
#define PATH_BYTES 1024
#define NAME_BYTES (PATH_BYTES / 3)

static const char multi[] = "*1\r\n$5\r\nMULTI\r\n", exec[] = "*1\r\n$4\r\nEXEC\r\n";
static bool rewrite_due;

/* A setting; the server's own choice where nothing tells it (CONFIG is renamed). False: it is not to be had. */
static bool config(RedisModuleCtx *ctx, const char *name, const char *otherwise, char value[NAME_BYTES]) {
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "CONFIG", "cc", "GET", name), *found = NULL;
    Slice text = {otherwise, strlen(otherwise)};
    if (reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ARRAY &&
        (found = RedisModule_CallReplyArrayElement(reply, 1)) != NULL)
        text.bytes = RedisModule_CallReplyStringPtr(found, &text.len);
    bool fits = text.bytes != NULL && text.len < NAME_BYTES;
    if (fits) snprintf(value, NAME_BYTES, "%.*s", (int)text.len, text.bytes);
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return fits;
}

/* The number in a line of the manifest, "file <name> seq <number> type i"; -1: it is of another type. The name stands
 * in quotes where it has blanks. */
static long long increment_of(const char *line) {
    long long number;
    char type;
    if (strncmp(line, "file ", 5) != 0) return -1;
    line += 5;
    if (*line == '"')
        for (line++; *line != '\0' && *line != '"'; line++) line += *line == '\\' && line[1] != '\0';
    line = strchr(line, ' ');
    return line != NULL && sscanf(line, " seq %lld type %c", &number, &type) == 2 && type == 'i' ? number : -1;
}

/* The file that the server appends to, from its working folder: the manifest tells, since others of such names may be
 * left from another crash or from a backup. Without one it has just come from an older version, as the only one. */
static bool newest_file(RedisModuleCtx *ctx, char path[PATH_BYTES]) {
    char folder[NAME_BYTES], base[NAME_BYTES], line[PATH_BYTES];
    if (!config(ctx, "appendfilename", "appendonly.aof", base)) return false;
    snprintf(path, PATH_BYTES, "%s", base);
    if (shard.server_version < 0x070000) return true; /* there is one file */
    if (!config(ctx, "appenddirname", "appendonlydir", folder)) return false;
    snprintf(path, PATH_BYTES, "%s/%s.manifest", folder, base);
    FILE *manifest = fopen(path, "r");
    if (manifest == NULL) {
        RedisModule_Log(ctx, "warning", "whether a crash has torn the append only file can't be seen: %s: %s", path,
                        strerror(errno));
        return false;
    }
    long long newest = -1;
    while (fgets(line, sizeof(line), manifest) != NULL) {
        long long number = increment_of(line);
        if (number > newest) newest = number;
    }
    fclose(manifest);
    if (newest >= 0)
        snprintf(path, PATH_BYTES, "%s/%s.%lld.incr.aof", folder, base, newest);
    else
        snprintf(path, PATH_BYTES, "%s/%s", folder, base);
    return true;
}

typedef enum { NO_MARK, MARK_OPENS, MARK_ENDS } Mark;

/* The last mark in the window, and where it is. */
static Mark last_mark(const char *bytes, size_t size, size_t *at) {
    for (const char *star; (star = memrchr(bytes, '*', size)) != NULL; size = *at) {
        *at = (size_t)(star - bytes);
        /* Behind the window stands what the caller has read of it before, or nothing. */
        if (strncmp(star, multi, sizeof(multi) - 1) == 0) return MARK_OPENS;
        if (strncmp(star, exec, sizeof(exec) - 1) == 0) return MARK_ENDS;
    }
    return NO_MARK;
}

/* Whether the file may end within a transaction. The last mark tells, unless it is a part of somebody's value. */
static bool may_end_in_transaction(FILE *file) {
    static char window[WINDOW + sizeof(multi)];
    if (fseek(file, 0, SEEK_END) != 0) return true;
    for (long end = ftell(file); end > 0; end -= WINDOW) {
        long start = end > WINDOW ? end - WINDOW : 0;
        /* A little further than the window, so that a mark across its end is seen. */
        if (fseek(file, start, SEEK_SET) != 0) return true;
        size_t got = fread(window, 1, (size_t)(end - start) + sizeof(multi) - 1, file), at;
        window[got] = '\0';
        Mark mark = last_mark(window, got, &at);
        if (mark != NO_MARK) return mark == MARK_OPENS || !torn_ends_whole(file, start + (long)(at + sizeof(exec) - 1));
    }
    return false;
}

/* False: it must be written anew. What the server appends to is opened later, or always written at its end. */
static bool cut_off(RedisModuleCtx *ctx, FILE *file, const char *path) {
    long begins;
    if (!torn_find(file, &begins)) return false;
    if (begins < 0) return true;
    if (truncate(path, begins) != 0) {
        RedisModule_Log(ctx, "warning", "the append only file %s can't be cut: %s", path, strerror(errno));
        return false;
    }
    RedisModule_Log(ctx, "warning",
                    "the append only file ended within a transaction that a crash has torn; %s is cut at offset %ld, "
                    "where that began, so that the next start does not run the torn part",
                    path, begins);
    return true;
}

void aof_check(RedisModuleCtx *ctx) {
    char path[PATH_BYTES];
    if ((RedisModule_GetContextFlags(ctx) & REDISMODULE_CTX_FLAGS_AOF) == 0 || !newest_file(ctx, path)) return;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return;
    rewrite_due = may_end_in_transaction(file) && !cut_off(ctx, file, path);
    fclose(file);
}

void aof_tick(RedisModuleCtx *ctx) {
    if (!rewrite_due) return;
    rewrite_due = false;
    RedisModule_Log(ctx, "warning",
                    "the append only file ends within a transaction that a crash has torn; it is written anew, "
                    "so that the next start does not run the torn part");
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "BGREWRITEAOF", "");
    if (reply == NULL || RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ERROR)
        RedisModule_Log(ctx, "warning", "the append only file can't be written anew now; run BGREWRITEAOF");
    if (reply != NULL) RedisModule_FreeCallReply(reply);
}
