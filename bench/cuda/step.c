/*
 * One forward pass on the GPU, measured from inside: what the floor is, what is reached, and where the rest
 * goes. Random weights and random KV; nothing is shared; a row for each sequence.
 *
 *   step products [GEOMETRY]                    products of 1 to 16 rows: cuBLASLt, ours by tiles; share of
 *                                               the copy bandwidth, checked against each other
 *   step decode GEOMETRY [BATCH…] [@CONTEXT…]   ms of a step, share of the floor, host time; logits with and
 *                                               without graphs compared
 *   step parts GEOMETRY BATCH @CONTEXT          what a step takes less when one kind of operation is left out
 *   … lt                                        with cuBLASLt for products of few rows, too
 *
 * The floor is (weights that a step reads + KV) over the device's measured copy bandwidth. Build: the target
 * bench_step.
 */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/cuda.h"
#include "base/clock.h"
#include "model/decoder.h"

enum { PAGE_TOKENS = 16, ROWS_MAX = 256, STEPS = 24, WARM = 4, LIST_MAX = 16 };

#define CUDA(call)                                                                                           \
    do {                                                                                                     \
        cudaError_t failed = (call);                                                                         \
        if (failed != cudaSuccess) {                                                                         \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(failed));       \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define OK(call)                                                                                             \
    do {                                                                                                     \
        cento_error problem = {0};                                                                           \
        cento_error *error = &problem;                                                                       \
        if ((call) != CENTO_OK) {                                                                            \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, problem.message);                  \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static double copy_bytes_s;
static bool library_only; /* products of few rows are cuBLASLt's, too */

static double ms_now(void) {
    return (double)clock_now_ns() * 1e-6;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

static backend *open_backend(bool deterministic) {
    backend *device;
    const backend_options options = {.compute_dtype = CENTO_DTYPE_BF16, .deterministic = deterministic};
    OK(backend_cuda_create(0, &options, &device, error));
    return device;
}

/* Bytes read and written per second by the driver's own copy. */
static void measure_copy(cuda_backend *device) {
    enum { TURNS = 8 };
    size_t bytes = (size_t)1 << 30;
    char *memory;
    float ms;
    double best = 0.0;
    cudaEvent_t begin, end;
    CUDA(cudaMalloc((void **)&memory, 2 * bytes));
    CUDA(cudaEventCreate(&begin));
    CUDA(cudaEventCreate(&end));
    for (int i = 0; i < TURNS; i++) {
        CUDA(cudaEventRecord(begin, device->stream));
        CUDA(cudaMemcpyAsync(memory, memory + bytes, bytes, cudaMemcpyDeviceToDevice, device->stream));
        CUDA(cudaEventRecord(end, device->stream));
        CUDA(cudaEventSynchronize(end));
        CUDA(cudaEventElapsedTime(&ms, begin, end));
        double rate = 2.0 * (double)bytes / (ms * 1e-3);
        best = rate > best ? rate : best;
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaFree(memory);
    copy_bytes_s = best;
    printf("# %s, copy %.0f GB/s\n", device->description, best * 1e-9);
}

/* ------------------------------------------------------------------------------- products ---- */

typedef struct product_case {
    const char *name;
    uint32_t features, depth;
    bool silu;
} product_case;

enum { COPIES_MAX = 64, TURNS = 5 };

typedef struct product_run {
    backend *device;
    backend_matrix *copies[COPIES_MAX];
    int copy_count;
    uint32_t rows, tiles; /* tiles 0: through the backend */
    uint32_t lengthy;
    bool overlap, silu;
    float *x, *y;
    void *hidden;
} product_run;

static void run_products(const product_run *run) {
    cuda_backend *device = cuda_of(run->device);
    for (int i = 0; i < run->copy_count; i++) {
        const backend_matrix *matrix = run->copies[i];
        if (run->tiles == 0) {
            OK(run->device->ops->matmul(run->device, matrix, run->x, run->rows, NULL, false, run->y, error));
            continue;
        }
        const products_few call = {.weights = matrix->data,
                                   .x = device->copies[0].memory.memory,
                                   .y = run->y,
                                   .hidden = run->silu ? run->hidden : NULL,
                                   .features = matrix->rows,
                                   .stride = matrix->stride,
                                   .rows = run->rows,
                                   .tiles = run->tiles,
                                   .lengthy = run->lengthy,
                                   .overlap = run->overlap};
        CUDA(products_few_run(&call, device->stream));
    }
}

/* µs of one product, in a graph of one for each copy. */
static double time_products(const product_run *run) {
    cuda_backend *device = cuda_of(run->device);
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cudaEvent_t begin, end;
    double times[TURNS];
    run_products(run); /* algorithms are chosen */
    CUDA(cudaStreamSynchronize(device->stream));
    CUDA(cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal));
    run_products(run);
    CUDA(cudaStreamEndCapture(device->stream, &graph));
    CUDA(cudaGraphInstantiate(&executable, graph, 0));
    CUDA(cudaEventCreate(&begin));
    CUDA(cudaEventCreate(&end));
    CUDA(cudaGraphLaunch(executable, device->stream));
    for (int i = 0; i < TURNS; i++) {
        float ms;
        CUDA(cudaEventRecord(begin, device->stream));
        CUDA(cudaGraphLaunch(executable, device->stream));
        CUDA(cudaEventRecord(end, device->stream));
        CUDA(cudaEventSynchronize(end));
        CUDA(cudaEventElapsedTime(&ms, begin, end));
        times[i] = ms * 1e3 / run->copy_count;
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return median(times, TURNS);
}

static float *fetch(backend *device, const float *memory, size_t count) {
    float *host = malloc(count * sizeof *host);
    OK(device->ops->read(device, memory, count, host, error));
    return host;
}

/* The largest difference over value and root mean square. */
static double difference(const float *a, const float *b, size_t count) {
    double largest = 0.0, squares = 0.0;
    for (size_t i = 0; i < count; i++)
        squares += (double)b[i] * b[i];
    double usual = sqrt(squares / (double)count);
    for (size_t i = 0; i < count; i++) {
        double apart = fabs((double)a[i] - b[i]) / (fabs(b[i]) + usual);
        if (!(apart <= largest)) /* NaN shows */
            largest = apart;
    }
    return largest;
}

/* silu(first half) · (second half), against the kernel's. */
static double silu_difference(const product_run *run, const float *y, uint32_t features) {
    uint32_t hidden = features / 2;
    size_t count = (size_t)run->rows * hidden;
    uint16_t *bits = malloc(count * sizeof *bits);
    float *made = malloc(count * sizeof *made), *expected = malloc(count * sizeof *expected);
    CUDA(cudaMemcpy(bits, run->hidden, count * sizeof *bits, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < count; i++) {
        uint32_t word = (uint32_t)bits[i] << 16;
        memcpy(&made[i], &word, sizeof word);
        const float *row = y + i / hidden * features;
        double gate = row[i % hidden], up = row[hidden + i % hidden];
        expected[i] = (float)(gate / (1.0 + exp(-gate)) * up);
    }
    double apart = difference(made, expected, count);
    free(bits);
    free(made);
    free(expected);
    return apart;
}

static void bench_product(const product_case *of) {
    static const uint32_t rows_list[] = {1, 2, 4, 8, 16};
    backend *device = open_backend(false);
    cuda_backend *cuda = cuda_of(device);
    product_run run = {.device = device};
    double bytes = 2.0 * of->features * of->depth;
    const tensor_view view = {.rows = of->features, .columns = of->depth};
    run.copy_count = (int)(400e6 / bytes) + 1;
    run.copy_count = run.copy_count < 3 ? 3 : run.copy_count > COPIES_MAX ? COPIES_MAX : run.copy_count;
    for (int i = 0; i < run.copy_count; i++)
        OK(device->ops->matrix_create(device, &view, 1, false, &run.copies[i], error));
    run.x = device->ops->alloc(device, (size_t)16 * of->depth);
    run.y = device->ops->alloc(device, (size_t)16 * of->features);
    CUDA(cudaMalloc(&run.hidden, (size_t)16 * of->features));
    CUDA(rows_random(run.x, false, 16, of->depth, of->depth, cuda->stream));
    uint32_t few = cuda->few_rows;
    for (size_t r = 0; r < sizeof rows_list / sizeof *rows_list; r++) {
        run.rows = rows_list[r];
        run.tiles = 0;
        run.silu = false;
        cuda->few_rows = 0;
        cuda->copy_next = 0; /* x in bf16 is in the first copy */
        cuda->copies[0].of = cuda->copies[1].of = NULL;
        double floor_us = bytes / copy_bytes_s * 1e6, us = time_products(&run);
        cuda->few_rows = few;
        float *expected = fetch(device, run.y, (size_t)run.rows * of->features);
        printf("%-10s %6u x %5u rows %2u floor %6.1f us: lt %6.1f (%3.0f %%)", of->name, of->features,
               of->depth, run.rows, floor_us, us, 100 * floor_us / us);
        double worst = 0.0;
        for (uint32_t tiles = 1; tiles <= 4; tiles *= 2)
            for (uint32_t lengthy = 1; lengthy <= (tiles == 4 ? 2 : 1); lengthy++) {
                run.tiles = tiles;
                run.lengthy = lengthy;
                run.overlap = true;
                us = time_products(&run);
                printf(" | %u%c %6.1f (%3.0f %%)", tiles, lengthy > 1 ? 'l' : ' ', us, 100 * floor_us / us);
                float *made = fetch(device, run.y, (size_t)run.rows * of->features);
                double apart = difference(made, expected, (size_t)run.rows * of->features);
                worst = apart <= worst ? worst : apart;
                free(made);
            }
        if (of->silu) {
            run.silu = true;
            for (run.tiles = 2; run.tiles <= 4; run.tiles *= 2) {
                us = time_products(&run);
                printf(" | silu %u %6.1f (%3.0f %%, off %.1e)", run.tiles, us, 100 * floor_us / us,
                       silu_difference(&run, expected, of->features));
            }
        }
        printf(" | off %.1e%s\n", worst, worst < 1e-3 ? "" : " WRONG");
        fflush(stdout);
        free(expected);
    }
    for (int i = 0; i < run.copy_count; i++)
        device->ops->matrix_free(device, run.copies[i]);
    device->ops->release(device, run.x);
    device->ops->release(device, run.y);
    cudaFree(run.hidden);
    device->ops->destroy(device);
}

static void bench_products(const char *geometry) {
    model_config config;
    OK(model_config_geometry(geometry, &config, error));
    uint32_t attended = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
    const product_case cases[] = {
        {"output", config.hidden_size, attended, false},
        {"down", config.hidden_size, config.intermediate_size, false},
        {"qkv", attended + 2 * kv, config.hidden_size, false},
        {"gate_up", 2 * config.intermediate_size, config.hidden_size, true},
        {"head", config.vocab_size, config.hidden_size, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        bench_product(&cases[i]);
}

/* ---------------------------------------------------------------------------- a model's step -- */

typedef struct step_model {
    model_config config;
    backend *device;
    backend_ops ops; /* the device's, to be changed */
    decoder *model;
    backend_kv_pool *pool;
    cascade_plan *plan;
    uint32_t pages_each, context_max;
    uint32_t *pages, *positions, *slots, *logit_rows;
    int32_t *tokens;
    kv_span *spans;
    row_group *groups;
    float *logits;
} step_model;

static void open_model(step_model *of, const char *geometry, uint32_t batch_max, uint32_t context_max) {
    OK(model_config_geometry(geometry, &of->config, error));
    of->device = open_backend(false);
    if (copy_bytes_s == 0.0)
        measure_copy(cuda_of(of->device));
    if (library_only)
        cuda_of(of->device)->few_rows = 0;
    of->ops = *of->device->ops;
    of->device->ops = &of->ops;
    OK(decoder_random(&of->config, of->device, ROWS_MAX, &of->model, error));
    OK(decoder_reserve_logits(of->model, ROWS_MAX, error));
    of->pages_each = (context_max + STEPS * 4 + PAGE_TOKENS - 1) / PAGE_TOKENS + 1;
    uint32_t pages = of->pages_each * batch_max;
    OK(decoder_kv_pool_create(of->model, pages, PAGE_TOKENS, CENTO_DTYPE_BF16, &of->pool, error));
    uint32_t tokens = of->config.layers * pages * 2 * of->config.kv_heads * PAGE_TOKENS;
    CUDA(rows_random(of->pool->data, true, tokens, of->config.head_dim, of->config.head_dim,
                     cuda_of(of->device)->stream));
    plan_options sizes = {.levels_max = 3,
                          .page_count = pages,
                          .page_tokens = PAGE_TOKENS,
                          .rows_max = ROWS_MAX,
                          .spans_max = ROWS_MAX,
                          .tile_rows = of->ops.plan_tile_rows(of->device),
                          .workers = of->ops.plan_workers(of->device)};
    attention_shape shape = decoder_attention_shape(of->model);
    OK(of->ops.plan_costs(of->device, &shape, of->pool, &sizes.costs, error));
    OK(cascade_plan_create(&sizes, &of->plan, error));
    of->pages = calloc(pages, sizeof *of->pages);
    of->positions = calloc(ROWS_MAX, sizeof *of->positions);
    of->slots = calloc(ROWS_MAX, sizeof *of->slots);
    of->logit_rows = calloc(ROWS_MAX, sizeof *of->logit_rows);
    of->tokens = calloc(ROWS_MAX, sizeof *of->tokens);
    of->spans = calloc(ROWS_MAX, sizeof *of->spans);
    of->groups = calloc(ROWS_MAX, sizeof *of->groups);
    of->logits = calloc((size_t)ROWS_MAX * of->config.vocab_size, sizeof *of->logits);
    for (uint32_t i = 0; i < pages; i++)
        of->pages[i] = (uint32_t)((uint64_t)i * 7919 % pages); /* 7919 is a prime beyond no pool's factors */
}

/* Token `position` of each of `batch` sequences. logit_count: of the first rows; `logits` NULL: they stay on
 * the device. */
static void run_step(step_model *of, uint32_t batch, uint32_t position, uint32_t logit_count, float *logits) {
    for (uint32_t i = 0; i < batch; i++) {
        const uint32_t *pages = of->pages + (size_t)i * of->pages_each;
        of->tokens[i] = (int32_t)((i * 7919u + position * 104729u) % of->config.vocab_size);
        of->positions[i] = position;
        of->slots[i] = pages[position / PAGE_TOKENS] * PAGE_TOKENS + position % PAGE_TOKENS;
        of->spans[i] = (kv_span){.pages = pages, .token_end = position + 1};
        of->groups[i] = (row_group){.row_begin = i, .row_count = 1, .span_begin = i, .span_count = 1};
        of->logit_rows[i] = i;
    }
    const plan_input input = {.groups = of->groups,
                              .group_count = batch,
                              .spans = of->spans,
                              .span_count = batch,
                              .positions = of->positions,
                              .row_count = batch,
                              .heads_per_kv = of->config.heads / of->config.kv_heads};
    OK(cascade_plan_build(of->plan, &input, error));
    const decoder_batch rows = {.token_count = batch,
                                .tokens = of->tokens,
                                .positions = of->positions,
                                .kv_slots = of->slots,
                                .plan = of->plan,
                                .logit_rows = of->logit_rows,
                                .logit_row_count = logit_count};
    OK(decoder_forward(of->model, &rows, of->pool, logits, error));
}

/* Bytes of weights that a step reads: all matrices, the embedding only as the head. */
static double weight_bytes(const model_config *config, bool head) {
    double hidden = config->hidden_size, attended = (double)config->heads * config->head_dim;
    double kv = (double)config->kv_heads * config->head_dim, inner = config->intermediate_size;
    double layer = hidden * (attended + 2 * kv) + attended * hidden + 3 * hidden * inner;
    return 2.0 * (config->layers * layer + (head ? hidden * config->vocab_size : 0.0));
}

typedef struct step_time {
    double ms, host_ms; /* host: until decoder_forward returns, where it waits for nothing */
} step_time;

/* Steps one after another, as a stream of them; logits of no row unless `logits`. */
static step_time time_steps(step_model *of, uint32_t batch, uint32_t context, uint32_t logits) {
    cuda_backend *device = cuda_of(of->device);
    double times[STEPS], host[STEPS];
    for (uint32_t i = 0; i < WARM; i++)
        run_step(of, batch, context + i, logits, NULL);
    CUDA(cudaStreamSynchronize(device->stream));
    for (uint32_t i = 0; i < STEPS; i++) {
        double begin = ms_now();
        run_step(of, batch, context + WARM + i, logits, NULL);
        host[i] = ms_now() - begin;
        CUDA(cudaStreamSynchronize(device->stream));
        times[i] = ms_now() - begin;
    }
    return (step_time){median(times, STEPS), median(host, STEPS)};
}

/* The same pass with graphs, twice, and without. */
static void compare_graphs(step_model *of, uint32_t batch, uint32_t context) {
    cuda_pass *pass = &cuda_of(of->device)->pass;
    size_t count = (size_t)batch * of->config.vocab_size;
    float *plain = malloc(count * sizeof *plain);
    pass->graphs_off = true;
    run_step(of, batch, context, batch, of->logits);
    memcpy(plain, of->logits, count * sizeof *plain);
    pass->graphs_off = false;
    double ms[4];
    for (int i = 0; i < 4; i++) { /* plainly, captured, replayed */
        double begin = ms_now();
        run_step(of, batch, context, batch, of->logits);
        ms[i] = ms_now() - begin;
    }
    bool equal = memcmp(plain, of->logits, count * sizeof *plain) == 0;
    printf("  graphs: plain %.2f, captured %.2f, replayed %.2f ms; %llu captures, %llu replays; logits %s, "
           "off %.1e\n",
           ms[0], ms[1], ms[3], (unsigned long long)pass->captures,
           (unsigned long long)of->ops.counters(of->device)->passes_replayed, equal ? "equal" : "differ",
           difference(of->logits, plain, count));
    free(plain);
}

static void print_step(step_model *of, uint32_t batch, uint32_t context) {
    compare_graphs(of, batch, context);
    cuda_of(of->device)->pass.graphs_off = true;
    step_time without = time_steps(of, batch, context, 0);
    cuda_of(of->device)->pass.graphs_off = false;
    double kv =
        (double)batch * context * (double)model_config_kv_bytes_per_token(&of->config, CENTO_DTYPE_BF16);
    double floor_ms = (weight_bytes(&of->config, false) + kv) / copy_bytes_s * 1e3;
    double head_ms = (weight_bytes(&of->config, true) + kv) / copy_bytes_s * 1e3;
    step_time layers = time_steps(of, batch, context, 0);
    printf("batch %3u context %5u: layers %7.3f ms (floor %6.3f, %3.0f %%), host %6.3f ms; without graphs "
           "%7.3f, host %7.3f",
           batch, context, layers.ms, floor_ms, 100 * floor_ms / layers.ms, layers.host_ms, without.ms,
           without.host_ms);
    step_time all = time_steps(of, batch, context, batch);
    printf("; with logits %7.3f ms (floor %6.3f, %3.0f %%)", all.ms, head_ms, 100 * head_ms / all.ms);
    printf("\n");
    fflush(stdout);
}

/* ----------------------------------------------------------------------------- knocked out --- */

static const backend_ops *whole_ops; /* of the device */
static uint32_t left_out_rows, left_out_columns;

static cento_status no_matmul(backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                              const float *bias, bool accumulate, float *y, cento_error *error) {
    if (matrix->rows == left_out_rows && matrix->columns == left_out_columns)
        return CENTO_OK;
    return whole_ops->matmul(self, matrix, x, rows, bias, accumulate, y, error);
}

static void no_rmsnorm(backend *self, const float *x, uint32_t rows, uint32_t width, const float *weight,
                       float epsilon, float *y) {
    (void)self, (void)x, (void)rows, (void)width, (void)weight, (void)epsilon, (void)y;
}

static void no_silu_mul(backend *self, const float *gate_up, uint32_t rows, uint32_t width, float *hidden) {
    (void)self, (void)gate_up, (void)rows, (void)width, (void)hidden;
}

static cento_status no_write_kv(backend *self, const attention_shape *shape, const rope_table *rope,
                                float *qkv, uint32_t rows, const uint32_t *positions,
                                const uint32_t *kv_slots, const float *q_norm, const float *k_norm,
                                backend_kv_pool *pool, uint32_t layer, cento_error *error) {
    (void)self, (void)shape, (void)rope, (void)qkv, (void)rows, (void)positions, (void)kv_slots, (void)q_norm,
        (void)k_norm, (void)pool, (void)layer, (void)error;
    return CENTO_OK;
}

static cento_status no_attention(backend *self, const attention_shape *shape, const rope_table *rope,
                                 const float *qkv, uint32_t rows, const uint32_t *positions,
                                 const cascade_plan *plan, const backend_kv_pool *pool, uint32_t layer,
                                 float *out, cento_error *error) {
    (void)self, (void)shape, (void)rope, (void)qkv, (void)rows, (void)positions, (void)plan, (void)pool,
        (void)layer, (void)out, (void)error;
    return CENTO_OK;
}

static void print_part(step_model *of, const char *name, double whole_ms, uint32_t batch, uint32_t context,
                       double floor_ms) {
    cuda_of(of->device)->addresses++; /* what was captured is not what is asked for */
    double ms = time_steps(of, batch, context, 0).ms;
    printf("  without %-10s %7.3f ms: it takes %7.3f (floor %6.3f)\n", name, ms, whole_ms - ms, floor_ms);
    of->ops = *whole_ops;
    cuda_of(of->device)->addresses++;
    fflush(stdout);
}

static void print_parts(step_model *of, uint32_t batch, uint32_t context) {
    const model_config *config = &of->config;
    uint32_t attended = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
    const struct {
        const char *name;
        uint32_t rows, columns;
    } products[] = {{"qkv", attended + 2 * kv, config->hidden_size},
                    {"output", config->hidden_size, attended},
                    {"gate_up", 2 * config->intermediate_size, config->hidden_size},
                    {"down", config->hidden_size, config->intermediate_size}};
    backend_ops whole = of->ops;
    whole_ops = &whole;
    double ms = time_steps(of, batch, context, 0).ms;
    double kv_bytes =
        (double)batch * context * (double)model_config_kv_bytes_per_token(config, CENTO_DTYPE_BF16);
    printf("batch %u context %u: %.3f ms\n", batch, context, ms);
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        left_out_rows = products[i].rows;
        left_out_columns = products[i].columns;
        of->ops.matmul = no_matmul;
        of->ops.matmul_silu = NULL;
        print_part(of, products[i].name, ms, batch, context,
                   2.0 * config->layers * left_out_rows * left_out_columns / copy_bytes_s * 1e3);
    }
    of->ops.attention = no_attention;
    print_part(of, "attention", ms, batch, context, kv_bytes / copy_bytes_s * 1e3);
    of->ops.write_kv = no_write_kv;
    print_part(of, "write_kv", ms, batch, context, 0);
    of->ops.rmsnorm = no_rmsnorm;
    print_part(of, "norms", ms, batch, context, 0);
    of->ops.silu_mul = no_silu_mul;
    of->ops.matmul_silu = NULL;
    print_part(of, "silu_mul", ms, batch, context, 0);
}

/* ------------------------------------------------------------------------------------ main --- */

int main(int argc, char **argv) {
    uint32_t batches[LIST_MAX] = {1, 8, 64, 256}, contexts[LIST_MAX] = {1000};
    int batch_count = 0, context_count = 0;
    const char *what = argc > 1 ? argv[1] : "", *geometry = argc > 2 ? argv[2] : "llama-3.1-8b";
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "lt") == 0)
            library_only = true;
        else if (argv[i][0] == '@' && context_count < LIST_MAX)
            contexts[context_count++] = (uint32_t)atoi(argv[i] + 1);
        else if (batch_count < LIST_MAX)
            batches[batch_count++] = (uint32_t)atoi(argv[i]);
    }
    batch_count = batch_count == 0 ? 4 : batch_count;
    context_count = context_count == 0 ? 1 : context_count;
    if (strcmp(what, "products") == 0) {
        backend *device = open_backend(false);
        measure_copy(cuda_of(device));
        device->ops->destroy(device);
        bench_products(geometry);
        return 0;
    }
    if (strcmp(what, "decode") != 0 && strcmp(what, "parts") != 0) {
        fprintf(stderr, "usage: step products [GEOMETRY] | decode|parts GEOMETRY [BATCH…] [@CONTEXT…]\n");
        return 2;
    }
    uint32_t batch_max = 0, context_max = 0;
    for (int i = 0; i < batch_count; i++)
        batch_max = batches[i] > batch_max ? batches[i] : batch_max;
    for (int i = 0; i < context_count; i++)
        context_max = contexts[i] > context_max ? contexts[i] : context_max;
    if (batch_max == 0 || batch_max > ROWS_MAX) {
        fprintf(stderr, "batches of 1 to %d\n", ROWS_MAX);
        return 2;
    }
    step_model of = {0};
    double begin = ms_now();
    open_model(&of, geometry, batch_max, context_max);
    CUDA(cudaDeviceSynchronize());
    printf("# %s, opened in %.1f s\n", geometry, (ms_now() - begin) * 1e-3);
    for (int c = 0; c < context_count; c++)
        for (int b = 0; b < batch_count; b++) {
            if (strcmp(what, "parts") == 0)
                print_parts(&of, batches[b], contexts[c]);
            else
                print_step(&of, batches[b], contexts[c]);
        }
    return 0;
}
