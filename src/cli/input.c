/* Texts and paths from the command line; see input.h. */
#include "input.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "commands.h"
#include "term.h"

enum { INPUT_BYTES_MAX = 256 << 20 };

static cento_status check_utf8(const char *where, const char *text, size_t bytes, cento_status status,
                               cento_error *error) {
    size_t offset = utf8_invalid_offset(text, bytes);
    if (offset == SIZE_MAX)
        return CENTO_OK;
    size_t line = 1;
    for (size_t i = 0; i < offset; i++)
        line += text[i] == '\n';
    return error_set(error, status, "%s: expected UTF-8, found byte 0x%02X at offset %zu (line %zu)", where,
                     (unsigned char)text[offset], offset, line);
}

cento_status input_read_file(const char *path, input_newline newline, input_text *input, cento_error *error) {
    const char *where = strcmp(path, "-") == 0 ? "standard input" : path;
    if (file_is_folder(path))
        return error_set(error, CENTO_IO, "%s: expected a file, found a folder", path);
    strbuf contents = {0};
    cento_status status = file_read(path, INPUT_BYTES_MAX, &contents, error);
    if (status == CENTO_OK)
        status =
            check_utf8(where, contents.data == NULL ? "" : contents.data, contents.bytes, CENTO_IO, error);
    size_t bytes = contents.bytes;
    if (newline == INPUT_NEWLINE_STRIP && bytes > 0 && contents.data[bytes - 1] == '\n') {
        bytes--;
        if (bytes > 0 && contents.data[bytes - 1] == '\r')
            bytes--;
    }
    if (status == CENTO_OK && bytes == 0)
        status = error_set(error, CENTO_IO, "%s: expected some text, found nothing", where);
    if (status != CENTO_OK) {
        strbuf_free(&contents);
        return status;
    }
    contents.data[bytes] = '\0';
    *input = (input_text){.text = strbuf_take(&contents, NULL), .bytes = bytes, .label = path_name(where)};
    return CENTO_OK;
}

cento_status input_read(const char *option, const char *argument, input_newline newline, input_text *input,
                        cento_error *error) {
    if (strcmp(argument, "-") == 0)
        return input_read_file("-", newline, input, error);
    if (argument[0] == '@' && argument[1] != '@') {
        if (argument[1] == '\0')
            return error_set(error, CENTO_INVALID_ARGUMENT, "%s: expected a file name after @", option);
        if (strcmp(argument, "@-") == 0)
            return input_read_file("-", newline, input, error);
        return input_read_file(argument + 1, newline, input, error);
    }
    if (argument[0] == '@')
        argument++;
    size_t bytes = strlen(argument);
    if (bytes == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: expected some text, found nothing", option);
    TRY(check_utf8(option, argument, bytes, CENTO_INVALID_ARGUMENT, error));
    char *copy = mem_strndup(argument, bytes);
    if (copy == NULL)
        return error_memory(error, bytes);
    *input = (input_text){.text = copy, .bytes = bytes};
    return CENTO_OK;
}

void input_text_free(input_text *input) {
    mem_free(input->text);
    *input = (input_text){0};
}

int input_fail(const cento_error *error) {
    fail(error);
    return error->status == CENTO_INVALID_ARGUMENT ? EXIT_STATUS_USAGE : EXIT_STATUS_FAILURE;
}

char *resource_find(const char *relative) {
    char program[4096];
    ssize_t bytes = readlink("/proc/self/exe", program, sizeof program - 1);
    if (bytes <= 0)
        return NULL;
    program[bytes] = '\0';
    char *slash = strrchr(program, '/');
    if (slash == NULL)
        return NULL;
    *slash = '\0';
    /* build/release/cento stands two folders under the tree's root, PREFIX/bin/cento one under PREFIX */
    static const char *const roots[] = {"../..", "../share/cento"};
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        strbuf path = {0};
        strbuf_printf(&path, "%s/%s/%s", program, roots[i], relative);
        char *found = strbuf_take(&path, NULL);
        if (found == NULL)
            return NULL;
        char *shortest = file_exists(found) ? realpath(found, NULL) : NULL; /* without the dots */
        mem_free(found);
        if (shortest != NULL) {
            char *copy = mem_strdup(shortest);
            free(shortest);
            return copy;
        }
    }
    return NULL;
}

cento_status model_path_find(const char *option, char **path, cento_error *error) {
    const char *named = option;
    if (named == NULL || *named == '\0')
        named = getenv("CENTO_MODEL");
    if (named != NULL && *named != '\0') {
        *path = mem_strdup(named);
        return *path == NULL ? error_memory(error, strlen(named)) : CENTO_OK;
    }
    *path = resource_find("models/cento-tiny");
    if (*path == NULL)
        return error_set(error, CENTO_NOT_FOUND,
                         "no model: models/cento-tiny is not beside this program; name one with --model DIR "
                         "or in CENTO_MODEL");
    return CENTO_OK;
}
