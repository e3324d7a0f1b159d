/*
 * A million random operations on registry, prefix tree, page manager and scheduler together, in a pool that
 * is too small: submit, step, cancel, finish early, register, pin, remove, expire, clear, forward passes that
 * fail. Every answer is checked against what its mode promises, every row against what it sees, the
 * invariants now and then, and at the end no page is left behind. Under sanitizers and in debug builds fewer.
 */
#include "fake_model.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OPERATIONS 25000
#elif !defined(NDEBUG)
#define OPERATIONS 60000
#else
#define OPERATIONS 500000 /* twice: with shares that are borrowed and with fixed ones */
#endif
#define CHECK_EVERY 199
#define JOBS        32
#define PINS        1
#define TURNS       8

typedef struct piece {
    cento_kind kind;
    bool is_template;
    int32_t tokens[24];
    uint32_t token_count;
} piece;

/* A prompt and its answer, for a next turn. */
typedef struct turn {
    piece pieces[FAKE_PARTS_MAX];
    size_t piece_count;
    cento_mode mode;
    uint32_t link_tokens;
    bool anchored;
    int salt;
} turn;

typedef struct world {
    fake_model model;
    uint64_t random;
    fake_job jobs[JOBS];
    turn turns_of_jobs[JOBS];
    turn turns[TURNS];
    digest pinned[PINS];
    bool is_pinned[PINS];
    uint64_t submitted, refused, cancelled, verified, spoiled, restored, removed, warm;
} world;

static uint64_t now_ns_value;

static uint64_t now_ns(void *user) {
    (void)user;
    return now_ns_value;
}

static uint32_t draw(world *all, uint32_t below) {
    all->random ^= all->random << 13;
    all->random ^= all->random >> 7;
    all->random ^= all->random << 17;
    return (uint32_t)(all->random >> 33) % below;
}

static piece numbered(cento_kind kind, bool is_template, int32_t first, uint32_t token_count) {
    piece made = {.kind = kind, .is_template = is_template, .token_count = token_count};
    for (uint32_t i = 0; i < token_count; i++)
        made.tokens[i] = first + (int32_t)i;
    return made;
}

static piece document(world *all) {
    static const uint32_t lengths[] = {1, 3, 4, 8, 11, 19};
    uint32_t index = draw(all, 6);
    return numbered(CENTO_KIND_CONTEXT, false, 100 * (int32_t)index, lengths[index]);
}

/* Queries begin alike and part within a page. */
static piece query(world *all) {
    piece made = numbered(CENTO_KIND_QUERY, false, 2000, 1 + draw(all, 9));
    if (draw(all, 2) == 0)
        made.tokens[made.token_count - 1] += 100 + (int32_t)draw(all, 5);
    return made;
}

static void add_piece(turn *prompt, piece added) {
    prompt->pieces[prompt->piece_count++] = added;
}

static turn new_turn(world *all) {
    turn prompt = {.mode = (cento_mode)draw(all, 3),
                   .link_tokens = 1 + draw(all, 5),
                   .anchored = draw(all, 2) == 0,
                   .salt = draw(all, 8) == 0};
    bool raw = draw(all, 4) == 0;
    if (!raw)
        add_piece(&prompt, numbered(CENTO_KIND_SYSTEM, true, 3000, 2));
    if (draw(all, 3) != 0)
        add_piece(&prompt, numbered(CENTO_KIND_SYSTEM, false, 1000, draw(all, 2) == 0 ? 9 : 3));
    uint32_t documents = draw(all, 4);
    for (uint32_t i = 0; i < documents; i++) {
        add_piece(&prompt, document(all));
        if (!raw && draw(all, 3) != 0)
            add_piece(&prompt, numbered(CENTO_KIND_SYSTEM, true, 3020, 1));
    }
    if (prompt.piece_count == 0 || draw(all, 5) != 0)
        add_piece(&prompt, query(all));
    if (!raw)
        add_piece(&prompt, numbered(CENTO_KIND_SYSTEM, true, 3100, 3));
    return prompt;
}

static turn next_turn(world *all, const turn *before) {
    turn prompt = *before;
    if (prompt.piece_count == 0 || prompt.piece_count + 4 > 14)
        return new_turn(all);
    if (draw(all, 2) == 0)
        add_piece(&prompt, document(all));
    add_piece(&prompt, query(all));
    add_piece(&prompt, numbered(CENTO_KIND_SYSTEM, true, 3100, 3));
    return prompt;
}

static cento_status submit(world *all, uint32_t index) {
    fake_job *job = &all->jobs[index];
    fake_free(&all->model, job);
    turn *prompt = &all->turns_of_jobs[index];
    *prompt = draw(all, 3) == 0 ? next_turn(all, &all->turns[draw(all, TURNS)]) : new_turn(all);
    for (size_t i = 0; i < prompt->piece_count; i++)
        fake_add(job, prompt->pieces[i].kind, prompt->pieces[i].is_template, prompt->pieces[i].tokens,
                 prompt->pieces[i].token_count);
    uint32_t answer_tokens = draw(all, 8) == 0 ? 0 : 1 + draw(all, 20);
    fake_prepare(job, prompt->mode, prompt->link_tokens, prompt->anchored, prompt->salt ? "s" : NULL,
                 answer_tokens);
    job->sequence.priority = draw(all, 6) == 0 ? (int32_t)draw(all, 3) - 1 : 0;
    layout_preview preview;
    cascade_layout_preview(&job->layout, job->tokens, all->model.registry, all->model.tree, &preview, NULL);
    assert_true(preview.cached_tokens <= job->layout.prompt_tokens);
    all->warm += preview.cached_tokens > 0;
    return fake_try_submit(&all->model, job);
}

static void keep_turn(world *all, uint32_t index) {
    const fake_job *job = &all->jobs[index];
    turn *kept = &all->turns[draw(all, TURNS)];
    *kept = all->turns_of_jobs[index];
    if (job->answer_tokens == 0)
        return;
    piece output = {.kind = CENTO_KIND_OUTPUT, .token_count = job->answer_tokens};
    memcpy(output.tokens, job->expected, job->answer_tokens * sizeof *output.tokens);
    add_piece(kept, output);
}

static void step(world *all, bool spoiled) {
    fake_model *model = &all->model;
    if (!spoiled) {
        (void)fake_step(model);
        return;
    }
    cascade_step planned;
    ASSERT_OK(cascade_scheduler_step(model->scheduler, &planned, &error));
    fake_take_failed(model, &planned);
    for (uint32_t row = 0; row < planned.row_count; row++)
        model->slots[planned.kv_slots[row]].valid = false;
    for (uint32_t i = 0; i < planned.copy_count; i++)
        model->slots[planned.copies[i].to_slot].valid = false;
    cascade_scheduler_computed(model->scheduler, &planned, false);
    all->spoiled += planned.row_count > 0;
}

static digest any_content(world *all) {
    piece any = draw(all, 2) == 0 ? document(all) : query(all);
    digest id;
    ASSERT_OK(content_id_of(fake_fingerprint, any.tokens, any.token_count, &id, &error));
    return id;
}

static void register_chunk(world *all) {
    piece any = document(all);
    digest id;
    context_chunk *chunk;
    ASSERT_OK(content_id_of(fake_fingerprint, any.tokens, any.token_count, &id, &error));
    cento_status status = chunk_registry_acquire(
        all->model.registry, draw(all, 4) == 0 ? CENTO_KIND_SYSTEM : CENTO_KIND_CONTEXT, &id, any.tokens,
        any.token_count, "label", &chunk, NULL, &error);
    assert_true(status == CENTO_OK || status == CENTO_POOL_FULL);
    if (status == CENTO_OK)
        chunk_registry_release(all->model.registry, chunk);
}

static void pin_or_unpin(world *all) {
    uint32_t index = draw(all, PINS);
    if (all->is_pinned[index]) {
        cento_status status = chunk_registry_unpin(all->model.registry, &all->pinned[index], &error);
        assert_true(status == CENTO_OK || status == CENTO_NOT_FOUND || status == CENTO_INVALID_ARGUMENT);
        all->is_pinned[index] = false;
        return;
    }
    all->pinned[index] = any_content(all);
    all->is_pinned[index] = chunk_registry_pin(all->model.registry, &all->pinned[index], &error) == CENTO_OK;
}

static void operate(world *all) {
    uint32_t index = draw(all, JOBS);
    fake_job *job = &all->jobs[index];
    uint32_t what = draw(all, 1000);
    if (what < 300) {
        if (job->submitted)
            return;
        if (job->done)
            keep_turn(all, index);
        cento_status status = submit(all, index);
        assert_true(status == CENTO_OK || status == CENTO_POOL_FULL || status == CENTO_QUEUE_FULL);
        *(status == CENTO_OK ? &all->submitted : &all->refused) += 1;
    } else if (what < 320) {
        all->cancelled += job->submitted;
        fake_end(&all->model, job, what < 310);
    } else if (what < 335) {
        step(all, true);
    } else if (what < 345) {
        register_chunk(all);
    } else if (what < 350) {
        pin_or_unpin(all);
    } else if (what < 355) {
        digest id = any_content(all);
        all->removed += chunk_registry_remove(all->model.registry, &id, &error) == CENTO_OK;
    } else if (what < 365) {
        digest id = any_content(all);
        (void)chunk_registry_set_ttl(all->model.registry, &id, draw(all, 3) * UINT64_C(50), &error);
    } else if (what < 375) {
        now_ns_value += draw(all, 60);
        chunk_registry_expire(all->model.registry);
    } else if (what == 375) {
        (void)chunk_registry_clear(all->model.registry);
    } else {
        step(all, false);
    }
}

static void run_world(bool fixed_shares, uint32_t page_tokens) {
    world *all = mem_zalloc(1, sizeof *all);
    assert_non_null(all);
    now_ns_value = 1;
    all->random = UINT64_C(88172645463325252) + page_tokens;
    all->model = fake_open((fake_options){
        .page_count = 240 / page_tokens,
        .page_tokens = page_tokens,
        .fixed_shares = fixed_shares,
        .chunk_page_ratio = fixed_shares ? 0.6 : 0.75,
        .chunks_max = 60,
        .now_ns = now_ns,
        .scheduler = {.max_sequences = 6, .max_batched_tokens = 24, .max_waiting = 8, .overtaken_max = 4}});
    all->model.check_every = 0;
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        operate(all);
        if (i % CHECK_EVERY == 0)
            ASSERT_OK(cascade_scheduler_check(all->model.scheduler, &error));
    }
    fake_run(&all->model);
    scheduler_stats stats;
    chunk_registry_stats held;
    cascade_scheduler_read_stats(all->model.scheduler, &stats);
    chunk_registry_read_stats(all->model.registry, &held);
    assert_int_equal(stats.waiting + stats.running, 0);
    print_message(
        "%u operations: %llu requests, %llu refused, %llu cancelled, %llu finished, %llu failed, %llu "
        "found something cached; %llu steps (%llu spoiled), %llu rows, %llu copies, %llu preemptions, "
        "%llu restorations, %llu overtakings, %llu evictions, %llu expirations, %llu removed\n",
        (unsigned)OPERATIONS, (unsigned long long)all->submitted, (unsigned long long)all->refused,
        (unsigned long long)all->cancelled, (unsigned long long)all->model.finished,
        (unsigned long long)all->model.failures, (unsigned long long)all->warm,
        (unsigned long long)stats.steps, (unsigned long long)all->spoiled, (unsigned long long)stats.rows,
        (unsigned long long)all->model.copies, (unsigned long long)stats.preemptions,
        (unsigned long long)stats.restorations, (unsigned long long)stats.overtakings,
        (unsigned long long)held.evictions, (unsigned long long)held.expirations,
        (unsigned long long)all->removed);
    /* it was as hard as it should be */
    assert_true(all->model.finished > OPERATIONS / 100 && all->cancelled > 50 && all->spoiled > 50);
    assert_true(stats.preemptions > 50 && stats.restorations > 20 && all->model.copies > 100);
    assert_true(held.evictions > 500 && held.expirations > 0 && all->removed > 10 && all->warm > 500);
    for (uint32_t i = 0; i < JOBS; i++)
        fake_free(&all->model, &all->jobs[i]);
    fake_close(&all->model);
    mem_free(all);
}

static void random_operations_break_no_promise_with_borrowed_shares(void **state) {
    (void)state;
    run_world(false, 4);
}

static void random_operations_break_no_promise_with_fixed_shares(void **state) {
    (void)state;
    run_world(true, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_break_no_promise_with_borrowed_shares),
        cmocka_unit_test(random_operations_break_no_promise_with_fixed_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
