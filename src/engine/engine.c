/* Opening and closing an engine. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/monitor.h"
#include "engine_shape.h"
#include "generation.h"

enum {
    CONTEXT_TOKENS_DEFAULT_MAX = 8192,
    PAGE_TOKENS_DEFAULT = 32,
    THREADS_MAX = 4096,
    POOL_CONTEXTS_DEFAULT = 4, /* the pool holds so many full contexts */
    MAX_SEQUENCES_DEFAULT = 32,
    MAX_SEQUENCES_MAX = 4096,
    MAX_BATCHED_TOKENS_DEFAULT = 512,
    MAX_BATCHED_TOKENS_MAX = 65536,
    MAX_WAITING_DEFAULT = 1024,
    MAX_WAITING_MAX = 1 << 20,
    CHUNK_REGISTRY_SIZE_MAX = 1 << 24,
    SPANS_OF_SEQUENCE = 32, /* foreseen; plans grow where there are more */
};

/* ------------------------------------------------------------------ options ---- */

static cento_status check_most(const char *name, uint64_t value, uint64_t most, cento_error *error) {
    return value <= most ? CENTO_OK
                         : error_set(error, CENTO_INVALID_ARGUMENT, "%s is %llu, expected at most %llu", name,
                                     (unsigned long long)value, (unsigned long long)most);
}

static cento_status check_model_path(const cento_options *options, cento_error *error) {
    if (options->model_path == NULL || options->model_path[0] == '\0')
        return error_set(error, CENTO_INVALID_ARGUMENT, "model_path is empty, expected a model's folder");
    TRY(backend_device_check(options->device, error));
    TRY(backend_attention_check(options->attention, error));
    if (!file_exists(options->model_path))
        return error_set(error, CENTO_NOT_FOUND, "%s: no such folder", options->model_path);
    if (!file_is_folder(options->model_path))
        return error_set(error, CENTO_UNSUPPORTED,
                         "%s: expected a folder with config.json, *.safetensors and tokenizer.json",
                         options->model_path);
    return CENTO_OK;
}

static cento_status check_options(const cento_options *options, cento_error *error) {
    TRY(check_model_path(options, error));
    if (options->compute_dtype != CENTO_DTYPE_BF16 && options->compute_dtype != CENTO_DTYPE_F32)
        return error_set(error, CENTO_INVALID_ARGUMENT, "compute_dtype is %d, expected bf16 or f32",
                         (int)options->compute_dtype);
    if ((int)options->kv_dtype < CENTO_KV_DTYPE_AUTO || options->kv_dtype > CENTO_KV_DTYPE_F32)
        return error_set(error, CENTO_INVALID_ARGUMENT, "kv_dtype is %d, expected auto, bf16 or f32",
                         (int)options->kv_dtype);
    uint32_t page_tokens = options->page_tokens;
    if (page_tokens != 0 && page_tokens != 16 && page_tokens != 32 && page_tokens != 64)
        return error_set(error, CENTO_INVALID_ARGUMENT, "page_tokens is %u, expected 16, 32 or 64",
                         page_tokens);
    double ratio = options->chunk_page_ratio;
    if (!(ratio >= 0 && ratio < 1)) /* NaN fails it, too */
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "chunk_page_ratio is %g, expected a value between 0 and 1 (0: the default)", ratio);
    double share = options->gpu_memory_utilization;
    if (!(share >= 0 && share <= 1))
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "gpu_memory_utilization is %g, expected a value between 0 and 1 (0: the default)",
                         share);
    TRY(check_most("threads", options->threads, THREADS_MAX, error));
    TRY(check_most("max_sequences", options->max_sequences, MAX_SEQUENCES_MAX, error));
    TRY(check_most("max_batched_tokens", options->max_batched_tokens, MAX_BATCHED_TOKENS_MAX, error));
    TRY(check_most("max_waiting", options->max_waiting, MAX_WAITING_MAX, error));
    TRY(check_most("max_cascade_levels", options->max_cascade_levels, PLAN_LEVELS, error));
    return check_most("chunk_registry_size", options->chunk_registry_size, CHUNK_REGISTRY_SIZE_MAX, error);
}

static uint32_t or_default(uint32_t value, uint32_t fallback) {
    return value == 0 ? fallback : value;
}

static cento_status choose_pool(const cento_options *options, engine_limits *limits, cento_error *error) {
    limits->page_tokens = or_default(options->page_tokens, PAGE_TOKENS_DEFAULT);
    uint64_t pool_tokens = options->kv_pool_tokens == 0
                               ? (uint64_t)POOL_CONTEXTS_DEFAULT * limits->context_tokens_max
                               : options->kv_pool_tokens;
    if (pool_tokens > UINT32_MAX - limits->page_tokens)
        return error_set(error, CENTO_INVALID_ARGUMENT, "kv_pool_tokens is %llu, expected at most %u",
                         (unsigned long long)pool_tokens, UINT32_MAX - limits->page_tokens);
    limits->page_count = (uint32_t)((pool_tokens + limits->page_tokens - 1) / limits->page_tokens);
    if (limits->page_count < 2)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "kv_pool_tokens is %llu, expected at least two pages: more than %u",
                         (unsigned long long)pool_tokens, limits->page_tokens);
    limits->chunk_page_ratio = options->chunk_page_ratio == 0 ? 0.5 : options->chunk_page_ratio;
    limits->chunk_page_borrow = options->chunk_page_borrow;
    limits->chunk_registry_size = or_default(options->chunk_registry_size, CHUNK_REGISTRY_SIZE);
    limits->chunk_bytes_max = options->chunk_bytes_max;
    return CENTO_OK;
}

static cento_status choose_limits(const cento_options *options, const model_config *config,
                                  engine_limits *limits, cento_error *error) {
    uint32_t model_limit = config->context_tokens_max;
    limits->context_tokens_max = options->context_tokens_max;
    if (limits->context_tokens_max == 0)
        limits->context_tokens_max =
            model_limit < CONTEXT_TOKENS_DEFAULT_MAX ? model_limit : CONTEXT_TOKENS_DEFAULT_MAX;
    if (limits->context_tokens_max > model_limit)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "context_tokens_max is %u, the model was made for at most %u",
                         limits->context_tokens_max, model_limit);
    limits->max_batched_tokens = or_default(options->max_batched_tokens, MAX_BATCHED_TOKENS_DEFAULT);
    limits->max_sequences = or_default(options->max_sequences, MAX_SEQUENCES_DEFAULT);
    if (limits->max_sequences > limits->max_batched_tokens) /* a row each, or they do not run together */
        limits->max_sequences = limits->max_batched_tokens;
    limits->max_waiting = or_default(options->max_waiting, MAX_WAITING_DEFAULT);
    limits->levels_max = options->enable_cascade ? or_default(options->max_cascade_levels, PLAN_LEVELS) : 1;
    return choose_pool(options, limits, error);
}

/* ------------------------------------------------------------------ opening ---- */

static cento_status name_model(const char *folder, cento_engine *engine, cento_error *error) {
    char *whole = realpath(folder, NULL); /* so that "." has a name, too */
    engine->model_name = mem_strdup(path_name(whole == NULL ? folder : whole));
    free(whole);
    return engine->model_name == NULL ? error_memory(error, strlen(folder)) : CENTO_OK;
}

/* shape: random weights in it, in place of the folder's; NULL: the folder's. */
static cento_status load_model(const cento_options *options, const model_config *shape, cento_engine *engine,
                               cento_error *error) {
    const char *folder = options->model_path;
    const backend_options device_options = {.compute_dtype = engine->compute_dtype,
                                            .threads = options->threads,
                                            .deterministic = engine->deterministic,
                                            .memory_share = options->gpu_memory_utilization,
                                            .attention = options->attention};
    TRY(prompt_format_load(folder, engine->config.vocab_size, &engine->format, error));
    TRY(backend_create(options->device, &device_options, &engine->device, error));
    if (shape != NULL)
        TRY(decoder_random(&engine->config, engine->device, engine->limits.max_batched_tokens, &engine->model,
                           error));
    else
        TRY(decoder_load(folder, &engine->config, engine->device, engine->limits.max_batched_tokens,
                         options->on_progress, options->on_progress_user, &engine->model, error));
    if (engine->device->ops->sample != NULL) /* before the pool, which takes what is left */
        TRY(decoder_reserve_logits(engine->model, engine->limits.max_sequences, error));
    engine->backend_name = engine->device->ops->describe(engine->device);
    engine->weight_bytes = engine->device->ops->counters(engine->device)->weight_bytes;
    return CENTO_OK;
}

/* What is left of a device's own memory, up to what all sequences need twice, but not less than was chosen.
 */
static void widen_pool(cento_engine *engine) {
    engine_limits *limits = &engine->limits;
    const kv_pool_shape page = decoder_kv_pool_shape(engine->model, 1, limits->page_tokens, engine->kv_dtype);
    uint64_t budget = engine->device->ops->memory_budget(engine->device);
    uint64_t fitting = budget / engine->device->ops->kv_pool_bytes(engine->device, &page);
    uint64_t wanted = 2ull * limits->max_sequences * (limits->context_tokens_max / limits->page_tokens + 1);
    uint64_t count = fitting < wanted ? fitting : wanted;
    if (count > limits->page_count && count < UINT32_MAX / limits->page_tokens)
        limits->page_count = (uint32_t)count;
}

static cento_status create_pool(const cento_options *options, cento_engine *engine, cento_error *error) {
    const engine_limits *limits = &engine->limits;
    if (options->kv_pool_tokens == 0)
        widen_pool(engine);
    const kv_pool_shape shape =
        decoder_kv_pool_shape(engine->model, limits->page_count, limits->page_tokens, engine->kv_dtype);
    engine->kv_pool_bytes = engine->device->ops->kv_pool_bytes(engine->device, &shape);
    engine->page_bytes = engine->kv_pool_bytes / limits->page_count;
    TRY(engine->device->ops->kv_pool_create(engine->device, &shape, &engine->pool, error));
    const page_manager_options page_options = {.page_count = limits->page_count,
                                               .page_tokens = limits->page_tokens,
                                               .chunk_page_ratio = limits->chunk_page_ratio,
                                               .borrow = limits->chunk_page_borrow};
    const chunk_registry_options registry_options = {.chunks_max = limits->chunk_registry_size,
                                                     .chunk_bytes_max = limits->chunk_bytes_max,
                                                     .page_bytes = engine->page_bytes};
    TRY(page_manager_create(&page_options, &engine->pages, error));
    TRY(chunk_registry_create(engine->pages, &registry_options, &engine->registry, error));
    return prefix_tree_create(engine->registry, &engine->tree, error);
}

static cento_status create_scheduler(cento_engine *engine, cento_error *error) {
    const engine_limits *limits = &engine->limits;
    const scheduler_options options = {
        .max_sequences = limits->max_sequences,
        .max_batched_tokens = limits->max_batched_tokens,
        /* the queue is kept short before the scheduler sees it; what retention adds is not refused */
        .max_waiting = UINT32_MAX / 2,
        .context_tokens_max = limits->context_tokens_max,
        .continuous = engine->deterministic,
    };
    return cascade_scheduler_create(&options, engine->registry, engine->tree, &engine->scheduler, error);
}

static cento_status create_plans(cento_engine *engine, cento_error *error) {
    const engine_limits *limits = &engine->limits;
    const model_config *config = &engine->config;
    const attention_shape shape = decoder_attention_shape(engine->model);
    const backend_ops *ops = engine->device->ops;
    uint32_t spans = limits->max_sequences * SPANS_OF_SEQUENCE;
    uint32_t cells = limits->max_sequences * (limits->context_tokens_max / PLAN_CELL_TOKENS + 1) + 2 * spans;
    engine->plan_sizes = (plan_options){.levels_max = limits->levels_max,
                                        .page_count = limits->page_count,
                                        .page_tokens = limits->page_tokens,
                                        .rows_max = limits->max_batched_tokens,
                                        .spans_max = spans,
                                        .cells_max = cells,
                                        .tile_rows = ops->plan_tile_rows(engine->device),
                                        .workers = ops->plan_workers(engine->device)};
    TRY(ops->plan_costs(engine->device, &shape, engine->pool, &engine->plan_sizes.costs, error));
    TRY(cascade_plan_create(&engine->plan_sizes, &engine->plan, error));
    bool some_windowed =
        config->window > 0 && config->window_layer_begin > 0 && config->window_layer_begin < config->layers;
    return some_windowed ? cascade_plan_create(&engine->plan_sizes, &engine->window_plan, error) : CENTO_OK;
}

/* The host samples. */
static cento_status create_sampler(cento_engine *engine, cento_error *error) {
    size_t count = (size_t)engine->limits.max_sequences * engine->config.vocab_size;
    TRY(sampler_create(engine->config.vocab_size, &engine->sampler, error));
    engine->logits = mem_alloc(count, sizeof *engine->logits);
    return engine->logits == NULL ? error_memory(error, count * sizeof *engine->logits) : CENTO_OK;
}

/* The device does. */
static cento_status create_samples(cento_engine *engine, cento_error *error) {
    size_t rows = engine->limits.max_sequences, width = 1 + SAMPLE_LOGPROBS_MAX;
    step_samples *samples = &engine->samples;
    samples->rows = mem_alloc(rows, sizeof *samples->rows);
    samples->tokens = mem_alloc(rows, sizeof *samples->tokens);
    samples->logprobs = mem_alloc(rows * width, sizeof *samples->logprobs);
    if (samples->rows == NULL || samples->tokens == NULL || samples->logprobs == NULL)
        return error_memory(error, rows * width * sizeof *samples->logprobs);
    return CENTO_OK;
}

static cento_status load(const cento_options *options, const model_config *shape, cento_engine *engine,
                         cento_error *error) {
    TRY(name_model(options->model_path, engine, error));
    if (shape != NULL)
        engine->config = *shape;
    else
        TRY(model_config_load(options->model_path, &engine->config, error));
    TRY(choose_limits(options, &engine->config, &engine->limits, error));
    TRY(load_model(options, shape, engine, error));
    TRY(create_pool(options, engine, error));
    TRY(create_scheduler(engine, error));
    TRY(create_plans(engine, error));
    return engine->device->ops->sample != NULL ? create_samples(engine, error)
                                               : create_sampler(engine, error);
}

static cento_status new_engine(const cento_options *options, cento_engine **result, cento_error *error) {
    cento_engine *fresh = mem_zalloc(1, sizeof *fresh);
    if (fresh == NULL)
        return error_memory(error, sizeof *fresh);
    if (!monitor_init(&fresh->lock, &fresh->wake)) {
        mem_free(fresh);
        return error_memory(error, sizeof fresh->lock + sizeof fresh->wake);
    }
    fresh->compute_dtype = options->compute_dtype;
    fresh->kv_dtype = options->kv_dtype == CENTO_KV_DTYPE_F32    ? CENTO_DTYPE_F32
                      : options->kv_dtype == CENTO_KV_DTYPE_BF16 ? CENTO_DTYPE_BF16
                                                                 : options->compute_dtype;
    fresh->enable_reuse = options->enable_reuse;
    fresh->deterministic = options->deterministic;
    fresh->on_progress = options->on_progress;
    fresh->on_progress_user = options->on_progress_user;
    *result = fresh;
    return CENTO_OK;
}

cento_status engine_open_shape(const cento_options *options, const model_config *shape, cento_engine **engine,
                               cento_error *error) {
    if (options == NULL || engine == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL", options == NULL ? "options" : "engine");
    uint64_t start_ns = clock_now_ns();
    cento_engine *fresh = NULL;
    TRY(check_options(options, error));
    TRY(new_engine(options, &fresh, error));
    cento_status status = load(options, shape, fresh, error);
    fresh->load_ms = clock_ms_since(start_ns);
    if (status == CENTO_OK)
        status = engine_start(fresh, error);
    if (status != CENTO_OK) {
        cento_close(fresh);
        return status;
    }
    *engine = fresh;
    return CENTO_OK;
}

cento_status cento_open(const cento_options *options, cento_engine **engine, cento_error *error) {
    return engine_open_shape(options, NULL, engine, error);
}

void cento_close(cento_engine *engine) {
    if (engine == NULL)
        return;
    engine_stop(engine);
    cascade_scheduler_free(engine->scheduler);
    prefix_tree_free(engine->tree);
    chunk_registry_free(engine->registry);
    page_manager_free(engine->pages);
    cascade_plan_free(engine->plan);
    cascade_plan_free(engine->window_plan);
    sampler_free(engine->sampler);
    if (engine->pool != NULL)
        engine->device->ops->kv_pool_free(engine->device, engine->pool);
    decoder_free(engine->model);
    if (engine->device != NULL)
        engine->device->ops->destroy(engine->device);
    prompt_format_free(&engine->format);
    mem_free(engine->logits);
    mem_free(engine->samples.rows);
    mem_free(engine->samples.changes);
    mem_free(engine->samples.tokens);
    mem_free(engine->samples.logprobs);
    mem_free(engine->model_name);
    pthread_cond_destroy(&engine->wake);
    pthread_mutex_destroy(&engine->lock);
    mem_free(engine);
}

/* ------------------------------------------------------------------ what it says of itself ---- */

kv_scope engine_kv_scope(const cento_engine *engine, const char *salt) {
    return (kv_scope){.model_fingerprint = decoder_fingerprint(engine->model),
                      .kv_dtype = engine->kv_dtype == CENTO_DTYPE_F32 ? "f32" : "bf16",
                      .salt = salt};
}

const uint8_t *engine_tokenizer_fingerprint(const cento_engine *engine) {
    return tokenizer_fingerprint(engine->format.tokens);
}

void cento_cancel(cento_engine *engine) {
    if (engine != NULL)
        atomic_fetch_add(&engine->cancels, 1);
}

cento_sampling cento_engine_sampling(const cento_engine *engine) {
    return engine == NULL ? cento_request_default().sampling : engine->config.sampling;
}
