/* An engine may be used from any thread: calls take turns and give what each gives alone. It uses threads. */
#include "engine_fixture.h"

TINY_MODEL_FIXTURE("threads", 5)

enum { THREADS = 4, ROUNDS = 12 };

typedef struct worker {
    cento_engine *engine;
    const cento_result *const *expected; /* (THREADS) */
    int number;
    bool agreed;
} worker;

static const char *const documents[THREADS] = {"The first note.", "The second, longer note.", "A third.",
                                               "And the fourth one."};

static cento_result *ask(cento_engine *engine, int number) {
    const cento_piece pieces[] = {SYSTEM("Be brief."), CONTEXT(documents[number]), CONTEXT(documents[0]),
                                  QUERY("Who?")};
    cento_request request = request_of(pieces, 4, 6);
    cento_result *result = NULL;
    cento_error failure;
    request.mode = number % 2 ? CENTO_MODE_INDEPENDENT : CENTO_MODE_EXACT;
    return cento_generate(engine, &request, &result, &failure) == CENTO_OK ? result : NULL;
}

static void *work(void *argument) {
    worker *self = argument;
    self->agreed = true;
    for (int round = 0; round < ROUNDS; round++) {
        int number = (self->number + round) % THREADS;
        cento_result *result = ask(self->engine, number);
        const cento_result *expected = self->expected[number];
        self->agreed = self->agreed && result != NULL && result->token_count == expected->token_count &&
                       memcmp(result->tokens, expected->tokens, 4 * expected->token_count) == 0;
        cento_result_free(result);
        cento_stats stats;
        cento_engine_stats(self->engine, &stats);
        self->agreed = self->agreed && stats.pages_free <= stats.pages_total;
    }
    return NULL;
}

static void requests_from_many_threads_take_turns(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    cento_result *expected[THREADS];
    pthread_t threads[THREADS];
    worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        cento_engine *alone = tiny_open(&model);
        expected[i] = ask(alone, i);
        assert_non_null(expected[i]);
        tiny_close(alone);
    }
    for (int i = 0; i < THREADS; i++) {
        workers[i] =
            (worker){.engine = engine, .expected = (const cento_result *const *)expected, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].agreed);
    }
    for (int i = 0; i < THREADS; i++)
        cento_result_free(expected[i]);
    assert_true(stats_of(engine).kv_hits > 0);
    tiny_close(engine);
}

static void *cancel_again_and_again(void *argument) {
    for (int i = 0; i < 2000; i++)
        cento_cancel(argument);
    return NULL;
}

static void cancelling_from_another_thread_ends_only_what_runs(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_again_and_again, engine), 0);
    const cento_piece pieces[] = {QUERY("Who?")};
    for (int i = 0; i < 20; i++) {
        cento_request request = request_of(pieces, 1, 50);
        cento_result *result = NULL;
        cento_status status = cento_generate(engine, &request, &result, &error);
        assert_true(status == CENTO_OK || status == CENTO_CANCELLED);
        assert_int_equal(result->finish, status == CENTO_OK ? CENTO_FINISH_LENGTH : CENTO_FINISH_CANCELLED);
        cento_result_free(result);
    }
    pthread_join(thread, NULL);
    tiny_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_from_many_threads_take_turns),
        cmocka_unit_test(cancelling_from_another_thread_ends_only_what_runs),
    };
    return cmocka_run_group_tests(tests, create_model, free_model);
}
