/*
 * flashinfer_requests: a plan as FlashInfer can say it.
 *
 * FlashInfer's batch prefill takes requests: some rows of queries over one list of pages that are full but
 * for the last, masked not at all, causally from the bottom right, or by a bit for each (row, key). So
 *
 *   a task of the plan (a cell that several groups read)   one request with the rows of all its views
 *   a group's own cells                                    requests of cells that follow each other in the
 *                                                          same pages, or in full ones, with one rotation
 *
 * Each (request, row) pair is an entry: the query rotated for these keys, and a partial state. What remains
 * is to fold each batch row's entries, in the order given here. Requests of one kind of mask make one launch.
 *
 * Host only, no CUDA. A row that sees nothing of a request has no entry in its fold.
 */
#ifndef CENTO_BACKEND_FLASHINFER_REQUESTS_H
#define CENTO_BACKEND_FLASHINFER_REQUESTS_H

#include "cascade/cascade_plan.h"

typedef enum request_kind {
    REQUEST_FULL,   /* every row sees every key */
    REQUEST_CAUSAL, /* row i of n sees all but the last n - 1 - i keys */
    REQUEST_MASKED, /* bits */
    REQUEST_KINDS
} request_kind;

/* Growing array of 32-bit numbers. */
typedef struct int_list {
    int32_t *values;
    size_t count, capacity;
} int_list;

/* Requests of one kind, as FlashInfer's arrays. */
typedef struct request_batch {
    int_list row_begin;  /* (requests + 1) in rows of this batch */
    int_list page_begin; /* (requests + 1) in pages */
    int_list pages;
    int_list last_page;  /* (requests) tokens on the last page */
    int_list mask_begin; /* (requests + 1) bytes; MASKED only */
    uint8_t *mask;       /* bit row · keys + key of a request, from the low bit of its first byte */
    size_t mask_bytes, mask_capacity;
    int_list rows, rotations; /* (entries): row of the batch, and what its query is rotated by */
} request_batch;

typedef struct flashinfer_requests {
    request_batch batches[REQUEST_KINDS];
    uint32_t entry_begin[REQUEST_KINDS + 1];        /* entries are counted through the batches */
    int_list fold_begin;                            /* (rows of the batch + 1) */
    int_list fold_entries;                          /* in the order in which they are folded */
    int_list pairs;                                 /* scratch: row, kind, entry of the batch */
    int_list piece_pages, piece_begins, piece_ends; /* scratch: the request being put together */
    int_list seen_begins, seen_ends;
} flashinfer_requests;

/* The structure is zeros before the first build; memory is kept from build to build. */
cento_status flashinfer_requests_build(flashinfer_requests *requests, const cascade_plan *plan,
                                       uint32_t window, const uint32_t *positions, cento_error *error);
void flashinfer_requests_free(flashinfer_requests *requests);

static inline uint32_t request_count(const request_batch *batch) {
    return (uint32_t)batch->last_page.count;
}

#endif
