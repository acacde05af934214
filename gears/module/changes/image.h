/* The image of a key, as a change carries it. */
#ifndef GEARSYNC_IMAGE_H
#define GEARSYNC_IMAGE_H

#include "shard.h"

#define MAX_FIXED 64 /* rules of one target that are told apart, and strings of an image without an allocation */
typedef struct {
    RedisModuleString *key, *meta; /* meta: the operation, the epoch, perhaps a ticket */
    RedisModuleString *ticketed;   /* the meta, if it is of this image alone */
    RedisModuleString **argv;      /* field, value… */
    size_t count, capacity;
    Rule *rule;        /* the only one that the fields are of; NULL: several, or a whole hash */
    bool fields_owned; /* they are to be freed, as values are */
    bool values_lent;  /* they are not */
    RedisModuleString *fixed[MAX_FIXED];
} Image;
void image_start(Image *image, RedisModuleString *key, char op);
void image_add(Image *image, RedisModuleString *field, RedisModuleString *value);
/* What the rules of one target map; the whole hash when those are too many. */
void image_read(Image *image, RedisModuleKey *key, Rule **rules, int count);
void image_ticket(Image *image, Slice ticket); /* puts a text behind the epoch */
/* Says that the change belongs to the one before it in its lane; before a ticket is put there. */
void image_go_on(Image *image, char op);
void image_end(Image *image);
void image_forget_metas(void); /* after the epoch changed */

#endif
