/*
 * bench_attention: decode attention over runs that sequences share, with the plan that shares them and with
 * one that does not (max_cascade_levels 1), in the same process on the same pages. Calls of both take turns,
 * layer after layer of a pool that is larger than the last-level cache; the speedup is the median of the
 * ratios of calls that followed one another, with its quartiles (speedup_low, speedup_high). Each case is
 * checked: both results are the same bits, and a row of each is within 1e-4 of f64 attention (2e-3 where
 * queries and weights are rounded to bf16).
 *
 * What bounds a call, and what is printed beside it:
 *   KV bytes    each distinct key and value once, over DRAM read bandwidth (measured, all threads)
 *   flop        4 × query heads × sequences × keys × head_dim, over the FMA rate (measured, all threads)
 */
#ifndef CENTO_BENCH_BENCH_ATTENTION_H
#define CENTO_BENCH_BENCH_ATTENTION_H

#include <jansson.h>

#include "cento.h"

typedef struct bench_attention_case {
    const char *name; /* NULL: made from the numbers */
    uint32_t heads, kv_heads, head_dim;
    uint32_t sequences, shared_tokens, own_tokens;
} bench_attention_case;

typedef struct bench_attention_options {
    const bench_attention_case *cases; /* NULL: the usual ones */
    size_t case_count;
    uint32_t repetitions; /* of going over all layers */
    uint32_t threads;     /* 0: one per physical core */
    cento_dtype kv_dtype;
    const char *isa; /* NULL: the best of this CPU */
    bool (*on_case)(void *user, const char *name, size_t done, size_t total);
    void *user;
} bench_attention_options;

/* {"backend", "read_gb_s", "fma_gflop_s", "cases": [{"name", "us", "us_unshared", "speedup_vs_unshared",
 * …}]}; the caller releases it. */
cento_status bench_attention(const bench_attention_options *options, json_t **report, cento_error *error);

#endif
