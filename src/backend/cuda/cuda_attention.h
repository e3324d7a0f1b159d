/*
 * cuda_attention: the simple attention on the GPU (attention_simple.cu), for every shape, and the plan as it
 * lies on the device for it. The boundary between the backend (cuda_attention.c), the plan's upload
 * (cuda_plan.c) and the kernel. What the fast one takes is in attention_schedule.h and attention_mma.h.
 *
 * A step's plan is one block: `cuda_plan_header`, then the tables it names by byte offset, in one copy to an
 * address that stays. A kernel that takes the block's address alone and reads counts and offsets from the
 * header can stand in a captured graph; `cuda_plan.header` is the host's copy, for the launch's size. What
 * cascade_plan holds by pointer (pages) is written out: a cell's sources name their pages in `page_ids`.
 *
 * Positions become what a kernel needs: for each slot (a row of a task) and each row of a private view which
 * keys of the cell it sees and by how much its query is rotated; nothing else depends on positions.
 *
 * Plain C: included by C and by CUDA C++. Engine thread only; everything runs in the call's stream.
 */
#ifndef CENTO_BACKEND_CUDA_CUDA_ATTENTION_H
#define CENTO_BACKEND_CUDA_CUDA_ATTENTION_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "backend/backend.h"

/* ------------------------------------------------------------------ the plan on the device ---------- */

/* Keys [key_begin, key_begin + key_count) of a cell: consecutive tokens of one run. Token i of the source
 * lies in page page_ids[page_begin + (token_offset + i) / page_tokens], at (token_offset + i) % page_tokens.
 */
typedef struct cuda_plan_source {
    uint32_t page_begin, token_offset;
    uint32_t key_begin, key_count;
} cuda_plan_source;

/* At most PLAN_CELL_TOKENS keys. */
typedef struct cuda_plan_cell {
    uint32_t source_begin, source_count;
    uint32_t key_count;
    uint32_t unused;
} cuda_plan_cell;

/* A cell as one row sees it: keys [seen_begin, seen_end) of the cell, query rotated by `rotation`. Nothing is
 * seen where both are 0. */
typedef struct cuda_plan_row {
    uint32_t row; /* of the batch */
    int32_t rotation;
    uint16_t seen_begin, seen_end;
} cuda_plan_row;

/* A cell computed ahead for slots [slot_begin, slot_begin + row_count): rows slot_rows[slot]. */
typedef struct cuda_plan_task {
    uint32_t cell;
    uint32_t slot_begin, row_count;
    uint32_t seen_end; /* the largest of its rows: keys from here on nobody reads */
} cuda_plan_task;

/* A cell as the rows of one fold see it, in the fold's order. slot PLAN_PRIVATE: computed while folding, row
 * i of the fold as private_rows[private_begin + i]; else its state is in slot + i. */
typedef struct cuda_plan_view {
    uint32_t cell;
    uint32_t slot;
    uint32_t private_begin;
    uint32_t seen_end; /* the largest of its rows */
} cuda_plan_view;

/* Rows of one group and its views in the order in which their states are folded. */
typedef struct cuda_plan_fold {
    uint32_t row_begin, row_count;
    uint32_t view_begin, view_count;
} cuda_plan_fold;

/* At the block's beginning. Tables by byte offset from there, each 16-byte aligned. */
typedef struct cuda_plan_header {
    uint32_t row_count; /* of the batch */
    uint32_t page_tokens;
    uint32_t source_count, cell_count, task_count, view_count, fold_count, slot_count;
    uint32_t private_count, page_id_count;
    uint32_t covered_count; /* rows that belong to a fold; the others' output is zeros */
    uint32_t bytes;         /* of the block */
    uint32_t sources, cells, tasks, views, folds; /* offsets */
    uint32_t slot_rows;                           /* (slot_count) cuda_plan_row */
    uint32_t private_rows;                        /* (private_count) cuda_plan_row */
    uint32_t page_ids;                            /* (page_id_count) uint32_t */
    uint32_t row_folds;                           /* (row_count) uint32_t: the row's fold, or UINT32_MAX */
    uint32_t unused[3];
} cuda_plan_header;

typedef struct cuda_plan {
    cuda_plan_header header; /* the host's copy */
    const char *block;       /* device memory; the address changes only when the block has to grow */
} cuda_plan;

/* ------------------------------------------------------------------ a call -------------------------- */

/* One layer's attention. All pointers but `plan` and `shape` are device memory. */
typedef struct cuda_attention_call {
    const attention_shape *shape;
    const cuda_plan *plan;
    const float *qkv; /* (rows, (heads + 2 kv_heads) · head_dim): q normalised and unrotated */
    float *out;       /* (rows, heads · head_dim); every row is written */
    void *out_bf16; /* the same in bf16, for the product that follows; NULL: not wanted. Of the same width */
    uint32_t rows;
    const double *turns; /* (head_dim / 2) inv_freq / π: see cuda_rope.cuh */
    float rope_factor;   /* on cos and sin of the query */
    const void *kv;      /* the layer's pages: [page][K|V][kv_head][token][head_dim] */
    bool kv_bf16;        /* else f32 */
    uint32_t page_tokens;
    void *workspace; /* 256-byte aligned; contents undefined */
    size_t workspace_bytes;
    cudaStream_t stream;
} cuda_attention_call;

/* attention_simple.cu: any head size, any page size, f32 or bf16 KV. Asynchronous; CENTO_BACKEND with the
 * driver's words when a launch fails. */
cento_status cuda_attention_simple(const cuda_attention_call *call, cento_error *error);
/* Workspace that a call wants; with less it takes several launches. */
size_t cuda_attention_simple_workspace(const cuda_attention_call *call);

#ifdef __cplusplus
}
#endif

#endif
