/* The radix tree of what is held: walking, splitting, claiming, handing over; see prefix_tree.h. */
#include "prefix_tree.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "chunk_registry_internal.h"
#include "prefix_index.h"

#define RECENT_CHILDREN 16 /* looked at for tokens to copy */

typedef struct prefix_root {
    digest scope_id;
    prefix_branch below; /* never empty but for a moment: a root goes with its last node */
} prefix_root;

struct prefix_tree {
    chunk_registry *registry; /* borrowed; its lock guards all below */
    uint32_t page_tokens;
    digest_map roots; /* by scope id */
    prefix_index index;
    uint64_t node_tokens; /* of all nodes that are not detached */
    uint64_t splits;
};

prefix_branch *prefix_branch_of(const prefix_node *node) {
    return node->parent != NULL ? &node->parent->below : &node->root->below;
}

static uint32_t smaller(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static uint32_t end_of(const prefix_node *node) {
    return node == NULL ? 0 : node->kv.position + node->kv.tokens;
}

/* How many of the first `count` tokens are equal. */
static uint32_t common_tokens(const int32_t *a, const int32_t *b, uint32_t count) {
    enum { BLOCK = 64 };
    uint32_t common = 0;
    while (count - common >= BLOCK && memcmp(a + common, b + common, BLOCK * sizeof *a) == 0)
        common += BLOCK;
    while (common < count && a[common] == b[common])
        common++;
    return common;
}

/* ------------------------------------------------------------------ life ---- */

cento_status prefix_tree_create(chunk_registry *registry, prefix_tree **result, cento_error *error) {
    assert(registry->tree == NULL);
    prefix_tree *tree = mem_zalloc(1, sizeof *tree);
    if (tree == NULL)
        return error_memory(error, sizeof *tree);
    tree->registry = registry;
    tree->page_tokens = registry->pages->page_tokens;
    tree->index.page_tokens = tree->page_tokens;
    tree->index.seed = prefix_hash_end(clock_now_ns() ^ (uint64_t)(uintptr_t)tree);
    pthread_mutex_lock(&registry->lock);
    registry->tree = tree;
    pthread_mutex_unlock(&registry->lock);
    *result = tree;
    return CENTO_OK;
}

void prefix_tree_free(prefix_tree *tree) {
    if (tree == NULL)
        return;
    chunk_registry *registry = tree->registry;
    pthread_mutex_lock(&registry->lock);
    for (size_t slot = 0; slot < tree->roots.capacity; slot++) {
        while (tree->roots.slots[slot].value != NULL) { /* removal moves others here */
            const prefix_root *root = tree->roots.slots[slot].value;
            prefix_node_remove(tree, root->below.children);
        }
    }
    assert(tree->roots.count == 0 && tree->index.count == 0);
    registry->tree = NULL;
    pthread_mutex_unlock(&registry->lock);
    digest_map_free(&tree->roots);
    prefix_index_free(&tree->index);
    mem_free(tree);
}

static prefix_root *find_root(const prefix_tree *tree, const digest *scope_id) {
    return digest_map_get(&tree->roots, scope_id->bytes);
}

static cento_status find_or_add_root(prefix_tree *tree, const digest *scope_id, prefix_root **result,
                                     cento_error *error) {
    *result = find_root(tree, scope_id);
    if (*result != NULL)
        return CENTO_OK;
    prefix_root *root = mem_zalloc(1, sizeof *root);
    if (root == NULL)
        return error_memory(error, sizeof *root);
    root->scope_id = *scope_id;
    cento_status status = digest_map_add(&tree->roots, root->scope_id.bytes, root, error);
    if (status != CENTO_OK) {
        mem_free(root);
        return status;
    }
    *result = root;
    return CENTO_OK;
}

static void drop_root_if_empty(prefix_tree *tree, prefix_root *root) {
    if (root->below.child_count > 0)
        return;
    digest_map_remove(&tree->roots, root->scope_id.bytes);
    mem_free(root);
}

/* ------------------------------------------------------------------ links ---- */

static void list_child(prefix_branch *branch, prefix_node *node) {
    node->previous_sibling = NULL;
    node->next_sibling = branch->children;
    if (branch->children != NULL)
        branch->children->previous_sibling = node;
    branch->children = node;
}

static void unlist_child(prefix_branch *branch, prefix_node *node) {
    if (node->previous_sibling != NULL)
        node->previous_sibling->next_sibling = node->next_sibling;
    else
        branch->children = node->next_sibling;
    if (node->next_sibling != NULL)
        node->next_sibling->previous_sibling = node->previous_sibling;
    node->next_sibling = node->previous_sibling = NULL;
}

/* A node in its parent's list and in the index; room there has been reserved. */
static void link_node(prefix_tree *tree, prefix_node *node) {
    prefix_branch *branch = prefix_branch_of(node);
    chunk_registry *registry = tree->registry;
    if (node->parent != NULL)
        kv_account(registry, &node->parent->kv, false);
    list_child(branch, node);
    branch->child_count++;
    if (node->kv.tokens < tree->page_tokens)
        branch->short_lengths |= UINT64_C(1) << node->kv.tokens % 64;
    if (node->parent != NULL)
        kv_account(registry, &node->parent->kv, true);
    prefix_index_add(&tree->index, node);
    tree->node_tokens += node->kv.tokens;
}

static void unlink_node(prefix_tree *tree, prefix_node *node) {
    prefix_branch *branch = prefix_branch_of(node);
    chunk_registry *registry = tree->registry;
    tree->node_tokens -= node->kv.tokens;
    prefix_index_remove(&tree->index, node);
    if (node->parent != NULL)
        kv_account(registry, &node->parent->kv, false);
    unlist_child(branch, node);
    branch->child_count--;
    if (branch->child_count == 0)
        branch->short_lengths = 0;
    if (node->parent != NULL)
        kv_account(registry, &node->parent->kv, true);
}

static void destroy_node(prefix_tree *tree, prefix_node *node) {
    page_manager_release(tree->registry->pages, node->kv.run);
    mem_free(node->tokens);
    mem_free(node);
}

/* Freed now if nobody uses it, else by the last release. */
static void remove_leaf(prefix_tree *tree, prefix_node *node) {
    assert(node->below.child_count == 0);
    prefix_root *root = node->root;
    kv_unregister(tree->registry, &node->kv);
    unlink_node(tree, node);
    node->root = NULL;
    drop_root_if_empty(tree, root);
    if (node->kv.refs == 0)
        destroy_node(tree, node);
}

void prefix_node_remove(prefix_tree *tree, prefix_node *top) {
    for (prefix_node *node = top;;) {
        while (node->below.children != NULL)
            node = node->below.children;
        prefix_node *parent = node->parent;
        bool is_top = node == top;
        remove_leaf(tree, node);
        if (is_top)
            return;
        node = parent;
    }
}

/* A node with the tokens' copy; the run is the node's on success. */
static cento_status add_node(prefix_tree *tree, prefix_root *root, prefix_node *parent, const int32_t *tokens,
                             const chunk_kv *kv, context_chunk *chunk, prefix_node **result,
                             cento_error *error) {
    TRY(kv_reserve(tree->registry, 1, error));
    TRY(prefix_index_reserve(&tree->index, 1, error));
    prefix_node *node = mem_zalloc(1, sizeof *node);
    int32_t *copy = mem_alloc(kv->tokens, sizeof *copy);
    if (node == NULL || copy == NULL) {
        mem_free(node);
        mem_free(copy);
        return error_memory(error, sizeof *node + kv->tokens * sizeof *copy);
    }
    memcpy(copy, tokens, kv->tokens * sizeof *copy);
    node->kv = *kv;
    node->kv.node = node;
    node->root = root;
    node->parent = parent;
    node->tokens = copy;
    link_node(tree, node);
    page_manager_set_owner(tree->registry->pages, kv->run, PAGE_CHUNK);
    kv_register(tree->registry, &node->kv, chunk_current(tree->registry, chunk));
    *result = node;
    return CENTO_OK;
}

/* ------------------------------------------------------------------ splitting ---- */

/* The tokens from token_index on stay with the node, so that who holds a path by its last node keeps it;
 * *upper gets those before. token_index: a page boundary within the node. */
static cento_status split_node(prefix_tree *tree, prefix_node *node, uint32_t token_index,
                               prefix_node **result, cento_error *error) {
    chunk_registry *registry = tree->registry;
    assert(token_index % tree->page_tokens == 0 && token_index > 0 && token_index < node->kv.tokens);
    TRY(kv_reserve(registry, 1, error));
    TRY(prefix_index_reserve(&tree->index, 1, error));
    prefix_node *upper = mem_zalloc(1, sizeof *upper);
    int32_t *tokens = mem_alloc(token_index, sizeof *tokens);
    page_run *head = NULL;
    chunk_kv *kv = &node->kv;
    kv_account(registry, kv, false);
    cento_status status =
        upper == NULL || tokens == NULL
            ? error_memory(error, sizeof *upper + token_index * sizeof *tokens)
            : page_manager_split(registry->pages, kv->run, token_index / tree->page_tokens, &head, error);
    if (status != CENTO_OK) {
        kv_account(registry, kv, true);
        mem_free(upper);
        mem_free(tokens);
        return status;
    }
    unlink_node(tree, node);
    memcpy(tokens, node->tokens, token_index * sizeof *tokens);
    upper->tokens = tokens;
    upper->root = node->root;
    upper->parent = node->parent;
    upper->kv = (chunk_kv){.node = upper,
                           .kind = kv->kind,
                           .run = head,
                           .refs = kv->refs,
                           .pins = kv->pins,
                           .tokens = token_index,
                           .tokens_ready = smaller(kv->tokens_ready, token_index),
                           .tokens_scheduled = smaller(kv->tokens_scheduled, token_index),
                           .position = kv->position};
    kv->tokens -= token_index;
    kv->tokens_ready -= upper->kv.tokens_ready;
    kv->tokens_scheduled -= upper->kv.tokens_scheduled;
    kv->position += token_index;
    memmove(node->tokens, node->tokens + token_index, kv->tokens * sizeof *node->tokens);
    int32_t *shrunk = mem_realloc(node->tokens, kv->tokens, sizeof *shrunk);
    if (shrunk != NULL)
        node->tokens = shrunk;
    node->parent = upper;

    link_node(tree, upper);
    link_node(tree, node);
    kv_account(registry, kv, true);
    kv_register(registry, &upper->kv, kv->chunk);
    tree->splits++;
    *result = upper;
    return CENTO_OK;
}

/* ------------------------------------------------------------------ walking ---- */

/* How far tokens lead into the tree. */
typedef struct tree_walk {
    prefix_node *last; /* the last node that they have all of; NULL: none */
    uint32_t end;      /* tokens of nodes they have all of */
    prefix_node
        *parting; /* behind `last`, the node whose first parting_tokens they have, but not all; or NULL */
    uint32_t parting_tokens;
} tree_walk;

/* The child that begins with the page of tokens. */
static prefix_node *find_long_child(const prefix_tree *tree, const prefix_branch *branch,
                                    const int32_t *tokens, uint32_t count) {
    if (count < tree->page_tokens || branch->child_count == 0)
        return NULL;
    uint64_t hash = prefix_hash_begin(&tree->index, branch);
    for (uint32_t i = 0; i < tree->page_tokens; i++)
        hash = prefix_hash_step(hash, tokens[i]);
    return prefix_index_find(&tree->index, branch, prefix_hash_end(hash), tokens, tree->page_tokens);
}

/* A child of less than a page of which the tokens have all: one behind which they go on, else the longest. */
static prefix_node *find_short_child(const prefix_tree *tree, const prefix_branch *branch,
                                     const int32_t *tokens, uint32_t count) {
    prefix_node *best = NULL;
    bool best_goes_on = false;
    if (branch->short_lengths == 0)
        return NULL;
    uint64_t hash = prefix_hash_begin(&tree->index, branch);
    for (uint32_t length = 1; length <= count && length < tree->page_tokens; length++) {
        hash = prefix_hash_step(hash, tokens[length - 1]);
        if ((branch->short_lengths >> length % 64 & 1) == 0)
            continue;
        prefix_node *found = prefix_index_find(&tree->index, branch, prefix_hash_end(hash), tokens, length);
        if (found == NULL)
            continue;
        bool goes_on = find_long_child(tree, &found->below, tokens + length, count - length) != NULL;
        if (goes_on || !best_goes_on) {
            best = found;
            best_goes_on = goes_on;
        }
    }
    return best;
}

/* Of the children claimed most recently, the one that has most of the tokens ready; less than a page of them.
 */
static prefix_node *find_similar_child(const prefix_branch *branch, const int32_t *tokens, uint32_t count,
                                       uint32_t *common) {
    prefix_node *best = NULL, *child = branch->children;
    *common = 0;
    for (uint32_t i = 0; child != NULL && i < RECENT_CHILDREN; i++, child = child->next_sibling) {
        uint32_t found = common_tokens(child->tokens, tokens, smaller(child->kv.tokens_ready, count));
        if (found > *common && found < child->kv.tokens) {
            best = child;
            *common = found;
        }
    }
    return best;
}

static tree_walk walk_tree(const prefix_tree *tree, prefix_branch *branch, const int32_t *tokens,
                           uint32_t count) {
    tree_walk walk = {0};
    while (walk.end < count && branch->child_count > 0) {
        const int32_t *rest = tokens + walk.end;
        uint32_t rest_count = count - walk.end;
        prefix_node *child = find_long_child(tree, branch, rest, rest_count);
        if (child != NULL) {
            uint32_t common = common_tokens(child->tokens, rest, smaller(child->kv.tokens, rest_count));
            if (common < child->kv.tokens) {
                walk.parting = child;
                walk.parting_tokens = common;
                break;
            }
        } else {
            uint32_t similar_tokens;
            child = find_short_child(tree, branch, rest, rest_count);
            prefix_node *similar = find_similar_child(branch, rest, rest_count, &similar_tokens);
            /* more can be copied than the short child has, and nothing stands behind that */
            bool copies =
                child == NULL || (child->below.child_count == 0 && similar_tokens > child->kv.tokens);
            if (copies) {
                walk.parting = similar;
                walk.parting_tokens = similar_tokens;
                break;
            }
        }
        walk.last = child;
        walk.end += child->kv.tokens;
        branch = &child->below;
    }
    return walk;
}

/* Tokens of a path's beginning that are ready. */
static uint32_t ready_of_path(const prefix_node *leaf) {
    uint32_t ready = end_of(leaf);
    for (const prefix_node *node = leaf; node != NULL; node = node->parent) {
        if (node->kv.tokens_ready < node->kv.tokens)
            ready = node->kv.position + node->kv.tokens_ready;
    }
    return ready;
}

void prefix_tree_match(prefix_tree *tree, const digest *scope_id, const int32_t *tokens, uint32_t token_count,
                       prefix_match *match) {
    *match = (prefix_match){0};
    registry_lock(tree->registry);
    prefix_root *root = find_root(tree, scope_id);
    if (root != NULL) {
        tree_walk walk = walk_tree(tree, &root->below, tokens, token_count);
        uint32_t shared = walk.parting_tokens - walk.parting_tokens % tree->page_tokens;
        uint32_t ready =
            walk.parting == NULL ? 0 : smaller(walk.parting->kv.tokens_ready, walk.parting_tokens);
        match->tokens = walk.end + (ready > shared ? ready : shared);
        match->tokens_ready = ready_of_path(walk.last);
        if (match->tokens_ready == walk.end)
            match->tokens_ready += ready;
    }
    registry_unlock(tree->registry);
}

/* ------------------------------------------------------------------ claiming ---- */

/* A node that nobody uses and that was not finished keeps what is ready. */
static void settle_node(prefix_tree *tree, prefix_node *node) {
    chunk_registry *registry = tree->registry;
    chunk_kv *kv = &node->kv;
    if (kv->tokens_ready == kv->tokens)
        return;
    while (node->below.children != NULL) /* nothing of them can be ready */
        prefix_node_remove(tree, node->below.children);
    if (kv->tokens_ready == 0) {
        remove_leaf(tree, node);
        return;
    }
    kv_account(registry, kv, false);
    unlink_node(tree, node);
    kv->tokens = kv->tokens_scheduled = kv->tokens_ready;
    page_manager_shrink(registry->pages, kv->run, page_manager_pages_for(registry->pages, kv->tokens));
    link_node(tree, node);
    kv_account(registry, kv, true);
}

/* From the leaf up, so that a leaf is older than what it stands on. */
static void release_path(prefix_tree *tree, prefix_node *leaf) {
    chunk_registry *registry = tree->registry;
    while (leaf != NULL) {
        prefix_node *parent = leaf->parent;
        leaf->kv.last_use = ++registry->tick;
        if (kv_drop_ref(registry, &leaf->kv)) {
            if (leaf->kv.registered)
                settle_node(tree, leaf);
            else
                destroy_node(tree, leaf);
        }
        leaf = parent;
    }
    limit_bytes(registry);
}

void prefix_tree_release(prefix_tree *tree, prefix_node *leaf) {
    registry_lock(tree->registry);
    release_path(tree, leaf);
    registry_unlock(tree->registry);
}

/* A node that was there belongs to the chunk that is kept longest of those whose tokens it has. */
static void join_cuts(prefix_tree *tree, prefix_node *node, const prefix_cut *cuts, size_t cut_count) {
    const prefix_cut *longest = NULL;
    uint32_t begin = 0;
    for (size_t i = 0; i < cut_count && begin < end_of(node); begin = cuts[i++].token_end) {
        if (cuts[i].token_end <= node->kv.position)
            continue;
        if (longest == NULL || priority_of(cuts[i].kind) > priority_of(longest->kind))
            longest = &cuts[i];
    }
    if (longest == NULL)
        return;
    if (priority_of(longest->kind) > priority_of(node->kv.kind))
        kv_set_kind(tree->registry, &node->kv, longest->kind);
    kv_join_chunk(tree->registry, &node->kv, chunk_current(tree->registry, longest->chunk));
}

static void reference_path(prefix_tree *tree, prefix_node *leaf, const prefix_cut *cuts, size_t cut_count) {
    for (prefix_node *node = leaf; node != NULL; node = node->parent) {
        prefix_branch *branch = prefix_branch_of(node);
        kv_add_ref(tree->registry, &node->kv);
        tree->registry->counted.kv_hits++;
        if (branch->children != node) {
            unlist_child(branch, node);
            list_child(branch, node);
        }
        if (node->kv.chunk == NULL)
            join_cuts(tree, node, cuts, cut_count);
    }
}

/* Cuts the tokens [begin, end) to be created: the next piece's end, chunk and kind. */
static prefix_cut next_cut(const prefix_cut *cuts, size_t cut_count, size_t *index, uint32_t begin,
                           uint32_t end) {
    while (*index < cut_count && cuts[*index].token_end <= begin)
        ++*index;
    if (*index == cut_count)
        return (prefix_cut){.token_end = end, .kind = CENTO_KIND_QUERY};
    prefix_cut cut = cuts[*index];
    cut.token_end = smaller(cut.token_end, end);
    return cut;
}

/* Appends nodes for tokens [begin, end) behind *leaf, each with a reference. On failure *leaf is the last
 * one. */
static cento_status create_nodes(prefix_tree *tree, prefix_root *root, const int32_t *tokens, uint32_t begin,
                                 uint32_t end, const prefix_cut *cuts, size_t cut_count, prefix_node **leaf,
                                 cento_error *error) {
    chunk_registry *registry = tree->registry;
    size_t cut_index = 0;
    while (begin < end) {
        prefix_cut cut = next_cut(cuts, cut_count, &cut_index, begin, end);
        chunk_kv kv = {.kind = cut.kind, .refs = 1, .tokens = cut.token_end - begin, .position = begin};
        TRY(page_manager_acquire(registry->pages, PAGE_CHUNK,
                                 page_manager_pages_for(registry->pages, kv.tokens), &kv.run, error));
        cento_status status = add_node(tree, root, *leaf, tokens + begin, &kv, cut.chunk, leaf, error);
        if (status != CENTO_OK) {
            page_manager_release(registry->pages, kv.run);
            return status;
        }
        registry->counted.kv_misses++;
        begin = cut.token_end;
    }
    return CENTO_OK;
}

static uint32_t pages_to_create(const prefix_tree *tree, uint32_t begin, uint32_t end, const prefix_cut *cuts,
                                size_t cut_count) {
    uint32_t page_count = 0;
    size_t cut_index = 0;
    while (begin < end) {
        uint32_t cut_end = next_cut(cuts, cut_count, &cut_index, begin, end).token_end;
        page_count += page_manager_pages_for(tree->registry->pages, cut_end - begin);
        begin = cut_end;
    }
    return page_count;
}

static cento_status create_path(prefix_tree *tree, const digest *scope_id, const int32_t *tokens,
                                uint32_t begin, uint32_t end, const prefix_cut *cuts, size_t cut_count,
                                prefix_node **leaf, cento_error *error) {
    prefix_root *root;
    TRY(make_room(tree->registry, PAGE_CHUNK, pages_to_create(tree, begin, end, cuts, cut_count), false,
                  error));
    TRY(find_or_add_root(tree, scope_id, &root, error));
    cento_status status = create_nodes(tree, root, tokens, begin, end, cuts, cut_count, leaf, error);
    drop_root_if_empty(tree, root);
    return status;
}

/* The node of the path that has this token. */
static prefix_node *node_at(prefix_node *leaf, uint32_t token) {
    while (leaf->kv.position > token)
        leaf = leaf->parent;
    return leaf;
}

static cento_status claim_path(prefix_tree *tree, const digest *scope_id, const int32_t *tokens,
                               uint32_t match_tokens, uint32_t create_tokens, const prefix_cut *cuts,
                               size_t cut_count, prefix_claim *claim, cento_error *error) {
    prefix_root *root = find_root(tree, scope_id);
    tree_walk walk = {0};
    if (root != NULL)
        walk = walk_tree(tree, &root->below, tokens, match_tokens);
    uint32_t shared = walk.parting_tokens - walk.parting_tokens % tree->page_tokens;
    if (shared > 0) {
        TRY(split_node(tree, walk.parting, shared, &walk.last, error));
        walk.end += shared;
        walk.parting_tokens -= shared;
    }
    reference_path(tree, walk.last, cuts, cut_count);
    uint32_t tail_tokens = 0, tail_slot = 0;
    if (walk.parting != NULL)
        tail_tokens = smaller(walk.parting_tokens, walk.parting->kv.tokens_ready);
    if (tail_tokens > 0) {
        tail_slot = page_run_slot(tree->registry->pages, walk.parting->kv.run, 0);
        kv_touch(tree->registry, &walk.parting->kv);
    }
    prefix_node *leaf = walk.last;
    if (create_tokens > walk.end) {
        cento_status status =
            create_path(tree, scope_id, tokens, walk.end, create_tokens, cuts, cut_count, &leaf, error);
        if (status != CENTO_OK) {
            release_path(tree, leaf);
            return status;
        }
    }
    *claim = (prefix_claim){.leaf = leaf, .path_tokens = end_of(leaf)};
    if (tail_tokens > 0 && leaf != walk.last) {
        chunk_kv *first = &node_at(leaf, walk.end)->kv;
        first->tokens_ready = first->tokens_scheduled = smaller(tail_tokens, first->tokens);
        claim->copy = (kv_copy){.from_slot = tail_slot,
                                .to_slot = page_run_slot(tree->registry->pages, first->run, 0),
                                .token_count = first->tokens_ready};
    } else if (tail_tokens > 0) {
        claim->tail_slot = tail_slot;
        claim->tail_tokens = tail_tokens;
    }
    claim->ready_tokens = ready_of_path(leaf);
    return CENTO_OK;
}

cento_status prefix_tree_claim(prefix_tree *tree, const digest *scope_id, const int32_t *tokens,
                               uint32_t match_tokens, uint32_t create_tokens, const prefix_cut *cuts,
                               size_t cut_count, prefix_claim *claim, cento_error *error) {
    assert(create_tokens <= match_tokens);
    *claim = (prefix_claim){0};
    registry_lock(tree->registry);
    cento_status status =
        claim_path(tree, scope_id, tokens, match_tokens, create_tokens, cuts, cut_count, claim, error);
    registry_unlock(tree->registry);
    return status;
}

/* ------------------------------------------------------------------ handing over ---- */

/* What is handed over. */
typedef struct handover {
    prefix_node *parent;
    const int32_t *tokens;
    uint32_t token_count;
    uint32_t position;
} handover;

/* Behind a node that ends within a page somebody has gone on with the tokens that are given. A sibling of
 * that node that holds the same page would hide what he has. */
static bool would_hide(const prefix_tree *tree, prefix_node *node, const handover *given) {
    uint32_t rest = node->kv.tokens % tree->page_tokens;
    if (rest == 0 || given->token_count <= node->kv.tokens)
        return false;
    tree_walk walk =
        walk_tree(tree, &node->below, given->tokens + node->kv.tokens, given->token_count - node->kv.tokens);
    return rest + walk.end + walk.parting_tokens >= tree->page_tokens;
}

/* Goes down through whole pages that the tree has. *covered: the rest is not wanted; the tree has it all, or
 * somebody computes it, or it is cut in another way. */
static cento_status descend(prefix_tree *tree, prefix_root *root, handover *given, bool *covered,
                            cento_error *error) {
    prefix_branch *branch = given->parent != NULL ? &given->parent->below : &root->below;
    tree_walk walk = walk_tree(tree, branch, given->tokens, given->token_count);
    *covered = walk.end + walk.parting_tokens == given->token_count;
    while (!*covered) {
        prefix_node *child = find_long_child(tree, branch, given->tokens, given->token_count);
        if (child == NULL)
            return CENTO_OK;
        uint32_t common =
            common_tokens(child->tokens, given->tokens, smaller(child->kv.tokens, given->token_count));
        uint32_t shared = common - common % tree->page_tokens;
        *covered =
            child->kv.tokens_ready < shared || (common == child->kv.tokens && would_hide(tree, child, given));
        if (*covered)
            return CENTO_OK;
        if (shared < child->kv.tokens)
            TRY(split_node(tree, child, shared, &child, error));
        given->parent = child;
        given->tokens += shared;
        given->token_count -= shared;
        given->position += shared;
        branch = &child->below;
    }
    return CENTO_OK;
}

/* *run is NULL afterwards where the tree took it. */
static cento_status adopt_run(prefix_tree *tree, const digest *scope_id, handover given, page_run **run,
                              cento_kind kind, context_chunk *chunk, cento_error *error) {
    chunk_registry *registry = tree->registry;
    if (given.token_count == 0 || (given.parent != NULL && given.parent->root == NULL))
        return CENTO_OK;
    assert(given.position == end_of(given.parent));
    TRY(make_share(registry, page_manager_pages_for(registry->pages, given.token_count), error));
    prefix_root *root;
    TRY(find_or_add_root(tree, scope_id, &root, error));
    assert(given.parent == NULL || given.parent->root == root);
    bool covered;
    uint32_t token_count = given.token_count;
    cento_status status = descend(tree, root, &given, &covered, error);
    if (status == CENTO_OK && !covered) {
        page_manager_drop_head(registry->pages, *run, (token_count - given.token_count) / tree->page_tokens);
        page_manager_shrink(registry->pages, *run,
                            page_manager_pages_for(registry->pages, given.token_count));
        const chunk_kv kv = {.kind = kind,
                             .run = *run,
                             .tokens = given.token_count,
                             .tokens_ready = given.token_count,
                             .tokens_scheduled = given.token_count,
                             .position = given.position};
        prefix_node *node;
        status = add_node(tree, root, given.parent, given.tokens, &kv, chunk, &node, error);
        if (status == CENTO_OK)
            *run = NULL;
    }
    drop_root_if_empty(tree, root);
    limit_bytes(registry);
    return status;
}

cento_status prefix_tree_adopt(prefix_tree *tree, const digest *scope_id, prefix_node *parent,
                               const int32_t *tokens, uint32_t token_count, page_run *run, uint32_t position,
                               cento_kind kind, context_chunk *chunk, cento_error *error) {
    chunk_registry *registry = tree->registry;
    const handover given = {parent, tokens, token_count, position};
    registry_lock(registry);
    assert(run->owner == PAGE_SEQUENCE);
    assert(page_manager_pages_for(registry->pages, token_count) <= run->page_count);
    cento_status status = adopt_run(tree, scope_id, given, &run, kind, chunk, error);
    page_manager_release(registry->pages, run);
    registry_unlock(registry);
    return status;
}

/* ------------------------------------------------------------------ what is known ---- */

uint64_t prefix_tree_splits(const prefix_tree *tree) {
    return tree->splits;
}

uint32_t prefix_tree_path(const prefix_node *leaf, prefix_node **nodes, uint32_t capacity) {
    uint32_t count = 0;
    for (const prefix_node *node = leaf; node != NULL; node = node->parent)
        count++;
    uint32_t index = count;
    for (const prefix_node *node = leaf; node != NULL; node = node->parent) {
        if (--index < capacity)
            nodes[index] = (prefix_node *)node;
    }
    return count;
}

uint64_t prefix_tree_metadata_bytes(const prefix_tree *tree) {
    return sizeof *tree + tree->index.count * sizeof(prefix_node) + tree->node_tokens * sizeof(int32_t) +
           tree->index.capacity * sizeof *tree->index.slots + tree->roots.count * sizeof(prefix_root) +
           tree->roots.capacity * sizeof(digest_slot);
}

/* ------------------------------------------------------------------ invariants ---- */

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return error_set(error, CENTO_INTERNAL, "prefix_tree: not so: %s", #condition);                  \
    } while (0)

static cento_status check_node(const prefix_tree *tree, const prefix_root *root, const prefix_node *node,
                               registry_sums *sums, cento_error *error) {
    const page_manager *pages = tree->registry->pages;
    const chunk_kv *kv = &node->kv;
    CHECK(node->root == root && kv->node == node);
    CHECK(kv->tokens > 0 && kv->position == end_of(node->parent));
    CHECK(kv->run->page_count == page_manager_pages_for(pages, kv->tokens));
    CHECK(node->parent == NULL || kv->tokens_ready == 0 ||
          node->parent->kv.tokens_ready == node->parent->kv.tokens);
    CHECK(kv->refs > 0 || kv->tokens_ready == kv->tokens);
    uint32_t refs = 0, pins = kv->chunk != NULL && kv->chunk->pins > 0, child_count = 0;
    const prefix_node *previous = NULL;
    for (const prefix_node *child = node->below.children; child != NULL;
         previous = child, child = child->next_sibling) {
        CHECK(child->parent == node && child->previous_sibling == previous);
        refs += child->kv.refs;
        pins += child->kv.pins;
        child_count++;
    }
    CHECK(refs <= kv->refs && pins == kv->pins && child_count == node->below.child_count);
    const prefix_branch *branch = prefix_branch_of(node);
    const prefix_node *found = prefix_index_find(&tree->index, branch, node->key_hash, node->tokens,
                                                 smaller(kv->tokens, tree->page_tokens));
    CHECK(found == node || (found != NULL && kv->tokens < tree->page_tokens));
    CHECK(kv->tokens >= tree->page_tokens || (branch->short_lengths >> kv->tokens % 64 & 1) != 0);
    return kv_check(tree->registry, kv, child_count > 0, sums, error);
}

/* The next node in pre-order, or NULL. */
static const prefix_node *next_node(const prefix_node *node) {
    if (node->below.children != NULL)
        return node->below.children;
    while (node != NULL && node->next_sibling == NULL)
        node = node->parent;
    return node == NULL ? NULL : node->next_sibling;
}

cento_status prefix_tree_check_locked(const prefix_tree *tree, registry_sums *sums, cento_error *error) {
    size_t root_count = 0, node_count = 0;
    uint64_t token_count = 0;
    for (size_t slot = 0; slot < tree->roots.capacity; slot++) {
        const prefix_root *root = tree->roots.slots[slot].value;
        if (root == NULL)
            continue;
        root_count++;
        CHECK(find_root(tree, &root->scope_id) == root && root->below.child_count > 0);
        uint32_t child_count = 0;
        for (const prefix_node *node = root->below.children; node != NULL; node = next_node(node)) {
            TRY(check_node(tree, root, node, sums, error));
            child_count += node->parent == NULL;
            token_count += node->kv.tokens;
            node_count++;
        }
        CHECK(child_count == root->below.child_count);
    }
    CHECK(root_count == tree->roots.count && node_count == tree->index.count);
    CHECK(token_count == tree->node_tokens);
    return CENTO_OK;
}

cento_status prefix_tree_check(prefix_tree *tree, cento_error *error) {
    return chunk_registry_check(tree->registry, error);
}
