/*
 * Answers that become chunks: as they are, or without their thoughts, and then what the next turn computes.
 * The answers are written into the logits by the test, so that it knows what they are.
 */
#include "engine_fixture.h"

TINY_MODEL_FIXTURE("retention", 11)

#define SYSTEM_TEXT "Answer from the notes."
#define DOCUMENT    "Crystalton lies on the river Ossel. It was founded in 1823."

enum {
    GLUE_USER = 2 + 1 + 5,    /* <end>\n<start>user\n */
    GLUE_ANSWER = 2 + 1 + 10, /* <end>\n<start>assistant\n */
};

/* ------------------------------------------------------- answers by dictation ---- */

static const backend_ops *true_ops;
static const char *dictated; /* the next token; at its end the model is free again */

static cento_status dictate(backend *self, const float *memory, size_t count, float *host,
                            cento_error *failure) {
    TRY(true_ops->read(self, memory, count, host, failure));
    assert_int_equal(count, TINY_VOCAB); /* one request at a time */
    if (*dictated != '\0')
        host[(unsigned char)*dictated++] = 1000;
    return CENTO_OK;
}

/* The same for a device that samples. */
static cento_status dictate_sampled(backend *self, float *logits, const sample_batch *batch,
                                    cento_error *failure) {
    const float certain = 1000;
    assert_int_equal(batch->row_count, 1);
    if (*dictated != '\0')
        TRY(true_ops->write(self, logits + (unsigned char)*dictated++, 1, &certain, failure));
    return true_ops->sample(self, logits, batch, failure);
}

static cento_engine *open_dictated(const cento_options *options) {
    static backend_ops ops;
    cento_engine *engine;
    ASSERT_OK(cento_open(options, &engine, &error));
    true_ops = engine->device->ops;
    ops = *true_ops;
    ops.read = dictate;
    if (ops.sample != NULL)
        ops.sample = dictate_sampled;
    engine->device->ops = &ops; /* its thread sleeps, and sees it with the first request */
    return engine;
}

static cento_result *answer(cento_engine *engine, cento_request request, const char *text) {
    dictated = text;
    request.completion_tokens_max = (uint32_t)strlen(text);
    cento_result *result = run_request_of(engine, &request);
    assert_string_equal(result->text, text);
    return result;
}

/* ------------------------------------------------------- the next turn ---- */

/* Asks on with the retained answer named by its id; everything but the new turn's own tokens is there. */
static void next_turn_finds(cento_engine *engine, const cento_request *first, const cento_result *answered,
                            const char *kept_text, uint32_t missing) {
    cento_piece pieces[6];
    memcpy(pieces, first->pieces, 3 * sizeof *pieces);
    pieces[3] = (cento_piece){.kind = CENTO_KIND_OUTPUT, .content_id = answered->output_id};
    pieces[4] = QUERY("And then?");
    cento_request request = *first;
    request.pieces = pieces;
    request.piece_count = 5;
    request.retain = CENTO_RETAIN_NONE;
    request.completion_tokens_max = 8;
    dictated = "";
    cento_result *named = run_request_of(engine, &request);
    uint32_t fresh = missing + GLUE_USER + 9 + GLUE_ANSWER;
    assert_int_equal(named->usage.cached_tokens, named->usage.prompt_tokens - fresh);
    assert_int_equal(named->usage.computed_tokens, fresh + 7);

    cento_engine *cold = tiny_open(&model);
    pieces[3] = OUTPUT(kept_text);
    cento_result *spelled = run_request_of(cold, &request);
    assert_int_equal(spelled->usage.prompt_tokens, named->usage.prompt_tokens);
    assert_same_answer(spelled, named);
    cento_result_free(spelled);
    cento_result_free(named);
    tiny_close(cold);
}

static void assert_registered(cento_engine *engine, const cento_result *result, const char *kept_text) {
    cento_chunk_info by_id, by_text;
    cento_piece piece = OUTPUT(kept_text);
    assert_int_equal(strlen(result->output_id), 64);
    ASSERT_OK(cento_chunk_get(engine, result->output_id, &by_id, &error));
    ASSERT_OK(cento_chunk_add(engine, &piece, false, &by_text, &error));
    assert_string_equal(by_text.content_id, result->output_id);
    assert_int_equal(by_id.kind, CENTO_KIND_OUTPUT);
    assert_int_equal(by_id.tokens, strlen(kept_text));
}

static cento_request first_turn(cento_mode mode, cento_retain retain) {
    static cento_piece pieces[3];
    pieces[0] = SYSTEM(SYSTEM_TEXT);
    pieces[1] = CONTEXT(DOCUMENT);
    pieces[2] = QUERY("Who?");
    cento_request request = request_of(pieces, 3, 0);
    request.mode = mode;
    request.link_tokens = 4;
    request.retain = retain;
    return request;
}

/* ------------------------------------------------------- promises ---- */

static void an_answer_becomes_a_chunk_that_the_next_turn_names(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        cento_engine *engine = open_dictated(&options);
        cento_request request = first_turn((cento_mode)mode, CENTO_RETAIN_ANSWER);
        cento_result *result = answer(engine, request, "Two sisters.");
        assert_int_equal(result->usage.retained_tokens_computed, 0);
        assert_registered(engine, result, "Two sisters.");
        /* the answer's last token was sampled, not computed */
        next_turn_finds(engine, &request, result, "Two sisters.", 1);
        cento_result_free(result);
        tiny_close(engine);
    }
}

static void thoughts_are_left_out_and_the_rest_is_computed_behind_the_prompt(void **state) {
    (void)state;
    static const struct {
        const char *answer, *kept;
    } cases[] = {
        {"<think>Let me see: 1823?</think>Two sisters.", "Two sisters."},
        {"I think so.<think>Do I?</think> Yes.", "I think so. Yes."},
        {"<think>a</think>b<think>c</think>d", "bd"},
        {"It was there </think> all along", " all along"}, /* begun by the prompt */
        {"Well.<think>And so on", "Well."},                /* cut by the limit */
    };
    cento_options options = tiny_options(&model);
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            cento_engine *engine = open_dictated(&options);
            cento_request request = first_turn((cento_mode)mode, CENTO_RETAIN_WITHOUT_THINKING);
            cento_result *result = answer(engine, request, cases[i].answer);
            assert_registered(engine, result, cases[i].kept);
            /* what stands before the thoughts is there in `exact`: its KV saw the same tokens */
            uint32_t kept_tokens = (uint32_t)strlen(cases[i].kept);
            uint32_t before = (uint32_t)strspn(cases[i].answer, cases[i].kept);
            while (strncmp(cases[i].answer, cases[i].kept, before) != 0)
                before--;
            if (mode == CENTO_MODE_EXACT)
                assert_int_equal(result->usage.retained_tokens_computed, kept_tokens - before);
            else
                assert_in_range(result->usage.retained_tokens_computed, kept_tokens,
                                kept_tokens + result->usage.prompt_tokens);
            assert_int_equal(result->usage.completion_tokens, strlen(cases[i].answer));
            next_turn_finds(engine, &request, result, cases[i].kept, 0);
            cento_result_free(result);
            tiny_close(engine);
        }
    }
}

static void nothing_to_leave_out_costs_nothing_and_nothing_left_is_not_kept(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    cento_engine *engine = open_dictated(&options);
    cento_request request = first_turn(CENTO_MODE_EXACT, CENTO_RETAIN_WITHOUT_THINKING);
    cento_result *result = answer(engine, request, "Two sisters. < think > no");
    assert_int_equal(result->usage.retained_tokens_computed, 0);
    assert_registered(engine, result, "Two sisters. < think > no");
    cento_result_free(result);
    result = answer(engine, request, "<think>hm</think>");
    assert_string_equal(result->output_id, "");
    assert_int_equal(result->usage.retained_tokens_computed, 0);
    cento_result_free(result);
    request.retain = CENTO_RETAIN_NONE;
    result = answer(engine, request, "Two brothers.");
    assert_string_equal(result->output_id, "");
    cento_result_free(result);
    request.retain = (cento_retain)5;
    cento_result *refused = NULL;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "retain is 5", cento_generate(engine, &request, &refused, &error));
    tiny_close(engine);
}

static void without_reuse_an_answer_is_registered_and_its_kv_is_not_kept(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.enable_reuse = false;
    cento_engine *engine = open_dictated(&options);
    cento_request request = first_turn(CENTO_MODE_EXACT, CENTO_RETAIN_ANSWER);
    cento_result *result = answer(engine, request, "Two sisters.");
    assert_registered(engine, result, "Two sisters.");
    cento_result *again = answer(engine, request, "Two sisters.");
    assert_int_equal(again->usage.cached_tokens, 0);
    cento_result_free(result);
    cento_result_free(again);
    tiny_close(engine);
}

/* In a pool that has no room for it, the answer is given all the same. */
static void what_cannot_be_retained_leaves_the_answer_as_it_is(void **state) {
    (void)state;
    cento_options options = tiny_options(&model);
    options.kv_pool_tokens = 14 * 16;
    cento_engine *engine = open_dictated(&options);
    cento_request request = first_turn(CENTO_MODE_EXACT, CENTO_RETAIN_WITHOUT_THINKING);
    for (int i = 0; i < 3; i++) {
        cento_result *result = answer(engine, request, "<think>Sisters, or brothers?</think>Two sisters.");
        if (result->output_id[0] != '\0')
            assert_registered(engine, result, "Two sisters.");
        cento_result_free(result);
    }
    tiny_close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_becomes_a_chunk_that_the_next_turn_names),
        cmocka_unit_test(thoughts_are_left_out_and_the_rest_is_computed_behind_the_prompt),
        cmocka_unit_test(nothing_to_leave_out_costs_nothing_and_nothing_left_is_not_kept),
        cmocka_unit_test(without_reuse_an_answer_is_registered_and_its_kv_is_not_kept),
        cmocka_unit_test(what_cannot_be_retained_leaves_the_answer_as_it_is),
    };
    return cmocka_run_group_tests(tests, create_model, free_model);
}
