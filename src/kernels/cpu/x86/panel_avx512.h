/* Panels of ROWS rows (a multiple of 16) and 256 columns, unpacked with rows in lanes by AVX-512: quants as unsigned bytes, and
 * what they are scaled by. Included behind simd_avx512.h, where ROWS is defined. */
#ifndef FE_PANEL_AVX512_H
#define FE_PANEL_AVX512_H

#include "kernels/cpu/x86/unpack.h"

typedef struct panel_32 {
    uint8_t q[8][8][ROWS][4]; /* [group][step of 4 k][row][k] */
    float scale[8][ROWS], add[8][ROWS];
} panel_32;

typedef struct panel_16 {
    uint8_t q[8][8][ROWS][4];
    float scale[16][ROWS];
    int16_t min[8][ROWS][2]; /* [group][row][sixteen] */
    float dmin[ROWS];
} panel_16;

typedef __m512i vi;
FE_INLINE vi vi_set_bytes(int x) { return _mm512_set1_epi8((char)x); }
FE_INLINE vi vi_set_dwords(int x) { return _mm512_set1_epi32(x); }
FE_INLINE vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
FE_INLINE vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
FE_INLINE vi vi_or_and(vi a, vi b, vi c) { return _mm512_ternarylogic_epi32(a, b, c, 0xF8); } /* a | (b & c) */
FE_INLINE vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
FE_INLINE vi vi_sll(vi x, int n) { return _mm512_slli_epi32(x, (unsigned)n); }
FE_INLINE vi vi_srl(vi x, int n) { return _mm512_srli_epi32(x, (unsigned)n); }
FE_INLINE vi vi_sra(vi x, int n) { return _mm512_srai_epi32(x, (unsigned)n); }
FE_INLINE vf vi_to_float(vi x) { return _mm512_cvtepi32_ps(x); }
FE_INLINE vi vi_low_dwords(vi a, vi b) { return _mm512_unpacklo_epi32(a, b); }
FE_INLINE vi vi_high_dwords(vi a, vi b) { return _mm512_unpackhi_epi32(a, b); }
FE_INLINE vi vi_low_qwords(vi a, vi b) { return _mm512_unpacklo_epi64(a, b); }
FE_INLINE vi vi_high_qwords(vi a, vi b) { return _mm512_unpackhi_epi64(a, b); }
FE_INLINE void vi_store(void *p, vi x) { _mm512_store_si512(p, x); }
FE_INLINE vf low_half(vi x) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)); }
FE_INLINE vf high_half(vi x) { return low_half(vi_srl(x, 16)); }
FE_INLINE vi from_signed(vi x) { return _mm512_xor_si512(x, vi_set_bytes(0x80)); }

/* x + 16 in byte i of each dword where bit 4·s + i of high's is set. */
FE_INLINE vi add_fifths(vi x, vi high, int s) {
    vi spread = _mm512_broadcast_i32x4(
        _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12), _mm_set1_epi8((char)(s / 2))));
    vi bit = vi_set_dwords((int)(s % 2 ? 0x80402010 : 0x08040201));
    return _mm512_mask_add_epi8(x, _mm512_test_epi8_mask(_mm512_shuffle_epi8(high, spread), bit), x, vi_set_bytes(16));
}

/* 16 bytes of rows i, i + 4, i + 8 and i + 12, for i = 0 … 3. */
FE_INLINE void load_rows(vi a[4], const source *from, size_t at) {
    prefetch_ahead(from, 4);
    FE_UNROLL for (size_t i = 0; i < 4; i++) {
        __m256i low = _mm256_castsi128_si256(load_128(from->rows[i] + at)),
                high = _mm256_castsi128_si256(load_128(from->rows[i + 8] + at));
        low = _mm256_inserti128_si256(low, load_128(from->rows[i + 4] + at), 1);
        high = _mm256_inserti128_si256(high, load_128(from->rows[i + 12] + at), 1);
        a[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
}

FE_INLINE void put_super(const unpack_16 *u, vf d, vf dmin) {
    (void)d; /* goes into the scales */
    vf_store(u->panel->dmin + u->first, dmin);
}
FE_INLINE void put_scales(const unpack_16 *u, size_t g, vi a, vi b, vf d) {
    vf_store(u->panel->scale[g * 2] + u->first, vf_mul(vi_to_float(a), d));
    vf_store(u->panel->scale[g * 2 + 1] + u->first, vf_mul(vi_to_float(b), d));
}
FE_INLINE void put_mins(const unpack_16 *u, size_t g, vi a, vi b) {
    vi_store(u->panel->min[g][u->first], vi_or(a, vi_sll(b, 16)));
}
FE_INLINE void put_offset(const unpack_16 *u, size_t g, vi a, vi b, int offset) {
    (void)u, (void)g, (void)a, (void)b, (void)offset; /* the inner kernels know it */
}

enum { LANES = 16 };
#include "kernels/cpu/x86/panel_template.h"

#endif
