/*
 * A plan's schedule on the device. Two are held (layers with and without a window), each built once per step
 * and found again by every layer. The block goes over in one copy to an address that stays, unless it has to
 * grow; so do the workspace for partial states and the counters that a schedule needs.
 */
#include <string.h>

#include "attention_sm90.h"
#include "base/mem.h"
#include "cuda.h"

enum { BLOCK_BYTES_MIN = 256 << 10 };

static cento_status reserve_counters(cuda_backend *self, uint32_t count, cento_error *error) {
    device_buffer *counters = &self->counters_memory;
    size_t before = counters->bytes;
    TRY(device_buffer_reserve(self, counters, count * sizeof(uint32_t), "counters", error));
    if (counters->bytes != before)
        CUDA_TRY(cudaMemsetAsync(counters->memory, 0, counters->bytes, self->stream), error);
    return CENTO_OK;
}

static uint32_t workers_for(cuda_backend *self, uint32_t head_dim, bool sm90) {
    schedule_store *store = &self->schedules;
    if (store->workers_head_dim != head_dim || store->workers_sm90 != sm90) {
        uint32_t multiprocessors = (uint32_t)self->multiprocessors;
        store->workers = sm90 ? attention_sm90_workers(head_dim, multiprocessors)
                              : attention_mma_workers(head_dim, multiprocessors);
        store->workers_head_dim = head_dim;
        store->workers_sm90 = sm90;
    }
    return store->workers;
}

static cento_status upload(cuda_backend *self, const attention_shape *shape, const cascade_plan *plan,
                           const uint32_t *positions, schedule_upload *held, cento_error *error) {
    schedule_store *store = &self->schedules;
    held->sm90 = attention_sm90_takes(shape, plan->options.page_tokens, self->major, self->minor);
    const schedule_options options = {
        .workers = workers_for(self, shape->head_dim, held->sm90),
        .kv_heads = shape->kv_heads,
        .heads_per_kv = shape->heads / shape->kv_heads,
        .window = shape->window,
        .costs = held->sm90 ? &attention_sm90_costs : NULL,
    };
    const uint32_t *block = NULL;
    held->too_large = options.workers == 0;
    if (held->too_large)
        return CENTO_OK;
    if (store->builder == NULL)
        TRY(attention_schedule_create(&store->builder, error));
    cento_status status = attention_schedule_build(store->builder, &options, plan, positions, &block, error);
    held->too_large = status == CENTO_UNSUPPORTED;
    if (status != CENTO_OK)
        return held->too_large ? CENTO_OK : status;
    held->header = *schedule_header_of(block);
    size_t bytes = held->header.words * sizeof *block;
    TRY(device_buffer_reserve(self, &held->block, bytes < BLOCK_BYTES_MIN ? BLOCK_BYTES_MIN : bytes,
                              "a step's schedule", error));
    TRY(reserve_counters(self, held->header.unit_count, error));
    status = device_buffer_reserve(self, &self->attention_workspace,
                                   schedule_workspace_bytes(&held->header, shape->head_dim),
                                   "partial states of attention", error);
    held->too_large = status == CENTO_OUT_OF_MEMORY; /* the simple kernel does with what there is */
    if (status != CENTO_OK)
        return held->too_large ? CENTO_OK : status;
    return cuda_stage(self, held->block.memory, block, bytes, error);
}

static cento_status hold_positions(schedule_upload *held, const uint32_t *positions, uint32_t rows,
                                   cento_error *error) {
    if (!mem_grow((void **)&held->positions, &held->positions_capacity, rows, sizeof *positions))
        return error_memory(error, rows * sizeof *positions);
    memcpy(held->positions, positions, rows * sizeof *positions);
    return CENTO_OK;
}

static bool holds(const schedule_upload *held, const attention_shape *shape, const cascade_plan *plan,
                  const uint32_t *positions) {
    return held->build_id != 0 && held->build_id == plan->build_id && held->window == shape->window &&
           held->kv_heads == shape->kv_heads && held->heads_per_kv == shape->heads / shape->kv_heads &&
           held->head_dim == shape->head_dim &&
           memcmp(held->positions, positions, plan->row_count * sizeof *positions) == 0;
}

cento_status cuda_schedule_get(cuda_backend *self, const attention_shape *shape, const cascade_plan *plan,
                               const uint32_t *positions, const schedule_upload **result,
                               cento_error *error) {
    schedule_store *store = &self->schedules;
    schedule_upload *chosen = &store->schedules[0];
    for (int i = 0; i < PLANS_HELD; i++) {
        schedule_upload *held = &store->schedules[i];
        if (holds(held, shape, plan, positions)) {
            held->used = ++store->clock;
            *result = held;
            return CENTO_OK;
        }
        chosen = held->used < chosen->used ? held : chosen;
    }
    for (int i = 0; i < PLANS_HELD; i++) /* the window's own, whose address captured graphs know */
        if (store->schedules[i].used > 0 && store->schedules[i].window == shape->window)
            chosen = &store->schedules[i];
    chosen->build_id = 0;
    TRY(hold_positions(chosen, positions, plan->row_count, error));
    TRY(upload(self, shape, plan, positions, chosen, error));
    chosen->build_id = plan->build_id;
    chosen->window = shape->window;
    chosen->kv_heads = shape->kv_heads;
    chosen->heads_per_kv = shape->heads / shape->kv_heads;
    chosen->head_dim = shape->head_dim;
    chosen->used = ++store->clock;
    *result = chosen;
    return CENTO_OK;
}

void schedule_store_free(schedule_store *store) {
    for (int i = 0; i < PLANS_HELD; i++) {
        device_buffer_free(&store->schedules[i].block);
        mem_free(store->schedules[i].positions);
    }
    attention_schedule_free(store->builder);
    *store = (schedule_store){0};
}
