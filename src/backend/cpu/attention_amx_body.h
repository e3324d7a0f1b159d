/*
 * Attention of a tile of query rows to one block of keys with AMX tile registers: bf16 products, f32 sums.
 * Included by attention_amx.c, and by a test that defines the tile operations in plain C (TILE_…, see there).
 *
 *   scores    Sᵀ (16 keys, 16 rows) += K (16 keys, 32 of d) · Qᵀ (32 of d, 16 rows)
 *             K is loaded from the page as it stands; queries were packed once, in pairs of d
 *   weights   a vector holds 16 rows of one key, so maxima and sums need no shuffles; weights are rounded to
 *             bf16 in pairs of keys and transposed to P (16 rows, 32 keys)
 *   output    O (16 rows, 16 of d) += P (16 rows, 32 keys) · V (32 keys, 16 of d)
 *             V is interleaved in pairs of keys once for all rows, 32 columns in two tiles of 16, in the
 * order in which `unpack` leaves them (see read_state)
 *
 * The rows of a tile register do not touch one another, and every row goes the same way whoever is beside it:
 * so its bits depend on its keys alone. Rows go in pairs of tiles, so that each load serves two products; a
 * last odd tile goes alone. Per 32 keys and 16 rows: d / 4 tile products of 16 cycles each, and about 300
 * cycles of softmax, which overlap.
 */
#ifndef CENTO_BACKEND_CPU_ATTENTION_AMX_BODY_H
#define CENTO_BACKEND_CPU_ATTENTION_AMX_BODY_H

#include <math.h>

#include "kernels.h"
#include "transpose.h"
#include "vec.h"

#define KEYS       ATTENTION_KEYS_MAX /* of a block */
#define SIDE       16                 /* rows of a tile register, and its words in a row */
#define STEP       32                 /* keys that are taken together, columns of a tile of bf16 */
#define STEPS_MAX  (KEYS / STEP)
#define TILE_WORDS (SIDE * SIDE)
#define PAIR       2 /* tiles of rows */

typedef uint16_t halves __attribute__((vector_size(64)));

/* Parts of a tile's scratch. */
typedef struct tile_scratch {
    uint16_t *keys;    /* (KEYS, head_dim): groups of 16 keys that do not stand together in a page */
    uint32_t *values;  /* (KEYS / STEP, head_dim / SIDE, SIDE, SIDE): pairs of keys */
    float *scores;     /* (PAIR, KEYS, SIDE) */
    uint32_t *weights; /* (PAIR, KEYS / STEP, SIDE, SIDE): (row, pair of keys) */
    float *out;        /* (PAIR, SIDE, head_dim): of tiles that are not full */
} tile_scratch;

static size_t scratch_bytes(uint32_t head_dim) {
    return (size_t)KEYS * head_dim * (2 + 2) + (size_t)PAIR * KEYS * SIDE * (4 + 2) +
           (size_t)PAIR * SIDE * head_dim * 4;
}

static tile_scratch scratch_of(const attention_tile *tile) {
    size_t head_dim = tile->head_dim;
    char *memory = tile->scratch;
    tile_scratch parts = {.keys = (uint16_t *)(void *)memory};
    memory += KEYS * head_dim * 2;
    parts.values = (uint32_t *)(void *)memory;
    memory += KEYS * head_dim * 2;
    parts.scores = (float *)(void *)memory;
    memory += (size_t)PAIR * KEYS * SIDE * 4;
    parts.weights = (uint32_t *)(void *)memory;
    memory += (size_t)PAIR * KEYS * SIDE * 2;
    parts.out = (float *)(void *)memory;
    return parts;
}

/* packed (tiles, head_dim / 2, SIDE): pairs of d of 16 rows side by side; rows that are not there are zero.
 */
static void pack_queries(const float *queries, uint32_t rows, uint32_t head_dim, float *packed) {
    uint32_t words = head_dim / 2, tiles = (rows + SIDE - 1) / SIDE, pairs[128];
    uint32_t *to = (uint32_t *)(void *)packed;
    if (rows % SIDE != 0)
        memset(to + (size_t)(tiles - 1) * words * SIDE, 0, (size_t)words * SIDE * sizeof *to);
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t *column = to + (size_t)(row / SIDE) * words * SIDE + row % SIDE;
        for (uint32_t i = 0; i < head_dim; i += VEC_WIDTH)
            vf_store_bf16((uint16_t *)(void *)pairs + i, vf_load(queries + (size_t)row * head_dim + i));
        for (uint32_t w = 0; w < words; w++)
            column[(size_t)w * SIDE] = pairs[w];
    }
}

/* Where each 16 keys begin, one row_bytes after the other: in the page, or copied. */
static void group_keys(const attention_block *block, uint32_t count, uint32_t row_bytes, uint16_t *copies,
                       const char *groups[KEYS / SIDE]) {
    for (uint32_t key = 0; key < count; key += SIDE) {
        const char *const *rows = block->key_rows + key;
        bool together = true;
        for (uint32_t i = 1; i < SIDE; i++)
            together &= rows[i] == rows[0] + (size_t)i * row_bytes;
        groups[key / SIDE] = rows[0];
        if (together)
            continue;
        char *copy = (char *)copies + (size_t)key * row_bytes;
        for (uint32_t i = 0; i < SIDE; i++)
            memcpy(copy + (size_t)i * row_bytes, rows[i], row_bytes);
        groups[key / SIDE] = copy;
    }
}

/* Rows of pages that are fetched into the cache beside a loop over keys, one for each key: a few at a time
 * between other work, since a core has only so many loads under way. */
typedef struct row_fetch {
    const char *const *rows; /* NULL: none */
    uint32_t count;
} row_fetch;

VEC_INLINE void fetch_rows(row_fetch fetch, uint32_t begin, uint32_t count, uint32_t row_bytes) {
    if (fetch.rows == NULL || begin + count > fetch.count)
        return;
    for (uint32_t row = begin; row < begin + count; row++)
        for (uint32_t byte = 0; byte < row_bytes; byte += 64)
            __builtin_prefetch(fetch.rows[row] + byte, 0, 2);
}

/* What each loop of a call fetches. A block that nobody has fetched yet fetches its own keys some steps ahead
 * of the scores, and its values; then the next one's. */
typedef struct block_fetch {
    row_fetch scores[2], weights, output;
} block_fetch;

static block_fetch plan_fetch(const attention_block *block, const attention_block *next, uint32_t row_bytes) {
    enum { AHEAD = 2 * STEP };
    const row_fetch next_keys = {next != NULL ? next->key_rows : NULL, KEYS};
    const row_fetch next_values = {next != NULL ? next->value_rows : NULL, KEYS};
    if (block->fetched) {
        block_fetch spread = {.scores = {next_keys}};
        if (next != NULL) {
            spread.weights = (row_fetch){next->value_rows, KEYS / 2};
            spread.output = (row_fetch){next->value_rows + KEYS / 2, KEYS / 2};
        }
        return spread;
    }
    const row_fetch first = {block->key_rows, AHEAD};
    fetch_rows(first, 0, AHEAD, row_bytes);
    return (block_fetch){.scores = {{block->key_rows + AHEAD, KEYS - AHEAD}, {block->value_rows, KEYS}},
                         .weights = next_keys,
                         .output = next_values};
}

/* scores of `count` keys (a multiple of STEP) for one tile of rows, or two. */
VEC_INLINE void score_tiles(const int tiles, const char *const *groups, uint32_t count, uint32_t head_dim,
                            const uint32_t *queries, float *scores, const row_fetch *fetch) {
    const size_t row_bytes = (size_t)head_dim * 2, tile_words = (size_t)head_dim / 2 * SIDE;
    const uint32_t fetched = STEP / (head_dim / STEP); /* rows for each STEP of d */
    for (uint32_t key = 0; key < count; key += STEP) {
        const char *first = groups[key / SIDE], *second = groups[key / SIDE + 1];
        const uint32_t *query = queries;
        TILE_ZERO(0);
        TILE_ZERO(1);
        if (tiles == PAIR) {
            TILE_ZERO(2);
            TILE_ZERO(3);
        }
        for (uint32_t i = 0, row = 0; i < row_bytes; i += 64, query += TILE_WORDS, row += fetched) {
            TILE_LOAD(6, query, 64);
            TILE_LOAD(4, first + i, row_bytes);
            TILE_LOAD(5, second + i, row_bytes);
            TILE_DOT(0, 4, 6);
            fetch_rows(fetch[0], key + row, fetched, head_dim * 2);
            TILE_DOT(1, 5, 6);
            fetch_rows(fetch[1], key + row, fetched, head_dim * 2);
            if (tiles == PAIR) {
                TILE_LOAD(7, query + tile_words, 64);
                TILE_DOT(2, 4, 7);
                TILE_DOT(3, 5, 7);
            }
        }
        float *to = scores + (size_t)key * SIDE;
        TILE_STORE(0, to, 64);
        TILE_STORE(1, to + TILE_WORDS, 64);
        if (tiles == PAIR) {
            TILE_STORE(2, to + KEYS * SIDE, 64);
            TILE_STORE(3, to + KEYS * SIDE + TILE_WORDS, 64);
        }
    }
    TILE_FENCE();
}

/* The same for one tile alone: 64 keys at a time, so that four sums are under way. */
static __attribute__((noinline)) void score_alone(const char *const *groups, uint32_t count,
                                                  uint32_t head_dim, const uint32_t *queries, float *scores,
                                                  const row_fetch *fetch) {
    const size_t row_bytes = (size_t)head_dim * 2;
    const uint32_t fetched = STEP / (head_dim / STEP);
    TILE_FENCE();
    uint32_t key = 0;
    for (; key + 2 * STEP <= count; key += 2 * STEP) {
        const char *const *keys = groups + key / SIDE;
        const uint32_t *query = queries;
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
        for (uint32_t i = 0, row = key; i < row_bytes; i += 64, query += TILE_WORDS) {
            TILE_LOAD(6, query, 64);
            TILE_LOAD(4, keys[0] + i, row_bytes);
            TILE_LOAD(5, keys[1] + i, row_bytes);
            TILE_DOT(0, 4, 6);
            TILE_LOAD(7, keys[2] + i, row_bytes);
            fetch_rows(fetch[0], row, fetched, head_dim * 2);
            TILE_DOT(1, 5, 6);
            TILE_LOAD(4, keys[3] + i, row_bytes);
            fetch_rows(fetch[1], row, fetched, head_dim * 2);
            TILE_DOT(2, 7, 6);
            row += fetched;
            fetch_rows(fetch[0], row, fetched, head_dim * 2);
            TILE_DOT(3, 4, 6);
            fetch_rows(fetch[1], row, fetched, head_dim * 2);
            row += fetched;
        }
        float *to = scores + (size_t)key * SIDE;
        TILE_STORE(0, to, 64);
        TILE_STORE(1, to + TILE_WORDS, 64);
        TILE_STORE(2, to + 2 * TILE_WORDS, 64);
        TILE_STORE(3, to + 3 * TILE_WORDS, 64);
    }
    TILE_FENCE();
    if (key < count) {
        const row_fetch none[2] = {{NULL, 0}, {NULL, 0}};
        score_tiles(1, groups + key / SIDE, count - key, head_dim, queries, scores + (size_t)key * SIDE,
                    none);
    }
}

/* Two keys' values of STEP columns become a row of two tiles of words, (even key, odd key). */
VEC_INLINE void interleave(const char *even, const char *odd, uint32_t *to) {
    halves a, b;
    memcpy(&a, even, sizeof a);
    memcpy(&b, odd, sizeof b);
    halves low = __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 8, 40, 9, 41, 10, 42, 11, 43, 16,
                                         48, 17, 49, 18, 50, 19, 51, 24, 56, 25, 57, 26, 58, 27, 59);
    halves high = __builtin_shufflevector(a, b, 4, 36, 5, 37, 6, 38, 7, 39, 12, 44, 13, 45, 14, 46, 15, 47,
                                          20, 52, 21, 53, 22, 54, 23, 55, 28, 60, 29, 61, 30, 62, 31, 63);
    vu_store(to, (vu)low);
    vu_store(to + TILE_WORDS, (vu)high);
}

/* V of a block for many rows: values (count / STEP, head_dim / SIDE, SIDE, SIDE). */
static void interleave_block(const attention_block *block, uint32_t count, uint32_t head_dim,
                             uint32_t *values) {
    for (uint32_t key = 0; key < count; key += 2) {
        const char *even = block->value_rows[key], *odd = block->value_rows[key + 1];
        uint32_t *to = values + (size_t)(key / STEP) * head_dim * SIDE + key % STEP / 2 * SIDE;
        for (uint32_t i = 0; i < head_dim; i += STEP)
            interleave(even + (size_t)i * 2, odd + (size_t)i * 2, to + (size_t)i * SIDE);
    }
}

/* STEP keys and some columns: values (columns / SIDE, SIDE, SIDE). */
VEC_INLINE void interleave_step(const attention_block *block, uint32_t key, uint32_t column,
                                const uint32_t columns, uint32_t *values, row_fetch fetch,
                                uint32_t row_bytes) {
    const uint32_t per_pair = fetch.count == KEYS ? 2 : 1;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < STEP; i += 2) {
        fetch_rows(fetch, (key + i) / 2 * per_pair, per_pair, row_bytes);
        for (uint32_t c = 0; c < columns; c += STEP)
            interleave(block->value_rows[key + i] + (size_t)(column + c) * 2,
                       block->value_rows[key + i + 1] + (size_t)(column + c) * 2,
                       values + (size_t)c * SIDE + i / 2 * SIDE);
    }
}

static void read_state(const float *out, float factor, uint32_t head_dim, bool bf16, float *to) {
    (void)bf16;
    for (uint32_t i = 0; i < head_dim; i += STEP, out += STEP, to += STEP)
        for (uint32_t lane = 0; lane < SIDE; lane += 4)
            for (uint32_t j = 0; j < 4; j++) {
                to[2 * lane + j] = out[lane + j] * factor;
                to[2 * lane + 4 + j] = out[SIDE + lane + j] * factor;
            }
}

/* 2^x for x <= 0 as in vec.h, but to 1e-4: it is rounded to bf16. */
VEC_INLINE vf exp2_rounded(vf x) {
    vf magic = vf_set1(12582912.0f);
    vf clamped = vf_max(x, vf_set1(-127.0f));
    vf shifted = clamped + magic;
    vf fraction = clamped - (shifted - magic);
    vf power = vf_fma(vf_set1(5.5008927e-2f), fraction, vf_set1(2.4221096e-1f));
    power = vf_fma(power, fraction, vf_set1(6.9328293e-1f));
    power = vf_fma(power, fraction, vf_set1(1.0f));
    return (vf)((vu)power + ((vu)shifted << 23));
}

/* What the 16 rows of a tile have and see; rows that are not there see all. */
typedef struct tile_rows {
    float maximum[SIDE], total[SIDE], keep[SIDE];
    int32_t begin[SIDE], end[SIDE];
    uint32_t count;
    bool whole;  /* all rows see all keys */
    bool raised; /* some `keep` is not 1 */
} tile_rows;

static void take_rows(const attention_tile *tile, uint32_t row, uint32_t keys, uint32_t count,
                      const int32_t *seen_begin, const int32_t *seen_end, tile_rows *rows) {
    rows->count = tile->rows - row < SIDE ? tile->rows - row : SIDE;
    rows->whole = keys == count;
    for (uint32_t r = 0; r < SIDE; r++) {
        bool there = r < rows->count;
        rows->maximum[r] = there ? tile->maximum[row + r] : -INFINITY;
        rows->total[r] = there ? tile->total[row + r] : 0.0f;
        rows->begin[r] = there ? seen_begin[row + r] : 0;
        rows->end[r] = there ? seen_end[row + r] : (int32_t)keys;
        rows->whole &= rows->begin[r] <= 0 && rows->end[r] >= (int32_t)count;
    }
}

static void mask_scores(float *scores, uint32_t count, const tile_rows *rows) {
    vi begin, end;
    memcpy(&begin, rows->begin, sizeof begin);
    memcpy(&end, rows->end, sizeof end);
    for (uint32_t key = 0; key < count; key++, scores += SIDE) {
        vi at = (vi)vf_zero() + (int32_t)key;
        vf_store(scores, vf_select((at >= begin) & (at < end), vf_load(scores), vf_set1(-INFINITY)));
    }
}

/* Two vectors of weights, of an even key and of the next, rounded to bf16 in one word (halves up, which is
 * nearest but for ties). */
VEC_INLINE vu pair_of_weights(vf even, vf odd) {
    return (((vu)odd + 0x8000u) & 0xFFFF0000u) | (((vu)even + 0x8000u) >> 16);
}

/* Scores (count, SIDE) become weights (count / STEP, SIDE rows, SIDE pairs of keys). */
static __attribute__((noinline)) void weigh_tile(float *scores, uint32_t count, tile_rows *rows,
                                                 uint32_t *weights, row_fetch fetch, uint32_t row_bytes) {
    if (!rows->whole)
        mask_scores(scores, count, rows);
    vf old = vf_load(rows->maximum), largest = old, others[3] = {old, old, old};
    for (uint32_t key = 0; key < count; key += 4) {
        largest = vf_max(largest, vf_load(scores + (size_t)key * SIDE));
        for (uint32_t i = 0; i < 3; i++)
            others[i] = vf_max(others[i], vf_load(scores + (size_t)(key + 1 + i) * SIDE));
    }
    largest = vf_max(vf_max(largest, others[0]), vf_max(others[1], others[2]));
    vf base = vf_select(largest == -INFINITY, vf_zero(), largest);
    const uint32_t per_pair = fetch.count == KEYS ? 2 : 1;
    vf keep = vf_exp2_weight(old - base), even_sum = vf_zero(), odd_sum = vf_zero();
    for (uint32_t key = 0; key < count; key += STEP, weights += TILE_WORDS) {
        vu words[SIDE];
#pragma GCC unroll 16
        for (uint32_t i = 0; i < SIDE; i++) {
            const float *from = scores + (size_t)(key + 2 * i) * SIDE;
            vf even = exp2_rounded(vf_load(from) - base), odd = exp2_rounded(vf_load(from + SIDE) - base);
            fetch_rows(fetch, (key / 2 + i) * per_pair, per_pair, row_bytes);
            even_sum += even;
            odd_sum += odd;
            words[i] = pair_of_weights(even, odd);
        }
        transpose(words);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < SIDE; i++)
            vu_store(weights + i * SIDE, words[i]);
    }
    vf_store(rows->keep, keep);
    vf_store(rows->maximum, largest);
    vf_store(rows->total, vf_fma(vf_load(rows->total), keep, even_sum + odd_sum));
    rows->raised = false;
    for (uint32_t r = 0; r < rows->count; r++)
        rows->raised |= rows->keep[r] != 1.0f;
}

/* Earlier sums times `keep`: where they stand if the tile is full, else apart. */
static float *scale_out(const attention_tile *tile, uint32_t row, const tile_rows *rows, float *apart) {
    float *out = tile->out + (size_t)row * tile->dim_padded;
    if (rows->count == SIDE && !rows->raised)
        return out;
    float *to = rows->count == SIDE ? out : apart;
    for (uint32_t r = 0; r < rows->count; r++)
        for (uint32_t i = 0; i < tile->dim_padded; i += VEC_WIDTH) {
            size_t at = (size_t)r * tile->dim_padded + i;
            vf_store(to + at, vf_load(out + at) * rows->keep[r]);
        }
    return to;
}

/* out (SIDE, head_dim) of one tile of rows, or two. */
VEC_INLINE void output_tiles(const int tiles, const uint32_t *weights, const uint32_t *values, uint32_t steps,
                             uint32_t head_dim, float *out, float *second, row_fetch fetch) {
    const size_t stride = (size_t)head_dim * 4, step_words = (size_t)head_dim * SIDE;
    TILE_FENCE();
    for (uint32_t column = 0; column < head_dim; column += STEP) {
        TILE_LOAD(0, out + column, stride);
        TILE_LOAD(1, out + column + SIDE, stride);
        if (tiles == PAIR) {
            TILE_LOAD(2, second + column, stride);
            TILE_LOAD(3, second + column + SIDE, stride);
        }
        const uint32_t *value = values + (size_t)column * SIDE;
        for (uint32_t step = 0; step < steps; step++, value += step_words) {
            const uint32_t *weight = weights + (size_t)step * TILE_WORDS;
            TILE_LOAD(6, value, 64);
            TILE_LOAD(7, value + TILE_WORDS, 64);
            TILE_LOAD(4, weight, 64);
            TILE_DOT(0, 4, 6);
            if (column == 0)
                fetch_rows(fetch, step * STEP, STEP, head_dim * 2);
            TILE_DOT(1, 4, 7);
            if (tiles == PAIR) {
                TILE_LOAD(5, weight + STEPS_MAX * TILE_WORDS, 64);
                TILE_DOT(2, 5, 6);
                TILE_DOT(3, 5, 7);
            }
        }
        TILE_STORE(0, out + column, stride);
        TILE_STORE(1, out + column + SIDE, stride);
        if (tiles == PAIR) {
            TILE_STORE(2, second + column, stride);
            TILE_STORE(3, second + column + SIDE, stride);
        }
    }
    TILE_FENCE();
}

/* The same for one tile alone and V as it stands in the pages: a few columns at a time, whose values are
 * interleaved on the way, a step ahead of the products. */
VEC_INLINE void output_columns(const uint32_t columns, const attention_block *block, const uint32_t *weights,
                               uint32_t steps, uint32_t head_dim, uint32_t column, uint32_t *values,
                               float *out, row_fetch fetch) {
    const size_t stride = (size_t)head_dim * 4;
    const bool wide = columns == 2 * STEP;
    uint32_t *turn[2] = {values, values + (size_t)2 * STEP * SIDE};
    TILE_LOAD(0, out + column, stride);
    TILE_LOAD(1, out + column + SIDE, stride);
    if (wide) {
        TILE_LOAD(2, out + column + 2 * SIDE, stride);
        TILE_LOAD(3, out + column + 3 * SIDE, stride);
    }
    if (column > 0)
        fetch.rows = NULL;
    interleave_step(block, 0, column, columns, turn[0], fetch, head_dim * 2);
    for (uint32_t step = 0; step < steps; step++) {
        const uint32_t *value = turn[step % 2];
        if (step + 1 < steps)
            interleave_step(block, (step + 1) * STEP, column, columns, turn[(step + 1) % 2], fetch,
                            head_dim * 2);
        TILE_FENCE();
        TILE_LOAD(4, weights + (size_t)step * TILE_WORDS, 64);
        TILE_LOAD(5, value, 64);
        TILE_LOAD(6, value + TILE_WORDS, 64);
        TILE_DOT(0, 4, 5);
        if (wide)
            TILE_LOAD(7, value + 2 * TILE_WORDS, 64);
        TILE_DOT(1, 4, 6);
        if (wide) {
            TILE_LOAD(5, value + 3 * TILE_WORDS, 64);
            TILE_DOT(2, 4, 7);
            TILE_DOT(3, 4, 5);
        }
    }
    TILE_STORE(0, out + column, stride);
    TILE_STORE(1, out + column + SIDE, stride);
    if (wide) {
        TILE_STORE(2, out + column + 2 * SIDE, stride);
        TILE_STORE(3, out + column + 3 * SIDE, stride);
    }
}

static __attribute__((noinline)) void output_alone(const attention_block *block, const uint32_t *weights,
                                                   uint32_t steps, uint32_t head_dim, uint32_t *values,
                                                   float *out, row_fetch fetch) {
    TILE_FENCE();
    uint32_t column = 0;
    for (; column + 2 * STEP <= head_dim; column += 2 * STEP)
        output_columns(2 * STEP, block, weights, steps, head_dim, column, values, out, fetch);
    if (column < head_dim)
        output_columns(STEP, block, weights, steps, head_dim, column, values, out, fetch);
    TILE_FENCE();
}

static void give_rows(const attention_tile *tile, uint32_t row, const tile_rows *rows, const float *out) {
    size_t bytes = rows->count * sizeof(float);
    memcpy(tile->maximum + row, rows->maximum, bytes);
    memcpy(tile->total + row, rows->total, bytes);
    float *to = tile->out + (size_t)row * tile->dim_padded;
    if (out != to)
        memcpy(to, out, (size_t)rows->count * tile->dim_padded * sizeof *to);
}

static void attend_block(const attention_tile *tile, const attention_block *block,
                         const attention_block *next, const int32_t *seen_begin, const int32_t *seen_end) {
    uint32_t head_dim = tile->head_dim, row_bytes = head_dim * 2;
    uint32_t count = (block->keys + STEP - 1) / STEP * STEP, steps = count / STEP;
    tile_scratch parts = scratch_of(tile);
    const char *groups[KEYS / SIDE];
    group_keys(block, count, row_bytes, parts.keys, groups);
    block_fetch fetch = plan_fetch(block, next, row_bytes);
    TILES_BEGIN();
    for (uint32_t row = 0; row < tile->rows; row += PAIR * SIDE) {
        tile_rows rows[PAIR];
        int tiles = tile->rows - row > SIDE ? PAIR : 1;
        const uint32_t *queries = (const uint32_t *)(const void *)tile->queries + (size_t)row * head_dim / 2;
        float *out[PAIR] = {NULL, NULL};
        TILE_FENCE();
        if (tiles == PAIR)
            score_tiles(PAIR, groups, count, head_dim, queries, parts.scores, fetch.scores);
        else
            score_alone(groups, count, head_dim, queries, parts.scores, fetch.scores);
        for (int i = 0; i < tiles; i++) {
            uint32_t first = row + (uint32_t)i * SIDE;
            take_rows(tile, first, block->keys, count, seen_begin, seen_end, &rows[i]);
            weigh_tile(parts.scores + (size_t)i * KEYS * SIDE, count, &rows[i],
                       parts.weights + (size_t)i * STEPS_MAX * TILE_WORDS, fetch.weights, row_bytes);
            fetch.weights.rows = NULL;
            out[i] = scale_out(tile, first, &rows[i], parts.out + (size_t)i * SIDE * head_dim);
        }
        if (row == 0 && tile->rows > SIDE)
            interleave_block(block, count, head_dim, parts.values);
        if (tile->rows <= SIDE)
            output_alone(block, parts.weights, steps, head_dim, parts.values, out[0], fetch.output);
        else if (tiles == PAIR)
            output_tiles(PAIR, parts.weights, parts.values, steps, head_dim, out[0], out[1], fetch.output);
        else
            output_tiles(1, parts.weights, parts.values, steps, head_dim, out[0], NULL, fetch.output);
        memset(&fetch, 0, sizeof fetch);
        for (int i = 0; i < tiles; i++)
            give_rows(tile, row + (uint32_t)i * SIDE, &rows[i], out[i]);
    }
    TILES_END();
}

#endif
