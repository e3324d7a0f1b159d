/*
 * What the decoder's tests share: a model of tests/vectors/models on a CPU backend with a small pool whose
 * pages are handed out in shuffled order and start poisoned (NaN), sequences in those pages, and tensors of
 * the reference files. Included by one test program each, hence static inline.
 */
#ifndef CENTO_TESTS_MODEL_FIXTURE_H
#define CENTO_TESTS_MODEL_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/decoder.h"
#include "model/safetensors.h"
#include "plan_fixture.h"

/* Under a sanitizer: memory is measured differently, and long computations are cut short. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { FIXTURE_PAGE_TOKENS = 16, FIXTURE_PAGES = 128, FIXTURE_TOKENS_MAX = 128, FIXTURE_SPANS_MAX = 64 };

typedef struct fixture {
    backend *device;
    decoder *model;
    const model_config *config;
    backend_kv_pool *pool;
    cascade_plan *plan, *window_plan; /* of the last batch */
    uint32_t pages[FIXTURE_PAGES];    /* a permutation; handed out from the front */
    uint32_t pages_used;
} fixture;

/* KV of consecutive tokens in pages of its own. */
typedef struct fixture_run {
    const uint32_t *pages;
    uint32_t tokens; /* written so far */
} fixture_run;

static inline void fixture_poison(fixture *test) {
    size_t width = (size_t)2 * test->config->kv_heads * test->config->head_dim;
    float *poison = malloc(width * sizeof *poison);
    for (size_t i = 0; i < width; i++)
        poison[i] = NAN;
    for (uint32_t layer = 0; layer < test->config->layers; layer++)
        for (uint32_t slot = 0; slot < FIXTURE_PAGES * FIXTURE_PAGE_TOKENS; slot++)
            test->device->ops->kv_write(test->device, test->pool, layer, slot, poison);
    free(poison);
}

/* folder: relative to the source tree */
static inline fixture fixture_open_folder(const char *folder, cento_dtype dtype) {
    cento_error error = {0};
    fixture test = {0};
    model_config config;
    const backend_options options = {.compute_dtype = dtype, .threads = 2};
    test_device_needed();
    ASSERT_OK(backend_create(test_device(), &options, &test.device, &error));
    ASSERT_OK(model_config_load(source_path(folder), &config, &error));
    ASSERT_OK(decoder_load(source_path(folder), &config, test.device, FIXTURE_TOKENS_MAX, NULL, NULL,
                           &test.model, &error));
    test.config = decoder_config(test.model);
    ASSERT_OK(
        decoder_kv_pool_create(test.model, FIXTURE_PAGES, FIXTURE_PAGE_TOKENS, dtype, &test.pool, &error));
    test.plan = test_plan_new(FIXTURE_PAGES, FIXTURE_PAGE_TOKENS, FIXTURE_TOKENS_MAX);
    test.window_plan = test_plan_new(FIXTURE_PAGES, FIXTURE_PAGE_TOKENS, FIXTURE_TOKENS_MAX);
    for (uint32_t i = 0; i < FIXTURE_PAGES; i++)
        test.pages[i] = i * 37 % FIXTURE_PAGES; /* 37 and the count share no factor */
    fixture_poison(&test);
    return test;
}

static inline fixture fixture_open(const char *name, cento_dtype dtype) {
    char folder[256];
    snprintf(folder, sizeof folder, "tests/vectors/models/%s", name);
    return fixture_open_folder(folder, dtype);
}

static inline void fixture_close(fixture *test) {
    cascade_plan_free(test->plan);
    cascade_plan_free(test->window_plan);
    test->device->ops->kv_pool_free(test->device, test->pool);
    decoder_free(test->model);
    test->device->ops->destroy(test->device);
}

/* A new run with room for `tokens`. */
static inline fixture_run fixture_run_new(fixture *test, uint32_t tokens) {
    fixture_run run = {.pages = &test->pages[test->pages_used]};
    test->pages_used += (tokens + FIXTURE_PAGE_TOKENS - 1) / FIXTURE_PAGE_TOKENS;
    assert_true(test->pages_used <= FIXTURE_PAGES);
    return run;
}

static inline uint32_t fixture_slot(const fixture_run *run, uint32_t token) {
    return run->pages[token / FIXTURE_PAGE_TOKENS] * FIXTURE_PAGE_TOKENS + token % FIXTURE_PAGE_TOKENS;
}

/* A run from token_begin on, as a sequence sees it in which that token stands at `position`. */
static inline kv_span fixture_span(const fixture_run *run, uint32_t token_begin, uint32_t position,
                                   int64_t rotation_origin) {
    return (kv_span){.pages = run->pages,
                     .token_begin = token_begin,
                     .token_end = run->tokens,
                     .position = position,
                     .rotation_origin = rotation_origin};
}

/* Lays out a batch; the model's windowed layers get a plan of their own. */
static inline void fixture_plan(fixture *test, plan_input input) {
    cento_error error = {0};
    input.heads_per_kv = test->config->heads / test->config->kv_heads;
    ASSERT_OK(cascade_plan_build(test->plan, &input, &error));
    input.window = test->config->window;
    ASSERT_OK(cascade_plan_build(test->window_plan, &input, &error));
}

/* Runs `count` tokens through the model and appends their KV to the run, whose first token stands at
 * run_position. They see `spans` (span_count) and their own run. logits:
 * (count, vocab_size) or NULL. */
static inline void fixture_forward(fixture *test, fixture_run *run, uint32_t run_position,
                                   const int32_t *tokens, uint32_t count, const kv_span *spans,
                                   uint32_t span_count, float *logits) {
    cento_error error = {0};
    uint32_t positions[FIXTURE_TOKENS_MAX], slots[FIXTURE_TOKENS_MAX], rows[FIXTURE_TOKENS_MAX];
    kv_span all[FIXTURE_SPANS_MAX + 1];
    assert_true(span_count <= FIXTURE_SPANS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        positions[i] = run_position + run->tokens + i;
        slots[i] = fixture_slot(run, run->tokens + i);
        rows[i] = i;
    }
    run->tokens += count;
    for (uint32_t i = 0; i < span_count; i++)
        all[i] = spans[i];
    all[span_count] = fixture_span(run, 0, run_position, 0);
    const row_group group = {.row_count = count, .span_count = span_count + 1};
    fixture_plan(test, (plan_input){.groups = &group,
                                    .group_count = 1,
                                    .spans = all,
                                    .span_count = span_count + 1,
                                    .positions = positions,
                                    .row_count = count});
    const decoder_batch batch = {
        .token_count = count,
        .tokens = tokens,
        .positions = positions,
        .kv_slots = slots,
        .plan = test->plan,
        .window_plan = test->window_plan,
        .logit_rows = rows,
        .logit_row_count = logits == NULL ? 0 : count,
    };
    ASSERT_OK(decoder_forward(test->model, &batch, test->pool, logits, &error));
}

/* ------------------------------------------------------------------ reference files ------ */

typedef struct reference {
    strbuf contents;
    safetensors *tensors;
} reference;

static inline reference reference_open(const char *name, const char *file) {
    cento_error error = {0};
    reference result = {0};
    char path[256];
    snprintf(path, sizeof path, "tests/vectors/models/%s/%s", name, file);
    ASSERT_OK(file_read(source_path(path), 1 << 24, &result.contents, &error));
    ASSERT_OK(
        safetensors_open_bytes(path, result.contents.data, result.contents.bytes, &result.tensors, &error));
    return result;
}

static inline void reference_close(reference *result) {
    safetensors_close(result->tensors);
    strbuf_free(&result->contents);
}

/* A copy (the file's data may be unaligned); released with free. count may be NULL. */
static inline void *reference_values(const reference *source, const char *name, size_t *count) {
    const safetensor *tensor = safetensors_find(source->tensors, name);
    assert_non_null(tensor);
    void *values = malloc(tensor->bytes);
    memcpy(values, tensor->data, tensor->bytes);
    if (count != NULL)
        *count = tensor->bytes / 4;
    return values;
}

static inline float reference_float(const reference *source, const char *name) {
    float value;
    memcpy(&value, safetensors_find(source->tensors, name)->data, sizeof value);
    return value;
}

static inline uint32_t reference_u32(const reference *source, const char *name) {
    uint32_t value;
    memcpy(&value, safetensors_find(source->tensors, name)->data, sizeof value);
    return value;
}

/* Infinity if any value is not finite. */
static inline float largest_difference(const float *left, const float *right, size_t count) {
    float largest = 0;
    for (size_t i = 0; i < count; i++) {
        float difference = fabsf(left[i] - right[i]);
        if (!isfinite(difference))
            return INFINITY;
        largest = fmaxf(largest, difference);
    }
    return largest;
}

static inline void assert_close(const char *what, const float *left, const float *right, size_t count,
                                float tolerance) {
    float difference = largest_difference(left, right, count);
    if (!(difference <= tolerance))
        fail_msg("%s: largest difference %g, allowed %g", what, (double)difference, (double)tolerance);
}

#endif
