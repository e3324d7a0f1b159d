/* What flashinfer_shim.cu and flashinfer_kernels.cu share: FlashInfer's parameters for bf16 K and V. States are bf16: as
 * f32, what merges them does not compile (0.7.2). */
#ifndef CENTO_BACKEND_FLASHINFER_KERNELS_CUH
#define CENTO_BACKEND_FLASHINFER_KERNELS_CUH

#include <cuda_bf16.h>

#include <flashinfer/attention/default_prefill_params.cuh>

#include "flashinfer_shim.h"

using flashinfer_params = flashinfer::BatchPrefillPagedParams<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16, int32_t>;

/* Launches the kernel for query tiles of `tile` rows: 16, 64 or 128. states, sums: of split keys, or NULL. */
template <uint32_t dim, request_kind kind>
cudaError_t flashinfer_kernels_run(uint32_t tile, const flashinfer_params &params, __nv_bfloat16 *states, float *sums,
                                   cudaStream_t stream);

#endif
