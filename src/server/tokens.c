/* /tokenize, /detokenize and /apply-template, with the shapes that llama.cpp's server has. */
#include "server/engine.h"

#include <stdlib.h>
#include <string.h>

static int need_tokenizer(const serve_server *s, serve_error *err) {
    return s->tokenizer ? 0 : serve_refuse(err, 400, NULL, "the model has no tokenizer");
}

char *serve_token_bytes(const ferrum_tokenizer *t, int32_t id, char *small, size_t *len) {
    *len = ferrum_token_bytes(t, id, small, SERVE_SMALL_TOKEN);
    if (*len <= SERVE_SMALL_TOKEN) return small;
    char *text = malloc(*len);
    if (text) ferrum_token_bytes(t, id, text, *len);
    return text;
}

/* ---- /tokenize ---- */

typedef struct tokenize_body {
    const char *model, *content;
    bool add_special, parse_special, with_pieces;
} tokenize_body;

static json_t *token_json(const serve_server *s, int32_t id, bool piece) {
    if (!piece) return json_integer(id);
    char small[SERVE_SMALL_TOKEN];
    size_t len;
    char *text = serve_token_bytes(s->tokenizer, id, small, &len);
    json_t *token = json_pack("{si so}", "id", (int)id, "piece", text ? serve_json_text(text, len) : NULL);
    if (text != small) free(text);
    return token;
}

static int tokenize(const serve_server *s, const json_t *body, json_t **out, serve_error *err) {
    static const serve_field fields[] = {
        {"model", SERVE_STRING, offsetof(tokenize_body, model), 0, 0, NULL},
        {"content", SERVE_STRING, offsetof(tokenize_body, content), 0, 0, NULL},
        {"add_special", SERVE_BOOL, offsetof(tokenize_body, add_special), 0, 0, NULL},
        {"parse_special", SERVE_BOOL, offsetof(tokenize_body, parse_special), 0, 0, NULL},
        {"with_pieces", SERVE_BOOL, offsetof(tokenize_body, with_pieces), 0, 0, NULL},
        {0}};
    tokenize_body b = {.parse_special = true};
    int rc = serve_read_fields(body, "", fields, &b, err);
    if (!rc) rc = serve_check_model(s, b.model, err);
    if (rc) return rc;
    if (!b.content) return serve_refuse(err, 400, "content", "content is missing");
    unsigned flags = (b.add_special ? FERRUM_ADD_SPECIAL : 0) | (b.parse_special ? FERRUM_PARSE_SPECIAL : 0);
    int32_t *ids;
    size_t count;
    ferrum_error why;
    if (ferrum_tokenize(s->tokenizer, b.content, strlen(b.content), flags, &ids, &count, &why) != 0)
        return serve_refuse_library(err, "content", &why);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(list, token_json(s, ids[i], b.with_pieces));
    *out = json_pack("{so}", "tokens", list);
    ferrum_free(ids);
    return 0;
}

/* ---- /detokenize ---- */

typedef struct detokenize_body {
    const char *model;
    const json_t *tokens;
    bool special;
} detokenize_body;

static int detokenize(const serve_server *s, const json_t *body, json_t **out, serve_error *err) {
    static const serve_field fields[] = {{"model", SERVE_STRING, offsetof(detokenize_body, model), 0, 0, NULL},
                                         {"tokens", SERVE_ARRAY, offsetof(detokenize_body, tokens), 0, 0, NULL},
                                         {"special", SERVE_BOOL, offsetof(detokenize_body, special), 0, 0, NULL},
                                         {0}};
    detokenize_body b = {.special = true};
    int rc = serve_read_fields(body, "", fields, &b, err);
    if (!rc) rc = serve_check_model(s, b.model, err);
    if (rc) return rc;
    if (!b.tokens) return serve_refuse(err, 400, "tokens", "tokens is missing");
    size_t count = json_array_size(b.tokens), len;
    int32_t *ids = malloc((count + 1) * sizeof *ids);
    char *text = NULL;
    ferrum_error why;
    rc = ids ? serve_read_ids(b.tokens, "tokens", "tokens", ids, err) : serve_refuse_memory(err);
    if (!rc && ferrum_detokenize(s->tokenizer, ids, count, b.special, &text, &len, &why) != 0)
        rc = serve_refuse_library(err, "tokens", &why);
    if (!rc) *out = json_pack("{so}", "content", serve_json_text(text, len));
    ferrum_free(text);
    free(ids);
    return rc;
}

static void handle(serve_exchange *x, int (*make)(const serve_server *, const json_t *, json_t **, serve_error *)) {
    serve_error err;
    json_t *body = NULL, *out = NULL;
    int rc = need_tokenizer(x->server, &err);
    if (!rc) rc = serve_parse_body(x->body.len ? x->body.data : "", x->body.len, &body, &err);
    if (!rc) rc = make(x->server, body, &out, &err);
    json_decref(body);
    if (rc)
        serve_reply_error(x, &err);
    else
        serve_reply_json(x, 200, out);
}

void serve_handle_tokenize(serve_exchange *x) { handle(x, tokenize); }
void serve_handle_detokenize(serve_exchange *x) { handle(x, detokenize); }

/* ---- /apply-template: what a chat would be evaluated as. It takes a chat's body. ---- */

void serve_handle_template(serve_exchange *x) {
    serve_error err;
    serve_request r;
    char *text = NULL;
    size_t len = 0;
    int rc = serve_parse_chat(x->body.len ? x->body.data : "", x->body.len, &r, &err);
    if (!rc) rc = serve_check_model(x->server, r.model, &err);
    if (!rc) rc = serve_render_chat(x->server, &r, true, &text, &len, &err);
    if (rc)
        serve_reply_error(x, &err);
    else
        serve_reply_json(x, 200, json_pack("{so}", "prompt", serve_json_text(text, len)));
    ferrum_free(text);
    serve_request_free(&r);
}
