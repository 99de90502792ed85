/* Byte-level BPE. Pieces of the text become symbols of one byte each; the merges, in the order of the file, join them. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>

#define MERGES "tokenizer.ggml.merges"

static uint32_t pair_hash(int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32 ^ h >> 15);
}

static fe_pair *find_pair(const fe_pairs *pairs, int32_t left, int32_t right) {
    uint32_t at = pair_hash(left, right) & pairs->mask;
    while (pairs->slots[at].left >= 0 && (pairs->slots[at].left != left || pairs->slots[at].right != right))
        at = (at + 1) & pairs->mask;
    return &pairs->slots[at];
}

/* One line of the merges: two tokens' spellings with a space between, whose sum is a token. */
static int add_merge(fe_tokenizer *t, ferrum_str line, uint32_t rank, ferrum_error *err) {
    const fe_vocab *v = &t->vocab;
    const char *space = memchr(line.data, ' ', line.len);
    size_t left_len = space ? (size_t)(space - line.data) : 0;
    size_t right_len = space ? line.len - left_len - 1 : 0;
    if (left_len == 0 || right_len == 0 || memchr(space + 1, ' ', right_len))
        return fe_fail(err, FERRUM_EFORMAT, "%s: key " MERGES "[%u] '%s' is not two tokens with a space between",
                       v->file, rank, fe_quote(line).s);
    int32_t left = fe_vocab_find(v, line.data, left_len), right = fe_vocab_find(v, space + 1, right_len), result = -1;
    if (left >= 0 && right >= 0 && left_len + right_len <= v->longest) {
        char joined[256], *text = left_len + right_len <= sizeof joined ? joined : malloc(left_len + right_len);
        if (!text) return fe_fail_memory(err, left_len + right_len, "a merge");
        memcpy(text, line.data, left_len);
        memcpy(text + left_len, space + 1, right_len);
        result = fe_vocab_find(v, text, left_len + right_len);
        if (text != joined) free(text);
    }
    if (result < 0)
        return fe_fail(err, FERRUM_EFORMAT, "%s: key " MERGES "[%u] '%s' names %s that is not in the vocabulary",
                       v->file, rank, fe_quote(line).s, left < 0 || right < 0 ? "a token" : "two tokens with a sum");
    fe_pair *slot = find_pair(&t->pairs, left, right);
    if (slot->left < 0) *slot = (fe_pair){left, right, result, rank}; /* of the same merge twice the first counts */
    return 0;
}

int fe_merges_read(fe_tokenizer *t, const ferrum_gguf *g, ferrum_error *err) {
    const char *file = t->vocab.file;
    const ferrum_gguf_kv *kv = ferrum_gguf_find(g, MERGES);
    if (!kv) return fe_fail(err, FERRUM_EFORMAT, "%s: key " MERGES " is missing", file);
    if (kv->type != FERRUM_GGUF_ARRAY || kv->value.array.type != FERRUM_GGUF_STRING)
        return fe_fail(err, FERRUM_EFORMAT, "%s: key " MERGES " is not an array of strings", file);
    uint64_t count = kv->value.array.count;
    if (count > INT32_MAX)
        return fe_fail(err, FERRUM_EUNSUPPORTED, "%s: key " MERGES " has %llu strings, at most %d are read", file,
                       (unsigned long long)count, INT32_MAX);
    size_t capacity = 16;
    while (capacity < count + count / 2) capacity *= 2;
    t->pairs.slots = malloc(capacity * sizeof *t->pairs.slots);
    if (!t->pairs.slots) return fe_fail_memory(err, capacity * sizeof *t->pairs.slots, "the merges");
    for (size_t i = 0; i < capacity; i++) t->pairs.slots[i].left = -1;
    t->pairs.mask = (uint32_t)(capacity - 1);
    ferrum_str line;
    size_t cursor = 0;
    int rc = 0;
    for (uint32_t rank = 0; rc == 0 && ferrum_gguf_next_str(kv, &cursor, &line); rank++)
        rc = add_merge(t, line, rank, err);
    return rc;
}

static int unknown_pre(const char *file, const char *what, ferrum_error *err) {
    fe_text names = {0};
    fe_split_names(&names);
    int rc = fe_fail(err, FERRUM_EUNSUPPORTED, "%s: %s; known are, each with other names of the same, %s", file, what,
                     names.data ? names.data : "");
    fe_text_free(&names);
    return rc;
}

static int find_rule(fe_tokenizer *t, const ferrum_gguf *g, const char *chosen, ferrum_error *err) {
    const char *file = ferrum_gguf_path(g);
    char what[200];
    ferrum_str pre = {"", 0};
    int got = ferrum_gguf_get_str(g, "tokenizer.ggml.pre", &pre, err);
    if (got < 0) return got;
    if (chosen) pre = (ferrum_str){chosen, strlen(chosen)};
    if (!got && !chosen)
        return unknown_pre(
            file, "key tokenizer.ggml.pre is missing, and without it text would be cut into words by a guess", err);
    t->rule = fe_split_find(pre.data, pre.len);
    if (t->rule) {
        fe_printable(t->pre, sizeof t->pre, pre.data, pre.len);
        return 0;
    }
    snprintf(what, sizeof what,
             chosen ? "the pre-tokenizer '%s' is not known" : "key tokenizer.ggml.pre is '%s', which is not known",
             fe_quote(pre).s);
    return unknown_pre(file, what, err);
}

int fe_bpe_open(fe_tokenizer *t, const ferrum_gguf *g, const char *pre, ferrum_error *err) {
    int rc = find_rule(t, g, pre, err);
    if (rc == 0) rc = fe_vocab_open(&t->vocab, g, FE_VOCAB_BPE, t->rule->flags & FE_SPLIT_BOS, err);
    if (rc == 0) rc = fe_merges_read(t, g, err);
    return rc == 0 ? fe_split_open(&t->split, t->rule, err) : rc;
}

bool fe_merge_by_rank(const void *rules, const char *word, const fe_symbol *left, const fe_symbol *right,
                      uint32_t *priority, int32_t *id) {
    (void)word;
    if (left->id < 0 || right->id < 0) return false;
    const fe_pair *pair = find_pair(rules, left->id, right->id);
    *priority = pair->rank;
    *id = pair->result;
    return pair->left >= 0;
}

/* The token that is spelled as the whole piece is, or -1. */
static int32_t find_whole(fe_encoder *e, const char *piece, size_t len) {
    size_t n = 0;
    if (len > e->t->vocab.longest) return -1;
    for (size_t i = 0; i < len; i++) n += fe_utf8_encode(fe_byte_char((unsigned char)piece[i]), e->spelled + n);
    return fe_vocab_find_plain(&e->t->vocab, e->spelled, n);
}

static int push_symbol(fe_encoder *e, const char *piece, const fe_symbol *s) {
    if (s->id >= 0) return fe_encoder_push(e, s->id);
    const fe_vocab *v = &e->t->vocab;
    if (v->unknown >= 0) return fe_encoder_push(e, v->unknown);
    return fe_fail(e->err, FERRUM_EUNSUPPORTED,
                   "%s: its vocabulary has no token for the byte 0x%02X, nor one for the unknown", v->file,
                   (unsigned char)piece[s->start]);
}

static int encode_piece(void *user, const char *piece, size_t len) {
    fe_encoder *e = user;
    const fe_tokenizer *t = e->t;
    int32_t whole = e->spelled ? find_whole(e, piece, len) : -1;
    if (whole >= 0) return fe_encoder_push(e, whole);
    if (!fe_merger_reserve(&e->merger, len)) return fe_fail_memory(e->err, len * sizeof(fe_symbol), "a word's symbols");
    for (size_t i = 0; i < len; i++)
        fe_merger_push(&e->merger, t->vocab.byte_id[(unsigned char)piece[i]], (uint32_t)i, 1);
    if (!fe_merger_run(&e->merger, fe_merge_by_rank, &t->pairs, piece))
        return fe_fail_memory(e->err, len * sizeof(fe_candidate), "a word's merges");
    int rc = 0;
    for (uint32_t i = 0; i != FE_NO_SYMBOL && rc == 0; i = e->merger.symbols[i].next)
        rc = push_symbol(e, piece, &e->merger.symbols[i]);
    return rc;
}

int fe_bpe_encode(fe_encoder *e, const char *text, size_t len) {
    const fe_tokenizer *t = e->t;
    if (t->rule->flags & FE_SPLIT_WHOLE && !e->spelled) {
        size_t bytes = 2 * (size_t)t->vocab.longest + 4;
        e->spelled = malloc(bytes);
        if (!e->spelled) return fe_fail_memory(e->err, bytes, "a word's spelling");
    }
    fe_text normal = {0};
    int rc = t->rule->flags & FE_SPLIT_NFC ? fe_nfc(text, len, &normal, e->err) : 0;
    if (rc > 0) text = normal.data, len = normal.len;
    if (rc >= 0) rc = fe_split_run(&t->split, text, len, encode_piece, e, e->err);
    fe_text_free(&normal);
    return rc;
}
