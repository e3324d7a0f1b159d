/*
 * What sharing a cell of keys saves and costs on this machine, for the plan's cost model: the kernels
 * themselves, timed for some milliseconds on keys of their own, on one thread. Timings are the best of a few
 * rounds, so that another load on the machine does not count.
 */
#include <math.h>
#include <string.h>

#include "backend/backend_check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cpu.h"

#define BLOCKS_MAX 8
#define ROUNDS     16
#define TASK_NS    500.0 /* handing out a task, gathering and rotating its rows: too little to time alone */
#define SAVED_MIN  0.2   /* of what a reader alone takes: sharing saves at least the loads of the keys */
#define READERS    4     /* rows that share keys in the measurement, in groups */

/* Rows, keys and scratch of one measurement; all in `memory`. */
typedef struct cost_bench {
    const cpu_kernels *kernels;
    const attention_kernels *attention;
    attention_tile tile;
    attention_block blocks[BLOCKS_MAX];
    int32_t *seen_begin, *seen_end;
    void *memory;
} cost_bench;

static cento_status bench_create(cost_bench *bench, const attention_shape *shape, bool bf16, uint32_t rows,
                                 cento_error *error) {
    uint32_t head_dim = shape->head_dim, keys_of_block = bench->attention->keys;
    uint32_t dim_padded = (uint32_t)rounded_up(head_dim, bench->attention->width);
    size_t key_bytes = (size_t)head_dim * (bf16 ? 2 : 4);
    size_t scratch_floats = rounded_up(bench->attention->scratch_bytes(dim_padded) / sizeof(float), 16);
    size_t floats = scratch_floats + (size_t)rows * (head_dim + 4 + dim_padded);
    floats = rounded_up(floats, 16);
    size_t bytes = floats * sizeof(float) + 2 * PLAN_CELL_TOKENS * key_bytes;
    float *memory = mem_alloc_aligned(bytes);
    if (memory == NULL)
        return error_memory(error, bytes);
    memset(memory, 0, bytes); /* zeros cost what other numbers cost */
    bench->memory = memory;
    bench->tile = (attention_tile){
        .rows = rows, .head_dim = head_dim, .dim_padded = dim_padded, .bf16 = bf16, .scratch = memory};
    attention_tile *tile = &bench->tile;
    tile->queries = memory + scratch_floats;
    tile->out = tile->queries + (size_t)rows * head_dim;
    tile->maximum = tile->out + (size_t)rows * dim_padded;
    tile->total = tile->maximum + rows;
    bench->seen_begin = (int32_t *)(void *)(tile->total + rows);
    bench->seen_end = bench->seen_begin + rows;
    for (uint32_t r = 0; r < rows; r++)
        bench->seen_end[r] = (int32_t)keys_of_block;
    const char *keys = (const char *)(memory + floats), *values = keys + PLAN_CELL_TOKENS * key_bytes;
    for (uint32_t i = 0; i < PLAN_CELL_TOKENS; i++) {
        attention_block *block = &bench->blocks[i / keys_of_block];
        block->keys = keys_of_block;
        block->key_rows[i % keys_of_block] = keys + i * key_bytes;
        block->value_rows[i % keys_of_block] = values + i * key_bytes;
    }
    return CENTO_OK;
}

/* A cell by `rows` rows; the best time so far. */
static double attend_ns(cost_bench *bench, uint32_t rows, double best) {
    attention_tile *tile = &bench->tile;
    tile->rows = rows;
    for (int round = 0; round < 2; round++) { /* the first one fills the caches */
        uint64_t start = clock_now_ns();
        for (uint32_t r = 0; r < rows; r++) {
            tile->maximum[r] = -INFINITY;
            tile->total[r] = 0.0f;
        }
        memset(tile->out, 0, (size_t)rows * tile->dim_padded * sizeof(float));
        uint32_t count = PLAN_CELL_TOKENS / bench->attention->keys;
        for (uint32_t b = 0; b < count; b++)
            bench->attention->attend_block(tile, &bench->blocks[b],
                                           b + 1 < count ? &bench->blocks[b + 1] : NULL, bench->seen_begin,
                                           bench->seen_end);
        double taken = (double)(clock_now_ns() - start);
        best = taken < best ? taken : best;
    }
    return best;
}

static double fold_ns(cost_bench *bench, uint32_t rows) {
    attention_tile *tile = &bench->tile;
    double best = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t start = clock_now_ns();
        for (uint32_t r = 1; r < rows; r++)
            bench->kernels->fold_state(tile->dim_padded, tile->maximum[r], tile->total[r],
                                       tile->out + (size_t)r * tile->dim_padded, tile->maximum, tile->total,
                                       tile->out);
        double taken = (double)(clock_now_ns() - start) / (rows - 1);
        best = taken < best ? taken : best;
    }
    return best;
}

static bool costs_are_known(const cpu_backend *self, const attention_shape *shape, bool bf16) {
    const attention_shape *known = &self->costs_shape;
    return known->heads == shape->heads && known->kv_heads == shape->kv_heads &&
           known->head_dim == shape->head_dim && self->costs_bf16 == bf16;
}

cento_status attention_costs(backend *base, const attention_shape *shape, const backend_kv_pool *pool,
                             plan_costs *costs, cento_error *error) {
    cpu_backend *self = cpu_of(base);
    TRY(backend_check_heads(shape, error));
    if (!costs_are_known(self, shape, pool->bf16)) {
        cost_bench bench = {.kernels = self->kernels,
                            .attention = attention_kernels_of(self, shape, pool->bf16)};
        uint32_t group = shape->heads / shape->kv_heads;
        TRY(bench_create(&bench, shape, pool->bf16, READERS * group, error));
        double alone = INFINITY, together = INFINITY;
        for (int round = 0; round < ROUNDS; round++) { /* in turn, so that another load meets both */
            alone = attend_ns(&bench, group, alone);
            together = attend_ns(&bench, READERS * group, together);
        }
        double saved = (READERS * alone - together) / (READERS - 1);
        self->costs = (plan_costs){
            .key_read_ns = fmax(saved, SAVED_MIN * alone) / PLAN_CELL_TOKENS,
            .state_ns = 2 * fold_ns(&bench, READERS * group),
            .task_ns = TASK_NS,
        };
        self->costs_shape = *shape;
        self->costs_bf16 = pool->bf16;
        mem_free(bench.memory);
    }
    *costs = self->costs;
    return CENTO_OK;
}
