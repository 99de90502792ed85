/* An answer under a grammar: which tokens may come, and which have to. */
#ifndef FE_GUIDE_H
#define FE_GUIDE_H

#include "text/grammar/grammar.h"
#include "text/text.h"

enum { FE_FORCED_MOST = 64 }; /* tokens that are told at once */

typedef struct fe_guide {
    fe_constraint *constraint; /* NULL: no grammar, and nothing below is used */
    const fe_tokenizer *tokenizer;
    uint64_t *mask; /* [vocab / 64, rounded up], of fe_guide_mask */
    int32_t forced[FE_FORCED_MOST];
    size_t forced_count, forced_at;
    bool looked; /* for what is forced here */
} fe_guide;

/* Holds the grammar, which must be of the tokenizer's vocabulary: FERRUM_EINVAL. */
int fe_guide_open(fe_guide *g, fe_grammar *grammar, const fe_tokenizer *t, uint32_t vocab, ferrum_error *err);
void fe_guide_close(fe_guide *g);

/* Goes back to where an answer begins. */
void fe_guide_restart(fe_guide *g);

/* May nothing come but the end? */
bool fe_guide_is_over(const fe_guide *g);

/* *id: the next token of a stretch that comes whatever is drawn, or -1 where there is a choice. */
int fe_guide_forced(fe_guide *g, int32_t *id, ferrum_error *err);

/* g->mask: the tokens that may come. */
int fe_guide_mask(fe_guide *g, ferrum_error *err);

/* Goes on by a token. */
int fe_guide_accept(fe_guide *g, int32_t id, ferrum_error *err);

#endif
