/* A sorted index of names. Sorting and not hashing: a hostile file cannot make it slow by colliding names. */
#include "gguf/gguf.h"

#include <string.h>

static int compare(const ferrum_str *a, const ferrum_str *b) {
    int order = memcmp(a->data, b->data, fe_min(a->len, b->len));
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

/* Equal names in the order of the file, so that the first of them is found and the second reported. */
static int compare_slots(const void *a, const void *b) {
    const ferrum_str *x = *(const ferrum_str *const *)a, *y = *(const ferrum_str *const *)b;
    int order = compare(x, y);
    return order ? order : (x > y) - (x < y);
}

int fe_names_open(fe_names *names, const void *items, size_t count, size_t size, const ferrum_str **once,
                  const ferrum_str **twice, ferrum_error *err) {
    *once = *twice = NULL;
    *names = (fe_names){0};
    if (count == 0) return 0;
    names->sorted = calloc(count, sizeof *names->sorted);
    if (!names->sorted) return fe_fail_memory(err, count * sizeof *names->sorted, "the index of a GGUF file");
    names->count = count;
    for (size_t i = 0; i < count; i++) names->sorted[i] = (const ferrum_str *)((const char *)items + i * size);
    qsort(names->sorted, count, sizeof *names->sorted, compare_slots);
    for (size_t i = 1; i < count && !*twice; i++) {
        if (compare(names->sorted[i - 1], names->sorted[i]) != 0) continue;
        *once = names->sorted[i - 1];
        *twice = names->sorted[i];
    }
    return 0;
}

void fe_names_close(fe_names *names) {
    free(names->sorted);
    *names = (fe_names){0};
}

const void *fe_names_find(const fe_names *names, const char *name) {
    ferrum_str wanted = {name, strlen(name)};
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(&wanted, names->sorted[middle]);
        if (order == 0) return names->sorted[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
