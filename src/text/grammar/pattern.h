/* Patterns in the syntax of ECMAScript, and sets of characters, as expressions over the bytes in which a text is written. */
#ifndef FE_GRAMMAR_PATTERN_H
#define FE_GRAMMAR_PATTERN_H

#include "text/grammar/regex.h"

/* How characters are written. */
typedef enum fe_spelling {
    FE_UTF8, /* as they are */
    /* Inside a JSON string: printable ASCII stands for itself, but for \" and \\; control characters are \b \f \n \r \t or
     * \u00XX; what lies above ASCII stands for itself or is \uXXXX, or two of them. */
    FE_JSON,
} fe_spelling;

typedef struct fe_range {
    uint32_t lo, hi;
} fe_range;

enum { FE_LAST_CHAR = 0x10FFFF };

/* One character out of the ranges; surrogates are left out. Ranges may overlap and are in any order. */
fe_re fe_re_chars(fe_res *s, fe_spelling spelling, const fe_range *ranges, size_t count);
fe_re fe_re_any_char(fe_res *s, fe_spelling spelling);
/* Valid UTF-8 in the spelling; FE_RE_NEVER where it is not valid. */
fe_re fe_re_spell(fe_res *s, fe_spelling spelling, const char *text, size_t len);

/* The texts in which the pattern is found somewhere or, with `whole`, that it matches from end to end.
 * FERRUM_EINVAL: a syntax error, with the byte where it is. FERRUM_EUNSUPPORTED: what no automaton of ours can tell: references
 * back, word boundaries, looking behind, looking ahead where something is to follow the group that it stands in. */
int fe_pattern_compile(fe_res *s, fe_spelling spelling, bool whole, const char *text, size_t len, fe_re *out,
                       ferrum_error *err);

#endif
