#include "engine/guide.h"

#include "text/grammar/vocabulary.h"

enum { FORCED_BYTES = 256 };

int fe_guide_open(fe_guide *g, fe_grammar *grammar, const fe_tokenizer *t, uint32_t vocab, ferrum_error *err) {
    uint32_t count = fe_grammar_tokens(grammar)->count;
    if (!t || count != vocab)
        return fe_fail(err, FERRUM_EINVAL, "the grammar is of a vocabulary of %u tokens, the model's has %u", count,
                       t ? vocab : 0);
    g->tokenizer = t;
    g->mask = fe_alloc(vocab / 64 + 1, sizeof *g->mask);
    return g->mask ? fe_constraint_open(&g->constraint, grammar, err)
                   : fe_fail_memory(err, vocab / 8, "a mask of tokens");
}

void fe_guide_close(fe_guide *g) {
    fe_constraint_close(g->constraint);
    free(g->mask);
}

static void forget_forced(fe_guide *g) {
    g->forced_count = g->forced_at = 0;
    g->looked = false;
}

void fe_guide_restart(fe_guide *g) {
    if (!g->constraint) return;
    fe_constraint_rollback(g->constraint, fe_constraint_steps(g->constraint), NULL);
    forget_forced(g);
}

bool fe_guide_is_over(const fe_guide *g) { return fe_constraint_is_over(g->constraint); }

int fe_guide_forced(fe_guide *g, int32_t *id, ferrum_error *err) {
    if (!g->looked) {
        char text[FORCED_BYTES];
        size_t len;
        int rc = fe_constraint_forced(g->constraint, text, sizeof text, &len, err);
        if (!rc && len)
            rc = fe_tokens_of_forced(fe_grammar_tokens(fe_constraint_grammar(g->constraint)), g->tokenizer, text, len,
                                     g->forced, FE_FORCED_MOST, &g->forced_count, err);
        if (rc) return rc;
        g->looked = true;
    }
    *id = g->forced_at < g->forced_count ? g->forced[g->forced_at] : -1;
    return 0;
}

int fe_guide_mask(fe_guide *g, ferrum_error *err) { return fe_constraint_mask(g->constraint, g->mask, err); }

int fe_guide_accept(fe_guide *g, int32_t id, ferrum_error *err) {
    bool was_forced = g->forced_at < g->forced_count && g->forced[g->forced_at] == id;
    int rc = fe_constraint_accept(g->constraint, (uint32_t)id, err);
    if (rc) return rc;
    if (!was_forced || ++g->forced_at == g->forced_count) forget_forced(g);
    return 0;
}
