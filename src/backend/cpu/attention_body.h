/*
 * Attention of a tile of query rows to one block of at most KEYS keys, with online softmax;
 * included by kernels_body.h once per instruction set.
 *
 * K is transposed into panels of `keys`, V is read where it stands in the page; bf16 is widened on the way to
 * the products (for many rows: once before), by a shift and an `and` for each two vectors (so V's even
 * columns come in one vector and its odd ones in the next, and states are kept that way: see read_state).
 * Scores and output are register tiles as in gemm_body.h. The scores of up to SCORE_ROWS rows are
 * computed panel by panel, so that one panel and the rows stay in L1. 4·rows·keys·head_dim flop, on Zen 3 at
 * 85 to 90 % of the FMA rate for prefill tiles; a decode row costs 2·head_dim elements of K and V read once
 * and about as long to transpose.
 */
#ifndef CENTO_BACKEND_CPU_ATTENTION_BODY_H
#define CENTO_BACKEND_CPU_ATTENTION_BODY_H

#include <math.h>

#include "gemm_body.h"
#include "transpose.h"

#define KEYS       64 /* of a block */
#define SCORE_ROWS 24 /* rows whose scores stand side by side: a multiple of TILE_ROWS */
#define PANEL      (TILE_VECTORS * VEC_WIDTH) /* keys, or columns of V, of a register tile */
#define WIDEN_ROWS 36 /* from so many rows on, widening bf16 once costs less than widening on the way */

/* Parts of a tile's scratch. */
VEC_INLINE uint32_t *tile_keys(const attention_tile *tile) { /* (KEYS / PANEL, words, PANEL) */
    return tile->scratch;
}

VEC_INLINE float *tile_values(const attention_tile *tile) { /* (KEYS, dim_padded) */
    return (float *)tile->scratch + (size_t)KEYS * tile->dim_padded;
}

VEC_INLINE float *tile_scores(const attention_tile *tile) { /* (SCORE_ROWS, KEYS) */
    return (float *)tile->scratch + (size_t)KEYS * tile->dim_padded * 2;
}

/* Pages lie anywhere, so the hardware does not guess where the next block is. A few rows at a time, between
 * other work: a core has only so many loads under way. */
VEC_INLINE void prefetch_rows(const attention_tile *tile, const char *const *rows, uint32_t begin,
                              uint32_t end) {
    uint32_t row_bytes = tile->head_dim * (tile->bf16 ? 2 : 4);
    for (uint32_t key = begin; key < end; key++)
        for (uint32_t byte = 0; byte < row_bytes; byte += 64)
            __builtin_prefetch(rows[key] + byte, 0, 2);
}

/* Words w of VEC_WIDTH keys to a panel. `widen`: two bf16, each to its own row of the panel. */
VEC_INLINE void store_words(uint32_t *to, bool widen, uint32_t w, vu words) {
    if (widen) {
        vu_store(to + 2 * w * PANEL, (vu)vf_bf16_low(words));
        vu_store(to + (2 * w + 1) * PANEL, (vu)vf_bf16_high(words));
    } else {
        vu_store(to + w * PANEL, words);
    }
}

/* VEC_WIDTH rows of K, words in: to[word][PANEL], the rows side by side. */
VEC_INLINE void transpose_keys(const char *const *rows, uint32_t words, bool widen, uint32_t *to) {
    uint32_t w = 0;
    for (; w + VEC_WIDTH <= words; w += VEC_WIDTH) {
        vu block[VEC_WIDTH];
#pragma GCC unroll 16
        for (int i = 0; i < VEC_WIDTH; i++)
            block[i] = vu_load((const uint32_t *)(const void *)rows[i] + w);
        transpose(block);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < VEC_WIDTH; i++)
            store_words(to, widen, w + i, block[i]);
    }
    for (; w < words; w++) {
        uint32_t column[VEC_WIDTH];
        for (int i = 0; i < VEC_WIDTH; i++)
            memcpy(&column[i], rows[i] + (size_t)w * 4, 4);
        store_words(to, widen, w, vu_load(column));
    }
}

/* keys (KEYS / PANEL, depth, PANEL) from the rows of K, as words: one f32, or two bf16 if they are not to be
 * widened. A panel of bf16 takes 4 KB for d = 128 and stays in L1 while rows pass over it. */
static void load_keys(const attention_tile *tile, const char *const *rows, uint32_t count, bool widen,
                      const attention_block *next) {
    uint32_t words = tile->bf16 ? tile->head_dim / 2 : tile->head_dim;
    for (uint32_t key = 0; key < count; key += VEC_WIDTH) {
        if (next != NULL)
            prefetch_rows(tile, next->key_rows, key, key + VEC_WIDTH);
        uint32_t *to =
            tile_keys(tile) + (size_t)(key / PANEL) * (widen ? 2 * words : words) * PANEL + key % PANEL;
        if (widen)
            transpose_keys(rows + key, words, true, to);
        else
            transpose_keys(rows + key, words, false, to);
    }
}

/* Rows of V that are no multiple of PANEL are copied to `values`, with zeros behind them. */
static void pad_values(const attention_tile *tile, const attention_block *block, const char *padded[KEYS]) {
    size_t element = tile->bf16 ? 2 : 4, bytes = tile->head_dim * element;
    size_t padding = (tile->dim_padded - tile->head_dim) * element;
    char *to = (char *)tile_values(tile);
    for (uint32_t key = 0; key < block->keys; key++, to += bytes + padding) {
        memcpy(to, block->value_rows[key], bytes);
        memset(to + bytes, 0, padding);
        padded[key] = to;
    }
}

/* Rows of V in bf16 become rows (dim_padded) in f32, even columns and odd ones in vectors of their own. */
static void widen_values(const attention_tile *tile, const attention_block *block,
                         const char *widened[KEYS]) {
    float *to = tile_values(tile);
    for (uint32_t key = 0; key < block->keys; key++) {
        const char *row = block->value_rows[key];
        uint32_t tail[VEC_WIDTH] = {0}, i = 0;
        widened[key] = (const char *)to;
        for (; i < tile->dim_padded; i += PANEL, to += PANEL) {
            const uint32_t *from = (const uint32_t *)(const void *)(row + (size_t)i * 2);
            if (i + PANEL > tile->head_dim) {
                memcpy(tail, from, (size_t)(tile->head_dim - i) * 2);
                from = tail;
            }
            vu words = vu_load(from);
            vf_store(to, vf_bf16_low(words));
            vf_store(to + VEC_WIDTH, vf_bf16_high(words));
        }
    }
}

/* scores (rows, KEYS) of the keys in `vectors` vectors, from the panel `keys` on. */
VEC_INLINE void score_tile(const int rows, const int vectors, const gemm_kind kind, uint32_t words,
                           const float *query, const uint32_t *keys, float *scores) {
    vf sum[TILE_ROWS][STREAM_VECTORS];
    const uint32_t *weights[STREAM_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vf_zero();
    for (uint32_t v = 0; v < (uint32_t)vectors; v++)
        weights[v] = keys + (size_t)(v / TILE_VECTORS) * words * PANEL + v % TILE_VECTORS * VEC_WIDTH;
    tile_sum(rows, vectors, kind, query, 1, (size_t)rows, weights, PANEL, words, NULL, sum);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            vf_store(scores + r * KEYS + v * VEC_WIDTH, sum[r][v]);
}

/* out · keep + weights · V for the columns of `vectors` vectors, V as it stands in the page. */
VEC_INLINE void output_tile(const int rows, const int vectors, const bool bf16, uint32_t dim_padded,
                            const char *const *values, uint32_t keys, uint32_t column, const float *scores,
                            const float *keep, float *out) {
    vf sum[TILE_ROWS][STREAM_VECTORS];
    out += column;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vf_set1(keep[r]) * vf_load(out + (size_t)r * dim_padded + v * VEC_WIDTH);
    for (uint32_t key = 0; key < keys; key++) {
        vf value[STREAM_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v += 2) {
            if (bf16) {
                vu words =
                    vu_load((const uint32_t *)(const void *)values[key] + column / 2 + v / 2 * VEC_WIDTH);
                value[v] = vf_bf16_low(words);
                value[v + 1] = vf_bf16_high(words);
            } else {
                const float *from = (const float *)(const void *)values[key] + column + v * VEC_WIDTH;
                value[v] = vf_load(from);
                value[v + 1] = vf_load(from + VEC_WIDTH);
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                sum[r][v] = vf_fma(vf_set1(scores[r * KEYS + key]), value[v], sum[r][v]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            vf_store(out + (size_t)r * dim_padded + v * VEC_WIDTH, sum[r][v]);
}

/* What is fetched of the next block while this one is computed, a few rows at a time: a core has only so many
 * loads under way. */
typedef struct block_fetch {
    const attention_block *next; /* NULL: nothing */
    uint32_t row, step;          /* rows of K, then of V */
} block_fetch;

VEC_INLINE void fetch_step(const attention_tile *tile, block_fetch *fetch) {
    if (fetch->next == NULL)
        return;
    uint32_t row = fetch->row, end = row + fetch->step;
    fetch->row = end;
    if (row < KEYS)
        prefetch_rows(tile, fetch->next->key_rows, row, end < KEYS ? end : KEYS);
    if (end > KEYS)
        prefetch_rows(tile, fetch->next->value_rows, row > KEYS ? row - KEYS : 0,
                      end < 2 * KEYS ? end - KEYS : KEYS);
}

/* Scores of tiles [begin, end) of rows, each panel of keys once for all of them. Fewer rows take more vectors
 * at a time, so that enough sums are under way. */
VEC_INLINE void score_tiles(const attention_tile *tile, const gemm_kind kind, uint32_t begin, uint32_t end,
                            uint32_t count, block_fetch *fetch) {
    uint32_t words = kind == GEMM_BF16 ? tile->head_dim / 2 : tile->head_dim, key = 0;
    uint32_t first = even_tile_row(tile->rows, TILE_ROWS, begin);
#define SCORE_FEW(few, vectors)                                                                              \
    for (; tile->rows == few && key + vectors * VEC_WIDTH <= count; key += vectors * VEC_WIDTH)              \
        score_tile(few, vectors, kind, words, tile->queries, tile_keys(tile) + key * words,                  \
                   tile_scores(tile) + key);
    SCORE_FEW(1, 8)
    SCORE_FEW(1, 4)
    SCORE_FEW(2, 4)
#undef SCORE_FEW
    for (; key < count; key += PANEL)
        for (uint32_t i = begin; i < end; i++) {
            uint32_t row = even_tile_row(tile->rows, TILE_ROWS, i);
            uint32_t tile_rows = even_tile_row(tile->rows, TILE_ROWS, i + 1) - row;
            const float *query = tile->queries + (size_t)row * tile->head_dim;
            float *scores = tile_scores(tile) + (row - first) * KEYS + key;
            fetch_step(tile, fetch);
#define SCORE_TILE(rows)                                                                                     \
    score_tile(rows, TILE_VECTORS, kind, words, query, tile_keys(tile) + key * words, scores)
            TILE_ROWS_SWITCH(tile_rows, SCORE_TILE)
#undef SCORE_TILE
        }
}

VEC_INLINE void output_tiles(const attention_tile *tile, const bool bf16, uint32_t begin, uint32_t end,
                             const char *const *values, uint32_t keys, const float *keep,
                             block_fetch *fetch) {
    uint32_t dim_padded = tile->dim_padded, first = even_tile_row(tile->rows, TILE_ROWS, begin), column = 0;
#define OUTPUT_FEW(few, vectors)                                                                             \
    for (; tile->rows == few && column + vectors * VEC_WIDTH <= dim_padded; column += vectors * VEC_WIDTH)   \
        output_tile(few, vectors, bf16, dim_padded, values, keys, column, tile_scores(tile), keep, tile->out);
    OUTPUT_FEW(1, 8)
    OUTPUT_FEW(1, 4)
    OUTPUT_FEW(2, 4)
#undef OUTPUT_FEW
    for (; column < dim_padded; column += PANEL)
        for (uint32_t i = begin; i < end; i++) {
            uint32_t row = even_tile_row(tile->rows, TILE_ROWS, i);
            uint32_t tile_rows = even_tile_row(tile->rows, TILE_ROWS, i + 1) - row;
            const float *scores = tile_scores(tile) + (row - first) * KEYS;
            float *out = tile->out + (size_t)row * dim_padded;
            fetch_step(tile, fetch);
#define OUTPUT_TILE(rows)                                                                                    \
    output_tile(rows, TILE_VECTORS, bf16, dim_padded, values, keys, column, scores, keep + (row - first), out)
            TILE_ROWS_SWITCH(tile_rows, OUTPUT_TILE)
#undef OUTPUT_TILE
        }
}

/* Out of line: in one function with the softmax, GCC kept its constants in registers and spilled sums. */
#define APART static __attribute__((noinline)) void

APART scores_bf16(const attention_tile *tile, uint32_t begin, uint32_t end, uint32_t count,
                  block_fetch *fetch) {
    score_tiles(tile, GEMM_BF16, begin, end, count, fetch);
}

APART scores_f32(const attention_tile *tile, uint32_t begin, uint32_t end, uint32_t count,
                 block_fetch *fetch) {
    score_tiles(tile, GEMM_F32, begin, end, count, fetch);
}

APART output_bf16(const attention_tile *tile, uint32_t begin, uint32_t end, const char *const *values,
                  uint32_t keys, const float *keep, block_fetch *fetch) {
    output_tiles(tile, true, begin, end, values, keys, keep, fetch);
}

APART output_f32(const attention_tile *tile, uint32_t begin, uint32_t end, const char *const *values,
                 uint32_t keys, const float *keep, block_fetch *fetch) {
    output_tiles(tile, false, begin, end, values, keys, keep, fetch);
}

APART mask_scores(float *scores, uint32_t count, int32_t begin, int32_t end) {
    for (uint32_t i = 0; i < count; i += VEC_WIDTH) {
        if ((int32_t)i >= begin && (int32_t)(i + VEC_WIDTH) <= end)
            continue;
        vi lane = {0};
        for (int v = 0; v < VEC_WIDTH; v++)
            lane[v] = (int32_t)i + v;
        vi seen = (lane >= begin) & (lane < end);
        vf_store(scores + i, vf_select(seen, vf_load(scores + i), vf_set1(-INFINITY)));
    }
}

/* One row's scores become weights; returns what its earlier sums are to be multiplied by. */
VEC_INLINE float softmax_row(float *scores, uint32_t count, int32_t begin, int32_t end, float *maximum,
                             float *total) {
    if (begin >= end) {
        memset(scores, 0, count * sizeof *scores);
        return 1.0f;
    }
    if (begin > 0 || end < (int32_t)count)
        mask_scores(scores, count, begin, end);
    vf largest = vf_set1(*maximum);
    for (uint32_t i = 0; i < count; i += VEC_WIDTH)
        largest = vf_max(largest, vf_load(scores + i));
    float raised = vf_largest(largest);
    vf sum = vf_zero();
    for (uint32_t i = 0; i < count; i += VEC_WIDTH) {
        vf weight = vf_exp2_weight(vf_load(scores + i) - raised);
        vf_store(scores + i, weight);
        sum += weight;
    }
    vf keep = vf_exp2_weight(vf_set1(*maximum - raised));
    *total = *total * keep[0] + vf_sum(sum);
    *maximum = raised;
    return keep[0];
}

APART softmax_rows(const attention_tile *tile, uint32_t row, uint32_t rows, uint32_t count,
                   const int32_t *seen_begin, const int32_t *seen_end, float *keep) {
    for (uint32_t r = 0; r < rows; r++)
        keep[r] = softmax_row(tile_scores(tile) + r * KEYS, count, seen_begin[row + r], seen_end[row + r],
                              &tile->maximum[row + r], &tile->total[row + r]);
}
#undef APART

static void attend_block(const attention_tile *tile, const attention_block *block,
                         const attention_block *next, const int32_t *seen_begin, const int32_t *seen_end) {
    enum { GROUP_TILES = SCORE_ROWS / TILE_ROWS };
    uint32_t count = (block->keys + PANEL - 1) / PANEL * PANEL;
    uint32_t tiles = (tile->rows + TILE_ROWS - 1) / TILE_ROWS;
    bool widen = tile->bf16 && tile->rows >= WIDEN_ROWS, bf16 = tile->bf16 && !widen;
    const char *const *values = block->value_rows;
    const char *moved[KEYS];
    if (widen)
        widen_values(tile, block, moved);
    else if (tile->dim_padded > tile->head_dim)
        pad_values(tile, block, moved);
    if (widen || tile->dim_padded > tile->head_dim)
        values = moved;
    /* one tile is too short to fetch everything beside its products */
    bool alone = tiles == 1;
    block_fetch fetch = {.next = alone ? NULL : next};
    uint32_t steps = tiles * (count + tile->dim_padded) / PANEL;
    fetch.step = (2 * KEYS + steps - 1) / steps;
    load_keys(tile, block->key_rows, count, widen, alone ? next : NULL);
    for (uint32_t begin = 0; begin < tiles; begin += GROUP_TILES) {
        uint32_t end = tiles - begin < GROUP_TILES ? tiles : begin + GROUP_TILES;
        uint32_t row = even_tile_row(tile->rows, TILE_ROWS, begin);
        uint32_t rows = even_tile_row(tile->rows, TILE_ROWS, end) - row;
        float keep[SCORE_ROWS];
        if (alone && next != NULL)
            prefetch_rows(tile, next->value_rows, 0, KEYS / 2);
        if (bf16)
            scores_bf16(tile, begin, end, count, &fetch);
        else
            scores_f32(tile, begin, end, count, &fetch);
        if (alone && next != NULL)
            prefetch_rows(tile, next->value_rows, KEYS / 2, KEYS);
        softmax_rows(tile, row, rows, count, seen_begin, seen_end, keep);
        if (bf16)
            output_bf16(tile, begin, end, values, block->keys, keep, &fetch);
        else
            output_f32(tile, begin, end, values, block->keys, keep, &fetch);
    }
}

static size_t scratch_bytes(uint32_t dim_padded) {
    return (size_t)KEYS * (2 * dim_padded + SCORE_ROWS) * sizeof(float);
}

/* In tiles, [head_dim][rows of the tile]. */
static void pack_queries(const float *queries, uint32_t rows, uint32_t head_dim, float *packed) {
    uint32_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (uint32_t tile = 0; tile < tiles; tile++) {
        uint32_t row = even_tile_row(rows, TILE_ROWS, tile);
        uint32_t tile_rows = even_tile_row(rows, TILE_ROWS, tile + 1) - row;
        const float *from = queries + (size_t)row * head_dim;
        float *to = packed + (size_t)row * head_dim;
        for (uint32_t r = 0; r < tile_rows; r++)
            for (uint32_t i = 0; i < head_dim; i++)
                to[(size_t)i * tile_rows + r] = from[(size_t)r * head_dim + i];
    }
}

static void read_state(const float *out, float factor, uint32_t head_dim, bool bf16, float *to) {
    if (!bf16) {
        for (uint32_t i = 0; i < head_dim; i++)
            to[i] = out[i] * factor;
        return;
    }
    uint32_t i = 0;
    for (; i + PANEL <= head_dim; i += PANEL)
        for (uint32_t j = 0; j < VEC_WIDTH; j++) {
            to[i + 2 * j] = out[i + j] * factor;
            to[i + 2 * j + 1] = out[i + VEC_WIDTH + j] * factor;
        }
    for (uint32_t j = 0; i + j < head_dim; j++)
        to[i + j] = out[i + j % 2 * VEC_WIDTH + j / 2] * factor;
}

static void fold_state(uint32_t dim_padded, float from_maximum, float from_total, const float *from_out,
                       float *maximum, float *total, float *out) {
    if (from_maximum == -INFINITY)
        return;
    if (*maximum == -INFINITY) {
        *maximum = from_maximum;
        *total = from_total;
        memcpy(out, from_out, dim_padded * sizeof *out);
        return;
    }
    float largest = *maximum > from_maximum ? *maximum : from_maximum;
    vf factors = vf_zero();
    factors[0] = *maximum - largest;
    factors[1] = from_maximum - largest;
    factors = vf_exp2(factors);
    vf keep = vf_set1(factors[0]), take = vf_set1(factors[1]);
    *maximum = largest;
    *total = *total * factors[0] + from_total * factors[1];
    for (uint32_t i = 0; i < dim_padded; i += VEC_WIDTH)
        vf_store(out + i, vf_fma(vf_load(out + i), keep, vf_load(from_out + i) * take));
}
#endif
