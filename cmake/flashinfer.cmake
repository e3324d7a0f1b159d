# Attention by FlashInfer's header-only kernels, as a second one beside our own: -DCENTO_FLASHINFER=ON. The headers
# come from the flashinfer-python wheel (pip install flashinfer-python, or its unpacked folder, or FlashInfer's
# source tree, as FLASHINFER_ROOT). Not built by default: the headers are not everywhere, and the compiler takes
# minutes for them.
option(CENTO_FLASHINFER "build FlashInfer's attention kernels as a second attention backend" OFF)
set(FLASHINFER_ROOT "$ENV{FLASHINFER_ROOT}" CACHE PATH "where FlashInfer's headers are; empty: of the Python package")

if(CENTO_FLASHINFER)
  if(NOT CENTO_CUDA)
    message(FATAL_ERROR "CENTO_FLASHINFER needs CENTO_CUDA")
  endif()
  if(NOT FLASHINFER_ROOT)
    find_package(Python3 COMPONENTS Interpreter REQUIRED)
    execute_process(COMMAND ${Python3_EXECUTABLE} -c
      "import importlib.util as u; print(u.find_spec('flashinfer').submodule_search_locations[0])"
      OUTPUT_VARIABLE CENTO_FLASHINFER_PACKAGE OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  find_path(CENTO_FLASHINFER_INCLUDE flashinfer/attention/prefill.cuh NO_DEFAULT_PATH
    PATHS ${FLASHINFER_ROOT} ${CENTO_FLASHINFER_PACKAGE}
    PATH_SUFFIXES include data/include flashinfer/data/include)
  if(NOT CENTO_FLASHINFER_INCLUDE)
    message(FATAL_ERROR "CENTO_FLASHINFER: no flashinfer/attention/prefill.cuh. Install the flashinfer-python "
      "package or set FLASHINFER_ROOT to its folder or to FlashInfer's source tree")
  endif()
  # newer CCCL headers than CUDA's lie beside them in the wheel
  foreach(part libcudacxx/include cub thrust)
    foreach(folder ${CENTO_FLASHINFER_INCLUDE}/../cccl ${CENTO_FLASHINFER_INCLUDE}/../3rdparty/cccl)
      if(EXISTS ${folder}/${part})
        list(APPEND CENTO_FLASHINFER_CCCL ${folder}/${part})
      endif()
    endforeach()
  endforeach()

  # Objects of their own: FlashInfer throws, its warnings are not ours, and its kernels compile side by side.
  function(cento_flashinfer_object name source)
    add_library(${name} OBJECT ${source})
    target_include_directories(${name} PRIVATE include src ${CENTO_FLASHINFER_CCCL})
    target_include_directories(${name} SYSTEM PRIVATE ${CENTO_FLASHINFER_INCLUDE})
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE FLASHINFER_ENABLE_F16 FLASHINFER_ENABLE_BF16 ${ARGN})
    target_compile_options(${name} PRIVATE --expt-relaxed-constexpr -use_fast_math -w
      -static-global-template-stub=false)
    set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES "${CENTO_CUDA_ARCHITECTURES}" CUDA_STANDARD 17
      CUDA_STANDARD_REQUIRED ON CUDA_RUNTIME_LIBRARY Static POSITION_INDEPENDENT_CODE ON)
    target_sources(cento PRIVATE $<TARGET_OBJECTS:${name}>)
  endfunction()
  cento_flashinfer_object(cento_flashinfer_shim src/backend/flashinfer/flashinfer_shim.cu)
  foreach(dim 64 128)
    foreach(kind 0 1 2) # request_kind
      cento_flashinfer_object(cento_flashinfer_${dim}_${kind} src/backend/flashinfer/flashinfer_kernels.cu
        CENTO_FLASHINFER_DIM=${dim} CENTO_FLASHINFER_KIND=${kind})
    endforeach()
  endforeach()
  target_sources(cento PRIVATE src/backend/flashinfer/flashinfer_attention.c
    src/backend/flashinfer/flashinfer_requests.c)
  target_compile_definitions(cento PRIVATE CENTO_FLASHINFER)
  target_link_libraries(cento PUBLIC stdc++)
endif()
