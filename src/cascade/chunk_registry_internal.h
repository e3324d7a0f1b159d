/*
 * What chunk_registry and prefix_tree share, and nobody else sees (but tests). All functions expect
 * registry.lock to be held.
 *
 * Counters and eviction queues are kept true by taking a KV out of them before any of what they depend on
 * changes (refs, pins, pages, kind, chunk, children) and putting it back afterwards: kv_account().
 */
#ifndef CENTO_CASCADE_CHUNK_REGISTRY_INTERNAL_H
#define CENTO_CASCADE_CHUNK_REGISTRY_INTERNAL_H

#include "chunk_registry.h"
#include "digest_map.h"
#include "prefix_tree.h"

struct chunk_registry {
    pthread_mutex_t lock;
    chunk_registry_options options; /* constant */
    page_manager *pages;            /* borrowed */
    prefix_tree *tree;              /* NULL: none */
    context_chunk *all_chunks;      /* registered ones */
    digest_map chunks;              /* registered ones, by content id */
    digest_map kvs;                 /* by kv id; not the nodes */
    eviction_queue chunk_queue;     /* chunks that may be evicted */
    eviction_queue kv_queue;        /* KV that may be evicted: of the tree, leaves */
    uint32_t kv_count;              /* registered, nodes included */
    uint32_t detached_count;        /* removed, but still in use: chunks and KV */
    uint32_t detached_pages;
    uint64_t chunk_tokens;               /* of all registered chunks */
    uint64_t pages_by_kind[CHUNK_KINDS]; /* of registered KV */
    uint32_t pages_unused;               /* of these, with no reference */
    uint32_t pages_evictable;            /* of these, not pinned: all of them can be evicted */
    uint64_t tick;                       /* grows with each use */
    uint64_t next_expiry_ns;             /* nothing expires before; UINT64_MAX: never */
    chunk_registry_stats counted; /* hits, misses, evictions, expirations; the rest is made when asked for */
};

/* Takes the lock, and removes what has expired. */
void registry_lock(chunk_registry *registry);
void registry_unlock(chunk_registry *registry);

uint32_t priority_of(cento_kind kind); /* 0 goes first */
/* Of what may be evicted: smaller goes first. */
static inline uint64_t eviction_order(cento_kind kind, uint64_t last_use) {
    return (uint64_t)priority_of(kind) << 62 | last_use;
}
/* The registered chunk of the same content, or NULL: a chunk may be removed while somebody has a reference.
 */
context_chunk *chunk_current(const chunk_registry *registry, context_chunk *chunk);
/* Puts a chunk into the eviction queue or takes it out, as it may be evicted or not. */
void chunk_requeue(chunk_registry *registry, context_chunk *chunk);
/* Out of the table, with its KV; freed by its last reference. */
void chunk_unregister(chunk_registry *registry, context_chunk *chunk);

void kv_account(chunk_registry *registry, chunk_kv *kv, bool present);
/* Room in tables and queues for so many more KV, so that kv_register cannot fail. */
cento_status kv_reserve(chunk_registry *registry, size_t count, cento_error *error);
/* kv: all set but chunk, pins, last_use. */
void kv_register(chunk_registry *registry, chunk_kv *kv, context_chunk *chunk);
/* Out of lists, queues and counters; the caller has taken it out of its table and frees it, now or with the
 * last reference. */
void kv_unregister(chunk_registry *registry, chunk_kv *kv);
void kv_join_chunk(chunk_registry *registry, chunk_kv *kv, context_chunk *chunk); /* kv has none */
void kv_set_kind(chunk_registry *registry, chunk_kv *kv, cento_kind kind);
void kv_touch(chunk_registry *registry, chunk_kv *kv);
/* A chunk that needs this KV was pinned, or no longer is: the KV's own, or one of a node behind it. */
void kv_pin_path(chunk_registry *registry, chunk_kv *kv, bool pinned);
void kv_add_ref(chunk_registry *registry, chunk_kv *kv);
/* true: it was the last one */
bool kv_drop_ref(chunk_registry *registry, chunk_kv *kv);
/* Removes it, by whichever table it is in. */
void kv_remove(chunk_registry *registry, chunk_kv *kv);
static inline bool kv_is_held(const chunk_kv *kv) {
    return kv->refs > 0 || kv->pins > 0;
}

/* Evicts until `side` may take page_count pages. POOL_FULL, with nothing evicted, if that cannot be reached.
 * `alone`: sequences may have the chunks' share as well. */
cento_status make_room(chunk_registry *registry, page_state side, uint32_t page_count, bool alone,
                       cento_error *error);
/* Evicts until page_count pages of a sequence may become a chunk's. */
cento_status make_share(chunk_registry *registry, uint32_t page_count, cento_error *error);
/* Evicts what is more than chunk_bytes_max. */
void limit_bytes(chunk_registry *registry);
void evict_first(chunk_registry *registry); /* the queue is not empty */

/* What a check counts, to be compared with what is kept. */
typedef struct registry_sums {
    uint32_t kv_count, pages, pages_unused, pages_evictable, queued;
    uint64_t pages_by_kind[CHUNK_KINDS];
} registry_sums;
cento_status kv_check(const chunk_registry *registry, const chunk_kv *kv, bool has_children,
                      registry_sums *sums, cento_error *error);
cento_status check_locked(chunk_registry *registry, cento_error *error);

/* prefix_tree.c */
void prefix_node_remove(prefix_tree *tree, prefix_node *node); /* with all that stands behind it */
cento_status prefix_tree_check_locked(const prefix_tree *tree, registry_sums *sums, cento_error *error);
uint64_t prefix_tree_metadata_bytes(const prefix_tree *tree);

#endif
