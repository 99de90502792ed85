/* Counters and histograms, in the text form of Prometheus. */
#ifndef SERVE_METRICS_H
#define SERVE_METRICS_H

#include "server/text.h"
#include <pthread.h>
#include <stdint.h>

typedef enum serve_counter {
    SERVE_PROMPT_TOKENS,
    SERVE_CACHED_TOKENS,
    SERVE_ANSWER_TOKENS,
    SERVE_GUESSED_TOKENS, /* with --lookup */
    SERVE_GUESSED_RIGHT,
    SERVE_STEPS,
    SERVE_REJECTED,     /* the queue was full */
    SERVE_DISCONNECTED, /* clients that went away before their answer's end */
    SERVE_FAILURES,     /* of the engine */
    SERVE_GRAMMARS_COMPILED,
    SERVE_COUNTERS,
} serve_counter;

typedef enum serve_histogram {
    SERVE_QUEUE_SECONDS,
    SERVE_FIRST_TOKEN_SECONDS,
    SERVE_NEXT_TOKEN_SECONDS,
    SERVE_REQUEST_SECONDS,
    SERVE_HISTOGRAMS,
} serve_histogram;

typedef enum serve_gauge {
    SERVE_RUNNING, /* answers that are drawn */
    SERVE_WAITING, /* requests */
    SERVE_KV_POSITIONS,
    SERVE_KV_USED,
    SERVE_KV_KEPT,
    SERVE_PREEMPTIONS, /* a counter of the engine's own */
    SERVE_GAUGES,
} serve_gauge;

enum { SERVE_BUCKETS = 20, SERVE_MOST_ROUTES = 16, SERVE_CLASSES = 6 };

typedef struct serve_metrics {
    pthread_mutex_t lock;
    uint64_t counters[SERVE_COUNTERS];
    double gauges[SERVE_GAUGES];
    struct {
        uint64_t buckets[SERVE_BUCKETS + 1], count;
        double sum;
    } histograms[SERVE_HISTOGRAMS];
    struct {
        const char *path;
        uint64_t classes[SERVE_CLASSES]; /* by the status's first digit */
    } routes[SERVE_MOST_ROUTES];
} serve_metrics;

void serve_metrics_init(serve_metrics *m);
void serve_metrics_add(serve_metrics *m, serve_counter counter, uint64_t n);
void serve_metrics_set(serve_metrics *m, serve_gauge gauge, double value);
void serve_metrics_observe(serve_metrics *m, serve_histogram histogram, double seconds);
/* path: one of the routes', a constant. */
void serve_metrics_request(serve_metrics *m, const char *path, unsigned status);
void serve_metrics_write(serve_metrics *m, serve_text *out);

#endif
