/* Only for the files of rows: what has changed since rows were read. */
#ifndef GEARSYNC_MARKS_H
#define GEARSYNC_MARKS_H

#include "shard.h"

typedef struct {
    bool valid;
    uint64_t tick;
} ReadMark;
bool mark_read(const RedisModuleString *text, ReadMark *mark); /* false: it is no mark */
bool mark_is_passed(const ReadMark *mark, int db, Slice key);  /* the key's row may have changed since */
void mark_overtake(Slice key);                                 /* somebody says that the key's row has changed */

#endif
