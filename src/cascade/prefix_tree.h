/*
 * prefix_tree: automatic prefix caching. A radix tree of token ids, one root for each scope (model, KV
 * dtype, salt), whose nodes hold the KV of their tokens at the global positions at which they stand: what the
 * `exact` mode reuses, whether a request named chunks or not. SGLang's RadixAttention (arXiv:2312.07104) with
 * nodes that also end where chunks end.
 *
 * Each node has pages of its own; its first token stands at the beginning of a page, its last page may be
 * partial. A path that leaves a node within it splits the node at the page boundary before; the tokens
 * between that boundary and the parting are copied to a page of the new branch (kv_copy), not computed again.
 *
 *     |sys..........|doc A.......|query|answer    claimed before; nodes end where chunks end
 *     |sys..........|doc A...:xx|                 a new prompt that parts from it within doc A, at x:
 *     |sys..........|doc A...|                    split here, at a page boundary; both halves stay where they
 * are |xx new tokens…      a new node: xx copied, the rest to be computed
 *
 * A sequence holds a reference on every node of its path; nodes without references are evicted by the
 * registry from the leaves, least recently used first within a priority. Siblings may begin with the same
 * tokens, but with fewer than a page of them.
 *
 * All functions lock the registry. Only the engine thread calls those that change the tree.
 */
#ifndef CENTO_CASCADE_PREFIX_TREE_H
#define CENTO_CASCADE_PREFIX_TREE_H

#include "chunk_registry.h"

/* What stands behind a node, or at the root. */
typedef struct prefix_branch {
    struct prefix_node *children; /* most recently claimed first */
    uint32_t child_count;
    uint64_t short_lengths; /* bit l % 64: there may be a child of l tokens, l less than a page */
} prefix_branch;

typedef struct prefix_node {
    chunk_kv kv;                /* first, so that a chunk_kv with .node set is one */
    struct prefix_root *root;   /* NULL: detached (its chunk was removed), freed with its last reference */
    struct prefix_node *parent; /* NULL: its path begins at the root. Kept when detached: a reference on a
                                 * node is one on all before it */
    struct prefix_node *next_sibling, *previous_sibling;
    prefix_branch below;
    uint64_t key_hash; /* where it is in the index of children */
    int32_t *tokens;   /* (kv.tokens), owned */
} prefix_node;

typedef struct prefix_tree prefix_tree;

cento_status prefix_tree_create(chunk_registry *registry, prefix_tree **result, cento_error *error);
/* All references must have been released. Call before chunk_registry_free. */
void prefix_tree_free(prefix_tree *tree);

/* Where nodes of a new path end, and whose they are. */
typedef struct prefix_cut {
    uint32_t token_end;   /* ascending */
    context_chunk *chunk; /* NULL: none */
    cento_kind kind;
} prefix_cut;

typedef struct prefix_claim {
    prefix_node *leaf;     /* last node of the path, with a reference on each of its nodes; NULL: no path */
    uint32_t path_tokens;  /* [0, path_tokens) are on the path; where it was created, not ready yet */
    uint32_t ready_tokens; /* of these, ready when claimed (a beginning of them) */
    /* Ready tokens behind the path that the caller may copy to the beginning of a page of its own in the next
     * step (not later: they may be evicted): [path_tokens, path_tokens + tail_tokens) lie from tail_slot on.
     * 0 where nodes were created. */
    uint32_t tail_slot, tail_tokens;
    kv_copy copy; /* to be executed before the step: the head of the first node created. Counted as ready. */
} prefix_claim;

/*
 * References the longest path that holds a beginning of tokens[0, match_tokens), and creates nodes for the
 * rest of tokens[0, create_tokens), create_tokens <= match_tokens, cut where `cuts` say (a cut beyond
 * create_tokens is cut short; tokens behind the last cut are a node without a chunk, of kind QUERY). Evicts
 * what it must for their pages. Nodes that were there are used whether or not they are ready; those that
 * belong to no chunk join, of the chunks whose tokens they have, the one that is kept longest. On failure
 * nothing is referenced or created, but splits may remain. Between steps only. `scope_id`: see kv_scope_id.
 */
cento_status prefix_tree_claim(prefix_tree *tree, const digest *scope_id, const int32_t *tokens,
                               uint32_t match_tokens, uint32_t create_tokens, const prefix_cut *cuts,
                               size_t cut_count, prefix_claim *claim, cento_error *error);
/* One for each claim. A node that nobody uses any more keeps what is ready of it, or goes if nothing is. NULL
 * is allowed. */
void prefix_tree_release(prefix_tree *tree, prefix_node *leaf);

/* How many leading tokens a claim would find, and how many of them are ready. Any thread; changes nothing,
 * not even the order of eviction. */
typedef struct prefix_match {
    uint32_t tokens, tokens_ready;
} prefix_match;
void prefix_tree_match(prefix_tree *tree, const digest *scope_id, const int32_t *tokens, uint32_t token_count,
                       prefix_match *match);

/*
 * Hands a sequence's own run, all of whose token_count tokens are ready, to the tree, behind `parent` (on
 * which the caller has a reference; NULL: at the root), for later claims. Pages that the tree has already are
 * dropped, the rest becomes a node of this kind and chunk (may be NULL). The rest is dropped as well where
 * somebody computes the same tokens right now, where the tree goes on with them from the middle of a page, or
 * if `parent` was removed. The run is the tree's or freed afterwards, also on failure, which loses nothing
 * else. `position`: of its first token. Between steps only.
 */
cento_status prefix_tree_adopt(prefix_tree *tree, const digest *scope_id, prefix_node *parent,
                               const int32_t *tokens, uint32_t token_count, page_run *run, uint32_t position,
                               cento_kind kind, context_chunk *chunk, cento_error *error);

/* Grows with each split: a path kept as a list of nodes is valid while this stays the same. */
uint64_t prefix_tree_splits(const prefix_tree *tree);
/* The nodes of a path from the root to `leaf`, into nodes[0, capacity); returns how many there are. Engine
 * thread. */
uint32_t prefix_tree_path(const prefix_node *leaf, prefix_node **nodes, uint32_t capacity);

/* INTERNAL, with what is wrong, unless links, tokens, references (a parent has at least its children's),
 * positions, pages and the registry's lists agree. */
cento_status prefix_tree_check(prefix_tree *tree, cento_error *error);

#endif
