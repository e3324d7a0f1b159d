/*
 * cascade_layout: how a prompt's parts are computed and what they are called. The beginning of the prompt
 * that a full prefill would compute as it stands is the path, kept in the prefix tree; in `exact` that is all
 * but the last tokens. What follows in the other modes is cut into nodes, each of which has one kv id and one
 * run of KV, and into segments: for each stretch of positions, which node's tokens stand there. Nothing here
 * touches the pool; it is decided from ids alone.
 *
 * exact: the path is cut where pieces end; what stands behind the last piece (the template's generation
 * prompt), at least the last token, is the sequence's own, and so is the answer.
 *
 *   |head system|glue doc a|glue doc b|glue query|glue …
 *    cut         cut        cut        cut        own
 *    ←─────────────── path ──────────────────────→
 *
 * independent, link:2 (lower line: what is computed in place): the path ends at the first document and is the
 * anchor, if one is wanted; a document is a node of its own, computed apart from what stands before it; all
 * that is computed in place between two kept pieces is one node. Where no document is computed apart (none is
 * there, or all are shorter than their link heads) the layout is that of `exact`.
 *
 *   |head system|glue|doc a|doc b|
 *   ←─── path ──────→ 0     1
 *                      ▲▲ glue ▲▲ glue query|glue …
 *                      └──────── node 2 ────┘own
 *
 * A node computed in place after documents computed apart is named through them (kv_path_through), so it is
 * found again when the same composition comes again, as in the next turn of a conversation.
 */
#ifndef CENTO_CASCADE_CASCADE_LAYOUT_H
#define CENTO_CASCADE_CASCADE_LAYOUT_H

#include "chunk_registry.h"
#include "prefix_tree.h"

#define LAYOUT_OWN  SIZE_MAX       /* the node that is the sequence's own */
#define LAYOUT_PATH (SIZE_MAX - 1) /* the path in the prefix tree */

/* Tokens of the prompt that belong together: a piece, or text of the template between pieces. */
typedef struct layout_part {
    uint32_t token_begin, token_count; /* parts follow one another without gaps */
    bool is_template;
    cento_kind kind; /* of the piece */
    digest content_id;
} layout_part;

typedef struct layout_options {
    cento_mode mode;
    uint32_t link_tokens;
    bool anchored;
    kv_scope scope;
    const uint8_t *tokenizer_fingerprint;
    bool keeps_all; /* no answer will follow: everything is path or nodes, nothing is the sequence's own */
} layout_options;

typedef struct layout_node {
    digest kv_id;
    size_t part;       /* whose chunk it belongs to; for text of the template alone, that part */
    cento_kind kind;   /* how long it is kept */
    bool apart;        /* computed apart from what stands before it; then it is all of the part */
    uint32_t position; /* at which its first token is computed */
    uint32_t token_count;
    uint32_t token_begin; /* apart: prompt token at which its first place begins */
} layout_node;

/* Where the path's nodes end. */
typedef struct layout_cut {
    uint32_t token_end;
    size_t part;     /* the piece that ends here, and whose chunk the node belongs to */
    cento_kind kind; /* how long the node is kept */
} layout_cut;

typedef struct layout_segment {
    size_t part;
    size_t node;         /* or LAYOUT_OWN, LAYOUT_PATH */
    uint32_t node_token; /* index of its first token in the node; of the path: its position */
    uint32_t position;   /* of the same in the prompt */
    uint32_t token_count;
    bool exact;     /* its KV is what a full prefill gives */
    bool link_head; /* computed in place, although the chunk computed apart has it too */
} layout_segment;

typedef struct cascade_layout {
    uint32_t prompt_tokens;
    uint32_t path_tokens; /* prompt tokens [0, path_tokens) */
    digest scope_id;      /* root of the path */
    layout_cut *cuts;     /* (cut_count), owned */
    size_t cut_count, cut_capacity;
    layout_node *nodes; /* (node_count), owned */
    size_t node_count, node_capacity;
    layout_segment *segments; /* (segment_count), by position, without gaps, path included; owned */
    size_t segment_count, segment_capacity;
    uint32_t anchor_tokens; /* what chunks computed apart saw before them: the path, or 0: nothing */
    uint32_t own_tokens; /* prompt tokens that are the sequence's own, the last ones among those computed in
                          * place; >= 1, but 0 with keeps_all or repeats_last */
    bool repeats_last;   /* a chunk computed apart ends the prompt: its last token is computed again for its
                          * logits, with KV that only this row sees */
    bool own_on_path;    /* the own tokens continue the path: no chunk computed apart stands before */
    /* else, what the own node's name will be made from */
    digest own_parent;
    bool own_has_parent;
    uint32_t own_strip_begin; /* prompt tokens from here on are hashed with the answer */
} cascade_layout;

/* Zero-initialise *result before; cascade_layout_free in any case. */
cento_status cascade_layout_build(const int32_t *tokens, uint32_t token_count, const layout_part *parts,
                                  size_t part_count, const layout_options *options, cascade_layout *result,
                                  cento_error *error);
/* The kv id of the own node of a layout that is not own_on_path, now that its answer is known. */
cento_status cascade_layout_own_id(const cascade_layout *layout, const layout_options *options,
                                   const int32_t *tokens, uint32_t token_count /* prompt and answer */,
                                   digest *kv_id, cento_error *error);
/* A chunk alone, for its KV with nothing before it: one node, no segments. */
cento_status cascade_layout_alone(const layout_part *part, const layout_options *options,
                                  cascade_layout *result, cento_error *error);
void cascade_layout_free(cascade_layout *layout);

/* Of token_count known tokens, those that are looked for in the tree: all but the last, which is computed in
 * any case. */
static inline uint32_t cascade_layout_match_tokens(const cascade_layout *layout, uint32_t token_count) {
    return layout->own_on_path && layout->own_tokens > 0 ? token_count - 1 : layout->path_tokens;
}
/* Pages that the path takes behind its first tokens_held tokens, which are there. */
uint64_t cascade_layout_path_pages(const cascade_layout *layout, const page_manager *pages,
                                   uint32_t tokens_held);
/* Pages that path and nodes take when nothing of them is there. */
uint64_t cascade_layout_chunk_pages(const cascade_layout *layout, const page_manager *pages);

/* What a layout would find now. */
typedef struct layout_preview {
    uint32_t cached_tokens;   /* by segment, see segment_cached */
    uint32_t computed_tokens; /* rows that would be computed for the prompt */
    uint32_t pages_held;      /* pages of what is there and would be used */
    uint32_t pages_new;       /* pages that would be taken for the prompt */
} layout_preview;
/* segment_cached: (segment_count), may be NULL: tokens of each segment that are there. Any thread. */
void cascade_layout_preview(const cascade_layout *layout, const int32_t *tokens, chunk_registry *registry,
                            prefix_tree *tree, layout_preview *preview, uint32_t *segment_cached);

#endif
