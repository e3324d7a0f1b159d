/* The pool of pages: a bitmap of free pages, an owner for each used one, a list of live runs. */
#include "page_manager.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

typedef struct page_gap {
    uint32_t begin;
    uint32_t count;
} page_gap;

static bool page_is_free(const page_manager *manager, uint32_t page) {
    return (manager->free_bits[page / 64] >> (page % 64) & 1) != 0;
}

static uint32_t bitmap_words(uint32_t page_count) {
    return page_count / 64 + (page_count % 64 != 0);
}

/* The chunks' share, rounded; each side has at least a page. */
static uint32_t chunk_share(const page_manager_options *options) {
    double pages = (double)options->page_count * options->chunk_page_ratio + 0.5;
    if (pages < 1)
        return 1;
    return pages >= options->page_count ? options->page_count - 1 : (uint32_t)pages;
}

cento_status page_manager_create(const page_manager_options *options, page_manager **result,
                                 cento_error *error) {
    uint32_t page_count = options->page_count;
    assert(options->page_tokens > 0);
    if (page_count < 2 || (uint64_t)page_count * options->page_tokens > UINT32_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "a KV pool of %u pages of %u tokens: expected 2 to %u pages", page_count,
                         options->page_tokens, UINT32_MAX / options->page_tokens);
    if (!(options->chunk_page_ratio > 0 && options->chunk_page_ratio < 1))
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "chunk_page_ratio is %g, expected more than 0 and less than 1",
                         options->chunk_page_ratio);
    page_manager *manager = mem_zalloc(1, sizeof *manager);
    if (manager == NULL)
        return error_memory(error, sizeof *manager);
    manager->page_count = page_count;
    manager->page_tokens = options->page_tokens;
    manager->borrow = options->borrow;
    manager->shares[PAGE_CHUNK] = chunk_share(options);
    manager->shares[PAGE_SEQUENCE] = page_count - manager->shares[PAGE_CHUNK];
    manager->free_bits = mem_zalloc(bitmap_words(page_count), sizeof *manager->free_bits);
    manager->owners = mem_zalloc(page_count, sizeof(page_run *));
    if (manager->free_bits == NULL || manager->owners == NULL) {
        page_manager_free(manager);
        return error_memory(error, page_count * sizeof(page_run *));
    }
    for (uint32_t page = 0; page < page_count; page++)
        manager->free_bits[page / 64] |= UINT64_C(1) << (page % 64);
    manager->counts[PAGE_FREE] = page_count;
    *result = manager;
    return CENTO_OK;
}

void page_manager_free(page_manager *manager) {
    if (manager == NULL)
        return;
    assert(manager->runs == NULL);
    mem_free(manager->free_bits);
    mem_free(manager->owners);
    mem_free(manager);
}

/* First page >= `page` that is free (or used); page_count if there is none. Skips whole words. */
static uint32_t next_page(const page_manager *manager, uint32_t page, bool free) {
    while (page < manager->page_count) {
        uint64_t word = manager->free_bits[page / 64];
        uint64_t bits = (free ? word : ~word) >> (page % 64);
        if (bits != 0) {
            page += (uint32_t)__builtin_ctzll(bits);
            return page < manager->page_count ? page : manager->page_count;
        }
        page = (page / 64 + 1) * 64;
    }
    return manager->page_count;
}

/* The smallest gap of at least `wanted` pages, else the largest one. */
static page_gap find_gap(const page_manager *manager, uint32_t wanted) {
    page_gap best = {0, 0};
    uint32_t begin = next_page(manager, 0, true);
    while (begin < manager->page_count) {
        uint32_t end = next_page(manager, begin, false);
        uint32_t count = end - begin;
        bool better = best.count < wanted ? count > best.count : count >= wanted && count < best.count;
        if (better)
            best = (page_gap){begin, count};
        if (count == wanted)
            break;
        begin = next_page(manager, end, true);
    }
    return best;
}

static void take_pages(page_manager *manager, page_run *run, uint32_t begin, uint32_t count) {
    for (uint32_t page = begin; page < begin + count; page++) {
        assert(page_is_free(manager, page) && manager->owners[page] == NULL);
        manager->free_bits[page / 64] &= ~(UINT64_C(1) << (page % 64));
        manager->owners[page] = run;
        run->pages[run->page_count++] = page;
    }
    manager->counts[PAGE_FREE] -= count;
    manager->counts[run->owner] += count;
}

cento_status page_manager_extend(page_manager *manager, page_run *run, uint32_t page_count,
                                 cento_error *error) {
    if (page_count > page_manager_available(manager, run->owner))
        return error_set(error, CENTO_POOL_FULL,
                         "%u pages of %u tokens wanted, %u of %u are free and %u may be taken", page_count,
                         manager->page_tokens, manager->counts[PAGE_FREE], manager->page_count,
                         page_manager_available(manager, run->owner));
    size_t needed = (size_t)run->page_count + page_count;
    if (!mem_grow((void **)&run->pages, &run->page_capacity, needed, sizeof *run->pages))
        return error_memory(error, needed * sizeof *run->pages);
    if (run->page_count > 0) {
        uint32_t behind = run->pages[run->page_count - 1] + 1;
        uint32_t gap_end = next_page(manager, behind, false);
        uint32_t count = gap_end - behind < page_count ? gap_end - behind : page_count;
        if (behind < manager->page_count && count > 0) {
            take_pages(manager, run, behind, count);
            page_count -= count;
        }
    }
    while (page_count > 0) {
        page_gap gap = find_gap(manager, page_count);
        uint32_t count = gap.count < page_count ? gap.count : page_count;
        take_pages(manager, run, gap.begin, count);
        page_count -= count;
    }
    return CENTO_OK;
}

static void list_run(page_manager *manager, page_run *run) {
    run->next = manager->runs;
    if (manager->runs != NULL)
        manager->runs->before = run;
    manager->runs = run;
}

cento_status page_manager_acquire(page_manager *manager, page_state owner, uint32_t page_count,
                                  page_run **run, cento_error *error) {
    assert(owner != PAGE_FREE);
    page_run *fresh = mem_zalloc(1, sizeof *fresh);
    if (fresh == NULL)
        return error_memory(error, sizeof *fresh);
    fresh->owner = owner;
    cento_status status = page_manager_extend(manager, fresh, page_count, error);
    if (status != CENTO_OK) {
        mem_free(fresh->pages);
        mem_free(fresh);
        return status;
    }
    list_run(manager, fresh);
    *run = fresh;
    return CENTO_OK;
}

static void give_back_page(page_manager *manager, const page_run *run, uint32_t page) {
    assert(manager->owners[page] == run && !page_is_free(manager, page));
    manager->owners[page] = NULL;
    manager->free_bits[page / 64] |= UINT64_C(1) << (page % 64);
    manager->counts[run->owner]--;
    manager->counts[PAGE_FREE]++;
}

void page_manager_shrink(page_manager *manager, page_run *run, uint32_t page_count) {
    while (run->page_count > page_count)
        give_back_page(manager, run, run->pages[--run->page_count]);
}

static void remove_head(page_run *run, uint32_t page_count) {
    run->page_count -= page_count;
    memmove(run->pages, run->pages + page_count, run->page_count * sizeof *run->pages);
}

void page_manager_drop_head(page_manager *manager, page_run *run, uint32_t page_count) {
    assert(page_count <= run->page_count);
    if (page_count == 0)
        return;
    for (uint32_t i = 0; i < page_count; i++)
        give_back_page(manager, run, run->pages[i]);
    remove_head(run, page_count);
}

void page_manager_release(page_manager *manager, page_run *run) {
    if (run == NULL)
        return;
    page_manager_shrink(manager, run, 0);
    if (run->before != NULL)
        run->before->next = run->next;
    else
        manager->runs = run->next;
    if (run->next != NULL)
        run->next->before = run->before;
    mem_free(run->pages);
    mem_free(run);
}

void page_manager_set_owner(page_manager *manager, page_run *run, page_state owner) {
    assert(owner != PAGE_FREE);
    manager->counts[run->owner] -= run->page_count;
    run->owner = owner;
    manager->counts[owner] += run->page_count;
}

cento_status page_manager_split(page_manager *manager, page_run *run, uint32_t page_index, page_run **head,
                                cento_error *error) {
    assert(page_index > 0 && page_index < run->page_count);
    page_run *fresh = mem_zalloc(1, sizeof *fresh);
    if (fresh == NULL)
        return error_memory(error, sizeof *fresh);
    fresh->pages = mem_alloc(page_index, sizeof *fresh->pages);
    if (fresh->pages == NULL) {
        mem_free(fresh);
        return error_memory(error, page_index * sizeof *fresh->pages);
    }
    fresh->owner = run->owner;
    fresh->page_count = page_index;
    fresh->page_capacity = page_index;
    memcpy(fresh->pages, run->pages, page_index * sizeof *fresh->pages);
    for (uint32_t i = 0; i < page_index; i++)
        manager->owners[fresh->pages[i]] = fresh;
    remove_head(run, page_index);
    list_run(manager, fresh);
    *head = fresh;
    return CENTO_OK;
}

uint32_t page_manager_available(const page_manager *manager, page_state owner) {
    uint32_t free_pages = manager->counts[PAGE_FREE];
    if (manager->borrow)
        return free_pages;
    if (manager->counts[owner] >= manager->shares[owner])
        return 0;
    uint32_t left = manager->shares[owner] - manager->counts[owner];
    return left < free_pages ? left : free_pages;
}

uint32_t page_manager_excess(const page_manager *manager, page_state owner) {
    return manager->counts[owner] > manager->shares[owner] ? manager->counts[owner] - manager->shares[owner]
                                                           : 0;
}

uint32_t page_manager_pages_for(const page_manager *manager, uint64_t tokens) {
    uint64_t pages = tokens / manager->page_tokens + (tokens % manager->page_tokens != 0);
    return pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
}

uint32_t page_run_slot(const page_manager *manager, const page_run *run, uint32_t token) {
    assert(token / manager->page_tokens < run->page_count);
    return run->pages[token / manager->page_tokens] * manager->page_tokens + token % manager->page_tokens;
}

uint32_t page_run_stretches(const page_run *run) {
    uint32_t stretches = run->page_count > 0;
    for (uint32_t i = 1; i < run->page_count; i++)
        stretches += run->pages[i] != run->pages[i - 1] + 1;
    return stretches;
}

uint64_t page_manager_metadata_bytes(const page_manager *manager) {
    uint64_t bytes = sizeof *manager + bitmap_words(manager->page_count) * sizeof *manager->free_bits +
                     manager->page_count * sizeof *manager->owners;
    for (const page_run *run = manager->runs; run != NULL; run = run->next)
        bytes += sizeof *run + run->page_capacity * sizeof *run->pages;
    return bytes;
}

cento_status page_manager_check(const page_manager *manager, cento_error *error) {
    uint32_t counts[PAGE_STATES] = {0};
    const page_run *before = NULL;
    for (const page_run *run = manager->runs; run != NULL; before = run, run = run->next) {
        if (run->before != before)
            return error_set(error, CENTO_INTERNAL, "page_manager: the list of runs is broken");
        if (run->owner != PAGE_CHUNK && run->owner != PAGE_SEQUENCE)
            return error_set(error, CENTO_INTERNAL, "page_manager: a live run has owner %d", (int)run->owner);
        for (uint32_t i = 0; i < run->page_count; i++) {
            if (run->pages[i] >= manager->page_count || manager->owners[run->pages[i]] != run)
                return error_set(error, CENTO_INTERNAL, "page_manager: page %u of a run is not its own",
                                 run->pages[i]);
        }
        counts[run->owner] += run->page_count;
    }
    uint32_t owned = 0;
    for (uint32_t page = 0; page < manager->page_count; page++) {
        if (page_is_free(manager, page) != (manager->owners[page] == NULL))
            return error_set(error, CENTO_INTERNAL, "page_manager: page %u is both free and owned", page);
        owned += manager->owners[page] != NULL;
    }
    counts[PAGE_FREE] = manager->page_count - owned;
    /* a page owned by a run that does not list it, or listed twice, shows here */
    if (counts[PAGE_CHUNK] + counts[PAGE_SEQUENCE] != owned)
        return error_set(error, CENTO_INTERNAL, "page_manager: %u pages owned, runs list %u", owned,
                         counts[PAGE_CHUNK] + counts[PAGE_SEQUENCE]);
    if (memcmp(counts, manager->counts, sizeof counts) != 0)
        return error_set(
            error, CENTO_INTERNAL, "page_manager: counted %u free, %u chunk, %u sequence; kept %u, %u, %u",
            counts[PAGE_FREE], counts[PAGE_CHUNK], counts[PAGE_SEQUENCE], manager->counts[PAGE_FREE],
            manager->counts[PAGE_CHUNK], manager->counts[PAGE_SEQUENCE]);
    return CENTO_OK;
}
