/*
 * A backend whose float memory is the host's, over one whose memory is a device's: tests that hand plain
 * arrays to a backend run on a GPU with it. Every operation copies what it reads to the device and what it
 * writes back, poison included; vectors stay there. Included by one test program each.
 */
#ifndef CENTO_TESTS_HOST_BACKEND_H
#define CENTO_TESTS_HOST_BACKEND_H

#include "support.h"

#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"

enum { HOST_VECTORS_MAX = 16 };

typedef struct host_backend {
    backend base;
    backend_ops ops;
    backend *device;
    struct {
        float *host, *device;
    } vectors[HOST_VECTORS_MAX];
} host_backend;

/* What the device's matrix does not say of itself. */
typedef struct host_matrix {
    backend_matrix *matrix;
    uint32_t rows, columns;
} host_matrix;

static inline host_backend *host_of(const backend *self) {
    return (host_backend *)(uintptr_t)self;
}

static inline const host_matrix *host_matrix_of(const backend_matrix *matrix) {
    return (const host_matrix *)(const void *)matrix;
}

/* The array on the device; `host_finish` takes it back. */
static inline float *host_begin(host_backend *self, const float *host, size_t count) {
    cento_error error;
    if (host == NULL)
        return NULL;
    for (int i = 0; i < HOST_VECTORS_MAX; i++)
        if (self->vectors[i].host == host)
            return self->vectors[i].device;
    float *memory = self->device->ops->alloc(self->device, count);
    assert_non_null(memory);
    ASSERT_OK(self->device->ops->write(self->device, memory, count, host, &error));
    return memory;
}

/* written: NULL, or where the contents go. */
static inline cento_status host_finish(host_backend *self, float *memory, float *written, size_t count,
                                       cento_error *error) {
    cento_status status = CENTO_OK;
    if (memory == NULL)
        return CENTO_OK;
    for (int i = 0; i < HOST_VECTORS_MAX; i++)
        if (self->vectors[i].device == memory)
            return CENTO_OK;
    if (written != NULL)
        status = self->device->ops->read(self->device, memory, count, written, error);
    self->device->ops->release(self->device, memory);
    return status;
}

static inline void host_destroy(backend *base) {
    host_backend *self = host_of(base);
    self->device->ops->destroy(self->device);
    free(self);
}

static inline const char *host_describe(const backend *self) {
    return host_of(self)->device->ops->describe(host_of(self)->device);
}

static inline const backend_counters *host_counters(const backend *self) {
    return host_of(self)->device->ops->counters(host_of(self)->device);
}

static inline float *host_alloc(backend *self, size_t count) {
    (void)self;
    return malloc(count * sizeof(float));
}

static inline void host_release(backend *base, float *memory) {
    host_backend *self = host_of(base);
    for (int i = 0; i < HOST_VECTORS_MAX; i++)
        if (self->vectors[i].host == memory) {
            self->device->ops->release(self->device, self->vectors[i].device);
            self->vectors[i].host = self->vectors[i].device = NULL;
        }
    free(memory);
}

static inline cento_status host_vector_create(backend *base, const tensor_view *parts, size_t part_count,
                                              float **vector, cento_error *error) {
    host_backend *self = host_of(base);
    size_t count = 0;
    int free_place = 0;
    while (self->vectors[free_place].host != NULL)
        assert_true(++free_place < HOST_VECTORS_MAX);
    for (size_t i = 0; i < part_count; i++)
        count += (size_t)parts[i].rows * parts[i].columns;
    float *made;
    TRY(self->device->ops->vector_create(self->device, parts, part_count, &made, error));
    *vector = malloc(count * sizeof(float));
    TRY(self->device->ops->read(self->device, made, count, *vector, error));
    self->vectors[free_place].host = *vector;
    self->vectors[free_place].device = made;
    return CENTO_OK;
}

static inline cento_status host_matrix_create(backend *base, const tensor_view *parts, size_t part_count,
                                              bool gather_rows, backend_matrix **matrix, cento_error *error) {
    host_backend *self = host_of(base);
    host_matrix made = {.columns = parts[0].columns};
    for (size_t i = 0; i < part_count; i++)
        made.rows += parts[i].rows;
    TRY(self->device->ops->matrix_create(self->device, parts, part_count, gather_rows, &made.matrix, error));
    host_matrix *kept = malloc(sizeof *kept);
    *kept = made;
    *matrix = (backend_matrix *)(void *)kept;
    return CENTO_OK;
}

static inline void host_matrix_free(backend *base, backend_matrix *matrix) {
    if (matrix == NULL)
        return;
    host_of(base)->device->ops->matrix_free(host_of(base)->device, host_matrix_of(matrix)->matrix);
    free(matrix);
}

static inline cento_status host_embed(backend *base, const backend_matrix *table, const int32_t *ids,
                                      uint32_t rows, float *x, cento_error *error) {
    host_backend *self = host_of(base);
    size_t count = (size_t)rows * host_matrix_of(table)->columns;
    float *to = host_begin(self, x, count);
    cento_status status =
        self->device->ops->embed(self->device, host_matrix_of(table)->matrix, ids, rows, to, error);
    cento_status finished = host_finish(self, to, x, count, status == CENTO_OK ? error : NULL);
    return status == CENTO_OK ? finished : status;
}

static inline cento_status host_matmul(backend *base, const backend_matrix *matrix, const float *x,
                                       uint32_t rows, const float *bias, bool accumulate, float *y,
                                       cento_error *error) {
    host_backend *self = host_of(base);
    const host_matrix *held = host_matrix_of(matrix);
    size_t count = (size_t)rows * held->rows;
    float *from = host_begin(self, x, (size_t)rows * held->columns), *to = host_begin(self, y, count);
    float *added = host_begin(self, bias, held->rows);
    cento_status status =
        self->device->ops->matmul(self->device, held->matrix, from, rows, added, accumulate, to, error);
    cento_status finished = host_finish(self, to, y, count, status == CENTO_OK ? error : NULL);
    host_finish(self, from, NULL, 0, NULL);
    host_finish(self, added, NULL, 0, NULL);
    return status == CENTO_OK ? finished : status;
}

static inline void host_rmsnorm(backend *base, const float *x, uint32_t rows, uint32_t width,
                                const float *weight, float epsilon, float *y) {
    cento_error error;
    host_backend *self = host_of(base);
    size_t count = (size_t)rows * width;
    float *from = host_begin(self, x, count), *to = host_begin(self, y, count);
    float *by = host_begin(self, weight, width);
    self->device->ops->rmsnorm(self->device, from, rows, width, by, epsilon, to);
    ASSERT_OK(host_finish(self, to, y, count, &error));
    host_finish(self, from, NULL, 0, NULL);
    host_finish(self, by, NULL, 0, NULL);
}

static inline void host_silu_mul(backend *base, const float *gate_up, uint32_t rows, uint32_t width,
                                 float *hidden) {
    cento_error error;
    host_backend *self = host_of(base);
    size_t count = (size_t)rows * width;
    float *from = host_begin(self, gate_up, 2 * count), *to = host_begin(self, hidden, count);
    self->device->ops->silu_mul(self->device, from, rows, width, to);
    ASSERT_OK(host_finish(self, to, hidden, count, &error));
    host_finish(self, from, NULL, 0, NULL);
}

static inline void host_gather(backend *base, const float *x, uint32_t width, const uint32_t *row_ids,
                               uint32_t count, float *y) {
    cento_error error;
    host_backend *self = host_of(base);
    uint32_t largest = 0;
    for (uint32_t i = 0; i < count; i++)
        largest = row_ids[i] > largest ? row_ids[i] : largest;
    float *from = host_begin(self, x, ((size_t)largest + 1) * width);
    float *to = host_begin(self, y, (size_t)count * width);
    self->device->ops->gather(self->device, from, width, row_ids, count, to);
    ASSERT_OK(host_finish(self, to, y, (size_t)count * width, &error));
    host_finish(self, from, NULL, 0, NULL);
}

static inline cento_status host_pool_create(backend *self, const kv_pool_shape *shape, backend_kv_pool **pool,
                                            cento_error *error) {
    return host_of(self)->device->ops->kv_pool_create(host_of(self)->device, shape, pool, error);
}

static inline void host_pool_free(backend *self, backend_kv_pool *pool) {
    host_of(self)->device->ops->kv_pool_free(host_of(self)->device, pool);
}

static inline uint64_t host_pool_bytes(const backend *self, const kv_pool_shape *shape) {
    return host_of(self)->device->ops->kv_pool_bytes(host_of(self)->device, shape);
}

static inline uint64_t host_memory_budget(const backend *self) {
    return host_of(self)->device->ops->memory_budget(host_of(self)->device);
}

static inline size_t host_qkv_count(const attention_shape *shape, uint32_t rows) {
    return (size_t)rows * (shape->heads + 2 * shape->kv_heads) * shape->head_dim;
}

static inline cento_status host_write_kv(backend *base, const attention_shape *shape, const rope_table *rope,
                                         float *qkv, uint32_t rows, const uint32_t *positions,
                                         const uint32_t *kv_slots, const float *q_norm, const float *k_norm,
                                         backend_kv_pool *pool, uint32_t layer, cento_error *error) {
    host_backend *self = host_of(base);
    size_t count = host_qkv_count(shape, rows);
    float *values = host_begin(self, qkv, count);
    float *q_by = host_begin(self, q_norm, shape->head_dim),
          *k_by = host_begin(self, k_norm, shape->head_dim);
    cento_status status = self->device->ops->write_kv(self->device, shape, rope, values, rows, positions,
                                                      kv_slots, q_by, k_by, pool, layer, error);
    cento_status finished = host_finish(self, values, qkv, count, status == CENTO_OK ? error : NULL);
    host_finish(self, q_by, NULL, 0, NULL);
    host_finish(self, k_by, NULL, 0, NULL);
    return status == CENTO_OK ? finished : status;
}

static inline cento_status host_attention(backend *base, const attention_shape *shape, const rope_table *rope,
                                          const float *qkv, uint32_t rows, const uint32_t *positions,
                                          const cascade_plan *plan, const backend_kv_pool *pool,
                                          uint32_t layer, float *out, cento_error *error) {
    host_backend *self = host_of(base);
    size_t count = (size_t)rows * shape->heads * shape->head_dim;
    float *values = host_begin(self, qkv, host_qkv_count(shape, rows)), *to = host_begin(self, out, count);
    cento_status status = self->device->ops->attention(self->device, shape, rope, values, rows, positions,
                                                       plan, pool, layer, to, error);
    cento_status finished = host_finish(self, to, out, count, status == CENTO_OK ? error : NULL);
    host_finish(self, values, NULL, 0, NULL);
    return status == CENTO_OK ? finished : status;
}

static inline uint32_t host_plan_tile_rows(const backend *self) {
    return host_of(self)->device->ops->plan_tile_rows(host_of(self)->device);
}

static inline uint32_t host_plan_workers(const backend *self) {
    return host_of(self)->device->ops->plan_workers(host_of(self)->device);
}

static inline cento_status host_plan_costs(backend *self, const attention_shape *shape,
                                           const backend_kv_pool *pool, plan_costs *costs,
                                           cento_error *error) {
    return host_of(self)->device->ops->plan_costs(host_of(self)->device, shape, pool, costs, error);
}

static inline cento_status host_kv_copy(backend *self, backend_kv_pool *pool, uint32_t from_slot,
                                        uint32_t to_slot, uint32_t token_count, cento_error *error) {
    return host_of(self)->device->ops->kv_copy(host_of(self)->device, pool, from_slot, to_slot, token_count,
                                               error);
}

static inline void host_kv_read(const backend *self, const backend_kv_pool *pool, uint32_t layer,
                                uint32_t slot, float *kv) {
    host_of(self)->device->ops->kv_read(host_of(self)->device, pool, layer, slot, kv);
}

static inline void host_kv_write(backend *self, backend_kv_pool *pool, uint32_t layer, uint32_t slot,
                                 const float *kv) {
    host_of(self)->device->ops->kv_write(host_of(self)->device, pool, layer, slot, kv);
}

static inline cento_status host_read(backend *self, const float *memory, size_t count, float *host,
                                     cento_error *error) {
    (void)self;
    (void)error;
    memcpy(host, memory, count * sizeof *host);
    return CENTO_OK;
}

static inline cento_status host_write(backend *self, float *memory, size_t count, const float *host,
                                      cento_error *error) {
    (void)self;
    (void)error;
    memcpy(memory, host, count * sizeof *host);
    return CENTO_OK;
}

/* Takes the device over. */
static inline backend *host_backend_over(backend *device) {
    host_backend *self = calloc(1, sizeof *self);
    self->ops = (backend_ops){
        .destroy = host_destroy,
        .describe = host_describe,
        .counters = host_counters,
        .alloc = host_alloc,
        .release = host_release,
        .matrix_create = host_matrix_create,
        .matrix_free = host_matrix_free,
        .vector_create = host_vector_create,
        .embed = host_embed,
        .matmul = host_matmul,
        .rmsnorm = host_rmsnorm,
        .silu_mul = host_silu_mul,
        .gather = host_gather,
        .kv_pool_create = host_pool_create,
        .kv_pool_free = host_pool_free,
        .kv_pool_bytes = host_pool_bytes,
        .memory_budget = host_memory_budget,
        .write_kv = host_write_kv,
        .attention = host_attention,
        .plan_tile_rows = host_plan_tile_rows,
        .plan_workers = host_plan_workers,
        .plan_costs = host_plan_costs,
        .kv_copy = host_kv_copy,
        .kv_read = host_kv_read,
        .kv_write = host_kv_write,
        .read = host_read,
        .write = host_write,
    };
    self->base.ops = &self->ops;
    self->device = device;
    return &self->base;
}

#endif
