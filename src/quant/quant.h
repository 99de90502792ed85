/* Block types: their layouts, and the reference conversions that every kernel is tested by.
 * Source of the layouts and of the numbers: ggml's block definitions, as the GGUF specification refers to them. */
#ifndef FE_QUANT_H
#define FE_QUANT_H

#include <ferrum/kernels.h>

enum { FE_TYPES = 31 }; /* one more than the largest ferrum_type */

typedef struct fe_type_info {
    const char *name;      /* "Q4_K" */
    uint16_t block, bytes; /* elements and bytes of one block */
    void (*dequantize)(float *out, const void *blocks, size_t count); /* count blocks */
    void (*quantize)(void *blocks, const float *x, size_t count);     /* count blocks; NULL where there is none */
} fe_type_info;

/* NULL for an unknown type. */
const fe_type_info *fe_type_info_of(int type);

/* half and bfloat16, inline for the kernels in C */
static inline float fe_bits_f32(uint32_t u) {
    union { uint32_t u; float f; } v = {.u = u};
    return v.f;
}
static inline uint32_t fe_f32_bits(float f) {
    union { float f; uint32_t u; } v = {.f = f};
    return v.u;
}

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

#endif
