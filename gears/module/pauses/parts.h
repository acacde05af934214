/* Only for the files of pauses: pause.c, hold.c and held.c. */
#ifndef GEARSYNC_PAUSES_PARTS_H
#define GEARSYNC_PAUSES_PARTS_H

#include "shard.h"

/* -- pause.c --------------------------------------------------------------------------------------------------- */
void pause_add_line(Text *text, Slice slice); /* without what stands in the way of a line */

/* -- hold.c ---------------------------------------------------------------------------------------------------- */
/* The stream that holds back what a lane has of a function; NULL: there is none. */
Lane *hold_stream(const Deployment *deployment, const Lane *lane, const char *function);
void hold_open(RedisModuleCtx *ctx, Deployment *deployment, const Lane *lane, const char *function);
bool hold_end(RedisModuleCtx *ctx, Deployment *deployment, Lane *held); /* false: it has changes, or is paused */

#endif
