/* cento bench compose: options and table of bench/bench_compose.c. */
#include "bench_compose.h"

#include <string.h>

#include "base/mem.h"
#include "input.h"
#include "result.h"
#include "term.h"

#define COMPOSE_OFFSET(field) (offsetof(compose_settings, options) + offsetof(bench_compose_options, field))

const option_spec compose_specs[] = {
    {"workload", OPTION_LIST, offsetof(compose_settings, workloads), "NAME", 0, 0,
     "rag, agents or few-shot; may be repeated (default: all)"},
    {"requests", OPTION_U32, COMPOSE_OFFSET(requests), "N", 1, 4096, "of rag and few-shot (default: 64)"},
    {"documents", OPTION_U32, COMPOSE_OFFSET(documents), "N", 1, 4096,
     "rag: documents there are (default: 16)"},
    {"documents-per-request", OPTION_U32, COMPOSE_OFFSET(documents_per_request), "N", 1, 64,
     "rag: documents of a prompt (default: 4)"},
    {"document-tokens", OPTION_U32, COMPOSE_OFFSET(document_tokens), "N", 1, 1 << 20,
     "rag: tokens of a document (default: 512)"},
    {"system-tokens", OPTION_U32, COMPOSE_OFFSET(system_tokens), "N", 1, 1 << 20,
     "rag: tokens of the system prompt (default: 256)"},
    {"agents", OPTION_U32, COMPOSE_OFFSET(agents), "N", 1, 4096, "agents: conversations (default: 8)"},
    {"turns", OPTION_U32, COMPOSE_OFFSET(turns), "N", 1, 256, "agents: turns of each (default: 6)"},
    {"project-tokens", OPTION_U32, COMPOSE_OFFSET(project_tokens), "N", 1, 1 << 20,
     "agents: tokens of what all begin with (default: 1024)"},
    {"prefix-tokens", OPTION_U32, COMPOSE_OFFSET(prefix_tokens), "N", 1, 1 << 20,
     "few-shot: tokens of what all begin with (default: 2048)"},
    {"query-tokens", OPTION_U32, COMPOSE_OFFSET(query_tokens), "N", 1, 1 << 20,
     "tokens of a question (default: 24)"},
    {"new-tokens", OPTION_U32, COMPOSE_OFFSET(new_tokens), "N", 1, 1 << 20,
     "tokens of an answer (default: 64)"},
    {"kv-bytes-max", OPTION_BYTES, COMPOSE_OFFSET(kv_bytes_max), "BYTES", 1, 0,
     "largest KV pool that is chosen so that all requests fit at once; K, M, G (default: 8G)"},
    {"geometry", OPTION_TEXT, COMPOSE_OFFSET(geometry), "NAME", 0, 0,
     "random weights in the shape of llama-3.2-1b, llama-3.1-8b, qwen3-0.6b, qwen3-8b, qwen2.5-0.5b or tiny"},
    {"json", OPTION_FLAG, offsetof(compose_settings, json), NULL, 0, 0, "print one JSON object"},
};
const size_t compose_spec_count = sizeof compose_specs / sizeof compose_specs[0];

static void show_request(void *user, const char *workload, uint64_t done, uint64_t total) {
    (void)user;
    progress_show(workload, done, total, false);
}

/* A row of figures; NULL: the heading. */
static void add_compose_row(table *rows, const char *name, const json_t *figures) {
    static const char *const heading[] = {"KV held",  "saved",    "reads saved", "prompt",   "computed",
                                          "TTFT p50", "TTFT p99", "tokens/s",    "metadata", "differing"};
    table_add(rows, "%s", name);
    for (size_t i = 0; figures == NULL && i < sizeof heading / sizeof heading[0]; i++)
        table_add(rows, "%s", heading[i]);
    if (figures == NULL)
        return;
    strbuf size = {0};
    append_size(&size, (uint64_t)json_integer_value(json_object_get(figures, "kv_physical_bytes")));
    table_add(rows, "%s", size.data == NULL ? "" : size.data);
    strbuf_free(&size);
    table_add(rows, "%.1f %%", 100 * json_number_value(json_object_get(figures, "memory_savings")));
    table_add(rows, "%.1f %%", 100 * json_number_value(json_object_get(figures, "kv_read_savings")));
    table_add(rows, "%lld", (long long)json_integer_value(json_object_get(figures, "prompt_tokens")));
    table_add(rows, "%lld", (long long)json_integer_value(json_object_get(figures, "computed_tokens")));
    table_add(rows, "%.0f ms", json_number_value(json_object_get(figures, "ttft_ms_p50")));
    table_add(rows, "%.0f ms", json_number_value(json_object_get(figures, "ttft_ms_p99")));
    table_add(rows, "%.0f", json_number_value(json_object_get(figures, "tokens_per_s")));
    table_add(rows, "%.2f %%", 100 * json_number_value(json_object_get(figures, "metadata_fraction")));
    table_add(rows, "%lld", (long long)json_integer_value(json_object_get(figures, "answers_differing")));
}

static void show_compose_report(const json_t *report) {
    const json_t *workloads = json_object_get(report, "workloads");
    printf("%s on %s\n", json_string_value(json_object_get(report, "model")),
           json_string_value(json_object_get(report, "backend")));
    table rows;
    table_init(&rows, "lrrrrrrrrrr");
    add_compose_row(&rows, "", NULL);
    for (size_t i = 0; i < json_array_size(workloads); i++) {
        const json_t *work = json_array_get(workloads, i);
        add_compose_row(&rows, json_string_value(json_object_get(work, "name")), work);
        add_compose_row(&rows, "  cascade off", json_object_get(work, "cascade_off"));
        add_compose_row(&rows, "  baseline", json_object_get(work, "baseline"));
    }
    table_print(&rows, stdout, true);
    for (size_t i = 0; i < json_array_size(workloads); i++) {
        const json_t *work = json_array_get(workloads, i);
        if (!json_is_true(json_object_get(work, "pool_holds_all")))
            printf(
                "%s: %lld sequences at once over %lld KV tokens do not hold all requests without sharing\n",
                json_string_value(json_object_get(work, "name")),
                (long long)json_integer_value(json_object_get(work, "sequences_max")),
                (long long)json_integer_value(json_object_get(work, "kv_pool_tokens")));
    }
}

static int parse_workloads(const command *self, const option_list *named, unsigned *workloads) {
    static const char *const names[] = {"rag", "agents", "few-shot"};
    static const unsigned bits[] = {BENCH_COMPOSE_RAG, BENCH_COMPOSE_AGENTS, BENCH_COMPOSE_FEW_SHOT};
    for (size_t i = 0; i < named->count; i++) {
        unsigned bit = 0;
        for (size_t k = 0; k < 3; k++)
            if (strcmp(named->items[i].text, names[k]) == 0)
                bit = bits[k];
        if (bit == 0)
            return usage_error(self, "--workload: expected rag, agents or few-shot, found '%s'",
                               named->items[i].text);
        *workloads = i == 0 ? bit : *workloads | bit;
    }
    return -1;
}

int compose_measure(const command *self, const compose_settings *settings,
                    const engine_settings *engine_options, json_t **report) {
    bench_compose_options options = settings->options;
    options.on_progress = show_request;
    int status = engine_options_from(self, engine_options, &options.engine);
    if (status < 0 && (engine_options->no_cascade || engine_options->no_reuse))
        status = usage_error(self, "--no-cascade and --no-reuse: both ways are measured here");
    if (status < 0)
        status = parse_workloads(self, &settings->workloads, &options.workloads);
    if (status >= 0)
        return status;
    char *path = NULL;
    cento_error error;
    if (model_path_find(engine_options->model, &path, &error) != CENTO_OK)
        return fail(&error);
    options.engine.model_path = path;
    if (bench_compose(&options, report, &error) != CENTO_OK)
        status = fail(&error);
    progress_clear();
    mem_free(path);
    return status;
}

static int show_measured(const command *self, const compose_settings *settings,
                         const engine_settings *engine_options) {
    json_t *report = NULL;
    int status = compose_measure(self, settings, engine_options, &report);
    if (status >= 0)
        return status;
    if (settings->json)
        return print_json(report);
    show_compose_report(report);
    json_decref(report);
    return output_finish();
}

static int run_compose(const command *self, int argc, char **argv) {
    compose_settings settings = {.options = bench_compose_options_default()};
    engine_settings engine_options = {0};
    const option_group groups[] = {
        {"Workloads", compose_specs, compose_spec_count, &settings},
        {"Engine", engine_specs, engine_spec_count, &engine_options},
    };
    int status = options_parse(self, groups, sizeof groups / sizeof groups[0], &argc, argv);
    if (status < 0 && argc > 0)
        status = usage_error(self, "expected only options, found '%s'", argv[0]);
    if (status < 0)
        status = show_measured(self, &settings, &engine_options);
    option_list_free(&settings.workloads);
    return status;
}

const command bench_compose_command = {
    .name = "bench compose",
    .summary = "what sharing KV saves and gains: memory, work, waiting",
    .usage = "[options]",
    .details =
        "Answers three workloads of random tokens with and without sharing: documents in random order (rag, "
        "in independent and in exact mode), conversations over one project (agents), many questions behind "
        "one long prefix (few-shot). Each runs as it is, with cascade attention off, and as a baseline "
        "that neither keeps nor shares KV. Answers that differ between them are counted.",
    .examples = "  cento bench compose\n"
                "  cento bench compose --workload rag --requests 16 --json\n",
    .run = run_compose,
};
