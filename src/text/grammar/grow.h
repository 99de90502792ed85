/* Growing arrays. */
#ifndef FE_GRAMMAR_GROW_H
#define FE_GRAMMAR_GROW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* Room for `need` elements at *array, at least doubling; false, and all as it was, where memory runs out. */
static inline bool fe_grow(void **array, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity) return true;
    size_t more = *capacity * 2 < 16 ? 16 : *capacity * 2;
    if (more < need) more = need;
    if (more > SIZE_MAX / size) return false;
    void *p = realloc(*array, more * size);
    if (!p) return false;
    *array = p;
    *capacity = more;
    return true;
}

#endif
