/*
 * cascade_plan: see cascade_plan.h. Building is four passes over tables of fixed capacity:
 *
 *   1. spans → views: each stretch is cut into cells; a cell that another view has is found through the page
 *      in which its first key lies (pages belong to one run, so a table over pages replaces hashing);
 *   2. cells → drafts: which cells are computed ahead, by the cost model;
 *   3. drafts → tasks: sorted by cost in a few classes, so that the costliest are begun first;
 *   4. views → slots.
 */
#include "cascade_plan.h"

#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

#define NONE             UINT32_MAX
#define PROBES_MAX       8     /* cells that begin in one page; beyond it equal ones are not found */
#define STATES_MAX       65536 /* partial states of one KV head: rows × heads_per_kv */
#define FOLDS_PER_WORKER 4     /* with fewer tiles of rows, private cells are tasks */
#define COST_CLASSES     64
#define VIEWS_DERIVED    ((uint64_t)1 << 18)

/* The cell of a page that was found last; valid in one build. */
typedef struct page_bucket {
    uint32_t epoch, cell;
    uint32_t token_begin, token_end; /* of the cell's only source; (0, 0) if there are several */
} page_bucket;

/* What a cell's views amount to; half a cache line, since every view touches one. */
typedef struct cell_use {
    uint32_t next;                     /* another cell that begins in the same page, or NONE */
    uint32_t repeat_count, group_last; /* views of a group that has one already */
    uint32_t view_count, row_count;    /* views that do not fill tiles of their own, and their rows */
    uint32_t task;                     /* that these views share, or NONE; while drafting, the draft */
} cell_use;

/* The views of a cell that do fill tiles of their own: never shared, rarely there. */
typedef struct cell_private {
    uint32_t view_count, row_count, tile_count;
} cell_private;

/* Where the next view of a task goes. */
typedef struct task_cursor {
    uint32_t view, slot; /* in task_views; of its first row */
} task_cursor;

/* A task to be. */
typedef struct task_draft {
    uint32_t cell, view_count, row_count, cost_class;
} task_draft;

typedef struct plan_workspace {
    uint32_t epoch;
    uint32_t page_shift;    /* page_tokens is 1 << this */
    uint32_t tile_tokens;   /* tokens of a tile of rows */
    uint64_t state_count;   /* partial states of the drafts */
    page_bucket *buckets;   /* (page_count) */
    cell_use *uses;         /* (cells_max) */
    cell_private *privates; /* (cells_max) */
    task_draft *drafts;     /* (cells_max) */
    uint32_t *draft_tasks;  /* (cells_max) */
    task_cursor *cursors;   /* (cells_max) */
    uint32_t *view_drafts;  /* (cells_max) draft or NONE; used if `few_folds` */
    uint32_t draft_count;
    bool few_folds;
} plan_workspace;

/* ------------------------------------------------------------------------- making one ------ */

static cento_status check_options(const plan_options *options, cento_error *error) {
    if (options->levels_max < 1 || options->levels_max > PLAN_LEVELS)
        return error_set(error, CENTO_INVALID_ARGUMENT, "max_cascade_levels is %u, expected 1 to %d",
                         options->levels_max, PLAN_LEVELS);
    if (options->page_count == 0 || options->page_count > INT32_MAX || options->page_tokens == 0 ||
        options->rows_max == 0 || options->spans_max == 0 || options->tile_rows == 0 || options->workers == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "a plan for %u pages of %u tokens, %u rows, %u spans, tiles of %u rows and %u "
                         "workers: all must be at least 1",
                         options->page_count, options->page_tokens, options->rows_max, options->spans_max,
                         options->tile_rows, options->workers);
    if ((options->page_tokens & (options->page_tokens - 1)) != 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "page_tokens is %u, expected a power of two",
                         options->page_tokens);
    return CENTO_OK;
}

/* Every group may see every cell of the pool, and a span has a ragged cell at either end. */
static uint32_t derived_cells(const plan_options *options) {
    uint64_t pool = ((uint64_t)options->page_count * options->page_tokens) / PLAN_CELL_TOKENS;
    uint64_t shared = pool * options->rows_max, cells;
    cells = (shared < VIEWS_DERIVED ? shared : VIEWS_DERIVED) + 2 * (uint64_t)options->spans_max;
    return cells < UINT32_MAX / 2 ? (uint32_t)cells : UINT32_MAX / 2;
}

static cento_status allocate(cascade_plan *plan, cento_error *error) {
    const plan_options *options = &plan->options;
    size_t cells = options->cells_max;
    plan_workspace *work = mem_zalloc(1, sizeof *work);
    plan->workspace = work;
    if (work == NULL)
        return error_memory(error, sizeof *work);
    while (1u << work->page_shift < options->page_tokens)
        work->page_shift++;
    plan->sources = mem_alloc(cells + options->spans_max + 2, sizeof *plan->sources);
    plan->cells = mem_alloc(cells, sizeof *plan->cells);
    plan->views = mem_alloc(cells, sizeof *plan->views);
    plan->task_views = mem_alloc(cells, sizeof *plan->task_views);
    plan->tasks = mem_alloc(cells, sizeof *plan->tasks);
    plan->folds = mem_alloc(options->rows_max, sizeof *plan->folds);
    work->buckets = mem_zalloc(options->page_count, sizeof *work->buckets);
    work->uses = mem_alloc(cells, sizeof *work->uses);
    work->drafts = mem_alloc(cells, sizeof *work->drafts);
    work->draft_tasks = mem_alloc(cells, sizeof *work->draft_tasks);
    work->view_drafts = mem_alloc(cells, sizeof *work->view_drafts);
    work->privates = mem_alloc(cells, sizeof *work->privates);
    work->cursors = mem_alloc(cells, sizeof *work->cursors);
    if (plan->sources == NULL || plan->cells == NULL || plan->views == NULL || plan->task_views == NULL ||
        plan->tasks == NULL || plan->folds == NULL || work->buckets == NULL || work->uses == NULL ||
        work->drafts == NULL || work->draft_tasks == NULL || work->view_drafts == NULL ||
        work->privates == NULL || work->cursors == NULL)
        return error_memory(error, cells * (sizeof *plan->views + sizeof *work->uses));
    return CENTO_OK;
}

cento_status cascade_plan_create(const plan_options *options, cascade_plan **result, cento_error *error) {
    TRY(check_options(options, error));
    cascade_plan *plan = mem_zalloc(1, sizeof *plan);
    if (plan == NULL)
        return error_memory(error, sizeof *plan);
    plan->options = *options;
    if (plan->options.cells_max == 0)
        plan->options.cells_max = derived_cells(options);
    cento_status status = allocate(plan, error);
    if (status == CENTO_OK)
        *result = plan;
    else
        cascade_plan_free(plan);
    return status;
}

void cascade_plan_free(cascade_plan *plan) {
    if (plan == NULL)
        return;
    plan_workspace *work = plan->workspace;
    if (work != NULL) {
        mem_free(work->buckets);
        mem_free(work->uses);
        mem_free(work->drafts);
        mem_free(work->draft_tasks);
        mem_free(work->view_drafts);
        mem_free(work->privates);
        mem_free(work->cursors);
        mem_free(work);
    }
    mem_free(plan->sources);
    mem_free(plan->cells);
    mem_free(plan->views);
    mem_free(plan->task_views);
    mem_free(plan->tasks);
    mem_free(plan->folds);
    mem_free(plan);
}

static void clear(cascade_plan *plan) {
    static _Atomic uint64_t builds;
    plan->build_id = atomic_fetch_add_explicit(&builds, 1, memory_order_relaxed) + 1;
    plan->row_count = plan->window = 0;
    plan->source_count = plan->cell_count = plan->view_count = 0;
    plan->task_view_count = plan->task_count = plan->fold_count = plan->slot_count = 0;
    plan->stats = (plan_stats){0};
    plan_workspace *work = plan->workspace;
    work->draft_count = 0;
    work->state_count = 0;
    if (++work->epoch == 0) { /* after 2^32 builds */
        memset(work->buckets, 0, plan->options.page_count * sizeof *work->buckets);
        work->epoch = 1;
    }
}

static uint32_t tiles_of(const cascade_plan *plan, uint32_t row_count) {
    uint32_t tile_tokens = plan->workspace->tile_tokens;
    return row_count <= tile_tokens ? 1 : (row_count + tile_tokens - 1) / tile_tokens;
}

/* Rows that do not fill a tile. */
static bool is_small(const cascade_plan *plan, uint32_t row_count, uint32_t heads_per_kv) {
    return (uint64_t)row_count * heads_per_kv < plan->options.tile_rows;
}

/* ---------------------------------------------------------------------------- the input ----- */

static cento_status check_group(const plan_input *input, uint32_t index, cento_error *error) {
    const row_group *group = &input->groups[index];
    if (group->row_count == 0 || group->row_begin > input->row_count ||
        group->row_count > input->row_count - group->row_begin)
        return error_set(error, CENTO_INVALID_ARGUMENT, "group %u: rows %u + %u of a batch of %u", index,
                         group->row_begin, group->row_count, input->row_count);
    if (index > 0 && group->row_begin < group[-1].row_begin + group[-1].row_count)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "group %u begins at row %u, before the end of group %u", index, group->row_begin,
                         index - 1);
    if (group->span_begin > input->span_count || group->span_count > input->span_count - group->span_begin)
        return error_set(error, CENTO_INVALID_ARGUMENT, "group %u: spans %u + %u of %u", index,
                         group->span_begin, group->span_count, input->span_count);
    const uint32_t *positions = input->positions + group->row_begin;
    for (uint32_t i = 1; i < group->row_count; i++)
        if (positions[i] < positions[i - 1])
            return error_set(error, CENTO_INVALID_ARGUMENT, "group %u: position %u after %u, not ascending",
                             index, positions[i], positions[i - 1]);
    return CENTO_OK;
}

/* `before`: the group's span before this one, or NULL. */
static cento_status refuse_span(const kv_span *span, const kv_span *before, uint32_t group, uint32_t index,
                                cento_error *error) {
    if (span->token_begin > span->token_end)
        return error_set(error, CENTO_INVALID_ARGUMENT, "group %u, span %u holds tokens %u to %u", group,
                         index, span->token_begin, span->token_end);
    if (before == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "group %u: the first span continues nothing", group);
    return error_set(error, CENTO_INVALID_ARGUMENT,
                     "group %u, span %u at position %u (keys rotated from %lld) does not continue the one "
                     "before it, which ends at %u (%lld)",
                     group, index, span->position, (long long)span->rotation_origin,
                     before->position + (before->token_end - before->token_begin),
                     (long long)before->rotation_origin);
}

static bool span_is_whole(const kv_span *span, const kv_span *before) {
    return span->token_begin <= span->token_end &&
           (!span->continues ||
            (before != NULL && span->rotation_origin == before->rotation_origin &&
             span->position - before->position == before->token_end - before->token_begin));
}

/* -------------------------------------------------------------------- 1: spans to views ----- */

/* The cell that is being filled, and its stretch. */
typedef struct cell_cursor {
    cascade_plan *plan;
    uint32_t row_begin, row_count;
    uint32_t group;
    uint32_t position_min, position_max; /* of the group's rows */
    uint64_t coordinate;                 /* of the next key; cells end at multiples of PLAN_CELL_TOKENS */
    int64_t rotation_origin;
    uint32_t position;           /* of the cell's first key */
    uint32_t key_count, sources; /* so far; the sources stand behind plan->sources[source_count] */
} cell_cursor;

static uint32_t first_page(const cascade_plan *plan, const plan_source *source) {
    return source->pages[source->token_begin >> plan->workspace->page_shift];
}

static bool pages_are_in_pool(const cascade_plan *plan, const plan_source *source) {
    uint32_t begin = source->token_begin >> plan->workspace->page_shift;
    uint32_t end = ((source->token_end - 1) >> plan->workspace->page_shift) + 1;
    uint32_t last = plan->options.page_count - 1, signs = 0; /* page counts are below 2^31 */
    for (uint32_t i = begin; i < end; i++)
        signs |= source->pages[i] | (last - source->pages[i]);
    return signs >> 31 == 0;
}

static cento_status check_pages(const cascade_plan *plan, const plan_source *source, uint32_t group,
                                cento_error *error) {
    uint32_t page = source->token_begin >> plan->workspace->page_shift;
    if (pages_are_in_pool(plan, source))
        return CENTO_OK;
    while (source->pages[page] < plan->options.page_count)
        page++;
    return error_set(error, CENTO_INVALID_ARGUMENT, "group %u: page %u of a pool of %u", group,
                     source->pages[page], plan->options.page_count);
}

/* A cell that begins in the same page. */
static bool cell_equals(const cascade_plan *plan, uint32_t cell, const cell_cursor *cursor) {
    const plan_source *held = plan->sources + plan->cells[cell].source_begin;
    const plan_source *wanted = plan->sources + plan->source_count;
    if (plan->cells[cell].source_count != cursor->sources)
        return false;
    for (uint32_t i = 0; i < cursor->sources; i++)
        if (held[i].token_begin != wanted[i].token_begin || held[i].token_end != wanted[i].token_end ||
            first_page(plan, &held[i]) != first_page(plan, &wanted[i]))
            return false;
    return true;
}

/* A cell that begins in the bucket's page; its sources are there already. */
static inline uint32_t cell_new(cascade_plan *plan, page_bucket *bucket, uint32_t source_count,
                                uint32_t key_count) {
    const plan_workspace *work = plan->workspace;
    uint32_t cell = plan->cell_count++, before = bucket->epoch == work->epoch ? bucket->cell : NONE;
    const plan_source *first = plan->sources + plan->source_count;
    plan->cells[cell] = (plan_cell){plan->source_count, source_count, key_count};
    plan->source_count += source_count;
    work->uses[cell] = (cell_use){
        .next = before,
        .group_last = NONE,
        .task = NONE,
    };
    work->privates[cell] = (cell_private){0};
    bool single = source_count == 1;
    *bucket =
        (page_bucket){work->epoch, cell, single ? first->token_begin : 0, single ? first->token_end : 0};
    return cell;
}

static cento_status cell_find(const cell_cursor *cursor, uint32_t *result, cento_error *error) {
    cascade_plan *plan = cursor->plan;
    const plan_workspace *work = plan->workspace;
    const plan_source *first = plan->sources + plan->source_count;
    uint32_t page = first_page(plan, first);
    if (page >= plan->options.page_count)
        return check_pages(plan, first, cursor->group, error);
    page_bucket *bucket = &work->buckets[page];
    uint32_t cell = bucket->epoch == work->epoch ? bucket->cell : NONE;
    for (uint32_t probe = 0; cell != NONE && probe < PROBES_MAX; probe++, cell = work->uses[cell].next)
        if (cell_equals(plan, cell, cursor)) {
            *result = cell;
            return CENTO_OK;
        }
    for (uint32_t i = 0; i < cursor->sources; i++)
        TRY(check_pages(plan, &first[i], cursor->group, error));
    *result = cell_new(plan, bucket, cursor->sources, cursor->key_count);
    return CENTO_OK;
}

static bool keys_are_seen(const cell_cursor *cursor, uint32_t position, uint32_t key_count) {
    int64_t last = (int64_t)position + key_count - 1;
    return position <= cursor->position_max &&
           (cursor->plan->window == 0 || last > (int64_t)cursor->position_min - cursor->plan->window);
}

/* The cell is whole: a view on it, if anybody sees it. */
static cento_status cell_close(cell_cursor *cursor, cento_error *error) {
    cascade_plan *plan = cursor->plan;
    if (keys_are_seen(cursor, cursor->position, cursor->key_count)) {
        uint32_t cell = 0;
        if (plan->view_count == plan->options.cells_max)
            return error_set(error, CENTO_INVALID_ARGUMENT, "the step has more than %u views on cells of KV",
                             plan->options.cells_max);
        TRY(cell_find(cursor, &cell, error));
        plan->views[plan->view_count++] = (plan_view){
            .cell = cell,
            .row_begin = cursor->row_begin,
            .row_count = cursor->row_count,
            .position = cursor->position,
            .rotation_origin = cursor->rotation_origin,
            .slot = PLAN_PRIVATE,
        };
    }
    cursor->position += cursor->key_count;
    cursor->key_count = cursor->sources = 0;
    return CENTO_OK;
}

static cento_status add_span(cell_cursor *cursor, const kv_span *span, cento_error *error) {
    if (!span->continues) {
        cursor->coordinate = span->token_begin;
        cursor->position = span->position;
        cursor->rotation_origin = span->rotation_origin;
    }
    for (uint32_t token = span->token_begin; token < span->token_end;) {
        uint32_t room = PLAN_CELL_TOKENS - (uint32_t)(cursor->coordinate % PLAN_CELL_TOKENS);
        uint32_t taken = span->token_end - token < room ? span->token_end - token : room;
        cascade_plan *plan = cursor->plan;
        plan->sources[plan->source_count + cursor->sources++] =
            (plan_source){span->pages, token, token + taken};
        cursor->key_count += taken;
        cursor->coordinate += taken;
        token += taken;
        if (taken == room)
            TRY(cell_close(cursor, error));
    }
    return CENTO_OK;
}

/* The usual case, fast: spans from `first` on that are one cell each, which is new in its page or the one
 * that was found there last. Returns the first span that is not so. */
static uint32_t add_short_spans(const cell_cursor *cursor, const kv_span *spans, uint32_t first,
                                uint32_t count) {
    cascade_plan *plan = cursor->plan;
    const plan_workspace *work = plan->workspace;
    const uint32_t page_shift = work->page_shift, page_count = plan->options.page_count, epoch = work->epoch;
    page_bucket *buckets = work->buckets;
    plan_view *view = plan->views + plan->view_count, *end = plan->views + plan->options.cells_max;
    uint32_t s = first;
    for (; s < count && view < end; s++) {
        const kv_span *span = &spans[s];
        uint32_t begin = span->token_begin, keys = span->token_end - begin; /* - 1 wraps if there are none */
        if (span->continues || (s + 1 < count && span[1].continues) ||
            keys - 1 >= PLAN_CELL_TOKENS - begin % PLAN_CELL_TOKENS)
            break;
        if (!keys_are_seen(cursor, span->position, keys))
            continue;
        uint32_t page = span->pages[begin >> page_shift], cell;
        if (page >= page_count)
            break;
        if (buckets[page].epoch == epoch) {
            cell = buckets[page].cell;
            if (buckets[page].token_begin != begin || buckets[page].token_end != begin + keys)
                break;
        } else {
            plan_source *source = plan->sources + plan->source_count;
            *source = (plan_source){span->pages, begin, begin + keys};
            if (!pages_are_in_pool(plan, source))
                break;
            cell = cell_new(plan, &buckets[page], 1, keys);
        }
        *view++ = (plan_view){
            .cell = cell,
            .row_begin = cursor->row_begin,
            .row_count = cursor->row_count,
            .position = span->position,
            .rotation_origin = span->rotation_origin,
            .slot = PLAN_PRIVATE,
        };
    }
    plan->view_count = (uint32_t)(view - plan->views);
    return s;
}

static cento_status add_group(cascade_plan *plan, const plan_input *input, uint32_t index,
                              cento_error *error) {
    TRY(check_group(input, index, error));
    const row_group *group = &input->groups[index];
    plan_fold *fold = &plan->folds[plan->fold_count++];
    *fold = (plan_fold){group->row_begin, group->row_count, plan->view_count, 0};
    cell_cursor cursor = {
        .plan = plan,
        .row_begin = group->row_begin,
        .row_count = group->row_count,
        .group = index,
        .position_min = input->positions[group->row_begin],
        .position_max = input->positions[group->row_begin + group->row_count - 1],
    };
    const kv_span *spans = input->spans + group->span_begin;
    uint32_t count = group->span_count;
    for (uint32_t s = add_short_spans(&cursor, spans, 0, count); s < count;) {
        const kv_span *before = s > 0 ? &spans[s - 1] : NULL;
        if (!span_is_whole(&spans[s], before))
            return refuse_span(&spans[s], before, index, s, error);
        TRY(add_span(&cursor, &spans[s++], error));
        if (s < count && spans[s].continues)
            continue;
        if (cursor.key_count > 0) /* the stretch's last cell */
            TRY(cell_close(&cursor, error));
        s = add_short_spans(&cursor, spans, s, count);
    }
    fold->view_count = plan->view_count - fold->view_begin;
    return CENTO_OK;
}

/* -------------------------------------------------------------------- 2: cells to drafts ---- */

/* What all views add to their cells' counts. A pass of its own: in the search for cells, counters whose
 * addresses are known late would keep the processor from looking ahead. */
static void count_views(cascade_plan *plan, uint32_t heads_per_kv) {
    cell_use *uses = plan->workspace->uses;
    cell_private *privates = plan->workspace->privates;
    for (uint32_t f = 0; f < plan->fold_count; f++) {
        const plan_fold *fold = &plan->folds[f];
        const plan_view *view = plan->views + fold->view_begin, *end = view + fold->view_count;
        bool small = is_small(plan, fold->row_count, heads_per_kv);
        for (; view < end; view++) {
            cell_use *use = &uses[view->cell];
            use->repeat_count += use->group_last == f;
            use->group_last = f;
            if (small) {
                use->view_count++;
                use->row_count += fold->row_count;
            } else {
                privates[view->cell].view_count++;
                privates[view->cell].row_count += fold->row_count;
                privates[view->cell].tile_count += tiles_of(plan, fold->row_count);
            }
        }
    }
}

static uint32_t cell_level(const cascade_plan *plan, uint32_t cell) {
    const cell_use *use = &plan->workspace->uses[cell];
    uint32_t groups = use->view_count + plan->workspace->privates[cell].view_count - use->repeat_count;
    return groups == 1 ? 2 : groups == plan->fold_count ? 0 : 1;
}

/* About the logarithm of keys × tiles of rows: two bits behind the leading one. */
static uint32_t cost_class(uint64_t cost) {
    uint32_t exponent = 63 - (uint32_t)__builtin_clzll(cost | 4);
    uint32_t found = (exponent - 2) * 4 + (uint32_t)((cost >> (exponent - 2)) & 3);
    return found < COST_CLASSES ? found : COST_CLASSES - 1;
}

/* False if there is no room for its states. */
static bool draft_add(cascade_plan *plan, uint32_t cell, uint32_t view_count, uint32_t row_count,
                      uint32_t heads_per_kv) {
    plan_workspace *work = plan->workspace;
    uint64_t states = (uint64_t)row_count * heads_per_kv;
    if (work->state_count + states > STATES_MAX)
        return false;
    work->state_count += states;
    uint64_t cost = (uint64_t)plan->cells[cell].key_count * row_count;
    work->drafts[work->draft_count++] = (task_draft){cell, view_count, row_count, cost_class(cost)};
    return true;
}

static bool sharing_pays(const cascade_plan *plan, uint32_t cell, const cell_use *use,
                         uint32_t heads_per_kv) {
    const plan_costs *costs = &plan->options.costs;
    double tiles = tiles_of(plan, use->row_count), rows = (double)use->row_count * heads_per_kv;
    double saved_ns = (use->view_count - tiles) * plan->cells[cell].key_count * costs->key_read_ns;
    return saved_ns >= rows * costs->state_ns + tiles * costs->task_ns;
}

static void draft_shared(cascade_plan *plan, uint32_t heads_per_kv) {
    plan_workspace *work = plan->workspace;
    plan_stats *stats = &plan->stats;
    uint32_t levels = plan->options.levels_max;
    for (uint32_t cell = 0; cell < plan->cell_count; cell++) {
        cell_use *use = &work->uses[cell];
        uint32_t level = cell_level(plan, cell);
        uint64_t keys = plan->cells[cell].key_count;
        uint64_t read = keys * ((uint64_t)use->view_count + work->privates[cell].tile_count);
        stats->rows[level] += (uint64_t)use->row_count + work->privates[cell].row_count;
        stats->tokens[level] += keys;
        stats->keys_read_unshared += read;
        stats->keys_read += read;
        if (levels == 1 || level == 2 || use->view_count < 2 || (levels == 2 && level != 0))
            continue;
        if (sharing_pays(plan, cell, use, heads_per_kv) &&
            draft_add(plan, cell, use->view_count, use->row_count, heads_per_kv)) {
            use->task = work->draft_count - 1;
            stats->keys_read -= keys * (use->view_count - tiles_of(plan, use->row_count));
        }
    }
}

/* Private views of groups that have several become tasks of their own, if there are few rows for the
 * workers. */
static void draft_private(cascade_plan *plan, uint32_t heads_per_kv) {
    plan_workspace *work = plan->workspace;
    uint64_t tiles = 0;
    for (uint32_t f = 0; f < plan->fold_count; f++)
        tiles += tiles_of(plan, plan->folds[f].row_count);
    work->few_folds = plan->options.workers > 1 && tiles < (uint64_t)FOLDS_PER_WORKER * plan->options.workers;
    for (uint32_t f = 0; f < plan->fold_count && work->few_folds; f++) {
        const plan_fold *fold = &plan->folds[f];
        uint32_t begin = fold->view_begin, end = begin + fold->view_count, private_count = 0;
        bool small = is_small(plan, fold->row_count, heads_per_kv);
        for (uint32_t v = begin; v < end; v++) {
            work->view_drafts[v] = small ? work->uses[plan->views[v].cell].task : NONE;
            private_count += work->view_drafts[v] == NONE;
        }
        for (uint32_t v = begin; v < end && private_count >= 2; v++)
            if (work->view_drafts[v] == NONE &&
                draft_add(plan, plan->views[v].cell, 1, fold->row_count, heads_per_kv))
                work->view_drafts[v] = work->draft_count - 1;
    }
}

/* -------------------------------------------------------------------- 3: drafts to tasks ---- */

static void order_tasks(cascade_plan *plan) {
    plan_workspace *work = plan->workspace;
    uint32_t begin[COST_CLASSES] = {0};
    for (uint32_t d = 0; d < work->draft_count; d++)
        begin[work->drafts[d].cost_class]++;
    for (uint32_t class = COST_CLASSES, sum = 0; class -- > 0;) {
        uint32_t count = begin[class];
        begin[class] = sum;
        sum += count;
    }
    for (uint32_t d = 0; d < work->draft_count; d++) {
        const task_draft *draft = &work->drafts[d];
        uint32_t task = begin[draft->cost_class]++;
        work->draft_tasks[d] = task;
        plan->tasks[task] = (plan_task){draft->cell, 0, draft->view_count, draft->row_count};
        if (!work->few_folds) /* else view_drafts tell */
            work->uses[draft->cell].task = task;
    }
    plan->task_count = work->draft_count;
    for (uint32_t t = 0; t < plan->task_count; t++) {
        plan_task *task = &plan->tasks[t];
        task->view_begin = plan->task_view_count;
        work->cursors[work->few_folds ? t : task->cell] = (task_cursor){task->view_begin, plan->slot_count};
        plan->task_view_count += task->view_count;
        plan->slot_count += task->row_count;
    }
}

/* --------------------------------------------------------------------- 4: views to slots ---- */

static void assign_slots(cascade_plan *plan, uint32_t heads_per_kv) {
    const plan_workspace *work = plan->workspace;
    for (uint32_t f = 0; f < plan->fold_count; f++) {
        const plan_fold *fold = &plan->folds[f];
        bool small = is_small(plan, fold->row_count, heads_per_kv);
        if (!small && !work->few_folds)
            continue;
        for (uint32_t v = fold->view_begin; v < fold->view_begin + fold->view_count; v++) {
            plan_view *view = &plan->views[v];
            task_cursor *cursor = &work->cursors[view->cell]; /* a cell has one task */
            if (work->few_folds) {
                if (work->view_drafts[v] == NONE)
                    continue;
                cursor = &work->cursors[work->draft_tasks[work->view_drafts[v]]];
            } else if (work->uses[view->cell].task == NONE) {
                continue;
            }
            plan->task_views[cursor->view++] = v;
            view->slot = cursor->slot;
            cursor->slot += view->row_count;
        }
    }
}

static cento_status build(cascade_plan *plan, const plan_input *input, cento_error *error) {
    const plan_options *options = &plan->options;
    if (input->row_count > options->rows_max || input->group_count > options->rows_max ||
        input->span_count > options->spans_max)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "a step of %u rows in %u groups with %u spans, the plan is for %u rows and %u spans",
                         input->row_count, input->group_count, input->span_count, options->rows_max,
                         options->spans_max);
    if (input->heads_per_kv == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "heads_per_kv is 0");
    uint32_t tile_tokens = options->tile_rows / input->heads_per_kv;
    plan->workspace->tile_tokens = tile_tokens > 0 ? tile_tokens : 1;
    plan->row_count = input->row_count;
    plan->window = input->window;
    for (uint32_t g = 0; g < input->group_count; g++)
        TRY(add_group(plan, input, g, error));
    count_views(plan, input->heads_per_kv);
    draft_shared(plan, input->heads_per_kv);
    draft_private(plan, input->heads_per_kv);
    order_tasks(plan);
    if (plan->task_count > 0)
        assign_slots(plan, input->heads_per_kv);
    return CENTO_OK;
}

cento_status cascade_plan_build(cascade_plan *plan, const plan_input *input, cento_error *error) {
    clear(plan);
    cento_status status = build(plan, input, error);
    if (status != CENTO_OK)
        clear(plan);
    return status;
}
