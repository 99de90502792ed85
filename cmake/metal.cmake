# The Metal backend: its host code, and its kernels, which go into the library as source text for the device to compile. The
# variables serve the simulated device of the tests too.
include(cmake/embed.cmake)
set(FERRUM_METAL_KERNELS "")
foreach(name IN ITEMS shared.h types.metal dequantize.metal vector.metal gemv.metal gemm.metal attention.metal moe.metal)
  list(APPEND FERRUM_METAL_KERNELS ${PROJECT_SOURCE_DIR}/src/kernels/metal/${name})
endforeach()
ferrum_embed(FERRUM_METAL_SOURCE fe_metal_source ${FERRUM_METAL_KERNELS})
file(GLOB FERRUM_METAL_HOST CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/metal/*.c)
list(APPEND FERRUM_METAL_HOST ${FERRUM_METAL_SOURCE})
