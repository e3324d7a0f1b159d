/* Many requests from a file of lines, computed together: what `cento run --batch` does with an engine. */
#ifndef CENTO_CLI_BATCH_H
#define CENTO_CLI_BATCH_H

#include "batch_line.h"
#include "commands.h"

typedef struct batch_options {
    const char *input;  /* a file of requests; "-": standard input */
    const char *output; /* a file of results; NULL or "-": standard output */
    bool resume;        /* go on with the file of results */
    bool quiet;         /* no progress, no summary */
    bool stats;         /* the summary even when nobody watches */
} batch_options;

/* Everything about the files that can be wrong before an engine is opened; opens and repairs them. Returns -1
 * or the exit status. */
typedef struct batch batch;
int batch_open(const command *self, const batch_options *options, batch **opened);
/* Answers all lines. model_path: for the texts of log probabilities. max_sequences 0: the engine's default.
 * Returns the exit status: 1 if a line failed, 128 and the signal's number when interrupted. */
int batch_answer(batch *opened, cento_engine *engine, const char *model_path, uint32_t max_sequences,
                 const batch_defaults *defaults);
void batch_close(batch *opened);

#endif
