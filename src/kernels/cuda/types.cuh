/* The block types. A struct a type; the layouts are those of src/quant/quant.h.
 *   weight: element i of a row, as the type's definition reads, whatever the alignment: what the plain kernels are made of.
 *   unit: 32 elements of a block as bytes, in two runs of 16 that begin `GAP` elements apart: so chosen that their bits lie in
 *   the same 16 bytes. For products of integers.
 *   first_of_two, MATE: units that one thread takes together, having bits or scales in common; JOINED: the runs of both stand one
 *   behind the other and share a scale.
 *   octet: elements 8t … 8t+7 of a block's group g of 32, as bytes. For products of halves on the tensor cores.
 *   run: elements 16c … 16c+15 of a row's piece of 256, as bytes: the same for warpgroups.
 * All three read blocks that stand at multiples of ALIGN bytes. */
#ifndef FE_CUDA_TYPES_CUH
#define FE_CUDA_TYPES_CUH

#include "device.cuh"

/* w[i] = scale[i / 16] · q[i] + offset[i / 16], q as signed bytes */
struct unit32 {
    uint32_t q[8];
    float scale[2], offset[2];
};

/* w[i] = scale · q[i] + offset, q as unsigned bytes */
struct octet8 {
    uint32_t q[2];
    float scale, offset;
};

/* The same of 16. */
struct run16 {
    uint32_t q[4];
    float scale, offset;
};

INLINE float half_at(const uchar *p) { return half_bits(p[0] | p[1] << 8); }
INLINE float half_of(const uchar *p) { return half_bits(*(const unsigned short *)p); }

/* COUNT words from a multiple of ALIGN bytes, of any memory. A word that holds none of the bytes is not touched. */
template <int COUNT, int ALIGN> INLINE void load_words(const uchar *p, uint32_t *out) {
    if (ALIGN % 16 == 0 && COUNT % 4 == 0) {
        for (int i = 0; i < COUNT / 4; i++) {
            uint4 x = *((const uint4 *)p + i);
            out[4 * i] = x.x, out[4 * i + 1] = x.y, out[4 * i + 2] = x.z, out[4 * i + 3] = x.w;
        }
    } else if (ALIGN % 8 == 0 && COUNT % 2 == 0) {
        for (int i = 0; i < COUNT / 2; i++) {
            uint2 x = *((const uint2 *)p + i);
            out[2 * i] = x.x, out[2 * i + 1] = x.y;
        }
    } else if (ALIGN % 4 == 0) {
        for (int i = 0; i < COUNT; i++) out[i] = *((const uint32_t *)p + i);
    } else {
        uint32_t past = (uint32_t)(uintptr_t)p & 2;
        const uint32_t *from = (const uint32_t *)(p - past);
        uint32_t low = *from;
        for (int i = 0; i < COUNT; i++) {
            uint32_t high = i + 1 < COUNT || past ? from[i + 1] : 0;
            out[i] = __funnelshift_r(low, high, past * 8);
            low = high;
        }
    }
}

/* 16 bytes of nibbles: the low ones are the first run, the high ones the second. */
template <int ALIGN> INLINE void nibbles(const uchar *p, unit32 &u) {
    uint32_t w[4];
    load_words<4, ALIGN>(p, w);
    for (int i = 0; i < 4; i++) {
        u.q[i] = w[i] & 0x0F0F0F0F;
        u.q[4 + i] = w[i] >> 4 & 0x0F0F0F0F;
    }
}

/* The low four bits of x, one in each byte. */
INLINE uint32_t spread(uint32_t x) { return (x & 15) * 0x00204081 & 0x01010101; }

/* Eight bytes of nibbles, the low ones or the high ones. */
template <int ALIGN> INLINE void nibbles8(const uchar *p, bool high, octet8 &o) {
    load_words<2, ALIGN>(p, o.q);
    for (int i = 0; i < 2; i++) o.q[i] = o.q[i] >> (high ? 4 : 0) & 0x0F0F0F0F;
}

/* 16 bytes of nibbles, the low ones or the high ones. */
template <int ALIGN> INLINE void nibbles16(const uchar *p, bool high, run16 &r) {
    load_words<4, ALIGN>(p, r.q);
    for (int i = 0; i < 4; i++) r.q[i] = r.q[i] >> (high ? 4 : 0) & 0x0F0F0F0F;
}

struct F16 {
    static __device__ __forceinline__ float weight(const uchar *row, uint32_t i) {
        return half_at(row + 2 * (uint64_t)i);
    }
    static __device__ __forceinline__ void eight(const uchar *p, float *out) {
        uint4 x = __ldg((const uint4 *)p);
        const uint32_t w[4] = {x.x, x.y, x.z, x.w};
        for (int i = 0; i < 4; i++) {
            float2 f = __half22float2(bits_half2(w[i]));
            out[2 * i] = f.x, out[2 * i + 1] = f.y;
        }
    }
    enum { BYTES = 2 };
};

struct BF16 {
    static __device__ __forceinline__ float weight(const uchar *row, uint32_t i) {
        const uchar *p = row + 2 * (uint64_t)i;
        return __uint_as_float((uint32_t)(p[0] | p[1] << 8) << 16);
    }
    static __device__ __forceinline__ void eight(const uchar *p, float *out) {
        uint4 x = __ldg((const uint4 *)p);
        const uint32_t w[4] = {x.x, x.y, x.z, x.w};
        for (int i = 0; i < 4; i++) {
            out[2 * i] = __uint_as_float(w[i] << 16);
            out[2 * i + 1] = __uint_as_float(w[i] & 0xFFFF0000);
        }
    }
    enum { BYTES = 2 };
};

struct F32 {
    static __device__ __forceinline__ float weight(const uchar *row, uint32_t i) {
        const uchar *p = row + 4 * (uint64_t)i;
        return __uint_as_float((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
    }
    static __device__ __forceinline__ void eight(const uchar *p, float *out) {
        for (int i = 0; i < 2; i++) {
            float4 x = __ldg((const float4 *)p + i);
            out[4 * i] = x.x, out[4 * i + 1] = x.y, out[4 * i + 2] = x.z, out[4 * i + 3] = x.w;
        }
    }
    enum { BYTES = 4 };
};

/* ---- Blocks of 32: byte j of the nibbles holds elements j and j + 16. ---- */

INLINE uint32_t legacy_nibble(const uchar *qs, uint32_t i) { return qs[i % 16] >> (i / 16 * 4) & 15; }
INLINE uint32_t legacy_fifth(const uchar *qh, uint32_t i) { return (qh[i / 8] >> i % 8 & 1) << 4; }

/* The fifth bits of a block. */
template <int ALIGN> INLINE void add_fifth(const uchar *qh, unit32 &u) {
    uint32_t bits;
    load_words<1, ALIGN>(qh, &bits);
    for (int i = 0; i < 8; i++) u.q[i] |= spread(bits >> 4 * i) << 4;
}
template <int ALIGN> INLINE void add_fifth8(const uchar *qh, uint32_t t, octet8 &o) {
    uint32_t bits;
    load_words<1, ALIGN>(qh, &bits);
    for (int i = 0; i < 2; i++) o.q[i] |= spread(bits >> (8 * t + 4 * i)) << 4;
}

/* FIFTH: bytes of fifth bits behind the scales; MINIMUM: a half behind the scale; else quants are stored with BIAS added. */
template <int SIZE, int AT, bool FIFTH, bool MINIMUM, int BIAS> struct legacy {
    enum {
        BLOCK = 32,
        BYTES = SIZE,
        UNITS = 1,
        GAP = 16,
        JOINED = 0,
        MATE = 0,
        ALIGN = SIZE % 8 == 0   ? 8
                : SIZE % 4 == 0 ? 4
                                : 2,
        QUANTS = AT + (FIFTH ? 4 : 0)
    };
    static __device__ __forceinline__ uint32_t start(uint32_t) { return 0; }
    static __device__ __forceinline__ uint32_t first_of_two(uint32_t) { return 0; }
    static __device__ __forceinline__ float weight(const uchar *row, uint32_t i) {
        const uchar *b = row + (uint64_t)(i / 32) * BYTES;
        uint32_t q = legacy_nibble(b + QUANTS, i % 32) | (FIFTH ? legacy_fifth(b + AT, i % 32) : 0);
        return MINIMUM ? __fadd_rn(half_at(b) * (float)q, half_at(b + 2)) : half_at(b) * ((float)q - (float)BIAS);
    }
    static __device__ __forceinline__ void unit(const uchar *b, uint32_t, unit32 &u) {
        u.scale[0] = u.scale[1] = half_of(b);
        u.offset[0] = u.offset[1] = MINIMUM ? half_of(b + 2) : -(float)BIAS * u.scale[0];
        nibbles<ALIGN>(b + QUANTS, u);
        if (FIFTH) add_fifth<ALIGN>(b + AT, u);
    }
    static __device__ __forceinline__ void octet(const uchar *b, uint32_t, uint32_t t, octet8 &o) {
        o.scale = half_of(b);
        o.offset = MINIMUM ? half_of(b + 2) : -(float)BIAS * o.scale;
        nibbles8<ALIGN>(b + QUANTS + t % 2 * 8, t >= 2, o);
        if (FIFTH) add_fifth8<ALIGN>(b + AT, t, o);
    }
    static __device__ __forceinline__ void run(const uchar *piece, uint32_t c, run16 &r) {
        const uchar *b = piece + c / 2 * BYTES;
        r.scale = half_of(b);
        r.offset = MINIMUM ? half_of(b + 2) : -(float)BIAS * r.scale;
        nibbles16<ALIGN>(b + QUANTS, c % 2, r);
        if (!FIFTH) return;
        uint32_t bits;
        load_words<1, ALIGN>(b + AT, &bits);
        for (int i = 0; i < 4; i++) r.q[i] |= spread(bits >> (c % 2 * 16 + 4 * i)) << 4;
    }
};
typedef legacy<18, 2, false, false, 8> Q4_0;
typedef legacy<20, 4, false, true, 0> Q4_1;
typedef legacy<22, 2, true, false, 16> Q5_0;
typedef legacy<24, 4, true, true, 0> Q5_1;

struct Q8_0 {
    enum { BLOCK = 32, BYTES = 34, UNITS = 1, GAP = 16, JOINED = 0, MATE = 0, ALIGN = 2 };
    static __device__ __forceinline__ uint32_t start(uint32_t) { return 0; }
    static __device__ __forceinline__ uint32_t first_of_two(uint32_t) { return 0; }
    static __device__ __forceinline__ float weight(const uchar *row, uint32_t i) {
        const uchar *b = row + (uint64_t)(i / 32) * BYTES;
        return half_at(b) * (float)(signed char)b[2 + i % 32];
    }
    static __device__ __forceinline__ void unit(const uchar *b, uint32_t, unit32 &u) {
        u.scale[0] = u.scale[1] = half_of(b);
        u.offset[0] = u.offset[1] = 0.0f;
        load_words<8, ALIGN>(b + 2, u.q);
    }
    static __device__ __forceinline__ void octet(const uchar *b, uint32_t, uint32_t t, octet8 &o) {
        o.scale = half_of(b);
        o.offset = -128.0f * o.scale;
        load_words<2, ALIGN>(b + 2 + 8 * t, o.q);
        o.q[0] ^= 0x80808080;
        o.q[1] ^= 0x80808080;
    }
    static __device__ __forceinline__ void run(const uchar *piece, uint32_t c, run16 &r) {
        const uchar *b = piece + c / 2 * BYTES;
        r.scale = half_of(b);
        r.offset = -128.0f * r.scale;
        load_words<4, ALIGN>(b + 2 + c % 2 * 16, r.q);
        for (int i = 0; i < 4; i++) r.q[i] ^= 0x80808080;
    }
};

/* ---- Super-blocks of 256 ---- */

/* Sub-block j's 6-bit scale and minimum in Q4_K and Q5_K. */
INLINE float2 k_scale(const uchar *scales, uint32_t j) {
    if (j < 4) return make_float2((float)(scales[j] & 63), (float)(scales[j + 4] & 63));
    return make_float2((float)((scales[j + 4] & 15) | scales[j - 4] >> 6 << 4),
                       (float)(scales[j + 4] >> 4 | scales[j] >> 6 << 4));
}

/* The same of sub-blocks j and j + 1, j even, a byte each, out of the scales' three words. */
INLINE void k_scales(const uint32_t *w, uint32_t j, uint32_t &scale, uint32_t &min) {
    uint32_t kept = j < 4 ? 0x3F3F3F3F : 0x0F0F0F0F, upper = ~kept & 0x30303030;
    uint32_t s = ((j < 4 ? w[0] : w[2]) & kept) | (w[0] >> 2 & upper);
    uint32_t m = ((j < 4 ? w[1] : w[2] >> 4) & kept) | (w[1] >> 2 & upper);
    scale = s >> j % 4 * 8;
    min = m >> j % 4 * 8;
}

INLINE uint32_t k_nibble(const uchar *qs, uint32_t i) { return qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15; }
INLINE uint32_t two_bits(const uchar *qs, uint32_t i) { return qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3; }

/* Q4_K, and with FIFTH bits Q5_K. */
template <bool FIFTH> struct k_4_5 {
    enum {
        BLOCK = 256,
        BYTES = FIFTH ? 176 : 144,
        UNITS = 8,
        GAP = 32,
        JOINED = 1,
        MATE = 1,
        ALIGN = 16,
        QUANTS = FIFTH ? 48 : 16
    };
    static __device__ __forceinline__ uint32_t first_of_two(uint32_t i) { return 2 * i; }
    static __device__ __forceinline__ uint32_t start(uint32_t v) { return v / 2 * 64 + v % 2 * 16; }
    static __device__ __forceinline__ float weight(const uchar *row, uint32_t i) {
        const uchar *b = row + (uint64_t)(i / 256) * BYTES;
        uint32_t j = i % 256, q = k_nibble(b + QUANTS, j) | (FIFTH ? (b[16 + j % 32] >> j / 32 & 1) << 4 : 0);
        float2 s = k_scale(b + 4, j / 32);
        return __fsub_rn(half_at(b) * s.x * (float)q, half_at(b + 2) * s.y);
    }
    static __device__ __forceinline__ void unit(const uchar *b, uint32_t v, unit32 &u) {
        uint32_t head[4], s, m;
        load_words<4, 16>(b, head);
        k_scales(head + 1, v / 2 * 2, s, m);
        float d = half_bits(head[0] & 0xFFFF), dmin = half_bits(head[0] >> 16);
        for (int i = 0; i < 2; i++) {
            u.scale[i] = d * (float)(s >> 8 * i & 255);
            u.offset[i] = -dmin * (float)(m >> 8 * i & 255);
        }
        nibbles<16>(b + QUANTS + v * 16, u);
        if (!FIFTH) return;
        uint32_t bits[4];
        load_words<4, 16>(b + 16 + v % 2 * 16, bits);
        for (int i = 0; i < 4; i++) {
            u.q[i] |= (bits[i] >> v / 2 * 2 & 0x01010101) << 4;
            u.q[4 + i] |= (bits[i] >> (v / 2 * 2 + 1) & 0x01010101) << 4;
        }
    }
    static __device__ __forceinline__ void octet(const uchar *b, uint32_t g, uint32_t t, octet8 &o) {
        uint32_t head[4], s, m;
        load_words<4, 16>(b, head);
        k_scales(head + 1, g & ~1u, s, m);
        o.scale = half_bits(head[0] & 0xFFFF) * (float)(s >> g % 2 * 8 & 255);
        o.offset = -half_bits(head[0] >> 16) * (float)(m >> g % 2 * 8 & 255);
        nibbles8<8>(b + QUANTS + g / 2 * 32 + t * 8, g % 2, o);
        if (!FIFTH) return;
        uint32_t bits[2];
        load_words<2, 8>(b + 16 + 8 * t, bits);
        for (int i = 0; i < 2; i++) o.q[i] |= (bits[i] >> g & 0x01010101) << 4;
    }
    static __device__ __forceinline__ void run(const uchar *b, uint32_t c, run16 &r) {
        uint32_t head[4], s, m, j = c / 2;
        load_words<4, 16>(b, head);
        k_scales(head + 1, j & ~1u, s, m);
        r.scale = half_bits(head[0] & 0xFFFF) * (float)(s >> j % 2 * 8 & 255);
        r.offset = -half_bits(head[0] >> 16) * (float)(m >> j % 2 * 8 & 255);
        nibbles16<16>(b + QUANTS + c / 4 * 32 + c % 2 * 16, j % 2, r);
        if (!FIFTH) return;
        uint32_t bits[4];
        load_words<4, 16>(b + 16 + c % 2 * 16, bits);
        for (int i = 0; i < 4; i++) r.q[i] |= (bits[i] >> j & 0x01010101) << 4;
    }
};
typedef k_4_5<false> Q4_K;
typedef k_4_5<true> Q5_K;

struct Q6_K {
    enum { BLOCK = 256, BYTES = 210, UNITS = 8, GAP = 64, JOINED = 0, MATE = 2, ALIGN = 2 };
    static __device__ __forceinline__ uint32_t first_of_two(uint32_t i) { return i / 2 * 4 + i % 2; }
    static __device__ __forceinline__ uint32_t start(uint32_t v) { return v / 4 * 128 + v % 4 * 16; }
    static __device__ __forceinline__ float weight(const uchar *row, uint32_t i) {
        const uchar *b = row + (uint64_t)(i / 256) * BYTES;
        uint32_t j = i % 256;
        uint32_t q = (b[j / 128 * 64 + j % 64] >> (j / 64 % 2 * 4) & 15) | two_bits(b + 128, j) << 4;
        return half_at(b + 208) * (float)(signed char)b[192 + j / 16] * ((float)q - 32.0f);
    }
    static __device__ __forceinline__ void unit(const uchar *b, uint32_t v, unit32 &u) {
        const signed char *scales = (const signed char *)b + 192 + v / 4 * 8 + v % 4;
        float d = half_of(b + 208);
        for (int i = 0; i < 2; i++) {
            u.scale[i] = d * (float)scales[4 * i];
            u.offset[i] = -32.0f * u.scale[i];
        }
        nibbles<2>(b + v / 4 * 64 + v % 4 * 16, u);
        uint32_t bits[4], shift = v % 4 / 2 * 2;
        load_words<4, 2>(b + 128 + v / 4 * 32 + v % 2 * 16, bits);
        for (int i = 0; i < 4; i++) {
            u.q[i] |= (bits[i] >> shift & 0x03030303) << 4;
            u.q[4 + i] |= (bits[i] >> (shift + 4) & 0x03030303) << 4;
        }
    }
    static __device__ __forceinline__ void octet(const uchar *b, uint32_t g, uint32_t t, octet8 &o) {
        o.scale = half_of(b + 208) * (float)((const signed char *)b)[192 + g * 2 + t / 2];
        o.offset = -32.0f * o.scale;
        nibbles8<2>(b + g / 4 * 64 + g % 2 * 32 + t * 8, g / 2 % 2, o);
        uint32_t bits[2];
        load_words<2, 2>(b + 128 + g / 4 * 32 + t * 8, bits);
        for (int i = 0; i < 2; i++) o.q[i] |= (bits[i] >> g % 4 * 2 & 0x03030303) << 4;
    }
    static __device__ __forceinline__ void run(const uchar *b, uint32_t c, run16 &r) {
        uint32_t bits[4];
        r.scale = half_of(b + 208) * (float)((const signed char *)b)[192 + c];
        r.offset = -32.0f * r.scale;
        nibbles16<2>(b + c / 8 * 64 + c % 4 * 16, c / 4 % 2, r);
        load_words<4, 2>(b + 128 + c / 8 * 32 + c % 2 * 16, bits);
        for (int i = 0; i < 4; i++) r.q[i] |= (bits[i] >> c / 2 % 4 * 2 & 0x03030303) << 4;
    }
};

struct Q2_K {
    enum { BLOCK = 256, BYTES = 84, UNITS = 8, GAP = 32, JOINED = 0, MATE = 1, ALIGN = 4 };
    static __device__ __forceinline__ uint32_t first_of_two(uint32_t i) { return 2 * i; }
    static __device__ __forceinline__ uint32_t start(uint32_t v) { return v / 4 * 128 + v % 2 * 64 + v / 2 % 2 * 16; }
    static __device__ __forceinline__ float weight(const uchar *row, uint32_t i) {
        const uchar *b = row + (uint64_t)(i / 256) * BYTES;
        uint32_t j = i % 256, s = b[j / 16];
        return __fsub_rn(half_at(b + 80) * (float)(s & 15) * (float)two_bits(b + 16, j),
                         half_at(b + 82) * (float)(s >> 4));
    }
    static __device__ __forceinline__ void unit(const uchar *b, uint32_t v, unit32 &u) {
        float d = half_of(b + 80), dmin = half_of(b + 82);
        uint32_t w[4], shift = v % 2 * 4;
        for (int i = 0; i < 2; i++) {
            uint32_t s = b[start(v) / 16 + 2 * i];
            u.scale[i] = d * (float)(s & 15);
            u.offset[i] = -dmin * (float)(s >> 4);
        }
        load_words<4, 4>(b + 16 + v / 4 * 32 + v / 2 % 2 * 16, w);
        for (int i = 0; i < 4; i++) {
            u.q[i] = w[i] >> shift & 0x03030303;
            u.q[4 + i] = w[i] >> (shift + 2) & 0x03030303;
        }
    }
    static __device__ __forceinline__ void octet(const uchar *b, uint32_t g, uint32_t t, octet8 &o) {
        uint32_t s = b[g * 2 + t / 2];
        o.scale = half_of(b + 80) * (float)(s & 15);
        o.offset = -half_of(b + 82) * (float)(s >> 4);
        load_words<2, 4>(b + 16 + g / 4 * 32 + t * 8, o.q);
        for (int i = 0; i < 2; i++) o.q[i] = o.q[i] >> g % 4 * 2 & 0x03030303;
    }
    static __device__ __forceinline__ void run(const uchar *b, uint32_t c, run16 &r) {
        r.scale = half_of(b + 80) * (float)(b[c] & 15);
        r.offset = -half_of(b + 82) * (float)(b[c] >> 4);
        load_words<4, 4>(b + 16 + c / 8 * 32 + c % 2 * 16, r.q);
        for (int i = 0; i < 4; i++) r.q[i] = r.q[i] >> c / 2 % 4 * 2 & 0x03030303;
    }
};

/* Sub-block j's 6-bit scale in Q3_K, stored with 32 added. */
INLINE float q3_k_scale(const uchar *scales, uint32_t j) {
    uint32_t low = scales[j % 8] >> (j / 8 * 4) & 15, high = scales[8 + j % 4] >> (j / 4 * 2) & 3;
    return (float)(low | high << 4) - 32.0f;
}

struct Q3_K {
    enum { BLOCK = 256, BYTES = 110, UNITS = 8, GAP = 32, JOINED = 0, MATE = 1, ALIGN = 2 };
    static __device__ __forceinline__ uint32_t first_of_two(uint32_t i) { return 2 * i; }
    static __device__ __forceinline__ uint32_t start(uint32_t v) { return v / 4 * 128 + v % 2 * 64 + v / 2 % 2 * 16; }
    static __device__ __forceinline__ float weight(const uchar *row, uint32_t i) {
        const uchar *b = row + (uint64_t)(i / 256) * BYTES;
        uint32_t j = i % 256;
        float q = (float)two_bits(b + 32, j) - (b[j % 32] >> j / 32 & 1 ? 0.0f : 4.0f);
        return half_at(b + 108) * q3_k_scale(b + 96, j / 16) * q;
    }
    static __device__ __forceinline__ void unit(const uchar *b, uint32_t v, unit32 &u) {
        float d = half_of(b + 108);
        uint32_t w[4], high[4], shift = v % 2 * 4, bit = start(v) / 32;
        for (int i = 0; i < 2; i++) {
            u.scale[i] = d * q3_k_scale(b + 96, start(v) / 16 + 2 * i);
            u.offset[i] = -4.0f * u.scale[i];
        }
        load_words<4, 2>(b + 32 + v / 4 * 32 + v / 2 % 2 * 16, w);
        load_words<4, 2>(b + v / 2 % 2 * 16, high);
        for (int i = 0; i < 4; i++) {
            u.q[i] = (w[i] >> shift & 0x03030303) | (high[i] >> bit & 0x01010101) << 2;
            u.q[4 + i] = (w[i] >> (shift + 2) & 0x03030303) | (high[i] >> (bit + 1) & 0x01010101) << 2;
        }
    }
    static __device__ __forceinline__ void octet(const uchar *b, uint32_t g, uint32_t t, octet8 &o) {
        uint32_t high[2];
        o.scale = half_of(b + 108) * q3_k_scale(b + 96, g * 2 + t / 2);
        o.offset = -4.0f * o.scale;
        load_words<2, 2>(b + 32 + g / 4 * 32 + t * 8, o.q);
        load_words<2, 2>(b + t * 8, high);
        for (int i = 0; i < 2; i++) o.q[i] = (o.q[i] >> g % 4 * 2 & 0x03030303) | (high[i] >> g & 0x01010101) << 2;
    }
    static __device__ __forceinline__ void run(const uchar *b, uint32_t c, run16 &r) {
        uint32_t high[4];
        r.scale = half_of(b + 108) * q3_k_scale(b + 96, c);
        r.offset = -4.0f * r.scale;
        load_words<4, 2>(b + 32 + c / 8 * 32 + c % 2 * 16, r.q);
        load_words<4, 2>(b + c % 2 * 16, high);
        for (int i = 0; i < 4; i++)
            r.q[i] = (r.q[i] >> c / 2 % 4 * 2 & 0x03030303) | (high[i] >> c / 2 & 0x01010101) << 2;
    }
};

#define FOR_EACH_FLOAT(X) X(f32, F32) X(f16, F16) X(bf16, BF16)
#define FOR_EACH_QUANT(X) \
    X(q4_0, Q4_0)         \
    X(q4_1, Q4_1)         \
    X(q5_0, Q5_0) X(q5_1, Q5_1) X(q8_0, Q8_0) X(q2_k, Q2_K) X(q3_k, Q3_K) X(q4_k, Q4_K) X(q5_k, Q5_K) X(q6_k, Q6_K)
#define FOR_EACH_TYPE(X) FOR_EACH_FLOAT(X) FOR_EACH_QUANT(X)

#endif
