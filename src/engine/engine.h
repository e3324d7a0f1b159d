/*
 * engine: what cento_open makes. One model on one backend, one pool of KV pages, one registry. Everything but
 * what never changes after opening is guarded by `lock`, which a request holds from its beginning to its end:
 * requests take turns.
 */
#ifndef CENTO_ENGINE_ENGINE_H
#define CENTO_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cascade/chunk_registry.h"
#include "model/decoder.h"
#include "prompt.h"
#include "sampler.h"

/* The rows of one forward pass; sized at opening, but for the spans, which grow with the prompt's segments.
 */
typedef struct step_rows {
    uint32_t capacity; /* prefill_tokens_max */
    uint32_t count;
    int32_t *tokens;     /* (capacity) */
    uint32_t *positions; /* (capacity) */
    uint32_t *kv_slots;  /* (capacity) */
    row_group *groups;   /* (capacity) */
    uint32_t group_count;
    kv_span *spans;
    size_t span_count, span_capacity;
    cascade_plan *plan, *window_plan; /* NULL: not needed yet */
} step_rows;

enum { ENGINE_IDLE, ENGINE_RUNNING, ENGINE_CANCELLING };

struct cento_engine {
    /* constant after opening */
    char *model_name;
    cento_dtype compute_dtype;
    uint32_t context_tokens_max;
    uint32_t prefill_tokens_max;
    uint64_t page_bytes;
    uint64_t kv_pool_bytes;
    double load_ms;
    model_config config;
    prompt_format format;
    cento_progress_fn on_progress;
    void *on_progress_user;

    pthread_mutex_t lock; /* guards all below but run_state */
    backend *device;
    decoder *model;
    backend_kv_pool *pool;
    page_manager *pages;
    chunk_registry *registry;
    sampler *sampler;
    float *logits; /* (vocab_size) of the last row computed */
    step_rows rows;

    atomic_int run_state; /* ENGINE_…; cento_cancel, in a signal handler, sees only this */
};

/* What all kv ids of a request share; salt is borrowed. */
kv_scope engine_kv_scope(const cento_engine *engine, const char *salt);
uint64_t engine_forward_tokens(const cento_engine *engine); /* as the backend counts them */
bool engine_is_cancelled(cento_engine *engine);

#endif
