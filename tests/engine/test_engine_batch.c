/*
 * Many requests at once give what each gives alone: in every mode, with every setting of sharing, in a pool
 * so small that they are preempted and restored. In deterministic mode to the last bit. What is compared with
 * is an engine of its own for each request.
 */
#include "engine_fixture.h"

TINY_MODEL_FIXTURE("batch", 7)

enum { REQUESTS = 16, ANSWER_TOKENS = 24 };

static const char *const documents[] = {
    "Crystalton lies on the river Ossel. It was founded in 1823 by two sisters.",
    "The ship Aurelia was built in Port Veyra.",
    "A tenor sang at the opening of the bridge, and it rained.",
    "x",
};
static const char *const queries[] = {"Who?", "When was it?", "Where does it lie?", "Why?"};

/* Request `number` of a family that shares system prompt, documents and orders of them, and parts somewhere.
 */
typedef struct family_request {
    cento_piece pieces[6];
    cento_request request;
} family_request;

static void family_make(int number, family_request *made) {
    size_t count = 0;
    made->pieces[count++] = SYSTEM("Answer from the notes.");
    made->pieces[count++] = CONTEXT(documents[number % 3]);
    if (number % 4 != 3)
        made->pieces[count++] = CONTEXT(documents[(number + 1 + number / 4) % 4]);
    if (number % 5 == 0)
        made->pieces[count++] = CONTEXT(documents[2]);
    made->pieces[count++] = QUERY(queries[number / 2 % 4]);
    made->request = request_of(made->pieces, count, ANSWER_TOKENS);
    made->request.mode = (cento_mode)(number % 3);
    made->request.link_tokens = 4;
    made->request.anchored = number % 2;
    if (number % 4 == 1) {
        made->request.sampling.temperature = 0.8f;
        made->request.sampling.repetition_penalty = 1.1f;
        made->request.sampling.seed_set = true;
        made->request.sampling.seed = (uint64_t)number;
    }
}

static cento_engine *open_with(const cento_options *options) {
    cento_engine *engine;
    ASSERT_OK(cento_open(options, &engine, &error));
    return engine;
}

static void run_alone(const cento_options *options, cento_result *results[REQUESTS]) {
    for (int i = 0; i < REQUESTS; i++) {
        cento_engine *engine = open_with(options);
        family_request made;
        family_make(i, &made);
        results[i] = run_request_of(engine, &made.request);
        tiny_close(engine);
    }
}

static void run_together(cento_engine *engine, cento_result *results[REQUESTS]) {
    cento_generation *generations[REQUESTS];
    for (int i = 0; i < REQUESTS; i++) {
        family_request made; /* nothing of it is needed once it is submitted */
        family_make(i, &made);
        ASSERT_OK(cento_submit(engine, &made.request, &generations[i], &error));
    }
    for (int i = 0; i < REQUESTS; i++) {
        ASSERT_OK(cento_generation_result(generations[i], &results[i], &error));
        cento_generation_free(generations[i]);
        const cento_usage *usage = &results[i]->usage;
        assert_int_equal(usage->cached_tokens, usage->exact_tokens + usage->approximate_tokens);
    }
    assert_whole(engine);
}

static void free_results(cento_result *results[REQUESTS]) {
    for (int i = 0; i < REQUESTS; i++)
        cento_result_free(results[i]);
}

static void assert_same_answers(cento_result *const a[REQUESTS], cento_result *const b[REQUESTS]) {
    for (int i = 0; i < REQUESTS; i++)
        assert_same_answer(a[i], b[i]);
}

static void assert_same_bits(cento_result *const a[REQUESTS], cento_result *const b[REQUESTS]) {
    for (int i = 0; i < REQUESTS; i++) {
        assert_int_equal(a[i]->token_count, b[i]->token_count);
        assert_memory_equal(a[i]->tokens, b[i]->tokens, a[i]->token_count * sizeof *a[i]->tokens);
        assert_memory_equal(a[i]->logprobs, b[i]->logprobs,
                            a[i]->token_count * a[i]->logprobs_per_token * sizeof *a[i]->logprobs);
    }
}

/* ------------------------------------------------------- settings ---- */

typedef struct setting {
    const char *name;
    uint32_t levels, batched_tokens, sequences, page_tokens;
    uint64_t pool_tokens;
    bool no_cascade, no_reuse, no_borrow;
} setting;

static const setting settings[] = {
    {.name = "as it comes"},
    {.name = "cascade off", .no_cascade = true},
    {.name = "one level", .levels = 1},
    {.name = "two levels", .levels = 2},
    {.name = "reuse off", .no_reuse = true},
    {.name = "passes of few tokens", .batched_tokens = 19},
    {.name = "few at a time", .sequences = 3},
    {.name = "large pages", .page_tokens = 64},
    {.name = "fixed split", .no_borrow = true, .pool_tokens = 1600},
    {.name = "small pool", .pool_tokens = 400},
    {.name = "small pool, cascade off", .pool_tokens = 400, .no_cascade = true},
    {.name = "small pool, reuse off", .pool_tokens = 400, .no_reuse = true},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static cento_options options_with(const setting *chosen) {
    cento_options options = tiny_options(&model);
    options.max_cascade_levels = chosen->levels;
    options.max_batched_tokens = chosen->batched_tokens;
    options.max_sequences = chosen->sequences;
    options.kv_pool_tokens = chosen->pool_tokens;
    options.enable_cascade = !chosen->no_cascade;
    options.enable_reuse = !chosen->no_reuse;
    options.chunk_page_borrow = !chosen->no_borrow;
    if (chosen->page_tokens != 0)
        options.page_tokens = chosen->page_tokens;
    return options;
}

static uint32_t cached_sum(cento_result *const results[REQUESTS]) {
    uint32_t sum = 0;
    for (int i = 0; i < REQUESTS; i++)
        sum += results[i]->usage.cached_tokens;
    return sum;
}

static void together_is_as_alone_whatever_is_shared(void **state) {
    (void)state;
    cento_result *expected[REQUESTS], *cold[REQUESTS], *warm[REQUESTS];
    cento_options plain = tiny_options(&model);
    uint64_t read = 0, unshared = 0;
    run_alone(&plain, expected);
    for (int i = 0; i < SETTINGS; i++) {
        const setting *chosen = &settings[i];
        cento_options options = options_with(chosen);
        print_message("with %s\n", chosen->name);
        cento_engine *engine = open_with(&options);
        run_together(engine, cold);
        assert_same_answers(expected, cold);
        run_together(engine, warm);
        assert_same_answers(expected, warm);
        cento_stats stats = stats_of(engine);
        assert_int_equal(stats.requests_finished, 2 * REQUESTS);
        assert_int_equal(stats.completion_tokens, 2 * REQUESTS * ANSWER_TOKENS);
        if (chosen->no_reuse) {
            /* but for documents that one request has twice */
            assert_int_equal(cached_sum(cold), cached_sum(expected));
            assert_int_equal(cached_sum(warm), cached_sum(expected));
            if (stats.preemptions == 0) /* who comes back finds its own */
                assert_int_equal(stats.kv_hits, 0);
        } else {
            assert_true(cached_sum(cold) > cached_sum(expected) + 300); /* of one another */
            assert_true(stats.kv_hits > 0);
        }
        if (chosen->pool_tokens == 400)
            assert_true(stats.preemptions > 0);
        bool shares = !chosen->no_cascade && !chosen->no_reuse && chosen->levels != 1;
        if (!shares)
            assert_int_equal(stats.kv_bytes_read, stats.kv_bytes_read_unshared);
        /* what pays is measured on this machine: little where few run together */
        assert_true(stats.kv_bytes_read <= stats.kv_bytes_read_unshared);
        read += stats.kv_bytes_read;
        unshared += stats.kv_bytes_read_unshared;
        free_results(cold);
        free_results(warm);
        tiny_close(engine);
    }
    assert_true(read < unshared);
    free_results(expected);
}

/* Preemption is the rarer, the better it is avoided: here it cannot be. */
static void preempted_and_restored_is_as_alone(void **state) {
    (void)state;
    cento_result *expected[REQUESTS], *results[REQUESTS];
    cento_options plain = tiny_options(&model), options = plain;
    run_alone(&plain, expected);
    options.kv_pool_tokens = 20 * 16;
    cento_engine *engine = open_with(&options);
    run_together(engine, results);
    assert_same_answers(expected, results);
    uint32_t preemptions = 0;
    for (int i = 0; i < REQUESTS; i++)
        preemptions += results[i]->usage.preemptions;
    cento_stats stats = stats_of(engine);
    assert_true(stats.preemptions > 0);
    assert_int_equal(stats.preemptions, preemptions);
    free_results(results);
    tiny_close(engine);
    free_results(expected);
}

/* ------------------------------------------------------- to the last bit ---- */

static void deterministic_bits(cento_dtype compute_dtype, cento_kv_dtype kv_dtype) {
    cento_result *alone[REQUESTS], *cold[REQUESTS], *warm[REQUESTS], *crowded[REQUESTS], *unshared[REQUESTS];
    cento_options options = tiny_options(&model);
    options.deterministic = true;
    options.compute_dtype = compute_dtype;
    options.kv_dtype = kv_dtype;
    options.threads = 2;
    run_alone(&options, alone);
    cento_engine *engine = open_with(&options);
    run_together(engine, cold);
    run_together(engine, warm);
    assert_same_bits(alone, cold);
    assert_same_bits(alone, warm);
    assert_true(cached_sum(warm) > cached_sum(cold) && cached_sum(cold) > 300);
    tiny_close(engine);

    options.kv_pool_tokens = 400;
    options.max_batched_tokens = 37;
    engine = open_with(&options);
    run_together(engine, crowded);
    assert_same_bits(alone, crowded);
    assert_true(stats_of(engine).preemptions > 0);
    assert_true(cached_sum(crowded) > 0);
    tiny_close(engine);

    options.kv_pool_tokens = 0;
    options.enable_cascade = false;
    options.threads = 1;
    engine = open_with(&options);
    run_together(engine, unshared);
    assert_same_bits(alone, unshared);
    tiny_close(engine);
    free_results(alone);
    free_results(cold);
    free_results(warm);
    free_results(crowded);
    free_results(unshared);
}

static void deterministic_is_to_the_last_bit(void **state) {
    (void)state;
    deterministic_bits(CENTO_DTYPE_F32, CENTO_KV_DTYPE_AUTO);
}

static void deterministic_is_to_the_last_bit_in_bf16(void **state) {
    (void)state;
    deterministic_bits(CENTO_DTYPE_BF16, CENTO_KV_DTYPE_AUTO);
}

static void deterministic_is_to_the_last_bit_with_kv_of_another_kind(void **state) {
    (void)state;
    deterministic_bits(CENTO_DTYPE_F32, CENTO_KV_DTYPE_BF16);
    deterministic_bits(CENTO_DTYPE_BF16, CENTO_KV_DTYPE_F32);
}

/* ------------------------------------------------------- isolation ---- */

/* Two prompts that part at their last token run side by side, and a third one's KV is of another salt. */
static void prompts_that_part_do_not_disturb_each_other(void **state) {
    (void)state;
    static const char *const ends[] = {"Who was it?", "Who was it!", "Who was it?"};
    static const char *const salts[] = {NULL, NULL, "other"};
    cento_result *expected[3], *results[3];
    cento_generation *generations[3];
    cento_engine *engine = tiny_open(&model);
    for (int i = 0; i < 3; i++) {
        cento_engine *alone = tiny_open(&model);
        const cento_piece pieces[] = {SYSTEM("Answer from the notes."), CONTEXT(documents[0]),
                                      QUERY(ends[i])};
        cento_request request = request_of(pieces, 3, 40);
        request.raw = true;
        request.salt = salts[i];
        expected[i] = run_request_of(alone, &request);
        ASSERT_OK(cento_submit(engine, &request, &generations[i], &error));
        tiny_close(alone);
    }
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(cento_generation_result(generations[i], &results[i], &error));
        cento_generation_free(generations[i]);
        assert_same_answer(expected[i], results[i]);
    }
    assert_memory_not_equal(results[0]->tokens, results[1]->tokens, 40 * sizeof(int32_t));
    assert_true(results[1]->usage.cached_tokens >= results[1]->usage.prompt_tokens - 16);
    assert_int_equal(results[2]->usage.cached_tokens, 0);
    for (int i = 0; i < 3; i++) {
        cento_result_free(expected[i]);
        cento_result_free(results[i]);
    }
    tiny_close(engine);
}

/* What several requests need is computed by one of them: the sums say so. */
static void a_prompt_that_many_ask_for_is_computed_once(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    cento_generation *generations[8];
    const cento_piece pieces[] = {SYSTEM("Answer from the notes."), CONTEXT(documents[0]), QUERY("Who?")};
    cento_request request = request_of(pieces, 3, 8);
    for (int i = 0; i < 8; i++)
        ASSERT_OK(cento_submit(engine, &request, &generations[i], &error));
    uint64_t computed = 0;
    uint32_t prompt_tokens = 0;
    for (int i = 0; i < 8; i++) {
        cento_result *result;
        ASSERT_OK(cento_generation_result(generations[i], &result, &error));
        cento_generation_free(generations[i]);
        computed += result->usage.computed_tokens;
        prompt_tokens = result->usage.prompt_tokens;
        cento_result_free(result);
    }
    assert_int_equal(computed, stats_of(engine).forward_tokens);
    /* the generation prompt is each one's own, where they begin together */
    assert_true(computed <= prompt_tokens + 8 * 7 + 7 * 13);
    cento_stats stats = stats_of(engine);
    assert_true(stats.memory_savings_peak > 0.3);
    assert_true(stats.kv_bytes_read < stats.kv_bytes_read_unshared);
    tiny_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(together_is_as_alone_whatever_is_shared),
        cmocka_unit_test(preempted_and_restored_is_as_alone),
        cmocka_unit_test(deterministic_is_to_the_last_bit),
        cmocka_unit_test(deterministic_is_to_the_last_bit_in_bf16),
        cmocka_unit_test(deterministic_is_to_the_last_bit_with_kv_of_another_kind),
        cmocka_unit_test(prompts_that_part_do_not_disturb_each_other),
        cmocka_unit_test(a_prompt_that_many_ask_for_is_computed_once),
    };
    return cmocka_run_group_tests(tests, create_model, free_model);
}
