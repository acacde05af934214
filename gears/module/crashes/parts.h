/* Only for the files of crashes: aof.c and torn.c. */
#ifndef GEARSYNC_CRASHES_PARTS_H
#define GEARSYNC_CRASHES_PARTS_H

#include <stdbool.h>
#include <stdio.h>

/* -- torn.c --------------------------------------------------------------------------------------------------- */
/* Where the transaction begins that an AOF leaves open at its end, -1: none is open. False: it can't be told. */
bool torn_find(FILE *file, long *begins);
/* Whether nothing but whole commands follows there, none of them in a transaction that stays open. */
bool torn_ends_whole(FILE *file, long at);

#endif
