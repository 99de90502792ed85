/* Quantising to Q3_K and Q6_K: 256 values as w = d·s·q, with a whole s, of either sign, for each sub-block of 16. The steps are
 * those of k_line_quantize.c, with no minimum. */
#include "quant/conversions.h"
#include "quant/search.h"

#include <math.h>
#include <string.h>

enum { SUB = 16, SUBS = 16, REFINEMENTS = 4 };

typedef struct {
    float low; /* q = -low … low-1 */
    int most;  /* s = -most … most-1 */
} layout;

static const layout q3_k = {4, 32}, q6_k = {32, 128};

typedef struct {
    uint16_t d;
    int8_t s[SUBS], q[256];
    float error;
} candidate;

static int clamp(float s, int most) {
    s = s < (float)-most ? (float)-most : s > (float)(most - 1) ? (float)(most - 1) : s;
    return (int)s;
}

/* Sub-block j of c: the best of the integers about its scale's, and about that of the other sign. */
static void choose(candidate *c, const layout *l, size_t j, const float *x, const float *weight, float scale) {
    float d = fe_f16_to_f32(c->d), near = roundf(scale * fe_inverse(d));
    int s[FE_LANES];
    fe_scales scales;
    for (int i = 0; i < FE_LANES; i++) {
        s[i] = clamp(i < 10 ? near + (float)(i - 5) : (float)(i - 13) - near, l->most);
        scales.scale[i] = d * (float)s[i];
    }
    fe_scale_errors(&scales, x, weight, SUB, l->low);
    size_t best = fe_best_lane(scales.error);
    c->s[j] = (int8_t)s[best];
    c->error += scales.error[best];
    fe_scale_round(c->q + j * SUB, x, SUB, l->low, scales.scale[best]);
}

static void choose_all(candidate *c, const layout *l, const float x[256], const float weight[256],
                       const float fit[SUBS]) {
    c->error = 0;
    for (size_t j = 0; j < SUBS; j++) choose(c, l, j, x + j * SUB, weight + j * SUB, fit[j]);
}

/* d of least error for c's integers; false where there is none. */
static bool solve_scale(candidate *c, const float x[256], const float weight[256]) {
    double aa = 0, ax = 0;
    for (size_t i = 0; i < 256; i++) {
        double a = c->s[i / SUB] * c->q[i];
        aa += weight[i] * a * a;
        ax += weight[i] * a * x[i];
    }
    if (aa == 0) return false;
    c->d = fe_f32_to_f16((float)(ax / aa));
    return (c->d & 0x7C00) != 0x7C00;
}

static void refine(candidate *best, const layout *l, const float x[256], const float weight[256],
                   const float fit[SUBS]) {
    choose_all(best, l, x, weight, fit);
    for (int i = 0; i < REFINEMENTS; i++) {
        candidate next = *best;
        if (!solve_scale(&next, x, weight)) return;
        choose_all(&next, l, x, weight, fit);
        bool goes_on = next.error < 0.998f * best->error;
        if (next.error < best->error) *best = next;
        if (!goes_on) return;
    }
}

static void quantize_block(candidate *best, const layout *l, const float x[256]) {
    float fit[SUBS], weight[256], largest = 0;
    for (size_t j = 0; j < SUBS; j++) {
        fe_search_weights(weight + j * SUB, x + j * SUB, SUB, 1);
        fit[j] = fe_scale_fit(x + j * SUB, weight + j * SUB, SUB, l->low);
        if (fabsf(fit[j]) > fabsf(largest)) largest = fit[j];
    }
    /* the integers reach further below 0 than above it */
    *best = (candidate){.d = fe_f32_to_f16(-largest / (float)l->most)};
    refine(best, l, x, weight, fit);
}

/* ---- The layouts that k_quants.c reads ---- */

static void store_two_bits(uint8_t out[64], const uint8_t u[256], int shift) {
    for (size_t i = 0; i < 64; i++) {
        const uint8_t *q = u + i / 32 * 128 + i % 32;
        int bits = 0;
        for (int k = 0; k < 4; k++) bits |= (q[32 * k] >> shift & 3) << 2 * k;
        out[i] = (uint8_t)bits;
    }
}

void fe_quantize_q3_k(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        candidate c;
        uint8_t u[256];
        quantize_block(&c, &q3_k, x + n * 256);
        fe_block_q3_k b = {.d = c.d};
        for (size_t i = 0; i < 256; i++) {
            u[i] = (uint8_t)(c.q[i] + 4);
            b.hmask[i % 32] = (uint8_t)(b.hmask[i % 32] | u[i] >> 2 << i / 32);
        }
        store_two_bits(b.qs, u, 0);
        for (size_t j = 0; j < SUBS; j++) {
            int s = c.s[j] + 32;
            b.scales[j % 8] = (uint8_t)(b.scales[j % 8] | (s & 15) << j / 8 * 4);
            b.scales[8 + j % 4] = (uint8_t)(b.scales[8 + j % 4] | s >> 4 << j / 4 * 2);
        }
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}

void fe_quantize_q6_k(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        candidate c;
        uint8_t u[256];
        quantize_block(&c, &q6_k, x + n * 256);
        fe_block_q6_k b = {.d = c.d};
        memcpy(b.scales, c.s, sizeof b.scales);
        for (size_t i = 0; i < 256; i++) u[i] = (uint8_t)(c.q[i] + 32);
        store_two_bits(b.qh, u, 4);
        for (size_t i = 0; i < 128; i++) {
            const uint8_t *q = u + i / 64 * 128 + i % 64;
            b.ql[i] = (uint8_t)((q[0] & 15) | (q[64] & 15) << 4);
        }
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}
