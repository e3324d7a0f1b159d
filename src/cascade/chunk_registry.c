/* Chunks: the table, pins, expiry, listing; see chunk_registry.h. KV is in chunk_registry_kv.c. */
#include "chunk_registry.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "chunk_registry_internal.h"

#define EVICTION_BATCH 16 /* a sixteenth of a full table goes at once */

uint32_t priority_of(cento_kind kind) {
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

static uint64_t now_ns(const chunk_registry *registry) {
    return registry->options.now_ns == NULL ? clock_now_ns()
                                            : registry->options.now_ns(registry->options.now_user);
}

/* ------------------------------------------------------------------ life ---- */

cento_status chunk_registry_create(page_manager *pages, const chunk_registry_options *options,
                                   chunk_registry **result, cento_error *error) {
    if (options->chunks_max == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "a registry of 0 chunks: expected 1 at least");
    chunk_registry *registry = mem_zalloc(1, sizeof *registry);
    if (registry == NULL)
        return error_memory(error, sizeof *registry);
    if (pthread_mutex_init(&registry->lock, NULL) != 0) {
        mem_free(registry);
        return error_memory(error, sizeof registry->lock);
    }
    registry->pages = pages;
    registry->options = *options;
    registry->next_expiry_ns = UINT64_MAX;
    *result = registry;
    return CENTO_OK;
}

void chunk_registry_free(chunk_registry *registry) {
    if (registry == NULL)
        return;
    assert(registry->tree == NULL);
    while (registry->all_chunks != NULL)
        chunk_unregister(registry, registry->all_chunks);
    for (size_t slot = 0; slot < registry->kvs.capacity; slot++) {
        while (registry->kvs.slots[slot].value != NULL) /* removal moves others here */
            kv_remove(registry, registry->kvs.slots[slot].value);
    }
    assert(registry->detached_count == 0 && registry->kv_count == 0);
    digest_map_free(&registry->chunks);
    digest_map_free(&registry->kvs);
    eviction_queue_free(&registry->chunk_queue);
    eviction_queue_free(&registry->kv_queue);
    pthread_mutex_destroy(&registry->lock);
    mem_free(registry);
}

page_manager *chunk_registry_pages(const chunk_registry *registry) {
    return registry->pages;
}

/* ------------------------------------------------------------------ expiry ---- */

static void expire(chunk_registry *registry) {
    if (registry->next_expiry_ns == UINT64_MAX)
        return;
    uint64_t now = now_ns(registry);
    if (now < registry->next_expiry_ns)
        return;
    registry->next_expiry_ns = UINT64_MAX;
    context_chunk *next;
    for (context_chunk *chunk = registry->all_chunks; chunk != NULL; chunk = next) {
        next = chunk->next;
        if (chunk->expires_ns == 0 || chunk->pins > 0)
            continue;
        if (chunk->expires_ns <= now) {
            chunk_unregister(registry, chunk);
            registry->counted.expirations++;
        } else if (chunk->expires_ns < registry->next_expiry_ns) {
            registry->next_expiry_ns = chunk->expires_ns;
        }
    }
}

void registry_lock(chunk_registry *registry) {
    pthread_mutex_lock(&registry->lock);
    expire(registry);
}

void registry_unlock(chunk_registry *registry) {
    pthread_mutex_unlock(&registry->lock);
}

void chunk_registry_expire(chunk_registry *registry) {
    registry_lock(registry);
    registry_unlock(registry);
}

/* ------------------------------------------------------------------ the table ---- */

static bool chunk_is_held(const context_chunk *chunk) {
    return chunk->refs > 0 || chunk->pins > 0 || chunk->kvs_held > 0;
}

void chunk_requeue(chunk_registry *registry, context_chunk *chunk) {
    uint64_t order = eviction_order(chunk->kind, chunk->last_use);
    bool wanted = chunk->registered && !chunk_is_held(chunk);
    if (chunk->eviction.place != 0 && wanted && chunk->eviction.order == order)
        return;
    eviction_queue_remove(&registry->chunk_queue, &chunk->eviction);
    if (wanted)
        eviction_queue_add(&registry->chunk_queue, &chunk->eviction, order);
}

context_chunk *chunk_current(const chunk_registry *registry, context_chunk *chunk) {
    if (chunk == NULL || chunk->registered)
        return chunk;
    return digest_map_get(&registry->chunks, chunk->content_id.bytes);
}

static void chunk_destroy(context_chunk *chunk) {
    mem_free(chunk->tokens);
    mem_free(chunk);
}

void chunk_unregister(chunk_registry *registry, context_chunk *chunk) {
    assert(chunk->registered);
    while (chunk->kvs != NULL)
        kv_remove(registry, chunk->kvs);
    digest_map_remove(&registry->chunks, chunk->content_id.bytes);
    if (chunk->previous != NULL)
        chunk->previous->next = chunk->next;
    else
        registry->all_chunks = chunk->next;
    if (chunk->next != NULL)
        chunk->next->previous = chunk->previous;
    chunk->next = chunk->previous = NULL;
    registry->chunk_tokens -= chunk->token_count;
    chunk->pins = 0;
    chunk->registered = false;
    chunk_requeue(registry, chunk);
    if (chunk->refs > 0)
        registry->detached_count++;
    else
        chunk_destroy(chunk);
}

static context_chunk *first_chunk(const chunk_registry *registry) {
    eviction_entry *entry = eviction_queue_first(&registry->chunk_queue);
    return entry == NULL ? NULL : (context_chunk *)((char *)entry - offsetof(context_chunk, eviction));
}

/* A batch of the table's least recently used chunks goes, so that the next ones find room at once. */
static cento_status make_room_in_table(chunk_registry *registry, cento_error *error) {
    uint32_t chunks_max = registry->options.chunks_max;
    if (registry->chunks.count < chunks_max)
        return CENTO_OK;
    if (first_chunk(registry) == NULL)
        return error_set(error, CENTO_POOL_FULL,
                         "all %u chunks that the registry may hold are in use or pinned", chunks_max);
    for (uint32_t i = 0; i < chunks_max / EVICTION_BATCH + 1 && first_chunk(registry) != NULL; i++) {
        chunk_unregister(registry, first_chunk(registry));
        registry->counted.evictions++;
    }
    return CENTO_OK;
}

/* At most `capacity` bytes with the NUL, not ending inside a UTF-8 character. */
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
    *result = chunk;
    return CENTO_OK;
}

static cento_status register_chunk(chunk_registry *registry, cento_kind kind, const digest *content_id,
                                   const int32_t *tokens, uint32_t token_count, context_chunk **result,
                                   cento_error *error) {
    TRY(make_room_in_table(registry, error));
    TRY(eviction_queue_reserve(&registry->chunk_queue, registry->chunks.count + 1, error));
    context_chunk *chunk = NULL;
    TRY(chunk_create(kind, content_id, tokens, token_count, &chunk, error));
    cento_status status = digest_map_add(&registry->chunks, chunk->content_id.bytes, chunk, error);
    if (status != CENTO_OK) {
        chunk_destroy(chunk);
        return status;
    }
    chunk->registered = true;
    chunk->created_ns = chunk->last_use_ns = now_ns(registry);
    chunk->last_use = ++registry->tick;
    chunk->next = registry->all_chunks;
    if (chunk->next != NULL)
        chunk->next->previous = chunk;
    registry->all_chunks = chunk;
    registry->chunk_tokens += token_count;
    *result = chunk;
    return CENTO_OK;
}

static void raise_kind(chunk_registry *registry, context_chunk *chunk, cento_kind kind) {
    if (priority_of(kind) <= priority_of(chunk->kind))
        return;
    chunk->kind = kind;
    for (chunk_kv *kv = chunk->kvs; kv != NULL; kv = kv->next_of_chunk) {
        if (priority_of(kind) > priority_of(kv->kind))
            kv_set_kind(registry, kv, kind);
    }
}

cento_status chunk_registry_acquire(chunk_registry *registry, cento_kind kind, const digest *content_id,
                                    const int32_t *tokens, uint32_t token_count, const char *label,
                                    context_chunk **result, bool *known, cento_error *error) {
    registry_lock(registry);
    context_chunk *chunk = digest_map_get(&registry->chunks, content_id->bytes);
    bool found = chunk != NULL;
    cento_status status = CENTO_OK;
    if (!found)
        status = register_chunk(registry, kind, content_id, tokens, token_count, &chunk, error);
    if (status == CENTO_OK) {
        raise_kind(registry, chunk, kind);
        if (label != NULL && chunk->label[0] == '\0')
            copy_label(chunk->label, sizeof chunk->label, label);
        chunk->refs++;
        chunk_requeue(registry, chunk);
        registry->counted.chunk_hits += found;
        registry->counted.chunk_misses += !found;
        *result = chunk;
        if (known != NULL)
            *known = found;
    }
    registry_unlock(registry);
    return status;
}

context_chunk *chunk_registry_get(chunk_registry *registry, const digest *content_id) {
    registry_lock(registry);
    context_chunk *chunk = digest_map_get(&registry->chunks, content_id->bytes);
    if (chunk != NULL) {
        chunk->refs++;
        chunk_requeue(registry, chunk);
    }
    registry_unlock(registry);
    return chunk;
}

context_chunk *chunk_registry_get_by_content(chunk_registry *registry, const uint8_t *tokenizer_fingerprint,
                                             const int32_t *tokens, uint32_t token_count) {
    digest content_id;
    if (content_id_of(tokenizer_fingerprint, tokens, token_count, &content_id, NULL) != CENTO_OK)
        return NULL;
    return chunk_registry_get(registry, &content_id);
}

void chunk_registry_release(chunk_registry *registry, context_chunk *chunk) {
    if (chunk == NULL)
        return;
    registry_lock(registry);
    assert(chunk->refs > 0);
    chunk->refs--;
    if (chunk->registered) {
        chunk_requeue(registry, chunk);
    } else if (chunk->refs == 0) {
        registry->detached_count--;
        chunk_destroy(chunk);
    }
    registry_unlock(registry);
}

void chunk_registry_touch(chunk_registry *registry, context_chunk *chunk) {
    registry_lock(registry);
    chunk->uses++;
    chunk->last_use_ns = now_ns(registry);
    chunk->last_use = ++registry->tick;
    chunk_requeue(registry, chunk);
    registry_unlock(registry);
}

/* ------------------------------------------------------------------ by id ---- */

static cento_status find_chunk(const chunk_registry *registry, const digest *content_id,
                               context_chunk **chunk, cento_error *error) {
    *chunk = digest_map_get(&registry->chunks, content_id->bytes);
    if (*chunk != NULL)
        return CENTO_OK;
    char hex[2 * SHA256_BYTES + 1];
    sha256_hex(content_id->bytes, hex);
    return error_set(error, CENTO_NOT_FOUND, "there is no chunk %s", hex);
}

static void set_pinned(chunk_registry *registry, context_chunk *chunk, bool pinned) {
    for (chunk_kv *kv = chunk->kvs; kv != NULL; kv = kv->next_of_chunk)
        kv_pin_path(registry, kv, pinned);
    chunk_requeue(registry, chunk);
}

cento_status chunk_registry_pin(chunk_registry *registry, const digest *content_id, cento_error *error) {
    context_chunk *chunk;
    registry_lock(registry);
    cento_status status = find_chunk(registry, content_id, &chunk, error);
    if (status == CENTO_OK && chunk->pins == UINT32_MAX)
        status = error_set(error, CENTO_INVALID_ARGUMENT, "the chunk is pinned %u times", chunk->pins);
    if (status == CENTO_OK && chunk->pins++ == 0)
        set_pinned(registry, chunk, true);
    registry_unlock(registry);
    return status;
}

static void expect_expiry(chunk_registry *registry, const context_chunk *chunk) {
    if (chunk->expires_ns != 0 && chunk->expires_ns < registry->next_expiry_ns)
        registry->next_expiry_ns = chunk->expires_ns;
}

cento_status chunk_registry_unpin(chunk_registry *registry, const digest *content_id, cento_error *error) {
    context_chunk *chunk;
    registry_lock(registry);
    cento_status status = find_chunk(registry, content_id, &chunk, error);
    if (status == CENTO_OK && chunk->pins == 0)
        status = error_set(error, CENTO_INVALID_ARGUMENT, "the chunk is not pinned");
    if (status == CENTO_OK && --chunk->pins == 0) {
        set_pinned(registry, chunk, false);
        expect_expiry(registry, chunk);
        limit_bytes(registry);
    }
    registry_unlock(registry);
    return status;
}

cento_status chunk_registry_set_ttl(chunk_registry *registry, const digest *content_id, uint64_t ttl_ns,
                                    cento_error *error) {
    context_chunk *chunk;
    registry_lock(registry);
    cento_status status = find_chunk(registry, content_id, &chunk, error);
    if (status == CENTO_OK) {
        uint64_t now = now_ns(registry);
        chunk->expires_ns = ttl_ns == 0 ? 0 : ttl_ns < UINT64_MAX - now ? now + ttl_ns : UINT64_MAX;
        expect_expiry(registry, chunk);
    }
    registry_unlock(registry);
    return status;
}

cento_status chunk_registry_remove(chunk_registry *registry, const digest *content_id, cento_error *error) {
    context_chunk *chunk;
    registry_lock(registry);
    cento_status status = find_chunk(registry, content_id, &chunk, error);
    if (status == CENTO_OK) {
        chunk_unregister(registry, chunk);
        limit_bytes(registry); /* what was pinned for its sake no longer is */
    }
    registry_unlock(registry);
    return status;
}

uint32_t chunk_registry_clear(chunk_registry *registry) {
    uint32_t removed = 0;
    registry_lock(registry);
    while (eviction_queue_first(&registry->kv_queue) != NULL)
        evict_first(registry);
    for (; first_chunk(registry) != NULL; removed++)
        chunk_unregister(registry, first_chunk(registry));
    registry_unlock(registry);
    return removed;
}

/* ------------------------------------------------------------------ what is known ---- */

static void describe(const chunk_registry *registry, const context_chunk *chunk, chunk_entry *entry) {
    *entry = (chunk_entry){.content_id = chunk->content_id,
                           .kind = chunk->kind,
                           .tokens = chunk->token_count,
                           .users = chunk->refs,
                           .pins = chunk->pins,
                           .uses = chunk->uses,
                           .created_ns = chunk->created_ns,
                           .last_use_ns = chunk->last_use_ns,
                           .expires_ns = chunk->expires_ns};
    memcpy(entry->label, chunk->label, sizeof entry->label);
    for (const chunk_kv *kv = chunk->kvs; kv != NULL; kv = kv->next_of_chunk) {
        entry->kv_bytes += kv->run->page_count * registry->options.page_bytes;
        entry->kv_states++;
    }
}

cento_status chunk_registry_describe(chunk_registry *registry, const digest *content_id, chunk_entry *entry,
                                     cento_error *error) {
    context_chunk *chunk;
    registry_lock(registry);
    cento_status status = find_chunk(registry, content_id, &chunk, error);
    if (status == CENTO_OK)
        describe(registry, chunk, entry);
    registry_unlock(registry);
    return status;
}

static int by_last_use(const void *left, const void *right) {
    const context_chunk *a = *(const context_chunk *const *)left, *b = *(const context_chunk *const *)right;
    return a->last_use < b->last_use ? 1 : a->last_use > b->last_use ? -1 : 0;
}

static cento_status list(const chunk_registry *registry, chunk_entry **entries, size_t *count,
                         cento_error *error) {
    size_t chunk_count = registry->chunks.count;
    const context_chunk **chunks = mem_alloc(chunk_count, sizeof *chunks);
    chunk_entry *described = mem_alloc(chunk_count, sizeof *described);
    if (chunks == NULL || described == NULL) {
        mem_free(chunks);
        mem_free(described);
        return error_memory(error, chunk_count * sizeof *described);
    }
    size_t found = 0;
    for (const context_chunk *chunk = registry->all_chunks; chunk != NULL; chunk = chunk->next)
        chunks[found++] = chunk;
    assert(found == chunk_count);
    qsort(chunks, found, sizeof *chunks, by_last_use);
    for (size_t i = 0; i < found; i++)
        describe(registry, chunks[i], &described[i]);
    mem_free(chunks);
    *entries = described;
    *count = found;
    return CENTO_OK;
}

cento_status chunk_registry_list(chunk_registry *registry, chunk_entry **entries, size_t *count,
                                 cento_error *error) {
    registry_lock(registry);
    cento_status status = list(registry, entries, count, error);
    registry_unlock(registry);
    return status;
}

static uint64_t metadata_bytes(const chunk_registry *registry) {
    return sizeof *registry + (registry->chunks.capacity + registry->kvs.capacity) * sizeof(digest_slot) +
           (registry->chunk_queue.capacity + registry->kv_queue.capacity) * sizeof(eviction_entry *) +
           registry->chunks.count * sizeof(context_chunk) + registry->chunk_tokens * sizeof(int32_t) +
           registry->kvs.count * sizeof(chunk_kv) + page_manager_metadata_bytes(registry->pages) +
           (registry->tree == NULL ? 0 : prefix_tree_metadata_bytes(registry->tree));
}

void chunk_registry_read_stats(chunk_registry *registry, chunk_registry_stats *stats) {
    registry_lock(registry);
    *stats = registry->counted;
    stats->chunks = (uint32_t)registry->chunks.count;
    for (const context_chunk *chunk = registry->all_chunks; chunk != NULL; chunk = chunk->next)
        stats->chunks_pinned += chunk->pins > 0;
    stats->kv_states = registry->kv_count;
    for (int kind = 0; kind < CHUNK_KINDS; kind++)
        stats->kv_bytes_by_kind[kind] = registry->pages_by_kind[kind] * registry->options.page_bytes;
    stats->pages_free = registry->pages->counts[PAGE_FREE];
    stats->pages_sequence = registry->pages->counts[PAGE_SEQUENCE];
    stats->pages_chunk_unused = registry->pages_unused;
    stats->pages_chunk_used = registry->pages->counts[PAGE_CHUNK] - registry->pages_unused;
    stats->metadata_bytes = metadata_bytes(registry);
    registry_unlock(registry);
}
