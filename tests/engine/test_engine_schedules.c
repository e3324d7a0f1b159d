/*
 * Random schedules: what a request gets does not depend on what runs beside it, when it was submitted, what
 * is cancelled, forgotten or preempted meanwhile, and how the engine is set up. Each schedule is a random mix
 * of requests in all modes, with chunks named by content id, cancellations at any moment and chunks added,
 * pinned and removed, over an engine whose pool is mostly too small; compared with an engine that runs one
 * request at a time and keeps nothing. With `deterministic` to the last bit. On a GPU a thousand schedules,
 * and the CPU must agree; elsewhere a few (CENTO_TEST_SCHEDULES: how many; CENTO_TEST_SCHEDULES_SEED:
 * others).
 */
#define TINY_HEAD_SIZE 64

#include "engine_fixture.h"
#include "random.h"

TINY_MODEL_FIXTURE("schedules", 11)

enum {
    SCHEDULES_ON_GPU = 1000,
    SCHEDULES_HERE = 80,
    KINDS = 4, /* of engines: f32 and bf16, with and without `deterministic` */
    SCHEDULES_PER_ENGINE = 5,
    REQUESTS = 40,    /* that there are */
    AT_ONCE_MAX = 12, /* in a schedule */
    ACTIONS_MAX = 60,
    ANSWER_TOKENS_MAX = 24,
    PIECES_MAX = 6,
};

typedef struct engine_kind {
    const char *name;
    cento_dtype dtype;
    bool deterministic;
    float logprob_near, tie_near; /* log probabilities; likely tokens that may take each other's place */
} engine_kind;

static const engine_kind kinds[KINDS] = {
    {"f32, deterministic", CENTO_DTYPE_F32, true, 0.0f, 0.0f},
    {"bf16, deterministic", CENTO_DTYPE_BF16, true, 0.0f, 0.0f},
    {"f32", CENTO_DTYPE_F32, false, 2e-4f, 1e-3f},
    {"bf16", CENTO_DTYPE_BF16, false, 0.2f, 0.4f},
};

static const char *const documents[] = {
    "Crystalton lies on the river Ossel. It was founded in 1823 by two sisters.",
    "The ship Aurelia was built in Port Veyra.",
    "A tenor sang at the opening of the bridge, and it rained.",
    "x",
    "Nobody in the valley remembers the winter of 1911, but the ledger of the church does.",
};
enum { DOCUMENTS = sizeof documents / sizeof *documents };
static const char *const queries[] = {"Who?", "When was it?", "Where does it lie?", "Why?", "And then?"};

typedef struct random_request {
    cento_piece pieces[PIECES_MAX];
    cento_request request;
} random_request;

/* Request `number`: always the same one. */
static void request_make(uint32_t number, random_request *made) {
    uint64_t before = random_state;
    random_state = 1000 + number;
    size_t count = 0;
    if (random_below(4) != 0)
        made->pieces[count++] = SYSTEM(random_below(3) == 0 ? "Be brief." : "Answer from the notes.");
    for (uint32_t i = 0, held = random_below(4); i < held; i++)
        made->pieces[count++] = CONTEXT(documents[random_below(DOCUMENTS)]);
    made->pieces[count++] = QUERY(queries[random_below(5)]);
    made->request = request_of(made->pieces, count, 1 + random_below(ANSWER_TOKENS_MAX));
    made->request.mode = (cento_mode)random_below(3);
    made->request.link_tokens = 1 + random_below(6);
    made->request.anchored = random_below(2) != 0;
    made->request.salt = random_below(6) == 0 ? "other" : NULL;
    random_state = before;
}

/* ---------------------------------------------------------------- alone -------- */

static cento_options kind_options(const engine_kind *kind) {
    cento_options options = tiny_options(&model);
    options.compute_dtype = kind->dtype;
    options.deterministic = kind->deterministic;
    return options;
}

static void run_alone(const cento_options *options, cento_result *results[REQUESTS]) {
    cento_options alone = *options;
    cento_engine *engine;
    alone.enable_reuse = alone.enable_cascade = false;
    alone.max_sequences = 1;
    ASSERT_OK(cento_open(&alone, &engine, &error));
    for (uint32_t i = 0; i < REQUESTS; i++) {
        random_request made;
        request_make(i, &made);
        results[i] = run_request_of(engine, &made.request);
    }
    tiny_close(engine);
}

/* The first `token_count` tokens of the answer. Where tokens are not the same, both were as likely, and what
 * follows has nothing in common. Returns how many tokens were the same. */
static size_t expect_answer(const engine_kind *kind, uint32_t number, const cento_result *expected,
                            const cento_result *got) {
    size_t width = expected->logprobs_per_token;
    assert_true(got->token_count <= expected->token_count);
    assert_true(got->token_count == 0 || got->logprobs_per_token == width);
    if (kind->deterministic) {
        for (size_t i = 0; i < got->token_count; i++)
            if (got->tokens[i] != expected->tokens[i] ||
                memcmp(got->logprobs + i * width, expected->logprobs + i * width,
                       width * sizeof *got->logprobs) != 0)
                fail_msg("%s: request %u, token %zu: %d with %.9g, alone %d with %.9g", kind->name, number, i,
                         got->tokens[i], (double)got->logprobs[i * width].logprob, expected->tokens[i],
                         (double)expected->logprobs[i * width].logprob);
        return got->token_count;
    }
    for (size_t i = 0; i < got->token_count; i++) {
        const cento_token_logprob *wanted = expected->logprobs + i * width, *held = got->logprobs + i * width;
        float largest = 0.0f;
        for (size_t a = 1; a < width; a++) /* of the likeliest, by rank: whoever has it */
            largest = fmaxf(largest, fabsf(wanted[a].logprob - held[a].logprob));
        if (largest > kind->logprob_near)
            fail_msg("%s: request %u, token %zu: log probabilities differ by %g", kind->name, number, i,
                     (double)largest);
        if (got->tokens[i] == expected->tokens[i])
            continue;
        float apart = INFINITY;
        for (size_t a = 1; a < width; a++)
            if (wanted[a].token == held[0].token)
                apart = wanted[0].logprob - wanted[a].logprob;
        if (apart > kind->tie_near)
            fail_msg("%s: request %u, token %zu: %d, alone %d, which is likelier by %g", kind->name, number,
                     i, got->tokens[i], expected->tokens[i], (double)apart);
        return i;
    }
    return got->token_count;
}

/* ---------------------------------------------------------------- a schedule -------- */

typedef struct under_way {
    uint32_t number;
    cento_generation *generation;
    listener heard;
    bool cancelled;
} under_way;

/* What happened in all schedules. */
typedef struct tally {
    uint32_t answers, cancelled, refused, too_large, by_content_id;
    uint64_t tokens, tokens_same, cached, preemptions;
} tally;

static cento_engine *engine_random(const engine_kind *kind) {
    static const uint32_t batched[] = {0, 19, 37, 64}, sequences[] = {0, 2, 3, 5, 12};
    static const uint64_t pools[] = {256, 256, 288, 320, 384, 2048};
    cento_options options = kind_options(kind);
    cento_engine *engine;
    options.page_tokens = random_below(3) == 0 ? 32 : 16;
    options.kv_pool_tokens = pools[random_below(6)];
    options.max_batched_tokens = batched[random_below(4)];
    options.max_sequences = sequences[random_below(5)];
    options.max_cascade_levels = random_below(4);
    options.enable_cascade = random_below(5) != 0;
    options.enable_reuse = random_below(6) != 0;
    options.chunk_page_borrow = random_below(4) != 0;
    ASSERT_OK(cento_open(&options, &engine, &error));
    return engine;
}

/* False if it can never fit, or names a chunk that has gone. */
static bool submit_one(cento_engine *engine, under_way *made, tally *all) {
    random_request wanted;
    cento_chunk_info info;
    request_make(made->number, &wanted);
    for (size_t i = 0; i < wanted.request.piece_count && random_below(3) == 0; i++) {
        cento_piece *piece = &wanted.pieces[i];
        if (piece->kind == CENTO_KIND_CONTEXT &&
            cento_chunk_add(engine, piece, random_below(3) == 0, &info, &error) == CENTO_OK) {
            *piece = (cento_piece){.kind = CENTO_KIND_CONTEXT, .content_id = info.content_id};
            all->by_content_id++;
            break;
        }
    }
    if (random_below(6) == 0) {
        made->heard.cancel_after = 1 + random_below(8);
        wanted.request.on_delta = listen;
        wanted.request.on_delta_user = &made->heard;
    }
    wanted.request.priority = (int32_t)random_below(3);
    wanted.request.retain = (cento_retain)random_below(2);
    cento_status status = cento_submit(engine, &wanted.request, &made->generation, &error);
    if (status != CENTO_OK && status != CENTO_POOL_FULL && status != CENTO_NOT_FOUND)
        fail_msg("request %u: %s: %s", made->number, cento_status_name(status), error.message);
    return status == CENTO_OK;
}

static void disturb(cento_engine *engine) {
    cento_chunk_info info;
    cento_piece piece = CONTEXT(documents[random_below(DOCUMENTS)]);
    uint32_t what = random_below(5);
    if (what == 0)
        cento_chunk_clear(engine);
    else if (cento_chunk_add(engine, &piece, what == 1, &info, &error) != CENTO_OK)
        return;
    else if (what == 2)
        (void)cento_chunk_remove(engine, info.content_id, &error);
    else if (what == 3 && cento_chunk_pin(engine, info.content_id, &error) == CENTO_OK)
        ASSERT_OK(cento_chunk_unpin(engine, info.content_id, &error));
}

static void finish_one(const engine_kind *kind, under_way *made, cento_result *const alone[REQUESTS],
                       tally *all) {
    cento_result *result = NULL;
    cento_status status = cento_generation_result(made->generation, &result, &error);
    bool may_be_cancelled = made->cancelled || made->heard.cancel_after > 0;
    /* POOL_FULL: alone, and the answer outgrew the pool, or a chunk was pinned just then */
    if (status != CENTO_OK && status != CENTO_POOL_FULL && !(status == CENTO_CANCELLED && may_be_cancelled))
        fail_msg("request %u: %s: %s", made->number, cento_status_name(status), error.message);
    if (status == CENTO_OK)
        assert_int_equal(result->token_count, alone[made->number]->token_count);
    if (result != NULL) {
        all->tokens_same += expect_answer(kind, made->number, alone[made->number], result);
        all->tokens += result->token_count;
        all->cached += result->usage.cached_tokens;
        all->preemptions += result->usage.preemptions;
    }
    all->answers += status == CENTO_OK;
    all->cancelled += status == CENTO_CANCELLED;
    all->too_large += status == CENTO_POOL_FULL;
    cento_result_free(result);
    cento_generation_free(made->generation);
    strbuf_free(&made->heard.text);
}

static void run_schedule(const engine_kind *kind, cento_engine *engine, cento_result *const alone[REQUESTS],
                         tally *all) {
    static under_way held[AT_ONCE_MAX];
    uint32_t count = 0, wanted = 2 + random_below(AT_ONCE_MAX - 1), family = random_below(REQUESTS);
    memset(held, 0, sizeof held);
    for (uint32_t action = 0; action < ACTIONS_MAX && (count < wanted || random_below(4) != 0); action++) {
        uint32_t what = random_below(10);
        if (what < 5 && count < wanted) {
            under_way *made = &held[count];
            *made = (under_way){.number = random_below(3) == 0 ? family : random_below(REQUESTS)};
            if (submit_one(engine, made, all))
                count++;
            else
                all->refused++;
        } else if (what == 5) {
            disturb(engine);
        } else if (what == 6 && count > 0 && random_below(2) == 0) {
            under_way *chosen = &held[random_below(count)];
            chosen->cancelled = true;
            cento_generation_cancel(chosen->generation);
        } else if (what == 7 && count > 0) {
            cento_wait(held[random_below(count)].generation, (int64_t)random_below(3));
        } else if (what == 8 && count > 0) {
            cento_poll(held[random_below(count)].generation);
        }
    }
    for (uint32_t i = 0; i < count; i++)
        finish_one(kind, &held[i], alone, all);
    assert_quiet(engine);
}

/* ---------------------------------------------------------------- the tests -------- */

static uint32_t number_from(const char *variable, uint32_t otherwise) {
    const char *wanted = getenv(variable);
    return wanted == NULL ? otherwise : (uint32_t)strtoul(wanted, NULL, 10);
}

static void free_results(cento_result *results[REQUESTS]) {
    for (uint32_t i = 0; i < REQUESTS; i++)
        cento_result_free(results[i]);
}

static void random_schedules(const engine_kind *kind) {
    static cento_result *alone[REQUESTS];
    uint32_t schedules =
        number_from("CENTO_TEST_SCHEDULES", test_on_gpu() ? SCHEDULES_ON_GPU : SCHEDULES_HERE) / KINDS;
    if (test_on_gpu())
        print_message("%u random schedules\n", schedules);
    cento_options options = kind_options(kind);
    tally all = {0};
    run_alone(&options, alone);
    random_state = number_from("CENTO_TEST_SCHEDULES_SEED", 1) * 1000003u + (uint32_t)(kind - kinds);
    for (uint32_t s = 0; s < schedules;) {
        cento_engine *engine = engine_random(kind);
        for (uint32_t i = 0; i < SCHEDULES_PER_ENGINE && s < schedules; i++, s++)
            run_schedule(kind, engine, alone, &all);
        tiny_close(engine);
    }
    free_results(alone);
    print_message("%s: %u answers, %u cancelled, %u refused, %u too large, %u documents by content id, "
                  "%llu of %llu tokens the same, %llu cached, %llu preemptions\n",
                  kind->name, all.answers, all.cancelled, all.refused, all.too_large, all.by_content_id,
                  (unsigned long long)all.tokens_same, (unsigned long long)all.tokens,
                  (unsigned long long)all.cached, (unsigned long long)all.preemptions);
    assert_true(all.answers > 2 * schedules && all.too_large <= 2 + all.answers / 10);
    if (schedules >= 50) /* when things happen is chance */
        assert_true(all.cancelled > 0 && all.by_content_id > 0 && all.cached > 20 * schedules &&
                    all.preemptions > 0);
    assert_true((double)all.tokens_same >=
                (kind->dtype == CENTO_DTYPE_F32 ? 0.98 : 0.6) * (double)all.tokens);
}

static void any_schedule_gives_what_each_request_gives_alone_to_the_last_bit(void **state) {
    (void)state;
    random_schedules(&kinds[0]);
}

static void any_schedule_gives_what_each_request_gives_alone_to_the_last_bit_in_bf16(void **state) {
    (void)state;
    random_schedules(&kinds[1]);
}

static void any_schedule_gives_what_each_request_gives_alone(void **state) {
    (void)state;
    random_schedules(&kinds[2]);
}

static void any_schedule_gives_what_each_request_gives_alone_in_bf16(void **state) {
    (void)state;
    random_schedules(&kinds[3]);
}

static void a_gpu_answers_as_the_cpu_does(void **state) {
    (void)state;
    if (!test_on_gpu()) {
        print_message("skipped: the device is the CPU\n");
        skip();
    }
    for (uint32_t k = 2; k < KINDS; k++) {
        cento_result *here[REQUESTS], *there[REQUESTS];
        cento_options options = kind_options(&kinds[k]);
        run_alone(&options, there);
        options.device = "cpu";
        run_alone(&options, here);
        size_t same = 0, tokens = 0;
        for (uint32_t i = 0; i < REQUESTS; i++) {
            same += expect_answer(&kinds[k], i, here[i], there[i]);
            tokens += here[i]->token_count;
        }
        print_message("%s: %zu of %zu tokens the same\n", kinds[k].name, same, tokens);
        assert_true((double)same >= (kinds[k].dtype == CENTO_DTYPE_F32 ? 0.98 : 0.6) * (double)tokens);
        free_results(here);
        free_results(there);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_schedule_gives_what_each_request_gives_alone_to_the_last_bit),
        cmocka_unit_test(any_schedule_gives_what_each_request_gives_alone_to_the_last_bit_in_bf16),
        cmocka_unit_test(any_schedule_gives_what_each_request_gives_alone),
        cmocka_unit_test(any_schedule_gives_what_each_request_gives_alone_in_bf16),
        cmocka_unit_test(a_gpu_answers_as_the_cpu_does),
    };
    return cmocka_run_group_tests_name("engine schedules", tests, create_model, free_model);
}
