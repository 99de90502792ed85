/* Matmul for AVX2, FMA and F16C.
 *
 * GEMV, and GEMM of two tokens: a row at a time straight from the mapped blocks, prefetched about 2 KB ahead; quants are
 * unpacked in registers and multiplied by the activations with vpmaddubsw, and there is no horizontal sum before the row's
 * end.
 *
 * GEMM: a unit of 16 rows. Panel by panel of 256 columns the blocks are unpacked into scratch with rows in lanes: a dword
 * holds 4 consecutive k of a row, 8 rows to a vector. The inner kernel takes 16 rows x 4 tokens, broadcasting 4 activations
 * of a token at a time. The sums of all tokens stay in scratch until the last panel.
 *
 * vpmaddubsw saturates at 32767. Two products of quants up to 15, 31 and 63 with activations up to 127 are at most 3810,
 * 7874 and 16002, so that 8, 4 and 2 such sums can be added in 16 bits. Q8_0 takes |w| (at most 128) times x with w's sign:
 * at most 32512. */
#include "kernels/cpu/simd_avx2.h"

enum { ROWS = 16, TOKENS = 4, GEMV_AHEAD = 2048 };
#include "kernels/cpu/x86/pack.h"
#include "kernels/cpu/x86/panel_avx2.h"

/* ---- GEMV --------------------------------------------------------------------------------------------------------- */

typedef __m256i (*quants_fn)(const uint8_t *w, size_t g);

typedef struct sums {
    __m256 product[2], add;
} sums;

/* One part of a group. `is_signed`: quants are signed bytes. */
FE_INLINE void gemv_part_32(__m256 *sum, __m256i u, const int8_t *q, const float *scale, bool is_signed) {
    __m256i v = load_256(q);
    if (is_signed) {
        v = _mm256_sign_epi8(v, u);
        u = _mm256_abs_epi8(u);
    }
    __m256i product = _mm256_madd_epi16(_mm256_maddubs_epi16(u, v), _mm256_set1_epi16(1));
    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), _mm256_broadcast_ss(scale), *sum);
}

/* Group g of a panel; of the two sums one is taken, then the other, so that their latencies overlap. */
FE_INLINE void gemv_group_32(sums *sum, __m256i u, const fe_act_panel *x, size_t g, float (*scale)[8], bool is_signed) {
    gemv_part_32(&sum->product[g % 2], u, x->q[0] + g * 32, scale[0] + g, is_signed);
    if (x->rest >> g & 1) gemv_part_32(&sum->product[(g + 1) % 2], u, x->q[1] + g * 32, scale[1] + g, is_signed);
}

/* A panel's scales times the activations', and the sum of its addends; `has_add`: they are not always 0. */
FE_INLINE void gemv_scales_32(float (*scale)[8], sums *sum, const scales_32 *s, const fe_act_panel *x, bool has_add) {
    FE_UNROLL for (size_t i = 0; i < FE_PARTS; i++)
        _mm256_store_ps(scale[i], _mm256_mul_ps(s->scale, _mm256_load_ps(x->d[i])));
    if (has_add) sum->add = _mm256_fmadd_ps(s->add, _mm256_load_ps(x->ds), sum->add);
}

FE_INLINE void clear_sums(sums sum[DIRECT], size_t tokens) {
    FE_UNROLL for (size_t t = 0; t < tokens; t++) sum[t].product[0] = sum[t].product[1] = sum[t].add =
        _mm256_setzero_ps();
}
FE_INLINE void store_sums(float *y, size_t ldy, const sums sum[DIRECT], size_t tokens) {
    FE_UNROLL for (size_t t = 0; t < tokens; t++) y[t * ldy] =
        vf_sum(_mm256_add_ps(_mm256_add_ps(sum[t].product[0], sum[t].product[1]), sum[t].add));
}

/* y[t·ldy + r] for `tokens` rows of activations. */
FE_INLINE void gemv_32(float *y, size_t ldy, const uint8_t *w, size_t stride, size_t n, const fe_act_panel *x,
                       size_t tokens, size_t k, size_t bytes, quants_fn quants, scales_32_fn scales, bool has_add,
                       bool is_signed) {
    float scale[DIRECT][FE_PARTS][8] __attribute__((aligned(32)));
    size_t panels = k / FE_PANEL, rest = k % FE_PANEL / 32, ldx = fe_act_panels(k);
    for (size_t r = 0; r < n; r++, w += stride) {
        sums sum[DIRECT];
        clear_sums(sum, tokens);
        for (size_t p = 0; p < panels; p++) {
            const uint8_t *b = w + p * bytes;
            prefetch(b, GEMV_AHEAD, bytes);
            scales_32 s = scales(b, 8);
            FE_UNROLL for (size_t t = 0; t < tokens; t++)
                gemv_scales_32(scale[t], sum + t, &s, x + t * ldx + p, has_add);
            FE_UNROLL for (size_t g = 0; g < 8; g++) {
                __m256i u = quants(b, g);
                FE_UNROLL for (size_t t = 0; t < tokens; t++)
                    gemv_group_32(sum + t, u, x + t * ldx + p, g, scale[t], is_signed);
            }
        }
        if (rest) {
            const uint8_t *b = w + panels * bytes;
            prefetch(b, GEMV_AHEAD, bytes / 8 * rest);
            scales_32 s = scales(b, rest);
            FE_UNROLL for (size_t t = 0; t < tokens; t++)
                gemv_scales_32(scale[t], sum + t, &s, x + t * ldx + panels, has_add);
            for (size_t g = 0; g < rest; g++) {
                __m256i u = quants(b, g);
                FE_UNROLL for (size_t t = 0; t < tokens; t++)
                    gemv_group_32(sum + t, u, x + t * ldx + panels, g, scale[t], is_signed);
            }
        }
        store_sums(y + r, ldy, sum, tokens);
    }
}

/* The even scales of 16 in the low, the odd ones in the high half, as 16-bit integers: word j of both halves belongs to
 * group j's two sixteens. */
FE_INLINE __m256i spread_scales(__m128i scale) {
    __m128i even_odd = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    return _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scale, even_odd));
}

/* One part of a group with two scales, the words of `by`. The integer scales are multiplied in by the vpmaddwd that has to
 * widen the products anyhow: at most 2 · 16002 · 128. */
FE_INLINE void gemv_part_16(__m256 *sum, __m256i u, const int8_t *q, __m256i by, const float *scale) {
    __m256i product = _mm256_madd_epi16(_mm256_maddubs_epi16(u, load_256(q)), by);
    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), _mm256_broadcast_ss(scale), *sum);
}

/* Super-blocks with a scale per 16; w = d · scale · (q - offset) - dmin · min. */
FE_INLINE void gemv_16(float *y, size_t ldy, const uint8_t *w, size_t stride, size_t n, const fe_act_panel *x,
                       size_t tokens, size_t k, size_t bytes, quants_fn quants, scales_16_fn scales, int offset,
                       size_t ahead) {
    float scale[DIRECT][FE_PARTS][8] __attribute__((aligned(32)));
    size_t ldx = fe_act_panels(k);
    for (size_t r = 0; r < n; r++, w += stride) {
        sums sum[DIRECT];
        clear_sums(sum, tokens);
        for (size_t p = 0; p < ldx; p++) {
            const uint8_t *b = w + p * bytes;
            prefetch(b, ahead, bytes);
            scales_16 s = scales(b);
            __m256i spread = spread_scales(s.scale);
            __m256 d = _mm256_set1_ps(s.d), off[2];
            taken_off(off, &s, offset);
            FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                const fe_act_panel *v = x + t * ldx + p;
                FE_UNROLL for (size_t i = 0; i < FE_PARTS; i++)
                    _mm256_store_ps(scale[t][i], _mm256_mul_ps(d, _mm256_load_ps(v->d[i])));
                FE_UNROLL for (size_t i = 0; i < 2; i++) sum[t].add =
                    _mm256_fnmadd_ps(off[i], _mm256_load_ps(v->s16 + i * 8), sum[t].add);
            }
            FE_UNROLL for (size_t g = 0; g < 8; g++) {
                __m256i words = _mm256_set1_epi16((short)(g * 2 | (g * 2 + 1) << 8));
                __m256i u = quants(b, g), by = _mm256_shuffle_epi8(spread, words);
                FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                    const fe_act_panel *v = x + t * ldx + p;
                    gemv_part_16(&sum[t].product[g % 2], u, v->q[0] + g * 32, by, scale[t][0] + g);
                    if (v->rest >> g & 1)
                        gemv_part_16(&sum[t].product[(g + 1) % 2], u, v->q[1] + g * 32, by, scale[t][1] + g);
                }
            }
        }
        store_sums(y + r, ldy, sum, tokens);
    }
}

/* ---- GEMM: the inner kernels, for `tokens` tokens ----------------------------------------------------------------- */

/* `steps` products are added in 16 bits: 8 for quants up to 15, 4 for quants up to 31. */
FE_INLINE void inner_unsigned(float *acc, const panel_32 *w, const act_part *x, const act_part *end,
                              const act_sums *tile, size_t tokens, size_t steps) {
    const __m256i ones = _mm256_set1_epi16(1);
    if (tile) accumulate_sums(acc, w, x, (size_t)(end - x), tile, tokens);
    for (; x < end; x++) {
        size_t g = x->group;
        __m256i sum[TOKENS][2];
        FE_UNROLL for (size_t first = 0; first < 8; first += steps) {
            __m256i part[TOKENS][2];
            FE_UNROLL for (size_t s = first; s < first + steps; s++) {
                __m256i u0 = load_256(w->q[g][s][0]), u1 = load_256(w->q[g][s][8]);
                FE_KEEP(u0);
                FE_KEEP(u1);
                FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                    __m256i v = broadcast_4(x->q[t] + s * 4);
                    __m256i p0 = _mm256_maddubs_epi16(u0, v), p1 = _mm256_maddubs_epi16(u1, v);
                    part[t][0] = s > first ? _mm256_add_epi16(part[t][0], p0) : p0;
                    part[t][1] = s > first ? _mm256_add_epi16(part[t][1], p1) : p1;
                    FE_KEEP(part[t][0]);
                    FE_KEEP(part[t][1]);
                }
            }
            FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                __m256i p0 = _mm256_madd_epi16(part[t][0], ones), p1 = _mm256_madd_epi16(part[t][1], ones);
                sum[t][0] = first ? _mm256_add_epi32(sum[t][0], p0) : p0;
                sum[t][1] = first ? _mm256_add_epi32(sum[t][1], p1) : p1;
            }
        }
        __m256 low = _mm256_load_ps(w->scale[g]), high = _mm256_load_ps(w->scale[g] + 8);
        FE_UNROLL for (size_t t = 0; t < tokens; t++) accumulate_32(acc, low, high, x, t, sum[t]);
    }
}

FE_INLINE void inner_signed(float *acc, const panel_32 *w, const act_part *x, const act_part *end, size_t tokens) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (; x < end; x++) {
        size_t g = x->group;
        __m256i sum[TOKENS][2];
        FE_UNROLL for (size_t t = 0; t < tokens; t++) sum[t][0] = sum[t][1] = _mm256_setzero_si256();
        for (size_t s = 0; s < 8; s++) {
            FE_UNROLL for (size_t v = 0; v < 2; v++) {
                __m256i u = load_256(w->q[g][s][v * 8]), magnitude = _mm256_abs_epi8(u);
                FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                    __m256i p = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(broadcast_4(x->q[t] + s * 4), u));
                    sum[t][v] = _mm256_add_epi32(sum[t][v], _mm256_madd_epi16(p, ones));
                }
            }
        }
        __m256 low = _mm256_load_ps(w->scale[g]), high = _mm256_load_ps(w->scale[g] + 8);
        FE_UNROLL for (size_t t = 0; t < tokens; t++) accumulate_32(acc, low, high, x, t, sum[t]);
    }
}

/* With a scale per 16: two products are added in 16 bits, then multiplied by the integer scales. */
FE_INLINE void inner_16(float *acc, const panel_16 *w, const act_part *x, const act_part *end, size_t tokens,
                        bool has_min) {
    for (; x < end; x++) {
        size_t g = x->group;
        __m256i sum[TOKENS][2];
        FE_UNROLL for (size_t t = 0; t < tokens; t++) {
            FE_UNROLL for (size_t v = 0; v < 2; v++) {
                __m256i s16 = _mm256_set1_epi32((int)load_u32(x->s16[t]));
                sum[t][v] = has_min ? _mm256_setzero_si256() : _mm256_madd_epi16(load_256(w->pair[g][v * 8]), s16);
            }
        }
        for (size_t s = 0; s < 8; s += 2) {
            FE_UNROLL for (size_t v = 0; v < 2; v++) {
                __m256i u0 = load_256(w->q[g][s][v * 8]), u1 = load_256(w->q[g][s + 1][v * 8]);
                __m256i scale = load_256(w->scale[g][s / 4][v * 8]);
                FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                    __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(u0, broadcast_4(x->q[t] + s * 4)),
                                                 _mm256_maddubs_epi16(u1, broadcast_4(x->q[t] + s * 4 + 4)));
                    sum[t][v] = _mm256_add_epi32(sum[t][v], _mm256_madd_epi16(p, scale));
                }
            }
        }
        __m256 low = _mm256_load_ps(w->d), high = _mm256_load_ps(w->d + 8);
        FE_UNROLL for (size_t t = 0; t < tokens; t++) {
            accumulate_32(acc, low, high, x, t, sum[t]);
            if (!has_min) continue;
            __m256 d = _mm256_broadcast_ss(x->d + t);
            FE_UNROLL for (size_t v = 0; v < 2; v++) {
                float *to = acc + x->at[t] + v * 8;
                __m256i s16 = _mm256_set1_epi32((int)load_u32(x->s16[t]));
                __m256i taken = _mm256_madd_epi16(load_256(w->pair[g][v * 8]), s16);
                __m256 by = _mm256_mul_ps(_mm256_load_ps(w->dmin + v * 8), d);
                _mm256_store_ps(to, _mm256_fnmadd_ps(_mm256_cvtepi32_ps(taken), by, _mm256_load_ps(to)));
            }
        }
    }
}

#define CALL_U4(tokens)     inner_unsigned(acc, w, x, end, tile, tokens, 8)
#define CALL_U5(tokens)     inner_unsigned(acc, w, x, end, tile, tokens, 4)
#define CALL_S8(tokens)     inner_signed(acc, w, x, end, tokens)
#define CALL_16(tokens)     inner_16(acc, w, x, end, tokens, false)
#define CALL_16_MIN(tokens) inner_16(acc, w, x, end, tokens, true)
INNER(inner_u4, CALL_U4)
INNER(inner_u5, CALL_U5)
INNER(inner_s8, CALL_S8)
INNER(inner_k16, CALL_16)
INNER(inner_k16_min, CALL_16_MIN)

/* ---- GEMM: units of 16 rows --------------------------------------------------------------------------------------- */

static size_t gemm_scratch(size_t m, size_t k) {
    (void)k;
    return sizeof(panel_16) + m * ROWS * sizeof(float);
}

#include "kernels/cpu/x86/gemm_template.h"

#define SCALE_32(type, bytes, has_add, is_signed, inner)                    \
    GEMV(type, 32, bytes, quants_##type, scales_##type, has_add, is_signed) \
    GEMM_32(type, bytes, inner)
#define SCALE_16(type, bytes, offset, ahead, inner)                    \
    GEMV(type, 16, bytes, quants_##type, scales_##type, offset, ahead) \
    GEMM_16(type, bytes, inner)

SCALE_32(q4_0, 8 * sizeof(fe_block_q4_0), true, false, inner_u4)
SCALE_32(q4_1, 8 * sizeof(fe_block_q4_1), true, false, inner_u4)
SCALE_32(q5_0, 8 * sizeof(fe_block_q5_0), true, false, inner_u5)
SCALE_32(q5_1, 8 * sizeof(fe_block_q5_1), true, false, inner_u5)
SCALE_32(q8_0, 8 * sizeof(fe_block_q8_0), false, true, inner_s8)
SCALE_32(q4_k, sizeof(fe_block_q4_k), true, false, inner_u4)
SCALE_32(q5_k, sizeof(fe_block_q5_k), true, false, inner_u5)
SCALE_16(q2_k, sizeof(fe_block_q2_k), 0, GEMV_AHEAD, inner_k16_min)
SCALE_16(q3_k, sizeof(fe_block_q3_k), 4, GEMV_AHEAD, inner_k16)
SCALE_16(q6_k, sizeof(fe_block_q6_k), 32, 1536, inner_k16)

/* ---- Float weights ------------------------------------------------------------------------------------------------ */

FE_INLINE vf load_f32(const uint8_t *w) { return _mm256_castsi256_ps(load_256(w)); }
FE_INLINE vf load_f16(const uint8_t *w) { return _mm256_cvtph_ps(load_128(w)); }
FE_INLINE vf load_bf16(const uint8_t *w) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(w)), 16));
}

enum { FLOAT_TOKENS = 3 };
#include "kernels/cpu/matmul_float_template.h"

FE_MULTIPLY(fe_multiply_avx2, 8, __m256i, _mm256_setzero_si256(), __m256i, _mm256_set1_epi8(1),
            _mm256_add_epi16(sum[j], _mm256_maddubs_epi16(u, v)), 32 * 2)

/* ---- Table -------------------------------------------------------------------------------------------------------- */

#define ROW(type, name)                                                                         \
    rows[type] = (fe_matmul_kernel){#name " avx2", act_bytes,    pack, pack_group, gemv_##name, \
                                    gemm_##name,   gemm_scratch, ROWS, 0};

void fe_matmul_init_avx2(fe_matmul_kernel rows[FE_TYPES]) {
    rows[FERRUM_F32] = (fe_matmul_kernel)FLOAT_ROW(f32, "avx2");
    rows[FERRUM_F16] = (fe_matmul_kernel)FLOAT_ROW(f16, "avx2");
    rows[FERRUM_BF16] = (fe_matmul_kernel)FLOAT_ROW(bf16, "avx2");
    FE_EACH_QUANTISED(ROW)
}
