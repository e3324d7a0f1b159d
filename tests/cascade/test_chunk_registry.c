/* Promises of chunk identity and of the registry: what is kept, what goes first, what is never taken. */
#include "registry_fixture.h"

static const uint8_t tokenizer_b[SHA256_BYTES] = {2};
static const uint8_t model_a[SHA256_BYTES] = {3}, model_b[SHA256_BYTES] = {4};

static void a_content_id_is_the_documented_hash(void **state) {
    (void)state;
    /* SHA-256 of: length 18 and "cento content id 1", the fingerprint, count 2, ids 7 and 0x01020304, all
     * integers little-endian. From Python's hashlib:
     *   n = lambda v: v.to_bytes(8, "little")
     *   sha256(n(18) + b"cento content id 1" + bytes([1] + [0] * 31) + n(2)
     *          + (7).to_bytes(4, "little") + (0x01020304).to_bytes(4, "little")) */
    const int32_t tokens[2] = {7, 0x01020304};
    digest id;
    char hex[65];
    ASSERT_OK(content_id_of(tokenizer_a, tokens, 2, &id, &error));
    sha256_hex(id.bytes, hex);
    assert_string_equal(hex, "2ee7e1b05d12d7f15582d4393c13374e7ad1b9e260c2d1ce283d10719787d132");
}

static void an_id_changes_with_everything_it_depends_on(void **state) {
    (void)state;
    const int32_t tokens[3] = {1, 2, 3};
    digest ids[20];
    size_t count = 0;
    ASSERT_OK(content_id_of(tokenizer_a, tokens, 3, &ids[count++], &error));
    ASSERT_OK(content_id_of(tokenizer_a, tokens, 2, &ids[count++], &error));
    ASSERT_OK(content_id_of(tokenizer_b, tokens, 3, &ids[count++], &error));
    ASSERT_OK(content_id_of(tokenizer_a, tokens, 0, &ids[count++], &error));
    const kv_scope base = {model_a, "bf16", NULL};
    const kv_scope scopes[] = {
        base, {model_b, "bf16", NULL}, {model_a, "f32", NULL}, {model_a, "bf16", ""}, {model_a, "bf16", "x"}};
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++)
        ASSERT_OK(kv_id_of(&scopes[i], KV_PATH, NULL, &ids[0], &ids[count++], &error));
    ASSERT_OK(kv_id_of(&base, KV_ALONE, NULL, &ids[0], &ids[count++], &error));
    ASSERT_OK(kv_id_of(&base, KV_COMPOSED, NULL, &ids[0], &ids[count++], &error));
    ASSERT_OK(kv_id_of(&base, KV_PATH, &ids[1], &ids[0], &ids[count++], &error));
    ASSERT_OK(kv_id_of(&base, KV_ANCHORED, &ids[1], &ids[0], &ids[count++], &error));
    ASSERT_OK(kv_id_of(&base, KV_PATH, NULL, &ids[1], &ids[count++], &error));
    ASSERT_OK(kv_path_through(&base, NULL, NULL, &ids[0], 0, &ids[count++], &error));
    ASSERT_OK(kv_path_through(&base, NULL, NULL, &ids[0], 1, &ids[count++], &error));
    ASSERT_OK(kv_path_through(&base, &ids[1], NULL, &ids[0], 0, &ids[count++], &error));
    ASSERT_OK(kv_path_through(&base, NULL, &ids[1], &ids[0], 0, &ids[count++], &error));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++)
            assert_false(digest_equal(&ids[i], &ids[j]));
    }
    digest again;
    ASSERT_OK(kv_id_of(&base, KV_PATH, &ids[1], &ids[0], &again, &error));
    assert_true(digest_equal(&again, &ids[11]));
}

static void known_content_is_one_chunk_whatever_its_kind(void **state) {
    (void)state;
    fixture opened = fixture_open(8, 10);
    const int32_t tokens[2] = {5, 6};
    digest id = numbered(5);
    context_chunk *a, *b;
    bool known;
    ASSERT_OK(
        chunk_registry_acquire(opened.registry, CENTO_KIND_QUERY, &id, tokens, 2, NULL, &a, &known, &error));
    assert_false(known);
    ASSERT_OK(chunk_registry_acquire(opened.registry, CENTO_KIND_SYSTEM, &id, tokens, 2, "rules", &b, &known,
                                     &error));
    assert_true(known && a == b);
    assert_int_equal(a->kind, CENTO_KIND_SYSTEM); /* the kind that is kept longest */
    assert_string_equal(a->label, "rules");
    assert_int_equal(opened.registry->chunks.count, 1);
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    chunk_registry_release(opened.registry, a);
    chunk_registry_release(opened.registry, b);
    fixture_close(opened);
}

static void a_long_label_is_cut_between_characters(void **state) {
    (void)state;
    fixture opened = fixture_open(8, 10);
    char label[200];
    memset(label, 'a', 126);
    strcpy(label + 126, "\xE2\x82\xAC"); /* three bytes, of which one would fit */
    const int32_t token = 1;
    digest id = numbered(1);
    context_chunk *chunk;
    ASSERT_OK(chunk_registry_acquire(opened.registry, CENTO_KIND_CONTEXT, &id, &token, 1, label, &chunk, NULL,
                                     &error));
    assert_int_equal(strlen(chunk->label), 126);
    chunk_registry_release(opened.registry, chunk);
    fixture_close(opened);
}

static void hits_and_misses_are_counted(void **state) {
    (void)state;
    fixture opened = fixture_open(8, 10);
    digest id = numbered(1);
    assert_null(chunk_registry_kv_find(opened.registry, &id));
    add_ready(opened, CENTO_KIND_CONTEXT, 1, 20);
    chunk_kv *kv = chunk_registry_kv_find(opened.registry, &id);
    assert_non_null(kv);
    assert_int_equal(opened.registry->counted.kv_hits, 1);
    assert_int_equal(opened.registry->counted.kv_misses, 1);
    chunk_registry_kv_release(opened.registry, kv);
    fixture_close(opened);
}

static void the_least_recently_used_goes_first_within_a_priority(void **state) {
    (void)state;
    fixture opened = fixture_open(6, 10); /* 16 tokens a page: six chunks of one page */
    add_ready(opened, CENTO_KIND_SYSTEM, 1, 16);
    add_ready(opened, CENTO_KIND_CONTEXT, 2, 16);
    add_ready(opened, CENTO_KIND_CONTEXT, 3, 16);
    add_ready(opened, CENTO_KIND_QUERY, 4, 16);
    add_ready(opened, CENTO_KIND_OUTPUT, 5, 16);
    add_ready(opened, CENTO_KIND_TOOL, 6, 16);
    digest second = numbered(2);
    chunk_registry_kv_release(opened.registry, chunk_registry_kv_find(opened.registry, &second));
    static const int32_t order[] = {4, 5, 3, 2, 1, 6};
    for (uint32_t evicted = 0; evicted < 6; evicted++) {
        for (uint32_t i = 0; i < 6; i++)
            assert_int_equal(is_held(opened, order[i]), i >= evicted);
        assert_int_equal(opened.registry->counted.evictions, evicted);
        ASSERT_OK(make_room(opened.registry, PAGE_CHUNK, evicted + 1, false, &error));
        ASSERT_OK(chunk_registry_check(opened.registry, &error));
    }
    assert_int_equal(opened.registry->chunks.count, 6); /* chunks are still known, without KV */
    fixture_close(opened);
}

static void what_is_in_use_is_never_evicted_and_a_refusal_loses_nothing(void **state) {
    (void)state;
    fixture opened = fixture_open(4, 10);
    add_ready(opened, CENTO_KIND_QUERY, 1, 32);
    add_ready(opened, CENTO_KIND_SYSTEM, 2, 32);
    digest id = numbered(1);
    chunk_kv *used = chunk_registry_kv_find(opened.registry, &id);
    ASSERT_FAILS(CENTO_POOL_FULL,
                 "3 KV pages of 16 tokens are needed, 2 can be had; of the pool's 4, 0 are free",
                 make_room(opened.registry, PAGE_CHUNK, 3, false, &error));
    assert_true(is_held(opened, 1) && is_held(opened, 2));
    ASSERT_OK(make_room(opened.registry, PAGE_CHUNK, 2, false, &error));
    assert_true(is_held(opened, 1) && !is_held(opened, 2));
    chunk_registry_kv_release(opened.registry, used);
    fixture_close(opened);
}

static void what_is_removed_while_in_use_lives_until_its_last_user_is_done(void **state) {
    (void)state;
    fixture opened = fixture_open(4, 10);
    add_ready(opened, CENTO_KIND_CONTEXT, 1, 64);
    digest id = numbered(1);
    context_chunk *chunk;
    ASSERT_OK(chunk_registry_acquire(opened.registry, CENTO_KIND_CONTEXT, &id, NULL, 0, NULL, &chunk, NULL,
                                     &error));
    chunk_kv *kv = chunk_registry_kv_find(opened.registry, &id);
    ASSERT_OK(chunk_registry_remove(opened.registry, &id, &error));
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    assert_null(chunk_registry_get(opened.registry, &id));
    assert_int_equal(opened.pages->counts[PAGE_CHUNK], 4);
    assert_int_equal(chunk->token_count, 1);     /* still readable */
    add_ready(opened, CENTO_KIND_CONTEXT, 2, 0); /* the table goes on */
    chunk_registry_release(opened.registry, chunk);
    chunk_registry_kv_release(opened.registry, kv);
    assert_int_equal(opened.pages->counts[PAGE_FREE], 4);
    fixture_close(opened);
}

static void kv_of_which_nothing_was_computed_is_not_kept(void **state) {
    (void)state;
    fixture opened = fixture_open(4, 10);
    digest id = numbered(1);
    chunk_kv *kv;
    ASSERT_OK(chunk_registry_kv_create(opened.registry, &id, NULL, CENTO_KIND_QUERY, 40, 0, &kv, &error));
    chunk_registry_kv_release(opened.registry, kv);
    assert_false(is_held(opened, 1));
    assert_int_equal(opened.pages->counts[PAGE_FREE], 4);
    fixture_close(opened);
}

static void the_table_holds_no_more_chunks_than_its_limit(void **state) {
    (void)state;
    fixture opened = fixture_open(64, 5);
    for (int32_t number = 0; number < 20; number++)
        add_ready(opened, CENTO_KIND_CONTEXT, number, 16);
    assert_int_equal(opened.registry->chunks.count, 5);
    assert_true(is_held(opened, 19) && is_held(opened, 15) && !is_held(opened, 14));
    context_chunk *held[5], *more;
    for (int32_t number = 15; number < 20; number++) {
        digest id = numbered(number);
        ASSERT_OK(chunk_registry_acquire(opened.registry, CENTO_KIND_CONTEXT, &id, &number, 1, NULL,
                                         &held[number - 15], NULL, &error));
    }
    digest id = numbered(99);
    const int32_t token = 99;
    ASSERT_FAILS(CENTO_POOL_FULL, "all 5 chunks",
                 chunk_registry_acquire(opened.registry, CENTO_KIND_CONTEXT, &id, &token, 1, NULL, &more,
                                        NULL, &error));
    for (int i = 0; i < 5; i++)
        chunk_registry_release(opened.registry, held[i]);
    fixture_close(opened);
}

/* ------------------------------------------------------------------ pins, expiry, limits ---- */

static void a_pinned_chunk_and_its_kv_stay(void **state) {
    (void)state;
    fixture opened = fixture_open(4, 2);
    digest one = numbered(1), two = numbered(2), none = numbered(3);
    add_ready(opened, CENTO_KIND_QUERY, 1, 32);
    add_ready(opened, CENTO_KIND_SYSTEM, 2, 32);
    ASSERT_OK(chunk_registry_pin(opened.registry, &one, &error));
    ASSERT_OK(chunk_registry_pin(opened.registry, &one, &error));
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    ASSERT_OK(chunk_registry_unpin(opened.registry, &one, &error)); /* pins count */
    ASSERT_FAILS(CENTO_POOL_FULL, "can be had", make_room(opened.registry, PAGE_CHUNK, 3, false, &error));
    ASSERT_OK(make_room(opened.registry, PAGE_CHUNK, 2, false, &error));
    assert_true(is_held(opened, 1) && !is_held(opened, 2));
    add_ready(opened, CENTO_KIND_CONTEXT, 5, 16); /* the table's second place goes from 2 to 5 */
    chunk_entry entry;
    ASSERT_FAILS(CENTO_NOT_FOUND, "there is no chunk",
                 chunk_registry_describe(opened.registry, &two, &entry, &error));
    assert_int_equal(chunk_registry_clear(opened.registry), 1);
    ASSERT_OK(chunk_registry_describe(opened.registry, &one, &entry, &error));
    assert_int_equal(entry.pins, 1);
    assert_int_equal(entry.kv_bytes, 2 * PAGE_BYTES);
    ASSERT_OK(chunk_registry_unpin(opened.registry, &one, &error));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "not pinned", chunk_registry_unpin(opened.registry, &one, &error));
    char hex[65];
    sha256_hex(none.bytes, hex);
    ASSERT_FAILS(CENTO_NOT_FOUND, hex, chunk_registry_pin(opened.registry, &none, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, hex, chunk_registry_unpin(opened.registry, &none, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, hex, chunk_registry_set_ttl(opened.registry, &none, 1, &error));
    ASSERT_FAILS(CENTO_NOT_FOUND, hex, chunk_registry_remove(opened.registry, &none, &error));
    ASSERT_OK(make_room(opened.registry, PAGE_CHUNK, 4, false, &error));
    assert_false(is_held(opened, 1));
    fixture_close(opened);
}

static void a_full_table_of_pinned_chunks_takes_no_more(void **state) {
    (void)state;
    fixture opened = fixture_open(8, 3);
    for (int32_t number = 0; number < 3; number++) {
        digest id = numbered(number);
        add_ready(opened, CENTO_KIND_CONTEXT, number, 16);
        ASSERT_OK(chunk_registry_pin(opened.registry, &id, &error));
    }
    digest id = numbered(3);
    const int32_t token = 3;
    context_chunk *chunk;
    ASSERT_FAILS(CENTO_POOL_FULL, "all 3 chunks",
                 chunk_registry_acquire(opened.registry, CENTO_KIND_CONTEXT, &id, &token, 1, NULL, &chunk,
                                        NULL, &error));
    fixture_close(opened);
}

static void a_large_table_is_emptied_in_batches_the_oldest_first(void **state) {
    (void)state;
    fixture opened = fixture_open(200, 64);
    for (int32_t number = 0; number < 64; number++)
        add_ready(opened, number % 2 == 0 ? CENTO_KIND_CONTEXT : CENTO_KIND_QUERY, number, 16);
    add_ready(opened, CENTO_KIND_CONTEXT, 64, 16); /* a sixteenth goes, and one */
    assert_int_equal(opened.registry->chunks.count, 60);
    for (int32_t number = 0; number < 64; number++)
        assert_int_equal(is_held(opened, number), number % 2 == 0 || number > 9);
    fixture_close(opened);
}

static void a_chunk_expires_when_its_time_has_come_unless_it_is_pinned(void **state) {
    (void)state;
    fixture opened = fixture_open(8, 10);
    digest ids[3];
    for (int32_t number = 0; number < 3; number++) {
        ids[number] = numbered(number);
        add_ready(opened, CENTO_KIND_CONTEXT, number, 16);
        ASSERT_OK(chunk_registry_set_ttl(opened.registry, &ids[number], 100, &error));
    }
    ASSERT_OK(chunk_registry_pin(opened.registry, &ids[1], &error));
    ASSERT_OK(chunk_registry_set_ttl(opened.registry, &ids[2], 0, &error)); /* never, after all */
    chunk_kv *used = chunk_registry_kv_find(opened.registry, &ids[0]);
    chunk_entry entry;
    ASSERT_OK(chunk_registry_describe(opened.registry, &ids[0], &entry, &error));
    assert_int_equal(entry.expires_ns, 1100);
    clock_ns = 1099;
    assert_true(is_held(opened, 0) && is_held(opened, 1) && is_held(opened, 2));
    clock_ns = 1100;
    assert_false(is_held(opened, 0));
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    assert_true(is_held(opened, 1) && is_held(opened, 2));
    assert_int_equal(used->tokens_ready, 16); /* lives until its last user is done */
    assert_int_equal(opened.pages->counts[PAGE_CHUNK], 3);
    chunk_registry_kv_release(opened.registry, used);
    assert_int_equal(opened.pages->counts[PAGE_CHUNK], 2);
    ASSERT_OK(chunk_registry_unpin(opened.registry, &ids[1], &error)); /* its time had come */
    assert_false(is_held(opened, 1));
    clock_ns = UINT64_MAX;
    assert_true(is_held(opened, 2));
    assert_int_equal(opened.registry->counted.expirations, 2);
    assert_int_equal(opened.registry->counted.evictions, 0);
    fixture_close(opened);
}

static void kv_that_nobody_uses_is_kept_up_to_a_limit_of_bytes(void **state) {
    (void)state;
    fixture opened = fixture_with(
        (page_manager_options){.page_count = 64, .chunk_page_ratio = 0.5, .borrow = true},
        (chunk_registry_options){.chunks_max = 100, .chunk_bytes_max = 6 * PAGE_BYTES + PAGE_BYTES / 2});
    add_ready(opened, CENTO_KIND_SYSTEM, 0, 32);
    digest pinned = numbered(0);
    ASSERT_OK(chunk_registry_pin(opened.registry, &pinned, &error));
    for (int32_t number = 1; number <= 10; number++)
        add_ready(opened, CENTO_KIND_CONTEXT, number, 32);
    for (int32_t number = 0; number <= 10; number++)
        assert_int_equal(is_held(opened, number), number == 0 || number > 7);
    assert_int_equal(opened.pages->counts[PAGE_CHUNK], 8);
    fixture_close(opened);
}

/* ------------------------------------------------------------------ the pool's two sides ---- */

static void sequences_leave_the_chunks_their_share(void **state) {
    (void)state;
    fixture opened = fixture_open(20, 10); /* 10 for each side */
    page_run *run;
    ASSERT_OK(chunk_registry_run_create(opened.registry, &run, &error));
    for (int32_t number = 0; number < 7; number++)
        add_ready(opened, CENTO_KIND_CONTEXT, number, 32); /* 14 pages: 4 are borrowed */
    assert_int_equal(chunk_registry_pages_available(opened.registry, PAGE_SEQUENCE), 10);
    assert_int_equal(chunk_registry_pages_available(opened.registry, PAGE_CHUNK), 20);
    ASSERT_OK(chunk_registry_run_grow(opened.registry, run, 10, &error)); /* 6 free, 4 given back */
    assert_int_equal(opened.pages->counts[PAGE_CHUNK], 10);
    assert_true(!is_held(opened, 0) && !is_held(opened, 1) && is_held(opened, 2));
    ASSERT_FAILS(CENTO_POOL_FULL, "1 KV pages of 16 tokens are needed, 0 can be had",
                 chunk_registry_run_grow(opened.registry, run, 1, &error));
    assert_int_equal(run->page_count, 10);
    assert_int_equal(opened.pages->counts[PAGE_CHUNK], 10);
    ASSERT_OK(chunk_registry_run_grow_alone(opened.registry, run, 3, &error));
    assert_int_equal(run->page_count, 13);
    assert_int_equal(opened.pages->counts[PAGE_CHUNK], 6);
    ASSERT_FAILS(CENTO_POOL_FULL, "can be had",
                 chunk_registry_run_grow_alone(opened.registry, run, 8, &error));
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    chunk_registry_run_release(opened.registry, run);
    assert_int_equal(opened.pages->counts[PAGE_SEQUENCE], 0);
    fixture_close(opened);
}

static void what_chunks_borrowed_and_use_is_not_taken_from_them(void **state) {
    (void)state;
    fixture opened = fixture_open(20, 10);
    page_run *run;
    ASSERT_OK(chunk_registry_run_create(opened.registry, &run, &error));
    digest ids[3];
    chunk_kv *used[3];
    for (int32_t number = 0; number < 3; number++) {
        ids[number] = numbered(number);
        add_ready(opened, CENTO_KIND_CONTEXT, number, 80);
        used[number] = chunk_registry_kv_find(opened.registry, &ids[number]);
    }
    assert_int_equal(chunk_registry_pages_available(opened.registry, PAGE_SEQUENCE), 5);
    ASSERT_OK(chunk_registry_run_grow(opened.registry, run, 5, &error));
    ASSERT_FAILS(CENTO_POOL_FULL, "0 can be had", chunk_registry_run_grow(opened.registry, run, 1, &error));
    chunk_registry_kv_release(opened.registry, used[0]);
    ASSERT_OK(chunk_registry_run_grow(opened.registry, run, 1, &error));
    assert_false(is_held(opened, 0));
    chunk_registry_kv_release(opened.registry, used[1]);
    chunk_registry_kv_release(opened.registry, used[2]);
    chunk_registry_run_release(opened.registry, run);
    fixture_close(opened);
}

static void fixed_shares_are_never_exceeded(void **state) {
    (void)state;
    fixture opened = fixture_with((page_manager_options){.page_count = 20, .chunk_page_ratio = 0.3},
                                  (chunk_registry_options){.chunks_max = 100});
    page_run *run;
    ASSERT_OK(chunk_registry_run_create(opened.registry, &run, &error));
    for (int32_t number = 0; number < 6; number++)
        add_ready(opened, CENTO_KIND_CONTEXT, number, 32); /* 6 pages: three of them fit */
    assert_int_equal(opened.pages->counts[PAGE_CHUNK], 6);
    assert_true(!is_held(opened, 2) && is_held(opened, 3));
    ASSERT_OK(chunk_registry_run_grow(opened.registry, run, 14, &error));
    ASSERT_FAILS(CENTO_POOL_FULL, "shares are fixed",
                 chunk_registry_run_grow(opened.registry, run, 1, &error));
    ASSERT_FAILS(CENTO_POOL_FULL, "shares are fixed",
                 chunk_registry_run_grow_alone(opened.registry, run, 1, &error));
    assert_int_equal(opened.pages->counts[PAGE_CHUNK], 6);
    /* a run that becomes a chunk's takes the place of what nobody uses; 14 pages never fit */
    digest id = numbered(50);
    ASSERT_FAILS(CENTO_POOL_FULL, "14 KV pages",
                 chunk_registry_kv_adopt(opened.registry, &id, NULL, CENTO_KIND_OUTPUT, run, 14 * 16, 14 * 16,
                                         0, &error));
    assert_true(is_held(opened, 3));
    page_manager_shrink(opened.pages, run, 5);
    ASSERT_OK(chunk_registry_kv_adopt(opened.registry, &id, NULL, CENTO_KIND_OUTPUT, run, 80, 80, 0, &error));
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    assert_true(is_held(opened, 50) && !is_held(opened, 5));
    assert_int_equal(opened.pages->counts[PAGE_SEQUENCE], 0);
    ASSERT_OK(chunk_registry_run_create(opened.registry, &run, &error));
    ASSERT_FAILS(
        CENTO_INVALID_ARGUMENT, "there already",
        chunk_registry_kv_adopt(opened.registry, &id, NULL, CENTO_KIND_OUTPUT, run, 0, 0, 0, &error));
    chunk_registry_run_release(opened.registry, run);
    fixture_close(opened);
}

/* ------------------------------------------------------------------ what is known ---- */

static void a_list_says_what_is_known_most_recently_used_first(void **state) {
    (void)state;
    fixture opened = fixture_open(40, 10);
    for (int32_t number = 0; number < 4; number++)
        add_ready(opened, CENTO_KIND_CONTEXT, number, 20);
    const int32_t token = 1;
    digest id = numbered(1);
    clock_ns = 5000;
    context_chunk *chunk = chunk_registry_get_by_content(opened.registry, tokenizer_a, &token, 1);
    assert_non_null(chunk);
    assert_null(chunk_registry_get_by_content(opened.registry, tokenizer_b, &token, 1));
    chunk_registry_touch(opened.registry, chunk);
    chunk_entry *entries;
    size_t count;
    ASSERT_OK(chunk_registry_list(opened.registry, &entries, &count, &error));
    assert_int_equal(count, 4);
    static const int32_t order[] = {1, 3, 2, 0};
    for (size_t i = 0; i < 4; i++) {
        digest expected = numbered(order[i]);
        assert_true(digest_equal(&entries[i].content_id, &expected));
        assert_int_equal(entries[i].kv_bytes, 2 * PAGE_BYTES);
        assert_int_equal(entries[i].kv_states, 1);
        assert_int_equal(entries[i].uses, i == 0);
        assert_int_equal(entries[i].users, i == 0);
        assert_int_equal(entries[i].created_ns, 1000);
        assert_int_equal(entries[i].last_use_ns, i == 0 ? 5000 : 1000);
    }
    mem_free(entries);
    ASSERT_OK(chunk_registry_pin(opened.registry, &id, &error));
    chunk_registry_stats stats;
    chunk_registry_read_stats(opened.registry, &stats);
    assert_int_equal(stats.chunks, 4);
    assert_int_equal(stats.chunks_pinned, 1);
    assert_int_equal(stats.kv_states, 4);
    assert_int_equal(stats.chunk_misses, 4);
    assert_int_equal(stats.kv_bytes_by_kind[CENTO_KIND_CONTEXT], 8 * PAGE_BYTES);
    assert_int_equal(stats.kv_bytes_by_kind[CENTO_KIND_SYSTEM], 0);
    assert_int_equal(stats.pages_chunk_unused, 8);
    chunk_kv *kv = chunk_registry_kv_find(opened.registry, &id);
    chunk_registry_read_stats(opened.registry, &stats);
    assert_int_equal(stats.pages_chunk_used, 2);
    assert_int_equal(stats.pages_chunk_unused, 6);
    chunk_registry_kv_release(opened.registry, kv);
    chunk_registry_release(opened.registry, chunk);
    fixture_close(opened);
}

static void a_kind_that_is_kept_longer_keeps_the_kv_longer_too(void **state) {
    (void)state;
    fixture opened = fixture_open(4, 10);
    add_ready(opened, CENTO_KIND_QUERY, 1, 32);
    add_ready(opened, CENTO_KIND_CONTEXT, 2, 32);
    digest id = numbered(1);
    const int32_t token = 1;
    context_chunk *chunk;
    ASSERT_OK(chunk_registry_acquire(opened.registry, CENTO_KIND_SYSTEM, &id, &token, 1, NULL, &chunk, NULL,
                                     &error));
    chunk_registry_release(opened.registry, chunk);
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    ASSERT_OK(make_room(opened.registry, PAGE_CHUNK, 2, false, &error));
    assert_true(is_held(opened, 1) && !is_held(opened, 2));
    fixture_close(opened);
}

static void managing_kv_costs_less_than_two_percent_of_it(void **state) {
    (void)state;
    /* Llama 3.2 1B in bf16: 16 layers, 8 KV heads of 64, K and V; pages of 32 tokens; 60 prompts of four
     * chunks of 512 tokens each behind a system prompt, in the prefix tree, and the chunks computed apart as
     * well */
    enum { PAGE_TOKENS = 32, CHUNK_TOKENS = 512, PROMPTS = 60, PER_PROMPT = 4, CHUNKS = 40 };
    const page_manager_options page_options = {
        .page_count = 8000, .page_tokens = PAGE_TOKENS, .chunk_page_ratio = 0.5, .borrow = true};
    const chunk_registry_options options = {.chunks_max = CHUNK_REGISTRY_SIZE,
                                            .page_bytes = 16 * 8 * 64 * 2 * 2 * PAGE_TOKENS};
    fixture opened;
    prefix_tree *tree;
    ASSERT_OK(page_manager_create(&page_options, &opened.pages, &error));
    ASSERT_OK(chunk_registry_create(opened.pages, &options, &opened.registry, &error));
    ASSERT_OK(prefix_tree_create(opened.registry, &tree, &error));
    context_chunk *chunks[CHUNKS];
    static int32_t tokens[CHUNKS][CHUNK_TOKENS];
    for (int32_t number = 0; number < CHUNKS; number++) {
        digest id = numbered(number);
        chunk_kv *kv;
        for (int32_t i = 0; i < CHUNK_TOKENS; i++)
            tokens[number][i] = number * CHUNK_TOKENS + i;
        ASSERT_OK(chunk_registry_acquire(opened.registry, CENTO_KIND_CONTEXT, &id, tokens[number],
                                         CHUNK_TOKENS, NULL, &chunks[number], NULL, &error));
        ASSERT_OK(chunk_registry_kv_create(opened.registry, &id, chunks[number], CENTO_KIND_CONTEXT,
                                           CHUNK_TOKENS, 0, &kv, &error));
        kv->tokens_scheduled = CHUNK_TOKENS;
        chunk_registry_kv_computed(opened.registry, kv, true);
        chunk_registry_kv_release(opened.registry, kv);
    }
    const digest scope_id = {{1}};
    for (int prompt = 0; prompt < PROMPTS; prompt++) {
        int32_t prompt_tokens[PER_PROMPT * CHUNK_TOKENS];
        prefix_cut cuts[PER_PROMPT];
        for (uint32_t i = 0; i < PER_PROMPT; i++) {
            uint32_t number = i == 0 ? 0 : random_below(CHUNKS);
            memcpy(prompt_tokens + i * CHUNK_TOKENS, tokens[number], sizeof tokens[number]);
            cuts[i] = (prefix_cut){(i + 1) * CHUNK_TOKENS, chunks[number], CENTO_KIND_CONTEXT};
        }
        prefix_claim claim;
        ASSERT_OK(prefix_tree_claim(tree, &scope_id, prompt_tokens, PER_PROMPT * CHUNK_TOKENS,
                                    PER_PROMPT * CHUNK_TOKENS, cuts, PER_PROMPT, &claim, &error));
        for (prefix_node *node = claim.leaf; node != NULL; node = node->parent) {
            node->kv.tokens_scheduled = node->kv.tokens;
            chunk_registry_kv_computed(opened.registry, &node->kv, true);
        }
        prefix_tree_release(tree, claim.leaf);
    }
    ASSERT_OK(prefix_tree_check(tree, &error));
    chunk_registry_stats stats;
    chunk_registry_read_stats(opened.registry, &stats);
    uint64_t kv_bytes = opened.pages->counts[PAGE_CHUNK] * options.page_bytes;
    assert_true(kv_bytes > 2000 * options.page_bytes && stats.metadata_bytes > 100000);
    assert_true(stats.metadata_bytes * 50 < kv_bytes);
    for (int number = 0; number < CHUNKS; number++)
        chunk_registry_release(opened.registry, chunks[number]);
    prefix_tree_free(tree);
    fixture_close(opened);
}

static void a_failed_allocation_leaves_the_registry_whole(void **state) {
    (void)state;
    for (int64_t countdown = 0;; countdown++) {
        fixture opened = fixture_open(8, 10);
        digest id = numbered(1);
        const int32_t token = 1;
        context_chunk *chunk = NULL;
        chunk_kv *kv = NULL;
        mem_fail_after(countdown);
        cento_status status = chunk_registry_acquire(opened.registry, CENTO_KIND_CONTEXT, &id, &token, 1,
                                                     "label", &chunk, NULL, &error);
        if (status == CENTO_OK)
            status =
                chunk_registry_kv_create(opened.registry, &id, chunk, CENTO_KIND_CONTEXT, 40, 0, &kv, &error);
        mem_fail_after(-1);
        ASSERT_OK(chunk_registry_check(opened.registry, &error));
        chunk_registry_kv_release(opened.registry, kv);
        chunk_registry_release(opened.registry, chunk);
        fixture_close(opened);
        if (status == CENTO_OK)
            break;
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_content_id_is_the_documented_hash),
        cmocka_unit_test(an_id_changes_with_everything_it_depends_on),
        cmocka_unit_test(known_content_is_one_chunk_whatever_its_kind),
        cmocka_unit_test(a_long_label_is_cut_between_characters),
        cmocka_unit_test(hits_and_misses_are_counted),
        cmocka_unit_test(the_least_recently_used_goes_first_within_a_priority),
        cmocka_unit_test(what_is_in_use_is_never_evicted_and_a_refusal_loses_nothing),
        cmocka_unit_test(what_is_removed_while_in_use_lives_until_its_last_user_is_done),
        cmocka_unit_test(kv_of_which_nothing_was_computed_is_not_kept),
        cmocka_unit_test(the_table_holds_no_more_chunks_than_its_limit),
        cmocka_unit_test(a_pinned_chunk_and_its_kv_stay),
        cmocka_unit_test(a_full_table_of_pinned_chunks_takes_no_more),
        cmocka_unit_test(a_large_table_is_emptied_in_batches_the_oldest_first),
        cmocka_unit_test(a_chunk_expires_when_its_time_has_come_unless_it_is_pinned),
        cmocka_unit_test(kv_that_nobody_uses_is_kept_up_to_a_limit_of_bytes),
        cmocka_unit_test(sequences_leave_the_chunks_their_share),
        cmocka_unit_test(what_chunks_borrowed_and_use_is_not_taken_from_them),
        cmocka_unit_test(fixed_shares_are_never_exceeded),
        cmocka_unit_test(a_list_says_what_is_known_most_recently_used_first),
        cmocka_unit_test(a_kind_that_is_kept_longer_keeps_the_kv_longer_too),
        cmocka_unit_test(managing_kv_costs_less_than_two_percent_of_it),
        cmocka_unit_test(a_failed_allocation_leaves_the_registry_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
