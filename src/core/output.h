/* A file that comes to be whole or not at all. Its bytes go to a file without a name, where the system has such, else to one
 * beside it under a name of its own; PATH is the old file, or none, until everything is on disk. */
#ifndef FE_OUTPUT_H
#define FE_OUTPUT_H

#include "core/core.h"

typedef struct fe_output {
    char *path, *temporary; /* owned */
    int fd;
    bool nameless;
} fe_output;

/* `bytes`: what is going to be written, which is reserved where the system can. FERRUM_EIO: there is no room for it, PATH is
 * something else than a regular file, or nothing can be created beside it. */
int fe_output_open(fe_output *o, const char *path, uint64_t bytes, ferrum_error *err);
/* From any thread. */
int fe_output_write(const fe_output *o, const void *data, uint64_t bytes, uint64_t offset, ferrum_error *err);
/* To disk, then under the name PATH. */
int fe_output_commit(fe_output *o, ferrum_error *err);
/* After a commit it only frees what o has; without one nothing is left of the file. */
void fe_output_close(fe_output *o);

#endif
