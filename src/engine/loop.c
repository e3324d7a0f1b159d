/*
 * The engine's thread: the only one that touches backend, scheduler and sampler. It owns every generation
 * between inbox and end. One round:
 *
 *   inbox → cancels → cascade_scheduler_step → copies, plan, forward pass → computed → sample, accept, tell
 *
 * (a backend that samples draws the tokens as part of the forward pass), and at its end those that have
 * finished are told so, when all that they held is dropped and counted. A step that fails ends the requests
 * that had rows in it, and no other. It allocates nothing per token.
 */
#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "loop.h"

_Static_assert(CENTO_LEVELS == PLAN_LEVELS, "levels of the statistics and of plans");

enum { STALL_MS = 5 }; /* between rounds in which nothing can be done */

/* ------------------------------------------------------------------ the queue ---- */

cento_status engine_enter_queue(cento_engine *engine, cento_error *error) {
    cento_status status = CENTO_OK;
    pthread_mutex_lock(&engine->lock);
    if (engine->closing)
        status = error_set(error, CENTO_CLOSED, "the engine is being closed");
    else if (engine->waiting >= engine->limits.max_waiting)
        status = error_set(error, CENTO_QUEUE_FULL, "%u requests are waiting, max_waiting is %u",
                           engine->waiting, engine->limits.max_waiting);
    else
        engine->waiting++;
    pthread_mutex_unlock(&engine->lock);
    return status;
}

void engine_leave_queue(cento_engine *engine) {
    pthread_mutex_lock(&engine->lock);
    assert(engine->waiting > 0);
    engine->waiting--;
    pthread_mutex_unlock(&engine->lock);
}

void engine_queue(cento_engine *engine, cento_generation *generation) {
    pthread_mutex_lock(&engine->lock);
    generation->counted = true;
    generation->next = NULL;
    *engine->inbox_end = generation;
    engine->inbox_end = &generation->next;
    pthread_cond_signal(&engine->wake);
    pthread_mutex_unlock(&engine->lock);
}

/* ------------------------------------------------------------------ telling ---- */

static void link_live(cento_engine *engine, cento_generation *generation) {
    generation->before = NULL;
    generation->next = engine->live;
    if (engine->live != NULL)
        engine->live->before = generation;
    engine->live = generation;
}

static void unlink_live(cento_engine *engine, cento_generation *generation) {
    if (generation->before != NULL)
        generation->before->next = generation->next;
    else
        engine->live = generation->next;
    if (generation->next != NULL)
        generation->next->before = generation->before;
}

/* With the lock held: there is something to poll. */
static void tell(cento_generation *generation) {
    pthread_cond_broadcast(&generation->changed);
    if (generation->request.on_ready != NULL)
        generation->request.on_ready(generation->request.on_ready_user);
    if (generation->hook != NULL)
        generation->hook(generation->hook_user, generation);
}

static void tell_finished(cento_engine *engine) {
    cento_generation *next;
    for (cento_generation *generation = engine->finished; generation != NULL; generation = next) {
        next = generation->next;
        pthread_mutex_lock(&generation->lock);
        if (!generation->ended) { /* not cancelled while it waited */
            generation->status = generation->end_status;
            generation->error = generation->end_error;
            generation->result->result.finish = generation->finish;
            generation->ended = true;
        }
        generation->released = true;
        tell(generation);
        pthread_mutex_unlock(&generation->lock);
        generation_release(generation);
    }
    engine->finished = NULL;
}

/* ------------------------------------------------------------------ ends ---- */

static void leave_waiting(cento_engine *engine, cento_generation *generation) {
    if (!generation->counted)
        return;
    generation->counted = false;
    engine_leave_queue(engine);
}

/* From here on the engine's thread alone ends it. */
static void begin(cento_engine *engine, cento_generation *generation) {
    leave_waiting(engine, generation);
    pthread_mutex_lock(&generation->lock);
    generation->begun = true;
    pthread_mutex_unlock(&generation->lock);
}

static void count_end(cento_engine *engine, const cento_generation *generation) {
    cento_stats *counted = &engine->counted;
    if (generation->internal)
        return;
    if (generation->end_status != CENTO_OK && generation->end_status != CENTO_CANCELLED) {
        counted->requests_failed++;
        return;
    }
    *(generation->end_status == CENTO_OK ? &counted->requests_finished : &counted->requests_cancelled) += 1;
    counted->prompt_tokens += generation->prompt_tokens;
    counted->completion_tokens += generation->answer_tokens;
    counted->cached_tokens += generation->cached_tokens;
}

static void end_text(cento_generation *generation) {
    cento_error error;
    pthread_mutex_lock(&generation->lock);
    cento_status status = answer_text_finish(&generation->text, &error);
    pthread_mutex_unlock(&generation->lock);
    if (status != CENTO_OK &&
        (generation->end_status == CENTO_OK || generation->end_status == CENTO_CANCELLED)) {
        generation->end_status = status;
        generation->end_error = error;
    }
}

void loop_remove_sequence(cento_generation *generation, context_chunk *chunk) {
    cento_engine *engine = generation->engine;
    if (!generation->submitted)
        return;
    cento_error error;
    generation->end_ns = clock_now_ns();
    /* one that was cancelled while it waited has its result already */
    if (!generation->ended && result_account(generation, &error) != CENTO_OK &&
        generation->end_status == CENTO_OK) {
        generation->end_status = error.status;
        generation->end_error = error;
    }
    bool keep = engine->enable_reuse && generation->answer_tokens > 0 && generation->end_status == CENTO_OK;
    cascade_scheduler_remove(engine->scheduler, &generation->sequence, keep, chunk);
    generation->submitted = false;
}

/* Drops all that it holds; it is told of its end when the round is over. */
static void finish(cento_generation *generation) {
    cento_engine *engine = generation->engine;
    begin(engine, generation);
    retention_end(generation, false);
    end_text(generation);
    loop_remove_sequence(generation, NULL);
    generation_drop_chunks(generation);
    count_end(engine, generation);
    unlink_live(engine, generation);
    generation->next = engine->finished;
    engine->finished = generation;
}

static void fail(cento_generation *generation, cento_status status, const cento_error *error) {
    generation->end_status = status;
    generation->end_error = *error;
    finish(generation);
}

static void finish_cancelled(cento_generation *generation) {
    generation->finish = CENTO_FINISH_CANCELLED;
    generation->end_status =
        generation->answer_tokens > 0 || generation->prefilled_ns != 0
            ? error_set(&generation->end_error, CENTO_CANCELLED, "cancelled after %u tokens",
                        generation->answer_tokens)
            : error_set(&generation->end_error, CENTO_CANCELLED, "cancelled after %u of %u prompt tokens",
                        generation->sequence.computed_count, generation->prompt_tokens);
    finish(generation);
}

/* The answer is whole. What is to be kept of it may have to be computed first. */
static void finish_answer(cento_generation *generation) {
    if (!retention_begin(generation))
        finish(generation);
}

/* ------------------------------------------------------------------ the inbox ---- */

static void accept_submission(cento_engine *engine, cento_generation *generation) {
    cento_error error;
    link_live(engine, generation);
    if (generation_is_cancelled(generation)) {
        finish_cancelled(generation);
        return;
    }
    cento_status status = cascade_scheduler_submit(engine->scheduler, &generation->sequence, &error);
    generation->submitted = status == CENTO_OK;
    if (status != CENTO_OK)
        fail(generation, status, &error);
}

/* Sleeps while there is nothing to do; `stalled`: a little, although there is. false: the engine is being
 * closed. */
static bool take_inbox(cento_engine *engine, bool stalled) {
    unsigned int cancels;
    pthread_mutex_lock(&engine->lock);
    if (stalled && engine->inbox == NULL && !engine->attention && !engine->closing) {
        struct timespec deadline = clock_deadline(STALL_MS);
        pthread_cond_timedwait(&engine->wake, &engine->lock, &deadline);
    }
    while (engine->live == NULL && engine->inbox == NULL && !engine->closing)
        pthread_cond_wait(&engine->wake, &engine->lock);
    cento_generation *submitted = engine->inbox;
    engine->inbox = NULL;
    engine->inbox_end = &engine->inbox;
    bool attention = engine->attention;
    engine->attention = false;
    bool closing = engine->closing;
    pthread_mutex_unlock(&engine->lock);

    cento_generation *next;
    cancels = atomic_load(&engine->cancels);
    if (attention || cancels != engine->cancels_seen) {
        for (cento_generation *generation = engine->live; generation != NULL; generation = next) {
            next = generation->next;
            if (generation_is_cancelled(generation))
                finish_cancelled(generation);
        }
        engine->cancels_seen = cancels;
    }
    for (; submitted != NULL; submitted = next) {
        next = submitted->next;
        accept_submission(engine, submitted);
    }
    return !closing;
}

/* ------------------------------------------------------------------ the forward pass ---- */

/* Cells that the step's spans are cut into, at most. */
static uint64_t cells_of(const cascade_step *step) {
    uint64_t cells = 2 * (uint64_t)step->span_count;
    for (uint32_t i = 0; i < step->span_count; i++)
        cells += (step->spans[i].token_end - step->spans[i].token_begin) / PLAN_CELL_TOKENS;
    return cells;
}

/* Plans for more than was foreseen when the engine was opened: prompts of very many pieces. */
static cento_status grow_plans(cento_engine *engine, plan_options sizes, cento_error *error) {
    cascade_plan *plan = NULL, *window_plan = NULL;
    TRY(cascade_plan_create(&sizes, &plan, error));
    cento_status status =
        engine->window_plan == NULL ? CENTO_OK : cascade_plan_create(&sizes, &window_plan, error);
    if (status != CENTO_OK) {
        cascade_plan_free(plan);
        return status;
    }
    cascade_plan_free(engine->plan);
    cascade_plan_free(engine->window_plan);
    engine->plan = plan;
    engine->window_plan = window_plan;
    engine->plan_sizes = sizes;
    return CENTO_OK;
}

static cento_status fit_plans(cento_engine *engine, const cascade_step *step, cento_error *error) {
    plan_options sizes = engine->plan_sizes;
    uint64_t cells = cells_of(step);
    if (step->span_count <= sizes.spans_max && cells <= sizes.cells_max)
        return CENTO_OK;
    if (cells > UINT32_MAX / 2)
        return error_set(error, CENTO_UNSUPPORTED, "a step of %llu stretches of keys",
                         (unsigned long long)cells);
    while (sizes.spans_max < step->span_count)
        sizes.spans_max *= 2;
    while (sizes.cells_max < cells)
        sizes.cells_max *= 2;
    return grow_plans(engine, sizes, error);
}

static cento_status build_plan(cento_engine *engine, const cascade_step *step, uint32_t window,
                               uint32_t layer_count, cascade_plan *plan, cento_error *error) {
    const model_config *config = &engine->config;
    const plan_input input = {.groups = step->groups,
                              .group_count = step->group_count,
                              .spans = step->spans,
                              .span_count = step->span_count,
                              .positions = step->positions,
                              .row_count = step->row_count,
                              .heads_per_kv = config->heads / config->kv_heads,
                              .window = window};
    TRY(cascade_plan_build(plan, &input, error));
#ifndef NDEBUG
    TRY(cascade_plan_check(plan, &input, error));
#endif
    uint64_t key_bytes = 2ull * layer_count * config->kv_heads * config->head_dim *
                         (engine->kv_dtype == CENTO_DTYPE_F32 ? 4 : 2);
    engine->counted.kv_bytes_read += plan->stats.keys_read * key_bytes;
    engine->counted.kv_bytes_read_unshared += plan->stats.keys_read_unshared * key_bytes;
    return CENTO_OK;
}

static cento_status build_plans(cento_engine *engine, const cascade_step *step, cento_error *error) {
    const model_config *config = &engine->config;
    uint64_t begin_ns = clock_now_ns();
    TRY(fit_plans(engine, step, error));
    if (engine->window_plan == NULL) {
        bool all_windowed = config->window > 0 && config->window_layer_begin == 0;
        TRY(build_plan(engine, step, all_windowed ? config->window : 0, config->layers, engine->plan, error));
    } else {
        uint32_t full = config->window_layer_begin;
        TRY(build_plan(engine, step, 0, full, engine->plan, error));
        TRY(build_plan(engine, step, config->window, config->layers - full, engine->window_plan, error));
    }
    for (int level = 0; level < CENTO_LEVELS; level++) {
        engine->counted.level_rows[level] += engine->plan->stats.rows[level];
        engine->counted.level_tokens[level] += engine->plan->stats.tokens[level];
    }
    engine->counted.attention_plan_ms += clock_ms_since(begin_ns);
    return CENTO_OK;
}

/* Draws a token for each row of logits, which lie on the device. Nothing has been drawn if it fails. */
static cento_status sample_on_device(cento_engine *engine, const cascade_step *step, cento_error *error) {
    step_samples *samples = &engine->samples;
    sample_batch batch = {.row_count = step->logit_count,
                          .vocab_size = engine->config.vocab_size,
                          .rows = samples->rows,
                          .tokens = samples->tokens,
                          .logprobs = samples->logprobs};
    size_t changes_max = 0; /* of all that they grow to: no step then reserves more */
    for (uint32_t i = 0; i < step->logit_count; i++) {
        const cento_generation *generation = step->logit_sequences[i]->user;
        batch.change_count += sampler_change_count(&generation->sampler);
        changes_max += sampler_change_max(&generation->sampler);
    }
    if (!mem_grow((void **)&samples->changes, &samples->change_capacity, changes_max,
                  sizeof *samples->changes))
        return error_memory(error, changes_max * sizeof *samples->changes);
    sample_change *changes = samples->changes;
    for (uint32_t i = 0; i < step->logit_count; i++) {
        const cento_generation *generation = step->logit_sequences[i]->user;
        uint32_t logprobs = generation->request.logprobs;
        sampler_describe(&generation->sampler, logprobs, &samples->rows[i], changes);
        changes += sampler_change_count(&generation->sampler);
        batch.logprobs_max = logprobs > batch.logprobs_max ? logprobs : batch.logprobs_max;
    }
    batch.changes = samples->changes;
    samples->logprobs_width = 1 + (size_t)batch.logprobs_max;
    return engine->device->ops->sample(engine->device, decoder_logits(engine->model), &batch, error);
}

static cento_status forward(cento_engine *engine, const cascade_step *step, cento_error *error) {
    const backend_ops *ops = engine->device->ops;
    for (uint32_t i = 0; i < step->copy_count; i++) {
        const kv_copy *copy = &step->copies[i];
        if (copy->token_count > 0)
            TRY(ops->kv_copy(engine->device, engine->pool, copy->from_slot, copy->to_slot, copy->token_count,
                             error));
    }
    if (step->row_count == 0)
        return CENTO_OK;
    TRY(build_plans(engine, step, error));
    const decoder_batch batch = {.token_count = step->row_count,
                                 .tokens = step->tokens,
                                 .positions = step->positions,
                                 .kv_slots = step->kv_slots,
                                 .plan = engine->plan,
                                 .window_plan = engine->window_plan,
                                 .logit_rows = step->logit_rows,
                                 .logit_row_count = step->logit_count};
    uint64_t begin_ns = clock_now_ns();
    cento_status status = decoder_forward(engine->model, &batch, engine->pool, engine->logits, error);
    if (status == CENTO_OK && engine->logits == NULL && step->logit_count > 0)
        status = sample_on_device(engine, step, error);
    engine->counted.forward_ms += clock_ms_since(begin_ns);
    return status;
}

/* ------------------------------------------------------------------ tokens ---- */

static bool ends_answer(const cento_generation *generation, int32_t token) {
    const cento_request *request = &generation->request;
    const model_config *config = &generation->engine->config;
    for (size_t i = 0; i < request->stop_token_count; i++) {
        if (request->stop_tokens[i] == token)
            return true;
    }
    if (request->ignore_eos)
        return false;
    for (uint32_t i = 0; i < config->eos_count; i++) {
        if (config->eos_tokens[i] == token)
            return true;
    }
    return token == tokenizer_eos(generation->engine->format.tokens);
}

/* Where the next token's logprobs go; NULL in *place if none are wanted. */
static cento_status logprobs_place(cento_generation *generation, cento_token_logprob **place,
                                   cento_error *error) {
    size_t width = 1 + (size_t)generation->request.logprobs;
    size_t needed = (generation->answer_tokens + (size_t)1) * width;
    *place = NULL;
    if (generation->request.logprobs == 0)
        return CENTO_OK;
    if (!mem_grow((void **)&generation->logprobs, &generation->logprob_capacity, needed,
                  sizeof *generation->logprobs))
        return error_memory(error, needed * sizeof *generation->logprobs);
    *place = generation->logprobs + generation->answer_tokens * width;
    return CENTO_OK;
}

/* Takes a token into the answer, and tells of it. *stopped: it completes a stop string, and is no part of it.
 */
static cento_status push_token(cento_generation *generation, int32_t token, bool *stopped,
                               cento_error *error) {
    pthread_mutex_lock(&generation->lock);
    cento_status status = answer_text_push(&generation->text, token, error);
    *stopped = generation->text.stopped;
    if (status == CENTO_OK && !*stopped) {
        generation->answer_tokens++;
        bool heard = generation->request.on_delta != NULL || generation->request.on_ready != NULL;
        if (heard && generation->answer_tokens < generation->answer_tokens_max) /* else its end is told */
            tell(generation);
    }
    pthread_mutex_unlock(&generation->lock);
    return status;
}

/* The token of a row of the step's logits. */
static cento_status next_token(cento_engine *engine, cento_generation *generation, uint32_t row,
                               int32_t *token, cento_error *error) {
    uint32_t vocab_size = engine->config.vocab_size;
    if (engine->logits != NULL)
        return sampler_next(engine->sampler, &generation->sampler, engine->logits + (size_t)row * vocab_size,
                            token, error);
    *token = engine->samples.tokens[row];
    sampler_drawn(&generation->sampler);
    return *token < 0 ? sampler_refuse(vocab_size, error) : CENTO_OK;
}

static cento_status keep_logprobs(cento_engine *engine, cento_generation *generation, uint32_t row,
                                  int32_t token, cento_error *error) {
    uint32_t count = generation->request.logprobs, vocab_size = engine->config.vocab_size;
    cento_token_logprob *place;
    TRY(logprobs_place(generation, &place, error));
    if (place == NULL)
        return CENTO_OK;
    if (engine->logits != NULL)
        sampler_logprobs(engine->logits + (size_t)row * vocab_size, vocab_size, token, count, place);
    else
        memcpy(place, engine->samples.logprobs + row * engine->samples.logprobs_width,
               (1 + count) * sizeof *place);
    return CENTO_OK;
}

static cento_status sample(cento_generation *generation, uint32_t row, bool *done, cento_error *error) {
    cento_engine *engine = generation->engine;
    int32_t token;
    bool stopped;
    *done = true;
    generation->finish = CENTO_FINISH_STOP;
    if (generation->prefilled_ns == 0)
        generation->prefilled_ns = clock_now_ns();
    TRY(next_token(engine, generation, row, &token, error));
    if (generation->first_token_ns == 0)
        generation->first_token_ns = clock_now_ns();
    if (ends_answer(generation, token))
        return CENTO_OK;
    TRY(keep_logprobs(engine, generation, row, token, error));
    TRY(push_token(generation, token, &stopped, error));
    if (stopped)
        return CENTO_OK;
    cascade_scheduler_accept(engine->scheduler, &generation->sequence, token);
    sampler_accept(&generation->sampler, token);
    generation->finish = CENTO_FINISH_LENGTH;
    *done = generation->answer_tokens == generation->answer_tokens_max;
    return CENTO_OK;
}

static void sample_all(cento_engine *engine, const cascade_step *step) {
    uint64_t begin_ns = clock_now_ns();
    for (uint32_t i = 0; i < step->logit_count; i++) {
        cento_generation *generation = step->logit_sequences[i]->user;
        cento_error error;
        bool done;
        cento_status status = sample(generation, i, &done, &error);
        if (status != CENTO_OK)
            fail(generation, status, &error);
        else if (done)
            finish_answer(generation);
    }
    engine->counted.sample_ms += clock_ms_since(begin_ns);
}

/* ------------------------------------------------------------------ one step ---- */

static void give_up(cento_generation *generation, cento_status status, const cento_error *error) {
    if (generation->kept != NULL)
        finish(generation); /* the answer is not the worse for it */
    else
        fail(generation, status, error);
}

/* The scheduler could not go on with it and has removed it. */
static void end_removed(cento_generation *generation, cento_status status, const cento_error *error) {
    *(generation->kept != NULL ? &generation->kept->submitted : &generation->submitted) = false;
    give_up(generation, status, error);
}

/* All that it was for is computed. */
static void end_prefill_only(cento_generation *generation) {
    retention_end(generation, true);
    finish(generation);
}

/* Sequences that were admitted for the first time are running; nobody but us ends them now. */
static void note_admissions(cento_engine *engine) {
    if (engine->scheduled.admissions == engine->admissions_seen)
        return;
    engine->admissions_seen = engine->scheduled.admissions;
    for (cento_generation *generation = engine->live; generation != NULL; generation = generation->next) {
        if (generation->begin_ns != 0 || generation->sequence.admitted_ns == 0)
            continue;
        generation->begin_ns = generation->sequence.admitted_ns;
        leave_waiting(engine, generation);
        pthread_mutex_lock(&generation->lock);
        generation->begun = true;
        if (generation->hook != NULL) /* there is room in the queue */
            generation->hook(generation->hook_user, generation);
        pthread_mutex_unlock(&generation->lock);
    }
}

static void note_progress(cento_engine *engine) {
    if (engine->on_progress == NULL)
        return;
    for (cento_generation *generation = engine->live; generation != NULL; generation = generation->next) {
        const cascade_sequence *sequence = &generation->sequence;
        if (generation->begin_ns == 0 || generation->answer_tokens > 0 || !generation->submitted)
            continue;
        bool whole = sequence->state == SEQUENCE_DECODE;
        pthread_mutex_lock(&generation->lock);
        uint32_t done = whole ? generation->prompt_tokens : sequence->computed_count;
        /* what one pass computes is not a long prefill */
        if (done > generation->progress_done && (!whole || generation->progress_done > 0)) {
            generation->progress_done = done;
            pthread_cond_broadcast(&generation->changed);
        }
        pthread_mutex_unlock(&generation->lock);
    }
}

/* The one that is being computed: its own, or what is retained of its answer. */
static cascade_sequence *sequence_of(cento_generation *generation) {
    return generation->kept != NULL ? &generation->kept->sequence : &generation->sequence;
}

static bool is_in_step(cento_generation *generation) {
    return generation->rows_seen != sequence_of(generation)->rows_computed;
}

/* The youngest request, or of those with rows in the failed step, is given up, so that the others can go on.
 */
static bool give_up_youngest(cento_engine *engine, bool in_step, cento_status status,
                             const cento_error *error) {
    cento_generation *youngest = NULL;
    for (cento_generation *generation = engine->live; generation != NULL; generation = generation->next) {
        bool younger = youngest == NULL || generation->start_ns > youngest->start_ns;
        if (younger && (!in_step || is_in_step(generation)))
            youngest = generation;
    }
    if (youngest != NULL)
        give_up(youngest, status, error);
    return youngest != NULL;
}

/* Everybody with rows in the step fails; what computed(false) takes back tells them. For lack of memory, one
 * of them does: it may be enough for the others. */
static void fail_step(cento_engine *engine, const cascade_step *step, cento_status status,
                      const cento_error *error) {
    for (cento_generation *generation = engine->live; generation != NULL; generation = generation->next)
        generation->rows_seen = sequence_of(generation)->rows_computed;
    cascade_scheduler_computed(engine->scheduler, step, false);
    bool given_up = false;
    if (status == CENTO_OUT_OF_MEMORY) {
        given_up = give_up_youngest(engine, true, status, error);
    } else {
        for (cento_generation *generation = engine->live, *next; generation != NULL; generation = next) {
            next = generation->next;
            if (is_in_step(generation)) {
                give_up(generation, status, error);
                given_up = true;
            }
        }
    }
    if (!given_up) /* nobody had rows in it */
        give_up_youngest(engine, false, status, error);
}

static void run_step(cento_engine *engine, const cascade_step *step) {
    cento_error error;
    cento_status status = forward(engine, step, &error);
    if (status != CENTO_OK) {
        fail_step(engine, step, status, &error);
        return;
    }
    cascade_scheduler_computed(engine->scheduler, step, true);
    note_progress(engine);
    sample_all(engine, step);
    for (uint32_t i = 0; i < step->completed_count; i++)
        end_prefill_only(step->completed[i]->user);
}

static void check_invariants(cento_engine *engine) {
#ifndef NDEBUG
    cento_error error;
    cento_status status = cascade_scheduler_check(engine->scheduler, &error);
    assert(status == CENTO_OK);
    (void)status;
#else
    (void)engine;
#endif
}

/* false: nothing could be done. */
static bool step_once(cento_engine *engine) {
    uint64_t begin_ns = clock_now_ns();
    cascade_step step;
    cento_error error;
    cento_status status = cascade_scheduler_step(engine->scheduler, &step, &error);
    if (status != CENTO_OK) {
        give_up_youngest(engine, false, status, &error);
        return true;
    }
    engine_count_scheduled(engine);
    note_admissions(engine);
    for (uint32_t i = 0; i < step.failed_count; i++)
        end_removed(step.failed[i]->user, step.failure.status, &step.failure);
    bool computes = step.row_count > 0 || step.completed_count > 0 || step.copy_count > 0;
    bool busy = computes || step.failed_count > 0;
    if (computes)
        run_step(engine, &step);
    check_invariants(engine);
    if (busy)
        engine->counted.steps++;
    engine->counted.step_ms += clock_ms_since(begin_ns);
    return busy;
}

static void *run(void *argument) {
    cento_engine *engine = argument;
    bool stalled = false;
    while (take_inbox(engine, stalled)) {
        stalled = engine->live != NULL && !step_once(engine);
        engine_update_stats(engine);
        tell_finished(engine);
    }
    cento_generation *next;
    cento_error error;
    cento_status status = error_set(&error, CENTO_CLOSED, "the engine was closed");
    for (cento_generation *generation = engine->live; generation != NULL; generation = next) {
        next = generation->next;
        fail(generation, status, &error);
    }
    tell_finished(engine);
    return NULL;
}

cento_status engine_start(cento_engine *engine, cento_error *error) {
    engine->inbox_end = &engine->inbox;
    int code = pthread_create(&engine->thread, NULL, run, engine);
    if (code != 0)
        return error_set(error, CENTO_OUT_OF_MEMORY, "no thread could be started: %s", strerror(code));
    engine->thread_runs = true;
    return CENTO_OK;
}

void engine_stop(cento_engine *engine) {
    if (!engine->thread_runs)
        return;
    pthread_mutex_lock(&engine->lock);
    engine->closing = true;
    pthread_cond_signal(&engine->wake);
    pthread_mutex_unlock(&engine->lock);
    pthread_join(engine->thread, NULL);
    engine->thread_runs = false;
}
