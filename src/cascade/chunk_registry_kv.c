/* KV of the registry: counters, references, eviction, sequences' runs, the check; see chunk_registry.h. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "chunk_registry_internal.h"

/* ------------------------------------------------------------------ accounts ---- */

static bool has_children(const chunk_kv *kv) {
    return kv->node != NULL && kv->node->below.child_count > 0;
}

/* Takes a registered KV into counters and queue, or out of them. */
void kv_account(chunk_registry *registry, chunk_kv *kv, bool present) {
    if (!kv->registered)
        return;
    uint32_t pages = kv->run->page_count;
    uint32_t sign = present ? 1 : UINT32_MAX; /* −1, modulo 2³² */
    if (present)
        registry->pages_by_kind[kv->kind] += pages;
    else
        registry->pages_by_kind[kv->kind] -= pages;
    if (kv->refs == 0)
        registry->pages_unused += sign * pages;
    if (!kv_is_held(kv))
        registry->pages_evictable += sign * pages;
    if (kv_is_held(kv) && kv->chunk != NULL) {
        kv->chunk->kvs_held += sign;
        chunk_requeue(registry, kv->chunk);
    }
    if (!present)
        eviction_queue_remove(&registry->kv_queue, &kv->eviction);
    else if (!kv_is_held(kv) && !has_children(kv))
        eviction_queue_add(&registry->kv_queue, &kv->eviction, eviction_order(kv->kind, kv->last_use));
}

cento_status kv_reserve(chunk_registry *registry, size_t count, cento_error *error) {
    return eviction_queue_reserve(&registry->kv_queue, registry->kv_count + count, error);
}

void kv_pin_path(chunk_registry *registry, chunk_kv *kv, bool pinned) {
    while (kv != NULL) {
        kv_account(registry, kv, false);
        kv->pins += pinned ? 1 : UINT32_MAX;
        kv_account(registry, kv, true);
        kv = kv->node != NULL && kv->node->parent != NULL ? &kv->node->parent->kv : NULL;
    }
}

void kv_join_chunk(chunk_registry *registry, chunk_kv *kv, context_chunk *chunk) {
    assert(kv->chunk == NULL);
    if (chunk == NULL)
        return;
    kv_account(registry, kv, false);
    kv->chunk = chunk;
    kv->previous_of_chunk = NULL;
    kv->next_of_chunk = chunk->kvs;
    if (chunk->kvs != NULL)
        chunk->kvs->previous_of_chunk = kv;
    chunk->kvs = kv;
    kv_account(registry, kv, true);
    if (chunk->pins > 0)
        kv_pin_path(registry, kv, true);
}

static void leave_chunk(chunk_registry *registry, chunk_kv *kv) {
    context_chunk *chunk = kv->chunk;
    if (chunk == NULL)
        return;
    if (chunk->pins > 0)
        kv_pin_path(registry, kv, false);
    kv_account(registry, kv, false);
    if (kv->previous_of_chunk != NULL)
        kv->previous_of_chunk->next_of_chunk = kv->next_of_chunk;
    else
        chunk->kvs = kv->next_of_chunk;
    if (kv->next_of_chunk != NULL)
        kv->next_of_chunk->previous_of_chunk = kv->previous_of_chunk;
    kv->next_of_chunk = kv->previous_of_chunk = NULL;
    kv->chunk = NULL;
    kv_account(registry, kv, true);
}

void kv_register(chunk_registry *registry, chunk_kv *kv, context_chunk *chunk) {
    kv->registered = true;
    kv->last_use = ++registry->tick;
    registry->kv_count++;
    kv_account(registry, kv, true);
    kv_join_chunk(registry, kv, chunk);
}

void kv_unregister(chunk_registry *registry, chunk_kv *kv) {
    leave_chunk(registry, kv);
    kv_account(registry, kv, false);
    kv->registered = false;
    registry->kv_count--;
    if (kv->refs > 0) {
        registry->detached_count++;
        registry->detached_pages += kv->run->page_count;
    }
}

void kv_set_kind(chunk_registry *registry, chunk_kv *kv, cento_kind kind) {
    kv_account(registry, kv, false);
    kv->kind = kind;
    kv_account(registry, kv, true);
}

void kv_touch(chunk_registry *registry, chunk_kv *kv) {
    if (kv->refs == 0)
        kv_account(registry, kv, false);
    kv->last_use = ++registry->tick;
    if (kv->refs == 0)
        kv_account(registry, kv, true);
}

void kv_add_ref(chunk_registry *registry, chunk_kv *kv) {
    if (kv->refs == 0)
        kv_account(registry, kv, false);
    if (kv->refs++ == 0)
        kv_account(registry, kv, true);
}

bool kv_drop_ref(chunk_registry *registry, chunk_kv *kv) {
    assert(kv->refs > 0);
    if (kv->refs > 1) {
        kv->refs--;
        return false;
    }
    kv_account(registry, kv, false);
    kv->refs = 0;
    kv_account(registry, kv, true);
    if (!kv->registered) {
        registry->detached_count--;
        registry->detached_pages -= kv->run->page_count;
    }
    return true;
}

static void kv_destroy(chunk_registry *registry, chunk_kv *kv) {
    page_manager_release(registry->pages, kv->run);
    mem_free(kv);
}

void kv_remove(chunk_registry *registry, chunk_kv *kv) {
    if (kv->node != NULL) {
        prefix_node_remove(registry->tree, kv->node);
        return;
    }
    digest_map_remove(&registry->kvs, kv->kv_id.bytes);
    kv_unregister(registry, kv);
    if (kv->refs == 0)
        kv_destroy(registry, kv);
}

/* ------------------------------------------------------------------ eviction ---- */

static chunk_kv *first_kv(const chunk_registry *registry) {
    eviction_entry *entry = eviction_queue_first(&registry->kv_queue);
    return entry == NULL ? NULL : (chunk_kv *)((char *)entry - offsetof(chunk_kv, eviction));
}

void evict_first(chunk_registry *registry) {
    kv_remove(registry, first_kv(registry));
}

void limit_bytes(chunk_registry *registry) {
    const chunk_registry_options *options = &registry->options;
    while (options->chunk_bytes_max > 0 && first_kv(registry) != NULL &&
           registry->pages_evictable * options->page_bytes > options->chunk_bytes_max) {
        evict_first(registry);
        registry->counted.evictions++;
    }
}

/* Pages that may be evicted for one side. */
static uint32_t pages_evictable_for(const chunk_registry *registry, page_state side, bool alone) {
    if (side == PAGE_CHUNK || (alone && registry->pages->borrow))
        return registry->pages_evictable;
    uint32_t excess = page_manager_excess(registry->pages, PAGE_CHUNK);
    return registry->pages_evictable < excess ? registry->pages_evictable : excess;
}

/* Pages that one side may take after evicting what may be evicted for it. */
static uint32_t pages_obtainable(const chunk_registry *registry, page_state side, bool alone) {
    const page_manager *pages = registry->pages;
    uint32_t evictable = pages_evictable_for(registry, side, alone);
    uint32_t obtainable = pages->counts[PAGE_FREE] + evictable;
    if (pages->borrow)
        return obtainable;
    uint32_t kept = pages->counts[side] - (side == PAGE_CHUNK ? evictable : 0);
    uint32_t left = kept < pages->shares[side] ? pages->shares[side] - kept : 0;
    return left < obtainable ? left : obtainable;
}

static cento_status refuse_pages(const chunk_registry *registry, page_state side, uint32_t page_count,
                                 uint32_t obtainable, cento_error *error) {
    const page_manager *pages = registry->pages;
    uint32_t unused = registry->pages_evictable;
    return error_set(
        error, CENTO_POOL_FULL,
        "%u KV pages of %u tokens are needed, %u can be had; of the pool's %u, %u are free, "
        "sequences hold %u (their share is %u), chunks and prefixes %u (%u), %u of these in use or "
        "pinned; %s",
        page_count, pages->page_tokens, obtainable, pages->page_count, pages->counts[PAGE_FREE],
        pages->counts[PAGE_SEQUENCE], pages->shares[PAGE_SEQUENCE], pages->counts[PAGE_CHUNK],
        pages->shares[PAGE_CHUNK], pages->counts[PAGE_CHUNK] - unused,
        !pages->borrow       ? "shares are fixed"
        : side == PAGE_CHUNK ? "they are for a chunk or prefix"
                             : "they are for a sequence");
}

cento_status make_room(chunk_registry *registry, page_state side, uint32_t page_count, bool alone,
                       cento_error *error) {
    if (page_count <= page_manager_available(registry->pages, side))
        return CENTO_OK;
    uint32_t obtainable = pages_obtainable(registry, side, alone);
    if (page_count > obtainable)
        return refuse_pages(registry, side, page_count, obtainable, error);
    while (page_count > page_manager_available(registry->pages, side)) {
        evict_first(registry);
        registry->counted.evictions++;
    }
    return CENTO_OK;
}

cento_status make_share(chunk_registry *registry, uint32_t page_count, cento_error *error) {
    const page_manager *pages = registry->pages;
    if (pages->borrow)
        return CENTO_OK;
    uint32_t share = pages->shares[PAGE_CHUNK];
    uint32_t held = pages->counts[PAGE_CHUNK] - registry->pages_evictable;
    if (page_count > share || held > share - page_count)
        return refuse_pages(registry, PAGE_CHUNK, page_count, held < share ? share - held : 0, error);
    while (pages->counts[PAGE_CHUNK] + page_count > share) {
        evict_first(registry);
        registry->counted.evictions++;
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ KV by id ---- */

chunk_kv *chunk_registry_kv_find(chunk_registry *registry, const digest *kv_id) {
    registry_lock(registry);
    chunk_kv *kv = digest_map_get(&registry->kvs, kv_id->bytes);
    if (kv != NULL) {
        kv_add_ref(registry, kv);
        registry->counted.kv_hits++;
    } else {
        registry->counted.kv_misses++;
    }
    registry_unlock(registry);
    return kv;
}

bool chunk_registry_kv_peek(chunk_registry *registry, const digest *kv_id, uint32_t *tokens_ready) {
    registry_lock(registry);
    const chunk_kv *kv = digest_map_get(&registry->kvs, kv_id->bytes);
    if (kv != NULL)
        *tokens_ready = kv->tokens_ready;
    registry_unlock(registry);
    return kv != NULL;
}

/* `wanted` without what the registry sets; its run is the registry's on success. */
static cento_status add_kv(chunk_registry *registry, const chunk_kv *wanted, context_chunk *chunk,
                           chunk_kv **result, cento_error *error) {
    TRY(kv_reserve(registry, 1, error));
    chunk_kv *kv = mem_alloc(1, sizeof *kv);
    if (kv == NULL)
        return error_memory(error, sizeof *kv);
    *kv = *wanted;
    cento_status status = digest_map_add(&registry->kvs, kv->kv_id.bytes, kv, error);
    if (status != CENTO_OK) {
        mem_free(kv);
        return status;
    }
    page_manager_set_owner(registry->pages, kv->run, PAGE_CHUNK);
    kv_register(registry, kv, chunk_current(registry, chunk));
    *result = kv;
    return CENTO_OK;
}

static cento_status create_kv(chunk_registry *registry, chunk_kv *wanted, context_chunk *chunk, chunk_kv **kv,
                              cento_error *error) {
    uint32_t page_count = page_manager_pages_for(registry->pages, wanted->tokens);
    assert(digest_map_get(&registry->kvs, wanted->kv_id.bytes) == NULL);
    TRY(make_room(registry, PAGE_CHUNK, page_count, false, error));
    TRY(page_manager_acquire(registry->pages, PAGE_CHUNK, page_count, &wanted->run, error));
    cento_status status = add_kv(registry, wanted, chunk, kv, error);
    if (status != CENTO_OK)
        page_manager_release(registry->pages, wanted->run);
    return status;
}

cento_status chunk_registry_kv_create(chunk_registry *registry, const digest *kv_id, context_chunk *chunk,
                                      cento_kind kind, uint32_t tokens, uint32_t position, chunk_kv **kv,
                                      cento_error *error) {
    chunk_kv wanted = {.kv_id = *kv_id, .kind = kind, .refs = 1, .tokens = tokens, .position = position};
    registry_lock(registry);
    cento_status status = create_kv(registry, &wanted, chunk, kv, error);
    registry_unlock(registry);
    return status;
}

cento_status chunk_registry_kv_adopt(chunk_registry *registry, const digest *kv_id, context_chunk *chunk,
                                     cento_kind kind, page_run *run, uint32_t tokens, uint32_t tokens_ready,
                                     uint32_t position, cento_error *error) {
    assert(tokens_ready <= tokens && run->owner == PAGE_SEQUENCE);
    const chunk_kv wanted = {.kv_id = *kv_id,
                             .kind = kind,
                             .run = run,
                             .tokens = tokens,
                             .tokens_ready = tokens_ready,
                             .tokens_scheduled = tokens_ready,
                             .position = position};
    chunk_kv *kv;
    registry_lock(registry);
    assert(page_manager_pages_for(registry->pages, tokens) <= run->page_count);
    cento_status status = CENTO_OK;
    if (digest_map_get(&registry->kvs, kv_id->bytes) != NULL)
        status = error_set(error, CENTO_INVALID_ARGUMENT, "this KV is there already");
    if (status == CENTO_OK)
        status = make_share(registry, run->page_count, error);
    if (status == CENTO_OK)
        status = add_kv(registry, &wanted, chunk, &kv, error);
    if (status == CENTO_OK)
        limit_bytes(registry);
    registry_unlock(registry);
    return status;
}

void chunk_registry_kv_release(chunk_registry *registry, chunk_kv *kv) {
    if (kv == NULL)
        return;
    assert(kv->node == NULL);
    registry_lock(registry);
    kv->last_use = ++registry->tick;
    if (kv_drop_ref(registry, kv)) {
        if (!kv->registered)
            kv_destroy(registry, kv);
        else if (kv->tokens_ready == 0)
            kv_remove(registry, kv);
        limit_bytes(registry);
    }
    registry_unlock(registry);
}

void chunk_registry_kv_computed(chunk_registry *registry, chunk_kv *kv, bool succeeded) {
    pthread_mutex_lock(&registry->lock);
    assert(kv->tokens_ready <= kv->tokens_scheduled && kv->tokens_scheduled <= kv->tokens);
    if (succeeded)
        kv->tokens_ready = kv->tokens_scheduled;
    else
        kv->tokens_scheduled = kv->tokens_ready;
    pthread_mutex_unlock(&registry->lock);
}

/* ------------------------------------------------------------------ sequences' runs ---- */

cento_status chunk_registry_run_create(chunk_registry *registry, page_run **run, cento_error *error) {
    registry_lock(registry);
    cento_status status = page_manager_acquire(registry->pages, PAGE_SEQUENCE, 0, run, error);
    registry_unlock(registry);
    return status;
}

static cento_status grow_run(chunk_registry *registry, page_run *run, uint32_t page_count, bool alone,
                             cento_error *error) {
    registry_lock(registry);
    cento_status status = make_room(registry, PAGE_SEQUENCE, page_count, alone, error);
    if (status == CENTO_OK)
        status = page_manager_extend(registry->pages, run, page_count, error);
    registry_unlock(registry);
    return status;
}

cento_status chunk_registry_run_grow(chunk_registry *registry, page_run *run, uint32_t page_count,
                                     cento_error *error) {
    return grow_run(registry, run, page_count, false, error);
}

cento_status chunk_registry_run_grow_alone(chunk_registry *registry, page_run *run, uint32_t page_count,
                                           cento_error *error) {
    return grow_run(registry, run, page_count, true, error);
}

void chunk_registry_run_release(chunk_registry *registry, page_run *run) {
    registry_lock(registry);
    page_manager_release(registry->pages, run);
    registry_unlock(registry);
}

uint32_t chunk_registry_pages_available(chunk_registry *registry, page_state side) {
    registry_lock(registry);
    uint32_t page_count = pages_obtainable(registry, side, false);
    registry_unlock(registry);
    return page_count;
}

uint32_t chunk_registry_pages_used(chunk_registry *registry, page_state side) {
    registry_lock(registry);
    uint32_t page_count = registry->pages->counts[side] - (side == PAGE_CHUNK ? registry->pages_unused : 0);
    registry_unlock(registry);
    return page_count;
}

/* ------------------------------------------------------------------ invariants ---- */

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return error_set(error, CENTO_INTERNAL, "chunk_registry: not so: %s", #condition);               \
    } while (0)

cento_status kv_check(const chunk_registry *registry, const chunk_kv *kv, bool children, registry_sums *sums,
                      cento_error *error) {
    CHECK(kv->registered && kv->run != NULL && kv->run->owner == PAGE_CHUNK);
    CHECK(kv->tokens_ready <= kv->tokens_scheduled && kv->tokens_scheduled <= kv->tokens);
    CHECK(kv->tokens_ready > 0 || kv->refs > 0);
    CHECK(page_manager_pages_for(registry->pages, kv->tokens) <= kv->run->page_count);
    CHECK(kv->chunk == NULL || kv->chunk->registered);
    CHECK(kv->previous_of_chunk == NULL || kv->previous_of_chunk->next_of_chunk == kv);
    CHECK(kv->chunk == NULL || kv->previous_of_chunk != NULL || kv->chunk->kvs == kv);
    CHECK(kv->last_use <= registry->tick);
    bool queued = !kv_is_held(kv) && !children;
    CHECK(queued == (kv->eviction.place != 0));
    CHECK(!queued || kv->eviction.order == eviction_order(kv->kind, kv->last_use));
    sums->kv_count++;
    sums->queued += queued;
    sums->pages += kv->run->page_count;
    sums->pages_by_kind[kv->kind] += kv->run->page_count;
    sums->pages_unused += kv->refs == 0 ? kv->run->page_count : 0;
    sums->pages_evictable += kv_is_held(kv) ? 0 : kv->run->page_count;
    return CENTO_OK;
}

static cento_status check_chunks(const chunk_registry *registry, cento_error *error) {
    size_t chunk_count = 0, queued_count = 0;
    uint64_t token_count = 0;
    const context_chunk *previous = NULL;
    for (const context_chunk *chunk = registry->all_chunks; chunk != NULL;
         previous = chunk, chunk = chunk->next) {
        CHECK(chunk->previous == previous && chunk->registered);
        CHECK(digest_map_get(&registry->chunks, chunk->content_id.bytes) == chunk);
        uint32_t held = 0;
        for (const chunk_kv *kv = chunk->kvs; kv != NULL; kv = kv->next_of_chunk) {
            CHECK(kv->chunk == chunk && kv->registered);
            CHECK(kv->pins > 0 || chunk->pins == 0);
            held += kv_is_held(kv);
        }
        CHECK(held == chunk->kvs_held);
        bool queued = chunk->refs == 0 && chunk->pins == 0 && held == 0;
        CHECK(queued == (chunk->eviction.place != 0));
        CHECK(!queued || chunk->eviction.order == eviction_order(chunk->kind, chunk->last_use));
        CHECK(chunk->expires_ns == 0 || chunk->pins > 0 || registry->next_expiry_ns <= chunk->expires_ns);
        queued_count += queued;
        token_count += chunk->token_count;
        chunk_count++;
    }
    CHECK(chunk_count == registry->chunks.count && chunk_count <= registry->options.chunks_max);
    CHECK(queued_count == registry->chunk_queue.count && eviction_queue_is_whole(&registry->chunk_queue));
    CHECK(token_count == registry->chunk_tokens);
    return CENTO_OK;
}

cento_status check_locked(chunk_registry *registry, cento_error *error) {
    const page_manager *pages = registry->pages;
    TRY(page_manager_check(pages, error));
    TRY(check_chunks(registry, error));
    registry_sums sums = {0};
    size_t found = 0;
    for (size_t slot = 0; slot < registry->kvs.capacity; slot++) {
        const chunk_kv *kv = registry->kvs.slots[slot].value;
        if (kv == NULL)
            continue;
        CHECK(kv->node == NULL && digest_map_get(&registry->kvs, kv->kv_id.bytes) == kv);
        CHECK(kv->pins == (kv->chunk != NULL && kv->chunk->pins > 0));
        TRY(kv_check(registry, kv, false, &sums, error));
        found++;
    }
    CHECK(found == registry->kvs.count);
    if (registry->tree != NULL)
        TRY(prefix_tree_check_locked(registry->tree, &sums, error));
    CHECK(sums.kv_count == registry->kv_count);
    CHECK(sums.queued == registry->kv_queue.count && eviction_queue_is_whole(&registry->kv_queue));
    CHECK(memcmp(sums.pages_by_kind, registry->pages_by_kind, sizeof sums.pages_by_kind) == 0);
    CHECK(sums.pages_unused == registry->pages_unused);
    CHECK(sums.pages_evictable == registry->pages_evictable);
    CHECK(sums.pages + registry->detached_pages == pages->counts[PAGE_CHUNK]);
    CHECK(pages->borrow ||
          page_manager_excess(pages, PAGE_CHUNK) + page_manager_excess(pages, PAGE_SEQUENCE) == 0);
    uint64_t bytes_max = registry->options.chunk_bytes_max;
    CHECK(bytes_max == 0 || registry->pages_evictable * registry->options.page_bytes <= bytes_max);
    return CENTO_OK;
}

cento_status chunk_registry_check(chunk_registry *registry, cento_error *error) {
    pthread_mutex_lock(&registry->lock);
    cento_status status = check_locked(registry, error);
    pthread_mutex_unlock(&registry->lock);
    return status;
}
