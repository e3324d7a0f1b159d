/*
 * Promises of the schedule of the GPU's attention, which needs no GPU: over random steps every row sees every
 * key that its spans show it exactly once for each KV head, in its rotation; each item has one worker; states
 * and their lists fit each other.
 */
#include "plan_fixture.h"

#include <stdlib.h>

#include "random_step.h"

/* Part of the library only where the CUDA backend is. */
#include "backend/cuda/attention_schedule.c"

enum { ROUNDS = 150 };

/* What a row has seen of a KV head: order does not matter. */
typedef struct seen_keys {
    uint64_t count, sum;
} seen_keys;

static void see(seen_keys *seen, uint32_t slot, int64_t rotation) {
    uint64_t x = ((uint64_t)slot << 32 ^ (uint64_t)(uint32_t)rotation) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 29) * 0xBF58476D1CE4E5B9u;
    seen->count++;
    seen->sum += x ^ x >> 32;
}

static uint32_t slot_of(uint32_t page_tokens, const uint32_t *pages, uint32_t token) {
    return pages[token / page_tokens] * page_tokens + token % page_tokens;
}

static void see_spans(const plan_input *input, uint32_t page_tokens, uint32_t window, seen_keys *expected) {
    for (uint32_t g = 0; g < input->group_count; g++)
        for (uint32_t i = 0; i < input->groups[g].row_count; i++) {
            uint32_t row = input->groups[g].row_begin + i;
            int64_t position = input->positions[row];
            for (uint32_t s = 0; s < input->groups[g].span_count; s++) {
                const kv_span *span = &input->spans[input->groups[g].span_begin + s];
                for (uint32_t t = span->token_begin; t < span->token_end; t++) {
                    int64_t at = (int64_t)span->position + t - span->token_begin;
                    if (at <= position && (window == 0 || at > position - (int64_t)window))
                        see(&expected[row], slot_of(page_tokens, span->pages, t),
                            position - span->rotation_origin);
                }
            }
        }
}

typedef struct block_view {
    const uint32_t *block;
    const schedule_header *header;
    const schedule_item *items;
    const schedule_row *rows;
    const schedule_segment *segments;
    const uint32_t *page_ids, *work_begin, *unit_begin, *unit_partials, *unit_rows;
} block_view;

static block_view view_of(const uint32_t *block) {
    const schedule_header *header = schedule_header_of(block);
    return (block_view){
        .block = block,
        .header = header,
        .items = (const schedule_item *)(const void *)(block + header->items),
        .rows = (const schedule_row *)(const void *)(block + header->rows),
        .segments = (const schedule_segment *)(const void *)(block + header->segments),
        .page_ids = block + header->page_ids,
        .work_begin = block + header->work_begin,
        .unit_begin = block + header->unit_begin,
        .unit_partials = block + header->unit_partials,
        .unit_rows = block + header->unit_rows,
    };
}

static void see_item(const block_view *view, const schedule_item *item, uint32_t page_tokens, uint32_t window,
                     uint32_t heads, seen_keys *seen) {
    assert_true(item->key_begin < item->key_end && item->row_count > 0);
    assert_int_equal(item->first_row, view->rows[item->row_begin].row);
    assert_memory_equal(&item->first, &view->segments[item->segment_begin], sizeof item->first);
    assert_true(item->first.key_begin <= item->key_begin && item->key_begin < item->first.key_end);
    for (uint32_t r = item->row_begin; r < item->row_begin + item->row_count; r++) {
        const schedule_row *row = &view->rows[r];
        const schedule_segment *segment = &item->first;
        uint32_t next = item->segment_begin;
        for (uint32_t key = item->key_begin; key < item->key_end; key++) {
            while (key >= segment->key_end)
                segment = &view->segments[++next];
            bool sees = (int64_t)key < row->seen_end &&
                        (window == 0 || (int64_t)key >= (int64_t)row->seen_end - (int64_t)window);
            if (key >= item->full_begin && key < item->full_end)
                assert_true(sees);
            if (sees)
                see(&seen[row->row * heads + item->kv_head],
                    slot_of(page_tokens, view->page_ids + segment->page_begin,
                            segment->offset + key - segment->key_begin),
                    row->rotation);
        }
    }
}

/* Each state is in one list, that of its row and head; what is written directly is a row's only one. */
static void check_states(const block_view *view, uint32_t heads, uint32_t group, uint32_t row_count) {
    const schedule_header *header = view->header;
    uint32_t *states = calloc((size_t)row_count * heads + 1, sizeof *states); /* of a row and head */
    uint32_t *direct = calloc((size_t)row_count * heads + 1, sizeof *direct);
    uint32_t *owners = calloc(header->partial_count + 1, sizeof *owners); /* unit + 1 */
    for (uint32_t unit = 0; unit < header->unit_count; unit++) {
        assert_true(view->unit_begin[unit] < view->unit_begin[unit + 1]);
        for (uint32_t i = view->unit_begin[unit]; i < view->unit_begin[unit + 1]; i++) {
            assert_true(view->unit_partials[i] + group <= header->partial_count);
            assert_int_equal(owners[view->unit_partials[i]], 0);
            owners[view->unit_partials[i]] = unit + 1;
        }
    }
    for (uint32_t i = 0; i < header->item_count; i++) {
        const schedule_item *item = &view->items[i];
        for (uint32_t r = 0; r < item->row_count; r++) {
            const schedule_row *row = &view->rows[item->row_begin + r];
            uint32_t at = row->row * heads + item->kv_head, unit = row->unit + item->kv_head;
            states[at]++;
            if (item->partial == SCHEDULE_NONE) {
                direct[at]++;
                continue;
            }
            assert_int_equal(owners[item->partial + r * group], unit + 1);
            assert_int_equal(view->unit_rows[2 * unit], row->row);
            assert_int_equal(view->unit_rows[2 * unit + 1], item->kv_head);
            owners[item->partial + r * group] = UINT32_MAX;
        }
    }
    for (uint32_t unit = 0; unit < header->unit_count; unit++)
        for (uint32_t i = view->unit_begin[unit]; i < view->unit_begin[unit + 1]; i++)
            assert_int_equal(owners[view->unit_partials[i]], UINT32_MAX);
    for (uint32_t row = 0, zeros = 0; row < row_count; row++) {
        bool zero = zeros < header->zero_row_count && view->block[header->zero_rows + zeros] == row;
        zeros += zero;
        for (uint32_t at = row * heads; at < (row + 1) * heads; at++)
            assert_true((states[at] == 0) == zero && (direct[at] == 0 || states[at] == 1));
    }
    free(states);
    free(direct);
    free(owners);
}

static void check_schedule(const uint32_t *block, const schedule_options *options, const plan_input *input,
                           uint32_t page_tokens) {
    const block_view view = view_of(block);
    uint32_t rows = input->row_count, heads = options->kv_heads;
    seen_keys *expected = calloc(rows, sizeof *expected), *seen = calloc((size_t)rows * heads, sizeof *seen);
    assert_int_equal(view.header->work_begin, sizeof(schedule_header) / 4);
    assert_int_equal(view.work_begin[0], 0);
    for (uint32_t w = 0; w < options->workers; w++)
        assert_true(view.work_begin[w] <= view.work_begin[w + 1]);
    assert_int_equal(view.work_begin[options->workers], view.header->item_count);
    see_spans(input, page_tokens, options->window, expected);
    for (uint32_t i = 0; i < view.header->item_count; i++)
        see_item(&view, &view.items[i], page_tokens, options->window, heads, seen);
    uint32_t zeros = 0;
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t head = 0; head < heads; head++)
            assert_memory_equal(&seen[row * heads + head], &expected[row], sizeof *seen);
        zeros += zeros < view.header->zero_row_count && block[view.header->zero_rows + zeros] == row;
    }
    assert_int_equal(zeros, view.header->zero_row_count); /* in order, each once */
    check_states(&view, heads, options->heads_per_kv, rows);
    free(expected);
    free(seen);
}

static void every_row_sees_its_keys_once_and_states_are_listed_once(void **state) {
    (void)state;
    cento_error error;
    static random_step step;
    attention_schedule *schedule = NULL;
    uint32_t cut = 0, direct = 0;
    ASSERT_OK(attention_schedule_create(&schedule, &error));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        static const uint32_t workers[] = {1, 3, 40, 264}, heads[] = {1, 2, 8}, groups[] = {1, 4, 7, 128};
        random_state = 100u + round;
        random_step_create(&step, STEP_GROUPS_MAX);
        const schedule_options options = {
            .workers = workers[random_below(4)],
            .kv_heads = heads[random_below(3)],
            .heads_per_kv = groups[random_below(4)],
            .window = random_below(3) == 0 ? 1 + random_below(900) : 0,
        };
        step.input.heads_per_kv = options.heads_per_kv;
        step.input.window = random_below(2) ? options.window : 0; /* a plan may be without the layer's */
        const plan_options planned = {
            .levels_max = 1 + random_below(3),
            .page_count = step.page_count,
            .page_tokens = step.page_tokens,
            .rows_max = STEP_ROWS_MAX,
            .spans_max = STEP_SPANS_MAX,
            .tile_rows = 128,
            .workers = 1 + random_below(2) * 100,
        };
        cascade_plan *plan = NULL;
        const uint32_t *block;
        ASSERT_OK(cascade_plan_create(&planned, &plan, &error));
        ASSERT_OK(cascade_plan_build(plan, &step.input, &error));
        ASSERT_OK(attention_schedule_build(schedule, &options, plan, step.positions, &block, &error));
        check_schedule(block, &options, &step.input, step.page_tokens);
        cut += schedule_header_of(block)->unit_count > 0;
        direct += schedule_header_of(block)->unit_count == 0;
        cascade_plan_free(plan);
    }
    assert_true(cut > ROUNDS / 4 && direct > 0);
    attention_schedule_free(schedule);
}

static void absurd_options_are_refused_and_failed_allocations_reported(void **state) {
    (void)state;
    cento_error error;
    static random_step step;
    attention_schedule *schedule = NULL;
    const uint32_t *block;
    random_state = 7;
    random_step_create(&step, STEP_GROUPS_MAX);
    step.input.heads_per_kv = 4;
    cascade_plan *plan = test_plan_new(step.page_count, step.page_tokens, STEP_ROWS_MAX);
    ASSERT_OK(cascade_plan_build(plan, &step.input, &error));
    schedule_options options = {.workers = 8, .kv_heads = 2, .heads_per_kv = 129};
    ASSERT_OK(attention_schedule_create(&schedule, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "129 query heads",
                 attention_schedule_build(schedule, &options, plan, step.positions, &block, &error));
    options.heads_per_kv = 4;
    for (int countdown = 0;; countdown++) {
        mem_fail_after(countdown);
        cento_status status =
            attention_schedule_build(schedule, &options, plan, step.positions, &block, &error);
        mem_fail_after(-1);
        if (status == CENTO_OK)
            break;
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        assert_true(countdown < 1000);
    }
    check_schedule(block, &options, &step.input, step.page_tokens);
    cascade_plan_free(plan);
    attention_schedule_free(schedule);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_sees_its_keys_once_and_states_are_listed_once),
        cmocka_unit_test(absurd_options_are_refused_and_failed_allocations_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
