/* Tables, use order and eviction; see chunk_registry.h. */
#include "chunk_registry.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

/* 0 goes first */
static uint32_t priority_of(cento_kind kind) {
    switch (kind) {
    case CENTO_KIND_SYSTEM:
    case CENTO_KIND_TOOL:
        return 2;
    case CENTO_KIND_CONTEXT:
        return 1;
    case CENTO_KIND_QUERY:
    case CENTO_KIND_OUTPUT:
        break;
    }
    return 0;
}

/* ------------------------------------------------------------------ use order ---- */

/* The two lists are the same but for the element's type. */
#define LIST_ADD(list, item)                                                                                 \
    do {                                                                                                     \
        (item)->newer = NULL;                                                                                \
        (item)->older = (list)->newest;                                                                      \
        if ((list)->newest != NULL)                                                                          \
            (list)->newest->newer = (item);                                                                  \
        else                                                                                                 \
            (list)->oldest = (item);                                                                         \
        (list)->newest = (item);                                                                             \
    } while (0)

#define LIST_REMOVE(list, item)                                                                              \
    do {                                                                                                     \
        if ((item)->newer != NULL)                                                                           \
            (item)->newer->older = (item)->older;                                                            \
        else                                                                                                 \
            (list)->newest = (item)->older;                                                                  \
        if ((item)->older != NULL)                                                                           \
            (item)->older->newer = (item)->newer;                                                            \
        else                                                                                                 \
            (list)->oldest = (item)->newer;                                                                  \
        (item)->newer = (item)->older = NULL;                                                                \
    } while (0)

static void chunk_list_add(chunk_registry *registry, context_chunk *chunk) {
    chunk->last_use = ++registry->tick;
    LIST_ADD(&registry->chunks_by_use[priority_of(chunk->kind)], chunk);
}

static void chunk_list_remove(chunk_registry *registry, context_chunk *chunk) {
    LIST_REMOVE(&registry->chunks_by_use[priority_of(chunk->kind)], chunk);
}

static void kv_list_add(chunk_registry *registry, chunk_kv *kv) {
    kv->last_use = ++registry->tick;
    LIST_ADD(&registry->kvs_by_use[priority_of(kv->kind)], kv);
}

static void kv_list_remove(chunk_registry *registry, chunk_kv *kv) {
    LIST_REMOVE(&registry->kvs_by_use[priority_of(kv->kind)], kv);
}

/* ------------------------------------------------------------------ life ---- */

cento_status chunk_registry_create(page_manager *pages, uint32_t chunks_max, chunk_registry **result,
                                   cento_error *error) {
    chunk_registry *registry = mem_zalloc(1, sizeof *registry);
    if (registry == NULL)
        return error_memory(error, sizeof *registry);
    registry->pages = pages;
    registry->chunks_max = chunks_max;
    *result = registry;
    return CENTO_OK;
}

static void kv_destroy(chunk_registry *registry, chunk_kv *kv) {
    page_manager_release(registry->pages, kv->run);
    mem_free(kv);
}

/* Out of the tables; freed now if nobody uses it, else by the last release. */
static void kv_unregister(chunk_registry *registry, chunk_kv *kv) {
    assert(kv->registered);
    digest_map_remove(&registry->kvs, kv->kv_id.bytes);
    kv_list_remove(registry, kv);
    registry->kv_count--;
    if (kv->chunk != NULL) {
        chunk_kv **link = &kv->chunk->kvs;
        while (*link != kv)
            link = &(*link)->next_of_chunk;
        *link = kv->next_of_chunk;
    }
    kv->registered = false;
    kv->chunk = NULL;
    kv->next_of_chunk = NULL;
    if (chunk_kv_in_use(kv))
        registry->detached_count++;
    else
        kv_destroy(registry, kv);
}

static void chunk_destroy(context_chunk *chunk) {
    mem_free(chunk->tokens);
    mem_free(chunk);
}

void chunk_registry_remove(chunk_registry *registry, context_chunk *chunk) {
    assert(chunk->registered);
    while (chunk->kvs != NULL)
        kv_unregister(registry, chunk->kvs);
    digest_map_remove(&registry->chunks, chunk->content_id.bytes);
    chunk_list_remove(registry, chunk);
    registry->chunk_count--;
    chunk->registered = false;
    if (chunk->refs > 0)
        registry->detached_count++;
    else
        chunk_destroy(chunk);
}

void chunk_registry_free(chunk_registry *registry) {
    if (registry == NULL)
        return;
    for (uint32_t priority = 0; priority < CHUNK_PRIORITIES; priority++) {
        while (registry->chunks_by_use[priority].newest != NULL)
            chunk_registry_remove(registry, registry->chunks_by_use[priority].newest);
        while (registry->kvs_by_use[priority].newest != NULL) /* template text */
            kv_unregister(registry, registry->kvs_by_use[priority].newest);
    }
    assert(registry->detached_count == 0);
    digest_map_free(&registry->chunks);
    digest_map_free(&registry->kvs);
    mem_free(registry);
}

/* ------------------------------------------------------------------ chunks ---- */

static bool chunk_in_use(const context_chunk *chunk) {
    if (chunk->refs > 0)
        return true;
    for (const chunk_kv *kv = chunk->kvs; kv != NULL; kv = kv->next_of_chunk) {
        if (chunk_kv_in_use(kv))
            return true;
    }
    return false;
}

static bool evict_one_chunk(chunk_registry *registry) {
    for (uint32_t priority = 0; priority < CHUNK_PRIORITIES; priority++) {
        for (context_chunk *chunk = registry->chunks_by_use[priority].oldest; chunk != NULL;
             chunk = chunk->newer) {
            if (chunk_in_use(chunk))
                continue;
            chunk_registry_remove(registry, chunk);
            registry->evictions++;
            return true;
        }
    }
    return false;
}

/* At most `bytes` bytes of text, not ending inside a UTF-8 character. */
static void copy_label(char *label, size_t capacity, const char *text) {
    size_t bytes = strlen(text);
    if (bytes >= capacity) {
        bytes = capacity - 1;
        while (bytes > 0 && ((unsigned char)text[bytes] & 0xC0) == 0x80)
            bytes--;
    }
    memcpy(label, text, bytes);
    label[bytes] = '\0';
}

static cento_status chunk_create(cento_kind kind, const digest *content_id, const int32_t *tokens,
                                 uint32_t token_count, context_chunk **result, cento_error *error) {
    context_chunk *chunk = mem_zalloc(1, sizeof *chunk);
    int32_t *copy = mem_alloc(token_count, sizeof *copy);
    if (chunk == NULL || copy == NULL) {
        mem_free(chunk);
        mem_free(copy);
        return error_memory(error, sizeof *chunk + token_count * sizeof *copy);
    }
    if (token_count > 0)
        memcpy(copy, tokens, token_count * sizeof *copy);
    chunk->content_id = *content_id;
    chunk->kind = kind;
    chunk->tokens = copy;
    chunk->token_count = token_count;
    chunk->registered = true;
    chunk->created_ns = clock_now_ns();
    *result = chunk;
    return CENTO_OK;
}

cento_status chunk_registry_acquire(chunk_registry *registry, cento_kind kind, const digest *content_id,
                                    const int32_t *tokens, uint32_t token_count, const char *label,
                                    context_chunk **result, bool *known, cento_error *error) {
    context_chunk *chunk = chunk_registry_find(registry, content_id);
    if (known != NULL)
        *known = chunk != NULL;
    if (chunk == NULL) {
        if (registry->chunk_count >= registry->chunks_max && !evict_one_chunk(registry))
            return error_set(error, CENTO_POOL_FULL, "all %u chunks that the registry may hold are in use",
                             registry->chunks_max);
        TRY(chunk_create(kind, content_id, tokens, token_count, &chunk, error));
        cento_status status = digest_map_add(&registry->chunks, chunk->content_id.bytes, chunk, error);
        if (status != CENTO_OK) {
            chunk_destroy(chunk);
            return status;
        }
        registry->chunk_count++;
        chunk_list_add(registry, chunk);
    } else if (priority_of(kind) > priority_of(chunk->kind)) {
        chunk_list_remove(registry, chunk);
        chunk->kind = kind;
        chunk_list_add(registry, chunk);
    }
    if (label != NULL && chunk->label[0] == '\0')
        copy_label(chunk->label, sizeof chunk->label, label);
    chunk->refs++;
    *result = chunk;
    return CENTO_OK;
}

void chunk_registry_release(chunk_registry *registry, context_chunk *chunk) {
    if (chunk == NULL)
        return;
    assert(chunk->refs > 0);
    if (--chunk->refs > 0 || chunk->registered)
        return;
    registry->detached_count--;
    chunk_destroy(chunk);
}

void chunk_registry_touch(chunk_registry *registry, context_chunk *chunk) {
    chunk->uses++;
    if (!chunk->registered)
        return;
    chunk_list_remove(registry, chunk);
    chunk_list_add(registry, chunk);
}

context_chunk *chunk_registry_find(const chunk_registry *registry, const digest *content_id) {
    return digest_map_get(&registry->chunks, content_id->bytes);
}

/* ------------------------------------------------------------------ KV ---- */

chunk_kv *chunk_registry_kv_find(chunk_registry *registry, const digest *kv_id) {
    chunk_kv *kv = digest_map_get(&registry->kvs, kv_id->bytes);
    if (kv == NULL) {
        registry->misses++;
        return NULL;
    }
    registry->hits++;
    kv->uses++;
    kv_list_remove(registry, kv);
    kv_list_add(registry, kv);
    page_manager_retain(kv->run);
    return kv;
}

chunk_kv *chunk_registry_kv_peek(const chunk_registry *registry, const digest *kv_id) {
    return digest_map_get(&registry->kvs, kv_id->bytes);
}

cento_status chunk_registry_kv_adopt(chunk_registry *registry, const digest *kv_id, context_chunk *chunk,
                                     cento_kind kind, page_run *run, uint32_t tokens, uint32_t tokens_ready,
                                     uint32_t position, cento_error *error) {
    assert(tokens_ready <= tokens);
    assert(page_manager_pages_for(registry->pages, tokens) <= run->page_count);
    assert(chunk == NULL || chunk->registered);
    chunk_kv *kv = mem_zalloc(1, sizeof *kv);
    if (kv == NULL)
        return error_memory(error, sizeof *kv);
    *kv = (chunk_kv){.kv_id = *kv_id,
                     .chunk = chunk,
                     .kind = kind,
                     .run = run,
                     .tokens = tokens,
                     .tokens_ready = tokens_ready,
                     .position = position,
                     .registered = true,
                     .uses = 1};
    cento_status status = digest_map_add(&registry->kvs, kv->kv_id.bytes, kv, error);
    if (status != CENTO_OK) {
        mem_free(kv);
        return status;
    }
    page_manager_set_owner(registry->pages, run, PAGE_CHUNK);
    if (chunk != NULL) {
        kv->next_of_chunk = chunk->kvs;
        chunk->kvs = kv;
    }
    registry->kv_count++;
    kv_list_add(registry, kv);
    return CENTO_OK;
}

cento_status chunk_registry_kv_create(chunk_registry *registry, const digest *kv_id, context_chunk *chunk,
                                      cento_kind kind, uint32_t tokens, uint32_t position, chunk_kv **kv,
                                      cento_error *error) {
    uint32_t page_count = page_manager_pages_for(registry->pages, tokens);
    TRY(chunk_registry_make_room(registry, page_count, error));
    page_run *run;
    TRY(page_manager_acquire(registry->pages, PAGE_CHUNK, page_count, &run, error));
    cento_status status =
        chunk_registry_kv_adopt(registry, kv_id, chunk, kind, run, tokens, 0, position, error);
    if (status != CENTO_OK) {
        page_manager_release(registry->pages, run);
        return status;
    }
    page_manager_retain(run);
    *kv = digest_map_get(&registry->kvs, kv_id->bytes);
    return CENTO_OK;
}

void chunk_registry_kv_release(chunk_registry *registry, chunk_kv *kv) {
    if (kv == NULL)
        return;
    assert(chunk_kv_in_use(kv));
    page_manager_release(registry->pages, kv->run);
    if (chunk_kv_in_use(kv))
        return;
    if (!kv->registered) {
        registry->detached_count--;
        kv_destroy(registry, kv);
    } else if (kv->tokens_ready == 0) {
        kv_unregister(registry, kv);
    }
}

/* Pages that come free if all KV that nobody uses is evicted. */
static uint32_t pages_evictable(const chunk_registry *registry) {
    uint32_t page_count = 0;
    for (uint32_t priority = 0; priority < CHUNK_PRIORITIES; priority++) {
        for (const chunk_kv *kv = registry->kvs_by_use[priority].oldest; kv != NULL; kv = kv->newer)
            page_count += chunk_kv_in_use(kv) ? 0 : kv->run->page_count;
    }
    return page_count;
}

cento_status chunk_registry_make_room(chunk_registry *registry, uint32_t page_count, cento_error *error) {
    const uint32_t *free_pages = &registry->pages->counts[PAGE_FREE];
    if (page_count <= *free_pages)
        return CENTO_OK;
    uint32_t evictable = pages_evictable(registry);
    if (page_count > *free_pages + evictable)
        return error_set(
            error, CENTO_POOL_FULL,
            "%u KV pages of %u tokens are needed; of the pool's %u, %u are free and %u could be freed",
            page_count, registry->pages->page_tokens, registry->pages->page_count, *free_pages, evictable);
    for (uint32_t priority = 0; priority < CHUNK_PRIORITIES; priority++) {
        chunk_kv *kv = registry->kvs_by_use[priority].oldest;
        while (kv != NULL && page_count > *free_pages) {
            chunk_kv *newer = kv->newer;
            if (!chunk_kv_in_use(kv)) {
                kv_unregister(registry, kv);
                registry->evictions++;
            }
            kv = newer;
        }
    }
    assert(page_count <= *free_pages);
    return CENTO_OK;
}

/* ------------------------------------------------------------------ invariants ---- */

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return error_set(error, CENTO_INTERNAL, "chunk_registry: not so: %s", #condition);               \
    } while (0)

static cento_status check_chunks(const chunk_registry *registry, cento_error *error) {
    uint32_t chunk_count = 0, kv_count = 0;
    for (uint32_t priority = 0; priority < CHUNK_PRIORITIES; priority++) {
        const context_chunk *newer = NULL;
        for (const context_chunk *chunk = registry->chunks_by_use[priority].newest; chunk != NULL;
             newer = chunk, chunk = chunk->older) {
            CHECK(chunk->newer == newer);
            CHECK(newer == NULL || newer->last_use > chunk->last_use);
            CHECK(chunk->registered && priority_of(chunk->kind) == priority);
            CHECK(chunk_registry_find(registry, &chunk->content_id) == chunk);
            chunk_count++;
            for (const chunk_kv *kv = chunk->kvs; kv != NULL; kv = kv->next_of_chunk) {
                CHECK(kv->chunk == chunk && kv->registered);
                kv_count++;
            }
        }
        CHECK(registry->chunks_by_use[priority].oldest == newer);
    }
    CHECK(chunk_count == registry->chunk_count && chunk_count == registry->chunks.count);
    CHECK(chunk_count <= registry->chunks_max);
    CHECK(kv_count <= registry->kv_count);
    return CENTO_OK;
}

cento_status chunk_registry_check(const chunk_registry *registry, cento_error *error) {
    TRY(page_manager_check(registry->pages, error));
    TRY(check_chunks(registry, error));
    uint32_t kv_count = 0, page_count = 0;
    for (uint32_t priority = 0; priority < CHUNK_PRIORITIES; priority++) {
        const chunk_kv *newer = NULL;
        for (const chunk_kv *kv = registry->kvs_by_use[priority].newest; kv != NULL;
             newer = kv, kv = kv->older) {
            CHECK(kv->newer == newer);
            CHECK(newer == NULL || newer->last_use > kv->last_use);
            CHECK(kv->registered && priority_of(kv->kind) == priority);
            CHECK(digest_map_get(&registry->kvs, kv->kv_id.bytes) == kv);
            CHECK(kv->run->refs > 0 && kv->run->owner == PAGE_CHUNK);
            CHECK(kv->tokens_ready <= kv->tokens);
            CHECK(kv->tokens_ready > 0 || chunk_kv_in_use(kv));
            CHECK(page_manager_pages_for(registry->pages, kv->tokens) <= kv->run->page_count);
            kv_count++;
            page_count += kv->run->page_count;
        }
        CHECK(registry->kvs_by_use[priority].oldest == newer);
    }
    CHECK(kv_count == registry->kv_count && kv_count == registry->kvs.count);
    if (registry->detached_count == 0)
        CHECK(page_count == registry->pages->counts[PAGE_CHUNK]);
    return CENTO_OK;
}
