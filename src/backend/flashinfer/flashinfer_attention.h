/*
 * flashinfer_attention: attention of the CUDA backend by FlashInfer's kernels, an optional second one
 * (CENTO_FLASHINFER, backend_options.attention "flashinfer"). It serves bf16 K and V and heads of 64 and 128;
 * what it has no kernel for is UNSUPPORTED, never computed otherwise.
 *
 * Of the backend's promises on a row's bits it keeps none: FlashInfer splits keys by the load of the whole
 * batch, and probabilities are bf16.
 */
#ifndef CENTO_BACKEND_FLASHINFER_ATTENTION_H
#define CENTO_BACKEND_FLASHINFER_ATTENTION_H

#include "backend/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct flashinfer_attention flashinfer_attention;
typedef struct flashinfer_work flashinfer_work; /* a step's requests on the device */

/* Of one backend; its device must be current. */
cento_status flashinfer_attention_create(flashinfer_attention **result, cento_error *error);
void flashinfer_attention_free(flashinfer_attention *self); /* NULL is allowed */
/* UNSUPPORTED, with the reason, unless there are kernels for the shape and the pool. */
cento_status flashinfer_attention_check(const attention_shape *shape, const backend_kv_pool *pool,
                                        cento_error *error);
/* For all layers of this shape and pool. Good until the next but one plan or window is prepared. */
cento_status flashinfer_attention_prepare(flashinfer_attention *self, cuda_backend *device,
                                          const attention_shape *shape, const cascade_plan *plan,
                                          const uint32_t *positions, const backend_kv_pool *pool,
                                          const flashinfer_work **work, cento_error *error);
/* One layer; call->plan and workspace are not used. */
cento_status flashinfer_attention_launch(flashinfer_attention *self, const flashinfer_work *work,
                                         const cuda_attention_call *call, cento_error *error);

#ifdef __cplusplus
}
#endif

#endif
