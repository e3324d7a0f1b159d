/*
 * Every mode of composition against a dense f64 reference that applies the mode's definition as a mask over
 * the whole prompt (tiny_model.h): cold, warm, with documents in another order, in one forward pass and in
 * passes of a few tokens, with and without a sliding window.
 */
#include "engine_fixture.h"

static tiny_model full_model, window_model;

/* ------------------------------------------------------- the prompt, by hand ---- */

typedef struct stretch { /* of the prompt */
    bool document;
    int32_t tokens[REFERENCE_TOKENS_MAX];
    int count;
} stretch;

typedef struct prompt_twin {
    stretch stretches[32];
    int count;
} prompt_twin;

static void put_text(prompt_twin *twin, const char *text, bool document) {
    stretch *last = twin->count == 0 ? NULL : &twin->stretches[twin->count - 1];
    if (last == NULL || last->document || document) {
        last = &twin->stretches[twin->count++];
        *last = (stretch){.document = document};
    }
    for (; *text != '\0'; text++) {
        static const char *const special[] = {"<|end|>", "<|im_start|>", "<|im_end|>"};
        int32_t token = (unsigned char)*text;
        for (int i = 0; i < 3 && !document; i++) {
            if (strncmp(text, special[i], strlen(special[i])) == 0) {
                token = TINY_END + i;
                text += strlen(special[i]) - 1;
            }
        }
        last->tokens[last->count++] = token;
    }
}

static void lay_out(const cento_piece *pieces, size_t piece_count, bool raw, prompt_twin *twin) {
    twin->count = 0;
    if (raw) {
        for (size_t i = 0; i < piece_count; i++)
            put_text(twin, pieces[i].text, pieces[i].kind == CENTO_KIND_CONTEXT);
        return;
    }
    const char *role = NULL;
    for (size_t i = 0; i < piece_count; i++) { /* the tests give the system piece first */
        bool document = pieces[i].kind == CENTO_KIND_CONTEXT;
        const char *wanted = pieces[i].kind == CENTO_KIND_SYSTEM   ? "system"
                             : pieces[i].kind == CENTO_KIND_OUTPUT ? "assistant"
                                                                   : "user";
        if (role != NULL)
            put_text(twin, "\n\n", false);
        if (role == NULL) {
            put_text(twin, "<|im_start|>", false);
            put_text(twin, wanted, false);
            put_text(twin, "\n", false);
        }
        put_text(twin, pieces[i].text, document);
        role = document ? wanted : NULL;
        if (!document)
            put_text(twin, "<|im_end|>\n", false);
    }
    if (role != NULL)
        put_text(twin, "<|im_end|>\n", false);
    put_text(twin, "<|im_start|>assistant\n", false);
}

/* ------------------------------------------------------- the mode, by its definition ---- */

typedef struct view {
    reference_token tokens[REFERENCE_TOKENS_MAX];
    int count;
    int32_t anchor;
    int32_t prompt_tokens;
} view;

static void put_token(view *seen, reference_token token) {
    assert_true(seen->count < REFERENCE_TOKENS_MAX);
    seen->tokens[seen->count++] = token;
}

static void view_of(const prompt_twin *twin, const cento_request *request, view *seen) {
    *seen = (view){0};
    int32_t position = 0;
    bool document_seen = false;
    for (int i = 0; i < twin->count; i++) {
        const stretch *part = &twin->stretches[i];
        int head = part->document && request->mode == CENTO_MODE_INDEPENDENT ? 0
                   : part->document && request->mode == CENTO_MODE_LINK      ? (int)request->link_tokens
                                                                             : part->count;
        if (part->document && !document_seen) {
            document_seen = true;
            seen->anchor = request->anchored ? position : 0;
        }
        for (int j = 0; j < part->count; j++) {
            if (head < part->count)
                put_token(seen, (reference_token){part->tokens[j], position + j, i, j, j >= head});
            if (j < head)
                put_token(seen, (reference_token){part->tokens[j], position + j, -1, 0, 0});
        }
        position += part->count;
    }
    seen->prompt_tokens = position;
    reference_token *last = &seen->tokens[seen->count - 1];
    if (last->chunk >= 0) { /* the last token's logits: in place, instead of the chunk's */
        last->shown = 0;
        put_token(seen, (reference_token){last->token, last->position, -1, 0, 0});
    }
}

/* ------------------------------------------------------- comparisons ---- */

/* The reference's logits of the last token; the same question, asked of another engine, is answered from
 * memory. */
static const double *logits_of_view(const tiny_model *model, const view *seen) {
    static struct {
        const tiny_model *model;
        view seen;
        double logits[TINY_VOCAB];
    } known[256];
    static size_t known_count;
    for (size_t i = 0; i < known_count; i++) {
        if (known[i].model == model && memcmp(&known[i].seen, seen, sizeof *seen) == 0)
            return known[i].logits;
    }
    assert_true(known_count < sizeof known / sizeof *known);
    known[known_count].model = model;
    known[known_count].seen = *seen;
    reference_logits(model, seen->tokens, seen->count, seen->anchor, seen->count - 1,
                     known[known_count].logits);
    return known[known_count++].logits;
}

static double reference_difference(cento_engine *engine, const tiny_model *model, const cento_piece *pieces,
                                   size_t piece_count, const cento_request *request,
                                   const cento_result *result) {
    static prompt_twin twin;
    static view seen;
    double largest = 0;
    lay_out(pieces, piece_count, request->raw, &twin);
    view_of(&twin, request, &seen);
    assert_int_equal(result->usage.prompt_tokens, seen.prompt_tokens);
    for (size_t i = 0; i + 1 < result->token_count; i++)
        put_token(&seen, (reference_token){result->tokens[i], seen.prompt_tokens + (int32_t)i, -1, 0, 0});
    const double *logits = logits_of_view(model, &seen);
    float found[TINY_VOCAB];
    first_logits(engine, found);
    for (int i = 0; i < TINY_VOCAB; i++)
        largest = fmax(largest, fabs(logits[i] - (double)found[i]));
    return largest;
}

/* Runs it, and compares the logits of the last forward pass: all tokens before it were right, too. */
static void assert_as_reference(cento_engine *engine, const tiny_model *model, const cento_piece *pieces,
                                size_t piece_count, cento_request request) {
    request.pieces = pieces;
    request.piece_count = piece_count;
    cento_result *result = run_request_of(engine, &request);
    double difference = reference_difference(engine, model, pieces, piece_count, &request, result);
    if (!(difference <= 2e-4))
        fail_msg("mode %d, link %u, anchored %d, raw %d: logits differ by %g", (int)request.mode,
                 request.link_tokens, request.anchored, request.raw, difference);
    cento_result_free(result);
}

#define DOCUMENT_A "Crystalton lies on the river Ossel. It was founded in 1823."
#define DOCUMENT_B "The ship Aurelia."
#define DOCUMENT_C "x"

/* All modes over one engine: later cases find the KV of earlier ones. */
static void all_modes_agree(cento_engine *engine, const tiny_model *model, bool raw) {
    const cento_piece orders[][6] = {
        {SYSTEM("Be brief."), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_C), QUERY("Who?")},
        {SYSTEM("Be brief."), CONTEXT(DOCUMENT_C), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B), QUERY("Who?")},
        {SYSTEM("Be brief."), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_A), QUERY("When?")},
        {CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_A), QUERY("a"), OUTPUT("b"), QUERY("c")},
        {CONTEXT(DOCUMENT_B), QUERY("a"), OUTPUT("b"), CONTEXT(DOCUMENT_A), QUERY("c")},
    };
    static const struct {
        cento_mode mode;
        uint32_t link_tokens;
        bool anchored;
    } modes[] = {
        {CENTO_MODE_EXACT, 0, false}, {CENTO_MODE_INDEPENDENT, 0, false}, {CENTO_MODE_INDEPENDENT, 0, true},
        {CENTO_MODE_LINK, 0, false},  {CENTO_MODE_LINK, 1, false},        {CENTO_MODE_LINK, 4, true},
        {CENTO_MODE_LINK, 17, false}, {CENTO_MODE_LINK, 1000, false},     {CENTO_MODE_LINK, 1000, true},
    };
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        for (size_t order = 0; order < sizeof orders / sizeof *orders; order++) {
            cento_request request = request_of(NULL, 0, 4);
            request.mode = modes[m].mode;
            request.link_tokens = modes[m].link_tokens;
            request.anchored = modes[m].anchored;
            request.raw = raw;
            for (int repeat = 0; repeat < 2; repeat++) /* cold, then warm */
                assert_as_reference(engine, model, orders[order], 5, request);
        }
    }
}

static void every_mode_gives_the_logits_of_its_mask(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&full_model);
    all_modes_agree(engine, &full_model, true);
    tiny_close(engine);
}

static void every_mode_gives_the_logits_of_its_mask_through_a_chat_template(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&full_model);
    all_modes_agree(engine, &full_model, false);
    tiny_close(engine);
}

static void passes_of_a_few_tokens_give_the_same(void **state) {
    (void)state;
    for (uint32_t tokens = 1; tokens <= 15; tokens += 7) {
        cento_options options = tiny_options(&full_model);
        cento_engine *engine;
        options.max_batched_tokens = tokens;
        ASSERT_OK(cento_open(&options, &engine, &error));
        all_modes_agree(engine, &full_model, tokens == 8);
        tiny_close(engine);
    }
}

static void a_sliding_window_counts_positions_of_the_composition(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&window_model);
    all_modes_agree(engine, &window_model, true);
    all_modes_agree(engine, &window_model, false);
    tiny_close(engine);
}

static void a_pool_too_small_to_keep_everything_gives_the_same(void **state) {
    (void)state;
    cento_options options = tiny_options(&full_model);
    cento_engine *engine;
    options.kv_pool_tokens = 20 * 16;
    ASSERT_OK(cento_open(&options, &engine, &error));
    all_modes_agree(engine, &full_model, false);
    assert_true(stats_of(engine).chunk_evictions > 20); /* or this says nothing */
    assert_true(stats_of(engine).kv_hits > 20);
    tiny_close(engine);
}

static void a_prompt_that_ends_with_a_document_is_answered(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&full_model);
    const cento_piece pieces[] = {SYSTEM("Go on."), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_A)};
    cento_request request = request_of(NULL, 0, 1);
    request.raw = true;
    for (int mode = CENTO_MODE_EXACT; mode <= CENTO_MODE_LINK; mode++) {
        request.mode = (cento_mode)mode;
        request.link_tokens = 3;
        for (int repeat = 0; repeat < 3; repeat++)
            assert_as_reference(engine, &full_model, pieces, 3, request);
    }
    tiny_close(engine);
}

/* The reference must be able to tell the modes apart, or agreeing with it means nothing. */
static void the_modes_differ_where_they_should(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&full_model);
    const cento_piece pieces[] = {SYSTEM("Be brief."), CONTEXT(DOCUMENT_B), CONTEXT(DOCUMENT_A),
                                  QUERY("Who?")};
    float logits[5][TINY_VOCAB];
    for (int i = 0; i < 5; i++) {
        cento_request request = request_of(pieces, 4, 1);
        request.raw = true;
        request.mode = i == 0 ? CENTO_MODE_EXACT : i <= 2 ? CENTO_MODE_INDEPENDENT : CENTO_MODE_LINK;
        request.anchored = i == 2 || i == 4;
        request.link_tokens = 4;
        cento_result_free(run_request_of(engine, &request));
        first_logits(engine, logits[i]);
        for (int j = 0; j < i; j++) {
            float largest = 0;
            for (int k = 0; k < TINY_VOCAB; k++)
                largest = fmaxf(largest, fabsf(logits[i][k] - logits[j][k]));
            assert_true(largest > 0.01f);
        }
    }
    tiny_close(engine);
}

/* ------------------------------------------------------- what the definitions imply ---- */

static cento_result *run_mode(cento_engine *engine, const cento_piece *pieces, size_t count, cento_mode mode,
                              uint32_t link_tokens) {
    cento_request request = request_of(pieces, count, 8);
    request.raw = true;
    request.mode = mode;
    request.link_tokens = link_tokens;
    return run_request_of(engine, &request);
}

static void link_of_whole_chunks_equals_exact_and_link_of_none_independent(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&full_model);
    const cento_piece pieces[] = {SYSTEM("Be brief."), CONTEXT(DOCUMENT_A), CONTEXT(DOCUMENT_B),
                                  QUERY("Who?")};
    cento_result *exact = run_mode(engine, pieces, 4, CENTO_MODE_EXACT, 0);
    cento_result *whole = run_mode(engine, pieces, 4, CENTO_MODE_LINK, (uint32_t)strlen(DOCUMENT_A));
    cento_result *independent = run_mode(engine, pieces, 4, CENTO_MODE_INDEPENDENT, 0);
    cento_result *none = run_mode(engine, pieces, 4, CENTO_MODE_LINK, 0);
    assert_same_answer(exact, whole);
    assert_int_equal(whole->usage.approximate_tokens, 0);
    assert_same_answer(independent, none);
    assert_true(none->usage.approximate_tokens > 0 && none->usage.recomputed_tokens == 0);
    cento_result_free(exact);
    cento_result_free(whole);
    cento_result_free(independent);
    cento_result_free(none);
    tiny_close(engine);
}

static void a_single_chunk_with_nothing_before_it_is_exact(void **state) {
    (void)state;
    cento_engine *engine = tiny_open(&full_model);
    const cento_piece pieces[] = {CONTEXT(DOCUMENT_A), QUERY("Who?")};
    cento_result *exact = run_mode(engine, pieces, 2, CENTO_MODE_EXACT, 0);
    cento_result *cold = run_mode(engine, pieces, 2, CENTO_MODE_INDEPENDENT, 0);
    const cento_piece other[] = {CONTEXT(DOCUMENT_A), QUERY("When?")};
    cento_result *warm = run_mode(engine, other, 2, CENTO_MODE_INDEPENDENT, 0);
    assert_same_answer(exact, cold);
    assert_int_equal(warm->usage.exact_tokens, strlen(DOCUMENT_A)); /* and it says so */
    assert_int_equal(warm->usage.approximate_tokens, 0);
    assert_int_equal(warm->segments[0].source, CENTO_SOURCE_EXACT);
    cento_result_free(exact);
    cento_result_free(cold);
    cento_result_free(warm);
    tiny_close(engine);
}

static int create_models(void **state) {
    (void)state;
    tiny_create(&full_model, "full", 0, 1);
    tiny_create(&window_model, "window", 24, 2);
    return 0;
}

static int free_models(void **state) {
    (void)state;
    tiny_free(&full_model);
    tiny_free(&window_model);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_gives_the_logits_of_its_mask),
        cmocka_unit_test(every_mode_gives_the_logits_of_its_mask_through_a_chat_template),
        cmocka_unit_test(passes_of_a_few_tokens_give_the_same),
        cmocka_unit_test(a_sliding_window_counts_positions_of_the_composition),
        cmocka_unit_test(a_pool_too_small_to_keep_everything_gives_the_same),
        cmocka_unit_test(a_prompt_that_ends_with_a_document_is_answered),
        cmocka_unit_test(the_modes_differ_where_they_should),
        cmocka_unit_test(link_of_whole_chunks_equals_exact_and_link_of_none_independent),
        cmocka_unit_test(a_single_chunk_with_nothing_before_it_is_exact),
    };
    return cmocka_run_group_tests(tests, create_models, free_models);
}
