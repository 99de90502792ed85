/* SentencePiece's Unigram ("t5"): of all ways to cut a text into tokens, the one whose scores have the greatest sum. Sums run on from
 * one word to the next, and are rounded and compared as the original does, since that decides between ways that are equally good.
 * Source: sentencepiece's unigram_model.cc. */
#include "text/tokenizer.h"

#include <math.h>
#include <string.h>

/* What begins at one place is looked up to so many bytes, so that the time is in proportion to the text alone. */
enum { PIECE_MAX = 1024 };

static const float unknown_penalty = 10;
static const float user_penalty = 0.1f;

static bool is_piece(const fe_vocab *v, uint32_t id) {
    return v->type[id] <= FE_TOKEN_NORMAL && fe_vocab_text(v, id).len > 0;
}

/* Plain tokens, and user-defined ones with marks for their spaces. */
static int open_pieces(fe_tokenizer *t, ferrum_error *err) {
    const fe_vocab *v = &t->vocab;
    fe_word *words = malloc((v->count + 1) * sizeof *words);
    if (!words) return fe_fail_memory(err, v->count * sizeof *words, "the vocabulary's tree");
    size_t count = 0;
    for (uint32_t id = 0; id < v->count; id++)
        if (is_piece(v, id)) words[count++] = (fe_word){fe_vocab_text(v, id), id};
    for (uint32_t i = 0; i < v->user.first[256]; i++)
        words[count++] = (fe_word){{v->user.items[i].text, v->user.items[i].len}, (uint32_t)v->user.items[i].id};
    int rc = fe_trie_open(&t->pieces, words, count, err);
    free(words);
    return rc;
}

int fe_unigram_open(fe_tokenizer *t, const ferrum_gguf *g, ferrum_error *err) {
    const fe_vocab *v = &t->vocab;
    int rc = fe_vocab_open(&t->vocab, g, FE_VOCAB_UGM, false, err);
    if (rc == 0) rc = fe_sentence_open(t, g, err);
    if (rc == 0) rc = open_pieces(t, err);
    if (rc < 0) return rc;
    float low = INFINITY, high = 0; /* scores are logarithms: at most 0, as a rule */
    for (uint32_t id = 0; id < v->count; id++) {
        if (!is_piece(v, id)) continue;
        if (fe_vocab_text(v, id).len > PIECE_MAX)
            return fe_fail(err, FERRUM_EUNSUPPORTED,
                           "%s: key tokenizer.ggml.tokens: token %u has %zu bytes, at most %d are read", v->file, id,
                           fe_vocab_text(v, id).len, PIECE_MAX);
        low = fminf(low, fe_vocab_score(v, id));
        high = fmaxf(high, fe_vocab_score(v, id));
    }
    if (low == INFINITY) low = 0; /* no tokens at all */
    t->unknown_score = low - unknown_penalty;
    t->best_score = high;
    if (!isfinite(low) || !isfinite(high))
        return fe_fail(err, FERRUM_EFORMAT, "%s: key tokenizer.ggml.scores: a score is not finite", v->file);
    return 0;
}

static float piece_score(const fe_tokenizer *t, uint32_t id, size_t len) {
    const fe_vocab *v = &t->vocab;
    return v->type[id] == FE_TOKEN_USER ? (float)len * t->best_score - user_penalty : fe_vocab_score(v, id);
}

/* A better way to come to a place? */
static void offer(fe_step *to, float score, uint32_t size, int32_t id) {
    if (to->size == 0 || score > to->score) *to = (fe_step){score, size, id};
}

/* All that begins at `at`, which the best way to it is known of. steps[i] tells of the place i. */
static void take_steps(const fe_tokenizer *t, fe_step *steps, const char *text, size_t at, size_t len,
                       size_t char_size) {
    const fe_trie *pieces = &t->pieces;
    float before = steps[at].score;
    bool whole_char = false;
    uint32_t node = 0;
    for (size_t end = at; end < len && (node = fe_trie_child(pieces, node, (uint8_t)text[end])) != 0;) {
        size_t size = ++end - at;
        for (uint32_t i = pieces->first_id[node]; i < pieces->first_id[node + 1]; i++) {
            uint32_t id = pieces->ids[i];
            offer(&steps[end], before + piece_score(t, id, size), (uint32_t)size, (int32_t)id);
            whole_char = whole_char || size == char_size;
        }
    }
    if (!whole_char) offer(&steps[at + char_size], before + t->unknown_score, (uint32_t)char_size, -1);
}

/* The chain of best steps, turned round, so that steps[i] tells of the one that begins at i. */
static void turn_round(fe_step *steps, size_t end) {
    fe_step step = steps[end];
    while (end > 0) {
        size_t begin = end - step.size;
        fe_step before = steps[begin];
        steps[begin] = step;
        step = before;
        end = begin;
    }
}

/* score: of all that stands before the word, and then of that with the word. */
static int encode_word(fe_encoder *e, const char *text, size_t len, float *score) {
    if (len > e->step_room) {
        free(e->steps);
        e->step_room = fe_max(len, 256);
        e->steps = malloc((e->step_room + 1) * sizeof *e->steps);
        if (!e->steps) return fe_fail_memory(e->err, (len + 1) * sizeof *e->steps, "a word's ways to be cut");
    }
    memset(e->steps, 0, (len + 1) * sizeof *e->steps);
    e->steps[0].score = *score;
    for (size_t at = 0, size; at < len; at += size) {
        size = fe_char_size(text + at, len - at);
        take_steps(e->t, e->steps, text, at, len, size);
    }
    *score = e->steps[len].score;
    turn_round(e->steps, len);
    int rc = 0;
    for (size_t at = 0; at < len && rc == 0; at += e->steps[at].size) {
        fe_step step = e->steps[at];
        rc = step.id >= 0 ? fe_sentence_push(e, step.id) : fe_sentence_push_bytes(e, text + at, step.size);
    }
    return rc;
}

int fe_unigram_encode(fe_encoder *e, const char *text, size_t len) {
    size_t begin = 0;
    float score = 0;
    int rc = 0;
    for (size_t at = 1; at <= len && rc == 0; at++) {
        bool cut = at == len || (fe_is_mark(text + at, len - at) && !e->t->joins_space[(unsigned char)text[at - 1]]);
        if (!cut) continue;
        rc = encode_word(e, text + begin, at - begin, &score);
        begin = at;
    }
    return rc;
}
