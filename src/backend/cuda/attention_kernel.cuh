/* What the kernels that run a schedule share on their way to the device: parameters, launch, time stamps. */
#ifndef CENTO_BACKEND_CUDA_ATTENTION_KERNEL_CUH
#define CENTO_BACKEND_CUDA_ATTENTION_KERNEL_CUH

#include <cuda_bf16.h>

#include "attention_mma.h"

#ifdef ATTENTION_STAMPS
extern "C" unsigned long long *attention_mma_stamps; /* device: (items + workers, 8) */
#endif

namespace {

constexpr float LOG2_E = 1.4426950408889634f;

/* With ATTENTION_STAMPS defined each item leaves the clock at its stages, by thread STAMP_THREAD of a CTA,
 * for bench/cuda (attention trace). */
#ifdef ATTENTION_STAMPS
#define STAMP(p, at, stage)                                                                                  \
    do {                                                                                                     \
        if (threadIdx.x == STAMP_THREAD)                                                                     \
            (p).stamps[(size_t)(at)*8 + (stage)] = clock64();                                                \
    } while (0)
__device__ __forceinline__ unsigned long long global_ns(void) {
    unsigned long long ns;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
    return ns;
}
#else
#define STAMP(p, at, stage)
#endif

/* An attention_mma_call on the device; kernels add how they reach the keys. */
struct schedule_params {
#ifdef ATTENTION_STAMPS
    unsigned long long *stamps;
#endif
    const uint32_t *schedule;
    const float *qkv;
    float *out;
    __nv_bfloat16 *out_bf16;
    const double *turns;
    float *workspace;
    uint32_t *arrived;
    float scale, rope_factor; /* scale: to base 2 */
    uint32_t heads, kv_heads, group, window;
    uint32_t page_shift; /* log2 of its tokens */
};

schedule_params schedule_params_of(const attention_mma_call *call) {
    schedule_params params = {};
#ifdef ATTENTION_STAMPS
    params.stamps = attention_mma_stamps;
#endif
    params.schedule = call->schedule;
    params.qkv = call->qkv;
    params.out = call->out;
    params.out_bf16 = (__nv_bfloat16 *)call->out_bf16;
    params.turns = call->turns;
    params.workspace = call->workspace;
    params.arrived = call->arrived;
    params.scale = call->shape->scale * LOG2_E;
    params.rope_factor = call->rope_factor;
    params.heads = call->shape->heads;
    params.kv_heads = call->shape->kv_heads;
    params.group = params.heads / params.kv_heads;
    params.window = call->shape->window;
    for (params.page_shift = 0; (1u << params.page_shift) < call->page_tokens; params.page_shift++) {
    }
    return params;
}

__device__ __forceinline__ float2 *partial_sums(const schedule_params &p) {
    return (float2 *)p.workspace;
}

/* Cooperative: all CTAs are on the device at once, or it fails. */
template <typename Params>
cudaError_t launch_together(void (*kernel)(Params), const Params &params, uint32_t workers, uint32_t threads,
                            size_t shared_bytes, cudaStream_t stream) {
    cudaLaunchAttribute together = {};
    together.id = cudaLaunchAttributeCooperative;
    together.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(workers);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &together;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, params);
}

/* CTAs of a kernel that are on the device at once; 0: it does not run there. Allows it its shared memory. */
template <typename Params>
uint32_t workers_of(void (*kernel)(Params), int threads, size_t shared_bytes, uint32_t multiprocessors) {
    int count = 0;
    cudaError_t failed =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
    if (failed == cudaSuccess)
        failed = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel, threads, shared_bytes);
    if (failed == cudaSuccess)
        return (uint32_t)count * multiprocessors;
    cudaGetLastError();
    return 0;
}

} // namespace

#endif
