/*
 * bench_compose: what sharing KV is worth. Three workloads of random tokens, drawn anew from the same seed in
 * every run, each answered by three engines: one that keeps KV, shares it and attends to it once for all
 * ("full"), one that keeps and shares it but attends for each request alone ("cascade_off"), and one that
 * does neither ("baseline"). Greedy, a fixed number of new tokens, all requests submitted at once.
 *
 *   rag        independent documents: a system prompt, some of the documents in random order (drawn by Zipf's
 *              law, as popular documents are), a question
 *   rag-exact  the same prompts in exact mode: only equal beginnings can be shared
 *   agents     conversations over one project: each turn's prompt is the conversation so far
 *   few-shot   one long prefix, many short questions
 *
 * Answers must not depend on the engine: those that differ are counted.
 */
#ifndef CENTO_BENCH_BENCH_COMPOSE_H
#define CENTO_BENCH_BENCH_COMPOSE_H

#include <jansson.h>

#include "cento.h"

enum { BENCH_COMPOSE_RAG = 1, BENCH_COMPOSE_AGENTS = 2, BENCH_COMPOSE_FEW_SHOT = 4 };

typedef struct bench_compose_options {
    cento_options engine; /* sizes that are 0 are chosen so that all requests fit at once */
    const char *geometry; /* NULL: engine.model_path as it is; else random weights in this shape, and the
                           * tokenizer of model_path */
    unsigned workloads;   /* BENCH_COMPOSE_… */
    uint32_t requests;    /* of rag and few-shot */
    uint32_t documents, documents_per_request, document_tokens, system_tokens;
    uint32_t agents, turns, project_tokens;
    uint32_t prefix_tokens; /* few-shot */
    uint32_t query_tokens, new_tokens;
    uint64_t kv_bytes_max; /* of the pool, where its size is chosen here */
    void (*on_progress)(void *user, const char *workload, uint64_t done, uint64_t total); /* may be NULL */
    void *user;
} bench_compose_options;

bench_compose_options bench_compose_options_default(void);

/* *report, a new reference: {"model", "backend", "workloads": [{"name", "mode", "requests", FIGURES,
 * "cascade_off": {FIGURES}, "baseline": {FIGURES}}]}; the model is the folder or the geometry. FIGURES:
 *
 *   memory_savings               1 - physical / logical bytes of KV, when the requests at work held most
 *   kv_logical_bytes, kv_physical_bytes   these
 *   metadata_bytes, metadata_fraction     ids, tables, registry; over the KV that is held at the end
 *   allocated_bytes              kv_physical_bytes + metadata_bytes
 *   allocated_savings            1 - allocated_bytes / the baseline's (0 for the baseline)
 *   prompt_tokens, computed_tokens, completion_tokens, preemptions
 *   kv_read_savings              1 - KV bytes read / what an unshared plan would have read
 *   ttft_ms_p50, ttft_ms_p99, tokens_per_s (new tokens), seconds
 *   sequences_max, kv_pool_tokens, pool_holds_all   (whether the baseline's requests all fit at once)
 *   answers_differing            from those of "full"; 0 for itself
 */
cento_status bench_compose(const bench_compose_options *options, json_t **report, cento_error *error);

#endif
