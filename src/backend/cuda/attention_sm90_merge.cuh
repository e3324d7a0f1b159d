/* attention_sm90.cu: partial states of rows, merged when all items are done. */
#ifndef CENTO_BACKEND_CUDA_ATTENTION_SM90_MERGE_CUH
#define CENTO_BACKEND_CUDA_ATTENTION_SM90_MERGE_CUH

#include "attention_sm90_kernel.cuh"

namespace {

#ifdef HAS_SM90
/* -------------------------------------------------------------------------------- merging ---- */

/* Partial states of HEADS neighbouring rows folded; a lane has D / 32 neighbouring values of each. */
template <int D, int HEADS> struct merged_rows {
    static constexpr int VALUES = D / 32, AHEAD = 16 / HEADS;
    float largest[HEADS], total[HEADS], sum[HEADS][VALUES];

    __device__ __forceinline__ void clear(void) {
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            largest[h] = -INFINITY, total[h] = 0.0f;
#pragma unroll
            for (int j = 0; j < VALUES; j++)
                sum[h][j] = 0.0f;
        }
    }

    /* Row h to the larger maximum; the factor of states with the other one. */
    __device__ __forceinline__ float grow(int h, float other) {
        const float most = fmaxf(largest[h], other), base = most == -INFINITY ? 0.0f : most;
        const float factor = exp2_fast(largest[h] - base);
        largest[h] = most;
        total[h] *= factor;
#pragma unroll
        for (int j = 0; j < VALUES; j++)
            sum[h][j] *= factor;
        return exp2_fast(other - base);
    }

    /* `count` partials, at most 32, of the first of the rows; `mine` is this lane's. */
    __device__ __forceinline__ void fold(const kernel_params &p, const float *partials, uint32_t mine,
                                         uint32_t count) {
        const uint32_t lane = threadIdx.x % 32;
        float2 sums[HEADS];
        float weight[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++)
            sums[h] = lane < count ? __ldcg(partial_sums(p) + mine + h) : make_float2(-INFINITY, 0.0f);
#pragma unroll 1
        for (uint32_t first = 0; first < count; first += AHEAD) {
            float loaded[AHEAD][HEADS][VALUES];
#pragma unroll
            for (uint32_t u = 0; u < AHEAD; u++) {
                const float *from =
                    partials + (size_t)__shfl_sync(~0u, mine, (first + u) % 32) * D + lane * VALUES;
#pragma unroll
                for (int h = 0; h < HEADS; h++)
                    if (first + u < count) {
                        if constexpr (VALUES == 4)
                            *(float4 *)loaded[u][h] = __ldcg((const float4 *)(from + h * D));
                        else
                            *(float2 *)loaded[u][h] = __ldcg((const float2 *)(from + h * D));
                    }
            }
            if (first == 0) { /* while the values are under way */
#pragma unroll
                for (int h = 0; h < HEADS; h++) {
                    float most = sums[h].x;
#pragma unroll
                    for (int distance = 16; distance > 0; distance /= 2)
                        most = fmaxf(most, __shfl_xor_sync(~0u, most, distance));
                    const float factor = grow(h, most);
                    weight[h] = most == -INFINITY ? 0.0f : exp2_fast(sums[h].x - most) * factor;
                    float added = weight[h] * sums[h].y;
#pragma unroll
                    for (int distance = 16; distance > 0; distance /= 2)
                        added += __shfl_xor_sync(~0u, added, distance);
                    total[h] += added;
                }
            }
#pragma unroll
            for (uint32_t u = 0; u < AHEAD; u++)
#pragma unroll
                for (int h = 0; h < HEADS; h++) {
                    const float by = __shfl_sync(~0u, weight[h], (first + u) % 32);
                    if (first + u < count) {
#pragma unroll
                        for (int j = 0; j < VALUES; j++)
                            sum[h][j] += by * loaded[u][h][j];
                    }
                }
        }
    }

    __device__ __forceinline__ void write(const kernel_params &p, uint32_t row, uint32_t head) const {
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            const float factor = inverse(total[h]);
            const size_t at = out_index(p, row, head + h, D) + threadIdx.x % 32 * VALUES;
            if constexpr (VALUES == 4) {
                write_four(p, at,
                           make_float4(sum[h][0] * factor, sum[h][1] * factor, sum[h][2] * factor,
                                       sum[h][3] * factor));
            } else {
                if (p.out != nullptr)
                    *(float2 *)(p.out + at) = make_float2(sum[h][0] * factor, sum[h][1] * factor);
                if (p.out_bf16 != nullptr)
                    *(uint32_t *)(p.out_bf16 + at) = pack_bf16(sum[h][0] * factor, sum[h][1] * factor);
            }
        }
    }
};

/* Every row with several partials, when they have arrived: dealt out evenly to the consumers of all CTAs, all
 * of which are on the device, so what is waited for comes. A warp has HEADS rows of a unit, or where rows are
 * few, several warps each a part of their list. The last to have read a unit's counter leaves it zero. */
template <int D, int HEADS>
__device__ __forceinline__ void merge_units(const kernel_params &p, shared_memory<D> &shared) {
    constexpr uint32_t WARPS = CONSUMERS / 32, ROW = D + 2;
    const schedule_header &header = *(const schedule_header *)p.schedule;
    const uint32_t *const unit_begin = p.schedule + header.unit_begin, *const lists =
                                                                           p.schedule + header.unit_partials;
    const uint2 *const targets = (const uint2 *)(p.schedule + header.unit_rows);
    const uint32_t parts = p.group / HEADS, tasks = header.unit_count * parts;
    const uint32_t warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
    const float *const partials = p.workspace + shared.partial_out;
    uint32_t ways = 1;
    while (ways < WARPS && tasks * ways * 2 <= gridDim.x * WARPS)
        ways *= 2;
    const uint32_t part = warp % ways;
    for (uint32_t first_task = blockIdx.x; first_task < tasks; first_task += gridDim.x * (WARPS / ways)) {
        const uint32_t task = first_task + warp / ways * gridDim.x, unit = task / parts,
                       head = task % parts * HEADS;
        merged_rows<D, HEADS> rows;
        rows.clear();
        uint2 target = make_uint2(0, 0);
        if (task < tasks) {
            const uint32_t list = __ldg(unit_begin + unit), count = __ldg(unit_begin + unit + 1) - list;
            const uint32_t begin = count * part / ways, end = count * (part + 1) / ways;
            target = __ldg(targets + unit);
            uint32_t mine = begin + lane < end ? __ldg(lists + list + begin + lane) + head : 0;
            if (lane == 0)
                while (arrivals(p.arrived + unit) < count)
                    __nanosleep(20);
            __syncwarp();
            for (uint32_t first = begin; first < end; first += 32) {
                if (first > begin)
                    mine = first + lane < end ? __ldg(lists + list + first + lane) + head : 0;
                rows.fold(p, partials, mine, min(end - first, 32u));
            }
            if (lane == 0)
                leave(p.arrived + unit, count + parts * ways - 1);
        }
        if (ways > 1) {
            float *const folded = shared.tile[0].merge;
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                float *to = folded + (warp * HEADS + h) * ROW;
#pragma unroll
                for (int j = 0; j < rows.VALUES; j++)
                    to[lane + 32 * j] = rows.sum[h][j];
                if (lane == 0)
                    to[D] = rows.largest[h], to[D + 1] = rows.total[h];
            }
            named_sync(BARRIER_CONSUMERS, CONSUMERS);
            for (uint32_t w = warp + 1; part == 0 && w < warp + ways; w++)
#pragma unroll
                for (int h = 0; h < HEADS; h++) {
                    const float *from = folded + (w * HEADS + h) * ROW;
                    const float factor = rows.grow(h, from[D]);
                    rows.total[h] += factor * from[D + 1];
#pragma unroll
                    for (int j = 0; j < rows.VALUES; j++)
                        rows.sum[h][j] += factor * from[lane + 32 * j];
                }
            named_sync(BARRIER_CONSUMERS, CONSUMERS);
        }
        if (task < tasks && part == 0)
            rows.write(p, target.x, target.y * p.group + head);
    }
}

#endif

} // namespace

#endif
