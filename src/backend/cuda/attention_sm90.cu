/*
 * attention_sm90: see attention_sm90.h.
 *
 * A CTA (one per SM) works off its items of the schedule. Its warps have roles:
 *
 *   warp 0        loads K and V: a ring of STAGES blocks each, filled by tensor copies ahead of the products,
 *                 across items
 *   warps 1 - 3   rows of the next item: gathered by list, rotated, rounded to bf16; two buffers. And they
 *                 count the arrivals of states
 *   warps 4 - 11  two warpgroups: S = Q Kᵀ, softmax in base 2 against the running maximum, O += P V.
 *                 Tiles of 128 rows: 64 rows each, the next block's S runs beside this one's softmax, and
 *                 one's products beside the other's softmax. Smaller tiles: the same rows, half of each
 *                 block's keys each, states folded at the end. Rows are padded to 64: as long as memory is
 *                 the bound that costs nothing.
 *
 * A block is up to 128 keys of one segment at a multiple of the copies' rows in its pages, so that every copy
 * is whole boxes, whatever tokens a segment has: what lies beyond the segment's ends is masked in S and made
 * zero in V (it may be NaN).
 *
 * A tile whose rows have one item each is written directly; else its state goes to the workspace, and when
 * the items are done all consumers of all CTAs merge, in list order. Every row is rounded once, at the end.
 *
 * Bytes: each key once per tile of rows (2 · head_dim · 2), Q and out once per item. Operations: 4 · head_dim
 * per row and key. Reached: docs/performance.md.
 */
#include "attention_sm90.h"

#include "attention_sm90_load.cuh"
#include "attention_sm90_merge.cuh"

namespace {

#ifdef HAS_SM90
/* ------------------------------------------------------------------------------- output ------ */

/* Rows that see nothing, this CTA's share. */
template <int D>
__device__ __forceinline__ void write_zeros(const kernel_params &p, uint32_t thread, uint32_t threads) {
    const schedule_header &header = *(const schedule_header *)p.schedule;
    for (uint32_t z = blockIdx.x; z < header.zero_row_count; z += gridDim.x) {
        uint32_t row = __ldg(p.schedule + header.zero_rows + z);
        for (uint32_t i = thread; i < p.heads * D / 4; i += threads)
            write_four(p, out_index(p, row, 0, D) + 4 * i, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
    }
}

/* A thread's part of COUNT columns from `column` of two packed rows, row and row + 8, as products leave them;
 * sums: the thread writes those too. */
template <int D, int COUNT>
__device__ __forceinline__ void write_rows(const kernel_params &p, const row_buffer &buffer, float *partials,
                                           const float (&out)[COUNT / 2], const float (&largest)[2],
                                           const float (&total)[2], uint32_t row, uint32_t column,
                                           bool sums) {
    const uint32_t lane = threadIdx.x % 32, odd = lane & 1, packed = buffer.item.row_count * p.group;
    const bool partial = buffer.item.partial != SCHEDULE_NONE;
    column += odd * 8 + (lane & 2) * 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t r = row + 8 * half;
        const float factor = partial ? 1.0f : inverse(total[half]);
        float *to = nullptr;
        __nv_bfloat16 *to_bf16 = nullptr;
        if (r < packed && partial) {
            to = partials + (size_t)(buffer.item.partial + r) * D + column;
            if (sums && lane % 4 == 0)
                __stcg(partial_sums(p) + buffer.item.partial + r, make_float2(largest[half], total[half]));
        } else if (r < packed) {
            const size_t at =
                out_index(p, buffer.rows[r / p.group].row, buffer.item.kv_head * p.group + r % p.group, D) +
                column;
            to = p.out == nullptr ? nullptr : p.out + at;
            to_bf16 = p.out_bf16 == nullptr ? nullptr : p.out_bf16 + at;
        }
        __syncwarp();
#pragma unroll
        for (int n = 0; n < COUNT / 8; n += 2) { /* neighbours exchange: four columns of one block each */
            const float a = out[4 * n + 2 * half] * factor, b = out[4 * n + 2 * half + 1] * factor;
            const float c = out[4 * n + 4 + 2 * half] * factor, d = out[4 * n + 4 + 2 * half + 1] * factor;
            const float x = __shfl_xor_sync(~0u, odd ? a : c, 1), y = __shfl_xor_sync(~0u, odd ? b : d, 1);
            const float4 values = odd ? make_float4(x, y, c, d) : make_float4(a, b, x, y);
            if (to != nullptr)
                __stcg((float4 *)(to + n * 8), values);
            if (to_bf16 != nullptr)
                __stcg((uint2 *)(to_bf16 + n * 8),
                       make_uint2(pack_bf16(values.x, values.y), pack_bf16(values.z, values.w)));
        }
    }
}

/* ----------------------------------------------------------------------------- products ------ */

/* What all consumers know of a stage and how often the ring went round. */
template <int D> struct ring {
    static constexpr uint32_t STAGES = shared_memory<D>::STAGES;
    uint32_t block;

    __device__ __forceinline__ uint32_t stage(void) const {
        return block % STAGES;
    }
    __device__ __forceinline__ uint32_t parity(void) const {
        return block / STAGES & 1;
    }
};

/* The same in all of a warp's threads, so that the compiler knows. */
__device__ __forceinline__ uint32_t uniform(uint32_t value) {
    return __shfl_sync(~0u, value, 0);
}

__device__ __forceinline__ void release(uint64_t *barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        barrier_arrive(barrier);
}

/* scores (64, N) = Q Kᵀ: rows of the tile at `query`, keys of the tile at `keys`; not awaited. */
template <int D, int COUNT>
__device__ __forceinline__ void multiply_keys(float (&scores)[COUNT], uint32_t query, uint32_t keys) {
    asm volatile("" : "+r"(query)); /* or its descriptors are kept, and spilled */
    const uint64_t a = tile_descriptor(query, 16), b = tile_descriptor(keys, 16);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        const uint32_t offset = (k / 4 * TILE_BLOCK_BYTES + k % 4 * 32) >> 4;
        product_shared(scores, a + offset, b + offset, k > 0);
    }
}

/* out (64, D) += P V: keys in steps of 16; not awaited. */
template <int D, int STEPS>
__device__ __forceinline__ void multiply_values(float (&out)[D / 2], const uint32_t (&weights)[STEPS][4],
                                                uint32_t values) {
    const uint64_t b = tile_descriptor(values, TILE_BLOCK_BYTES);
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        product_registers(out, weights[k], b + (k * 2048 >> 4), 1);
}

/* Rows [from, to) of V but for [begin, end) become zeros, by a warpgroup. */
template <int D>
__device__ __forceinline__ void clear_values(unsigned char *values, int32_t from, int32_t to, int32_t begin,
                                             int32_t end) {
    for (int32_t unit = (int32_t)(threadIdx.x % 128); unit < (to - from) * (D / 8); unit += 128) {
        int32_t row = from + unit / 8 % (to - from), half = unit / 8 / (to - from);
        if (row < begin || row >= end)
            store_zeros(shared_address(values) + half * TILE_BLOCK_BYTES + row * 128 + unit % 8 * 16);
    }
    fence_async();
    named_sync(BARRIER_GROUP + threadIdx.x / 128, 128);
}

/* Scores of this thread's two packed rows against the COUNT / 4 · 8 keys from `first` of a block: what they
 * do not see becomes -inf. */
template <int COUNT>
__device__ __forceinline__ void mask_scores(const kernel_params &p, const row_buffer &buffer,
                                            const key_block &block, float (&scores)[COUNT], uint32_t row,
                                            int32_t first) {
    const uint32_t packed = buffer.item.row_count * p.group;
    first += (int32_t)(threadIdx.x % 4 * 2);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int32_t seen_end = buffer.seen_end[min(row + 8 * half, packed - 1)];
        int32_t seen_begin = p.window == 0 ? 0 : seen_end - (int32_t)p.window;
        seen_begin = max(seen_begin - block.key_begin, block.begin) - first;
        seen_end = min(seen_end - block.key_begin, block.end) - first;
#pragma unroll
        for (int n = 0; n < COUNT / 4; n++)
#pragma unroll
            for (int j = 0; j < 2; j++)
                if (n * 8 + j < seen_begin || n * 8 + j >= seen_end)
                    scores[4 * n + 2 * half + j] = -INFINITY;
    }
}

/* Scores become weights; what was before counts `factor` now. True if a factor is not 1. */
template <int COUNT>
__device__ __forceinline__ bool softmax(float (&scores)[COUNT], float (&largest)[2], float (&total)[2],
                                        float (&factor)[2]) {
    bool grown = false;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = largest[half];
#pragma unroll
        for (int n = 0; n < COUNT / 4; n++)
            most = fmaxf(most, fmaxf(scores[4 * n + 2 * half], scores[4 * n + 2 * half + 1]));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        float base = most == -INFINITY ? 0.0f : most, sum = 0.0f;
        factor[half] = exp2_fast(largest[half] - base);
        grown |= largest[half] != most;
        largest[half] = most;
#pragma unroll
        for (int n = 0; n < COUNT / 4; n++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float weight = exp2_fast(scores[4 * n + 2 * half + j] - base);
                scores[4 * n + 2 * half + j] = weight;
                sum += weight;
            }
        total[half] = total[half] * factor[half] + sum;
    }
    return __any_sync(~0u, grown);
}

template <int COUNT>
__device__ __forceinline__ void pack_weights(uint32_t (&weights)[COUNT / 8][4],
                                             const float (&scores)[COUNT]) {
#pragma unroll
    for (int k = 0; k < COUNT / 8; k++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            weights[k][j] = pack_bf16(scores[8 * k + 2 * j], scores[8 * k + 2 * j + 1]);
}

template <int COUNT> __device__ __forceinline__ void rescale(float (&out)[COUNT], const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        out[i] *= factor[i / 2 % 2];
}

__device__ __forceinline__ bool needs_mask(const schedule_item &item, const key_block &block) {
    return block.begin > 0 || block.end < BLOCK_KEYS || block.key_begin < (int32_t)item.full_begin ||
           block.key_begin + BLOCK_KEYS > (int32_t)item.full_end;
}

/* One warpgroup's 64 of 128 rows. */
template <int D>
__device__ __forceinline__ void attend_wide(const kernel_params &p, shared_memory<D> &shared, uint32_t at,
                                            ring<D> &ring, uint32_t group, uint32_t item) {
    const row_buffer &buffer = shared.rows[at];
    const uint32_t lane = threadIdx.x % 32, row = group * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;
    const uint32_t query = shared_address(shared.tile[at].query) + group * 64 * 128;
    float out[D / 2], scores[64], largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f}, factor[2];
    uint32_t weights[8][4];
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        out[i] = 0.0f;

    barrier_wait(&shared.keys_full[ring.stage()], ring.parity());
    key_block block = shared.blocks[ring.stage()];
    products_begin();
    multiply_keys<D>(scores, query, shared_address(shared.keys[ring.stage()]));
    products_commit();
    products_wait<0>();
    hold(scores);
    release(&shared.keys_empty[ring.stage()]);
    if (needs_mask(buffer.item, block))
        mask_scores(p, buffer, block, scores, row, 0);
    STAMP(p, item, 3);
    softmax(scores, largest, total, factor);
    pack_weights(weights, scores);
#pragma unroll 1
    while (uniform(block.last) == 0) {
        const uint32_t stage = ring.stage(), parity = ring.parity();
        const int32_t begin = block.begin, end = block.end;
        ring.block++;
        barrier_wait(&shared.keys_full[ring.stage()], ring.parity());
        block = shared.blocks[ring.stage()];
        if (TURNS)
            named_sync(BARRIER_TURN + group, CONSUMERS);
        hold(out);
        products_begin();
        multiply_keys<D>(scores, query, shared_address(shared.keys[ring.stage()]));
        products_commit();
        barrier_wait(&shared.values_full[stage], parity);
        if (begin > 0 || end < BLOCK_KEYS)
            clear_values<D>(shared.values[stage], 0, BLOCK_KEYS, begin, end);
        products_begin();
        multiply_values<D>(out, weights, shared_address(shared.values[stage]));
        products_commit();
        if (TURNS)
            named_arrive(BARRIER_TURN + (group ^ 1), CONSUMERS);
        products_wait<1>();
        hold(scores);
        release(&shared.keys_empty[ring.stage()]);
        if (needs_mask(buffer.item, block))
            mask_scores(p, buffer, block, scores, row, 0);
        bool grown = softmax(scores, largest, total, factor);
        products_wait<0>();
        hold(out);
        release(&shared.values_empty[stage]);
        if (grown)
            rescale(out, factor);
        pack_weights(weights, scores);
    }
    barrier_wait(&shared.values_full[ring.stage()], ring.parity());
    if (block.begin > 0 || block.end < BLOCK_KEYS)
        clear_values<D>(shared.values[ring.stage()], 0, BLOCK_KEYS, block.begin, block.end);
    hold(out);
    products_begin();
    multiply_values<D>(out, weights, shared_address(shared.values[ring.stage()]));
    products_commit();
    products_wait<0>();
    hold(out);
    release(&shared.values_empty[ring.stage()]);
    ring.block++;
    STAMP(p, item, 4);

#pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(~0u, total[half], 1);
        total[half] += __shfl_xor_sync(~0u, total[half], 2);
    }
    write_rows<D, D>(p, buffer, p.workspace + shared.partial_out, out, largest, total, row, 0, true);
}

/* Both warpgroups' 64 rows or fewer, a half of each block's keys each. */
template <int D>
__device__ __forceinline__ void attend_narrow(const kernel_params &p, shared_memory<D> &shared, uint32_t at,
                                              ring<D> &ring, uint32_t group, uint32_t item) {
    const row_buffer &buffer = shared.rows[at];
    const uint32_t lane = threadIdx.x % 32, thread = threadIdx.x % 128, row = thread / 32 * 16 + lane / 4;
    const uint32_t query = shared_address(shared.tile[at].query);
    const int32_t first = (int32_t)group * 64; /* of the warpgroup's keys in a block */
    const bool has_rows = thread / 32 * 16 < buffer.item.row_count * p.group;
    float out[D / 2], largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        out[i] = 0.0f;
    bool last;
#pragma unroll 1
    do {
        const uint32_t stage = ring.stage(), parity = ring.parity();
        barrier_wait(&shared.keys_full[stage], parity);
        const key_block block = shared.blocks[stage];
        last = uniform(block.last) != 0;
        float scores[32], factor[2];
        uint32_t weights[4][4] = {};
        products_begin();
        multiply_keys<D>(scores, query, shared_address(shared.keys[stage]) + first * 128);
        products_commit();
        products_wait<0>();
        hold(scores);
        release(&shared.keys_empty[stage]);
#ifdef ATTENTION_STAMPS
        if (out[0] == 0.0f && largest[0] == -INFINITY)
            STAMP(p, item, 3);
#endif
        if (has_rows) {
            if (needs_mask(buffer.item, block))
                mask_scores(p, buffer, block, scores, row, first);
            if (softmax(scores, largest, total, factor))
                rescale(out, factor);
            pack_weights(weights, scores);
        }
        barrier_wait(&shared.values_full[stage], parity);
        if (block.begin > first || block.end < first + 64)
            clear_values<D>(shared.values[stage], first, first + 64, block.begin, block.end);
        hold(out);
        products_begin();
        multiply_values<D>(out, weights, shared_address(shared.values[stage]) + first * 128);
        products_commit();
        products_wait<0>();
        hold(out);
        release(&shared.values_empty[stage]);
        ring.block++;
    } while (!last);
    STAMP(p, item, 4);

#pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(~0u, total[half], 1);
        total[half] += __shfl_xor_sync(~0u, total[half], 2);
    }
    /* each warpgroup has half of the columns in the end */
    constexpr int KEPT = D / 4;
    auto &exchange = shared.tile[at].exchange;
    named_sync(BARRIER_CONSUMERS, CONSUMERS); /* the queries are read */
    if (has_rows) {
#pragma unroll
        for (int i = 0; i < KEPT / 4; i++) {
            const float *from = out + (KEPT + 4 * i), *other = out + 4 * i;
            exchange[group][i][thread] = group == 0 ? make_float4(from[0], from[1], from[2], from[3])
                                                    : make_float4(other[0], other[1], other[2], other[3]);
        }
        shared.exchange_sums[group][thread] = make_float4(largest[0], largest[1], total[0], total[1]);
    }
    named_sync(BARRIER_CONSUMERS, CONSUMERS);
    if (!has_rows)
        return;
    const float4 sums = shared.exchange_sums[group ^ 1][thread];
    const float other_largest[2] = {sums.x, sums.y}, other_total[2] = {sums.z, sums.w};
    float factor[2], other_factor[2], kept[KEPT];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = fmaxf(largest[half], other_largest[half]), base = most == -INFINITY ? 0.0f : most;
        factor[half] = exp2_fast(largest[half] - base);
        other_factor[half] = exp2_fast(other_largest[half] - base);
        float mine = total[half] * factor[half], others = other_total[half] * other_factor[half];
        total[half] = mine + others;
        largest[half] = most;
    }
#pragma unroll
    for (int i = 0; i < KEPT / 4; i++) {
        const float4 other = exchange[group ^ 1][i][thread];
        const float others[4] = {other.x, other.y, other.z, other.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float mine = group == 0 ? out[4 * i + j] : out[KEPT + 4 * i + j];
            kept[4 * i + j] = mine * factor[j / 2] + others[j] * other_factor[j / 2];
        }
    }
    write_rows<D, D / 2>(p, buffer, p.workspace + shared.partial_out, kept, largest, total, row,
                         group * (D / 2), group == 0);
}

template <int D>
__device__ __forceinline__ void attend_items(const kernel_params &p, shared_memory<D> &shared, uint32_t begin,
                                             uint32_t end) {
    const uint32_t group = uniform(threadIdx.x / 128 - 1);
    ring<D> ring = {0};
#ifdef ATTENTION_STAMPS
    const uint32_t worker = ((const schedule_header *)p.schedule)->item_count + blockIdx.x;
    if (threadIdx.x == 128) {
        uint32_t sm;
        asm volatile("mov.u32 %0, %smid;" : "=r"(sm));
        p.stamps[(size_t)worker * 8] = global_ns();
        p.stamps[(size_t)worker * 8 + 4] = sm;
    }
#endif
    STAMP(p, worker, 1);
    if (begin < end)
        query_loader<D, CONSUMERS>(p, threadIdx.x - 128).load(p, shared, begin, 0, nullptr, 0, false);
    named_sync(BARRIER_CONSUMERS, CONSUMERS);
    if (TURNS && group == 1)
        named_arrive(BARRIER_TURN, CONSUMERS);
    for (uint32_t i = begin; i < end; i++) {
        const uint32_t at = (i - begin) & 1;
        STAMP(p, i, 0);
        barrier_wait(&shared.rows_full[at], (i - begin) >> 1 & 1);
        STAMP(p, i, 1);
        STAMP(p, i, 2);
        if (uniform(shared.rows[at].item.shape) == SCHEDULE_ROWS_128)
            attend_wide<D>(p, shared, at, ring, group, i);
        else
            attend_narrow<D>(p, shared, at, ring, group, i);
        STAMP(p, i, 5);
        STAMP(p, i, 6);
        release(&shared.rows_empty[at]);
    }
    STAMP(p, worker, 5);
    named_sync(BARRIER_CONSUMERS, CONSUMERS); /* nobody reads a tile any more */
    const uint32_t rows = header_word(p, &schedule_header::unit_count) * p.group;
    if (p.group % 4 == 0 && rows > gridDim.x * CONSUMERS / 32)
        merge_units<D, 4>(p, shared);
    else
        merge_units<D, 1>(p, shared);
    STAMP(p, worker, 3);
#ifdef ATTENTION_STAMPS
    if (threadIdx.x == 128)
        p.stamps[(size_t)worker * 8 + 2] = global_ns();
#endif
}

/* Three warps: rows and queries of all items but the first, which the consumers do while they have nothing
 * else to do; arrivals of all; rows that see nothing. */
template <int D>
__device__ __forceinline__ void load_queries(const kernel_params &p, shared_memory<D> &shared, uint32_t begin,
                                             uint32_t end) {
    const uint32_t thread = threadIdx.x - 32, count = end - begin;
    query_loader<D, QUERY_THREADS> loader(p, thread);
    barrier_arrive(&shared.rows_full[0]);
    for (uint32_t i = 1; i < count; i++) {
        const uint32_t at = i & 1;
        loader.load(p, shared, begin + i, at, &shared.rows_empty[at], (i >> 1 & 1) ^ 1, i >= 2);
        barrier_arrive(&shared.rows_full[at]);
    }
    for (uint32_t i = count < 2 ? 0 : count - 2; i < count; i++) {
        barrier_wait(&shared.rows_empty[i & 1], i >> 1 & 1);
        loader.arrive(p, shared.rows[i & 1], thread, QUERY_THREADS);
    }
    write_zeros<D>(p, thread, QUERY_THREADS);
}

#endif

template <int D>
__global__ void __launch_bounds__(THREADS, 1) attend(const __grid_constant__ kernel_params p) {
#ifdef HAS_SM90
    extern __shared__ __align__(1024) unsigned char memory[];
    shared_memory<D> &shared = *(shared_memory<D> *)memory;
    /* the table that follows the header */
    const uint32_t *work_begin = p.schedule + sizeof(schedule_header) / 4 + blockIdx.x;
    const uint32_t begin = __ldg(work_begin), end = __ldg(work_begin + 1);
    if (threadIdx.x == 0) {
        tensor_prefetch(&p.map);
        for (int s = 0; s < shared_memory<D>::STAGES; s++) {
            barrier_init(&shared.keys_full[s], 1);
            barrier_init(&shared.values_full[s], 1);
            barrier_init(&shared.keys_empty[s], CONSUMERS / 32);
            barrier_init(&shared.values_empty[s], CONSUMERS / 32);
        }
        for (int at = 0; at < 2; at++) {
            barrier_init(&shared.rows_full[at], QUERY_THREADS);
            barrier_init(&shared.rows_empty[at], CONSUMERS / 32);
        }
        fence_async();
        shared.partial_out = header_word(p, &schedule_header::partial_out);
    }
    __syncthreads();
    const uint32_t warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    if (warp < 4) {
        registers_less<LOADER_REGISTERS>();
        if (warp == 0)
            load_blocks<D>(p, shared, begin, end);
        else
            load_queries<D>(p, shared, begin, end);
    } else {
        registers_more<CONSUMER_REGISTERS>();
        attend_items<D>(p, shared, begin, end);
    }
#endif
}

PFN_cuTensorMapEncodeTiled_v12000 find_encode(void) {
    static PFN_cuTensorMapEncodeTiled_v12000 encode;
    void *found = nullptr;
    cudaDriverEntryPointQueryResult status;
    if (encode == nullptr &&
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                         &status) == cudaSuccess &&
        status == cudaDriverEntryPointSuccess)
        encode = (PFN_cuTensorMapEncodeTiled_v12000)found;
    return encode;
}

/* The layer as rows of head_dim values, as many as there may be: rows that no page names are not asked for.
 */
cudaError_t make_map(CUtensorMap *map, const void *kv, uint32_t head_dim) {
    const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encode();
    if (encode == nullptr)
        return cudaErrorNotSupported;
    const cuuint64_t sizes[] = {head_dim, 0x7FFFFFFF}, strides[] = {head_dim * 2};
    const cuuint32_t box[] = {64, BOX_ROWS}, steps[] = {1, 1};
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)kv, sizes, strides, box, steps,
                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS
               ? cudaSuccess
               : cudaErrorInvalidValue;
}

template <int D> uint32_t workers_for(uint32_t multiprocessors) {
    return workers_of(attend<D>, THREADS, sizeof(shared_memory<D>), multiprocessors);
}

template <int D> cudaError_t launch(const kernel_params &params, uint32_t workers, cudaStream_t stream) {
    return launch_together(attend<D>, params, workers, THREADS, sizeof(shared_memory<D>), stream);
}

} // namespace

const schedule_costs attention_sm90_costs = {
    .block_us = {0.45, 0.45, 0.52, 0.8},
    .item_us = {1.6, 1.6, 1.8, 3.0},
    .piece_blocks = {2, 2, 2, 4},
};

bool attention_sm90_takes(const attention_shape *shape, uint32_t page_tokens, int device_major,
                          int device_minor) {
    return device_major == 9 && device_minor == 0 && page_tokens >= BOX_ROWS &&
           attention_mma_takes(shape, page_tokens);
}

uint32_t attention_sm90_workers(uint32_t head_dim, uint32_t multiprocessors) {
    return head_dim == 64 ? workers_for<64>(multiprocessors) : workers_for<128>(multiprocessors);
}

cudaError_t attention_sm90_run(const attention_mma_call *call) {
    kernel_params params = {schedule_params_of(call), {}};
    const cudaError_t failed = make_map(&params.map, call->kv, call->shape->head_dim);
    if (failed != cudaSuccess)
        return failed;
    return call->shape->head_dim == 64 ? launch<64>(params, call->workers, call->stream)
                                       : launch<128>(params, call->workers, call->stream);
}
