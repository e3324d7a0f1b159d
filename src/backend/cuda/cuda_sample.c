/*
 * The host side of sampling on the device: what rows ask goes up in one copy, tokens and logprobs come down
 * in one. Rows that change no logits and want no logprobs cost two launches (sample.cu).
 */
#include <string.h>

#include "base/mem.h"
#include "cuda_sample.h"

/* Where things lie in the block that goes up. */
typedef struct input_layout {
    size_t rows, listed, changes, bytes;
} input_layout;

static cento_status check(const sample_batch *batch, cento_error *error) {
    size_t changes = 0;
    if (batch->vocab_size == 0 || batch->vocab_size > (uint32_t)SAMPLE_SLICE * SAMPLE_SLICES_MAX)
        return error_set(error, CENTO_UNSUPPORTED, "rows of %u logits, expected 1 to %u", batch->vocab_size,
                         (uint32_t)SAMPLE_SLICE * SAMPLE_SLICES_MAX);
    if (batch->logprobs_max > SAMPLE_LOGPROBS_MAX || batch->logprobs_max > batch->vocab_size)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%u logprobs of %u tokens, expected at most %u",
                         batch->logprobs_max, batch->vocab_size, SAMPLE_LOGPROBS_MAX);
    for (uint32_t i = 0; i < batch->row_count; i++) {
        changes += (size_t)batch->rows[i].penalty_count + batch->rows[i].bias_count;
        if (batch->rows[i].logprobs > batch->logprobs_max)
            return error_set(error, CENTO_INVALID_ARGUMENT, "row %u wants %u logprobs, there is room for %u",
                             i, batch->rows[i].logprobs, batch->logprobs_max);
    }
    if (changes != batch->change_count || changes > UINT32_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "the rows have %zu changes, %zu are there", changes,
                         batch->change_count);
    for (size_t i = 0; i < changes; i++) {
        if (batch->changes[i].token < 0 || (uint32_t)batch->changes[i].token >= batch->vocab_size)
            return error_set(error, CENTO_INVALID_ARGUMENT, "change %zu is of token %d, expected 0 to %u", i,
                             (int)batch->changes[i].token, batch->vocab_size - 1);
    }
    return CENTO_OK;
}

static input_layout lay_out(const sample_batch *batch) {
    input_layout layout = {.rows = 0};
    layout.changes = batch->row_count * sizeof(cuda_sample_row);
    layout.listed = layout.changes + batch->change_count * sizeof(sample_change);
    layout.bytes = layout.listed + batch->row_count * sizeof(uint32_t);
    return layout;
}

/* *listed: rows that want logprobs. */
static cento_status write_input(cuda_sampling *sampling, const sample_batch *batch, input_layout layout,
                                uint32_t *listed_count, cento_error *error) {
    if (!mem_grow((void **)&sampling->staged, &sampling->staged_capacity, layout.bytes, 1))
        return error_memory(error, layout.bytes);
    memset(sampling->staged, 0, layout.bytes); /* what lies between fields is compared, too */
    cuda_sample_row *rows = (cuda_sample_row *)(void *)(sampling->staged + layout.rows);
    uint32_t *listed = (uint32_t *)(void *)(sampling->staged + layout.listed), changes = 0;
    *listed_count = 0;
    for (uint32_t i = 0; i < batch->row_count; i++) {
        rows[i].row = batch->rows[i];
        rows[i].change_begin = changes;
        changes += batch->rows[i].penalty_count + batch->rows[i].bias_count;
        if (batch->rows[i].logprobs > 0)
            listed[(*listed_count)++] = i;
    }
    if (changes > 0)
        memcpy(sampling->staged + layout.changes, batch->changes,
               batch->change_count * sizeof *batch->changes);
    return CENTO_OK;
}

static cento_status reserve(cuda_backend *self, sample_call *call, size_t change_count, size_t result_bytes,
                            cento_error *error) {
    cuda_sampling *sampling = &self->sampling;
    size_t slices = (size_t)call->row_count * call->slice_count;
    size_t slice_bytes = slices * sizeof *call->slices;
    size_t group_bytes = slices * SAMPLE_GROUPS * sizeof *call->groups;
    TRY(device_buffer_reserve(self, &sampling->work,
                              slice_bytes + group_bytes + change_count * sizeof *call->saved, "sampling",
                              error));
    TRY(device_buffer_reserve(self, &sampling->result, result_bytes, "sampled tokens", error));
    char *work = sampling->work.memory;
    call->slices = (sample_slice *)(void *)work;
    call->groups = (float *)(void *)(work + slice_bytes);
    call->saved = (float *)(void *)(work + slice_bytes + group_bytes);
    call->tokens = sampling->result.memory;
    call->logprobs = (cento_token_logprob *)(void *)(call->tokens + call->row_count);
    if (result_bytes > sampling->read_bytes) {
        if (sampling->read != NULL)
            CUDA_TRY(cudaFreeHost(sampling->read), error);
        sampling->read = NULL;
        sampling->read_bytes = 0;
        CUDA_TRY(cudaHostAlloc((void **)&sampling->read, result_bytes, cudaHostAllocDefault), error);
        sampling->read_bytes = result_bytes;
    }
    return CENTO_OK;
}

static cento_status launch(cuda_backend *self, sample_call *call, const uint32_t *listed,
                           uint32_t listed_count, bool changed, cento_error *error) {
    if (changed)
        CUDA_TRY(sample_change_logits(call, self->stream), error);
    CUDA_TRY(sample_rows(call, self->stream), error);
    if (changed)
        CUDA_TRY(sample_restore_logits(call, self->stream), error);
    if (listed_count == 0)
        return CENTO_OK;
    call->listed = listed;
    call->listed_count = listed_count;
    CUDA_TRY(sample_rows(call, self->stream), error);
    return CENTO_OK;
}

cento_status cuda_sample(backend *base, float *logits, const sample_batch *batch, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    cuda_sampling *sampling = &self->sampling;
    TRY(cuda_enter(self, error));
    TRY(check(batch, error));
    if (batch->row_count == 0)
        return CENTO_OK;
    const input_layout layout = lay_out(batch);
    const void *input = NULL;
    uint32_t listed_count = 0;
    TRY(write_input(sampling, batch, layout, &listed_count, error));
    TRY(cuda_upload_array(self, &sampling->input, sampling->staged, layout.bytes, &input, error));
    const char *at = input;
    sample_call call = {.logits = logits,
                        .row_count = batch->row_count,
                        .vocab_size = batch->vocab_size,
                        .slice_count = (batch->vocab_size + SAMPLE_SLICE - 1) / SAMPLE_SLICE,
                        .rows = (const cuda_sample_row *)(const void *)(at + layout.rows),
                        .changes = (const sample_change *)(const void *)(at + layout.changes),
                        .logprobs_max = batch->logprobs_max};
    size_t token_bytes = batch->row_count * sizeof *batch->tokens;
    size_t logprob_bytes =
        listed_count == 0 ? 0
                          : (size_t)batch->row_count * (1 + batch->logprobs_max) * sizeof *batch->logprobs;
    TRY(reserve(self, &call, batch->change_count, token_bytes + logprob_bytes, error));
    TRY(launch(self, &call, (const uint32_t *)(const void *)(at + layout.listed), listed_count,
               batch->change_count > 0, error));
    CUDA_TRY(cudaMemcpyAsync(sampling->read, sampling->result.memory, token_bytes + logprob_bytes,
                             cudaMemcpyDeviceToHost, self->stream),
             error);
    CUDA_TRY(cudaStreamSynchronize(self->stream), error);
    memcpy(batch->tokens, sampling->read, token_bytes);
    if (listed_count > 0)
        memcpy(batch->logprobs, sampling->read + token_bytes, logprob_bytes);
    return CENTO_OK;
}

void cuda_sampling_free(cuda_sampling *sampling) {
    device_buffer_free(&sampling->work);
    device_buffer_free(&sampling->result);
    cuda_upload_free(&sampling->input);
    if (sampling->read != NULL)
        cudaFreeHost(sampling->read);
    mem_free(sampling->staged);
    *sampling = (cuda_sampling){0};
}
