/*
 * bench_plan: how long planning a step's attention takes on one core. A step of decode rows: every sequence
 * has some chunks drawn at random from a collection, and tokens of its own.
 * Two figures for each size: `us`, builds one after the other, and `us_cold`, where 8 MB of other memory are
 * read before each build, as a step's products do. And how both grow with sequences and chunks.
 * The repetitions are measured in batches some time apart, of which the one with the least median counts:
 * what else a machine does only adds. `us_all` is the median of all batches.
 */
#ifndef CENTO_BENCH_BENCH_PLAN_H
#define CENTO_BENCH_BENCH_PLAN_H

#include <jansson.h>

#include "cento.h"

typedef struct bench_plan_options {
    uint32_t sequences, chunks; /* chunks: of each sequence */
    uint32_t chunk_tokens;
    uint32_t collection; /* chunks to draw from */
    uint32_t repetitions;
} bench_plan_options;

bench_plan_options bench_plan_options_default(void);

/* {"us_per_plan", "us_per_plan_cold", …, "by_sequences": [{…}], "by_chunks": [{…}]}; the caller releases it.
 */
cento_status bench_plan(const bench_plan_options *options, json_t **report, cento_error *error);

#endif
