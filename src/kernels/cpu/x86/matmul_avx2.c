/* Matmul for AVX2, FMA and F16C.
 *
 * GEMV, and GEMM of two tokens: 8 rows at a time straight from the mapped blocks; quants are unpacked in registers and multiplied
 * by the activations with vpmaddubsw, and the sums of a group come to lanes by row.
 *
 * GEMM: a unit of 16 rows. Panel by panel of 256 columns the blocks are unpacked into scratch with rows in lanes: a dword
 * holds 4 consecutive k of a row, 8 rows to a vector. The inner kernel takes 16 rows x 4 tokens, broadcasting 4 activations
 * of a token at a time. The sums of all tokens stay in scratch until the last panel.
 *
 * vpmaddubsw saturates at 32767. Two products of quants up to 15, 31 and 63 with activations up to 127 are at most 3810,
 * 7874 and 16002, so that 8, 4 and 2 such sums can be added in 16 bits. Q8_0 takes |w| (at most 128) times x with w's sign:
 * at most 32512. */
#include "kernels/cpu/simd_avx2.h"

enum { ROWS = 16, TOKENS = 4 };
#include "kernels/cpu/x86/pack.h"
#include "kernels/cpu/x86/panel_avx2.h"

/* ---- GEMV --------------------------------------------------------------------------------------------------------- */

typedef __m256i (*quants_fn)(const uint8_t *w, size_t g);

enum { CHUNK_GROUPS = 1 };
#include "kernels/cpu/x86/gemv_template.h"

/* In place of an offset, which AVX2's types leave to the panel: quants are signed bytes. The others are below 64, so that two of
 * vpmaddubsw's sums fit 16 bits. */
enum { SIGNED = -1 };

/* Of four rows' products with one part of group g, the sum of each 16 bytes' : row by row in the 16 bytes. */
FE_INLINE __m256i multiply_4(const __m256i u[4], const int8_t *q, bool is_signed) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i v = load_256(q), p[4], pair[2];
    FE_UNROLL for (size_t i = 0; i < 4; i++) {
        if (is_signed)
            p[i] = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(u[i]), _mm256_sign_epi8(v, u[i])), ones);
        else
            p[i] = _mm256_maddubs_epi16(u[i], v);
    }
    FE_UNROLL for (size_t i = 0; i < 2; i++) {
        __m256i low = _mm256_unpacklo_epi32(p[2 * i], p[2 * i + 1]),
                high = _mm256_unpackhi_epi32(p[2 * i], p[2 * i + 1]);
        pair[i] = is_signed ? _mm256_add_epi32(low, high) : _mm256_madd_epi16(_mm256_add_epi16(low, high), ones);
    }
    return _mm256_add_epi32(_mm256_unpacklo_epi64(pair[0], pair[1]), _mm256_unpackhi_epi64(pair[0], pair[1]));
}

/* v[j] has both sixteens' sums for rows 4·j …: they are put sixteen by sixteen, or as one, a lane a row. */
FE_INLINE void to_lanes(__m256i *to, const __m256i v[2], bool by_16) {
    __m256i low = _mm256_permute2x128_si256(v[0], v[1], 0x20), high = _mm256_permute2x128_si256(v[0], v[1], 0x31);
    to[0] = by_16 ? low : _mm256_add_epi32(low, high);
    if (by_16) to[1] = high;
}

FE_INLINE void multiply_chunk(gemv_sums sums[DIRECT], gemv_rows *rows, const fe_act_panel *x, size_t ldx, size_t tokens,
                              size_t g, size_t groups, gemv_type type) {
    const bool is_signed = type.offset == SIGNED;
    __m256i v[DIRECT][FE_PARTS][2];
    (void)groups;
    fetch_row(rows);
    FE_UNROLL for (size_t j = 0; j < 2; j++) {
        __m256i u[4];
        FE_UNROLL for (size_t i = 0; i < 4; i++) u[i] = type.quants(rows->row[4 * j + i], g);
        FE_UNROLL for (size_t t = 0; t < tokens; t++) {
            v[t][0][j] = multiply_4(u, x[t * ldx].q[0] + g * 32, is_signed);
            v[t][1][j] =
                x[t * ldx].rest >> g & 1 ? multiply_4(u, x[t * ldx].q[1] + g * 32, is_signed) : _mm256_setzero_si256();
        }
    }
    FE_UNROLL for (size_t t = 0; t < tokens; t++) {
        size_t at = type.by_16 ? 2 * g : g;
        to_lanes(sums[t].of[0] + at, v[t][0], type.by_16);
        if (x[t * ldx].rest >> g & 1) to_lanes(sums[t].of[1] + at, v[t][1], type.by_16);
    }
}

FE_INLINE vf add_part_32(vf f, const panel_32 *w, const gemv_sums *s, const fe_act_panel *x, size_t part, size_t g) {
    vf by = _mm256_mul_ps(_mm256_load_ps(w->scale[g]), _mm256_broadcast_ss(&x->d[part][g]));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(s->of[part][g]), by, f);
}
FE_INLINE vf add_panel_32(vf f, const panel_32 *w, const gemv_sums *s, const fe_act_panel *x, size_t groups,
                          gemv_type type) {
    for (size_t g = 0; g < groups && type.added; g++)
        f = _mm256_fmadd_ps(_mm256_load_ps(w->add[g]), _mm256_broadcast_ss(x->ds + g), f);
    for (size_t g = 0; g < groups; g++) f = add_part_32(f, w, s, x, 0, g);
    for (uint32_t rest = x->rest; rest; rest &= rest - 1) f = add_part_32(f, w, s, x, 1, (size_t)__builtin_ctz(rest));
    return f;
}

/* The sums are multiplied by the integer scales: at most 2 · 16 · 63 · 127 · 128. */
FE_INLINE vf add_part_16(vf f, const panel_16 *w, const gemv_sums *s, const fe_act_panel *x, size_t part, size_t g,
                         bool has_min) {
    __m256i s16 = _mm256_set1_epi32((int)load_u32(x->sums[part][g]));
    __m256i taken = _mm256_madd_epi16(load_256(w->pair[g]), s16), sum = has_min ? _mm256_setzero_si256() : taken;
    FE_UNROLL for (size_t h = 0; h < 2; h++) {
        __m256i scale = _mm256_srai_epi32(load_256(w->scale[g][h]), 16);
        sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(s->of[part][2 * g + h], scale));
    }
    vf d = _mm256_broadcast_ss(&x->d[part][g]);
    f = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(_mm256_load_ps(w->d), d), f);
    if (!has_min) return f;
    return _mm256_fnmadd_ps(_mm256_cvtepi32_ps(taken), _mm256_mul_ps(_mm256_load_ps(w->dmin), d), f);
}
FE_INLINE vf add_panel_16(vf f, const panel_16 *w, const gemv_sums *s, const fe_act_panel *x, gemv_type type) {
    for (size_t g = 0; g < 8; g++) f = add_part_16(f, w, s, x, 0, g, type.added);
    for (uint32_t rest = x->rest; rest; rest &= rest - 1)
        f = add_part_16(f, w, s, x, 1, (size_t)__builtin_ctz(rest), type.added);
    return f;
}

FE_INLINE void store_rows(float *y, vf f, size_t n) {
    if (n == LANES)
        _mm256_storeu_ps(y, f);
    else
        vf_store_n(y, f, n);
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

#define SCALE_32(type, bytes, offset, added, super, inner)    \
    GEMV_32(type, bytes, quants_##type, offset, added, super) \
    GEMM_32(type, bytes, inner)
#define SCALE_16(type, bytes, has_min, inner)       \
    GEMV_16(type, bytes, quants_##type, 0, has_min) \
    GEMM_16(type, bytes, inner)

SCALE_32(q4_0, 8 * sizeof(fe_block_q4_0), 0, true, false, inner_u4)
SCALE_32(q4_1, 8 * sizeof(fe_block_q4_1), 0, true, false, inner_u4)
SCALE_32(q5_0, 8 * sizeof(fe_block_q5_0), 0, true, false, inner_u5)
SCALE_32(q5_1, 8 * sizeof(fe_block_q5_1), 0, true, false, inner_u5)
SCALE_32(q8_0, 8 * sizeof(fe_block_q8_0), SIGNED, false, false, inner_s8)
SCALE_32(q4_k, sizeof(fe_block_q4_k), 0, true, true, inner_u4)
SCALE_32(q5_k, sizeof(fe_block_q5_k), 0, true, true, inner_u5)
SCALE_16(q2_k, sizeof(fe_block_q2_k), true, inner_k16_min)
SCALE_16(q3_k, sizeof(fe_block_q3_k), false, inner_k16)
SCALE_16(q6_k, sizeof(fe_block_q6_k), false, inner_k16)

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
