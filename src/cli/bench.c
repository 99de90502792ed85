/* ferrum bench: how fast a model runs here, beside what the machine's memory and multipliers give in the same run.
 * Field names are llama-bench's where they mean the same. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SIZES = 16 };

typedef struct bench_options {
    cli_model_options model;
    const char *prompt, *generate, *depth, *output;
    uint32_t repetitions;
} bench_options;

#define AT(field) offsetof(bench_options, field)

static const char *const outputs[] = {"md", "csv", "json", NULL};

static const cli_option options[] = {
    CLI_OPTION("n-prompt", 'p', CLI_STRING, AT(prompt), "N,…", "prompts of so many tokens; default 512; 0: none"),
    CLI_OPTION("n-gen", 'n', CLI_STRING, AT(generate), "N,…", "answers of so many tokens; default 128; 0: none"),
    CLI_OPTION("n-depth", 'd', CLI_STRING, AT(depth), "N,…",
               "each behind so many tokens that are in the KV cache already; default 0"),
    CLI_OPTION("repetitions", 'r', CLI_COUNT, AT(repetitions), "N", "of each; default 5", .min = 1, .max = 1000),
    CLI_OPTION("output", 'o', CLI_STRING, AT(output), "FORMAT", "md (default), csv or json", .choices = outputs),
    CLI_MODEL_OPTIONS(bench_options, model),
    {0},
};

typedef struct sizes {
    uint32_t items[MOST_SIZES];
    size_t count;
} sizes;

/* One line of the table. */
typedef struct result {
    uint32_t prompt, generate, depth; /* one of the first two is 0 */
    double mean, deviation;           /* tokens/s */
    double limit, share;              /* tokens/s that the machine's limit allows, and the part of it; 0: unknown */
} result;

typedef struct bench {
    const bench_options *o;
    ferrum_model *model;
    ferrum_model_info info;
    ferrum_device_limits limits;
    json_t *list; /* of JSON objects */
    bool first;
} bench;

/* Whole numbers separated by commas. */
static int parse_sizes(const char *name, const char *text, sizes *out) {
    out->count = 0;
    for (const char *at = text;;) {
        char *end;
        errno = 0;
        unsigned long n = strtoul(at, &end, 10);
        if (*at < '0' || *at > '9' || errno != 0 || n > 1u << 24 || (*end != ',' && *end != '\0'))
            return cli_fail(CLI_USAGE, "--%s is %s; it must be whole numbers up to %u, separated by commas", name, text,
                            1u << 24);
        if (out->count == MOST_SIZES)
            return cli_fail(CLI_USAGE, "--%s has more than %d numbers", name, (int)MOST_SIZES);
        out->items[out->count++] = (uint32_t)n;
        if (*end == '\0') return CLI_GO_ON;
        at = end + 1;
    }
}

/* Ids that any vocabulary has; their order decides nothing but which experts are chosen. */
static void fill_ids(int32_t *ids, size_t count, uint32_t vocab) {
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        ids[i] = (int32_t)((state >> 8) % vocab);
    }
}

/* `count` ids at once or one by one. */
static int evaluate(ferrum_session *session, const int32_t *ids, size_t count, bool at_once, ferrum_error *err) {
    if (cli_interrupted()) return FERRUM_ECANCELED;
    if (at_once) return ferrum_session_append(session, ids, count, err);
    for (size_t i = 0; i < count; i++) {
        int rc = ferrum_session_append(session, ids + i, 1, err);
        if (rc) return rc;
    }
    return 0;
}

static int measure(ferrum_session *session, const int32_t *ids, uint32_t repetitions, result *r, ferrum_error *err) {
    size_t count = r->prompt ? r->prompt : r->generate;
    double sum = 0, squares = 0;
    int rc = r->depth ? evaluate(session, ids, r->depth, true, err) : 0;
    for (uint32_t i = 0; i <= repetitions && !rc; i++) {
        size_t now = i || r->prompt ? count : 1; /* the first warms up */
        double start = cli_now();
        rc = evaluate(session, ids + r->depth, now, r->prompt > 0, err);
        double rate = (double)now / (cli_now() - start);
        if (!rc) rc = ferrum_session_truncate(session, r->depth, err);
        if (i == 0) continue;
        sum += rate;
        squares += rate * rate;
    }
    r->mean = sum / repetitions;
    double variance = repetitions > 1 ? (squares - sum * r->mean) / (repetitions - 1) : 0;
    r->deviation = variance > 0 ? sqrt(variance) : 0;
    return rc;
}

/* One by one, each token reads the weights; of a prompt, each multiplies with them. */
static void compare_with_limit(const bench *b, result *r) {
    if (r->prompt && b->limits.multiply_ops > 0 && b->info.expert_count == 0)
        r->limit = b->limits.multiply_ops /
                   (2 * (double)(b->info.parameters - (uint64_t)b->info.vocab_size * b->info.embedding_length));
    if (r->generate && b->limits.read_bytes > 0) r->limit = b->limits.read_bytes / (double)b->info.token_bytes;
    if (r->limit > 0) r->share = r->mean / r->limit;
}

static void test_name(char *out, size_t size, const result *r) {
    char depth[32] = "";
    if (r->depth) snprintf(depth, sizeof depth, " @ d%u", r->depth);
    snprintf(out, size, "%s%u%s", r->prompt ? "pp" : "tg", r->prompt ? r->prompt : r->generate, depth);
}

static void print_md(bench *b, const result *r) {
    char test[64], limit[64] = "";
    test_name(test, sizeof test, r);
    if (b->first)
        printf("| model | size | params | device | test | t/s | limit t/s | share |\n"
               "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |\n");
    if (r->limit > 0) snprintf(limit, sizeof limit, " %.1f | %.0f %% |", r->limit, 100 * r->share);
    printf("| %s | %s | %.2f B | %s | %s | %.2f ± %.2f |%s\n", b->info.name, cli_bytes(b->info.weight_bytes),
           (double)b->info.parameters * 1e-9, b->info.device, test, r->mean, r->deviation, limit[0] ? limit : " | |");
}

static void print_csv(bench *b, const result *r) {
    if (b->first)
        printf("model_type,model_size,model_n_params,device,n_prompt,n_gen,n_depth,avg_ts,stddev_ts,limit_ts,"
               "read_bytes_per_second,multiply_ops_per_second\n");
    printf("\"%s\",%llu,%llu,\"%s\",%u,%u,%u,%.6g,%.6g,%.6g,%.6g,%.6g\n", b->info.name,
           (unsigned long long)b->info.weight_bytes, (unsigned long long)b->info.parameters, b->info.device, r->prompt,
           r->generate, r->depth, r->mean, r->deviation, r->limit, b->limits.read_bytes, b->limits.multiply_ops);
}

static void add_json(bench *b, const result *r) {
    json_t *o = json_pack("{ss sI sI sI ss sI sI sI sf sf sf sf sf}", "model_type", b->info.name, "model_size",
                          (json_int_t)b->info.weight_bytes, "model_n_params", (json_int_t)b->info.parameters,
                          "token_bytes", (json_int_t)b->info.token_bytes, "device", b->info.device, "n_prompt",
                          (json_int_t)r->prompt, "n_gen", (json_int_t)r->generate, "n_depth", (json_int_t)r->depth,
                          "avg_ts", r->mean, "stddev_ts", r->deviation, "limit_ts", r->limit, "read_bytes_per_second",
                          b->limits.read_bytes, "multiply_ops_per_second", b->limits.multiply_ops);
    json_array_append_new(b->list, o);
}

static void print(bench *b, const result *r) {
    const char *output = b->o->output ? b->o->output : outputs[0];
    if (strcmp(output, "json") == 0)
        add_json(b, r);
    else if (strcmp(output, "csv") == 0)
        print_csv(b, r);
    else
        print_md(b, r);
    fflush(stdout);
    b->first = false;
}

static int one(bench *b, uint32_t prompt, uint32_t generate, uint32_t depth) {
    result r = {.prompt = prompt, .generate = generate, .depth = depth};
    size_t count = (size_t)depth + prompt + generate;
    ferrum_session_options session_options;
    ferrum_session_options_init(&session_options);
    session_options.context = (uint32_t)count;
    session_options.kv = cli_kv(&b->o->model);
    ferrum_session *session = NULL;
    ferrum_error err;
    int32_t *ids = malloc(count * sizeof *ids);
    if (!ids) return cli_fail(CLI_FAILED, "out of memory for %zu ids", count);
    fill_ids(ids, count, b->info.vocab_size);
    int rc = ferrum_session_open(&session, b->model, &session_options, &err);
    cli_interrupt_watch(session);
    if (!rc) rc = measure(session, ids, b->o->repetitions ? b->o->repetitions : 5, &r, &err);
    cli_interrupt_watch(NULL);
    ferrum_session_close(session);
    free(ids);
    if (rc == FERRUM_ECANCELED || cli_interrupted()) return CLI_INTERRUPTED;
    if (rc) return cli_fail_library(&err);
    compare_with_limit(b, &r);
    print(b, &r);
    return CLI_GO_ON;
}

static int all(bench *b, const sizes *prompts, const sizes *answers, const sizes *depths) {
    int status = CLI_GO_ON;
    for (size_t d = 0; d < depths->count && status == CLI_GO_ON; d++) {
        for (size_t i = 0; i < prompts->count && status == CLI_GO_ON; i++)
            if (prompts->items[i]) status = one(b, prompts->items[i], 0, depths->items[d]);
        for (size_t i = 0; i < answers->count && status == CLI_GO_ON; i++)
            if (answers->items[i]) status = one(b, 0, answers->items[i], depths->items[d]);
    }
    return status == CLI_GO_ON ? CLI_OK : status;
}

static void tell_limits(const bench *b) {
    if (b->limits.read_bytes > 0)
        cli_note("memory gives %.1f GB/s, the multipliers %.2f TOPS; a token reads %s of weights",
                 b->limits.read_bytes * 1e-9, b->limits.multiply_ops * 1e-12, cli_bytes(b->info.token_bytes));
}

static int bench_main(int argc, char **argv) {
    bench_options o = {0};
    cli_args args = {0};
    sizes prompts, answers, depths;
    int status = cli_parse(&cli_bench_command, argc, argv, &o, &args);
    if (status == CLI_GO_ON) status = parse_sizes("n-prompt", o.prompt ? o.prompt : "512", &prompts);
    if (status == CLI_GO_ON) status = parse_sizes("n-gen", o.generate ? o.generate : "128", &answers);
    if (status == CLI_GO_ON) status = parse_sizes("n-depth", o.depth ? o.depth : "0", &depths);
    if (status != CLI_GO_ON) return status;
    bench b = {.o = &o, .list = json_array(), .first = true};
    double seconds;
    status = cli_model_open(&b.model, args.items[0], &o.model, &seconds);
    if (status == CLI_GO_ON) {
        ferrum_model_get_info(b.model, &b.info);
        ferrum_error err; /* a device without limits is measured all the same */
        if (ferrum_device_measure(ferrum_model_device(b.model), &b.limits, &err) == 0) tell_limits(&b);
        status = all(&b, &prompts, &answers, &depths);
        ferrum_model_close(b.model);
        if (status == CLI_OK && o.output && strcmp(o.output, "json") == 0) return cli_print_json(b.list, 9);
    }
    json_decref(b.list);
    return status;
}

const cli_command cli_bench_command = {
    .name = "bench",
    .arguments = "MODEL",
    .about = "Measures a model's speed beside the machine's limits.",
    .details = "Each test is run once to warm up, then --repetitions times: tokens/s, mean ±\n"
               "standard deviation. pp512 is a prompt of 512 tokens, tg128 an answer of 128, \"@\n"
               "d4096\" behind 4,096 tokens. The limits are measured in the same run with the same\n"
               "threads: an answer can be no faster than memory gives the weights, a prompt than\n"
               "the multipliers take them (attention and the output not counted).\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .main = bench_main,
};
