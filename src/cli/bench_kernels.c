/* cento bench plan, cento bench attention: options and tables. What is measured is in bench/. */
#include <stdlib.h>
#include <string.h>

#include "bench/bench_attention.h"
#include "bench/bench_plan.h"
#include "bench_grid.h"
#include "input.h"
#include "options.h"
#include "result.h"
#include "term.h"

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* ----------------------------------------------------------------------------- bench plan -- */

typedef struct plan_settings {
    bench_plan_options options;
    bool json;
} plan_settings;

#define PLAN_OFFSET(field) (offsetof(plan_settings, options) + offsetof(bench_plan_options, field))

static const option_spec plan_specs[] = {
    {"sequences", OPTION_U32, PLAN_OFFSET(sequences), "N", 1, 4096, "sequences of the step (default: 256)"},
    {"chunks", OPTION_U32, PLAN_OFFSET(chunks), "N", 1, 256, "chunks of each sequence (default: 8)"},
    {"chunk-tokens", OPTION_U32, PLAN_OFFSET(chunk_tokens), "N", 1, 65536,
     "tokens of a chunk (default: 512)"},
    {"collection", OPTION_U32, PLAN_OFFSET(collection), "N", 1, 65536,
     "chunks to draw from at random (default: 128)"},
    {"repetitions", OPTION_U32, PLAN_OFFSET(repetitions), "N", 1, 10000,
     "plans to measure, in 20 batches (default: 501)"},
    {"json", OPTION_FLAG, offsetof(plan_settings, json), NULL, 0, 0, "print one JSON object"},
};

static void add_sizes(table *rows, const json_t *sizes) {
    size_t i;
    json_t *size;
    json_array_foreach(sizes, i, size) {
        static const char *const counts[] = {"sequences", "chunks", "views", "cells", "tasks"};
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            table_add(rows, "%.0f", number(size, counts[c]));
        table_add(rows, "%.1f", number(size, "us"));
        table_add(rows, "%.1f", number(size, "us_cold"));
        table_add(rows, "%.1f", number(size, "ns_per_view"));
    }
}

static int show_plan_report(const json_t *report) {
    static const char *const headings[] = {"sequences", "chunks", "views", "cells",
                                           "tasks",     "us",     "cold",  "ns/view"};
    table rows;
    table_init(&rows, "rrrrrrrr");
    for (size_t i = 0; i < sizeof headings / sizeof headings[0]; i++)
        table_add(&rows, "%s", headings[i]);
    add_sizes(&rows, json_object_get(report, "by_sequences"));
    add_sizes(&rows, json_object_get(report, "by_chunks"));
    printf("%.1f us per plan, %.1f us with cold caches: %.0f sequences with %.0f chunks\n\n",
           number(report, "us_per_plan"), number(report, "us_per_plan_cold"), number(report, "sequences"),
           number(report, "chunks"));
    table_print(&rows, stdout, true);
    return output_finish();
}

static int run_plan(const command *self, int argc, char **argv) {
    plan_settings settings = {.options = bench_plan_options_default()};
    const option_group groups[] = {
        {"Options", plan_specs, sizeof plan_specs / sizeof plan_specs[0], &settings}};
    int status = options_parse(self, groups, 1, &argc, argv);
    if (status >= 0)
        return status;
    if (argc > 0)
        return usage_error(self, "expected only options, found '%s'", argv[0]);
    cento_error error;
    json_t *report = NULL;
    if (bench_plan(&settings.options, &report, &error) != CENTO_OK)
        return input_fail(&error);
    if (settings.json)
        return print_json(report);
    status = show_plan_report(report);
    json_decref(report);
    return status;
}

const command bench_plan_command = {
    .name = "bench plan",
    .summary = "how long planning a step's attention takes",
    .usage = "[options]",
    .details = "Plans a step of sequences with chunks drawn at random from a collection, on one core, and "
               "shows how the time grows with sequences and chunks. Needs no model.",
    .examples = "  cento bench plan\n"
                "  cento bench plan --sequences 64 --chunks 16 --json\n",
    .run = run_plan,
};

/* ------------------------------------------------------------------------ bench attention -- */

typedef struct attention_settings {
    bench_attention_case single; /* sequences 0: the usual cases */
    uint32_t repetitions, threads;
    int kv_dtype;
    const char *isa;
    bool json;
    bench_grid_options grid;
    const char *heads, *list_cases;
} attention_settings;

#define CASE_OFFSET(field) (offsetof(attention_settings, single) + offsetof(bench_attention_case, field))
#define GRID_OFFSET(field) (offsetof(attention_settings, grid) + offsetof(bench_grid_options, field))

static const option_spec attention_specs[] = {
    {"sequences", OPTION_U32, CASE_OFFSET(sequences), "N", 1, 4096,
     "measure this case alone (default: a list of cases)"},
    {"shared-tokens", OPTION_U32, CASE_OFFSET(shared_tokens), "N", 0, 1 << 20,
     "tokens that all sequences share (default: 4096)"},
    {"own-tokens", OPTION_U32, CASE_OFFSET(own_tokens), "N", 1, 1 << 20,
     "tokens of each sequence alone (default: 64)"},
    {"heads", OPTION_TEXT, offsetof(attention_settings, heads), "N", 0, 0,
     "query heads (default: 32); of the grid: 32/8, 64/8, 8/1, 32/32, with commas (default: all)"},
    {"kv-heads", OPTION_U32, CASE_OFFSET(kv_heads), "N", 1, 1024, "KV heads (default: 8)"},
    {"head-dim", OPTION_U32, CASE_OFFSET(head_dim), "N", 2, 256, "size of a head (default: 64)"},
    {"repetitions", OPTION_U32, offsetof(attention_settings, repetitions), "N", 1, 1000,
     "go over all layers N times, at least 61 calls; medians count (default: 5, on the grid 7)"},
    {"threads", OPTION_U32, offsetof(attention_settings, threads), "N", 1, 1024,
     "compute threads (default: one for each physical core)"},
    {"kv-dtype", OPTION_CHOICE, offsetof(attention_settings, kv_dtype), "bf16|f32", 0, 0,
     "type of keys and values (default: bf16)"},
    {"isa", OPTION_TEXT, offsetof(attention_settings, isa), "NAME", 0, 0,
     "kernels for portable, avx2, avx512 or amx (default: the best this CPU has)"},
    {"json", OPTION_FLAG, offsetof(attention_settings, json), NULL, 0, 0, "print one JSON object"},
};

static const option_spec grid_specs[] = {
    {"device", OPTION_TEXT, GRID_OFFSET(device), "NAME", 0, 0,
     "cuda, cuda:N or cpu: measure the grid there (default: the list of cases, on the CPU)"},
    {"attention", OPTION_TEXT, GRID_OFFSET(attention), "NAME", 0, 0,
     "auto, or flashinfer: FlashInfer's kernels on a GPU, in builds that have them (default: auto)"},
    {"cases", OPTION_TEXT, GRID_OFFSET(filter.cases), "NAMES", 0, 0,
     "only cases whose names begin so, with commas: S1, S2, S3, S4, S5, S6, P, 'S1 b8 2k'"},
    {"page", OPTION_TEXT, GRID_OFFSET(filter.pages), "TOKENS", 0, 0, "16, 64 (default: both)"},
    {"seconds", OPTION_NUMBER, GRID_OFFSET(seconds_max), "S", 0, 86400,
     "begin no case after S seconds (default: measure all)"},
    {"shared-only", OPTION_FLAG, GRID_OFFSET(shared_only), NULL, 0, 0, "do not time plans without sharing"},
    {"list-cases", OPTION_TEXT, offsetof(attention_settings, list_cases), "FILE", 0, 0,
     "write the grid's cases as JSON and measure nothing"},
};

static bool show_case(void *user, const char *name, size_t done, size_t total) {
    (void)user;
    progress_show(name, done, total, false);
    return true;
}

static int show_attention_report(const json_t *report) {
    static const char *const headings[] = {"case",    "us",        "unshared", "speedup", "quartiles",
                                           "KV GB/s", "of memory", "GFLOP/s",  "of FMA",  "unshared"};
    size_t i;
    json_t *one;
    table rows;
    table_init(&rows, "lrrrrrrrrr");
    for (i = 0; i < sizeof headings / sizeof headings[0]; i++)
        table_add(&rows, "%s", headings[i]);
    json_array_foreach(json_object_get(report, "cases"), i, one) {
        table_add(&rows, "%s", json_string_value(json_object_get(one, "name")));
        table_add(&rows, "%.0f", number(one, "us"));
        table_add(&rows, "%.0f", number(one, "us_unshared"));
        table_add(&rows, "%.2f", number(one, "speedup_vs_unshared"));
        table_add(&rows, "%.2f - %.2f", number(one, "speedup_low"), number(one, "speedup_high"));
        table_add(&rows, "%.1f", number(one, "kv_gb_s"));
        table_add(&rows, "%.0f %%", 100 * number(one, "kv_read_fraction"));
        table_add(&rows, "%.1f", number(one, "gflop_s"));
        table_add(&rows, "%.0f %%", 100 * number(one, "fma_fraction"));
        table_add(&rows, "%.0f %%", 100 * number(one, "fma_fraction_unshared"));
    }
    printf("%s, KV in %s; measured: memory read %.1f GB/s, multiply-adds %.1f GFLOP/s\n\n",
           json_string_value(json_object_get(report, "backend")),
           json_string_value(json_object_get(report, "kv_dtype")), number(report, "read_gb_s"),
           number(report, "fma_gflop_s"));
    table_print(&rows, stdout, true);
    return output_finish();
}

static int measure_grid(const attention_settings *settings) {
    bench_grid_options options = settings->grid;
    options.filter.heads = settings->heads;
    options.kv_dtype = (cento_dtype)settings->kv_dtype;
    options.threads = settings->threads;
    options.repetitions = settings->repetitions;
    return settings->list_cases != NULL ? grid_list_cases(&options.filter, settings->list_cases)
                                        : grid_run(&options, settings->json);
}

static int run_attention(const command *self, int argc, char **argv) {
    attention_settings settings = {
        .single = {.heads = 32, .kv_heads = 8, .head_dim = 64, .shared_tokens = 4096, .own_tokens = 64},
    };
    const option_group groups[] = {
        {"Options", attention_specs, sizeof attention_specs / sizeof attention_specs[0], &settings},
        {"The grid", grid_specs, sizeof grid_specs / sizeof grid_specs[0], &settings},
    };
    int status = options_parse(self, groups, 2, &argc, argv);
    if (status >= 0)
        return status;
    if (argc > 0)
        return usage_error(self, "expected only options, found '%s'", argv[0]);
    const bench_grid_options *grid = &settings.grid;
    if (grid->device != NULL || grid->filter.cases != NULL || grid->filter.pages != NULL ||
        settings.list_cases != NULL)
        return measure_grid(&settings);
    if (settings.heads != NULL) {
        char *end;
        unsigned long heads = strtoul(settings.heads, &end, 10);
        if (*end != '\0' || heads == 0 || heads > 1024)
            return usage_error(self, "--heads: expected 1 to 1024, found '%s'", settings.heads);
        settings.single.heads = (uint32_t)heads;
    }
    const bench_attention_options options = {
        .cases = settings.single.sequences > 0 ? &settings.single : NULL,
        .case_count = 1,
        .repetitions = settings.repetitions == 0 ? 5 : settings.repetitions,
        .threads = settings.threads,
        .kv_dtype = (cento_dtype)settings.kv_dtype,
        .isa = settings.isa,
        .on_case = show_case,
    };
    cento_error error;
    json_t *report = NULL;
    cento_status made = bench_attention(&options, &report, &error);
    progress_clear();
    if (made != CENTO_OK)
        return input_fail(&error);
    if (settings.json)
        return print_json(report);
    status = show_attention_report(report);
    json_decref(report);
    return status;
}

const command bench_attention_command = {
    .name = "bench attention",
    .summary = "how fast attention over shared runs is, against not sharing them",
    .usage = "[options]",
    .details =
        "Decodes one token of several sequences that share a run of keys, with the plan that reads the run "
        "once for all of them and with one that does not, and compares both with what the machine can do. "
        "Checks that both give the same bits. Needs no model.\n\n"
        "With --device, --cases or --page it measures the grid instead, on a GPU or the CPU: one prefix "
        "(S1), "
        "documents (S2), trees (S3), compositions (S4), nothing shared (S5), decoding beside a prefill (S6), "
        "prefill (P). The roof beside it is what a copy in the device's memory reaches, on distinct keys and "
        "values; rows of each case are compared with f64 attention.",
    .examples = "  cento bench attention\n"
                "  cento bench attention --device cuda --cases S1,S4 --heads 32/8 --page 64 --json\n"
                "  cento bench attention --sequences 16 --shared-tokens 4096 --head-dim 128 --json\n",
    .run = run_attention,
};
