/*
 * generation: one request under way. Made by the thread that submits (generation_create, in this order:
 * check, copy, prompt, layout, room; then what the answer will need), computed by the engine's thread
 * (loop.c), read by the thread that waits. Everything that its steps and its end will need is allocated when
 * it is submitted, so that neither can fail for lack of memory, but for logprobs, which grow by doubling.
 *
 *   submit ─→ inbox ─→ live: WAITING → PREFILL → DECODE → (RETAINING) ─→ finished ─→ ended
 *   (caller's thread)  (engine's thread; states are the scheduler's)                (whoever waits)
 *
 * Two references: one of the caller, until cento_generation_free, and one of the engine's thread, until it
 * has ended. The engine must not be touched by the caller's side once `ended` is set: it may be closed.
 *
 * Locks are taken in the order generation.lock, hook's lock, engine.lock; the engine's thread takes a
 * generation's lock while it holds none.
 */
#ifndef CENTO_ENGINE_GENERATION_H
#define CENTO_ENGINE_GENERATION_H

#include "answer_text.h"
#include "engine.h"

/* A result and what it owns beside what it points to. */
typedef struct result_storage {
    cento_result result; /* first */
    int32_t *tokens;     /* prompt and answer, of which result.tokens is the end; owned */
} result_storage;

/* An answer without its thoughts, being computed behind the prompt (retention.c). */
typedef struct retention {
    int32_t *tokens; /* prompt and kept part of the answer */
    uint32_t token_count;
    layout_part *parts;     /* of the prompt, and one */
    context_chunk **chunks; /* by part; the last one is our reference */
    layout_options options;
    digest content_id; /* of the kept part */
    cascade_layout layout;
    cascade_sequence sequence;
    bool submitted; /* to the scheduler */
} retention;

struct cento_generation {
    cento_engine *engine;
    atomic_int refs;
    bool internal; /* no request: a chunk computed alone */

    /* constant after submission, but what the engine's thread is said to change */
    cento_request request;      /* pieces NULL; strings and lists are copies, owned */
    cento_progress_fn progress; /* the engine's; NULL: none is wanted */
    void *progress_user;
    int32_t *tokens; /* (prompt_tokens + answer_tokens_max); owned, until the result has it */
    uint32_t prompt_tokens;
    uint32_t answer_tokens_max; /* 0: internal */
    layout_part *parts;         /* (part_count), owned */
    size_t part_count;
    context_chunk **chunks; /* (part_count), references; NULL: none. Dropped by the engine's thread */
    layout_options options;
    cascade_layout layout;
    uint32_t *segment_cached; /* (layout.segment_count), owned: scratch of accounts and previews */
    unsigned int cancels;     /* engine.cancels when it was submitted */
    uint64_t start_ns;

    /* the engine's thread */
    cascade_sequence sequence;
    bool submitted; /* to the scheduler */
    bool counted;   /* in engine.waiting */
    sampler_state sampler;
    cento_token_logprob *logprobs; /* (answer tokens, 1 + request.logprobs), owned */
    size_t logprob_capacity;
    uint64_t rows_seen; /* rows_computed when a failed step was about to be taken back */
    uint64_t begin_ns, prefilled_ns, first_token_ns, end_ns;
    cento_status end_status; /* what it will have ended with */
    cento_error end_error;
    cento_finish finish;
    uint32_t cached_tokens;
    retention *kept; /* NULL: none under way */
    struct cento_generation *next, *before;

    atomic_bool cancel_wanted;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    answer_text text;
    uint32_t answer_tokens;
    uint32_t answer_tokens_shown;
    bool deltas_off; /* on_delta returned false */
    uint32_t progress_done, progress_shown;
    bool begun; /* admitted once, or being ended by the engine's thread: only that ends it now */
    bool ended;
    bool released; /* the engine's thread has dropped all that it held of it */
    bool result_taken;
    cento_status status; /* once ended */
    cento_error error;
    result_storage *result; /* made at submission; the caller's once taken */
    /* Called with the lock held when there is something to poll or it was admitted; NULL: none (batch.c) */
    void (*hook)(void *user, cento_generation *generation);
    void *hook_user;
    struct cento_generation *ready_next; /* the hook's */
    bool ready;                          /* the hook's */
    size_t batch_index;                  /* the hook's */
};

/* request.c. Checks a request, builds its prompt and lays it out. claim: registers its chunks and allocates
 * what computing it will need; else it is for looking only, and touches nothing. Dropped by
 * generation_release, after generation_drop_chunks. */
cento_status generation_create(cento_engine *engine, const cento_request *request, bool claim,
                               cento_generation **result, cento_error *error);
/* The same for a chunk alone; takes over the reference on it, also on failure. */
cento_status generation_create_alone(cento_engine *engine, context_chunk *chunk, cento_generation **result,
                                     cento_error *error);
void generation_drop_chunks(cento_generation *generation);
/* Parts as segments of a result, of which nothing is cached. (part_count) */
void generation_describe(const cento_generation *generation, cento_segment *segments);
/* Drops a reference. */
void generation_release(cento_generation *generation);

/* generation.c. generation_create with a place in the queue, which generation_submit fills: QUEUE_FULL,
 * CLOSED. */
cento_status generation_create_queued(cento_engine *engine, const cento_request *request,
                                      cento_generation **result, cento_error *error);
/* Queues it, with a place taken before (engine_enter_queue), and waits for nothing. */
void generation_submit(cento_generation *generation);
/* Somebody wants it to end. Any thread. */
bool generation_is_cancelled(const cento_generation *generation);

/* result.c: what the steps have cost and where every token came from, into generation->result. Engine thread,
 * while the sequence is still the scheduler's. INTERNAL if the accounts do not add up. */
cento_status result_account(cento_generation *generation, cento_error *error);
/* Hands text, tokens and logprobs over to the result. With the lock held, once it has ended. */
void result_complete(cento_generation *generation);
/* From segment_cached: what the parts' segments say of it, and the sums. */
typedef struct cached_sums {
    uint32_t exact, approximate, recomputed;
} cached_sums;
cached_sums result_describe_cached(const cento_generation *generation, cento_segment *segments);

/* retention.c. The answer is whole: its sequence leaves the scheduler, and what is to be kept of it is kept.
 * true: that has to be computed first, by a sequence that was submitted. Engine thread. */
bool retention_begin(cento_generation *generation);
/* It is computed, or not: in any case it is over. Does nothing where there is none. */
void retention_end(cento_generation *generation, bool computed);

#endif
