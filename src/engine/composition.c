/* Parts to nodes and segments; see composition.h for the picture. */
#include "composition.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

/* The walk over the parts. */
typedef struct walk {
    const prompt *built;
    const cento_piece *pieces;
    const composition_options *options;
    composition *result;

    bool
        has_path; /* something stands before: the path up to the node under way, or to the last chunk in it */
    digest path;
    bool approximate; /* the path goes through a chunk that did not see what stands before it */
    bool composed;    /* the path goes through a chunk computed apart */

    bool anchor_known;
    bool has_anchor;
    digest anchor;

    /* the node under way, computed in place */
    size_t segment_begin; /* its first segment */
    uint32_t node_tokens;
    uint32_t strip_begin;  /* prompt token at which its tokens since the last chunk computed apart begin */
    uint32_t strip_tokens; /* their number; they are consecutive in the prompt */
} walk;

static cento_status add_segment(composition *result, composition_segment segment, cento_error *error) {
    if (segment.token_count == 0)
        return CENTO_OK;
    if (!mem_grow((void **)&result->segments, &result->segment_capacity, result->segment_count + 1,
                  sizeof *result->segments))
        return error_memory(error, (result->segment_count + 1) * sizeof *result->segments);
    result->segments[result->segment_count++] = segment;
    return CENTO_OK;
}

static cento_status add_node(composition *result, composition_node node, cento_error *error) {
    if (!mem_grow((void **)&result->nodes, &result->node_capacity, result->node_count + 1,
                  sizeof *result->nodes))
        return error_memory(error, (result->node_count + 1) * sizeof *result->nodes);
    result->nodes[result->node_count++] = node;
    return CENTO_OK;
}

static cento_kind kind_of_part(const walk *state, size_t part) {
    size_t piece = state->built->parts[part].piece;
    /* text of the template alone is a node only before the first document: as long-lived as its head */
    return piece == PROMPT_TEMPLATE ? CENTO_KIND_SYSTEM : state->pieces[piece].kind;
}

/* Tokens computed in place go on the node under way. */
static cento_status add_in_place(walk *state, size_t part, uint32_t token_count, bool link_head,
                                 cento_error *error) {
    uint32_t position = state->built->parts[part].token_begin;
    if (state->strip_tokens == 0)
        state->strip_begin = position;
    TRY(add_segment(state->result,
                    (composition_segment){.part = part,
                                          .node = COMPOSITION_OWN,
                                          .node_token = state->node_tokens,
                                          .position = position,
                                          .token_count = token_count,
                                          .exact = !state->approximate,
                                          .link_head = link_head},
                    error));
    state->node_tokens += token_count;
    state->strip_tokens += token_count;
    return CENTO_OK;
}

static cento_status strip_id(const walk *state, digest *id, cento_error *error) {
    return content_id_of(state->options->tokenizer_fingerprint, state->built->tokens.ids + state->strip_begin,
                         state->strip_tokens, id, error);
}

static void begin_node(walk *state) {
    state->segment_begin = state->result->segment_count;
    state->node_tokens = 0;
    state->strip_tokens = 0;
}

/* The node under way ends with `part`, gets its name and is the path from here on. */
static cento_status close_node(walk *state, size_t part, cento_error *error) {
    if (state->node_tokens == 0)
        return CENTO_OK;
    assert(state->strip_tokens > 0);
    composition *result = state->result;
    digest content_id;
    composition_node node = {
        .part = part, .kind = kind_of_part(state, part), .token_count = state->node_tokens};
    TRY(strip_id(state, &content_id, error));
    TRY(kv_id_of(&state->options->scope, state->composed ? KV_COMPOSED : KV_PATH,
                 state->has_path ? &state->path : NULL, &content_id, &node.kv_id, error));
    for (size_t i = state->segment_begin; i < result->segment_count; i++) {
        if (result->segments[i].node != COMPOSITION_OWN)
            continue;
        if (result->segments[i].node_token == 0)
            node.position = result->segments[i].position;
        result->segments[i].node = result->node_count;
    }
    TRY(add_node(result, node, error));
    state->path = node.kv_id;
    state->has_path = true;
    begin_node(state);
    return CENTO_OK;
}

/* The node of a chunk computed apart; one for all places of the same chunk in the prompt. */
static cento_status find_apart(walk *state, size_t part, size_t *node, cento_error *error) {
    composition *result = state->result;
    const prompt_part *source = &state->built->parts[part];
    composition_node fresh = {.part = part,
                              .kind = CENTO_KIND_CONTEXT,
                              .apart = true,
                              .position = result->anchor_tokens,
                              .token_count = source->token_count};
    if (state->has_anchor)
        TRY(kv_id_of(&state->options->scope, KV_ANCHORED, &state->anchor, &source->content_id, &fresh.kv_id,
                     error));
    else
        TRY(composition_alone_id(&state->options->scope, &source->content_id, &fresh.kv_id, error));
    for (*node = 0; *node < result->node_count; ++*node) {
        if (result->nodes[*node].apart && digest_equal(&result->nodes[*node].kv_id, &fresh.kv_id))
            return CENTO_OK;
    }
    return add_node(result, fresh, error);
}

static cento_status add_apart(walk *state, size_t part, cento_error *error) {
    composition *result = state->result;
    const prompt_part *source = &state->built->parts[part];
    uint32_t head = state->options->mode == CENTO_MODE_LINK ? state->options->link_tokens : 0;
    if (head >= source->token_count) /* nothing of it would be reused */
        return add_in_place(state, part, source->token_count, false, error);
    size_t node;
    TRY(find_apart(state, part, &node, error));
    if (head > 0)
        TRY(add_in_place(state, part, head, true, error));
    /* where nothing stands before it but what it saw, it is exact */
    if (source->token_begin != result->anchor_tokens)
        state->approximate = true;
    TRY(add_segment(result,
                    (composition_segment){.part = part,
                                          .node = node,
                                          .node_token = head,
                                          .position = source->token_begin + head,
                                          .token_count = source->token_count - head,
                                          .exact = !state->approximate},
                    error));
    digest between, path;
    if (state->strip_tokens > 0)
        TRY(strip_id(state, &between, error));
    TRY(kv_path_through(&state->options->scope, state->has_path ? &state->path : NULL,
                        state->strip_tokens > 0 ? &between : NULL, &result->nodes[node].kv_id, head, &path,
                        error));
    state->path = path;
    state->has_path = true;
    state->composed = true;
    state->strip_tokens = 0;
    return CENTO_OK;
}

/* Before the first document: what stands there is a node that ends here, and the anchor if one is wanted. */
static cento_status end_prefix(walk *state, size_t part, cento_error *error) {
    state->anchor_known = true;
    if (part > 0)
        TRY(close_node(state, part - 1, error));
    if (state->options->anchored && state->has_path) {
        state->has_anchor = true;
        state->anchor = state->path;
        state->result->anchor_tokens = state->built->parts[part].token_begin;
    }
    return CENTO_OK;
}

cento_status composition_lay_out(const prompt *built, const cento_piece *pieces,
                                 const composition_options *options, composition *result,
                                 cento_error *error) {
    walk state = {.built = built, .pieces = pieces, .options = options, .result = result};
    for (size_t part = 0; part < built->part_count; part++) {
        size_t piece = built->parts[part].piece;
        bool apart = options->mode != CENTO_MODE_EXACT && piece != PROMPT_TEMPLATE &&
                     pieces[piece].kind == CENTO_KIND_CONTEXT;
        if (apart) {
            if (!state.anchor_known)
                TRY(end_prefix(&state, part, error));
            TRY(add_apart(&state, part, error));
            continue;
        }
        TRY(add_in_place(&state, part, built->parts[part].token_count, false, error));
        if (piece != PROMPT_TEMPLATE)
            TRY(close_node(&state, part, error));
    }
    result->own_tokens = state.node_tokens;
    result->own_has_parent = state.has_path;
    result->own_parent = state.path;
    result->own_basis = state.composed ? KV_COMPOSED : KV_PATH;
    result->own_strip_begin = state.strip_tokens > 0 ? state.strip_begin : (uint32_t)built->tokens.count;
    return CENTO_OK;
}

cento_status composition_alone_id(const kv_scope *scope, const digest *content_id, digest *kv_id,
                                  cento_error *error) {
    return kv_id_of(scope, KV_ALONE, NULL, content_id, kv_id, error);
}

cento_status composition_own_id(const composition *laid_out, const prompt *built,
                                const composition_options *options, const int32_t *answer,
                                size_t answer_tokens, digest *kv_id, cento_error *error) {
    size_t strip_tokens = built->tokens.count - laid_out->own_strip_begin;
    token_vec tokens = {0};
    digest content_id;
    cento_status status =
        token_vec_append(&tokens, built->tokens.ids + laid_out->own_strip_begin, strip_tokens, error);
    if (status == CENTO_OK)
        status = token_vec_append(&tokens, answer, answer_tokens, error);
    if (status == CENTO_OK)
        status = content_id_of(options->tokenizer_fingerprint, tokens.ids, tokens.count, &content_id, error);
    token_vec_free(&tokens);
    TRY(status);
    return kv_id_of(&options->scope, laid_out->own_basis,
                    laid_out->own_has_parent ? &laid_out->own_parent : NULL, &content_id, kv_id, error);
}

void composition_free(composition *laid_out) {
    mem_free(laid_out->nodes);
    mem_free(laid_out->segments);
    *laid_out = (composition){0};
}
