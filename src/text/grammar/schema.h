/* JSON Schema (2020-12 and draft-07, and what older schemas say otherwise) as a grammar. */
#ifndef FE_GRAMMAR_SCHEMA_H
#define FE_GRAMMAR_SCHEMA_H

#include "core/json.h"
#include "text/grammar/grammar.h"
#include <ferrum/grammar.h>

typedef struct fe_schema_options {
    fe_space space;
    bool ordered; /* properties in the schema's order alone */
} fe_schema_options;

/* NULL: the defaults. FERRUM_EINVAL: no such kind of white space. */
int fe_schema_options_take(fe_schema_options *out, const ferrum_schema_options *options, ferrum_error *err);

/* notes: NULL, or receives a line for each keyword that says nothing about values, as far as it is not one of the usual
 * annotations. name: what messages call the schema.
 * FERRUM_EFORMAT: no JSON. FERRUM_EINVAL: not a schema, or one that nothing fits; FERRUM_EUNSUPPORTED: a keyword that cannot be
 * held; both name the keyword and its path. FERRUM_ELIMIT: too large. */
int fe_schema_compile(fe_grammar **out, const fe_tokens *tokens, const char *text, size_t len, const char *name,
                      const fe_schema_options *options, fe_text *notes, ferrum_error *err);

/* A schema that stands inside a grammar that is being built. */
typedef struct fe_schema_site {
    fe_grammar *g;
    const char *name;
    fe_text *notes;          /* or NULL */
    bool object;             /* objects alone fit */
    const fe_json *document; /* that $ref and $id are looked for in; NULL: the schema itself */
    fe_re never;  /* strings and keys of this expression, as they are written between the quotes, fit nowhere */
    size_t steps; /* that were taken so far: their limit is the grammar's */
} fe_schema_site;

/* *out: the values that fit, a node of the site's grammar. */
int fe_schema_node(fe_node *out, fe_schema_site *site, const fe_json *schema, const fe_schema_options *options,
                   ferrum_error *err);

#endif
