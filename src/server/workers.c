/* Threads that read requests' bodies, render templates, tokenize and embed: what may take longer than the connections' thread can
 * spare. */
#include "server/internal.h"

#include <stdlib.h>

enum { WORKERS = 2 };

typedef struct serve_workers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    serve_exchange *first, **last;
    bool stop;
    pthread_t threads[WORKERS];
    size_t count;
} serve_workers;

static serve_exchange *next(serve_workers *w) {
    pthread_mutex_lock(&w->lock);
    while (!w->first && !w->stop) pthread_cond_wait(&w->more, &w->lock);
    serve_exchange *x = w->first;
    if (x) {
        w->first = x->next_work;
        if (!w->first) w->last = &w->first;
    }
    pthread_mutex_unlock(&w->lock);
    return x;
}

static void *work(void *user) {
    for (serve_exchange *x; (x = next(user)); serve_exchange_release(x))
        if (!atomic_load(&x->gone)) x->route->handle(x);
    return NULL;
}

int serve_workers_open(serve_server *s) {
    serve_workers *w = s->workers = calloc(1, sizeof *w);
    if (!w) return -1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    w->last = &w->first;
    while (w->count < WORKERS && pthread_create(&w->threads[w->count], NULL, work, w) == 0) w->count++;
    return w->count ? 0 : -1;
}

void serve_workers_add(serve_server *s, serve_exchange *x) {
    serve_workers *w = s->workers;
    atomic_fetch_add(&x->users, 1);
    x->next_work = NULL;
    pthread_mutex_lock(&w->lock);
    *w->last = x;
    w->last = &x->next_work;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

void serve_workers_close(serve_server *s) {
    serve_workers *w = s->workers;
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (size_t i = 0; i < w->count; i++) pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
