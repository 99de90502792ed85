/* Products with more tokens, on the tensor cores. The weights are the left factor: 16 of their rows make a tile, and go from
 * their blocks to registers without a stop. Warps of a block share k: with few tokens what counts is to have many loads on their
 * way. */
#include "halves.cuh"

enum { THREADS = FE_CUDA_TILE_WARPS * FE_CUDA_WARP };

/* TILES · 16 rows of the weights (x) times COLUMNS · 8 tokens (y), of expert z. */
template <typename T, int TILES, int COLUMNS> static __device__ void gemm(const fe_cuda_matmul &p, float *parts) {
    uint32_t first = blockIdx.y * COLUMNS * 8, rows = rows_of_c(p);
    if (first >= rows) return;
    uint32_t product = blockIdx.x < p.end[0] ? 0 : blockIdx.x < p.end[1] ? 1 : 2;
    uint32_t row = (blockIdx.x - (product ? p.end[product - 1] : 0)) * TILES * 16, n = p.n[product];
    uint32_t g = lane_index() / 4, t = lane_index() % 4, groups = p.k / 32;
    const uchar *base = p.w[product] + blockIdx.z * p.w_slice, *w[2 * TILES];
    const uint4 *b[COLUMNS];
    float sum[TILES][COLUMNS][4] = {};
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) w[i] = base + min(row + 8 * i + g, n - 1) * p.w_stride[product];
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
        b[j] = (const uint4 *)p.a + packed_row(p, row_of_c(p, min(first + 8 * j + g, rows - 1))) * (uint64_t)(p.k / 8) + t;
    for (uint32_t pair = warp_index(); 2 * pair < groups; pair += FE_CUDA_TILE_WARPS) {
        eight<T> e[2][2 * TILES];
        uint4 x[2][COLUMNS] = {};
        bool both = 2 * pair + 1 < groups; /* else the second is as good as zero */
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 2 * TILES; j++) eight<T>::fetch(w[j], min(2 * pair + i, groups - 1), t, e[i][j]);
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < COLUMNS; j++)
                if (i == 0 || both) x[i][j] = b[j][4 * (2 * pair + i)];
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
#pragma unroll
            for (int r = 0; r < TILES; r++) {
                uint32_t u[4], v[4];
                e[i][2 * r].halves(u);
                e[i][2 * r + 1].halves(v);
                const uint32_t a0[4] = {u[0], v[0], u[1], v[1]}, a1[4] = {u[2], v[2], u[3], v[3]};
#pragma unroll
                for (int j = 0; j < COLUMNS; j++) {
                    mma(sum[r][j], a0, x[i][j].x, x[i][j].y);
                    mma(sum[r][j], a1, x[i][j].z, x[i][j].w);
                }
            }
    }
    enum { SUMS = TILES * COLUMNS * 4 };
    float *own = parts + warp_index() * SUMS * FE_CUDA_WARP + lane_index();
#pragma unroll
    for (int i = 0; i < SUMS; i++) own[i * FE_CUDA_WARP] = (&sum[0][0][0])[i];
    __syncthreads();
    for (uint32_t at = threadIdx.x; at < SUMS * FE_CUDA_WARP; at += THREADS) {
        float total = 0.0f;
        for (uint32_t i = 0; i < FE_CUDA_TILE_WARPS; i++) total += parts[i * SUMS * FE_CUDA_WARP + at];
        uint32_t i = at / FE_CUDA_WARP, lane = at % FE_CUDA_WARP; /* sum[tile][column][i % 4] of that lane */
        uint32_t r = row + i / 4 / COLUMNS * 16 + lane / 4 + (i & 2) * 4;
        uint32_t index = first + i / 4 % COLUMNS * 8 + lane % 4 * 2 + (i & 1);
        if (r >= n || index >= rows) continue;
        uint32_t to = row_of_c(p, index);
        p.c[product][(uint64_t)to * p.c_stride[product] + r] = total * p.scales[packed_row(p, to)];
    }
}

#define GEMM_OF(name, T, tokens, TILES)                                                        \
    KERNEL(THREADS) gemm_##name##_##tokens(const __grid_constant__ fe_cuda_matmul p) {         \
        __shared__ float parts[THREADS * TILES * (tokens / 8) * 4];                            \
        begin();                                                                               \
        gemm<T, TILES, tokens / 8>(p, parts);                                                  \
    }
#define GEMM(name, T) GEMM_OF(name, T, 8, 1) GEMM_OF(name, T, 16, 2) GEMM_OF(name, T, 32, 2)
GEMM(f16, F16)
FOR_EACH_QUANT(GEMM)

/* What the tensor cores give by themselves: eight warps with eight sums each. */
KERNEL(THREADS) peak(const __grid_constant__ fe_cuda_peak p) {
    begin();
    float sum[8][4] = {}, total = 0.0f;
    uint32_t a[4];
    for (int i = 0; i < 4; i++) a[i] = 0x3C003800u ^ (threadIdx.x * 2654435761u >> i & 0x83FF83FFu);
    for (uint32_t round = 0; round < p.rounds; round++)
#pragma unroll
        for (int i = 0; i < 8; i++) mma(sum[i], a, a[i % 4], a[(i + 1) % 4]);
#pragma unroll
    for (int i = 0; i < 32; i++) total += (&sum[0][0])[i];
    p.out[blockIdx.x * THREADS + threadIdx.x] = total;
}
