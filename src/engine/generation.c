/*
 * Requests as their callers see them: submit, poll, wait, cancel, result. On the caller's thread; what the
 * engine's thread has made of a request is read under generation.lock, and callbacks are called without it.
 */
#include "generation.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum { NEWS_BYTES_MAX = 4096 }; /* of text for one call of on_delta; more is given in several */

/* ------------------------------------------------------------------ submission ---- */

cento_status generation_create_queued(cento_engine *engine, const cento_request *request,
                                      cento_generation **result, cento_error *error) {
    TRY(engine_enter_queue(engine, error));
    cento_status status = generation_create(engine, request, true, result, error);
    if (status != CENTO_OK)
        engine_leave_queue(engine);
    return status;
}

void generation_submit(cento_generation *generation) {
    atomic_fetch_add(&generation->refs, 1); /* the engine's thread's */
    engine_queue(generation->engine, generation);
}

cento_status cento_submit(cento_engine *engine, const cento_request *request, cento_generation **generation,
                          cento_error *error) {
    if (engine == NULL || request == NULL || generation == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL",
                         engine == NULL    ? "engine"
                         : request == NULL ? "request"
                                           : "generation");
    cento_generation *fresh;
    TRY(generation_create_queued(engine, request, &fresh, error));
    generation_submit(fresh);
    *generation = fresh;
    return CENTO_OK;
}

/* ------------------------------------------------------------------ news ---- */

/* What a caller has not been told yet; a copy. */
typedef struct news {
    bool ended;
    bool has_progress, has_delta;
    bool more; /* there is more text */
    cento_progress progress;
    cento_delta delta;
    char text[NEWS_BYTES_MAX + 1];
} news;

static void take_delta(cento_generation *generation, news *taken) {
    if (generation->deltas_off || generation->request.on_delta == NULL)
        return;
    size_t bytes;
    const char *fresh = answer_text_take_new(&generation->text, NEWS_BYTES_MAX, &bytes);
    if (bytes == 0 && generation->answer_tokens == generation->answer_tokens_shown)
        return;
    memcpy(taken->text, fresh, bytes);
    taken->text[bytes] = '\0';
    taken->more = generation->text.shown < generation->text.certain;
    generation->answer_tokens_shown = generation->answer_tokens;
    taken->has_delta = true;
    taken->delta = (cento_delta){taken->text, bytes, generation->answer_tokens};
}

static void take_news(cento_generation *generation, news *taken) {
    taken->ended = generation->ended;
    taken->has_progress = taken->has_delta = taken->more = false;
    if (generation->progress != NULL && generation->progress_done != generation->progress_shown) {
        generation->progress_shown = generation->progress_done;
        taken->has_progress = true;
        taken->progress = (cento_progress){"prefill", generation->progress_done, generation->prompt_tokens};
    }
    take_delta(generation, taken);
}

/* Calls back without the lock. */
static void deliver(cento_generation *generation, const news *taken) {
    if (taken->has_progress)
        generation->progress(generation->progress_user, &taken->progress);
    if (!taken->has_delta)
        return;
    if (generation->request.on_delta(generation->request.on_delta_user, &taken->delta))
        return;
    pthread_mutex_lock(&generation->lock);
    generation->deltas_off = true;
    pthread_mutex_unlock(&generation->lock);
    cento_generation_cancel(generation);
}

bool cento_wait(cento_generation *generation, int64_t timeout_ms) {
    if (generation == NULL)
        return true;
    struct timespec deadline = {0};
    if (timeout_ms > 0)
        deadline = clock_deadline(timeout_ms);
    bool late = timeout_ms == 0;
    for (;;) {
        news taken;
        pthread_mutex_lock(&generation->lock);
        take_news(generation, &taken);
        while (!taken.ended && !taken.has_progress && !taken.has_delta && !late) {
            int outcome = 0;
            if (timeout_ms < 0)
                pthread_cond_wait(&generation->changed, &generation->lock);
            else
                outcome = pthread_cond_timedwait(&generation->changed, &generation->lock, &deadline);
            late = outcome == ETIMEDOUT;
            take_news(generation, &taken);
        }
        pthread_mutex_unlock(&generation->lock);
        deliver(generation, &taken);
        if (taken.ended && !taken.more)
            return true;
        if (late && !taken.more)
            return false;
    }
}

bool cento_poll(cento_generation *generation) {
    return cento_wait(generation, 0);
}

/* ------------------------------------------------------------------ ends ---- */

bool generation_is_cancelled(const cento_generation *generation) {
    return atomic_load(&generation->cancel_wanted) ||
           generation->cancels != atomic_load(&generation->engine->cancels);
}

/* It never had a row: it can end here and now; the engine's thread drops what it holds when it comes to it.
 */
static void end_unbegun(cento_generation *generation) {
    generation->ended = true;
    generation->status = error_set(&generation->error, CENTO_CANCELLED, "cancelled before it was begun");
    generation->result->result.finish = CENTO_FINISH_CANCELLED;
    pthread_cond_broadcast(&generation->changed);
}

void cento_generation_cancel(cento_generation *generation) {
    if (generation == NULL)
        return;
    pthread_mutex_lock(&generation->lock);
    if (!generation->ended) {
        cento_engine *engine = generation->engine;
        atomic_store(&generation->cancel_wanted, true);
        pthread_mutex_lock(&engine->lock);
        engine->attention = true;
        pthread_cond_signal(&engine->wake);
        pthread_mutex_unlock(&engine->lock);
        if (!generation->begun)
            end_unbegun(generation);
    }
    pthread_mutex_unlock(&generation->lock);
}

cento_status cento_generation_result(cento_generation *generation, cento_result **result,
                                     cento_error *error) {
    if (generation == NULL || result == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL",
                         generation == NULL ? "generation" : "result");
    cento_wait(generation, -1);
    pthread_mutex_lock(&generation->lock);
    cento_status status = generation->status;
    bool has_result = status == CENTO_OK || status == CENTO_CANCELLED;
    if (generation->result_taken) {
        status = error_set(error, CENTO_INVALID_ARGUMENT, "the result was handed over before");
    } else {
        if (status != CENTO_OK)
            error_set(error, status, "%s", generation->error.message);
        if (has_result) {
            result_complete(generation);
            *result = &generation->result->result;
            generation->result = NULL;
        }
        generation->result_taken = true;
    }
    pthread_mutex_unlock(&generation->lock);
    return status;
}

void cento_generation_free(cento_generation *generation) {
    if (generation == NULL)
        return;
    cento_generation_cancel(generation);
    pthread_mutex_lock(&generation->lock);
    generation->request.on_ready = NULL; /* called with the lock held: never after this */
    generation->hook = NULL;
    pthread_mutex_unlock(&generation->lock);
    generation_release(generation);
}

cento_status cento_generate(cento_engine *engine, const cento_request *request, cento_result **result,
                            cento_error *error) {
    if (engine == NULL || request == NULL || result == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL",
                         engine == NULL    ? "engine"
                         : request == NULL ? "request"
                                           : "result");
    cento_generation *generation;
    TRY(cento_submit(engine, request, &generation, error));
    cento_status status = cento_generation_result(generation, result, error);
    cento_generation_free(generation);
    return status;
}
