/* What attention reads out of the caches, by their type. */
#ifndef FE_CUDA_CACHES_CUH
#define FE_CUDA_CACHES_CUH

#include "heads.cuh"

/* Eight elements of a cache's row, from a multiple of 8 on: as they are there, and as floats. */
struct from_f32 {
    typedef to_f32 store;
    enum { BYTES = 4, HALVES = false };
    struct raw {
        float4 half[2];
    };
    static __device__ __forceinline__ raw fetch(const void *slice, uint32_t, uint64_t row, uint32_t dim, uint32_t at) {
        const float4 *from = (const float4 *)((const float *)slice + row * dim + at);
        return {from[0], from[1]};
    }
    static __device__ __forceinline__ void expand(const raw &r, float (&x)[8]) {
        for (int i = 0; i < 2; i++) {
            float4 f = r.half[i];
            x[4 * i] = f.x, x[4 * i + 1] = f.y, x[4 * i + 2] = f.z, x[4 * i + 3] = f.w;
        }
    }
};

struct from_f16 {
    typedef to_f16 store;
    enum { BYTES = 2, HALVES = true };
    typedef uint4 raw;
    static __device__ __forceinline__ raw fetch(const void *slice, uint32_t, uint64_t row, uint32_t dim, uint32_t at) {
        return *(const uint4 *)((const __half *)slice + row * dim + at);
    }
    static __device__ __forceinline__ void expand(const raw &r, float (&x)[8]) {
        const uint32_t w[4] = {r.x, r.y, r.z, r.w};
        for (int i = 0; i < 4; i++) {
            float2 f = __half22float2(bits_half2(w[i]));
            x[2 * i] = f.x, x[2 * i + 1] = f.y;
        }
    }
};

struct from_q8_0 {
    typedef to_q8_0 store;
    enum { BYTES = 1, HALVES = false };
    struct raw {
        uint2 quants;
        float d;
    };
    static __device__ __forceinline__ raw fetch(const void *slice, uint32_t rows, uint64_t row, uint32_t dim,
                                                uint32_t at) {
        uint32_t groups = (dim + 31) / 32;
        const signed char *quants = (const signed char *)slice + row * groups * 32 + at;
        const __half *scales = (const __half *)((const signed char *)slice + (uint64_t)rows * groups * 32);
        return {*(const uint2 *)quants, __half2float(scales[row * groups + at / 32])};
    }
    static __device__ __forceinline__ void expand(const raw &r, float (&x)[8]) {
        const uint32_t w[2] = {r.quants.x, r.quants.y};
        for (int i = 0; i < 8; i++) x[i] = r.d * (float)(signed char)(w[i / 4] >> i % 4 * 8 & 255);
    }
};

/* The same as halves. */
template <typename C>
INLINE uint4 load_halves(const void *slice, uint32_t rows, uint64_t row, uint32_t dim, uint32_t at) {
    float x[8];
    uint32_t w[4];
    C::expand(C::fetch(slice, rows, row, dim, at), x);
    for (int i = 0; i < 4; i++) w[i] = half2_bits(__floats2half2_rn(x[2 * i], x[2 * i + 1]));
    return make_uint4(w[0], w[1], w[2], w[3]);
}

/* The same to shared memory, in the background where they are halves already; zeros where there is nothing `in`. */
template <typename C>
INLINE void bring(__half *to, const void *slice, uint32_t rows, uint32_t row, uint32_t dim, uint32_t at, bool in) {
    *(uint4 *)to = in ? load_halves<C>(slice, rows, row, dim, at) : make_uint4(0, 0, 0, 0);
}
template <>
__device__ __forceinline__ void bring<from_f16>(__half *to, const void *slice, uint32_t, uint32_t row, uint32_t dim,
                                                uint32_t at, bool in) {
    copy_async(to, in ? (const __half *)slice + (uint64_t)row * dim + at : (const __half *)slice, in);
}

#endif
