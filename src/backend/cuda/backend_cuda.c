/*
 * The CUDA backend: finding a device, the table of operations, and those of them that are one launch.
 * Products are in cuda_products.c, KV pages in cuda_pool.c, attention in cuda_attention.c, kernels in *.cu.
 *
 * Nothing here ends the process: no driver, no device, no memory and failed launches are statuses. An
 * operation that returns nothing leaves its failure for the next one that returns a status; a failure of the
 * kind that ends a CUDA context (an illegal address, ECC) comes back from every call after it.
 */
#include <stdio.h>
#include <string.h>

#include "backend/backend_check.h"
#include "backend/cpu/convert.h"
#include "base/mem.h"
#include "cuda.h"

enum { COMPUTE_MAJOR_MIN = 8, COUNTERS = 1 << 16 };
#define MEMORY_SHARE_DEFAULT 0.9

/* --------------------------------------------------------------------------- failures ------- */

void cuda_remember(cuda_backend *self, cento_status status, const cento_error *error) {
    if (status != CENTO_OK && self->failed == CENTO_OK) {
        self->failed = status;
        self->failure = *error;
    }
}

cento_status cuda_enter(cuda_backend *self, cento_error *error) {
    if (self->failed != CENTO_OK) {
        cento_status status = self->failed;
        self->failed = CENTO_OK;
        return error_set(error, status, "%s", self->failure.message);
    }
    CUDA_TRY(cudaSetDevice(self->device), error);
    return CENTO_OK;
}

/* For operations that return nothing: false if there is nothing to do but to report what failed before. */
static bool enter_quietly(cuda_backend *self) {
    cento_error error;
    cento_status status = cuda_enter(self, &error);
    cuda_remember(self, status, &error);
    return status == CENTO_OK;
}

static void remember_code(cuda_backend *self, cudaError_t code, const char *call) {
    cento_error error;
    if (code != cudaSuccess)
        cuda_remember(self, cuda_error(code, call, &error), &error);
}

/* ------------------------------------------------------------------ the copy in bf16 --------- */

void cuda_copy_forget(cuda_backend *self, const float *x) {
    for (uint32_t i = 0; i < BF16_COPIES; i++)
        if (self->copies[i].of == x)
            self->copies[i].of = NULL;
}

cento_status cuda_copy_begin(cuda_backend *self, const float *x, uint32_t rows, uint32_t width, void **result,
                             cento_error *error) {
    *result = NULL;
    cuda_copy_forget(self, x);
    if (self->compute_dtype != CENTO_DTYPE_BF16)
        return CENTO_OK;
    bf16_copy *copy = &self->copies[self->copy_next];
    copy->of = NULL;
    TRY(device_buffer_reserve(self, &copy->memory, (size_t)rows * round_up_8(width) * 2,
                              "activations in bf16", error));
    copy->of = x;
    copy->rows = rows;
    copy->width = width;
    self->copy_next = (self->copy_next + 1) % BF16_COPIES;
    *result = copy->memory.memory;
    return CENTO_OK;
}

const void *cuda_copy_find(const cuda_backend *self, const float *x, uint32_t rows, uint32_t width) {
    for (uint32_t i = 0; i < BF16_COPIES; i++) {
        const bf16_copy *copy = &self->copies[i];
        if (copy->of == NULL || copy->width != width || x < copy->of)
            continue;
        size_t ahead = (size_t)(x - copy->of);
        if (ahead % width == 0 && ahead / width + rows <= copy->rows)
            return (const char *)copy->memory.memory + ahead / width * round_up_8(width) * 2;
    }
    return NULL;
}

/* ------------------------------------------------------------------------- operations ------- */

static void destroy(backend *base) {
    cuda_backend *self = cuda_of(base);
    cudaSetDevice(self->device);
    if (self->stream != NULL)
        cudaStreamSynchronize(self->stream);
    cuda_pass_free(&self->pass);
    products_free(self->lt);
    cuda_attention_close(self);
    plan_store_free(&self->plans);
    cuda_sampling_free(&self->sampling);
    schedule_store_free(&self->schedules);
    cuda_staging_free(&self->staging);
    cuda_upload *uploads[] = {&self->ids, &self->positions, &self->slots, &self->row_ids};
    for (size_t i = 0; i < sizeof uploads / sizeof *uploads; i++)
        cuda_upload_free(uploads[i]);
    device_buffer_free(&self->turns);
    device_buffer_free(&self->attention_workspace);
    device_buffer_free(&self->counters_memory);
    for (uint32_t i = 0; i < BF16_COPIES; i++)
        device_buffer_free(&self->copies[i].memory);
    mem_free(self->inv_freq);
    if (self->stream != NULL)
        cudaStreamDestroy(self->stream);
    mem_free(self);
}

static const char *describe(const backend *self) {
    return ((const cuda_backend *)self)->description;
}

static const backend_counters *counters(const backend *self) {
    return &((const cuda_backend *)self)->counters;
}

static float *alloc(backend *base, size_t count) {
    cuda_backend *self = cuda_of(base);
    void *memory = NULL;
    cento_error error;
    if (count > SIZE_MAX / 8 || !enter_quietly(self))
        return NULL;
    cento_status status = cuda_allocate(count * sizeof(float), "activations", &memory, &error);
    /* room for its copy in bf16, too, so that no step has to make it */
    for (uint32_t i = 0; i < BF16_COPIES && self->compute_dtype == CENTO_DTYPE_BF16; i++) {
        bf16_copy *copy = &self->copies[i];
        if (count * 2 > copy->memory.bytes)
            copy->of = NULL; /* what it holds is lost when it grows */
        if (status == CENTO_OK)
            status = device_buffer_reserve(self, &copy->memory, count * 2, "activations in bf16", &error);
    }
    if (status != CENTO_OK) {
        cuda_remember(self, status, &error);
        cudaFree(memory);
        return NULL;
    }
    return memory;
}

static void release(backend *base, float *memory) {
    cuda_backend *self = cuda_of(base);
    cudaSetDevice(self->device);
    cuda_copy_forget(self, memory);
    self->addresses++;
    cudaFree(memory); /* waits for what uses it */
}

/* Through host memory in f32. */
static cento_status vector_fill(cuda_backend *self, const tensor_view *parts, size_t part_count, size_t count,
                                float *vector, cento_error *error) {
    float *values = mem_alloc(count, sizeof *values), *next = values;
    if (values == NULL)
        return error_memory(error, count * sizeof *values);
    for (size_t i = 0; i < part_count; i++)
        for (size_t j = 0; j < (size_t)parts[i].rows * parts[i].columns; j++)
            *next++ = parts[i].data != NULL ? tensor_element(parts[i].data, parts[i].dtype, j) : 1.0f;
    cento_status status = cuda_stage(self, vector, values, count * sizeof *values, error);
    mem_free(values);
    return status;
}

static cento_status vector_create(backend *base, const tensor_view *parts, size_t part_count, float **vector,
                                  cento_error *error) {
    cuda_backend *self = cuda_of(base);
    size_t count = 0;
    void *memory = NULL;
    TRY(cuda_enter(self, error));
    for (size_t i = 0; i < part_count; i++)
        count += (size_t)parts[i].rows * parts[i].columns;
    TRY(cuda_allocate(count * sizeof(float), "a vector of weights", &memory, error));
    cento_status status = vector_fill(self, parts, part_count, count, memory, error);
    if (status != CENTO_OK) {
        cudaFree(memory);
        return status;
    }
    self->counters.weight_bytes += count * sizeof(float);
    *vector = memory;
    return CENTO_OK;
}

static cento_status embed(backend *base, const backend_matrix *table, const int32_t *ids, uint32_t rows,
                          float *x, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    const void *uploaded;
    TRY(cuda_enter(self, error));
    bool of_pass = cuda_pass_array(self, ids) != NULL;
    TRY(backend_check_ids(ids, of_pass ? self->pass.batch.rows : rows, table->rows, error));
    if (rows == 0)
        return CENTO_OK;
    TRY(cuda_rows_array(self, &self->ids, ids, rows, &uploaded, error));
    cuda_copy_forget(self, x);
    CUDA_TRY(rows_embed(table->data, table->bf16, table->stride, uploaded, rows, table->columns, x,
                        cuda_lane_of(self)),
             error);
    self->counters.forward_tokens += of_pass ? 0 : rows; /* counted by the pass */
    return CENTO_OK;
}

static void rmsnorm(backend *base, const float *x, uint32_t rows, uint32_t width, const float *weight,
                    float epsilon, float *y) {
    cuda_backend *self = cuda_of(base);
    cento_error error;
    void *copy;
    if (rows == 0 || !enter_quietly(self))
        return;
    cento_status status = cuda_copy_begin(self, y, rows, width, &copy, &error);
    cuda_remember(self, status, &error);
    if (status == CENTO_OK)
        remember_code(self,
                      rows_rmsnorm(x, rows, width, weight, epsilon, self->pass.active && copy ? NULL : y,
                                   copy, cuda_lane_of(self)),
                      "rmsnorm");
}

static void silu_mul(backend *base, const float *gate_up, uint32_t rows, uint32_t hidden_width,
                     float *hidden) {
    cuda_backend *self = cuda_of(base);
    cento_error error;
    void *copy;
    if (rows == 0 || !enter_quietly(self))
        return;
    cento_status status = cuda_copy_begin(self, hidden, rows, hidden_width, &copy, &error);
    cuda_remember(self, status, &error);
    if (status == CENTO_OK)
        remember_code(self,
                      rows_silu_mul(gate_up, rows, hidden_width, self->pass.active && copy ? NULL : hidden,
                                    copy, cuda_lane_of(self)),
                      "silu_mul");
}

static void gather(backend *base, const float *x, uint32_t width, const uint32_t *row_ids, uint32_t count,
                   float *y) {
    cuda_backend *self = cuda_of(base);
    cento_error error;
    const void *uploaded;
    if (count == 0 || !enter_quietly(self))
        return;
    cento_status status =
        cuda_upload_array(self, &self->row_ids, row_ids, count * sizeof *row_ids, &uploaded, &error);
    cuda_remember(self, status, &error);
    cuda_copy_forget(self, y);
    if (status == CENTO_OK)
        remember_code(self, rows_gather(x, width, uploaded, count, y, cuda_lane_of(self)), "gather");
}

static cento_status read_back(backend *base, const float *memory, size_t count, float *host,
                              cento_error *error) {
    cuda_backend *self = cuda_of(base);
    TRY(cuda_enter(self, error));
    CUDA_TRY(cudaMemcpyAsync(host, memory, count * sizeof *host, cudaMemcpyDeviceToHost, self->stream),
             error);
    CUDA_TRY(cudaStreamSynchronize(self->stream), error);
    return CENTO_OK;
}

static cento_status write_in(backend *base, float *memory, size_t count, const float *host,
                             cento_error *error) {
    cuda_backend *self = cuda_of(base);
    TRY(cuda_enter(self, error));
    cuda_copy_forget(self, memory);
    return cuda_stage(self, memory, host, count * sizeof *host, error);
}

static uint64_t memory_budget(const backend *base) {
    const cuda_backend *self = (const cuda_backend *)base;
    size_t available = 0, total = 0;
    cudaSetDevice(self->device);
    if (cudaMemGetInfo(&available, &total) != cudaSuccess) {
        cudaGetLastError();
        return 1; /* nothing fits: the pool's own allocation then says what is wrong */
    }
    double spared = (1.0 - self->memory_share) * (double)total;
    if (self->attention_workspace.bytes < ATTENTION_WORKSPACE_BYTES) /* comes with the pool */
        spared += (double)(ATTENTION_WORKSPACE_BYTES - self->attention_workspace.bytes);
    return (double)available <= spared ? 1 : (uint64_t)((double)available - spared);
}

static uint32_t plan_tile_rows(const backend *self) {
    (void)self;
    return 128;
}

static uint32_t plan_workers(const backend *self) {
    return (uint32_t)((const cuda_backend *)self)->multiprocessors;
}

static const backend_ops cuda_ops = {
    .destroy = destroy,
    .describe = describe,
    .counters = counters,
    .alloc = alloc,
    .release = release,
    .matrix_create = products_matrix_create,
    .matrix_free = products_matrix_free,
    .vector_create = vector_create,
    .batch_begin = cuda_pass_begin,
    .batch_end = cuda_pass_end,
    .embed = embed,
    .matmul = products_matmul,
    .matmul_silu = products_matmul_silu,
    .rmsnorm = rmsnorm,
    .silu_mul = silu_mul,
    .gather = gather,
    .sample = cuda_sample,
    .kv_pool_create = cuda_pool_create,
    .kv_pool_free = cuda_pool_free,
    .kv_pool_bytes = kv_pool_bytes,
    .memory_budget = memory_budget,
    .write_kv = cuda_pool_write,
    .attention = cuda_pass_attention,
    .plan_tile_rows = plan_tile_rows,
    .plan_workers = plan_workers,
    .plan_costs = cuda_attention_costs,
    .kv_copy = cuda_pool_copy,
    .kv_read = cuda_pool_get,
    .kv_write = cuda_pool_set,
    .read = read_back,
    .write = write_in,
    .measure = &cuda_measure,
};

/* --------------------------------------------------------------------------- making one ------ */

static cento_status find_device(int wanted, cento_error *error) {
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaErrorInsufficientDriver || code == cudaErrorStubLibrary) {
        int driver = 0, runtime = 0;
        cudaGetLastError();
        cudaDriverGetVersion(&driver);
        cudaRuntimeGetVersion(&runtime);
        return driver == 0 ? error_set(error, CENTO_UNSUPPORTED, "no NVIDIA driver is installed")
                           : error_set(error, CENTO_UNSUPPORTED,
                                       "the NVIDIA driver is for CUDA %d.%d, %d.%d is needed", driver / 1000,
                                       driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0)) {
        cudaGetLastError();
        return error_set(error, CENTO_UNSUPPORTED, "there is no NVIDIA GPU");
    }
    CUDA_TRY(code, error);
    if (wanted >= count)
        return error_set(error, CENTO_UNSUPPORTED, "GPU %d: there %s %d, counted from 0", wanted,
                         count == 1 ? "is only" : "are only", count);
    return CENTO_OK;
}

static cento_status read_properties(cuda_backend *self, char *name, size_t name_bytes, cento_error *error) {
    struct cudaDeviceProp properties;
    int clock_khz = 0, bus_bits = 0;
    CUDA_TRY(cudaGetDeviceProperties(&properties, self->device), error);
    self->major = properties.major;
    self->minor = properties.minor;
    self->multiprocessors = properties.multiProcessorCount;
    snprintf(name, name_bytes, "%.*s", (int)name_bytes - 1, properties.name);
    if (self->major < COMPUTE_MAJOR_MIN)
        return error_set(error, CENTO_UNSUPPORTED,
                         "GPU %d, %s, has compute capability %d.%d; %d.0 or newer is needed", self->device,
                         name, self->major, self->minor, COMPUTE_MAJOR_MIN);
    if (cudaDeviceGetAttribute(&clock_khz, cudaDevAttrMemoryClockRate, self->device) != cudaSuccess ||
        cudaDeviceGetAttribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, self->device) != cudaSuccess)
        cudaGetLastError();
    self->bytes_per_ns = 2.0 * clock_khz * 1e3 * bus_bits / 8.0 / 1e9;
    if (!(self->bytes_per_ns > 1.0))
        self->bytes_per_ns = 1000.0;
    return CENTO_OK;
}

static cento_status open_device(cuda_backend *self, cento_error *error) {
    char name[256];
    void *memory = NULL;
    TRY(find_device(self->device, error));
    CUDA_TRY(cudaSetDevice(self->device), error);
    TRY(read_properties(self, name, sizeof name, error));
    CUDA_TRY(cudaStreamCreateWithFlags(&self->stream, cudaStreamNonBlocking), error);
    TRY(cuda_staging_create(&self->staging, error));
    TRY(cuda_allocate(COUNTERS * sizeof(uint32_t), "counters", &memory, error));
    self->counters_memory = (device_buffer){memory, COUNTERS * sizeof(uint32_t)};
    CUDA_TRY(cudaMemsetAsync(memory, 0, self->counters_memory.bytes, self->stream), error);
    TRY(products_create(self, error));
    CUDA_TRY(products_few_prepare(), error);
    CUDA_TRY(rows_prepare(), error);
    self->few_rows = self->deterministic || self->compute_dtype != CENTO_DTYPE_BF16 ? 0 : PRODUCTS_FEW_ROWS;
    CUDA_TRY(cudaStreamSynchronize(self->stream), error);
    uint32_t version = products_version(self->lt);
    snprintf(self->description, sizeof self->description, "cuda %.80s, sm_%d%d, cuBLASLt %u.%u", name,
             self->major, self->minor, version / 10000, version / 100 % 100);
    return CENTO_OK;
}

cento_status backend_cuda_create(int device, const backend_options *options, backend **result,
                                 cento_error *error) {
    cuda_backend *self = mem_zalloc(1, sizeof *self);
    if (self == NULL)
        return error_memory(error, sizeof *self);
    self->base.ops = &cuda_ops;
    self->device = device;
    self->compute_dtype = options->compute_dtype;
    self->deterministic = options->deterministic;
    self->memory_share = options->memory_share > 0 ? options->memory_share : MEMORY_SHARE_DEFAULT;
    cento_status status = open_device(self, error);
    if (status == CENTO_OK)
        status = cuda_attention_open(self, options->attention, error);
    if (status != CENTO_OK) {
        destroy(&self->base);
        return status;
    }
    *result = &self->base;
    return CENTO_OK;
}
