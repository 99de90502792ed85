/* Quantising to Q2_K, Q4_K and Q5_K: 256 values as w = d·s·q - dmin·m, with whole s and m for each sub-block. In three steps:
 *   1. each sub-block alone finds the real scale and minimum of least error;
 *   2. d and dmin are set so that the largest scale and minimum are about the largest integers, and each sub-block picks,
 *      among the integers next to its scale and minimum, the pair of least error;
 *   3. with all integers fixed, d and dmin are solved for by least squares, and step 2 is repeated while that helps. */
#include "quant/conversions.h"
#include "quant/search.h"

#include <math.h>
#include <string.h>

enum { SUBS_MAX = 16, REFINEMENTS = 4 };

typedef struct {
    size_t sub, subs; /* elements of a sub-block, sub-blocks */
    float top;        /* the largest q */
    int most;         /* the largest s and m */
    float base;       /* of the weights */
} layout;

static const layout q2_k = {16, 16, 3, 15, 0}, q4_k = {32, 8, 15, 63, 1}, q5_k = {32, 8, 31, 63, 1};

typedef struct {
    uint16_t d, dmin;
    uint8_t s[SUBS_MAX], m[SUBS_MAX], q[256];
    float error;
} candidate;

static int near_integer(float value, float unit, int most) {
    float r = unit > 0 ? value / unit + 0.5f : 0;
    return r < (float)most ? r > 0 ? (int)r : 0 : most; /* also where unit was rounded down to a tiny number */
}

/* Sub-block j of c: the best of five scales about the fit's, each with three minimums, and of a sub-block without a scale. */
static void choose(candidate *c, const layout *l, size_t j, const float *x, const float *weight, const fe_line *f) {
    float d = fe_f16_to_f32(c->d), dmin = fe_f16_to_f32(c->dmin), mean = f->scale * f->mean_q - f->min;
    int s[FE_LANES] = {0}, m[FE_LANES] = {0};
    fe_lines lines;
    m[FE_LANES - 1] = near_integer(-mean, dmin, l->most);
    for (int i = 0; i + 1 < FE_LANES; i++) {
        int near = near_integer(f->scale, d, l->most) + i / 3 - 2;
        s[i] = near < 0 ? 0 : near > l->most ? l->most : near;
        /* a larger scale needs a larger minimum for the mean to stay */
        float min = f->min + (d * (float)s[i] - f->scale) * f->mean_q;
        near = near_integer(min, dmin, l->most) + i % 3 - 1;
        m[i] = near < 0 ? 0 : near > l->most ? l->most : near;
    }
    for (size_t i = 0; i < FE_LANES; i++) {
        lines.scale[i] = d * (float)s[i];
        lines.min[i] = dmin * (float)m[i];
    }
    fe_line_errors(&lines, x, weight, l->sub, l->top);
    size_t best = fe_best_lane(lines.error);
    c->s[j] = (uint8_t)s[best];
    c->m[j] = (uint8_t)m[best];
    c->error += lines.error[best];
    fe_line_round(c->q + j * l->sub, x, l->sub, l->top, lines.scale[best], lines.min[best]);
}

static void choose_all(candidate *c, const layout *l, const float x[256], const float weight[256],
                       const fe_line f[SUBS_MAX]) {
    c->error = 0;
    for (size_t j = 0; j < l->subs; j++) choose(c, l, j, x + j * l->sub, weight + j * l->sub, &f[j]);
}

/* d and dmin of least error for c's integers: the normal equations of x ≈ d·(s·q) - dmin·m over the whole super-block.
 * False where they have no solution that improves matters, such as all minimums zero. */
static bool solve_scales(candidate *c, const layout *l, const float x[256], const float weight[256]) {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (size_t i = 0; i < 256; i++) {
        double a = c->s[i / l->sub] * c->q[i], b = -(double)c->m[i / l->sub];
        double wa = weight[i] * a, wb = weight[i] * b;
        aa += wa * a;
        ab += wa * b;
        bb += wb * b;
        ax += wa * x[i];
        bx += wb * x[i];
    }
    double det = aa * bb - ab * ab, d, dmin;
    if (bb == 0 && aa > 0) {
        d = ax / aa;
        dmin = 0;
    } else if (det > 0) {
        d = (ax * bb - bx * ab) / det;
        dmin = (bx * aa - ax * ab) / det;
    } else {
        return false;
    }
    if (d < 0 || dmin < 0) return false;
    c->d = fe_f32_to_f16((float)d);
    c->dmin = fe_f32_to_f16((float)dmin);
    return (c->d & 0x7C00) != 0x7C00 && (c->dmin & 0x7C00) != 0x7C00;
}

static void refine(candidate *best, const layout *l, const float x[256], const float weight[256],
                   const fe_line f[SUBS_MAX]) {
    choose_all(best, l, x, weight, f);
    for (int i = 0; i < REFINEMENTS; i++) {
        candidate next = *best;
        if (!solve_scales(&next, l, x, weight)) return;
        choose_all(&next, l, x, weight, f);
        bool goes_on = next.error < 0.998f * best->error;
        if (next.error < best->error) *best = next;
        if (!goes_on) return;
    }
}

static void quantize_block(candidate *best, const layout *l, const float x[256]) {
    fe_line f[SUBS_MAX];
    float weight[256];
    float scale = 0, min = 0, most = (float)l->most;
    for (size_t j = 0; j < l->subs; j++) {
        fe_search_weights(weight + j * l->sub, x + j * l->sub, l->sub, l->base);
        f[j] = fe_line_fit(x + j * l->sub, weight + j * l->sub, l->sub, l->top, false);
        scale = fmaxf(scale, f[j].scale);
        min = fmaxf(min, f[j].min);
    }
    *best = (candidate){.d = fe_f32_to_f16(scale / most), .dmin = fe_f32_to_f16(min / most)};
    refine(best, l, x, weight, f);
}

/* ---- The layouts that k_quants.c reads ---- */

void fe_quantize_q2_k(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        candidate c;
        quantize_block(&c, &q2_k, x + n * 256);
        fe_block_q2_k b = {.d = c.d, .dmin = c.dmin};
        for (size_t j = 0; j < 16; j++) b.scales[j] = (uint8_t)(c.s[j] | c.m[j] << 4);
        for (size_t i = 0; i < 64; i++) {
            const uint8_t *q = c.q + i / 32 * 128 + i % 32;
            b.qs[i] = (uint8_t)(q[0] | q[32] << 2 | q[64] << 4 | q[96] << 6);
        }
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}

static void store_scales(uint8_t scales[12], const candidate *c) {
    for (size_t j = 0; j < 4; j++) {
        scales[j] = (uint8_t)(c->s[j] | c->s[j + 4] >> 4 << 6);
        scales[j + 4] = (uint8_t)(c->m[j] | c->m[j + 4] >> 4 << 6);
        scales[j + 8] = (uint8_t)((c->s[j + 4] & 15) | (c->m[j + 4] & 15) << 4);
    }
}

static void store_nibbles(uint8_t qs[128], const uint8_t q[256]) {
    for (size_t i = 0; i < 128; i++) {
        const uint8_t *low = q + i / 32 * 64 + i % 32;
        qs[i] = (uint8_t)((low[0] & 15) | (low[32] & 15) << 4);
    }
}

void fe_quantize_q4_k(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        candidate c;
        quantize_block(&c, &q4_k, x + n * 256);
        fe_block_q4_k b = {.d = c.d, .dmin = c.dmin};
        store_scales(b.scales, &c);
        store_nibbles(b.qs, c.q);
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}

void fe_quantize_q5_k(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        candidate c;
        quantize_block(&c, &q5_k, x + n * 256);
        fe_block_q5_k b = {.d = c.d, .dmin = c.dmin};
        store_scales(b.scales, &c);
        store_nibbles(b.qs, c.q);
        for (size_t i = 0; i < 256; i++) b.qh[i % 32] = (uint8_t)(b.qh[i % 32] | c.q[i] >> 4 << i / 32);
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}
