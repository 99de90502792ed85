/* Schemas (S), patterns (R) and grammars (G) told by the first byte, compiled and walked: at every step the mask has to hold exactly
 * what the parse takes, for a few tokens at least, and nothing may be taken that leads nowhere. */
#include "../byte_tokens.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/schema.h"

#include <stdlib.h>

enum { WORDS = 10, VOCABULARY = 256 + WORDS + 1, STEPS = 40 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static fe_tokens *open_tokens(void) {
    static const char *const words[WORDS] = {"\":", "\",", "{\"", "\"}", "[]", "],", "ab", "12", "\",\"", "\xC3\xA9"};
    static fe_tokens *tokens;
    if (tokens) return tokens;
    if (open_byte_tokens(&tokens, words, WORDS)) abort();
    return tokens;
}

static void walk(fe_grammar *g, uint64_t seed) {
    fe_constraint *c;
    uint64_t mask[(VOCABULARY + 63) / 64];
    if (fe_constraint_open(&c, g, NULL)) return;
    for (int step = 0; step < STEPS; step++) {
        if (fe_constraint_mask(c, mask, NULL)) break;
        uint32_t chosen = VOCABULARY, any = 0;
        for (uint32_t i = 0; i < VOCABULARY; i++) any |= (uint32_t)(mask[i >> 6] >> (i & 63) & 1);
        if (!any) abort();
        for (int tries = 0; tries < 24; tries++) {
            uint32_t id = (uint32_t)(fe_splitmix64(&seed) % VOCABULARY);
            bool may = mask[id >> 6] >> (id & 63) & 1;
            int rc = fe_constraint_accept(c, id, NULL);
            if (rc != 0 && rc != FERRUM_EINVAL) continue; /* a limit */
            if ((rc == 0) != may) abort();
            if (rc == 0 && fe_constraint_rollback(c, 1, NULL)) abort();
            if (may && id != VOCABULARY - 1) chosen = id;
        }
        for (uint32_t i = 0; i < VOCABULARY - 1 && chosen == VOCABULARY; i++)
            if (mask[i >> 6] >> (i & 63) & 1) chosen = i;
        if (chosen == VOCABULARY || fe_constraint_accept(c, chosen, NULL)) break;
    }
    fe_constraint_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const fe_tokens *t = open_tokens();
    const char *text = (const char *)data + 1;
    fe_grammar *g = NULL;
    ferrum_error err;
    int rc = 0;
    if (size < 2 || size > 4096) return 0;
    if (*data == 'S')
        rc = fe_schema_compile(&g, t, text, size - 1, "fuzz", &(fe_schema_options){.ordered = size & 1}, NULL, &err);
    else if (*data == 'R')
        rc = fe_regex_compile(&g, t, text, size - 1, &err);
    else if (*data == 'G')
        rc = fe_gbnf_compile(&g, t, text, size - 1, "fuzz", &err);
    if ((rc != 0) == (g != NULL) && (*data == 'S' || *data == 'R' || *data == 'G')) abort();
    if (g) walk(g, size);
    fe_grammar_close(g);
    return 0;
}
