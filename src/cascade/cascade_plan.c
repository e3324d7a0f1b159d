/*
 * cascade_plan: see cascade_plan.h. Building is four passes over tables of fixed capacity:
 *
 *   1. spans → views: each stretch is cut into cells; a cell that another view has is found through the page
 *      in which its first key lies (pages belong to one run, so a table over pages replaces hashing);
 *   2. cells → drafts: which cells are computed ahead, by the cost model;
 *   3. drafts → tasks: sorted by cost in a few classes, so that the costliest are begun first;
 *   4. views → slots.
 *
 * A view costs about 30 cycles, so that what is done for each counts: two numbers that are always added to
 * together stand in one word, and what is rare (stretches of several spans, cells seen by some rows only,
 * input to be refused) is out of the loops that the rest goes through.
 */
#include "cascade_plan.h"

#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

#define NONE             UINT32_MAX
#define NOWHERE          UINT64_MAX
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

/* How a cell is found again. */
typedef struct cell_link {
    uint32_t next;     /* another cell that begins in the same page, or NONE */
    uint32_t span_end; /* token_end of the span of which this and the cells behind it were made, or 0 */
} cell_link;

/* What a cell's views amount to. Of those that do not fill tiles of their own the counts stand in one word,
 * the number of views below and that of their rows above, since every view adds to both. */
typedef struct cell_use {
    uint64_t views_and_rows;
    uint32_t group_count, group_next; /* groups with a view on it, of any kind; the last of them, plus one */
} cell_use;

/* The views of a cell that do fill tiles of their own: never shared, rarely there. */
typedef struct cell_private {
    uint32_t view_count, row_count, tile_count;
} cell_private;

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
    cell_link *links;       /* (cells_max) */
    cell_use *uses;         /* (cells_max) */
    cell_private *privates; /* (cells_max) nothing in it unless `any_private` */
    task_draft *drafts;     /* (cells_max) those of cells first, `shared_count` */
    uint32_t *task_drafts;  /* (cells_max) */
    uint64_t *draft_places; /* (cells_max) of its first view in task_views, of its first slot */
    uint64_t *cell_places;  /* (cells_max) of the cell's draft, or NOWHERE */
    uint32_t *view_drafts;  /* (cells_max) the view's own draft or NONE; used if `few_folds` */
    uint32_t draft_count, shared_count;
    bool few_folds, any_private;
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
    work->links = mem_alloc(cells, sizeof *work->links);
    work->uses = mem_alloc(cells, sizeof *work->uses);
    work->privates = mem_alloc(cells, sizeof *work->privates);
    work->drafts = mem_alloc(cells, sizeof *work->drafts);
    work->task_drafts = mem_alloc(cells, sizeof *work->task_drafts);
    work->draft_places = mem_alloc(cells, sizeof *work->draft_places);
    work->cell_places = mem_alloc(cells, sizeof *work->cell_places);
    work->view_drafts = mem_alloc(cells, sizeof *work->view_drafts);
    if (plan->sources == NULL || plan->cells == NULL || plan->views == NULL || plan->task_views == NULL ||
        plan->tasks == NULL || plan->folds == NULL || work->buckets == NULL || work->links == NULL ||
        work->uses == NULL || work->privates == NULL || work->drafts == NULL || work->task_drafts == NULL ||
        work->draft_places == NULL || work->cell_places == NULL || work->view_drafts == NULL)
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
        mem_free(work->links);
        mem_free(work->uses);
        mem_free(work->privates);
        mem_free(work->drafts);
        mem_free(work->task_drafts);
        mem_free(work->draft_places);
        mem_free(work->cell_places);
        mem_free(work->view_drafts);
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
    work->draft_count = work->shared_count = 0;
    work->state_count = 0;
    work->few_folds = work->any_private = false;
    if (++work->epoch == 0) { /* after 2^32 builds */
        memset(work->buckets, 0, plan->options.page_count * sizeof *work->buckets);
        work->epoch = 1;
    }
}

static inline uint64_t two_counts(uint32_t below, uint32_t above) {
    return below | (uint64_t)above << 32;
}

static inline uint32_t count_below(uint64_t counts) {
    return (uint32_t)counts;
}

static inline uint32_t count_above(uint64_t counts) {
    return (uint32_t)(counts >> 32);
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

/* The group at hand, and in a stretch of several spans the cell that is being filled. */
typedef struct cell_cursor {
    cascade_plan *plan;
    const row_group *group;
    uint32_t group_index;
    uint32_t position_min, position_max; /* of the group's rows */
    uint32_t seen_begin;                 /* the first position that all of them see */
    uint64_t coordinate;                 /* of the next key; cells end at multiples of PLAN_CELL_TOKENS */
    int64_t rotation_origin;
    uint32_t position;           /* of the cell's first key */
    uint32_t key_count, sources; /* so far; the sources stand behind plan->sources[source_count] */
} cell_cursor;

static uint32_t first_page(const cascade_plan *plan, const plan_source *source) {
    return source->pages[source->token_begin >> plan->workspace->page_shift];
}

/* The sign bit is set for a page behind `last`; both are below 2^31. */
static inline uint32_t page_sign(uint32_t page, uint32_t last) {
    return page | (last - page);
}

/* Four at once; the last four overlap those before, and a run of fewer names some more than once: how short
 * it is, is nothing that a branch could foresee. */
static inline bool pages_are_in_pool(const cascade_plan *plan, const uint32_t *pages, uint32_t token_begin,
                                     uint32_t token_end) {
    uint32_t shift = plan->workspace->page_shift, last = plan->options.page_count - 1, signs[4] = {0};
    pages += token_begin >> shift;
    uint32_t left = ((token_end - 1) >> shift) - (token_begin >> shift); /* behind the first */
    if (left <= 3) {
        signs[0] = page_sign(pages[0], last) | page_sign(pages[left / 2], last) |
                   page_sign(pages[(left + 1) / 2], last) | page_sign(pages[left], last);
    } else {
        for (uint32_t page = 0; page < left - 3; page += 4)
            for (uint32_t i = 0; i < 4; i++)
                signs[i] |= page_sign(pages[page + i], last);
        for (uint32_t i = 0; i < 4; i++)
            signs[i] |= page_sign(pages[left - 3 + i], last);
    }
    return (signs[0] | signs[1] | signs[2] | signs[3]) >> 31 == 0;
}

static cento_status refuse_pages(const cell_cursor *cursor, const plan_source *source, cento_error *error) {
    uint32_t page = source->token_begin >> cursor->plan->workspace->page_shift;
    while (source->pages[page] < cursor->plan->options.page_count)
        page++;
    return error_set(error, CENTO_INVALID_ARGUMENT, "group %u: page %u of a pool of %u", cursor->group_index,
                     source->pages[page], cursor->plan->options.page_count);
}

static cento_status refuse_view(const cascade_plan *plan, cento_error *error) {
    return error_set(error, CENTO_INVALID_ARGUMENT, "the step has more than %u views on cells of KV",
                     plan->options.cells_max);
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

/* A cell that begins in the bucket's page; its sources stand behind plan->sources[source_count]. */
static inline uint32_t cell_new(cascade_plan *plan, page_bucket *bucket, uint32_t source_count,
                                uint32_t key_count) {
    const plan_workspace *work = plan->workspace;
    uint32_t cell = plan->cell_count++, before = bucket->epoch == work->epoch ? bucket->cell : NONE;
    const plan_source *first = plan->sources + plan->source_count;
    bool single = source_count == 1;
    plan->cells[cell] = (plan_cell){plan->source_count, source_count, key_count};
    plan->source_count += source_count;
    work->links[cell] = (cell_link){.next = before};
    work->uses[cell] = (cell_use){0};
    *bucket =
        (page_bucket){work->epoch, cell, single ? first->token_begin : 0, single ? first->token_end : 0};
    return cell;
}

/* The cell of cursor->sources sources behind plan->sources[source_count]. */
static cento_status cell_find(const cell_cursor *cursor, uint32_t *result, cento_error *error) {
    cascade_plan *plan = cursor->plan;
    const plan_workspace *work = plan->workspace;
    const plan_source *first = plan->sources + plan->source_count;
    uint32_t page = first_page(plan, first);
    if (page >= plan->options.page_count)
        return refuse_pages(cursor, first, error);
    page_bucket *bucket = &work->buckets[page];
    uint32_t cell = bucket->epoch == work->epoch ? bucket->cell : NONE;
    for (uint32_t probe = 0; cell != NONE && probe < PROBES_MAX; probe++, cell = work->links[cell].next)
        if (cell_equals(plan, cell, cursor)) {
            *result = cell;
            return CENTO_OK;
        }
    for (uint32_t i = 0; i < cursor->sources; i++)
        if (!pages_are_in_pool(plan, first[i].pages, first[i].token_begin, first[i].token_end))
            return refuse_pages(cursor, &first[i], error);
    *result = cell_new(plan, bucket, cursor->sources, cursor->key_count);
    return CENTO_OK;
}

static inline plan_view view_of(const row_group *group, uint32_t cell, uint32_t position,
                                int64_t rotation_origin) {
    return (plan_view){
        .cell = cell,
        .position = position,
        .rotation_origin = rotation_origin,
        .row_begin = group->row_begin,
        .row_count = group->row_count,
        .slot = PLAN_PRIVATE,
    };
}

static inline bool keys_are_seen(const cell_cursor *cursor, uint32_t position, uint32_t key_count) {
    uint32_t window = cursor->plan->window;
    return position <= cursor->position_max &&
           (window == 0 || (int64_t)position + key_count > (int64_t)cursor->position_min - window + 1);
}

/* The cell is whole: a view on it, if anybody sees it. */
static cento_status cell_close(cell_cursor *cursor, cento_error *error) {
    cascade_plan *plan = cursor->plan;
    if (keys_are_seen(cursor, cursor->position, cursor->key_count)) {
        uint32_t cell = 0;
        if (plan->view_count == plan->options.cells_max)
            return refuse_view(plan, error);
        TRY(cell_find(cursor, &cell, error));
        plan->views[plan->view_count++] =
            view_of(cursor->group, cell, cursor->position, cursor->rotation_origin);
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

/* The cell behind `before` in the table, or the one of the page that was found last, if it is these tokens.
 * By values: what was just written in two halves is slow to read as one. */
static inline uint32_t cell_known(const cascade_plan *plan, uint32_t before, const uint32_t *pages,
                                  uint32_t begin, uint32_t end) {
    const plan_workspace *work = plan->workspace;
    if (before + 1 < plan->cell_count && plan->cells[before + 1].source_count == 1) {
        const plan_source *held = plan->sources + plan->cells[before + 1].source_begin;
        if (held->pages == pages && held->token_begin == begin && held->token_end == end)
            return before + 1;
    }
    uint32_t page = pages[begin >> work->page_shift];
    if (page >= plan->options.page_count)
        return NONE;
    const page_bucket *bucket = &work->buckets[page];
    return bucket->epoch == work->epoch && bucket->token_begin == begin && bucket->token_end == end
               ? bucket->cell
               : NONE;
}

/* A span that another group has as well, from the same cell to the same end: its cells are known, and follow
 * each other in the table. Where all rows see all of it; else, or if it is another, false. */
static bool add_span_again(const cell_cursor *cursor, const kv_span *span) {
    cascade_plan *plan = cursor->plan;
    const plan_workspace *work = plan->workspace;
    uint32_t begin = span->token_begin, end = span->token_end, length = end - begin;
    uint32_t page = begin < end ? span->pages[begin >> work->page_shift] : NONE;
    if (page >= plan->options.page_count || work->buckets[page].epoch != work->epoch ||
        work->buckets[page].token_begin != begin || span->position < cursor->seen_begin ||
        span->position > cursor->position_max || length - 1 > cursor->position_max - span->position)
        return false;
    uint32_t cell = work->buckets[page].cell,
             cells = (end - 1) / PLAN_CELL_TOKENS - begin / PLAN_CELL_TOKENS + 1;
    const plan_source *first = plan->sources + plan->cells[cell].source_begin;
    if (work->links[cell].span_end != end || first->pages != span->pages ||
        cells > plan->options.cells_max - plan->view_count)
        return false;
    plan_view *view = plan->views + plan->view_count;
    plan->view_count += cells;
    uint32_t position = span->position, step = PLAN_CELL_TOKENS - begin % PLAN_CELL_TOKENS;
    for (uint32_t i = 0; i < cells; i++, position += step, step = PLAN_CELL_TOKENS)
        *view++ = view_of(cursor->group, cell + i, position, span->rotation_origin);
    return true;
}

/* A span that is a stretch of its own, of any length. Where another group has the same run, a cell is mostly
 * the one behind the cell before. */
static cento_status add_lone_span(cell_cursor *cursor, const kv_span *span, cento_error *error) {
    cascade_plan *plan = cursor->plan;
    if (add_span_again(cursor, span))
        return CENTO_OK;
    uint32_t cell = NONE, made = plan->cell_count, views = plan->view_count, cells = 0;
    for (uint32_t end, begin = span->token_begin; begin < span->token_end; begin = end, cells++) {
        uint32_t position = span->position + (begin - span->token_begin);
        end = (begin ^ (span->token_end - 1)) < PLAN_CELL_TOKENS ? span->token_end
                                                                 : (begin | (PLAN_CELL_TOKENS - 1)) + 1;
        if (!keys_are_seen(cursor, position, end - begin))
            continue;
        if (plan->view_count == plan->options.cells_max)
            return refuse_view(plan, error);
        cell = cell_known(plan, cell, span->pages, begin, end);
        if (cell == NONE) {
            plan->sources[plan->source_count] = (plan_source){span->pages, begin, end};
            cursor->sources = 1;
            cursor->key_count = end - begin;
            TRY(cell_find(cursor, &cell, error));
        }
        plan->views[plan->view_count++] = view_of(cursor->group, cell, position, span->rotation_origin);
    }
    if (cells > 0 && plan->cell_count - made == cells && plan->view_count - views == cells)
        plan->workspace->links[made].span_end = span->token_end;
    cursor->sources = cursor->key_count = 0;
    return CENTO_OK;
}

/* The cell of a span that is one cell, the first in its page, or NONE: add_lone_span says what is wrong. Out
 * of line, as the loop around it needs the registers. */
__attribute__((noinline)) static uint32_t add_first_cell(cascade_plan *plan, const kv_span *span,
                                                         uint32_t page) {
    uint32_t begin = span->token_begin, end = span->token_end;
    if ((begin ^ (end - 1)) >= PLAN_CELL_TOKENS || !pages_are_in_pool(plan, span->pages, begin, end))
        return NONE;
    plan->sources[plan->source_count] = (plan_source){span->pages, begin, end};
    return cell_new(plan, &plan->workspace->buckets[page], 1, end - begin);
}

/* The usual case, fast: spans that are one cell each, which all rows see and which is new in its page or the
 * one that was found there last. Returns the first other span. */
static const kv_span *add_short_spans(const cell_cursor *cursor, const kv_span *span,
                                      const kv_span *spans_end) {
    cascade_plan *plan = cursor->plan;
    const row_group *group = cursor->group;
    const page_bucket *buckets = plan->workspace->buckets;
    const uint32_t page_shift = plan->workspace->page_shift, page_count = plan->options.page_count,
                   epoch = plan->workspace->epoch, seen_begin = cursor->seen_begin,
                   seen_count = cursor->position_max - seen_begin;
    plan_view *view = plan->views + plan->view_count;
    if (plan->options.cells_max - plan->view_count < (size_t)(spans_end - span))
        return span;
    for (; span < spans_end; span++) {
        const kv_span *next = span + 1 < spans_end ? span + 1 : span;
        uint32_t begin = span->token_begin, end = span->token_end, position = span->position;
        if (next->continues || begin >= end || position - seen_begin > seen_count)
            break;
        uint32_t page = span->pages[begin >> page_shift], cell;
        if (page >= page_count)
            break;
        if (buckets[page].token_begin == begin && buckets[page].token_end == end &&
            buckets[page].epoch == epoch)
            cell = buckets[page].cell;
        else if (buckets[page].epoch == epoch || (cell = add_first_cell(plan, span, page)) == NONE)
            break;
        *view++ = view_of(group, cell, position, span->rotation_origin);
    }
    plan->view_count = (uint32_t)(view - plan->views);
    return span;
}

static cento_status add_group(cell_cursor *cursor, const plan_input *input, uint32_t index,
                              cento_error *error) {
    cascade_plan *plan = cursor->plan;
    const row_group *group = &input->groups[index];
    TRY(check_group(input, index, error));
    plan_fold *fold = &plan->folds[plan->fold_count++];
    *fold = (plan_fold){group->row_begin, group->row_count, plan->view_count, 0};
    cursor->group = group;
    cursor->group_index = index;
    cursor->position_min = input->positions[group->row_begin];
    cursor->position_max = input->positions[group->row_begin + group->row_count - 1];
    cursor->seen_begin = input->window > 0 && input->window <= cursor->position_min
                             ? cursor->position_min - input->window + 1
                             : 0;
    const kv_span *first = input->spans + group->span_begin, *end = first + group->span_count;
    const kv_span *span = first;
    if (span < end && !span->continues)
        span = add_short_spans(cursor, span, end);
    while (span < end) {
        bool lone = !span->continues && (span + 1 == end || !span[1].continues);
        do {
            const kv_span *before = span > first ? span - 1 : NULL;
            if (!span_is_whole(span, before))
                return refuse_span(span, before, index, (uint32_t)(span - first), error);
            TRY(lone ? add_lone_span(cursor, span, error) : add_span(cursor, span, error));
            span++;
        } while (span < end && span->continues);
        if (cursor->key_count > 0) /* the stretch's last cell */
            TRY(cell_close(cursor, error));
        span = add_short_spans(cursor, span, end);
    }
    fold->view_count = plan->view_count - fold->view_begin;
    return CENTO_OK;
}

/* -------------------------------------------------------------------- 2: cells to drafts ---- */

/* Views whose rows fill tiles of their own. */
static void count_private(cascade_plan *plan, const plan_fold *fold) {
    plan_workspace *work = plan->workspace;
    if (!work->any_private)
        memset(work->privates, 0, plan->cell_count * sizeof *work->privates);
    work->any_private = true;
    for (uint32_t v = fold->view_begin; v < fold->view_begin + fold->view_count; v++) {
        cell_private *private = &work->privates[plan->views[v].cell];
        private->view_count++;
        private->row_count += fold->row_count;
        private->tile_count += tiles_of(plan, fold->row_count);
    }
}

/* What all views add to their cells' counts. A pass of its own: in the search for cells, counters whose
 * addresses are known late would keep the processor from looking ahead. */
static void count_views(cascade_plan *plan, uint32_t heads_per_kv) {
    cell_use *uses = plan->workspace->uses;
    for (uint32_t f = 0; f < plan->fold_count; f++) {
        const plan_fold *fold = &plan->folds[f];
        const plan_view *view = plan->views + fold->view_begin, *end = view + fold->view_count;
        bool small = is_small(plan, fold->row_count, heads_per_kv);
        uint64_t counts = small ? two_counts(1, fold->row_count) : 0;
        for (; view < end; view++) {
            cell_use *use = &uses[view->cell];
            use->views_and_rows += counts;
            use->group_count += use->group_next != f + 1;
            use->group_next = f + 1;
        }
        if (!small)
            count_private(plan, fold);
    }
}

static uint32_t cell_level(const cascade_plan *plan, const cell_use *use) {
    return use->group_count == 1 ? 2 : use->group_count == plan->fold_count ? 0 : 1;
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

static bool sharing_pays(const cascade_plan *plan, uint32_t key_count, uint32_t view_count,
                         uint32_t row_count, uint32_t heads_per_kv) {
    const plan_costs *costs = &plan->options.costs;
    double tiles = tiles_of(plan, row_count), rows = (double)row_count * heads_per_kv;
    double saved_ns = (view_count - tiles) * key_count * costs->key_read_ns;
    return saved_ns >= rows * costs->state_ns + tiles * costs->task_ns;
}

static void draft_shared(cascade_plan *plan, uint32_t heads_per_kv) {
    plan_workspace *work = plan->workspace;
    plan_stats stats = {0};
    uint32_t levels = plan->options.levels_max;
    const cell_private none = {0};
    for (uint32_t cell = 0; cell < plan->cell_count; cell++) {
        const cell_use *use = &work->uses[cell];
        const cell_private *private = work->any_private ? &work->privates[cell] : &none;
        uint32_t views = count_below(use->views_and_rows), rows = count_above(use->views_and_rows);
        uint32_t level = cell_level(plan, use), keys = plan->cells[cell].key_count;
        uint64_t read = (uint64_t)keys * ((uint64_t)views + private->tile_count);
        stats.rows[level] += (uint64_t)rows + private->row_count;
        stats.tokens[level] += keys;
        stats.keys_read_unshared += read;
        stats.keys_read += read;
        work->cell_places[cell] = NOWHERE;
        if (levels == 1 || level == 2 || views < 2 || (levels == 2 && level != 0))
            continue;
        if (sharing_pays(plan, keys, views, rows, heads_per_kv) &&
            draft_add(plan, cell, views, rows, heads_per_kv)) {
            work->cell_places[cell] = 0; /* order_tasks tells */
            stats.keys_read -= (uint64_t)keys * (views - tiles_of(plan, rows));
        }
    }
    plan->stats = stats;
    work->shared_count = work->draft_count;
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
        for (uint32_t v = begin; v < end; v++)
            private_count += !small || work->cell_places[plan->views[v].cell] == NOWHERE;
        for (uint32_t v = begin; v < end; v++) {
            bool private = !small || work->cell_places[plan->views[v].cell] == NOWHERE;
            work->view_drafts[v] = NONE;
            if (private && private_count >= 2 &&
                draft_add(plan, plan->views[v].cell, 1, fold->row_count, heads_per_kv))
                work->view_drafts[v] = work->draft_count - 1;
        }
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
    for (uint32_t d = 0; d < work->draft_count; d++)
        work->task_drafts[begin[work->drafts[d].cost_class]++] = d;
    plan->task_count = work->draft_count;
    for (uint32_t t = 0; t < plan->task_count; t++) {
        uint32_t d = work->task_drafts[t];
        const task_draft *draft = &work->drafts[d];
        plan->tasks[t] = (plan_task){draft->cell, plan->task_view_count, draft->view_count, draft->row_count};
        work->draft_places[d] = two_counts(plan->task_view_count, plan->slot_count);
        if (d < work->shared_count)
            work->cell_places[draft->cell] = work->draft_places[d];
        plan->task_view_count += draft->view_count;
        plan->slot_count += draft->row_count;
    }
}

/* --------------------------------------------------------------------- 4: views to slots ---- */

static void assign_slots(cascade_plan *plan, uint32_t heads_per_kv) {
    const plan_workspace *work = plan->workspace;
    uint64_t *places = work->cell_places;
    plan_view *views = plan->views;
    uint32_t *task_views = plan->task_views;
    for (uint32_t f = 0; f < plan->fold_count; f++) {
        const plan_fold *fold = &plan->folds[f];
        uint32_t begin = fold->view_begin, end = begin + fold->view_count;
        uint32_t small_end = is_small(plan, fold->row_count, heads_per_kv) ? end : begin;
        uint64_t step = two_counts(1, fold->row_count);
        for (uint32_t v = begin; v < small_end; v++) {
            uint64_t *next = &places[views[v].cell], place = *next;
            if (place != NOWHERE) {
                *next = place + step;
                task_views[count_below(place)] = v;
                views[v].slot = count_above(place);
            }
        }
        for (uint32_t v = begin; v < end && work->few_folds; v++)
            if (work->view_drafts[v] != NONE) {
                uint64_t place = work->draft_places[work->view_drafts[v]];
                task_views[count_below(place)] = v;
                views[v].slot = count_above(place);
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
    cell_cursor cursor = {.plan = plan};
    for (uint32_t g = 0; g < input->group_count; g++)
        TRY(add_group(&cursor, input, g, error));
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
