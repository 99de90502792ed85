/* Scale and minimum by turns: the nearest q for a line, then the line of least squares through the points (q, x). */
#include "quant/search.h"

#include <math.h>

enum { PASSES = 4 };

/* Where a grid's outermost q are not used, as happens in values that were quantised before, it fits as well when it is shifted by
 * a step. A minimum costs a little, so that the smaller one is taken: shifted, it could be the largest of a super-block, which all
 * others are told by. */
static const float cost_of_min = 1e-6f;

void fe_search_weights(float *weight, const float *x, size_t n, float base) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    float inverse = fe_inverse(sqrtf(sum / (float)n));
    for (size_t i = 0; i < n; i++) weight[i] = base + fabsf(x[i]) * inverse;
}

/* The q of one value in every lane. */
static inline float nearest_q(float x, float min, float inverse, float top) {
    float q = (x + min) * inverse;
    q = q > 0 ? q : 0;
    q = q < top ? q : top;
    return fe_nearest(q);
}

void fe_line_errors(fe_lines *lines, const float *x, const float *weight, size_t n, float top) {
    float inverse[FE_LANES], error[FE_LANES] = {0};
    for (size_t c = 0; c < FE_LANES; c++) inverse[c] = fe_inverse(lines->scale[c]);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < FE_LANES; c++) {
            float q = nearest_q(x[i], lines->min[c], inverse[c], top);
            float e = lines->scale[c] * q - lines->min[c] - x[i];
            error[c] += weight[i] * e * e;
        }
    }
    for (size_t c = 0; c < FE_LANES; c++) lines->error[c] = error[c];
}

void fe_line_round(uint8_t *q, const float *x, size_t n, float top, float scale, float min) {
    float inverse = fe_inverse(scale);
    for (size_t i = 0; i < n; i++) q[i] = (uint8_t)nearest_q(x[i], min, inverse, top);
}

/* What one pass learns of the lanes: their errors as they are, and the sums of which better lines are made. */
typedef struct sums {
    float q[FE_LANES], qq[FE_LANES], qx[FE_LANES];
} sums;

static void add_up(fe_lines *lines, sums *of, const float *x, const float *weight, size_t n, float top) {
    float inverse[FE_LANES], error[FE_LANES] = {0}, sq[FE_LANES] = {0}, sqq[FE_LANES] = {0}, sqx[FE_LANES] = {0};
    for (size_t c = 0; c < FE_LANES; c++) inverse[c] = fe_inverse(lines->scale[c]);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < FE_LANES; c++) {
            float q = nearest_q(x[i], lines->min[c], inverse[c], top);
            float e = lines->scale[c] * q - lines->min[c] - x[i];
            error[c] += weight[i] * e * e;
            float wq = weight[i] * q;
            sq[c] += wq;
            sqq[c] += wq * q;
            sqx[c] += wq * x[i];
        }
    }
    for (size_t c = 0; c < FE_LANES; c++) {
        lines->error[c] = error[c];
        of->q[c] = sq[c];
        of->qq[c] = sqq[c];
        of->qx[c] = sqx[c];
    }
}

/* The line of least squares for the q of a pass; through the origin where the minimum would be negative and may not. */
static void solve(fe_lines *lines, const sums *of, float sw, float sx, bool free_min) {
    for (size_t c = 0; c < FE_LANES; c++) {
        float sq = of->q[c], sqq = of->qq[c], sqx = of->qx[c], det = sw * sqq - sq * sq;
        float scale = (sw * sqx - sq * sx) / det, min = (sq * sqx - sqq * sx) / det;
        if (!(det > 0) || (min < 0 && !free_min)) {
            scale = sqq > 0 ? sqx / sqq : 0;
            min = 0;
        }
        lines->scale[c] = scale > 0 ? scale : 0;
        lines->min[c] = min;
    }
}

/* From lines that cover the range amply to such that clip its ends, by turns from its low end, about its middle and up to its
 * high end. */
static void set_starts(fe_lines *lines, float low, float high, float top, bool free_min) {
    float first = 0.92f * top - 0.6f, step = (0.25f * top + 2.8f) / FE_LANES;
    for (size_t c = 0; c < FE_LANES; c++) {
        lines->scale[c] = (high - low) / (first + step * (float)c);
        float spare = lines->scale[c] * top - (high - low);
        lines->min[c] = spare * (float)(c % 3) / 2 - low;
        if (!free_min) lines->min[c] = fmaxf(lines->min[c], 0);
    }
}

fe_line fe_line_fit(const float *x, const float *weight, size_t n, float top, bool free_min) {
    float low = x[0], high = x[0], sx = 0, sw = 0;
    for (size_t i = 0; i < n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        sx += weight[i] * x[i];
        sw += weight[i];
    }
    if (!free_min && low > 0) low = 0;
    if (high <= low)
        return (fe_line){.min = -low}; /* every value is the same, and not positive unless that is allowed */
    fe_lines lines;
    fe_line best = {.error = INFINITY};
    set_starts(&lines, low, high, top, free_min);
    for (int pass = 0; pass < PASSES; pass++) {
        sums of;
        add_up(&lines, &of, x, weight, n, top);
        for (size_t c = 0; c < FE_LANES; c++) lines.error[c] += cost_of_min * sw * lines.min[c] * lines.min[c];
        size_t c = fe_best_lane(lines.error);
        if (lines.error[c] < best.error) best = (fe_line){lines.scale[c], lines.min[c], lines.error[c], of.q[c] / sw};
        if (pass + 1 < PASSES) solve(&lines, &of, sw, sx, free_min);
    }
    return best;
}
