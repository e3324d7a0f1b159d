/*
 * The rows of one step: decode first, then prefill. A sequence's rows stand in an order in which everything
 * that a row sees is ready, or has its row in the same step: the path, chunks computed apart, the rest by
 * position.
 */
#include "cascade_scheduler_internal.h"

#include <assert.h>
#include <string.h>

static uint32_t rows_left(const cascade_scheduler *scheduler) {
    return scheduler->options.max_batched_tokens - scheduler->row_count;
}

/* ------------------------------------------------------------------ rows, groups, spans ---- */

/* Rows of tokens [token_begin, token_begin + count) of the sequence, at positions from `position` on, whose
 * KV goes to the run's tokens from run_token on. */
static void add_rows(cascade_scheduler *scheduler, step_item item, const page_run *run, uint32_t run_token,
                     uint32_t position) {
    cascade_sequence *sequence = item.sequence;
    for (uint32_t i = 0; i < item.count; i++) {
        uint32_t row = scheduler->row_count++;
        uint32_t token = item.token_begin + i;
        scheduler->tokens[row] = sequence->tokens[token];
        scheduler->positions[row] = position + i;
        scheduler->kv_slots[row] = page_run_slot(scheduler->pages, run, run_token + i);
        if (token < sequence->prompt_tokens && sequence->row_counts[token] < UINT8_MAX)
            sequence->row_counts[token]++;
    }
    sequence->rows_computed += item.count;
    scheduler->items[scheduler->item_count++] = item;
}

/* Spans of everything in the prompt and answer before position key_end. */
static void add_spans(cascade_scheduler *scheduler, const cascade_sequence *sequence, uint32_t key_end) {
    const sequence_claims *claims = sequence->claims;
    for (size_t i = 0; i < claims->span_count; i++) {
        const cached_span *cached = &claims->spans[i];
        if (cached->span.position >= key_end)
            break;
        kv_span *span = &scheduler->spans[scheduler->span_count++];
        *span = cached->span;
        if (cached->own)
            span->pages = claims->own->pages;
        if (span->token_end - span->token_begin > key_end - span->position)
            span->token_end = span->token_begin + (key_end - span->position);
    }
    assert(scheduler->span_count <= scheduler->span_capacity);
}

static row_group *add_group(cascade_scheduler *scheduler, uint32_t row_begin) {
    row_group *group = &scheduler->groups[scheduler->group_count++];
    *group = (row_group){.row_begin = row_begin,
                         .row_count = scheduler->row_count - row_begin,
                         .span_begin = scheduler->span_count};
    scheduler->open_group = NULL;
    return group;
}

/* The rows from row_begin on are of this sequence, in place. They go on the last group if that is the same.
 */
static void end_group_in_place(cascade_scheduler *scheduler, const cascade_sequence *sequence,
                               uint32_t row_begin) {
    if (row_begin == scheduler->row_count)
        return;
    row_group *group;
    if (scheduler->open_group == sequence) {
        group = &scheduler->groups[scheduler->group_count - 1];
        group->row_count = scheduler->row_count - group->row_begin;
        scheduler->span_count = group->span_begin;
    } else {
        group = add_group(scheduler, row_begin);
    }
    add_spans(scheduler, sequence, scheduler->positions[scheduler->row_count - 1] + 1);
    group->span_count = scheduler->span_count - group->span_begin;
    scheduler->open_group = sequence;
}

/* ------------------------------------------------------------------ what is missing ---- */

/* Rows for what is missing of a run's tokens before `end`; false: the step has no room for all of it.
 * token_begin: of the sequence's tokens, that of the run's token 0; position: of the same. */
static bool add_missing(cascade_scheduler *scheduler, cascade_sequence *sequence, chunk_kv *kv, uint32_t end,
                        uint32_t token_begin, uint32_t position) {
    sequence_claims *claims = sequence->claims;
    uint32_t *scheduled = kv == NULL ? &claims->own_scheduled : &kv->tokens_scheduled;
    if (*scheduled >= end)
        return true;
    uint32_t count = min_u32(end - *scheduled, rows_left(scheduler));
    if (count == 0)
        return false;
    add_rows(
        scheduler,
        (step_item){.sequence = sequence, .kv = kv, .token_begin = token_begin + *scheduled, .count = count},
        kv == NULL ? claims->own : kv->run, *scheduled, position + *scheduled);
    *scheduled += count;
    return *scheduled == end;
}

static bool add_path(cascade_scheduler *scheduler, cascade_sequence *sequence, bool shared_only) {
    sequence_claims *claims = sequence->claims;
    for (; claims->path_done < claims->path_count; claims->path_done++) {
        chunk_kv *kv = &claims->path[claims->path_done]->kv;
        if (shared_only && kv->refs < 2 && kv->tokens_scheduled < kv->tokens)
            return false;
        if (!add_missing(scheduler, sequence, kv, kv->tokens, kv->position, kv->position))
            return false;
    }
    return true;
}

/* Rows of a chunk computed apart see the anchor and the chunk itself, as it was stored. */
static bool add_apart(cascade_scheduler *scheduler, cascade_sequence *sequence, bool shared_only) {
    const cascade_layout *layout = sequence->layout;
    bool whole = true;
    for (size_t i = 0; i < layout->node_count; i++) {
        const layout_node *node = &layout->nodes[i];
        chunk_kv *kv = sequence->claims->kvs[i];
        if (!node->apart || kv->tokens_scheduled == kv->tokens)
            continue;
        uint32_t row_begin = scheduler->row_count;
        if (!shared_only || kv->refs >= 2)
            add_missing(scheduler, sequence, kv, kv->tokens, node->token_begin, node->position);
        whole = whole && kv->tokens_scheduled == kv->tokens;
        if (row_begin == scheduler->row_count)
            continue;
        row_group *group = add_group(scheduler, row_begin);
        add_spans(scheduler, sequence, layout->anchor_tokens);
        scheduler->spans[scheduler->span_count++] =
            (kv_span){.pages = kv->run->pages, .token_end = kv->tokens_scheduled, .position = node->position};
        group->span_count = scheduler->span_count - group->span_begin;
    }
    return whole;
}

/* What is computed in place behind the path, by position. */
static bool add_in_place(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    const cascade_layout *layout = sequence->layout;
    sequence_claims *claims = sequence->claims;
    if (layout->own_on_path)
        return add_missing(scheduler, sequence, NULL, sequence->token_count - claims->path_tokens,
                           claims->path_tokens, claims->path_tokens);
    for (size_t i = 0; i < layout->segment_count; i++) {
        const layout_segment *segment = &layout->segments[i];
        bool own = segment->node == LAYOUT_OWN;
        if (segment->node == LAYOUT_PATH || (!own && layout->nodes[segment->node].apart))
            continue;
        chunk_kv *kv = own ? NULL : claims->kvs[segment->node];
        uint32_t begin = segment->position - segment->node_token;
        if (!add_missing(scheduler, sequence, kv, segment->node_token + segment->token_count, begin, begin))
            return false;
    }
    if (sequence->token_count == layout->prompt_tokens)
        return true;
    uint32_t begin = layout->prompt_tokens - layout->own_tokens; /* if all own tokens stood at the end */
    return add_missing(scheduler, sequence, NULL, own_index(sequence, sequence->token_count), begin, begin);
}

/* A chunk ends the prompt: its last token once more, in the slot that the answer's first token will have. It
 * sees what stands before, and itself. */
static bool add_last_row(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    if (rows_left(scheduler) == 0)
        return false;
    uint32_t position = sequence->layout->prompt_tokens - 1;
    uint32_t row_begin = scheduler->row_count;
    const page_run *own = sequence->claims->own;
    add_rows(scheduler,
             (step_item){.sequence = sequence, .token_begin = position, .count = 1, .repeats_last = true},
             own, 0, position);
    row_group *group = add_group(scheduler, row_begin);
    add_spans(scheduler, sequence, position);
    scheduler->spans[scheduler->span_count++] =
        (kv_span){.pages = own->pages, .token_end = 1, .position = position};
    group->span_count = scheduler->span_count - group->span_begin;
    return true;
}

static void add_logits(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    scheduler->logit_rows[scheduler->logit_count] = scheduler->row_count - 1;
    scheduler->logit_sequences[scheduler->logit_count++] = sequence;
}

/* ------------------------------------------------------------------ the step ---- */

static void decode(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    uint32_t position = sequence->token_count - 1;
    uint32_t row_begin = scheduler->row_count;
    if (sequence->computed_count == sequence->token_count)
        return;
    assert(sequence->claims->own_scheduled == own_index(sequence, position));
    bool whole =
        add_missing(scheduler, sequence, NULL, own_index(sequence, position) + 1,
                    position - own_index(sequence, position), position - own_index(sequence, position));
    assert(whole);
    (void)whole;
    end_group_in_place(scheduler, sequence, row_begin);
    add_logits(scheduler, sequence);
    sequence->computed_count = sequence->token_count;
}

/* KV that others need as well: before what only this sequence needs. */
static void prefill_shared(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    uint32_t row_begin = scheduler->row_count;
    bool whole = add_path(scheduler, sequence, true);
    end_group_in_place(scheduler, sequence, row_begin);
    if (whole)
        (void)add_apart(scheduler, sequence, true);
}

static void prefill(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    uint32_t row_begin = scheduler->row_count;
    bool whole = add_path(scheduler, sequence, false);
    uint32_t path_end = scheduler->row_count;
    if (whole && sequence->layout->node_count > 0) {
        end_group_in_place(scheduler, sequence, row_begin);
        whole = add_apart(scheduler, sequence, false);
        row_begin = scheduler->row_count == path_end ? row_begin : scheduler->row_count;
    }
    if (whole)
        whole = add_in_place(scheduler, sequence);
    end_group_in_place(scheduler, sequence, row_begin);
    if (!whole)
        return;
    bool repeats = sequence->layout->repeats_last && sequence->token_count == sequence->prompt_tokens;
    if (sequence->answer_tokens_max == 0) {
        scheduler->completed[scheduler->completed_count++] = sequence;
    } else if (!repeats || add_last_row(scheduler, sequence)) {
        assert(scheduler->items[scheduler->item_count - 1].sequence == sequence);
        add_logits(scheduler, sequence);
    }
}

/* Tokens of prompt and answer whose KV is there or in this step. */
static uint32_t count_computed(const cascade_sequence *sequence) {
    const cascade_layout *layout = sequence->layout;
    const sequence_claims *claims = sequence->claims;
    uint32_t count = 0;
    for (uint32_t i = 0; i < claims->path_count; i++)
        count += claims->path[i]->kv.tokens_scheduled;
    if (layout->own_on_path)
        return count + claims->own_scheduled;
    for (size_t i = 0; i < layout->segment_count; i++) {
        const layout_segment *segment = &layout->segments[i];
        if (segment->node == LAYOUT_PATH)
            continue;
        uint32_t scheduled = segment->node == LAYOUT_OWN ? claims->own_scheduled
                                                         : claims->kvs[segment->node]->tokens_scheduled;
        scheduled -= min_u32(scheduled, segment->node_token);
        count += min_u32(scheduled, segment->token_count);
    }
    if (layout->segment_count == 0) { /* a chunk alone */
        for (size_t i = 0; i < layout->node_count; i++)
            count += claims->kvs[i]->tokens_scheduled;
    }
    return count + claims->own_scheduled - min_u32(claims->own_scheduled, layout->own_tokens);
}

static void prefill_all(cascade_scheduler *scheduler) {
    cascade_sequence **running = scheduler->running;
    uint32_t end;
    for (uint32_t begin = 0; begin < scheduler->running_count; begin = end) {
        uint32_t prefilling = 0;
        for (end = begin;
             end < scheduler->running_count && running[end]->priority == running[begin]->priority; end++)
            prefilling += running[end]->state == SEQUENCE_PREFILL;
        for (uint32_t i = begin; i < end && prefilling > 1 && rows_left(scheduler) > 0; i++) {
            if (running[i]->state == SEQUENCE_PREFILL)
                prefill_shared(scheduler, running[i]);
        }
        for (uint32_t i = begin; i < end && prefilling > 0; i++) {
            if (running[i]->state == SEQUENCE_PREFILL)
                prefill(scheduler, running[i]);
        }
    }
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        if (running[i]->state == SEQUENCE_PREFILL)
            running[i]->computed_count = count_computed(running[i]);
    }
}

void rows_lay_out(cascade_scheduler *scheduler) {
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        if (scheduler->running[i]->state == SEQUENCE_DECODE)
            decode(scheduler, scheduler->running[i]);
    }
    scheduler->decode_rows = scheduler->row_count;
    prefill_all(scheduler);
}

/* ------------------------------------------------------------------ its end ---- */

static void undo_item(const step_item *item) {
    cascade_sequence *sequence = item->sequence;
    sequence->rows_computed -= item->count;
    for (uint32_t i = item->token_begin; i < item->token_begin + item->count && i < sequence->prompt_tokens;
         i++) {
        if (sequence->row_counts[i] < UINT8_MAX)
            sequence->row_counts[i]--;
    }
}

void rows_computed(cascade_scheduler *scheduler, bool succeeded) {
    if (!succeeded)
        claims_reset_copies(scheduler);
    for (uint32_t i = 0; i < scheduler->item_count; i++) {
        const step_item *item = &scheduler->items[i];
        sequence_claims *claims = item->sequence->claims;
        if (!succeeded)
            undo_item(item);
        if (item->kv != NULL)
            chunk_registry_kv_computed(scheduler->registry, item->kv, succeeded);
        else if (succeeded)
            claims->own_ready = claims->own_scheduled;
    }
    for (uint32_t i = 0; i < scheduler->running_count && !succeeded; i++) {
        cascade_sequence *sequence = scheduler->running[i];
        sequence->claims->own_scheduled = sequence->claims->own_ready;
        sequence->claims->path_done = 0;
        sequence->computed_count = count_computed(sequence);
    }
    for (uint32_t i = 0; i < scheduler->logit_count && succeeded; i++)
        scheduler->logit_sequences[i]->state = SEQUENCE_DECODE;
    scheduler->copy_count = 0;
}
