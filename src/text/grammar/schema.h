/* JSON Schema (2020-12 and draft-07, and what older schemas say otherwise) as a grammar. */
#ifndef FE_GRAMMAR_SCHEMA_H
#define FE_GRAMMAR_SCHEMA_H

#include "text/grammar/grammar.h"

typedef struct fe_schema_options {
    fe_space space;
    bool ordered; /* properties in the schema's order alone */
} fe_schema_options;

/* notes: NULL, or receives a line for each keyword that says nothing about values, as far as it is not one of the usual
 * annotations. name: what messages call the schema.
 * FERRUM_EFORMAT: no JSON. FERRUM_EINVAL: not a schema, or one that nothing fits; FERRUM_EUNSUPPORTED: a keyword that cannot be
 * held; both name the keyword and its path. FERRUM_ELIMIT: too large. */
int fe_schema_compile(fe_grammar **out, const fe_tokens *tokens, const char *text, size_t len, const char *name,
                      const fe_schema_options *options, fe_text *notes, ferrum_error *err);

#endif
