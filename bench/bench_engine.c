/* Engines for benchmarks; see bench_engine.h. */
#include "bench/bench_engine.h"

#include "engine/engine_shape.h"

static cento_status find_config(const cento_options *options, const char *geometry, model_config *config,
                                cento_error *error) {
    TRY(model_config_load(options->model_path, config, error));
    uint32_t vocab_size = config->vocab_size;
    if (geometry != NULL) {
        TRY(model_config_geometry(geometry, config, error));
        config->vocab_size = vocab_size;
    }
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
    *sizes = (bench_model_sizes){config.vocab_size, config.context_tokens_max,
                                 model_config_kv_bytes_per_token(&config, dtype)};
    return CENTO_OK;
}
