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
    const char *prompt, *generate, *depth, *parallel, *output;
    uint32_t repetitions;
} bench_options;

#define AT(field) offsetof(bench_options, field)

static const char *const outputs[] = {"md", "csv", "json", NULL};

static const cli_option options[] = {
    CLI_OPTION("n-prompt", 'p', CLI_STRING, AT(prompt), "N,…", "prompts of so many tokens; default 512; 0: none"),
    CLI_OPTION("n-gen", 'n', CLI_STRING, AT(generate), "N,…", "answers of so many tokens; default 128; 0: none"),
    CLI_OPTION("n-depth", 'd', CLI_STRING, AT(depth), "N,…",
               "each behind so many tokens that are in the KV cache already; default 0"),
    CLI_OPTION("n-parallel", 'b', CLI_STRING, AT(parallel), "N,…",
               "answers of so many sequences together, in one batch; default 1"),
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
    uint32_t parallel;                /* sequences */
    double mean, deviation;           /* tokens/s, of all sequences */
    double limit, share;              /* tokens/s that the machine's limits allow, and the part of it; 0: unknown */
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

/* Sequences that go on together: one session by itself, or several in a batch. */
typedef struct sequences {
    ferrum_batch *batch; /* NULL: one session */
    ferrum_session **sessions;
    uint32_t count;
} sequences;

static int sequences_open(sequences *q, const ferrum_model *model, uint32_t count, uint32_t context,
                          ferrum_error *err) {
    ferrum_session_options session_options;
    ferrum_session_options_init(&session_options);
    session_options.context = context;
    q->sessions = calloc(count, sizeof(ferrum_session *));
    if (!q->sessions) {
        snprintf(err->message, sizeof err->message, "out of memory for %u sessions", count);
        return err->code = FERRUM_ENOMEM;
    }
    int rc = count > 1 ? ferrum_batch_open(&q->batch, model, NULL, err) : 0;
    session_options.batch = q->batch;
    for (; q->count < count && !rc; q->count += !rc)
        rc = ferrum_session_open(&q->sessions[q->count], model, &session_options, err);
    return rc;
}

static void sequences_close(sequences *q) {
    for (uint32_t i = 0; i < q->count; i++) ferrum_session_close(q->sessions[i]);
    ferrum_batch_close(q->batch);
    free(q->sessions);
}

static int truncate_all(const sequences *q, size_t count, ferrum_error *err) {
    int rc = 0;
    for (uint32_t i = 0; i < q->count && !rc; i++) rc = ferrum_session_truncate(q->sessions[i], count, err);
    return rc;
}

/* The same ids to each. */
static int append_all(const sequences *q, const int32_t *ids, size_t count, ferrum_error *err) {
    int rc = 0;
    for (uint32_t i = 0; i < q->count && !rc; i++) rc = ferrum_session_append(q->sessions[i], ids, count, err);
    for (int got = 1; q->batch && got > 0 && !rc;) {
        if (cli_interrupted()) return FERRUM_ECANCELED;
        got = ferrum_batch_step(q->batch, q->sessions, q->count, err);
        if (got < 0) rc = got;
    }
    return rc;
}

/* `count` ids at once or one by one. */
static int evaluate(const sequences *q, const int32_t *ids, size_t count, bool at_once, ferrum_error *err) {
    if (cli_interrupted()) return FERRUM_ECANCELED;
    if (at_once) return append_all(q, ids, count, err);
    for (size_t i = 0; i < count; i++) {
        int rc = append_all(q, ids + i, 1, err);
        if (rc) return rc;
    }
    return 0;
}

static int measure(const sequences *q, const int32_t *ids, uint32_t repetitions, result *r, ferrum_error *err) {
    size_t count = r->prompt ? r->prompt : r->generate;
    double sum = 0, squares = 0;
    int rc = r->depth ? evaluate(q, ids, r->depth, true, err) : 0;
    for (uint32_t i = 0; i <= repetitions && !rc; i++) {
        size_t now = i || r->prompt ? count : 1; /* the first warms up */
        double start = cli_now();
        rc = evaluate(q, ids + r->depth, now, r->prompt > 0, err);
        double rate = (double)now * q->count / (cli_now() - start);
        if (!rc) rc = truncate_all(q, r->depth, err);
        if (i == 0) continue;
        sum += rate;
        squares += rate * rate;
    }
    r->mean = sum / repetitions;
    double variance = repetitions > 1 ? (squares - sum * r->mean) / (repetitions - 1) : 0;
    r->deviation = variance > 0 ? sqrt(variance) : 0;
    return rc;
}

/* Tokens/s that the multipliers allow, the output not counted. */
static double multiply_limit(const bench *b) {
    return b->limits.multiply_ops /
           (2 * (double)(b->info.parameters - (uint64_t)b->info.vocab_size * b->info.embedding_length));
}

/* One by one, each token reads the weights; of a prompt, each multiplies with them; of sequences together, both. How many
 * experts several tokens choose is unknown. */
static void compare_with_limit(const bench *b, result *r) {
    bool one_by_one = r->generate && r->parallel == 1;
    if (b->info.expert_count && !one_by_one) return;
    if (r->generate) r->limit = b->limits.read_bytes / (double)b->info.token_bytes * r->parallel;
    if (r->prompt) r->limit = multiply_limit(b);
    if (r->parallel > 1) r->limit = fmin(r->limit, multiply_limit(b));
    if (r->limit > 0) r->share = r->mean / r->limit;
}

static void test_name(char *out, size_t size, const result *r) {
    char depth[32] = "", parallel[32] = "";
    if (r->parallel > 1) snprintf(parallel, sizeof parallel, " x %u", r->parallel);
    if (r->depth) snprintf(depth, sizeof depth, " @ d%u", r->depth);
    snprintf(out, size, "%s%u%s%s", r->prompt ? "pp" : "tg", r->prompt ? r->prompt : r->generate, parallel, depth);
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
        printf(
            "model_type,model_size,model_n_params,device,n_prompt,n_gen,n_depth,n_parallel,avg_ts,stddev_ts,limit_ts,"
            "read_bytes_per_second,multiply_ops_per_second\n");
    printf("\"%s\",%llu,%llu,\"%s\",%u,%u,%u,%u,%.6g,%.6g,%.6g,%.6g,%.6g\n", b->info.name,
           (unsigned long long)b->info.weight_bytes, (unsigned long long)b->info.parameters, b->info.device, r->prompt,
           r->generate, r->depth, r->parallel, r->mean, r->deviation, r->limit, b->limits.read_bytes,
           b->limits.multiply_ops);
}

static void add_json(bench *b, const result *r) {
    json_t *o =
        json_pack("{ss sI sI sI ss sI sI sI sI sf sf sf sf sf}", "model_type", b->info.name, "model_size",
                  (json_int_t)b->info.weight_bytes, "model_n_params", (json_int_t)b->info.parameters, "token_bytes",
                  (json_int_t)b->info.token_bytes, "device", b->info.device, "n_prompt", (json_int_t)r->prompt, "n_gen",
                  (json_int_t)r->generate, "n_depth", (json_int_t)r->depth, "n_parallel", (json_int_t)r->parallel,
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

static int one(bench *b, uint32_t prompt, uint32_t generate, uint32_t depth, uint32_t parallel) {
    result r = {.prompt = prompt, .generate = generate, .depth = depth, .parallel = parallel};
    size_t count = (size_t)depth + prompt + generate;
    sequences q = {0};
    ferrum_error err;
    int32_t *ids = malloc(count * sizeof *ids);
    if (!ids) return cli_fail(CLI_FAILED, "out of memory for %zu ids", count);
    fill_ids(ids, count, b->info.vocab_size);
    int rc = sequences_open(&q, b->model, parallel, (uint32_t)count, &err);
    if (!q.batch && !rc) cli_interrupt_watch(q.sessions[0]);
    if (!rc) rc = measure(&q, ids, b->o->repetitions ? b->o->repetitions : 5, &r, &err);
    cli_interrupt_watch(NULL);
    sequences_close(&q);
    free(ids);
    if (rc == FERRUM_ECANCELED || cli_interrupted()) return CLI_INTERRUPTED;
    if (rc) return cli_fail_library(&err);
    compare_with_limit(b, &r);
    print(b, &r);
    return CLI_GO_ON;
}

static int answers_of(bench *b, const sizes *parallel, uint32_t generate, uint32_t depth) {
    int status = CLI_GO_ON;
    for (size_t i = 0; i < parallel->count && status == CLI_GO_ON; i++)
        if (parallel->items[i]) status = one(b, 0, generate, depth, parallel->items[i]);
    return status;
}

static int all(bench *b, const sizes *prompts, const sizes *answers, const sizes *depths, const sizes *parallel) {
    int status = CLI_GO_ON;
    for (size_t d = 0; d < depths->count && status == CLI_GO_ON; d++) {
        for (size_t i = 0; i < prompts->count && status == CLI_GO_ON; i++)
            if (prompts->items[i]) status = one(b, prompts->items[i], 0, depths->items[d], 1);
        for (size_t i = 0; i < answers->count && status == CLI_GO_ON; i++)
            if (answers->items[i]) status = answers_of(b, parallel, answers->items[i], depths->items[d]);
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
    sizes prompts, answers, depths, parallel;
    int status = cli_parse(&cli_bench_command, argc, argv, &o, &args);
    if (status == CLI_GO_ON) status = parse_sizes("n-prompt", o.prompt ? o.prompt : "512", &prompts);
    if (status == CLI_GO_ON) status = parse_sizes("n-gen", o.generate ? o.generate : "128", &answers);
    if (status == CLI_GO_ON) status = parse_sizes("n-depth", o.depth ? o.depth : "0", &depths);
    if (status == CLI_GO_ON) status = parse_sizes("n-parallel", o.parallel ? o.parallel : "1", &parallel);
    if (status != CLI_GO_ON) return status;
    bench b = {.o = &o, .list = json_array(), .first = true};
    double seconds;
    status = cli_model_open(&b.model, args.items[0], &o.model, &seconds);
    if (status == CLI_GO_ON) {
        ferrum_model_get_info(b.model, &b.info);
        ferrum_error err; /* a device without limits is measured all the same */
        if (ferrum_device_measure(ferrum_model_device(b.model), &b.limits, &err) == 0) tell_limits(&b);
        status = all(&b, &prompts, &answers, &depths, &parallel);
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
               "standard deviation. pp512 is a prompt of 512 tokens, tg128 an answer of 128, \"x\n"
               "8\" of 8 sequences together, counted in one, \"@ d4096\" behind 4,096 tokens. The\n"
               "limits are measured in the same run with the same threads: an answer can be no\n"
               "faster than memory gives the weights, a prompt than the multipliers take them\n"
               "(attention and the output not counted), several sequences than both.\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .main = bench_main,
};
