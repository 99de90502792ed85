/* Quantising to Q4_0, Q4_1, Q5_0 and Q5_1: a real fit, then the fp16 numbers about it that decode with the least error. */
#include "quant/conversions.h"
#include "quant/search.h"

#include <math.h>
#include <string.h>

enum { N = 32 };

/* ---- One scale: w = d · q, q = -low … low-1 ---- */

static uint16_t choose_scale(const float x[N], float low) {
    float weight[N];
    fe_search_weights(weight, x, N, 1);
    uint16_t fit = fe_f32_to_f16(fe_scale_fit(x, weight, N, low));
    fe_scales scales;
    for (size_t c = 0; c < FE_LANES; c++) scales.scale[c] = fe_f16_to_f32(fe_f16_step(fit, (int)c - FE_LANES / 2));
    fe_scale_errors(&scales, x, weight, N, low);
    return fe_f16_step(fit, (int)fe_best_lane(scales.error) - FE_LANES / 2);
}

/* u: q + low, from 0 */
static uint16_t quantize_scale(uint8_t u[N], const float x[N], float low) {
    int8_t q[N];
    uint16_t d = choose_scale(x, low);
    fe_scale_round(q, x, N, low, fe_f16_to_f32(d));
    for (size_t i = 0; i < N; i++) u[i] = (uint8_t)(q[i] + (int)low);
    return d;
}

/* ---- Scale and minimum: w = d · q + m ---- */

/* The line that the range gives, which is the old one where the values were quantised so before. */
static void set_range(fe_lines *lines, size_t lane, const float x[N], float top) {
    float low = x[0], high = x[0];
    for (size_t i = 1; i < N; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    lines->scale[lane] = (high - low) / top;
    lines->min[lane] = -low;
}

/* Of the fp16 lines about the fit that one is taken whose plain error is least: what a weight could gain is less than what
 * rounding to fp16 adds. */
static void quantize_line(uint8_t q[N], uint16_t *d, uint16_t *m, const float x[N], float top) {
    float weight[N];
    fe_search_weights(weight, x, N, 1);
    fe_line fit = fe_line_fit(x, weight, N, top, true);
    fe_lines lines;
    uint16_t ds[FE_LANES], ms[FE_LANES];
    enum { ABOUT = FE_LANES - 1 };
    set_range(&lines, ABOUT, x, top);
    for (int c = 0; c < FE_LANES; c++) {
        ds[c] = c < ABOUT ? fe_f16_step(fe_f32_to_f16(fit.scale), c / 5 - 1) : fe_f32_to_f16(lines.scale[c]);
        ms[c] = c < ABOUT ? fe_f16_step(fe_f32_to_f16(-fit.min), c % 5 - 2) : fe_f32_to_f16(-lines.min[c]);
        lines.scale[c] = fe_f16_to_f32(ds[c]);
        lines.min[c] = -fe_f16_to_f32(ms[c]);
    }
    for (size_t i = 0; i < N; i++) weight[i] = 1;
    fe_line_errors(&lines, x, weight, N, top);
    size_t best = fe_best_lane(lines.error);
    *d = ds[best];
    *m = ms[best];
    fe_line_round(q, x, N, top, lines.scale[best], lines.min[best]);
}

/* ---- The layouts that legacy.c reads ---- */

static void store_nibbles(uint8_t qs[16], const uint8_t q[N]) {
    for (size_t i = 0; i < 16; i++) qs[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void store_fifth_bits(uint8_t qh[4], const uint8_t q[N]) {
    memset(qh, 0, 4);
    for (size_t i = 0; i < N; i++) qh[i / 8] = (uint8_t)(qh[i / 8] | q[i] >> 4 << i % 8);
}

void fe_quantize_q4_0(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        fe_block_q4_0 b;
        uint8_t q[N];
        b.d = quantize_scale(q, x + n * N, 8);
        store_nibbles(b.qs, q);
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}

void fe_quantize_q5_0(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        fe_block_q5_0 b;
        uint8_t q[N];
        b.d = quantize_scale(q, x + n * N, 16);
        store_nibbles(b.qs, q);
        store_fifth_bits(b.qh, q);
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}

void fe_quantize_q4_1(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        fe_block_q4_1 b;
        uint8_t q[N];
        quantize_line(q, &b.d, &b.m, x + n * N, 15);
        store_nibbles(b.qs, q);
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}

void fe_quantize_q5_1(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        fe_block_q5_1 b;
        uint8_t q[N];
        quantize_line(q, &b.d, &b.m, x + n * N, 31);
        store_nibbles(b.qs, q);
        store_fifth_bits(b.qh, q);
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}
