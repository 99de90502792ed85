/* The table of block types. */
#include "quant/conversions.h"

#include <float.h>

_Static_assert(sizeof(fe_block_q4_0) == 18 && sizeof(fe_block_q4_1) == 20, "Q4_0 and Q4_1 as GGUF stores them");
_Static_assert(sizeof(fe_block_q5_0) == 22 && sizeof(fe_block_q5_1) == 24, "Q5_0 and Q5_1 as GGUF stores them");
_Static_assert(sizeof(fe_block_q8_0) == 34, "Q8_0 as GGUF stores it");
_Static_assert(sizeof(fe_block_q2_k) == 84 && sizeof(fe_block_q3_k) == 110, "Q2_K and Q3_K as GGUF stores them");
_Static_assert(sizeof(fe_block_q4_k) == 144 && sizeof(fe_block_q5_k) == 176, "Q4_K and Q5_K as GGUF stores them");
_Static_assert(sizeof(fe_block_q6_k) == 210, "Q6_K as GGUF stores it");

/* What `largest` is made of. A Q8_0 block's scale is max|x| / 127; the others are found by search, which may go beyond what covers
 * the values, and have half as much room or less. */
#define F16_MAX 65504.0f

static const fe_type_info types[FE_TYPES] = {
    [FERRUM_F32] = {"F32", 1, 4, fe_dequantize_f32, fe_quantize_f32, FLT_MAX},
    [FERRUM_F16] = {"F16", 1, 2, fe_dequantize_f16, fe_quantize_f16, 0x1.ffdffep15f},
    [FERRUM_BF16] = {"BF16", 1, 2, fe_dequantize_bf16, fe_quantize_bf16, 0x1.fefffep127f},
    [FERRUM_Q4_0] = {"Q4_0", 32, sizeof(fe_block_q4_0), fe_dequantize_q4_0, fe_quantize_q4_0, 4 * F16_MAX},
    [FERRUM_Q4_1] = {"Q4_1", 32, sizeof(fe_block_q4_1), fe_dequantize_q4_1, fe_quantize_q4_1, F16_MAX / 2},
    [FERRUM_Q5_0] = {"Q5_0", 32, sizeof(fe_block_q5_0), fe_dequantize_q5_0, fe_quantize_q5_0, 8 * F16_MAX},
    [FERRUM_Q5_1] = {"Q5_1", 32, sizeof(fe_block_q5_1), fe_dequantize_q5_1, fe_quantize_q5_1, F16_MAX / 2},
    [FERRUM_Q8_0] = {"Q8_0", 32, sizeof(fe_block_q8_0), fe_dequantize_q8_0, fe_quantize_q8_0, 127 * F16_MAX},
    [FERRUM_Q2_K] = {"Q2_K", 256, sizeof(fe_block_q2_k), fe_dequantize_q2_k, fe_quantize_q2_k, 8 * F16_MAX},
    [FERRUM_Q3_K] = {"Q3_K", 256, sizeof(fe_block_q3_k), fe_dequantize_q3_k, fe_quantize_q3_k, 64 * F16_MAX},
    [FERRUM_Q4_K] = {"Q4_K", 256, sizeof(fe_block_q4_k), fe_dequantize_q4_k, fe_quantize_q4_k, 32 * F16_MAX},
    [FERRUM_Q5_K] = {"Q5_K", 256, sizeof(fe_block_q5_k), fe_dequantize_q5_k, fe_quantize_q5_k, 32 * F16_MAX},
    [FERRUM_Q6_K] = {"Q6_K", 256, sizeof(fe_block_q6_k), fe_dequantize_q6_k, fe_quantize_q6_k, 2048 * F16_MAX},
};

const fe_type_info *fe_type_info_of(int type) {
    return type >= 0 && type < FE_TYPES && types[type].name ? &types[type] : NULL;
}
