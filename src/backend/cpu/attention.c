/*
 * Attention over pages. Rows that see the same spans form tiles: up to TILE_ROWS_WANTED rows (token × query
 * head of the group) of one KV head, so that a key is read once for all of them. A span is cut into chunks of
 * CHUNK_KEYS keys. Every chunk starts from the empty state and the chunks' states are folded in order:
 * the same arithmetic whether one thread goes over all chunks of a tile or each chunk is somebody's work,
 * so results depend neither on threads nor on which other rows are in the batch.
 *
 *     span A (1300 keys)          span B (40)
 *     |--512--|--512--|-276-|     |-40-|          chunks of one tile
 *        s0      s1     s2          s3            states, folded left to right: ((s0 + s1) + s2) + s3
 */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "cpu.h"

#define TILE_ROWS_WANTED 96
#define CHUNK_KEYS       512
#define SERIAL_PRODUCTS  524288 /* below this it is not worth waking threads for */
#define TASKS_PER_THREAD 4

/* Rows of the batch, with the chunks that they see. */
typedef struct row_tile {
    uint32_t row_begin, row_count;
    uint32_t chunk_begin, chunk_count;
} row_tile;

/* Keys [begin, end) of a span, seen by one tile. */
typedef struct key_chunk {
    uint32_t span;
    uint32_t begin, end; /* tokens of the run */
    uint32_t tile;
} key_chunk;

typedef struct attention_plan {
    const cpu_backend *self;
    const attention_shape *shape;
    const float *qkv;
    const uint32_t *positions;
    const kv_span *spans;
    const backend_kv_pool *pool;
    uint32_t layer, group;
    float *out;
    uint32_t dim_padded, rows_max; /* rows_max: of a tile, with the group */
    row_tile *tiles;
    key_chunk *chunks;
    uint32_t tile_count, chunk_count;
    size_t *rotation_begin; /* (spans): entry of the rope memo for the span's first row */
    size_t work_floats, state_floats;
} attention_plan;

/* ----------------------------------------------------------------------------- planning ---- */

static cento_status check_spans(const attention_shape *shape, uint32_t rows, const kv_span *spans,
                                uint32_t span_count, const backend_kv_pool *pool, cento_error *error) {
    const kv_pool_shape *held = &pool->shape;
    if (shape->kv_heads != held->kv_heads || shape->head_dim != held->head_dim || shape->kv_heads == 0 ||
        shape->heads % shape->kv_heads != 0 || shape->head_dim % 2 != 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "the KV pool has another shape than the model");
    for (uint32_t s = 0; s < span_count; s++) {
        const kv_span *span = &spans[s];
        if (span->row_begin > rows || span->row_count > rows - span->row_begin)
            return error_set(error, CENTO_INVALID_ARGUMENT, "span %u: rows %u + %u of a batch of %u", s,
                             span->row_begin, span->row_count, rows);
        if (span->token_begin >= span->token_end)
            continue;
        for (uint32_t page = span->token_begin / held->page_tokens;
             page <= (span->token_end - 1) / held->page_tokens; page++)
            if (span->pages[page] >= held->pages)
                return error_set(error, CENTO_INVALID_ARGUMENT, "span %u: page %u of a pool of %u", s,
                                 span->pages[page], held->pages);
    }
    return CENTO_OK;
}

static uint32_t tile_tokens(uint32_t group) {
    return group >= TILE_ROWS_WANTED ? 1 : TILE_ROWS_WANTED / group;
}

/* Where the tile that starts at `row` ends: before a row that sees other spans. */
static uint32_t tile_end(const kv_span *spans, uint32_t span_count, uint32_t row, uint32_t rows,
                         uint32_t group) {
    uint32_t tokens = tile_tokens(group), end = rows - row < tokens ? rows : row + tokens;
    for (uint32_t s = 0; s < span_count; s++) {
        uint32_t begin = spans[s].row_begin, stop = begin + spans[s].row_count;
        if (begin > row && begin < end)
            end = begin;
        if (stop > row && stop < end)
            end = stop;
    }
    return end;
}

/* Is any key of [begin, end) seen by a row between these positions? */
static bool chunk_is_seen(const attention_plan *plan, const kv_span *span, uint32_t begin, uint32_t end,
                          uint32_t position_min, uint32_t position_max) {
    int64_t first = (int64_t)span->position + (begin - span->token_begin), last = first + (end - begin) - 1;
    return first <= position_max &&
           (plan->shape->window == 0 || last > (int64_t)position_min - plan->shape->window);
}

/* Counts tiles and chunks, or writes them where plan->tiles is not NULL. */
static void plan_tiles(attention_plan *plan, uint32_t rows, uint32_t span_count) {
    uint64_t tiles = 0, chunks = 0;
    for (uint32_t row = 0, end; row < rows; row = end, tiles++) {
        end = tile_end(plan->spans, span_count, row, rows, plan->group);
        uint32_t position_min = UINT32_MAX, position_max = 0;
        for (uint32_t r = row; r < end; r++) {
            position_min = plan->positions[r] < position_min ? plan->positions[r] : position_min;
            position_max = plan->positions[r] > position_max ? plan->positions[r] : position_max;
        }
        uint64_t first = chunks;
        for (uint32_t s = 0; s < span_count; s++) {
            const kv_span *span = &plan->spans[s];
            if (row < span->row_begin || row - span->row_begin >= span->row_count)
                continue;
            for (uint32_t begin = span->token_begin, stop; begin < span->token_end; begin = stop) {
                stop = span->token_end - begin < CHUNK_KEYS ? span->token_end : begin + CHUNK_KEYS;
                if (!chunk_is_seen(plan, span, begin, stop, position_min, position_max))
                    continue;
                if (plan->chunks != NULL)
                    plan->chunks[chunks] = (key_chunk){s, begin, stop, (uint32_t)tiles};
                chunks++;
            }
        }
        if (plan->tiles != NULL)
            plan->tiles[tiles] = (row_tile){row, end - row, (uint32_t)first, (uint32_t)(chunks - first)};
        if ((end - row) * plan->group > plan->rows_max)
            plan->rows_max = (end - row) * plan->group;
    }
    plan->tile_count = (uint32_t)tiles;
    plan->chunk_count = (uint32_t)chunks;
}

static cento_status plan_rotations(attention_plan *plan, cpu_backend *self, const rope_table *rope,
                                   uint32_t span_count, cento_error *error) {
    size_t count = 0;
    for (uint32_t s = 0; s < span_count; s++) {
        plan->rotation_begin[s] = count;
        count += plan->spans[s].row_count;
    }
    TRY(scratch_reserve(&self->positions, count * sizeof(int64_t), error));
    int64_t *rotations = self->positions.memory;
    for (uint32_t s = 0; s < span_count; s++)
        for (uint32_t r = 0; r < plan->spans[s].row_count; r++)
            *rotations++ =
                (int64_t)plan->positions[plan->spans[s].row_begin + r] - plan->spans[s].rotation_origin;
    return rope_memo_fill(&self->query_rope, rope, plan->shape->head_dim / 2, self->positions.memory, count,
                          self->threads, error);
}

static size_t rounded_up(size_t value, size_t to) {
    return (value + to - 1) / to * to;
}

static cento_status plan_build(attention_plan *plan, cpu_backend *self, const rope_table *rope, uint32_t rows,
                               uint32_t span_count, cento_error *error) {
    plan_tiles(plan, rows, span_count);
    size_t tile_bytes = rounded_up(plan->tile_count * sizeof *plan->tiles, 64);
    size_t chunk_bytes = rounded_up(plan->chunk_count * sizeof *plan->chunks, 64);
    TRY(scratch_reserve(&self->attention_plan, tile_bytes + chunk_bytes + span_count * sizeof(size_t),
                        error));
    char *memory = self->attention_plan.memory;
    plan->tiles = (row_tile *)(void *)memory;
    plan->chunks = (key_chunk *)(void *)(memory + tile_bytes);
    plan->rotation_begin = (size_t *)(void *)(memory + tile_bytes + chunk_bytes);
    plan_tiles(plan, rows, span_count);
    TRY(plan_rotations(plan, self, rope, span_count, error));

    const cpu_kernels *kernels = self->kernels;
    uint32_t head_dim = plan->shape->head_dim;
    plan->dim_padded = (uint32_t)rounded_up(head_dim, kernels->attention_width);
    plan->state_floats = rounded_up((size_t)plan->rows_max * (2 + plan->dim_padded), 16);
    plan->work_floats = 2 * plan->state_floats + rounded_up((size_t)plan->rows_max * head_dim, 16) +
                        ATTENTION_KEYS * ((size_t)head_dim + plan->dim_padded + kernels->tile_rows) +
                        rounded_up(2 * (size_t)plan->rows_max, 16);
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------- states ---- */

typedef struct row_state {
    float *maximum, *total, *out; /* (rows), (rows), (rows, dim_padded) */
} row_state;

static row_state state_at(const attention_plan *plan, float *memory) {
    return (row_state){memory, memory + plan->rows_max, memory + 2 * (size_t)plan->rows_max};
}

static void state_clear(const attention_plan *plan, row_state state, uint32_t rows) {
    for (uint32_t r = 0; r < rows; r++) {
        state.maximum[r] = -INFINITY;
        state.total[r] = 0.0f;
    }
    memset(state.out, 0, (size_t)rows * plan->dim_padded * sizeof(float));
}

/* into += from; the empty state changes nothing. */
static void state_fold(const attention_plan *plan, row_state into, row_state from, uint32_t rows) {
    for (uint32_t r = 0; r < rows; r++) {
        if (from.maximum[r] == -INFINITY)
            continue;
        float *out = into.out + (size_t)r * plan->dim_padded;
        const float *add = from.out + (size_t)r * plan->dim_padded;
        if (into.maximum[r] == -INFINITY) {
            into.maximum[r] = from.maximum[r];
            into.total[r] = from.total[r];
            memcpy(out, add, plan->dim_padded * sizeof *out);
            continue;
        }
        float largest = fmaxf(into.maximum[r], from.maximum[r]);
        float keep = exp2f(into.maximum[r] - largest), take = exp2f(from.maximum[r] - largest);
        into.maximum[r] = largest;
        into.total[r] = into.total[r] * keep + from.total[r] * take;
        for (uint32_t i = 0; i < plan->dim_padded; i++)
            out[i] = out[i] * keep + add[i] * take;
    }
}

static void state_write(const attention_plan *plan, row_state state, const row_tile *tile, uint32_t kv_head) {
    uint32_t head_dim = plan->shape->head_dim, group = plan->group;
    for (uint32_t r = 0; r < tile->row_count * group; r++) {
        size_t row = tile->row_begin + r / group, head = (size_t)kv_head * group + r % group;
        float *to = plan->out + (row * plan->shape->heads + head) * head_dim;
        float factor = state.total[r] > 0.0f ? 1.0f / state.total[r] : 0.0f;
        for (uint32_t i = 0; i < head_dim; i++)
            to[i] = state.out[(size_t)r * plan->dim_padded + i] * factor;
    }
}

/* -------------------------------------------------------------------------------- tasks ---- */

/* One thread's memory. */
typedef struct attention_work {
    row_state folded;
    attention_tile tile;
    int32_t *seen_begin, *seen_end;
    uint32_t rotated_span; /* what tile.queries are rotated for; UINT32_MAX: nothing */
    uint64_t keys_read;
} attention_work;

static attention_work work_at(const attention_plan *plan, float *memory) {
    uint32_t head_dim = plan->shape->head_dim;
    attention_work work = {.folded = state_at(plan, memory), .rotated_span = UINT32_MAX};
    row_state state = state_at(plan, memory + plan->state_floats);
    float *next = memory + 2 * plan->state_floats;
    work.tile = (attention_tile){
        .head_dim = head_dim,
        .dim_padded = plan->dim_padded,
        .bf16 = plan->pool->bf16,
        .queries = next,
        .maximum = state.maximum,
        .total = state.total,
        .out = state.out,
    };
    work.tile.keys = next + rounded_up((size_t)plan->rows_max * head_dim, 16);
    work.tile.values = work.tile.keys + (size_t)head_dim * ATTENTION_KEYS;
    work.tile.scores = work.tile.values + (size_t)ATTENTION_KEYS * plan->dim_padded;
    work.seen_begin = (int32_t *)(void *)(work.tile.scores + plan->self->kernels->tile_rows * ATTENTION_KEYS);
    work.seen_end = work.seen_begin + plan->rows_max;
    return work;
}

/* The tile's queries of one KV head, rotated for one span, scaled to base 2, packed by tiles of rows. */
static void rotate_queries(const attention_plan *plan, attention_work *work, const row_tile *rows,
                           uint32_t kv_head, uint32_t span_index) {
    if (work->rotated_span == span_index)
        return;
    work->rotated_span = span_index;
    const attention_shape *shape = plan->shape;
    const kv_span *span = &plan->spans[span_index];
    uint32_t head_dim = shape->head_dim, half = head_dim / 2, group = plan->group;
    uint32_t tile_rows = plan->self->kernels->tile_rows, row_count = rows->row_count * group;
    size_t width = ((size_t)shape->heads + 2 * shape->kv_heads) * head_dim;
    float scale = shape->scale * 1.4426950408889634f;
    for (uint32_t r = 0; r < row_count; r++) {
        uint32_t row = rows->row_begin + r / group, first = r / tile_rows * tile_rows;
        uint32_t stride = row_count - first < tile_rows ? row_count - first : tile_rows;
        const float *query = plan->qkv + row * width + ((size_t)kv_head * group + r % group) * head_dim;
        const float *cos_sin = rope_memo_cos_sin(&plan->self->query_rope,
                                                 plan->rotation_begin[span_index] + (row - span->row_begin));
        float *to = work->tile.queries + (size_t)first * head_dim + (r - first);
        for (uint32_t i = 0; i < half; i++) {
            float a = query[i], b = query[half + i], cosine = cos_sin[i], sine = cos_sin[half + i];
            to[(size_t)i * stride] = (a * cosine - b * sine) * scale;
            to[(size_t)(half + i) * stride] = (b * cosine + a * sine) * scale;
        }
    }
}

/* Which keys of a block each row sees; false if none sees any. */
static bool block_seen(const attention_plan *plan, attention_work *work, const row_tile *rows,
                       int64_t first_position, uint32_t keys) {
    bool any = false;
    for (uint32_t token = 0, r = 0; token < rows->row_count; token++) {
        int64_t position = plan->positions[rows->row_begin + token];
        int64_t end = position - first_position + 1;
        int64_t begin = plan->shape->window == 0 ? 0 : end - (int64_t)plan->shape->window;
        begin = begin < 0 ? 0 : begin;
        end = end > keys ? keys : end;
        if (begin >= end)
            begin = end = 0;
        any |= begin < end;
        for (uint32_t g = 0; g < plan->group; g++, r++) {
            work->seen_begin[r] = (int32_t)begin;
            work->seen_end[r] = (int32_t)end;
        }
    }
    return any;
}

static row_state tile_state(const attention_work *work) {
    return (row_state){work->tile.maximum, work->tile.total, work->tile.out};
}

/* Keys [begin, begin + keys) of a span. */
static void locate_block(const attention_plan *plan, const kv_span *span, uint32_t kv_head, uint32_t begin,
                         uint32_t keys, attention_block *block) {
    uint32_t page_tokens = plan->pool->shape.page_tokens;
    size_t token_bytes = (size_t)plan->shape->head_dim * plan->pool->element_bytes;
    block->keys = keys;
    for (uint32_t i = 0; i < ATTENTION_KEYS; i++) {
        uint32_t token = begin + i;
        if (i >= keys) {
            block->key_rows[i] = block->key_rows[keys - 1];
            block->value_rows[i] = block->value_rows[keys - 1];
        } else if (i > 0 && token % page_tokens != 0) {
            block->key_rows[i] = block->key_rows[i - 1] + token_bytes;
            block->value_rows[i] = block->value_rows[i - 1] + token_bytes;
        } else {
            uint32_t page = span->pages[token / page_tokens], slot = token % page_tokens;
            block->key_rows[i] = kv_pool_at(plan->pool, plan->layer, page, 0, kv_head, slot);
            block->value_rows[i] = kv_pool_at(plan->pool, plan->layer, page, 1, kv_head, slot);
        }
    }
}

static uint32_t block_keys(const key_chunk *chunk, uint32_t begin) {
    return chunk->end - begin < ATTENTION_KEYS ? chunk->end - begin : ATTENTION_KEYS;
}

/* One tile and KV head against one chunk, from the empty state into work->tile. */
static void attend_chunk(const attention_plan *plan, attention_work *work, const row_tile *rows,
                         uint32_t kv_head, const key_chunk *chunk) {
    const kv_span *span = &plan->spans[chunk->span];
    rotate_queries(plan, work, rows, kv_head, chunk->span);
    work->tile.rows = rows->row_count * plan->group;
    state_clear(plan, tile_state(work), work->tile.rows);
    attention_block blocks[2];
    locate_block(plan, span, kv_head, chunk->begin, block_keys(chunk, chunk->begin), &blocks[0]);
    for (uint32_t begin = chunk->begin, i = 0; begin < chunk->end; begin += ATTENTION_KEYS, i = 1 - i) {
        uint32_t keys = blocks[i].keys, after = begin + keys;
        bool more = after < chunk->end;
        if (more)
            locate_block(plan, span, kv_head, after, block_keys(chunk, after), &blocks[1 - i]);
        if (!block_seen(plan, work, rows, (int64_t)span->position + (begin - span->token_begin), keys))
            continue;
        plan->self->kernels->attend_block(&work->tile, &blocks[i], more ? &blocks[1 - i] : NULL,
                                          work->seen_begin, work->seen_end);
        work->keys_read += keys;
    }
}

/* All chunks of one tile and KV head. */
static void attend_tile(const attention_plan *plan, attention_work *work, uint32_t tile, uint32_t kv_head) {
    const row_tile *rows = &plan->tiles[tile];
    uint32_t row_count = rows->row_count * plan->group;
    work->rotated_span = UINT32_MAX;
    state_clear(plan, work->folded, row_count);
    for (uint32_t c = 0; c < rows->chunk_count; c++) {
        attend_chunk(plan, work, rows, kv_head, &plan->chunks[rows->chunk_begin + c]);
        state_fold(plan, work->folded, tile_state(work), row_count);
    }
    state_write(plan, work->folded, rows, kv_head);
}

static void attend_whole_tiles(const attention_plan *plan, float *memory, int threads, uint64_t *keys_read) {
    uint32_t kv_heads = plan->shape->kv_heads;
    uint64_t keys = 0;
    /* the last rows see the most keys: they go first */
#pragma omp parallel num_threads(threads) reduction(+ : keys)
    {
        attention_work work = work_at(plan, memory + (size_t)omp_get_thread_num() * plan->work_floats);
#pragma omp for schedule(dynamic, 1) nowait
        for (uint64_t task = 0; task < (uint64_t)plan->tile_count * kv_heads; task++)
            attend_tile(plan, &work, plan->tile_count - 1 - (uint32_t)(task / kv_heads),
                        (uint32_t)(task % kv_heads));
        keys += work.keys_read;
    }
    *keys_read = keys;
}

static void attend_by_chunks(const attention_plan *plan, float *memory, float *states, int threads,
                             uint64_t *keys_read) {
    uint32_t kv_heads = plan->shape->kv_heads;
    uint64_t keys = 0;
#pragma omp parallel num_threads(threads) reduction(+ : keys)
    {
        attention_work work = work_at(plan, memory + (size_t)omp_get_thread_num() * plan->work_floats);
#pragma omp for schedule(dynamic, 1)
        for (uint64_t task = 0; task < (uint64_t)plan->chunk_count * kv_heads; task++) {
            const key_chunk *chunk = &plan->chunks[task / kv_heads];
            row_state state = state_at(plan, states + task * plan->state_floats);
            work.tile.maximum = state.maximum;
            work.tile.total = state.total;
            work.tile.out = state.out;
            work.rotated_span = UINT32_MAX;
            attend_chunk(plan, &work, &plan->tiles[chunk->tile], (uint32_t)(task % kv_heads), chunk);
        }
#pragma omp for schedule(dynamic, 1) nowait
        for (uint64_t task = 0; task < (uint64_t)plan->tile_count * kv_heads; task++) {
            const row_tile *rows = &plan->tiles[task / kv_heads];
            uint32_t kv_head = (uint32_t)(task % kv_heads), row_count = rows->row_count * plan->group;
            state_clear(plan, work.folded, row_count);
            for (uint32_t c = 0; c < rows->chunk_count; c++) {
                size_t unit = (size_t)(rows->chunk_begin + c) * kv_heads + kv_head;
                state_fold(plan, work.folded, state_at(plan, states + unit * plan->state_floats), row_count);
            }
            state_write(plan, work.folded, rows, kv_head);
        }
        keys += work.keys_read;
    }
    *keys_read = keys;
}

cento_status attention_run(backend *base, const attention_shape *shape, const rope_table *rope,
                           const float *qkv, uint32_t rows, const uint32_t *positions, const kv_span *spans,
                           uint32_t span_count, const backend_kv_pool *pool, uint32_t layer, float *out,
                           cento_error *error) {
    cpu_backend *self = cpu_of(base);
    TRY(check_spans(shape, rows, spans, span_count, pool, error));
    attention_plan plan = {
        .self = self,
        .shape = shape,
        .qkv = qkv,
        .positions = positions,
        .spans = spans,
        .pool = pool,
        .layer = layer,
        .group = shape->heads / shape->kv_heads,
        .out = out,
    };
    TRY(plan_build(&plan, self, rope, rows, span_count, error));

    /* few tiles: the chunks are handed out instead, if there are more of them */
    uint64_t tasks = (uint64_t)plan.tile_count * shape->kv_heads;
    bool by_chunks = plan.chunk_count > plan.tile_count && tasks < (uint64_t)TASKS_PER_THREAD * self->threads;
    size_t states = by_chunks ? (size_t)plan.chunk_count * shape->kv_heads : 0;
    uint64_t keys_total = 0;
    for (uint32_t c = 0; c < plan.chunk_count; c++)
        keys_total +=
            (uint64_t)(plan.chunks[c].end - plan.chunks[c].begin) * plan.tiles[plan.chunks[c].tile].row_count;
    int threads = keys_total * shape->heads * shape->head_dim < SERIAL_PRODUCTS ? 1 : self->threads;

    TRY(scratch_reserve(&self->attention_work,
                        ((size_t)threads * plan.work_floats + states * plan.state_floats) * sizeof(float),
                        error));
    float *memory = self->attention_work.memory;
    uint64_t keys_read = 0;
    if (by_chunks)
        attend_by_chunks(&plan, memory, memory + (size_t)threads * plan.work_floats, threads, &keys_read);
    else
        attend_whole_tiles(&plan, memory, threads, &keys_read);
    self->counters.kv_bytes_read += keys_read * 2 * shape->head_dim * pool->element_bytes;
    return CENTO_OK;
}
