/* Packing of activations for the quantised kernels of x86 (kernels/cpu/act.h): panels of single rows for m <= DIRECT, tiles
 * of TOKENS tokens, which the including file defines, for larger m. */
#ifndef FE_PACK_H
#define FE_PACK_H

#include "kernels/cpu/x86/tile.h"

static size_t act_bytes(size_t m, size_t k) {
    if (m <= DIRECT) return m * fe_act_panels(k) * sizeof(fe_act_panel);
    act_cut cut = cut_tokens(m);
    size_t last = fe_act_panels(k) - 1;
    return last * panel_bytes(&cut, FE_PANEL_GROUPS) + panel_bytes(&cut, fe_panel_groups(k, last));
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

FE_INLINE float pack_part(fe_act_panel *panel, size_t part, size_t g, const float *x) {
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
        energy += pack_part(panels + g / FE_PANEL_GROUPS, 0, g % FE_PANEL_GROUPS, x + g * 32);
    float limit = fe_act_limit(energy, groups);
    for (size_t g = 0; g < groups; g++) {
        fe_act_panel *panel = panels + g / FE_PANEL_GROUPS;
        size_t i = g % FE_PANEL_GROUPS;
        if (!(panel->d[0][i] * panel->d[0][i] > limit)) continue;
        left_over(rest, x + g * 32, panel->q[0] + i * 32, panel->d[0][i]);
        pack_part(panel, 1, i, rest);
        panel->rest |= 1u << i;
    }
}

static void pack_row(fe_act_panel *panels, const float *x, size_t k) {
    memset(panels, 0, fe_act_panels(k) * sizeof *panels);
    for (size_t p = 0; p < fe_act_panels(k); p += FE_STRETCH_PANELS)
        pack_stretch(panels + p, x + p * FE_PANEL, fe_stretch_groups(k, p));
}

/* ---- Tiles ---- */

/* The first parts of a token's groups in its slot of tile i, and their sums; what they add to `energy`. */
static float pack_first(const act_chunk *a, size_t i, size_t t, const float *x, float energy) {
    for (size_t g = 0; g < a->groups; g++) {
        act_part *part = a->first + i * a->groups + g;
        energy += quantize_group(part->q[t], part->s16[t], &part->d[t], x + g * 32);
        a->sums[i].ds[g][t] = part->d[t] * (float)(part->s16[t][0] + part->s16[t][1]);
    }
    return energy;
}

static void head_first(const act_chunk *a, size_t per_tile) {
    for (size_t i = 0; i < a->tiles; i++) {
        for (size_t g = 0; g < a->groups; g++) {
            act_part *part = a->first + i * a->groups + g;
            part->group = (uint32_t)g;
            part->tokens = (uint32_t)fe_min(per_tile, a->tokens - i * per_tile);
            for (size_t t = 0; t < part->tokens; t++) part->at[t] = (uint32_t)((i * per_tile + t) * ROWS);
        }
    }
}

/* The second parts of the tokens whose groups are above their limits. x: the chunk's first token, at the panel's columns. */
static void pack_second(const act_chunk *a, size_t per_tile, const float *x, size_t ldx, const float *limit) {
    float rest[32];
    act_part *full = a->second, *end = a->second + a->tiles * a->groups, *partial = end;
    for (size_t g = 0; g < a->groups; g++) {
        uint32_t n = 0; /* tokens in *full */
        for (size_t j = 0; j < a->tokens; j++) {
            const act_part *first = a->first + j / per_tile * a->groups + g;
            size_t t = j % per_tile;
            float d = first->d[t];
            if (!(d * d > limit[j])) continue;
            left_over(rest, x + j * ldx + g * 32, first->q[t], d);
            quantize_group(full->q[n], full->s16[n], &full->d[n], rest);
            a->sums[j / per_tile].ds[g][t] += full->d[n] * (float)(full->s16[n][0] + full->s16[n][1]);
            full->at[n] = (uint32_t)(j * ROWS);
            full->group = (uint32_t)g;
            full->tokens = ++n;
            if (n < TOKENS) continue;
            full++;
            n = 0;
        }
        if (n && --partial != full) *partial = *full;
    }
    a->counts->full = (uint32_t)(full - a->second);
    a->counts->partial = (uint32_t)(end - partial);
}

static void pack_chunk(void *act, const act_cut *cut, const float *x, size_t ldx, size_t m, size_t k, size_t i) {
    float limit[CHUNK_TILES * TOKENS]; /* first the energies */
    for (size_t first = 0; first < fe_act_panels(k); first += FE_STRETCH_PANELS) {
        size_t groups = fe_stretch_groups(k, first), last = first + (groups + FE_PANEL_GROUPS - 1) / FE_PANEL_GROUPS;
        memset(limit, 0, sizeof limit);
        for (size_t p = first; p < last; p++) {
            act_chunk a = chunk_at(act, cut, m, k, p, i);
            head_first(&a, cut->per_tile);
            for (size_t j = 0; j < a.tokens; j++)
                limit[j] = pack_first(&a, j / cut->per_tile, j % cut->per_tile,
                                      x + (a.first_token + j) * ldx + p * FE_PANEL, limit[j]);
        }
        for (size_t j = 0; j < CHUNK_TILES * TOKENS; j++) limit[j] = fe_act_limit(limit[j], groups);
        for (size_t p = first; p < last; p++) {
            act_chunk a = chunk_at(act, cut, m, k, p, i);
            pack_second(&a, cut->per_tile, x + a.first_token * ldx + p * FE_PANEL, ldx, limit);
        }
    }
}

static size_t pack_group(size_t m) {
    if (m <= DIRECT) return 1;
    act_cut cut = cut_tokens(m);
    return cut.per_chunk * cut.per_tile;
}

static void pack(void *act, const float *x, size_t ldx, size_t m, size_t k, size_t first, size_t count) {
    if (m <= DIRECT) {
        for (size_t i = first; i < first + count; i++)
            pack_row((fe_act_panel *)act + i * fe_act_panels(k), x + i * ldx, k);
        return;
    }
    act_cut cut = cut_tokens(m);
    size_t group = cut.per_chunk * cut.per_tile;
    for (size_t i = first / group; i * group < first + count; i++) pack_chunk(act, &cut, x, ldx, m, k, i);
}

#endif
