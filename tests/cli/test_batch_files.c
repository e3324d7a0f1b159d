/* Promises of a batch's files: lines come out as they went in however the bytes arrive, ids are never taken
 * for others, a failed allocation loses nothing. Twins: a plain split, an array of flags. */
#include "support.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/batch_files.h"
#include "cli/batch_line.h"

static uint32_t random_state = 1;

static uint32_t draw(uint32_t limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(random_state >> 8) * limit >> 24);
}

/* ---------------------------------------------------------------------------------- ids --- */

static unsigned mark(id_set *set, const json_t *id, uint64_t line, unsigned flag) {
    cento_error error;
    unsigned before = 99;
    ASSERT_OK(id_set_mark(set, id, line, flag, &before, &error));
    return before;
}

static void ids_are_known_by_what_they_are_and_keep_their_flags(void **state) {
    (void)state;
    enum { IDS = 20000 };
    static unsigned char flags[IDS]; /* the twin */
    id_set set = {0};
    memset(flags, 0, sizeof flags);
    for (size_t step = 0; step < 3 * IDS; step++) {
        uint32_t which = draw(IDS);
        unsigned flag = draw(4); /* none, answered, seen, both */
        char text[32];
        snprintf(text, sizeof text, "%u", which / 3);
        /* the same digits as a string, as a number and as a line are three ids */
        json_t *id = which % 3 == 0   ? json_string(text)
                     : which % 3 == 1 ? json_integer((json_int_t)which / 3)
                                      : NULL;
        assert_int_equal(mark(&set, id, which / 3, flag), flags[which]);
        flags[which] = (unsigned char)(flags[which] | flag);
        json_decref(id);
    }
    size_t known = 0;
    for (size_t i = 0; i < IDS; i++)
        known += flags[i] != 0;
    assert_int_equal(set.count, known);
    id_set_free(&set);
}

static void a_failed_allocation_loses_no_id(void **state) {
    (void)state;
    enum { IDS = 500 };
    id_set set = {0};
    cento_error error;
    unsigned before;
    size_t failures = 0;
    for (uint64_t i = 0; i < IDS; i++) {
        mem_fail_after(0);
        cento_status status = id_set_mark(&set, NULL, i, ID_SEEN, &before, &error);
        mem_fail_after(-1);
        failures += status != CENTO_OK;
        if (status != CENTO_OK)
            assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        assert_int_equal(mark(&set, NULL, i, ID_ANSWERED) & ID_SEEN, status == CENTO_OK ? ID_SEEN : 0);
    }
    assert_true(failures > 0);
    for (uint64_t i = 0; i < IDS; i++)
        assert_int_equal(mark(&set, NULL, i, 0) & ID_ANSWERED, ID_ANSWERED);
    id_set_free(&set);
}

/* -------------------------------------------------------------------------------- lines --- */

/* Random lines, some blank, some longer than a read; the last one perhaps without its newline. */
static void draw_lines(strbuf *text) {
    uint32_t lines = draw(12);
    for (uint32_t i = 0; i < lines; i++) {
        uint32_t kind = draw(8);
        uint32_t bytes = kind == 0 ? 0 : kind == 1 ? draw(300000) : draw(200);
        for (uint32_t k = 0; k < bytes; k++)
            strbuf_putc(text, kind == 2 ? ' ' : (char)('a' + (i + k) % 26));
        if (i + 1 < lines || draw(2) == 0)
            strbuf_puts(text, draw(3) == 0 ? "\r\n" : "\n");
    }
}

static bool is_blank(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (strchr(" \t\r", text[i]) == NULL)
            return false;
    return true;
}

/* The twin: the next line that is not blank; false when there is none. */
static bool next_expected(const strbuf *text, size_t *position, uint64_t *number, const char **line,
                          size_t *bytes) {
    while (*position < text->bytes) {
        *line = text->data + *position;
        const char *newline = memchr(*line, '\n', text->bytes - *position);
        *bytes = newline == NULL ? text->bytes - *position : (size_t)(newline - *line);
        *position += *bytes + (newline != NULL);
        ++*number;
        if (!is_blank(*line, *bytes))
            return true;
    }
    return false;
}

/* Some more bytes into the pipe; closes it behind the last one. */
static void write_some(const strbuf *text, size_t *written, int *descriptor) {
    size_t piece = draw(40000);
    if (piece > text->bytes - *written)
        piece = text->bytes - *written;
    ssize_t count = piece == 0 ? 0 : write(*descriptor, text->data + *written, piece);
    *written += count > 0 ? (size_t)count : 0;
    if (*written == text->bytes && *descriptor >= 0) {
        close(*descriptor);
        *descriptor = -1;
    }
}

static void lines_come_out_as_they_went_in_however_the_bytes_arrive(void **state) {
    (void)state;
    cento_error error;
    for (int round = 0; round < 60; round++) {
        strbuf text = {0};
        draw_lines(&text);
        int ends[2];
        assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
        batch_input input = {.descriptor = ends[0], .name = "pipe"};
        size_t written = 0, position = 0, bytes = 0, expected_bytes = 0;
        uint64_t number = 0, expected_number = 0;
        const char *line = NULL, *expected = NULL;
        batch_next next;
        while ((next = batch_input_next(&input, &line, &bytes, &number)) != BATCH_END) {
            if (next == BATCH_MORE) {
                write_some(&text, &written, &ends[1]);
                ASSERT_OK(batch_input_fill(&input, &error));
                continue;
            }
            assert_int_equal(next, BATCH_LINE);
            assert_true(next_expected(&text, &position, &expected_number, &expected, &expected_bytes));
            assert_int_equal(number, expected_number);
            assert_int_equal(bytes, expected_bytes);
            assert_memory_equal(line, expected, expected_bytes);
            assert_int_equal(input.position + input.begin, position);
        }
        assert_false(next_expected(&text, &position, &expected_number, &expected, &expected_bytes));
        batch_input_close(&input);
        strbuf_free(&text);
    }
}

static void a_line_survives_any_failed_allocation(void **state) {
    (void)state;
    static const char text[] =
        "{\"id\": \"a\", \"system\": \"Be brief.\", \"chunks\": [\"one\", {\"text\": \"two\", \"label\": "
        "\"b\"}], "
        "\"query\": {\"tokens\": [1, 2, 3]}, \"stop\": [\"x\", \"y\"], \"stop_tokens\": [5], \"logit_bias\": "
        "{\"7\": -1.5}, \"mode\": \"link:4\", \"seed\": 3}";
    const cento_request request = cento_request_default();
    const batch_defaults defaults = {.request = &request};
    cento_error error;
    bool whole = false;
    for (int64_t nth = 0; !whole; nth++) {
        batch_line line;
        ASSERT_OK(batch_line_read(1, text, sizeof text - 1, &line, &error));
        mem_fail_after(nth);
        cento_status status = batch_line_build(&line, &defaults, &error);
        mem_fail_after(-1);
        whole = status == CENTO_OK;
        if (!whole)
            assert_int_equal(status, CENTO_OUT_OF_MEMORY);
        else
            assert_true(line.request.piece_count == 4 && line.request.pieces[3].token_count == 3 &&
                        line.request.mode == CENTO_MODE_LINK && line.request.link_tokens == 4 &&
                        line.request.stop_count == 2 && line.request.sampling.logit_bias[0].token == 7 &&
                        strcmp(line.request.pieces[2].label, "b") == 0);
        batch_line_free(&line);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_known_by_what_they_are_and_keep_their_flags),
        cmocka_unit_test(a_failed_allocation_loses_no_id),
        cmocka_unit_test(lines_come_out_as_they_went_in_however_the_bytes_arrive),
        cmocka_unit_test(a_line_survives_any_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
