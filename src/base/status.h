/*
 * Status codes and errors inside the library. The codes live in cento.h (one X-macro table); here are
 * the two tools that every function uses: error_set() writes the detail, TRY() forwards a failure.
 *
 * Rule: the function that knows what is wrong calls error_set(); all above it only TRY().
 */
#ifndef CENTO_BASE_STATUS_H
#define CENTO_BASE_STATUS_H

#include "cento.h"

#define TRY(expression)                                                                                      \
    do {                                                                                                     \
        cento_status status_ = (expression);                                                                 \
        if (status_ != CENTO_OK)                                                                             \
            return status_;                                                                                  \
    } while (0)

/* For functions with something to release: `goto label` with `status` set. */
#define TRY_GOTO(status, expression, label)                                                                  \
    do {                                                                                                     \
        (status) = (expression);                                                                             \
        if ((status) != CENTO_OK)                                                                            \
            goto label;                                                                                      \
    } while (0)

/* Writes status and message (cut if too long) and returns `status`. error may be NULL. */
cento_status error_set(cento_error *error, cento_status status, const char *format, ...) CENTO_PRINTF(3, 4);

/* Puts "prefix: " before the message that is already there. */
void error_prefix(cento_error *error, const char *format, ...) CENTO_PRINTF(2, 3);

/* OUT_OF_MEMORY with the size that was asked for. */
cento_status error_memory(cento_error *error, size_t bytes);

#endif
