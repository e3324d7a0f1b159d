/*
 * cascade_plan: one step's attention work, laid out once and run by every layer.
 *
 * What comes in is a list of row groups (the rows that one sequence computes in this step) and for each the
 * spans of keys that it sees, in the order in which they stand in its prompt. FlashInfer's cascade needs the
 * batch to be a tree; compositions are none: two sequences may share chunk B and C but not A, in different
 * orders. Since attention states merge in any order (Flash-Decoding; Hydragen, arXiv:2402.05099), the list is
 * transposed instead: keys are cut into cells, and each cell that several groups read becomes one task with
 * the list of all views on it.
 *
 *   groups   spans                          cells                     views
 *   g0       [sys 0..300)[doc A][own]       sys   0..300              g0 g1 g2        a task (level 0)
 *   g1       [sys 0..300)[doc B][doc A]     doc A 0..512, 512..700    g0 g1           two tasks (level 1)
 *   g2       [sys 0..300)[own]              doc B, own …              one group each  private (level 2)
 *
 * Cells. A cell is at most PLAN_CELL_TOKENS keys of one stretch: a span, or several spans of which each but
 * the first has `continues` set. Cells begin at multiples of PLAN_CELL_TOKENS, counted from the first token
 * of the run in which the stretch begins. Two groups share a cell iff its keys are the same tokens of the
 * same pages; where spans of two groups are cut from the same run at different places, the equal cells are
 * shared and the others are not.
 *
 * The result does not depend on what is shared: every cell's state starts from the empty state, and the
 * states of a row are folded left to right in the order of its cells, whoever computed them. So a plan with
 * sharing, one without, and any number of threads give the same bits, and with `continues` on neighbouring
 * runs of an exact path also any cutting of that path into runs does.
 *
 * A cell that only one group reads, even twice, is not shared. A view with so many rows that they fill tiles
 * of their own gains nothing by sharing (reading the keys is not what costs) and is kept private; so is a
 * cell whose saved reads cost less than a task does (plan_costs).
 *
 * Fixed capacity, sized at creation: building allocates nothing and fails only if the capacity is exceeded.
 * No arithmetic on tensors; engine thread only. The backend runs it: see backend.h, `attention`.
 */
#ifndef CENTO_CASCADE_CASCADE_PLAN_H
#define CENTO_CASCADE_CASCADE_PLAN_H

#include "base/status.h"

#define PLAN_CELL_TOKENS 512
#define PLAN_PRIVATE     UINT32_MAX
#define PLAN_LEVELS      3

/*
 * One run of keys as one group of rows sees it. Key token_begin + i stands at global position
 * `position + i`; a row at position p sees it iff p - window < position + i <= p (window 0: no window).
 * Keys are stored rotated for some origin; a row at position p rotates its query by p - rotation_origin for
 * this span. 0: the keys were rotated for their global positions; a chunk computed apart that stands at
 * offset o and was stored from position 0 has rotation_origin o.
 */
typedef struct kv_span {
    const uint32_t *pages; /* page ids of the run; token t lies in pages[t / page_tokens]; borrowed. No other
                            * run holds pages[0], which therefore names the run */
    uint32_t token_begin, token_end;
    uint32_t position; /* global position of token_begin */
    bool continues;    /* its keys follow those of the group's previous span without a gap, with the same
                        * rotation_origin, and belong to one stretch with them */
    int64_t rotation_origin;
} kv_span;

/* Rows [row_begin, row_begin + row_count) of the batch, by ascending position, all of which attend to the
 * same spans as far as their positions let them. Groups are disjoint and by ascending row_begin. */
typedef struct row_group {
    uint32_t row_begin, row_count;
    uint32_t span_begin, span_count; /* in plan_input.spans */
} row_group;

typedef struct plan_input {
    const row_group *groups; /* (group_count) */
    uint32_t group_count;
    const kv_span *spans; /* (span_count) */
    uint32_t span_count;
    const uint32_t *positions; /* (row_count) of the batch's rows */
    uint32_t row_count;
    uint32_t heads_per_kv; /* query heads that share a KV head: rows of a tile = tokens × this */
    uint32_t window;       /* 0: none. Cells that no row of a group sees are left out */
} plan_input;

/* What sharing saves and costs, measured by the backend at start (backend_ops.plan_costs). */
typedef struct plan_costs {
    double key_read_ns; /* one more reader of one key and KV head: what sharing saves */
    double state_ns;    /* writing a partial state of one row of one head and folding it in again */
    double task_ns;     /* fixed cost of one more task and KV head */
} plan_costs;

typedef struct plan_options {
    uint32_t levels_max;  /* 1: share nothing; 2: only what all groups share; 3: everything */
    uint32_t page_count;  /* of the pool: page ids are below it */
    uint32_t page_tokens; /* of a page; a power of two */
    uint32_t rows_max;    /* of a batch; also the most groups */
    uint32_t spans_max;   /* of a step */
    uint32_t cells_max;   /* of a step: views on cells, distinct or not; 0: derived from the rest */
    uint32_t tile_rows;   /* rows (tokens × heads_per_kv) that fill a tile of the backend's kernels */
    uint32_t workers;     /* threads: private cells become tasks where there are too few for them */
    plan_costs costs;
} plan_options;

/* Consecutive keys of one run, a part of a cell. */
typedef struct plan_source {
    const uint32_t *pages;
    uint32_t token_begin, token_end;
} plan_source;

/* Keys that are read together. */
typedef struct plan_cell {
    uint32_t source_begin, source_count; /* in sources; in order */
    uint32_t key_count;
} plan_cell;

/* A cell as the rows of one group see it: mask and rotation. */
typedef struct plan_view {
    uint32_t cell;
    uint32_t position; /* global position of the cell's first key, for these rows */
    int64_t rotation_origin;
    uint32_t row_begin, row_count; /* of the batch */
    uint32_t slot; /* PLAN_PRIVATE, or the partial state of its first row: row i has slot + i */
} plan_view;

/* A cell whose state is computed ahead of the fold, for several views on it together. Their rows' slots are
 * consecutive, in the order of task_views. */
typedef struct plan_task {
    uint32_t cell;
    uint32_t view_begin, view_count; /* in task_views (indices of views), by ascending row */
    uint32_t row_count;              /* of all views */
} plan_task;

/* The rows of a group and its views in the order in which their states are folded. */
typedef struct plan_fold {
    uint32_t row_begin, row_count;
    uint32_t view_begin, view_count; /* in views; consecutive */
} plan_fold;

/* What the step reads; keys × KV heads of one layer. Level 0: shared by all groups, 1: by some, 2: by one. */
typedef struct plan_stats {
    uint64_t rows[PLAN_LEVELS];   /* (row, cell) pairs */
    uint64_t tokens[PLAN_LEVELS]; /* distinct keys */
    uint64_t keys_read;           /* as planned: each task and each private view once per tile of rows */
    uint64_t keys_read_unshared;  /* as a plan without tasks would */
} plan_stats;

typedef struct cascade_plan {
    plan_options options;
    uint64_t build_id;  /* another one at every build of any plan: a device knows by it what it holds */
    uint32_t row_count; /* of the batch */
    uint32_t window;
    plan_source *sources;
    plan_cell *cells;
    plan_view *views;
    uint32_t *task_views;
    plan_task *tasks; /* the costliest first */
    plan_fold *folds; /* one for each group */
    uint32_t source_count, cell_count, view_count, task_view_count, task_count, fold_count;
    uint32_t slot_count; /* partial states, each for one row of the batch and all heads */
    plan_stats stats;
    struct plan_workspace *workspace; /* buckets of the transpose; private to cascade_plan.c */
} cascade_plan;

cento_status cascade_plan_create(const plan_options *options, cascade_plan **result, cento_error *error);
void cascade_plan_free(cascade_plan *plan); /* NULL is allowed */
/* INVALID_ARGUMENT if the input contradicts itself or does not fit the capacity; the plan is empty then.
 * Linear in spans, cells and groups. */
cento_status cascade_plan_build(cascade_plan *plan, const plan_input *input, cento_error *error);
/* INTERNAL, with what is wrong, unless every group's keys are covered exactly once and in order, slots are
 * disjoint, and the statistics are those of the tables. For tests and debug builds. */
cento_status cascade_plan_check(const cascade_plan *plan, const plan_input *input, cento_error *error);

#endif
