/* The public functions. */
#include "text/grammar/gbnf.h"
#include "text/grammar/schema.h"
#include "text/grammar/vocabulary.h"

#include <ferrum/grammar.h>

int ferrum_vocabulary_open(ferrum_vocabulary **out, const ferrum_tokenizer *t, ferrum_error *err) {
    return fe_tokens_of(out, t, err);
}

void ferrum_vocabulary_close(ferrum_vocabulary *v) { fe_tokens_close(v); }

size_t ferrum_vocabulary_mask_words(const ferrum_vocabulary *v) { return v->words; }

int fe_schema_options_take(fe_schema_options *out, const ferrum_schema_options *options, ferrum_error *err) {
    static const fe_space spaces[] = {FE_SPACE_ANY, FE_SPACE_COMPACT, FE_SPACE_INDENT};
    *out = (fe_schema_options){0};
    if (options && (unsigned)options->space >= FE_SPACES)
        return fe_fail(err, FERRUM_EINVAL, "there is no kind %d of white space", (int)options->space);
    if (options) *out = (fe_schema_options){.space = spaces[options->space], .ordered = options->ordered};
    return 0;
}

int ferrum_grammar_from_schema(ferrum_grammar **out, const ferrum_vocabulary *v, const char *json, size_t len,
                               const char *name, const ferrum_schema_options *options, char **notes,
                               ferrum_error *err) {
    fe_schema_options o;
    fe_text text = {0};
    *out = NULL;
    if (notes) *notes = NULL;
    int rc = fe_schema_options_take(&o, options, err);
    if (!rc) rc = fe_schema_compile(out, v, json, len, name, &o, notes ? &text : NULL, err);
    if (!rc && text.failed) {
        fe_grammar_close(*out);
        *out = NULL;
        rc = fe_fail_memory(err, text.len, "notes");
    }
    if (rc || !notes)
        fe_text_free(&text);
    else
        *notes = text.data;
    return rc;
}

int fe_regex_compile(fe_grammar **out, const fe_tokens *tokens, const char *text, size_t len, ferrum_error *err) {
    fe_grammar *g = fe_grammar_open(tokens, FE_SPACE_ANY);
    fe_re r;
    *out = NULL;
    if (!g) return fe_fail_memory(err, len, "a grammar");
    int rc = fe_pattern_compile(fe_grammar_res(g), FE_UTF8, true, text, len, &r, err);
    if (!rc) {
        rc = fe_grammar_finish(g, fe_node_term(g, r), NULL, NULL, err);
        if (rc == FERRUM_EINVAL) rc = fe_fail(err, rc, "no text matches the pattern");
    }
    if (rc)
        fe_grammar_close(g);
    else
        *out = g;
    return rc;
}

int ferrum_grammar_from_regex(ferrum_grammar **out, const ferrum_vocabulary *v, const char *pattern, size_t len,
                              ferrum_error *err) {
    return fe_regex_compile(out, v, pattern, len, err);
}

int ferrum_grammar_from_gbnf(ferrum_grammar **out, const ferrum_vocabulary *v, const char *text, size_t len,
                             const char *name, ferrum_error *err) {
    return fe_gbnf_compile(out, v, text, len, name, err);
}

ferrum_grammar *ferrum_grammar_keep(ferrum_grammar *g) { return fe_grammar_keep(g); }

void ferrum_grammar_close(ferrum_grammar *g) { fe_grammar_close(g); }

bool ferrum_grammar_is_spent(ferrum_grammar *g) { return fe_grammar_is_spent(g); }

int ferrum_constraint_open(ferrum_constraint **out, ferrum_grammar *g, ferrum_error *err) {
    return fe_constraint_open(out, g, err);
}

int ferrum_constraint_clone(ferrum_constraint **out, const ferrum_constraint *c, ferrum_error *err) {
    return fe_constraint_clone(out, c, err);
}

void ferrum_constraint_close(ferrum_constraint *c) { fe_constraint_close(c); }

int ferrum_constraint_mask(ferrum_constraint *c, uint64_t *mask, ferrum_error *err) {
    return fe_constraint_mask(c, mask, err);
}

int ferrum_constraint_accept(ferrum_constraint *c, int32_t id, ferrum_error *err) {
    if (id < 0) return fe_fail(err, FERRUM_EINVAL, "token %d is outside the vocabulary", id);
    return fe_constraint_accept(c, (uint32_t)id, err);
}

bool ferrum_constraint_may_end(const ferrum_constraint *c) { return fe_constraint_may_end(c); }

int ferrum_constraint_rollback(ferrum_constraint *c, size_t count, ferrum_error *err) {
    return fe_constraint_rollback(c, count, err);
}

int ferrum_constraint_forced(ferrum_constraint *c, char *text, size_t size, size_t *len, ferrum_error *err) {
    return fe_constraint_forced(c, text, size, len, err);
}
