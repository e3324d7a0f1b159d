/* Engines for benchmarks; see bench_engine.h. */
#include "bench/bench_engine.h"

#include "engine/engine_shape.h"

static cento_status find_config(const cento_options *options, const char *geometry, model_config *config,
                                cento_error *error) {
    TRY(model_config_load(options->model_path, config, error));
    uint32_t vocab_size = config->vocab_size;
    if (geometry == NULL)
        return CENTO_OK;
    TRY(model_config_geometry(geometry, config, error));
    if (config->vocab_size < vocab_size) /* the folder's tokenizer may give any of its tokens */
        config->vocab_size = vocab_size;
    return CENTO_OK;
}

cento_status bench_engine_open(const cento_options *options, const char *geometry, cento_engine **engine,
                               cento_error *error) {
    if (geometry == NULL)
        return cento_open(options, engine, error);
    model_config config;
    TRY(find_config(options, geometry, &config, error));
    return engine_open_shape(options, &config, engine, error);
}

cento_status bench_engine_sizes(const cento_options *options, const char *geometry, bench_model_sizes *sizes,
                                cento_error *error) {
    model_config config;
    TRY(find_config(options, geometry, &config, error));
    cento_dtype dtype = options->compute_dtype;
    if (options->kv_dtype != CENTO_KV_DTYPE_AUTO)
        dtype = options->kv_dtype == CENTO_KV_DTYPE_F32 ? CENTO_DTYPE_F32 : CENTO_DTYPE_BF16;
    uint64_t weights = model_config_parameters(&config);
    if (!config.tied_embeddings)
        weights -= (uint64_t)config.vocab_size * config.hidden_size;
    *sizes = (bench_model_sizes){
        .vocab_size = config.vocab_size,
        .context_tokens_max = config.context_tokens_max,
        .kv_bytes_per_token = model_config_kv_bytes_per_token(&config, dtype),
        .weight_bytes_per_step = weights * (options->compute_dtype == CENTO_DTYPE_F32 ? 4 : 2),
    };
    return CENTO_OK;
}
