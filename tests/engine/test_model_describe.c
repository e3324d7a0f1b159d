/* What cento_model_describe() says of a folder, compared with the files themselves and with sums by hand. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "support.h"

static json_t *described(const char *folder, uint32_t context_tokens) {
    cento_error error = {0};
    char *text = NULL;
    ASSERT_OK(cento_model_describe(source_path(folder), context_tokens, &text, &error));
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    cento_free(text);
    return root;
}

static json_int_t number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        fail_msg("no integer '%s'", key);
    return json_integer_value(value);
}

static void bf16_weights_stay_bf16_for_products_in_f32(void **state) {
    (void)state;
    json_t *root = described("models/cento-tiny", 1000);
    json_int_t parameters = number(root, "parameters");
    assert_int_equal(number(json_object_get(root, "memory_f32"), "weight_bytes"), 2 * parameters);
    assert_int_equal(number(json_object_get(root, "memory_bf16"), "weight_bytes"), 2 * parameters);
    json_decref(root);
}

static void a_folder_is_described_from_its_headers(void **state) {
    (void)state;
    json_t *root = described("tests/vectors/models/llama-f32-sharded", 1000);
    assert_string_equal(json_string_value(json_object_get(root, "architecture")), "LlamaForCausalLM");
    assert_string_equal(json_string_value(json_object_get(root, "dtype")), "F32");
    assert_string_equal(json_string_value(json_object_get(root, "rope")), "llama3");
    assert_int_equal(number(root, "layers"), 2);
    assert_int_equal(number(root, "head_dim"), 8);
    /* embeddings 100 × 48; a layer: q, o 48 × 48, k, v 16 × 48, three of 64 × 48, two norms; the last norm */
    json_int_t parameters = 100 * 48 + 2 * (2 * 48 * 48 + 2 * 16 * 48 + 3 * 64 * 48 + 2 * 48) + 48;
    assert_int_equal(number(root, "parameters"), parameters);
    assert_int_equal(number(root, "weight_bytes"), 4 * parameters);
    assert_int_equal(number(root, "kv_bytes_per_token"), 2 * 2 * 2 * 8 * 2);
    const json_t *memory = json_object_get(root, "memory_f32");
    assert_int_equal(number(memory, "kv_bytes"), 1000 * 2 * 2 * 2 * 8 * 4);
    assert_int_equal(number(memory, "total_bytes"), 4 * parameters + 1000 * 2 * 2 * 2 * 8 * 4);
    assert_int_equal(number(json_object_get(root, "memory_bf16"), "weight_bytes"), 2 * parameters);

    const json_t *files = json_object_get(root, "files");
    assert_int_equal(json_array_size(files), 3);
    json_int_t file_bytes = 0;
    for (size_t i = 0; i < 3; i++)
        file_bytes += number(json_array_get(files, i), "bytes");
    assert_true(file_bytes > 4 * parameters);
    json_decref(root);
}

static void the_context_is_the_models_own_limit_unless_given(void **state) {
    (void)state;
    cento_error error = {0};
    char *text = NULL;
    json_t *root = described("tests/vectors/models/qwen3", 0);
    assert_int_equal(number(root, "context_tokens"), 4096);
    json_decref(root);
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "5000 tokens of context are asked for, the model's limit is 4096",
                 cento_model_describe(source_path("tests/vectors/models/qwen3"), 5000, &text, &error));
    assert_null(text);
}

static void what_is_no_model_is_refused(void **state) {
    (void)state;
    cento_error error = {0};
    char *text = NULL;
    ASSERT_FAILS(CENTO_NOT_FOUND, "config.json", cento_model_describe("/nonexistent", 0, &text, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "NULL", cento_model_describe(NULL, 0, &text, &error));
    assert_null(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_described_from_its_headers),
        cmocka_unit_test(bf16_weights_stay_bf16_for_products_in_f32),
        cmocka_unit_test(the_context_is_the_models_own_limit_unless_given),
        cmocka_unit_test(what_is_no_model_is_refused),
    };
    return cmocka_run_group_tests_name("model description", tests, NULL, NULL);
}
