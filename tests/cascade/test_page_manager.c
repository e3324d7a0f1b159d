/*
 * Promises of the page manager. The randomized test compares it with a naive twin (an array of owners),
 * and page_manager_check runs after every operation.
 */
#include "support.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cascade/page_manager.h"
#include "random.h"

static cento_error error;

/* A pool whose sides may take whatever is free. */
static cento_status create(uint32_t page_count, uint32_t page_tokens, page_manager **manager) {
    const page_manager_options options = {
        .page_count = page_count, .page_tokens = page_tokens, .chunk_page_ratio = 0.5, .borrow = true};
    return page_manager_create(&options, manager, &error);
}

static void pages_are_handed_out_once_and_come_back(void **state) {
    (void)state;
    page_manager *manager;
    ASSERT_OK(create(100, 32, &manager));
    page_run *a, *b;
    ASSERT_OK(page_manager_acquire(manager, PAGE_CHUNK, 60, &a, &error));
    ASSERT_OK(page_manager_acquire(manager, PAGE_SEQUENCE, 40, &b, &error));
    ASSERT_OK(page_manager_check(manager, &error));
    assert_int_equal(manager->counts[PAGE_FREE], 0);
    assert_int_equal(manager->counts[PAGE_CHUNK], 60);
    bool seen[100] = {false};
    for (uint32_t i = 0; i < 60; i++)
        seen[a->pages[i]] = true;
    for (uint32_t i = 0; i < 40; i++) {
        assert_false(seen[b->pages[i]]);
        seen[b->pages[i]] = true;
    }
    page_run *none = NULL;
    ASSERT_FAILS(CENTO_POOL_FULL, "1 pages of 32 tokens wanted, 0 of 100 are free and 0 may be taken",
                 page_manager_acquire(manager, PAGE_CHUNK, 1, &none, &error));
    assert_null(none);
    ASSERT_OK(page_manager_check(manager, &error));
    page_manager_release(manager, a);
    ASSERT_OK(page_manager_check(manager, &error));
    assert_int_equal(manager->counts[PAGE_FREE], 60);
    page_manager_set_owner(manager, b, PAGE_CHUNK);
    ASSERT_OK(page_manager_check(manager, &error));
    assert_int_equal(manager->counts[PAGE_CHUNK], 40);
    page_manager_release(manager, b);
    page_manager_free(manager);
}

static void each_side_has_its_share_and_borrows_only_if_told_so(void **state) {
    (void)state;
    static const struct {
        uint32_t page_count;
        double ratio;
        uint32_t chunk_share;
    } shares[] = {{100, 0.5, 50}, {100, 0.255, 26}, {3, 0.5, 2}, {2, 0.001, 1}, {10, 0.999, 9}};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        for (int borrow = 0; borrow < 2; borrow++) {
            const page_manager_options options = {.page_count = shares[i].page_count,
                                                  .page_tokens = 16,
                                                  .chunk_page_ratio = shares[i].ratio,
                                                  .borrow = borrow};
            page_manager *manager;
            page_run *run, *rest, *none = NULL;
            uint32_t share = shares[i].chunk_share, others = shares[i].page_count - share;
            ASSERT_OK(page_manager_create(&options, &manager, &error));
            assert_int_equal(manager->shares[PAGE_CHUNK], share);
            assert_int_equal(manager->shares[PAGE_SEQUENCE], others);
            ASSERT_OK(page_manager_acquire(manager, PAGE_CHUNK, share, &run, &error));
            assert_int_equal(page_manager_available(manager, PAGE_CHUNK), borrow ? others : 0);
            assert_int_equal(page_manager_available(manager, PAGE_SEQUENCE), others);
            assert_int_equal(page_manager_excess(manager, PAGE_CHUNK), 0);
            if (borrow) {
                ASSERT_OK(page_manager_extend(manager, run, 1, &error));
                assert_int_equal(page_manager_excess(manager, PAGE_CHUNK), 1);
                page_manager_shrink(manager, run, share);
            } else {
                ASSERT_FAILS(CENTO_POOL_FULL, "0 may be taken", page_manager_extend(manager, run, 1, &error));
                assert_int_equal(run->page_count, share);
            }
            ASSERT_OK(page_manager_acquire(manager, PAGE_SEQUENCE, others, &rest, &error));
            ASSERT_FAILS(CENTO_POOL_FULL, "1 pages",
                         page_manager_acquire(manager, PAGE_SEQUENCE, 1, &none, &error));
            page_manager_set_owner(manager, rest, PAGE_CHUNK); /* beyond the share */
            assert_int_equal(page_manager_excess(manager, PAGE_CHUNK), others);
            assert_int_equal(page_manager_available(manager, PAGE_CHUNK), 0);
            ASSERT_OK(page_manager_check(manager, &error));
            page_manager_release(manager, run);
            page_manager_release(manager, rest);
            page_manager_free(manager);
        }
    }
}

static void a_run_cut_in_two_keeps_every_page_in_its_place(void **state) {
    (void)state;
    page_manager *manager;
    page_run *run, *head;
    uint32_t pages[12];
    ASSERT_OK(create(20, 16, &manager));
    ASSERT_OK(page_manager_acquire(manager, PAGE_CHUNK, 12, &run, &error));
    memcpy(pages, run->pages, sizeof pages);
    ASSERT_OK(page_manager_split(manager, run, 5, &head, &error));
    ASSERT_OK(page_manager_check(manager, &error));
    assert_int_equal(head->page_count, 5);
    assert_int_equal(run->page_count, 7);
    assert_memory_equal(head->pages, pages, 5 * sizeof *pages);
    assert_memory_equal(run->pages, pages + 5, 7 * sizeof *pages);
    assert_int_equal(manager->counts[PAGE_CHUNK], 12);
    page_manager_drop_head(manager, run, 2);
    ASSERT_OK(page_manager_check(manager, &error));
    assert_memory_equal(run->pages, pages + 7, 5 * sizeof *pages);
    assert_int_equal(manager->counts[PAGE_FREE], 10);
    page_manager_release(manager, head);
    page_manager_release(manager, run);
    assert_int_equal(manager->counts[PAGE_FREE], 20);
    page_manager_free(manager);
}

static void a_run_is_contiguous_where_a_gap_fits_and_takes_the_smallest_one(void **state) {
    (void)state;
    page_manager *manager;
    ASSERT_OK(create(200, 32, &manager));
    page_run *runs[5];
    static const uint32_t sizes[5] = {20, 5, 10, 8, 30};
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(page_manager_acquire(manager, PAGE_CHUNK, sizes[i], &runs[i], &error));
        assert_int_equal(page_run_stretches(runs[i]), 1);
    }
    uint32_t gap_of_eight = runs[3]->pages[0];
    page_manager_release(manager, runs[1]);
    page_manager_release(manager, runs[3]);
    page_run *fits;
    ASSERT_OK(page_manager_acquire(manager, PAGE_CHUNK, 7, &fits, &error));
    assert_int_equal(fits->pages[0], gap_of_eight);
    assert_int_equal(page_run_stretches(fits), 1);
    /* grows in place while the next page is free, then elsewhere */
    ASSERT_OK(page_manager_extend(manager, fits, 1, &error));
    assert_int_equal(page_run_stretches(fits), 1);
    ASSERT_OK(page_manager_extend(manager, fits, 1, &error));
    assert_int_equal(page_run_stretches(fits), 2);
    ASSERT_OK(page_manager_check(manager, &error));
    /* where no gap fits, few stretches: the largest gaps first */
    page_run *rest;
    ASSERT_OK(page_manager_acquire(manager, PAGE_SEQUENCE, manager->counts[PAGE_FREE], &rest, &error));
    assert_true(page_run_stretches(rest) <= 3);
    assert_int_equal(page_run_slot(manager, rest, 33), rest->pages[1] * 32 + 1);
    ASSERT_OK(page_manager_check(manager, &error));
    page_manager_release(manager, runs[0]);
    page_manager_release(manager, runs[2]);
    page_manager_release(manager, runs[4]);
    page_manager_release(manager, fits);
    page_manager_release(manager, rest);
    page_manager_free(manager);
}

#define TWIN_PAGES 150
#define TWIN_RUNS  24

typedef struct twin_run {
    page_run *run; /* NULL: unused entry */
    page_state owner;
    uint32_t page_count;
    uint32_t pages[TWIN_PAGES]; /* as seen when they were handed out */
} twin_run;

static void assert_twins_agree(const page_manager *manager, const twin_run *twins) {
    uint32_t counts[PAGE_STATES] = {TWIN_PAGES, 0, 0};
    bool used[TWIN_PAGES] = {false};
    ASSERT_OK(page_manager_check(manager, &error));
    for (const twin_run *twin = twins; twin < twins + TWIN_RUNS; twin++) {
        if (twin->run == NULL)
            continue;
        assert_int_equal(twin->run->owner, twin->owner);
        assert_int_equal(twin->run->page_count, twin->page_count);
        for (uint32_t i = 0; i < twin->page_count; i++) {
            assert_int_equal(twin->run->pages[i], twin->pages[i]);
            assert_true(twin->pages[i] < TWIN_PAGES && !used[twin->pages[i]]);
            used[twin->pages[i]] = true;
        }
        counts[PAGE_FREE] -= twin->page_count;
        counts[twin->owner] += twin->page_count;
    }
    assert_memory_equal(counts, manager->counts, sizeof counts);
}

static void remember_pages(twin_run *twin) {
    twin->page_count = twin->run->page_count;
    for (uint32_t i = 0; i < twin->page_count; i++)
        twin->pages[i] = twin->run->pages[i];
}

static void cut_in_two(page_manager *manager, twin_run *twins, twin_run *twin, uint32_t page_index) {
    twin_run *head = twins;
    while (head < twins + TWIN_RUNS && head->run != NULL)
        head++;
    if (head == twins + TWIN_RUNS || page_index == 0 || page_index >= twin->page_count)
        return;
    ASSERT_OK(page_manager_split(manager, twin->run, page_index, &head->run, &error));
    head->owner = twin->owner;
    head->page_count = page_index;
    memcpy(head->pages, twin->pages, page_index * sizeof *head->pages);
    twin->page_count -= page_index;
    memmove(twin->pages, twin->pages + page_index, twin->page_count * sizeof *twin->pages);
}

static void random_operations_agree_with_a_naive_twin(void **state) {
    (void)state;
    page_manager *manager;
    ASSERT_OK(create(TWIN_PAGES, 32, &manager));
    static twin_run twins[TWIN_RUNS];
    uint32_t refusals = 0;
    for (int step = 0; step < 100000; step++) {
        twin_run *twin = &twins[random_below(TWIN_RUNS)];
        uint32_t free_pages = manager->counts[PAGE_FREE];
        uint32_t count = random_below(20);
        if (twin->run == NULL) {
            page_state owner = random_below(2) ? PAGE_CHUNK : PAGE_SEQUENCE;
            cento_status status = page_manager_acquire(manager, owner, count, &twin->run, &error);
            assert_int_equal(status, count <= free_pages ? CENTO_OK : CENTO_POOL_FULL);
            refusals += status != CENTO_OK;
            if (status == CENTO_OK) {
                twin->owner = owner;
                remember_pages(twin);
                assert_int_equal(twin->page_count, count);
            }
        } else {
            uint32_t before = twin->page_count;
            switch (random_below(6)) {
            case 0:
                cut_in_two(manager, twins, twin, count);
                break;
            case 1:
                page_manager_release(manager, twin->run);
                memset(twin, 0, sizeof *twin);
                break;
            case 2: {
                uint32_t dropped = before < count ? before : count;
                page_manager_drop_head(manager, twin->run, dropped);
                twin->page_count -= dropped;
                memmove(twin->pages, twin->pages + dropped, twin->page_count * sizeof *twin->pages);
                break;
            }
            case 3: {
                cento_status status = page_manager_extend(manager, twin->run, count, &error);
                assert_int_equal(status, count <= free_pages ? CENTO_OK : CENTO_POOL_FULL);
                refusals += status != CENTO_OK;
                if (status == CENTO_OK) {
                    for (uint32_t i = 0; i < before; i++)
                        assert_int_equal(twin->run->pages[i], twin->pages[i]);
                    remember_pages(twin);
                    assert_int_equal(twin->page_count, before + count);
                }
                break;
            }
            case 4:
                page_manager_set_owner(manager, twin->run, PAGE_CHUNK);
                twin->owner = PAGE_CHUNK;
                break;
            case 5:
                page_manager_shrink(manager, twin->run, count);
                twin->page_count = before < count ? before : count;
                break;
            }
        }
        if (step % 16 == 0 || step < 4000)
            assert_twins_agree(manager, twins);
    }
    assert_true(refusals > 100); /* the pool was full often enough to say something */
    for (twin_run *twin = twins; twin < twins + TWIN_RUNS; twin++) {
        page_manager_release(manager, twin->run);
    }
    assert_int_equal(manager->counts[PAGE_FREE], TWIN_PAGES);
    page_manager_free(manager);
}

static void a_failed_allocation_changes_nothing(void **state) {
    (void)state;
    for (int64_t countdown = 0;; countdown++) {
        page_manager *manager = NULL;
        page_run *run = NULL;
        mem_fail_after(countdown);
        cento_status status = create(64, 32, &manager);
        if (status == CENTO_OK)
            status = page_manager_acquire(manager, PAGE_CHUNK, 3, &run, &error);
        page_run *head = NULL;
        if (status == CENTO_OK)
            status = page_manager_split(manager, run, 1, &head, &error);
        if (status == CENTO_OK)
            status = page_manager_extend(manager, run, 40, &error);
        mem_fail_after(-1);
        if (manager != NULL)
            ASSERT_OK(page_manager_check(manager, &error));
        if (run != NULL)
            assert_int_equal(run->page_count, status == CENTO_OK ? 42 : head != NULL ? 2 : 3);
        page_manager_release(manager, run);
        page_manager_release(manager, head);
        page_manager_free(manager);
        if (status == CENTO_OK)
            break;
        assert_int_equal(status, CENTO_OUT_OF_MEMORY);
    }
}

static void absurd_pool_sizes_are_refused(void **state) {
    (void)state;
    page_manager *manager;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "0 pages", create(0, 32, &manager));
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "1 pages", create(1, 32, &manager));
    static const double ratios[] = {0, 1, -0.5, 1.5, NAN};
    for (size_t i = 0; i < sizeof ratios / sizeof *ratios; i++) {
        const page_manager_options options = {
            .page_count = 10, .page_tokens = 16, .chunk_page_ratio = ratios[i], .borrow = true};
        ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "chunk_page_ratio",
                     page_manager_create(&options, &manager, &error));
    }
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "expected 2 to", create(UINT32_MAX, 32, &manager));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_handed_out_once_and_come_back),
        cmocka_unit_test(each_side_has_its_share_and_borrows_only_if_told_so),
        cmocka_unit_test(a_run_cut_in_two_keeps_every_page_in_its_place),
        cmocka_unit_test(a_run_is_contiguous_where_a_gap_fits_and_takes_the_smallest_one),
        cmocka_unit_test(random_operations_agree_with_a_naive_twin),
        cmocka_unit_test(a_failed_allocation_changes_nothing),
        cmocka_unit_test(absurd_pool_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
