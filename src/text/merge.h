/* Merging a word's symbols pair by pair, the best pair first, the leftmost where equal: what byte-level BPE and SentencePiece
 * share. O(n log n) by a heap. */
#ifndef FE_MERGE_H
#define FE_MERGE_H

#include "core/core.h"

#define FE_NO_SYMBOL UINT32_MAX

typedef struct fe_symbol {
    int32_t id;          /* its token, or -1 */
    uint32_t start, len; /* its bytes in the word; len 0: merged into the one before */
    uint32_t prev, next; /* neighbours, or FE_NO_SYMBOL */
} fe_symbol;

/* May the two become one token? Stores its id and its priority, the lowest of which is merged first. */
typedef bool (*fe_pair_fn)(const void *rules, const char *word, const fe_symbol *left, const fe_symbol *right,
                           uint32_t *priority, int32_t *id);

typedef struct fe_candidate {
    uint64_t key; /* priority, then the left symbol's index */
    uint32_t len; /* of both symbols when it was found: another by now means that it is stale */
    int32_t id;
} fe_candidate;

/* Scratch that is kept from word to word. */
typedef struct fe_merger {
    fe_symbol *symbols;
    fe_candidate *heap;
    uint32_t count;
    size_t capacity, heap_count, heap_capacity;
} fe_merger;

void fe_merger_free(fe_merger *m);
bool fe_merger_reserve(fe_merger *m, size_t symbols); /* and empties it; false: out of memory */

/* Appends a symbol behind the last; within what was reserved. */
static inline void fe_merger_push(fe_merger *m, int32_t id, uint32_t start, uint32_t len) {
    uint32_t i = m->count++;
    m->symbols[i] = (fe_symbol){id, start, len, i ? i - 1 : FE_NO_SYMBOL, FE_NO_SYMBOL};
    if (i) m->symbols[i - 1].next = i;
}

/* What is left is the chain from symbol 0 on. False: out of memory. */
bool fe_merger_run(fe_merger *m, fe_pair_fn pair, const void *rules, const char *word);

#endif
