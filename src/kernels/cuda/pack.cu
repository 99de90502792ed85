/* Activations made ready for products. */
#include "ints.cuh"
#include "packs.cuh"

/* A thread an element; y: the row. */
KERNEL(FE_CUDA_WIDE) pack_ints(const __grid_constant__ fe_cuda_pack p) {
    begin();
    uint32_t i = blockIdx.x * FE_CUDA_WIDE + threadIdx.x;
    if (i < p.k) pack_int(p.out, p.scales, (uint64_t)blockIdx.y * p.k + i, p.a[(uint64_t)blockIdx.y * p.a_stride + i]);
}

/* A block a row: a thread keeps as many elements of it as the largest of a norm has, and reads the rest again. */
KERNEL(FE_CUDA_NORM) pack_halfs(const __grid_constant__ fe_cuda_pack p) {
    enum { EACH = FE_CUDA_NORM_EACH / 4 };
    __shared__ float parts[FE_CUDA_WARP];
    begin();
    const float4 *a = (const float4 *)(p.a + (uint64_t)blockIdx.x * p.a_stride);
    uint32_t quads = p.k / 4;
    float4 kept[EACH];
    float most = 0.0f;
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++)
        if (threadIdx.x + j * blockDim.x < quads) kept[j] = a[threadIdx.x + j * blockDim.x];
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++)
        if (threadIdx.x + j * blockDim.x < quads) most = fmaxf(most, largest_of(kept[j]));
    for (uint32_t i = threadIdx.x + EACH * blockDim.x; i < quads; i += blockDim.x) most = fmaxf(most, largest_of(a[i]));
    int exponent = exponent_of(block_max(most, parts));
    float down = ldexpf(1.0f, -exponent);
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        uint32_t i = threadIdx.x + j * blockDim.x;
        if (i < quads) put_halfs(p.out, p.rows, p.k, p.turned, blockIdx.x, 4 * i, kept[j], down);
    }
    for (uint32_t i = threadIdx.x + EACH * blockDim.x; i < quads; i += blockDim.x)
        put_halfs(p.out, p.rows, p.k, p.turned, blockIdx.x, 4 * i, a[i], down);
    if (threadIdx.x == 0) p.scales[blockIdx.x] = ldexpf(1.0f, exponent);
}
