/* Ids, lines and results of a batch; see batch_files.h. One thread. */
#include "batch_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sha256.h"
#include "base/strbuf.h"
#include "term.h"

enum { READ_BYTES = 1 << 16 };

static cento_status system_error(cento_error *error, const char *name, const char *what) {
    return error_set(error, errno == ENOENT ? CENTO_NOT_FOUND : CENTO_IO, "%s: %s: %s", name, what,
                     strerror(errno));
}

/* ---------------------------------------------------------------------------------- ids --- */

#define ID_FLAGS ((uint64_t)(ID_ANSWERED | ID_SEEN))

static cento_status hash_id(const json_t *id, uint64_t line, uint64_t hash[2], cento_error *error) {
    uint8_t digest[SHA256_BYTES];
    sha256 state;
    sha256_init(&state);
    if (id == NULL) {
        sha256_update(&state, "line", 4);
        sha256_update_u64(&state, line);
    } else if (json_is_integer(id)) {
        sha256_update(&state, "number", 6);
        sha256_update_u64(&state, (uint64_t)json_integer_value(id));
    } else {
        sha256_update(&state, "string", 6);
        sha256_update(&state, json_string_value(id), json_string_length(id));
    }
    TRY(sha256_final(&state, digest, error));
    memcpy(hash, digest, 2 * sizeof *hash);
    hash[0] |= 1; /* never an empty slot */
    hash[1] &= ~ID_FLAGS;
    return CENTO_OK;
}

static uint64_t *find_slot(const id_set *set, const uint64_t hash[2]) {
    size_t index = (size_t)hash[0] >> 1 & (set->capacity - 1);
    while (set->slots[index][0] != 0 &&
           (set->slots[index][0] != hash[0] || (set->slots[index][1] & ~ID_FLAGS) != hash[1]))
        index = (index + 1) & (set->capacity - 1);
    return set->slots[index];
}

static cento_status id_set_grow(id_set *set, cento_error *error) {
    id_set larger = {.capacity = set->capacity == 0 ? 64 : 2 * set->capacity, .count = set->count};
    larger.slots = mem_zalloc(larger.capacity, sizeof *larger.slots);
    if (larger.slots == NULL)
        return error_memory(error, larger.capacity * sizeof *larger.slots);
    for (size_t i = 0; i < set->capacity; i++)
        if (set->slots[i][0] != 0) {
            const uint64_t hash[2] = {set->slots[i][0], set->slots[i][1] & ~ID_FLAGS};
            memcpy(find_slot(&larger, hash), set->slots[i], sizeof *set->slots);
        }
    mem_free(set->slots);
    *set = larger;
    return CENTO_OK;
}

cento_status id_set_mark(id_set *set, const json_t *id, uint64_t line, unsigned flag, unsigned *before,
                         cento_error *error) {
    uint64_t hash[2];
    TRY(hash_id(id, line, hash, error));
    if (2 * (set->count + 1) > set->capacity)
        TRY(id_set_grow(set, error));
    uint64_t *slot = find_slot(set, hash);
    *before = (unsigned)(slot[1] & ID_FLAGS);
    if (flag == 0)
        return CENTO_OK;
    set->count += slot[0] == 0;
    slot[0] = hash[0];
    slot[1] = hash[1] | *before | flag;
    return CENTO_OK;
}

void id_set_free(id_set *set) {
    mem_free(set->slots);
    *set = (id_set){0};
}

/* -------------------------------------------------------------------------------- input --- */

cento_status batch_input_open(const char *path, batch_input *input, cento_error *error) {
    bool standard = strcmp(path, "-") == 0;
    *input = (batch_input){.descriptor = STDIN_FILENO, .name = standard ? "standard input" : path};
    if (!standard)
        input->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (input->descriptor < 0)
        return system_error(error, path, "cannot open");
    struct stat info;
    if (fstat(input->descriptor, &info) == 0 && S_ISDIR(info.st_mode)) {
        batch_input_close(input);
        return error_set(error, CENTO_IO, "%s: expected a file, found a folder", path);
    }
    return CENTO_OK;
}

cento_status batch_input_fill(batch_input *input, cento_error *error) {
    if (input->begin > 0) { /* the lines before it are done */
        memmove(input->buffer, input->buffer + input->begin, input->end - input->begin);
        input->end -= input->begin;
        input->scanned -= input->begin;
        input->position += input->begin;
        input->begin = 0;
    }
    if (input->capacity - input->end < READ_BYTES) {
        size_t capacity = input->capacity == 0 ? 2 * READ_BYTES : 2 * input->capacity;
        char *buffer = mem_realloc(input->buffer, capacity, 1);
        if (buffer == NULL)
            return error_memory(error, capacity);
        input->buffer = buffer;
        input->capacity = capacity;
    }
    ssize_t count = read(input->descriptor, input->buffer + input->end, input->capacity - input->end);
    if (count < 0)
        return errno == EINTR || errno == EAGAIN ? CENTO_OK : system_error(error, input->name, "cannot read");
    input->end += (size_t)count;
    input->at_end = count == 0;
    return CENTO_OK;
}

static bool is_blank(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    return true;
}

batch_next batch_input_next(batch_input *input, const char **text, size_t *bytes, uint64_t *number) {
    for (;;) {
        size_t unscanned = input->end - input->scanned;
        const char *newline = unscanned == 0 ? NULL : memchr(input->buffer + input->scanned, '\n', unscanned);
        size_t line_end = newline == NULL ? input->end : (size_t)(newline - input->buffer);
        if (newline == NULL && !input->at_end) {
            input->scanned = input->end;
            if (input->end - input->begin > BATCH_LINE_BYTES_MAX)
                input->skipping = true;
            if (input->skipping)
                input->begin = input->end;
            return BATCH_MORE;
        }
        if (newline == NULL && input->begin == input->end && !input->skipping)
            return BATCH_END;
        *text = input->buffer + input->begin;
        *bytes = line_end - input->begin;
        *number = ++input->line_number;
        input->newline_missing = newline == NULL;
        input->begin = input->scanned = newline == NULL ? line_end : line_end + 1;
        if (input->skipping || *bytes > BATCH_LINE_BYTES_MAX) {
            input->skipping = false;
            *text = NULL;
            return BATCH_TOO_LONG;
        }
        static const char byte_order_mark[] = "\xEF\xBB\xBF";
        if (*number == 1 && *bytes >= 3 && memcmp(*text, byte_order_mark, 3) == 0) {
            *text += 3;
            *bytes -= 3;
        }
        if (!is_blank(*text, *bytes))
            return BATCH_LINE;
    }
}

void batch_input_close(batch_input *input) {
    if (input->descriptor > STDIN_FILENO)
        close(input->descriptor);
    mem_free(input->buffer);
    *input = (batch_input){.descriptor = -1};
}

uint64_t batch_input_count(const char *path) {
    batch_input input;
    struct stat info;
    uint64_t lines = 0, number;
    const char *text;
    size_t bytes;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode) || batch_input_open(path, &input, NULL) != CENTO_OK)
        return 0;
    for (batch_next next = BATCH_MORE; next != BATCH_END;) {
        next = batch_input_next(&input, &text, &bytes, &number);
        lines += next == BATCH_LINE || next == BATCH_TOO_LONG;
        if (next == BATCH_MORE && batch_input_fill(&input, NULL) != CENTO_OK)
            break;
    }
    batch_input_close(&input);
    return lines;
}

/* ------------------------------------------------------------------------------ results --- */

static cento_status write_all(int descriptor, const char *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t count = write(descriptor, data, bytes);
        if (count < 0 && errno != EINTR)
            return CENTO_IO;
        if (count > 0) {
            data += count;
            bytes -= (size_t)count;
        }
    }
    return CENTO_OK;
}

/* What half a line may begin with, so that only the end of a results file is ever cut off. */
static bool begins_like_result(const char *text, size_t bytes) {
    static const char *const beginnings[] = {"{\"id\":", "{\"line\":"};
    for (size_t i = 0; i < 2; i++) {
        size_t compared = strlen(beginnings[i]) < bytes ? strlen(beginnings[i]) : bytes;
        if (memcmp(text, beginnings[i], compared) == 0)
            return true;
    }
    return false;
}

typedef enum line_kind { LINE_ANSWER, LINE_ERROR, LINE_FOREIGN, LINE_NO_JSON } line_kind;

static cento_status classify(const char *text, size_t bytes, id_set *ids, line_kind *kind,
                             cento_error *error) {
    json_t *root = json_loadb(text, bytes, JSON_ALLOW_NUL, NULL);
    const json_t *id = json_object_get(root, "id"), *line = json_object_get(root, "line");
    bool named = id != NULL ? json_is_string(id) || json_is_integer(id) : json_is_integer(line);
    cento_status status = CENTO_OK;
    *kind = root == NULL ? LINE_NO_JSON : LINE_FOREIGN;
    if (named && json_object_get(root, "error") != NULL) {
        *kind = LINE_ERROR;
    } else if (named && json_object_get(root, "text") != NULL && json_object_get(root, "usage") != NULL) {
        unsigned before;
        *kind = LINE_ANSWER;
        status = id_set_mark(ids, id, (uint64_t)json_integer_value(line), ID_ANSWERED, &before, error);
    }
    json_decref(root);
    return status;
}

typedef struct kept_results {
    uint64_t whole_bytes; /* up to the end of the last whole line */
    uint64_t errors;
    bool newline_missing; /* behind the last line, which is whole but for that */
} kept_results;

/* One pass over a results file. With `copy`, every line that stays is written to it. */
static cento_status scan_results(const char *path, int copy, id_set *ids, kept_results *kept,
                                 cento_error *error) {
    batch_input input;
    TRY(batch_input_open(path, &input, error));
    cento_status status = CENTO_OK;
    *kept = (kept_results){0};
    for (batch_next next = BATCH_MORE; next != BATCH_END && status == CENTO_OK;) {
        const char *text;
        size_t bytes;
        uint64_t number;
        next = batch_input_next(&input, &text, &bytes, &number);
        if (next == BATCH_MORE) {
            status = batch_input_fill(&input, error);
        } else if (next == BATCH_TOO_LONG) {
            status = error_set(error, CENTO_INVALID_ARGUMENT, "%s: line %llu is longer than %d bytes", path,
                               (unsigned long long)number, BATCH_LINE_BYTES_MAX);
        } else if (next == BATCH_LINE) {
            line_kind kind;
            status = classify(text, bytes, ids, &kind, error);
            if (kind == LINE_NO_JSON && input.newline_missing && begins_like_result(text, bytes))
                break; /* half a line: dropped */
            if (status == CENTO_OK && (kind == LINE_FOREIGN || kind == LINE_NO_JSON))
                status = error_set(error, CENTO_INVALID_ARGUMENT,
                                   "%s: line %llu is no result of a batch; --resume goes on only with such a "
                                   "file",
                                   path, (unsigned long long)number);
            kept->errors += kind == LINE_ERROR;
            kept->whole_bytes = input.position + input.begin;
            kept->newline_missing = input.newline_missing;
            if (status == CENTO_OK && copy >= 0 && kind == LINE_ANSWER &&
                (write_all(copy, text, bytes) != CENTO_OK || write_all(copy, "\n", 1) != CENTO_OK))
                status = system_error(error, path, "cannot write beside it");
        }
    }
    batch_input_close(&input);
    return status;
}

/* Writes the answers to a new file that takes the old one's place. */
static cento_status rewrite_results(const char *path, id_set *ids, cento_error *error) {
    strbuf temporary = {0};
    strbuf_printf(&temporary, "%s.%ld.tmp", path, (long)getpid());
    TRY(strbuf_check(&temporary, error));
    cento_status status;
    kept_results kept;
    struct stat info;
    mode_t mode = stat(path, &info) == 0 ? info.st_mode & 0777 : 0666;
    int copy = open(temporary.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (copy < 0) {
        status = system_error(error, temporary.data, "cannot create");
    } else {
        status = scan_results(path, copy, ids, &kept, error);
        if (status == CENTO_OK && fsync(copy) != 0)
            status = system_error(error, temporary.data, "cannot write");
        close(copy);
        if (status == CENTO_OK && rename(temporary.data, path) != 0)
            status = system_error(error, path, "cannot replace");
        if (status != CENTO_OK)
            unlink(temporary.data);
    }
    strbuf_free(&temporary);
    return status;
}

/* Brings an interrupted results file into order. */
static cento_status repair_results(const char *path, id_set *ids, cento_error *error) {
    kept_results kept;
    TRY(scan_results(path, -1, ids, &kept, error));
    if (kept.errors > 0)
        return rewrite_results(path, ids, error);
    if (truncate(path, (off_t)kept.whole_bytes) != 0)
        return system_error(error, path, "cannot cut off half a line");
    if (!kept.newline_missing)
        return CENTO_OK;
    int descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (descriptor < 0)
        return system_error(error, path, "cannot open");
    cento_status status = write_all(descriptor, "\n", 1);
    if (status != CENTO_OK)
        status = system_error(error, path, "cannot write");
    close(descriptor);
    return status;
}

cento_status batch_results_open(const char *path, bool resume, batch_results *results, id_set *ids,
                                cento_error *error) {
    *results = (batch_results){.descriptor = -1, .name = "standard output"};
    if (path == NULL || strcmp(path, "-") == 0)
        return CENTO_OK;
    struct stat info;
    bool exists = stat(path, &info) == 0;
    if (exists && S_ISDIR(info.st_mode))
        return error_set(error, CENTO_IO, "%s: expected a file, found a folder", path);
    if (resume && exists && !S_ISREG(info.st_mode))
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: --resume expects a regular file", path);
    if (exists && S_ISREG(info.st_mode) && info.st_size > 0) {
        if (!resume)
            return error_set(error, CENTO_INVALID_ARGUMENT,
                             "%s is there already; --resume goes on with it, or remove it", path);
        TRY(repair_results(path, ids, error));
    }
    results->name = path;
    results->descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    return results->descriptor < 0 ? system_error(error, path, "cannot open") : CENTO_OK;
}

/* A line that could only be written in part (a full disk) is taken back. */
static cento_status append_line(const batch_results *results, const char *text, size_t bytes,
                                cento_error *error) {
    struct stat info;
    bool regular = fstat(results->descriptor, &info) == 0 && S_ISREG(info.st_mode);
    if (write_all(results->descriptor, text, bytes) == CENTO_OK)
        return CENTO_OK;
    cento_status status = system_error(error, results->name, "cannot write");
    if (regular && ftruncate(results->descriptor, info.st_size) != 0)
        return status; /* --resume drops the half line */
    return status;
}

cento_status batch_results_write(const batch_results *results, json_t *value, cento_error *error) {
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(7));
    json_decref(value);
    if (text == NULL)
        return error_memory(error, 0);
    size_t bytes = strlen(text);
    text[bytes++] = '\n'; /* in the place of the NUL */
    cento_status status = CENTO_OK;
    if (results->descriptor >= 0)
        status = append_line(results, text, bytes, error);
    else if (!output_write(text, bytes))
        status = error_set(error, CENTO_IO, "standard output: cannot write");
    free(text); /* jansson's own allocation */
    return status;
}

void batch_results_close(batch_results *results) {
    if (results->descriptor >= 0)
        close(results->descriptor);
    *results = (batch_results){.descriptor = -1};
}

bool batch_same_file(const char *one, const char *other) {
    struct stat first, second;
    return stat(one, &first) == 0 && stat(other, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}
