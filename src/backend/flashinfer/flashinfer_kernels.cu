/* FlashInfer's batch prefill (fa2) for one head size and one kind of mask: CENTO_FLASHINFER_DIM and
 * CENTO_FLASHINFER_KIND, a request_kind. One object each, since a compiler takes minutes for all of them. */
#include "flashinfer_kernels.cuh"

#include <flashinfer/attention/prefill.cuh>
#include <flashinfer/attention/variants.cuh>

using flashinfer::MaskMode;

static constexpr MaskMode mask_of(request_kind kind) {
    return kind == REQUEST_FULL ? MaskMode::kNone : kind == REQUEST_CAUSAL ? MaskMode::kCausal : MaskMode::kCustom;
}

template <uint32_t tile, uint32_t dim, request_kind kind>
static cudaError_t run_tile(const flashinfer_params &params, __nv_bfloat16 *states, float *sums, cudaStream_t stream) {
    using variant = flashinfer::DefaultAttention<kind == REQUEST_MASKED, false, false, false>;
    return flashinfer::BatchPrefillWithPagedKVCacheDispatched<
        true, tile, dim, dim, flashinfer::PosEncodingMode::kNone, false, mask_of(kind), variant>(
        params, states, sums, false, stream);
}

template <uint32_t dim, request_kind kind>
cudaError_t flashinfer_kernels_run(uint32_t tile, const flashinfer_params &params, __nv_bfloat16 *states, float *sums,
                                   cudaStream_t stream) {
    switch (tile) {
    case 16:
        return run_tile<16, dim, kind>(params, states, sums, stream);
    case 64:
        return run_tile<64, dim, kind>(params, states, sums, stream);
    case 128:
        return run_tile<128, dim, kind>(params, states, sums, stream);
    default:
        return cudaErrorNotSupported;
    }
}

template cudaError_t flashinfer_kernels_run<CENTO_FLASHINFER_DIM, (request_kind)CENTO_FLASHINFER_KIND>(
    uint32_t, const flashinfer_params &, __nv_bfloat16 *, float *, cudaStream_t);
