/* Memory that is given back all at once, with a bound on how much of it there may be. */
#ifndef FE_ARENA_H
#define FE_ARENA_H

#include "core/core.h"

typedef struct fe_arena {
    struct fe_arena_block *last;
    size_t used, limit; /* bytes: handed out, and at most */
    bool refused;       /* the limit or the system refused memory at least once; */
    bool starved;       /* it was the system */
} fe_arena;

/* An arena of at most `limit` bytes; it takes no memory before the first allocation. */
static inline fe_arena fe_arena_make(size_t limit) { return (fe_arena){.limit = limit}; }

/* Zeroed, aligned to 16 bytes, valid until fe_arena_free. NULL where the limit or memory runs out. */
void *fe_arena_alloc(fe_arena *a, size_t bytes);

/* A copy with a NUL behind it. */
char *fe_arena_copy(fe_arena *a, const char *data, size_t len);

void fe_arena_free(fe_arena *a);

#endif
