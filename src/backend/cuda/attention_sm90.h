/*
 * attention_sm90: the same attention over a schedule as attention_mma, with Hopper's own instructions: tensor
 * copies and warpgroup products. sm_90 devices only, bf16 KV, head size 64 or 128, page sizes that are powers
 * of two, of 8 tokens and more.
 *
 * The schedule is built for attention_sm90_workers and attention_sm90_costs; the call is attention_mma's.
 */
#ifndef CENTO_BACKEND_CUDA_ATTENTION_SM90_H
#define CENTO_BACKEND_CUDA_ATTENTION_SM90_H

#include "attention_mma.h"

#ifdef __cplusplus
extern "C" {
#endif

bool attention_sm90_takes(const attention_shape *shape, uint32_t page_tokens, int device_major,
                          int device_minor);
extern const schedule_costs attention_sm90_costs; /* the schedule's, measured on an H100 */
/* As attention_mma_workers. */
uint32_t attention_sm90_workers(uint32_t head_dim, uint32_t multiprocessors);
cudaError_t attention_sm90_run(const attention_mma_call *call);

#ifdef __cplusplus
}
#endif

#endif
