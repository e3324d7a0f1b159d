/* generate: one request from its beginning to its end, and the result that is made of it. */
#ifndef CENTO_ENGINE_GENERATE_H
#define CENTO_ENGINE_GENERATE_H

#include "answer_text.h"
#include "sequence.h"

typedef struct generation {
    cento_engine *engine;
    const cento_request *request; /* borrowed */
    prompt built;
    composition laid_out;
    composition_options options;
    sequence state;
    token_vec answer;
    answer_text text;
    cento_token_logprob *logprobs; /* (answer.count, 1 + request->logprobs), owned */
    size_t logprob_capacity;
    uint32_t completion_limit;
    uint32_t steps; /* forward passes of one answer token */
    cento_finish finish;
    uint64_t forward_tokens_before;
    uint64_t start_ns, begin_ns, prefilled_ns, first_token_ns, end_ns;
} generation;

/* The result of what there is now; the generation keeps what it owns. */
cento_status result_create(generation *done, cento_result **result, cento_error *error);

#endif
