/* /v1/embeddings. */
#include "server/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TEXTS = 2048 };

typedef struct embeddings_body {
    const char *model, *user, *format;
    const json_t *input;
    uint32_t dimensions;
} embeddings_body;

typedef struct texts {
    ferrum_ids *items;
    size_t count, tokens;
} texts;

/* name: in the body, "input[1]". */
static int add_text(const serve_server *s, const char *name, const json_t *text, texts *t, serve_error *err) {
    ferrum_error why;
    size_t count = json_array_size(text);
    int32_t *ids = NULL;
    if (json_is_string(text)) {
        int32_t *made;
        if (ferrum_tokenize(s->tokenizer, json_string_value(text), json_string_length(text), FERRUM_ADD_SPECIAL, &made,
                            &count, &why) != 0)
            return serve_refuse_library(err, "input", &why);
        ids = malloc((count + 1) * sizeof *ids);
        if (ids) memcpy(ids, made, count * sizeof *ids);
        ferrum_free(made);
    } else {
        ids = malloc((count + 1) * sizeof *ids);
        if (ids && serve_read_ids(text, "input", name, ids, err) != 0) {
            free(ids);
            return -1;
        }
    }
    if (!ids) return serve_refuse_memory(err);
    t->items[t->count++] = (ferrum_ids){ids, count};
    t->tokens += count;
    return 0;
}

/* A string, an array of strings, of ids, or of arrays of ids. */
static int read_texts(const serve_server *s, const json_t *input, texts *t, serve_error *err) {
    const json_t *first = json_array_get(input, 0);
    bool single = json_is_string(input) || json_is_integer(first);
    size_t count = single ? 1 : json_array_size(input);
    if (count == 0)
        return serve_refuse(err, 400, "input",
                            "input must be a string, or an array of strings, of token ids or of arrays "
                            "of token ids, with something in it");
    if (count > MOST_TEXTS)
        return serve_refuse(err, 400, "input", "input has %zu texts; the most is %d", count, MOST_TEXTS);
    t->items = calloc(count, sizeof *t->items);
    if (!t->items) return serve_refuse_memory(err);
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++) {
        const json_t *text = single ? input : json_array_get(input, i);
        char name[32] = "input";
        if (!single) snprintf(name, sizeof name, "input[%zu]", i);
        rc = json_is_string(text) || json_is_array(text)
                 ? add_text(s, name, text, t, err)
                 : serve_refuse(err, 400, "input", "%s must be a string or an array of token ids, not %s", name,
                                serve_kind_of(text));
    }
    return rc;
}

/* RFC 4648, of little-endian floats. */
static json_t *base64(const float *vector, size_t count) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = (const unsigned char *)vector;
    size_t len = count * sizeof *vector, to = 0;
    char *out = malloc(len / 3 * 4 + 5);
    for (size_t i = 0; out && i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        unsigned group = (unsigned)in[i] << 16 | (n > 1 ? (unsigned)in[i + 1] << 8 : 0) | (n > 2 ? in[i + 2] : 0);
        for (size_t d = 0; d < 4; d++) out[to++] = d <= n ? digits[group >> (18 - 6 * d) & 63] : '=';
    }
    json_t *text = out ? json_stringn(out, to) : NULL;
    free(out);
    return text;
}

static json_t *numbers(const float *vector, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(list, json_real((double)vector[i]));
    return list;
}

typedef struct watch {
    serve_exchange *exchange;
    uint64_t counted; /* tokens */
} watch;

static bool is_wanted(void *user, uint64_t done, uint64_t total) {
    watch *w = user;
    (void)total;
    serve_metrics_add(&w->exchange->server->metrics, SERVE_PROMPT_TOKENS, done - w->counted);
    w->counted = done;
    return !atomic_load(&w->exchange->gone);
}

static int embed(serve_exchange *x, const embeddings_body *b, const texts *t, json_t **out, serve_error *err) {
    const serve_server *s = x->server;
    size_t width = s->info.embedding_length;
    float *vectors = calloc(t->count * width + 1, sizeof *vectors);
    ferrum_error why;
    ferrum_embed_options options;
    ferrum_embed_options_init(&options);
    options.progress = is_wanted;
    options.progress_user = &(watch){.exchange = x};
    if (!vectors) return serve_refuse_memory(err);
    if (ferrum_model_embed(s->model, t->items, t->count, &options, vectors, &why) != 0) {
        free(vectors);
        return serve_refuse_library(err, why.code == FERRUM_EUNSUPPORTED ? "model" : "input", &why);
    }
    json_t *data = json_array();
    bool text = b->format && strcmp(b->format, "base64") == 0;
    for (size_t i = 0; i < t->count; i++)
        json_array_append_new(data, json_pack("{ss si so}", "object", "embedding", "index", (int)i, "embedding",
                                              (text ? base64 : numbers)(vectors + i * width, width)));
    free(vectors);
    *out = json_pack("{ss so ss s{sI sI}}", "object", "list", "data", data, "model", s->options->names[0], "usage",
                     "prompt_tokens", (json_int_t)t->tokens, "total_tokens", (json_int_t)t->tokens);
    return 0;
}

static int answer(serve_exchange *x, const json_t *body, texts *t, json_t **out, serve_error *err) {
    static const char *const formats[] = {"float", "base64", NULL};
    static const serve_field fields[] = {
        {"model", SERVE_STRING, offsetof(embeddings_body, model), 0, 0, NULL},
        {"user", SERVE_STRING, offsetof(embeddings_body, user), 0, 0, NULL},
        {"input", SERVE_VALUE, offsetof(embeddings_body, input), 0, 0, NULL},
        {"encoding_format", SERVE_STRING, offsetof(embeddings_body, format), 0, 0, formats},
        {"dimensions", SERVE_COUNT, offsetof(embeddings_body, dimensions), 1, UINT32_MAX, NULL},
        {0}};
    const serve_server *s = x->server;
    embeddings_body b = {0};
    int rc = serve_read_fields(body, "", fields, &b, err);
    if (!rc) rc = serve_check_model(s, b.model, err);
    if (rc) return rc;
    if (!b.input) return serve_refuse(err, 400, "input", "input is missing");
    if (b.dimensions && b.dimensions != s->info.embedding_length)
        return serve_refuse(err, 400, "dimensions", "dimensions is %u; the model's vectors have %u", b.dimensions,
                            s->info.embedding_length);
    rc = read_texts(s, b.input, t, err);
    return rc ? rc : embed(x, &b, t, out, err);
}

void serve_handle_embeddings(serve_exchange *x) {
    serve_error err;
    json_t *body = NULL, *out = NULL;
    texts t = {0};
    int rc = serve_parse_body(x->body.len ? x->body.data : "", x->body.len, &body, &err);
    if (!rc) rc = answer(x, body, &t, &out, &err);
    for (size_t i = 0; i < t.count; i++) free((void *)t.items[i].ids);
    free(t.items);
    json_decref(body);
    pthread_mutex_lock(&x->lock);
    x->record.prompt_tokens = t.tokens;
    pthread_mutex_unlock(&x->lock);
    if (rc)
        serve_reply_error(x, &err);
    else
        serve_reply_json(x, 200, out);
}
