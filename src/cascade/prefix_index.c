/* Linear probing, with deletion that leaves no tombstones; see prefix_index.h. */
#include "prefix_index.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

static uint32_t key_tokens(const prefix_index *index, const prefix_node *node) {
    return node->kv.tokens < index->page_tokens ? node->kv.tokens : index->page_tokens;
}

static void insert(prefix_index *index, prefix_node *node) {
    size_t mask = index->capacity - 1;
    size_t slot = (size_t)node->key_hash & mask;
    while (index->slots[slot] != NULL)
        slot = (slot + 1) & mask;
    index->slots[slot] = node;
}

cento_status prefix_index_reserve(prefix_index *index, size_t count, cento_error *error) {
    size_t needed = index->count + count;
    if (needed <= index->capacity / 4 * 3)
        return CENTO_OK;
    prefix_index grown = *index;
    grown.capacity = index->capacity == 0 ? 64 : index->capacity;
    while (needed > grown.capacity / 4 * 3)
        grown.capacity *= 2;
    grown.slots = mem_zalloc(grown.capacity, sizeof *grown.slots);
    if (grown.slots == NULL)
        return error_memory(error, grown.capacity * sizeof *grown.slots);
    for (size_t slot = 0; slot < index->capacity; slot++) {
        if (index->slots[slot] != NULL)
            insert(&grown, index->slots[slot]);
    }
    mem_free(index->slots);
    *index = grown;
    return CENTO_OK;
}

void prefix_index_add(prefix_index *index, prefix_node *node) {
    assert(index->count < index->capacity);
    uint64_t hash = prefix_hash_begin(index, prefix_branch_of(node));
    for (uint32_t i = 0; i < key_tokens(index, node); i++)
        hash = prefix_hash_step(hash, node->tokens[i]);
    node->key_hash = prefix_hash_end(hash);
    insert(index, node);
    index->count++;
}

void prefix_index_remove(prefix_index *index, const prefix_node *node) {
    size_t mask = index->capacity - 1;
    size_t hole = (size_t)node->key_hash & mask;
    while (index->slots[hole] != node) {
        assert(index->slots[hole] != NULL);
        hole = (hole + 1) & mask;
    }
    index->slots[hole] = NULL;
    index->count--;
    for (size_t slot = (hole + 1) & mask; index->slots[slot] != NULL; slot = (slot + 1) & mask) {
        /* an entry may move into the hole if the hole lies between its home and where it is now */
        size_t home = (size_t)index->slots[slot]->key_hash & mask;
        if (((slot - home) & mask) >= ((slot - hole) & mask)) {
            index->slots[hole] = index->slots[slot];
            index->slots[slot] = NULL;
            hole = slot;
        }
    }
}

prefix_node *prefix_index_find(const prefix_index *index, const prefix_branch *branch, uint64_t hash,
                               const int32_t *tokens, uint32_t count) {
    if (index->count == 0)
        return NULL;
    size_t mask = index->capacity - 1;
    for (size_t slot = (size_t)hash & mask; index->slots[slot] != NULL; slot = (slot + 1) & mask) {
        prefix_node *node = index->slots[slot];
        if (node->key_hash == hash && prefix_branch_of(node) == branch && key_tokens(index, node) == count &&
            memcmp(node->tokens, tokens, count * sizeof *tokens) == 0)
            return node;
    }
    return NULL;
}

void prefix_index_free(prefix_index *index) {
    mem_free(index->slots);
    index->slots = NULL;
    index->capacity = index->count = 0;
}
