/* Options of bench compose, which bench throughput takes as well for the same workloads. */
#ifndef CENTO_CLI_BENCH_COMPOSE_H
#define CENTO_CLI_BENCH_COMPOSE_H

#include "bench/bench_compose.h"
#include "settings.h"

typedef struct compose_settings {
    bench_compose_options options;
    option_list workloads;
    bool json;
} compose_settings;

extern const option_spec compose_specs[];
extern const size_t compose_spec_count;

/* With a progress bar. -1, or the exit status: the message is printed then. */
int compose_measure(const command *self, const compose_settings *settings,
                    const engine_settings *engine_options, json_t **report);

#endif
