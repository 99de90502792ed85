#include "core/arena.h"

#include <string.h>

enum { ALIGN = 16, FIRST_BLOCK = 4096, LARGEST_BLOCK = 1 << 20 };

typedef struct fe_arena_block {
    struct fe_arena_block *before;
    size_t used, size; /* of the bytes behind this header */
} fe_arena_block;

_Static_assert(sizeof(fe_arena_block) <= 2 * ALIGN, "the header's room");
enum { HEADER = 2 * ALIGN };

static fe_arena_block *add_block(fe_arena *a, size_t bytes) {
    size_t size = a->last ? fe_min(2 * a->last->size, LARGEST_BLOCK) : FIRST_BLOCK;
    size = fe_max(size, bytes);
    fe_arena_block *b = calloc(1, HEADER + size);
    if (!b) return NULL;
    *b = (fe_arena_block){.before = a->last, .size = size};
    return a->last = b;
}

void *fe_arena_alloc(fe_arena *a, size_t bytes) {
    if (bytes > a->limit - a->used || fe_round_up(fe_max(bytes, 1), ALIGN) > a->limit - a->used) {
        a->refused = true;
        return NULL;
    }
    bytes = fe_round_up(fe_max(bytes, 1), ALIGN);
    fe_arena_block *b = a->last;
    if (!b || bytes > b->size - b->used) b = add_block(a, bytes);
    if (!b) {
        a->refused = a->starved = true;
        return NULL;
    }
    void *p = (char *)b + HEADER + b->used;
    b->used += bytes;
    a->used += bytes;
    return p;
}

char *fe_arena_copy(fe_arena *a, const char *data, size_t len) {
    char *copy = len < SIZE_MAX ? fe_arena_alloc(a, len + 1) : NULL;
    if (copy && len) memcpy(copy, data, len);
    return copy;
}

void fe_arena_free(fe_arena *a) {
    for (fe_arena_block *b = a->last; b;) {
        fe_arena_block *before = b->before;
        free(b);
        b = before;
    }
    a->last = NULL;
    a->used = 0;
}
