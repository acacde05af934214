/* Where an AOF leaves a transaction open: the file is read from its beginning, command by command, since what looks
 * like a command can be a part of somebody's value. */
#define _GNU_SOURCE
#include "parts.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LINE_BYTES 1100 /* of an annotation at most 1024 */
#define SKIM_BYTES 4096 /* what is shorter is read, since a seek costs more */
#define RDB_EOF 0xff
#define CRC_BYTES 8

/* -- An RDB before the commands (aof-use-rdb-preamble, where there is one file) ------------------------------------ */

static uint64_t crc_table[256];

/* CRC-64 as the server computes it ("Jones", reflected). */
static void make_crc_table(void) {
    for (unsigned i = 0; i < 256; i++) {
        uint64_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ 0x95ac9329ac4bc9b5ULL : crc >> 1;
        crc_table[i] = crc;
    }
}

/* An RDB ends with a byte and the sum of all before it and with it, and there is no other way to find its end but to
 * understand all of it. False: it has no sum (rdbchecksum no). */
static bool skip_rdb(FILE *file) {
    uint64_t crc = 0;
    int byte;
    make_crc_table();
    while ((byte = getc_unlocked(file)) != EOF) {
        crc = crc_table[(crc ^ (unsigned)byte) & 0xff] ^ (crc >> 8);
        if (byte != RDB_EOF) continue;
        unsigned char sum[CRC_BYTES];
        size_t got = fread(sum, 1, sizeof(sum), file);
        uint64_t told = 0;
        for (size_t i = sizeof(sum); i-- > 0;) told = told << 8 | sum[i];
        if (got == sizeof(sum) && told == crc) return true;
        if (fseek(file, -(long)got, SEEK_CUR) != 0) return false;
    }
    return false;
}

static bool begins_with_rdb(FILE *file) {
    char first[5];
    bool found = fread(first, 1, sizeof(first), file) == sizeof(first) && memcmp(first, "REDIS", sizeof(first)) == 0;
    rewind(file);
    return found;
}

/* -- The commands -------------------------------------------------------------------------------------------------- */

/* Passes by the bytes of an argument and the end of its line; what fits is in text. False: they are not all there. */
static bool pass_argument(FILE *file, long size, long end, char text[SKIM_BYTES + 2]) {
    text[0] = '\0';
    if (size > SKIM_BYTES) return fseek(file, size + 2, SEEK_CUR) == 0 && ftell(file) <= end;
    if (fread(text, 1, (size_t)size + 2, file) != (size_t)size + 2) return false;
    text[size] = '\0';
    return true;
}

/* Reads one command, whose name is put into name. False: it is none, or not all of it is there. */
static bool read_command(FILE *file, long count, long end, char name[8]) {
    char line[LINE_BYTES], text[SKIM_BYTES + 2];
    for (long i = 0; i < count; i++) {
        if (fgets(line, sizeof(line), file) == NULL || line[0] != '$') return false;
        long size = strtol(line + 1, NULL, 10);
        if (size < 0 || !pass_argument(file, size, end, text)) return false;
        if (i == 0) snprintf(name, 8, "%.7s", text);
    }
    return true;
}

/* Reads commands from where the file stands up to its end. False: something else stands there. */
static bool read_commands(FILE *file, long end, long *begins) {
    char line[LINE_BYTES], name[8];
    *begins = -1;
    for (long at = ftell(file); fgets(line, sizeof(line), file) != NULL; at = ftell(file)) {
        if (line[0] == '#') continue; /* aof-timestamp-enabled */
        long count = line[0] == '*' ? strtol(line + 1, NULL, 10) : 0;
        if (count < 1 || !read_command(file, count, end, name)) return false;
        if (count == 1 && strcasecmp(name, "multi") == 0 && *begins < 0) *begins = at;
        if (count == 1 && strcasecmp(name, "exec") == 0) *begins = -1;
    }
    return ferror(file) == 0;
}

static long size_of(FILE *file) { return fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1; }

bool torn_find(FILE *file, long *begins) {
    long end = size_of(file);
    if (end < 0) return false;
    rewind(file);
    return (!begins_with_rdb(file) || skip_rdb(file)) && read_commands(file, end, begins);
}

bool torn_ends_whole(FILE *file, long at) {
    long end = size_of(file), begins;
    return end >= 0 && fseek(file, at, SEEK_SET) == 0 && read_commands(file, end, &begins) && begins < 0;
}
