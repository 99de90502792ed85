/* Plain characters: those that a JSON string has unescaped, without the rarer white space. Most tokens of a vocabulary are made of
 * nothing else, and most strings take any of them, or any of some classes: which of these tokens may come is then told by their
 * classes and lengths alone. */
#ifndef FE_GRAMMAR_PLAIN_H
#define FE_GRAMMAR_PLAIN_H

#include "text/grammar/tokens.h"

enum {
    FE_LOWER = 1,
    FE_UPPER = 2,
    FE_DIGIT = 4,
    FE_UNDERSCORE = 8,
    FE_HYPHEN = 16,
    FE_BLANK = 32,
    FE_PUNCTUATION = 64, /* what else is printable in ASCII */
    FE_BEYOND = 128,     /* outside ASCII */
    FE_PLAIN = 255,
    FE_NOT_PLAIN = 256,
};

unsigned fe_class_of(uint32_t c);
/* The characters of a text if all are plain; 0 otherwise. */
size_t fe_plain_length(ferrum_str w);
/* A character of FE_BEYOND. */
fe_re fe_re_beyond(fe_res *s);

typedef struct fe_absorbed {
    fe_re state;
    uint16_t classes;
    uint16_t depth; /* characters; FE_ABSORBED_MOST: any number */
} fe_absorbed;
enum { FE_ABSORBED_MOST = 253, FE_ABSORBED_KEPT = 1024 };

struct fe_absorbing { /* what was found so far */
    fe_absorbed kept[FE_ABSORBED_KEPT];
    size_t budget; /* bytes of states that may be made to find out more */
};

/* Texts of no more than `depth` characters of `classes` leave r alive and end nothing. More may do so than is found. s is t->base or
 * extends it, and always the same for one memo. */
fe_absorbed fe_absorbs(fe_absorbing *memo, const fe_tokens *t, fe_res *s, fe_re r);

#endif
