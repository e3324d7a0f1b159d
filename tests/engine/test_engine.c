/*
 * Promises of the engine: what is computed, what is reused (by the backend's own counter), what never gets
 * lost or mixed up. Tests of reuse assert the hit, so that they cannot pass by missing.
 */
#include "engine_fixture.h"

#include "base/file.h"
#include "base/mem.h"

TINY_MODEL_FIXTURE("model", 3)

#define SYSTEM_TEXT "Answer from the notes."
#define DOCUMENT_A  "Crystalton lies on the river Ossel. It was founded in 1823."
#define DOCUMENT_B  "The ship Aurelia was built in Port Veyra."

/* "<|im_start|>" and "<|im_end|>" are one token each, all else one a byte */
enum {
    SYSTEM_NODE = 1 + 7 + 22, /* <start>system\n + SYSTEM_TEXT */
    GLUE_USER = 2 + 1 + 5,    /* <end>\n<start>user\n */
    GLUE_ANSWER = 2 + 1 + 10, /* <end>\n<start>assistant\n */
    A_TOKENS = sizeof DOCUMENT_A - 1,
    B_TOKENS = sizeof DOCUMENT_B - 1,
    SEPARATOR = 2,
};

static cento_result *run(cento_engine *engine, const cento_piece *pieces, size_t count, cento_mode mode,
                         const char *salt) {
    cento_request request = request_of(pieces, count, 12);
    request.mode = mode;
    request.salt = salt;
    return run_request_of(engine, &request);
}

/* ------------------------------------------------------- exact ---- */

static void exact_gives_the_same_cold_warm_and_partly_warm(void **state) {
    (void)state;
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B),
                                  QUERY("Who?")};
    /* the same tokens as one piece, computed by an engine of its own: a plain prefill */
    cento_engine *plain = tiny_open(&model);
    int32_t tokens[512];
    size_t count = 0;
    const char *text = "<|im_start|>system\n" SYSTEM_TEXT "<|im_end|>\n<|im_start|>user\n" DOCUMENT_A
                       "\n\n" DOCUMENT_B "\n\nWho?<|im_end|>\n<|im_start|>assistant\n";
    for (; *text != '\0'; text++) {
        bool start = strncmp(text, "<|im_start|>", 12) == 0, end = strncmp(text, "<|im_end|>", 10) == 0;
        tokens[count++] = start ? TINY_IM_START : end ? TINY_IM_END : (unsigned char)*text;
        text += start ? 11 : end ? 9 : 0;
    }
    const cento_piece whole = {.kind = CENTO_KIND_QUERY, .tokens = tokens, .token_count = count};
    cento_request request = request_of(&whole, 1, 12);
    request.raw = true;
    cento_result *expected = run_request_of(plain, &request);
    assert_int_equal(expected->usage.cached_tokens, 0);

    cento_engine *engine = tiny_open(&model);
    cento_result *cold = run(engine, pieces, 4, CENTO_MODE_EXACT, NULL);
    assert_int_equal(cold->usage.prompt_tokens, count);
    assert_int_equal(cold->usage.cached_tokens, 0);
    assert_int_equal(cold->usage.computed_tokens, count + 11); /* the last token needs no pass */
    assert_same_answer(expected, cold);
    cento_result *warm = run(engine, pieces, 4, CENTO_MODE_EXACT, NULL);
    assert_int_equal(warm->usage.exact_tokens, count - 1); /* the last token for its logits */
    assert_int_equal(warm->usage.computed_tokens, 1 + 11);
    assert_same_answer(expected, warm);

    cento_engine *partly = tiny_open(&model);
    const cento_piece other[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), QUERY("What?")};
    cento_result_free(run(partly, other, 3, CENTO_MODE_EXACT, NULL));
    cento_result *partly_warm = run(partly, pieces, 4, CENTO_MODE_EXACT, NULL);
    assert_int_equal(partly_warm->usage.exact_tokens, SYSTEM_NODE + GLUE_USER + A_TOKENS + SEPARATOR);
    assert_same_answer(expected, partly_warm);
    cento_result_free(expected);
    cento_result_free(cold);
    cento_result_free(warm);
    cento_result_free(partly_warm);
    tiny_close(plain);
    tiny_close(engine);
    tiny_close(partly);
}

static void in_bf16_too_a_warm_answer_is_the_cold_one(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    cento_engine *engine;
    options.compute_dtype = CENTO_DTYPE_BF16;
    ASSERT_OK(cento_open(&options, &engine, &error));
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B),
                                  QUERY("Who?")};
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        cento_result *cold = run(engine, pieces, 4, (cento_mode)mode, NULL);
        cento_result *warm = run(engine, pieces, 4, (cento_mode)mode, NULL);
        assert_true(warm->usage.cached_tokens > A_TOKENS + B_TOKENS);
        assert_same_answer(cold, warm);
        cento_result_free(cold);
        cento_result_free(warm);
    }
    tiny_close(engine);
}

static void exact_with_documents_reordered_reuses_only_the_common_prefix(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B),
                                  QUERY("Who?")};
    const cento_piece turned[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_A),
                                  QUERY("Who?")};
    cento_result_free(run(engine, pieces, 4, CENTO_MODE_EXACT, NULL));
    cento_result *result = run(engine, turned, 4, CENTO_MODE_EXACT, NULL);
    assert_int_equal(result->usage.exact_tokens, SYSTEM_NODE + GLUE_USER);
    assert_int_equal(result->usage.approximate_tokens, 0);
    assert_int_equal(result->segments[1].source, CENTO_SOURCE_EXACT);    /* system */
    assert_int_equal(result->segments[3].source, CENTO_SOURCE_COMPUTED); /* first document */
    cento_result_free(result);
    tiny_close(engine);
}

static void when_all_is_cached_the_last_token_is_computed_and_counted(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {CONTEXT(DOCUMENT_A), QUERY("Who?")};
    cento_request request = request_of(pieces, 2, 6);
    request.raw = true;
    cento_result *cold = run_request_of(engine, &request);
    cento_result *warm = run_request_of(engine, &request);
    assert_int_equal(warm->usage.prompt_tokens, A_TOKENS + 4);
    assert_int_equal(warm->usage.exact_tokens, A_TOKENS + 3);
    assert_int_equal(warm->usage.computed_tokens, 1 + 5);
    assert_same_answer(cold, warm);
    cento_result_free(cold);
    cento_result_free(warm);
    tiny_close(engine);
}

static void the_next_turn_computes_only_new_tokens(void **state) {
    (void)state;
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        cento_engine *engine = tiny_open(&model);
        cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B),
                                QUERY("Who?"),       OUTPUT(""),          QUERY("And then?")};
        cento_request request = request_of(pieces, 4, 10);
        request.mode = (cento_mode)mode;
        request.link_tokens = 4;
        cento_result *first = run_request_of(engine, &request);
        pieces[4].text = NULL;
        pieces[4].tokens = first->tokens;
        pieces[4].token_count = first->token_count;
        request.piece_count = 6;
        cento_result *second = run_request_of(engine, &request);
        /* the answer's last token was sampled, not computed; glue, query, glue are new; 9 answer tokens */
        uint32_t fresh = 1 + GLUE_USER + 9 + GLUE_ANSWER;
        assert_int_equal(second->usage.computed_tokens, fresh + 9);
        assert_int_equal(second->usage.cached_tokens, second->usage.prompt_tokens - fresh);
        assert_int_equal(second->usage.cached_tokens, first->usage.prompt_tokens + 9);
        assert_int_equal(second->usage.recomputed_tokens, 0);

        cento_engine *other = tiny_open(&model); /* cold: the same answer */
        cento_result *cold = run_request_of(other, &request);
        assert_same_answer(cold, second);
        cento_result_free(cold);
        tiny_close(other);
        cento_result_free(first);
        cento_result_free(second);
        tiny_close(engine);
    }
}

/* ------------------------------------------------------- independent and link ---- */

static void a_chunk_already_computed_is_not_computed_again_in_any_order(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B),
                                  QUERY("Who?")};
    const cento_piece turned[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_A),
                                  QUERY("Who?")};
    cento_result *cold = run(engine, pieces, 4, CENTO_MODE_INDEPENDENT, NULL);
    assert_int_equal(cold->usage.cached_tokens, 0);
    assert_int_equal(cold->usage.computed_tokens, cold->usage.prompt_tokens + 11);
    assert_int_equal(cold->segments[3].source, CENTO_SOURCE_APPROXIMATE); /* just computed, but alone */
    cento_stats before, after;
    cento_engine_stats(engine, &before);
    cento_result *warm = run(engine, turned, 4, CENTO_MODE_INDEPENDENT, NULL);
    cento_engine_stats(engine, &after);
    assert_int_equal(after.chunk_hits - before.chunk_hits, 4); /* all pieces are known */
    assert_int_equal(after.chunk_misses - before.chunk_misses, 0);
    assert_true(after.kv_hits - before.kv_hits >= 3); /* what stands before the documents, and these */
    assert_int_equal(after.kv_misses - before.kv_misses, 1);
    assert_int_equal(warm->usage.exact_tokens, SYSTEM_NODE + GLUE_USER);
    assert_int_equal(warm->usage.approximate_tokens, A_TOKENS + B_TOKENS);
    assert_int_equal(warm->usage.computed_tokens, 2 * SEPARATOR + 4 + GLUE_ANSWER + 11);
    cento_result_free(cold);
    cento_result_free(warm);
    tiny_close(engine);
}

static void a_chunk_computed_ahead_is_used_at_once(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    cento_piece document = CONTEXT(DOCUMENT_A);
    document.label = "a.txt";
    cento_chunk_info info, again;
    ASSERT_OK(cento_chunk_add(engine, &document, true, &info, &error));
    assert_int_equal(stats_of(engine).forward_tokens, A_TOKENS);
    assert_int_equal(info.tokens, A_TOKENS);
    assert_int_equal(info.kv_states, 1);
    assert_true(info.kv_bytes >= A_TOKENS * 2 * TINY_LAYERS * TINY_KV_HEADS * TINY_HEAD_DIM * 4);
    ASSERT_OK(cento_chunk_add(engine, &document, true, &again, &error));
    assert_string_equal(again.content_id, info.content_id);
    assert_int_equal(stats_of(engine).forward_tokens, A_TOKENS);
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), document, QUERY("Who?")};
    cento_result *result = run(engine, pieces, 3, CENTO_MODE_INDEPENDENT, NULL);
    assert_int_equal(result->usage.approximate_tokens, A_TOKENS);
    assert_string_equal(result->segments[3].content_id, info.content_id);

    cento_chunk_info *infos;
    size_t count;
    ASSERT_OK(cento_chunk_list(engine, &infos, &count, &error));
    assert_int_equal(count, 3); /* system, document, query */
    bool listed = false;
    for (size_t i = 0; i < count; i++)
        listed |=
            strcmp(infos[i].label, "a.txt") == 0 && infos[i].kind == CENTO_KIND_CONTEXT && infos[i].uses == 1;
    assert_true(listed);
    cento_free(infos);
    ASSERT_OK(cento_chunk_remove(engine, info.content_id, &error));
    assert_whole(engine);
    ASSERT_FAILS(CENTO_NOT_FOUND, info.content_id, cento_chunk_remove(engine, info.content_id, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "64 hex digits", cento_chunk_remove(engine, "abc", &error));
    cento_result_free(result);
    uint64_t before = stats_of(engine).forward_tokens;
    result = run(engine, pieces, 3, CENTO_MODE_INDEPENDENT, NULL);
    assert_int_equal(stats_of(engine).forward_tokens - before, A_TOKENS + GLUE_ANSWER + 11); /* it is gone */
    /* what was computed after it is not: the separator and the query */
    assert_int_equal(result->usage.approximate_tokens, SEPARATOR + 4);
    cento_result_free(result);
    tiny_close(engine);
}

static void link_recomputes_the_heads_and_says_so(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B),
                                  QUERY("Who?")};
    const cento_piece turned[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_A),
                                  QUERY("Who?")};
    cento_request request = request_of(pieces, 4, 12);
    request.mode = CENTO_MODE_LINK;
    request.link_tokens = 5;
    cento_result *cold = run_request_of(engine, &request);
    assert_int_equal(cold->usage.recomputed_tokens, 10);
    assert_int_equal(cold->usage.computed_tokens, cold->usage.prompt_tokens + 10 + 11);
    request.pieces = turned;
    cento_result *warm = run_request_of(engine, &request);
    assert_int_equal(warm->usage.recomputed_tokens, 10);
    assert_int_equal(warm->usage.approximate_tokens, A_TOKENS + B_TOKENS - 10);
    assert_int_equal(warm->usage.computed_tokens, 10 + 2 * SEPARATOR + 4 + GLUE_ANSWER + 11);
    /* links of other lengths use the same chunks */
    request.link_tokens = 9;
    cento_result *longer = run_request_of(engine, &request);
    assert_int_equal(longer->usage.approximate_tokens, A_TOKENS + B_TOKENS - 18);
    cento_result_free(cold);
    cento_result_free(warm);
    cento_result_free(longer);
    tiny_close(engine);
}

static void a_document_given_twice_is_computed_once(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_A), QUERY("Who?")};
    cento_result *result = run(engine, pieces, 3, CENTO_MODE_INDEPENDENT, NULL);
    assert_int_equal(result->usage.approximate_tokens, A_TOKENS);
    assert_int_equal(result->usage.computed_tokens, result->usage.prompt_tokens - A_TOKENS + 11);
    cento_result_free(result);
    tiny_close(engine);
}

/* ------------------------------------------------------- separation ---- */

static void different_salts_share_nothing(void **state) {
    (void)state;
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), QUERY("Who?")};
    static const char *const salts[] = {NULL, "", "alice", "bob"};
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_INDEPENDENT; mode++) {
        cento_engine *engine = tiny_open(&model);
        for (size_t i = 0; i < 4; i++) {
            uint64_t hits = stats_of(engine).kv_hits;
            cento_result *cold = run(engine, pieces, 3, (cento_mode)mode, salts[i]);
            assert_int_equal(stats_of(engine).kv_hits, hits);
            assert_int_equal(cold->usage.cached_tokens, 0);
            cento_result *warm = run(engine, pieces, 3, (cento_mode)mode, salts[i]);
            assert_true(warm->usage.cached_tokens > 0);
            assert_same_answer(cold, warm);
            cento_result_free(cold);
            cento_result_free(warm);
        }
        tiny_close(engine);
    }
}

static void a_finished_sequence_never_frees_a_shared_page(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), QUERY("Who?")};
    cento_piece document = CONTEXT(DOCUMENT_A);
    cento_chunk_info info;
    ASSERT_OK(cento_chunk_add(engine, &document, true, &info, &error));
    const page_run *chunk_run = engine->pages->runs;
    uint32_t pages[16], page_count = chunk_run->page_count;
    memcpy(pages, chunk_run->pages, page_count * sizeof *pages);
    float kv[2 * TINY_KV_HEADS * TINY_HEAD_DIM], kv_after[2 * TINY_KV_HEADS * TINY_HEAD_DIM];
    engine->device->ops->kv_read(engine->device, engine->pool, 2, pages[0] * 16 + 5, kv);
    for (int i = 0; i < 5; i++) {
        cento_result_free(run(engine, pieces, 3, CENTO_MODE_INDEPENDENT, NULL));
        for (uint32_t page = 0; page < page_count; page++)
            assert_ptr_equal(engine->pages->owners[pages[page]], chunk_run);
        engine->device->ops->kv_read(engine->device, engine->pool, 2, pages[0] * 16 + 5, kv_after);
        assert_memory_equal(kv, kv_after, sizeof kv);
    }
    tiny_close(engine);
}

static void only_pages_of_the_composition_are_read(void **state) {
    (void)state;
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B),
                                  QUERY("Who?")};
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        cento_result *results[2];
        for (int poisoned = 0; poisoned < 2; poisoned++) {
            cento_engine *engine = tiny_open(&model);
            float poison[2 * TINY_KV_HEADS * TINY_HEAD_DIM];
            for (size_t i = 0; i < sizeof poison / sizeof *poison; i++)
                poison[i] = NAN;
            for (uint32_t slot = 0; poisoned && slot < engine->pages->page_count * 16; slot++) {
                for (uint32_t layer = 0; layer < TINY_LAYERS; layer++)
                    engine->device->ops->kv_write(engine->device, engine->pool, layer, slot, poison);
            }
            cento_result_free(run(engine, pieces, 4, (cento_mode)mode, NULL));
            results[poisoned] = run(engine, pieces, 4, (cento_mode)mode, NULL);
            tiny_close(engine);
        }
        assert_same_answer(results[0], results[1]);
        cento_result_free(results[0]);
        cento_result_free(results[1]);
    }
}

/* ------------------------------------------------------- a full pool ---- */

static void a_request_that_can_never_fit_is_refused_with_numbers_and_loses_nothing(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    cento_engine *engine;
    options.kv_pool_tokens = 10 * 16;
    ASSERT_OK(cento_open(&options, &engine, &error));
    const cento_piece small[] = {CONTEXT("a note"), QUERY("Who?")};
    cento_result_free(run(engine, small, 2, CENTO_MODE_EXACT, NULL));
    uint32_t used = engine->pages->counts[PAGE_CHUNK];
    const cento_piece large[] = {CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B), QUERY(DOCUMENT_A)};
    cento_request request = request_of(large, 3, 50);
    cento_result *result = NULL;
    ASSERT_FAILS(CENTO_POOL_FULL, "the pool has 10", cento_generate(engine, &request, &result, &error));
    assert_null(result);
    assert_whole(engine);
    assert_int_equal(engine->pages->counts[PAGE_CHUNK], used);
    assert_int_equal(stats_of(engine).chunk_evictions, 0);
    cento_result *warm = run(engine, small, 2, CENTO_MODE_EXACT, NULL);
    assert_true(warm->usage.cached_tokens > 0);
    cento_result_free(warm);
    /* with no limit asked for, the answer is as long as the pool allows */
    request = request_of(small, 2, 0);
    result = run_request_of(engine, &request);
    assert_int_equal(result->finish, CENTO_FINISH_LENGTH);
    assert_true(result->token_count > 60 && result->token_count < 160);
    cento_result_free(result);
    tiny_close(engine);
}

static void eviction_under_a_small_pool_gives_the_same_answers(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    cento_engine *small, *large = tiny_open(&model);
    options.kv_pool_tokens = 14 * 16;
    ASSERT_OK(cento_open(&options, &small, &error));
    for (int i = 0; i < 24; i++) {
        char document[64], query[32];
        snprintf(document, sizeof document, "Note %d says that %d times two is %d.", i % 5, i % 5, i % 5 * 2);
        snprintf(query, sizeof query, "What of %d?", i % 3);
        const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(document), QUERY(query)};
        cento_mode mode = i % 2 ? CENTO_MODE_EXACT : CENTO_MODE_INDEPENDENT;
        cento_result *expected = run(large, pieces, 3, mode, NULL);
        cento_result *result = run(small, pieces, 3, mode, NULL);
        assert_same_answer(expected, result);
        cento_result_free(expected);
        cento_result_free(result);
    }
    assert_true(stats_of(small).chunk_evictions > 10);
    assert_true(stats_of(small).kv_hits > 10); /* the system node outlives the rest */
    assert_int_equal(stats_of(large).chunk_evictions, 0);
    tiny_close(small);
    tiny_close(large);
}

/* ------------------------------------------------------- streams and ends ---- */

static void streamed_text_is_the_text(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {QUERY("Tell me.")};
    for (uint64_t seed = 0; seed < 10; seed++) {
        listener heard = {0};
        cento_request request = request_of(pieces, 1, 40);
        request.sampling.temperature = 1;
        request.sampling.seed_set = true;
        request.sampling.seed = seed;
        request.on_delta = listen;
        request.on_delta_user = &heard;
        cento_result *result = run_request_of(engine, &request);
        assert_int_equal(heard.text.bytes, result->text_bytes);
        assert_memory_equal(heard.text.data, result->text, result->text_bytes);
        assert_true(heard.calls >= 1);
        assert_int_equal(result->finish, CENTO_FINISH_LENGTH);
        strbuf_free(&heard.text);
        cento_result_free(result);
    }
    tiny_close(engine);
}

static void a_stop_string_ends_the_answer_wherever_tokens_cut_it(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {QUERY("Tell me.")};
    cento_request request = request_of(pieces, 1, 30);
    static const cento_logit_bias spell[] = {{'a', 1000}, {'b', 999}, {'c', 998}};
    request.sampling.logit_bias = spell; /* with a frequency penalty: a, b, c, then again */
    request.sampling.logit_bias_count = 3;
    request.sampling.frequency_penalty = 100;
    cento_result *whole = run_request_of(engine, &request);
    assert_memory_equal(whole->text, "abcabc", 6);
    static const char *const stop[] = {"cab"};
    listener heard = {0};
    request.stop = stop;
    request.stop_count = 1;
    request.on_delta = listen;
    request.on_delta_user = &heard;
    cento_result *result = run_request_of(engine, &request);
    assert_int_equal(result->finish, CENTO_FINISH_STOP);
    assert_string_equal(result->text, "ab");
    assert_int_equal(heard.text.bytes, 2);
    assert_int_equal(result->token_count, 4); /* a b c a, without the b that ended it */
    strbuf_free(&heard.text);
    cento_result_free(whole);
    cento_result_free(result);
    tiny_close(engine);
}

static void end_of_text_and_stop_tokens_end_the_answer(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {QUERY("Tell me.")};
    static const cento_logit_bias to_end = {TINY_END, 1000}, to_x = {'x', 1000};
    static const int32_t stop_token = 'x';
    cento_request request = request_of(pieces, 1, 5);
    request.sampling.logit_bias_count = 1;
    request.sampling.logit_bias = &to_end;
    request.ignore_eos = false;
    cento_result *result = run_request_of(engine, &request);
    assert_int_equal(result->finish, CENTO_FINISH_STOP);
    assert_int_equal(result->token_count, 0);
    assert_string_equal(result->text, "");
    cento_result_free(result);
    request.ignore_eos = true;
    result = run_request_of(engine, &request);
    assert_int_equal(result->finish, CENTO_FINISH_LENGTH);
    assert_int_equal(result->token_count, 5);
    cento_result_free(result);
    request.sampling.logit_bias = &to_x;
    request.stop_tokens = &stop_token;
    request.stop_token_count = 1;
    result = run_request_of(engine, &request);
    assert_int_equal(result->finish, CENTO_FINISH_STOP);
    assert_int_equal(result->token_count, 0);
    cento_result_free(result);
    tiny_close(engine);
}

static void a_cancelled_request_leaves_everything_whole(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), QUERY("Who?")};
    for (int by_call = 0; by_call < 2; by_call++) {
        listener heard = {.cancel_after = 3, .cancel_engine = by_call ? engine : NULL};
        cento_request request = request_of(pieces, 3, 200);
        request.on_ready = dawdle;
        request.on_delta = listen;
        request.on_delta_user = &heard;
        cento_result *result = NULL;
        ASSERT_FAILS(CENTO_CANCELLED, "cancelled after", cento_generate(engine, &request, &result, &error));
        assert_whole(engine);
        assert_int_equal(result->finish, CENTO_FINISH_CANCELLED);
        assert_true(result->token_count >= 3 && result->token_count < 200);
        assert_true(result->text_bytes >= heard.text.bytes);
        assert_memory_equal(result->text, heard.text.data, heard.text.bytes);
        strbuf_free(&heard.text);
        cento_result_free(result);
    }
    cento_cancel(engine); /* nothing runs: nothing happens */
    cento_result_free(run(engine, pieces, 3, CENTO_MODE_EXACT, NULL));
    tiny_close(engine);
}

typedef struct canceller {
    cento_engine *engine;
    bool armed; /* to cancel a prefill */
} canceller;

static void cancel_a_prefill(void *user, const cento_progress *progress) {
    canceller *self = user;
    if (strcmp(progress->stage, "prefill") == 0 && progress->done >= 24 && progress->done < progress->total &&
        self->armed) {
        self->armed = false;
        cento_cancel(self->engine);
    }
}

static void a_prefill_cancelled_midway_is_gone_on_with(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    canceller self = {0};
    char document[361];
    memset(document, 'd', 360);
    document[360] = '\0';
    options.max_batched_tokens = 1; /* time to cancel it */
    options.on_progress = cancel_a_prefill;
    options.on_progress_user = &self;
    ASSERT_OK(cento_open(&options, &self.engine, &error));
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_INDEPENDENT; mode++) {
        const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(document), QUERY("Who?")};
        cento_request request = request_of(pieces, 3, 12);
        request.mode = (cento_mode)mode;
        request.salt = mode == CENTO_MODE_EXACT ? "exact" : "independent"; /* cold */
        uint32_t computed = 0;
        for (int i = 0; i < 2; i++) {
            cento_result *result = NULL;
            self.armed = true;
            ASSERT_FAILS(CENTO_CANCELLED, "cancelled after",
                         cento_generate(self.engine, &request, &result, &error));
            assert_whole(self.engine);
            assert_int_equal(result->finish, CENTO_FINISH_CANCELLED);
            assert_int_equal(result->token_count, 0);
            assert_string_equal(result->text, "");
            computed += result->usage.computed_tokens;
            cento_result_free(result);
        }
        cento_result *result = run_request_of(self.engine, &request);
        assert_true(computed >= 24);
        assert_int_equal(computed + result->usage.computed_tokens, result->usage.prompt_tokens + 11);
        cento_engine *other = tiny_open(&model);
        cento_result *expected = run(other, pieces, 3, (cento_mode)mode, NULL);
        assert_same_answer(expected, result);
        cento_result_free(expected);
        cento_result_free(result);
        tiny_close(other);
    }
    tiny_close(self.engine);
}

/* ------------------------------------------------------- failures ---- */

static void any_failed_allocation_leaves_the_engine_usable(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B),
                                  QUERY("Who?")};
    cento_engine *other = tiny_open(&model);
    int failures = 0;
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        cento_request request = request_of(pieces, 4, 6);
        static const char *const stop[] = {"never there"};
        request.mode = (cento_mode)mode;
        request.link_tokens = 3;
        request.stop = stop;
        request.stop_count = 1;
        cento_result *expected = run_request_of(other, &request);
        for (int64_t countdown = 0;; countdown++) {
            cento_result *result = NULL;
            char salt[32]; /* cold each time */
            snprintf(salt, sizeof salt, "%d %d", mode, (int)countdown);
            request.salt = salt;
            mem_fail_after(countdown);
            cento_status status = cento_generate(engine, &request, &result, &error);
            void *probe = mem_alloc(1, 1);
            bool failed = probe == NULL; /* once one has failed, all fail */
            mem_free(probe);
            mem_fail_after(-1);
            assert_whole(engine);
            if (status == CENTO_OK) { /* an answer may be whole although it could not be kept */
                assert_same_answer(expected, result);
            } else {
                assert_int_equal(status, CENTO_OUT_OF_MEMORY);
                assert_null(result);
                failures++;
            }
            cento_result_free(result);
            if (!failed)
                break;
        }
        cento_result_free(expected);
    }
    assert_true(failures > 50);
    tiny_close(engine);
    tiny_close(other);
}

static void opening_fails_cleanly_at_any_allocation(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    for (int64_t countdown = 0;; countdown += 1 + countdown / 8) {
        cento_engine *engine = NULL;
        mem_fail_after(countdown);
        cento_status status = cento_open(&options, &engine, &error);
        mem_fail_after(-1);
        if (status == CENTO_OK) {
            tiny_close(engine);
            break;
        }
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        assert_null(engine);
    }
}

/* ------------------------------------------------------- bad input ---- */

static void refused(cento_engine *engine, const cento_request *request, cento_status status,
                    const char *part) {
    cento_result *result = NULL;
    ASSERT_FAILS(status, part, cento_generate(engine, request, &result, &error));
    assert_null(result);
    assert_whole(engine);
}

static void bad_pieces_are_refused_by_place(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    cento_piece pieces[] = {CONTEXT("a"), CONTEXT("b"), QUERY("c")};
    cento_request request = request_of(pieces, 3, 4);
    pieces[1] = CONTEXT("");
    pieces[1].label = "notes.txt";
    refused(engine, &request, CENTO_INVALID_ARGUMENT, "piece 1 (context 'notes.txt') is empty");
    pieces[1] = CONTEXT("ab\xFFz");
    refused(engine, &request, CENTO_INVALID_ARGUMENT,
            "piece 1 (context) is not valid UTF-8 at byte 2 (0xFF)");
    static const int32_t outside[] = {1, TINY_VOCAB};
    pieces[1] = (cento_piece){.kind = CENTO_KIND_CONTEXT, .tokens = outside, .token_count = 2};
    refused(engine, &request, CENTO_INVALID_ARGUMENT, "token id 259 at index 1");
    pieces[1].token_count = 0;
    refused(engine, &request, CENTO_INVALID_ARGUMENT, "is empty");
    pieces[1].text = "x";
    refused(engine, &request, CENTO_INVALID_ARGUMENT, "both text and tokens");
    pieces[1] = piece_of((cento_kind)17, "x");
    refused(engine, &request, CENTO_INVALID_ARGUMENT, "no valid kind");
    request.piece_count = 0;
    refused(engine, &request, CENTO_INVALID_ARGUMENT, "at least one piece");
    refused(engine, &(cento_request){.sampling.top_p = 1, .sampling.repetition_penalty = 1},
            CENTO_INVALID_ARGUMENT, "at least one piece");
    tiny_close(engine);
}

static void bad_settings_are_refused_by_name(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece pieces[] = {QUERY("c")};
    static const char *const empty[] = {""}, *const invalid[] = {"\xFF"};
#define REFUSED(part, ...)                                                                                   \
    do {                                                                                                     \
        cento_request request = request_of(pieces, 1, 4);                                                    \
        __VA_ARGS__;                                                                                         \
        refused(engine, &request, CENTO_INVALID_ARGUMENT, part);                                             \
    } while (0)
    REFUSED("mode is 7", request.mode = (cento_mode)7);
    REFUSED("temperature is nan", request.sampling.temperature = NAN);
    REFUSED("top_p is 0", request.sampling.top_p = 0);
    REFUSED("logprobs is 21", request.logprobs = 21);
    REFUSED("stop string 0 is empty", request.stop = empty; request.stop_count = 1);
    REFUSED("stop string 0 is not valid UTF-8", request.stop = invalid; request.stop_count = 1);
    REFUSED("stop is NULL", request.stop_count = 1);
    REFUSED("the salt is not valid UTF-8", request.salt = "\xFF");
    REFUSED("stop_tokens is NULL", request.stop_token_count = 1);
    tiny_close(engine);
}

static void a_prompt_longer_than_the_context_is_refused_with_numbers(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    cento_engine *engine;
    options.context_tokens_max = 64;
    ASSERT_OK(cento_open(&options, &engine, &error));
    char text[65];
    memset(text, 'a', 64);
    text[64] = '\0';
    const cento_piece pieces[] = {QUERY(text)};
    cento_request request = request_of(pieces, 1, 4);
    request.raw = true;
    refused(engine, &request, CENTO_CONTEXT_FULL, "has 64 tokens, the context holds 64");
    text[62] = '\0';
    const cento_piece shorter[] = {QUERY(text)};
    request = request_of(shorter, 1, 4);
    request.raw = true;
    cento_result *result = run_request_of(engine, &request);
    assert_int_equal(result->token_count, 2); /* the context's end */
    assert_int_equal(result->finish, CENTO_FINISH_LENGTH);
    cento_result_free(result);
    tiny_close(engine);
}

static void bad_options_are_refused_by_name(void **state) {
    (void)state;
    cento_engine *engine = NULL;
#define NOT_OPENED(status, part, ...)                                                                        \
    do {                                                                                                     \
        cento_options options = tiny_options(&model);                                                        \
        __VA_ARGS__;                                                                                         \
        ASSERT_FAILS(status, part, cento_open(&options, &engine, &error));                                   \
        assert_null(engine);                                                                                 \
    } while (0)
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "model_path", options.model_path = NULL);
    NOT_OPENED(CENTO_NOT_FOUND, "/nowhere", options.model_path = "/nowhere");
    NOT_OPENED(CENTO_UNSUPPORTED, "tpu", options.device = "tpu");
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "page_tokens is 17", options.page_tokens = 17);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "context_tokens_max is 513", options.context_tokens_max = 513);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "kv_pool_tokens", options.kv_pool_tokens = UINT64_MAX);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "max_batched_tokens", options.max_batched_tokens = 1 << 30);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "compute_dtype", options.compute_dtype = (cento_dtype)9);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "kv_dtype is 9", options.kv_dtype = (cento_kv_dtype)9);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "kv_pool_tokens is 16, expected at least two pages",
               options.kv_pool_tokens = 16);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "max_sequences is 4097, expected at most 4096",
               options.max_sequences = 4097);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "max_waiting is 4294967295", options.max_waiting = UINT32_MAX);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "max_cascade_levels is 4", options.max_cascade_levels = 4);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "chunk_page_ratio is 1", options.chunk_page_ratio = 1);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "chunk_page_ratio is -0.5", options.chunk_page_ratio = -0.5);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "chunk_page_ratio is nan", options.chunk_page_ratio = NAN);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "chunk_registry_size is 4294967295",
               options.chunk_registry_size = UINT32_MAX);
    NOT_OPENED(CENTO_INVALID_ARGUMENT, "threads is 5000", options.threads = 5000);
}

static void a_model_with_changing_frequencies_allows_only_exact(void **state) {
    (void)state;
    tiny_model dynamic;
    tiny_create(&dynamic, "dynamic", 0, 4);
    char path[512];
    snprintf(path, sizeof path, "%s/config.json", dynamic.folder);
    strbuf config = {0};
    ASSERT_OK(file_read(path, 1 << 20, &config, &error));
    config.data[--config.bytes] = '\0'; /* the closing brace */
    strbuf_puts(&config, ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}}");
    tiny_write_file(&dynamic, "config.json", config.data, config.bytes);
    strbuf_free(&config);
    cento_engine *engine = tiny_open(&dynamic);
    const cento_piece pieces[] = {CONTEXT(DOCUMENT_A), QUERY("Who?")};
    cento_request request = request_of(pieces, 2, 4);
    cento_result_free(run_request_of(engine, &request));
    request.mode = CENTO_MODE_INDEPENDENT;
    refused(engine, &request, CENTO_UNSUPPORTED, "dynamic NTK");
    request.mode = CENTO_MODE_LINK;
    refused(engine, &request, CENTO_UNSUPPORTED, "dynamic NTK");
    ASSERT_FAILS(CENTO_UNSUPPORTED, "dynamic NTK", cento_chunk_add(engine, pieces, true, NULL, &error));
    ASSERT_OK(cento_chunk_add(engine, pieces, false, NULL, &error));
    tiny_close(engine);
    tiny_free(&dynamic);
}

static void modes_are_parsed_as_they_are_written(void **state) {
    (void)state;
    cento_mode mode;
    uint32_t link_tokens;
    ASSERT_OK(cento_mode_parse("exact", &mode, &link_tokens, &error));
    assert_int_equal(mode, CENTO_MODE_EXACT);
    ASSERT_OK(cento_mode_parse("independent", &mode, &link_tokens, &error));
    assert_int_equal(mode, CENTO_MODE_INDEPENDENT);
    ASSERT_OK(cento_mode_parse("link:16", &mode, &link_tokens, &error));
    assert_int_equal(mode, CENTO_MODE_LINK);
    assert_int_equal(link_tokens, 16);
    static const char *const wrong[] = {
        "",  "Exact", "link", "link:", "link:-1", "link:1x", "link: 1", "link:99999999999", "independent ",
        NULL};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "expected \"exact\"",
                     cento_mode_parse(wrong[i], &mode, &link_tokens, &error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_gives_the_same_cold_warm_and_partly_warm),
        cmocka_unit_test(in_bf16_too_a_warm_answer_is_the_cold_one),
        cmocka_unit_test(exact_with_documents_reordered_reuses_only_the_common_prefix),
        cmocka_unit_test(when_all_is_cached_the_last_token_is_computed_and_counted),
        cmocka_unit_test(the_next_turn_computes_only_new_tokens),
        cmocka_unit_test(a_chunk_already_computed_is_not_computed_again_in_any_order),
        cmocka_unit_test(a_chunk_computed_ahead_is_used_at_once),
        cmocka_unit_test(link_recomputes_the_heads_and_says_so),
        cmocka_unit_test(a_document_given_twice_is_computed_once),
        cmocka_unit_test(different_salts_share_nothing),
        cmocka_unit_test(a_finished_sequence_never_frees_a_shared_page),
        cmocka_unit_test(only_pages_of_the_composition_are_read),
        cmocka_unit_test(a_request_that_can_never_fit_is_refused_with_numbers_and_loses_nothing),
        cmocka_unit_test(eviction_under_a_small_pool_gives_the_same_answers),
        cmocka_unit_test(streamed_text_is_the_text),
        cmocka_unit_test(a_stop_string_ends_the_answer_wherever_tokens_cut_it),
        cmocka_unit_test(end_of_text_and_stop_tokens_end_the_answer),
        cmocka_unit_test(a_cancelled_request_leaves_everything_whole),
        cmocka_unit_test(a_prefill_cancelled_midway_is_gone_on_with),
        cmocka_unit_test(any_failed_allocation_leaves_the_engine_usable),
        cmocka_unit_test(opening_fails_cleanly_at_any_allocation),
        cmocka_unit_test(bad_pieces_are_refused_by_place),
        cmocka_unit_test(bad_settings_are_refused_by_name),
        cmocka_unit_test(a_prompt_longer_than_the_context_is_refused_with_numbers),
        cmocka_unit_test(bad_options_are_refused_by_name),
        cmocka_unit_test(a_model_with_changing_frequencies_allows_only_exact),
        cmocka_unit_test(modes_are_parsed_as_they_are_written),
    };
    return cmocka_run_group_tests(tests, create_model, free_model);
}
