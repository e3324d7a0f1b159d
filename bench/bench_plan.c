/* bench_plan: see bench_plan.h. */
#include "bench/bench_plan.h"
#include "bench/bench_median.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cascade/cascade_plan.h"

#define PAGE_TOKENS     32
#define OWN_TOKENS_MAX  128
#define OTHER_BYTES     ((size_t)8 << 20)
#define REPETITIONS_MAX 10000
#define WARM_UP_NS      ((uint64_t)20000000) /* before each batch */
#define BATCHES         20
#define SEQUENCES_MAX   4096
#define CHUNKS_MAX      256

/* One step's input, and the plan for it. */
typedef struct plan_bench {
    const bench_plan_options *options;
    uint32_t sequences, chunks;
    uint64_t random;
    uint32_t *pages, page_count;
    row_group *groups;
    kv_span *spans;
    uint32_t *positions;
    plan_input input;
    cascade_plan *plan;
    uint64_t *other;    /* (OTHER_BYTES) */
    double us, us_cold; /* of the quietest batch */
    double us_all;      /* median of all */
} plan_bench;

static uint32_t draw(plan_bench *bench, uint32_t bound) {
    bench->random = bench->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(bench->random >> 33) % bound;
}

static uint32_t pages_of(uint32_t tokens) {
    return (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

static cento_status allocate(plan_bench *bench, cento_error *error) {
    const bench_plan_options *options = bench->options;
    uint32_t span_count = bench->sequences * (bench->chunks + 1);
    bench->page_count =
        options->collection * pages_of(options->chunk_tokens) + bench->sequences * pages_of(OWN_TOKENS_MAX);
    bench->pages = mem_alloc(bench->page_count, sizeof *bench->pages);
    bench->groups = mem_alloc(bench->sequences, sizeof *bench->groups);
    bench->spans = mem_alloc(span_count, sizeof *bench->spans);
    bench->positions = mem_alloc(bench->sequences, sizeof *bench->positions);
    bench->other = mem_zalloc(1, OTHER_BYTES);
    if (bench->pages == NULL || bench->groups == NULL || bench->spans == NULL || bench->positions == NULL ||
        bench->other == NULL)
        return error_memory(error, span_count * sizeof *bench->spans + OTHER_BYTES);
    const plan_options capacity = {
        .levels_max = 3,
        .page_count = bench->page_count,
        .page_tokens = PAGE_TOKENS,
        .rows_max = bench->sequences,
        .spans_max = span_count,
        .cells_max = bench->sequences * (1 + bench->chunks * (options->chunk_tokens / PLAN_CELL_TOKENS + 1)),
        .tile_rows = 96,
        .workers = 2,
    };
    return cascade_plan_create(&capacity, &bench->plan, error);
}

static void add_span(plan_bench *bench, uint32_t first_page, uint32_t tokens, uint32_t *position) {
    bench->spans[bench->input.span_count++] = (kv_span){
        .pages = bench->pages + first_page,
        .token_end = tokens,
        .position = *position,
        .rotation_origin = *position,
    };
    *position += tokens;
}

static void fill(plan_bench *bench) {
    const bench_plan_options *options = bench->options;
    uint32_t chunk_pages = pages_of(options->chunk_tokens), first_own = options->collection * chunk_pages;
    for (uint32_t i = 0; i < bench->page_count; i++)
        bench->pages[i] = i;
    bench->input = (plan_input){
        .groups = bench->groups,
        .group_count = bench->sequences,
        .spans = bench->spans,
        .positions = bench->positions,
        .row_count = bench->sequences,
        .heads_per_kv = 4,
    };
    for (uint32_t s = 0; s < bench->sequences; s++) {
        uint32_t position = 0;
        bench->groups[s] = (row_group){s, 1, bench->input.span_count, bench->chunks + 1};
        for (uint32_t c = 0; c < bench->chunks; c++)
            add_span(bench, draw(bench, options->collection) * chunk_pages, options->chunk_tokens, &position);
        add_span(bench, first_own + s * pages_of(OWN_TOKENS_MAX), 1 + draw(bench, OWN_TOKENS_MAX), &position);
        bench->positions[s] = position - 1;
    }
}

/* Builds for a while, untimed: a processor that was idle takes that long to reach its clock. */
static cento_status warm_up(plan_bench *bench, cento_error *error) {
    for (uint64_t start = clock_now_ns(); clock_now_ns() - start < WARM_UP_NS;)
        TRY(cascade_plan_build(bench->plan, &bench->input, error));
    return CENTO_OK;
}

static cento_status measure(plan_bench *bench, bool cold, double *us, uint32_t count, cento_error *error) {
    const volatile uint64_t *other = bench->other; /* every line of it is read */
    for (uint32_t i = 0; i < count; i++) {
        for (size_t k = 0; cold && k < OTHER_BYTES / sizeof *bench->other; k += 8)
            (void)other[k];
        uint64_t start = clock_now_ns();
        TRY(cascade_plan_build(bench->plan, &bench->input, error));
        us[i] = (double)(clock_now_ns() - start) * 1e-3;
    }
    return CENTO_OK;
}

/* Batches of repetitions some time apart. */
static cento_status measure_batches(plan_bench *bench, double *us, cento_error *error) {
    uint32_t repetitions = bench->options->repetitions, done = 0;
    uint32_t batches = repetitions < BATCHES ? repetitions : BATCHES;
    double *all = us + repetitions;
    bench->us = bench->us_cold = INFINITY;
    for (uint32_t b = 0; b < batches; b++) {
        uint32_t count = (repetitions - done) / (batches - b);
        TRY(warm_up(bench, error));
        TRY(measure(bench, true, us, count, error));
        bench->us_cold = fmin(bench->us_cold, median(us, count));
        TRY(measure(bench, false, us, count, error));
        memcpy(all + done, us, count * sizeof *us);
        bench->us = fmin(bench->us, median(us, count));
        done += count;
    }
    bench->us_all = median(all, repetitions);
    return CENTO_OK;
}

static cento_status run(plan_bench *bench, cento_error *error) {
    TRY(allocate(bench, error));
    fill(bench);
    TRY(cascade_plan_build(bench->plan, &bench->input, error));
    TRY(cascade_plan_check(bench->plan, &bench->input, error));
    double *us = mem_alloc(2 * (size_t)bench->options->repetitions, sizeof *us);
    if (us == NULL)
        return error_memory(error, 2 * bench->options->repetitions * sizeof *us);
    cento_status status = measure_batches(bench, us, error);
    mem_free(us);
    return status;
}

/* One size; *result may be NULL on failure. */
static cento_status measure_size(const bench_plan_options *options, uint32_t sequences, uint32_t chunks,
                                 json_t **result, cento_error *error) {
    plan_bench bench = {.options = options, .sequences = sequences, .chunks = chunks, .random = 1};
    cento_status status = run(&bench, error);
    if (status == CENTO_OK) {
        const cascade_plan *plan = bench.plan;
        *result =
            json_pack("{s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f}", "sequences", (int)sequences, "chunks",
                      (int)chunks, "views", (int)plan->view_count, "cells", (int)plan->cell_count, "tasks",
                      (int)plan->task_count, "us", bench.us, "us_cold", bench.us_cold, "us_all", bench.us_all,
                      "ns_per_view", 1e3 * bench.us / plan->view_count);
        if (*result == NULL)
            status = error_memory(error, sizeof(json_t));
    }
    cascade_plan_free(bench.plan);
    mem_free(bench.pages);
    mem_free(bench.groups);
    mem_free(bench.spans);
    mem_free(bench.positions);
    mem_free(bench.other);
    return status;
}

/* A quarter, half, all and twice of what is asked for; all: that. */
static cento_status measure_growth(const bench_plan_options *options, bool of_sequences, json_t *list,
                                   json_t *all, cento_error *error) {
    for (uint32_t doubling = 0; doubling < 4; doubling++) {
        if (doubling == 2) { /* measured already */
            json_array_append(list, all);
            continue;
        }
        uint32_t sequences = options->sequences, chunks = options->chunks;
        uint32_t *grown = of_sequences ? &sequences : &chunks;
        *grown = *grown * (1u << doubling) / 4;
        if (*grown == 0)
            continue;
        json_t *size = NULL;
        TRY(measure_size(options, sequences, chunks, &size, error));
        json_array_append_new(list, size);
    }
    return CENTO_OK;
}

bench_plan_options bench_plan_options_default(void) {
    return (bench_plan_options){
        .sequences = 256, .chunks = 8, .chunk_tokens = 512, .collection = 128, .repetitions = 501};
}

static cento_status check_options(const bench_plan_options *options, cento_error *error) {
    if (options->sequences == 0 || options->sequences > SEQUENCES_MAX || options->chunks == 0 ||
        options->chunks > CHUNKS_MAX || options->collection == 0 || options->collection > 65536 ||
        options->chunk_tokens == 0 || options->chunk_tokens > 65536 || options->repetitions == 0 ||
        options->repetitions > REPETITIONS_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%u sequences with %u of %u chunks of %u tokens, %u repetitions; at most %d with %d "
                         "of 65536 of 65536, %d",
                         options->sequences, options->chunks, options->collection, options->chunk_tokens,
                         options->repetitions, SEQUENCES_MAX, CHUNKS_MAX, REPETITIONS_MAX);
    return CENTO_OK;
}

cento_status bench_plan(const bench_plan_options *options, json_t **report, cento_error *error) {
    TRY(check_options(options, error));
    json_t *size = NULL;
    TRY(measure_size(options, options->sequences, options->chunks, &size, error));
    json_t *by_sequences = json_array(), *by_chunks = json_array();
    cento_status status = measure_growth(options, true, by_sequences, size, error);
    if (status == CENTO_OK)
        status = measure_growth(options, false, by_chunks, size, error);
    if (status == CENTO_OK) {
        *report = json_pack("{s:O, s:O, s:O, s:O, s:O, s:i, s:i, s:O, s:O, s:O, s:O, s:O}", "us_per_plan",
                            json_object_get(size, "us"), "us_per_plan_cold", json_object_get(size, "us_cold"),
                            "us_per_plan_all", json_object_get(size, "us_all"), "sequences",
                            json_object_get(size, "sequences"), "chunks", json_object_get(size, "chunks"),
                            "chunk_tokens", (int)options->chunk_tokens, "collection",
                            (int)options->collection, "views", json_object_get(size, "views"), "cells",
                            json_object_get(size, "cells"), "tasks", json_object_get(size, "tasks"),
                            "by_sequences", by_sequences, "by_chunks", by_chunks);
        if (*report == NULL)
            status = error_memory(error, sizeof(json_t));
    }
    json_decref(size);
    json_decref(by_sequences);
    json_decref(by_chunks);
    return status;
}
