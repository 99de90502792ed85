/* Products of one token's activations, integers of 15 bits in shared memory, with a piece of two rows of weights: 64 elements of
 * both a lane. Sums of integers are exact. */
#ifndef FE_CUDA_PIECES_CUH
#define FE_CUDA_PIECES_CUH

#include "types.cuh"

/* ---- Activations ---- */

/* x = d · (128 · upper + lower), both signed bytes, with one d for 128 elements. Of 32 chunks of 16 the upper bytes stand in front
 * of the lower ones; of a chunk `sums` has Σ (128 · upper + lower). */
struct activations {
    uchar *bytes;
    int *sums;
    float *scales;
};

enum {
    GROUP = FE_CUDA_TOKEN_GROUP, /* elements of 32 chunks */
    GROUP_CHUNKS = GROUP / FE_CUDA_CHUNK,
    GROUP_BYTES = 2 * GROUP,
    PIECE_GROUPS = FE_CUDA_TOKEN_PIECE / GROUP
};

/* Where a chunk stands among its 32: turned about so that lanes find theirs in different banks, whether these have four side by
 * side or every second one. */
INLINE uint32_t chunk_at(uint32_t c) { return ((c ^ c >> 2) & 1) | (c >> 3 & 3) << 1 | (c >> 1 & 3) << 3; }

/* What a lane finds of a piece: with STEP 1 chunks 4 · lane + j; with STEP 2 of lanes 2i and 2i + 1 every second one of 8. Chunk j
 * stands at one of two places side by side, and further on by what j alone decides. */
template <int STEP> struct lane_chunks {
    const uchar *bytes[2];
    const int *sums;
    uint32_t place;
    float d;

    __device__ __forceinline__ lane_chunks(const activations &a, uint32_t piece) {
        uint32_t lane = lane_index(), group = piece * PIECE_GROUPS + lane / 8;
        place = lane % 8 | (STEP == 1 ? lane % 2 << 4 : 0);
        for (uint32_t i = 0; i < 2; i++) bytes[i] = a.bytes + group * GROUP_BYTES + (place ^ i) * FE_CUDA_CHUNK;
        sums = a.sums + group * GROUP_CHUNKS;
        d = a.scales[group * (GROUP / FE_CUDA_TOKEN_SCALED) + lane % 8 / 2];
    }
    static __device__ __forceinline__ int other(int j) { return STEP == 1 ? j & 1 : j >> 1; }
    static __device__ __forceinline__ int further(int j) { return (STEP == 1 ? j >> 1 : j) * 8; }
    __device__ __forceinline__ uint4 upper(int j) const {
        return *(const uint4 *)(bytes[other(j)] + further(j) * FE_CUDA_CHUNK);
    }
    __device__ __forceinline__ uint4 lower(int j) const {
        return *(const uint4 *)(bytes[other(j)] + further(j) * FE_CUDA_CHUNK + GROUP);
    }
    __device__ __forceinline__ int sum(int j) const { return sums[(place ^ other(j)) + further(j)]; }
    /* Of chunks j and j + 1, side by side. */
    __device__ __forceinline__ int sum_of_two(int j) const {
        int2 two = *(const int2 *)(sums + (place & ~1u) + further(j));
        return two.x + two.y;
    }
};

/* ---- Products of 16 bytes of two rows ---- */

struct dots {
    int upper[2], lower[2];
    __device__ __forceinline__ int value(int row) const { return upper[row] * 128 + lower[row]; }
};

/* Of four bytes of weights, which are signed or not, and of activations. */
template <bool SIGNED> INLINE int dot_four(uint32_t q, uint32_t x, int sum) {
    if (SIGNED) return __dp4a((int)q, (int)x, sum);
    int out;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(out) : "r"(q), "r"(x), "r"(sum));
    return out;
}
template <bool SIGNED> INLINE void dot(dots &sum, const uint32_t *q0, const uint32_t *q1, uint4 upper, uint4 lower) {
    const uint32_t h[4] = {upper.x, upper.y, upper.z, upper.w}, l[4] = {lower.x, lower.y, lower.z, lower.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum.upper[0] = dot_four<SIGNED>(q0[i], h[i], sum.upper[0]);
        sum.upper[1] = dot_four<SIGNED>(q1[i], h[i], sum.upper[1]);
        sum.lower[0] = dot_four<SIGNED>(q0[i], l[i], sum.lower[0]);
        sum.lower[1] = dot_four<SIGNED>(q1[i], l[i], sum.lower[1]);
    }
}

/* ---- A lane's part of a piece: of two rows, `apart` bytes apart; piece: its number. Each adds to the rows' sums. ---- */

/* Two units of a row, the second MATE behind the first: which have scales or bits in common. */
template <typename T> INLINE void two_units(const uchar *row, unit32 (&w)[2]) {
    enum { ONE = T::UNITS == 1 };
    uint32_t unit = lane_index(), block = ONE ? 2 * unit : unit / 4, v = ONE ? 0 : T::first_of_two(unit % 4);
    T::unit(row + block * T::BYTES, v, w[0]);
    T::unit(row + (block + (ONE ? 1 : 0)) * T::BYTES, v + (ONE ? 0 : T::MATE), w[1]);
}

template <typename T> struct piece_of {
    static __device__ __forceinline__ void multiply(const activations &a, const uchar *rows, uint32_t apart,
                                                    uint32_t piece, float (&sum)[2]) {
        enum { ONE = T::UNITS == 1, STEP = ONE ? 1 : 2, RUN = T::GAP / FE_CUDA_CHUNK / STEP, UNIT = 3 - RUN };
        const lane_chunks<STEP> x(a, piece);
        unit32 w[2][2];
        float part[2] = {};
#pragma unroll
        for (int r = 0; r < 2; r++) two_units<T>(rows + r * apart, w[r]);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            dots both = {};
#pragma unroll
            for (int run = 0; run < 2; run++) {
                int j = i * UNIT + run * RUN;
                dot<true>(both, w[0][i].q + 4 * run, w[1][i].q + 4 * run, x.upper(j), x.lower(j));
                if (ONE && run == 0) continue; /* one scale for both */
                float offsets = (float)(ONE ? x.sum_of_two(j - 1) : x.sum(j));
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    part[r] = fmaf(w[r][i].scale[run], (float)both.value(r), part[r]);
                    part[r] = fmaf(w[r][i].offset[run], offsets, part[r]);
                }
                both = {};
            }
        }
        for (int r = 0; r < 2; r++) sum[r] = fmaf(x.d, part[r], sum[r]);
    }
};

/* Q4_K, Q5_K: sub-blocks of 32 with scales and minimums of 6 bits, which integers are multiplied by: 63 · 32 · 31 · 16,256 twice is
 * below 2³¹. High nibbles of Q4_K stay where they are: sixteen times as much. */
template <bool FIFTH> struct piece_of_k {
    typedef k_4_5<FIFTH> T;
    static __device__ __forceinline__ void multiply(const activations &a, const uchar *rows, uint32_t apart,
                                                    uint32_t piece, float (&sum)[2]) {
        const lane_chunks<1> x(a, piece);
        uint32_t t = lane_index() % 4, quants[2][8], head[2][4], low[2][8], high[2][8];
        dots lows = {}, highs = {};
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const uchar *b = rows + r * apart + lane_index() / 4 * T::BYTES;
            load_words<4, 16>(b, head[r]);
            load_words<8, 16>(b + T::QUANTS + t * 32, quants[r]);
            for (int i = 0; i < 8; i++) {
                low[r][i] = quants[r][i] & 0x0F0F0F0F;
                high[r][i] = FIFTH ? quants[r][i] >> 4 & 0x0F0F0F0F : quants[r][i] & 0xF0F0F0F0;
            }
            if (!FIFTH) continue;
            uint32_t bits[8];
            load_words<8, 16>(b + 16, bits);
            for (int i = 0; i < 8; i++) {
                low[r][i] |= (bits[i] >> 2 * t & 0x01010101) << 4;
                high[r][i] |= (bits[i] >> (2 * t + 1) & 0x01010101) << 4;
            }
        }
#pragma unroll
        for (int j = 0; j < 2; j++) {
            dot<true>(lows, low[0] + 4 * j, low[1] + 4 * j, x.upper(j), x.lower(j));
            dot<false>(highs, high[0] + 4 * j, high[1] + 4 * j, x.upper(j + 2), x.lower(j + 2));
        }
        int first = x.sum_of_two(0), second = x.sum_of_two(2);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            uint32_t s, m;
            k_scales(head[r] + 1, 2 * t, s, m);
            int products = (int)(s & 255) * lows.value(r) + (int)(s >> 8 & 255) * (highs.value(r) >> (FIFTH ? 0 : 4));
            int minimums = (int)(m & 255) * first + (int)(m >> 8 & 255) * second;
            float d = half_bits(head[r][0] & 0xFFFF), dmin = half_bits(head[r][0] >> 16);
            sum[r] = fmaf(x.d, d * (float)products - dmin * (float)minimums, sum[r]);
        }
    }
};
template <> struct piece_of<Q4_K> : piece_of_k<false> {};
template <> struct piece_of<Q5_K> : piece_of_k<true> {};

/* Bytes of Q6_K are taken four times as large, less 128: signed, and without an offset. */
template <> struct piece_of<Q6_K> {
    static __device__ __forceinline__ void multiply(const activations &a, const uchar *rows, uint32_t apart,
                                                    uint32_t piece, float (&sum)[2]) {
        const lane_chunks<2> x(a, piece);
        uint32_t lane = lane_index(), of_128 = lane / 2 % 2, of_32 = lane % 2, q[2][4][4];
        float scale[2][4], part[2] = {};
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const uchar *b = rows + r * apart + lane / 4 * Q6_K::BYTES;
            const signed char *scales = (const signed char *)b + 192 + of_128 * 8 + of_32;
            uint32_t nibbles[2][4], bits[4];
            load_words<4, 2>(b + of_128 * 64 + of_32 * 16, nibbles[0]);
            load_words<4, 2>(b + of_128 * 64 + of_32 * 16 + 32, nibbles[1]);
            load_words<4, 2>(b + 128 + of_128 * 32 + of_32 * 16, bits);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                scale[r][j] = (float)scales[2 * j];
                for (int i = 0; i < 4; i++) {
                    uint32_t n = nibbles[j % 2][i], low = (j < 2 ? n << 2 : n >> 2) & 0x3C3C3C3C;
                    uint32_t top = (j < 3 ? bits[i] << (6 - 2 * j) : bits[i]) & 0xC0C0C0C0;
                    q[r][j][i] = (low | 0x80808080) ^ top;
                }
            }
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            dots both = {};
            dot<true>(both, q[0][j], q[1][j], x.upper(j), x.lower(j));
            for (int r = 0; r < 2; r++) part[r] = fmaf(scale[r][j], (float)both.value(r), part[r]);
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float d = half_of(rows + r * apart + lane / 4 * Q6_K::BYTES + 208);
            sum[r] = fmaf(x.d * 0.25f * d, part[r], sum[r]);
        }
    }
};

#endif
