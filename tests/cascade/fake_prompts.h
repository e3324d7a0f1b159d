/* Prompts that several tests of the scheduler run under the fake model. */
#ifndef CENTO_TESTS_CASCADE_FAKE_PROMPTS_H
#define CENTO_TESTS_CASCADE_FAKE_PROMPTS_H

#include "fake_model.h"

enum { SYSTEM = 1000, QUERY = 2000, GLUE = 3000, TAIL = 3100 }; /* first token ids */

/* Template, system prompt, documents (by their first token ids, 20 tokens each), query, generation prompt. */
static inline void build_chat(fake_job *job, const int32_t *documents, size_t document_count, int32_t query) {
    fake_template(job, GLUE, 2);
    fake_piece(job, CENTO_KIND_SYSTEM, SYSTEM, 9);
    fake_template(job, GLUE + 10, 3);
    for (size_t i = 0; i < document_count; i++) {
        fake_piece(job, CENTO_KIND_CONTEXT, documents[i], 20);
        fake_template(job, GLUE + 20, 1);
    }
    fake_piece(job, CENTO_KIND_QUERY, query, 5);
    fake_template(job, TAIL, 3);
}

static inline fake_job chat(const int32_t *documents, size_t document_count, int32_t query, cento_mode mode,
                            uint32_t answer_tokens) {
    fake_job job = {0};
    build_chat(&job, documents, document_count, query);
    fake_prepare(&job, mode, 3, mode != CENTO_MODE_EXACT, NULL, answer_tokens);
    return job;
}

static const int32_t ab[] = {100, 200}, ba[] = {200, 100}, aa[] = {100, 100};
static const cento_mode modes[] = {CENTO_MODE_EXACT, CENTO_MODE_INDEPENDENT, CENTO_MODE_LINK};

static inline fake_job question(int32_t first, uint32_t token_count, uint32_t answer_tokens,
                                int32_t priority) {
    fake_job job = {0};
    fake_piece(&job, CENTO_KIND_QUERY, first, token_count);
    fake_prepare(&job, CENTO_MODE_EXACT, 0, false, NULL, answer_tokens);
    job.sequence.priority = priority;
    return job;
}

static inline fake_model open_model(uint32_t page_count) {
    return fake_open((fake_options){.page_count = page_count, .page_tokens = 8});
}

static inline void run_one(fake_model *model, fake_job *job) {
    fake_submit(model, job);
    fake_run(model);
    assert_true(job->done && !job->failed);
}

#endif
