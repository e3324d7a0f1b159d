/* The small things of cento.h: names, version, defaults, spellings, and the sampling that a model asks for.
 */
#include "engine_fixture.h"

static void every_value_has_its_name_and_others_are_unknown(void **state) {
    (void)state;
    assert_string_equal(cento_status_name(CENTO_OK), "OK");
    assert_string_equal(cento_status_name(CENTO_QUEUE_FULL), "QUEUE_FULL");
    assert_string_equal(cento_status_name(CENTO_CLOSED), "CLOSED");
    assert_string_equal(cento_status_name((cento_status)99), "UNKNOWN");
    assert_string_equal(cento_status_message(CENTO_OK), "success");
    assert_string_equal(cento_status_message(CENTO_QUEUE_FULL), "too many requests are waiting");
    assert_string_equal(cento_status_message(CENTO_CLOSED), "the engine is being closed");
    assert_string_equal(cento_kind_name(CENTO_KIND_SYSTEM), "system");
    assert_string_equal(cento_kind_name(CENTO_KIND_CONTEXT), "context");
    assert_string_equal(cento_kind_name(CENTO_KIND_QUERY), "query");
    assert_string_equal(cento_kind_name(CENTO_KIND_OUTPUT), "output");
    assert_string_equal(cento_kind_name(CENTO_KIND_TOOL), "tool");
    assert_string_equal(cento_kind_name((cento_kind)77), "unknown");
    assert_string_equal(cento_finish_name(CENTO_FINISH_STOP), "stop");
    assert_string_equal(cento_finish_name(CENTO_FINISH_LENGTH), "length");
    assert_string_equal(cento_finish_name(CENTO_FINISH_CANCELLED), "cancelled");
    assert_string_equal(cento_source_name(CENTO_SOURCE_COMPUTED), "computed");
    assert_string_equal(cento_source_name(CENTO_SOURCE_EXACT), "exact");
    assert_string_equal(cento_source_name(CENTO_SOURCE_APPROXIMATE), "approximate");
    assert_string_equal(cento_version(), CENTO_VERSION);
}

static void defaults_are_what_the_header_says(void **state) {
    (void)state;
    cento_options options = cento_options_default();
    assert_true(options.enable_cascade && options.enable_reuse && options.chunk_page_borrow);
    assert_false(options.deterministic);
    assert_string_equal(options.device, "auto");
    assert_string_equal(options.attention, "auto");
    cento_request request = cento_request_default();
    assert_int_equal(request.mode, CENTO_MODE_EXACT);
    assert_int_equal(request.retain, CENTO_RETAIN_NONE);
    assert_int_equal(request.priority, 0);
    assert_true(request.sampling.temperature == 0 && request.sampling.top_p == 1);
    assert_true(request.sampling.repetition_penalty == 1);
}

static void a_model_says_how_it_wants_to_be_sampled_and_how_it_spells(void **state) {
    (void)state;
    tiny_model model;
    tiny_create(&model, "names", 0, 17);
    static const char generation_config[] =
        "{\"do_sample\":true,\"temperature\":0.6,\"top_k\":20,\"top_p\":0.95}";
    tiny_write_file(&model, "generation_config.json", generation_config, strlen(generation_config));
    cento_engine *engine = tiny_open(&model);
    cento_sampling sampling = cento_engine_sampling(engine);
    assert_true(fabsf(sampling.temperature - 0.6f) < 1e-6f && fabsf(sampling.top_p - 0.95f) < 1e-6f);
    assert_int_equal(sampling.top_k, 20);
    assert_true(cento_engine_sampling(NULL).temperature == 0);
    cento_stats stats;
    cento_engine_stats(NULL, &stats);
    assert_int_equal(stats.pages_total, 0);
    cento_cancel(NULL);
    assert_int_equal(cento_chunk_clear(NULL), 0);
    tiny_close(engine);
    cento_close(NULL);
    cento_result_free(NULL);

    cento_tokenizer *words;
    size_t bytes;
    ASSERT_OK(cento_tokenizer_open(model.folder, &words, &error));
    assert_string_equal(cento_token_spelling(words, 'A', &bytes), "A");
    assert_int_equal(bytes, 1);
    assert_string_equal(cento_token_spelling(words, ' ', NULL), "\xC4\xA0"); /* Ġ */
    assert_string_equal(cento_token_spelling(words, TINY_IM_START, NULL), "<|im_start|>");
    assert_null(cento_token_spelling(words, TINY_VOCAB, NULL));
    assert_null(cento_token_spelling(words, -1, NULL));
    cento_tokenizer_close(words);
    tiny_free(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_has_its_name_and_others_are_unknown),
        cmocka_unit_test(defaults_are_what_the_header_says),
        cmocka_unit_test(a_model_says_how_it_wants_to_be_sampled_and_how_it_spells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
