/* Lines of a batch; see batch_line.h. */
#include "batch_line.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "input.h"
#include "options.h"

enum { LINE_MEMORY_MAX = 1 << 30, WHERE_BYTES = 32 };

static const char *const line_keys[] = {
    "id",
    "pieces",
    "system",
    "tools",
    "chunks",
    "query",
    "raw",
    "mode",
    "anchored",
    "salt",
    "max_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
    "stop_tokens",
    "ignore_eos",
    "logprobs",
    "priority",
    "retain",
};
static const char *const short_keys[] = {"system", "tools", "chunks", "query"};
static const char *const source_keys[] = {"text", "file", "tokens", "chunk"};
static const char *const piece_keys[] = {"kind", "text", "file", "tokens", "chunk", "label"};
enum {
    LINE_KEY_COUNT = sizeof line_keys / sizeof line_keys[0],
    SHORT_KEY_COUNT = sizeof short_keys / sizeof short_keys[0],
    SOURCE_KEY_COUNT = sizeof source_keys / sizeof source_keys[0],
    PIECE_KEY_COUNT = sizeof piece_keys / sizeof piece_keys[0],
};

/* A key's value; NULL if it is missing or null. */
static json_t *member(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static cento_status wrong(cento_error *error, const char *where, const char *key, const char *expected,
                          const json_t *found) {
    return error_set(error, CENTO_INVALID_ARGUMENT, "%s: '%s' must be %s, found %s", where, key, expected,
                     json_type_name(found));
}

static cento_status check_keys(const json_t *object, const char *where, const char *const *known,
                               size_t known_count, cento_error *error) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        size_t i = 0;
        while (i < known_count && strcmp(known[i], key) != 0)
            i++;
        if (i < known_count)
            continue;
        const char *nearest = nearest_name(key, known, known_count);
        if (nearest != NULL)
            return error_set(error, CENTO_INVALID_ARGUMENT, "%s: unknown key '%.60s'; did you mean '%s'?",
                             where, key, nearest);
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: unknown key '%.60s'", where, key);
    }
    return CENTO_OK;
}

/* A string that is used up to its NUL. *value stays as it is when there is none. */
static cento_status get_name(const json_t *object, const char *where, const char *key, const char **value,
                             cento_error *error) {
    const json_t *found = member(object, key);
    if (found == NULL)
        return CENTO_OK;
    if (!json_is_string(found))
        return wrong(error, where, key, "a string", found);
    if (strlen(json_string_value(found)) != json_string_length(found))
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: '%s' has a NUL character", where, key);
    *value = json_string_value(found);
    return CENTO_OK;
}

static void *allocate(batch_line *line, size_t count, size_t size, cento_error *error) {
    void *memory = arena_alloc(&line->memory, count, size);
    if (memory == NULL)
        error_memory(error, count * size);
    return memory;
}

/* -------------------------------------------------------------------------------- pieces --- */

static cento_status set_text(cento_piece *piece, const json_t *text, const char *where, cento_error *error) {
    piece->text = json_string_value(text);
    piece->text_bytes = json_string_length(text);
    if (piece->text_bytes == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: expected some text, found nothing", where);
    return CENTO_OK;
}

static cento_status set_file(batch_line *line, cento_piece *piece, const char *path, const char *where,
                             cento_error *error) {
    input_text read = {0};
    if (strcmp(path, "-") == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: 'file' must name a file, found '-'", where);
    cento_status status = input_read_file(path, INPUT_NEWLINE_STRIP, &read, error);
    if (status != CENTO_OK) {
        error_prefix(error, "%s", where);
        return status;
    }
    piece->text = arena_copy(&line->memory, read.text, read.bytes);
    piece->text_bytes = read.bytes;
    piece->label = read.label; /* points into the path, and so into the line */
    input_text_free(&read);
    return piece->text == NULL ? error_memory(error, piece->text_bytes) : CENTO_OK;
}

static cento_status get_token(const json_t *value, const char *where, int32_t *token, cento_error *error) {
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id > INT32_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: expected token ids, found %s", where,
                         json_is_integer(value) ? "a number that is none" : json_type_name(value));
    *token = (int32_t)id;
    return CENTO_OK;
}

static cento_status get_tokens(batch_line *line, const json_t *array, const char *where, const char *key,
                               const int32_t **tokens, size_t *count, cento_error *error) {
    if (!json_is_array(array))
        return wrong(error, where, key, "an array of token ids", array);
    *count = json_array_size(array);
    int32_t *ids = allocate(line, *count + 1, sizeof *ids, error);
    if (ids == NULL)
        return CENTO_OUT_OF_MEMORY;
    for (size_t i = 0; i < *count; i++)
        TRY(get_token(json_array_get(array, i), where, &ids[i], error));
    *tokens = ids;
    return CENTO_OK;
}

/* The source of a piece's tokens: exactly one of text, file, tokens, chunk. */
static cento_status set_source(batch_line *line, const json_t *value, const char *where, cento_piece *piece,
                               cento_error *error) {
    size_t sources = 0;
    for (size_t i = 0; i < SOURCE_KEY_COUNT; i++)
        sources += member(value, source_keys[i]) != NULL;
    if (sources != 1)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%s: expected one of 'text', 'file', 'tokens' and 'chunk', found %zu of them", where,
                         sources);
    const char *path = NULL;
    const json_t *text = member(value, "text"), *tokens = member(value, "tokens");
    TRY(get_name(value, where, "file", &path, error));
    TRY(get_name(value, where, "chunk", &piece->content_id, error));
    if (text != NULL && !json_is_string(text))
        return wrong(error, where, "text", "a string", text);
    if (text != NULL)
        TRY(set_text(piece, text, where, error));
    if (path != NULL)
        TRY(set_file(line, piece, path, where, error));
    if (tokens != NULL)
        TRY(get_tokens(line, tokens, where, "tokens", &piece->tokens, &piece->token_count, error));
    return get_name(value, where, "label", &piece->label, error);
}

/* A tool's schema given as it is, not as a text. */
static bool is_schema(const json_t *value) {
    for (size_t i = 0; i < SOURCE_KEY_COUNT; i++)
        if (member(value, source_keys[i]) != NULL)
            return false;
    return member(value, "function") != NULL || member(value, "name") != NULL;
}

static cento_status set_schema(batch_line *line, const json_t *value, cento_piece *piece,
                               cento_error *error) {
    size_t bytes = json_dumpb(value, NULL, 0, 0);
    char *text = allocate(line, bytes + 1, 1, error);
    if (text == NULL)
        return CENTO_OUT_OF_MEMORY;
    json_dumpb(value, text, bytes, 0);
    piece->text = text;
    piece->text_bytes = bytes;
    return CENTO_OK;
}

/* "text" or {"text"|"file"|"tokens"|"chunk", "label"} of a kind that is known from the place. */
static cento_status set_piece(batch_line *line, const json_t *value, const char *where, cento_kind kind,
                              cento_piece *piece, cento_error *error) {
    *piece = (cento_piece){.kind = kind};
    if (json_is_string(value))
        return set_text(piece, value, where, error);
    if (!json_is_object(value))
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: expected a string or an object, found %s", where,
                         json_type_name(value));
    if (kind == CENTO_KIND_TOOL && is_schema(value))
        return set_schema(line, value, piece, error);
    TRY(check_keys(value, where, piece_keys + 1, PIECE_KEY_COUNT - 1, error));
    return set_source(line, value, where, piece, error);
}

static cento_status kind_parse(const char *name, const char *where, cento_kind *kind, cento_error *error) {
    for (int i = CENTO_KIND_SYSTEM; i <= CENTO_KIND_TOOL; i++)
        if (strcmp(name, cento_kind_name((cento_kind)i)) == 0) {
            *kind = (cento_kind)i;
            return CENTO_OK;
        }
    return error_set(error, CENTO_INVALID_ARGUMENT,
                     "%s: 'kind' must be system, tool, context, query or output, found '%.60s'", where, name);
}

/* "pieces": all of the prompt, in its order. */
static cento_status read_pieces(batch_line *line, const json_t *array, cento_error *error) {
    char where[WHERE_BYTES + 40];
    if (!json_is_array(array) || json_array_size(array) == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "line %llu: 'pieces' must be an array of at least one piece",
                         (unsigned long long)line->number);
    for (size_t i = 0; i < SHORT_KEY_COUNT; i++)
        if (member(line->root, short_keys[i]) != NULL)
            return error_set(error, CENTO_INVALID_ARGUMENT,
                             "line %llu: '%s' cannot stand beside 'pieces', which holds all of the prompt",
                             (unsigned long long)line->number, short_keys[i]);
    size_t count = json_array_size(array);
    cento_piece *pieces = allocate(line, count, sizeof *pieces, error);
    if (pieces == NULL)
        return CENTO_OUT_OF_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        const char *kind_name = NULL;
        snprintf(where, sizeof where, "line %llu: pieces[%zu]", (unsigned long long)line->number, i);
        if (!json_is_object(value))
            return error_set(error, CENTO_INVALID_ARGUMENT, "%s: expected an object, found %s", where,
                             json_type_name(value));
        TRY(check_keys(value, where, piece_keys, PIECE_KEY_COUNT, error));
        TRY(get_name(value, where, "kind", &kind_name, error));
        if (kind_name == NULL)
            return error_set(error, CENTO_INVALID_ARGUMENT, "%s: 'kind' is missing", where);
        TRY(kind_parse(kind_name, where, &pieces[i].kind, error));
        TRY(set_source(line, value, where, &pieces[i], error));
    }
    line->request.pieces = pieces;
    line->request.piece_count = count;
    return CENTO_OK;
}

/* One of the short forms ("system", "tools", "chunks", "query"); what the command line said of the same kind
 * stands in its place if the line says nothing. */
static cento_status add_short(batch_line *line, const batch_defaults *defaults, const char *key,
                              cento_kind kind, cento_piece *pieces, size_t *count, cento_error *error) {
    char where[WHERE_BYTES + 40];
    const json_t *value = member(line->root, key);
    bool many = kind == CENTO_KIND_TOOL || kind == CENTO_KIND_CONTEXT;
    if (value == NULL) {
        for (size_t i = 0; i < defaults->piece_count; i++)
            if (defaults->pieces[i].kind == kind)
                pieces[(*count)++] = defaults->pieces[i];
        return CENTO_OK;
    }
    snprintf(where, sizeof where, "line %llu", (unsigned long long)line->number);
    if (many && !json_is_array(value))
        return wrong(error, where, key, "an array", value);
    for (size_t i = 0; i < (many ? json_array_size(value) : 1); i++) {
        if (many)
            snprintf(where, sizeof where, "line %llu: %s[%zu]", (unsigned long long)line->number, key, i);
        else
            snprintf(where, sizeof where, "line %llu: %s", (unsigned long long)line->number, key);
        TRY(set_piece(line, many ? json_array_get(value, i) : value, where, kind, &pieces[*count], error));
        ++*count;
    }
    return CENTO_OK;
}

static cento_status read_prompt(batch_line *line, const batch_defaults *defaults, cento_error *error) {
    const json_t *array = member(line->root, "pieces");
    if (array != NULL)
        return read_pieces(line, array, error);
    size_t most = defaults->piece_count + json_array_size(member(line->root, "tools")) +
                  json_array_size(member(line->root, "chunks")) + 2;
    cento_piece *pieces = allocate(line, most, sizeof *pieces, error);
    size_t count = 0;
    if (pieces == NULL)
        return CENTO_OUT_OF_MEMORY;
    if (member(line->root, "query") == NULL && !line->request.raw)
        return error_set(error, CENTO_INVALID_ARGUMENT, "line %llu: 'query' is missing",
                         (unsigned long long)line->number);
    TRY(add_short(line, defaults, "system", CENTO_KIND_SYSTEM, pieces, &count, error));
    TRY(add_short(line, defaults, "tools", CENTO_KIND_TOOL, pieces, &count, error));
    TRY(add_short(line, defaults, "chunks", CENTO_KIND_CONTEXT, pieces, &count, error));
    TRY(add_short(line, defaults, "query", CENTO_KIND_QUERY, pieces, &count, error));
    if (count == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "line %llu: there is no prompt in it",
                         (unsigned long long)line->number);
    line->request.pieces = pieces;
    line->request.piece_count = count;
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------ settings --- */

static cento_status get_float(const json_t *root, const char *where, const char *key, double min, double max,
                              float *value, cento_error *error) {
    double number = (double)*value;
    TRY(json_get_double(root, where, key, min, max, &number, error));
    *value = (float)number;
    return CENTO_OK;
}

static cento_status read_integer(const json_t *root, const char *where, const char *key, json_int_t min,
                                 json_int_t max, json_int_t *value, bool *set, cento_error *error) {
    const json_t *found = member(root, key);
    *set = found != NULL;
    if (found == NULL)
        return CENTO_OK;
    if (!json_is_integer(found))
        return wrong(error, where, key, "a whole number", found);
    *value = json_integer_value(found);
    if (*value < min || *value > max)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: '%s' is %lld, expected %lld to %lld", where, key,
                         (long long)*value, (long long)min, (long long)max);
    return CENTO_OK;
}

static cento_status read_logit_bias(batch_line *line, const char *where, cento_error *error) {
    json_t *object = member(line->root, "logit_bias");
    if (object == NULL)
        return CENTO_OK;
    if (!json_is_object(object))
        return wrong(error, where, "logit_bias", "an object of token ids and numbers", object);
    cento_logit_bias *biases = allocate(line, json_object_size(object) + 1, sizeof *biases, error);
    if (biases == NULL)
        return CENTO_OUT_OF_MEMORY;
    size_t count = 0;
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        double number = json_number_value(value);
        if (!parse_i32(key, &biases[count].token) || biases[count].token < 0 || !json_is_number(value) ||
            !(number >= -1000 && number <= 1000))
            return error_set(error, CENTO_INVALID_ARGUMENT,
                             "%s: 'logit_bias' expects token ids with numbers from -1000 to 1000, found "
                             "something else at '%.40s'",
                             where, key);
        biases[count++].bias = (float)number;
    }
    line->request.sampling.logit_bias = biases;
    line->request.sampling.logit_bias_count = count;
    return CENTO_OK;
}

static cento_status read_sampling(batch_line *line, const char *where, cento_error *error) {
    const json_t *root = line->root;
    cento_sampling *sampling = &line->request.sampling;
    TRY(get_float(root, where, "temperature", 0, 100, &sampling->temperature, error));
    TRY(json_get_u32(root, where, "top_k", 0, UINT32_MAX, &sampling->top_k, error));
    TRY(get_float(root, where, "top_p", 0, 1, &sampling->top_p, error));
    TRY(get_float(root, where, "min_p", 0, 1, &sampling->min_p, error));
    TRY(get_float(root, where, "repetition_penalty", 0.01, 100, &sampling->repetition_penalty, error));
    TRY(get_float(root, where, "presence_penalty", -100, 100, &sampling->presence_penalty, error));
    TRY(get_float(root, where, "frequency_penalty", -100, 100, &sampling->frequency_penalty, error));
    json_int_t seed = 0;
    bool seeded = false;
    TRY(read_integer(root, where, "seed", 0, INT64_MAX, &seed, &seeded, error));
    if (seeded) {
        sampling->seed_set = true;
        sampling->seed = (uint64_t)seed;
    }
    return read_logit_bias(line, where, error);
}

/* "stop": a string or an array of strings; "stop_tokens": ids. */
static cento_status read_stops(batch_line *line, const char *where, cento_error *error) {
    const json_t *stop = member(line->root, "stop"), *tokens = member(line->root, "stop_tokens");
    if (stop != NULL) {
        size_t count = json_is_array(stop) ? json_array_size(stop) : 1;
        const char **texts = allocate(line, count + 1, sizeof *texts, error);
        if (texts == NULL)
            return CENTO_OUT_OF_MEMORY;
        for (size_t i = 0; i < count; i++) {
            const json_t *text = json_is_array(stop) ? json_array_get(stop, i) : stop;
            if (!json_is_string(text))
                return wrong(error, where, "stop", "a string or an array of strings", text);
            texts[i] = json_string_value(text);
            if (*texts[i] == '\0' || strlen(texts[i]) != json_string_length(text))
                return error_set(error, CENTO_INVALID_ARGUMENT,
                                 "%s: 'stop' has a text that is empty or has a NUL character", where);
        }
        line->request.stop = texts;
        line->request.stop_count = count;
    }
    if (tokens != NULL)
        TRY(get_tokens(line, tokens, where, "stop_tokens", &line->request.stop_tokens,
                       &line->request.stop_token_count, error));
    return CENTO_OK;
}

static cento_status read_mode(batch_line *line, const char *where, cento_error *error) {
    cento_request *request = &line->request;
    const char *mode = NULL;
    TRY(get_name(line->root, where, "mode", &mode, error));
    if (mode != NULL && cento_mode_parse(mode, &request->mode, &request->link_tokens, NULL) != CENTO_OK)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%s: 'mode' must be exact, independent or link:K, found '%.60s'", where, mode);
    if (mode != NULL && request->mode == CENTO_MODE_EXACT)
        request->anchored = false; /* the command line's --anchored was for its own mode */
    TRY(json_get_bool(line->root, where, "anchored", &request->anchored, error));
    if (request->anchored && request->mode == CENTO_MODE_EXACT)
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "%s: 'anchored' goes with mode independent or link:K; exact needs no anchor", where);
    return CENTO_OK;
}

static cento_status read_retain(batch_line *line, const char *where, cento_error *error) {
    static const char *const names[] = {"none", "answer", "without-thinking"};
    const char *name = NULL;
    TRY(get_name(line->root, where, "retain", &name, error));
    if (name == NULL)
        return CENTO_OK;
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            line->request.retain = (cento_retain)i;
            return CENTO_OK;
        }
    return error_set(error, CENTO_INVALID_ARGUMENT,
                     "%s: 'retain' must be none, answer or without-thinking, found '%.60s'", where, name);
}

static cento_status read_settings(batch_line *line, const char *where, cento_error *error) {
    cento_request *request = &line->request;
    const json_t *root = line->root;
    json_int_t priority = 0;
    bool prioritized = false;
    TRY(json_get_bool(root, where, "raw", &request->raw, error));
    TRY(read_mode(line, where, error));
    TRY(get_name(root, where, "salt", &request->salt, error));
    TRY(json_get_u32(root, where, "max_tokens", 0, UINT32_MAX - 1, &request->completion_tokens_max, error));
    TRY(read_sampling(line, where, error));
    TRY(read_stops(line, where, error));
    TRY(json_get_bool(root, where, "ignore_eos", &request->ignore_eos, error));
    TRY(json_get_u32(root, where, "logprobs", 0, 20, &request->logprobs, error));
    TRY(read_integer(root, where, "priority", INT32_MIN, INT32_MAX, &priority, &prioritized, error));
    if (prioritized)
        request->priority = (int32_t)priority;
    return read_retain(line, where, error);
}

/* ------------------------------------------------------------------------------ the line --- */

/* base/json.h blames the model for what is wrong: here it is the request. */
static cento_status blame_request(cento_status status, cento_error *error) {
    if (status == CENTO_INVALID_MODEL)
        status = error->status = CENTO_INVALID_ARGUMENT;
    return status;
}

cento_status batch_line_read(uint64_t number, const char *text, size_t bytes, batch_line *line,
                             cento_error *error) {
    *line = (batch_line){.number = number};
    arena_init(&line->memory, LINE_MEMORY_MAX);
    json_error_t detail;
    line->root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &detail);
    if (line->root == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "line %llu: not a JSON object: column %d: %s",
                         (unsigned long long)number, detail.column, detail.text);
    if (!json_is_object(line->root))
        return error_set(error, CENTO_INVALID_ARGUMENT, "line %llu: expected a JSON object, found %s",
                         (unsigned long long)number, json_type_name(line->root));
    json_t *id = member(line->root, "id");
    if (id != NULL && !json_is_string(id) && !json_is_integer(id))
        return error_set(error, CENTO_INVALID_ARGUMENT,
                         "line %llu: 'id' must be a string or a whole number, found %s",
                         (unsigned long long)number, json_type_name(id));
    line->id = id;
    return CENTO_OK;
}

cento_status batch_line_build(batch_line *line, const batch_defaults *defaults, cento_error *error) {
    char where[WHERE_BYTES];
    snprintf(where, sizeof where, "line %llu", (unsigned long long)line->number);
    line->request = *defaults->request;
    TRY(check_keys(line->root, where, line_keys, LINE_KEY_COUNT, error));
    TRY(blame_request(read_settings(line, where, error), error));
    return read_prompt(line, defaults, error);
}

void batch_line_free(batch_line *line) {
    arena_free(&line->memory);
    json_decref(line->root);
    *line = (batch_line){0};
}
