/*
 * strbuf: a growing byte string, always NUL-terminated once something was appended. Appending never
 * fails loudly: an allocation failure sets `failed`, later appends do nothing, and strbuf_check() at
 * the end turns that into a status. Zero-initialise ({0}) to start, strbuf_free() at the end.
 */
#ifndef CENTO_BASE_STRBUF_H
#define CENTO_BASE_STRBUF_H

#include <stdarg.h>

#include "status.h"

typedef struct strbuf {
    char *data;   /* NULL until the first append */
    size_t bytes; /* without the NUL */
    size_t capacity;
    bool failed;
} strbuf;

/* Room for so many bytes more: appending them allocates nothing. */
void strbuf_reserve(strbuf *buffer, size_t bytes);
void strbuf_append(strbuf *buffer, const void *data, size_t bytes);
void strbuf_puts(strbuf *buffer, const char *text);
void strbuf_putc(strbuf *buffer, char character);
void strbuf_printf(strbuf *buffer, const char *format, ...) CENTO_PRINTF(2, 3);
void strbuf_put_codepoint(strbuf *buffer, uint32_t codepoint); /* as UTF-8 */
void strbuf_clear(strbuf *buffer);                             /* keeps the memory */
void strbuf_free(strbuf *buffer);
cento_status strbuf_check(const strbuf *buffer, cento_error *error);
/* Hands the string over ("" if nothing was appended; NULL when failed); release with mem_free. */
char *strbuf_take(strbuf *buffer, size_t *bytes);

#endif
