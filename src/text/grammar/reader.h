/* A text that is read from front to back: what patterns and grammars have in common. */
#ifndef FE_GRAMMAR_READER_H
#define FE_GRAMMAR_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct fe_reader {
    const char *text;
    size_t len, at;
} fe_reader;

/* The next byte, or -1. */
static inline int fe_peek(const fe_reader *r) { return r->at < r->len ? (unsigned char)r->text[r->at] : -1; }

/* Goes on behind the word, if it comes next. */
static inline bool fe_take(fe_reader *r, const char *word) {
    size_t n = strlen(word);
    if (r->len - r->at < n || memcmp(r->text + r->at, word, n) != 0) return false;
    r->at += n;
    return true;
}

static inline bool fe_at_digit(const fe_reader *r) { return fe_peek(r) >= '0' && fe_peek(r) <= '9'; }

/* Decimal digits, of which there may be none; beyond `most` the rest is left, and *value is above it. */
static inline void fe_take_number(fe_reader *r, uint32_t most, uint32_t *value) {
    for (*value = 0; fe_at_digit(r) && *value <= most; r->at++) *value = *value * 10 + (uint32_t)(fe_peek(r) - '0');
}

/* So many hexadecimal digits, at most 8; false, and what there was of them taken, where one is missing. */
static inline bool fe_take_hex(fe_reader *r, unsigned digits, uint32_t *value) {
    for (*value = 0; digits--; r->at++) {
        int c = fe_peek(r), small = c | 32;
        if (!fe_at_digit(r) && (small < 'a' || small > 'f')) return false;
        *value = *value * 16 + (uint32_t)(fe_at_digit(r) ? c - '0' : small - 'a' + 10);
    }
    return true;
}

#endif
