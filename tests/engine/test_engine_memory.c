/*
 * Memory: a decode step allocates nothing, counted by a malloc of our own; an allocation that fails, wherever
 * it is, loses at most the request at hand. It uses threads.
 */
#include "engine_fixture.h"

#include <errno.h>

#include "base/mem.h"

TINY_MODEL_FIXTURE("memory", 15)

/* ------------------------------------------------------- a counting malloc ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS false /* the sanitizer has a malloc of its own */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS_ALLOCATIONS false
#endif
#endif
#ifndef COUNTS_ALLOCATIONS
#define COUNTS_ALLOCATIONS true
#endif

static atomic_bool counting;
static atomic_uint allocations; /* of all threads but the test's */
static _Thread_local bool is_test;

static inline void count_allocation(void) {
    if (atomic_load_explicit(&counting, memory_order_relaxed) && !is_test)
        atomic_fetch_add(&allocations, 1);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes) {
    count_allocation();
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t size) {
    count_allocation();
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t bytes) {
    count_allocation();
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    count_allocation();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes) {
    count_allocation();
    *memory = __libc_memalign(alignment, bytes);
    return *memory == NULL ? ENOMEM : 0;
}
#endif

enum { SEQUENCES = 8, STEPS = 100, ANSWER_TOKENS = 250 };

static uint64_t steps_of(cento_engine *engine) {
    return stats_of(engine).steps;
}

static void decode_steps_allocate_nothing(void **state) {
    (void)state;
    if (!COUNTS_ALLOCATIONS)
        skip();
    is_test = true;
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        cento_options options = tiny_options(&model);
        options.deterministic = deterministic;
        options.threads = 2;
        cento_engine *engine;
        ASSERT_OK(cento_open(&options, &engine, &error));
        static const char *const stop[] = {"never to be said", "nor this"};
        cento_generation *generations[SEQUENCES];
        for (int i = 0; i < SEQUENCES; i++) {
            const cento_piece pieces[] = {
                SYSTEM("Answer from the notes."),
                CONTEXT(i % 2 ? "A note on the river Ossel." : "Of ships, and sails."),
                QUERY(i % 3 ? "Who?" : "When was that?")};
            cento_request request = request_of(pieces, 3, ANSWER_TOKENS);
            request.mode = (cento_mode)(i % 3);
            request.link_tokens = 4;
            request.logprobs = i % 4 == 0 ? 3 : 0;
            request.stop = stop;
            request.stop_count = 2;
            request.sampling.temperature = i % 2 ? 0.7f : 0;
            request.sampling.repetition_penalty = i % 4 == 1 ? 1.2f : 1;
            request.sampling.top_p = i % 4 == 3 ? 0.9f : 1;
            ASSERT_OK(cento_submit(engine, &request, &generations[i], &error));
        }
        while (stats_of(engine).requests_running < SEQUENCES)
            ;
        while (steps_of(engine) < 30) /* all prefills, and some tokens of each */
            ;
        uint64_t begin = steps_of(engine), tokens_begin = stats_of(engine).forward_tokens;
        atomic_store(&allocations, 0);
        atomic_store(&counting, true);
        while (steps_of(engine) < begin + STEPS && stats_of(engine).requests_running == SEQUENCES)
            ;
        atomic_store(&counting, false);
        uint64_t tokens = stats_of(engine).forward_tokens - tokens_begin;
        assert_int_equal(stats_of(engine).requests_running, SEQUENCES); /* none has ended meanwhile */
        assert_true(tokens >= STEPS * SEQUENCES);
        assert_int_equal(atomic_load(&allocations), 0);
        for (int i = 0; i < SEQUENCES; i++) {
            cento_result *result;
            ASSERT_OK(cento_generation_result(generations[i], &result, &error));
            cento_generation_free(generations[i]);
            cento_result_free(result);
        }
        tiny_close(engine);
    }
}

/* ------------------------------------------------------- allocations that fail ---- */

static const cento_piece *note_pieces(void) {
    static cento_piece pieces[3];
    pieces[0] = SYSTEM("Answer from the notes.");
    pieces[1] = CONTEXT("A note on the river Ossel, which is long.");
    pieces[2] = QUERY("Who?");
    return pieces;
}

static cento_request note_request(cento_mode mode) {
    cento_request request = request_of(note_pieces(), 3, 6);
    request.mode = mode;
    request.link_tokens = 3;
    request.logprobs = 0;
    request.retain = CENTO_RETAIN_ANSWER;
    request.sampling.presence_penalty = 0.01f;
    return request;
}

/* One allocation fails, any one: of two requests at once, at most one is lost, and that with OUT_OF_MEMORY.
 * What is left is right, and so is the engine. */
static void one_failed_allocation_loses_at_most_one_of_two_requests(void **state) {
    (void)state;
    int lost_sum = 0;
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        cento_engine *engine = tiny_open(&model), *other = tiny_open(&model);
        cento_request request = note_request((cento_mode)mode);
        cento_result *expected;
        ASSERT_OK(cento_generate(other, &request, &expected, &error));
        for (int countdown = 0, reached = true; reached; countdown++) {
            cento_generation *generations[2] = {NULL, NULL};
            char salts[2][32]; /* cold each time */
            int lost = 0;
            mem_fail_once_after(countdown);
            for (int i = 0; i < 2; i++) {
                snprintf(salts[i], sizeof salts[i], "%d %d", countdown, countdown % 3 ? 0 : i);
                request.salt = salts[i];
                cento_status status = cento_submit(engine, &request, &generations[i], &error);
                assert_true(status == CENTO_OK || status == CENTO_OUT_OF_MEMORY);
                lost += status != CENTO_OK;
            }
            for (int i = 0; i < 2; i++) {
                if (generations[i] == NULL)
                    continue;
                cento_result *result = NULL;
                cento_status status = cento_generation_result(generations[i], &result, &error);
                cento_generation_free(generations[i]);
                if (status == CENTO_OK) {
                    assert_same_answer(expected, result);
                } else {
                    assert_int_equal(status, CENTO_OUT_OF_MEMORY);
                    assert_null(result);
                    lost++;
                }
                cento_result_free(result);
            }
            reached = !mem_fail_is_pending();
            mem_fail_once_after(-1);
            assert_true(lost <= 1);
            lost_sum += lost;
            assert_quiet(engine);
        }
        cento_result_free(expected);
        tiny_close(engine);
        tiny_close(other);
    }
    assert_true(lost_sum > 100);
}

static void chunks_and_previews_survive_any_failed_allocation(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    cento_request requests[2] = {note_request(CENTO_MODE_EXACT), note_request(CENTO_MODE_INDEPENDENT)};
    int failures = 0;
    for (int countdown = 0, reached = true; reached; countdown++) {
        char text[64];
        snprintf(text, sizeof text, "A note that is number %d.", countdown);
        cento_piece piece = CONTEXT(text);
        cento_chunk_info info, *infos = NULL;
        cento_preview *preview = NULL, *composed = NULL;
        size_t count;
        mem_fail_once_after(countdown);
        cento_status statuses[] = {
            cento_chunk_add(engine, &piece, true, &info, &error),
            cento_compose_preview(engine, &requests[0], &preview, &error),
            cento_compose_preview(engine, &requests[1], &composed, &error),
            cento_chunk_list(engine, &infos, &count, &error),
        };
        reached = !mem_fail_is_pending();
        mem_fail_once_after(-1);
        for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
            assert_true(statuses[i] == CENTO_OK || statuses[i] == CENTO_OUT_OF_MEMORY);
            failures += statuses[i] != CENTO_OK;
        }
        cento_preview_free(preview);
        cento_preview_free(composed);
        cento_free(infos);
        assert_quiet(engine);
    }
    assert_true(failures > 20);
    tiny_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_steps_allocate_nothing),
        cmocka_unit_test(one_failed_allocation_loses_at_most_one_of_two_requests),
        cmocka_unit_test(chunks_and_previews_survive_any_failed_allocation),
    };
    return cmocka_run_group_tests(tests, create_model, free_model);
}
