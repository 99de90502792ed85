/* How the x86 kernels read blocks: the quants of 32 elements as unsigned bytes in their order (quants_*). AVX2 and F16C; included
 * by the files of every instruction set from AVX2 on.
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
/* Takes memory for written. */
#define FE_WRITTEN(m) __asm__("" : "=m"(m))
/* Has a vector worked out though nothing reads it. */
#define FE_USE(v) __asm__ volatile("" : : "v"(v))

FE_INLINE __m128i load_128(const void *p) { return _mm_loadu_si128(p); }
FE_INLINE __m256i load_256(const void *p) { return _mm256_loadu_si256(p); }

/* Rows to unpack, and where the next unit's bytes are prefetched while that is done; NULL: they are not. */
typedef struct source {
    const uint8_t *const *rows;
    uintptr_t *ahead;
} source;

FE_INLINE void prefetch_ahead(const source *from, size_t lines) {
    if (!from->ahead) return;
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

#endif
