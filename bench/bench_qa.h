/*
 * cento bench qa: how many questions a model answers exactly right, mode by mode, through the public API.
 *
 * Questions file (JSON):
 *   {"version": 1, "system": TEXT, "documents": [TEXT, …],
 *    "questions": [{"kind": WORD, "documents": [INDEX, …], "query": TEXT, "answer": TEXT},
 *                  {"kind": "conversation", "documents": […], "turns": [{"query", "answer"}, …]}]}
 * A conversation counts as one question, right when every turn is. Answers are greedy and compared byte for
 * byte.
 */
#ifndef CENTO_BENCH_BENCH_QA_H
#define CENTO_BENCH_BENCH_QA_H

#include <jansson.h>

#include "cento.h"

typedef struct bench_qa_mode {
    const char *name; /* key in the report: "exact", "link:16" */
    cento_mode mode;
    uint32_t link_tokens;
    bool anchored;
} bench_qa_mode;

typedef struct bench_qa_options {
    const char *questions_path;
    uint32_t limit;             /* this many questions, spread evenly over the file; 0: all */
    const bench_qa_mode *modes; /* (mode_count) */
    size_t mode_count;
    uint32_t failures_max; /* wrong answers reported, per mode */
    /* Called after each question; false ends the run with CENTO_CANCELLED. May be NULL. */
    bool (*on_question)(void *user, const char *mode, size_t done, size_t total);
    void *user;
} bench_qa_options;

/* *report, a new reference:
 *   {"model", "backend", "modes": {NAME: {"accuracy": 0…1, "questions", "correct", "by_documents": {"1": …},
 *    "by_kind": {…}, "prompt_tokens", "cached_tokens", "approximate_tokens", "recomputed_tokens",
 *    "computed_tokens", "seconds", "failures": [{"question", "query", "expected", "found"}]}}} */
cento_status bench_qa(cento_engine *engine, const bench_qa_options *options, json_t **report,
                      cento_error *error);

#endif
