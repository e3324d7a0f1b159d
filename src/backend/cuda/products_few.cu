/*
 * Products of few rows, y (rows, N) = x (rows, K) · Wᵀ with W in bf16: bound by reading W once. For 16 rows at
 * most; libraries reach 60 to 80 % of the memory's bandwidth here.
 *
 * A block makes 8 · TILES features; its 8 warps take steps of 32 k in turn. mma.m16n8k16 has the batch's rows
 * on its M side and features on its N side. Which k is which does not matter to a sum of products as long as
 * both sides agree: thread t of a quad takes the 8 consecutive k from 8t of a step, 16 bytes of W and of x,
 * and they are two products. So a thread needs only what it has fetched itself: W passes through a ring in
 * shared memory in which every thread has its own place, filled by cp.async far ahead, without a barrier.
 *
 * The ring is filled before the kernel waits for the one before it: while a norm runs, the first weights are
 * under way already. (Sending for more to L2 meanwhile made steps slower.)
 *
 * Partial sums of the warps are added in a fixed order; a row's bits do not depend on the other rows, but
 * those of another kernel differ.
 *
 * Bytes: N · K · 2. Reached: docs/performance.md, "A step on the GPU".
 */
#include <cuda_bf16.h>

#include "attention_mma.cuh"
#include "cuda.h"
#include "cuda_launch.cuh"

namespace {

constexpr uint32_t WARP = 32, WARPS = 8, THREADS = WARPS * WARP, STEP = 32, FEATURES = 8;
constexpr uint32_t LOAD_BYTES = THREADS * 16; /* of all threads, one each */
constexpr uint32_t LOADS_USUAL = 16, LOADS_LONG = 32; /* in a ring */

/* 16 bytes into shared memory; zeros if they lie behind the row's end. */
__device__ __forceinline__ void fetch(uint32_t to, const void *from, bool inside) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(inside ? 16 : 0));
}

__device__ __forceinline__ uint4 take(uint32_t from) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "r"(from));
    return value;
}

__device__ __forceinline__ float silu(float value) {
    return value / (1.0f + __expf(-value));
}

/* The first of tile `tile`'s features of a block. */
template <uint32_t TILES, bool SILU>
__device__ __forceinline__ uint32_t tile_feature(const products_few &call, uint32_t tile) {
    if (SILU) /* gate and up in turn */
        return (tile % 2) * (call.features / 2) + (blockIdx.x * (TILES / 2) + tile / 2) * FEATURES;
    return (blockIdx.x * TILES + tile) * FEATURES;
}

/* LOADS: of a thread, under way together. */
template <uint32_t TILES, uint32_t ROWS, bool SILU, uint32_t LOADS>
__global__ void __launch_bounds__(THREADS, LOADS == LOADS_USUAL ? 3 : 1) few_kernel(const products_few call) {
    constexpr uint32_t DEPTH = LOADS / TILES;
    extern __shared__ __align__(16) char shared[];
    float *partials = (float *)(shared + LOADS * LOAD_BYTES); /* (WARPS, ROWS, 8 TILES) */
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, group = lane / 4, quad = lane % 4;
    const uint32_t stride = call.stride, steps = (stride + STEP - 1) / STEP;
    const uint32_t count = steps > warp ? (steps - warp + WARPS - 1) / WARPS : 0;
    const uint32_t place = shared_address(shared) + threadIdx.x * 16;
    const __nv_bfloat16 *weights[TILES];
    for (uint32_t tile = 0; tile < TILES; tile++) {
        uint32_t feature = tile_feature<TILES, SILU>(call, tile) + group;
        weights[tile] = (const __nv_bfloat16 *)call.weights +
                        (size_t)(feature < call.features ? feature : call.features - 1) * stride;
    }
    uint32_t ahead = (warp * STEP + quad * 8); /* k of the next fetch */
    auto fetch_step = [&](uint32_t slot) {
        bool inside = ahead < stride;
#pragma unroll
        for (uint32_t tile = 0; tile < TILES; tile++)
            fetch(place + (slot * TILES + tile) * (THREADS * 16), weights[tile] + (inside ? ahead : 0), inside);
        ahead += WARPS * STEP;
    };
#pragma unroll
    for (uint32_t i = 0; i < DEPTH; i++) {
        if (i < count)
            fetch_step(i);
        copy_commit();
    }
    overlap_allow();
    overlap_wait();

    const uint4 zeros = make_uint4(0, 0, 0, 0);
    const char *x_low = (const char *)call.x + ((size_t)group * stride + warp * STEP + quad * 8) * 2;
    const char *x_high = x_low + (size_t)8 * stride * 2;
    const bool low = group < call.rows, high = ROWS > 8 && group + 8 < call.rows;
    uint32_t k = warp * STEP + quad * 8;
    auto load_x = [&](const char *from, bool wanted) {
        return wanted && k < stride ? __ldcg((const uint4 *)from) : zeros;
    };
    float sums[TILES][4] = {};
    uint4 next_low = load_x(x_low, low), next_high = load_x(x_high, high);
    for (uint32_t i = 0, slot = 0; i < count; i++) {
        uint4 now_low = next_low, now_high = next_high;
        k += WARPS * STEP;
        x_low += WARPS * STEP * 2;
        x_high += WARPS * STEP * 2;
        next_low = load_x(x_low, low);
        if (ROWS > 8)
            next_high = load_x(x_high, high);
        copy_wait<DEPTH - 1>();
        const uint32_t first[4] = {now_low.x, now_high.x, now_low.y, now_high.y};
        const uint32_t second[4] = {now_low.z, now_high.z, now_low.w, now_high.w};
#pragma unroll
        for (uint32_t tile = 0; tile < TILES; tile++) {
            uint4 w = take(place + (slot * TILES + tile) * (THREADS * 16));
            multiply_add(sums[tile], first, w.x, w.y);
            multiply_add(sums[tile], second, w.z, w.w);
        }
        if (i + DEPTH < count)
            fetch_step(slot);
        copy_commit();
        slot = slot + 1 == DEPTH ? 0 : slot + 1;
    }

#pragma unroll
    for (uint32_t tile = 0; tile < TILES; tile++) {
        float *to = partials + (warp * ROWS + group) * (FEATURES * TILES) + tile * FEATURES + quad * 2;
        *(float2 *)to = make_float2(sums[tile][0], sums[tile][1]);
        if (ROWS > 8)
            *(float2 *)(to + 8 * FEATURES * TILES) = make_float2(sums[tile][2], sums[tile][3]);
    }
    __syncthreads();
    auto total = [&](uint32_t row, uint32_t column, uint32_t feature) {
        float sum = 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < WARPS; i++)
            sum += partials[(i * ROWS + row) * (FEATURES * TILES) + column];
        return call.bias == nullptr ? sum : sum + call.bias[feature];
    };
    if constexpr (SILU) {
        constexpr uint32_t WIDTH = FEATURES * TILES / 2;
        uint32_t hidden = call.features / 2, hidden_stride = (hidden + 7) / 8 * 8;
        for (uint32_t i = threadIdx.x; i < call.rows * WIDTH; i += THREADS) {
            uint32_t row = i / WIDTH, tile = i % WIDTH / FEATURES * 2, inner = i % FEATURES;
            uint32_t feature = tile_feature<TILES, SILU>(call, tile) + inner;
            if (feature >= hidden_stride)
                continue;
            float value = 0.0f;
            if (feature < hidden) {
                float gate = total(row, tile * FEATURES + inner, feature);
                value = silu(gate) * total(row, (tile + 1) * FEATURES + inner, hidden + feature);
            }
            ((__nv_bfloat16 *)call.hidden)[(size_t)row * hidden_stride + feature] = __float2bfloat16(value);
        }
    } else {
        for (uint32_t i = threadIdx.x; i < call.rows * FEATURES * TILES; i += THREADS) {
            uint32_t row = i / (FEATURES * TILES), column = i % (FEATURES * TILES);
            uint32_t feature = blockIdx.x * FEATURES * TILES + column;
            if (feature >= call.features)
                continue;
            float value = total(row, column, feature), *to = call.y + (size_t)row * call.features + feature;
            *to = call.accumulate ? *to + value : value;
        }
    }
}

template <uint32_t TILES, uint32_t ROWS, bool SILU, uint32_t LOADS>
cudaError_t launch(const products_few *call, cudaStream_t stream) {
    constexpr uint32_t width = FEATURES * TILES;
    constexpr uint32_t bytes = LOADS * LOAD_BYTES + WARPS * ROWS * width * (uint32_t)sizeof(float);
    auto kernel = few_kernel<TILES, ROWS, SILU, LOADS>;
    if (call == nullptr) {
        cudaError_t code =
            cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
        return code != cudaSuccess
                   ? code
                   : cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    }
    return launch_overlapping(kernel, (call->features + width - 1) / width, THREADS, bytes, stream, call->overlap,
                              *call);
}

/* call NULL: attributes of all kernels are set. */
template <uint32_t ROWS> cudaError_t launch_rows(const products_few *call, uint32_t tiles, bool lengthy, cudaStream_t stream) {
    constexpr uint32_t usual = LOADS_USUAL;
    if (call == nullptr) {
        cudaError_t codes[] = {
            launch<1, ROWS, false, usual>(nullptr, 0), launch<2, ROWS, false, usual>(nullptr, 0),
            launch<4, ROWS, false, usual>(nullptr, 0), launch<4, ROWS, false, LOADS_LONG>(nullptr, 0),
            launch<2, ROWS, true, usual>(nullptr, 0),  launch<4, ROWS, true, usual>(nullptr, 0)};
        for (cudaError_t code : codes)
            if (code != cudaSuccess)
                return code;
        return cudaSuccess;
    }
    if (call->hidden != nullptr)
        return tiles >= 4 ? launch<4, ROWS, true, usual>(call, stream) : launch<2, ROWS, true, usual>(call, stream);
    if (tiles >= 4)
        return lengthy ? launch<4, ROWS, false, LOADS_LONG>(call, stream)
                    : launch<4, ROWS, false, usual>(call, stream);
    return tiles >= 2 ? launch<2, ROWS, false, usual>(call, stream) : launch<1, ROWS, false, usual>(call, stream);
}

} // namespace

extern "C" cudaError_t products_few_prepare(void) {
    cudaError_t code = launch_rows<8>(nullptr, 0, false, 0);
    return code == cudaSuccess ? launch_rows<16>(nullptr, 0, false, 0) : code;
}

extern "C" cudaError_t products_few_run(const products_few *call, cudaStream_t stream) {
    /* Of more tiles x is read less often, as long as there are blocks for all multiprocessors. Where a block
     * is alone on one, and reads much, more has to be under way. */
    uint32_t tiles = call->tiles, alone = 132;
    if (tiles == 0 && call->hidden != nullptr)
        tiles = call->rows <= 8 && call->stride >= 2048 ? 2 : 4;
    else if (tiles == 0)
        for (tiles = 4; tiles > 1 && call->features / (FEATURES * tiles) < 120;)
            tiles /= 2;
    bool lengthy = call->lengthy == 0 ? tiles == 4 && call->features / (FEATURES * tiles) <= alone && call->stride >= 8192
                                : call->lengthy > 1;
    return call->rows <= 8 ? launch_rows<8>(call, tiles, lengthy, stream)
                           : launch_rows<16>(call, tiles, lengthy, stream);
}
