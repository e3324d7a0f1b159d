/*
 * cento chat: a conversation over documents. This file reads lines, runs slash commands and shows answers;
 * what is held and saved is chat_session.c, how lines are read chat_input.c.
 *
 * Ctrl-C while an answer is under way cancels it (cento_cancel may be called from the handler); the
 * question is then pending again, so that /infer asks it anew.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "chat_input.h"
#include "chat_session.h"
#include "input.h"
#include "result.h"
#include "settings.h"
#include "term.h"

typedef struct chat {
    cento_engine *engine;
    request_frame frame;
    chat_session session;
    chat_input *input;
    bool interactive;
    bool stats;   /* --stats: the summary line even when not on a terminal */
    bool failed;  /* some command failed: the exit status of a script */
    bool leaving; /* /exit */
    bool unsaid;  /* nobody reads standard output any more */
} chat;

/* -------------------------------------------------------------------------------- Ctrl-C --- */

static cento_engine *volatile answering; /* the engine while an answer is under way, for the handler */

static void on_interrupt(int signal_number) {
    (void)signal_number;
    cento_engine *engine = answering;
    if (engine != NULL)
        cento_cancel(engine);
    else
        _exit(130); /* reading from a pipe: nothing to save, end as a signal would */
}

static void catch_interrupts(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

/* ------------------------------------------------------------------------------ messages --- */

/* A command went wrong; the chat goes on. */
static void complain(chat *state, const char *format, ...) CENTO_PRINTF(2, 3);
static void complain(chat *state, const char *format, ...) {
    char message[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    message_error("%s", message);
    state->failed = true;
}

/* A short confirmation, for people only. */
static void note(const chat *state, const char *format, ...) CENTO_PRINTF(2, 3);
static void note(const chat *state, const char *format, ...) {
    if (!state->interactive)
        return;
    char message[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    fputs(style(stdout, STYLE_DIM), stdout);
    print_text(stdout, message, strlen(message));
    printf("%s\n", style(stdout, STYLE_PLAIN));
}

/* --------------------------------------------------------------------------- the answer --- */

static bool show_delta(void *user, const cento_delta *delta) {
    chat *state = user;
    progress_clear();
    if (!output_write(delta->text, delta->text_bytes))
        state->unsaid = true;
    return !state->unsaid;
}

static void show_summary(const chat *state, const cento_result *result) {
    if (!state->interactive && !state->stats)
        return;
    strbuf line = {0};
    append_summary(&line, result);
    if (!line.failed) {
        FILE *stream = state->interactive ? stdout : stderr;
        fprintf(stream, "%s%s%s\n", style(stream, STYLE_DIM), line.data, style(stream, STYLE_PLAIN));
    }
    strbuf_free(&line);
}

/* Asks the pending question. */
static void infer(chat *state) {
    chat_session *session = &state->session;
    if (session->query == NULL) {
        complain(state, "there is no question; type one, or set one with /query");
        return;
    }
    cento_error error;
    cento_piece *pieces = NULL;
    size_t piece_count = 0;
    if (chat_session_pieces(session, session->query, &pieces, &piece_count, &error) != CENTO_OK) {
        complain(state, "%s", error.message);
        return;
    }
    cento_request *request = &state->frame.request;
    request->pieces = pieces;
    request->piece_count = piece_count;
    request->mode = session->mode;
    request->link_tokens = session->link_tokens;
    request->anchored = session->anchored;
    request->on_delta = show_delta;
    request->on_delta_user = state;
    cento_result *result = NULL;
    answering = state->engine;
    cento_status status = cento_generate(state->engine, request, &result, &error);
    answering = NULL;
    progress_clear();
    mem_free(pieces);
    if (status == CENTO_CANCELLED) {
        if (!state->unsaid)
            putchar('\n');
        note(state, "cancelled; /infer asks again");
        state->failed = true;
    } else if (status != CENTO_OK) {
        complain(state, "%s", error.message);
    } else {
        putchar('\n');
        show_summary(state, result);
        status = chat_session_add_turn(session, session->query, result->text, &error);
        if (status == CENTO_OK)
            status = chat_session_set(&session->query, NULL, &error);
        if (status != CENTO_OK)
            complain(state, "%s", error.message);
    }
    cento_result_free(result);
}

/* ------------------------------------------------------------------------- slash commands --- */

/* "/context @a.txt": argument is "@a.txt", "" if there is none */
typedef void (*chat_action)(chat *state, const char *argument);

typedef struct slash_command {
    const char *name;
    const char *arguments; /* for /help */
    const char *help;
    chat_action run;
} slash_command;

static bool read_text(chat *state, const char *command_name, const char *argument, input_text *text) {
    cento_error error;
    if (input_read(command_name, argument, INPUT_NEWLINE_STRIP, text, &error) == CENTO_OK)
        return true;
    complain(state, "%s", error.message);
    return false;
}

/* The chunk's tokens and content id, without computing anything. */
static bool describe(chat *state, cento_kind kind, const char *text, cento_chunk_info *info) {
    cento_piece piece = {.kind = kind, .text = text, .text_bytes = strlen(text)};
    cento_error error;
    if (cento_chunk_add(state->engine, &piece, false, info, &error) == CENTO_OK)
        return true;
    complain(state, "%s", error.message);
    return false;
}

static void set_system(chat *state, const char *argument) {
    cento_error error;
    input_text text;
    if (!read_text(state, "/system", argument, &text))
        return;
    if (chat_session_set(&state->session.system, text.text, &error) != CENTO_OK)
        complain(state, "%s", error.message);
    else
        note(state, "system prompt set");
    input_text_free(&text);
}

static void add_document(chat *state, const char *text, const char *label) {
    cento_error error;
    cento_chunk_info info;
    if (!describe(state, CENTO_KIND_CONTEXT, text, &info))
        return;
    if (chat_session_add_document(&state->session, text, label, &error) != CENTO_OK)
        complain(state, "%s", error.message);
    else
        note(state, "document %zu: %u tokens", state->session.document_count, info.tokens);
}

static void add_context(chat *state, const char *argument) {
    input_text text;
    if (!read_text(state, "/context", argument, &text))
        return;
    add_document(state, text.text, text.label);
    input_text_free(&text);
}

static void set_query(chat *state, const char *argument) {
    cento_error error;
    input_text text;
    if (!read_text(state, "/query", argument, &text))
        return;
    if (chat_session_set(&state->session.query, text.text, &error) != CENTO_OK)
        complain(state, "%s", error.message);
    else
        note(state, "question set; /infer asks it");
    input_text_free(&text);
}

static void run_infer(chat *state, const char *argument) {
    (void)argument;
    infer(state);
}

static void set_mode(chat *state, const char *argument) {
    chat_session *session = &state->session;
    char words[64], mode_word[32];
    if (*argument == '\0') {
        mode_text(session->mode, session->link_tokens, mode_word, sizeof mode_word);
        printf("%s%s\n", mode_word, session->anchored ? " anchored" : "");
        return;
    }
    snprintf(words, sizeof words, "%s", argument);
    char *rest = NULL;
    const char *word = strtok_r(words, " ", &rest);
    const char *anchor = strtok_r(NULL, " ", &rest);
    cento_mode mode = CENTO_MODE_EXACT;
    uint32_t link_tokens = 0;
    if (word == NULL || cento_mode_parse(word, &mode, &link_tokens, NULL) != CENTO_OK ||
        (anchor != NULL && (strcmp(anchor, "anchored") != 0 || mode == CENTO_MODE_EXACT))) {
        complain(state, "/mode: expected exact, or independent or link:K and perhaps anchored, found '%s'",
                 argument);
        return;
    }
    session->mode = mode;
    session->link_tokens = link_tokens;
    session->anchored = anchor != NULL;
    note(state, "mode %s", argument);
}

static bool parse_index(chat *state, const char *what, const char *text, size_t count, size_t *index) {
    uint64_t number;
    if (parse_u64(text, &number) && number >= 1 && number <= count) {
        *index = (size_t)number - 1;
        return true;
    }
    if (count == 0)
        complain(state, "%s: there are none", what);
    else
        complain(state, "%s: expected a number from 1 to %zu, found '%s'", what, count, text);
    return false;
}

static void clear(chat *state, const char *argument) {
    chat_session *session = &state->session;
    size_t word_bytes = strcspn(argument, " ");
    const char *number = argument + word_bytes + strspn(argument + word_bytes, " ");
    bool all = strcmp(argument, "all") == 0;
    size_t index;
    if (*argument == '\0' || all || strcmp(argument, "turns") == 0) {
        chat_session_clear_turns(session);
        chat_session_set(&session->query, NULL, NULL);
    } else if (strcmp(argument, "system") != 0 && strcmp(argument, "output") != 0 &&
               !(word_bytes == 7 && strncmp(argument, "context", 7) == 0)) {
        complain(state, "/clear: expected nothing, context, context N, system, output or all, found '%s'",
                 argument);
        return;
    }
    if (all || strcmp(argument, "system") == 0)
        chat_session_set(&session->system, NULL, NULL);
    if (all || strcmp(argument, "output") == 0)
        chat_session_clear_outputs(session);
    if (all || strcmp(argument, "context") == 0) {
        chat_session_clear_documents(session);
    } else if (word_bytes == 7 && *number != '\0') {
        if (!parse_index(state, "/clear context", number, session->document_count, &index))
            return;
        chat_session_remove_document(session, index);
    }
    note(state, "cleared");
}

/* The beginning of a text, on what is left of a line of 44 columns, for lists. */
static void append_preview(strbuf *line, const char *text) {
    enum { PREVIEW_COLUMNS = 44 };
    size_t columns = line->data == NULL ? 0 : text_width(line->data, line->bytes), i = 0,
           bytes = strlen(text);
    while (i < bytes && columns < PREVIEW_COLUMNS) {
        uint32_t codepoint;
        size_t length = utf8_decode(text + i, bytes - i, &codepoint);
        if (length == 0)
            length = 1;
        if (text[i] == '\n' || text[i] == '\t')
            strbuf_putc(line, ' ');
        else
            strbuf_append(line, text + i, length);
        columns += text_width(text + i, length);
        i += length;
    }
    if (i < bytes)
        strbuf_puts(line, "…");
}

static void list_row(chat *state, table *rows, const char *number, cento_kind kind, const char *text,
                     const char *label) {
    cento_chunk_info info;
    if (!describe(state, kind, text, &info))
        return;
    strbuf preview = {0};
    if (label != NULL)
        strbuf_printf(&preview, "%s: ", label);
    append_preview(&preview, text);
    table_add(rows, "%s", number);
    table_add(rows, "%s", cento_kind_name(kind));
    table_add(rows, "%u", info.tokens);
    table_add(rows, "%.12s", info.content_id);
    table_add(rows, "%s", preview.data == NULL ? "" : preview.data);
    strbuf_free(&preview);
}

static void list_pieces(chat *state, const char *argument) {
    (void)argument;
    const chat_session *session = &state->session;
    static const char *const heading[] = {"", "kind", "tokens", "content id", "text"};
    table rows;
    table_init(&rows, "rlrll");
    for (size_t i = 0; i < sizeof heading / sizeof heading[0]; i++)
        table_add(&rows, "%s", heading[i]);
    if (session->system != NULL)
        list_row(state, &rows, "", CENTO_KIND_SYSTEM, session->system, NULL);
    for (size_t i = 0; i < session->document_count; i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i + 1);
        list_row(state, &rows, number, CENTO_KIND_CONTEXT, session->documents[i].text,
                 session->documents[i].label);
    }
    for (size_t i = 0; i < session->turn_count; i++) {
        list_row(state, &rows, "", CENTO_KIND_QUERY, session->turns[i].query, NULL);
        if (session->turns[i].answer[0] != '\0')
            list_row(state, &rows, "", CENTO_KIND_OUTPUT, session->turns[i].answer, NULL);
    }
    if (session->query != NULL)
        list_row(state, &rows, "?", CENTO_KIND_QUERY, session->query, NULL);
    table_print(&rows, stdout, true);
}

static void stats_row(table *rows, const char *name, strbuf *value) {
    table_add(rows, "%s", name);
    table_add(rows, "%s", value->data == NULL ? "" : value->data);
    strbuf_clear(value);
}

static void show_stats(chat *state, const char *argument) {
    (void)argument;
    cento_stats stats;
    cento_engine_stats(state->engine, &stats);
    table rows;
    table_init(&rows, "ll");
    strbuf value = {0};
    strbuf_printf(&value, "%s on %s", stats.model_name, stats.backend);
    stats_row(&rows, "model", &value);
    append_size(&value, stats.weight_bytes);
    strbuf_printf(&value, ", loaded in %.0f ms", stats.load_ms);
    stats_row(&rows, "weights", &value);
    append_count(&value, stats.context_tokens_max);
    strbuf_puts(&value, " tokens");
    stats_row(&rows, "context", &value);
    append_size(&value, stats.kv_pool_bytes);
    strbuf_printf(&value, ", %u of %u pages of %u tokens kept for later, %u in use", stats.pages_chunk_unused,
                  stats.pages_total, stats.page_tokens, stats.pages_chunk_used + stats.pages_sequence);
    stats_row(&rows, "KV pool", &value);
    strbuf_printf(&value, "%u registered; KV looked for: %llu hits, %llu misses; %llu evictions",
                  stats.chunks, (unsigned long long)stats.kv_hits, (unsigned long long)stats.kv_misses,
                  (unsigned long long)stats.chunk_evictions);
    stats_row(&rows, "chunks", &value);
    append_count(&value, stats.cached_tokens);
    strbuf_puts(&value, " of ");
    append_count(&value, stats.prompt_tokens);
    strbuf_puts(&value, " prompt tokens reused");
    stats_row(&rows, "prompts", &value);
    append_count(&value, stats.forward_tokens);
    strbuf_puts(&value, " tokens computed in ");
    append_count(&value, stats.steps);
    strbuf_puts(&value, " steps");
    stats_row(&rows, "work", &value);
    strbuf_free(&value);
    table_print(&rows, stdout, false);
}

static void list_outputs(chat *state, const char *argument) {
    (void)argument;
    const chat_session *session = &state->session;
    if (session->output_count == 0)
        note(state, "no answers are kept yet");
    for (size_t i = 0; i < session->output_count; i++) {
        printf("%u  ", session->outputs[i].number);
        print_text(stdout, session->outputs[i].text, strlen(session->outputs[i].text));
        putchar('\n');
    }
}

static const chat_output *output_named(chat *state, const char *name, const char *argument, size_t *index) {
    uint64_t number;
    const chat_output *output = NULL;
    if (parse_u64(argument, &number) && number <= UINT32_MAX)
        output = chat_session_find_output(&state->session, (uint32_t)number, index);
    if (output == NULL)
        complain(state, "%s: expected the number of a kept answer (see /output), found '%s'", name, argument);
    return output;
}

static void use_output(chat *state, const char *argument) {
    size_t index;
    const chat_output *output = output_named(state, "/use-output", argument, &index);
    if (output == NULL)
        return;
    char label[32];
    snprintf(label, sizeof label, "answer %u", output->number);
    add_document(state, output->text, label);
}

static void delete_output(chat *state, const char *argument) {
    size_t index;
    if (output_named(state, "/delete-output", argument, &index) == NULL)
        return;
    chat_session_remove_output(&state->session, index);
    note(state, "deleted");
}

static void save(chat *state, const char *argument) {
    cento_error error;
    if (*argument == '\0')
        complain(state, "/save: expected a file name");
    else if (chat_session_save(&state->session, argument, &error) != CENTO_OK)
        complain(state, "%s", error.message);
    else
        note(state, "saved to %s", argument);
}

static void load(chat *state, const char *argument) {
    cento_error error;
    if (*argument == '\0')
        complain(state, "/load: expected a file name");
    else if (chat_session_load(&state->session, argument, &error) != CENTO_OK)
        complain(state, "%s", error.message);
    else
        note(state, "loaded %zu documents, %zu turns, %zu answers", state->session.document_count,
             state->session.turn_count, state->session.output_count);
}

static void leave(chat *state, const char *argument) {
    (void)argument;
    state->leaving = true;
}

static void show_help(chat *state, const char *argument);

static const slash_command slash_commands[] = {
    {"/system", "TEXT|@FILE", "set the system prompt", set_system},
    {"/context", "TEXT|@FILE", "add a document; they stand before the turns", add_context},
    {"/query", "TEXT|@FILE", "set a question without asking it", set_query},
    {"/infer", "", "ask it (plain lines are set and asked at once)", run_infer},
    {"/mode", "[MODE [anchored]]", "how chunks are reused: exact, independent or link:K", set_mode},
    {"/clear", "[WHAT]", "forget the turns, or: context, context N, system, output, all", clear},
    {"/list", "", "the pieces of the prompt, with tokens and content ids", list_pieces},
    {"/stats", "", "what the engine holds and has done", show_stats},
    {"/output", "", "the answers that are kept, with their numbers", list_outputs},
    {"/use-output", "N", "add answer N as a document", use_output},
    {"/delete-output", "N", "do not keep answer N", delete_output},
    {"/save", "FILE", "write all of this to a JSON file", save},
    {"/load", "FILE", "read it back", load},
    {"/help", "", "this list", show_help},
    {"/exit", "", "leave (or Ctrl-D)", leave},
};
enum { SLASH_COMMAND_COUNT = sizeof slash_commands / sizeof slash_commands[0] };

static void show_help(chat *state, const char *argument) {
    (void)argument;
    table rows;
    table_init(&rows, "ll");
    for (size_t i = 0; i < SLASH_COMMAND_COUNT; i++) {
        const slash_command *entry = &slash_commands[i];
        table_add(&rows, "%s%s%s", entry->name, *entry->arguments == '\0' ? "" : " ", entry->arguments);
        table_add(&rows, "%s", entry->help);
    }
    table_print(&rows, stdout, false);
    note(state, "//… asks a question that begins with a slash, a backslash at the end continues a\n"
                "line, Ctrl-C stops an answer");
}

/* A line that begins with one slash. */
static void run_slash(chat *state, char *line) {
    size_t name_bytes = strcspn(line, " \t\n");
    char *argument = line + name_bytes;
    while (*argument == ' ' || *argument == '\t')
        *argument++ = '\0';
    /* blanks at the end of a command are no part of a file name or number */
    size_t bytes = strlen(argument);
    while (bytes > 0 && (argument[bytes - 1] == ' ' || argument[bytes - 1] == '\t'))
        argument[--bytes] = '\0';
    const char *names[SLASH_COMMAND_COUNT];
    for (size_t i = 0; i < SLASH_COMMAND_COUNT; i++) {
        names[i] = slash_commands[i].name;
        if (strcmp(line, names[i]) == 0) {
            if (*argument != '\0' && *slash_commands[i].arguments == '\0')
                complain(state, "%s takes nothing after it, found '%s'", names[i], argument);
            else
                slash_commands[i].run(state, argument);
            return;
        }
    }
    const char *nearest = nearest_name(line, names, SLASH_COMMAND_COUNT);
    if (nearest != NULL)
        complain(state, "unknown command %s; did you mean %s?", line, nearest);
    else
        complain(state, "unknown command %s; /help lists them", line);
}

static void run_line(chat *state, strbuf *line) {
    if (line->bytes == 0 || strspn(line->data, " \t") == line->bytes)
        return;
    size_t invalid = utf8_invalid_offset(line->data, line->bytes);
    if (invalid != SIZE_MAX || strlen(line->data) != line->bytes) {
        complain(state, "this line is not text in UTF-8; it is left out");
        return;
    }
    if (line->data[0] == '/' && line->data[1] != '/') {
        run_slash(state, line->data);
        return;
    }
    cento_error error;
    const char *query = line->data[0] == '/' ? line->data + 1 : line->data;
    if (chat_session_set(&state->session.query, query, &error) != CENTO_OK)
        complain(state, "%s", error.message);
    else
        infer(state);
}

/* ------------------------------------------------------------------------------ the loop --- */

static void greet(chat *state) {
    cento_stats stats;
    cento_engine_stats(state->engine, &stats);
    char mode[32];
    mode_text(state->session.mode, state->session.link_tokens, mode, sizeof mode);
    note(state, "%s, %u tokens of context, mode %s. /help lists the commands.", stats.model_name,
         stats.context_tokens_max, mode);
}

static int converse(chat *state) {
    static const char *names[SLASH_COMMAND_COUNT];
    for (size_t i = 0; i < SLASH_COMMAND_COUNT; i++)
        names[i] = slash_commands[i].name;
    state->input = chat_input_open(names, SLASH_COMMAND_COUNT);
    if (state->input == NULL) {
        message_error("out of memory");
        return EXIT_STATUS_FAILURE;
    }
    state->interactive = chat_input_interactive(state->input);
    catch_interrupts();
    greet(state);
    strbuf line = {0};
    while (!state->leaving && !state->unsaid && chat_input_read(state->input, &line)) {
        run_line(state, &line);
        fflush(stdout);
    }
    if (state->interactive && !state->leaving)
        putchar('\n');
    strbuf_free(&line);
    chat_input_close(state->input);
    int written = output_finish();
    return state->failed && !state->interactive ? EXIT_STATUS_FAILURE : written;
}

/* --------------------------------------------------------------------------- the command --- */

typedef struct chat_settings {
    const char *system;
    option_list documents;
    const char *load;
    const char *salt;
    bool stats;
} chat_settings;

static const option_spec chat_specs[] = {
    {"system", OPTION_TEXT, offsetof(chat_settings, system), "TEXT|@FILE", 0, 0, "the system prompt"},
    {"chunk", OPTION_LIST, offsetof(chat_settings, documents), "TEXT|@FILE", 0, 0,
     "a document; may be repeated"},
    {"load", OPTION_TEXT, offsetof(chat_settings, load), "FILE", 0, 0, "go on with a saved chat"},
    {"salt", OPTION_TEXT, offsetof(chat_settings, salt), "TEXT", 0, 0,
     "share cached chunks only with requests of the same salt"},
    {"stats", OPTION_FLAG, offsetof(chat_settings, stats), NULL, 0, 0,
     "a line on standard error after each answer (on a terminal there is always one)"},
};

/* Fills the session from the command line. Returns -1 or the exit status. */
static int prepare(const chat_settings *settings, chat *state) {
    cento_error error;
    chat_session *session = &state->session;
    if (settings->load != NULL && chat_session_load(session, settings->load, &error) != CENTO_OK)
        return fail(&error);
    input_text text;
    if (settings->system != NULL) {
        if (input_read("--system", settings->system, INPUT_NEWLINE_STRIP, &text, &error) != CENTO_OK)
            return input_fail(&error);
        cento_status status = chat_session_set(&session->system, text.text, &error);
        input_text_free(&text);
        if (status != CENTO_OK)
            return fail(&error);
    }
    for (size_t i = 0; i < settings->documents.count; i++) {
        if (input_read("--chunk", settings->documents.items[i].text, INPUT_NEWLINE_STRIP, &text, &error) !=
            CENTO_OK)
            return input_fail(&error);
        cento_status status = chat_session_add_document(session, text.text, text.label, &error);
        input_text_free(&text);
        if (status != CENTO_OK)
            return fail(&error);
    }
    return -1;
}

static int run(const command *self, int argc, char **argv) {
    chat_settings settings = {0};
    engine_settings engine_options = {0};
    mode_settings mode = {0};
    sampling_settings sampling = sampling_settings_default();
    const option_group groups[] = {
        {"Chat", chat_specs, sizeof chat_specs / sizeof chat_specs[0], &settings},
        {"Reuse", mode_specs, mode_spec_count, &mode},
        {"Sampling", sampling_specs, sampling_spec_count, &sampling},
        {"Engine", engine_specs, engine_spec_count, &engine_options},
    };
    chat state = {0};
    int status = options_parse(self, groups, sizeof groups / sizeof groups[0], &argc, argv);
    if (status < 0 && argc > 0)
        status = usage_error(self, "expected only options, found '%s'", argv[0]);
    state.stats = settings.stats;
    if (status < 0)
        status = request_frame_init(self, &mode, &sampling, NULL, &state.frame);
    if (status < 0)
        status = prepare(&settings, &state);
    if (status < 0)
        status = engine_open(self, &engine_options, &state.engine, NULL);
    if (status < 0) {
        request_frame_free(&state.frame);
        status = request_frame_init(self, &mode, &sampling, state.engine, &state.frame);
    }
    if (status < 0) {
        state.frame.request.salt = settings.salt;
        if (mode.mode != NULL || settings.load == NULL) {
            state.session.mode = state.frame.request.mode;
            state.session.link_tokens = state.frame.request.link_tokens;
            state.session.anchored = state.frame.request.anchored;
        }
        status = converse(&state);
    }
    cento_close(state.engine);
    chat_session_free(&state.session);
    request_frame_free(&state.frame);
    option_list_free(&settings.documents);
    sampling_settings_free(&sampling);
    return status;
}

const command chat_command = {
    .name = "chat",
    .summary = "talk about documents, on a terminal or through a pipe",
    .usage = "[options]",
    .details =
        "A conversation over documents. Lines are questions; lines that begin with a slash are commands, "
        "which /help lists. From a pipe it reads the same lines without prompts and prints answers only; the "
        "exit status is 1 if any line failed.",
    .examples = "  cento chat --system \"Answer from the documents.\" --chunk @a.txt\n"
                "  printf '/context @a.txt\\nWhere is Crystalton?\\n' | cento chat\n",
    .run = run,
};
