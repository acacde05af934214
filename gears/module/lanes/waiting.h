/* Keys of which a change waits in a lane; waits/keys.h has the question of all lanes. */
#ifndef GEARSYNC_WAITING_H
#define GEARSYNC_WAITING_H

#include "shard.h"

void waiting_watch(void);  /* from now on it is told which keys they are; before, all of a lane that is not empty */
void waiting_forget(void); /* the module goes */
void waiting_note(Lane *lane, Slice key); /* lane->last is a change of key */
bool waiting_is_of_all(Slice key);        /* a change of this name says something of every key */
bool waiting_in(Lane *lane, Slice key);
bool waiting_in_since_mark(Lane *lane, Slice key); /* or one has come to SQL since the mark that was read last */

#endif
