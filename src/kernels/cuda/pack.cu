/* Activations made ready for products. */
#include "ints.cuh"

/* A thread an element; y: the row. */
KERNEL(FE_CUDA_WIDE) pack_ints(const __grid_constant__ fe_cuda_pack p) {
    begin();
    uint32_t i = blockIdx.x * FE_CUDA_WIDE + threadIdx.x;
    if (i < p.k) pack_int(p.out, p.scales, (uint64_t)blockIdx.y * p.k + i, p.a[(uint64_t)blockIdx.y * p.a_stride + i]);
}

/* Where element i of 32 goes for the warpgroups' product: a thread t of four holds elements 8t … 8t+7 of the weights in two
 * steps of 16, of each at columns 2t, 2t+1, 2t+8, 2t+9. */
INLINE uint32_t turn(uint32_t i) {
    uint32_t t = i / 8, step = i / 4 % 2, j = i % 4;
    return 16 * step + 2 * t + (j & 1) + (j & 2) * 4;
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
        __half2 low = __floats2half2_rn(a[i] * down, a[i + 1] * down), high = __floats2half2_rn(a[i + 2] * down, a[i + 3] * down);
        if (p.turned) {
            uint32_t to = i / 32 * 32 + turn(i % 32);
            *(uint32_t *)(out + to) = half2_bits(low);
            *(uint32_t *)(out + to + 8) = half2_bits(high);
        } else {
            *(uint2 *)(out + i) = make_uint2(half2_bits(low), half2_bits(high));
        }
    }
    if (threadIdx.x == 0) p.scales[blockIdx.x] = ldexpf(1.0f, exponent);
}
