/* The server's life: listening, loading, serving, draining. */
#include "server/engine.h"
#include "server/grammars.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double serve_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void serve_random_name(char *out, size_t count) {
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    unsigned char bytes[64] = {0};
    if (getentropy(bytes, sizeof bytes) != 0) { /* names need not be secret */
        static atomic_uint next;
        unsigned n = atomic_fetch_add(&next, 1);
        memcpy(bytes, &n, sizeof n);
    }
    for (size_t i = 0; i < count; i++) out[i] = alphabet[bytes[i % sizeof bytes] % (sizeof alphabet - 1)];
    out[count] = '\0';
}

static int fail(const char *why) {
    serve_say("%s", why);
    return -1;
}

/* SIGTERM and SIGINT end, SIGHUP reads the keys again: the main thread takes them, all others have them blocked. */
static sigset_t block_signals(void) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaddset(&set, numbers[i]);
        signal(numbers[i], SIG_DFL); /* one that is ignored may be lost */
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return set;
}

static int load(serve_server *s) {
    ferrum_error err;
    char why[512];
    double start = serve_now();
    if (s->options->load(s->options->load_user, &s->model, &err) != 0) return fail(err.message);
    ferrum_model_get_info(s->model, &s->info);
    s->tokenizer = ferrum_model_tokenizer(s->model);
    s->context = s->info.context_length;
    if (s->info.generates && serve_engine_start(s->engine, why, sizeof why) != 0) return fail(why);
    int loading = SERVE_LOADING;
    if (atomic_compare_exchange_strong(&s->state, &loading, SERVE_READY))
        serve_say("ready: %s, loaded in %.3f s; context %u; %s", s->options->names[0], serve_now() - start, s->context,
                  s->info.device);
    return 0;
}

/* The thread that loads: NULL if that failed, which ends the server as a signal does. */
static void *run_load(void *user) {
    serve_server *s = user;
    if (load(s) == 0) return s;
    atomic_store(&s->state, SERVE_DRAINING);
    kill(getpid(), SIGTERM);
    return NULL;
}

/* ---- Ending ---- */

static bool is_idle(serve_server *s) {
    pthread_mutex_lock(&s->lock);
    bool idle = s->exchange_count == 0;
    pthread_mutex_unlock(&s->lock);
    return idle;
}

/* Everyone's client counts as gone. */
static void drop_all(serve_server *s) {
    pthread_mutex_lock(&s->lock);
    for (serve_exchange *x = s->exchanges; x; x = x->next) {
        atomic_store(&x->gone, true); /* also where it has an answer that it does not read */
        serve_exchange_wake(x);
    }
    pthread_mutex_unlock(&s->lock);
    serve_engine_wake(s->engine);
}

/* No new connections; those that are there get their answers. A signal more, and they do not. */
static void drain(serve_server *s, const sigset_t *signals) {
    atomic_store(&s->state, SERVE_DRAINING);
    MHD_socket listener = MHD_quiesce_daemon(s->daemon);
    if (listener != MHD_INVALID_SOCKET) close(listener);
    if (s->options->unix_path) unlink(s->options->unix_path);
    serve_say("stopping: requests at hand are finished first");
    while (!is_idle(s)) {
        siginfo_t info;
        const struct timespec wait = {.tv_nsec = 20000000};
        int number = sigtimedwait(signals, &info, &wait);
        if (number == SIGTERM || number == SIGINT) break;
    }
    drop_all(s);
    pthread_mutex_lock(&s->lock);
    while (s->exchange_count) pthread_cond_wait(&s->idle, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void reload_keys(serve_server *s) {
    char why[512];
    if (serve_keys_reload(&s->keys, why, sizeof why))
        serve_say("keys were read again");
    else
        serve_say("%s; the keys stay as they were", why);
}

/* A load cannot be broken off, and nobody is being answered yet: the process ends in the midst of it, without any tidying. */
static void leave(const serve_server *s) {
    serve_say("stopping: the model is not loaded to its end");
    if (s->options->unix_path) unlink(s->options->unix_path);
    _exit(0);
}

static void wait_for_end(serve_server *s, const sigset_t *signals) {
    for (;;) {
        int number = 0, loading = SERVE_LOADING;
        if (sigwait(signals, &number) != 0) continue;
        if (number == SIGHUP)
            reload_keys(s);
        else if (atomic_compare_exchange_strong(&s->state, &loading, SERVE_DRAINING))
            leave(s);
        else
            return;
    }
}

/* ---- Beginning ---- */

static int start_threads(serve_server *s) {
    s->engine = serve_engine_open(s);
    s->grammars = serve_grammars_open();
    if (s->engine && s->grammars && serve_workers_open(s) == 0 && serve_watcher_open(s) == 0) return 0;
    return fail("threads cannot be started");
}

static int open_http(serve_server *s) {
    char why[512], address[256];
    int listener = serve_listen(s->options, address, sizeof address, why, sizeof why);
    if (listener < 0) return fail(why);
    if (serve_http_open(s, listener, why, sizeof why) != 0) {
        close(listener);
        return fail(why);
    }
    serve_say("listening on %s", address);
    return 0;
}

static int serve(serve_server *s, const sigset_t *signals) {
    void *loaded = NULL;
    pthread_t loader;
    if (pthread_create(&loader, NULL, run_load, s) == 0) {
        wait_for_end(s, signals);
        pthread_join(loader, &loaded);
    } else {
        fail("threads cannot be started");
    }
    drain(s, signals);
    return loaded ? 0 : -1;
}

int serve_run(const serve_options *options) {
    serve_server s = {.options = options, .created = time(NULL)};
    char why[512];
    sigset_t signals = block_signals();
    pthread_mutex_init(&s.lock, NULL);
    pthread_cond_init(&s.idle, NULL);
    serve_metrics_init(&s.metrics);
    int rc = serve_keys_open(&s.keys, options->api_keys, options->api_key_count, options->api_key_file, why, sizeof why)
                 ? start_threads(&s)
                 : fail(why);
    if (rc == 0) rc = open_http(&s);
    if (rc == 0) {
        rc = serve(&s, &signals);
        serve_http_close(&s);
    }
    serve_workers_close(&s);
    serve_watcher_close(&s);
    serve_engine_close(s.engine);
    serve_grammars_close(s.grammars);
    serve_keys_close(&s.keys);
    ferrum_model_close(s.model);
    return rc;
}
