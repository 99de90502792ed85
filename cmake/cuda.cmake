# The CUDA backend: its host code, which opens the driver's library at run time, and its kernels as compressed fat binaries: machine
# code for the architectures below, and PTX that the driver compiles for others from 9.0 on. Modules named _wide are of compute capability 9.0 alone.
include(cmake/embed.cmake)
set(FERRUM_CUDA_ARCHITECTURES 80 90 120 CACHE STRING "Architectures that the CUDA kernels are compiled for")
set(FERRUM_CUDA_MODULES vector pack token gemv gemm gemm_wide attention attention_wide moe top)
file(GLOB FERRUM_CUDA_HOST CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.c)
file(GLOB FERRUM_CUDA_HEADERS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.cuh
  ${PROJECT_SOURCE_DIR}/src/kernels/cuda/shared.h)

# Adds the modules' sources, as C, to the list *out*.
function(ferrum_cuda_modules out)
  find_program(FERRUM_NVCC nvcc HINTS /usr/local/cuda/bin REQUIRED)
  get_filename_component(bin ${FERRUM_NVCC} DIRECTORY)
  find_program(FERRUM_BIN2C bin2c HINTS ${bin} REQUIRED)
  set(all -gencode arch=compute_90,code=compute_90)
  foreach(architecture IN LISTS FERRUM_CUDA_ARCHITECTURES)
    list(APPEND all -gencode arch=compute_${architecture},code=sm_${architecture})
  endforeach()
  set(folder ${PROJECT_BINARY_DIR}/cuda)
  file(MAKE_DIRECTORY ${folder})
  set(sources "")
  foreach(module IN LISTS FERRUM_CUDA_MODULES)
    set(source ${PROJECT_SOURCE_DIR}/src/kernels/cuda/${module}.cu)
    set(code ${all})
    if(module MATCHES "_wide$")
      set(code -gencode arch=compute_90a,code=sm_90a)
    endif()
    add_custom_command(OUTPUT ${folder}/${module}.c
      COMMAND ${FERRUM_NVCC} -std=c++17 -Werror all-warnings -fatbin -compress-mode=size ${code} ${source}
        -o ${folder}/${module}.fatbin
      COMMAND ${FERRUM_BIN2C} --const --type longlong --name fe_cuda_module_${module} ${folder}/${module}.fatbin >
        ${folder}/${module}.c
      DEPENDS ${source} ${FERRUM_CUDA_HEADERS} VERBATIM)
    list(APPEND sources ${folder}/${module}.c)
  endforeach()
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS -w)
  set(${out} ${sources} PARENT_SCOPE)
endfunction()
