/* Masks beside the parse. The test's own includes of cmocka come before. */
#ifndef MASKS_H
#define MASKS_H

#include "text/grammar/grammar.h"

static uint64_t mask[64];

static inline bool in_mask(uint32_t id) { return mask[id >> 6] >> (id & 63) & 1; }

/* The mask is what the parse says of each token. */
static inline void check_mask(fe_constraint *c) {
    ferrum_error err;
    assert_int_equal(fe_constraint_mask(c, mask, &err), 0);
    uint32_t count = fe_grammar_tokens(fe_constraint_grammar(c))->count;
    for (uint32_t id = 0; id < count; id++) {
        size_t steps = fe_constraint_steps(c);
        bool may = fe_constraint_accept(c, id, NULL) == 0;
        if (may != in_mask(id)) fail_msg("token %u: the mask says %d, the parse %d", id, in_mask(id), may);
        if (may) assert_int_equal(fe_constraint_rollback(c, 1, NULL), 0);
        if (fe_constraint_steps(c) != steps)
            fail_msg("token %u: %zu steps, %zu before", id, fe_constraint_steps(c), steps);
    }
}

/* Byte by byte, with the mask looked at before each. */
static inline bool takes(fe_grammar *g, const char *text, size_t len, bool every_mask) {
    fe_constraint *c;
    bool ok = true;
    assert_int_equal(fe_constraint_open(&c, g, NULL), 0);
    for (size_t i = 0; i < len && ok; i++) {
        if (every_mask) check_mask(c);
        assert_int_equal(fe_constraint_mask(c, mask, NULL), 0);
        ok = in_mask((unsigned char)text[i]);
        ferrum_error err;
        if ((fe_constraint_accept(c, (unsigned char)text[i], &err) == 0) != ok)
            fail_msg("%.*s: the mask says %d of byte %zu: %s", (int)len, text, ok, i, err.message);
    }
    ok = ok && fe_constraint_may_end(c);
    fe_constraint_close(c);
    return ok;
}

static inline bool takes_text(fe_grammar *g, const char *text) { return takes(g, text, strlen(text), true); }

#endif
