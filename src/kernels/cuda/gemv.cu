/* Products with few tokens, and with weights of any alignment. Weights go from their blocks to registers; the threads of a block
 * stand side by side along a row, and meet in a sum. */
#include "ints.cuh"
#include "types.cuh"

/* Where a block's work lies. row: of a; out: of c. */
struct place {
    uint32_t product, group, n;
    const uchar *w, *up; /* up: the second weights of a gated product */
};

INLINE place find(const fe_cuda_matmul &p, uint32_t block, uint32_t pair) {
    place at;
    at.product = block < p.end[0] ? 0 : block < p.end[1] ? 1 : 2;
    at.group = block - (at.product ? p.end[at.product - 1] : 0);
    at.n = p.n[at.product];
    uint64_t slice = 0;
    if (p.used) {
        uint32_t token = pair / p.used;
        slice = (uint64_t)p.ids[(uint64_t)token * p.ids_stride + pair % p.used] * p.w_slice;
    }
    at.w = p.w[at.product] + slice;
    at.up = p.w[1] + slice;
    return at;
}

INLINE uint32_t row_of_a(const fe_cuda_matmul &p, uint32_t y) { return p.used ? y / p.a_used : y; }

/* A warp a row of the weights, elements 32 apart; x: rows, y: tokens or pairs. */
template <typename T> static __device__ void plain(const fe_cuda_matmul &p) {
    place at = find(p, blockIdx.x, blockIdx.y);
    uint32_t row = at.group * (blockDim.x / FE_CUDA_WARP) + warp_index();
    if (row >= at.n) return;
    const float *a = (const float *)p.a + (uint64_t)row_of_a(p, blockIdx.y) * p.a_stride;
    const uchar *w = at.w + row * p.w_stride[at.product];
    float sum = 0.0f;
    for (uint32_t i = lane_index(); i < p.k; i += FE_CUDA_WARP) sum = fmaf(T::weight(w, i), a[i], sum);
    sum = warp_sum(sum);
    if (lane_index() == 0) p.c[at.product][(uint64_t)blockIdx.y * p.c_stride[at.product] + row] = sum;
}

#define PLAIN(name, T)                                                                                \
    KERNEL(FE_CUDA_GEMV_WARPS *FE_CUDA_WARP) plain_##name(const __grid_constant__ fe_cuda_matmul p) { \
        begin();                                                                                      \
        plain<T>(p);                                                                                  \
    }
FOR_EACH_TYPE(PLAIN)

/* ---- Sums ---- */

/* The sums of a block's threads to c: ROWS rows of the weights from group · ROWS on (half as many of gate and up), TOKENS rows
 * of c from `first` on. */
template <int ROWS, int TOKENS>
INLINE void finish(const fe_cuda_matmul &p, const place &at, float (&sum)[ROWS][TOKENS], uint32_t first) {
    __shared__ float parts[FE_CUDA_GEMV_WARPS][ROWS * TOKENS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            float total = warp_sum(sum[r][t]);
            if (lane_index() == 0) parts[warp_index()][r * TOKENS + t] = total;
        }
    __syncthreads();
    uint32_t r = threadIdx.x / TOKENS, token = first + threadIdx.x % TOKENS, warps = blockDim.x / FE_CUDA_WARP;
    if (r >= ROWS || token >= p.m) return;
    float total = 0.0f;
    for (uint32_t i = 0; i < warps; i++) total += parts[i][threadIdx.x];
    float *c = p.c[at.product] + (uint64_t)token * p.c_stride[at.product];
    if (p.glu) {
        float up = 0.0f;
        if (r % 2) return;
        for (uint32_t i = 0; i < warps; i++) up += parts[i][threadIdx.x + TOKENS];
        uint32_t row = (at.group * ROWS + r) / 2;
        if (row < at.n) c[row] = gated(p.glu, total, up);
    } else {
        uint32_t row = at.group * ROWS + r;
        if (row < at.n) c[row] = total;
    }
}

/* Row r of a block's: of gate and up in turn, where both are wanted. What is past the end stays with the last. */
template <int ROWS> INLINE const uchar *weights_row(const fe_cuda_matmul &p, const place &at, int r) {
    if (!p.glu) return at.w + min(at.group * ROWS + r, at.n - 1) * p.w_stride[at.product];
    uint64_t row = min((at.group * ROWS + r) / 2, at.n - 1);
    return r % 2 ? at.up + row * p.w_stride[1] : at.w + row * p.w_stride[0];
}

/* ---- Integers: activations as the upper and lower bytes of 15 bits ---- */

INLINE chunk load_chunk(const fe_cuda_matmul &p, uint64_t at) {
    chunk c;
    c.upper = *((const uint4 *)p.a + 2 * at);
    c.lower = *((const uint4 *)p.a + 2 * at + 1);
    c.scale = *((const float2 *)p.scales + at);
    return c;
}

template <typename T, int ROWS, int TOKENS> static __device__ void gemv(const fe_cuda_matmul &p) {
    let_next_begin();
    if (p.used) await_others(); /* for the ids */
    uint32_t first = blockIdx.y * TOKENS;
    place at = find(p, blockIdx.x, first);
    const uchar *w[ROWS];
    float sum[ROWS][TOKENS] = {};
#pragma unroll
    for (int r = 0; r < ROWS; r++) w[r] = weights_row<ROWS>(p, at, r);
    uint32_t units = p.k / T::BLOCK * T::UNITS, chunks = p.k / FE_CUDA_CHUNK, i = threadIdx.x;
    unit32 u[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (i < units) T::unit(w[r] + i / T::UNITS * T::BYTES, i % T::UNITS, u[r]);
    if (!p.used) await_others();
    while (i < units) {
        uint32_t c = i / T::UNITS * (T::BLOCK / FE_CUDA_CHUNK) + T::start(i % T::UNITS) / FE_CUDA_CHUNK;
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            uint64_t row = (uint64_t)min(row_of_a(p, first + t), row_of_a(p, p.m - 1)) * chunks + c;
            chunk low = load_chunk(p, row), high = load_chunk(p, row + T::GAP / FE_CUDA_CHUNK);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                sum[r][t] += dot_run(u[r].q, u[r].scale[0], u[r].offset[0], low) +
                             dot_run(u[r].q + 4, u[r].scale[1], u[r].offset[1], high);
        }
        i += blockDim.x;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (i < units) T::unit(w[r] + i / T::UNITS * T::BYTES, i % T::UNITS, u[r]);
    }
    finish<ROWS, TOKENS>(p, at, sum, first);
}

#define GEMV_THREADS (FE_CUDA_GEMV_WARPS * FE_CUDA_WARP)
#define GEMV(name, T)                                                                \
    KERNEL(GEMV_THREADS) gemv_##name##_1(const __grid_constant__ fe_cuda_matmul p) { \
        gemv<T, FE_CUDA_GEMV_ROWS, 1>(p);                                            \
    }                                                                                \
    KERNEL(GEMV_THREADS) gemv_##name##_4(const __grid_constant__ fe_cuda_matmul p) { \
        gemv<T, FE_CUDA_GEMV_FEW, FE_CUDA_GEMV_TOKENS>(p);                           \
    }
FOR_EACH_QUANT(GEMV)

/* ---- Floats, eight at a time ---- */

template <typename T, int ROWS, int TOKENS> static __device__ void gemv_floats(const fe_cuda_matmul &p) {
    begin();
    uint32_t first = blockIdx.y * TOKENS;
    place at = find(p, blockIdx.x, first);
    const uchar *w[ROWS];
    float sum[ROWS][TOKENS] = {};
#pragma unroll
    for (int r = 0; r < ROWS; r++) w[r] = weights_row<ROWS>(p, at, r);
    for (uint32_t i = 8 * threadIdx.x; i < p.k; i += 8 * blockDim.x) {
        float x[ROWS][8];
#pragma unroll
        for (int r = 0; r < ROWS; r++) T::eight(w[r] + (uint64_t)i * T::BYTES, x[r]);
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            const float *a =
                (const float *)p.a + (uint64_t)min(row_of_a(p, first + t), row_of_a(p, p.m - 1)) * p.a_stride + i;
            float4 low = *(const float4 *)a, high = *((const float4 *)a + 1);
            const float y[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int j = 0; j < 8; j++) sum[r][t] = fmaf(x[r][j], y[j], sum[r][t]);
        }
    }
    finish<ROWS, TOKENS>(p, at, sum, first);
}

#define GEMV_FLOATS(name, T)                                                         \
    KERNEL(GEMV_THREADS) gemv_##name##_1(const __grid_constant__ fe_cuda_matmul p) { \
        gemv_floats<T, FE_CUDA_GEMV_ROWS, 1>(p);                                     \
    }                                                                                \
    KERNEL(GEMV_THREADS) gemv_##name##_4(const __grid_constant__ fe_cuda_matmul p) { \
        gemv_floats<T, FE_CUDA_GEMV_FEW, FE_CUDA_GEMV_TOKENS>(p);                    \
    }
FOR_EACH_FLOAT(GEMV_FLOATS)
