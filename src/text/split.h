/* Pre-tokenizers: a text is cut into pieces by regular expressions before byte-level BPE merges inside each. */
#ifndef FE_SPLIT_H
#define FE_SPLIT_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/core.h"
#include <ferrum/common.h>
#include <pcre2.h>

enum { FE_SPLIT_STAGES = 6 };

enum fe_split_flags {
    FE_SPLIT_WHOLE = 1,     /* a piece that is in the vocabulary is taken as it is, without merging */
    FE_SPLIT_BOS = 2,       /* texts begin with BOS where the file does not say */
    FE_SPLIT_NFC = 4,       /* texts are normalised to NFC first */
    FE_SPLIT_THOUSANDS = 8, /* at last, digits are cut into threes from their right end */
};

/* How one tokenizer.ggml.pre cuts. */
typedef struct fe_split_rule {
    const char *names; /* a blank between */
    unsigned flags;
    const char
        *patterns[FE_SPLIT_STAGES]; /* each cuts what the one before left: matches and the text between are pieces */
    unsigned bytes_from;            /* n > 0: the stages from n on see bytes, not characters */
} fe_split_rule;

/* The rule of that name; NULL if unknown. fe_split_names appends the first name of each, for a message. */
const fe_split_rule *fe_split_find(const char *name, size_t len);
void fe_split_names(fe_text *out);

typedef struct fe_split {
    const fe_split_rule *rule;
    pcre2_code *stages[FE_SPLIT_STAGES];
    unsigned count;
    pcre2_code *digits; /* with FE_SPLIT_THOUSANDS */
} fe_split;

int fe_split_open(fe_split *s, const fe_split_rule *rule, ferrum_error *err);
void fe_split_close(fe_split *s);

/* Calls back with every piece, in order, of a text of any bytes: together they are the text. Bytes that are not UTF-8 are each a
 * piece. Ends with the first negative result. */
typedef int (*fe_piece_fn)(void *user, const char *piece, size_t len);
int fe_split_run(const fe_split *s, const char *text, size_t len, fe_piece_fn fn, void *user, ferrum_error *err);

#endif
