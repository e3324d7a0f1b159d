/*
 * sampler: logits to the next token. The order of its steps, each of which is off by default:
 *
 *   1. repetition penalty (tokens of prompt or answer: logit > 0 is divided by it, else multiplied)
 *   2. presence and frequency penalty (tokens of the answer: subtracted)
 *   3. logit bias (added; -inf bans a token)
 *   4. temperature 0: the largest logit, the lowest id among equals. Else logits / temperature, and then
 *   5. top-k: the k likeliest
 *   6. top-p: the shortest list of the likeliest whose probabilities, among those left, reach p
 *   7. min-p: those with at least min_p × the probability of the likeliest
 *   8. one draw among what is left, by its probabilities
 *
 * Equal logits count as ordered by id, the lowest first. The random numbers are the request's own
 * (xoshiro256**, seeded through splitmix64), one per token drawn, so that an answer depends on seed and
 * logits alone. Memory is sized once for the vocabulary. One request at a time.
 */
#ifndef CENTO_ENGINE_SAMPLER_H
#define CENTO_ENGINE_SAMPLER_H

#include "base/status.h"

#define SAMPLER_LOGPROBS_MAX 20

typedef struct sampler_candidate {
    float logit;
    int32_t token;
} sampler_candidate;

typedef struct sampler {
    uint32_t vocab_size;
    cento_sampling sampling; /* of the request; logit_bias borrowed */
    uint64_t random[4];
    uint8_t *in_prompt;      /* (vocab_size) 1: the token is in the prompt */
    uint32_t *answer_counts; /* (vocab_size) times in the answer */
    int32_t *touched;        /* (vocab_size) tokens of which one of the above is not 0 */
    uint32_t touched_count;
    sampler_candidate *candidates; /* (vocab_size) workspace */
} sampler;

cento_status sampler_create(uint32_t vocab_size, sampler **result, cento_error *error);
void sampler_free(sampler *state);

/* INVALID_ARGUMENT with the field's name and value unless all values make sense for the vocabulary. */
cento_status sampler_validate(const cento_sampling *sampling, uint32_t vocab_size, cento_error *error);

/* Starts a request. seed: used if sampling->seed_set is false. */
void sampler_begin(sampler *state, const cento_sampling *sampling, uint64_t seed, const int32_t *prompt,
                   size_t prompt_tokens);
/* BACKEND if the logits have no finite value. `logits` (vocab_size) is left as it is. */
cento_status sampler_next(sampler *state, const float *logits, int32_t *token, cento_error *error);
/* Counts a token as part of the answer. */
void sampler_accept(sampler *state, int32_t token);

/* Natural logarithms of the softmax of `logits`: `chosen` first, then the `count` likeliest
 * (count <= vocab_size and SAMPLER_LOGPROBS_MAX). */
void sampler_logprobs(const float *logits, uint32_t vocab_size, int32_t chosen, uint32_t count,
                      cento_token_logprob *logprobs);

#endif
