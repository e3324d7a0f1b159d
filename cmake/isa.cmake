# Kernels that exist once per instruction set: src/backend/cpu/NAME_avx2.c and NAME_avx512.c include a
# shared body and are compiled for that ISA alone; which one runs is decided at run time.
file(GLOB CENTO_AVX2_SOURCES CONFIGURE_DEPENDS src/backend/cpu/*_avx2.c)
file(GLOB CENTO_AVX512_SOURCES CONFIGURE_DEPENDS src/backend/cpu/*_avx512.c)
file(GLOB CENTO_AVX512BF16_SOURCES CONFIGURE_DEPENDS src/backend/cpu/*_avx512bf16.c)
file(GLOB CENTO_AMX_SOURCES CONFIGURE_DEPENDS src/backend/cpu/*_amx.c)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(${CENTO_AVX2_SOURCES} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
  set_source_files_properties(${CENTO_AVX512_SOURCES} PROPERTIES COMPILE_OPTIONS
    "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-mf16c;-mprefer-vector-width=512")
  set_source_files_properties(${CENTO_AVX512BF16_SOURCES} PROPERTIES COMPILE_OPTIONS
    "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mfma;-mf16c;-mprefer-vector-width=512")
  set_source_files_properties(${CENTO_AMX_SOURCES} PROPERTIES COMPILE_OPTIONS
    "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mamx-tile;-mamx-bf16;-mfma;-mf16c;-mprefer-vector-width=512")
endif()
