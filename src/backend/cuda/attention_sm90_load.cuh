/* attention_sm90.cu: its loading warps. Keys and values by tensor copies; rows and queries. */
#ifndef CENTO_BACKEND_CUDA_ATTENTION_SM90_LOAD_CUH
#define CENTO_BACKEND_CUDA_ATTENTION_SM90_LOAD_CUH

#include "attention_sm90_kernel.cuh"

namespace {

#ifdef HAS_SM90
/* ------------------------------------------------------------------------------ loading ------ */

/* One warp: K and V of all blocks of items [begin, end). A lane has a box or two. */
template <int D>
__device__ __forceinline__ void load_blocks(const kernel_params &p, shared_memory<D> &shared, uint32_t begin,
                                            uint32_t end) {
    constexpr uint32_t HALVES = D / 64, STAGES = shared_memory<D>::STAGES,
                       BOXES = BLOCK_KEYS / BOX_ROWS * HALVES;
    const uint4 *const items = (const uint4 *)(p.schedule + header_word(p, &schedule_header::items)),
                       *const segments =
                           (const uint4 *)(p.schedule + header_word(p, &schedule_header::segments));
    const uint32_t *const page_ids = p.schedule + header_word(p, &schedule_header::page_ids);
    const uint32_t lane = threadIdx.x % 32, value = lane / 16, box = lane % 16; /* half of the lanes for V */
    const uint32_t within = box / HALVES * BOX_ROWS, half = box % HALVES;
    uint64_t *const full = value ? shared.values_full : shared.keys_full;
    const uint32_t to =
        shared_address(value ? shared.values : shared.keys) + half * TILE_BLOCK_BYTES + within * 128;
    uint32_t block = 0, row = 0, bytes = 0; /* V's are of the block before: it is freed later than K's */
    bool wanted = false;
    auto load_values = [&] {
        const uint32_t stage = (block - 1) % STAGES;
        barrier_wait(&shared.values_empty[stage], ((block - 1) / STAGES & 1) ^ 1);
        if (lane == 16)
            barrier_arrive_expect(&shared.values_full[stage], bytes);
        __syncwarp();
        if (wanted && value == 1)
            tensor_copy(to + stage * BLOCK_KEYS * D * 2, &p.map, (int)half * 64, (int)row, full + stage);
    };
    for (uint32_t i = begin; i < end; i++) {
        const uint4 range = __ldg(items + 4 * i); /* key_begin, key_end, kv_head, segment_begin */
        uint4 segment = __ldg(items + 4 * i + 1); /* page_begin, offset, key_begin, key_end */
        uint32_t segment_index = range.w;
        for (;;) {
            const uint32_t low = max(range.x, segment.z), high = min(range.y, segment.w);
            const uint32_t token_low = segment.y + low - segment.z, token_high = segment.y + high - segment.z;
            for (uint32_t at = token_low / BOX_ROWS * BOX_ROWS; at < token_high; at += BLOCK_KEYS) {
                const uint32_t token = at + within;
                const bool next_wanted = box < BOXES && token < token_high && token + BOX_ROWS > token_low;
                const uint32_t next_bytes =
                    (uint32_t)__popc(__ballot_sync(~0u, next_wanted)) / 2 * BOX_ROWS * 128;
                uint32_t next_row = 0;
                if (next_wanted) {
                    uint32_t page = __ldg(page_ids + segment.x + (token >> p.page_shift));
                    next_row = (((page * 2 + value) * p.kv_heads + range.z) << p.page_shift) +
                               (token & ((1u << p.page_shift) - 1));
                }
                const uint32_t stage = block % STAGES, parity = (block / STAGES & 1) ^ 1;
                barrier_wait(&shared.keys_empty[stage], parity);
                if (lane == 0) {
                    const int32_t key = (int32_t)(segment.z + at - segment.y);
                    shared.blocks[stage] =
                        key_block{key, max((int32_t)low - key, 0), min((int32_t)high - key, BLOCK_KEYS),
                                  high == range.y && at + BLOCK_KEYS >= token_high};
                    barrier_arrive_expect(&shared.keys_full[stage], next_bytes);
                }
                __syncwarp();
                if (next_wanted && value == 0)
                    tensor_copy(to + stage * BLOCK_KEYS * D * 2, &p.map, (int)half * 64, (int)next_row,
                                full + stage);
                if (block > 0)
                    load_values();
                row = next_row, bytes = next_bytes, wanted = next_wanted;
                block++;
            }
            if (high == range.y)
                break;
            segment = __ldg(segments + ++segment_index);
        }
    }
    if (block > 0)
        load_values();
}

/* ------------------------------------------------------------------------------ queries ------ */

/* Where four values from column i of a tile's row lie. */
static __device__ __forceinline__ uint32_t tile_offset(uint32_t row, uint32_t i) {
    return i / 64 * TILE_BLOCK_BYTES + row * 128 + ((i % 64 / 8 ^ (row & 7)) << 4) + (i & 4) * 2;
}

/* Four values from column and from column + D / 2 of a head, rotated. */
template <int D>
__device__ __forceinline__ void write_query(unsigned char *query, uint32_t row, uint32_t column, float4 a,
                                            float4 b, const float (&cosine)[4], const float (&sine)[4]) {
    *(uint2 *)(query + tile_offset(row, column)) =
        make_uint2(pack_bf16(a.x * cosine[0] - b.x * sine[0], a.y * cosine[1] - b.y * sine[1]),
                   pack_bf16(a.z * cosine[2] - b.z * sine[2], a.w * cosine[3] - b.w * sine[3]));
    *(uint2 *)(query + tile_offset(row, D / 2 + column)) =
        make_uint2(pack_bf16(b.x * cosine[0] + a.x * sine[0], b.y * cosine[1] + a.y * sine[1]),
                   pack_bf16(b.z * cosine[2] + a.z * sine[2], b.w * cosine[3] + a.w * sine[3]));
}

/* Rows and queries of items by COUNT threads: gathered, rotated, scaled to base 2, in bf16. A thread has
 * columns of its own, of HEADS query heads of a token at once. */
template <int D, int COUNT> struct query_loader {
    static constexpr uint32_t HALF = D / 2, QUADS = HALF / 4, STEP = COUNT / QUADS, HEADS = 4;
    const uint4 *items, *rows;
    uint32_t thread, column;
    uint64_t turns[4];              /* of a whole turn by 2^64, for each position */
    float4 low[HEADS], high[HEADS]; /* from column and from column + HALF */
    uint4 row;                      /* row, rotation, seen_end, unit */

    __device__ __forceinline__ query_loader(const kernel_params &p, uint32_t number) {
        items = (const uint4 *)(p.schedule + header_word(p, &schedule_header::items));
        rows = (const uint4 *)(p.schedule + header_word(p, &schedule_header::rows));
        thread = number;
        column = thread % QUADS * 4;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            double turn = 0.5 * __ldg(p.turns + column + j);
            turns[j] = __double2ull_rz((turn - floor(turn)) * 18446744073709551616.0);
        }
    }

    __device__ __forceinline__ void fetch(const kernel_params &p, uint32_t row_index, uint32_t head) {
        row = __ldg(rows + row_index);
        const float *from = p.qkv + (row.x * (size_t)(p.heads + 2 * p.kv_heads) + head) * D + column;
#pragma unroll
        for (uint32_t g = 0; g < HEADS; g++) {
            const float *values =
                from + min(g, p.heads - 1 - head) * D; /* some more than wanted, never beyond */
            low[g] = __ldg((const float4 *)values), high[g] = __ldg((const float4 *)(values + HALF));
        }
    }

    /* empty: of the buffer, with the item before the last in it, whose states have been written. */
    __device__ __forceinline__ void load(const kernel_params &p, shared_memory<D> &shared, uint32_t i,
                                         uint32_t at, uint64_t *empty, uint32_t parity, bool arrives) {
        row_buffer &buffer = shared.rows[at];
        unsigned char *query = shared.tile[at].query;
        const uint32_t kv_head = __ldg(&items[4 * i].z);
        const uint4 item = __ldg(items + 4 * i + 2); /* row_begin, row_count, shape, partial */
        const uint4 word = __ldg(items + 4 * i + thread % 4);
        const uint32_t packed = item.y * p.group;
        const uint32_t chunks = (p.group + HEADS - 1) / HEADS, count = item.y * chunks;
        uint32_t unit = thread / QUADS;
        if (unit < count)
            fetch(p, item.x + unit / chunks, kv_head * p.group + unit % chunks * HEADS);
        if (empty != nullptr) {
            barrier_wait(empty, parity);
            if (arrives)
                arrive(p, buffer, thread, COUNT);
            named_sync(BARRIER_ROWS, COUNT);
        }
        if (thread < 4)
            ((uint4 *)&buffer.item)[thread] = word;
#pragma unroll 1
        for (; unit < count; unit += STEP) {
            const uint32_t token = unit / chunks, first = unit % chunks * HEADS;
            float cosine[4], sine[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int32_t turn = (int32_t)((uint64_t)(int64_t)(int32_t)row.y * turns[j] >> 32);
                __sincosf((float)turn * 1.4629180792671596e-9f, &sine[j], &cosine[j]); /* π / 2^31 */
                cosine[j] *= p.rope_factor * p.scale;
                sine[j] *= p.rope_factor * p.scale;
            }
#pragma unroll
            for (uint32_t g = 0; g < HEADS; g++)
                if (first + g < p.group) {
                    const uint32_t r = token * p.group + first + g;
                    write_query<D>(query, r, column, low[g], high[g], cosine, sine);
                    if (column == 0)
                        buffer.seen_end[r] = (int32_t)row.z;
                }
            if (column == 0 && first == 0)
                *(uint4 *)&buffer.rows[token] = row;
            if (unit + STEP < count)
                fetch(p, item.x + (unit + STEP) / chunks, kv_head * p.group + (unit + STEP) % chunks * HEADS);
        }
        /* rows that warps of rows read beside the tile's own */
        const uint32_t padded = (packed + 15) / 16 * 16;
        for (uint32_t unit = thread; unit < (padded - packed) * (D / 4); unit += COUNT)
            *(uint2 *)(query + tile_offset(packed + unit / (D / 4), unit % (D / 4) * 4)) = make_uint2(0, 0);
        fence_async();
    }

    /* The item's states are written: counts its arrival at each row. */
    static __device__ __forceinline__ void arrive(const kernel_params &p, const row_buffer &buffer,
                                                  uint32_t thread, uint32_t threads) {
        if (buffer.item.partial != SCHEDULE_NONE)
            for (uint32_t r = thread; r < buffer.item.row_count; r += threads)
                arrive_at(p.arrived + (buffer.rows[r].unit + buffer.item.kv_head));
    }
};

#endif

} // namespace

#endif
