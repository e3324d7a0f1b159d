/* See bench_grid.h. */
#include "bench_grid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "input.h"
#include "result.h"
#include "term.h"

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static bool show_case(void *user, const char *name, size_t done, size_t total) {
    (void)user;
    progress_show(name, done, total, false);
    return true;
}

static void add_unshared(table *rows, const json_t *one) {
    if (json_object_get(one, "us_unshared") == NULL) {
        table_add(rows, "%s", "");
        table_add(rows, "%s", "");
        return;
    }
    table_add(rows, "%.2f", number(one, "us_unshared"));
    table_add(rows, "%.2f", number(one, "speedup_vs_unshared"));
}

static void add_case(table *rows, const json_t *one) {
    table_add(rows, "%s", json_string_value(json_object_get(one, "name")));
    table_add(rows, "%.2f", number(one, "us"));
    add_unshared(rows, one);
    table_add(rows, "%.1f", number(one, "unique_bytes") / 1e6);
    table_add(rows, "%.2f", number(one, "floor_us"));
    table_add(rows, "%.0f %%", 100 * number(one, "share_of_copy"));
    table_add(rows, "%.1f", number(one, "tflop_s"));
    table_add(rows, "%.4f%s", number(one, "error"),
              number(one, "error") <= BENCH_GRID_TOLERANCE ? "" : " WRONG");
}

static void show_report(const json_t *report) {
    static const char *const headings[] = {"case",  "us",      "unshared", "speedup", "unique MB",
                                           "floor", "of copy", "TFLOP/s",  "error"};
    table rows;
    size_t i;
    table_init(&rows, "lrrrrrrrr");
    for (i = 0; i < sizeof headings / sizeof headings[0]; i++)
        table_add(&rows, "%s", headings[i]);
    const json_t *cases = json_object_get(report, "cases");
    for (i = 0; i < json_array_size(cases); i++)
        add_case(&rows, json_array_get(cases, i));
    printf("%s, KV in %s; a copy in its memory: %.1f GB/s\n\n",
           json_string_value(json_object_get(report, "device")),
           json_string_value(json_object_get(report, "kv_dtype")), number(report, "copy_gb_s"));
    table_print(&rows, stdout, true);
    if (number(report, "cases_left_out") > 0)
        printf("\n%.0f cases were left out: the time was over\n", number(report, "cases_left_out"));
}

int grid_run(const bench_grid_options *options, bool json) {
    bench_grid_options shown = *options;
    cento_error error;
    json_t *report = NULL;
    shown.on_case = show_case;
    cento_status made = bench_grid(&shown, &report, &error);
    progress_clear();
    if (made != CENTO_OK)
        return input_fail(&error);
    double wrong = number(report, "wrong");
    int status;
    if (json) {
        status = print_json(json_incref(report));
    } else {
        show_report(report);
        status = output_finish();
    }
    json_decref(report);
    if (status == EXIT_STATUS_OK && wrong > 0) {
        message_error("%.0f results are further than %g from f64 attention", wrong, BENCH_GRID_TOLERANCE);
        status = EXIT_STATUS_FAILURE;
    }
    return status;
}

int grid_list_cases(const attention_case_filter *filter, const char *path) {
    attention_case_list cases;
    cento_error error;
    if (attention_cases_create(filter, &cases, &error) != CENTO_OK)
        return input_fail(&error);
    json_t *list = attention_cases_json(&cases);
    size_t count = cases.count;
    attention_cases_free(&cases);
    if (list == NULL || json_dump_file(list, path, JSON_COMPACT) != 0) {
        message_error("%s could not be written: %s", path, list == NULL ? "out of memory" : strerror(errno));
        json_decref(list);
        return EXIT_STATUS_FAILURE;
    }
    json_decref(list);
    printf("%zu cases\n", count);
    return output_finish();
}
