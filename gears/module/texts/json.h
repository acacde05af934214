/* JSON that others give. */
#ifndef GEARSYNC_JSON_H
#define GEARSYNC_JSON_H

#include "texts/text.h"

/* Whether a text is one JSON object, in ASCII. */
bool json_is_object(Slice text);

#endif
