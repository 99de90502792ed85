/* What clients ask for: bodies read and checked, as far as that goes without a model. */
#ifndef SERVE_REQUEST_H
#define SERVE_REQUEST_H

#include "server/fields.h"
#include <ferrum/grammar.h>

enum {
    SERVE_MOST_CHOICES = 128, /* of a request: n, times the prompts */
    SERVE_MOST_STOPS = 16,
    SERVE_MOST_LOGPROBS = 20,
};

/* Constant strings are the body's own. */
typedef struct serve_request {
    bool chat;    /* or else a completion */
    json_t *body; /* released by serve_request_free, as is the rest */
    const char *model, *user;

    ferrum_sampling sampling;
    serve_seed seed;
    const char *stop[SERVE_MOST_STOPS];
    size_t stop_count;
    uint32_t n, max_tokens; /* max_tokens 0: as many as there is room for */
    bool stream, include_usage, ignore_eos, logprobs;
    uint32_t top_logprobs;

    /* A completion's. */
    const json_t *prompt; /* a string, an array of strings, of ids, or of arrays of ids */
    bool echo;

    /* A chat's. */
    json_t *messages; /* as templates take them: contents are strings, calls' arguments objects */
    json_t
        *messages_as_sent; /* the same, but arguments as they came, for templates that want text; NULL: no difference */
    char *tools;           /* a JSON array of functions; NULL: none that may be called */
    ferrum_tool_choice tool_choice;
    const char *tool_name; /* FERRUM_TOOL_NAMED */
    bool one_call;
    char *schema;            /* that the text has to fit, in JSON; NULL: it may be anything */
    bool ordered;            /* JSON comes in the order of its schema: one of them is strict */
    const json_t *variables; /* for the template; NULL: none */
} serve_request;

/* `request` is zeroed first. */
int serve_parse_chat(const char *body, size_t len, serve_request *request, serve_error *err);
int serve_parse_completion(const char *body, size_t len, serve_request *request, serve_error *err);
void serve_request_free(serve_request *request);

/* ---- Inside ---- */

/* What both kinds take, as it stands in the body. */
typedef struct serve_common {
    const char *model, *user, *tier;
    const json_t *stop, *logit_bias, *stream_options;
    uint32_t n, max_tokens, top_k;
    float temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
    serve_seed seed;
    bool stream, ignore_eos;
} serve_common;

extern const char *const serve_tiers[];

#define SERVE_COMMON(type, field)                                                                       \
    {"model", SERVE_STRING, offsetof(type, field.model), 0, 0, NULL},                                   \
        {"user", SERVE_STRING, offsetof(type, field.user), 0, 0, NULL},                                 \
        {"service_tier", SERVE_STRING, offsetof(type, field.tier), 0, 0, serve_tiers},                  \
        {"stop", SERVE_VALUE, offsetof(type, field.stop), 0, 0, NULL},                                  \
        {"logit_bias", SERVE_OBJECT, offsetof(type, field.logit_bias), 0, 0, NULL},                     \
        {"stream_options", SERVE_OBJECT, offsetof(type, field.stream_options), 0, 0, NULL},             \
        {"n", SERVE_COUNT, offsetof(type, field.n), 1, SERVE_MOST_CHOICES, NULL},                       \
        {"max_tokens", SERVE_COUNT, offsetof(type, field.max_tokens), 1, UINT32_MAX, NULL},             \
        {"top_k", SERVE_COUNT, offsetof(type, field.top_k), 0, UINT32_MAX, NULL},                       \
        {"temperature", SERVE_NUMBER, offsetof(type, field.temperature), 0, 2, NULL},                   \
        {"top_p", SERVE_NUMBER, offsetof(type, field.top_p), 0, 1, NULL},                               \
        {"min_p", SERVE_NUMBER, offsetof(type, field.min_p), 0, 1, NULL},                               \
        {"presence_penalty", SERVE_NUMBER, offsetof(type, field.presence_penalty), -2, 2, NULL},        \
        {"frequency_penalty", SERVE_NUMBER, offsetof(type, field.frequency_penalty), -2, 2, NULL},      \
        {"repetition_penalty", SERVE_NUMBER, offsetof(type, field.repetition_penalty), 0.01, 10, NULL}, \
        {"seed", SERVE_SEED, offsetof(type, field.seed), 0, 0, NULL},                                   \
        {"stream", SERVE_BOOL, offsetof(type, field.stream), 0, 0, NULL}, {                             \
        "ignore_eos", SERVE_BOOL, offsetof(type, field.ignore_eos), 0, 0, NULL                          \
    }

void serve_common_init(serve_common *c);
int serve_common_apply(const serve_common *c, serve_request *request, serve_error *err);

#endif
