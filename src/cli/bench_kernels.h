/* The benchmarks of attention and its plan; see bench.c. */
#ifndef CENTO_CLI_BENCH_KERNELS_H
#define CENTO_CLI_BENCH_KERNELS_H

#include "commands.h"

extern const command bench_plan_command;
extern const command bench_attention_command;

#endif
