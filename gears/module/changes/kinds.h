/* Keys that are no hashes. */
#ifndef GEARSYNC_KINDS_H
#define GEARSYNC_KINDS_H

#include "changes/image.h"

bool kind_is(Slice word, Kind *kind);
Kind kind_of_event(int type); /* KIND_HASH, too, for events that belong to no kind */
bool kind_is_members(Kind kind);
/* Whether the key holds what a mapping of the kind is about; of a document also its text, to be freed. */
bool kind_holds(RedisModuleCtx *ctx, Kind kind, RedisModuleKey *key, RedisModuleString *name,
                RedisModuleString **document);
/* The image of such a key: a document is one field, members have none. Takes the document over. */
void kind_read(Image *image, RedisModuleString **document);
void kinds_free(void);

#endif
