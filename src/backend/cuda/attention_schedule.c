/*
 * attention_schedule: see attention_schedule.h. Building is four passes:
 *
 *   1. views → streams: tasks of the same views that follow each other are chained, and each fold's own
 * views;
 *   2. streams → tiles of rows, with the keys that they see;
 *   3. tiles → items: poured into the workers, cut where one is full;
 *   4. items → merge units.
 */
#include "attention_schedule.h"

#include <string.h>

#include "base/mem.h"

#define NONE           SCHEDULE_NONE
#define EXCESS_ALLOWED 0.02 /* of a share that the last worker may have beyond the others */
#define ROUNDS_MAX     16

/* Measured on an H100, us: a block of 64 keys of a tile where one CTA is alone with it; what an item takes
 * beside its blocks; a block's share of the memory's bandwidth for all workers together. */
static const schedule_costs default_costs = {
    /* attention_mma's */
    .block_us = {1.4, 1.5, 1.9, 3.4},
    .item_us = {2.5, 3.5, 4.5, 9.0},
    .piece_blocks = {1, 1, 1, 2},
};
#define MEMORY_BLOCK_US 0.0112
#define MERGE_US        5.0
#define AGAIN_SHARE     0.3 /* of it, where another tile reads the block too */
static const uint32_t shape_rows[] = {16, 32, 64, 128};

/* A growing array of items of one size. */
typedef struct table {
    void *memory;
    size_t capacity, count;
} table;

typedef struct stream {
    uint32_t segment_begin, segment_count;
    uint32_t row_begin, row_count; /* in rows */
    uint32_t key_count;
} stream;

enum { SHAPES = SCHEDULE_ROWS_128 + 1, TABLES = 18 };

typedef struct tile {
    uint32_t stream;
    uint32_t row_begin, row_count;
    uint32_t key_begin, key_end; /* seen by any of its rows */
    uint32_t full_begin, full_end;
    uint32_t shape;
    uint32_t merged_begin, merged_end; /* KV heads in which its rows are merged */
} tile;

/* Tasks of the same views that follow each other. */
typedef struct task_link {
    uint32_t behind;     /* the task that continues this one, or NONE */
    uint32_t view_count; /* of those that go on in `behind` */
    bool follows;        /* this one continues another */
} task_link;

struct attention_schedule {
    table segments, rows, page_ids, streams, tiles, items, item_tiles, work_begin;
    table view_tasks, row_counts, row_units, unit_begin, unit_partials, unit_rows, zero_rows;
    table task_links, tile_pieces, block;
    schedule_options options;
    const cascade_plan *plan;
    const uint32_t *positions;
    uint32_t unit_count, partial_count, unit_partials_most;
    const schedule_costs *costs;
    double block_us[SHAPES]; /* of a shape in this step */
};

/* Room for `count` more; NULL if memory is short. */
static inline void *table_add(table *of, size_t count, size_t size) {
    if (of->count + count >= of->capacity &&
        !mem_grow(&of->memory, &of->capacity, of->count + count + 1, size))
        return NULL;
    of->count += count;
    return (char *)of->memory + (of->count - count) * size;
}

#define ADD(pointer, table, added)                                                                           \
    do {                                                                                                     \
        (pointer) = table_add(&schedule->table, (added), sizeof *(pointer));                                 \
        if ((pointer) == NULL)                                                                               \
            return error_memory(error, (schedule->table.count + (added)) * sizeof *(pointer));               \
    } while (0)

cento_status attention_schedule_create(attention_schedule **result, cento_error *error) {
    attention_schedule *schedule = mem_zalloc(1, sizeof *schedule);
    if (schedule == NULL)
        return error_memory(error, sizeof *schedule);
    *result = schedule;
    return CENTO_OK;
}

static table *const *tables_of(attention_schedule *s, table *tables[], size_t *count) {
    table *const all[] = {&s->segments,   &s->rows,        &s->page_ids,      &s->streams,    &s->tiles,
                          &s->items,      &s->item_tiles,  &s->work_begin,    &s->view_tasks, &s->row_counts,
                          &s->row_units,  &s->unit_begin,  &s->unit_partials, &s->unit_rows,  &s->zero_rows,
                          &s->task_links, &s->tile_pieces, &s->block};
    *count = sizeof all / sizeof *all;
    memcpy(tables, all, sizeof all);
    return tables;
}

void attention_schedule_free(attention_schedule *schedule) {
    if (schedule == NULL)
        return;
    table *tables[TABLES];
    size_t count;
    tables_of(schedule, tables, &count);
    for (size_t i = 0; i < count; i++)
        mem_free(tables[i]->memory);
    mem_free(schedule);
}

/* -------------------------------------------------------------------- 1: views to streams ---- */

/* `view` + 1 goes on where `view` ends, for the same rows. */
static bool view_continues(const cascade_plan *plan, uint32_t view) {
    const plan_view *now = &plan->views[view], *next = now + 1;
    return view + 1 < plan->view_count && next->row_begin == now->row_begin &&
           next->row_count == now->row_count && next->rotation_origin == now->rotation_origin &&
           (int64_t)next->position == (int64_t)now->position + plan->cells[now->cell].key_count;
}

static cento_status add_pages(attention_schedule *schedule, const plan_source *source, uint32_t from,
                              uint32_t end, cento_error *error) {
    uint32_t page_tokens = schedule->plan->options.page_tokens;
    uint32_t first = from / page_tokens, count = (end + page_tokens - 1) / page_tokens - first, *ids;
    ADD(ids, page_ids, count);
    memcpy(ids, source->pages + first, count * sizeof *ids);
    return CENTO_OK;
}

/* A source that follows the last one in the same run lengthens its segment. */
static cento_status add_cell(attention_schedule *schedule, stream *into, uint32_t cell_index,
                             const plan_source **last, cento_error *error) {
    const cascade_plan *plan = schedule->plan;
    const plan_cell *cell = &plan->cells[cell_index];
    uint32_t page_tokens = plan->options.page_tokens;
    for (uint32_t i = 0; i < cell->source_count; i++) {
        const plan_source *source = &plan->sources[cell->source_begin + i];
        uint32_t count = source->token_end - source->token_begin;
        if (count == 0)
            continue;
        if (*last != NULL && (*last)->pages == source->pages && (*last)->token_end == source->token_begin) {
            uint32_t held_end = (source->token_begin + page_tokens - 1) / page_tokens * page_tokens;
            if (source->token_end > held_end)
                TRY(add_pages(schedule, source, held_end, source->token_end, error));
            schedule_segment *segments = schedule->segments.memory;
            segments[schedule->segments.count - 1].key_end += count;
        } else {
            schedule_segment *segment;
            uint32_t page_begin = (uint32_t)schedule->page_ids.count;
            TRY(add_pages(schedule, source, source->token_begin, source->token_end, error));
            ADD(segment, segments, 1);
            *segment = (schedule_segment){page_begin, source->token_begin % page_tokens, into->key_count,
                                          into->key_count + count};
            into->segment_count++;
        }
        *last = source;
        into->key_count += count;
    }
    return CENTO_OK;
}

static cento_status add_rows(attention_schedule *schedule, stream *into, const plan_view *view,
                             cento_error *error) {
    schedule_row *rows;
    ADD(rows, rows, view->row_count);
    for (uint32_t i = 0; i < view->row_count; i++) {
        uint32_t row = view->row_begin + i;
        int64_t position = schedule->positions[row];
        rows[i] = (schedule_row){row, (int32_t)(position - view->rotation_origin),
                                 (int32_t)(position - view->position + 1), NONE};
    }
    into->row_count += view->row_count;
    return CENTO_OK;
}

static stream stream_here(const attention_schedule *schedule) {
    return (stream){.segment_begin = (uint32_t)schedule->segments.count,
                    .row_begin = (uint32_t)schedule->rows.count};
}

static cento_status stream_close(attention_schedule *schedule, const stream *made, cento_error *error) {
    stream *into;
    ADD(into, streams, 1);
    *into = *made;
    return CENTO_OK;
}

/* Which task continues which, for all of its views: in one pass over the views, in the order in which they
 * lie. */
static cento_status link_tasks(attention_schedule *schedule, cento_error *error) {
    const cascade_plan *plan = schedule->plan;
    const uint32_t *view_tasks = schedule->view_tasks.memory;
    task_link *links;
    ADD(links, task_links, plan->task_count);
    memset(links, 0, plan->task_count * sizeof *links);
    for (uint32_t v = 0; v + 1 < plan->view_count; v++) {
        if (view_tasks[v] == NONE || view_tasks[v + 1] == NONE || !view_continues(plan, v))
            continue;
        task_link *link = &links[view_tasks[v]];
        if (link->view_count == 0)
            link->behind = view_tasks[v + 1];
        link->view_count += link->behind == view_tasks[v + 1];
    }
    for (uint32_t t = 0; t < plan->task_count; t++) {
        task_link *link = &links[t];
        uint32_t views = plan->tasks[t].view_count;
        if (views < 2 || link->view_count != views || plan->tasks[link->behind].view_count != views)
            link->behind = NONE;
        else
            links[link->behind].follows = true;
    }
    return CENTO_OK;
}

static cento_status chain_tasks(attention_schedule *schedule, cento_error *error) {
    const cascade_plan *plan = schedule->plan;
    TRY(link_tasks(schedule, error));
    const task_link *links = schedule->task_links.memory;
    for (uint32_t t = 0; t < plan->task_count; t++) {
        const plan_task *task = &plan->tasks[t];
        if (task->view_count < 2 || links[t].follows)
            continue;
        stream made = stream_here(schedule);
        for (uint32_t i = 0; i < task->view_count; i++)
            TRY(add_rows(schedule, &made, &plan->views[plan->task_views[task->view_begin + i]], error));
        const plan_source *last = NULL;
        for (uint32_t next = t; next != NONE; next = links[next].behind)
            TRY(add_cell(schedule, &made, plan->tasks[next].cell, &last, error));
        TRY(stream_close(schedule, &made, error));
    }
    return CENTO_OK;
}

/* Views that no other group's rows share: private ones, and tasks of one view. */
static cento_status chain_own(attention_schedule *schedule, cento_error *error) {
    const cascade_plan *plan = schedule->plan;
    const uint32_t *view_tasks = schedule->view_tasks.memory;
    for (uint32_t f = 0; f < plan->fold_count; f++) {
        const plan_fold *fold = &plan->folds[f];
        uint32_t end = fold->view_begin + fold->view_count;
        for (uint32_t v = fold->view_begin; v < end; v++) {
            if (view_tasks[v] != NONE)
                continue;
            stream made = stream_here(schedule);
            const plan_source *last = NULL;
            TRY(add_rows(schedule, &made, &plan->views[v], error));
            TRY(add_cell(schedule, &made, plan->views[v].cell, &last, error));
            for (; v + 1 < end && view_tasks[v + 1] == NONE && view_continues(plan, v); v++)
                TRY(add_cell(schedule, &made, plan->views[v + 1].cell, &last, error));
            TRY(stream_close(schedule, &made, error));
        }
    }
    return CENTO_OK;
}

static cento_status find_streams(attention_schedule *schedule, cento_error *error) {
    const cascade_plan *plan = schedule->plan;
    uint32_t *view_tasks;
    ADD(view_tasks, view_tasks, plan->view_count);
    for (uint32_t v = 0; v < plan->view_count; v++)
        view_tasks[v] = NONE;
    for (uint32_t t = 0; t < plan->task_count; t++)
        for (uint32_t i = 0; plan->tasks[t].view_count > 1 && i < plan->tasks[t].view_count; i++)
            view_tasks[plan->task_views[plan->tasks[t].view_begin + i]] = t;
    TRY(chain_tasks(schedule, error));
    return chain_own(schedule, error);
}

/* -------------------------------------------------------------------- 2: streams to tiles ---- */

static uint32_t shape_for(uint32_t packed_rows) {
    uint32_t shape = SCHEDULE_ROWS_16;
    while (shape < SCHEDULE_ROWS_128 && shape_rows[shape] < packed_rows)
        shape++;
    return shape;
}

/* The keys that its rows see; false if there are none. */
static bool tile_see(const attention_schedule *schedule, tile *of, uint32_t key_count) {
    const schedule_row *rows = schedule->rows.memory;
    int64_t window = schedule->options.window, begin = INT32_MAX, end = 0, full_begin = 0,
            full_end = key_count;
    for (uint32_t i = of->row_begin; i < of->row_begin + of->row_count; i++) {
        int64_t seen_end = rows[i].seen_end, seen_begin = window == 0 ? 0 : seen_end - window;
        seen_begin = seen_begin < 0 ? 0 : seen_begin;
        full_begin = seen_begin > full_begin ? seen_begin : full_begin;
        full_end = seen_end < full_end ? seen_end : full_end;
        seen_end = seen_end > key_count ? key_count : seen_end;
        if (seen_begin < seen_end) {
            begin = seen_begin < begin ? seen_begin : begin;
            end = seen_end > end ? seen_end : end;
        }
    }
    of->key_begin = (uint32_t)begin;
    of->key_end = (uint32_t)end;
    of->full_begin = (uint32_t)full_begin;
    of->full_end = full_end > full_begin ? (uint32_t)full_end : (uint32_t)full_begin;
    return begin < end;
}

static cento_status cut_tiles(attention_schedule *schedule, cento_error *error) {
    uint32_t group = schedule->options.heads_per_kv, tile_tokens = shape_rows[SCHEDULE_ROWS_128] / group;
    const stream *streams = schedule->streams.memory;
    for (uint32_t s = 0; s < schedule->streams.count; s++)
        for (uint32_t begin = 0; begin < streams[s].row_count; begin += tile_tokens) {
            uint32_t left = streams[s].row_count - begin, count = left < tile_tokens ? left : tile_tokens;
            tile made = {.stream = s, .row_begin = streams[s].row_begin + begin, .row_count = count}, *into;
            made.shape = shape_for(count * group);
            if (!tile_see(schedule, &made, streams[s].key_count))
                continue;
            ADD(into, tiles, 1);
            *into = made;
        }
    return CENTO_OK;
}

/* --------------------------------------------------------------------- 3: tiles to items ---- */

static uint32_t tile_blocks(const tile *of) {
    return (of->key_end - 1) / SCHEDULE_BLOCK_KEYS - of->key_begin / SCHEDULE_BLOCK_KEYS + 1;
}

/* What a block takes: the tensor cores' time, or where memory takes longer in all, the light shapes' share of
 * memory's time, which heavy ones do not wait for. The blocks of a stream's tiles but the first lie in L2. */
static void find_costs(attention_schedule *schedule) {
    const tile *tiles = schedule->tiles.memory;
    double blocks[SHAPES] = {0}, items_us = 0.0, memory_us = 0.0;
    for (uint32_t t = 0; t < schedule->tiles.count; t++) {
        bool again = t > 0 && tiles[t].stream == tiles[t - 1].stream;
        blocks[tiles[t].shape] += tile_blocks(&tiles[t]);
        items_us += schedule->costs->item_us[tiles[t].shape];
        memory_us += tile_blocks(&tiles[t]) * (again ? AGAIN_SHARE : 1.0) * MEMORY_BLOCK_US *
                     schedule->options.workers;
    }
    double light_us = MEMORY_BLOCK_US * schedule->options.workers;
    for (int round = 0; round < SHAPES; round++) {
        double left = memory_us - items_us, light = 0.0;
        for (int shape = 0; shape < SHAPES; shape++)
            if (schedule->costs->block_us[shape] > light_us)
                left -= blocks[shape] * schedule->costs->block_us[shape];
            else
                light += blocks[shape];
        light_us = light > 0 ? left / light : light_us;
    }
    for (int shape = 0; shape < SHAPES; shape++)
        schedule->block_us[shape] =
            schedule->costs->block_us[shape] > light_us ? schedule->costs->block_us[shape] : light_us;
}

static cento_status add_item(attention_schedule *schedule, uint32_t tile_index, uint32_t kv_head,
                             uint32_t block_begin, uint32_t block_end, cento_error *error) {
    const tile *of = (const tile *)schedule->tiles.memory + tile_index;
    const stream *in = (const stream *)schedule->streams.memory + of->stream;
    const schedule_segment *segments = schedule->segments.memory;
    uint32_t first = of->key_begin / SCHEDULE_BLOCK_KEYS, *item_tile;
    uint32_t begin = (first + block_begin) * SCHEDULE_BLOCK_KEYS,
             end = (first + block_end) * SCHEDULE_BLOCK_KEYS;
    begin = begin < of->key_begin ? of->key_begin : begin;
    end = end > of->key_end ? of->key_end : end;
    uint32_t segment = in->segment_begin;
    while (segments[segment].key_end <= begin)
        segment++;
    schedule_item *item;
    ADD(item, items, 1);
    ADD(item_tile, item_tiles, 1);
    *item_tile = tile_index;
    *item = (schedule_item){
        .key_begin = begin,
        .key_end = end,
        .kv_head = kv_head,
        .segment_begin = segment,
        .first = segments[segment],
        .row_begin = of->row_begin,
        .row_count = of->row_count,
        .shape = of->shape,
        .partial = NONE,
        .full_begin = of->full_begin,
        .full_end = of->full_end,
        .first_row = ((const schedule_row *)schedule->rows.memory)[of->row_begin].row,
    };
    return CENTO_OK;
}

/* Workers are filled up one after another, each to its share. */
typedef struct pour {
    uint32_t worker;
    double filled, full, share; /* us of all so far; where this worker's share ends; a worker's */
    double last;                /* us of the last worker, which takes what is left */
} pour;

static void next_worker(attention_schedule *schedule, pour *at) {
    at->worker++;
    at->full += at->share;
    ((uint32_t *)schedule->work_begin.memory)[at->worker] = (uint32_t)schedule->items.count;
}

/* How many of `left` blocks a worker with `room` us for them takes. */
static uint32_t blocks_that_fit(double room, double block_us, uint32_t left, uint32_t least) {
    uint32_t fitting = room <= 0 ? 0 : (uint32_t)(room / block_us + 0.5);
    if (fitting >= left)
        return left;
    if (fitting < least)
        fitting = 2 * fitting < least ? 0 : least;
    if (fitting + least <= left)
        return fitting;
    return 2 * fitting >= left ? left : left < 2 * least ? 0 : left - least;
}

static cento_status pour_tile(attention_schedule *schedule, pour *at, uint32_t tile_index, uint32_t kv_head,
                              cento_error *error) {
    const tile *of = (const tile *)schedule->tiles.memory + tile_index;
    uint32_t blocks = tile_blocks(of), begin = 0;
    double item_us = schedule->costs->item_us[of->shape], block_us = schedule->block_us[of->shape];
    while (begin < blocks) {
        uint32_t taken = blocks - begin;
        bool last_worker = at->worker + 1 == schedule->options.workers;
        if (!last_worker)
            taken = blocks_that_fit(at->full - at->filled - item_us, block_us, taken,
                                    schedule->costs->piece_blocks[of->shape]);
        if (taken > 0) {
            TRY(add_item(schedule, tile_index, kv_head, begin, begin + taken, error));
            at->filled += item_us + taken * block_us;
            at->last += last_worker ? item_us + taken * block_us : 0.0;
            begin += taken;
        }
        if (!last_worker && (taken == 0 || at->full - at->filled < 0.5 * block_us))
            next_worker(schedule, at);
    }
    return CENTO_OK;
}

/* The largest tiles first: one worker of a multiprocessor then computes while the other reads. */
static cento_status pour_all(attention_schedule *schedule, pour *at, cento_error *error) {
    schedule->items.count = schedule->item_tiles.count = 0;
    for (uint32_t shape = SHAPES; shape-- > 0;) {
        const tile *tiles = schedule->tiles.memory;
        int64_t front = 0, back = (int64_t)schedule->tiles.count - 1;
        for (;; front++) {
            while (front <= back && tiles[front].shape != shape)
                front++;
            while (shape == SCHEDULE_ROWS_128 && front < back && tiles[back].shape != shape)
                back--;
            if (front > back)
                break;
            bool pair = shape == SCHEDULE_ROWS_128 && front < back;
            for (uint32_t head = 0; head < schedule->options.kv_heads; head++) {
                TRY(pour_tile(schedule, at, (uint32_t)front, head, error));
                if (pair)
                    TRY(pour_tile(schedule, at, (uint32_t)back, head, error));
            }
            back -= pair;
        }
    }
    while (at->worker < schedule->options.workers)
        next_worker(schedule, at);
    return CENTO_OK;
}

/* A worker's share: of all of the time and of the fixed time of the items that cuts between workers add, and
 * no less than the largest piece that is not cut. */
static double first_share(const attention_schedule *schedule) {
    double all = 0.0, cuts = 0.0, least = 0.0;
    for (uint32_t t = 0; t < schedule->tiles.count; t++) {
        const tile *of = (const tile *)schedule->tiles.memory + t;
        double item_us = schedule->costs->item_us[of->shape], block_us = schedule->block_us[of->shape];
        double piece_us = item_us + schedule->costs->piece_blocks[of->shape] * block_us;
        double tile_us = (item_us + tile_blocks(of) * block_us) * schedule->options.kv_heads;
        all += tile_us;
        cuts += tile_us * item_us;
        least = piece_us > least ? piece_us : least;
    }
    double share = all > 0.0 ? all / schedule->options.workers + cuts / all : 0.0;
    return share > least ? share : least;
}

/* The next tile, uncut, in one head. True if it is the next worker's, who then begins with it. */
static bool load_whole(const attention_schedule *schedule, const tile *of, double limit, uint32_t worker,
                       double *load) {
    double tile_us = schedule->costs->item_us[of->shape] + tile_blocks(of) * schedule->block_us[of->shape];
    bool next = *load + tile_us > limit && worker + 1 < schedule->options.workers;
    *load = next ? tile_us : *load + tile_us;
    return next;
}

/* No worker takes longer than `limit` with tiles uncut. */
static bool fits_whole(const attention_schedule *schedule, double limit) {
    uint32_t worker = 0;
    double load = 0.0;
    for (uint32_t shape = SHAPES; shape-- > 0;)
        for (uint32_t t = 0; t < schedule->tiles.count; t++) {
            const tile *of = (const tile *)schedule->tiles.memory + t;
            for (uint32_t head = 0; of->shape == shape && head < schedule->options.kv_heads; head++) {
                worker += load_whole(schedule, of, limit, worker, &load);
                if (load > limit)
                    return false;
            }
        }
    return true;
}

static cento_status pour_whole(attention_schedule *schedule, double limit, cento_error *error) {
    pour at = {0};
    double load = 0.0;
    schedule->items.count = schedule->item_tiles.count = 0;
    for (uint32_t shape = SHAPES; shape-- > 0;)
        for (uint32_t t = 0; t < schedule->tiles.count; t++) {
            const tile *of = (const tile *)schedule->tiles.memory + t;
            for (uint32_t head = 0; of->shape == shape && head < schedule->options.kv_heads; head++) {
                if (load_whole(schedule, of, limit, at.worker, &load))
                    next_worker(schedule, &at);
                TRY(add_item(schedule, t, head, 0, tile_blocks(of), error));
            }
        }
    while (at.worker < schedule->options.workers)
        next_worker(schedule, &at);
    return CENTO_OK;
}

/* Rows that see one stream each have nothing to merge as long as tiles are not cut. */
static bool one_stream_a_row(const attention_schedule *schedule) {
    uint32_t covered = 0;
    for (uint32_t f = 0; f < schedule->plan->fold_count; f++)
        covered += schedule->plan->folds[f].row_count;
    return schedule->rows.count <= covered;
}

/* Where the last worker gets too much, again with larger shares. */
static cento_status cut_items(attention_schedule *schedule, cento_error *error) {
    uint32_t *begin;
    ADD(begin, work_begin, schedule->options.workers + 1);
    begin[0] = 0;
    find_costs(schedule);
    double share = first_share(schedule);
    if (one_stream_a_row(schedule) && fits_whole(schedule, share + MERGE_US))
        return pour_whole(schedule, share + MERGE_US, error);
    for (int round = 0; round < ROUNDS_MAX; round++) {
        pour at = {.full = share, .share = share};
        TRY(pour_all(schedule, &at, error));
        if (at.last <= (1.0 + EXCESS_ALLOWED) * share)
            break;
        double more = (at.last - share) / schedule->options.workers;
        share += more > EXCESS_ALLOWED * share ? more : EXCESS_ALLOWED * share;
    }
    return CENTO_OK;
}

/* --------------------------------------------------------------------- 4: merge units ------- */

static cento_status find_units(attention_schedule *schedule, cento_error *error) {
    uint32_t heads = schedule->options.kv_heads, group = schedule->options.heads_per_kv;
    uint32_t row_count = schedule->plan->row_count, *counts, *units, *begin, *partials, *unit_rows, *pieces;
    ADD(counts, row_counts, (size_t)row_count * heads);
    ADD(units, row_units, row_count);
    memset(counts, 0, (size_t)row_count * heads * sizeof *counts);
    memset(units, 0xFF, row_count * sizeof *units);
    schedule_item *items = schedule->items.memory;
    schedule_row *rows = schedule->rows.memory;
    tile *tiles = schedule->tiles.memory;
    const uint32_t *item_tiles = schedule->item_tiles.memory;
    size_t tile_count = schedule->tiles.count;
    ADD(pieces, tile_pieces, tile_count * heads); /* of a tile and head */
    memset(pieces, 0, tile_count * heads * sizeof *pieces);
    for (size_t i = 0; i < schedule->items.count; i++)
        pieces[(size_t)item_tiles[i] * heads + items[i].kv_head]++;
    for (size_t t = 0; t < tile_count; t++)
        for (uint32_t r = 0; r < tiles[t].row_count; r++) {
            uint32_t *of_row = counts + (size_t)rows[tiles[t].row_begin + r].row * heads;
            for (uint32_t head = 0; head < heads; head++)
                of_row[head] += pieces[t * heads + head];
        }
    /* All rows of a tile are merged in a head if one is, and in the heads between two such. A row of several
     * tiles is merged in all heads: so a row's heads are those of any of its tiles. */
    for (uint32_t t = 0; t < schedule->tiles.count; t++) {
        tile *of = &tiles[t];
        of->merged_begin = heads;
        for (uint32_t r = 0; r < of->row_count; r++)
            for (uint32_t head = 0; head < heads; head++)
                if (counts[(size_t)rows[of->row_begin + r].row * heads + head] > 1) {
                    of->merged_begin = head < of->merged_begin ? head : of->merged_begin;
                    of->merged_end = head >= of->merged_end ? head + 1 : of->merged_end;
                }
        for (uint32_t r = 0; r < of->row_count && of->merged_begin < of->merged_end; r++) {
            schedule_row *row = &rows[of->row_begin + r];
            if (units[row->row] == NONE) {
                units[row->row] = schedule->unit_count;
                schedule->unit_count += of->merged_end - of->merged_begin;
            }
            row->unit = units[row->row] - of->merged_begin;
        }
    }
    ADD(begin, unit_begin, schedule->unit_count + 1);
    ADD(unit_rows, unit_rows, 2 * (size_t)schedule->unit_count);
    for (uint32_t t = 0; t < schedule->tiles.count; t++)
        for (uint32_t r = 0; r < tiles[t].row_count; r++)
            for (uint32_t head = tiles[t].merged_begin; head < tiles[t].merged_end; head++) {
                const schedule_row *row = &rows[tiles[t].row_begin + r];
                begin[row->unit + head] = counts[(size_t)row->row * heads + head]; /* counts first */
                unit_rows[2 * (row->unit + head)] = row->row;
                unit_rows[2 * (row->unit + head) + 1] = head;
            }
    uint32_t total = 0;
    for (uint32_t row = 0; row < row_count; row++) {
        uint32_t seen = 0;
        for (uint32_t head = 0; head < heads; head++)
            seen += counts[(size_t)row * heads + head];
        if (seen == 0) {
            uint32_t *zero;
            ADD(zero, zero_rows, 1);
            *zero = row;
        }
    }
    for (uint32_t unit = 0; unit < schedule->unit_count; unit++) {
        uint32_t count = begin[unit];
        begin[unit] = total;
        total += count;
        if (count > schedule->unit_partials_most)
            schedule->unit_partials_most = count;
    }
    begin[schedule->unit_count] = total;
    ADD(partials, unit_partials, total);
    uint32_t *next = counts; /* where a unit's next partial goes */
    memcpy(next, begin, schedule->unit_count * sizeof *next);
    for (size_t i = 0; i < schedule->items.count; i++) {
        schedule_item *item = &items[i];
        const tile *of = &tiles[item_tiles[i]];
        if (item->kv_head < of->merged_begin || item->kv_head >= of->merged_end)
            continue;
        item->partial = schedule->partial_count;
        const schedule_row *row = &rows[item->row_begin];
        for (uint32_t r = 0; r < item->row_count; r++)
            partials[next[row[r].unit + item->kv_head]++] = item->partial + r * group;
        schedule->partial_count += item->row_count * group;
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------ the block ---- */

static uint32_t lay(uint32_t *words, size_t count, size_t size) {
    uint32_t at = *words;
    *words += (uint32_t)((count * size / 4 + 3) / 4 * 4);
    return at;
}

static cento_status write_block(attention_schedule *schedule, cento_error *error) {
    uint32_t words = (uint32_t)sizeof(schedule_header) / 4;
    schedule_header header = {
        .workers = schedule->options.workers,
        .item_count = (uint32_t)schedule->items.count,
        .unit_count = schedule->unit_count,
        .partial_count = schedule->partial_count,
        .zero_row_count = (uint32_t)schedule->zero_rows.count,
        .unit_partials_most = schedule->unit_partials_most,
        .partial_out = (2 * schedule->partial_count + 31) / 32 * 32,
    };
    header.work_begin = lay(&words, schedule->work_begin.count, 4);
    header.items = lay(&words, schedule->items.count, sizeof(schedule_item));
    header.rows = lay(&words, schedule->rows.count, sizeof(schedule_row));
    header.segments = lay(&words, schedule->segments.count, sizeof(schedule_segment));
    header.page_ids = lay(&words, schedule->page_ids.count, 4);
    header.unit_begin = lay(&words, schedule->unit_begin.count, 4);
    header.unit_partials = lay(&words, schedule->unit_partials.count, 4);
    header.unit_rows = lay(&words, schedule->unit_rows.count, 4);
    header.zero_rows = lay(&words, schedule->zero_rows.count, 4);
    header.words = words;
    uint32_t *block;
    ADD(block, block, words);
    memcpy(block, &header, sizeof header);
    const struct {
        uint32_t at;
        const table *from;
        size_t size;
    } parts[] = {
        {header.work_begin, &schedule->work_begin, 4},
        {header.items, &schedule->items, sizeof(schedule_item)},
        {header.rows, &schedule->rows, sizeof(schedule_row)},
        {header.segments, &schedule->segments, sizeof(schedule_segment)},
        {header.page_ids, &schedule->page_ids, 4},
        {header.unit_begin, &schedule->unit_begin, 4},
        {header.unit_partials, &schedule->unit_partials, 4},
        {header.unit_rows, &schedule->unit_rows, 4},
        {header.zero_rows, &schedule->zero_rows, 4},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].from->count > 0)
            memcpy(block + parts[i].at, parts[i].from->memory, parts[i].from->count * parts[i].size);
    return CENTO_OK;
}

cento_status attention_schedule_build(attention_schedule *schedule, const schedule_options *options,
                                      const cascade_plan *plan, const uint32_t *positions,
                                      const uint32_t **block, cento_error *error) {
    if (options->workers == 0 || options->kv_heads == 0 || options->heads_per_kv == 0 ||
        options->heads_per_kv > shape_rows[SCHEDULE_ROWS_128])
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "a schedule for %u workers, %u KV heads of %u query heads", options->workers,
                         options->kv_heads, options->heads_per_kv);
    table *tables[TABLES];
    size_t count;
    tables_of(schedule, tables, &count);
    for (size_t i = 0; i < count; i++)
        tables[i]->count = 0;
    schedule->options = *options;
    schedule->costs = options->costs == NULL ? &default_costs : options->costs;
    schedule->plan = plan;
    schedule->positions = positions;
    schedule->unit_count = schedule->partial_count = schedule->unit_partials_most = 0;
    TRY(find_streams(schedule, error));
    TRY(cut_tiles(schedule, error));
    TRY(cut_items(schedule, error));
    TRY(find_units(schedule, error));
    TRY(write_block(schedule, error));
    *block = schedule->block.memory;
    return CENTO_OK;
}
