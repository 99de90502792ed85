#ifndef FE_GRAMMAR_VOCABULARY_H
#define FE_GRAMMAR_VOCABULARY_H

#include "text/grammar/tokens.h"
#include "text/text.h"

/* The bytes of every token but the control tokens', and the tokens that end an answer. */
int fe_tokens_of(fe_tokens **out, const fe_tokenizer *t, ferrum_error *err);

#endif
