/* Attention of one layer: checks, the plan's upload, workspace, and the kernel's launch. */
#include <string.h>

#include "backend/backend_check.h"
#include "cuda.h"

static cento_status reserve_workspace(cuda_backend *self, cuda_attention_call *call, cento_error *error) {
    size_t wanted = cuda_attention_simple_workspace(call);
    if (wanted > ATTENTION_WORKSPACE_BYTES) {
        /* at least the states of one KV head */
        size_t least = wanted / call->shape->kv_heads + 256;
        wanted = least > ATTENTION_WORKSPACE_BYTES ? least : ATTENTION_WORKSPACE_BYTES;
    }
    TRY(device_buffer_reserve(self, &self->attention_workspace, wanted, "partial states of attention",
                              error));
    call->workspace = self->attention_workspace.memory;
    call->workspace_bytes = self->attention_workspace.bytes;
    return CENTO_OK;
}

cento_status cuda_attention_layer(backend *base, const attention_shape *shape, const rope_table *rope,
                                  const float *qkv, uint32_t rows, const uint32_t *positions,
                                  const cascade_plan *plan, const backend_kv_pool *pool, uint32_t layer,
                                  float *out, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    TRY(cuda_enter(self, error));
    TRY(backend_check_attention(shape, rows, plan, &pool->shape, layer, error));
    if (rows == 0)
        return CENTO_OK;
    uint32_t width = shape->heads * shape->head_dim;
    cuda_attention_call call = {
        .shape = shape,
        .qkv = qkv,
        .out = out,
        .rows = rows,
        .rope_factor = (float)rope->attention_factor,
        .kv = pool->data + layer * cuda_pool_layer_bytes(pool),
        .kv_bf16 = pool->bf16,
        .pages = pool->shape.pages,
        .page_tokens = pool->shape.page_tokens,
        .counters = self->counters_memory.memory,
        .counter_count = (uint32_t)(self->counters_memory.bytes / sizeof(uint32_t)),
        .device_major = self->major,
        .device_minor = self->minor,
        .multiprocessors = self->multiprocessors,
        .stream = self->stream,
    };
    TRY(cuda_turns(self, rope, shape->head_dim / 2, &call.turns, error));
    TRY(cuda_plan_get(self, plan, shape->window, positions, &call.plan, error));
    TRY(reserve_workspace(self, &call, error));
    if (width % 8 == 0)
        TRY(cuda_copy_begin(self, out, rows, width, &call.out_bf16, error));
    else
        cuda_copy_forget(self, out);
    TRY(cuda_attention_simple(&call, error));
    self->counters.kv_bytes_read +=
        plan->stats.keys_read * shape->kv_heads * 2 * shape->head_dim * pool->element_bytes;
    return CENTO_OK;
}

/* --------------------------------------------------------------------------------- costs ---- */

/* Of the whole device, from its memory's bandwidth: a key's K and V read once more; a state written and read;
 * a task's fixed cost, about 50 keys' time. */
cento_status cuda_attention_costs(backend *base, const attention_shape *shape, const backend_kv_pool *pool,
                                  plan_costs *costs, cento_error *error) {
    const cuda_backend *self = cuda_of(base);
    TRY(backend_check_heads(shape, error));
    double key_ns = 2.0 * shape->head_dim * (double)pool->element_bytes / self->bytes_per_ns;
    *costs = (plan_costs){
        .key_read_ns = key_ns,
        .state_ns = 2.0 * (shape->head_dim + 2.0) * sizeof(float) / self->bytes_per_ns,
        .task_ns = 50.0 * key_ns,
    };
    return CENTO_OK;
}
