/* What one sequence holds: its path in the prefix tree, nodes, its own run; and the spans that these make. */
#include "cascade_scheduler_internal.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

/* ------------------------------------------------------------------ marks ---- */

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

static uint64_t digest_hash(const digest *id) {
    uint64_t hash;
    memcpy(&hash, id->bytes, sizeof hash);
    return hash;
}

static void fill_marks(const cascade_sequence *sequence, sequence_claims *claims) {
    const cascade_layout *layout = sequence->layout;
    uint64_t hash = digest_hash(&layout->scope_id);
    uint32_t begin = 0;
    for (size_t i = 0; i < layout->cut_count; i++) {
        uint32_t end = layout->cuts[i].token_end;
        for (uint32_t token = begin; token < end; token++)
            hash = mix(hash, (uint32_t)sequence->tokens[token]);
        claims->marks[claims->mark_count++] = (share_mark){hash, end - begin};
        begin = end;
    }
    for (size_t i = 0; i < layout->node_count; i++) {
        if (layout->nodes[i].apart)
            claims->marks[claims->mark_count++] =
                (share_mark){digest_hash(&layout->nodes[i].kv_id), layout->nodes[i].token_count};
    }
}

/* ------------------------------------------------------------------ life ---- */

static void fill_cuts(const cascade_sequence *sequence, sequence_claims *claims) {
    const cascade_layout *layout = sequence->layout;
    for (size_t i = 0; i < layout->cut_count; i++) {
        size_t part = layout->cuts[i].part;
        claims->cuts[i] = (prefix_cut){.token_end = layout->cuts[i].token_end,
                                       .chunk = sequence->chunks == NULL ? NULL : sequence->chunks[part],
                                       .kind = layout->cuts[i].kind};
    }
}

cento_status claims_create(const cascade_sequence *sequence, sequence_claims **result, cento_error *error) {
    const cascade_layout *layout = sequence->layout;
    sequence_claims *claims = mem_zalloc(1, sizeof *claims);
    if (claims == NULL)
        return error_memory(error, sizeof *claims);
    claims->cuts = mem_alloc(layout->cut_count, sizeof *claims->cuts);
    claims->kvs = mem_zalloc(layout->node_count, sizeof(chunk_kv *));
    claims->path_capacity = layout->cut_count + 2;
    claims->path = mem_alloc(claims->path_capacity, sizeof(prefix_node *));
    claims->span_capacity = claims->path_capacity + layout->segment_count + 1;
    claims->spans = mem_alloc(claims->span_capacity, sizeof *claims->spans);
    claims->marks = mem_alloc(layout->cut_count + layout->node_count, sizeof *claims->marks);
    if (claims->cuts == NULL || claims->kvs == NULL || claims->path == NULL || claims->spans == NULL ||
        claims->marks == NULL) {
        size_t bytes = claims->span_capacity * sizeof *claims->spans;
        claims_free(claims);
        return error_memory(error, bytes);
    }
    fill_cuts(sequence, claims);
    fill_marks(sequence, claims);
    *result = claims;
    return CENTO_OK;
}

void claims_free(sequence_claims *claims) {
    if (claims == NULL)
        return;
    mem_free(claims->cuts);
    mem_free(claims->kvs);
    mem_free(claims->path);
    mem_free(claims->spans);
    mem_free(claims->marks);
    mem_free(claims);
}

/* ------------------------------------------------------------------ taking ---- */

static uint32_t match_tokens(const cascade_sequence *sequence) {
    return cascade_layout_match_tokens(sequence->layout, sequence->token_count);
}

/* Tokens that the own run must hold, the next one of the answer included. */
static uint32_t own_room(const cascade_sequence *sequence, uint32_t path_tokens) {
    const cascade_layout *layout = sequence->layout;
    uint32_t known = layout->own_on_path ? sequence->token_count - path_tokens
                                         : sequence->token_count - layout->prompt_tokens + layout->own_tokens;
    return known + (sequence->token_count - sequence->prompt_tokens < sequence->answer_tokens_max);
}

void claims_estimate(const cascade_scheduler *scheduler, const cascade_sequence *sequence,
                     uint32_t *chunk_pages, uint32_t *own_pages) {
    const cascade_layout *layout = sequence->layout;
    prefix_match match = {0, 0};
    if (match_tokens(sequence) > 0)
        prefix_tree_match(scheduler->tree, &layout->scope_id, sequence->tokens, match_tokens(sequence),
                          &match);
    *chunk_pages = (uint32_t)cascade_layout_path_pages(layout, scheduler->pages, match.tokens);
    for (size_t i = 0; i < layout->node_count; i++) {
        uint32_t ready;
        if (!chunk_registry_kv_peek(scheduler->registry, &layout->nodes[i].kv_id, &ready))
            *chunk_pages += page_manager_pages_for(scheduler->pages, layout->nodes[i].token_count);
    }
    uint32_t path_tokens = max_u32(match.tokens, layout->path_tokens);
    *own_pages = page_manager_pages_for(scheduler->pages, own_room(sequence, path_tokens));
}

static void add_copy(cascade_scheduler *scheduler, kv_copy copy, cascade_sequence *sequence, bool path) {
    assert(scheduler->copy_count < 2 * scheduler->options.max_sequences);
    scheduler->copies[scheduler->copy_count] = copy;
    scheduler->copy_targets[scheduler->copy_count++] = (copy_target){sequence, path};
}

static cento_status take_path(cascade_scheduler *scheduler, cascade_sequence *sequence, prefix_claim *claim,
                              cento_error *error) {
    const cascade_layout *layout = sequence->layout;
    sequence_claims *claims = sequence->claims;
    *claim = (prefix_claim){0};
    claims->path_tokens = 0;
    if (match_tokens(sequence) == 0)
        return CENTO_OK;
    TRY(prefix_tree_claim(scheduler->tree, &layout->scope_id, sequence->tokens, match_tokens(sequence),
                          layout->path_tokens, claims->cuts, layout->cut_count, claim, error));
    claims->leaf = claim->leaf;
    claims->path_tokens = claim->path_tokens;
    assert(claims->path_tokens >= layout->path_tokens);
    return CENTO_OK;
}

/* What is held is referenced before anything is evicted for the rest. */
static cento_status take_nodes(cascade_scheduler *scheduler, cascade_sequence *sequence, cento_error *error) {
    const cascade_layout *layout = sequence->layout;
    chunk_kv **kvs = sequence->claims->kvs;
    for (size_t i = 0; i < layout->node_count; i++)
        kvs[i] = chunk_registry_kv_find(scheduler->registry, &layout->nodes[i].kv_id);
    for (size_t i = 0; i < layout->node_count; i++) {
        const layout_node *node = &layout->nodes[i];
        if (kvs[i] != NULL)
            continue;
        TRY(chunk_registry_kv_create(scheduler->registry, &node->kv_id,
                                     sequence->chunks == NULL ? NULL : sequence->chunks[node->part],
                                     node->kind, node->token_count, node->position, &kvs[i], error));
    }
    return CENTO_OK;
}

cento_status claims_grow_own(cascade_scheduler *scheduler, cascade_sequence *sequence, uint32_t page_count,
                             bool alone, cento_error *error) {
    page_run *own = sequence->claims->own;
    cento_status status = chunk_registry_run_grow(scheduler->registry, own, page_count, error);
    if (status != CENTO_POOL_FULL)
        return status;
    if (!alone && scheduler->pages_preempted < page_count)
        return status;
    cento_error ignored; /* the first one says more */
    if (chunk_registry_run_grow_alone(scheduler->registry, own, page_count, &ignored) != CENTO_OK)
        return status;
    scheduler->pages_preempted -= min_u32(scheduler->pages_preempted, page_count);
    return CENTO_OK;
}

/* The node whose beginning is the copy's destination is not ready after all. */
static void reset_copy(const cascade_scheduler *scheduler, const sequence_claims *claims,
                       const kv_copy *copy) {
    for (prefix_node *node = claims->leaf; node != NULL; node = node->parent) {
        if (page_run_slot(scheduler->pages, node->kv.run, 0) == copy->to_slot)
            node->kv.tokens_ready = node->kv.tokens_scheduled = 0;
    }
}

void claims_reset_copies(cascade_scheduler *scheduler) {
    for (uint32_t i = 0; i < scheduler->copy_count; i++) {
        copy_target target = scheduler->copy_targets[i];
        sequence_claims *claims = target.sequence->claims;
        if (target.path)
            reset_copy(scheduler, claims, &scheduler->copies[i]);
        else
            claims->own_ready = claims->own_scheduled = 0;
    }
    for (uint32_t i = 0; i < scheduler->running_count && scheduler->copy_count > 0; i++)
        scheduler->running[i]->claims->path_done = 0;
    scheduler->copy_count = 0;
}

static cento_status take_all(cascade_scheduler *scheduler, cascade_sequence *sequence, prefix_claim *claim,
                             cento_error *error) {
    sequence_claims *claims = sequence->claims;
    TRY(take_path(scheduler, sequence, claim, error));
    claims->splits = UINT64_MAX; /* path and spans are not known yet */
    claims->path_done = 0;
    claims->own_ready = claims->own_scheduled = 0;
    TRY(take_nodes(scheduler, sequence, error));
    TRY(chunk_registry_run_create(scheduler->registry, &claims->own, error));
    uint32_t page_count = page_manager_pages_for(scheduler->pages, own_room(sequence, claims->path_tokens));
    if (page_count > 0)
        TRY(claims_grow_own(scheduler, sequence, page_count, scheduler->running_count == 0, error));
    return claims_refresh(scheduler, sequence, error);
}

cento_status claims_take(cascade_scheduler *scheduler, cascade_sequence *sequence, cento_error *error) {
    sequence_claims *claims = sequence->claims;
    prefix_claim claim;
    cento_status status = take_all(scheduler, sequence, &claim, error);
    if (status != CENTO_OK) {
        if (claim.copy.token_count > 0)
            reset_copy(scheduler, claims, &claim.copy);
        claims_drop(scheduler, sequence, false, NULL);
        return status;
    }
    if (claim.copy.token_count > 0)
        add_copy(scheduler, claim.copy, sequence, true);
    if (claim.tail_tokens > 0 && sequence->layout->own_on_path && claims->own->page_count > 0) {
        assert(claims->path_tokens + claim.tail_tokens < sequence->token_count);
        uint32_t to_slot = page_run_slot(scheduler->pages, claims->own, 0);
        add_copy(scheduler, (kv_copy){claim.tail_slot, to_slot, claim.tail_tokens}, sequence, false);
        claims->own_ready = claims->own_scheduled = claim.tail_tokens;
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ dropping ---- */

/* Copies that no step has executed yet (it found no memory): others may read what they would have filled. */
static void drop_copies(cascade_scheduler *scheduler, const cascade_sequence *sequence) {
    for (uint32_t i = 0; i < scheduler->copy_count; i++) {
        if (scheduler->copy_targets[i].sequence == sequence) {
            claims_reset_copies(scheduler);
            return;
        }
    }
}

/* Behind chunks computed apart a run is found by its name, which takes the whole answer in. */
static void keep_composed(cascade_scheduler *scheduler, cascade_sequence *sequence, context_chunk *chunk) {
    const cascade_layout *layout = sequence->layout;
    sequence_claims *claims = sequence->claims;
    uint32_t tokens = sequence->token_count - layout->prompt_tokens + layout->own_tokens;
    uint32_t page_count = page_manager_pages_for(scheduler->pages, tokens);
    uint32_t ready;
    digest kv_id;
    cento_error ignored;
    if (sequence->options == NULL || tokens == 0 ||
        cascade_layout_own_id(layout, sequence->options, sequence->tokens, sequence->token_count, &kv_id,
                              &ignored) != CENTO_OK ||
        chunk_registry_kv_peek(scheduler->registry, &kv_id, &ready))
        return;
    if (claims->own->page_count < page_count &&
        chunk_registry_run_grow(scheduler->registry, claims->own, page_count - claims->own->page_count,
                                &ignored) != CENTO_OK)
        return;
    if (chunk_registry_kv_adopt(scheduler->registry, &kv_id, chunk, CENTO_KIND_OUTPUT, claims->own, tokens,
                                claims->own_ready, layout->prompt_tokens - layout->own_tokens,
                                &ignored) == CENTO_OK)
        claims->own = NULL; /* the registry's now */
}

static void keep_own(cascade_scheduler *scheduler, cascade_sequence *sequence, context_chunk *chunk) {
    sequence_claims *claims = sequence->claims;
    cento_error ignored;
    if (claims->own == NULL || claims->own_ready == 0)
        return;
    if (!sequence->layout->own_on_path) {
        keep_composed(scheduler, sequence, chunk);
        return;
    }
    (void)prefix_tree_adopt(scheduler->tree, &sequence->layout->scope_id, claims->leaf,
                            sequence->tokens + claims->path_tokens, claims->own_ready, claims->own,
                            claims->path_tokens, CENTO_KIND_OUTPUT, chunk, &ignored);
    claims->own = NULL;
}

void claims_drop(cascade_scheduler *scheduler, cascade_sequence *sequence, bool kept, context_chunk *chunk) {
    sequence_claims *claims = sequence->claims;
    drop_copies(scheduler, sequence);
    if (kept)
        keep_own(scheduler, sequence, chunk);
    chunk_registry_run_release(scheduler->registry, claims->own);
    prefix_tree_release(scheduler->tree, claims->leaf);
    for (size_t i = 0; i < sequence->layout->node_count; i++) {
        chunk_registry_kv_release(scheduler->registry, claims->kvs[i]);
        claims->kvs[i] = NULL;
    }
    claims->own = NULL;
    claims->leaf = NULL;
    claims->path_tokens = claims->path_count = claims->path_done = 0;
    claims->own_ready = claims->own_scheduled = 0;
    claims->span_count = 0;
}

/* ------------------------------------------------------------------ spans ---- */

static cento_status read_path(sequence_claims *claims, cento_error *error) {
    if (claims->leaf == NULL) {
        claims->path_count = 0;
        return CENTO_OK;
    }
    uint32_t capacity = (uint32_t)claims->path_capacity;
    uint32_t count = prefix_tree_path(claims->leaf, claims->path, capacity);
    if (count > capacity) {
        if (!mem_grow((void **)&claims->path, &claims->path_capacity, count, sizeof(prefix_node *)))
            return error_memory(error, count * sizeof(prefix_node *));
        (void)prefix_tree_path(claims->leaf, claims->path, count);
    }
    claims->path_count = count;
    claims->path_done = 0;
    return CENTO_OK;
}

/* Tokens of one run that stand side by side in run and prompt are one span. */
static void add_span(sequence_claims *claims, kv_span span, bool own) {
    cached_span *last = claims->span_count == 0 ? NULL : &claims->spans[claims->span_count - 1];
    if (last != NULL && last->own == own && last->span.pages == span.pages &&
        last->span.token_end == span.token_begin && last->span.rotation_origin == span.rotation_origin &&
        last->span.position + (last->span.token_end - last->span.token_begin) == span.position) {
        last->span.token_end = span.token_end;
        return;
    }
    assert(claims->span_count < claims->span_capacity);
    claims->spans[claims->span_count++] = (cached_span){span, own};
}

static void add_path_spans(const cascade_scheduler *scheduler, sequence_claims *claims) {
    uint32_t position = 0;
    for (uint32_t i = 0; i < claims->path_count; i++) {
        const chunk_kv *kv = &claims->path[i]->kv;
        assert(kv->position == position);
        claims->spans[claims->span_count++] =
            (cached_span){{.pages = kv->run->pages,
                           .token_end = kv->tokens,
                           .position = position,
                           .continues = scheduler->options.continuous && i > 0},
                          false};
        position += kv->tokens;
    }
    assert(position == claims->path_tokens);
}

static void add_segment_spans(const cascade_sequence *sequence, sequence_claims *claims) {
    const cascade_layout *layout = sequence->layout;
    for (size_t i = 0; i < layout->segment_count; i++) {
        const layout_segment *segment = &layout->segments[i];
        if (segment->node == LAYOUT_PATH)
            continue;
        bool own = segment->node == LAYOUT_OWN;
        const layout_node *node = own ? NULL : &layout->nodes[segment->node];
        int64_t chunk_begin = (int64_t)segment->position - segment->node_token;
        add_span(
            claims,
            (kv_span){.pages = own ? NULL : claims->kvs[segment->node]->run->pages,
                      .token_begin = segment->node_token,
                      .token_end = segment->node_token + segment->token_count,
                      .position = segment->position,
                      .rotation_origin = !own && node->apart ? chunk_begin - (int64_t)node->position : 0},
            own);
    }
}

cento_status claims_refresh(cascade_scheduler *scheduler, cascade_sequence *sequence, cento_error *error) {
    const cascade_layout *layout = sequence->layout;
    sequence_claims *claims = sequence->claims;
    uint64_t splits = prefix_tree_splits(scheduler->tree);
    if (claims->splits == splits)
        return CENTO_OK;
    TRY(read_path(claims, error));
    size_t needed = claims->path_count + layout->segment_count + 1;
    if (!mem_grow((void **)&claims->spans, &claims->span_capacity, needed, sizeof *claims->spans))
        return error_memory(error, needed * sizeof *claims->spans);
    claims->span_count = 0;
    add_path_spans(scheduler, claims);
    uint32_t own_position = claims->path_tokens;
    if (!layout->own_on_path) {
        add_segment_spans(sequence, claims);
        own_position = layout->prompt_tokens;
    }
    if (own_position < sequence->token_capacity) /* up to where it may grow */
        add_span(claims,
                 (kv_span){.token_begin = own_index(sequence, own_position),
                           .token_end = own_index(sequence, sequence->token_capacity),
                           .position = own_position,
                           .continues = scheduler->options.continuous && layout->own_on_path &&
                                        claims->path_count > 0},
                 true);
    claims->splits = splits;
    return CENTO_OK;
}

size_t claims_span_bound(const cascade_sequence *sequence) {
    const cascade_layout *layout = sequence->layout;
    const sequence_claims *claims = sequence->claims;
    if (sequence->state == SEQUENCE_DECODE)
        return claims->span_count;
    /* groups: of its path (what is shared first), of rows in place, of the last row, of each chunk apart */
    size_t bound = 4 * claims->span_count + 1;
    for (size_t i = 0; i < layout->node_count; i++) {
        if (layout->nodes[i].apart)
            bound += claims->path_count + 1;
    }
    return bound;
}
