/*
 * Chat templates: the part of Jinja2 that chat templates use, compiled once and rendered with a JSON
 * context, as `transformers` configures it (trim_blocks, lstrip_blocks, loop controls, undefined is
 * empty, `raise_exception`, `strftime_now`, `tojson`). An unknown construct is an error with line and
 * column. A compiled template is immutable: any number of threads may render it.
 */
#ifndef CENTO_TEXT_CHAT_TEMPLATE_H
#define CENTO_TEXT_CHAT_TEMPLATE_H

#include <jansson.h>

#include "base/strbuf.h"

typedef struct chat_template chat_template;

/* `where` begins error messages ("chat_template.jinja"). The source is copied. */
cento_status chat_template_compile(const char *where, const char *source, size_t bytes,
                                   chat_template **result, cento_error *error);
void chat_template_free(chat_template *compiled);

/* Appends the rendered text. context: an object with messages, tools, add_generation_prompt, bos_token,
 * eos_token, …; borrowed and not changed. Rendering is bounded in steps, depth and output, so that no
 * template can hang or exhaust memory. raise_exception() gives CENTO_TEMPLATE with its message. */
cento_status chat_template_render(const chat_template *compiled, const json_t *context, strbuf *text,
                                  cento_error *error);

#endif
