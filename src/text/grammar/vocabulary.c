/* A tokenizer's vocabulary for the grammars. */
#include "text/grammar/vocabulary.h"

#include <string.h>

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

/* Is there a token that begins with the text and goes on? */
static bool goes_beyond(const fe_tokens *t, const char *text, size_t len) {
    uint32_t node = t->root_child[(unsigned char)text[0]];
    for (size_t i = 1; i < len && node; i++) node = fe_trie_child(&t->all, node, (uint8_t)text[i]);
    return node && t->all.end[node] > node + 1;
}

int fe_tokens_of_forced(const fe_tokens *tokens, const fe_tokenizer *t, const char *text, size_t len, int32_t *ids,
                        size_t most, size_t *count, ferrum_error *err) {
    int32_t *all;
    size_t all_count, at = 0;
    *count = 0;
    int rc = fe_tokenizer_encode_inside(t, text, len, &all, &all_count, err);
    if (rc == FERRUM_EUNSUPPORTED) return 0; /* a byte without a token: which ones spell it is left to the mask */
    if (rc) return rc;
    while (*count < all_count && *count < most && at < len && !goes_beyond(tokens, text + at, len - at)) {
        /* A tokenizer may change a text: what it writes otherwise than it has to come is no way on. */
        ferrum_str word = fe_tokens_text(tokens, (uint32_t)all[*count]);
        if (word.len == 0 || word.len > len - at || memcmp(word.data, text + at, word.len) != 0) break;
        ids[*count] = all[*count];
        at += word.len;
        ++*count;
    }
    free(all);
    return 0;
}
