/* Matmul for AMX with bfloat16: AMX-TILE, AMX-BF16, AVX512-BF16, and all of matmul_avx512.c, which does the products of few
 * tokens.
 *
 * GEMM: a unit of 128 rows, so that the activations, which are too many for the second-level cache, are read seldom. Panel by
 * panel of 256 columns the blocks are unpacked as for AVX-512, dequantised to ggml's numbers, rounded to bfloat16 and laid out
 * as tiles, which are multiplied by the activations, in bfloat16 too, 32 rows by 32 tokens at a time. The sums of all tokens,
 * in fp32, stay in scratch until the last panel.
 *
 * Whole tiles are 16 rows of 64 bytes. Activations: 16 tokens of 32 columns. Weights: 16 pairs of columns of 16 rows. Sums: 16
 * tokens of 16 rows. */
#include "kernels/cpu/simd_avx512.h"

enum { ROWS = 32, BLOCKS = 4, TILE_TOKENS = 16, LEAST_TOKENS = 16 }; /* BLOCKS of ROWS rows: a unit */
#include "kernels/cpu/x86/panel_avx512.h"

#include <pthread.h>

typedef struct tile_bf16 {
    uint16_t x[16][32];
} tile_bf16;
typedef struct tile_f32 {
    float x[16][16];
} tile_f32;

/* ---- What fewer tokens take --------------------------------------------------------------------------------------- */

static fe_matmul_kernel below[FE_TYPES];
static pthread_once_t below_once = PTHREAD_ONCE_INIT;

static void fill_below(void) { fe_matmul_init_avx512(below); }

/* ---- Activations -------------------------------------------------------------------------------------------------- */

/* The tile of group 0 of panel p for tokens i · 16 …; those of the panel's other groups follow. */
FE_INLINE size_t tile_at(size_t m, size_t k, size_t p, size_t i) {
    size_t tiles = (m + TILE_TOKENS - 1) / TILE_TOKENS;
    return p * FE_PANEL_GROUPS * tiles + i * fe_panel_groups(k, p);
}

static size_t act_bytes(size_t m, size_t k) {
    if (m < LEAST_TOKENS) return below[FERRUM_Q4_0].act_bytes(m, k);
    return (m + TILE_TOKENS - 1) / TILE_TOKENS * (k / 32) * sizeof(tile_bf16);
}

/* Tokens first … first + count - 1, at most 16; those beyond are zero. */
static void pack_tile(tile_bf16 *tiles, const float *x, size_t ldx, size_t m, size_t k, size_t i, size_t tokens) {
    for (size_t g = 0; g < k / 32; g++) {
        tile_bf16 *tile = tiles + tile_at(m, k, g / FE_PANEL_GROUPS, i) + g % FE_PANEL_GROUPS;
        memset(tile->x + tokens, 0, (TILE_TOKENS - tokens) * sizeof *tile->x);
        for (size_t t = 0; t < tokens; t++) {
            const float *from = x + t * ldx + g * 32;
            __m512bh both = _mm512_cvtne2ps_pbh(vf_load(from + 16), vf_load(from));
            _mm512_store_si512(tile->x[t], (__m512i)both);
        }
    }
}

static size_t pack_group(size_t m) { return m < LEAST_TOKENS ? below[FERRUM_Q4_0].pack_group(m) : TILE_TOKENS; }

static void pack(void *act, const float *x, size_t ldx, size_t m, size_t k, size_t first, size_t count, float above) {
    if (m < LEAST_TOKENS) {
        below[FERRUM_Q4_0].pack(act, x, ldx, m, k, first, count, above);
        return;
    }
    for (size_t i = first; i < first + count; i += TILE_TOKENS)
        pack_tile(act, x + i * ldx, ldx, m, k, i / TILE_TOKENS, fe_min(TILE_TOKENS, first + count - i));
}

/* ---- Weights ------------------------------------------------------------------------------------------------------ */

/* A panel's tiles: [group][rows 0 … 15, 16 … 31]. */
typedef tile_bf16 panel_bf16[FE_PANEL_GROUPS][2];

typedef struct work {
    panel_bf16 weights[BLOCKS];
    union {
        panel_32 by_32;
        panel_16 by_16;
    } panel;
} __attribute__((aligned(64))) work;

/* scale · quant + add of byte `at` of each dword. */
FE_INLINE vf dequantize(vi q, int at, vf scale, vf add) {
    return vf_fma(vi_to_float(vi_and(vi_srl(q, 8 * at), vi_set_dwords(255))), scale, add);
}

/* The two pairs of columns of a step of four, of 16 rows. */
FE_INLINE void put_pairs(tile_bf16 *tile, size_t step, const uint8_t (*quants)[4], vf scale, vf add) {
    const vi interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    vi q = _mm512_load_si512(quants);
    FE_UNROLL for (int j = 0; j < 2; j++) {
        vf a = dequantize(q, 2 * j, scale, add), b = dequantize(q, 2 * j + 1, scale, add);
        vi pair = _mm512_permutexvar_epi16(interleave, (vi)_mm512_cvtne2ps_pbh(b, a));
        vi_store(tile->x[step * 2 + (size_t)j], pair);
    }
}

/* `offset`: what is taken off each quant besides the panel's addend. */
FE_INLINE void convert_32(panel_bf16 to, const panel_32 *p, size_t groups, int offset) {
    for (size_t g = 0; g < groups; g++) {
        FE_UNROLL for (size_t v = 0; v < 2; v++) {
            vf scale = vf_load(p->scale[g] + v * 16), add = vf_load(p->add[g] + v * 16);
            if (offset) add = vf_mul(scale, vf_set((float)-offset));
            for (size_t step = 0; step < 8; step++) put_pairs(&to[g][v], step, &p->q[g][step][v * 16], scale, add);
        }
    }
}

FE_INLINE void convert_16(panel_bf16 to, const panel_16 *p, int offset, bool has_min) {
    for (size_t g = 0; g < FE_PANEL_GROUPS; g++) {
        FE_UNROLL for (size_t v = 0; v < 2; v++) {
            vi mins = has_min ? _mm512_load_si512(p->min[g][v * 16]) : _mm512_setzero_si512();
            vf minus_dmin = has_min ? vf_sub(vf_set(0), vf_load(p->dmin + v * 16)) : vf_set(0);
            FE_UNROLL for (size_t h = 0; h < 2; h++) {
                vf scale = vf_load(p->scale[g * 2 + h] + v * 16), add = vf_mul(scale, vf_set((float)-offset));
                if (has_min)
                    add = vf_mul(vi_to_float(h ? vi_srl(mins, 16) : vi_and(mins, vi_set_dwords(65535))), minus_dmin);
                for (size_t step = h * 4; step < h * 4 + 4; step++)
                    put_pairs(&to[g][v], step, &p->q[g][step][v * 16], scale, add);
            }
        }
    }
}

/* ---- GEMM --------------------------------------------------------------------------------------------------------- */

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Constant, so that no compiler has stores into it to lose. */
static const tile_config config __attribute__((aligned(64))) = {
    .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

/* Tiles 0 … 3: sums of tokens 0 … 15 and, with `two`, 16 … 31 with both halves of the rows; 4, 5: activations; 6, 7: weights. */
FE_INLINE void multiply_tiles(tile_f32 *acc, const tile_bf16 *x, panel_bf16 w, size_t groups, bool two) {
    _tile_loadd(0, acc + 0, 64);
    _tile_loadd(1, acc + 1, 64);
    if (two) _tile_loadd(2, acc + 2, 64);
    if (two) _tile_loadd(3, acc + 3, 64);
    for (size_t g = 0; g < groups; g++) {
        _tile_loadd(4, x + g, 64);
        _tile_loadd(6, &w[g][0], 64);
        _tile_loadd(7, &w[g][1], 64);
        _tile_dpbf16ps(0, 4, 6);
        if (two) _tile_loadd(5, x + groups + g, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (two) _tile_dpbf16ps(2, 5, 6);
        if (two) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, acc + 0, 64);
    _tile_stored(1, acc + 1, 64);
    if (two) _tile_stored(2, acc + 2, 64);
    if (two) _tile_stored(3, acc + 3, 64);
}

FE_INLINE size_t token_tiles(size_t m) { return (m + TILE_TOKENS - 1) / TILE_TOKENS; }

/* acc[block][tile of tokens][half of its rows] += panel p · activations, for all tokens. */
static void multiply_panel(tile_f32 *acc, panel_bf16 *w, size_t blocks, const tile_bf16 *act, size_t m, size_t k,
                           size_t p) {
    size_t groups = fe_panel_groups(k, p), tiles = token_tiles(m);
    for (size_t i = 0; i < tiles; i += 2) {
        const tile_bf16 *x = act + tile_at(m, k, p, i);
        for (size_t b = 0; b < blocks; b++) {
            tile_f32 *to = acc + (b * tiles + i) * 2;
            if (i + 1 < tiles)
                multiply_tiles(to, x, w[b], groups, true);
            else
                multiply_tiles(to, x, w[b], groups, false);
        }
    }
}

/* c[i·ldc + r] for the first n of 32 rows. */
static void store_unit(float *c, size_t ldc, const tile_f32 *acc, size_t m, size_t n) {
    __mmask32 mask = n < ROWS ? (1u << n) - 1 : ~0u;
    for (size_t i = 0; i < m; i++, c += ldc) {
        const tile_f32 *tile = acc + i / TILE_TOKENS * 2;
        _mm512_mask_storeu_ps(c, (__mmask16)mask, vf_load(tile[0].x[i % TILE_TOKENS]));
        _mm512_mask_storeu_ps(c + 16, (__mmask16)(mask >> 16), vf_load(tile[1].x[i % TILE_TOKENS]));
    }
}

/* Of a block. */
static size_t acc_bytes(size_t m) { return token_tiles(m) * 2 * sizeof(tile_f32); }

/* unpack: an expression that fills rows first … first + LANES - 1 of s->panel from a panel of `rows`; convert: one that makes
 * s->weights[b] of it. */
#define GEMM(type, name, bytes, unpack, convert)                                                                     \
    static void gemm_##name(float *c, size_t ldc, const void *w, size_t stride, size_t n, const void *act, size_t m, \
                            size_t k, void *scratch) {                                                               \
        if (m < LEAST_TOKENS) {                                                                                      \
            below[type].gemm(c, ldc, w, stride, n, act, m, k, scratch);                                              \
            return;                                                                                                  \
        }                                                                                                            \
        work *s = scratch;                                                                                           \
        tile_f32 *acc = (tile_f32 *)(s + 1);                                                                         \
        _tile_loadconfig(&config);                                                                                   \
        for (size_t r = 0; r < n; r += BLOCKS * ROWS) {                                                              \
            size_t blocks = fe_min(BLOCKS, (n - r + ROWS - 1) / ROWS);                                               \
            uintptr_t ahead = (uintptr_t)w + (r + blocks * ROWS) * stride;                                           \
            memset(acc, 0, blocks *acc_bytes(m));                                                                    \
            for (size_t p = 0; p < fe_act_panels(k); p++) {                                                          \
                for (size_t b = 0; b < blocks; b++) {                                                                \
                    const uint8_t *rows[ROWS];                                                                       \
                    for (size_t i = 0; i < ROWS; i++)                                                                \
                        rows[i] = (const uint8_t *)w + fe_min(r + b * ROWS + i, n - 1) * stride + p * (bytes);       \
                    for (size_t first = 0; first < ROWS; first += LANES) {                                           \
                        unpack;                                                                                      \
                    }                                                                                                \
                    convert;                                                                                         \
                }                                                                                                    \
                multiply_panel(acc, s->weights, blocks, act, m, k, p);                                               \
            }                                                                                                        \
            for (size_t b = 0; b < blocks; b++)                                                                      \
                store_unit(c + r + b * ROWS, ldc, acc + b * token_tiles(m) * 2, m, fe_min(ROWS, n - r - b * ROWS));  \
        }                                                                                                            \
        _tile_release();                                                                                             \
    }                                                                                                                \
    static size_t scratch_##name(size_t m, size_t k) {                                                               \
        return m < LEAST_TOKENS ? below[type].gemm_scratch(m, k) : sizeof(work) + BLOCKS * acc_bytes(m);             \
    }
#define GEMM_32(type, name, bytes, offset)                                                                   \
    GEMM(type, name, bytes,                                                                                  \
         unpack_##name(&(unpack_32){&s->panel.by_32, first, {rows + first, &ahead}}, fe_panel_groups(k, p)), \
         convert_32(s->weights[b], &s->panel.by_32, fe_panel_groups(k, p), offset))
#define GEMM_16(type, name, bytes, offset, has_min)                                                      \
    GEMM(type, name, bytes, unpack_##name(&(unpack_16){&s->panel.by_16, first, {rows + first, &ahead}}), \
         convert_16(s->weights[b], &s->panel.by_16, offset, has_min))

GEMM_32(FERRUM_Q4_0, q4_0, 8 * sizeof(fe_block_q4_0), 0)
GEMM_32(FERRUM_Q4_1, q4_1, 8 * sizeof(fe_block_q4_1), 0)
GEMM_32(FERRUM_Q5_0, q5_0, 8 * sizeof(fe_block_q5_0), 0)
GEMM_32(FERRUM_Q5_1, q5_1, 8 * sizeof(fe_block_q5_1), 0)
GEMM_32(FERRUM_Q8_0, q8_0, 8 * sizeof(fe_block_q8_0), 128)
GEMM_32(FERRUM_Q4_K, q4_k, sizeof(fe_block_q4_k), 0)
GEMM_32(FERRUM_Q5_K, q5_k, sizeof(fe_block_q5_k), 0)
GEMM_16(FERRUM_Q2_K, q2_k, sizeof(fe_block_q2_k), 0, true)
GEMM_16(FERRUM_Q3_K, q3_k, sizeof(fe_block_q3_k), 4, false)
GEMM_16(FERRUM_Q6_K, q6_k, sizeof(fe_block_q6_k), 32, false)

uint64_t fe_multiply_amx(size_t rounds) {
    static const tile_bf16 zero __attribute__((aligned(64)));
    _tile_loadconfig(&config);
    _tile_loadd(4, &zero, 64);
    _tile_loadd(5, &zero, 64);
    _tile_loadd(6, &zero, 64);
    _tile_loadd(7, &zero, 64);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return (uint64_t)rounds * 4 * 16 * 16 * 32 * 2;
}

/* ---- Table -------------------------------------------------------------------------------------------------------- */

#define ROW(type, name)                                                                                         \
    rows[type] = (fe_matmul_kernel){#name " amx", act_bytes,      pack,          pack_group,  below[type].gemv, \
                                    gemm_##name,  scratch_##name, BLOCKS * ROWS, LEAST_TOKENS};

/* The types with floating-point weights keep what they have. */
void fe_matmul_init_amx(fe_matmul_kernel rows[FE_TYPES]) {
    pthread_once(&below_once, fill_below);
    FE_EACH_QUANTISED(ROW)
}
