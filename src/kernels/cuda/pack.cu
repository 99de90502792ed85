/* Activations made ready for products. */
#include "ints.cuh"

/* A thread an element; y: the row. */
KERNEL(FE_CUDA_WIDE) pack_ints(const __grid_constant__ fe_cuda_pack p) {
    begin();
    uint32_t i = blockIdx.x * FE_CUDA_WIDE + threadIdx.x;
    if (i < p.k) pack_int(p.out, p.scales, (uint64_t)blockIdx.y * p.k + i, p.a[(uint64_t)blockIdx.y * p.a_stride + i]);
}

/* Where elements i … i+3 go for the warpgroups' product, and i+2 and i+3 a chunk of 8 further: a thread t of four holds 16 elements
 * one behind the other of a stage's weights, of a step of 16 columns 2t, 2t+1, 2t+8, 2t+9; in the stages of a piece the next 16 each.
 * Eight rows of a stage are 1 KiB, a row's chunks of 16 bytes turned about by its number, as the 128-byte swizzle has it: a tile of
 * tokens comes to shared memory in one piece. */
INLINE __half *turn(const fe_cuda_pack &p, uint32_t row, uint32_t i, uint32_t further) {
    uint32_t run = i / 16 % (4 * p.turned), stage = i / 64 / p.turned * p.turned + run % p.turned;
    uint32_t chunk = i % 16 / 4 * 2 + further, within = run / p.turned * 2;
    __half *eight = (__half *)p.out + (stage * (uint64_t)((p.rows + 7) / 8) + row / 8) * 8 * FE_CUDA_STAGE;
    return eight + row % 8 * FE_CUDA_STAGE + (chunk ^ row % 8) * 8 + within;
}

/* A block a row. The power of two leaves the largest element below 2^9: far from half's limits on both sides. */
KERNEL(FE_CUDA_WIDE) pack_halfs(const __grid_constant__ fe_cuda_pack p) {
    __shared__ float parts[FE_CUDA_WARP];
    begin();
    const float *a = p.a + (uint64_t)blockIdx.x * p.a_stride;
    __half *out = (__half *)p.out + (uint64_t)blockIdx.x * p.k;
    float most = 0.0f;
    for (uint32_t i = threadIdx.x; i < p.k; i += FE_CUDA_WIDE) most = fmaxf(most, fabsf(a[i]));
    most = warp_max(most);
    if (lane_index() == 0) parts[warp_index()] = most;
    __syncthreads();
    most = warp_max(lane_index() < FE_CUDA_WIDE / FE_CUDA_WARP ? parts[lane_index()] : 0.0f);
    int exponent = 0;
    if (most > 0.0f && isfinite(most)) {
        frexpf(most, &exponent);
        exponent = min(max(exponent - 9, -100), 118);
    }
    float down = ldexpf(1.0f, -exponent);
    for (uint32_t i = 4 * threadIdx.x; i < p.k; i += 4 * FE_CUDA_WIDE) {
        __half2 low = __floats2half2_rn(a[i] * down, a[i + 1] * down),
                high = __floats2half2_rn(a[i + 2] * down, a[i + 3] * down);
        if (p.turned) {
            *(uint32_t *)turn(p, blockIdx.x, i, 0) = half2_bits(low);
            *(uint32_t *)turn(p, blockIdx.x, i, 1) = half2_bits(high);
        } else {
            *(uint2 *)(out + i) = make_uint2(half2_bits(low), half2_bits(high));
        }
    }
    if (threadIdx.x == 0) p.scales[blockIdx.x] = ldexpf(1.0f, exponent);
}
