/* What the registry tests share: a pool and a registry with a clock of their own, chunks named by numbers. */
#ifndef CENTO_TESTS_REGISTRY_FIXTURE_H
#define CENTO_TESTS_REGISTRY_FIXTURE_H

#include "support.h"

#include <string.h>

#include "base/mem.h"
#include "cascade/chunk_registry_internal.h"
#include "random.h"

static cento_error error;
static const uint8_t tokenizer_a[SHA256_BYTES] = {1};

static uint64_t clock_ns; /* the registries' clock */
static inline uint64_t injected_clock(void *user) {
    return *(const uint64_t *)user;
}

enum { PAGE_BYTES = 1024 };

typedef struct fixture {
    page_manager *pages;
    chunk_registry *registry;
} fixture;

static inline fixture fixture_with(page_manager_options page_options, chunk_registry_options options) {
    fixture opened;
    page_options.page_tokens = 16;
    options.page_bytes = PAGE_BYTES;
    options.now_ns = injected_clock;
    options.now_user = &clock_ns;
    clock_ns = 1000;
    ASSERT_OK(page_manager_create(&page_options, &opened.pages, &error));
    ASSERT_OK(chunk_registry_create(opened.pages, &options, &opened.registry, &error));
    return opened;
}

static inline fixture fixture_open(uint32_t page_count, uint32_t chunks_max) {
    return fixture_with(
        (page_manager_options){.page_count = page_count, .chunk_page_ratio = 0.5, .borrow = true},
        (chunk_registry_options){.chunks_max = chunks_max});
}

static inline void fixture_close(fixture opened) {
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    chunk_registry_free(opened.registry);
    assert_int_equal(opened.pages->counts[PAGE_FREE], opened.pages->page_count);
    page_manager_free(opened.pages);
}

static inline digest numbered(int32_t number) {
    static digest known[128];
    static bool is_known[128];
    assert_true(number >= 0 && number < 128);
    if (!is_known[number])
        ASSERT_OK(content_id_of(tokenizer_a, &number, 1, &known[number], &error));
    is_known[number] = true;
    return known[number];
}

/* A chunk with KV of so many tokens, all computed, not in use. */
static inline chunk_kv *add_ready(fixture opened, cento_kind kind, int32_t number, uint32_t tokens) {
    digest id = numbered(number);
    context_chunk *chunk;
    chunk_kv *kv;
    ASSERT_OK(chunk_registry_acquire(opened.registry, kind, &id, &number, 1, NULL, &chunk, NULL, &error));
    ASSERT_OK(chunk_registry_kv_create(opened.registry, &id, chunk, kind, tokens, 0, &kv, &error));
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    kv->tokens_scheduled = tokens;
    chunk_registry_kv_computed(opened.registry, kv, true);
    chunk_registry_kv_release(opened.registry, kv);
    chunk_registry_release(opened.registry, chunk);
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    return kv;
}

static inline bool is_held(fixture opened, int32_t number) {
    uint32_t ready;
    digest id = numbered(number);
    return chunk_registry_kv_peek(opened.registry, &id, &ready);
}

#endif
