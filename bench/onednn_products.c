/* See onednn_products.h. One thread calls it; oneDNN runs on OpenMP threads. */
#include "bench/onednn_products.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"

#define DNNL_TRY(expression)                                                                                 \
    do {                                                                                                     \
        dnnl_status_t dnnl_status_ = (expression);                                                           \
        if (dnnl_status_ != dnnl_success)                                                                    \
            return error_set(error, CENTO_BACKEND, "oneDNN: %s gave %s", #expression,                        \
                             dnnl_status2str(dnnl_status_));                                                 \
    } while (0)

typedef struct product {
    dnnl_primitive_t primitive;
    dnnl_memory_t x, weights, y;
} product;

struct onednn_products {
    const product_shape *shapes;
    size_t shape_count;
    int threads;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    product *products;
    char implementation[64];
};

/* Values that are neither zero nor denormal, so that no multiplication is cheaper than another. */
static cento_status memory_fill(dnnl_memory_t memory, cento_error *error) {
    const dnnl_memory_desc_t *description;
    void *data;
    DNNL_TRY(dnnl_memory_get_memory_desc(memory, &description));
    DNNL_TRY(dnnl_memory_get_data_handle(memory, &data));
    size_t bytes = dnnl_memory_desc_get_size(description);
    bool bf16 = description->data_type == dnnl_bf16;
#pragma omp parallel for
    for (size_t i = 0; i < bytes / (bf16 ? 2 : 4); i++) {
        uint32_t bits = 0x3C000000u | ((uint32_t)i * 2654435761u & 0x80FFFFFFu);
        if (bf16)
            ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
        else
            ((uint32_t *)data)[i] = bits;
    }
    return CENTO_OK;
}

static cento_status product_create(onednn_products *products, const product_shape *shape, uint32_t rows,
                                   bool bf16, product *made, cento_error *error) {
    dnnl_data_type_t type = bf16 ? dnnl_bf16 : dnnl_f32;
    dnnl_dims_t x_dims = {rows, shape->inputs}, weight_dims = {shape->inputs, shape->outputs};
    dnnl_dims_t y_dims = {rows, shape->outputs};
    dnnl_memory_desc_t x, weights, y;
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&x, 2, x_dims, type, dnnl_ab));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&weights, 2, weight_dims, type, dnnl_format_tag_any));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&y, 2, y_dims, dnnl_f32, dnnl_ab));
    dnnl_matmul_desc_t description;
    DNNL_TRY(dnnl_matmul_desc_init(&description, &x, &weights, NULL, &y));
    dnnl_primitive_desc_t primitive_description;
    DNNL_TRY(dnnl_primitive_desc_create(&primitive_description, &description, NULL, products->engine, NULL));
    const char *implementation = "";
    dnnl_primitive_desc_query(primitive_description, dnnl_query_impl_info_str, 0, &implementation);
    snprintf(products->implementation, sizeof products->implementation, "%s", implementation);
    weights = *dnnl_primitive_desc_query_md(primitive_description, dnnl_query_weights_md, 0);
    dnnl_status_t status = dnnl_primitive_create(&made->primitive, primitive_description);
    dnnl_primitive_desc_destroy(primitive_description);
    DNNL_TRY(status);
    DNNL_TRY(dnnl_memory_create(&made->x, &x, products->engine, DNNL_MEMORY_ALLOCATE));
    DNNL_TRY(dnnl_memory_create(&made->weights, &weights, products->engine, DNNL_MEMORY_ALLOCATE));
    DNNL_TRY(dnnl_memory_create(&made->y, &y, products->engine, DNNL_MEMORY_ALLOCATE));
    TRY(memory_fill(made->x, error));
    return memory_fill(made->weights, error);
}

static cento_status products_fill(onednn_products *products, uint32_t rows, bool bf16, cento_error *error) {
    DNNL_TRY(dnnl_engine_create(&products->engine, dnnl_cpu, 0));
    DNNL_TRY(dnnl_stream_create(&products->stream, products->engine, dnnl_stream_default_flags));
    for (size_t i = 0; i < products->shape_count; i++)
        TRY(product_create(products, &products->shapes[i], rows, bf16, &products->products[i], error));
    return CENTO_OK;
}

cento_status onednn_products_create(const product_shape *shapes, size_t shape_count, uint32_t rows, bool bf16,
                                    int threads, onednn_products **result, cento_error *error) {
    if (bf16 && dnnl_get_effective_cpu_isa() < dnnl_cpu_isa_avx512_core)
        return error_set(error, CENTO_UNSUPPORTED, "oneDNN has no bf16 kernels for this CPU");
    onednn_products *products = mem_zalloc(1, sizeof *products);
    product *list = mem_zalloc(shape_count, sizeof *list);
    if (products == NULL || list == NULL) {
        mem_free(products);
        mem_free(list);
        return error_memory(error, shape_count * sizeof *list);
    }
    products->shapes = shapes;
    products->shape_count = shape_count;
    products->threads = threads;
    products->products = list;
    cento_status status = products_fill(products, rows, bf16, error);
    if (status != CENTO_OK) {
        onednn_products_free(products);
        return status;
    }
    *result = products;
    return CENTO_OK;
}

void onednn_products_free(onednn_products *products) {
    if (products == NULL)
        return;
    for (size_t i = 0; i < products->shape_count; i++) {
        product *made = &products->products[i];
        dnnl_memory_t memories[] = {made->x, made->weights, made->y};
        for (size_t j = 0; j < 3; j++)
            if (memories[j] != NULL)
                dnnl_memory_destroy(memories[j]);
        if (made->primitive != NULL)
            dnnl_primitive_destroy(made->primitive);
    }
    if (products->stream != NULL)
        dnnl_stream_destroy(products->stream);
    if (products->engine != NULL)
        dnnl_engine_destroy(products->engine);
    mem_free(products->products);
    mem_free(products);
}

static cento_status run_one(onednn_products *products, product *one, cento_error *error) {
    dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, one->x}, {DNNL_ARG_WEIGHTS, one->weights}, {DNNL_ARG_DST, one->y}};
    DNNL_TRY(dnnl_primitive_execute(one->primitive, products->stream, 3, arguments));
    DNNL_TRY(dnnl_stream_wait(products->stream));
    return CENTO_OK;
}

cento_status onednn_products_run(onednn_products *products, double *seconds, cento_error *error) {
    int threads_before = omp_get_max_threads();
    omp_set_num_threads(products->threads);
    cento_status status = CENTO_OK;
    double sum = 0.0;
    for (size_t i = 0; i < products->shape_count && status == CENTO_OK; i++) {
        uint64_t start = clock_now_ns();
        status = run_one(products, &products->products[i], error);
        sum += clock_ms_since(start) * 1e-3 * products->shapes[i].count;
    }
    omp_set_num_threads(threads_before);
    *seconds = sum;
    return status;
}

const char *onednn_products_implementation(const onednn_products *products) {
    return products->implementation;
}
