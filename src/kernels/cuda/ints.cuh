/* Activations as integers: 16 of them share a scale. */
#ifndef FE_CUDA_INTS_CUH
#define FE_CUDA_INTS_CUH

#include "device.cuh"

/* Element `at` of the packed rows, being x; 16 lanes side by side have the elements of a chunk, and all of them come here.
 * Integers up to 127 · 128, so that the upper part is one of -127 … 127 and the lower one of -64 … 63. A chunk with a number
 * that is none gives NaN. */
INLINE void pack_int(void *out, float *scales, uint64_t at, float x) {
    uint32_t lanes = 0xFFFFu << (lane_index() & 16);
    float most = fabsf(x), check = x * 0.0f; /* NaN of what is not finite */
    for (int i = 8; i > 0; i /= 2) {
        most = fmaxf(most, __shfl_xor_sync(lanes, most, i));
        check += __shfl_xor_sync(lanes, check, i);
    }
    float d = most / 16256.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
    if (!isfinite(inverse)) inverse = 0.0f;
    int value = __float2int_rn(x * inverse), upper = (value + 64) >> 7, sum = value;
    for (int i = 8; i > 0; i /= 2) sum += __shfl_xor_sync(lanes, sum, i);
    signed char *to = (signed char *)out + at / FE_CUDA_CHUNK * 2 * FE_CUDA_CHUNK + at % FE_CUDA_CHUNK;
    to[0] = (signed char)upper;
    to[FE_CUDA_CHUNK] = (signed char)(value - upper * 128);
    d += check;
    if (at % FE_CUDA_CHUNK == 0) ((float2 *)scales)[at / FE_CUDA_CHUNK] = make_float2(d, d * (float)sum);
}

/* A chunk of activations, and its product with 16 bytes of weights: all sums of integers are exact. */
struct chunk {
    uint4 upper, lower;
    float2 scale; /* d, d · Σx */
};

INLINE float dot_run(const uint32_t *q, float scale, float offset, const chunk &c) {
    int upper = __dp4a((int)q[0], (int)c.upper.x, 0), lower = __dp4a((int)q[0], (int)c.lower.x, 0);
    upper = __dp4a((int)q[1], (int)c.upper.y, upper), lower = __dp4a((int)q[1], (int)c.lower.y, lower);
    upper = __dp4a((int)q[2], (int)c.upper.z, upper), lower = __dp4a((int)q[2], (int)c.lower.z, lower);
    upper = __dp4a((int)q[3], (int)c.upper.w, upper), lower = __dp4a((int)q[3], (int)c.lower.w, lower);
    return fmaf(scale * c.scale.x, (float)(upper * 128 + lower), offset * c.scale.y);
}

#endif
