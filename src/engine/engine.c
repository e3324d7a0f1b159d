/* Opening and closing an engine, and what it says of itself. */
#include "engine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "cascade/chunk_registry_internal.h"

enum {
    CONTEXT_TOKENS_DEFAULT_MAX = 8192,
    PAGE_TOKENS_DEFAULT = 32,
    PREFILL_TOKENS_DEFAULT = 512,
    PREFILL_TOKENS_MAX = 65536,
    THREADS_MAX = 4096,
    POOL_CONTEXTS_DEFAULT = 4, /* the pool holds so many full contexts */
};

/* ------------------------------------------------------------------ options ---- */

static cento_status check_options(const cento_options *options, cento_error *error) {
    if (options->model_path == NULL || options->model_path[0] == '\0')
        return error_set(error, CENTO_INVALID_ARGUMENT, "model_path is empty, expected a model's folder");
    if (options->device != NULL && strcmp(options->device, "auto") != 0 &&
        strcmp(options->device, "cpu") != 0)
        return error_set(error, CENTO_UNSUPPORTED, "device '%s': expected \"auto\" or \"cpu\"",
                         options->device);
    if (options->compute_dtype != CENTO_DTYPE_BF16 && options->compute_dtype != CENTO_DTYPE_F32)
        return error_set(error, CENTO_INVALID_ARGUMENT, "compute_dtype is %d, expected bf16 or f32",
                         (int)options->compute_dtype);
    uint32_t page_tokens = options->page_tokens;
    if (page_tokens != 0 && page_tokens != 16 && page_tokens != 32 && page_tokens != 64)
        return error_set(error, CENTO_INVALID_ARGUMENT, "page_tokens is %u, expected 16, 32 or 64",
                         page_tokens);
    if (options->prefill_tokens_max > PREFILL_TOKENS_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "prefill_tokens_max is %u, expected at most %d",
                         options->prefill_tokens_max, PREFILL_TOKENS_MAX);
    if (options->threads > THREADS_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "threads is %u, expected at most %d",
                         options->threads, THREADS_MAX);
    if (!file_exists(options->model_path))
        return error_set(error, CENTO_NOT_FOUND, "%s: no such folder", options->model_path);
    if (!file_is_folder(options->model_path))
        return error_set(error, CENTO_UNSUPPORTED,
                         "%s: expected a folder with config.json, *.safetensors and tokenizer.json",
                         options->model_path);
    return CENTO_OK;
}

static cento_status choose_sizes(const cento_options *options, cento_engine *engine, uint32_t *page_count,
                                 uint32_t *page_tokens, cento_error *error) {
    uint32_t model_limit = engine->config.context_tokens_max;
    engine->context_tokens_max = options->context_tokens_max;
    if (engine->context_tokens_max == 0)
        engine->context_tokens_max =
            model_limit < CONTEXT_TOKENS_DEFAULT_MAX ? model_limit : CONTEXT_TOKENS_DEFAULT_MAX;
    if (engine->context_tokens_max > model_limit)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "context_tokens_max is %u, the model was made for at most %u",
                         engine->context_tokens_max, model_limit);
    engine->prefill_tokens_max =
        options->prefill_tokens_max == 0 ? PREFILL_TOKENS_DEFAULT : options->prefill_tokens_max;
    *page_tokens = options->page_tokens == 0 ? PAGE_TOKENS_DEFAULT : options->page_tokens;
    uint64_t pool_tokens = options->kv_pool_tokens == 0
                               ? (uint64_t)POOL_CONTEXTS_DEFAULT * engine->context_tokens_max
                               : options->kv_pool_tokens;
    if (pool_tokens > UINT32_MAX - *page_tokens)
        return error_set(error, CENTO_INVALID_ARGUMENT, "kv_pool_tokens is %llu, expected at most %u",
                         (unsigned long long)pool_tokens, UINT32_MAX - *page_tokens);
    *page_count = (uint32_t)((pool_tokens + *page_tokens - 1) / *page_tokens);
    return CENTO_OK;
}

/* ------------------------------------------------------------------ opening ---- */

static cento_status name_model(const char *folder, cento_engine *engine, cento_error *error) {
    char *whole = realpath(folder, NULL); /* so that "." has a name, too */
    engine->model_name = mem_strdup(path_name(whole == NULL ? folder : whole));
    free(whole);
    return engine->model_name == NULL ? error_memory(error, strlen(folder)) : CENTO_OK;
}

static cento_status allocate_rows(cento_engine *engine, cento_error *error) {
    step_rows *rows = &engine->rows;
    rows->capacity = engine->prefill_tokens_max;
    rows->tokens = mem_alloc(rows->capacity, sizeof *rows->tokens);
    rows->positions = mem_alloc(rows->capacity, sizeof *rows->positions);
    rows->kv_slots = mem_alloc(rows->capacity, sizeof *rows->kv_slots);
    rows->groups = mem_alloc(rows->capacity, sizeof *rows->groups);
    engine->logits = mem_alloc(engine->config.vocab_size, sizeof *engine->logits);
    if (rows->tokens == NULL || rows->positions == NULL || rows->kv_slots == NULL || rows->groups == NULL ||
        engine->logits == NULL)
        return error_memory(error, (size_t)rows->capacity * (3 * sizeof(uint32_t) + sizeof *rows->groups) +
                                       engine->config.vocab_size * sizeof *engine->logits);
    return CENTO_OK;
}

static cento_status load(const cento_options *options, cento_engine *engine, cento_error *error) {
    const char *folder = options->model_path;
    uint32_t page_count = 0, page_tokens = 0;
    TRY(name_model(folder, engine, error));
    TRY(model_config_load(folder, &engine->config, error));
    TRY(choose_sizes(options, engine, &page_count, &page_tokens, error));
    TRY(prompt_format_load(folder, engine->config.vocab_size, &engine->format, error));
    const backend_options device_options = {.compute_dtype = engine->compute_dtype,
                                            .threads = options->threads};
    TRY(backend_cpu_create(&device_options, &engine->device, error));
    TRY(decoder_load(folder, &engine->config, engine->device, engine->prefill_tokens_max,
                     options->on_progress, options->on_progress_user, &engine->model, error));
    const kv_pool_shape shape = {.layers = engine->config.layers,
                                 .kv_heads = engine->config.kv_heads,
                                 .head_dim = engine->config.head_dim,
                                 .pages = page_count,
                                 .page_tokens = page_tokens,
                                 .dtype = engine->compute_dtype};
    engine->kv_pool_bytes = engine->device->ops->kv_pool_bytes(engine->device, &shape);
    engine->page_bytes = engine->kv_pool_bytes / page_count;
    TRY(decoder_kv_pool_create(engine->model, page_count, page_tokens, engine->compute_dtype, &engine->pool,
                               error));
    const page_manager_options page_options = {
        .page_count = page_count, .page_tokens = page_tokens, .chunk_page_ratio = 0.5, .borrow = true};
    TRY(page_manager_create(&page_options, &engine->pages, error));
    const chunk_registry_options registry_options = {.chunks_max = CHUNK_REGISTRY_SIZE,
                                                     .page_bytes = engine->page_bytes};
    TRY(chunk_registry_create(engine->pages, &registry_options, &engine->registry, error));
    TRY(sampler_create(engine->config.vocab_size, &engine->sampler, error));
    return allocate_rows(engine, error);
}

cento_status cento_open(const cento_options *options, cento_engine **engine, cento_error *error) {
    if (options == NULL || engine == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL", options == NULL ? "options" : "engine");
    uint64_t start_ns = clock_now_ns();
    TRY(check_options(options, error));
    cento_engine *fresh = mem_zalloc(1, sizeof *fresh);
    if (fresh == NULL)
        return error_memory(error, sizeof *fresh);
    if (pthread_mutex_init(&fresh->lock, NULL) != 0) {
        mem_free(fresh);
        return error_memory(error, sizeof fresh->lock);
    }
    fresh->compute_dtype = options->compute_dtype;
    fresh->on_progress = options->on_progress;
    fresh->on_progress_user = options->on_progress_user;
    cento_status status = load(options, fresh, error);
    if (status != CENTO_OK) {
        cento_close(fresh);
        return status;
    }
    fresh->load_ms = clock_ms_since(start_ns);
    *engine = fresh;
    return CENTO_OK;
}

void cento_close(cento_engine *engine) {
    if (engine == NULL)
        return;
    chunk_registry_free(engine->registry);
    page_manager_free(engine->pages);
    sampler_free(engine->sampler);
    if (engine->pool != NULL)
        engine->device->ops->kv_pool_free(engine->device, engine->pool);
    decoder_free(engine->model);
    if (engine->device != NULL)
        engine->device->ops->destroy(engine->device);
    prompt_format_free(&engine->format);
    mem_free(engine->rows.tokens);
    mem_free(engine->rows.positions);
    mem_free(engine->rows.kv_slots);
    mem_free(engine->rows.groups);
    mem_free(engine->rows.spans);
    cascade_plan_free(engine->rows.plan);
    cascade_plan_free(engine->rows.window_plan);
    mem_free(engine->logits);
    mem_free(engine->model_name);
    pthread_mutex_destroy(&engine->lock);
    mem_free(engine);
}

/* ------------------------------------------------------------------ what it says of itself ---- */

kv_scope engine_kv_scope(const cento_engine *engine, const char *salt) {
    return (kv_scope){.model_fingerprint = decoder_fingerprint(engine->model),
                      .kv_dtype = engine->compute_dtype == CENTO_DTYPE_F32 ? "f32" : "bf16",
                      .salt = salt};
}

uint64_t engine_forward_tokens(const cento_engine *engine) {
    return engine->device->ops->counters(engine->device)->forward_tokens;
}

bool engine_is_cancelled(cento_engine *engine) {
    return atomic_load(&engine->run_state) == ENGINE_CANCELLING;
}

void cento_cancel(cento_engine *engine) {
    int running = ENGINE_RUNNING;
    if (engine != NULL)
        atomic_compare_exchange_strong(&engine->run_state, &running, ENGINE_CANCELLING);
}

cento_sampling cento_engine_sampling(const cento_engine *engine) {
    return engine == NULL ? cento_request_default().sampling : engine->config.sampling;
}

static void add_kv_use(const chunk_registry *registry, uint64_t token_bytes, cento_stats *stats) {
    for (size_t slot = 0; slot < registry->kvs.capacity; slot++) {
        const chunk_kv *kv = registry->kvs.slots[slot].value;
        if (kv != NULL)
            stats->kv_logical_bytes += kv->uses * kv->tokens * token_bytes;
    }
}

void cento_engine_stats(cento_engine *engine, cento_stats *stats) {
    *stats = (cento_stats){0};
    if (engine == NULL)
        return;
    pthread_mutex_lock(&engine->lock);
    const page_manager *pages = engine->pages;
    chunk_registry_stats counted;
    chunk_registry_read_stats(engine->registry, &counted);
    const backend_counters *counters = engine->device->ops->counters(engine->device);
    stats->load_ms = engine->load_ms;
    stats->weight_bytes = counters->weight_bytes;
    stats->kv_pool_bytes = engine->kv_pool_bytes;
    stats->context_tokens_max = engine->context_tokens_max;
    stats->page_tokens = pages->page_tokens;
    stats->pages_total = pages->page_count;
    stats->pages_used = pages->page_count - pages->counts[PAGE_FREE];
    stats->pages_used_chunks = pages->counts[PAGE_CHUNK];
    stats->chunks = counted.chunks;
    stats->chunk_hits = counted.kv_hits;
    stats->chunk_misses = counted.kv_misses;
    stats->chunk_evictions = counted.evictions;
    stats->forward_tokens = counters->forward_tokens;
    stats->kv_physical_bytes = (uint64_t)stats->pages_used * engine->page_bytes;
    add_kv_use(engine->registry, engine->page_bytes / pages->page_tokens, stats);
    stats->model_name = engine->model_name;
    stats->backend = engine->device->ops->describe(engine->device);
    pthread_mutex_unlock(&engine->lock);
}
