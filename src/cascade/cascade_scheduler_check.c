/* The scheduler's statistics, and whether its books agree with those of registry, prefix tree and pool. */
#include <string.h>

#include "cascade_scheduler_internal.h"

/* ------------------------------------------------------------------ statistics ---- */

void cascade_scheduler_read_stats(const cascade_scheduler *scheduler, scheduler_stats *stats) {
    *stats = scheduler->stats;
    stats->waiting = scheduler->waiting_count;
    stats->running = scheduler->running_count;
    for (uint32_t i = 0; i < scheduler->running_count; i++)
        stats->logical_tokens += scheduler->running[i]->token_count;
    stats->pages_referenced = chunk_registry_pages_used(scheduler->registry, PAGE_SEQUENCE) +
                              chunk_registry_pages_used(scheduler->registry, PAGE_CHUNK);
}

/* ------------------------------------------------------------------ invariants ---- */

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return error_set(error, CENTO_INTERNAL, "cascade_scheduler: %s does not hold (line %d)",         \
                             #condition, __LINE__);                                                          \
    } while (0)

static cento_status check_waiting(const cascade_scheduler *scheduler, cento_error *error) {
    uint32_t count = 0, preempted = 0;
    const cascade_sequence *before = NULL;
    for (const cascade_sequence *waiting = scheduler->waiting_first; waiting != NULL;
         before = waiting, waiting = waiting->next) {
        const sequence_claims *claims = waiting->claims;
        CHECK(waiting->before == before && waiting->state == SEQUENCE_WAITING);
        CHECK(claims != NULL && waiting->row_counts != NULL);
        CHECK(claims->leaf == NULL && claims->own == NULL && claims->own_ready == 0);
        for (size_t i = 0; i < waiting->layout->node_count; i++)
            CHECK(claims->kvs[i] == NULL);
        if (before != NULL) {
            CHECK(before->priority >= waiting->priority);
            if (before->priority == waiting->priority)
                CHECK(before->claims->waits_preempted != claims->waits_preempted
                          ? before->claims->waits_preempted
                          : before->claims->number < claims->number);
        }
        CHECK(claims->waits_preempted || waiting->preemptions == 0);
        CHECK(waiting->overtaken <= scheduler->options.overtaken_max);
        count++;
        preempted += claims->waits_preempted;
    }
    CHECK(scheduler->waiting_last == before);
    CHECK(scheduler->waiting_count == count && scheduler->waiting_preempted == preempted);
    CHECK(count - preempted <= scheduler->options.max_waiting);
    return CENTO_OK;
}

/* Sequences that hold this KV. */
static uint32_t count_users(const cascade_scheduler *scheduler, const chunk_kv *kv) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        const cascade_sequence *sequence = scheduler->running[i];
        for (size_t node = 0; kv->node == NULL && node < sequence->layout->node_count; node++)
            count += sequence->claims->kvs[node] == kv;
        for (const prefix_node *node = sequence->claims->leaf; kv->node != NULL && node != NULL;
             node = node->parent)
            count += &node->kv == kv;
    }
    return count;
}

static cento_status check_kv(const cascade_scheduler *scheduler, const chunk_kv *kv, cento_error *error) {
    CHECK(kv->refs == count_users(scheduler, kv));
    CHECK(kv->tokens_ready <= kv->tokens_scheduled && kv->tokens_scheduled <= kv->tokens);
    CHECK(scheduler->under_way || kv->tokens_ready == kv->tokens_scheduled);
    return CENTO_OK;
}

/* By position, without gaps, up to where the sequence may grow. */
static cento_status check_spans(const cascade_scheduler *scheduler, const cascade_sequence *sequence,
                                cento_error *error) {
    const sequence_claims *claims = sequence->claims;
    if (claims->splits != prefix_tree_splits(scheduler->tree)) /* to be read again */
        return CENTO_OK;
    uint32_t position = 0;
    for (size_t i = 0; i < claims->span_count; i++) {
        const kv_span *span = &claims->spans[i].span;
        CHECK(span->position == position && span->token_end > span->token_begin);
        CHECK(!span->continues ||
              (i > 0 && span->rotation_origin == claims->spans[i - 1].span.rotation_origin));
        position += span->token_end - span->token_begin;
    }
    CHECK(sequence->layout->segment_count == 0 || position == sequence->token_capacity ||
          position == sequence->prompt_tokens);
    return CENTO_OK;
}

static cento_status check_running(const cascade_scheduler *scheduler, const cascade_sequence *sequence,
                                  cento_error *error) {
    const sequence_claims *claims = sequence->claims;
    CHECK(sequence->state == SEQUENCE_PREFILL || sequence->state == SEQUENCE_DECODE);
    CHECK(!claims->waits_preempted && sequence->next == NULL && sequence->before == NULL);
    CHECK(claims->own != NULL && claims->own->owner == PAGE_SEQUENCE);
    CHECK(claims->own_ready <= claims->own_scheduled);
    CHECK(scheduler->under_way || claims->own_ready == claims->own_scheduled);
    CHECK(page_manager_pages_for(scheduler->pages, claims->own_scheduled) <= claims->own->page_count);
    CHECK(sequence->computed_count <= sequence->token_count);
    CHECK(sequence->token_count <= sequence->token_capacity);
    uint32_t path_tokens = 0;
    for (const prefix_node *node = claims->leaf; node != NULL; node = node->parent) {
        TRY(check_kv(scheduler, &node->kv, error));
        path_tokens += node->kv.tokens;
        CHECK(memcmp(node->tokens, sequence->tokens + node->kv.position,
                     node->kv.tokens * sizeof *node->tokens) == 0);
    }
    CHECK(path_tokens == claims->path_tokens && path_tokens >= sequence->layout->path_tokens);
    for (size_t i = 0; i < sequence->layout->node_count; i++) {
        CHECK(claims->kvs[i] != NULL && claims->kvs[i]->tokens == sequence->layout->nodes[i].token_count);
        TRY(check_kv(scheduler, claims->kvs[i], error));
    }
    return check_spans(scheduler, sequence, error);
}

cento_status cascade_scheduler_check(cascade_scheduler *scheduler, cento_error *error) {
    TRY(chunk_registry_check(scheduler->registry, error));
    TRY(check_waiting(scheduler, error));
    uint32_t own_pages = 0;
    CHECK(scheduler->running_count <= scheduler->options.max_sequences);
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        const cascade_sequence *sequence = scheduler->running[i];
        TRY(check_running(scheduler, sequence, error));
        own_pages += sequence->claims->own->page_count;
        if (i > 0) {
            const cascade_sequence *before = scheduler->running[i - 1];
            CHECK(before->priority > sequence->priority ||
                  (before->priority == sequence->priority &&
                   before->claims->number < sequence->claims->number));
        }
    }
    CHECK(own_pages == scheduler->pages->counts[PAGE_SEQUENCE]);
    return CENTO_OK;
}
