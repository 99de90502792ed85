/* The vector kernels for AVX2, FMA and F16C. */
#include "kernels/cpu/simd_avx2.h"

#define FE_VECTOR_INIT fe_vector_init_avx2
#include "kernels/cpu/vector_template.h"
