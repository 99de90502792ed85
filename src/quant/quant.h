/* Block types: their layouts, and the reference conversions that every kernel is tested by.
 * Source of the layouts and of the numbers: ggml's block definitions, as the GGUF specification refers to them. */
#ifndef FE_QUANT_H
#define FE_QUANT_H

#include <ferrum/kernels.h>

enum { FE_TYPES = 31 }; /* one more than the largest ferrum_type */

typedef struct fe_type_info {
    const char *name;                                                 /* "Q4_K" */
    uint16_t block, bytes;                                            /* elements and bytes of one block */
    void (*dequantize)(float *out, const void *blocks, size_t count); /* count blocks */
    void (*quantize)(void *blocks, const float *x, size_t count);     /* count blocks */
    float
        largest; /* magnitude that quantize takes, lest a block's fp16 scale overflow; of the others: that stays finite */
} fe_type_info;

/* NULL for an unknown type. */
const fe_type_info *fe_type_info_of(int type);

/* half and bfloat16, inline for the kernels in C */
static inline float fe_bits_f32(uint32_t u) {
    union {
        uint32_t u;
        float f;
    } v = {.u = u};
    return v.f;
}
static inline uint32_t fe_f32_bits(float f) {
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    return v.u;
}

/* Integer arithmetic and exact products only, so that a flush-to-zero mode changes nothing. A NaN becomes a quiet one. */
static inline float fe_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3FF;
    uint32_t magnitude;
    if (exponent == 31) {
        magnitude = 0x7F800000 | fraction << 13 | (fraction ? 0x400000 : 0);
    } else if (exponent == 0) {
        magnitude = fe_f32_bits((float)fraction * 0x1p-24f);
    } else {
        magnitude = (exponent + 112) << 23 | fraction << 13;
    }
    return fe_bits_f32(sign | magnitude);
}
static inline uint16_t fe_f32_to_f16(float f) {
    uint32_t u = fe_f32_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF;
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (a >> 13 & 0x3FF));
    if (a >= 0x47800000) return (uint16_t)(sign | 0x7C00); /* from 2^16 on */
    if (a < 0x38800000) /* below 2^-14: the ulp of 0.5 is half's smallest step, so the sum rounds for us */
        return (uint16_t)(sign | (fe_f32_bits(fe_bits_f32(a) + 0.5f) - fe_f32_bits(0.5f)));
    return (uint16_t)(sign | (a - (112u << 23) + 0xFFF + (a >> 13 & 1)) >> 13);
}
static inline float fe_bf16_to_f32(uint16_t b) { return fe_bits_f32((uint32_t)b << 16); }
static inline uint16_t fe_f32_to_bf16(float f) {
    uint32_t u = fe_f32_bits(f);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

/* clang-format off */
typedef struct { uint16_t d; uint8_t qs[16]; } fe_block_q4_0;                /* w = d · (q - 8); low nibbles first */
typedef struct { uint16_t d, m; uint8_t qs[16]; } fe_block_q4_1;             /* w = d · q + m */
typedef struct { uint16_t d; uint8_t qh[4], qs[16]; } fe_block_q5_0;         /* w = d · (q - 16); qh: the fifth bits */
typedef struct { uint16_t d, m; uint8_t qh[4], qs[16]; } fe_block_q5_1;      /* w = d · q + m */
typedef struct { uint16_t d; int8_t qs[32]; } fe_block_q8_0;                 /* w = d · q */
typedef struct { uint8_t scales[16], qs[64]; uint16_t d, dmin; } fe_block_q2_k;
typedef struct { uint8_t hmask[32], qs[64], scales[12]; uint16_t d; } fe_block_q3_k;
typedef struct { uint16_t d, dmin; uint8_t scales[12], qs[128]; } fe_block_q4_k;
typedef struct { uint16_t d, dmin; uint8_t scales[12], qh[32], qs[128]; } fe_block_q5_k;
typedef struct { uint8_t ql[128], qh[64]; int8_t scales[16]; uint16_t d; } fe_block_q6_k;
/* clang-format on */

#endif
