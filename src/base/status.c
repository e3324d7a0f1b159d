/* Status names and messages, and the formatting of error details. Callable from any thread. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *cento_status_name(cento_status status) {
    switch (status) {
#define NAME_CASE(name, value, message)                                                                      \
    case CENTO_##name:                                                                                       \
        return #name;
        CENTO_STATUS_MAP(NAME_CASE)
#undef NAME_CASE
    }
    return "UNKNOWN";
}

const char *cento_status_message(cento_status status) {
    switch (status) {
#define MESSAGE_CASE(name, value, message)                                                                   \
    case CENTO_##name:                                                                                       \
        return message;
        CENTO_STATUS_MAP(MESSAGE_CASE)
#undef MESSAGE_CASE
    }
    return "UNKNOWN";
}

cento_status error_set(cento_error *error, cento_status status, const char *format, ...) {
    if (error != NULL) {
        error->status = status;
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
    }
    return status;
}

void error_prefix(cento_error *error, const char *format, ...) {
    if (error == NULL)
        return;
    char detail[sizeof error->message];
    memcpy(detail, error->message, sizeof detail);
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    size_t used = written < 0 ? 0 : (size_t)written;
    if (used + 2 >= sizeof error->message)
        return;
    memcpy(error->message + used, ": ", 2);
    used += 2;
    size_t kept = strnlen(detail, sizeof error->message - used - 1);
    memcpy(error->message + used, detail, kept);
    error->message[used + kept] = '\0';
}

cento_status error_memory(cento_error *error, size_t bytes) {
    return error_set(error, CENTO_OUT_OF_MEMORY, "could not allocate %zu bytes", bytes);
}
