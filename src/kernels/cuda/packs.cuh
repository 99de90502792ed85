/* Activations as halves, divided by a power of two a row: as rows, or as the warpgroups' product reads them. */
#ifndef FE_CUDA_PACKS_CUH
#define FE_CUDA_PACKS_CUH

#include "device.cuh"

/* The exponent of the power of two that leaves the largest element of a row below 2^9: far from half's limits on both sides. */
INLINE int exponent_of(float most) {
    int exponent = 0;
    if (most == 0.0f || !isfinite(most)) return 0;
    frexpf(most, &exponent);
    return min(max(exponent - 9, -100), 118);
}

INLINE float largest_of(float4 x) { return fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w))); }

/* Where elements i … i+3 go for the warpgroups' product, and i+2 and i+3 a chunk of 8 further: a thread t of four holds 16 elements
 * one behind the other of a stage's weights, of a step of 16 columns 2t, 2t+1, 2t+8, 2t+9; in the stages of a piece, `turned` of them,
 * the next 16 each. Eight rows of a stage are 1 KiB, a row's chunks of 16 bytes turned about by its number, as the 128-byte swizzle
 * has it: a tile of tokens comes to shared memory in one piece. */
INLINE __half *turn(void *out, uint32_t rows, uint32_t turned, uint32_t row, uint32_t i, uint32_t further) {
    uint32_t run = i / 16 % (4 * turned), stage = i / 64 / turned * turned + run % turned;
    uint32_t chunk = i % 16 / 4 * 2 + further, within = run / turned * 2;
    __half *eight = (__half *)out + (stage * (uint64_t)((rows + 7) / 8) + row / 8) * 8 * FE_CUDA_STAGE;
    return eight + row % 8 * FE_CUDA_STAGE + (chunk ^ row % 8) * 8 + within;
}

/* Elements i … i+3 of a row of k, times `down`. turned: 0, or as above. */
INLINE void put_halfs(void *out, uint32_t rows, uint32_t k, uint32_t turned, uint32_t row, uint32_t i, float4 x,
                      float down) {
    uint32_t low = half2_bits(__floats2half2_rn(x.x * down, x.y * down)),
             high = half2_bits(__floats2half2_rn(x.z * down, x.w * down));
    if (turned) {
        *(uint32_t *)turn(out, rows, turned, row, i, 0) = low;
        *(uint32_t *)turn(out, rows, turned, row, i, 1) = high;
    } else {
        *(uint2 *)((__half *)out + (uint64_t)row * k + i) = make_uint2(low, high);
    }
}

#endif
