/* Lines on standard error: sentences, and for each request one JSON object. */
#include "server/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One write, so that threads' lines do not mix. */
static void put_line(serve_text *line) {
    serve_text_puts(line, "\n");
    if (!line->failed && write(STDERR_FILENO, line->data, line->len) < 0) { /* nobody is left to tell */
    }
    serve_text_free(line);
}

void serve_say(const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    serve_text line = {0};
    serve_text_printf(&line, "ferrum serve: %s", text);
    put_line(&line);
}

static json_t *milliseconds(double seconds) { return json_real((double)(long long)(seconds * 1e5) / 100); }

static void add_record(json_t *o, const serve_record *r) {
    json_object_set_new(o, "id", json_string(r->id));
    if (*r->user) json_object_set_new(o, "user", serve_json_text(r->user, strlen(r->user)));
    json_object_set_new(o, "prompt_tokens", json_integer((json_int_t)r->prompt_tokens));
    json_object_set_new(o, "cached_tokens", json_integer((json_int_t)r->cached_tokens));
    json_object_set_new(o, "completion_tokens", json_integer((json_int_t)r->answer_tokens));
    json_object_set_new(o, "queue_ms", milliseconds(r->queue_seconds));
    json_object_set_new(o, "first_token_ms", milliseconds(r->first_token_seconds));
    if (r->finish) json_object_set_new(o, "finish_reason", json_string(r->finish));
}

void serve_log_request(const serve_exchange *x, unsigned status, bool complete) {
    char now[40];
    struct timespec t;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &utc);
    size_t len = strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(now + len, sizeof now - len, ".%03ldZ", t.tv_nsec / 1000000);
    json_t *o = json_pack("{ss ss ss so si so}", "time", now, "client", x->client, "method", x->method, "path",
                          serve_json_text(x->path, strlen(x->path)), "status", (int)status, "total_ms",
                          milliseconds(serve_now() - x->started));
    if (o && *x->record.id)
        add_record(o, &x->record);
    else if (o && x->record.prompt_tokens) /* of embeddings */
        json_object_set_new(o, "prompt_tokens", json_integer((json_int_t)x->record.prompt_tokens));
    if (o && !complete) json_object_set_new(o, "disconnected", json_true());
    serve_text line = {0};
    serve_text_json(&line, o);
    put_line(&line);
}
