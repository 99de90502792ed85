/* The products of every block type, at every instruction set that this CPU has, as a model runs them: through a device's ops.
 *
 *     kernels [--type Q4_K] [--tier avx2] [--threads N] [--output md|csv|json] [--gaussian] [--mib N] [--seconds S]
 *
 * GEMV (m = 1) goes through more weights than the last cache holds and stands beside a plain read of memory, GEMM (m = 512)
 * beside the instructions it is made of, both measured in the same run with the same threads; m = 2 … 16 is the time of so many
 * tokens at once over that of one, on GEMV's weights. "/ C" is the ratio to the kernels in plain C. A row stands for what a tier
 * has of its own: what it takes from the one below has no row, but where the tier is asked for. */
#include "core/core.h"
#include "core/pool.h"
#include "kernels/cpu/cpu.h"

#include <ferrum/kernels.h>

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
    DEFAULT_MIB = 256 /* what ferrum_device_measure reads */,
    K = 4096,
    GEMM_M = 512,
    GEMM_N = 2048,
    SMALLS = 4,
    MOST_SMALL = 16,
    MOST_THREADS = 1024
};
static const size_t smalls[SMALLS] = {2, 4, 8, MOST_SMALL};
static const char *const tier_names[] = {"c", "avx2", "avxvnni", "avx512", "amx"};
enum { TIERS = sizeof tier_names / sizeof *tier_names };

typedef struct settings {
    const char *type, *tier, *output;
    unsigned threads; /* 0: one, and all */
    size_t mib;       /* of weights */
    double seconds;   /* of each measurement, at least */
    bool gaussian;
} settings;

/* One instruction set with one number of threads. */
typedef struct tier {
    const char *name;
    ferrum_device *device;
    ferrum_device_limits limits;
    fe_cpu_table table;
    bool shown; /* the others are measured for their ratio */
} tier;

typedef struct row {
    const char *type;
    const tier *tier;
    unsigned threads;
    double gemv, gemm;             /* bytes/s, operations/s */
    double small[SMALLS];          /* times over that of one token */
    double gemv_ratio, gemm_ratio; /* to C */
    double gemv_share, gemm_share; /* of the limits; NAN where the limit is not this type's */
} row;

/* Fails with the library's sentence. */
static void need(int rc, const ferrum_error *err) {
    if (rc == 0) return;
    fprintf(stderr, "kernels: %s\n", err->message);
    exit(1);
}

/* ---- Inputs ------------------------------------------------------------------------------------------------------ */

/* Close to a normal distribution of variance 1: the sum of twelve uniform numbers. */
static float normal(uint32_t *state) {
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        *state = *state * 1664525u + 1013904223u;
        sum += (float)(*state >> 8) * 0x1p-24f - 0.5f;
    }
    return sum;
}

/* A model's activations have columns that are large in every row. */
static void fill_activations(float *x, bool outliers) {
    uint32_t state = 1;
    for (size_t i = 0; i < (size_t)GEMM_M * K; i++) x[i] = normal(&state) * (outliers && i % K % 100 == 50 ? 8 : 1);
}

/* ---- Measuring --------------------------------------------------------------------------------------------------- */

typedef struct bench {
    const settings *s;
    void *weights;
    size_t rows; /* of weights */
    float *activations;
} bench;

/* Seconds of x[m, K] times the first n rows: the best of some rounds, since whatever else the machine does only takes away. */
static double product(const bench *b, const tier *t, ferrum_type type, size_t n, size_t m) {
    ferrum_error err;
    ferrum_buffer *w, *x, *y;
    ferrum_stream *stream;
    need(ferrum_buffer_wrap(&w, t->device, b->weights, b->rows * ferrum_row_bytes(type, K), &err), &err);
    need(ferrum_buffer_wrap(&x, t->device, b->activations, m * K * sizeof(float), &err), &err);
    need(ferrum_buffer_new(&y, t->device, m * n * sizeof(float), &err), &err);
    need(ferrum_stream_open(&stream, t->device, &err), &err);
    ferrum_tensor wt = ferrum_tensor_view(w, 0, type, n, K), xt = ferrum_tensor_view(x, 0, FERRUM_F32, m, K);
    ferrum_tensor yt = ferrum_tensor_view(y, 0, FERRUM_F32, m, n);
    double best = INFINITY, begin = fe_now();
    for (int round = 0; round < 2 || fe_now() - begin < b->s->seconds; round++) {
        double start = fe_now();
        ferrum_matmul(stream, &yt, &xt, &wt);
        need(ferrum_stream_wait(stream, &err), &err);
        best = fmin(best, fe_now() - start);
    }
    ferrum_stream_close(stream);
    ferrum_buffer_free(y);
    ferrum_buffer_free(x);
    ferrum_buffer_free(w);
    return best;
}

static row measure(const bench *b, const tier *t, ferrum_type type, unsigned threads) {
    row r = {.type = ferrum_type_name(type), .tier = t, .threads = threads, .gemv_ratio = NAN, .gemm_ratio = NAN};
    size_t n = fe_min(b->rows, GEMM_N);
    double one = product(b, t, type, b->rows, 1);
    r.gemv = (double)(b->rows * ferrum_row_bytes(type, K)) / one;
    r.gemv_share = r.gemv / t->limits.read_bytes;
    for (size_t i = 0; i < SMALLS; i++) r.small[i] = product(b, t, type, b->rows, smalls[i]) / one;
    r.gemm = 2.0 * (double)n * K * GEMM_M / product(b, t, type, n, GEMM_M);
    /* that limit is of the products of quantised weights */
    r.gemm_share = ferrum_type_block(type) > 1 ? r.gemm / t->limits.multiply_ops : NAN;
    return r;
}

/* ---- Printing ---------------------------------------------------------------------------------------------------- */

static void print_md_head(const settings *s) {
    printf("%zu MiB of weights, k = %d; GEMM with n = %d, m = %d; activations %s\n\n", s->mib, K, GEMM_N, GEMM_M,
           s->gaussian ? "Gaussian" : "with outliers");
    printf(
        "| type | tier | threads | GEMV GB/s | of memory | / C | m = 2 | m = 4 | m = 8 | m = 16 | GEMM GOP/s | of peak "
        "| / C |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
}

static void print_md_number(const char *format, double number) {
    printf(" ");
    if (!isnan(number)) printf(format, number);
    printf(" |");
}

static void print_md(const row *r) {
    printf("| %s | %s | %u |", r->type, r->tier->name, r->threads);
    print_md_number("%.2f", r->gemv * 1e-9);
    print_md_number("%.0f %%", 100 * r->gemv_share);
    print_md_number("%.1f", r->gemv_ratio);
    for (size_t i = 0; i < SMALLS; i++) print_md_number("%.2f", r->small[i]);
    print_md_number("%.1f", r->gemm * 1e-9);
    print_md_number("%.0f %%", 100 * r->gemm_share);
    print_md_number("%.1f", r->gemm_ratio);
    putchar('\n');
}

enum { FIELDS = 8 + SMALLS };
static const char *const fields[FIELDS] = {
    "gemv_bytes_per_second", "read_bytes_per_second",   "gemv_ratio_to_c", "m2",         "m4",        "m8", "m16",
    "gemm_ops_per_second",   "multiply_ops_per_second", "gemm_ratio_to_c", "gemv_share", "gemm_share"};

static void numbers(const row *r, double out[FIELDS]) {
    const double all[FIELDS] = {
        r->gemv, r->tier->limits.read_bytes,   r->gemv_ratio, r->small[0],   r->small[1],  r->small[2], r->small[3],
        r->gemm, r->tier->limits.multiply_ops, r->gemm_ratio, r->gemv_share, r->gemm_share};
    memcpy(out, all, sizeof all);
}

static void print_csv(const row *r) {
    double out[FIELDS];
    numbers(r, out);
    printf("%s,%s,%u", r->type, r->tier->name, r->threads);
    for (size_t i = 0; i < FIELDS; i++) isnan(out[i]) ? printf(",") : printf(",%.6g", out[i]);
    putchar('\n');
}

static void print_json(const row *r, bool first) {
    double out[FIELDS];
    numbers(r, out);
    printf("%s{\"type\": \"%s\", \"tier\": \"%s\", \"threads\": %u", first ? "[" : ",\n ", r->type, r->tier->name,
           r->threads);
    for (size_t i = 0; i < FIELDS; i++)
        isnan(out[i]) ? printf(", \"%s\": null", fields[i]) : printf(", \"%s\": %.6g", fields[i], out[i]);
    putchar('}');
}

static void print_head(const settings *s) {
    if (strcmp(s->output, "md") == 0) print_md_head(s);
    if (strcmp(s->output, "csv") != 0) return;
    printf("type,tier,threads");
    for (size_t i = 0; i < FIELDS; i++) printf(",%s", fields[i]);
    putchar('\n');
}

static void print(const settings *s, const row *r, bool first) {
    if (strcmp(s->output, "md") == 0) print_md(r);
    if (strcmp(s->output, "csv") == 0) print_csv(r);
    if (strcmp(s->output, "json") == 0) print_json(r, first);
    fflush(stdout);
}

/* ---- All of it --------------------------------------------------------------------------------------------------- */

/* Does the machine have it? *flags: what it is made of. */
static bool has_tier(const char *name, unsigned *flags) {
    *flags = fe_cpu_probe();
    return fe_cpu_cap(flags, name) && strcmp(fe_cpu_flags_name(*flags), name) == 0;
}

static size_t open_tiers(tier tiers[TIERS], const settings *s, unsigned threads) {
    size_t count = 0;
    for (size_t i = 0; i < TIERS; i++) {
        unsigned flags;
        bool asked = !s->tier || strcmp(s->tier, tier_names[i]) == 0;
        if ((!asked && i > 0) || !has_tier(tier_names[i], &flags)) continue; /* C is measured for the ratio */
        tier *t = &tiers[count++];
        ferrum_error err;
        *t = (tier){.name = tier_names[i], .shown = asked};
        fe_cpu_table_init(&t->table, flags);
        ferrum_device_options options = {.threads = threads, .cpu = tier_names[i]};
        need(ferrum_device_open(&t->device, "cpu", &options, &err), &err);
        need(ferrum_device_measure(t->device, &t->limits, &err), &err);
    }
    return count;
}

static bool inherited(const tier *tiers, size_t i, ferrum_type type) {
    if (i == 0) return false;
    const fe_matmul_kernel *own = &tiers[i].table.matmul[type], *other = &tiers[i - 1].table.matmul[type];
    return own->gemv == other->gemv && own->gemm == other->gemm;
}

/* One type at every tier: the number of rows that were printed. */
static size_t bench_type(bench *b, const tier *tiers, size_t count, ferrum_type type, unsigned threads,
                         size_t printed) {
    double c_gemv = NAN, c_gemm = NAN;
    size_t rows = 0, bytes = ferrum_row_bytes(type, K);
    b->rows = fe_max(1, (b->s->mib << 20) / bytes);
    b->weights = malloc(b->rows * bytes);
    if (!b->weights || ferrum_noise(type, b->weights, b->rows, K, 1 / sqrtf(K), 1)) {
        fprintf(stderr, "kernels: out of memory for %zu MiB of weights\n", b->s->mib);
        exit(1);
    }
    for (size_t i = 0; i < count; i++) {
        if (!b->s->tier && inherited(tiers, i, type)) continue;
        row r = measure(b, &tiers[i], type, threads);
        if (i == 0) {
            c_gemv = r.gemv;
            c_gemm = r.gemm;
        }
        r.gemv_ratio = r.gemv / c_gemv;
        r.gemm_ratio = r.gemm / c_gemm;
        if (tiers[i].shown) print(b->s, &r, printed + rows++ == 0);
    }
    free(b->weights);
    return rows;
}

static size_t bench_threads(bench *b, unsigned threads, size_t printed) {
    tier tiers[TIERS];
    size_t count = open_tiers(tiers, b->s, threads), rows = 0;
    for (int type = 0; type < FE_TYPES; type++)
        if (ferrum_type_known(type) &&
            (!b->s->type || strcasecmp(b->s->type, ferrum_type_name((ferrum_type)type)) == 0))
            rows += bench_type(b, tiers, count, (ferrum_type)type, threads, printed + rows);
    for (size_t i = 0; i < count; i++) ferrum_device_close(tiers[i].device);
    return rows;
}

static int bench_all(const settings *s) {
    bench b = {.s = s, .activations = fe_alloc((size_t)GEMM_M * K, sizeof(float))};
    unsigned all = fe_cpu_count();
    size_t rows = 0;
    if (!b.activations) return 1;
    fill_activations(b.activations, !s->gaussian);
    print_head(s);
    if (s->threads)
        rows = bench_threads(&b, s->threads, 0);
    else {
        rows = bench_threads(&b, 1, 0);
        if (all > 1) rows += bench_threads(&b, all, rows);
    }
    if (strcmp(s->output, "json") == 0) puts(rows ? "]" : "[]");
    free(b.activations);
    return rows == 0;
}

static int usage(void) {
    fprintf(stderr,
            "usage: kernels [--type Q4_K] [--tier c|avx2|avxvnni|avx512|amx] [--threads N] [--output md|csv|json] "
            "[--gaussian] [--mib N] [--seconds S]\n");
    return 2;
}

static bool one_of(const char *name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static bool known_type(const char *name) {
    for (int type = 0; type < FE_TYPES; type++)
        if (ferrum_type_known(type) && strcasecmp(name, ferrum_type_name((ferrum_type)type)) == 0) return true;
    return false;
}

/* A whole number from 1 to `most`, or 0. */
static size_t whole(const char *text, size_t most) {
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    return *text >= '1' && *text <= '9' && *end == '\0' && n <= most ? n : 0;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"type", required_argument, NULL, 'y'},    {"tier", required_argument, NULL, 'i'},
        {"threads", required_argument, NULL, 't'}, {"output", required_argument, NULL, 'o'},
        {"gaussian", no_argument, NULL, 'g'},      {"mib", required_argument, NULL, 'm'},
        {"seconds", required_argument, NULL, 's'}, {NULL, 0, NULL, 0},
    };
    static const char *const outputs[] = {"md", "csv", "json"};
    settings s = {.output = "md", .mib = DEFAULT_MIB, .seconds = 0.3};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        char *end = NULL;
        bool sound = true;
        switch (c) {
        case 'y': sound = known_type(s.type = optarg); break;
        case 'i': sound = one_of(s.tier = optarg, tier_names, TIERS); break;
        case 't': sound = (s.threads = (unsigned)whole(optarg, MOST_THREADS)) > 0; break;
        case 'o': sound = one_of(s.output = optarg, outputs, 3); break;
        case 'g': s.gaussian = true; break;
        case 'm': sound = (s.mib = whole(optarg, 1 << 16)) > 0; break;
        case 's': sound = (s.seconds = strtod(optarg, &end)) >= 0 && end != optarg && *end == '\0'; break;
        default: sound = false;
        }
        if (!sound) return usage();
    }
    unsigned flags;
    if (optind < argc) return usage();
    if (!s.tier || has_tier(s.tier, &flags)) return bench_all(&s);
    fprintf(stderr, "kernels: this CPU does not have %s\n", s.tier);
    return 1;
}
