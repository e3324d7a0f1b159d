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
    assert_int_equal(world_claim(world, 0, other, 144, 144, NULL, 0, &claim), CENTO_POOL_FULL);
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
        uint32_t found; /* of what was given; 0: all */
    } cases[] = {
        {0, 16, 50, 50, 4, 0},     {64, 16, 64, 64, 4, 0},      {64, 32, 64, 64, 4, 0},
        {100, 100, 50, 50, 7, 0},  {64, 64, 100, 64, 7, 0},     {64, 32, 100, 64, 7, 0},
        {64, 64, 100, 40, 9, 0},   {64, 16, 100, 40, 9, 0},     {100, 100, 120, 100, 9, 0},
        {100, 100, 120, 8, 15, 0}, {10, 10, 120, 8, 9, 0},      {10, 10, 120, 10, 9, 0},
        {10, 10, 8, 8, 1, 0},      {20, 20, 17, 17, 2, 0},      {40, 8, 40, 40, 5, 0},
        {80, 40, 100, 80, 6, 80},  {80, 40, 100, 45, 6 + 5, 0}, {80, 40, 100, 49, 6, 49},
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
        uint32_t found = cases[i].found > 0 ? cases[i].found : cases[i].given;
        assert_int_equal(world_matches(world, 0, given, 160), found);
        assert_int_equal(world_matches(world, 0, tokens, cases[i].held), cases[i].held);
        assert_int_equal(world->pages->counts[PAGE_CHUNK], cases[i].pages);
        assert_int_equal(world->pages->counts[PAGE_SEQUENCE], 0);
        prefix_claim claim;
        ASSERT_OK(world_claim(world, 0, given, cases[i].given, 0, NULL, 0, &claim)); /* looks at the memory */
        prefix_tree_release(world->tree, claim.leaf);
        world_close(world);
    }
}

/* ------------------------------------------------------------------ the naive twin ---- */

enum { BLOCKS = 7, BLOCK_TOKENS = 60, STRING_TOKENS = 400, STRINGS = 4096, HOLDERS = 8, SCOPES = 2 };

/* A prompt: blocks of a small library, some of them cut short, so that prompts share beginnings. */
typedef struct prompt_string {
    uint32_t scope;
    uint32_t token_count;
    int32_t tokens[STRING_TOKENS];
    prefix_cut cuts[STRING_TOKENS / 8 + 1]; /* at the ends of some blocks */
    size_t cut_count;
} prompt_string;

static void draw_string(prompt_string *string, context_chunk *const *chunks) {
    *string = (prompt_string){.scope = random_below(SCOPES)};
    uint32_t wanted = 1 + random_below(STRING_TOKENS - BLOCK_TOKENS);
    while (string->token_count < wanted) {
        uint32_t block = random_below(BLOCKS);
        uint32_t length = 8 + block * (BLOCK_TOKENS - 8) / (BLOCKS - 1);
        if (random_below(6) == 0)
            length = 8 + random_below(length - 7);
        fill_tokens(string->tokens + string->token_count, 0, length, 1 + (int32_t)block);
        string->token_count += length;
        if (random_below(3) > 0)
            string->cuts[string->cut_count++] =
                (prefix_cut){string->token_count, chunks == NULL ? NULL : chunks[block],
                             chunks == NULL ? CENTO_KIND_CONTEXT : (cento_kind)(block % CHUNK_KINDS)};
    }
}

/* All strings of which somebody once computed everything: no claim may find more than they have. */
typedef struct string_twin {
    const prompt_string *strings[STRINGS];
    uint32_t computed[STRINGS]; /* tokens */
    size_t count;
} string_twin;

static void twin_add(string_twin *twin, const prompt_string *string, uint32_t token_count) {
    assert_true(twin->count < STRINGS);
    prompt_string *copy = malloc(sizeof *copy);
    *copy = *string;
    twin->strings[twin->count] = copy;
    twin->computed[twin->count++] = token_count;
}

static uint32_t twin_matches(const string_twin *twin, const prompt_string *string, uint32_t token_count) {
    uint32_t longest = 0;
    for (size_t i = 0; i < twin->count; i++) {
        uint32_t common = 0;
        if (twin->strings[i]->scope != string->scope)
            continue;
        while (common < token_count && common < twin->computed[i] &&
               twin->strings[i]->tokens[common] == string->tokens[common])
            common++;
        longest = common > longest ? common : longest;
    }
    return longest;
}

static void twin_free(string_twin *twin) {
    for (size_t i = 0; i < twin->count; i++)
        free((void *)twin->strings[i]);
    free(twin);
}

typedef struct path_holder {
    bool active;
    prompt_string string;
    prefix_claim claim;
    uint32_t ready; /* of the path */
} path_holder;

/* Computes some of a holder's path; what is ready is known to the twin. */
static void holder_computes(tree_world *world, string_twin *twin, path_holder *holder) {
    bool succeeds = random_below(8) > 0;
    const prefix_node *leaf = holder->claim.leaf;
    uint32_t token_count = random_below(4) == 0 ? STRING_TOKENS : 1 + random_below(60);
    world_compute(world, holder->string.scope, holder->string.tokens, leaf, token_count, succeeds);
    prefix_node *nodes[PATH_MAX_NODES];
    uint32_t count = prefix_tree_path(leaf, nodes, PATH_MAX_NODES), ready = 0;
    for (uint32_t n = 0; n < count && ready == nodes[n]->kv.position; n++)
        ready += nodes[n]->kv.tokens_ready;
    if (ready > holder->ready)
        twin_add(twin, &holder->string, ready);
    holder->ready = ready;
}

/* The tokens behind the path are the sequence's own, until it is done. */
static void holder_hands_over(tree_world *world, string_twin *twin, path_holder *holder) {
    const prompt_string *string = &holder->string;
    uint32_t begin = holder->claim.path_tokens;
    page_run *run;
    if (holder->ready < begin || string->token_count == begin ||
        world_own_run(world, string->scope, string->tokens, begin, string->token_count, &run) != CENTO_OK)
        return;
    digest scope_id = scope_of(string->scope);
    cento_status status =
        prefix_tree_adopt(world->tree, &scope_id, holder->claim.leaf, string->tokens + begin,
                          string->token_count - begin, run, begin, CENTO_KIND_OUTPUT, NULL, &error);
    if (status == CENTO_OK)
        twin_add(twin, string, string->token_count);
    else
        assert_int_equal(status, CENTO_POOL_FULL);
}

typedef struct twin_run_options {
    page_manager_options pages;
    chunk_registry_options registry;
    int steps;
    bool chunks;  /* named, pinned, removed */
    bool forgets; /* the pool is small, so that the tree may find less than the twin */
} twin_run_options;

static void change_chunks(tree_world *world, context_chunk **chunks, bool *pinned) {
    uint32_t block = random_below(BLOCKS);
    digest id = content_of((int32_t)block);
    switch (random_below(5)) {
    case 0:
        chunk_registry_release(world->registry, chunks[block]);
        chunks[block] = NULL;
        if (random_below(2) == 0) {
            (void)chunk_registry_remove(world->registry, &id, &error);
            pinned[block] = false;
        }
        world_check(world);
        chunks[block] = world_chunk(world, (cento_kind)(block % CHUNK_KINDS), (int32_t)block);
        break;
    case 1:
    case 2:
        if ((pinned[block] ? chunk_registry_unpin(world->registry, &id, &error)
                           : chunk_registry_pin(world->registry, &id, &error)) == CENTO_OK)
            pinned[block] = !pinned[block];
        break;
    case 3: /* all of these but what adds a reference may come too late, after the chunk expired */
        (void)chunk_registry_set_ttl(world->registry, &id, random_below(40), &error);
        break;
    default:
        if (random_below(10) == 0)
            chunk_registry_clear(world->registry);
        break;
    }
}

static void run_against_twin(const twin_run_options *options) {
    tree_world *world = world_open(options->pages, options->registry);
    string_twin *twin = calloc(1, sizeof *twin);
    path_holder *holders = calloc(HOLDERS, sizeof *holders);
    context_chunk *chunks[BLOCKS] = {NULL};
    bool pinned[BLOCKS] = {false};
    uint32_t refusals = 0, checked_claims = 0;
    uint64_t found_tokens = 0, twin_tokens = 0;
    for (uint32_t block = 0; options->chunks && block < BLOCKS; block++)
        chunks[block] = world_chunk(world, (cento_kind)(block % CHUNK_KINDS), (int32_t)block);
    for (int step = 0; step < options->steps && twin->count < STRINGS - 2; step++) {
        path_holder *holder = &holders[random_below(HOLDERS)];
        world->now_ns++;
        if (options->chunks && random_below(8) == 0) {
            change_chunks(world, chunks, pinned);
            for (uint32_t block = 0; block < BLOCKS; block++) { /* what expired is registered again */
                digest id = content_of((int32_t)block);
                context_chunk *known = chunk_registry_get(world->registry, &id);
                chunk_registry_release(world->registry, known);
                if (known != NULL && known == chunks[block])
                    continue;
                chunk_registry_release(world->registry, chunks[block]);
                chunks[block] = world_chunk(world, (cento_kind)(block % CHUNK_KINDS), (int32_t)block);
                pinned[block] = false;
            }
        } else if (!holder->active) {
            draw_string(&holder->string, options->chunks ? chunks : NULL);
            const prompt_string *string = &holder->string;
            uint32_t match = string->token_count - random_below(2), create = random_below(match + 1);
            uint32_t expected = twin_matches(twin, string, match);
            uint32_t found = world_matches(world, string->scope, string->tokens, match);
            assert_true(found <= expected);
            if (!options->forgets && found + 2 * PAGE < expected)
                fail_msg("step %d: %u tokens found, %u are there", step, found, expected);
            found_tokens += found;
            twin_tokens += expected;
            cento_status status = world_claim(world, string->scope, string->tokens, match, create,
                                              string->cuts, string->cut_count, &holder->claim);
            holder->active = status == CENTO_OK;
            holder->ready = holder->claim.ready_tokens;
            checked_claims += holder->active;
            refusals += status == CENTO_POOL_FULL;
            assert_true(status == CENTO_OK || status == CENTO_POOL_FULL);
        } else if (random_below(2) == 0) {
            holder_computes(world, twin, holder);
        } else {
            world_check_path(world, holder->string.scope, holder->string.tokens, holder->claim.leaf);
            if (random_below(2) == 0)
                holder_hands_over(world, twin, holder);
            world_check(world);
            prefix_tree_release(world->tree, holder->claim.leaf);
            holder->active = false;
        }
        world_check(world);
    }
    for (path_holder *holder = holders; holder < holders + HOLDERS; holder++) {
        if (holder->active)
            prefix_tree_release(world->tree, holder->claim.leaf);
        holder->active = false;
    }
    for (uint32_t block = 0; block < BLOCKS; block++)
        chunk_registry_release(world->registry, chunks[block]);
    /* or this says nothing */
    assert_true(checked_claims > 500 && prefix_tree_splits(world->tree) > 50);
    if (options->forgets)
        assert_true(refusals > 5 && world->registry->counted.evictions > 100);
    else
        assert_true(found_tokens * 100 >= twin_tokens * 99);
    assert_true(found_tokens > 10000);
    twin_free(twin);
    free(holders);
    world_close(world);
}

static void a_large_pool_finds_what_a_list_of_strings_finds(void **state) {
    (void)state;
    run_against_twin(&(twin_run_options){.pages = {.page_count = 40000, .borrow = true}, .steps = 4000});
}

static void a_small_pool_never_gives_what_was_not_computed(void **state) {
    (void)state;
    run_against_twin(
        &(twin_run_options){.pages = {.page_count = 60, .borrow = true}, .steps = 8000, .forgets = true});
}

static void chunks_pinned_removed_and_expired_meanwhile_change_no_token(void **state) {
    (void)state;
    run_against_twin(&(twin_run_options){
        .pages = {.page_count = 70, .borrow = true}, .steps = 8000, .chunks = true, .forgets = true});
}

static void fixed_shares_and_a_limit_of_bytes_hold_throughout(void **state) {
    (void)state;
    run_against_twin(&(twin_run_options){.pages = {.page_count = 80, .chunk_page_ratio = 0.75},
                                         .registry = {.chunk_bytes_max = 30 * 1000},
                                         .steps = 8000,
                                         .chunks = true,
                                         .forgets = true});
}

/* ------------------------------------------------------------------ failures ---- */

/* All that allocates: a first path, splits, new nodes behind them, adoption with and without a split. */
static cento_status scenario(tree_world *world, const int32_t *a, const int32_t *b, prefix_claim *claims,
                             page_run **run) {
    const digest scope_ids[2] = {scope_of(0), scope_of(1)};
    const prefix_cut cuts[] = {{40, NULL, CENTO_KIND_SYSTEM}, {100, NULL, CENTO_KIND_CONTEXT}};
    TRY(prefix_tree_claim(world->tree, &scope_ids[0], a, 128, 128, cuts, 2, &claims[0], &error));
    world_compute(world, 0, a, claims[0].leaf, 128, true);
    TRY(prefix_tree_claim(world->tree, &scope_ids[0], b, 128, 120, cuts, 2, &claims[1], &error));
    world_copy(world, claims[1].copy);
    world_compute(world, 0, b, claims[1].leaf, 30, true);
    TRY(prefix_tree_claim(world->tree, &scope_ids[1], b, 128, 80, NULL, 0, &claims[2], &error));
    world_compute(world, 1, b, claims[2].leaf, 128, true);
    TRY(chunk_registry_run_create(world->registry, run, &error));
    TRY(chunk_registry_run_grow(world->registry, *run, 8, &error));
    for (uint32_t i = 0; i < 128; i++)
        world->memory[page_run_slot(world->pages, *run, i)] = kv_hash(1, a, i);
    page_run *given = *run;
    *run = NULL;
    return prefix_tree_adopt(world->tree, &scope_ids[1], NULL, a, 128, given, 0, CENTO_KIND_OUTPUT, NULL,
                             &error);
}

static void a_failed_allocation_anywhere_leaves_everything_whole(void **state) {
    (void)state;
    int32_t a[128], b[128];
    fill_tokens(a, 0, 128, 1);
    memcpy(b, a, sizeof b);
    fill_tokens(b, 70, 128, 2);
    int64_t failures = 0;
    for (cento_status status = CENTO_OUT_OF_MEMORY; status != CENTO_OK; failures++) {
        tree_world *world = world_of(60);
        prefix_claim claims[3] = {0};
        page_run *run = NULL;
        mem_fail_after(failures);
        status = scenario(world, a, b, claims, &run);
        mem_fail_after(-1);
        assert_true(status == CENTO_OK || status == CENTO_OUT_OF_MEMORY);
        world_check(world);
        world_check_path(world, 0, a, claims[0].leaf);
        chunk_registry_run_release(world->registry, run);
        for (int i = 0; i < 3; i++) {
            prefix_tree_release(world->tree, claims[i].leaf);
            world_check(world);
        }
        if (claims[0].leaf != NULL)
            assert_int_equal(world_matches(world, 0, a, 128), 128);
        world_close(world);
    }
    assert_true(failures > 30);
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
        cmocka_unit_test(a_large_pool_finds_what_a_list_of_strings_finds),
        cmocka_unit_test(a_small_pool_never_gives_what_was_not_computed),
        cmocka_unit_test(chunks_pinned_removed_and_expired_meanwhile_change_no_token),
        cmocka_unit_test(fixed_shares_and_a_limit_of_bytes_hold_throughout),
        cmocka_unit_test(a_failed_allocation_anywhere_leaves_everything_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
