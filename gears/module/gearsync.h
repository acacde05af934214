/* What the module is called, and its version: here it stands once for the C files, the build and the packages. All else
 * is in the headers of the folders, and what all of them share in shard.h. */
#ifndef GEARSYNC_H
#define GEARSYNC_H

#define GEARSYNC_VERSION_TEXT "0.1.0"
/* Stands in the file as it is, so that Python can tell the version of a built module. */
#define GEARSYNC_MARK "gearsync module " GEARSYNC_VERSION_TEXT
#define GEARSYNC_VERSION 100

#endif
