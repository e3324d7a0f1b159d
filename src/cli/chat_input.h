/*
 * Lines for the chat: with editing, history and completion of commands on a terminal (libedit), plain
 * lines from a pipe or file. A line that ends in a backslash goes on in the next one.
 */
#ifndef CENTO_CLI_CHAT_INPUT_H
#define CENTO_CLI_CHAT_INPUT_H

#include "base/strbuf.h"

typedef struct chat_input chat_input;

/* names: the commands that Tab completes, with their slash; borrowed. NULL when out of memory. */
chat_input *chat_input_open(const char *const *names, size_t name_count);
void chat_input_close(chat_input *input); /* saves the history; NULL is allowed */

bool chat_input_interactive(const chat_input *input);

/* The next line without its newline. false at the end of the input. */
bool chat_input_read(chat_input *input, strbuf *line);

#endif
