#include "server/request.h"

#include <errno.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

const char *const serve_tiers[] = {"auto", "default", NULL}; /* there is one */

void serve_common_init(serve_common *c) {
    ferrum_session_options defaults;
    ferrum_session_options_init(&defaults);
    const ferrum_sampling *s = &defaults.sampling;
    *c = (serve_common){.n = 1,
                        .top_k = s->top_k,
                        .temperature = s->temperature,
                        .top_p = s->top_p,
                        .min_p = s->min_p,
                        .presence_penalty = s->presence_penalty,
                        .frequency_penalty = s->frequency_penalty,
                        .repetition_penalty = s->repetition_penalty};
}

static int read_stop(const json_t *stop, serve_request *r, serve_error *err) {
    size_t count = json_is_array(stop) ? json_array_size(stop) : 1;
    if (count > SERVE_MOST_STOPS)
        return serve_refuse(err, 400, "stop", "stop has %zu strings; the most is %d", count, SERVE_MOST_STOPS);
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(stop) ? json_array_get(stop, i) : stop;
        if (!json_is_string(one))
            return serve_refuse(err, 400, "stop", "stop must be a string or an array of strings, not %s",
                                serve_kind_of(one));
        if (json_string_length(one) == 0) return serve_refuse(err, 400, "stop", "stop has an empty string");
        r->stop[r->stop_count++] = json_string_value(one);
    }
    return 0;
}

static int read_bias(const json_t *object, serve_request *r, serve_error *err) {
    size_t count = json_object_size(object);
    if (count == 0) return 0;
    ferrum_token_bias *bias = calloc(count, sizeof *bias);
    if (!bias) return serve_refuse_memory(err);
    r->sampling.bias = bias;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        char *end;
        errno = 0;
        long id = strtol(key, &end, 10);
        if (key[0] < '0' || key[0] > '9' || *end || errno || id > INT32_MAX)
            return serve_refuse(err, 400, "logit_bias", "logit_bias: \"%.32s\" is no token id", key);
        if (!json_is_number(value) || !(json_number_value(value) >= -100 && json_number_value(value) <= 100))
            return serve_refuse(err, 400, "logit_bias", "logit_bias: the bias of %ld must be a number from -100 to 100",
                                id);
        bias[r->sampling.bias_count++] = (ferrum_token_bias){(int32_t)id, (float)json_number_value(value)};
    }
    return 0;
}

static int read_stream_options(const serve_common *c, serve_request *r, serve_error *err) {
    static const serve_field fields[] = {
        {"include_usage", SERVE_BOOL, offsetof(serve_request, include_usage), 0, 0, NULL},
        /* Against eavesdropping on the lengths of packets: there is no such padding. */
        {"include_obfuscation", SERVE_NOT, 0, 0, 0, NULL},
        {0}};
    if (!c->stream) return serve_refuse(err, 400, "stream_options", "stream_options needs stream to be true");
    return serve_read_fields(c->stream_options, "stream_options.", fields, r, err);
}

int serve_common_apply(const serve_common *c, serve_request *r, serve_error *err) {
    ferrum_session_options defaults;
    ferrum_session_options_init(&defaults);
    r->model = c->model;
    r->user = c->user;
    r->n = c->n;
    r->max_tokens = c->max_tokens;
    r->stream = c->stream;
    r->ignore_eos = c->ignore_eos;
    r->seed = c->seed;
    r->sampling = (ferrum_sampling){.temperature = c->temperature,
                                    .top_k = c->top_k,
                                    .top_p = c->top_p > 0 ? c->top_p : FLT_MIN, /* OpenAI's 0: the likeliest alone */
                                    .min_p = c->min_p,
                                    .repetition_penalty = c->repetition_penalty,
                                    .penalty_window = defaults.sampling.penalty_window,
                                    .presence_penalty = c->presence_penalty,
                                    .frequency_penalty = c->frequency_penalty};
    int rc = c->stop ? read_stop(c->stop, r, err) : 0;
    if (!rc && c->logit_bias) rc = read_bias(c->logit_bias, r, err);
    if (!rc && c->stream_options) rc = read_stream_options(c, r, err);
    return rc;
}

void serve_request_free(serve_request *r) {
    free((void *)r->sampling.bias);
    free(r->tools);
    free(r->schema);
    json_decref(r->messages);
    json_decref(r->messages_as_sent);
    json_decref(r->body);
    *r = (serve_request){0};
}

/* ---- Completions ---- */

typedef struct completion_body {
    serve_common common;
    const json_t *prompt, *logprobs;
    const char *suffix;
    uint32_t best_of;
    bool echo;
} completion_body;

static int check_prompt(const json_t *prompt, serve_error *err) {
    if (json_is_string(prompt)) return 0;
    if (!json_is_array(prompt) || json_array_size(prompt) == 0)
        return serve_refuse(err, 400, "prompt",
                            "prompt must be a string, or an array of strings, of token ids or of "
                            "arrays of token ids, with something in it");
    json_type type = json_typeof(json_array_get(prompt, 0));
    bool known = type == JSON_STRING || type == JSON_INTEGER || type == JSON_ARRAY;
    for (size_t i = 0; i < json_array_size(prompt); i++) {
        const json_t *item = json_array_get(prompt, i);
        if (!known || json_typeof(item) != type)
            return serve_refuse(err, 400, "prompt",
                                "prompt[%zu] is %s; all must be strings, all token ids or all "
                                "arrays of them",
                                i, serve_kind_of(item));
        for (size_t j = 0; type == JSON_ARRAY && j < json_array_size(item); j++)
            if (!json_is_integer(json_array_get(item, j)))
                return serve_refuse(err, 400, "prompt", "prompt[%zu][%zu] is no token id", i, j);
    }
    size_t count = type == JSON_INTEGER ? 1 : json_array_size(prompt);
    if (count <= SERVE_MOST_CHOICES) return 0;
    return serve_refuse(err, 400, "prompt", "prompt has %zu texts; the most is %d", count, SERVE_MOST_CHOICES);
}

/* A count of the likeliest; OpenAI's other routes have a boolean, which is told apart with words. */
static int read_completion_logprobs(const json_t *logprobs, serve_request *r, serve_error *err) {
    json_int_t n = json_integer_value(logprobs);
    if (!json_is_integer(logprobs) || n < 0 || n > SERVE_MOST_LOGPROBS)
        return serve_refuse(err, 400, "logprobs", "logprobs must be a whole number from 0 to %d", SERVE_MOST_LOGPROBS);
    if (r->echo) return serve_refuse(err, 400, "echo", "echo together with logprobs is not supported");
    r->logprobs = true;
    r->top_logprobs = (uint32_t)n;
    return 0;
}

int serve_parse_completion(const char *body, size_t len, serve_request *r, serve_error *err) {
    static const serve_field fields[] = {
        SERVE_COMMON(completion_body, common),
        {"prompt", SERVE_VALUE, offsetof(completion_body, prompt), 0, 0, NULL},
        {"logprobs", SERVE_VALUE, offsetof(completion_body, logprobs), 0, 0, NULL},
        {"suffix", SERVE_STRING, offsetof(completion_body, suffix), 0, 0, NULL},
        {"best_of", SERVE_COUNT, offsetof(completion_body, best_of), 1, SERVE_MOST_CHOICES, NULL},
        {"echo", SERVE_BOOL, offsetof(completion_body, echo), 0, 0, NULL},
        {0}};
    *r = (serve_request){0};
    completion_body b = {0};
    serve_common_init(&b.common);
    b.common.max_tokens = 16; /* as OpenAI has it */
    int rc = serve_parse_body(body, len, &r->body, err);
    if (!rc) rc = serve_read_fields(r->body, "", fields, &b, err);
    if (!rc) rc = serve_common_apply(&b.common, r, err);
    if (rc) return rc;
    if (!b.prompt) return serve_refuse(err, 400, "prompt", "prompt is missing");
    if (b.suffix && *b.suffix) return serve_refuse(err, 400, "suffix", "suffix is not supported");
    if (b.best_of && b.best_of != r->n)
        return serve_refuse(err, 400, "best_of", "best_of is %u; another number than n, %u, is not supported",
                            b.best_of, r->n);
    r->prompt = b.prompt;
    r->echo = b.echo;
    rc = check_prompt(r->prompt, err);
    if (!rc && b.logprobs) rc = read_completion_logprobs(b.logprobs, r, err);
    return rc;
}
