/* Q2_K … Q6_K: super-blocks of 256 elements in sub-blocks of 16 or 32, whose integer scales (and minimums) multiply the
 * super-block's fp16 ones. With s and m the sub-block's integers and q the element's:
 *   Q2_K, Q4_K, Q5_K: w = (d · s) · q - dmin · m      Q3_K, Q6_K: w = (d · s) · q
 * in fp32 and in this order. Every product is exact there (11 + 7 + 6 bits at most), so that only the subtraction rounds.
 * A block is copied out first, because blocks lie at any alignment. */
#include "quant/conversions.h"

#include <string.h>

/* Element i's two bits, as Q2_K and Q3_K hold them: 128 elements in 32 bytes, 32 elements to each pair of bits. */
static int two_bits(const uint8_t qs[64], size_t i) { return qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3; }

/* Sub-block j's 4-bit scale in the low, 4-bit minimum in the high nibble of scales[j]. */
void fe_dequantize_q2_k(float *out, const void *blocks, size_t count) {
    fe_block_q2_k b;
    for (size_t n = 0; n < count; n++, out += 256) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d), dmin = fe_f16_to_f32(b.dmin);
        for (size_t i = 0; i < 256; i++) {
            int s = b.scales[i / 16] & 15, m = b.scales[i / 16] >> 4;
            out[i] = d * (float)s * (float)two_bits(b.qs, i) - dmin * (float)m;
        }
    }
}

/* Sub-block j's 6-bit scale, stored with 32 added: four bits in a nibble of bytes 0 … 7, two bits in bytes 8 … 11. */
static int q3_k_scale(const uint8_t scales[12], size_t j) {
    int low = scales[j % 8] >> (j / 8 * 4) & 15, high = scales[8 + j % 4] >> (j / 4 * 2) & 3;
    return (low | high << 4) - 32;
}

/* A set bit in hmask means that 4 is not subtracted. */
void fe_dequantize_q3_k(float *out, const void *blocks, size_t count) {
    fe_block_q3_k b;
    for (size_t n = 0; n < count; n++, out += 256) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d);
        for (size_t i = 0; i < 256; i++) {
            int q = two_bits(b.qs, i) - (b.hmask[i % 32] >> i / 32 & 1 ? 0 : 4);
            out[i] = d * (float)q3_k_scale(b.scales, i / 16) * (float)q;
        }
    }
}

/* Sub-block j's 6-bit scale and minimum. Bytes 0 … 3 and 4 … 7 hold those of sub-blocks 0 … 3 in their low six bits and
 * the upper two bits of sub-blocks 4 … 7 above them; bytes 8 … 11 the lower four bits of the latter, scale below minimum. */
static void q4_k_scale(const uint8_t scales[12], size_t j, int *s, int *m) {
    if (j < 4) {
        *s = scales[j] & 63;
        *m = scales[j + 4] & 63;
    } else {
        *s = (scales[j + 4] & 15) | scales[j - 4] >> 6 << 4;
        *m = scales[j + 4] >> 4 | scales[j] >> 6 << 4;
    }
}

/* Element i's nibble: 64 elements in 32 bytes, the low nibbles first. */
static int k_nibble(const uint8_t qs[128], size_t i) { return qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15; }

void fe_dequantize_q4_k(float *out, const void *blocks, size_t count) {
    fe_block_q4_k b;
    for (size_t n = 0; n < count; n++, out += 256) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d), dmin = fe_f16_to_f32(b.dmin);
        for (size_t i = 0; i < 256; i++) {
            int s, m;
            q4_k_scale(b.scales, i / 32, &s, &m);
            out[i] = d * (float)s * (float)k_nibble(b.qs, i) - dmin * (float)m;
        }
    }
}

/* Q4_K's scales and nibbles; bit j of qh[i % 32] is the fifth bit in sub-block j. */
void fe_dequantize_q5_k(float *out, const void *blocks, size_t count) {
    fe_block_q5_k b;
    for (size_t n = 0; n < count; n++, out += 256) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d), dmin = fe_f16_to_f32(b.dmin);
        for (size_t i = 0; i < 256; i++) {
            int s, m, q = k_nibble(b.qs, i) | (b.qh[i % 32] >> i / 32 & 1) << 4;
            q4_k_scale(b.scales, i / 32, &s, &m);
            out[i] = d * (float)s * (float)q - dmin * (float)m;
        }
    }
}

/* 128 elements in 64 bytes of ql, the 64 low nibbles first, and in 32 bytes of qh as in two_bits. */
void fe_dequantize_q6_k(float *out, const void *blocks, size_t count) {
    fe_block_q6_k b;
    for (size_t n = 0; n < count; n++, out += 256) {
        memcpy(&b, (const char *)blocks + n * sizeof b, sizeof b);
        float d = fe_f16_to_f32(b.d);
        for (size_t i = 0; i < 256; i++) {
            int low = b.ql[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15;
            int q = (low | two_bits(b.qh, i) << 4) - 32;
            out[i] = d * (float)b.scales[i / 16] * (float)q;
        }
    }
}
