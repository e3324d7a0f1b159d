/*
 * Kernels over rows: embedding, norms, SwiGLU, gathering, casts, and writing K and V to their pages. All are
 * bound by memory: each reads its input once, in wide loads where widths allow. f32 throughout; `copy` is the
 * result in bf16 for the product that follows.
 */
#include <cuda_bf16.h>

#include "cuda.h"
#include "cuda_launch.cuh"
#include "cuda_rope.cuh"

static const uint32_t THREADS = 256, WARP = 32;

static __device__ __forceinline__ float warp_sum(float value) {
    for (uint32_t distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(0xFFFFFFFFu, value, distance);
    return value;
}

/* Of the whole block; the same bits in every thread. */
static __device__ float block_sum(float value) {
    __shared__ float sums[THREADS / WARP];
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0)
        sums[threadIdx.x / WARP] = value;
    __syncthreads();
    float total = 0.0f;
    for (uint32_t i = 0; i < THREADS / WARP; i++)
        total += sums[i];
    return total;
}

static __device__ __forceinline__ float element(const void *memory, bool bf16, size_t index) {
    return bf16 ? __bfloat162float(((const __nv_bfloat16 *)memory)[index]) : ((const float *)memory)[index];
}

/* Row `row` of a copy, whose rows are padded with zeros. */
static __device__ __forceinline__ __nv_bfloat16 *copy_row(void *copy, uint32_t row, uint32_t width) {
    return copy == nullptr ? nullptr : (__nv_bfloat16 *)copy + (size_t)row * ((width + 7) / 8 * 8);
}

static __device__ __forceinline__ void copy_pad(__nv_bfloat16 *copy, uint32_t width) {
    uint32_t padded = (width + 7) / 8 * 8;
    if (copy != nullptr && width + threadIdx.x < padded)
        copy[width + threadIdx.x] = __float2bfloat16(0.0f);
}

static __device__ __forceinline__ void store_bf16(__nv_bfloat16 *to, float4 value) {
    __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(value.x, value.y),
                              __floats2bfloat162_rn(value.z, value.w)};
    *(uint2 *)to = *(const uint2 *)pair;
}

static bool aligned_16(const void *memory) {
    return (uintptr_t)memory % 16 == 0;
}

static cudaError_t launched(void) {
    return cudaGetLastError();
}

/* ----------------------------------------------------------------------------- embedding ---- */

static __global__ void embed_kernel(const void *table, bool bf16, uint32_t stride, const int32_t *ids,
                                    uint32_t width, float *x) {
    overlap_allow();
    overlap_wait();
    size_t from = (size_t)ids[blockIdx.x] * stride, to = (size_t)blockIdx.x * width;
    for (uint32_t i = threadIdx.x; i < width; i += THREADS)
        x[to + i] = element(table, bf16, from + i);
}

extern "C" cudaError_t rows_embed(const void *table, bool bf16, uint32_t stride, const int32_t *ids,
                                  uint32_t rows, uint32_t width, float *x, cuda_lane lane) {
    return launch_overlapping(embed_kernel, rows, THREADS, 0, lane.stream, lane.overlap, table, bf16, stride,
                              ids, width, x);
}

/* --------------------------------------------------------------------------------- norm ----- */

static __device__ __forceinline__ float squares(float4 value) {
    return value.x * value.x + value.y * value.y + value.z * value.z + value.w * value.w;
}

static __device__ __forceinline__ float4 scaled(float4 value, float scale, float4 by) {
    return make_float4(value.x * scale * by.x, value.y * scale * by.y, value.z * scale * by.z,
                       value.w * scale * by.w);
}

/* PARTS: float4 that a thread keeps, weights fetched ahead; 0: rows of any width, read twice. y may be NULL. */
template <uint32_t PARTS>
static __global__ void __launch_bounds__(THREADS)
    rmsnorm_kernel(const float *x, uint32_t width, const float *weight, float epsilon, float *y, void *copy) {
    const float *from = x + (size_t)blockIdx.x * width;
    float *to = y == nullptr ? nullptr : y + (size_t)blockIdx.x * width;
    __nv_bfloat16 *to_copy = copy_row(copy, blockIdx.x, width);
    float sum = 0.0f;
    if constexpr (PARTS > 0) {
        float4 values[PARTS], by[PARTS];
#pragma unroll
        for (uint32_t part = 0; part < PARTS; part++) {
            uint32_t i = part * THREADS + threadIdx.x;
            by[part] = i < width / 4 ? __ldg((const float4 *)weight + i) : make_float4(0, 0, 0, 0);
        }
        overlap_allow();
        overlap_wait();
#pragma unroll
        for (uint32_t part = 0; part < PARTS; part++) {
            uint32_t i = part * THREADS + threadIdx.x;
            values[part] = i < width / 4 ? ((const float4 *)from)[i] : make_float4(0, 0, 0, 0);
            sum += squares(values[part]);
        }
        float scale = 1.0f / sqrtf(block_sum(sum) / (float)width + epsilon);
#pragma unroll
        for (uint32_t part = 0; part < PARTS; part++) {
            uint32_t i = part * THREADS + threadIdx.x;
            float4 value = scaled(values[part], scale, by[part]);
            if (i >= width / 4)
                continue;
            if (to != nullptr)
                ((float4 *)to)[i] = value;
            if (to_copy != nullptr)
                store_bf16(to_copy + 4 * i, value);
        }
    } else {
        overlap_allow();
        overlap_wait();
        for (uint32_t i = threadIdx.x; i < width; i += THREADS)
            sum += from[i] * from[i];
        float scale = 1.0f / sqrtf(block_sum(sum) / (float)width + epsilon);
        for (uint32_t i = threadIdx.x; i < width; i += THREADS) {
            float value = from[i] * scale * weight[i];
            if (to != nullptr)
                to[i] = value;
            if (to_copy != nullptr)
                to_copy[i] = __float2bfloat16(value);
        }
    }
    copy_pad(to_copy, width);
}

extern "C" cudaError_t rows_rmsnorm(const float *x, uint32_t rows, uint32_t width, const float *weight,
                                    float epsilon, float *y, void *copy, cuda_lane lane) {
    bool wide = width % 4 == 0 && aligned_16(x) && aligned_16(y) && aligned_16(weight);
    auto kernel = !wide || width > 16 * THREADS * 4 ? rmsnorm_kernel<0>
                  : width <= THREADS * 4            ? rmsnorm_kernel<1>
                  : width <= 4 * THREADS * 4        ? rmsnorm_kernel<4>
                                                    : rmsnorm_kernel<16>;
    return launch_overlapping(kernel, rows, THREADS, 0, lane.stream, lane.overlap, x, width, weight, epsilon,
                              y, copy);
}

/* -------------------------------------------------------------------------------- SwiGLU ---- */

static __device__ __forceinline__ float silu(float value) {
    return value / (1.0f + expf(-value));
}

template <bool WIDE>
static __global__ void silu_mul_kernel(const float *gate_up, uint32_t width, float *hidden, void *copy) {
    overlap_allow();
    overlap_wait();
    const float *gate = gate_up + (size_t)blockIdx.x * 2 * width, *up = gate + width;
    float *to = hidden == nullptr ? nullptr : hidden + (size_t)blockIdx.x * width;
    __nv_bfloat16 *to_copy = copy_row(copy, blockIdx.x, width);
    uint32_t first = blockIdx.y * THREADS + threadIdx.x, step = gridDim.y * THREADS;
    if (WIDE) {
        for (uint32_t i = first; i < width / 4; i += step) {
            float4 a = ((const float4 *)gate)[i], b = ((const float4 *)up)[i];
            float4 value = make_float4(silu(a.x) * b.x, silu(a.y) * b.y, silu(a.z) * b.z, silu(a.w) * b.w);
            if (to != nullptr)
                ((float4 *)to)[i] = value;
            if (to_copy != nullptr)
                store_bf16(to_copy + 4 * i, value);
        }
    } else {
        for (uint32_t i = first; i < width; i += step) {
            float value = silu(gate[i]) * up[i];
            if (to != nullptr)
                to[i] = value;
            if (to_copy != nullptr)
                to_copy[i] = __float2bfloat16(value);
        }
    }
    if (blockIdx.y == 0)
        copy_pad(to_copy, width);
}

extern "C" cudaError_t rows_silu_mul(const float *gate_up, uint32_t rows, uint32_t width, float *hidden,
                                     void *copy, cuda_lane lane) {
    uint32_t parts = (width + 8 * THREADS - 1) / (8 * THREADS);
    dim3 grid(rows, parts < 64 ? parts : 64);
    bool wide = width % 4 == 0 && aligned_16(gate_up) && aligned_16(hidden);
    return launch_overlapping(wide ? silu_mul_kernel<true> : silu_mul_kernel<false>, grid, THREADS, 0,
                              lane.stream, lane.overlap, gate_up, width, hidden, copy);
}

/* ------------------------------------------------------------------------ gathering, casts -- */

static __global__ void gather_kernel(const float *x, uint32_t width, const uint32_t *row_ids, float *y) {
    overlap_allow();
    overlap_wait();
    size_t from = (size_t)row_ids[blockIdx.x] * width, to = (size_t)blockIdx.x * width;
    for (uint32_t i = threadIdx.x; i < width; i += THREADS)
        y[to + i] = x[from + i];
}

extern "C" cudaError_t rows_gather(const float *x, uint32_t width, const uint32_t *row_ids, uint32_t count,
                                   float *y, cuda_lane lane) {
    return launch_overlapping(gather_kernel, count, THREADS, 0, lane.stream, lane.overlap, x, width, row_ids,
                              y);
}

static __global__ void to_bf16_kernel(const float *x, uint32_t width, void *copy) {
    overlap_allow();
    overlap_wait();
    const float *from = x + (size_t)blockIdx.x * width;
    __nv_bfloat16 *to = copy_row(copy, blockIdx.x, width);
    for (uint32_t i = threadIdx.x; i < width; i += THREADS)
        to[i] = __float2bfloat16(from[i]);
    copy_pad(to, width);
}

extern "C" cudaError_t rows_to_bf16(const float *x, uint32_t rows, uint32_t width, void *copy,
                                    cuda_lane lane) {
    return launch_overlapping(to_bf16_kernel, rows, THREADS, 0, lane.stream, lane.overlap, x, width, copy);
}

/* -------------------------------------------------------------------------- random weights -- */

/* Uniform in [-0.5, 0.5), a hash of row and column (splitmix64). */
static __device__ __forceinline__ float random_at(uint64_t row, uint64_t column) {
    uint64_t bits = (row << 32 | column) + 0x9E3779B97F4A7C15u;
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9u;
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EBu;
    bits ^= bits >> 31;
    return (float)(bits >> 40) * 0x1p-24f - 0.5f;
}

static __global__ void random_kernel(void *matrix, bool bf16, uint32_t columns, uint32_t stride,
                                     float spread) {
    size_t to = (size_t)blockIdx.x * stride;
    for (uint32_t i = threadIdx.x; i < columns; i += THREADS) {
        float value = random_at(blockIdx.x, i) * spread;
        if (bf16)
            ((__nv_bfloat16 *)matrix)[to + i] = __float2bfloat16(value);
        else
            ((float *)matrix)[to + i] = value;
    }
}

extern "C" cudaError_t rows_random(void *matrix, bool bf16, uint32_t rows, uint32_t columns, uint32_t stride,
                                   cudaStream_t stream) {
    random_kernel<<<rows, THREADS, 0, stream>>>(matrix, bf16, columns, stride, sqrtf(12.0f / (float)columns));
    return launched();
}

/* ---------------------------------------------------------------------------- K and V ------- */

static __device__ __forceinline__ void put(void *memory, bool bf16, size_t index, float value) {
    if (bf16)
        ((__nv_bfloat16 *)memory)[index] = __float2bfloat16(value);
    else
        ((float *)memory)[index] = value;
}

/* A warp for each head of q, k and v of a row; what no kernel writes is fetched, and the angles are made, before
 * it waits. PAIRS: of elements i, half + i that a lane holds; 0: any number, read where they lie. */
template <uint32_t PAIRS> static __global__ void __launch_bounds__(THREADS) write_kv_kernel(rows_kv_write call) {
    uint32_t head = blockIdx.y * (THREADS / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint32_t row = blockIdx.x, head_dim = call.head_dim, half = head_dim / 2;
    overlap_allow();
    bool key = head >= call.heads && head < call.heads + call.kv_heads;
    bool query = head < call.heads;
    if (head >= call.heads + 2 * call.kv_heads || (query && call.q_norm == nullptr)) {
        overlap_wait();
        return;
    }
    float *values = call.qkv + ((size_t)row * (call.heads + 2 * call.kv_heads) + head) * head_dim;
    const float *norm = query ? call.q_norm : key ? call.k_norm : nullptr;
    uint32_t slot = query ? 0 : call.slots[row], kv_head = head - call.heads - (key ? 0 : call.kv_heads);
    double position = key ? (double)call.positions[row] : 0.0;
    float cosines[PAIRS], sines[PAIRS], by_low[PAIRS], by_high[PAIRS], low[PAIRS], high[PAIRS];
#pragma unroll
    for (uint32_t pair = 0; pair < PAIRS; pair++) {
        uint32_t i = pair * WARP + lane;
        by_low[pair] = norm != nullptr && i < half ? norm[i] : 1.0f;
        by_high[pair] = norm != nullptr && i < half ? norm[half + i] : 1.0f;
        cosines[pair] = 1.0f;
        sines[pair] = 0.0f;
        if (key && i < half)
            rope_cos_sin(position, call.turns[i], call.rope_factor, &cosines[pair], &sines[pair]);
    }
    overlap_wait();
    float sum = 0.0f;
#pragma unroll
    for (uint32_t pair = 0; pair < PAIRS; pair++) {
        uint32_t i = pair * WARP + lane;
        low[pair] = i < half ? values[i] : 0.0f;
        high[pair] = i < half ? values[half + i] : 0.0f;
        sum += low[pair] * low[pair] + high[pair] * high[pair];
    }
    float scale = norm == nullptr ? 1.0f : 1.0f / sqrtf(warp_sum(sum) / (float)head_dim + call.epsilon);
    if (slot == UINT32_MAX) /* no row of the batch */
        return;
    size_t tile = ((size_t)(slot / call.page_tokens) * 2 + (key ? 0 : 1)) * call.kv_heads + kv_head;
    size_t to = (tile * call.page_tokens + slot % call.page_tokens) * head_dim;
#pragma unroll
    for (uint32_t pair = 0; pair < PAIRS; pair++) {
        uint32_t i = pair * WARP + lane;
        float a = low[pair] * scale * by_low[pair], b = high[pair] * scale * by_high[pair];
        if (i >= half)
            continue;
        if (query) {
            values[i] = a;
            values[half + i] = b;
        } else {
            put(call.layer_pages, call.bf16, to + i, a * cosines[pair] - b * sines[pair]);
            put(call.layer_pages, call.bf16, to + half + i, b * cosines[pair] + a * sines[pair]);
        }
    }
}

/* All kernels of a pass want the same part of L1 as shared memory: a multiprocessor has to be idle to change it. */
extern "C" cudaError_t rows_prepare(void) {
    const void *kernels[] = {(const void *)embed_kernel,           (const void *)rmsnorm_kernel<0>,
                             (const void *)rmsnorm_kernel<1>,      (const void *)rmsnorm_kernel<4>,
                             (const void *)rmsnorm_kernel<16>,     (const void *)silu_mul_kernel<true>,
                             (const void *)silu_mul_kernel<false>, (const void *)gather_kernel,
                             (const void *)to_bf16_kernel,         (const void *)write_kv_kernel<1>,
                             (const void *)write_kv_kernel<2>,     (const void *)write_kv_kernel<16>};
    for (const void *kernel : kernels) {
        cudaError_t code = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                                cudaSharedmemCarveoutMaxShared);
        if (code != cudaSuccess)
            return code;
    }
    return cudaSuccess;
}

extern "C" cudaError_t rows_write_kv(const rows_kv_write *call, cuda_lane lane) {
    uint32_t heads = call->heads + 2 * call->kv_heads, warps = THREADS / WARP;
    dim3 grid(call->rows, (heads + warps - 1) / warps);
    if (call->head_dim > 32 * WARP)
        return cudaErrorInvalidValue;
    auto kernel = call->head_dim <= 2 * WARP   ? write_kv_kernel<1>
                  : call->head_dim <= 4 * WARP ? write_kv_kernel<2>
                                               : write_kv_kernel<16>;
    return launch_overlapping(kernel, grid, THREADS, 0, lane.stream, lane.overlap, *call);
}

/* A block for each layer and head of K or V; two tokens of one page may overlap, so all is read first. */
static __global__ void copy_kv_kernel(char *pool, kv_pool_shape shape, uint32_t token_bytes,
                                      uint32_t from_slot, uint32_t to_slot, uint32_t token_count) {
    extern __shared__ char held[];
    uint32_t tiles = 2 * shape.kv_heads;
    size_t tile_bytes = (size_t)shape.page_tokens * token_bytes;
    size_t layer = (size_t)blockIdx.y * shape.pages;
    const char *from = pool + ((layer + from_slot / shape.page_tokens) * tiles + blockIdx.x) * tile_bytes +
                       (size_t)(from_slot % shape.page_tokens) * token_bytes;
    char *to = pool + ((layer + to_slot / shape.page_tokens) * tiles + blockIdx.x) * tile_bytes +
               (size_t)(to_slot % shape.page_tokens) * token_bytes;
    uint32_t words = token_count * token_bytes / 4;
    for (uint32_t i = threadIdx.x; i < words; i += THREADS)
        ((uint32_t *)held)[i] = ((const uint32_t *)from)[i];
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < words; i += THREADS)
        ((uint32_t *)to)[i] = ((const uint32_t *)held)[i];
}

extern "C" cudaError_t rows_copy_kv(void *pool, const kv_pool_shape *shape, uint32_t token_bytes,
                                    uint32_t from_slot, uint32_t to_slot, uint32_t token_count,
                                    cudaStream_t stream) {
    const uint32_t held_max = 48u << 10;
    uint32_t at_once = held_max / token_bytes > 0 ? held_max / token_bytes : 1;
    dim3 grid(2 * shape->kv_heads, shape->layers);
    /* where stretches of one page overlap, the order in which parts are moved matters */
    bool backwards = to_slot > from_slot;
    for (uint32_t done = 0; done < token_count;) {
        uint32_t count = token_count - done < at_once ? token_count - done : at_once;
        uint32_t offset = backwards ? token_count - done - count : done;
        copy_kv_kernel<<<grid, THREADS, count * token_bytes, stream>>>(
            (char *)pool, *shape, token_bytes, from_slot + offset, to_slot + offset, count);
        done += count;
    }
    return launched();
}
