/* What the server tells of itself: models, health, metrics, the page. */
#include "server/engine.h"

#include <string.h>

extern const char serve_page[]; /* page.html: cmake/embed.cmake */

static json_t *model_json(const serve_server *s) {
    return json_pack("{ss ss sI ss s{sI sI sI sI sI ss sb}}", "id", s->options->names[0], "object", "model", "created",
                     (json_int_t)s->created, "owned_by", "ferrum", "meta", "context", (json_int_t)s->context,
                     "context_trained", (json_int_t)s->info.context_length, "parameters",
                     (json_int_t)s->info.parameters, "vocab_size", (json_int_t)s->info.vocab_size, "embedding_length",
                     (json_int_t)s->info.embedding_length, "architecture", s->info.architecture, "generates",
                     s->info.generates);
}

void serve_handle_models(serve_exchange *x) {
    serve_reply_json(x, 200, json_pack("{ss s[o]}", "object", "list", "data", model_json(x->server)));
}

void serve_handle_model(serve_exchange *x) {
    serve_error err;
    if (serve_check_model(x->server, x->path + strlen("/v1/models/"), &err) != 0)
        serve_reply_error(x, &err);
    else
        serve_reply_json(x, 200, model_json(x->server));
}

void serve_handle_health(serve_exchange *x) {
    static const char *const names[] = {"loading", "ready", "failing", "stopping"};
    int state = atomic_load(&x->server->state);
    serve_reply_json(x, state == SERVE_READY ? 200 : 503, json_pack("{ss}", "status", names[state]));
}

void serve_handle_metrics(serve_exchange *x) {
    serve_text text = {0};
    serve_metrics_write(&x->server->metrics, &text);
    serve_reply_text(x, 200, "text/plain; version=0.0.4", &text);
}

void serve_handle_page(serve_exchange *x) {
    serve_text text = {0};
    serve_text_puts(&text, serve_page);
    serve_reply_text(x, 200, "text/html; charset=utf-8", &text);
}
