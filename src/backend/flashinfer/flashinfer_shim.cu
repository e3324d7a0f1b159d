/* flashinfer_shim: see flashinfer_shim.h. Compiled with exceptions, apart from the rest: cmake/flashinfer.cmake. */
#include "flashinfer_shim.h"
#include "flashinfer_kernels.cuh"

#include <flashinfer/attention/scheduler.cuh>

#include "backend/cuda/cuda_rope.cuh"

namespace {

using bf16 = __nv_bfloat16;

static_assert(sizeof(flashinfer::PrefillPlanInfo) <= sizeof(int64_t) * FLASHINFER_PLAN_WORDS, "planned");

cento_status code_status(cudaError_t code, const char *what, cento_error *error) {
    if (code == cudaSuccess)
        return CENTO_OK;
    cudaGetLastError();
    return error_set(error, CENTO_BACKEND, "FlashInfer's %s failed: %s", what, cudaGetErrorString(code));
}

/* FlashInfer's exceptions as a status. */
template <typename function> cento_status guarded(const char *what, cento_error *error, function call) {
    try {
        return code_status(call(), what, error);
    } catch (const std::exception &problem) {
        return error_set(error, CENTO_BACKEND, "FlashInfer's %s failed: %.300s", what, problem.what());
    } catch (...) {
        return error_set(error, CENTO_BACKEND, "FlashInfer's %s failed", what);
    }
}

template <uint32_t dim> cudaError_t run_dim(request_kind kind, uint32_t tile, const flashinfer_params &params,
                                            bf16 *states, float *sums, cudaStream_t stream) {
    switch (kind) {
    case REQUEST_FULL:
        return flashinfer_kernels_run<dim, REQUEST_FULL>(tile, params, states, sums, stream);
    case REQUEST_CAUSAL:
        return flashinfer_kernels_run<dim, REQUEST_CAUSAL>(tile, params, states, sums, stream);
    default:
        return flashinfer_kernels_run<dim, REQUEST_MASKED>(tile, params, states, sums, stream);
    }
}

flashinfer::PrefillPlanInfo plan_info_of(const int64_t *planned) {
    flashinfer::PrefillPlanInfo info;
    size_t words = info.ToVector().size();
    info.FromVector(std::vector<int64_t>(planned, planned + words));
    return info;
}

flashinfer_params params_of(const flashinfer_shape &shape, const flashinfer_launch &launch, const void *q,
                           const void *kv, void *states, float *lse2, const flashinfer::PrefillPlanInfo &info) {
    using flashinfer::GetPtrFromBaseOffset;
    const int64_t head = (int64_t)shape.page_tokens * shape.head_dim, half_page = head * shape.kv_heads;
    const int64_t strides[3] = {2 * half_page, head, shape.head_dim};
    bf16 *keys = static_cast<bf16 *>(const_cast<void *>(kv));
    void *ints = launch.int_workspace;
    flashinfer_params params;
    params.q = static_cast<bf16 *>(const_cast<void *>(q));
    params.paged_kv = flashinfer::paged_kv_t<bf16, int32_t>(
        shape.kv_heads, shape.page_tokens, shape.head_dim, launch.requests, flashinfer::QKVLayout::kHND, keys,
        keys + half_page, strides, const_cast<int32_t *>(launch.pages), const_cast<int32_t *>(launch.page_begin),
        const_cast<int32_t *>(launch.last_page));
    params.q_indptr = const_cast<int32_t *>(launch.row_begin);
    params.maybe_custom_mask = const_cast<uint8_t *>(launch.mask);
    params.maybe_mask_indptr = const_cast<int32_t *>(launch.mask_begin);
    params.o = static_cast<bf16 *>(states);
    params.lse = lse2;
    params.num_qo_heads = shape.heads;
    params.group_size = flashinfer::uint_fastdiv(shape.heads / shape.kv_heads);
    params.q_stride_n = (int32_t)(shape.heads * shape.head_dim);
    params.q_stride_h = (int32_t)shape.head_dim;
    params.window_left = -1;
    params.sm_scale = shape.scale;
    params.rope_rcp_scale = params.rope_rcp_theta = 1.0f;
    params.request_indices = GetPtrFromBaseOffset<int32_t>(ints, info.request_indices_offset);
    params.qo_tile_indices = GetPtrFromBaseOffset<int32_t>(ints, info.qo_tile_indices_offset);
    params.kv_tile_indices = GetPtrFromBaseOffset<int32_t>(ints, info.kv_tile_indices_offset);
    params.o_indptr = GetPtrFromBaseOffset<int32_t>(ints, info.o_indptr_offset);
    params.kv_chunk_size_ptr = GetPtrFromBaseOffset<int32_t>(ints, info.kv_chunk_size_ptr_offset);
    if (info.split_kv)
        params.merge_indptr = GetPtrFromBaseOffset<int32_t>(ints, info.merge_indptr_offset);
    params.padded_batch_size = (uint32_t)info.padded_batch_size;
    params.max_total_num_rows = (uint32_t)info.total_num_rows;
    return params;
}

/* ------------------------------------------------------------------------- kernels of ours ------- */

enum { HEADS_AT_ONCE = 4, FOLD_THREADS = 128 };

/* grid: entries; block: (head_dim / 2, HEADS_AT_ONCE) */
__global__ void rotate_kernel(const float *qkv, uint32_t qkv_width, uint32_t heads, uint32_t head_dim,
                              const int32_t *rows, const int32_t *rotations, const double *turns, float factor,
                              bf16 *q) {
    uint32_t entry = blockIdx.x, i = threadIdx.x, half = head_dim / 2;
    const float *from = qkv + (size_t)rows[entry] * qkv_width;
    bf16 *to = q + (size_t)entry * heads * head_dim;
    float cosine, sine;
    rope_cos_sin(rotations[entry], turns[i], factor, &cosine, &sine);
    for (uint32_t head = threadIdx.y; head < heads; head += HEADS_AT_ONCE) {
        float x = from[head * head_dim + i], y = from[head * head_dim + half + i];
        to[head * head_dim + i] = __float2bfloat16(x * cosine - y * sine);
        to[head * head_dim + half + i] = __float2bfloat16(y * cosine + x * sine);
    }
}

/* grid: (heads, rows); block: FOLD_THREADS */
__global__ void fold_kernel(const bf16 *states, const float *lse2, const int32_t *fold_begin,
                            const int32_t *fold_entries, uint32_t head_dim, float *out, bf16 *out_bf16) {
    uint32_t head = blockIdx.x, heads = gridDim.x, row = blockIdx.y;
    int32_t begin = fold_begin[row], end = fold_begin[row + 1];
    float largest = -INFINITY;
    for (int32_t i = begin; i < end; i++)
        largest = fmaxf(largest, lse2[(size_t)fold_entries[i] * heads + head]);
    for (uint32_t d = threadIdx.x; d < head_dim; d += FOLD_THREADS) {
        float sum = 0.0f, total = 0.0f;
        for (int32_t i = begin; i < end; i++) {
            size_t state = (size_t)fold_entries[i] * heads + head;
            float weight = exp2f(lse2[state] - largest);
            total += weight;
            sum += weight * __bfloat162float(states[state * head_dim + d]);
        }
        float value = begin < end ? sum / total : 0.0f;
        size_t at = ((size_t)row * heads + head) * head_dim + d;
        out[at] = value;
        if (out_bf16 != NULL)
            out_bf16[at] = __float2bfloat16(value);
    }
}

} // namespace

/* ----------------------------------------------------------------------------------- C ----------- */

cento_status flashinfer_shape_check(const flashinfer_shape *shape, cento_error *error) {
    if (shape->head_dim != 64 && shape->head_dim != 128)
        return error_set(error, CENTO_UNSUPPORTED,
                         "attention by FlashInfer is built for heads of 64 and 128, not of %u", shape->head_dim);
    return CENTO_OK;
}

cento_status flashinfer_plan_bytes(const flashinfer_shape *shape, const request_batch *batch, size_t *float_bytes,
                                   size_t *int_bytes, cento_error *error) {
    return guarded("plan", error, [&] {
        return flashinfer::PrefillPlanWorkspaceSize<int32_t>(
            *float_bytes, *int_bytes, batch->row_begin.values, batch->page_begin.values,
            (uint32_t)batch->rows.count, request_count(batch), shape->heads, shape->kv_heads, shape->head_dim,
            shape->head_dim, shape->page_tokens, false, sizeof(bf16), -1, -1, false, 0, 0, nullptr);
    });
}

cento_status flashinfer_plan(const flashinfer_shape *shape, const request_batch *batch, size_t float_bytes,
                             size_t int_bytes, void *pinned, flashinfer_launch *launch, cudaStream_t stream,
                             cento_error *error) {
    return guarded("plan", error, [&] {
        flashinfer::PrefillPlanInfo info;
        cudaError_t code = flashinfer::PrefillPlan<int32_t>(
            launch->float_workspace, float_bytes, launch->int_workspace, pinned, int_bytes, info,
            batch->row_begin.values, batch->page_begin.values, (uint32_t)batch->rows.count, request_count(batch),
            shape->heads, shape->kv_heads, shape->head_dim, shape->head_dim, shape->page_tokens, false,
            sizeof(bf16), -1, -1, false, 0, 0, stream);
        std::vector<int64_t> words = info.ToVector();
        std::copy(words.begin(), words.end(), launch->planned);
        return code;
    });
}

cento_status flashinfer_run(const flashinfer_shape *shape, const flashinfer_launch *launch, const void *q,
                            const void *kv, void *states, float *lse2, cudaStream_t stream, cento_error *error) {
    return guarded("batch prefill", error, [&] {
        flashinfer::PrefillPlanInfo info = plan_info_of(launch->planned);
        flashinfer_params params = params_of(*shape, *launch, q, kv, states, lse2, info);
        bf16 *split_states = nullptr;
        float *split_sums = nullptr;
        if (info.split_kv) {
            split_states = flashinfer::GetPtrFromBaseOffset<bf16>(launch->float_workspace, info.v_offset);
            split_sums = flashinfer::GetPtrFromBaseOffset<float>(launch->float_workspace, info.s_offset);
        }
        uint32_t tile = (uint32_t)info.cta_tile_q;
        return shape->head_dim == 64 ? run_dim<64>(launch->kind, tile, params, split_states, split_sums, stream)
                                     : run_dim<128>(launch->kind, tile, params, split_states, split_sums, stream);
    });
}

cudaError_t flashinfer_rotate(const flashinfer_shape *shape, const float *qkv, uint32_t qkv_width,
                              const int32_t *rows, const int32_t *rotations, uint32_t entries, const double *turns,
                              float rope_factor, void *q, cudaStream_t stream) {
    rotate_kernel<<<entries, dim3(shape->head_dim / 2, HEADS_AT_ONCE), 0, stream>>>(
        qkv, qkv_width, shape->heads, shape->head_dim, rows, rotations, turns, rope_factor, (bf16 *)q);
    return cudaGetLastError();
}

cudaError_t flashinfer_fold(const flashinfer_shape *shape, const void *states, const float *lse2,
                            const int32_t *fold_begin, const int32_t *fold_entries, uint32_t rows, float *out,
                            void *out_bf16, cudaStream_t stream) {
    fold_kernel<<<dim3(shape->heads, rows), FOLD_THREADS, 0, stream>>>((const bf16 *)states, lse2, fold_begin, fold_entries,
                                                                        shape->head_dim, out, (bf16 *)out_bf16);
    return cudaGetLastError();
}
