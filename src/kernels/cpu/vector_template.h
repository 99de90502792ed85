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

static float sum_all(const float *x, size_t n) {
    vf sum = vf_set(0);
    size_t i = 0;
    for (; i + VF <= n; i += VF) sum = vf_add(sum, vf_load(x + i));
    if (i < n) sum = vf_add(sum, vf_load_n(x + i, n - i));
    return vf_sum(sum);
}

static void layer_norm(float *out, const float *x, const float *weight, const float *bias, size_t n, float eps) {
    float mean = sum_all(x, n) / (float)n;
    for (size_t i = 0; i < n; i++) out[i] = x[i] - mean;
    vf inverse = vf_set(1.0f / sqrtf(dot(out, out, n) / (float)n + eps));
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(out + i, vf_fma(vf_mul(vf_load(out + i), inverse), vf_load(weight + i), vf_load(bias + i)));
    if (i == n) return;
    vf scaled = vf_mul(vf_load_n(out + i, n - i), inverse);
    vf_store_n(out + i, vf_fma(scaled, vf_load_n(weight + i, n - i), vf_load_n(bias + i, n - i)), n - i);
}

static inline vf silu(vf x) { return vf_div(x, vf_add(vf_set(1.0f), vf_exp(vf_sub(vf_set(0), x)))); }

/* x/2 · (1 + tanh z) = x · e^2z / (1 + e^2z) = x / (1 + e^-2z) */
static inline vf gelu(vf x) {
    vf z = vf_mul(x, vf_fma(vf_mul(x, x), vf_set(0.044715f * 0.7978845608f), vf_set(0.7978845608f)));
    return vf_div(x, vf_add(vf_set(1.0f), vf_exp(vf_mul(vf_set(-2.0f), z))));
}

/* x/2 · (1 + erf(x / sqrt(2))) = max(x, 0) - |x|/2 · erfc(|x| / sqrt(2)); erfc by Abramowitz and Stegun 7.1.26, to 1.5e-7. */
static inline vf gelu_exact(vf x) {
    vf size = vf_max(x, vf_sub(vf_set(0), x)), z = vf_mul(size, vf_set(0.70710678f));
    vf t = vf_div(vf_set(1.0f), vf_fma(z, vf_set(0.3275911f), vf_set(1.0f)));
    vf p = vf_fma(t, vf_set(1.061405429f), vf_set(-1.453152027f));
    p = vf_fma(p, t, vf_set(1.421413741f));
    p = vf_fma(p, t, vf_set(-0.284496736f));
    p = vf_fma(p, t, vf_set(0.254829592f));
    vf erfc = vf_mul(vf_mul(p, t), vf_exp(vf_mul(vf_sub(vf_set(0), z), z)));
    return vf_sub(vf_max(x, vf_set(0)), vf_mul(vf_mul(vf_set(0.5f), size), erfc));
}

static void gelu_each(float *out, const float *x, size_t n) {
    size_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(out + i, gelu_exact(vf_load(x + i)));
    if (i < n) vf_store_n(out + i, gelu_exact(vf_load_n(x + i, n - i)), n - i);
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

/* tanh x = 1 - 2 / (1 + e^2x) */
static inline vf vf_tanh(vf x) {
    vf e = vf_exp(vf_add(x, x));
    return vf_sub(vf_set(1.0f), vf_div(vf_set(2.0f), vf_add(vf_set(1.0f), e)));
}

/* c · tanh(x / c) */
static inline vf cap_at(vf x, vf c, vf inverse) { return vf_mul(c, vf_tanh(vf_mul(x, inverse))); }

static void scale(float *out, const float *x, size_t n, float by, float softcap) {
    vf k = vf_set(by), c = vf_set(softcap), inverse = vf_set(softcap > 0 ? 1.0f / softcap : 0.0f);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = n - i;
        vf y = vf_mul(k, left < VF ? vf_load_n(x + i, left) : vf_load(x + i));
        if (softcap > 0) y = cap_at(y, c, inverse);
        if (left < VF)
            vf_store_n(out + i, y, left);
        else
            vf_store(out + i, y);
    }
}

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

/* |y| or `most`. */
static inline vf larger_of(vf y, vf most) { return vf_max(vf_max(y, vf_sub(vf_set(0), y)), most); }

/* A head's row as Q8_0: integers, and the scales of its groups of 32, the last of which may be short. */
static void to_q8_0(int8_t *q, uint16_t *d, const float *x, size_t n) {
    for (size_t g = 0; g < n; g += 32, d++) {
        int16_t ints[32];
        size_t count = n - g < 32 ? n - g : 32;
        vf most = vf_set(0), odd = vf_set(0); /* odd: not a number where some x is infinite or none */
        for (size_t i = g; i < g + count; i += VF) {
            vf y = vf_load(x + i);
            most = larger_of(y, most);
            odd = vf_fma(y, vf_set(0), odd);
        }
        float r;
        *d = ferrum_f32_to_f16(fe_act_scale(fe_f32_bits(vf_hmax(most) + vf_sum(odd)), &r));
        for (size_t i = 0; i < count; i += VF) vf_store_i16(ints + i, vf_mul(vf_load(x + g + i), vf_set(r)));
        for (size_t i = 0; i < count; i++) q[g + i] = (int8_t)ints[i];
    }
}

/* ---- Attention ----
 * Positions are taken SPAN at a time. Their scores stay in the first-level cache; a tile of rows shares each vector of K and
 * of V that is loaded (and converted), and keeps its sums in registers, of which AVX2 has 16: up to six rows by two vectors, or,
 * so that there are enough sums for none to wait for its last addition, two rows or one by four. */
enum { TILE = 6, WIDE = 4, SPAN = 64 };
_Static_assert(FE_ATTENTION_ROWS % TILE == 0 && SPAN % (WIDE * VF) == 0 && SPAN % FE_KV_BLOCK == 0, "whole tiles");

static inline vf load_f16(const void *p, size_t i) { return vf_load_f16((const uint16_t *)p + i); }
static inline vf load_f32(const void *p, size_t i) { return vf_load((const float *)p + i); }

#define INLINE static inline __attribute__((always_inline))

/* Calls f with the numbers of rows and of vectors as constants, so that its sums are registers. */
#define FOR_ROWS(rows, f, ...)               \
    switch (rows) {                          \
    case 1: f(1, WIDE, __VA_ARGS__); break;  \
    case 2: f(2, WIDE, __VA_ARGS__); break;  \
    case 3: f(3, 2, __VA_ARGS__); break;     \
    case 4: f(4, 2, __VA_ARGS__); break;     \
    case 5: f(5, 2, __VA_ARGS__); break;     \
    default: f(TILE, 2, __VA_ARGS__); break; \
    }

_Static_assert((int)SPAN == (int)FERRUM_KV_PAGE, "a span lies in one page");

/* What a tile works on: rows first … of the task, `count` positions from `at` on, in `width`, whole blocks. */
typedef struct span {
    const fe_attention_task *t;
    size_t first, at, count, width;
    const char *k, *v, *next; /* keys and values of the positions; the keys of the next span, or anything */
} span;

/* Vector j of those from position p of the span on; behind the last one, the last again, whose scores nobody reads. */
static inline size_t vector_at(const span *s, size_t p, size_t j) {
    size_t at = p + j * VF;
    return at < s->width ? at : s->width - VF;
}

/* Where few rows share K and V, their time is memory's: V is fetched while the span's scores are worked out, and the next
 * span's K while its values are summed. */
INLINE void fetch(const void *p) { __builtin_prefetch(p); }

/* scores[r][0 … width-1] of `rows` rows. */
INLINE void score_span(size_t rows, size_t wide, const span *s, float (*scores)[SPAN], size_t element,
                       vf (*load)(const void *, size_t)) {
    size_t dim = s->t->head_dim;
    const float *const *q = s->t->q + s->first;
    for (size_t p = 0; p < s->width; p += wide * VF) {
        const char *k[WIDE], *v = s->v + p * dim * element;
        vf sum[TILE][WIDE];
        for (size_t j = 0; j < wide; j++) {
            size_t at = vector_at(s, p, j), lane = at % FE_KV_BLOCK;
            k[j] = s->k + ((at - lane) * dim + lane) * element;
        }
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < wide; j++) sum[r][j] = vf_set(0);
        for (size_t d = 0; d < dim; d++) {
            vf x[WIDE];
            fetch(v + d * wide * VF * element);
            for (size_t j = 0; j < wide; j++) x[j] = load(k[j], d * FE_KV_BLOCK);
            for (size_t r = 0; r < rows; r++)
                for (size_t j = 0; j < wide; j++) sum[r][j] = vf_fma(vf_set(q[r][d]), x[j], sum[r][j]);
        }
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < wide; j++) vf_store(&scores[r][p + j * VF], vf_mul(sum[r][j], vf_set(s->t->scale)));
    }
}

/* Caps and masks one row's scores, turns them into weights e^(score - max), and lowers what was summed before where the
 * largest score has grown. False where the row sees none of the span. */
static inline bool soften(const span *s, size_t row, float *scores) {
    const fe_attention_task *t = s->t;
    size_t begin = t->begin[row] > s->at ? t->begin[row] - s->at : 0,
           end = t->end[row] > s->at ? t->end[row] - s->at : 0;
    if (end > s->count) end = s->count;
    if (begin >= end) {
        memset(scores, 0, s->width * sizeof *scores);
        return false;
    }
    vf largest = vf_set(-INFINITY);
    if (t->softcap > 0) scale(scores, scores, s->width, 1.0f, t->softcap);
    for (size_t i = 0; i < begin; i++) scores[i] = -INFINITY;
    for (size_t i = end; i < s->width; i++) scores[i] = -INFINITY;
    for (size_t i = 0; i < s->width; i += VF) largest = vf_max(vf_load(scores + i), largest);
    float old = t->max[row], max = fmaxf(vf_hmax(largest), old);
    vf total = vf_set(0), minus = vf_set(-max);
    for (size_t i = 0; i < s->width; i += VF) {
        vf w = vf_exp(vf_add(vf_load(scores + i), minus));
        vf_store(scores + i, w);
        total = vf_add(total, w);
    }
    /* e^x is cut at -87, where a masked score would still weigh 1e-38: make it nothing. */
    for (size_t i = 0; i < begin; i++) scores[i] = 0;
    for (size_t i = end; i < s->width; i++) scores[i] = 0;
    if (max > old) {
        float fade = old == -INFINITY ? 0.0f : expf(old - max), *sum = t->sum + row * t->head_dim;
        for (size_t d = 0; d < t->head_dim; d++) sum[d] *= fade;
        t->max[row] = max;
        t->total[row] *= fade;
    }
    t->total[row] += vf_sum(total);
    return true;
}

/* sums[r][0 … wide·VF-1] += Σ weights[r][p] · v[p][0 …] for `rows` rows. */
INLINE void value_tile(size_t rows, size_t wide, const span *s, float *sums, const float (*weights)[SPAN],
                       const char *v, size_t element, vf (*load)(const void *, size_t)) {
    size_t dim = s->t->head_dim;
    const char *next = s->next + (v - s->v);
    vf sum[TILE][WIDE];
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < wide; j++) sum[r][j] = vf_load(sums + r * dim + j * VF);
    for (size_t p = 0; p < s->count; p++, v += dim * element) {
        vf x[WIDE];
        fetch(next + p * dim * element);
        for (size_t j = 0; j < wide; j++) x[j] = load(v, j * VF);
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < wide; j++) sum[r][j] = vf_fma(vf_set(weights[r][p]), x[j], sum[r][j]);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < wide; j++) vf_store(sums + r * dim + j * VF, sum[r][j]);
}

INLINE void add_values(size_t rows, size_t wide, const span *s, const float (*weights)[SPAN], size_t element,
                       vf (*load)(const void *, size_t)) {
    size_t dim = s->t->head_dim, d = 0;
    float *sums = s->t->sum + s->first * dim;
    const char *v = s->v;
    for (; d + wide * VF <= dim; d += wide * VF)
        value_tile(rows, wide, s, sums + d, weights, v + d * element, element, load);
    for (; d < dim; d += VF) value_tile(rows, 1, s, sums + d, weights, v + d * element, element, load);
}

static inline bool soften_rows(const span *s, size_t rows, float (*scores)[SPAN]) {
    bool any = false;
    for (size_t r = 0; r < rows; r++) any |= soften(s, s->first + r, scores[r]);
    return any;
}

/* Where block `at` / FE_KV_BLOCK of a head's keys or values stands. */
static inline const char *block_address(const fe_attention_task *t, const void *first, size_t at) {
    size_t row = t->pages ? t->pages[at / FERRUM_KV_PAGE] * (size_t)FERRUM_KV_PAGE + at % FERRUM_KV_PAGE : at;
    return (const char *)first + row / FE_KV_BLOCK * t->block_bytes;
}

/* Calls tile for every span and every `most` rows in it. No span goes on in another page. */
INLINE void attend(const fe_attention_task *t, size_t most, void (*tile)(const span *s, size_t rows)) {
    memset(t->sum, 0, t->rows * t->head_dim * sizeof *t->sum);
    for (size_t r = 0; r < t->rows; r++) {
        t->max[r] = -INFINITY;
        t->total[r] = 0;
    }
    for (size_t at = t->from / FE_KV_BLOCK * FE_KV_BLOCK, end; at < t->to; at = end) {
        end = at / SPAN * SPAN + SPAN;
        size_t count = (t->to < end ? t->to : end) - at;
        span s = {t,
                  0,
                  at,
                  count,
                  fe_round_up(count, FE_KV_BLOCK),
                  block_address(t, t->k, at),
                  block_address(t, t->v, at),
                  block_address(t, t->k, end < t->to ? end : at)};
        for (; s.first < t->rows; s.first += most) tile(&s, t->rows - s.first < most ? t->rows - s.first : most);
    }
}

INLINE void float_tile(const span *s, size_t rows, size_t element, vf (*load)(const void *, size_t)) {
    _Alignas(64) float scores[TILE][SPAN];
    FOR_ROWS(rows, score_span, s, scores, element, load)
    if (soften_rows(s, rows, scores)) FOR_ROWS(rows, add_values, s, (const float(*)[SPAN])scores, element, load)
}
static void tile_f16(const span *s, size_t rows) { float_tile(s, rows, sizeof(uint16_t), load_f16); }
static void tile_f32(const span *s, size_t rows) { float_tile(s, rows, sizeof(float), load_f32); }

static void attention_f16(const fe_attention_task *task) { attend(task, TILE, tile_f16); }
static void attention_f32(const fe_attention_task *task) { attend(task, TILE, tile_f32); }

/* ---- Attention, Q8_0 ----
 * Products of 8-bit integers with 16-bit ones, two by two, summed in 32 bits: of the keys with the query, and of the values
 * with the weights that their positions' scales have gone into. 16 bits round neither noticeably, and cost AVX2 as many
 * instructions as 8 would. */
enum { MOST_INT = 32767, INT_TILE = 4 }; /* products need registers beside the sums */
_Static_assert(FE_ATTENTION_ROWS % INT_TILE == 0, "whole tiles");

#define FOR_INT_ROWS(rows, f, ...)               \
    switch (rows) {                              \
    case 1: f(1, WIDE, __VA_ARGS__); break;      \
    case 2: f(2, WIDE, __VA_ARGS__); break;      \
    case 3: f(3, 2, __VA_ARGS__); break;         \
    default: f(INT_TILE, 2, __VA_ARGS__); break; \
    }

_Static_assert(SPAN <= INT32_MAX / 127 / MOST_INT, "sums over a span, or over a group of 32, fit 32 bits");

static inline size_t block_bytes(size_t groups) { return groups * FE_KV_BLOCK * sizeof(fe_block_q8_0); }

/* Position p's block, the scales in it, and behind them the integers. */
static inline const char *block_at(const void *cache, size_t groups, size_t p) {
    return (const char *)cache + p / FE_KV_BLOCK * block_bytes(groups);
}
static inline const uint16_t *block_scales(const char *block, size_t group) {
    return (const uint16_t *)block + group * FE_KV_BLOCK;
}
static inline const int8_t *block_ints(const char *block, size_t groups) {
    return (const int8_t *)block_scales(block, groups);
}

/* x · inverse as integers, inverse being what brings the largest |x| to MOST_INT; what an integer stands for. */
static inline float to_ints(int16_t *ints, const float *x, size_t n) {
    vf most = vf_set(0);
    for (size_t i = 0; i < n; i += VF) {
        vf y = vf_load(x + i);
        most = larger_of(y, most);
    }
    float max = vf_hmax(most);
    vf inverse = vf_set(max >= FLT_MIN ? MOST_INT / max : 0);
    for (size_t i = 0; i < n; i += VF) vf_store_i16(ints + i, vf_mul(vf_load(x + i), inverse));
    return max / MOST_INT;
}

INLINE void score_span_q8_0(size_t rows, size_t wide, const span *s, float (*scores)[SPAN], const float *units) {
    size_t dim = s->t->head_dim, groups = fe_q8_0_groups(dim);
    const int16_t *q = s->t->ints + s->first * dim;
    for (size_t p = 0; p < s->width; p += wide * VF) {
        const char *block[WIDE];
        const int8_t *k[WIDE];
        size_t lane[WIDE];
        for (size_t j = 0; j < wide; j++) {
            size_t at = vector_at(s, p, j);
            lane[j] = at % FE_KV_BLOCK;
            block[j] = block_at(s->k, groups, at);
            k[j] = block_ints(block[j], groups) + 2 * lane[j];
        }
        const char *v = s->v + p * dim;
        for (size_t g = 0; g < groups; g++) {
            size_t end = dim - g * 32 < 32 ? dim : g * 32 + 32;
            vn sum[INT_TILE][WIDE];
            for (size_t r = 0; r < rows; r++)
                for (size_t j = 0; j < wide; j++) sum[r][j] = vn_zero();
            for (size_t d = g * 32; d < end; d += 2) {
                vn x[WIDE];
                fetch(v + d * wide * VF);
                for (size_t j = 0; j < wide; j++) x[j] = vn_load_pairs(k[j] + d * FE_KV_BLOCK);
                for (size_t r = 0; r < rows; r++)
                    for (size_t j = 0; j < wide; j++)
                        sum[r][j] = vn_dot_pairs(sum[r][j], x[j], vn_set_pair(q + r * dim + d));
            }
            for (size_t j = 0; j < wide; j++) {
                vf scale = vf_load_f16(block_scales(block[j], g) + lane[j]);
                for (size_t r = 0; r < rows; r++) {
                    float *score = &scores[r][p + j * VF];
                    vf product = vf_mul(vf_mul(vf_from_vn(sum[r][j]), vf_set(units[r])), scale);
                    vf_store(score, g ? vf_add(vf_load(score), product) : product);
                }
            }
        }
    }
}

/* sums[r][0 … wide·VF-1] += units[r] · Σ weights[r][p] · v[p][0 …]. */
INLINE void value_tile_q8_0(size_t rows, size_t wide, const span *s, float *sums, int16_t (*weights)[SPAN],
                            const float *units, const int8_t *v, size_t stride) {
    size_t dim = s->t->head_dim;
    const char *next = s->next + ((const char *)v - s->v);
    vn sum[INT_TILE][WIDE];
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < wide; j++) sum[r][j] = vn_zero();
    for (size_t b = 0; b < s->width; b += FE_KV_BLOCK, v += stride, next += stride)
        for (size_t p = 0; p < FE_KV_BLOCK; p += 2) {
            vn x[WIDE];
            fetch(next + p * dim);
            for (size_t j = 0; j < wide; j++) x[j] = vn_load_pairs(v + p * dim + 2 * j * VF);
            for (size_t r = 0; r < rows; r++)
                for (size_t j = 0; j < wide; j++)
                    sum[r][j] = vn_dot_pairs(sum[r][j], x[j], vn_set_pair(weights[r] + b + p));
        }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < wide; j++) {
            float *to = sums + r * dim + j * VF;
            vf_store(to, vf_fma(vf_from_vn(sum[r][j]), vf_set(units[r]), vf_load(to)));
        }
}

INLINE void add_values_q8_0(size_t rows, size_t wide, const span *s, const float (*weights)[SPAN]) {
    size_t dim = s->t->head_dim, groups = fe_q8_0_groups(dim), stride = block_bytes(groups);
    const int8_t *v = block_ints(s->v, groups);
    float *sums = s->t->sum + s->first * dim;
    wide = wide < 32 / VF ? wide : 32 / VF;
    for (size_t g = 0; g < groups; g++) {
        _Alignas(64) int16_t ints[INT_TILE][SPAN];
        float units[INT_TILE];
        for (size_t r = 0; r < rows; r++) {
            _Alignas(64) float scaled[SPAN];
            for (size_t p = 0; p < s->width; p += VF) {
                const char *block = s->v + p / FE_KV_BLOCK * stride;
                vf scale = vf_load_f16(block_scales(block, g) + p % FE_KV_BLOCK);
                vf_store(scaled + p, vf_mul(vf_load(weights[r] + p), scale));
            }
            /* Behind the last position stands anything, a scale that is not a number too. */
            for (size_t p = s->count; p < s->width; p++) scaled[p] = 0;
            units[r] = to_ints(ints[r], scaled, s->width);
        }
        size_t d = g * 32, end = dim - d < 32 ? dim : d + 32;
        for (; d + wide * VF <= end; d += wide * VF)
            value_tile_q8_0(rows, wide, s, sums + d, ints, units, v + 2 * d, stride);
        for (; d < end; d += VF) value_tile_q8_0(rows, 1, s, sums + d, ints, units, v + 2 * d, stride);
    }
}

static void tile_q8_0(const span *s, size_t rows) {
    _Alignas(64) float scores[INT_TILE][SPAN];
    FOR_INT_ROWS(rows, score_span_q8_0, s, scores, s->t->units + s->first)
    if (soften_rows(s, rows, scores)) FOR_INT_ROWS(rows, add_values_q8_0, s, (const float(*)[SPAN])scores)
}

static void attention_q8_0(const fe_attention_task *task) {
    for (size_t r = 0; r < task->rows; r++)
        task->units[r] = task->scale * to_ints(task->ints + r * task->head_dim, task->q[r], task->head_dim);
    attend(task, INT_TILE, tile_q8_0);
}

static float largest(const float *x, size_t n) {
    vf max[8];
    for (size_t j = 0; j < 8; j++) max[j] = vf_load(x);
    for (size_t i = 0; i < n; i += 8 * VF)
        for (size_t j = 0; j < 8; j++) max[j] = vf_max(vf_load(x + i + j * VF), max[j]);
    for (size_t j = 1; j < 8; j++) max[0] = vf_max(max[0], max[j]);
    return vf_hmax(max[0]);
}

void FE_VECTOR_INIT(fe_vector_kernels *v) {
    *v = (fe_vector_kernels){rms_norm,       layer_norm, gelu_each, swiglu,  geglu,     add,           scale,
                             axpy,           dot,        to_f16,    to_q8_0, rope_half, attention_f16, attention_f32,
                             attention_q8_0, largest};
}
