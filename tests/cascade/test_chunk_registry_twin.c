/*
 * The registry against a naive twin: a list of everything, with the use order as plain numbers. After each
 * random operation both must know the same, and what was evicted must have been the first of all that might
 * have gone.
 */
#include "registry_fixture.h"

enum { TWIN_CHUNKS = 40, TWIN_HOLDERS = 6, TWIN_TABLE = 16, TWIN_PAGES = 48 };

/* A chunk and its one KV, as a list of everything would have them. */
typedef struct twin_chunk {
    bool registered, has_kv;
    cento_kind kind;
    uint32_t pins, chunk_refs, kv_refs, pages;
    uint64_t expires_ns, last_use, kv_last_use, uses;
} twin_chunk;

typedef struct twin_holder {
    int32_t number; /* of the chunk that it uses; -1: none */
    bool current;   /* not removed since */
    context_chunk *chunk;
    chunk_kv *kv;
} twin_holder;

typedef struct registry_twin {
    twin_chunk chunks[TWIN_CHUNKS];
    twin_holder holders[TWIN_HOLDERS];
    uint64_t tick;
    uint32_t evicted_kvs, evicted_chunks, expired;
} registry_twin;

/* larger goes later; as the registry promises */
static uint64_t eviction_rank(cento_kind kind, uint64_t last_use) {
    uint64_t priority = kind == CENTO_KIND_SYSTEM || kind == CENTO_KIND_TOOL ? 2 : kind == CENTO_KIND_CONTEXT;
    return priority * 1000000000 + last_use;
}

static void twin_forget(registry_twin *twin, int32_t number) {
    for (twin_holder *holder = twin->holders; holder < twin->holders + TWIN_HOLDERS; holder++)
        holder->current = holder->current && holder->number != number;
    twin->chunks[number] = (twin_chunk){0};
}

/* What is gone must have been allowed to go, and must have been before all that could have gone instead. */
static void twin_compare(fixture opened, registry_twin *twin, bool kvs_may_go, bool chunks_may_go) {
    uint64_t last_kv_gone = 0, last_chunk_gone = 0;
    ASSERT_OK(chunk_registry_check(opened.registry, &error));
    for (int32_t number = 0; number < TWIN_CHUNKS; number++) {
        twin_chunk *chunk = &twin->chunks[number];
        digest id = numbered(number);
        chunk_entry entry;
        bool known = chunk_registry_describe(opened.registry, &id, &entry, &error) == CENTO_OK;
        if (chunk->registered && chunk->pins == 0 && chunk->expires_ns > 0 && chunk->expires_ns <= clock_ns) {
            assert_false(known);
            twin->expired++;
            twin_forget(twin, number);
        }
        if (chunk->registered && !known) {
            assert_true(chunks_may_go && chunk->pins == 0 && chunk->chunk_refs == 0 && chunk->kv_refs == 0);
            uint64_t rank = eviction_rank(chunk->kind, chunk->last_use);
            last_chunk_gone = rank > last_chunk_gone ? rank : last_chunk_gone;
            twin->evicted_chunks++;
            twin_forget(twin, number);
        }
        assert_int_equal(known, chunk->registered);
        if (!known)
            continue;
        assert_int_equal(entry.pins, chunk->pins);
        assert_int_equal(entry.users, chunk->chunk_refs);
        assert_int_equal(entry.kind, chunk->kind);
        assert_int_equal(entry.uses, chunk->uses);
        assert_int_equal(entry.expires_ns, chunk->expires_ns);
        bool held = is_held(opened, number);
        assert_true(chunk->has_kv || !held);
        if (chunk->has_kv && !held) {
            assert_true(kvs_may_go && chunk->pins == 0 && chunk->kv_refs == 0);
            uint64_t rank = eviction_rank(chunk->kind, chunk->kv_last_use);
            last_kv_gone = rank > last_kv_gone ? rank : last_kv_gone;
            chunk->has_kv = false;
            twin->evicted_kvs++;
        }
        assert_int_equal(entry.kv_bytes, chunk->has_kv ? chunk->pages * PAGE_BYTES : 0);
    }
    for (const twin_chunk *chunk = twin->chunks; chunk < twin->chunks + TWIN_CHUNKS; chunk++) {
        bool in_use = chunk->pins > 0 || chunk->kv_refs > 0;
        if (chunk->has_kv && !in_use)
            assert_true(eviction_rank(chunk->kind, chunk->kv_last_use) > last_kv_gone);
        if (chunk->registered && !in_use && chunk->chunk_refs == 0)
            assert_true(eviction_rank(chunk->kind, chunk->last_use) > last_chunk_gone);
    }
}

static void twin_drop(fixture opened, registry_twin *twin, twin_holder *holder) {
    twin_chunk *chunk = &twin->chunks[holder->number];
    if (holder->current) {
        chunk->chunk_refs--;
        if (holder->kv != NULL) {
            chunk->kv_refs--;
            chunk->kv_last_use = ++twin->tick;
        }
    }
    chunk_registry_kv_release(opened.registry, holder->kv);
    chunk_registry_release(opened.registry, holder->chunk);
    *holder = (twin_holder){.number = -1};
}

static void random_use_agrees_with_a_naive_twin(bool borrow) {
    fixture opened = fixture_with(
        (page_manager_options){.page_count = TWIN_PAGES, .chunk_page_ratio = 0.6, .borrow = borrow},
        (chunk_registry_options){.chunks_max = TWIN_TABLE});
    registry_twin *twin = calloc(1, sizeof *twin);
    for (int i = 0; i < TWIN_HOLDERS; i++)
        twin->holders[i].number = -1;
    page_run *run;
    ASSERT_OK(chunk_registry_run_create(opened.registry, &run, &error));
    for (int step = 0; step < 15000; step++) {
        int32_t number = (int32_t)random_below(TWIN_CHUNKS);
        twin_holder *holder = &twin->holders[random_below(TWIN_HOLDERS)];
        twin_chunk *chunk = &twin->chunks[number];
        digest id = numbered(number);
        bool kvs_may_go = false, chunks_may_go = false;
        clock_ns++;
        chunk_registry_expire(opened.registry);
        twin_compare(opened, twin, false, false);
        switch (random_below(12)) {
        case 0:
            assert_int_equal(chunk_registry_remove(opened.registry, &id, &error),
                             chunk->registered ? CENTO_OK : CENTO_NOT_FOUND);
            twin_forget(twin, number);
            break;
        case 1:
            assert_int_equal(chunk_registry_pin(opened.registry, &id, &error),
                             chunk->registered ? CENTO_OK : CENTO_NOT_FOUND);
            chunk->pins += chunk->registered;
            break;
        case 2:
        case 3:
            assert_int_equal(chunk_registry_unpin(opened.registry, &id, &error),
                             !chunk->registered ? CENTO_NOT_FOUND
                             : chunk->pins == 0 ? CENTO_INVALID_ARGUMENT
                                                : CENTO_OK);
            chunk->pins -= chunk->pins > 0;
            break;
        case 4: {
            uint64_t ttl_ns = random_below(60);
            if (chunk_registry_set_ttl(opened.registry, &id, ttl_ns, &error) == CENTO_OK)
                chunk->expires_ns = ttl_ns == 0 ? 0 : clock_ns + ttl_ns;
            break;
        }
        case 5: { /* a sequence comes and goes */
            uint32_t page_count = random_below(TWIN_PAGES / 2);
            uint32_t available = chunk_registry_pages_available(opened.registry, PAGE_SEQUENCE);
            cento_status status = chunk_registry_run_grow(opened.registry, run, page_count, &error);
            assert_int_equal(status, page_count <= available ? CENTO_OK : CENTO_POOL_FULL);
            kvs_may_go = status == CENTO_OK;
            break;
        }
        case 6:
            chunk_registry_run_release(opened.registry, run);
            ASSERT_OK(chunk_registry_run_create(opened.registry, &run, &error));
            break;
        case 7:
            if (random_below(40) == 0) {
                chunk_registry_clear(opened.registry);
                kvs_may_go = chunks_may_go = true;
            }
            break;
        default:
            if (holder->number >= 0) {
                twin_drop(opened, twin, holder);
                break;
            }
            cento_kind kind = (cento_kind)(number % CHUNK_KINDS);
            bool known;
            if (chunk_registry_acquire(opened.registry, kind, &id, &number, 1, NULL, &holder->chunk, &known,
                                       &error) != CENTO_OK)
                break;
            assert_int_equal(known, chunk->registered);
            if (!known)
                *chunk = (twin_chunk){.registered = true, .kind = kind, .last_use = ++twin->tick};
            chunk->chunk_refs++;
            *holder = (twin_holder){.number = number, .current = true, .chunk = holder->chunk};
            twin_compare(opened, twin, false, !known);
            chunk_registry_touch(opened.registry, holder->chunk);
            chunk->last_use = ++twin->tick;
            chunk->uses++;
            uint32_t available = chunk_registry_pages_available(opened.registry, PAGE_CHUNK);
            uint32_t pages = 1 + random_below(7);
            holder->kv = chunk_registry_kv_find(opened.registry, &id);
            assert_int_equal(holder->kv != NULL, chunk->has_kv);
            if (holder->kv == NULL) {
                cento_status status = chunk_registry_kv_create(opened.registry, &id, holder->chunk, kind,
                                                               pages * 16 - 3, 0, &holder->kv, &error);
                assert_int_equal(status, pages <= available ? CENTO_OK : CENTO_POOL_FULL);
                if (status != CENTO_OK)
                    break;
                kvs_may_go = true;
                holder->kv->tokens_scheduled = 1 + random_below(pages * 16 - 3);
                chunk_registry_kv_computed(opened.registry, holder->kv, true);
                chunk->has_kv = true;
                chunk->pages = pages;
            }
            chunk->kv_refs++;
            break;
        }
        twin_compare(opened, twin, kvs_may_go, chunks_may_go);
    }
    assert_true(twin->evicted_kvs > 100 && twin->evicted_chunks > 100 && twin->expired > 100);
    for (twin_holder *holder = twin->holders; holder < twin->holders + TWIN_HOLDERS; holder++) {
        if (holder->number >= 0)
            twin_drop(opened, twin, holder);
    }
    chunk_registry_run_release(opened.registry, run);
    free(twin);
    fixture_close(opened);
}

static void random_use_agrees_with_a_naive_twin_with_borrowing(void **state) {
    (void)state;
    random_use_agrees_with_a_naive_twin(true);
}

static void random_use_agrees_with_a_naive_twin_with_fixed_shares(void **state) {
    (void)state;
    random_use_agrees_with_a_naive_twin(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_use_agrees_with_a_naive_twin_with_borrowing),
        cmocka_unit_test(random_use_agrees_with_a_naive_twin_with_fixed_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
