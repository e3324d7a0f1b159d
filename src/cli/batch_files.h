/*
 * The files of `cento run --batch`: lines come in one after another without the whole file in memory, results
 * go out a whole line at a time, and a file of results is read again to go on where it ended.
 *
 * A results file is JSONL, each line an object that begins with "id" or "line". A process that was killed may
 * leave half a line at the end: going on drops it.
 */
#ifndef CENTO_CLI_BATCH_FILES_H
#define CENTO_CLI_BATCH_FILES_H

#include <jansson.h>

#include "cento.h"

/* ---------------------------------------------------------------------------------- ids --- */

/* The ids that have been met, as hashes: 16 bytes each. Lines without an id count by their number. */
typedef struct id_set {
    uint64_t (*slots)[2]; /* (capacity), open addressing; flags in the last two bits of [1]; 0, 0: empty */
    size_t capacity;      /* 0 or a power of two */
    size_t count;
} id_set;

enum { ID_ANSWERED = 1, ID_SEEN = 2 };

/* Adds the flag to what is known of an id (NULL: of the line), and says what was known before. flag 0: only
 * asks. */
cento_status id_set_mark(id_set *set, const json_t *id, uint64_t line, unsigned flag, unsigned *before,
                         cento_error *error);
void id_set_free(id_set *set);

/* -------------------------------------------------------------------------------- input --- */

typedef struct batch_input {
    int descriptor;
    const char *name; /* for messages */
    char *buffer;     /* owned */
    size_t begin, end, capacity;
    size_t scanned;       /* no newline before it */
    bool at_end;          /* nothing more comes */
    bool skipping;        /* in a line that was too long */
    bool newline_missing; /* behind the line that was handed out: it is the last one */
    uint64_t position;    /* in the file, of the buffer's first byte */
    uint64_t line_number;
} batch_input;

typedef enum batch_next {
    BATCH_LINE,     /* there is a line */
    BATCH_TOO_LONG, /* there is one that was too long to be read; text is NULL */
    BATCH_MORE,     /* batch_input_fill first */
    BATCH_END,
} batch_next;

enum { BATCH_LINE_BYTES_MAX = 256 << 20 };

/* "-": standard input. */
cento_status batch_input_open(const char *path, batch_input *input, cento_error *error);
/* One read(); blocks where the descriptor does. */
cento_status batch_input_fill(batch_input *input, cento_error *error);
/* The next line that is not blank, without its newline; valid until the next call. *number counts blank lines
 * too, from 1. */
batch_next batch_input_next(batch_input *input, const char **text, size_t *bytes, uint64_t *number);
void batch_input_close(batch_input *input);
/* The lines of a regular file; 0 if it is none (a pipe). Reads all of it. */
uint64_t batch_input_count(const char *path);

/* ------------------------------------------------------------------------------ results --- */

typedef struct batch_results {
    int descriptor;   /* -1: standard output */
    const char *name; /* for messages */
} batch_results;

/* path NULL or "-": standard output. An existing file that is not empty is only touched with `resume`: then
 * the ids answered in it are marked ID_ANSWERED, errors and a torn last line are dropped. */
cento_status batch_results_open(const char *path, bool resume, batch_results *results, id_set *ids,
                                cento_error *error);
/* Writes one result as a line, whole or not at all. *value is consumed. */
cento_status batch_results_write(const batch_results *results, json_t *value, cento_error *error);
void batch_results_close(batch_results *results);

/* Whether both names lead to the same file. */
bool batch_same_file(const char *one, const char *other);

#endif
