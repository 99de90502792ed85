/* Packing of activations for the quantised kernels of x86 (kernels/cpu/act.h): panels of single rows for m <= DIRECT, tiles
 * of TOKENS tokens, which the including file defines, for larger m. */
#ifndef FE_PACK_H
#define FE_PACK_H

#include "kernels/cpu/x86/tile.h"

static size_t act_bytes(size_t m, size_t k) {
    if (m <= DIRECT) return m * fe_act_panels(k) * sizeof(fe_act_panel);
    return FE_PARTS * ((m + TOKENS - 1) / TOKENS) * (k / 32) * sizeof(act_tile);
}

FE_INLINE int sum_epi32(__m128i v) {
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xB1)));
}

/* 32 floats by act.h's rule: q[32], s16[2], *d; what they add to the stretch's energy is returned. */
FE_INLINE float quantize_group(int8_t *q, int16_t *s16, float *d, const float *x) {
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
    float r;
    *d = fe_act_scale((uint32_t)_mm_cvtsi128_si32(m), &r);
    if (!(r > 0)) {
        memset(q, 0, 32);
        s16[0] = s16[1] = 0;
        return *d; /* 0, or not a number */
    }
    FE_UNROLL for (int j = 0; j < 4; j++) i[j] = _mm256_cvtps_epi32(_mm256_mul_ps(v[j], _mm256_set1_ps(r)));
    __m256i low = _mm256_add_epi32(i[0], i[1]), high = _mm256_add_epi32(i[2], i[3]);
    s16[0] = (int16_t)sum_epi32(_mm_add_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
    s16[1] = (int16_t)sum_epi32(_mm_add_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
    __m256i a = _mm256_packs_epi32(i[0], i[1]), b = _mm256_packs_epi32(i[2], i[3]);
    __m256i squares = _mm256_add_epi32(_mm256_madd_epi16(a, a), _mm256_madd_epi16(b, b));
    b = _mm256_packs_epi16(a, b);
    b = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)q, b);
    squares = _mm256_add_epi32(squares, _mm256_permute2x128_si256(squares, squares, 1));
    return fe_act_energy(*d, sum_epi32(_mm256_castsi256_si128(squares)));
}

/* What q leaves over of 32 floats. */
FE_INLINE void left_over(float rest[32], const float *x, const int8_t *q, float d) {
    FE_UNROLL for (size_t j = 0; j < 32; j += 8) {
        __m256 f = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(q + j))));
        _mm256_storeu_ps(rest + j, _mm256_sub_ps(_mm256_loadu_ps(x + j), _mm256_mul_ps(f, _mm256_set1_ps(d))));
    }
}

/* ---- Single rows, in panels ---- */

FE_INLINE float pack_group(fe_act_panel *panel, size_t part, size_t g, const float *x) {
    int16_t s[2];
    float energy = quantize_group(panel->q[part] + g * 32, s, &panel->d[part][g], x), d = panel->d[part][g];
    panel->ds[g] += d * (float)(s[0] + s[1]);
    panel->s16[2 * g] += d * (float)s[0];
    panel->s16[2 * g + 1] += d * (float)s[1];
    return energy;
}

static void pack_stretch(fe_act_panel *panels, const float *x, size_t groups) {
    float energy = 0, rest[32];
    for (size_t g = 0; g < groups; g++)
        energy += pack_group(panels + g / FE_PANEL_GROUPS, 0, g % FE_PANEL_GROUPS, x + g * 32);
    float limit = fe_act_limit(energy, groups);
    for (size_t g = 0; g < groups; g++) {
        fe_act_panel *panel = panels + g / FE_PANEL_GROUPS;
        size_t i = g % FE_PANEL_GROUPS;
        if (!(panel->d[0][i] * panel->d[0][i] > limit)) continue;
        left_over(rest, x + g * 32, panel->q[0] + i * 32, panel->d[0][i]);
        pack_group(panel, 1, i, rest);
        panel->rest |= 1u << i;
    }
}

static void pack_row(fe_act_panel *panels, const float *x, size_t k) {
    memset(panels, 0, fe_act_panels(k) * sizeof *panels);
    for (size_t p = 0; p < fe_act_panels(k); p += FE_STRETCH_PANELS)
        pack_stretch(panels + p, x + p * FE_PANEL, fe_stretch_groups(k, p));
}

/* ---- Tiles ---- */

FE_INLINE float pack_token(act_tile *tile, size_t t, const float *x) {
    float energy = quantize_group(tile->q[t], tile->s16[t], &tile->d[t], x);
    tile->ds[t] = tile->d[t] * (float)(tile->s16[t][0] + tile->s16[t][1]);
    return energy;
}

/* The second parts of a tile's first `groups` parts: of the tokens that are above their limit; zero for the others. */
static void pack_rests(act_tile *tile, const float *x, size_t ldx, size_t tokens, size_t groups, const float *limit) {
    float rest[32];
    act_tile *end = tile + groups;
    for (size_t g = 0; g < groups; g++) {
        bool any = false;
        for (size_t t = 0; t < tokens; t++) any |= tile[g].d[t] * tile[g].d[t] > limit[t];
        if (!any) continue;
        memset(end, 0, sizeof *end);
        end->group = (uint32_t)g;
        for (size_t t = 0; t < tokens; t++) {
            if (!(tile[g].d[t] * tile[g].d[t] > limit[t])) continue;
            left_over(rest, x + t * ldx + g * 32, tile[g].q[t], tile[g].d[t]);
            pack_token(end, t, rest);
        }
        end++;
    }
    tile->count = (uint32_t)(end - tile);
}

/* Tile i, of `tokens` tokens, whose rows begin at x. */
static void pack_tile(act_tile *tiles, const float *x, size_t ldx, size_t m, size_t k, size_t i, size_t tokens) {
    for (size_t first = 0; first < fe_act_panels(k); first += FE_STRETCH_PANELS) {
        size_t groups = fe_stretch_groups(k, first);
        float limit[TOKENS];
        for (size_t t = 0; t < tokens; t++) {
            float energy = 0;
            for (size_t g = 0; g < groups; g++) {
                size_t p = first + g / FE_PANEL_GROUPS;
                act_tile *tile = tiles + tile_at(m, k, p, i) + g % FE_PANEL_GROUPS;
                tile->group = g % FE_PANEL_GROUPS;
                energy += pack_token(tile, t, x + t * ldx + p * FE_PANEL + g % FE_PANEL_GROUPS * 32);
            }
            limit[t] = fe_act_limit(energy, groups);
        }
        for (size_t g = 0; g < groups; g += FE_PANEL_GROUPS) {
            size_t p = first + g / FE_PANEL_GROUPS;
            pack_rests(tiles + tile_at(m, k, p, i), x + p * FE_PANEL, ldx, tokens, fe_panel_groups(k, p), limit);
        }
    }
}

static void pack(void *act, const float *x, size_t ldx, size_t m, size_t k, size_t first, size_t count) {
    if (m <= DIRECT) {
        for (size_t i = first; i < first + count; i++)
            pack_row((fe_act_panel *)act + i * fe_act_panels(k), x + i * ldx, k);
        return;
    }
    for (size_t i = first; i < first + count; i += TOKENS)
        pack_tile(act, x + i * ldx, ldx, m, k, i / TOKENS, fe_min(TOKENS, first + count - i));
}

#endif
