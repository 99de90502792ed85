/* A GPU's products, embeddings and dequantising kernels, of every block type, against src/quant. The other ops are checked by
 * check_ops --device NAME, and all of them together by test_golden.
 *
 *     check_gpu [--device metal|cuda] [--seed N] [--every N] [--self-test]
 *
 * Dequantised weights are equal to src/quant's, rounded to half; embedded rows to src/quant's times the scale.
 * Products are summed here in double, and the tolerance follows from the data. A term takes part in at most
 *   k/32 + 34 additions with up to 8 tokens: those of a lane, one of 32, of a unit's 16 elements, and of the lanes,
 *   k + 34 with more, where matrices are multiplied step by step,
 * each wrong by at most FLT_EPSILON/2 of Σ |terms|. With w = s·q + o, the terms are s·q·x and o·x; what o is, src/quant tells
 * of a block whose quants are zero. With more than 8 tokens Metal's weights may be rounded to half before. CUDA's activations
 * are rounded too, where weights have blocks: one token to 15 bits of the largest of 128, 2 to 4 to those of 16 or to halves; more, and
 * with weights of F16 from two on, to halves, as weights are: s and o at 2^-12, their sum and the activation too. */
#include "core/core.h"
#include "kernels/ops.h"
#include "quant/quant.h"

#include "guard.h"

#include <float.h>
#include <math.h>
#include <time.h>

/* Where a block holds its quants and its fp16 numbers; NONE. */
#define NONE SIZE_MAX
static const struct layout {
    ferrum_type type;
    size_t quants, quants_end, scale, min;
} layouts[] = {
    {FERRUM_F32, 0, 0, NONE, NONE},   {FERRUM_F16, 0, 0, NONE, NONE}, {FERRUM_BF16, 0, 0, NONE, NONE},
    {FERRUM_Q4_0, 2, 18, 0, NONE},    {FERRUM_Q4_1, 4, 20, 0, 2},     {FERRUM_Q5_0, 2, 22, 0, NONE},
    {FERRUM_Q5_1, 4, 24, 0, 2},       {FERRUM_Q8_0, 2, 34, 0, NONE},  {FERRUM_Q2_K, 16, 80, 80, 82},
    {FERRUM_Q3_K, 0, 96, 108, NONE},  {FERRUM_Q4_K, 16, 144, 0, 2},   {FERRUM_Q5_K, 16, 176, 0, 2},
    {FERRUM_Q6_K, 0, 192, 208, NONE},
};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

enum { MOST_BYTES = 64 << 20, FAILURES_SHOWN = 3, FEW = 8 };

static uint64_t seed, rng;
static size_t cases, failures, every = 1;
static bool self_test, cuda;

static struct {
    ferrum_device *device;
    ferrum_stream *stream;
    ferrum_buffer *buffer;
    unsigned char *data;
} bed;

static void die(const ferrum_error *err) {
    fprintf(stderr, "check_gpu: %s\n", err->message);
    exit(1);
}

static void wait_for(void) {
    ferrum_error err = {0};
    if (ferrum_stream_wait(bed.stream, &err)) die(&err);
}

static void fail(ferrum_type type, const char *what, size_t i, double got, double want, double tolerance) {
    if (failures++ < FAILURES_SHOWN)
        printf("%s %s: element %zu is %.9g, not %.9g ± %.2g (seed %llu)\n", ferrum_type_name(type), what, i, got, want,
               tolerance, (unsigned long long)seed);
}

/* ---- Weights ---- */

/* Halves of about 0.01 or, `wild`, any finite ones. */
static uint16_t random_half(bool wild) {
    uint16_t bits = (uint16_t)fe_splitmix64(&rng);
    if (wild) return (bits & 0x7C00) == 0x7C00 ? bits & 0x83FF : bits;
    return fe_f32_to_f16(0.01f + random_signed(&rng) * random_signed(&rng)) | (bits & 0x8000);
}

static void random_rows(unsigned char *w, const struct layout *l, size_t rows, size_t stride, size_t row, bool wild) {
    size_t block = ferrum_type_bytes(l->type);
    for (size_t r = 0; r < rows; r++)
        for (size_t at = 0; at < row; at += block) {
            unsigned char *b = w + r * stride + at;
            uint16_t d = random_half(wild), min = random_half(wild);
            float f = fe_f16_to_f32(d);
            for (size_t i = 0; i < block; i++) b[i] = (unsigned char)fe_splitmix64(&rng);
            if (l->scale != NONE) memcpy(b + l->scale, &d, sizeof d);
            if (l->min != NONE) memcpy(b + l->min, &min, sizeof min);
            if (l->quants_end == 0) ferrum_quantize(l->type, b, &f, 1, 1);
        }
}

/* ---- Dequantising ---- */

/* Rows of `cols` unpacked to half, from any byte where `odd`. */
static void check_dequantize(const struct layout *l, size_t cols, bool wild, bool odd) {
    enum { ROWS = 7, TO = 1 << 20 };
    size_t row = ferrum_row_bytes(l->type, cols), stride = row + (odd ? 3 : 4), gap = random_below(&rng, 3);
    ferrum_tensor w = ferrum_tensor_view(bed.buffer, odd ? 33 : 36, l->type, ROWS, cols),
                  out = ferrum_tensor_view(bed.buffer, TO, FERRUM_F16, ROWS, cols);
    static uint16_t want[4096];
    w.row_stride = stride;
    out.row_stride = (cols + gap) * sizeof *want;
    random_rows(bed.data + w.offset, l, ROWS, stride, row, wild);
    memset(bed.data + TO, GUARD_CANARY, ROWS * out.row_stride + GUARD_GAP);
    ferrum_unpack(bed.stream, &out, &w);
    wait_for();
    cases++;
    for (size_t r = 0; r < ROWS; r++) {
        const uint16_t *got = fe_at(&out, 0, r);
        ferrum_dequantize_f16(l->type, want, fe_at(&w, 0, r), cols);
        if (self_test) want[cols / 2] ^= 1;
        for (size_t i = 0; i < cols; i++)
            /* a zero's sign is nobody's concern: d · (q - 8) has one, d · q - 8 · d has not */
            if (got[i] != want[i] && ((got[i] | want[i]) & 0x7FFF)) {
                fail(l->type, "unpacked", r * cols + i, fe_f16_to_f32(got[i]), fe_f16_to_f32(want[i]), 0);
                return;
            }
        const unsigned char *behind = (const unsigned char *)(got + cols);
        for (size_t i = 0; i < (r + 1 < ROWS ? gap * sizeof *want : GUARD_GAP); i++)
            if (behind[i] != GUARD_CANARY) {
                fail(l->type, "unpacked, past the end", i, behind[i], GUARD_CANARY, 0);
                return;
            }
    }
}

static void check_dequantized(const struct layout *l) {
    size_t block = fe_max(ferrum_type_block(l->type), 32);
    const size_t cols[] = {block, 5 * block, 4096, block + 9};
    for (size_t i = 0; i < 4; i++)
        for (int odd = 0; odd < 2; odd++)
            for (int wild = 0; wild < 2; wild++) check_dequantize(l, cols[i], wild, odd);
}

/* ---- Products ---- */

/* c[m,n] = a[m,k] · w[n,k]ᵀ, of experts for each pair of a token and one of `used`; all in one buffer. */
typedef struct problem {
    const struct layout *layout;
    size_t m, n, k;
    size_t experts, used; /* 0: none */
    bool aligned;         /* as the kernels for one token want it */
    ferrum_tensor a, w, c, ids;
    float *most; /* for each element of a the largest magnitude of those that share its scale */
} problem;

static size_t place(size_t *at, size_t bytes, size_t align, size_t past) {
    size_t here = fe_round_up(*at + GUARD_GAP, align) + past;
    *at = here + bytes;
    return here;
}

/* Alignments: all that the fast kernels want, or in one respect less. The weights end where the buffer does, or next to it, so
 * that a row too many is outside. */
static void problem_init(problem *p) {
    static const size_t w_before[] = {0, 0, 0, 1, 2}, row_past[] = {0, 0, 2, 14, 3};
    const struct layout *l = p->layout;
    size_t at = 0, row = ferrum_row_bytes(l->type, p->k), slices = fe_max(p->experts, 1);
    size_t a_rows = p->m, c_rows = p->m * fe_max(p->used, 1);
    size_t scale = l->type == FERRUM_F32 ? 2 : 1;
    size_t stride = row + (p->aligned ? 0 : scale * row_past[random_below(&rng, 5)]),
           a_cols = p->k + random_below(&rng, 2) * 4, c_cols = p->n + random_below(&rng, 4),
           a_past = p->aligned || random_below(&rng, 6) ? 0 : 4;
    size_t w = MOST_BYTES - (slices * p->n - 1) * stride - row - (p->aligned ? 0 : w_before[random_below(&rng, 5)]);
    size_t a = place(&at, a_rows * a_cols * sizeof(float), 16, a_past);
    size_t ids = place(&at, p->m * fe_max(p->used, 1) * sizeof(float), 16, 0);
    size_t c = place(&at, c_rows * c_cols * sizeof(float), 16, 4 * random_below(&rng, 4));
    if (at + GUARD_GAP > w) die(&(ferrum_error){.message = "the problem is too large"});
    memset(bed.data, GUARD_CANARY, at + GUARD_GAP);

    p->w = ferrum_tensor_stack(bed.buffer, w, l->type, (uint32_t)slices, p->n, p->k);
    p->w.row_stride = stride;
    p->w.slice_stride = p->n * stride;
    p->a = ferrum_tensor_view(bed.buffer, a, FERRUM_F32, a_rows, p->k);
    p->a.row_stride = a_cols * sizeof(float);
    p->c = ferrum_tensor_view(bed.buffer, c, FERRUM_F32, c_rows, p->n);
    p->c.row_stride = c_cols * sizeof(float);
    p->ids = ferrum_tensor_view(bed.buffer, ids, FERRUM_F32, p->m, fe_max(p->used, 1));

    random_rows(bed.data + w, l, slices * p->n, stride, row, false);
    for (size_t i = 0; i < a_rows; i++)
        for (size_t j = 0; j < p->k; j++) fe_row(&p->a, i)[j] = random_normal(&rng);
    for (size_t i = 0; i < p->m && p->used; i++) /* different ones for a token */
        for (size_t j = 0, first = random_below(&rng, p->experts); j < p->used; j++)
            fe_row(&p->ids, i)[j] = (float)((first + j) % p->experts);
}

/* A row of weights, the same rounded to half, and what each is made of: |s·q| + |o|. */
typedef struct weights {
    double *exact, *half, *parts;
} weights;

static weights open_weights(size_t k) {
    weights w = {fe_alloc(k, sizeof(double)), fe_alloc(k, sizeof(double)), fe_alloc(k, sizeof(double))};
    if (!w.exact || !w.half || !w.parts) exit(1);
    return w;
}

static void close_weights(weights *w) {
    free(w->exact);
    free(w->half);
    free(w->parts);
}

static void load_weights(const weights *w, const problem *p, const unsigned char *row) {
    const struct layout *l = p->layout;
    size_t block = ferrum_type_block(l->type), bytes = ferrum_type_bytes(l->type);
    float value[256], offset[256];
    unsigned char copy[256];
    for (size_t i = 0; i < p->k; i += block, row += bytes) {
        memcpy(copy, row, bytes);
        ferrum_dequantize(l->type, value, copy, block);
        memset(copy + l->quants, 0, l->quants_end - l->quants);
        ferrum_dequantize(l->type, offset, copy, block);
        for (size_t j = 0; j < block && i + j < p->k; j++) {
            double o = l->quants_end ? fabs(offset[j]) : 0;
            w->exact[i + j] = value[j];
            w->half[i + j] = fe_f16_to_f32(fe_f32_to_f16(value[j]));
            w->parts[i + j] = fabs(value[j]) + 2 * o;
        }
    }
}

/* What rounding term i's factors leaves at most. */
static double rounding_of(const problem *p, const weights *w, const float *a, const float *most, size_t i,
                          size_t tokens) {
    enum { GEMV = 4 }; /* or 1, where there are warpgroups */
    ferrum_type type = p->layout->type;
    if (!cuda || type == FERRUM_F32 || type == FERRUM_BF16 || (type == FERRUM_F16 && tokens == 1)) return 0;
    double halves = w->parts[i] * fabs(a[i]) * 3 / 2048 + fabs(a[i]) * 0x1p-19;
    double ints = fabs(w->exact[i]) * most[i] / 32000 + w->parts[i] * fabs(a[i]) * 4 * (double)FLT_EPSILON;
    return tokens == 1 && !p->used ? ints : tokens > GEMV && !p->used ? halves : fmax(ints, halves);
}

/* A row's product, and of weights rounded to half, and how far from them another may be. */
typedef struct product {
    double exact, half, tolerance;
} product;

static product product_of(const problem *p, const weights *w, size_t a_row, size_t tokens) {
    const float *a = fe_row(&p->a, a_row), *most = p->most + a_row * p->k;
    double terms = 0, rounding = 0;
    product x = {0};
    for (size_t i = 0; i < p->k; i++) {
        x.exact += w->exact[i] * a[i];
        x.half += w->half[i] * a[i];
        terms += w->parts[i] * fabs(a[i]);
        rounding += rounding_of(p, w, a, most, i, tokens);
    }
    size_t adds = tokens > FEW || cuda ? p->k : p->k / 32;
    x.tolerance = ((double)adds + 34) * (double)FLT_EPSILON / 2 * terms + rounding;
    return x;
}

static bool check_result(const problem *p, const weights *w, size_t row, size_t n, size_t tokens) {
    product x = product_of(p, w, p->used ? row / p->used : row, tokens);
    double got = fe_row(&p->c, row)[n];
    bool many = tokens > FEW || cuda;
    if (fabs(got - x.exact) <= x.tolerance || (many && fabs(got - x.half) <= x.tolerance)) return true;
    char what[128];
    snprintf(what, sizeof what, "%s %zu × %zu × %zu, offset %zu, stride %zu", p->used ? "experts" : "product", p->m,
             p->n, p->k, p->w.offset, p->w.row_stride);
    fail(p->layout->type, what, row * p->n + n, got, x.exact, x.tolerance);
    return false;
}

/* Has anything but c's elements changed? All else of the gaps is canaries. */
static void check_gaps(const problem *p) {
    const ferrum_tensor *c = &p->c;
    size_t row = c->cols * sizeof(float), end = c->offset + c->rows * c->row_stride;
    bool intact = true;
    for (size_t i = 1; i <= GUARD_GAP; i++) intact &= bed.data[c->offset - i] == GUARD_CANARY;
    for (size_t r = 0; r < c->rows; r++)
        for (size_t i = row; i < c->row_stride; i++)
            intact &= bed.data[c->offset + r * c->row_stride + i] == GUARD_CANARY;
    for (size_t i = 0; i < GUARD_GAP; i++) intact &= bed.data[end + i] == GUARD_CANARY;
    if (!intact) fail(p->layout->type, "product: a gap beside c", 0, 1, 0, 0);
}

static void find_most(problem *p) {
    const size_t chunk = p->m == 1 ? 128 : 16;
    p->most = fe_alloc(p->a.rows * p->k, sizeof(float));
    if (!p->most) exit(1);
    for (size_t row = 0; row < p->a.rows; row++)
        for (size_t i = 0; i < p->k; i += chunk) {
            float most = 0, *to = p->most + row * p->k;
            for (size_t j = i; j < i + chunk && j < p->k; j++) most = fmaxf(most, fabsf(fe_row(&p->a, row)[j]));
            for (size_t j = i; j < i + chunk && j < p->k; j++) to[j] = most;
        }
}

/* As if the kernel had taken some quants, or a float's sign, for others. */
static void spoil(const problem *p, size_t row) {
    size_t end = p->layout->quants_end, at = end ? end - 8 : ferrum_type_bytes(p->layout->type) - 1;
    for (size_t i = 0; i < (end ? 4 : 1); i++) *((unsigned char *)fe_at(&p->w, 0, row) + at + i) ^= 0x88;
}

static void check_product(problem p) {
    static size_t number;
    if (number++ % every) return;
    problem_init(&p);
    find_most(&p);
    if (p.used)
        ferrum_matmul_experts(bed.stream, &p.c, &p.a, &p.w, &p.ids);
    else
        ferrum_matmul(bed.stream, &p.c, &p.a, &p.w);
    wait_for();
    cases++;
    if (self_test) spoil(&p, p.n / 2);
    weights w = open_weights(p.k);
    bool ok = true;
    for (size_t e = 0; e < p.w.slices && ok; e++)
        for (size_t n = 0; n < p.n && ok; n++) {
            load_weights(&w, &p, fe_at(&p.w, e, n));
            for (size_t row = 0; row < p.c.rows && ok; row++)
                if (!p.used || (size_t)fe_row(&p.ids, row / p.used)[row % p.used] == e)
                    ok = check_result(&p, &w, row, n, p.c.rows);
        }
    check_gaps(&p);
    free(p.most);
    close_weights(&w);
}

/* The gated product of one token: rows of gate, then as many of up, of which each is a row of `p`'s weights. */
static void check_gated(const struct layout *l, size_t n, size_t k) {
    static size_t number;
    if (number++ % every) return;
    problem p = {.layout = l, .m = 1, .n = 2 * n, .k = k, .aligned = true};
    problem_init(&p);
    find_most(&p);
    ferrum_tensor w[2] = {p.w, p.w}, c[2] = {p.c, p.c};
    for (size_t i = 0; i < 2; i++) {
        w[i].rows = c[i].cols = n;
        w[i].offset += i * n * p.w.row_stride;
        c[i].offset += i * n * sizeof(float);
    }
    ferrum_matmul_many(bed.stream, 2, c, &p.a, w, FERRUM_USUAL);
    ferrum_swiglu(bed.stream, &c[0], &c[0], &c[1]);
    wait_for();
    cases++;
    for (size_t i = 0; self_test && i < p.n; i++) spoil(&p, i); /* one may be next to nothing, times the other */
    weights each = open_weights(k);
    for (size_t i = 0; i < n; i++) {
        product x[2];
        for (size_t j = 0; j < 2; j++) {
            load_weights(&each, &p, fe_at(&w[j], 0, i));
            x[j] = product_of(&p, &each, 0, 1);
        }
        /* x / (1 + e^-x) is nowhere steeper than 1.1 */
        double silu = x[0].exact / (1 + exp(-x[0].exact)), want = silu * x[1].exact, got = fe_row(&c[0], 0)[i];
        double tolerance = 1.1 * x[0].tolerance * (fabs(x[1].exact) + x[1].tolerance) + fabs(silu) * x[1].tolerance +
                           16 * (double)FLT_EPSILON * fabs(want);
        if (fabs(got - want) <= tolerance) continue;
        fail(l->type, "gated product", i, got, want, tolerance);
        break;
    }
    check_gaps(&p);
    free(p.most);
    close_weights(&each);
}

/* So many rows that each warp of CUDA's kernels for one token has several; in one piece, two, and a last one that is short. */
static void check_many_rows(const struct layout *l) {
    static const size_t rows[] = {9600, 10001, 9520}, cols[] = {256, 2304, 4096};
    for (size_t i = 0; i < 3; i++) {
        check_product((problem){.layout = l, .m = 1, .n = rows[i], .k = cols[i], .aligned = true});
        check_gated(l, rows[i] / 2, cols[i]);
    }
}

static void check_products(const struct layout *l) {
    static const size_t few[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 33, 64, 130, 300}, rows[] = {1, 5, 67, 200};
    const size_t ms = cuda ? 14 : 12, ns = cuda ? 4 : 3; /* more for the larger tiles of CUDA */
    size_t block = fe_max(ferrum_type_block(l->type), 32);
    const size_t cols[] = {block, 256, 3 * block, block + 9, 300};
    for (size_t k = 0; k < 5; k++)
        for (size_t n = 0; n < ns; n++)
            for (size_t m = 0; m < ms; m++)
                check_product((problem){.layout = l, .m = few[m], .n = rows[n], .k = cols[k]});
    for (size_t m = 0; m < ms; m += 2) check_product((problem){.layout = l, .m = few[m], .n = 67, .k = 4096});
    for (size_t m = 1; m < 30; m += 7) {
        check_product((problem){.layout = l, .m = m, .n = 33, .k = 2 * block, .experts = 5, .used = 2});
        check_product((problem){.layout = l, .m = m, .n = 70, .k = block + 9, .experts = 3, .used = 3});
    }
    /* k of more stages than are on their way at once */
    check_product((problem){.layout = l, .m = 40, .n = 33, .k = 4096, .experts = 4, .used = 2});
}

/* ---- Embedding ---- */

static void check_embed(const struct layout *l, size_t cols) {
    enum { ROWS = 9, TOKENS = 5, OUT = 1 << 20 };
    const float scale = 3.5f;
    size_t at = 0, row = ferrum_row_bytes(l->type, cols), table = place(&at, ROWS * row, 32, random_below(&rng, 8));
    ferrum_tensor w = ferrum_tensor_view(bed.buffer, table, l->type, ROWS, cols),
                  out = ferrum_tensor_view(bed.buffer, OUT, FERRUM_F32, TOKENS, cols);
    int32_t ids[TOKENS];
    static float want[1024];
    random_rows(bed.data + table, l, ROWS, row, row, false);
    for (size_t i = 0; i < TOKENS; i++) ids[i] = (int32_t)random_below(&rng, ROWS);
    ferrum_embed(bed.stream, &out, &w, ids, scale);
    wait_for();
    cases++;
    for (size_t i = 0; i < TOKENS; i++) {
        ferrum_dequantize(l->type, want, fe_at(&w, 0, (size_t)ids[i]), cols);
        for (size_t j = 0; j < cols; j++) {
            float expected = (self_test ? -want[j] : want[j]) * scale, got = fe_row(&out, i)[j];
            if (got == expected) continue;
            fail(l->type, "embedded", i * cols + j, got, expected, 0);
            return;
        }
    }
}

/* ---- The original's own check ---- */

/* 4096 × 4096 weights of Q4_K from two waves, activations from a third. */
static void check_waves(size_t m) {
    enum { SIZE = 4096 };
    float *plain = fe_alloc((size_t)SIZE * SIZE, sizeof *plain);
    size_t at = 0, row = ferrum_row_bytes(FERRUM_Q4_K, SIZE), w = place(&at, SIZE * row, 32, 0);
    size_t a = place(&at, m * SIZE * sizeof(float), 16, 0), c = place(&at, m * SIZE * sizeof(float), 16, 0);
    ferrum_tensor tw = ferrum_tensor_view(bed.buffer, w, FERRUM_Q4_K, SIZE, SIZE),
                  ta = ferrum_tensor_view(bed.buffer, a, FERRUM_F32, m, SIZE),
                  tc = ferrum_tensor_view(bed.buffer, c, FERRUM_F32, m, SIZE);
    if (!plain) exit(1);
    for (size_t i = 0; i < (size_t)SIZE * SIZE; i++)
        plain[i] = (float)(sin(0.0173 * (double)(i % 313)) / 2 + cos(0.0091 * (double)(i % 251)));
    if (ferrum_quantize(FERRUM_Q4_K, bed.data + w, plain, SIZE, SIZE)) exit(1);
    for (size_t i = 0; i < m * SIZE; i++) fe_row(&ta, 0)[i] = (float)sin(0.0007 * (double)i);
    ferrum_matmul(bed.stream, &tc, &ta, &tw);
    wait_for();
    cases++;
    double error = 0, power = 0;
    bool near = true;
    ferrum_dequantize(FERRUM_Q4_K, plain, bed.data + w, (size_t)SIZE * SIZE);
    for (size_t t = 0; t < m; t++)
        for (size_t n = 0; n < SIZE; n++) {
            double want = 0, got = fe_row(&tc, t)[n];
            for (size_t i = 0; i < SIZE; i++) want += (double)plain[n * SIZE + i] * fe_row(&ta, t)[i];
            error += (got - want) * (got - want);
            power += want * want;
            near &= fabs(got - want) <= 0.5 || fabs(got - want) <= 0.05 * fabs(want);
        }
    free(plain);
    /* rounding the weights to half is a relative 2^-12 or so for each, at random */
    double bound = m > FEW ? (cuda ? 4e-7 : 1e-7) : cuda ? 1e-8 : 1e-9, nmse = error / power;
    printf("waves, %zu token%s: NMSE %.1e\n", m, m > 1 ? "s" : "", nmse);
    if (!near || !(nmse <= bound)) fail(FERRUM_Q4_K, "waves: NMSE", m, nmse, 0, bound);
}

/* ---- ---- */

static void check_type(const struct layout *l) {
    size_t before = failures, done = cases;
    check_dequantized(l);
    check_products(l);
    if (cuda && l->quants_end) check_many_rows(l);
    check_embed(l, ferrum_type_block(l->type));
    check_embed(l, 300);
    printf("%-5s %4zu cases  %s\n", ferrum_type_name(l->type), cases - done, failures == before ? "ok" : "FAILED");
}

/* Each way of failing by itself, for each type. */
static int check_checks(void) {
    size_t missed = 0;
    self_test = true;
    for (const struct layout *l = layouts; l < layouts + LAYOUTS; l++)
        for (int way = 0; way < 5; way++) {
            size_t before = failures = FAILURES_SHOWN; /* quietly */
            switch (way) {
            case 0: check_dequantize(l, 256, false, false); break;
            case 1: check_product((problem){.layout = l, .m = 1, .n = 5, .k = 256}); break;
            case 2: check_product((problem){.layout = l, .m = 9, .n = 5, .k = 256}); break;
            case 3: check_embed(l, 300); break;
            case 4: check_gated(l, 5, 256); break;
            }
            if (failures > before) continue;
            missed++;
            printf("%s: fault %d was not seen\n", ferrum_type_name(l->type), way);
        }
    printf("self-test: %zu faults not seen\n", missed);
    return missed ? 1 : 0;
}

/* Ends the program where the machine has no such device: there is nothing to check. */
static void probe(const char *name) {
    enum { SKIPPED = 77 };
    ferrum_device *device;
    ferrum_error err = {0};
    if (ferrum_device_open(&device, name, NULL, &err)) {
        printf("skipped: %s\n", err.message);
        exit(err.code == FERRUM_EDEVICE ? SKIPPED : 1);
    }
    ferrum_device_close(device);
}

int main(int argc, char **argv) {
    ferrum_error err = {0};
    bool check_self = false;
    const char *device = "metal";
    seed = (uint64_t)time(NULL);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--self-test") == 0) check_self = true;
        if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) seed = strtoull(argv[i + 1], NULL, 10);
        if (i + 1 < argc && strcmp(argv[i], "--device") == 0) device = argv[i + 1];
        if (i + 1 < argc && strcmp(argv[i], "--every") == 0) every = strtoull(argv[i + 1], NULL, 10);
    }
    if (check_self) seed = 1;
    rng = seed;
    printf("check_gpu --seed %llu\n", (unsigned long long)seed);
    cuda = strcmp(device, "cuda") == 0;
    probe(device);
    if (ferrum_device_open(&bed.device, device, NULL, &err) || ferrum_stream_open(&bed.stream, bed.device, &err) ||
        ferrum_buffer_new(&bed.buffer, bed.device, MOST_BYTES, &err))
        die(&err);
    bed.data = ferrum_buffer_data(bed.buffer);
    int rc;
    if (check_self) {
        rc = check_checks();
    } else {
        for (const struct layout *l = layouts; l < layouts + LAYOUTS; l++) check_type(l);
        check_waves(1);
        check_waves(9);
        printf("%zu cases, %zu failed\n", cases, failures);
        rc = failures ? 1 : 0;
    }
    ferrum_stream_close(bed.stream);
    ferrum_buffer_free(bed.buffer);
    ferrum_device_close(bed.device);
    return rc;
}
