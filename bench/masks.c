/* MaskBench's measure (guidance-ai/jsonschemabench): what structured output under JSON Schema costs, and whether it is right.
 *
 *     masks FILE.jsonl[.gz] --vocab MODEL.gguf [-j THREADS] [--json] [--cpu] [--verbose] [--only NAME]
 *
 * FILE has an object on each line: name, schema, tests [{valid, data}]. Each instance is written compactly and indented by two
 * spaces and tokenized; for each token the mask of the whole vocabulary is made, the token has to be in it, and the parse goes on
 * by it: these together are a mask's time. At its end an instance that is valid has to be one that may end there; one that is
 * not has to meet a token that the mask lacks, or an end that may not be. The time to the first mask is that of compiling
 * the schema and making the first mask. With -j so many schemas are looked at at once, each by one thread. */
#include "core/json.h"
#include "text/grammar/grow.h"
#include "text/grammar/schema.h"
#include "text/grammar/vocabulary.h"

#include <ferrum/ferrum.h>

#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { THREADS_MOST = 64 };
#define SLOW 1e-3 /* seconds of a mask that --verbose tells of */

typedef struct times {
    double *list; /* microseconds */
    size_t count, capacity;
} times;

typedef struct bench {
    const ferrum_tokenizer *tokenizer;
    fe_tokens *tokens;
    uint64_t *mask;
    times masks, firsts, compiles;
    size_t schemas, compiled, passing, refused, valid_rejected, invalid_accepted;
    double seconds;
    bool verbose, cpu;
} bench;

static void need(int rc, const ferrum_error *err) {
    if (rc == 0) return;
    fprintf(stderr, "masks: %s\n", err->message);
    exit(1);
}

/* Seconds; with --cpu those of the thread's own, for machines that do other things besides. */
static double now(const bench *b) {
    struct timespec t;
    clock_gettime(b->cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void record(times *t, double seconds) {
    if (!fe_grow((void **)&t->list, &t->capacity, t->count + 1, sizeof *t->list)) exit(1);
    t->list[t->count++] = seconds * 1e6;
}

/* ---- Writing instances ------------------------------------------------------------------------------------------- */

static void put_break(fe_text *out, int indent, int depth) {
    if (indent < 0) return;
    fe_text_puts(out, "\n");
    for (int i = 0; i < indent * depth; i++) fe_text_puts(out, " ");
}

/* indent < 0: compact, as json.dumps(v, separators=(",", ":"), ensure_ascii=False) does it. */
static void put_value(fe_text *out, const fe_json *v, int indent, int depth) {
    bool object = v->type == FE_JSON_OBJECT;
    switch (v->type) {
    case FE_JSON_NULL: fe_text_puts(out, "null"); return;
    case FE_JSON_BOOL: fe_text_puts(out, v->truth ? "true" : "false"); return;
    case FE_JSON_NUMBER: fe_text_append(out, v->text, v->len); return;
    case FE_JSON_STRING: fe_json_put_string(out, v->text, v->len, false); return;
    case FE_JSON_ARRAY:
    case FE_JSON_OBJECT: break;
    }
    fe_text_puts(out, object ? "{" : "[");
    for (const fe_json *e = v->first; e; e = e->next) {
        put_break(out, indent, depth + 1);
        if (object) {
            fe_json_put_string(out, e->key, e->key_len, false);
            fe_text_puts(out, indent < 0 ? ":" : ": ");
        }
        put_value(out, e, indent, depth + 1);
        if (e->next) fe_text_puts(out, ",");
    }
    if (v->count) put_break(out, indent, depth);
    fe_text_puts(out, object ? "}" : "]");
}

/* ---- Schemas ----------------------------------------------------------------------------------------------------- */

/* Goes through the instance; *at: the bytes of what was accepted. */
static bool accepts(bench *b, fe_grammar *g, const char *name, const int32_t *ids, size_t count, size_t *at) {
    fe_constraint *c;
    ferrum_error err;
    bool ok = true;
    *at = 0;
    need(fe_constraint_open(&c, g, &err), &err);
    for (size_t i = 0; i <= count && ok; i++) {
        double start = now(b);
        int rc = fe_constraint_mask(c, b->mask, &err);
        uint32_t id = i < count ? (uint32_t)ids[i] : (uint32_t)b->tokens->ends[0];
        ok = !rc && (b->mask[id >> 6] >> (id & 63) & 1);
        int accepted = ok ? fe_constraint_accept(c, id, &err) : FERRUM_EINVAL;
        double seconds = now(b) - start;
        record(&b->masks, seconds);
        if (b->verbose && seconds > SLOW) printf("%s: a mask in %.1f ms, behind %zu bytes\n", name, seconds * 1e3, *at);
        if (rc) fprintf(stderr, "masks: %s\n", err.message);
        if (ok && accepted) {
            fprintf(stderr, "masks: token %u is in the mask of %s and is not accepted: %s\n", id, name, err.message);
            exit(1);
        }
        if (ok && i < count) *at += fe_tokens_text(b->tokens, id).len;
    }
    fe_constraint_close(c);
    return ok;
}

static bool run_test(bench *b, fe_grammar *g, const char *name, const fe_json *test, size_t index) {
    bool valid = fe_json_get(test, "valid")->truth, right = true;
    for (int indent = -1; indent <= 2; indent += 3) {
        fe_text text = {0};
        ferrum_error err;
        int32_t *ids;
        size_t count, at;
        put_value(&text, fe_json_get(test, "data"), indent, 0);
        need(ferrum_tokenize(b->tokenizer, text.data, text.len, 0, &ids, &count, &err), &err);
        bool accepted = accepts(b, g, name, ids, count, &at);
        if (accepted != valid) {
            right = false;
            if (b->verbose) {
                size_t from = at > 60 ? at - 60 : 0;
                printf("%s: test %zu: %s: %.*s>>>%.*s\n", name, index, valid ? "valid rejected" : "invalid let through",
                       (int)(at - from), text.data + from, (int)fe_min(40, text.len - at), text.data + at);
            }
        }
        ferrum_free(ids);
        fe_text_free(&text);
        if (!right) break;
    }
    if (!right) (*(valid ? &b->valid_rejected : &b->invalid_accepted))++;
    return right;
}

static void run_schema(bench *b, const char *line, size_t len) {
    fe_arena arena = fe_arena_make((size_t)1 << 30);
    const fe_json *v;
    ferrum_error err;
    need(fe_json_parse(&v, line, len, "FILE", NULL, &arena, &err), &err);
    const fe_json *schema = fe_json_get(v, "schema"), *tests = fe_json_get(v, "tests"), *name = fe_json_get(v, "name");
    if (!schema || !tests || !name) {
        fprintf(stderr, "masks: a line without name, schema or tests\n");
        exit(1);
    }
    fe_text text = {0};
    put_value(&text, schema, -1, 0);
    b->schemas++;
    double start = now(b);
    fe_grammar *g;
    fe_constraint *c;
    int rc = fe_schema_compile(&g, b->tokens, text.data, text.len, name->text, &(fe_schema_options){0}, NULL, &err);
    double compiled = now(b);
    if (!rc) {
        need(fe_constraint_open(&c, g, &err), &err);
        need(fe_constraint_mask(c, b->mask, &err), &err);
        double first = now(b) - start;
        record(&b->firsts, first);
        record(&b->compiles, compiled - start);
        if (b->verbose && first > 0.01) printf("%s: first mask after %.1f ms\n", name->text, first * 1e3);
        fe_constraint_close(c);
        b->compiled++;
        bool right = true;
        size_t index = 0;
        for (const fe_json *t = tests->first; t; t = t->next) right &= run_test(b, g, name->text, t, index++);
        b->passing += right;
        fe_grammar_close(g);
    } else {
        b->refused++;
        if (b->verbose) printf("refused after %.1f ms: %s\n", (compiled - start) * 1e3, err.message);
    }
    fe_text_free(&text);
    fe_arena_free(&arena);
}

/* ---- Threads ----------------------------------------------------------------------------------------------------- */

typedef struct work {
    bench b, sum; /* what every thread begins with, and all of theirs */
    fe_text *lines;
    size_t line_count, line_capacity;
    atomic_size_t next;
    pthread_mutex_t lock;
} work;

static void append(times *all, const times *more) {
    for (size_t i = 0; i < more->count; i++) record(all, more->list[i] * 1e-6);
    free(more->list);
}

static void *run_some(void *user) {
    work *w = user;
    bench b = w->b;
    b.mask = malloc(b.tokens->words * sizeof *b.mask);
    if (!b.mask) exit(1);
    for (size_t i; (i = atomic_fetch_add(&w->next, 1)) < w->line_count;)
        run_schema(&b, w->lines[i].data, w->lines[i].len);
    pthread_mutex_lock(&w->lock);
    append(&w->sum.masks, &b.masks), append(&w->sum.firsts, &b.firsts), append(&w->sum.compiles, &b.compiles);
    w->sum.schemas += b.schemas, w->sum.compiled += b.compiled, w->sum.passing += b.passing;
    w->sum.valid_rejected += b.valid_rejected, w->sum.invalid_accepted += b.invalid_accepted;
    pthread_mutex_unlock(&w->lock);
    free(b.mask);
    return NULL;
}

static void run_all(work *w, unsigned threads) {
    pthread_t ids[THREADS_MOST];
    pthread_mutex_init(&w->lock, NULL);
    for (unsigned i = 1; i < threads; i++)
        if (pthread_create(&ids[i], NULL, run_some, w)) exit(1);
    run_some(w);
    for (unsigned i = 1; i < threads; i++) pthread_join(ids[i], NULL);
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double percentile(const times *t, double share) {
    return t->count ? t->list[(size_t)fmin((double)t->count - 1, floor(share * (double)t->count))] : NAN;
}

static double mean(const times *t) {
    double sum = 0;
    for (size_t i = 0; i < t->count; i++) sum += t->list[i];
    return t->count ? sum / (double)t->count : NAN;
}

static void report(bench *b, bool json, double load) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    times *all[] = {&b->masks, &b->firsts, &b->compiles};
    for (int i = 0; i < 3; i++) qsort(all[i]->list, all[i]->count, sizeof *all[i]->list, compare_doubles);
    if (json) {
        static const char *const names[] = {"mask_us", "first_mask_us", "compile_us"};
        printf("{\"schemas\": %zu, \"compiled\": %zu, \"passing\": %zu, \"valid_rejected\": %zu, \"invalid_accepted\": "
               "%zu, ",
               b->schemas, b->compiled, b->passing, b->valid_rejected, b->invalid_accepted);
        for (int i = 0; i < 3; i++)
            printf("\"%s\": {\"count\": %zu, \"mean\": %.2f, \"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"p99.9\": "
                   "%.2f, \"max\": %.2f}, ",
                   names[i], all[i]->count, mean(all[i]), percentile(all[i], .5), percentile(all[i], .9),
                   percentile(all[i], .99), percentile(all[i], .999), percentile(all[i], 1));
        printf("\"seconds\": %.3f, \"vocabulary_seconds\": %.3f, \"peak_mib\": %.0f}\n", b->seconds, load,
               (double)usage.ru_maxrss / 1024);
        return;
    }
    printf("| | ferrum |\n| --- | --- |\n");
    printf("| mask time p50 / p90 / p99 / p99.9 / max (us) | %.1f / %.1f / %.0f / %.0f / %.0f |\n",
           percentile(&b->masks, .5), percentile(&b->masks, .9), percentile(&b->masks, .99),
           percentile(&b->masks, .999), percentile(&b->masks, 1));
    printf("| time to first mask p50 / p90 / p99 / max (us) | %.0f / %.0f / %.0f / %.0f |\n",
           percentile(&b->firsts, .5), percentile(&b->firsts, .9), percentile(&b->firsts, .99),
           percentile(&b->firsts, 1));
    printf("| schemas | %zu |\n| compiled | %zu (%.1f %%) |\n| passing | %zu (%.1f %%) |\n", b->schemas, b->compiled,
           100.0 * (double)b->compiled / (double)b->schemas, b->passing,
           100.0 * (double)b->passing / (double)b->schemas);
    printf("| valid instances rejected | %zu |\n| invalid instances let through | %zu |\n", b->valid_rejected,
           b->invalid_accepted);
    printf(
        "| masks | %zu |\n| all schemas in | %.2f s |\n| vocabulary made in | %.2f s |\n| peak memory | %.0f MiB |\n",
        b->masks.count, b->seconds, load, (double)usage.ru_maxrss / 1024);
}

/* gzip unpacks what it packed: the bench reads no format of archives. */
static FILE *open_lines(const char *path) {
    size_t n = strlen(path);
    if (n < 3 || strcmp(path + n - 3, ".gz")) return fopen(path, "r");
    char command[4200];
    if (n > 4000 || strchr(path, '\'')) return NULL;
    snprintf(command, sizeof command, "gzip -dc -- '%s'", path);
    return popen(command, "r"); /* NOLINT(cert-env33-c): a developer's own file */
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"vocab", required_argument, NULL, 'v'}, {"json", no_argument, NULL, 'J'},
        {"cpu", no_argument, NULL, 'c'},         {"verbose", no_argument, NULL, 'V'},
        {"only", required_argument, NULL, 'o'},  {0}};
    const char *vocab = NULL, *only = NULL;
    bench b = {0};
    bool json = false;
    unsigned threads = 1;
    for (int o; (o = getopt_long(argc, argv, "j:", options, NULL)) != -1;) {
        if (o == 'v')
            vocab = optarg;
        else if (o == 'J')
            json = true;
        else if (o == 'j' && strtoul(optarg, NULL, 10) - 1 < THREADS_MOST)
            threads = (unsigned)strtoul(optarg, NULL, 10);
        else if (o == 'c')
            b.cpu = true;
        else if (o == 'V')
            b.verbose = true;
        else if (o == 'o')
            only = optarg;
        else
            return 2;
    }
    if (!vocab || optind + 1 != argc) {
        fprintf(stderr, "usage: masks FILE.jsonl[.gz] --vocab MODEL.gguf [-j THREADS] [--json] [--cpu] [--verbose] "
                        "[--only NAME]\n");
        return 2;
    }
    ferrum_error err;
    ferrum_tokenizer *t;
    need(ferrum_tokenizer_open(&t, vocab, NULL, &err), &err);
    double start = fe_now();
    need(fe_tokens_of(&b.tokens, t, &err), &err);
    double load = fe_now() - start;
    b.tokenizer = t;
    FILE *f = open_lines(argv[optind]);
    if (!f) {
        fprintf(stderr, "masks: %s cannot be read\n", argv[optind]);
        return 1;
    }
    work w = {.b = b};
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t n; (n = getline(&line, &capacity, f)) > 0;) {
        if (only && !strstr(line, only)) continue;
        if (!fe_grow((void **)&w.lines, &w.line_capacity, w.line_count + 1, sizeof *w.lines)) return 1;
        w.lines[w.line_count++] = (fe_text){.data = line, .len = (size_t)n};
        line = NULL, capacity = 0;
    }
    start = fe_now();
    run_all(&w, threads);
    w.sum.seconds = fe_now() - start;
    report(&w.sum, json, load);
    return 0;
}
