/*
 * A pool, a registry and a prefix tree over it, and a memory that stands for the KV: a slot holds the hash of
 * scope and all tokens up to its own, which is what the KV of a token depends on. Whatever a claim calls
 * ready must have the right hash in its slot; so a page given back too early, a copy gone wrong or a scope
 * that leaks shows.
 */
#ifndef CENTO_TESTS_TREE_WORLD_H
#define CENTO_TESTS_TREE_WORLD_H

#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cascade/chunk_registry_internal.h"
#include "random.h"

static cento_error error;

enum { PAGE = 16, PATH_MAX_NODES = 512 };

typedef struct tree_world {
    page_manager *pages;
    chunk_registry *registry;
    prefix_tree *tree;
    uint64_t *memory; /* (page_count · PAGE) by slot */
    uint64_t now_ns;  /* the registry's clock */
} tree_world;

static inline uint64_t world_now(void *user) {
    return ((const tree_world *)user)->now_ns;
}

static inline tree_world *world_open(page_manager_options pages, chunk_registry_options options) {
    tree_world *world = calloc(1, sizeof *world);
    pages.page_tokens = PAGE;
    if (pages.chunk_page_ratio <= 0)
        pages.chunk_page_ratio = 0.5;
    if (options.chunks_max == 0)
        options.chunks_max = 1000;
    options.page_bytes = 1000;
    options.now_ns = world_now;
    options.now_user = world;
    world->now_ns = 1;
    ASSERT_OK(page_manager_create(&pages, &world->pages, &error));
    ASSERT_OK(chunk_registry_create(world->pages, &options, &world->registry, &error));
    ASSERT_OK(prefix_tree_create(world->registry, &world->tree, &error));
    world->memory = calloc((size_t)pages.page_count * PAGE, sizeof *world->memory);
    return world;
}

static inline tree_world *world_of(uint32_t page_count) {
    return world_open((page_manager_options){.page_count = page_count, .borrow = true},
                      (chunk_registry_options){0});
}

static inline void world_check(tree_world *world) {
    ASSERT_OK(prefix_tree_check(world->tree, &error));
}

/* All references must have been released; nothing may be left of anything. */
static inline void world_close(tree_world *world) {
    world_check(world);
    assert_int_equal(world->registry->detached_count, 0);
    prefix_tree_free(world->tree);
    chunk_registry_free(world->registry);
    ASSERT_OK(page_manager_check(world->pages, &error));
    assert_int_equal(world->pages->counts[PAGE_FREE], world->pages->page_count);
    page_manager_free(world->pages);
    free(world->memory);
    free(world);
}

static inline digest scope_of(uint32_t number) {
    static const uint8_t model[SHA256_BYTES] = {7};
    char salt[16];
    digest id;
    snprintf(salt, sizeof salt, "%u", number);
    const kv_scope scope = {model, "bf16", number == 0 ? NULL : salt};
    ASSERT_OK(kv_scope_id(&scope, &id, &error));
    return id;
}

/* The hash that stands for the KV of token `index` of these tokens. */
static inline uint64_t kv_before(uint32_t scope) {
    return scope * 0x9E3779B97F4A7C15u + 1;
}
static inline uint64_t kv_after(uint64_t before, int32_t token) {
    uint64_t hash = (before ^ (uint32_t)token) * 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 32;
}
static inline uint64_t kv_hash_of(uint32_t scope, const int32_t *tokens, uint32_t token_count) {
    uint64_t hash = kv_before(scope);
    for (uint32_t i = 0; i < token_count; i++)
        hash = kv_after(hash, tokens[i]);
    return hash;
}
static inline uint64_t kv_hash(uint32_t scope, const int32_t *tokens, uint32_t index) {
    return kv_hash_of(scope, tokens, index + 1);
}

static inline void world_copy(tree_world *world, kv_copy copy) {
    if (copy.token_count == 0)
        return;
    assert_int_equal(copy.to_slot % PAGE, 0);
    assert_true(copy.from_slot % PAGE + copy.token_count < PAGE);
    memmove(world->memory + copy.to_slot, world->memory + copy.from_slot,
            copy.token_count * sizeof *world->memory);
}

/* All tokens that the path has ready hold what they should; all its nodes' tokens are these. */
static inline void world_check_path(tree_world *world, uint32_t scope, const int32_t *tokens,
                                    const prefix_node *leaf) {
    prefix_node *nodes[PATH_MAX_NODES];
    uint32_t count = prefix_tree_path(leaf, nodes, PATH_MAX_NODES), position = 0;
    uint64_t hash = kv_before(scope);
    assert_true(count <= PATH_MAX_NODES);
    for (uint32_t n = 0; n < count; n++) {
        const chunk_kv *kv = &nodes[n]->kv;
        assert_int_equal(kv->position, position);
        assert_memory_equal(nodes[n]->tokens, tokens + position, kv->tokens * sizeof *tokens);
        for (uint32_t i = 0; i < kv->tokens; i++) {
            hash = kv_after(hash, tokens[position + i]);
            if (i < kv->tokens_ready)
                assert_true(world->memory[page_run_slot(world->pages, kv->run, i)] == hash);
        }
        position += kv->tokens;
    }
}

/* Claims, executes the copy, and compares what comes back with the memory. */
static inline cento_status world_claim(tree_world *world, uint32_t scope, const int32_t *tokens,
                                       uint32_t match_tokens, uint32_t create_tokens, const prefix_cut *cuts,
                                       size_t cut_count, prefix_claim *claim) {
    digest scope_id = scope_of(scope);
    prefix_match match;
    prefix_tree_match(world->tree, &scope_id, tokens, match_tokens, &match);
    cento_status status = prefix_tree_claim(world->tree, &scope_id, tokens, match_tokens, create_tokens, cuts,
                                            cut_count, claim, &error);
    if (status != CENTO_OK)
        return status;
    world_copy(world, claim->copy);
    world_check_path(world, scope, tokens, claim->leaf);
    assert_true(claim->ready_tokens <= claim->path_tokens);
    uint32_t found = claim->path_tokens + claim->tail_tokens;
    if (claim->path_tokens == create_tokens && claim->tail_tokens == 0) { /* nodes may have been created */
        assert_true(match.tokens < create_tokens + PAGE);
        uint32_t expected = match.tokens_ready < create_tokens ? match.tokens_ready : create_tokens;
        if (claim->copy.token_count == 0)
            assert_int_equal(claim->ready_tokens, expected);
        else /* a copy ends with the first node created */
            assert_true(claim->ready_tokens <= expected && claim->ready_tokens + PAGE > expected);
    } else {
        assert_int_equal(found, match.tokens);
        assert_int_equal(claim->ready_tokens < claim->path_tokens ? claim->ready_tokens : found,
                         match.tokens_ready);
    }
    for (uint32_t i = 0; i < claim->tail_tokens; i++)
        assert_true(world->memory[claim->tail_slot + i] == kv_hash(scope, tokens, claim->path_tokens + i));
    return CENTO_OK;
}

/* Computes at most token_count tokens of a path. true: all of it is ready. */
static inline bool world_compute(tree_world *world, uint32_t scope, const int32_t *tokens,
                                 const prefix_node *leaf, uint32_t token_count, bool succeeds) {
    prefix_node *nodes[PATH_MAX_NODES];
    uint32_t count = prefix_tree_path(leaf, nodes, PATH_MAX_NODES);
    for (uint32_t n = 0; n < count; n++) {
        chunk_kv *kv = &nodes[n]->kv;
        uint32_t missing = kv->tokens - kv->tokens_ready;
        if (missing > token_count)
            missing = token_count;
        if (missing == 0)
            continue;
        kv->tokens_scheduled = kv->tokens_ready + missing;
        uint64_t hash = kv_hash_of(scope, tokens, kv->position + kv->tokens_ready);
        for (uint32_t i = kv->tokens_ready; i < kv->tokens_scheduled; i++) {
            hash = kv_after(hash, tokens[kv->position + i]);
            world->memory[page_run_slot(world->pages, kv->run, i)] = succeeds ? hash : ~hash;
        }
        chunk_registry_kv_computed(world->registry, kv, succeeds);
        token_count -= missing;
        if (kv->tokens_ready < kv->tokens)
            return false;
    }
    return true;
}

/* A sequence's own run with tokens [begin, end) computed. */
static inline cento_status world_own_run(tree_world *world, uint32_t scope, const int32_t *tokens,
                                         uint32_t begin, uint32_t end, page_run **run) {
    TRY(chunk_registry_run_create(world->registry, run, &error));
    cento_status status = chunk_registry_run_grow(world->registry, *run,
                                                  page_manager_pages_for(world->pages, end - begin), &error);
    if (status != CENTO_OK) {
        chunk_registry_run_release(world->registry, *run);
        return status;
    }
    uint64_t hash = kv_hash_of(scope, tokens, begin);
    for (uint32_t i = begin; i < end; i++) {
        hash = kv_after(hash, tokens[i]);
        world->memory[page_run_slot(world->pages, *run, i - begin)] = hash;
    }
    return CENTO_OK;
}

/* Claims and computes everything, with one node per cut, and lets it go again. */
static inline void world_keep(tree_world *world, uint32_t scope, const int32_t *tokens, uint32_t token_count,
                              const prefix_cut *cuts, size_t cut_count) {
    prefix_claim claim;
    ASSERT_OK(world_claim(world, scope, tokens, token_count, token_count, cuts, cut_count, &claim));
    assert_true(world_compute(world, scope, tokens, claim.leaf, token_count, true));
    world_check(world);
    prefix_tree_release(world->tree, claim.leaf);
    world_check(world);
}

static inline uint32_t world_matches(tree_world *world, uint32_t scope, const int32_t *tokens,
                                     uint32_t token_count) {
    digest scope_id = scope_of(scope);
    prefix_match match;
    prefix_tree_match(world->tree, &scope_id, tokens, token_count, &match);
    return match.tokens_ready;
}

static inline digest content_of(int32_t number) {
    static const uint8_t tokenizer[SHA256_BYTES] = {9};
    digest id;
    ASSERT_OK(content_id_of(tokenizer, &number, 1, &id, &error));
    return id;
}

/* A chunk with a reference. */
static inline context_chunk *world_chunk(tree_world *world, cento_kind kind, int32_t number) {
    digest id = content_of(number);
    context_chunk *chunk;
    ASSERT_OK(chunk_registry_acquire(world->registry, kind, &id, &number, 1, NULL, &chunk, NULL, &error));
    return chunk;
}

/* token i of stream `number`: never equal to a token of another stream */
static inline void fill_tokens(int32_t *tokens, uint32_t begin, uint32_t end, int32_t number) {
    for (uint32_t i = begin; i < end; i++)
        tokens[i] = number * 100000 + (int32_t)i;
}

#endif
