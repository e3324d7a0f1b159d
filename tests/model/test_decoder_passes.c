/*
 * Forward passes that a backend does as a whole (backend.h, batch_begin): the logits are those of operations
 * asked for one by one, whatever the rows, plans and pools, and a failure anywhere costs that pass at most.
 * A backend that has no such passes is held to the same.
 */
#include "model_fixture.h"

enum { SEQUENCES = 40, PAGES_EACH = 4, PAGES = SEQUENCES * PAGES_EACH, PAGE_TOKENS = 16, VOCAB = 512 };

typedef struct passes {
    backend *device;
    const backend_ops *whole; /* the device's own operations */
    backend_ops ops;          /* what it has now */
    decoder *model;
    backend_kv_pool *pool;
    cascade_plan *plan;
    uint32_t pages[PAGES];
    float logits[SEQUENCES * VOCAB];
} passes;

static passes *open_passes(bool deterministic) {
    cento_error error = {0};
    passes *test = calloc(1, sizeof *test);
    model_config config;
    const backend_options options = {
        .compute_dtype = CENTO_DTYPE_BF16, .threads = 2, .deterministic = deterministic};
    test_device_needed();
    ASSERT_OK(backend_create(test_device(), &options, &test->device, &error));
    ASSERT_OK(model_config_geometry("tiny", &config, &error));
    config.vocab_size = VOCAB;
    config.head_dim = 64; /* that graphs' attention takes */
    config.layers = 3;
    ASSERT_OK(decoder_random(&config, test->device, SEQUENCES, &test->model, &error));
    ASSERT_OK(decoder_kv_pool_create(test->model, PAGES, PAGE_TOKENS, CENTO_DTYPE_BF16, &test->pool, &error));
    test->plan = test_plan_new(PAGES, PAGE_TOKENS, SEQUENCES);
    for (uint32_t i = 0; i < PAGES; i++)
        test->pages[i] = i * 37 % PAGES; /* 37 and the count share no factor */
    test->whole = test->device->ops;
    test->ops = *test->whole;
    test->device->ops = &test->ops;
    return test;
}

static void close_passes(passes *test) {
    test->device->ops = test->whole;
    cascade_plan_free(test->plan);
    test->device->ops->kv_pool_free(test->device, test->pool);
    decoder_free(test->model);
    test->device->ops->destroy(test->device);
    free(test);
}

/* Token `position` of the first `rows` sequences; its logits are in test->logits. */
static cento_status step(passes *test, uint32_t rows, uint32_t position, cento_error *error) {
    int32_t tokens[SEQUENCES];
    uint32_t positions[SEQUENCES], slots[SEQUENCES], logit_rows[SEQUENCES];
    kv_span spans[SEQUENCES];
    row_group groups[SEQUENCES];
    for (uint32_t i = 0; i < rows; i++) {
        const uint32_t *pages = test->pages + i * PAGES_EACH;
        tokens[i] = (int32_t)((i * 131 + position * 17) % VOCAB);
        positions[i] = position;
        slots[i] = pages[position / PAGE_TOKENS] * PAGE_TOKENS + position % PAGE_TOKENS;
        logit_rows[i] = i;
        spans[i] = (kv_span){.pages = pages, .token_end = position + 1};
        groups[i] = (row_group){.row_begin = i, .row_count = 1, .span_begin = i, .span_count = 1};
    }
    const model_config *config = decoder_config(test->model);
    const plan_input input = {.groups = groups,
                              .group_count = rows,
                              .spans = spans,
                              .span_count = rows,
                              .positions = positions,
                              .row_count = rows,
                              .heads_per_kv = config->heads / config->kv_heads};
    TRY(cascade_plan_build(test->plan, &input, error));
    const decoder_batch batch = {.token_count = rows,
                                 .tokens = tokens,
                                 .positions = positions,
                                 .kv_slots = slots,
                                 .plan = test->plan,
                                 .logit_rows = logit_rows,
                                 .logit_row_count = rows};
    return decoder_forward(test->model, &batch, test->pool, test->logits, error);
}

static uint64_t replayed(const passes *test) {
    return test->whole->counters(test->device)->passes_replayed;
}

/* Steps of `rows` sequences as a whole, against the same with operations asked for one by one. */
static void compare_steps(passes *test, uint32_t rows, uint32_t position_begin, uint32_t position_end) {
    static float expected[SEQUENCES * VOCAB];
    cento_error error = {0};
    for (uint32_t position = position_begin; position < position_end; position++) {
        test->ops.batch_begin = NULL;
        ASSERT_OK(step(test, rows, position, &error));
        memcpy(expected, test->logits, sizeof expected);
        test->ops.batch_begin = test->whole->batch_begin;
        ASSERT_OK(step(test, rows, position, &error)); /* writes the same KV again */
        assert_close("logits", test->logits, expected, (size_t)rows * VOCAB, 0.05f);
    }
}

static void a_pass_done_as_a_whole_gives_the_logits_of_its_operations(void **state) {
    static const uint32_t rows[] = {1, 3, 8, 9, 17, 40, 1, 40};
    (void)state;
    passes *test = open_passes(false);
    cento_error error = {0};
    for (uint32_t written = 0; written < PAGES_EACH * PAGE_TOKENS; written++)
        ASSERT_OK(step(test, SEQUENCES, written, &error));
    uint32_t position = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++, position += 6) {
        uint64_t before = replayed(test);
        compare_steps(test, SEQUENCES, position, position + 2);
        compare_steps(test, rows[i], position + 2, position + 6);
        if (test_on_gpu() && i > 0) /* a kind's first pass is plain, its second is captured */
            assert_true(replayed(test) - before >= 2);
    }
    close_passes(test);
}

static void deterministic_rows_are_the_same_bits_in_every_batch(void **state) {
    static float alone[VOCAB];
    cento_error error = {0};
    (void)state;
    passes *test = open_passes(true);
    for (uint32_t position = 0; position < 20; position++) {
        ASSERT_OK(step(test, 1, position, &error));
        memcpy(alone, test->logits, sizeof alone);
        ASSERT_OK(step(test, position % 2 == 0 ? SEQUENCES : 1 + position / 2, position, &error));
        assert_memory_equal(alone, test->logits, sizeof alone);
    }
    close_passes(test);
}

static void a_new_pool_is_not_taken_for_the_old_one(void **state) {
    cento_error error = {0};
    (void)state;
    passes *test = open_passes(false);
    for (int turn = 0; turn < 3; turn++) {
        compare_steps(test, 5, 0, 6);
        test->device->ops->kv_pool_free(test->device, test->pool);
        ASSERT_OK(
            decoder_kv_pool_create(test->model, PAGES, PAGE_TOKENS, CENTO_DTYPE_BF16, &test->pool, &error));
    }
    close_passes(test);
}

/* ------------------------------------------------------------------------ injected failures -- */

static const backend_ops *own_ops;
static int calls_until_trouble, troubled_calls;
static float *read_memory;

/* Waits for the device in the middle of a pass, which no capture allows. */
static cento_status matmul_that_waits(backend *self, const backend_matrix *matrix, const float *x,
                                      uint32_t rows, const float *bias, bool accumulate, float *y,
                                      cento_error *error) {
    float value;
    if (calls_until_trouble-- == 0) {
        troubled_calls++;
        TRY(own_ops->read(self, read_memory, 1, &value, error));
    }
    return own_ops->matmul(self, matrix, x, rows, bias, accumulate, y, error);
}

static cento_status matmul_that_fails(backend *self, const backend_matrix *matrix, const float *x,
                                      uint32_t rows, const float *bias, bool accumulate, float *y,
                                      cento_error *error) {
    if (calls_until_trouble-- <= 0)
        return error_set(error, CENTO_BACKEND, "injected");
    return own_ops->matmul(self, matrix, x, rows, bias, accumulate, y, error);
}

static void a_capture_that_fails_leaves_a_pass_that_runs_plainly(void **state) {
    cento_error error = {0};
    (void)state;
    passes *test = open_passes(false);
    own_ops = test->whole;
    read_memory = test->device->ops->alloc(test->device, 1);
    for (uint32_t position = 0; position < 24; position++) {
        uint32_t rows = position < 12 ? 4 : 12; /* of either kind: plain, then troubled ones */
        static float expected[SEQUENCES * VOCAB];
        test->ops.batch_begin = NULL;
        ASSERT_OK(step(test, rows, position, &error));
        memcpy(expected, test->logits, sizeof expected);
        test->ops.batch_begin = test->whole->batch_begin;
        test->ops.matmul = matmul_that_waits;
        calls_until_trouble = position % 12 < 3 ? 4 : 1 << 20;
        ASSERT_OK(step(test, rows, position, &error));
        test->ops.matmul = test->whole->matmul;
        assert_close("logits", test->logits, expected, (size_t)rows * VOCAB, 0.05f);
    }
    assert_true(troubled_calls > 0);
    if (test_on_gpu()) /* it is tried again */
        assert_true(replayed(test) > 0);
    test->device->ops->release(test->device, read_memory);
    close_passes(test);
}

static void an_operation_that_fails_fails_its_pass_and_no_other(void **state) {
    static const uint32_t rows[] = {1, 4, 7, 12, 17, 40}; /* passes of a kind each */
    cento_error error = {0};
    (void)state;
    passes *test = open_passes(false);
    own_ops = test->whole;
    for (uint32_t position = 0; position < PAGE_TOKENS; position++)
        ASSERT_OK(step(test, SEQUENCES, position, &error));
    for (uint32_t kind = 0; kind < sizeof rows / sizeof *rows; kind++)
        for (uint32_t turn = 0; turn < 3; turn++) { /* plain, to be captured, replayed up to the head */
            test->ops.matmul = matmul_that_fails;
            calls_until_trouble = turn == 2 ? 0 : (int)kind % 5;
            ASSERT_FAILS(CENTO_BACKEND, "injected", step(test, rows[kind], turn, &error));
            test->ops.matmul = test->whole->matmul;
            compare_steps(test, rows[kind], turn, turn + 1 + turn);
        }
    close_passes(test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pass_done_as_a_whole_gives_the_logits_of_its_operations),
        cmocka_unit_test(deterministic_rows_are_the_same_bits_in_every_batch),
        cmocka_unit_test(a_new_pool_is_not_taken_for_the_old_one),
        cmocka_unit_test(a_capture_that_fails_leaves_a_pass_that_runs_plainly),
        cmocka_unit_test(an_operation_that_fails_fails_its_pass_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
