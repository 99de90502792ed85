/* How the x86 kernels read blocks: the quants of 32 elements as unsigned bytes in their order (quants_*), and the scales of
 * a panel of 256 elements (scales_*). AVX2 and F16C; included by the files of every instruction set from AVX2 on.
 * `w` is the panel's first byte, at any alignment: a super-block, or up to 8 blocks of 32 (`groups` of them). `g` is the
 * group of 32 within it. Layouts: quant/quant.h, and the reference in src/quant. */
#ifndef FE_UNPACK_H
#define FE_UNPACK_H

#include "kernels/cpu/act.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"

#include <immintrin.h>

/* Keeps a vector in a register as it is: GCC would reorder sums of many vectors, and load operands again and again. */
#define FE_KEEP(v) __asm__("" : "+v"(v))
/* Has a vector worked out though nothing reads it. */
#define FE_USE(v) __asm__ volatile("" : : "v"(v))

FE_INLINE __m128i load_128(const void *p) { return _mm_loadu_si128(p); }
FE_INLINE __m256i load_256(const void *p) { return _mm256_loadu_si256(p); }
FE_INLINE float load_half(const uint8_t *p) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(p)))); }

/* The lines from p on that hold `bytes` bytes; p may lie anywhere, even outside of the weights. */
FE_INLINE void prefetch(const uint8_t *p, size_t ahead, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)((uintptr_t)p + ahead + i), _MM_HINT_T0);
}

/* Rows to unpack, and where the next unit's bytes are prefetched while that is done. */
typedef struct source {
    const uint8_t *const *rows;
    uintptr_t *ahead;
} source;

FE_INLINE void prefetch_ahead(const source *from, size_t lines) {
    FE_UNROLL for (size_t i = 0; i < lines; i++) _mm_prefetch((const char *)(*from->ahead + i * 64), _MM_HINT_T1);
    *from->ahead += lines * 64;
}

/* The panel that is being filled, of which each instruction set has its own: rows first … first + LANES - 1 of it. */
struct panel_32;
struct panel_16;
typedef struct unpack_32 {
    struct panel_32 *panel;
    size_t first;
    source from;
} unpack_32;

typedef struct unpack_16 {
    struct panel_16 *panel;
    size_t first;
    source from;
} unpack_16;

/* ---- Quants ------------------------------------------------------------------------------------------------------- */

/* Shifts within bytes: what crosses into the neighbour is masked off by the caller. */
FE_INLINE __m256i shift(__m256i x, int left) {
    return left >= 0 ? _mm256_slli_epi16(x, left) : _mm256_srli_epi16(x, -left);
}
FE_INLINE __m256i bits(__m256i x, int left, int mask) {
    return _mm256_and_si256(left ? shift(x, left) : x, _mm256_set1_epi8((char)mask));
}

/* 16 bytes: their low nibbles, then their high ones. */
FE_INLINE __m256i nibbles(const uint8_t *qs) {
    __m128i x = load_128(qs);
    return bits(_mm256_inserti128_si256(_mm256_castsi128_si256(x), _mm_srli_epi16(x, 4), 1), 0, 15);
}

/* 32 bits, to 16 in byte i where bit i is set. */
FE_INLINE __m256i fifth_bits(const uint8_t *qh) {
    __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3,
                                      3, 3, 3, 3, 3);
    __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i x = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)load_u32(qh)), spread), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(x, bit), _mm256_set1_epi8(16));
}

FE_INLINE __m256i quants_q4_0(const uint8_t *w, size_t g) { return nibbles(w + g * 18 + 2); }
FE_INLINE __m256i quants_q4_1(const uint8_t *w, size_t g) { return nibbles(w + g * 20 + 4); }
FE_INLINE __m256i quants_q5_0(const uint8_t *w, size_t g) {
    return _mm256_or_si256(nibbles(w + g * 22 + 6), fifth_bits(w + g * 22 + 2));
}
FE_INLINE __m256i quants_q5_1(const uint8_t *w, size_t g) {
    return _mm256_or_si256(nibbles(w + g * 24 + 8), fifth_bits(w + g * 24 + 4));
}
FE_INLINE __m256i quants_q8_0(const uint8_t *w, size_t g) { return load_256(w + g * 34 + 2); } /* signed */

FE_INLINE __m256i quants_q4_k(const uint8_t *w, size_t g) {
    return bits(load_256(w + 16 + g / 2 * 32), g % 2 ? -4 : 0, 15);
}
FE_INLINE __m256i quants_q5_k(const uint8_t *w, size_t g) {
    __m256i low = bits(load_256(w + 48 + g / 2 * 32), g % 2 ? -4 : 0, 15);
    return _mm256_or_si256(low, bits(load_256(w + 16), 4 - (int)g, 16));
}
FE_INLINE __m256i quants_q6_k(const uint8_t *w, size_t g) {
    __m256i low = bits(load_256(w + g / 4 * 64 + g % 2 * 32), g % 4 / 2 ? -4 : 0, 15);
    return _mm256_or_si256(low, bits(load_256(w + 128 + g / 4 * 32), 4 - (int)(g % 4) * 2, 48));
}
FE_INLINE __m256i quants_q3_k(const uint8_t *w, size_t g) {
    __m256i low = bits(load_256(w + 32 + g / 4 * 32), -(int)(g % 4) * 2, 3);
    return _mm256_or_si256(low, bits(load_256(w), 2 - (int)g, 4));
}
FE_INLINE __m256i quants_q2_k(const uint8_t *w, size_t g) {
    return bits(load_256(w + 16 + g / 4 * 32), -(int)(g % 4) * 2, 3);
}

/* ---- Scales of types with one per 32: w = scale · q + add --------------------------------------------------------- */

typedef struct scales_32 {
    __m256 scale, add;
} scales_32;

typedef scales_32 (*scales_32_fn)(const uint8_t *w, size_t groups);

/* The fp16 scales of blocks of `bytes` bytes; add = scale · offset. */
FE_INLINE scales_32 scales_d(const uint8_t *w, size_t bytes, size_t groups, float offset) {
    __m128i h = _mm_cvtsi32_si128(load_u16(w));
    h = _mm_insert_epi16(h, load_u16(block_at(w, bytes, 1, groups)), 1);
    h = _mm_insert_epi16(h, load_u16(block_at(w, bytes, 2, groups)), 2);
    h = _mm_insert_epi16(h, load_u16(block_at(w, bytes, 3, groups)), 3);
    h = _mm_insert_epi16(h, load_u16(block_at(w, bytes, 4, groups)), 4);
    h = _mm_insert_epi16(h, load_u16(block_at(w, bytes, 5, groups)), 5);
    h = _mm_insert_epi16(h, load_u16(block_at(w, bytes, 6, groups)), 6);
    h = _mm_insert_epi16(h, load_u16(block_at(w, bytes, 7, groups)), 7);
    __m256 d = _mm256_cvtph_ps(h);
    return (scales_32){d, _mm256_mul_ps(d, _mm256_set1_ps(offset))};
}

/* The fp16 scales and minimums. */
FE_INLINE scales_32 scales_dm(const uint8_t *w, size_t bytes, size_t groups) {
    __m128i a = _mm_cvtsi32_si128((int)load_u32(w));
    a = _mm_insert_epi32(a, (int)load_u32(block_at(w, bytes, 1, groups)), 1);
    a = _mm_insert_epi32(a, (int)load_u32(block_at(w, bytes, 2, groups)), 2);
    a = _mm_insert_epi32(a, (int)load_u32(block_at(w, bytes, 3, groups)), 3);
    __m128i b = _mm_cvtsi32_si128((int)load_u32(block_at(w, bytes, 4, groups)));
    b = _mm_insert_epi32(b, (int)load_u32(block_at(w, bytes, 5, groups)), 1);
    b = _mm_insert_epi32(b, (int)load_u32(block_at(w, bytes, 6, groups)), 2);
    b = _mm_insert_epi32(b, (int)load_u32(block_at(w, bytes, 7, groups)), 3);
    __m128i low = _mm_set1_epi32(0xFFFF);
    __m128i d = _mm_packus_epi32(_mm_and_si128(a, low), _mm_and_si128(b, low));
    __m128i m = _mm_packus_epi32(_mm_srli_epi32(a, 16), _mm_srli_epi32(b, 16));
    return (scales_32){_mm256_cvtph_ps(d), _mm256_cvtph_ps(m)};
}

/* Q4_K's and Q5_K's. */
FE_INLINE scales_32 scales_6_bit(const uint8_t *w) {
    bytes_6_bit b = spread_6_bit(w);
    __m128 d = _mm_cvtph_ps(_mm_cvtsi32_si128((int)load_u32(w)));
    __m256 scale = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)b.scale)));
    __m256 min = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)b.min)));
    __m256 minus_dmin = _mm256_xor_ps(_mm256_broadcastss_ps(_mm_movehdup_ps(d)), _mm256_set1_ps(-0.0f));
    return (scales_32){_mm256_mul_ps(scale, _mm256_broadcastss_ps(d)), _mm256_mul_ps(min, minus_dmin)};
}

FE_INLINE scales_32 scales_q4_0(const uint8_t *w, size_t groups) { return scales_d(w, 18, groups, -8); }
FE_INLINE scales_32 scales_q4_1(const uint8_t *w, size_t groups) { return scales_dm(w, 20, groups); }
FE_INLINE scales_32 scales_q5_0(const uint8_t *w, size_t groups) { return scales_d(w, 22, groups, -16); }
FE_INLINE scales_32 scales_q5_1(const uint8_t *w, size_t groups) { return scales_dm(w, 24, groups); }
FE_INLINE scales_32 scales_q8_0(const uint8_t *w, size_t groups) { return scales_d(w, 34, groups, 0); }
FE_INLINE scales_32 scales_q4_k(const uint8_t *w, size_t groups) {
    (void)groups;
    return scales_6_bit(w);
}
FE_INLINE scales_32 scales_q5_k(const uint8_t *w, size_t groups) {
    (void)groups;
    return scales_6_bit(w);
}

/* ---- Scales of types with one per 16: w = d · scale · (q - offset) - dmin · min ----------------------------------- */

typedef struct scales_16 {
    __m128i scale, min; /* 16 signed bytes */
    float d, dmin;
} scales_16;

typedef scales_16 (*scales_16_fn)(const uint8_t *w);

/* What is taken off for each of 16 activation sums: d · scale · offset, or, where there is no constant offset, dmin · min. */
FE_INLINE void taken_off(__m256 off[2], const scales_16 *s, int offset) {
    __m128i by = offset ? s->scale : s->min;
    __m256 d = _mm256_set1_ps(offset ? s->d * (float)offset : s->dmin);
    off[0] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(by)), d);
    off[1] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(by, 8))), d);
}

FE_INLINE scales_16 scales_q6_k(const uint8_t *w) {
    return (scales_16){load_128(w + 192), _mm_setzero_si128(), load_half(w + 208), 0};
}

FE_INLINE scales_16 scales_q3_k(const uint8_t *w) {
    uint64_t b[2];
    spread_q3_k(b, w);
    __m128i scale = _mm_sub_epi8(_mm_set_epi64x((long long)b[1], (long long)b[0]), _mm_set1_epi8(32));
    return (scales_16){scale, _mm_setzero_si128(), load_half(w + 108), 0};
}

FE_INLINE scales_16 scales_q2_k(const uint8_t *w) {
    __m128i x = load_128(w), four = _mm_set1_epi8(15);
    return (scales_16){_mm_and_si128(x, four), _mm_and_si128(_mm_srli_epi16(x, 4), four), load_half(w + 80),
                       load_half(w + 82)};
}

#endif
