/*
 * KV pages on the device, laid out as on the CPU: [layer][page][K|V][kv_head][token][head_dim], in bf16 or
 * f32. A token's K and V of all heads of a layer are rows at equal distances, so that one 2D copy moves them.
 */
#include <string.h>

#include "backend/backend_check.h"
#include "backend/cpu/convert.h"
#include "base/mem.h"
#include "cuda.h"

cento_status cuda_pool_create(backend *base, const kv_pool_shape *shape, backend_kv_pool **result,
                              cento_error *error) {
    size_t elements;
    void *data = NULL;
    TRY(cuda_enter(cuda_of(base), error));
    TRY(kv_pool_elements(shape, &elements, error));
    TRY(device_buffer_reserve(cuda_of(base), &cuda_of(base)->attention_workspace, ATTENTION_WORKSPACE_BYTES,
                              "partial states of attention", error));
    backend_kv_pool *pool = mem_zalloc(1, sizeof *pool);
    if (pool == NULL)
        return error_memory(error, sizeof *pool);
    pool->shape = *shape;
    pool->element_bytes = kv_pool_element_bytes(shape);
    pool->bf16 = pool->element_bytes == sizeof(uint16_t);
    cento_status status = cuda_allocate(elements * pool->element_bytes, "the KV pool", &data, error);
    if (status != CENTO_OK) {
        mem_free(pool);
        return status;
    }
    pool->data = data;
    *result = pool;
    return CENTO_OK;
}

void cuda_pool_free(backend *self, backend_kv_pool *pool) {
    if (pool == NULL)
        return;
    cudaSetDevice(cuda_of(self)->device);
    cuda_of(self)->addresses++;
    cudaFree(pool->data);
    mem_free(pool);
}

cento_status cuda_pool_write(backend *base, const attention_shape *shape, const rope_table *rope, float *qkv,
                             uint32_t rows, const uint32_t *positions, const uint32_t *kv_slots,
                             const float *q_norm, const float *k_norm, backend_kv_pool *pool, uint32_t layer,
                             cento_error *error) {
    cuda_backend *self = cuda_of(base);
    const kv_pool_shape *held = &pool->shape;
    TRY(cuda_enter(self, error));
    bool of_pass = cuda_pass_array(self, kv_slots) != NULL;
    TRY(backend_check_write_kv(shape, of_pass ? 0 : rows, kv_slots, held, layer, error));
    if (rows == 0)
        return CENTO_OK;
    const void *device_positions, *device_slots;
    rows_kv_write call = {
        .qkv = qkv,
        .rows = rows,
        .heads = shape->heads,
        .kv_heads = shape->kv_heads,
        .head_dim = shape->head_dim,
        .page_tokens = held->page_tokens,
        .q_norm = q_norm,
        .k_norm = k_norm,
        .rope_factor = (float)rope->attention_factor,
        .epsilon = shape->norm_epsilon,
        .layer_pages = pool->data + layer * cuda_pool_layer_bytes(pool),
        .bf16 = pool->bf16,
    };
    TRY(cuda_turns(self, rope, shape->head_dim / 2, &call.turns, error));
    TRY(cuda_rows_array(self, &self->positions, positions, rows, &device_positions, error));
    TRY(cuda_rows_array(self, &self->slots, kv_slots, rows, &device_slots, error));
    call.positions = device_positions;
    call.slots = device_slots;
    cuda_copy_forget(self, qkv);
    CUDA_TRY(rows_write_kv(&call, cuda_lane_of(self)), error);
    return CENTO_OK;
}

cento_status cuda_pool_copy(backend *base, backend_kv_pool *pool, uint32_t from_slot, uint32_t to_slot,
                            uint32_t token_count, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    const kv_pool_shape *held = &pool->shape;
    TRY(cuda_enter(self, error));
    TRY(backend_check_kv_copy(held, from_slot, to_slot, token_count, error));
    if (token_count == 0 || from_slot == to_slot)
        return CENTO_OK;
    CUDA_TRY(rows_copy_kv(pool->data, held, held->head_dim * (uint32_t)pool->element_bytes, from_slot,
                          to_slot, token_count, self->stream),
             error);
    return CENTO_OK;
}

/* ------------------------------------------------------------------- single tokens, for tests ---- */

/* K and V of all heads of a token lie at equal distances. */
typedef struct token_rows {
    char *first;
    size_t row_bytes, pitch, rows;
} token_rows;

static token_rows token_at(const backend_kv_pool *pool, uint32_t layer, uint32_t slot) {
    const kv_pool_shape *held = &pool->shape;
    size_t row_bytes = held->head_dim * pool->element_bytes, pitch = held->page_tokens * row_bytes;
    size_t page_bytes = 2 * held->kv_heads * pitch;
    return (token_rows){
        .first = pool->data + layer * cuda_pool_layer_bytes(pool) + slot / held->page_tokens * page_bytes +
                 slot % held->page_tokens * row_bytes,
        .row_bytes = row_bytes,
        .pitch = pitch,
        .rows = 2 * (size_t)held->kv_heads,
    };
}

void cuda_pool_get(const backend *base, const backend_kv_pool *pool, uint32_t layer, uint32_t slot,
                   float *kv) {
    const cuda_backend *self = (const cuda_backend *)base;
    token_rows rows = token_at(pool, layer, slot);
    size_t count = rows.rows * pool->shape.head_dim;
    cudaSetDevice(self->device);
    if (cudaMemcpy2DAsync(kv, rows.row_bytes, rows.first, rows.pitch, rows.row_bytes, rows.rows,
                          cudaMemcpyDeviceToHost, self->stream) != cudaSuccess ||
        cudaStreamSynchronize(self->stream) != cudaSuccess) {
        memset(kv, 0xFF, count * sizeof *kv); /* NaN */
        return;
    }
    for (size_t i = count; pool->bf16 && i-- > 0;) /* widened in place, from behind */
        kv[i] = tensor_element(kv, TENSOR_BF16, i);
}

static cento_status token_set(cuda_backend *self, const backend_kv_pool *pool, uint32_t layer, uint32_t slot,
                              const float *kv, cento_error *error) {
    token_rows rows = token_at(pool, layer, slot);
    size_t count = rows.rows * pool->shape.head_dim;
    cuda_staging *staging = &self->staging;
    uint32_t part = staging->part;
    char *memory = staging->memory + (size_t)part * STAGING_PART_BYTES;
    TRY(cuda_enter(self, error));
    if (count * sizeof *kv > STAGING_PART_BYTES)
        return error_set(error, CENTO_UNSUPPORTED, "a token of %zu values is written as a whole", count);
    CUDA_TRY(cudaEventSynchronize(staging->done[part]), error);
    for (size_t i = 0; i < count && pool->bf16; i++)
        ((uint16_t *)(void *)memory)[i] = bf16_of_f32(kv[i]);
    if (!pool->bf16)
        memcpy(memory, kv, count * sizeof *kv);
    CUDA_TRY(cudaMemcpy2DAsync(rows.first, rows.pitch, memory, rows.row_bytes, rows.row_bytes, rows.rows,
                               cudaMemcpyHostToDevice, self->stream),
             error);
    CUDA_TRY(cudaEventRecord(staging->done[part], self->stream), error);
    staging->part = (part + 1) % STAGING_PARTS;
    return CENTO_OK;
}

void cuda_pool_set(backend *base, backend_kv_pool *pool, uint32_t layer, uint32_t slot, const float *kv) {
    cento_error error;
    cuda_remember(cuda_of(base), token_set(cuda_of(base), pool, layer, slot, kv, &error), &error);
}
