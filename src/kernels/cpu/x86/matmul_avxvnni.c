/* Matmul for AVX-VNNI: GEMM of the types with a scale per 32 and unsigned quants. GEMV is bound by other things than the product,
 * and the others keep AVX2's kernels, whose packing of the activations these take.
 *
 * As for AVX2, but that vpdpbusd multiplies and adds four products in 32 bits at once, where vpmaddubsw leaves sums of two in 16
 * bits to be added. */
#include "kernels/cpu/simd_avx2.h"

enum { ROWS = 16, TOKENS = 4 };
#include "kernels/cpu/x86/panel_avx2.h"

#include <pthread.h>

static fe_matmul_kernel below[FE_TYPES];
static pthread_once_t below_once = PTHREAD_ONCE_INIT;

static void fill_below(void) { fe_matmul_init_avx2(below); }

FE_INLINE void inner_tokens(float *acc, const panel_32 *w, const act_part *x, const act_part *end, const act_sums *tile,
                            size_t tokens) {
    if (tile) accumulate_sums(acc, w, x, (size_t)(end - x), tile, tokens);
    for (; x < end; x++) {
        size_t g = x->group;
        __m256i sum[TOKENS][2];
        FE_UNROLL for (size_t t = 0; t < tokens; t++) sum[t][0] = sum[t][1] = _mm256_setzero_si256();
        FE_UNROLL for (size_t s = 0; s < 8; s++) {
            __m256i u0 = load_256(w->q[g][s][0]), u1 = load_256(w->q[g][s][8]);
            FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                __m256i v = broadcast_4(x->q[t] + s * 4);
                sum[t][0] = _mm256_dpbusd_avx_epi32(sum[t][0], u0, v);
                sum[t][1] = _mm256_dpbusd_avx_epi32(sum[t][1], u1, v);
            }
        }
        __m256 low = _mm256_load_ps(w->scale[g]), high = _mm256_load_ps(w->scale[g] + 8);
        FE_UNROLL for (size_t t = 0; t < tokens; t++) accumulate_32(acc, low, high, x, t, sum[t]);
    }
}

#define CALL_DOT(tokens) inner_tokens(acc, w, x, end, tile, tokens)
INNER(inner_dot, CALL_DOT)

#include "kernels/cpu/x86/gemm_template.h"

#define KERNEL(type, name, bytes)                                                                                     \
    static void direct_##name(float *y, size_t ldy, const uint8_t *w, size_t stride, size_t n, const fe_act_panel *x, \
                              size_t m, size_t k) {                                                                   \
        below[type].gemm(y, ldy, w, stride, n, x, m, k, NULL); /* needs no scratch for so few */                      \
    }                                                                                                                 \
    GEMM_32(name, bytes, inner_dot)

KERNEL(FERRUM_Q4_0, q4_0, 8 * sizeof(fe_block_q4_0))
KERNEL(FERRUM_Q4_1, q4_1, 8 * sizeof(fe_block_q4_1))
KERNEL(FERRUM_Q5_0, q5_0, 8 * sizeof(fe_block_q5_0))
KERNEL(FERRUM_Q5_1, q5_1, 8 * sizeof(fe_block_q5_1))
KERNEL(FERRUM_Q4_K, q4_k, sizeof(fe_block_q4_k))
KERNEL(FERRUM_Q5_K, q5_k, sizeof(fe_block_q5_k))

FE_MULTIPLY(fe_multiply_avxvnni, 12, __m256i, _mm256_setzero_si256(), __m256i, _mm256_set1_epi8(1),
            _mm256_dpbusd_avx_epi32(sum[j], u, v), 32 * 2)

#define ROW(type, name_)                 \
    rows[type] = below[type];            \
    rows[type].name = #name_ " avxvnni"; \
    rows[type].gemm = gemm_##name_;

void fe_matmul_init_avxvnni(fe_matmul_kernel rows[FE_TYPES]) {
    pthread_once(&below_once, fill_below);
    ROW(FERRUM_Q4_0, q4_0)
    ROW(FERRUM_Q4_1, q4_1)
    ROW(FERRUM_Q5_0, q5_0)
    ROW(FERRUM_Q5_1, q5_1)
    ROW(FERRUM_Q4_K, q4_k)
    ROW(FERRUM_Q5_K, q5_k)
}
