/* What tests of several layers share about plans. */
#ifndef CENTO_TESTS_PLAN_FIXTURE_H
#define CENTO_TESTS_PLAN_FIXTURE_H

#include "cascade/cascade_plan.h"
#include "support.h"

/* A plan that shares whatever is shared; freed with cascade_plan_free. */
static inline cascade_plan *test_plan_new(uint32_t page_count, uint32_t page_tokens, uint32_t rows_max) {
    cento_error error = {0};
    const plan_options options = {
        .levels_max = 3,
        .page_count = page_count,
        .page_tokens = page_tokens,
        .rows_max = rows_max,
        .spans_max = 256,
        .tile_rows = 96,
        .workers = 2,
    };
    cascade_plan *plan = NULL;
    ASSERT_OK(cascade_plan_create(&options, &plan, &error));
    return plan;
}

/* The same rows see the same spans. */
static inline void test_plan_one_group(cascade_plan *plan, const kv_span *spans, uint32_t span_count,
                                       const uint32_t *positions, uint32_t row_count, uint32_t heads_per_kv) {
    cento_error error = {0};
    const row_group group = {.row_count = row_count, .span_count = span_count};
    const plan_input input = {
        .groups = &group,
        .group_count = 1,
        .spans = spans,
        .span_count = span_count,
        .positions = positions,
        .row_count = row_count,
        .heads_per_kv = heads_per_kv,
    };
    ASSERT_OK(cascade_plan_build(plan, &input, &error));
}

#endif
