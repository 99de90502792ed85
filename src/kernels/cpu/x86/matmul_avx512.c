/* Matmul for AVX-512 with VNNI: F, BW, DQ, VL, VNNI.
 *
 * GEMV, and GEMM of two tokens: 16 rows at a time straight from the mapped blocks; 64 quants of a row are unpacked in registers
 * and multiplied by the activations with vpdpbusd, and the sums of a group come to lanes by row.
 *
 * GEMM: a unit of 32 rows. Panel by panel of 256 columns the blocks are unpacked into scratch with rows in lanes: a dword
 * holds 4 consecutive k of a row, 16 rows to a vector. The inner kernel takes 32 rows x 6 tokens, broadcasting 4 activations
 * of a token at a time. The sums of all tokens stay in scratch until the last panel.
 *
 * vpdpbusd takes unsigned quants; what a type subtracts from them is taken off the integer sums by starting these at
 * -offset · Σ q. */
#include "kernels/cpu/simd_avx512.h"

enum { ROWS = 32, TOKENS = 6 };
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
FE_INLINE __m512i wide_q8_0(const uint8_t *w, size_t c, size_t groups) { /* with 128 more */
    const uint8_t *b = block_at(w, 34, 2 * c + 1, groups);
    return from_signed(_mm512_inserti64x4(_mm512_castsi256_si512(load_256(w + c * 68 + 2)), load_256(b + 2), 1));
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

enum { CHUNK_GROUPS = 2 };
#include "kernels/cpu/x86/gemv_template.h"

/* Of four rows' dwords, the sum of each 16 bytes' four: row by row in the 16 bytes. */
FE_INLINE __m512i sum_fours(const __m512i v[4]) {
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* v[j] has the sums of four sixteens for rows 4·j …: they are put sixteen by sixteen, or by 32, a lane a row. */
FE_INLINE void to_lanes(__m512i *to, const __m512i v[4], bool by_16) {
    __m512i even[2], odd[2]; /* sixteens of two v each */
    FE_UNROLL for (size_t i = 0; i < 2; i++) {
        even[i] = _mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0x88);
        odd[i] = _mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0xDD);
        if (!by_16) even[i] = _mm512_add_epi32(even[i], odd[i]);
    }
    to[0] = _mm512_shuffle_i32x4(even[0], even[1], 0x88);
    to[by_16 ? 2 : 1] = _mm512_shuffle_i32x4(even[0], even[1], 0xDD);
    if (!by_16) return;
    to[1] = _mm512_shuffle_i32x4(odd[0], odd[1], 0x88);
    to[3] = _mm512_shuffle_i32x4(odd[0], odd[1], 0xDD);
}

/* Of four rows, with one part of chunk c. */
FE_INLINE __m512i multiply_4(const __m512i u[4], const int8_t *q, size_t c, int offset) {
    __m512i v = _mm512_load_si512(q + c * 64), start = _mm512_setzero_si512(), product[4];
    if (offset) start = _mm512_sub_epi32(start, _mm512_dpbusd_epi32(start, _mm512_set1_epi8((char)offset), v));
    FE_UNROLL for (size_t i = 0; i < 4; i++) product[i] = _mm512_dpbusd_epi32(start, u[i], v);
    return sum_fours(product);
}

FE_INLINE void multiply_chunk(gemv_sums sums[DIRECT], gemv_rows *rows, const fe_act_panel *x, size_t ldx, size_t tokens,
                              size_t c, size_t groups, gemv_type type) {
    __m512i v[DIRECT][FE_PARTS][4];
    FE_UNROLL for (size_t j = 0; j < 4; j++) {
        __m512i u[4];
        fetch_row(rows);
        FE_UNROLL for (size_t i = 0; i < 4; i++) u[i] = type.quants(rows->row[4 * j + i], c, groups);
        FE_UNROLL for (size_t t = 0; t < tokens; t++) {
            v[t][0][j] = multiply_4(u, x[t * ldx].q[0], c, type.offset);
            v[t][1][j] =
                x[t * ldx].rest >> 2 * c & 3 ? multiply_4(u, x[t * ldx].q[1], c, type.offset) : _mm512_setzero_si512();
        }
    }
    FE_UNROLL for (size_t t = 0; t < tokens; t++) {
        size_t at = c * (type.by_16 ? 4 : 2);
        to_lanes(sums[t].of[0] + at, v[t][0], type.by_16);
        if (x[t * ldx].rest >> 2 * c & 3) to_lanes(sums[t].of[1] + at, v[t][1], type.by_16);
    }
}

FE_INLINE vf add_part_32(vf f, const panel_32 *w, const gemv_sums *s, const fe_act_panel *x, size_t part, size_t g) {
    vf by = _mm512_mul_ps(_mm512_load_ps(w->scale[g]), _mm512_set1_ps(x->d[part][g]));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(s->of[part][g]), by, f);
}
FE_INLINE vf add_panel_32(vf f, const panel_32 *w, const gemv_sums *s, const fe_act_panel *x, size_t groups,
                          gemv_type type) {
    for (size_t g = 0; g < groups; g++) {
        f = add_part_32(f, w, s, x, 0, g);
        if (type.added) f = _mm512_fmadd_ps(_mm512_load_ps(w->add[g]), _mm512_set1_ps(x->ds[g]), f);
    }
    for (uint32_t rest = x->rest; rest; rest &= rest - 1) f = add_part_32(f, w, s, x, 1, (size_t)__builtin_ctz(rest));
    return f;
}

FE_INLINE vf add_part_16(vf f, const panel_16 *w, const gemv_sums *s, const fe_act_panel *x, size_t part, size_t g,
                         bool has_min) {
    vf d = _mm512_set1_ps(x->d[part][g]);
    FE_UNROLL for (size_t h = 2 * g; h < 2 * g + 2; h++) {
        vf by = _mm512_mul_ps(_mm512_load_ps(w->scale[h]), d);
        f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s->of[part][h]), by, f);
    }
    if (!has_min) return f;
    __m512i m = _mm512_madd_epi16(_mm512_load_si512(w->min[g]), _mm512_set1_epi32((int)load_u32(x->sums[part][g])));
    return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(m), _mm512_mul_ps(_mm512_load_ps(w->dmin), d), f);
}
FE_INLINE vf add_panel_16(vf f, const panel_16 *w, const gemv_sums *s, const fe_act_panel *x, gemv_type type) {
    for (size_t g = 0; g < 8; g++) f = add_part_16(f, w, s, x, 0, g, type.added);
    for (uint32_t rest = x->rest; rest; rest &= rest - 1)
        f = add_part_16(f, w, s, x, 1, (size_t)__builtin_ctz(rest), type.added);
    return f;
}

FE_INLINE void store_rows(float *y, vf f, size_t n) { _mm512_mask_storeu_ps(y, (__mmask16)((1u << n) - 1), f); }

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

#define SCALE_32(type, bytes, offset, added, super, inner)  \
    GEMV_32(type, bytes, wide_##type, offset, added, super) \
    GEMM_32(type, bytes, inner)
#define SCALE_16(type, bytes, offset, has_min, inner)  \
    GEMV_16(type, bytes, wide_##type, offset, has_min) \
    GEMM_16(type, bytes, inner)

SCALE_32(q4_0, 8 * sizeof(fe_block_q4_0), 8, false, false, inner_q4_0)
SCALE_32(q4_1, 8 * sizeof(fe_block_q4_1), 0, true, false, inner_add)
SCALE_32(q5_0, 8 * sizeof(fe_block_q5_0), 16, false, false, inner_q5_0)
SCALE_32(q5_1, 8 * sizeof(fe_block_q5_1), 0, true, false, inner_add)
SCALE_32(q8_0, 8 * sizeof(fe_block_q8_0), 128, false, false, inner_q8_0)
SCALE_32(q4_k, sizeof(fe_block_q4_k), 0, true, true, inner_add)
SCALE_32(q5_k, sizeof(fe_block_q5_k), 0, true, true, inner_add)
SCALE_16(q2_k, sizeof(fe_block_q2_k), 0, true, inner_q2_k)
SCALE_16(q3_k, sizeof(fe_block_q3_k), 4, false, inner_q3_k)
SCALE_16(q6_k, sizeof(fe_block_q6_k), 32, false, inner_q6_k)

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
