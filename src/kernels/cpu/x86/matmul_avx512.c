/* Matmul for AVX-512 with VNNI: F, BW, DQ, VL, VNNI.
 *
 * GEMV, and GEMM of two tokens: a row at a time straight from the mapped blocks, prefetched about 2 KB ahead; 64 quants
 * are unpacked in registers and multiplied by the activations with vpdpbusd, and there is no horizontal sum before the
 * row's end.
 *
 * GEMM: a unit of 32 rows. Panel by panel of 256 columns the blocks are unpacked into scratch with rows in lanes: a dword
 * holds 4 consecutive k of a row, 16 rows to a vector. The inner kernel takes 32 rows x 6 tokens, broadcasting 4 activations
 * of a token at a time. The sums of all tokens stay in scratch until the last panel.
 *
 * vpdpbusd takes unsigned quants; what a type subtracts from them is taken off the integer sums by starting these at
 * -offset · Σ q. */
#include "kernels/cpu/simd_avx512.h"

enum { ROWS = 32, TOKENS = 6, GEMV_AHEAD = 2048 };
#include "kernels/cpu/x86/pack.h"
#include "kernels/cpu/x86/panel_avx512.h"

/* ---- Quants: 64 elements, groups 2·c and 2·c + 1 of a panel, as unsigned bytes ------------------------------------- */

/* Past the last group of a panel of blocks of 32, the first one is read again. */
typedef __m512i (*quants_fn)(const uint8_t *w, size_t c, size_t groups);

/* Words of 16 bits shifted right, by a in the low and by b in the high half, and masked. */
FE_INLINE __m512i halves(__m512i x, int a, int b, int mask) {
    __m512i counts = _mm512_inserti64x4(_mm512_set1_epi16((short)a), _mm256_set1_epi16((short)b), 1);
    return _mm512_and_si512(_mm512_srlv_epi16(x, counts), _mm512_set1_epi8((char)mask));
}
FE_INLINE __m512i twice(const uint8_t *p) { return _mm512_broadcast_i64x4(load_256(p)); }

/* Two times 16 bytes: their low nibbles, then their high ones. */
FE_INLINE __m512i nibbles_2(const uint8_t *a, const uint8_t *b) {
    __m512i x = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(load_128(a)), 0xFF00, load_128(b));
    __m512i counts =
        _mm512_set_epi64(0x0004000400040004, 0x0004000400040004, 0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0);
    return _mm512_and_si512(_mm512_srlv_epi16(x, counts), _mm512_set1_epi8(15));
}
/* Adds 16 where a bit is set in a's 32, then b's. */
FE_INLINE __m512i add_fifth_bits(__m512i x, const uint8_t *a, const uint8_t *b) {
    __mmask64 bit = load_u32(a) | (uint64_t)load_u32(b) << 32;
    return _mm512_mask_add_epi8(x, bit, x, _mm512_set1_epi8(16));
}

FE_INLINE __m512i wide_q4_0(const uint8_t *w, size_t c, size_t groups) {
    return nibbles_2(w + c * 36 + 2, block_at(w, 18, 2 * c + 1, groups) + 2);
}
FE_INLINE __m512i wide_q4_1(const uint8_t *w, size_t c, size_t groups) {
    return nibbles_2(w + c * 40 + 4, block_at(w, 20, 2 * c + 1, groups) + 4);
}
FE_INLINE __m512i wide_q5_0(const uint8_t *w, size_t c, size_t groups) {
    const uint8_t *a = w + c * 44, *b = block_at(w, 22, 2 * c + 1, groups);
    return add_fifth_bits(nibbles_2(a + 6, b + 6), a + 2, b + 2);
}
FE_INLINE __m512i wide_q5_1(const uint8_t *w, size_t c, size_t groups) {
    const uint8_t *a = w + c * 48, *b = block_at(w, 24, 2 * c + 1, groups);
    return add_fifth_bits(nibbles_2(a + 8, b + 8), a + 4, b + 4);
}
FE_INLINE __m512i wide_q8_0(const uint8_t *w, size_t c, size_t groups) { /* signed */
    const uint8_t *b = block_at(w, 34, 2 * c + 1, groups);
    return _mm512_inserti64x4(_mm512_castsi256_si512(load_256(w + c * 68 + 2)), load_256(b + 2), 1);
}
FE_INLINE __m512i wide_q4_k(const uint8_t *w, size_t c, size_t groups) {
    (void)groups;
    return halves(twice(w + 16 + c * 32), 0, 4, 15);
}
/* Where bit 2·c, in the high half bit 2·c + 1, of 32 bytes is set. */
FE_INLINE __mmask64 bit_of(const uint8_t *p, size_t c) {
    __m512i bit = _mm512_inserti64x4(_mm512_set1_epi8((char)(1 << 2 * c)), _mm256_set1_epi8((char)(2 << 2 * c)), 1);
    return _mm512_test_epi8_mask(twice(p), bit);
}
FE_INLINE __m512i wide_q5_k(const uint8_t *w, size_t c, size_t groups) {
    (void)groups;
    __m512i low = halves(twice(w + 48 + c * 32), 0, 4, 15);
    return _mm512_mask_add_epi8(low, bit_of(w + 16, c), low, _mm512_set1_epi8(16));
}
FE_INLINE __m512i wide_q6_k(const uint8_t *w, size_t c, size_t groups) {
    (void)groups;
    __m512i low = _mm512_loadu_si512(w + c / 2 * 64), high = twice(w + 128 + c / 2 * 32);
    if (c % 2) {
        low = _mm512_srli_epi16(low, 4);
        high = halves(high, 0, 2, 48);
    } else {
        __m512i counts = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
        high = _mm512_and_si512(_mm512_sllv_epi16(high, counts), _mm512_set1_epi8(48));
    }
    return _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi8(15)), high);
}
FE_INLINE __m512i wide_q3_k(const uint8_t *w, size_t c, size_t groups) {
    (void)groups;
    __m512i low = halves(twice(w + 32 + c / 2 * 32), c % 2 * 4, c % 2 * 4 + 2, 3);
    return _mm512_mask_add_epi8(low, bit_of(w, c), low, _mm512_set1_epi8(4));
}
FE_INLINE __m512i wide_q2_k(const uint8_t *w, size_t c, size_t groups) {
    (void)groups;
    return halves(twice(w + 16 + c / 2 * 32), c % 2 * 4, c % 2 * 4 + 2, 3);
}

/* ---- GEMV --------------------------------------------------------------------------------------------------------- */

typedef struct sums {
    __m512 product[2];
    __m256 add;
} sums;

FE_INLINE float total(const sums *s) {
    __m512 v = _mm512_add_ps(s->product[0], s->product[1]);
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    half = _mm256_add_ps(half, s->add);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

FE_INLINE void clear_sums(sums sum[DIRECT], size_t tokens) {
    FE_UNROLL for (size_t t = 0; t < tokens; t++) {
        sum[t].product[0] = sum[t].product[1] = _mm512_setzero_ps();
        sum[t].add = _mm256_setzero_ps();
    }
}
FE_INLINE void store_totals(float *y, size_t ldy, const sums sum[DIRECT], size_t tokens) {
    FE_UNROLL for (size_t t = 0; t < tokens; t++) y[t * ldy] = total(sum + t);
}

/* One part of chunk c of a panel; `scale` holds a scale per 32 in its low half, or per 16. `is_signed`: quants are signed
 * bytes. */
FE_INLINE void gemv_part(__m512 *sum, __m512i u, const int8_t *q, size_t c, __m512 scale, int per, bool is_signed) {
    __m512i v = _mm512_load_si512(q + c * 64);
    if (is_signed) {
        v = _mm512_mask_sub_epi8(v, _mm512_movepi8_mask(u), _mm512_setzero_si512(), v);
        u = _mm512_abs_epi8(u);
    }
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i index =
        _mm512_add_epi32(_mm512_srli_epi32(lane, per == 32 ? 3 : 2), _mm512_set1_epi32((int)(c * 64) / per));
    __m512 product = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), u, v));
    *sum = _mm512_fmadd_ps(product, _mm512_permutexvar_ps(index, scale), *sum);
}
FE_INLINE void gemv_chunk(sums *sum, __m512i u, const fe_act_panel *x, size_t c, const __m512 scale[FE_PARTS], int per,
                          bool is_signed) {
    gemv_part(&sum->product[c % 2], u, x->q[0], c, scale[0], per, is_signed);
    if (x->rest >> 2 * c & 3) gemv_part(&sum->product[(c + 1) % 2], u, x->q[1], c, scale[1], per, is_signed);
}

/* A panel's scales times the activations', and the sum of its addends; `has_add`: they are not always 0. */
FE_INLINE void gemv_scales_32(__m512 scale[FE_PARTS], sums *sum, const scales_32 *s, const fe_act_panel *x,
                              bool has_add) {
    FE_UNROLL for (size_t i = 0; i < FE_PARTS; i++) scale[i] =
        _mm512_castps256_ps512(_mm256_mul_ps(s->scale, _mm256_load_ps(x->d[i])));
    if (has_add) sum->add = _mm256_fmadd_ps(s->add, _mm256_load_ps(x->ds), sum->add);
}

/* y[t·ldy + r] for `tokens` rows of activations. */
FE_INLINE void gemv_32(float *y, size_t ldy, const uint8_t *w, size_t stride, size_t n, const fe_act_panel *x,
                       size_t tokens, size_t k, size_t bytes, quants_fn quants, scales_32_fn scales, bool has_add,
                       bool is_signed) {
    size_t panels = k / FE_PANEL, rest = k % FE_PANEL / 32, ldx = fe_act_panels(k);
    for (size_t r = 0; r < n; r++, w += stride) {
        sums sum[DIRECT];
        __m512 scale[DIRECT][FE_PARTS];
        clear_sums(sum, tokens);
        for (size_t p = 0; p < panels; p++) {
            const uint8_t *b = w + p * bytes;
            prefetch(b, GEMV_AHEAD, bytes);
            scales_32 s = scales(b, 8);
            FE_UNROLL for (size_t t = 0; t < tokens; t++)
                gemv_scales_32(scale[t], sum + t, &s, x + t * ldx + p, has_add);
            FE_UNROLL for (size_t c = 0; c < 4; c++) {
                __m512i u = quants(b, c, 8);
                FE_UNROLL for (size_t t = 0; t < tokens; t++)
                    gemv_chunk(sum + t, u, x + t * ldx + p, c, scale[t], 32, is_signed);
            }
        }
        if (rest) {
            const uint8_t *b = w + panels * bytes;
            prefetch(b, GEMV_AHEAD, bytes / 8 * rest);
            scales_32 s = scales(b, rest);
            FE_UNROLL for (size_t t = 0; t < tokens; t++)
                gemv_scales_32(scale[t], sum + t, &s, x + t * ldx + panels, has_add);
            for (size_t c = 0; c < (rest + 1) / 2; c++) {
                __m512i u = quants(b, c, rest);
                FE_UNROLL for (size_t t = 0; t < tokens; t++)
                    gemv_chunk(sum + t, u, x + t * ldx + panels, c, scale[t], 32, is_signed);
            }
        }
        store_totals(y + r, ldy, sum, tokens);
    }
}

/* Super-blocks with a scale per 16; w = d · scale · (q - offset) - dmin · min. */
FE_INLINE void gemv_16(float *y, size_t ldy, const uint8_t *w, size_t stride, size_t n, const fe_act_panel *x,
                       size_t tokens, size_t k, size_t bytes, quants_fn quants, scales_16_fn scales, int offset,
                       size_t ahead) {
    const __m512i pairs = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    size_t ldx = fe_act_panels(k);
    for (size_t r = 0; r < n; r++, w += stride) {
        sums sum[DIRECT];
        __m512 scale[DIRECT][FE_PARTS];
        clear_sums(sum, tokens);
        for (size_t p = 0; p < ldx; p++) {
            const uint8_t *b = w + p * bytes;
            prefetch(b, ahead, bytes);
            scales_16 s = scales(b);
            __m512 by = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(s.scale)), _mm512_set1_ps(s.d));
            __m256 off[2];
            taken_off(off, &s, offset);
            FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                const fe_act_panel *v = x + t * ldx + p;
                FE_UNROLL for (size_t i = 0; i < FE_PARTS; i++) {
                    __m512 d = _mm512_castps256_ps512(_mm256_load_ps(v->d[i]));
                    scale[t][i] = _mm512_mul_ps(by, _mm512_permutexvar_ps(pairs, d));
                }
                FE_UNROLL for (size_t i = 0; i < 2; i++) sum[t].add =
                    _mm256_fnmadd_ps(off[i], _mm256_load_ps(v->s16 + i * 8), sum[t].add);
            }
            FE_UNROLL for (size_t c = 0; c < 4; c++) {
                __m512i u = quants(b, c, 8);
                FE_UNROLL for (size_t t = 0; t < tokens; t++)
                    gemv_chunk(sum + t, u, x + t * ldx + p, c, scale[t], 16, false);
            }
        }
        store_totals(y + r, ldy, sum, tokens);
    }
}

/* ---- GEMM: the inner kernels, acc[token][row] += panel · tile for `tokens` tokens --------------------------------- */

FE_INLINE __m512i broadcast_4(const void *q) { return _mm512_set1_epi32((int)load_u32(q)); }

FE_INLINE void load_sums(__m512 f[TOKENS][2], const float *acc, const act_part *x, size_t tokens) {
    FE_UNROLL for (size_t t = 0; t < tokens; t++) {
        f[t][0] = _mm512_load_ps(acc + x->at[t]);
        f[t][1] = _mm512_load_ps(acc + x->at[t] + 16);
    }
}
FE_INLINE void store_sums(float *acc, const act_part *x, __m512 f[TOKENS][2], size_t tokens) {
    FE_UNROLL for (size_t t = 0; t < tokens; t++) {
        _mm512_store_ps(acc + x->at[t], f[t][0]);
        _mm512_store_ps(acc + x->at[t] + 16, f[t][1]);
    }
}

/* sum += quants · activations for steps first … last-1 of group g. */
FE_INLINE void multiply(__m512i sum[TOKENS][2], const uint8_t q[8][ROWS][4], const act_part *x, size_t first,
                        size_t last, size_t tokens) {
    FE_UNROLL for (size_t s = first; s < last; s++) {
        __m512i u0 = _mm512_load_si512(q[s][0]), u1 = _mm512_load_si512(q[s][16]);
        FE_UNROLL for (size_t t = 0; t < tokens; t++) {
            __m512i v = broadcast_4(x->q[t] + s * 4);
            sum[t][0] = _mm512_dpbusd_epi32(sum[t][0], u0, v);
            sum[t][1] = _mm512_dpbusd_epi32(sum[t][1], u1, v);
        }
    }
}

/* The sums of a tile's tokens stay in registers for its first parts; second parts have tokens of their own each. */
FE_INLINE const act_part *run_end(const act_part *x, const act_part *end, const act_sums *tile) {
    return tile ? end : x + 1;
}

/* One scale per 32. The integer sums start at the sums of the activations' two sixteens times the words of `start`. */
FE_INLINE void inner_32(float *acc, const panel_32 *w, const act_part *x, const act_part *end, const act_sums *tile,
                        size_t tokens, int offset, bool has_add) {
    const __m512i start = _mm512_set1_epi16((short)-offset);
    while (x < end) {
        __m512 f[TOKENS][2];
        const act_part *first = x, *last = run_end(x, end, tile);
        load_sums(f, acc, first, tokens);
        for (; x < last; x++) {
            size_t g = x->group;
            __m512i sum[TOKENS][2];
            FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                sum[t][0] = _mm512_setzero_si512();
                if (!has_add) sum[t][0] = _mm512_dpwssd_epi32(sum[t][0], start, broadcast_4(x->s16[t]));
                sum[t][1] = sum[t][0];
            }
            multiply(sum, w->q[g], x, 0, 8, tokens);
            __m512 low = _mm512_load_ps(w->scale[g]), high = _mm512_load_ps(w->scale[g] + 16);
            FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                __m512 d = _mm512_set1_ps(x->d[t]);
                f[t][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t][0]), _mm512_mul_ps(low, d), f[t][0]);
                f[t][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t][1]), _mm512_mul_ps(high, d), f[t][1]);
            }
            if (!has_add || !tile) continue;
            low = _mm512_load_ps(w->add[g]), high = _mm512_load_ps(w->add[g] + 16);
            FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                __m512 ds = _mm512_set1_ps(tile->ds[g][t]);
                f[t][0] = _mm512_fmadd_ps(low, ds, f[t][0]);
                f[t][1] = _mm512_fmadd_ps(high, ds, f[t][1]);
            }
        }
        store_sums(acc, first, f, tokens);
    }
}

/* One scale per 16. */
FE_INLINE void inner_16(float *acc, const panel_16 *w, const act_part *x, const act_part *end, const act_sums *tile,
                        size_t tokens, int offset, bool has_min) {
    while (x < end) {
        __m512 f[TOKENS][2];
        const act_part *first = x, *last = run_end(x, end, tile);
        load_sums(f, acc, first, tokens);
        for (; x < last; x++) {
            size_t g = x->group;
            FE_UNROLL for (size_t h = 0; h < 2; h++) {
                const __m512i start = _mm512_set1_epi32(h ? (int)((unsigned)-offset << 16) : -offset & 0xFFFF);
                __m512i sum[TOKENS][2];
                FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                    sum[t][0] = _mm512_setzero_si512();
                    if (!has_min) sum[t][0] = _mm512_dpwssd_epi32(sum[t][0], start, broadcast_4(x->s16[t]));
                    sum[t][1] = sum[t][0];
                }
                multiply(sum, w->q[g], x, h * 4, h * 4 + 4, tokens);
                FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                    __m512 d = _mm512_set1_ps(x->d[t]);
                    FE_UNROLL for (size_t v = 0; v < 2; v++) {
                        __m512 by = _mm512_mul_ps(_mm512_load_ps(w->scale[g * 2 + h] + v * 16), d);
                        f[t][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t][v]), by, f[t][v]);
                    }
                }
            }
            if (!has_min) continue;
            FE_UNROLL for (size_t t = 0; t < tokens; t++) {
                __m512i s16 = broadcast_4(x->s16[t]);
                FE_UNROLL for (size_t v = 0; v < 2; v++) {
                    __m512i m = _mm512_madd_epi16(_mm512_load_si512(w->min[g][v * 16]), s16);
                    __m512 by = _mm512_mul_ps(_mm512_load_ps(w->dmin + v * 16), _mm512_set1_ps(x->d[t]));
                    f[t][v] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(m), by, f[t][v]);
                }
            }
        }
        store_sums(acc, first, f, tokens);
    }
}

#define FEWER_TOKENS(call)  \
    case 1: call(1); break; \
    case 2: call(2); break; \
    case 3: call(3); break; \
    case 4: call(4); break; \
    case 5:                 \
        call(5);            \
        break;
#define CALL_ADD(tokens) inner_32(acc, w, x, end, tile, tokens, 0, true)
#define CALL_8(tokens)   inner_32(acc, w, x, end, tile, tokens, 8, false)
#define CALL_16(tokens)  inner_32(acc, w, x, end, tile, tokens, 16, false)
#define CALL_128(tokens) inner_32(acc, w, x, end, tile, tokens, 128, false)
#define CALL_Q2(tokens)  inner_16(acc, w, x, end, tile, tokens, 0, true)
#define CALL_Q3(tokens)  inner_16(acc, w, x, end, tile, tokens, 4, false)
#define CALL_Q6(tokens)  inner_16(acc, w, x, end, tile, tokens, 32, false)
INNER(inner_add, CALL_ADD)
INNER(inner_q4_0, CALL_8)
INNER(inner_q5_0, CALL_16)
INNER(inner_q8_0, CALL_128)
INNER(inner_q2_k, CALL_Q2)
INNER(inner_q3_k, CALL_Q3)
INNER(inner_q6_k, CALL_Q6)

/* ---- GEMM: units of 32 rows --------------------------------------------------------------------------------------- */

static size_t gemm_scratch(size_t m, size_t k) {
    (void)k;
    return sizeof(panel_16) + m * ROWS * sizeof(float);
}

/* c[i·ldc + r] for the first n of 32 rows. */
static void store_unit(float *c, size_t ldc, const float *acc, size_t m, size_t n) {
    __mmask32 mask = n < ROWS ? (1u << n) - 1 : ~0u;
    for (size_t i = 0; i < m; i++, c += ldc, acc += ROWS) {
        _mm512_mask_storeu_ps(c, (__mmask16)mask, _mm512_load_ps(acc));
        _mm512_mask_storeu_ps(c + 16, (__mmask16)(mask >> 16), _mm512_load_ps(acc + 16));
    }
}

#include "kernels/cpu/x86/gemm_template.h"

#define SCALE_32(type, bytes, has_add, is_signed, inner)                  \
    GEMV(type, 32, bytes, wide_##type, scales_##type, has_add, is_signed) \
    GEMM_32(type, bytes, inner)
#define SCALE_16(type, bytes, offset, ahead, inner)                  \
    GEMV(type, 16, bytes, wide_##type, scales_##type, offset, ahead) \
    GEMM_16(type, bytes, inner)

SCALE_32(q4_0, 8 * sizeof(fe_block_q4_0), true, false, inner_q4_0)
SCALE_32(q4_1, 8 * sizeof(fe_block_q4_1), true, false, inner_add)
SCALE_32(q5_0, 8 * sizeof(fe_block_q5_0), true, false, inner_q5_0)
SCALE_32(q5_1, 8 * sizeof(fe_block_q5_1), true, false, inner_add)
SCALE_32(q8_0, 8 * sizeof(fe_block_q8_0), false, true, inner_q8_0)
SCALE_32(q4_k, sizeof(fe_block_q4_k), true, false, inner_add)
SCALE_32(q5_k, sizeof(fe_block_q5_k), true, false, inner_add)
SCALE_16(q2_k, sizeof(fe_block_q2_k), 0, GEMV_AHEAD, inner_q2_k)
SCALE_16(q3_k, sizeof(fe_block_q3_k), 4, GEMV_AHEAD, inner_q3_k)
SCALE_16(q6_k, sizeof(fe_block_q6_k), 32, 1536, inner_q6_k)

/* ---- Float weights ------------------------------------------------------------------------------------------------ */

FE_INLINE vf load_f32(const uint8_t *w) { return _mm512_castsi512_ps(_mm512_loadu_si512(w)); }
FE_INLINE vf load_f16(const uint8_t *w) { return _mm512_cvtph_ps(load_256(w)); }
FE_INLINE vf load_bf16(const uint8_t *w) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_256(w)), 16));
}

enum { FLOAT_TOKENS = 6 };
#include "kernels/cpu/matmul_float_template.h"

FE_MULTIPLY(fe_multiply_avx512, 12, __m512i, _mm512_setzero_si512(), __m512i, _mm512_set1_epi8(1),
            _mm512_dpbusd_epi32(sum[j], u, v), 64 * 2)

/* ---- Table -------------------------------------------------------------------------------------------------------- */

#define ROW(type, name)                                                                           \
    rows[type] = (fe_matmul_kernel){#name " avx512", act_bytes,    pack, pack_group, gemv_##name, \
                                    gemm_##name,     gemm_scratch, ROWS, 0};

void fe_matmul_init_avx512(fe_matmul_kernel rows[FE_TYPES]) {
    rows[FERRUM_F32] = (fe_matmul_kernel)FLOAT_ROW(f32, "avx512");
    rows[FERRUM_F16] = (fe_matmul_kernel)FLOAT_ROW(f16, "avx512");
    rows[FERRUM_BF16] = (fe_matmul_kernel)FLOAT_ROW(bf16, "avx512");
    FE_EACH_QUANTISED(ROW)
}
