/* cento serve: the HTTP server over one model, until it is told to end. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "base/mem.h"
#include "server/server.h"
#include "settings.h"
#include "term.h"

typedef struct serve_settings {
    const char *host;
    uint32_t port;
    uint64_t body_bytes_max;
    uint32_t connections_max, idle_timeout_s, drain_s;
    const char *cors_origin;
    int log_format;
} serve_settings;

enum { LOG_TEXT, LOG_JSON, LOG_NONE };

static const option_spec serve_specs[] = {
    {"host", OPTION_TEXT, offsetof(serve_settings, host), "ADDRESS", 0, 0,
     "address to listen on (default: 127.0.0.1, this machine alone)"},
    {"port", OPTION_U32, offsetof(serve_settings, port), "N", 0, 65535,
     "port to listen on; 0: any that is free (default: 8080)"},
    {"body-bytes-max", OPTION_BYTES, offsetof(serve_settings, body_bytes_max), "BYTES", 1, 0,
     "largest body of a request; K, M, G: powers of 1024 (default: 32M)"},
    {"connections-max", OPTION_U32, offsetof(serve_settings, connections_max), "N", 1, 65536,
     "connections at a time (default: 1024)"},
    {"idle-timeout", OPTION_U32, offsetof(serve_settings, idle_timeout_s), "SECONDS", 1, 86400,
     "a connection on which nothing moves is closed (default: 60)"},
    {"drain", OPTION_U32, offsetof(serve_settings, drain_s), "SECONDS", 0, 86400,
     "how long requests may go on after SIGTERM or Ctrl-C (default: 30)"},
    {"cors-origin", OPTION_TEXT, offsetof(serve_settings, cors_origin), "ORIGIN", 0, 0,
     "let web pages of this origin, or of any with *, use the server"},
    {"log-format", OPTION_CHOICE, offsetof(serve_settings, log_format), "text|json|none", 0, 0,
     "a line on standard error for each request (default: text)"},
};

/* --------------------------------------------------------------------------------- log ------ */

static void time_text(char text[32]) {
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t bytes = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + bytes, 32 - bytes, ".%03ldZ", now.tv_nsec / 1000000);
}

static void log_json(const server_log_entry *entry, const char *when) {
    json_t *line = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:f}", "time", when, "request_id",
                             entry->request_id, "client", entry->client, "method", entry->method, "path",
                             entry->path, "status", (int)entry->status, "ms", entry->ms);
    if (line != NULL && entry->generated)
        json_object_set_new(line, "usage",
                            json_pack("{s:I, s:I, s:I, s:I}", "prompt_tokens",
                                      (json_int_t)entry->usage.prompt_tokens, "cached_tokens",
                                      (json_int_t)entry->usage.cached_tokens, "computed_tokens",
                                      (json_int_t)entry->usage.computed_tokens, "completion_tokens",
                                      (json_int_t)entry->usage.completion_tokens));
    char *text = line == NULL ? NULL : json_dumps(line, JSON_COMPACT);
    if (text != NULL)
        fprintf(stderr, "%s\n", text);
    free(text);
    json_decref(line);
}

static void log_request(void *user, const server_log_entry *entry) {
    const serve_settings *settings = user;
    char when[32];
    time_text(when);
    if (settings->log_format == LOG_JSON) {
        log_json(entry, when);
        return;
    }
    /* the path is the client's: no control characters to the terminal */
    fprintf(stderr, "%s %s %s %s ", when, entry->request_id, entry->client, entry->method);
    print_text(stderr, entry->path, strlen(entry->path));
    if (entry->status == 0)
        fprintf(stderr, " gone %.1f ms", entry->ms);
    else
        fprintf(stderr, " %u %.1f ms", entry->status, entry->ms);
    if (entry->generated)
        fprintf(stderr, ", prompt %u (%u cached), answer %u", entry->usage.prompt_tokens,
                entry->usage.cached_tokens, entry->usage.completion_tokens);
    fputc('\n', stderr);
}

/* ------------------------------------------------------------------------------- serve ------ */

/* Ends at once: a second signal while requests are drained. */
static void *end_at_once(void *signals) {
    int number;
    sigwait(signals, &number);
    _Exit(128 + number);
}

static int serve(cento_engine *engine, const char *model_path, serve_settings *settings, sigset_t *signals) {
    const server_options options = {
        .host = settings->host,
        .port = (uint16_t)settings->port,
        .model_path = model_path,
        .body_bytes_max = settings->body_bytes_max,
        .connections_max = settings->connections_max,
        .idle_timeout_s = settings->idle_timeout_s,
        .cors_origin = settings->cors_origin,
        .on_log = settings->log_format == LOG_NONE ? NULL : log_request,
        .on_log_user = settings,
    };
    server *started = NULL;
    cento_error error;
    cento_stats stats;
    int number = 0;
    pthread_t watch;
    if (server_start(engine, &options, &started, &error) != CENTO_OK)
        return fail(&error);
    cento_engine_stats(engine, &stats);
    const char *host = settings->host;
    printf(strchr(host, ':') == NULL ? "http://%s:%u serves %s (%s)\n" : "http://[%s]:%u serves %s (%s)\n",
           host, server_port(started), stats.model_name, stats.backend);
    fflush(stdout);
    sigwait(signals, &number);
    if (pthread_create(&watch, NULL, end_at_once, signals) == 0)
        pthread_detach(watch);
    server_stop(started, settings->drain_s * 1000);
    return EXIT_STATUS_OK;
}

static int run_serve(const command *self, int argc, char **argv) {
    static sigset_t signals; /* the watching thread may outlive this function */
    engine_settings engine_options = {0};
    serve_settings settings = {.host = "127.0.0.1", .port = 8080, .drain_s = 30};
    const option_group groups[] = {
        {"Server", serve_specs, sizeof serve_specs / sizeof *serve_specs, &settings},
        {"Engine", engine_specs, engine_spec_count, &engine_options},
    };
    int status = options_parse(self, groups, 2, &argc, argv);
    if (status >= 0)
        return status;
    if (argc > 0)
        return usage_error(self, "unexpected argument '%s'", argv[0]);
    /* all threads made from here on leave these to sigwait */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    cento_engine *engine = NULL;
    char *model_path = NULL;
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    status = engine_open(self, &engine_options, &engine, &model_path);
    if (status >= 0)
        return status;
    status = serve(engine, model_path, &settings, &signals);
    cento_close(engine);
    mem_free(model_path);
    return status;
}

const command serve_command = {
    .name = "serve",
    .summary = "answer OpenAI clients over HTTP",
    .usage = "[options]",
    .details =
        "Listens for HTTP and answers as OpenAI's API does: chat and text completions under /v1, streamed or "
        "whole. Chunks are registered at /v1/chunks; what a prompt reused stands in its usage. docs/api.md "
        "has "
        "every field.\n\n"
        "SIGTERM or Ctrl-C closes the port and lets requests end first; a second one ends at once.",
    .examples = "cento serve --port 8080\ncento serve --model path/to/Qwen3-0.6B --device cuda\n",
    .run = run_serve,
};
