/*
 * cento bench: measurements. Options and tables are here; what is measured is in bench/, in a file for each
 * benchmark.
 */
#include <string.h>

#include "base/mem.h"
#include "bench/bench_model.h"
#include "bench/bench_qa.h"
#include "input.h"
#include "result.h"
#include "settings.h"
#include "term.h"

/* ------------------------------------------------------------------------------ bench qa --- */

typedef struct qa_settings {
    const char *questions;
    uint32_t limit;
    option_list modes;
    bool anchored;
    uint32_t failures;
    bool json;
} qa_settings;

static const option_spec qa_specs[] = {
    {"questions", OPTION_TEXT, offsetof(qa_settings, questions), "FILE", 0, 0,
     "questions and documents as JSON (default: bench/qa/cento-tiny.json)"},
    {"limit", OPTION_U32, offsetof(qa_settings, limit), "N", 1, OPTION_COUNT_MAX,
     "ask only N questions, spread evenly over the file"},
    {"mode", OPTION_LIST, offsetof(qa_settings, modes), "MODE", 0, 0,
     "exact, independent or link:K; may be repeated (default: exact and independent)"},
    {"anchored", OPTION_FLAG, offsetof(qa_settings, anchored), NULL, 0, 0,
     "independent, link: chunks see the system prompt when they are computed"},
    {"failures", OPTION_U32, offsetof(qa_settings, failures), "N", 0, 100000,
     "show up to N wrong answers of each mode"},
    {"json", OPTION_FLAG, offsetof(qa_settings, json), NULL, 0, 0, "print one JSON object"},
};

static bool show_question(void *user, const char *mode, size_t done, size_t total) {
    (void)user;
    progress_show(mode, done, total, false);
    return true;
}

/* Rows: one for `group` of each mode's report, columns: modes. */
static void add_groups(table *rows, const json_t *modes, const char *group, const char *suffix) {
    const char *first_name = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)modes));
    const json_t *first = json_object_get(json_object_get(modes, first_name), group);
    const char *name, *mode_name;
    json_t *value, *mode;
    json_object_foreach((json_t *)(uintptr_t)first, name, value) {
        const char *plural = *suffix != '\0' && strcmp(name, "1") != 0 ? "s" : "";
        table_add(rows, "%s%s%s", name, suffix, plural);
        json_object_foreach((json_t *)(uintptr_t)modes, mode_name, mode) {
            double accuracy = json_number_value(json_object_get(json_object_get(mode, group), name));
            table_add(rows, "%.2f %%", 100 * accuracy);
        }
    }
}

static void add_measure(table *rows, const json_t *modes, const char *label, const char *key) {
    const char *name;
    json_t *mode;
    table_add(rows, "%s", label);
    json_object_foreach((json_t *)(uintptr_t)modes, name, mode) {
        const json_t *value = json_object_get(mode, key);
        if (json_is_integer(value))
            table_add(rows, "%lld", (long long)json_integer_value(value));
        else if (strcmp(key, "accuracy") == 0)
            table_add(rows, "%.2f %%", 100 * json_real_value(value));
        else
            table_add(rows, "%.1f", json_real_value(value));
    }
}

static void show_failures(const json_t *modes) {
    const char *name;
    json_t *mode;
    json_object_foreach((json_t *)(uintptr_t)modes, name, mode) {
        const json_t *failures = json_object_get(mode, "failures");
        for (size_t i = 0; i < json_array_size(failures); i++) {
            const json_t *failure = json_array_get(failures, i);
            static const char *const keys[] = {"query", "expected", "found"};
            printf("\n%s, question %lld\n", name,
                   (long long)json_integer_value(json_object_get(failure, "question")));
            for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
                const json_t *text = json_object_get(failure, keys[k]);
                printf("  %-9s ", keys[k]);
                print_text(stdout, json_string_value(text), json_string_length(text));
                putchar('\n');
            }
        }
    }
}

static void show_qa_report(const json_t *report) {
    static const char alignment[] = "lrrrrrrrrrrr"; /* TABLE_COLUMNS_MAX */
    const json_t *modes = json_object_get(report, "modes");
    size_t mode_count = json_object_size(modes);
    table rows;
    table_init(&rows, alignment + sizeof alignment - 1);
    rows.alignment = alignment;
    rows.columns = 1 + mode_count;
    const char *name;
    json_t *mode;
    table_add(&rows, "answered right");
    json_object_foreach((json_t *)(uintptr_t)modes, name, mode) {
        table_add(&rows, "%s", name);
    }
    add_measure(&rows, modes, "all", "accuracy");
    add_groups(&rows, modes, "by_documents", " document");
    add_groups(&rows, modes, "by_kind", "");
    add_measure(&rows, modes, "questions", "questions");
    add_measure(&rows, modes, "prompt tokens", "prompt_tokens");
    add_measure(&rows, modes, "reused", "cached_tokens");
    add_measure(&rows, modes, "computed", "computed_tokens");
    add_measure(&rows, modes, "seconds", "seconds");
    table_print(&rows, stdout, true);
    show_failures(modes);
}

static int read_modes(const command *self, const qa_settings *settings, bench_qa_mode *modes, size_t *count) {
    static const char *const usual[] = {"exact", "independent"};
    *count = settings->modes.count == 0 ? 2 : settings->modes.count;
    if (*count > TABLE_COLUMNS_MAX - 1)
        return usage_error(self, "--mode: at most %d modes", TABLE_COLUMNS_MAX - 1);
    for (size_t i = 0; i < *count; i++) {
        bench_qa_mode *mode = &modes[i];
        *mode =
            (bench_qa_mode){.name = settings->modes.count == 0 ? usual[i] : settings->modes.items[i].text};
        if (cento_mode_parse(mode->name, &mode->mode, &mode->link_tokens, NULL) != CENTO_OK)
            return usage_error(self, "--mode: expected exact, independent or link:K, found '%s'", mode->name);
        mode->anchored = settings->anchored && mode->mode != CENTO_MODE_EXACT;
    }
    return -1;
}

static int measure_qa(const command *self, const qa_settings *settings,
                      const engine_settings *engine_options) {
    bench_qa_mode modes[TABLE_COLUMNS_MAX - 1];
    bench_qa_options options = {.modes = modes,
                                .limit = settings->limit,
                                .failures_max = settings->failures,
                                .on_question = show_question};
    int status = read_modes(self, settings, modes, &options.mode_count);
    if (status >= 0)
        return status;
    char *found = settings->questions == NULL ? resource_find("bench/qa/cento-tiny.json") : NULL;
    options.questions_path = settings->questions == NULL ? found : settings->questions;
    if (options.questions_path == NULL) {
        message_error("bench/qa/cento-tiny.json is not beside this program; name a file with --questions");
        return EXIT_STATUS_FAILURE;
    }
    cento_engine *engine = NULL;
    json_t *report = NULL;
    cento_error error;
    status = engine_open(self, engine_options, &engine, NULL);
    if (status < 0 && bench_qa(engine, &options, &report, &error) != CENTO_OK)
        status = fail(&error);
    progress_clear();
    if (status < 0 && settings->json) {
        status = print_json(json_incref(report));
    } else if (status < 0) {
        show_qa_report(report);
        status = output_finish();
    }
    json_decref(report);
    cento_close(engine);
    mem_free(found);
    return status;
}

static int run_qa(const command *self, int argc, char **argv) {
    qa_settings settings = {0};
    engine_settings engine_options = {0};
    const option_group groups[] = {
        {"Questions", qa_specs, sizeof qa_specs / sizeof qa_specs[0], &settings},
        {"Engine", engine_specs, engine_spec_count, &engine_options},
    };
    int status = options_parse(self, groups, sizeof groups / sizeof groups[0], &argc, argv);
    if (status < 0 && argc > 0)
        status = usage_error(self, "expected only options, found '%s'", argv[0]);
    if (status < 0)
        status = measure_qa(self, &settings, &engine_options);
    option_list_free(&settings.modes);
    return status;
}

static const command qa_command = {
    .name = "bench qa",
    .summary = "how many questions a model answers right, in each mode",
    .usage = "[options]",
    .details =
        "Asks held-out questions over one to eight documents, greedily, and compares the answers byte for "
        "byte: how much does reusing chunks cost in quality? Prints accuracy by mode, number of documents "
        "and kind of question.",
    .examples = "  cento bench qa\n"
                "  cento bench qa --limit 500 --mode exact --mode link:16 --mode independent --json\n",
    .run = run_qa,
};

/* --------------------------------------------------------------------------- bench model --- */

typedef struct speed_settings {
    const char *geometry;
    uint32_t prompt_tokens, decode_tokens, repetitions, threads;
    int compute_dtype; /* a cento_dtype */
    const char *isa;
    bool json;
} speed_settings;

static const option_spec speed_specs[] = {
    {"geometry", OPTION_TEXT, offsetof(speed_settings, geometry), "NAME", 0, 0,
     "shape of the model: llama-3.2-1b (default), llama-3.1-8b, qwen3-0.6b, qwen3-8b, qwen2.5-0.5b, tiny"},
    {"prompt-tokens", OPTION_U32, offsetof(speed_settings, prompt_tokens), "N", 1, 1 << 20,
     "tokens of the prefill (default: 512)"},
    {"decode-tokens", OPTION_U32, offsetof(speed_settings, decode_tokens), "N", 1, 1 << 20,
     "tokens decoded after it (default: 32)"},
    {"repetitions", OPTION_U32, offsetof(speed_settings, repetitions), "N", 1, 1000,
     "the median of N runs counts (default: 3)"},
    {"threads", OPTION_U32, offsetof(speed_settings, threads), "N", 1, 4096,
     "compute threads (default: one for each physical core)"},
    {"compute-dtype", OPTION_CHOICE, offsetof(speed_settings, compute_dtype), "bf16|f32", 0, 0,
     "type of matrix products and KV (default: bf16)"},
    {"isa", OPTION_TEXT, offsetof(speed_settings, isa), "NAME", 0, 0,
     "kernels for portable, avx2 or avx512 (default: the best this CPU has)"},
    {"json", OPTION_FLAG, offsetof(speed_settings, json), NULL, 0, 0, "print one JSON object"},
};

static int run_speed(const command *self, int argc, char **argv) {
    bench_model_options options = bench_model_options_default();
    speed_settings settings = {
        .geometry = options.geometry,
        .prompt_tokens = options.prompt_tokens,
        .decode_tokens = options.decode_tokens,
        .repetitions = options.repetitions,
        .compute_dtype = (int)options.compute_dtype,
    };
    const option_group groups[] = {
        {"Options", speed_specs, sizeof speed_specs / sizeof speed_specs[0], &settings},
    };
    int status = options_parse(self, groups, 1, &argc, argv);
    if (status >= 0)
        return status;
    if (argc > 0)
        return usage_error(self, "expected only options, found '%s'", argv[0]);
    options.geometry = settings.geometry;
    options.prompt_tokens = settings.prompt_tokens;
    options.decode_tokens = settings.decode_tokens;
    options.repetitions = settings.repetitions;
    options.threads = settings.threads;
    options.compute_dtype = (cento_dtype)settings.compute_dtype;
    options.isa = settings.isa;
    options.json = settings.json;
    cento_error error;
    if (bench_model_run(&options, stdout, &error) != CENTO_OK) {
        fail(&error);
        /* the only thing that it looks up is the geometry */
        bool misnamed = error.status == CENTO_NOT_FOUND || error.status == CENTO_INVALID_ARGUMENT;
        return misnamed ? EXIT_STATUS_USAGE : EXIT_STATUS_FAILURE;
    }
    return output_finish();
}

static const command speed_command = {
    .name = "bench model",
    .summary = "how fast prefill and decoding are, beside what this machine can do",
    .usage = "[options]",
    .details =
        "Fills a model of a known shape with random weights and measures prefill against oneDNN's matrix "
        "products alone, decoding against the memory's read bandwidth. Needs no model file.",
    .examples = "  cento bench model\n"
                "  cento bench model --geometry qwen3-0.6b --json\n",
    .run = run_speed,
};

/* --------------------------------------------------------------------------- the command --- */

static const command *const benchmarks[] = {
    &speed_command,           &bench_throughput_command, &bench_compose_command,
    &bench_attention_command, &bench_plan_command,       &qa_command,
};
enum { BENCHMARK_COUNT = sizeof benchmarks / sizeof benchmarks[0] };

static int run(const command *self, int argc, char **argv) {
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        printf("usage: cento bench %s\n\n", self->usage);
        for (size_t i = 0; i < BENCHMARK_COUNT; i++)
            printf("  %-16s %s\n", benchmarks[i]->name, benchmarks[i]->summary);
        printf("\nMore: cento help bench NAME\n");
        return EXIT_STATUS_OK;
    }
    if (argc == 0)
        return usage_error(self, "expected the name of a benchmark");
    const char *names[BENCHMARK_COUNT];
    for (size_t i = 0; i < BENCHMARK_COUNT; i++) {
        names[i] = benchmarks[i]->name + strlen("bench ");
        if (strcmp(argv[0], names[i]) == 0)
            return benchmarks[i]->run(benchmarks[i], argc - 1, argv + 1);
    }
    const char *nearest = nearest_name(argv[0], names, BENCHMARK_COUNT);
    if (nearest != NULL)
        return usage_error(self, "unknown benchmark '%s'; did you mean '%s'?", argv[0], nearest);
    return usage_error(self, "unknown benchmark '%s'", argv[0]);
}

const command bench_command = {
    .name = "bench",
    .summary = "measure speed and quality",
    .usage = "NAME [options]",
    .details = "",
    .run = run,
};
