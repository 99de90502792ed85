/* Grammars in llama.cpp's notation (GBNF), and regular expressions by themselves. */
#ifndef FE_GRAMMAR_GBNF_H
#define FE_GRAMMAR_GBNF_H

#include "text/grammar/grammar.h"

/* The rule "root" is where a text begins. Messages name the line and the rule. FERRUM_EINVAL: a syntax error, a rule that is not
 * there or there twice, left recursion, no finite sentence; FERRUM_EUNSUPPORTED: tokens in angle brackets; FERRUM_ELIMIT. */
int fe_gbnf_compile(fe_grammar **out, const fe_tokens *tokens, const char *text, size_t len, const char *name,
                    ferrum_error *err);

/* Texts that the pattern matches from end to end: public.c. */
int fe_regex_compile(fe_grammar **out, const fe_tokens *tokens, const char *text, size_t len, ferrum_error *err);

#endif
