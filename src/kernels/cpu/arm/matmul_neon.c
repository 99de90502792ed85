/* Matmul for NEON with the dot product instructions.
 *
 * GEMV: a row at a time straight from the mapped blocks, prefetched about 2 KB ahead; quants are unpacked in registers and
 * multiplied by the activations with sdot, and there is no horizontal sum before the row's end.
 *
 * GEMM: a unit of 16 rows. Panel by panel of 256 columns the blocks are unpacked into scratch with rows in lanes: a word holds 4
 * consecutive k of a row, 4 rows to a vector. The inner kernel takes 8 rows x 4 tokens, whose 4 activations are a lane that
 * sdot takes for all rows.
 *
 * Quants are signed bytes throughout: the largest of those that are stored without a sign is 63. */
#include "kernels/cpu/simd_neon.h"

enum { STEP = 4, GEMV_AHEAD = 2048 };
#include "kernels/cpu/arm/gemm_template.h"
#include "kernels/cpu/arm/pack.h"

/* ---- GEMV --------------------------------------------------------------------------------------------------------- */

typedef struct sums {
    float32x4_t product[2], add;
} sums;

FE_INLINE float total(const sums *s) { return vaddvq_f32(vaddq_f32(vaddq_f32(s->product[0], s->product[1]), s->add)); }

/* One part of a group with one scale. */
FE_INLINE void gemv_part_32(float32x4_t *sum, int8x16x2_t u, const int8_t *q, float scale) {
    int32x4_t product = vdotq_s32(vdupq_n_s32(0), u.val[0], vld1q_s8(q));
    product = vdotq_s32(product, u.val[1], vld1q_s8(q + 16));
    *sum = vfmaq_n_f32(*sum, vcvtq_f32_s32(product), scale);
}
/* One part of a group with two integer scales: at most 4 · 63 · 127 · 128, twice. */
FE_INLINE void gemv_part_16(float32x4_t *sum, int8x16x2_t u, const int8_t *q, const int32_t by[2], float scale) {
    int32x4_t low = vdotq_s32(vdupq_n_s32(0), u.val[0], vld1q_s8(q));
    int32x4_t high = vdotq_s32(vdupq_n_s32(0), u.val[1], vld1q_s8(q + 16));
    *sum = vfmaq_n_f32(*sum, vcvtq_f32_s32(vmlaq_n_s32(vmulq_n_s32(low, by[0]), high, by[1])), scale);
}

/* The first `groups` groups of a panel at b; of the two sums one is taken, then the other, so that their latencies overlap. */
FE_INLINE void gemv_panel_32(sums *sum, const uint8_t *b, size_t groups, const fe_act_panel *x, quants_fn quants,
                             scales_32_fn scales, bool has_add) {
    float scale[FE_PARTS][8];
    scales_32 s = scales(b, groups);
    FE_UNROLL for (size_t i = 0; i < 2; i++) {
        FE_UNROLL for (size_t part = 0; part < FE_PARTS; part++)
            vst1q_f32(scale[part] + i * 4, vmulq_f32(s.scale[i], vld1q_f32(x->d[part] + i * 4)));
        if (has_add) sum->add = vfmaq_f32(sum->add, s.add[i], vld1q_f32(x->ds + i * 4));
    }
    FE_UNROLL for (size_t g = 0; g < 8; g++) {
        if (g >= groups) break;
        int8x16x2_t u = quants(b, g);
        gemv_part_32(&sum->product[g % 2], u, x->q[0] + g * 32, scale[0][g]);
        if (x->rest >> g & 1) gemv_part_32(&sum->product[(g + 1) % 2], u, x->q[1] + g * 32, scale[1][g]);
    }
}

FE_INLINE void gemv_panel_16(sums *sum, const uint8_t *b, const fe_act_panel *x, quants_fn quants, scales_16_fn scales,
                             bool has_min) {
    float scale[FE_PARTS][8];
    int32_t by[16];
    int32x4_t words[4];
    scales_16 s = scales(b);
    widen(words, s.scale);
    FE_UNROLL for (size_t i = 0; i < 4; i++) vst1q_s32(by + i * 4, words[i]);
    FE_UNROLL for (size_t i = 0; i < 2; i++) {
        FE_UNROLL for (size_t part = 0; part < FE_PARTS; part++)
            vst1q_f32(scale[part] + i * 4, vmulq_n_f32(vld1q_f32(x->d[part] + i * 4), s.d));
    }
    if (has_min) {
        widen(words, s.min);
        FE_UNROLL for (size_t i = 0; i < 4; i++) {
            float32x4_t min = vmulq_n_f32(vcvtq_f32_s32(words[i]), s.dmin);
            sum->add = vfmsq_f32(sum->add, min, vld1q_f32(x->s16 + i * 4));
        }
    }
    FE_UNROLL for (size_t g = 0; g < 8; g++) {
        int8x16x2_t u = quants(b, g);
        gemv_part_16(&sum->product[g % 2], u, x->q[0] + g * 32, by + 2 * g, scale[0][g]);
        if (x->rest >> g & 1) gemv_part_16(&sum->product[(g + 1) % 2], u, x->q[1] + g * 32, by + 2 * g, scale[1][g]);
    }
}

FE_INLINE void gemv_32(float *y, const uint8_t *w, size_t stride, size_t n, const fe_act_panel *x, size_t k,
                       size_t bytes, quants_fn quants, scales_32_fn scales, bool has_add) {
    size_t panels = k / FE_PANEL, rest = k % FE_PANEL / 32;
    for (size_t r = 0; r < n; r++, w += stride) {
        sums sum = {{vdupq_n_f32(0), vdupq_n_f32(0)}, vdupq_n_f32(0)};
        for (size_t p = 0; p < panels; p++) {
            prefetch(w + p * bytes, GEMV_AHEAD, bytes);
            gemv_panel_32(&sum, w + p * bytes, 8, x + p, quants, scales, has_add);
        }
        if (rest) gemv_panel_32(&sum, w + panels * bytes, rest, x + panels, quants, scales, has_add);
        y[r] = total(&sum);
    }
}

FE_INLINE void gemv_16(float *y, const uint8_t *w, size_t stride, size_t n, const fe_act_panel *x, size_t k,
                       size_t bytes, quants_fn quants, scales_16_fn scales, bool has_min) {
    for (size_t r = 0; r < n; r++, w += stride) {
        sums sum = {{vdupq_n_f32(0), vdupq_n_f32(0)}, vdupq_n_f32(0)};
        for (size_t p = 0; p < k / FE_PANEL; p++) {
            prefetch(w + p * bytes, GEMV_AHEAD, bytes);
            gemv_panel_16(&sum, w + p * bytes, x + p, quants, scales, has_min);
        }
        y[r] = total(&sum);
    }
}

#define GEMV(type, scales, bytes, has_add)                                                                 \
    static void gemv_##type(float *y, const void *w, size_t stride, size_t n, const void *act, size_t k) { \
        gemv_##scales(y, w, stride, n, act, k, bytes, quants_##type, scales_##type, has_add);              \
    }
GEMV(q4_0, 32, 8 * sizeof(fe_block_q4_0), false)
GEMV(q4_1, 32, 8 * sizeof(fe_block_q4_1), true)
GEMV(q5_0, 32, 8 * sizeof(fe_block_q5_0), false)
GEMV(q5_1, 32, 8 * sizeof(fe_block_q5_1), true)
GEMV(q8_0, 32, 8 * sizeof(fe_block_q8_0), false)
GEMV(q4_k, 32, sizeof(fe_block_q4_k), true)
GEMV(q5_k, 32, sizeof(fe_block_q5_k), true)
GEMV(q2_k, 16, sizeof(fe_block_q2_k), true)
GEMV(q3_k, 16, sizeof(fe_block_q3_k), false)
GEMV(q6_k, 16, sizeof(fe_block_q6_k), false)

/* ---- GEMM: rows in lanes ------------------------------------------------------------------------------------------ */

FE_INLINE void put_rows(weight_panel *w, size_t g, size_t r, const int8x16x2_t u[4]) {
    FE_UNROLL for (size_t h = 0; h < 2; h++) {
        float32x4_t v[4];
        FE_UNROLL for (size_t i = 0; i < 4; i++) v[i] = vreinterpretq_f32_s8(u[i].val[h]);
        transpose(v);
        FE_UNROLL for (size_t i = 0; i < 4; i++) vst1q_s8(w->q[g][h * 4 + i][r], vreinterpretq_s8_f32(v[i]));
    }
}

/* 8 k of two tokens: words 0 and 1 of x belong to the first, 2 and 3 to the second. */
FE_INLINE void products_2(int32x4_t sum[2][2], const int8x16_t w[2][2], int8x16_t x) {
    FE_UNROLL for (size_t v = 0; v < 2; v++) {
        sum[0][v] = vdotq_laneq_s32(sum[0][v], w[0][v], x, 0);
        sum[1][v] = vdotq_laneq_s32(sum[1][v], w[0][v], x, 2);
        sum[0][v] = vdotq_laneq_s32(sum[0][v], w[1][v], x, 1);
        sum[1][v] = vdotq_laneq_s32(sum[1][v], w[1][v], x, 3);
        FE_KEEP(sum[0][v]);
        FE_KEEP(sum[1][v]);
    }
}

FE_INLINE void products(int32x4_t sum[TOKENS][2], const weight_panel *w, size_t g, size_t r, const act_tile *x,
                        size_t first, size_t last) {
    FE_UNROLL for (size_t t = 0; t < TOKENS; t++) sum[t][0] = sum[t][1] = vdupq_n_s32(0);
    FE_UNROLL for (size_t s = 2 * first; s < 2 * last; s++) {
        const int8x16_t u[2][2] = {{vld1q_s8(w->q[g][2 * s][r]), vld1q_s8(w->q[g][2 * s][r + 4])},
                                   {vld1q_s8(w->q[g][2 * s + 1][r]), vld1q_s8(w->q[g][2 * s + 1][r + 4])}};
        FE_UNROLL for (size_t t = 0; t < TOKENS; t += 2) products_2(sum + t, u, vld1q_s8(x->q[s][t]));
    }
}

/* ---- Float weights ------------------------------------------------------------------------------------------------ */

FE_INLINE vf load_f32(const uint8_t *w) { return vreinterpretq_f32_u8(vld1q_u8(w)); }
FE_INLINE vf load_f16(const uint8_t *w) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(w))); }
FE_INLINE vf load_bf16(const uint8_t *w) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(w)), 16));
}

enum { FLOAT_TOKENS = 4 };
#include "kernels/cpu/matmul_float_template.h"

FE_MULTIPLY(fe_multiply_neon, 16, int32x4_t, vdupq_n_s32(0), int8x16_t, vdupq_n_s8(1), vdotq_s32(sum[j], u, v), 16 * 2)

/* ---- Table -------------------------------------------------------------------------------------------------------- */

#define ROW(type, name)                                                                         \
    rows[type] = (fe_matmul_kernel){#name " neon", act_bytes,    pack, pack_group, gemv_##name, \
                                    gemm_##name,   gemm_scratch, ROWS, 0};

void fe_matmul_init_neon(fe_matmul_kernel rows[FE_TYPES]) {
    rows[FERRUM_F32] = (fe_matmul_kernel)FLOAT_ROW(f32, "neon");
    rows[FERRUM_F16] = (fe_matmul_kernel)FLOAT_ROW(f16, "neon");
    rows[FERRUM_BF16] = (fe_matmul_kernel)FLOAT_ROW(bf16, "neon");
    FE_EACH_QUANTISED(ROW)
}
