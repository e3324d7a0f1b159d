/*
 * config.json and generation_config.json: what is read, what transformers' defaults add, what is refused and
 * with which message. Inverse frequencies are compared with transformers' (tests/vectors/rope.json).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/file.h"
#include "base/json.h"
#include "model/model_config.h"
#include "support.h"

/* A whole config.json with `changes` (a JSON object) laid over it; a null there removes the key. */
static cento_status parse_changed(const char *architecture, const char *changes, model_config *config,
                                  cento_error *error) {
    json_t *root = json_pack("{s:[s], s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f}", "architectures", architecture,
                             "vocab_size", 1000, "hidden_size", 64, "intermediate_size", 128,
                             "num_hidden_layers", 4, "num_attention_heads", 8, "num_key_value_heads", 2,
                             "max_position_embeddings", 2048, "rms_norm_eps", 1e-5);
    json_t *patch = json_loads(changes, 0, NULL);
    assert_non_null(root);
    assert_non_null(patch);
    json_object_update(root, patch);
    char *text = json_dumps(root, 0);
    cento_status status = model_config_parse("config.json", text, strlen(text), config, error);
    free(text);
    json_decref(patch);
    json_decref(root);
    return status;
}

static model_config changed(const char *architecture, const char *changes) {
    cento_error error = {0};
    model_config config;
    ASSERT_OK(parse_changed(architecture, changes, &config, &error));
    return config;
}

static void missing_keys_get_the_defaults_of_transformers(void **state) {
    (void)state;
    model_config llama = changed("LlamaForCausalLM", "{}");
    assert_int_equal(llama.head_dim, 8);
    assert_int_equal(llama.bos_token, 1);
    assert_int_equal(llama.eos_count, 1);
    assert_int_equal(llama.eos_tokens[0], 2);
    assert_false(llama.attention_bias || llama.output_bias || llama.mlp_bias || llama.tied_embeddings ||
                 llama.qk_norm);
    assert_true(llama.rope == ROPE_DEFAULT && llama.rope_theta == 10000 && llama.window == 0);

    model_config qwen2 = changed("Qwen2ForCausalLM", "{}");
    assert_true(qwen2.attention_bias && !qwen2.output_bias);
    assert_int_equal(qwen2.bos_token, -1);
    assert_int_equal(qwen2.eos_count, 0);

    model_config qwen3 = changed("Qwen3ForCausalLM", "{\"attention_bias\": true}");
    assert_true(qwen3.qk_norm && qwen3.attention_bias && qwen3.output_bias);
    assert_int_equal(qwen3.head_dim, 128);

    /* Mistral's window: the class's 4096 when silent, none when null */
    assert_int_equal(changed("MistralForCausalLM", "{}").window, 4096);
    assert_int_equal(changed("MistralForCausalLM", "{\"sliding_window\": null}").window, 0);
    assert_int_equal(changed("LlamaForCausalLM", "{\"num_key_value_heads\": null}").kv_heads, 8);
}

static void windows_of_qwen_start_at_max_window_layers(void **state) {
    (void)state;
    model_config off = changed("Qwen2ForCausalLM", "{\"use_sliding_window\": false, \"sliding_window\": 64, "
                                                   "\"max_window_layers\": 1}");
    assert_int_equal(off.window, 0);
    model_config on = changed("Qwen2ForCausalLM", "{\"use_sliding_window\": true, \"sliding_window\": 64, "
                                                  "\"max_window_layers\": 3}");
    assert_int_equal(on.window, 64);
    assert_int_equal(on.window_layer_begin, 3);
    /* transformers' default is 28, more layers than there are */
    model_config beyond =
        changed("Qwen2ForCausalLM", "{\"use_sliding_window\": true, \"sliding_window\": 64}");
    assert_int_equal(beyond.window, 0);
    model_config typed = changed(
        "Qwen3ForCausalLM",
        "{\"use_sliding_window\": true, \"sliding_window\": 64, \"layer_types\": [\"full_attention\", "
        "\"full_attention\", \"sliding_attention\", \"sliding_attention\"]}");
    assert_int_equal(typed.window_layer_begin, 2);
}

static void rope_frequencies_are_those_of_transformers(void **state) {
    (void)state;
    cento_error error = {0};
    json_t *cases = NULL;
    ASSERT_OK(json_read_file(source_path("tests/vectors/rope.json"), 1 << 20, &cases, &error));
    size_t index;
    const json_t *item;
    bool seen[5] = {false};
    json_array_foreach(cases, index, item) {
        char *text = json_dumps(json_object_get(item, "config"), 0);
        model_config config;
        ASSERT_OK(model_config_parse("config.json", text, strlen(text), &config, &error));
        free(text);
        double inv_freq[512], factor;
        const json_t *expected = json_object_get(item, "inv_freq");
        assert_int_equal(json_array_size(expected), config.head_dim / 2);
        model_config_rope(&config, inv_freq, &factor);
        seen[config.rope] = true;
        for (uint32_t i = 0; i < config.head_dim / 2; i++) {
            /* theirs is in f32, from a power with an f32 exponent */
            double wanted = json_real_value(json_array_get(expected, i));
            if (fabs(inv_freq[i] - wanted) > 1e-5 * wanted)
                fail_msg("case %zu: inv_freq[%u] is %.9g, transformers has %.9g", index, i, inv_freq[i],
                         wanted);
        }
        assert_true(fabs(factor - json_real_value(json_object_get(item, "attention_factor"))) < 1e-9);
    }
    for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++)
        assert_true(seen[i]);
    json_decref(cases);
}

static void damaged_configs_are_refused_with_key_and_expectation(void **state) {
    (void)state;
    static const struct {
        const char *changes, *message;
        cento_status status;
    } cases[] = {
        {"{\"vocab_size\": -5}", "'vocab_size' is -5, expected 1 to 16777216", CENTO_INVALID_MODEL},
        {"{\"vocab_size\": 4000000000}", "'vocab_size' is 4000000000", CENTO_INVALID_MODEL},
        {"{\"vocab_size\": null}", "'vocab_size' is missing", CENTO_INVALID_MODEL},
        {"{\"vocab_size\": \"1000\"}", "'vocab_size' must be an integer, found a string",
         CENTO_INVALID_MODEL},
        {"{\"hidden_size\": 0}", "'hidden_size' is 0", CENTO_INVALID_MODEL},
        {"{\"hidden_size\": 9223372036854775807}", "'hidden_size' is 9223372036854775807",
         CENTO_INVALID_MODEL},
        {"{\"hidden_size\": 64.5}", "'hidden_size' must be an integer, found a number", CENTO_INVALID_MODEL},
        {"{\"hidden_size\": 60}", "expected a multiple of 'num_attention_heads' (8)", CENTO_INVALID_MODEL},
        {"{\"hidden_size\": 24}", "'head_dim' is 3, expected an even number", CENTO_INVALID_MODEL},
        {"{\"hidden_size\": 131072, \"num_attention_heads\": 1, \"num_key_value_heads\": 1}",
         "'head_dim' is 131072, expected an even number, 2 to 1024", CENTO_INVALID_MODEL},
        {"{\"intermediate_size\": -1}", "'intermediate_size' is -1", CENTO_INVALID_MODEL},
        {"{\"num_hidden_layers\": 100000}", "'num_hidden_layers' is 100000, expected 1 to 1024",
         CENTO_INVALID_MODEL},
        {"{\"num_attention_heads\": 0}", "'num_attention_heads' is 0", CENTO_INVALID_MODEL},
        {"{\"num_key_value_heads\": 3}",
         "'num_key_value_heads' is 3, expected a divisor of 'num_attention_heads' (8)", CENTO_INVALID_MODEL},
        {"{\"num_key_value_heads\": 16}", "'num_key_value_heads' is 16, expected a divisor",
         CENTO_INVALID_MODEL},
        {"{\"head_dim\": 7}", "'head_dim' is 7, expected an even number", CENTO_INVALID_MODEL},
        {"{\"head_dim\": -2}", "'head_dim' is -2", CENTO_INVALID_MODEL},
        {"{\"max_position_embeddings\": 0}", "'max_position_embeddings' is 0", CENTO_INVALID_MODEL},
        {"{\"rms_norm_eps\": -1e-6}", "'rms_norm_eps' is -1e-06", CENTO_INVALID_MODEL},
        {"{\"rms_norm_eps\": \"small\"}", "'rms_norm_eps' must be a number", CENTO_INVALID_MODEL},
        {"{\"tie_word_embeddings\": 1}", "'tie_word_embeddings' must be true or false", CENTO_INVALID_MODEL},
        {"{\"architectures\": []}", "'architectures' must be an array with one string", CENTO_INVALID_MODEL},
        {"{\"architectures\": null}", "'architectures' must be an array with one string",
         CENTO_INVALID_MODEL},
        {"{\"architectures\": [\"GPT2LMHeadModel\"]}",
         "architecture 'GPT2LMHeadModel' is not supported; supported are Qwen3ForCausalLM, Qwen2ForCausalLM, "
         "LlamaForCausalLM and MistralForCausalLM",
         CENTO_UNSUPPORTED},
        {"{\"hidden_act\": \"gelu\"}", "'hidden_act' is 'gelu', supported is 'silu'", CENTO_UNSUPPORTED},
        {"{\"quantization_config\": {\"bits\": 4}}", "'quantization_config'", CENTO_UNSUPPORTED},
        {"{\"torch_dtype\": \"float64\"}", "'torch_dtype' is 'float64'", CENTO_UNSUPPORTED},
        {"{\"dtype\": 16}", "'dtype' must be a string", CENTO_INVALID_MODEL},
        {"{\"rope_theta\": 0}", "'rope_theta' is 0", CENTO_INVALID_MODEL},
        {"{\"rope_theta\": 1}", "'rope_theta' is 1, expected more than 1", CENTO_INVALID_MODEL},
        {"{\"rope_scaling\": \"linear\"}", "'rope_scaling' must be an object or null, found a string",
         CENTO_INVALID_MODEL},
        {"{\"rope_scaling\": {\"type\": \"longrope\"}}",
         "'rope_scaling' has the type 'longrope', supported are default, linear, llama3, yarn and dynamic",
         CENTO_UNSUPPORTED},
        {"{\"rope_scaling\": {\"type\": 3}}", "'type' must be a string", CENTO_INVALID_MODEL},
        {"{\"rope_scaling\": {\"type\": \"linear\"}}", "'rope_scaling' has no 'factor'", CENTO_INVALID_MODEL},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": -2}}", "'factor' is -2, expected 1 to",
         CENTO_INVALID_MODEL},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1}}",
         "has no 'high_freq_factor'", CENTO_INVALID_MODEL},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
         "\"high_freq_factor\": 4}}",
         "'high_freq_factor' is 4, expected more than 'low_freq_factor' (4)", CENTO_INVALID_MODEL},
        {"{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4, "
         "\"original_max_position_embeddings\": 0}}",
         "'original_max_position_embeddings' is 0", CENTO_INVALID_MODEL},
        {"{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4, \"beta_fast\": 1, \"beta_slow\": "
         "2}}",
         "'beta_fast' is 1, expected at least 'beta_slow' (2)", CENTO_INVALID_MODEL},
        {"{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}",
         "'rope_parameters' differs by layer type", CENTO_UNSUPPORTED},
        {"{\"partial_rotary_factor\": 0.5}", "'partial_rotary_factor' is 0.5", CENTO_UNSUPPORTED},
        {"{\"eos_token_id\": 1000}", "'eos_token_id' is 1000, expected 0 to 999", CENTO_INVALID_MODEL},
        {"{\"eos_token_id\": [2, -1]}", "'eos_token_id' is -1", CENTO_INVALID_MODEL},
        {"{\"eos_token_id\": [2, \"end\"]}",
         "'eos_token_id' must be a token id or an array of them, found a string", CENTO_INVALID_MODEL},
        {"{\"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "'eos_token_id' has 17 ids",
         CENTO_UNSUPPORTED},
        {"{\"bos_token_id\": 5000}", "'bos_token_id' is 5000", CENTO_INVALID_MODEL},
        {"{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": -3}", "'sliding_window' is -3",
         CENTO_INVALID_MODEL},
        {"{\"architectures\": [\"Qwen3ForCausalLM\"], \"layer_types\": [\"full_attention\"]}",
         "'layer_types' must be an array of 4 strings", CENTO_INVALID_MODEL},
        {"{\"architectures\": [\"Qwen3ForCausalLM\"], \"layer_types\": [\"full_attention\", "
         "\"linear_attention\", "
         "\"full_attention\", \"full_attention\"]}",
         "'layer_types'[1] is 'linear_attention'", CENTO_UNSUPPORTED},
        {"{\"architectures\": [\"Qwen3ForCausalLM\"], \"use_sliding_window\": true, \"layer_types\": "
         "[\"sliding_attention\", \"full_attention\", \"full_attention\", \"full_attention\"]}",
         "'layer_types'[1] is 'full_attention' after a sliding layer (0)", CENTO_UNSUPPORTED},
        {"{\"architectures\": [\"Qwen3ForCausalLM\"], \"layer_types\": [\"full_attention\", "
         "\"full_attention\", "
         "\"full_attention\", \"sliding_attention\"]}",
         "'layer_types'[3] is 'sliding_attention', but 'use_sliding_window'", CENTO_INVALID_MODEL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cento_error error = {0};
        model_config config;
        ASSERT_FAILS(cases[i].status, cases[i].message,
                     parse_changed("LlamaForCausalLM", cases[i].changes, &config, &error));
        assert_int_equal(error.status, cases[i].status);
        assert_non_null(strstr(error.message, "config.json: "));
    }
}

static void text_that_is_no_config_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "config.json: line 1"},
        {"{\"vocab_size\": 5", "config.json: line 1, column 16"},
        {"[1, 2]", "config.json: expected an object, found an array"},
        {"{\"vocab_size\": 5, \"vocab_size\": 6}", "duplicate object key"},
        {"{\"vocab_size\": 1e999}", "config.json: line 1"},
        {"{\"a\": \"\xff\xfe\"}", "config.json: line 1"},
        {"{} trailing", "config.json: line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cento_error error = {0};
        model_config config;
        ASSERT_FAILS(
            CENTO_INVALID_MODEL, cases[i].message,
            model_config_parse("config.json", cases[i].text, strlen(cases[i].text), &config, &error));
    }
}

static void generation_config_sets_sampling_and_end_tokens(void **state) {
    (void)state;
    cento_error error = {0};
    model_config config = changed("LlamaForCausalLM", "{\"eos_token_id\": 7}");
    assert_true(config.sampling.temperature == 0 && config.sampling.top_p == 1);
    const char *text =
        "{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95, \"min_p\": 0.01, "
        "\"repetition_penalty\": 1.1, \"eos_token_id\": [5, 9]}";
    ASSERT_OK(model_config_parse_generation("generation_config.json", text, strlen(text), &config, &error));
    assert_int_equal(config.eos_count, 2);
    assert_int_equal(config.eos_tokens[1], 9);
    assert_true(config.sampling.temperature == 0.6f && config.sampling.top_k == 20 &&
                config.sampling.top_p == 0.95f && config.sampling.min_p == 0.01f &&
                config.sampling.repetition_penalty == 1.1f);
    /* temperature without do_sample is greedy; ids of config.json stay when there are none here */
    text = "{\"temperature\": 0.6}";
    ASSERT_OK(model_config_parse_generation("generation_config.json", text, strlen(text), &config, &error));
    assert_true(config.sampling.temperature == 0 && config.eos_count == 2);

    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"do_sample\": true, \"temperature\": -1}", "'temperature' is -1"},
        {"{\"top_k\": -1}", "'top_k' is -1"},
        {"{\"top_p\": 1.5}", "'top_p' is 1.5, expected 0 to 1"},
        {"{\"do_sample\": \"yes\"}", "'do_sample' must be true or false"},
        {"{\"eos_token_id\": 1000}", "'eos_token_id' is 1000, expected 0 to 999"},
        {"7", "generation_config.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ASSERT_FAILS(CENTO_INVALID_MODEL, cases[i].message,
                     model_config_parse_generation("generation_config.json", cases[i].text,
                                                   strlen(cases[i].text), &config, &error));
}

static void a_folder_without_config_is_not_found(void **state) {
    (void)state;
    cento_error error = {0};
    model_config config;
    ASSERT_FAILS(CENTO_NOT_FOUND, "config.json", model_config_load("/nonexistent/model", &config, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, "known are llama-3.2-1b", model_config_geometry("gpt-5", &config, &error));
}

static void geometries_have_the_published_parameter_counts(void **state) {
    (void)state;
    cento_error error = {0};
    static const struct {
        const char *name;
        uint64_t parameters; /* as the models' pages and safetensors metadata give them */
        uint64_t kv_bytes_per_token;
    } cases[] = {
        {"llama-3.2-1b", 1235814400, 32768},
        {"llama-3.1-8b", 8030261248, 131072},
        {"qwen3-0.6b", 596049920, 114688},
        {"qwen2.5-0.5b", 494032768, 12288},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model_config config;
        ASSERT_OK(model_config_geometry(cases[i].name, &config, &error));
        assert_int_equal(model_config_parameters(&config), cases[i].parameters);
        assert_int_equal(model_config_kv_bytes_per_token(&config, CENTO_DTYPE_BF16),
                         cases[i].kv_bytes_per_token);
    }
}

static void the_tiny_geometry_is_that_of_cento_tiny(void **state) {
    (void)state;
    cento_error error = {0};
    model_config tiny, model;
    ASSERT_OK(model_config_geometry("tiny", &tiny, &error));
    ASSERT_OK(model_config_load(source_path("models/cento-tiny"), &model, &error));
    assert_int_equal(model_config_parameters(&tiny), model_config_parameters(&model));
    assert_int_equal(tiny.vocab_size, model.vocab_size);
    assert_int_equal(tiny.layers, model.layers);
    assert_int_equal(tiny.kv_heads, model.kv_heads);
    assert_int_equal(tiny.head_dim, model.head_dim);
    assert_int_equal(tiny.context_tokens_max, model.context_tokens_max);
    assert_true(tiny.rope_theta == model.rope_theta && model.eos_count == 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_keys_get_the_defaults_of_transformers),
        cmocka_unit_test(windows_of_qwen_start_at_max_window_layers),
        cmocka_unit_test(rope_frequencies_are_those_of_transformers),
        cmocka_unit_test(damaged_configs_are_refused_with_key_and_expectation),
        cmocka_unit_test(text_that_is_no_config_is_refused),
        cmocka_unit_test(generation_config_sets_sampling_and_end_tokens),
        cmocka_unit_test(a_folder_without_config_is_not_found),
        cmocka_unit_test(geometries_have_the_published_parameter_counts),
        cmocka_unit_test(the_tiny_geometry_is_that_of_cento_tiny),
    };
    return cmocka_run_group_tests_name("model_config", tests, NULL, NULL);
}
