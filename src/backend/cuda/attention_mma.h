/*
 * attention_mma: attention over a schedule (attention_schedule.h) in one launch, with the tensor cores'
 * mma.sync: sm_80 and newer, bf16 KV, head size 64 or 128, page sizes that are powers of two.
 */
#ifndef CENTO_BACKEND_CUDA_ATTENTION_MMA_H
#define CENTO_BACKEND_CUDA_ATTENTION_MMA_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "attention_schedule.h"
#include "backend/backend.h"

/* One layer's attention; pointers are device memory. */
typedef struct attention_mma_call {
    const attention_shape *shape; /* host */
    const uint32_t *schedule;     /* the block on the device */
    const float *qkv;             /* (rows, (heads + 2 kv_heads) · head_dim): q normalised and unrotated */
    float *out;                   /* (rows, heads · head_dim) or NULL */
    void *out_bf16;               /* the same in bf16, or NULL */
    const double *turns;          /* (head_dim / 2) inv_freq / π */
    float rope_factor;            /* on cos and sin of the query */
    const void *kv;               /* the layer's pages: [page][K|V][kv_head][token][head_dim] bf16 */
    uint32_t page_tokens;
    float *workspace;  /* schedule_workspace_bytes, contents undefined */
    uint32_t *arrived; /* (unit_count) zero before and after */
    uint32_t workers;  /* of the schedule: CTAs, all on the device at once, at most attention_mma_workers */
    cudaStream_t stream;
} attention_mma_call;

bool attention_mma_takes(const attention_shape *shape, uint32_t page_tokens);
/* CTAs that the current device holds at once; 0: the kernel does not run there. To be called before the first
 * launch. */
uint32_t attention_mma_workers(uint32_t head_dim, uint32_t multiprocessors);
cudaError_t attention_mma_run(const attention_mma_call *call);

#ifdef __cplusplus
}
#endif

#endif
