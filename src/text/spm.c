/* SentencePiece's BPE. A space is spelled U+2581; characters join into the token of the highest score first, or by the file's
 * merges; a character without a token becomes its bytes' tokens. */
#include "text/tokenizer.h"

#include <string.h>

int fe_spm_open(fe_tokenizer *t, const ferrum_gguf *g, bool merges, ferrum_error *err) {
    t->vocab.cut_user = merges; /* as the tokenizers package does, whose model it is then */
    int rc = fe_vocab_open(&t->vocab, g, FE_VOCAB_SPM, true, err);
    if (rc == 0 && merges) rc = fe_merges_read(t, g, err);
    if (rc < 0) return rc;
    return fe_sentence_open(t, g, err);
}

/* The highest score gives the lowest priority: the float's bits, turned so that they order as the numbers do. */
static uint32_t score_priority(float score) {
    uint32_t bits;
    score += 0.0f; /* -0 becomes 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

static bool merge_by_score(const void *rules, const char *word, const fe_symbol *left, const fe_symbol *right,
                           uint32_t *priority, int32_t *id) {
    const fe_vocab *v = rules;
    *id = fe_vocab_find_plain(v, word + left->start, (size_t)left->len + right->len);
    if (*id < 0) return false;
    *priority = score_priority(fe_vocab_score(v, (uint32_t)*id));
    return true;
}

static int push_symbol(fe_encoder *e, const char *word, const fe_symbol *s) {
    return s->id >= 0 ? fe_sentence_push(e, s->id) : fe_sentence_push_bytes(e, word + s->start, s->len);
}

static int encode_word(fe_encoder *e, const char *word, size_t len) {
    if (len == 0) return 0;
    const fe_vocab *v = &e->t->vocab;
    if (!fe_merger_reserve(&e->merger, len)) return fe_fail_memory(e->err, len * sizeof(fe_symbol), "a word's symbols");
    for (size_t at = 0, size; at < len; at += size) {
        size = fe_char_size(word + at, len - at);
        fe_merger_push(&e->merger, fe_vocab_find_plain(v, word + at, size), (uint32_t)at, (uint32_t)size);
    }
    const fe_pairs *pairs = &e->t->pairs;
    bool merged = pairs->slots ? fe_merger_run(&e->merger, fe_merge_by_rank, pairs, word)
                               : fe_merger_run(&e->merger, merge_by_score, v, word);
    if (!merged) return fe_fail_memory(e->err, len * sizeof(fe_candidate), "a word's merges");
    int rc = 0;
    for (uint32_t i = 0; i != FE_NO_SYMBOL && rc == 0; i = e->merger.symbols[i].next)
        rc = push_symbol(e, word, &e->merger.symbols[i]);
    return rc;
}

/* Words lie between user-defined tokens and before marks that no token joins to what precedes them. */
int fe_spm_encode(fe_encoder *e, const char *text, size_t len) {
    const fe_tokenizer *t = e->t;
    size_t begin = 0, at = 0, size;
    int rc = 0;
    while (at < len && rc == 0) {
        int32_t id = fe_specials_match(&t->vocab.user, text + at, len - at, &size);
        if (id >= 0) {
            rc = encode_word(e, text + begin, at - begin);
            if (rc == 0) rc = fe_sentence_push(e, id);
            begin = at + size;
        } else {
            size = fe_char_size(text + at, len - at);
            if (at > begin && fe_is_mark(text + at, len - at) && !t->joins_space[(unsigned char)text[at - 1]]) {
                rc = encode_word(e, text + begin, at - begin);
                begin = at;
            }
        }
        at += size;
    }
    return rc == 0 ? encode_word(e, text + begin, len - begin) : rc;
}
