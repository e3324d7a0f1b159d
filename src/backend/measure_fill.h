/* Keys and values of benchmarks: a function of where they lie, so that who checks a result need not read them
 * back. Multiples of 1/64 in [-2, 2): exact in bf16. All layers hold the same. Plain C and CUDA C++. */
#ifndef CENTO_BACKEND_MEASURE_FILL_H
#define CENTO_BACKEND_MEASURE_FILL_H

#include <stdint.h>

#ifdef __CUDACC__
#define MEASURE_FILL_FUNCTION __host__ __device__ static inline
#else
#define MEASURE_FILL_FUNCTION static inline
#endif

/* slot: page · page_tokens + index; head: a KV head's K, or kv_heads + KV head's V. */
MEASURE_FILL_FUNCTION float measure_fill_value(uint32_t slot, uint32_t head, uint32_t i) {
    uint32_t x = 0x5BD1E995u + slot * 0x9E3779B1u + head * 0x85EBCA77u + i * 0xC2B2AE3Du;
    x ^= x >> 15;
    x *= 0x2C1B3C6Du;
    x ^= x >> 12;
    x *= 0x297A2D39u;
    x ^= x >> 15;
    return (float)((int32_t)(x & 255u) - 128) / 64.0f;
}

#endif
