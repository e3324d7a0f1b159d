/* The commands of the program; main.c chooses one, each has a file of its own. */
#ifndef CENTO_CLI_COMMANDS_H
#define CENTO_CLI_COMMANDS_H

#include <stddef.h>

/* Exit statuses. 1 is everything that is not the command line's fault. */
enum { EXIT_STATUS_OK = 0, EXIT_STATUS_FAILURE = 1, EXIT_STATUS_USAGE = 2 };

typedef struct command {
    const char *name;     /* as typed after "cento"; "bench qa" has two words */
    const char *summary;  /* one line, for the list of commands */
    const char *usage;    /* what stands after the name in the usage line */
    const char *details;  /* paragraphs for the help page */
    const char *examples; /* lines for the help page */
    /* argv[0] is the first argument after the name. Returns the exit status. */
    int (*run)(const struct command *self, int argc, char **argv);
} command;

extern const command run_command;
extern const command chat_command;
extern const command serve_command;
extern const command tokenize_command;
extern const command model_command;
extern const command bench_command;

/* benchmarks with a file of their own; bench.c has the others */
extern const command bench_compose_command;    /* bench_compose.c */
extern const command bench_throughput_command; /* bench_throughput.c */
extern const command bench_plan_command;       /* bench_kernels.c */
extern const command bench_attention_command;  /* bench_kernels.c */

#endif
