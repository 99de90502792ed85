/* A batch: the pass that sessions share, and the steps in which it evaluates what waits in them. */
#include "engine/session.h"

#include <string.h>

void ferrum_batch_options_init(ferrum_batch_options *options) {
    *options = (ferrum_batch_options){.rows = FE_PASS_ROWS};
}

int ferrum_batch_open(ferrum_batch **out, const ferrum_model *model, const ferrum_batch_options *options,
                      ferrum_error *err) {
    *out = NULL;
    int rc = fe_model_must_generate(model, err);
    if (rc) return rc;
    uint32_t rows = options && options->rows ? options->rows : FE_PASS_ROWS;
    ferrum_batch *b = fe_alloc(1, sizeof *b);
    if (!b) return fe_fail_memory(err, sizeof *b, "a batch");
    b->model = model;
    b->ids = fe_alloc(rows, sizeof *b->ids);
    b->spans = fe_alloc(rows, sizeof *b->spans);
    b->parts = fe_alloc(rows, sizeof *b->parts);
    rc = b->ids && b->spans && b->parts
             ? fe_pass_open(&b->pass, model, rows, err)
             : fe_fail_memory(err, rows * (sizeof *b->ids + sizeof *b->spans + sizeof *b->parts), "a batch");
    if (rc)
        ferrum_batch_close(b);
    else
        *out = b;
    return rc;
}

void ferrum_batch_close(ferrum_batch *b) {
    if (!b) return;
    fe_pass_close(&b->pass);
    free(b->ids);
    free(b->spans);
    free(b->parts);
    free(b);
}

static int check_sessions(ferrum_batch *b, ferrum_session *const *sessions, size_t count, ferrum_error *err) {
    if (count > b->pass.rows)
        return fe_fail(err, FERRUM_ELIMIT, "%zu sessions are more than the %u tokens that the batch takes in a step",
                       count, b->pass.rows);
    b->steps++;
    for (size_t i = 0; i < count; i++) {
        if (sessions[i]->options.batch != b)
            return fe_fail(err, FERRUM_EINVAL, "the session at index %zu is not one of the batch", i);
        if (sessions[i]->step == b->steps)
            return fe_fail(err, FERRUM_EINVAL, "the session at index %zu is in the step twice", i);
        sessions[i]->step = b->steps;
    }
    return 0;
}

static void add_part(ferrum_batch *b, ferrum_session *s, size_t waiting) {
    uint32_t rows = (uint32_t)fe_min(waiting, b->pass.rows - b->rows);
    if (rows == 0) return;
    memcpy(b->ids + b->rows, s->tokens + s->count, rows * sizeof *b->ids);
    b->spans[b->count] = (fe_span){&s->cache, rows, (uint32_t)s->count};
    b->rows += rows;
    b->parts[b->count++] = (fe_part){s, rows, b->rows - 1};
    b->complete += rows == waiting; /* where it is less, there is no room for another */
}

/* Sessions with one token to evaluate come first: an answer never stands still for a prompt. */
static void gather(ferrum_batch *b, ferrum_session *const *sessions, size_t count) {
    b->rows = 0;
    b->count = b->complete = 0;
    for (int prompts = 0; prompts < 2; prompts++)
        for (size_t i = 0; i < count; i++) {
            size_t waiting = fe_session_waiting(sessions[i]);
            if ((waiting > 1) == prompts) add_part(b, sessions[i], waiting);
        }
}

/* Records the logits of the parts' last tokens. Rows that are neighbours share the op of their norm. */
static void record_logits(ferrum_batch *b, const fe_part *parts, uint32_t count) {
    for (uint32_t i = 0, run; i < count; i += run) {
        for (run = 1; i + run < count && parts[i + run].last == parts[i].last + run;) run++;
        fe_forward_output(b->model, &b->pass, parts[i].last, run, i);
    }
    fe_forward_logits(b->model, &b->pass, count);
}

/* Evaluates what was gathered. Logits go to their sessions, as the next step may be without them. */
static int evaluate(ferrum_batch *b, ferrum_error *err) {
    size_t vocab = b->model->h.vocab, done = 0;
    fe_forward(b->model, &b->pass, b->ids, b->spans, b->count);
    do {
        uint32_t count = (uint32_t)fe_min(b->pass.logit_rows, b->complete - done);
        if (count) record_logits(b, b->parts + done, count);
        int rc = ferrum_stream_wait(b->pass.stream, err);
        if (rc) return rc;
        for (uint32_t i = 0; i < count; i++)
            memcpy(b->parts[done + i].session->row, fe_pass_logits(&b->pass, i), vocab * sizeof(float));
        done += count;
    } while (done < b->complete);
    return 0;
}

int ferrum_batch_step(ferrum_batch *b, ferrum_session *const *sessions, size_t count, ferrum_error *err) {
    int rc = check_sessions(b, sessions, count, err);
    if (rc) return rc;
    gather(b, sessions, count);
    if (b->rows == 0) return 0;
    double start = fe_now();
    rc = evaluate(b, err);
    if (rc) return rc;
    double seconds = fe_now() - start;
    for (size_t i = 0; i < b->count; i++) fe_session_evaluated(b->parts[i].session, b->parts[i].rows, seconds);
    return (int)b->rows;
}
