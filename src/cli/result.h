/* Results as JSON, and as lines and tables for people. */
#ifndef CENTO_CLI_RESULT_H
#define CENTO_CLI_RESULT_H

#include <jansson.h>

#include "cento.h"
#include "term.h"

/* The JSON object of one answer, as docs/cli.md describes it. tokenizer: for the tokens' texts, only needed
 * when the result has logprobs. NULL when out of memory. */
json_t *result_to_json(const cento_result *result, double load_ms, const cento_tokenizer *tokenizer);

/* Rows of --stats: one for each answer. */
void stats_table_init(table *rows);
void stats_table_add(table *rows, size_t number, const cento_result *result);

/* "312 prompt tokens, 289 reused, 12 ms; 10 answered, 88/s" */
void append_summary(strbuf *line, const cento_result *result);

/* Prints a value as one JSON text and a newline. Takes the reference; NULL means out of memory. Returns the
 * exit status. */
int print_json(json_t *value);

#endif
