/*
 * Registered chunks and previews through the public API: pieces named by content id, pins, expiry, removal
 * while in use, limits; a preview is what then happens, and changes nothing.
 */
#include "engine_fixture.h"

TINY_MODEL_FIXTURE("chunks", 13)

#define SYSTEM_TEXT "Answer from the notes."
#define DOCUMENT_A  "Crystalton lies on the river Ossel. It was founded in 1823."
#define DOCUMENT_B  "The ship Aurelia was built in Port Veyra."
#define UNKNOWN_ID  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static cento_chunk_info add(cento_engine *engine, cento_piece piece, bool compute) {
    cento_chunk_info info;
    ASSERT_OK(cento_chunk_add(engine, &piece, compute, &info, &error));
    return info;
}

static cento_chunk_info get(cento_engine *engine, const char *content_id) {
    cento_chunk_info info;
    ASSERT_OK(cento_chunk_get(engine, content_id, &info, &error));
    return info;
}

static cento_piece named(cento_kind kind, const char *content_id) {
    return (cento_piece){.kind = kind, .content_id = content_id};
}

/* ------------------------------------------------------- pieces by content id ---- */

static void a_piece_named_by_its_id_is_the_piece(void **state) {
    (void)state;
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        cento_engine *engine = tiny_open(&model), *other = tiny_open(&model);
        cento_chunk_info system = add(engine, SYSTEM(SYSTEM_TEXT), false),
                         document = add(engine, CONTEXT(DOCUMENT_A), mode == CENTO_MODE_LINK);
        const cento_piece by_id[] = {named(CENTO_KIND_SYSTEM, system.content_id),
                                     named(CENTO_KIND_CONTEXT, document.content_id), QUERY("Who?")};
        const cento_piece by_text[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), QUERY("Who?")};
        cento_request request = request_of(by_text, 3, 8);
        request.mode = (cento_mode)mode;
        request.link_tokens = 3;
        cento_result *expected = run_request_of(other, &request);
        request.pieces = by_id;
        cento_result *result = run_request_of(engine, &request);
        assert_same_answer(expected, result);
        assert_int_equal(result->segment_count, expected->segment_count);
        for (size_t i = 0; i < result->segment_count; i++)
            assert_string_equal(result->segments[i].content_id, expected->segments[i].content_id);
        cento_chunk_info after = get(engine, document.content_id);
        assert_int_equal(after.uses, 1);
        assert_int_equal(after.users, 0);
        assert_true(after.kv_states > 0 && after.kv_bytes > 0);
        cento_result_free(expected);
        cento_result_free(result);
        tiny_close(engine);
        tiny_close(other);
    }
}

static void refuse(cento_engine *engine, cento_piece piece, cento_status status, const char *part) {
    const cento_piece pieces[] = {piece, QUERY("Who?")};
    cento_request request = request_of(pieces, 2, 4);
    cento_result *result = NULL;
    cento_generation *generation = NULL;
    cento_preview *preview = NULL;
    ASSERT_FAILS(status, part, cento_generate(engine, &request, &result, &error));
    ASSERT_FAILS(status, part, cento_submit(engine, &request, &generation, &error));
    ASSERT_FAILS(status, part, cento_compose_preview(engine, &request, &preview, &error));
    assert_true(result == NULL && generation == NULL && preview == NULL);
    assert_whole(engine);
}

static void ids_of_no_chunk_are_refused_by_place(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    cento_chunk_info document = add(engine, CONTEXT(DOCUMENT_A), true);
    refuse(engine, named(CENTO_KIND_CONTEXT, UNKNOWN_ID), CENTO_NOT_FOUND,
           "piece 0 (context): there is no chunk " UNKNOWN_ID);
    refuse(engine, named(CENTO_KIND_CONTEXT, "abc"), CENTO_INVALID_ARGUMENT,
           "piece 0 (context): 'abc' is no content id");
    cento_piece both = named(CENTO_KIND_CONTEXT, document.content_id);
    both.text = "x";
    both.text_bytes = 1;
    refuse(engine, both, CENTO_INVALID_ARGUMENT, "has both a content_id and text");
    ASSERT_OK(cento_chunk_remove(engine, document.content_id, &error));
    refuse(engine, named(CENTO_KIND_CONTEXT, document.content_id), CENTO_NOT_FOUND, document.content_id);

    cento_chunk_info info;
    ASSERT_FAILS(CENTO_NOT_FOUND, UNKNOWN_ID, cento_chunk_get(engine, UNKNOWN_ID, &info, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, UNKNOWN_ID, cento_chunk_pin(engine, UNKNOWN_ID, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, UNKNOWN_ID, cento_chunk_unpin(engine, UNKNOWN_ID, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, UNKNOWN_ID, cento_chunk_set_ttl(engine, UNKNOWN_ID, 1, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, UNKNOWN_ID, cento_chunk_remove(engine, UNKNOWN_ID, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "64 hex digits", cento_chunk_get(engine, "", &info, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "64 hex digits", cento_chunk_pin(engine, NULL, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "64 hex digits", cento_chunk_unpin(engine, "zz", &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "64 hex digits", cento_chunk_set_ttl(engine, "zz", 1, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "info is NULL", cento_chunk_get(engine, UNKNOWN_ID, NULL, &error));
    cento_piece by_id = named(CENTO_KIND_CONTEXT, UNKNOWN_ID);
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "not by a content_id",
                 cento_chunk_add(engine, &by_id, false, &info, &error));
    tiny_close(engine);
}

/* ------------------------------------------------------- how long chunks stay ---- */

static void a_pinned_chunk_outlives_what_evicts_and_clears(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.kv_pool_tokens = 24 * 16;
    options.chunk_registry_size = 8;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_chunk_info document = add(engine, CONTEXT(DOCUMENT_A), true);
    ASSERT_OK(cento_chunk_pin(engine, document.content_id, &error));
    ASSERT_OK(cento_chunk_pin(engine, document.content_id, &error));
    ASSERT_OK(cento_chunk_unpin(engine, document.content_id, &error));
    assert_int_equal(get(engine, document.content_id).pins, 1);
    assert_int_equal(stats_of(engine).chunks_pinned, 1);
    for (int i = 0; i < 20; i++) {
        char text[64];
        snprintf(text, sizeof text, "Note %d is of no importance to anybody at all.", i);
        const cento_piece pieces[] = {CONTEXT(text), QUERY("Who?")};
        cento_request request = request_of(pieces, 2, 20);
        request.mode = CENTO_MODE_INDEPENDENT;
        cento_result_free(run_request_of(engine, &request));
    }
    assert_true(stats_of(engine).chunk_evictions > 20);
    assert_true(cento_chunk_clear(engine) > 0);
    assert_int_equal(stats_of(engine).chunks, 1);
    assert_int_equal(get(engine, document.content_id).kv_states, 1);
    uint64_t before = stats_of(engine).forward_tokens;
    (void)add(engine, CONTEXT(DOCUMENT_A), true); /* it is still there: nothing is computed */
    assert_int_equal(stats_of(engine).forward_tokens, before);
    ASSERT_OK(cento_chunk_unpin(engine, document.content_id, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "not pinned",
                 cento_chunk_unpin(engine, document.content_id, &error));
    assert_int_equal(cento_chunk_clear(engine), 1);
    assert_int_equal(stats_of(engine).pages_free, stats_of(engine).pages_total);
    tiny_close(engine);
}

static void a_chunk_expires_unless_it_is_pinned(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    cento_chunk_info a = add(engine, CONTEXT(DOCUMENT_A), true), b = add(engine, CONTEXT(DOCUMENT_B), true);
    assert_true(a.ttl_s < 0);
    ASSERT_OK(cento_chunk_set_ttl(engine, a.content_id, 1000, &error));
    a = get(engine, a.content_id);
    assert_true(a.ttl_s > 990 && a.ttl_s <= 1000 && a.age_s >= 0 && a.idle_s >= 0 && a.age_s < 100);
    ASSERT_OK(cento_chunk_set_ttl(engine, a.content_id, 0.02, &error));
    ASSERT_OK(cento_chunk_set_ttl(engine, b.content_id, 0.02, &error));
    ASSERT_OK(cento_chunk_pin(engine, b.content_id, &error));
    little_sleep(40000000);
    ASSERT_FAILS(CENTO_NOT_FOUND, a.content_id, cento_chunk_get(engine, a.content_id, &a, &error));
    assert_int_equal(get(engine, b.content_id).pins, 1);
    assert_int_equal(stats_of(engine).chunk_expirations, 1);
    ASSERT_OK(cento_chunk_set_ttl(engine, b.content_id, 0, &error));
    assert_true(get(engine, b.content_id).ttl_s < 0);
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "ttl_s is -1",
                 cento_chunk_set_ttl(engine, b.content_id, -1, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "ttl_s is nan",
                 cento_chunk_set_ttl(engine, b.content_id, NAN, &error));
    ASSERT_OK(cento_chunk_remove(engine, b.content_id, &error)); /* pinned or not */
    tiny_close(engine);
}

static void a_chunk_removed_while_in_use_lives_until_its_user_is_done(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model), *other = tiny_open(&model);
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), QUERY("Who?")};
        cento_request request = request_of(pieces, 3, 60);
        request.mode = (cento_mode)mode;
        request.link_tokens = 3;
        cento_result *expected = run_request_of(other, &request), *result;
        cento_chunk_info document = add(engine, CONTEXT(DOCUMENT_A), false);
        cento_generation *generation;
        request.on_ready = dawdle;
        ASSERT_OK(cento_submit(engine, &request, &generation, &error));
        wait_until_running(engine);
        assert_int_equal(get(engine, document.content_id).users, 1);
        ASSERT_OK(cento_chunk_remove(engine, document.content_id, &error));
        (void)cento_chunk_clear(engine);
        assert_false(cento_poll(generation));
        ASSERT_OK(cento_generation_result(generation, &result, &error));
        cento_generation_free(generation);
        assert_same_answer(expected, result);
        assert_whole(engine);
        cento_result_free(expected);
        cento_result_free(result);
    }
    tiny_close(engine);
    tiny_close(other);
}

static void a_table_full_of_pinned_chunks_refuses_chunks_but_no_prompts(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.chunk_registry_size = 2;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    cento_chunk_info a = add(engine, CONTEXT(DOCUMENT_A), false), b = add(engine, CONTEXT(DOCUMENT_B), false);
    ASSERT_OK(cento_chunk_pin(engine, a.content_id, &error));
    ASSERT_OK(cento_chunk_pin(engine, b.content_id, &error));
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT("Another note."), QUERY("Who?")};
    ASSERT_FAILS(CENTO_POOL_FULL, "2", cento_chunk_add(engine, &pieces[1], false, NULL, &error));
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_INDEPENDENT; mode++) {
        cento_request request = request_of(pieces, 3, 4);
        request.mode = (cento_mode)mode;
        request.retain = CENTO_RETAIN_ANSWER;
        cento_result *result = run_request_of(engine, &request);
        assert_string_equal(result->output_id, "");
        cento_result_free(result);
    }
    tiny_close(engine);
}

/* ------------------------------------------------------- previews ---- */

static cento_preview *preview_of(cento_engine *engine, const cento_request *request) {
    cento_preview *preview;
    ASSERT_OK(cento_compose_preview(engine, request, &preview, &error));
    return preview;
}

static void assert_as_previewed(const cento_preview *preview, const cento_result *result) {
    assert_int_equal(preview->prompt_tokens, result->usage.prompt_tokens);
    assert_int_equal(preview->exact_tokens, result->usage.exact_tokens);
    assert_int_equal(preview->approximate_tokens, result->usage.approximate_tokens);
    assert_int_equal(preview->cached_tokens, result->usage.cached_tokens);
    /* the answer's last token is not computed */
    assert_int_equal(preview->computed_tokens,
                     result->usage.computed_tokens - (result->usage.completion_tokens - 1));
    assert_int_equal(preview->segment_count, result->segment_count);
    for (size_t i = 0; i < result->segment_count; i++)
        assert_memory_equal(&preview->segments[i], &result->segments[i], sizeof(cento_segment));
}

static void a_preview_is_what_then_happens_and_changes_nothing(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&model);
    const cento_piece prompts[][5] = {
        {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), QUERY("Who?")},
        {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), QUERY("When?")},
        {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_A), QUERY("Who?")},
        {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_A), QUERY("Who?")},
        {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_A)},
    };
    static const size_t counts[] = {3, 3, 4, 4, 3};
    uint32_t cached = 0;
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        for (int raw = 0; raw < 2; raw++) {
            for (int i = 0; i < 10; i++) { /* each twice: cold or partly so, then warm */
                cento_request request = request_of(prompts[i / 2], counts[i / 2], 5);
                request.mode = (cento_mode)mode;
                request.link_tokens = 5;
                request.anchored = i % 4 >= 2;
                request.raw = raw;
                cento_stats before = stats_of(engine);
                cento_preview *preview = preview_of(engine, &request), *again = preview_of(engine, &request);
                cento_stats after = stats_of(engine);
                assert_memory_equal(&before, &after, sizeof before);
                assert_memory_equal(preview->segments, again->segments,
                                    preview->segment_count * sizeof *preview->segments);
                cento_preview same = *again;
                same.segments = preview->segments;
                assert_memory_equal(preview, &same, sizeof same);
                assert_true(preview->pages_new + preview->pages_held >=
                            (preview->prompt_tokens + 15) / 16 - (i / 2 == 3 ? 4 : 0));
                assert_true(preview->pages_available <= after.pages_total && preview->pages_available > 0);
                cento_result *result = run_request_of(engine, &request);
                assert_as_previewed(preview, result);
                cached += preview->cached_tokens;
                cento_result_free(result);
                cento_preview_free(again);
                cento_preview_free(preview);
            }
        }
    }
    assert_true(cached > 30 * 60);
    cento_preview_free(NULL);
    tiny_close(engine);
}

static void a_preview_fails_as_a_request_would(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.kv_pool_tokens = 6 * 16;
    cento_engine *engine;
    ASSERT_OK(cento_open(&options, &engine, &error));
    const cento_piece pieces[] = {SYSTEM(SYSTEM_TEXT), CONTEXT(DOCUMENT_A), QUERY("Who?")};
    cento_request request = request_of(pieces, 3, 5);
    cento_preview *preview = NULL;
    ASSERT_FAILS(CENTO_POOL_FULL, "the pool has 6",
                 cento_compose_preview(engine, &request, &preview, &error));
    request.mode = (cento_mode)9;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "mode is 9",
                 cento_compose_preview(engine, &request, &preview, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "request is NULL",
                 cento_compose_preview(engine, NULL, &preview, &error));
    assert_null(preview);
    tiny_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_piece_named_by_its_id_is_the_piece),
        cmocka_unit_test(ids_of_no_chunk_are_refused_by_place),
        cmocka_unit_test(a_pinned_chunk_outlives_what_evicts_and_clears),
        cmocka_unit_test(a_chunk_expires_unless_it_is_pinned),
        cmocka_unit_test(a_chunk_removed_while_in_use_lives_until_its_user_is_done),
        cmocka_unit_test(a_table_full_of_pinned_chunks_refuses_chunks_but_no_prompts),
        cmocka_unit_test(a_preview_is_what_then_happens_and_changes_nothing),
        cmocka_unit_test(a_preview_fails_as_a_request_would),
    };
    return cmocka_run_group_tests(tests, create_model, free_model);
}
