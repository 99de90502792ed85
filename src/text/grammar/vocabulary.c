/* A tokenizer's vocabulary for the grammars. */
#include "text/grammar/vocabulary.h"

#include <string.h>

/* Control tokens are marked; a token that has a mark in it could be taken for one, and belongs to no text either. */
static void put_word(const fe_tokenizer *t, int32_t id, fe_text *out) {
    size_t before = out->len;
    bool control = ferrum_token_get_kind(t, id) == FERRUM_TOKEN_CONTROL;
    if (control) fe_text_puts(out, FE_CONTROL_MARK);
    fe_tokenizer_decode(t, id, control, false, out);
    size_t begin = before + control, len = out->len - begin;
    if (len && memchr(out->data + begin, *FE_CONTROL_MARK, len)) out->len = before;
}

/* Every byte but the mark of control tokens, which no text has. */
static int tokens_of_bytes(fe_tokens **out, ferrum_error *err) {
    char bytes[0xFF];
    ferrum_str words[0xFF];
    for (int i = 0; i < 0xFF; i++) bytes[i] = (char)i, words[i] = (ferrum_str){&bytes[i], 1};
    return fe_tokens_open(out, words, 0xFF, NULL, 0, err);
}

int fe_tokens_of(fe_tokens **out, const fe_tokenizer *t, ferrum_error *err) {
    if (!t) return tokens_of_bytes(out, err);
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
            put_word(t, (int32_t)i, &text);
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

size_t fe_tokens_control(const fe_tokens *t, const char *text, size_t len) {
    size_t longest = 0;
    uint32_t node = t->root_child[(unsigned char)*FE_CONTROL_MARK];
    for (size_t i = 0; i < len && node; i++) {
        node = fe_trie_child(&t->all, node, (uint8_t)text[i]);
        if (node && t->all.first_id[node] < t->all.first_id[node + 1]) longest = i + 1;
    }
    return longest;
}

/* Is there a token that begins with the text and goes on? */
static bool goes_beyond(const fe_tokens *t, const char *text, size_t len) {
    uint32_t node = t->root_child[(unsigned char)text[0]];
    for (size_t i = 1; i < len && node; i++) node = fe_trie_child(&t->all, node, (uint8_t)text[i]);
    return node && t->all.end[node] > node + 1;
}

/* A stretch without control tokens: how many of its bytes were taken. */
static int take_forced(const fe_tokens *tokens, const fe_tokenizer *t, const char *text, size_t len, size_t beyond,
                       int32_t *ids, size_t most, size_t *count, size_t *taken, ferrum_error *err) {
    int32_t *all;
    size_t all_count;
    *taken = 0;
    int rc = fe_tokenizer_encode_inside(t, text, len, &all, &all_count, err);
    if (rc == FERRUM_EUNSUPPORTED) return 0; /* a byte without a token: which ones spell it is left to the mask */
    if (rc) return rc;
    for (size_t i = 0; i < all_count && *count < most; i++) {
        /* A tokenizer may change a text: what it writes otherwise than it has to come is no way on. */
        ferrum_str word = fe_tokens_text(tokens, (uint32_t)all[i]);
        const char *at = text + *taken;
        size_t left = len - *taken;
        if (word.len == 0 || word.len > left || memcmp(word.data, at, word.len) != 0) break;
        if (goes_beyond(tokens, at, left + beyond)) break;
        ids[(*count)++] = all[i];
        *taken += word.len;
    }
    free(all);
    return 0;
}

int fe_tokens_of_forced(const fe_tokens *tokens, const fe_tokenizer *t, const char *text, size_t len, int32_t *ids,
                        size_t most, size_t *count, ferrum_error *err) {
    int rc = 0;
    *count = 0;
    for (size_t at = 0, taken; at < len && *count < most && !rc; at += taken) {
        const char *control = memchr(text + at, *FE_CONTROL_MARK, len - at);
        size_t stretch = control ? (size_t)(control - text) - at : len - at;
        if (stretch) {
            rc = take_forced(tokens, t, text + at, stretch, len - at - stretch, ids, most, count, &taken, err);
            if (taken < stretch) break;
            continue;
        }
        taken = fe_tokens_control(tokens, text + at + 1, len - at - 1) + 1;
        int32_t id = ferrum_token_find(t, text + at + 1, taken - 1);
        if (taken == 1 || id < 0 || goes_beyond(tokens, text + at, len - at)) break;
        ids[(*count)++] = id;
    }
    return rc;
}
