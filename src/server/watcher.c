/* Watches the clients of suspended connections, which libmicrohttpd does not look at: one that hangs up, and be it with its sending
 * side alone, is gone, as nginx has it too. And sends comments where a stream has been silent for long, so that nobody between the two
 * gives it up. */
#include "server/engine.h"
#include "server/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef POLLRDHUP
#define POLLRDHUP 0 /* elsewhere POLLHUP tells */
#endif

typedef struct serve_watcher {
    serve_server *server;
    int pipe[2];
    atomic_bool stop;
    pthread_t thread;
    struct pollfd *polled; /* the pipe, then sockets */
    uint64_t *numbers;     /* of their exchanges: another may have the same socket by the time that it is looked at */
    size_t count, capacity;
} serve_watcher;

static bool reserve(serve_watcher *w, size_t count) {
    if (count <= w->capacity) return true;
    struct pollfd *polled = realloc(w->polled, 2 * count * sizeof *polled);
    if (polled) w->polled = polled;
    uint64_t *numbers = realloc(w->numbers, 2 * count * sizeof *numbers);
    if (numbers) w->numbers = numbers;
    if (polled && numbers) w->capacity = 2 * count;
    return polled && numbers;
}

static void gather(serve_watcher *w) {
    serve_server *s = w->server;
    pthread_mutex_lock(&s->lock);
    w->count = 1;
    for (serve_exchange *x = s->exchanges; x; x = x->next) {
        if (x->fd < 0 || atomic_load(&x->gone) || !reserve(w, w->count + 1)) continue;
        w->polled[w->count] = (struct pollfd){.fd = x->fd, .events = POLLRDHUP};
        w->numbers[w->count++] = x->number;
    }
    pthread_mutex_unlock(&s->lock);
}

static serve_exchange *find(const serve_server *s, uint64_t number) {
    serve_exchange *x = s->exchanges;
    while (x && x->number != number) x = x->next;
    return x;
}

static void look(serve_watcher *w) {
    serve_server *s = w->server;
    double now = serve_now();
    bool left = false;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 1; i < w->count; i++) {
        serve_exchange *x = find(s, w->numbers[i]);
        if (!x || x->fd < 0) continue;
        if (w->polled[i].revents) {
            x->fd = -1;
            serve_exchange_leave(x);
            left = true;
        } else {
            serve_exchange_ping(x, now);
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (left) serve_engine_wake(s->engine);
}

static void *watch(void *user) {
    serve_watcher *w = user;
    while (!atomic_load(&w->stop)) {
        gather(w);
        int rc = poll(w->polled, (nfds_t)w->count, w->count > 1 ? 1000 : -1);
        if (rc < 0 && errno != EINTR) break;
        char bytes[64];
        while (rc > 0 && w->polled[0].revents && read(w->pipe[0], bytes, sizeof bytes) == sizeof bytes) {}
        if (rc >= 0) look(w);
    }
    return NULL;
}

int serve_watcher_open(serve_server *s) {
    serve_watcher *w = s->watcher = calloc(1, sizeof *w);
    if (!w) return -1;
    w->server = s;
    w->pipe[0] = w->pipe[1] = -1;
    if (!reserve(w, 64) || pipe(w->pipe) != 0) return -1;
    for (int i = 0; i < 2; i++) {
        fcntl(w->pipe[i], F_SETFL, O_NONBLOCK);
        fcntl(w->pipe[i], F_SETFD, FD_CLOEXEC);
    }
    w->polled[0] = (struct pollfd){.fd = w->pipe[0], .events = POLLIN};
    return pthread_create(&w->thread, NULL, watch, w) == 0 ? 0 : -1;
}

void serve_watcher_wake(serve_server *s) {
    /* A full pipe wakes it as well. */
    if (write(s->watcher->pipe[1], "", 1) < 0) return;
}

void serve_watcher_close(serve_server *s) {
    serve_watcher *w = s->watcher;
    if (!w) return;
    atomic_store(&w->stop, true);
    serve_watcher_wake(s);
    pthread_join(w->thread, NULL);
    close(w->pipe[0]);
    close(w->pipe[1]);
    free(w->polled);
    free(w->numbers);
    free(w);
}
