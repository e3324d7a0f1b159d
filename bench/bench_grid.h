/*
 * bench_grid: attention over the grid of attention_cases.h, on any device. Each case is planned twice, with
 * sharing as the engine plans it and with none (max_cascade_levels 1), and a layer's attention is timed over
 * as many layers as the caches cannot hold: on a GPU by events around replays of one graph, on a CPU by the
 * clock. Medians count. In each case some rows are compared with f64 attention.
 *
 * The roof is printed beside it: distinct keys and values once, over what a copy in the same memory reaches.
 */
#ifndef CENTO_BENCH_BENCH_GRID_H
#define CENTO_BENCH_BENCH_GRID_H

#include <jansson.h>

#include "bench/attention_cases.h"

/* Of a row's result, over its largest value; larger ones are wrong. KV in bf16, so that f64 cannot be met. */
#define BENCH_GRID_TOLERANCE 0.02

typedef struct bench_grid_options {
    const char *device, *attention; /* as cento_options */
    attention_case_filter filter;
    cento_dtype kv_dtype;
    uint32_t threads;     /* of a CPU; 0: one per physical core */
    uint32_t repetitions; /* 0: 7 */
    float seconds_max;    /* no case is begun after that; 0: none is left out */
    bool shared_only;     /* plans without sharing are not timed */
    bool (*on_case)(void *user, const char *name, size_t done, size_t total);
    void *user;
} bench_grid_options;

/* *report, a new reference: {"device", "kv_dtype", "copy_gb_s", "seconds", "cases_left_out", "wrong": how
 * many cases, "cases": [{"name", "family", "heads", "kv_heads", "head_dim", "page_tokens", "sequences",
 * "rows", "unique_bytes", "layers", "calls", "recorded", "tasks", "us", "us_unshared", "speedup_vs_unshared",
 * "floor_us", "share_of_copy", "tflop_s", "error"}]}; us_unshared and the speedup are left out with
 * shared_only. */
cento_status bench_grid(const bench_grid_options *options, json_t **report, cento_error *error);

#endif
