/*
 * Attention over pages, plainly: the reference of the faster kernels on the device, and what runs where they
 * take no part (head sizes, f32 pages, older GPUs). One warp for each row and query head; it takes 32 keys at
 * a time, a lane for each key's score, then a lane for each pair of the output's elements.
 *
 *   1. states_kernel: a state for each slot (a row of a task) and head, from the empty state;
 *   2. folds_kernel: each row's states in the order of its views, those of private cells made on the spot.
 *
 * Blocks of 32 keys are counted from the cell's first key, and what a row does not see of them is left out
 * of every sum: a row's bits depend neither on other rows nor on what is shared. Keys that no row sees are
 * not read. States of more KV heads than the workspace holds are made some heads at a time.
 *
 * A state is (maximum, total, out): of scores in base 2 that are seen the largest, the sum of 2^(score -
 * maximum), and the sum of 2^(score - maximum) · V. The empty state has the maximum -inf.
 */
#include <cuda_bf16.h>

#include "cuda_attention.h"
#include "cuda_rope.cuh"

static const uint32_t WARP = 32, WARPS_MAX = 8, KEYS = 32;
static const uint32_t VALUES_AT_ONCE = 8; /* loads under way together */
#define EVERY_LANE 0xFFFFFFFFu
#define LOG2_E     1.4426950408889634f

/* What both kernels get. */
typedef struct simple_args {
    const char *block; /* the plan: cuda_plan_header and its tables */
    const float *qkv;
    float *out;
    __nv_bfloat16 *out_bf16;
    const double *turns;
    const void *kv;
    float2 *totals;           /* (slots, heads of this pass): maximum, total */
    float *sums;              /* (slots, heads of this pass, head_dim) */
    float rope_factor, scale; /* scale: of q · k, in base 2 */
    uint32_t heads, kv_heads, head_dim, group, page_tokens;
    uint32_t kv_head_begin, kv_head_count; /* of this pass */
} simple_args;

/* ------------------------------------------------------------------------------ elements ---- */

static __device__ __forceinline__ float2 load_pair(const __nv_bfloat16 *from) {
    return __bfloat1622float2(*(const __nv_bfloat162 *)from);
}

static __device__ __forceinline__ float2 load_pair(const float *from) {
    return *(const float2 *)from;
}

static __device__ __forceinline__ float warp_max(float value) {
    for (uint32_t distance = WARP / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(EVERY_LANE, value, distance));
    return value;
}

static __device__ __forceinline__ float warp_sum(float value) {
    for (uint32_t distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(EVERY_LANE, value, distance);
    return value;
}

template <typename T> static __device__ __forceinline__ const T *table(const char *block, uint32_t offset) {
    return (const T *)(block + offset);
}

/* ------------------------------------------------------------------------------- a cell ----- */

/* A lane has the pairs lane, lane + 32, … of the output. */
template <int PAIRS> struct row_state {
    float maximum, total;
    float2 out[PAIRS];
};

template <int PAIRS> static __device__ __forceinline__ void state_clear(row_state<PAIRS> &state) {
    state.maximum = -INFINITY;
    state.total = 0.0f;
#pragma unroll
    for (int i = 0; i < PAIRS; i++)
        state.out[i] = make_float2(0.0f, 0.0f);
}

/* Nothing of an empty state is read but its maximum. */
template <int PAIRS>
static __device__ __forceinline__ void state_fold(row_state<PAIRS> &state, const row_state<PAIRS> &from) {
    if (from.maximum == -INFINITY)
        return;
    float largest = fmaxf(state.maximum, from.maximum);
    float keep = state.maximum == -INFINITY ? 0.0f : exp2f(state.maximum - largest);
    float take = exp2f(from.maximum - largest);
    state.maximum = largest;
    state.total = state.total * keep + from.total * take;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        state.out[i].x = state.out[i].x * keep + from.out[i].x * take;
        state.out[i].y = state.out[i].y * keep + from.out[i].y * take;
    }
}

/* The K of a key of the cell; its V lies kv_heads tiles further. */
template <typename T>
static __device__ __forceinline__ const T *key_at(const simple_args &args, const cuda_plan_cell &cell,
                                                  uint32_t kv_head, uint32_t key) {
    const cuda_plan_header *header = (const cuda_plan_header *)args.block;
    const cuda_plan_source *source = table<cuda_plan_source>(args.block, header->sources) + cell.source_begin;
    while (key >= source->key_begin + source->key_count)
        source++;
    uint32_t token = source->token_offset + (key - source->key_begin);
    uint32_t page =
        table<uint32_t>(args.block, header->page_ids)[source->page_begin + token / args.page_tokens];
    size_t tile = (size_t)page * 2 * args.kv_heads + kv_head;
    return (const T *)args.kv + (tile * args.page_tokens + token % args.page_tokens) * args.head_dim;
}

/* In order of the elements, however they are loaded. */
template <typename T>
static __device__ __forceinline__ float score(const simple_args &args, const T *key, const float *query) {
    const uint32_t wide = sizeof(uint4) / sizeof(T);
    float sum = 0.0f;
    uint32_t i = 0;
    if (args.head_dim % wide == 0) { /* then keys are aligned to 16 bytes */
#pragma unroll 4
        for (; i < args.head_dim; i += wide) {
            uint4 loaded = *(const uint4 *)(key + i);
            const T *elements = (const T *)&loaded;
#pragma unroll
            for (uint32_t e = 0; e < wide; e += 2) {
                float2 pair = load_pair(elements + e), with = *(const float2 *)(query + i + e);
                sum = fmaf(pair.x, with.x, sum);
                sum = fmaf(pair.y, with.y, sum);
            }
        }
    }
    for (; i < args.head_dim; i += 2) {
        float2 pair = load_pair(key + i), with = *(const float2 *)(query + i);
        sum = fmaf(pair.x, with.x, sum);
        sum = fmaf(pair.y, with.y, sum);
    }
    return sum;
}

/* Keys [begin, end) of the cell for one row and head, whose rotated query lies in shared memory. */
template <typename T, int PAIRS>
static __device__ void attend_cell(const simple_args &args, const cuda_plan_cell &cell, uint32_t kv_head,
                                   const float *query, uint32_t begin, uint32_t end,
                                   row_state<PAIRS> &state) {
    uint32_t lane = threadIdx.x % WARP;
    state_clear(state);
    for (uint32_t first = begin / KEYS * KEYS; first < end; first += KEYS) {
        uint32_t key = first + lane;
        bool seen = key >= begin && key < end;
        const T *at = seen ? key_at<T>(args, cell, kv_head, key) : nullptr;
        float found = seen ? score(args, at, query) : -INFINITY;
        float largest = fmaxf(state.maximum, warp_max(found)); /* finite: each block has a key that is seen */
        float keep = exp2f(state.maximum - largest), weight = seen ? exp2f(found - largest) : 0.0f;
        state.maximum = largest;
        state.total = state.total * keep + warp_sum(weight);
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            state.out[i].x *= keep;
            state.out[i].y *= keep;
        }
        size_t to_value = (size_t)args.kv_heads * args.page_tokens * args.head_dim;
        uint32_t seen_keys = __ballot_sync(EVERY_LANE, seen);
        for (uint32_t begun = 0; begun < KEYS && seen_keys >> begun != 0; begun += VALUES_AT_ONCE) {
            float2 pairs[VALUES_AT_ONCE][PAIRS];
#pragma unroll
            for (uint32_t k = 0; k < VALUES_AT_ONCE; k++) {
                const T *value =
                    (const T *)__shfl_sync(EVERY_LANE, (unsigned long long)at, begun + k) + to_value;
#pragma unroll
                for (int i = 0; i < PAIRS; i++) {
                    uint32_t element = 2 * (lane + WARP * i);
                    pairs[k][i] = make_float2(0.0f, 0.0f);
                    if ((seen_keys >> (begun + k) & 1) != 0 && element < args.head_dim)
                        pairs[k][i] = load_pair(value + element);
                }
            }
#pragma unroll
            for (uint32_t k = 0; k < VALUES_AT_ONCE; k++) {
                float by = __shfl_sync(EVERY_LANE, weight, begun + k);
#pragma unroll
                for (int i = 0; i < PAIRS; i++) {
                    state.out[i].x = fmaf(by, pairs[k][i].x, state.out[i].x);
                    state.out[i].y = fmaf(by, pairs[k][i].y, state.out[i].y);
                }
            }
        }
    }
}

/* The row's query of a head, rotated and scaled, into the warp's shared memory. */
static __device__ void rotate_query(const simple_args &args, uint32_t row, uint32_t head, int32_t rotation,
                                    float *query) {
    size_t width = (size_t)(args.heads + 2 * args.kv_heads) * args.head_dim;
    const float *from = args.qkv + row * width + (size_t)head * args.head_dim;
    uint32_t half = args.head_dim / 2;
    __syncwarp();
    for (uint32_t i = threadIdx.x % WARP; i < half; i += WARP) {
        float a = from[i], b = from[half + i], cosine, sine;
        rope_cos_sin((double)rotation, args.turns[i], args.rope_factor, &cosine, &sine);
        query[i] = (a * cosine - b * sine) * args.scale;
        query[half + i] = (b * cosine + a * sine) * args.scale;
    }
    __syncwarp();
}

/* ------------------------------------------------------------------------------ kernels ----- */

static __device__ __forceinline__ float *warp_query(const simple_args &args) {
    extern __shared__ float2 shared[];
    return (float *)shared + threadIdx.x / WARP * args.head_dim;
}

/* The task that has the slot: tasks' slots ascend without gaps. */
static __device__ const cuda_plan_task *find_task(const char *block, uint32_t slot) {
    const cuda_plan_header *header = (const cuda_plan_header *)block;
    const cuda_plan_task *tasks = table<cuda_plan_task>(block, header->tasks);
    uint32_t low = 0, high = header->task_count - 1;
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (tasks[middle].slot_begin <= slot)
            low = middle;
        else
            high = middle - 1;
    }
    return &tasks[low];
}

static __device__ __forceinline__ size_t state_at(const simple_args &args, uint32_t slot, uint32_t head) {
    return ((size_t)slot * args.kv_head_count + (head / args.group - args.kv_head_begin)) * args.group +
           head % args.group;
}

template <typename T, int PAIRS> static __global__ void states_kernel(simple_args args) {
    uint32_t slot = blockIdx.x, kv_head = args.kv_head_begin + blockIdx.y, lane = threadIdx.x % WARP;
    const cuda_plan_header *header = (const cuda_plan_header *)args.block;
    const cuda_plan_row row = table<cuda_plan_row>(args.block, header->slot_rows)[slot];
    const cuda_plan_cell cell =
        table<cuda_plan_cell>(args.block, header->cells)[find_task(args.block, slot)->cell];
    float *query = warp_query(args);
    for (uint32_t g = threadIdx.x / WARP; g < args.group; g += blockDim.x / WARP) {
        uint32_t head = kv_head * args.group + g;
        row_state<PAIRS> state;
        rotate_query(args, row.row, head, row.rotation, query);
        attend_cell<T, PAIRS>(args, cell, kv_head, query, row.seen_begin, row.seen_end, state);
        size_t at = state_at(args, slot, head);
        if (lane == 0)
            args.totals[at] = make_float2(state.maximum, state.total);
#pragma unroll
        for (int i = 0; i < PAIRS; i++)
            if (2 * (lane + WARP * i) < args.head_dim)
                *(float2 *)(args.sums + at * args.head_dim + 2 * (lane + WARP * i)) = state.out[i];
    }
}

template <int PAIRS>
static __device__ void state_load(const simple_args &args, uint32_t slot, uint32_t head,
                                  row_state<PAIRS> &state) {
    size_t at = state_at(args, slot, head);
    uint32_t lane = threadIdx.x % WARP;
    float2 totals = args.totals[at];
    state.maximum = totals.x;
    state.total = totals.y;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        uint32_t element = 2 * (lane + WARP * i);
        state.out[i] = element < args.head_dim ? *(const float2 *)(args.sums + at * args.head_dim + element)
                                               : make_float2(0.0f, 0.0f);
    }
}

template <int PAIRS>
static __device__ void state_write(const simple_args &args, uint32_t row, uint32_t head,
                                   const row_state<PAIRS> &state) {
    size_t at = ((size_t)row * args.heads + head) * args.head_dim;
    uint32_t lane = threadIdx.x % WARP;
    float by = state.maximum == -INFINITY ? 0.0f : 1.0f / state.total;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        uint32_t element = 2 * (lane + WARP * i);
        if (element >= args.head_dim)
            continue;
        float2 pair = make_float2(state.out[i].x * by, state.out[i].y * by);
        *(float2 *)(args.out + at + element) = pair;
        if (args.out_bf16 != nullptr)
            *(__nv_bfloat162 *)(args.out_bf16 + at + element) = __floats2bfloat162_rn(pair.x, pair.y);
    }
}

template <typename T, int PAIRS> static __global__ void folds_kernel(simple_args args) {
    uint32_t row = blockIdx.x, kv_head = args.kv_head_begin + blockIdx.y;
    const cuda_plan_header *header = (const cuda_plan_header *)args.block;
    const cuda_plan_view *views = table<cuda_plan_view>(args.block, header->views);
    const cuda_plan_cell *cells = table<cuda_plan_cell>(args.block, header->cells);
    const cuda_plan_row *private_rows = table<cuda_plan_row>(args.block, header->private_rows);
    uint32_t index = table<uint32_t>(args.block, header->row_folds)[row];
    cuda_plan_fold fold = {0, 0, 0, 0};
    if (index != UINT32_MAX)
        fold = table<cuda_plan_fold>(args.block, header->folds)[index];
    float *query = warp_query(args);
    for (uint32_t g = threadIdx.x / WARP; g < args.group; g += blockDim.x / WARP) {
        uint32_t head = kv_head * args.group + g;
        row_state<PAIRS> folded, state;
        bool rotated = false;
        int32_t rotation = 0;
        state_clear(folded);
        for (uint32_t v = fold.view_begin; v < fold.view_begin + fold.view_count; v++) {
            const cuda_plan_view view = views[v];
            if (view.slot != PLAN_PRIVATE) {
                state_load(args, view.slot + (row - fold.row_begin), head, state);
                state_fold(folded, state);
                continue;
            }
            const cuda_plan_row seen = private_rows[view.private_begin + (row - fold.row_begin)];
            if (seen.seen_end == 0)
                continue;
            if (!rotated || rotation != seen.rotation)
                rotate_query(args, row, head, seen.rotation, query);
            rotated = true;
            rotation = seen.rotation;
            attend_cell<T, PAIRS>(args, cells[view.cell], kv_head, query, seen.seen_begin, seen.seen_end,
                                  state);
            state_fold(folded, state);
        }
        state_write(args, row, head, folded);
    }
}

/* ----------------------------------------------------------------------------- launching ---- */

/* Bytes of the states of one KV head: totals, then sums. */
static size_t head_totals_bytes(const cuda_attention_call *call) {
    size_t states = (size_t)call->plan->header.slot_count * (call->shape->heads / call->shape->kv_heads);
    return states * sizeof(float2);
}

static size_t head_bytes(const cuda_attention_call *call) {
    return head_totals_bytes(call) / sizeof(float2) *
           (sizeof(float2) + call->shape->head_dim * sizeof(float));
}

extern "C" size_t cuda_attention_simple_workspace(const cuda_attention_call *call) {
    return call->shape->kv_heads * head_bytes(call);
}

template <typename T, int PAIRS>
static cudaError_t launch_pass(const simple_args &args, const cuda_attention_call *call) {
    uint32_t warps = args.group < WARPS_MAX ? args.group : WARPS_MAX;
    size_t shared_bytes = warps * args.head_dim * sizeof(float);
    uint32_t slots = call->plan->header.slot_count;
    if (slots > 0)
        states_kernel<T, PAIRS>
            <<<dim3(slots, args.kv_head_count), warps * WARP, shared_bytes, call->stream>>>(args);
    folds_kernel<T, PAIRS>
        <<<dim3(call->rows, args.kv_head_count), warps * WARP, shared_bytes, call->stream>>>(args);
    return cudaGetLastError();
}

template <typename T>
static cudaError_t launch_for_head(const simple_args &args, const cuda_attention_call *call) {
    if (args.head_dim <= 64)
        return launch_pass<T, 1>(args, call);
    if (args.head_dim <= 128)
        return launch_pass<T, 2>(args, call);
    if (args.head_dim <= 256)
        return launch_pass<T, 4>(args, call);
    return launch_pass<T, 8>(args, call);
}

extern "C" cento_status cuda_attention_simple(const cuda_attention_call *call, cento_error *error) {
    const attention_shape *shape = call->shape;
    const uint32_t head_dim_max = 512;
    if (shape->head_dim > head_dim_max)
        return error_set(error, CENTO_UNSUPPORTED, "heads of %u elements, at most %u run on a GPU",
                         shape->head_dim, head_dim_max);
    simple_args args = {};
    args.block = call->plan->block;
    args.qkv = call->qkv;
    args.out = call->out;
    args.out_bf16 = (__nv_bfloat16 *)call->out_bf16;
    args.turns = call->turns;
    args.kv = call->kv;
    args.rope_factor = call->rope_factor;
    args.scale = shape->scale * LOG2_E;
    args.heads = shape->heads;
    args.kv_heads = shape->kv_heads;
    args.head_dim = shape->head_dim;
    args.group = shape->heads / shape->kv_heads;
    args.page_tokens = call->page_tokens;

    size_t one_head = head_bytes(call);
    size_t heads_max = one_head == 0 ? shape->kv_heads : call->workspace_bytes / one_head;
    if (heads_max == 0)
        return error_set(error, CENTO_BACKEND, "attention has %zu bytes of workspace, %zu are needed",
                         call->workspace_bytes, one_head);
    for (uint32_t begin = 0; begin < shape->kv_heads; begin += args.kv_head_count) {
        uint32_t left = shape->kv_heads - begin;
        args.kv_head_begin = begin;
        args.kv_head_count = heads_max < left ? (uint32_t)heads_max : left;
        args.totals = (float2 *)call->workspace;
        args.sums = (float *)((char *)call->workspace + args.kv_head_count * head_totals_bytes(call));
        cudaError_t code =
            call->kv_bf16 ? launch_for_head<__nv_bfloat16>(args, call) : launch_for_head<float>(args, call);
        if (code != cudaSuccess)
            return error_set(error, CENTO_BACKEND, "CUDA: %s: %s (attention)", cudaGetErrorName(code),
                             cudaGetErrorString(code));
    }
    return CENTO_OK;
}
