/* What the files of the regular expressions share: the set, its nodes, how they are looked at. */
#ifndef FE_GRAMMAR_REGEX_SET_H
#define FE_GRAMMAR_REGEX_SET_H

#include "text/grammar/grow.h"
#include "text/grammar/regex.h"

enum kind { NEVER, EMPTY, SET, CAT, OR, AND, NOT, REPEAT, MULTIPLE };

enum {
    NULLABLE = 1, /* holds the empty string */
    LOGICAL = 2,  /* has AND, NOT or MULTIPLE in it, and may hold nothing without being NEVER */
    ALIVE = 4,    /* known to hold some string */
    DEAD = 8,     /* known to hold none */
    PRUNED = 16,  /* its row leads to no dead state */
    VISITED = 32, /* in the search for a string */
    MAX_HEIGHT = 600,
    SEARCH_STEPS = 20000, /* states that a search for a string may look at, */
    SEARCH_WORK = 400000, /* and members of lists and derivatives that it may make */
    MEMO = 1 << 12,
    MAX_MERGED = 24, /* alternatives among which repetitions are merged */
};

typedef struct node {
    uint8_t kind, flags;
    uint16_t height;
    uint32_t a,
        b; /* SET: the set; CAT: the two; NOT, REPEAT: a; OR, AND: first of b args; MULTIPLE: index of the numbers */
    uint32_t lo, hi; /* REPEAT */
} node;

typedef struct multiple {
    uint64_t modulus, rest;
    uint32_t scale;
    uint32_t places; /* digits behind the point so far + 1, or 0 before it */
} multiple;

struct fe_res {
    const fe_res *base;
    uint32_t first; /* the base's count */
    bool sealed;
    enum failure { FINE, NO_MEMORY, TOO_LARGE, TOO_HIGH, NOT_FOUND } failed;
    size_t limit, bytes;
    size_t work; /* derivatives and members of lists so far */
    node *nodes;
    size_t count, node_capacity; /* own ones */
    fe_re **rows;
    size_t row_capacity;
    uint32_t *args;
    size_t arg_count, arg_capacity;
    fe_byteset *sets;
    size_t set_count, set_capacity;
    multiple *multiples;
    size_t multiple_count, multiple_capacity;
    uint32_t *slots; /* hash table of own ids + 1 */
    size_t slot_mask;
    struct {
        fe_re r, result;
        uint32_t byte;
    } * memo; /* of derivatives */
    struct seen {
        fe_re r;
        uint32_t from; /* index of the state that led here */
    } * seen;          /* of a search */
    size_t seen_capacity;
    fe_re never_row[256];
};

static inline const node *get(const fe_res *s, fe_re r) {
    while (r < s->first) s = s->base;
    return &s->nodes[r - s->first];
}
/* Where the args, sets and numbers of r lie. */
static inline const fe_res *owner(const fe_res *s, fe_re r) {
    while (r < s->first) s = s->base;
    return s;
}
static inline const uint32_t *args_of(const fe_res *s, fe_re r) { return owner(s, r)->args + get(s, r)->a; }
static inline const fe_byteset *set_of(const fe_res *s, fe_re r) { return &owner(s, r)->sets[get(s, r)->a]; }
static inline const multiple *multiple_of(const fe_res *s, fe_re r) { return &owner(s, r)->multiples[get(s, r)->a]; }

static inline bool fail(fe_res *s, enum failure why) {
    if (!s->failed) s->failed = why;
    return false;
}

static inline bool charge(fe_res *s, size_t bytes) {
    if (s->failed) return false;
    s->bytes += bytes;
    return s->bytes <= s->limit || fail(s, TOO_LARGE);
}

/* regex.c: the repetition that a cat begins with, and what follows it. */
bool fe_re_head_repeat(const fe_res *s, fe_re r, fe_re *head, fe_re *tail);
fe_re fe_re_multiple_at(fe_res *s, const multiple *m);

#endif
