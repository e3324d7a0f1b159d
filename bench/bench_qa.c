/* The question-answering benchmark; see bench_qa.h. */
#include "bench_qa.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

enum {
    QUESTIONS_BYTES_MAX = 512 << 20,
    DOCUMENTS_PER_QUESTION_MAX = 256,
    TURNS_MAX = 64,
    ANSWER_TOKENS_MAX = 128
};

/* ------------------------------------------------------------------------------- counting --- */

typedef struct tally {
    uint64_t correct, total;
} tally;

static void count(tally *counted, bool correct) {
    counted->correct += correct;
    counted->total++;
}

static json_t *accuracy(uint64_t correct, uint64_t total) {
    return json_real(total == 0 ? 0 : (double)correct / (double)total);
}

/* Kinds are found while counting: {kind: [correct, total]}. */
static bool count_kind(json_t *kinds, const char *kind, bool correct) {
    json_t *pair = json_object_get(kinds, kind);
    if (pair == NULL) {
        pair = json_pack("[i, i]", 0, 0);
        if (json_object_set_new(kinds, kind, pair) != 0)
            return false;
    }
    json_t *right = json_array_get(pair, 0), *total = json_array_get(pair, 1);
    return json_integer_set(right, json_integer_value(right) + correct) == 0 &&
           json_integer_set(total, json_integer_value(total) + 1) == 0;
}

static json_t *report_kinds(json_t *kinds) {
    json_t *report = json_object();
    const char *kind;
    json_t *pair;
    json_object_foreach(kinds, kind, pair) {
        json_int_t correct = json_integer_value(json_array_get(pair, 0));
        json_int_t total = json_integer_value(json_array_get(pair, 1));
        json_object_set_new(report, kind, accuracy((uint64_t)correct, (uint64_t)total));
    }
    return report;
}

static json_t *report_documents(const tally *by_documents) {
    json_t *report = json_object();
    for (size_t i = 0; i <= DOCUMENTS_PER_QUESTION_MAX; i++) {
        char name[24];
        snprintf(name, sizeof name, "%zu", i);
        if (by_documents[i].total > 0)
            json_object_set_new(report, name, accuracy(by_documents[i].correct, by_documents[i].total));
    }
    return report;
}

/* What one mode's run adds up. */
typedef struct mode_run {
    tally all;
    tally by_documents[DOCUMENTS_PER_QUESTION_MAX + 1];
    json_t *by_kind, *failures;
    uint64_t prompt_tokens, cached_tokens, approximate_tokens, recomputed_tokens, computed_tokens;
    uint64_t started_ns;
} mode_run;

static json_t *mode_run_report(const mode_run *run) {
    return json_pack("{s:o, s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:f, s:O}", "accuracy",
                     accuracy(run->all.correct, run->all.total), "questions", (json_int_t)run->all.total,
                     "correct", (json_int_t)run->all.correct, "by_documents",
                     report_documents(run->by_documents), "by_kind", report_kinds(run->by_kind),
                     "prompt_tokens", (json_int_t)run->prompt_tokens, "cached_tokens",
                     (json_int_t)run->cached_tokens, "approximate_tokens",
                     (json_int_t)run->approximate_tokens, "recomputed_tokens",
                     (json_int_t)run->recomputed_tokens, "computed_tokens", (json_int_t)run->computed_tokens,
                     "seconds", clock_ms_since(run->started_ns) * 1e-3, "failures", run->failures);
}

/* ------------------------------------------------------------------------------- the file --- */

typedef struct question_set {
    json_t *root;
    const char *path;
    const char *system;      /* NULL: none */
    const json_t *documents; /* array of strings */
    const json_t *questions; /* array of objects, checked */
} question_set;

static cento_status malformed(const question_set *set, size_t index, const char *what, cento_error *error) {
    return error_set(error, CENTO_INVALID_ARGUMENT, "%s: questions[%zu]: %s", set->path, index, what);
}

static cento_status check_question(const question_set *set, size_t index, cento_error *error) {
    const json_t *question = json_array_get(set->questions, index);
    const json_t *documents = json_object_get(question, "documents");
    if (!json_is_string(json_object_get(question, "kind")))
        return malformed(set, index, "'kind' must be a string", error);
    if (!json_is_array(documents) || json_array_size(documents) > DOCUMENTS_PER_QUESTION_MAX)
        return malformed(set, index, "'documents' must be an array of at most 256 indexes", error);
    for (size_t i = 0; i < json_array_size(documents); i++) {
        const json_t *place = json_array_get(documents, i);
        if (!json_is_integer(place) || json_integer_value(place) < 0 ||
            (size_t)json_integer_value(place) >= json_array_size(set->documents))
            return malformed(set, index, "'documents' holds something that is no index of a document", error);
    }
    const json_t *turns = json_object_get(question, "turns");
    if (turns != NULL &&
        (!json_is_array(turns) || json_array_size(turns) == 0 || json_array_size(turns) > TURNS_MAX))
        return malformed(set, index, "'turns' must be an array of 1 to 64 turns", error);
    size_t turn_count = turns == NULL ? 1 : json_array_size(turns);
    for (size_t i = 0; i < turn_count; i++) {
        const json_t *turn = turns == NULL ? question : json_array_get(turns, i);
        if (!json_is_string(json_object_get(turn, "query")) ||
            !json_is_string(json_object_get(turn, "answer")))
            return malformed(set, index, "'query' and 'answer' must be strings", error);
    }
    return CENTO_OK;
}

static cento_status question_set_open(const char *path, question_set *set, cento_error *error) {
    *set = (question_set){.path = path};
    TRY(json_read_file(path, QUESTIONS_BYTES_MAX, &set->root, error));
    uint32_t version = 0;
    if (!json_is_object(set->root))
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: expected an object, found %s", path,
                         json_type_name(set->root));
    TRY(json_get_u32_required(set->root, path, "version", 1, 1, &version, error));
    TRY(json_get_string(set->root, path, "system", &set->system, error));
    set->documents = json_object_get(set->root, "documents");
    set->questions = json_object_get(set->root, "questions");
    if (!json_is_array(set->documents) || !json_is_array(set->questions) ||
        json_array_size(set->questions) == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%s: 'documents' and 'questions' must be arrays, 'questions' not empty", path);
    for (size_t i = 0; i < json_array_size(set->documents); i++)
        if (!json_is_string(json_array_get(set->documents, i)))
            return error_set(error, CENTO_INVALID_ARGUMENT, "%s: documents[%zu] is not a string", path, i);
    for (size_t i = 0; i < json_array_size(set->questions); i++)
        TRY(check_question(set, i, error));
    return CENTO_OK;
}

/* ----------------------------------------------------------------------------- one question --- */

static cento_piece piece_of(cento_kind kind, const json_t *text) {
    return (cento_piece){
        .kind = kind, .text = json_string_value(text), .text_bytes = json_string_length(text)};
}

static void add_usage(mode_run *run, const cento_usage *usage) {
    run->prompt_tokens += usage->prompt_tokens;
    run->cached_tokens += usage->cached_tokens;
    run->approximate_tokens += usage->approximate_tokens;
    run->recomputed_tokens += usage->recomputed_tokens;
    run->computed_tokens += usage->computed_tokens;
}

/* Asks the last piece. *correct: the answer is the expected one; else it is noted as a failure. */
static cento_status ask(cento_engine *engine, cento_request *request, const json_t *turn, size_t index,
                        uint32_t failures_max, mode_run *run, bool *correct, cento_error *error) {
    cento_result *result = NULL;
    cento_status status = cento_generate(engine, request, &result, error);
    if (status != CENTO_OK) {
        cento_result_free(result);
        error_prefix(error, "question %zu", index);
        return status;
    }
    const json_t *expected = json_object_get(turn, "answer");
    *correct = result->text_bytes == json_string_length(expected) &&
               memcmp(result->text, json_string_value(expected), result->text_bytes) == 0;
    add_usage(run, &result->usage);
    if (!*correct && json_array_size(run->failures) < failures_max)
        json_array_append_new(run->failures, json_pack("{s:I, s:O, s:O, s:s%}", "question", (json_int_t)index,
                                                       "query", json_object_get(turn, "query"), "expected",
                                                       expected, "found", result->text, result->text_bytes));
    cento_result_free(result);
    return CENTO_OK;
}

static cento_status ask_question(cento_engine *engine, const question_set *set, size_t index,
                                 const bench_qa_mode *mode, uint32_t failures_max, mode_run *run,
                                 cento_error *error) {
    const json_t *question = json_array_get(set->questions, index);
    const json_t *documents = json_object_get(question, "documents");
    const json_t *turns = json_object_get(question, "turns");
    size_t turn_count = turns == NULL ? 1 : json_array_size(turns);
    cento_piece pieces[1 + DOCUMENTS_PER_QUESTION_MAX + 2 * TURNS_MAX];
    size_t piece_count = 0;
    if (set->system != NULL)
        pieces[piece_count++] = piece_of(CENTO_KIND_SYSTEM, json_object_get(set->root, "system"));
    for (size_t i = 0; i < json_array_size(documents); i++) {
        size_t place = (size_t)json_integer_value(json_array_get(documents, i));
        pieces[piece_count++] = piece_of(CENTO_KIND_CONTEXT, json_array_get(set->documents, place));
    }
    cento_request request = cento_request_default();
    request.mode = mode->mode;
    request.link_tokens = mode->link_tokens;
    request.anchored = mode->anchored;
    request.completion_tokens_max = ANSWER_TOKENS_MAX;
    request.pieces = pieces;
    bool correct = true;
    /* a wrong turn decides the question; after a right one, the model's answer is the expected one */
    for (size_t i = 0; i < turn_count && correct; i++) {
        const json_t *turn = turns == NULL ? question : json_array_get(turns, i);
        pieces[piece_count++] = piece_of(CENTO_KIND_QUERY, json_object_get(turn, "query"));
        request.piece_count = piece_count;
        TRY(ask(engine, &request, turn, index, failures_max, run, &correct, error));
        pieces[piece_count++] = piece_of(CENTO_KIND_OUTPUT, json_object_get(turn, "answer"));
    }
    count(&run->all, correct);
    count(&run->by_documents[json_array_size(documents)], correct);
    if (!count_kind(run->by_kind, json_string_value(json_object_get(question, "kind")), correct))
        return error_memory(error, 0);
    return CENTO_OK;
}

/* -------------------------------------------------------------------------------- all of it --- */

/* Files list kinds and document counts in turn, so that taking every Nth question would meet few of them.
 * Steps near the golden section of the file, without a common divisor, meet all places evenly. */
static size_t question_stride(size_t available, size_t count_wanted) {
    if (count_wanted == available)
        return 1;
    size_t stride = (size_t)((double)available * 0.618);
    for (; stride > 1; stride--) {
        size_t larger = available, smaller = stride;
        while (smaller != 0) {
            size_t rest = larger % smaller;
            larger = smaller;
            smaller = rest;
        }
        if (larger == 1)
            break;
    }
    return stride == 0 ? 1 : stride;
}

static cento_status run_mode(cento_engine *engine, const question_set *set, const bench_qa_options *options,
                             const bench_qa_mode *mode, json_t *modes, cento_error *error) {
    size_t available = json_array_size(set->questions);
    size_t asked = options->limit == 0 || options->limit > available ? available : options->limit;
    size_t stride = question_stride(available, asked);
    mode_run run = {.by_kind = json_object(), .failures = json_array(), .started_ns = clock_now_ns()};
    cento_status status = CENTO_OK;
    for (size_t i = 0; i < asked && status == CENTO_OK; i++) {
        size_t index = (size_t)((uint64_t)i * stride % available);
        status = ask_question(engine, set, index, mode, options->failures_max, &run, error);
        if (status == CENTO_OK && options->on_question != NULL &&
            !options->on_question(options->user, mode->name, i + 1, asked))
            status = error_set(error, CENTO_CANCELLED, "cancelled after %zu questions", i + 1);
    }
    if (status == CENTO_OK && json_object_set_new(modes, mode->name, mode_run_report(&run)) != 0)
        status = error_memory(error, 0);
    json_decref(run.by_kind);
    json_decref(run.failures);
    return status;
}

cento_status bench_qa(cento_engine *engine, const bench_qa_options *options, json_t **report,
                      cento_error *error) {
    question_set set;
    json_t *modes = json_object();
    cento_status status = question_set_open(options->questions_path, &set, error);
    for (size_t i = 0; i < options->mode_count && status == CENTO_OK; i++)
        status = run_mode(engine, &set, options, &options->modes[i], modes, error);
    json_decref(set.root);
    if (status != CENTO_OK) {
        json_decref(modes);
        return status;
    }
    cento_stats stats;
    cento_engine_stats(engine, &stats);
    *report =
        json_pack("{s:s, s:s, s:o}", "model", stats.model_name, "backend", stats.backend, "modes", modes);
    return *report == NULL ? error_memory(error, 0) : CENTO_OK;
}
