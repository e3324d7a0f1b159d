/*
 * Promises of the cascade plan: what is shared and what is not, at every level and cost; every key of every
 * group exactly once (cascade_plan_check, which shares no code with building); bad input refused.
 */
#include "support.h"

#include <stdio.h>

#include "base/mem.h"
#include "random_step.h"

enum { PAGE_TOKENS = 16, PAGES = 1024 };

static uint32_t all_pages[PAGES];

static plan_options usual_options(void) {
    return (plan_options){
        .levels_max = 3,
        .page_count = PAGES,
        .page_tokens = PAGE_TOKENS,
        .rows_max = STEP_ROWS_MAX,
        .spans_max = STEP_SPANS_MAX,
        .tile_rows = 96,
        .workers = 1,
    };
}

static cascade_plan *plan_new(plan_options options) {
    cento_error error;
    cascade_plan *plan = NULL;
    ASSERT_OK(cascade_plan_create(&options, &plan, &error));
    return plan;
}

static void build(cascade_plan *plan, const plan_input *input) {
    cento_error error;
    ASSERT_OK(cascade_plan_build(plan, input, &error));
    ASSERT_OK(cascade_plan_check(plan, input, &error));
}

/* Tokens [begin, end) of the run whose first page is `page`. */
static kv_span span_of(uint32_t page, uint32_t begin, uint32_t end, uint32_t position) {
    return (kv_span){.pages = all_pages + page, .token_begin = begin, .token_end = end, .position = position};
}

static kv_span continued(kv_span span) {
    span.continues = true;
    return span;
}

/* ------------------------------------------------------------------ what is shared ---- */

enum { SYSTEM = 0, DOC_A = 32, DOC_B = 100, OWN_0 = 120, OWN_1 = 124, OWN_2 = 128 };

/* The picture in cascade_plan.h: system 300 tokens, A 700, B 100, each group 10 of its own. */
static const uint32_t picture_positions[] = {1009, 1109, 309};
static const row_group picture_groups[] = {{0, 1, 0, 3}, {1, 1, 3, 4}, {2, 1, 7, 2}};

static plan_input picture(kv_span spans[9]) {
    spans[0] = span_of(SYSTEM, 0, 300, 0);
    spans[1] = span_of(DOC_A, 0, 700, 300);
    spans[2] = span_of(OWN_0, 0, 10, 1000);
    spans[3] = span_of(SYSTEM, 0, 300, 0);
    spans[4] = span_of(DOC_B, 0, 100, 300);
    spans[5] = span_of(DOC_A, 0, 700, 400);
    spans[6] = span_of(OWN_1, 0, 10, 1100);
    spans[7] = span_of(SYSTEM, 0, 300, 0);
    spans[8] = span_of(OWN_2, 0, 10, 300);
    spans[1].rotation_origin = spans[4].rotation_origin = 300;
    spans[5].rotation_origin = 400;
    return (plan_input){.groups = picture_groups,
                        .group_count = 3,
                        .spans = spans,
                        .span_count = 9,
                        .positions = picture_positions,
                        .row_count = 3,
                        .heads_per_kv = 4};
}

static void every_cell_that_several_groups_read_is_one_task(void **state) {
    (void)state;
    kv_span spans[9];
    plan_input input = picture(spans);
    cascade_plan *plan = plan_new(usual_options());
    build(plan, &input);
    assert_int_equal(plan->cell_count, 7); /* system, A twice, B, three own */
    assert_int_equal(plan->view_count, 11);
    assert_int_equal(plan->task_count, 3);
    assert_int_equal(plan->slot_count, 7);   /* system 3, A 2 × 2 */
    const uint32_t keys[] = {512, 300, 188}; /* the costliest first: 2 × 512, 3 × 300, 2 × 188 */
    for (uint32_t t = 0; t < 3; t++)
        assert_int_equal(plan->cells[plan->tasks[t].cell].key_count, keys[t]);
    const plan_stats expected = {
        .rows = {3, 4, 4},
        .tokens = {300, 700, 130},
        .keys_read = 300 + 700 + 130,
        .keys_read_unshared = 3 * 300 + 2 * 700 + 130,
    };
    assert_memory_equal(&plan->stats, &expected, sizeof expected);
    /* A as the second group sees it */
    assert_int_equal(plan->views[plan->folds[1].view_begin + 2].position, 400);
    assert_int_equal(plan->views[plan->folds[1].view_begin + 2].rotation_origin, 400);
    assert_int_equal(plan->views[plan->folds[1].view_begin + 3].position, 912);
    cascade_plan_free(plan);
}

static void levels_bound_what_is_shared(void **state) {
    (void)state;
    kv_span spans[9];
    plan_input input = picture(spans);
    const uint32_t tasks[] = {0, 1, 3};
    const uint64_t read[] = {2430, 300 + 1400 + 130, 1130};
    for (uint32_t levels = 1; levels <= 3; levels++) {
        plan_options options = usual_options();
        options.levels_max = levels;
        cascade_plan *plan = plan_new(options);
        build(plan, &input);
        assert_int_equal(plan->task_count, tasks[levels - 1]);
        assert_int_equal(plan->stats.keys_read, read[levels - 1]);
        cascade_plan_free(plan);
    }
}

static void a_chunk_that_only_one_sequence_has_twice_is_not_shared(void **state) {
    (void)state;
    const row_group group = {0, 1, 0, 2};
    const kv_span spans[] = {span_of(DOC_A, 0, 300, 0), span_of(DOC_A, 0, 300, 300)};
    const uint32_t position = 700;
    const plan_input input = {.groups = &group,
                              .group_count = 1,
                              .spans = spans,
                              .span_count = 2,
                              .positions = &position,
                              .row_count = 1,
                              .heads_per_kv = 1};
    cascade_plan *plan = plan_new(usual_options());
    build(plan, &input);
    assert_int_equal(plan->cell_count, 1);
    assert_int_equal(plan->task_count, 0);
    assert_int_equal(plan->stats.keys_read, plan->stats.keys_read_unshared);
    cascade_plan_free(plan);
}

static void a_cell_is_shared_only_if_that_saves_more_than_it_costs(void **state) {
    (void)state;
    kv_span spans[9];
    plan_input input = picture(spans);
    plan_options options = usual_options();
    /* a reader saved: keys × 1 ns; a row and head: 10 ns: 12 heads of system, 8 of each cell of A */
    options.costs = (plan_costs){.key_read_ns = 1.0, .state_ns = 10.0, .task_ns = 109.0};
    cascade_plan *plan = plan_new(options);
    build(plan, &input);
    assert_int_equal(plan->task_count, 2); /* 188 < 80 + 109 */
    cascade_plan_free(plan);
    options.costs.task_ns = 108.0;
    plan = plan_new(options);
    build(plan, &input);
    assert_int_equal(plan->task_count, 3);
    cascade_plan_free(plan);
    options.costs.state_ns = 1000.0;
    plan = plan_new(options);
    build(plan, &input);
    assert_int_equal(plan->task_count, 0);
    cascade_plan_free(plan);
}

static void rows_that_fill_a_tile_stay_private(void **state) {
    (void)state;
    uint32_t positions[50];
    for (uint32_t i = 0; i < 24; i++) {
        positions[i] = 200 + i;
        positions[24 + i] = 200 + i;
    }
    positions[48] = positions[49] = 200;
    const row_group groups[] = {{0, 24, 0, 1}, {24, 24, 1, 1}, {48, 1, 2, 1}, {49, 1, 3, 1}};
    const kv_span shared = span_of(SYSTEM, 0, 200, 0), spans[] = {shared, shared, shared, shared};
    const plan_input input = {.groups = groups,
                              .group_count = 4,
                              .spans = spans,
                              .span_count = 4,
                              .positions = positions,
                              .row_count = 50,
                              .heads_per_kv = 4};
    cascade_plan *plan = plan_new(usual_options());
    build(plan, &input);
    assert_int_equal(plan->task_count, 1); /* 24 × 4 = 96 rows are a tile: only the two small groups share */
    assert_int_equal(plan->tasks[0].view_count, 2);
    assert_int_equal(plan->views[0].slot, PLAN_PRIVATE);
    assert_int_equal(plan->stats.keys_read, 3 * 200);
    cascade_plan_free(plan);
}

static void a_chunk_whose_head_is_computed_again_is_shared_from_the_next_cell_on(void **state) {
    (void)state;
    const row_group groups[] = {{0, 1, 0, 1}, {1, 1, 1, 2}};
    const kv_span spans[] = {span_of(DOC_A, 0, 700, 0), span_of(OWN_0, 0, 10, 0),
                             span_of(DOC_A, 10, 700, 10)};
    const uint32_t positions[] = {800, 900};
    const plan_input input = {.groups = groups,
                              .group_count = 2,
                              .spans = spans,
                              .span_count = 3,
                              .positions = positions,
                              .row_count = 2,
                              .heads_per_kv = 1};
    cascade_plan *plan = plan_new(usual_options());
    build(plan, &input);
    assert_int_equal(plan->task_count, 1);
    assert_int_equal(plan->cells[plan->tasks[0].cell].key_count, 188);
    cascade_plan_free(plan);
}

static void cells_do_not_depend_on_how_a_path_is_cut_into_runs(void **state) {
    (void)state;
    /* 1,300 tokens in one run; in runs of 100, 700, 0 and 500; and the same ones for two groups */
    const row_group groups[] = {{0, 1, 0, 1}, {1, 1, 1, 4}, {2, 1, 1, 4}};
    const kv_span spans[] = {span_of(0, 0, 1300, 0), span_of(100, 0, 100, 0),
                             continued(span_of(110, 0, 700, 100)), continued(span_of(160, 0, 0, 800)),
                             continued(span_of(200, 0, 500, 800))};
    const uint32_t positions[] = {1400, 1400, 1400};
    const plan_input input = {.groups = groups,
                              .group_count = 3,
                              .spans = spans,
                              .span_count = 5,
                              .positions = positions,
                              .row_count = 3,
                              .heads_per_kv = 1};
    cascade_plan *plan = plan_new(usual_options());
    build(plan, &input);
    assert_int_equal(plan->cell_count, 6);
    const uint32_t keys[] = {512, 512, 276};
    for (uint32_t g = 0; g < 3; g++)
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(plan->cells[plan->views[plan->folds[g].view_begin + i].cell].key_count, keys[i]);
    assert_int_equal(plan->task_count, 3);
    assert_int_equal(plan->cells[plan->views[3].cell].source_count, 2);
    assert_int_equal(plan->cells[plan->views[5].cell].source_count, 1);
    cascade_plan_free(plan);
}

static void cells_that_no_row_sees_are_left_out(void **state) {
    (void)state;
    const row_group group = {0, 2, 0, 2};
    const kv_span spans[] = {span_of(0, 0, 2048, 0), span_of(200, 0, 100, 2048)};
    uint32_t positions[] = {1200, 1300};
    plan_input input = {.groups = &group,
                        .group_count = 1,
                        .spans = spans,
                        .span_count = 2,
                        .positions = positions,
                        .row_count = 2,
                        .heads_per_kv = 1};
    cascade_plan *plan = plan_new(usual_options());
    build(plan, &input);
    assert_int_equal(plan->view_count, 3); /* not [1536, 2048), and not the second span */
    input.window = 177;                    /* row 1200 sees from 1024 on */
    build(plan, &input);
    assert_int_equal(plan->view_count, 1);
    input.window = 178;
    build(plan, &input);
    assert_int_equal(plan->view_count, 2);
    cascade_plan_free(plan);
}

static void a_run_that_another_group_sees_all_of_is_left_out_from_where_this_one_sees_no_more(void **state) {
    (void)state;
    const row_group groups[] = {{0, 1, 0, 1}, {1, 1, 1, 1}, {2, 1, 2, 1}, {3, 1, 3, 1}};
    const kv_span spans[] = {span_of(0, 0, 2048, 0), span_of(0, 0, 2048, 0), span_of(0, 0, 2048, 0),
                             span_of(0, 0, 1800, 0)};
    const uint32_t positions[] = {2100, 1000, 2047, 2100};
    plan_input input = {.groups = groups,
                        .group_count = 4,
                        .spans = spans,
                        .span_count = 4,
                        .positions = positions,
                        .row_count = 4,
                        .heads_per_kv = 1};
    cascade_plan *plan = plan_new(usual_options());
    build(plan, &input);
    const uint32_t views[] = {4, 2, 4, 4}, windowed[] = {2, 2, 2, 2};
    for (uint32_t f = 0; f < 4; f++)
        assert_int_equal(plan->folds[f].view_count, views[f]);
    assert_int_equal(plan->cell_count, 5); /* the last group's last cell is shorter */
    input.window = 600;
    build(plan, &input);
    for (uint32_t f = 0; f < 4; f++)
        assert_int_equal(plan->folds[f].view_count, windowed[f]);
    cascade_plan_free(plan);
}

static void private_cells_are_tasks_where_there_are_few_rows_for_the_workers(void **state) {
    (void)state;
    const row_group group = {0, 1, 0, 1};
    const kv_span span = span_of(0, 0, 2000, 0);
    const uint32_t position = 2000;
    const plan_input input = {.groups = &group,
                              .group_count = 1,
                              .spans = &span,
                              .span_count = 1,
                              .positions = &position,
                              .row_count = 1,
                              .heads_per_kv = 4};
    for (uint32_t levels = 1; levels <= 3; levels += 2) {
        plan_options options = usual_options();
        options.workers = 8;
        options.levels_max = levels;
        cascade_plan *plan = plan_new(options);
        build(plan, &input);
        assert_int_equal(plan->task_count, 4);
        assert_int_equal(plan->slot_count, 4);
        assert_int_equal(plan->stats.keys_read, 2000);
        cascade_plan_free(plan);
    }
}

/* ------------------------------------------------------------------ any sharing ---- */

static void any_step_is_covered_exactly_at_every_level_without_allocating(void **state) {
    (void)state;
    cento_error error;
    uint64_t shared_tasks = 0;
    for (uint32_t round = 0; round < 300; round++) {
        random_state = round;
        random_step step;
        random_step_create(&step, STEP_GROUPS_MAX);
        step.input.heads_per_kv = 1 + random_below(8);
        step.input.window = random_below(3) == 0 ? 1 + random_below(900) : 0;
        uint64_t unshared = 0;
        for (uint32_t levels = 1; levels <= 3; levels++) {
            plan_options options = usual_options();
            options.levels_max = levels;
            options.page_count = step.page_count;
            options.page_tokens = step.page_tokens;
            options.workers = 1 + round % 7;
            options.tile_rows = 1 + random_below(100);
            if (round % 2 == 0)
                options.costs = (plan_costs){random_below(9), random_below(20), random_below(2000)};
            cascade_plan *plan = plan_new(options);
            for (int repeat = 0; repeat < 2; repeat++) {
                mem_fail_after(0);
                cento_status status = cascade_plan_build(plan, &step.input, &error);
                mem_fail_after(-1);
                ASSERT_OK(status);
                ASSERT_OK(cascade_plan_check(plan, &step.input, &error));
            }
            if (levels == 1)
                unshared = plan->stats.tokens[2];
            for (uint32_t t = 0; t < plan->task_count; t++)
                shared_tasks += plan->tasks[t].view_count > 1;
            assert_true(plan->stats.keys_read <= plan->stats.keys_read_unshared);
            assert_int_equal(plan->stats.tokens[2], unshared);
            cascade_plan_free(plan);
        }
    }
    assert_true(shared_tasks > 300);
}

static void the_same_step_gives_the_same_plan(void **state) {
    (void)state;
    cento_error error;
    random_step step;
    random_state = 4;
    random_step_create(&step, STEP_GROUPS_MAX);
    step.input.heads_per_kv = 2;
    plan_options options = usual_options();
    options.page_count = step.page_count;
    options.page_tokens = step.page_tokens;
    cascade_plan *first = plan_new(options), *second = plan_new(options);
    ASSERT_OK(cascade_plan_build(first, &step.input, &error));
    for (uint32_t round = 0; round < 5; round++) { /* what came before leaves nothing behind */
        random_step other;
        random_step_create(&other, STEP_GROUPS_MAX);
        other.input.heads_per_kv = 3;
        (void)cascade_plan_build(second, &other.input, &error);
    }
    ASSERT_OK(cascade_plan_build(second, &step.input, &error));
    assert_int_equal(first->view_count, second->view_count);
    assert_int_equal(first->task_count, second->task_count);
    for (uint32_t v = 0; v < first->view_count; v++) {
        assert_int_equal(first->views[v].cell, second->views[v].cell);
        assert_int_equal(first->views[v].slot, second->views[v].slot);
    }
    assert_memory_equal(first->tasks, second->tasks, first->task_count * sizeof *first->tasks);
    assert_memory_equal(first->task_views, second->task_views,
                        first->task_view_count * sizeof *first->task_views);
    cascade_plan_free(first);
    cascade_plan_free(second);
}

static void many_ends_in_one_page_are_covered_as_well(void **state) {
    (void)state;
    enum { GROUPS = 64 };
    row_group groups[GROUPS];
    kv_span spans[GROUPS];
    uint32_t positions[GROUPS];
    for (uint32_t g = 0; g < GROUPS; g++) {
        groups[g] = (row_group){g, 1, g, 1};
        spans[g] = span_of(0, 0, 100 + g / 2, 0);
        positions[g] = 500;
    }
    const plan_input input = {.groups = groups,
                              .group_count = GROUPS,
                              .spans = spans,
                              .span_count = GROUPS,
                              .positions = positions,
                              .row_count = GROUPS,
                              .heads_per_kv = 1};
    cascade_plan *plan = plan_new(usual_options());
    build(plan, &input);
    assert_int_equal(plan->task_count, GROUPS / 2);
    cascade_plan_free(plan);
}

static void an_empty_step_is_an_empty_plan(void **state) {
    (void)state;
    const plan_input input = {.heads_per_kv = 1};
    cascade_plan *plan = plan_new(usual_options());
    build(plan, &input);
    assert_int_equal(plan->view_count + plan->task_count + plan->fold_count, 0);
    cascade_plan_free(plan);
}

/* ------------------------------------------------------------------ what is refused ---- */

static void refuse(cascade_plan *plan, const plan_input *input, const char *part) {
    cento_error error = {0};
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, part, cascade_plan_build(plan, input, &error));
    assert_int_equal(plan->view_count + plan->cell_count + plan->fold_count + plan->task_count, 0);
    assert_int_equal(plan->row_count, 0);
}

static void input_that_contradicts_itself_is_refused(void **state) {
    (void)state;
    cascade_plan *plan = plan_new(usual_options());
    kv_span spans[9];
    const plan_input good = picture(spans);
    row_group groups[3];
    plan_input input = good;
    input.groups = groups;
#define REFUSE_GROUP(index, field, value, part)                                                              \
    memcpy(groups, picture_groups, sizeof groups);                                                           \
    groups[index].field = value;                                                                             \
    refuse(plan, &input, part)
    REFUSE_GROUP(1, row_count, 3, "group 1: rows 1 + 3 of a batch of 3");
    REFUSE_GROUP(1, row_count, 0, "group 1: rows 1 + 0");
    REFUSE_GROUP(1, row_begin, UINT32_MAX, "group 1: rows 4294967295 + 1");
    REFUSE_GROUP(1, row_begin, 0, "group 1 begins at row 0, before the end of group 0");
    REFUSE_GROUP(2, span_count, 3, "group 2: spans 7 + 3 of 9");
    REFUSE_GROUP(2, span_begin, 10, "group 2: spans 10 + 2 of 9");
    input = good;
#define REFUSE_SPAN(index, field, value, part)                                                               \
    picture(spans);                                                                                          \
    spans[index].field = value;                                                                              \
    refuse(plan, &input, part)
    REFUSE_SPAN(4, token_begin, 101, "group 1, span 1 holds tokens 101 to 100");
    REFUSE_SPAN(3, continues, true, "group 1: the first span continues nothing");
    REFUSE_SPAN(4, continues, true,
                "group 1, span 1 at position 300 (keys rotated from 300) does not continue");
    picture(spans);
    spans[4].rotation_origin = 0;
    spans[4].continues = true;
    build(plan, &input);
    spans[4].position = 301;
    refuse(plan, &input, "group 1, span 1 at position 301");
    picture(spans);
    input.heads_per_kv = 0;
    refuse(plan, &input, "heads_per_kv");
    const uint32_t descending[] = {1009, 1109, 309};
    const row_group one = {0, 3, 0, 3};
    input = good;
    input.groups = &one;
    input.group_count = 1;
    input.positions = descending;
    refuse(plan, &input, "position 309 after 1109");
    cascade_plan_free(plan);
}

static void pages_outside_of_the_pool_are_refused(void **state) {
    (void)state;
    plan_options options = usual_options();
    options.page_count = 127; /* the last group's own page is 128, the second one's 124 */
    cascade_plan *plan = plan_new(options);
    kv_span spans[9];
    const plan_input input = picture(spans);
    refuse(plan, &input, "group 2: page 128 of a pool of 127");
    cascade_plan_free(plan);
    options.page_count = 60; /* A: 32 to 75, in its first cell 32 to 63 */
    plan = plan_new(options);
    refuse(plan, &input, "group 0: page 60 of a pool of 60");
    cascade_plan_free(plan);
}

static void a_page_outside_of_the_pool_is_refused_wherever_it_stands(void **state) {
    (void)state;
    enum { RUN_PAGES = 32, BAD = PAGES };
    uint32_t pages[RUN_PAGES];
    const row_group groups[] = {{0, 1, 0, 1}, {1, 1, 1, 1}};
    const uint32_t positions[] = {1000, 1000};
    cascade_plan *plan = plan_new(usual_options());
    for (uint32_t count = 1; count <= RUN_PAGES; count++)
        for (uint32_t bad = 0; bad < count; bad++)
            for (uint32_t first = 0; first <= bad; first += bad > 0 ? bad : 1) { /* of the span, in pages */
                for (uint32_t i = 0; i < RUN_PAGES; i++)
                    pages[i] = i == bad ? (count % 2 == 0 ? BAD : UINT32_MAX) : i;
                kv_span span = {.pages = pages,
                                .token_begin = first * PAGE_TOKENS + 3,
                                .token_end = (count - 1) * PAGE_TOKENS + 5};
                const kv_span spans[] = {span_of(OWN_0, 0, 10, 0), span};
                const plan_input input = {.groups = groups,
                                          .group_count = 2,
                                          .spans = spans,
                                          .span_count = 2,
                                          .positions = positions,
                                          .row_count = 2,
                                          .heads_per_kv = 1};
                refuse(plan, &input, "group 1: page");
                pages[bad] = bad;
                build(plan, &input);
            }
    cascade_plan_free(plan);
}

static void a_step_beyond_the_capacity_is_refused_with_the_numbers(void **state) {
    (void)state;
    kv_span spans[9];
    const plan_input input = picture(spans);
    plan_options options = usual_options();
    options.rows_max = 2;
    cascade_plan *plan = plan_new(options);
    refuse(plan, &input, "a step of 3 rows in 3 groups with 9 spans, the plan is for 2 rows");
    cascade_plan_free(plan);
    options = usual_options();
    options.spans_max = 8;
    plan = plan_new(options);
    refuse(plan, &input, "8 spans");
    cascade_plan_free(plan);
    options = usual_options();
    options.cells_max = 10;
    plan = plan_new(options);
    refuse(plan, &input, "more than 10 views");
    cascade_plan_free(plan);
    options.cells_max = 11;
    plan = plan_new(options);
    build(plan, &input);
    cascade_plan_free(plan);
}

static void senseless_options_and_failed_allocations_make_no_plan(void **state) {
    (void)state;
    cento_error error;
    cascade_plan *plan = NULL;
    plan_options options = usual_options();
    options.levels_max = 4;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "max_cascade_levels is 4, expected 1 to 3",
                 cascade_plan_create(&options, &plan, &error));
    options = usual_options();
    options.page_tokens = 0;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "pages of 0 tokens", cascade_plan_create(&options, &plan, &error));
    options = usual_options();
    int countdown = 0;
    for (;; countdown++) {
        mem_fail_after(countdown);
        cento_status status = cascade_plan_create(&options, &plan, &error);
        mem_fail_after(-1);
        if (status == CENTO_OK)
            break;
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        assert_null(plan);
    }
    assert_true(countdown > 5);
    cascade_plan_free(plan);
    cascade_plan_free(NULL);
}

static void the_check_sees_damage(void **state) {
    (void)state;
    cento_error error;
    kv_span spans[9];
    const plan_input input = picture(spans);
    cascade_plan *plan = plan_new(usual_options());
#define DAMAGE(field, change)                                                                                \
    build(plan, &input);                                                                                     \
    plan->field += change;                                                                                   \
    assert_int_equal(cascade_plan_check(plan, &input, &error), CENTO_INTERNAL);
    DAMAGE(views[2].position, 1)
    DAMAGE(views[2].rotation_origin, 1)
    DAMAGE(views[2].cell, 1)
    DAMAGE(views[2].slot, 1)
    DAMAGE(views[4].row_begin, 1)
    DAMAGE(cells[1].key_count, 1)
    DAMAGE(sources[0].token_end, 1)
    DAMAGE(sources[1].token_begin, 1)
    DAMAGE(folds[1].view_count, -1)
    DAMAGE(tasks[0].row_count, 1)
    DAMAGE(tasks[0].view_begin, 1)
    DAMAGE(task_views[1], 1)
    DAMAGE(slot_count, 1)
    DAMAGE(stats.rows[1], 1)
    DAMAGE(stats.keys_read, 1)
    cascade_plan_free(plan);
}

int main(void) {
    for (uint32_t i = 0; i < PAGES; i++)
        all_pages[i] = i;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_that_several_groups_read_is_one_task),
        cmocka_unit_test(levels_bound_what_is_shared),
        cmocka_unit_test(a_chunk_that_only_one_sequence_has_twice_is_not_shared),
        cmocka_unit_test(a_cell_is_shared_only_if_that_saves_more_than_it_costs),
        cmocka_unit_test(rows_that_fill_a_tile_stay_private),
        cmocka_unit_test(a_chunk_whose_head_is_computed_again_is_shared_from_the_next_cell_on),
        cmocka_unit_test(cells_do_not_depend_on_how_a_path_is_cut_into_runs),
        cmocka_unit_test(cells_that_no_row_sees_are_left_out),
        cmocka_unit_test(a_run_that_another_group_sees_all_of_is_left_out_from_where_this_one_sees_no_more),
        cmocka_unit_test(private_cells_are_tasks_where_there_are_few_rows_for_the_workers),
        cmocka_unit_test(any_step_is_covered_exactly_at_every_level_without_allocating),
        cmocka_unit_test(the_same_step_gives_the_same_plan),
        cmocka_unit_test(many_ends_in_one_page_are_covered_as_well),
        cmocka_unit_test(an_empty_step_is_an_empty_plan),
        cmocka_unit_test(input_that_contradicts_itself_is_refused),
        cmocka_unit_test(pages_outside_of_the_pool_are_refused),
        cmocka_unit_test(a_page_outside_of_the_pool_is_refused_wherever_it_stands),
        cmocka_unit_test(a_step_beyond_the_capacity_is_refused_with_the_numbers),
        cmocka_unit_test(senseless_options_and_failed_allocations_make_no_plan),
        cmocka_unit_test(the_check_sees_damage),
    };
    return cmocka_run_group_tests_name("cascade plan", tests, NULL, NULL);
}
