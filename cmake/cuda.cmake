# The CUDA backend, where nvcc is found: src/backend/cuda/*.c and *.cu. The runtime is linked in, cuBLASLt is
# found at run time, so the program also starts where there is neither.
find_program(CENTO_NVCC nvcc PATHS /usr/local/cuda/bin $ENV{CUDA_HOME}/bin)
if(CENTO_NVCC)
  find_package(CUDAToolkit 12.4 QUIET)
endif()
set(CENTO_CUDA_DEFAULT OFF)
if(CUDAToolkit_FOUND AND NOT CENTO_SANITIZE AND NOT CENTO_FUZZ)
  set(CENTO_CUDA_DEFAULT ON)
endif()
option(CENTO_CUDA "build the CUDA backend" ${CENTO_CUDA_DEFAULT})
set(CENTO_CUDA_ARCHITECTURES "80-real;89-real;90a-real" CACHE STRING "GPUs to build for")

if(CENTO_CUDA)
  set(CMAKE_CUDA_COMPILER ${CENTO_NVCC} CACHE FILEPATH "nvcc")
  enable_language(CUDA)
  find_package(CUDAToolkit 12.4 REQUIRED)
  file(GLOB CENTO_CUDA_SOURCES CONFIGURE_DEPENDS src/backend/cuda/*.c src/backend/cuda/*.cu)
  target_sources(cento PRIVATE ${CENTO_CUDA_SOURCES})
  set_target_properties(cento PROPERTIES CUDA_ARCHITECTURES "${CENTO_CUDA_ARCHITECTURES}"
    CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_RUNTIME_LIBRARY Static)
  target_compile_options(cento PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo
    -Xcompiler=-Wall,-Wextra,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics>)
  target_compile_definitions(cento PRIVATE CENTO_CUDA)
  # as system headers: they are not ours to warn about
  target_include_directories(cento SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(cento PUBLIC CUDA::cudart_static)
  add_executable(bench_cuda_sample EXCLUDE_FROM_ALL bench/cuda/sample.c)
  target_include_directories(bench_cuda_sample PRIVATE tests)
  target_include_directories(bench_cuda_sample SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(bench_cuda_sample PRIVATE cento_flags cento)
  set(CENTO_PC_CUDA " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lrt -ldl -lpthread") # for cento.pc

  add_executable(bench_step EXCLUDE_FROM_ALL bench/cuda/step.c)
  target_include_directories(bench_step PRIVATE . src ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(bench_step PRIVATE cento_flags cento)
endif()
