/* Claims, forward passes, and the end of a sequence; see sequence.h. */
#include "sequence.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

/* ------------------------------------------------------------------ claims ---- */

static uint64_t pages_for_prompt(const cento_engine *engine, const composition *laid_out) {
    uint64_t page_count = 0;
    for (size_t i = 0; i < laid_out->node_count; i++)
        page_count += page_manager_pages_for(engine->pages, laid_out->nodes[i].token_count);
    return page_count;
}

uint32_t sequence_completion_room(const cento_engine *engine, const composition *laid_out) {
    uint64_t page_count = pages_for_prompt(engine, laid_out);
    if (page_count >= engine->pages->page_count)
        return 0;
    uint64_t token_count = (engine->pages->page_count - page_count) * engine->pages->page_tokens;
    return token_count <= laid_out->own_tokens ? 0 : (uint32_t)(token_count - laid_out->own_tokens);
}

static cento_status check_room(const cento_engine *engine, const prompt *built, const composition *laid_out,
                               uint32_t completion_tokens, cento_error *error) {
    uint64_t page_count =
        pages_for_prompt(engine, laid_out) +
        page_manager_pages_for(engine->pages, (uint64_t)laid_out->own_tokens + completion_tokens);
    if (page_count <= engine->pages->page_count)
        return CENTO_OK;
    return error_set(
        error, CENTO_POOL_FULL,
        "a prompt of %zu tokens in %zu runs and an answer of %u need %llu KV pages of %u tokens, "
        "the pool has %u",
        built->tokens.count, laid_out->node_count + 1, completion_tokens, (unsigned long long)page_count,
        engine->pages->page_tokens, engine->pages->page_count);
}

static cento_status claim_chunks(sequence *state, const cento_piece *pieces, cento_error *error) {
    const prompt *built = state->built;
    for (size_t part = 0; part < built->part_count; part++) {
        const prompt_part *source = &built->parts[part];
        if (source->piece == PROMPT_TEMPLATE)
            continue;
        const cento_piece *piece = &pieces[source->piece];
        TRY(chunk_registry_acquire(state->engine->registry, piece->kind, &source->content_id,
                                   built->tokens.ids + source->token_begin, source->token_count, piece->label,
                                   &state->chunks[part], NULL, error));
        if (state->laid_out->segment_count > 0)
            chunk_registry_touch(state->engine->registry, state->chunks[part]);
    }
    return CENTO_OK;
}

/* What is held is referenced before anything is evicted for the rest. */
static cento_status claim_kv(sequence *state, cento_error *error) {
    const composition *laid_out = state->laid_out;
    chunk_registry *registry = state->engine->registry;
    for (size_t i = 0; i < laid_out->node_count; i++) {
        state->kvs[i] = chunk_registry_kv_find(registry, &laid_out->nodes[i].kv_id);
        state->ready_before[i] = state->kvs[i] == NULL ? 0 : state->kvs[i]->tokens_ready;
    }
    for (size_t i = 0; i < laid_out->node_count; i++) {
        const composition_node *node = &laid_out->nodes[i];
        if (state->kvs[i] != NULL)
            continue;
        TRY(chunk_registry_kv_create(registry, &node->kv_id, state->chunks[node->part], node->kind,
                                     node->token_count, node->position, &state->kvs[i], error));
    }
    return CENTO_OK;
}

cento_status sequence_reserve(sequence *state, uint32_t answer_tokens, cento_error *error) {
    page_manager *pages = state->engine->pages;
    uint32_t needed = page_manager_pages_for(pages, (uint64_t)state->laid_out->own_tokens + answer_tokens);
    if (needed <= state->own->page_count)
        return CENTO_OK;
    uint32_t missing = needed - state->own->page_count;
    /* requests take turns: this one is alone */
    return chunk_registry_run_grow_alone(state->engine->registry, state->own, missing, error);
}

/* ------------------------------------------------------------------ what is to be computed ---- */

static cento_status add_work(sequence *state, sequence_work work, cento_error *error) {
    if (work.token_count == 0)
        return CENTO_OK;
    if (!mem_grow((void **)&state->work, &state->work_capacity, state->work_count + 1, sizeof *state->work))
        return error_memory(error, (state->work_count + 1) * sizeof *state->work);
    state->work[state->work_count++] = work;
    state->work_tokens += work.token_count;
    return CENTO_OK;
}

static uint32_t ready_tokens(const sequence *state, size_t node) {
    return node == COMPOSITION_OWN ? state->own_ready : state->kvs[node]->tokens_ready;
}

static cento_status plan_apart(sequence *state, cento_error *error) {
    const composition *laid_out = state->laid_out;
    for (size_t i = 0; i < laid_out->node_count; i++) {
        const composition_node *node = &laid_out->nodes[i];
        uint32_t ready = state->kvs[i]->tokens_ready;
        if (!node->apart)
            continue;
        const int32_t *tokens = state->built->tokens.ids + state->built->parts[node->part].token_begin;
        TRY(add_work(state,
                     (sequence_work){.node = i,
                                     .node_token = ready,
                                     .position = node->position + ready,
                                     .token_count = node->token_count - ready,
                                     .tokens = tokens + ready,
                                     .apart = true},
                     error));
    }
    return CENTO_OK;
}

static cento_status plan_work(sequence *state, cento_error *error) {
    const composition *laid_out = state->laid_out;
    uint32_t prompt_tokens = (uint32_t)state->built->tokens.count;
    bool apart_planned = false;
    uint32_t in_place_end = 0; /* position behind the last token computed in place */
    for (size_t i = 0; i < laid_out->segment_count; i++) {
        const composition_segment *segment = &laid_out->segments[i];
        if (segment->node != COMPOSITION_OWN && laid_out->nodes[segment->node].apart) {
            if (!apart_planned)
                TRY(plan_apart(state, error));
            apart_planned = true;
            continue;
        }
        uint32_t ready = ready_tokens(state, segment->node);
        uint32_t skipped = ready <= segment->node_token ? 0 : ready - segment->node_token;
        if (skipped >= segment->token_count)
            continue;
        uint32_t position = segment->position + skipped;
        in_place_end = segment->position + segment->token_count;
        TRY(add_work(state,
                     (sequence_work){.node = segment->node,
                                     .node_token = segment->node_token + skipped,
                                     .position = position,
                                     .token_count = in_place_end - position,
                                     .tokens = state->built->tokens.ids + position},
                     error));
    }
    if (laid_out->segment_count == 0) /* a chunk alone, for its KV */
        return plan_apart(state, error);
    if (in_place_end == prompt_tokens)
        return CENTO_OK;
    /* the last token's KV is there or is a chunk's: its logits need a row of their own, whose KV goes where
     * the answer's first token will overwrite it */
    return add_work(state,
                    (sequence_work){.node = COMPOSITION_OWN,
                                    .node_token = laid_out->own_tokens,
                                    .position = prompt_tokens - 1,
                                    .token_count = 1,
                                    .tokens = state->built->tokens.ids + prompt_tokens - 1,
                                    .repeats_last = true},
                    error);
}

cento_status sequence_begin(cento_engine *engine, const prompt *built, const composition *laid_out,
                            const cento_piece *pieces, uint32_t completion_tokens, sequence *state,
                            cento_error *error) {
    TRY(check_room(engine, built, laid_out, completion_tokens, error));
    state->engine = engine;
    state->built = built;
    state->laid_out = laid_out;
    state->kvs = mem_zalloc(laid_out->node_count, sizeof(chunk_kv *));
    state->ready_before = mem_zalloc(laid_out->node_count, sizeof *state->ready_before);
    state->chunks = mem_zalloc(built->part_count, sizeof(context_chunk *));
    if (state->kvs == NULL || state->ready_before == NULL || state->chunks == NULL)
        return error_memory(error, (laid_out->node_count + built->part_count) * sizeof(void *));
    TRY(claim_chunks(state, pieces, error));
    TRY(claim_kv(state, error));
    TRY(chunk_registry_run_create(engine->registry, &state->own, error));
    TRY(sequence_reserve(state, completion_tokens > 0 ? 1 : 0, error));
    return plan_work(state, error);
}

/* ------------------------------------------------------------------ one forward pass ---- */

static const page_run *run_of(const sequence *state, size_t node) {
    return node == COMPOSITION_OWN ? state->own : state->kvs[node]->run;
}

static cento_status add_span(step_rows *rows, kv_span span, cento_error *error) {
    if (span.token_begin >= span.token_end)
        return CENTO_OK;
    if (!mem_grow((void **)&rows->spans, &rows->span_capacity, rows->span_count + 1, sizeof *rows->spans))
        return error_memory(error, (rows->span_count + 1) * sizeof *rows->spans);
    rows->spans[rows->span_count++] = span;
    return CENTO_OK;
}

/* Segments that stand side by side in node and prompt are one span. */
static bool continues(const composition_segment *segment, size_t node, uint32_t node_token,
                      uint32_t position) {
    return segment->node == node && segment->node_token == node_token && segment->position == position;
}

/* The group attends to everything in the prompt before position key_end. */
static cento_status add_prompt_spans(const sequence *state, step_rows *rows, uint32_t key_end,
                                     cento_error *error) {
    const composition *laid_out = state->laid_out;
    for (size_t i = 0; i < laid_out->segment_count; i++) {
        const composition_segment *segment = &laid_out->segments[i];
        if (segment->position >= key_end)
            break;
        const composition_node *node =
            segment->node == COMPOSITION_OWN ? NULL : &laid_out->nodes[segment->node];
        uint32_t token_end = segment->node_token + segment->token_count;
        uint32_t segment_end = segment->position + segment->token_count;
        while (i + 1 < laid_out->segment_count &&
               continues(&laid_out->segments[i + 1], segment->node, token_end, segment_end)) {
            i++;
            token_end += laid_out->segments[i].token_count;
            segment_end += laid_out->segments[i].token_count;
        }
        if (segment_end > key_end)
            token_end -= segment_end - key_end;
        bool apart = node != NULL && node->apart;
        int64_t chunk_begin = (int64_t)segment->position - segment->node_token;
        TRY(add_span(rows,
                     (kv_span){.pages = run_of(state, segment->node)->pages,
                               .token_begin = segment->node_token,
                               .token_end = token_end,
                               .position = segment->position,
                               .rotation_origin = apart ? chunk_begin - (int64_t)node->position : 0},
                     error));
    }
    return CENTO_OK;
}

/* Rows of a chunk computed apart attend to the anchor and to the chunk itself. */
static cento_status add_apart_spans(const sequence *state, step_rows *rows, size_t node, cento_error *error) {
    const composition_node *source = &state->laid_out->nodes[node];
    TRY(add_prompt_spans(state, rows, state->laid_out->anchor_tokens, error));
    return add_span(rows,
                    (kv_span){.pages = state->kvs[node]->run->pages,
                              .token_begin = 0,
                              .token_end = rows->positions[rows->count - 1] - source->position + 1,
                              .position = source->position},
                    error);
}

static void add_rows(const sequence *state, step_rows *rows, const sequence_work *work, uint32_t begin,
                     uint32_t count) {
    const page_run *run = run_of(state, work->node);
    for (uint32_t i = begin; i < begin + count; i++) {
        rows->tokens[rows->count] = work->tokens[i];
        rows->positions[rows->count] = work->position + i;
        rows->kv_slots[rows->count] = page_run_slot(state->engine->pages, run, work->node_token + i);
        rows->count++;
    }
}

/* Where the walk over the work stands. */
typedef struct work_cursor {
    size_t work;
    uint32_t done; /* tokens of it */
} work_cursor;

/* Takes work until the budget is used up. Consecutive work in place is one group of rows. */
static cento_status fill_rows(const sequence *state, step_rows *rows, work_cursor *cursor,
                              cento_error *error) {
    rows->count = 0;
    rows->span_count = 0;
    rows->group_count = 0;
    while (cursor->work < state->work_count && rows->count < rows->capacity) {
        const sequence_work *first = &state->work[cursor->work];
        row_group *group = &rows->groups[rows->group_count++];
        *group = (row_group){.row_begin = rows->count, .span_begin = (uint32_t)rows->span_count};
        do {
            const sequence_work *work = &state->work[cursor->work];
            uint32_t count = work->token_count - cursor->done;
            if (count > rows->capacity - rows->count)
                count = rows->capacity - rows->count;
            add_rows(state, rows, work, cursor->done, count);
            cursor->done += count;
            if (cursor->done < work->token_count)
                break;
            cursor->work++;
            cursor->done = 0;
        } while (cursor->work < state->work_count && rows->count < rows->capacity && !first->apart &&
                 !state->work[cursor->work].apart && !first->repeats_last &&
                 !state->work[cursor->work].repeats_last);
        uint32_t last_position = rows->positions[rows->count - 1];
        if (first->apart) {
            TRY(add_apart_spans(state, rows, first->node, error));
        } else if (first->repeats_last) {
            TRY(add_prompt_spans(state, rows, last_position, error));
            TRY(add_span(rows,
                         (kv_span){.pages = state->own->pages,
                                   .token_begin = first->node_token,
                                   .token_end = first->node_token + 1,
                                   .position = last_position},
                         error));
        } else {
            TRY(add_prompt_spans(state, rows, last_position + 1, error));
        }
        group->row_count = rows->count - group->row_begin;
        group->span_count = (uint32_t)rows->span_count - group->span_begin;
    }
    return CENTO_OK;
}

/* Lays out the rows' attention; the plan is made again when the spans have outgrown it. */
static cento_status build_plan(const cento_engine *engine, const step_rows *rows, uint32_t window,
                               cascade_plan **plan, cento_error *error) {
    if (*plan == NULL || (*plan)->options.spans_max < rows->span_count) {
        const plan_options options = {.levels_max = 1,
                                      .page_count = engine->pages->page_count,
                                      .page_tokens = engine->pages->page_tokens,
                                      .rows_max = rows->capacity,
                                      .spans_max = (uint32_t)rows->span_capacity,
                                      .tile_rows = engine->device->ops->plan_tile_rows(engine->device),
                                      .workers = engine->device->ops->plan_workers(engine->device)};
        cascade_plan_free(*plan);
        *plan = NULL;
        TRY(cascade_plan_create(&options, plan, error));
    }
    const plan_input input = {.groups = rows->groups,
                              .group_count = rows->group_count,
                              .spans = rows->spans,
                              .span_count = (uint32_t)rows->span_count,
                              .positions = rows->positions,
                              .row_count = rows->count,
                              .heads_per_kv = engine->config.heads / engine->config.kv_heads,
                              .window = window};
    return cascade_plan_build(*plan, &input, error);
}

static cento_status run_rows(sequence *state, bool logits_wanted, cento_error *error) {
    cento_engine *engine = state->engine;
    step_rows *rows = &engine->rows;
    uint32_t last_row = rows->count - 1, window = engine->config.window;
    TRY(build_plan(engine, rows, 0, &rows->plan, error));
    if (window > 0)
        TRY(build_plan(engine, rows, window, &rows->window_plan, error));
    const decoder_batch batch = {.token_count = rows->count,
                                 .tokens = rows->tokens,
                                 .positions = rows->positions,
                                 .kv_slots = rows->kv_slots,
                                 .plan = rows->plan,
                                 .window_plan = window > 0 ? rows->window_plan : NULL,
                                 .logit_rows = &last_row,
                                 .logit_row_count = logits_wanted};
    return decoder_forward(engine->model, &batch, engine->pool, engine->logits, error);
}

/* The work between two cursors is computed now. */
static void mark_ready(sequence *state, work_cursor begin, work_cursor end) {
    while (begin.work < end.work || (begin.work == end.work && begin.done < end.done)) {
        const sequence_work *work = &state->work[begin.work];
        uint32_t done = begin.work == end.work ? end.done : work->token_count;
        uint32_t ready = work->node_token + done;
        if (work->node == COMPOSITION_OWN) {
            if (!work->repeats_last)
                state->own_ready = ready;
        } else {
            chunk_kv *kv = state->kvs[work->node];
            assert(kv->tokens_ready <= ready && ready <= kv->tokens);
            kv->tokens_scheduled = ready;
            chunk_registry_kv_computed(state->engine->registry, kv, true);
        }
        begin = (work_cursor){begin.work + 1, 0};
    }
}

cento_status sequence_prefill(sequence *state, cento_error *error) {
    cento_engine *engine = state->engine;
    work_cursor cursor = {0, 0};
    uint64_t computed = 0;
    while (cursor.work < state->work_count) {
        work_cursor before = cursor;
        TRY(fill_rows(state, &engine->rows, &cursor, error));
        TRY(run_rows(state, cursor.work == state->work_count && state->laid_out->segment_count > 0, error));
        mark_ready(state, before, cursor);
        computed += engine->rows.count;
        if (engine->on_progress != NULL && state->work_tokens > engine->rows.capacity) {
            const cento_progress progress = {"prefill", computed, state->work_tokens};
            engine->on_progress(engine->on_progress_user, &progress);
        }
        if (engine_is_cancelled(engine))
            return error_set(error, CENTO_CANCELLED, "cancelled after %llu of %llu prompt tokens",
                             (unsigned long long)computed, (unsigned long long)state->work_tokens);
    }
    state->position = (uint32_t)state->built->tokens.count;
    return CENTO_OK;
}

cento_status sequence_step(sequence *state, int32_t token, cento_error *error) {
    step_rows *rows = &state->engine->rows;
    uint32_t own_token = state->own_ready;
    uint32_t prompt_tokens = (uint32_t)state->built->tokens.count;
    uint32_t own_begin = state->laid_out->own_tokens; /* in the own node, of the answer */
    assert(own_token >= own_begin && state->position == prompt_tokens + own_token - own_begin);
    rows->count = 1;
    rows->span_count = 0;
    rows->tokens[0] = token;
    rows->positions[0] = state->position;
    rows->kv_slots[0] = page_run_slot(state->engine->pages, state->own, own_token);
    TRY(add_prompt_spans(state, rows, prompt_tokens, error));
    TRY(add_span(rows,
                 (kv_span){.pages = state->own->pages,
                           .token_begin = own_begin,
                           .token_end = own_token + 1,
                           .position = prompt_tokens},
                 error));
    rows->groups[0] = (row_group){.row_count = 1, .span_count = (uint32_t)rows->span_count};
    rows->group_count = 1;
    TRY(run_rows(state, true, error));
    state->own_ready++;
    state->position++;
    return CENTO_OK;
}

/* ------------------------------------------------------------------ the end ---- */

static cento_status keep_answer(sequence *state, const composition_options *options, const int32_t *answer,
                                size_t answer_tokens, cento_error *error) {
    cento_engine *engine = state->engine;
    uint32_t token_count = state->laid_out->own_tokens + (uint32_t)answer_tokens;
    uint32_t ready = state->own_ready < token_count ? state->own_ready : token_count;
    uint32_t held;
    digest kv_id, content_id;
    TRY(composition_own_id(state->laid_out, state->built, options, answer, answer_tokens, &kv_id, error));
    if (ready == 0 || chunk_registry_kv_peek(engine->registry, &kv_id, &held))
        return CENTO_OK;
    TRY(content_id_of(options->tokenizer_fingerprint, answer, answer_tokens, &content_id, error));
    context_chunk *chunk;
    TRY(chunk_registry_acquire(engine->registry, CENTO_KIND_OUTPUT, &content_id, answer,
                               (uint32_t)answer_tokens, NULL, &chunk, NULL, error));
    page_manager_shrink(engine->pages, state->own, page_manager_pages_for(engine->pages, token_count));
    cento_status status = chunk_registry_kv_adopt(
        engine->registry, &kv_id, chunk, CENTO_KIND_OUTPUT, state->own, token_count, ready,
        (uint32_t)state->built->tokens.count - state->laid_out->own_tokens, error);
    if (status == CENTO_OK)
        state->own = NULL; /* the registry's now */
    chunk_registry_release(engine->registry, chunk);
    return status;
}

void sequence_keep_answer(sequence *state, const composition_options *options, const int32_t *answer,
                          size_t answer_tokens) {
    cento_error ignored;
    if (answer_tokens > 0)
        (void)keep_answer(state, options, answer, answer_tokens, &ignored);
}

void sequence_end(sequence *state) {
    cento_engine *engine = state->engine;
    if (engine == NULL)
        return;
    for (size_t i = 0; state->kvs != NULL && i < state->laid_out->node_count; i++)
        chunk_registry_kv_release(engine->registry, state->kvs[i]);
    for (size_t i = 0; state->chunks != NULL && i < state->built->part_count; i++)
        chunk_registry_release(engine->registry, state->chunks[i]);
    chunk_registry_run_release(engine->registry, state->own);
    mem_free(state->kvs);
    mem_free(state->ready_before);
    mem_free(state->chunks);
    mem_free(state->work);
    *state = (sequence){0};
}
