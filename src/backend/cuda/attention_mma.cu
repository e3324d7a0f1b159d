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
 * one item each is written directly; else its state goes to the workspace, and who arrives last at a row
 * folds the row's partials in list order. Every row is rounded once, at the end.
 *
 * Bytes: each key once per tile of rows (2 · head_dim · 2), Q and out once per item. Operations: 4 · head_dim
 * per row and key. Reached: docs/performance.md.
 */
#include "attention_mma.h"

#include "attention_kernel.cuh"
#include "attention_mma.cuh"

#ifdef ATTENTION_STAMPS
unsigned long long *attention_mma_stamps;
#endif

namespace {

constexpr int THREADS = 128, BLOCK_KEYS = SCHEDULE_BLOCK_KEYS, TILE_ROWS_MAX = 128;
constexpr uint32_t WARPS = THREADS / 32;
#ifdef ATTENTION_STAMPS
constexpr uint32_t STAMP_THREAD = 0;
#endif
#ifndef WIDE_STEPS
#define WIDE_STEPS 2
#endif

struct kernel_params : schedule_params {
    const __nv_bfloat16 *kv;
};

__device__ __forceinline__ float *partial_out(const kernel_params &p) {
    return p.workspace + __ldg(&((const schedule_header *)p.schedule)->partial_out);
}

constexpr uint32_t ITEMS_HELD = 16, ITEMS_AHEAD = 14; /* as many as the loader may be ahead, and more */

constexpr uint32_t MERGE_LANES = 8, MERGES_AT_ONCE = THREADS / MERGE_LANES;

struct merge_unit {
    uint32_t begin, end; /* in unit_partials */
    uint32_t row, kv_head;
};

template <int D> struct shared_memory {
    static constexpr int STAGES = 256 / D;          /* even */
    __nv_bfloat16 stage[STAGES][2][BLOCK_KEYS * D]; /* K, V; 16-byte chunks swizzled by the key's low bits */
    union {
        __nv_bfloat16 query[TILE_ROWS_MAX * D]; /* swizzled likewise */
        float fold[WARPS][16 * D];              /* 16 rows of each warp, on their way out */
    };
    uint64_t turns[D / 2];                /* of one position, as a fraction of 2^64 */
    float next_query[16 * D];             /* of the next item, if it has one token: as in qkv */
    schedule_item items[ITEMS_HELD];      /* of this CTA; from the one at hand on */
    schedule_row rows[2][TILE_ROWS_MAX];  /* of the item at hand and of the next */
    uint32_t key_rows[2][2 * BLOCK_KEYS]; /* where the keys of the next pairs of blocks lie, in rows of D;
                                           * NONE: nowhere */
    float2 warp_sums[WARPS][16];
    merge_unit merges[MERGES_AT_ONCE]; /* of the rows that this CTA merges first, */
    uint32_t merge_outs[MERGES_AT_ONCE];
    uint32_t merge_partials[THREADS]; /* and of each lane's first partial there */
};

/* ------------------------------------------------------------------------------ loading ------ */

/* Where the keys of the next two blocks lie: one key for each thread. */
struct key_finder {
    uint32_t opened, count; /* items of this CTA */
    uint32_t block, key_begin, key_end, kv_head, segment;
    schedule_segment in;

    template <int D>
    __device__ __forceinline__ uint32_t next(const kernel_params &p, const shared_memory<D> &shared) {
        const schedule_header &header = *(const schedule_header *)p.schedule;
        uint32_t found = SCHEDULE_NONE;
#pragma unroll
        for (uint32_t half = 0; half < 2; half++) {
            if (block >= key_end) {
                if (opened == count)
                    break;
                const schedule_item &item = shared.items[opened++ % ITEMS_HELD];
                key_begin = item.key_begin;
                key_end = item.key_end;
                kv_head = item.kv_head;
                segment = item.segment_begin;
                in = item.first;
                block = key_begin / BLOCK_KEYS * BLOCK_KEYS;
            }
            uint32_t key = block + threadIdx.x % BLOCK_KEYS;
            block += BLOCK_KEYS;
            if (threadIdx.x / BLOCK_KEYS == half && key >= key_begin && key < key_end) {
                while (key >= in.key_end) {
                    uint4 loaded = __ldg((const uint4 *)(p.schedule + header.segments) + ++segment);
                    in = schedule_segment{loaded.x, loaded.y, loaded.z, loaded.w};
                }
                uint32_t at = in.offset + key - in.key_begin;
                uint32_t page = __ldg(p.schedule + header.page_ids + in.page_begin + (at >> p.page_shift));
                found =
                    ((page * 2 * p.kv_heads + kv_head) << p.page_shift) + (at & ((1u << p.page_shift) - 1));
            }
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
    uint32_t found; /* of the pair of blocks behind those whose keys are in shared memory */
    uint32_t block; /* the products' */

    __device__ __forceinline__ void find(const kernel_params &p, shared_memory<D> &shared, uint32_t pair) {
        shared.key_rows[pair & 1][threadIdx.x] = found;
        found = finder.next<D>(p, shared);
    }

    __device__ __forceinline__ void load(const kernel_params &p, shared_memory<D> &shared, uint32_t of) {
        load_block<D>(p, shared, of % STAGES, shared.key_rows[of / 2 & 1] + of % 2 * BLOCK_KEYS);
        copy_commit();
    }

    __device__ __forceinline__ void start(const kernel_params &p, shared_memory<D> &shared, uint32_t items) {
        block = 0;
        finder = key_finder{};
        finder.count = items;
        found = finder.next<D>(p, shared);
#pragma unroll
        for (uint32_t pair = 0; pair < STAGES / 2; pair++) {
            find(p, shared, pair);
            __syncthreads();
            load(p, shared, 2 * pair);
            load(p, shared, 2 * pair + 1);
        }
    }

    __device__ __forceinline__ void await(void) {
        copy_wait<STAGES - 1>();
        __syncthreads();
    }

    /* The block is read: its place is filled again. */
    __device__ __forceinline__ void advance(const kernel_params &p, shared_memory<D> &shared) {
        if (block % 2 == 0)
            shared.key_rows[(block + STAGES) / 2 & 1][threadIdx.x] = found;
        __syncthreads();
        load(p, shared, block + STAGES);
        if (block % 2 == 0)
            found = finder.next<D>(p, shared);
        block++;
    }
};

/* If the item has one token. */
template <int D>
__device__ __forceinline__ void fetch_queries(const kernel_params &p, shared_memory<D> &shared,
                                              const schedule_item &item) {
    if (item.row_count > 1 || p.group > 16)
        return;
    const float *from =
        p.qkv + (size_t)item.first_row * (p.heads + 2 * p.kv_heads) * D + (size_t)item.kv_head * p.group * D;
    for (uint32_t i = threadIdx.x * 4; i < p.group * D; i += THREADS * 4)
        copy_async(shared_address(shared.next_query + i), from + i);
}

/* Lanes fold a row in eights, and eights have a row together where there are enough for all rows. */
struct merge_share {
    uint32_t rows, ways, at_once, part; /* of a row: this eight's */

    __device__ __forceinline__ merge_share(const kernel_params &p) {
        const schedule_header &header = *(const schedule_header *)p.schedule;
        rows = header.unit_count * p.group;
        ways = 1;
        while (ways < MERGES_AT_ONCE && rows * ways * 2 <= gridDim.x * MERGES_AT_ONCE)
            ways *= 2;
        at_once = MERGES_AT_ONCE / ways;
        part = threadIdx.x / MERGE_LANES % ways;
    }

    __device__ __forceinline__ uint32_t first(uint32_t eight) const {
        return blockIdx.x * at_once + eight / ways;
    }

    /* Of a row's `count` partials those of this eight are [begin, end). */
    __device__ __forceinline__ uint32_t begin(uint32_t count) const {
        return count * part / ways;
    }
    __device__ __forceinline__ uint32_t end(uint32_t count) const {
        return count * (part + 1) / ways;
    }
};

/* What this CTA merges first. */
template <int D>
__device__ __forceinline__ void fetch_merges(const kernel_params &p, shared_memory<D> &shared) {
    const schedule_header &header = *(const schedule_header *)p.schedule;
    const merge_share share(p);
    const uint32_t at = share.first(threadIdx.x), unit = at / p.group;
    if (threadIdx.x >= MERGES_AT_ONCE || at >= share.rows)
        return;
    uint32_t to = shared_address(&shared.merges[threadIdx.x]);
    const uint32_t *begin = p.schedule + header.unit_begin + unit;
    copy_async_small<4>(to, begin);
    copy_async_small<4>(to + 4, begin + 1);
    copy_async_small<8>(to + 8, p.schedule + header.unit_rows + 2 * unit);
}

template <int D>
__device__ __forceinline__ void fetch_merge_partials(const kernel_params &p, shared_memory<D> &shared) {
    const schedule_header &header = *(const schedule_header *)p.schedule;
    const merge_share share(p);
    const uint32_t eight = threadIdx.x / MERGE_LANES, lane = threadIdx.x % MERGE_LANES;
    if (share.first(eight) >= share.rows)
        return;
    const merge_unit unit = shared.merges[eight];
    const uint32_t mine = share.begin(unit.end - unit.begin) + lane;
    if (mine < share.end(unit.end - unit.begin))
        copy_async_small<4>(shared_address(&shared.merge_partials[threadIdx.x]),
                            p.schedule + header.unit_partials + unit.begin + mine);
}

/* The item behind `item`, while that one's blocks are read: which it is comes with the loader, its rows and,
 * if it is one token, that token's queries. They belong to the next block that is loaded. */
template <int D>
__device__ __forceinline__ void fetch_next(const kernel_params &p, shared_memory<D> &shared, uint32_t first,
                                           uint32_t item, uint32_t count) {
    const schedule_header &header = *(const schedule_header *)p.schedule;
    if (item + ITEMS_AHEAD >= ITEMS_HELD && item + ITEMS_AHEAD < count &&
        threadIdx.x < sizeof(schedule_item) / 16)
        copy_async(shared_address(&shared.items[(item + ITEMS_AHEAD) % ITEMS_HELD]) + threadIdx.x * 16,
                   (const uint4 *)(p.schedule + header.items) +
                       (first + item + ITEMS_AHEAD) * (sizeof(schedule_item) / 16) + threadIdx.x);
    if (item + 1 >= count) {
        fetch_merge_partials<D>(p, shared);
        return;
    }
    const schedule_item &next = shared.items[(item + 1) % ITEMS_HELD];
    if (threadIdx.x < next.row_count)
        copy_async(shared_address(&shared.rows[(item + 1) & 1][threadIdx.x]),
                   (const uint4 *)(p.schedule + header.rows) + next.row_begin + threadIdx.x);
    fetch_queries<D>(p, shared, next);
}

/* ------------------------------------------------------------------------------ queries ------ */

/* Rotated, scaled to base 2, in bf16; rows beyond the tile's are zeros. Reduced as a
 * fixed fraction of a turn, an angle's cosine and sine are exact to 2^-21 from the fast functions. */
template <int D, bool FETCHED>
__device__ __forceinline__ void rotate_queries(const kernel_params &p, shared_memory<D> &shared,
                                               const schedule_item &item, const schedule_row *rows) {
    constexpr uint32_t HALF = D / 2, QUADS = HALF / 4, AT_ONCE = FETCHED ? 1 : 8;
    const uint32_t tile_rows = 16u << item.shape, packed = item.row_count * p.group;
    const size_t width = (size_t)(p.heads + 2 * p.kv_heads) * D;
    const uint32_t i = threadIdx.x % QUADS * 4;
    const float *head = FETCHED ? shared.next_query : p.qkv + (size_t)item.kv_head * p.group * D;
    uint2 *query = (uint2 *)shared.query; /* four values each */
    const float scale = p.rope_factor * p.scale;
    uint64_t turns[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
        turns[j] = shared.turns[i + j];
#pragma unroll 1
    for (uint32_t first = threadIdx.x / QUADS; first < packed; first += AT_ONCE * (THREADS / QUADS)) {
        float4 a[AT_ONCE], b[AT_ONCE];
        int32_t rotation[AT_ONCE];
#pragma unroll
        for (uint32_t u = 0; u < AT_ONCE; u++) {
            uint32_t r = min(first + u * (THREADS / QUADS), packed - 1), token = r / p.group;
            const float *from =
                head + rows[token].row * (FETCHED ? 0 : width) + (r - token * p.group) * D + i;
            rotation[u] = rows[token].rotation;
            a[u] = FETCHED ? *(const float4 *)from : load_now(from);
            b[u] = FETCHED ? *(const float4 *)(from + HALF) : load_now(from + HALF);
        }
#pragma unroll
        for (uint32_t u = 0; u < AT_ONCE; u++) {
            uint32_t r = first + u * (THREADS / QUADS), at = r * (D / 4) + (i / 4 & 1);
            float cosine[4], sine[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int32_t turned = (int32_t)((uint64_t)((int64_t)rotation[u] * (int64_t)turns[j]) >> 32);
                float angle = (float)turned * (3.14159265f * 0x1p-31f);
                cosine[j] = __cosf(angle) * scale;
                sine[j] = __sinf(angle) * scale;
            }
            uint2 low = make_uint2(
                pack_bf16(a[u].x * cosine[0] - b[u].x * sine[0], a[u].y * cosine[1] - b[u].y * sine[1]),
                pack_bf16(a[u].z * cosine[2] - b[u].z * sine[2], a[u].w * cosine[3] - b[u].w * sine[3]));
            uint2 high = make_uint2(
                pack_bf16(b[u].x * cosine[0] + a[u].x * sine[0], b[u].y * cosine[1] + a[u].y * sine[1]),
                pack_bf16(b[u].z * cosine[2] + a[u].z * sine[2], b[u].w * cosine[3] + a[u].w * sine[3]));
            if (r < packed) {
                query[at + ((i / 8) ^ (r & 7)) * 2] = low;
                query[at + (((HALF + i) / 8) ^ (r & 7)) * 2] = high;
            }
        }
    }
    for (uint32_t at = packed * (D / 4) + threadIdx.x; at < tile_rows * (D / 4); at += THREADS)
        query[at] = make_uint2(0, 0);
}

/* ------------------------------------------------------------------------------- output ------ */

__device__ __forceinline__ size_t out_index(const kernel_params &p, uint32_t row, uint32_t head,
                                            int head_dim) {
    return ((size_t)row * p.heads + head) * head_dim;
}

__device__ __forceinline__ float inverse(float total) {
    return total > 0.0f ? __fdividef(1.0f, total) : 0.0f;
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

/* What the warps left in shared.fold and warp_sums: 16 rows of each of `warps_rows`, of `warps_keys` states
 * each, to out or to the workspace. */
template <int D, uint32_t warps_rows, uint32_t warps_keys>
__device__ __forceinline__ void write_folded(const kernel_params &p, shared_memory<D> &shared,
                                             const schedule_item &item, const schedule_row *rows) {
    constexpr uint32_t QUADS = D / 4, STEP = THREADS / QUADS;
    const uint32_t packed = item.row_count * p.group, partial = item.partial, kv_head = item.kv_head;
    const uint32_t column = threadIdx.x % QUADS * 4;
    float *const states = partial_out(p) + column;
#pragma unroll 2
    for (uint32_t r = threadIdx.x / QUADS; r < packed; r += STEP) {
        uint32_t warp = r / 16, within = r % 16;
        float2 sums[warps_keys];
        float4 parts[warps_keys];
        float most = -INFINITY, total = 0.0f;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (uint32_t w = 0; w < warps_keys; w++) {
            sums[w] = shared.warp_sums[warp + w * warps_rows][within];
            parts[w] = *(const float4 *)(shared.fold[warp + w * warps_rows] + within * D +
                                         (column ^ ((within & 7) << 3)));
            most = fmaxf(most, sums[w].x);
        }
        float base = most == -INFINITY ? 0.0f : most;
#pragma unroll
        for (uint32_t w = 0; w < warps_keys; w++) {
            float weight = exp2_fast(sums[w].x - base);
            total += weight * sums[w].y;
            sum.x += weight * parts[w].x;
            sum.y += weight * parts[w].y;
            sum.z += weight * parts[w].z;
            sum.w += weight * parts[w].w;
        }
        if (partial != SCHEDULE_NONE) {
            __stcg((float4 *)(states + (size_t)(partial + r) * D), sum);
            if (column == 0)
                __stcg(partial_sums(p) + partial + r, make_float2(most, total));
        } else {
            float factor = inverse(total);
            uint32_t token = r / p.group;
            write_four(p, out_index(p, rows[token].row, kv_head * p.group + r - token * p.group, D) + column,
                       make_float4(sum.x * factor, sum.y * factor, sum.z * factor, sum.w * factor));
        }
    }
}

/* The item's partials are written: counts its arrival at each row. Nobody waits for that. */
__device__ __forceinline__ void arrive(const kernel_params &p, const schedule_item &item,
                                       const schedule_row *rows) {
    if (item.partial != SCHEDULE_NONE && threadIdx.x < item.row_count)
        arrive_at(p.arrived + (rows[threadIdx.x].unit + item.kv_head));
}

/* -------------------------------------------------------------------------------- merging ---- */

/* Eight lanes fold a row: of its partials each has one in eight, of the values of a partial as many. Four
 * rows of a warp are folded together, so that many loads are under way. */
template <int D> struct merged_row {
    static constexpr uint32_t LANES = MERGE_LANES, QUADS = D / 4 / LANES, AT_ONCE = 4;
    float largest, total;
    float4 sum[QUADS]; /* of columns 4 (lane + 8 q) */

    __device__ __forceinline__ void clear(void) {
        largest = -INFINITY;
        total = 0.0f;
#pragma unroll
        for (uint32_t q = 0; q < QUADS; q++)
            sum[q] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }

    /* Makes `to` the largest, if it is larger. */
    __device__ __forceinline__ void grow(float to) {
        if (to <= largest)
            return;
        float factor = exp2_fast(largest - to);
        largest = to;
        total *= factor;
#pragma unroll
        for (uint32_t q = 0; q < QUADS; q++)
            sum[q] = make_float4(sum[q].x * factor, sum[q].y * factor, sum[q].z * factor, sum[q].w * factor);
    }

    __device__ __forceinline__ void add(float weight, uint32_t q, float4 values) {
        sum[q].x += weight * values.x;
        sum[q].y += weight * values.y;
        sum[q].z += weight * values.z;
        sum[q].w += weight * values.w;
    }

    /* Partials mine of each lane, `count` of them, at most eight; the warp goes along for its longest row. */
    __device__ __forceinline__ void fold(const kernel_params &p, uint32_t mine, uint32_t count,
                                         uint32_t count_most) {
        const uint32_t lane = threadIdx.x % LANES;
        const float *values = partial_out(p) + lane * 4;
        float2 sums = make_float2(-INFINITY, 0.0f);
        if (lane < count)
            sums = __ldcg(partial_sums(p) + mine);
        float weight = 0.0f;
#pragma unroll
        for (uint32_t first = 0; first < LANES; first += AT_ONCE) {
            if (first >= count_most)
                break;
            float4 loaded[AT_ONCE][QUADS];
#pragma unroll
            for (uint32_t u = 0; u < AT_ONCE; u++) {
                uint32_t partial = __shfl_sync(~0u, mine, first + u, LANES);
#pragma unroll
                for (uint32_t q = 0; q < QUADS; q++)
                    loaded[u][q] = load_shared_now(values + (size_t)partial * D + q * 4 * LANES);
            }
            if (first == 0) { /* only now: the loads above are under way */
                float most = sums.x, added;
#pragma unroll
                for (uint32_t distance = LANES / 2; distance > 0; distance /= 2)
                    most = fmaxf(most, __shfl_xor_sync(~0u, most, distance));
                grow(most);
                weight = largest == -INFINITY ? 0.0f : exp2_fast(sums.x - largest);
                added = weight * sums.y;
#pragma unroll
                for (uint32_t distance = LANES / 2; distance > 0; distance /= 2)
                    added += __shfl_xor_sync(~0u, added, distance);
                total += added;
            }
#pragma unroll
            for (uint32_t u = 0; u < AT_ONCE; u++) {
                float by = __shfl_sync(~0u, weight, first + u, LANES);
#pragma unroll
                for (uint32_t q = 0; q < QUADS; q++)
                    if (first + u < count)
                        add(by, q, loaded[u][q]);
            }
        }
    }
};

/* One value of a row from `ways` states, D values apart. */
template <int D>
__device__ __forceinline__ void write_merged(const kernel_params &p, const float2 *sums, const float *states,
                                             uint32_t ways, uint32_t row, uint32_t column) {
    float largest = -INFINITY, total = 0.0f, sum = 0.0f;
    if (row == SCHEDULE_NONE)
        return;
#pragma unroll 4
    for (uint32_t w = 0; w < ways; w++)
        largest = fmaxf(largest, sums[w].x);
    largest = largest == -INFINITY ? 0.0f : largest;
#pragma unroll 4
    for (uint32_t w = 0; w < ways; w++) {
        float weight = exp2_fast(sums[w].x - largest);
        total += weight * sums[w].y;
        sum += weight * states[w * D];
    }
    sum *= inverse(total);
    if (p.out != nullptr)
        p.out[(size_t)row * D + column] = sum;
    if (p.out_bf16 != nullptr)
        p.out_bf16[(size_t)row * D + column] = __float2bfloat16_rn(sum);
}

/* Every row with several partials, when they have arrived: `ways` eights of a CTA have one, each a part of
 * its list. Rows are dealt out evenly, whoever computed them. All CTAs are on the device, so what is waited
 * for comes. The last to have read a unit's counter leaves it zero. */
template <int D>
__device__ __forceinline__ void merge_rows(const kernel_params &p, shared_memory<D> &shared) {
    constexpr uint32_t LANES = MERGE_LANES, QUADS = merged_row<D>::QUADS;
    const schedule_header &header = *(const schedule_header *)p.schedule;
    const merge_share share(p);
    const uint32_t lane = threadIdx.x % LANES, eight = threadIdx.x / LANES, ways = share.ways;
    const uint32_t first = share.first(0);
    for (uint32_t base = first; base < share.rows; base += gridDim.x * share.at_once) {
        const uint32_t at = base + eight / ways, unit = at / p.group, head_of_group = at - unit * p.group;
        const bool valid = at < share.rows;
        merge_unit of = {};
        if (valid && base == first) {
            of = shared.merges[eight];
        } else if (valid) {
            of.begin = __ldg(p.schedule + header.unit_begin + unit);
            of.end = __ldg(p.schedule + header.unit_begin + unit + 1);
            uint2 target = __ldg((const uint2 *)(p.schedule + header.unit_rows) + unit);
            of.row = target.x;
            of.kv_head = target.y;
        }
        const uint32_t count = of.end - of.begin, begin = share.begin(count), end = share.end(count);
        const uint32_t *partials = p.schedule + header.unit_partials + of.begin;
        const uint32_t most = __reduce_max_sync(~0u, end - begin);
        uint32_t mine = 0;
        if (begin + lane < end)
            mine = head_of_group +
                   (base == first ? shared.merge_partials[threadIdx.x] : __ldg(partials + begin + lane));
        while (!__all_sync(~0u, !valid || lane != 0 || arrivals(p.arrived + unit) >= count))
            __nanosleep(20);
        __syncwarp(); /* what one lane has acquired the others see */
        merged_row<D> row;
        row.clear();
        for (uint32_t done = 0; done < most; done += LANES) {
            uint32_t left = begin + done < end ? end - begin - done : 0;
            if (done > 0)
                mine = lane < left ? __ldg(partials + begin + done + lane) + head_of_group : 0;
            row.fold(p, mine, min(left, LANES), min(most - done, LANES));
        }
        if (valid && lane == 0)
            leave(p.arrived + unit, count + p.group * ways - 1);
        if (ways > 1) {
            float *states = &shared.fold[0][0];
            float2 *sums = &shared.warp_sums[0][0];
            if (lane == 0) {
                sums[eight] = make_float2(row.largest, row.total);
                shared.merge_outs[eight] =
                    valid ? of.row * p.heads + of.kv_head * p.group + head_of_group : SCHEDULE_NONE;
            }
#pragma unroll
            for (uint32_t q = 0; q < QUADS; q++)
                *(float4 *)(states + eight * D + (lane + LANES * q) * 4) = row.sum[q];
            __syncthreads();
            for (uint32_t i = threadIdx.x; i < share.at_once * D; i += THREADS)
                write_merged<D>(p, sums + i / D * ways, states + i / D * ways * D + i % D, ways,
                                shared.merge_outs[i / D * ways], i % D);
            __syncthreads();
            continue;
        }
        if (!valid)
            continue;
        const float factor = inverse(row.total);
        const size_t to = out_index(p, of.row, of.kv_head * p.group + head_of_group, D) + lane * 4;
#pragma unroll
        for (uint32_t q = 0; q < QUADS; q++)
            write_four(p, to + q * 4 * LANES,
                       make_float4(row.sum[q].x * factor, row.sum[q].y * factor, row.sum[q].z * factor,
                                   row.sum[q].w * factor));
    }
}

/* -------------------------------------------------------------------------------- tiles ------ */

/* A warp's part of a tile: MT × 16 rows, and of each block BLOCK_KEYS / WK keys. WR × WK = 4 warps. */
template <int D, int MT, int WR, int WK>
__device__ __forceinline__ void run_item(const kernel_params &p, shared_memory<D> &shared, pipeline<D> &pipe,
                                         uint32_t first_item, uint32_t index, uint32_t count) {
    constexpr int KEYS = BLOCK_KEYS / WK,
                  STEP = MT == 1 ? KEYS : KEYS / WIDE_STEPS; /* of a softmax: as registers allow */
    constexpr int NT = STEP / 8, DT = D / 8, KSTEPS = D / 16;
    const schedule_item &item = shared.items[index % ITEMS_HELD];
    const schedule_row *rows = shared.rows[index & 1];
    const uint32_t key_begin = item.key_begin, key_end = item.key_end;
    const uint32_t full_begin = max(item.full_begin, key_begin), full_end = min(item.full_end, key_end);
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
    for (uint32_t block = key_begin / BLOCK_KEYS * BLOCK_KEYS;;) {
        const uint32_t keys = shared_address(shared.stage[pipe.block % pipeline<D>::STAGES][0]),
                       values = keys + BLOCK_KEYS * D * 2;
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
                        uint32_t r =
                            min(row_first + m * 16 + half * 8 + lane / 4, item.row_count * p.group - 1);
                        int32_t seen_end = rows[r / p.group].seen_end;
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
        if (block == key_begin / BLOCK_KEYS * BLOCK_KEYS) {
            if (index > 0) /* what it wrote is long under way: little is waited for */
                arrive(p, shared.items[(index - 1) % ITEMS_HELD], shared.rows[(index - 1) & 1]);
            fetch_next<D>(p, shared, first_item, index, count);
        }
        pipe.advance(p, shared);
        block += BLOCK_KEYS;
        if (block >= key_end)
            break;
        pipe.await();
    }
    STAMP(p, first_item + index, 4);

#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = total[m][half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            uint32_t within = half * 8 + lane / 4;
            if constexpr (WK > 1) {
                if (lane % 4 == 0)
                    shared.warp_sums[warp][within] = make_float2(largest[m][half], sum);
#pragma unroll
                for (int n = 0; n < DT; n++)
                    *(float2 *)(shared.fold[warp] + within * D +
                                ((n * 8 + lane % 4 * 2) ^ ((within & 7) << 3))) =
                        make_float2(out[m][n][2 * half], out[m][n][2 * half + 1]);
            } else {
                uint32_t r = row_first + m * 16 + within;
                if (r >= item.row_count * p.group)
                    continue;
                if (item.partial != SCHEDULE_NONE) {
                    float *to = partial_out(p) + (size_t)(item.partial + r) * D + lane % 4 * 2;
                    if (lane % 4 == 0)
                        __stcg(partial_sums(p) + item.partial + r, make_float2(largest[m][half], sum));
#pragma unroll
                    for (int n = 0; n < DT; n++)
                        __stcg((float2 *)(to + n * 8),
                               make_float2(out[m][n][2 * half], out[m][n][2 * half + 1]));
                } else {
                    float factor = inverse(sum);
                    size_t to = out_index(p, rows[r / p.group].row, item.kv_head * p.group + r % p.group, D) +
                                lane % 4 * 2;
#pragma unroll
                    for (int n = 0; n < DT; n++)
                        write_two(p, to + n * 8, out[m][n][2 * half] * factor,
                                  out[m][n][2 * half + 1] * factor);
                }
            }
        }
    if constexpr (WK > 1) {
        __syncthreads();
        write_folded<D, WR, WK>(p, shared, item, rows);
    }
}

template <int D>
__global__ void __launch_bounds__(THREADS, 2) attend(const __grid_constant__ kernel_params p) {
    extern __shared__ __align__(1024) unsigned char memory[];
    shared_memory<D> &shared = *(shared_memory<D> *)memory;
    const schedule_header &header = *(const schedule_header *)p.schedule;
#ifdef ATTENTION_STAMPS
    if (threadIdx.x == 0) {
        p.stamps[(size_t)(header.item_count + blockIdx.x) * 8] = global_ns();
        STAMP(p, header.item_count + blockIdx.x, 1);
        uint32_t sm;
        asm volatile("mov.u32 %0, %smid;" : "=r"(sm));
        p.stamps[(size_t)(header.item_count + blockIdx.x) * 8 + 4] = sm;
    }
#endif
    const uint32_t *work_begin = p.schedule + sizeof header / sizeof *p.schedule + blockIdx.x;
    const uint32_t first = __ldg(work_begin), count = __ldg(work_begin + 1) - first;
    constexpr uint32_t VECTORS = sizeof(schedule_item) / 16;
    if (threadIdx.x < min(count, ITEMS_HELD) * VECTORS)
        ((uint4 *)shared.items)[threadIdx.x] =
            __ldg((const uint4 *)(p.schedule + header.items) + first * VECTORS + threadIdx.x);
    if (threadIdx.x < D / 2) {
        double turn = 0.5 * __ldg(p.turns + threadIdx.x);
        shared.turns[threadIdx.x] = (uint64_t)((turn - floor(turn)) * 0x1p64);
    }
    __syncthreads();
    pipeline<D> pipe;
    fetch_merges<D>(p, shared);
    if (count > 0) {
        const schedule_item &item = shared.items[0];
        fetch_queries<D>(p, shared, item);
        uint4 row = {};
        if (threadIdx.x < item.row_count)
            row = __ldg((const uint4 *)(p.schedule + header.rows) + item.row_begin + threadIdx.x);
        pipe.start(p, shared, count);
        *(uint4 *)&shared.rows[0][threadIdx.x] = row;
    }
    uint32_t blocks = pipeline<D>::STAGES + 1; /* of the item before: enough for its successor to be there */
    for (uint32_t i = 0; i < count; i++) {
        STAMP(p, first + i, 0);
        const schedule_item &item = shared.items[i % ITEMS_HELD];
        const schedule_row *rows = shared.rows[i & 1];
        const uint32_t shape = item.shape;
        if (blocks >= pipeline<D>::STAGES && item.row_count == 1 && p.group <= 16) {
            pipe.await();
            STAMP(p, first + i, 1);
            rotate_queries<D, true>(p, shared, item, rows);
            __syncthreads();
            STAMP(p, first + i, 2);
        } else {
            if (blocks <= pipeline<D>::STAGES)
                copy_wait<0>();
            __syncthreads();
            STAMP(p, first + i, 1);
            rotate_queries<D, false>(p, shared, item, rows);
            STAMP(p, first + i, 2);
            pipe.await();
        }
        STAMP(p, first + i, 3);
        if (shape == SCHEDULE_ROWS_16)
            run_item<D, 1, 1, 4>(p, shared, pipe, first, i, count);
        else if (shape == SCHEDULE_ROWS_32)
            run_item<D, 1, 2, 2>(p, shared, pipe, first, i, count);
        else if (shape == SCHEDULE_ROWS_64)
            run_item<D, 1, 4, 1>(p, shared, pipe, first, i, count);
        else
            run_item<D, 2, 4, 1>(p, shared, pipe, first, i, count);
        STAMP(p, first + i, 5);
        blocks = (item.key_end - 1) / BLOCK_KEYS - item.key_begin / BLOCK_KEYS + 1;
        STAMP(p, first + i, 6);
    }
    __syncthreads();
    if (count > 0)
        arrive(p, shared.items[(count - 1) % ITEMS_HELD], shared.rows[(count - 1) & 1]);
    copy_wait_all();
    __syncthreads();
    if (count == 0) {
        fetch_merge_partials<D>(p, shared);
        copy_wait_all();
    }
    for (uint32_t z = blockIdx.x; z < header.zero_row_count; z += gridDim.x) {
        uint32_t row = __ldg(p.schedule + header.zero_rows + z);
        for (uint32_t i = threadIdx.x; i < p.heads * D / 4; i += THREADS)
            write_four(p, out_index(p, row, 0, D) + 4 * i, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
    }
    STAMP(p, header.item_count + blockIdx.x, 5);
    merge_rows<D>(p, shared);
#ifdef ATTENTION_STAMPS
    if (threadIdx.x == 0) {
        STAMP(p, header.item_count + blockIdx.x, 3);
        p.stamps[(size_t)(header.item_count + blockIdx.x) * 8 + 2] = global_ns();
    }
#endif
}

template <int D> uint32_t workers_for(uint32_t multiprocessors) {
    if (cudaFuncSetAttribute(attend<D>, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return workers_of(attend<D>, THREADS, sizeof(shared_memory<D>), multiprocessors);
}

template <int D> cudaError_t launch(const kernel_params &params, uint32_t workers, cudaStream_t stream) {
    return launch_together(attend<D>, params, workers, THREADS, sizeof(shared_memory<D>), stream);
}

} // namespace

bool attention_mma_takes(const attention_shape *shape, uint32_t page_tokens) {
    return (shape->head_dim == 64 || shape->head_dim == 128) && page_tokens > 0 &&
           (page_tokens & (page_tokens - 1)) == 0 && shape->kv_heads > 0 &&
           shape->heads / shape->kv_heads <= TILE_ROWS_MAX;
}

uint32_t attention_mma_workers(uint32_t head_dim, uint32_t multiprocessors) {
    return head_dim == 64 ? workers_for<64>(multiprocessors) : workers_for<128>(multiprocessors);
}

cudaError_t attention_mma_run(const attention_mma_call *call) {
    const kernel_params params = {schedule_params_of(call), (const __nv_bfloat16 *)call->kv};
    return call->shape->head_dim == 64 ? launch<64>(params, call->workers, call->stream)
                                       : launch<128>(params, call->workers, call->stream);
}
