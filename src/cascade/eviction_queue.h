/*
 * eviction_queue: what may be evicted, the first to go first. A binary heap of entries that lie in what they
 * stand for (context_chunk, chunk_kv). What is in use is not in the queue, so that a pool full of KV in use
 * costs no search. Not thread-safe: registry.lock guards it.
 */
#ifndef CENTO_CASCADE_EVICTION_QUEUE_H
#define CENTO_CASCADE_EVICTION_QUEUE_H

#include "base/status.h"

typedef struct eviction_entry {
    uint64_t order; /* smaller goes first; constant while it is queued */
    size_t place;   /* index in the queue + 1; 0: not queued */
} eviction_entry;

typedef struct eviction_queue {
    eviction_entry **entries; /* (count) a heap; borrowed */
    size_t count, capacity;
} eviction_queue;

/* Makes room for so many entries in all, so that adding them cannot fail. */
cento_status eviction_queue_reserve(eviction_queue *queue, size_t count, cento_error *error);
void eviction_queue_add(eviction_queue *queue, eviction_entry *entry, uint64_t order); /* not queued yet */
void eviction_queue_remove(eviction_queue *queue, eviction_entry *entry); /* nothing if not queued */
static inline eviction_entry *eviction_queue_first(const eviction_queue *queue) {
    return queue->count == 0 ? NULL : queue->entries[0];
}
/* Entries know their places, and none goes before the one above it. */
bool eviction_queue_is_whole(const eviction_queue *queue);
void eviction_queue_free(eviction_queue *queue);

#endif
