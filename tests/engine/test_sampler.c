/*
 * Promises of the sampler, against an independent f64 implementation (a full sort, no heap) and against
 * frequencies of draws (chi-square, fixed seeds).
 */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sampler.h"

static cento_error error;

static cento_sampling off(float temperature) {
    return (cento_sampling){
        .temperature = temperature, .top_p = 1, .repetition_penalty = 1, .seed_set = true, .seed = 1};
}

static uint64_t random_state = 42;
static double random_uniform(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}

static void random_logits(float *logits, uint32_t count, double spread) {
    for (uint32_t i = 0; i < count; i++)
        logits[i] = (float)((random_uniform() + random_uniform() + random_uniform() - 1.5) * spread);
}

/* ------------------------------------------------------- the reference ---- */

typedef struct entry {
    double logit, probability;
    int32_t token;
} entry;

static int by_logit(const void *left, const void *right) {
    const entry *a = left, *b = right;
    if (a->logit != b->logit)
        return a->logit > b->logit ? -1 : 1;
    return a->token < b->token ? -1 : 1;
}

/* Probability of each token, by the definitions of sampler.h. */
static void reference_distribution(const cento_sampling *sampling, const float *logits, uint32_t count,
                                   const int32_t *prompt, size_t prompt_count, const int32_t *answer,
                                   size_t answer_count, double *probabilities) {
    entry *entries = calloc(count, sizeof *entries);
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (entry){logits[i], 0, (int32_t)i};
        bool seen = false;
        uint32_t in_answer = 0;
        for (size_t j = 0; j < prompt_count; j++)
            seen |= prompt[j] == (int32_t)i;
        for (size_t j = 0; j < answer_count; j++)
            in_answer += answer[j] == (int32_t)i;
        if (seen || in_answer > 0)
            entries[i].logit = entries[i].logit > 0 ? entries[i].logit / (double)sampling->repetition_penalty
                                                    : entries[i].logit * (double)sampling->repetition_penalty;
        if (in_answer > 0)
            entries[i].logit -=
                (double)sampling->presence_penalty + in_answer * (double)sampling->frequency_penalty;
        for (size_t j = 0; j < sampling->logit_bias_count; j++) {
            if (sampling->logit_bias[j].token == (int32_t)i)
                entries[i].logit += (double)sampling->logit_bias[j].bias;
        }
    }
    qsort(entries, count, sizeof *entries, by_logit);
    uint32_t kept = sampling->top_k > 0 && sampling->top_k < count ? sampling->top_k : count;
    double sum = 0, cumulated = 0;
    for (uint32_t i = 0; i < kept; i++) {
        entries[i].probability = exp((entries[i].logit - entries[0].logit) / (double)sampling->temperature);
        sum += entries[i].probability;
    }
    uint32_t shorter = 0;
    while (shorter < kept && (sampling->top_p >= 1 || cumulated < (double)sampling->top_p * sum))
        cumulated += entries[shorter++].probability;
    double left = 0;
    uint32_t last = 0;
    for (; last < shorter && entries[last].probability >= (double)sampling->min_p; last++)
        left += entries[last].probability;
    for (uint32_t i = 0; i < count; i++)
        probabilities[entries[i].token] = i < last ? entries[i].probability / left : 0;
    free(entries);
}

/* Draws many tokens from the same state of penalties and compares frequencies. */
static void assert_draws_follow(const cento_sampling *sampling, const float *logits, uint32_t count,
                                const int32_t *prompt, size_t prompt_count, const int32_t *answer,
                                size_t answer_count) {
    enum { DRAWS = 12000 };
    double *probabilities = calloc(count, sizeof *probabilities);
    uint32_t *drawn = calloc(count, sizeof *drawn);
    reference_distribution(sampling, logits, count, prompt, prompt_count, answer, answer_count,
                           probabilities);
    sampler *workspace;
    sampler_state state;
    ASSERT_OK(sampler_create(count, &workspace, &error));
    ASSERT_OK(sampler_state_init(&state, sampling, count, 0, prompt, prompt_count, answer_count, &error));
    for (size_t i = 0; i < answer_count; i++)
        sampler_accept(&state, answer[i]);
    for (int i = 0; i < DRAWS; i++) {
        int32_t token;
        ASSERT_OK(sampler_next(workspace, &state, logits, &token, &error));
        drawn[token]++;
    }
    double chi_square = 0, rare_expected = 0, rare_drawn = 0;
    int degrees = -1;
    for (uint32_t i = 0; i < count; i++) {
        double expected = probabilities[i] * DRAWS;
        if (probabilities[i] == 0) {
            assert_int_equal(drawn[i], 0); /* what truncation removes never comes */
        } else if (expected < 8) {
            rare_expected += expected;
            rare_drawn += drawn[i];
        } else {
            chi_square += (drawn[i] - expected) * (drawn[i] - expected) / expected;
            degrees++;
        }
    }
    if (rare_expected >= 8) {
        chi_square += (rare_drawn - rare_expected) * (rare_drawn - rare_expected) / rare_expected;
        degrees++;
    }
    /* Wilson and Hilferty's cube root: z is close to standard normal; 4.5 is one in 300,000 */
    if (degrees > 0) {
        double spread = 2.0 / (9.0 * degrees);
        double z = (cbrt(chi_square / degrees) - (1 - spread)) / sqrt(spread);
        if (z > 4.5)
            fail_msg("chi-square %g with %d degrees of freedom: z = %g", chi_square, degrees, z);
    }
    sampler_state_free(&state);
    sampler_free(workspace);
    free(probabilities);
    free(drawn);
}

/* ------------------------------------------------------- draws ---- */

static void draws_follow_the_softmax(void **state) {
    (void)state;
    float logits[300];
    random_logits(logits, 300, 4);
    cento_sampling sampling = off(1);
    assert_draws_follow(&sampling, logits, 300, NULL, 0, NULL, 0);
    sampling.temperature = 0.3f;
    assert_draws_follow(&sampling, logits, 300, NULL, 0, NULL, 0);
    sampling.temperature = 5;
    assert_draws_follow(&sampling, logits, 300, NULL, 0, NULL, 0);
}

static void draws_follow_every_truncation_alone_and_together(void **state) {
    (void)state;
    float logits[200];
    static const uint32_t top_ks[] = {0, 1, 7, 50, 1000};
    static const float top_ps[] = {1, 0.9f, 0.5f, 0.01f};
    static const float min_ps[] = {0, 0.05f, 1};
    for (size_t k = 0; k < 5; k++) {
        for (size_t p = 0; p < 4; p++) {
            for (size_t m = 0; m < 3; m++) {
                random_logits(logits, 200, 5);
                cento_sampling sampling = off(0.8f);
                sampling.top_k = top_ks[k];
                sampling.top_p = top_ps[p];
                sampling.min_p = min_ps[m];
                sampling.seed = 100 * k + 10 * p + m;
                assert_draws_follow(&sampling, logits, 200, NULL, 0, NULL, 0);
            }
        }
    }
}

static void draws_follow_penalties_and_bias(void **state) {
    (void)state;
    float logits[60];
    random_logits(logits, 60, 4);
    static const int32_t prompt[] = {1, 2, 3, 3, 3, 10, 59};
    static const int32_t answer[] = {3, 4, 4, 4, 20, 59};
    static const cento_logit_bias bias[] = {{5, 2}, {6, -INFINITY}, {4, 1.5f}, {0, -3}};
    cento_sampling sampling = off(1);
    sampling.repetition_penalty = 1.4f;
    assert_draws_follow(&sampling, logits, 60, prompt, 7, answer, 6);
    sampling.presence_penalty = 0.5f;
    sampling.frequency_penalty = 0.7f;
    assert_draws_follow(&sampling, logits, 60, prompt, 7, answer, 6);
    sampling.logit_bias = bias;
    sampling.logit_bias_count = 4;
    sampling.top_k = 30;
    sampling.top_p = 0.95f;
    assert_draws_follow(&sampling, logits, 60, prompt, 7, answer, 6);
    sampling.repetition_penalty = 1;
    sampling.presence_penalty = -1;
    assert_draws_follow(&sampling, logits, 60, prompt, 7, answer, 6);
}

/* A workspace with one request after the other. */
typedef struct one_sampler {
    sampler *workspace;
    sampler_state state;
} one_sampler;

static void begin(one_sampler *one, const cento_sampling *sampling, uint64_t seed) {
    sampler_state_free(&one->state);
    ASSERT_OK(
        sampler_state_init(&one->state, sampling, one->workspace->vocab_size, seed, NULL, 0, 32, &error));
}

static void end(one_sampler *one) {
    sampler_state_free(&one->state);
    sampler_free(one->workspace);
}

static int32_t next_token(one_sampler *one, const float *logits) {
    int32_t token;
    ASSERT_OK(sampler_next(one->workspace, &one->state, logits, &token, &error));
    return token;
}

static void greedy_takes_the_largest_and_of_equals_the_lowest_id(void **state) {
    (void)state;
    one_sampler greedy = {0};
    ASSERT_OK(sampler_create(6, &greedy.workspace, &error));
    cento_sampling sampling = off(0);
    begin(&greedy, &sampling, 0);
    assert_int_equal(next_token(&greedy, (float[]){1, 5, 2, 5, 5, 0}), 1);
    assert_int_equal(next_token(&greedy, (float[]){-1, -5, -2, -5, -0.5f, -3}), 4);
    assert_int_equal(next_token(&greedy, (float[]){NAN, -INFINITY, -2, NAN, -7, INFINITY}), 2);
    /* top-k 1 among equals is the same choice */
    sampling = off(1);
    sampling.top_k = 1;
    begin(&greedy, &sampling, 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(next_token(&greedy, (float[]){1, 5, 2, 5, 5, 0}), 1);
    int32_t token;
    ASSERT_FAILS(CENTO_BACKEND, "none of the 6 logits is finite",
                 sampler_next(greedy.workspace, &greedy.state, (float[]){NAN, NAN, NAN, NAN, NAN, NAN},
                              &token, &error));
    end(&greedy);
}

static void greedy_respects_penalties_and_bias(void **state) {
    (void)state;
    one_sampler greedy = {0};
    ASSERT_OK(sampler_create(4, &greedy.workspace, &error));
    cento_sampling sampling = off(0);
    sampling.frequency_penalty = 0.6f;
    begin(&greedy, &sampling, 0);
    const float logits[4] = {3, 2, 1, 0};
    static const int32_t expected[] = {0, 0, 1, 0, 1, 0, 2};
    for (size_t i = 0; i < 7; i++) {
        /* 3-0.6a, 2-0.6b, 1-0.6c by hand; equal values do not occur */
        int32_t token = next_token(&greedy, logits);
        assert_int_equal(token, expected[i]);
        sampler_accept(&greedy.state, token);
    }
    /* a new request starts clean */
    const cento_logit_bias bias = {3, 10};
    sampling = off(0);
    sampling.logit_bias = &bias;
    sampling.logit_bias_count = 1;
    begin(&greedy, &sampling, 0);
    assert_int_equal(next_token(&greedy, logits), 3);
    end(&greedy);
}

static void a_seed_gives_one_series_and_other_seeds_others(void **state) {
    (void)state;
    float logits[100];
    random_logits(logits, 100, 1);
    one_sampler drawing = {0};
    ASSERT_OK(sampler_create(100, &drawing.workspace, &error));
    int32_t series[3][32];
    static const uint64_t seeds[3] = {7, 7, 8};
    for (int run = 0; run < 3; run++) {
        cento_sampling sampling = off(1);
        sampling.seed = seeds[run];
        begin(&drawing, &sampling, 999);
        for (int i = 0; i < 32; i++)
            series[run][i] = next_token(&drawing, logits);
    }
    assert_memory_equal(series[0], series[1], sizeof series[0]);
    assert_memory_not_equal(series[0], series[2], sizeof series[0]);
    end(&drawing);
}

/* A token drawn elsewhere takes the same random number as one drawn here, and only once it is drawn. */
static void a_row_described_has_the_random_number_of_a_row_drawn(void **state) {
    (void)state;
    enum { COUNT = 100 };
    float logits[COUNT];
    random_logits(logits, COUNT, 1);
    one_sampler here = {0}, elsewhere = {0};
    ASSERT_OK(sampler_create(COUNT, &here.workspace, &error));
    ASSERT_OK(sampler_create(COUNT, &elsewhere.workspace, &error));
    for (int temperature = 0; temperature < 2; temperature++) {
        cento_sampling sampling = off((float)temperature);
        begin(&here, &sampling, 5);
        begin(&elsewhere, &sampling, 5);
        for (int i = 0; i < 50; i++) {
            sample_row row, again;
            sampler_describe(&elsewhere.state, 0, &row, NULL);
            sampler_describe(&elsewhere.state, 0, &again, NULL);
            assert_true(row.random == again.random);
            sampler_drawn(&elsewhere.state);
            int32_t token = next_token(&here, logits);
            assert_memory_equal(here.state.random, elsewhere.state.random, sizeof here.state.random);
            /* in the order of ids, by the definition */
            double sum = 0, left = 0;
            for (int j = 0; j < COUNT; j++)
                sum += exp((double)logits[j]);
            left = row.random * sum;
            int expected = 0;
            while (expected < COUNT - 1 && (left -= exp((double)logits[expected])) >= 0)
                expected++;
            if (temperature > 0)
                assert_int_equal(token, expected);
        }
    }
    end(&here);
    end(&elsewhere);
}

static void penalties_and_biases_are_described_as_they_are_made(void **state) {
    (void)state;
    static const cento_logit_bias bias[] = {{5, 2}, {1, 0.5f}, {5, 1}};
    cento_sampling sampling = off(0);
    sampling.repetition_penalty = 1.5f;
    sampling.presence_penalty = 0.25f;
    sampling.frequency_penalty = 0.5f;
    sampling.logit_bias = bias;
    sampling.logit_bias_count = 3;
    sampler_state asked;
    ASSERT_OK(sampler_state_init(&asked, &sampling, 10, 0, (int32_t[]){3, 3}, 2, 4, &error));
    sampler_accept(&asked, 7);
    sampler_accept(&asked, 7);
    sample_row row;
    sample_change changes[4];
    assert_int_equal(sampler_change_count(&asked), 4);
    sampler_describe(&asked, 0, &row, changes);
    assert_int_equal(row.penalty_count, 2);
    assert_int_equal(row.bias_count, 2);
    static const sample_change expected[4] = {{3, 1.5f, 0}, {7, 1.5f, 1.25f}, {1, 1, -0.5f}, {5, 1, -3}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(changes[i].token, expected[i].token);
        assert_true(changes[i].divisor == expected[i].divisor);
        assert_true(changes[i].subtracted == expected[i].subtracted);
    }
    sampler_state_free(&asked);
}

/* ------------------------------------------------------- logprobs ---- */

static void logprobs_are_the_log_softmax_and_the_likeliest_in_order(void **state) {
    (void)state;
    enum { COUNT = 500, TOP = 20 };
    float logits[COUNT];
    for (int round = 0; round < 20; round++) {
        random_logits(logits, COUNT, round < 10 ? 8 : 2000);
        logits[100] = logits[200] = logits[300]; /* ties */
        double largest = -INFINITY, sum = 0;
        entry entries[COUNT];
        for (int i = 0; i < COUNT; i++) {
            entries[i] = (entry){logits[i], 0, i};
            largest = fmax(largest, logits[i]);
        }
        for (int i = 0; i < COUNT; i++)
            sum += exp(logits[i] - largest);
        qsort(entries, COUNT, sizeof *entries, by_logit);
        cento_token_logprob logprobs[1 + TOP];
        int32_t chosen = 17 * round;
        sampler_logprobs(logits, COUNT, chosen, TOP, logprobs);
        assert_int_equal(logprobs[0].token, chosen);
        double expected = logits[chosen] - largest - log(sum);
        assert_true(fabs(logprobs[0].logprob - expected) <= 1e-6 * (1 + fabs(expected)));
        for (int i = 0; i < TOP; i++) {
            assert_int_equal(logprobs[1 + i].token, entries[i].token);
            expected = entries[i].logit - largest - log(sum);
            assert_true(fabs(logprobs[1 + i].logprob - expected) <= 1e-6 * (1 + fabs(expected)));
        }
    }
}

/* ------------------------------------------------------- bad input ---- */

static void values_without_sense_are_refused_by_name(void **state) {
    (void)state;
    cento_sampling sampling = off(1);
    ASSERT_OK(sampler_validate(&sampling, 10, &error));
#define REFUSED(field, value)                                                                                \
    do {                                                                                                     \
        sampling = off(1);                                                                                   \
        sampling.field = (value);                                                                            \
        ASSERT_FAILS(CENTO_INVALID_ARGUMENT, #field, sampler_validate(&sampling, 10, &error));               \
    } while (0)
    REFUSED(temperature, NAN);
    REFUSED(temperature, -0.1f);
    REFUSED(temperature, INFINITY);
    REFUSED(top_p, 0);
    REFUSED(top_p, 1.01f);
    REFUSED(top_p, NAN);
    REFUSED(min_p, -0.1f);
    REFUSED(min_p, 1.5f);
    REFUSED(min_p, NAN);
    REFUSED(repetition_penalty, 0);
    REFUSED(repetition_penalty, NAN);
    REFUSED(presence_penalty, INFINITY);
    REFUSED(frequency_penalty, NAN);
    REFUSED(logit_bias_count, 2);
    static const cento_logit_bias outside = {10, 1}, negative = {-1, 1}, nan = {1, NAN};
    const cento_logit_bias *const wrong[] = {&outside, &negative, &nan};
    for (size_t i = 0; i < 3; i++) {
        sampling = off(1);
        sampling.logit_bias = wrong[i];
        sampling.logit_bias_count = 1;
        ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "logit_bias 0", sampler_validate(&sampling, 10, &error));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(draws_follow_every_truncation_alone_and_together),
        cmocka_unit_test(draws_follow_penalties_and_bias),
        cmocka_unit_test(greedy_takes_the_largest_and_of_equals_the_lowest_id),
        cmocka_unit_test(greedy_respects_penalties_and_bias),
        cmocka_unit_test(a_seed_gives_one_series_and_other_seeds_others),
        cmocka_unit_test(a_row_described_has_the_random_number_of_a_row_drawn),
        cmocka_unit_test(penalties_and_biases_are_described_as_they_are_made),
        cmocka_unit_test(logprobs_are_the_log_softmax_and_the_likeliest_in_order),
        cmocka_unit_test(values_without_sense_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
