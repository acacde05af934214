/* An AOF that ends within a transaction.
 *
 * When a crash tears the last command of a transaction, the server cuts off that command alone at its next start: the
 * file keeps an open MULTI. What is written from then on stands inside of it, and the start after that runs what
 * this one has dropped: a write without its change, or a change without its write. From Redis 7 on it does not start at
 * all if the file is no longer the last one. With this module loaded most writes are transactions in the AOF, so the
 * file is looked at after each load of it, before anything is appended, and the open transaction cut off. */
#define _GNU_SOURCE
#include "crashes.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parts.h"

#define WINDOW ((long)1 << 16)
#define LOOK_BACK ((long)64 << 20)
#define PATH_BYTES 1024

static const char multi[] = "*1\r\n$5\r\nMULTI\r\n", exec[] = "*1\r\n$4\r\nEXEC\r\n";
static bool rewrite_due;

static bool config(RedisModuleCtx *ctx, const char *name, char *value, size_t size) {
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "CONFIG", "cc", "GET", name), *found = NULL;
    bool known = reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ARRAY &&
                 (found = RedisModule_CallReplyArrayElement(reply, 1)) != NULL;
    if (known) {
        size_t length;
        const char *bytes = RedisModule_CallReplyStringPtr(found, &length);
        known = bytes != NULL && length < size;
        if (known) {
            memcpy(value, bytes, length);
            value[length] = '\0';
        }
    }
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return known;
}

/* The number in "<base>.<number>.incr.aof"; -1 for other names. */
static long long increment_of(const char *name, const char *base) {
    size_t length = strlen(base);
    if (strncmp(name, base, length) != 0 || name[length] != '.') return -1;
    char *end;
    long long number = strtoll(name + length + 1, &end, 10);
    return end != name + length + 1 && strcmp(end, ".incr.aof") == 0 ? number : -1;
}

/* The file that the server appends to, from its working folder; false: there is none. */
static bool newest_file(RedisModuleCtx *ctx, char *path) {
    char folder[PATH_BYTES / 3], base[PATH_BYTES / 3];
    if (!config(ctx, "appendfilename", base, sizeof(base))) return false;
    if (!config(ctx, "appenddirname", folder, sizeof(folder))) { /* Before Redis 7 there is one file. */
        snprintf(path, PATH_BYTES, "%s", base);
        return true;
    }
    DIR *directory = opendir(folder);
    if (directory == NULL) return false;
    long long newest = -1;
    for (struct dirent *each; (each = readdir(directory)) != NULL;) {
        long long number = increment_of(each->d_name, base);
        if (number > newest) newest = number;
    }
    closedir(directory);
    snprintf(path, PATH_BYTES, "%s/%s.%lld.incr.aof", folder, base, newest);
    return newest >= 0;
}

/* 1: the last mark in the window opens a transaction; 0: it ends one; -1: there is none. */
static int last_mark(const char *bytes, size_t size) {
    for (size_t at = size; at-- > 0;) {
        if (bytes[at] != '*') continue;
        if (size - at >= sizeof(multi) - 1 && memcmp(bytes + at, multi, sizeof(multi) - 1) == 0) return 1;
        if (size - at >= sizeof(exec) - 1 && memcmp(bytes + at, exec, sizeof(exec) - 1) == 0) return 0;
    }
    return -1;
}

static bool ends_in_transaction(FILE *file) {
    static char window[WINDOW + sizeof(multi)];
    if (fseek(file, 0, SEEK_END) != 0) return false;
    long size = ftell(file), least = size > LOOK_BACK ? size - LOOK_BACK : 0;
    for (long end = size; end > least; end -= WINDOW) {
        long start = end > WINDOW ? end - WINDOW : 0;
        /* A little further than the window, so that a mark across its end is seen. */
        if (fseek(file, start, SEEK_SET) != 0) return false;
        size_t got = fread(window, 1, (size_t)(end - start) + sizeof(multi), file);
        int mark = last_mark(window, got);
        if (mark >= 0) return mark == 1;
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
    rewrite_due = ends_in_transaction(file) && !cut_off(ctx, file, path);
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
