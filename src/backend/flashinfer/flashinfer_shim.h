/*
 * flashinfer_shim: FlashInfer's header-only kernels behind plain C functions, for bf16 K and V in pages of
 * [K|V][kv_head][token][head_dim], and the two kernels of our own around them.
 *
 *   q of entries, rotated for their keys     flashinfer_rotate
 *   each kind of request, one launch         flashinfer_run: BatchPrefillWithPagedKVCacheDispatched (fa2),
 * which splits keys and merges the splits as flashinfer_plan laid out states of entries folded into rows
 * flashinfer_fold
 *
 * FlashInfer throws; nothing is thrown through here. Pointers are device memory unless said otherwise.
 */
#ifndef CENTO_BACKEND_FLASHINFER_SHIM_H
#define CENTO_BACKEND_FLASHINFER_SHIM_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "flashinfer_requests.h"

enum { FLASHINFER_PLAN_WORDS = 16 };

typedef struct flashinfer_shape {
    uint32_t heads, kv_heads, head_dim, page_tokens;
    float scale; /* of q·k */
} flashinfer_shape;

/* Requests of one kind. */
typedef struct flashinfer_launch {
    request_kind kind;
    uint32_t requests, rows;
    const int32_t *row_begin, *page_begin, *pages, *last_page; /* as in request_batch */
    const int32_t *mask_begin;
    const uint8_t *mask;
    int64_t planned[FLASHINFER_PLAN_WORDS]; /* by flashinfer_plan */
    void *float_workspace, *int_workspace;
} flashinfer_launch;

/* UNSUPPORTED, with the reason, unless there are kernels for the shape. */
cento_status flashinfer_shape_check(const flashinfer_shape *shape, cento_error *error);
/* What flashinfer_plan wants for requests of these rows and pages (host arrays). */
cento_status flashinfer_plan_bytes(const flashinfer_shape *shape, const request_batch *batch,
                                   size_t *float_bytes, size_t *int_bytes, cento_error *error);
/* Fills launch->planned, and int_workspace by way of `pinned` (int_bytes, host; read until the stream has
 * come there). launch->float_workspace and int_workspace must be set. */
cento_status flashinfer_plan(const flashinfer_shape *shape, const request_batch *batch, size_t float_bytes,
                             size_t int_bytes, void *pinned, flashinfer_launch *launch, cudaStream_t stream,
                             cento_error *error);
/* q and states bf16 (rows, heads, head_dim), lse2 (rows, heads): log2 of the sums */
cento_status flashinfer_run(const flashinfer_shape *shape, const flashinfer_launch *launch, const void *q,
                            const void *kv, void *states, float *lse2, cudaStream_t stream,
                            cento_error *error);

/* q bf16 (entries, heads, head_dim) = the q part of qkv (rows, qkv_width), of row rows[entry], rotated by
 * rotations[entry] */
cudaError_t flashinfer_rotate(const flashinfer_shape *shape, const float *qkv, uint32_t qkv_width,
                              const int32_t *rows, const int32_t *rotations, uint32_t entries,
                              const double *turns, float rope_factor, void *q, cudaStream_t stream);
/* out (rows, heads · head_dim) = states[fold_entries[i]] merged for i in [fold_begin[row], fold_begin[row +
 * 1]), zeros where that is empty. out_bf16: the same, or NULL. */
cudaError_t flashinfer_fold(const flashinfer_shape *shape, const void *states, const float *lse2,
                            const int32_t *fold_begin, const int32_t *fold_entries, uint32_t rows, float *out,
                            void *out_bf16, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
