/* Weights as halves for the warpgroups: what a lane has of a row's piece, 64 elements in four runs of 16 (of F16, whose pieces are of 64,
 * one). Lane t of four has those from 64t on. What the runs have in common is read and made once. */
#ifndef FE_CUDA_CHUNKS_CUH
#define FE_CUDA_CHUNKS_CUH

#include "halves.cuh"

/* Two of the bytes of q under the exponent of 1024, which leaves 1024 + byte. The exponent's byte, four times, comes in a register that the
 * compiler does not know to be constant: an instruction has room for one constant, and that is the other. */
enum { EXPONENTS = 0x64646464 };
template <int HIGH> INLINE __half2 raised(uint32_t q, uint32_t exponent) {
    return bits_half2(__byte_perm(q, exponent, HIGH ? 0x4342 : 0x4140));
}
INLINE __half2 one_of(uint32_t pair, bool high) {
    return high ? __high2half2(bits_half2(pair)) : __low2half2(bits_half2(pair));
}

/* A type whose runs have nothing in common that pays. */
template <typename T> struct chunk {
    const uchar *piece;
    uint32_t t;
    __device__ __forceinline__ chunk(uint32_t lane, uint32_t) : t(lane) {}
    __device__ __forceinline__ void fetch(const uchar *from) { piece = from; }
    __device__ __forceinline__ void run(uint32_t r, uint32_t (&h)[8]) const { halves16<T>(piece, 4 * t + r, h); }
};
template <> struct chunk<F16> {
    const uchar *piece;
    uint32_t t;
    __device__ __forceinline__ chunk(uint32_t lane, uint32_t) : t(lane) {}
    __device__ __forceinline__ void fetch(const uchar *from) { piece = from; }
    __device__ __forceinline__ void run(uint32_t, uint32_t (&h)[8]) const { halves16<F16>(piece, t, h); }
};

/* Q4_K and Q5_K: 32 bytes of nibbles, the low ones of sub-block 2t and the high ones of 2t + 1, each half of them two runs. */
template <bool FIFTH> struct k_4_5_chunk {
    typedef k_4_5<FIFTH> type;
    uint32_t t, exponent, q[8], scale, offset; /* the latter two halves each */
    const uchar *fifth;

    __device__ __forceinline__ k_4_5_chunk(uint32_t lane, uint32_t exponent) : t(lane), exponent(exponent) {}
    __device__ __forceinline__ void fetch(const uchar *b) {
        uint32_t head[4], s, m;
        load_words<4, 16>(b, head);
        load_words<8, 16>(b + type::QUANTS + 32 * t, q);
        k_scales(head + 1, 2 * t, s, m);
        __half2 d = one_of(head[0], false), dmin = __hneg2(one_of(head[0], true));
        const __half2 base = __float2half2_rn(1024.0f);
        scale = half2_bits(__hmul2(__hsub2(raised<0>(s, exponent), base), d));
        offset = half2_bits(__hmul2(__hsub2(raised<0>(m, exponent), base), dmin));
        fifth = b + 16;
    }
    __device__ __forceinline__ void run(uint32_t r, uint32_t (&h)[8]) const {
        bool high = r >= 2;
        __half2 s = one_of(scale, high), o = one_of(offset, high);
        uint32_t bits[4];
        if (FIFTH) load_words<4, 16>(fifth + r % 2 * 16, bits);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t x = q[r % 2 * 4 + i];
            if (FIFTH) {
                uint32_t bit = __funnelshift_l(bits[i], bits[i], 4 - 2 * t - high) & 0x10101010;
                x = ((high ? x >> 4 : x) & 0x0F0F0F0F) | bit;
            } else {
                x &= high ? 0xF0F0F0F0 : 0x0F0F0F0F;
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                __half2 y = j ? raised<1>(x, exponent) : raised<0>(x, exponent);
                if (high && !FIFTH) /* 1024 + 16 times a nibble */
                    y = __hfma2(y, __float2half2_rn(0.0625f), __float2half2_rn(-64.0f));
                else
                    y = __hsub2(y, __float2half2_rn(1024.0f));
                h[2 * i + j] = half2_bits(__hfma2(y, s, o));
            }
        }
    }
};
template <> struct chunk<Q4_K> : k_4_5_chunk<false> { using k_4_5_chunk<false>::k_4_5_chunk; };
template <> struct chunk<Q5_K> : k_4_5_chunk<true> { using k_4_5_chunk<true>::k_4_5_chunk; };

/* Q6_K: of 64 bytes of nibbles the low or the high ones, as t has it, and two bits of 32 bytes. Blocks begin at any even byte: the words that
 * hold a run are shifted by what that leaves and by where the lane's bits are, at once. */
template <> struct chunk<Q6_K> {
    uint32_t t, exponent;
    const uchar *nibbles, *upper; /* multiples of 4 */
    uint32_t shift, scales[2];    /* the latter two halves each */

    __device__ __forceinline__ chunk(uint32_t lane, uint32_t exponent) : t(lane), exponent(exponent) {}
    __device__ __forceinline__ void fetch(const uchar *b) {
        uint32_t past = (uint32_t)(uintptr_t)b & 2;
        nibbles = b - past + t / 2 * 64;
        upper = b - past + 128 + t / 2 * 32;
        shift = past * 8 + t % 2 * 4;
        __half2 d = __half2half2(__ushort_as_half(*(const unsigned short *)(b + 208)));
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t two = *(const unsigned short *)(b + 192 + 4 * t + 2 * i) ^ 0x8080; /* bytes with 128 added */
            scales[i] = half2_bits(__hmul2(__hsub2(raised<0>(two, exponent), __float2half2_rn(1152.0f)), d));
        }
    }
    __device__ __forceinline__ void run(uint32_t r, uint32_t (&h)[8]) const {
        __half2 scale = one_of(scales[r / 2], r % 2);
        const uint32_t *from = (const uint32_t *)(nibbles + 16 * r), *bits = (const uint32_t *)(upper + r % 2 * 16);
        uint32_t x[5], y[5];
#pragma unroll
        for (int i = 0; i < 5; i++) x[i] = from[i], y[i] = bits[i];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t low = __funnelshift_r(x[i], x[i + 1], shift) & 0x0F0F0F0F,
                     high = __funnelshift_r(y[i], y[i + 1], shift + r / 2 * 2) & 0x03030303;
            uint32_t q = high * 16 + low;
#pragma unroll
            for (int j = 0; j < 2; j++) {
                __half2 y = j ? raised<1>(q, exponent) : raised<0>(q, exponent);
                h[2 * i + j] = half2_bits(__hmul2(__hsub2(y, __float2half2_rn(1056.0f)), scale));
            }
        }
    }
};

#endif
