/* A binary heap that knows where its entries are; see eviction_queue.h. */
#include "eviction_queue.h"

#include <assert.h>

#include "base/mem.h"

cento_status eviction_queue_reserve(eviction_queue *queue, size_t count, cento_error *error) {
    if (!mem_grow((void **)&queue->entries, &queue->capacity, count, sizeof *queue->entries))
        return error_memory(error, count * sizeof *queue->entries);
    return CENTO_OK;
}

static void put(eviction_queue *queue, size_t index, eviction_entry *entry) {
    queue->entries[index] = entry;
    entry->place = index + 1;
}

static void move_up(eviction_queue *queue, size_t index, eviction_entry *entry) {
    while (index > 0 && queue->entries[(index - 1) / 2]->order > entry->order) {
        put(queue, index, queue->entries[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    put(queue, index, entry);
}

static void move_down(eviction_queue *queue, size_t index, eviction_entry *entry) {
    for (;;) {
        size_t below = 2 * index + 1;
        if (below + 1 < queue->count && queue->entries[below + 1]->order < queue->entries[below]->order)
            below++;
        if (below >= queue->count || queue->entries[below]->order >= entry->order)
            break;
        put(queue, index, queue->entries[below]);
        index = below;
    }
    put(queue, index, entry);
}

void eviction_queue_add(eviction_queue *queue, eviction_entry *entry, uint64_t order) {
    assert(entry->place == 0 && queue->count < queue->capacity);
    entry->order = order;
    move_up(queue, queue->count++, entry);
}

void eviction_queue_remove(eviction_queue *queue, eviction_entry *entry) {
    if (entry->place == 0)
        return;
    size_t index = entry->place - 1;
    assert(queue->entries[index] == entry);
    eviction_entry *last = queue->entries[--queue->count];
    entry->place = 0;
    if (last == entry)
        return;
    if (index > 0 && queue->entries[(index - 1) / 2]->order > last->order)
        move_up(queue, index, last);
    else
        move_down(queue, index, last);
}

bool eviction_queue_is_whole(const eviction_queue *queue) {
    for (size_t i = 0; i < queue->count; i++) {
        if (queue->entries[i]->place != i + 1 ||
            queue->entries[i]->order < queue->entries[i == 0 ? 0 : (i - 1) / 2]->order)
            return false;
    }
    return queue->count <= queue->capacity;
}

void eviction_queue_free(eviction_queue *queue) {
    mem_free(queue->entries);
    *queue = (eviction_queue){0};
}
