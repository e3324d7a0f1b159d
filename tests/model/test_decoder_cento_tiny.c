/*
 * The default model, models/cento-tiny, against transformers (tests/vectors/cento_tiny_reference.json, made
 * by tools/train_cento_tiny.py): logits after the prompt and the greedy answer, with causal attention and
 * with documents that are computed alone, from position 0, and attended to where they stand in the prompt.
 */
#include <jansson.h>

#include "base/json.h"
#include "model_fixture.h"

enum { VOCAB = 3072, RUNS_MAX = FIXTURE_SPANS_MAX };

/* The file's logits have six decimals; values are up to 25 after six layers in f32. */
#define F32_TOLERANCE 2e-4f

typedef struct prompt_state {
    kv_span spans[RUNS_MAX]; /* what stands before the next piece, as it is seen from there */
    uint32_t span_count;
    uint32_t position;
    float logits[VOCAB]; /* after the last token */
} prompt_state;

/* Computes a piece with what it sees and appends it to the prompt. */
static void add_piece(fixture *test, prompt_state *prompt, const int32_t *tokens, uint32_t count,
                      bool alone) {
    static float logits[FIXTURE_TOKENS_MAX * VOCAB];
    fixture_run run = fixture_run_new(test, count);
    uint32_t origin = alone ? 0 : prompt->position;
    while (run.tokens < count) {
        uint32_t left = count - run.tokens, part = left < FIXTURE_TOKENS_MAX ? left : FIXTURE_TOKENS_MAX;
        fixture_forward(test, &run, origin, tokens + run.tokens, part, prompt->spans,
                        alone ? 0 : prompt->span_count, logits);
        memcpy(prompt->logits, logits + (size_t)(part - 1) * VOCAB, sizeof prompt->logits);
    }
    assert_true(prompt->span_count < RUNS_MAX);
    prompt->spans[prompt->span_count++] =
        fixture_span(&run, 0, prompt->position, alone ? prompt->position : 0);
    prompt->position += count;
}

static int32_t id_at(const json_t *list, size_t index) {
    return (int32_t)json_integer_value(json_array_get(list, index));
}

static bool is_document(const json_t *record, const json_t *piece) {
    size_t index;
    const json_t *document;
    json_array_foreach(json_object_get(record, "document_pieces"), index, document) {
        if (json_equal(document, piece))
            return true;
    }
    return false;
}

static void add_prompt(fixture *test, prompt_state *prompt, const json_t *record) {
    const json_t *ids = json_object_get(record, "prompt_ids"), *piece;
    bool block = strcmp(json_string_value(json_object_get(record, "mask")), "block") == 0;
    size_t index;
    json_array_foreach(json_object_get(record, "pieces"), index, piece) {
        int32_t tokens[512];
        uint32_t begin = (uint32_t)id_at(piece, 0), count = (uint32_t)id_at(piece, 1) - begin;
        assert_true(count <= 512 && begin == prompt->position);
        for (uint32_t i = 0; i < count; i++)
            tokens[i] = id_at(ids, begin + i);
        add_piece(test, prompt, tokens, count, block && is_document(record, piece));
    }
    assert_int_equal(prompt->position, json_array_size(ids));
}

static int32_t likeliest(const float *logits) {
    int32_t first = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        first = logits[i] > logits[first] ? i : first;
    return first;
}

static void check_answer(fixture *test, prompt_state *prompt, const json_t *answer) {
    size_t count = json_array_size(answer);
    fixture_run own = fixture_run_new(test, (uint32_t)count);
    uint32_t begin = prompt->position;
    for (size_t i = 0; i < count; i++) {
        int32_t token = likeliest(prompt->logits);
        assert_int_equal(token, id_at(answer, i));
        fixture_forward(test, &own, begin, &token, 1, prompt->spans, prompt->span_count, prompt->logits);
    }
}

static void check_records(cento_dtype dtype) {
    cento_error error = {0};
    json_t *root = NULL;
    ASSERT_OK(json_read_file(source_path("tests/vectors/cento_tiny_reference.json"), 1 << 20, &root, &error));
    fixture test = fixture_open_folder("models/cento-tiny", dtype);
    assert_int_equal(test.config->vocab_size, VOCAB);
    const json_t *record, *top;
    size_t index, place;
    float worst = 0;
    json_array_foreach(json_object_get(root, "records"), index, record) {
        if (SANITIZED && index == 2)
            break; /* one prompt of each mask */
        static prompt_state prompt;
        memset(&prompt, 0, sizeof prompt);
        test.pages_used = 0;
        fixture_poison(&test);
        add_prompt(&test, &prompt, record);
        json_array_foreach(json_object_get(record, "logits_top"), place, top) {
            float expected = (float)json_number_value(json_array_get(top, 1));
            worst = fmaxf(worst, fabsf(prompt.logits[id_at(top, 0)] - expected));
        }
        check_answer(&test, &prompt, json_object_get(record, "answer_ids"));
    }
    printf("%zu prompts: largest difference of the 20 largest logits %.1e\n", index, (double)worst);
    assert_true(index >= (SANITIZED ? 2 : 8));
    if (dtype == CENTO_DTYPE_F32)
        assert_true(worst <= F32_TOLERANCE);
    fixture_close(&test);
    json_decref(root);
}

static void f32_gives_logits_and_answers_of_transformers(void **state) {
    (void)state;
    check_records(CENTO_DTYPE_F32);
}

static void bf16_gives_the_answers_of_transformers(void **state) {
    (void)state;
    check_records(CENTO_DTYPE_BF16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_gives_logits_and_answers_of_transformers),
        cmocka_unit_test(bf16_gives_the_answers_of_transformers),
    };
    return cmocka_run_group_tests_name("cento-tiny against transformers", tests, NULL, NULL);
}
