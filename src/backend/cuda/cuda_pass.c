/*
 * A forward pass as a whole: what changes from pass to pass goes to fixed addresses in few copies, and what
 * is asked for is captured as a graph, which does the next pass of the same kind in one launch.
 *
 * Passes are of one kind that are of one model and pool and whose rows, rounded up to a bucket, are as many.
 * The first of a kind runs plainly: products choose their algorithms, buffers grow, and the shapes of its
 * attention are noted. The second is captured, later ones are replayed, as long as no device memory that a
 * kernel may know has been given back (cuda_backend.addresses). Passes of more than GRAPH_ROWS_MAX rows, and
 * those whose attention is not one launch of one size, always run plainly; there the GPU has enough to do.
 *
 * Within a pass the operations name the batch's arrays by the host's pointers, by which they are recognised.
 * Rows beyond the batch's have no KV slot, and no plan names them: what is computed for them is lost.
 *
 * A capture that fails is given up and its pass runs plainly; after CAPTURE_FAILURES_MAX of them its kind
 * does so always.
 */
#include <string.h>

#include "backend/backend_check.h"
#include "base/mem.h"
#include "cuda.h"

#define NO_SLOT UINT32_MAX

enum { PASS_ARRAYS = 3, GRAPH_ROWS_MAX = 256, GRAPHS_MAX = 128, CAPTURE_FAILURES_MAX = 3 };

/* Passes of one kind. */
typedef struct pass_graph {
    struct pass_graph *next;
    const void *model;
    const backend_kv_pool *pool;
    uint32_t rows; /* with padding */
    bool windowed; /* with a plan for layers with a window */

    uint32_t failures;
    uint64_t addresses; /* the backend's, for which the rest holds */
    bool seen;          /* has run plainly; then … */
    const rope_table *rope;
    attention_shape shapes[PLANS_HELD]; /* … those of its attention, with … */
    uint32_t layers[PLANS_HELD];        /* … so many layers each */
    uint32_t shape_count;

    cudaGraphExec_t executable; /* NULL: not captured */
    const schedule_upload *schedules[PLANS_HELD];
    uint32_t workers[PLANS_HELD];
} pass_graph;

/* ------------------------------------------------------------------------------ the kinds ---- */

/* Rows with padding: few enough kinds that making their graphs costs little, near enough that padding does.
 */
static uint32_t bucket_of(uint32_t rows, uint32_t rows_max) {
    uint32_t bucket = 1, step = rows <= 32 ? 8 : rows <= 128 ? 16 : 32;
    while (bucket < rows && bucket < 8)
        bucket *= 2;
    if (bucket < rows)
        bucket = (rows + step - 1) / step * step;
    return bucket <= rows_max ? bucket : rows_max;
}

static void graph_reset(pass_graph *graph) {
    if (graph->executable != NULL)
        cudaGraphExecDestroy(graph->executable);
    graph->executable = NULL;
    graph->seen = false;
    graph->shape_count = 0;
    memset(graph->layers, 0, sizeof graph->layers);
}

static void graphs_free(cuda_pass *pass) {
    while (pass->graphs != NULL) {
        pass_graph *next = pass->graphs->next;
        graph_reset(pass->graphs);
        mem_free(pass->graphs);
        pass->graphs = next;
    }
    pass->graph_count = 0;
}

/* NULL: passes of this kind run plainly. */
static pass_graph *graph_of(cuda_backend *self, const backend_batch *batch) {
    cuda_pass *pass = &self->pass;
    uint32_t rows = bucket_of(batch->rows, batch->rows_max);
    if (pass->graphs_off || self->flashinfer != NULL || self->deterministic ||
        self->compute_dtype != CENTO_DTYPE_BF16 || rows > GRAPH_ROWS_MAX || rows > batch->rows_max)
        return NULL;
    pass_graph *graph = pass->graphs;
    while (graph != NULL && (graph->model != batch->model || graph->pool != batch->pool ||
                             graph->rows != rows || graph->windowed != (batch->window_plan != NULL)))
        graph = graph->next;
    if (graph == NULL) {
        if (pass->graph_count >= GRAPHS_MAX)
            graphs_free(pass);
        graph = mem_zalloc(1, sizeof *graph);
        if (graph == NULL)
            return NULL;
        *graph = (pass_graph){.next = pass->graphs,
                              .model = batch->model,
                              .pool = batch->pool,
                              .rows = rows,
                              .windowed = batch->window_plan != NULL};
        pass->graphs = graph;
        pass->graph_count++;
    }
    if (graph->addresses != self->addresses)
        graph_reset(graph);
    return graph->failures < CAPTURE_FAILURES_MAX ? graph : NULL;
}

static cento_status check_batch(const backend_batch *batch, cento_error *error) {
    if (batch->rows == 0 || batch->plan == NULL || batch->plan->row_count != batch->rows)
        return error_set(error, CENTO_INVALID_ARGUMENT, "a pass of %u rows, its plan is for %u", batch->rows,
                         batch->plan == NULL ? 0 : batch->plan->row_count);
    const kv_pool_shape *shape = &batch->pool->shape;
    for (uint32_t i = 0; i < batch->rows; i++)
        if (batch->kv_slots[i] / shape->page_tokens >= shape->pages)
            return error_set(error, CENTO_INVALID_ARGUMENT, "row %u is written to slot %u, the pool has %llu",
                             i, batch->kv_slots[i], (unsigned long long)shape->pages * shape->page_tokens);
    return CENTO_OK;
}

/* ------------------------------------------------------------------------- the rows' arrays -- */

static void stage(uint32_t *to, const void *from, uint32_t count, uint32_t padded, uint32_t filling) {
    memcpy(to, from, count * sizeof *to);
    for (uint32_t i = count; i < padded; i++)
        to[i] = filling;
}

static cento_status upload_arrays(cuda_backend *self, cento_error *error) {
    cuda_pass *pass = &self->pass;
    const backend_batch *batch = &pass->batch;
    uint32_t rows = pass->rows;
    size_t count = (size_t)PASS_ARRAYS * rows;
    if (!mem_grow((void **)&pass->staged, &pass->staged_count, count, sizeof *pass->staged))
        return error_memory(error, count * sizeof *pass->staged);
    stage(pass->staged, batch->ids, batch->rows, rows, 0);
    stage(pass->staged + rows, batch->positions, batch->rows, rows, 0);
    stage(pass->staged + 2 * (size_t)rows, batch->kv_slots, batch->rows, rows, NO_SLOT);
    size_t captured = (size_t)PASS_ARRAYS * GRAPH_ROWS_MAX; /* graphs know the address: it shall stay */
    TRY(device_buffer_reserve(self, &pass->arrays,
                              (count > captured ? count : captured) * sizeof *pass->staged,
                              "the rows of a pass", error));
    return cuda_stage(self, pass->arrays.memory, pass->staged, count * sizeof *pass->staged, error);
}

const void *cuda_pass_array(const cuda_backend *self, const void *host) {
    const cuda_pass *pass = &self->pass;
    const uint32_t *arrays = pass->arrays.memory;
    if (!pass->active)
        return NULL;
    return host == pass->batch.ids         ? arrays
           : host == pass->batch.positions ? arrays + pass->rows
           : host == pass->batch.kv_slots  ? arrays + 2 * (size_t)pass->rows
                                           : NULL;
}

cento_status cuda_rows_array(cuda_backend *self, cuda_upload *upload, const void *host, uint32_t rows,
                             const void **memory, cento_error *error) {
    *memory = cuda_pass_array(self, host);
    return *memory != NULL ? CENTO_OK
                           : cuda_upload_array(self, upload, host, rows * sizeof(uint32_t), memory, error);
}

/* ------------------------------------------------------------------------------- attention --- */

/* Everything uploaded that attention of this shape needs; `work` is good for the pass. */
static cento_status prepare_attention(cuda_backend *self, const attention_shape *shape,
                                      const rope_table *rope, const cascade_plan *plan,
                                      cuda_attention_work *work, cento_error *error) {
    const backend_batch *batch = &self->pass.batch;
    TRY(backend_check_attention(shape, batch->rows, plan, &batch->pool->shape, 0, error));
    TRY(cuda_attention_prepare(self, shape, rope, batch->rows, batch->positions, plan, batch->pool, work,
                               error));
    if (work->schedule != NULL)
        work->rows = self->pass.rows; /* of the copy in bf16: the product takes all */
    return CENTO_OK;
}

static cuda_attention_work *find_work(cuda_pass *pass, const attention_shape *shape) {
    for (uint32_t i = 0; i < pass->work_count; i++)
        if (memcmp(&pass->works[i].shape, shape, sizeof *shape) == 0)
            return &pass->works[i];
    return NULL;
}

static void note_shape(pass_graph *graph, const attention_shape *shape, const rope_table *rope) {
    uint32_t i = 0;
    while (i < graph->shape_count && memcmp(&graph->shapes[i], shape, sizeof *shape) != 0)
        i++;
    if (i == PLANS_HELD) {
        graph->failures = CAPTURE_FAILURES_MAX; /* more kinds of layers than plans are held */
        return;
    }
    graph->shapes[i] = *shape;
    graph->layers[i]++;
    graph->rope = rope;
    graph->shape_count = i + 1 > graph->shape_count ? i + 1 : graph->shape_count;
}

cento_status cuda_pass_attention(backend *base, const attention_shape *shape, const rope_table *rope,
                                 const float *qkv, uint32_t rows, const uint32_t *positions,
                                 const cascade_plan *plan, const backend_kv_pool *pool, uint32_t layer,
                                 float *out, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    cuda_pass *pass = &self->pass;
    if (!pass->active || positions != pass->batch.positions)
        return cuda_attention_layer(base, shape, rope, qkv, rows, positions, plan, pool, layer, out, error);
    TRY(cuda_enter(self, error));
    if (layer >= pool->shape.layers)
        return error_set(error, CENTO_INVALID_ARGUMENT, "layer %u of a pool of %u", layer,
                         pool->shape.layers);
    cuda_attention_work *work = find_work(pass, shape);
    if (work == NULL) {
        if (pass->capturing)
            return error_set(error, CENTO_INTERNAL, "attention of layer %u is not as it was noted", layer);
        work = &pass->works[pass->work_count % PLANS_HELD];
        TRY(prepare_attention(self, shape, rope, plan, work, error));
        pass->work_count = pass->work_count < PLANS_HELD ? pass->work_count + 1 : PLANS_HELD;
    }
    if (pass->graph != NULL && !pass->graph->seen)
        note_shape(pass->graph, shape, rope);
    return cuda_attention_launch(self, work, qkv, pool, layer, out, error);
}

/* Of all shapes that were noted. *fixed: each is one launch of one size. */
static cento_status prepare_noted(cuda_backend *self, const pass_graph *graph, bool *fixed,
                                  cento_error *error) {
    cuda_pass *pass = &self->pass;
    *fixed = true;
    for (uint32_t i = 0; i < graph->shape_count; i++) {
        const attention_shape *shape = &graph->shapes[i];
        bool windowed = shape->window != 0 && graph->windowed;
        TRY(prepare_attention(self, shape, graph->rope, windowed ? pass->batch.window_plan : pass->batch.plan,
                              &pass->works[i], error));
        pass->work_count = i + 1;
        *fixed = *fixed && pass->works[i].schedule != NULL;
    }
    return CENTO_OK;
}

/* The graph's attention is what has been prepared now. */
static bool graph_fits(const cuda_backend *self, const pass_graph *graph) {
    if (graph->executable == NULL || graph->addresses != self->addresses)
        return false;
    for (uint32_t i = 0; i < graph->shape_count; i++)
        if (graph->schedules[i] != self->pass.works[i].schedule ||
            graph->workers[i] != self->pass.works[i].schedule->header.workers)
            return false;
    return true;
}

/* --------------------------------------------------------------------------- begin and end --- */

static void forget_copies(cuda_backend *self) {
    self->copy_next = 0; /* a pass uses them in the same order as the one that was captured */
    for (uint32_t i = 0; i < BF16_COPIES; i++)
        self->copies[i].of = NULL;
}

static void count_replay(cuda_backend *self, const pass_graph *graph) {
    const backend_kv_pool *pool = graph->pool;
    for (uint32_t i = 0; i < graph->shape_count; i++)
        self->counters.kv_bytes_read += graph->layers[i] * self->pass.works[i].keys_read * 2 *
                                        graph->shapes[i].kv_heads * graph->shapes[i].head_dim *
                                        pool->element_bytes;
    self->counters.passes_replayed++;
}

/* Replays the pass (*done) or begins to capture it; where neither can be, it is to run plainly. */
static cento_status begin_graph(cuda_backend *self, pass_graph *graph, bool *done, cento_error *error) {
    cuda_pass *pass = &self->pass;
    bool fixed;
    TRY(prepare_noted(self, graph, &fixed, error));
    if (!fixed) {
        graph->failures++;
        return CENTO_OK;
    }
    if (graph_fits(self, graph)) {
        *done = cudaGraphLaunch(graph->executable, self->stream) == cudaSuccess;
        if (*done)
            count_replay(self, graph);
        else
            graph->failures++;
    } else if (graph->addresses == self->addresses) {
        if (graph->executable != NULL)
            cudaGraphExecDestroy(graph->executable);
        graph->executable = NULL;
        pass->capturing =
            cudaStreamBeginCapture(self->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
        graph->failures += !pass->capturing;
    }
    cudaGetLastError(); /* what failed is done plainly, and fails there again if it must */
    return CENTO_OK;
}

cento_status cuda_pass_begin(backend *base, const backend_batch *batch, uint32_t *rows, bool *done,
                             cento_error *error) {
    cuda_backend *self = cuda_of(base);
    cuda_pass *pass = &self->pass;
    pass->active = pass->capturing = *done = false;
    pass->work_count = 0;
    TRY(cuda_enter(self, error));
    TRY(check_batch(batch, error));
    pass->batch = *batch;
    pass->graph = graph_of(self, batch);
    pass->rows = pass->graph != NULL ? pass->graph->rows : batch->rows;
    forget_copies(self);
    TRY(upload_arrays(self, error));
    pass->kv_bytes_before = self->counters.kv_bytes_read;
    if (pass->graph != NULL && pass->graph->seen)
        TRY(begin_graph(self, pass->graph, done, error));
    pass->active = true;
    *rows = pass->rows;
    return CENTO_OK;
}

/* What was captured becomes the kind's graph, and is launched. */
static cudaError_t end_capture(cuda_backend *self, bool whole, pass_graph *graph) {
    cudaGraph_t captured = NULL;
    cudaGraphExec_t executable = NULL;
    cudaError_t code = cudaStreamEndCapture(self->stream, &captured);
    if (code == cudaSuccess && !whole)
        code = cudaErrorStreamCaptureInvalidated;
    if (code == cudaSuccess)
        code = cudaGraphInstantiate(&executable, captured, 0);
    if (captured != NULL)
        cudaGraphDestroy(captured);
    if (code == cudaSuccess)
        code = cudaGraphLaunch(executable, self->stream);
    if (code != cudaSuccess) {
        if (executable != NULL)
            cudaGraphExecDestroy(executable);
        cudaGetLastError();
        return code;
    }
    graph->executable = executable;
    for (uint32_t i = 0; i < graph->shape_count; i++) {
        graph->schedules[i] = self->pass.works[i].schedule;
        graph->workers[i] = graph->schedules[i]->header.workers;
    }
    return cudaSuccess;
}

cento_status cuda_pass_end(backend *base, cento_status status, bool *again, cento_error *error) {
    cuda_backend *self = cuda_of(base);
    cuda_pass *pass = &self->pass;
    pass_graph *graph = pass->graph;
    pass->active = *again = false;
    forget_copies(self);
    if (pass->capturing) {
        pass->capturing = false;
        bool whole = status == CENTO_OK && self->failed == CENTO_OK;
        if (end_capture(self, whole, graph) != cudaSuccess) {
            graph->failures++;
            self->failed = CENTO_OK;
            self->counters.kv_bytes_read = pass->kv_bytes_before;
            *again = true;
            return CENTO_OK;
        }
        pass->captures++;
    } else if (status != CENTO_OK) {
        if (graph != NULL)
            graph_reset(graph);
        return status;
    } else if (graph != NULL && !graph->seen) {
        graph->seen = true;
        graph->addresses = self->addresses;
    }
    self->counters.forward_tokens += pass->batch.rows;
    return cuda_enter(self, error);
}

void cuda_pass_free(cuda_pass *pass) {
    graphs_free(pass);
    device_buffer_free(&pass->arrays);
    mem_free(pass->staged);
    *pass = (cuda_pass){0};
}
