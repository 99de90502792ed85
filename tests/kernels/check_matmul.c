/* The matmul kernels of every instruction set that this CPU has, and the plain functions, against src/quant.
 *
 * Two numbers are expected of each result, both summed in double from what src/quant makes of the weights:
 *   the product with the activations as they are quantised by the rule in kernels/cpu/act.h, which the kernel may miss by
 *   what rounding in fp32 explains and no more, and
 *   the product with the activations as given, which it may also miss by what quantising them explains.
 * The tolerances follow from the data. With w = U + A, U being scale times the stored integer and A the addend that the
 * kernels take out of the integer sum, a sub-group of 16 or 32 weights contributes the terms Σ U·x and Σ A·x, whose integer
 * parts are exact, for each of the two parts that its activations may have. N sub-groups make up to 4N terms; summed in any
 * order, each going through up to four more roundings, they are wrong by at most (2N + 2) · FLT_EPSILON · Σ |terms|. GEMV may keep the Σ U·x of four weights apart, the least that
 * shares a lane of 32 bits, until the end, where up to four more sums join them: (2N + 4), and more terms to count. So may
 * GEMM with two tokens, which is a GEMV that uses each weight twice.
 * Weights in floating point have k terms in at least four partial sums: (k/8 + 3) · FLT_EPSILON · Σ |w·x|.
 * Where a kernel takes weights and activations as bfloat16 (bf16_from), the first number is the product of those, one sum of k
 * terms, so wrong by at most (k + 3) · FLT_EPSILON · Σ |terms|; and what is below FLT_MIN may be lost on the way.
 *
 * A row alone has to be packed as the C kernels pack it, to the bit.
 *
 * Weights, activations, results and scratch stand between forbidden pages, with canaries where a page cannot be. */
#include "core/core.h"
#include "kernels/cpu/act.h"
#include "kernels/cpu/cpu.h"

#include "guard.h"

#include <float.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <sys/wait.h>

/* ---- What there is to check ---------------------------------------------------------------------------------------- */

/* Where a block holds its quants, and its minimum, which is added to scale · quant. */
typedef struct {
    ferrum_type type;
    size_t sub_group;                                                          /* weights that share a scale */
    size_t quants, quants_end;                                                 /* bytes; none in floating point */
    size_t scale, min;                                                         /* bytes of the fp16 numbers; NONE */
    void (*gemv)(float *y, const void *w, const float *x, size_t n, size_t k); /* the plain function */
} type_layout;

#define NONE SIZE_MAX

static const type_layout layouts[] = {
    {FERRUM_F32, 1, 0, 0, NONE, NONE, NULL},
    {FERRUM_F16, 1, 0, 0, NONE, NONE, ferrum_f16_gemv},
    {FERRUM_BF16, 1, 0, 0, NONE, NONE, ferrum_bf16_gemv},
    {FERRUM_Q4_0, 32, 2, 18, 0, NONE, ferrum_q4_0_gemv},
    {FERRUM_Q4_1, 32, 4, 20, 0, 2, ferrum_q4_1_gemv},
    {FERRUM_Q5_0, 32, 2, 22, 0, NONE, ferrum_q5_0_gemv},
    {FERRUM_Q5_1, 32, 4, 24, 0, 2, ferrum_q5_1_gemv},
    {FERRUM_Q8_0, 32, 2, 34, 0, NONE, ferrum_q8_0_gemv},
    {FERRUM_Q2_K, 16, 16, 80, 80, 82, ferrum_q2_k_gemv},
    {FERRUM_Q3_K, 16, 0, 96, 108, NONE, ferrum_q3_k_gemv},
    {FERRUM_Q4_K, 32, 16, 144, 0, 2, ferrum_q4_k_gemv},
    {FERRUM_Q5_K, 32, 16, 176, 0, 2, ferrum_q5_k_gemv},
    {FERRUM_Q6_K, 16, 0, 192, 208, NONE, ferrum_q6_k_gemv},
};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

static const char *const tier_names[] = {"c", "avx2", "avxvnni", "avx512", "amx", "neon", "i8mm"};
enum { TIERS = sizeof tier_names / sizeof *tier_names };

static struct {
    const char *name;
    fe_cpu_table table;
} tiers[TIERS]; /* those that the machine has */
static size_t tier_count;

/* Inputs: random ones, and those where arithmetic overflows, saturates, cancels or vanishes. */
enum weights { W_RANDOM, W_LARGEST, W_TINY, W_FF, W_00, W_80, W_KINDS };
enum inputs { X_NORMAL, X_EXACT, X_ZERO, X_OUTLIER, X_TINY, X_HUGE, X_FULL, X_VANISHING, X_NONFINITE, X_KINDS };
static const char *const w_names[W_KINDS] = {"random", "largest scales", "tiny scales", "all FF", "all 00", "all 80"};
static const char *const x_names[X_KINDS] = {
    "normal", "exact", "zero", "one outlier", "tiny", "huge", "all at the limit", "vanishing", "not all finite"};
static const struct {
    enum weights w;
    enum inputs x;
} kinds[] = {
    {W_RANDOM, X_NORMAL}, {W_FF, X_FULL},        {W_RANDOM, X_OUTLIER},   {W_RANDOM, X_EXACT},
    {W_RANDOM, X_ZERO},   {W_LARGEST, X_NORMAL}, {W_LARGEST, X_HUGE},     {W_RANDOM, X_TINY},
    {W_TINY, X_HUGE},     {W_FF, X_NORMAL},      {W_00, X_FULL},          {W_80, X_FULL},
    {W_80, X_NORMAL},     {W_RANDOM, X_FULL},    {W_RANDOM, X_VANISHING}, {W_RANDOM, X_NONFINITE},
};
enum { KINDS = sizeof kinds / sizeof *kinds, THOROUGH_KINDS = 2, LARGE_KINDS = 4 };

enum { MAX_M = 100, MAX_K = 12288 + 256, LARGE_K = 4096, FAILURES_SHOWN = 3 };

/* ---- Problems and what is expected of them --------------------------------------------------------------------------- */

typedef struct {
    const type_layout *layout;
    const fe_type_info *info;
    size_t n, m, k;
    size_t stride, ldx; /* bytes of w between rows; floats of x */
    unsigned char *w;   /* [n] rows */
    float *x;           /* [m] rows */
    enum weights w_kind;
    enum inputs x_kind;
    float above; /* where activations have second parts: act.h */
    bool dense;  /* no gaps between rows of w */
} problem;

/* What is expected of one result. */
typedef struct {
    double rounded;    /* with x as quantised (as given, for floating point) */
    double given;      /* with x as given */
    double gemv, gemm; /* what rounding in fp32 may change */
    double quantising; /* what quantising x may */
    struct {
        double rounded, given, gemm, quantising;
    } bf16; /* the same for weights and activations in bfloat16 */
} result;

static bool is_float(const problem *p) { return p->layout->quants_end == 0; }

/* fp16 numbers of a kind; the sign is random. */
static uint16_t random_half(enum weights kind, uint64_t *rng) {
    static const uint16_t tiny[] = {0x0000, 0x0001, 0x0003, 0x03FF, 0x0400};
    uint16_t sign = random_below(rng, 2) ? 0x8000 : 0;
    if (kind == W_LARGEST) return sign | (random_below(rng, 4) ? 0x7BFF : 0x7000);
    if (kind == W_TINY) return sign | tiny[random_below(rng, 5)];
    if (kind != W_RANDOM) return sign | 0x2200; /* 0.0117, lest a fault hide in a vanishing block */
    return fe_f32_to_f16(0.01f + random_signed(rng) * random_signed(rng)) | sign;
}

static void random_float_weight(unsigned char *w, ferrum_type type, enum weights kind, uint64_t *rng) {
    uint16_t bits = kind == W_FF ? 0x3FFF : kind == W_00 ? 0 : kind == W_80 ? 0x8000 : random_half(kind, rng);
    float f = fe_f16_to_f32(bits);
    if (kind == W_RANDOM || kind == W_LARGEST)
        f *= 1 - fabsf(random_signed(rng)) / 4; /* the bits that a half has not */
    if (type == FERRUM_F32)
        memcpy(w, &f, sizeof f);
    else
        fe_type_info_of((int)type)->quantize(w, &f, 1);
}

/* A block of random or of equal bytes, then its scales. */
static void random_block(unsigned char *w, const problem *p, uint64_t *rng) {
    const type_layout *l = p->layout;
    if (is_float(p)) {
        random_float_weight(w, l->type, p->w_kind, rng);
        return;
    }
    for (size_t i = 0; i < p->info->bytes; i++) w[i] = (unsigned char)fe_splitmix64(rng);
    if (p->w_kind == W_FF) memset(w, 0xFF, p->info->bytes);
    if (p->w_kind == W_00) memset(w + l->quants, 0x00, l->quants_end - l->quants);
    if (p->w_kind == W_80) memset(w, 0x80, p->info->bytes);
    uint16_t d = random_half(p->w_kind, rng), min = random_half(p->w_kind, rng);
    memcpy(w + l->scale, &d, sizeof d);
    if (l->min != NONE) memcpy(w + l->min, &min, sizeof min);
}

/* 32 activations of one kind. */
static void random_group(float *x, size_t count, enum inputs kind, uint64_t *rng) {
    float unit = 0.5f + fabsf(random_signed(rng)), sign = random_below(rng, 2) ? 1 : -1;
    bool alternate = random_below(rng, 2);
    for (size_t i = 0; i < count; i++) {
        float f = random_normal(rng);
        switch (kind) {
        case X_EXACT: f = unit * (float)((int)random_below(rng, 255) - 127) / 127; break;
        case X_ZERO: f = 0; break;
        case X_OUTLIER: f *= random_below(rng, 50) == 0 ? 1e4f : 1; break;
        case X_TINY: f *= 1e-30f; break;
        case X_HUGE: f *= 1e24f; break;
        case X_FULL: f = unit * sign * (alternate && i % 2 ? -1 : 1); break;
        case X_VANISHING: f *= unit < 0.75f ? 1e-42f : unit < 1 ? 0 : unit < 1.25f ? 2e-36f : 1e-37f; break;
        default: break;
        }
        x[i] = f;
    }
}

/* Fills p, whose layout, sizes and kinds are set. */
static void problem_init(problem *p, uint64_t rng) {
    p->info = fe_type_info_of((int)p->layout->type);
    size_t row = ferrum_row_bytes(p->layout->type, p->k);
    p->stride = row + (random_below(&rng, 2) && !p->dense ? random_below(&rng, 40) : 0);
    p->ldx = p->k + random_below(&rng, 5);
    p->above = p->dense || random_below(&rng, 2) ? 2 : 3; /* the plain functions are fine */
    p->w = fe_alloc(p->n, p->stride);
    p->x = fe_alloc(p->m * p->ldx, sizeof *p->x);
    if (!p->w || !p->x) exit(1);
    for (size_t r = 0; r < p->n; r++)
        for (size_t at = 0; at < row; at += p->info->bytes) random_block(p->w + r * p->stride + at, p, &rng);
    for (size_t t = 0; t < p->m; t++)
        for (size_t i = 0; i < p->k; i += 32)
            random_group(p->x + t * p->ldx + i, fe_min(32, p->k - i), p->x_kind, &rng);
    /* an infinity makes a NaN of its group too, where it is quantised */
    float bad = !is_float(p) && random_below(&rng, 2) ? INFINITY : NAN;
    if (p->x_kind == X_NONFINITE) p->x[random_below(&rng, p->m) * p->ldx + random_below(&rng, p->k)] = bad;
}

static void problem_free(problem *p) {
    free(p->w);
    free(p->x);
}

/* Activations for the sums below, transposed: [k][m], and per group of 32 and token how far one of them is rounded. */
typedef struct {
    double *rounded[FE_PARTS], *given, *slack;
} activations;

/* The rule of kernels/cpu/act.h: one part of a group of 32 of one token, `stride` doubles apart in the result. What it leaves
 * over is written to `rest`, and *slack is how far each of it may be from zero. */
static float quantise_group(double *out, size_t stride, const float *x, float *rest, double *slack, int *squares) {
    float max = 0;
    *squares = 0;
    bool finite = true;
    for (size_t i = 0; i < 32; i++) {
        max = fmaxf(max, fabsf(x[i]));
        finite = finite && isfinite(x[i]);
    }
    float d = max / 127, r = 1 / d;
    if (d < FLT_MIN) d = 0;
    for (size_t i = 0; i < 32; i++) {
        float q = d > 0 && finite ? rintf(x[i] * r) : 0, taken = d * q;
        rest[i] = x[i] - taken;
        *squares += (int)q * (int)q;
        out[i * stride] = finite ? (double)d * (double)q : (double)NAN;
    }
    /* half a step, and the two roundings of x · r; where all is rounded to zero, x itself */
    *slack = d > 0 ? (double)d * (0.5 + 127 * 2 * (double)FLT_EPSILON) : 127 * (double)FLT_MIN;
    return finite ? d : NAN;
}

/* The groups of one token that are measured by one another, into parts[0] and, where they have one, parts[1]. */
static void quantise_stretch(activations *a, const problem *p, size_t t, size_t first, size_t groups) {
    float d[FE_STRETCH_PANELS * FE_PANEL_GROUPS], rest[FE_STRETCH_PANELS * FE_PANEL_GROUPS][32], energy = 0;
    int squares;
    const float *x = p->x + t * p->ldx + first * 32;
    double *slack = a->slack + first * p->m + t;
    for (size_t g = 0; g < groups; g++) {
        d[g] = quantise_group(a->rounded[0] + (first + g) * 32 * p->m + t, p->m, x + g * 32, rest[g], slack + g * p->m,
                              &squares);
        energy += d[g] * d[g] * (float)squares;
    }
    for (size_t g = 0; g < groups; g++) {
        float none[32], most = 0;
        if (!(d[g] * d[g] > energy / (float)(32 * groups) * (p->above * p->above / (127 * 127)))) continue;
        quantise_group(a->rounded[1] + (first + g) * 32 * p->m + t, p->m, rest[g], none, slack + g * p->m, &squares);
        for (size_t i = 0; i < 32; i++) most = fmaxf(most, fabsf(x[g * 32 + i]));
        slack[g * p->m] += 2 * (double)FLT_EPSILON * (double)most; /* the roundings of what is left over */
    }
}

static activations activations_new(const problem *p) {
    size_t groups = p->k / 32 + 1;
    activations a = {{fe_alloc(p->k * p->m, sizeof(double)), fe_alloc(p->k * p->m, sizeof(double))},
                     fe_alloc(p->k * p->m, sizeof(double)),
                     fe_alloc(groups * p->m, sizeof(double))};
    if (!a.rounded[0] || !a.rounded[1] || !a.given || !a.slack) exit(1);
    for (size_t t = 0; t < p->m; t++) {
        const float *x = p->x + t * p->ldx;
        for (size_t i = 0; i < p->k; i++) a.rounded[0][i * p->m + t] = a.given[i * p->m + t] = x[i];
        if (is_float(p)) continue;
        for (size_t first = 0; first < p->k / 32; first += FE_STRETCH_PANELS * FE_PANEL_GROUPS)
            quantise_stretch(&a, p, t, first, fe_min(FE_STRETCH_PANELS * FE_PANEL_GROUPS, p->k / 32 - first));
    }
    return a;
}

/* Row w as U + A: see the head of this file. Both are exact in fp32 and so is their difference in double. */
static void split_row(const problem *p, const unsigned char *w, double *u, double *a) {
    float plain[256], addend[256];
    unsigned char block[256];
    const type_layout *l = p->layout;
    for (size_t i = 0; i < p->k; i += p->info->block, w += p->info->bytes) {
        memcpy(block, w, p->info->bytes);
        memset(block + l->quants, 0, l->quants_end - l->quants);
        p->info->dequantize(addend, block, 1);
        memcpy(block, w, p->info->bytes);
        if (l->min != NONE) memset(block + l->min, 0, sizeof(uint16_t));
        p->info->dequantize(plain, block, 1);
        for (size_t j = 0; j < p->info->block; j++) {
            /* without a minimum the block of zero quants is the constant offset, and part of the whole */
            u[i + j] = l->min != NONE || is_float(p) ? plain[j] : (double)plain[j] - addend[j];
            a[i + j] = is_float(p) ? 0 : addend[j];
        }
    }
}

/* Sums of one row of w with every token. */
typedef struct {
    double u[FE_PARTS][MAX_M], a[FE_PARTS][MAX_M]; /* of a sub-group */
    double four[MAX_M];                            /* Σ U·x of four weights */
    double terms[MAX_M], fours[MAX_M];             /* Σ |sub-groups|, Σ |fours| */
} row_sums;

/* Weights from … to-1, at most four of them. */
static void sum_four(result *e, row_sums *s, const problem *p, const activations *x, const double *u, const double *a,
                     size_t from, size_t to) {
    for (size_t part = 0; part < FE_PARTS; part++) {
        memset(s->four, 0, p->m * sizeof *s->four);
        for (size_t i = from; i < to; i++) {
            const double *rounded = x->rounded[part] + i * p->m;
            for (size_t t = 0; t < p->m; t++) {
                s->four[t] += u[i] * rounded[t];
                s->a[part][t] += a[i] * rounded[t];
            }
        }
        for (size_t t = 0; t < p->m; t++) {
            s->u[part][t] += s->four[t];
            s->fours[t] += fabs(s->four[t]);
        }
    }
    for (size_t i = from; i < to; i++) {
        const double *given = x->given + i * p->m, w = u[i] + a[i];
        for (size_t t = 0; t < p->m; t++) {
            e[t].given += w * given[t];
            e[t].quantising += fabs(w) * x->slack[i / 32 * p->m + t];
        }
    }
}

static double to_bf16(double x) { return (double)fe_bf16_to_f32(fe_f32_to_bf16((float)x)); }

/* The same for one row in bfloat16. */
static void expect_row_bf16(result *e, const problem *p, const activations *x, const double *u, const double *a) {
    for (size_t i = 0; i < p->k; i++) {
        double w = u[i] + a[i], w_bf16 = to_bf16(w);
        for (size_t t = 0; t < p->m; t++) {
            double given = x->given[i * p->m + t], term = w_bf16 * to_bf16(given), exact = w * given;
            e[t].bf16.rounded += term;
            e[t].bf16.given += exact;
            e[t].bf16.gemm += ((double)p->k + 3) * (double)FLT_EPSILON * fabs(term) + (double)FLT_MIN * (fabs(w) + 1);
            e[t].bf16.quantising += fabs(term - exact);
        }
    }
}

/* e: [m], zeroed. */
static void expect_row(result *e, const problem *p, const activations *x, const double *u, const double *a) {
    size_t sub = p->layout->sub_group, groups = p->k / sub;
    static row_sums s;
    memset(&s, 0, sizeof s);
    for (size_t from = 0; from < p->k; from += sub) {
        memset(s.u, 0, sizeof s.u);
        memset(s.a, 0, sizeof s.a);
        for (size_t i = from; i < from + sub; i += 4) sum_four(e, &s, p, x, u, a, i, fe_min(i + 4, from + sub));
        for (size_t i = 0; i < FE_PARTS * p->m; i++) {
            size_t part = i / p->m, t = i % p->m;
            e[t].rounded += s.u[part][t] + s.a[part][t];
            s.terms[t] += fabs(s.u[part][t]) + fabs(s.a[part][t]);
            s.fours[t] += fabs(s.a[part][t]);
        }
    }
    /* what an underflow of scale · d, times an integer sum below 2^20, may add */
    double underflow = 2 * (double)groups * 0x1p20 * (double)FLT_TRUE_MIN;
    double least = is_float(p) ? (double)p->k / 8 + 3 : 2 * (double)groups + 2, more = is_float(p) ? least : least + 2;
    for (size_t t = 0; t < p->m; t++) {
        e[t].gemm = least * (double)FLT_EPSILON * s.terms[t] + underflow;
        e[t].gemv = more * (double)FLT_EPSILON * s.fours[t] + underflow;
    }
}

/* [n][m]; release with free. */
static result *expect(const problem *p) {
    result *e = fe_alloc(p->n * p->m, sizeof *e);
    double *u = fe_alloc(2 * p->k, sizeof *u);
    if (!e || !u) exit(1);
    activations x = activations_new(p);
    for (size_t r = 0; r < p->n; r++) {
        split_row(p, p->w + r * p->stride, u, u + p->k);
        expect_row(e + r * p->m, p, &x, u, u + p->k);
        expect_row_bf16(e + r * p->m, p, &x, u, u + p->k);
    }
    free(u);
    free(x.rounded[0]);
    free(x.rounded[1]);
    free(x.given);
    free(x.slack);
    return e;
}

/* ---- Running a kernel between guards ---------------------------------------------------------------------------------- */

static guarded guard_w, guard_x, guard_c, guard_act, guard_scratch;

/* Counts for one line of the table. */
typedef struct {
    const char *tier;
    size_t cases, failures;
    double worst, worst_given; /* errors as shares of the tolerances */
    bool silent;               /* for the self-test: failures are wanted */
} tally;

static void describe(const tally *l, const char *call, const problem *p, size_t n, size_t m) {
    snprintf(guard_doing, sizeof guard_doing, "%s %s %s, weights %s, activations %s, k %zu, n %zu, m %zu, stride %zu",
             p->info->name, l->tier, call, w_names[p->w_kind], x_names[p->x_kind], p->k, n, m, p->stride);
}

static void failed(tally *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void failed(tally *l, const char *format, ...) {
    if (l->failures++ >= FAILURES_SHOWN || l->silent) return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", guard_doing);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

/* `rounding`: e's gemv or gemm. */
static void compare(tally *l, const result *e, double rounding, size_t row, size_t token, float got) {
    if (!isfinite(e->rounded)) { /* an infinity is one in bfloat16 only, where it meets no zero */
        if (isnan(e->rounded) ? !isnan(got) : got != (float)e->rounded)
            failed(l, "row %zu, token %zu: %a, not %a", row, token, (double)got, e->rounded);
        return;
    }
    double error = fabs(got - e->rounded) / rounding, given = fabs(got - e->given) / (rounding + e->quantising);
    if (!(error <= 1) || !(given <= 1)) {
        failed(l, "row %zu, token %zu: %.9g, not %.9g ± %.3g (unquantised: %.9g ± %.3g)", row, token, (double)got,
               e->rounded, rounding, e->given, rounding + e->quantising);
        return;
    }
    l->worst = fmax(l->worst, error);
    l->worst_given = fmax(l->worst_given, given);
}

/* The first n rows of w and m of x between guards. Weights may stand at any byte. */
static const unsigned char *place_weights(const problem *p, size_t n, uint64_t *rng) {
    size_t bytes = (n - 1) * p->stride + ferrum_row_bytes(p->layout->type, p->k);
    return memcpy(guard_place(&guard_w, bytes, 1, random_below(rng, 2), random_below(rng, 64)), p->w, bytes);
}

static const float *place_inputs(const problem *p, size_t m, uint64_t *rng) {
    size_t bytes = ((m - 1) * p->ldx + p->k) * sizeof(float);
    void *x = guard_place(&guard_x, bytes, sizeof(float), random_below(rng, 2), random_below(rng, 64));
    return memcpy(x, p->x, bytes);
}

/* Results start as a NaN that no kernel makes. */
static const uint32_t unwritten = 0x7FC5A5A5;

static float *place_results(size_t count, uint64_t *rng) {
    float *c = guard_place(&guard_c, count * sizeof *c, sizeof *c, random_below(rng, 2), random_below(rng, 64));
    for (size_t i = 0; i < count; i++) memcpy(c + i, &unwritten, sizeof unwritten);
    return c;
}

/* Packs in one go, or group by group from the last to the first, into memory full of NaNs. */
static void *pack(const fe_matmul_kernel *kernel, const problem *p, const float *x, size_t m, uint64_t *rng) {
    size_t bytes = kernel->act_bytes(m, p->k), group = kernel->pack_group(m);
    void *act = memset(guard_place(&guard_act, bytes, 64, random_below(rng, 2), 0), 0xFF, bytes);
    if (random_below(rng, 2)) {
        kernel->pack(act, x, p->ldx, m, p->k, 0, m, p->above);
        return act;
    }
    for (size_t first = (m - 1) / group * group;; first -= group) {
        kernel->pack(act, x, p->ldx, m, p->k, first, fe_min(group, m - first), p->above);
        if (first == 0) return act;
    }
}

static void check_guards(tally *l) {
    if (!guard_intact(&guard_w)) failed(l, "wrote outside the weights");
    if (!guard_intact(&guard_x)) failed(l, "wrote outside the activations");
    if (!guard_intact(&guard_act)) failed(l, "wrote outside the packed activations");
    if (!guard_intact(&guard_c)) failed(l, "wrote outside the results");
}

/* A single row's quants and scales are those that the C kernel packs, to the bit. */
static void check_packing(tally *l, const problem *p, const float *x, const void *act) {
    static fe_matmul_kernel c[FE_TYPES];
    if (is_float(p)) return;
    fe_matmul_init_c(c);
    fe_act_panel *want = fe_alloc(fe_act_panels(p->k), sizeof *want);
    if (!want) exit(1);
    c[p->layout->type].pack(want, x, p->ldx, 1, p->k, 0, 1, p->above);
    for (size_t i = 0; i < fe_act_panels(p->k); i++) {
        const fe_act_panel *got = (const fe_act_panel *)act + i;
        if (memcmp(got->q, want[i].q, sizeof got->q) != 0 || memcmp(got->d, want[i].d, sizeof got->d) != 0)
            failed(l, "panel %zu of the activations is not packed as in C", i);
    }
    free(want);
}

static void check_gemv(tally *l, const fe_matmul_kernel *kernel, const problem *p, const result *e, size_t n,
                       uint64_t *rng) {
    describe(l, "gemv", p, n, 1);
    const unsigned char *w = place_weights(p, n, rng);
    const float *x = place_inputs(p, 1, rng);
    void *act = pack(kernel, p, x, 1, rng);
    check_packing(l, p, x, act);
    float *y = place_results(n, rng);
    size_t part = random_below(rng, 2) ? n : random_below(rng, n + 1); /* as two threads would */
    if (part) kernel->gemv(y, w, p->stride, part, act, p->k);
    if (part < n) kernel->gemv(y + part, w + part * p->stride, p->stride, n - part, act, p->k);
    check_guards(l);
    l->cases++;
    /* the expectation has p->m tokens; this is the first of them */
    for (size_t r = 0; r < n; r++) compare(l, &e[r * p->m], e[r * p->m].gemv, r, 0, y[r]);
}

static void check_gemm(tally *l, const fe_matmul_kernel *kernel, const problem *p, const result *e, size_t n, size_t m,
                       uint64_t *rng) {
    describe(l, "gemm", p, n, m);
    const unsigned char *w = place_weights(p, n, rng);
    const float *x = place_inputs(p, m, rng);
    void *act = pack(kernel, p, x, m, rng);
    size_t ldc = n + random_below(rng, 4), scratch_bytes = kernel->gemm_scratch(m, p->k);
    float *c = place_results((m - 1) * ldc + n, rng);
    void *scratch = guard_place(&guard_scratch, scratch_bytes, 64, random_below(rng, 2), 0);
    for (size_t r = 0; r < n; r += kernel->gemm_rows) {
        memset(scratch, 0xFF, scratch_bytes);
        kernel->gemm(c + r, ldc, w + r * p->stride, p->stride, fe_min(kernel->gemm_rows, n - r), act, m, p->k, scratch);
    }
    check_guards(l);
    if (!guard_intact(&guard_scratch)) failed(l, "wrote outside the scratch");
    l->cases++;
    for (size_t t = 0; t < m; t++) {
        for (size_t r = 0; r < n; r++) {
            result want = e[r * p->m + t];
            if (kernel->bf16_from && m >= kernel->bf16_from)
                want = (result){.rounded = want.bf16.rounded,
                                .given = want.bf16.given,
                                .gemm = want.bf16.gemm,
                                .quantising = want.bf16.quantising};
            compare(l, &want, m <= 2 ? want.gemv : want.gemm, r, t, c[t * ldc + r]);
        }
        for (size_t r = n; r < ldc && t + 1 < m; r++)
            if (memcmp(c + t * ldc + r, &unwritten, sizeof unwritten) != 0) failed(l, "wrote between the rows of c");
    }
}

/* A token's numbers are the same bits whatever tokens it is multiplied with: the first `m` tokens from the `first` on, beside what each
 * gives by itself. */
static void check_company(tally *l, const fe_matmul_kernel *kernel, const problem *p, size_t first, size_t m,
                          uint64_t *rng) {
    size_t n = p->n;
    describe(l, "company", p, n, m);
    float *alone = fe_alloc(m * n, sizeof *alone), *together = fe_alloc(m * n, sizeof *together);
    if (!alone || !together) exit(1);
    void *scratch = guard_place(&guard_scratch, kernel->gemm_scratch(m, p->k), 64, 0, 0);
    for (size_t t = 0; t < m; t++)
        kernel->gemv(alone + t * n, p->w, p->stride, n, pack(kernel, p, p->x + (first + t) * p->ldx, 1, rng), p->k);
    const void *act = pack(kernel, p, p->x + first * p->ldx, m, rng);
    for (size_t r = 0; r < n; r += kernel->gemm_rows)
        kernel->gemm(together + r, n, p->w + r * p->stride, p->stride, fe_min(kernel->gemm_rows, n - r), act, m, p->k,
                     scratch);
    l->cases++;
    for (size_t i = 0; i < m * n; i++)
        if (memcmp(alone + i, together + i, sizeof *alone) != 0 && !(isnan(alone[i]) && isnan(together[i]))) {
            failed(l, "row %zu, token %zu: %a, but %a by itself", i % n, first + i / n, (double)together[i],
                   (double)alone[i]);
            break;
        }
    free(alone);
    free(together);
}

/* ---- All cases of one type -------------------------------------------------------------------------------------------- */

static const size_t all_m[] = {2, 3, 4, 5, 7, 8, 16, 17, 33, MAX_M}, few_m[] = {2, 5, 17};
static const size_t gemv_n[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17};

static void check_tier(tally *l, const fe_matmul_kernel *kernel, const problem *p, const result *e, uint64_t rng) {
    for (size_t i = 0; i < sizeof gemv_n / sizeof *gemv_n; i++)
        if (gemv_n[i] < p->n) check_gemv(l, kernel, p, e, gemv_n[i], &rng);
    check_gemv(l, kernel, p, e, p->n, &rng);
    const size_t n[] = {1, kernel->gemm_rows - 1, kernel->gemm_rows, kernel->gemm_rows + 1, p->n};
    bool few = p->m < MAX_M;
    size_t count = few ? sizeof few_m / sizeof *few_m : sizeof all_m / sizeof *all_m;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < sizeof n / sizeof *n; j++)
            if (n[j] > 0 && n[j] <= p->n) check_gemm(l, kernel, p, e, n[j], few ? few_m[i] : all_m[i], &rng);
    for (size_t i = 0; i < count; i++) {
        size_t m = few ? few_m[i] : all_m[i];
        if (kernel->bf16_from && m >= kernel->bf16_from) break;
        check_company(l, kernel, p, random_below(&rng, p->m - m + 1), m, &rng);
    }
}

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t state = a ^ b * 0xD6E8FEB86659FD93u;
    return fe_splitmix64(&state);
}

/* Does a tier take this row from the one below it? */
static bool inherited(size_t tier, ferrum_type type) {
    if (tier == 0) return false;
    const fe_matmul_kernel *own = &tiers[tier].table.matmul[type], *other = &tiers[tier - 1].table.matmul[type];
    return own->gemv == other->gemv && own->gemm == other->gemm;
}

/* Rows for two tiles and a rest of the tier with the highest tile. */
static size_t most_rows(ferrum_type type) {
    size_t rows = 8;
    for (size_t i = 0; i < tier_count; i++) rows = fe_max(rows, tiers[i].table.matmul[type].gemm_rows);
    return 2 * rows + 3;
}

static void check_problem(tally lines[TIERS], problem *p, uint64_t seed) {
    problem_init(p, seed);
    result *e = expect(p);
    for (size_t i = 0; i < tier_count; i++) {
        ferrum_type type = p->layout->type;
        if (!inherited(i, type)) check_tier(&lines[i], &tiers[i].table.matmul[type], p, e, mix(seed, i + 1));
    }
    free(e);
    problem_free(p);
}

/* `every`: one problem in so many is checked, which ones depends on the seed. */
static void check_type(tally lines[TIERS], const type_layout *layout, uint64_t seed, size_t every) {
    static const size_t float_k[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 255, 1000, LARGE_K + 3};
    static const size_t k_32[] = {32, 64, 96, 224, 256, 288, 1056, LARGE_K + 32};
    static const size_t k_256[] = {256, 512, 768, 1280, LARGE_K};
    size_t block = ferrum_type_block(layout->type);
    const size_t *ks = block == 1 ? float_k : block == 32 ? k_32 : k_256;
    size_t count = block == 1    ? sizeof float_k / sizeof *ks
                   : block == 32 ? sizeof k_32 / sizeof *ks
                                 : sizeof k_256 / sizeof *ks;
    size_t index = mix(seed, layout->type) % every;
    for (size_t i = 0; i < count; i++) {
        for (size_t kind = 0; kind < (ks[i] < LARGE_K ? KINDS : LARGE_KINDS); kind++) {
            if (index++ % every != 0) continue;
            problem p = {.layout = layout,
                         .n = most_rows(layout->type),
                         .m = kind < THOROUGH_KINDS && ks[i] < LARGE_K ? MAX_M : 17,
                         .k = ks[i],
                         .w_kind = kinds[kind].w,
                         .x_kind = kinds[kind].x};
            check_problem(lines, &p, mix(mix(seed, layout->type), ks[i] * KINDS + kind));
        }
    }
}

/* ---- The plain functions ---------------------------------------------------------------------------------------------- */

static void check_plain_call(tally *l, const problem *p, const result *e, bool by_type, uint64_t *rng) {
    describe(l, by_type ? "ferrum_gemv" : "ferrum_TYPE_gemv", p, p->n, 1);
    const unsigned char *w = place_weights(p, p->n, rng);
    const float *x = place_inputs(p, 1, rng);
    float *y = place_results(p->n, rng);
    if (!by_type) {
        p->layout->gemv(y, w, x, p->n, p->k);
    } else if (ferrum_gemv(p->layout->type, y, w, x, p->n, p->k) != FERRUM_OK) {
        failed(l, "refused");
    }
    if (!guard_intact(&guard_w) || !guard_intact(&guard_x) || !guard_intact(&guard_c))
        failed(l, "wrote outside its buffers");
    l->cases++;
    for (size_t r = 0; r < p->n; r++) compare(l, &e[r * p->m], e[r * p->m].gemv, r, 0, y[r]);
}

/* Where k ends within a block, the rest of the last block is dead weight, and the activations are taken as they are. */
static void expect_cut(result *e, const problem *p, size_t k) {
    float *w = fe_alloc(p->k, sizeof *w);
    if (!w) exit(1);
    for (size_t r = 0; r < p->n; r++) {
        double sum = 0, terms = 0;
        p->info->dequantize(w, p->w + r * p->stride, p->k / p->info->block);
        for (size_t i = 0; i < k; i++) {
            sum += (double)w[i] * p->x[i];
            terms += fabs((double)w[i] * p->x[i]);
        }
        e[r] = (result){.rounded = sum, .given = sum};
        e[r].gemv = ((double)k / 8 + 3) * (double)FLT_EPSILON * terms + (double)FLT_MIN;
    }
    free(w);
}

static void check_plain(tally *l, const type_layout *layout, uint64_t seed, size_t every) {
    size_t block = ferrum_type_block(layout->type);
    const size_t ks[] = {block, 3 * block, 4096, MAX_K - 256, MAX_K, block + 1, 2 * block - 1, 4096 + block / 2};
    for (size_t i = seed % fe_min(every, sizeof ks / sizeof *ks); i < sizeof ks / sizeof *ks; i += every) {
        size_t k = ks[i], whole = fe_round_up(k, block);
        problem p = {.layout = layout, .n = 67, .m = 1, .k = whole, .dense = true};
        seed = mix(seed, k);
        problem_init(&p, seed);
        result *e = expect(&p);
        if (k != whole) expect_cut(e, &p, k);
        p.k = k;
        check_plain_call(l, &p, e, true, &seed);
        if (layout->gemv) check_plain_call(l, &p, e, false, &seed);
        free(e);
        problem_free(&p);
    }
}

/* ---- Self-test: the checker must see a fault ---------------------------------------------------------------------------- */

enum fault { SCALE_BIT, QUANT_BIT, FAULTS };

/* The least significant bit of one scale, or of one quant; of one weight in floating point (of F32, the 16th bit). Rounding to
 * bfloat16 hides the last three bits of a scale: there it is the fifth. */
static void spoil(const problem *p, enum fault fault, bool bf16) {
    const type_layout *l = p->layout;
    if (is_float(p))
        p->w[l->type == FERRUM_F32 ? 2 : 0] ^= 1;
    else
        p->w[fault == SCALE_BIT ? l->scale : l->quants] ^= bf16 && fault == SCALE_BIT ? 16 : 1;
}

static size_t self_test_type(const type_layout *layout, uint64_t seed) {
    size_t missed = 0;
    for (size_t i = 0; i < tier_count; i++) {
        for (int fault = 0; fault < FAULTS; fault++) {
            problem p = {
                .layout = layout, .n = 3, .m = 20, .k = fe_max(64, ferrum_type_block(layout->type)), .w_kind = W_FF};
            problem_init(&p, seed);
            for (size_t x = 0; x < p.m * p.ldx; x++) p.x[x] = 1; /* so that nothing cancels */
            result *e = expect(&p);
            const fe_matmul_kernel *kernel = &tiers[i].table.matmul[layout->type];
            tally sound = {.tier = tiers[i].name}, gemv = {.tier = tiers[i].name, .silent = true}, gemm = gemv;
            check_gemv(&sound, kernel, &p, e, p.n, &seed);
            check_gemm(&sound, kernel, &p, e, p.n, p.m, &seed);
            spoil(&p, (enum fault)fault, kernel->bf16_from > 0);
            check_gemv(&gemv, kernel, &p, e, p.n, &seed);
            check_gemm(&gemm, kernel, &p, e, p.n, p.m, &seed);
            /* one row of w is spoilt: one result of gemv, m results of gemm */
            bool seen = sound.failures == 0 && gemv.failures == 1 && gemm.failures == p.m;
            if (!seen)
                printf("%s %s: a spoilt %s was not seen\n", p.info->name, tiers[i].name, fault ? "quant" : "scale");
            missed += !seen;
            free(e);
            problem_free(&p);
        }
    }
    return missed;
}

/* Kernels that go one element too far, on the side where a page is and on the side where canaries are. */
static bool guards_work(void) {
    volatile unsigned char *last = guard_place(&guard_w, 100, 1, false, 7);
    last[100] = 0;
    bool above = !guard_intact(&guard_w);
    last = guard_place(&guard_w, 100, 1, true, 0);
    last[-1] = 0;
    bool below = !guard_intact(&guard_w);
    fflush(stdout);
    snprintf(guard_doing, sizeof guard_doing, "self-test (this sentence is expected)");
    pid_t child = fork();
    if (child == 0) _exit(last[100]);
    int status = 0;
    bool page =
        child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == GUARD_EXIT;
    return above && below && page;
}

static int self_test(const char *type, uint64_t seed) {
    size_t missed = 0, types = 0;
    for (size_t i = 0; i < LAYOUTS; i++) {
        if (type && strcmp(type, ferrum_type_name(layouts[i].type)) != 0) continue;
        missed += self_test_type(&layouts[i], mix(seed, i));
        types++;
    }
    if (!guards_work()) {
        printf("a touch outside a buffer was not seen\n");
        missed++;
    }
    printf("self-test: %zu types, %zu instruction sets, %zu faults missed\n", types, tier_count, missed);
    return missed ? 1 : 0;
}

/* ---- The program ------------------------------------------------------------------------------------------------------------ */

static void find_tiers(const char *only) {
    unsigned machine = fe_cpu_probe();
    for (size_t i = 0; i < TIERS; i++) {
        unsigned flags = machine;
        if (only && strcmp(only, tier_names[i]) != 0) continue;
        if (!fe_cpu_cap(&flags, tier_names[i]) || strcmp(fe_cpu_flags_name(flags), tier_names[i]) != 0) {
            printf("skipped: %s, which this CPU does not have\n", tier_names[i]);
            continue;
        }
        tiers[tier_count].name = tier_names[i];
        fe_cpu_table_init(&tiers[tier_count++].table, flags);
    }
}

static void print_line(const char *type, const tally *l) {
    printf("%-5s %-7s %7zu %9zu %12.3f %12.3f\n", type, l->tier, l->cases, l->failures, l->worst, l->worst_given);
    fflush(stdout);
}

static int check(const char *type, uint64_t seed, size_t every) {
    size_t failures = 0, cases = 0;
    printf("seed %llu\n", (unsigned long long)seed);
    printf("                               largest error / tolerance\n");
    printf("type  tier      cases  failures    quantised  unquantised\n");
    fflush(stdout); /* a touch of a guard ends the program at once */
    for (size_t i = 0; i < LAYOUTS; i++) {
        const char *name = ferrum_type_name(layouts[i].type);
        if (type && strcmp(type, name) != 0) continue;
        tally lines[TIERS] = {{0}}, plain = {.tier = "plain"};
        for (size_t t = 0; t < tier_count; t++) lines[t].tier = tiers[t].name;
        check_type(lines, &layouts[i], seed, every);
        check_plain(&plain, &layouts[i], mix(seed, layouts[i].type), every);
        for (size_t t = 0; t < tier_count; t++) {
            if (inherited(t, layouts[i].type)) continue;
            print_line(name, &lines[t]);
            failures += lines[t].failures;
            cases += lines[t].cases;
        }
        print_line(name, &plain);
        failures += plain.failures;
        cases += plain.cases;
    }
    printf("%zu cases, %zu failures\n", cases, failures);
    return failures || !cases;
}

static int list(void) {
    for (size_t i = 0; i < LAYOUTS; i++)
        for (size_t t = 0; t < tier_count; t++) printf("%s %s\n", ferrum_type_name(layouts[i].type), tiers[t].name);
    return 0;
}

static int usage(void) {
    fprintf(stderr,
            "usage: check_matmul [--seed N] [--every N] [--type Q4_K] [--tier c|avx2|avxvnni|avx512|amx|neon|i8mm] "
            "[--list | --self-test]\n");
    return 2;
}

static bool known(const char *type, const char *tier) {
    bool type_known = !type, tier_known = !tier;
    for (size_t i = 0; i < LAYOUTS; i++)
        type_known = type_known || strcmp(type, ferrum_type_name(layouts[i].type)) == 0;
    for (size_t i = 0; i < TIERS; i++) tier_known = tier_known || strcmp(tier, tier_names[i]) == 0;
    return type_known && tier_known;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"every", required_argument, NULL, 'e'},
        {"type", required_argument, NULL, 't'},
        {"tier", required_argument, NULL, 'i'},
        {"list", no_argument, NULL, 'l'},
        {"self-test", no_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    uint64_t seed = (uint64_t)(fe_now() * 1e6);
    const char *type = NULL, *tier = NULL;
    size_t every = 1;
    int mode = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's')
            seed = strtoull(optarg, NULL, 0);
        else if (c == 'e')
            every = strtoull(optarg, NULL, 0);
        else if (c == 't')
            type = optarg;
        else if (c == 'i')
            tier = optarg;
        else if (c == 'l' || c == 'f')
            mode = c;
        else
            return usage();
    }
    if (optind < argc || every == 0 || !known(type, tier)) return usage();
    find_tiers(tier);
    if (mode == 'l') return list();
    guard_w = guard_new(16 << 20);
    guard_x = guard_new(16 << 20);
    guard_c = guard_new(1 << 20);
    guard_act = guard_new(16 << 20);
    guard_scratch = guard_new(16 << 20);
    guard_watch();
    return mode == 'f' ? self_test(type, seed) : check(type, seed, every);
}
