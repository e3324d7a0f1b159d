/*
 * Attention of a step: which kernel, what it needs on the device, and its launch for each layer.
 *
 * attention_sm90, and where it does not run attention_mma, take bf16 products over bf16 pages. The keys of a
 * row are cut where the work is even, so a row's last bits depend on the batch; `deterministic` therefore
 * keeps to the simple kernel. FlashInfer's kernels take everything, or refuse, where they were chosen.
 */
#include <string.h>

#include "attention_sm90.h"
#include "backend/backend_check.h"
#include "cuda.h"
#ifdef CENTO_FLASHINFER
#include "backend/flashinfer/flashinfer_attention.h"
#endif

/* ------------------------------------------------------------------------------ choosing ---- */

cento_status cuda_attention_open(cuda_backend *self, const char *name, cento_error *error) {
    if (name == NULL || strcmp(name, "flashinfer") != 0)
        return CENTO_OK;
    if (self->deterministic)
        return error_set(error, CENTO_UNSUPPORTED,
                         "attention 'flashinfer' splits a request's keys by the load of the batch, which "
                         "changes its last bits: not with `deterministic`");
#ifdef CENTO_FLASHINFER
    TRY(flashinfer_attention_create(&self->flashinfer, error));
#endif
    return CENTO_OK;
}

void cuda_attention_close(cuda_backend *self) {
#ifdef CENTO_FLASHINFER
    flashinfer_attention_free(self->flashinfer);
#endif
    self->flashinfer = NULL;
}

/* ------------------------------------------------------------------------------ preparing --- */

static bool takes_schedules(const cuda_backend *self, const attention_shape *shape,
                            const backend_kv_pool *pool) {
    return !self->deterministic && self->compute_dtype == CENTO_DTYPE_BF16 && pool->bf16 &&
           attention_mma_takes(shape, pool->shape.page_tokens);
}

cento_status cuda_attention_prepare(cuda_backend *self, const attention_shape *shape, const rope_table *rope,
                                    uint32_t rows, const uint32_t *positions, const cascade_plan *plan,
                                    const backend_kv_pool *pool, cuda_attention_work *work,
                                    cento_error *error) {
    *work = (cuda_attention_work){
        .shape = *shape,
        .rows = rows,
        .keys_read = plan->stats.keys_read,
        .rope_factor = (float)rope->attention_factor,
    };
    TRY(cuda_turns(self, rope, shape->head_dim / 2, &work->turns, error));
#ifdef CENTO_FLASHINFER
    if (self->flashinfer != NULL)
        return flashinfer_attention_prepare(self->flashinfer, self, shape, plan, positions, pool,
                                            &work->flashinfer, error);
#endif
    if (takes_schedules(self, shape, pool)) {
        TRY(cuda_schedule_get(self, shape, plan, positions, &work->schedule, error));
        if (!work->schedule->too_large)
            return CENTO_OK;
        work->schedule = NULL;
    }
    return cuda_plan_get(self, plan, shape->window, positions, &work->plan, error);
}

/* ------------------------------------------------------------------------------ launching --- */

static cento_status launch_schedule(cuda_backend *self, const cuda_attention_work *work, const float *qkv,
                                    const void *kv, uint32_t page_tokens, float *out, void *out_bf16,
                                    cento_error *error) {
    const attention_mma_call call = {
        .shape = &work->shape,
        .schedule = work->schedule->block.memory,
        .qkv = qkv,
        .out = out,
        .out_bf16 = out_bf16,
        .turns = work->turns,
        .rope_factor = work->rope_factor,
        .kv = kv,
        .page_tokens = page_tokens,
        .workspace = self->attention_workspace.memory,
        .arrived = self->counters_memory.memory,
        .workers = work->schedule->header.workers,
        .stream = self->stream,
    };
    CUDA_TRY(work->schedule->sm90 ? attention_sm90_run(&call) : attention_mma_run(&call), error);
    return CENTO_OK;
}

static cento_status launch_simple(cuda_backend *self, cuda_attention_call call, cento_error *error) {
    size_t wanted = cuda_attention_simple_workspace(&call);
    if (wanted > ATTENTION_WORKSPACE_BYTES) { /* at least the states of one KV head */
        size_t least = wanted / call.shape->kv_heads + 256;
        wanted = least > ATTENTION_WORKSPACE_BYTES ? least : ATTENTION_WORKSPACE_BYTES;
    }
    TRY(device_buffer_reserve(self, &self->attention_workspace, wanted, "partial states of attention",
                              error));
    call.workspace = self->attention_workspace.memory;
    call.workspace_bytes = self->attention_workspace.bytes;
    return cuda_attention_simple(&call, error);
}

cento_status cuda_attention_launch(cuda_backend *self, const cuda_attention_work *work, const float *qkv,
                                   const backend_kv_pool *pool, uint32_t layer, float *out,
                                   cento_error *error) {
    const attention_shape *shape = &work->shape;
    const void *kv = pool->data + layer * cuda_pool_layer_bytes(pool);
    uint32_t width = shape->heads * shape->head_dim;
    void *out_bf16 = NULL;
    if (width % 8 == 0)
        TRY(cuda_copy_begin(self, out, work->rows, width, &out_bf16, error));
    else
        cuda_copy_forget(self, out);
    const cuda_attention_call call = {
        .shape = shape,
        .plan = work->plan,
        .qkv = qkv,
        .out = out,
        .out_bf16 = out_bf16,
        .rows = work->rows,
        .turns = work->turns,
        .rope_factor = work->rope_factor,
        .kv = kv,
        .kv_bf16 = pool->bf16,
        .page_tokens = pool->shape.page_tokens,
        .stream = self->stream,
    };
    if (work->schedule != NULL)
        TRY(launch_schedule(self, work, qkv, kv, pool->shape.page_tokens, out, out_bf16, error));
#ifdef CENTO_FLASHINFER
    else if (work->flashinfer != NULL)
        TRY(flashinfer_attention_launch(self->flashinfer, work->flashinfer, &call, error));
#endif
    else
        TRY(launch_simple(self, call, error));
    self->counters.kv_bytes_read +=
        work->keys_read * shape->kv_heads * 2 * shape->head_dim * pool->element_bytes;
    return CENTO_OK;
}

cento_status cuda_attention_layer(backend *base, const attention_shape *shape, const rope_table *rope,
                                  const float *qkv, uint32_t rows, const uint32_t *positions,
                                  const cascade_plan *plan, const backend_kv_pool *pool, uint32_t layer,
                                  float *out, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    cuda_attention_work work;
    TRY(cuda_enter(self, error));
    TRY(backend_check_attention(shape, rows, plan, &pool->shape, layer, error));
    if (rows == 0)
        return CENTO_OK;
    TRY(cuda_attention_prepare(self, shape, rope, rows, positions, plan, pool, &work, error));
    return cuda_attention_launch(self, &work, qkv, pool, layer, out, error);
}

/* ------------------------------------------------------------------------------ costs ------- */

/* Of the whole device, from its memory's bandwidth: a key's K and V read once more; a state written and read;
 * a task's fixed cost, about 50 keys' time. */
cento_status cuda_attention_costs(backend *base, const attention_shape *shape, const backend_kv_pool *pool,
                                  plan_costs *costs, cento_error *error) {
    const cuda_backend *self = cuda_of(base);
    TRY(backend_check_heads(shape, error));
#ifdef CENTO_FLASHINFER
    if (self->flashinfer != NULL)
        TRY(flashinfer_attention_check(shape, pool, error));
#endif
    double key_ns = 2.0 * shape->head_dim * (double)pool->element_bytes / self->bytes_per_ns;
    *costs = (plan_costs){
        .key_read_ns = key_ns,
        .state_ns = 2.0 * (shape->head_dim + 2.0) * sizeof(float) / self->bytes_per_ns,
        .task_ns = 50.0 * key_ns,
    };
    return CENTO_OK;
}
