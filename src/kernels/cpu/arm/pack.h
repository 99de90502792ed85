/* Packing of activations for the quantised kernels of arm64 (kernels/cpu/act.h): panels for a single row, tiles for more. */
#ifndef FE_ARM_PACK_H
#define FE_ARM_PACK_H

#include "kernels/cpu/arm/tile.h"

static size_t act_bytes(size_t m, size_t k) {
    if (m == 1) return fe_act_panels(k) * sizeof(fe_act_panel);
    return FE_PARTS * tiles_of(m) * (k / 32) * sizeof(act_tile);
}

/* ---- Groups ------------------------------------------------------------------------------------------------------- */

typedef struct group_32 {
    int8x16x2_t q;
    float d;
    int s16[2]; /* Σ q of each 16 */
    int squares;
} group_32;

/* 32 floats by act.h's rule. */
FE_INLINE group_32 quantize_group(const float *x) {
    group_32 out = {.q = {{vdupq_n_s8(0), vdupq_n_s8(0)}}};
    float32x4_t v[8];
    uint32x4_t max = vdupq_n_u32(0);
    FE_UNROLL for (size_t j = 0; j < 8; j++) {
        v[j] = vld1q_f32(x + 4 * j);
        max = vmaxq_u32(max, vreinterpretq_u32_f32(vabsq_f32(v[j])));
    }
    float r;
    out.d = fe_act_scale(vmaxvq_u32(max), &r);
    if (!(r > 0)) return out; /* d is 0, or not a number */
    FE_UNROLL for (size_t i = 0; i < 2; i++) {
        int16x4_t n[4];
        FE_UNROLL for (size_t j = 0; j < 4; j++) n[j] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v[i * 4 + j], r)));
        int8x16_t q = vcombine_s8(vmovn_s16(vcombine_s16(n[0], n[1])), vmovn_s16(vcombine_s16(n[2], n[3])));
        out.q.val[i] = q;
        out.s16[i] = vaddlvq_s8(q);
        out.squares += vaddvq_s32(vdotq_s32(vdupq_n_s32(0), q, q));
    }
    return out;
}

/* What q leaves over of 32 floats. */
FE_INLINE void left_over(float rest[32], const float *x, int8x16x2_t q, float d) {
    FE_UNROLL for (size_t i = 0; i < 2; i++) {
        int32x4_t n[4];
        widen(n, q.val[i]);
        FE_UNROLL for (size_t j = 0; j < 4; j++) {
            float32x4_t taken = vmulq_n_f32(vcvtq_f32_s32(n[j]), d);
            vst1q_f32(rest + i * 16 + j * 4, vsubq_f32(vld1q_f32(x + i * 16 + j * 4), taken));
        }
    }
}

/* ---- A single row, in panels -------------------------------------------------------------------------------------- */

static float pack_part(fe_act_panel *panel, size_t part, size_t g, const float *x) {
    group_32 a = quantize_group(x);
    vst1q_s8_x2(panel->q[part] + g * 32, a.q);
    panel->d[part][g] = a.d;
    panel->ds[g] += a.d * (float)(a.s16[0] + a.s16[1]);
    panel->s16[2 * g] += a.d * (float)a.s16[0];
    panel->s16[2 * g + 1] += a.d * (float)a.s16[1];
    return fe_act_energy(a.d, a.squares);
}

static void pack_stretch(fe_act_panel *panels, const float *x, size_t groups, float above) {
    float energy = 0, rest[32];
    for (size_t g = 0; g < groups; g++)
        energy += pack_part(panels + g / FE_PANEL_GROUPS, 0, g % FE_PANEL_GROUPS, x + g * 32);
    float limit = fe_act_limit(energy, groups, above);
    for (size_t g = 0; g < groups; g++) {
        fe_act_panel *panel = panels + g / FE_PANEL_GROUPS;
        size_t i = g % FE_PANEL_GROUPS;
        float d = panel->d[0][i];
        if (!(d * d > limit)) continue;
        left_over(rest, x + g * 32, vld1q_s8_x2(panel->q[0] + i * 32), d);
        pack_part(panel, 1, i, rest);
        panel->rest |= 1u << i;
    }
}

static void pack_row(fe_act_panel *panels, const float *x, size_t k, float above) {
    memset(panels, 0, fe_act_panels(k) * sizeof *panels);
    for (size_t p = 0; p < fe_act_panels(k); p += FE_STRETCH_PANELS)
        pack_stretch(panels + p, x + p * FE_PANEL, fe_stretch_groups(k, p), above);
}

/* ---- Tiles -------------------------------------------------------------------------------------------------------- */

/* Nobody's. */
FE_INLINE void clear_tile(act_tile *tile, size_t group, size_t m) {
    *tile = (act_tile){.group = (uint32_t)group};
    FE_UNROLL for (size_t t = 0; t < TOKENS; t++) tile->token[t] = (uint32_t)m;
}

FE_INLINE float pack_token(act_tile *tile, size_t t, size_t token, const float *x) {
    group_32 a = quantize_group(x);
    FE_UNROLL for (size_t i = 0; i < 2; i++) {
        vst1_s8(tile->q[2 * i][t], vget_low_s8(a.q.val[i]));
        vst1_s8(tile->q[2 * i + 1][t], vget_high_s8(a.q.val[i]));
        tile->s16[i][t] = a.d * (float)a.s16[i];
    }
    tile->d[t] = a.d;
    tile->ds[t] = a.d * (float)(a.s16[0] + a.s16[1]);
    tile->token[t] = (uint32_t)token;
    return fe_act_energy(a.d, a.squares);
}

FE_INLINE int8x16x2_t quants_of(const act_tile *tile, size_t t) {
    return (int8x16x2_t){{vcombine_s8(vld1_s8(tile->q[0][t]), vld1_s8(tile->q[1][t])),
                          vcombine_s8(vld1_s8(tile->q[2][t]), vld1_s8(tile->q[3][t]))}};
}

/* `count` tokens from `first` on, whose rows begin at x. */
typedef struct batch {
    const float *x;
    size_t ldx, m, first, count;
} batch;

/* The second parts of a panel's `groups` groups, whose columns begin at `column`, behind the first ones in `tiles`. */
static void pack_rests(act_tile *tiles, const batch *b, size_t column, size_t groups, const float limit[BATCH]) {
    act_tile *const rests = tiles + tiles_of(b->count) * groups, *end = rests;
    float rest[32];
    for (size_t g = 0; g < groups; g++) {
        size_t used = TOKENS; /* places in the last tile of the group */
        for (size_t i = 0; i < b->count; i++) {
            act_tile *from = tiles + i / TOKENS * groups + g;
            size_t t = i % TOKENS;
            float d = from->d[t];
            if (!(d * d > limit[i])) continue;
            if (used == TOKENS) {
                clear_tile(end++, g, b->m);
                used = 0;
            }
            left_over(rest, b->x + i * b->ldx + column + g * 32, quants_of(from, t), d);
            pack_token(end - 1, used, b->first + i, rest);
            from->ds[t] += end[-1].ds[used];
            FE_UNROLL for (size_t h = 0; h < 2; h++) from->s16[h][t] += end[-1].s16[h][used];
            used++;
        }
    }
    tiles->count = (uint32_t)(end - rests);
}

static void pack_batch(act_tile *act, const batch *b, size_t k, float above) {
    for (size_t first = 0; first < fe_act_panels(k); first += FE_STRETCH_PANELS) {
        size_t groups = fe_stretch_groups(k, first);
        float limit[BATCH];
        for (size_t i = 0; i < b->count; i++) {
            float energy = 0;
            for (size_t g = 0; g < groups; g++) {
                size_t p = first + g / FE_PANEL_GROUPS, in_panel = g % FE_PANEL_GROUPS;
                act_tile *tile = act + batch_at(b->m, k, p, b->first) + i / TOKENS * fe_panel_groups(k, p) + in_panel;
                if (i % TOKENS == 0) clear_tile(tile, in_panel, b->m);
                const float *x = b->x + i * b->ldx + p * FE_PANEL + in_panel * 32;
                energy += pack_token(tile, i % TOKENS, b->first + i, x);
            }
            limit[i] = fe_act_limit(energy, groups, above);
        }
        for (size_t g = 0; g < groups; g += FE_PANEL_GROUPS) {
            size_t p = first + g / FE_PANEL_GROUPS;
            pack_rests(act + batch_at(b->m, k, p, b->first), b, p * FE_PANEL, fe_panel_groups(k, p), limit);
        }
    }
}

static size_t pack_group(size_t m) {
    (void)m;
    return BATCH;
}

static void pack(void *act, const float *x, size_t ldx, size_t m, size_t k, size_t first, size_t count, float above) {
    if (m == 1) {
        pack_row(act, x, k, above);
        return;
    }
    for (size_t end = first + count; first < end; first += BATCH)
        pack_batch(act, &(batch){x + first * ldx, ldx, m, first, fe_min(BATCH, end - first)}, k, above);
}

#endif
