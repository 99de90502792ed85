/* Packing of activations for the quantised kernels of x86 (kernels/cpu/act.h): panels of single rows for m <= DIRECT, tiles
 * of TOKENS tokens, which the including file defines, for larger m. */
#ifndef FE_PACK_H
#define FE_PACK_H

#include "kernels/cpu/x86/unpack.h"

/* Up to so many rows of activations are multiplied as GEMV does it, a row of weights at a time, and packed in panels. From
 * three on, unpacking for GEMM costs less than what it saves. */
enum { DIRECT = 2 };

/* A group of 32 for each of TOKENS tokens. Panel after panel of columns, tile after tile of tokens, group after group: a
 * kernel that multiplies a panel by all tokens reads on and on. */
typedef struct act_tile {
    int8_t q[TOKENS][32];
    float d[TOKENS], ds[TOKENS]; /* ds = d · Σ q */
    int16_t s16[TOKENS][2];      /* Σ q of each 16 */
} act_tile;

static size_t act_bytes(size_t m, size_t k) {
    if (m <= DIRECT) return m * fe_act_panels(k) * sizeof(fe_act_panel);
    return (m + TOKENS - 1) / TOKENS * (k / 32) * sizeof(act_tile);
}

FE_INLINE int sum_epi32(__m128i v) {
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xB1)));
}

/* 32 floats by act.h's rule: q[32], s16[2]; d is returned. */
FE_INLINE float quantize_group(int8_t *q, int16_t *s16, const float *x) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    __m256 v[4];
    __m256i i[4], max = _mm256_setzero_si256();
    FE_UNROLL for (int j = 0; j < 4; j++) {
        v[j] = _mm256_loadu_ps(x + 8 * j);
        max = _mm256_max_epu32(max, _mm256_and_si256(_mm256_castps_si256(v[j]), magnitude));
    }
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
    float r, d = fe_act_scale((uint32_t)_mm_cvtsi128_si32(m), &r);
    if (!(r > 0)) {
        memset(q, 0, 32);
        s16[0] = s16[1] = 0;
        return d;
    }
    FE_UNROLL for (int j = 0; j < 4; j++) i[j] = _mm256_cvtps_epi32(_mm256_mul_ps(v[j], _mm256_set1_ps(r)));
    __m256i low = _mm256_add_epi32(i[0], i[1]), high = _mm256_add_epi32(i[2], i[3]);
    s16[0] = (int16_t)sum_epi32(_mm_add_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
    s16[1] = (int16_t)sum_epi32(_mm_add_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
    __m256i b = _mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3]));
    b = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)q, b);
    return d;
}

static void pack_row(fe_act_panel *panels, const float *x, size_t k) {
    memset(panels + fe_act_panels(k) - 1, 0, sizeof *panels);
    for (size_t g = 0; g < k / 32; g++) {
        fe_act_panel *p = panels + g / 8;
        int16_t *s = p->s16 + g % 8 * 2;
        p->d[g % 8] = quantize_group(p->q + g % 8 * 32, s, x + g * 32);
        p->ds[g % 8] = p->d[g % 8] * (float)(s[0] + s[1]);
    }
}

static void pack(void *act, const float *x, size_t ldx, size_t m, size_t k, size_t first, size_t count) {
    if (m <= DIRECT) {
        for (size_t i = first; i < first + count; i++)
            pack_row((fe_act_panel *)act + i * fe_act_panels(k), x + i * ldx, k);
        return;
    }
    size_t tiles = (m + TOKENS - 1) / TOKENS;
    for (size_t i = first; i < first + count; i++) {
        for (size_t g = 0; g < k / 32; g++) {
            size_t p = g / FE_PANEL_GROUPS, t = i % TOKENS;
            act_tile *tile = (act_tile *)act + p * FE_PANEL_GROUPS * tiles + i / TOKENS * fe_panel_groups(k, p) +
                             g % FE_PANEL_GROUPS;
            tile->d[t] = quantize_group(tile->q[t], tile->s16[t], x + i * ldx + g * 32);
            tile->ds[t] = tile->d[t] * (float)(tile->s16[t][0] + tile->s16[t][1]);
        }
    }
}

#endif
