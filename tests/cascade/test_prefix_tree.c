/*
 * Promises of the prefix tree, checked on a memory that stands for the KV (tree_world.h). The random test
 * compares it with a naive twin: a list of the token strings whose KV was computed.
 */
#include "tree_world.h"

/* ------------------------------------------------------------------ claims ---- */

static void what_was_computed_is_found_again_token_by_token(void **state) {
    (void)state;
    tree_world *world = world_of(100);
    int32_t tokens[300], other[300];
    fill_tokens(tokens, 0, 300, 1);
    assert_int_equal(world_matches(world, 0, tokens, 300), 0);
    world_keep(world, 0, tokens, 200, NULL, 0);
    for (uint32_t count = 1; count <= 200; count++) {
        prefix_claim claim;
        assert_int_equal(world_matches(world, 0, tokens, count), count);
        if (count % 37 != 0)
            continue;
        /* a claim splits where it ends */
        ASSERT_OK(world_claim(world, 0, tokens, count, 0, NULL, 0, &claim));
        world_check(world);
        assert_int_equal(claim.path_tokens, count / PAGE * PAGE);
        assert_int_equal(claim.tail_tokens, count % PAGE);
        assert_int_equal(claim.ready_tokens, claim.path_tokens);
        prefix_tree_release(world->tree, claim.leaf);
        world_check(world);
    }
    assert_int_equal(world_matches(world, 0, tokens, 300), 200);
    assert_true(prefix_tree_splits(world->tree) > 0);
    /* tokens that part from it anywhere are found up to there */
    for (uint32_t parting = 0; parting < 200; parting += 7) {
        memcpy(other, tokens, sizeof other);
        fill_tokens(other, parting, 300, 2);
        assert_int_equal(world_matches(world, 0, other, 300), parting);
    }
    world_close(world);
}

static void a_prompt_that_parts_within_a_node_splits_it_and_copies_the_rest_of_the_page(void **state) {
    (void)state;
    tree_world *world = world_of(100);
    int32_t first[200], second[200];
    fill_tokens(first, 0, 200, 1);
    memcpy(second, first, sizeof second);
    fill_tokens(second, 105, 200, 2); /* 105 = 6 pages and 9 tokens */
    prefix_claim claims[2];
    ASSERT_OK(world_claim(world, 0, first, 200, 200, NULL, 0, &claims[0]));
    world_compute(world, 0, first, claims[0].leaf, 200, true);
    const prefix_node *leaf = claims[0].leaf;
    uint32_t last_page = leaf->kv.run->pages[12], free_pages = world->pages->counts[PAGE_FREE];
    ASSERT_OK(world_claim(world, 0, second, 200, 180, NULL, 0, &claims[1]));
    world_check(world);
    assert_int_equal(prefix_tree_splits(world->tree), 1);
    assert_int_equal(claims[1].path_tokens, 180);
    assert_int_equal(claims[1].ready_tokens, 105);
    assert_int_equal(claims[1].copy.token_count, 9);
    assert_int_equal(world->pages->counts[PAGE_FREE], free_pages - 6); /* 84 tokens from 96 on */
    /* who was there keeps his leaf, and every page its place */
    assert_ptr_equal(leaf, claims[0].leaf);
    assert_int_equal(leaf->kv.position, 96);
    assert_int_equal(leaf->kv.tokens, 104);
    assert_int_equal(leaf->kv.run->pages[6], last_page);
    prefix_node *path[8], *other_path[8];
    assert_int_equal(prefix_tree_path(leaf, path, 8), 2);
    assert_int_equal(prefix_tree_path(claims[1].leaf, other_path, 8), 2);
    assert_ptr_equal(path[0], other_path[0]);
    assert_int_equal(path[0]->kv.refs, 2);
    world_compute(world, 0, second, claims[1].leaf, 200, true);
    world_check_path(world, 0, first, leaf);
    world_check_path(world, 0, second, claims[1].leaf);
    prefix_tree_release(world->tree, claims[0].leaf);
    world_check(world);
    prefix_tree_release(world->tree, claims[1].leaf);
    world_check(world);
    assert_int_equal(world_matches(world, 0, first, 200), 200);
    assert_int_equal(world_matches(world, 0, second, 200), 180);
    world_close(world);
}

static void salts_never_share(void **state) {
    (void)state;
    tree_world *world = world_of(100);
    int32_t tokens[100];
    fill_tokens(tokens, 0, 100, 1);
    world_keep(world, 0, tokens, 100, NULL, 0);
    assert_int_equal(world_matches(world, 0, tokens, 100), 100);
    assert_int_equal(world_matches(world, 1, tokens, 100), 0);
    world_keep(world, 1, tokens, 50, NULL, 0);
    assert_int_equal(world_matches(world, 1, tokens, 100), 50);
    uint64_t hits = world->registry->counted.kv_hits;
    prefix_claim claim;
    ASSERT_OK(world_claim(world, 2, tokens, 100, 0, NULL, 0, &claim));
    assert_null(claim.leaf);
    assert_int_equal(claim.path_tokens + claim.tail_tokens, 0);
    assert_int_equal(world->registry->counted.kv_hits, hits);
    world_close(world);
}

static void a_node_is_computed_once_by_whoever_comes_first(void **state) {
    (void)state;
    tree_world *world = world_of(100);
    int32_t tokens[120];
    fill_tokens(tokens, 0, 120, 1);
    prefix_claim a, b;
    ASSERT_OK(world_claim(world, 0, tokens, 120, 100, NULL, 0, &a));
    world_compute(world, 0, tokens, a.leaf, 40, true);
    ASSERT_OK(world_claim(world, 0, tokens, 120, 100, NULL, 0, &b));
    assert_ptr_equal(a.leaf, b.leaf);
    assert_int_equal(b.path_tokens, 100);
    assert_int_equal(b.ready_tokens, 40);
    prefix_tree_release(world->tree, a.leaf);
    world_check(world);
    assert_int_equal(b.leaf->kv.tokens, 100); /* b still waits for the rest */
    assert_false(world_compute(world, 0, tokens, b.leaf, 30, true));
    assert_false(world_compute(world, 0, tokens, b.leaf, 30, false)); /* a step that failed */
    assert_int_equal(b.leaf->kv.tokens_ready, 70);
    prefix_tree_release(world->tree, b.leaf);
    world_check(world);
    /* what is not ready goes with the last user */
    assert_int_equal(world_matches(world, 0, tokens, 120), 70);
    assert_int_equal(world->pages->counts[PAGE_CHUNK], 5);
    ASSERT_OK(world_claim(world, 1, tokens, 120, 100, NULL, 0, &a));
    prefix_tree_release(world->tree, a.leaf);
    world_check(world);
    assert_int_equal(world->pages->counts[PAGE_CHUNK], 5);
    world_close(world);
}

static void a_node_may_be_split_while_it_is_computed(void **state) {
    (void)state;
    static const uint32_t ready[] = {0, 20, 64, 70, 100};
    for (size_t i = 0; i < sizeof ready / sizeof *ready; i++) {
        tree_world *world = world_of(100);
        int32_t tokens[128], other[128];
        fill_tokens(tokens, 0, 128, 1);
        memcpy(other, tokens, sizeof other);
        fill_tokens(other, 70, 128, 2);
        prefix_claim a, b;
        ASSERT_OK(world_claim(world, 0, tokens, 128, 128, NULL, 0, &a));
        world_compute(world, 0, tokens, a.leaf, ready[i], true);
        ASSERT_OK(world_claim(world, 0, other, 128, 128, NULL, 0, &b));
        world_check(world);
        assert_int_equal(b.ready_tokens, ready[i] < 70 ? ready[i] : 70);
        assert_int_equal(a.leaf->kv.position, 64);
        assert_int_equal(a.leaf->parent->kv.tokens_ready, ready[i] < 64 ? ready[i] : 64);
        assert_int_equal(a.leaf->kv.tokens_ready, ready[i] < 64 ? 0 : ready[i] - 64);
        if (i % 2 == 0) { /* either goes on, the other may leave */
            assert_true(world_compute(world, 0, other, b.leaf, 128, true));
            prefix_tree_release(world->tree, a.leaf);
            world_check(world);
            assert_int_equal(world_matches(world, 0, tokens, 128), ready[i] < 70 ? 70 : ready[i]);
            prefix_tree_release(world->tree, b.leaf);
        } else {
            assert_true(world_compute(world, 0, tokens, a.leaf, 128, true));
            prefix_tree_release(world->tree, b.leaf);
            prefix_tree_release(world->tree, a.leaf);
            assert_int_equal(world_matches(world, 0, tokens, 128), 128);
        }
        world_close(world);
    }
}

static void nodes_end_where_cuts_say_and_belong_to_their_chunks(void **state) {
    (void)state;
    tree_world *world = world_of(100);
    int32_t tokens[200];
    fill_tokens(tokens, 0, 200, 1);
    context_chunk *system = world_chunk(world, CENTO_KIND_SYSTEM, 1);
    context_chunk *document = world_chunk(world, CENTO_KIND_CONTEXT, 2);
    const prefix_cut cuts[] = {{20, system, CENTO_KIND_SYSTEM}, {100, document, CENTO_KIND_CONTEXT}};
    prefix_claim claim;
    ASSERT_OK(world_claim(world, 0, tokens, 200, 150, cuts, 2, &claim));
    world_check(world);
    prefix_node *path[4];
    assert_int_equal(prefix_tree_path(claim.leaf, path, 4), 3);
    assert_int_equal(path[0]->kv.tokens, 20);
    assert_int_equal(path[1]->kv.tokens, 80);
    assert_int_equal(path[2]->kv.tokens, 50);
    assert_ptr_equal(path[0]->kv.chunk, system);
    assert_ptr_equal(path[1]->kv.chunk, document);
    assert_null(path[2]->kv.chunk);
    assert_int_equal(path[2]->kv.kind, CENTO_KIND_QUERY);
    world_compute(world, 0, tokens, claim.leaf, 200, true);
    /* both halves of a split node belong to the chunk */
    prefix_claim part;
    ASSERT_OK(world_claim(world, 0, tokens, 60, 0, NULL, 0, &part));
    world_check(world);
    chunk_entry entry;
    digest id = content_of(2);
    ASSERT_OK(chunk_registry_describe(world->registry, &id, &entry, &error));
    assert_int_equal(entry.kv_states, 2);
    assert_int_equal(entry.kv_bytes, 5 * 1000);
    prefix_tree_release(world->tree, part.leaf);
    /* a prompt without chunks finds the same nodes */
    assert_int_equal(world_matches(world, 0, tokens, 200), 150);
    prefix_tree_release(world->tree, claim.leaf);
    chunk_registry_release(world->registry, system);
    chunk_registry_release(world->registry, document);
    world_close(world);
}

static void an_automatic_prefix_joins_the_chunk_whose_tokens_it_has(void **state) {
    (void)state;
    tree_world *world = world_of(12);
    int32_t tokens[100], other[160];
    fill_tokens(tokens, 0, 100, 1);
    fill_tokens(other, 0, 160, 2);
    world_keep(world, 0, tokens, 64, NULL, 0); /* before anybody named it */
    context_chunk *system = world_chunk(world, CENTO_KIND_SYSTEM, 1);
    const prefix_cut cuts[] = {{64, system, CENTO_KIND_SYSTEM}, {70, NULL, CENTO_KIND_QUERY}};
    world_keep(world, 0, tokens, 70, cuts, 2);
    digest id = content_of(1);
    ASSERT_OK(chunk_registry_pin(world->registry, &id, &error));
    world_check(world);
    prefix_claim claim;
    ASSERT_OK(world_claim(world, 0, other, 128, 128, NULL, 0, &claim)); /* 8 pages: all that is not pinned */
    world_check(world);
    assert_int_equal(world_matches(world, 0, tokens, 100), 64);
    prefix_tree_release(world->tree, claim.leaf);
    ASSERT_OK(chunk_registry_unpin(world->registry, &id, &error));
    chunk_registry_release(world->registry, system);
    world_close(world);
}

static void a_child_is_found_among_thousands(void **state) {
    (void)state;
    enum { CHILDREN = 3000 };
    tree_world *world = world_of(3 * CHILDREN);
    int32_t tokens[64];
    fill_tokens(tokens, 0, 32, 1);
    for (int32_t i = 0; i < CHILDREN; i++) {
        prefix_claim claim;
        uint32_t count = i % 2 == 0 ? 60 : 40; /* a long child, or one of less than a page */
        const prefix_cut cuts[] = {{32, NULL, CENTO_KIND_SYSTEM}};
        fill_tokens(tokens, 32, 64, 10 + i);
        ASSERT_OK(world_claim(world, 0, tokens, count, count, cuts, 1, &claim));
        world_compute(world, 0, tokens, claim.leaf, 64, true);
        prefix_tree_release(world->tree, claim.leaf);
    }
    world_check(world);
    for (int32_t i = 0; i < CHILDREN; i++) {
        fill_tokens(tokens, 32, 64, 10 + i);
        assert_int_equal(world_matches(world, 0, tokens, 64), i % 2 == 0 ? 60 : 40);
    }
    world_close(world);
}

/* ------------------------------------------------------------------ eviction ---- */

static void leaves_go_first_and_the_oldest_of_them(void **state) {
    (void)state;
    tree_world *world = world_of(10);
    int32_t a[64], b[64];
    fill_tokens(a, 0, 64, 1);
    memcpy(b, a, sizeof b);
    fill_tokens(b, 32, 64, 2);
    world_keep(world, 0, a, 64, NULL, 0);
    world_keep(world, 0, b, 64, NULL, 0); /* a path of two nodes; three nodes of two pages are held */
    assert_int_equal(world->pages->counts[PAGE_CHUNK], 6);
    static const uint32_t matches[][2] = {{64, 64}, {32, 64}, {32, 32}, {0, 0}};
    for (uint32_t evicted = 0; evicted < 4; evicted++) {
        assert_int_equal(world_matches(world, 0, a, 64), matches[evicted][0]);
        assert_int_equal(world_matches(world, 0, b, 64), matches[evicted][1]);
        ASSERT_OK(make_room(world->registry, PAGE_CHUNK, 6 + 2 * evicted > 10 ? 10 : 6 + 2 * evicted, false,
                            &error));
        world_check(world);
    }
    assert_int_equal(world->registry->counted.evictions, 3);
    world_close(world);
}

static void a_path_in_use_is_never_evicted_and_a_refusal_says_who_holds_what(void **state) {
    (void)state;
    tree_world *world = world_of(10);
    int32_t a[128], b[128];
    fill_tokens(a, 0, 128, 1);
    fill_tokens(b, 0, 128, 2);
    world_keep(world, 0, b, 32, NULL, 0);
    prefix_claim held, refused;
    ASSERT_OK(world_claim(world, 0, a, 96, 96, NULL, 0, &held));
    world_compute(world, 0, a, held.leaf, 96, true);
    uint64_t splits = prefix_tree_splits(world->tree);
    digest scope_id = scope_of(0);
    ASSERT_FAILS(CENTO_POOL_FULL,
                 "5 KV pages of 16 tokens are needed, 2 can be had; of the pool's 10, 2 are free, "
                 "sequences hold 0 (their share is 5), chunks and prefixes 8 (5), 8 of these in use",
                 prefix_tree_claim(world->tree, &scope_id, b, 112, 112, NULL, 0, &refused, &error));
    world_check(world);
    assert_int_equal(world_matches(world, 0, b, 128), 32); /* nothing was lost for nothing */
    assert_int_equal(prefix_tree_splits(world->tree), splits);
    ASSERT_OK(world_claim(world, 0, b, 64, 64, NULL, 0, &refused));
    prefix_tree_release(world->tree, refused.leaf);
    prefix_tree_release(world->tree, held.leaf);
    assert_int_equal(world_matches(world, 0, a, 128), 96);
    world_close(world);
}

static void a_pinned_chunk_keeps_its_nodes_and_all_before_them(void **state) {
    (void)state;
    tree_world *world = world_of(12);
    int32_t tokens[96], other[192];
    fill_tokens(tokens, 0, 96, 1);
    fill_tokens(other, 0, 192, 2);
    context_chunk *chunk = world_chunk(world, CENTO_KIND_CONTEXT, 1);
    digest id = content_of(1);
    const prefix_cut cuts[] = {
        {32, NULL, CENTO_KIND_SYSTEM}, {64, chunk, CENTO_KIND_CONTEXT}, {96, NULL, CENTO_KIND_QUERY}};
    ASSERT_OK(chunk_registry_pin(world->registry, &id, &error));
    world_keep(world, 0, tokens, 96, cuts, 3);
    assert_int_equal(chunk_registry_pages_available(world->registry, PAGE_CHUNK), 8);
    world_keep(world, 0, other, 128, NULL, 0);
    assert_int_equal(world_matches(world, 0, tokens, 96), 64);
    prefix_claim claim;
    assert_int_equal(world_claim(world, 1, other, 144, 144, NULL, 0, &claim), CENTO_POOL_FULL);
    /* a split does not unpin */
    ASSERT_OK(world_claim(world, 0, tokens, 48, 0, NULL, 0, &claim));
    world_check(world);
    prefix_tree_release(world->tree, claim.leaf);
    world_check(world);
    assert_int_equal(chunk_registry_clear(world->registry), 0);
    world_check(world);
    assert_int_equal(world_matches(world, 0, tokens, 96), 64);
    assert_int_equal(world->pages->counts[PAGE_CHUNK], 4);
    ASSERT_OK(chunk_registry_unpin(world->registry, &id, &error));
    world_check(world);
    world_keep(world, 0, other, 192, NULL, 0);
    assert_int_equal(world_matches(world, 0, tokens, 96), 0);
    chunk_registry_release(world->registry, chunk);
    world_close(world);
}

static void a_removed_chunk_takes_what_stands_behind_it_but_not_its_users(void **state) {
    (void)state;
    tree_world *world = world_of(20);
    int32_t tokens[128], other[128];
    fill_tokens(tokens, 0, 128, 1);
    memcpy(other, tokens, sizeof other);
    fill_tokens(other, 64, 128, 2);
    context_chunk *chunk = world_chunk(world, CENTO_KIND_CONTEXT, 1);
    digest id = content_of(1);
    const prefix_cut cuts[] = {{32, NULL, CENTO_KIND_SYSTEM}, {64, chunk, CENTO_KIND_CONTEXT}};
    world_keep(world, 0, other, 128, cuts, 2);
    prefix_claim used, again;
    ASSERT_OK(world_claim(world, 0, tokens, 128, 128, cuts, 2, &used));
    world_compute(world, 0, tokens, used.leaf, 100, true);
    world_check_path(world, 0, tokens, used.leaf);
    ASSERT_OK(chunk_registry_remove(world->registry, &id, &error));
    world_check(world);
    assert_int_equal(world_matches(world, 0, tokens, 128), 32);
    assert_int_equal(world_matches(world, 0, other, 128), 32);
    assert_int_equal(world->pages->counts[PAGE_CHUNK], 8); /* other's last four are free */
    /* its user goes on, while others compute it anew; his own run is not taken in any more */
    ASSERT_OK(world_claim(world, 0, tokens, 128, 128, NULL, 0, &again));
    world_check(world);
    assert_int_equal(again.ready_tokens, 32);
    world_compute(world, 0, tokens, used.leaf, 128, true);
    world_check_path(world, 0, tokens, used.leaf);
    page_run *run;
    ASSERT_OK(world_own_run(world, 0, tokens, 0, 16, &run));
    digest scope_id = scope_of(0);
    ASSERT_OK(prefix_tree_adopt(world->tree, &scope_id, used.leaf, tokens, 16, run, 128, CENTO_KIND_OUTPUT,
                                NULL, &error));
    world_check(world);
    prefix_tree_release(world->tree, used.leaf);
    world_check(world);
    prefix_tree_release(world->tree, again.leaf);
    world_check(world);
    assert_int_equal(world->registry->detached_count, 1); /* the chunk itself */
    assert_int_equal(world->pages->counts[PAGE_CHUNK], 2);
    chunk_registry_release(world->registry, chunk);
    world_close(world);
}

/* ------------------------------------------------------------------ adoption ---- */

static void a_finished_answer_is_found_by_the_next_turn(void **state) {
    (void)state;
    tree_world *world = world_of(40);
    int32_t tokens[300];
    fill_tokens(tokens, 0, 300, 1);
    digest scope_id = scope_of(0);
    uint32_t known = 0;
    for (uint32_t turn = 1; turn <= 4; turn++) {
        uint32_t path_end = turn * 60 - 20, end = turn * 60;
        prefix_claim claim;
        assert_int_equal(world_matches(world, 0, tokens, path_end), known);
        ASSERT_OK(world_claim(world, 0, tokens, path_end, path_end, NULL, 0, &claim));
        assert_int_equal(claim.ready_tokens, known);
        assert_true(world_compute(world, 0, tokens, claim.leaf, 300, true));
        page_run *run;
        ASSERT_OK(world_own_run(world, 0, tokens, path_end, end, &run));
        ASSERT_OK(prefix_tree_adopt(world->tree, &scope_id, claim.leaf, tokens + path_end, end - path_end,
                                    run, path_end, CENTO_KIND_OUTPUT, NULL, &error));
        world_check(world);
        prefix_tree_release(world->tree, claim.leaf);
        world_check(world);
        known = end;
    }
    assert_int_equal(world->pages->counts[PAGE_SEQUENCE], 0);
    world_close(world);
}

static void what_is_adopted_merges_with_what_the_tree_got_meanwhile(void **state) {
    (void)state;
    /* the tree has tokens[0, held) in nodes of so many tokens; a run has [0, given), equal up to `equal` */
    static const struct {
        uint32_t held, node_tokens, given, equal;
        uint32_t pages; /* held afterwards */
    } cases[] = {
        {0, 16, 50, 50, 4},      {64, 16, 64, 64, 4},    {64, 32, 64, 64, 4},  {100, 100, 50, 50, 7},
        {64, 64, 100, 64, 7},    {64, 32, 100, 64, 7},   {64, 64, 100, 40, 9}, {64, 16, 100, 40, 9},
        {100, 100, 120, 100, 9}, {100, 100, 120, 8, 15}, {10, 10, 120, 8, 9},  {10, 10, 120, 10, 9},
        {10, 10, 8, 8, 1},       {20, 20, 17, 17, 2},    {40, 8, 40, 40, 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tree_world *world = world_of(40);
        int32_t tokens[160], given[160];
        fill_tokens(tokens, 0, 160, 1);
        memcpy(given, tokens, sizeof given);
        fill_tokens(given, cases[i].equal, 160, 2);
        prefix_cut cuts[20];
        for (uint32_t cut = 0; cut < 20; cut++)
            cuts[cut] = (prefix_cut){(cut + 1) * cases[i].node_tokens, NULL, CENTO_KIND_CONTEXT};
        if (cases[i].held > 0)
            world_keep(world, 0, tokens, cases[i].held, cuts, 20);
        page_run *run;
        digest scope_id = scope_of(0);
        ASSERT_OK(world_own_run(world, 0, given, 0, cases[i].given, &run));
        ASSERT_OK(prefix_tree_adopt(world->tree, &scope_id, NULL, given, cases[i].given, run, 0,
                                    CENTO_KIND_OUTPUT, NULL, &error));
        world_check(world);
        assert_int_equal(world_matches(world, 0, given, 160), cases[i].given);
        assert_int_equal(world_matches(world, 0, tokens, cases[i].held), cases[i].held);
        assert_int_equal(world->pages->counts[PAGE_CHUNK], cases[i].pages);
        assert_int_equal(world->pages->counts[PAGE_SEQUENCE], 0);
        prefix_claim claim;
        ASSERT_OK(world_claim(world, 0, given, cases[i].given, 0, NULL, 0, &claim)); /* looks at the memory */
        prefix_tree_release(world->tree, claim.leaf);
        world_close(world);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_computed_is_found_again_token_by_token),
        cmocka_unit_test(a_prompt_that_parts_within_a_node_splits_it_and_copies_the_rest_of_the_page),
        cmocka_unit_test(salts_never_share),
        cmocka_unit_test(a_node_is_computed_once_by_whoever_comes_first),
        cmocka_unit_test(a_node_may_be_split_while_it_is_computed),
        cmocka_unit_test(nodes_end_where_cuts_say_and_belong_to_their_chunks),
        cmocka_unit_test(an_automatic_prefix_joins_the_chunk_whose_tokens_it_has),
        cmocka_unit_test(a_child_is_found_among_thousands),
        cmocka_unit_test(leaves_go_first_and_the_oldest_of_them),
        cmocka_unit_test(a_path_in_use_is_never_evicted_and_a_refusal_says_who_holds_what),
        cmocka_unit_test(a_pinned_chunk_keeps_its_nodes_and_all_before_them),
        cmocka_unit_test(a_removed_chunk_takes_what_stands_behind_it_but_not_its_users),
        cmocka_unit_test(a_finished_answer_is_found_by_the_next_turn),
        cmocka_unit_test(what_is_adopted_merges_with_what_the_tree_got_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
