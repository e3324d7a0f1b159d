/*
 * chunk_registry: which chunks are known, which attention states (KV) of them are held, and what goes first
 * when the pool or the table is full.
 *
 * Two tables: content id → chunk, kv id → chunk_kv. Eviction takes what nobody uses, least recently used
 * first within a priority: query and output go before context, context before system and tool. What is in
 * use is never evicted; what is removed while in use lives until its last user is done.
 *
 * Not thread-safe: the engine's lock guards it.
 */
#ifndef CENTO_CASCADE_CHUNK_REGISTRY_H
#define CENTO_CASCADE_CHUNK_REGISTRY_H

#include "context_chunk.h"
#include "digest_map.h"

#define CHUNK_PRIORITIES    3
#define CHUNK_REGISTRY_SIZE 1000 /* chunks, unless told otherwise */

typedef struct chunk_list {
    context_chunk *newest, *oldest;
} chunk_list;

typedef struct kv_list {
    chunk_kv *newest, *oldest;
} kv_list;

typedef struct chunk_registry {
    page_manager *pages; /* borrowed */
    uint32_t chunks_max;
    uint32_t chunk_count;    /* registered */
    uint32_t kv_count;       /* registered */
    uint32_t detached_count; /* removed, but still in use: chunks and KV */
    digest_map chunks;
    digest_map kvs;
    chunk_list chunks_by_use[CHUNK_PRIORITIES];
    kv_list kvs_by_use[CHUNK_PRIORITIES];
    uint64_t tick;         /* grows with each use */
    uint64_t hits, misses; /* a KV that was looked for was there, or not */
    uint64_t evictions;    /* of KV and of chunks, for room; not what a caller removed */
} chunk_registry;

cento_status chunk_registry_create(page_manager *pages, uint32_t chunks_max, chunk_registry **result,
                                   cento_error *error);
/* All references must have been released. */
void chunk_registry_free(chunk_registry *registry);

/* Finds or registers a chunk and takes a reference; one chunk_registry_release for it. Tokens and label
 * (may be NULL) are copied. *known (may be NULL): it was there. POOL_FULL if the table is full of chunks in
 * use. */
cento_status chunk_registry_acquire(chunk_registry *registry, cento_kind kind, const digest *content_id,
                                    const int32_t *tokens, uint32_t token_count, const char *label,
                                    context_chunk **chunk, bool *known, cento_error *error);
void chunk_registry_release(chunk_registry *registry, context_chunk *chunk);
/* Counts a use of a chunk by a prompt and makes it the most recently used. */
void chunk_registry_touch(chunk_registry *registry, context_chunk *chunk);
context_chunk *chunk_registry_find(const chunk_registry *registry, const digest *content_id); /* or NULL */
/* Forgets a chunk and its KV; their memory lives until the last user is done. */
void chunk_registry_remove(chunk_registry *registry, context_chunk *chunk);

/* The KV of this id with a reference, or NULL; counts a hit or a miss. One chunk_registry_kv_release. */
chunk_kv *chunk_registry_kv_find(chunk_registry *registry, const digest *kv_id);
/* The same without counting, without a reference: is it there? */
chunk_kv *chunk_registry_kv_peek(const chunk_registry *registry, const digest *kv_id);
/* Registers KV of which nothing is computed yet, with pages for `tokens` and a reference. The id must not be
 * there. chunk NULL: template text, kept as `kind`. Evicts what it needs to; POOL_FULL changes no KV in use.
 */
cento_status chunk_registry_kv_create(chunk_registry *registry, const digest *kv_id, context_chunk *chunk,
                                      cento_kind kind, uint32_t tokens, uint32_t position, chunk_kv **kv,
                                      cento_error *error);
/* The same with a sequence's run, which becomes a chunk's: one reference of the run passes to the registry on
 * success. No reference for the caller. */
cento_status chunk_registry_kv_adopt(chunk_registry *registry, const digest *kv_id, context_chunk *chunk,
                                     cento_kind kind, page_run *run, uint32_t tokens, uint32_t tokens_ready,
                                     uint32_t position, cento_error *error);
/* KV of which nothing was computed is dropped with its last reference. */
void chunk_registry_kv_release(chunk_registry *registry, chunk_kv *kv);
static inline bool chunk_kv_in_use(const chunk_kv *kv) {
    return kv->run->refs > 1;
}

/* Evicts until `page_count` pages are free. POOL_FULL, with nothing evicted, if that cannot be reached. */
cento_status chunk_registry_make_room(chunk_registry *registry, uint32_t page_count, cento_error *error);

/* INTERNAL, with what is wrong, unless tables, lists, counters and page ownership agree. */
cento_status chunk_registry_check(const chunk_registry *registry, cento_error *error);

#endif
