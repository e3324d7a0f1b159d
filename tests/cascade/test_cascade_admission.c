/*
 * Promises of the scheduler about who runs: who is admitted first, who is preempted and restored with the
 * same answer, that nobody waits for ever, what is refused; and what cancelled sequences, failed passes and
 * failed allocations leave behind: nothing.
 */
#include "fake_prompts.h"

/* ------------------------------------------------------------------ preemption ---- */

static void a_preempted_sequence_is_restored_with_the_same_answer(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fake_model model = open_model(24);
        fake_job jobs[3];
        for (int j = 0; j < 3; j++) {
            jobs[j] = chat(ab, 2, QUERY + 30 * j, modes[i], 60);
            fake_submit(&model, &jobs[j]);
        }
        fake_run(&model);
        scheduler_stats stats;
        cascade_scheduler_read_stats(model.scheduler, &stats);
        assert_int_equal(model.finished, 3);
        assert_true(stats.preemptions > 0 && stats.restorations == stats.preemptions);
        assert_int_equal(jobs[0].preemptions, 0); /* the oldest always goes on */
        for (int j = 0; j < 3; j++)
            fake_free(&model, &jobs[j]);
        fake_close(&model);
    }
}

static void what_survives_of_a_preempted_run_is_not_computed_again(void **state) {
    (void)state;
    fake_model model = open_model(64);
    fake_job low = chat(ab, 2, QUERY, CENTO_MODE_EXACT, 30), high = {0};
    fake_submit(&model, &low);
    for (int i = 0; i < 20; i++)
        assert_true(fake_step(&model));
    fake_piece(&high, CENTO_KIND_QUERY, QUERY + 500, 420); /* 53 of 64 pages, own page aside */
    fake_prepare(&high, CENTO_MODE_EXACT, 0, false, NULL, 2);
    high.sequence.priority = 1;
    fake_submit(&model, &high);
    fake_run(&model);
    assert_true(low.done && high.done);
    assert_int_equal(low.preemptions, 1);
    assert_true(low.rows_computed > low.layout.prompt_tokens + 29);       /* some was evicted */
    assert_true(low.rows_computed < 2 * (low.layout.prompt_tokens + 18)); /* not all */
    fake_free(&model, &low);
    fake_free(&model, &high);
    fake_close(&model);
}

static void a_restored_sequence_computes_nothing_again_that_is_still_there(void **state) {
    (void)state;
    fake_model model = fake_open(
        (fake_options){.page_count = 64,
                       .page_tokens = 8,
                       .scheduler = {.max_sequences = 1, .max_batched_tokens = 100, .max_waiting = 1}});
    fake_job low = chat(ab, 2, QUERY, CENTO_MODE_EXACT, 30), high = {0},
             late = chat(ba, 2, QUERY, CENTO_MODE_EXACT, 2);
    fake_submit(&model, &low);
    for (int i = 0; i < 20; i++)
        assert_true(fake_step(&model));
    fake_piece(&high, CENTO_KIND_QUERY, QUERY + 500, 20);
    fake_prepare(&high, CENTO_MODE_EXACT, 0, false, NULL, 5);
    high.sequence.priority = 1;
    fake_submit(&model, &high);
    assert_true(fake_step(&model));
    assert_int_equal(low.sequence.state, SEQUENCE_WAITING); /* for its slot; there are pages enough */
    fake_submit(&model, &late);                             /* a preempted one does not count as waiting */
    fake_run(&model);
    assert_true(low.done && high.done && late.done);
    assert_int_equal(low.preemptions, 1);
    assert_int_equal(low.rows_computed, low.layout.prompt_tokens + 29);
    fake_free(&model, &low);
    fake_free(&model, &high);
    fake_free(&model, &late);
    fake_close(&model);
}

static void one_is_preempted_where_one_is_enough(void **state) {
    (void)state;
    fake_model model = open_model(36);
    fake_job jobs[3];
    for (int i = 0; i < 3; i++) { /* what the youngest gives back lies within the chunks' share */
        jobs[i] = question(QUERY + 100 * i, 4, 120, 0);
        fake_submit(&model, &jobs[i]);
    }
    scheduler_stats stats;
    do {
        assert_true(fake_step(&model));
        cascade_scheduler_read_stats(model.scheduler, &stats);
    } while (stats.preemptions == 0);
    assert_int_equal(stats.preemptions, 1);
    assert_int_equal(stats.running, 2);
    assert_int_equal(jobs[2].sequence.state, SEQUENCE_WAITING);
    fake_run(&model);
    for (int i = 0; i < 3; i++) {
        assert_true(jobs[i].done);
        fake_free(&model, &jobs[i]);
    }
    fake_close(&model);
}

static void two_big_sequences_do_not_preempt_each_other_for_ever(void **state) {
    (void)state;
    for (uint32_t fixed = 0; fixed < 2; fixed++) {
        fake_model model = fake_open((fake_options){
            .page_count = 40, .page_tokens = 4, .fixed_shares = fixed != 0, .chunk_page_ratio = 0.25});
        fake_job jobs[2] = {0};
        for (int i = 0; i < 2; i++) { /* either one needs almost all pages at its end */
            fake_piece(&jobs[i], CENTO_KIND_QUERY, QUERY + 100 * i, 20);
            fake_prepare(&jobs[i], CENTO_MODE_EXACT, 0, false, NULL, 110);
            fake_submit(&model, &jobs[i]);
        }
        fake_run(&model);
        assert_int_equal(model.finished, 2);
        assert_int_equal(jobs[0].preemptions, 0);
        assert_true(jobs[1].preemptions > 0);
        assert_true(model.steps < 400); /* each step, the first or only one went on */
        fake_free(&model, &jobs[0]);
        fake_free(&model, &jobs[1]);
        fake_close(&model);
    }
}

static void a_sequence_that_is_alone_and_gets_no_page_fails_with_the_numbers(void **state) {
    (void)state;
    for (uint32_t fixed = 0; fixed < 2; fixed++) {
        fake_model model =
            fake_open((fake_options){.page_count = 10, .page_tokens = 4, .fixed_shares = fixed != 0});
        fake_job job = {0}, next = {0};
        fake_piece(&job, CENTO_KIND_QUERY, QUERY, 11);
        fake_prepare(&job, CENTO_MODE_EXACT, 0, false, NULL, 80);
        fake_piece(&next, CENTO_KIND_QUERY, QUERY + 100, 11);
        fake_prepare(&next, CENTO_MODE_EXACT, 0, false, NULL, 5);
        fake_submit(&model, &job);
        fake_submit(&model, &next);
        fake_run(&model);
        assert_true(job.failed && !job.done);
        assert_true(next.done); /* and others go on */
        fake_free(&model, &job);
        fake_free(&model, &next);
        fake_close(&model);
    }
}

/* ------------------------------------------------------------------ order ---- */

static void higher_priority_is_admitted_first_and_then_age(void **state) {
    (void)state;
    fake_model model = fake_open((fake_options){
        .page_count = 64, .page_tokens = 8, .scheduler = {.max_sequences = 1, .max_batched_tokens = 64}});
    fake_job jobs[4];
    static const int32_t priorities[4] = {0, -1, 0, 2};
    static const int order[4] = {3, 0, 2, 1};
    for (int i = 0; i < 4; i++) {
        jobs[i] = question(QUERY + 100 * i, 10, 3, priorities[i]);
        fake_submit(&model, &jobs[i]);
    }
    for (int i = 0; i < 4; i++) {
        assert_true(fake_step(&model));
        for (int later = i + 1; later < 4; later++)
            assert_int_equal(jobs[order[later]].sequence.state, SEQUENCE_WAITING);
        while (!jobs[order[i]].done)
            assert_true(fake_step(&model));
    }
    for (int i = 0; i < 4; i++)
        fake_free(&model, &jobs[i]);
    fake_close(&model);
}

static void a_higher_priority_takes_slot_and_pages_of_a_lower_one(void **state) {
    (void)state;
    fake_model model = fake_open((fake_options){
        .page_count = 64, .page_tokens = 8, .scheduler = {.max_sequences = 2, .max_batched_tokens = 64}});
    fake_job low = question(QUERY, 10, 30, 0), lower = question(QUERY + 100, 10, 30, -1),
             high = question(QUERY + 200, 10, 5, 1);
    fake_submit(&model, &low);
    fake_submit(&model, &lower);
    for (int i = 0; i < 5; i++)
        assert_true(fake_step(&model));
    fake_submit(&model, &high);
    assert_true(fake_step(&model));
    assert_int_equal(high.sequence.state, SEQUENCE_DECODE);
    assert_int_equal(low.sequence.state, SEQUENCE_DECODE);
    assert_int_equal(lower.sequence.state, SEQUENCE_WAITING);
    fake_run(&model);
    assert_true(low.done && lower.done && high.done);
    assert_int_equal(lower.preemptions, 1);
    fake_free(&model, &low);
    fake_free(&model, &lower);
    fake_free(&model, &high);
    fake_close(&model);
}

static void sharing_may_overtake_but_nobody_is_overtaken_more_often_than_the_limit(void **state) {
    (void)state;
    enum { LIMIT = 5, SHARERS = 20 };
    fake_model model = fake_open(
        (fake_options){.page_count = 200,
                       .page_tokens = 8,
                       .scheduler = {.max_sequences = 2, .max_batched_tokens = 64, .overtaken_max = LIMIT}});
    fake_job first = chat(ab, 2, QUERY, CENTO_MODE_INDEPENDENT, 200);
    fake_job stranger = question(QUERY + 500, 10, 3, 0);
    fake_job sharers[SHARERS];
    fake_submit(&model, &first);
    fake_job filler = question(QUERY + 700, 10, 3, 0);
    fake_submit(&model, &filler);
    assert_true(fake_step(&model));
    fake_submit(&model, &stranger);
    for (int i = 0; i < SHARERS; i++) {
        sharers[i] = chat(ab, 2, QUERY + 10 + 5 * i, CENTO_MODE_INDEPENDENT, 2);
        fake_submit(&model, &sharers[i]);
    }
    uint32_t finished_before = 0;
    while (!stranger.done) {
        assert_true(fake_step(&model));
        finished_before = 0;
        for (int i = 0; i < SHARERS; i++)
            finished_before += sharers[i].done;
        assert_true(stranger.done || stranger.sequence.overtaken <= LIMIT);
    }
    assert_int_equal(finished_before, LIMIT); /* they did run with what they share, and then no more */
    fake_run(&model);
    scheduler_stats stats;
    cascade_scheduler_read_stats(model.scheduler, &stats);
    assert_int_equal(stats.overtakings, LIMIT);
    assert_int_equal(model.finished, SHARERS + 3);
    for (int i = 0; i < SHARERS; i++)
        fake_free(&model, &sharers[i]);
    fake_free(&model, &first);
    fake_free(&model, &filler);
    fake_free(&model, &stranger);
    fake_close(&model);
}

static void admission_leaves_each_running_sequence_a_page_to_grow_by(void **state) {
    (void)state;
    for (uint32_t fits = 0; fits < 2; fits++) {
        fake_model model = open_model(10);
        fake_job running = question(QUERY, 25, 8, 0);                /* 3 pages and one of its own */
        fake_job next = question(QUERY + 100, fits ? 33 : 41, 2, 0); /* 5 or 6 pages */
        fake_submit(&model, &running);
        assert_true(fake_step(&model));
        fake_submit(&model, &next);
        assert_true(fake_step(&model));
        assert_int_equal(next.sequence.state == SEQUENCE_WAITING, !fits);
        fake_run(&model);
        assert_true(running.done && next.done && running.preemptions + next.preemptions == 0);
        fake_free(&model, &running);
        fake_free(&model, &next);
        fake_close(&model);
    }
}

static void who_cannot_be_admitted_evicts_nothing_and_preempts_nobody(void **state) {
    (void)state;
    fake_model model = open_model(40);
    fake_job cached = chat(ab, 2, QUERY, CENTO_MODE_INDEPENDENT, 1);
    run_one(&model, &cached);
    fake_job running = question(QUERY + 100, 100, 60, 1), low = question(QUERY + 300, 4, 60, 0);
    fake_submit(&model, &running);
    fake_submit(&model, &low);
    for (int i = 0; i < 4; i++)
        assert_true(fake_step(&model));
    fake_job big = question(QUERY + 500, 280, 2, 1); /* 36 pages; running holds 14 */
    fake_submit(&model, &big);
    chunk_registry_stats held;
    for (int i = 0; i < 50; i++) {
        assert_true(fake_step(&model));
        assert_int_equal(big.sequence.state, SEQUENCE_WAITING);
        chunk_registry_read_stats(model.registry, &held);
        assert_int_equal(held.evictions, 0);
        assert_int_equal(low.sequence.preemptions, 0);
    }
    fake_run(&model);
    assert_true(running.done && low.done && big.done);
    fake_free(&model, &cached);
    fake_free(&model, &running);
    fake_free(&model, &low);
    fake_free(&model, &big);
    fake_close(&model);
}

static void sequences_give_back_to_chunks_what_they_hold_beyond_their_share(void **state) {
    (void)state;
    for (int32_t priority = -1; priority <= 0; priority++) { /* but not to those of lower priority */
        fake_model model = open_model(40);
        fake_job old = question(QUERY, 4, 200, 0), young = question(QUERY + 100, 4, 200, 0);
        fake_submit(&model, &old);
        fake_submit(&model, &young);
        while (model.pages->counts[PAGE_SEQUENCE] < 24)
            assert_true(fake_step(&model));
        fake_job chunk = {0}; /* 16 pages, of the chunks' 20; 14 are free, soon fewer */
        fake_piece(&chunk, CENTO_KIND_SYSTEM, SYSTEM, 128);
        fake_prepare(&chunk, CENTO_MODE_EXACT, 0, false, NULL, 0);
        chunk.sequence.priority = priority;
        fake_submit(&model, &chunk);
        assert_true(chunk.sequence.admitted_ns == 0 && old.sequence.admitted_ns > 0);
        for (int i = 0; i < 50; i++)
            assert_true(fake_step(&model));
        assert_int_equal(chunk.done, priority == 0);
        assert_true(!old.done && young.sequence.preemptions == (priority == 0));
        fake_run(&model);
        assert_true(old.done && young.done && chunk.done);
        assert_int_equal(old.preemptions, 0);
        fake_free(&model, &old);
        fake_free(&model, &young);
        fake_free(&model, &chunk);
        fake_close(&model);
    }
}

/* ------------------------------------------------------------------ limits ---- */

static void what_can_never_fit_is_refused_with_the_numbers(void **state) {
    (void)state;
    fake_model model = fake_open((fake_options){
        .page_count = 10,
        .page_tokens = 4,
        .scheduler = {
            .max_sequences = 2, .max_batched_tokens = 16, .max_waiting = 1, .context_tokens_max = 60}});
    fake_job big = question(QUERY, 41, 1, 0), fits = question(QUERY, 36, 1, 0),
             many = question(QUERY, 5, 2, 0), late = question(QUERY, 5, 2, 0),
             deep = question(QUERY, 5, 60, 0);
    assert_int_equal(fake_try_submit(&model, &big), CENTO_POOL_FULL);
    assert_non_null(strstr(error.message, "a prompt of 41 tokens needs 10 KV pages of 4 tokens, and 1"));
    assert_non_null(strstr(error.message, "the pool has 10"));
    assert_int_equal(fake_try_submit(&model, &deep), CENTO_CONTEXT_FULL);
    assert_non_null(
        strstr(error.message, "a prompt of 5 tokens and an answer of at most 60, the context holds 60"));
    fake_submit(&model, &fits);
    assert_int_equal(fake_try_submit(&model, &many), CENTO_QUEUE_FULL);
    assert_non_null(strstr(error.message, "1 requests are waiting, of at most 1"));
    assert_int_equal(many.sequence.state, SEQUENCE_NEW);
    assert_true(fake_step(&model));
    fake_submit(&model, &late); /* the other one runs now */
    fake_run(&model);
    assert_true(fits.done && late.done);
    fake_free(&model, &big);
    fake_free(&model, &fits);
    fake_free(&model, &many);
    fake_free(&model, &late);
    fake_free(&model, &deep);
    fake_close(&model);
}

static void absurd_options_are_refused(void **state) {
    (void)state;
    fake_model model = open_model(8);
    cascade_scheduler *refused;
    const scheduler_options good = {4, 16, 8, 0, 100, true};
    scheduler_options options = good;
    options.max_sequences = 0;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "max_sequences is 0",
                 cascade_scheduler_create(&options, model.registry, model.tree, &refused, &error));
    options = good;
    options.max_batched_tokens = 3;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "max_batched_tokens 3",
                 cascade_scheduler_create(&options, model.registry, model.tree, &refused, &error));
    options = good;
    options.max_waiting = 0;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "max_waiting is 0",
                 cascade_scheduler_create(&options, model.registry, model.tree, &refused, &error));
    fake_close(&model);
}

static void fixed_shares_are_kept(void **state) {
    (void)state;
    fake_model model = fake_open((fake_options){
        .page_count = 40, .page_tokens = 4, .fixed_shares = true, .scheduler.max_sequences = 4});
    fake_job jobs[8];
    for (int i = 0; i < 8; i++) {
        jobs[i] = question(QUERY + 30 * i, 12 + (uint32_t)i, 25, 0);
        fake_submit(&model, &jobs[i]);
    }
    do {
        assert_true(model.pages->counts[PAGE_CHUNK] <= 20 && model.pages->counts[PAGE_SEQUENCE] <= 20);
    } while (fake_step(&model));
    assert_int_equal(model.finished, 8);
    fake_job big = question(QUERY, 84, 1, 0);
    assert_int_equal(fake_try_submit(&model, &big), CENTO_POOL_FULL);
    assert_non_null(strstr(error.message, "needs 21 KV pages of 4 tokens"));
    assert_non_null(strstr(error.message, "chunks have 20 of the pool's pages, sequences 20"));
    for (int i = 0; i < 8; i++)
        fake_free(&model, &jobs[i]);
    fake_free(&model, &big);
    fake_close(&model);
}

/* ------------------------------------------------------------------ things that go wrong ---- */

static void a_sequence_can_be_cancelled_in_every_state(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (int steps = 0; steps < 12; steps++) {
            fake_model model =
                fake_open((fake_options){.page_count = 64,
                                         .page_tokens = 8,
                                         .scheduler = {.max_sequences = 2, .max_batched_tokens = 20}});
            fake_job other = chat(ba, 2, QUERY, modes[i], 8), job = chat(ab, 2, QUERY, modes[i], 8);
            fake_job waiting = chat(ab, 2, QUERY + 50, modes[i], 8);
            fake_submit(&model, &other);
            fake_submit(&model, &job);
            fake_submit(&model, &waiting);
            for (int step = 0; step < steps; step++)
                (void)fake_step(&model);
            fake_end(&model, &job, steps % 2 == 0);
            ASSERT_OK(cascade_scheduler_check(model.scheduler, &error));
            if (steps % 3 == 0)
                fake_end(&model, &waiting, true);
            ASSERT_OK(cascade_scheduler_check(model.scheduler, &error));
            fake_run(&model);
            assert_true(other.done && (waiting.done || steps % 3 == 0));
            fake_free(&model, &other);
            fake_free(&model, &job);
            fake_free(&model, &waiting);
            fake_close(&model);
        }
    }
}

/* A backend that failed half-way has written anything. */
static void spoil(fake_model *model, const cascade_step *step) {
    for (uint32_t row = 0; row < step->row_count; row++)
        model->slots[step->kv_slots[row]] = (fake_slot){.value = 99, .valid = row % 2 == 0};
    for (uint32_t i = 0; i < step->copy_count; i++) {
        for (uint32_t token = 0; token < step->copies[i].token_count; token++)
            model->slots[step->copies[i].to_slot + token] = (fake_slot){.value = 98};
    }
}

static void a_forward_pass_that_failed_was_not(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fake_model model =
            fake_open((fake_options){.page_count = 100,
                                     .page_tokens = 8,
                                     .scheduler = {.max_sequences = 3, .max_batched_tokens = 20}});
        fake_job jobs[6];
        for (int j = 0; j < 6; j++) {
            jobs[j] = chat(j % 2 ? ab : ba, 2, QUERY + j, modes[i], 6); /* they part within the query */
            fake_submit(&model, &jobs[j]);
        }
        uint32_t spoiled_copies = 0;
        for (int step_index = 0; model.finished < 6; step_index++) {
            if (step_index % 2 == 0) {
                cascade_step step;
                ASSERT_OK(cascade_scheduler_step(model.scheduler, &step, &error));
                uint64_t rows = jobs[0].submitted ? jobs[0].sequence.rows_computed : 0;
                spoil(&model, &step);
                spoiled_copies += step.copy_count;
                cascade_scheduler_computed(model.scheduler, &step, false);
                ASSERT_OK(cascade_scheduler_check(model.scheduler, &error));
                assert_true(!jobs[0].submitted || jobs[0].sequence.rows_computed <= rows);
                if (jobs[0].submitted && jobs[0].sequence.state == SEQUENCE_PREFILL) {
                    uint64_t counted = 0;
                    for (uint32_t token = 0; token < jobs[0].sequence.prompt_tokens; token++)
                        counted += jobs[0].sequence.row_counts[token];
                    assert_int_equal(counted, jobs[0].sequence.rows_computed);
                }
            } else {
                assert_true(fake_step(&model));
            }
            assert_true(step_index < 500);
        }
        assert_true(spoiled_copies > 0 || modes[i] != CENTO_MODE_EXACT);
        for (int j = 0; j < 6; j++)
            fake_free(&model, &jobs[j]);
        fake_close(&model);
    }
}

static void a_failed_allocation_loses_at_most_the_request_at_hand(void **state) {
    (void)state;
    bool failed = true;
    for (int64_t countdown = 0; failed; countdown++) {
        fake_model model = fake_open((fake_options){
            .page_count = 24, .page_tokens = 8, .scheduler = {.max_sequences = 3, .max_batched_tokens = 40}});
        fake_job jobs[4];
        for (int j = 0; j < 4; j++)
            jobs[j] = chat(j % 2 ? ab : aa, 2, QUERY + j, modes[j % 3], 12);
        fake_submit(&model, &jobs[0]);
        failed = false;
        mem_fail_after(countdown);
        for (int j = 1; j < 4; j++) {
            cento_status status = fake_try_submit(&model, &jobs[j]);
            assert_true(status == CENTO_OK || status == CENTO_OUT_OF_MEMORY);
            failed = failed || status != CENTO_OK;
        }
        for (int i = 0; i < 200; i++) {
            cascade_step step;
            cento_status status = cascade_scheduler_step(model.scheduler, &step, &error);
            if (status != CENTO_OK) {
                mem_fail_after(-1);
                assert_int_equal(status, CENTO_OUT_OF_MEMORY);
                failed = true;
                ASSERT_OK(cascade_scheduler_check(model.scheduler, &error));
                if (i % 2 == 1 && jobs[1].submitted) /* and somebody leaves before it is tried again */
                    fake_end(&model, &jobs[1], true);
                continue;
            }
            fake_take_failed(&model, &step);
            if (step.row_count + step.copy_count > 0)
                fake_forward(&model, &step);
            cascade_scheduler_computed(model.scheduler, &step, true);
            fake_sample_step(&model, &step);
        }
        mem_fail_after(-1);
        ASSERT_OK(cascade_scheduler_check(model.scheduler, &error));
        assert_true(jobs[0].done);
        for (int j = 0; j < 4; j++) {
            assert_false(jobs[j].submitted);
            fake_free(&model, &jobs[j]);
        }
        fake_close(&model);
        assert_true(countdown < 5000);
    }
}

static fake_job parting(int32_t query) { /* 21 tokens of the prompt before, then others */
    fake_job job = {0};
    fake_piece(&job, CENTO_KIND_SYSTEM, SYSTEM, 21);
    fake_piece(&job, CENTO_KIND_QUERY, QUERY, 9);
    fake_piece(&job, CENTO_KIND_QUERY, query, 3);
    fake_prepare(&job, CENTO_MODE_EXACT, 0, false, NULL, 3);
    return job;
}

static void who_leaves_before_its_copy_was_made_leaves_nothing_wrong(void **state) {
    (void)state;
    uint32_t failed_steps = 0;
    bool failed = true;
    for (int64_t countdown = 0; failed; countdown++) {
        for (uint32_t leaver = 0; leaver < 3; leaver++) {
            fake_model model = open_model(64);
            fake_job before = {0}, jobs[3];
            fake_piece(&before, CENTO_KIND_SYSTEM, SYSTEM, 30);
            fake_prepare(&before, CENTO_MODE_EXACT, 0, false, NULL, 3);
            run_one(&model, &before);
            for (int i = 0; i < 3; i++) { /* the first one's copy is the others' as well */
                jobs[i] = parting(QUERY + 100 * i);
                fake_submit(&model, &jobs[i]);
            }
            cascade_step step;
            mem_fail_after(countdown);
            failed = cascade_scheduler_step(model.scheduler, &step, &error) != CENTO_OK;
            mem_fail_after(-1);
            if (failed) {
                failed_steps++;
                fake_end(&model, &jobs[leaver], leaver > 0);
                ASSERT_OK(cascade_scheduler_check(model.scheduler, &error));
                if (countdown % 2 == 1) { /* and then the pass fails */
                    ASSERT_OK(cascade_scheduler_step(model.scheduler, &step, &error));
                    spoil(&model, &step);
                    cascade_scheduler_computed(model.scheduler, &step, false);
                }
            } else {
                fake_forward(&model, &step);
                cascade_scheduler_computed(model.scheduler, &step, true);
                fake_sample_step(&model, &step);
            }
            fake_run(&model);
            fake_free(&model, &before);
            for (uint32_t i = 0; i < 3; i++) {
                assert_true(jobs[i].done || (failed && i == leaver));
                fake_free(&model, &jobs[i]);
            }
            fake_close(&model);
        }
    }
    assert_true(failed_steps > 20);
}

static void a_failure_is_told_even_if_the_step_found_no_memory(void **state) {
    (void)state;
    bool failed = true;
    for (int64_t countdown = 0; failed; countdown++) {
        fake_model model = fake_open((fake_options){.page_count = 10, .page_tokens = 4});
        fake_job job = question(QUERY, 11, 80, 0), next = question(QUERY + 100, 35, 2, 0);
        fake_submit(&model, &job);
        while (model.pages->counts[PAGE_FREE] > 0 || job.sequence.token_count % 4 != 3)
            assert_true(fake_step(&model));
        fake_submit(&model, &next);
        failed = false;
        mem_fail_after(countdown);
        while (!job.failed) {
            cascade_step step;
            if (cascade_scheduler_step(model.scheduler, &step, &error) != CENTO_OK) {
                mem_fail_after(-1);
                failed = true;
                continue;
            }
            fake_take_failed(&model, &step);
            if (step.row_count + step.copy_count > 0)
                fake_forward(&model, &step);
            cascade_scheduler_computed(model.scheduler, &step, true);
            fake_sample_step(&model, &step);
        }
        mem_fail_after(-1);
        fake_run(&model);
        assert_true(next.done);
        fake_free(&model, &job);
        fake_free(&model, &next);
        fake_close(&model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_preempted_sequence_is_restored_with_the_same_answer),
        cmocka_unit_test(what_survives_of_a_preempted_run_is_not_computed_again),
        cmocka_unit_test(a_restored_sequence_computes_nothing_again_that_is_still_there),
        cmocka_unit_test(one_is_preempted_where_one_is_enough),
        cmocka_unit_test(two_big_sequences_do_not_preempt_each_other_for_ever),
        cmocka_unit_test(a_sequence_that_is_alone_and_gets_no_page_fails_with_the_numbers),
        cmocka_unit_test(higher_priority_is_admitted_first_and_then_age),
        cmocka_unit_test(a_higher_priority_takes_slot_and_pages_of_a_lower_one),
        cmocka_unit_test(sharing_may_overtake_but_nobody_is_overtaken_more_often_than_the_limit),
        cmocka_unit_test(admission_leaves_each_running_sequence_a_page_to_grow_by),
        cmocka_unit_test(who_cannot_be_admitted_evicts_nothing_and_preempts_nobody),
        cmocka_unit_test(sequences_give_back_to_chunks_what_they_hold_beyond_their_share),
        cmocka_unit_test(what_can_never_fit_is_refused_with_the_numbers),
        cmocka_unit_test(absurd_options_are_refused),
        cmocka_unit_test(fixed_shares_are_kept),
        cmocka_unit_test(a_sequence_can_be_cancelled_in_every_state),
        cmocka_unit_test(a_forward_pass_that_failed_was_not),
        cmocka_unit_test(a_failed_allocation_loses_at_most_the_request_at_hand),
        cmocka_unit_test(who_leaves_before_its_copy_was_made_leaves_nothing_wrong),
        cmocka_unit_test(a_failure_is_told_even_if_the_step_found_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
