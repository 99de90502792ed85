/* Where grammars and tokenizers meet. */
#ifndef FE_GRAMMAR_VOCABULARY_H
#define FE_GRAMMAR_VOCABULARY_H

#include "text/grammar/tokens.h"
#include "text/text.h"

/* t NULL: a vocabulary of bytes. Else the bytes of every token, control tokens marked, and the tokens that end an answer. */
int fe_tokens_of(fe_tokens **out, const fe_tokenizer *t, ferrum_error *err);

/* The length of the longest control token whose spelling the text begins with, or 0. */
size_t fe_tokens_control(const fe_tokens *t, const char *text, size_t len);

/* ids: the tokens, at most `most`, with which the tokenizer itself would write a text that has to come. What a token might come for
 * that goes on behind the text's end is left: there is still a choice. */
int fe_tokens_of_forced(const fe_tokens *tokens, const fe_tokenizer *t, const char *text, size_t len, int32_t *ids,
                        size_t most, size_t *count, ferrum_error *err);

#endif
