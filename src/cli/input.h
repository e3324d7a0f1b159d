/*
 * Texts named on the command line: TEXT itself, @FILE, - for standard input, @@TEXT for a text that begins
 * with @. All must be UTF-8 and not empty. Also where the model and other files of ours are found.
 */
#ifndef CENTO_CLI_INPUT_H
#define CENTO_CLI_INPUT_H

#include "base/strbuf.h"

typedef struct input_text {
    char *text; /* owned, NUL-terminated; input_text_free */
    size_t bytes;
    const char *label; /* the file's name without folders; NULL for a text given directly; points into argv */
} input_text;

typedef enum input_newline {
    INPUT_NEWLINE_STRIP, /* one newline at a file's end belongs to the file, not to the text */
    INPUT_NEWLINE_KEEP,
} input_newline;

/* option: what error messages about a directly given text begin with ("--query"). Failures:
 * INVALID_ARGUMENT when the argument itself is wrong, else what reading the file gave. */
cento_status input_read(const char *option, const char *argument, input_newline newline, input_text *input,
                        cento_error *error);
/* A file's text ("-": standard input); the label points into path. */
cento_status input_read_file(const char *path, input_newline newline, input_text *input, cento_error *error);
void input_text_free(input_text *input);

/* 2 for INVALID_ARGUMENT, else 1: how a failure of input_read ends the program. Prints the message. */
int input_fail(const cento_error *error);

/* A file of ours ("models/cento-tiny"): beside the source tree that the program was built in, or under
 * share/cento of the prefix it was installed to. Released with mem_free; NULL if there is none. */
char *resource_find(const char *relative);

/* `option`, else $CENTO_MODEL, else cento-tiny. Released with mem_free. */
cento_status model_path_find(const char *option, char **path, cento_error *error);

#endif
