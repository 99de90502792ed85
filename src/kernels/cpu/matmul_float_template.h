/* Matmul with F32, F16 and BF16 weights: fp32 activations, products and sums. A file for each instruction set includes
 * its simd_ISA.h, defines load_f32, load_f16 and load_bf16 (a vector of weights at any alignment) and FLOAT_TOKENS, and
 * includes this. Vectors run along k; a tile of 4 rows x FLOAT_TOKENS tokens, or 4 rows x 1, stays in registers. GEMV is the
 * latter: row by row, the activations' loads from the cache held up those of the weights. */
#include "kernels/cpu/act.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

#define FLOAT_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define FLOAT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FLOAT_UNROLL _Pragma("GCC unroll 16")
#endif

enum { FLOAT_ROWS = 4, FLOAT_UNIT = 32 };

typedef vf (*load_fn)(const uint8_t *w);

static size_t float_act_bytes(size_t m, size_t k) { return m * fe_act_float_stride(k) * sizeof(float); }

static void float_pack(void *act, const float *x, size_t ldx, size_t m, size_t k, size_t first, size_t count,
                       float above) {
    (void)m, (void)above;
    size_t stride = fe_act_float_stride(k);
    for (size_t i = first; i < first + count; i++) {
        float *row = (float *)act + i * stride;
        memcpy(row, x + i * ldx, k * sizeof *row);
        memset(row + k, 0, (stride - k) * sizeof *row);
    }
}

static size_t float_pack_group(size_t m) {
    (void)m;
    return 1;
}

static size_t float_scratch(size_t m, size_t k) {
    (void)m, (void)k;
    return 64; /* none is used */
}

/* n < VF weights of `size` bytes, then zeros. */
FLOAT_INLINE vf load_end(const uint8_t *w, size_t n, size_t size, load_fn load) {
    uint8_t end[VF * sizeof(float)] = {0};
    memcpy(end, w, n * size);
    return load(end);
}

/* c[j·ldc + i] = w[i] · x row j for `rows` of 4 rows (the pointers of the others are valid too) and `tokens` tokens. */
FLOAT_INLINE void float_tile(float *c, size_t ldc, const uint8_t *const w[FLOAT_ROWS], size_t rows, const float *x,
                             size_t ldx, size_t k, size_t tokens, size_t size, load_fn load) {
    vf sum[FLOAT_ROWS][FLOAT_TOKENS], v[FLOAT_TOKENS];
    FLOAT_UNROLL for (size_t i = 0; i < FLOAT_ROWS; i++) {
        FLOAT_UNROLL for (size_t j = 0; j < tokens; j++) sum[i][j] = vf_set(0);
    }
    size_t l = 0;
    for (; l + VF <= k; l += VF) {
        FLOAT_UNROLL for (size_t j = 0; j < tokens; j++) v[j] = vf_load(x + j * ldx + l);
        FLOAT_UNROLL for (size_t i = 0; i < FLOAT_ROWS; i++) {
            vf u = load(w[i] + l * size);
            FLOAT_UNROLL for (size_t j = 0; j < tokens; j++) sum[i][j] = vf_fma(u, v[j], sum[i][j]);
        }
    }
    if (l < k) {
        FLOAT_UNROLL for (size_t i = 0; i < FLOAT_ROWS; i++) {
            vf u = load_end(w[i] + l * size, k - l, size, load);
            FLOAT_UNROLL for (size_t j = 0; j < tokens; j++) sum[i][j] = vf_fma(u, vf_load(x + j * ldx + l), sum[i][j]);
        }
    }
    for (size_t i = 0; i < rows; i++) {
        FLOAT_UNROLL for (size_t j = 0; j < tokens; j++) c[j * ldc + i] = vf_sum(sum[i][j]);
    }
}

/* Units of 32 rows, so that a tile's activations are read from afar once a unit. */
FLOAT_INLINE void float_gemm(float *c, size_t ldc, const uint8_t *w, size_t stride, size_t n, const float *x, size_t m,
                             size_t k, size_t size, load_fn load) {
    size_t ldx = fe_act_float_stride(k);
    for (size_t first = 0; first < n; first += FLOAT_UNIT) {
        for (size_t i = 0; i < m;) {
            size_t tokens = m - i < FLOAT_TOKENS ? 1 : FLOAT_TOKENS;
            for (size_t r = first; r < fe_min(first + FLOAT_UNIT, n); r += FLOAT_ROWS) {
                const uint8_t *rows[FLOAT_ROWS];
                for (size_t j = 0; j < FLOAT_ROWS; j++) rows[j] = w + fe_min(r + j, n - 1) * stride;
                float *out = c + i * ldc + r;
                size_t valid = fe_min(FLOAT_ROWS, n - r);
                if (tokens == 1)
                    float_tile(out, ldc, rows, valid, x + i * ldx, ldx, k, 1, size, load);
                else
                    float_tile(out, ldc, rows, valid, x + i * ldx, ldx, k, FLOAT_TOKENS, size, load);
            }
            i += tokens;
        }
    }
}

#define FLOAT_KERNELS(type, size)                                                                                    \
    static void gemv_##type(float *y, const void *w, size_t stride, size_t n, const void *act, size_t k) {           \
        float_gemm(y, n, w, stride, n, act, 1, k, size, load_##type);                                                \
    }                                                                                                                \
    static void gemm_##type(float *c, size_t ldc, const void *w, size_t stride, size_t n, const void *act, size_t m, \
                            size_t k, void *scratch) {                                                               \
        (void)scratch;                                                                                               \
        float_gemm(c, ldc, w, stride, n, act, m, k, size, load_##type);                                              \
    }
FLOAT_KERNELS(f32, 4)
FLOAT_KERNELS(f16, 2)
FLOAT_KERNELS(bf16, 2)

#define FLOAT_ROW(type, isa)                                                                                   \
    {                                                                                                          \
#type " " isa, float_act_bytes, float_pack, float_pack_group, gemv_##type, gemm_##type, float_scratch, \
            FLOAT_UNIT, 0                                                                                      \
    }
