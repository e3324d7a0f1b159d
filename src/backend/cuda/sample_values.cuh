/*
 * What the kernels of sample.cu rest on: logits as values that can be ordered, and sums of a block. Included by
 * sample.cu alone.
 */
#ifndef CENTO_BACKEND_CUDA_SAMPLE_VALUES_CUH
#define CENTO_BACKEND_CUDA_SAMPLE_VALUES_CUH

#include "cuda_sample.h"

static const uint32_t WARP = 32, ALL_LANES = 0xFFFFFFFFu, NONE = 0xFFFFFFFFu;
static const uint32_t SCAN_THREADS = 256, SCAN_LOADS = SAMPLE_SLICE / (4 * SCAN_THREADS);
static const uint32_t GROUP_LANES = SCAN_THREADS / SAMPLE_GROUPS;
static const uint32_t THREADS = 512;     /* of finish */
static const uint32_t CANDIDATES = 4096; /* that are sorted */
static const uint32_t RADIX_BITS = 11, BUCKETS = 1u << RADIX_BITS;
static const uint32_t SPREAD = 1024;     /* buckets of weights */
static const uint32_t WEIGHT_BITS = 40;  /* weights are told apart down to 2^-40 */
static_assert(GROUP_LANES * SCAN_LOADS == WARP, "a warp reads a group with one load of each lane");
static const uint32_t DRAWN_TOGETHER = SAMPLE_SLICE / THREADS; /* elements of a slice that a thread has */
#define LOG2_E 1.4426950408889634

/* ------------------------------------------------------------------------------- values ----- */

/* What is no finite number cannot be drawn; there is one zero. */
static __device__ __forceinline__ float clean(float logit) {
    return fabsf(logit) < INFINITY ? logit + 0.0f : -INFINITY;
}

/* Ordered as the floats are; 0 for what cannot be drawn. */
static __device__ __forceinline__ uint32_t key_of(float cleaned) {
    uint32_t bits = __float_as_uint(cleaned);
    uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return cleaned == -INFINITY ? 0 : key;
}

static __device__ __forceinline__ float logit_of(uint32_t key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

/* The likelier token has the larger order. */
static __device__ __forceinline__ uint64_t order_of(float cleaned, uint32_t token) {
    return (uint64_t)key_of(cleaned) << 32 | (0xFFFFFFFFu - token);
}

static __device__ __forceinline__ uint32_t order_token(uint64_t order) {
    return 0xFFFFFFFFu - (uint32_t)order;
}

static __device__ __forceinline__ float order_logit(uint64_t order) {
    return logit_of((uint32_t)(order >> 32));
}

/* Four logits from `first` on, cleaned; -inf beyond `count`. */
template <bool WIDE>
static __device__ __forceinline__ float4 load4(const float *logits, uint32_t first, uint32_t count) {
    float4 four = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
    if (WIDE) {
        if (first < count)
            four = *(const float4 *)(logits + first);
    } else {
        if (first < count)
            four.x = logits[first];
        if (first + 1 < count)
            four.y = logits[first + 1];
        if (first + 2 < count)
            four.z = logits[first + 2];
        if (first + 3 < count)
            four.w = logits[first + 3];
    }
    return make_float4(clean(four.x), clean(four.y), clean(four.z), clean(four.w));
}

/* ---------------------------------------------------------------------- sums of a block ----- */

template <typename VALUE>
static __device__ __forceinline__ VALUE warp_sum(VALUE value) {
    for (uint32_t distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

static __device__ __forceinline__ uint64_t warp_max(uint64_t value) {
    for (uint32_t distance = WARP / 2; distance > 0; distance /= 2) {
        uint64_t other = __shfl_xor_sync(ALL_LANES, (unsigned long long)value, distance);
        value = other > value ? other : value;
    }
    return value;
}

/* Of a whole block of `THREADS`; the same bits in every thread. */
template <typename VALUE>
static __device__ VALUE block_sum(VALUE value) {
    __shared__ VALUE sums[THREADS / WARP];
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0)
        sums[threadIdx.x / WARP] = value;
    __syncthreads();
    VALUE total = 0;
    for (uint32_t i = 0; i < THREADS / WARP; i++)
        total += sums[i];
    __syncthreads();
    return total;
}

/* The sum of the values of the threads before this one. */
template <typename VALUE>
static __device__ VALUE block_sum_before(VALUE value) {
    __shared__ VALUE sums[THREADS / WARP];
    VALUE through = value;
    for (uint32_t distance = 1; distance < WARP; distance *= 2) {
        VALUE other = __shfl_up_sync(ALL_LANES, through, distance);
        if (threadIdx.x % WARP >= distance)
            through += other;
    }
    VALUE before = __shfl_up_sync(ALL_LANES, through, 1);
    if (threadIdx.x % WARP == 0)
        before = 0;
    if (threadIdx.x % WARP == WARP - 1)
        sums[threadIdx.x / WARP] = through;
    __syncthreads();
    VALUE warps_before = 0;
    for (uint32_t i = 0; i < threadIdx.x / WARP; i++)
        warps_before += sums[i];
    __syncthreads();
    return warps_before + before;
}

#endif
