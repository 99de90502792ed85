/* A tokenizer's vocabulary for the grammars. */
#include "text/grammar/vocabulary.h"

int fe_tokens_of(fe_tokens **out, const fe_tokenizer *t, ferrum_error *err) {
    uint32_t count = fe_tokenizer_size(t), end_count = 0;
    fe_text text = {0};
    size_t *start = malloc(((size_t)count + 1) * sizeof *start);
    ferrum_str *words = malloc(((size_t)count + 1) * sizeof *words);
    int32_t *ends = malloc(((size_t)count + 1) * sizeof *ends);
    int rc = 0;
    *out = NULL;
    for (uint32_t i = 0; i < count && start && words && ends; i++) {
        start[i] = text.len;
        if (ferrum_token_is_end(t, (int32_t)i))
            ends[end_count++] = (int32_t)i;
        else
            fe_tokenizer_decode(t, (int32_t)i, false, false, &text);
    }
    if (!start || !words || !ends || text.failed) rc = fe_fail_memory(err, text.len + count, "a vocabulary");
    for (uint32_t i = 0; i < count && !rc; i++) {
        size_t end = i + 1 < count ? start[i + 1] : text.len;
        words[i] = (ferrum_str){text.data + start[i], end - start[i]};
    }
    if (!rc) rc = fe_tokens_open(out, words, count, ends, end_count, err);
    fe_text_free(&text);
    free(start);
    free(words);
    free(ends);
    return rc;
}
