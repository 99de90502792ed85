/* The kernels that are no products of quantised weights, written once for every vector width. A file vector_ISA.c includes
 * simd_ISA.h, which gives VF lanes and the operations, defines FE_VECTOR_INIT as the name of its init function, and
 * then includes this. */
#include "kernels/cpu/act.h"
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

/* e^x to about 1 unit in the last place; 0 below -87, and x is taken as 88 above it. */
static inline vf vf_exp(vf x) {
    const vf low = vf_set(-87.0f), high = vf_set(88.0f);
    vf y = vf_min(vf_max(x, low), high);
    vf n = vf_round(vf_mul(y, vf_set(1.44269504089f)));
    /* ln 2 in two parts, so that n · ln 2 loses nothing */
    vf r = vf_fma(n, vf_set(-0.693359375f), y);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    /* minimax polynomial of e^r on |r| <= ln 2 / 2 (Cephes, expf) */
    vf p = vf_set(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_fma(p, vf_mul(r, r), vf_add(r, vf_set(1.0f)));
    return vf_mul(p, vf_pow2(n));
}

static float dot(const float *a, const float *b, size_t n) {
    vf s0 = vf_set(0), s1 = vf_set(0);
    size_t i = 0;
    for (; i + 2 * VF <= n; i += 2 * VF) {
        s0 = vf_fma(vf_load(a + i), vf_load(b + i), s0);
        s1 = vf_fma(vf_load(a + i + VF), vf_load(b + i + VF), s1);
    }
    for (; i + VF <= n; i += VF) s0 = vf_fma(vf_load(a + i), vf_load(b + i), s0);
    if (i < n) s1 = vf_fma(vf_load_n(a + i, n - i), vf_load_n(b + i, n - i), s1);
    return vf_sum(vf_add(s0, s1));
}

static void rms_norm(float *out, const float *x, const float *weight, size_t n, float eps) {
    vf inverse = vf_set(1.0f / sqrtf(dot(x, x, n) / (float)n + eps));
    size_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(out + i, vf_mul(vf_mul(vf_load(x + i), inverse), vf_load(weight + i)));
    if (i < n)
        vf_store_n(out + i, vf_mul(vf_mul(vf_load_n(x + i, n - i), inverse), vf_load_n(weight + i, n - i)), n - i);
}

static inline vf silu(vf x) { return vf_div(x, vf_add(vf_set(1.0f), vf_exp(vf_sub(vf_set(0), x)))); }

/* x/2 · (1 + tanh z) = x · e^2z / (1 + e^2z) = x / (1 + e^-2z) */
static inline vf gelu(vf x) {
    vf z = vf_mul(x, vf_fma(vf_mul(x, x), vf_set(0.044715f * 0.7978845608f), vf_set(0.7978845608f)));
    return vf_div(x, vf_add(vf_set(1.0f), vf_exp(vf_mul(vf_set(-2.0f), z))));
}

static inline vf sum_of(vf a, vf b) { return vf_add(a, b); }
static inline vf silu_times(vf a, vf b) { return vf_mul(silu(a), b); }
static inline vf gelu_times(vf a, vf b) { return vf_mul(gelu(a), b); }

/* One loop for all that takes two vectors to a third. */
static inline __attribute__((always_inline)) void each(float *out, const float *a, const float *b, size_t n,
                                                       vf (*f)(vf, vf)) {
    size_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(out + i, f(vf_load(a + i), vf_load(b + i)));
    if (i < n) vf_store_n(out + i, f(vf_load_n(a + i, n - i), vf_load_n(b + i, n - i)), n - i);
}
static void add(float *out, const float *a, const float *b, size_t n) { each(out, a, b, n, sum_of); }
static void swiglu(float *out, const float *gate, const float *up, size_t n) { each(out, gate, up, n, silu_times); }
static void geglu(float *out, const float *gate, const float *up, size_t n) { each(out, gate, up, n, gelu_times); }

static void axpy(float *out, float alpha, const float *x, size_t n) {
    vf a = vf_set(alpha);
    size_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(out + i, vf_fma(a, vf_load(x + i), vf_load(out + i)));
    if (i < n) vf_store_n(out + i, vf_fma(a, vf_load_n(x + i, n - i), vf_load_n(out + i, n - i)), n - i);
}

static void to_f16(uint16_t *out, const float *x, size_t n) {
    size_t i = 0;
    for (; i + VF <= n; i += VF) vf_store_f16(out + i, vf_load(x + i));
    if (i < n) {
        uint16_t last[VF];
        vf_store_f16(last, vf_load_n(x + i, n - i));
        memcpy(out + i, last, (n - i) * sizeof *out);
    }
}

static void rope_half(float *x, const float *cs, size_t half) {
    const float *sn = cs + half;
    float *y = x + half;
    size_t i = 0;
    for (; i + VF <= half; i += VF) {
        vf a = vf_load(x + i), b = vf_load(y + i), c = vf_load(cs + i), s = vf_load(sn + i);
        vf_store(x + i, vf_sub(vf_mul(a, c), vf_mul(b, s)));
        vf_store(y + i, vf_fma(a, s, vf_mul(b, c)));
    }
    for (; i < half; i++) {
        float a = x[i], b = y[i];
        x[i] = a * cs[i] - b * sn[i];
        y[i] = a * sn[i] + b * cs[i];
    }
}

/* ---- Attention ----
 * Positions are taken 32 at a time. Their scores stay in the first-level cache; a tile of 8 rows shares each vector of K and
 * of V that is loaded (and converted), and keeps its sums in registers. */
enum { TILE = 8, SPAN = 2 * FE_KV_BLOCK };

static inline vf load_f16(const void *p, size_t i) { return vf_load_f16((const uint16_t *)p + i); }
static inline vf load_f32(const void *p, size_t i) { return vf_load((const float *)p + i); }

/* Calls f with the number of rows as a constant, so that its sums are registers. */
#define FOR_ROWS(rows, f, ...)            \
    switch (rows) {                       \
    case 1: f(1, __VA_ARGS__); break;     \
    case 2: f(2, __VA_ARGS__); break;     \
    case 3: f(3, __VA_ARGS__); break;     \
    case 4: f(4, __VA_ARGS__); break;     \
    case 5: f(5, __VA_ARGS__); break;     \
    case 6: f(6, __VA_ARGS__); break;     \
    case 7: f(7, __VA_ARGS__); break;     \
    default: f(TILE, __VA_ARGS__); break; \
    }

/* scores[r][0 … 15] of `rows` rows against one block of K. */
static inline __attribute__((always_inline)) void score_block(size_t rows, float (*scores)[SPAN], const float *const *q,
                                                              const void *k, size_t dim,
                                                              vf (*load)(const void *, size_t)) {
    for (size_t v = 0; v < FE_KV_BLOCK; v += VF) {
        vf sum[TILE];
        for (size_t r = 0; r < rows; r++) sum[r] = vf_set(0);
        for (size_t d = 0; d < dim; d++) {
            vf x = load(k, d * FE_KV_BLOCK + v);
            for (size_t r = 0; r < rows; r++) sum[r] = vf_fma(vf_set(q[r][d]), x, sum[r]);
        }
        for (size_t r = 0; r < rows; r++) vf_store(&scores[r][v], sum[r]);
    }
}

/* Scales, caps and masks one row's scores, turns them into weights e^(score - max), and lowers what was summed before where
 * the largest score has grown. False where the row sees none of the span. */
static inline bool soften(const fe_attention_task *t, size_t row, size_t at, float *scores) {
    size_t begin = t->begin[row] > at ? t->begin[row] - at : 0, end = t->end[row] > at ? t->end[row] - at : 0;
    if (end > t->to - at) end = t->to - at;
    if (end > SPAN) end = SPAN;
    if (begin >= end) {
        memset(scores, 0, SPAN * sizeof *scores);
        return false;
    }
    vf largest = vf_set(-INFINITY), scale = vf_set(t->scale);
    for (size_t i = 0; i < SPAN; i += VF) vf_store(scores + i, vf_mul(vf_load(scores + i), scale));
    if (t->softcap > 0)
        for (size_t i = begin; i < end; i++) scores[i] = t->softcap * tanhf(scores[i] / t->softcap);
    for (size_t i = 0; i < begin; i++) scores[i] = -INFINITY;
    for (size_t i = end; i < SPAN; i++) scores[i] = -INFINITY;
    for (size_t i = 0; i < SPAN; i += VF) largest = vf_max(vf_load(scores + i), largest);
    float old = t->max[row], max = fmaxf(vf_hmax(largest), old);
    vf total = vf_set(0), minus = vf_set(-max);
    for (size_t i = 0; i < SPAN; i += VF) {
        vf w = vf_exp(vf_add(vf_load(scores + i), minus));
        vf_store(scores + i, w);
        total = vf_add(total, w);
    }
    /* e^x is cut at -87, where a masked score would still weigh 1e-38: make it nothing. */
    for (size_t i = 0; i < begin; i++) scores[i] = 0;
    for (size_t i = end; i < SPAN; i++) scores[i] = 0;
    float fade = old == -INFINITY ? 0.0f : expf(old - max);
    t->max[row] = max;
    t->total[row] = t->total[row] * fade + vf_sum(total);
    if (fade != 1.0f) {
        float *sum = t->sum + row * t->head_dim;
        for (size_t d = 0; d < t->head_dim; d++) sum[d] *= fade;
    }
    return true;
}

/* sum[r][d …] += Σ weights[r][p] · v[p][d …] for `rows` rows and `count` positions. */
static inline __attribute__((always_inline)) void add_values(size_t rows, float *sums, size_t dim,
                                                             const float (*weights)[SPAN], const void *v, size_t at,
                                                             size_t count, vf (*load)(const void *, size_t)) {
    for (size_t d = 0; d < dim; d += VF) {
        vf sum[TILE];
        for (size_t r = 0; r < rows; r++) sum[r] = vf_load(sums + r * dim + d);
        for (size_t p = 0; p < count; p++) {
            vf x = load(v, (at + p) * dim + d);
            for (size_t r = 0; r < rows; r++) sum[r] = vf_fma(vf_set(weights[r][p]), x, sum[r]);
        }
        for (size_t r = 0; r < rows; r++) vf_store(sums + r * dim + d, sum[r]);
    }
}

static inline __attribute__((always_inline)) void attend(const fe_attention_task *t, size_t element,
                                                         vf (*load)(const void *, size_t)) {
    _Alignas(64) float scores[TILE][SPAN];
    memset(t->sum, 0, t->rows * t->head_dim * sizeof *t->sum);
    for (size_t r = 0; r < t->rows; r++) {
        t->max[r] = -INFINITY;
        t->total[r] = 0;
    }
    for (size_t at = t->from / FE_KV_BLOCK * FE_KV_BLOCK; at < t->to; at += SPAN) {
        size_t count = t->to - at < SPAN ? t->to - at : SPAN;
        for (size_t first = 0; first < t->rows; first += TILE) {
            size_t rows = t->rows - first < TILE ? t->rows - first : TILE;
            for (size_t b = 0; b < count; b += FE_KV_BLOCK) {
                const char *block = (const char *)t->k + (at + b) * t->head_dim * element;
                FOR_ROWS(rows, score_block, (float(*)[SPAN])(scores[0] + b), t->q + first, block, t->head_dim, load)
            }
            bool any = false;
            for (size_t r = 0; r < rows; r++) any |= soften(t, first + r, at, scores[r]);
            if (any)
                FOR_ROWS(rows, add_values, t->sum + first * t->head_dim, t->head_dim, (const float(*)[SPAN])scores,
                         t->v, at, count, load)
        }
    }
}

static void attention_f16(const fe_attention_task *task) { attend(task, sizeof(uint16_t), load_f16); }
static void attention_f32(const fe_attention_task *task) { attend(task, sizeof(float), load_f32); }

static float largest(const float *x, size_t n) {
    vf max[8];
    for (size_t j = 0; j < 8; j++) max[j] = vf_load(x);
    for (size_t i = 0; i < n; i += 8 * VF)
        for (size_t j = 0; j < 8; j++) max[j] = vf_max(vf_load(x + i + j * VF), max[j]);
    for (size_t j = 1; j < 8; j++) max[0] = vf_max(max[0], max[j]);
    return vf_hmax(max[0]);
}

void FE_VECTOR_INIT(fe_vector_kernels *v) {
    *v = (fe_vector_kernels){rms_norm, swiglu,    geglu,         add,           axpy,   dot,
                             to_f16,   rope_half, attention_f16, attention_f32, largest};
}
