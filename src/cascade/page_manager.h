/*
 * page_manager: one pool of KV pages, handed out as runs. A page is a number here; the memory behind it is
 * the backend's. Every page in use belongs to exactly one run, and a run has one owner: a sequence, which
 * alone may write its pages, or a chunk's KV, which is shared and only grows behind what others can see.
 * Pages go back to the pool when their run is released, never before.
 *
 * Runs are laid out contiguously where the pool allows: the smallest gap that fits is taken, and where none
 * fits the largest ones.
 *
 * The pool has two sides. chunk_page_ratio of it is what chunks may hold for certain, the rest what sequences
 * may. With borrowing either side may take whatever is free, and who holds more than its share is asked to
 * give it back when the other needs it: by eviction (chunk_registry) and preemption (cascade_scheduler).
 * Without, a side never exceeds its share.
 *
 * Not thread-safe: registry.lock guards it.
 */
#ifndef CENTO_CASCADE_PAGE_MANAGER_H
#define CENTO_CASCADE_PAGE_MANAGER_H

#include "base/status.h"

typedef enum page_state {
    PAGE_FREE = 0,
    PAGE_CHUNK = 1,    /* of a chunk's KV */
    PAGE_SEQUENCE = 2, /* of one sequence alone */
} page_state;
#define PAGE_STATES 3

typedef struct page_run {
    uint32_t *pages; /* (page_count) page ids, in order of tokens */
    uint32_t page_count;
    page_state owner;               /* PAGE_CHUNK or PAGE_SEQUENCE */
    size_t page_capacity;           /* of `pages` */
    struct page_run *next, *before; /* the manager's list of live runs */
} page_run;

typedef struct page_manager_options {
    uint32_t page_count;
    uint32_t page_tokens;
    double chunk_page_ratio; /* 0 < ratio < 1; the chunks' share is rounded, each side has at
                              * least a page */
    bool borrow;
} page_manager_options;

typedef struct page_manager {
    uint32_t page_count;
    uint32_t page_tokens;
    uint32_t shares[PAGE_STATES]; /* by owner; the two add up to page_count */
    bool borrow;
    uint32_t counts[PAGE_STATES]; /* pages by state */
    uint64_t *free_bits;          /* (page_count + 63) / 64; bit set: free */
    page_run **owners;            /* (page_count); NULL: free */
    page_run *runs;
} page_manager;

cento_status page_manager_create(const page_manager_options *options, page_manager **result,
                                 cento_error *error);
/* All runs must have been released. */
void page_manager_free(page_manager *manager);

/* A run of `page_count` pages (may be 0); one page_manager_release for it. POOL_FULL changes nothing. */
cento_status page_manager_acquire(page_manager *manager, page_state owner, uint32_t page_count,
                                  page_run **run, cento_error *error);
/* Appends pages to a run, right behind its last page if they are free. POOL_FULL changes nothing. */
cento_status page_manager_extend(page_manager *manager, page_run *run, uint32_t page_count,
                                 cento_error *error);
/* Gives back pages from a run's end until page_count are left. */
void page_manager_shrink(page_manager *manager, page_run *run, uint32_t page_count);
/* Gives back the first page_count pages of a run: its tokens begin that much later. */
void page_manager_drop_head(page_manager *manager, page_run *run, uint32_t page_count);
void page_manager_release(page_manager *manager, page_run *run); /* NULL is allowed */
/* Changes who owns a run: a sequence's own pages become a chunk's. Allowed beyond the share. */
void page_manager_set_owner(page_manager *manager, page_run *run, page_state owner);
/* Cuts a run in two: `run` keeps the pages from page_index on, *head gets those before it, with the same
 * owner. No page moves. 0 < page_index < run->page_count. */
cento_status page_manager_split(page_manager *manager, page_run *run, uint32_t page_index, page_run **head,
                                cento_error *error);
/* Pages that `owner` may take now: what is free, but without borrowing no more than its share. */
uint32_t page_manager_available(const page_manager *manager, page_state owner);
/* Pages that `owner` holds beyond its share. */
uint32_t page_manager_excess(const page_manager *manager, page_state owner);

/* Pages that hold this many tokens. */
uint32_t page_manager_pages_for(const page_manager *manager, uint64_t tokens);
/* Slot of a run's token in the pool: page · page_tokens + index. */
uint32_t page_run_slot(const page_manager *manager, const page_run *run, uint32_t token);
/* Stretches of consecutive page ids; 1 for a contiguous run, 0 for an empty one. */
uint32_t page_run_stretches(const page_run *run);

/* What managing the pool costs; one pass over the runs. */
uint64_t page_manager_metadata_bytes(const page_manager *manager);

/* INTERNAL, with what is wrong, unless all invariants hold. Costs one pass over the pool. */
cento_status page_manager_check(const page_manager *manager, cento_error *error);

#endif
