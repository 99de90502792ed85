#include "server/metrics.h"

#include <string.h>

/* Upper bounds in seconds: from the pace of a small model's tokens to the length of a long answer. */
static const double bounds[SERVE_BUCKETS] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15,
                                             0.25,  0.5,   1,     2.5,  5,    10,    30,   60,    120, 300};

typedef struct described {
    const char *name, *help;
} described;

static const described counters[SERVE_COUNTERS] = {
    [SERVE_PROMPT_TOKENS] = {"prompt_tokens_total", "Tokens of prompts."},
    [SERVE_CACHED_TOKENS] = {"prompt_tokens_cached_total", "Tokens of prompts that were in the KV cache already."},
    [SERVE_ANSWER_TOKENS] = {"generated_tokens_total", "Tokens drawn."},
    [SERVE_GUESSED_TOKENS] = {"guessed_tokens_total", "Tokens guessed by lookup, of answers that have ended."},
    [SERVE_GUESSED_RIGHT] = {"guessed_tokens_right_total", "Of those, the tokens that were drawn then."},
    [SERVE_STEPS] = {"engine_steps_total", "Passes through the model."},
    [SERVE_REJECTED] = {"requests_rejected_total", "Requests refused because the queue was full."},
    [SERVE_DISCONNECTED] = {"requests_disconnected_total", "Requests whose client went away before the end."},
    [SERVE_FAILURES] = {"engine_failures_total", "Passes that failed."},
    [SERVE_GRAMMARS_COMPILED] = {"grammars_compiled_total",
                                 "Schemas and lists of tools that were compiled, and refused or kept."},
};

static const described gauges[SERVE_GAUGES] = {
    [SERVE_RUNNING] = {"answers_running", "Answers that are being drawn."},
    [SERVE_WAITING] = {"requests_waiting", "Requests in the queue."},
    [SERVE_KV_POSITIONS] = {"kv_positions", "Positions that the KV cache has."},
    [SERVE_KV_USED] = {"kv_positions_used", "Positions that running answers hold."},
    [SERVE_KV_KEPT] = {"kv_positions_kept", "Positions kept for prompts that begin alike."},
    [SERVE_PREEMPTIONS] = {"preemptions_total", "Answers that gave their positions up and were evaluated again."},
};

static const described histograms[SERVE_HISTOGRAMS] = {
    [SERVE_QUEUE_SECONDS] = {"queue_seconds", "From a request's arrival until it is begun."},
    [SERVE_FIRST_TOKEN_SECONDS] = {"time_to_first_token_seconds", "From a request's arrival to its first token."},
    [SERVE_NEXT_TOKEN_SECONDS] = {"time_between_tokens_seconds", "From one token of an answer to the next."},
    [SERVE_REQUEST_SECONDS] = {"request_seconds", "From a request's arrival to the end of its answer."},
};

void serve_metrics_init(serve_metrics *m) {
    *m = (serve_metrics){0};
    pthread_mutex_init(&m->lock, NULL);
}

void serve_metrics_add(serve_metrics *m, serve_counter counter, uint64_t n) {
    pthread_mutex_lock(&m->lock);
    m->counters[counter] += n;
    pthread_mutex_unlock(&m->lock);
}

void serve_metrics_set(serve_metrics *m, serve_gauge gauge, double value) {
    pthread_mutex_lock(&m->lock);
    m->gauges[gauge] = value;
    pthread_mutex_unlock(&m->lock);
}

void serve_metrics_observe(serve_metrics *m, serve_histogram histogram, double seconds) {
    size_t i = 0;
    while (i < SERVE_BUCKETS && seconds > bounds[i]) i++;
    pthread_mutex_lock(&m->lock);
    m->histograms[histogram].buckets[i]++;
    m->histograms[histogram].count++;
    m->histograms[histogram].sum += seconds;
    pthread_mutex_unlock(&m->lock);
}

void serve_metrics_request(serve_metrics *m, const char *path, unsigned status) {
    pthread_mutex_lock(&m->lock);
    size_t i = 0;
    while (i + 1 < SERVE_MOST_ROUTES && m->routes[i].path && strcmp(m->routes[i].path, path) != 0) i++;
    m->routes[i].path = path;
    m->routes[i].classes[status / 100 < SERVE_CLASSES ? status / 100 : 0]++;
    pthread_mutex_unlock(&m->lock);
}

static void put_head(serve_text *out, const described *d, const char *type) {
    serve_text_printf(out, "# HELP ferrum_%s %s\n# TYPE ferrum_%s %s\n", d->name, d->help, d->name, type);
}

static void put_routes(const serve_metrics *m, serve_text *out) {
    put_head(out, &(described){"requests_total", "Requests, by route and class of status."}, "counter");
    for (size_t i = 0; i < SERVE_MOST_ROUTES && m->routes[i].path; i++)
        for (unsigned c = 1; c < SERVE_CLASSES; c++)
            if (m->routes[i].classes[c])
                serve_text_printf(out, "ferrum_requests_total{route=\"%s\",status=\"%uxx\"} %llu\n", m->routes[i].path,
                                  c, (unsigned long long)m->routes[i].classes[c]);
}

static void put_histogram(const serve_metrics *m, serve_histogram h, serve_text *out) {
    const char *name = histograms[h].name;
    uint64_t below = 0;
    put_head(out, &histograms[h], "histogram");
    for (size_t i = 0; i < SERVE_BUCKETS; i++) {
        below += m->histograms[h].buckets[i];
        serve_text_printf(out, "ferrum_%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)below);
    }
    unsigned long long count = m->histograms[h].count;
    serve_text_printf(out, "ferrum_%s_bucket{le=\"+Inf\"} %llu\nferrum_%s_sum %.9g\nferrum_%s_count %llu\n", name,
                      count, name, m->histograms[h].sum, name, count);
}

void serve_metrics_write(serve_metrics *m, serve_text *out) {
    pthread_mutex_lock(&m->lock);
    put_routes(m, out);
    for (size_t i = 0; i < SERVE_COUNTERS; i++) {
        put_head(out, &counters[i], "counter");
        serve_text_printf(out, "ferrum_%s %llu\n", counters[i].name, (unsigned long long)m->counters[i]);
    }
    for (size_t i = 0; i < SERVE_GAUGES; i++) {
        put_head(out, &gauges[i], i == SERVE_PREEMPTIONS ? "counter" : "gauge");
        serve_text_printf(out, "ferrum_%s %.17g\n", gauges[i].name, m->gauges[i]);
    }
    for (serve_histogram h = 0; h < SERVE_HISTOGRAMS; h++) put_histogram(m, h, out);
    pthread_mutex_unlock(&m->lock);
}
