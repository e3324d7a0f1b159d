/*
 * A plan's way to the device: what cascade_plan holds is written out as cuda_attention.h describes it, into
 * pinned memory, and goes over in one copy. Two plans are held (layers with and without a window), each
 * built once per step and found again by every layer.
 */
#include <string.h>

#include "base/mem.h"
#include "cuda.h"

enum { ALIGNMENT = 16 };

/* The block as it is being written. */
typedef struct block_writer {
    const cascade_plan *plan;
    const uint32_t *positions;
    uint32_t window;
    cuda_plan_header *header;
    char *memory;
} block_writer;

static void *table_at(const block_writer *writer, uint32_t offset) {
    return writer->memory + offset;
}

/* ------------------------------------------------------------------------------ layout ------ */

static uint32_t source_pages(const cascade_plan *plan, const plan_source *source) {
    uint32_t page_tokens = plan->options.page_tokens;
    return (source->token_end - 1) / page_tokens - source->token_begin / page_tokens + 1;
}

static uint64_t take(uint64_t *bytes, uint64_t count, size_t size) {
    uint64_t offset = *bytes;
    *bytes = (offset + count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return offset;
}

static cento_status lay_out(const cascade_plan *plan, cuda_plan_header *header, cento_error *error) {
    uint64_t private_count = 0, page_ids = 0, covered = 0, bytes = sizeof *header;
    for (uint32_t v = 0; v < plan->view_count; v++)
        private_count += plan->views[v].slot == PLAN_PRIVATE ? plan->views[v].row_count : 0;
    for (uint32_t s = 0; s < plan->source_count; s++)
        page_ids += source_pages(plan, &plan->sources[s]);
    for (uint32_t f = 0; f < plan->fold_count; f++)
        covered += plan->folds[f].row_count;
    *header = (cuda_plan_header){
        .row_count = plan->row_count,
        .page_tokens = plan->options.page_tokens,
        .source_count = plan->source_count,
        .cell_count = plan->cell_count,
        .task_count = plan->task_count,
        .view_count = plan->view_count,
        .fold_count = plan->fold_count,
        .slot_count = plan->slot_count,
        .private_count = (uint32_t)private_count,
        .page_id_count = (uint32_t)page_ids,
        .covered_count = (uint32_t)covered,
        .sources = (uint32_t)take(&bytes, plan->source_count, sizeof(cuda_plan_source)),
        .cells = (uint32_t)take(&bytes, plan->cell_count, sizeof(cuda_plan_cell)),
        .tasks = (uint32_t)take(&bytes, plan->task_count, sizeof(cuda_plan_task)),
        .views = (uint32_t)take(&bytes, plan->view_count, sizeof(cuda_plan_view)),
        .folds = (uint32_t)take(&bytes, plan->fold_count, sizeof(cuda_plan_fold)),
        .slot_rows = (uint32_t)take(&bytes, plan->slot_count, sizeof(cuda_plan_row)),
        .private_rows = (uint32_t)take(&bytes, private_count, sizeof(cuda_plan_row)),
        .page_ids = (uint32_t)take(&bytes, page_ids, sizeof(uint32_t)),
        .row_folds = (uint32_t)take(&bytes, plan->row_count, sizeof(uint32_t)),
    };
    if (bytes > INT32_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "a step of %u rows with %llu pairs of rows and cells is %llu bytes as a plan",
                         plan->row_count, (unsigned long long)private_count, (unsigned long long)bytes);
    header->bytes = (uint32_t)bytes;
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------ tables ------ */

static void write_cells(const block_writer *writer) {
    const cascade_plan *plan = writer->plan;
    const cuda_plan_header *header = writer->header;
    cuda_plan_cell *cells = table_at(writer, header->cells);
    cuda_plan_source *sources = table_at(writer, header->sources);
    uint32_t *page_ids = table_at(writer, header->page_ids), page_tokens = header->page_tokens;
    uint32_t pages = 0;
    for (uint32_t c = 0; c < plan->cell_count; c++) {
        const plan_cell *cell = &plan->cells[c];
        uint32_t key = 0;
        cells[c] = (cuda_plan_cell){cell->source_begin, cell->source_count, cell->key_count, 0};
        for (uint32_t s = cell->source_begin; s < cell->source_begin + cell->source_count; s++) {
            const plan_source *source = &plan->sources[s];
            uint32_t count = source->token_end - source->token_begin;
            uint32_t first = source->token_begin / page_tokens, page_count = source_pages(plan, source);
            sources[s] = (cuda_plan_source){pages, source->token_begin % page_tokens, key, count};
            memcpy(page_ids + pages, source->pages + first, page_count * sizeof *page_ids);
            pages += page_count;
            key += count;
        }
    }
}

/* What the view's rows see, and how their queries are rotated; returns the largest seen_end. */
static cento_status write_rows(const block_writer *writer, const plan_view *view, cuda_plan_row *rows,
                               uint32_t *seen_end_max, cento_error *error) {
    int64_t key_count = writer->plan->cells[view->cell].key_count, window = writer->window;
    for (uint32_t i = 0; i < view->row_count; i++) {
        uint32_t row = view->row_begin + i;
        int64_t position = writer->positions[row], rotation = position - view->rotation_origin;
        int64_t end = position - view->position + 1, begin = window == 0 ? 0 : end - window;
        begin = begin < 0 ? 0 : begin;
        end = end > key_count ? key_count : end;
        if (begin >= end)
            begin = end = 0;
        if (rotation < INT32_MIN || rotation > INT32_MAX)
            return error_set(error, CENTO_INVALID_ARGUMENT,
                             "row %u at position %lld sees keys rotated from %lld: too far away", row,
                             (long long)position, (long long)view->rotation_origin);
        rows[i] = (cuda_plan_row){row, (int32_t)rotation, (uint16_t)begin, (uint16_t)end};
        *seen_end_max = (uint32_t)end > *seen_end_max ? (uint32_t)end : *seen_end_max;
    }
    return CENTO_OK;
}

static cento_status write_views(const block_writer *writer, cento_error *error) {
    const cascade_plan *plan = writer->plan;
    const cuda_plan_header *header = writer->header;
    cuda_plan_view *views = table_at(writer, header->views);
    cuda_plan_row *slot_rows = table_at(writer, header->slot_rows);
    cuda_plan_row *private_rows = table_at(writer, header->private_rows);
    uint32_t private_begin = 0;
    for (uint32_t v = 0; v < plan->view_count; v++) {
        const plan_view *view = &plan->views[v];
        bool private = view->slot == PLAN_PRIVATE;
        uint32_t seen_end = 0;
        TRY(write_rows(writer, view, private ? private_rows + private_begin : slot_rows + view->slot,
                       &seen_end, error));
        views[v] = (cuda_plan_view){view->cell, view->slot, private ? private_begin : 0, seen_end};
        private_begin += private ? view->row_count : 0;
    }
    return CENTO_OK;
}

static void write_tasks(const block_writer *writer) {
    const cascade_plan *plan = writer->plan;
    cuda_plan_task *tasks = table_at(writer, writer->header->tasks);
    const cuda_plan_view *views = table_at(writer, writer->header->views);
    for (uint32_t t = 0; t < plan->task_count; t++) {
        const plan_task *task = &plan->tasks[t];
        const uint32_t *task_views = plan->task_views + task->view_begin;
        tasks[t] = (cuda_plan_task){task->cell, plan->views[task_views[0]].slot, task->row_count, 0};
        for (uint32_t i = 0; i < task->view_count; i++)
            if (views[task_views[i]].seen_end > tasks[t].seen_end)
                tasks[t].seen_end = views[task_views[i]].seen_end;
    }
}

static void write_folds(const block_writer *writer) {
    const cascade_plan *plan = writer->plan;
    cuda_plan_fold *folds = table_at(writer, writer->header->folds);
    uint32_t *row_folds = table_at(writer, writer->header->row_folds);
    memset(row_folds, 0xFF, plan->row_count * sizeof *row_folds);
    for (uint32_t f = 0; f < plan->fold_count; f++) {
        const plan_fold *fold = &plan->folds[f];
        folds[f] = (cuda_plan_fold){fold->row_begin, fold->row_count, fold->view_begin, fold->view_count};
        for (uint32_t i = 0; i < fold->row_count; i++)
            row_folds[fold->row_begin + i] = f;
    }
}

/* ------------------------------------------------------------------------------ upload ------ */

static cento_status reserve_staging(plan_store *store, size_t bytes, cento_error *error) {
    if (store->staging_free == NULL)
        CUDA_TRY(cudaEventCreateWithFlags(&store->staging_free, cudaEventDisableTiming), error);
    CUDA_TRY(cudaEventSynchronize(store->staging_free), error);
    if (bytes <= store->staging_bytes)
        return CENTO_OK;
    size_t grown = bytes < 2 * store->staging_bytes ? 2 * store->staging_bytes : bytes;
    char *memory = NULL;
    CUDA_TRY(cudaHostAlloc((void **)&memory, grown, cudaHostAllocDefault), error);
    if (store->staging != NULL)
        cudaFreeHost(store->staging);
    store->staging = memory;
    store->staging_bytes = grown;
    return CENTO_OK;
}

static cento_status upload(cuda_backend *self, const cascade_plan *plan, uint32_t window,
                           const uint32_t *positions, plan_upload *held, cento_error *error) {
    plan_store *store = &self->plans;
    cuda_plan_header header;
    TRY(lay_out(plan, &header, error));
    TRY(reserve_staging(store, header.bytes, error));
    TRY(device_buffer_reserve(self, &held->block, header.bytes, "a step's plan", error));
    block_writer writer = {
        .plan = plan, .positions = positions, .window = window, .header = &header, .memory = store->staging};
    memcpy(writer.memory, &header, sizeof header);
    write_cells(&writer);
    TRY(write_views(&writer, error));
    write_tasks(&writer);
    write_folds(&writer);
    CUDA_TRY(cudaMemcpyAsync(held->block.memory, store->staging, header.bytes, cudaMemcpyHostToDevice,
                             self->stream),
             error);
    CUDA_TRY(cudaEventRecord(store->staging_free, self->stream), error);
    held->plan = (cuda_plan){header, held->block.memory};
    return CENTO_OK;
}

static cento_status hold_positions(plan_upload *held, const uint32_t *positions, uint32_t rows,
                                   cento_error *error) {
    if (rows > held->positions_capacity) {
        uint32_t *grown = mem_realloc(held->positions, rows, sizeof *grown);
        if (grown == NULL)
            return error_memory(error, rows * sizeof *grown);
        held->positions = grown;
        held->positions_capacity = rows;
    }
    if (rows > 0)
        memcpy(held->positions, positions, rows * sizeof *positions);
    return CENTO_OK;
}

static bool holds(const plan_upload *held, const cascade_plan *plan, uint32_t window,
                  const uint32_t *positions) {
    return held->build_id != 0 && held->build_id == plan->build_id && held->window == window &&
           memcmp(held->positions, positions, plan->row_count * sizeof *positions) == 0;
}

cento_status cuda_plan_get(cuda_backend *self, const cascade_plan *plan, uint32_t window,
                           const uint32_t *positions, const cuda_plan **result, cento_error *error) {
    plan_store *store = &self->plans;
    plan_upload *chosen = &store->plans[0];
    for (int i = 0; i < PLANS_HELD; i++) {
        plan_upload *held = &store->plans[i];
        if (holds(held, plan, window, positions)) {
            held->used = ++store->clock;
            *result = &held->plan;
            return CENTO_OK;
        }
        chosen = held->used < chosen->used ? held : chosen;
    }
    chosen->build_id = 0;
    TRY(hold_positions(chosen, positions, plan->row_count, error));
    TRY(upload(self, plan, window, positions, chosen, error));
    chosen->build_id = plan->build_id;
    chosen->window = window;
    chosen->used = ++store->clock;
    *result = &chosen->plan;
    return CENTO_OK;
}

void plan_store_free(plan_store *store) {
    for (int i = 0; i < PLANS_HELD; i++) {
        device_buffer_free(&store->plans[i].block);
        mem_free(store->plans[i].positions);
    }
    if (store->staging != NULL)
        cudaFreeHost(store->staging);
    if (store->staging_free != NULL)
        cudaEventDestroy(store->staging_free);
    *store = (plan_store){0};
}
