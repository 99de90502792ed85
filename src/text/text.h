/* Text: tokenizers read out of GGUF metadata, and chat formats. Immutable once open; any number of threads. */
#ifndef FE_TEXT_H
#define FE_TEXT_H

#include "core/core.h"
#include <ferrum/ferrum.h>

typedef struct ferrum_tokenizer fe_tokenizer;

/* Reads tokenizer.* of the file, whose strings it points into (the file must stay open). *out is NULL, with 0 returned, where
 * the file has no tokenizer (tokenizer.ggml.model absent or "no_vocab"). pre: in place of tokenizer.ggml.pre; NULL: that of the
 * file. It must outlive the tokenizer.
 * Everything is validated: FERRUM_EFORMAT for arrays that are short or of a wrong type, special ids outside the vocabulary,
 * merges that name no tokens; FERRUM_EUNSUPPORTED names an unknown tokenizer model or pre-tokenizer and the known ones. A
 * gpt2 tokenizer without tokenizer.ggml.pre is refused too: a guess could make wrong ids of every text, unnoticed. */
int fe_tokenizer_open(fe_tokenizer **out, const ferrum_gguf *g, const char *pre, ferrum_error *err);

uint32_t fe_tokenizer_size(const fe_tokenizer *t);

/* Appends the bytes of one token; control tokens give nothing unless `special`. `first`: it begins the text, so that a
 * SentencePiece vocabulary that adds a space before text loses it again. id must be in the vocabulary. */
void fe_tokenizer_decode(const fe_tokenizer *t, int32_t id, bool special, bool first, fe_text *out);

/* Chat formats that are known by their template's marks. */
typedef enum fe_chat_format_id {
    FE_CHAT_NONE,
    FE_CHAT_CHATML,
    FE_CHAT_LLAMA3,
    FE_CHAT_GEMMA,
    FE_CHAT_MISTRAL
} fe_chat_format_id;
fe_chat_format_id fe_chat_detect(const char *template_text, size_t len);
const char *fe_chat_name(fe_chat_format_id id); /* "chatml"; NULL for FE_CHAT_NONE */
/* template_text decides the details that differ between models of one format: a default system prompt, trimming, spaces. *out is
 * appended to. Contents go in as they are: one that spells a control token ("<|im_end|>") becomes that token when the whole is
 * tokenized with FERRUM_PARSE_SPECIAL, as with the models' own templates, so whoever lets strangers write the contents
 * refuses such text first (fe_tokenizer_find knows the spellings).
 * FERRUM_EINVAL: no message, an unknown role, or a turn out of the order that the format asks for. */
int fe_chat_render(fe_chat_format_id id, const char *template_text, size_t template_len, const ferrum_message *messages,
                   size_t count, bool answer, fe_text *out, ferrum_error *err);

#endif
