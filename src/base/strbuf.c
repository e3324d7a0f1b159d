/* A growing byte string; see strbuf.h. One thread at a time. */
#include "strbuf.h"

#include <stdio.h>
#include <string.h>

#include "mem.h"
#include "utf8.h"

static bool reserve(strbuf *buffer, size_t more) {
    if (buffer->failed)
        return false;
    if (more > SIZE_MAX / 2 - buffer->bytes ||
        !mem_grow((void **)&buffer->data, &buffer->capacity, buffer->bytes + more + 1, 1)) {
        buffer->failed = true;
        return false;
    }
    return true;
}

void strbuf_reserve(strbuf *buffer, size_t bytes) {
    if (reserve(buffer, bytes))
        buffer->data[buffer->bytes] = '\0';
}

void strbuf_append(strbuf *buffer, const void *data, size_t bytes) {
    if (!reserve(buffer, bytes))
        return;
    if (bytes > 0)
        memcpy(buffer->data + buffer->bytes, data, bytes);
    buffer->bytes += bytes;
    buffer->data[buffer->bytes] = '\0';
}

void strbuf_puts(strbuf *buffer, const char *text) {
    strbuf_append(buffer, text, strlen(text));
}

void strbuf_putc(strbuf *buffer, char character) {
    strbuf_append(buffer, &character, 1);
}

void strbuf_printf(strbuf *buffer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    int needed = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (needed < 0)
        buffer->failed = true;
    else if (reserve(buffer, (size_t)needed)) {
        vsnprintf(buffer->data + buffer->bytes, (size_t)needed + 1, format, again);
        buffer->bytes += (size_t)needed;
    }
    va_end(again);
}

void strbuf_put_codepoint(strbuf *buffer, uint32_t codepoint) {
    char encoded[4];
    strbuf_append(buffer, encoded, utf8_encode(codepoint, encoded));
}

void strbuf_clear(strbuf *buffer) {
    buffer->bytes = 0;
    if (buffer->data != NULL)
        buffer->data[0] = '\0';
}

void strbuf_free(strbuf *buffer) {
    mem_free(buffer->data);
    *buffer = (strbuf){0};
}

cento_status strbuf_check(const strbuf *buffer, cento_error *error) {
    return buffer->failed ? error_memory(error, buffer->bytes * 2) : CENTO_OK;
}

char *strbuf_take(strbuf *buffer, size_t *bytes) {
    if (buffer->data == NULL)
        strbuf_append(buffer, "", 0);
    char *data = buffer->data;
    if (buffer->failed) {
        mem_free(data);
        data = NULL;
    }
    if (bytes != NULL)
        *bytes = data == NULL ? 0 : buffer->bytes;
    *buffer = (strbuf){0};
    return data;
}
