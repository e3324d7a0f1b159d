/*
 * Attention of a tile of query rows to one block of at most ATTENTION_KEYS keys, with online softmax;
 * included by kernels_body.h once per instruction set.
 *
 * K is widened and transposed into `keys`, V widened into `values` (both stay in L1/L2), so that scores and
 * output are the same register tiles as in gemm_body.h: 4·rows·keys·head_dim flop, at the FMA rate for
 * prefill tiles; a decode row costs 2·head_dim elements of K and V read once and about as long to transpose.
 */
#ifndef CENTO_BACKEND_CPU_ATTENTION_BODY_H
#define CENTO_BACKEND_CPU_ATTENTION_BODY_H

#include <math.h>

#include "gemm_body.h"

#define KEYS     ATTENTION_KEYS
#define FEW_ROWS TILE_ROWS /* up to so many, widening on the way costs less than widening once */

VEC_INLINE vu vu_zero(void) {
    return (vu)vf_zero();
}

#if VEC_WIDTH == 4
#define UNPACK_LOW_32(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define UNPACK_HIGH_32(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define UNPACK_LOW_64(a, b)  __builtin_shufflevector(a, b, 0, 1, 4, 5)
#define UNPACK_HIGH_64(a, b) __builtin_shufflevector(a, b, 2, 3, 6, 7)
#elif VEC_WIDTH == 8
#define UNPACK_LOW_32(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define UNPACK_HIGH_32(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define UNPACK_LOW_64(a, b)  __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define UNPACK_HIGH_64(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#else
#define UNPACK_LOW_32(a, b)                                                                                  \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define UNPACK_HIGH_32(a, b)                                                                                 \
    __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define UNPACK_LOW_64(a, b)                                                                                  \
    __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define UNPACK_HIGH_64(a, b)                                                                                 \
    __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#endif

/* Words: rows in, columns out. First within the 4 × 4 blocks of 128-bit lanes, then the lanes. */
VEC_INLINE void transpose(vu m[VEC_WIDTH]) {
    vu u[VEC_WIDTH];
#pragma GCC unroll 4
    for (int i = 0; i < VEC_WIDTH; i += 4) {
        vu low_01 = UNPACK_LOW_32(m[i], m[i + 1]), high_01 = UNPACK_HIGH_32(m[i], m[i + 1]);
        vu low_23 = UNPACK_LOW_32(m[i + 2], m[i + 3]), high_23 = UNPACK_HIGH_32(m[i + 2], m[i + 3]);
        u[i] = UNPACK_LOW_64(low_01, low_23);
        u[i + 1] = UNPACK_HIGH_64(low_01, low_23);
        u[i + 2] = UNPACK_LOW_64(high_01, high_23);
        u[i + 3] = UNPACK_HIGH_64(high_01, high_23);
    }
#if VEC_WIDTH == 4
    for (int i = 0; i < 4; i++)
        m[i] = u[i];
#elif VEC_WIDTH == 8
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        m[c] = __builtin_shufflevector(u[c], u[4 + c], 0, 1, 2, 3, 8, 9, 10, 11);
        m[4 + c] = __builtin_shufflevector(u[c], u[4 + c], 4, 5, 6, 7, 12, 13, 14, 15);
    }
#else
#define LANES(a, b, i, j)                                                                                    \
    __builtin_shufflevector(a, b, 4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3, 4 * j, 4 * j + 1, 4 * j + 2,       \
                            4 * j + 3, 16 + 4 * i, 17 + 4 * i, 18 + 4 * i, 19 + 4 * i, 16 + 4 * j,           \
                            17 + 4 * j, 18 + 4 * j, 19 + 4 * j)
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        vu low_01 = LANES(u[c], u[4 + c], 0, 1), high_01 = LANES(u[c], u[4 + c], 2, 3);
        vu low_23 = LANES(u[8 + c], u[12 + c], 0, 1), high_23 = LANES(u[8 + c], u[12 + c], 2, 3);
        m[c] = LANES(low_01, low_23, 0, 2);
        m[4 + c] = LANES(low_01, low_23, 1, 3);
        m[8 + c] = LANES(high_01, high_23, 0, 2);
        m[12 + c] = LANES(high_01, high_23, 1, 3);
    }
#undef LANES
#endif
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

/* keys (head_dim, KEYS) from the rows of K; `count` is a multiple of VEC_WIDTH. `paired`: as words of two
 * bf16, (head_dim / 2, KEYS), which a few rows widen on the way. */
static void load_keys(const attention_tile *tile, const char *const *rows, uint32_t count, bool paired,
                      const attention_block *next) {
    uint32_t words = tile->bf16 ? tile->head_dim / 2 : tile->head_dim;
    bool widen = tile->bf16 && !paired;
    for (uint32_t key = 0; key < count; key += VEC_WIDTH) {
        if (next != NULL)
            prefetch_rows(tile, next->key_rows, key, key + VEC_WIDTH);
        uint32_t w = 0;
        for (; w + VEC_WIDTH <= words; w += VEC_WIDTH) {
            vu block[VEC_WIDTH];
#pragma GCC unroll 16
            for (int i = 0; i < VEC_WIDTH; i++)
                block[i] = vu_load((const uint32_t *)(const void *)rows[key + i] + w);
            transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < VEC_WIDTH; i++) {
                if (widen) {
                    vf_store(tile->keys + (2 * (w + i)) * KEYS + key, vf_bf16_low(block[i]));
                    vf_store(tile->keys + (2 * (w + i) + 1) * KEYS + key, vf_bf16_high(block[i]));
                } else {
                    vf_store(tile->keys + (w + i) * KEYS + key, (vf)block[i]);
                }
            }
        }
        for (; w < words; w++)
            for (uint32_t i = 0; i < VEC_WIDTH; i++) {
                uint32_t word;
                memcpy(&word, rows[key + i] + (size_t)w * 4, 4);
                if (widen) {
                    tile->keys[(2 * w) * KEYS + key + i] = f32_of_bits(word << 16);
                    tile->keys[(2 * w + 1) * KEYS + key + i] = f32_of_bits(word & 0xFFFF0000u);
                } else {
                    tile->keys[w * KEYS + key + i] = f32_of_bits(word);
                }
            }
    }
}

/* values (count, dim_padded) from the rows of V; the padding stays zero. */
static void load_values(const attention_tile *tile, const char *const *rows, uint32_t count) {
    uint32_t head_dim = tile->head_dim;
    for (uint32_t key = 0; key < count; key++) {
        float *to = tile->values + (size_t)key * tile->dim_padded;
        uint32_t i = 0;
        if (!tile->bf16) {
            memcpy(to, rows[key], head_dim * sizeof(float));
            i = head_dim;
        }
        for (; i + VEC_WIDTH <= head_dim; i += VEC_WIDTH)
            vf_store(to + i, vf_load_bf16((const uint16_t *)(const void *)rows[key] + i));
        for (; i < head_dim; i++)
            to[i] = tensor_element(rows[key], TENSOR_BF16, i);
        for (; i < tile->dim_padded; i++)
            to[i] = 0.0f;
    }
}

VEC_INLINE void score_tile(const int rows, const int vectors, const attention_tile *tile, const bool paired,
                           const float *query, uint32_t key) {
    vf sum[TILE_ROWS][STREAM_VECTORS];
    const uint32_t *weights[STREAM_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vf_zero();
    for (int v = 0; v < vectors; v++)
        weights[v] = (const uint32_t *)(const void *)(tile->keys + key + v * VEC_WIDTH);
    if (paired)
        tile_sum(rows, vectors, GEMM_BF16, query, 1, (size_t)rows, weights, KEYS, tile->head_dim / 2, NULL,
                 sum);
    else
        tile_sum(rows, vectors, GEMM_F32, query, 1, (size_t)rows, weights, KEYS, tile->head_dim, NULL, sum);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            vf_store(tile->scores + r * KEYS + key + v * VEC_WIDTH, sum[r][v]);
}

/* What a tile of rows fetches of the next block while its scores are computed. One tile alone: its values,
 * half before and half after. Several: keys and values [begin, end), in equal shares for each step over this
 * block's keys, since a core has only so many loads under way. */
typedef struct fetch_part {
    const attention_block *next; /* NULL: nothing */
    bool alone;
    uint32_t begin, end;
} fetch_part;

VEC_INLINE void fetch_share(const attention_tile *tile, const fetch_part *part, uint32_t key, uint32_t step) {
    if (part->next == NULL || part->alone)
        return;
    uint32_t size = part->end - part->begin;
    uint32_t begin = part->begin + size * key / KEYS, end = part->begin + size * (key + step) / KEYS;
    prefetch_rows(tile, part->next->key_rows, begin, end);
    prefetch_rows(tile, part->next->value_rows, begin, end);
}

/* Scores of all keys for the rows of one tile. Fewer rows take more vectors at a time, so that enough sums
 * are under way. */
VEC_INLINE void score_rows(const attention_tile *tile, const bool paired, const float *query, uint32_t rows,
                           uint32_t count, const fetch_part *part) {
    uint32_t key = 0;
    bool halves = part->next != NULL && part->alone;
    if (halves)
        prefetch_rows(tile, part->next->value_rows, 0, KEYS / 2);
    if (rows == 1)
        for (; key + 8 * VEC_WIDTH <= count; key += 8 * VEC_WIDTH) {
            fetch_share(tile, part, key, 8 * VEC_WIDTH);
            score_tile(1, 8, tile, paired, query, key);
        }
    if (rows == 2)
        for (; key + 4 * VEC_WIDTH <= count; key += 4 * VEC_WIDTH) {
            fetch_share(tile, part, key, 4 * VEC_WIDTH);
            score_tile(2, 4, tile, paired, query, key);
        }
    for (; key < count; key += TILE_VECTORS * VEC_WIDTH) {
        fetch_share(tile, part, key, TILE_VECTORS * VEC_WIDTH);
#define SCORE_TILE(rows) score_tile(rows, TILE_VECTORS, tile, paired, query, key)
        TILE_ROWS_SWITCH(rows, SCORE_TILE)
#undef SCORE_TILE
    }
    if (halves)
        prefetch_rows(tile, part->next->value_rows, KEYS / 2, KEYS);
}

/* out · keep + weights · V for some columns. `pages`: V as it stands in the pages, in bf16; else `values`. */
VEC_INLINE void output_tile(const int rows, const int vectors, const attention_tile *tile,
                            const char *const *pages, uint32_t keys, uint32_t column, const float *keep,
                            float *out) {
    vf sum[TILE_ROWS][STREAM_VECTORS];
    const uint32_t *weights[STREAM_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[r][v] =
                vf_set1(keep[r]) * vf_load(out + (size_t)r * tile->dim_padded + column + v * VEC_WIDTH);
    if (pages != NULL) {
        for (uint32_t key = 0; key < keys; key++) {
            const uint16_t *row = (const uint16_t *)(const void *)pages[key] + column;
            vf value[STREAM_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                value[v] = vf_load_bf16(row + v * VEC_WIDTH);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
                for (int v = 0; v < vectors; v++)
                    sum[r][v] = vf_fma(vf_set1(tile->scores[r * KEYS + key]), value[v], sum[r][v]);
        }
    } else {
        for (int v = 0; v < vectors; v++)
            weights[v] = (const uint32_t *)(const void *)(tile->values + column + v * VEC_WIDTH);
        tile_sum(rows, vectors, GEMM_F32, tile->scores, KEYS, 1, weights, tile->dim_padded, keys, NULL, sum);
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            vf_store(out + (size_t)r * tile->dim_padded + column + v * VEC_WIDTH, sum[r][v]);
}

VEC_INLINE void output_rows(const attention_tile *tile, const char *const *pages, uint32_t rows,
                            uint32_t keys, const float *keep, float *out) {
    uint32_t column = 0;
    if (rows == 1)
        for (; column + 8 * VEC_WIDTH <= tile->dim_padded; column += 8 * VEC_WIDTH)
            output_tile(1, 8, tile, pages, keys, column, keep, out);
    if (rows == 2)
        for (; column + 4 * VEC_WIDTH <= tile->dim_padded; column += 4 * VEC_WIDTH)
            output_tile(2, 4, tile, pages, keys, column, keep, out);
    for (; column < tile->dim_padded; column += TILE_VECTORS * VEC_WIDTH) {
#define OUTPUT_TILE(rows) output_tile(rows, TILE_VECTORS, tile, pages, keys, column, keep, out)
        TILE_ROWS_SWITCH(rows, OUTPUT_TILE)
#undef OUTPUT_TILE
    }
}

/* Out of line: in one function with the softmax, GCC kept its constants in registers and spilled sums. */
#define APART static __attribute__((noinline)) void

APART scores_of_many(const attention_tile *tile, const float *query, uint32_t rows, uint32_t count,
                     const fetch_part *part) {
    score_rows(tile, false, query, rows, count, part);
}

APART scores_of_few(const attention_tile *tile, const float *query, uint32_t rows, uint32_t count,
                    const fetch_part *part) {
    score_rows(tile, true, query, rows, count, part);
}

APART output_of_many(const attention_tile *tile, uint32_t rows, uint32_t keys, const float *keep,
                     float *out) {
    output_rows(tile, NULL, rows, keys, keep, out);
}

APART output_of_few(const attention_tile *tile, const char *const *pages, uint32_t rows, uint32_t keys,
                    const float *keep, float *out) {
    output_rows(tile, pages, rows, keys, keep, out);
}
#undef APART

static __attribute__((noinline)) void mask_scores(float *scores, uint32_t count, int32_t begin, int32_t end) {
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
static float softmax_row(float *scores, uint32_t count, int32_t begin, int32_t end, float *maximum,
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

/* `few` rows: V is read where it stands and K only transposed, both widened on the way to the products. For
 * many they are widened once. The sums are the same, bit for bit. */
static void attend_rows(attention_tile *tile, const attention_block *block, const attention_block *next,
                        uint32_t count, const int32_t *seen_begin, const int32_t *seen_end, bool few) {
    bool alone = tile->rows <= TILE_ROWS;
    load_keys(tile, block->key_rows, count, few, alone ? next : NULL);
    if (!few)
        load_values(tile, block->value_rows, block->keys);
    for (uint32_t row = 0; row < tile->rows; row += TILE_ROWS) {
        uint32_t rows = tile->rows - row < TILE_ROWS ? tile->rows - row : TILE_ROWS;
        const float *query = tile->queries + (size_t)row * tile->head_dim;
        float keep[TILE_ROWS], *out = tile->out + (size_t)row * tile->dim_padded;
        const fetch_part part = {next, alone, KEYS * row / tile->rows, KEYS * (row + rows) / tile->rows};
        if (few)
            scores_of_few(tile, query, rows, count, &part);
        else
            scores_of_many(tile, query, rows, count, &part);
        for (uint32_t r = 0; r < rows; r++)
            keep[r] = softmax_row(tile->scores + r * KEYS, count, seen_begin[row + r], seen_end[row + r],
                                  &tile->maximum[row + r], &tile->total[row + r]);
        if (few)
            output_of_few(tile, block->value_rows, rows, block->keys, keep, out);
        else
            output_of_many(tile, rows, block->keys, keep, out);
    }
}

static void attend_block(attention_tile *tile, const attention_block *block, const attention_block *next,
                         const int32_t *seen_begin, const int32_t *seen_end) {
    const uint32_t width = TILE_VECTORS * VEC_WIDTH;
    uint32_t count = (block->keys + width - 1) / width * width;
    bool few = tile->rows <= FEW_ROWS && tile->bf16 && tile->dim_padded == tile->head_dim;
    attend_rows(tile, block, next, count, seen_begin, seen_end, few);
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
#undef KEYS

#endif
