/* Which keys a command may change, before it runs. */
#ifndef GEARSYNC_WRITTEN_H
#define GEARSYNC_WRITTEN_H

#include "shard.h"

typedef bool (*KeyTest)(RedisModuleString *key, unsigned kinds); /* by a rule of one of the kinds, as 1 << Kind */
/* Whether the command is one that can end, replace or make keys of any type. */
bool written_by(Slice name);
/* The first key that the command may change and that passes the test; NULL: none. */
RedisModuleString *written_find(RedisModuleString **argv, int argc, KeyTest wanted);
RedisModuleString *written_find_in(RedisModuleCommandFilterCtx *filter, Slice name, int argc, KeyTest wanted);

#endif
