/* A scale by turns: the nearest q for it, then the scale of least squares for these q. */
#include "quant/search.h"

#include <math.h>

enum { PASSES = 3 };

static inline float nearest_q(float x, float inverse, float low) {
    float q = x * inverse;
    q = q > -low ? q : -low;
    q = q < low - 1 ? q : low - 1;
    return fe_nearest(q);
}

void fe_scale_errors(fe_scales *scales, const float *x, const float *weight, size_t n, float low) {
    float inverse[FE_LANES], error[FE_LANES] = {0};
    for (size_t c = 0; c < FE_LANES; c++) inverse[c] = fe_inverse(scales->scale[c]);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < FE_LANES; c++) {
            float e = scales->scale[c] * nearest_q(x[i], inverse[c], low) - x[i];
            error[c] += weight[i] * e * e;
        }
    }
    for (size_t c = 0; c < FE_LANES; c++) scales->error[c] = error[c];
}

void fe_scale_round(int8_t *q, const float *x, size_t n, float low, float scale) {
    float inverse = fe_inverse(scale);
    for (size_t i = 0; i < n; i++) q[i] = (int8_t)nearest_q(x[i], inverse, low);
}

/* The errors of the scales, and the scales of least squares for the same q. */
static void improve(fe_scales *scales, float next[FE_LANES], const float *x, const float *weight, size_t n, float low) {
    float inverse[FE_LANES], error[FE_LANES] = {0}, sqq[FE_LANES] = {0}, sqx[FE_LANES] = {0};
    for (size_t c = 0; c < FE_LANES; c++) inverse[c] = fe_inverse(scales->scale[c]);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < FE_LANES; c++) {
            float q = nearest_q(x[i], inverse[c], low), e = scales->scale[c] * q - x[i];
            error[c] += weight[i] * e * e;
            float wq = weight[i] * q;
            sqq[c] += wq * q;
            sqx[c] += wq * x[i];
        }
    }
    for (size_t c = 0; c < FE_LANES; c++) {
        scales->error[c] = error[c];
        next[c] = sqq[c] > 0 ? sqx[c] / sqq[c] : 0;
    }
}

float fe_scale_fit(const float *x, const float *weight, size_t n, float low) {
    float largest = 0, best = 0, least = INFINITY;
    for (size_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(x[i]));
    fe_scales scales;
    /* From scales that cover the largest value on either side to such that clip it, with either sign: -low reaches further than
     * low - 1. */
    for (size_t c = 0; c < FE_LANES; c++) {
        float levels = 0.93f * low - 0.8f + (0.15f * low + 2) * (float)(c / 2) / (FE_LANES / 2 - 1);
        scales.scale[c] = c % 2 ? -largest / levels : largest / levels;
    }
    for (int pass = 0; pass < PASSES; pass++) {
        float next[FE_LANES];
        improve(&scales, next, x, weight, n, low);
        size_t c = fe_best_lane(scales.error);
        if (scales.error[c] < least) {
            least = scales.error[c];
            best = scales.scale[c];
        }
        for (c = 0; c < FE_LANES; c++) scales.scale[c] = next[c];
    }
    return best;
}
