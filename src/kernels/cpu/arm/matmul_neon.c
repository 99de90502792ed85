/* Matmul for NEON with the dot product instructions.
 *
 * GEMV: four rows at a time straight from the mapped blocks; quants are unpacked in registers and multiplied by the activations
 * with sdot, and the sums of a group come to lanes by row.
 *
 * GEMM: a unit of 16 rows. Panel by panel of 256 columns the blocks are unpacked into scratch with rows in lanes: a word holds 4
 * consecutive k of a row, 4 rows to a vector. The inner kernel takes 8 rows x 4 tokens, whose 4 activations are a lane that
 * sdot takes for all rows.
 *
 * Quants are signed bytes throughout: the largest of those that are stored without a sign is 63. */
#include "kernels/cpu/simd_neon.h"

enum { STEP = 4 };
#include "kernels/cpu/arm/gemm_template.h"
#include "kernels/cpu/arm/pack.h"

/* ---- GEMV --------------------------------------------------------------------------------------------------------- */

enum { GEMV_ROWS = 4 };

/* A panel of four rows, a lane a row: scales and addends by 32, or by 16, as GEMM has them. */
typedef struct row_panel {
    float32x4_t scale[16], add[16];
    int32x4_t sum[FE_PARTS][16];
} row_panel;

/* Of four rows, each one's four integers summed. */
FE_INLINE int32x4_t sum_rows(const int32x4_t v[GEMV_ROWS]) {
    return vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
}

/* One part of a group. */
FE_INLINE void multiply_group(int32x4_t *sum, const int8x16x2_t u[GEMV_ROWS], const int8_t *q, bool by_16) {
    const int32x4_t zero = vdupq_n_s32(0);
    int8x16_t low = vld1q_s8(q), high = vld1q_s8(q + 16);
    int32x4_t a[GEMV_ROWS], b[GEMV_ROWS];
    FE_UNROLL for (size_t i = 0; i < GEMV_ROWS; i++) {
        a[i] = vdotq_s32(zero, u[i].val[0], low);
        b[i] = vdotq_s32(by_16 ? zero : a[i], u[i].val[1], high);
    }
    sum[0] = sum_rows(by_16 ? a : b);
    if (by_16) sum[1] = sum_rows(b);
}

/* Unrolled, so that a group's place in a block is known. */
FE_INLINE void multiply_groups(row_panel *w, const uint8_t *const rows[GEMV_ROWS], size_t groups, const fe_act_panel *x,
                               quants_fn quants, bool by_16) {
    FE_UNROLL for (size_t g = 0; g < 8; g++) {
        if (g >= groups) break;
        int8x16x2_t u[GEMV_ROWS];
        FE_UNROLL for (size_t i = 0; i < GEMV_ROWS; i++) u[i] = quants(rows[i], g);
        multiply_group(w->sum[0] + (by_16 ? 2 * g : g), u, x->q[0] + g * 32, by_16);
        if (x->rest >> g & 1) multiply_group(w->sum[1] + (by_16 ? 2 * g : g), u, x->q[1] + g * 32, by_16);
    }
}

/* Scales and adds a panel as GEMM does it, in the same order, so that a token's numbers are the same whatever it comes with:
 * first parts with the weights' addends, then second ones. */
FE_INLINE float32x4_t add_panel(float32x4_t f, const row_panel *w, size_t groups, const fe_act_panel *x, bool by_16,
                                bool has_add) {
    const size_t per = by_16 ? 2 : 1;
    const float *sums = by_16 ? x->s16 : x->ds;
    for (size_t i = 0; i < groups * per; i++) {
        f = vfmaq_f32(f, vcvtq_f32_s32(w->sum[0][i]), vmulq_n_f32(w->scale[i], x->d[0][i / per]));
        if (has_add) f = vfmaq_n_f32(f, w->add[i], sums[i]);
    }
    for (size_t i = 0; i < groups * per && x->rest; i++)
        if (x->rest >> i / per & 1)
            f = vfmaq_f32(f, vcvtq_f32_s32(w->sum[1][i]), vmulq_n_f32(w->scale[i], x->d[1][i / per]));
    return f;
}

FE_INLINE void row_scales_32(row_panel *w, const uint8_t *const rows[GEMV_ROWS], size_t groups, scales_32_fn scales) {
    FE_UNROLL for (size_t i = 0; i < GEMV_ROWS; i++) {
        scales_32 s = scales(rows[i], groups);
        FE_UNROLL for (size_t j = 0; j < 2; j++) {
            w->scale[4 * j + i] = s.scale[j];
            w->add[4 * j + i] = s.add[j];
        }
    }
    FE_UNROLL for (size_t j = 0; j < 2; j++) {
        transpose(w->scale + 4 * j);
        transpose(w->add + 4 * j);
    }
}
FE_INLINE void row_scales_16(row_panel *w, const uint8_t *const rows[GEMV_ROWS], scales_16_fn scales) {
    FE_UNROLL for (size_t i = 0; i < GEMV_ROWS; i++) {
        scales_16 s = scales(rows[i]);
        int32x4_t a[4], b[4];
        widen(a, s.scale);
        widen(b, s.min);
        FE_UNROLL for (size_t j = 0; j < 4; j++) {
            w->scale[4 * j + i] = vmulq_n_f32(vcvtq_f32_s32(a[j]), s.d);
            w->add[4 * j + i] = vmulq_n_f32(vcvtq_f32_s32(b[j]), -s.dmin);
        }
    }
    FE_UNROLL for (size_t j = 0; j < 4; j++) {
        transpose(w->scale + 4 * j);
        transpose(w->add + 4 * j);
    }
}

/* scales: an expression that puts the scales of `rows` into `panel`. While four rows are multiplied, those behind them are
 * fetched in the order of memory. */
#define GEMV(type, panel_bytes, by_16, has_add, scales)                                                    \
    static void gemv_##type(float *y, const void *w, size_t stride, size_t n, const void *act, size_t k) { \
        const fe_act_panel *x = act;                                                                       \
        for (size_t r = 0; r < n; r += GEMV_ROWS) {                                                        \
            const uint8_t *ahead = (const uint8_t *)w + (r + GEMV_ROWS) * stride;                          \
            float32x4_t f = vdupq_n_f32(0);                                                                \
            for (size_t p = 0; p < fe_act_panels(k); p++, ahead += GEMV_ROWS * (panel_bytes)) {            \
                const uint8_t *rows[GEMV_ROWS];                                                            \
                size_t groups = fe_panel_groups(k, p);                                                     \
                row_panel panel;                                                                           \
                FE_UNROLL for (size_t i = 0; i < GEMV_ROWS; i++) {                                         \
                    rows[i] = (const uint8_t *)w + fe_min(r + i, n - 1) * stride + p * (panel_bytes);      \
                    prefetch(ahead, i *(panel_bytes), panel_bytes);                                        \
                }                                                                                          \
                scales;                                                                                    \
                if (groups == 8)                                                                           \
                    multiply_groups(&panel, rows, 8, x + p, quants_##type, by_16);                         \
                else                                                                                       \
                    multiply_groups(&panel, rows, groups, x + p, quants_##type, by_16);                    \
                f = add_panel(f, &panel, groups, x + p, by_16, has_add);                                   \
            }                                                                                              \
            float out[GEMV_ROWS];                                                                          \
            vst1q_f32(out, f);                                                                             \
            memcpy(y + r, out, fe_min(GEMV_ROWS, n - r) * sizeof *y);                                      \
        }                                                                                                  \
    }
#define GEMV_32(type, bytes, has_add) \
    GEMV(type, bytes, false, has_add, row_scales_32(&panel, rows, groups, scales_##type))
#define GEMV_16(type, has_min) \
    GEMV(type, sizeof(fe_block_##type), true, has_min, row_scales_16(&panel, rows, scales_##type))
GEMV_32(q4_0, 8 * sizeof(fe_block_q4_0), false)
GEMV_32(q4_1, 8 * sizeof(fe_block_q4_1), true)
GEMV_32(q5_0, 8 * sizeof(fe_block_q5_0), false)
GEMV_32(q5_1, 8 * sizeof(fe_block_q5_1), true)
GEMV_32(q8_0, 8 * sizeof(fe_block_q8_0), false)
GEMV_32(q4_k, sizeof(fe_block_q4_k), true)
GEMV_32(q5_k, sizeof(fe_block_q5_k), true)
GEMV_16(q2_k, true)
GEMV_16(q3_k, false)
GEMV_16(q6_k, false)

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
