/*
 * The decoder against Hugging Face transformers: one small random-weight model for every architecture and
 * RoPE variant (tests/vectors/models, made by tools/make_model_vectors.py), prefill and 32 decode steps.
 *
 * In f32 every logit is within 2e-4 of transformers' (float32, eager attention). In bf16 the likeliest token
 * is the same wherever the reference's margin exceeds bf16_tolerance: twice the deviation transformers itself
 * shows when weights, inputs of products, K and V are rounded to bf16.
 */
#include "model_fixture.h"

static const char *const models[] = {
    "qwen3",      "qwen3-bias-untied", "qwen2",          "qwen2-window", "qwen2-yarn",
    "llama2-mha", "llama3-gqa",        "llama-linear",   "llama-yarn",   "llama-bias",
    "llama-mqa",  "llama-f32-sharded", "mistral-window", "mistral",
};
enum { MODEL_COUNT = sizeof models / sizeof models[0], DECODE_STEPS = 32 };

#define F32_TOLERANCE 2e-4f

/* Prompt in chunks of chunk_tokens, then the rest token by token. Returns logits after every token. */
static float *run(fixture *test, const int32_t *tokens, size_t token_count, uint32_t prompt_tokens,
                  uint32_t chunk_tokens) {
    size_t vocab = test->config->vocab_size;
    float *logits = malloc(token_count * vocab * sizeof *logits);
    test->pages_used = 0;
    fixture_poison(test);
    fixture_run sequence = fixture_run_new(test, (uint32_t)token_count);
    while (sequence.tokens < token_count) {
        uint32_t done = sequence.tokens, count = 1;
        if (done < prompt_tokens)
            count = chunk_tokens < prompt_tokens - done ? chunk_tokens : prompt_tokens - done;
        fixture_forward(test, &sequence, 0, tokens + done, count, NULL, 0, logits + done * vocab);
    }
    return logits;
}

static void f32_logits_are_those_of_transformers(void **state) {
    (void)state;
    for (size_t m = 0; m < MODEL_COUNT; m++) {
        fixture test = fixture_open(models[m], CENTO_DTYPE_F32);
        reference expected = reference_open(models[m], "reference.safetensors");
        size_t token_count, logit_count;
        int32_t *tokens = reference_values(&expected, "tokens", &token_count);
        float *reference_logits = reference_values(&expected, "logits", &logit_count);
        uint32_t prompt_tokens = reference_u32(&expected, "prompt_tokens");
        assert_int_equal(token_count, prompt_tokens + DECODE_STEPS);
        assert_int_equal(logit_count, token_count * test.config->vocab_size);
        /* all at once, in odd chunks across page borders, token by token */
        const uint32_t chunk_sizes[] = {prompt_tokens, 7, 23, 1};
        for (size_t c = 0; c < sizeof chunk_sizes / sizeof chunk_sizes[0]; c++) {
            float *logits = run(&test, tokens, token_count, prompt_tokens, chunk_sizes[c]);
            assert_close(models[m], logits, reference_logits, logit_count, F32_TOLERANCE);
            if (c == 0)
                printf("%-18s f32: largest difference %.1e\n", models[m],
                       (double)largest_difference(logits, reference_logits, logit_count));
            free(logits);
        }
        free(tokens);
        free(reference_logits);
        reference_close(&expected);
        fixture_close(&test);
    }
}

typedef struct top_two {
    size_t first;
    float margin;
} top_two;

static top_two find_top(const float *logits, size_t vocab) {
    size_t first = 0;
    float second_value = -INFINITY;
    for (size_t i = 1; i < vocab; i++) {
        if (logits[i] > logits[first]) {
            second_value = logits[first];
            first = i;
        } else if (logits[i] > second_value) {
            second_value = logits[i];
        }
    }
    return (top_two){first, logits[first] - second_value};
}

static void bf16_has_the_same_first_token_where_the_margin_is_clear(void **state) {
    (void)state;
    for (size_t m = 0; m < MODEL_COUNT; m++) {
        fixture test = fixture_open(models[m], CENTO_DTYPE_BF16);
        reference expected = reference_open(models[m], "reference.safetensors");
        size_t token_count, logit_count, vocab = test.config->vocab_size;
        int32_t *tokens = reference_values(&expected, "tokens", &token_count);
        float *reference_logits = reference_values(&expected, "logits", &logit_count);
        float tolerance = reference_float(&expected, "bf16_tolerance");
        float *logits = run(&test, tokens, token_count, reference_u32(&expected, "prompt_tokens"), 23);
        size_t clear = 0;
        for (size_t row = 0; row < token_count; row++) {
            top_two wanted = find_top(reference_logits + row * vocab, vocab);
            if (wanted.margin <= tolerance)
                continue;
            clear++;
            assert_int_equal(find_top(logits + row * vocab, vocab).first, wanted.first);
        }
        float difference = largest_difference(logits, reference_logits, logit_count);
        printf(
            "%-18s bf16: largest difference %.3f, tolerance %.3f, first token equal in all %zu of %zu clear "
            "rows\n",
            models[m], (double)difference, (double)tolerance, clear, token_count);
        assert_true(clear * 10 >= token_count * 7);
        assert_true(difference <= tolerance);
        free(logits);
        free(tokens);
        free(reference_logits);
        reference_close(&expected);
        fixture_close(&test);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_logits_are_those_of_transformers),
        cmocka_unit_test(bf16_has_the_same_first_token_where_the_margin_is_clear),
    };
    return cmocka_run_group_tests_name("decoder against transformers", tests, NULL, NULL);
}
