/* flashinfer_requests: see flashinfer_requests.h. */
#include "flashinfer_requests.h"

#include <string.h>

#include "base/mem.h"

/* One request while its rows and pages are put together. Its keys are pieces of pages, one after another. */
typedef struct request_draft {
    flashinfer_requests *to;
    const cascade_plan *plan;
    const uint32_t *positions;
    uint32_t window;
    uint32_t keys; /* of its pieces */
} request_draft;

/* ------------------------------------------------------------------------------- lists ------ */

static cento_status list_reserve(int_list *list, size_t more, cento_error *error) {
    void *values = list->values;
    if (!mem_grow(&values, &list->capacity, list->count + more, sizeof *list->values))
        return error_memory(error, (list->count + more) * sizeof *list->values);
    list->values = values;
    return CENTO_OK;
}

static cento_status list_add(int_list *list, int64_t value, cento_error *error) {
    if (value < INT32_MIN || value > INT32_MAX)
        return error_set(error, CENTO_UNSUPPORTED, "FlashInfer counts in 32 bits; this step has a %lld",
                         (long long)value);
    TRY(list_reserve(list, 1, error));
    list->values[list->count++] = (int32_t)value;
    return CENTO_OK;
}

static void list_free(int_list *list) {
    mem_free(list->values);
    *list = (int_list){0};
}

/* ------------------------------------------------------------------------- pieces, rows ----- */

static void draft_begin(request_draft *draft) {
    flashinfer_requests *to = draft->to;
    draft->keys = 0;
    to->piece_pages.count = to->piece_begins.count = to->piece_ends.count = 0;
    to->seen_begins.count = to->seen_ends.count = 0;
}

/* Does this source go on where the last piece ends, so that no mask is needed for the seam? */
static bool draft_continues(const request_draft *draft, const plan_source *source) {
    const flashinfer_requests *to = draft->to;
    uint32_t page_tokens = draft->plan->options.page_tokens;
    if (to->piece_pages.count == 0)
        return true;
    size_t last = to->piece_pages.count - 1;
    uint32_t end = (uint32_t)to->piece_ends.values[last], begin = source->token_begin % page_tokens;
    if (end == page_tokens)
        return begin == 0;
    return end == begin &&
           (uint32_t)to->piece_pages.values[last] == source->pages[source->token_begin / page_tokens];
}

static cento_status draft_add_source(request_draft *draft, const plan_source *source, cento_error *error) {
    flashinfer_requests *to = draft->to;
    uint32_t page_tokens = draft->plan->options.page_tokens;
    bool joined =
        to->piece_pages.count > 0 && source->token_begin % page_tokens != 0 && draft_continues(draft, source);
    for (uint32_t token = source->token_begin; token < source->token_end;) {
        uint32_t begin = token % page_tokens, left = source->token_end - token;
        uint32_t end = left < page_tokens - begin ? begin + left : page_tokens;
        if (joined) {
            to->piece_ends.values[to->piece_ends.count - 1] = (int32_t)end;
            joined = false;
        } else {
            TRY(list_add(&to->piece_pages, source->pages[token / page_tokens], error));
            TRY(list_add(&to->piece_begins, begin, error));
            TRY(list_add(&to->piece_ends, end, error));
        }
        token += end - begin;
    }
    draft->keys += source->token_end - source->token_begin;
    return CENTO_OK;
}

/* Which of the draft's keys the rows of a view see; the first is key `offset` of the view's cell. */
static cento_status draft_add_rows(request_draft *draft, const plan_view *view, uint32_t offset,
                                   cento_error *error) {
    flashinfer_requests *to = draft->to;
    for (uint32_t i = 0; i < view->row_count; i++) {
        int64_t position = draft->positions[view->row_begin + i];
        int64_t end = position - view->position - offset + 1;
        int64_t begin = draft->window == 0 ? 0 : end - draft->window;
        begin = begin < 0 ? 0 : begin;
        end = end > draft->keys ? draft->keys : end;
        if (begin >= end)
            begin = end = 0;
        TRY(list_add(&to->seen_begins, begin, error));
        TRY(list_add(&to->seen_ends, end, error));
    }
    return CENTO_OK;
}

/* Keys beyond what any row sees are left out. */
static void draft_trim(request_draft *draft) {
    flashinfer_requests *to = draft->to;
    uint32_t seen = 0;
    for (size_t i = 0; i < to->seen_ends.count; i++)
        seen = (uint32_t)to->seen_ends.values[i] > seen ? (uint32_t)to->seen_ends.values[i] : seen;
    while (draft->keys > seen) {
        size_t last = to->piece_pages.count - 1;
        uint32_t excess = draft->keys - seen;
        uint32_t tokens = (uint32_t)(to->piece_ends.values[last] - to->piece_begins.values[last]);
        if (tokens > excess) {
            to->piece_ends.values[last] -= (int32_t)excess;
            draft->keys = seen;
        } else {
            draft->keys -= tokens;
            to->piece_pages.count = to->piece_begins.count = to->piece_ends.count = last;
        }
    }
}

static request_kind draft_kind(const request_draft *draft) {
    const flashinfer_requests *to = draft->to;
    size_t pieces = to->piece_pages.count, rows = to->seen_ends.count;
    for (size_t i = 0; i < pieces; i++)
        if (to->piece_begins.values[i] != 0 ||
            (i + 1 < pieces && (uint32_t)to->piece_ends.values[i] != draft->plan->options.page_tokens))
            return REQUEST_MASKED;
    bool full = true, causal = rows <= draft->keys;
    for (size_t i = 0; i < rows; i++) {
        size_t end = (size_t)to->seen_ends.values[i];
        if (to->seen_begins.values[i] != 0)
            return REQUEST_MASKED;
        full = full && end == draft->keys;
        causal = causal && end + rows - 1 - i == draft->keys;
    }
    return full ? REQUEST_FULL : causal ? REQUEST_CAUSAL : REQUEST_MASKED;
}

/* -------------------------------------------------------------------------- into arrays ----- */

static cento_status add_mask(const request_draft *draft, request_batch *batch, cento_error *error) {
    const flashinfer_requests *to = draft->to;
    uint32_t page_tokens = draft->plan->options.page_tokens;
    size_t pieces = to->piece_pages.count, rows = to->seen_ends.count;
    /* what FlashInfer takes for keys: whole pages, but for the end of the last one */
    size_t slots = (pieces - 1) * page_tokens + (size_t)to->piece_ends.values[pieces - 1];
    size_t bytes = (rows * slots + 7) / 8;
    void *mask = batch->mask;
    if (!mem_grow(&mask, &batch->mask_capacity, batch->mask_bytes + bytes, 1))
        return error_memory(error, batch->mask_bytes + bytes);
    batch->mask = mask;
    uint8_t *bits = batch->mask + batch->mask_bytes;
    memset(bits, 0, bytes);
    for (size_t row = 0; row < rows; row++) {
        int32_t key = 0;
        for (size_t piece = 0; piece < pieces; piece++)
            for (int32_t token = to->piece_begins.values[piece]; token < to->piece_ends.values[piece];
                 token++, key++)
                if (key >= to->seen_begins.values[row] && key < to->seen_ends.values[row]) {
                    size_t bit = row * slots + piece * page_tokens + (size_t)token;
                    bits[bit / 8] |= (uint8_t)(1u << bit % 8);
                }
    }
    batch->mask_bytes += bytes;
    return list_add(&batch->mask_begin, (int64_t)batch->mask_bytes, error);
}

static cento_status add_entries(request_draft *draft, request_kind kind, const plan_view *view,
                                size_t *draft_row, cento_error *error) {
    flashinfer_requests *to = draft->to;
    request_batch *batch = &to->batches[kind];
    for (uint32_t i = 0; i < view->row_count; i++, ++*draft_row) {
        uint32_t row = view->row_begin + i;
        if (to->seen_ends.values[*draft_row] > 0) {
            TRY(list_add(&to->pairs, row, error));
            TRY(list_add(&to->pairs, kind, error));
            TRY(list_add(&to->pairs, (int64_t)batch->rows.count, error));
        }
        TRY(list_add(&batch->rows, row, error));
        TRY(list_add(&batch->rotations, (int64_t)draft->positions[row] - view->rotation_origin, error));
    }
    return CENTO_OK;
}

/* The draft becomes a request with the rows of these views, whose rows were added in the same order. */
static cento_status draft_end(request_draft *draft, const plan_view *views, const uint32_t *view_ids,
                              uint32_t view_count, cento_error *error) {
    flashinfer_requests *to = draft->to;
    draft_trim(draft);
    if (draft->keys == 0)
        return CENTO_OK;
    request_kind kind = draft_kind(draft);
    request_batch *batch = &to->batches[kind];
    size_t row = 0, pieces = to->piece_pages.count;
    if (kind == REQUEST_MASKED)
        TRY(add_mask(draft, batch, error));
    for (uint32_t i = 0; i < view_count; i++)
        TRY(add_entries(draft, kind, &views[view_ids[i]], &row, error));
    for (size_t i = 0; i < pieces; i++)
        TRY(list_add(&batch->pages, to->piece_pages.values[i], error));
    TRY(list_add(&batch->last_page, to->piece_ends.values[pieces - 1], error));
    TRY(list_add(&batch->row_begin, (int64_t)batch->rows.count, error));
    return list_add(&batch->page_begin, (int64_t)batch->pages.count, error);
}

/* ------------------------------------------------------------------------------ the plan ---- */

/* A request for each stretch of the cell's keys that needs no mask at a seam. */
static cento_status add_task(request_draft *draft, const plan_task *task, cento_error *error) {
    const cascade_plan *plan = draft->plan;
    const uint32_t *views = plan->task_views + task->view_begin;
    const plan_cell *cell = &plan->cells[task->cell];
    const plan_source *source = plan->sources + cell->source_begin, *end = source + cell->source_count;
    for (uint32_t offset = 0; source < end;) {
        draft_begin(draft);
        do
            TRY(draft_add_source(draft, source++, error));
        while (source < end && draft_continues(draft, source));
        for (uint32_t i = 0; i < task->view_count; i++)
            TRY(draft_add_rows(draft, &plan->views[views[i]], offset, error));
        offset += draft->keys;
        TRY(draft_end(draft, plan->views, views, task->view_count, error));
    }
    return CENTO_OK;
}

/* Keys of a fold that are put together: they begin with key `offset` of the cell of view `first`. */
typedef struct stretch {
    bool open;
    uint32_t first, offset;
} stretch;

static cento_status stretch_end(request_draft *draft, stretch *of, cento_error *error) {
    if (!of->open)
        return CENTO_OK;
    of->open = false;
    TRY(draft_add_rows(draft, &draft->plan->views[of->first], of->offset, error));
    return draft_end(draft, draft->plan->views, &of->first, 1, error);
}

/* Do keys of a view, from `offset` of its cell on, stand where the stretch ends, with the same rotation? */
static bool stretch_goes_on(const request_draft *draft, const stretch *of, const plan_view *view,
                            uint32_t offset) {
    const plan_view *first = &draft->plan->views[of->first];
    return view->rotation_origin == first->rotation_origin &&
           (uint64_t)view->position + offset == (uint64_t)first->position + of->offset + draft->keys;
}

static cento_status add_fold(request_draft *draft, const plan_fold *fold, cento_error *error) {
    const cascade_plan *plan = draft->plan;
    stretch of = {0};
    for (uint32_t v = fold->view_begin; v < fold->view_begin + fold->view_count; v++) {
        const plan_view *view = &plan->views[v];
        const plan_cell *cell = &plan->cells[view->cell];
        const plan_source *source = plan->sources + cell->source_begin, *end = source + cell->source_count;
        if (view->slot != PLAN_PRIVATE)
            continue;
        for (uint32_t offset = 0; source < end; offset += source->token_end - source->token_begin, source++) {
            if (of.open && !(stretch_goes_on(draft, &of, view, offset) && draft_continues(draft, source)))
                TRY(stretch_end(draft, &of, error));
            if (!of.open) {
                draft_begin(draft);
                of = (stretch){true, v, offset};
            }
            TRY(draft_add_source(draft, source, error));
        }
    }
    return stretch_end(draft, &of, error);
}

static cento_status clear(flashinfer_requests *requests, cento_error *error) {
    requests->fold_begin.count = requests->fold_entries.count = requests->pairs.count = 0;
    for (int kind = 0; kind < REQUEST_KINDS; kind++) {
        request_batch *batch = &requests->batches[kind];
        batch->row_begin.count = batch->page_begin.count = batch->mask_begin.count = 0;
        batch->pages.count = batch->last_page.count = batch->rows.count = batch->rotations.count = 0;
        batch->mask_bytes = 0;
        TRY(list_add(&batch->row_begin, 0, error));
        TRY(list_add(&batch->page_begin, 0, error));
        TRY(list_add(&batch->mask_begin, 0, error));
    }
    return CENTO_OK;
}

/* Pairs sorted by row, otherwise in the order in which they came. */
static cento_status make_folds(flashinfer_requests *requests, uint32_t rows, cento_error *error) {
    size_t pairs = requests->pairs.count / 3;
    int_list *begin = &requests->fold_begin;
    TRY(list_reserve(begin, (size_t)rows + 2, error));
    TRY(list_reserve(&requests->fold_entries, pairs, error));
    memset(begin->values, 0, ((size_t)rows + 2) * sizeof *begin->values);
    for (size_t i = 0; i < pairs; i++)
        begin->values[requests->pairs.values[3 * i] + 2]++;
    for (uint32_t row = 0; row < rows; row++)
        begin->values[row + 2] += begin->values[row + 1];
    for (size_t i = 0; i < pairs; i++) {
        const int32_t *pair = requests->pairs.values + 3 * i;
        requests->fold_entries.values[begin->values[pair[0] + 1]++] =
            (int32_t)requests->entry_begin[pair[1]] + pair[2];
    }
    begin->count = (size_t)rows + 1;
    requests->fold_entries.count = pairs;
    return CENTO_OK;
}

cento_status flashinfer_requests_build(flashinfer_requests *requests, const cascade_plan *plan,
                                       uint32_t window, const uint32_t *positions, cento_error *error) {
    request_draft draft = {.to = requests, .plan = plan, .positions = positions, .window = window};
    TRY(clear(requests, error));
    for (uint32_t t = 0; t < plan->task_count; t++)
        TRY(add_task(&draft, &plan->tasks[t], error));
    for (uint32_t f = 0; f < plan->fold_count; f++)
        TRY(add_fold(&draft, &plan->folds[f], error));
    for (int kind = 0; kind < REQUEST_KINDS; kind++)
        requests->entry_begin[kind + 1] =
            requests->entry_begin[kind] + (uint32_t)requests->batches[kind].rows.count;
    return make_folds(requests, plan->row_count, error);
}

void flashinfer_requests_free(flashinfer_requests *requests) {
    int_list *lists[] = {&requests->fold_begin,  &requests->fold_entries, &requests->pairs,
                         &requests->piece_pages, &requests->piece_begins, &requests->piece_ends,
                         &requests->seen_begins, &requests->seen_ends};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_free(lists[i]);
    for (int kind = 0; kind < REQUEST_KINDS; kind++) {
        request_batch *batch = &requests->batches[kind];
        int_list *of_batch[] = {&batch->row_begin,  &batch->page_begin, &batch->pages,    &batch->last_page,
                                &batch->mask_begin, &batch->rows,       &batch->rotations};
        for (size_t i = 0; i < sizeof of_batch / sizeof *of_batch; i++)
            list_free(of_batch[i]);
        mem_free(batch->mask);
    }
    *requests = (flashinfer_requests){0};
}
