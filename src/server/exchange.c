/* Requests and their answers between two sides: the thread that serves connections, and those that make answers. A connection whose
 * answer is not there is suspended, and whoever has more of it resumes it. */
#include "server/engine.h"
#include "server/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

serve_exchange *serve_exchange_open(serve_server *s, struct MHD_Connection *connection, const char *method,
                                    const char *path) {
    serve_exchange *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    x->server = s;
    x->connection = connection;
    x->started = serve_now();
    x->fd = -1;
    atomic_init(&x->users, 1);
    pthread_mutex_init(&x->lock, NULL);
    snprintf(x->method, sizeof x->method, "%s", method);
    snprintf(x->path, sizeof x->path, "%s", path);
    pthread_mutex_lock(&s->lock);
    x->number = ++s->numbers;
    x->next = s->exchanges;
    if (x->next) x->next->prev = x;
    s->exchanges = x;
    s->exchange_count++;
    pthread_mutex_unlock(&s->lock);
    return x;
}

void serve_exchange_release(serve_exchange *x) {
    if (atomic_fetch_sub(&x->users, 1) > 1) return;
    pthread_mutex_destroy(&x->lock);
    serve_text_free(&x->body);
    serve_text_free(&x->out);
    free(x);
}

void serve_exchange_close(serve_exchange *x, bool complete) {
    serve_server *s = x->server;
    pthread_mutex_lock(&s->lock);
    if (x->prev)
        x->prev->next = x->next;
    else
        s->exchanges = x->next;
    if (x->next) x->next->prev = x->prev;
    x->fd = -1;
    pthread_mutex_unlock(&s->lock);

    pthread_mutex_lock(&x->lock);
    x->suspended = false;
    unsigned status = x->status;
    serve_log_request(x, complete ? status : 499, complete);
    pthread_mutex_unlock(&x->lock);
    serve_metrics_request(&s->metrics, x->route ? x->route->path : "other", complete ? status : 499);
    serve_metrics_observe(&s->metrics, SERVE_REQUEST_SECONDS, serve_now() - x->started);
    if (!complete) {
        serve_metrics_add(&s->metrics, SERVE_DISCONNECTED, 1);
        atomic_store(&x->gone, true);
        serve_engine_wake(s->engine);
    }
    serve_exchange_release(x);

    pthread_mutex_lock(&s->lock);
    if (--s->exchange_count == 0) pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
}

/* ---- The connection's side ---- */

static ssize_t read_stream(void *user, uint64_t position, char *out, size_t size) {
    (void)position;
    serve_exchange *x = user;
    ssize_t n = 0;
    pthread_mutex_lock(&x->lock);
    if (atomic_load(&x->gone)) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (x->sent < x->out.len) {
        n = (ssize_t)(x->out.len - x->sent < size ? x->out.len - x->sent : size);
        memcpy(out, x->out.data + x->sent, (size_t)n);
        x->sent += (size_t)n;
        if (x->sent == x->out.len) x->sent = x->out.len = 0;
    } else if (x->ended) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        x->suspended = true;
        MHD_suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->lock);
    return n;
}

static void release_stream(void *user) { serve_exchange_release(user); }

/* Clients send headers of their own (OpenAI's has a dozen), which say nothing here: any may come. */
static void add_cors(const serve_exchange *x, struct MHD_Response *r) {
    const char *asked = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "Access-Control-Request-Headers");
    MHD_add_response_header(r, "Access-Control-Allow-Origin", x->server->options->cors);
    MHD_add_response_header(r, "Access-Control-Allow-Methods", "GET, POST");
    MHD_add_response_header(r, "Access-Control-Allow-Headers", asked ? asked : "Authorization, Content-Type");
    MHD_add_response_header(r, "Access-Control-Expose-Headers", MHD_HTTP_HEADER_RETRY_AFTER);
    MHD_add_response_header(r, MHD_HTTP_HEADER_VARY, "Origin, Access-Control-Request-Headers");
}

static void add_headers(const serve_exchange *x, struct MHD_Response *r) {
    const serve_options *o = x->server->options;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, x->type);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (x->stream) MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (x->status == MHD_HTTP_UNAUTHORIZED) MHD_add_response_header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (x->status == MHD_HTTP_METHOD_NOT_ALLOWED && x->route)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW,
                                strcmp(x->route->method, "GET") == 0 ? "GET, HEAD" : x->route->method);
    if (x->retry) MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    if (atomic_load(&x->server->state) == SERVE_DRAINING)
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
    if (o->cors) add_cors(x, r);
}

/* The lock is held. */
static struct MHD_Response *make_response(serve_exchange *x) {
    struct MHD_Response *r;
    if (x->stream) {
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_stream, x, release_stream);
        if (r) atomic_fetch_add(&x->users, 1);
    } else {
        r = MHD_create_response_from_buffer(x->out.len, x->out.data, MHD_RESPMEM_MUST_FREE);
        if (r) x->out = (serve_text){0};
    }
    if (r) add_headers(x, r);
    return r;
}

enum MHD_Result serve_exchange_answer(serve_exchange *x) {
    enum MHD_Result result = MHD_NO;
    struct MHD_Response *response = NULL;
    pthread_mutex_lock(&x->lock);
    if (atomic_load(&x->gone)) {
        /* The connection is closed. */
    } else if (x->status) {
        response = make_response(x);
    } else {
        x->suspended = true;
        MHD_suspend_connection(x->connection);
        result = MHD_YES;
    }
    pthread_mutex_unlock(&x->lock);
    if (!response) return result;
    result = MHD_queue_response(x->connection, x->status, response);
    MHD_destroy_response(response);
    return result;
}

/* The lock is held: so the connection is suspended for good before it is resumed. */
static void resume(serve_exchange *x) {
    if (x->suspended) MHD_resume_connection(x->connection);
    x->suspended = false;
}

void serve_exchange_wake(serve_exchange *x) {
    pthread_mutex_lock(&x->lock);
    resume(x);
    pthread_mutex_unlock(&x->lock);
}

void serve_exchange_leave(serve_exchange *x) {
    pthread_mutex_lock(&x->lock);
    if (!x->ended) atomic_store(&x->gone, true); /* or else the client has, or can still read, all of the answer */
    resume(x);
    pthread_mutex_unlock(&x->lock);
}

/* ---- The side of those who answer ---- */

static void decide(serve_exchange *x, unsigned status, const char *type) {
    x->status = status;
    x->type = type;
    x->last_output = serve_now();
}

void serve_reply_text(serve_exchange *x, unsigned status, const char *type, serve_text *text) {
    if (text->failed) {
        serve_text_free(text);
        serve_text_puts(text, "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,"
                              "\"code\":null}}");
        status = 500;
        type = "application/json";
    }
    pthread_mutex_lock(&x->lock);
    x->out = *text;
    *text = (serve_text){0};
    decide(x, status, type);
    x->ended = true;
    resume(x);
    pthread_mutex_unlock(&x->lock);
}

void serve_reply_json(serve_exchange *x, unsigned status, json_t *body) {
    serve_text text = {0};
    serve_text_json(&text, body);
    serve_reply_text(x, status, "application/json", &text);
}

void serve_reply_error(serve_exchange *x, const serve_error *err) {
    pthread_mutex_lock(&x->lock);
    x->retry = err->status == MHD_HTTP_TOO_MANY_REQUESTS || err->status == MHD_HTTP_SERVICE_UNAVAILABLE;
    pthread_mutex_unlock(&x->lock);
    serve_reply_json(x, (unsigned)err->status, serve_error_json(err));
}

void serve_stream_begin(serve_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->stream = true;
    decide(x, MHD_HTTP_OK, "text/event-stream");
    resume(x);
    pthread_mutex_unlock(&x->lock);
}

void serve_stream_write(serve_exchange *x, const char *data, size_t len) {
    pthread_mutex_lock(&x->lock);
    serve_text_add(&x->out, data, len);
    if (x->out.failed) atomic_store(&x->gone, true); /* a stream with a hole would be a lie */
    x->last_output = serve_now();
    resume(x);
    pthread_mutex_unlock(&x->lock);
}

void serve_stream_end(serve_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->ended = true;
    resume(x);
    pthread_mutex_unlock(&x->lock);
}

void serve_exchange_ping(serve_exchange *x, double now) {
    static const char comment[] = ": ping\n\n";
    pthread_mutex_lock(&x->lock);
    bool idle = x->stream && !x->ended && now - x->last_output >= x->server->options->ping;
    pthread_mutex_unlock(&x->lock);
    if (idle) serve_stream_write(x, comment, sizeof comment - 1);
}
