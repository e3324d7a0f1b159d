/*
 * cento run: answers one or several queries over the same pieces, in one process, so that what the first
 * query computed is there for the next. Streams answers to standard output, or prints JSON.
 */
#include <string.h>

#include "base/mem.h"
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

static bool stream_delta(void *user, const cento_delta *delta) {
    (void)user;
    progress_clear();
    return output_write(delta->text, delta->text_bytes);
}

typedef struct run_output {
    json_t *answers; /* an array; NULL without --json */
    table stats;
    cento_tokenizer *tokenizer; /* for the texts of logprobs; NULL without them */
    double load_ms;
} run_output;

/* Asks one query (NULL: the pieces alone). Returns -1 or the exit status. */
static int ask(const run_settings *settings, cento_engine *engine, cento_request *request,
               const input_text *query, size_t number, run_output *output) {
    bool streaming = output->answers == NULL;
    if (streaming && query != NULL && settings->queries.count > 1 && term_is_tty(stdout)) {
        printf("%s%s> ", number > 1 ? "\n" : "", style(stdout, STYLE_ACCENT));
        print_text(stdout, query->text, query->bytes);
        printf("%s\n", style(stdout, STYLE_PLAIN));
    }
    cento_error error;
    cento_result *result = NULL;
    cento_status status = cento_generate(engine, request, &result, &error);
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
        stats_table_add(&output->stats, number, result);
    cento_result_free(result);
    return exit_status;
}

static int ask_all(const run_settings *settings, cento_engine *engine, request_frame *frame, prompt *made,
                   run_output *output) {
    cento_request *request = &frame->request;
    request->pieces = made->pieces;
    request->raw = settings->raw;
    request->salt = settings->salt;
    request->logprobs = settings->logprobs;
    request->on_delta = output->answers == NULL ? stream_delta : NULL;
    int status = -1;
    if (made->query_count == 0) {
        request->piece_count = made->piece_count - 1;
        return ask(settings, engine, request, NULL, 1, output);
    }
    request->piece_count = made->piece_count;
    for (size_t i = 0; i < made->query_count && status < 0; i++) {
        made->pieces[made->piece_count - 1] = piece_of(CENTO_KIND_QUERY, &made->queries[i]);
        status = ask(settings, engine, request, &made->queries[i], i + 1, output);
    }
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

static int run_with(const command *self, const run_settings *settings, const engine_settings *engine_options,
                    const mode_settings *mode, const sampling_settings *sampling) {
    prompt made = {0};
    request_frame frame = {0};
    cento_engine *engine = NULL;
    char *model_path = NULL;
    run_output output = {0};
    /* everything about the command line and the files is checked before the model is loaded */
    int status = request_frame_init(self, mode, sampling, NULL, &frame);
    if (status < 0)
        status = prompt_read(settings, &made);
    if (status < 0)
        status = engine_open(self, engine_options, &engine, &model_path);
    if (status < 0) {
        request_frame_free(&frame);
        status = request_frame_init(self, mode, sampling, engine, &frame);
    }
    cento_error error;
    if (status < 0 && settings->logprobs > 0 &&
        cento_tokenizer_open(model_path, &output.tokenizer, &error) != CENTO_OK)
        status = fail(&error);
    if (status < 0) {
        cento_stats stats;
        cento_engine_stats(engine, &stats);
        output.load_ms = stats.load_ms;
        if (settings->json)
            output.answers = json_array();
        stats_table_init(&output.stats);
        status = ask_all(settings, engine, &frame, &made, &output);
        status = print_output(settings, &output, status);
    }
    cento_close(engine);
    mem_free(model_path);
    request_frame_free(&frame);
    prompt_free(&made);
    return status;
}

static int run(const command *self, int argc, char **argv) {
    run_settings settings = {0};
    engine_settings engine_options = {0};
    mode_settings mode = {0};
    sampling_settings sampling = sampling_settings_default();
    const option_group groups[] = {
        {"Prompt", prompt_specs, sizeof prompt_specs / sizeof prompt_specs[0], &settings},
        {"Reuse", mode_specs, mode_spec_count, &mode},
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
    if (status < 0 && settings.queries.count == 0 && (!settings.raw || settings.pieces.count == 0))
        status = usage_error(self, "expected a question: --query TEXT");
    if (status < 0 && settings.logprobs > 0 && !settings.json)
        status = usage_error(self, "--logprobs needs --json");
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
    .usage = "[options] [QUERY …]",
    .details =
        "Composes a prompt from a system prompt, documents and a question, answers it, and reuses what is "
        "already computed: of several questions, the later ones find the documents done.\n\n"
        "TEXT stands for itself, @FILE for the file's text, - for standard input, @@TEXT for a text that "
        "begins with @. One newline at the end of a file is not part of its text.",
    .examples = "  cento run --system \"Answer from the documents.\" --chunk @a.txt --chunk @b.txt \\\n"
                "      --query \"Where is Crystalton?\"\n"
                "  cento run --mode independent --stats --chunk @a.txt --chunk @b.txt \\\n"
                "      --query \"Where is Crystalton?\" --query \"What is Crystalton known for?\"\n"
                "  git diff | cento run --model ~/models/Qwen3-0.6B --chunk - \"What changed?\"\n",
    .run = run,
};
