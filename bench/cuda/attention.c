/*
 * Check and bench of the GPU's attention kernels, without the backend: a plan, its schedule, one launch.
 *
 *   attention check [steps [seed]]   random steps (tests/random_step.h) against f64, NaN in every slot that
 *                                    no span names and in every output before, the same bits when run
 *                                    again, counters zero
 *
 *   attention speed [NAME]           the cases of docs/performance.md: medians of graph replays, layers
 *                                    cycled so that L2 is cold, some rows of each case checked
 *
 *   attention schedule [NAME]        no device: how evenly the workers are loaded
 *
 * Built with DEFINES=-DATTENTION_STAMPS, `speed` says where a launch's time goes instead.
 *
 * A last argument `sm90` takes attention_sm90 instead of attention_mma. Build: bench/cuda/build.sh
 */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cuda/attention_mma.h"
#include "backend/cuda/attention_sm90.h"
#include "cascade/cascade_plan.h"
#include "fill.h"
#include "random_step.h"

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

typedef struct kernel_choice {
    const char *name;
    uint32_t (*workers)(uint32_t head_dim, uint32_t multiprocessors);
    cudaError_t (*run)(const attention_mma_call *call);
    const schedule_costs *costs;
} kernel_choice;

static const kernel_choice kernels[] = {
    {"mma", attention_mma_workers, attention_mma_run, NULL},
    {"sm90", attention_sm90_workers, attention_sm90_run, &attention_sm90_costs}};
static const kernel_choice *kernel = &kernels[0];
static uint32_t multiprocessors;
static double copy_gb_s;
static bool schedules_only; /* no device */

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* -------------------------------------------------------------------------------- a step ---- */

typedef struct step {
    attention_shape shape;
    double inv_freq[128];
    double rope_factor;
    uint32_t page_count, page_tokens, layers;
    plan_input input;
    uint32_t levels, seed;
    cascade_plan *plan;
    attention_schedule *schedule;
    const uint32_t *block;
    double build_us;
    float *qkv; /* host */
    /* device */
    unsigned char *named;
    char *kv;
    size_t layer_bytes;
    float *device_qkv, *out, *workspace;
    void *out_bf16;
    uint32_t *device_block, *arrived;
    double *turns;
    attention_mma_call call;
} step;

static size_t qkv_width(const step *of) {
    return (size_t)(of->shape.heads + 2 * of->shape.kv_heads) * of->shape.head_dim;
}

static size_t out_width(const step *of) {
    return (size_t)of->shape.heads * of->shape.head_dim;
}

static void *device_memory(size_t bytes, int poison) {
    void *memory = NULL;
    CUDA(cudaMalloc(&memory, bytes + 256));
    CUDA(cudaMemset(memory, poison, bytes + 256));
    return memory;
}

static void *device_copy(const void *from, size_t bytes) {
    void *memory = device_memory(bytes, 0);
    CUDA(cudaMemcpy(memory, from, bytes, cudaMemcpyHostToDevice));
    return memory;
}

static uint32_t worker_count(uint32_t head_dim) {
    return schedules_only ? (kernel == kernels ? 2 : 1) * multiprocessors
                          : kernel->workers(head_dim, multiprocessors);
}

static void step_plan(step *of) {
    const plan_options options = {
        .levels_max = of->levels,
        .page_count = of->page_count,
        .page_tokens = of->page_tokens,
        .rows_max = of->input.row_count,
        .spans_max = of->input.span_count + 1,
        .tile_rows = 128,
        .workers = 1,
    };
    OK(cascade_plan_create(&options, &of->plan, error));
    OK(cascade_plan_build(of->plan, &of->input, error));
    OK(cascade_plan_check(of->plan, &of->input, error));
    const schedule_options wanted = {worker_count(of->shape.head_dim), of->shape.kv_heads,
                                     of->input.heads_per_kv, of->shape.window, kernel->costs};
    OK(attention_schedule_create(&of->schedule, error));
    OK(attention_schedule_build(of->schedule, &wanted, of->plan, of->input.positions, &of->block, error));
    double begin = seconds();
    OK(attention_schedule_build(of->schedule, &wanted, of->plan, of->input.positions, &of->block, error));
    of->build_us = (seconds() - begin) * 1e6;
}

/* Pages of the spans are named, the others NaN. */
static void step_fill(step *of) {
    size_t slots = (size_t)of->page_count * of->page_tokens;
    unsigned char *named = calloc(slots, 1);
    for (uint32_t s = 0; s < of->input.span_count; s++) {
        const kv_span *span = &of->input.spans[s];
        for (uint32_t t = span->token_begin; t < span->token_end; t++)
            named[(size_t)span->pages[t / of->page_tokens] * of->page_tokens + t % of->page_tokens] = 1;
    }
    of->named = device_copy(named, slots);
    free(named);
    size_t values = slots * 2 * of->shape.kv_heads * of->shape.head_dim;
    of->layer_bytes = values * 2;
    CUDA(cudaMalloc((void **)&of->kv, of->layer_bytes * of->layers));
    for (uint32_t layer = 0; layer < of->layers; layer++)
        CUDA(fill_run(of->kv + layer * of->layer_bytes, of->named, of->shape.kv_heads, of->page_tokens,
                      of->shape.head_dim, of->seed, values));
}

static void step_upload(step *of) {
    uint32_t rows = of->input.row_count, dim = of->shape.head_dim;
    const schedule_header *header = schedule_header_of(of->block);
    double turns[128];
    for (uint32_t i = 0; i < dim / 2; i++)
        turns[i] = of->inv_freq[i] / 3.14159265358979323846;
    of->qkv = malloc(rows * qkv_width(of) * sizeof(float));
    for (size_t i = 0; i < rows * qkv_width(of); i++)
        of->qkv[i] = random_normal();
    of->device_qkv = device_copy(of->qkv, rows * qkv_width(of) * sizeof(float));
    of->turns = device_copy(turns, dim / 2 * sizeof *turns);
    of->device_block = device_copy(of->block, header->words * 4);
    of->out = device_memory(rows * out_width(of) * sizeof(float), 0xFF);
    of->out_bf16 = device_memory(rows * out_width(of) * 2, 0xFF);
    of->workspace = device_memory(schedule_workspace_bytes(header, dim), 0xFF);
    of->arrived = device_memory((size_t)header->unit_count * 4, 0);
    of->call = (attention_mma_call){
        .shape = &of->shape,
        .schedule = of->device_block,
        .qkv = of->device_qkv,
        .out = of->out,
        .out_bf16 = of->out_bf16,
        .turns = of->turns,
        .rope_factor = (float)of->rope_factor,
        .kv = of->kv,
        .page_tokens = of->page_tokens,
        .workspace = of->workspace,
        .arrived = of->arrived,
        .workers = header->workers,
    };
}

static void step_free(step *of) {
    CUDA(cudaFree(of->named));
    CUDA(cudaFree(of->kv));
    CUDA(cudaFree(of->device_qkv));
    CUDA(cudaFree(of->out));
    CUDA(cudaFree(of->out_bf16));
    CUDA(cudaFree(of->workspace));
    CUDA(cudaFree(of->device_block));
    CUDA(cudaFree(of->arrived));
    CUDA(cudaFree(of->turns));
    free(of->qkv);
    attention_schedule_free(of->schedule);
    cascade_plan_free(of->plan);
}

/* ----------------------------------------------------------------------------- reference ---- */

/* One row and head in f64, K and V as fill_value gives them. */
static void reference(const step *of, const row_group *group, uint32_t row, uint32_t head, double *out) {
    uint32_t dim = of->shape.head_dim, kv_heads = of->shape.kv_heads;
    uint32_t kv_head = head / (of->shape.heads / kv_heads);
    int64_t position = of->input.positions[row];
    const float *query = of->qkv + row * qkv_width(of) + (size_t)head * dim;
    double largest = -INFINITY, total = 0.0;
    memset(out, 0, dim * sizeof *out);
    for (uint32_t s = group->span_begin; s < group->span_begin + group->span_count; s++) {
        const kv_span *span = &of->input.spans[s];
        double rotated[256];
        for (uint32_t i = 0; i < dim / 2; i++) {
            double angle = (double)(position - span->rotation_origin) * of->inv_freq[i];
            double c = cos(angle) * of->rope_factor, n = sin(angle) * of->rope_factor;
            rotated[i] = query[i] * c - query[dim / 2 + i] * n;
            rotated[dim / 2 + i] = query[dim / 2 + i] * c + query[i] * n;
        }
        for (uint32_t t = span->token_begin; t < span->token_end; t++) {
            int64_t at = (int64_t)span->position + t - span->token_begin;
            if (at > position || (of->shape.window != 0 && at <= position - (int64_t)of->shape.window))
                continue;
            uint32_t slot = span->pages[t / of->page_tokens] * of->page_tokens + t % of->page_tokens;
            double score = 0.0;
            for (uint32_t i = 0; i < dim; i++)
                score += rotated[i] * (double)fill_value(of->seed, slot, kv_head, i);
            score *= (double)of->shape.scale;
            if (score > largest) {
                double factor = exp(largest - score);
                total *= factor;
                for (uint32_t i = 0; i < dim; i++)
                    out[i] *= factor;
                largest = score;
            }
            double weight = exp(score - largest);
            total += weight;
            for (uint32_t i = 0; i < dim; i++)
                out[i] += weight * (double)fill_value(of->seed, slot, kv_heads + kv_head, i);
        }
    }
    for (uint32_t i = 0; i < dim && total > 0.0; i++)
        out[i] /= total;
}

/* Relative error of a head of a row, |out - expected| / |expected|; huge if out is not finite. */
static double error_of(const step *of, const row_group *group, uint32_t row, uint32_t head,
                       const float *out) {
    double expected[256], difference = 0.0, norm = 0.0;
    uint32_t dim = of->shape.head_dim;
    reference(of, group, row, head, expected);
    const float *values = out + row * out_width(of) + (size_t)head * dim;
    for (uint32_t i = 0; i < dim; i++) {
        difference += (values[i] - expected[i]) * (values[i] - expected[i]);
        norm += expected[i] * expected[i];
    }
    if (!isfinite(difference))
        return 1e30;
    return norm > 0.0 ? sqrt(difference / norm) : sqrt(difference);
}

/* --------------------------------------------------------------------------------- check ---- */

static void shape_random(step *of, uint32_t index) {
    static const uint32_t heads[][2] = {{32, 8}, {64, 8}, {8, 1},  {32, 32}, {4, 4},
                                        {14, 2}, {16, 1}, {12, 4}, {1, 1},   {8, 2}};
    const uint32_t *pair = heads[random_below(10)];
    uint32_t dim = index % 2 ? 64 : 128;
    of->shape = (attention_shape){.heads = pair[0], .kv_heads = pair[1], .head_dim = dim};
    of->shape.scale = 1.0f / sqrtf((float)dim);
    of->shape.window = random_below(3) == 0 ? 1 + random_below(900) : 0;
    of->rope_factor = random_below(2) ? 1.0 : 1.2;
    for (uint32_t i = 0; i < dim / 2; i++)
        of->inv_freq[i] = pow(10000.0, -2.0 * i / dim);
    of->input.heads_per_kv = pair[0] / pair[1];
    of->input.window = of->shape.window;
    of->levels = 1 + random_below(3);
}

static double check_step(step *of, uint32_t index) {
    size_t count = of->input.row_count * out_width(of);
    float *out = calloc(count, sizeof *out), *again = calloc(count, sizeof *again);
    uint16_t *halves = malloc(count * 2);
    double worst = 0.0;
    for (int run = 0; run < 3; run++) {
        CUDA(cudaMemset(of->out, 0xFF, count * sizeof *out));
        CUDA(cudaMemset(of->out_bf16, 0xFF, count * 2));
        CUDA(cudaMemset(of->workspace, 0xFF,
                        schedule_workspace_bytes(schedule_header_of(of->block), of->shape.head_dim)));
        CUDA(kernel->run(&of->call));
        CUDA(cudaDeviceSynchronize());
        CUDA(cudaMemcpy(run == 0 ? out : again, of->out, count * sizeof *out, cudaMemcpyDeviceToHost));
        if (run > 0 && memcmp(out, again, count * sizeof *out) != 0) {
            printf("step %u: other bits in run %d\n", index, run);
            worst = 1e30;
        }
    }
    CUDA(cudaMemcpy(halves, of->out_bf16, count * 2, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)halves[i] << 16;
        float value;
        memcpy(&value, &bits, 4);
        if (!isfinite(out[i]) || !(fabsf(value - out[i]) <= fabsf(out[i]) / 256)) {
            printf("step %u: row %zu: out %g, bf16 %g\n", index, i / out_width(of), (double)out[i],
                   (double)value);
            worst = 1e30;
            break;
        }
    }
    uint32_t units = schedule_header_of(of->block)->unit_count, *arrived = malloc((units + 1) * 4);
    CUDA(cudaMemcpy(arrived, of->arrived, units * 4, cudaMemcpyDeviceToHost));
    for (uint32_t u = 0; u < units; u++)
        if (arrived[u] != 0) {
            printf("step %u: unit %u of %u is left at %u\n", index, u, units, arrived[u]);
            worst = 1e30;
            break;
        }
    for (uint32_t g = 0; g < of->input.group_count; g++) {
        const row_group *group = &of->input.groups[g];
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t row =
                group->row_begin + (i == 0 ? group->row_count - 1 : random_below(group->row_count));
            for (uint32_t h = 0; h < 2; h++) {
                uint32_t head = random_below(of->shape.heads);
                double wrong = error_of(of, group, row, head, out);
                if (wrong > 0.02)
                    printf("step %u: group %u row %u head %u: error %.3g (heads %u/%u dim %u window %u page "
                           "%u)\n",
                           index, g, row, head, wrong, of->shape.heads, of->shape.kv_heads,
                           of->shape.head_dim, of->shape.window, of->page_tokens);
                worst = wrong > worst ? wrong : worst;
            }
        }
    }
    free(out);
    free(again);
    free(halves);
    free(arrived);
    return worst;
}

static int check(uint32_t steps, uint64_t seed) {
    static random_step random;
    double worst = 0.0, begin = seconds();
    uint32_t bad = 0;
    for (uint32_t i = 0; i < steps; i++) {
        random_state = seed * 1000003 + i;
        random_step_create(&random, STEP_GROUPS_MAX);
        step of = {.input = random.input,
                   .page_count = random.page_count,
                   .page_tokens = random.page_tokens,
                   .layers = 1,
                   .seed = (uint32_t)i};
        shape_random(&of, i);
        step_plan(&of);
        step_fill(&of);
        step_upload(&of);
        double wrong = check_step(&of, i);
        bad += wrong > 0.02;
        worst = wrong > worst ? wrong : worst;
        step_free(&of);
    }
    printf("check: %u random steps, %u bad, largest relative error %.4f, %.1f s\n", steps, bad, worst,
           seconds() - begin);
    return bad > 0;
}

/* --------------------------------------------------------------------------------- speed ---- */

/* `batch` sequences: `shared` tokens of one run, then `own` tokens, the last `rows` of which are computed. */
typedef struct speed_case {
    const char *name;
    uint32_t heads, kv_heads, page_tokens;
    uint32_t batch, shared, own, rows;
    uint32_t levels;
} speed_case;

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double time_us(step *of, uint32_t launches) {
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    cudaEvent_t begin, end;
    CUDA(cudaStreamCreate(&stream));
    CUDA(cudaEventCreate(&begin));
    CUDA(cudaEventCreate(&end));
    CUDA(kernel->run(&of->call)); /* attributes are set outside of the capture */
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (uint32_t i = 0; i < launches; i++) {
        attention_mma_call call = of->call;
        call.kv = of->kv + i % of->layers * of->layer_bytes;
        call.stream = stream;
        CUDA(kernel->run(&call));
    }
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&replay, graph, 0));
    double times[9];
    for (int i = -2; i < 9; i++) {
        CUDA(cudaEventRecord(begin, stream));
        CUDA(cudaGraphLaunch(replay, stream));
        CUDA(cudaEventRecord(end, stream));
        CUDA(cudaStreamSynchronize(stream));
        float ms = 0.0f;
        CUDA(cudaEventElapsedTime(&ms, begin, end));
        if (i >= 0)
            times[i] = (double)ms * 1e3 / launches;
    }
    qsort(times, 9, sizeof *times, compare_doubles);
    CUDA(cudaGraphExecDestroy(replay));
    CUDA(cudaGraphDestroy(graph));
    CUDA(cudaEventDestroy(begin));
    CUDA(cudaEventDestroy(end));
    CUDA(cudaStreamDestroy(stream));
    return times[4];
}

static double case_error(step *of) {
    size_t count = of->input.row_count * out_width(of);
    float *out = calloc(count, sizeof *out);
    CUDA(cudaMemset(of->out, 0xFF, count * sizeof *out));
    CUDA(kernel->run(&of->call));
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemcpy(out, of->out, count * sizeof *out, cudaMemcpyDeviceToHost));
    double worst = 0.0;
    for (uint32_t i = 0; i < 6; i++) {
        const row_group *group = &of->input.groups[random_below(of->input.group_count)];
        uint32_t row = group->row_begin + random_below(group->row_count);
        double wrong = error_of(of, group, row, random_below(of->shape.heads), out);
        worst = wrong > worst ? wrong : worst;
    }
    free(out);
    return worst;
}

/* How evenly the workers are loaded, in blocks of keys. */
static void print_schedule(const char *name, const step *of) {
    const schedule_header *header = schedule_header_of(of->block);
    const uint32_t *begin = of->block + header->work_begin;
    const schedule_item *items = (const schedule_item *)(const void *)(of->block + header->items);
    uint64_t total = 0, most = 0, most_items = 0;
    for (uint32_t w = 0; w < header->workers; w++) {
        uint64_t blocks = 0;
        for (uint32_t i = begin[w]; i < begin[w + 1]; i++)
            blocks += (items[i].key_end + 63) / 64 - items[i].key_begin / 64;
        total += blocks;
        most = blocks > most ? blocks : most;
        most_items = begin[w + 1] - begin[w] > most_items ? begin[w + 1] - begin[w] : most_items;
    }
    printf("%-34s items %5u (%llu at most) blocks %7llu: %6.1f a worker, %4llu at most; units %6u of %3u "
           "partials at most; built in %.0f us\n",
           name, header->item_count, (unsigned long long)most_items, (unsigned long long)total,
           (double)total / header->workers, (unsigned long long)most, header->unit_count,
           header->unit_partials_most, of->build_us);
}

#ifdef ATTENTION_STAMPS
/* -------------------------------------------------------------------------------- trace ---- */

extern unsigned long long *attention_mma_stamps;

enum { STAGES = 6 };
static const char *const stage_names[STAGES] = {"rows",     "queries", "1st block",
                                                "products", "write",   "arrive"};

typedef struct traced_worker {
    uint32_t worker;
    double begin, end; /* us from the first worker's begin */
} traced_worker;

static int compare_ends(const void *a, const void *b) {
    return compare_doubles(&((const traced_worker *)a)->end, &((const traced_worker *)b)->end);
}

static void print_worker(const step *of, const unsigned long long *stamps, const traced_worker *traced,
                         double clock_us) {
    const schedule_header *header = schedule_header_of(of->block);
    const uint32_t *begin = of->block + header->work_begin;
    const schedule_item *items = (const schedule_item *)(const void *)(of->block + header->items);
    const unsigned long long *own = stamps + (size_t)(header->item_count + traced->worker) * 8;
    printf("  worker %3u on SM %3llu: %.1f to %.1f us, merges from %.1f\n", traced->worker, own[4],
           traced->begin, traced->end, traced->begin + (double)(own[5] - own[1]) / clock_us);
    for (uint32_t i = begin[traced->worker]; i < begin[traced->worker + 1]; i++) {
        const unsigned long long *at = stamps + (size_t)i * 8;
        printf("    head %u keys %5u-%5u tokens %3u shape %3u %s at %6.1f:", items[i].kv_head,
               items[i].key_begin, items[i].key_end, items[i].row_count, 16u << items[i].shape,
               items[i].partial == SCHEDULE_NONE ? "direct " : "partial",
               traced->begin + (double)(at[0] - own[1]) / clock_us);
        for (int stage = 0; stage < STAGES; stage++)
            printf(" %5.2f", (double)(at[stage + 1] - at[stage]) / clock_us);
        printf("\n");
    }
}

/* Where the time goes, from the stamps of one launch with a cold L2. */
static void trace(step *of) {
    const schedule_header *header = schedule_header_of(of->block);
    const schedule_item *items = (const schedule_item *)(const void *)(of->block + header->items);
    size_t count = (size_t)(header->item_count + header->workers) * 8;
    unsigned long long *stamps = calloc(count, sizeof *stamps);
    attention_mma_stamps = device_memory(count * sizeof *stamps, 0);
    for (uint32_t i = 0; i < 6; i++) {
        attention_mma_call call = of->call;
        call.kv = of->kv + i % of->layers * of->layer_bytes;
        CUDA(kernel->run(&call));
    }
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemcpy(stamps, attention_mma_stamps, count * sizeof *stamps, cudaMemcpyDeviceToHost));
    CUDA(cudaFree(attention_mma_stamps));
    traced_worker *workers = calloc(header->workers, sizeof *workers);
    unsigned long long first = UINT64_MAX;
    double clock_us = 0.0;
    uint32_t used = 0;
    for (uint32_t w = 0; w < header->workers; w++) {
        const unsigned long long *own = stamps + (size_t)(header->item_count + w) * 8;
        if (own[0] == 0)
            continue;
        first = own[0] < first ? own[0] : first;
        double rate = (double)(own[3] - own[1]) / ((double)(own[2] - own[0]) * 1e-3 + 1e-3);
        clock_us = own[2] > own[0] + 5000 && rate > clock_us && rate < 2200 ? rate : clock_us;
    }
    clock_us = clock_us > 1000 ? clock_us : 1755;
    for (uint32_t w = 0; w < header->workers; w++) {
        const unsigned long long *own = stamps + (size_t)(header->item_count + w) * 8;
        if (own[0] == 0)
            continue;
        double begin = (double)(own[0] - first) * 1e-3;
        workers[used++] = (traced_worker){w, begin, begin + (double)(own[3] - own[1]) / clock_us};
    }
    qsort(workers, used, sizeof *workers, compare_ends);
    double items_end = 0.0, late = 0.0;
    for (uint32_t w = 0; w < used; w++) {
        const unsigned long long *own = stamps + (size_t)(header->item_count + workers[w].worker) * 8;
        double end = workers[w].begin + (double)(own[5] - own[1]) / clock_us;
        items_end = end > items_end ? end : items_end;
        late = workers[w].begin > late ? workers[w].begin : late;
    }
    printf(
        "trace: %u workers, %.0f MHz; the last begins at %.1f us, ends its items at %.1f; ends: first %.1f, "
        "median %.1f, last %.1f\n",
        used, clock_us, late, items_end, workers[0].end, workers[used / 2].end, workers[used - 1].end);
    for (uint32_t shape = 0; shape < 4; shape++)
        for (int merged = 0; merged < 2; merged++) {
            double sums[STAGES] = {0}, most[STAGES] = {0}, blocks = 0;
            uint32_t items_of = 0;
            for (uint32_t i = 0; i < header->item_count; i++) {
                if (items[i].shape != shape || (items[i].partial != SCHEDULE_NONE) != merged)
                    continue;
                items_of++;
                blocks += (items[i].key_end + 63) / 64 - items[i].key_begin / 64;
                for (int stage = 0; stage < STAGES; stage++) {
                    double us = (double)(stamps[(size_t)i * 8 + stage + 1] - stamps[(size_t)i * 8 + stage]) /
                                clock_us;
                    sums[stage] += us;
                    most[stage] = us > most[stage] ? us : most[stage];
                }
            }
            if (items_of == 0)
                continue;
            printf("  %3u rows, %s: %5u items of %5.1f blocks; us mean (most):", 16u << shape,
                   merged ? "partial" : "direct ", items_of, blocks / items_of);
            for (int stage = 0; stage < STAGES; stage++)
                printf(" %s %.2f (%.2f)", stage_names[stage], sums[stage] / items_of, most[stage]);
            printf("; %.2f a block\n", sums[3] / blocks);
        }
    print_worker(of, stamps, &workers[used - 1], clock_us);
    print_worker(of, stamps, &workers[used - 2], clock_us);
    print_worker(of, stamps, &workers[used / 2], clock_us);
    print_worker(of, stamps, &workers[0], clock_us);
    fflush(stdout);
    free(workers);
    free(stamps);
}
#endif

static void speed_run(const speed_case *c) {
    uint32_t page_tokens = c->page_tokens, shared_pages = (c->shared + page_tokens - 1) / page_tokens;
    uint32_t own_pages = (c->own + page_tokens - 1) / page_tokens,
             page_count = shared_pages + c->batch * own_pages;
    uint32_t *pages = malloc(page_count * sizeof *pages), *positions = malloc((size_t)c->batch * c->rows * 4);
    kv_span *spans = calloc(2 * (size_t)c->batch, sizeof *spans);
    row_group *groups = calloc(c->batch, sizeof *groups);
    random_state = 7;
    for (uint32_t i = 0; i < page_count; i++)
        pages[i] = i;
    for (uint32_t i = page_count - 1; i > 0; i--) {
        uint32_t j = random_below(i + 1), page = pages[i];
        pages[i] = pages[j];
        pages[j] = page;
    }
    uint32_t span_count = 0;
    for (uint32_t b = 0; b < c->batch; b++) {
        groups[b] = (row_group){b * c->rows, c->rows, span_count, c->shared > 0 ? 2 : 1};
        if (c->shared > 0)
            spans[span_count++] = (kv_span){.pages = pages, .token_end = c->shared};
        spans[span_count++] = (kv_span){
            .pages = pages + shared_pages + b * own_pages, .token_end = c->own, .position = c->shared};
        for (uint32_t i = 0; i < c->rows; i++)
            positions[b * c->rows + i] = c->shared + c->own - c->rows + i;
    }
    step of = {
        .shape = {.heads = c->heads, .kv_heads = c->kv_heads, .head_dim = 128, .scale = 0.0883883f},
        .rope_factor = 1.0,
        .page_count = page_count,
        .page_tokens = page_tokens,
        .levels = c->levels,
        .seed = 5,
        .input = {groups, c->batch, spans, span_count, positions, c->batch * c->rows, c->heads / c->kv_heads,
                  0},
    };
    for (uint32_t i = 0; i < 64; i++)
        of.inv_freq[i] = pow(10000.0, -2.0 * i / 128);
    double unique = ((double)c->shared + (double)c->batch * c->own) * 4.0 * c->kv_heads * 128;
    of.layers = (uint32_t)(160e6 / unique) + 2;
    of.layers = of.layers > 64 ? 64 : of.layers;
    if (unique > 1e9)
        of.layers = 1;
    step_plan(&of);
    if (schedules_only) {
        print_schedule(c->name, &of);
        return;
    }
    step_fill(&of);
    step_upload(&of);
#ifdef ATTENTION_STAMPS
    printf("%s, %u/%u heads, pages of %u\n", c->name, c->heads, c->kv_heads, page_tokens);
    trace(&of);
    step_free(&of);
    free(pages);
    free(positions);
    free(spans);
    free(groups);
    return;
#endif
    double wrong = case_error(&of);
    uint32_t launches = unique < 4e8 && c->rows == 1 ? 40 : 4;
    double us = time_us(&of, launches);
    double pairs = (double)c->batch *
                   ((double)c->rows * (c->shared + c->own - c->rows) + 0.5 * c->rows * (c->rows + 1.0));
    double flop = 4.0 * pairs * c->heads * 128;
    const schedule_header *header = schedule_header_of(of.block);
    printf("%-34s %2u/%-2u p%-2u %9.2f us %7.1f MB %6.0f GB/s %5.1f%% %6.1f TF/s  items %5u partials %6u "
           "words %6u build %5.0f us  err %.4f%s\n",
           c->name, c->heads, c->kv_heads, page_tokens, us, unique / 1e6, unique / us / 1e3,
           100.0 * unique / us / 1e3 / copy_gb_s, flop / us / 1e6, header->item_count, header->partial_count,
           header->words, of.build_us, wrong, wrong > 0.02 ? "  WRONG" : "");
    fflush(stdout);
    step_free(&of);
    free(pages);
    free(positions);
    free(spans);
    free(groups);
}

static void measure_copy(void) {
    size_t bytes = (size_t)1 << 30;
    char *from = device_memory(bytes, 1), *to = device_memory(bytes, 2);
    cudaEvent_t begin, end;
    CUDA(cudaEventCreate(&begin));
    CUDA(cudaEventCreate(&end));
    double best = 0.0;
    for (int i = 0; i < 12; i++) {
        CUDA(cudaEventRecord(begin, NULL));
        CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, NULL));
        CUDA(cudaEventRecord(end, NULL));
        CUDA(cudaDeviceSynchronize());
        float ms;
        CUDA(cudaEventElapsedTime(&ms, begin, end));
        double speed = 2.0 * (double)bytes / (double)ms / 1e6;
        best = speed > best ? speed : best;
    }
    copy_gb_s = best;
    printf("device copy: %.0f GB/s (read + written)\n", best);
    CUDA(cudaFree(from));
    CUDA(cudaFree(to));
}

static void speed(const char *only) {
    static const speed_case cases[] = {
        {"S1 b1 2k+256", 32, 8, 64, 1, 2048, 256, 1, 3},
        {"S1 b8 2k+256", 32, 8, 64, 8, 2048, 256, 1, 3},
        {"S1 b64 2k+256", 32, 8, 64, 64, 2048, 256, 1, 3},
        {"S1 b256 2k+256", 32, 8, 64, 256, 2048, 256, 1, 3},
        {"S1 b1 8k+256", 32, 8, 64, 1, 8192, 256, 1, 3},
        {"S1 b8 8k+256", 32, 8, 64, 8, 8192, 256, 1, 3},
        {"S1 b64 8k+256", 32, 8, 64, 64, 8192, 256, 1, 3},
        {"S1 b256 8k+256", 32, 8, 64, 256, 8192, 256, 1, 3},
        {"S1 b64 8k+256", 32, 8, 16, 64, 8192, 256, 1, 3},
        {"S1 b64 8k+256 unshared plan", 32, 8, 64, 64, 8192, 256, 1, 1},
        {"S1 b8 4000+256", 8, 1, 16, 8, 4000, 256, 1, 3},
        {"S1 b8 4000+32", 8, 1, 16, 8, 4000, 32, 1, 3},
        {"S1 b16 8k+32", 32, 8, 64, 16, 8192, 32, 1, 3},
        {"S1 b64 32k+256", 32, 8, 64, 64, 32768, 256, 1, 3},
        {"S5 b64 own 2k", 32, 8, 64, 64, 0, 2048, 1, 3},
        {"S5 b64 own 8k", 32, 8, 64, 64, 0, 8192, 1, 3},
        {"S5 b64 own 8k", 32, 8, 16, 64, 0, 8192, 1, 3},
        {"S5 b34 own 4k", 32, 8, 64, 34, 0, 4096, 1, 3},
        {"S5 b1 own 8k", 32, 8, 64, 1, 0, 8192, 1, 3},
        {"S5 b1 own 32k", 32, 8, 64, 1, 0, 32768, 1, 3},
        {"S5 b64 own 2k", 64, 8, 64, 64, 0, 2048, 1, 3},
        {"S5 b16 own 2k", 32, 32, 64, 16, 0, 2048, 1, 3},
        {"prefill 8k", 32, 8, 64, 1, 0, 8192, 8192, 3},
        {"prefill 8k", 32, 8, 16, 1, 0, 8192, 8192, 3},
        {"prefill 2k over 8k", 32, 8, 64, 1, 0, 10240, 2048, 3},
        {"prefill 512 over 8k", 32, 8, 64, 1, 0, 8704, 512, 3},
    };
    if (!schedules_only)
        measure_copy();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (only == NULL || strstr(cases[i].name, only) != NULL)
            speed_run(&cases[i]);
}

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (argc > 2 && strcmp(argv[argc - 1], kernels[i].name) == 0) {
            kernel = &kernels[i];
            argc--;
            break;
        }
    if (argc > 1 && strcmp(argv[1], "schedule") == 0) {
        multiprocessors = 132;
        schedules_only = true;
        speed(argc > 2 ? argv[2] : NULL);
        return 0;
    }
    struct cudaDeviceProp properties;
    CUDA(cudaGetDeviceProperties(&properties, 0));
    multiprocessors = (uint32_t)properties.multiProcessorCount;
    printf("%s, %u multiprocessors\n", properties.name, multiprocessors);
    if (argc > 1 && strcmp(argv[1], "check") == 0)
        return check(argc > 2 ? (uint32_t)atoi(argv[2]) : 200, argc > 3 ? (uint64_t)atoi(argv[3]) : 1);
    if (argc > 1 && strcmp(argv[1], "speed") == 0) {
        speed(argc > 2 ? argv[2] : NULL);
        return 0;
    }
    fprintf(stderr, "usage: attention check [steps [seed]] | speed [NAME]\n");
    return 2;
}
