/*
 * A line of `cento run --batch`: a JSON object that becomes a request. docs/cli.md has the format for users.
 * Knows nothing of engines: what is right for JSON and wrong for a model, the engine says.
 */
#ifndef CENTO_CLI_BATCH_LINE_H
#define CENTO_CLI_BATCH_LINE_H

#include <jansson.h>

#include "base/arena.h"
#include "cento.h"

/* What the command line said; lines override it. Borrowed. */
typedef struct batch_defaults {
    const cento_request *request; /* all but pieces and callbacks */
    const cento_piece *pieces;    /* system, tools, documents: stand in every prompt that names no others */
    size_t piece_count;
} batch_defaults;

typedef struct batch_line {
    uint64_t number; /* from 1 */
    json_t *root;    /* owned; texts of the request point into it */
    json_t *id;      /* a string or an integer; NULL: none. Borrowed from root */
    arena memory;    /* arrays and files' texts of the request */
    cento_request request;
} batch_line;

/* Reads the object and its id. *line must be freed in any case; when the id was read it is set even on
 * failure, so that the answer can say whose it is. Messages begin with "line 12: ". */
cento_status batch_line_read(uint64_t number, const char *text, size_t bytes, batch_line *line,
                             cento_error *error);
/* Makes line->request, reading the files that it names. Unknown keys are an error: a misspelt setting must
 * not be lost in a million lines. */
cento_status batch_line_build(batch_line *line, const batch_defaults *defaults, cento_error *error);
void batch_line_free(batch_line *line);

#endif
