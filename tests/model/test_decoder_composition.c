/*
 * Chunks that stand elsewhere than where their KV was computed. Relocation: a chunk prefilled at positions
 * 0…n-1 and used at offset o through rotation_origin gives the logits of keys rotated by o in f64 and written
 * back to the pool, and those of the chunk prefilled in place. Composition: `independent` and `link` give the
 * logits of transformers with a dense block mask (tools/make_model_vectors.py: make_composition).
 */
#include "model_fixture.h"

enum { CHUNK_TOKENS = 21, QUERY_TOKENS = 6, VOCAB_MAX = 128 };

static const char *const relocated_models[] = {"qwen3",      "qwen2",        "qwen2-yarn", "llama3-gqa",
                                               "llama-yarn", "llama-linear", "llama-mqa",  "mistral-window"};
static const uint32_t offsets[] = {1, 15, 16, 333, 1024, 2047, 4096 - CHUNK_TOKENS - QUERY_TOKENS};

#define F32_TOLERANCE 2e-4f

static void fill_tokens(int32_t *tokens, uint32_t count, uint32_t seed) {
    for (uint32_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % 100);
    }
}

/* Copies a run with every key rotated by `offset` positions more, in f64. K was already multiplied by the
 * attention factor when it was written, so this is a pure rotation. */
static fixture_run rotated_copy(fixture *test, const fixture_run *chunk, uint32_t offset) {
    uint32_t heads = test->config->kv_heads, head_dim = test->config->head_dim, half = head_dim / 2;
    double inv_freq[64], factor;
    float kv[2 * 8 * 64];
    assert_true(head_dim <= 64 && heads <= 8);
    model_config_rope(test->config, inv_freq, &factor);
    fixture_run copy = fixture_run_new(test, chunk->tokens);
    for (uint32_t layer = 0; layer < test->config->layers; layer++)
        for (uint32_t token = 0; token < chunk->tokens; token++) {
            test->device->ops->kv_read(test->device, test->pool, layer, fixture_slot(chunk, token), kv);
            for (uint32_t head = 0; head < heads; head++)
                for (uint32_t i = 0; i < half; i++) {
                    double angle = offset * inv_freq[i];
                    float *key = kv + head * head_dim;
                    double a = (double)key[i], b = (double)key[half + i];
                    key[i] = (float)(a * cos(angle) - b * sin(angle));
                    key[half + i] = (float)(b * cos(angle) + a * sin(angle));
                }
            test->device->ops->kv_write(test->device, test->pool, layer, fixture_slot(&copy, token), kv);
        }
    copy.tokens = chunk->tokens;
    return copy;
}

/* Logits of the query after the chunk, which stands at `offset` with keys rotated for `origin`. */
static void query_after(fixture *test, const fixture_run *chunk, uint32_t offset, int64_t origin,
                        float *logits) {
    int32_t query[QUERY_TOKENS];
    fill_tokens(query, QUERY_TOKENS, 7);
    kv_span span = fixture_span(chunk, 0, offset, origin);
    uint32_t pages_used = test->pages_used;
    fixture_run own = fixture_run_new(test, QUERY_TOKENS);
    fixture_forward(test, &own, offset + chunk->tokens, query, QUERY_TOKENS, &span, 1, logits);
    test->pages_used = pages_used;
}

static void a_relocated_chunk_gives_the_logits_of_keys_rotated_in_f64(void **state) {
    (void)state;
    for (size_t m = 0; m < sizeof relocated_models / sizeof relocated_models[0]; m++) {
        fixture test = fixture_open(relocated_models[m], CENTO_DTYPE_F32);
        size_t count = (size_t)QUERY_TOKENS * test.config->vocab_size;
        float relocated[QUERY_TOKENS * VOCAB_MAX], expected[QUERY_TOKENS * VOCAB_MAX];
        int32_t tokens[CHUNK_TOKENS];
        float worst = 0;
        fill_tokens(tokens, CHUNK_TOKENS, 1);
        fixture_run chunk = fixture_run_new(&test, CHUNK_TOKENS);
        fixture_forward(&test, &chunk, 0, tokens, CHUNK_TOKENS, NULL, 0, NULL);
        uint32_t pages_used = test.pages_used;
        for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
            query_after(&test, &chunk, offsets[i], offsets[i], relocated);

            fixture_run rotated = rotated_copy(&test, &chunk, offsets[i]);
            query_after(&test, &rotated, offsets[i], 0, expected);
            assert_close("keys rotated in f64", relocated, expected, count, F32_TOLERANCE);
            worst = fmaxf(worst, largest_difference(relocated, expected, count));

            fixture_run in_place = fixture_run_new(&test, CHUNK_TOKENS);
            fixture_forward(&test, &in_place, offsets[i], tokens, CHUNK_TOKENS, NULL, 0, NULL);
            query_after(&test, &in_place, offsets[i], 0, expected);
            assert_close("chunk prefilled in place", relocated, expected, count, F32_TOLERANCE);
            test.pages_used = pages_used;
        }
        /* the comparison can see a missing rotation */
        query_after(&test, &chunk, 333, 0, expected);
        query_after(&test, &chunk, 333, 333, relocated);
        assert_true(largest_difference(relocated, expected, count) > 100 * F32_TOLERANCE);
        printf("%-14s relocated by up to %u: largest difference %.1e\n", relocated_models[m],
               4096 - CHUNK_TOKENS - QUERY_TOKENS, (double)worst);
        fixture_close(&test);
    }
}

/* ------------------------------------------------------------------ composition ---------- */

typedef struct prompt {
    reference file;
    int32_t *tokens;
    uint32_t *lengths; /* system, first, second, query */
    uint32_t begin[4];
    uint32_t link_tokens;
} prompt;

static prompt prompt_open(const char *model) {
    prompt parts = {.file = reference_open(model, "composition.safetensors")};
    parts.tokens = reference_values(&parts.file, "tokens", NULL);
    parts.lengths = reference_values(&parts.file, "lengths", NULL);
    parts.link_tokens = reference_u32(&parts.file, "link_tokens");
    for (size_t i = 1; i < 4; i++)
        parts.begin[i] = parts.begin[i - 1] + parts.lengths[i - 1];
    return parts;
}

static void prompt_close(prompt *parts) {
    free(parts->tokens);
    free(parts->lengths);
    reference_close(&parts->file);
}

/* Computes piece i alone, from position 0. */
static fixture_run compute_alone(fixture *test, const prompt *parts, size_t i) {
    fixture_run run = fixture_run_new(test, parts->lengths[i]);
    fixture_forward(test, &run, 0, parts->tokens + parts->begin[i], parts->lengths[i], NULL, 0, NULL);
    return run;
}

static void compare_query(fixture *test, const prompt *parts, const kv_span *spans, uint32_t span_count,
                          const char *mode, float tolerance) {
    size_t count;
    float *expected = reference_values(&parts->file, mode, &count);
    float *logits = malloc(count * sizeof *logits);
    assert_int_equal(count, parts->lengths[3] * test->config->vocab_size);
    fixture_run own = fixture_run_new(test, parts->lengths[3]);
    fixture_forward(test, &own, parts->begin[3], parts->tokens + parts->begin[3], parts->lengths[3], spans,
                    span_count, logits);
    assert_close(mode, logits, expected, count, tolerance);
    printf("  %-12s largest difference %.1e\n", mode, (double)largest_difference(logits, expected, count));
    free(expected);
    free(logits);
}

static void compare_all_modes(fixture *test, const prompt *parts, float tolerance) {
    uint32_t k = parts->link_tokens;
    fixture_run system = compute_alone(test, parts, 0);
    fixture_run first = compute_alone(test, parts, 1);
    fixture_run second = compute_alone(test, parts, 2);

    const kv_span whole[] = {fixture_span(&system, 0, 0, 0),
                             fixture_span(&first, 0, parts->begin[1], parts->begin[1]),
                             fixture_span(&second, 0, parts->begin[2], parts->begin[2])};
    compare_query(test, parts, whole, 3, "independent", tolerance);

    /* heads computed again in place, tails as they were */
    kv_span linked[5] = {whole[0]};
    fixture_run heads[2];
    const fixture_run *chunks[] = {&first, &second};
    uint32_t count = 1;
    for (size_t i = 0; i < 2; i++) {
        uint32_t begin = parts->begin[i + 1];
        heads[i] = fixture_run_new(test, k);
        fixture_forward(test, &heads[i], begin, parts->tokens + begin, k, linked, count, NULL);
        linked[count++] = fixture_span(&heads[i], 0, begin, 0);
        linked[count++] = fixture_span(chunks[i], k, begin + k, begin);
    }
    compare_query(test, parts, linked, count, "link", tolerance);

    /* all of both documents computed again: a plain prefill */
    fixture_run rest = fixture_run_new(test, parts->lengths[1] + parts->lengths[2]);
    fixture_forward(test, &rest, parts->begin[1], parts->tokens + parts->begin[1],
                    parts->lengths[1] + parts->lengths[2], whole, 1, NULL);
    const kv_span exact[] = {whole[0], fixture_span(&rest, 0, parts->begin[1], 0)};
    compare_query(test, parts, exact, 2, "exact", tolerance);
}

static void compositions_equal_a_dense_reference_with_a_block_mask(void **state) {
    (void)state;
    static const char *const models[] = {"qwen3", "llama3-gqa", "llama-yarn"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        prompt parts = prompt_open(models[m]);
        printf("%s, f32\n", models[m]);
        fixture test = fixture_open(models[m], CENTO_DTYPE_F32);
        compare_all_modes(&test, &parts, F32_TOLERANCE);
        fixture_close(&test);
        prompt_close(&parts);
    }
}

static void two_sequences_in_one_batch_give_the_logits_of_each_alone(void **state) {
    (void)state;
    fixture test = fixture_open("qwen3", CENTO_DTYPE_F32);
    prompt parts = prompt_open("qwen3");
    cento_error error = {0};
    size_t vocab = test.config->vocab_size;
    fixture_run chunk = compute_alone(&test, &parts, 1);
    uint32_t n = chunk.tokens;
    float alone[2][VOCAB_MAX], together[2][VOCAB_MAX];
    int32_t tokens[2] = {11, 12};
    fixture_run own[4];
    /* one right after the chunk, one that sees it at offset 500 */
    const uint32_t chunk_offsets[2] = {0, 500};
    kv_span spans[4];
    for (uint32_t i = 0; i < 2; i++) {
        own[i] = fixture_run_new(&test, 1);
        kv_span span = fixture_span(&chunk, 0, chunk_offsets[i], chunk_offsets[i]);
        fixture_forward(&test, &own[i], chunk_offsets[i] + n, &tokens[i], 1, &span, 1, alone[i]);
        own[2 + i] = fixture_run_new(&test, 1);
        own[2 + i].tokens = 1;
        spans[2 * i] = span;
        spans[2 * i + 1] = fixture_span(&own[2 + i], 0, chunk_offsets[i] + n, 0);
    }
    const uint32_t positions[2] = {n, 500 + n};
    const row_group groups[2] = {{.row_begin = 0, .row_count = 1, .span_begin = 0, .span_count = 2},
                                 {.row_begin = 1, .row_count = 1, .span_begin = 2, .span_count = 2}};
    fixture_plan(&test, (plan_input){.groups = groups,
                                     .group_count = 2,
                                     .spans = spans,
                                     .span_count = 4,
                                     .positions = positions,
                                     .row_count = 2});
    assert_int_equal(test.plan->task_count, 1); /* they share the chunk */
    /* logits in reverse order, to see that logit_rows decides */
    const decoder_batch batch = {
        .token_count = 2,
        .tokens = tokens,
        .positions = positions,
        .kv_slots = (uint32_t[]){fixture_slot(&own[2], 0), fixture_slot(&own[3], 0)},
        .plan = test.plan,
        .window_plan = test.window_plan,
        .logit_rows = (uint32_t[]){1, 0},
        .logit_row_count = 2,
    };
    float *logits = malloc(2 * vocab * sizeof *logits);
    ASSERT_OK(decoder_forward(test.model, &batch, test.pool, logits, &error));
    memcpy(together[1], logits, vocab * sizeof *logits);
    memcpy(together[0], logits + vocab, vocab * sizeof *logits);
    /* left on the device they are the same */
    float *left = malloc(2 * vocab * sizeof *left);
    ASSERT_OK(decoder_reserve_logits(test.model, FIXTURE_TOKENS_MAX + 1, &error));
    ASSERT_OK(decoder_forward(test.model, &batch, test.pool, NULL, &error));
    ASSERT_OK(test.device->ops->read(test.device, decoder_logits(test.model), 2 * vocab, left, &error));
    assert_memory_equal(left, logits, 2 * vocab * sizeof *left);
    free(left);
    free(logits);
    for (size_t i = 0; i < 2; i++)
        assert_close("batched", together[i], alone[i], vocab, 1e-5f);
    assert_true(largest_difference(alone[0], alone[1], vocab) > 0.1f);
    prompt_close(&parts);
    fixture_close(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_relocated_chunk_gives_the_logits_of_keys_rotated_in_f64),
        cmocka_unit_test(compositions_equal_a_dense_reference_with_a_block_mask),
        cmocka_unit_test(two_sequences_in_one_batch_give_the_logits_of_each_alone),
    };
    return cmocka_run_group_tests_name("composition of chunks", tests, NULL, NULL);
}
