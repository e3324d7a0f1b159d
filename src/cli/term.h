/*
 * What the program shows: messages, colours, widths, progress bars, tables. Knows whether a stream is a
 * terminal; respects NO_COLOR (no-color.org) and TERM=dumb. Writing text that a model made to a terminal
 * goes through print_text(), which makes control characters visible instead of obeying them.
 */
#ifndef CENTO_CLI_TERM_H
#define CENTO_CLI_TERM_H

#include <stdio.h>

#include "base/strbuf.h"

/* Locale for UTF-8 input and widths, and SIGPIPE ignored, so that a broken pipe is an error of write().
 * Call once, first. */
void term_init(void);

bool term_is_tty(FILE *stream);
size_t term_columns(FILE *stream); /* 80 when not a terminal */

typedef enum style_name { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_ERROR, STYLE_ACCENT } style_name;
/* The escape sequence; "" where there are no colours. */
const char *style(FILE *stream, style_name name);

/* "cento: MESSAGE" on standard error, any progress bar cleared first. */
void message_error(const char *format, ...) CENTO_PRINTF(1, 2);
/* The error's message; returns EXIT_STATUS_FAILURE. */
int fail(const cento_error *error);

/* Columns that the text takes on a terminal. */
size_t text_width(const char *text, size_t bytes);
/* Words wrapped at `columns`, lines after the first indented; newlines in the text stay. Ends the line. */
void print_wrapped(FILE *stream, const char *text, size_t indent, size_t columns);
/* Text from elsewhere; on a terminal, control characters but newline and tab are shown as ^X. */
void print_text(FILE *stream, const char *text, size_t bytes);
/* The same to standard output, at once; false when nobody gets it (a reader that is gone, a full disk). */
bool output_write(const char *text, size_t bytes);
/* Flushes standard output. EXIT_STATUS_FAILURE when something could not be written; says so unless it was
 * a broken pipe, whose reader wants no more. */
int output_finish(void);

/* "1.25 GB", "381.0 MB", "12 bytes"; powers of 1000. */
void append_size(strbuf *text, uint64_t bytes);
/* "12,345" */
void append_count(strbuf *text, uint64_t count);

/* A bar on standard error while something takes longer than a moment; nothing if it is no terminal. */
void progress_show(const char *label, uint64_t done, uint64_t total, bool in_bytes);
/* The same with a text behind the bar instead of the total; total 0: unknown, the text alone. describe is
 * only called when something is drawn. */
void progress_describe(const char *label, uint64_t done, uint64_t total,
                       void (*describe)(void *user, strbuf *text), void *user);
void progress_hide(void);  /* until it is shown again: something is about to be printed */
void progress_clear(void); /* it is over */

/* A table: cells are added row by row, columns are as wide as their widest cell. */
enum { TABLE_COLUMNS_MAX = 12 };
typedef struct table {
    size_t columns;
    const char *alignment; /* one character a column: 'l' or 'r' */
    strbuf cells;          /* NUL-terminated one after another */
    size_t cell_count;
} table;
void table_init(table *rows, const char *alignment);
void table_add(table *rows, const char *format, ...) CENTO_PRINTF(2, 3); /* the next cell */
/* The first row is the heading if `heading`. Frees the table. */
void table_print(table *rows, FILE *stream, bool heading);

#endif
