/* Text: tokenizers read out of GGUF metadata. Immutable once open; any number of threads. */
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

/* As ferrum_tokenize without flags, but for a text that stands behind another: no space is put before it. */
int fe_tokenizer_encode_inside(const fe_tokenizer *t, const char *text, size_t len, int32_t **ids, size_t *count,
                               ferrum_error *err);

/* Appends the bytes of one token; control tokens give nothing unless `special`. `first`: it begins the text, so that a
 * SentencePiece vocabulary that adds a space before text loses it again. id must be in the vocabulary. */
void fe_tokenizer_decode(const fe_tokenizer *t, int32_t id, bool special, bool first, fe_text *out);

#endif
