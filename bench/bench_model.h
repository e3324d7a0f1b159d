/*
 * bench_model: how fast a forward pass is, beside what this machine can do. Fills a named geometry with
 * random weights, so it needs no file. Two figures, both measured in the same run as what they are fractions
 * of:
 *
 *   prefill_gemm_fraction      time of oneDNN alone for the layers' products of a prompt (the faster of its
 *                              bf16 and f32), over the time of the whole forward pass
 *   decode_bandwidth_fraction  weights' bytes per token over the time per token, over DRAM read bandwidth
 */
#ifndef CENTO_BENCH_BENCH_MODEL_H
#define CENTO_BENCH_BENCH_MODEL_H

#include <stdio.h>

#include "cento.h"

typedef struct bench_model_options {
    const char *geometry; /* "llama-3.2-1b", "qwen3-0.6b", "tiny" */
    uint32_t prompt_tokens, decode_tokens;
    uint32_t repetitions;
    uint32_t threads; /* 0: one per physical core */
    cento_dtype compute_dtype;
    const char *isa; /* NULL: the best of this CPU; see backend_options */
    bool json;
} bench_model_options;

bench_model_options bench_model_options_default(void);

/* Writes a table, or one JSON object, to `out`. */
cento_status bench_model_run(const bench_model_options *options, FILE *out, cento_error *error);

#endif
