/* Threads that read requests' bodies, render templates and tokenize, and one that embeds: what may take longer than the connections'
 * thread can spare. */
#include "server/internal.h"

#include <stdlib.h>

enum { KINDS = 2, MOST_THREADS = 2 };

typedef struct queue {
    pthread_mutex_t lock;
    pthread_cond_t more;
    serve_exchange *first, **last;
    bool stop;
    pthread_t threads[MOST_THREADS];
    size_t count;
} queue;

typedef struct serve_workers {
    queue queues[KINDS]; /* SERVE_WORKERS', SERVE_PASSES' */
} serve_workers;

static serve_exchange *next(queue *q) {
    pthread_mutex_lock(&q->lock);
    while (!q->first && !q->stop) pthread_cond_wait(&q->more, &q->lock);
    serve_exchange *x = q->first;
    if (x) {
        q->first = x->next_work;
        if (!q->first) q->last = &q->first;
    }
    pthread_mutex_unlock(&q->lock);
    return x;
}

static void *work(void *user) {
    for (serve_exchange *x; (x = next(user)); serve_exchange_release(x))
        if (!atomic_load(&x->gone)) x->route->handle(x);
    return NULL;
}

int serve_workers_open(serve_server *s) {
    static const size_t threads[KINDS] = {MOST_THREADS, 1};
    serve_workers *w = s->workers = calloc(1, sizeof *w);
    if (!w) return -1;
    for (size_t i = 0; i < KINDS; i++) {
        queue *q = &w->queues[i];
        pthread_mutex_init(&q->lock, NULL);
        pthread_cond_init(&q->more, NULL);
        q->last = &q->first;
        while (q->count < threads[i] && pthread_create(&q->threads[q->count], NULL, work, q) == 0) q->count++;
    }
    return w->queues[0].count && w->queues[1].count ? 0 : -1;
}

void serve_workers_add(serve_server *s, serve_exchange *x) {
    queue *q = &s->workers->queues[x->route->worker == SERVE_PASSES];
    atomic_fetch_add(&x->users, 1);
    x->next_work = NULL;
    pthread_mutex_lock(&q->lock);
    *q->last = x;
    q->last = &x->next_work;
    pthread_cond_signal(&q->more);
    pthread_mutex_unlock(&q->lock);
}

static void close_queue(queue *q) {
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_broadcast(&q->more);
    pthread_mutex_unlock(&q->lock);
    for (size_t i = 0; i < q->count; i++) pthread_join(q->threads[i], NULL);
    pthread_cond_destroy(&q->more);
    pthread_mutex_destroy(&q->lock);
}

void serve_workers_close(serve_server *s) {
    for (size_t i = 0; s->workers && i < KINDS; i++) close_queue(&s->workers->queues[i]);
    free(s->workers);
}
