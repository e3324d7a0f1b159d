/* What the engine's tests share: an engine on a tiny model, pieces from strings, one call to run a request.
 */
#ifndef CENTO_TESTS_ENGINE_FIXTURE_H
#define CENTO_TESTS_ENGINE_FIXTURE_H

#include "cascade/chunk_registry_internal.h"
#include "engine/engine.h"
#include "tiny_model.h"

#include <time.h>

static cento_error error;

static inline cento_options tiny_options(const tiny_model *model) {
    cento_options options = cento_options_default();
    test_device_needed();
    options.device = test_device();
    options.model_path = model->folder;
    options.compute_dtype = CENTO_DTYPE_F32;
    options.page_tokens = 16;
    options.threads = 1;
    return options;
}

static inline cento_engine *tiny_open(const tiny_model *model) {
    cento_engine *engine;
    cento_options options = tiny_options(model);
    ASSERT_OK(cento_open(&options, &engine, &error));
    return engine;
}

static inline cento_stats stats_of(cento_engine *engine) {
    cento_stats stats;
    cento_engine_stats(engine, &stats);
    return stats;
}

/* Between requests: everything is the registry's, and nobody uses it. */
static inline void assert_whole(cento_engine *engine) {
    cento_stats stats = stats_of(engine);
    ASSERT_OK(chunk_registry_check(engine->registry, &error));
    assert_int_equal(engine->registry->detached_count, 0);
    for (const context_chunk *chunk = engine->registry->all_chunks; chunk != NULL; chunk = chunk->next)
        assert_int_equal(chunk->refs, 0);
    assert_int_equal(stats.pages_sequence, 0);
    assert_int_equal(stats.pages_chunk_used, 0);
    assert_int_equal(stats.requests_waiting + stats.requests_running, 0);
    assert_int_equal(stats.pages_free + stats.pages_chunk_unused, stats.pages_total);
}

static inline void tiny_close(cento_engine *engine) {
    assert_whole(engine);
    cento_close(engine);
}

static inline cento_piece piece_of(cento_kind kind, const char *text) {
    return (cento_piece){.kind = kind, .text = text, .text_bytes = strlen(text)};
}
#define SYSTEM(text)  piece_of(CENTO_KIND_SYSTEM, text)
#define CONTEXT(text) piece_of(CENTO_KIND_CONTEXT, text)
#define QUERY(text)   piece_of(CENTO_KIND_QUERY, text)
#define OUTPUT(text)  piece_of(CENTO_KIND_OUTPUT, text)
#define TOOL(text)    piece_of(CENTO_KIND_TOOL, text)

/* Greedy, so many tokens whatever comes, the 20 likeliest reported. */
static inline cento_request request_of(const cento_piece *pieces, size_t piece_count, uint32_t tokens) {
    cento_request request = cento_request_default();
    request.pieces = pieces;
    request.piece_count = piece_count;
    request.completion_tokens_max = tokens;
    request.ignore_eos = true;
    request.logprobs = 20;
    return request;
}

/* Runs a request, checks the sums that cento.h promises and that nothing is left held. */
static inline cento_result *run_request_of(cento_engine *engine, const cento_request *request) {
    cento_result *result;
    uint64_t before = stats_of(engine).forward_tokens;
    ASSERT_OK(cento_generate(engine, request, &result, &error));
    assert_whole(engine);
    const cento_usage *usage = &result->usage;
    assert_int_equal(usage->cached_tokens, usage->exact_tokens + usage->approximate_tokens);
    assert_int_equal(usage->computed_tokens, stats_of(engine).forward_tokens - before);
    assert_int_equal(usage->completion_tokens, result->token_count);
    uint32_t tokens = 0;
    for (size_t i = 0; i < result->segment_count; i++) {
        assert_int_equal(result->segments[i].offset, tokens);
        tokens += result->segments[i].tokens;
    }
    assert_int_equal(tokens, usage->prompt_tokens);
    return result;
}

/* The same tokens; log probabilities as near as sums of other orders are, so that likely tokens with almost
 * the same one may stand in either order. */
static inline void assert_same_answer(const cento_result *a, const cento_result *b) {
    assert_int_equal(a->token_count, b->token_count);
    assert_memory_equal(a->tokens, b->tokens, a->token_count * sizeof *a->tokens);
    assert_int_equal(a->logprobs_per_token, b->logprobs_per_token);
    for (size_t i = 0; i < a->token_count * a->logprobs_per_token; i++) {
        if (i % a->logprobs_per_token == 0)
            assert_int_equal(a->logprobs[i].token, b->logprobs[i].token);
        if (fabsf(a->logprobs[i].logprob - b->logprobs[i].logprob) > 1e-5f)
            fail_msg("log probability %zu: %.9g of %d and %.9g of %d", i, (double)a->logprobs[i].logprob,
                     a->logprobs[i].token, (double)b->logprobs[i].logprob, b->logprobs[i].token);
    }
}

/* Of the first row of the last step, wherever they lie; nothing is under way. */
static inline void first_logits(cento_engine *engine, float *logits) {
    if (engine->logits != NULL)
        memcpy(logits, engine->logits, TINY_VOCAB * sizeof *logits);
    else
        ASSERT_OK(engine->device->ops->read(engine->device, decoder_logits(engine->model), TINY_VOCAB, logits,
                                            &error));
}

typedef struct listener {
    strbuf text;
    uint32_t calls;
    uint32_t cancel_after; /* 0: never */
    cento_engine *cancel_engine;
} listener;

static inline bool listen(void *user, const cento_delta *delta) {
    listener *heard = user;
    assert_int_equal(strlen(delta->text), delta->text_bytes);
    strbuf_append(&heard->text, delta->text, delta->text_bytes);
    heard->calls++;
    if (heard->cancel_engine != NULL && heard->calls == heard->cancel_after) {
        cento_cancel(heard->cancel_engine);
        return true;
    }
    return heard->cancel_after == 0 || heard->calls < heard->cancel_after;
}

static inline void little_sleep(long ns) {
    const struct timespec little = {.tv_nsec = ns};
    nanosleep(&little, NULL);
}

static inline void wait_until_running(cento_engine *engine) {
    while (stats_of(engine).requests_running == 0)
        little_sleep(100000);
}

/* Holds the engine's thread up whenever it has something to tell, so that a test is in time. */
static inline void dawdle(void *user) {
    (void)user;
    little_sleep(1000000);
}

/* Everything that was asked of the engine is over, soon, and nothing is held. */
static inline void assert_quiet(cento_engine *engine) {
    for (int i = 0; i < 5000; i++) {
        cento_stats stats = stats_of(engine);
        if (stats.requests_waiting + stats.requests_running + stats.pages_chunk_used + stats.pages_sequence ==
            0)
            break;
        little_sleep(1000000);
    }
    assert_whole(engine);
}

#endif
