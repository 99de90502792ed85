/* Panels of 16 rows and 256 columns, unpacked with rows in lanes by AVX2, and what the kernels do with the sums. Included
 * behind simd_avx2.h, where ROWS and TOKENS are defined. */
#ifndef FE_PANEL_AVX2_H
#define FE_PANEL_AVX2_H

#include "kernels/cpu/x86/tile.h"

typedef struct panel_32 {
    uint8_t q[8][8][ROWS][4]; /* [group][step of 4 k][row][k] */
    float scale[8][ROWS], add[8][ROWS];
} panel_32;

typedef struct panel_16 {
    uint8_t q[8][8][ROWS][4];
    int16_t scale[8][2][ROWS][2]; /* [group][sixteen][row], twice */
    int16_t pair[8][ROWS][2];     /* both sixteens' -offset · scale, or min */
    float d[ROWS], dmin[ROWS];
} panel_16;

typedef __m256i vi;
FE_INLINE vi vi_set_bytes(int x) { return _mm256_set1_epi8((char)x); }
FE_INLINE vi vi_set_dwords(int x) { return _mm256_set1_epi32(x); }
FE_INLINE vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
FE_INLINE vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
FE_INLINE vi vi_or_and(vi a, vi b, vi c) { return vi_or(a, vi_and(b, c)); }
FE_INLINE vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
FE_INLINE vi vi_sll(vi x, int n) { return _mm256_slli_epi32(x, n); }
FE_INLINE vi vi_srl(vi x, int n) { return _mm256_srli_epi32(x, n); }
FE_INLINE vi vi_sra(vi x, int n) { return _mm256_srai_epi32(x, n); }
FE_INLINE vf vi_to_float(vi x) { return _mm256_cvtepi32_ps(x); }
FE_INLINE vi vi_low_dwords(vi a, vi b) { return _mm256_unpacklo_epi32(a, b); }
FE_INLINE vi vi_high_dwords(vi a, vi b) { return _mm256_unpackhi_epi32(a, b); }
FE_INLINE vi vi_low_qwords(vi a, vi b) { return _mm256_unpacklo_epi64(a, b); }
FE_INLINE vi vi_high_qwords(vi a, vi b) { return _mm256_unpackhi_epi64(a, b); }
FE_INLINE void vi_store(void *p, vi x) { _mm256_store_si256(p, x); }
/* Halves above 16 zero bits each: packing leaves them in pairs of four. */
FE_INLINE vf halves_of(vi x) {
    __m128i h = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return _mm256_cvtph_ps(h);
}
FE_INLINE vf low_half(vi x) { return halves_of(vi_and(x, vi_set_dwords(0xFFFF))); }
FE_INLINE vf high_half(vi x) { return halves_of(vi_srl(x, 16)); }
FE_INLINE vi from_signed(vi x) { return x; }

/* x + 16 in byte i of each dword where bit 4·s + i of high's is set. */
FE_INLINE vi add_fifths(vi x, vi high, int s) {
    vi spread = _mm256_broadcastsi128_si256(
        _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12), _mm_set1_epi8((char)(s / 2))));
    vi bit = vi_set_dwords((int)(s % 2 ? 0x80402010 : 0x08040201));
    vi is_set = _mm256_cmpeq_epi8(vi_and(_mm256_shuffle_epi8(high, spread), bit), bit);
    return vi_or_and(x, is_set, vi_set_bytes(16));
}

/* 16 bytes of rows i and i + 4, for i = 0 … 3. */
FE_INLINE void load_rows(vi a[4], const source *from, size_t at) {
    prefetch_ahead(from, 2);
    FE_UNROLL for (size_t i = 0; i < 4; i++) {
        vi low = _mm256_castsi128_si256(load_128(from->rows[i] + at));
        a[i] = _mm256_inserti128_si256(low, load_128(from->rows[i + 4] + at), 1);
    }
}

FE_INLINE void put_super(const unpack_16 *u, vf d, vf dmin) {
    vf_store(u->panel->d + u->first, d);
    vf_store(u->panel->dmin + u->first, dmin);
}
/* Two 16-bit integers in each dword. */
FE_INLINE vi both(vi low, vi high) { return _mm256_blend_epi16(low, vi_sll(high, 16), 0xAA); }
FE_INLINE void put_scales(const unpack_16 *u, size_t g, vi a, vi b, vf d) {
    (void)d; /* is multiplied in later */
    vi_store(u->panel->scale[g][0][u->first], both(a, a));
    vi_store(u->panel->scale[g][1][u->first], both(b, b));
}
FE_INLINE void put_mins(const unpack_16 *u, size_t g, vi a, vi b) { vi_store(u->panel->pair[g][u->first], both(a, b)); }
FE_INLINE void put_offset(const unpack_16 *u, size_t g, vi a, vi b, int offset) {
    vi_store(u->panel->pair[g][u->first], _mm256_mullo_epi16(both(a, b), _mm256_set1_epi16((short)-offset)));
}

enum { LANES = 8 };
#include "kernels/cpu/x86/panel_template.h"

/* ---- Sums: acc[token][row] ---------------------------------------------------------------------------------------- */

FE_INLINE __m256i broadcast_4(const int8_t *q) { return _mm256_set1_epi32((int)load_u32(q)); }

/* Adds scale · d · product to token t's sums. */
FE_INLINE void accumulate_32(float *acc, __m256 low, __m256 high, const act_part *x, size_t t, __m256i product[2]) {
    float *to = acc + x->at[t];
    __m256 d = _mm256_broadcast_ss(x->d + t);
    __m256 f = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product[0]), _mm256_mul_ps(low, d), _mm256_load_ps(to));
    _mm256_store_ps(to, f);
    f = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product[1]), _mm256_mul_ps(high, d), _mm256_load_ps(to + 8));
    _mm256_store_ps(to + 8, f);
}

/* Adds add · ds for all groups of a tile, whose first parts stand at x. */
FE_INLINE void accumulate_sums(float *acc, const panel_32 *w, const act_part *x, size_t groups, const act_sums *tile,
                               size_t tokens) {
    __m256 f[TOKENS][2];
    FE_UNROLL for (size_t t = 0; t < tokens; t++) {
        f[t][0] = _mm256_load_ps(acc + x->at[t]);
        f[t][1] = _mm256_load_ps(acc + x->at[t] + 8);
    }
    for (size_t g = 0; g < groups; g++) {
        __m256 low = _mm256_load_ps(w->add[g]), high = _mm256_load_ps(w->add[g] + 8);
        FE_UNROLL for (size_t t = 0; t < tokens; t++) {
            __m256 ds = _mm256_broadcast_ss(tile->ds[g] + t);
            f[t][0] = _mm256_fmadd_ps(low, ds, f[t][0]);
            f[t][1] = _mm256_fmadd_ps(high, ds, f[t][1]);
        }
    }
    FE_UNROLL for (size_t t = 0; t < tokens; t++) {
        _mm256_store_ps(acc + x->at[t], f[t][0]);
        _mm256_store_ps(acc + x->at[t] + 8, f[t][1]);
    }
}

#define FEWER_TOKENS(call)  \
    case 1: call(1); break; \
    case 2: call(2); break; \
    case 3: call(3); break;

/* c[i·ldc + r] for the first n of 16 rows. */
FE_INLINE void store_unit(float *c, size_t ldc, const float *acc, size_t m, size_t n) {
    for (size_t i = 0; i < m; i++, c += ldc, acc += ROWS) {
        if (n == ROWS) {
            _mm256_storeu_ps(c, _mm256_load_ps(acc));
            _mm256_storeu_ps(c + 8, _mm256_load_ps(acc + 8));
        } else
            memcpy(c, acc, n * sizeof *c);
    }
}

#endif
