/*
 * cento run: answers one or several queries over the same pieces. The first one computes the pieces; as soon
 * as they are there, the others are computed beside it. Answers are streamed to standard output in the order
 * of the queries, or printed as JSON. --batch reads requests from a file instead (batch.c).
 */
#include <string.h>

#include "base/mem.h"
#include "batch.h"
#include "input.h"
#include "result.h"
#include "settings.h"
#include "term.h"

typedef struct run_settings {
    option_list pieces;  /* --system, --chunk, --tool as they came */
    option_list queries; /* --query; positional ones are added */
    bool raw;
    const char *salt;
    uint32_t logprobs;
    bool json;
    bool stats;
    const char *batch, *output;
    bool resume, quiet;
} run_settings;

static const option_spec prompt_specs[] = {
    {"system", OPTION_LIST, offsetof(run_settings, pieces), "TEXT|@FILE", 0, 0, "the system prompt"},
    {"chunk", OPTION_LIST, offsetof(run_settings, pieces), "TEXT|@FILE", 0, 0,
     "a document; may be repeated, the order counts"},
    {"tool", OPTION_LIST, offsetof(run_settings, pieces), "JSON|@FILE", 0, 0,
     "a tool's schema; may be repeated"},
    {"query", OPTION_LIST, offsetof(run_settings, queries), "TEXT|@FILE", 0, 0,
     "a question; may be repeated: each is asked over the same pieces"},
    {"raw", OPTION_FLAG, offsetof(run_settings, raw), NULL, 0, 0,
     "no chat template: the pieces and the query, joined as they are"},
    {"salt", OPTION_TEXT, offsetof(run_settings, salt), "TEXT", 0, 0,
     "share cached chunks only with requests of the same salt"},
};

static const option_spec output_specs[] = {
    {"json", OPTION_FLAG, offsetof(run_settings, json), NULL, 0, 0,
     "print a JSON object; with several queries, an array"},
    {"stats", OPTION_FLAG, offsetof(run_settings, stats), NULL, 0, 0,
     "a table on standard error: tokens reused and computed, times"},
    {"logprobs", OPTION_U32, offsetof(run_settings, logprobs), "N", 0, 20,
     "with --json: log probabilities of each token and of the N likeliest in its place"},
};

static const option_spec batch_specs[] = {
    {"batch", OPTION_TEXT, offsetof(run_settings, batch), "FILE", 0, 0,
     "answer many requests, a JSON object on each line (-: standard input); all other options are what a "
     "line "
     "does not say"},
    {"output", OPTION_TEXT, offsetof(run_settings, output), "FILE", 0, 0,
     "write results there, a JSON object on each line (default: standard output)"},
    {"resume", OPTION_FLAG, offsetof(run_settings, resume), NULL, 0, 0,
     "go on with the results that are in --output FILE: only what is not answered there is asked"},
    {"quiet", OPTION_FLAG, offsetof(run_settings, quiet), NULL, 0, 0, "no progress and no summary"},
};

/* The texts and the pieces made of them. pieces[piece_count - 1] is the place of the query. */
typedef struct prompt {
    input_text *texts; /* (piece_count - 1), owned */
    cento_piece *pieces;
    size_t piece_count;
    input_text *queries;
    size_t query_count;
} prompt;

static void prompt_free(prompt *made) {
    for (size_t i = 0; made->texts != NULL && i + 1 < made->piece_count; i++)
        input_text_free(&made->texts[i]);
    for (size_t i = 0; made->queries != NULL && i < made->query_count; i++)
        input_text_free(&made->queries[i]);
    mem_free(made->texts);
    mem_free(made->pieces);
    mem_free(made->queries);
    *made = (prompt){0};
}

static cento_kind kind_of_option(const option_spec *spec) {
    if (strcmp(spec->name, "system") == 0)
        return CENTO_KIND_SYSTEM;
    return strcmp(spec->name, "tool") == 0 ? CENTO_KIND_TOOL : CENTO_KIND_CONTEXT;
}

static cento_piece piece_of(cento_kind kind, const input_text *text) {
    return (cento_piece){.kind = kind, .text = text->text, .text_bytes = text->bytes, .label = text->label};
}

/* In a chat template the system message and its tools come first, wherever the options stood. */
static void sort_pieces(cento_piece *pieces, size_t count) {
    static const cento_kind order[] = {CENTO_KIND_SYSTEM, CENTO_KIND_TOOL, CENTO_KIND_CONTEXT};
    size_t sorted = 0;
    for (size_t o = 0; o < sizeof order / sizeof order[0]; o++)
        for (size_t i = sorted; i < count; i++)
            if (pieces[i].kind == order[o]) {
                cento_piece moved = pieces[i];
                memmove(&pieces[sorted + 1], &pieces[sorted], (i - sorted) * sizeof *pieces);
                pieces[sorted++] = moved;
            }
}

/* Returns -1 or the exit status. The prompt is freed by the caller in both cases. */
static int prompt_read(const run_settings *settings, prompt *made) {
    size_t count = settings->pieces.count;
    made->piece_count = count + 1;
    made->query_count = settings->queries.count;
    made->texts = mem_zalloc(count, sizeof *made->texts);
    made->pieces = mem_zalloc(count + 1, sizeof *made->pieces);
    made->queries = mem_zalloc(made->query_count, sizeof *made->queries);
    if (made->texts == NULL || made->pieces == NULL || made->queries == NULL) {
        message_error("out of memory");
        return EXIT_STATUS_FAILURE;
    }
    cento_error error;
    char option[32];
    for (size_t i = 0; i < count; i++) {
        const option_value *value = &settings->pieces.items[i];
        snprintf(option, sizeof option, "--%s", value->spec->name);
        if (input_read(option, value->text, INPUT_NEWLINE_STRIP, &made->texts[i], &error) != CENTO_OK)
            return input_fail(&error);
        made->pieces[i] = piece_of(kind_of_option(value->spec), &made->texts[i]);
    }
    for (size_t i = 0; i < made->query_count; i++)
        if (input_read("--query", settings->queries.items[i].text, INPUT_NEWLINE_STRIP, &made->queries[i],
                       &error) != CENTO_OK)
            return input_fail(&error);
    if (!settings->raw)
        sort_pieces(made->pieces, count);
    return -1;
}

typedef struct run_output {
    json_t *answers; /* an array; NULL without --json */
    table stats;
    cento_tokenizer *tokenizer; /* for the texts of logprobs; NULL without them */
    double load_ms;
} run_output;

/* What on_delta needs: of several requests, only the one that is waited for calls it. */
typedef struct delta_sink {
    bool streaming;
    bool begun; /* the first token is there */
} delta_sink;

static bool take_delta(void *user, const cento_delta *delta) {
    delta_sink *sink = user;
    sink->begun = true;
    if (!sink->streaming)
        return true;
    progress_clear();
    return output_write(delta->text, delta->text_bytes);
}

static void print_heading(const input_text *query, size_t index) {
    printf("%s%s> ", index > 0 ? "\n" : "", style(stdout, STYLE_ACCENT));
    print_text(stdout, query->text, query->bytes);
    printf("%s\n", style(stdout, STYLE_PLAIN));
}

/* Waits for an answer and shows it. Returns -1 or the exit status. */
static int show_answer(const run_settings *settings, cento_generation *generation, size_t index,
                       run_output *output) {
    bool streaming = output->answers == NULL;
    cento_error error;
    cento_result *result = NULL;
    cento_status status = cento_generation_result(generation, &result, &error);
    progress_clear();
    int exit_status = -1;
    if (status == CENTO_CANCELLED && streaming) {
        exit_status = EXIT_STATUS_FAILURE; /* output_finish says why */
    } else if (status != CENTO_OK) {
        exit_status = fail(&error);
    } else if (streaming) {
        putchar('\n');
    } else {
        json_t *answer = result_to_json(result, output->load_ms, output->tokenizer);
        if (answer == NULL || json_array_append_new(output->answers, answer) != 0) {
            message_error("out of memory");
            exit_status = EXIT_STATUS_FAILURE;
        }
    }
    if (exit_status < 0 && settings->stats)
        stats_table_add(&output->stats, index + 1, result);
    cento_result_free(result);
    return exit_status;
}

/* The requests of a run: one for each query, or one for the pieces alone. */
typedef struct asking {
    cento_engine *engine;
    cento_request *request; /* its last piece is the query's place */
    prompt *made;
    cento_generation **generations; /* (count), owned */
    size_t count, submitted;
} asking;

static cento_status submit_next(asking *asked, cento_error *error) {
    prompt *made = asked->made;
    if (made->query_count > 0)
        made->pieces[made->piece_count - 1] = piece_of(CENTO_KIND_QUERY, &made->queries[asked->submitted]);
    TRY(cento_submit(asked->engine, asked->request, &asked->generations[asked->submitted], error));
    asked->submitted++;
    return CENTO_OK;
}

/* Submits the queries after `index` that may be computed beside it. One that is refused now is asked again
 * when its turn comes, and complained about then. */
static void submit_ahead(asking *asked, size_t index, delta_sink *sink) {
    enum { AHEAD_MAX = 32, MOMENT_MS = 5 };
    /* the first one computes what the others then find */
    while (index == 0 && asked->count > 1 && !sink->begun && !cento_wait(asked->generations[0], MOMENT_MS))
        continue;
    while (asked->submitted < asked->count && asked->submitted <= index + AHEAD_MAX)
        if (submit_next(asked, NULL) != CENTO_OK)
            break;
}

static int ask_each(const run_settings *settings, asking *asked, delta_sink *sink, run_output *output) {
    cento_error error;
    int status = -1;
    for (size_t i = 0; i < asked->count && status < 0; i++) {
        if (asked->count > 1 && sink->streaming && term_is_tty(stdout))
            print_heading(&asked->made->queries[i], i);
        if (i == asked->submitted && submit_next(asked, &error) != CENTO_OK)
            return fail(&error);
        submit_ahead(asked, i, sink);
        status = show_answer(settings, asked->generations[i], i, output);
        cento_generation_free(asked->generations[i]);
        asked->generations[i] = NULL;
    }
    return status;
}

static int ask_all(const run_settings *settings, cento_engine *engine, request_frame *frame, prompt *made,
                   run_output *output) {
    cento_request *request = &frame->request;
    delta_sink sink = {.streaming = output->answers == NULL};
    request->pieces = made->pieces;
    request->piece_count = made->query_count == 0 ? made->piece_count - 1 : made->piece_count;
    request->on_delta = take_delta;
    request->on_delta_user = &sink;
    asking asked = {.engine = engine, .request = request, .made = made};
    asked.count = made->query_count == 0 ? 1 : made->query_count;
    asked.generations = mem_zalloc(asked.count, sizeof *asked.generations);
    if (asked.generations == NULL) {
        message_error("out of memory");
        return EXIT_STATUS_FAILURE;
    }
    int status = ask_each(settings, &asked, &sink, output);
    for (size_t i = 0; i < asked.count; i++)
        cento_generation_free(asked.generations[i]);
    mem_free(asked.generations);
    return status;
}

/* Prints what is not streamed. */
static int print_output(const run_settings *settings, run_output *output, int status) {
    if (output->answers != NULL && status < 0) {
        json_t *value = output->answers;
        if (settings->queries.count <= 1)
            value = json_incref(json_array_get(value, 0));
        else
            json_incref(value);
        status = print_json(value);
    } else {
        int written = output_finish();
        if (status < 0)
            status = written;
    }
    if (settings->stats && output->stats.cell_count > output->stats.columns) {
        fputs(term_is_tty(stderr) && term_is_tty(stdout) ? "\n" : "", stderr);
        table_print(&output->stats, stderr, true);
    }
    strbuf_free(&output->stats.cells);
    json_decref(output->answers);
    cento_tokenizer_close(output->tokenizer);
    return status;
}

/* Everything about the command line and the files is checked before the model is loaded. */
typedef struct run_state {
    prompt made;
    request_frame frame;
    cento_engine *engine;
    char *model_path;
    batch *many; /* NULL without --batch */
} run_state;

static int answer_queries(const run_settings *settings, run_state *state) {
    run_output output = {0};
    cento_error error;
    cento_stats stats;
    if (settings->logprobs > 0 &&
        cento_tokenizer_open(state->model_path, &output.tokenizer, &error) != CENTO_OK)
        return fail(&error);
    cento_engine_stats(state->engine, &stats);
    output.load_ms = stats.load_ms;
    if (settings->json)
        output.answers = json_array();
    stats_table_init(&output.stats);
    int status = ask_all(settings, state->engine, &state->frame, &state->made, &output);
    return print_output(settings, &output, status);
}

static int run_with(const command *self, const run_settings *settings, const engine_settings *engine_options,
                    const mode_settings *mode, const sampling_settings *sampling) {
    const batch_options batch_of = {settings->batch, settings->output, settings->resume, settings->quiet,
                                    settings->stats};
    run_state state = {0};
    int status = request_frame_init(self, mode, sampling, NULL, &state.frame);
    if (status < 0)
        status = prompt_read(settings, &state.made);
    if (status < 0 && settings->batch != NULL)
        status = batch_open(self, &batch_of, &state.many);
    if (status < 0)
        status = engine_open(self, engine_options, &state.engine, &state.model_path);
    if (status < 0) {
        request_frame_free(&state.frame);
        status = request_frame_init(self, mode, sampling, state.engine, &state.frame);
    }
    if (status < 0) {
        cento_request *request = &state.frame.request;
        request->raw = settings->raw;
        request->salt = settings->salt;
        request->logprobs = settings->logprobs;
        const batch_defaults defaults = {request, state.made.pieces, state.made.piece_count - 1};
        status = state.many == NULL ? answer_queries(settings, &state)
                                    : batch_answer(state.many, state.engine, state.model_path,
                                                   engine_options->max_sequences, &defaults);
    }
    batch_close(state.many);
    cento_close(state.engine);
    mem_free(state.model_path);
    request_frame_free(&state.frame);
    prompt_free(&state.made);
    return status;
}

static bool is_standard_input(const char *text) {
    return strcmp(text, "-") == 0 || strcmp(text, "@-") == 0;
}

/* Which options go with which. Returns -1 or the exit status. */
static int check_settings(const command *self, const run_settings *settings) {
    if (settings->batch == NULL) {
        const char *alone = settings->output != NULL ? "output"
                            : settings->resume       ? "resume"
                            : settings->quiet        ? "quiet"
                                                     : NULL;
        if (alone != NULL)
            return usage_error(self, "--%s goes with --batch FILE", alone);
        if (settings->queries.count == 0 && (!settings->raw || settings->pieces.count == 0))
            return usage_error(self, "expected a question: --query TEXT");
        if (settings->logprobs > 0 && !settings->json)
            return usage_error(self, "--logprobs needs --json");
        return -1;
    }
    if (settings->queries.count > 0)
        return usage_error(self,
                           "--batch: expected the questions in its file, found one on the command line");
    for (size_t i = 0; i < settings->pieces.count; i++)
        if (is_standard_input(settings->batch) && is_standard_input(settings->pieces.items[i].text))
            return usage_error(self, "--batch and --%s both read standard input",
                               settings->pieces.items[i].spec->name);
    return -1;
}

static int run(const command *self, int argc, char **argv) {
    run_settings settings = {0};
    engine_settings engine_options = {0};
    mode_settings mode = {0};
    sampling_settings sampling = sampling_settings_default();
    const option_group groups[] = {
        {"Prompt", prompt_specs, sizeof prompt_specs / sizeof prompt_specs[0], &settings},
        {"Reuse", mode_specs, mode_spec_count, &mode},
        {"Many requests", batch_specs, sizeof batch_specs / sizeof batch_specs[0], &settings},
        {"Output", output_specs, sizeof output_specs / sizeof output_specs[0], &settings},
        {"Sampling", sampling_specs, sampling_spec_count, &sampling},
        {"Engine", engine_specs, engine_spec_count, &engine_options},
    };
    int status = options_parse(self, groups, sizeof groups / sizeof groups[0], &argc, argv);
    for (int i = 0; i < argc && status < 0; i++) {
        option_list *queries = &settings.queries;
        if (mem_grow((void **)&queries->items, &queries->capacity, queries->count + 1,
                     sizeof *queries->items)) {
            queries->items[queries->count++] = (option_value){.text = argv[i]};
        } else {
            message_error("out of memory");
            status = EXIT_STATUS_FAILURE;
        }
    }
    if (status < 0)
        status = check_settings(self, &settings);
    if (status < 0)
        status = run_with(self, &settings, &engine_options, &mode, &sampling);
    option_list_free(&settings.pieces);
    option_list_free(&settings.queries);
    sampling_settings_free(&sampling);
    return status;
}

const command run_command = {
    .name = "run",
    .summary = "answer questions over documents",
    .usage = "[options] [QUERY …]\n       cento run [options] --batch FILE",
    .details =
        "Composes a prompt from a system prompt, documents and a question, answers it, and reuses what is "
        "already computed: of several questions, the later ones find the documents done. With --batch, a "
        "file "
        "of requests.\n\n"
        "TEXT stands for itself, @FILE for the file's text, - for standard input, @@TEXT for a text that "
        "begins with @. One newline at the end of a file is not part of its text.",
    .examples =
        "  cento run --system \"Answer from the documents.\" --chunk @a.txt --chunk @b.txt \\\n"
        "      --query \"Where is Crystalton?\"\n"
        "  cento run --mode independent --stats --chunk @a.txt --chunk @b.txt \\\n"
        "      --query \"Where is Crystalton?\" --query \"What is Crystalton known for?\"\n"
        "  cento run --system \"Answer from the documents.\" --batch questions.jsonl --output answers.jsonl\n"
        "  git diff | cento run --model ~/models/Qwen3-0.6B --chunk - \"What changed?\"\n",
    .run = run,
};
