/* Attention over the grid; see bench_grid.h. */
#include "bench/bench_grid.h"
#include "bench/bench_median.h"

#include <math.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/measure_fill.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/bench_bandwidth.h"

#define COLD_BYTES      120e6 /* read before a layer comes again: more than caches hold */
#define COLD_BYTES_CPU  96e6
#define ONE_LAYER_BYTES 1e9 /* larger layers throw themselves out */
#define TIME_PER_RUN_NS 8e6
enum {
    LAYERS_MAX = 1024,
    CALLS_MAX = 1024,
    CALLS_MIN = 2,
    REPETITIONS_DEFAULT = 7,
    REPETITIONS_MAX = 64,
    ROWS_CHECKED = 3,
    HEAD_DIM_MAX = 256,
};

enum { SHARED, UNSHARED, VARIANTS };

typedef struct grid_case {
    const attention_case *what;
    backend *device;
    backend_kv_pool *pool;
    kv_pool_shape pool_shape;
    attention_shape shape;
    double inv_freq[HEAD_DIM_MAX / 2];
    rope_table rope;
    uint64_t unique_tokens;
    uint32_t *pages; /* (pages of the pool): page i of the layout is page i */
    uint32_t *run_pages, *positions;
    kv_span *spans;
    row_group *groups;
    plan_input input;
    cascade_plan *plans[VARIANTS];
    int variant;     /* that is being timed */
    float *qkv;      /* host (rows, width) */
    float *out_host; /* (rows, heads · head_dim) */
    float *device_qkv, *device_out;
    uint32_t calls[VARIANTS];
    bool recorded;
    double us[VARIANTS], error;
} grid_case;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#define ALLOCATE(pointer, count, error)                                                                      \
    do {                                                                                                     \
        (pointer) = mem_zalloc((count), sizeof *(pointer));                                                  \
        if ((pointer) == NULL)                                                                               \
            return error_memory(error, (count) * sizeof *(pointer));                                         \
    } while (0)

/* ------------------------------------------------------------------------------ layout ------ */

static uint32_t pages_of(const attention_case *what, uint32_t tokens) {
    return (tokens + what->page_tokens - 1) / what->page_tokens;
}

static cento_status lay_out(grid_case *grid, cento_error *error) {
    const attention_case *what = grid->what;
    uint32_t page = 0, row = 0, span_count = 0;
    uint64_t pages = 0, rows = 0, spans = 0;
    ALLOCATE(grid->run_pages, what->run_count + 1, error);
    for (size_t r = 0; r < what->run_count; r++)
        pages += pages_of(what, what->run_tokens[r]);
    for (size_t s = 0; s < what->sequence_count; s++) {
        const attention_sequence *sequence = &what->sequences[s];
        grid->unique_tokens += sequence->own_tokens;
        for (uint32_t i = 0; i < sequence->run_count; i++) { /* what nobody sees is not read */
            uint32_t run = what->run_ids[sequence->run_begin + i];
            grid->unique_tokens += grid->run_pages[run] == 0 ? what->run_tokens[run] : 0;
            grid->run_pages[run] = 1;
        }
        pages += pages_of(what, sequence->own_tokens);
        rows += sequence->new_rows;
        spans += sequence->run_count + 1u;
    }
    ALLOCATE(grid->pages, pages, error);
    ALLOCATE(grid->positions, rows, error);
    ALLOCATE(grid->spans, spans, error);
    ALLOCATE(grid->groups, what->sequence_count, error);
    for (uint32_t i = 0; i < pages; i++)
        grid->pages[i] = i;
    for (size_t r = 0; r < what->run_count; r++) {
        grid->run_pages[r] = page;
        page += pages_of(what, what->run_tokens[r]);
    }
    for (size_t s = 0; s < what->sequence_count; s++) {
        const attention_sequence *sequence = &what->sequences[s];
        uint32_t position = 0;
        grid->groups[s] = (row_group){row, sequence->new_rows, span_count, sequence->run_count + 1};
        for (uint32_t i = 0; i < sequence->run_count; i++) {
            uint32_t run = what->run_ids[sequence->run_begin + i];
            grid->spans[span_count++] = (kv_span){.pages = grid->pages + grid->run_pages[run],
                                                  .token_end = what->run_tokens[run],
                                                  .position = position,
                                                  .rotation_origin = what->composed ? position : 0};
            position += what->run_tokens[run];
        }
        grid->spans[span_count++] =
            (kv_span){.pages = grid->pages + page, .token_end = sequence->own_tokens, .position = position};
        page += pages_of(what, sequence->own_tokens);
        for (uint32_t i = 0; i < sequence->new_rows; i++)
            grid->positions[row++] = position + sequence->own_tokens - sequence->new_rows + i;
    }
    grid->input = (plan_input){
        .groups = grid->groups,
        .group_count = (uint32_t)what->sequence_count,
        .spans = grid->spans,
        .span_count = span_count,
        .positions = grid->positions,
        .row_count = row,
        .heads_per_kv = what->heads / what->kv_heads,
    };
    grid->pool_shape.pages = page;
    return CENTO_OK;
}

static double unique_bytes(const grid_case *grid) {
    return (double)grid->unique_tokens * 2 * grid->what->kv_heads * grid->what->head_dim *
           (grid->pool_shape.dtype == CENTO_DTYPE_BF16 ? 2 : 4);
}

static cento_status fill_pool(grid_case *grid, cento_error *error) {
    const kv_pool_shape *shape = &grid->pool_shape;
    const backend_ops *ops = grid->device->ops;
    uint32_t heads = 2 * shape->kv_heads;
    float *kv;
    if (ops->measure != NULL)
        return ops->measure->kv_fill(grid->device, grid->pool, error);
    ALLOCATE(kv, (size_t)heads * shape->head_dim, error);
    for (uint32_t slot = 0; slot < shape->pages * shape->page_tokens; slot++) {
        for (uint32_t head = 0; head < heads; head++)
            for (uint32_t i = 0; i < shape->head_dim; i++)
                kv[head * shape->head_dim + i] = measure_fill_value(slot, head, i);
        for (uint32_t layer = 0; layer < shape->layers; layer++)
            ops->kv_write(grid->device, grid->pool, layer, slot, kv);
    }
    mem_free(kv);
    return CENTO_OK;
}

static cento_status fill_queries(grid_case *grid, cento_error *error) {
    const attention_case *what = grid->what;
    const backend_ops *ops = grid->device->ops;
    size_t rows = grid->input.row_count, out_count = rows * what->heads * what->head_dim;
    size_t count = rows * (what->heads + 2 * what->kv_heads) * what->head_dim;
    uint64_t random = 88172645463325252u;
    ALLOCATE(grid->qkv, count, error);
    ALLOCATE(grid->out_host, out_count, error);
    for (size_t i = 0; i < count; i++) /* exact in bf16 */
        grid->qkv[i] = (float)((int)(next_random(&random) >> 56) - 128) / 128.0f;
    grid->device_qkv = ops->alloc(grid->device, count);
    grid->device_out = ops->alloc(grid->device, out_count);
    if (grid->device_qkv == NULL || grid->device_out == NULL)
        return error_memory(error, (count + out_count) * sizeof(float));
    return ops->write(grid->device, grid->device_qkv, count, grid->qkv, error);
}

static cento_status make_plans(grid_case *grid, cento_error *error) {
    const backend_ops *ops = grid->device->ops;
    plan_options options = {
        .page_count = grid->pool_shape.pages,
        .page_tokens = grid->pool_shape.page_tokens,
        .rows_max = grid->input.row_count,
        .spans_max = grid->input.span_count,
        .tile_rows = ops->plan_tile_rows(grid->device),
        .workers = ops->plan_workers(grid->device),
    };
    uint64_t cells = 2 * (uint64_t)grid->input.span_count;
    for (uint32_t i = 0; i < grid->input.span_count; i++)
        cells += grid->spans[i].token_end / PLAN_CELL_TOKENS;
    options.cells_max = (uint32_t)cells;
    TRY(ops->plan_costs(grid->device, &grid->shape, grid->pool, &options.costs, error));
    for (int variant = 0; variant < VARIANTS; variant++) {
        options.levels_max = variant == SHARED ? PLAN_LEVELS : 1;
        TRY(cascade_plan_create(&options, &grid->plans[variant], error));
        TRY(cascade_plan_build(grid->plans[variant], &grid->input, error));
    }
    return CENTO_OK;
}

static cento_status prepare(grid_case *grid, cento_dtype kv_dtype, cento_error *error) {
    const attention_case *what = grid->what;
    grid->shape = (attention_shape){
        .heads = what->heads,
        .kv_heads = what->kv_heads,
        .head_dim = what->head_dim,
        .scale = 1.0f / sqrtf((float)what->head_dim),
    };
    for (uint32_t i = 0; i < what->head_dim / 2; i++)
        grid->inv_freq[i] = pow(500000.0, -2.0 * i / what->head_dim);
    grid->rope = (rope_table){grid->inv_freq, 1.0};
    grid->pool_shape = (kv_pool_shape){
        .kv_heads = what->kv_heads,
        .head_dim = what->head_dim,
        .page_tokens = what->page_tokens,
        .dtype = kv_dtype,
    };
    TRY(lay_out(grid, error));
    double bytes = unique_bytes(grid),
           cold = grid->device->ops->measure == NULL ? COLD_BYTES_CPU : COLD_BYTES;
    double layers = bytes > ONE_LAYER_BYTES ? 1 : ceil(cold / bytes) + 1;
    grid->pool_shape.layers = (uint32_t)fmin(layers, LAYERS_MAX);
    TRY(grid->device->ops->kv_pool_create(grid->device, &grid->pool_shape, &grid->pool, error));
    TRY(fill_pool(grid, error));
    TRY(fill_queries(grid, error));
    return make_plans(grid, error);
}

static void release(grid_case *grid) {
    const backend_ops *ops = grid->device->ops;
    for (int variant = 0; variant < VARIANTS; variant++)
        cascade_plan_free(grid->plans[variant]);
    if (grid->pool != NULL)
        ops->kv_pool_free(grid->device, grid->pool);
    if (grid->device_qkv != NULL)
        ops->release(grid->device, grid->device_qkv);
    if (grid->device_out != NULL)
        ops->release(grid->device, grid->device_out);
    mem_free(grid->pages);
    mem_free(grid->run_pages);
    mem_free(grid->positions);
    mem_free(grid->spans);
    mem_free(grid->groups);
    mem_free(grid->qkv);
    mem_free(grid->out_host);
}

/* ------------------------------------------------------------------------------ timing ------ */

static cento_status attend(void *user, uint32_t index, cento_error *error) {
    grid_case *grid = user;
    return grid->device->ops->attention(grid->device, &grid->shape, &grid->rope, grid->device_qkv,
                                        grid->input.row_count, grid->positions, grid->plans[grid->variant],
                                        grid->pool, index % grid->pool_shape.layers, grid->device_out, error);
}

/* Where calls are done when they return. */
static cento_status time_by_clock(grid_case *grid, uint32_t calls, uint32_t repetitions, double *us,
                                  cento_error *error) {
    TRY(attend(grid, 0, error));
    for (uint32_t i = 0; i < repetitions; i++) {
        uint64_t begin_ns = clock_now_ns();
        for (uint32_t call = 0; call < calls; call++)
            TRY(attend(grid, call, error));
        us[i] = (double)(clock_now_ns() - begin_ns) * 1e-3;
    }
    return CENTO_OK;
}

/* Calls of a run: through all layers once, more where that is short. */
static uint32_t count_calls(const grid_case *grid, double copy_bytes_s) {
    double keys = (double)grid->plans[grid->variant]->stats.keys_read;
    double read = keys * unique_bytes(grid) / (double)grid->unique_tokens;
    double calls = TIME_PER_RUN_NS / (5000 + read / copy_bytes_s * 1e9);
    calls = fmax(calls, grid->variant == UNSHARED ? CALLS_MIN : grid->pool_shape.layers);
    return (uint32_t)fmin(fmax(calls, CALLS_MIN), CALLS_MAX);
}

static cento_status measure(grid_case *grid, int variant, uint32_t repetitions, double copy_bytes_s,
                            cento_error *error) {
    const backend_measure *ops = grid->device->ops->measure;
    double us[REPETITIONS_MAX];
    grid->variant = variant;
    uint32_t calls = grid->calls[variant] = count_calls(grid, copy_bytes_s);
    if (ops == NULL)
        TRY(time_by_clock(grid, calls, repetitions, us, error));
    else
        TRY(ops->time(grid->device, attend, grid, calls, repetitions, us, &grid->recorded, error));
    grid->us[variant] = median(us, repetitions) / calls;
    return CENTO_OK;
}

/* ----------------------------------------------------------------------------- checking ----- */

static void rotate(const grid_case *grid, const float *raw, double position, double *query) {
    uint32_t half = grid->what->head_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        double cosine = cos(position * grid->inv_freq[i]), sine = sin(position * grid->inv_freq[i]);
        double a = (double)raw[i], b = (double)raw[half + i];
        query[i] = a * cosine - b * sine;
        query[half + i] = b * cosine + a * sine;
    }
}

/* Adds the keys of a span that the row sees. Scores are small (values lie in [-2, 2)), so that no largest one
 * has to be known. */
static void attend_f64(const grid_case *grid, const kv_span *span, uint32_t position, const float *raw,
                       uint32_t kv_head, double *total, double *sums) {
    uint32_t dim = grid->what->head_dim, page_tokens = grid->what->page_tokens;
    uint32_t seen = position + 1 > span->position ? position + 1 - span->position : 0;
    uint32_t first_slot = span->pages[0] * page_tokens, value_head = grid->what->kv_heads + kv_head;
    double query[HEAD_DIM_MAX], sum[HEAD_DIM_MAX] = {0}, weights = 0;
    rotate(grid, raw, (double)position - (double)span->rotation_origin, query);
    uint32_t keys = seen < span->token_end ? seen : span->token_end;
#pragma omp parallel for reduction(+ : sum, weights) if (keys > 512)
    for (uint32_t k = 0; k < keys; k++) {
        uint32_t slot = first_slot + k; /* the layout's pages follow one another */
        double score = 0;
        for (uint32_t i = 0; i < dim; i++)
            score += query[i] * (double)measure_fill_value(slot, kv_head, i);
        double weight = exp(score * (double)grid->shape.scale);
        weights += weight;
        for (uint32_t i = 0; i < dim; i++)
            sum[i] += weight * (double)measure_fill_value(slot, value_head, i);
    }
    *total += weights;
    for (uint32_t i = 0; i < dim; i++)
        sums[i] += sum[i];
}

static double row_error(const grid_case *grid, const row_group *group, uint32_t row, uint32_t head) {
    const attention_case *what = grid->what;
    uint32_t dim = what->head_dim, width = (what->heads + 2 * what->kv_heads) * dim;
    const float *raw = grid->qkv + (size_t)row * width + head * dim;
    const float *out = grid->out_host + ((size_t)row * what->heads + head) * dim;
    double total = 0, sums[HEAD_DIM_MAX] = {0}, largest = 0, worst = 0;
    for (uint32_t i = 0; i < group->span_count; i++)
        attend_f64(grid, &grid->spans[group->span_begin + i], grid->positions[row], raw,
                   head / (what->heads / what->kv_heads), &total, sums);
    for (uint32_t i = 0; i < dim; i++) {
        double expected = sums[i] / total, wrong = fabs(expected - (double)out[i]);
        largest = fmax(largest, fabs(expected));
        worst = wrong <= worst ? worst : isnan(wrong) ? INFINITY : wrong;
    }
    return worst / largest;
}

static cento_status check(grid_case *grid, int variant, cento_error *error) {
    const backend_ops *ops = grid->device->ops;
    size_t count = (size_t)grid->input.row_count * grid->what->heads * grid->what->head_dim;
    uint64_t random = 0x2545F4914F6CDD1Du;
    memset(grid->out_host, 0xFF, count * sizeof(float)); /* NaN, so that what is not written shows */
    TRY(ops->write(grid->device, grid->device_out, count, grid->out_host, error));
    grid->variant = variant;
    TRY(attend(grid, 0, error));
    TRY(ops->read(grid->device, grid->device_out, count, grid->out_host, error));
    for (uint32_t i = 0; i < ROWS_CHECKED; i++) {
        uint64_t drawn = next_random(&random);
        const row_group *group =
            &grid->groups[i == 0 ? grid->input.group_count - 1 : drawn % grid->input.group_count];
        uint32_t row = group->row_begin + (uint32_t)((drawn >> 20) % group->row_count);
        double found = row_error(grid, group, row, (uint32_t)((drawn >> 40) % grid->what->heads));
        grid->error = fmax(grid->error, found);
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------ report ------ */

/* Products of a layer: each row and each key it sees, 2 × head_dim multiply-adds a head. */
static double flops(const grid_case *grid) {
    double pairs = 0;
    for (uint32_t row = 0; row < grid->input.row_count; row++)
        pairs += grid->positions[row] + 1.0; /* the spans of a row's group have no gaps */
    return 4.0 * pairs * grid->what->heads * grid->what->head_dim;
}

static cento_status add_report(const grid_case *grid, double copy_bytes_s, bool shared_only, json_t *list,
                               cento_error *error) {
    const attention_case *what = grid->what;
    double us = grid->us[SHARED], bytes = unique_bytes(grid), floor_us = bytes / copy_bytes_s * 1e6;
    json_t *object = json_pack(
        "{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:i, s:i, s:b, s:i, s:f, s:f, s:f, s:f, s:f}", "name",
        what->name, "family", what->family, "heads", (int)what->heads, "kv_heads", (int)what->kv_heads,
        "head_dim", (int)what->head_dim, "page_tokens", (int)what->page_tokens, "sequences",
        (int)what->sequence_count, "rows", (int)grid->input.row_count, "unique_bytes", bytes, "layers",
        (int)grid->pool_shape.layers, "calls", (int)grid->calls[SHARED], "recorded", (int)grid->recorded,
        "tasks", (int)grid->plans[SHARED]->task_count, "us", us, "floor_us", floor_us, "share_of_copy",
        floor_us / us, "tflop_s", flops(grid) / us * 1e-6, "error", isinf(grid->error) ? 1e9 : grid->error);
    if (object != NULL && !shared_only) {
        json_object_set_new(object, "us_unshared", json_real(grid->us[UNSHARED]));
        json_object_set_new(object, "speedup_vs_unshared", json_real(grid->us[UNSHARED] / us));
    }
    return json_array_append_new(list, object) == 0
               ? CENTO_OK
               : error_set(error, CENTO_INTERNAL, "%s: a figure is not a number", what->name);
}

static cento_status run_case(const bench_grid_options *options, backend *device, double copy_bytes_s,
                             const attention_case *what, json_t *list, uint32_t *wrong, cento_error *error) {
    grid_case *grid = mem_zalloc(1, sizeof *grid);
    if (grid == NULL)
        return error_memory(error, sizeof *grid);
    uint32_t repetitions = options->repetitions == 0 ? REPETITIONS_DEFAULT : options->repetitions;
    uint32_t fewer = repetitions > 3 ? 3 : repetitions;
    cento_status status;
    grid->what = what;
    grid->device = device;
    TRY_GOTO(status, prepare(grid, options->kv_dtype, error), done);
    TRY_GOTO(status, check(grid, SHARED, error), done);
    TRY_GOTO(status, measure(grid, SHARED, repetitions, copy_bytes_s, error), done);
    if (!options->shared_only) {
        TRY_GOTO(status, check(grid, UNSHARED, error), done);
        TRY_GOTO(status, measure(grid, UNSHARED, fewer, copy_bytes_s, error), done);
    }
    *wrong += !(grid->error <= BENCH_GRID_TOLERANCE);
    status = add_report(grid, copy_bytes_s, options->shared_only, list, error);
done:
    release(grid);
    mem_free(grid);
    if (status != CENTO_OK)
        error_prefix(error, "%s", what->name);
    return status;
}

static cento_status run_cases(const bench_grid_options *options, backend *device,
                              const attention_case_list *cases, json_t **report, cento_error *error) {
    json_t *list = json_array();
    double copy_bytes_s = 0;
    uint32_t wrong = 0;
    size_t done = 0;
    uint64_t begin_ns = clock_now_ns();
    cento_status status =
        list == NULL ? error_memory(error, 0) : bench_copy_bandwidth(device, &copy_bytes_s, error);
    for (; done < cases->count && status == CENTO_OK; done++) {
        bool late = options->seconds_max > 0 && clock_ms_since(begin_ns) > 1e3 * (double)options->seconds_max;
        const char *name = cases->cases[done].name;
        if (late || (options->on_case != NULL && !options->on_case(options->user, name, done, cases->count)))
            break;
        status = run_case(options, device, copy_bytes_s, &cases->cases[done], list, &wrong, error);
    }
    if (status == CENTO_OK) {
        *report = json_pack("{s:s, s:s, s:f, s:f, s:I, s:I, s:O}", "device", device->ops->describe(device),
                            "kv_dtype", options->kv_dtype == CENTO_DTYPE_BF16 ? "bf16" : "f32", "copy_gb_s",
                            copy_bytes_s * 1e-9, "seconds", clock_ms_since(begin_ns) * 1e-3, "cases_left_out",
                            (json_int_t)(cases->count - done), "wrong", (json_int_t)wrong, "cases", list);
        if (*report == NULL)
            status = error_set(error, CENTO_INTERNAL, "a figure is not a number");
    }
    json_decref(list);
    return status;
}

cento_status bench_grid(const bench_grid_options *options, json_t **report, cento_error *error) {
    const backend_options device_options = {
        .compute_dtype = CENTO_DTYPE_BF16, .threads = options->threads, .attention = options->attention};
    backend *device = NULL;
    attention_case_list cases;
    if (options->repetitions > REPETITIONS_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%u repetitions, expected at most %d",
                         options->repetitions, REPETITIONS_MAX);
    TRY(attention_cases_create(&options->filter, &cases, error));
    cento_status status = backend_create(options->device, &device_options, &device, error);
    if (status == CENTO_OK) {
        status = run_cases(options, device, &cases, report, error);
        device->ops->destroy(device);
    }
    attention_cases_free(&cases);
    return status;
}
