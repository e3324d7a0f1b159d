/*
 * A forward pass without a model, for tests of layout and scheduler. The KV of a token is a hash of the
 * token, its position, and the KV and positions of all keys that its row saw; so it shows everything that it
 * depends on, in all layers, as attention states do. Executing a step checks that each row sees each position
 * before its own exactly once, only keys that are there, and rotated as the span says; pages that are free
 * are poisoned. A sampled token is the hash of its row.
 *
 * What a prompt's answer must be is computed beside that, from the definition of the modes alone
 * (fake_expect): no pages, no layout, no sharing.
 */
#ifndef CENTO_TESTS_CASCADE_FAKE_MODEL_H
#define CENTO_TESTS_CASCADE_FAKE_MODEL_H

#include "support.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cascade/cascade_scheduler.h"

#define FAKE_PARTS_MAX  24
#define FAKE_VOCABULARY 4096

static cento_error error;
static const uint8_t fake_fingerprint[SHA256_BYTES] = {7, 7, 7};

typedef struct fake_slot {
    uint64_t value;
    uint32_t position; /* for which its key was rotated */
    bool valid;
} fake_slot;

typedef struct fake_options {
    uint32_t page_count, page_tokens;
    double chunk_page_ratio; /* 0: 0.5 */
    bool fixed_shares;
    scheduler_options
        scheduler;       /* 0: max_sequences 8, max_batched_tokens 64, max_waiting 1000, context 4096 */
    uint32_t chunks_max; /* 0: 1000 */
    uint64_t (*now_ns)(void *user);
} fake_options;

typedef struct fake_model {
    page_manager *pages;
    chunk_registry *registry;
    prefix_tree *tree;
    cascade_scheduler *scheduler;
    fake_slot *slots; /* (page_count, page_tokens) */
    bool *poisoned;   /* (page_count) */
    uint32_t page_tokens;
    uint32_t rows_max;
    uint64_t rows, copies, steps;
    uint64_t finished, failures;
    uint32_t check_every; /* steps; 0: never */
    bool keeps;           /* finished answers are kept */
} fake_model;

/* One request. */
typedef struct fake_job {
    layout_part parts[FAKE_PARTS_MAX];
    context_chunk *chunks[FAKE_PARTS_MAX];
    size_t part_count;
    layout_options options;
    cascade_layout layout;
    char salt[8];
    int32_t *tokens;   /* (prompt and answer) */
    int32_t *expected; /* (answer_tokens_max) */
    cascade_sequence sequence;
    uint32_t answer_tokens; /* after it finished */
    uint64_t rows_computed;
    uint32_t preemptions;
    bool submitted, done, failed;
} fake_job;

/* ------------------------------------------------------------------ the hash ---- */

static inline uint64_t fake_mix(uint64_t a, uint64_t b) {
    uint64_t hash = (a ^ UINT64_C(0x9E3779B97F4A7C15)) * UINT64_C(0xBF58476D1CE4E5B9) + b;
    hash = (hash ^ hash >> 30) * UINT64_C(0x94D049BB133111EB);
    return hash ^ hash >> 31;
}

/* What one key adds to what a row saw. */
static inline uint64_t fake_key(uint64_t value, uint32_t position) {
    uint64_t hash = (value ^ (uint64_t)position << 32) * UINT64_C(0xD6E8FEB86659FD93);
    return hash ^ hash >> 32;
}

static inline uint64_t fake_row(int32_t token, uint32_t position, uint64_t seen) {
    return fake_mix(fake_mix((uint64_t)token, position), seen);
}

static inline int32_t fake_sample(uint64_t row) {
    return (int32_t)(row % FAKE_VOCABULARY);
}

/* ------------------------------------------------------------------ what must come out ---- */

/* Rows of `tokens` computed in place from `position` on, behind keys that sum up to *seen. */
static inline void fake_expect_in_place(const int32_t *tokens, uint32_t count, uint32_t position,
                                        uint64_t *seen, uint64_t *last_row) {
    for (uint32_t i = 0; i < count; i++) {
        *last_row = fake_row(tokens[i], position + i, *seen);
        *seen += fake_key(*last_row, position + i);
    }
}

/* A document computed apart stands at `position`; its first `head` tokens were computed in place. */
static inline void fake_expect_apart(const int32_t *tokens, uint32_t count, uint32_t head,
                                     uint32_t anchor_tokens, uint64_t anchor_seen, uint32_t position,
                                     uint64_t *seen) {
    uint64_t own_seen = anchor_seen;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t row = fake_row(tokens[i], anchor_tokens + i, own_seen);
        own_seen += fake_key(row, anchor_tokens + i);
        if (i >= head)
            *seen += fake_key(row, position + i);
    }
}

/* The answer, from what the modes promise. */
static inline void fake_expect(fake_job *job, uint32_t answer_tokens) {
    const layout_options *options = &job->options;
    uint32_t head = options->mode == CENTO_MODE_LINK ? options->link_tokens : 0;
    uint64_t seen = 0, last_row = 0, anchor_seen = 0;
    uint32_t anchor_tokens = 0;
    bool before_first = true;
    for (size_t i = 0; i < job->part_count; i++) {
        const layout_part *part = &job->parts[i];
        const int32_t *tokens = job->tokens + part->token_begin;
        bool document = !part->is_template && part->kind == CENTO_KIND_CONTEXT;
        if (document && before_first && options->anchored) {
            anchor_seen = seen;
            anchor_tokens = part->token_begin;
        }
        before_first = before_first && !document;
        if (!document || options->mode == CENTO_MODE_EXACT || head >= part->token_count) {
            fake_expect_in_place(tokens, part->token_count, part->token_begin, &seen, &last_row);
            continue;
        }
        fake_expect_in_place(tokens, head, part->token_begin, &seen, &last_row);
        uint64_t seen_before_last = seen;
        fake_expect_apart(tokens, part->token_count - 1, head, anchor_tokens, anchor_seen, part->token_begin,
                          &seen_before_last);
        /* ends the prompt: its last token sees what stands before, from where it stands */
        last_row = fake_row(tokens[part->token_count - 1], part->token_begin + part->token_count - 1,
                            seen_before_last);
        fake_expect_apart(tokens, part->token_count, head, anchor_tokens, anchor_seen, part->token_begin,
                          &seen);
    }
    uint32_t position = job->layout.prompt_tokens;
    for (uint32_t i = 0; i < answer_tokens; i++) {
        job->expected[i] = fake_sample(last_row);
        fake_expect_in_place(&job->expected[i], 1, position + i, &seen, &last_row);
    }
}

/* ------------------------------------------------------------------ the pool and what stands on it ---- */

static inline fake_model fake_open(fake_options options) {
    fake_model model = {.page_tokens = options.page_tokens, .check_every = 1, .keeps = true};
    const page_manager_options page_options = {
        .page_count = options.page_count,
        .page_tokens = options.page_tokens,
        .chunk_page_ratio = options.chunk_page_ratio > 0 ? options.chunk_page_ratio : 0.5,
        .borrow = !options.fixed_shares};
    const chunk_registry_options registry_options = {.chunks_max =
                                                         options.chunks_max > 0 ? options.chunks_max : 1000,
                                                     .page_bytes = 1024,
                                                     .now_ns = options.now_ns};
    scheduler_options *scheduler = &options.scheduler;
    scheduler->max_sequences = scheduler->max_sequences > 0 ? scheduler->max_sequences : 8;
    scheduler->max_batched_tokens = scheduler->max_batched_tokens > 0 ? scheduler->max_batched_tokens : 64;
    scheduler->max_waiting = scheduler->max_waiting > 0 ? scheduler->max_waiting : 1000;
    scheduler->context_tokens_max = scheduler->context_tokens_max > 0 ? scheduler->context_tokens_max : 4096;
    scheduler->continuous = true;
    model.rows_max = scheduler->max_batched_tokens;
    ASSERT_OK(page_manager_create(&page_options, &model.pages, &error));
    ASSERT_OK(chunk_registry_create(model.pages, &registry_options, &model.registry, &error));
    ASSERT_OK(prefix_tree_create(model.registry, &model.tree, &error));
    ASSERT_OK(cascade_scheduler_create(scheduler, model.registry, model.tree, &model.scheduler, &error));
    model.slots = mem_zalloc((size_t)options.page_count * options.page_tokens, sizeof *model.slots);
    model.poisoned = mem_zalloc(options.page_count, sizeof *model.poisoned);
    assert_true(model.slots != NULL && model.poisoned != NULL);
    return model;
}

/* Everything goes, and no page is left behind. */
static inline void fake_close(fake_model *model) {
    ASSERT_OK(cascade_scheduler_check(model->scheduler, &error));
    cascade_scheduler_free(model->scheduler);
    assert_int_equal(model->pages->counts[PAGE_SEQUENCE], 0);
    prefix_tree_free(model->tree);
    chunk_registry_free(model->registry);
    assert_int_equal(model->pages->counts[PAGE_FREE], model->pages->page_count);
    page_manager_free(model->pages);
    mem_free(model->slots);
    mem_free(model->poisoned);
}

/* ------------------------------------------------------------------ a forward pass ---- */

static inline void fake_poison_free_pages(fake_model *model) {
    for (uint32_t page = 0; page < model->pages->page_count; page++) {
        bool is_free = model->pages->owners[page] == NULL;
        bool fresh = is_free && !model->poisoned[page];
        model->poisoned[page] = is_free;
        for (uint32_t i = 0; i < model->page_tokens && fresh; i++)
            model->slots[page * model->page_tokens + i] = (fake_slot){.value = UINT64_C(0xDEADBEEF)};
    }
}

static inline uint64_t fake_row_value(const fake_model *model, const cascade_step *step,
                                      const row_group *group, uint32_t row) {
    uint32_t position = step->positions[row], expected = 0;
    uint64_t seen = 0;
    for (uint32_t i = group->span_begin; i < group->span_begin + group->span_count; i++) {
        const kv_span *span = &step->spans[i];
        assert_true(span->token_begin < span->token_end);
        if (span->continues) {
            assert_true(i > group->span_begin);
            const kv_span *before = span - 1;
            assert_int_equal(before->position + (before->token_end - before->token_begin), span->position);
            assert_true(before->rotation_origin == span->rotation_origin);
        }
        for (uint32_t token = span->token_begin; token < span->token_end; token++) {
            uint32_t key_position = span->position + (token - span->token_begin);
            if (key_position > position)
                break;
            if (key_position != expected++) /* each position once, in order */
                fail_msg("row %u at %u sees %u, expected %u", row, position, key_position, expected - 1);
            uint32_t slot =
                span->pages[token / model->page_tokens] * model->page_tokens + token % model->page_tokens;
            if (slot == step->kv_slots[row]) {
                assert_int_equal(key_position, position); /* itself */
                continue;
            }
            const fake_slot *key = &model->slots[slot];
            if (!key->valid)
                fail_msg("row %u at %u sees a key at %u that is not there", row, position, key_position);
            if ((int64_t)key->position + span->rotation_origin != (int64_t)key_position)
                fail_msg("row %u at %u sees a key at %u that is rotated for %u", row, position, key_position,
                         key->position);
            seen += fake_key(key->value, key_position);
        }
    }
    assert_int_equal(expected, position + 1);
    return fake_row(step->tokens[row], position, seen);
}

/* Rows in their order: what a row sees, the backend has by then. */
static inline void fake_forward(fake_model *model, const cascade_step *step) {
    for (uint32_t i = 0; i < step->copy_count; i++) {
        kv_copy copy = step->copies[i];
        assert_true(copy.token_count > 0 && copy.token_count < model->page_tokens);
        assert_non_null(model->pages->owners[copy.to_slot / model->page_tokens]);
        for (uint32_t token = 0; token < copy.token_count; token++) {
            assert_true(model->slots[copy.from_slot + token].valid);
            model->slots[copy.to_slot + token] = model->slots[copy.from_slot + token];
        }
    }
    model->copies += step->copy_count;
    fake_poison_free_pages(model);
    uint32_t rows = 0;
    for (uint32_t i = 0; i < step->group_count; i++) {
        const row_group *group = &step->groups[i];
        assert_true(group->row_begin == rows && group->row_count > 0);
        assert_true(group->span_begin + group->span_count <= step->span_count);
        for (; rows < group->row_begin + group->row_count; rows++) {
            assert_true(rows == group->row_begin || step->positions[rows] > step->positions[rows - 1]);
            uint64_t value = fake_row_value(model, step, group, rows);
            assert_non_null(model->pages->owners[step->kv_slots[rows] / model->page_tokens]);
            model->slots[step->kv_slots[rows]] = (fake_slot){value, step->positions[rows], true};
        }
    }
    assert_int_equal(rows, step->row_count);
    assert_int_equal(step->decode_rows + step->prefill_rows, step->row_count);
    assert_true(step->row_count <= model->rows_max);
    model->rows += rows;
    model->steps++;
}

/* ------------------------------------------------------------------ requests ---- */

static inline void fake_add(fake_job *job, cento_kind kind, bool is_template, const int32_t *tokens,
                            uint32_t token_count) {
    uint32_t begin = job->layout.prompt_tokens; /* until the layout is built */
    assert_true(job->part_count < FAKE_PARTS_MAX && token_count > 0);
    job->tokens = mem_realloc(job->tokens, begin + token_count, sizeof *job->tokens);
    assert_non_null(job->tokens);
    memcpy(job->tokens + begin, tokens, token_count * sizeof *tokens);
    layout_part *part = &job->parts[job->part_count++];
    *part = (layout_part){
        .token_begin = begin, .token_count = token_count, .is_template = is_template, .kind = kind};
    ASSERT_OK(content_id_of(fake_fingerprint, tokens, token_count, &part->content_id, &error));
    job->layout.prompt_tokens = begin + token_count;
}

/* Token ids first, first + 1, … */
static inline void fake_add_numbers(fake_job *job, cento_kind kind, bool is_template, int32_t first,
                                    uint32_t token_count) {
    int32_t tokens[1024];
    assert_true(token_count <= 1024);
    for (uint32_t i = 0; i < token_count; i++)
        tokens[i] = first + (int32_t)i;
    fake_add(job, kind, is_template, tokens, token_count);
}

static inline void fake_piece(fake_job *job, cento_kind kind, int32_t first, uint32_t token_count) {
    fake_add_numbers(job, kind, false, first, token_count);
}

static inline void fake_template(fake_job *job, int32_t first, uint32_t token_count) {
    fake_add_numbers(job, CENTO_KIND_SYSTEM, true, first, token_count);
}

/* The parts are there: lays them out and says what must come out. answer_tokens 0: prefill only. */
static inline void fake_prepare(fake_job *job, cento_mode mode, uint32_t link_tokens, bool anchored,
                                const char *salt, uint32_t answer_tokens) {
    if (salt != NULL)
        snprintf(job->salt, sizeof job->salt, "%s", salt);
    uint32_t prompt_tokens = job->layout.prompt_tokens;
    job->options = (layout_options){.mode = mode,
                                    .link_tokens = link_tokens,
                                    .anchored = anchored,
                                    .scope = {fake_fingerprint, "f32", salt == NULL ? NULL : job->salt},
                                    .tokenizer_fingerprint = fake_fingerprint,
                                    .keeps_all = answer_tokens == 0};
    job->layout = (cascade_layout){0};
    ASSERT_OK(cascade_layout_build(job->tokens, prompt_tokens, job->parts, job->part_count, &job->options,
                                   &job->layout, &error));
    job->tokens = mem_realloc(job->tokens, prompt_tokens + answer_tokens, sizeof *job->tokens);
    job->expected = mem_alloc(answer_tokens, sizeof *job->expected);
    assert_true(job->tokens != NULL && job->expected != NULL);
    fake_expect(job, answer_tokens);
    job->sequence = (cascade_sequence){.tokens = job->tokens,
                                       .token_capacity = prompt_tokens + answer_tokens,
                                       .prompt_tokens = prompt_tokens,
                                       .answer_tokens_max = answer_tokens};
}

static inline void fake_release_chunks(fake_model *model, fake_job *job) {
    for (size_t i = 0; i < job->part_count; i++) {
        chunk_registry_release(model->registry, job->chunks[i]);
        job->chunks[i] = NULL;
    }
}

/* The job stays where it is from here on. */
static inline cento_status fake_try_submit(fake_model *model, fake_job *job) {
    cento_status status = CENTO_OK;
    job->sequence.layout = &job->layout;
    job->sequence.options = &job->options;
    job->sequence.chunks = job->chunks;
    job->sequence.user = job;
    if (job->options.scope.salt != NULL)
        job->options.scope.salt = job->salt;
    for (size_t i = 0; i < job->part_count && status == CENTO_OK; i++) {
        const layout_part *part = &job->parts[i];
        if (!part->is_template)
            status = chunk_registry_acquire(model->registry, part->kind, &part->content_id,
                                            job->tokens + part->token_begin, part->token_count, NULL,
                                            &job->chunks[i], NULL, &error);
    }
    if (status == CENTO_OK)
        status = cascade_scheduler_submit(model->scheduler, &job->sequence, &error);
    if (status != CENTO_OK)
        fake_release_chunks(model, job);
    job->submitted = status == CENTO_OK;
    return status;
}

static inline void fake_submit(fake_model *model, fake_job *job) {
    ASSERT_OK(fake_try_submit(model, job));
}

/* It leaves the scheduler, if it is there. */
static inline void fake_end(fake_model *model, fake_job *job, bool keep) {
    if (!job->submitted)
        return;
    job->rows_computed = job->sequence.rows_computed;
    job->preemptions = job->sequence.preemptions;
    cascade_scheduler_remove(model->scheduler, &job->sequence, keep, NULL);
    fake_release_chunks(model, job);
    job->submitted = false;
}

static inline void fake_free(fake_model *model, fake_job *job) {
    fake_end(model, job, false);
    cascade_layout_free(&job->layout);
    mem_free(job->tokens);
    mem_free(job->expected);
    *job = (fake_job){0};
}

/* What a sequence has of its answer is what it must have. */
static inline void fake_verify(const fake_job *job) {
    const cascade_sequence *sequence = &job->sequence;
    for (uint32_t i = sequence->prompt_tokens; i < sequence->token_count; i++) {
        if (sequence->tokens[i] != job->expected[i - sequence->prompt_tokens])
            fail_msg("answer token %u of a prompt of %u (mode %d, link %u, anchored %d) is %d, expected %d",
                     i - sequence->prompt_tokens, sequence->prompt_tokens, (int)job->options.mode,
                     job->options.link_tokens, (int)job->options.anchored, sequence->tokens[i],
                     job->expected[i - sequence->prompt_tokens]);
    }
}

/* Samples; sequences that have their whole answer leave. */
static inline void fake_sample_step(fake_model *model, const cascade_step *step) {
    for (uint32_t i = 0; i < step->logit_count; i++) {
        cascade_sequence *sequence = step->logit_sequences[i];
        fake_job *job = sequence->user;
        uint32_t row = step->logit_rows[i];
        cascade_scheduler_accept(model->scheduler, sequence,
                                 fake_sample(model->slots[step->kv_slots[row]].value));
        fake_verify(job);
        if (sequence->token_count < sequence->token_capacity)
            continue;
        job->answer_tokens = sequence->token_count - sequence->prompt_tokens;
        job->done = true;
        model->finished++;
        fake_end(model, job, model->keeps);
    }
    for (uint32_t i = 0; i < step->completed_count; i++) {
        fake_job *job = step->completed[i]->user;
        job->done = true;
        model->finished++;
        fake_end(model, job, false);
    }
}

static inline void fake_take_failed(fake_model *model, const cascade_step *step) {
    for (uint32_t i = 0; i < step->failed_count; i++) {
        fake_job *job = step->failed[i]->user;
        job->failed = true;
        model->failures++;
        assert_int_equal(step->failure.status, CENTO_POOL_FULL);
        assert_int_equal(job->sequence.state, SEQUENCE_NEW);
        fake_end(model, job, false);
    }
}

/* One step; false: there was nothing to do. */
static inline bool fake_step(fake_model *model) {
    cascade_step step;
    ASSERT_OK(cascade_scheduler_step(model->scheduler, &step, &error));
    if (model->check_every > 0 && model->steps % model->check_every == 0)
        ASSERT_OK(cascade_scheduler_check(model->scheduler, &error));
    fake_take_failed(model, &step);
    if (step.row_count + step.copy_count > 0)
        fake_forward(model, &step);
    cascade_scheduler_computed(model->scheduler, &step, true);
    fake_sample_step(model, &step);
    if (model->check_every > 0 && model->steps % model->check_every == 0)
        ASSERT_OK(cascade_scheduler_check(model->scheduler, &error));
    return step.row_count > 0 || step.completed_count > 0 || step.failed_count > 0;
}

/* Steps until nothing is left to do; returns how many rows were computed. */
static inline uint64_t fake_run(fake_model *model) {
    uint64_t rows_before = model->rows;
    while (fake_step(model))
        assert_true(model->steps < 1000000);
    return model->rows - rows_before;
}

#endif
