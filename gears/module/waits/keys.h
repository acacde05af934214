/* Keys of which a change waits, in any lane or to get there. */
#ifndef GEARSYNC_WAITS_KEYS_H
#define GEARSYNC_WAITS_KEYS_H

#include "shard.h"

bool waiting_for(int db, Slice key);
bool waiting_since_mark(int db, Slice key); /* or whether one has come to SQL since the mark that was read last */

#endif
