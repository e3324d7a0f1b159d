/*
 * attention_mma: see attention_mma.h.
 *
 * A CTA (four warps, two CTAs per SM) works off its items of the schedule as one sequence of blocks of 64
 * keys: the loader runs STAGES blocks ahead of the products, across items. For each item rows are gathered by
 * list, rotated and rounded to bf16 in shared memory; then for each block S = Q Kᵀ, softmax in base 2 against
 * the running maximum, O += P V. How the four warps lie on a tile:
 *
 *   16 rows: 4 along the keys    32: 2 along rows, 2 along keys    64: 4 along rows    128: 4 of 32 rows
 *
 * Warps along the keys keep states of their own, folded in shared memory at the end. A tile whose rows have
 * one item each is written directly; else its state goes to the workspace, and its arrival is counted. When a
 * CTA has done its items it waits for rows that are dealt out to it, and folds their partials in list order:
 * therefore the launch is cooperative. Every row is rounded once, at the end.
 *
 * Bytes: each key once per tile of rows (2 · head_dim · 2), Q and out once per item. Operations: 4 · head_dim
 * per row and key. Reached: docs/performance.md.
 */
#include "attention_mma.h"

#include "attention_mma.cuh"

#ifdef ATTENTION_STAMPS
extern "C" unsigned long long *attention_mma_stamps;
unsigned long long *attention_mma_stamps; /* device: (items + workers, 8) */
#endif

namespace {

constexpr int THREADS = 128, BLOCK_KEYS = SCHEDULE_BLOCK_KEYS, TILE_ROWS_MAX = 128;
constexpr uint32_t WARPS = THREADS / 32;
#ifndef WIDE_STEPS
#define WIDE_STEPS 2
#endif
constexpr float LOG2_E = 1.4426950408889634f;

/* With ATTENTION_STAMPS defined each item leaves the clock at its stages, for bench/cuda (attention trace).
 */
#ifdef ATTENTION_STAMPS
#define STAMP(p, at, stage)                                                                                  \
    do {                                                                                                     \
        if (threadIdx.x == 0)                                                                                \
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

struct kernel_params {
#ifdef ATTENTION_STAMPS
    unsigned long long *stamps;
#endif
    const uint32_t *schedule;
    const float *qkv;
    float *out;
    __nv_bfloat16 *out_bf16;
    const double *turns;
    const __nv_bfloat16 *kv;
    float *workspace;
    uint32_t *arrived;
    float scale, rope_factor; /* scale: to base 2 */
    uint32_t heads, kv_heads, group, window;
    uint32_t page_shift; /* log2 of its tokens */
};

__device__ __forceinline__ float2 *partial_sums(const kernel_params &p) {
    return (float2 *)p.workspace;
}

__device__ __forceinline__ float *partial_out(const kernel_params &p) {
    return p.workspace + __ldg(&((const schedule_header *)p.schedule)->partial_out);
}

template <int D> struct shared_memory {
    static constexpr int STAGES = 256 / D;
    __nv_bfloat16 stage[STAGES][2][BLOCK_KEYS * D]; /* K, V; 16-byte chunks swizzled by the key's low bits */
    union {
        __nv_bfloat16 query[TILE_ROWS_MAX * D]; /* swizzled likewise */
        float fold[WARPS][16 * D];              /* 16 rows of each warp, on their way out */
    };
    schedule_item item;               /* at hand */
    uint32_t key_rows[2][BLOCK_KEYS]; /* where the keys of the next blocks lie, in rows of D; NONE: nowhere */
    schedule_row rows[TILE_ROWS_MAX];
    int32_t seen_end[TILE_ROWS_MAX]; /* by packed row */
    float2 warp_sums[WARPS][16];
};

/* ------------------------------------------------------------------------------ loading ------ */

/* Where the next block's keys lie. Only the first BLOCK_KEYS threads have one, a key each. */
struct key_finder {
    uint32_t item, item_end; /* the next to open */
    uint32_t block, key_begin, key_end, kv_head, segment;

    __device__ __forceinline__ uint32_t next(const kernel_params &p) {
        const schedule_header &header = *(const schedule_header *)p.schedule;
        if (block >= key_end) {
            if (item == item_end)
                return SCHEDULE_NONE;
            uint4 range = __ldg((const uint4 *)((const schedule_item *)(p.schedule + header.items) + item));
            item++;
            key_begin = range.x;
            key_end = range.y;
            kv_head = range.z;
            segment = range.w;
            block = key_begin / BLOCK_KEYS * BLOCK_KEYS;
        }
        uint32_t key = block + threadIdx.x, found = SCHEDULE_NONE;
        block += BLOCK_KEYS;
        if (key >= key_begin && key < key_end) {
            const uint4 *segments = (const uint4 *)(p.schedule + header.segments);
            uint4 in = __ldg(segments + segment);
            while (key >= in.w)
                in = __ldg(segments + ++segment);
            uint32_t at = in.y + key - in.z;
            uint32_t page = __ldg(p.schedule + header.page_ids + in.x + (at >> p.page_shift));
            found = (((page * 2 * p.kv_heads + kv_head) << p.page_shift)) + (at & ((1u << p.page_shift) - 1));
        }
        return found;
    }
};

template <int D>
__device__ __forceinline__ void load_block(const kernel_params &p, shared_memory<D> &shared, uint32_t stage,
                                           const uint32_t *key_rows) {
    constexpr int CHUNKS = D / 8, STEP = THREADS / CHUNKS;
    uint32_t chunk = threadIdx.x % CHUNKS, first = threadIdx.x / CHUNKS;
    uint32_t to = shared_address(shared.stage[stage][0]) + first * D * 2 + ((chunk ^ (first & 7)) << 4);
    const __nv_bfloat16 *from = p.kv + chunk * 8;
    size_t values = ((size_t)p.kv_heads << p.page_shift) * D;
#pragma unroll
    for (int i = 0; i < BLOCK_KEYS / STEP; i++) {
        uint32_t row = key_rows[first + i * STEP];
        uint32_t key = to + i * STEP * D * 2, value = key + BLOCK_KEYS * D * 2;
        if (row != SCHEDULE_NONE) {
            copy_async(key, from + (size_t)row * D);
            copy_async(value, from + (size_t)row * D + values);
        } else { /* not by a copy of no bytes: they would all ask for the same address, which queues up */
            store_zeros(key);
            store_zeros(value);
        }
    }
}

/* The blocks of all items of this CTA in order, STAGES ahead of the products. */
template <int D> struct pipeline {
    static constexpr int STAGES = shared_memory<D>::STAGES;
    key_finder finder;
    uint32_t found;        /* of the block behind the one whose keys are in shared memory */
    uint32_t block, stage; /* the products' */

    __device__ __forceinline__ void find(const kernel_params &p, shared_memory<D> &shared, uint32_t of) {
        if (threadIdx.x < BLOCK_KEYS) {
            shared.key_rows[of & 1][threadIdx.x] = found;
            found = finder.next(p);
        }
    }

    __device__ __forceinline__ void start(const kernel_params &p, shared_memory<D> &shared) {
        block = stage = 0;
        if (threadIdx.x < BLOCK_KEYS)
            found = finder.next(p);
        find(p, shared, 0);
        for (int s = 0; s < STAGES; s++) {
            __syncthreads();
            load_block<D>(p, shared, s, shared.key_rows[s & 1]);
            copy_commit();
            find(p, shared, s + 1);
        }
    }

    __device__ __forceinline__ void await(void) {
        copy_wait<STAGES - 1>();
        __syncthreads();
    }

    /* The block is read: its place is filled again. */
    __device__ __forceinline__ void advance(const kernel_params &p, shared_memory<D> &shared) {
        __syncthreads();
        load_block<D>(p, shared, stage, shared.key_rows[(block + STAGES) & 1]);
        copy_commit();
        find(p, shared, block + STAGES + 1);
        block++;
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }
};

/* ------------------------------------------------------------------------------ queries ------ */

/* Rows of the tile. */
template <int D>
__device__ __noinline__ void load_rows(const kernel_params &p, shared_memory<D> &shared,
                                       const schedule_header &header) {
    const schedule_item &item = shared.item;
    for (uint32_t r = threadIdx.x; r < item.row_count; r += THREADS) {
        uint4 loaded = __ldg((const uint4 *)(p.schedule + header.rows) + item.row_begin + r);
        shared.rows[r] = schedule_row{loaded.x, (int32_t)loaded.y, (int32_t)loaded.z, loaded.w};
    }
}

/* Rotated, scaled to base 2, in bf16; rows beyond the tile's are zeros. */
template <int D> __device__ __noinline__ void load_queries(const kernel_params &p, shared_memory<D> &shared) {
    const schedule_item &item = shared.item;
    const uint32_t tile_rows = 16u << item.shape;
    constexpr uint32_t HALF = D / 2, QUADS = HALF / 4;
    size_t width = (size_t)(p.heads + 2 * p.kv_heads) * D;
    uint2 *query = (uint2 *)shared.query; /* four values each */
    for (uint32_t unit = threadIdx.x; unit < item.row_count * QUADS; unit += THREADS) {
        uint32_t token = unit / QUADS, i = unit % QUADS * 4;
        schedule_row row = shared.rows[token];
        if (i == 0)
            for (uint32_t g = 0; g < p.group; g++)
                shared.seen_end[token * p.group + g] = row.seen_end;
        const float *from = p.qkv + row.row * width + (size_t)item.kv_head * p.group * D + i;
        float cosine[4], sine[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            double turn = row.rotation * __ldg(p.turns + i + j);
            sincospif((float)(turn - 2.0 * rint(0.5 * turn)), &sine[j], &cosine[j]);
            cosine[j] *= p.rope_factor * p.scale;
            sine[j] *= p.rope_factor * p.scale;
        }
#pragma unroll 4
        for (uint32_t g = 0; g < p.group; g++, from += D) {
            float4 a = __ldg((const float4 *)from), b = __ldg((const float4 *)(from + HALF));
            uint32_t r = token * p.group + g, at = r * (D / 4) + (i / 4 & 1);
            query[at + ((i / 8) ^ (r & 7)) * 2] =
                make_uint2(pack_bf16(a.x * cosine[0] - b.x * sine[0], a.y * cosine[1] - b.y * sine[1]),
                           pack_bf16(a.z * cosine[2] - b.z * sine[2], a.w * cosine[3] - b.w * sine[3]));
            query[at + (((HALF + i) / 8) ^ (r & 7)) * 2] =
                make_uint2(pack_bf16(b.x * cosine[0] + a.x * sine[0], b.y * cosine[1] + a.y * sine[1]),
                           pack_bf16(b.z * cosine[2] + a.z * sine[2], b.w * cosine[3] + a.w * sine[3]));
        }
    }
    for (uint32_t at = item.row_count * p.group * (D / 4) + threadIdx.x; at < tile_rows * (D / 4);
         at += THREADS)
        query[at] = make_uint2(0, 0);
}

/* ------------------------------------------------------------------------------- output ------ */

__device__ __forceinline__ size_t out_index(const kernel_params &p, uint32_t row, uint32_t head,
                                            int head_dim) {
    return ((size_t)row * p.heads + head) * head_dim;
}

__device__ __forceinline__ float inverse(float total) {
    return total > 0.0f ? 1.0f / total : 0.0f;
}

/* Four neighbouring values. */
__device__ __forceinline__ void write_four(const kernel_params &p, size_t at, float4 values) {
    if (p.out != nullptr)
        *(float4 *)(p.out + at) = values;
    if (p.out_bf16 != nullptr)
        *(uint2 *)(p.out_bf16 + at) =
            make_uint2(pack_bf16(values.x, values.y), pack_bf16(values.z, values.w));
}

__device__ __forceinline__ void write_two(const kernel_params &p, size_t at, float x, float y) {
    if (p.out != nullptr)
        *(float2 *)(p.out + at) = make_float2(x, y);
    if (p.out_bf16 != nullptr)
        *(uint32_t *)(p.out_bf16 + at) = pack_bf16(x, y);
}

/* What the warps left in shared.fold and warp_sums: 16 rows of each of warps_rows, of warps_keys states each,
 * to out or to the workspace. Row i of warp w is packed row w · stride + first + i. */
template <int D>
__device__ __forceinline__ void write_states_inline(const kernel_params &p, shared_memory<D> &shared,
                                                    uint32_t warps_rows, uint32_t warps_keys, uint32_t stride,
                                                    uint32_t first) {
    const schedule_item &item = shared.item;
    constexpr uint32_t QUADS = D / 4;
    const uint32_t packed = item.row_count * p.group;
#pragma unroll 1
    for (uint32_t unit = threadIdx.x; unit < warps_rows * 16 * QUADS; unit += THREADS) {
        uint32_t warp = unit / (16 * QUADS), within = unit / QUADS % 16, column = unit % QUADS * 4;
        uint32_t r = warp * stride + first + within;
        if (r >= packed)
            continue;
        float most = -INFINITY, total = 0.0f;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (uint32_t w = warp; w < warps_rows * warps_keys; w += warps_rows)
            most = fmaxf(most, shared.warp_sums[w][within].x);
        float base = most == -INFINITY ? 0.0f : most;
        for (uint32_t w = warp; w < warps_rows * warps_keys; w += warps_rows) {
            float2 sums = shared.warp_sums[w][within];
            float weight = exp2_fast(sums.x - base);
            float4 state = *(const float4 *)(shared.fold[w] + within * D + (column ^ ((within & 7) << 3)));
            total += weight * sums.y;
            sum.x += weight * state.x;
            sum.y += weight * state.y;
            sum.z += weight * state.z;
            sum.w += weight * state.w;
        }
        if (item.partial != SCHEDULE_NONE) {
            __stcg((float4 *)(partial_out(p) + (size_t)(item.partial + r) * D + column), sum);
            if (column == 0)
                __stcg(partial_sums(p) + item.partial + r, make_float2(most, total));
        } else {
            float factor = inverse(total);
            write_four(p,
                       out_index(p, shared.rows[r / p.group].row, item.kv_head * p.group + r % p.group, D) +
                           column,
                       make_float4(sum.x * factor, sum.y * factor, sum.z * factor, sum.w * factor));
        }
    }
}

template <int D>
__device__ __noinline__ void write_states(const kernel_params &p, shared_memory<D> &shared,
                                          uint32_t warps_rows, uint32_t warps_keys, uint32_t stride,
                                          uint32_t first) {
    write_states_inline<D>(p, shared, warps_rows, warps_keys, stride, first);
}

/* The item's partials are written: counts its arrival at each row. Nobody waits for that. */
template <int D> __device__ __forceinline__ void arrive(const kernel_params &p, shared_memory<D> &shared) {
    const schedule_item &item = shared.item;
    for (uint32_t r = threadIdx.x; r < item.row_count; r += THREADS)
        arrive_at(p.arrived + shared.rows[r].unit + item.kv_head);
}

/* -------------------------------------------------------------------------------- merging ---- */

/* A row's partial states folded: a warp has D / 32 neighbouring values a lane. */
template <int D> struct merged_row {
    static constexpr int VALUES = D / 32;
    float largest, total, sum[VALUES];

    __device__ __forceinline__ void clear(void) {
        largest = -INFINITY;
        total = 0.0f;
#pragma unroll
        for (int i = 0; i < VALUES; i++)
            sum[i] = 0.0f;
    }

    __device__ __forceinline__ void grow(float to) {
        float factor = exp2_fast(largest - to); /* to is finite */
        largest = to;
        total *= factor;
#pragma unroll
        for (int i = 0; i < VALUES; i++)
            sum[i] *= factor;
    }

    /* Partials list[0 … count), at most 32, which this lane's is `mine` of; they are loaded 8 at a time. */
    __device__ __forceinline__ void fold(const kernel_params &p, uint32_t mine, uint32_t count) {
        constexpr uint32_t AT_ONCE = 8;
        const uint32_t lane = threadIdx.x % 32;
        const float *values = partial_out(p) + lane * VALUES;
        float2 sums = make_float2(-INFINITY, 0.0f);
        if (lane < count)
            sums = __ldcg(partial_sums(p) + mine);
        float weight = 0.0f;
#pragma unroll 1
        for (uint32_t first = 0; first < count; first += AT_ONCE) {
            float loaded[AT_ONCE][VALUES];
#pragma unroll
            for (uint32_t u = 0; u < AT_ONCE; u++) {
                uint32_t partial = __shfl_sync(~0u, mine, (first + u) % 32);
                if (first + u < count)
                    load_values(loaded[u], values + (size_t)partial * D);
            }
            if (first == 0) { /* only now: the loads above are under way */
                float most = sums.x;
#pragma unroll
                for (int distance = 16; distance > 0; distance /= 2)
                    most = fmaxf(most, __shfl_xor_sync(~0u, most, distance));
                if (most > largest)
                    grow(most);
                weight = largest == -INFINITY ? 0.0f : exp2_fast(sums.x - largest);
                float added = weight * sums.y;
#pragma unroll
                for (int distance = 16; distance > 0; distance /= 2)
                    added += __shfl_xor_sync(~0u, added, distance);
                total += added;
            }
#pragma unroll
            for (uint32_t u = 0; u < AT_ONCE; u++) {
                float by = __shfl_sync(~0u, weight, (first + u) % 32);
                if (first + u < count) {
#pragma unroll
                    for (int i = 0; i < VALUES; i++)
                        sum[i] += by * loaded[u][i];
                }
            }
        }
    }

    static __device__ __forceinline__ void load_values(float (&to)[VALUES], const float *from) {
        if constexpr (VALUES == 4)
            *(float4 *)to = __ldcg((const float4 *)from);
        else
            *(float2 *)to = __ldcg((const float2 *)from);
    }
};

/* Every row with several partials, when they have arrived: `ways` warps of a CTA have one, each a part of its
 * list. Rows are dealt out evenly, whoever computed them. All CTAs are on the device, so what is waited for
 * comes. The last to have read a unit's counter leaves it zero. */
template <int D> __device__ __noinline__ void merge_rows(const kernel_params &p, shared_memory<D> &shared) {
    constexpr int VALUES = merged_row<D>::VALUES;
    const schedule_header &header = *(const schedule_header *)p.schedule;
    const uint32_t rows = header.unit_count * p.group, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t ways = rows <= gridDim.x ? WARPS : 1, part = ways == 1 ? 0 : warp;
    const uint32_t step = gridDim.x * (WARPS / ways);
    for (uint32_t at = blockIdx.x + (ways == 1 ? warp * gridDim.x : 0); at < rows; at += step) {
        const uint32_t unit = at / p.group, head_of_group = at % p.group;
        const uint32_t list = __ldg(p.schedule + header.unit_begin + unit),
                       count = __ldg(p.schedule + header.unit_begin + unit + 1) - list;
        const uint32_t begin = count * part / ways, end = count * (part + 1) / ways;
        const uint32_t *partials = p.schedule + header.unit_partials + list;
        uint32_t mine = begin + lane < end ? __ldg(partials + begin + lane) + head_of_group : 0;
        const uint2 target = __ldg((const uint2 *)(p.schedule + header.unit_rows) + unit);
        if (lane == 0)
            await_arrivals(p.arrived + unit, count);
        __syncwarp();
        merged_row<D> row;
        row.clear();
        for (uint32_t first = begin; first < end; first += 32) {
            if (first > begin)
                mine = first + lane < end ? __ldg(partials + first + lane) + head_of_group : 0;
            row.fold(p, mine, min(end - first, 32u));
        }
        if (lane == 0)
            leave(p.arrived + unit, count + p.group * ways - 1);
        if (ways > 1) {
            if (lane == 0)
                shared.warp_sums[warp][0] = make_float2(row.largest, row.total);
#pragma unroll
            for (int i = 0; i < VALUES; i++)
                shared.fold[warp][lane * VALUES + i] = row.sum[i];
            __syncthreads();
            if (warp == 0) {
                row.clear();
                for (uint32_t w = 0; w < ways; w++) {
                    float2 sums = shared.warp_sums[w][0];
                    if (sums.x == -INFINITY)
                        continue;
                    if (sums.x > row.largest)
                        row.grow(sums.x);
                    float weight = exp2_fast(sums.x - row.largest);
                    row.total += weight * sums.y;
#pragma unroll
                    for (int i = 0; i < VALUES; i++)
                        row.sum[i] += weight * shared.fold[w][lane * VALUES + i];
                }
            }
            __syncthreads();
            if (warp > 0)
                continue;
        }
        float factor = inverse(row.total);
        size_t to = out_index(p, target.x, target.y * p.group + head_of_group, D) + lane * VALUES;
        if constexpr (VALUES == 4)
            write_four(p, to,
                       make_float4(row.sum[0] * factor, row.sum[1] * factor, row.sum[2] * factor,
                                   row.sum[3] * factor));
        else
            write_two(p, to, row.sum[0] * factor, row.sum[1] * factor);
    }
}

/* -------------------------------------------------------------------------------- tiles ------ */

/* A warp's part of a tile: MT × 16 rows, and of each block BLOCK_KEYS / WK keys. WR × WK = 4 warps. */
template <int D, int MT, int WR, int WK>
__device__ __forceinline__ void run_item(const kernel_params &p, shared_memory<D> &shared, pipeline<D> &pipe,
                                         [[maybe_unused]] uint32_t item) {
    constexpr int KEYS = BLOCK_KEYS / WK,
                  STEP = MT == 1 ? KEYS : KEYS / WIDE_STEPS; /* of a softmax: as registers allow */
    constexpr int NT = STEP / 8, DT = D / 8, KSTEPS = D / 16;
    const uint32_t key_begin = shared.item.key_begin, key_end = shared.item.key_end;
    const uint32_t full_begin = max(shared.item.full_begin, key_begin),
                   full_end = min(shared.item.full_end, key_end);
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t row_first = warp % WR * 16 * MT;

    uint32_t query_fragments[MT == 1 ? KSTEPS : 1][4];
    const uint32_t query_row = row_first + (lane & 15),
                   query_address = shared_address(shared.query) + query_row * D * 2 +
                                   (((lane >> 4) ^ (query_row & 7)) << 4);
    if constexpr (MT == 1) {
#pragma unroll
        for (int k = 0; k < KSTEPS; k++)
            load_matrices(query_fragments[k], query_address ^ (k << 5));
    }

    float out[MT][DT][4], largest[MT][2], total[MT][2];
#pragma unroll
    for (int m = 0; m < MT; m++) {
        largest[m][0] = largest[m][1] = -INFINITY;
        total[m][0] = total[m][1] = 0.0f;
#pragma unroll
        for (int n = 0; n < DT; n++)
            out[m][n][0] = out[m][n][1] = out[m][n][2] = out[m][n][3] = 0.0f;
    }

#pragma unroll 1
    for (uint32_t block = key_begin / BLOCK_KEYS * BLOCK_KEYS; block < key_end; block += BLOCK_KEYS) {
        pipe.await();
#ifdef ATTENTION_STAMPS
        if (block == key_begin / BLOCK_KEYS * BLOCK_KEYS)
            STAMP(p, item, 3);
#endif
        const uint32_t keys = shared_address(shared.stage[pipe.stage][0]), values = keys + BLOCK_KEYS * D * 2;
        auto attend_keys = [&](const int step) __attribute__((always_inline)) {
            const uint32_t key_first = warp / WR * KEYS + step;
            float scores[MT][NT][4];
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int n = 0; n < NT; n++)
                    scores[m][n][0] = scores[m][n][1] = scores[m][n][2] = scores[m][n][3] = 0.0f;
            {
                const uint32_t key = key_first + (lane & 7) + ((lane >> 4) << 3);
                const uint32_t address = keys + key * D * 2 + (((lane >> 3 & 1) ^ (key & 7)) << 4);
                uint32_t query_now = query_address, a[2][MT][4], b[2][4];
                asm volatile("" : "+r"(query_now)); /* or its offsets are kept, and spilled */
                if constexpr (MT > 1) {
#pragma unroll
                    for (int m = 0; m < MT; m++)
                        load_matrices(a[0][m], query_now + m * 16 * D * 2);
                }
                load_matrices(b[0], address);
#pragma unroll
                for (int k = 0; k < KSTEPS; k++)
#pragma unroll
                    for (int n = 0; n < NT; n += 2) { /* matrices are loaded a step ahead */
                        const int i = k * (NT / 2) + n / 2, next_k = (i + 1) / (NT / 2);
                        if (i + 1 < KSTEPS * NT / 2)
                            load_matrices(b[(i + 1) & 1],
                                          (address ^ (next_k << 5)) + (i + 1) % (NT / 2) * 16 * D * 2);
                        if constexpr (MT > 1) {
                            if (n == 0 && k + 1 < KSTEPS) {
#pragma unroll
                                for (int m = 0; m < MT; m++)
                                    load_matrices(a[(k + 1) & 1][m],
                                                  (query_now ^ ((k + 1) << 5)) + m * 16 * D * 2);
                            }
                        }
#pragma unroll
                        for (int m = 0; m < MT; m++) {
                            if constexpr (MT > 1) {
                                multiply_add(scores[m][n], a[k & 1][m], b[i & 1][0], b[i & 1][1]);
                                multiply_add(scores[m][n + 1], a[k & 1][m], b[i & 1][2], b[i & 1][3]);
                            } else {
                                multiply_add(scores[m][n], query_fragments[k], b[i & 1][0], b[i & 1][1]);
                                multiply_add(scores[m][n + 1], query_fragments[k], b[i & 1][2], b[i & 1][3]);
                            }
                        }
                    }
            }

            if (block < full_begin || block + BLOCK_KEYS > full_end) {
#pragma unroll
                for (int m = 0; m < MT; m++)
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        uint32_t r = min(row_first + m * 16 + half * 8 + lane / 4,
                                         shared.item.row_count * p.group - 1);
                        int32_t seen_end = shared.seen_end[r];
                        int32_t seen_begin = p.window == 0 ? 0 : seen_end - (int32_t)p.window;
                        int32_t first = (int32_t)(block + key_first + lane % 4 * 2);
                        seen_begin = max(seen_begin, (int32_t)key_begin) - first;
                        seen_end = min(seen_end, (int32_t)key_end) - first;
#pragma unroll
                        for (int n = 0; n < NT; n++)
#pragma unroll
                            for (int j = 0; j < 2; j++)
                                if (n * 8 + j < seen_begin || n * 8 + j >= seen_end)
                                    scores[m][n][2 * half + j] = -INFINITY;
                    }
            }

            float factor[MT][2];
            bool grown = false;
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float most = largest[m][half];
#pragma unroll
                    for (int n = 0; n < NT; n++)
                        most = fmaxf(most, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
                    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
                    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
                    float base = most == -INFINITY ? 0.0f : most, sum = 0.0f;
                    factor[m][half] = exp2_fast(largest[m][half] - base);
                    grown |= largest[m][half] != most;
                    largest[m][half] = most;
#pragma unroll
                    for (int n = 0; n < NT; n++)
#pragma unroll
                        for (int j = 0; j < 2; j++) {
                            float weight = exp2_fast(scores[m][n][2 * half + j] - base);
                            scores[m][n][2 * half + j] = weight;
                            sum += weight;
                        }
                    total[m][half] = total[m][half] * factor[m][half] + sum;
                }
            if (__any_sync(~0u, grown)) {
#pragma unroll
                for (int m = 0; m < MT; m++)
#pragma unroll
                    for (int n = 0; n < DT; n++)
#pragma unroll
                        for (int j = 0; j < 4; j++)
                            out[m][n][j] *= factor[m][j / 2];
            }

            {
                const uint32_t key = key_first + (lane & 15),
                               address = values + key * D * 2 + (((lane >> 4) ^ (key & 7)) << 4);
                uint32_t a[MT][4], b[2][4];
                load_matrices_transposed(b[0], address);
#pragma unroll
                for (int i = 0; i < NT * DT / 4; i++) {
                    const int n = i / (DT / 2) * 2, d = i % (DT / 2) * 2, next_d = (i + 1) % (DT / 2) * 2;
                    if (i + 1 < NT * DT / 4)
                        load_matrices_transposed(b[(i + 1) & 1],
                                                 (address ^ (next_d << 4)) + (i + 1) / (DT / 2) * 16 * D * 2);
#pragma unroll
                    for (int m = 0; m < MT; m++) {
                        if (d == 0) {
                            a[m][0] = pack_bf16(scores[m][n][0], scores[m][n][1]);
                            a[m][1] = pack_bf16(scores[m][n][2], scores[m][n][3]);
                            a[m][2] = pack_bf16(scores[m][n + 1][0], scores[m][n + 1][1]);
                            a[m][3] = pack_bf16(scores[m][n + 1][2], scores[m][n + 1][3]);
                        }
                        multiply_add(out[m][d], a[m], b[i & 1][0], b[i & 1][1]);
                        multiply_add(out[m][d + 1], a[m], b[i & 1][2], b[i & 1][3]);
                    }
                }
            }
        };
        if constexpr (MT == 1) {
            attend_keys(0);
        } else {
#pragma unroll 1 /* unrolled, it spills */
            for (int step = 0; step < KEYS; step += STEP)
                attend_keys(step);
        }
        pipe.advance(p, shared);
    }
    STAMP(p, item, 4);

#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            total[m][half] += __shfl_xor_sync(~0u, total[m][half], 1);
            total[m][half] += __shfl_xor_sync(~0u, total[m][half], 2);
        }

#pragma unroll
    for (int m = 0; m < MT; m++) {
        if (m > 0)
            __syncthreads();
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t r = half * 8 + lane / 4;
            if (lane % 4 == 0)
                shared.warp_sums[warp][r] = make_float2(largest[m][half], total[m][half]);
#pragma unroll
            for (int n = 0; n < DT; n++)
                *(float2 *)(shared.fold[warp] + r * D + ((n * 8 + lane % 4 * 2) ^ ((r & 7) << 3))) =
                    make_float2(out[m][n][2 * half], out[m][n][2 * half + 1]);
        }
        __syncthreads();
        if constexpr (MT == 1)
            write_states<D>(p, shared, WR, WK, 16, 0);
        else /* a call would spill the other rows */
            write_states_inline<D>(p, shared, WR, WK, 16 * MT, 16 * m);
    }
}

template <int D>
__global__ void __launch_bounds__(THREADS, 2) attend(const __grid_constant__ kernel_params p) {
    extern __shared__ __align__(1024) unsigned char memory[];
    shared_memory<D> &shared = *(shared_memory<D> *)memory;
    const schedule_header &header = *(const schedule_header *)p.schedule;
    for (uint32_t z = blockIdx.x; z < header.zero_row_count; z += gridDim.x) {
        uint32_t row = __ldg(p.schedule + header.zero_rows + z);
        for (uint32_t i = threadIdx.x; i < p.heads * D / 4; i += THREADS)
            write_four(p, out_index(p, row, 0, D) + 4 * i, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
    }
    const schedule_item *items = (const schedule_item *)(p.schedule + header.items);
    const uint32_t begin = __ldg(p.schedule + header.work_begin + blockIdx.x);
    const uint32_t end = __ldg(p.schedule + header.work_begin + blockIdx.x + 1);
#ifdef ATTENTION_STAMPS
    if (threadIdx.x == 0) {
        p.stamps[(size_t)(header.item_count + blockIdx.x) * 8] = global_ns();
        STAMP(p, header.item_count + blockIdx.x, 1);
        uint32_t sm;
        asm volatile("mov.u32 %0, %smid;" : "=r"(sm));
        p.stamps[(size_t)(header.item_count + blockIdx.x) * 8 + 4] = sm;
    }
#endif
    pipeline<D> pipe;
    pipe.finder = key_finder{begin, end, 0, 0, 0, 0, 0};
    pipe.start(p, shared);
    for (uint32_t i = begin; i < end; i++) {
        STAMP(p, i, 0);
        if (threadIdx.x < sizeof(schedule_item) / 4)
            ((uint32_t *)&shared.item)[threadIdx.x] = __ldg((const uint32_t *)(items + i) + threadIdx.x);
        __syncthreads();
        load_rows<D>(p, shared, header);
        __syncthreads();
        STAMP(p, i, 1);
        load_queries<D>(p, shared);
        __syncthreads();
        STAMP(p, i, 2);
        const uint32_t shape = shared.item.shape;
        if (shape == SCHEDULE_ROWS_16)
            run_item<D, 1, 1, 4>(p, shared, pipe, i);
        else if (shape == SCHEDULE_ROWS_32)
            run_item<D, 1, 2, 2>(p, shared, pipe, i);
        else if (shape == SCHEDULE_ROWS_64)
            run_item<D, 1, 4, 1>(p, shared, pipe, i);
        else
            run_item<D, 2, 4, 1>(p, shared, pipe, i);
        STAMP(p, i, 5);
        __syncthreads();
        if (shared.item.partial != SCHEDULE_NONE)
            arrive<D>(p, shared);
        __syncthreads();
        STAMP(p, i, 6);
    }
    copy_wait<0>();
    STAMP(p, header.item_count + blockIdx.x, 5);
    merge_rows<D>(p, shared);
#ifdef ATTENTION_STAMPS
    if (threadIdx.x == 0) {
        STAMP(p, header.item_count + blockIdx.x, 3);
        p.stamps[(size_t)(header.item_count + blockIdx.x) * 8 + 2] = global_ns();
    }
#endif
}

template <int D> cudaError_t prepare(void) {
    cudaError_t failed = cudaFuncSetAttribute(attend<D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                              (int)sizeof(shared_memory<D>));
    if (failed != cudaSuccess)
        return failed;
    return cudaFuncSetAttribute(attend<D>, cudaFuncAttributePreferredSharedMemoryCarveout,
                                cudaSharedmemCarveoutMaxShared);
}

template <int D> cudaError_t resident(int *per_multiprocessor) {
    cudaError_t failed = prepare<D>();
    return failed != cudaSuccess ? failed
                                 : cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                                       per_multiprocessor, attend<D>, THREADS, sizeof(shared_memory<D>));
}

/* Cooperative: all CTAs are on the device at once, or it fails. */
template <int D> cudaError_t launch(const kernel_params &params, uint32_t workers, cudaStream_t stream) {
    cudaLaunchAttribute together = {};
    together.id = cudaLaunchAttributeCooperative;
    together.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(workers);
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = sizeof(shared_memory<D>);
    config.stream = stream;
    config.attrs = &together;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, attend<D>, params);
}

} // namespace

bool attention_mma_takes(const attention_shape *shape, uint32_t page_tokens) {
    return (shape->head_dim == 64 || shape->head_dim == 128) && page_tokens > 0 &&
           (page_tokens & (page_tokens - 1)) == 0 && shape->kv_heads > 0 &&
           shape->heads / shape->kv_heads <= TILE_ROWS_MAX;
}

uint32_t attention_mma_workers(uint32_t head_dim, uint32_t multiprocessors) {
    int count = 0;
    cudaError_t failed = head_dim == 64 ? resident<64>(&count) : resident<128>(&count);
    if (failed != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return (uint32_t)count * multiprocessors;
}

cudaError_t attention_mma_run(const attention_mma_call *call) {
    kernel_params params = {};
#ifdef ATTENTION_STAMPS
    params.stamps = attention_mma_stamps;
#endif
    params.schedule = call->schedule;
    params.qkv = call->qkv;
    params.out = call->out;
    params.out_bf16 = (__nv_bfloat16 *)call->out_bf16;
    params.turns = call->turns;
    params.kv = (const __nv_bfloat16 *)call->kv;
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
    return call->shape->head_dim == 64 ? launch<64>(params, call->workers, call->stream)
                                       : launch<128>(params, call->workers, call->stream);
}
