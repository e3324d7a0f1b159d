/*
 * bench_throughput: many requests that share nothing, all at once: how many tokens a second, where the time
 * of a step goes, and how far that is from what the memory allows. The workload is nano-vLLM's (its
 * bench.py), token for token where the sizes are the default ones: 256 prompts of 100 to 1,024 random tokens
 * below 10,000, answers of 100 to 1,024 tokens, drawn by Python's `random` with seed 0; temperature 0.6, no
 * end of sequence.
 *
 * A step's time is told as the engine's thread sees it. Where a GPU draws the tokens, "forward" is what
 * launching the pass takes, and "sample" holds the wait for its end.
 *
 * The floor: the weights once for each token of the longest answer, and each request's KV once for each of
 * its tokens, over the bandwidth of a copy, measured in the same run. Prefill costs no time in it.
 */
#ifndef CENTO_BENCH_BENCH_THROUGHPUT_H
#define CENTO_BENCH_BENCH_THROUGHPUT_H

#include <jansson.h>

#include "cento.h"

typedef struct bench_throughput_options {
    cento_options engine; /* sizes that are 0 are chosen so that all requests run at once */
    const char *geometry; /* NULL: the folder engine.model_path; else random weights in this shape, with the
                           * folder's tokenizer */
    uint32_t sequences, seed;
    uint32_t tokens_min, tokens_max; /* of prompts and of answers */
    float temperature;
    uint64_t kv_bytes_max; /* of the pool, where its size is chosen here */
    void (*on_progress)(void *user, const char *what, uint64_t done, uint64_t total); /* may be NULL */
    void *user;
} bench_throughput_options;

bench_throughput_options bench_throughput_options_default(void);

/* *report, a new reference: {"model", "backend", "sequences", "prompt_tokens", "completion_tokens",
 * "seconds", "output_tokens_per_s", "prompt_tokens_per_s", "total_tokens_per_s", "steps", "preemptions",
 * "sequences_max", "ms_per_step": {"step", "schedule", "plan", "forward", "sample"}, "ttft_ms_p50",
 * "ttft_ms_p99", "weight_bytes_per_step", "kv_bytes", "copy_gb_s", "floor_s", "floor_share"}; both rates are
 * over all seconds. */
cento_status bench_throughput(const bench_throughput_options *options, json_t **report, cento_error *error);

#endif
