/*
 * cascade_scheduler: which rows each forward pass computes. Continuous batching (Orca; vLLM) over sequences
 * whose KV lies in shared runs. Engine thread only; no tensors: it hands out rows, slots, spans and copies,
 * so it is tested without a model.
 *
 * A sequence's life:   submit → WAITING → (admitted: claims KV) → PREFILL → DECODE → removed
 *                                  ↑_______ preempted: pages given back ____|
 *
 * One step:
 *   1. Admission. Waiting sequences are admitted by priority, then age, while there are pages for their
 * prompts and max_sequences allows. One whose runs are in use by running sequences may overtake others, but
 * nobody is overtaken more than overtaken_max times.
 *   2. Rows. Sequences in DECODE give a row each. What is left of max_batched_tokens is for prefill: first KV
 *      that several sequences need and that is missing (scheduled once, by whichever comes first: a kv's
 *      tokens_scheduled says how far), then the sequences by priority and age. A backend writes all rows'
 * keys of a layer before any row attends, so a sequence may go on behind what an earlier one has scheduled in
 * the same step: prompts that share a chunk are prefilled together in one pass.
 *   3. Pages. A sequence takes pages of its own as it grows. If there are none, nor KV that nobody uses to
 * evict, the lowest in priority and youngest sequence is preempted: its own run goes to the prefix tree
 * (where it may survive until it comes back), its references are dropped, it waits again at the head of its
 * priority and is later restored with the tokens that it has. A sequence that is alone and still gets none
 * fails.
 *
 * Every row's result is independent of its neighbours (see cascade_plan.h), so none of this changes an
 * answer.
 */
#ifndef CENTO_CASCADE_CASCADE_SCHEDULER_H
#define CENTO_CASCADE_CASCADE_SCHEDULER_H

#include "cascade_layout.h"
#include "cascade_plan.h"

typedef enum sequence_state {
    SEQUENCE_NEW = 0, /* not submitted, or removed */
    SEQUENCE_WAITING,
    SEQUENCE_PREFILL,
    SEQUENCE_DECODE,
} sequence_state;

typedef struct cascade_sequence {
    /* Set by the caller before submitting; constant until it is removed. */
    const cascade_layout *layout;  /* borrowed */
    const layout_options *options; /* borrowed; for the own node's name */
    context_chunk *const *chunks;  /* by part of the layout; references held by the caller; NULL: none */
    int32_t *tokens;               /* (token_capacity) prompt, then answer; borrowed, written by accept */
    uint32_t token_capacity;       /* prompt_tokens + answer_tokens_max */
    uint32_t prompt_tokens;
    uint32_t answer_tokens_max; /* 0: prefill only, no logits */
    int32_t priority;           /* larger goes first */
    void *user;

    /* Readable by the caller. */
    sequence_state state;
    uint32_t token_count; /* prompt and answer */
    uint32_t
        computed_count; /* of these, in this admission: tokens whose KV is there or in the step under way */
    uint64_t rows_computed; /* rows that this sequence brought into steps, since submission */
    uint8_t *row_counts; /* (prompt_tokens), owned: how often (at most 255) this sequence computed that token;
                          * tokens of a chunk computed apart count at its first place in the prompt */
    uint32_t preemptions;
    uint32_t waited_steps, overtaken;
    uint64_t admitted_ns; /* clock_now_ns; 0: not yet */

    struct sequence_claims *claims; /* private to the scheduler */
    struct cascade_sequence *next, *before;
} cascade_sequence;

typedef struct scheduler_options { /* max_sequences <= max_batched_tokens: whoever is admitted gets rows */
    uint32_t max_sequences;        /* admitted at a time */
    uint32_t max_batched_tokens;   /* rows of a step */
    uint32_t max_waiting;          /* submitted and not admitted */
    uint32_t overtaken_max;        /* 0: the default, 16 */
    uint32_t context_tokens_max;
    bool continuous; /* neighbouring runs of a path are one stretch (kv_span.continues): bit-equal however it
                        is cut */
} scheduler_options;

/* Rows of one forward pass; memory is the scheduler's and valid until the next call of step(). */
typedef struct cascade_step {
    uint32_t row_count; /* 0: nothing to compute; there may be copies, completed and failed ones */
    int32_t *tokens;
    uint32_t *positions;
    uint32_t *kv_slots;
    row_group *groups;
    uint32_t group_count;
    kv_span *spans;
    uint32_t span_count; /* grows with what is admitted: the caller sees that its plan has room */
    kv_copy *copies;     /* to be executed first, in this order; also where no rows follow */
    uint32_t copy_count;
    uint32_t *logit_rows;               /* rows after which a token is to be sampled, */
    cascade_sequence **logit_sequences; /* and for whom; ends with accept or remove for each */
    uint32_t logit_count;
    cascade_sequence *
        *completed; /* prefill-only sequences that this step completes; the caller removes them */
    uint32_t completed_count;
    cascade_sequence **failed; /* cannot go on (POOL_FULL); already removed */
    uint32_t failed_count;
    cento_error failure; /* of the failed ones */
    uint32_t decode_rows, prefill_rows;
} cascade_step;

typedef struct scheduler_stats {
    uint32_t waiting, running;
    uint64_t steps, rows, admissions, preemptions, restorations, overtakings;
    uint64_t logical_tokens;   /* KV tokens that the admitted sequences would hold alone, now */
    uint32_t pages_referenced; /* distinct pages that they hold together, now */
} scheduler_stats;

typedef struct cascade_scheduler cascade_scheduler;

cento_status cascade_scheduler_create(const scheduler_options *options, chunk_registry *registry,
                                      prefix_tree *tree, cascade_scheduler **result, cento_error *error);
/* All sequences must have been removed. */
void cascade_scheduler_free(cascade_scheduler *scheduler);

/* POOL_FULL, with the numbers, if prompt and at least one token of answer can never fit; QUEUE_FULL; the
 * sequence is then as before. Allocates what the sequence will need, so that steps allocate nothing for it.
 */
cento_status cascade_scheduler_submit(cascade_scheduler *scheduler, cascade_sequence *sequence,
                                      cento_error *error);
/* Plans the next step. Fails only by what is nobody's fault (OUT_OF_MEMORY), with nothing scheduled. */
cento_status cascade_scheduler_step(cascade_scheduler *scheduler, cascade_step *step, cento_error *error);
/* The step's forward pass has succeeded (KV of its rows is there), or not (as if it had not been planned). */
void cascade_scheduler_computed(cascade_scheduler *scheduler, const cascade_step *step, bool succeeded);
/* The token sampled for a sequence of logit_sequences; it is computed in a later step. Must leave room:
 * token_count < token_capacity. */
void cascade_scheduler_accept(cascade_scheduler *scheduler, cascade_sequence *sequence, int32_t token);
/* Ends a sequence in any state, between steps: finished, cancelled or failed. keep: its own run is handed to
 * the prefix tree (or, behind chunks computed apart, to the registry under its name), as part of `chunk` (may
 * be NULL), kind OUTPUT; best effort. */
void cascade_scheduler_remove(cascade_scheduler *scheduler, cascade_sequence *sequence, bool keep,
                              context_chunk *chunk);
void cascade_scheduler_read_stats(const cascade_scheduler *scheduler, scheduler_stats *stats);
/* INTERNAL, with what is wrong, unless claims, references, queues, counters and page ownership agree; checks
 * registry, prefix tree and page manager as well. */
cento_status cascade_scheduler_check(cascade_scheduler *scheduler, cento_error *error);

#endif
