# The CUDA backend's host code on a driver without a GPU (standin.h): no nvcc is needed. The library's objects, with this backend.
set(CUDA_DRIVER ${CMAKE_CURRENT_LIST_DIR})

add_library(cuda_standin SHARED ${CUDA_DRIVER}/driver.c)
target_link_libraries(cuda_standin PRIVATE ferrum_flags Threads::Threads)
set_source_files_properties(${CUDA_DRIVER}/driver.c PROPERTIES COMPILE_OPTIONS -Wno-missing-prototypes) # they are looked up by name
set_target_properties(cuda_standin PROPERTIES OUTPUT_NAME cuda SOVERSION 1
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/cuda_driver)

add_library(cuda_driver_backend OBJECT ${FERRUM_CUDA_HOST} ${PROJECT_SOURCE_DIR}/src/kernels/device.c ${CUDA_DRIVER}/modules.c)
target_link_libraries(cuda_driver_backend PRIVATE ferrum_flags Threads::Threads)
target_compile_definitions(cuda_driver_backend PRIVATE FERRUM_CUDA)

add_executable(cuda_driver_host ${CUDA_DRIVER}/test_host.c $<TARGET_OBJECTS:cuda_driver_backend>
  $<FILTER:$<TARGET_OBJECTS:ferrum_objects>,EXCLUDE,/kernels/device[.]c|/kernels/cuda/|/cuda/[a-z_]+[.]c>)
target_link_libraries(cuda_driver_host PRIVATE ferrum_flags PkgConfig::CMOCKA ${FERRUM_TEXT_LIBRARIES} ${CMAKE_DL_LIBS}
  Threads::Threads m)
target_compile_definitions(cuda_driver_host PRIVATE FERRUM_STATIC)
add_dependencies(cuda_driver_host cuda_standin)
add_test(NAME cuda_driver_host COMMAND cuda_driver_host)
set_tests_properties(cuda_driver_host PROPERTIES
  ENVIRONMENT "LD_LIBRARY_PATH=${CMAKE_CURRENT_BINARY_DIR}/cuda_driver:$ENV{LD_LIBRARY_PATH}")
