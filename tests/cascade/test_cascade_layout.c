/* Promises of the layout: what is computed in place and what apart, under which names, in every mode. */
#include "fake_model.h"

static fake_job laid_out(cento_mode mode, uint32_t link_tokens, bool anchored, uint32_t answer_tokens,
                         const char *shape) {
    /* s: system, d e f: documents of 10, 10, 3 tokens, q: query of 4, o: output of 5, t: template of 2 */
    fake_job job = {0};
    for (; *shape != '\0'; shape++) {
        switch (*shape) {
        case 's':
            fake_piece(&job, CENTO_KIND_SYSTEM, 1000, 7);
            break;
        case 'd':
            fake_piece(&job, CENTO_KIND_CONTEXT, 100, 10);
            break;
        case 'e':
            fake_piece(&job, CENTO_KIND_CONTEXT, 200, 10);
            break;
        case 'f':
            fake_piece(&job, CENTO_KIND_CONTEXT, 300, 3);
            break;
        case 'q':
            fake_piece(&job, CENTO_KIND_QUERY, 2000, 4);
            break;
        case 'o':
            fake_piece(&job, CENTO_KIND_OUTPUT, 2500, 5);
            break;
        default:
            fake_template(&job, 3000, 2);
        }
    }
    fake_prepare(&job, mode, link_tokens, anchored, NULL, answer_tokens);
    return job;
}

static void close_job(fake_job *job) {
    cascade_layout_free(&job->layout);
    mem_free(job->tokens);
    mem_free(job->expected);
}

static void expect_segment(const cascade_layout *layout, size_t index, layout_segment expected) {
    assert_true(index < layout->segment_count);
    const layout_segment *found = &layout->segments[index];
    assert_int_equal(found->part, expected.part);
    assert_int_equal(found->node, expected.node);
    assert_int_equal(found->node_token, expected.node_token);
    assert_int_equal(found->position, expected.position);
    assert_int_equal(found->token_count, expected.token_count);
    assert_int_equal(found->exact, expected.exact);
    assert_int_equal(found->link_head, expected.link_head);
}

/* ------------------------------------------------------------------ exact ---- */

static void an_exact_path_is_cut_where_pieces_end_and_what_follows_is_the_sequences_own(void **state) {
    (void)state;
    fake_job job = laid_out(CENTO_MODE_EXACT, 0, false, 5, "tstdtqt");
    const cascade_layout *layout = &job.layout;
    assert_int_equal(layout->path_tokens, 2 + 7 + 2 + 10 + 2 + 4);
    assert_int_equal(layout->own_tokens, 2);
    assert_true(layout->own_on_path && !layout->repeats_last);
    assert_int_equal(layout->node_count, 0);
    static const layout_cut cuts[] = {
        {9, 1, CENTO_KIND_SYSTEM}, {21, 3, CENTO_KIND_CONTEXT}, {27, 5, CENTO_KIND_QUERY}};
    assert_int_equal(layout->cut_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(layout->cuts[i].token_end, cuts[i].token_end);
        assert_int_equal(layout->cuts[i].part, cuts[i].part);
        assert_int_equal(layout->cuts[i].kind, cuts[i].kind);
    }
    assert_int_equal(layout->segment_count, 7);
    expect_segment(layout, 3,
                   (layout_segment){.part = 3,
                                    .node = LAYOUT_PATH,
                                    .node_token = 11,
                                    .position = 11,
                                    .token_count = 10,
                                    .exact = true});
    expect_segment(
        layout, 6,
        (layout_segment){
            .part = 6, .node = LAYOUT_OWN, .node_token = 0, .position = 27, .token_count = 2, .exact = true});
    close_job(&job);
}

static void the_last_token_is_the_sequences_own_even_where_a_piece_ends_the_prompt(void **state) {
    (void)state;
    fake_job job = laid_out(CENTO_MODE_EXACT, 0, false, 5, "sq");
    assert_int_equal(job.layout.path_tokens, 10);
    assert_int_equal(job.layout.own_tokens, 1);
    assert_int_equal(job.layout.cuts[1].token_end, 10);
    expect_segment(
        &job.layout, 2,
        (layout_segment){.part = 1, .node = LAYOUT_OWN, .position = 10, .token_count = 1, .exact = true});
    close_job(&job);
    job = laid_out(CENTO_MODE_INDEPENDENT, 0, false, 5, "sdq");
    assert_int_equal(job.layout.own_tokens, 1);
    assert_int_equal(job.layout.node_count, 2);
    assert_int_equal(job.layout.nodes[1].token_count, 3);
    close_job(&job);
}

static void without_an_answer_everything_is_kept(void **state) {
    (void)state;
    static const cento_mode modes[] = {CENTO_MODE_EXACT, CENTO_MODE_INDEPENDENT, CENTO_MODE_LINK};
    static const char *const shapes[] = {"tsdtqt", "sdq", "sd", "tsdtet", "t", "sdtde"};
    for (size_t mode = 0; mode < 3; mode++) {
        for (size_t i = 0; i < 6; i++) {
            fake_job job = laid_out(modes[mode], 4, true, 0, shapes[i]);
            assert_int_equal(job.layout.own_tokens, 0);
            assert_false(job.layout.repeats_last);
            for (size_t segment = 0; segment < job.layout.segment_count; segment++)
                assert_true(job.layout.segments[segment].node != LAYOUT_OWN);
            close_job(&job);
        }
    }
}

static void without_a_document_computed_apart_every_mode_is_exact(void **state) {
    (void)state;
    static const char *const shapes[] = {"tsqt", "fqt", "tsftfqt"};
    for (size_t i = 0; i < 3; i++) {
        fake_job exact = laid_out(CENTO_MODE_EXACT, 0, false, 3, shapes[i]);
        fake_job link = laid_out(CENTO_MODE_LINK, 3, true, 3, shapes[i]);
        assert_true(link.layout.own_on_path);
        assert_int_equal(link.layout.path_tokens, exact.layout.path_tokens);
        assert_int_equal(link.layout.cut_count, exact.layout.cut_count);
        assert_int_equal(link.layout.node_count, 0);
        assert_true(digest_equal(&link.layout.scope_id, &exact.layout.scope_id));
        close_job(&exact);
        close_job(&link);
    }
}

/* ------------------------------------------------------------------ chunks apart ---- */

static void documents_are_computed_apart_and_what_stands_between_in_place(void **state) {
    (void)state;
    fake_job job = laid_out(CENTO_MODE_INDEPENDENT, 0, true, 5, "tstdtetqt");
    const cascade_layout *layout = &job.layout;
    assert_int_equal(layout->path_tokens, 11);
    assert_int_equal(layout->anchor_tokens, 11);
    assert_int_equal(layout->cut_count, 2); /* the system prompt, and the template's text behind it */
    assert_int_equal(layout->cuts[1].token_end, 11);
    assert_int_equal(layout->cuts[1].kind, CENTO_KIND_SYSTEM);
    assert_false(layout->own_on_path);
    assert_int_equal(layout->node_count, 3);
    for (size_t i = 0; i < 2; i++) {
        assert_true(layout->nodes[i].apart);
        assert_int_equal(layout->nodes[i].position, 11);
        assert_int_equal(layout->nodes[i].token_count, 10);
        assert_int_equal(layout->nodes[i].token_begin, i == 0 ? 11 : 23);
    }
    assert_false(layout->nodes[2].apart); /* glue, glue and query */
    assert_int_equal(layout->nodes[2].position, 21);
    assert_int_equal(layout->nodes[2].token_count, 2 + 2 + 4);
    assert_int_equal(layout->nodes[2].kind, CENTO_KIND_QUERY);
    assert_int_equal(layout->own_tokens, 2);
    expect_segment(layout, 3, /* it stands where it was computed */
                   (layout_segment){.part = 3, .node = 0, .position = 11, .token_count = 10, .exact = true});
    expect_segment(layout, 4,
                   (layout_segment){.part = 4, .node = 2, .position = 21, .token_count = 2, .exact = true});
    expect_segment(layout, 5, (layout_segment){.part = 5, .node = 1, .position = 23, .token_count = 10});
    expect_segment(layout, 6,
                   (layout_segment){.part = 6, .node = 2, .node_token = 2, .position = 33, .token_count = 2});
    close_job(&job);
}

static void a_document_is_named_by_what_it_saw(void **state) {
    (void)state;
    fake_job alone = laid_out(CENTO_MODE_INDEPENDENT, 0, false, 5, "tstdtqt");
    fake_job anchored = laid_out(CENTO_MODE_INDEPENDENT, 0, true, 5, "tstdtqt");
    const layout_part *part = &alone.parts[3];
    digest expected, path_content, path;
    ASSERT_OK(kv_id_of(&alone.options.scope, KV_ALONE, NULL, &part->content_id, &expected, &error));
    assert_true(digest_equal(&alone.layout.nodes[0].kv_id, &expected));
    assert_int_equal(alone.layout.nodes[0].position, 0);
    ASSERT_OK(content_id_of(fake_fingerprint, anchored.tokens, 11, &path_content, &error));
    ASSERT_OK(kv_id_of(&alone.options.scope, KV_PATH, NULL, &path_content, &path, &error));
    ASSERT_OK(kv_id_of(&alone.options.scope, KV_ANCHORED, &path, &part->content_id, &expected, &error));
    assert_true(digest_equal(&anchored.layout.nodes[0].kv_id, &expected));
    cascade_layout registered = {0};
    ASSERT_OK(cascade_layout_alone(part, &alone.options, &registered, &error));
    assert_int_equal(registered.node_count, 1);
    assert_int_equal(registered.segment_count, 0);
    assert_true(digest_equal(&registered.nodes[0].kv_id, &alone.layout.nodes[0].kv_id));
    cascade_layout_free(&registered);
    close_job(&alone);
    close_job(&anchored);
}

static void order_changes_the_names_of_what_is_computed_in_place_only(void **state) {
    (void)state;
    fake_job de = laid_out(CENTO_MODE_INDEPENDENT, 0, false, 5, "sdteqt"),
             ed = laid_out(CENTO_MODE_INDEPENDENT, 0, false, 5, "setdqt");
    assert_true(digest_equal(&de.layout.nodes[0].kv_id, &ed.layout.nodes[1].kv_id));
    assert_true(digest_equal(&de.layout.nodes[1].kv_id, &ed.layout.nodes[0].kv_id));
    assert_false(digest_equal(&de.layout.nodes[2].kv_id, &ed.layout.nodes[2].kv_id));
    close_job(&de);
    close_job(&ed);
}

static void the_same_document_in_two_places_is_one_node(void **state) {
    (void)state;
    fake_job job = laid_out(CENTO_MODE_LINK, 4, false, 5, "sdtdqt");
    const cascade_layout *layout = &job.layout;
    assert_int_equal(layout->node_count, 2);
    uint32_t places = 0, heads = 0;
    for (size_t i = 0; i < layout->segment_count; i++) {
        places += layout->segments[i].node == 0;
        heads += layout->segments[i].link_head ? layout->segments[i].token_count : 0;
        if (layout->segments[i].node == 0)
            assert_int_equal(layout->segments[i].node_token, 4);
    }
    assert_int_equal(places, 2);
    assert_int_equal(heads, 8);
    assert_int_equal(layout->nodes[1].token_count, 4 + 2 + 4 + 4); /* heads, glue, query */
    close_job(&job);
}

static void a_document_no_longer_than_its_head_is_computed_in_place(void **state) {
    (void)state;
    fake_job job = laid_out(CENTO_MODE_LINK, 3, true, 5, "sfdqt");
    const cascade_layout *layout = &job.layout;
    assert_int_equal(layout->path_tokens, 7); /* to the first document, whatever its length: the anchor */
    assert_int_equal(layout->anchor_tokens, 7);
    assert_int_equal(layout->node_count, 3);
    assert_false(layout->nodes[0].apart); /* a piece ends a node */
    assert_int_equal(layout->nodes[0].token_count, 3);
    assert_true(layout->nodes[1].apart);
    close_job(&job);
}

static void a_chunk_that_ends_the_prompt_leaves_nothing_of_it_to_the_sequence(void **state) {
    (void)state;
    for (uint32_t link = 0; link < 2; link++) {
        fake_job job =
            laid_out(link ? CENTO_MODE_LINK : CENTO_MODE_INDEPENDENT, 4, false, 5, link ? "sdte" : "sdtde");
        assert_true(job.layout.repeats_last && !job.layout.own_on_path);
        assert_int_equal(job.layout.own_tokens, 0);
        assert_int_equal(job.layout.own_strip_begin, job.layout.prompt_tokens);
        close_job(&job);
    }
}

/* ------------------------------------------------------------------ names ---- */

static bool has_node(const cascade_layout *layout, const digest *kv_id) {
    for (size_t i = 0; i < layout->node_count; i++) {
        if (digest_equal(&layout->nodes[i].kv_id, kv_id))
            return true;
    }
    return false;
}

static void the_next_turn_has_the_names_of_the_turn_before(void **state) {
    (void)state;
    fake_job first = laid_out(CENTO_MODE_LINK, 4, true, 5, "tsdteqt"),
             second = laid_out(CENTO_MODE_LINK, 4, true, 5, "tsdteqtotqt");
    for (size_t i = 0; i < first.layout.node_count; i++)
        assert_true(has_node(&second.layout, &first.layout.nodes[i].kv_id));
    uint32_t prompt = first.layout.prompt_tokens;
    digest kv_id, other;
    ASSERT_OK(
        cascade_layout_own_id(&first.layout, &first.options, second.tokens, prompt + 5, &kv_id, &error));
    assert_true(has_node(&second.layout, &kv_id));
    ASSERT_OK(
        cascade_layout_own_id(&first.layout, &first.options, second.tokens, prompt + 4, &other, &error));
    assert_false(has_node(&second.layout, &other));
    close_job(&first);
    close_job(&second);
}

/* A document, text between, another one, a query. */
static fake_job with_text_between(int32_t text) {
    fake_job job = {0};
    fake_piece(&job, CENTO_KIND_CONTEXT, 100, 10);
    fake_template(&job, text, 2);
    fake_piece(&job, CENTO_KIND_CONTEXT, 200, 10);
    fake_piece(&job, CENTO_KIND_QUERY, 2000, 4);
    fake_template(&job, 3000, 2);
    fake_prepare(&job, CENTO_MODE_INDEPENDENT, 0, false, NULL, 5);
    return job;
}

static void names_take_in_all_that_stands_before(void **state) {
    (void)state;
    /* each differs from the first in something before the query; the names of the query's node must differ */
    static const char *const shapes[] = {"sdqt",  "tsdqt", "sedqt", "deqt",
                                         "sdtqt", "sdfqt", "sfdqt", "sddqt"};
    fake_job jobs[16];
    size_t count = 0;
    for (size_t i = 0; i < 8; i++)
        jobs[count++] = laid_out(CENTO_MODE_INDEPENDENT, 0, false, 5, shapes[i]);
    jobs[count++] = laid_out(CENTO_MODE_INDEPENDENT, 0, true, 5, shapes[0]);
    jobs[count++] = laid_out(CENTO_MODE_LINK, 1, false, 5, shapes[0]);
    jobs[count++] = laid_out(CENTO_MODE_LINK, 2, false, 5, shapes[0]);
    jobs[count++] = with_text_between(3200);
    jobs[count++] = with_text_between(3300);
    for (size_t i = 0; i < count; i++) {
        const cascade_layout *layout = &jobs[i].layout;
        for (size_t j = 0; j < i; j++)
            assert_false(has_node(&jobs[j].layout, &layout->nodes[layout->node_count - 1].kv_id));
    }
    for (size_t i = 0; i < count; i++)
        close_job(&jobs[i]);
}

/* ------------------------------------------------------------------ in general ---- */

static void check_layout(const fake_job *job) {
    const cascade_layout *layout = &job->layout;
    uint32_t position = 0, path = 0, own = 0, cut = 0;
    uint32_t node_tokens[FAKE_PARTS_MAX] = {0};
    for (size_t i = 0; i < layout->segment_count; i++) {
        const layout_segment *segment = &layout->segments[i];
        const layout_part *part = &job->parts[segment->part];
        assert_int_equal(segment->position, position);
        assert_true(segment->token_count > 0);
        assert_true(part->token_begin <= position &&
                    position + segment->token_count <= part->token_begin + part->token_count);
        position += segment->token_count;
        if (segment->node == LAYOUT_PATH) {
            assert_true(own == 0 && segment->node_token == path && segment->exact);
            path += segment->token_count;
        } else if (segment->node == LAYOUT_OWN) {
            assert_int_equal(segment->node_token, own);
            own += segment->token_count;
        } else if (layout->nodes[segment->node].apart) {
            assert_int_equal(segment->node_token + segment->token_count,
                             layout->nodes[segment->node].token_count);
        } else {
            assert_int_equal(segment->node_token, node_tokens[segment->node]);
            node_tokens[segment->node] += segment->token_count;
        }
    }
    assert_int_equal(position, layout->prompt_tokens);
    assert_int_equal(path, layout->path_tokens);
    assert_int_equal(own, layout->own_tokens);
    assert_true(own > 0 || layout->repeats_last || job->options.keeps_all);
    for (size_t i = 0; i < layout->node_count; i++) {
        if (!layout->nodes[i].apart)
            assert_int_equal(node_tokens[i], layout->nodes[i].token_count);
    }
    for (size_t i = 0; i < layout->cut_count; i++) {
        assert_true(layout->cuts[i].token_end > cut);
        cut = layout->cuts[i].token_end;
    }
    assert_int_equal(cut, layout->path_tokens);
}

static void segments_cover_every_prompt_once_and_nodes_are_whole(void **state) {
    (void)state;
    uint64_t random = 1;
    static const char letters[] = "sdefqot";
    for (int round = 0; round < 20000; round++) {
        char shape[12] = {0};
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = random >> 20;
        size_t length = 1 + bits % 10;
        for (size_t i = 0; i < length; i++)
            shape[i] = letters[(bits >> (4 + 3 * i)) % 7];
        fake_job job = laid_out((cento_mode)(round % 3), (uint32_t)(random >> 60) % 6, round % 2 == 0,
                                round % 5 == 0 ? 0 : 3, shape);
        check_layout(&job);
        close_job(&job);
    }
}

static void parts_that_do_not_make_the_prompt_are_refused(void **state) {
    (void)state;
    fake_job job = laid_out(CENTO_MODE_EXACT, 0, false, 1, "sq");
    cascade_layout layout = {0};
    ASSERT_FAILS(CENTO_INTERNAL, "2 parts have 11 tokens, the prompt 12",
                 cascade_layout_build(job.tokens, 12, job.parts, 2, &job.options, &layout, &error));
    job.parts[1].token_begin++;
    ASSERT_FAILS(CENTO_INTERNAL, "part 1 is 4 tokens from 8, expected at least one from 7, of 11",
                 cascade_layout_build(job.tokens, 11, job.parts, 2, &job.options, &layout, &error));
    cascade_layout_free(&layout);
    close_job(&job);
}

static void a_failed_allocation_leaves_nothing(void **state) {
    (void)state;
    fake_job job = laid_out(CENTO_MODE_LINK, 4, true, 5, "tsdtetqt");
    cento_status status = CENTO_OUT_OF_MEMORY;
    for (int64_t countdown = 0; status != CENTO_OK; countdown++) {
        cascade_layout layout = {0};
        mem_fail_after(countdown);
        status = cascade_layout_build(job.tokens, job.layout.prompt_tokens, job.parts, job.part_count,
                                      &job.options, &layout, &error);
        mem_fail_after(-1);
        assert_true(status == CENTO_OK || status == CENTO_OUT_OF_MEMORY);
        cascade_layout_free(&layout);
        assert_null(layout.segments);
    }
    close_job(&job);
}

/* ------------------------------------------------------------------ previews ---- */

static layout_preview preview_of(fake_model *model, const fake_job *job, uint32_t *segments) {
    layout_preview preview;
    cascade_layout_preview(&job->layout, job->tokens, model->registry, model->tree, &preview, segments);
    return preview;
}

static void a_preview_says_what_a_request_then_does(void **state) {
    (void)state;
    static const cento_mode modes[] = {CENTO_MODE_EXACT, CENTO_MODE_INDEPENDENT, CENTO_MODE_LINK};
    static const char *const shapes[] = {"tstdtdtqt", "tsdte", "sdq", "tsqt"};
    for (size_t mode = 0; mode < 3; mode++) {
        for (size_t i = 0; i < 4; i++) {
            fake_model model = fake_open((fake_options){.page_count = 64, .page_tokens = 4});
            fake_job cold = laid_out(modes[mode], 3, true, 1, shapes[i]),
                     warm = laid_out(modes[mode], 3, true, 1, shapes[i]);
            layout_preview before = preview_of(&model, &cold, NULL);
            fake_submit(&model, &cold);
            assert_true(fake_step(&model)); /* an answer of one token: the prompt's rows are all rows */
            fake_run(&model);
            assert_true(cold.done);
            assert_int_equal(cold.rows_computed, before.computed_tokens);
            assert_int_equal(before.pages_held, 0);
            assert_true(before.pages_new >=
                        page_manager_pages_for(model.pages, cold.layout.prompt_tokens) - 2);
            uint32_t segments[32], sum = 0;
            layout_preview after = preview_of(&model, &warm, segments);
            for (size_t segment = 0; segment < warm.layout.segment_count; segment++)
                sum += segments[segment];
            assert_int_equal(sum, after.cached_tokens);
            assert_true(after.cached_tokens > before.cached_tokens && after.pages_held > 0);
            fake_submit(&model, &warm);
            fake_run(&model);
            assert_int_equal(warm.rows_computed, after.computed_tokens);
            fake_free(&model, &cold);
            fake_free(&model, &warm);
            fake_close(&model);
        }
    }
}

static void a_chunk_registered_for_its_kv_is_found_by_prompts(void **state) {
    (void)state;
    fake_model model = fake_open((fake_options){.page_count = 64, .page_tokens = 4});
    fake_job chunk = {0}, prompt = laid_out(CENTO_MODE_INDEPENDENT, 0, false, 2, "tsdqt");
    fake_piece(&chunk, CENTO_KIND_CONTEXT, 100, 10);
    fake_prepare(&chunk, CENTO_MODE_INDEPENDENT, 0, false, NULL, 0);
    cascade_layout_free(&chunk.layout);
    ASSERT_OK(cascade_layout_alone(&chunk.parts[0], &chunk.options, &chunk.layout, &error));
    fake_submit(&model, &chunk);
    assert_int_equal(fake_run(&model), 10);
    assert_true(chunk.done);
    uint32_t segments[8];
    layout_preview preview = preview_of(&model, &prompt, segments);
    assert_int_equal(preview.cached_tokens, 10);
    assert_int_equal(segments[2], 10);
    assert_int_equal(preview.pages_held, 3);
    fake_submit(&model, &prompt);
    fake_run(&model);
    assert_int_equal(prompt.rows_computed, prompt.layout.prompt_tokens - 10 + 1);
    fake_free(&model, &chunk);
    fake_free(&model, &prompt);
    fake_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exact_path_is_cut_where_pieces_end_and_what_follows_is_the_sequences_own),
        cmocka_unit_test(the_last_token_is_the_sequences_own_even_where_a_piece_ends_the_prompt),
        cmocka_unit_test(without_an_answer_everything_is_kept),
        cmocka_unit_test(without_a_document_computed_apart_every_mode_is_exact),
        cmocka_unit_test(documents_are_computed_apart_and_what_stands_between_in_place),
        cmocka_unit_test(a_document_is_named_by_what_it_saw),
        cmocka_unit_test(order_changes_the_names_of_what_is_computed_in_place_only),
        cmocka_unit_test(the_same_document_in_two_places_is_one_node),
        cmocka_unit_test(a_document_no_longer_than_its_head_is_computed_in_place),
        cmocka_unit_test(a_chunk_that_ends_the_prompt_leaves_nothing_of_it_to_the_sequence),
        cmocka_unit_test(the_next_turn_has_the_names_of_the_turn_before),
        cmocka_unit_test(names_take_in_all_that_stands_before),
        cmocka_unit_test(segments_cover_every_prompt_once_and_nodes_are_whole),
        cmocka_unit_test(parts_that_do_not_make_the_prompt_are_refused),
        cmocka_unit_test(a_failed_allocation_leaves_nothing),
        cmocka_unit_test(a_preview_says_what_a_request_then_does),
        cmocka_unit_test(a_chunk_registered_for_its_kv_is_found_by_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
