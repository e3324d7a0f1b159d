/*
 * Promises of the scheduler: that an answer does not depend on what else runs, on what is cached, or on how
 * prompts are cut into steps; that what is shared is computed once; what a step costs.
 */
#include "fake_prompts.h"

#include "base/clock.h"

/* ------------------------------------------------------------------ answers ---- */

static void a_sequence_alone_gives_what_its_mode_promises(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fake_model model = open_model(64);
        fake_job job = chat(aa, 2, QUERY, modes[i], 10); /* the same document in two places */
        run_one(&model, &job);
        assert_int_equal(job.answer_tokens, 10);
        fake_free(&model, &job);
        fake_close(&model);
    }
}

static void a_warm_prompt_gives_the_cold_answer_and_computes_only_its_end(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fake_model model = open_model(64);
        fake_job cold = chat(ab, 2, QUERY, modes[i], 6), warm = chat(ab, 2, QUERY, modes[i], 6);
        run_one(&model, &cold);
        run_one(&model, &warm);
        uint32_t prompt = cold.layout.prompt_tokens;
        uint32_t link_heads = modes[i] == CENTO_MODE_LINK ? 6 : 0; /* computed twice */
        assert_int_equal(cold.rows_computed, prompt + link_heads + 5);
        if (modes[i] == CENTO_MODE_EXACT) /* the answer is in the tree as well, but for its last token */
            assert_int_equal(warm.rows_computed, 1 + 5);
        else
            assert_int_equal(warm.rows_computed, cold.layout.own_tokens + 5);
        fake_free(&model, &cold);
        fake_free(&model, &warm);
        fake_close(&model);
    }
}

static void batched_sequences_of_all_modes_give_what_each_gives_alone(void **state) {
    (void)state;
    enum { JOBS = 12 };
    fake_model model = open_model(200);
    fake_job jobs[JOBS];
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = chat(i % 2 ? ab : ba, 2, QUERY + i / 6, modes[i % 3], 4 + (uint32_t)i);
        fake_submit(&model, &jobs[i]);
    }
    fake_run(&model);
    assert_int_equal(model.finished, JOBS);
    for (int i = 0; i < JOBS; i++)
        fake_free(&model, &jobs[i]);
    fake_close(&model);
}

static void the_next_turn_of_a_conversation_computes_only_its_new_tokens(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fake_model model = open_model(64);
        fake_job first = chat(ab, 2, QUERY, modes[i], 7);
        run_one(&model, &first);
        fake_job second = {0};
        build_chat(&second, ab, 2, QUERY);
        fake_add(&second, CENTO_KIND_OUTPUT, false, first.expected, 7);
        fake_template(&second, GLUE + 30, 2);
        fake_piece(&second, CENTO_KIND_QUERY, QUERY + 50, 6);
        fake_template(&second, TAIL, 3);
        fake_prepare(&second, modes[i], 3, modes[i] != CENTO_MODE_EXACT, NULL, 4);
        run_one(&model, &second);
        /* the answer's last token, glue, query, generation prompt; then the answer */
        assert_int_equal(second.rows_computed, 1 + 2 + 6 + 3 + 3);
        fake_free(&model, &first);
        fake_free(&model, &second);
        fake_close(&model);
    }
}

static void another_salt_shares_nothing(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fake_model model = open_model(128);
        static const char *const salts[] = {NULL, "", "x"};
        fake_job jobs[3] = {0};
        for (int salt = 0; salt < 3; salt++) {
            build_chat(&jobs[salt], ab, 2, QUERY);
            fake_prepare(&jobs[salt], modes[i], 3, false, salts[salt], 3);
            fake_submit(&model, &jobs[salt]);
        }
        fake_run(&model);
        for (int salt = 0; salt < 3; salt++) {
            assert_int_equal(jobs[salt].rows_computed,
                             jobs[salt].layout.prompt_tokens + (i == 2 ? 6 : 0) + 2);
            fake_free(&model, &jobs[salt]);
        }
        fake_close(&model);
    }
}

static void prompts_that_part_within_a_page_share_up_to_there(void **state) {
    (void)state;
    fake_model model = open_model(64);
    fake_job a = {0}, b = {0}, c = {0};
    fake_piece(&a, CENTO_KIND_SYSTEM, SYSTEM, 30);
    fake_piece(&b, CENTO_KIND_SYSTEM, SYSTEM, 21); /* 21 of 30 in common: two pages, five tokens copied */
    fake_piece(&b, CENTO_KIND_QUERY, QUERY, 9);
    fake_piece(&c, CENTO_KIND_SYSTEM, SYSTEM, 12);
    fake_template(&c, TAIL, 2); /* own: one page of the path, four tokens copied */
    fake_prepare(&a, CENTO_MODE_EXACT, 0, false, NULL, 3);
    fake_prepare(&b, CENTO_MODE_EXACT, 0, false, NULL, 3);
    fake_prepare(&c, CENTO_MODE_EXACT, 0, false, NULL, 3);
    run_one(&model, &a);
    run_one(&model, &b);
    assert_int_equal(b.rows_computed, 9 + 2);
    assert_int_equal(model.copies, 1);
    run_one(&model, &c);
    assert_int_equal(c.rows_computed, 2 + 2);
    assert_int_equal(model.copies, 2);
    fake_free(&model, &a);
    fake_free(&model, &b);
    fake_free(&model, &c);
    fake_close(&model);
}

static void a_prompt_that_ends_with_a_chunk_computes_its_last_token_again(void **state) {
    (void)state;
    for (uint32_t anchored = 0; anchored < 2; anchored++) {
        for (size_t i = 1; i < 3; i++) {
            fake_model model = open_model(64);
            fake_job jobs[2] = {0};
            for (int j = 0; j < 2; j++) {
                fake_piece(&jobs[j], CENTO_KIND_SYSTEM, SYSTEM, 5);
                fake_piece(&jobs[j], CENTO_KIND_CONTEXT, 100, 20);
                fake_piece(&jobs[j], CENTO_KIND_CONTEXT, 200, 10);
                fake_prepare(&jobs[j], modes[i], 4, anchored != 0, NULL, 5);
                run_one(&model, &jobs[j]);
            }
            assert_int_equal(jobs[0].rows_computed, 35 + (i == 2 ? 8 : 0) + 1 + 4);
            assert_int_equal(jobs[1].rows_computed, 1 + 4);
            fake_free(&model, &jobs[0]);
            fake_free(&model, &jobs[1]);
            fake_close(&model);
        }
    }
}

static void neighbouring_runs_of_a_path_are_one_stretch_where_that_is_wanted(void **state) {
    (void)state;
    for (uint32_t continuous = 0; continuous < 2; continuous++) {
        for (size_t i = 0; i < 2; i++) {
            fake_model model = open_model(64);
            cascade_scheduler_free(model.scheduler);
            const scheduler_options options = {8, 200, 8, 0, 4096, continuous != 0};
            ASSERT_OK(
                cascade_scheduler_create(&options, model.registry, model.tree, &model.scheduler, &error));
            model.rows_max = 200;
            fake_job job = chat(ab, 2, QUERY, modes[i], 5);
            fake_submit(&model, &job);
            assert_true(fake_step(&model));
            cascade_step step;
            ASSERT_OK(cascade_scheduler_step(model.scheduler, &step, &error));
            uint32_t continued = 0;
            for (uint32_t span = 0; span < step.span_count; span++)
                continued += step.spans[span].continues;
            /* exact: system, document, document, query, own; independent: system, glue, and then what is not
             * exact */
            assert_int_equal(step.span_count, i == 0 ? 5 : 2 + 4 + 1);
            assert_int_equal(continued, !continuous ? 0 : i == 0 ? 4 : 1);
            fake_forward(&model, &step);
            cascade_scheduler_computed(model.scheduler, &step, true);
            fake_sample_step(&model, &step);
            fake_run(&model);
            fake_free(&model, &job);
            fake_close(&model);
        }
    }
}

/* ------------------------------------------------------------------ sharing ---- */

static void what_two_prompts_share_is_computed_once_in_one_pass(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fake_model model = fake_open(
            (fake_options){.page_count = 128, .page_tokens = 8, .scheduler.max_batched_tokens = 200});
        fake_job a = chat(ab, 2, QUERY, modes[i], 2), b = chat(ab, 2, QUERY + 40, modes[i], 2);
        fake_submit(&model, &a);
        fake_submit(&model, &b);
        assert_true(fake_step(&model));
        uint32_t prompt = a.layout.prompt_tokens; /* they part where the query begins */
        uint32_t link_heads = i == 2 ? 6 : 0;
        /* what is computed in place behind documents and ends with the query is one node; in exact, what
         * stands behind the last document */
        uint32_t parting = modes[i] == CENTO_MODE_EXACT ? 1 + 5 + 3 : 2 + 5 + 3 + link_heads;
        assert_int_equal(model.rows, prompt + link_heads + parting);
        fake_run(&model);
        assert_int_equal(model.finished, 2);
        fake_free(&model, &a);
        fake_free(&model, &b);
        fake_close(&model);
    }
}

static void a_shared_document_goes_before_what_only_one_needs(void **state) {
    (void)state;
    /* a's own document stands before the shared one in its prompt; the budget is what is shared */
    static const int32_t first[] = {400, 100}, second[] = {100};
    fake_model model =
        fake_open((fake_options){.page_count = 128, .page_tokens = 8, .scheduler.max_batched_tokens = 34});
    fake_job a = chat(first, 2, QUERY, CENTO_MODE_INDEPENDENT, 2);
    fake_job b = chat(second, 1, QUERY + 40, CENTO_MODE_INDEPENDENT, 2);
    fake_submit(&model, &a);
    fake_submit(&model, &b);
    assert_true(fake_step(&model));
    uint32_t ready = 0, node = 0;
    while (!b.layout.nodes[node].apart)
        node++;
    assert_true(chunk_registry_kv_peek(model.registry, &b.layout.nodes[node].kv_id, &ready));
    assert_int_equal(ready, 20);
    fake_run(&model);
    fake_free(&model, &a);
    fake_free(&model, &b);
    fake_close(&model);
}

static void a_shared_path_goes_before_what_only_one_needs(void **state) {
    (void)state;
    fake_model model =
        fake_open((fake_options){.page_count = 128, .page_tokens = 8, .scheduler.max_batched_tokens = 54});
    static const int32_t own[] = {700}; /* the oldest; it has its own salt */
    fake_job first = {0}, a = chat(ab, 2, QUERY, CENTO_MODE_EXACT, 2),
             b = chat(ab, 2, QUERY + 40, CENTO_MODE_EXACT, 2);
    build_chat(&first, own, 1, QUERY);
    fake_prepare(&first, CENTO_MODE_EXACT, 0, false, "x", 2);
    fake_submit(&model, &first);
    fake_submit(&model, &a);
    fake_submit(&model, &b);
    assert_true(fake_step(&model));
    /* template, system, template, document, template, document: 55 tokens, of which the first step has 54 */
    assert_int_equal(a.sequence.computed_count, 54);
    assert_int_equal(b.sequence.computed_count, 54);
    assert_int_equal(first.sequence.computed_count, 0);
    fake_run(&model);
    assert_int_equal(model.finished, 3);
    fake_free(&model, &first);
    fake_free(&model, &a);
    fake_free(&model, &b);
    fake_close(&model);
}

static void tokens_computed_are_counted_where_they_stand_in_the_prompt(void **state) {
    (void)state;
    fake_model model = open_model(64);
    fake_job job = chat(aa, 2, QUERY, CENTO_MODE_LINK, 1);
    fake_submit(&model, &job);
    cascade_step step;
    ASSERT_OK(cascade_scheduler_step(model.scheduler, &step, &error));
    fake_forward(&model, &step);
    cascade_scheduler_computed(model.scheduler, &step, true);
    if (step.logit_count == 0) {
        ASSERT_OK(cascade_scheduler_step(model.scheduler, &step, &error));
        fake_forward(&model, &step);
        cascade_scheduler_computed(model.scheduler, &step, true);
    }
    const uint8_t *counts = job.sequence.row_counts;
    uint32_t documents[2] = {job.parts[3].token_begin, job.parts[5].token_begin}, sum = 0;
    for (uint32_t i = 0; i < job.layout.prompt_tokens; i++) {
        uint32_t expected = 1;
        if (i >= documents[0] && i < documents[0] + 3)
            expected = 2; /* apart, and in place */
        if (i >= documents[1] + 3 && i < documents[1] + 20)
            expected = 0; /* computed at its first place */
        assert_int_equal(counts[i], expected);
        sum += counts[i];
    }
    assert_int_equal(sum, job.sequence.rows_computed);
    assert_int_equal(job.sequence.computed_count, job.layout.prompt_tokens);
    fake_sample_step(&model, &step);
    fake_free(&model, &job);
    fake_close(&model);
}

/* ------------------------------------------------------------------ budget ---- */

static void a_long_prefill_does_not_stop_those_that_decode(void **state) {
    (void)state;
    fake_model model = fake_open((fake_options){
        .page_count = 128, .page_tokens = 8, .scheduler = {.max_sequences = 4, .max_batched_tokens = 16}});
    fake_job talker = chat(ab, 1, QUERY, CENTO_MODE_EXACT, 40), reader = {0};
    fake_submit(&model, &talker);
    while (talker.sequence.token_count == talker.sequence.prompt_tokens)
        assert_true(fake_step(&model));
    fake_piece(&reader, CENTO_KIND_QUERY, QUERY + 100, 300);
    fake_prepare(&reader, CENTO_MODE_EXACT, 0, false, NULL, 2);
    fake_submit(&model, &reader);
    for (uint32_t i = 0; i < 20; i++) { /* each step: a row of the one, fifteen of the other */
        uint32_t before = talker.sequence.token_count;
        uint64_t rows = model.rows;
        assert_true(fake_step(&model));
        assert_int_equal(talker.sequence.token_count, before + 1);
        assert_int_equal(model.rows - rows, 16);
    }
    assert_int_equal(reader.sequence.token_count, 302 - 1);
    fake_run(&model);
    fake_free(&model, &talker);
    fake_free(&model, &reader);
    fake_close(&model);
}

static void any_budget_gives_the_same_answers(void **state) {
    (void)state;
    static const int32_t abc[] = {100, 200, 300};
    for (uint32_t budget = 3; budget < 90; budget += budget < 12 ? 1 : 19) {
        fake_model model =
            fake_open((fake_options){.page_count = 200,
                                     .page_tokens = 4,
                                     .scheduler = {.max_sequences = 3, .max_batched_tokens = budget}});
        fake_job jobs[6];
        for (int i = 0; i < 6; i++) {
            jobs[i] = chat(i % 2 ? abc : aa, i % 2 ? 3 : 2, QUERY + i / 4, modes[i % 3], 5);
            fake_submit(&model, &jobs[i]);
        }
        fake_run(&model);
        assert_int_equal(model.finished, 6);
        for (int i = 0; i < 6; i++)
            fake_free(&model, &jobs[i]);
        fake_close(&model);
    }
}

/* ------------------------------------------------------------------ cost ---- */

static void steps_of_many_decoding_sequences_allocate_nothing(void **state) {
    (void)state;
    enum { JOBS = 256, DOCUMENTS = 7 };
    fake_model model =
        fake_open((fake_options){.page_count = 6000,
                                 .page_tokens = 32,
                                 .scheduler = {.max_sequences = JOBS, .max_batched_tokens = 1024}});
    model.check_every = 0;
    fake_job *jobs = mem_zalloc(JOBS, sizeof *jobs);
    assert_non_null(jobs);
    for (int i = 0; i < JOBS; i++) {
        int32_t documents[DOCUMENTS];
        for (int j = 0; j < DOCUMENTS; j++)
            documents[j] = 100 + 20 * ((i * 7 + j * (1 + i % 5)) % 40);
        jobs[i] = chat(documents, DOCUMENTS, QUERY + i, CENTO_MODE_INDEPENDENT, 60);
        fake_submit(&model, &jobs[i]);
    }
    scheduler_stats stats;
    do {
        assert_true(fake_step(&model));
        cascade_scheduler_read_stats(model.scheduler, &stats);
    } while (stats.waiting > 0 || jobs[JOBS - 1].sequence.state != SEQUENCE_DECODE);
    for (int i = 0; i < 3; i++)
        assert_true(fake_step(&model));
    uint64_t best_ns = UINT64_MAX;
    for (int i = 0; i < 8; i++) { /* no page boundary in these */
        cascade_step step;
        mem_fail_after(0);
        uint64_t begin_ns = clock_now_ns();
        cento_status status = cascade_scheduler_step(model.scheduler, &step, &error);
        uint64_t end_ns = clock_now_ns();
        assert_int_equal(status, CENTO_OK);
        assert_int_equal(step.decode_rows, JOBS);
        assert_true(step.span_count >= 8 * JOBS);
        fake_forward(&model, &step);
        cascade_scheduler_computed(model.scheduler, &step, true);
        fake_sample_step(&model, &step);
        mem_fail_after(-1);
        best_ns = end_ns - begin_ns < best_ns ? end_ns - begin_ns : best_ns;
    }
    print_message("a step of %d decoding sequences, %u spans: %.1f us\n", JOBS, 9 * JOBS,
                  (double)best_ns * 1e-3);
    for (int i = 0; i < JOBS; i++)
        fake_free(&model, &jobs[i]);
    mem_free(jobs);
    fake_close(&model);
}

static void memory_is_counted_once_however_many_share_it(void **state) {
    (void)state;
    fake_model model = open_model(64);
    fake_job a = chat(ab, 2, QUERY, CENTO_MODE_EXACT, 20), b = chat(ab, 2, QUERY + 40, CENTO_MODE_EXACT, 20);
    fake_submit(&model, &a);
    fake_submit(&model, &b);
    for (int i = 0; i < 4; i++)
        assert_true(fake_step(&model));
    scheduler_stats stats;
    cascade_scheduler_read_stats(model.scheduler, &stats);
    assert_int_equal(stats.logical_tokens, a.sequence.token_count + b.sequence.token_count);
    assert_int_equal(stats.pages_referenced, model.pages->page_count - model.pages->counts[PAGE_FREE]);
    assert_int_equal(stats.running, 2);
    fake_run(&model);
    cascade_scheduler_read_stats(model.scheduler, &stats);
    assert_int_equal(stats.pages_referenced, 0);
    assert_int_equal(stats.rows, model.rows);
    fake_free(&model, &a);
    fake_free(&model, &b);
    fake_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sequence_alone_gives_what_its_mode_promises),
        cmocka_unit_test(a_warm_prompt_gives_the_cold_answer_and_computes_only_its_end),
        cmocka_unit_test(batched_sequences_of_all_modes_give_what_each_gives_alone),
        cmocka_unit_test(the_next_turn_of_a_conversation_computes_only_its_new_tokens),
        cmocka_unit_test(another_salt_shares_nothing),
        cmocka_unit_test(prompts_that_part_within_a_page_share_up_to_there),
        cmocka_unit_test(a_prompt_that_ends_with_a_chunk_computes_its_last_token_again),
        cmocka_unit_test(neighbouring_runs_of_a_path_are_one_stretch_where_that_is_wanted),
        cmocka_unit_test(what_two_prompts_share_is_computed_once_in_one_pass),
        cmocka_unit_test(a_shared_document_goes_before_what_only_one_needs),
        cmocka_unit_test(a_shared_path_goes_before_what_only_one_needs),
        cmocka_unit_test(tokens_computed_are_counted_where_they_stand_in_the_prompt),
        cmocka_unit_test(a_long_prefill_does_not_stop_those_that_decode),
        cmocka_unit_test(any_budget_gives_the_same_answers),
        cmocka_unit_test(steps_of_many_decoding_sequences_allocate_nothing),
        cmocka_unit_test(memory_is_counted_once_however_many_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
