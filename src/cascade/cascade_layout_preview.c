/* What a layout would find now: asks registry and prefix tree without touching either. */
#include "cascade_layout.h"

typedef struct preview_state {
    const cascade_layout *layout;
    chunk_registry *registry;
    uint32_t path_held;  /* tokens of the prompt that a claim would find in the tree */
    uint32_t path_ready; /* of these, ready */
} preview_state;

static uint32_t node_ready(const preview_state *state, size_t node, bool *held) {
    uint32_t ready = 0;
    *held = chunk_registry_kv_peek(state->registry, &state->layout->nodes[node].kv_id, &ready);
    return ready;
}

static uint32_t cached_between(uint32_t begin, uint32_t count, uint32_t ready) {
    uint32_t cached = ready <= begin ? 0 : ready - begin;
    return cached < count ? cached : count;
}

/* In a second place of the same chunk everything is there: its first place has computed it. */
static bool is_second_place(const cascade_layout *layout, size_t index) {
    size_t node = layout->segments[index].node;
    if (node >= layout->node_count || !layout->nodes[node].apart)
        return false;
    for (size_t i = 0; i < index; i++) {
        if (layout->segments[i].node == node)
            return true;
    }
    return false;
}

static uint32_t segment_cached_tokens(const preview_state *state, size_t index) {
    const layout_segment *segment = &state->layout->segments[index];
    bool held;
    if (segment->node == LAYOUT_PATH || (segment->node == LAYOUT_OWN && state->layout->own_on_path))
        return cached_between(segment->position, segment->token_count, state->path_ready);
    if (segment->node == LAYOUT_OWN)
        return 0;
    if (is_second_place(state->layout, index))
        return segment->token_count;
    return cached_between(segment->node_token, segment->token_count, node_ready(state, segment->node, &held));
}

static void preview_path(const preview_state *state, const page_manager *pages, layout_preview *preview) {
    uint32_t held = state->path_held;
    preview->pages_held += page_manager_pages_for(pages, held);
    preview->pages_new += (uint32_t)cascade_layout_path_pages(state->layout, pages, held);
}

static void preview_nodes(const preview_state *state, const page_manager *pages, layout_preview *preview) {
    for (size_t i = 0; i < state->layout->node_count; i++) {
        uint32_t token_count = state->layout->nodes[i].token_count;
        uint32_t page_count = page_manager_pages_for(pages, token_count);
        bool held;
        uint32_t ready = node_ready(state, i, &held);
        preview->computed_tokens += token_count - ready;
        *(held ? &preview->pages_held : &preview->pages_new) += page_count;
    }
}

void cascade_layout_preview(const cascade_layout *layout, const int32_t *tokens, chunk_registry *registry,
                            prefix_tree *tree, layout_preview *preview, uint32_t *segment_cached) {
    const page_manager *pages = chunk_registry_pages(registry);
    preview_state state = {.layout = layout, .registry = registry};
    *preview = (layout_preview){0};
    uint32_t match_tokens = cascade_layout_match_tokens(layout, layout->prompt_tokens);
    if (match_tokens > 0) {
        prefix_match match;
        prefix_tree_match(tree, &layout->scope_id, tokens, match_tokens, &match);
        state.path_held = match.tokens;
        state.path_ready = match.tokens_ready;
    }
    preview_path(&state, pages, preview);
    preview_nodes(&state, pages, preview);
    uint32_t in_tree = layout->path_tokens;
    if (layout->own_on_path) {
        in_tree = layout->prompt_tokens;
        uint32_t begin = state.path_held > layout->path_tokens ? state.path_held : layout->path_tokens;
        preview->pages_new += page_manager_pages_for(pages, layout->prompt_tokens - begin);
    } else {
        preview->computed_tokens += layout->own_tokens;
        preview->pages_new += page_manager_pages_for(pages, layout->own_tokens + layout->repeats_last);
    }
    preview->computed_tokens += in_tree - state.path_ready;
    preview->computed_tokens += layout->repeats_last;
    for (size_t i = 0; i < layout->segment_count; i++) {
        uint32_t cached = segment_cached_tokens(&state, i);
        preview->cached_tokens += cached;
        if (segment_cached != NULL)
            segment_cached[i] = cached;
    }
}
