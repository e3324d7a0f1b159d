/* Device side of attention.c: KV values that the host can name without holding them. */
#include "fill.h"

#include <cuda_bf16.h>

__global__ void fill(__nv_bfloat16 *kv, const unsigned char *named, uint32_t kv_heads, uint32_t page_tokens,
                     uint32_t head_dim, uint32_t seed, size_t count) {
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < count;
         at += (size_t)gridDim.x * blockDim.x) {
        uint32_t i = (uint32_t)(at % head_dim), token = (uint32_t)(at / head_dim % page_tokens);
        size_t head = at / head_dim / page_tokens, page = head / (2 * kv_heads);
        size_t slot = page * page_tokens + token;
        float value = fill_value(seed, (uint32_t)slot, (uint32_t)(head % (2 * kv_heads)), i);
        kv[at] = __float2bfloat16(named[slot] ? value : __int_as_float(0x7fc00000));
    }
}

extern "C" cudaError_t fill_run(void *kv, const unsigned char *named, uint32_t kv_heads, uint32_t page_tokens,
                                uint32_t head_dim, uint32_t seed, size_t count) {
    fill<<<1024, 256>>>((__nv_bfloat16 *)kv, named, kv_heads, page_tokens, head_dim, seed, count);
    return cudaGetLastError();
}
