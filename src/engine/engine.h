/*
 * engine: what cento_open makes. One model on one backend, one pool of KV pages, one registry, and one thread
 * (loop.c) that alone touches the backend and the scheduler. Other threads leave requests in the inbox and
 * take what has become of them from their generation (generation.h).
 */
#ifndef CENTO_ENGINE_ENGINE_H
#define CENTO_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cascade/cascade_scheduler.h"
#include "model/decoder.h"
#include "prompt.h"
#include "sampler.h"

/* Of an engine's options, with the defaults filled in. */
typedef struct engine_limits {
    uint32_t context_tokens_max;
    uint32_t page_count, page_tokens;
    uint32_t max_sequences, max_batched_tokens, max_waiting;
    uint32_t levels_max; /* of cascade plans */
    double chunk_page_ratio;
    bool chunk_page_borrow;
    uint32_t chunk_registry_size;
    uint64_t chunk_bytes_max;
} engine_limits;

/* What a backend that samples is asked in a step, and what it says. */
typedef struct step_samples {
    sample_row *rows;       /* (max_sequences), as all but `changes`; owned */
    sample_change *changes; /* (change_capacity), owned: grows by doubling */
    size_t change_capacity;
    int32_t *tokens;
    cento_token_logprob *logprobs; /* (max_sequences, logprobs_width) */
    size_t logprobs_width;         /* of the last step, at most 1 + SAMPLE_LOGPROBS_MAX */
} step_samples;

struct cento_engine {
    /* constant after opening */
    char *model_name;
    cento_dtype compute_dtype, kv_dtype;
    bool enable_reuse, deterministic;
    engine_limits limits;
    uint64_t page_bytes;
    uint64_t kv_pool_bytes;
    uint64_t weight_bytes;
    const char *backend_name; /* the backend's */
    double load_ms;
    model_config config;
    prompt_format format;
    cento_progress_fn on_progress;
    void *on_progress_user;

    /* callable from any thread */
    chunk_registry *registry;
    prefix_tree *tree;

    /* of the engine thread alone, once it runs */
    backend *device;
    decoder *model;
    backend_kv_pool *pool;
    page_manager *pages; /* guarded by the registry */
    cascade_scheduler *scheduler;
    sampler *sampler;
    cascade_plan *plan;        /* of layers without a window; of all, if all have one */
    cascade_plan *window_plan; /* NULL: all layers have the same window, or none */
    plan_options plan_sizes;
    float *logits;          /* (max_sequences, vocab_size); NULL: they stay on the device, which samples */
    step_samples samples;   /* of the device */
    cento_generation *live; /* taken from the inbox and not ended */
    cento_generation *finished; /* ended in the round under way, to be told when it is over */
    unsigned int cancels_seen;  /* of `cancels` */
    uint64_t admissions_seen;
    scheduler_stats scheduled; /* as of the step under way, or after it */
    cento_stats counted;       /* what this thread counts */

    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    cento_generation *inbox; /* guarded by lock, as all below but `cancels` */
    cento_generation **inbox_end;
    bool attention; /* a generation in `live` is to be cancelled */
    bool closing;
    uint32_t waiting;     /* submitted, and never admitted */
    cento_stats snapshot; /* `counted` after the last round */
    uint64_t salts;       /* private ones given out (enable_reuse false) */

    atomic_uint cancels; /* calls of cento_cancel, which in a signal handler sees only this */
};

/* What all kv ids of a request share; salt is borrowed. */
kv_scope engine_kv_scope(const cento_engine *engine, const char *salt);
const uint8_t *engine_tokenizer_fingerprint(const cento_engine *engine);

/* loop.c */
cento_status engine_start(cento_engine *engine, cento_error *error);
/* Ends everything with CENTO_CLOSED. */
void engine_stop(cento_engine *engine);
/* Takes a place in the queue, or QUEUE_FULL; engine_leave_queue, or engine_queue, for each. */
cento_status engine_enter_queue(cento_engine *engine, cento_error *error);
void engine_leave_queue(cento_engine *engine);
/* Hands a generation with a place in the queue over to the engine's thread. */
void engine_queue(cento_engine *engine, cento_generation *generation);

/* stats.c, engine thread: reads what the scheduler holds now; publishes what was counted. */
void engine_count_scheduled(cento_engine *engine);
void engine_update_stats(cento_engine *engine);

#endif
