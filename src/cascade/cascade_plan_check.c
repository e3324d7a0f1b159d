/*
 * cascade_plan_check: goes over a plan's tables without the code that made them. Every key of a group's spans
 * must be in its cells exactly once and in order, but for those that none of its rows sees; slots must be
 * disjoint and dense; the statistics must be those of the tables. Allocates; for tests and debug builds.
 */
#include <string.h>

#include "base/mem.h"
#include "cascade_plan.h"

#define BROKEN(...) error_set(error, CENTO_INTERNAL, "plan: " __VA_ARGS__)

/* A key of a group's spans. */
typedef struct key_cursor {
    const kv_span *spans;
    uint32_t span_count, span, token; /* token: from the span's first */
} key_cursor;

static void settle(key_cursor *at) {
    while (at->span < at->span_count &&
           at->token >= at->spans[at->span].token_end - at->spans[at->span].token_begin) {
        at->span++;
        at->token = 0;
    }
}

static int64_t key_position(const key_cursor *at) {
    return (int64_t)at->spans[at->span].position + at->token;
}

/* Goes to the key at which a view begins; those left out must be seen by no row. */
static cento_status skip_unseen(const cascade_plan *plan, const plan_input *input, uint32_t group,
                                const plan_view *until, key_cursor *at, cento_error *error) {
    const row_group *rows = &input->groups[group];
    uint32_t page_tokens = plan->options.page_tokens;
    for (settle(at); at->span < at->span_count; at->token++, settle(at)) {
        const kv_span *span = &at->spans[at->span];
        uint32_t token = span->token_begin + at->token;
        const plan_source *wanted =
            until == NULL ? NULL : &plan->sources[plan->cells[until->cell].source_begin];
        if (until != NULL && key_position(at) == until->position && token == wanted->token_begin &&
            span->pages[token / page_tokens] == wanted->pages[token / page_tokens])
            return CENTO_OK;
        for (uint32_t r = rows->row_begin; r < rows->row_begin + rows->row_count; r++) {
            int64_t distance = (int64_t)input->positions[r] - key_position(at);
            if (distance >= 0 && (input->window == 0 || distance < input->window))
                return BROKEN("group %u: row %u sees token %u of span %u, which no cell has", group, r, token,
                              at->span);
        }
    }
    return until == NULL ? CENTO_OK : BROKEN("group %u: a cell has keys that its spans have not", group);
}

static cento_status check_view(const cascade_plan *plan, const plan_input *input, uint32_t group,
                               const plan_view *view, key_cursor *at, cento_error *error) {
    const row_group *rows = &input->groups[group];
    uint32_t page_tokens = plan->options.page_tokens, keys = 0;
    if (view->cell >= plan->cell_count)
        return BROKEN("a view on cell %u of %u", view->cell, plan->cell_count);
    const plan_cell *cell = &plan->cells[view->cell];
    if (cell->source_count == 0 || cell->source_begin + cell->source_count > plan->source_count)
        return BROKEN("cell %u: sources %u + %u of %u", view->cell, cell->source_begin, cell->source_count,
                      plan->source_count);
    if (view->row_begin != rows->row_begin || view->row_count != rows->row_count)
        return BROKEN("group %u: a view with rows %u + %u", group, view->row_begin, view->row_count);
    TRY(skip_unseen(plan, input, group, view, at, error));
    for (uint32_t s = cell->source_begin; s < cell->source_begin + cell->source_count; s++) {
        const plan_source *source = &plan->sources[s];
        for (uint32_t token = source->token_begin; token < source->token_end; token++, keys++) {
            settle(at);
            if (at->span == at->span_count)
                return BROKEN("group %u: cell %u goes on behind the last span", group, view->cell);
            const kv_span *span = &at->spans[at->span];
            if (span->token_begin + at->token != token ||
                span->pages[token / page_tokens] != source->pages[token / page_tokens] ||
                span->rotation_origin != view->rotation_origin ||
                key_position(at) != (int64_t)view->position + keys)
                return BROKEN("group %u: key %u of cell %u is not token %u of span %u", group, keys,
                              view->cell, span->token_begin + at->token, at->span);
            at->token++;
        }
    }
    if (keys != cell->key_count || keys == 0 || keys > PLAN_CELL_TOKENS)
        return BROKEN("cell %u has %u keys and says %u", view->cell, keys, cell->key_count);
    return CENTO_OK;
}

static cento_status check_fold(const cascade_plan *plan, const plan_input *input, uint32_t group,
                               uint32_t view_begin, cento_error *error) {
    const plan_fold *fold = &plan->folds[group];
    const row_group *rows = &input->groups[group];
    if (fold->row_begin != rows->row_begin || fold->row_count != rows->row_count ||
        fold->view_begin != view_begin || fold->view_count > plan->view_count - view_begin)
        return BROKEN("fold %u: rows %u + %u, views %u + %u", group, fold->row_begin, fold->row_count,
                      fold->view_begin, fold->view_count);
    key_cursor at = {.spans = input->spans + rows->span_begin, .span_count = rows->span_count};
    for (uint32_t v = view_begin; v < view_begin + fold->view_count; v++)
        TRY(check_view(plan, input, group, &plan->views[v], &at, error));
    return skip_unseen(plan, input, group, NULL, &at, error);
}

/* Tasks have the slots of their views, in order and one task after the other. */
static cento_status check_tasks(const cascade_plan *plan, uint8_t *is_shared, cento_error *error) {
    uint32_t slot = 0, entries = 0;
    for (uint32_t t = 0; t < plan->task_count; t++) {
        const plan_task *task = &plan->tasks[t];
        uint32_t rows = 0;
        if (task->view_begin != entries || task->view_count > plan->task_view_count - entries ||
            task->view_count == 0)
            return BROKEN("task %u: views %u + %u of %u", t, task->view_begin, task->view_count,
                          plan->task_view_count);
        for (; entries < task->view_begin + task->view_count; entries++) {
            uint32_t index = plan->task_views[entries];
            if (index >= plan->view_count || is_shared[index] ||
                (entries > task->view_begin && index <= plan->task_views[entries - 1]))
                return BROKEN("task %u has view %u twice or out of order", t, index);
            is_shared[index] = 1;
            const plan_view *view = &plan->views[index];
            if (view->cell != task->cell || view->slot != slot)
                return BROKEN("view %u has cell %u and slot %u, its task has %u and %u", index, view->cell,
                              view->slot, task->cell, slot);
            slot += view->row_count;
            rows += view->row_count;
        }
        if (rows != task->row_count)
            return BROKEN("task %u has %u rows and says %u", t, rows, task->row_count);
    }
    if (slot != plan->slot_count || entries != plan->task_view_count)
        return BROKEN("%u slots and %u task views, tasks have %u and %u", plan->slot_count,
                      plan->task_view_count, slot, entries);
    for (uint32_t v = 0; v < plan->view_count; v++)
        if (!is_shared[v] && plan->views[v].slot != PLAN_PRIVATE)
            return BROKEN("view %u has slot %u and no task", v, plan->views[v].slot);
    return CENTO_OK;
}

/* Groups that see each cell; last: (cells) the last one that did, plus one. */
static void count_groups(const cascade_plan *plan, uint32_t *groups, uint32_t *last) {
    for (uint32_t f = 0; f < plan->fold_count; f++)
        for (uint32_t v = 0; v < plan->folds[f].view_count; v++) {
            uint32_t cell = plan->views[plan->folds[f].view_begin + v].cell;
            groups[cell] += last[cell] != f + 1;
            last[cell] = f + 1;
        }
}

static cento_status check_stats(const cascade_plan *plan, uint32_t heads_per_kv, const uint32_t *groups,
                                cento_error *error) {
    plan_stats stats = {0};
    uint32_t tile_tokens = plan->options.tile_rows / heads_per_kv;
    tile_tokens = tile_tokens == 0 ? 1 : tile_tokens;
    for (uint32_t v = 0; v < plan->view_count; v++) {
        const plan_view *view = &plan->views[v];
        uint32_t level = groups[view->cell] == 1 ? 2 : groups[view->cell] == plan->fold_count ? 0 : 1;
        uint64_t read =
            (uint64_t)plan->cells[view->cell].key_count * ((view->row_count + tile_tokens - 1) / tile_tokens);
        stats.rows[level] += view->row_count;
        stats.keys_read_unshared += read;
        stats.keys_read += view->slot == PLAN_PRIVATE ? read : 0;
    }
    for (uint32_t c = 0; c < plan->cell_count; c++) {
        if (groups[c] == 0)
            return BROKEN("nobody sees cell %u", c);
        stats.tokens[groups[c] == 1 ? 2 : groups[c] == plan->fold_count ? 0 : 1] += plan->cells[c].key_count;
    }
    for (uint32_t t = 0; t < plan->task_count; t++) {
        uint32_t level = groups[plan->tasks[t].cell] == plan->fold_count ? 0 : 1;
        uint32_t levels_max = plan->options.levels_max;
        if (plan->tasks[t].view_count > 1 && (levels_max == 1 || (levels_max == 2 && level != 0)))
            return BROKEN("cell %u is shared at level %u, max_cascade_levels is %u", plan->tasks[t].cell,
                          level, levels_max);
        stats.keys_read += (uint64_t)plan->cells[plan->tasks[t].cell].key_count *
                           ((plan->tasks[t].row_count + tile_tokens - 1) / tile_tokens);
    }
    return memcmp(&stats, &plan->stats, sizeof stats) == 0 ? CENTO_OK : BROKEN("the statistics are wrong");
}

cento_status cascade_plan_check(const cascade_plan *plan, const plan_input *input, cento_error *error) {
    uint32_t views = 0;
    if (plan->fold_count != input->group_count || plan->row_count != input->row_count ||
        plan->window != input->window)
        return BROKEN("%u groups of %u rows, window %u; the input has %u of %u, %u", plan->fold_count,
                      plan->row_count, plan->window, input->group_count, input->row_count, input->window);
    for (uint32_t g = 0; g < input->group_count; g++) {
        TRY(check_fold(plan, input, g, views, error));
        views += plan->folds[g].view_count;
    }
    if (views != plan->view_count)
        return BROKEN("%u views, groups have %u", plan->view_count, views);
    uint8_t *is_shared = mem_zalloc(plan->view_count, sizeof *is_shared);
    uint32_t *groups = mem_zalloc(plan->cell_count, 2 * sizeof *groups);
    cento_status status = CENTO_OK;
    if (is_shared == NULL || groups == NULL)
        status = error_memory(error, plan->view_count + plan->cell_count * 2 * sizeof *groups);
    if (status == CENTO_OK)
        status = check_tasks(plan, is_shared, error);
    if (status == CENTO_OK) {
        count_groups(plan, groups, groups + plan->cell_count);
        status = check_stats(plan, input->heads_per_kv, groups, error);
    }
    mem_free(is_shared);
    mem_free(groups);
    return status;
}
