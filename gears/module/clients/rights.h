/* Who may run commands that do what writing gearsync's own keys by hand would do. */
#ifndef GEARSYNC_RIGHTS_H
#define GEARSYNC_RIGHTS_H

#include "shard.h"

bool rights_refused(RedisModuleCtx *ctx); /* the client was told that it may not run its command */

#endif
