/*
 * attention_cases: the grid on which attention is measured, on a GPU, and against others: every combination
 * of heads and page sizes with
 *
 *   S1  one prefix that all share: batch × prefix × own tokens
 *   S2  a system prompt that all share, documents that some share
 *   S3  trees of three levels: root, branch, own
 *   S4  compositions: 4 of 16 chunks in random order, drawn by Zipf's law. No tree
 *   S5  nothing shared; only pairs share; one very long sequence among short ones
 *   S6  decode rows beside the prefill of 512 or 2,048 tokens over 8k of cache
 *   P   a prefill alone
 *
 * This is the one source of the cases: `cento bench attention --list-cases` writes them for
 * bench/peers/flashinfer_attention.py. Pages are laid out run after run, then sequence after sequence, each
 * from a page of its own; all runs are multiples of 64 tokens.
 */
#ifndef CENTO_BENCH_ATTENTION_CASES_H
#define CENTO_BENCH_ATTENTION_CASES_H

#include <jansson.h>

#include "cento.h"

/* Sees its runs in order, then own_tokens keys of its own; the last new_rows of them are computed. */
typedef struct attention_sequence {
    uint32_t run_begin, run_count; /* in run_ids */
    uint32_t own_tokens, new_rows;
} attention_sequence;

typedef struct attention_case {
    char name[56]; /* "S1 b8 2k+256 32/8 p64" */
    const char *family;
    uint32_t heads, kv_heads, head_dim, page_tokens;
    bool composed;        /* each run's keys were rotated from position 0, wherever it stands */
    uint32_t *run_tokens; /* (run_count), owned, as all lists */
    size_t run_count, run_capacity;
    uint32_t *run_ids; /* (run_id_count) lists of what sequences see, shared among them */
    size_t run_id_count, run_id_capacity;
    attention_sequence *sequences; /* (sequence_count); those that share stand together */
    size_t sequence_count, sequence_capacity;
} attention_case;

typedef struct attention_case_list {
    attention_case *cases; /* (count), owned */
    size_t count, capacity;
} attention_case_list;

/* Words separated by commas; NULL: everything. */
typedef struct attention_case_filter {
    const char *cases; /* beginnings of names: "S1 b8,S4" */
    const char *heads; /* "32/8,8/1" */
    const char *pages; /* "16,64" */
} attention_case_filter;

/* INVALID_ARGUMENT if a word fits no case, or nothing is left. */
cento_status attention_cases_create(const attention_case_filter *filter, attention_case_list *list,
                                    cento_error *error);
void attention_cases_free(attention_case_list *list);

/* {"version": 1, "cases": [{"name", "family", "heads", "kv_heads", "head_dim", "page_tokens", "runs": [{"id",
 * "tokens"}], "sequences": [{"runs": [id, …], "own_tokens", "new_rows", "count"}]}]}; count: so many in a
 * row. The caller releases it; NULL: out of memory. */
json_t *attention_cases_json(const attention_case_list *list);

#endif
