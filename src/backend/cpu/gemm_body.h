/*
 * Matrix products over packed panels; included by kernels_body.h once per instruction set.
 *
 * Many rows: a BLIS-like loop. A tile of TILE_ROWS rows × 2 vectors stays in registers over GEMM_DEPTH k;
 * the weight slice of a panel (8 KB bf16) stays in L1 over all tiles of a row block, whose packed rows stay
 * in L2. bf16 weights are widened in registers (a shift, an and): two cheap operations beside 12 to 24
 * multiply-adds. 2·rows·columns·depth flop at 85 to 90 % of the FMA peak.
 * Few rows: the weights are read once from memory, as fast as memory gives them: several panels side by
 * side, so that enough sums are under way, and prefetches ahead of each.
 */
#ifndef CENTO_BACKEND_CPU_GEMM_BODY_H
#define CENTO_BACKEND_CPU_GEMM_BODY_H

#include "convert.h"
#include "kernels.h"
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
#define ROW_BLOCK_TILES (240 / TILE_ROWS)
/* From so many rows on a slice of bf16 weights is widened once for all of them, in L1; 0: never, where there
 * are registers enough to widen on the way. */
#if VEC_WIDTH == 16
#define WIDEN_ROWS_MIN 0
#else
#define WIDEN_ROWS_MIN 12
#endif

/* sum[r][v] += activations · weights over `words` words. Activation k of row r stands at
 * x[r · row_stride + k · depth_stride] (k counts pairs for GEMM_PAIRS). Constants after inlining: rows,
 * vectors, kind, prefetch, and mostly the strides. */
VEC_INLINE void tile_sum(const int rows, const int vectors, const gemm_kind kind, const void *activations,
                         size_t row_stride, size_t depth_stride, const uint32_t *const *weights,
                         size_t stride, uint32_t words, const bool prefetch,
                         vf sum[TILE_ROWS][STREAM_VECTORS]) {
    const float *x = activations;
    for (uint32_t w = 0; w < words; w++) {
        size_t at = (size_t)w * stride;
        if (prefetch)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v += VEC_WIDTH == 16 ? 1 : 2)
                __builtin_prefetch(weights[v] + at + (vectors == STREAM_VECTORS ? 64 : 256), 0, 1);
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
                         const uint32_t *const *weights, size_t stride, uint32_t words, const bool prefetch,
                         const tile_output *output) {
    vf sum[TILE_ROWS][STREAM_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vf_zero();
    if (!prefetch) /* y is written at the end: fetched meanwhile */
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            __builtin_prefetch(output->y + (size_t)r * output->y_stride, 1, 3);
    tile_sum(rows, vectors, kind, packed, 1, (size_t)rows, weights, stride, words, prefetch, sum);
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

static void pack_rows(gemm_kind kind, const float *x, uint32_t rows, uint32_t depth, uint32_t tile_begin,
                      uint32_t tile_end, void *packed) {
    for (uint32_t k = 0; k < depth; k += GEMM_DEPTH) {
        uint32_t count = depth - k < GEMM_DEPTH ? depth - k : GEMM_DEPTH;
        uint32_t words = packed_words(kind, count);
        uint32_t *block = (uint32_t *)packed + (size_t)packed_words(kind, k) * rows;
        for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
            uint32_t row = tile * TILE_ROWS;
            uint32_t tile_rows = rows - row < TILE_ROWS ? rows - row : TILE_ROWS;
            uint32_t *out = block + (size_t)row * words;
            for (uint32_t r = 0; r < tile_rows; r++) {
                const float *from = x + (size_t)(row + r) * depth + k;
                if (kind == GEMM_PAIRS) {
                    for (uint32_t w = 0; w < words; w++)
                        out[w * tile_rows + r] =
                            (uint32_t)bf16_of_f32(from[2 * w]) |
                            (2 * w + 1 < count ? (uint32_t)bf16_of_f32(from[2 * w + 1]) << 16 : 0u);
                } else {
                    for (uint32_t w = 0; w < count; w++)
                        out[w * tile_rows + r] = bits_of_f32(from[w]);
                    if (words > count)
                        out[count * tile_rows + r] = 0;
                }
            }
        }
    }
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
    uint32_t column = vector * VEC_WIDTH;
    for (uint32_t k = 0; k < job->depth; k += GEMM_DEPTH) {
        uint32_t count = job->depth - k < GEMM_DEPTH ? job->depth - k : GEMM_DEPTH;
        uint32_t words = words_of_depth(kind, count);
        const uint32_t *packed =
            (const uint32_t *)job->packed_rows + (size_t)packed_words(kind, k) * job->rows;
        tile_output output = output_at(job, 0, column, k == 0);
        tile_run(rows, vectors, kind, packed, weights, PANEL_WIDTH, words, true, &output);
        for (int v = 0; v < vectors; v++)
            weights[v] += (size_t)words * PANEL_WIDTH;
    }
}

VEC_INLINE void stream_columns(const gemm_job *job, const gemm_kind kind, uint32_t begin, uint32_t end) {
    uint32_t vector = begin;
    if (job->rows == 1)
        for (; vector + STREAM_VECTORS <= end; vector += STREAM_VECTORS)
            stream_tile(job, kind, 1, STREAM_VECTORS, vector);
    if (job->rows == 2)
        for (; vector + STREAM_VECTORS / 2 <= end; vector += STREAM_VECTORS / 2)
            stream_tile(job, kind, 2, STREAM_VECTORS / 2, vector);
    for (; vector < end; vector += TILE_VECTORS) {
        if (vector * VEC_WIDTH >= job->columns)
            break;
#define STREAM_TILE(rows) stream_tile(job, kind, rows, TILE_VECTORS, vector)
        TILE_ROWS_SWITCH(job->rows, STREAM_TILE)
#undef STREAM_TILE
    }
}

/* Vectors of a panel slice from bf16 pairs to f32: [k][TILE_VECTORS vectors]. */
VEC_INLINE void widen_slice(const uint32_t *const *weights, uint32_t words, float *widened) {
    for (uint32_t w = 0; w < words; w++)
#pragma GCC unroll 2
        for (int v = 0; v < TILE_VECTORS; v++) {
            vu pair = vu_load(weights[v] + (size_t)w * PANEL_WIDTH);
            vf_store(widened + ((2 * w) * TILE_VECTORS + v) * VEC_WIDTH, vf_bf16_low(pair));
            vf_store(widened + ((2 * w + 1) * TILE_VECTORS + v) * VEC_WIDTH, vf_bf16_high(pair));
        }
}

#if WIDEN_ROWS_MIN
static void tile_widened(uint32_t rows, const void *x, const uint32_t *const *weights, uint32_t depth,
                         const tile_output *output) {
#define WIDENED_TILE(rows)                                                                                   \
    tile_run(rows, TILE_VECTORS, GEMM_F32, x, weights, TILE_VECTORS *VEC_WIDTH, depth, false, output)
    TILE_ROWS_SWITCH(rows, WIDENED_TILE)
#undef WIDENED_TILE
}
#endif

/* A row block against the panels: depth block by depth block, so that its packed rows stay in L2. */
VEC_INLINE void block_columns(const gemm_job *job, const gemm_kind kind, uint32_t begin, uint32_t end,
                              uint32_t row_begin, uint32_t row_end) {
    uint32_t panel_words = words_of_depth(kind, job->depth) * PANEL_WIDTH;
#if WIDEN_ROWS_MIN
    float widened[GEMM_DEPTH * TILE_VECTORS * VEC_WIDTH];
    bool widen = kind == GEMM_BF16 && row_end - row_begin >= WIDEN_ROWS_MIN;
#endif
    for (uint32_t k = 0; k < job->depth; k += GEMM_DEPTH) {
        uint32_t count = job->depth - k < GEMM_DEPTH ? job->depth - k : GEMM_DEPTH;
        uint32_t words = words_of_depth(kind, count);
        const uint32_t *packed =
            (const uint32_t *)job->packed_rows + (size_t)packed_words(kind, k) * job->rows;
        for (uint32_t vector = begin; vector < end && vector * VEC_WIDTH < job->columns;
             vector += TILE_VECTORS) {
            const uint32_t *weights[STREAM_VECTORS];
            for (int v = 0; v < TILE_VECTORS; v++)
                weights[v] = vector_words(job, panel_words, vector + (uint32_t)v) +
                             (size_t)words_of_depth(kind, k) * PANEL_WIDTH;
#if WIDEN_ROWS_MIN
            if (widen) {
                widen_slice(weights, words, widened);
                for (int v = 0; v < TILE_VECTORS; v++)
                    weights[v] = (const uint32_t *)(const void *)(widened + v * VEC_WIDTH);
            }
#endif
            for (uint32_t row = row_begin; row < row_end; row += TILE_ROWS) {
                tile_output output = output_at(job, row, vector * VEC_WIDTH, k == 0);
                const uint32_t *x = packed + (size_t)row * packed_words(kind, count);
                uint32_t rows = row_end - row < TILE_ROWS ? row_end - row : TILE_ROWS;
#if WIDEN_ROWS_MIN
                if (widen) {
                    tile_widened(rows, x, weights, words * 2, &output);
                    continue;
                }
#endif
#define BLOCK_TILE(rows) tile_run(rows, TILE_VECTORS, kind, x, weights, PANEL_WIDTH, words, false, &output)
                TILE_ROWS_SWITCH(rows, BLOCK_TILE)
#undef BLOCK_TILE
            }
        }
    }
}

VEC_INLINE void gemm_of_kind(const gemm_job *job, const gemm_kind kind, uint32_t panel_begin,
                             uint32_t panel_end, uint32_t row_begin, uint32_t row_end) {
    uint32_t begin = panel_begin * PANEL_VECTORS, end = panel_end * PANEL_VECTORS;
    if (job->rows <= TILE_ROWS)
        stream_columns(job, kind, begin, end);
    else
        for (uint32_t row = row_begin; row < row_end; row += ROW_BLOCK_TILES * TILE_ROWS) {
            uint32_t block_end =
                row_end - row < ROW_BLOCK_TILES * TILE_ROWS ? row_end : row + ROW_BLOCK_TILES * TILE_ROWS;
            block_columns(job, kind, begin, end, row, block_end);
        }
}

static void gemm_f32(const gemm_job *job, uint32_t panel_begin, uint32_t panel_end, uint32_t row_begin,
                     uint32_t row_end) {
    gemm_of_kind(job, GEMM_F32, panel_begin, panel_end, row_begin, row_end);
}

static void gemm_bf16(const gemm_job *job, uint32_t panel_begin, uint32_t panel_end, uint32_t row_begin,
                      uint32_t row_end) {
    gemm_of_kind(job, GEMM_BF16, panel_begin, panel_end, row_begin, row_end);
}

#if defined(__AVX512BF16__)
static void gemm_pairs(const gemm_job *job, uint32_t panel_begin, uint32_t panel_end, uint32_t row_begin,
                       uint32_t row_end) {
    gemm_of_kind(job, GEMM_PAIRS, panel_begin, panel_end, row_begin, row_end);
}
#endif

static void gemm(const gemm_job *job, uint32_t panel_begin, uint32_t panel_end, uint32_t row_begin,
                 uint32_t row_end) {
    if (job->kind == GEMM_F32)
        gemm_f32(job, panel_begin, panel_end, row_begin, row_end);
    else if (job->kind == GEMM_BF16)
        gemm_bf16(job, panel_begin, panel_end, row_begin, row_end);
#if defined(__AVX512BF16__)
    else
        gemm_pairs(job, panel_begin, panel_end, row_begin, row_end);
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
