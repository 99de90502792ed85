/* A session: one timeline of tokens, its KV cache, its sampler, and the answer that is being drawn. */
#include "engine/session.h"
#include "kernels/ops.h"

#include <stdio.h>
#include <string.h>

enum {
    DEFAULT_CONTEXT = 4096,
    MOST_LOGPROBS = 100,
};

void ferrum_session_options_init(ferrum_session_options *options) {
    *options = (ferrum_session_options){.sampling = {.temperature = 0.8f,
                                                     .top_k = 40,
                                                     .top_p = 0.95f,
                                                     .min_p = 0.05f,
                                                     .repetition_penalty = 1.0f,
                                                     .penalty_window = 64}};
}

static int copy_stops(ferrum_session *s, const ferrum_session_options *options, ferrum_error *err) {
    s->stop = fe_alloc(fe_max(options->stop_count, 1), sizeof *s->stop);
    if (!s->stop) return fe_fail_memory(err, options->stop_count * sizeof *s->stop, "stop strings");
    for (size_t i = 0; i < options->stop_count; i++) {
        size_t len = strlen(options->stop[i]);
        if (len == 0) return fe_fail(err, FERRUM_EINVAL, "a stop string is empty");
        s->stop[i] = strdup(options->stop[i]);
        if (!s->stop[i]) return fe_fail_memory(err, len + 1, "a stop string");
        s->stop_count++;
        s->longest_stop = fe_max(s->longest_stop, len);
    }
    return 0;
}

static int choose_context(ferrum_session *s, ferrum_error *err) {
    uint32_t trained = s->model->h.context_length, asked = s->options.context;
    if (asked > trained)
        return fe_fail(err, FERRUM_ELIMIT, "a context of %u was asked for; the model was trained for %u", asked,
                       trained);
    s->context = asked ? asked : (uint32_t)fe_min(DEFAULT_CONTEXT, trained);
    const ferrum_batch *b = s->options.batch;
    if (!b || !b->paged || s->context <= b->pages.count * (size_t)FERRUM_KV_PAGE) return 0;
    return fe_fail(err, FERRUM_ELIMIT, "a context of %u does not fit the batch's KV cache of %u positions", s->context,
                   b->pages.count * FERRUM_KV_PAGE);
}

/* What the session takes for itself, before it takes any of it. */
static int check_memory(const ferrum_session *s, ferrum_error *err) {
    const ferrum_batch *b = s->options.batch;
    if (b && b->paged) return 0;
    ferrum_memory m;
    ferrum_model_memory(s->model, s->context, s->options.kv, &m);
    return fe_model_must_hold(s->model, s->context, m.kv, b ? 0 : m.scratch, err);
}

static int open_cache(ferrum_session *s, ferrum_error *err) {
    const ferrum_batch *b = s->options.batch;
    if (!b || !b->paged) return fe_cache_open(&s->cache, s->model, s->context, s->options.kv, err);
    if (s->options.kv != FERRUM_KV_DEFAULT)
        return fe_fail(err, FERRUM_EINVAL, "the session has no KV cache of its own: its kind is its batch's");
    size_t most = s->context / FERRUM_KV_PAGE + 1;
    s->pages = fe_alloc(most, sizeof *s->pages);
    return s->pages ? 0 : fe_fail_memory(err, most * sizeof *s->pages, "a table of pages");
}

/* Where the device keeps logits, room for the likeliest. */
static int open_top(ferrum_session *s, const fe_pass *p, ferrum_error *err) {
    if (!p->keeps_logits) return 0;
    s->top = fe_alloc(FE_TOP, sizeof *s->top);
    return s->top ? 0 : fe_fail_memory(err, FE_TOP * sizeof *s->top, "the likeliest tokens");
}

/* What a session by itself evaluates with; in a batch, room for its logits alone. */
static int open_scratch(ferrum_session *s, ferrum_error *err) {
    ferrum_batch *b = s->options.batch;
    int rc = b ? 0 : fe_pass_open(&s->pass, s->model, fe_pass_rows(s->model, s->context), false, err);
    if (!rc && b && b->model != s->model) rc = fe_fail(err, FERRUM_EINVAL, "the session's batch is of another model");
    if (!rc) rc = open_top(s, b ? &b->pass : &s->pass, err);
    if (rc || !b) return rc;
    size_t most = (s->options.lookup ? 1 + FE_DRAFT_MOST : 1) * (size_t)s->model->h.vocab;
    s->row = fe_alloc(most, sizeof *s->row);
    return s->row ? 0 : fe_fail_memory(err, most * sizeof *s->row, "logits");
}

static int open_lookup(ferrum_session *s, ferrum_error *err) {
    if (!s->options.lookup) return 0;
    if (fe_device_even_rows(s->model->device) < 2)
        return fe_fail(
            err, FERRUM_EUNSUPPORTED,
            "lookup would alter texts on the device \"%s\": its numbers depend on how many tokens a pass has",
            ferrum_device_name(s->model->device));
    return fe_lookup_open(&s->lookup, s->context, err);
}

int ferrum_session_open(ferrum_session **out, const ferrum_model *model, const ferrum_session_options *options,
                        ferrum_error *err) {
    *out = NULL;
    ferrum_session_options defaults;
    ferrum_session_options_init(&defaults);
    if (!options) options = &defaults;
    int rc = fe_model_must_generate(model, err);
    if (rc) return rc;
    if (options->grammar && options->ignore_end)
        return fe_fail(err, FERRUM_EINVAL,
                       "ignore_end and a grammar exclude each other: behind its end nothing may come");
    if (options->logprobs > MOST_LOGPROBS)
        return fe_fail(err, FERRUM_EINVAL, "%u log-probabilities a token were asked for; the most is %d",
                       options->logprobs, MOST_LOGPROBS);
    int kv = (int)options->kv;
    if (kv < FERRUM_KV_DEFAULT || kv > FERRUM_KV_Q8_0)
        return fe_fail(err, FERRUM_EINVAL, "%d is no kind of KV cache; they are %d to %d", kv, FERRUM_KV_DEFAULT,
                       FERRUM_KV_Q8_0);
    ferrum_session *s = fe_alloc(1, sizeof *s);
    if (!s) return fe_fail_memory(err, sizeof *s, "a session");
    s->model = model;
    s->options = *options;
    s->options.stop = NULL;
    s->options.logprobs = (uint32_t)fe_min(options->logprobs, model->h.vocab);
    rc = choose_context(s, err);
    if (!rc) rc = copy_stops(s, options, err);
    if (!rc) rc = fe_sampler_open(&s->sampler, &options->sampling, model->h.vocab, err);
    if (!rc && options->grammar) rc = fe_guide_open(&s->guide, options->grammar, model->tokenizer, model->h.vocab, err);
    if (!rc) rc = check_memory(s, err);
    if (!rc) rc = open_cache(s, err);
    if (!rc) rc = open_scratch(s, err);
    if (!rc) rc = open_lookup(s, err);
    if (!rc) {
        s->tokens = fe_alloc((size_t)s->context + 1, sizeof *s->tokens);
        if (!s->tokens) rc = fe_fail_memory(err, ((size_t)s->context + 1) * sizeof *s->tokens, "tokens");
    }
    if (rc)
        ferrum_session_close(s);
    else
        *out = s;
    return rc;
}

void ferrum_session_close(ferrum_session *s) {
    if (!s) return;
    fe_session_take_logits(s, FE_NO_ROW);
    for (size_t i = 0; i < s->stop_count; i++) free(s->stop[i]);
    free(s->stop);
    fe_sampler_close(s->sampler);
    fe_guide_close(&s->guide);
    fe_lookup_close(&s->lookup);
    fe_pass_close(&s->pass);
    fe_cache_close(&s->cache);
    if (s->pages) fe_session_give_pages(s, 0);
    free(s->pages);
    free(s->row);
    free(s->top);
    free(s->tokens);
    free(s->logprobs);
    fe_text_free(&s->text);
    free(s);
}

/* ---- Logits ---- */

static fe_pass *pass_of(ferrum_session *s) { return s->options.batch ? &s->options.batch->pass : &s->pass; }

/* A batch's step may have others fetched meanwhile. */
static void lock_logits(ferrum_session *s) {
    if (s->options.batch && s->top) pthread_mutex_lock(&s->options.batch->lock);
}
static void unlock_logits(ferrum_session *s) {
    if (s->options.batch && s->top) pthread_mutex_unlock(&s->options.batch->lock);
}

int fe_session_fetch(ferrum_session *s, ferrum_error *err) {
    float *from;
    int rc = fe_pass_fetch(pass_of(s), (uint32_t)s->kept_at, 1, &from, err);
    if (rc) return rc;
    s->logits = s->row ? s->row : from;
    if (s->row) memcpy(s->row, from, s->model->h.vocab * sizeof *s->row);
    s->kept = false;
    if (s->options.batch) s->options.batch->keepers[s->kept_at] = NULL;
    return 0;
}

int fe_session_logits(ferrum_session *s, const float **logits, ferrum_error *err) {
    lock_logits(s);
    int rc = s->kept ? fe_session_fetch(s, err) : 0;
    *logits = s->logits;
    unlock_logits(s);
    return rc;
}

void fe_session_lose_logits(ferrum_session *s) {
    if (!s->kept) return;
    if (s->options.batch) s->options.batch->keepers[s->kept_at] = NULL;
    s->kept = s->known = s->listed = false;
}

void fe_session_take_logits(ferrum_session *s, int at) {
    lock_logits(s);
    fe_session_lose_logits(s);
    s->known = at != FE_NO_ROW;
    s->kept = s->listed = at >= 0 && s->top;
    s->logits = at == FE_IN_ROW ? s->row : NULL;
    if (s->kept) {
        s->kept_at = at;
        fe_pass_top(pass_of(s), (uint32_t)at, s->top);
        if (s->options.batch) s->options.batch->keepers[at] = s;
    } else if (at >= 0) {
        fe_pass_fetch(&s->pass, (uint32_t)at, 1, &s->logits, NULL); /* they are on the host */
    }
    unlock_logits(s);
}

const float *ferrum_session_logits(const ferrum_session *s) {
    ferrum_session *own = (ferrum_session *)s; /* to fetch is no change that is seen */
    const float *logits = NULL;
    ferrum_error err;
    return fe_session_logits(own, &logits, &err) ? NULL : logits;
}

/* ---- Evaluating ---- */

static void record_logits(ferrum_session *s, uint32_t from, uint32_t count) {
    fe_forward_output(s->model, &s->pass, from, count, 0);
    fe_forward_logits(s->model, &s->pass, count);
}

/* Where the caller wants every position's logits: those of the rows 0 … m-1 of the pass, as many at a time as there is room. */
static int hand_out_logits(ferrum_session *s, uint32_t m, size_t index, ferrum_logits_fn fn, void *user,
                           ferrum_error *err) {
    size_t vocab = s->model->h.vocab;
    for (uint32_t from = 0; from < m; from += s->pass.fetch_rows) {
        uint32_t count = (uint32_t)fe_min(s->pass.fetch_rows, m - from);
        float *logits;
        record_logits(s, from, count);
        int rc = ferrum_stream_wait(s->pass.stream, err);
        if (!rc) rc = fe_pass_fetch(&s->pass, 0, count, &logits, err);
        if (rc) return rc;
        for (uint32_t i = 0; i < count; i++) fn(user, index + from + i, logits + i * vocab, vocab);
        fe_session_take_logits(s, (int)count - 1);
    }
    return 0;
}

/* Evaluates ids behind the cache's tokens, a batch at a time. What was evaluated stays, also where it ends early. */
static int evaluate(ferrum_session *s, const int32_t *ids, size_t count, ferrum_logits_fn fn, void *user,
                    ferrum_error *err) {
    for (size_t done = 0; done < count;) {
        uint32_t m = (uint32_t)fe_min(s->pass.rows, count - done);
        if (atomic_load_explicit(&s->canceled, memory_order_relaxed))
            return fe_fail(err, FERRUM_ECANCELED, "stopped after %zu of %zu tokens", done, count);
        fe_forward(s->model, &s->pass, ids + done, &(fe_span){&s->cache, m, (uint32_t)s->count, NULL}, 1);
        if (!fn && done + m == count) record_logits(s, m - 1, 1);
        int rc = ferrum_stream_wait(s->pass.stream, err);
        if (!rc && fn) rc = hand_out_logits(s, m, done, fn, user, err);
        if (rc) return rc;
        if (!fn) fe_session_take_logits(s, done + m == count ? 0 : FE_NO_ROW);
        fe_lookup_forget(&s->lookup, s->count);
        memmove(s->tokens + s->count, ids + done, m * sizeof *ids);
        s->length = s->count += m;
        done += m;
    }
    return 0;
}

/* Behind the first `first` tokens. */
static void begin_answer(ferrum_session *s, size_t first) {
    s->answer_first = first;
    s->answer_count = 0;
    s->finish = FERRUM_FINISH_NONE;
    s->draining = false;
    s->handed = 0;
    s->text.len = 0;
    s->timings = (ferrum_timings){0};
    fe_guide_restart(&s->guide);
    fe_lookup_begin(&s->lookup, first);
}

int fe_session_evaluate_drawn(ferrum_session *s, ferrum_error *err) {
    uint32_t waiting = (uint32_t)(fe_session_end(s) - s->count), even = fe_device_even_rows(s->model->device),
             most = (uint32_t)fe_min(s->pass.rows, even), guessed = 0;
    if (waiting < most) guessed = fe_session_guess(s, (uint32_t)fe_min(most - waiting, s->pass.logit_rows - 1));
    if (guessed == 0) return evaluate(s, s->tokens + s->count, waiting, NULL, NULL, err);
    fe_span span = {&s->cache, waiting + guessed, (uint32_t)s->count, NULL};
    fe_forward(s->model, &s->pass, s->tokens + s->count, &span, 1);
    record_logits(s, waiting - 1, 1 + guessed);
    int rc = ferrum_stream_wait(s->pass.stream, err);
    if (rc) return rc;
    fe_session_evaluated(s, waiting, guessed, 0, 0);
    return 0;
}

uint32_t fe_session_guess(ferrum_session *s, uint32_t most) {
    size_t end = fe_session_end(s);
    if (end >= s->context) return 0;
    uint32_t n = fe_lookup_guess(&s->lookup, s->tokens, end, (uint32_t)fe_min(most, s->context - end));
    memcpy(s->tokens + end, s->lookup.draft, n * sizeof *s->tokens);
    return n;
}

void fe_session_take_guessed(ferrum_session *s) {
    while (s->count < fe_session_end(s) && fe_lookup_takes(&s->lookup, s->tokens[s->count])) {
        s->length = fe_max(s->length, ++s->count);
        s->logits += s->model->h.vocab; /* with lookup they are on the host */
        s->timings.guessed_right++;
    }
    if (s->count < fe_session_end(s)) fe_lookup_settle(&s->lookup);
}

/* Where a prompt's ids go: behind those of a prompt that waits, or else behind the cache. A token that was drawn and not
 * evaluated is dropped. */
static size_t prompt_start(const ferrum_session *s) {
    return s->answer_count == 0 && fe_session_waiting(s) ? fe_session_end(s) : s->length;
}

static int check_prompt(const ferrum_session *s, const int32_t *ids, size_t count, ferrum_error *err) {
    size_t start = prompt_start(s);
    if (count == 0) return fe_fail(err, FERRUM_EINVAL, "there are no tokens to evaluate");
    if (count > s->context - start)
        return fe_fail(err, FERRUM_ELIMIT, "%zu tokens behind the %zu that are there do not fit the context of %u",
                       count, start, s->context);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= s->model->h.vocab)
            return fe_fail(err, FERRUM_EINVAL, "token id %d, at index %zu, is outside the vocabulary of %u", ids[i], i,
                           s->model->h.vocab);
    return 0;
}

int ferrum_session_score(ferrum_session *s, const int32_t *ids, size_t count, ferrum_logits_fn fn, void *user,
                         ferrum_error *err) {
    if (s->options.batch)
        return fe_fail(err, FERRUM_EINVAL, "a session in a batch has the logits of its last position alone");
    int rc = check_prompt(s, ids, count, err);
    if (rc) return rc;
    atomic_store(&s->canceled, false);
    double start = fe_now();
    rc = evaluate(s, ids, count, fn, user, err);
    begin_answer(s, s->length);
    s->timings.prompt_tokens = count;
    s->timings.prompt_seconds = fe_now() - start;
    return rc;
}

/* Leaves the ids to the batch. */
static int wait_in_batch(ferrum_session *s, const int32_t *ids, size_t count, ferrum_error *err) {
    int rc = check_prompt(s, ids, count, err);
    if (rc) return rc;
    size_t start = prompt_start(s);
    ferrum_timings timings = start > s->length ? s->timings : (ferrum_timings){0};
    fe_lookup_forget(&s->lookup, start);
    memcpy(s->tokens + start, ids, count * sizeof *ids);
    fe_session_take_logits(s, FE_NO_ROW);
    begin_answer(s, start + count);
    s->timings = timings;
    s->timings.prompt_tokens += count;
    atomic_store(&s->canceled, false);
    return 0;
}

int ferrum_session_append(ferrum_session *s, const int32_t *ids, size_t count, ferrum_error *err) {
    return s->options.batch ? wait_in_batch(s, ids, count, err) : ferrum_session_score(s, ids, count, NULL, NULL, err);
}

size_t fe_session_waiting(const ferrum_session *s) {
    bool ended = s->finish != FERRUM_FINISH_NONE || atomic_load_explicit(&s->canceled, memory_order_relaxed);
    return ended ? 0 : fe_min(fe_session_end(s), s->context) - s->count;
}

void fe_session_give_pages(ferrum_session *s, size_t count) {
    while (s->page_count > count) fe_pages_release(&s->options.batch->pages, s->pages[--s->page_count]);
    s->page_known = fe_min(s->page_known, count);
}

void fe_session_leave_pages(ferrum_session *s) {
    fe_session_tell_pages(s);
    fe_session_give_pages(s, 0);
    s->count = 0;
    fe_lookup_settle(&s->lookup);
}

void fe_session_tell_pages(ferrum_session *s) {
    for (size_t i = s->page_known; i < s->count / FERRUM_KV_PAGE; i++, s->page_known++)
        s->pages[i] = fe_pages_fill(&s->options.batch->pages, s->pages[i], i ? s->pages[i - 1] : FE_NO_PAGE,
                                    s->tokens + i * FERRUM_KV_PAGE);
}

void fe_session_evaluated(ferrum_session *s, uint32_t rows, uint32_t guessed, int at, double seconds) {
    s->count += rows;
    s->length = fe_max(s->length, s->count);
    fe_session_take_logits(s, s->count < fe_session_end(s) ? FE_NO_ROW : at);
    s->timings.guessed_tokens += guessed;
    fe_lookup_evaluated(&s->lookup, guessed);
    if (s->answer_count)
        s->timings.answer_seconds += seconds;
    else
        s->timings.prompt_seconds += seconds;
}

/* ---- Looking ---- */

ferrum_finish ferrum_session_finish(const ferrum_session *s) { return s->finish; }

const char *ferrum_finish_name(ferrum_finish f) {
    switch (f) {
    case FERRUM_FINISH_NONE: return "none";
    case FERRUM_FINISH_STOP: return "stop";
    case FERRUM_FINISH_LENGTH: return "length";
    case FERRUM_FINISH_CONTEXT: return "length";
    case FERRUM_FINISH_CANCELED: return "canceled";
    }
    return "?";
}

const int32_t *ferrum_session_answer(const ferrum_session *s, size_t *count) {
    *count = s->answer_count;
    return s->tokens + s->answer_first;
}

const ferrum_logprob *ferrum_session_logprobs(const ferrum_session *s, size_t index, size_t *count) {
    *count = index < s->answer_count ? s->options.logprobs : 0;
    return *count ? s->logprobs + index * (s->options.logprobs + 1) : NULL;
}

ferrum_logprob ferrum_session_drawn(const ferrum_session *s, size_t index) {
    size_t n = s->options.logprobs;
    return n && index < s->answer_count ? s->logprobs[index * (n + 1) + n] : (ferrum_logprob){-1, 0};
}

const int32_t *ferrum_session_tokens(const ferrum_session *s, size_t *count) {
    *count = s->length;
    return s->tokens;
}

/* Of a page that others have too, or may find, what is kept is evaluated again, elsewhere. */
static void truncate_pages(ferrum_session *s) {
    size_t whole = s->count / FERRUM_KV_PAGE;
    bool part = s->count % FERRUM_KV_PAGE && fe_pages_writable(&s->options.batch->pages, s->pages[whole]);
    if (!part) s->count = whole * FERRUM_KV_PAGE;
    fe_session_give_pages(s, whole + part);
}

int ferrum_session_truncate(ferrum_session *s, size_t count, ferrum_error *err) {
    if (count > s->length)
        return fe_fail(err, FERRUM_EINVAL, "the session has %zu tokens; it cannot be cut to %zu", s->length, count);
    if (count < s->length) fe_session_take_logits(s, FE_NO_ROW);
    fe_lookup_forget(&s->lookup, count);
    if (count < s->count) {
        s->count = count;
        if (s->pages) truncate_pages(s);
    }
    s->length = count;
    begin_answer(s, count);
    return 0;
}

void ferrum_session_cancel(ferrum_session *s) { atomic_store(&s->canceled, true); }

void ferrum_session_timings(const ferrum_session *s, ferrum_timings *out) { *out = s->timings; }

uint32_t ferrum_session_context(const ferrum_session *s) { return s->context; }
