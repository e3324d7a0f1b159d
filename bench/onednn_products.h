/*
 * oneDNN alone: how long it takes for a list of matrix products, with weights packed once as it likes
 * (format_tag_any) and nothing else around it. What `cento bench model` measures prefill against.
 */
#ifndef CENTO_BENCH_ONEDNN_PRODUCTS_H
#define CENTO_BENCH_ONEDNN_PRODUCTS_H

#include "cento.h"

typedef struct onednn_products onednn_products;

/* y (rows, outputs) = x (rows, inputs) · weights, `count` times in a forward pass. */
typedef struct product_shape {
    const char *name;
    uint32_t outputs, inputs;
    uint32_t count;
} product_shape;

/* Prepares products of `rows` rows with random data. bf16: activations and weights in bf16, sums in f32;
 * UNSUPPORTED where oneDNN has only its reference loops for that (no AVX-512). Shapes are borrowed. */
cento_status onednn_products_create(const product_shape *shapes, size_t shape_count, uint32_t rows, bool bf16,
                                    int threads, onednn_products **products, cento_error *error);
void onednn_products_free(onednn_products *products);

/* Runs each shape once; *seconds is the sum of time × count. */
cento_status onednn_products_run(onednn_products *products, double *seconds, cento_error *error);
/* oneDNN's name of the implementation, "gemm:jit"; lives as long as the products. */
const char *onednn_products_implementation(const onednn_products *products);

#endif
