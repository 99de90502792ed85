/* SentencePiece's BPE. A space is spelled U+2581; characters join into the token of the highest score first, or by the file's
 * merges; a character without a token becomes its bytes' tokens. */
#include "text/tokenizer.h"

#include <string.h>

static bool is_mark(const char *s, size_t len) {
    return len >= FE_SPACE_MARK_LEN && memcmp(s, FE_SPACE_MARK, FE_SPACE_MARK_LEN) == 0;
}

/* Where no token holds "x▁" a text can be cut between x and ▁ without changing its ids. */
static void find_joins(fe_tokenizer *t) {
    const fe_vocab *v = &t->vocab;
    for (uint32_t id = 0; id < v->count; id++) {
        ferrum_str text = fe_vocab_text(v, id);
        if (v->type[id] > FE_TOKEN_NORMAL) continue;
        for (size_t i = 1; i + FE_SPACE_MARK_LEN <= text.len; i++)
            if (is_mark(text.data + i, text.len - i)) t->joins_space[(unsigned char)text.data[i - 1]] = true;
    }
}

int fe_spm_open(fe_tokenizer *t, const ferrum_gguf *g, bool merges, ferrum_error *err) {
    const fe_vocab *v = &t->vocab;
    t->vocab.cut_user = merges; /* as the tokenizers package does, whose model it is then */
    int rc = fe_vocab_open(&t->vocab, g, FE_VOCAB_SPM, true, err);
    if (rc == 0 && merges) rc = fe_merges_read(t, g, err);
    if (rc < 0) return rc;
    for (unsigned b = 0; b < 256; b++)
        if (v->byte_id[b] < 0 && v->unknown < 0)
            return fe_fail(err, FERRUM_EFORMAT,
                           "%s: the vocabulary has no token for the byte 0x%02X, nor one for the unknown", v->file, b);
    find_joins(t);
    return 0;
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

/* A run of unknown characters is one unknown token. */
static int push_unknown(fe_encoder *e) {
    if (e->after_unknown) return 0;
    int rc = fe_encoder_push(e, e->t->vocab.unknown);
    e->after_unknown = true;
    return rc;
}

static int push_known(fe_encoder *e, int32_t id) {
    e->after_unknown = false;
    return fe_encoder_push(e, id);
}

static int push_symbol(fe_encoder *e, const char *word, const fe_symbol *s) {
    if (s->id >= 0) return push_known(e, s->id);
    int rc = 0;
    for (uint32_t i = 0; i < s->len && rc == 0; i++) {
        int32_t id = e->t->vocab.byte_id[(unsigned char)word[s->start + i]];
        rc = id >= 0 ? push_known(e, id) : push_unknown(e);
    }
    return rc;
}

/* The length of the character at s; a byte that is not UTF-8 counts as one. */
static size_t char_size(const char *s, size_t len) {
    uint32_t cp;
    size_t size = fe_utf8_decode(s, len, &cp);
    return size ? size : 1;
}

static int encode_word(fe_encoder *e, const char *word, size_t len) {
    if (len == 0) return 0;
    const fe_vocab *v = &e->t->vocab;
    if (!fe_merger_reserve(&e->merger, len)) return fe_fail_memory(e->err, len * sizeof(fe_symbol), "a word's symbols");
    for (size_t at = 0, size; at < len; at += size) {
        size = char_size(word + at, len - at);
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
static int encode_words(fe_encoder *e, const char *text, size_t len) {
    const fe_tokenizer *t = e->t;
    size_t begin = 0, at = 0, size;
    int rc = 0;
    while (at < len && rc == 0) {
        int32_t id = fe_specials_match(&t->vocab.user, text + at, len - at, &size);
        if (id >= 0) {
            rc = encode_word(e, text + begin, at - begin);
            if (rc == 0) rc = push_known(e, id);
            begin = at + size;
        } else {
            size = char_size(text + at, len - at);
            if (at > begin && is_mark(text + at, len - at) && !t->joins_space[(unsigned char)text[at - 1]]) {
                rc = encode_word(e, text + begin, at - begin);
                begin = at;
            }
        }
        at += size;
    }
    return rc == 0 ? encode_word(e, text + begin, len - begin) : rc;
}

static char *put_mark(char *out) { return (char *)memcpy(out, FE_SPACE_MARK, FE_SPACE_MARK_LEN) + FE_SPACE_MARK_LEN; }

/* The text with U+2581 for its spaces and, where the vocabulary asks for it, one in place of several. */
static char *put_text(char *out, const char *text, size_t len, bool squeeze) {
    for (size_t i = 0; i < len; i++) {
        if (text[i] != ' ')
            *out++ = text[i];
        else if (!squeeze || i + 1 == len || text[i + 1] != ' ')
            out = put_mark(out);
    }
    return out;
}

int fe_spm_encode(fe_encoder *e, const char *text, size_t len, bool space) {
    bool squeeze = e->t->vocab.squeeze;
    for (; squeeze && len > 0 && text[0] == ' '; len--) text++;
    if (len == 0) return 0;
    size_t spaces = space;
    for (size_t i = 0; i < len; i++) spaces += text[i] == ' ';
    size_t bytes = len + space + (FE_SPACE_MARK_LEN - 1) * spaces;
    if (bytes > UINT32_MAX)
        return fe_fail(e->err, FERRUM_ELIMIT, "a text of %zu bytes with %zu spaces is longer than can be tokenized",
                       len, spaces);
    char *escaped = malloc(bytes + 1);
    if (!escaped) return fe_fail_memory(e->err, bytes, "the text to tokenize");
    char *end = put_text(space ? put_mark(escaped) : escaped, text, len, squeeze);
    while (squeeze && end - escaped >= FE_SPACE_MARK_LEN && is_mark(end - FE_SPACE_MARK_LEN, FE_SPACE_MARK_LEN))
        end -= FE_SPACE_MARK_LEN;
    e->after_unknown = false;
    int rc = encode_words(e, escaped, (size_t)(end - escaped));
    free(escaped);
    return rc;
}
