# A simulated Metal (README.md): the library's objects with the Metal backend, our shaders through clang, and the runtime that the
# host code calls.
set(METAL_SIM ${CMAKE_CURRENT_LIST_DIR})

# What the translated shaders are compiled with. Every load and store calls access.c, by the functions of a kernel's address
# sanitizer under another name; copies and fills that the compiler makes calls of are renamed in the object.
set(METAL_SIM_FLAGS -std=c++17 -O2 -mavx2 -mfma -mf16c -fPIC -fno-exceptions -fno-rtti -fno-strict-aliasing -ffp-contract=off
  -fno-vectorize -fno-slp-vectorize -Wno-unknown-attributes -Wno-user-defined-literals -fsanitize=kernel-address
  -mllvm -asan-instrumentation-with-call-threshold=0 -mllvm -asan-stack=0 -mllvm -asan-globals=0
  -mllvm -asan-opt-same-temp=0 -mllvm -asan-memory-access-callback-prefix=metal_sim_)

# metal_sim_library(NAME FILE.metal...): an interface library with the kernels of the files, which are one source, in this order.
function(metal_sim_library name)
  set(base ${CMAKE_CURRENT_BINARY_DIR}/${name})
  add_custom_command(OUTPUT ${base}.o
    COMMAND ${CMAKE_COMMAND} -E cat ${ARGN} > ${base}.metal
    COMMAND Python3::Interpreter ${METAL_SIM}/translate.py ${FERRUM_CLANGXX} ${base}.metal ${base}.cpp
    COMMAND ${FERRUM_CLANGXX} ${METAL_SIM_FLAGS} -I${METAL_SIM} -c ${base}.cpp -o ${base}.o
    COMMAND ${CMAKE_OBJCOPY} --redefine-sym memcpy=metal_sim_memcpy --redefine-sym memset=metal_sim_memset ${base}.o
    DEPENDS ${ARGN} ${METAL_SIM}/translate.py ${METAL_SIM}/metal_stdlib.h ${METAL_SIM}/sim.h VERBATIM)
  add_library(${name} INTERFACE)
  target_sources(${name} INTERFACE ${base}.o)
endfunction()

# Fibers change stacks under the sanitizers' feet: these files are compiled without.
add_library(metal_sim_objects OBJECT ${METAL_SIM}/access.c ${METAL_SIM}/grid.c ${METAL_SIM}/metal.c ${METAL_SIM}/objc.c)
add_library(metal_sim_flags INTERFACE)
target_compile_options(metal_sim_flags INTERFACE -O2 -ftls-model=initial-exec -fno-sanitize=all)
target_link_libraries(metal_sim_objects PRIVATE ferrum_flags metal_sim_flags Threads::Threads) # the latter's have the last word

add_library(metal_sim INTERFACE)
target_sources(metal_sim INTERFACE $<TARGET_OBJECTS:metal_sim_objects>)
target_include_directories(metal_sim INTERFACE ${METAL_SIM})
target_link_libraries(metal_sim INTERFACE Threads::Threads m)

# The simulation itself.
metal_sim_library(metal_sim_faults ${METAL_SIM}/faults.metal)
add_executable(check_faults ${METAL_SIM}/check_faults.c)
target_link_libraries(check_faults PRIVATE ferrum_flags metal_sim metal_sim_faults)
target_compile_definitions(check_faults PRIVATE FAULTS_SOURCE="${METAL_SIM}/faults.metal")
add_test(NAME metal_sim_faults COMMAND check_faults)
set_tests_properties(metal_sim_faults PROPERTIES SKIP_RETURN_CODE 77)

# The library with the Metal backend. Only device.c, which lists the backends, is another one.
add_library(metal_sim_backend OBJECT ${FERRUM_METAL_HOST} ${PROJECT_SOURCE_DIR}/src/kernels/device.c)
target_link_libraries(metal_sim_backend PRIVATE ferrum_flags Threads::Threads)
target_compile_definitions(metal_sim_backend PRIVATE FERRUM_METAL)
metal_sim_library(metal_sim_shaders ${FERRUM_METAL_KERNELS})
add_library(ferrum_metal_sim INTERFACE)
target_sources(ferrum_metal_sim INTERFACE $<TARGET_OBJECTS:metal_sim_backend>
  $<FILTER:$<TARGET_OBJECTS:ferrum_objects>,EXCLUDE,/kernels/device[.]c>)
target_link_libraries(ferrum_metal_sim INTERFACE metal_sim metal_sim_shaders ${FERRUM_TEXT_LIBRARIES})

# metal_sim_test(TEST SOURCE ARGUMENTS...): a test of the device "metal".
function(metal_sim_test test source)
  add_executable(${test} ${source})
  target_link_libraries(${test} PRIVATE ferrum_flags ferrum_metal_sim PkgConfig::CMOCKA PkgConfig::JANSSON)
  target_compile_definitions(${test} PRIVATE FERRUM_STATIC TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  add_test(NAME ${test} COMMAND ${test} ${ARGN})
endfunction()
metal_sim_test(metal_sim_ops kernels/check_ops.c --device metal ${check_ops_options})
metal_sim_test(metal_sim_golden unit/test_golden.c on_metal)
metal_sim_test(metal_sim_embed unit/test_embed.c on_metal)
metal_sim_test(metal_sim_kernels kernels/check_gpu.c ${check_gpu_options})
add_test(NAME metal_sim_self_test COMMAND metal_sim_kernels --self-test)
metal_sim_test(metal_sim_host metal_sim/test_host.c)

# What Metal has not must not creep in where clang would take it.
add_test(NAME metal_lint COMMAND Python3::Interpreter ${METAL_SIM}/lint.py ${FERRUM_CLANGXX} ${FERRUM_METAL_KERNELS})
add_test(NAME metal_lint_self_test COMMAND Python3::Interpreter ${METAL_SIM}/test_lint.py ${FERRUM_CLANGXX})
