/* A batch: the pass that sessions share, and the steps in which it evaluates what waits in them. */
#include "engine/session.h"
#include "kernels/ops.h"

#include <string.h>

void ferrum_batch_options_init(ferrum_batch_options *options) {
    *options = (ferrum_batch_options){.rows = FE_PASS_ROWS};
}

static int open_pages(ferrum_batch *b, const ferrum_batch_options *options, ferrum_error *err) {
    uint64_t count = ((uint64_t)options->positions + FERRUM_KV_PAGE - 1) / FERRUM_KV_PAGE;
    if (count * FERRUM_KV_PAGE > UINT32_MAX)
        return fe_fail(err, FERRUM_ELIMIT, "a KV cache of %u positions was asked for; the most is %u",
                       options->positions, UINT32_MAX - FERRUM_KV_PAGE);
    b->paged = true;
    return fe_pages_open(&b->pages, b->model, (uint32_t)count, options->kv, err);
}

int ferrum_batch_open(ferrum_batch **out, const ferrum_model *model, const ferrum_batch_options *options,
                      ferrum_error *err) {
    *out = NULL;
    int rc = fe_model_must_generate(model, err);
    if (rc) return rc;
    ferrum_batch_options defaults;
    ferrum_batch_options_init(&defaults);
    if (!options) options = &defaults;
    uint32_t rows = options->rows ? options->rows : FE_PASS_ROWS;
    uint64_t kv = fe_cache_memory(model, options->positions, options->kv);
    rc = fe_model_must_hold(model, options->positions, kv, fe_pass_memory(model, rows), err);
    if (rc) return rc;
    ferrum_batch *b = fe_alloc(1, sizeof *b);
    if (!b) return fe_fail_memory(err, sizeof *b, "a batch");
    b->model = model;
    pthread_mutex_init(&b->lock, NULL);
    b->prompt_rows = options->prompt_rows;
    b->ids = fe_alloc(rows, sizeof *b->ids);
    b->spans = fe_alloc(rows, sizeof *b->spans);
    b->parts = fe_alloc(rows, sizeof *b->parts);
    b->ends = fe_alloc(rows, sizeof *b->ends);
    rc = b->ids && b->spans && b->parts && b->ends
             ? fe_pass_open(&b->pass, model, rows, false, err)
             : fe_fail_memory(err, rows * (sizeof *b->ids + sizeof *b->spans + sizeof *b->parts + sizeof *b->ends),
                              "a batch");
    if (!rc && b->pass.keeps_logits) {
        b->keepers = fe_alloc(b->pass.logit_rows, sizeof(ferrum_session *));
        if (!b->keepers) rc = fe_fail_memory(err, b->pass.logit_rows * sizeof(ferrum_session *), "a batch");
    }
    if (!rc && options->positions) rc = open_pages(b, options, err);
    if (rc)
        ferrum_batch_close(b);
    else
        *out = b;
    return rc;
}

void ferrum_batch_close(ferrum_batch *b) {
    if (!b) return;
    fe_pass_close(&b->pass);
    fe_pages_close(&b->pages);
    free(b->ids);
    free(b->spans);
    free(b->parts);
    free(b->ends);
    free(b->keepers);
    pthread_mutex_destroy(&b->lock);
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

/* ---- Pages ---- */

/* What begins the session's next page, if the batch has it already, need not be evaluated. One token always is: its logits are
 * wanted. */
static void reuse_pages(ferrum_batch *b, ferrum_session *s) {
    while (s->count % FERRUM_KV_PAGE == 0 && fe_session_waiting(s) > FERRUM_KV_PAGE) {
        uint32_t prev = s->page_count ? s->pages[s->page_count - 1] : FE_NO_PAGE;
        uint32_t page = fe_pages_find(&b->pages, prev, s->tokens + s->count);
        if (page == FE_NO_PAGE) return;
        s->pages[s->page_count++] = page;
        s->page_known = s->page_count;
        s->count += FERRUM_KV_PAGE;
        if (s->count <= s->length) continue; /* its own, from before it was preempted */
        s->length = s->count;
        s->timings.reused_tokens += FERRUM_KV_PAGE;
        b->reused += FERRUM_KV_PAGE;
    }
}

/* All that the session had evaluated waits again. */
static void preempt(ferrum_batch *b, ferrum_session *s) {
    fe_session_leave_pages(s);
    b->preempted++;
}

/* Takes the pages of a session of the list in which nothing waits: false where none has any. */
static bool preempt_idle(ferrum_batch *b, ferrum_session *const *sessions, size_t count) {
    for (size_t i = count; i-- > 0;)
        if (sessions[i]->page_count && fe_session_waiting(sessions[i]) == 0) return preempt(b, sessions[i]), true;
    return false;
}

/* Takes pages from the last of the sessions behind `first` that has any: false where none has. */
static bool preempt_another(ferrum_batch *b, ferrum_session *const *sessions, size_t first, size_t count) {
    for (size_t i = count; i-- > first + 1;)
        if (sessions[i]->page_count && sessions[i]->part != b->steps) return preempt(b, sessions[i]), true;
    return false;
}

/* Sees to pages for as many of `rows` more positions as there can be; how many. Those in which nothing waits give theirs up for
 * it, and where `force`, those behind it. */
static uint32_t take_pages(ferrum_batch *b, ferrum_session *const *sessions, size_t index, size_t count, uint32_t rows,
                           bool force) {
    ferrum_session *s = sessions[index];
    while (s->page_count * FERRUM_KV_PAGE < s->count + rows) {
        uint32_t page = fe_pages_take(&b->pages);
        if (page != FE_NO_PAGE)
            s->pages[s->page_count++] = page;
        else if (!preempt_idle(b, sessions, count) && !(force && preempt_another(b, sessions, index, count)))
            break;
    }
    return (uint32_t)fe_min(rows, s->page_count * FERRUM_KV_PAGE - s->count);
}

void ferrum_batch_get_stats(ferrum_batch *b, ferrum_batch_stats *out) {
    *out = (ferrum_batch_stats){.reused_tokens = b->reused, .preemptions = b->preempted};
    if (!b->paged) return;
    pthread_mutex_lock(&b->pages.lock); /* sessions may be closed meanwhile */
    out->positions = b->pages.count * (uint64_t)FERRUM_KV_PAGE;
    out->used_positions = (b->pages.count - b->pages.unused) * (uint64_t)FERRUM_KV_PAGE;
    out->kept_positions = b->pages.known_unused * (uint64_t)FERRUM_KV_PAGE;
    pthread_mutex_unlock(&b->pages.lock);
}

/* ---- Steps ---- */

static void add_part(ferrum_batch *b, ferrum_session *s, uint32_t rows, uint32_t guessed) {
    memcpy(b->ids + b->rows, s->tokens + s->count, (rows + guessed) * sizeof *b->ids);
    b->spans[b->count] =
        (fe_span){b->paged ? &b->pages.cache : &s->cache, rows + guessed, (uint32_t)s->count, s->pages};
    b->parts[b->count++] = (fe_part){s, rows, b->rows + rows - 1, guessed, rows == fe_session_waiting(s), FE_NO_ROW};
    b->rows += rows + guessed;
    s->part = b->steps;
}

/* Is it an answer that waits: the token that was drawn, and those that its grammar has put behind it? */
static bool answers(const ferrum_session *s, size_t waiting) {
    return waiting == 1 || (s->count >= s->answer_first && waiting <= FE_FORCED_MOST + 1);
}

/* What follows the session's `rows`, if they are all that waits: as much as there is room for in its pages, and no more than its
 * share of the rows that are to spare. */
static uint32_t guess(const ferrum_batch *b, ferrum_session *s, uint32_t rows, uint32_t share) {
    if (rows < fe_session_waiting(s)) return 0;
    size_t room = b->paged ? s->page_count * FERRUM_KV_PAGE - s->count - rows : share;
    return fe_session_guess(s, (uint32_t)fe_min(share, room));
}

static bool is_gathered(const ferrum_session *s, bool prompts) {
    size_t waiting = fe_session_waiting(s);
    return waiting && answers(s, waiting) != prompts;
}

/* Guesses are for steps of few rows, which cost little more than one does: how many rows there are to spare, and for how many
 * answers. */
static uint32_t rows_to_spare(const ferrum_batch *b, ferrum_session *const *sessions, size_t count, uint32_t *among) {
    size_t most = fe_min(fe_device_even_rows(b->model->device), b->pass.rows), rows = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_gathered(sessions[i], false)) continue;
        rows += fe_session_waiting(sessions[i]);
        *among += sessions[i]->options.lookup;
    }
    return rows < most ? (uint32_t)(most - rows) : 0;
}

/* Of answers, or of prompts, as many tokens as `room` allows. */
static void gather_some(ferrum_batch *b, ferrum_session *const *sessions, size_t count, bool prompts, uint32_t room) {
    uint32_t among = 0, spare = prompts ? 0 : rows_to_spare(b, sessions, count, &among);
    for (size_t i = 0; i < count && room; i++) {
        ferrum_session *s = sessions[i];
        if (!is_gathered(s, prompts)) continue;
        if (b->paged && prompts) reuse_pages(b, s);
        uint32_t rows = (uint32_t)fe_min(fe_session_waiting(s), room), guessed = 0;
        if (b->paged) rows = take_pages(b, sessions, i, count, rows, !prompts || b->rows == 0);
        if (rows == 0) continue;
        if (spare && s->options.lookup) {
            guessed = guess(b, s, rows, (uint32_t)fe_max(spare / fe_max(among, 1), 1));
            spare -= guessed;
            among -= among > 0;
        }
        add_part(b, s, rows, guessed);
        room -= rows + guessed;
    }
}

/* Answers come first: one of them never stands still for a prompt, and waits for no more of one than prompt_rows. */
static void gather(ferrum_batch *b, ferrum_session *const *sessions, size_t count) {
    b->rows = 0;
    b->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (fe_session_waiting(sessions[i])) fe_session_take_guessed(sessions[i]);
        if (b->paged) fe_session_tell_pages(sessions[i]);
    }
    gather_some(b, sessions, count, false, b->pass.rows);
    uint32_t room = b->pass.rows - b->rows;
    if (b->rows && b->prompt_rows) room = (uint32_t)fe_min(room, b->prompt_rows);
    gather_some(b, sessions, count, true, room);
}

/* Records logits. Rows that are neighbours share the op of their norm. */
static void record_logits(ferrum_batch *b, const fe_end *ends, uint32_t count) {
    for (uint32_t i = 0, run; i < count; i += run) {
        for (run = 1; i + run < count && ends[i + run].row == ends[i].row + run;) run++;
        fe_forward_output(b->model, &b->pass, ends[i].row, run, i);
    }
    fe_forward_logits(b->model, &b->pass, count);
}

/* The first `rows` rows of logits that the device keeps are about to be written over: those of sessions outside of the step are fetched. */
static int make_room_for_logits(ferrum_batch *b, uint32_t rows, ferrum_error *err) {
    for (const fe_part *part = b->parts; part < b->parts + b->count; part++) fe_session_lose_logits(part->session);
    for (uint32_t i = 0; i < rows; i++) {
        int rc = b->keepers[i] ? fe_session_fetch(b->keepers[i], err) : 0;
        if (rc) return rc;
    }
    return 0;
}

/* Logits go to their sessions, as the next step may be without them; where the device keeps them they stay until then, unless `more` are to
 * be written over them in this one. */
static int hand_out_logits(ferrum_batch *b, const fe_end *ends, uint32_t count, bool more, ferrum_error *err) {
    size_t vocab = b->model->h.vocab;
    for (uint32_t i = 0; i < count; i++) {
        const fe_end *end = &ends[i];
        float *from;
        end->part->logits_at = b->pass.keeps_logits && !more ? (int)i : FE_IN_ROW;
        if (end->part->logits_at != FE_IN_ROW) continue;
        int rc = fe_pass_fetch(&b->pass, i, 1, &from, err);
        if (rc) return rc;
        memcpy(end->part->session->row + end->at * vocab, from, vocab * sizeof *from);
    }
    return 0;
}

static int evaluate(ferrum_batch *b, ferrum_error *err) {
    size_t wanted = 0, done = 0;
    for (fe_part *part = b->parts; part < b->parts + b->count; part++)
        for (uint32_t i = 0; part->complete && i <= part->guessed; i++)
            b->ends[wanted++] = (fe_end){part, part->last + i, i};
    uint32_t most = b->pass.logit_rows;
    int rc = b->pass.keeps_logits ? make_room_for_logits(b, (uint32_t)fe_min(wanted, most), err) : 0;
    if (rc) return rc;
    fe_forward(b->model, &b->pass, b->ids, b->spans, b->count);
    do {
        uint32_t count = (uint32_t)fe_min(most, wanted - done);
        if (count) record_logits(b, b->ends + done, count);
        rc = ferrum_stream_wait(b->pass.stream, err);
        if (!rc) rc = hand_out_logits(b, b->ends + done, count, done + count < wanted, err);
        done += count;
    } while (!rc && done < wanted);
    return rc;
}

/* Evaluates what was gathered. */
static int evaluate_alone(ferrum_batch *b, ferrum_error *err) {
    pthread_mutex_lock(&b->lock);
    int rc = evaluate(b, err);
    pthread_mutex_unlock(&b->lock);
    return rc;
}

/* Where nothing was gathered though a session waits, it is for pages that sessions outside of the step have. */
static int check_gathered(ferrum_batch *b, ferrum_session *const *sessions, size_t count, ferrum_error *err) {
    for (size_t i = 0; i < count && b->rows == 0; i++)
        if (fe_session_waiting(sessions[i]))
            return fe_fail(
                err, FERRUM_ELIMIT,
                "the batch's KV cache of %u positions is full, and none of it is of sessions in the step: list "
                "the others too, or let them end, cut them or close them",
                b->pages.count * FERRUM_KV_PAGE);
    return 0;
}

int ferrum_batch_step(ferrum_batch *b, ferrum_session *const *sessions, size_t count, ferrum_error *err) {
    int rc = check_sessions(b, sessions, count, err);
    if (rc) return rc;
    gather(b, sessions, count);
    rc = check_gathered(b, sessions, count, err);
    if (rc || b->rows == 0) return rc;
    double start = fe_now();
    rc = evaluate_alone(b, err);
    if (rc) return rc;
    double seconds = fe_now() - start;
    for (size_t i = 0; i < b->count; i++) {
        const fe_part *part = &b->parts[i];
        fe_session_evaluated(part->session, part->rows, part->guessed, part->logits_at, seconds);
        if (b->paged) fe_session_tell_pages(part->session);
    }
    return (int)b->rows;
}
