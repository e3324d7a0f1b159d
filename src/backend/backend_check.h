/*
 * backend_check: what every backend asks of its arguments, and the size of a KV pool, which is the same on
 * all. Messages say what was found and what was expected.
 */
#ifndef CENTO_BACKEND_BACKEND_CHECK_H
#define CENTO_BACKEND_BACKEND_CHECK_H

#include "backend.h"

/* Stacked matrices have the same number of columns, at most columns_max, and are not empty. *rows: in all. */
cento_status backend_check_parts(const tensor_view *parts, size_t part_count, uint32_t columns_max,
                                 uint32_t *rows, cento_error *error);
/* Ids of rows of an embedding table. */
cento_status backend_check_ids(const int32_t *ids, uint32_t rows, uint32_t table_rows, cento_error *error);
/* KV heads divide the query heads. */
cento_status backend_check_heads(const attention_shape *shape, cento_error *error);
/* The pool is for the model's layers, and has the slots. */
cento_status backend_check_write_kv(const attention_shape *shape, uint32_t rows, const uint32_t *kv_slots,
                                    const kv_pool_shape *held, uint32_t layer, cento_error *error);
/* The pool is for the model's layers, and the plan for the batch, the pool and the layer's window. */
cento_status backend_check_attention(const attention_shape *shape, uint32_t rows, const cascade_plan *plan,
                                     const kv_pool_shape *held, uint32_t layer, cento_error *error);
/* Both stretches lie within a page of the pool. */
cento_status backend_check_kv_copy(const kv_pool_shape *held, uint32_t from_slot, uint32_t to_slot,
                                   uint32_t token_count, cento_error *error);

/* Bytes of one element. */
size_t kv_pool_element_bytes(const kv_pool_shape *shape);
/* INVALID_ARGUMENT if the pool is empty or too large for an address space. */
cento_status kv_pool_elements(const kv_pool_shape *shape, size_t *elements, cento_error *error);
/* backend_ops.kv_pool_bytes; UINT64_MAX if it is too large. */
uint64_t kv_pool_bytes(const backend *self, const kv_pool_shape *shape);

#endif
