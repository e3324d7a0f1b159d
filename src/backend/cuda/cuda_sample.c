/*
 * The host side of sampling on the device: what rows ask goes up in one copy, or with the launch where they
 * are few; tokens and logprobs the kernels write to the host's memory. Rows that change no logits and want no
 * logprobs cost two launches (sample.cu).
 */
#include <string.h>

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

static void pinned_buffer_free(pinned_buffer *buffer) {
    if (buffer->memory != NULL)
        cudaFreeHost(buffer->memory);
    *buffer = (pinned_buffer){0};
}

/* What it held is lost when it grows. */
static cento_status pinned_buffer_reserve(pinned_buffer *buffer, size_t bytes, cento_error *error) {
    void *memory = NULL;
    if (bytes <= buffer->bytes)
        return CENTO_OK;
    pinned_buffer_free(buffer);
    CUDA_TRY(cudaHostAlloc(&memory, 2 * bytes, cudaHostAllocMapped), error);
    *buffer = (pinned_buffer){memory, 2 * bytes};
    return CENTO_OK;
}

/* Returns how many rows are listed: those that want logprobs. */
static uint32_t write_input(char *to, const sample_batch *batch, input_layout layout) {
    cuda_sample_row *rows = (cuda_sample_row *)(void *)(to + layout.rows);
    uint32_t *listed = (uint32_t *)(void *)(to + layout.listed), listed_count = 0, changes = 0;
    for (uint32_t i = 0; i < batch->row_count; i++) {
        rows[i].row = batch->rows[i];
        rows[i].change_begin = changes;
        changes += batch->rows[i].penalty_count + batch->rows[i].bias_count;
        if (batch->rows[i].logprobs > 0)
            listed[listed_count++] = i;
    }
    if (changes > 0)
        memcpy(to + layout.changes, batch->changes, batch->change_count * sizeof *batch->changes);
    return listed_count;
}

static cento_status reserve(cuda_backend *self, sample_call *call, size_t change_count, size_t input_bytes,
                            size_t read_bytes, cento_error *error) {
    cuda_sampling *sampling = &self->sampling;
    size_t slices = (size_t)call->row_count * call->slice_count;
    size_t slice_bytes = slices * sizeof *call->slices;
    size_t group_bytes = slices * SAMPLE_GROUPS * sizeof *call->groups;
    size_t saved_bytes = change_count * sizeof *call->saved;
    size_t token_bytes = call->row_count * sizeof *call->tokens;
    TRY(device_buffer_reserve(self, &sampling->work, slice_bytes + group_bytes + saved_bytes + token_bytes,
                              "sampling", error));
    TRY(device_buffer_reserve(self, &sampling->input, input_bytes, "sampling", error));
    TRY(pinned_buffer_reserve(&sampling->staged, input_bytes, error));
    TRY(pinned_buffer_reserve(&sampling->read, read_bytes, error));
    char *work = sampling->work.memory;
    call->slices = (sample_slice *)(void *)work;
    call->groups = (float *)(void *)(work + slice_bytes);
    call->saved = (float *)(void *)(work + slice_bytes + group_bytes);
    call->tokens = (int32_t *)(void *)(work + slice_bytes + group_bytes + saved_bytes);
    call->read_tokens = sampling->read.memory;
    call->read_logprobs = (cento_token_logprob *)(void *)(call->read_tokens + call->row_count);
    return CENTO_OK;
}

/* *listed_count: rows that want logprobs, which are listed at *listed. */
static cento_status upload(cuda_backend *self, const sample_batch *batch, input_layout layout,
                           sample_call *call, const uint32_t **listed, uint32_t *listed_count,
                           cento_error *error) {
    cuda_sampling *sampling = &self->sampling;
    *listed = NULL;
    *listed_count = 0;
    if (batch->row_count <= SAMPLE_FEW && batch->change_count == 0 && batch->logprobs_max == 0) {
        memcpy(call->few, batch->rows, batch->row_count * sizeof *batch->rows);
        return CENTO_OK;
    }
    *listed_count = write_input(sampling->staged.memory, batch, layout);
    CUDA_TRY(cudaMemcpyAsync(sampling->input.memory, sampling->staged.memory, layout.bytes,
                             cudaMemcpyHostToDevice, self->stream),
             error);
    const char *input = sampling->input.memory;
    call->rows = (const cuda_sample_row *)(const void *)(input + layout.rows);
    call->changes = (const sample_change *)(const void *)(input + layout.changes);
    *listed = (const uint32_t *)(const void *)(input + layout.listed);
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
    TRY(cuda_enter(self, error));
    TRY(check(batch, error));
    if (batch->row_count == 0)
        return CENTO_OK;
    const input_layout layout = lay_out(batch);
    size_t token_bytes = batch->row_count * sizeof *batch->tokens;
    size_t logprob_bytes = 0;
    if (batch->logprobs_max > 0)
        logprob_bytes = (size_t)batch->row_count * (1 + batch->logprobs_max) * sizeof *batch->logprobs;
    sample_call call = {.logits = logits,
                        .row_count = batch->row_count,
                        .vocab_size = batch->vocab_size,
                        .slice_count = (batch->vocab_size + SAMPLE_SLICE - 1) / SAMPLE_SLICE,
                        .logprobs_max = batch->logprobs_max};
    TRY(reserve(self, &call, batch->change_count, layout.bytes, token_bytes + logprob_bytes, error));
    const uint32_t *listed;
    uint32_t listed_count;
    TRY(upload(self, batch, layout, &call, &listed, &listed_count, error));
    TRY(launch(self, &call, listed, listed_count, batch->change_count > 0, error));
    CUDA_TRY(cudaStreamSynchronize(self->stream), error);
    memcpy(batch->tokens, call.read_tokens, token_bytes);
    if (listed_count > 0)
        memcpy(batch->logprobs, call.read_logprobs, logprob_bytes);
    return CENTO_OK;
}

void cuda_sampling_free(cuda_sampling *sampling) {
    device_buffer_free(&sampling->work);
    device_buffer_free(&sampling->input);
    pinned_buffer_free(&sampling->staged);
    pinned_buffer_free(&sampling->read);
}
