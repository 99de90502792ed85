/* How the arm64 kernels read blocks: the quants of 32 elements as signed bytes in their order (quants_*), with a type's constant
 * offset taken off, and the scales of a panel of 256 elements (scales_*). `w` is the panel's first byte, at any alignment: a
 * super-block, or up to 8 blocks of 32 (`groups` of them). `g` is the group of 32 within it. */
#ifndef FE_ARM_UNPACK_H
#define FE_ARM_UNPACK_H

#include "kernels/cpu/act.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"

/* Keeps a vector in a register as it is, in the order of the program: GCC would finish one of many sums after the other, and
 * has no registers left for what they share. */
#define FE_KEEP(v) __asm__ volatile("" : "+w"(v))
/* Has a vector worked out though nothing reads it. */
#define FE_USE(v) __asm__ volatile("" : : "w"(v))

FE_INLINE float load_half(const uint8_t *p) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(load_u16(p)))), 0);
}

/* The lines from p + ahead on that hold `bytes` bytes; they may lie anywhere, even outside of the weights. */
FE_INLINE void prefetch(const uint8_t *p, size_t ahead, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const void *)((uintptr_t)p + ahead + i));
}

/* ---- Quants ------------------------------------------------------------------------------------------------------- */

typedef int8x16x2_t (*quants_fn)(const uint8_t *w, size_t g);

typedef struct bytes_32 {
    uint8x16_t v[2];
} bytes_32;

FE_INLINE bytes_32 load_256(const uint8_t *p) { return (bytes_32){{vld1q_u8(p), vld1q_u8(p + 16)}}; }
/* Shifted, where a negative count shifts to the right, and masked where that leaves other bits. */
FE_INLINE bytes_32 bits(bytes_32 x, int left, int mask) {
    int remain = left < 0 ? 255 >> -left : 255 << left & 255;
    FE_UNROLL for (size_t i = 0; i < 2; i++) {
        if (left) x.v[i] = vshlq_u8(x.v[i], vdupq_n_s8((int8_t)left));
        if (mask != remain) x.v[i] = vandq_u8(x.v[i], vdupq_n_u8((uint8_t)mask));
    }
    return x;
}
FE_INLINE bytes_32 either(bytes_32 a, bytes_32 b) {
    return (bytes_32){{vorrq_u8(a.v[0], b.v[0]), vorrq_u8(a.v[1], b.v[1])}};
}
FE_INLINE int8x16x2_t less(bytes_32 x, int offset) {
    int8x16_t by = vdupq_n_s8((int8_t)offset);
    return (int8x16x2_t){{vsubq_s8(vreinterpretq_s8_u8(x.v[0]), by), vsubq_s8(vreinterpretq_s8_u8(x.v[1]), by)}};
}

/* 16 bytes: their low nibbles, then their high ones. */
FE_INLINE bytes_32 nibbles(const uint8_t *qs) {
    uint8x16_t x = vld1q_u8(qs);
    return (bytes_32){{vandq_u8(x, vdupq_n_u8(15)), vshrq_n_u8(x, 4)}};
}

/* 32 bits, to 16 in byte i where bit i is set. */
FE_INLINE bytes_32 fifth_bits(const uint8_t *qh) {
    const uint8x16_t spread = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1)), two = vdupq_n_u8(2), sixteen = vdupq_n_u8(16);
    uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    uint8x16_t x = vreinterpretq_u8_u32(vdupq_n_u32(load_u32(qh)));
    return (bytes_32){{vandq_u8(vtstq_u8(vqtbl1q_u8(x, spread), bit), sixteen),
                       vandq_u8(vtstq_u8(vqtbl1q_u8(x, vaddq_u8(spread, two)), bit), sixteen)}};
}

FE_INLINE int8x16x2_t quants_q4_0(const uint8_t *w, size_t g) { return less(nibbles(w + g * 18 + 2), 8); }
FE_INLINE int8x16x2_t quants_q4_1(const uint8_t *w, size_t g) { return less(nibbles(w + g * 20 + 4), 0); }
FE_INLINE int8x16x2_t quants_q5_0(const uint8_t *w, size_t g) {
    return less(either(nibbles(w + g * 22 + 6), fifth_bits(w + g * 22 + 2)), 16);
}
FE_INLINE int8x16x2_t quants_q5_1(const uint8_t *w, size_t g) {
    return less(either(nibbles(w + g * 24 + 8), fifth_bits(w + g * 24 + 4)), 0);
}
FE_INLINE int8x16x2_t quants_q8_0(const uint8_t *w, size_t g) { return less(load_256(w + g * 34 + 2), 0); }

FE_INLINE int8x16x2_t quants_q4_k(const uint8_t *w, size_t g) {
    return less(bits(load_256(w + 16 + g / 2 * 32), g % 2 ? -4 : 0, 15), 0);
}
FE_INLINE int8x16x2_t quants_q5_k(const uint8_t *w, size_t g) {
    bytes_32 low = bits(load_256(w + 48 + g / 2 * 32), g % 2 ? -4 : 0, 15);
    return less(either(low, bits(load_256(w + 16), 4 - (int)g, 16)), 0);
}
FE_INLINE int8x16x2_t quants_q6_k(const uint8_t *w, size_t g) {
    bytes_32 low = bits(load_256(w + g / 4 * 64 + g % 2 * 32), g % 4 / 2 ? -4 : 0, 15);
    return less(either(low, bits(load_256(w + 128 + g / 4 * 32), 4 - (int)(g % 4) * 2, 48)), 32);
}
FE_INLINE int8x16x2_t quants_q3_k(const uint8_t *w, size_t g) {
    bytes_32 low = bits(load_256(w + 32 + g / 4 * 32), -(int)(g % 4) * 2, 3);
    return less(either(low, bits(load_256(w), 2 - (int)g, 4)), 4);
}
FE_INLINE int8x16x2_t quants_q2_k(const uint8_t *w, size_t g) {
    return less(bits(load_256(w + 16 + g / 4 * 32), -(int)(g % 4) * 2, 3), 0);
}

/* ---- Scales of types with one per 32: w = scale · q + add --------------------------------------------------------- */

typedef struct scales_32 {
    float32x4_t scale[2], add[2];
} scales_32;

typedef scales_32 (*scales_32_fn)(const uint8_t *w, size_t groups);

/* One half in each of `groups` blocks of `bytes` bytes. */
FE_INLINE void load_halves(float32x4_t out[2], const uint8_t *w, size_t bytes, size_t groups) {
    uint16x8_t h = vdupq_n_u16(load_u16(w));
    h = vsetq_lane_u16(load_u16(block_at(w, bytes, 1, groups)), h, 1);
    h = vsetq_lane_u16(load_u16(block_at(w, bytes, 2, groups)), h, 2);
    h = vsetq_lane_u16(load_u16(block_at(w, bytes, 3, groups)), h, 3);
    h = vsetq_lane_u16(load_u16(block_at(w, bytes, 4, groups)), h, 4);
    h = vsetq_lane_u16(load_u16(block_at(w, bytes, 5, groups)), h, 5);
    h = vsetq_lane_u16(load_u16(block_at(w, bytes, 6, groups)), h, 6);
    h = vsetq_lane_u16(load_u16(block_at(w, bytes, 7, groups)), h, 7);
    out[0] = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(h)));
    out[1] = vcvt_high_f32_f16(vreinterpretq_f16_u16(h));
}

FE_INLINE scales_32 scales_d(const uint8_t *w, size_t bytes, size_t groups) {
    scales_32 s = {.add = {vdupq_n_f32(0), vdupq_n_f32(0)}};
    load_halves(s.scale, w, bytes, groups);
    return s;
}
FE_INLINE scales_32 scales_dm(const uint8_t *w, size_t bytes, size_t groups) {
    scales_32 s;
    load_halves(s.scale, w, bytes, groups);
    load_halves(s.add, w + 2, bytes, groups);
    return s;
}

/* Eight bytes, each times d. */
FE_INLINE void scaled_bytes(float32x4_t out[2], uint64_t bytes, float d) {
    uint16x8_t x = vmovl_u8(vcreate_u8(bytes));
    out[0] = vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(x))), d);
    out[1] = vmulq_n_f32(vcvtq_f32_u32(vmovl_high_u16(x)), d);
}

/* Q4_K's and Q5_K's. */
FE_INLINE scales_32 scales_6_bit(const uint8_t *w) {
    bytes_6_bit b = spread_6_bit(w);
    scales_32 s;
    scaled_bytes(s.scale, b.scale, load_half(w));
    scaled_bytes(s.add, b.min, -load_half(w + 2));
    return s;
}

FE_INLINE scales_32 scales_q4_0(const uint8_t *w, size_t groups) { return scales_d(w, 18, groups); }
FE_INLINE scales_32 scales_q4_1(const uint8_t *w, size_t groups) { return scales_dm(w, 20, groups); }
FE_INLINE scales_32 scales_q5_0(const uint8_t *w, size_t groups) { return scales_d(w, 22, groups); }
FE_INLINE scales_32 scales_q5_1(const uint8_t *w, size_t groups) { return scales_dm(w, 24, groups); }
FE_INLINE scales_32 scales_q8_0(const uint8_t *w, size_t groups) { return scales_d(w, 34, groups); }
FE_INLINE scales_32 scales_q4_k(const uint8_t *w, size_t groups) {
    (void)groups;
    return scales_6_bit(w);
}
FE_INLINE scales_32 scales_q5_k(const uint8_t *w, size_t groups) {
    (void)groups;
    return scales_6_bit(w);
}

/* ---- Scales of types with one per 16: w = d · scale · q - dmin · min ------------------------------------------------ */

typedef struct scales_16 {
    int8x16_t scale, min;
    float d, dmin;
} scales_16;

typedef scales_16 (*scales_16_fn)(const uint8_t *w);

/* 16 signed bytes as integers of 32 bits. */
FE_INLINE void widen(int32x4_t out[4], int8x16_t x) {
    int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_high_s8(x);
    out[0] = vmovl_s16(vget_low_s16(low));
    out[1] = vmovl_high_s16(low);
    out[2] = vmovl_s16(vget_low_s16(high));
    out[3] = vmovl_high_s16(high);
}

FE_INLINE scales_16 scales_q6_k(const uint8_t *w) {
    return (scales_16){vreinterpretq_s8_u8(vld1q_u8(w + 192)), vdupq_n_s8(0), load_half(w + 208), 0};
}
FE_INLINE scales_16 scales_q3_k(const uint8_t *w) {
    uint64_t b[2];
    spread_q3_k(b, w);
    int8x16_t scale = vsubq_s8(vcombine_s8(vcreate_s8(b[0]), vcreate_s8(b[1])), vdupq_n_s8(32));
    return (scales_16){scale, vdupq_n_s8(0), load_half(w + 108), 0};
}
FE_INLINE scales_16 scales_q2_k(const uint8_t *w) {
    uint8x16_t x = vld1q_u8(w);
    return (scales_16){vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8(x, 4)),
                       load_half(w + 80), load_half(w + 82)};
}

#endif
