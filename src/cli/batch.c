/*
 * The loop of a batch; see batch.h. One thread reads lines, submits requests and writes results; it sleeps in
 * poll() until there is input or the engine's on_ready has written to an eventfd. At most `window` requests
 * are under way, so that memory does not grow with the file; that is several times what the engine computes
 * at once, so that it can choose those to run together that share chunks.
 *
 * SIGINT and SIGTERM end it: what is under way is cancelled, what was answered is written whole.
 */
#include "batch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "batch_files.h"
#include "options.h"
#include "result.h"
#include "term.h"

enum {
    SEQUENCES_DEFAULT = 32,
    WINDOW_SEQUENCES = 4, /* requests under way for each that is computed at once */
    WINDOW_MAX = 4096,
    REFRESH_MS = 200, /* of the progress line */
};

/* A request under way. */
typedef struct batch_slot {
    cento_generation *generation; /* NULL: free */
    json_t *id;                   /* owned; NULL: none */
    uint64_t line;
    atomic_bool ready; /* set by the engine's thread */
    int wake;          /* the eventfd */
} batch_slot;

struct batch {
    batch_options options;
    batch_input input;
    batch_results results;
    id_set ids;
    uint64_t total; /* lines; 0: unknown */

    const batch_defaults *defaults;
    cento_engine *engine;
    const char *model_path;
    cento_tokenizer *tokenizer; /* opened when a result first has log probabilities */
    double load_ms;
    batch_slot *slots; /* (window) */
    size_t window, under_way;
    batch_line held; /* waits for a place in the engine's queue */
    bool holding, input_done;
    bool broken; /* results cannot be written any more */

    uint64_t answered, failed, skipped;
    uint64_t completion_tokens;
    uint64_t started_ns;
};

/* -------------------------------------------------------------------------- interruption --- */

static volatile sig_atomic_t interrupted_by; /* the signal; 0: none */
static volatile sig_atomic_t wake_descriptor = -1;

static void wake(int descriptor) {
    const uint64_t one = 1;
    ssize_t written = write(descriptor, &one, sizeof one);
    (void)written; /* a full eventfd wakes as well */
}

static void on_interrupt(int signal_number) {
    int error_number = errno;
    interrupted_by = signal_number;
    wake(wake_descriptor);
    errno = error_number;
}

/* A second signal ends the program at once. */
static void catch_interrupts(int descriptor, struct sigaction before[2]) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    interrupted_by = 0;
    wake_descriptor = descriptor;
    sigaction(SIGINT, &action, &before[0]);
    sigaction(SIGTERM, &action, &before[1]);
}

static void release_interrupts(const struct sigaction before[2]) {
    sigaction(SIGINT, &before[0], NULL);
    sigaction(SIGTERM, &before[1], NULL);
    wake_descriptor = -1;
}

/* ------------------------------------------------------------------------------- results --- */

/* Puts "id" and "line" before the fields of `body` (consumed) and writes it. */
static void write_result(batch *run, const json_t *id, uint64_t line, json_t *body) {
    json_t *result = json_object();
    cento_error error;
    bool made = body != NULL && result != NULL;
    if (made && id != NULL)
        made = json_object_set(result, "id", (json_t *)(uintptr_t)id) == 0;
    made = made && json_object_set_new(result, "line", json_integer((json_int_t)line)) == 0 &&
           json_object_update(result, body) == 0;
    json_decref(body);
    if (!made) {
        json_decref(result);
        result = NULL;
    }
    if (run->results.descriptor < 0 && term_is_tty(stdout))
        progress_hide();
    if (batch_results_write(&run->results, result, &error) == CENTO_OK)
        return;
    run->broken = true;
    if (run->results.descriptor >= 0 || result == NULL)
        message_error("%s", error.message); /* standard output's own trouble is told at the end */
}

static void write_error(batch *run, const json_t *id, uint64_t line, const cento_error *error) {
    run->failed++;
    write_result(run, id, line,
                 json_pack("{s:{s:s, s:s}}", "error", "code", cento_status_name(error->status), "message",
                           error->message));
}

static void write_answer(batch *run, const json_t *id, uint64_t line, const cento_result *result) {
    cento_error error;
    if (result->logprobs != NULL && run->tokenizer == NULL &&
        cento_tokenizer_open(run->model_path, &run->tokenizer, &error) != CENTO_OK) {
        write_error(run, id, line, &error);
        return;
    }
    run->answered++;
    run->completion_tokens += result->usage.completion_tokens;
    write_result(run, id, line, result_to_json(result, run->load_ms, run->tokenizer));
}

/* ------------------------------------------------------------------------------ requests --- */

static void on_ready(void *user) {
    batch_slot *slot = user;
    atomic_store(&slot->ready, true);
    wake(slot->wake);
}

/* Submits the line that is held. False: the engine's queue is full, try again later. */
static bool submit_held(batch *run) {
    batch_slot *slot = run->slots;
    while (slot->generation != NULL)
        slot++;
    batch_line *line = &run->held;
    line->request.on_ready = on_ready;
    line->request.on_ready_user = slot;
    atomic_store(&slot->ready, false);
    cento_error error;
    cento_status status = cento_submit(run->engine, &line->request, &slot->generation, &error);
    if (status == CENTO_QUEUE_FULL && run->under_way > 0)
        return false;
    if (status == CENTO_OK) {
        slot->id = json_incref(line->id);
        slot->line = line->number;
        run->under_way++;
    } else {
        slot->generation = NULL;
        write_error(run, line->id, line->number, &error);
    }
    run->holding = false;
    batch_line_free(line);
    return true;
}

static void end_slot(batch *run, batch_slot *slot) {
    cento_result *result = NULL;
    cento_error error;
    cento_status status = cento_generation_result(slot->generation, &result, &error);
    /* what was cancelled stays unanswered, for --resume */
    if (status == CENTO_OK && !run->broken)
        write_answer(run, slot->id, slot->line, result);
    else if (status != CENTO_OK && !run->broken && !(status == CENTO_CANCELLED && interrupted_by != 0))
        write_error(run, slot->id, slot->line, &error);
    cento_result_free(result);
    cento_generation_free(slot->generation);
    json_decref(slot->id);
    slot->generation = NULL;
    slot->id = NULL;
    run->under_way--;
}

/* Ends those that are done. all: whether on_ready has said so or not. */
static void end_ready(batch *run, bool all) {
    for (size_t i = 0; i < run->window; i++) {
        batch_slot *slot = &run->slots[i];
        if (slot->generation == NULL || (!atomic_exchange(&slot->ready, false) && !all))
            continue;
        if (cento_poll(slot->generation))
            end_slot(run, slot);
    }
}

/* Whether the line is to be answered; else it is counted, and answered with an error if need be. */
static bool is_wanted(batch *run, const batch_line *line) {
    unsigned before = 0;
    cento_error error;
    if (id_set_mark(&run->ids, line->id, line->number, ID_SEEN, &before, &error) == CENTO_OK) {
        if ((before & ID_SEEN) != 0) {
            error_set(&error, CENTO_INVALID_ARGUMENT, "line %llu: an earlier line has this id",
                      (unsigned long long)line->number);
        } else if ((before & ID_ANSWERED) != 0) {
            run->skipped++;
            return false;
        } else {
            return true;
        }
    }
    write_error(run, line->id, line->number, &error);
    return false;
}

/* Takes one line if there is one in the buffer. */
static batch_next take_line(batch *run) {
    const char *text;
    size_t bytes;
    uint64_t number = 0;
    cento_error error;
    batch_next next = batch_input_next(&run->input, &text, &bytes, &number);
    if (next == BATCH_TOO_LONG) {
        error_set(&error, CENTO_INVALID_ARGUMENT, "line %llu: longer than %d bytes",
                  (unsigned long long)number, BATCH_LINE_BYTES_MAX);
        write_error(run, NULL, number, &error);
    } else if (next == BATCH_LINE) {
        batch_line *line = &run->held;
        cento_status status = batch_line_read(number, text, bytes, line, &error);
        bool wanted = status != CENTO_OK || is_wanted(run, line);
        if (wanted && status == CENTO_OK)
            status = batch_line_build(line, run->defaults, &error);
        run->holding = wanted && status == CENTO_OK;
        if (status != CENTO_OK)
            write_error(run, line->id, number, &error);
        if (!run->holding)
            batch_line_free(line);
    }
    return next;
}

/* ------------------------------------------------------------------------------ progress --- */

static void append_duration(strbuf *text, double seconds) {
    uint64_t whole = seconds > 0 ? (uint64_t)(seconds + 0.5) : 0;
    if (whole >= 3600)
        strbuf_printf(text, "%llu:%02u:%02u", (unsigned long long)(whole / 3600), (unsigned)(whole / 60 % 60),
                      (unsigned)(whole % 60));
    else
        strbuf_printf(text, "%u:%02u", (unsigned)(whole / 60), (unsigned)(whole % 60));
}

static void append_rate(const batch *run, strbuf *text) {
    double seconds = clock_ms_since(run->started_ns) * 1e-3;
    append_count(text, (uint64_t)((double)run->completion_tokens / (seconds > 0 ? seconds : 1)));
    strbuf_puts(text, " tokens/s");
}

/* Nothing where nothing is shared: pages that are not full would make it less than nothing. */
static void append_savings(const batch *run, const char *before, strbuf *text) {
    cento_stats stats;
    cento_engine_stats(run->engine, &stats);
    if (stats.memory_savings_peak >= 0.005)
        strbuf_printf(text, "%s%.0f %% of KV saved", before, 100 * stats.memory_savings_peak);
}

/* "450/1,000  1,234 tokens/s  2:31 left  78 % of KV saved" */
static void describe_progress(void *user, strbuf *text) {
    const batch *run = user;
    uint64_t ended = run->answered + run->failed, done = ended + run->skipped;
    append_count(text, done);
    if (run->total > 0) {
        strbuf_putc(text, '/');
        append_count(text, run->total);
    } else {
        strbuf_puts(text, " done");
    }
    strbuf_puts(text, "  ");
    append_rate(run, text);
    if (run->total > done && ended > 0) {
        strbuf_puts(text, "  ");
        append_duration(text,
                        clock_ms_since(run->started_ns) * 1e-3 / (double)ended * (double)(run->total - done));
        strbuf_puts(text, " left");
    }
    append_savings(run, "  ", text);
}

static void show_progress(batch *run) {
    uint64_t done = run->answered + run->failed + run->skipped;
    if (!run->options.quiet)
        progress_describe("batch", done, run->total, describe_progress, run);
}

static void show_summary(const batch *run) {
    strbuf text = {0};
    append_count(&text, run->answered);
    strbuf_puts(&text, " answered");
    if (run->failed > 0) {
        strbuf_puts(&text, ", ");
        append_count(&text, run->failed);
        strbuf_puts(&text, " failed");
    }
    if (run->skipped > 0) {
        strbuf_puts(&text, ", ");
        append_count(&text, run->skipped);
        strbuf_puts(&text, " answered before");
    }
    strbuf_printf(&text, " in %.1f s, ", clock_ms_since(run->started_ns) * 1e-3);
    append_rate(run, &text);
    append_savings(run, ", ", &text);
    if (!text.failed)
        fprintf(stderr, "%s%s%s\n", style(stderr, STYLE_DIM), text.data, style(stderr, STYLE_PLAIN));
    strbuf_free(&text);
}

/* ------------------------------------------------------------------------------ the loop --- */

/* Reads no more; what is under way ends as soon as it can. */
static void stop(batch *run) {
    run->input_done = true;
    if (run->holding)
        batch_line_free(&run->held);
    run->holding = false;
    for (size_t i = 0; i < run->window; i++)
        if (run->slots[i].generation != NULL)
            cento_generation_cancel(run->slots[i].generation);
}

/* Submits lines while there are places and lines. Returns whether more input is needed. */
static bool take_lines(batch *run) {
    for (;;) {
        if (run->broken || interrupted_by != 0)
            return false;
        if (run->holding && (run->under_way == run->window || !submit_held(run)))
            return false;
        if (run->input_done || run->under_way == run->window)
            return false;
        batch_next next = take_line(run);
        if (next == BATCH_MORE)
            return true;
        run->input_done = next == BATCH_END;
    }
}

/* Sleeps until there is something to do, then reads what has come. Returns -1 or the exit status. */
static int await(batch *run, int descriptor, bool wants_input) {
    struct pollfd watched[2] = {{.fd = descriptor, .events = POLLIN},
                                {.fd = wants_input ? run->input.descriptor : -1, .events = POLLIN}};
    int count = poll(watched, 2, REFRESH_MS);
    if (count < 0 && errno != EINTR) {
        message_error("poll: %s", strerror(errno));
        return EXIT_STATUS_FAILURE;
    }
    uint64_t wakes;
    if (count > 0 && watched[0].revents != 0 && read(descriptor, &wakes, sizeof wakes) < 0 &&
        errno != EAGAIN && errno != EINTR) {
        message_error("eventfd: %s", strerror(errno));
        return EXIT_STATUS_FAILURE;
    }
    cento_error error;
    if (count > 0 && watched[1].revents != 0 && batch_input_fill(&run->input, &error) != CENTO_OK)
        return fail(&error);
    end_ready(run, count == 0);
    return -1;
}

static int loop(batch *run, int descriptor) {
    int status = -1;
    bool stopped = false;
    for (;;) {
        bool wants_input = status < 0 && take_lines(run);
        if (!stopped && (interrupted_by != 0 || run->broken || status >= 0)) {
            stop(run);
            stopped = true;
            wants_input = false;
        }
        if (run->under_way == 0 && run->input_done && !run->holding)
            return status;
        show_progress(run);
        int awaited = await(run, descriptor, wants_input);
        if (status < 0)
            status = awaited;
    }
}

int batch_answer(batch *run, cento_engine *engine, const char *model_path, uint32_t max_sequences,
                 const batch_defaults *defaults) {
    cento_stats stats;
    cento_engine_stats(engine, &stats);
    run->engine = engine;
    run->model_path = model_path;
    run->defaults = defaults;
    run->load_ms = stats.load_ms;
    run->window = WINDOW_SEQUENCES * (size_t)(max_sequences == 0 ? SEQUENCES_DEFAULT : max_sequences);
    run->window = run->window > WINDOW_MAX ? WINDOW_MAX : run->window;
    run->slots = mem_zalloc(run->window, sizeof *run->slots);
    int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (run->slots == NULL || descriptor < 0) {
        message_error(run->slots == NULL ? "out of memory" : "no eventfd is left");
        if (descriptor >= 0)
            close(descriptor);
        return EXIT_STATUS_FAILURE;
    }
    for (size_t i = 0; i < run->window; i++)
        run->slots[i].wake = descriptor;
    run->started_ns = clock_now_ns();
    struct sigaction before[2];
    catch_interrupts(descriptor, before);
    int status = loop(run, descriptor);
    release_interrupts(before);
    progress_clear();
    close(descriptor);
    if (run->options.stats || (!run->options.quiet && term_is_tty(stderr)))
        show_summary(run);
    int written = output_finish();
    if (interrupted_by != 0) {
        if (run->results.descriptor >= 0)
            message_error("interrupted after %llu answers; the same command with --resume goes on",
                          (unsigned long long)run->answered);
        return 128 + interrupted_by;
    }
    if (run->failed > 0 && !run->broken)
        message_error("%llu of %llu requests failed; their results say why", (unsigned long long)run->failed,
                      (unsigned long long)(run->answered + run->failed));
    if (status >= 0)
        return status;
    return run->failed > 0 || run->broken ? EXIT_STATUS_FAILURE : written;
}

/* --------------------------------------------------------------------- opening and closing --- */

int batch_open(const command *self, const batch_options *options, batch **opened) {
    bool to_file = options->output != NULL && strcmp(options->output, "-") != 0;
    if (options->resume && !to_file)
        return usage_error(self, "--resume goes with --output FILE");
    if (to_file && batch_same_file(options->input, options->output))
        return usage_error(self, "--output: expected another file than that of --batch, found '%s'",
                           options->output);
    batch *run = mem_zalloc(1, sizeof *run);
    if (run == NULL) {
        message_error("out of memory");
        return EXIT_STATUS_FAILURE;
    }
    run->options = *options;
    run->results.descriptor = run->input.descriptor = -1;
    cento_error error;
    cento_status status = batch_input_open(options->input, &run->input, &error);
    if (status == CENTO_OK)
        status = batch_results_open(options->output, options->resume, &run->results, &run->ids, &error);
    if (status != CENTO_OK) {
        batch_close(run);
        return fail(&error);
    }
    if (!options->quiet && term_is_tty(stderr) && strcmp(options->input, "-") != 0)
        run->total = batch_input_count(options->input);
    *opened = run;
    return -1;
}

void batch_close(batch *run) {
    if (run == NULL)
        return;
    batch_input_close(&run->input);
    batch_results_close(&run->results);
    id_set_free(&run->ids);
    cento_tokenizer_close(run->tokenizer);
    mem_free(run->slots);
    mem_free(run);
}
