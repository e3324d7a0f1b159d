/* Promises about plans as FlashInfer's requests: every row's folds hold exactly the keys that it sees, each
 * once and with its own rotation, whatever is shared. The keys are taken from FlashInfer's arrays as its
 * kernels read them. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

#include "backend/flashinfer/flashinfer_requests.h"
#include "random_step.h"

enum { KEYS_MAX = 32768 };

/* A key of the pool as a row meets it. */
typedef struct seen_key {
    int64_t slot;
    int64_t rotation;
} seen_key;

static seen_key expected[KEYS_MAX], found[KEYS_MAX];

static int by_slot(const void *a, const void *b) {
    const seen_key *one = a, *other = b;
    if (one->slot != other->slot)
        return one->slot < other->slot ? -1 : 1;
    return (one->rotation > other->rotation) - (one->rotation < other->rotation);
}

/* From the definition of a span. */
static size_t keys_of_row(const random_step *step, const row_group *group, uint32_t row) {
    size_t count = 0;
    int64_t position = step->positions[row], window = step->input.window;
    for (uint32_t s = group->span_begin; s < group->span_begin + group->span_count; s++) {
        const kv_span *span = &step->spans[s];
        for (uint32_t t = span->token_begin; t < span->token_end; t++) {
            int64_t at = (int64_t)span->position + t - span->token_begin;
            if (at > position || (window != 0 && at <= position - window))
                continue;
            assert_true(count < KEYS_MAX);
            expected[count++] = (seen_key){(int64_t)span->pages[t / step->page_tokens] * step->page_tokens +
                                               t % step->page_tokens,
                                           position - span->rotation_origin};
        }
    }
    return count;
}

/* What FlashInfer's kernel of this kind lets row i of a request see, of keys 0 … keys - 1. */
static bool lets_see(const request_batch *batch, request_kind kind, uint32_t request, uint32_t i,
                     uint32_t rows, uint32_t keys, uint32_t key) {
    if (kind == REQUEST_FULL)
        return true;
    if (kind == REQUEST_CAUSAL)
        return key <= keys - rows + i;
    size_t bit = (size_t)i * keys + key;
    /* masks of masked requests only: begins are counted through this kind */
    return batch->mask[(size_t)batch->mask_begin.values[request] + bit / 8] >> bit % 8 & 1;
}

static size_t keys_of_entry(const flashinfer_requests *requests, uint32_t page_tokens, int32_t entry,
                            uint32_t *batch_row, size_t count) {
    request_kind kind = REQUEST_FULL;
    while ((uint32_t)entry >= requests->entry_begin[kind + 1])
        kind++;
    const request_batch *batch = &requests->batches[kind];
    int32_t local = entry - (int32_t)requests->entry_begin[kind];
    uint32_t request = 0;
    while (batch->row_begin.values[request + 1] <= local)
        request++;
    uint32_t i = (uint32_t)(local - batch->row_begin.values[request]);
    uint32_t rows = (uint32_t)(batch->row_begin.values[request + 1] - batch->row_begin.values[request]);
    const int32_t *pages = batch->pages.values + batch->page_begin.values[request];
    uint32_t page_count =
        (uint32_t)(batch->page_begin.values[request + 1] - batch->page_begin.values[request]);
    uint32_t keys = (page_count - 1) * page_tokens + (uint32_t)batch->last_page.values[request];
    *batch_row = (uint32_t)batch->rows.values[local];
    for (uint32_t key = 0; key < keys; key++)
        if (lets_see(batch, kind, request, i, rows, keys, key)) {
            assert_true(count < KEYS_MAX);
            found[count++] = (seen_key){(int64_t)pages[key / page_tokens] * page_tokens + key % page_tokens,
                                        batch->rotations.values[local]};
        }
    return count;
}

static void check_row(const random_step *step, const flashinfer_requests *requests, const row_group *group,
                      uint32_t row) {
    size_t expected_count = group == NULL ? 0 : keys_of_row(step, group, row), count = 0;
    const int32_t *begin = requests->fold_begin.values;
    for (int32_t i = begin[row]; i < begin[row + 1]; i++) {
        uint32_t batch_row;
        size_t before = count;
        count =
            keys_of_entry(requests, step->page_tokens, requests->fold_entries.values[i], &batch_row, count);
        assert_int_equal(batch_row, row);
        assert_true(count > before); /* no state of nothing is folded */
    }
    assert_int_equal(count, expected_count);
    qsort(expected, count, sizeof *expected, by_slot);
    qsort(found, count, sizeof *found, by_slot);
    assert_memory_equal(expected, found, count * sizeof *found);
}

static const row_group *group_of(const random_step *step, uint32_t row) {
    for (uint32_t g = 0; g < step->input.group_count; g++)
        if (row >= step->groups[g].row_begin && row < step->groups[g].row_begin + step->groups[g].row_count)
            return &step->groups[g];
    return NULL;
}

static void check_step(flashinfer_requests *requests, random_step *step, uint32_t levels, uint64_t *kinds) {
    cento_error error;
    cascade_plan *plan;
    const plan_options options = {.levels_max = levels,
                                  .page_count = step->page_count,
                                  .page_tokens = step->page_tokens,
                                  .rows_max = STEP_ROWS_MAX,
                                  .spans_max = STEP_SPANS_MAX,
                                  .tile_rows = 16,
                                  .workers = 4};
    ASSERT_OK(cascade_plan_create(&options, &plan, &error));
    ASSERT_OK(cascade_plan_build(plan, &step->input, &error));
    ASSERT_OK(flashinfer_requests_build(requests, plan, step->input.window, step->positions, &error));
    assert_int_equal(requests->fold_begin.count, step->input.row_count + 1);
    for (uint32_t row = 0; row < step->input.row_count; row++)
        check_row(step, requests, group_of(step, row), row);
    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        kinds[kind] += request_count(&requests->batches[kind]);
    cascade_plan_free(plan);
}

static void random_steps_are_said_in_requests_without_a_key_too_many_or_too_few(void **state) {
    (void)state;
    static random_step step;
    flashinfer_requests requests = {0};
    uint64_t kinds[REQUEST_KINDS] = {0};
    random_state = 5;
    for (int i = 0; i < 300; i++) {
        random_step_create(&step, STEP_GROUPS_MAX);
        step.input.heads_per_kv = 1 + random_below(8);
        step.input.window = i % 3 == 0 ? 1 + random_below(400) : 0;
        check_step(&requests, &step, 1 + (uint32_t)i % 3, kinds);
    }
    flashinfer_requests_free(&requests);
    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        assert_true(kinds[kind] > 100); /* each way of saying it was needed */
}

/* A prompt of full pages and a decode row are one request each, without a mask, though the plan has cells. */
static void what_is_plain_is_said_plainly(void **state) {
    (void)state;
    cento_error error;
    cascade_plan *plan;
    flashinfer_requests requests = {0};
    uint32_t pages[200], positions[101];
    for (uint32_t i = 0; i < 200; i++)
        pages[i] = 199 - i;
    const kv_span spans[] = {{.pages = pages, .token_end = 1600}, {.pages = pages + 100, .token_end = 1590}};
    const row_group groups[] = {{0, 100, 0, 1}, {100, 1, 1, 1}};
    for (uint32_t i = 0; i < 100; i++)
        positions[i] = 1500 + i;
    positions[100] = 1589;
    const plan_input input = {.groups = groups,
                              .group_count = 2,
                              .spans = spans,
                              .span_count = 2,
                              .positions = positions,
                              .row_count = 101,
                              .heads_per_kv = 4};
    const plan_options options = {.levels_max = 3,
                                  .page_count = 200,
                                  .page_tokens = 16,
                                  .rows_max = 101,
                                  .spans_max = 2,
                                  .tile_rows = 16,
                                  .workers = 1};
    ASSERT_OK(cascade_plan_create(&options, &plan, &error));
    ASSERT_OK(cascade_plan_build(plan, &input, &error));
    ASSERT_OK(flashinfer_requests_build(&requests, plan, 0, positions, &error));
    assert_int_equal(request_count(&requests.batches[REQUEST_CAUSAL]), 1);
    assert_int_equal(requests.batches[REQUEST_CAUSAL].pages.count, 100);
    assert_int_equal(request_count(&requests.batches[REQUEST_FULL]), 1);
    assert_int_equal(requests.batches[REQUEST_FULL].last_page.values[0], 1590 % 16);
    assert_int_equal(request_count(&requests.batches[REQUEST_MASKED]), 0);
    flashinfer_requests_free(&requests);
    cascade_plan_free(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps_are_said_in_requests_without_a_key_too_many_or_too_few),
        cmocka_unit_test(what_is_plain_is_said_plainly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
