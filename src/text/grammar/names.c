#include "text/grammar/names.h"
#include "text/grammar/grow.h"

#include <stdlib.h>

static uint64_t hash_of(ferrum_str name) {
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < name.len; i++) h = (h ^ (unsigned char)name.data[i]) * 0x100000001B3u;
    return h ^ h >> 32;
}

static bool rehash(fe_names *n) {
    size_t size = n->slots ? 2 * (n->mask + 1) : 64;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) return false;
    free(n->slots);
    n->slots = slots;
    n->mask = size - 1;
    for (size_t k = 0; k < n->count; k++) {
        size_t i = hash_of(n->list[k]) & n->mask;
        while (slots[i]) i = (i + 1) & n->mask;
        slots[i] = (uint32_t)k + 1;
    }
    return true;
}

uint32_t fe_names_add(fe_names *n, ferrum_str name) {
    if ((!n->slots || n->count * 2 >= n->mask) && !rehash(n)) return FE_NO_NAME;
    size_t i = hash_of(name) & n->mask;
    for (; n->slots[i]; i = (i + 1) & n->mask)
        if (fe_str_equal(n->list[n->slots[i] - 1], name)) return n->slots[i] - 1;
    if (!fe_grow((void **)&n->list, &n->capacity, n->count + 1, sizeof *n->list)) return FE_NO_NAME;
    n->list[n->count] = name;
    n->slots[i] = (uint32_t)++n->count;
    return (uint32_t)n->count - 1;
}

void fe_names_free(fe_names *n) {
    free(n->list);
    free(n->slots);
    *n = (fe_names){0};
}
