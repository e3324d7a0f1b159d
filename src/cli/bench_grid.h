/* The grid of cento bench attention: what is shown of bench/bench_grid.c's report. */
#ifndef CENTO_CLI_BENCH_GRID_H
#define CENTO_CLI_BENCH_GRID_H

#include "bench/bench_grid.h"
#include "commands.h"

/* Measures, prints a table or JSON, returns the exit status: 1 if a result is wrong. */
int grid_run(const bench_grid_options *options, bool json);
/* Writes the cases to the file, measures nothing. */
int grid_list_cases(const attention_case_filter *filter, const char *path);

#endif
