/*
 * Requests under way: submitted, polled, waited for, cancelled in every state, freed without waiting, refused
 * when the queue is full, ended by closing the engine; batches. It uses threads.
 */
#include "engine_fixture.h"

TINY_MODEL_FIXTURE("requests", 9)

#define DOCUMENT "Crystalton lies on the river Ossel. It was founded in 1823."

static cento_request plain_request(uint32_t tokens) {
    static cento_piece plain_pieces[3];
    plain_pieces[0] = SYSTEM("Answer from the notes.");
    plain_pieces[1] = CONTEXT(DOCUMENT);
    plain_pieces[2] = QUERY("Who?");
    cento_request request = request_of(plain_pieces, 3, tokens);
    request.logprobs = 0;
    return request;
}

static cento_generation *submit(cento_engine *engine, const cento_request *request) {
    cento_generation *generation;
    ASSERT_OK(cento_submit(engine, request, &generation, &error));
    return generation;
}

static cento_result *result_of(cento_generation *generation) {
    cento_result *result;
    ASSERT_OK(cento_generation_result(generation, &result, &error));
    cento_generation_free(generation);
    return result;
}

static cento_result *cancelled_result_of(cento_generation *generation) {
    cento_result *result = NULL;
    ASSERT_FAILS(CENTO_CANCELLED, "cancelled", cento_generation_result(generation, &result, &error));
    assert_int_equal(result->finish, CENTO_FINISH_CANCELLED);
    assert_non_null(result->text);
    cento_generation_free(generation);
    return result;
}

/* ------------------------------------------------------- polling ---- */

static void two_requests_polled_in_turn_are_as_alone(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    cento_request requests[2] = {plain_request(30), plain_request(20)};
    requests[1].mode = CENTO_MODE_INDEPENDENT;
    cento_result *expected[2];
    for (int i = 0; i < 2; i++)
        ASSERT_OK(cento_generate(engine, &requests[i], &expected[i], &error));
    listener heard[2];
    memset(heard, 0, sizeof heard);
    cento_generation *generations[2];
    for (int i = 0; i < 2; i++) {
        requests[i].on_delta = listen;
        requests[i].on_delta_user = &heard[i];
        generations[i] = submit(engine, &requests[i]);
    }
    bool ended[2] = {false, false};
    while (!ended[0] || !ended[1]) {
        for (int i = 0; i < 2; i++)
            ended[i] = cento_poll(generations[i]);
    }
    for (int i = 0; i < 2; i++) {
        assert_true(cento_poll(generations[i])); /* again and again */
        cento_result *result;
        ASSERT_OK(cento_generation_result(generations[i], &result, &error));
        assert_string_equal(heard[i].text.data, result->text);
        assert_same_answer(expected[i], result);
        cento_result *again = NULL;
        ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "handed over before",
                     cento_generation_result(generations[i], &again, &error));
        assert_null(again);
        assert_true(cento_wait(generations[i], -1));
        cento_generation_free(generations[i]);
        cento_result_free(expected[i]);
        cento_result_free(result);
        strbuf_free(&heard[i].text);
    }
    assert_quiet(engine);
    tiny_close(engine);
}

static void count_readiness(void *user) {
    atomic_fetch_add((atomic_int *)user, 1);
    little_sleep(200000);
}

static void on_ready_is_called_for_every_token_and_the_end_and_waiting_ends_in_time(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    atomic_int calls = 0;
    cento_request request = plain_request(100);
    request.on_ready = count_readiness;
    request.on_ready_user = &calls;
    cento_generation *generation = submit(engine, &request);
    assert_false(cento_wait(generation, 1)); /* 100 calls take 20 ms at least */
    assert_false(cento_poll(generation));
    assert_true(cento_wait(generation, 60000));
    assert_int_equal(atomic_load(&calls), 100);
    cento_result_free(result_of(generation));
    tiny_close(engine);
}

/* ------------------------------------------------------- the queue ---- */

static void a_full_queue_refuses_with_numbers_and_takes_more_when_it_is_not(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.max_waiting = 2;
    options.max_sequences = 1;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_request slow = plain_request(100), quick = plain_request(3);
    slow.on_ready = dawdle;
    cento_generation *running = submit(engine, &slow);
    wait_until_running(engine);
    cento_generation *waiting[2] = {submit(engine, &quick), submit(engine, &quick)}, *refused = NULL;
    assert_int_equal(stats_of(engine).requests_waiting, 2);
    ASSERT_FAILS(CENTO_QUEUE_FULL, "2 requests are waiting, max_waiting is 2",
                 cento_submit(engine, &quick, &refused, &error));
    assert_null(refused);
    /* what is wrong is said all the same, when there is room */
    cento_result_free(cancelled_result_of((cento_generation_cancel(waiting[1]), waiting[1])));
    cento_result_free(cancelled_result_of((cento_generation_cancel(running), running)));
    cento_result_free(result_of(waiting[0]));
    cento_result_free(result_of(submit(engine, &quick)));
    assert_quiet(engine);
    tiny_close(engine);
}

typedef struct batch_log {
    size_t reported, cached_tokens;
    cento_status statuses[64];
    cento_result *kept; /* of request 3 */
    size_t stop_after;
} batch_log;

static bool log_result(void *user, size_t index, cento_status status, cento_result **result,
                       const cento_error *failure) {
    batch_log *log = user;
    assert_int_equal(failure->status, status);
    log->statuses[index] = status;
    log->reported++;
    if (status == CENTO_OK)
        log->cached_tokens += (*result)->usage.cached_tokens;
    if (index == 3) {
        log->kept = *result;
        *result = NULL; /* ours now */
    }
    return log->stop_after == 0 || log->reported < log->stop_after;
}

static void a_batch_larger_than_the_queue_is_run_to_its_end(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.max_waiting = 3;
    options.max_sequences = 4;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_request requests[40];
    listener heard = {0};
    cento_result *expected;
    for (int i = 0; i < 40; i++) {
        requests[i] = plain_request(5 + (uint32_t)i % 7);
        requests[i].mode = (cento_mode)(i % 2);
    }
    ASSERT_OK(cento_generate(engine, &requests[3], &expected, &error));
    requests[17].piece_count = 0; /* refused, alone */
    requests[3].on_delta = listen;
    requests[3].on_delta_user = &heard;
    batch_log log = {0};
    ASSERT_OK(cento_generate_batch(engine, requests, 40, log_result, &log, &error));
    assert_int_equal(log.reported, 40);
    for (int i = 0; i < 40; i++)
        assert_int_equal(log.statuses[i], i == 17 ? CENTO_INVALID_ARGUMENT : CENTO_OK);
    assert_true(log.cached_tokens > 38 * 60);
    assert_same_answer(expected, log.kept);
    assert_string_equal(heard.text.data, expected->text);
    assert_int_equal(stats_of(engine).requests_finished, 40);
    strbuf_free(&heard.text);
    cento_result_free(expected);
    cento_result_free(log.kept);

    /* on_result ends it */
    requests[3].on_delta = NULL;
    requests[17] = requests[0];
    log = (batch_log){.stop_after = 5};
    ASSERT_FAILS(CENTO_CANCELLED, "after 5 of 40 requests",
                 cento_generate_batch(engine, requests, 40, log_result, &log, &error));
    assert_int_equal(log.reported, 5);
    cento_result_free(log.kept);
    assert_quiet(engine);

    log = (batch_log){0};
    ASSERT_OK(cento_generate_batch(engine, requests, 0, log_result, &log, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "requests is NULL",
                 cento_generate_batch(engine, NULL, 1, log_result, &log, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "on_result is NULL",
                 cento_generate_batch(engine, requests, 1, NULL, &log, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "engine is NULL",
                 cento_generate_batch(NULL, requests, 1, log_result, &log, &error));
    tiny_close(engine);
}

static bool cancel_all(void *user, size_t index, cento_status status, cento_result **result,
                       const cento_error *failure) {
    (void)index, (void)result, (void)failure;
    cento_engine *engine = user;
    assert_true(status == CENTO_OK || status == CENTO_CANCELLED);
    cento_cancel(engine);
    return true;
}

static void cancelling_the_engine_ends_a_batch_what_is_not_submitted_included(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.max_waiting = 2;
    options.max_sequences = 2;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_request requests[40];
    for (int i = 0; i < 40; i++) {
        requests[i] = plain_request(5 + (uint32_t)i);
        requests[i].on_ready = dawdle;
    }
    ASSERT_OK(cento_generate_batch(engine, requests, 40, cancel_all, engine, &error));
    cento_stats stats = stats_of(engine);
    assert_true(stats.requests_finished < 10 && stats.requests_cancelled < 10); /* the rest was never there */
    assert_quiet(engine);
    tiny_close(engine);
}

static void larger_priorities_go_first(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.max_sequences = 1;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_request slow = plain_request(50), low = plain_request(10), high = plain_request(10);
    slow.on_ready = dawdle;
    low.on_ready = dawdle;
    low.priority = -1;
    high.priority = 7;
    cento_generation *running = submit(engine, &slow), *later = submit(engine, &low),
                     *sooner = submit(engine, &high);
    cento_result *first = result_of(sooner);
    assert_false(cento_poll(later));
    cento_result *second = result_of(later);
    cento_result_free(result_of(running));
    assert_true(first->timing.queue_ms <= second->timing.queue_ms);
    cento_result_free(first);
    cento_result_free(second);
    tiny_close(engine);
}

/* ------------------------------------------------------- metrics ---- */

static void metrics_add_up_while_requests_run_and_when_none_does(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.max_sequences = 3;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_request request = plain_request(40);
    cento_generation *generations[5];
    request.on_ready = dawdle;
    for (int i = 0; i < 5; i++)
        generations[i] = submit(engine, &request);
    uint64_t steps = 0;
    for (int i = 0; i < 50; i++) {
        cento_stats stats = stats_of(engine);
        assert_int_equal(stats.pages_free + stats.pages_chunk_used + stats.pages_chunk_unused +
                             stats.pages_sequence,
                         stats.pages_total);
        assert_true(stats.requests_running <= 3 && stats.requests_waiting + stats.requests_running <= 5);
        assert_true(stats.kv_physical_bytes <= stats.kv_pool_bytes);
        assert_true(stats.kv_logical_bytes <= stats.kv_logical_bytes_peak && stats.steps >= steps);
        assert_true(stats.memory_savings < 1 && stats.memory_savings_peak < 1);
        steps = stats.steps;
        little_sleep(1000000);
    }
    uint32_t prompt_tokens = 0, cached_tokens = 0;
    for (int i = 0; i < 5; i++) {
        cento_result *result = result_of(generations[i]);
        prompt_tokens += result->usage.prompt_tokens;
        cached_tokens += result->usage.cached_tokens;
        assert_true(result->timing.ttft_ms >= result->timing.queue_ms);
        assert_true(result->timing.decode_ms > 0 && result->timing.decode_tokens_per_s > 0);
        cento_result_free(result);
    }
    cento_stats after = stats_of(engine);
    assert_int_equal(after.requests_running + after.requests_waiting, 0);
    assert_int_equal(after.requests_finished, 5);
    assert_int_equal(after.prompt_tokens, prompt_tokens);
    assert_int_equal(after.cached_tokens, cached_tokens);
    assert_int_equal(after.completion_tokens, 5 * 40);
    assert_int_equal(after.kv_logical_bytes + after.kv_physical_bytes, 0);
    assert_true(after.kv_logical_bytes_peak > after.kv_physical_bytes_at_peak);
    assert_true(after.memory_savings == 0 && after.memory_savings_peak > 0.3);
    assert_true(after.step_ms > 0 && after.attention_plan_ms > 0 && after.sample_ms > 0);
    assert_true(after.attention_plan_ms + after.sample_ms <= after.step_ms);
    assert_true(after.metadata_bytes > 0 && after.metadata_bytes < after.kv_pool_bytes / 2);
    assert_true(after.level_rows[2] > 0 && after.level_tokens[2] > 0);
    assert_non_null(strstr(after.backend, test_device()));
    assert_string_equal(after.model_name, "requests");
    assert_quiet(engine);
    tiny_close(engine);
}

/* ------------------------------------------------------- ends ---- */

static void a_request_is_cancelled_in_every_state(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.max_sequences = 1;
    options.max_batched_tokens = 1;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_request request = plain_request(300);
    request.on_ready = dawdle;
    /* decoding, with another one waiting that ends at once */
    cento_generation *decoding = submit(engine, &request), *waiting = submit(engine, &request);
    while (stats_of(engine).forward_tokens < 130)
        little_sleep(100000);
    cento_generation_cancel(waiting);
    assert_true(cento_poll(waiting)); /* it never began, so that nothing is waited for */
    cento_result *result = cancelled_result_of(waiting);
    assert_int_equal(result->token_count, 0);
    assert_int_equal(result->usage.computed_tokens, 0);
    assert_true(result->usage.prompt_tokens > 100 && result->segment_count == 7);
    cento_result_free(result);
    assert_false(cento_poll(decoding));
    cento_generation_cancel(decoding);
    result = cancelled_result_of(decoding);
    assert_true(result->token_count > 0 && result->token_count < 300);
    cento_result_free(result);
    /* in its prefill, of one token a pass */
    request.salt = "prefill";
    uint64_t before = stats_of(engine).forward_tokens;
    cento_generation *prefilling = submit(engine, &request);
    while (stats_of(engine).forward_tokens < before + 5)
        ;
    cento_generation_cancel(prefilling);
    result = cancelled_result_of(prefilling);
    assert_true(result->usage.computed_tokens >= 5);
    cento_result_free(result);
    /* when it has ended, it is too late */
    request = plain_request(3);
    cento_generation *done = submit(engine, &request);
    cento_wait(done, -1);
    cento_generation_cancel(done);
    cento_result_free(result_of(done));
    assert_quiet(engine);
    tiny_close(engine);
}

static void a_request_may_be_freed_in_every_state(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.max_sequences = 2;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_request request = plain_request(60);
    for (int round = 0; round < 20; round++) {
        cento_generation *generations[6];
        for (int i = 0; i < 6; i++)
            generations[i] = submit(engine, &request);
        little_sleep(50000 * round);
        for (int i = 0; i < 6; i++)
            cento_generation_free(generations[(i * 5 + round) % 6]);
    }
    cento_generation_free(NULL);
    cento_generation_cancel(NULL);
    assert_quiet(engine);
    cento_stats stats = stats_of(engine);
    assert_int_equal(stats.requests_finished + stats.requests_cancelled, 120);
    tiny_close(engine);
}

static bool refuse_third(void *user, const cento_delta *delta) {
    int *calls = user;
    (void)delta;
    assert_true(*calls < 3); /* none after the third, which refused */
    return ++*calls < 3;
}

static void a_false_from_on_delta_cancels(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    int calls = 0;
    cento_request request = plain_request(300);
    request.on_ready = dawdle;
    request.on_delta = refuse_third;
    request.on_delta_user = &calls;
    cento_result *result = cancelled_result_of(submit(engine, &request));
    assert_int_equal(calls, 3);
    assert_true(result->token_count >= 3 && result->token_count < 300);
    cento_result_free(result);
    tiny_close(engine);
}

typedef struct waiter {
    cento_generation *generation;
    cento_status status;
    cento_error failure;
} waiter;

static void *wait_for_result(void *argument) {
    waiter *self = argument;
    cento_result *result = NULL;
    self->status = cento_generation_result(self->generation, &result, &self->failure);
    cento_result_free(result);
    return NULL;
}

static void closing_ends_those_who_wait(void **state) {
    (void)state;
    enum { WAITERS = 5 };
    cento_options options = tiny_options(&model);
    options.max_sequences = 2;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_request request = plain_request(390);
    request.on_ready = dawdle;
    waiter waiters[WAITERS];
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        waiters[i] = (waiter){.generation = submit(engine, &request)};
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_result, &waiters[i]), 0);
    }
    cento_generation *unwaited = submit(engine, &request), *freed = submit(engine, &request);
    cento_generation_free(freed);
    wait_until_running(engine);
    cento_close(engine);
    for (int i = 0; i < WAITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(waiters[i].status, CENTO_CLOSED);
        assert_non_null(strstr(waiters[i].failure.message, "closed"));
        cento_generation_free(waiters[i].generation);
    }
    assert_true(cento_poll(unwaited));
    cento_generation_cancel(unwaited);
    cento_result *result = NULL;
    ASSERT_FAILS(CENTO_CLOSED, "closed", cento_generation_result(unwaited, &result, &error));
    assert_null(result);
    cento_generation_free(unwaited);
}

/* ------------------------------------------------------- a pass that fails ---- */

static cento_status (*true_matmul)(backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                                   const float *bias, bool accumulate, float *y, cento_error *failure);
static atomic_int passes_to_failure;

static cento_status failing_matmul(backend *self, const backend_matrix *matrix, const float *x, uint32_t rows,
                                   const float *bias, bool accumulate, float *y, cento_error *failure) {
    if (atomic_fetch_sub(&passes_to_failure, 1) == 0)
        return error_set(failure, CENTO_BACKEND, "the machine is on fire");
    return true_matmul(self, matrix, x, rows, bias, accumulate, y, failure);
}

static cento_status (*true_sample)(backend *self, float *logits, const sample_batch *batch,
                                   cento_error *failure);
static atomic_int draws_to_failure;

static cento_status failing_sample(backend *self, float *logits, const sample_batch *batch,
                                   cento_error *failure) {
    if (atomic_fetch_sub(&draws_to_failure, 1) == 0)
        return error_set(failure, CENTO_BACKEND, "the dice are on fire");
    return true_sample(self, logits, batch, failure);
}

static void a_failing_pass_fails_the_requests_in_it_and_no_other(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.max_sequences = 2;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_result *expected;
    cento_request request = plain_request(20);
    ASSERT_OK(cento_generate(engine, &request, &expected, &error));
    const backend_ops *true_ops = engine->device->ops;
    backend_ops ops = *true_ops;
    true_matmul = ops.matmul;
    ops.matmul = failing_matmul;
    true_sample = ops.sample;
    if (ops.sample != NULL)
        ops.sample = failing_sample;
    int failed_sum = 0;
    for (int round = 0; round < 12; round++) {
        cento_generation *generations[5];
        int failed = 0;
        bool draws = true_sample != NULL && round % 2 != 0;
        atomic_store(&passes_to_failure, draws ? -1 : 7 + 23 * round);
        atomic_store(&draws_to_failure, draws ? 2 * round : -1);
        engine->device->ops = &ops; /* its thread sleeps, and sees it with the submission */
        for (int i = 0; i < 5; i++) {
            request.salt = i % 2 ? "one" : NULL;
            generations[i] = submit(engine, &request);
        }
        for (int i = 0; i < 5; i++) {
            cento_result *result = NULL;
            cento_status status = cento_generation_result(generations[i], &result, &error);
            cento_generation_free(generations[i]);
            if (status == CENTO_OK) {
                assert_same_answer(expected, result);
            } else {
                assert_int_equal(status, CENTO_BACKEND);
                assert_non_null(strstr(error.message, "on fire"));
                assert_null(result);
                failed++;
            }
            cento_result_free(result);
        }
        assert_true(failed <= 2); /* that many are computed at a time */
        failed_sum += failed;
        assert_quiet(engine);
        engine->device->ops = true_ops;
    }
    assert_true(failed_sum >= 12);
    assert_int_equal(stats_of(engine).requests_failed, failed_sum);
    cento_result_free(expected);
    tiny_close(engine);
}

/* ------------------------------------------------------- many threads ---- */

enum { CLIENTS = 6, ROUNDS = 15 };

#define AGREE(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            self->disagreed = #condition;                                                                    \
    } while (0)

typedef struct client {
    cento_engine *engine;
    const cento_result *const *expected;
    int number;
    const char *disagreed; /* NULL: nothing is wrong */
} client;

static cento_request client_request(int number, cento_piece pieces[3]) {
    static const char *const texts[] = {"The first note.", "The second, longer note.", "A third one."};
    pieces[0] = SYSTEM("Be brief.");
    pieces[1] = CONTEXT(texts[number % 3]);
    pieces[2] = QUERY("Who?");
    cento_request request = request_of(pieces, 3, 6);
    request.logprobs = 0;
    request.mode = (cento_mode)(number % 2);
    return request;
}

/* Submits, polls, cancels, registers, lists, previews and reads metrics, all at once with the others. */
static void *be_a_client(void *argument) {
    client *self = argument;
    cento_error failure;
    for (int round = 0; round < ROUNDS; round++) {
        int number = (self->number + round) % 6;
        cento_piece pieces[3];
        cento_request request = client_request(number, pieces);
        cento_generation *kept = NULL, *dropped = NULL;
        cento_result *result = NULL;
        cento_preview *preview = NULL;
        cento_chunk_info info, *infos = NULL;
        size_t count;
        AGREE(cento_submit(self->engine, &request, &kept, &failure) == CENTO_OK);
        AGREE(cento_submit(self->engine, &request, &dropped, &failure) == CENTO_OK);
        AGREE(cento_chunk_add(self->engine, &pieces[1], round % 4 == 0, &info, &failure) == CENTO_OK);
        AGREE(cento_compose_preview(self->engine, &request, &preview, &failure) == CENTO_OK);
        AGREE(cento_chunk_list(self->engine, &infos, &count, &failure) == CENTO_OK);
        if (round % 5 == 4)
            (void)cento_chunk_remove(self->engine, info.content_id, &failure);
        cento_generation_free(dropped);
        AGREE(cento_generation_result(kept, &result, &failure) == CENTO_OK);
        const cento_result *expected = self->expected[number];
        AGREE(result != NULL && result->token_count == expected->token_count &&
              memcmp(result->tokens, expected->tokens, 4 * expected->token_count) == 0);
        cento_generation_free(kept);
        cento_result_free(result);
        cento_preview_free(preview);
        cento_free(infos);
        (void)stats_of(self->engine);
    }
    return NULL;
}

static void many_threads_get_what_each_gets_alone(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.kv_pool_tokens = 60 * 16;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_result *expected[6];
    pthread_t threads[CLIENTS];
    client clients[CLIENTS];
    for (int i = 0; i < 6; i++) {
        cento_engine *alone = tiny_open(&model);
        cento_piece pieces[3];
        cento_request request = client_request(i, pieces);
        ASSERT_OK(cento_generate(alone, &request, &expected[i], &error));
        tiny_close(alone);
    }
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] =
            (client){.engine = engine, .expected = (const cento_result *const *)expected, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, be_a_client, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        if (clients[i].disagreed != NULL)
            fail_msg("client %d: %s", i, clients[i].disagreed);
    }
    assert_true(stats_of(engine).kv_hits > 0);
    assert_quiet(engine);
    for (int i = 0; i < 6; i++)
        cento_result_free(expected[i]);
    tiny_close(engine);
}

static void null_arguments_are_refused_by_name(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    cento_request request = plain_request(1);
    cento_generation *generation = NULL;
    cento_result *result = NULL;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "engine is NULL", cento_submit(NULL, &request, &generation, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "request is NULL", cento_submit(engine, NULL, &generation, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "generation is NULL", cento_submit(engine, &request, NULL, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "generation is NULL",
                 cento_generation_result(NULL, &result, &error));
    assert_true(cento_poll(NULL));
    assert_true(cento_wait(NULL, -1));
    tiny_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_requests_polled_in_turn_are_as_alone),
        cmocka_unit_test(on_ready_is_called_for_every_token_and_the_end_and_waiting_ends_in_time),
        cmocka_unit_test(a_full_queue_refuses_with_numbers_and_takes_more_when_it_is_not),
        cmocka_unit_test(a_batch_larger_than_the_queue_is_run_to_its_end),
        cmocka_unit_test(cancelling_the_engine_ends_a_batch_what_is_not_submitted_included),
        cmocka_unit_test(larger_priorities_go_first),
        cmocka_unit_test(metrics_add_up_while_requests_run_and_when_none_does),
        cmocka_unit_test(a_request_is_cancelled_in_every_state),
        cmocka_unit_test(a_request_may_be_freed_in_every_state),
        cmocka_unit_test(a_false_from_on_delta_cancels),
        cmocka_unit_test(closing_ends_those_who_wait),
        cmocka_unit_test(a_failing_pass_fails_the_requests_in_it_and_no_other),
        cmocka_unit_test(many_threads_get_what_each_gets_alone),
        cmocka_unit_test(null_arguments_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, create_model, free_model);
}
