/*
 * Attention over pages, as a plan lays it out (cascade/cascade_plan.h). Rows are packed into tiles of up to
 * TILE_ROWS_WANTED (token × query head of the group) of one KV head, so that a key is read once for all of
 * them. Every cell starts from the empty state and a row's states are folded in the order of its cells: the
 * same arithmetic whoever does it, so results depend neither on threads, nor on what is shared, nor on which
 * other rows are in the batch.
 *
 *   1. tasks: cells that several rows share (or that are handed out because there are few rows), each with
 *      rows gathered from its views; the states go to the workspace, by slot:
 *
 *          cell of doc A    view of g0: rows 0 1    view of g1: row 2    …     slots s, s+1, s+2, …
 *
 *   2. folds: each group's rows; states of the workspace are folded in, private cells computed on the spot.
 *
 * The workspace is bounded by taking the KV heads a few at a time.
 */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "backend/backend_check.h"
#include "cpu.h"

#define TILE_ROWS_WANTED 96
#define UNITS_FOR_PAIRS  12                 /* of a thread; fewer would make threads wait at the end */
#define SERIAL_PRODUCTS  524288             /* below this it is not worth waking threads for */
#define STATES_BYTES     ((size_t)32 << 20) /* of partial states; at least one KV head's */
#define LOG2_E           1.4426950408889634f

/* Rows of a task, in the order of its views, or of a fold. */
typedef struct row_tile {
    uint32_t of; /* task or fold */
    uint32_t row_begin, row_count;
} row_tile;

typedef struct attention_job {
    const cpu_backend *self;
    const attention_kernels *kernels;
    const attention_shape *shape;
    const float *qkv;
    const uint32_t *positions;
    const cascade_plan *plan;
    const backend_kv_pool *pool;
    uint32_t layer, group; /* group: query heads of a KV head */
    float *out;
    uint32_t dim_padded, tile_tokens;
    row_tile *task_tiles, *fold_tiles;
    uint32_t task_tile_count, fold_tile_count;
    uint32_t *view_rotations; /* (views): entry of the rope memo for the view's first row */
    size_t state_floats;      /* of a tile */
    size_t slot_floats;       /* of all slots, one KV head */
    size_t work_floats;       /* of a thread */
} attention_job;

uint32_t attention_tile_rows(const backend *self) {
    (void)self;
    return TILE_ROWS_WANTED;
}

/* With products in bf16, queries and weights may be rounded as activations are. A query head alone in its
 * group would leave 15 of 16 rows of a tile register empty. Chosen by what never changes for a pool, so that
 * all rows ever computed from it go the same way. */
const attention_kernels *attention_kernels_of(const cpu_backend *self, const attention_shape *shape,
                                              bool bf16) {
    bool rounded = self->attention_amx != NULL && bf16 && self->compute_dtype == CENTO_DTYPE_BF16 &&
                   shape->head_dim % self->attention_amx->width == 0 && shape->heads > shape->kv_heads;
    return rounded ? self->attention_amx : &self->kernels->attention;
}

/* ------------------------------------------------------------------------------- tables ---- */

/* Tiles of about equal size; counts them if `tiles` is NULL. */
static uint32_t cut_rows(const attention_job *job, uint32_t of, uint32_t row_count, row_tile *tiles) {
    uint32_t count = divided_up(row_count, job->tile_tokens), rows = divided_up(row_count, count);
    count = divided_up(row_count, rows);
    for (uint32_t i = 0; tiles != NULL && i < count; i++) {
        uint32_t begin = i * rows;
        tiles[i] = (row_tile){of, begin, row_count - begin < rows ? row_count - begin : rows};
    }
    return count;
}

static void cut_tiles(attention_job *job) {
    const cascade_plan *plan = job->plan;
    uint32_t count = 0;
    for (uint32_t t = 0; t < plan->task_count; t++)
        count += cut_rows(job, t, plan->tasks[t].row_count,
                          job->task_tiles == NULL ? NULL : job->task_tiles + count);
    job->task_tile_count = count;
    count = 0;
    for (uint32_t f = 0; f < plan->fold_count; f++)
        count += cut_rows(job, f, plan->folds[f].row_count,
                          job->fold_tiles == NULL ? NULL : job->fold_tiles + count);
    job->fold_tile_count = count;
}

/* One entry of the memo for each row of a fold and each stretch of views with the same origin. */
static cento_status find_rotations(attention_job *job, cpu_backend *self, const rope_table *rope,
                                   cento_error *error) {
    const cascade_plan *plan = job->plan;
    size_t most = 0, count = 0;
    for (uint32_t f = 0; f < plan->fold_count; f++)
        most += (size_t)plan->folds[f].row_count * plan->folds[f].view_count;
    if (most > UINT32_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%zu pairs of rows and cells in one step", most);
    TRY(scratch_reserve(&self->positions, most * sizeof(int64_t), error));
    int64_t *rotations = self->positions.memory;
    for (uint32_t f = 0; f < plan->fold_count; f++) {
        const plan_fold *fold = &plan->folds[f];
        const plan_view *views = plan->views + fold->view_begin;
        for (uint32_t v = 0; v < fold->view_count; v++) {
            uint32_t *entry = &job->view_rotations[fold->view_begin + v];
            if (v > 0 && views[v].rotation_origin == views[v - 1].rotation_origin) {
                *entry = entry[-1];
                continue;
            }
            *entry = (uint32_t)count;
            for (uint32_t r = 0; r < fold->row_count; r++)
                rotations[count++] = (int64_t)job->positions[fold->row_begin + r] - views[v].rotation_origin;
        }
    }
    return rope_memo_fill(&self->query_rope, rope, job->shape->head_dim / 2, rotations, count, self->threads,
                          error);
}

static cento_status job_prepare(attention_job *job, cpu_backend *self, const rope_table *rope,
                                cento_error *error) {
    cut_tiles(job);
    size_t task_bytes = rounded_up(job->task_tile_count * sizeof *job->task_tiles, 64);
    size_t fold_bytes = rounded_up(job->fold_tile_count * sizeof *job->fold_tiles, 64);
    TRY(scratch_reserve(&self->attention_tables,
                        task_bytes + fold_bytes + job->plan->view_count * sizeof *job->view_rotations,
                        error));
    char *memory = self->attention_tables.memory;
    job->task_tiles = (row_tile *)(void *)memory;
    job->fold_tiles = (row_tile *)(void *)(memory + task_bytes);
    job->view_rotations = (uint32_t *)(void *)(memory + task_bytes + fold_bytes);
    cut_tiles(job);
    TRY(find_rotations(job, self, rope, error));

    uint32_t head_dim = job->shape->head_dim;
    size_t rows = (size_t)job->tile_tokens * job->group;
    job->dim_padded = (uint32_t)rounded_up(head_dim, job->kernels->width);
    job->state_floats = rounded_up(2 * rows, 16) + rows * job->dim_padded;
    job->state_floats = rounded_up(job->state_floats, 16);
    size_t slots = (size_t)job->plan->slot_count * job->group;
    job->slot_floats = rounded_up(2 * slots, 16) + slots * job->dim_padded;
    job->slot_floats = rounded_up(job->slot_floats, 16);
    size_t scratch_floats = rounded_up(job->kernels->scratch_bytes(job->dim_padded) / sizeof(float), 16);
    job->work_floats = 2 * job->state_floats + 2 * rounded_up(rows * head_dim, 16) + scratch_floats +
                       rounded_up(2 * rows + 8 * (size_t)job->tile_tokens, 16);
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------- states ---- */

typedef struct row_state {
    float *maximum, *total, *out; /* (rows), (rows), (rows, dim_padded) */
} row_state;

static row_state state_at(const attention_job *job, float *memory) {
    size_t rows = (size_t)job->tile_tokens * job->group;
    return (row_state){memory, memory + rows, memory + rounded_up(2 * rows, 16)};
}

/* Of a slot and those behind it; `memory`: one KV head's. */
static row_state slot_at(const attention_job *job, float *memory, uint32_t slot) {
    size_t slots = (size_t)job->plan->slot_count * job->group, row = (size_t)slot * job->group;
    return (row_state){memory + row, memory + slots + row,
                       memory + rounded_up(2 * slots, 16) + row * job->dim_padded};
}

static void state_clear(const attention_job *job, row_state state, uint32_t rows) {
    for (uint32_t r = 0; r < rows; r++) {
        state.maximum[r] = -INFINITY;
        state.total[r] = 0.0f;
    }
    memset(state.out, 0, (size_t)rows * job->dim_padded * sizeof(float));
}

/* into += from; the empty state changes nothing. */
static void state_fold(const attention_job *job, row_state into, row_state from, uint32_t rows) {
    for (uint32_t r = 0; r < rows; r++) {
        size_t at = (size_t)r * job->dim_padded;
        job->self->kernels->fold_state(job->dim_padded, from.maximum[r], from.total[r], from.out + at,
                                       &into.maximum[r], &into.total[r], into.out + at);
    }
}

static void state_write(const attention_job *job, row_state state, uint32_t row_begin, uint32_t row_count,
                        uint32_t kv_head) {
    uint32_t head_dim = job->shape->head_dim, group = job->group;
    for (uint32_t r = 0; r < row_count * group; r++) {
        size_t row = row_begin + r / group, head = (size_t)kv_head * group + r % group;
        float *to = job->out + (row * job->shape->heads + head) * head_dim;
        float factor = state.total[r] > 0.0f ? 1.0f / state.total[r] : 0.0f;
        job->kernels->read_state(state.out + (size_t)r * job->dim_padded, factor, head_dim, job->pool->bf16,
                                 to);
    }
}

/* -------------------------------------------------------------------------------- cells ---- */

/* A token of a tile before one cell. */
typedef struct tile_token {
    uint32_t row;                 /* of the batch */
    uint32_t rotation;            /* entry of the rope memo */
    int32_t seen_begin, seen_end; /* of the cell's keys */
} tile_token;

/* A cell of one KV head. */
typedef struct cell_head {
    uint32_t cell; /* UINT32_MAX: none */
    uint32_t kv_head;
} cell_head;

/* One thread's memory. */
typedef struct attention_work {
    row_state folded, own; /* `own`: of a private cell */
    attention_tile tile;
    tile_token *tokens; /* (tile_tokens) */
    uint32_t token_count;
    int32_t seen_begin, seen_end;     /* by any of them */
    int32_t *block_begin, *block_end; /* (rows): what they see of a block */
    float *queries;                   /* (rows, head_dim), rotated and scaled */
    cell_head next;                   /* what this thread most likely attends to after the cell at hand */
    cell_head fetched;                /* whose first block the cell before has fetched */
    tile_token *packed;               /* (tile_tokens): the rows and rotations that tile.queries holds */
    uint32_t packed_count, packed_head;
    uint64_t keys_read;
} attention_work;

static attention_work work_at(const attention_job *job, float *memory) {
    uint32_t head_dim = job->shape->head_dim;
    size_t rows = (size_t)job->tile_tokens * job->group;
    attention_work work = {.folded = state_at(job, memory), .fetched = {UINT32_MAX, 0}};
    work.own = state_at(job, memory + job->state_floats);
    work.tile = (attention_tile){
        .head_dim = head_dim,
        .dim_padded = job->dim_padded,
        .bf16 = job->pool->bf16,
        .queries = memory + 2 * job->state_floats,
    };
    work.queries = work.tile.queries + rounded_up(rows * head_dim, 16);
    float *rest = work.queries + rounded_up(rows * head_dim, 16);
    work.tile.scratch = rest;
    rest += rounded_up(job->kernels->scratch_bytes(job->dim_padded) / sizeof(float), 16);
    work.tokens = (tile_token *)(void *)rest;
    work.packed = work.tokens + job->tile_tokens;
    work.block_begin = (int32_t *)(void *)(work.packed + job->tile_tokens);
    work.block_end = work.block_begin + rows;
    return work;
}

/* Rows [begin, begin + count) of a view become the tile's next tokens. */
static void add_tokens(const attention_job *job, attention_work *work, uint32_t view_index, uint32_t begin,
                       uint32_t count) {
    const plan_view *view = &job->plan->views[view_index];
    int64_t key_count = job->plan->cells[view->cell].key_count;
    for (uint32_t i = begin; i < begin + count; i++) {
        uint32_t row = view->row_begin + i;
        int64_t seen_end = (int64_t)job->positions[row] - view->position + 1;
        int64_t seen_begin = job->shape->window == 0 ? 0 : seen_end - (int64_t)job->shape->window;
        seen_begin = seen_begin < 0 ? 0 : seen_begin;
        seen_end = seen_end > key_count ? key_count : seen_end;
        if (seen_begin >= seen_end) {
            seen_begin = seen_end = 0;
        } else {
            work->seen_begin = seen_begin < work->seen_begin ? (int32_t)seen_begin : work->seen_begin;
            work->seen_end = seen_end > work->seen_end ? (int32_t)seen_end : work->seen_end;
        }
        work->tokens[work->token_count++] =
            (tile_token){row, job->view_rotations[view_index] + i, (int32_t)seen_begin, (int32_t)seen_end};
    }
}

static void clear_tokens(attention_work *work) {
    work->token_count = 0;
    work->seen_begin = INT32_MAX;
    work->seen_end = 0;
}

/* Whether the last cell had the same rows with the same angles. */
static bool queries_are_packed(const attention_work *work, uint32_t kv_head) {
    bool same = work->packed_count == work->token_count && work->packed_head == kv_head;
    for (uint32_t i = 0; same && i < work->token_count; i++)
        same = work->tokens[i].row == work->packed[i].row &&
               work->tokens[i].rotation == work->packed[i].rotation;
    return same;
}

/* The tile's queries of one KV head, rotated, scaled to base 2, packed. */
static void rotate_queries(const attention_job *job, attention_work *work, uint32_t kv_head) {
    const attention_shape *shape = job->shape;
    uint32_t head_dim = shape->head_dim, group = job->group;
    size_t width = ((size_t)shape->heads + 2 * shape->kv_heads) * head_dim;
    float *to = work->queries;
    for (uint32_t token = 0; token < work->token_count; token++) {
        const float *query = job->qkv + work->tokens[token].row * width + (size_t)kv_head * group * head_dim;
        const float *cos_sin = rope_memo_cos_sin(&job->self->query_rope, work->tokens[token].rotation);
        for (uint32_t g = 0; g < group; g++, query += head_dim, to += head_dim)
            rope_rotate(query, cos_sin, head_dim / 2, shape->scale * LOG2_E, to);
    }
    job->kernels->pack_queries(work->queries, work->token_count * group, head_dim, work->tile.queries);
    memcpy(work->packed, work->tokens, work->token_count * sizeof *work->packed);
    work->packed_count = work->token_count;
    work->packed_head = kv_head;
}

/* Keys [begin, begin + keys) of a cell. */
static void locate_block(const attention_job *job, const plan_cell *cell, uint32_t kv_head, uint32_t begin,
                         attention_block *block) {
    uint32_t page_tokens = job->pool->shape.page_tokens;
    size_t token_bytes = (size_t)job->shape->head_dim * job->pool->element_bytes;
    const plan_source *source = job->plan->sources + cell->source_begin;
    uint32_t block_keys = job->kernels->keys;
    uint32_t keys = cell->key_count - begin < block_keys ? cell->key_count - begin : block_keys;
    while (begin >= source->token_end - source->token_begin) {
        begin -= source->token_end - source->token_begin;
        source++;
    }
    block->keys = keys;
    uint32_t token = source->token_begin + begin;
    for (uint32_t i = 0; i < keys;) {
        if (token == source->token_end) {
            source++;
            token = source->token_begin;
        }
        uint32_t page = token / page_tokens, index = token - page * page_tokens;
        uint32_t count = page_tokens - index;
        count = source->token_end - token < count ? source->token_end - token : count;
        count = keys - i < count ? keys - i : count;
        const char *key = kv_pool_at(job->pool, job->layer, source->pages[page], 0, kv_head, index);
        const char *value = kv_pool_at(job->pool, job->layer, source->pages[page], 1, kv_head, index);
        token += count;
        for (; count > 0; count--, i++, key += token_bytes, value += token_bytes) {
            block->key_rows[i] = key;
            block->value_rows[i] = value;
        }
    }
    for (uint32_t i = keys, last = keys > 0 ? keys - 1 : 0; i < block_keys; i++) {
        block->key_rows[i] = block->key_rows[last];
        block->value_rows[i] = block->value_rows[last];
    }
}

/* What the rows see of a block; the same for the query heads of a token. */
static void see_block(const attention_job *job, attention_work *work, uint32_t begin, uint32_t keys) {
    for (uint32_t token = 0, r = 0; token < work->token_count; token++) {
        int32_t first = work->tokens[token].seen_begin - (int32_t)begin;
        int32_t end = work->tokens[token].seen_end - (int32_t)begin;
        first = first < 0 ? 0 : first;
        end = end > (int32_t)keys ? (int32_t)keys : end;
        for (uint32_t g = 0; g < job->group; g++, r++) {
            work->block_begin[r] = first;
            work->block_end[r] = end;
        }
    }
}

/* The tile's tokens of one KV head against a cell, from the empty state into `state`. False, and nothing
 * done, if none of them sees any of it. */
static bool attend_cell(const attention_job *job, attention_work *work, uint32_t cell_index, uint32_t kv_head,
                        row_state state) {
    if (work->seen_begin >= work->seen_end)
        return false;
    if (!queries_are_packed(work, kv_head))
        rotate_queries(job, work, kv_head);
    work->tile.rows = work->token_count * job->group;
    work->tile.maximum = state.maximum;
    work->tile.total = state.total;
    work->tile.out = state.out;
    state_clear(job, state, work->tile.rows);

    const plan_cell *cell = &job->plan->cells[cell_index];
    attention_block blocks[2];
    uint32_t block_keys = job->kernels->keys, i = 0;
    uint32_t begin = (uint32_t)work->seen_begin / block_keys * block_keys;
    locate_block(job, cell, kv_head, begin, &blocks[0]);
    blocks[0].fetched = work->fetched.cell == cell_index && work->fetched.kv_head == kv_head && begin == 0;
    work->fetched = work->next;
    for (; begin < (uint32_t)work->seen_end; begin += block_keys, i = 1 - i) {
        bool more = begin + block_keys < (uint32_t)work->seen_end;
        if (more)
            locate_block(job, cell, kv_head, begin + block_keys, &blocks[1 - i]);
        else if (work->next.cell != UINT32_MAX)
            locate_block(job, &job->plan->cells[work->next.cell], work->next.kv_head, 0, &blocks[1 - i]);
        blocks[1 - i].fetched = true;
        see_block(job, work, begin, blocks[i].keys);
        bool fetch = more || work->next.cell != UINT32_MAX;
        job->kernels->attend_block(&work->tile, &blocks[i], fetch ? &blocks[1 - i] : NULL, work->block_begin,
                                   work->block_end);
        work->keys_read += blocks[i].keys;
    }
    return true;
}

/* The next private cell of a fold, from view v on. */
static cell_head next_private(const attention_job *job, const plan_fold *fold, uint32_t v, uint32_t kv_head) {
    const plan_view *views = job->plan->views;
    while (v < fold->view_begin + fold->view_count && views[v].slot != PLAN_PRIVATE)
        v++;
    bool found = v < fold->view_begin + fold->view_count && job->shape->window == 0;
    return (cell_head){found ? views[v].cell : UINT32_MAX, kv_head};
}

/* -------------------------------------------------------------------------------- tiles ---- */

/* One tile of a task's rows and one KV head, whose slots begin at `states`. */
static void run_task_tile(const attention_job *job, attention_work *work, const row_tile *tile,
                          uint32_t kv_head, float *states) {
    const cascade_plan *plan = job->plan;
    const plan_task *task = &plan->tasks[tile->of];
    const uint32_t *views = plan->task_views + task->view_begin;
    uint32_t skip = tile->row_begin, wanted = tile->row_count;
    clear_tokens(work);
    for (; skip >= plan->views[*views].row_count; views++)
        skip -= plan->views[*views].row_count;
    uint32_t slot = plan->views[*views].slot + skip;
    for (; wanted > 0; views++, skip = 0) {
        uint32_t count = plan->views[*views].row_count - skip;
        count = count < wanted ? count : wanted;
        add_tokens(job, work, *views, skip, count);
        wanted -= count;
    }
    row_state state = slot_at(job, states, slot);
    if (!attend_cell(job, work, task->cell, kv_head, state))
        state_clear(job, state, work->token_count * job->group);
}

/* All cells of one tile of a group's rows and one KV head. */
static void run_fold_tile(const attention_job *job, attention_work *work, const row_tile *tile,
                          uint32_t kv_head, float *states) {
    const cascade_plan *plan = job->plan;
    const plan_fold *fold = &plan->folds[tile->of];
    uint32_t rows = tile->row_count * job->group;
    state_clear(job, work->folded, rows);
    for (uint32_t v = fold->view_begin; v < fold->view_begin + fold->view_count; v++) {
        const plan_view *view = &plan->views[v];
        if (view->slot != PLAN_PRIVATE) {
            state_fold(job, work->folded, slot_at(job, states, view->slot + tile->row_begin), rows);
            continue;
        }
        clear_tokens(work);
        add_tokens(job, work, v, tile->row_begin, tile->row_count);
        work->next = next_private(job, fold, v + 1, kv_head);
        if (attend_cell(job, work, view->cell, kv_head, work->own))
            state_fold(job, work->folded, work->own, rows);
    }
    state_write(job, work->folded, fold->row_begin + tile->row_begin, tile->row_count, kv_head);
}

static const cell_head no_cell = {UINT32_MAX, 0};

static cell_head task_cell(const attention_job *job, uint64_t unit, uint32_t first_head) {
    const row_tile *tile = &job->task_tiles[unit % job->task_tile_count];
    uint32_t head = first_head + (uint32_t)(unit / job->task_tile_count);
    return job->shape->window == 0 ? (cell_head){job->plan->tasks[tile->of].cell, head} : no_cell;
}

/* `states`: of `heads_max` KV heads, behind the threads' memory. */
static uint64_t run_tiles(const attention_job *job, float *memory, int threads, uint32_t heads_max) {
    uint32_t kv_heads = job->shape->kv_heads;
    float *states = memory + (size_t)threads * job->work_floats;
    uint64_t keys = 0;
#pragma omp parallel num_threads(threads) reduction(+ : keys)
    {
        attention_work work = work_at(job, memory + (size_t)omp_get_thread_num() * job->work_floats);
        for (uint32_t first = 0; first < kv_heads; first += heads_max) {
            uint32_t heads = kv_heads - first < heads_max ? kv_heads - first : heads_max;
            uint64_t task_units = (uint64_t)job->task_tile_count * heads;
            uint64_t fold_units = (uint64_t)job->fold_tile_count * heads;
            /* head by head: neighbouring cells mostly have the same rows, whose queries then stay packed. In
             * pairs where there are enough, so that the first one fetches the beginning of the second. */
            if (task_units > 0) {
                uint64_t run = task_units >= UNITS_FOR_PAIRS * (uint64_t)threads ? 2 : 1;
#pragma omp for schedule(dynamic, run)
                for (uint64_t unit = 0; unit < task_units; unit++) {
                    bool last = run == 1 || unit % run == run - 1 || unit + 1 == task_units;
                    work.next = last ? no_cell : task_cell(job, unit + 1, first);
                    uint32_t head = (uint32_t)(unit / job->task_tile_count);
                    run_task_tile(job, &work, &job->task_tiles[unit % job->task_tile_count], first + head,
                                  states + head * job->slot_floats);
                }
            }
            /* the last rows of a prompt see the most keys: they go first */
#pragma omp for schedule(dynamic, 1)
            for (uint64_t unit = 0; unit < fold_units; unit++) {
                uint32_t head = (uint32_t)(unit % heads);
                run_fold_tile(job, &work, &job->fold_tiles[job->fold_tile_count - 1 - unit / heads],
                              first + head, states + head * job->slot_floats);
            }
        }
        keys += work.keys_read;
    }
    return keys;
}

/* Rows that are in no group see nothing. */
static void clear_rows(const attention_job *job, uint32_t rows) {
    const cascade_plan *plan = job->plan;
    size_t width = (size_t)job->shape->heads * job->shape->head_dim;
    uint32_t row = 0;
    for (uint32_t f = 0; f <= plan->fold_count; f++) {
        uint32_t end = f < plan->fold_count ? plan->folds[f].row_begin : rows;
        memset(job->out + row * width, 0, (end - row) * width * sizeof *job->out);
        row = f < plan->fold_count ? end + plan->folds[f].row_count : rows;
    }
}

cento_status attention_run(backend *base, const attention_shape *shape, const rope_table *rope,
                           const float *qkv, uint32_t rows, const uint32_t *positions,
                           const cascade_plan *plan, const backend_kv_pool *pool, uint32_t layer, float *out,
                           cento_error *error) {
    cpu_backend *self = cpu_of(base);
    attention_job job = {
        .self = self,
        .kernels = attention_kernels_of(self, shape, pool->bf16),
        .shape = shape,
        .qkv = qkv,
        .positions = positions,
        .plan = plan,
        .pool = pool,
        .layer = layer,
        .out = out,
    };
    TRY(backend_check_attention(shape, rows, plan, &pool->shape, layer, error));
    job.group = shape->heads / shape->kv_heads;
    job.tile_tokens = job.group >= TILE_ROWS_WANTED ? 1 : TILE_ROWS_WANTED / job.group;
    TRY(job_prepare(&job, self, rope, error));
    clear_rows(&job, rows);

    uint64_t products = 0;
    for (uint32_t v = 0; v < plan->view_count; v++)
        products += (uint64_t)plan->cells[plan->views[v].cell].key_count * plan->views[v].row_count;
    products *= (uint64_t)shape->heads * shape->head_dim;
    int threads = products < SERIAL_PRODUCTS ? 1 : self->threads;
    size_t slot_bytes = job.slot_floats * sizeof(float);
    uint32_t heads_max = shape->kv_heads;
    if (slot_bytes > STATES_BYTES / heads_max)
        heads_max = slot_bytes > STATES_BYTES ? 1 : (uint32_t)(STATES_BYTES / slot_bytes);
    TRY(scratch_reserve(&self->attention_work,
                        ((size_t)threads * job.work_floats + heads_max * job.slot_floats) * sizeof(float),
                        error));
    uint64_t keys_read = run_tiles(&job, self->attention_work.memory, threads, heads_max);
    self->counters.kv_bytes_read += keys_read * 2 * shape->head_dim * pool->element_bytes;
    return CENTO_OK;
}
