/* Requests to a server with OpenAI's API, many at once on one thread, by libcurl. Redirects are not followed, so that the key stays
 * with the server. A request is sent again only by libcurl, where a connection that was kept turns out to be closed. */
#include "bench.h"
#include "sse.h"

#include <ctype.h>
#include <curl/curl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 4096, REPLY_MAX = 1 << 20, STREAM_MAX = 256 << 20 };

/* A connection with its request; it outlives its calls. */
typedef struct bench_transfer {
    bench_call call;
    bench_client *client;
    CURL *curl;
    char *body;
    char curl_error[CURL_ERROR_SIZE];
    sse_reader events;
    char *reply; /* an answer that is no stream: its first REPLY_MAX bytes */
    size_t reply_len, received;
    uint32_t max_tokens;
    bool finished; /* the stream's own end was seen */
} bench_transfer;

struct bench_client {
    const bench_server_options *o;
    char *base; /* the address up to /v1 */
    char *answers_url;
    struct curl_slist *headers;
    CURLM *multi;
    bench_transfer **transfers;
    size_t count, capacity, busy;
    bench_call *idle, *ended;
};

uint64_t bench_call_tokens(const bench_call *call) { return call->has_usage ? call->tokens : call->pieces; }

static void fail(bench_call *call, bench_failure failure, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(call->why, sizeof call->why, format, args);
    va_end(args);
    /* A server's words must not steer a terminal. */
    for (char *c = call->why; *c; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';
    call->failure = failure;
}

/* ---- The stream ---------------------------------------------------------------------------------------------------- */

/* An error's message as OpenAI has it, or the text as it stands. */
static void fail_with_reply(bench_call *call, bench_failure failure, const char *text, size_t len) {
    json_t *root = json_loadb(text, len, 0, NULL);
    json_t *error = json_object_get(root, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    if (!message) message = json_string_value(error);
    if (!message) message = json_string_value(json_object_get(root, "detail"));
    if (message)
        fail(call, failure, "%s", message);
    else
        fail(call, failure, "%.*s", (int)strnlen(text, len < 200 ? len : 200), text);
    json_decref(root);
}

/* False: there is such a key, and no count is behind it. */
static bool take_count(const json_t *object, const char *key, uint64_t *out) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return true;
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 0 || n > UINT32_MAX) return false;
    *out = (uint64_t)n;
    return true;
}

static bool take_usage(bench_transfer *t, const json_t *usage) {
    bench_call *call = &t->call;
    if (!json_is_object(usage)) return true;
    call->has_usage = true;
    if (!take_count(usage, "prompt_tokens", &call->prompt_tokens) ||
        !take_count(usage, "completion_tokens", &call->tokens) ||
        !take_count(json_object_get(usage, "prompt_tokens_details"), "cached_tokens", &call->cached_tokens)) {
        fail(call, BENCH_MALFORMED, "the usage holds something that is no count of tokens");
        return false;
    }
    if (call->tokens <= t->max_tokens && call->cached_tokens <= call->prompt_tokens) return true;
    fail(call, BENCH_MALFORMED,
         "the usage tells of %llu tokens where max_tokens is %u, and of %llu cached ones of a prompt of %llu",
         (unsigned long long)call->tokens, t->max_tokens, (unsigned long long)call->cached_tokens,
         (unsigned long long)call->prompt_tokens);
    return false;
}

static bool has_text(const json_t *object, const char *key) {
    return json_string_length(json_object_get(object, key)) > 0;
}

/* A piece of text, of reasoning or of a call. */
static bool is_piece(const json_t *choice) {
    const json_t *delta = json_object_get(choice, "delta");
    return has_text(choice, "text") || has_text(delta, "content") || has_text(delta, "reasoning_content") ||
           has_text(delta, "reasoning") || json_array_size(json_object_get(delta, "tool_calls")) > 0;
}

static bool add_piece(bench_call *call) {
    double now = cli_now();
    if (call->pieces++ == 0) {
        call->first = call->last = now;
        return true;
    }
    if (call->pieces - 1 > call->gaps_capacity) {
        size_t capacity = call->gaps_capacity ? 2 * call->gaps_capacity : 256;
        double *more = realloc(call->gaps, capacity * sizeof *more);
        if (!more) return fail(call, BENCH_MALFORMED, "out of memory for %zu times", capacity), false;
        call->gaps = more;
        call->gaps_capacity = capacity;
    }
    call->gaps[call->pieces - 2] = now - call->last;
    call->last = now;
    return true;
}

static bool on_event(void *user, const char *data, size_t len) {
    bench_transfer *t = user;
    bench_call *call = &t->call;
    if (t->finished) return true;
    if (strcmp(data, "[DONE]") == 0) {
        t->finished = true;
        call->ended = cli_now();
        return true;
    }
    json_error_t why;
    json_t *root = json_loadb(data, len, 0, &why);
    bool go_on = false;
    if (!json_is_object(root))
        fail(call, BENCH_MALFORMED, "an event is no JSON object: %.60s", data);
    else if (json_object_get(root, "error"))
        fail_with_reply(call, BENCH_ERROR, data, len);
    else
        go_on = take_usage(t, json_object_get(root, "usage")) &&
                (!is_piece(json_array_get(json_object_get(root, "choices"), 0)) || add_piece(call));
    json_decref(root);
    return go_on;
}

static bool take_stream(bench_transfer *t, const char *data, size_t len) {
    if (t->received == 0) {
        const char *type = NULL;
        curl_easy_getinfo(t->curl, CURLINFO_CONTENT_TYPE, &type);
        if (!type || strncasecmp(type, "text/event-stream", 17) != 0)
            return fail(&t->call, BENCH_MALFORMED, "the answer is no stream of events but %s", type ? type : "untyped"),
                   false;
    }
    t->received += len;
    if (t->received > STREAM_MAX)
        return fail(&t->call, BENCH_MALFORMED, "the answer has more than %d bytes", STREAM_MAX), false;
    switch (sse_read(&t->events, data, len)) {
    case SSE_OK: return true;
    case SSE_STOPPED: return false;
    case SSE_TOO_LONG: fail(&t->call, BENCH_MALFORMED, "an event has more than %d bytes", SSE_MAX); return false;
    case SSE_NO_MEMORY: break;
    }
    fail(&t->call, BENCH_MALFORMED, "out of memory for an event");
    return false;
}

static bool take_reply(bench_transfer *t, const char *data, size_t len) {
    if (len > REPLY_MAX - t->reply_len) return false;
    char *more = realloc(t->reply, t->reply_len + len + 1);
    if (!more) return false;
    t->reply = more;
    memcpy(more + t->reply_len, data, len);
    t->reply_len += len;
    more[t->reply_len] = '\0';
    return true;
}

static size_t on_body(char *data, size_t size, size_t count, void *user) {
    bench_transfer *t = user;
    size_t len = size * count;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->call.status);
    bool stream = t->call.status == 200 && t->body;
    return (stream ? take_stream(t, data, len) : take_reply(t, data, len)) ? len : 0;
}

/* ---- What became of it ----------------------------------------------------------------------------------------------- */

static void judge(bench_transfer *t, CURLcode code) {
    bench_call *call = &t->call;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &call->status);
    const char *words = *t->curl_error ? t->curl_error : curl_easy_strerror(code);
    if (call->failure != BENCH_DONE) return;
    if (code == CURLE_OPERATION_TIMEDOUT)
        fail(call, BENCH_LATE, "%s", words);
    else if (call->status == 0)
        fail(call, code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR ? BENCH_BROKEN : BENCH_UNREACHED, "%s", words);
    else if (call->status != 200)
        fail_with_reply(call, BENCH_STATUS, t->reply ? t->reply : "", t->reply_len);
    else if (code != CURLE_OK)
        fail(call, BENCH_BROKEN, "%s", words);
    else if (t->body && !t->finished)
        fail(call, t->received ? BENCH_BROKEN : BENCH_EMPTY, "the stream ended before its [DONE]");
    else if (t->body && call->pieces == 0)
        fail(call, BENCH_EMPTY, "the answer holds no token");
}

static void collect(bench_client *client) {
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(client->multi, &left));) {
        if (message->msg != CURLMSG_DONE) continue;
        bench_transfer *t;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        curl_multi_remove_handle(client->multi, t->curl);
        if (!t->finished) t->call.ended = cli_now();
        judge(t, code);
        t->call.next = client->ended;
        client->ended = &t->call;
    }
}

bench_call *bench_client_next(bench_client *client, double until) {
    for (;;) {
        int running;
        curl_multi_perform(client->multi, &running);
        collect(client);
        if (client->ended) {
            bench_call *call = client->ended;
            client->ended = call->next;
            client->busy--;
            return call;
        }
        double left = until - cli_now();
        if (left <= 0 || cli_interrupted()) return NULL;
        /* Ctrl-C ends a wait too, but not one that begins behind it. */
        curl_multi_poll(client->multi, NULL, 0, (int)ceil(1000 * fmin(left, 0.2)), NULL);
    }
}

/* ---- A request ------------------------------------------------------------------------------------------------------- */

static void transfer_free(bench_transfer *t) {
    if (!t) return;
    curl_easy_cleanup(t->curl);
    sse_free(&t->events);
    free(t->call.gaps);
    free(t->body);
    free(t->reply);
    free(t);
}

static bool set_up(const bench_client *client, bench_transfer *t) {
    CURL *c = t->curl;
    return !curl_easy_setopt(c, CURLOPT_PRIVATE, t) && !curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->curl_error) &&
           !curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) &&
           !curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
           !curl_easy_setopt(c, CURLOPT_USERAGENT, "ferrum/" FERRUM_VERSION) &&
           !curl_easy_setopt(c, CURLOPT_HTTPHEADER, client->headers) &&
           !curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 20L) &&
           !curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, lround(1000.0 * client->o->timeout)) &&
           !curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) && !curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
}

static bench_transfer *transfer_new(bench_client *client) {
    if (client->count == client->capacity) {
        size_t capacity = client->capacity ? 2 * client->capacity : 16;
        bench_transfer **more = realloc(client->transfers, capacity * sizeof *more);
        if (!more) return NULL;
        client->transfers = more;
        client->capacity = capacity;
    }
    bench_transfer *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->client = client;
    t->events.event = on_event;
    t->events.user = t;
    t->call.transfer = t;
    return client->transfers[client->count++] = t;
}

/* One that is free, with nothing left of its last call. Connections are kept by the whole, and the handle is another each time: over one's
 * life libcurl counts those that turned out to be closed, and gives up at the sixth. */
static bench_transfer *transfer_take(bench_client *client) {
    bench_call *call = client->idle;
    bench_transfer *t = call ? call->transfer : transfer_new(client);
    if (!t) return NULL;
    if (call) client->idle = call->next;
    curl_easy_cleanup(t->curl);
    t->curl = curl_easy_init();
    if (!t->curl || !set_up(client, t)) return bench_client_release(client, &t->call), NULL;
    t->call = (bench_call){.gaps = t->call.gaps, .gaps_capacity = t->call.gaps_capacity, .transfer = t};
    t->received = t->reply_len = 0;
    t->finished = false;
    *t->curl_error = '\0';
    sse_reset(&t->events);
    free(t->body);
    t->body = NULL;
    return t;
}

void bench_client_release(bench_client *client, bench_call *call) {
    call->next = client->idle;
    client->idle = call;
}

static char *make_body(const bench_client *client, const char *model, const char *prompt, uint32_t max_tokens) {
    json_t *root = json_pack("{ss si sf sb s{sb}}", "model", model, "max_tokens", (int)max_tokens, "temperature", 0.0,
                             "stream", 1, "stream_options", "include_usage", 1);
    bool made = root != NULL;
    if (client->o->completions)
        made = made && !json_object_set_new(root, "prompt", json_string(prompt));
    else
        made =
            made && !json_object_set_new(root, "messages", json_pack("[{ss ss}]", "role", "user", "content", prompt));
    if (client->o->ignore_end) made = made && !json_object_set_new(root, "ignore_eos", json_true());
    char *text = made ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

bool bench_client_begin(bench_client *client, const char *model, const char *prompt, uint32_t max_tokens, double due) {
    bench_transfer *t = transfer_take(client);
    if (!t) return false;
    t->max_tokens = max_tokens;
    t->body = make_body(client, model, prompt, max_tokens);
    bool ready = t->body && !curl_easy_setopt(t->curl, CURLOPT_URL, client->answers_url) &&
                 !curl_easy_setopt(t->curl, CURLOPT_POSTFIELDS, t->body) &&
                 !curl_easy_setopt(t->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(t->body));
    t->call.begun = cli_now();
    t->call.due = due < t->call.begun ? due : t->call.begun;
    if (!ready || curl_multi_add_handle(client->multi, t->curl)) return bench_client_release(client, &t->call), false;
    client->busy++;
    return true;
}

size_t bench_client_busy(const bench_client *client) { return client->busy; }

void bench_client_stop(bench_client *client) {
    client->idle = client->ended = NULL;
    for (size_t i = 0; i < client->count; i++) {
        curl_multi_remove_handle(client->multi, client->transfers[i]->curl);
        bench_client_release(client, &client->transfers[i]->call);
    }
    client->busy = 0;
}

/* ---- Models ---------------------------------------------------------------------------------------------------------- */

static int take_model(const bench_client *client, const bench_transfer *t, char **model) {
    json_t *root = json_loadb(t->reply ? t->reply : "", t->reply_len, 0, NULL);
    const json_t *first = json_array_get(json_object_get(root, "data"), 0);
    const char *id = json_string_value(json_object_get(first, "id"));
    *model = id ? strdup(id) : NULL;
    json_decref(root);
    if (*model) return CLI_GO_ON;
    return cli_fail(CLI_FAILED, "%s/models names no model; --model NAME does", client->base);
}

int bench_client_find_model(bench_client *client, char **model) {
    json_t *given = json_string(client->o->model ? client->o->model : "");
    if (!given) return cli_fail(CLI_USAGE, "--model is no UTF-8");
    json_decref(given);
    *model = client->o->model ? strdup(client->o->model) : NULL;
    if (*model) return CLI_GO_ON;
    bench_transfer *t = transfer_take(client);
    char *url = NULL;
    if (!t || asprintf(&url, "%s/models", client->base) < 0) return cli_fail(CLI_FAILED, "out of memory for a request");
    curl_easy_setopt(t->curl, CURLOPT_URL, url);
    curl_easy_setopt(t->curl, CURLOPT_HTTPGET, 1L);
    curl_multi_add_handle(client->multi, t->curl);
    client->busy++;
    bench_call *call = bench_client_next(client, INFINITY);
    int status = CLI_INTERRUPTED;
    if (call && call->failure == BENCH_DONE)
        status = take_model(client, t, model);
    else if (call && call->failure == BENCH_STATUS)
        status = cli_fail(CLI_FAILED, "%s answers with status %ld: %s", url, call->status, call->why);
    else if (call)
        status = cli_fail(CLI_FAILED, "%s: %s", url, call->why);
    if (call) bench_client_release(client, call);
    free(url);
    return status;
}

/* ---- Opening --------------------------------------------------------------------------------------------------------- */

/* The address up to /v1, which it may or may not end with. */
static int load_base(bench_client *client) {
    CURLU *url = curl_url();
    char *scheme = NULL, *path = NULL, *query = NULL;
    bool valid = url && !curl_url_set(url, CURLUPART_URL, client->o->url, 0) &&
                 !curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) && !curl_url_get(url, CURLUPART_PATH, &path, 0) &&
                 (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
                 curl_url_get(url, CURLUPART_QUERY, &query, 0) == CURLUE_NO_QUERY &&
                 curl_url_get(url, CURLUPART_FRAGMENT, &query, 0) == CURLUE_NO_FRAGMENT;
    const char *text = client->o->url;
    size_t len = strlen(text);
    while (len && text[len - 1] == '/') len--;
    const char *version = valid && strcmp(path, "/") == 0 ? "/v1" : "";
    bool made = valid && asprintf(&client->base, "%.*s%s", (int)len, text, version) >= 0 &&
                asprintf(&client->answers_url, "%s/%s", client->base,
                         client->o->completions ? "completions" : "chat/completions") >= 0;
    curl_free(scheme);
    curl_free(path);
    curl_free(query);
    curl_url_cleanup(url);
    if (!valid) return cli_fail(CLI_USAGE, "--server is %s; it must be as http://HOST:PORT", text);
    return made ? CLI_GO_ON : cli_fail(CLI_FAILED, "out of memory for an address");
}

static bool add_header(bench_client *client, const char *line) {
    struct curl_slist *longer = curl_slist_append(client->headers, line);
    if (longer) client->headers = longer;
    return longer != NULL;
}

static int load_headers(bench_client *client) {
    const char *key = client->o->key ? client->o->key : getenv("OPENAI_API_KEY");
    const char *from = client->o->key ? "--api-key" : "OPENAI_API_KEY";
    char line[KEY_MAX + 32];
    size_t len = key ? strlen(key) : 0;
    for (size_t i = 0; i < len; i++)
        if (!isgraph((unsigned char)key[i]))
            return cli_fail(CLI_USAGE, "%s holds no key: byte %zu is 0x%02x", from, i, (unsigned char)key[i]);
    if (len > KEY_MAX) return cli_fail(CLI_USAGE, "%s holds no key: it has %zu bytes", from, len);
    snprintf(line, sizeof line, "Authorization: Bearer %s", len ? key : "");
    bool made = add_header(client, "Content-Type: application/json") && add_header(client, "Expect:") &&
                (len == 0 || add_header(client, line));
    explicit_bzero(line, sizeof line);
    return made ? CLI_GO_ON : cli_fail(CLI_FAILED, "out of memory for a request");
}

int bench_client_open(bench_client **out, const bench_server_options *o) {
    *out = NULL;
    bench_client *client = calloc(1, sizeof *client);
    if (!client || curl_global_init(CURL_GLOBAL_DEFAULT) || !(client->multi = curl_multi_init())) {
        free(client);
        return cli_fail(CLI_FAILED, "out of memory for a connection");
    }
    client->o = o;
    int status = load_base(client);
    if (status == CLI_GO_ON) status = load_headers(client);
    if (status == CLI_GO_ON)
        *out = client;
    else
        bench_client_close(client);
    return status;
}

void bench_client_close(bench_client *client) {
    if (!client) return;
    bench_client_stop(client);
    for (size_t i = 0; i < client->count; i++) transfer_free(client->transfers[i]);
    free(client->transfers);
    curl_multi_cleanup(client->multi);
    curl_slist_free_all(client->headers);
    free(client->base);
    free(client->answers_url);
    free(client);
}
