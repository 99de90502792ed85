/* Matmul in plain C, for every block type: what any machine can run, and the measure of the other instruction sets.
 * A panel of 256 weights is unpacked to signed integers with a scale and an addend per group of 16 or 32, the same for
 * every type; the integer product with the activations (act.h) is exact, the groups are summed in fp32. */
#include "kernels/cpu/act.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd_c.h"

#include <string.h>

/* ---- Activations -------------------------------------------------------------------------------------------------- */

static size_t act_bytes(size_t m, size_t k) { return m * fe_act_panels(k) * sizeof(fe_act_panel); }

/* One part of group g of a panel from 32 floats: what it adds to the stretch's energy. */
static float pack_group(fe_act_panel *panel, size_t part, size_t g, const float *x) {
    uint32_t max = 0;
    for (size_t i = 0; i < 32; i++) {
        uint32_t bits = fe_f32_bits(x[i]) & 0x7FFFFFFF;
        max = bits > max ? bits : max;
    }
    float r, d = fe_act_scale(max, &r);
    int sum[2] = {0, 0}, squares = 0;
    for (size_t i = 0; i < 32; i++) {
        int q = r > 0 ? (int)nearbyintf(x[i] * r) : 0;
        panel->q[part][g * 32 + i] = (int8_t)q;
        sum[i / 16] += q;
        squares += q * q;
    }
    panel->d[part][g] = d;
    panel->ds[g] += d * (float)(sum[0] + sum[1]);
    panel->s16[2 * g] += d * (float)sum[0];
    panel->s16[2 * g + 1] += d * (float)sum[1];
    return fe_act_energy(d, squares);
}

static void pack_rest(fe_act_panel *panel, size_t g, const float *x) {
    float rest[32];
    for (size_t i = 0; i < 32; i++) {
        float taken = panel->d[0][g] * (float)panel->q[0][g * 32 + i];
        rest[i] = x[i] - taken;
    }
    pack_group(panel, 1, g, rest);
    panel->rest |= 1u << g;
}

/* The groups of a stretch, from its first panel on. */
static void pack_stretch(fe_act_panel *panels, const float *x, size_t groups, float above) {
    float energy = 0;
    for (size_t g = 0; g < groups; g++)
        energy += pack_group(panels + g / FE_PANEL_GROUPS, 0, g % FE_PANEL_GROUPS, x + g * 32);
    float limit = fe_act_limit(energy, groups, above);
    for (size_t g = 0; g < groups; g++) {
        fe_act_panel *panel = panels + g / FE_PANEL_GROUPS;
        float d = panel->d[0][g % FE_PANEL_GROUPS];
        if (d * d > limit) pack_rest(panel, g % FE_PANEL_GROUPS, x + g * 32);
    }
}

static void pack(void *act, const float *x, size_t ldx, size_t m, size_t k, size_t first, size_t count, float above) {
    (void)m;
    size_t panels = fe_act_panels(k);
    for (size_t i = first; i < first + count; i++) {
        fe_act_panel *row = (fe_act_panel *)act + i * panels;
        memset(row, 0, panels * sizeof *row);
        for (size_t p = 0; p < panels; p += FE_STRETCH_PANELS)
            pack_stretch(row + p, x + i * ldx + p * FE_PANEL, fe_stretch_groups(k, p), above);
    }
}

/* ---- Weights ------------------------------------------------------------------------------------------------------ */

/* 256 weights: w = scale · q + add, a scale and an addend for each group of 16 (K-quants with 16 scales) or 32. */
typedef struct panel {
    int8_t q[256];
    float scale[16], add[16];
} panel;

/* n bytes: their low nibbles, then their high ones, less an offset. */
static inline void nibbles(int8_t *restrict q, const uint8_t *restrict qs, size_t n, int offset) {
    for (size_t i = 0; i < n; i++) {
        q[i] = (int8_t)((qs[i] & 15) - offset);
        q[n + i] = (int8_t)((qs[i] >> 4) - offset);
    }
}
/* 16 more where one of 32 bits is set. */
static inline void add_fifth_bits(int8_t *restrict q, const uint8_t qh[4]) {
    for (size_t i = 0; i < 32; i++) q[i] = (int8_t)(q[i] + (qh[i / 8] >> i % 8 & 1) * 16);
}

/* Blocks of 32, `groups` of them. */
static void unpack_q4_0(panel *p, const uint8_t *w, size_t groups) {
    fe_block_q4_0 b;
    for (size_t g = 0; g < groups; g++) {
        memcpy(&b, w + g * sizeof b, sizeof b);
        p->scale[g] = fe_f16_to_f32(b.d);
        p->add[g] = 0;
        nibbles(p->q + g * 32, b.qs, 16, 8);
    }
}

static void unpack_q4_1(panel *p, const uint8_t *w, size_t groups) {
    fe_block_q4_1 b;
    for (size_t g = 0; g < groups; g++) {
        memcpy(&b, w + g * sizeof b, sizeof b);
        p->scale[g] = fe_f16_to_f32(b.d);
        p->add[g] = fe_f16_to_f32(b.m);
        nibbles(p->q + g * 32, b.qs, 16, 0);
    }
}

static void unpack_q5_0(panel *p, const uint8_t *w, size_t groups) {
    fe_block_q5_0 b;
    for (size_t g = 0; g < groups; g++) {
        memcpy(&b, w + g * sizeof b, sizeof b);
        p->scale[g] = fe_f16_to_f32(b.d);
        p->add[g] = 0;
        nibbles(p->q + g * 32, b.qs, 16, 16);
        add_fifth_bits(p->q + g * 32, b.qh);
    }
}

static void unpack_q5_1(panel *p, const uint8_t *w, size_t groups) {
    fe_block_q5_1 b;
    for (size_t g = 0; g < groups; g++) {
        memcpy(&b, w + g * sizeof b, sizeof b);
        p->scale[g] = fe_f16_to_f32(b.d);
        p->add[g] = fe_f16_to_f32(b.m);
        nibbles(p->q + g * 32, b.qs, 16, 0);
        add_fifth_bits(p->q + g * 32, b.qh);
    }
}

static void unpack_q8_0(panel *p, const uint8_t *w, size_t groups) {
    fe_block_q8_0 b;
    for (size_t g = 0; g < groups; g++) {
        memcpy(&b, w + g * sizeof b, sizeof b);
        p->scale[g] = fe_f16_to_f32(b.d);
        p->add[g] = 0;
        memcpy(p->q + g * 32, b.qs, 32);
    }
}

/* Super-blocks of 256: one, with all 8 groups. */

static void unpack_q2_k(panel *p, const uint8_t *w, size_t groups) {
    (void)groups;
    fe_block_q2_k b;
    memcpy(&b, w, sizeof b);
    float d = fe_f16_to_f32(b.d), dmin = fe_f16_to_f32(b.dmin);
    for (size_t j = 0; j < 16; j++) {
        p->scale[j] = d * (float)(b.scales[j] & 15);
        p->add[j] = -dmin * (float)(b.scales[j] >> 4);
    }
    for (size_t g = 0; g < 8; g++) {
        const uint8_t *qs = b.qs + g / 4 * 32;
        for (size_t i = 0; i < 32; i++) p->q[g * 32 + i] = qs[i] >> g % 4 * 2 & 3;
    }
}

/* Six-bit scales less 32: four bits in a nibble of bytes 0 … 7, two in bytes 8 … 11. No bit in hmask: 4 is taken off. */
static void unpack_q3_k(panel *p, const uint8_t *w, size_t groups) {
    (void)groups;
    fe_block_q3_k b;
    memcpy(&b, w, sizeof b);
    float d = fe_f16_to_f32(b.d);
    for (size_t j = 0; j < 16; j++) {
        int scale = (b.scales[j % 8] >> (j / 8 * 4) & 15) | (b.scales[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
        p->scale[j] = d * (float)(scale - 32);
        p->add[j] = 0;
    }
    for (size_t g = 0; g < 8; g++) {
        const uint8_t *qs = b.qs + g / 4 * 32;
        for (size_t i = 0; i < 32; i++) {
            int q = (qs[i] >> g % 4 * 2 & 3) | (b.hmask[i] >> g & 1) << 2;
            p->q[g * 32 + i] = (int8_t)(q - 4);
        }
    }
}

/* Six-bit scales and minimums of Q4_K and Q5_K: the first four of each in the low bits of bytes 0 … 3 and 4 … 7, whose two
 * upper bits belong to the other four, with their low bits in bytes 8 … 11, the scale's below the minimum's. */
static void unpack_scales(panel *p, const uint8_t s[12], float d, float dmin) {
    for (size_t j = 0; j < 4; j++) {
        p->scale[j] = d * (float)(s[j] & 63);
        p->add[j] = -dmin * (float)(s[j + 4] & 63);
        p->scale[j + 4] = d * (float)((s[j + 8] & 15) | s[j] >> 6 << 4);
        p->add[j + 4] = -dmin * (float)(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
    }
}

static void unpack_q4_k(panel *p, const uint8_t *w, size_t groups) {
    (void)groups;
    fe_block_q4_k b;
    memcpy(&b, w, sizeof b);
    unpack_scales(p, b.scales, fe_f16_to_f32(b.d), fe_f16_to_f32(b.dmin));
    for (size_t c = 0; c < 4; c++) nibbles(p->q + c * 64, b.qs + c * 32, 32, 0);
}

static void unpack_q5_k(panel *p, const uint8_t *w, size_t groups) {
    (void)groups;
    fe_block_q5_k b;
    memcpy(&b, w, sizeof b);
    unpack_scales(p, b.scales, fe_f16_to_f32(b.d), fe_f16_to_f32(b.dmin));
    for (size_t c = 0; c < 4; c++) nibbles(p->q + c * 64, b.qs + c * 32, 32, 0);
    for (size_t g = 0; g < 8; g++) {
        int8_t *q = p->q + g * 32;
        for (size_t i = 0; i < 32; i++) q[i] = (int8_t)(q[i] | (b.qh[i] >> g & 1) << 4);
    }
}

static void unpack_q6_k(panel *p, const uint8_t *w, size_t groups) {
    (void)groups;
    fe_block_q6_k b;
    memcpy(&b, w, sizeof b);
    float d = fe_f16_to_f32(b.d);
    for (size_t j = 0; j < 16; j++) {
        p->scale[j] = d * (float)b.scales[j];
        p->add[j] = 0;
    }
    for (size_t h = 0; h < 2; h++) nibbles(p->q + h * 128, b.ql + h * 64, 64, 32);
    for (size_t g = 0; g < 8; g++) {
        const uint8_t *qh = b.qh + g / 4 * 32;
        int8_t *q = p->q + g * 32;
        for (size_t i = 0; i < 32; i++) q[i] = (int8_t)(q[i] + (qh[i] >> g % 4 * 2 & 3) * 16);
    }
}

/* ---- Quantised products ------------------------------------------------------------------------------------------- */

static inline int dot_i8(const int8_t *a, const int8_t *b, size_t n) {
    int sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static inline float dot_panel_32(const panel *w, const fe_act_panel *x, size_t groups) {
    float sum = 0;
    for (size_t g = 0; g < groups; g++) {
        sum += w->scale[g] * x->d[0][g] * (float)dot_i8(w->q + g * 32, x->q[0] + g * 32, 32) + w->add[g] * x->ds[g];
        if (x->rest >> g & 1) sum += w->scale[g] * x->d[1][g] * (float)dot_i8(w->q + g * 32, x->q[1] + g * 32, 32);
    }
    return sum;
}

static inline float dot_panel_16(const panel *w, const fe_act_panel *x, size_t groups) {
    float sum = 0;
    for (size_t j = 0; j < groups * 2; j++) {
        sum +=
            w->scale[j] * x->d[0][j / 2] * (float)dot_i8(w->q + j * 16, x->q[0] + j * 16, 16) + w->add[j] * x->s16[j];
        if (x->rest >> j / 2 & 1)
            sum += w->scale[j] * x->d[1][j / 2] * (float)dot_i8(w->q + j * 16, x->q[1] + j * 16, 16);
    }
    return sum;
}

enum { GEMM_ROWS = 4 };

static size_t gemm_scratch(size_t m, size_t k) {
    (void)m;
    return fe_act_panels(k) * sizeof(panel);
}

/* gemv unpacks panel by panel; gemm a whole row, once for all tokens. `bytes` is what a panel of weights takes. */
#define QUANTISED(type, dot, bytes)                                                                                    \
    static void gemv_##type(float *y, const void *w, size_t stride, size_t n, const void *act, size_t k) {             \
        const fe_act_panel *x = act;                                                                                   \
        for (size_t r = 0; r < n; r++) {                                                                               \
            const uint8_t *row = (const uint8_t *)w + r * stride;                                                      \
            float sum = 0;                                                                                             \
            for (size_t p = 0; p < fe_act_panels(k); p++) {                                                            \
                panel unpacked;                                                                                        \
                unpack_##type(&unpacked, row + p * (bytes), fe_panel_groups(k, p));                                    \
                sum += dot(&unpacked, x + p, fe_panel_groups(k, p));                                                   \
            }                                                                                                          \
            y[r] = sum;                                                                                                \
        }                                                                                                              \
    }                                                                                                                  \
    static void gemm_##type(float *c, size_t ldc, const void *w, size_t stride, size_t n, const void *act, size_t m,   \
                            size_t k, void *scratch) {                                                                 \
        panel *unpacked = scratch;                                                                                     \
        size_t panels = fe_act_panels(k);                                                                              \
        for (size_t r = 0; r < n; r++) {                                                                               \
            const uint8_t *row = (const uint8_t *)w + r * stride;                                                      \
            for (size_t p = 0; p < panels; p++) unpack_##type(unpacked + p, row + p * (bytes), fe_panel_groups(k, p)); \
            for (size_t i = 0; i < m; i++) {                                                                           \
                const fe_act_panel *x = (const fe_act_panel *)act + i * panels;                                        \
                float sum = 0;                                                                                         \
                for (size_t p = 0; p < panels; p++) sum += dot(unpacked + p, x + p, fe_panel_groups(k, p));            \
                c[i * ldc + r] = sum;                                                                                  \
            }                                                                                                          \
        }                                                                                                              \
    }

QUANTISED(q4_0, dot_panel_32, 8 * sizeof(fe_block_q4_0))
QUANTISED(q4_1, dot_panel_32, 8 * sizeof(fe_block_q4_1))
QUANTISED(q5_0, dot_panel_32, 8 * sizeof(fe_block_q5_0))
QUANTISED(q5_1, dot_panel_32, 8 * sizeof(fe_block_q5_1))
QUANTISED(q8_0, dot_panel_32, 8 * sizeof(fe_block_q8_0))
QUANTISED(q2_k, dot_panel_16, sizeof(fe_block_q2_k))
QUANTISED(q3_k, dot_panel_16, sizeof(fe_block_q3_k))
QUANTISED(q4_k, dot_panel_32, sizeof(fe_block_q4_k))
QUANTISED(q5_k, dot_panel_32, sizeof(fe_block_q5_k))
QUANTISED(q6_k, dot_panel_16, sizeof(fe_block_q6_k))

/* ---- Float products ----------------------------------------------------------------------------------------------- */

static inline vf load_f32(const uint8_t *w) {
    vf v;
    memcpy(&v, w, sizeof v);
    return v;
}
static inline vf load_f16(const uint8_t *w) {
    uint16_t h[VF];
    memcpy(h, w, sizeof h);
    return (vf){fe_f16_to_f32(h[0]), fe_f16_to_f32(h[1]), fe_f16_to_f32(h[2]), fe_f16_to_f32(h[3])};
}
static inline vf load_bf16(const uint8_t *w) {
    uint16_t b[VF];
    memcpy(b, w, sizeof b);
    return (vf){fe_bf16_to_f32(b[0]), fe_bf16_to_f32(b[1]), fe_bf16_to_f32(b[2]), fe_bf16_to_f32(b[3])};
}

enum { FLOAT_TOKENS = 2 };
#include "kernels/cpu/matmul_float_template.h"

uint64_t fe_multiply_c(size_t rounds) {
    enum { N = 1024 };
    static const int8_t a[N] = {1, 2, 3}, b[N] = {3, 2, 1};
    volatile int sink = 0;
    for (size_t i = 0; i < rounds; i++) sink = sink + dot_i8(a, b, N);
    return (uint64_t)rounds * 2 * N;
}

/* ---- Table -------------------------------------------------------------------------------------------------------- */

#define ROW(type, name)                                                                                        \
    rows[type] = (fe_matmul_kernel){#name " c",   act_bytes, pack, float_pack_group, gemv_##name, gemm_##name, \
                                    gemm_scratch, GEMM_ROWS, 0};

void fe_matmul_init_c(fe_matmul_kernel rows[FE_TYPES]) {
    rows[FERRUM_F32] = (fe_matmul_kernel)FLOAT_ROW(f32, "c");
    rows[FERRUM_F16] = (fe_matmul_kernel)FLOAT_ROW(f16, "c");
    rows[FERRUM_BF16] = (fe_matmul_kernel)FLOAT_ROW(bf16, "c");
    FE_EACH_QUANTISED(ROW)
}
