/* Filling KV pages for benchmarks; see backend.h, backend_measure. */
#include <cuda_bf16.h>

#include "backend/measure_fill.h"
#include "cuda.h"

template <typename element>
static __global__ void fill_pages(element *pages, kv_pool_shape shape, size_t count) {
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += step) {
        size_t vector = at / shape.head_dim, heads = vector / shape.page_tokens;
        uint32_t token = (uint32_t)(vector % shape.page_tokens);
        uint32_t head = (uint32_t)(heads % (2 * shape.kv_heads));
        uint32_t page = (uint32_t)(heads / (2 * shape.kv_heads) % shape.pages);
        pages[at] = (element)measure_fill_value(page * shape.page_tokens + token, head,
                                                (uint32_t)(at % shape.head_dim));
    }
}

extern "C" cudaError_t measure_fill_pages(void *pages, bool bf16, const kv_pool_shape *shape, size_t count,
                                          cudaStream_t stream) {
    if (bf16)
        fill_pages<<<2048, 256, 0, stream>>>((__nv_bfloat16 *)pages, *shape, count);
    else
        fill_pages<<<2048, 256, 0, stream>>>((float *)pages, *shape, count);
    return cudaGetLastError();
}
