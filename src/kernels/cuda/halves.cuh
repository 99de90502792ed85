/* Weights as halves for the tensor cores: elements 8t … 8t+7 of a group of 32 in a row, two in each word. */
#ifndef FE_CUDA_HALVES_CUH
#define FE_CUDA_HALVES_CUH

#include "types.cuh"

/* A byte b in a half's low bits, under the exponent of 1024, is 1024 + b. */
INLINE uint32_t halves_of(uint32_t q, uint32_t which, __half2 scale, __half2 offset) {
    __half2 x = __hsub2(bits_half2(__byte_perm(q, 0x64646464, which)), __float2half2_rn(1024.0f));
    return half2_bits(__hfma2(x, scale, offset));
}

/* As they come out of the blocks, and what is made of them. */
template <typename T> struct eight {
    octet8 o;
    static __device__ __forceinline__ void fetch(const uchar *row, uint32_t group, uint32_t t, eight &e) {
        T::octet(row + group / (T::BLOCK / 32) * T::BYTES, group % (T::BLOCK / 32), t, e.o);
    }
    __device__ __forceinline__ void halves(uint32_t *h) const {
        __half2 scale = __float2half2_rn(o.scale), offset = __float2half2_rn(o.offset);
        for (int i = 0; i < 2; i++) {
            h[2 * i] = halves_of(o.q[i], 0x4140, scale, offset);
            h[2 * i + 1] = halves_of(o.q[i], 0x4342, scale, offset);
        }
    }
    static __device__ __forceinline__ const uchar *place(const uchar *row, uint32_t group) {
        return row + group / (T::BLOCK / 32) * T::BYTES;
    }
};

template <> struct eight<F16> {
    uint4 x;
    static __device__ __forceinline__ void fetch(const uchar *row, uint32_t group, uint32_t t, eight &e) {
        e.x = __ldg((const uint4 *)place(row, group) + t);
    }
    __device__ __forceinline__ void halves(uint32_t *h) const { h[0] = x.x, h[1] = x.y, h[2] = x.z, h[3] = x.w; }
    static __device__ __forceinline__ const uchar *place(const uchar *row, uint32_t group) {
        return row + 64 * (uint64_t)group;
    }
};

/* Elements 16c … 16c+15 of a row's piece: of 256, of F16 weights of 64. */
template <typename T> INLINE void halves16(const uchar *piece, uint32_t c, uint32_t (&h)[8]) {
    run16 r;
    T::run(piece, c, r);
    __half2 scale = __float2half2_rn(r.scale), offset = __float2half2_rn(r.offset);
    for (int i = 0; i < 4; i++) {
        h[2 * i] = halves_of(r.q[i], 0x4140, scale, offset);
        h[2 * i + 1] = halves_of(r.q[i], 0x4342, scale, offset);
    }
}
template <> __device__ __forceinline__ void halves16<F16>(const uchar *piece, uint32_t c, uint32_t (&h)[8]) {
    load_words<8, 16>(piece + 32 * c, h);
}

/* Row `index` among those of a product or, of an expert, the pairs on its list: the row of c. */
INLINE uint32_t row_of_c(const fe_cuda_matmul &p, uint32_t index) {
    return p.list ? p.lists[gridDim.z + (uint64_t)blockIdx.z * p.list + index] : index;
}
INLINE uint32_t rows_of_c(const fe_cuda_matmul &p) { return p.list ? p.lists[blockIdx.z] : p.m; }
INLINE uint32_t packed_row(const fe_cuda_matmul &p, uint32_t row) { return p.list ? row / p.a_used : row; }

#endif
