/* cento bench throughput: options and tables of bench/bench_throughput.c, and how fast the workloads of bench
 * compose are. */
#include "bench/bench_throughput.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bench_compose.h"
#include "input.h"
#include "result.h"
#include "term.h"

enum { BATCHED_TOKENS_GPU = 8192, LENGTH_MAX = 1 << 20 };

typedef struct throughput_settings {
    bench_throughput_options options;
    const char *lengths;
} throughput_settings;

#define THROUGHPUT_OFFSET(field)                                                                             \
    (offsetof(throughput_settings, options) + offsetof(bench_throughput_options, field))

static const option_spec throughput_specs[] = {
    {"sequences", OPTION_U32, THROUGHPUT_OFFSET(sequences), "N", 1, 4096, "requests (default: 256)"},
    {"lengths", OPTION_TEXT, offsetof(throughput_settings, lengths), "A:B", 0, 0,
     "tokens of prompts and of answers, drawn from A to B (default: 100:1024)"},
    {"workload-seed", OPTION_U32, THROUGHPUT_OFFSET(seed), "N", 0, OPTION_COUNT_MAX,
     "of lengths and tokens, drawn as Python's random would (default: 0)"},
    {"temperature", OPTION_NUMBER, THROUGHPUT_OFFSET(temperature), "X", 0, 100, "of sampling (default: 0.6)"},
};

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

/* ----------------------------------------------------------------- nothing is shared -------- */

static void show_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)user;
    progress_show(what, done, total, false);
}

static void show_report(const json_t *report) {
    const json_t *parts = json_object_get(report, "ms_per_step");
    printf("%s on %s\n", text(report, "model"), text(report, "backend"));
    printf("%.0f requests: %.0f prompt tokens, %.0f answered in %.2f s\n\n", number(report, "sequences"),
           number(report, "prompt_tokens"), number(report, "completion_tokens"), number(report, "seconds"));
    printf("output      %.0f tokens/s\n", number(report, "output_tokens_per_s"));
    printf("prompts     %.0f tokens/s\n", number(report, "prompt_tokens_per_s"));
    printf("TTFT        %.0f ms at the median, %.0f ms at p99\n", number(report, "ttft_ms_p50"),
           number(report, "ttft_ms_p99"));
    printf("steps       %.0f of %.2f ms: schedule %.3f, plan %.3f, forward %.2f, sample %.2f ms (on a GPU "
           "the wait for "
           "the pass, too)\n",
           number(report, "steps"), number(parts, "step"), number(parts, "schedule"), number(parts, "plan"),
           number(parts, "forward"), number(parts, "sample"));
    printf("floor       %.2f s: weights %.2f GB each step, KV %.2f GB in all, at %.1f GB/s; %.1f %% of the "
           "speed it allows\n",
           number(report, "floor_s"), number(report, "weight_bytes_per_step") * 1e-9,
           number(report, "kv_bytes") * 1e-9, number(report, "copy_gb_s"),
           100 * number(report, "floor_share"));
    if (number(report, "preemptions") > 0)
        printf("%.0f preemptions: the KV pool does not hold all requests\n", number(report, "preemptions"));
}

/* "A:B" */
static bool parse_lengths(const char *lengths, uint32_t *least, uint32_t *most) {
    char *end;
    unsigned long low = strtoul(lengths, &end, 10);
    if (*end != ':')
        return false;
    unsigned long high = strtoul(end + 1, &end, 10);
    *least = (uint32_t)low;
    *most = (uint32_t)high;
    return *end == '\0' && low >= 1 && low <= high && high <= LENGTH_MAX;
}

static int measure_random(const command *self, const throughput_settings *settings,
                          const compose_settings *compose, const engine_settings *engine_options) {
    bench_throughput_options options = settings->options;
    char *path = NULL;
    json_t *report = NULL;
    cento_error error;
    int status = engine_options_from(self, engine_options, &options.engine);
    if (status < 0 && settings->lengths != NULL &&
        !parse_lengths(settings->lengths, &options.tokens_min, &options.tokens_max))
        status = usage_error(self, "--lengths: expected A:B with 1 ≤ A ≤ B, found '%s'", settings->lengths);
    if (status >= 0)
        return status;
    if (model_path_find(engine_options->model, &path, &error) != CENTO_OK)
        return fail(&error);
    options.engine.model_path = path;
    options.geometry = compose->options.geometry;
    options.kv_bytes_max = compose->options.kv_bytes_max;
    options.on_progress = show_progress;
    if (bench_throughput(&options, &report, &error) != CENTO_OK)
        status = fail(&error);
    progress_clear();
    mem_free(path);
    if (status >= 0)
        return status;
    if (compose->json)
        return print_json(report);
    show_report(report);
    json_decref(report);
    return output_finish();
}

/* -------------------------------------------------------------- workloads of bench compose --- */

static void add_way(table *rows, const char *name, const json_t *figures, const json_t *baseline) {
    table_add(rows, "%s", name);
    table_add(rows, "%lld", (long long)json_integer_value(json_object_get(figures, "computed_tokens")));
    table_add(rows, "%.0f ms", number(figures, "ttft_ms_p50"));
    table_add(rows, "%.0f ms", number(figures, "ttft_ms_p99"));
    table_add(rows, "%.0f", number(figures, "tokens_per_s"));
    table_add(rows, "%.2f s", number(figures, "seconds"));
    table_add(rows, "%.2f", number(figures, "tokens_per_s") / number(baseline, "tokens_per_s"));
    table_add(rows, "%.2f", number(baseline, "ttft_ms_p50") / number(figures, "ttft_ms_p50"));
}

static void show_workloads(const json_t *report) {
    static const char *const headings[] = {"",         "computed", "TTFT p50", "TTFT p99",
                                           "tokens/s", "whole",    "speedup",  "of TTFT"};
    const json_t *workloads = json_object_get(report, "workloads");
    table rows;
    table_init(&rows, "lrrrrrrr");
    for (size_t i = 0; i < sizeof headings / sizeof headings[0]; i++)
        table_add(&rows, "%s", headings[i]);
    for (size_t i = 0; i < json_array_size(workloads); i++) {
        const json_t *work = json_array_get(workloads, i), *baseline = json_object_get(work, "baseline");
        add_way(&rows, text(work, "name"), work, baseline);
        add_way(&rows, "  cascade off", json_object_get(work, "cascade_off"), baseline);
        add_way(&rows, "  reuse off, too", baseline, baseline);
    }
    printf("%s on %s\n", text(report, "model"), text(report, "backend"));
    table_print(&rows, stdout, true);
}

static int measure_workloads(const command *self, const compose_settings *settings,
                             const engine_settings *engine_options) {
    engine_settings sized = *engine_options;
    json_t *report = NULL;
    if (sized.max_batched_tokens == 0 && sized.device != NULL && strncmp(sized.device, "cuda", 4) == 0)
        sized.max_batched_tokens = BATCHED_TOKENS_GPU;
    int status = compose_measure(self, settings, &sized, &report);
    if (status >= 0)
        return status;
    if (settings->json)
        return print_json(report);
    show_workloads(report);
    json_decref(report);
    return output_finish();
}

/* ------------------------------------------------------------------------------ command ----- */

static int run_throughput(const command *self, int argc, char **argv) {
    throughput_settings settings = {.options = bench_throughput_options_default()};
    compose_settings compose = {.options = bench_compose_options_default()};
    engine_settings engine_options = {0};
    compose.options.kv_bytes_max = settings.options.kv_bytes_max;
    const option_group groups[] = {
        {"Nothing shared", throughput_specs, sizeof throughput_specs / sizeof throughput_specs[0], &settings},
        {"Workloads of bench compose", compose_specs, compose_spec_count, &compose},
        {"Engine", engine_specs, engine_spec_count, &engine_options},
    };
    int status = options_parse(self, groups, sizeof groups / sizeof groups[0], &argc, argv);
    if (status < 0 && argc > 0)
        status = usage_error(self, "expected only options, found '%s'", argv[0]);
    if (status < 0)
        status = compose.workloads.count > 0 ? measure_workloads(self, &compose, &engine_options)
                                             : measure_random(self, &settings, &compose, &engine_options);
    option_list_free(&compose.workloads);
    return status;
}

const command bench_throughput_command = {
    .name = "bench throughput",
    .summary = "how many tokens a second many requests get, and where a step's time goes",
    .usage = "[options]",
    .details =
        "Answers nano-vLLM's workload: 256 prompts of 100 to 1,024 random tokens, answers of as many, "
        "temperature 0.6, nothing shared; its lengths and tokens are the same ones. Prints tokens per "
        "second, the parts of a step, and the floor: what reading weights and KV would take at the speed of "
        "a "
        "copy in the same memory.\n\nWith --workload it answers those of bench compose instead, as they are, "
        "without cascade attention, and without reuse, and compares time to first token and throughput.",
    .examples = "  cento bench throughput\n"
                "  cento bench throughput --device cuda --geometry qwen3-0.6b --json\n"
                "  cento bench throughput --device cuda --geometry llama-3.1-8b --workload rag\n",
    .run = run_throughput,
};
