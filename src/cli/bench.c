/* ferrum bench: how fast a model runs here, beside what the machine's memory and multipliers give in the same run.
 * Field names are llama-bench's where they mean the same. */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 1 << 24, MOST_CLIENTS = 1024 };

/* What a model alone takes stands before `prompt`, what a server alone takes from `server` on. */
typedef struct bench_options {
    cli_model_options model;
    const char *shape;
    uint32_t repetitions;
    bool estimate;
    const char *prompt, *generate, *depth, *parallel, *output;
    bench_server_options server;
} bench_options;

#define AT(field) offsetof(bench_options, field)

static const char *const outputs[] = {"md", "csv", "json", NULL};

static const cli_option options[] = {
    CLI_OPTION("n-prompt", 'p', CLI_STRING, AT(prompt), "N,…", "prompts of so many tokens; default 512; 0: none"),
    CLI_OPTION("n-gen", 'n', CLI_STRING, AT(generate), "N,…", "answers of so many tokens; default 128; 0: none"),
    CLI_OPTION("n-depth", 'd', CLI_STRING, AT(depth), "N,…",
               "each behind so many tokens that are in the KV cache already; default 0"),
    CLI_OPTION(
        "n-parallel", 'b', CLI_STRING, AT(parallel), "N,…",
        "answers of so many sequences together, in one batch; default 1; of a server, of so many clients, default "
        "1,2,4,8"),
    CLI_OPTION("repetitions", 'r', CLI_COUNT, AT(repetitions), "N", "of each; default 5", .min = 1, .max = 1000),
    CLI_OPTION("output", 'o', CLI_STRING, AT(output), "FORMAT", "md (default), csv or json", .choices = outputs),
    CLI_OPTION(
        "shape", 0, CLI_STRING, AT(shape), "NAME[:QUANT]",
        "in place of MODEL: a published model's shape, with made-up weights and no file; QUANT is q4_k_m (default), "
        "q8_0, f16 or another; the NAME list prints all"),
    CLI_OPTION("estimate", 0, CLI_FLAG, AT(estimate), NULL,
               "run nothing: tell what the tests take of memory, and the tokens/s that the limits allow"),
    CLI_MODEL_OPTIONS(bench_options, model),
    CLI_OPTION("server", 0, CLI_STRING, AT(server.url), "URL",
               "in place of MODEL: a server with OpenAI's API, as http://127.0.0.1:8080; the options below are for it"),
    CLI_OPTION(
        "rate", 0, CLI_STRING, AT(server.rates), "R,…",
        "requests that come at random, so many a second (Poisson), however many are under way; with it -b has no "
        "default"),
    CLI_OPTION("requests", 0, CLI_COUNT, AT(server.requests), "N", "of each test; default: 4 a client, and 16 at least",
               .min = 1, .max = 1000000),
    CLI_OPTION("api-key", 0, CLI_STRING, AT(server.key), "KEY", "default: OPENAI_API_KEY, or none"),
    CLI_OPTION("model", 0, CLI_STRING, AT(server.model), "NAME",
               "what requests name; default: the first model of the server's list"),
    CLI_OPTION("completions", 0, CLI_FLAG, AT(server.completions), NULL,
               "ask /v1/completions in place of /v1/chat/completions"),
    CLI_OPTION("ignore-end", 0, CLI_FLAG, AT(server.ignore_end), NULL,
               "ask for answers of full length (ignore_eos), of servers that know this"),
    CLI_OPTION("slo-ttft", 0, CLI_NUMBER, AT(server.ttft), "MS", "a limit of goodput: milliseconds to the first token",
               .min = 0, .max = INFINITY, .above_min = true),
    CLI_OPTION("slo-tbt", 0, CLI_NUMBER, AT(server.tbt), "MS",
               "the same: milliseconds between tokens, the mean of an answer", .min = 0, .max = INFINITY,
               .above_min = true),
    CLI_OPTION("timeout", 0, CLI_NUMBER, AT(server.timeout), "S", "for one answer; default 600 seconds", .min = 0,
               .max = 86400, .above_min = true),
    CLI_OPTION("seed", 0, CLI_SEED, AT(server.seed), "N",
               "the same seed gives the same prompts and times; default: a random one, so that no prompt is cached"),
    {0},
};

/* One line of the table. */
typedef struct result {
    uint32_t prompt, generate, depth; /* one of the first two is 0 */
    uint32_t parallel;                /* sequences */
    double mean, deviation;           /* tokens/s, of all sequences */
    double limit, share;              /* tokens/s that the machine's limits allow, and the part of it; 0: unknown */
    ferrum_memory memory;             /* that it takes */
} result;

typedef struct bench {
    const bench_options *o;
    bench_sizes prompts, answers, depths, parallel;
    ferrum_model *model;
    cli_shape shape;    /* the model is this one's, where one was asked for */
    uint64_t available; /* bytes of memory; UINT64_MAX: unknown */
    ferrum_model_info info;
    ferrum_device_limits limits;
    json_t *list; /* of JSON objects */
    bool first;
} bench;

int bench_parse_sizes(const char *name, const char *text, uint32_t max, bench_sizes *out) {
    out->count = 0;
    for (const char *at = text;;) {
        char *end;
        errno = 0;
        unsigned long n = strtoul(at, &end, 10);
        if (*at < '0' || *at > '9' || errno != 0 || n > max || (*end != ',' && *end != '\0'))
            return cli_fail(CLI_USAGE, "--%s is %s; it must be whole numbers up to %u, separated by commas", name, text,
                            max);
        if (out->count == BENCH_SIZES)
            return cli_fail(CLI_USAGE, "--%s has more than %d numbers", name, (int)BENCH_SIZES);
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

static int sequences_open(sequences *q, const bench *b, uint32_t count, uint32_t context, ferrum_error *err) {
    ferrum_session_options session_options;
    ferrum_session_options_init(&session_options);
    session_options.kv = cli_kv(&b->o->model);
    session_options.context = context;
    q->sessions = calloc(count, sizeof(ferrum_session *));
    if (!q->sessions) {
        snprintf(err->message, sizeof err->message, "out of memory for %u sessions", count);
        return err->code = FERRUM_ENOMEM;
    }
    int rc = count > 1 ? ferrum_batch_open(&q->batch, b->model, NULL, err) : 0;
    session_options.batch = q->batch;
    for (; q->count < count && !rc; q->count += !rc)
        rc = ferrum_session_open(&q->sessions[q->count], b->model, &session_options, err);
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

/* One by one, each token reads the weights; of a prompt, each multiplies with them; of sequences together, both, and experts
 * are read as if all chose the same. */
static void compare_with_limit(const bench *b, result *r) {
    double multiply = b->limits.multiply_ops / (2 * (double)b->info.prompt_parameters);
    double read = b->limits.read_bytes / (double)b->info.token_bytes * r->parallel;
    r->limit = r->prompt ? multiply : r->parallel == 1 ? read : fmin(read, multiply);
    if (r->limit > 0) r->share = r->mean / r->limit;
}

static void test_name(char *out, size_t size, const result *r) {
    char depth[32] = "", parallel[32] = "";
    if (r->parallel > 1) snprintf(parallel, sizeof parallel, " x %u", r->parallel);
    if (r->depth) snprintf(depth, sizeof depth, " @ d%u", r->depth);
    snprintf(out, size, "%s%u%s%s", r->prompt ? "pp" : "tg", r->prompt ? r->prompt : r->generate, parallel, depth);
}

static uint64_t all_bytes(const result *r) { return r->memory.mapped + r->memory.kv + r->memory.scratch; }
static bool fits(const bench *b, const result *r) { return all_bytes(r) <= b->available; }

static void print_md(const bench *b, const result *r) {
    char test[64], limit[64] = "";
    test_name(test, sizeof test, r);
    if (b->first)
        printf("| model | size | params | device | test | t/s | limit t/s | share |\n"
               "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |\n");
    if (r->limit > 0) snprintf(limit, sizeof limit, " %.1f | %.0f %% |", r->limit, 100 * r->share);
    printf("| %s | %s | %.2f B | %s | %s | %.2f ± %.2f |%s\n", b->info.name, cli_bytes(b->info.weight_bytes),
           (double)b->info.parameters * 1e-9, b->info.device, test, r->mean, r->deviation, limit[0] ? limit : " | |");
}

static void print_md_estimate(const bench *b, const result *r) {
    char test[64], limit[32] = "";
    test_name(test, sizeof test, r);
    if (b->first)
        printf("| model | params | test | weights | KV cache | scratch | available | fits | limit t/s |\n"
               "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |\n");
    if (r->limit > 0) snprintf(limit, sizeof limit, "%.2f", r->limit);
    printf("| %s | %.2f B | %s | %s | %s | %s |", b->info.name, (double)b->info.parameters * 1e-9, test,
           cli_bytes(r->memory.mapped), cli_bytes(r->memory.kv), cli_bytes(r->memory.scratch));
    printf(" %s | %s | %s |\n", b->available < UINT64_MAX ? cli_bytes(b->available) : "?", fits(b, r) ? "yes" : "no",
           limit);
}

static json_t *json_available(const bench *b) {
    return b->available < UINT64_MAX ? json_integer((json_int_t)b->available) : json_null();
}

/* What JSON and CSV tell of a result, in order. */
static json_t *describe(const bench *b, const result *r) {
    json_t *o =
        json_pack("{ss sI sI sI sI ss sI sI sI sI}", "model_type", b->info.name, "model_size",
                  (json_int_t)b->info.weight_bytes, "model_n_params", (json_int_t)b->info.parameters, "token_bytes",
                  (json_int_t)b->info.token_bytes, "prompt_parameters", (json_int_t)b->info.prompt_parameters, "device",
                  b->info.device, "n_prompt", (json_int_t)r->prompt, "n_gen", (json_int_t)r->generate, "n_depth",
                  (json_int_t)r->depth, "n_parallel", (json_int_t)r->parallel);
    json_t *outcome = b->o->estimate
                          ? json_pack("{sI sI sI so sb}", "mapped_bytes", (json_int_t)r->memory.mapped, "kv_bytes",
                                      (json_int_t)r->memory.kv, "scratch_bytes", (json_int_t)r->memory.scratch,
                                      "available_bytes", json_available(b), "fits", (int)fits(b, r))
                          : json_pack("{sf sf}", "avg_ts", r->mean, "stddev_ts", r->deviation);
    json_t *machine = json_pack("{sf sf sf}", "limit_ts", r->limit, "read_bytes_per_second", b->limits.read_bytes,
                                "multiply_ops_per_second", b->limits.multiply_ops);
    json_object_update(o, outcome);
    json_object_update(o, machine);
    json_decref(outcome);
    json_decref(machine);
    return o;
}

static void print_csv_value(const json_t *value) {
    if (json_is_string(value))
        printf("\"%s\"", json_string_value(value));
    else if (json_is_real(value))
        printf("%.6g", json_real_value(value));
    else if (!json_is_null(value))
        printf("%lld", (long long)(json_is_boolean(value) ? json_is_true(value) : json_integer_value(value)));
}

void bench_print_csv(json_t *row, bool first) {
    const char *key;
    json_t *value;
    const char *separator = "";
    json_object_foreach(row, key, value) {
        if (first) printf("%s%s", separator, key);
        separator = ",";
    }
    if (first) putchar('\n');
    separator = "";
    json_object_foreach(row, key, value) {
        fputs(separator, stdout);
        print_csv_value(value);
        separator = ",";
    }
    putchar('\n');
}

static int print(bench *b, const result *r) {
    const char *output = b->o->output ? b->o->output : outputs[0];
    if (strcmp(output, "json") == 0) {
        json_array_append_new(b->list, describe(b, r));
    } else if (strcmp(output, "csv") == 0) {
        json_t *o = describe(b, r);
        bench_print_csv(o, b->first);
        json_decref(o);
    } else if (b->o->estimate) {
        print_md_estimate(b, r);
    } else {
        print_md(b, r);
    }
    b->first = false;
    return fflush(stdout) == 0 ? CLI_GO_ON : cli_fail_stdout();
}

/* ---- Running ----------------------------------------------------------------------------------------------------- */

static uint32_t positions(const result *r) { return r->depth + r->prompt + r->generate; }

static int run(const bench *b, result *r) {
    size_t count = positions(r);
    sequences q = {0};
    ferrum_error err;
    int32_t *ids = malloc(count * sizeof *ids);
    if (!ids) return cli_fail(CLI_FAILED, "out of memory for %zu ids", count);
    fill_ids(ids, count, b->info.vocab_size);
    int rc = sequences_open(&q, b, r->parallel, (uint32_t)count, &err);
    if (!q.batch && !rc) cli_interrupt_watch(q.sessions[0]);
    if (!rc) rc = measure(&q, ids, b->o->repetitions ? b->o->repetitions : 5, r, &err);
    cli_interrupt_watch(NULL);
    sequences_close(&q);
    free(ids);
    if (rc == FERRUM_ECANCELED || cli_interrupted()) return CLI_INTERRUPTED;
    return rc ? cli_fail_library(&err) : CLI_GO_ON;
}

typedef int (*test_fn)(bench *b, result *r);

static int test(bench *b, result *r) {
    int status = b->o->estimate ? CLI_GO_ON : run(b, r);
    if (status != CLI_GO_ON) return status;
    compare_with_limit(b, r);
    return print(b, r);
}

/* A made-up model takes its memory for good, so it is not begun where it cannot be had; a file's comes and goes. */
static int check_fit(bench *b, result *r) {
    if (fits(b, r)) return CLI_GO_ON;
    return cli_fail(
        CLI_FAILED,
        "%s does not fit: its weights take %s, the KV cache of %u tokens %s and scratch %s, and %s of memory "
        "are available",
        b->info.name, cli_bytes(r->memory.mapped), positions(r), cli_bytes(r->memory.kv), cli_bytes(r->memory.scratch),
        cli_bytes(b->available));
}

/* Each sequence has a cache of its own, and a batch's a row of logits; the scratch is shared, and goes by the batch. */
static ferrum_memory memory_of(const bench *b, const result *r) {
    ferrum_memory memory, shared;
    ferrum_batch_options batch;
    ferrum_batch_options_init(&batch);
    ferrum_model_memory(b->model, positions(r), cli_kv(&b->o->model), &memory);
    if (r->parallel == 1) return memory;
    ferrum_model_memory(b->model, batch.rows, cli_kv(&b->o->model), &shared);
    memory.kv *= r->parallel;
    memory.scratch = shared.scratch + (uint64_t)r->parallel * b->info.vocab_size * sizeof(float);
    return memory;
}

static int one(bench *b, test_fn fn, uint32_t prompt, uint32_t generate, uint32_t depth, uint32_t parallel) {
    result r = {.prompt = prompt, .generate = generate, .depth = depth, .parallel = parallel};
    if (prompt + generate == 0) return CLI_GO_ON;
    r.memory = memory_of(b, &r);
    return fn(b, &r);
}

static int all(bench *b, test_fn fn) {
    int status = CLI_GO_ON;
    for (size_t d = 0; d < b->depths.count; d++) {
        for (size_t i = 0; i < b->prompts.count && status == CLI_GO_ON; i++)
            status = one(b, fn, b->prompts.items[i], 0, b->depths.items[d], 1);
        for (size_t i = 0; i < b->answers.count && status == CLI_GO_ON; i++)
            for (size_t p = 0; p < b->parallel.count && status == CLI_GO_ON; p++)
                status = one(b, fn, 0, b->answers.items[i], b->depths.items[d], b->parallel.items[p]);
    }
    return status;
}

static void tell_limits(const bench *b) {
    if (b->limits.read_bytes > 0)
        cli_note("memory gives %.1f GB/s, the multipliers %.2f TOPS; a token reads %s of weights",
                 b->limits.read_bytes * 1e-9, b->limits.multiply_ops * 1e-12, cli_bytes(b->info.token_bytes));
}

static int parse_tests(const bench_options *o, bench_sizes *prompts, bench_sizes *answers, bench_sizes *depths) {
    int status = bench_parse_sizes("n-prompt", o->prompt ? o->prompt : "512", MOST_TOKENS, prompts);
    if (status == CLI_GO_ON)
        status = bench_parse_sizes("n-gen", o->generate ? o->generate : "128", MOST_TOKENS, answers);
    if (status == CLI_GO_ON) status = bench_parse_sizes("n-depth", o->depth ? o->depth : "0", MOST_TOKENS, depths);
    return status;
}

static bool is_given(const bench_options *o, const cli_option *option) {
    static const size_t sizes[] = {
        [CLI_FLAG] = sizeof(bool),    [CLI_COUNT] = sizeof(uint32_t), [CLI_SEED] = sizeof(bool),
        [CLI_NUMBER] = sizeof(float), [CLI_STRING] = sizeof(char *),  [CLI_STRINGS] = sizeof(cli_strings)};
    static const char nothing[sizeof(cli_strings)];
    return memcmp((const char *)o + option->offset, nothing, sizes[option->kind]) != 0;
}

static int check_options(const bench_options *o) {
    for (const cli_option *option = options; option->name; option++) {
        bool useless = o->server.url ? option->offset < AT(prompt) : option->offset >= AT(server);
        if (useless && is_given(o, option))
            return cli_fail(CLI_USAGE, "--%s has no use %s --server", option->name, o->server.url ? "with" : "without");
    }
    return CLI_GO_ON;
}

static int parse(bench *b, bench_options *o, int argc, char **argv, const char **model) {
    cli_args args = {0};
    int status = cli_parse(&cli_bench_command, argc, argv, o, &args);
    if (status != CLI_GO_ON) return status;
    if (o->shape && strcmp(o->shape, "list") == 0) return cli_shape_list(), CLI_OK;
    status = check_options(o);
    if (status != CLI_GO_ON) return status;
    const char *other = o->server.url ? "--server" : o->shape ? "--shape" : NULL;
    if (args.count && other) return cli_fail(CLI_USAGE, "%s is given beside MODEL %s", other, args.items[0]);
    if (!args.count && !other)
        return cli_fail(CLI_USAGE, "an argument is missing (usage: ferrum bench [OPTION]... MODEL, or --shape NAME, or "
                                   "--server URL)");
    *model = args.count ? args.items[0] : NULL;
    return parse_tests(o, &b->prompts, &b->answers, &b->depths);
}

static int check_sizes(const char *name, const bench_sizes *s, const char *what) {
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i] == 0) return cli_fail(CLI_USAGE, "--%s is 0, which no %s can be", name, what);
    return CLI_GO_ON;
}

/* ---- A server -------------------------------------------------------------------------------------------------------- */

static int bench_a_server(const bench *b, bench_options *o) {
    bench_server_plan plan = {.o = &o->server, .prompts = b->prompts, .answers = b->answers, .depths = b->depths};
    const char *parallel = o->parallel ? o->parallel : o->server.rates ? NULL : "1,2,4,8";
    const char *request = "request to a server";
    int status = parallel ? bench_parse_sizes("n-parallel", parallel, MOST_CLIENTS, &plan.parallel) : CLI_GO_ON;
    if (status == CLI_GO_ON) status = check_sizes("n-prompt", &plan.prompts, request);
    if (status == CLI_GO_ON) status = check_sizes("n-gen", &plan.answers, request);
    if (status == CLI_GO_ON) status = check_sizes("n-parallel", &plan.parallel, request);
    if (status != CLI_GO_ON) return status;
    plan.output = o->output ? o->output : outputs[0];
    if (o->server.timeout <= 0) o->server.timeout = 600;
    return bench_server(&plan);
}

/* ---- The command ----------------------------------------------------------------------------------------------------- */

static bool all_zero(const bench_sizes *s) {
    size_t i = 0;
    while (i < s->count && s->items[i] == 0) i++;
    return i == s->count;
}

static int check_model_tests(bench *b) {
    int status = bench_parse_sizes("n-parallel", b->o->parallel ? b->o->parallel : "1", MOST_TOKENS, &b->parallel);
    if (status == CLI_GO_ON) status = check_sizes("n-parallel", &b->parallel, "batch");
    if (status == CLI_GO_ON && all_zero(&b->prompts) && all_zero(&b->answers))
        return cli_fail(CLI_USAGE, "there is nothing to measure: --n-prompt and --n-gen are 0");
    return status;
}

static int open_model(bench *b, const char *model) {
    double seconds;
    if (!b->o->shape) return cli_model_open(&b->model, model, &b->o->model, &seconds);
    int status = cli_shape_open(&b->shape, b->o->shape, &b->o->model);
    b->model = b->shape.model;
    return status;
}

static void close_model(bench *b) {
    if (b->shape.model)
        cli_shape_close(&b->shape);
    else
        ferrum_model_close(b->model);
}

static uint64_t mapped_bytes(const bench *b) {
    ferrum_memory memory;
    ferrum_model_memory(b->model, 1, cli_kv(&b->o->model), &memory);
    return memory.mapped;
}

static int bench_model(bench *b) {
    ferrum_error err; /* a device without limits is measured all the same */
    int status = CLI_GO_ON;
    ferrum_model_get_info(b->model, &b->info);
    uint64_t left = ferrum_device_memory_left(ferrum_model_device(b->model));
    b->available =
        left == UINT64_MAX ? cli_memory_available() : left + mapped_bytes(b); /* they have their place already */
    if (b->shape.model && !b->o->estimate) status = all(b, check_fit);
    if (status != CLI_GO_ON) return status;
    if (ferrum_device_measure(ferrum_model_device(b->model), &b->limits, &err) == 0) tell_limits(b);
    if (b->shape.model && !b->o->estimate) cli_shape_fill(&b->shape);
    return all(b, test);
}

static int bench_main(int argc, char **argv) {
    bench_options o = {0};
    bench b = {.o = &o, .first = true};
    const char *model = NULL;
    int status = parse(&b, &o, argc, argv, &model);
    if (status != CLI_GO_ON) return status;
    if (o.server.url) return bench_a_server(&b, &o);
    status = check_model_tests(&b);
    if (status == CLI_GO_ON) status = open_model(&b, model);
    if (status != CLI_GO_ON) return status;
    b.list = json_array();
    status = bench_model(&b);
    close_model(&b);
    if (status == CLI_GO_ON && o.output && strcmp(o.output, "json") == 0) return cli_print_json(b.list, 9);
    json_decref(b.list);
    return status == CLI_GO_ON ? CLI_OK : status;
}

const cli_command cli_bench_command = {
    .name = "bench",
    .arguments = "MODEL",
    .about = "Measures a model's speed beside the machine's limits, or a server's under load.",
    .details = "Each test is run once to warm up, then --repetitions times: tokens/s, mean ±\n"
               "standard deviation. pp512 is a prompt of 512 tokens, tg128 an answer of 128, \"x\n"
               "8\" of 8 sequences together, counted in one, \"@ d4096\" behind 4,096 tokens. The\n"
               "limits are measured in the same run with the same threads: an answer can be no\n"
               "faster than memory gives the weights, a prompt than the multipliers take them\n"
               "(attention and the output not counted, and of experts those that a token uses),\n"
               "several sequences than both.\n"
               "\n"
               "--shape answers what a model would do here before it is downloaded, and whether\n"
               "it fits: ferrum bench --shape qwen3-8b, llama-3.2-1b:q8_0, … Its weights are\n"
               "noise in memory, of the types that published files have; with --estimate they\n"
               "take none.\n"
               "\n"
               "--server measures any server with OpenAI's API, streaming: -p tokens of made-up\n"
               "words, all different, behind -d that all begin with, answered with -n tokens at\n"
               "most. \"x 8\" are 8 clients, each of which sends its next request when the last is\n"
               "answered; \"2/s\" requests come at random times. Times count from when a request\n"
               "ought to have been sent: to its first token, between two pieces of its text, and\n"
               "to its end. What failed is told by kind, and the status is then 1.\n",
    .options = options,
    .min_args = 0,
    .max_args = 1,
    .main = bench_main,
};
