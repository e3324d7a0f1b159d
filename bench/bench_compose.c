/* The composition benchmark; see bench_compose.h. */
#include "bench/bench_compose.h"
#include "bench/bench_median.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "bench/bench_engine.h"

enum { TOKEN_FIRST = 8, SPECIAL_SHARE = 16 }; /* ids below and the last 1/16 may be special: not drawn */

bench_compose_options bench_compose_options_default(void) {
    return (bench_compose_options){
        .engine = cento_options_default(),
        .workloads = BENCH_COMPOSE_RAG | BENCH_COMPOSE_AGENTS | BENCH_COMPOSE_FEW_SHOT,
        .requests = 64,
        .documents = 16,
        .documents_per_request = 4,
        .document_tokens = 512,
        .system_tokens = 256,
        .agents = 8,
        .turns = 6,
        .project_tokens = 1024,
        .prefix_tokens = 2048,
        .query_tokens = 24,
        .new_tokens = 64,
        .kv_bytes_max = (uint64_t)8 << 30,
    };
}

static cento_status allocate(void **memory, size_t count, size_t size, cento_error *error) {
    *memory = mem_zalloc(count, size);
    return *memory == NULL ? error_memory(error, count * size) : CENTO_OK;
}

/* ----------------------------------------------------------------------------- workloads --- */

/* SplitMix64: the same draws on every machine. */
static uint64_t draw(uint64_t *state) {
    uint64_t value = *state += 0x9E3779B97F4A7C15u;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9u;
    value = (value ^ value >> 27) * 0x94D049BB133111EBu;
    return value ^ value >> 31;
}

static double draw_unit(uint64_t *state) {
    return (double)(draw(state) >> 11) * 0x1p-53;
}

typedef struct token_text {
    int32_t *tokens; /* owned */
    uint32_t count;
} token_text;

static cento_status token_text_draw(token_text *text, uint32_t count, uint32_t vocab_size, uint64_t *state,
                                    cento_error *error) {
    TRY(allocate((void **)&text->tokens, count, sizeof *text->tokens, error));
    uint32_t range = vocab_size - vocab_size / SPECIAL_SHARE - TOKEN_FIRST;
    text->count = count;
    for (uint32_t i = 0; i < count; i++)
        text->tokens[i] = (int32_t)(TOKEN_FIRST + draw(state) % range);
    return CENTO_OK;
}

/* A conversation: `shared` pieces, then for each turn a query and its answer. A request is one turn long. */
typedef struct conversation {
    cento_piece *pieces; /* (shared + 2 × turns), owned; texts are the workload's or the run's */
    size_t shared;
    token_text *queries; /* (turns), owned */
} conversation;

typedef struct workload {
    const char *name;
    cento_mode mode;
    token_text *texts; /* system prompt, documents, …; owned */
    size_t text_count;
    conversation *conversations; /* owned */
    uint32_t conversation_count, turns;
    uint32_t prompt_tokens_max; /* of the longest, with the answers of earlier turns */
    uint32_t new_tokens;
} workload;

static void workload_free(workload *made) {
    for (size_t i = 0; made->texts != NULL && i < made->text_count; i++)
        mem_free(made->texts[i].tokens);
    for (size_t i = 0; made->conversations != NULL && i < made->conversation_count; i++) {
        conversation *one = &made->conversations[i];
        for (size_t turn = 0; one->queries != NULL && turn < made->turns; turn++)
            mem_free(one->queries[turn].tokens);
        mem_free(one->queries);
        mem_free(one->pieces);
    }
    mem_free(made->texts);
    mem_free(made->conversations);
    *made = (workload){0};
}

static cento_piece piece_of(cento_kind kind, const token_text *text) {
    return (cento_piece){.kind = kind, .tokens = text->tokens, .token_count = text->count};
}

/* Memory for everything and the texts of all queries. */
static cento_status workload_init(workload *made, const bench_compose_options *options, size_t text_count,
                                  uint32_t conversations, uint32_t turns, size_t shared, uint32_t vocab_size,
                                  uint64_t *state, cento_error *error) {
    made->text_count = text_count;
    made->conversation_count = conversations;
    made->turns = turns;
    made->new_tokens = options->new_tokens;
    TRY(allocate((void **)&made->texts, text_count, sizeof *made->texts, error));
    TRY(allocate((void **)&made->conversations, conversations, sizeof *made->conversations, error));
    for (uint32_t i = 0; i < conversations; i++) {
        conversation *one = &made->conversations[i];
        one->shared = shared;
        TRY(allocate((void **)&one->pieces, shared + 2 * (size_t)turns, sizeof *one->pieces, error));
        TRY(allocate((void **)&one->queries, turns, sizeof *one->queries, error));
        for (uint32_t turn = 0; turn < turns; turn++)
            TRY(token_text_draw(&one->queries[turn], options->query_tokens, vocab_size, state, error));
    }
    return CENTO_OK;
}

/* The index of a document by Zipf's law: rank r has weight 1 / r. */
static uint32_t draw_document(uint32_t documents, uint64_t *state) {
    double sum = 0, reached = 0;
    for (uint32_t i = 0; i < documents; i++)
        sum += 1.0 / (i + 1);
    double point = draw_unit(state) * sum;
    for (uint32_t i = 0; i < documents; i++) {
        reached += 1.0 / (i + 1);
        if (point < reached)
            return i;
    }
    return documents - 1;
}

static cento_status make_rag(workload *made, const bench_compose_options *options, uint32_t vocab_size,
                             cento_error *error) {
    uint64_t state = 1;
    uint32_t chosen = options->documents_per_request;
    TRY(workload_init(made, options, 1 + options->documents, options->requests, 1, 1 + chosen, vocab_size,
                      &state, error));
    made->prompt_tokens_max =
        options->system_tokens + chosen * options->document_tokens + options->query_tokens;
    TRY(token_text_draw(&made->texts[0], options->system_tokens, vocab_size, &state, error));
    for (uint32_t i = 0; i < options->documents; i++)
        TRY(token_text_draw(&made->texts[1 + i], options->document_tokens, vocab_size, &state, error));
    for (uint32_t i = 0; i < options->requests; i++) {
        cento_piece *pieces = made->conversations[i].pieces;
        pieces[0] = piece_of(CENTO_KIND_SYSTEM, &made->texts[0]);
        for (uint32_t k = 0; k < chosen;) { /* each at most once in a prompt, in the order drawn */
            const token_text *document = &made->texts[1 + draw_document(options->documents, &state)];
            bool again = false;
            for (uint32_t j = 0; j < k; j++)
                again = again || pieces[1 + j].tokens == document->tokens;
            if (!again)
                pieces[1 + k++] = piece_of(CENTO_KIND_CONTEXT, document);
        }
    }
    return CENTO_OK;
}

/* One text that all conversations begin with. */
static cento_status make_shared(workload *made, const bench_compose_options *options, uint32_t shared_tokens,
                                uint32_t conversations, uint32_t turns, uint32_t vocab_size,
                                cento_error *error) {
    uint64_t state = 2;
    TRY(workload_init(made, options, 1, conversations, turns, 1, vocab_size, &state, error));
    made->prompt_tokens_max = shared_tokens + turns * (options->query_tokens + options->new_tokens);
    TRY(token_text_draw(&made->texts[0], shared_tokens, vocab_size, &state, error));
    for (uint32_t i = 0; i < conversations; i++)
        made->conversations[i].pieces[0] = piece_of(CENTO_KIND_SYSTEM, &made->texts[0]);
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------- one run --- */

typedef struct figures {
    cento_stats stats; /* at the end; its names are copied below, the engine is closed */
    char model[64], backend[96];
    uint64_t prompt_tokens, computed_tokens, completion_tokens, preemptions;
    double ttft_ms_p50, ttft_ms_p99, seconds;
    uint32_t sequences_max;
    bool pool_holds_all;
    uint64_t kv_pool_tokens;
    token_text *answers; /* (conversations × turns), owned */
    size_t answer_count;
} figures;

static void figures_free(figures *measured) {
    for (size_t i = 0; measured->answers != NULL && i < measured->answer_count; i++)
        mem_free(measured->answers[i].tokens);
    mem_free(measured->answers);
    *measured = (figures){0};
}

/* A conversation under way. */
typedef struct talk {
    cento_generation *generation;
    uint32_t turn;
    atomic_bool ready;
    sem_t *wake;
} talk;

typedef struct compose_run {
    const bench_compose_options *options;
    const workload *work;
    cento_engine *engine;
    talk *talks; /* (conversations) */
    sem_t wake;
    double *ttft_ms; /* (conversations × turns) */
    uint32_t ended;
    figures *measured;
} compose_run;

static void on_ready(void *user) {
    talk *one = user;
    atomic_store(&one->ready, true);
    sem_post(one->wake);
}

static cento_status submit_turn(compose_run *run, uint32_t index, cento_error *error) {
    const workload *work = run->work;
    const conversation *spoken = &work->conversations[index];
    talk *one = &run->talks[index];
    size_t place = spoken->shared + 2 * (size_t)one->turn;
    spoken->pieces[place] = piece_of(CENTO_KIND_QUERY, &spoken->queries[one->turn]);
    cento_request request = cento_request_default();
    request.pieces = spoken->pieces;
    request.piece_count = place + 1;
    request.raw = true;
    request.mode = work->mode;
    request.completion_tokens_max = work->new_tokens;
    request.ignore_eos = true;
    request.on_ready = on_ready;
    request.on_ready_user = one;
    return cento_submit(run->engine, &request, &one->generation, error);
}

/* Takes the answer of a turn; it becomes a piece of the next one. */
static cento_status end_turn(compose_run *run, uint32_t index, cento_error *error) {
    talk *one = &run->talks[index];
    const conversation *spoken = &run->work->conversations[index];
    figures *measured = run->measured;
    token_text *answer = &measured->answers[(size_t)index * run->work->turns + one->turn];
    cento_result *result = NULL;
    cento_status status = cento_generation_result(one->generation, &result, error);
    cento_generation_free(one->generation);
    one->generation = NULL;
    if (status == CENTO_OK)
        status = allocate((void **)&answer->tokens, result->token_count + 1, sizeof *answer->tokens, error);
    if (status == CENTO_OK) {
        memcpy(answer->tokens, result->tokens, result->token_count * sizeof *answer->tokens);
        answer->count = (uint32_t)result->token_count;
        run->ttft_ms[run->ended++] = result->timing.ttft_ms;
        measured->prompt_tokens += result->usage.prompt_tokens;
        measured->computed_tokens += result->usage.computed_tokens;
        measured->completion_tokens += result->usage.completion_tokens;
        measured->preemptions += result->usage.preemptions;
        spoken->pieces[spoken->shared + 2 * (size_t)one->turn + 1] = piece_of(CENTO_KIND_OUTPUT, answer);
        one->turn++;
    }
    cento_result_free(result);
    return status;
}

/* All conversations at once, each turn as soon as the one before it is answered. */
static cento_status talk_all(compose_run *run, cento_error *error) {
    const workload *work = run->work;
    uint32_t total = work->conversation_count * work->turns;
    uint64_t start_ns = clock_now_ns();
    for (uint32_t i = 0; i < work->conversation_count; i++) {
        run->talks[i].wake = &run->wake;
        TRY(submit_turn(run, i, error));
    }
    while (run->ended < total) {
        while (sem_wait(&run->wake) != 0 && errno == EINTR)
            continue;
        while (sem_trywait(&run->wake) == 0)
            continue;
        for (uint32_t i = 0; i < work->conversation_count; i++) {
            talk *one = &run->talks[i];
            if (one->generation == NULL || !atomic_exchange(&one->ready, false) ||
                !cento_poll(one->generation))
                continue;
            TRY(end_turn(run, i, error));
            if (one->turn < work->turns)
                TRY(submit_turn(run, i, error));
            if (run->options->on_progress != NULL)
                run->options->on_progress(run->options->user, run->work->name, run->ended, total);
        }
    }
    run->measured->seconds = clock_ms_since(start_ns) * 1e-3;
    qsort(run->ttft_ms, total, sizeof *run->ttft_ms, compare_doubles);
    run->measured->ttft_ms_p50 = percentile(run->ttft_ms, total, 0.50);
    run->measured->ttft_ms_p99 = percentile(run->ttft_ms, total, 0.99);
    cento_stats *stats = &run->measured->stats;
    cento_engine_stats(run->engine, stats);
    snprintf(run->measured->model, sizeof run->measured->model, "%s", stats->model_name);
    snprintf(run->measured->backend, sizeof run->measured->backend, "%s", stats->backend);
    return CENTO_OK;
}

/* Sizes that let the baseline hold everything at once, as far as memory goes. */
static cento_status choose_sizes(const bench_compose_options *options, const bench_model_sizes *model,
                                 const workload *work, cento_options *engine, figures *measured,
                                 cento_error *error) {
    enum { PAGE_TOKENS_DEFAULT = 32, BATCHED_TOKENS_DEFAULT = 512 };
    uint32_t page_tokens = engine->page_tokens == 0 ? PAGE_TOKENS_DEFAULT : engine->page_tokens;
    uint32_t context = work->prompt_tokens_max + work->new_tokens + 1; /* BOS */
    if (context > model->context_tokens_max)
        return error_set(error, CENTO_CONTEXT_FULL,
                         "%s needs a context of %u tokens, the model has %u; choose smaller sizes",
                         work->name, context, model->context_tokens_max);
    if (engine->context_tokens_max == 0)
        engine->context_tokens_max = context;
    if (engine->max_sequences == 0)
        engine->max_sequences = work->conversation_count;
    uint32_t rows = engine->max_batched_tokens == 0 ? BATCHED_TOKENS_DEFAULT : engine->max_batched_tokens;
    if (engine->max_sequences > rows) /* each needs a row of a pass, so the engine runs no more */
        engine->max_sequences = rows;
    if (engine->max_waiting == 0)
        engine->max_waiting = work->conversation_count;
    /* a piece may begin in a page of its own */
    uint64_t pieces = work->conversations[0].shared + 2 * (uint64_t)work->turns;
    uint64_t needed = work->conversation_count * (context + pieces * page_tokens);
    for (size_t i = 0; i < work->text_count; i++)
        needed += work->texts[i].count + page_tokens;
    if (engine->kv_pool_tokens == 0) {
        uint64_t most = options->kv_bytes_max / model->kv_bytes_per_token;
        engine->kv_pool_tokens = needed < most ? needed : most;
    }
    measured->kv_pool_tokens = engine->kv_pool_tokens;
    measured->pool_holds_all =
        engine->kv_pool_tokens >= needed && engine->max_sequences >= work->conversation_count;
    measured->sequences_max = engine->max_sequences;
    return CENTO_OK;
}

static cento_status measure(const bench_compose_options *options, const bench_model_sizes *model,
                            const workload *work, bool cascade, bool reuse, figures *measured,
                            cento_error *error) {
    cento_options engine_options = options->engine;
    engine_options.enable_cascade = cascade;
    engine_options.enable_reuse = reuse;
    TRY(choose_sizes(options, model, work, &engine_options, measured, error));
    compose_run run = {.options = options, .work = work, .measured = measured};
    cento_status status = CENTO_OK;
    measured->answer_count = (size_t)work->conversation_count * work->turns;
    sem_init(&run.wake, 0, 0);
    TRY_GOTO(status,
             allocate((void **)&measured->answers, measured->answer_count, sizeof *measured->answers, error),
             done);
    TRY_GOTO(status, allocate((void **)&run.ttft_ms, measured->answer_count, sizeof *run.ttft_ms, error),
             done);
    TRY_GOTO(status, allocate((void **)&run.talks, work->conversation_count, sizeof *run.talks, error), done);
    TRY_GOTO(status, bench_engine_open(&engine_options, options->geometry, &run.engine, error), done);
    status = talk_all(&run, error);
done:
    for (uint32_t i = 0; run.talks != NULL && i < work->conversation_count; i++)
        cento_generation_free(run.talks[i].generation);
    cento_close(run.engine);
    sem_destroy(&run.wake);
    mem_free(run.talks);
    mem_free(run.ttft_ms);
    return status;
}

/* ------------------------------------------------------------------------------- reports --- */

static uint64_t answers_differing(const figures *one, const figures *other) {
    uint64_t differing = 0;
    for (size_t i = 0; i < one->answer_count; i++) {
        const token_text *a = &one->answers[i], *b = &other->answers[i];
        differing += a->count != b->count || memcmp(a->tokens, b->tokens, a->count * sizeof *a->tokens) != 0;
    }
    return differing;
}

static double savings(double used, double without) {
    return without > 0 ? 1 - used / without : 0;
}

/* Adds FIGURES to the object. */
static bool add_figures(json_t *object, const figures *measured, const figures *full,
                        const figures *baseline) {
    const cento_stats *stats = &measured->stats;
    uint64_t page_bytes = stats->kv_pool_bytes / stats->pages_total;
    double held = (double)((stats->pages_total - stats->pages_free) * page_bytes);
    uint64_t allocated = stats->kv_physical_bytes_at_peak + stats->metadata_bytes;
    uint64_t baseline_allocated = baseline->stats.kv_physical_bytes_at_peak + baseline->stats.metadata_bytes;
    json_t *values = json_pack(
        "{s:f, s:I, s:I, s:I, s:f, s:I, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:b, "
        "s:I}",
        "memory_savings", stats->memory_savings_peak, "kv_logical_bytes",
        (json_int_t)stats->kv_logical_bytes_peak, "kv_physical_bytes",
        (json_int_t)stats->kv_physical_bytes_at_peak, "metadata_bytes", (json_int_t)stats->metadata_bytes,
        "metadata_fraction", held > 0 ? (double)stats->metadata_bytes / held : 0.0, "allocated_bytes",
        (json_int_t)allocated, "allocated_savings", savings((double)allocated, (double)baseline_allocated),
        "prompt_tokens", (json_int_t)measured->prompt_tokens, "computed_tokens",
        (json_int_t)measured->computed_tokens, "completion_tokens", (json_int_t)measured->completion_tokens,
        "preemptions", (json_int_t)measured->preemptions, "kv_read_savings",
        savings((double)stats->kv_bytes_read, (double)stats->kv_bytes_read_unshared), "ttft_ms_p50",
        measured->ttft_ms_p50, "ttft_ms_p99", measured->ttft_ms_p99, "tokens_per_s",
        (double)measured->completion_tokens / measured->seconds, "seconds", measured->seconds,
        "sequences_max", (json_int_t)measured->sequences_max, "kv_pool_tokens",
        (json_int_t)measured->kv_pool_tokens, "pool_holds_all", (int)measured->pool_holds_all,
        "answers_differing", (json_int_t)answers_differing(measured, full));
    bool added = values != NULL && json_object_update(object, values) == 0;
    json_decref(values);
    return added;
}

/* Measures one workload in all three ways. */
static cento_status run_workload(const bench_compose_options *options, const bench_model_sizes *model,
                                 const workload *work, json_t *report, cento_error *error) {
    static const char *const mode_names[] = {"exact", "independent"};
    figures full = {0}, cascade_off = {0}, baseline = {0};
    cento_status status;
    json_t *object = json_pack("{s:s, s:s, s:I}", "name", work->name, "mode",
                               mode_names[work->mode == CENTO_MODE_INDEPENDENT], "requests",
                               (json_int_t)work->conversation_count * work->turns);
    json_t *off = json_object(), *base = json_object();
    TRY_GOTO(status, measure(options, model, work, true, true, &full, error), done);
    TRY_GOTO(status, measure(options, model, work, false, true, &cascade_off, error), done);
    TRY_GOTO(status, measure(options, model, work, false, false, &baseline, error), done);
    if (object == NULL || !add_figures(object, &full, &full, &baseline) ||
        !add_figures(off, &cascade_off, &full, &baseline) ||
        !add_figures(base, &baseline, &full, &baseline) || json_object_set(object, "cascade_off", off) != 0 ||
        json_object_set(object, "baseline", base) != 0 ||
        json_array_append(json_object_get(report, "workloads"), object) != 0 ||
        json_object_set_new(report, "model",
                            json_string(options->geometry == NULL ? full.model : options->geometry)) != 0 ||
        json_object_set_new(report, "backend", json_string(full.backend)) != 0)
        status = error_memory(error, 0);
done:
    json_decref(object);
    json_decref(off);
    json_decref(base);
    figures_free(&full);
    figures_free(&cascade_off);
    figures_free(&baseline);
    return status;
}

typedef cento_status (*make_workload)(workload *made, const bench_compose_options *options,
                                      uint32_t vocab_size, cento_error *error);

static cento_status make_agents(workload *made, const bench_compose_options *options, uint32_t vocab_size,
                                cento_error *error) {
    return make_shared(made, options, options->project_tokens, options->agents, options->turns, vocab_size,
                       error);
}

static cento_status make_few_shot(workload *made, const bench_compose_options *options, uint32_t vocab_size,
                                  cento_error *error) {
    return make_shared(made, options, options->prefix_tokens, options->requests, 1, vocab_size, error);
}

static const struct {
    unsigned bit;
    const char *name;
    cento_mode mode;
    make_workload make;
} workloads[] = {
    {BENCH_COMPOSE_RAG, "rag", CENTO_MODE_INDEPENDENT, make_rag},
    {BENCH_COMPOSE_RAG, "rag-exact", CENTO_MODE_EXACT, make_rag},
    {BENCH_COMPOSE_AGENTS, "agents", CENTO_MODE_EXACT, make_agents},
    {BENCH_COMPOSE_FEW_SHOT, "few-shot", CENTO_MODE_EXACT, make_few_shot},
};

static cento_status check_options(const bench_compose_options *options, const bench_model_sizes *model,
                                  cento_error *error) {
    if (options->documents_per_request > options->documents)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%u documents in a request, expected at most the %u that there are",
                         options->documents_per_request, options->documents);
    if (model->vocab_size < 64)
        return error_set(error, CENTO_UNSUPPORTED, "the model knows %u tokens, expected at least 64",
                         model->vocab_size);
    return CENTO_OK;
}

cento_status bench_compose(const bench_compose_options *options, json_t **report, cento_error *error) {
    bench_model_sizes model;
    TRY(bench_engine_sizes(&options->engine, options->geometry, &model, error));
    TRY(check_options(options, &model, error));
    json_t *made = json_pack("{s:[]}", "workloads");
    if (made == NULL)
        return error_memory(error, 0);
    cento_status status = CENTO_OK;
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0] && status == CENTO_OK; i++) {
        if ((options->workloads & workloads[i].bit) == 0)
            continue;
        workload work = {.name = workloads[i].name, .mode = workloads[i].mode};
        status = workloads[i].make(&work, options, model.vocab_size, error);
        if (status == CENTO_OK)
            status = run_workload(options, &model, &work, made, error);
        workload_free(&work);
    }
    if (status != CENTO_OK) {
        json_decref(made);
        return status;
    }
    *report = made;
    return CENTO_OK;
}
