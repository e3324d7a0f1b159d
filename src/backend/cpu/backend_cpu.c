/*
 * The CPU backend: its creation, its table of operations, and those of them that are a loop over rows.
 * Products are in gemm.c, KV pages in kv_pool.c, attention in attention.c; what depends on the instruction
 * set stands behind the table of kernels.h, chosen here once. Engine thread only.
 */
#include <stdio.h>
#include <string.h>

#include "attention_amx.h"
#include "backend/backend_check.h"
#include "base/mem.h"
#include "convert.h"
#include "cpu.h"
#include "gemm_onednn.h"

#define THREADS_MAX     1024
#define SERIAL_ELEMENTS 16384 /* below this a row operation is not worth waking threads for */

cento_status scratch_reserve(scratch *area, size_t bytes, cento_error *error) {
    if (bytes <= area->bytes)
        return CENTO_OK;
    size_t grown = bytes < area->bytes + area->bytes / 2 ? area->bytes + area->bytes / 2 : bytes;
    void *memory = mem_alloc_aligned(grown);
    if (memory == NULL)
        return error_memory(error, grown);
    mem_free(area->memory);
    area->memory = memory;
    area->bytes = grown;
    return CENTO_OK;
}

void scratch_free(scratch *area) {
    mem_free(area->memory);
    *area = (scratch){0};
}

static void destroy(backend *base) {
    cpu_backend *self = cpu_of(base);
    rope_memo_free(&self->key_rope);
    rope_memo_free(&self->query_rope);
    scratch_free(&self->packed_rows);
    scratch_free(&self->positions);
    scratch_free(&self->attention_tables);
    scratch_free(&self->attention_work);
    onednn_free(self->onednn);
    mem_free(self);
}

static const char *describe(const backend *self) {
    return ((const cpu_backend *)self)->description;
}

static const backend_counters *counters(const backend *self) {
    return &((const cpu_backend *)self)->counters;
}

static float *alloc(backend *self, size_t count) {
    (void)self;
    return count > SIZE_MAX / 8 ? NULL : mem_alloc_aligned(count * sizeof(float));
}

static void release(backend *self, float *memory) {
    (void)self;
    mem_free(memory);
}

static cento_status vector_create(backend *base, const tensor_view *parts, size_t part_count, float **vector,
                                  cento_error *error) {
    size_t count = 0;
    for (size_t i = 0; i < part_count; i++)
        count += (size_t)parts[i].rows * parts[i].columns;
    float *values = alloc(base, count), *next = values;
    if (values == NULL)
        return error_memory(error, count * sizeof(float));
    for (size_t i = 0; i < part_count; i++)
        for (size_t j = 0; j < (size_t)parts[i].rows * parts[i].columns; j++)
            *next++ = parts[i].data != NULL ? tensor_element(parts[i].data, parts[i].dtype, j) : 1.0f;
    cpu_of(base)->counters.weight_bytes += count * sizeof(float);
    *vector = values;
    return CENTO_OK;
}

static void rmsnorm(backend *base, const float *x, uint32_t rows, uint32_t width, const float *weight,
                    float epsilon, float *y) {
    const cpu_backend *self = cpu_of(base);
#pragma omp parallel for num_threads(self->threads) if ((size_t)rows * width >= SERIAL_ELEMENTS)
    for (uint32_t row = 0; row < rows; row++)
        self->kernels->rmsnorm(x + (size_t)row * width, width, weight, epsilon, y + (size_t)row * width);
}

static void silu_mul(backend *base, const float *gate_up, uint32_t rows, uint32_t hidden_width,
                     float *hidden) {
    const cpu_backend *self = cpu_of(base);
#pragma omp parallel for num_threads(self->threads) if ((size_t)rows * hidden_width >= SERIAL_ELEMENTS)
    for (uint32_t row = 0; row < rows; row++) {
        const float *gate = gate_up + (size_t)row * 2 * hidden_width;
        self->kernels->silu_mul(gate, gate + hidden_width, hidden_width, hidden + (size_t)row * hidden_width);
    }
}

static void gather(backend *self, const float *x, uint32_t width, const uint32_t *row_ids, uint32_t count,
                   float *y) {
    (void)self;
    for (uint32_t i = 0; i < count; i++)
        memmove(y + (size_t)i * width, x + (size_t)row_ids[i] * width, width * sizeof *y);
}

static cento_status read_back(backend *self, const float *memory, size_t count, float *host,
                              cento_error *error) {
    (void)self;
    (void)error;
    memcpy(host, memory, count * sizeof *host);
    return CENTO_OK;
}

static cento_status write_in(backend *self, float *memory, size_t count, const float *host,
                             cento_error *error) {
    (void)self;
    (void)error;
    memcpy(memory, host, count * sizeof *host);
    return CENTO_OK;
}

static uint64_t memory_budget(const backend *self) {
    (void)self;
    return 0;
}

static uint32_t plan_workers(const backend *self) {
    return (uint32_t)((const cpu_backend *)self)->threads;
}

static const backend_ops cpu_ops = {
    .destroy = destroy,
    .describe = describe,
    .counters = counters,
    .alloc = alloc,
    .release = release,
    .matrix_create = gemm_matrix_create,
    .matrix_free = gemm_matrix_free,
    .vector_create = vector_create,
    .embed = gemm_embed,
    .matmul = gemm_matmul,
    .rmsnorm = rmsnorm,
    .silu_mul = silu_mul,
    .gather = gather,
    .kv_pool_create = kv_pool_create,
    .kv_pool_free = kv_pool_free,
    .kv_pool_bytes = kv_pool_bytes,
    .memory_budget = memory_budget,
    .write_kv = kv_pool_write,
    .attention = attention_run,
    .plan_tile_rows = attention_tile_rows,
    .plan_workers = plan_workers,
    .plan_costs = attention_costs,
    .kv_copy = kv_pool_copy,
    .kv_read = kv_pool_get,
    .kv_write = kv_pool_set,
    .read = read_back,
    .write = write_in,
};

cento_status backend_cpu_create(const backend_options *options, backend **result, cento_error *error) {
    const cpu_kernels *kernels;
    /* "onednn": the best kernels, and oneDNN for products of many rows even where there is no AMX (to
     * measure) */
    bool onednn_wanted = options->isa != NULL && strcmp(options->isa, "onednn") == 0;
    bool amx_wanted = options->isa != NULL && strcmp(options->isa, "amx") == 0;
    TRY(isa_choose(onednn_wanted || amx_wanted ? NULL : options->isa, &kernels, error));
    if (options->threads > THREADS_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%u threads; at most %d are possible",
                         options->threads, THREADS_MAX);
    cpu_backend *self = mem_zalloc(1, sizeof *self);
    if (self == NULL)
        return error_memory(error, sizeof *self);
    self->base.ops = &cpu_ops;
    self->compute_dtype = options->compute_dtype;
    self->threads = options->threads > 0 ? (int)options->threads : isa_core_count();
    self->kernels = kernels;
    if (options->isa == NULL || amx_wanted)
        self->attention_amx = attention_amx();
    if (amx_wanted && self->attention_amx == NULL) {
        mem_free(self);
        return error_set(error, CENTO_UNSUPPORTED, "no tile registers (AMX) for bf16 on this machine");
    }
    if ((options->isa == NULL || onednn_wanted) && !options->deterministic)
        self->onednn = onednn_create(self, onednn_wanted);
    bool noted = options->note != NULL;
    snprintf(self->description, sizeof self->description, "cpu %s%s%s, %d thread%s%s%s%s", kernels->name,
             self->attention_amx != NULL ? " + AMX" : "", self->onednn != NULL ? " + oneDNN" : "",
             self->threads, self->threads == 1 ? "" : "s", noted ? " (" : "", noted ? options->note : "",
             noted ? ")" : "");
    *result = &self->base;
    return CENTO_OK;
}
