/* attention_sm90.cu in parts: what its warps share, in registers, shared memory and addresses. */
#ifndef CENTO_BACKEND_CUDA_ATTENTION_SM90_KERNEL_CUH
#define CENTO_BACKEND_CUDA_ATTENTION_SM90_KERNEL_CUH

#include <cudaTypedefs.h>

#include "attention_kernel.cuh"
#include "attention_sm90.cuh"

namespace {

constexpr int THREADS = 384, CONSUMERS = 256, BLOCK_KEYS = 128, TILE_ROWS_MAX = 128, BOX_ROWS = 16;
constexpr int QUERY_THREADS = 96;
enum : uint32_t { TILE_BLOCK_BYTES = 128 * 128 }; /* 128 rows of 64 columns */
enum named_barrier { BARRIER_ROWS = 1, BARRIER_TURN, BARRIER_CONSUMERS = BARRIER_TURN + 2, BARRIER_GROUP };

constexpr int CONSUMER_REGISTERS = 216, LOADER_REGISTERS = 72; /* 168 at the start, for all 384 threads */

#ifndef TURNS
#define TURNS 1 /* wide tiles: the warpgroups take turns at the tensor cores */
#endif

#ifdef ATTENTION_STAMPS
constexpr uint32_t STAMP_THREAD = 128; /* of the consumers */
#endif

struct kernel_params : schedule_params {
    CUtensorMap map;
};

/* Nothing is compiled for other devices but an empty kernel, which is not launched. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAS_SM90
#endif

/* Row r of a block has key key_begin + r of the stream; rows [begin, end) are the item's. */
struct __align__(16) key_block {
    int32_t key_begin;
    int32_t begin, end;
    uint32_t last; /* of the item */
};

struct __align__(16) row_buffer {
    schedule_item item;
    schedule_row rows[TILE_ROWS_MAX];
    int32_t seen_end[TILE_ROWS_MAX]; /* by packed row */
};

template <int D> struct shared_memory {
    static constexpr int STAGES = 256 / D;
    unsigned char keys[STAGES][BLOCK_KEYS * D * 2];
    unsigned char values[STAGES][BLOCK_KEYS * D * 2];
    union {
        unsigned char query[TILE_ROWS_MAX * D * 2];
        float4 exchange[2][D / 16][128];
        float merge[CONSUMERS / 32 * 4 * (D + 2)]; /* parts of rows' partials, folded */
    } tile[2];
    row_buffer rows[2];
    key_block blocks[STAGES];
    float4 exchange_sums[2][128];
    uint32_t partial_out; /* the schedule header's */
    uint64_t keys_full[STAGES], keys_empty[STAGES], values_full[STAGES], values_empty[STAGES];
    uint64_t rows_full[2], rows_empty[2];
};

#ifdef HAS_SM90
__device__ __forceinline__ uint32_t header_word(const kernel_params &p, uint32_t schedule_header::*word) {
    return __ldg(&(((const schedule_header *)p.schedule)->*word));
}

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

#endif

} // namespace

#endif
