/*
 * Promises of a backend that samples on its device, against sampler.c for the same logits and the same random
 * numbers, and against frequencies of draws. On a device that leaves sampling to the host all are skipped.
 *
 * Weights on a device are f32: where a random number falls within CLOSE of the border between two tokens'
 * shares, it may take either; greedy rows take exactly the CPU's token.
 */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/mem.h"
#include "engine/sampler.h"
#include "random.h"

#define CLOSE 4e-6

static backend *device;
static cento_error error;

static void needs_sampling(void) {
    test_device_needed();
    if (device != NULL)
        return;
    const backend_options options = {.compute_dtype = CENTO_DTYPE_F32, .threads = 1};
    ASSERT_OK(backend_create(test_device(), &options, &device, &error));
    if (device->ops->sample == NULL) {
        print_message("skipped: on %s the host samples\n", device->ops->describe(device));
        device->ops->destroy(device);
        device = NULL;
        skip();
    }
}

/* ------------------------------------------------------------------------------ rows --------- */

/* Rows with their logits and requests, and what the device makes of them. */
typedef struct rows {
    uint32_t count, vocab;
    float *logits;         /* (count, vocab) */
    sampler_state *states; /* (count) before the draw */
    uint32_t *logprobs;    /* (count) how many are wanted */
    int32_t *tokens;       /* (count) */
    uint32_t logprobs_max;
    cento_token_logprob *told; /* (count, 1 + logprobs_max) */
} rows;

static rows rows_make(uint32_t count, uint32_t vocab) {
    return (rows){.count = count,
                  .vocab = vocab,
                  .logits = mem_alloc((size_t)count * vocab, sizeof(float)),
                  .states = mem_zalloc(count, sizeof(sampler_state)),
                  .logprobs = mem_zalloc(count, sizeof(uint32_t)),
                  .tokens = mem_zalloc(count, sizeof(int32_t)),
                  .told = mem_zalloc((size_t)count * (1 + SAMPLE_LOGPROBS_MAX), sizeof(cento_token_logprob))};
}

static void rows_free(rows *all) {
    for (uint32_t i = 0; i < all->count; i++)
        sampler_state_free(&all->states[i]);
    mem_free(all->logits);
    mem_free(all->states);
    mem_free(all->logprobs);
    mem_free(all->tokens);
    mem_free(all->told);
}

static float *row_of(const rows *all, uint32_t row) {
    return all->logits + (size_t)row * all->vocab;
}

/* Starts a request for a row; it has seen these tokens. */
static void ask(rows *all, uint32_t row, cento_sampling sampling, uint64_t seed, const int32_t *prompt,
                size_t prompt_count, const int32_t *answer, size_t answer_count) {
    sampler_state_free(&all->states[row]);
    ASSERT_OK(sampler_state_init(&all->states[row], &sampling, all->vocab, seed, prompt, prompt_count,
                                 answer_count + 64, &error));
    for (size_t i = 0; i < answer_count; i++)
        sampler_accept(&all->states[row], answer[i]);
}

/* Draws from every row, with the next random numbers of the states. */
static cento_status draw(rows *all, float *memory) {
    size_t changes = 0;
    for (uint32_t i = 0; i < all->count; i++)
        changes += sampler_change_count(&all->states[i]);
    sample_row *described = mem_alloc(all->count, sizeof *described);
    sample_change *list = mem_alloc(changes, sizeof *list), *next = list;
    all->logprobs_max = 0;
    for (uint32_t i = 0; i < all->count; i++) {
        sampler_describe(&all->states[i], all->logprobs[i], &described[i], next);
        next += sampler_change_count(&all->states[i]);
        all->logprobs_max = all->logprobs[i] > all->logprobs_max ? all->logprobs[i] : all->logprobs_max;
    }
    const sample_batch batch = {.row_count = all->count,
                                .vocab_size = all->vocab,
                                .rows = described,
                                .changes = list,
                                .change_count = changes,
                                .logprobs_max = all->logprobs_max,
                                .tokens = all->tokens,
                                .logprobs = all->told};
    cento_status status = device->ops->sample(device, memory, &batch, &error);
    mem_free(described);
    mem_free(list);
    return status;
}

/* The same, with the logits on their way there and back: they must not have changed. */
static void draw_rows(rows *all) {
    size_t count = (size_t)all->count * all->vocab;
    float *memory = device->ops->alloc(device, count), *back = mem_alloc(count, sizeof *back);
    ASSERT_OK(device->ops->write(device, memory, count, all->logits, &error));
    ASSERT_OK(draw(all, memory));
    ASSERT_OK(device->ops->read(device, memory, count, back, &error));
    assert_memory_equal(back, all->logits, count * sizeof *back);
    device->ops->release(device, memory);
    mem_free(back);
}

/* ------------------------------------------------------------------------- the reference ----- */

typedef struct entry {
    double logit;
    int32_t token;
} entry;

static int by_order(const void *left, const void *right) {
    const entry *a = left, *b = right;
    if (a->logit != b->logit)
        return a->logit > b->logit ? -1 : 1;
    return (a->token > b->token) - (a->token < b->token);
}

/* How far the random number is from the share of a token, in f64, by the definitions of sampler.h; an upper
 * bound where truncation may have decided otherwise. */
static double distance_from_share(const rows *all, uint32_t row, int32_t token) {
    const sampler_state *asked = &all->states[row];
    sample_row how;
    sample_change *changes = mem_alloc(sampler_change_count(asked), sizeof *changes);
    sampler_describe(asked, 0, &how, changes);
    float *logits = mem_alloc(all->vocab, sizeof *logits);
    memcpy(logits, row_of(all, row), all->vocab * sizeof *logits);
    for (uint32_t i = 0; i < how.penalty_count + how.bias_count; i++) {
        float *logit = &logits[changes[i].token];
        *logit = *logit > 0 ? *logit / changes[i].divisor : *logit * changes[i].divisor;
        *logit -= changes[i].subtracted;
    }
    entry *entries = mem_alloc(all->vocab, sizeof *entries);
    uint32_t count = 0;
    double largest = -INFINITY;
    for (uint32_t i = 0; i < all->vocab; i++) {
        if (isfinite(logits[i])) {
            entries[count++] = (entry){logits[i], (int32_t)i};
            largest = fmax(largest, logits[i]);
        }
    }
    if (how.top_k > 0 || how.top_p < 1 || how.min_p > 0)
        qsort(entries, count, sizeof *entries, by_order);
    uint32_t kept = how.top_k > 0 && how.top_k < count ? how.top_k : count, last = 0;
    double total = 0, sum = 0, before = 0, distance = 2;
    for (uint32_t i = 0; i < kept; i++)
        total += exp((entries[i].logit - largest) / (double)how.temperature);
    for (; last < kept && (how.top_p >= 1 || sum < (double)how.top_p * total); last++) {
        double weight = exp((entries[last].logit - largest) / (double)how.temperature);
        if (weight < (double)how.min_p)
            break;
        sum += weight;
    }
    for (uint32_t i = 0; i < count; i++) {
        double through = before + exp((entries[i].logit - largest) / (double)how.temperature) / sum;
        if (entries[i].token == token)
            distance = fmax(0, fmax(before - how.random, how.random - through));
        before = through;
    }
    mem_free(changes);
    mem_free(logits);
    mem_free(entries);
    return distance;
}

/* Draws from all rows and compares with sampler_next; returns how many took the neighbour. */
static uint32_t assert_as_on_the_cpu(rows *all) {
    sampler *workspace;
    uint32_t neighbours = 0;
    ASSERT_OK(sampler_create(all->vocab, &workspace, &error));
    draw_rows(all);
    for (uint32_t i = 0; i < all->count; i++) {
        sampler_state copy = all->states[i];
        int32_t expected = -1;
        cento_status status = sampler_next(workspace, &copy, row_of(all, i), &expected, &error);
        assert_int_equal(status == CENTO_OK, all->tokens[i] >= 0);
        if (status != CENTO_OK || expected == all->tokens[i])
            continue;
        const cento_sampling *asked = &all->states[i].sampling;
        double distance = asked->temperature > 0 ? distance_from_share(all, i, all->tokens[i]) : 2;
        if (!(distance <= CLOSE))
            fail_msg(
                "row %u of %u logits, temperature %g, top-k %u, top-p %g, min-p %g: token %d, on the CPU "
                "%d; the random number is %g from its share",
                i, all->vocab, (double)asked->temperature, asked->top_k, (double)asked->top_p,
                (double)asked->min_p, all->tokens[i], expected, distance);
        neighbours++;
    }
    sampler_free(workspace);
    return neighbours;
}

/* ------------------------------------------------------------------------------- logits ------ */

enum { PEAKED, NORMAL, FLAT, TIED, BROKEN, EQUAL, LOGIT_KINDS };

static void fill(float *logits, uint32_t vocab, int kind) {
    for (uint32_t i = 0; i < vocab; i++) {
        float value = random_normal();
        switch (kind) {
        case PEAKED:
            logits[i] = 3 * value + (random_below(1000) == 0 ? 12.0f : 0.0f);
            break;
        case NORMAL:
            logits[i] = 2 * value;
            break;
        case FLAT:
            logits[i] = 0.05f * value;
            break;
        case TIED:
            logits[i] = roundf(2 * value);
            break;
        case EQUAL:
            logits[i] = -0.0f;
            break;
        default:
            logits[i] = 2 * value;
        }
    }
    for (uint32_t i = 0; kind == BROKEN && i < vocab; i += 1 + random_below(8)) {
        static const float broken[] = {-INFINITY, NAN, INFINITY};
        logits[i] = broken[random_below(3)];
    }
    if (kind == EQUAL)
        logits[vocab / 2] = 0.0f; /* equal to -0 */
}

static cento_sampling off(float temperature) {
    return (cento_sampling){.temperature = temperature, .top_p = 1, .repetition_penalty = 1};
}

static const uint32_t vocabularies[] = {7, 1000, 1003, 32000, 151936};
enum { VOCABULARIES = sizeof vocabularies / sizeof *vocabularies };

/* ------------------------------------------------------------------------------- tests ------- */

static void tokens_are_the_cpus_for_the_same_random_numbers(void **state) {
    (void)state;
    needs_sampling();
    static const float temperatures[] = {1, 0.6f, 1e-3f, 5};
    static const uint32_t top_ks[] = {0, 1, 40, 700, 6000, 1000000};
    static const float top_ps[] = {1, 0.95f, 0.5f, 1e-4f};
    static const float min_ps[] = {0, 0.05f, 1};
    enum { ROWS = 24 };
    uint64_t seed = 7;
    for (int v = 0; v < VOCABULARIES; v++) {
        uint32_t drawn = 0, neighbours = 0;
        for (int kind = 0; kind < LOGIT_KINDS; kind++) {
            rows all = rows_make(ROWS, vocabularies[v]);
            for (uint32_t i = 0; i < ROWS; i++) {
                fill(row_of(&all, i), all.vocab, kind);
                /* all combinations, in turn */
                uint32_t number = (uint32_t)kind * ROWS + i + 31 * (uint32_t)v;
                cento_sampling sampling = off(temperatures[number % 4]);
                sampling.top_k = top_ks[(number / 2) % 6];
                sampling.top_p = top_ps[(number / 3) % 4];
                sampling.min_p = i % 3 == 2 ? min_ps[(number / 5) % 3] : 0;
                if (i % 8 == 0)
                    sampling = off(temperatures[number % 4]);
                if (i % 8 == 1)
                    sampling = off(0);
                if (i % 8 == 6) /* as good as greedy */
                    sampling.temperature = 1e-40f;
                if (i % 8 == 7) /* as good as uniform */
                    sampling.temperature = 1e6f;
                ask(&all, i, sampling, seed += 17, NULL, 0, NULL, 0);
            }
            neighbours += assert_as_on_the_cpu(&all);
            drawn += ROWS;
            rows_free(&all);
        }
        print_message("%u logits: %u draws, %u took the neighbour\n", vocabularies[v], drawn, neighbours);
        assert_true(neighbours * 20 <= drawn);
    }
}

static void greedy_takes_the_largest_and_of_equals_the_lowest_id(void **state) {
    (void)state;
    needs_sampling();
    enum { ROWS = 16 };
    for (int v = 0; v < VOCABULARIES; v++) {
        rows all = rows_make(ROWS, vocabularies[v]);
        int32_t expected[ROWS];
        for (uint32_t i = 0; i < ROWS; i++) {
            float *logits = row_of(&all, i);
            fill(logits, all.vocab, (int)i % LOGIT_KINDS);
            uint32_t place = random_below(all.vocab);
            expected[i] = i % 2 == 0 ? (int32_t)place : -1; /* -1: whatever the CPU says */
            if (i % 2 == 0)
                logits[place] = logits[place + random_below(all.vocab - place)] = 50;
            ask(&all, i, off(0), 0, NULL, 0, NULL, 0);
        }
        assert_int_equal(assert_as_on_the_cpu(&all), 0);
        for (uint32_t i = 0; i < ROWS; i += 2)
            assert_int_equal(all.tokens[i], expected[i]);
        rows_free(&all);
    }
}

/* Negative and largest values are ordered as floats are, and what is not finite is never drawn. */
static void what_is_not_finite_is_never_drawn(void **state) {
    (void)state;
    needs_sampling();
    static const float logits[8][6] = {
        {-1, -5, -2, -5, -0.5f, -3},
        {NAN, -INFINITY, -2, NAN, -7, INFINITY},
        {-3e38f, -3.4e38f, NAN, -3.3e38f, -INFINITY, INFINITY},
        {3e38f, 3.4e38f, NAN, 3.3e38f, -INFINITY, INFINITY},
        {NAN, NAN, NAN, NAN, NAN, NAN},
        {INFINITY, INFINITY, -INFINITY, NAN, INFINITY, INFINITY},
        {-0.0f, 0.0f, -1e-45f, 1e-45f, 0, -1},
        {1e-45f, 1e-45f, -1e-45f, 0, 0, -1},
    };
    static const int32_t largest[8] = {4, 2, 0, 1, -1, -1, 3, 0};
    const float temperatures[] = {0, 1, 1e-3f};
    for (int t = 0; t < 9; t++) {
        rows all = rows_make(8, 6);
        memcpy(all.logits, logits, sizeof logits);
        for (uint32_t i = 0; i < 8; i++) {
            cento_sampling sampling = off(temperatures[t % 3]);
            sampling.top_k = t < 3 ? 0 : t < 6 ? 1 : 4;
            sampling.min_p = t < 6 ? 0 : 1;
            ask(&all, i, sampling, 5 + i, NULL, 0, NULL, 0);
        }
        (void)assert_as_on_the_cpu(&all);
        for (uint32_t i = 0; i < 8; i++) {
            bool certain = t % 3 == 0 || t == 4 || largest[i] < 0;
            if (certain)
                assert_int_equal(all.tokens[i], largest[i]);
            assert_true(all.tokens[i] < 0 || isfinite(logits[i][all.tokens[i]]));
        }
        rows_free(&all);
    }
}

static void penalties_and_biases_are_the_cpus(void **state) {
    (void)state;
    needs_sampling();
    enum { ROWS = 12, ANSWER = 300 };
    for (int v = 1; v < VOCABULARIES; v++) {
        rows all = rows_make(ROWS, vocabularies[v]);
        int32_t prompt[ANSWER], answer[ANSWER];
        cento_logit_bias bias[ANSWER];
        for (uint32_t i = 0; i < ROWS; i++) {
            fill(row_of(&all, i), all.vocab, i % 3 == 0 ? TIED : PEAKED);
            for (int j = 0; j < ANSWER; j++) {
                prompt[j] = (int32_t)random_below(all.vocab);
                answer[j] = (int32_t)random_below(1 + random_below(all.vocab));
                bias[j] = (cento_logit_bias){(int32_t)random_below(all.vocab), 3 * random_normal()};
                if (j % 5 == 0)
                    bias[j].bias = -INFINITY;
                if (j % 7 == 0 && j > 0) /* twice */
                    bias[j].token = bias[j - 1].token;
            }
            cento_sampling sampling = off(i % 2 == 0 ? 0 : 0.9f);
            sampling.repetition_penalty = i % 4 < 2 ? 1.3f : 1;
            sampling.presence_penalty = i % 3 == 1 ? 0.7f : 0;
            sampling.frequency_penalty = i % 3 == 2 ? -0.4f : 0;
            sampling.top_p = i > 6 ? 0.9f : 1;
            sampling.logit_bias = bias;
            sampling.logit_bias_count = i % 5 == 0 ? 0 : ANSWER;
            ask(&all, i, sampling, i, prompt, ANSWER, answer, ANSWER);
        }
        assert_true(assert_as_on_the_cpu(&all) <= 1);
        rows_free(&all);
    }
}

static void a_bias_may_leave_one_token_alone(void **state) {
    (void)state;
    needs_sampling();
    enum { ROWS = 4 };
    for (int v = 0; v < VOCABULARIES; v++) {
        rows all = rows_make(ROWS, vocabularies[v]);
        cento_logit_bias *bias = mem_alloc(all.vocab, sizeof *bias);
        int32_t spared[ROWS];
        for (uint32_t i = 0; i < ROWS; i++) {
            size_t count = 0;
            spared[i] = (int32_t)random_below(all.vocab);
            fill(row_of(&all, i), all.vocab, NORMAL);
            for (int32_t token = 0; token < (int32_t)all.vocab; token++) {
                if (token != spared[i])
                    bias[count++] = (cento_logit_bias){token, -INFINITY};
            }
            cento_sampling sampling = off(i == 0 ? 0 : 1);
            sampling.top_p = i == 2 ? 0.3f : 1;
            sampling.top_k = i == 3 ? 20 : 0;
            sampling.logit_bias = bias;
            sampling.logit_bias_count = count;
            ask(&all, i, sampling, i, NULL, 0, NULL, 0);
        }
        draw_rows(&all);
        assert_memory_equal(all.tokens, spared, sizeof spared);
        mem_free(bias);
        rows_free(&all);
    }
}

/* 10,000 draws from one row of logits: each token comes as often as its probability says, within 5 sigma. */
static void draws_follow_the_probabilities(void **state) {
    (void)state;
    needs_sampling();
    enum { ROWS = 500, ROUNDS = 20, VOCAB = 1000 };
    for (int options = 0; options < 4; options++) {
        uint64_t seed = 23;
        uint32_t counts[VOCAB] = {0};
        rows all = rows_make(ROWS, VOCAB);
        cento_sampling sampling = off(0.8f);
        sampling.top_p = options == 1 ? 0.7f : 1;
        sampling.top_k = options == 2 ? 30 : 0;
        sampling.min_p = options == 3 ? 0.02f : 0;
        fill(row_of(&all, 0), VOCAB, NORMAL);
        for (uint32_t i = 1; i < ROWS; i++)
            memcpy(row_of(&all, i), row_of(&all, 0), VOCAB * sizeof(float));
        for (int round = 0; round < ROUNDS; round++) {
            for (uint32_t i = 0; i < ROWS; i++)
                ask(&all, i, sampling, seed += 3, NULL, 0, NULL, 0);
            draw_rows(&all);
            for (uint32_t i = 0; i < ROWS; i++)
                counts[all.tokens[i]]++;
        }
        /* f64, by the definitions */
        entry entries[VOCAB];
        double total = 0, sum = 0;
        for (int i = 0; i < VOCAB; i++)
            entries[i] = (entry){(double)all.logits[i] / (double)sampling.temperature, i};
        qsort(entries, VOCAB, sizeof *entries, by_order);
        for (int i = 0; i < VOCAB; i++)
            total += exp(entries[i].logit - entries[0].logit);
        int kept = 0;
        for (; kept < VOCAB; kept++) {
            double weight = exp(entries[kept].logit - entries[0].logit);
            if ((options == 1 && sum >= (double)sampling.top_p * total) || (options == 2 && kept == 30) ||
                weight < (double)sampling.min_p)
                break;
            sum += weight;
        }
        for (int i = 0; i < VOCAB; i++) {
            double share = i < kept ? exp(entries[i].logit - entries[0].logit) / sum : 0;
            double expected = share * ROWS * ROUNDS, sigma = sqrt(expected * (1 - share));
            double found = counts[entries[i].token];
            if (i >= kept)
                assert_int_equal(counts[entries[i].token], 0);
            /* where few are expected, Poisson's tail is longer than the normal's */
            else if (fabs(found - expected) > 5 * sigma + 5)
                fail_msg("token %d came %g times, expected %g, sigma %g", entries[i].token, found, expected,
                         sigma);
        }
        rows_free(&all);
    }
}

static void logprobs_are_those_of_the_logits_before_changes(void **state) {
    (void)state;
    needs_sampling();
    enum { ROWS = 14 };
    for (int v = 0; v < VOCABULARIES; v++) {
        rows all = rows_make(ROWS, vocabularies[v]);
        uint32_t most = all.vocab < SAMPLE_LOGPROBS_MAX ? all.vocab : SAMPLE_LOGPROBS_MAX;
        const int32_t answer[] = {1, 2, 2, 5};
        for (uint32_t i = 0; i < ROWS; i++) {
            float *logits = row_of(&all, i);
            fill(logits, all.vocab, (int)i % LOGIT_KINDS);
            if (i == 12) { /* fewer finite ones than are wanted */
                for (uint32_t token = 0; token < all.vocab; token++)
                    logits[token] = token % (all.vocab / 3) == 1 ? (float)token : token % 2 ? NAN : -INFINITY;
            }
            cento_sampling sampling = off(i % 2 == 0 ? 0 : 1);
            sampling.presence_penalty = i > 6 ? 2.0f : 0;
            ask(&all, i, sampling, i, NULL, 0, answer, 4);
            all.logprobs[i] = i % 4 == 3 ? 0 : i % 4 == 2 ? 1 : most;
        }
        draw_rows(&all);
        for (uint32_t i = 0; i < ROWS; i++) {
            cento_token_logprob expected[1 + SAMPLE_LOGPROBS_MAX];
            const cento_token_logprob *told = all.told + i * (1 + (size_t)all.logprobs_max);
            if (all.logprobs[i] == 0 || all.tokens[i] < 0)
                continue;
            sampler_logprobs(row_of(&all, i), all.vocab, all.tokens[i], all.logprobs[i], expected);
            for (uint32_t j = 0; j <= all.logprobs[i]; j++) {
                double near = 1e-6 * (1 + fabs((double)expected[j].logprob));
                bool same = told[j].logprob == expected[j].logprob ||
                            fabs((double)told[j].logprob - (double)expected[j].logprob) <= near;
                if (told[j].token != expected[j].token || !same)
                    fail_msg("%u logits, row %u, place %u: %d %.9g, expected %d %.9g", all.vocab, i, j,
                             told[j].token, (double)told[j].logprob, expected[j].token,
                             (double)expected[j].logprob);
            }
        }
        rows_free(&all);
    }
}

static void a_row_gives_the_same_bits_alone_and_in_every_repetition(void **state) {
    (void)state;
    needs_sampling();
    enum { ROWS = 12 };
    const int repetitions = test_on_gpu() ? 100 : 3;
    rows all = rows_make(ROWS, 32000);
    for (uint32_t i = 0; i < ROWS; i++) {
        fill(row_of(&all, i), all.vocab, (int)i % LOGIT_KINDS);
        cento_sampling sampling = off(i == 0 ? 0 : 0.9f);
        sampling.top_p = i % 3 == 1 ? 0.9f : 1;
        sampling.top_k = i % 4 == 2 ? 50 : 0;
        ask(&all, i, sampling, i, NULL, 0, NULL, 0);
        all.logprobs[i] = 20;
    }
    draw_rows(&all);
    int32_t tokens[ROWS];
    static cento_token_logprob told[ROWS * (1 + SAMPLE_LOGPROBS_MAX)];
    memcpy(tokens, all.tokens, sizeof tokens);
    memcpy(told, all.told, sizeof told);
    size_t count = (size_t)ROWS * all.vocab;
    float *memory = device->ops->alloc(device, count);
    ASSERT_OK(device->ops->write(device, memory, count, all.logits, &error));
    for (int i = 0; i < repetitions; i++) {
        ASSERT_OK(draw(&all, memory));
        assert_memory_equal(all.tokens, tokens, sizeof tokens);
        assert_memory_equal(all.told, told, sizeof told);
    }
    for (uint32_t i = 0; i < ROWS; i++) {
        rows alone = all;
        alone.count = 1;
        alone.states += i;
        alone.logprobs += i;
        ASSERT_OK(draw(&alone, memory + (size_t)i * all.vocab));
        assert_int_equal(alone.tokens[0], tokens[i]);
        assert_memory_equal(alone.told, told + i * (1 + (size_t)SAMPLE_LOGPROBS_MAX),
                            (1 + (size_t)SAMPLE_LOGPROBS_MAX) * sizeof *told);
    }
    device->ops->release(device, memory);
    rows_free(&all);
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    needs_sampling();
    float *memory = device->ops->alloc(device, 100);
    const float zeros[100] = {0};
    ASSERT_OK(device->ops->write(device, memory, 100, zeros, &error));
    int32_t token = 5;
    sample_change outside = {.token = 100, .divisor = 1};
    sample_row row = {.top_p = 1, .penalty_count = 1};
    sample_batch batch = {.row_count = 1,
                          .vocab_size = 100,
                          .rows = &row,
                          .changes = &outside,
                          .change_count = 1,
                          .tokens = &token};
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "token 100", device->ops->sample(device, memory, &batch, &error));
    batch.change_count = 0;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "1 changes", device->ops->sample(device, memory, &batch, &error));
    row.penalty_count = 0;
    row.logprobs = 21;
    ASSERT_FAILS(CENTO_INVALID_ARGUMENT, "21 logprobs", device->ops->sample(device, memory, &batch, &error));
    row.logprobs = 0;
    batch.row_count = 0;
    ASSERT_OK(device->ops->sample(device, memory, &batch, &error));
    assert_int_equal(token, 5);
    batch.row_count = 1;
    ASSERT_OK(device->ops->sample(device, memory, &batch, &error));
    assert_int_equal(token, 0);
    device->ops->release(device, memory);
}

static int close_device(void **state) {
    (void)state;
    if (device != NULL)
        device->ops->destroy(device);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest_and_of_equals_the_lowest_id),
        cmocka_unit_test(what_is_not_finite_is_never_drawn),
        cmocka_unit_test(tokens_are_the_cpus_for_the_same_random_numbers),
        cmocka_unit_test(penalties_and_biases_are_the_cpus),
        cmocka_unit_test(a_bias_may_leave_one_token_alone),
        cmocka_unit_test(logprobs_are_those_of_the_logits_before_changes),
        cmocka_unit_test(a_row_gives_the_same_bits_alone_and_in_every_repetition),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, close_device);
}
