/*
 * Matrix products over packed panels; included by kernels_body.h once per instruction set.
 *
 * One or two rows: the weights are read once from memory, as fast as memory gives them: several panels side
 * by side, so that enough sums are under way, and prefetches ahead of each.
 * More rows: a tile of up to TILE_ROWS rows × 2 vectors stays in registers over GEMM_DEPTH k. The weight
 * slice of a panel (8 KB, 32 KB with AVX-512) stays in cache while all tiles of a row block pass over it, and
 * each of them fetches its share of the slice that comes next: so weights come from memory once, in the
 * shadow of the arithmetic. Slices follow one another down a panel, as they stand in memory, for as many k as
 * keep the packed rows of the block in L2. bf16 weights are widened in registers (a shift, an and): two cheap
 * operations beside 8 to 24 multiply-adds.
 * On Zen 3 from 8 rows on 85 to 90 % of the FMA peak, with fewer what memory gives.
 */
#ifndef CENTO_BACKEND_CPU_GEMM_BODY_H
#define CENTO_BACKEND_CPU_GEMM_BODY_H

#include "convert.h"
#include "kernels.h"
#include "rows_body.h"
#include "vec.h"

#if VEC_WIDTH == 16
#define TILE_ROWS     12
#define PANEL_VECTORS 4
#else
#define TILE_ROWS     6
#define PANEL_VECTORS 2
#endif
#define PANEL_WIDTH     (PANEL_VECTORS * VEC_WIDTH)
#define TILE_VECTORS    2
#define STREAM_VECTORS  8
#define STREAM_ROWS     2
#define ROW_BLOCK_TILES (120 / TILE_ROWS)
#define ROWS_IN_CACHE   (128u << 10) /* bytes of packed rows */

typedef enum fetch_kind {
    FETCH_AHEAD, /* the tile's own weights, some words ahead */
    FETCH_NEXT,  /* `step` bytes of `next` with each word */
} fetch_kind;

/* What a tile fetches into the cache while it computes. */
typedef struct tile_fetch {
    fetch_kind kind;
    uint32_t step; /* at most TILE_VECTORS vectors */
    const char *next;
} tile_fetch;

/* sum[r][v] += activations · weights over `words` words. Activation k of row r stands at
 * x[r · row_stride + k · depth_stride] (k counts pairs for GEMM_PAIRS). Constants after inlining: rows,
 * vectors, kind, kind of fetch (NULL: none), and mostly the strides. */
VEC_INLINE void tile_sum(const int rows, const int vectors, const gemm_kind kind, const void *activations,
                         size_t row_stride, size_t depth_stride, const uint32_t *const *weights,
                         size_t stride, uint32_t words, const tile_fetch *fetch,
                         vf sum[TILE_ROWS][STREAM_VECTORS]) {
    const float *x = activations;
    const char *next = fetch != NULL ? fetch->next : NULL;
    for (uint32_t w = 0; w < words; w++) {
        size_t at = (size_t)w * stride;
        if (fetch != NULL && fetch->kind == FETCH_AHEAD)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v += VEC_WIDTH == 16 ? 1 : 2)
                __builtin_prefetch(weights[v] + at + (vectors == STREAM_VECTORS ? 64 : 256), 0, 1);
        if (fetch != NULL && fetch->kind == FETCH_NEXT) {
            for (int line = 0; line < TILE_VECTORS * VEC_WIDTH * 4; line += 64)
                __builtin_prefetch(next + line, 0, 1);
            next += fetch->step;
        }
        vf low[STREAM_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            vu raw = vu_load(weights[v] + at);
            low[v] = kind == GEMM_BF16 ? vf_bf16_low(raw) : (vf)raw;
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vf value = vf_set1(x[(size_t)r * row_stride]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) {
#if defined(__AVX512BF16__)
                if (kind == GEMM_PAIRS) {
                    sum[r][v] = (vf)_mm512_dpbf16_ps((__m512)sum[r][v], (__m512bh)value, (__m512bh)low[v]);
                    continue;
                }
#endif
                sum[r][v] = vf_fma(value, low[v], sum[r][v]);
            }
        }
        x += depth_stride;
        if (kind == GEMM_BF16) {
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                low[v] = vf_bf16_high(vu_load(weights[v] + at));
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                vf value = vf_set1(x[(size_t)r * row_stride]);
#pragma GCC unroll 8
                for (int v = 0; v < vectors; v++)
                    sum[r][v] = vf_fma(value, low[v], sum[r][v]);
            }
            x += depth_stride;
        }
    }
}

typedef struct tile_output {
    float *y;
    size_t y_stride;
    uint32_t columns;  /* valid ones from y on */
    const float *bias; /* NULL: none, or not the first block */
    bool add;          /* to what is in y */
} tile_output;

/* What tile_run does not: biases and the matrix's edge. `sums` is (rows, vectors) vectors. */
static __attribute__((noinline)) void tile_store(uint32_t rows, uint32_t vectors, const tile_output *output,
                                                 const float *sums) {
    uint32_t width = vectors * VEC_WIDTH;
    bool whole = output->columns >= width;
    for (uint32_t r = 0; r < rows; r++, sums += width) {
        float *y = output->y + (size_t)r * output->y_stride;
        uint32_t valid = whole ? width : output->columns, i = 0;
        for (; i + VEC_WIDTH <= valid; i += VEC_WIDTH) {
            vf start = output->add ? vf_load(y + i) : vf_zero();
            if (output->bias != NULL)
                start += vf_load(output->bias + i);
            vf_store(y + i, start + vf_load(sums + i));
        }
        for (; i < valid; i++) {
            float start = output->add ? y[i] : 0.0f;
            if (output->bias != NULL)
                start += output->bias[i];
            y[i] = start + sums[i];
        }
    }
}

VEC_INLINE void tile_run(const int rows, const int vectors, const gemm_kind kind, const void *packed,
                         const uint32_t *const *weights, size_t stride, uint32_t words,
                         const tile_fetch *fetch, const tile_output *output) {
    vf sum[TILE_ROWS][STREAM_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vf_zero();
    if (fetch->kind != FETCH_AHEAD) /* y is written at the end: fetched meanwhile */
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            __builtin_prefetch(output->y + (size_t)r * output->y_stride, 1, 3);
    tile_sum(rows, vectors, kind, packed, 1, (size_t)rows, weights, stride, words, fetch, sum);
    if (output->bias == NULL && output->columns >= (uint32_t)(vectors * VEC_WIDTH)) {
        float *y = output->y;
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++, y += output->y_stride)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                vf_store(y + v * VEC_WIDTH,
                         (output->add ? vf_load(y + v * VEC_WIDTH) : vf_zero()) + sum[r][v]);
        return;
    }
    float sums[TILE_ROWS * STREAM_VECTORS * VEC_WIDTH];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            vf_store(sums + (r * vectors + v) * VEC_WIDTH, sum[r][v]);
    tile_store(rows, vectors, output, sums);
}

/* Calls BODY(rows) with a constant for each possible number of rows of a tile. */
#if TILE_ROWS == 12
#define TILE_ROWS_SWITCH(rows, BODY)                                                                         \
    switch (rows) {                                                                                          \
    case 12:                                                                                                 \
        BODY(12);                                                                                            \
        break;                                                                                               \
    case 11:                                                                                                 \
        BODY(11);                                                                                            \
        break;                                                                                               \
    case 10:                                                                                                 \
        BODY(10);                                                                                            \
        break;                                                                                               \
    case 9:                                                                                                  \
        BODY(9);                                                                                             \
        break;                                                                                               \
    case 8:                                                                                                  \
        BODY(8);                                                                                             \
        break;                                                                                               \
    case 7:                                                                                                  \
        BODY(7);                                                                                             \
        break;                                                                                               \
        TILE_ROWS_UNTIL_6(BODY)                                                                              \
    }
#else
#define TILE_ROWS_SWITCH(rows, BODY)                                                                         \
    switch (rows) { TILE_ROWS_UNTIL_6(BODY) }
#endif
#define TILE_ROWS_UNTIL_6(BODY)                                                                              \
    case 6:                                                                                                  \
        BODY(6);                                                                                             \
        break;                                                                                               \
    case 5:                                                                                                  \
        BODY(5);                                                                                             \
        break;                                                                                               \
    case 4:                                                                                                  \
        BODY(4);                                                                                             \
        break;                                                                                               \
    case 3:                                                                                                  \
        BODY(3);                                                                                             \
        break;                                                                                               \
    case 2:                                                                                                  \
        BODY(2);                                                                                             \
        break;                                                                                               \
    case 1:                                                                                                  \
        BODY(1);                                                                                             \
        break;                                                                                               \
    default:                                                                                                 \
        break;

static uint32_t words_of_depth(gemm_kind kind, uint32_t depth) {
    return kind == GEMM_F32 ? depth : (depth + 1) / 2;
}

/* 4-byte words that one packed row takes for this depth. */
static uint32_t packed_words(gemm_kind kind, uint32_t depth) {
    return kind == GEMM_F32 ? depth : kind == GEMM_BF16 ? (depth + 1) / 2 * 2 : (depth + 1) / 2;
}

static uint32_t tile_row(uint32_t rows, uint32_t tile) {
    return even_tile_row(rows, TILE_ROWS, tile);
}

/* Depth block k of one tile. */
static void pack_tile(gemm_kind kind, const float *x, uint32_t rows, uint32_t depth, uint32_t k,
                      uint32_t tile, uint32_t *packed) {
    uint32_t count = depth - k < GEMM_DEPTH ? depth - k : GEMM_DEPTH, words = packed_words(kind, count);
    uint32_t row = tile_row(rows, tile), tile_rows = tile_row(rows, tile + 1) - row;
    uint32_t *out = packed + (size_t)packed_words(kind, k) * rows + (size_t)row * words;
    for (uint32_t r = 0; r < tile_rows; r++) {
        const float *from = x + (size_t)(row + r) * depth + k;
        uint32_t rounded[GEMM_DEPTH / 2];
        if (kind == GEMM_PAIRS) {
            rounded[words - 1] = 0;
            bf16_of_f32_row(from, count, (uint16_t *)(void *)rounded);
            for (uint32_t w = 0; w < words; w++)
                out[w * tile_rows + r] = rounded[w];
        } else {
            for (uint32_t w = 0; w < count; w++)
                out[w * tile_rows + r] = bits_of_f32(from[w]);
            if (words > count)
                out[count * tile_rows + r] = 0;
        }
    }
}

static void pack_rows(gemm_kind kind, const float *x, uint32_t rows, uint32_t depth, uint32_t begin,
                      uint32_t end, void *packed) {
    uint32_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (uint32_t i = begin; i < end; i++)
        pack_tile(kind, x, rows, depth, i / tiles * GEMM_DEPTH, i % tiles, packed);
}

/* Where the words of vector `index` (counted over all panels) begin. */
VEC_INLINE const uint32_t *vector_words(const gemm_job *job, uint32_t panel_words, uint32_t index) {
    return job->panels + (size_t)(index / PANEL_VECTORS) * panel_words + index % PANEL_VECTORS * VEC_WIDTH;
}

VEC_INLINE tile_output output_at(const gemm_job *job, uint32_t row, uint32_t column, bool first) {
    return (tile_output){
        .y = job->y + (size_t)row * job->columns + column,
        .y_stride = job->columns,
        .columns = job->columns - column,
        .bias = first && job->bias != NULL ? job->bias + column : NULL,
        .add = !first || job->accumulate,
    };
}

/* All of k for one tile of rows and `vectors` vectors of columns, weights straight from memory. */
VEC_INLINE void stream_tile(const gemm_job *job, const gemm_kind kind, const int rows, const int vectors,
                            uint32_t vector) {
    uint32_t panel_words = words_of_depth(kind, job->depth) * PANEL_WIDTH;
    const uint32_t *weights[STREAM_VECTORS];
    for (int v = 0; v < vectors; v++)
        weights[v] = vector_words(job, panel_words, vector + (uint32_t)v);
    const tile_fetch fetch = {.kind = FETCH_AHEAD};
    uint32_t column = vector * VEC_WIDTH;
    for (uint32_t k = 0; k < job->depth; k += GEMM_DEPTH) {
        uint32_t count = job->depth - k < GEMM_DEPTH ? job->depth - k : GEMM_DEPTH;
        uint32_t words = words_of_depth(kind, count);
        const uint32_t *packed =
            (const uint32_t *)job->packed_rows + (size_t)packed_words(kind, k) * job->rows;
        tile_output output = output_at(job, 0, column, k == 0);
        tile_run(rows, vectors, kind, packed, weights, PANEL_WIDTH, words, &fetch, &output);
        for (int v = 0; v < vectors; v++)
            weights[v] += (size_t)words * PANEL_WIDTH;
    }
}

VEC_INLINE void stream_columns(const gemm_job *job, const gemm_kind kind, uint32_t begin, uint32_t end) {
    uint32_t vector = begin;
    if (job->rows == 1) {
        for (; vector + STREAM_VECTORS <= end; vector += STREAM_VECTORS)
            stream_tile(job, kind, 1, STREAM_VECTORS, vector);
        for (; vector < end && vector * VEC_WIDTH < job->columns; vector += TILE_VECTORS)
            stream_tile(job, kind, 1, TILE_VECTORS, vector);
    } else {
        for (; vector + STREAM_VECTORS / 2 <= end; vector += STREAM_VECTORS / 2)
            stream_tile(job, kind, 2, STREAM_VECTORS / 2, vector);
        for (; vector < end && vector * VEC_WIDTH < job->columns; vector += TILE_VECTORS)
            stream_tile(job, kind, 2, TILE_VECTORS, vector);
    }
}

/* The slice of a panel that begins at k: all tiles pass over it, and together fetch the slice `next`. */
VEC_INLINE void slice_columns(const gemm_job *job, const gemm_kind kind, uint32_t panel, uint32_t k,
                              uint32_t tile_begin, uint32_t tile_end, const uint32_t *slice,
                              const uint32_t *next) {
    uint32_t count = job->depth - k < GEMM_DEPTH ? job->depth - k : GEMM_DEPTH;
    uint32_t words = words_of_depth(kind, count);
    const uint32_t *packed = (const uint32_t *)job->packed_rows + (size_t)packed_words(kind, k) * job->rows;
    uint32_t passes = (tile_end - tile_begin) * (PANEL_VECTORS / TILE_VECTORS);
    tile_fetch fetch = {
        .kind = FETCH_NEXT, .step = (PANEL_WIDTH * 4 + passes - 1) / passes, .next = (const char *)next};
    for (uint32_t v = 0; v < PANEL_VECTORS; v += TILE_VECTORS) {
        uint32_t column = panel * PANEL_WIDTH + v * VEC_WIDTH;
        if (column >= job->columns)
            break;
        const uint32_t *weights[TILE_VECTORS] = {slice + v * VEC_WIDTH, slice + (v + 1) * VEC_WIDTH};
        for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
            uint32_t row = tile_row(job->rows, tile), rows = tile_row(job->rows, tile + 1) - row;
            tile_output output = output_at(job, row, column, k == 0);
            const uint32_t *x = packed + (size_t)row * packed_words(kind, count);
#define SLICE_TILE(rows) tile_run(rows, TILE_VECTORS, kind, x, weights, PANEL_WIDTH, words, &fetch, &output)
            TILE_ROWS_SWITCH(rows, SLICE_TILE)
#undef SLICE_TILE
            fetch.next += (size_t)words * fetch.step;
        }
    }
}

/* A row block against panels [begin, end): down each panel for so many k that the rows stay in L2. */
VEC_INLINE void block_columns(const gemm_job *job, const gemm_kind kind, uint32_t begin, uint32_t end,
                              uint32_t tile_begin, uint32_t tile_end) {
    size_t panel_words = (size_t)words_of_depth(kind, job->depth) * PANEL_WIDTH;
    uint32_t rows = tile_row(job->rows, tile_end) - tile_row(job->rows, tile_begin);
    uint32_t span = ROWS_IN_CACHE / (4 * rows) / GEMM_DEPTH * GEMM_DEPTH;
    if (span == 0)
        span = GEMM_DEPTH;
    for (uint32_t k_begin = 0, k_end; k_begin < job->depth; k_begin = k_end) {
        k_end = job->depth - k_begin < span ? job->depth : k_begin + span;
        const uint32_t *first = job->panels + (size_t)words_of_depth(kind, k_begin) * PANEL_WIDTH;
        for (uint32_t panel = begin; panel < end; panel++) {
            const uint32_t *slice = first + panel * panel_words, *next;
            for (uint32_t k = k_begin; k < k_end; k += GEMM_DEPTH, slice = next) {
                if (k_end - k > GEMM_DEPTH)
                    next = slice + (size_t)words_of_depth(kind, GEMM_DEPTH) * PANEL_WIDTH;
                else if (panel + 1 < end)
                    next = first + (panel + 1) * panel_words;
                else
                    next = k_end < job->depth ? job->panels + begin * panel_words +
                                                    (size_t)words_of_depth(kind, k_end) * PANEL_WIDTH
                                              : slice;
                slice_columns(job, kind, panel, k, tile_begin, tile_end, slice, next);
            }
        }
    }
}

VEC_INLINE void gemm_of_kind(const gemm_job *job, const gemm_kind kind, uint32_t panel_begin,
                             uint32_t panel_end, uint32_t tile_begin, uint32_t tile_end) {
    if (job->rows <= STREAM_ROWS) {
        stream_columns(job, kind, panel_begin * PANEL_VECTORS, panel_end * PANEL_VECTORS);
        return;
    }
    uint32_t blocks = (tile_end - tile_begin + ROW_BLOCK_TILES - 1) / ROW_BLOCK_TILES;
    for (; blocks > 0; blocks--) {
        uint32_t block_end = tile_begin + (tile_end - tile_begin) / blocks;
        block_columns(job, kind, panel_begin, panel_end, tile_begin, block_end);
        tile_begin = block_end;
    }
}

static void gemm_f32(const gemm_job *job, uint32_t panel_begin, uint32_t panel_end, uint32_t tile_begin,
                     uint32_t tile_end) {
    gemm_of_kind(job, GEMM_F32, panel_begin, panel_end, tile_begin, tile_end);
}

static void gemm_bf16(const gemm_job *job, uint32_t panel_begin, uint32_t panel_end, uint32_t tile_begin,
                      uint32_t tile_end) {
    gemm_of_kind(job, GEMM_BF16, panel_begin, panel_end, tile_begin, tile_end);
}

#if defined(__AVX512BF16__)
static void gemm_pairs(const gemm_job *job, uint32_t panel_begin, uint32_t panel_end, uint32_t tile_begin,
                       uint32_t tile_end) {
    gemm_of_kind(job, GEMM_PAIRS, panel_begin, panel_end, tile_begin, tile_end);
}
#endif

static void gemm(const gemm_job *job, uint32_t panel_begin, uint32_t panel_end, uint32_t tile_begin,
                 uint32_t tile_end) {
    if (job->kind == GEMM_F32)
        gemm_f32(job, panel_begin, panel_end, tile_begin, tile_end);
    else if (job->kind == GEMM_BF16)
        gemm_bf16(job, panel_begin, panel_end, tile_begin, tile_end);
#if defined(__AVX512BF16__)
    else
        gemm_pairs(job, panel_begin, panel_end, tile_begin, tile_end);
#endif
}

/* Four streams side by side: the fastest of 1 to 16 streams, with and without prefetches, on Zen 3. */
static uint32_t read_words(const uint32_t *words, size_t count) {
    enum { STREAMS = 4, STEP = 64 / (VEC_WIDTH * 4) };
    vu sum[STREAMS * STEP];
    for (int v = 0; v < STREAMS * STEP; v++)
        sum[v] = (vu)vf_zero();
    size_t quarter = count / STREAMS / 16 * 16;
    for (size_t i = 0; i < quarter; i += 16)
#pragma GCC unroll 16
        for (int v = 0; v < STREAMS * STEP; v++)
            sum[v] += vu_load(words + (size_t)(v / STEP) * quarter + i + v % STEP * VEC_WIDTH);
    uint32_t total = 0;
    for (int v = 0; v < STREAMS * STEP; v++)
        for (int lane = 0; lane < VEC_WIDTH; lane++)
            total += sum[v][lane];
    for (size_t i = STREAMS * quarter; i < count; i++)
        total += words[i];
    return total;
}

#endif
