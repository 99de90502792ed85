#include "server/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_CONTEXT = 8192, SIZE_TEXT = 32 };

struct serve_engine {
    serve_server *server;
    ferrum_batch *batch;
    pthread_t thread;
    bool started;

    pthread_mutex_t lock;
    pthread_cond_t more;
    bool stop;
    bool left; /* a client did */
    serve_job *first, **last;
    size_t waiting, reserved; /* jobs of which no choice has begun, and those still being made */

    /* The thread's own. */
    serve_choice **running; /* [parallel], by age */
    ferrum_session **sessions;
    size_t count;
};

/* ---- Opening ---- */

serve_engine *serve_engine_open(serve_server *s) {
    serve_engine *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->server = s;
    e->last = &e->first;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->more, NULL);
    return e;
}

static uint32_t choose_context(const serve_server *s) {
    uint32_t trained = s->info.context_length, asked = s->options->context;
    if (asked) return asked;
    return trained < DEFAULT_CONTEXT ? trained : DEFAULT_CONTEXT;
}

/* "512 MiB" */
static void put_size(char out[SIZE_TEXT], uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double n = (double)bytes;
    size_t unit = 0;
    for (; n >= 1024 && unit < 4; unit++) n /= 1024;
    snprintf(out, SIZE_TEXT, "%.4g %s", n, units[unit]);
}

/* Positions of the KV cache: what was given for it holds so many, and without that, as many as all answers could have, in at most half
 * of the memory that is free. An answer has whole pages. */
static int choose_positions(const serve_server *s, uint32_t *out, char *why, size_t size) {
    const serve_options *o = s->options;
    ferrum_memory m;
    char given_text[SIZE_TEXT], available_text[SIZE_TEXT];
    uint32_t pages = (s->context - 1) / FERRUM_KV_PAGE + 1;
    uint32_t rows = pages <= UINT32_MAX / FERRUM_KV_PAGE ? pages * FERRUM_KV_PAGE : s->context;
    ferrum_model_memory(s->model, rows, o->kv, &m);
    uint64_t left = ferrum_device_memory_left(ferrum_model_device(s->model));
    uint64_t available = left == UINT64_MAX ? o->memory_available : left;
    uint64_t given = o->memory ? o->memory : available / 2;
    put_size(given_text, given);
    put_size(available_text, available);
    if (given > available) {
        snprintf(why, size, "--memory is %s, and %s are free", given_text, available_text);
        return -1;
    }
    double most = (double)given / (double)m.kv * rows;
    double wanted = o->memory ? most : (double)rows * o->parallel;
    if (wanted > most) wanted = most;
    if (wanted > INT32_MAX) wanted = INT32_MAX;
    *out = (uint32_t)wanted / FERRUM_KV_PAGE * FERRUM_KV_PAGE;
    if (*out >= s->context) return 0;
    snprintf(why, size,
             "a KV cache of %s, %s, holds %u tokens, fewer than a context of %u: --memory and --context set them",
             given_text, o->memory ? "as --memory says" : "half of what is free", *out, s->context);
    return -1;
}

static void *run(void *user);

/* What the device cannot do for any request (lookup) is told at the start. */
static int try_session(const serve_engine *e, ferrum_error *err) {
    ferrum_session *session;
    ferrum_session_options o;
    ferrum_session_options_init(&o);
    o.batch = e->batch;
    o.context = e->server->context;
    o.lookup = e->server->options->lookup;
    int rc = ferrum_session_open(&session, e->server->model, &o, err);
    if (rc == 0) ferrum_session_close(session);
    return rc;
}

int serve_engine_start(serve_engine *e, char *why, size_t size) {
    serve_server *s = e->server;
    const serve_options *o = s->options;
    ferrum_batch_options b;
    ferrum_error err;
    if (s->options->context > s->info.context_length) {
        snprintf(why, size, "--context is %u; the model was trained for %u", o->context, s->info.context_length);
        return -1;
    }
    s->context = choose_context(s);
    ferrum_batch_options_init(&b);
    if (choose_positions(s, &b.positions, why, size) != 0) return -1;
    b.kv = o->kv;
    b.prompt_rows = o->chunk;
    if (ferrum_batch_open(&e->batch, s->model, &b, &err) != 0 || try_session(e, &err) != 0) {
        snprintf(why, size, "%s", err.message);
        return -1;
    }
    serve_metrics_set(&s->metrics, SERVE_KV_POSITIONS, b.positions);
    e->running = calloc(o->parallel, sizeof *e->running);
    e->sessions = calloc(o->parallel, sizeof *e->sessions);
    e->started = e->running && e->sessions && pthread_create(&e->thread, NULL, run, e) == 0;
    if (!e->started) snprintf(why, size, "out of memory for %u answers at a time", o->parallel);
    return e->started ? 0 : -1;
}

void serve_engine_close(serve_engine *e) {
    if (!e) return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_signal(&e->more);
    pthread_mutex_unlock(&e->lock);
    if (e->started) pthread_join(e->thread, NULL);
    ferrum_batch_close(e->batch);
    free(e->running);
    free(e->sessions);
    pthread_cond_destroy(&e->more);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* ---- The queue ---- */

void serve_engine_wake(serve_engine *e) {
    pthread_mutex_lock(&e->lock);
    e->left = true;
    pthread_cond_signal(&e->more);
    pthread_mutex_unlock(&e->lock);
}

bool serve_engine_reserve(serve_engine *e) {
    const serve_options *o = e->server->options;
    pthread_mutex_lock(&e->lock);
    bool room = e->waiting + e->reserved + e->count < (size_t)o->queue + o->parallel;
    e->reserved += room;
    pthread_mutex_unlock(&e->lock);
    if (!room) serve_metrics_add(&e->server->metrics, SERVE_REJECTED, 1);
    return room;
}

void serve_engine_unreserve(serve_engine *e) {
    pthread_mutex_lock(&e->lock);
    e->reserved--;
    pthread_mutex_unlock(&e->lock);
}

void serve_engine_submit(serve_engine *e, serve_job *job) {
    atomic_fetch_add(&job->exchange->users, 1);
    pthread_mutex_lock(&e->lock);
    e->reserved--;
    e->waiting++;
    *e->last = job;
    e->last = &job->next;
    pthread_cond_signal(&e->more);
    pthread_mutex_unlock(&e->lock);
}

static bool is_gone(const serve_job *job) { return job->failed || atomic_load(&job->exchange->gone); }

/* Takes jobs out whose clients have left and of which nothing runs; a list of them. The lock is held. */
static serve_job *take_gone(serve_engine *e) {
    serve_job *gone = NULL, **link = &e->first;
    e->last = link;
    while (*link) {
        serve_job *job = *link;
        if (is_gone(job) && job->begun == job->ended) {
            *link = job->next;
            e->waiting -= job->begun == 0;
            job->next = gone;
            gone = job;
        } else {
            link = &job->next;
            e->last = link;
        }
    }
    e->left = false;
    return gone;
}

/* ---- Choices ---- */

static int open_session(serve_engine *e, serve_choice *c, ferrum_error *err) {
    const serve_request *r = &c->job->request;
    uint32_t room = e->server->context - (uint32_t)c->prompt->count;
    uint32_t most = r->max_tokens && r->max_tokens < room ? r->max_tokens : room;
    ferrum_session_options o;
    ferrum_session_options_init(&o);
    o.batch = e->batch;
    o.context = (uint32_t)c->prompt->count + most;
    o.max_tokens = r->max_tokens;
    o.sampling = r->sampling;
    o.sampling.seed = r->seed.value + c->index;
    o.stop = r->stop;
    o.stop_count = r->stop_count;
    o.logprobs = r->logprobs ? (r->top_logprobs ? r->top_logprobs : 1) : 0;
    o.ignore_end = r->ignore_eos;
    o.lookup = e->server->options->lookup;
    o.grammar = c->job->grammar;
    int rc = ferrum_session_open(&c->session, e->server->model, &o, err);
    return rc ? rc : ferrum_session_append(c->session, c->prompt->ids, c->prompt->count, err);
}

static void close_choice(serve_choice *c) {
    ferrum_session_close(c->session);
    ferrum_reply_close(c->reply);
    c->session = NULL;
    c->reply = NULL;
    c->ended = true;
    c->job->ended++;
}

/* The job is done with, and not in the queue. */
static void finish_job(serve_job *job) {
    serve_exchange *x = job->exchange;
    if (!is_gone(job)) serve_answer_finish(job);
    serve_job_free(job);
    serve_exchange_release(x);
}

static void fail_job(serve_job *job, const ferrum_error *why) {
    serve_error err;
    if (job->failed) return;
    serve_refuse(&err, 500, NULL, "%s", why->message);
    serve_answer_fail(job, &err);
    job->failed = true;
}

static void begin_job(serve_engine *e, serve_job *job) {
    job->begun_at = serve_now();
    double waited = job->begun_at - job->exchange->started;
    serve_metrics_observe(&e->server->metrics, SERVE_QUEUE_SECONDS, waited);
    pthread_mutex_lock(&job->exchange->lock);
    job->exchange->record.queue_seconds = waited;
    pthread_mutex_unlock(&job->exchange->lock);
}

/* Begins what there is room for. Jobs leave the queue with their last choice. */
static void admit(serve_engine *e) {
    for (;;) {
        pthread_mutex_lock(&e->lock);
        serve_job *job = e->count < e->server->options->parallel ? e->first : NULL;
        if (!job) {
            pthread_mutex_unlock(&e->lock);
            return;
        }
        serve_choice *c = &job->choices[job->begun];
        bool first = job->begun++ == 0;
        e->waiting -= first;
        if (job->begun == job->count) {
            e->first = job->next;
            if (!e->first) e->last = &e->first;
        }
        e->running[e->count++] = c;
        pthread_mutex_unlock(&e->lock);
        ferrum_error err;
        if (first) begin_job(e, job);
        if (open_session(e, c, &err) != 0) fail_job(job, &err);
    }
}

/* Takes a choice out of those that run; the others keep their order. */
static void remove_running(serve_engine *e, size_t index) {
    serve_choice *c = e->running[index];
    serve_job *job = c->job;
    close_choice(c);
    pthread_mutex_lock(&e->lock);
    memmove(e->running + index, e->running + index + 1, (--e->count - index) * sizeof *e->running);
    bool queued = job->begun < job->count; /* its other choices wait: take_gone finds it */
    if (queued && is_gone(job)) e->left = true;
    pthread_mutex_unlock(&e->lock);
    if (!queued && job->ended == job->count) finish_job(job);
}

static void drop_gone(serve_engine *e) {
    for (size_t i = e->count; i-- > 0;)
        if (is_gone(e->running[i]->job)) remove_running(e, i);
}

/* ---- Steps ---- */

static void note_token(serve_engine *e, serve_choice *c, size_t count) {
    serve_metrics *m = &e->server->metrics;
    double now = serve_now();
    if (c->drawn == 0) {
        double took = now - c->job->exchange->started;
        ferrum_timings t;
        ferrum_session_timings(c->session, &t);
        serve_metrics_add(m, SERVE_PROMPT_TOKENS, t.prompt_tokens);
        serve_metrics_add(m, SERVE_CACHED_TOKENS, t.reused_tokens);
        pthread_mutex_lock(&c->job->exchange->lock);
        serve_record *record = &c->job->exchange->record;
        bool first = record->first_token_seconds == 0; /* of all the request's answers */
        if (first) record->first_token_seconds = took;
        pthread_mutex_unlock(&c->job->exchange->lock);
        if (first) serve_metrics_observe(m, SERVE_FIRST_TOKEN_SECONDS, took);
    } else {
        serve_metrics_observe(m, SERVE_NEXT_TOKEN_SECONDS, now - c->last_token);
    }
    serve_metrics_add(m, SERVE_ANSWER_TOKENS, count - c->drawn);
    c->last_token = now;
    c->drawn = count;
}

/* Hands out what the session can draw: true where its answer has ended. */
static bool draw(serve_engine *e, serve_choice *c) {
    char text[1024];
    ferrum_error err;
    int got;
    while ((got = ferrum_session_next(c->session, text, sizeof text, &err)) > 0)
        serve_answer_text(c, text, (size_t)got);
    if (got < 0) {
        fail_job(c->job, &err);
        return true;
    }
    size_t count;
    ferrum_session_answer(c->session, &count);
    if (count > c->drawn) note_token(e, c, count);
    serve_answer_tokens(c);
    if (ferrum_session_finish(c->session) == FERRUM_FINISH_NONE) return false;
    serve_answer_end(c);
    return true;
}

static void tell_state(serve_engine *e) {
    serve_metrics *m = &e->server->metrics;
    ferrum_batch_stats stats;
    ferrum_batch_get_stats(e->batch, &stats);
    pthread_mutex_lock(&e->lock);
    size_t waiting = e->waiting;
    pthread_mutex_unlock(&e->lock);
    serve_metrics_set(m, SERVE_RUNNING, (double)e->count);
    serve_metrics_set(m, SERVE_WAITING, (double)waiting);
    serve_metrics_set(m, SERVE_KV_USED, (double)stats.used_positions);
    serve_metrics_set(m, SERVE_KV_KEPT, (double)stats.kept_positions);
    serve_metrics_set(m, SERVE_PREEMPTIONS, (double)stats.preemptions);
}

/* The pass failed: so do all answers in it. The next one may not. */
static void fail_all(serve_engine *e, const ferrum_error *err) {
    serve_say("a pass through the model failed: %s", err->message);
    serve_metrics_add(&e->server->metrics, SERVE_FAILURES, 1);
    int ready = SERVE_READY;
    atomic_compare_exchange_strong(&e->server->state, &ready, SERVE_FAILING);
    for (size_t i = e->count; i-- > 0;) {
        fail_job(e->running[i]->job, err);
        remove_running(e, i);
    }
}

static void step(serve_engine *e) {
    ferrum_error err = {FERRUM_EDEVICE, "nothing was evaluated"};
    for (size_t i = 0; i < e->count; i++) e->sessions[i] = e->running[i]->session;
    if (ferrum_batch_step(e->batch, e->sessions, e->count, &err) <= 0) {
        fail_all(e, &err);
        return;
    }
    serve_metrics_add(&e->server->metrics, SERVE_STEPS, 1);
    int failing = SERVE_FAILING;
    atomic_compare_exchange_strong(&e->server->state, &failing, SERVE_READY);
    for (size_t i = 0; i < e->count;)
        if (!is_gone(e->running[i]->job) && draw(e, e->running[i]))
            remove_running(e, i);
        else
            i++;
}

static void *run(void *user) {
    serve_engine *e = user;
    for (;;) {
        pthread_mutex_lock(&e->lock);
        while (!e->stop && !e->left && !e->first && e->count == 0) pthread_cond_wait(&e->more, &e->lock);
        bool stop = e->stop, empty = !e->first && e->count == 0; /* clients have gone before it is stopped */
        serve_job *gone = take_gone(e);
        pthread_mutex_unlock(&e->lock);
        if (stop && empty) return NULL;
        for (serve_job *next; gone; gone = next) {
            next = gone->next;
            finish_job(gone);
        }
        if (!stop) admit(e);
        drop_gone(e);
        if (e->count && !stop) step(e);
        tell_state(e);
    }
}
