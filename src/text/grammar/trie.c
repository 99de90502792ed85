#include "text/grammar/trie.h"

#include <string.h>

static int compare_words(const void *a, const void *b) {
    const fe_word *x = a, *y = b;
    int order = memcmp(x->text.data, y->text.data, fe_min(x->text.len, y->text.len));
    if (order) return order;
    if (x->text.len != y->text.len) return x->text.len < y->text.len ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static size_t shared(const fe_word *a, const fe_word *b) {
    size_t n = 0, most = fe_min(a->text.len, b->text.len);
    while (n < most && a->text.data[n] == b->text.data[n]) n++;
    return n;
}

static size_t count_nodes(const fe_word *words, size_t count) {
    size_t nodes = 1;
    for (size_t i = 0; i < count; i++) nodes += words[i].text.len - (i ? shared(&words[i - 1], &words[i]) : 0);
    return nodes;
}

/* path[d]: the open node at depth d. */
static void fill(fe_trie *t, const fe_word *words, size_t count, uint32_t *path) {
    uint32_t node = 0;
    size_t depth = 0;
    path[0] = 0;
    t->byte[node++] = 0;
    for (size_t i = 0; i < count; i++) {
        size_t keep = i ? shared(&words[i - 1], &words[i]) : 0;
        while (depth > keep) t->end[path[depth--]] = node;
        for (; depth < words[i].text.len; node++) {
            t->byte[node] = (uint8_t)words[i].text.data[depth];
            t->first_id[node] = (uint32_t)i;
            path[++depth] = node;
        }
        t->ids[i] = words[i].id;
    }
    for (size_t d = 0; d <= depth; d++) t->end[path[d]] = node;
    t->first_id[node] = (uint32_t)count;
}

int fe_trie_open(fe_trie *t, fe_word *words, size_t count, ferrum_error *err) {
    if (count) qsort(words, count, sizeof *words, compare_words);
    size_t nodes = count_nodes(words, count), depth = 0;
    for (size_t i = 0; i < count; i++) depth = fe_max(depth, words[i].text.len);
    if (nodes >= UINT32_MAX / 2) return fe_fail(err, FERRUM_ELIMIT, "a vocabulary of %zu bytes is too large", nodes);
    t->count = (uint32_t)nodes;
    t->depth = (uint32_t)depth;
    t->byte = malloc(nodes);
    t->end = malloc(nodes * sizeof *t->end);
    t->first_id = calloc(nodes + 1, sizeof *t->first_id);
    t->ids = malloc((count + 1) * sizeof *t->ids);
    uint32_t *path = malloc((depth + 1) * sizeof *path);
    bool ok = t->byte && t->end && t->first_id && t->ids && path;
    if (ok) fill(t, words, count, path);
    free(path);
    return ok ? 0 : fe_fail_memory(err, nodes * 9, "a tree of words");
}

void fe_trie_close(fe_trie *t) {
    free(t->byte);
    free(t->end);
    free(t->first_id);
    free(t->ids);
}

uint32_t fe_trie_child(const fe_trie *t, uint32_t node, uint8_t byte) {
    for (uint32_t c = node + 1; c < t->end[node]; c = t->end[c])
        if (t->byte[c] >= byte) return t->byte[c] == byte ? c : 0;
    return 0;
}
