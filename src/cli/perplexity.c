/* ferrum perplexity: how likely a model finds a text. */
#include "cli.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct perplexity_options {
    cli_model_options model;
    uint32_t count, top;
    const char *ids;
    bool json, logits;
} perplexity_options;

#define AT(field) offsetof(perplexity_options, field)

static const cli_option options[] = {
    CLI_OPTION("ids", 0, CLI_STRING, AT(ids), "FILE",
               "token ids, separated by blanks, in place of a text; -: standard input"),
    CLI_OPTION("tokens", 'n', CLI_COUNT, AT(count), "N", "the first N tokens only", .min = 2, .max = UINT32_MAX),
    CLI_OPTION("json", 0, CLI_FLAG, AT(json), NULL, "print one JSON object"),
    CLI_OPTION("logits", 0, CLI_FLAG, AT(logits), NULL, "with --json: the logits of the last position"),
    CLI_OPTION("top", 0, CLI_COUNT, AT(top), "N", "with --json: the N likeliest tokens at every position", .min = 1,
               .max = 100),
    CLI_MODEL_OPTIONS(perplexity_options, model),
    {0},
};

typedef struct score {
    const int32_t *ids;
    size_t count, vocab, top;
    double nll;        /* sum over the ids but the first, nats */
    size_t bad;        /* the first position whose logits are not finite; count: none */
    float *last;       /* the last position's logits; NULL: not wanted */
    json_t *top_lists; /* NULL: not wanted, or memory ran out */
} score;

/* log Σ exp, in double. */
static double log_sum_exp(const float *logits, size_t vocab) {
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < vocab; i++) max = logits[i] > max ? logits[i] : max;
    for (size_t i = 0; i < vocab; i++) sum += exp(logits[i] - max);
    return max + log(sum);
}

/* The n likeliest, likeliest first, the lower id where equal; by insertion, as n is small. */
static json_t *top_list(const float *logits, size_t vocab, size_t n, double total) {
    ferrum_logprob pairs[100] = {0};
    size_t have = 0;
    for (size_t i = 0; i < vocab; i++) {
        if (have == n && !(logits[i] > pairs[n - 1].logprob)) continue;
        size_t at = have < n ? have++ : n - 1;
        for (; at > 0 && logits[i] > pairs[at - 1].logprob; at--) pairs[at] = pairs[at - 1];
        pairs[at] = (ferrum_logprob){(int32_t)i, logits[i]};
    }
    for (size_t i = 0; i < have; i++) pairs[i].logprob = (float)(pairs[i].logprob - total);
    return cli_json_logprobs(pairs, have);
}

static void on_logits(void *user, size_t index, const float *logits, size_t vocab) {
    score *s = user;
    double total = log_sum_exp(logits, vocab);
    if (!isfinite(total) && s->bad == s->count) s->bad = index;
    if (index + 1 < s->count)
        s->nll += total - logits[s->ids[index + 1]];
    else if (s->last)
        memcpy(s->last, logits, vocab * sizeof *logits);
    if (s->top_lists && json_array_append_new(s->top_lists, top_list(logits, vocab, s->top, total)) != 0) {
        json_decref(s->top_lists);
        s->top_lists = NULL;
    }
}

/* The library's ids are the library's to free. */
static void free_ids(const perplexity_options *o, int32_t *ids) {
    if (o->ids)
        free(ids);
    else
        ferrum_free(ids);
}

/* *ids: release with free_ids. */
static int read_ids(const ferrum_model *model, const perplexity_options *o, const char *file, int32_t **ids,
                    size_t *count) {
    char *text;
    size_t len;
    int status = cli_read_file(file, &text, &len);
    if (status != CLI_GO_ON) return status;
    ferrum_error err;
    if (o->ids)
        status = cli_parse_ids(file, text, len, ids, count);
    else if (ferrum_tokenize(ferrum_model_tokenizer(model), text, len, FERRUM_ADD_SPECIAL, ids, count, &err) != 0)
        status = cli_fail_library(&err);
    free(text);
    if (status != CLI_GO_ON) return status;
    if (o->count && *count > o->count) *count = o->count;
    if (*count >= 2) return CLI_GO_ON;
    free_ids(o, *ids);
    *ids = NULL;
    return cli_fail(CLI_FAILED, "%s: %zu tokens; perplexity needs two at least", file, *count);
}

static int check_length(const ferrum_model_info *info, const char *file, size_t count) {
    if (count <= info->context_length) return CLI_GO_ON;
    return cli_fail(CLI_FAILED, "%s: %zu tokens, and the model was trained for %u; --tokens %u scores the first", file,
                    count, info->context_length, info->context_length);
}

static int print_json(const score *s, const char *model) {
    double mean = s->nll / (double)(s->count - 1);
    json_t *object = json_pack("{ss sI sf sf so}", "model", model, "tokens", (json_int_t)s->count, "mean_nll", mean,
                               "perplexity", exp(mean), "ids", cli_json_ids(s->ids, s->count));
    if (object && s->last) {
        json_t *list = json_array();
        for (size_t i = 0; i < s->vocab; i++) json_array_append_new(list, json_real(s->last[i]));
        json_object_set_new(object, "logits_last", list);
    }
    if (object && s->top_lists) json_object_set(object, "top", s->top_lists);
    return cli_print_json(object, 9);
}

static int measure(const ferrum_model *model, const char *name, const perplexity_options *o, score *s) {
    ferrum_session_options session_options;
    ferrum_session_options_init(&session_options);
    session_options.context = (uint32_t)s->count;
    session_options.kv = cli_kv(&o->model);
    ferrum_session *session;
    ferrum_error err;
    if (ferrum_session_open(&session, model, &session_options, &err) != 0) return cli_fail_library(&err);
    cli_interrupt_watch(session);
    double start = cli_now();
    int rc = cli_interrupted() ? FERRUM_ECANCELED : ferrum_session_score(session, s->ids, s->count, on_logits, s, &err);
    double seconds = cli_now() - start;
    cli_interrupt_watch(NULL);
    ferrum_session_close(session);
    if (rc == FERRUM_ECANCELED || cli_interrupted()) return CLI_INTERRUPTED;
    if (rc != 0) return cli_fail_library(&err);
    if (s->bad < s->count)
        return cli_fail(CLI_FAILED, "the logits at position %zu are not finite: there is no perplexity", s->bad);
    if (o->model.verbose)
        cli_note("%zu tokens in %.3f s, %.1f tokens/s", s->count, seconds, (double)s->count / seconds);
    if (o->json) return print_json(s, name);
    double mean = s->nll / (double)(s->count - 1);
    printf("tokens      %zu\nmean_nll    %.6f\nperplexity  %.5f\n", s->count, mean, exp(mean));
    return CLI_OK;
}

static int with_model(ferrum_model *model, const perplexity_options *o, const char *file) {
    int32_t *ids = NULL;
    size_t count = 0;
    int status = read_ids(model, o, file, &ids, &count);
    if (status != CLI_GO_ON) return status;
    ferrum_model_info info;
    ferrum_model_get_info(model, &info);
    score s = {.ids = ids, .count = count, .bad = count, .vocab = info.vocab_size, .top = o->top};
    if (o->logits) s.last = malloc(s.vocab * sizeof *s.last);
    if (o->top) s.top_lists = json_array();
    bool memory = (!o->logits || s.last) && (!o->top || s.top_lists);
    status = memory ? check_length(&info, file, count) : cli_fail(CLI_FAILED, "out of memory for the logits");
    if (status == CLI_GO_ON) status = measure(model, info.name, o, &s);
    json_decref(s.top_lists);
    free(s.last);
    free_ids(o, ids);
    return status;
}

static int perplexity(int argc, char **argv) {
    perplexity_options o = {0};
    cli_args args = {0};
    int status = cli_parse(&cli_perplexity_command, argc, argv, &o, &args);
    if (status != CLI_GO_ON) return status;
    if (!o.ids == (args.count < 2))
        return cli_fail(CLI_USAGE, o.ids ? "TEXTFILE and --ids exclude each other" : "TEXTFILE or --ids is missing");
    if (!o.json && (o.logits || o.top))
        return cli_fail(CLI_USAGE, "--%s is told in JSON only: add --json", o.logits ? "logits" : "top");
    ferrum_model *model;
    double seconds;
    status = cli_model_open(&model, args.items[0], &o.model, &seconds);
    if (status != CLI_GO_ON) return status;
    status = with_model(model, &o, o.ids ? o.ids : args.items[1]);
    ferrum_model_close(model);
    return status;
}

const cli_command cli_perplexity_command = {
    .name = "perplexity",
    .arguments = "MODEL [TEXTFILE]",
    .about = "Tells how likely a model finds a text.",
    .details = "The perplexity is exp of the mean, over the tokens but the first, of the negative\n"
               "natural logarithm of each token's probability given all before it. All tokens\n"
               "stand in one context. The text is tokenised with the begin token where the model\n"
               "wants one; text that looks like a control token stays text. TEXTFILE may be -:\n"
               "standard input.\n",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .main = perplexity,
};
