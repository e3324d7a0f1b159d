/* flashinfer_attention: see flashinfer_attention.h. */
#include "flashinfer_attention.h"

#include <string.h>

#include "base/mem.h"
#include "flashinfer_shim.h"

enum { ALIGNMENT = 16 };

/* Requests of one kind as planned by FlashInfer. */
typedef struct held_batch {
    flashinfer_launch launch; /* requests == 0: nothing of this kind */
    size_t float_bytes;
    device_buffer ints;
    void *pinned;
    size_t pinned_bytes;
} held_batch;

/* A plan as requests on the device; which one, and for which window, positions and shape. */
struct flashinfer_work {
    uint64_t build_id; /* 0: none */
    uint64_t used;     /* the larger, the later */
    uint32_t window;
    flashinfer_shape shape;
    uint32_t *positions; /* (positions_capacity) */
    size_t positions_capacity;
    held_batch batches[REQUEST_KINDS];
    device_buffer block; /* all arrays of the requests */
    const int32_t *rows, *rotations, *fold_begin, *fold_entries;
    uint32_t entry_begin[REQUEST_KINDS + 1];
    cudaEvent_t pinned_free; /* the copies from `pinned` have run */
};

struct flashinfer_attention {
    flashinfer_requests requests;
    flashinfer_work plans[PLANS_HELD];
    uint64_t clock;
    char *block; /* (block_capacity) host: what goes to flashinfer_work.block */
    size_t block_capacity, block_bytes;
    device_buffer q, states, lse2, floats;
};

/* ------------------------------------------------------------------------- the requests ----- */

/* Room for an array at the block's end. */
static cento_status block_take(flashinfer_attention *self, size_t bytes, size_t *offset, cento_error *error) {
    void *block = self->block;
    *offset = (self->block_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!mem_grow(&block, &self->block_capacity, *offset + bytes + 1, 1))
        return error_memory(error, *offset + bytes);
    self->block = block;
    self->block_bytes = *offset + bytes;
    return CENTO_OK;
}

static cento_status block_add(flashinfer_attention *self, const void *from, size_t bytes, size_t *offset,
                              cento_error *error) {
    TRY(block_take(self, bytes, offset, error));
    if (bytes > 0)
        memcpy(self->block + *offset, from, bytes);
    return CENTO_OK;
}

static cento_status block_add_list(flashinfer_attention *self, const int_list *list, size_t *offset,
                                   cento_error *error) {
    return block_add(self, list->values, list->count * sizeof *list->values, offset, error);
}

static const int32_t *in_block(const flashinfer_work *held, size_t offset) {
    return (const int32_t *)((const char *)held->block.memory + offset);
}

enum { ROW_BEGIN, PAGE_BEGIN, PAGES, LAST_PAGE, MASK_BEGIN, MASK, BATCH_ARRAYS };

static cento_status lay_out_batch(flashinfer_attention *self, const request_batch *batch, size_t *offsets,
                                  cento_error *error) {
    TRY(block_add_list(self, &batch->row_begin, &offsets[ROW_BEGIN], error));
    TRY(block_add_list(self, &batch->page_begin, &offsets[PAGE_BEGIN], error));
    TRY(block_add_list(self, &batch->pages, &offsets[PAGES], error));
    TRY(block_add_list(self, &batch->last_page, &offsets[LAST_PAGE], error));
    TRY(block_add_list(self, &batch->mask_begin, &offsets[MASK_BEGIN], error));
    return block_add(self, batch->mask, batch->mask_bytes, &offsets[MASK], error);
}

/* Rows, then rotations of all entries, each one array through the kinds. */
static cento_status lay_out_entries(flashinfer_attention *self, size_t *rows, size_t *rotations,
                                    cento_error *error) {
    const flashinfer_requests *requests = &self->requests;
    size_t count = requests->entry_begin[REQUEST_KINDS], at = 0;
    TRY(block_take(self, count * sizeof(int32_t), rows, error));
    TRY(block_take(self, count * sizeof(int32_t), rotations, error));
    for (int kind = 0; kind < REQUEST_KINDS; kind++) {
        const request_batch *batch = &requests->batches[kind];
        size_t bytes = batch->rows.count * sizeof(int32_t);
        if (bytes > 0) {
            memcpy(self->block + *rows + at, batch->rows.values, bytes);
            memcpy(self->block + *rotations + at, batch->rotations.values, bytes);
        }
        at += bytes;
    }
    return CENTO_OK;
}

static cento_status upload(flashinfer_attention *self, cuda_backend *device, flashinfer_work *held,
                           cento_error *error) {
    const flashinfer_requests *requests = &self->requests;
    size_t offsets[REQUEST_KINDS][BATCH_ARRAYS] = {0};
    size_t rows = 0, rotations = 0, fold_begin = 0, fold_entries = 0;
    self->block_bytes = 0;
    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        TRY(lay_out_batch(self, &requests->batches[kind], offsets[kind], error));
    TRY(lay_out_entries(self, &rows, &rotations, error));
    TRY(block_add_list(self, &requests->fold_begin, &fold_begin, error));
    TRY(block_add_list(self, &requests->fold_entries, &fold_entries, error));
    TRY(device_buffer_reserve(device, &held->block, self->block_bytes, "a step's requests", error));
    TRY(cuda_stage(device, held->block.memory, self->block, self->block_bytes, error));
    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        held->batches[kind].launch = (flashinfer_launch){
            .kind = (request_kind)kind,
            .requests = request_count(&requests->batches[kind]),
            .rows = (uint32_t)requests->batches[kind].rows.count,
            .row_begin = in_block(held, offsets[kind][ROW_BEGIN]),
            .page_begin = in_block(held, offsets[kind][PAGE_BEGIN]),
            .pages = in_block(held, offsets[kind][PAGES]),
            .last_page = in_block(held, offsets[kind][LAST_PAGE]),
            .mask_begin = in_block(held, offsets[kind][MASK_BEGIN]),
            .mask = (const uint8_t *)in_block(held, offsets[kind][MASK]),
        };
    held->rows = in_block(held, rows);
    held->rotations = in_block(held, rotations);
    held->fold_begin = in_block(held, fold_begin);
    held->fold_entries = in_block(held, fold_entries);
    memcpy(held->entry_begin, requests->entry_begin, sizeof held->entry_begin);
    return CENTO_OK;
}

/* -------------------------------------------------------------- FlashInfer's own plan ------- */

static cento_status reserve_pinned(held_batch *batch, size_t bytes, cento_error *error) {
    if (bytes <= batch->pinned_bytes)
        return CENTO_OK;
    void *memory = NULL;
    CUDA_TRY(cudaHostAlloc(&memory, 2 * bytes, cudaHostAllocDefault), error);
    if (batch->pinned != NULL)
        cudaFreeHost(batch->pinned);
    batch->pinned = memory;
    batch->pinned_bytes = 2 * bytes;
    return CENTO_OK;
}

/* The sizes of all kinds come first: the float workspace, which they share, must not move afterwards. */
static cento_status plan_kinds(flashinfer_attention *self, cuda_backend *device, flashinfer_work *held,
                               cento_error *error) {
    size_t ints[REQUEST_KINDS] = {0}, floats_max = ALIGNMENT;
    if (held->pinned_free == NULL)
        CUDA_TRY(cudaEventCreateWithFlags(&held->pinned_free, cudaEventDisableTiming), error);
    CUDA_TRY(cudaEventSynchronize(held->pinned_free), error);
    for (int kind = 0; kind < REQUEST_KINDS; kind++) {
        held_batch *batch = &held->batches[kind];
        if (batch->launch.requests == 0)
            continue;
        TRY(flashinfer_plan_bytes(&held->shape, &self->requests.batches[kind], &batch->float_bytes,
                                  &ints[kind], error));
        floats_max = batch->float_bytes > floats_max ? batch->float_bytes : floats_max;
    }
    TRY(device_buffer_reserve(device, &self->floats, floats_max, "FlashInfer's split states", error));
    for (int kind = 0; kind < REQUEST_KINDS; kind++) {
        held_batch *batch = &held->batches[kind];
        if (batch->launch.requests == 0)
            continue;
        TRY(device_buffer_reserve(device, &batch->ints, ints[kind], "FlashInfer's plan", error));
        TRY(reserve_pinned(batch, ints[kind], error));
        batch->launch.int_workspace = batch->ints.memory;
        batch->launch.float_workspace = self->floats.memory;
        TRY(flashinfer_plan(&held->shape, &self->requests.batches[kind], batch->float_bytes, ints[kind],
                            batch->pinned, &batch->launch, device->stream, error));
    }
    CUDA_TRY(cudaEventRecord(held->pinned_free, device->stream), error);
    return CENTO_OK;
}

static cento_status hold_positions(flashinfer_work *held, const uint32_t *positions, uint32_t rows,
                                   cento_error *error) {
    void *memory = held->positions;
    if (!mem_grow(&memory, &held->positions_capacity, rows, sizeof *held->positions))
        return error_memory(error, rows * sizeof *held->positions);
    held->positions = memory;
    memcpy(held->positions, positions, rows * sizeof *positions);
    return CENTO_OK;
}

static bool holds(const flashinfer_work *held, const cascade_plan *plan, uint32_t window,
                  const uint32_t *positions, const flashinfer_shape *shape) {
    const flashinfer_shape *of = &held->shape;
    return held->build_id != 0 && held->build_id == plan->build_id && held->window == window &&
           of->heads == shape->heads && of->kv_heads == shape->kv_heads && of->head_dim == shape->head_dim &&
           of->page_tokens == shape->page_tokens &&
           memcmp(held->positions, positions, plan->row_count * sizeof *positions) == 0;
}

static cento_status get_plan(flashinfer_attention *self, cuda_backend *device, const cascade_plan *plan,
                             uint32_t window, const uint32_t *positions, const flashinfer_shape *shape,
                             flashinfer_work **result, cento_error *error) {
    flashinfer_work *chosen = &self->plans[0];
    for (int i = 0; i < PLANS_HELD; i++) {
        flashinfer_work *held = &self->plans[i];
        if (holds(held, plan, window, positions, shape)) {
            held->used = ++self->clock;
            *result = held;
            return CENTO_OK;
        }
        chosen = held->used < chosen->used ? held : chosen;
    }
    chosen->build_id = 0;
    chosen->shape = *shape;
    chosen->window = window;
    TRY(hold_positions(chosen, positions, plan->row_count, error));
    TRY(flashinfer_requests_build(&self->requests, plan, window, positions, error));
    TRY(upload(self, device, chosen, error));
    TRY(plan_kinds(self, device, chosen, error));
    chosen->build_id = plan->build_id;
    chosen->used = ++self->clock;
    *result = chosen;
    return CENTO_OK;
}

/* ----------------------------------------------------------------------------- a layer ------ */

static cento_status reserve_states(flashinfer_attention *self, cuda_backend *device,
                                   const flashinfer_shape *shape, size_t entries, cento_error *error) {
    size_t heads = entries * shape->heads, values = heads * shape->head_dim;
    TRY(device_buffer_reserve(device, &self->q, values * 2, "rotated queries", error));
    TRY(device_buffer_reserve(device, &self->states, values * 2, "partial states", error));
    return device_buffer_reserve(device, &self->lse2, heads * sizeof(float), "sums of partial states", error);
}

static cento_status run_kinds(flashinfer_attention *self, const flashinfer_work *held,
                              const flashinfer_shape *shape, const void *kv, cudaStream_t stream,
                              cento_error *error) {
    for (int kind = 0; kind < REQUEST_KINDS; kind++) {
        flashinfer_launch launch = held->batches[kind].launch;
        size_t heads = (size_t)held->entry_begin[kind] * shape->heads;
        if (launch.requests == 0)
            continue;
        launch.float_workspace = self->floats.memory; /* it may have grown for another step */
        TRY(flashinfer_run(shape, &launch, (const uint16_t *)self->q.memory + heads * shape->head_dim, kv,
                           (uint16_t *)self->states.memory + heads * shape->head_dim,
                           (float *)self->lse2.memory + heads, stream, error));
    }
    return CENTO_OK;
}

static flashinfer_shape shape_of(const attention_shape *shape, const backend_kv_pool *pool) {
    return (flashinfer_shape){shape->heads, shape->kv_heads, shape->head_dim, pool->shape.page_tokens,
                              shape->scale};
}

cento_status flashinfer_attention_check(const attention_shape *shape, const backend_kv_pool *pool,
                                        cento_error *error) {
    const flashinfer_shape wanted = shape_of(shape, pool);
    TRY(flashinfer_shape_check(&wanted, error));
    return pool->bf16 ? CENTO_OK
                      : error_set(error, CENTO_UNSUPPORTED, "attention by FlashInfer needs K and V in bf16");
}

cento_status flashinfer_attention_prepare(flashinfer_attention *self, cuda_backend *device,
                                          const attention_shape *shape, const cascade_plan *plan,
                                          const uint32_t *positions, const backend_kv_pool *pool,
                                          const flashinfer_work **work, cento_error *error) {
    const flashinfer_shape wanted = shape_of(shape, pool);
    flashinfer_work *held = NULL;
    TRY(flashinfer_attention_check(shape, pool, error));
    TRY(get_plan(self, device, plan, shape->window, positions, &wanted, &held, error));
    TRY(reserve_states(self, device, &wanted, held->entry_begin[REQUEST_KINDS], error));
    *work = held;
    return CENTO_OK;
}

cento_status flashinfer_attention_launch(flashinfer_attention *self, const flashinfer_work *work,
                                         const cuda_attention_call *call, cento_error *error) {
    flashinfer_shape shape = work->shape;
    uint32_t entries = work->entry_begin[REQUEST_KINDS];
    uint32_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    shape.scale = call->shape->scale;
    if (entries > 0)
        CUDA_TRY(flashinfer_rotate(&shape, call->qkv, width, work->rows, work->rotations, entries,
                                   call->turns, call->rope_factor, self->q.memory, call->stream),
                 error);
    TRY(run_kinds(self, work, &shape, call->kv, call->stream, error));
    CUDA_TRY(flashinfer_fold(&shape, self->states.memory, self->lse2.memory, work->fold_begin,
                             work->fold_entries, call->rows, call->out, call->out_bf16, call->stream),
             error);
    return CENTO_OK;
}

cento_status flashinfer_attention_create(flashinfer_attention **result, cento_error *error) {
    *result = mem_zalloc(1, sizeof **result);
    return *result == NULL ? error_memory(error, sizeof **result) : CENTO_OK;
}

void flashinfer_attention_free(flashinfer_attention *self) {
    if (self == NULL)
        return;
    for (int i = 0; i < PLANS_HELD; i++) {
        flashinfer_work *held = &self->plans[i];
        for (int kind = 0; kind < REQUEST_KINDS; kind++) {
            device_buffer_free(&held->batches[kind].ints);
            if (held->batches[kind].pinned != NULL)
                cudaFreeHost(held->batches[kind].pinned);
        }
        device_buffer_free(&held->block);
        mem_free(held->positions);
        if (held->pinned_free != NULL)
            cudaEventDestroy(held->pinned_free);
    }
    device_buffer_free(&self->q);
    device_buffer_free(&self->states);
    device_buffer_free(&self->lse2);
    device_buffer_free(&self->floats);
    flashinfer_requests_free(&self->requests);
    mem_free(self->block);
    mem_free(self);
}
