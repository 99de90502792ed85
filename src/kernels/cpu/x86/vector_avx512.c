/* The vector kernels for AVX-512. */
#include "kernels/cpu/simd_avx512.h"

#define FE_VECTOR_INIT fe_vector_init_avx512
#include "kernels/cpu/vector_template.h"
