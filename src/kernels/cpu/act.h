/* Activations as the CPU's matmul kernels take them.
 *
 * F32, F16 and BF16 weights take fp32 rows: row i at i · fe_act_float_stride(k) floats, zero beyond k.
 *
 * Quantised weights take 8-bit activations in groups of 32. The rule, in fp32 with every operation rounded to nearest even:
 *   max = the largest |x| of the group, d = max / 127, r = 1 / d, q = x · r rounded to the nearest integer, ties to even.
 *   Where d is below FLT_MIN (r may overflow there), d = 0 and all q = 0. Where some x is infinite or not a number, d is
 *   NaN and all q = 0, so that the results that the group goes into are NaN.
 * Every instruction set gives the same d and q, |q| <= 127. What the kernels sum, with w = scale · u + add, u the stored
 * integer (unsigned, before a type's constant offset such as Q6_K's 32 is taken off):
 *   Σ over groups of  scale · d · (Σ u · q)  +  add · d · (Σ q)
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
};

/* 256 activations of one row; what lies beyond k is zero. Row i of the packed activations is the fe_act_panels(k) panels
 * from i · fe_act_panels(k) on: always in the C kernels, for m = 1 in all of them, for m = 2 in those of x86. */
typedef struct fe_act_panel {
    int8_t q[256];
    float d[8];
    float ds[8];     /* d · Σ q of the group */
    int16_t s16[16]; /* Σ q of 16 */
    char pad[32];    /* to a multiple of 64 bytes */
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

#endif
