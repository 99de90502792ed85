/* Names by number, in the order in which they first came. */
#ifndef FE_GRAMMAR_NAMES_H
#define FE_GRAMMAR_NAMES_H

#include "core/core.h"
#include <ferrum/gguf.h>

static inline bool fe_str_equal(ferrum_str a, ferrum_str b) {
    if (a.len != b.len || a.len == 0) return a.len == b.len;
    return a.data[a.len - 1] == b.data[b.len - 1] &&
           !__builtin_memcmp(a.data, b.data, a.len); /* most differ at their end */
}

#define FE_NO_NAME UINT32_MAX

typedef struct fe_names {
    ferrum_str *list; /* whose bytes are the caller's */
    size_t count, capacity;
    uint32_t *slots; /* hash table of numbers + 1 */
    size_t mask;
} fe_names;

/* The name's number: the last one, where the name is new. FE_NO_NAME: out of memory. */
uint32_t fe_names_add(fe_names *n, ferrum_str name);
void fe_names_free(fe_names *n);

#endif
