/* The vector kernels in portable C. */
#include "kernels/cpu/simd_c.h"

#define FE_VECTOR_INIT fe_vector_init_c
#include "kernels/cpu/vector_template.h"
