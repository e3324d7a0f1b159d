/*
 * bench_model: see bench_model.h. Ours and the yardstick take turns within each repetition and medians are
 * compared, so that another load on the machine meets both.
 */
#include "bench/bench_model.h"
#include "bench/bench_median.h"

#include <jansson.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/onednn_products.h"
#include "model/decoder.h"

#define PAGE_TOKENS     32
#define READ_BYTES      ((size_t)512 << 20) /* far beyond any cache */
#define REPETITIONS_MAX 64

typedef struct bench_figures {
    char backend[96], onednn[96];
    double prefill_s, onednn_s, onednn_bf16_s, onednn_f32_s; /* 0: not measured */
    double decode_token_s, read_bytes_s;
    uint64_t weight_bytes_held, weight_bytes_token;
    double product_flop;
} bench_figures;

typedef struct bench_run {
    const bench_model_options *options;
    model_config config;
    backend *device;
    decoder *model;
    backend_kv_pool *pool;
    cascade_plan *plan;
    uint32_t *pages, *positions, *slots;
    int32_t *tokens;
    float *logits;
    product_shape shapes[4];
    onednn_products *onednn[2]; /* bf16, f32; NULL: not there, or the slower one */
    uint32_t *read_buffer;
    int threads;
} bench_run;

bench_model_options bench_model_options_default(void) {
    return (bench_model_options){
        .geometry = "llama-3.2-1b",
        .prompt_tokens = 512,
        .decode_tokens = 32,
        .repetitions = 3,
        .compute_dtype = CENTO_DTYPE_BF16,
    };
}

/* ------------------------------------------------------------------------------- set-up ---- */

static void list_shapes(bench_run *run) {
    const model_config *config = &run->config;
    uint32_t attended = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
    run->shapes[0] = (product_shape){"qkv", attended + 2 * kv, config->hidden_size, config->layers};
    run->shapes[1] = (product_shape){"output", config->hidden_size, attended, config->layers};
    run->shapes[2] =
        (product_shape){"gate_up", 2 * config->intermediate_size, config->hidden_size, config->layers};
    run->shapes[3] = (product_shape){"down", config->hidden_size, config->intermediate_size, config->layers};
}

static double product_elements(const bench_run *run) {
    double sum = 0.0;
    for (size_t i = 0; i < 4; i++)
        sum += (double)run->shapes[i].outputs * run->shapes[i].inputs * run->shapes[i].count;
    return sum;
}

static cento_status allocate(void **memory, size_t count, size_t size, cento_error *error) {
    *memory = mem_zalloc(count, size);
    return *memory == NULL ? error_memory(error, count * size) : CENTO_OK;
}

static cento_status run_open(bench_run *run, cento_error *error) {
    const bench_model_options *options = run->options;
    TRY(model_config_geometry(options->geometry, &run->config, error));
    uint64_t tokens = (uint64_t)options->prompt_tokens + options->decode_tokens;
    if (options->prompt_tokens == 0 || options->decode_tokens == 0 || tokens > run->config.context_tokens_max)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "prompt and decode tokens: %u + %u, expected at least 1 each and %u together",
                         options->prompt_tokens, options->decode_tokens, run->config.context_tokens_max);
    if (options->repetitions == 0 || options->repetitions > REPETITIONS_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%u repetitions, expected 1 to %d",
                         options->repetitions, REPETITIONS_MAX);
    list_shapes(run);
    const backend_options device_options = {
        .compute_dtype = options->compute_dtype, .threads = options->threads, .isa = options->isa};
    TRY(backend_cpu_create(&device_options, &run->device, error));
    run->threads = cpu_of(run->device)->threads;
    TRY(decoder_random(&run->config, run->device, options->prompt_tokens, &run->model, error));

    uint32_t pages = (uint32_t)((tokens + PAGE_TOKENS - 1) / PAGE_TOKENS);
    TRY(decoder_kv_pool_create(run->model, pages, PAGE_TOKENS, options->compute_dtype, &run->pool, error));
    const plan_options capacity = {
        .levels_max = 1,
        .page_count = pages,
        .page_tokens = PAGE_TOKENS,
        .rows_max = options->prompt_tokens,
        .spans_max = 1,
        .tile_rows = run->device->ops->plan_tile_rows(run->device),
        .workers = run->device->ops->plan_workers(run->device),
    };
    TRY(cascade_plan_create(&capacity, &run->plan, error));
    TRY(allocate((void **)&run->pages, pages, sizeof *run->pages, error));
    TRY(allocate((void **)&run->positions, tokens, sizeof *run->positions, error));
    TRY(allocate((void **)&run->slots, tokens, sizeof *run->slots, error));
    TRY(allocate((void **)&run->tokens, tokens, sizeof *run->tokens, error));
    TRY(allocate((void **)&run->logits, run->config.vocab_size, sizeof *run->logits, error));
    for (uint32_t i = 0; i < pages; i++)
        run->pages[i] = i;
    for (uint32_t i = 0; i < tokens; i++) {
        run->positions[i] = run->slots[i] = i;
        run->tokens[i] = (int32_t)((uint64_t)i * 2654435761u % run->config.vocab_size);
    }
    run->read_buffer = large_alloc(READ_BYTES);
    if (run->read_buffer == NULL)
        return error_memory(error, READ_BYTES);
#pragma omp parallel for num_threads(run->threads)
    for (size_t i = 0; i < READ_BYTES / 4; i++)
        run->read_buffer[i] = (uint32_t)i;
    return CENTO_OK;
}

static void run_close(bench_run *run) {
    onednn_products_free(run->onednn[0]);
    onednn_products_free(run->onednn[1]);
    mem_free(run->pages);
    mem_free(run->positions);
    mem_free(run->slots);
    mem_free(run->tokens);
    mem_free(run->logits);
    mem_free(run->read_buffer);
    cascade_plan_free(run->plan);
    if (run->pool != NULL)
        run->device->ops->kv_pool_free(run->device, run->pool);
    decoder_free(run->model);
    if (run->device != NULL)
        run->device->ops->destroy(run->device);
}

/* ------------------------------------------------------------------------- measurements ---- */

/* Tokens [begin, begin + count) of the sequence. */
static cento_status forward(bench_run *run, uint32_t begin, uint32_t count, double *seconds,
                            cento_error *error) {
    const kv_span span = {.pages = run->pages, .token_end = begin + count};
    const row_group group = {.row_count = count, .span_count = 1};
    const plan_input input = {
        .groups = &group,
        .group_count = 1,
        .spans = &span,
        .span_count = 1,
        .positions = run->positions + begin,
        .row_count = count,
        .heads_per_kv = run->config.heads / run->config.kv_heads,
    };
    uint32_t last = count - 1;
    decoder_batch batch = {
        .token_count = count,
        .tokens = run->tokens + begin,
        .positions = run->positions + begin,
        .kv_slots = run->slots + begin,
        .plan = run->plan,
        .logit_rows = &last,
        .logit_row_count = 1,
    };
    uint64_t start = clock_now_ns();
    TRY(cascade_plan_build(run->plan, &input, error));
    TRY(decoder_forward(run->model, &batch, run->pool, run->logits, error));
    *seconds = clock_ms_since(start) * 1e-3;
    return CENTO_OK;
}

static double read_bandwidth(const bench_run *run) {
    const cpu_kernels *kernels = cpu_of(run->device)->kernels;
    const size_t piece = (size_t)1 << 18; /* words: 1 MB */
    uint32_t sum = 0;
    uint64_t start = clock_now_ns();
#pragma omp parallel for schedule(dynamic, 1) reduction(+ : sum) num_threads(run->threads)
    for (size_t i = 0; i < READ_BYTES / 4 / piece; i++)
        sum += kernels->read(run->read_buffer + i * piece, piece);
    double seconds = clock_ms_since(start) * 1e-3;
    /* the sum is used, so that the reads are done */
    return sum == 1 ? 0.0 : (double)READ_BYTES / seconds;
}

/* Prepares oneDNN in both dtypes, keeps the faster. */
static cento_status prepare_onednn(bench_run *run, bench_figures *figures, cento_error *error) {
    double seconds[2] = {0.0, 0.0};
    for (int f32 = 0; f32 < 2; f32++) {
        cento_status status = onednn_products_create(run->shapes, 4, run->options->prompt_tokens, f32 == 0,
                                                     run->threads, &run->onednn[f32], error);
        if (f32 == 0 && status == CENTO_UNSUPPORTED)
            continue;
        TRY(status);
        for (int repeat = 0; repeat < 2; repeat++) /* the first one builds its code */
            TRY(onednn_products_run(run->onednn[f32], &seconds[f32], error));
    }
    figures->onednn_bf16_s = seconds[0];
    figures->onednn_f32_s = seconds[1];
    int slower = run->onednn[0] != NULL && seconds[0] < seconds[1] ? 1 : 0;
    onednn_products_free(run->onednn[slower]);
    run->onednn[slower] = NULL;
    snprintf(figures->onednn, sizeof figures->onednn, "%s, %s", slower ? "bf16" : "f32",
             onednn_products_implementation(run->onednn[1 - slower]));
    return CENTO_OK;
}

static cento_status measure_prefill(bench_run *run, bench_figures *figures, cento_error *error) {
    uint32_t repetitions = run->options->repetitions;
    double ours[REPETITIONS_MAX], theirs[REPETITIONS_MAX], unused;
    TRY(prepare_onednn(run, figures, error));
    onednn_products *yardstick = run->onednn[0] != NULL ? run->onednn[0] : run->onednn[1];
    uint32_t warm = run->options->prompt_tokens < 32 ? run->options->prompt_tokens : 32;
    TRY(forward(run, 0, warm, &unused, error));
    for (uint32_t i = 0; i < repetitions; i++) {
        double halves[2]; /* before and after ours */
        TRY(onednn_products_run(yardstick, &halves[0], error));
        TRY(forward(run, 0, run->options->prompt_tokens, &ours[i], error));
        TRY(onednn_products_run(yardstick, &halves[1], error));
        theirs[i] = (halves[0] + halves[1]) / 2;
    }
    figures->prefill_s = median(ours, repetitions);
    figures->onednn_s = median(theirs, repetitions);
    figures->product_flop = 2.0 * product_elements(run) * run->options->prompt_tokens;
    for (size_t i = 0; i < 2; i++) {
        onednn_products_free(run->onednn[i]);
        run->onednn[i] = NULL;
    }
    return CENTO_OK;
}

static cento_status measure_decode(bench_run *run, bench_figures *figures, cento_error *error) {
    enum { READS = 8 };
    uint32_t steps = run->options->decode_tokens, prompt = run->options->prompt_tokens;
    double *seconds = mem_alloc(steps, sizeof *seconds), reads[READS];
    if (seconds == NULL)
        return error_memory(error, steps * sizeof *seconds);
    cento_status status = CENTO_OK;
    uint32_t read_count = 0;
    for (uint32_t i = 0; i < steps && status == CENTO_OK; i++) {
        if ((uint64_t)i * READS / steps >= read_count)
            reads[read_count++] = read_bandwidth(run);
        status = forward(run, prompt + i, 1, &seconds[i], error);
    }
    if (status == CENTO_OK) {
        figures->decode_token_s = median(seconds, steps);
        figures->read_bytes_s = median(reads, read_count);
    }
    mem_free(seconds);
    const model_config *config = &run->config;
    double element_bytes = run->options->compute_dtype == CENTO_DTYPE_BF16 ? 2 : 4;
    figures->weight_bytes_token =
        (uint64_t)((product_elements(run) + (double)config->vocab_size * config->hidden_size) *
                   element_bytes);
    figures->weight_bytes_held = run->device->ops->counters(run->device)->weight_bytes;
    return status;
}

/* ------------------------------------------------------------------------------- report ---- */

static double prefill_fraction(const bench_figures *figures) {
    return figures->onednn_s / figures->prefill_s;
}

static double decode_fraction(const bench_figures *figures) {
    return (double)figures->weight_bytes_token / figures->decode_token_s / figures->read_bytes_s;
}

static void print_table(const bench_run *run, const bench_figures *figures, FILE *out) {
    const bench_model_options *options = run->options;
    double prompt = options->prompt_tokens, token_bytes = (double)figures->weight_bytes_token;
    fprintf(out, "%s, %s, %s, weights %.2f GB\n", options->geometry, figures->backend,
            options->compute_dtype == CENTO_DTYPE_BF16 ? "bf16" : "f32",
            (double)figures->weight_bytes_held * 1e-9);
    fprintf(out, "%-26s %12s %12s %9s\n", "", "the machine", "cento", "fraction");
    fprintf(out, "%-26s %12.3f %12.3f %8.1f%%  oneDNN alone, %s\n", "prefill, s", figures->onednn_s,
            figures->prefill_s, 100.0 * prefill_fraction(figures), figures->onednn);
    fprintf(out, "%-26s %12.1f %12.1f\n", "  tokens/s", prompt / figures->onednn_s,
            prompt / figures->prefill_s);
    fprintf(out, "%-26s %12.1f %12.1f\n", "  GFLOP/s of the products",
            figures->product_flop / figures->onednn_s * 1e-9,
            figures->product_flop / figures->prefill_s * 1e-9);
    fprintf(out, "%-26s %12.1f %12.1f %8.1f%%  DRAM read\n", "decode, GB/s of weights",
            figures->read_bytes_s * 1e-9, token_bytes / figures->decode_token_s * 1e-9,
            100.0 * decode_fraction(figures));
    fprintf(out, "%-26s %12.2f %12.2f\n", "  tokens/s", figures->read_bytes_s / token_bytes,
            1.0 / figures->decode_token_s);
}

static cento_status print_json(const bench_run *run, const bench_figures *figures, FILE *out,
                               cento_error *error) {
    const bench_model_options *options = run->options;
    double prompt = options->prompt_tokens, token_bytes = (double)figures->weight_bytes_token;
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:f, s:f, s:f, s:{s:s, s:f, s:f, s:f, s:f}, s:f, s:f, s:f, "
        "s:{s:f, s:I, s:f}}",
        "geometry", options->geometry, "backend", figures->backend, "compute_dtype",
        options->compute_dtype == CENTO_DTYPE_BF16 ? "bf16" : "f32", "threads", run->threads, "prompt_tokens",
        (int)options->prompt_tokens, "decode_tokens", (int)options->decode_tokens, "repetitions",
        (int)options->repetitions, "weight_bytes", (json_int_t)figures->weight_bytes_held, "prefill_s",
        figures->prefill_s, "prefill_tokens_per_s", prompt / figures->prefill_s, "prefill_gemm_fraction",
        prefill_fraction(figures), "prefill_gemm_reference", "what", figures->onednn, "onednn_s",
        figures->onednn_s, "tokens_per_s", prompt / figures->onednn_s, "flop_per_s",
        figures->product_flop / figures->onednn_s, "prefill_product_flop_per_s",
        figures->product_flop / figures->prefill_s, "decode_s_per_token", figures->decode_token_s,
        "decode_tokens_per_s", 1.0 / figures->decode_token_s, "decode_bandwidth_fraction",
        decode_fraction(figures), "decode_bandwidth_reference", "dram_read_bytes_per_s",
        figures->read_bytes_s, "weight_bytes_per_token", (json_int_t)figures->weight_bytes_token,
        "tokens_per_s", figures->read_bytes_s / token_bytes);
    if (object == NULL)
        return error_set(error, CENTO_INTERNAL, "a figure is not a number");
    int failed = json_dumpf(object, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(object);
    fputc('\n', out);
    return failed ? error_set(error, CENTO_IO, "could not write the results") : CENTO_OK;
}

cento_status bench_model_run(const bench_model_options *options, FILE *out, cento_error *error) {
    bench_run run = {.options = options};
    bench_figures figures = {0};
    cento_status status;
    TRY_GOTO(status, run_open(&run, error), done);
    snprintf(figures.backend, sizeof figures.backend, "%s", run.device->ops->describe(run.device));
    TRY_GOTO(status, measure_prefill(&run, &figures, error), done);
    TRY_GOTO(status, measure_decode(&run, &figures, error), done);
    if (options->json)
        status = print_json(&run, &figures, out, error);
    else
        print_table(&run, &figures, out);
done:
    run_close(&run);
    return status;
}
