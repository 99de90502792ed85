/* What an assistant may reply, as a grammar: text, reasoning, and calls of tools in the form of its family (text/tool_formats.c). */
#ifndef FE_GRAMMAR_REPLIES_H
#define FE_GRAMMAR_REPLIES_H

#include "text/grammar/tokens.h"
#include <ferrum/grammar.h>

/* As ferrum_grammar_from_reply, for a template's text. */
int fe_reply_compile(ferrum_grammar **out, const fe_tokens *tokens, const char *template_text, size_t len,
                     const ferrum_reply_rules *rules, char **notes, ferrum_error *err);

#endif
