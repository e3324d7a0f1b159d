/* Queues, admission, preemption, and a sequence's life; see cascade_scheduler.h. */
#include "cascade_scheduler_internal.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define CANDIDATES_MAX 64 /* waiting sequences looked at for one that may overtake */
#define BLOCKED_STEPS  16 /* after which a blocked queue is looked at in any case */
#define PATIENCE_STEPS 32 /* for which chunks wait for pages that sequences hold beyond their share */

/* ------------------------------------------------------------------ life ---- */

static cento_status check_options(const scheduler_options *options, cento_error *error) {
    if (options->max_sequences == 0 || options->max_batched_tokens < options->max_sequences)
        return error_set(
            error, CENTO_INVALID_ARGUMENT,
            "max_sequences is %u and max_batched_tokens %u: expected at least one sequence, and a "
            "token for each of them",
            options->max_sequences, options->max_batched_tokens);
    if (options->max_sequences > UINT32_MAX / 4 || options->max_batched_tokens > UINT32_MAX / 4)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "max_sequences is %u, max_batched_tokens %u: expected at most %u",
                         options->max_sequences, options->max_batched_tokens, UINT32_MAX / 4);
    if (options->max_waiting == 0 || options->context_tokens_max == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "max_waiting is %u, context_tokens_max %u: expected at least 1",
                         options->max_waiting, options->context_tokens_max);
    return CENTO_OK;
}

static bool allocate(cascade_scheduler *scheduler) {
    size_t rows = scheduler->options.max_batched_tokens, sequences = scheduler->options.max_sequences;
    scheduler->tokens = mem_alloc(rows, sizeof *scheduler->tokens);
    scheduler->positions = mem_alloc(rows, sizeof *scheduler->positions);
    scheduler->kv_slots = mem_alloc(rows, sizeof *scheduler->kv_slots);
    scheduler->groups = mem_alloc(rows, sizeof *scheduler->groups);
    scheduler->items = mem_alloc(rows, sizeof *scheduler->items);
    scheduler->copies = mem_alloc(2 * sequences, sizeof *scheduler->copies);
    scheduler->copy_targets = mem_alloc(2 * sequences, sizeof *scheduler->copy_targets);
    scheduler->logit_rows = mem_alloc(sequences, sizeof *scheduler->logit_rows);
    scheduler->logit_sequences = mem_alloc(sequences, sizeof(cascade_sequence *));
    scheduler->completed = mem_alloc(sequences, sizeof(cascade_sequence *));
    scheduler->failed = mem_alloc(sequences, sizeof(cascade_sequence *));
    scheduler->running = mem_alloc(sequences, sizeof(cascade_sequence *));
    scheduler->filter = mem_zalloc(FILTER_BITS / 64, sizeof *scheduler->filter);
    return scheduler->tokens != NULL && scheduler->positions != NULL && scheduler->kv_slots != NULL &&
           scheduler->groups != NULL && scheduler->items != NULL && scheduler->copies != NULL &&
           scheduler->copy_targets != NULL && scheduler->logit_rows != NULL &&
           scheduler->logit_sequences != NULL && scheduler->completed != NULL && scheduler->failed != NULL &&
           scheduler->running != NULL && scheduler->filter != NULL;
}

cento_status cascade_scheduler_create(const scheduler_options *options, chunk_registry *registry,
                                      prefix_tree *tree, cascade_scheduler **result, cento_error *error) {
    TRY(check_options(options, error));
    cascade_scheduler *scheduler = mem_zalloc(1, sizeof *scheduler);
    if (scheduler == NULL)
        return error_memory(error, sizeof *scheduler);
    scheduler->options = *options;
    if (options->overtaken_max == 0)
        scheduler->options.overtaken_max = OVERTAKEN_MAX;
    scheduler->registry = registry;
    scheduler->tree = tree;
    scheduler->pages = chunk_registry_pages(registry);
    if (!allocate(scheduler)) {
        cascade_scheduler_free(scheduler);
        return error_memory(error, options->max_batched_tokens * sizeof *scheduler->items);
    }
    *result = scheduler;
    return CENTO_OK;
}

void cascade_scheduler_free(cascade_scheduler *scheduler) {
    if (scheduler == NULL)
        return;
    assert(scheduler->running_count == 0 && scheduler->waiting_count == 0);
    mem_free(scheduler->tokens);
    mem_free(scheduler->positions);
    mem_free(scheduler->kv_slots);
    mem_free(scheduler->groups);
    mem_free(scheduler->items);
    mem_free(scheduler->spans);
    mem_free(scheduler->copies);
    mem_free(scheduler->copy_targets);
    mem_free(scheduler->logit_rows);
    mem_free(scheduler->logit_sequences);
    mem_free(scheduler->completed);
    mem_free(scheduler->failed);
    mem_free(scheduler->running);
    mem_free(scheduler->filter);
    mem_free(scheduler);
}

/* ------------------------------------------------------------------ queues ---- */

/* a stands before b in the queue. */
static bool waits_before(const cascade_sequence *a, const cascade_sequence *b) {
    if (a->priority != b->priority)
        return a->priority > b->priority;
    if (a->claims->waits_preempted != b->claims->waits_preempted)
        return a->claims->waits_preempted;
    return a->claims->number < b->claims->number;
}

static void waiting_add(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    cascade_sequence *before = scheduler->waiting_last;
    while (before != NULL && waits_before(sequence, before))
        before = before->before;
    sequence->before = before;
    sequence->next = before == NULL ? scheduler->waiting_first : before->next;
    *(before == NULL ? &scheduler->waiting_first : &before->next) = sequence;
    *(sequence->next == NULL ? &scheduler->waiting_last : &sequence->next->before) = sequence;
    sequence->state = SEQUENCE_WAITING;
    scheduler->waiting_count++;
    scheduler->waiting_preempted += sequence->claims->waits_preempted;
    scheduler->events++;
}

static void waiting_remove(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    *(sequence->before == NULL ? &scheduler->waiting_first : &sequence->before->next) = sequence->next;
    *(sequence->next == NULL ? &scheduler->waiting_last : &sequence->next->before) = sequence->before;
    sequence->next = sequence->before = NULL;
    scheduler->waiting_count--;
    scheduler->waiting_preempted -= sequence->claims->waits_preempted;
    scheduler->events++;
}

/* a is preempted after b. */
static bool runs_before(const cascade_sequence *a, const cascade_sequence *b) {
    return a->priority != b->priority ? a->priority > b->priority : a->claims->number < b->claims->number;
}

static void running_add(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    uint32_t i = scheduler->running_count++;
    for (; i > 0 && runs_before(sequence, scheduler->running[i - 1]); i--)
        scheduler->running[i] = scheduler->running[i - 1];
    scheduler->running[i] = sequence;
    sequence->state = SEQUENCE_PREFILL;
}

static void running_remove(cascade_scheduler *scheduler, const cascade_sequence *sequence) {
    uint32_t i = 0;
    while (scheduler->running[i] != sequence)
        i++;
    scheduler->running_count--;
    for (; i < scheduler->running_count; i++)
        scheduler->running[i] = scheduler->running[i + 1];
    scheduler->events++;
}

/* ------------------------------------------------------------------ coming and going ---- */

static cento_status check_fits(const cascade_scheduler *scheduler, const cascade_sequence *sequence,
                               cento_error *error) {
    const page_manager *pages = scheduler->pages;
    const cascade_layout *layout = sequence->layout;
    uint64_t chunk_pages = cascade_layout_chunk_pages(layout, pages);
    uint64_t own_tokens = (uint64_t)layout->own_tokens + (sequence->answer_tokens_max > 0);
    uint64_t own_pages = page_manager_pages_for(pages, own_tokens);
    bool fits = pages->borrow
                    ? chunk_pages + own_pages <= pages->page_count
                    : chunk_pages <= pages->shares[PAGE_CHUNK] && own_pages <= pages->shares[PAGE_SEQUENCE];
    if (fits)
        return CENTO_OK;
    if (pages->borrow)
        return error_set(
            error, CENTO_POOL_FULL,
            "a prompt of %u tokens needs %llu KV pages of %u tokens, and %llu for its end and the "
            "answer's beginning; the pool has %u",
            sequence->prompt_tokens, (unsigned long long)chunk_pages, pages->page_tokens,
            (unsigned long long)own_pages, pages->page_count);
    return error_set(error, CENTO_POOL_FULL,
                     "a prompt of %u tokens needs %llu KV pages of %u tokens, and %llu for its end and the "
                     "answer's beginning; chunks have %u of the pool's pages, sequences %u",
                     sequence->prompt_tokens, (unsigned long long)chunk_pages, pages->page_tokens,
                     (unsigned long long)own_pages, pages->shares[PAGE_CHUNK], pages->shares[PAGE_SEQUENCE]);
}

static cento_status check_sequence(const cascade_scheduler *scheduler, const cascade_sequence *sequence,
                                   cento_error *error) {
    const cascade_layout *layout = sequence->layout;
    uint64_t token_count = (uint64_t)sequence->prompt_tokens + sequence->answer_tokens_max;
    if (sequence->state != SEQUENCE_NEW || sequence->prompt_tokens == 0 ||
        sequence->prompt_tokens != layout->prompt_tokens || sequence->token_capacity < token_count ||
        (sequence->answer_tokens_max > 0 && layout->own_tokens == 0 && !layout->repeats_last))
        return error_set(error, CENTO_INTERNAL,
                         "scheduler: a sequence of %u + %u tokens with room for %u, a layout of %u, own %u, "
                         "state %d",
                         sequence->prompt_tokens, sequence->answer_tokens_max, sequence->token_capacity,
                         layout->prompt_tokens, layout->own_tokens, (int)sequence->state);
    if (token_count > scheduler->options.context_tokens_max)
        return error_set(error, CENTO_CONTEXT_FULL,
                         "a prompt of %u tokens and an answer of at most %u, the context holds %u",
                         sequence->prompt_tokens, sequence->answer_tokens_max,
                         scheduler->options.context_tokens_max);
    if (scheduler->waiting_count - scheduler->waiting_preempted >= scheduler->options.max_waiting)
        return error_set(error, CENTO_QUEUE_FULL, "%u requests are waiting, of at most %u",
                         scheduler->waiting_count - scheduler->waiting_preempted,
                         scheduler->options.max_waiting);
    return check_fits(scheduler, sequence, error);
}

cento_status cascade_scheduler_submit(cascade_scheduler *scheduler, cascade_sequence *sequence,
                                      cento_error *error) {
    TRY(check_sequence(scheduler, sequence, error));
    sequence_claims *claims;
    TRY(claims_create(sequence, &claims, error));
    uint8_t *row_counts = mem_zalloc(sequence->prompt_tokens, sizeof *row_counts);
    if (row_counts == NULL) {
        claims_free(claims);
        return error_memory(error, sequence->prompt_tokens);
    }
    claims->number = ++scheduler->number;
    sequence->claims = claims;
    sequence->row_counts = row_counts;
    sequence->token_count = sequence->prompt_tokens;
    sequence->computed_count = 0;
    sequence->rows_computed = 0;
    sequence->preemptions = sequence->waited_steps = sequence->overtaken = 0;
    sequence->admitted_ns = 0;
    waiting_add(scheduler, sequence);
    return CENTO_OK;
}

void cascade_scheduler_accept(cascade_scheduler *scheduler, cascade_sequence *sequence, int32_t token) {
    (void)scheduler;
    assert(sequence->state == SEQUENCE_DECODE && sequence->token_count < sequence->token_capacity);
    assert(sequence->computed_count == sequence->token_count);
    sequence->tokens[sequence->token_count++] = token;
}

void cascade_scheduler_remove(cascade_scheduler *scheduler, cascade_sequence *sequence, bool keep,
                              context_chunk *chunk) {
    if (sequence->state == SEQUENCE_NEW)
        return;
    assert(!scheduler->under_way);
    if (sequence->state == SEQUENCE_WAITING) {
        waiting_remove(scheduler, sequence);
    } else {
        running_remove(scheduler, sequence);
        claims_drop(scheduler, sequence, keep, chunk);
    }
    if (scheduler->blocked == sequence)
        scheduler->blocked = NULL;
    claims_free(sequence->claims);
    mem_free(sequence->row_counts);
    sequence->claims = NULL;
    sequence->row_counts = NULL;
    sequence->state = SEQUENCE_NEW;
}

/* Gives its pages back; what the tree keeps of them may still be there when it is restored. */
static void preempt(cascade_scheduler *scheduler, cascade_sequence *sequence) {
    sequence_claims *claims = sequence->claims;
    running_remove(scheduler, sequence);
    scheduler->pages_preempted += claims->own->page_count;
    claims_drop(scheduler, sequence, sequence->layout->own_on_path, NULL);
    claims->waits_preempted = true;
    claims->preempted_step = scheduler->stats.steps;
    sequence->computed_count = 0;
    sequence->preemptions++;
    scheduler->stats.preemptions++;
    waiting_add(scheduler, sequence);
}

static void fail(cascade_scheduler *scheduler, cascade_sequence *sequence, const cento_error *error) {
    scheduler->failure = *error;
    scheduler->failed[scheduler->failed_count++] = sequence;
    cascade_scheduler_remove(scheduler, sequence, false, NULL);
}

/* ------------------------------------------------------------------ admission ---- */

static bool may_preempt(const cascade_scheduler *scheduler, const cascade_sequence *victim,
                        int32_t priority) {
    return victim->priority < priority && victim->claims->admitted_step != scheduler->stats.steps;
}

/* The sequence that goes first for one of this priority; NULL: none may. */
static cascade_sequence *find_victim(const cascade_scheduler *scheduler, int32_t priority) {
    for (uint32_t i = scheduler->running_count; i > 0; i--) {
        if (scheduler->running[i - 1]->priority >= priority)
            return NULL;
        if (may_preempt(scheduler, scheduler->running[i - 1], priority))
            return scheduler->running[i - 1];
    }
    return NULL;
}

/* Whether there are pages for it, and one for each running sequence to grow by. given_back: pages that come
 * free beyond what can be had now. What this step preempted is there, but may lie in the chunks' share. */
static bool has_room(const cascade_scheduler *scheduler, const cascade_sequence *sequence,
                     uint64_t given_back) {
    uint32_t chunk_pages, own_pages;
    claims_estimate(scheduler, sequence, &chunk_pages, &own_pages);
    uint64_t chunk_room = chunk_registry_pages_available(scheduler->registry, PAGE_CHUNK) + given_back;
    uint64_t own_room = chunk_registry_pages_available(scheduler->registry, PAGE_SEQUENCE) + given_back;
    uint64_t own_wanted = (uint64_t)own_pages + scheduler->running_count;
    if (!scheduler->pages->borrow)
        return chunk_pages <= chunk_room && own_wanted <= own_room;
    own_room += scheduler->pages_preempted;
    return chunk_pages + own_wanted <= chunk_room && own_wanted <= own_room;
}

/* POOL_FULL: not now. */
static cento_status try_admit(cascade_scheduler *scheduler, cascade_sequence *sequence, cento_error *error) {
    sequence_claims *claims = sequence->claims;
    if (scheduler->running_count > 0) {
        if (claims->preempted_step == scheduler->stats.steps && claims->waits_preempted)
            return error_set(error, CENTO_POOL_FULL, "it was preempted in this step");
        if (!has_room(scheduler, sequence, 0))
            return error_set(error, CENTO_POOL_FULL, "too few KV pages are free or could be freed");
    }
    TRY(claims_take(scheduler, sequence, error));
    waiting_remove(scheduler, sequence);
    if (claims->waits_preempted)
        scheduler->stats.restorations++;
    claims->waits_preempted = false;
    claims->admitted_step = scheduler->stats.steps;
    if (sequence->admitted_ns == 0)
        sequence->admitted_ns = clock_now_ns();
    running_add(scheduler, sequence);
    scheduler->stats.admissions++;
    return CENTO_OK;
}

static void fill_filter(cascade_scheduler *scheduler) {
    memset(scheduler->filter, 0, FILTER_BITS / 8);
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        const sequence_claims *claims = scheduler->running[i]->claims;
        for (size_t mark = 0; mark < claims->mark_count; mark++) {
            uint32_t bit = (uint32_t)(claims->marks[mark].hash % FILTER_BITS);
            scheduler->filter[bit / 64] |= UINT64_C(1) << bit % 64;
        }
    }
}

/* Tokens that it has in common with running sequences; a hint, sometimes too many. */
static uint64_t shared_tokens(const cascade_scheduler *scheduler, const cascade_sequence *sequence) {
    uint64_t count = 0;
    for (size_t mark = 0; mark < sequence->claims->mark_count; mark++) {
        uint32_t bit = (uint32_t)(sequence->claims->marks[mark].hash % FILTER_BITS);
        if ((scheduler->filter[bit / 64] >> bit % 64 & 1) != 0)
            count += sequence->claims->marks[mark].tokens;
    }
    return count;
}

/* One of the head's priority that has more in common with what runs than the head has, and that overtakes
 * nobody too often; NULL: none. */
static cascade_sequence *find_sharer(cascade_scheduler *scheduler) {
    cascade_sequence *head = scheduler->waiting_first, *best = NULL;
    if (scheduler->running_count == 0 || head->overtaken >= scheduler->options.overtaken_max ||
        head->next == NULL)
        return NULL;
    fill_filter(scheduler);
    uint64_t best_tokens = shared_tokens(scheduler, head);
    uint32_t looked_at = 0;
    for (cascade_sequence *candidate = head->next;
         candidate != NULL && candidate->priority == head->priority && looked_at < CANDIDATES_MAX;
         candidate = candidate->next, looked_at++) {
        uint64_t tokens = shared_tokens(scheduler, candidate);
        if (tokens > best_tokens && candidate->claims->preempted_step != scheduler->stats.steps) {
            best = candidate;
            best_tokens = tokens;
        }
        if (candidate->overtaken >= scheduler->options.overtaken_max)
            break;
    }
    return best;
}

static cento_status admit_overtaking(cascade_scheduler *scheduler, cascade_sequence *sequence,
                                     cento_error *error) {
    cascade_sequence *ahead = sequence->before;
    TRY(try_admit(scheduler, sequence, error));
    for (; ahead != NULL; ahead = ahead->before)
        ahead->overtaken++;
    scheduler->stats.overtakings++;
    return CENTO_OK;
}

/* Whether preempting all that may be would help: an upper bound of what they would give back. */
static bool worth_preempting(const cascade_scheduler *scheduler, const cascade_sequence *sequence) {
    uint64_t page_count = 0;
    for (uint32_t i = scheduler->running_count; i > 0; i--) {
        const cascade_sequence *victim = scheduler->running[i - 1];
        if (!may_preempt(scheduler, victim, sequence->priority))
            continue;
        page_count += victim->claims->own->page_count;
        for (uint32_t node = 0; node < victim->claims->path_count; node++)
            page_count += victim->claims->path[node]->kv.run->page_count;
        for (size_t node = 0; node < victim->layout->node_count; node++)
            page_count += victim->claims->kvs[node]->run->page_count;
    }
    return has_room(scheduler, sequence, page_count);
}

/* Sequences that hold more than their share give it back to chunks, which have been waiting for it: the
 * youngest one that is not before `head`; NULL: none. Never the first. */
static cascade_sequence *find_borrower(const cascade_scheduler *scheduler, const cascade_sequence *head) {
    if (!scheduler->pages->borrow || head->waited_steps < PATIENCE_STEPS || scheduler->running_count < 2 ||
        page_manager_excess(scheduler->pages, PAGE_SEQUENCE) == 0)
        return NULL;
    cascade_sequence *last = scheduler->running[scheduler->running_count - 1];
    if (last->priority > head->priority || last->claims->admitted_step == scheduler->stats.steps)
        return NULL;
    return last;
}

/* With what sequences hold beyond their share there are pages for it, and chunks stay within theirs. */
static bool is_owed(const cascade_scheduler *scheduler, const cascade_sequence *head) {
    uint32_t chunk_pages, own_pages;
    claims_estimate(scheduler, head, &chunk_pages, &own_pages);
    return (uint64_t)chunk_registry_pages_used(scheduler->registry, PAGE_CHUNK) + chunk_pages <=
               scheduler->pages->shares[PAGE_CHUNK] &&
           has_room(scheduler, head, page_manager_excess(scheduler->pages, PAGE_SEQUENCE));
}

/* The head of the queue, if need be in the place of sequences of lower priority, or of such as hold more than
 * sequences may. */
static cento_status admit_head(cascade_scheduler *scheduler, cento_error *error) {
    cascade_sequence *head = scheduler->waiting_first, *victim;
    bool full = scheduler->running_count == scheduler->options.max_sequences;
    cento_status status = full ? CENTO_POOL_FULL : try_admit(scheduler, head, error);
    if (status != CENTO_POOL_FULL || head->claims->preempted_step == scheduler->stats.steps)
        return status;
    if (find_victim(scheduler, head->priority) != NULL && worth_preempting(scheduler, head)) {
        while (status == CENTO_POOL_FULL && (victim = find_victim(scheduler, head->priority)) != NULL) {
            preempt(scheduler, victim);
            status = try_admit(scheduler, head, error);
        }
    } else if (!full && find_borrower(scheduler, head) != NULL && is_owed(scheduler, head)) {
        while (status == CENTO_POOL_FULL && (victim = find_borrower(scheduler, head)) != NULL) {
            preempt(scheduler, victim);
            status = try_admit(scheduler, head, error);
        }
    }
    return status;
}

static cento_status admit_one(cascade_scheduler *scheduler, cento_error *error) {
    uint32_t slots = scheduler->options.max_sequences - scheduler->running_count;
    cascade_sequence *sharer = NULL;
    if (slots > 0 && slots < scheduler->waiting_count) /* not all will run: those first that share */
        sharer = find_sharer(scheduler);
    cento_status status = CENTO_POOL_FULL;
    if (sharer != NULL)
        status = admit_overtaking(scheduler, sharer, error);
    if (status == CENTO_POOL_FULL)
        status = admit_head(scheduler, error);
    if (status == CENTO_POOL_FULL && sharer == NULL &&
        scheduler->running_count < scheduler->options.max_sequences) {
        sharer = find_sharer(scheduler);
        if (sharer != NULL)
            status = admit_overtaking(scheduler, sharer, error);
    }
    return status;
}

/* Nothing has changed since the queue's head could not be admitted. */
static bool is_blocked(const cascade_scheduler *scheduler) {
    return scheduler->blocked == scheduler->waiting_first && scheduler->blocked_events == scheduler->events &&
           scheduler->stats.steps - scheduler->blocked_step < BLOCKED_STEPS &&
           chunk_registry_pages_available(scheduler->registry, PAGE_CHUNK) <= scheduler->blocked_available;
}

static cento_status admit(cascade_scheduler *scheduler, cento_error *error) {
    for (cascade_sequence *waiting = scheduler->waiting_first; waiting != NULL; waiting = waiting->next)
        waiting->waited_steps++;
    while (scheduler->waiting_first != NULL) {
        cascade_sequence *head = scheduler->waiting_first;
        bool full = scheduler->running_count == scheduler->options.max_sequences;
        if (full && find_victim(scheduler, head->priority) == NULL)
            return CENTO_OK;
        if (scheduler->running_count > 0 && is_blocked(scheduler))
            return CENTO_OK;
        cento_status status = admit_one(scheduler, error);
        if (status == CENTO_OK)
            continue;
        if (status != CENTO_POOL_FULL)
            return status;
        if (scheduler->running_count > 0) {
            scheduler->blocked = scheduler->waiting_first;
            scheduler->blocked_events = scheduler->events;
            scheduler->blocked_step = scheduler->stats.steps;
            scheduler->blocked_available = chunk_registry_pages_available(scheduler->registry, PAGE_CHUNK);
            return CENTO_OK;
        }
        /* alone, and still no pages: never */
        if (scheduler->failed_count == scheduler->options.max_sequences)
            return CENTO_OK;
        fail(scheduler, scheduler->waiting_first, error);
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ the step ---- */

/* The page that the next row of a sequence in decode goes to. Whoever needs one takes it from those behind
 * it, who are preempted; so the first one always goes on. */
static cento_status grow_decoding(cascade_scheduler *scheduler, cento_error *error) {
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        cascade_sequence *sequence = scheduler->running[i];
        if (sequence->state != SEQUENCE_DECODE || sequence->computed_count == sequence->token_count)
            continue;
        uint32_t needed = own_index(sequence, sequence->token_count - 1) / scheduler->pages->page_tokens + 1;
        while (sequence->state == SEQUENCE_DECODE && sequence->claims->own->page_count < needed) {
            bool alone = scheduler->running_count == 1;
            cento_status status = claims_grow_own(scheduler, sequence, 1, alone, error);
            if (status != CENTO_OK && status != CENTO_POOL_FULL)
                return status;
            if (status == CENTO_OK)
                continue;
            if (alone)
                fail(scheduler, sequence, error);
            else
                preempt(scheduler, scheduler->running[scheduler->running_count - 1]);
        }
    }
    return CENTO_OK;
}

static cento_status refresh_spans(cascade_scheduler *scheduler, cento_error *error) {
    size_t bound = 0;
    for (uint32_t i = 0; i < scheduler->running_count; i++) {
        TRY(claims_refresh(scheduler, scheduler->running[i], error));
        bound += claims_span_bound(scheduler->running[i]);
    }
    if (bound > UINT32_MAX ||
        !mem_grow((void **)&scheduler->spans, &scheduler->span_capacity, bound, sizeof *scheduler->spans))
        return error_memory(error, bound * sizeof *scheduler->spans);
    return CENTO_OK;
}

static void fill_step(cascade_scheduler *scheduler, cascade_step *step) {
    *step = (cascade_step){
        .row_count = scheduler->row_count,
        .tokens = scheduler->tokens,
        .positions = scheduler->positions,
        .kv_slots = scheduler->kv_slots,
        .groups = scheduler->groups,
        .group_count = scheduler->group_count,
        .spans = scheduler->spans,
        .span_count = scheduler->span_count,
        .copies = scheduler->copies,
        .copy_count = scheduler->under_way ? scheduler->copy_count : 0,
        .logit_rows = scheduler->logit_rows,
        .logit_sequences = scheduler->logit_sequences,
        .logit_count = scheduler->logit_count,
        .completed = scheduler->completed,
        .completed_count = scheduler->completed_count,
        .failed = scheduler->failed,
        .failed_count = scheduler->failed_count,
        .decode_rows = scheduler->decode_rows,
        .prefill_rows = scheduler->row_count - scheduler->decode_rows,
    };
    if (scheduler->failed_count > 0)
        step->failure = scheduler->failure;
    else
        step->failure.status = CENTO_OK;
}

cento_status cascade_scheduler_step(cascade_scheduler *scheduler, cascade_step *step, cento_error *error) {
    if (scheduler->under_way)
        return error_set(error, CENTO_INTERNAL, "scheduler: the step before has not been ended");
    scheduler->row_count = scheduler->group_count = scheduler->span_count = scheduler->item_count = 0;
    scheduler->logit_count = scheduler->completed_count = scheduler->decode_rows = 0;
    scheduler->open_group = NULL;
    scheduler->pages_preempted = 0;
    if (scheduler->failed_count > 0 && !scheduler->failed_reported) {
        scheduler->failed_reported = true; /* the step that they failed in found no memory then */
        fill_step(scheduler, step);
        return CENTO_OK;
    }
    scheduler->failed_count = 0;
    scheduler->failed_reported = false;
    scheduler->stats.steps++;
    TRY(grow_decoding(scheduler, error));
    TRY(admit(scheduler, error));
    TRY(refresh_spans(scheduler, error));
    rows_lay_out(scheduler);
    scheduler->stats.rows += scheduler->row_count;
    scheduler->under_way = scheduler->row_count > 0 || scheduler->completed_count > 0;
    scheduler->failed_reported = true;
    fill_step(scheduler, step);
    return CENTO_OK;
}

void cascade_scheduler_computed(cascade_scheduler *scheduler, const cascade_step *step, bool succeeded) {
    (void)step;
    if (!scheduler->under_way)
        return;
    scheduler->under_way = false;
    rows_computed(scheduler, succeeded);
    if (!succeeded)
        scheduler->stats.rows -= scheduler->row_count;
}
