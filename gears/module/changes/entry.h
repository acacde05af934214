/* Changes as a stream has them. */
#ifndef GEARSYNC_ENTRY_H
#define GEARSYNC_ENTRY_H

#include "changes/image.h"

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

#endif
