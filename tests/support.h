/* What all tests use: cmocka, paths of the source tree, assertions on cento_status. */
#ifndef CENTO_TESTS_SUPPORT_H
#define CENTO_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"
#include "base/strbuf.h"

/* Fails the test with the error's message unless the call succeeds. `error` must be in scope. */
#define ASSERT_OK(expression)                                                                                \
    do {                                                                                                     \
        cento_status assert_status_ = (expression);                                                          \
        if (assert_status_ != CENTO_OK)                                                                      \
            fail_msg("%s: %s: %s", #expression, cento_status_name(assert_status_), error.message);           \
    } while (0)

/* Fails unless the call gives this status and the message contains `part`. */
#define ASSERT_FAILS(expected, part, expression)                                                             \
    do {                                                                                                     \
        cento_status assert_status_ = (expression);                                                          \
        if (assert_status_ != (expected) || strstr(error.message, part) == NULL)                             \
            fail_msg("%s: got %s '%s', expected %s with '%s'", #expression,                                  \
                     cento_status_name(assert_status_), error.message, cento_status_name(expected), part);   \
    } while (0)

/* "$CENTO_SOURCE_DIR/relative"; a static buffer, good until the next 8 calls. */
const char *source_path(const char *relative);
/* A file of the shared test data (vocabularies, chat templates): CENTO_TEST_DATA, else ../shared/data beside
 * the source tree; NULL when there is none: the test then says "skipped: no test data" and calls skip(). */
const char *shared_data_path(const char *relative);
/* The device that tests of backend, model and engine run on: CENTO_TEST_DEVICE, else "cpu". */
const char *test_device(void);
bool test_on_gpu(void);
/* Skips the test, and says why, where that device does not serve. */
void test_device_needed(void);
/* A fresh temporary folder, removed at exit. */
const char *temporary_folder(void);
void write_file(const char *path, const void *data, size_t bytes);

#endif
