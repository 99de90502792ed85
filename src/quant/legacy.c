/* Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: blocks of 32 with one fp16 scale and, in the _1 types, one fp16 minimum.
 * In the 4- and 5-bit types byte j of qs holds element j in its low and element j + 16 in its high nibble; bit i of qh is
 * element i's fifth bit. A block is copied out first, because blocks lie at any alignment. */
#include "quant/conversions.h"

#include <math.h>
#include <string.h>

static int nibble(const uint8_t qs[16], size_t i) { return qs[i % 16] >> (i / 16 * 4) & 15; }

static int fifth_bit(const uint8_t qh[4], size_t i) { return (qh[i / 8] >> i % 8 & 1) << 4; }

void fe_dequantize_q4_0(float *out, const void *blocks, size_t count) {
    fe_block_q4_0 b;
    for (size_t n = 0; n < count; n++, out += 32) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d);
        for (size_t i = 0; i < 32; i++) out[i] = d * (float)(nibble(b.qs, i) - 8);
    }
}

void fe_dequantize_q4_1(float *out, const void *blocks, size_t count) {
    fe_block_q4_1 b;
    for (size_t n = 0; n < count; n++, out += 32) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d), m = fe_f16_to_f32(b.m);
        for (size_t i = 0; i < 32; i++) out[i] = d * (float)nibble(b.qs, i) + m;
    }
}

void fe_dequantize_q5_0(float *out, const void *blocks, size_t count) {
    fe_block_q5_0 b;
    for (size_t n = 0; n < count; n++, out += 32) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d);
        for (size_t i = 0; i < 32; i++) out[i] = d * (float)((nibble(b.qs, i) | fifth_bit(b.qh, i)) - 16);
    }
}

void fe_dequantize_q5_1(float *out, const void *blocks, size_t count) {
    fe_block_q5_1 b;
    for (size_t n = 0; n < count; n++, out += 32) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d), m = fe_f16_to_f32(b.m);
        for (size_t i = 0; i < 32; i++) out[i] = d * (float)(nibble(b.qs, i) | fifth_bit(b.qh, i)) + m;
    }
}

void fe_dequantize_q8_0(float *out, const void *blocks, size_t count) {
    fe_block_q8_0 b;
    for (size_t n = 0; n < count; n++, out += 32) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d);
        for (size_t i = 0; i < 32; i++) out[i] = d * (float)b.qs[i];
    }
}

/* d = max|x| / 127 in fp32, q = x · (1/d) rounded half away from zero; d is stored rounded to fp16. Where 1/d overflows,
 * d is far below fp16's smallest number: the block is zero whatever q is. */
void fe_quantize_q8_0(void *blocks, const float *x, size_t count) {
    fe_block_q8_0 b;
    for (size_t n = 0; n < count; n++, x += 32) {
        float max = 0;
        for (size_t i = 0; i < 32; i++) max = fmaxf(max, fabsf(x[i]));
        float d = max / 127, inverse = d != 0 ? 1 / d : 0;
        if (isinf(inverse)) inverse = 0;
        b.d = fe_f32_to_f16(d);
        for (size_t i = 0; i < 32; i++) b.qs[i] = (int8_t)roundf(x[i] * inverse);
        memcpy((char *)blocks + n * sizeof b, &b, sizeof b);
    }
}
