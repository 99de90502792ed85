/* Activations as the CPU's matmul kernels take them.
 *
 * F32, F16 and BF16 weights take fp32 rows: row i at i · fe_act_float_stride(k) floats, zero beyond k.
 *
 * Quantised weights take 8-bit activations in groups of 32. The rule, in fp32 with every operation rounded to nearest even:
 *   max = the largest |x| of the group, d = max / 127, r = 1 / d, q = x · r rounded to the nearest integer, ties to even.
 *   Where d is below FLT_MIN (r may overflow there), d = 0 and all q = 0. Where some x is infinite or not a number, d is
 *   NaN and all q = 0, so that the results that the group goes into are NaN.
 * Most of the error that 8 bits leave comes from the groups that hold outliers, so these have a second part. Where some |x|
 * is, about, over `above` times the root of the mean square of the stretch of 4096 columns that the group lies in, that is, where
 *   d · d > (E / (32 · groups)) · ((above · above) / 127²),  E = Σ (d · d) · (Σ q²) over the stretch's groups, in order,
 * what is left over, x - d · q, is quantised by the same rule. A row is packed the same whatever rows it is packed with.
 *
 * Every instruction set gives the same d and q, |q| <= 127. What the kernels sum, with w = scale · u + add, u the stored
 * integer (unsigned, before a type's constant offset such as Q6_K's 32 is taken off):
 *   Σ over the parts of groups of  scale · d · (Σ u · q)  +  add · d · (Σ q)
 * with integer sums exact and the rest in fp32; a rounding bound has to count |scale| · |u| and |add|, not |w|. */
#ifndef FE_ACT_H
#define FE_ACT_H

#include "core/core.h"
#include "quant/quant.h"

#include <float.h>
#include <math.h>

enum {
    FE_PANEL = 256,             /* elements along k that the kernels take at a time: a super-block, or up to 8 blocks */
    FE_PANEL_GROUPS = 256 / 32, /* groups of activations in it */
    FE_STRETCH_PANELS = 16,     /* panels whose groups are measured by one another */
    FE_PARTS = 2,
};

/* Products are usual, or fine where FERRUM_FINE asks for it. */
#define FE_ABOVE_USUAL 3.0f
#define FE_ABOVE_FINE  2.0f

/* 256 activations of one row; what lies beyond k is zero. Row i of the packed activations is the fe_act_panels(k) panels
 * from i · fe_act_panels(k) on: always in the C kernels, for m = 1 in all of them, for m = 2 in those of x86. */
typedef struct fe_act_panel {
    int8_t q[FE_PARTS][256];
    float d[FE_PARTS][8];
    float ds[8];                  /* Σ over both parts of d · Σ q, of a group */
    float s16[16];                /* and of its two sixteens: in C and on arm64 */
    int16_t sums[FE_PARTS][8][2]; /* Σ q of the sixteens: on x86 */
    uint32_t rest;                /* bit g: group g has a second part; without one its q and d are 0 */
    char pad[28];                 /* to a multiple of 64 bytes */
} fe_act_panel;

static inline size_t fe_act_panels(size_t k) { return (k + FE_PANEL - 1) / FE_PANEL; }
static inline size_t fe_act_float_stride(size_t k) { return fe_round_up(k, 16); }

/* 32-element groups that panel p of a row of k holds: 8 but in the last panel, where k may end. */
static inline size_t fe_panel_groups(size_t k, size_t p) {
    return fe_min(FE_PANEL_GROUPS, k / 32 - p * FE_PANEL_GROUPS);
}

/* d and 1 / d of a group by the rule above; max_bits are the bits of its largest |x|. *r = 0 where all q are zero. */
static inline float fe_act_scale(uint32_t max_bits, float *r) {
    float d = fe_bits_f32(max_bits) / 127;
    *r = 0;
    if (max_bits >= 0x7F800000) return NAN;
    if (d < FLT_MIN) return 0;
    *r = 1 / d;
    return d;
}

/* What a group adds to E, and the d · d above which one has a second part. */
static inline float fe_act_energy(float d, int sum_of_squares) { return d * d * (float)sum_of_squares; }
static inline float fe_act_limit(float energy, size_t groups, float above) {
    return energy / (float)(32 * groups) * (above * above / (127 * 127));
}

/* Groups of 32 that stretch `first` … of panels has in a row of k: it ends with the row. */
static inline size_t fe_stretch_groups(size_t k, size_t first_panel) {
    return fe_min(FE_STRETCH_PANELS * FE_PANEL_GROUPS, k / 32 - first_panel * FE_PANEL_GROUPS);
}

/* X(type, name) for every type with quantised weights. */
#define FE_EACH_QUANTISED(X) \
    X(FERRUM_Q4_0, q4_0)     \
    X(FERRUM_Q4_1, q4_1)     \
    X(FERRUM_Q5_0, q5_0)     \
    X(FERRUM_Q5_1, q5_1)     \
    X(FERRUM_Q8_0, q8_0)     \
    X(FERRUM_Q2_K, q2_k)     \
    X(FERRUM_Q3_K, q3_k)     \
    X(FERRUM_Q4_K, q4_k)     \
    X(FERRUM_Q5_K, q5_k)     \
    X(FERRUM_Q6_K, q6_k)

#endif
