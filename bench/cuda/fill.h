/* KV values of the bench: a function of where they lie, exact in bf16. */
#ifndef CENTO_BENCH_CUDA_FILL_H
#define CENTO_BENCH_CUDA_FILL_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __CUDACC__
__host__ __device__
#endif
    static inline float
    fill_value(uint32_t seed, uint32_t slot, uint32_t head, uint32_t i) {
    uint32_t x = seed + slot * 0x9E3779B1u + head * 0x85EBCA77u + i * 0xC2B2AE3Du;
    x ^= x >> 15;
    x *= 0x2C1B3C6Du;
    x ^= x >> 12;
    x *= 0x297A2D39u;
    x ^= x >> 15;
    return (float)((int32_t)(x % 255u) - 127) / 64.0f;
}

/* Pages [page][K|V][kv_head][token][head_dim]; NaN in slots that are not named. */
cudaError_t fill_run(void *kv, const unsigned char *named, uint32_t kv_heads, uint32_t page_tokens,
                     uint32_t head_dim, uint32_t seed, size_t count);

#ifdef __cplusplus
}
#endif

#endif
