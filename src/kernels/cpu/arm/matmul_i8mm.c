/* Matmul for NEON with the 8-bit matrix multiply instructions: GEMM of the quantised types. GEMV is bound by other things than the
 * product and keeps NEON's kernels, as does the packing of the activations.
 *
 * As for NEON, but that smmla multiplies 2 rows x 8 k by 8 k x 2 tokens, twice what sdot does: a panel holds 8 consecutive k of
 * a row, 2 rows to a vector, and sums come as 2 tokens x 2 rows. */
#include "kernels/cpu/simd_neon.h"

enum { STEP = 8 };
#include "kernels/cpu/arm/gemm_template.h"

FE_INLINE int32x4_t low_halves(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s64(vtrn1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
FE_INLINE int32x4_t high_halves(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s64(vtrn2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

FE_INLINE void put_rows(weight_panel *w, size_t g, size_t r, const int8x16x2_t u[4]) {
    FE_UNROLL for (size_t h = 0; h < 2; h++) {
        FE_UNROLL for (size_t i = 0; i < 4; i += 2) {
            int32x4_t a = vreinterpretq_s32_s8(u[i].val[h]), b = vreinterpretq_s32_s8(u[i + 1].val[h]);
            vst1q_s8(w->q[g][2 * h][r + i], vreinterpretq_s8_s32(low_halves(a, b)));
            vst1q_s8(w->q[g][2 * h + 1][r + i], vreinterpretq_s8_s32(high_halves(a, b)));
        }
    }
}

FE_INLINE void products(int32x4_t sum[TOKENS][2], const weight_panel *w, size_t g, size_t r, const act_tile *x,
                        size_t first, size_t last) {
    int32x4_t square[TOKENS / 2][TILE_ROWS / 2]; /* of two tokens and two rows */
    FE_UNROLL for (size_t i = 0; i < TILE_ROWS / 2; i++) square[0][i] = square[1][i] = vdupq_n_s32(0);
    FE_UNROLL for (size_t s = 2 * first; s < 2 * last; s++) {
        int8x16_t a = vld1q_s8(x->q[s][0]), b = vld1q_s8(x->q[s][2]);
        FE_UNROLL for (size_t i = 0; i < TILE_ROWS / 2; i++) {
            int8x16_t u = vld1q_s8(w->q[g][s][r + 2 * i]);
            square[0][i] = vmmlaq_s32(square[0][i], a, u);
            square[1][i] = vmmlaq_s32(square[1][i], b, u);
            FE_KEEP(square[0][i]);
            FE_KEEP(square[1][i]);
        }
    }
    FE_UNROLL for (size_t t = 0; t < TOKENS; t += 2) {
        FE_UNROLL for (size_t v = 0; v < 2; v++) {
            sum[t][v] = low_halves(square[t / 2][2 * v], square[t / 2][2 * v + 1]);
            sum[t + 1][v] = high_halves(square[t / 2][2 * v], square[t / 2][2 * v + 1]);
        }
    }
}

FE_MULTIPLY(fe_multiply_i8mm, 16, int32x4_t, vdupq_n_s32(0), int8x16_t, vdupq_n_s8(1), vmmlaq_s32(sum[j], u, v), 32 * 2)

#define ROW(type, name_)              \
    rows[type].name = #name_ " i8mm"; \
    rows[type].gemm = gemm_##name_;   \
    rows[type].gemm_scratch = gemm_scratch;

void fe_matmul_init_i8mm(fe_matmul_kernel rows[FE_TYPES]) { FE_EACH_QUANTISED(ROW) }
