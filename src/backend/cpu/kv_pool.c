/*
 * KV pages: one block of memory, [layer][page][K|V][kv_head][token][head_dim], in bf16 or f32. Writing
 * normalises q and k by head and rotates k; the page's memory is touched only where written.
 */
#include <string.h>

#include "backend/backend_check.h"
#include "base/mem.h"
#include "convert.h"
#include "cpu.h"

cento_status kv_pool_create(backend *self, const kv_pool_shape *shape, backend_kv_pool **result,
                            cento_error *error) {
    size_t elements;
    (void)self;
    TRY(kv_pool_elements(shape, &elements, error));
    backend_kv_pool *pool = mem_zalloc(1, sizeof *pool);
    if (pool == NULL)
        return error_memory(error, sizeof *pool);
    pool->shape = *shape;
    pool->element_bytes = kv_pool_element_bytes(shape);
    pool->bf16 = pool->element_bytes == sizeof(uint16_t);
    pool->data = large_alloc(elements * pool->element_bytes);
    if (pool->data == NULL) {
        mem_free(pool);
        return error_memory(error, elements * kv_pool_element_bytes(shape));
    }
    *result = pool;
    return CENTO_OK;
}

void kv_pool_free(backend *self, backend_kv_pool *pool) {
    (void)self;
    if (pool == NULL)
        return;
    mem_free(pool->data);
    mem_free(pool);
}

static void pool_put(const cpu_kernels *kernels, const backend_kv_pool *pool, const float *x, char *to) {
    if (pool->bf16)
        kernels->bf16_of_f32(x, pool->shape.head_dim, (uint16_t *)(void *)to);
    else
        memcpy(to, x, pool->shape.head_dim * sizeof(float));
}

/* Everything of one row: q normalised in place, k and v written to their slot. */
static void write_row(const cpu_backend *self, const attention_shape *shape, const float *cos_sin,
                      const float *q_norm, const float *k_norm, float *q, uint32_t slot, uint32_t layer,
                      backend_kv_pool *pool) {
    const cpu_kernels *kernels = self->kernels;
    uint32_t head_dim = shape->head_dim;
    uint32_t page = slot / pool->shape.page_tokens, token = slot % pool->shape.page_tokens;
    float *k = q + (size_t)shape->heads * head_dim, *v = k + (size_t)shape->kv_heads * head_dim;
    for (uint32_t head = 0; q_norm != NULL && head < shape->heads; head++)
        kernels->rmsnorm(q + (size_t)head * head_dim, head_dim, q_norm, shape->norm_epsilon,
                         q + (size_t)head * head_dim);
    for (uint32_t head = 0; head < shape->kv_heads; head++) {
        float *key = k + (size_t)head * head_dim;
        if (k_norm != NULL)
            kernels->rmsnorm(key, head_dim, k_norm, shape->norm_epsilon, key);
        rope_rotate(key, cos_sin, head_dim / 2, 1.0f, key);
        pool_put(kernels, pool, key, kv_pool_at(pool, layer, page, 0, head, token));
        pool_put(kernels, pool, v + (size_t)head * head_dim, kv_pool_at(pool, layer, page, 1, head, token));
    }
}

cento_status kv_pool_write(backend *base, const attention_shape *shape, const rope_table *rope, float *qkv,
                           uint32_t rows, const uint32_t *positions, const uint32_t *kv_slots,
                           const float *q_norm, const float *k_norm, backend_kv_pool *pool, uint32_t layer,
                           cento_error *error) {
    cpu_backend *self = cpu_of(base);
    TRY(backend_check_write_kv(shape, rows, kv_slots, &pool->shape, layer, error));
    TRY(scratch_reserve(&self->positions, rows * sizeof(int64_t), error));
    int64_t *rotations = self->positions.memory;
    for (uint32_t row = 0; row < rows; row++)
        rotations[row] = positions[row];
    TRY(rope_memo_fill(&self->key_rope, rope, shape->head_dim / 2, rotations, rows, self->threads, error));

    size_t width = ((size_t)shape->heads + 2 * shape->kv_heads) * shape->head_dim;
#pragma omp parallel for num_threads(self->threads) if (rows * width >= 32768)
    for (uint32_t row = 0; row < rows; row++)
        write_row(self, shape, rope_memo_cos_sin(&self->key_rope, row), q_norm, k_norm, qkv + row * width,
                  kv_slots[row], layer, pool);
    return CENTO_OK;
}

void kv_pool_get(const backend *self, const backend_kv_pool *pool, uint32_t layer, uint32_t slot, float *kv) {
    (void)self;
    const kv_pool_shape *held = &pool->shape;
    for (uint32_t part = 0; part < 2; part++)
        for (uint32_t head = 0; head < held->kv_heads; head++) {
            const char *from =
                kv_pool_at(pool, layer, slot / held->page_tokens, part, head, slot % held->page_tokens);
            for (uint32_t i = 0; i < held->head_dim; i++)
                *kv++ = tensor_element(from, pool->bf16 ? TENSOR_BF16 : TENSOR_F32, i);
        }
}

void kv_pool_set(backend *base, backend_kv_pool *pool, uint32_t layer, uint32_t slot, const float *kv) {
    const kv_pool_shape *held = &pool->shape;
    for (uint32_t part = 0; part < 2; part++)
        for (uint32_t head = 0; head < held->kv_heads; head++, kv += held->head_dim)
            pool_put(cpu_of(base)->kernels, pool, kv,
                     kv_pool_at(pool, layer, slot / held->page_tokens, part, head, slot % held->page_tokens));
}

cento_status kv_pool_copy(backend *self, backend_kv_pool *pool, uint32_t from_slot, uint32_t to_slot,
                          uint32_t token_count, cento_error *error) {
    (void)self;
    const kv_pool_shape *held = &pool->shape;
    uint32_t from_page = from_slot / held->page_tokens, from_token = from_slot % held->page_tokens;
    uint32_t to_page = to_slot / held->page_tokens, to_token = to_slot % held->page_tokens;
    TRY(backend_check_kv_copy(held, from_slot, to_slot, token_count, error));
    size_t bytes = (size_t)token_count * held->head_dim * pool->element_bytes;
    for (uint32_t layer = 0; layer < held->layers; layer++)
        for (uint32_t part = 0; part < 2; part++)
            for (uint32_t head = 0; head < held->kv_heads; head++)
                memmove(kv_pool_at(pool, layer, to_page, part, head, to_token),
                        kv_pool_at(pool, layer, from_page, part, head, from_token), bytes);
    return CENTO_OK;
}
