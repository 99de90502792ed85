/* Quantising to Q4_K: 256 values as w = d·s·q - dmin·m with 4-bit q, and 6-bit s and m for each sub-block of 32.
 *
 * The error that is made small is Σ (w - x)², in three steps:
 *   1. each sub-block alone finds the real scale and minimum of least error (fit);
 *   2. d and dmin are set so that the largest scale and minimum become 63, and each sub-block picks, among the integers
 *      next to its scale and minimum, the pair of least error (choose);
 *   3. with all integers fixed, d and dmin are solved for by least squares, and step 2 is repeated while that helps. */
#include "quant/conversions.h"

#include <math.h>
#include <string.h>

enum { SUB = 32, SUBS = 8, STARTS = 16, PASSES = 3, REFINEMENTS = 4 };

typedef struct {
    float scale, min, error; /* w = scale · q - min; Σ (w - x)² */
} sub_fit;

typedef struct {
    uint16_t d, dmin;
    uint8_t s[SUBS], m[SUBS], q[SUBS * SUB];
    float error;
} candidate;

/* The q that come nearest for this scale and minimum, and their error. A scale of 0 leaves only -min. */
static float round_to(const float x[SUB], float scale, float min, uint8_t q[SUB]) {
    float inverse = scale > 0 ? 1 / scale : 0, error = 0;
    if (isinf(inverse)) inverse = 0;
    for (size_t i = 0; i < SUB; i++) {
        float r = (x[i] + min) * inverse + 0.5f;
        r = r < 0 ? 0 : r > 15 ? 15 : r;
        q[i] = (uint8_t)r;
        float e = scale * (float)q[i] - min - x[i];
        error += e * e;
    }
    return error;
}

/* The scale and minimum of least error for fixed q: the straight line through the points (q, x), but that the minimum may
 * not be negative. */
static void solve_line(const float x[SUB], const uint8_t q[SUB], float *scale, float *min) {
    float n = SUB, sq = 0, sqq = 0, sx = 0, sqx = 0;
    for (size_t i = 0; i < SUB; i++) {
        float v = q[i];
        sq += v;
        sqq += v * v;
        sx += x[i];
        sqx += v * x[i];
    }
    float det = n * sqq - sq * sq;
    if (det > 0) {
        *scale = (n * sqx - sq * sx) / det;
        *min = (sq * sqx - sqq * sx) / det;
    }
    if (det <= 0 || *min < 0) {
        *scale = sqq > 0 ? sqx / sqq : 0;
        *min = 0;
    }
    if (*scale < 0) *scale = 0;
}

/* Starts from several ranges about the values' own and improves each by turns: the nearest q, then the line through them. */
static sub_fit fit(const float x[SUB]) {
    uint8_t q[SUB];
    float low = 0, high = x[0];
    for (size_t i = 0; i < SUB; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    if (high <= low) return (sub_fit){0, -low, 0}; /* every value is the same and not positive */
    sub_fit best = {0, 0, INFINITY};
    for (int start = 0; start < STARTS; start++) {
        /* 14 … 17.75 steps to the range: from a scale that covers it amply to one that clips the ends */
        float scale = (high - low) / (14 + 0.25f * (float)start), min = -low;
        for (int pass = 0; pass < PASSES; pass++) {
            float error = round_to(x, scale, min, q);
            if (error < best.error) best = (sub_fit){scale, min, error};
            solve_line(x, q, &scale, &min);
        }
    }
    return best;
}

static int near_integer(float value, float unit) {
    float r = unit > 0 ? value / unit + 0.5f : 0;
    return r < 63 ? (int)r : 63; /* also where unit was rounded down to a tiny number */
}

/* Sub-block j of c: the pair of integers of least error beside those nearest to its fit. */
static void choose(candidate *c, size_t j, const float x[SUB], const sub_fit *f) {
    float d = fe_f16_to_f32(c->d), dmin = fe_f16_to_f32(c->dmin), best = INFINITY;
    int s0 = near_integer(f->scale, d), m0 = near_integer(f->min, dmin);
    uint8_t q[SUB];
    for (int s = s0 > 1 ? s0 - 1 : 0; s <= s0 + 1 && s < 64; s++) {
        for (int m = m0 > 1 ? m0 - 1 : 0; m <= m0 + 1 && m < 64; m++) {
            float error = round_to(x, d * (float)s, dmin * (float)m, q);
            if (!(error < best)) continue;
            best = error;
            c->s[j] = (uint8_t)s;
            c->m[j] = (uint8_t)m;
            memcpy(c->q + j * SUB, q, sizeof q);
        }
    }
    c->error += best;
}

static void choose_all(candidate *c, const float x[256], const sub_fit f[SUBS]) {
    c->error = 0;
    for (size_t j = 0; j < SUBS; j++) choose(c, j, x + j * SUB, &f[j]);
}

/* d and dmin of least error for c's integers: the normal equations of x ≈ d·(s·q) - dmin·m over the whole super-block.
 * False where they have no solution that improves matters, such as all minimums zero. */
static bool solve_scales(candidate *c, const float x[256]) {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (size_t i = 0; i < 256; i++) {
        double a = c->s[i / SUB] * c->q[i], b = -(double)c->m[i / SUB];
        aa += a * a;
        ab += a * b;
        bb += b * b;
        ax += a * x[i];
        bx += b * x[i];
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

/* The layout that q4_k_scale and k_nibble in k_quants.c read. */
static void store(fe_block_q4_k *b, const candidate *c) {
    b->d = c->d;
    b->dmin = c->dmin;
    for (size_t j = 0; j < 4; j++) {
        b->scales[j] = (uint8_t)(c->s[j] | c->s[j + 4] >> 4 << 6);
        b->scales[j + 4] = (uint8_t)(c->m[j] | c->m[j + 4] >> 4 << 6);
        b->scales[j + 8] = (uint8_t)((c->s[j + 4] & 15) | (c->m[j + 4] & 15) << 4);
    }
    for (size_t i = 0; i < 128; i++) {
        const uint8_t *q = c->q + i / 32 * 64 + i % 32;
        b->qs[i] = (uint8_t)(q[0] | q[32] << 4);
    }
}

static void quantize_block(fe_block_q4_k *b, const float x[256]) {
    sub_fit f[SUBS];
    float scale = 0, min = 0;
    for (size_t j = 0; j < SUBS; j++) {
        f[j] = fit(x + j * SUB);
        scale = fmaxf(scale, f[j].scale);
        min = fmaxf(min, f[j].min);
    }
    candidate best = {.d = fe_f32_to_f16(scale / 63), .dmin = fe_f32_to_f16(min / 63)};
    choose_all(&best, x, f);
    for (int i = 0; i < REFINEMENTS; i++) {
        candidate next = best;
        if (!solve_scales(&next, x)) break;
        choose_all(&next, x, f);
        if (!(next.error < best.error)) break;
        best = next;
    }
    store(b, &best);
}

void fe_quantize_q4_k(void *blocks, const float *x, size_t count) {
    for (size_t n = 0; n < count; n++) {
        fe_block_q4_k b;
        quantize_block(&b, x + n * 256);
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}
