/* HTTP: routes, limits, keys; from libmicrohttpd's calls to exchanges. */
#include "server/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    MOST_BODY = 16 << 20,
    MOST_HEADERS = 64 << 10, /* memory of a connection: the request's line, its headers and what it writes */
    MOST_CONNECTIONS = 1024,
};

static const serve_route routes[] = {
    {"POST", "/v1/chat/completions", serve_handle_chat, .model = true, .worker = SERVE_WORKERS},
    {"POST", "/v1/completions", serve_handle_completion, .model = true, .worker = SERVE_WORKERS},
    {"POST", "/v1/embeddings", serve_handle_embeddings, .model = true, .worker = SERVE_PASSES},
    {"GET", "/v1/models", serve_handle_models, .model = true},
    {"GET", "/v1/models/*", serve_handle_model, .model = true},
    {"POST", "/tokenize", serve_handle_tokenize, .model = true, .worker = SERVE_WORKERS},
    {"POST", "/detokenize", serve_handle_detokenize, .model = true, .worker = SERVE_WORKERS},
    {"POST", "/apply-template", serve_handle_template, .model = true, .worker = SERVE_WORKERS},
    {"GET", "/health", serve_handle_health, .open = true},
    {"GET", "/metrics", serve_handle_metrics, .open = false},
    {"GET", "/", serve_handle_page, .open = true},
};

/* A star at the end stands for anything. */
static bool fits(const char *pattern, const char *path) {
    size_t len = strlen(pattern);
    if (pattern[len - 1] == '*') return strncmp(pattern, path, len - 1) == 0 && path[len - 1];
    return strcmp(pattern, path) == 0;
}

static const serve_route *find_route(const char *path) {
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (fits(routes[i].path, path)) return &routes[i];
    return NULL;
}

static bool allowed(serve_exchange *x) {
    const char *header = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    const char *key = header && strncasecmp(header, "Bearer ", 7) == 0 ? header + 7 + strspn(header + 7, " \t") : NULL;
    size_t len = key ? strlen(key) : 0;
    while (len > 0 && strchr(" \t", key[len - 1])) len--;
    return serve_keys_allow(&x->server->keys, key, len);
}

static int check_state(const serve_exchange *x, serve_error *err) {
    int state = atomic_load(&x->server->state);
    if (state == SERVE_LOADING && x->route->model)
        return serve_refuse_as(err, 503, "loading", NULL, "the model is being loaded");
    if (state == SERVE_DRAINING && x->route->model)
        return serve_refuse_as(err, 503, "stopping", NULL, "the server is stopping");
    return 0;
}

static bool is_method(const serve_exchange *x, const char *method) {
    return strcmp(x->method, method) == 0 || (strcmp(x->method, "HEAD") == 0 && strcmp(method, "GET") == 0);
}

static enum MHD_Result count_lengths(void *user, enum MHD_ValueKind kind, const char *name, const char *value) {
    (void)kind, (void)value;
    unsigned *count = user;
    *count += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0 ||
              strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
    return MHD_YES;
}

/* Where two headers tell where the body ends, a proxy in front may have gone by the other one, and take the body's rest for another
 * client's request. */
static bool is_ambiguous(const serve_exchange *x) {
    unsigned count = 0;
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, count_lengths, &count);
    return count > 1;
}

/* What can be said before the body has come. */
static int check_head(serve_exchange *x, serve_error *err) {
    if (is_ambiguous(x)) return serve_refuse(err, 400, NULL, "the length of the body is told twice");
    if (!x->route) return serve_refuse(err, 404, NULL, "there is no route %s", x->path);
    if (!is_method(x, x->route->method))
        return serve_refuse(err, 405, NULL, "%s takes %s, not %s", x->path, x->route->method, x->method);
    if (!x->route->open && !allowed(x))
        return serve_refuse_as(err, 401, "invalid_api_key", NULL, "a key is asked for: Authorization: Bearer KEY");
    const char *length = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (length && strtoull(length, NULL, 10) > MOST_BODY)
        return serve_refuse(err, 413, NULL, "the body has %.20s bytes; the most is %d", length, MOST_BODY);
    return check_state(x, err);
}

static void find_client(serve_exchange *x) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;
    char text[INET6_ADDRSTRLEN] = "";
    if (a && a->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, text, sizeof text);
    else if (a && a->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, text, sizeof text);
    snprintf(x->client, sizeof x->client, "%s", *text ? text : "unix");
}

/* What browsers ask first, where other origins are let in. */
static bool is_preflight(const serve_exchange *x) {
    return x->server->options->cors && strcmp(x->method, "OPTIONS") == 0;
}

static enum MHD_Result begin(serve_exchange *x) {
    serve_error err;
    serve_text nothing = {0};
    x->route = find_route(x->path);
    find_client(x);
    if (is_preflight(x))
        serve_reply_text(x, MHD_HTTP_NO_CONTENT, "text/plain", &nothing);
    else if (check_head(x, &err) != 0)
        serve_reply_error(x, &err);
    else
        return MHD_YES;
    return serve_exchange_answer(x);
}

/* What is too much is read and dropped, so that the client gets to read the answer; to a limit. */
static enum MHD_Result take_body(serve_exchange *x, const char *data, size_t *size) {
    if (serve_now() - x->started > 2.0 * x->server->options->timeout) return MHD_NO;
    x->too_large = x->too_large || x->body.len + *size > MOST_BODY;
    if (x->too_large && x->body.len + *size > 4 * (size_t)MOST_BODY) return MHD_NO;
    if (x->too_large)
        x->body.len += *size;
    else
        serve_text_add(&x->body, data, *size);
    *size = 0;
    return MHD_YES;
}

static void watch(serve_exchange *x) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    pthread_mutex_lock(&x->server->lock);
    x->fd = info ? info->connect_fd : -1;
    pthread_mutex_unlock(&x->server->lock);
    serve_watcher_wake(x->server);
}

static void dispatch(serve_exchange *x) {
    serve_error err;
    x->dispatched = true;
    if (x->too_large || x->body.failed) {
        serve_refuse(&err, 413, NULL, "the body has over %d bytes", MOST_BODY);
        serve_reply_error(x, &err);
    } else if (x->route->worker != SERVE_AT_ONCE) {
        watch(x);
        serve_workers_add(x->server, x);
    } else {
        x->route->handle(x);
    }
}

/* A target may name the server, as it does before a proxy: http://host/path. */
static const char *path_of(const char *target) {
    if (strncasecmp(target, "http://", 7) != 0 && strncasecmp(target, "https://", 8) != 0) return target;
    const char *path = strchr(strchr(target, ':') + 3, '/');
    return path ? path : "/";
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **state) {
    (void)version;
    serve_exchange *x = *state;
    if (!x) {
        *state = x = serve_exchange_open(user, connection, method, path_of(url));
        return x ? begin(x) : MHD_NO;
    }
    if (*size) return take_body(x, data, size);
    if (!x->dispatched) dispatch(x);
    return serve_exchange_answer(x);
}

static void on_complete(void *user, struct MHD_Connection *connection, void **state,
                        enum MHD_RequestTerminationCode code) {
    (void)user;
    (void)connection;
    if (*state) serve_exchange_close(*state, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    *state = NULL;
}

/* libmicrohttpd's notes on what clients do are not told. */
static void on_note(void *user, const char *format, va_list args) {
    (void)user;
    (void)format;
    (void)args;
}

static bool read_pem(const char *path, char *out, size_t size, char *why, size_t why_size) {
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(out, 1, size - 1, file) : 0;
    bool read = file && !ferror(file) && n > 0 && n < size - 1;
    if (!file || ferror(file))
        snprintf(why, why_size, "%s: cannot be read: %s", path, strerror(errno));
    else if (!read)
        snprintf(why, why_size, "%s: is %s", path, n ? "too large for a PEM file" : "empty");
    if (file) fclose(file);
    out[n] = '\0';
    return read;
}

int serve_http_open(serve_server *s, int listener, char *why, size_t size) {
    const serve_options *o = s->options;
    enum { MOST_PEM = 64 << 10 };
    static char cert[MOST_PEM], key[MOST_PEM]; /* must outlive the daemon */
    unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[3] = {{MHD_OPTION_END, 0, NULL}};
    if (o->tls_cert) {
        if (!read_pem(o->tls_cert, cert, sizeof cert, why, size) || !read_pem(o->tls_key, key, sizeof key, why, size))
            return -1;
        flags |= MHD_USE_TLS;
        tls[0] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, cert};
        tls[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, key};
        tls[2] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    }
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_note, NULL,
                                 MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_NOTIFY_COMPLETED, on_complete, NULL,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MOST_HEADERS, MHD_OPTION_CONNECTION_LIMIT,
                                 (unsigned)MOST_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)o->timeout,
                                 MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (s->daemon) return 0;
    snprintf(why, size,
             o->tls_cert ? "the server cannot be started: are %s and %s a certificate and its key?"
                         : "the server cannot be started",
             o->tls_cert, o->tls_key);
    return -1;
}

void serve_http_close(serve_server *s) { MHD_stop_daemon(s->daemon); }
