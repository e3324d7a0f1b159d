/* Parts to path, nodes and segments; see cascade_layout.h for the picture. */
#include "cascade_layout.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

/* The walk over the parts behind the path. */
typedef struct walk {
    const int32_t *tokens;
    const layout_part *parts;
    size_t part_count;
    const layout_options *options;
    cascade_layout *result;

    bool has_path; /* something stands before: up to the node under way, or to the last chunk in it */
    digest path;
    bool approximate; /* the path goes through a chunk that did not see what stands before it */
    bool composed;    /* the path goes through a chunk computed apart */
    bool has_anchor;
    digest anchor;

    /* the node under way, computed in place */
    size_t segment_begin; /* its first segment */
    uint32_t node_tokens;
    uint32_t strip_begin;  /* prompt token at which its tokens since the last chunk computed apart begin */
    uint32_t strip_tokens; /* their number; they are consecutive in the prompt */
} walk;

static cento_status add_segment(cascade_layout *result, layout_segment segment, cento_error *error) {
    if (segment.token_count == 0)
        return CENTO_OK;
    if (!mem_grow((void **)&result->segments, &result->segment_capacity, result->segment_count + 1,
                  sizeof *result->segments))
        return error_memory(error, (result->segment_count + 1) * sizeof *result->segments);
    result->segments[result->segment_count++] = segment;
    return CENTO_OK;
}

static cento_status add_node(cascade_layout *result, layout_node node, cento_error *error) {
    if (!mem_grow((void **)&result->nodes, &result->node_capacity, result->node_count + 1,
                  sizeof *result->nodes))
        return error_memory(error, (result->node_count + 1) * sizeof *result->nodes);
    result->nodes[result->node_count++] = node;
    return CENTO_OK;
}

static cento_status add_cut(cascade_layout *result, layout_cut cut, cento_error *error) {
    if (!mem_grow((void **)&result->cuts, &result->cut_capacity, result->cut_count + 1, sizeof *result->cuts))
        return error_memory(error, (result->cut_count + 1) * sizeof *result->cuts);
    result->cuts[result->cut_count++] = cut;
    return CENTO_OK;
}

/* Text of the template is as long-lived as the head of the prompt. */
static cento_kind kind_of(const layout_part *part) {
    return part->is_template ? CENTO_KIND_SYSTEM : part->kind;
}

static uint32_t head_tokens(const layout_options *options) {
    return options->mode == CENTO_MODE_LINK ? options->link_tokens : 0;
}

static bool is_document(const layout_part *part) {
    return !part->is_template && part->kind == CENTO_KIND_CONTEXT;
}

/* A document whose head is all of it would have nothing to be reused. */
static bool is_apart(const layout_part *part, const layout_options *options) {
    return options->mode != CENTO_MODE_EXACT && is_document(part) && head_tokens(options) < part->token_count;
}

/* ------------------------------------------------------------------ the path ---- */

/* Tokens before the first document, if one is computed apart; else all that is kept by what a piece ends. */
static uint32_t path_end(const walk *state, bool *all_in_place) {
    const layout_part *parts = state->parts;
    const layout_options *options = state->options;
    size_t first_document = SIZE_MAX, kept_end = 0;
    *all_in_place = true;
    for (size_t part = 0; part < state->part_count; part++) {
        if (is_document(&parts[part]) && first_document == SIZE_MAX)
            first_document = part;
        *all_in_place = *all_in_place && !is_apart(&parts[part], options);
        if (!parts[part].is_template || options->keeps_all)
            kept_end = part + 1;
    }
    if (!*all_in_place)
        return parts[first_document].token_begin;
    if (kept_end == 0)
        return 0;
    uint32_t end = parts[kept_end - 1].token_begin + parts[kept_end - 1].token_count;
    /* the last token is computed in any case, for its logits */
    return end == state->result->prompt_tokens && !options->keeps_all ? end - 1 : end;
}

/* Cuts and segments of the path; segments of own tokens, if they continue it, as well. */
static cento_status lay_path(walk *state, bool all_in_place, cento_error *error) {
    cascade_layout *result = state->result;
    uint32_t path_tokens = result->path_tokens;
    for (size_t i = 0; i < state->part_count; i++) {
        const layout_part *part = &state->parts[i];
        uint32_t end = part->token_begin + part->token_count;
        uint32_t on_path_end = end < path_tokens ? end : path_tokens;
        if (part->token_begin >= path_tokens && !all_in_place)
            break;
        if (part->token_begin < path_tokens && (!part->is_template || on_path_end == path_tokens))
            TRY(add_cut(result, (layout_cut){on_path_end, i, kind_of(part)}, error));
        if (part->token_begin < path_tokens)
            TRY(add_segment(result,
                            (layout_segment){.part = i,
                                             .node = LAYOUT_PATH,
                                             .node_token = part->token_begin,
                                             .position = part->token_begin,
                                             .token_count = on_path_end - part->token_begin,
                                             .exact = true},
                            error));
        uint32_t own_begin = part->token_begin > path_tokens ? part->token_begin : path_tokens;
        if (all_in_place && own_begin < end)
            TRY(add_segment(result,
                            (layout_segment){.part = i,
                                             .node = LAYOUT_OWN,
                                             .node_token = own_begin - path_tokens,
                                             .position = own_begin,
                                             .token_count = end - own_begin,
                                             .exact = true},
                            error));
    }
    return CENTO_OK;
}

/* What stands behind the path is named through it. */
static cento_status name_path(walk *state, cento_error *error) {
    if (state->result->path_tokens == 0)
        return CENTO_OK;
    digest content_id;
    TRY(content_id_of(state->options->tokenizer_fingerprint, state->tokens, state->result->path_tokens,
                      &content_id, error));
    TRY(kv_id_of(&state->options->scope, KV_PATH, NULL, &content_id, &state->path, error));
    state->has_path = true;
    if (state->options->anchored) {
        state->has_anchor = true;
        state->anchor = state->path;
        state->result->anchor_tokens = state->result->path_tokens;
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ behind the path ---- */

/* Tokens [skipped, skipped + token_count) of a part, computed in place, go on the node under way. */
static cento_status add_in_place(walk *state, size_t part, uint32_t skipped, uint32_t token_count,
                                 bool link_head, cento_error *error) {
    if (token_count == 0)
        return CENTO_OK;
    uint32_t position = state->parts[part].token_begin + skipped;
    if (state->strip_tokens == 0)
        state->strip_begin = position;
    TRY(add_segment(state->result,
                    (layout_segment){.part = part,
                                     .node = LAYOUT_OWN,
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
    return content_id_of(state->options->tokenizer_fingerprint, state->tokens + state->strip_begin,
                         state->strip_tokens, id, error);
}

/* The node under way ends with `part`, gets its name and is the path from here on. (Its last tokens may stand
 * before a chunk computed apart: then the path through that chunk names them, and the strip is empty.) */
static cento_status close_node(walk *state, size_t part, cento_error *error) {
    if (state->node_tokens == 0)
        return CENTO_OK;
    cascade_layout *result = state->result;
    digest content_id;
    layout_node node = {
        .part = part, .kind = kind_of(&state->parts[part]), .token_count = state->node_tokens};
    TRY(strip_id(state, &content_id, error));
    TRY(kv_id_of(&state->options->scope, state->composed ? KV_COMPOSED : KV_PATH,
                 state->has_path ? &state->path : NULL, &content_id, &node.kv_id, error));
    for (size_t i = state->segment_begin; i < result->segment_count; i++) {
        if (result->segments[i].node != LAYOUT_OWN)
            continue;
        if (result->segments[i].node_token == 0)
            node.position = result->segments[i].position;
        result->segments[i].node = result->node_count;
    }
    TRY(add_node(result, node, error));
    state->path = node.kv_id;
    state->has_path = true;
    state->segment_begin = result->segment_count;
    state->node_tokens = 0;
    state->strip_tokens = 0;
    return CENTO_OK;
}

static cento_status apart_node(const layout_part *source, size_t part, const layout_options *options,
                               const digest *anchor, uint32_t position, layout_node *node,
                               cento_error *error) {
    *node = (layout_node){.part = part,
                          .kind = CENTO_KIND_CONTEXT,
                          .apart = true,
                          .position = position,
                          .token_count = source->token_count,
                          .token_begin = source->token_begin};
    return kv_id_of(&options->scope, anchor != NULL ? KV_ANCHORED : KV_ALONE, anchor, &source->content_id,
                    &node->kv_id, error);
}

/* The node of a chunk computed apart; one for all places of the same chunk in the prompt. */
static cento_status find_apart(walk *state, size_t part, size_t *node, cento_error *error) {
    cascade_layout *result = state->result;
    layout_node fresh;
    TRY(apart_node(&state->parts[part], part, state->options, state->has_anchor ? &state->anchor : NULL,
                   result->anchor_tokens, &fresh, error));
    for (*node = 0; *node < result->node_count; ++*node) {
        if (result->nodes[*node].apart && digest_equal(&result->nodes[*node].kv_id, &fresh.kv_id))
            return CENTO_OK;
    }
    return add_node(result, fresh, error);
}

static cento_status add_apart(walk *state, size_t part, cento_error *error) {
    cascade_layout *result = state->result;
    const layout_part *source = &state->parts[part];
    uint32_t head = head_tokens(state->options);
    TRY(add_in_place(state, part, 0, head, true, error));
    if (part + 1 ==
        state->part_count) { /* nothing in place follows: the sequence's own is the answer alone */
        TRY(close_node(state, part, error));
        result->repeats_last = !state->options->keeps_all;
    }
    size_t node;
    TRY(find_apart(state, part, &node, error));
    /* where nothing stands before it but what it saw, it is exact */
    if (source->token_begin != result->anchor_tokens)
        state->approximate = true;
    TRY(add_segment(result,
                    (layout_segment){.part = part,
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

/* A part in place. A piece ends a node, but the prompt's last token is the sequence's own. */
static cento_status add_part(walk *state, size_t part, cento_error *error) {
    bool last = part + 1 == state->part_count;
    bool keeps_all = state->options->keeps_all;
    uint32_t token_count = state->parts[part].token_count;
    bool ends_node = !state->parts[part].is_template || (last && keeps_all);
    uint32_t left = last && ends_node && !keeps_all ? 1 : 0;
    TRY(add_in_place(state, part, 0, token_count - left, false, error));
    if (ends_node)
        TRY(close_node(state, part, error));
    return add_in_place(state, part, token_count - left, left, false, error);
}

static cento_status lay_rest(walk *state, cento_error *error) {
    cascade_layout *result = state->result;
    state->segment_begin = result->segment_count;
    for (size_t part = 0; part < state->part_count; part++) {
        if (state->parts[part].token_begin < result->path_tokens)
            continue;
        if (is_apart(&state->parts[part], state->options))
            TRY(add_apart(state, part, error));
        else
            TRY(add_part(state, part, error));
    }
    result->own_tokens = state->node_tokens;
    result->own_has_parent = state->has_path;
    result->own_parent = state->path;
    result->own_strip_begin = state->strip_tokens > 0 ? state->strip_begin : result->prompt_tokens;
    return CENTO_OK;
}

static cento_status check_parts(uint32_t token_count, const layout_part *parts, size_t part_count,
                                cento_error *error) {
    uint32_t end = 0;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].token_begin != end || parts[i].token_count == 0 ||
            parts[i].token_count > token_count - end)
            return error_set(error, CENTO_INTERNAL,
                             "layout: part %zu is %u tokens from %u, expected at least one from %u, of %u", i,
                             parts[i].token_count, parts[i].token_begin, end, token_count);
        end += parts[i].token_count;
    }
    if (end != token_count || token_count == 0)
        return error_set(error, CENTO_INTERNAL, "layout: %zu parts have %u tokens, the prompt %u", part_count,
                         end, token_count);
    return CENTO_OK;
}

cento_status cascade_layout_build(const int32_t *tokens, uint32_t token_count, const layout_part *parts,
                                  size_t part_count, const layout_options *options, cascade_layout *result,
                                  cento_error *error) {
    TRY(check_parts(token_count, parts, part_count, error));
    walk state = {
        .tokens = tokens, .parts = parts, .part_count = part_count, .options = options, .result = result};
    result->prompt_tokens = token_count;
    TRY(kv_scope_id(&options->scope, &result->scope_id, error));
    bool all_in_place;
    result->path_tokens = path_end(&state, &all_in_place);
    TRY(lay_path(&state, all_in_place, error));
    result->own_on_path = all_in_place;
    result->own_tokens = token_count - result->path_tokens;
    result->own_strip_begin = result->path_tokens;
    if (all_in_place)
        return CENTO_OK;
    TRY(name_path(&state, error));
    return lay_rest(&state, error);
}

cento_status cascade_layout_own_id(const cascade_layout *layout, const layout_options *options,
                                   const int32_t *tokens, uint32_t token_count, digest *kv_id,
                                   cento_error *error) {
    assert(!layout->own_on_path && layout->own_strip_begin <= token_count);
    digest content_id;
    TRY(content_id_of(options->tokenizer_fingerprint, tokens + layout->own_strip_begin,
                      token_count - layout->own_strip_begin, &content_id, error));
    return kv_id_of(&options->scope, KV_COMPOSED, layout->own_has_parent ? &layout->own_parent : NULL,
                    &content_id, kv_id, error);
}

cento_status cascade_layout_alone(const layout_part *part, const layout_options *options,
                                  cascade_layout *result, cento_error *error) {
    layout_node node;
    result->prompt_tokens = part->token_begin + part->token_count;
    result->own_strip_begin = result->prompt_tokens;
    TRY(kv_scope_id(&options->scope, &result->scope_id, error));
    TRY(apart_node(part, 0, options, NULL, 0, &node, error));
    return add_node(result, node, error);
}

void cascade_layout_free(cascade_layout *layout) {
    mem_free(layout->cuts);
    mem_free(layout->nodes);
    mem_free(layout->segments);
    *layout = (cascade_layout){0};
}

/* ------------------------------------------------------------------ pages ---- */

uint64_t cascade_layout_path_pages(const cascade_layout *layout, const page_manager *pages,
                                   uint32_t tokens_held) {
    uint64_t page_count = 0;
    uint32_t begin = tokens_held;
    for (size_t i = 0; i < layout->cut_count; i++) {
        uint32_t end = layout->cuts[i].token_end;
        if (begin < end) {
            page_count += page_manager_pages_for(pages, end - begin);
            begin = end;
        }
    }
    return page_count;
}

uint64_t cascade_layout_chunk_pages(const cascade_layout *layout, const page_manager *pages) {
    uint64_t page_count = cascade_layout_path_pages(layout, pages, 0);
    for (size_t i = 0; i < layout->node_count; i++)
        page_count += page_manager_pages_for(pages, layout->nodes[i].token_count);
    return page_count;
}
