/* The throughput benchmark; see bench_throughput.h. */
#include "bench/bench_throughput.h"
#include "bench/bench_median.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bench/bench_bandwidth.h"
#include "bench/bench_engine.h"
#include "bench/python_random.h"

enum {
    TOKEN_IDS_MAX = 10000, /* the largest that is drawn; less where the vocabulary is smaller */
    BATCHED_TOKENS_GPU = 8192,
    BATCHED_TOKENS_CPU = 512,
    PAGE_TOKENS_DEFAULT = 32,
};

bench_throughput_options bench_throughput_options_default(void) {
    return (bench_throughput_options){
        .engine = cento_options_default(),
        .sequences = 256,
        .tokens_min = 100,
        .tokens_max = 1024,
        .temperature = 0.6f,
        .kv_bytes_max = (uint64_t)48 << 30,
    };
}

typedef struct workload {
    int32_t *tokens; /* of all prompts, owned; as the other lists (sequences) */
    size_t *prompt_begin;
    uint32_t *prompt_tokens, *answer_tokens;
    uint64_t prompt_tokens_all, answer_tokens_all, context_tokens_max;
    uint32_t answer_tokens_max;
    double kv_tokens_read; /* each request's KV, once for each of its tokens but the first */
} workload;

typedef struct throughput_run {
    const bench_throughput_options *options;
    workload work;
    bench_model_sizes model;
    cento_options engine_options;
    cento_engine *engine;
    cento_generation **generations; /* (sequences) */
    double *ttft_ms;
    double seconds, copy_bytes_s;
    uint64_t completion_tokens;
    cento_stats stats;
} throughput_run;

#define ALLOCATE(pointer, count, error)                                                                      \
    do {                                                                                                     \
        (pointer) = mem_zalloc((count), sizeof *(pointer));                                                  \
        if ((pointer) == NULL)                                                                               \
            return error_memory(error, (count) * sizeof *(pointer));                                         \
    } while (0)

/* ------------------------------------------------------------------------------ workload ---- */

static cento_status draw_workload(throughput_run *run, cento_error *error) {
    const bench_throughput_options *options = run->options;
    workload *work = &run->work;
    uint32_t count = options->sequences, vocab_size = run->model.vocab_size;
    uint32_t largest = vocab_size > TOKEN_IDS_MAX ? TOKEN_IDS_MAX : vocab_size - 1;
    python_random random;
    size_t at = 0;
    ALLOCATE(work->tokens, (size_t)count * options->tokens_max, error);
    ALLOCATE(work->prompt_begin, count, error);
    ALLOCATE(work->prompt_tokens, count, error);
    ALLOCATE(work->answer_tokens, count, error);
    python_random_seed(&random, options->seed);
    for (uint32_t i = 0; i < count; i++) {
        work->prompt_begin[i] = at;
        work->prompt_tokens[i] = python_randint(&random, options->tokens_min, options->tokens_max);
        for (uint32_t t = 0; t < work->prompt_tokens[i]; t++)
            work->tokens[at++] = (int32_t)python_randint(&random, 0, largest);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t prompt = work->prompt_tokens[i];
        uint32_t answer = work->answer_tokens[i] =
            python_randint(&random, options->tokens_min, options->tokens_max);
        work->prompt_tokens_all += prompt;
        work->answer_tokens_all += answer;
        work->kv_tokens_read += (answer - 1.0) * (prompt + answer / 2.0);
        if (prompt + answer > work->context_tokens_max)
            work->context_tokens_max = prompt + answer;
        if (answer > work->answer_tokens_max)
            work->answer_tokens_max = answer;
    }
    return CENTO_OK;
}

static void workload_free(workload *work) {
    mem_free(work->tokens);
    mem_free(work->prompt_begin);
    mem_free(work->prompt_tokens);
    mem_free(work->answer_tokens);
}

/* ------------------------------------------------------------------------------ the run ----- */

static cento_status choose_sizes(throughput_run *run, bool device_memory, cento_error *error) {
    const workload *work = &run->work;
    cento_options *engine = &run->engine_options;
    uint64_t context = work->context_tokens_max + 2; /* BOS, and the last token's place */
    if (context > run->model.context_tokens_max)
        return error_set(
            error, CENTO_CONTEXT_FULL,
            "a prompt and its answer take %llu tokens, the model's context is %u; choose shorter "
            "ones (--lengths)",
            (unsigned long long)context, run->model.context_tokens_max);
    uint32_t page_tokens = engine->page_tokens == 0 ? PAGE_TOKENS_DEFAULT : engine->page_tokens;
    uint64_t needed =
        work->prompt_tokens_all + work->answer_tokens_all + 2ull * run->options->sequences * page_tokens;
    uint64_t fitting = run->options->kv_bytes_max / run->model.kv_bytes_per_token;
    if (engine->context_tokens_max == 0)
        engine->context_tokens_max = (uint32_t)context;
    if (engine->max_batched_tokens == 0)
        engine->max_batched_tokens = device_memory ? BATCHED_TOKENS_GPU : BATCHED_TOKENS_CPU;
    if (engine->max_sequences == 0)
        engine->max_sequences = run->options->sequences < engine->max_batched_tokens
                                    ? run->options->sequences
                                    : engine->max_batched_tokens;
    if (engine->max_waiting == 0)
        engine->max_waiting = run->options->sequences;
    if (engine->kv_pool_tokens == 0)
        engine->kv_pool_tokens = needed < fitting ? needed : fitting;
    return CENTO_OK;
}

/* And whether the device has memory of its own. */
static cento_status measure_memory(throughput_run *run, bool *device_memory, cento_error *error) {
    const backend_options options = {.compute_dtype = run->options->engine.compute_dtype,
                                     .threads = run->options->engine.threads};
    backend *device = NULL;
    TRY(backend_create(run->options->engine.device, &options, &device, error));
    *device_memory = device->ops->measure != NULL;
    cento_status status = bench_copy_bandwidth(device, &run->copy_bytes_s, error);
    device->ops->destroy(device);
    return status;
}

static cento_status submit(throughput_run *run, uint32_t index, cento_error *error) {
    const workload *work = &run->work;
    const cento_piece piece = {.kind = CENTO_KIND_QUERY,
                               .tokens = work->tokens + work->prompt_begin[index],
                               .token_count = work->prompt_tokens[index]};
    cento_request request = cento_request_default();
    request.pieces = &piece;
    request.piece_count = 1;
    request.raw = true;
    request.completion_tokens_max = work->answer_tokens[index];
    request.ignore_eos = true;
    request.sampling.temperature = run->options->temperature;
    request.sampling.seed_set = true;
    request.sampling.seed = index;
    return cento_submit(run->engine, &request, &run->generations[index], error);
}

static cento_status take_result(throughput_run *run, uint32_t index, cento_error *error) {
    cento_result *result = NULL;
    TRY(cento_generation_result(run->generations[index], &result, error));
    run->completion_tokens += result->token_count;
    run->ttft_ms[index] = result->timing.ttft_ms;
    cento_result_free(result);
    return CENTO_OK;
}

static void show(const throughput_run *run, const char *what, uint64_t done, uint64_t total) {
    if (run->options->on_progress != NULL)
        run->options->on_progress(run->options->user, what, done, total);
}

/* Shown while the first of them is waited for: how many have ended, whichever they are. */
static void wait_for(throughput_run *run, uint32_t index) {
    while (!cento_wait(run->generations[index], 250)) {
        cento_stats stats;
        cento_engine_stats(run->engine, &stats);
        show(run, "requests", stats.requests_finished, run->options->sequences);
    }
}

static cento_status answer_all(throughput_run *run, cento_error *error) {
    uint32_t count = run->options->sequences;
    uint64_t begin_ns = clock_now_ns();
    for (uint32_t i = 0; i < count; i++)
        TRY(submit(run, i, error));
    for (uint32_t i = 0; i < count; i++) {
        wait_for(run, i);
        TRY(take_result(run, i, error));
    }
    run->seconds = clock_ms_since(begin_ns) * 1e-3;
    cento_engine_stats(run->engine, &run->stats);
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------ report ------ */

static cento_status make_report(const throughput_run *run, json_t **report, cento_error *error) {
    const workload *work = &run->work;
    const cento_stats *stats = &run->stats;
    double count = (double)(stats->steps > 0 ? stats->steps : 1),
           kv_bytes = work->kv_tokens_read * (double)run->model.kv_bytes_per_token;
    double weights = (double)run->model.weight_bytes_per_step;
    double floor_s = (weights * work->answer_tokens_max + kv_bytes) / run->copy_bytes_s;
    double schedule_ms = stats->step_ms - stats->attention_plan_ms - stats->forward_ms - stats->sample_ms;
    double answered = (double)run->completion_tokens, asked = (double)work->prompt_tokens_all;
    uint32_t sequences = run->options->sequences;
    qsort(run->ttft_ms, sequences, sizeof *run->ttft_ms, compare_doubles);
    *report = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:{s:f, s:f, s:f, s:f, s:f}, s:f, s:f, "
        "s:f, s:f, s:f, s:f, s:f}",
        "model", run->options->geometry == NULL ? stats->model_name : run->options->geometry, "backend",
        stats->backend, "sequences", (json_int_t)sequences, "prompt_tokens",
        (json_int_t)work->prompt_tokens_all, "completion_tokens", (json_int_t)run->completion_tokens,
        "seconds", run->seconds, "output_tokens_per_s", answered / run->seconds, "prompt_tokens_per_s",
        asked / run->seconds, "total_tokens_per_s", (answered + asked) / run->seconds, "steps",
        (json_int_t)stats->steps, "preemptions", (json_int_t)stats->preemptions, "sequences_max",
        (json_int_t)run->engine_options.max_sequences, "ms_per_step", "step", stats->step_ms / count,
        "schedule", schedule_ms / count, "plan", stats->attention_plan_ms / count, "forward",
        stats->forward_ms / count, "sample", stats->sample_ms / count, "ttft_ms_p50",
        percentile(run->ttft_ms, sequences, 0.50), "ttft_ms_p99", percentile(run->ttft_ms, sequences, 0.99),
        "weight_bytes_per_step", weights, "kv_bytes", kv_bytes, "copy_gb_s", run->copy_bytes_s * 1e-9,
        "floor_s", floor_s, "floor_share", floor_s / run->seconds);
    return *report != NULL ? CENTO_OK : error_set(error, CENTO_INTERNAL, "a figure is not a number");
}

static cento_status run_all(throughput_run *run, json_t **report, cento_error *error) {
    const bench_throughput_options *options = run->options;
    bool device_memory;
    if (options->sequences == 0 || options->tokens_min == 0 || options->tokens_min > options->tokens_max)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%u sequences of %u to %u tokens, expected at least one of at least one token",
                         options->sequences, options->tokens_min, options->tokens_max);
    TRY(bench_engine_sizes(&options->engine, options->geometry, &run->model, error));
    TRY(draw_workload(run, error));
    TRY(measure_memory(run, &device_memory, error));
    TRY(choose_sizes(run, device_memory, error));
    ALLOCATE(run->generations, options->sequences, error);
    ALLOCATE(run->ttft_ms, options->sequences, error);
    show(run, "opening", 0, options->sequences);
    TRY(bench_engine_open(&run->engine_options, options->geometry, &run->engine, error));
    TRY(answer_all(run, error));
    return make_report(run, report, error);
}

cento_status bench_throughput(const bench_throughput_options *options, json_t **report, cento_error *error) {
    throughput_run run = {.options = options, .engine_options = options->engine};
    cento_status status = run_all(&run, report, error);
    for (uint32_t i = 0; run.generations != NULL && i < options->sequences; i++)
        cento_generation_free(run.generations[i]);
    cento_close(run.engine);
    mem_free(run.generations);
    mem_free(run.ttft_ms);
    workload_free(&run.work);
    return status;
}
