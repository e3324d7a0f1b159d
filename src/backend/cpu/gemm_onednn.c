/*
 * See gemm_onednn.h. A primitive is built for a number of rows; rows are rounded up to a bucket so that few
 * are ever built, and primitives are shared by all matrices of a shape. (Primitives with the number of rows
 * left open until execution run on a slow path.)
 */
#include "gemm_onednn.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <string.h>

#include "base/mem.h"

#define ROWS_MAX 512 /* more rows are done in turns */

#define DNNL_TRY(expression)                                                                                 \
    do {                                                                                                     \
        dnnl_status_t dnnl_status_ = (expression);                                                           \
        if (dnnl_status_ != dnnl_success)                                                                    \
            return error_set(error, CENTO_BACKEND, "oneDNN: %s gave %s", #expression,                        \
                             dnnl_status2str(dnnl_status_));                                                 \
    } while (0)

typedef struct onednn_product {
    uint32_t rows, outputs, inputs; /* rows: of the bucket */
    bool bias, accumulate;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, y, bias_vector; /* without data: handles are set for each product */
} onednn_product;

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    onednn_product *products;
    size_t product_count, product_capacity;
    scratch x; /* activations in bf16 */
    scratch y; /* results of a bucket that is larger than the rows */
};

struct onednn_matrix {
    dnnl_memory_t weights; /* on the panels */
};

static uint32_t bucket_of(uint32_t rows) {
    uint32_t step = rows <= 128 ? 32 : 64;
    return (rows + step - 1) / step * step;
}

/* ----------------------------------------------------------------------------- creation ---- */

onednn *onednn_create(const cpu_backend *self, bool wanted) {
    const int amx = dnnl_cpu_isa_avx512_core_amx;
    if (self->compute_dtype != CENTO_DTYPE_BF16 || !self->kernels->pairs || self->kernels->panel_width != 64)
        return NULL;
    if (!wanted && (dnnl_get_effective_cpu_isa() & amx) != amx)
        return NULL;
    onednn *made = mem_zalloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    if (dnnl_engine_create(&made->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&made->stream, made->engine, dnnl_stream_default_flags) != dnnl_success) {
        onednn_free(made);
        return NULL;
    }
    return made;
}

static void product_free(onednn_product *product) {
    dnnl_memory_t memories[] = {product->x, product->y, product->bias_vector};
    for (size_t i = 0; i < 3; i++)
        if (memories[i] != NULL)
            dnnl_memory_destroy(memories[i]);
    if (product->primitive != NULL)
        dnnl_primitive_destroy(product->primitive);
}

void onednn_free(onednn *engine) {
    if (engine == NULL)
        return;
    for (size_t i = 0; i < engine->product_count; i++)
        product_free(&engine->products[i]);
    mem_free(engine->products);
    if (engine->stream != NULL)
        dnnl_stream_destroy(engine->stream);
    if (engine->engine != NULL)
        dnnl_engine_destroy(engine->engine);
    scratch_free(&engine->x);
    scratch_free(&engine->y);
    mem_free(engine);
}

static cento_status weights_description(uint32_t outputs, uint32_t inputs, dnnl_memory_desc_t *weights,
                                        cento_error *error) {
    dnnl_dims_t dims = {inputs, outputs};
    DNNL_TRY(dnnl_memory_desc_init_by_tag(weights, 2, dims, dnnl_bf16, dnnl_BA16a64b2a));
    return CENTO_OK;
}

/* Fills in primitive and memories; what was made until a failure is freed by the caller. */
static cento_status product_build(const onednn *engine, onednn_product *product, cento_error *error) {
    dnnl_dims_t x_dims = {product->rows, product->inputs}, y_dims = {product->rows, product->outputs};
    dnnl_dims_t bias_dims = {1, product->outputs};
    dnnl_memory_desc_t x, weights, y, bias;
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&x, 2, x_dims, dnnl_bf16, dnnl_ab));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&y, 2, y_dims, dnnl_f32, dnnl_ab));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&bias, 2, bias_dims, dnnl_f32, dnnl_ab));
    TRY(weights_description(product->outputs, product->inputs, &weights, error));
    dnnl_matmul_desc_t description;
    DNNL_TRY(dnnl_matmul_desc_init(&description, &x, &weights, product->bias ? &bias : NULL, &y));

    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t after = NULL;
    dnnl_primitive_desc_t primitive_description = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(&attributes);
    if (status == dnnl_success && product->accumulate) {
        status = dnnl_post_ops_create(&after);
        if (status == dnnl_success)
            status = dnnl_post_ops_append_sum(after, 1.0f);
        if (status == dnnl_success)
            status = dnnl_primitive_attr_set_post_ops(attributes, after);
    }
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(&primitive_description, &description, attributes, engine->engine,
                                            NULL);
    const char *implementation = "";
    if (status == dnnl_success)
        status =
            dnnl_primitive_desc_query(primitive_description, dnnl_query_impl_info_str, 0, &implementation);
    if (status == dnnl_success && strncmp(implementation, "brg", 3) != 0)
        status = dnnl_unimplemented; /* its reference loops */
    if (status == dnnl_success)
        status = dnnl_primitive_create(&product->primitive, primitive_description);
    if (primitive_description != NULL)
        dnnl_primitive_desc_destroy(primitive_description);
    if (after != NULL)
        dnnl_post_ops_destroy(after);
    if (attributes != NULL)
        dnnl_primitive_attr_destroy(attributes);
    DNNL_TRY(status);
    DNNL_TRY(dnnl_memory_create(&product->x, &x, engine->engine, DNNL_MEMORY_NONE));
    DNNL_TRY(dnnl_memory_create(&product->y, &y, engine->engine, DNNL_MEMORY_NONE));
    DNNL_TRY(dnnl_memory_create(&product->bias_vector, &bias, engine->engine, DNNL_MEMORY_NONE));
    return CENTO_OK;
}

static cento_status product_find(onednn *engine, const onednn_product *wanted, onednn_product **found,
                                 cento_error *error) {
    for (size_t i = 0; i < engine->product_count; i++) {
        onednn_product *product = &engine->products[i];
        if (product->rows == wanted->rows && product->outputs == wanted->outputs &&
            product->inputs == wanted->inputs && product->bias == wanted->bias &&
            product->accumulate == wanted->accumulate) {
            *found = product;
            return CENTO_OK;
        }
    }
    if (!mem_grow((void **)&engine->products, &engine->product_capacity, engine->product_count + 1,
                  sizeof *engine->products))
        return error_memory(error, (engine->product_count + 1) * sizeof *engine->products);
    onednn_product product = *wanted;
    cento_status status = product_build(engine, &product, error);
    if (status != CENTO_OK) {
        product_free(&product);
        return status;
    }
    *found = &engine->products[engine->product_count++];
    **found = product;
    return CENTO_OK;
}

onednn_matrix *onednn_matrix_create(cpu_backend *self, const backend_matrix *matrix) {
    onednn *engine = self->onednn;
    if (engine == NULL || matrix->kind != GEMM_PAIRS || matrix->rows % 64 != 0 || matrix->columns % 32 != 0)
        return NULL; /* its blocks would reach beyond our panels */
    onednn_product wanted = {.rows = ROWS_MAX, .outputs = matrix->rows, .inputs = matrix->columns}, *found;
    dnnl_memory_desc_t weights;
    onednn_matrix *made = mem_zalloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    if (product_find(engine, &wanted, &found, NULL) != CENTO_OK ||
        weights_description(matrix->rows, matrix->columns, &weights, NULL) != CENTO_OK ||
        dnnl_memory_desc_get_size(&weights) != matrix->bytes ||
        dnnl_memory_create(&made->weights, &weights, engine->engine, matrix->panels) != dnnl_success) {
        mem_free(made);
        return NULL;
    }
    return made;
}

void onednn_matrix_free(onednn_matrix *matrix) {
    if (matrix == NULL)
        return;
    dnnl_memory_destroy(matrix->weights);
    mem_free(matrix);
}

/* ---------------------------------------------------------------------------- execution ---- */

static cento_status execute(const cpu_backend *self, const onednn_product *product, dnnl_memory_t weights,
                            void *x, float *y, const float *bias, cento_error *error) {
    DNNL_TRY(dnnl_memory_set_data_handle(product->x, x));
    DNNL_TRY(dnnl_memory_set_data_handle(product->y, y));
    /* oneDNN only reads it */
    DNNL_TRY(dnnl_memory_set_data_handle(product->bias_vector, (void *)(uintptr_t)bias));
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, product->x},
                                   {DNNL_ARG_WEIGHTS, weights},
                                   {DNNL_ARG_DST, product->y},
                                   {DNNL_ARG_BIAS, product->bias_vector}};
    int threads_before = omp_get_max_threads();
    omp_set_num_threads(self->threads);
    dnnl_status_t status =
        dnnl_primitive_execute(product->primitive, self->onednn->stream, bias != NULL ? 4 : 3, arguments);
    if (status == dnnl_success)
        status = dnnl_stream_wait(self->onednn->stream);
    omp_set_num_threads(threads_before);
    DNNL_TRY(status);
    return CENTO_OK;
}

/* At most ROWS_MAX rows. */
static cento_status multiply(cpu_backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                             const float *bias, bool accumulate, float *y, cento_error *error) {
    onednn *engine = self->onednn;
    onednn_product wanted = {
        .rows = bucket_of(rows),
        .outputs = matrix->rows,
        .inputs = matrix->columns,
        .bias = bias != NULL,
        .accumulate = accumulate,
    };
    onednn_product *product;
    TRY(product_find(engine, &wanted, &product, error));
    size_t inputs = matrix->columns, outputs = matrix->rows, padding = wanted.rows - rows;
    TRY(scratch_reserve(&engine->x, wanted.rows * inputs * sizeof(uint16_t), error));
    uint16_t *rounded = engine->x.memory;
#pragma omp parallel for num_threads(self->threads)
    for (uint32_t row = 0; row < rows; row++)
        self->kernels->bf16_of_f32(x + row * inputs, inputs, rounded + row * inputs);
    if (padding == 0)
        return execute(self, product, matrix->onednn->weights, rounded, y, bias, error);

    TRY(scratch_reserve(&engine->y, wanted.rows * outputs * sizeof(float), error));
    float *padded = engine->y.memory;
    memset(rounded + rows * inputs, 0, padding * inputs * sizeof *rounded);
    if (accumulate) {
        memcpy(padded, y, rows * outputs * sizeof *y);
        memset(padded + rows * outputs, 0, padding * outputs * sizeof *y);
    }
    TRY(execute(self, product, matrix->onednn->weights, rounded, padded, bias, error));
    memcpy(y, padded, rows * outputs * sizeof *y);
    return CENTO_OK;
}

cento_status onednn_matmul(cpu_backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                           const float *bias, bool accumulate, float *y, cento_error *error) {
    for (uint32_t row = 0; row < rows; row += ROWS_MAX)
        TRY(multiply(self, matrix, x + (size_t)row * matrix->columns,
                     rows - row < ROWS_MAX ? rows - row : ROWS_MAX, bias, accumulate,
                     y + (size_t)row * matrix->rows, error));
    return CENTO_OK;
}
