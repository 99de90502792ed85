# The kernels of each instruction set, compiled with that set's options and no others. Every file ends in its set's name
# (matmul_avx2.c); the table in src/kernels/cpu/ calls them only after the CPU was probed for the whole bundle.
set(FERRUM_ISA_SOURCES "")

# Sanitized, these files take minutes: their loops are unrolled, and every access would be checked for null and alignment too.
# AddressSanitizer and the checks of arithmetic stay.
set(sanitized "")
if(FERRUM_ASAN)
  set(sanitized -O1 -fno-sanitize=alignment,null,object-size,pointer-overflow)
endif()
# No fuzzer runs a product: its build has them uninstrumented, which spares most of its time.
if(FERRUM_FUZZ)
  set(sanitized -O1 -fno-sanitize=all)
endif()

function(ferrum_isa folder suffix)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernels/cpu/${folder}/*_${suffix}.c)
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "${ARGN};${sanitized}")
  set(FERRUM_ISA_SOURCES ${FERRUM_ISA_SOURCES} ${sources} PARENT_SCOPE)
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
  set(avx2 -O3 -mavx2 -mfma -mf16c -mbmi2)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512)
  set(amx ${avx512} -mavx512bf16 -mamx-tile -mamx-bf16)
  ferrum_isa(x86 avx2 ${avx2})
  ferrum_isa(x86 avxvnni ${avx2} -mavxvnni)
  ferrum_isa(x86 avx512 ${avx512})
  ferrum_isa(x86 amx ${amx})
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  ferrum_isa(arm neon -O3 -march=armv8.2-a+dotprod)
  ferrum_isa(arm i8mm -O3 -march=armv8.2-a+dotprod+i8mm)
endif()
