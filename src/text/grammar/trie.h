/* Words that tokens are made of, as a tree by their bytes: the nodes stand in depth-first order. */
#ifndef FE_GRAMMAR_TRIE_H
#define FE_GRAMMAR_TRIE_H

#include "core/core.h"
#include <ferrum/gguf.h>

typedef struct fe_word {
    ferrum_str text;
    uint32_t id;
} fe_word;

typedef struct fe_trie {
    uint32_t count;     /* nodes; node 0 is the empty word */
    uint8_t *byte;      /* the last byte of each node's word */
    uint32_t *end;      /* behind the last node of its subtree: its next sibling, if it has one */
    uint32_t *first_id; /* [count + 1]: the ids of its own word, then those of its subtree, stand from here in ids */
    uint32_t *ids;
    uint32_t depth; /* bytes of the longest word */
} fe_trie;

/* Sorts the words. t is zeroed by the caller, and closed by it on failure (FERRUM_ENOMEM) too. */
int fe_trie_open(fe_trie *t, fe_word *words, size_t count, ferrum_error *err);
void fe_trie_close(fe_trie *t);

/* The child by that byte, or 0. */
uint32_t fe_trie_child(const fe_trie *t, uint32_t node, uint8_t byte);

#endif
