/*
 * chunk_registry: which chunks are known, which attention states (KV) are held, and what goes first when the
 * pool or the table is full.
 *
 * Tables: content id → chunk, kv id → chunk_kv (chunks computed apart, what compositions computed in place);
 * nodes of the prefix tree are in the same use order and are evicted by the same rules. What nobody uses
 * goes, in batches, least recently used first within a priority: query and output before context, context
 * before system and tool; of the prefix tree only leaves. What is in use or pinned is never evicted; what is
 * removed or expires while in use lives until its last user is done.
 *
 * The pool's two sides (page_manager.h) are respected: sequences take what is free, then what KV nobody uses
 * holds beyond the chunks' share; chunks take what is free, then what KV nobody uses holds at all.
 *
 * Thread-safe: `lock` guards the registry, the prefix tree and the page manager. Functions lock by
 * themselves. Pages are claimed and KV is created by the engine thread alone; chunks are registered, pinned,
 * listed and removed by any thread.
 */
#ifndef CENTO_CASCADE_CHUNK_REGISTRY_H
#define CENTO_CASCADE_CHUNK_REGISTRY_H

#include <pthread.h>

#include "context_chunk.h"

#define CHUNK_REGISTRY_SIZE 1000 /* chunks, unless told otherwise */
#define CHUNK_KINDS         5

typedef struct chunk_registry_options {
    uint32_t chunks_max;      /* registered at a time */
    uint64_t chunk_bytes_max; /* of KV that is neither in use nor pinned; 0: as much as the pool holds */
    uint64_t page_bytes;      /* for bytes in statistics and limits */
    uint64_t (*now_ns)(void *user); /* NULL: clock_now_ns; for tests of expiry */
    void *now_user;
} chunk_registry_options;

typedef struct chunk_registry_stats {
    uint32_t chunks, chunks_pinned;
    uint32_t kv_states;                            /* held, nodes of the prefix tree included */
    uint64_t chunk_hits, chunk_misses;             /* content that was registered: known, or not */
    uint64_t kv_hits, kv_misses;                   /* KV that was looked for: there, or not */
    uint64_t evictions, expirations;               /* of KV and of chunks; not what a caller removed */
    uint64_t kv_bytes_by_kind[CHUNK_KINDS];        /* by cento_kind */
    uint32_t pages_free, pages_sequence;           /* of the pool */
    uint32_t pages_chunk_used, pages_chunk_unused; /* of the pool's chunk pages: somebody uses them, or not */
    uint64_t metadata_bytes; /* ids, tables, tokens, nodes: what managing the KV costs */
} chunk_registry_stats;

/* What a listing says of a chunk; a copy. */
typedef struct chunk_entry {
    digest content_id;
    cento_kind kind;
    char label[128];
    uint32_t tokens;
    uint32_t users, pins;
    uint64_t uses;
    uint64_t created_ns, last_use_ns, expires_ns; /* the registry's clock; expires_ns 0: never */
    uint64_t kv_bytes;
    uint32_t kv_states;
} chunk_entry;

typedef struct chunk_registry chunk_registry;

cento_status chunk_registry_create(page_manager *pages, const chunk_registry_options *options,
                                   chunk_registry **result, cento_error *error);
/* All references must have been released. */
void chunk_registry_free(chunk_registry *registry);
page_manager *chunk_registry_pages(const chunk_registry *registry);

/* ---- chunks: any thread ---- */

/* Finds or registers a chunk and takes a reference; one chunk_registry_release for it. Tokens and label (may
 * be NULL) are copied. *known (may be NULL): it was there. POOL_FULL if the table is full of chunks that are
 * in use or pinned. */
cento_status chunk_registry_acquire(chunk_registry *registry, cento_kind kind, const digest *content_id,
                                    const int32_t *tokens, uint32_t token_count, const char *label,
                                    context_chunk **chunk, bool *known, cento_error *error);
/* With a reference, or NULL. */
context_chunk *chunk_registry_get(chunk_registry *registry, const digest *content_id);
context_chunk *chunk_registry_get_by_content(chunk_registry *registry, const uint8_t *tokenizer_fingerprint,
                                             const int32_t *tokens, uint32_t token_count);
void chunk_registry_release(chunk_registry *registry, context_chunk *chunk); /* NULL is allowed */
/* Counts a use of a chunk by a prompt and makes it the most recently used. */
void chunk_registry_touch(chunk_registry *registry, context_chunk *chunk);
/* Pins count; each pin needs its unpin. NOT_FOUND names the id. */
cento_status chunk_registry_pin(chunk_registry *registry, const digest *content_id, cento_error *error);
/* INVALID_ARGUMENT if it is not pinned. */
cento_status chunk_registry_unpin(chunk_registry *registry, const digest *content_id, cento_error *error);
/* It expires ttl_ns from now, unless pinned then; 0: never. */
cento_status chunk_registry_set_ttl(chunk_registry *registry, const digest *content_id, uint64_t ttl_ns,
                                    cento_error *error);
/* Forgets a chunk, pinned or not, and its KV (of prefix tree nodes, all that stands behind them as well);
 * their memory lives until the last user is done. */
cento_status chunk_registry_remove(chunk_registry *registry, const digest *content_id, cento_error *error);
/* Forgets all chunks and all KV that are neither in use nor pinned; returns how many chunks went. */
uint32_t chunk_registry_clear(chunk_registry *registry);
cento_status chunk_registry_describe(chunk_registry *registry, const digest *content_id, chunk_entry *entry,
                                     cento_error *error);
/* Most recently used first; *entries is released with mem_free. */
cento_status chunk_registry_list(chunk_registry *registry, chunk_entry **entries, size_t *count,
                                 cento_error *error);
void chunk_registry_read_stats(chunk_registry *registry, chunk_registry_stats *stats);
/* Removes what has expired; all functions above do it first. Cheap if nothing has. */
void chunk_registry_expire(chunk_registry *registry);

/* ---- KV: engine thread ---- */

/* The KV of this id with a reference, or NULL; counts a hit or a miss. One chunk_registry_kv_release. */
chunk_kv *chunk_registry_kv_find(chunk_registry *registry, const digest *kv_id);
/* How many tokens of it are held and ready, for previews: any thread, nothing is counted or touched. */
bool chunk_registry_kv_peek(chunk_registry *registry, const digest *kv_id, uint32_t *tokens_ready);
/* Registers KV of which nothing is computed yet, with pages for `tokens` and a reference. The id must not be
 * there. chunk NULL: text of a composition, kept as `kind`; so is KV of a chunk that was removed meanwhile.
 * Evicts what it must; POOL_FULL changes nothing. */
cento_status chunk_registry_kv_create(chunk_registry *registry, const digest *kv_id, context_chunk *chunk,
                                      cento_kind kind, uint32_t tokens, uint32_t position, chunk_kv **kv,
                                      cento_error *error);
/* The same with a sequence's run, which becomes the registry's on success. No reference for the caller.
 * INVALID_ARGUMENT if the id is there; POOL_FULL if the chunks' share is fixed and full of KV in use. */
cento_status chunk_registry_kv_adopt(chunk_registry *registry, const digest *kv_id, context_chunk *chunk,
                                     cento_kind kind, page_run *run, uint32_t tokens, uint32_t tokens_ready,
                                     uint32_t position, cento_error *error);
/* KV of which nothing was computed is dropped with its last reference. NULL is allowed. */
void chunk_registry_kv_release(chunk_registry *registry, chunk_kv *kv);
/* The step is over: what was scheduled is ready; or it failed, and what was scheduled is not. */
void chunk_registry_kv_computed(chunk_registry *registry, chunk_kv *kv, bool succeeded);

/* A sequence's own run: empty at first; grows, after evicting what it must. POOL_FULL says what is held by
 * whom and changes nothing. */
cento_status chunk_registry_run_create(chunk_registry *registry, page_run **run, cento_error *error);
cento_status chunk_registry_run_grow(chunk_registry *registry, page_run *run, uint32_t page_count,
                                     cento_error *error);
void chunk_registry_run_release(chunk_registry *registry, page_run *run); /* NULL is allowed */
/* Pages that one side could get now, with what it may evict; for admission. */
uint32_t chunk_registry_pages_available(chunk_registry *registry, page_state side);
/* Pages of one side that sequences hold: their own, or those of KV in use. */
uint32_t chunk_registry_pages_used(chunk_registry *registry, page_state side);
/* Lifts the guarantee that sequences leave the chunks' share alone, for a sequence that is alone and would
 * fail otherwise. Without `chunk_page_borrow` it does nothing. */
cento_status chunk_registry_run_grow_alone(chunk_registry *registry, page_run *run, uint32_t page_count,
                                           cento_error *error);

/* INTERNAL, with what is wrong, unless tables, queues, counters, page ownership and the prefix tree agree.
 * Slow. */
cento_status chunk_registry_check(chunk_registry *registry, cento_error *error);

#endif
