/* Only for the files of lanes: what a Lane has beside its stream. */
#ifndef GEARSYNC_LANES_PARTS_H
#define GEARSYNC_LANES_PARTS_H

#include "shard.h"

/* -- bytes.c: about what the changes of a lane take -------------------------------------------------------------- */
void bytes_take(Lane *lane, size_t count); /* that many fewer, at the head */
void bytes_free(Lane *lane);

/* -- waiting.c: keys of which a change waits -------------------------------------------------------------------- */
void waiting_free(Lane *lane);
void waiting_note_all(Lane *lane); /* lane->last is a change of any key */

#endif
