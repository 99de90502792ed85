#include "text/merge.h"

void fe_merger_free(fe_merger *m) {
    free(m->symbols);
    free(m->heap);
}

bool fe_merger_reserve(fe_merger *m, size_t symbols) {
    m->count = 0;
    m->heap_count = 0;
    if (symbols >= FE_NO_SYMBOL || symbols > SIZE_MAX / sizeof *m->symbols / 2) return false;
    if (symbols <= m->capacity) return true;
    size_t capacity = fe_max(symbols, fe_max(2 * m->capacity, 64));
    fe_symbol *grown = realloc(m->symbols, capacity * sizeof *grown);
    if (!grown) return false;
    m->symbols = grown;
    m->capacity = capacity;
    return true;
}

static bool heap_push(fe_merger *m, fe_candidate c) {
    if (m->heap_count == m->heap_capacity) {
        size_t capacity = fe_max(2 * m->heap_capacity, 64);
        if (capacity > SIZE_MAX / sizeof *m->heap) return false;
        fe_candidate *grown = realloc(m->heap, capacity * sizeof *grown);
        if (!grown) return false;
        m->heap = grown;
        m->heap_capacity = capacity;
    }
    size_t at = m->heap_count++;
    for (size_t up; at > 0 && c.key < m->heap[up = (at - 1) / 2].key; at = up) m->heap[at] = m->heap[up];
    m->heap[at] = c;
    return true;
}

static fe_candidate heap_pop(fe_merger *m) {
    fe_candidate top = m->heap[0], last = m->heap[--m->heap_count];
    size_t at = 0, n = m->heap_count;
    for (size_t down; (down = 2 * at + 1) < n; at = down) {
        if (down + 1 < n && m->heap[down + 1].key < m->heap[down].key) down++;
        if (last.key <= m->heap[down].key) break;
        m->heap[at] = m->heap[down];
    }
    m->heap[at] = last;
    return top;
}

static bool consider(fe_merger *m, fe_pair_fn pair, const void *rules, const char *word, uint32_t left) {
    if (left == FE_NO_SYMBOL || m->symbols[left].next == FE_NO_SYMBOL) return true;
    const fe_symbol *a = &m->symbols[left], *b = &m->symbols[a->next];
    uint32_t priority;
    fe_candidate c = {.len = a->len + b->len};
    if (!pair(rules, word, a, b, &priority, &c.id)) return true;
    c.key = (uint64_t)priority << 32 | left;
    return heap_push(m, c);
}

bool fe_merger_run(fe_merger *m, fe_pair_fn pair, const void *rules, const char *word) {
    for (uint32_t i = 0; i + 1 < m->count; i++)
        if (!consider(m, pair, rules, word, i)) return false;
    while (m->heap_count > 0) {
        fe_candidate c = heap_pop(m);
        uint32_t left = (uint32_t)c.key;
        fe_symbol *a = &m->symbols[left];
        if (a->len == 0 || a->next == FE_NO_SYMBOL) continue;
        fe_symbol *b = &m->symbols[a->next];
        if (a->len + b->len != c.len) continue; /* either has grown since, and only grows */
        a->id = c.id;
        a->len = c.len;
        a->next = b->next;
        b->len = 0;
        if (a->next != FE_NO_SYMBOL) m->symbols[a->next].prev = left;
        if (!consider(m, pair, rules, word, a->prev) || !consider(m, pair, rules, word, left)) return false;
    }
    return true;
}
