/*
 * prefix_index: finds a child in the prefix tree by its first page of tokens (all of them, if it has fewer),
 * however many siblings it has. Open addressing over a hash of branch and tokens, which are then compared.
 * Among children of less than a page several may be equal; any of them is found.
 */
#ifndef CENTO_CASCADE_PREFIX_INDEX_H
#define CENTO_CASCADE_PREFIX_INDEX_H

#include "prefix_tree.h"

typedef struct prefix_index {
    prefix_node **slots; /* (capacity), owned; NULL: empty */
    size_t capacity;     /* 0 or a power of two */
    size_t count;
    uint32_t page_tokens;
    uint64_t seed; /* so that nobody can choose tokens that collide */
} prefix_index;

/* The hash of a branch's child, token by token: begin, step for each token, end. */
static inline uint64_t prefix_hash_begin(const prefix_index *index, const prefix_branch *branch) {
    return index->seed ^ (uint64_t)(uintptr_t)branch * UINT64_C(0x9E3779B97F4A7C15);
}
static inline uint64_t prefix_hash_step(uint64_t hash, int32_t token) {
    hash = (hash ^ (uint32_t)token) * UINT64_C(0xFF51AFD7ED558CCD);
    return hash ^ hash >> 32;
}
static inline uint64_t prefix_hash_end(uint64_t hash) {
    hash *= UINT64_C(0xC4CEB9FE1A85EC53);
    return hash ^ hash >> 29;
}

/* Makes room for so many more nodes, so that adding them cannot fail. */
cento_status prefix_index_reserve(prefix_index *index, size_t count, cento_error *error);
void prefix_index_add(prefix_index *index, prefix_node *node);
void prefix_index_remove(prefix_index *index, const prefix_node *node); /* must be there */
/* The child whose key is tokens[0, count), count <= page_tokens, or NULL. `hash` is theirs. */
prefix_node *prefix_index_find(const prefix_index *index, const prefix_branch *branch, uint64_t hash,
                               const int32_t *tokens, uint32_t count);
void prefix_index_free(prefix_index *index);

/* The branch that a node is a child of. */
prefix_branch *prefix_branch_of(const prefix_node *node);

#endif
