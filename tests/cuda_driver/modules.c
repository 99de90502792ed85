/* Modules without kernels: the stand-in reads their names. */
#include "kernels/cuda/backend.h"

#define MODULE(name)                                    \
    extern const unsigned char fe_cuda_module_##name[]; \
    const unsigned char fe_cuda_module_##name[] = #name;
CUDA_MODULES(MODULE)
