/* See backend_check.h. */
#include "backend_check.h"

cento_status backend_check_parts(const tensor_view *parts, size_t part_count, uint32_t columns_max,
                                 uint32_t *rows, cento_error *error) {
    uint64_t sum = 0;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].columns != parts[0].columns)
            return error_set(error, CENTO_INVALID_ARGUMENT, "stacked matrices have %u and %u columns",
                             parts[0].columns, parts[i].columns);
        sum += parts[i].rows;
    }
    if (part_count == 0 || sum == 0 || parts[0].columns == 0 || sum > INT32_MAX ||
        parts[0].columns > columns_max)
        return error_set(error, CENTO_INVALID_ARGUMENT, "an empty or oversized matrix");
    *rows = (uint32_t)sum;
    return CENTO_OK;
}

cento_status backend_check_ids(const int32_t *ids, uint32_t rows, uint32_t table_rows, cento_error *error) {
    for (uint32_t row = 0; row < rows; row++)
        if (ids[row] < 0 || (uint32_t)ids[row] >= table_rows)
            return error_set(error, CENTO_INVALID_ARGUMENT, "token id %d is outside of the %u embeddings",
                             (int)ids[row], table_rows);
    return CENTO_OK;
}

cento_status backend_check_heads(const attention_shape *shape, cento_error *error) {
    if (shape->kv_heads > 0 && shape->heads % shape->kv_heads == 0 && shape->head_dim > 0)
        return CENTO_OK;
    return error_set(error, CENTO_INVALID_ARGUMENT, "%u query heads over %u KV heads of %u", shape->heads,
                     shape->kv_heads, shape->head_dim);
}

static cento_status check_layer(const attention_shape *shape, const kv_pool_shape *held, uint32_t layer,
                                cento_error *error) {
    if (shape->kv_heads == held->kv_heads && shape->head_dim == held->head_dim && shape->head_dim % 2 == 0 &&
        layer < held->layers)
        return CENTO_OK;
    return error_set(error, CENTO_INVALID_ARGUMENT, "the KV pool has another shape than the model");
}

cento_status backend_check_write_kv(const attention_shape *shape, uint32_t rows, const uint32_t *kv_slots,
                                    const kv_pool_shape *held, uint32_t layer, cento_error *error) {
    TRY(check_layer(shape, held, layer, error));
    for (uint32_t row = 0; row < rows; row++)
        if (kv_slots[row] / held->page_tokens >= held->pages)
            return error_set(error, CENTO_INVALID_ARGUMENT, "KV slot %u lies outside of the pool's %u pages",
                             kv_slots[row], held->pages);
    return CENTO_OK;
}

cento_status backend_check_attention(const attention_shape *shape, uint32_t rows, const cascade_plan *plan,
                                     const kv_pool_shape *held, uint32_t layer, cento_error *error) {
    TRY(check_layer(shape, held, layer, error));
    if (shape->kv_heads == 0 || shape->heads % shape->kv_heads != 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "the KV pool has another shape than the model");
    if (plan->row_count != rows)
        return error_set(error, CENTO_INVALID_ARGUMENT, "the plan is for %u rows, the batch has %u",
                         plan->row_count, rows);
    if (plan->options.page_tokens != held->page_tokens || plan->options.page_count > held->pages)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "the plan is for %u pages of %u tokens, the pool has %u of %u",
                         plan->options.page_count, plan->options.page_tokens, held->pages, held->page_tokens);
    if (plan->window != 0 && plan->window != shape->window)
        return error_set(error, CENTO_INVALID_ARGUMENT, "the plan's window is %u, the layer's %u",
                         plan->window, shape->window);
    return CENTO_OK;
}

cento_status backend_check_kv_copy(const kv_pool_shape *held, uint32_t from_slot, uint32_t to_slot,
                                   uint32_t token_count, cento_error *error) {
    if (from_slot / held->page_tokens < held->pages && to_slot / held->page_tokens < held->pages &&
        token_count <= held->page_tokens - from_slot % held->page_tokens &&
        token_count <= held->page_tokens - to_slot % held->page_tokens)
        return CENTO_OK;
    return error_set(error, CENTO_INVALID_ARGUMENT,
                     "copying %u tokens from slot %u to %u leaves a page of %u tokens or the pool's %u pages",
                     token_count, from_slot, to_slot, held->page_tokens, held->pages);
}

size_t kv_pool_element_bytes(const kv_pool_shape *shape) {
    return shape->dtype == CENTO_DTYPE_BF16 ? sizeof(uint16_t) : sizeof(float);
}

static bool count_elements(const kv_pool_shape *shape, size_t *elements) {
    size_t token = (size_t)shape->kv_heads * shape->head_dim;
    return token <= UINT32_MAX &&
           !__builtin_mul_overflow(2 * token, (size_t)shape->page_tokens * shape->layers, elements) &&
           !__builtin_mul_overflow(*elements, (size_t)shape->pages, elements) && *elements <= SIZE_MAX / 8;
}

cento_status kv_pool_elements(const kv_pool_shape *shape, size_t *elements, cento_error *error) {
    if (count_elements(shape, elements) && *elements > 0)
        return CENTO_OK;
    return error_set(error, CENTO_INVALID_ARGUMENT, "an empty or oversized KV pool: %u pages of %u tokens",
                     shape->pages, shape->page_tokens);
}

uint64_t kv_pool_bytes(const backend *self, const kv_pool_shape *shape) {
    size_t elements;
    (void)self;
    return count_elements(shape, &elements) ? elements * kv_pool_element_bytes(shape) : UINT64_MAX;
}
