/*
 * composition: how a prompt's parts are computed and what they are called. It cuts the prompt into nodes,
 * each of which has one kv id and (once claimed) one run of KV, and lists the segments: for each stretch of
 * positions, which node's tokens stand there. Nothing here touches the pool; it is decided from ids alone.
 *
 * exact: each node is the template text before a piece and the piece; its kv id hangs on the node before.
 *
 *   |head system|glue doc a|glue doc b|glue query|glue …      the last is the sequence's own: the
 *    node 0      node 1     node 2     node 3     own         generation prompt and then the answer
 *
 * independent, link:2 (lower line: what is computed in place): a document is a node of its own, computed
 * apart from what stands before it; all that is computed in place between two kept pieces is one node:
 *
 *   |head system|glue|doc a|doc b|
 *    node 0      1    2     3          1 ends where the first document begins: the anchor
 *                      ▲▲ glue ▲▲ glue query|glue …
 *                      └──────── node 4 ────┘own
 *
 * A node computed in place after documents computed apart is named through them (kv_path_through), so it is
 * found again when the same composition comes again, as in the next turn of a conversation.
 */
#ifndef CENTO_ENGINE_COMPOSITION_H
#define CENTO_ENGINE_COMPOSITION_H

#include "prompt.h"

#define COMPOSITION_OWN                                                                                      \
    SIZE_MAX /* the node that is the sequence's own: not named before its answer is known */

typedef struct composition_node {
    digest kv_id;
    size_t part;       /* whose chunk it belongs to; for text of the template alone, that part */
    cento_kind kind;   /* how long it is kept */
    bool apart;        /* computed apart from what stands before it */
    uint32_t position; /* at which its first token is computed */
    uint32_t token_count;
} composition_node;

typedef struct composition_segment {
    size_t part;
    size_t node;         /* or COMPOSITION_OWN */
    uint32_t node_token; /* index of its first token in the node */
    uint32_t position;   /* of the same in the prompt */
    uint32_t token_count;
    bool exact;     /* its KV is what a full prefill gives */
    bool link_head; /* computed in place, although the chunk computed apart has it too */
} composition_segment;

typedef struct composition {
    composition_node *nodes; /* (node_count), owned */
    size_t node_count, node_capacity;
    composition_segment *segments; /* (segment_count), by position, without gaps; owned */
    size_t segment_count, segment_capacity;
    uint32_t anchor_tokens; /* what chunks computed apart saw before them; 0: nothing */
    /* the sequence's own node: its prompt tokens, and what its name will be made from */
    uint32_t own_tokens;
    bool own_has_parent;
    digest own_parent;
    kv_basis own_basis;
    uint32_t own_strip_begin; /* prompt tokens from here on are hashed with the answer */
} composition;

typedef struct composition_options {
    cento_mode mode;
    uint32_t link_tokens;
    bool anchored;
    kv_scope scope;
    const uint8_t *tokenizer_fingerprint;
} composition_options;

/* Zero-initialise *result before; composition_free in any case. */
cento_status composition_lay_out(const prompt *built, const cento_piece *pieces,
                                 const composition_options *options, composition *result, cento_error *error);
/* The kv id of a chunk computed apart, with nothing before it. */
cento_status composition_alone_id(const kv_scope *scope, const digest *content_id, digest *kv_id,
                                  cento_error *error);
/* The kv id of the sequence's own node, now that its answer is known. */
cento_status composition_own_id(const composition *laid_out, const prompt *built,
                                const composition_options *options, const int32_t *answer,
                                size_t answer_tokens, digest *kv_id, cento_error *error);
void composition_free(composition *laid_out);

#endif
