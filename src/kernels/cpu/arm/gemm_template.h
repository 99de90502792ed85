/* GEMM of units of ROWS rows: panel by panel of 256 columns the weights are unpacked into scratch, and multiplied by all tokens,
 * whose sums stay in scratch until the last panel. The including file defines STEP, how many k of a row lie side by side in
 * a panel, and put_rows and products, which know of that. */
#include "kernels/cpu/arm/tile.h"

enum { ROWS = 16, TILE_ROWS = 8, GEMM_AHEAD = 1024 };

typedef struct weight_panel {
    _Alignas(16) int8_t q[8][32 / STEP][ROWS][STEP]; /* [group][step][row][k] */
    float scale[16][ROWS], add[16][ROWS];            /* of each 16; of each 32 in the first eight */
} weight_panel;

/* Group g of rows r … r+3. */
FE_INLINE void put_rows(weight_panel *w, size_t g, size_t r, const int8x16x2_t u[4]);

/* sum[token][4 rows] of group g of rows r … r+7 times a tile, for the 16 columns from 16 · first to those before 16 · last. */
FE_INLINE void products(int32x4_t sum[TOKENS][2], const weight_panel *w, size_t g, size_t r, const act_tile *x,
                        size_t first, size_t last);

/* ---- Unpacking ---------------------------------------------------------------------------------------------------- */

/* Four rows' lanes j become row j's place of four vectors. */
FE_INLINE void transpose(float32x4_t v[4]) {
    float32x4_t a = vtrn1q_f32(v[0], v[1]), b = vtrn2q_f32(v[0], v[1]);
    float32x4_t c = vtrn1q_f32(v[2], v[3]), d = vtrn2q_f32(v[2], v[3]);
    v[0] = vreinterpretq_f32_f64(vtrn1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(c)));
    v[1] = vreinterpretq_f32_f64(vtrn1q_f64(vreinterpretq_f64_f32(b), vreinterpretq_f64_f32(d)));
    v[2] = vreinterpretq_f32_f64(vtrn2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(c)));
    v[3] = vreinterpretq_f32_f64(vtrn2q_f64(vreinterpretq_f64_f32(b), vreinterpretq_f64_f32(d)));
}

/* Four scales of each of rows r … r+3. */
FE_INLINE void put_scales(float (*out)[ROWS], size_t r, float32x4_t v[4]) {
    transpose(v);
    FE_UNROLL for (size_t j = 0; j < 4; j++) vst1q_f32(out[j] + r, v[j]);
}

FE_INLINE void unpack_group(weight_panel *to, const uint8_t *const rows[ROWS], size_t r, size_t g, quants_fn quants) {
    const int8x16x2_t u[4] = {quants(rows[r], g), quants(rows[r + 1], g), quants(rows[r + 2], g),
                              quants(rows[r + 3], g)};
    put_rows(to, g, r, u);
}

FE_INLINE void unpack_32(weight_panel *to, const uint8_t *const rows[ROWS], size_t groups, size_t bytes,
                         quants_fn quants, scales_32_fn scales) {
    for (size_t r = 0; r < ROWS; r += 4) {
        float32x4_t scale[2][4], add[2][4];
        FE_UNROLL for (size_t i = 0; i < 4; i++) {
            prefetch(rows[r + i], GEMM_AHEAD, bytes);
            scales_32 s = scales(rows[r + i], groups);
            FE_UNROLL for (size_t j = 0; j < 2; j++) {
                scale[j][i] = s.scale[j];
                add[j][i] = s.add[j];
            }
        }
        FE_UNROLL for (size_t j = 0; j < 2; j++) {
            put_scales(to->scale + j * 4, r, scale[j]);
            put_scales(to->add + j * 4, r, add[j]);
        }
        if (groups == 8) {
            FE_UNROLL for (size_t g = 0; g < 8; g++) unpack_group(to, rows, r, g, quants);
        } else {
            for (size_t g = 0; g < groups; g++) unpack_group(to, rows, r, g, quants);
        }
    }
}

FE_INLINE void unpack_16(weight_panel *to, const uint8_t *const rows[ROWS], size_t bytes, quants_fn quants,
                         scales_16_fn scales) {
    for (size_t r = 0; r < ROWS; r += 4) {
        float32x4_t scale[4][4], add[4][4];
        FE_UNROLL for (size_t i = 0; i < 4; i++) {
            prefetch(rows[r + i], GEMM_AHEAD, bytes);
            scales_16 s = scales(rows[r + i]);
            int32x4_t a[4], b[4];
            widen(a, s.scale);
            widen(b, s.min);
            FE_UNROLL for (size_t j = 0; j < 4; j++) {
                scale[j][i] = vmulq_n_f32(vcvtq_f32_s32(a[j]), s.d);
                add[j][i] = vmulq_n_f32(vcvtq_f32_s32(b[j]), -s.dmin);
            }
        }
        FE_UNROLL for (size_t j = 0; j < 4; j++) {
            put_scales(to->scale + j * 4, r, scale[j]);
            put_scales(to->add + j * 4, r, add[j]);
        }
        FE_UNROLL for (size_t g = 0; g < 8; g++) unpack_group(to, rows, r, g, quants);
    }
}

/* ---- Products ----------------------------------------------------------------------------------------------------- */

/* f[token][rows] += scale[row] · d[token] · sum. */
FE_INLINE void add_scaled(float32x4_t f[TOKENS][2], int32x4_t sum[TOKENS][2], const float *scale,
                          const float d[TOKENS]) {
    FE_UNROLL for (size_t v = 0; v < 2; v++) {
        float32x4_t s = vld1q_f32(scale + v * 4);
        FE_UNROLL for (size_t t = 0; t < TOKENS; t++) f[t][v] =
            vfmaq_f32(f[t][v], vcvtq_f32_s32(sum[t][v]), vmulq_n_f32(s, d[t]));
    }
}
FE_INLINE void add_addends(float32x4_t f[TOKENS][2], const float *add, const float ds[TOKENS]) {
    FE_UNROLL for (size_t v = 0; v < 2; v++) {
        float32x4_t a = vld1q_f32(add + v * 4);
        FE_UNROLL for (size_t t = 0; t < TOKENS; t++) f[t][v] = vfmaq_n_f32(f[t][v], a, ds[t]);
    }
}

/* acc[token][row] += panel · tiles: `count` tiles of the same tokens, for TILE_ROWS rows at a time. has_add: with the weights'
 * addends, which belong to the first parts. */
FE_INLINE void inner(float *acc, const weight_panel *w, const act_tile *x, size_t count, bool by_16, bool has_add) {
    FE_UNROLL for (size_t r = 0; r < ROWS; r += TILE_ROWS) {
        float32x4_t f[TOKENS][2];
        float *at[TOKENS];
        FE_UNROLL for (size_t t = 0; t < TOKENS; t++) {
            at[t] = acc + (size_t)x->token[t] * ROWS + r;
            FE_UNROLL for (size_t v = 0; v < 2; v++) f[t][v] = vld1q_f32(at[t] + v * 4);
        }
        for (const act_tile *tile = x; tile < x + count; tile++) {
            size_t g = tile->group;
            int32x4_t sum[TOKENS][2];
            if (by_16) {
                FE_UNROLL for (size_t h = 0; h < 2; h++) {
                    products(sum, w, g, r, tile, h, h + 1);
                    add_scaled(f, sum, w->scale[2 * g + h] + r, tile->d);
                    if (has_add) add_addends(f, w->add[2 * g + h] + r, tile->s16[h]);
                }
            } else {
                products(sum, w, g, r, tile, 0, 2);
                add_scaled(f, sum, w->scale[g] + r, tile->d);
                if (has_add) add_addends(f, w->add[g] + r, tile->ds);
            }
        }
        FE_UNROLL for (size_t t = 0; t < TOKENS; t++) {
            FE_UNROLL for (size_t v = 0; v < 2; v++) vst1q_f32(at[t] + v * 4, f[t][v]);
        }
    }
}

typedef void (*inner_fn)(float *acc, const weight_panel *w, const act_tile *x, size_t count);

#define INNER(name, by_16, has_add)                                                        \
    static void name(float *acc, const weight_panel *w, const act_tile *x, size_t count) { \
        inner(acc, w, x, count, by_16, has_add);                                           \
    }
INNER(inner_32, false, false)
INNER(inner_32_add, false, true)
INNER(inner_16, true, false)
INNER(inner_16_add, true, true)

/* ---- Units -------------------------------------------------------------------------------------------------------- */

typedef struct problem {
    const uint8_t *w;
    size_t stride, n;
    const act_tile *act;
    size_t m, k, bytes; /* bytes: of a panel of a row */
} problem;

/* The sums have a row for the places of tiles that are nobody's. */
FE_INLINE size_t acc_bytes(size_t m) { return (m + 1) * ROWS * sizeof(float); }

static size_t gemm_scratch(size_t m, size_t k) {
    (void)k;
    return sizeof(weight_panel) + acc_bytes(m);
}

/* Pointers to panel p of a unit's rows from r on; the last row stands in for those past the end. */
FE_INLINE void unit_rows(const uint8_t *rows[ROWS], const problem *a, size_t r, size_t p) {
    for (size_t i = 0; i < ROWS; i++) rows[i] = a->w + fe_min(r + i, a->n - 1) * a->stride + p * a->bytes;
}

static void multiply_panel(const problem *a, float *acc, const weight_panel *w, size_t p, inner_fn multiply,
                           inner_fn multiply_rest) {
    size_t groups = fe_panel_groups(a->k, p);
    for (size_t first = 0; first < a->m; first += BATCH) {
        const act_tile *x = a->act + batch_at(a->m, a->k, p, first);
        const act_tile *rests = x + tiles_of(fe_min(BATCH, a->m - first)) * groups, *end = rests + x->count;
        for (; x < rests; x += groups) multiply(acc, w, x, groups);
        for (; x < end; x++) multiply_rest(acc, w, x, 1);
    }
}

/* c[i·ldc + r] for the first n of ROWS rows. */
static void store_unit(float *c, size_t ldc, const float *acc, size_t m, size_t n) {
    for (size_t i = 0; i < m; i++) memcpy(c + i * ldc, acc + i * ROWS, n * sizeof *c);
}

/* unpack: an expression that fills the panel `to` from panel p of the rows. */
#define GEMM(type, panel_bytes, multiply, multiply_rest, unpack)                                                     \
    static void gemm_##type(float *c, size_t ldc, const void *w, size_t stride, size_t n, const void *act, size_t m, \
                            size_t k, void *scratch) {                                                               \
        const problem a = {w, stride, n, act, m, k, panel_bytes};                                                    \
        weight_panel *to = scratch;                                                                                  \
        float *acc = (float *)(to + 1);                                                                              \
        for (size_t r = 0; r < n; r += ROWS) {                                                                       \
            memset(acc, 0, acc_bytes(m));                                                                            \
            for (size_t p = 0; p < fe_act_panels(k); p++) {                                                          \
                const uint8_t *rows[ROWS];                                                                           \
                unit_rows(rows, &a, r, p);                                                                           \
                unpack;                                                                                              \
                multiply_panel(&a, acc, to, p, multiply, multiply_rest);                                             \
            }                                                                                                        \
            store_unit(c + r, ldc, acc, m, fe_min(ROWS, n - r));                                                     \
        }                                                                                                            \
    }
#define GEMM_32(type, bytes, multiply)    \
    GEMM(type, bytes, multiply, inner_32, \
         unpack_32(to, rows, fe_panel_groups(k, p), bytes, quants_##type, scales_##type))
#define GEMM_16(type, bytes, multiply) \
    GEMM(type, bytes, multiply, inner_16, unpack_16(to, rows, bytes, quants_##type, scales_##type))

GEMM_32(q4_0, 8 * sizeof(fe_block_q4_0), inner_32)
GEMM_32(q4_1, 8 * sizeof(fe_block_q4_1), inner_32_add)
GEMM_32(q5_0, 8 * sizeof(fe_block_q5_0), inner_32)
GEMM_32(q5_1, 8 * sizeof(fe_block_q5_1), inner_32_add)
GEMM_32(q8_0, 8 * sizeof(fe_block_q8_0), inner_32)
GEMM_32(q4_k, sizeof(fe_block_q4_k), inner_32_add)
GEMM_32(q5_k, sizeof(fe_block_q5_k), inner_32_add)
GEMM_16(q2_k, sizeof(fe_block_q2_k), inner_16_add)
GEMM_16(q3_k, sizeof(fe_block_q3_k), inner_16)
GEMM_16(q6_k, sizeof(fe_block_q6_k), inner_16)
