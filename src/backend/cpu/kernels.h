/*
 * The table of kernels that exist once per instruction set. The bodies (gemm_body.h, rows_body.h,
 * attention_body.h) are written once over vec.h; kernels_NAME.c compiles them for one ISA each, and
 * backend_cpu.c chooses a table at run time. None of them starts threads or allocates: callers hand out
 * the work.
 */
#ifndef CENTO_BACKEND_CPU_KERNELS_H
#define CENTO_BACKEND_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Weights stand in panels of panel_width output features, as 32-bit words [panel][word][panel_width]. A word
 * is one f32 weight, or two bf16 weights of consecutive k (low half first; the pair layout that vdpbf16ps
 * and AMX read, and that oneDNN calls BA16a64b2a at 64 wide).
 *
 * Activations are packed in as few tiles as hold the rows, at most tile_rows in each, spread evenly: for each
 * block of GEMM_DEPTH k, for each tile, [k][rows in tile]; for `pairs`, words of two bf16,
 * [k / 2][rows in tile].
 *
 * An output is ((bias + y) + block sum) + block sum …, each block one chain over k: the same arithmetic
 * whatever the number of rows, so a row's result does not depend on its company.
 */
#define GEMM_DEPTH 256

typedef enum gemm_kind {
    GEMM_F32,   /* f32 activations, f32 weights */
    GEMM_BF16,  /* f32 activations, bf16 weights widened in registers: exact products */
    GEMM_PAIRS, /* bf16 activations, bf16 weights, vdpbf16ps */
} gemm_kind;

typedef struct gemm_job {
    gemm_kind kind;
    uint32_t rows, columns, depth;
    const void *packed_rows;
    const uint32_t *panels;
    const float *bias; /* (columns) or NULL */
    bool accumulate;
    float *y; /* (rows, columns) */
} gemm_job;

/*
 * The state of a tile of query rows of one KV head while it goes over keys: for each row the largest score
 * (base 2: scores are q·k·scale·log2 e), the sum of the weights 2^(score - largest), and the weighted sum of
 * values. No key yet: (-inf, 0, 0).
 */
#define ATTENTION_KEYS_MAX 256 /* of a block */

typedef struct attention_tile {
    uint32_t rows;
    uint32_t head_dim, dim_padded; /* dim_padded: a multiple of attention_kernels.width */
    bool bf16;                     /* what K and V are */
    float *queries;                /* by pack_queries */
    float *maximum, *total;        /* (rows) */
    float *out;                    /* (rows, dim_padded), columns in the kernels' order: see read_state */
    void *scratch;                 /* scratch_bytes, 64-byte aligned */
} attention_tile;

/* Keys and values in pages. Rows (head_dim) beyond `keys` are readable but do not count. */
typedef struct attention_block {
    uint32_t keys; /* 1 … attention_kernels.keys */
    bool fetched;  /* was `next` of the call before */
    const char *key_rows[ATTENTION_KEYS_MAX], *value_rows[ATTENTION_KEYS_MAX];
} attention_block;

/* A row's bits depend on its keys and how they are cut into blocks, never on the other rows of its tile. */
typedef struct attention_kernels {
    uint32_t keys;  /* of a block */
    uint32_t width; /* columns of a register tile */

    size_t (*scratch_bytes)(uint32_t dim_padded);
    /* Rotated and scaled queries (rows, head_dim) as attend_block wants them, in no more memory. */
    void (*pack_queries)(const float *queries, uint32_t rows, uint32_t head_dim, float *packed);
    /* Adds a block of keys to a tile. Row r sees keys [seen_begin[r], seen_end[r]) of the block. `next`, if
     * not NULL, is fetched into the cache meanwhile. */
    void (*attend_block)(const attention_tile *tile, const attention_block *block,
                         const attention_block *next, const int32_t *seen_begin, const int32_t *seen_end);
    /* to (head_dim) = factor · the columns of a row of `out`, in their own order; `bf16`: what V is. */
    void (*read_state)(const float *out, float factor, uint32_t head_dim, bool bf16, float *to);
} attention_kernels;

/* Rows are spread evenly over as few tiles as can be: 8 rows are 4 + 4, since 6 + 2 would leave the second
 * tile with too few sums under way. The first row of a tile, and the tile of a row. */
static inline uint32_t even_tile_row(uint32_t rows, uint32_t tile_rows, uint32_t tile) {
    uint32_t tiles = (rows + tile_rows - 1) / tile_rows, more = rows % tiles;
    return tile * (rows / tiles) + (tile < more ? tile : more);
}

static inline uint32_t even_tile_of(uint32_t rows, uint32_t tile_rows, uint32_t row) {
    uint32_t tiles = (rows + tile_rows - 1) / tile_rows, size = rows / tiles, more = rows % tiles;
    return row < more * (size + 1) ? row / (size + 1) : (row - more) / size;
}

typedef struct cpu_kernels {
    const char *name;
    uint32_t panel_width, tile_rows;
    uint32_t stream_panels; /* panels that one row reads side by side; two rows read half as many */
    bool pairs;             /* GEMM_PAIRS is there */

    /* x (rows, depth) into packed_rows: of its depth blocks × tiles, in this order, [begin, end). */
    void (*pack_rows)(gemm_kind kind, const float *x, uint32_t rows, uint32_t depth, uint32_t begin,
                      uint32_t end, void *packed);
    /* Columns of panels [panel_begin, panel_end) of y, rows of tiles [tile_begin, tile_end). */
    void (*gemm)(const gemm_job *job, uint32_t panel_begin, uint32_t panel_end, uint32_t tile_begin,
                 uint32_t tile_end);
    /* Sum of the words at `words`: memory read as fast as it can be (bench). */
    uint32_t (*read)(const uint32_t *words, size_t count);
    /* Multiply-adds in registers, as fast as they can be; returns their flop (bench). */
    uint64_t (*multiply)(size_t rounds, float *result);

    void (*rmsnorm)(const float *x, uint32_t width, const float *weight, float epsilon, float *y);
    void (*silu_mul)(const float *gate, const float *up, size_t count, float *y);
    void (*bf16_of_f32)(const float *x, size_t count, uint16_t *y);

    attention_kernels attention;
    /* One row's state += another; the empty state changes nothing. */
    void (*fold_state)(uint32_t dim_padded, float from_maximum, float from_total, const float *from_out,
                       float *maximum, float *total, float *out);
} cpu_kernels;

/* NULL where the compiler could not build them. */
extern const cpu_kernels *const kernels_portable, *const kernels_avx2, *const kernels_avx512,
                                                                           *const kernels_avx512bf16;

#endif
