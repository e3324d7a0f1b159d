/*
 * cento_generate_batch: many requests, of which as many are queued as max_waiting allows. On the caller's
 * thread: it sleeps until one of its generations has something to poll (generation.hook), gives out what
 * there is, and submits on.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/monitor.h"
#include "generation.h"

enum { RETRY_MS = 20 }; /* while others fill the queue */

typedef struct batch {
    cento_engine *engine;
    const cento_request *requests;
    size_t count;
    cento_batch_fn on_result;
    void *user;
    unsigned int cancels; /* engine.cancels at the beginning */

    cento_generation **running; /* (count) submitted and not reported; owned */
    size_t next;                /* to be submitted */
    size_t running_count;
    size_t reported;
    bool stopped; /* on_result returned false */

    pthread_mutex_t lock; /* guards the list */
    pthread_cond_t filled;
    cento_generation *ready; /* first in, first out */
    cento_generation **ready_end;
} batch;

/* Called under the generation's lock, on the engine's thread. */
static void put_ready(void *user, cento_generation *generation) {
    batch *self = user;
    pthread_mutex_lock(&self->lock);
    if (!generation->ready) {
        generation->ready = true;
        generation->ready_next = NULL;
        *self->ready_end = generation;
        self->ready_end = &generation->ready_next;
        pthread_cond_signal(&self->filled);
    }
    pthread_mutex_unlock(&self->lock);
}

/* NULL: nothing within the time. Negative: without limit. */
static cento_generation *take_ready(batch *self, int64_t timeout_ms) {
    struct timespec deadline = clock_deadline(timeout_ms < 0 ? 0 : timeout_ms);
    pthread_mutex_lock(&self->lock);
    int outcome = 0;
    while (self->ready == NULL && outcome != ETIMEDOUT)
        outcome = timeout_ms < 0 ? pthread_cond_wait(&self->filled, &self->lock)
                                 : pthread_cond_timedwait(&self->filled, &self->lock, &deadline);
    cento_generation *first = self->ready;
    if (first != NULL) {
        self->ready = first->ready_next;
        if (self->ready == NULL)
            self->ready_end = &self->ready;
        first->ready = false;
    }
    pthread_mutex_unlock(&self->lock);
    return first;
}

/* No hook is called for it any more, and the list does not have it. */
static void drop(batch *self, cento_generation *generation) {
    pthread_mutex_lock(&generation->lock);
    generation->hook = NULL;
    pthread_mutex_unlock(&generation->lock);
    pthread_mutex_lock(&self->lock);
    cento_generation **link = &self->ready;
    while (*link != NULL && *link != generation)
        link = &(*link)->ready_next;
    if (*link == generation) {
        *link = generation->ready_next;
        if (*link == NULL)
            self->ready_end = link;
    }
    pthread_mutex_unlock(&self->lock);
    self->running[generation->batch_index] = NULL;
    self->running_count--;
    cento_generation_free(generation);
}

static void report(batch *self, size_t index, cento_status status, cento_result *result,
                   const cento_error *error) {
    self->reported++;
    if (!self->on_result(self->user, index, status, &result, error))
        self->stopped = true;
    cento_result_free(result);
}

static cento_status submit(batch *self, size_t index, cento_error *error) {
    if (atomic_load(&self->engine->cancels) != self->cancels)
        return error_set(error, CENTO_CANCELLED, "cancelled before it was submitted");
    cento_generation *fresh;
    TRY(generation_create_queued(self->engine, &self->requests[index], &fresh, error));
    fresh->hook = put_ready;
    fresh->hook_user = self;
    fresh->batch_index = index;
    self->running[index] = fresh;
    self->running_count++;
    generation_submit(fresh);
    return CENTO_OK;
}

/* Submits until the queue is full. */
static void submit_on(batch *self) {
    while (self->next < self->count && !self->stopped) {
        cento_error error = {CENTO_OK, ""};
        cento_status status = submit(self, self->next, &error);
        if (status == CENTO_QUEUE_FULL)
            return;
        if (status != CENTO_OK)
            report(self, self->next, status, NULL, &error);
        self->next++;
    }
}

static void run(batch *self) {
    for (;;) {
        submit_on(self);
        if (self->stopped || (self->running_count == 0 && self->next == self->count))
            return;
        cento_generation *ready = take_ready(self, self->next < self->count ? RETRY_MS : -1);
        if (ready == NULL || !cento_poll(ready))
            continue;
        cento_error error = {CENTO_OK, ""};
        cento_result *result = NULL;
        size_t index = ready->batch_index;
        cento_status status = cento_generation_result(ready, &result, &error);
        drop(self, ready);
        report(self, index, status, result, &error);
    }
}

cento_status cento_generate_batch(cento_engine *engine, const cento_request *requests, size_t count,
                                  cento_batch_fn on_result, void *user, cento_error *error) {
    if (engine == NULL || on_result == NULL || (requests == NULL && count > 0))
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL",
                         engine == NULL      ? "engine"
                         : on_result == NULL ? "on_result"
                                             : "requests");
    batch self = {.engine = engine,
                  .requests = requests,
                  .count = count,
                  .on_result = on_result,
                  .user = user,
                  .cancels = atomic_load(&engine->cancels),
                  .running = mem_zalloc(count, sizeof(cento_generation *))};
    if (self.running == NULL)
        return error_memory(error, count * sizeof(cento_generation *));
    self.ready_end = &self.ready;
    if (!monitor_init(&self.lock, &self.filled)) {
        mem_free(self.running);
        return error_memory(error, sizeof self.lock + sizeof self.filled);
    }
    run(&self);
    for (size_t i = 0; i < count && self.running_count > 0; i++) {
        if (self.running[i] != NULL)
            drop(&self, self.running[i]);
    }
    pthread_cond_destroy(&self.filled);
    pthread_mutex_destroy(&self.lock);
    mem_free(self.running);
    if (self.stopped)
        return error_set(error, CENTO_CANCELLED, "on_result ended the batch after %zu of %zu requests",
                         self.reported, count);
    return CENTO_OK;
}
