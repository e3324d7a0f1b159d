/* Promises of chunk identity and of the registry: what is kept, what goes first, what is never taken. */
#include "support.h"

#include <string.h>

#include "base/mem.h"
#include "cascade/chunk_registry_internal.h"

static cento_error error;
static const uint8_t tokenizer_a[SHA256_BYTES] = {1}, tokenizer_b[SHA256_BYTES] = {2};
static const uint8_t model_a[SHA256_BYTES] = {3}, model_b[SHA256_BYTES] = {4};

typedef struct fixture {
    page_manager *pages;
    chunk_registry *registry;
} fixture;

static fixture fixture_open(uint32_t page_count, uint32_t chunks_max) {
    fixture opened;
    const page_manager_options page_options = {
        .page_count = page_count, .page_tokens = 16, .chunk_page_ratio = 0.5, .borrow = true};
    const chunk_registry_options options = {.chunks_max = chunks_max, .page_bytes = 1024};
    ASSERT_OK(page_manager_create(&page_options, &opened.pages, &error));
    ASSERT_OK(chunk_registry_create(opened.pages, &options, &opened.registry, &error));
    return opened;
}

static void fixture_close(fixture opened) {
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    chunk_registry_free(opened.registry);
    assert_int_equal(opened.pages->counts[PAGE_FREE], opened.pages->page_count);
    page_manager_free(opened.pages);
}

static digest numbered(int32_t number) {
    digest id;
    ASSERT_OK(content_id_of(tokenizer_a, &number, 1, &id, &error));
    return id;
}

/* A chunk with KV of so many tokens, all computed, not in use. */
static chunk_kv *add_ready(fixture opened, cento_kind kind, int32_t number, uint32_t tokens) {
    digest id = numbered(number);
    context_chunk *chunk;
    chunk_kv *kv;
    ASSERT_OK(chunk_registry_acquire(opened.registry, kind, &id, &number, 1, NULL, &chunk, NULL, &error));
    ASSERT_OK(chunk_registry_kv_create(opened.registry, &id, chunk, kind, tokens, 0, &kv, &error));
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    kv->tokens_scheduled = tokens;
    chunk_registry_kv_computed(opened.registry, kv, true);
    chunk_registry_kv_release(opened.registry, kv);
    chunk_registry_release(opened.registry, chunk);
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    return kv;
}

static bool is_held(fixture opened, int32_t number) {
    uint32_t ready;
    digest id = numbered(number);
    return chunk_registry_kv_peek(opened.registry, &id, &ready);
}

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

static void random_use_keeps_every_invariant(void **state) {
    (void)state;
    enum { NUMBERS = 40, HOLDERS = 6 };
    fixture opened = fixture_open(40, 16);
    chunk_kv *kvs[HOLDERS] = {NULL};
    context_chunk *chunks[HOLDERS] = {NULL};
    uint64_t random_state = 1;
    for (int step = 0; step < 20000; step++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        uint32_t draw = (uint32_t)(random_state >> 33);
        int32_t number = (int32_t)(draw % NUMBERS);
        uint32_t holder = draw / NUMBERS % HOLDERS;
        digest id = numbered(number);
        if (draw / 4096 % 16 == 0) {
            (void)chunk_registry_remove(opened.registry, &id, &error);
        } else if (chunks[holder] != NULL) {
            chunk_registry_kv_release(opened.registry, kvs[holder]);
            chunk_registry_release(opened.registry, chunks[holder]);
            kvs[holder] = NULL;
            chunks[holder] = NULL;
        } else {
            cento_kind kind = (cento_kind)(number % 5);
            ASSERT_OK(chunk_registry_acquire(opened.registry, kind, &id, &number, 1, NULL, &chunks[holder],
                                             NULL, &error));
            chunk_registry_touch(opened.registry, chunks[holder]);
            kvs[holder] = chunk_registry_kv_find(opened.registry, &id);
            if (kvs[holder] == NULL) {
                uint32_t tokens = 1 + draw / 65536 % 96;
                ASSERT_OK(chunk_registry_kv_create(opened.registry, &id, chunks[holder], kind, tokens, 0,
                                                   &kvs[holder], &error));
                kvs[holder]->tokens_scheduled = draw % 3 == 0 ? 0 : tokens;
                chunk_registry_kv_computed(opened.registry, kvs[holder], true);
            }
        }
        ASSERT_OK(chunk_registry_check(opened.registry, &error));
    }
    for (int holder = 0; holder < HOLDERS; holder++) {
        chunk_registry_kv_release(opened.registry, kvs[holder]);
        chunk_registry_release(opened.registry, chunks[holder]);
    }
    assert_true(opened.registry->counted.evictions > 100 && opened.registry->counted.kv_hits > 100);
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
        cmocka_unit_test(random_use_keeps_every_invariant),
        cmocka_unit_test(a_failed_allocation_leaves_the_registry_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
