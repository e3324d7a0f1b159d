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
 * logits alone. One workspace, sized for the vocabulary, serves all requests; what a request has of its own
 * is small, and is sized when it begins: nothing is allocated per token. One thread at a time.
 *
 * A backend that has `sample` takes the same steps on its device: sampler_describe says what it needs for a
 * row, and draws the random number here, so that a seed gives the same series wherever tokens are drawn. This
 * file is the definition; weights there are f32, so that a token may differ where rounding decides.
 */
#ifndef CENTO_ENGINE_SAMPLER_H
#define CENTO_ENGINE_SAMPLER_H

#include "backend/backend.h"

typedef struct sampler_candidate {
    float logit;
    int32_t token;
} sampler_candidate;

/* Shared by all requests of an engine. */
typedef struct sampler {
    uint32_t vocab_size;
    sampler_candidate *candidates; /* (vocab_size) */
} sampler;

/* A token that penalties concern. */
typedef struct sampler_seen {
    int32_t token;
    uint32_t answer_count; /* times in the answer; 0: in the prompt alone */
} sampler_seen;

/* One request's. */
typedef struct sampler_state {
    cento_sampling sampling; /* logit_bias NULL: see `bias` */
    cento_logit_bias *bias;  /* (bias_count), owned: what was asked for, each token once */
    uint32_t bias_count;
    uint64_t random[4];
    sampler_seen *seen; /* (seen_capacity), owned; NULL: no penalty is on */
    uint32_t seen_count, seen_capacity;
    uint32_t *slots; /* (slot_mask + 1), owned: token → 1 + its index in `seen`; 0: free */
    uint32_t slot_mask;
} sampler_state;

cento_status sampler_create(uint32_t vocab_size, sampler **result, cento_error *error);
void sampler_free(sampler *workspace);

/* INVALID_ARGUMENT with the field's name and value unless all values make sense for the vocabulary. */
cento_status sampler_validate(const cento_sampling *sampling, uint32_t vocab_size, cento_error *error);

/* Starts a request. seed: used if sampling->seed_set is false. answer_tokens_max: how many tokens will be
 * accepted at most. Any thread. sampler_state_free in any case. */
cento_status sampler_state_init(sampler_state *state, const cento_sampling *sampling, uint32_t vocab_size,
                                uint64_t seed, const int32_t *prompt, size_t prompt_tokens,
                                size_t answer_tokens_max, cento_error *error);
void sampler_state_free(sampler_state *state);
/* BACKEND if the logits have no finite value. `logits` (vocab_size) is left as it is. */
cento_status sampler_next(sampler *workspace, sampler_state *state, const float *logits, int32_t *token,
                          cento_error *error);
/* Counts a token as part of the answer. */
void sampler_accept(sampler_state *state, int32_t token);

/* What a backend needs to draw the next token, in place of sampler_next. changes: (sampler_change_count),
 * written. Once it is drawn, sampler_drawn: the random number is used up. */
uint32_t sampler_change_count(const sampler_state *state);
/* What that may grow to until the request ends. */
uint32_t sampler_change_max(const sampler_state *state);
void sampler_drawn(sampler_state *state);
void sampler_describe(const sampler_state *state, uint32_t logprobs, sample_row *row, sample_change *changes);
/* What sampler_next says if there is nothing to draw. */
cento_status sampler_refuse(uint32_t vocab_size, cento_error *error);

/* Natural logarithms of the softmax of `logits`, of those that are finite (the others count as -inf):
 * `chosen` first, then the `count` likeliest (count <= vocab_size and SAMPLE_LOGPROBS_MAX). */
void sampler_logprobs(const float *logits, uint32_t vocab_size, int32_t chosen, uint32_t count,
                      cento_token_logprob *logprobs);

#endif
