/* Drawing an answer: token after token, and its text as far as it may go out. */
#include "engine/session.h"
#include "kernels/ops.h"

#include <string.h>

enum { WAITS = 1 }; /* from draw: the batch has to evaluate first */

/* The likeliest of the next position, and a place behind them for the one that will be drawn. */
static int keep_logprobs(ferrum_session *s, ferrum_error *err) {
    size_t n = s->options.logprobs, row = n + 1;
    const float *logits;
    if (n == 0) return 0;
    int rc = fe_session_logits(s, &logits, err);
    if (rc) return rc;
    if (s->answer_count == s->logprobs_capacity) {
        size_t capacity = fe_max(64, 2 * s->logprobs_capacity);
        ferrum_logprob *grown = realloc(s->logprobs, capacity * row * sizeof *grown);
        if (!grown) return fe_fail_memory(err, capacity * row * sizeof *grown, "log-probabilities");
        s->logprobs = grown;
        s->logprobs_capacity = capacity;
    }
    fe_top_logprobs(logits, s->model->h.vocab, s->logprobs + s->answer_count * row, n);
    return 0;
}

/* Its log-probability is as far below the likeliest one's as its logit. */
static void keep_drawn(ferrum_session *s, int32_t id) {
    size_t n = s->options.logprobs;
    if (n == 0) return;
    ferrum_logprob *row = s->logprobs + s->answer_count * (n + 1);
    row[n] = (ferrum_logprob){id, row->logprob + (s->logits[id] - s->logits[row->id])};
}

/* Nobody knows whether the session will be used again, or closed: its pages are for whoever needs them first, and what is left of
 * them is found again. */
void fe_session_end_answer(ferrum_session *s, ferrum_finish finish) {
    s->finish = finish;
    s->draining = true;
    if (s->pages) fe_session_leave_pages(s);
}

/* A reason to end before another token comes. */
static ferrum_finish look_for_end(const ferrum_session *s) {
    if (s->guide.constraint && fe_guide_is_over(&s->guide)) return FERRUM_FINISH_STOP;
    if (s->options.max_tokens && s->answer_count >= s->options.max_tokens) return FERRUM_FINISH_LENGTH;
    if (atomic_load_explicit(&s->canceled, memory_order_relaxed)) return FERRUM_FINISH_CANCELED;
    return fe_session_end(s) > s->context ? FERRUM_FINISH_CONTEXT : FERRUM_FINISH_NONE;
}

/* Sees to the logits behind the last token. WAITS: in a batch, that is not done here. */
static int see_to_logits(ferrum_session *s, ferrum_error *err) {
    fe_session_take_guessed(s);
    if (s->count == fe_session_end(s)) return 0;
    return s->options.batch ? WAITS : fe_session_evaluate_drawn(s, err);
}

/* From the likeliest, where the device keeps the others and they tell nothing else. */
static int draw_id(ferrum_session *s, int32_t *id, ferrum_error *err) {
    bool guided = s->guide.constraint;
    const float *logits;
    int rc = guided ? fe_guide_mask(&s->guide, err) : 0;
    if (rc) return rc;
    const uint64_t *allowed = guided ? s->guide.mask : NULL;
    size_t count = fe_session_end(s);
    if (s->listed && fe_sampler_draw_top(s->sampler, s->top, FE_TOP, allowed, s->tokens, count, s->answer_count, id))
        return 0;
    rc = fe_session_logits(s, &logits, err);
    if (rc) return rc;
    *id = fe_sampler_draw(s->sampler, logits, allowed, s->tokens, count, s->answer_count);
    if (*id >= 0) return 0;
    if (guided)
        return fe_fail(err, FERRUM_EFORMAT,
                       "of the tokens that may come under the grammar none can be drawn: the "
                       "vocabulary has none, or they are biased away");
    return fe_fail(err, FERRUM_EFORMAT, "the model gave no number for any token: its weights are broken");
}

static int take_id(ferrum_session *s, int32_t id, ferrum_error *err) {
    int rc = s->guide.constraint ? fe_guide_accept(&s->guide, id, err) : 0;
    if (rc) return rc;
    keep_drawn(s, id);
    s->tokens[fe_session_end(s)] = id;
    s->answer_count++;
    bool end = ferrum_token_is_end(s->model->tokenizer, id);
    if (end && !s->options.ignore_end) {
        fe_session_end_answer(s, FERRUM_FINISH_STOP);
    } else if (s->model->tokenizer) {
        bool special = s->options.special || s->guide.constraint; /* a grammar leaves none but those that it names */
        fe_tokenizer_decode(s->model->tokenizer, id, special, false, &s->text);
        if (s->text.failed) return fe_fail_memory(err, s->text.capacity, "text");
    }
    return 0;
}

/* Draws one token and, where the answer goes on, appends its text. What comes before it is evaluated first: the last token of an
 * answer never is, and one that the grammar forces needs no logits, unless they are asked for: it is evaluated together with the
 * next that is drawn. WAITS: the batch has to evaluate first. */
static int draw(ferrum_session *s, ferrum_error *err) {
    int32_t id = -1;
    int rc = 0;
    ferrum_finish finish = look_for_end(s);
    if (finish != FERRUM_FINISH_NONE) return fe_session_end_answer(s, finish), 0;
    if (s->guide.constraint && s->count >= s->answer_first) rc = fe_guide_forced(&s->guide, &id, err);
    if (!rc && fe_session_end(s) > s->count && (id < 0 || s->options.logprobs)) rc = see_to_logits(s, err);
    if (!rc) rc = keep_logprobs(s, err);
    if (!rc && id < 0) rc = draw_id(s, &id, err);
    return rc ? rc : take_id(s, id, err);
}

/* Ends the answer before the first stop string in its text. Only what the last token added can complete one. */
static void look_for_stop(ferrum_session *s, size_t before) {
    size_t from = before > s->longest_stop ? before - s->longest_stop : 0, first = SIZE_MAX;
    if (from < s->handed) from = s->handed;
    for (size_t i = 0; i < s->stop_count; i++) {
        const char *at = memmem(s->text.data + from, s->text.len - from, s->stop[i], strlen(s->stop[i]));
        if (at) first = fe_min(first, (size_t)(at - s->text.data));
    }
    if (first == SIZE_MAX) return;
    s->text.len = first;
    fe_session_end_answer(s, FERRUM_FINISH_STOP);
}

/* How much of the text at `from` may go out: not the start of a stop string, nor of a UTF-8 sequence. */
static size_t ready(const ferrum_session *s) {
    size_t len = s->text.len - s->handed;
    if (s->draining || len == 0) return len;
    const char *text = s->text.data + s->handed;
    size_t held = fe_utf8_pending(text, len);
    for (size_t i = 0; i < s->stop_count; i++) {
        size_t n = fe_min(strlen(s->stop[i]) - 1, len);
        while (n > held && memcmp(text + len - n, s->stop[i], n) != 0) n--;
        held = fe_max(held, n);
    }
    return len - held;
}

/* Hands out whole sequences of the first `len` bytes; what is no UTF-8 becomes U+FFFD. */
static int hand_out(ferrum_session *s, size_t len, char *out, size_t size) {
    if (len == 0) return 0; /* and there may be no text at all */
    size_t to = 0;
    const char *text = s->text.data + s->handed;
    size_t at = 0;
    while (at < len) {
        uint32_t cp = 0xFFFD;
        size_t n = fe_utf8_decode(text + at, len - at, &cp);
        char sequence[4];
        size_t bytes = fe_utf8_encode(n ? cp : 0xFFFD, sequence);
        if (to + bytes > size) break;
        memcpy(out + to, sequence, bytes);
        to += bytes;
        at += n ? n : 1;
    }
    s->handed += at;
    if (s->handed == s->text.len) s->handed = s->text.len = 0;
    return (int)to;
}

int ferrum_session_next(ferrum_session *s, char *text, size_t size, ferrum_error *err) {
    if (size < 4) return fe_fail(err, FERRUM_EINVAL, "the buffer for text has %zu bytes; it needs 4 at least", size);
    if (size > INT32_MAX) size = INT32_MAX;
    if (!s->known && fe_session_end(s) == s->count && s->finish == FERRUM_FINISH_NONE)
        return fe_fail(err, FERRUM_EINVAL, "there is nothing to go on from: append tokens first");
    double start = fe_now();
    int rc = 0;
    while (!ready(s) && !s->draining && !rc) {
        size_t before = s->text.len;
        rc = draw(s, err);
        if (rc == FERRUM_ECANCELED) {
            fe_session_end_answer(s, FERRUM_FINISH_CANCELED);
            rc = 0;
        }
        if (!rc && s->text.len > before) look_for_stop(s, before);
    }
    s->timings.answer_tokens = s->answer_count;
    s->timings.answer_seconds += fe_now() - start;
    return rc < 0 ? rc : hand_out(s, ready(s), text, size);
}
