/* Engines for benchmarks: of a model's folder, or of a named shape with random weights. */
#ifndef CENTO_BENCH_BENCH_ENGINE_H
#define CENTO_BENCH_BENCH_ENGINE_H

#include "cento.h"

typedef struct bench_model_sizes {
    uint32_t vocab_size, context_tokens_max;
    uint64_t kv_bytes_per_token;
    uint64_t weight_bytes_per_step; /* what a forward pass reads of them: all but rows of the embedding */
} bench_model_sizes;

/* geometry NULL: the folder options->model_path as it is. Else random weights in that shape ("qwen3-0.6b"),
 * with the folder's tokenizer; the vocabulary is the larger one. */
cento_status bench_engine_open(const cento_options *options, const char *geometry, cento_engine **engine,
                               cento_error *error);
/* What the engine would have, without loading it. */
cento_status bench_engine_sizes(const cento_options *options, const char *geometry, bench_model_sizes *sizes,
                                cento_error *error);

#endif
