/*
 * Reading GGUF files. The format, all numbers little-endian:
 *
 *   offset  size
 *   0       4     magic "GGUF"
 *   4       4     version: 2 or 3 (1 had 32-bit counts and is not read; a file of the other byte order shows
 *                 its version in the upper half)
 *   8       8     number of tensors
 *   16      8     number of metadata values
 *   24            metadata values:  string key, u32 type, value
 *                   string          u64 length, bytes (no NUL)
 *                   array           u32 element type, u64 count, elements (arrays of arrays are possible)
 *                   bool            one byte, 0 or 1
 *                 tensor infos:     string name, u32 dimensions, u64 shape[dimensions] (fastest first),
 *                                   u32 type, u64 offset into the data
 *                 padding to general.alignment (default 32)
 *                 data              each tensor at its offset, a multiple of the alignment
 *
 * No checksum. Every count is compared with the bytes that are left before anything is allocated for it.
 */
#include "gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define ALIGNMENT_DEFAULT 32u
#define KEY_BYTES_MAX     65535u
#define ARRAY_DEPTH_MAX   4

/* ------------------------------------------------------------------ types ------------------ */

static const struct {
    const char *name;
    uint32_t bytes; /* 0: not of one size */
} value_types[] = {
    [GGUF_U8] = {"u8", 1},         [GGUF_I8] = {"i8", 1},       [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},       [GGUF_U32] = {"u32", 4},     [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},       [GGUF_BOOL] = {"bool", 1},   [GGUF_U64] = {"u64", 8},
    [GGUF_STRING] = {"string", 0}, [GGUF_ARRAY] = {"array", 0}, [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};
#define VALUE_TYPES (sizeof value_types / sizeof *value_types)

const char *gguf_type_name(gguf_type type) {
    return (size_t)type < VALUE_TYPES ? value_types[type].name : "unknown";
}

/* ggml's tensor types: so many elements are stored in a block of so many bytes. */
static const struct {
    const char *name; /* NULL: no such type */
    uint32_t block, bytes;
} tensor_types[] = {
    [0] = {"F32", 1, 4},         [1] = {"F16", 1, 2},         [2] = {"Q4_0", 32, 18},
    [3] = {"Q4_1", 32, 20},      [6] = {"Q5_0", 32, 22},      [7] = {"Q5_1", 32, 24},
    [8] = {"Q8_0", 32, 34},      [9] = {"Q8_1", 32, 36},      [10] = {"Q2_K", 256, 84},
    [11] = {"Q3_K", 256, 110},   [12] = {"Q4_K", 256, 144},   [13] = {"Q5_K", 256, 176},
    [14] = {"Q6_K", 256, 210},   [15] = {"Q8_K", 256, 292},   [16] = {"IQ2_XXS", 256, 66},
    [17] = {"IQ2_XS", 256, 74},  [18] = {"IQ3_XXS", 256, 98}, [19] = {"IQ1_S", 256, 50},
    [20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 256, 110},  [22] = {"IQ2_S", 256, 82},
    [23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},         [25] = {"I16", 1, 2},
    [26] = {"I32", 1, 4},        [27] = {"I64", 1, 8},        [28] = {"F64", 1, 8},
    [29] = {"IQ1_M", 256, 56},   [30] = {"BF16", 1, 2},       [34] = {"TQ1_0", 256, 54},
    [35] = {"TQ2_0", 256, 66},   [39] = {"MXFP4", 32, 17},
};
#define TENSOR_TYPES (sizeof tensor_types / sizeof *tensor_types)

const char *gguf_tensor_type_name(uint32_t type) {
    return type < TENSOR_TYPES && tensor_types[type].name != NULL ? tensor_types[type].name : "unknown";
}

/* ------------------------------------------------------------------ reading ---------------- */

typedef struct cursor {
    const char *where;
    const uint8_t *data;
    size_t bytes, at;
    cento_error *error;
} cursor;

static uint64_t load(const uint8_t *data, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)data[i] << (8 * i);
    return value;
}

static cento_status truncated(cursor *in, const char *what, uint64_t wanted) {
    return error_set(in->error, CENTO_INVALID_MODEL,
                     "%s: %s at byte %zu needs %" PRIu64 " bytes, %zu are left", in->where, what, in->at,
                     wanted, in->bytes - in->at);
}

static cento_status read_number(cursor *in, const char *what, size_t bytes, uint64_t *value) {
    if (in->bytes - in->at < bytes)
        return truncated(in, what, bytes);
    *value = load(in->data + in->at, bytes);
    in->at += bytes;
    return CENTO_OK;
}

static cento_status read_string(cursor *in, const char *what, uint64_t bytes_max, const char **text,
                                uint64_t *bytes) {
    TRY(read_number(in, what, 8, bytes));
    if (*bytes > bytes_max)
        return error_set(in->error, CENTO_INVALID_MODEL,
                         "%s: %s at byte %zu is %" PRIu64 " bytes long, at most %" PRIu64 " are allowed",
                         in->where, what, in->at - 8, *bytes, bytes_max);
    if (*bytes > in->bytes - in->at)
        return truncated(in, what, *bytes);
    *text = (const char *)in->data + in->at;
    in->at += (size_t)*bytes;
    return CENTO_OK;
}

static cento_status skip_elements(cursor *in, gguf_type type, uint64_t count, unsigned int depth);

static cento_status read_array_head(cursor *in, gguf_type *element, uint64_t *count) {
    uint64_t type = 0;
    TRY(read_number(in, "an array's type", 4, &type));
    if (type >= VALUE_TYPES)
        return error_set(in->error, CENTO_INVALID_MODEL,
                         "%s: an array at byte %zu has elements of type %" PRIu64 ", expected 0 to 12",
                         in->where, in->at - 4, type);
    *element = (gguf_type)type;
    return read_number(in, "an array's count", 8, count);
}

/* Goes over `count` values of one type; leaves `at` behind them. */
static cento_status skip_elements(cursor *in, gguf_type type, uint64_t count, unsigned int depth) {
    uint32_t bytes = value_types[type].bytes;
    if (bytes > 0) {
        if (count > (in->bytes - in->at) / bytes)
            return truncated(in, "an array", count > UINT64_MAX / bytes ? UINT64_MAX : count * bytes);
        in->at += (size_t)count * bytes;
        return CENTO_OK;
    }
    if (depth > ARRAY_DEPTH_MAX)
        return error_set(in->error, CENTO_UNSUPPORTED, "%s: arrays at byte %zu are nested deeper than %d",
                         in->where, in->at, ARRAY_DEPTH_MAX);
    if (count > (in->bytes - in->at) / (type == GGUF_STRING ? 8 : 12))
        return truncated(in, "an array", count > UINT64_MAX / 8 ? UINT64_MAX : count * 8);
    for (uint64_t i = 0; i < count; i++) {
        if (type == GGUF_STRING) {
            const char *text;
            uint64_t length = 0;
            TRY(read_string(in, "a string", UINT64_MAX, &text, &length));
        } else {
            gguf_type element = GGUF_U8;
            uint64_t inner = 0;
            TRY(read_array_head(in, &element, &inner));
            TRY(skip_elements(in, element, inner, depth + 1));
        }
    }
    return CENTO_OK;
}

static cento_status read_value(cursor *in, gguf_value *value) {
    uint64_t key_bytes = 0, type = 0;
    TRY(read_string(in, "a key", KEY_BYTES_MAX, &value->key, &key_bytes));
    value->key_bytes = (uint32_t)key_bytes;
    TRY(read_number(in, "a value's type", 4, &type));
    if (type >= VALUE_TYPES)
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: '%.*s' has type %" PRIu64 ", expected 0 to 12",
                         in->where, (int)value->key_bytes, value->key, type);
    value->type = value->element = (gguf_type)type;
    value->count = 1;
    if (value->type == GGUF_ARRAY)
        TRY(read_array_head(in, &value->element, &value->count));
    size_t begin = in->at;
    cento_status status = skip_elements(in, value->element, value->count, 1);
    if (status != CENTO_OK) {
        error_prefix(in->error, "in '%.*s'", (int)(key_bytes < 200 ? key_bytes : 200), value->key);
        return status;
    }
    value->data = in->data + begin;
    value->bytes = in->at - begin;
    if (value->element == GGUF_BOOL)
        for (size_t i = 0; i < value->bytes; i++)
            if (value->data[i] > 1)
                return error_set(in->error, CENTO_INVALID_MODEL, "%s: '%.*s' holds %u, a bool is 0 or 1",
                                 in->where, (int)value->key_bytes, value->key, value->data[i]);
    return CENTO_OK;
}

static cento_status read_tensor(cursor *in, gguf_tensor *tensor) {
    uint64_t name_bytes = 0, dimensions = 0, type = 0;
    TRY(read_string(in, "a tensor's name", KEY_BYTES_MAX, &tensor->name, &name_bytes));
    tensor->name_bytes = (uint32_t)name_bytes;
    TRY(read_number(in, "a tensor's dimensions", 4, &dimensions));
    if (dimensions == 0 || dimensions > GGUF_DIMENSIONS_MAX)
        return error_set(in->error, CENTO_INVALID_MODEL,
                         "%s: tensor '%.*s' has %" PRIu64 " dimensions, expected 1 to %d", in->where,
                         (int)name_bytes, tensor->name, dimensions, GGUF_DIMENSIONS_MAX);
    tensor->dimensions = (uint32_t)dimensions;
    uint64_t elements = 1;
    for (size_t i = 0; i < GGUF_DIMENSIONS_MAX; i++) {
        tensor->shape[i] = 1;
        if (i < dimensions)
            TRY(read_number(in, "a tensor's shape", 8, &tensor->shape[i]));
        if (tensor->shape[i] == 0 || __builtin_mul_overflow(elements, tensor->shape[i], &elements))
            return error_set(in->error, CENTO_INVALID_MODEL,
                             "%s: tensor '%.*s' has an impossible shape: dimension "
                             "%zu is %" PRIu64,
                             in->where, (int)name_bytes, tensor->name, i, tensor->shape[i]);
    }
    TRY(read_number(in, "a tensor's type", 4, &type));
    TRY(read_number(in, "a tensor's offset", 8, &tensor->offset));
    if (type >= TENSOR_TYPES || tensor_types[type].name == NULL)
        return error_set(in->error, CENTO_UNSUPPORTED, "%s: tensor '%.*s' has the unknown type %" PRIu64,
                         in->where, (int)name_bytes, tensor->name, type);
    tensor->type = (uint32_t)type;
    if (tensor->shape[0] % tensor_types[type].block != 0)
        return error_set(in->error, CENTO_INVALID_MODEL,
                         "%s: tensor '%.*s' has rows of %" PRIu64 " elements, %s needs a multiple of %u",
                         in->where, (int)name_bytes, tensor->name, tensor->shape[0], tensor_types[type].name,
                         tensor_types[type].block);
    if (__builtin_mul_overflow(elements / tensor_types[type].block, tensor_types[type].bytes, &tensor->bytes))
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: tensor '%.*s' is impossibly large", in->where,
                         (int)name_bytes, tensor->name);
    return CENTO_OK;
}

/* Offsets become offsets in the file; all of a tensor must lie in it. */
static cento_status place_tensors(cursor *in, gguf_file *file) {
    size_t padding = (file->alignment - in->at % file->alignment) % file->alignment;
    uint64_t data_begin = (uint64_t)in->at + padding;
    for (size_t i = 0; i < file->tensor_count; i++) {
        gguf_tensor *tensor = &file->tensors[i];
        if (tensor->offset % file->alignment != 0)
            return error_set(in->error, CENTO_INVALID_MODEL,
                             "%s: tensor '%.*s' is at offset %" PRIu64 ", expected a multiple of %u",
                             in->where, (int)tensor->name_bytes, tensor->name, tensor->offset,
                             file->alignment);
        if (data_begin > in->bytes || tensor->offset > in->bytes - data_begin ||
            tensor->bytes > in->bytes - data_begin - tensor->offset)
            return error_set(in->error, CENTO_INVALID_MODEL,
                             "%s: tensor '%.*s' of %" PRIu64 " bytes at offset %" PRIu64
                             " of the data ends behind the file (%zu bytes)",
                             in->where, (int)tensor->name_bytes, tensor->name, tensor->bytes, tensor->offset,
                             in->bytes);
        tensor->offset += data_begin;
    }
    return CENTO_OK;
}

static cento_status index_new(cursor *in, strmap *index, const char *what, const char *key, size_t bytes,
                              size_t place) {
    if (strmap_get(index, key, bytes) != STRMAP_MISSING)
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: there are two %s '%.*s'", in->where, what,
                         (int)bytes, key);
    return strmap_set(index, key, bytes, (uint32_t)place, in->error);
}

static cento_status read_header(cursor *in, gguf_file *file) {
    if (in->bytes < 24 || memcmp(in->data, "GGUF", 4) != 0)
        return error_set(in->error, CENTO_INVALID_MODEL,
                         "%s: not a GGUF file (it does not begin with 'GGUF' and "
                         "a header of 24 bytes)",
                         in->where);
    in->at = 4;
    uint64_t version = 0, tensors = 0, values = 0;
    TRY(read_number(in, "the version", 4, &version));
    TRY(read_number(in, "the number of tensors", 8, &tensors));
    TRY(read_number(in, "the number of values", 8, &values));
    if (version != 2 && version != 3)
        return error_set(in->error, CENTO_UNSUPPORTED, "%s: GGUF version %" PRIu64 "%s, expected 2 or 3",
                         in->where, version, version > 0xFFFF ? " (a big-endian file)" : "");
    /* the smallest value takes 13 bytes, the smallest tensor info 32 */
    if (values > (in->bytes - in->at) / 13 || tensors > (in->bytes - in->at) / 32 || values > INT32_MAX ||
        tensors > INT32_MAX)
        return error_set(in->error, CENTO_INVALID_MODEL,
                         "%s: %" PRIu64 " values and %" PRIu64 " tensors do not fit in %zu bytes", in->where,
                         values, tensors, in->bytes);
    file->version = (uint32_t)version;
    file->values = mem_zalloc((size_t)values, sizeof *file->values);
    file->tensors = mem_zalloc((size_t)tensors, sizeof *file->tensors);
    if (file->values == NULL || file->tensors == NULL)
        return error_memory(in->error, (size_t)(values * sizeof *file->values));
    file->value_count = (size_t)values;
    file->tensor_count = (size_t)tensors;
    return CENTO_OK;
}

static cento_status read_file(cursor *in, gguf_file *file) {
    TRY(read_header(in, file));
    for (size_t i = 0; i < file->value_count; i++) {
        gguf_value *value = &file->values[i];
        TRY(read_value(in, value));
        TRY(index_new(in, &file->value_index, "values", value->key, value->key_bytes, i));
    }
    int64_t alignment = ALIGNMENT_DEFAULT;
    TRY(gguf_get_integer(file, "general.alignment", 1, 1 << 20, &alignment, in->error));
    if ((alignment & (alignment - 1)) != 0)
        return error_set(in->error, CENTO_INVALID_MODEL,
                         "%s: general.alignment is %" PRId64 ", expected a power of two", in->where,
                         alignment);
    file->alignment = (uint32_t)alignment;
    for (size_t i = 0; i < file->tensor_count; i++) {
        gguf_tensor *tensor = &file->tensors[i];
        TRY(read_tensor(in, tensor));
        TRY(index_new(in, &file->tensor_index, "tensors", tensor->name, tensor->name_bytes, i));
    }
    return place_tensors(in, file);
}

cento_status gguf_open_bytes(const char *where, const void *data, size_t bytes, gguf_file *file,
                             cento_error *error) {
    *file = (gguf_file){.where = mem_strdup(where)};
    if (file->where == NULL)
        return error_memory(error, strlen(where) + 1);
    cursor in = {.where = where, .data = data, .bytes = bytes, .error = error};
    cento_status status = read_file(&in, file);
    if (status != CENTO_OK)
        gguf_close(file);
    return status;
}

cento_status gguf_open(const char *path, gguf_file *file, cento_error *error) {
    file_map map;
    TRY(file_map_open(path, &map, error));
    cento_status status = gguf_open_bytes(path, map.data, map.bytes, file, error);
    if (status == CENTO_OK)
        file->map = map;
    else
        file_map_close(&map);
    return status;
}

void gguf_close(gguf_file *file) {
    mem_free(file->where);
    mem_free(file->values);
    mem_free(file->tensors);
    strmap_free(&file->value_index);
    strmap_free(&file->tensor_index);
    file_map_close(&file->map);
    *file = (gguf_file){0};
}

/* ------------------------------------------------------------------ lookups ---------------- */

const gguf_value *gguf_find(const gguf_file *file, const char *key) {
    uint32_t index = strmap_get(&file->value_index, key, strlen(key));
    return index == STRMAP_MISSING ? NULL : &file->values[index];
}

const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name) {
    uint32_t index = strmap_get(&file->tensor_index, name, strlen(name));
    return index == STRMAP_MISSING ? NULL : &file->tensors[index];
}

static cento_status wrong_type(const gguf_file *file, const char *key, const char *expected,
                               const gguf_value *value, cento_error *error) {
    return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' must be %s, found %s%s", file->where, key,
                     expected, value->type == GGUF_ARRAY ? "an array of " : "",
                     gguf_type_name(value->element));
}

/* false: not an integer, or one above INT64_MAX */
static bool integer_at(gguf_type type, const uint8_t *data, int64_t *integer) {
    switch (type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        *integer = (int64_t)load(data, value_types[type].bytes);
        return *integer >= 0;
    case GGUF_I8:
        *integer = (int8_t)load(data, 1);
        return true;
    case GGUF_I16:
        *integer = (int16_t)load(data, 2);
        return true;
    case GGUF_I32:
        *integer = (int32_t)load(data, 4);
        return true;
    case GGUF_I64:
        *integer = (int64_t)load(data, 8);
        return true;
    default:
        return false;
    }
}

cento_status gguf_get_integer(const gguf_file *file, const char *key, int64_t min, int64_t max,
                              int64_t *value, cento_error *error) {
    const gguf_value *found = gguf_find(file, key);
    if (found == NULL)
        return CENTO_OK;
    int64_t integer = 0;
    if (found->type == GGUF_ARRAY || !integer_at(found->type, found->data, &integer))
        return wrong_type(file, key, "an integer", found, error);
    if (integer < min || integer > max)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: '%s' is %" PRId64 ", expected %" PRId64 " to %" PRId64, file->where, key,
                         integer, min, max);
    *value = integer;
    return CENTO_OK;
}

cento_status gguf_get_bool(const gguf_file *file, const char *key, bool *value, cento_error *error) {
    const gguf_value *found = gguf_find(file, key);
    if (found == NULL)
        return CENTO_OK;
    if (found->type != GGUF_BOOL)
        return wrong_type(file, key, "a bool", found, error);
    *value = found->data[0] != 0;
    return CENTO_OK;
}

cento_status gguf_get_string(const gguf_file *file, const char *key, char **text, cento_error *error) {
    const gguf_value *found = gguf_find(file, key);
    if (found == NULL)
        return CENTO_OK;
    if (found->type != GGUF_STRING)
        return wrong_type(file, key, "a string", found, error);
    char *copy = mem_strndup((const char *)found->data + 8, found->bytes - 8);
    if (copy == NULL)
        return error_memory(error, found->bytes);
    *text = copy;
    return CENTO_OK;
}

/* ------------------------------------------------------------------ vocabulary ------------- */

/* An array of strings as pointers into the file; *strings NULL when the key is missing. */
static cento_status read_strings(const gguf_file *file, const char *key, const char *const **strings,
                                 const uint32_t **bytes, size_t *count, cento_error *error) {
    const gguf_value *found = gguf_find(file, key);
    if (found == NULL)
        return CENTO_OK;
    if (found->type != GGUF_ARRAY || found->element != GGUF_STRING)
        return wrong_type(file, key, "an array of strings", found, error);
    const char **texts = mem_alloc((size_t)found->count, sizeof *texts);
    uint32_t *lengths = mem_alloc((size_t)found->count, sizeof *lengths);
    *strings = texts;
    *bytes = lengths;
    if (texts == NULL || lengths == NULL)
        return error_memory(error, (size_t)found->count * sizeof *texts);
    size_t at = 0;
    for (size_t i = 0; i < found->count; i++) {
        uint64_t length = load(found->data + at, 8);
        if (length > UINT32_MAX)
            return error_set(error, CENTO_INVALID_MODEL, "%s: '%s'[%zu] is %" PRIu64 " bytes long",
                             file->where, key, i, length);
        texts[i] = (const char *)found->data + at + 8;
        lengths[i] = (uint32_t)length;
        at += 8 + (size_t)length;
    }
    *count = (size_t)found->count;
    return CENTO_OK;
}

/* An array of 4-byte numbers that must be as long as the tokens; NULL when the key is missing. */
static cento_status read_numbers(const gguf_file *file, const char *key, bool floats, size_t count,
                                 void **numbers, cento_error *error) {
    const gguf_value *found = gguf_find(file, key);
    if (found == NULL)
        return CENTO_OK;
    bool right =
        floats ? found->element == GGUF_F32 : found->element == GGUF_I32 || found->element == GGUF_U32;
    if (found->type != GGUF_ARRAY || !right)
        return wrong_type(file, key, floats ? "an array of f32" : "an array of i32", found, error);
    if (found->count != count)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: '%s' has %" PRIu64 " elements, there are %zu tokens", file->where, key,
                         found->count, count);
    *numbers = mem_alloc(count, 4);
    if (*numbers == NULL)
        return error_memory(error, count * 4);
    if (count > 0)
        memcpy(*numbers, found->data, count * 4);
    return CENTO_OK;
}

static cento_status read_token_id(const gguf_file *file, const char *key, const gguf_vocabulary *vocabulary,
                                  int32_t *id, cento_error *error) {
    int64_t value = -1;
    /* UINT32_MAX and -1 are written for "none" */
    TRY(gguf_get_integer(file, key, -1, UINT32_MAX, &value, error));
    if (value == UINT32_MAX)
        value = -1;
    if (value >= (int64_t)vocabulary->token_count)
        return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' is %" PRId64 ", there are %zu tokens",
                         file->where, key, value, vocabulary->token_count);
    *id = (int32_t)value;
    return CENTO_OK;
}

static cento_status read_flag(const gguf_file *file, const char *key, int8_t *flag, cento_error *error) {
    *flag = -1;
    bool value = false;
    if (gguf_find(file, key) == NULL)
        return CENTO_OK;
    TRY(gguf_get_bool(file, key, &value, error));
    *flag = value ? 1 : 0;
    return CENTO_OK;
}

static cento_status read_vocabulary(const gguf_file *file, gguf_vocabulary *vocabulary, cento_error *error) {
    char *text = NULL;
    TRY(gguf_get_string(file, "tokenizer.ggml.model", &text, error));
    vocabulary->model = text;
    if (text == NULL)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: 'tokenizer.ggml.model' is missing: the file has no "
                         "tokenizer",
                         file->where);
    text = NULL;
    TRY(gguf_get_string(file, "tokenizer.ggml.pre", &text, error));
    vocabulary->pre = text;
    TRY(read_strings(file, "tokenizer.ggml.tokens", &vocabulary->tokens, &vocabulary->token_bytes,
                     &vocabulary->token_count, error));
    if (vocabulary->tokens == NULL)
        return error_set(error, CENTO_INVALID_MODEL, "%s: 'tokenizer.ggml.tokens' is missing", file->where);
    if (vocabulary->token_count > INT32_MAX)
        return error_set(error, CENTO_INVALID_MODEL, "%s: %zu tokens are too many", file->where,
                         vocabulary->token_count);
    TRY(read_strings(file, "tokenizer.ggml.merges", &vocabulary->merges, &vocabulary->merge_bytes,
                     &vocabulary->merge_count, error));
    void *numbers = NULL;
    cento_status status =
        read_numbers(file, "tokenizer.ggml.scores", true, vocabulary->token_count, &numbers, error);
    vocabulary->scores = numbers;
    TRY(status);
    numbers = NULL;
    status = read_numbers(file, "tokenizer.ggml.token_type", false, vocabulary->token_count, &numbers, error);
    vocabulary->types = numbers;
    TRY(status);
    TRY(read_token_id(file, "tokenizer.ggml.bos_token_id", vocabulary, &vocabulary->bos, error));
    TRY(read_token_id(file, "tokenizer.ggml.eos_token_id", vocabulary, &vocabulary->eos, error));
    TRY(read_token_id(file, "tokenizer.ggml.unknown_token_id", vocabulary, &vocabulary->unknown, error));
    TRY(read_flag(file, "tokenizer.ggml.add_bos_token", &vocabulary->add_bos, error));
    TRY(read_flag(file, "tokenizer.ggml.add_eos_token", &vocabulary->add_eos, error));
    return read_flag(file, "tokenizer.ggml.add_space_prefix", &vocabulary->add_space_prefix, error);
}

cento_status gguf_vocabulary_read(const gguf_file *file, gguf_vocabulary *vocabulary, cento_error *error) {
    *vocabulary = (gguf_vocabulary){.bos = -1, .eos = -1, .unknown = -1};
    cento_status status = read_vocabulary(file, vocabulary, error);
    if (status != CENTO_OK)
        gguf_vocabulary_free(vocabulary);
    return status;
}

static void free_const(const void *memory) {
    mem_free((void *)(uintptr_t)memory);
}

void gguf_vocabulary_free(gguf_vocabulary *vocabulary) {
    free_const(vocabulary->model);
    free_const(vocabulary->pre);
    free_const(vocabulary->tokens);
    free_const(vocabulary->token_bytes);
    free_const(vocabulary->scores);
    free_const(vocabulary->types);
    free_const(vocabulary->merges);
    free_const(vocabulary->merge_bytes);
    *vocabulary = (gguf_vocabulary){.bos = -1, .eos = -1, .unknown = -1};
}
