/* Packing of activations for the quantised kernels of x86 (kernels/cpu/act.h): panels of single rows for m <= DIRECT, tiles
 * of TOKENS tokens, which the including file defines, for larger m. */
#ifndef FE_PACK_H
#define FE_PACK_H

#include "kernels/cpu/x86/tile.h"

#include <float.h>
#include <math.h>

static size_t act_bytes(size_t m, size_t k) {
    if (m <= DIRECT) return m * fe_act_panels(k) * sizeof(fe_act_panel);
    act_cut cut = cut_tokens(m);
    size_t last = fe_act_panels(k) - 1;
    return last * panel_bytes(&cut, FE_PANEL_GROUPS) + panel_bytes(&cut, fe_panel_groups(k, last));
}

/* Lane g of the result has all lanes of v[g], joined by `join`. */
FE_INLINE __m256i join_lanes(const __m256i v[8], __m256i (*join)(__m256i, __m256i)) {
    __m256i pair[4], four[2];
    FE_UNROLL for (size_t i = 0; i < 4; i++) pair[i] =
        join(_mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]), _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    FE_UNROLL for (size_t i = 0; i < 2; i++) four[i] =
        join(_mm256_unpacklo_epi64(pair[2 * i], pair[2 * i + 1]), _mm256_unpackhi_epi64(pair[2 * i], pair[2 * i + 1]));
    return join(_mm256_permute2x128_si256(four[0], four[1], 0x20), _mm256_permute2x128_si256(four[0], four[1], 0x31));
}
FE_INLINE __m256i greater(__m256i a, __m256i b) { return _mm256_max_epu32(a, b); }
FE_INLINE __m256i sum_of(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }

/* What act.h's fe_act_scale says, of 8 groups; max: the bits of their largest |x|. */
FE_INLINE __m256 scales_of(__m256i max, __m256 *r) {
    __m256 d = _mm256_div_ps(_mm256_castsi256_ps(max), _mm256_set1_ps(127));
    __m256 small = _mm256_cmp_ps(d, _mm256_set1_ps(FLT_MIN), _CMP_LT_OQ);
    __m256 infinite = _mm256_castsi256_ps(_mm256_cmpgt_epi32(max, _mm256_set1_epi32(0x7F7FFFFF)));
    *r = _mm256_andnot_ps(_mm256_or_ps(small, infinite), _mm256_div_ps(_mm256_set1_ps(1), d));
    return _mm256_blendv_ps(_mm256_andnot_ps(small, d), _mm256_set1_ps(NAN), infinite);
}

/* Up to 8 groups of 32 floats by act.h's rule. */
typedef struct quantised {
    int8_t q[8][32];
    int16_t s16[8][2];
    float d[8], energy[8]; /* what each adds to its stretch's */
} quantised;

FE_INLINE void quantize_groups(quantised *out, const float *x, size_t groups) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF), bias = _mm256_set1_epi8((char)0x80);
    __m256i max[8], squares[8];
    float r[8] __attribute__((aligned(32)));
    FE_UNROLL for (size_t g = 0; g < 8; g++) max[g] = squares[g] = _mm256_setzero_si256();
    for (size_t g = 0; g < groups; g++) {
        FE_UNROLL for (size_t j = 0; j < 32; j += 8) max[g] =
            greater(max[g], _mm256_and_si256(load_256(x + g * 32 + j), magnitude));
    }
    __m256 all_r, d = scales_of(join_lanes(max, greater), &all_r);
    _mm256_store_ps(r, all_r);
    for (size_t g = 0; g < groups; g++) {
        __m256i i[4];
        __m256 by = _mm256_broadcast_ss(r + g), used = _mm256_cmp_ps(by, _mm256_setzero_ps(), _CMP_GT_OQ);
        FE_UNROLL for (size_t j = 0; j < 4; j++) {
            i[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + g * 32 + j * 8), by));
            i[j] = _mm256_and_si256(i[j], _mm256_castps_si256(used)); /* or what is not finite would stay */
        }
        __m256i a = _mm256_packs_epi32(i[0], i[1]), b = _mm256_packs_epi32(i[2], i[3]);
        squares[g] = _mm256_add_epi32(_mm256_madd_epi16(a, a), _mm256_madd_epi16(b, b));
        __m256i q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)out->q[g], q);
        __m256i eights = _mm256_sad_epu8(_mm256_xor_si256(q, bias), _mm256_setzero_si256());
        eights = _mm256_add_epi64(eights, _mm256_shuffle_epi32(eights, 0x4E));
        out->s16[g][0] = (int16_t)(_mm_cvtsi128_si32(_mm256_castsi256_si128(eights)) - 16 * 128);
        out->s16[g][1] = (int16_t)(_mm_cvtsi128_si32(_mm256_extracti128_si256(eights, 1)) - 16 * 128);
    }
    __m256 sum = _mm256_cvtepi32_ps(join_lanes(squares, sum_of));
    _mm256_storeu_ps(out->d, d);
    _mm256_storeu_ps(out->energy, _mm256_mul_ps(_mm256_mul_ps(d, d), sum));
}

/* What q leaves over of 32 floats. */
FE_INLINE void left_over(float rest[32], const float *x, const int8_t *q, float d) {
    FE_UNROLL for (size_t j = 0; j < 32; j += 8) {
        __m256 f = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(q + j))));
        _mm256_storeu_ps(rest + j, _mm256_sub_ps(_mm256_loadu_ps(x + j), _mm256_mul_ps(f, _mm256_set1_ps(d))));
    }
}

/* ---- Single rows, in panels ---- */

/* Puts one part of group g's sums. */
FE_INLINE void put_sums(fe_act_panel *panel, size_t part, size_t g, float d, const int16_t s[2]) {
    panel->ds[g] += d * (float)(s[0] + s[1]);
    memcpy(panel->sums[part][g], s, sizeof panel->sums[part][g]);
}

static void pack_stretch(fe_act_panel *panels, const float *x, size_t groups, float above) {
    float energy = 0, rest[32];
    quantised v;
    for (size_t g = 0; g < groups; g += FE_PANEL_GROUPS) {
        fe_act_panel *panel = panels + g / FE_PANEL_GROUPS;
        size_t count = fe_min(FE_PANEL_GROUPS, groups - g);
        quantize_groups(&v, x + g * 32, count);
        memcpy(panel->q[0], v.q, count * 32);
        memcpy(panel->d[0], v.d, sizeof v.d);
        for (size_t i = 0; i < count; i++) {
            put_sums(panel, 0, i, v.d[i], v.s16[i]);
            energy += v.energy[i];
        }
    }
    float limit = fe_act_limit(energy, groups, above);
    for (size_t g = 0; g < groups; g++) {
        fe_act_panel *panel = panels + g / FE_PANEL_GROUPS;
        size_t i = g % FE_PANEL_GROUPS;
        if (!(panel->d[0][i] * panel->d[0][i] > limit)) continue;
        left_over(rest, x + g * 32, panel->q[0] + i * 32, panel->d[0][i]);
        quantize_groups(&v, rest, 1);
        memcpy(panel->q[1] + i * 32, v.q, 32);
        panel->d[1][i] = v.d[0];
        put_sums(panel, 1, i, v.d[0], v.s16[0]);
        panel->rest |= 1u << i;
    }
}

static void pack_row(fe_act_panel *panels, const float *x, size_t k, float above) {
    memset(panels, 0, fe_act_panels(k) * sizeof *panels);
    for (size_t p = 0; p < fe_act_panels(k); p += FE_STRETCH_PANELS)
        pack_stretch(panels + p, x + p * FE_PANEL, fe_stretch_groups(k, p), above);
}

/* ---- Tiles ---- */

FE_INLINE void put_token(act_part *part, size_t t, const quantised *v, size_t g) {
    memcpy(part->q[t], v->q[g], sizeof v->q[g]);
    memcpy(part->s16[t], v->s16[g], sizeof v->s16[g]);
    part->d[t] = v->d[g];
}

/* The first parts of a token's groups in its slot of tile i, and their sums; what they add to `energy`. */
static float pack_first(const act_chunk *a, size_t i, size_t t, const float *x, float energy) {
    quantised v;
    quantize_groups(&v, x, a->groups);
    for (size_t g = 0; g < a->groups; g++) {
        act_part *part = a->first + i * a->groups + g;
        put_token(part, t, &v, g);
        a->sums[i].ds[g][t] = v.d[g] * (float)(v.s16[g][0] + v.s16[g][1]);
        energy += v.energy[g];
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
    quantised v;
    act_part *part = a->second;
    for (size_t g = 0; g < a->groups; g++) {
        uint32_t n = 0; /* tokens in *part */
        for (size_t j = 0; j < a->tokens; j++) {
            const act_part *first = a->first + j / per_tile * a->groups + g;
            size_t t = j % per_tile;
            float d = first->d[t];
            if (!(d * d > limit[j])) continue;
            if (n == TOKENS) {
                part++;
                n = 0;
            }
            left_over(rest, x + j * ldx + g * 32, first->q[t], d);
            quantize_groups(&v, rest, 1);
            put_token(part, n, &v, 0);
            a->sums[j / per_tile].ds[g][t] += v.d[0] * (float)(v.s16[0][0] + v.s16[0][1]);
            part->at[n] = (uint32_t)(j * ROWS);
            part->group = (uint32_t)g;
            part->tokens = ++n;
        }
        part += n > 0;
    }
    *a->seconds = (uint32_t)(part - a->second);
}

static void pack_chunk(void *act, const act_cut *cut, const float *x, size_t ldx, size_t m, size_t k, size_t i,
                       float above) {
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
        for (size_t j = 0; j < CHUNK_TILES * TOKENS; j++) limit[j] = fe_act_limit(limit[j], groups, above);
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

static void pack(void *act, const float *x, size_t ldx, size_t m, size_t k, size_t first, size_t count, float above) {
    if (m <= DIRECT) {
        for (size_t i = first; i < first + count; i++)
            pack_row((fe_act_panel *)act + i * fe_act_panels(k), x + i * ldx, k, above);
        return;
    }
    act_cut cut = cut_tokens(m);
    size_t group = cut.per_chunk * cut.per_tile;
    for (size_t i = first / group; i * group < first + count; i++) pack_chunk(act, &cut, x, ldx, m, k, i, above);
}

#endif
