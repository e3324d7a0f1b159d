/*
 * The CPU backend: fills in backend.h with plain loops over OpenMP threads. Engine thread only.
 */
#include <math.h>
#include <omp.h>
#include <stdio.h>

#include "backend/backend.h"
#include "base/mem.h"
#include "convert.h"

typedef struct cpu_backend {
    backend base;
    cento_dtype compute_dtype;
    int threads;
    backend_counters counters;
    char description[64];
} cpu_backend;

struct backend_matrix {
    uint32_t rows, columns;
    size_t bytes;
    bool bf16;
    void *data; /* (rows, columns) */
};

struct backend_kv_pool {
    kv_pool_shape shape;
    bool bf16;
    void *data; /* [layer][page][K|V][kv_head][token][head_dim] */
};

static cpu_backend *cpu(backend *self) {
    return (cpu_backend *)self;
}

static void backend_destroy(backend *self) {
    mem_free(self);
}

static const char *backend_describe(const backend *self) {
    return ((const cpu_backend *)self)->description;
}

static const backend_counters *backend_count(const backend *self) {
    return &((const cpu_backend *)self)->counters;
}

static float *backend_alloc(backend *self, size_t count) {
    (void)self;
    return count > SIZE_MAX / sizeof(float) ? NULL : mem_alloc_aligned(count * sizeof(float));
}

static void backend_release(backend *self, float *memory) {
    (void)self;
    mem_free(memory);
}

static uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void stored_put(void *data, bool bf16, size_t index, float value) {
    if (bf16)
        ((uint16_t *)data)[index] = bf16_of_f32(value);
    else
        ((float *)data)[index] = value;
}

static float stored_get(const void *data, bool bf16, size_t index) {
    return bf16 ? f32_of_bf16(((const uint16_t *)data)[index]) : ((const float *)data)[index];
}

static cento_status matrix_create(backend *self, const tensor_view *parts, size_t part_count,
                                  bool gather_rows, backend_matrix **result, cento_error *error) {
    (void)gather_rows;
    uint64_t rows = 0;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].columns != parts[0].columns)
            return error_set(error, CENTO_INVALID_ARGUMENT, "stacked matrices have %u and %u columns",
                             parts[0].columns, parts[i].columns);
        rows += parts[i].rows;
    }
    if (part_count == 0 || rows == 0 || rows > UINT32_MAX || parts[0].columns == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "an empty or oversized matrix");
    backend_matrix *matrix = mem_zalloc(1, sizeof *matrix);
    if (matrix == NULL)
        return error_memory(error, sizeof *matrix);
    matrix->rows = (uint32_t)rows;
    matrix->columns = parts[0].columns;
    matrix->bf16 = cpu(self)->compute_dtype == CENTO_DTYPE_BF16;
    matrix->bytes = (size_t)rows * matrix->columns * (matrix->bf16 ? 2 : 4);
    matrix->data = mem_alloc_aligned(matrix->bytes);
    if (matrix->data == NULL) {
        mem_free(matrix);
        return error_memory(error, (size_t)rows * parts[0].columns * 2);
    }
    size_t base = 0;
    for (size_t i = 0; i < part_count; i++) {
        const tensor_view *part = &parts[i];
#pragma omp parallel for num_threads(cpu(self)->threads)
        for (uint32_t row = 0; row < part->rows; row++) {
            uint64_t state = 0x9E3779B97F4A7C15u * (base + row + 1);
            float spread = 3.46f / sqrtf((float)part->columns);
            for (uint32_t column = 0; column < part->columns; column++) {
                size_t index = (size_t)row * part->columns + column;
                float value = part->data != NULL
                                  ? tensor_element(part->data, part->dtype, index)
                                  : ((float)(random_next(&state) >> 40) * 0x1p-24f - 0.5f) * spread;
                stored_put(matrix->data, matrix->bf16, base * matrix->columns + index, value);
            }
        }
        base += part->rows;
    }
    cpu(self)->counters.weight_bytes += matrix->bytes;
    *result = matrix;
    return CENTO_OK;
}

static void matrix_free(backend *self, backend_matrix *matrix) {
    if (matrix == NULL)
        return;
    cpu(self)->counters.weight_bytes -= matrix->bytes;
    mem_free(matrix->data);
    mem_free(matrix);
}

static cento_status vector_create(backend *self, const tensor_view *parts, size_t part_count, float **vector,
                                  cento_error *error) {
    size_t count = 0;
    for (size_t i = 0; i < part_count; i++)
        count += (size_t)parts[i].rows * parts[i].columns;
    float *values = backend_alloc(self, count);
    if (values == NULL)
        return error_memory(error, count * sizeof(float));
    size_t base = 0;
    for (size_t i = 0; i < part_count; i++) {
        size_t part_elements = (size_t)parts[i].rows * parts[i].columns;
        for (size_t j = 0; j < part_elements; j++)
            values[base + j] =
                parts[i].data != NULL ? tensor_element(parts[i].data, parts[i].dtype, j) : 1.0f;
        base += part_elements;
    }
    cpu(self)->counters.weight_bytes += count * sizeof(float);
    *vector = values;
    return CENTO_OK;
}

static cento_status embed(backend *self, const backend_matrix *table, const int32_t *ids, uint32_t rows,
                          float *x, cento_error *error) {
    for (uint32_t row = 0; row < rows; row++) {
        if (ids[row] < 0 || (uint32_t)ids[row] >= table->rows)
            return error_set(error, CENTO_INVALID_ARGUMENT, "token id %d is outside of the %u embeddings",
                             (int)ids[row], table->rows);
        for (uint32_t column = 0; column < table->columns; column++)
            x[(size_t)row * table->columns + column] =
                stored_get(table->data, table->bf16, (size_t)ids[row] * table->columns + column);
    }
    cpu(self)->counters.forward_tokens += rows;
    return CENTO_OK;
}

static float dot_row(const backend_matrix *matrix, uint32_t row, const float *x) {
    uint32_t columns = matrix->columns;
    float sum = 0.0f;
    if (matrix->bf16) {
        const uint16_t *weights = (const uint16_t *)matrix->data + (size_t)row * columns;
#pragma omp simd reduction(+ : sum)
        for (uint32_t k = 0; k < columns; k++)
            sum += f32_of_bf16(weights[k]) * x[k];
    } else {
        const float *weights = (const float *)matrix->data + (size_t)row * columns;
#pragma omp simd reduction(+ : sum)
        for (uint32_t k = 0; k < columns; k++)
            sum += weights[k] * x[k];
    }
    return sum;
}

static cento_status matmul(backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                           const float *bias, bool accumulate, float *y, cento_error *error) {
    (void)error;
#pragma omp parallel for num_threads(cpu(self)->threads)
    for (uint32_t n = 0; n < matrix->rows; n++)
        for (uint32_t row = 0; row < rows; row++) {
            float *out = &y[(size_t)row * matrix->rows + n];
            float start = (bias != NULL ? bias[n] : 0.0f) + (accumulate ? *out : 0.0f);
            *out = start + dot_row(matrix, n, x + (size_t)row * matrix->columns);
        }
    return CENTO_OK;
}

static void rmsnorm_row(const float *x, uint32_t width, const float *weight, float epsilon, float *y) {
    double sum = 0.0;
    for (uint32_t i = 0; i < width; i++)
        sum += (double)x[i] * x[i];
    float factor = (float)(1.0 / sqrt(sum / width + (double)epsilon));
    for (uint32_t i = 0; i < width; i++)
        y[i] = x[i] * factor * weight[i];
}

static void rmsnorm(backend *self, const float *x, uint32_t rows, uint32_t width, const float *weight,
                    float epsilon, float *y) {
    (void)self;
    for (uint32_t row = 0; row < rows; row++)
        rmsnorm_row(x + (size_t)row * width, width, weight, epsilon, y + (size_t)row * width);
}

static void silu_mul(backend *self, const float *gate_up, uint32_t rows, uint32_t hidden_width,
                     float *hidden) {
#pragma omp parallel for num_threads(cpu(self)->threads)
    for (uint32_t row = 0; row < rows; row++) {
        const float *gate = gate_up + (size_t)row * 2 * hidden_width;
        for (uint32_t i = 0; i < hidden_width; i++)
            hidden[(size_t)row * hidden_width + i] =
                gate[i] / (1.0f + expf(-gate[i])) * gate[hidden_width + i];
    }
}

static void gather(backend *self, const float *x, uint32_t width, const uint32_t *row_ids, uint32_t count,
                   float *y) {
    (void)self;
    for (uint32_t i = 0; i < count; i++)
        memmove(y + (size_t)i * width, x + (size_t)row_ids[i] * width, width * sizeof *y);
}

static bool pool_elements(const kv_pool_shape *shape, size_t *elements) {
    size_t token = (size_t)2 * shape->kv_heads * shape->head_dim;
    return !__builtin_mul_overflow(token, (size_t)shape->page_tokens * shape->layers, elements) &&
           !__builtin_mul_overflow(*elements, (size_t)shape->pages, elements) && *elements <= SIZE_MAX / 8;
}

static uint64_t kv_pool_bytes(const backend *self, const kv_pool_shape *shape) {
    size_t elements;
    if (!pool_elements(shape, &elements))
        return UINT64_MAX;
    return (uint64_t)elements * (((const cpu_backend *)self)->compute_dtype == CENTO_DTYPE_BF16 ? 2 : 4);
}

static cento_status kv_pool_create(backend *self, const kv_pool_shape *shape, backend_kv_pool **result,
                                   cento_error *error) {
    size_t elements;
    if (!pool_elements(shape, &elements) || elements == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "an empty or oversized KV pool: %u pages",
                         shape->pages);
    backend_kv_pool *pool = mem_zalloc(1, sizeof *pool);
    if (pool == NULL)
        return error_memory(error, sizeof *pool);
    pool->shape = *shape;
    pool->bf16 = cpu(self)->compute_dtype == CENTO_DTYPE_BF16;
    pool->data = mem_alloc_aligned(elements * (pool->bf16 ? 2 : 4));
    if (pool->data == NULL) {
        mem_free(pool);
        return error_memory(error, elements * 2);
    }
    *result = pool;
    return CENTO_OK;
}

static void kv_pool_free(backend *self, backend_kv_pool *pool) {
    (void)self;
    if (pool == NULL)
        return;
    mem_free(pool->data);
    mem_free(pool);
}

/* Index of the first element of a token's K (part 0) or V (part 1) for one head. */
static size_t pool_index(const kv_pool_shape *shape, uint32_t layer, uint32_t page, uint32_t part,
                         uint32_t head, uint32_t token) {
    size_t tile = ((((size_t)layer * shape->pages + page) * 2 + part) * shape->kv_heads + head);
    return (tile * shape->page_tokens + token) * shape->head_dim;
}

static void rotate(const float *x, uint32_t head_dim, const rope_table *rope, double position, float *y) {
    uint32_t half = head_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        double angle = position * rope->inv_freq[i];
        float cosine = (float)(cos(angle) * rope->attention_factor);
        float sine = (float)(sin(angle) * rope->attention_factor);
        float a = x[i], b = x[half + i];
        y[i] = a * cosine - b * sine;
        y[half + i] = b * cosine + a * sine;
    }
}

static cento_status write_kv(backend *self, const attention_shape *shape, const rope_table *rope, float *qkv,
                             uint32_t rows, const uint32_t *positions, const uint32_t *kv_slots,
                             const float *q_norm, const float *k_norm, backend_kv_pool *pool, uint32_t layer,
                             cento_error *error) {
    const kv_pool_shape *held = &pool->shape;
    uint32_t head_dim = shape->head_dim;
    for (uint32_t row = 0; row < rows; row++)
        if (kv_slots[row] / held->page_tokens >= held->pages)
            return error_set(error, CENTO_INVALID_ARGUMENT, "KV slot %u lies outside of the pool",
                             kv_slots[row]);
#pragma omp parallel for num_threads(cpu(self)->threads)
    for (uint32_t row = 0; row < rows; row++) {
        float *q = qkv + (size_t)row * (shape->heads + 2 * shape->kv_heads) * head_dim;
        float *k = q + (size_t)shape->heads * head_dim;
        float *v = k + (size_t)shape->kv_heads * head_dim;
        if (q_norm != NULL)
            for (uint32_t head = 0; head < shape->heads; head++)
                rmsnorm_row(q + head * head_dim, head_dim, q_norm, shape->norm_epsilon, q + head * head_dim);
        for (uint32_t head = 0; head < shape->kv_heads; head++) {
            float *key = k + head * head_dim;
            if (k_norm != NULL)
                rmsnorm_row(key, head_dim, k_norm, shape->norm_epsilon, key);
            rotate(key, head_dim, rope, positions[row], key);
            uint32_t page = kv_slots[row] / held->page_tokens, token = kv_slots[row] % held->page_tokens;
            size_t k_index = pool_index(held, layer, page, 0, head, token);
            size_t v_index = pool_index(held, layer, page, 1, head, token);
            for (uint32_t i = 0; i < head_dim; i++) {
                stored_put(pool->data, pool->bf16, k_index + i, key[i]);
                stored_put(pool->data, pool->bf16, v_index + i, v[head * head_dim + i]);
            }
        }
    }
    return CENTO_OK;
}

/* One row and head over all spans: online softmax, key by key. */
static void attend(const attention_shape *shape, const rope_table *rope, const float *q, uint32_t row,
                   uint32_t position, uint32_t kv_head, const kv_span *spans, uint32_t span_count,
                   const backend_kv_pool *pool, uint32_t layer, float *rotated, float *out) {
    const kv_pool_shape *held = &pool->shape;
    uint32_t head_dim = shape->head_dim;
    float maximum = -INFINITY, total = 0.0f;
    memset(out, 0, head_dim * sizeof *out);
    for (uint32_t s = 0; s < span_count; s++) {
        const kv_span *span = &spans[s];
        if (row < span->row_begin || row - span->row_begin >= span->row_count)
            continue;
        rotate(q, head_dim, rope, (double)((int64_t)position - span->rotation_origin), rotated);
        for (uint32_t token = span->token_begin; token < span->token_end; token++) {
            int64_t key_position = (int64_t)span->position + (token - span->token_begin);
            if (key_position > position ||
                (shape->window > 0 && key_position <= (int64_t)position - shape->window))
                continue;
            uint32_t page = span->pages[token / held->page_tokens], slot = token % held->page_tokens;
            size_t k = pool_index(held, layer, page, 0, kv_head, slot);
            size_t v = pool_index(held, layer, page, 1, kv_head, slot);
            float score = 0.0f;
            for (uint32_t i = 0; i < head_dim; i++)
                score += rotated[i] * stored_get(pool->data, pool->bf16, k + i);
            score *= shape->scale;
            float raised = fmaxf(maximum, score), keep = expf(maximum - raised),
                  weight = expf(score - raised);
            maximum = raised;
            total = total * keep + weight;
            for (uint32_t i = 0; i < head_dim; i++)
                out[i] = out[i] * keep + weight * stored_get(pool->data, pool->bf16, v + i);
        }
    }
    if (total > 0.0f)
        for (uint32_t i = 0; i < head_dim; i++)
            out[i] /= total;
}

static cento_status attention(backend *self, const attention_shape *shape, const rope_table *rope,
                              const float *qkv, uint32_t rows, const uint32_t *positions,
                              const kv_span *spans, uint32_t span_count, const backend_kv_pool *pool,
                              uint32_t layer, float *out, cento_error *error) {
    uint32_t head_dim = shape->head_dim, group = shape->heads / shape->kv_heads;
    float *scratch = backend_alloc(self, (size_t)cpu(self)->threads * head_dim);
    if (scratch == NULL)
        return error_memory(error, (size_t)cpu(self)->threads * head_dim * sizeof(float));
#pragma omp parallel for collapse(2) num_threads(cpu(self)->threads)
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t head = 0; head < shape->heads; head++)
            attend(shape, rope, qkv + ((size_t)row * (shape->heads + 2 * shape->kv_heads) + head) * head_dim,
                   row, positions[row], head / group, spans, span_count, pool, layer,
                   scratch + (size_t)omp_get_thread_num() * head_dim,
                   out + ((size_t)row * shape->heads + head) * head_dim);
    mem_free(scratch);
    for (uint32_t s = 0; s < span_count; s++)
        cpu(self)->counters.kv_bytes_read += (uint64_t)(spans[s].token_end - spans[s].token_begin) * 2 *
                                             shape->kv_heads * head_dim * (pool->bf16 ? 2 : 4);
    return CENTO_OK;
}

static void kv_read(const backend *self, const backend_kv_pool *pool, uint32_t layer, uint32_t slot,
                    float *kv) {
    (void)self;
    const kv_pool_shape *held = &pool->shape;
    for (uint32_t part = 0; part < 2; part++)
        for (uint32_t head = 0; head < held->kv_heads; head++)
            for (uint32_t i = 0; i < held->head_dim; i++)
                *kv++ = stored_get(
                    pool->data, pool->bf16,
                    pool_index(held, layer, slot / held->page_tokens, part, head, slot % held->page_tokens) +
                        i);
}

static void kv_write(backend *self, backend_kv_pool *pool, uint32_t layer, uint32_t slot, const float *kv) {
    (void)self;
    const kv_pool_shape *held = &pool->shape;
    for (uint32_t part = 0; part < 2; part++)
        for (uint32_t head = 0; head < held->kv_heads; head++)
            for (uint32_t i = 0; i < held->head_dim; i++)
                stored_put(
                    pool->data, pool->bf16,
                    pool_index(held, layer, slot / held->page_tokens, part, head, slot % held->page_tokens) +
                        i,
                    *kv++);
}

static void read_back(backend *self, const float *memory, size_t count, float *host) {
    (void)self;
    memcpy(host, memory, count * sizeof *host);
}

static const backend_ops cpu_ops = {
    .destroy = backend_destroy,
    .describe = backend_describe,
    .counters = backend_count,
    .alloc = backend_alloc,
    .release = backend_release,
    .matrix_create = matrix_create,
    .matrix_free = matrix_free,
    .vector_create = vector_create,
    .embed = embed,
    .matmul = matmul,
    .rmsnorm = rmsnorm,
    .silu_mul = silu_mul,
    .gather = gather,
    .kv_pool_create = kv_pool_create,
    .kv_pool_free = kv_pool_free,
    .kv_pool_bytes = kv_pool_bytes,
    .write_kv = write_kv,
    .attention = attention,
    .kv_read = kv_read,
    .kv_write = kv_write,
    .read = read_back,
};

cento_status backend_cpu_create(const backend_options *options, backend **result, cento_error *error) {
    cpu_backend *self = mem_zalloc(1, sizeof *self);
    if (self == NULL)
        return error_memory(error, sizeof *self);
    self->base.ops = &cpu_ops;
    self->compute_dtype = options->compute_dtype;
    self->threads = options->threads > 0 ? (int)options->threads : omp_get_max_threads();
    snprintf(self->description, sizeof self->description, "cpu portable, %d threads", self->threads);
    *result = &self->base;
    return CENTO_OK;
}
