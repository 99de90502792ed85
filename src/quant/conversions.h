/* The reference conversions, one file a family. Each takes `count` blocks at any alignment. */
#ifndef FE_QUANT_CONVERSIONS_H
#define FE_QUANT_CONVERSIONS_H

#include "quant/quant.h"

/* half.c */
void fe_dequantize_f32(float *out, const void *blocks, size_t count);
void fe_dequantize_f16(float *out, const void *blocks, size_t count);
void fe_dequantize_bf16(float *out, const void *blocks, size_t count);
void fe_quantize_f32(void *blocks, const float *x, size_t count);
void fe_quantize_f16(void *blocks, const float *x, size_t count);
void fe_quantize_bf16(void *blocks, const float *x, size_t count);

/* legacy.c: blocks of 32 */
void fe_dequantize_q4_0(float *out, const void *blocks, size_t count);
void fe_dequantize_q4_1(float *out, const void *blocks, size_t count);
void fe_dequantize_q5_0(float *out, const void *blocks, size_t count);
void fe_dequantize_q5_1(float *out, const void *blocks, size_t count);
void fe_dequantize_q8_0(float *out, const void *blocks, size_t count);
void fe_quantize_q8_0(void *blocks, const float *x, size_t count);

/* k_quants.c: super-blocks of 256 */
void fe_dequantize_q2_k(float *out, const void *blocks, size_t count);
void fe_dequantize_q3_k(float *out, const void *blocks, size_t count);
void fe_dequantize_q4_k(float *out, const void *blocks, size_t count);
void fe_dequantize_q5_k(float *out, const void *blocks, size_t count);
void fe_dequantize_q6_k(float *out, const void *blocks, size_t count);

/* legacy_quantize.c */
void fe_quantize_q4_0(void *blocks, const float *x, size_t count);
void fe_quantize_q4_1(void *blocks, const float *x, size_t count);
void fe_quantize_q5_0(void *blocks, const float *x, size_t count);
void fe_quantize_q5_1(void *blocks, const float *x, size_t count);

/* k_line_quantize.c */
void fe_quantize_q2_k(void *blocks, const float *x, size_t count);
void fe_quantize_q4_k(void *blocks, const float *x, size_t count);
void fe_quantize_q5_k(void *blocks, const float *x, size_t count);

/* k_scale_quantize.c */
void fe_quantize_q3_k(void *blocks, const float *x, size_t count);
void fe_quantize_q6_k(void *blocks, const float *x, size_t count);

#endif
