/* tokenizer.ggml.precompiled_charsmap: how SentencePiece's tokenizers rewrite a text first, NFKC and more. */
#ifndef FE_CHARSMAP_H
#define FE_CHARSMAP_H

#include "core/core.h"
#include <ferrum/gguf.h>

/* Views into the file; all zero where it has none. */
typedef struct fe_charsmap {
    const char *units; /* [unit_count] of 32 bits, unaligned: a double-array trie */
    size_t unit_count;
    const char *strings; /* what is written instead, each up to its 0 */
    size_t string_bytes;
} fe_charsmap;

int fe_charsmap_read(fe_charsmap *m, const ferrum_gguf *g, ferrum_error *err);

/* The longest start of the text that is rewritten: its bytes and what is written instead, or 0. */
size_t fe_charsmap_match(const fe_charsmap *m, const char *text, size_t len, ferrum_str *instead);

#endif
