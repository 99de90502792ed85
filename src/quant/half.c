/* F32, F16 and BF16: blocks of one element. */
#include "quant/conversions.h"

#include <string.h>

float ferrum_f16_to_f32(uint16_t h) { return fe_f16_to_f32(h); }
uint16_t ferrum_f32_to_f16(float f) { return fe_f32_to_f16(f); }
float ferrum_bf16_to_f32(uint16_t b) { return fe_bf16_to_f32(b); }
uint16_t ferrum_f32_to_bf16(float f) { return fe_f32_to_bf16(f); }

static uint16_t load_u16(const void *data, size_t index) {
    uint16_t u;
    memcpy(&u, (const char *)data + index * sizeof u, sizeof u);
    return u;
}

static void store_u16(void *data, size_t index, uint16_t u) { memcpy((char *)data + index * sizeof u, &u, sizeof u); }

void fe_dequantize_f32(float *out, const void *blocks, size_t count) {
    if (count) memcpy(out, blocks, count * sizeof *out);
}

void fe_dequantize_f16(float *out, const void *blocks, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = fe_f16_to_f32(load_u16(blocks, i));
}

void fe_dequantize_bf16(float *out, const void *blocks, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = fe_bf16_to_f32(load_u16(blocks, i));
}

void fe_quantize_f32(void *blocks, const float *x, size_t count) {
    if (count) memcpy(blocks, x, count * sizeof *x);
}

void fe_quantize_f16(void *blocks, const float *x, size_t count) {
    for (size_t i = 0; i < count; i++) store_u16(blocks, i, fe_f32_to_f16(x[i]));
}

void fe_quantize_bf16(void *blocks, const float *x, size_t count) {
    for (size_t i = 0; i < count; i++) store_u16(blocks, i, fe_f32_to_bf16(x[i]));
}
