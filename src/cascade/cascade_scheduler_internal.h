/*
 * What the files of the scheduler share: cascade_scheduler.c (queues, admission, preemption, life),
 * cascade_scheduler_claims.c (what one sequence holds, and the spans of it), cascade_scheduler_rows.c (the
 * rows of a step), cascade_scheduler_check.c (statistics, invariants).
 */
#ifndef CENTO_CASCADE_CASCADE_SCHEDULER_INTERNAL_H
#define CENTO_CASCADE_CASCADE_SCHEDULER_INTERNAL_H

#include "cascade_scheduler.h"

#define OVERTAKEN_MAX 16
#define FILTER_BITS   65536

/* A span of a sequence, up to where it may grow; cut where the step's last row stands. */
typedef struct cached_span {
    kv_span span;
    bool own; /* of the own run, whose list of pages moves as it grows */
} cached_span;

/* Something that another sequence may have too: a beginning of the prompt, or a chunk computed apart. */
typedef struct share_mark {
    uint64_t hash;
    uint32_t tokens;
} share_mark;

typedef struct sequence_claims {
    uint64_t number;         /* of the submission */
    uint64_t admitted_step;  /* the step that admitted it last */
    uint64_t preempted_step; /* the step that preempted it last; 0: never */
    bool waits_preempted;    /* it waits because it was preempted */

    prefix_cut *cuts; /* (layout->cut_count) where nodes of the path end */

    /* Held while admitted. */
    prefix_node *leaf;    /* of the path in the tree; a reference */
    uint32_t path_tokens; /* [0, path_tokens) are on the path: the layout's, or more where more was found */
    prefix_node **path;   /* (path_count) from the root on, as of `splits` */
    uint32_t path_count;
    size_t path_capacity;
    uint64_t splits;
    uint32_t path_done; /* leading nodes that are scheduled to their ends */
    chunk_kv **kvs;     /* (layout->node_count), references */
    page_run *own;
    uint32_t own_ready, own_scheduled; /* tokens of it; equal between steps */

    cached_span *spans; /* (span_count) by position */
    size_t span_count, span_capacity;
    share_mark *marks; /* (mark_count) */
    size_t mark_count;
} sequence_claims;

/* Rows of one stretch of KV in the step under way. */
typedef struct step_item {
    cascade_sequence *sequence;  /* that brought them */
    chunk_kv *kv;                /* NULL: its own run */
    uint32_t token_begin, count; /* of the sequence's tokens */
    bool repeats_last;           /* the row whose KV nobody else sees */
} step_item;

/* What a copy fills: counted as ready, although the copy is yet to be executed. */
typedef struct copy_target {
    cascade_sequence *sequence;
    bool path; /* the beginning of a node of its path; else of its own run */
} copy_target;

struct cascade_scheduler {
    scheduler_options options;
    chunk_registry *registry;
    prefix_tree *tree;
    const page_manager *pages; /* what never changes of it may be read without the registry's lock */

    cascade_sequence *waiting_first, *waiting_last; /* by priority; preempted ones first; by age */
    uint32_t waiting_count, waiting_preempted;
    cascade_sequence **running; /* (running_count) by priority and age; the last one is preempted first */
    uint32_t running_count;
    uint64_t number; /* of the last submission */

    /* The head of the queue found no pages: not tried again before something changed. */
    const cascade_sequence *blocked;
    uint64_t blocked_step, blocked_events, events;
    uint32_t blocked_available;
    uint32_t pages_preempted; /* by this step: sequences may have that much, whatever the chunks' share */
    uint64_t *filter;         /* (FILTER_BITS / 64) marks of the running */

    /* The step under way. */
    bool under_way;
    bool failed_reported;
    uint32_t row_count, group_count, span_count, copy_count, logit_count, completed_count, failed_count,
        item_count, decode_rows;
    int32_t *tokens; /* these have max_batched_tokens elements */
    uint32_t *positions;
    uint32_t *kv_slots;
    row_group *groups;
    step_item *items;
    kv_span *spans;
    size_t span_capacity;
    kv_copy *copies; /* these have 2 · max_sequences */
    copy_target *copy_targets;
    uint32_t *logit_rows; /* these have max_sequences */
    cascade_sequence **logit_sequences, **completed, **failed;
    cento_error failure;
    const cascade_sequence *open_group; /* whose rows in place the last group has */

    scheduler_stats stats;
};

static inline uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static inline uint32_t max_u32(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* Index in the own run of the token at `position`, an own one behind all segments. */
static inline uint32_t own_index(const cascade_sequence *sequence, uint32_t position) {
    const cascade_layout *layout = sequence->layout;
    return layout->own_on_path ? position - sequence->claims->path_tokens
                               : position - layout->prompt_tokens + layout->own_tokens;
}

/* ---- cascade_scheduler_claims.c ---- */

cento_status claims_create(const cascade_sequence *sequence, sequence_claims **result, cento_error *error);
void claims_free(sequence_claims *claims);
/* Pages that a claim would take now, on either side; never less than it does take, but for what is evicted
 * meanwhile. */
void claims_estimate(const cascade_scheduler *scheduler, const cascade_sequence *sequence,
                     uint32_t *chunk_pages, uint32_t *own_pages);
/* All that the sequence's prompt (and answer so far) needs, or nothing: POOL_FULL, OUT_OF_MEMORY. */
cento_status claims_take(cascade_scheduler *scheduler, cascade_sequence *sequence, cento_error *error);
/* Pages for the own run; see pages_preempted. */
cento_status claims_grow_own(cascade_scheduler *scheduler, cascade_sequence *sequence, uint32_t page_count,
                             bool alone, cento_error *error);
/* No copy of the step under way was executed: what they would have filled is missing. */
void claims_reset_copies(cascade_scheduler *scheduler);
/* kept: its own run goes to the tree, as part of `chunk` (may be NULL). */
void claims_drop(cascade_scheduler *scheduler, cascade_sequence *sequence, bool kept, context_chunk *chunk);
/* Path and spans are as the tree has them now. */
cento_status claims_refresh(cascade_scheduler *scheduler, cascade_sequence *sequence, cento_error *error);
/* At most so many spans will the sequence bring into one step. */
size_t claims_span_bound(const cascade_sequence *sequence);

/* ---- cascade_scheduler_rows.c ---- */

/* Lays out the rows of all running sequences; nothing in it can fail. */
void rows_lay_out(cascade_scheduler *scheduler);
void rows_computed(cascade_scheduler *scheduler, bool succeeded);

#endif
