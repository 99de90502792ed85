/* Regular expressions over bytes, and the automata that they are: a state of an automaton is the expression of what may still
 * follow, and its transitions are Brzozowski's derivatives ("Derivatives of Regular Expressions", 1964), made when they are
 * first asked for. Equal expressions have the same id, so that intersection, complement and counted repetition cost no
 * construction of their own.
 *
 * A set of expressions may extend another, sealed one: it has all of that one's ids, and adds its own behind them. */
#ifndef FE_GRAMMAR_REGEX_H
#define FE_GRAMMAR_REGEX_H

#include "core/core.h"
#include <ferrum/gguf.h>

typedef uint32_t fe_re;
enum {
    FE_RE_NEVER = 0, /* no string at all: also the state from which nothing leads to an end */
    FE_RE_EMPTY = 1, /* the empty string alone */
    FE_RE_ALL = 2,   /* every string of bytes */
};
#define FE_RE_INF UINT32_MAX /* as a bound */

typedef struct fe_byteset {
    uint64_t bits[4];
} fe_byteset;
static inline void fe_byteset_add(fe_byteset *s, unsigned lo, unsigned hi) {
    for (unsigned b = lo; b <= hi; b++) s->bits[b >> 6] |= (uint64_t)1 << (b & 63);
}
static inline bool fe_byteset_has(const fe_byteset *s, unsigned b) { return s->bits[b >> 6] >> (b & 63) & 1; }

typedef struct fe_res fe_res;

/* limit: bytes that nodes and transitions may take; beyond it, or without memory, every operation gives FE_RE_NEVER and
 * fe_res_failed tells. base: NULL, or a sealed set that outlives this one. NULL: out of memory. */
fe_res *fe_res_open(const fe_res *base, size_t limit);
void fe_res_set_limit(fe_res *s, size_t limit);
void fe_res_close(fe_res *s);
/* Makes all transitions that are reachable from what stands in the set; from then on it is only read, by any thread. */
int fe_res_seal(fe_res *s, ferrum_error *err);
/* 0, or FERRUM_ENOMEM or FERRUM_ELIMIT: sticky, fills err. */
int fe_res_failed(const fe_res *s, ferrum_error *err);
uint32_t fe_res_count(const fe_res *s); /* ids in use, the base's included */
size_t fe_res_bytes(const fe_res *s);

fe_re fe_re_set(fe_res *s, const fe_byteset *set);
fe_re fe_re_range(fe_res *s, unsigned lo, unsigned hi);
fe_re fe_re_literal(fe_res *s, const char *text, size_t len);
fe_re fe_re_text(fe_res *s, const char *text); /* a literal */
fe_re fe_re_cat(fe_res *s, fe_re a, fe_re b);
fe_re fe_re_or(fe_res *s, fe_re a, fe_re b);
fe_re fe_re_and(fe_res *s, fe_re a, fe_re b);
fe_re fe_re_not(fe_res *s, fe_re a);
fe_re fe_re_minus(fe_res *s, fe_re a, fe_re b); /* a and not b */
fe_re fe_re_repeat(fe_res *s, fe_re a, uint32_t lo, uint32_t hi);
static inline fe_re fe_re_star(fe_res *s, fe_re a) { return fe_re_repeat(s, a, 0, FE_RE_INF); }
static inline fe_re fe_re_optional(fe_res *s, fe_re a) { return fe_re_repeat(s, a, 0, 1); }
fe_re fe_re_cat_of(fe_res *s, const fe_re *items, size_t count);
fe_re fe_re_or_of(fe_res *s, const fe_re *items, size_t count);
fe_re fe_re_and_of(fe_res *s, const fe_re *items, size_t count);
/* Any one of the words; `words` is sorted in place and duplicates are allowed. */
fe_re fe_re_words(fe_res *s, ferrum_str *words, size_t count);
/* Decimals, digits with at most one point among them, whose value is a multiple of modulus / 10^scale: intersect it with the
 * form that numbers are to have. modulus < 2^56, scale <= 18. */
fe_re fe_re_multiple(fe_res *s, uint64_t modulus, uint32_t scale);

bool fe_re_nullable(const fe_res *s, fe_re r); /* does the empty string belong to it? */
/* The state after the byte; FE_RE_NEVER as soon as no string that goes on can belong to the expression. */
fe_re fe_re_next(fe_res *s, fe_re r, unsigned byte);
/* All 256 of them at once, each with FE_RE_ENDS where the empty string belongs to it, so that the text may end there. Valid as
 * long as the set; never NULL (a row of FE_RE_NEVER where the set has failed). */
const fe_re *fe_re_row(fe_res *s, fe_re r);
#define FE_RE_ENDS 0x80000000u
static inline fe_re fe_re_state(fe_re entry) { return entry & ~FE_RE_ENDS; }
/* Is r a repetition of x, at most *hi times, and then something else? */
bool fe_re_begins_with_repeat(const fe_res *s, fe_re r, fe_re *x, uint32_t *lo, uint32_t *hi, fe_re *tail);
bool fe_re_is_empty(fe_res *s, fe_re r); /* is there no string that belongs to it? */
/* *count: how many strings belong to it, counted up to `enough`. false: there may be more than were counted, all the same. */
bool fe_re_count(fe_res *s, fe_re r, uint64_t enough, uint64_t *count);
bool fe_re_matches(fe_res *s, fe_re r, const char *text, size_t len);

#endif
