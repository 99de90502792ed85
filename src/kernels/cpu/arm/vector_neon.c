/* The vector kernels for NEON. */
#include "kernels/cpu/simd_neon.h"

#define FE_VECTOR_INIT fe_vector_init_neon
#include "kernels/cpu/vector_template.h"
