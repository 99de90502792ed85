/* What the quantisers share: the search for a block's scale, or its scale and minimum.
 *
 * The error that is made small is Σ weight·(w - x)², of the values as they will be decoded; a value's weight is base + |x|/rms,
 * rms its sub-block's root mean square, as the errors of large values change most what a model says. The base is 1; with two
 * bits, 0. FE_LANES candidates are tried at once, in loops over the lanes that compilers turn into vectors; a lane's sums do not
 * depend on the vectors' width, so that the blocks are the same on every CPU.
 */
#ifndef FE_QUANT_SEARCH_H
#define FE_QUANT_SEARCH_H

#include "quant/quant.h"

enum { FE_LANES = 16 };

/* The weights of a sub-block's n values. */
void fe_search_weights(float *weight, const float *x, size_t n, float base);

/* ---- Lines (search_line.c): w = scale · q - min, q = 0 … top, scale >= 0 ---- */

typedef struct fe_lines {
    float scale[FE_LANES], min[FE_LANES], error[FE_LANES];
} fe_lines;

/* The error of each lane's scale and minimum, with the q that come nearest. */
void fe_line_errors(fe_lines *lines, const float *x, const float *weight, size_t n, float top);
/* Those q, as fe_line_errors takes them. */
void fe_line_round(uint8_t *q, const float *x, size_t n, float top, float scale, float min);

typedef struct fe_line {
    float scale, min, error;
    float mean_q;
} fe_line;
/* The best that is found among reals. free_min: the minimum may be negative. */
fe_line fe_line_fit(const float *x, const float *weight, size_t n, float top, bool free_min);

/* ---- Scales (search_scale.c): w = scale · q, q = -low … low-1, the scale of either sign ---- */

typedef struct fe_scales {
    float scale[FE_LANES], error[FE_LANES];
} fe_scales;

void fe_scale_errors(fe_scales *scales, const float *x, const float *weight, size_t n, float low);
void fe_scale_round(int8_t *q, const float *x, size_t n, float low, float scale);
/* The best that is found among reals. */
float fe_scale_fit(const float *x, const float *weight, size_t n, float low);

/* ---- Lanes ---- */

/* The lane of least error, the first where equal. */
static inline size_t fe_best_lane(const float error[FE_LANES]) {
    size_t best = 0;
    for (size_t c = 1; c < FE_LANES; c++)
        if (error[c] < error[best]) best = c;
    return best;
}

/* 1 / scale; 0 where it would overflow: of so small a scale nothing is left in fp16. */
static inline float fe_inverse(float scale) { return scale > 1e-37f || scale < -1e-37f ? 1 / scale : 0; }

/* To the nearest whole number, ties to even, of |q| < 2^22: the sum's last bit is worth 1. Two additions, where a call would
 * keep a loop from becoming vectors. */
static inline float fe_nearest(float q) { return q + 12582912.0f - 12582912.0f; }

/* The fp16 number `steps` away from h: towards zero or away from it, never across it nor to infinity. */
static inline uint16_t fe_f16_step(uint16_t h, int steps) {
    int magnitude = (h & 0x7FFF) + steps;
    magnitude = magnitude < 0 ? 0 : magnitude > 0x7BFF ? 0x7BFF : magnitude;
    return (uint16_t)((h & 0x8000) | magnitude);
}

#endif
