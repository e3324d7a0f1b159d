/* cento_generate: check, build the prompt, lay it out, compute, sample, keep; one request at a time. */
#include "generate.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"

/* ------------------------------------------------------------------ checks ---- */

static cento_status check_request(const cento_engine *engine, const cento_request *request,
                                  cento_error *error) {
    if ((int)request->mode < CENTO_MODE_EXACT || request->mode > CENTO_MODE_LINK)
        return error_set(error, CENTO_INVALID_ARGUMENT, "mode is %d, expected one of cento_mode",
                         (int)request->mode);
    if (request->mode != CENTO_MODE_EXACT && engine->config.rope == ROPE_DYNAMIC)
        return error_set(error, CENTO_UNSUPPORTED,
                         "this model's rotary frequencies change with the prompt's length (dynamic NTK): its "
                         "chunks cannot be moved, only exact composition is possible");
    TRY(sampler_validate(&request->sampling, engine->config.vocab_size, error));
    uint32_t logprobs_max =
        engine->config.vocab_size < SAMPLER_LOGPROBS_MAX ? engine->config.vocab_size : SAMPLER_LOGPROBS_MAX;
    if (request->logprobs > logprobs_max)
        return error_set(error, CENTO_INVALID_ARGUMENT, "logprobs is %u, expected at most %u",
                         request->logprobs, logprobs_max);
    if (request->stop_count > 0 && request->stop == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "stop is NULL, stop_count is %zu",
                         request->stop_count);
    if (request->stop_token_count > 0 && request->stop_tokens == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "stop_tokens is NULL, stop_token_count is %zu",
                         request->stop_token_count);
    for (size_t i = 0; i < request->stop_count; i++) {
        const char *stop = request->stop[i];
        if (stop == NULL || stop[0] == '\0' || !utf8_valid(stop, strlen(stop)))
            return error_set(error, CENTO_INVALID_ARGUMENT, "stop string %zu is %s", i,
                             stop == NULL || stop[0] == '\0' ? "empty" : "not valid UTF-8");
    }
    return CENTO_OK;
}

static cento_status check_context(generation *run, cento_error *error) {
    const cento_engine *engine = run->engine;
    size_t prompt_tokens = run->built.tokens.count;
    if (prompt_tokens >= engine->context_tokens_max)
        return error_set(error, CENTO_CONTEXT_FULL,
                         "the prompt has %zu tokens, the context holds %u, of which at least one is for the "
                         "answer",
                         prompt_tokens, engine->context_tokens_max);
    uint32_t room = engine->context_tokens_max - (uint32_t)prompt_tokens;
    uint32_t wanted = run->request->completion_tokens_max;
    run->completion_limit = wanted == 0 || wanted > room ? room : wanted;
    if (wanted == 0) { /* as much as there is: of the pool, too */
        uint32_t pool_room = sequence_completion_room(engine, &run->laid_out);
        if (run->completion_limit > pool_room)
            run->completion_limit = pool_room == 0 ? 1 : pool_room;
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ the answer ---- */

static bool ends_answer(const generation *run, int32_t token) {
    const cento_request *request = run->request;
    const model_config *config = &run->engine->config;
    for (size_t i = 0; i < request->stop_token_count; i++) {
        if (request->stop_tokens[i] == token)
            return true;
    }
    if (request->ignore_eos)
        return false;
    for (uint32_t i = 0; i < config->eos_count; i++) {
        if (config->eos_tokens[i] == token)
            return true;
    }
    return token == tokenizer_eos(run->engine->format.tokens);
}

static cento_status keep_logprobs(generation *run, int32_t token, cento_error *error) {
    if (run->request->logprobs == 0)
        return CENTO_OK;
    size_t width = 1 + (size_t)run->request->logprobs;
    size_t needed = (run->answer.count + 1) * width;
    if (!mem_grow((void **)&run->logprobs, &run->logprob_capacity, needed, sizeof *run->logprobs))
        return error_memory(error, needed * sizeof *run->logprobs);
    sampler_logprobs(run->engine->logits, run->engine->config.vocab_size, token, run->request->logprobs,
                     run->logprobs + run->answer.count * width);
    return CENTO_OK;
}

/* Shows what is certain now. false: the caller has had enough. */
static bool deliver(generation *run, bool also_if_empty) {
    size_t bytes;
    const char *fresh = answer_text_take_new(&run->text, &bytes);
    if (run->request->on_delta == NULL || (bytes == 0 && !also_if_empty))
        return true;
    cento_delta delta = {"", 0, (uint32_t)run->answer.count};
    if (bytes == 0)
        return run->request->on_delta(run->request->on_delta_user, &delta);
    /* held-back text may follow: the NUL stands in its place for the time of the call */
    char *end = run->text.text.data + (fresh - run->text.text.data) + bytes;
    char behind = *end;
    *end = '\0';
    delta.text = fresh;
    delta.text_bytes = bytes;
    bool wanted = run->request->on_delta(run->request->on_delta_user, &delta);
    *end = behind;
    return wanted;
}

/* Takes a sampled token into the answer. *done: it was the last one, run->finish says why. */
static cento_status accept_token(generation *run, int32_t token, bool *done, cento_error *error) {
    *done = true;
    run->finish = CENTO_FINISH_STOP;
    if (ends_answer(run, token))
        return CENTO_OK;
    TRY(keep_logprobs(run, token, error));
    TRY(token_vec_push(&run->answer, token, error));
    TRY(sequence_reserve(&run->state, (uint32_t)run->answer.count, error));
    sampler_accept(run->engine->sampler, token);
    TRY(answer_text_push(&run->text, token, error));
    if (run->text.stopped) {
        run->answer.count--; /* the token that ended it is not part of it */
        return CENTO_OK;
    }
    if (!deliver(run, true) || engine_is_cancelled(run->engine))
        run->finish = CENTO_FINISH_CANCELLED;
    else if (run->answer.count == run->completion_limit)
        run->finish = CENTO_FINISH_LENGTH;
    else
        *done = false;
    return CENTO_OK;
}

static cento_status decode(generation *run, cento_error *error) {
    cento_engine *engine = run->engine;
    for (;;) {
        int32_t token;
        bool done;
        TRY(sampler_next(engine->sampler, engine->logits, &token, error));
        if (run->first_token_ns == 0)
            run->first_token_ns = clock_now_ns();
        TRY(accept_token(run, token, &done, error));
        if (done)
            break;
        TRY(sequence_step(&run->state, token, error));
        run->steps++;
    }
    TRY(answer_text_finish(&run->text, error));
    if (run->finish != CENTO_FINISH_CANCELLED)
        (void)deliver(run, false);
    return CENTO_OK;
}

/* ------------------------------------------------------------------ one request ---- */

static uint64_t system_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = clock_now_ns();
    return seed;
}

static cento_status prepare(generation *run, cento_error *error) {
    cento_engine *engine = run->engine;
    const cento_request *request = run->request;
    TRY(check_request(engine, request, error));
    TRY(prompt_build(&engine->format, request->pieces, request->piece_count, request->raw, &run->built,
                     error));
    run->options = (composition_options){
        .mode = request->mode,
        .link_tokens = request->link_tokens,
        .anchored = request->anchored,
        .scope = engine_kv_scope(engine, request->salt),
        .tokenizer_fingerprint = tokenizer_fingerprint(engine->format.tokens),
    };
    TRY(composition_lay_out(&run->built, request->pieces, &run->options, &run->laid_out, error));
    TRY(check_context(run, error));
    answer_text_init(&run->text, engine->format.tokens, request->stop, request->stop_count);
    uint64_t seed = request->sampling.seed_set ? 0 : system_seed();
    sampler_begin(engine->sampler, &request->sampling, seed, run->built.tokens.ids, run->built.tokens.count);
    return sequence_begin(engine, &run->built, &run->laid_out, request->pieces, run->completion_limit,
                          &run->state, error);
}

/* CANCELLED with a result, OK with a result, or a failure without one. */
static cento_status run_request(generation *run, cento_result **result, cento_error *error) {
    run->begin_ns = clock_now_ns();
    run->forward_tokens_before = engine_forward_tokens(run->engine);
    TRY(prepare(run, error));
    cento_status status = sequence_prefill(&run->state, error);
    run->prefilled_ns = clock_now_ns();
    if (status == CENTO_CANCELLED)
        run->finish = CENTO_FINISH_CANCELLED;
    else
        TRY(status);
    if (status == CENTO_OK)
        TRY(decode(run, error));
    run->end_ns = clock_now_ns();
    TRY(result_create(run, result, error));
    sequence_keep_answer(&run->state, &run->options, run->answer.ids, run->answer.count);
    if (run->finish == CENTO_FINISH_CANCELLED)
        return error_set(error, CENTO_CANCELLED, "cancelled after %zu tokens of the answer",
                         run->answer.count);
    return CENTO_OK;
}

cento_status cento_generate(cento_engine *engine, const cento_request *request, cento_result **result,
                            cento_error *error) {
    if (engine == NULL || request == NULL || result == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL",
                         engine == NULL    ? "engine"
                         : request == NULL ? "request"
                                           : "result");
    uint64_t start_ns = clock_now_ns();
    pthread_mutex_lock(&engine->lock);
    atomic_store(&engine->run_state, ENGINE_RUNNING);
    generation run = {.engine = engine, .request = request, .start_ns = start_ns};
    cento_status status = run_request(&run, result, error);
    sequence_end(&run.state);
    answer_text_free(&run.text);
    mem_free(run.logprobs);
    token_vec_free(&run.answer);
    composition_free(&run.laid_out);
    prompt_free(&run.built);
    atomic_store(&engine->run_state, ENGINE_IDLE);
#ifndef NDEBUG
    cento_error broken;
    assert(chunk_registry_check(engine->registry, &broken) == CENTO_OK);
#endif
    pthread_mutex_unlock(&engine->lock);
    return status;
}
