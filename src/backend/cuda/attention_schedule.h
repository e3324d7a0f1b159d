/*
 * attention_schedule: a plan (cascade/cascade_plan.h) as work for a fixed number of workers (CTAs) in one
 * launch.
 *
 *   plan             tasks of the same rows on consecutive cells; private cells of a fold
 *     ↓ streams      keys that the same rows see in one rotation, read without a stop; rows gathered by list
 *     ↓ items        a tile of a stream's rows, one KV head, a range of keys: what one worker does in one go;
 *                    its state is one partial
 *
 * Streams are cut into tiles of 16, 32, 64 or 128 packed rows (token × query head of the group), and tiles
 * along the keys, so that every worker takes about the same time by what was measured of each. The largest
 * tiles go first. When a worker has done its items it merges its part of the rows, whoever computed their
 * states.
 *
 * A row with one partial per KV head is written directly, unless another row of its tile has more. Else it
 * has a merge unit for each KV head: the list of its partials, folded in list order when all have arrived.
 * Same plan, same schedule, same bits.
 *
 * Partial states lie in a workspace of f32: (partial_count, 2) maximum and total, then from
 * header.partial_out (partial_count, head_dim) outputs, not divided by the total.
 *
 * The result is one block of 32-bit words to be copied to the device as it is. Plain C, no CUDA: engine
 * thread.
 */
#ifndef CENTO_BACKEND_CUDA_ATTENTION_SCHEDULE_H
#define CENTO_BACKEND_CUDA_ATTENTION_SCHEDULE_H

#ifdef __cplusplus
extern "C" {
#endif

#include "cascade/cascade_plan.h"

#define SCHEDULE_BLOCK_KEYS 64
#define SCHEDULE_NONE       UINT32_MAX

/* Keys [key_begin, key_end) of a stream: key k is token at = offset + (k - key_begin) of pages
 * page_ids[page_begin + at / page_tokens]. */
typedef struct schedule_segment {
    uint32_t page_begin, offset;
    uint32_t key_begin, key_end;
} schedule_segment;

/* A row of the batch as it sees a stream. */
typedef struct schedule_row {
    uint32_t row;
    int32_t rotation;
    int32_t seen_end; /* sees keys [max(0, seen_end - window), seen_end) of the stream */
    uint32_t unit;    /* + KV head, mod 2^32: its merge unit in that head, if it has one */
} schedule_row;

typedef enum schedule_shape {
    SCHEDULE_ROWS_16,
    SCHEDULE_ROWS_32,
    SCHEDULE_ROWS_64,
    SCHEDULE_ROWS_128
} schedule_shape;

/* Four vectors of 16 bytes. */
typedef struct schedule_item {
    uint32_t key_begin, key_end; /* of the stream; begins at a multiple of SCHEDULE_BLOCK_KEYS, or at the
                                  * first key that a row sees */
    uint32_t kv_head;
    uint32_t segment_begin;        /* the one that key_begin lies in */
    schedule_segment first;        /* a copy of it */
    uint32_t row_begin, row_count; /* in rows */
    uint32_t shape;                /* schedule_shape */
    uint32_t partial; /* partial state of its first packed row; SCHEDULE_NONE: written directly */
    uint32_t full_begin, full_end; /* keys that all of its rows see */
    uint32_t first_row;            /* of the batch: what its first row is */
    uint32_t unused;
} schedule_item;

/* At the block's beginning; offsets in words from there, multiples of 4. */
typedef struct schedule_header {
    uint32_t words;                                          /* of the block */
    uint32_t workers, item_count, unit_count, partial_count; /* partial: of one packed row */
    uint32_t zero_row_count;                                 /* rows that see nothing: output is zeros */
    uint32_t work_begin; /* (workers + 1) items of a worker; behind the header */
    uint32_t items;      /* (item_count) schedule_item */
    uint32_t rows;       /* schedule_row */
    uint32_t segments;   /* schedule_segment */
    uint32_t page_ids;
    uint32_t unit_begin;    /* (unit_count + 1) in unit_partials */
    uint32_t unit_partials; /* partials of the unit's first packed row */
    uint32_t zero_rows;
    uint32_t unit_partials_most; /* of one unit */
    uint32_t unit_rows;          /* (unit_count) row of the batch and KV head */
    uint32_t unused[3];
    uint32_t partial_out; /* where outputs begin in the workspace, in floats; maxima and totals from 0 */
} schedule_header;

/* What a kernel takes on its own for each shape, in us: a block of SCHEDULE_BLOCK_KEYS keys, and an item
 * beside its blocks; and the least blocks of a piece of a tile that is cut. */
typedef struct schedule_costs {
    double block_us[4], item_us[4];
    uint32_t piece_blocks[4];
} schedule_costs;

typedef struct schedule_options {
    uint32_t workers;
    uint32_t kv_heads, heads_per_kv; /* heads_per_kv at most 128 */
    uint32_t window;                 /* the layer's; the plan's is the same or none */
    const schedule_costs *costs;     /* of the kernel; NULL: attention_mma's */
} schedule_options;

typedef struct attention_schedule attention_schedule;

cento_status attention_schedule_create(attention_schedule **result, cento_error *error);
void attention_schedule_free(attention_schedule *schedule); /* NULL is allowed */
/* *block: of header.words words, valid until the next build. Grows its memory where it has to. */
cento_status attention_schedule_build(attention_schedule *schedule, const schedule_options *options,
                                      const cascade_plan *plan, const uint32_t *positions,
                                      const uint32_t **block, cento_error *error);

/* Of the workspace for partial states. */
static inline size_t schedule_workspace_bytes(const schedule_header *header, uint32_t head_dim) {
    return (header->partial_out + (size_t)header->partial_count * head_dim) * sizeof(float);
}

static inline const schedule_header *schedule_header_of(const uint32_t *block) {
    return (const schedule_header *)(const void *)block;
}

#ifdef __cplusplus
}
#endif

#endif
