/*
 * Launches that overlap: on sm_90 and newer a kernel may be set up, and fetch what nobody writes, while the
 * one before it in the stream still runs (programmatic dependent launch). A kernel launched so
 *
 *   - calls `overlap_wait` in every thread before it reads or writes what another kernel writes or reads, and
 *     before it ends: all that was launched before is then done and visible;
 *   - calls `overlap_allow` early: the kernel after it may be set up when all blocks have called it or ended.
 */
#ifndef CENTO_BACKEND_CUDA_CUDA_LAUNCH_CUH
#define CENTO_BACKEND_CUDA_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

static __device__ __forceinline__ void overlap_wait(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

static __device__ __forceinline__ void overlap_allow(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* overlap: the device is sm_90 or newer. */
template <typename... Parameters, typename... Arguments>
static cudaError_t launch_overlapping(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                                      cudaStream_t stream, bool overlap, Arguments... arguments) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = overlap ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

#endif
