/* Penalties, truncation and the draw; see sampler.h for the order and the definitions. */
#include "sampler.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

cento_status sampler_create(uint32_t vocab_size, sampler **result, cento_error *error) {
    sampler *workspace = mem_zalloc(1, sizeof *workspace);
    if (workspace == NULL)
        return error_memory(error, sizeof *workspace);
    workspace->vocab_size = vocab_size;
    workspace->candidates = mem_alloc(vocab_size, sizeof *workspace->candidates);
    if (workspace->candidates == NULL) {
        sampler_free(workspace);
        return error_memory(error, vocab_size * sizeof *workspace->candidates);
    }
    *result = workspace;
    return CENTO_OK;
}

void sampler_free(sampler *workspace) {
    if (workspace == NULL)
        return;
    mem_free(workspace->candidates);
    mem_free(workspace);
}

/* ------------------------------------------------------------------ what may be asked for ---- */

static cento_status refuse(const char *name, double value, const char *expected, cento_error *error) {
    return error_set(error, CENTO_INVALID_ARGUMENT, "%s is %g, expected %s", name, value, expected);
}

cento_status sampler_validate(const cento_sampling *sampling, uint32_t vocab_size, cento_error *error) {
    /* each condition is written so that NaN fails it */
    if (!(sampling->temperature >= 0 && sampling->temperature <= 1e6f))
        return refuse("temperature", sampling->temperature, "0 (greedy) or more", error);
    if (!(sampling->top_p > 0 && sampling->top_p <= 1))
        return refuse("top_p", sampling->top_p, "a value in (0, 1]", error);
    if (!(sampling->min_p >= 0 && sampling->min_p <= 1))
        return refuse("min_p", sampling->min_p, "a value in [0, 1]", error);
    if (!(sampling->repetition_penalty > 0 && sampling->repetition_penalty <= 1e6f))
        return refuse("repetition_penalty", sampling->repetition_penalty, "more than 0 (1: off)", error);
    if (!(fabsf(sampling->presence_penalty) <= 1e6f))
        return refuse("presence_penalty", sampling->presence_penalty, "a finite value", error);
    if (!(fabsf(sampling->frequency_penalty) <= 1e6f))
        return refuse("frequency_penalty", sampling->frequency_penalty, "a finite value", error);
    if (sampling->logit_bias_count > 0 && sampling->logit_bias == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "logit_bias is NULL, logit_bias_count %zu",
                         sampling->logit_bias_count);
    for (size_t i = 0; i < sampling->logit_bias_count; i++) {
        const cento_logit_bias *bias = &sampling->logit_bias[i];
        if (bias->token < 0 || (uint32_t)bias->token >= vocab_size)
            return error_set(error, CENTO_INVALID_ARGUMENT,
                             "logit_bias %zu is for token %d, the vocabulary has 0 to %u", i, bias->token,
                             vocab_size - 1);
        if (isnan(bias->bias) || bias->bias == INFINITY)
            return error_set(error, CENTO_INVALID_ARGUMENT, "logit_bias %zu for token %d is %g", i,
                             bias->token, (double)bias->bias);
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ random numbers ---- */

static uint64_t splitmix64(uint64_t *state) {
    uint64_t mixed = (*state += UINT64_C(0x9E3779B97F4A7C15));
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ (mixed >> 31);
}

static uint64_t rotate_left(uint64_t value, int bits) {
    return (value << bits) | (value >> (64 - bits));
}

/* xoshiro256** 1.0 (Blackman, Vigna: arXiv:1805.01407) */
static uint64_t random_next(uint64_t state[4]) {
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

/* in [0, 1) */
static double random_unit(uint64_t state[4]) {
    return (double)(random_next(state) >> 11) * 0x1p-53;
}

/* ------------------------------------------------------------------ a request ---- */

static bool has_penalty(const cento_sampling *sampling) {
    return sampling->repetition_penalty != 1.0f || sampling->presence_penalty != 0 ||
           sampling->frequency_penalty != 0;
}

/* The slot that holds a token, or where it is to stand; linear probing. */
static uint32_t *slot_of(const sampler_state *state, int32_t token) {
    uint32_t slot = (uint32_t)token * UINT32_C(2654435769) & state->slot_mask;
    while (state->slots[slot] != 0 && state->seen[state->slots[slot] - 1].token != token)
        slot = (slot + 1) & state->slot_mask;
    return &state->slots[slot];
}

static sampler_seen *see(sampler_state *state, int32_t token) {
    uint32_t *slot = slot_of(state, token);
    if (*slot == 0) {
        assert(state->seen_count < state->seen_capacity);
        state->seen[state->seen_count++] = (sampler_seen){.token = token};
        *slot = state->seen_count;
    }
    return &state->seen[*slot - 1];
}

static cento_status allocate_seen(sampler_state *state, uint32_t vocab_size, size_t tokens,
                                  cento_error *error) {
    state->seen_capacity = tokens < vocab_size ? (uint32_t)tokens : vocab_size;
    uint32_t slot_count = 16;
    while (slot_count < 2 * (uint64_t)state->seen_capacity)
        slot_count *= 2;
    state->slot_mask = slot_count - 1;
    state->seen = mem_alloc(state->seen_capacity, sizeof *state->seen);
    state->slots = mem_zalloc(slot_count, sizeof *state->slots);
    if (state->seen == NULL || state->slots == NULL)
        return error_memory(error,
                            state->seen_capacity * sizeof *state->seen + slot_count * sizeof *state->slots);
    return CENTO_OK;
}

static int by_token(const void *left, const void *right) {
    const cento_logit_bias *a = left, *b = right;
    return (a->token > b->token) - (a->token < b->token);
}

/* Biases of one token are added up. */
static cento_status take_bias(sampler_state *state, const cento_sampling *sampling, cento_error *error) {
    size_t count = sampling->logit_bias_count, kept = 0;
    state->sampling.logit_bias = NULL;
    state->sampling.logit_bias_count = 0;
    if (count == 0)
        return CENTO_OK;
    state->bias = mem_alloc(count, sizeof *state->bias);
    if (state->bias == NULL)
        return error_memory(error, count * sizeof *state->bias);
    memcpy(state->bias, sampling->logit_bias, count * sizeof *state->bias);
    qsort(state->bias, count, sizeof *state->bias, by_token);
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && state->bias[kept - 1].token == state->bias[i].token)
            state->bias[kept - 1].bias += state->bias[i].bias;
        else
            state->bias[kept++] = state->bias[i];
    }
    state->bias_count = (uint32_t)kept;
    return CENTO_OK;
}

cento_status sampler_state_init(sampler_state *state, const cento_sampling *sampling, uint32_t vocab_size,
                                uint64_t seed, const int32_t *prompt, size_t prompt_tokens,
                                size_t answer_tokens_max, cento_error *error) {
    *state = (sampler_state){.sampling = *sampling};
    uint64_t mixer = sampling->seed_set ? sampling->seed : seed;
    for (int i = 0; i < 4; i++)
        state->random[i] = splitmix64(&mixer);
    TRY(take_bias(state, sampling, error));
    if (!has_penalty(sampling))
        return CENTO_OK;
    bool prompt_counts = sampling->repetition_penalty != 1.0f;
    TRY(allocate_seen(state, vocab_size, (prompt_counts ? prompt_tokens : 0) + answer_tokens_max, error));
    for (size_t i = 0; i < prompt_tokens && prompt_counts; i++)
        (void)see(state, prompt[i]);
    return CENTO_OK;
}

void sampler_state_free(sampler_state *state) {
    mem_free(state->bias);
    mem_free(state->seen);
    mem_free(state->slots);
    *state = (sampler_state){0};
}

void sampler_accept(sampler_state *state, int32_t token) {
    if (state->seen != NULL)
        see(state, token)->answer_count++;
}

static sample_change change_of_seen(const cento_sampling *sampling, const sampler_seen *seen) {
    float subtracted = 0;
    if (seen->answer_count > 0)
        subtracted = sampling->presence_penalty + (float)seen->answer_count * sampling->frequency_penalty;
    return (sample_change){seen->token, sampling->repetition_penalty, subtracted};
}

static sample_change change_of_bias(const cento_logit_bias *bias) {
    return (sample_change){bias->token, 1, -bias->bias};
}

static void change(sample_change how, sampler_candidate *candidates) {
    float *logit = &candidates[how.token].logit;
    *logit = *logit > 0 ? *logit / how.divisor : *logit * how.divisor;
    *logit -= how.subtracted;
}

static void apply_changes(const sampler_state *state, sampler_candidate *candidates) {
    for (uint32_t i = 0; i < state->seen_count; i++)
        change(change_of_seen(&state->sampling, &state->seen[i]), candidates);
    for (uint32_t i = 0; i < state->bias_count; i++)
        change(change_of_bias(&state->bias[i]), candidates);
}

uint32_t sampler_change_count(const sampler_state *state) {
    return state->seen_count + state->bias_count;
}

uint32_t sampler_change_max(const sampler_state *state) {
    return state->seen_capacity + state->bias_count;
}

void sampler_drawn(sampler_state *state) {
    if (state->sampling.temperature > 0)
        (void)random_next(state->random);
}

void sampler_describe(const sampler_state *state, uint32_t logprobs, sample_row *row,
                      sample_change *changes) {
    const cento_sampling *sampling = &state->sampling;
    *row = (sample_row){.temperature = sampling->temperature,
                        .top_k = sampling->top_k,
                        .top_p = sampling->top_p,
                        .min_p = sampling->min_p,
                        .penalty_count = state->seen_count,
                        .bias_count = state->bias_count,
                        .logprobs = logprobs};
    if (sampling->temperature > 0) {
        uint64_t random[4];
        memcpy(random, state->random, sizeof random);
        row->random = random_unit(random);
    }
    for (uint32_t i = 0; i < state->seen_count; i++)
        *changes++ = change_of_seen(sampling, &state->seen[i]);
    for (uint32_t i = 0; i < state->bias_count; i++)
        *changes++ = change_of_bias(&state->bias[i]);
}

/* Is a likelier than b? */
static bool comes_before(sampler_candidate a, sampler_candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

static void sift_down(sampler_candidate *heap, size_t count, size_t hole) {
    sampler_candidate moved = heap[hole];
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= count)
            break;
        if (child + 1 < count && comes_before(heap[child + 1], heap[child]))
            child++;
        if (!comes_before(heap[child], moved))
            break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = moved;
}

static void heapify(sampler_candidate *heap, size_t count) {
    for (size_t hole = count / 2; hole-- > 0;)
        sift_down(heap, count, hole);
}

/* Moves the likeliest of the heap's `count` to its end: heap[count - 1]. */
static void pop(sampler_candidate *heap, size_t count) {
    sampler_candidate top = heap[0];
    heap[0] = heap[count - 1];
    heap[count - 1] = top;
    if (count > 2)
        sift_down(heap, count - 1, 0);
}

static double weight_of(const sampler_candidate *candidate, float logit_max, float temperature) {
    return exp(((double)candidate->logit - (double)logit_max) / (double)temperature);
}

/* Truncation. What it leaves, likeliest first, stands at the end of the array in reverse order; returns how
 * many, and the sum of their weights. Sorts no more of the vocabulary than it must. */
static size_t truncate_candidates(const cento_sampling *sampling, sampler_candidate *candidates, size_t count,
                                  float logit_max, double *weight_sum) {
    size_t limit = sampling->top_k > 0 && sampling->top_k < count ? sampling->top_k : count;
    size_t sorted = 0; /* candidates that stand in their place */
    heapify(candidates, count);
    while (limit < count && sorted < limit)
        pop(candidates, count - sorted++);
    double enough = INFINITY;
    if (sampling->top_p < 1) {
        double total = 0; /* of what top-k leaves */
        for (size_t i = count - limit; i < count; i++)
            total += weight_of(&candidates[i], logit_max, sampling->temperature);
        enough = (double)sampling->top_p * total;
    }
    double sum = 0;
    size_t kept = 0;
    while (kept < limit && sum < enough) {
        if (kept == sorted)
            pop(candidates, count - sorted++);
        double weight = weight_of(&candidates[count - 1 - kept], logit_max, sampling->temperature);
        if (weight < (double)sampling->min_p) /* the weight of the likeliest is 1 */
            break;
        sum += weight;
        kept++;
    }
    *weight_sum = sum;
    return kept;
}

static int32_t draw(sampler *workspace, sampler_state *state, size_t count, float logit_max) {
    const cento_sampling *sampling = &state->sampling;
    sampler_candidate *candidates = workspace->candidates;
    bool truncated = sampling->top_k > 0 || sampling->top_p < 1 || sampling->min_p > 0;
    double sum = 0;
    size_t kept = count;
    if (truncated) {
        kept = truncate_candidates(sampling, candidates, count, logit_max, &sum);
    } else {
        for (size_t i = 0; i < count; i++)
            sum += weight_of(&candidates[i], logit_max, sampling->temperature);
    }
    double left = random_unit(state->random) * sum;
    int32_t last = candidates[truncated ? count - 1 : 0].token;
    for (size_t i = 0; i < kept; i++) {
        const sampler_candidate *candidate = &candidates[truncated ? count - 1 - i : i];
        double weight = weight_of(candidate, logit_max, sampling->temperature);
        if (weight > 0)
            last = candidate->token; /* where rounding leaves something over, the last possible one */
        left -= weight;
        if (left < 0)
            return candidate->token;
    }
    return last;
}

cento_status sampler_refuse(uint32_t vocab_size, cento_error *error) {
    return error_set(error, CENTO_BACKEND, "none of the %u logits is finite", vocab_size);
}

/* Greedy with nothing that changes a logit: no candidates are needed. */
static cento_status largest(const float *logits, uint32_t vocab_size, int32_t *token, cento_error *error) {
    float logit_max = -INFINITY;
    int32_t best = -1;
    for (uint32_t i = 0; i < vocab_size; i++) {
        if (logits[i] > logit_max && logits[i] < INFINITY) {
            logit_max = logits[i];
            best = (int32_t)i;
        }
    }
    *token = best;
    return best < 0 ? sampler_refuse(vocab_size, error) : CENTO_OK;
}

cento_status sampler_next(sampler *workspace, sampler_state *state, const float *logits, int32_t *token,
                          cento_error *error) {
    uint32_t vocab_size = workspace->vocab_size;
    if (state->sampling.temperature == 0 && state->seen == NULL && state->bias_count == 0)
        return largest(logits, vocab_size, token, error);
    sampler_candidate *candidates = workspace->candidates;
    for (uint32_t i = 0; i < vocab_size; i++)
        candidates[i] = (sampler_candidate){logits[i], (int32_t)i};
    apply_changes(state, candidates);
    /* what is not a number, or banned, cannot be drawn */
    size_t count = 0;
    size_t best = 0;
    for (uint32_t i = 0; i < vocab_size; i++) {
        if (!isfinite(candidates[i].logit))
            continue;
        candidates[count] = candidates[i];
        if (candidates[count].logit > candidates[best].logit)
            best = count;
        count++;
    }
    if (count == 0)
        return sampler_refuse(vocab_size, error);
    if (state->sampling.temperature == 0)
        *token = candidates[best].token;
    else
        *token = draw(workspace, state, count, candidates[best].logit);
    return CENTO_OK;
}

/* Of what is no number nothing is known but that it was not drawn. */
static float finite_or_none(float logit) {
    return isfinite(logit) ? logit : -INFINITY;
}

void sampler_logprobs(const float *logits, uint32_t vocab_size, int32_t chosen, uint32_t count,
                      cento_token_logprob *logprobs) {
    assert(count <= SAMPLE_LOGPROBS_MAX && count <= vocab_size);
    float logit_max = -INFINITY;
    for (uint32_t i = 0; i < vocab_size; i++)
        logit_max = logits[i] > logit_max && logits[i] < INFINITY ? logits[i] : logit_max;
    double sum = 0;
    for (uint32_t i = 0; i < vocab_size; i++)
        sum += exp((double)finite_or_none(logits[i]) - (double)logit_max);
    // cppcheck-suppress invalidFunctionArg // never 0: the largest adds 1
    double log_sum = (double)logit_max + log(sum);
    /* the likeliest, kept sorted: few, so insertion is cheap */
    cento_token_logprob *top = logprobs + 1;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < vocab_size && count > 0; i++) {
        float logit = finite_or_none(logits[i]);
        if (kept == count && !(logit > top[kept - 1].logprob))
            continue;
        uint32_t place = kept < count ? kept++ : kept - 1;
        for (; place > 0 && logit > top[place - 1].logprob; place--)
            top[place] = top[place - 1];
        top[place] = (cento_token_logprob){(int32_t)i, logit};
    }
    for (uint32_t i = 0; i < kept; i++)
        top[i].logprob = (float)((double)top[i].logprob - log_sum);
    logprobs[0] = (cento_token_logprob){chosen, (float)((double)finite_or_none(logits[chosen]) - log_sum)};
}
