/*
 * safetensors: see safetensors.h for the format. Opening goes in three steps that each check their own
 * subject: parse_header (one file's JSON: types, shapes, ranges), check_layout (the tensors of a file cover
 * its data exactly once), and for sharded models check_index (names against files). Only then is a
 * pointer into the mapping handed out.
 */
#include "safetensors.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strmap.h"

enum {
    LENGTH_BYTES = 8,
    HEADER_BYTES_MAX = 100000000, /* the reference implementation's limit */
    INDEX_BYTES_MAX = 256 << 20,
    FILES_MAX = 4096,
};

typedef struct shard {
    char *path; /* owned */
    file_map map;
    bool mapped;    /* false: map.data is borrowed */
    json_t *header; /* owned; names point into it */
} shard;

struct safetensors {
    shard *shards; /* (shard_count), owned */
    uint32_t shard_count;
    safetensor *items; /* (count), owned */
    size_t count, capacity;
    strmap names; /* name → index into items */
};

/* All dtypes of the format, so that unused tensors of any kind are sized and checked. */
static const struct {
    const char *name;
    uint32_t bits;
} dtypes[] = {
    {"BF16", 16}, {"F16", 16},    {"F32", 32},        {"F64", 64},        {"I64", 64},    {"I32", 32},
    {"I16", 16},  {"I8", 8},      {"U64", 64},        {"U32", 32},        {"U16", 16},    {"U8", 8},
    {"BOOL", 8},  {"F8_E4M3", 8}, {"F8_E5M2", 8},     {"F8_E8M0", 8},     {"F6_E2M3", 6}, {"F6_E3M2", 6},
    {"F4", 4},    {"C64", 64},    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
};

const char *safetensors_shape_text(const uint64_t *shape, uint32_t rank, char text[SAFETENSORS_SHAPE_TEXT]) {
    size_t used = (size_t)snprintf(text, SAFETENSORS_SHAPE_TEXT, "[");
    for (uint32_t i = 0; i < rank; i++)
        used += (size_t)snprintf(text + used, SAFETENSORS_SHAPE_TEXT - used, "%s%" PRIu64, i == 0 ? "" : ", ",
                                 shape[i]);
    snprintf(text + used, SAFETENSORS_SHAPE_TEXT - used, "]");
    return text;
}

/* ------------------------------------------------------------------ one file's header ---- */

/* A non-negative JSON integer; false otherwise. */
static bool read_size(const json_t *value, uint64_t *size) {
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *size = (uint64_t)json_integer_value(value);
    return true;
}

static cento_status parse_shape(const json_t *list, const char *path, safetensor *tensor,
                                cento_error *error) {
    if (!json_is_array(list) || json_array_size(list) > SAFETENSORS_RANK_MAX)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: tensor '%s': 'shape' must be an array of at most %d sizes, found %s of %zu",
                         path, tensor->name, SAFETENSORS_RANK_MAX, json_type_name(list),
                         json_array_size(list));
    tensor->rank = (uint32_t)json_array_size(list);
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (!read_size(json_array_get(list, i), &tensor->shape[i]))
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: tensor '%s': 'shape'[%u] must be a size of 0 or more, found %s", path,
                             tensor->name, i, json_type_name(json_array_get(list, i)));
    }
    return CENTO_OK;
}

/* The bytes that shape and dtype imply; an error if they overflow or do not end at a whole byte. */
static cento_status implied_bytes(const safetensor *tensor, uint32_t bits, const char *path, uint64_t *bytes,
                                  cento_error *error) {
    char text[SAFETENSORS_SHAPE_TEXT];
    uint64_t total_bits = bits;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (__builtin_mul_overflow(total_bits, tensor->shape[i], &total_bits))
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: tensor '%s': shape %s has more elements than 64 bits can count", path,
                             tensor->name, safetensors_shape_text(tensor->shape, tensor->rank, text));
    }
    if (total_bits % 8 != 0)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: tensor '%s': shape %s of %s does not end at a whole byte", path, tensor->name,
                         safetensors_shape_text(tensor->shape, tensor->rank, text), tensor->dtype);
    *bytes = total_bits / 8;
    return CENTO_OK;
}

static cento_status parse_tensor(const json_t *entry, const char *path, const file_map *map,
                                 uint64_t data_begin, safetensor *tensor, cento_error *error) {
    if (!json_is_object(entry))
        return error_set(error, CENTO_INVALID_MODEL, "%s: tensor '%s' must be an object, found %s", path,
                         tensor->name, json_type_name(entry));
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    uint32_t bits = 0;
    for (size_t i = 0; dtype != NULL && i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(dtypes[i].name, dtype) == 0) {
            tensor->dtype = dtypes[i].name;
            bits = dtypes[i].bits;
        }
    }
    if (bits == 0)
        return error_set(
            error, CENTO_INVALID_MODEL,
            "%s: tensor '%s': 'dtype' is %.32s, expected one of the format's (BF16, F16, F32, …)", path,
            tensor->name, dtype == NULL ? json_type_name(json_object_get(entry, "dtype")) : dtype);
    TRY(parse_shape(json_object_get(entry, "shape"), path, tensor, error));

    const json_t *offsets = json_object_get(entry, "data_offsets");
    uint64_t begin = 0, end = 0;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !read_size(json_array_get(offsets, 0), &begin) || !read_size(json_array_get(offsets, 1), &end))
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: tensor '%s': 'data_offsets' must be an array of two sizes, begin and end", path,
                         tensor->name);
    uint64_t data_bytes = map->bytes - data_begin;
    if (begin > end)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: tensor '%s': 'data_offsets' are [%" PRIu64 ", %" PRIu64
                         "], expected begin <= end",
                         path, tensor->name, begin, end);
    if (end > data_bytes)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: tensor '%s' lies at bytes %" PRIu64 " to %" PRIu64
                         " of the data, the file holds "
                         "%" PRIu64 " (truncated?)",
                         path, tensor->name, begin, end, data_bytes);
    uint64_t bytes = 0;
    TRY(implied_bytes(tensor, bits, path, &bytes, error));
    if (bytes != end - begin) {
        char text[SAFETENSORS_SHAPE_TEXT];
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: tensor '%s' has %" PRIu64 " bytes, its shape %s of %s implies %" PRIu64, path,
                         tensor->name, end - begin, safetensors_shape_text(tensor->shape, tensor->rank, text),
                         tensor->dtype, bytes);
    }
    tensor->bytes = bytes;
    tensor->offset = data_begin + begin;
    tensor->data = map->data + tensor->offset;
    return CENTO_OK;
}

static cento_status check_metadata(const json_t *metadata, const char *path, cento_error *error) {
    if (!json_is_object(metadata))
        return error_set(error, CENTO_INVALID_MODEL, "%s: '__metadata__' must be an object, found %s", path,
                         json_type_name(metadata));
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
        if (!json_is_string(value))
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: '__metadata__'.'%.64s' must be a string, found %s", path, key,
                             json_type_name(value));
    }
    return CENTO_OK;
}

static int compare_offsets(const void *left, const void *right) {
    const safetensor *a = left, *b = right;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    /* an empty tensor stands before the one that begins at the same place */
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* Sorts the tensors of one file by place and checks that they cover its data exactly once. */
static cento_status check_layout(const char *path, const file_map *map, uint64_t data_begin,
                                 safetensor *items, size_t count, cento_error *error) {
    if (count > 0)
        qsort(items, count, sizeof *items, compare_offsets);
    uint64_t covered = data_begin;
    for (size_t i = 0; i < count; i++) {
        if (items[i].offset < covered)
            return error_set(
                error, CENTO_INVALID_MODEL,
                "%s: tensor '%s' begins at byte %" PRIu64 " of the data, inside of tensor '%s', which "
                "ends at %" PRIu64,
                path, items[i].name, items[i].offset - data_begin, items[i - 1].name, covered - data_begin);
        if (items[i].offset > covered)
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: tensor '%s' begins at byte %" PRIu64 " of the data, expected %" PRIu64
                             ": bytes between belong to no tensor",
                             path, items[i].name, items[i].offset - data_begin, covered - data_begin);
        covered = items[i].offset + items[i].bytes;
    }
    if (covered != map->bytes)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: the file has %zu bytes, its header describes %" PRIu64
                         ": bytes at its end belong to no tensor",
                         path, map->bytes, covered);
    return CENTO_OK;
}

static cento_status parse_header(safetensors *tensors, uint32_t file, cento_error *error) {
    shard *part = &tensors->shards[file];
    const char *path = part->path;
    if (part->map.bytes < LENGTH_BYTES)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: the file has %zu bytes, expected at least %d (the header's length)", path,
                         part->map.bytes, LENGTH_BYTES);
    uint64_t header_bytes = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        header_bytes = header_bytes << 8 | part->map.data[i];
    if (header_bytes > HEADER_BYTES_MAX)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: the header's length at byte 0 is %" PRIu64 ", expected at most %d", path,
                         header_bytes, HEADER_BYTES_MAX);
    if (header_bytes > part->map.bytes - LENGTH_BYTES)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: the header's length at byte 0 is %" PRIu64 ", but only %zu bytes follow it "
                         "(truncated?)",
                         path, header_bytes, part->map.bytes - LENGTH_BYTES);
    const char *text = (const char *)part->map.data + LENGTH_BYTES;
    if (header_bytes == 0 || text[0] != '{')
        return error_set(error, CENTO_INVALID_MODEL, "%s: the header at byte %d must begin with '{'", path,
                         LENGTH_BYTES);
    TRY(json_read_bytes(path, text, (size_t)header_bytes, &part->header, error));

    uint64_t data_begin = LENGTH_BYTES + header_bytes;
    size_t first = tensors->count;
    const char *name;
    json_t *entry;
    json_object_foreach(part->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            TRY(check_metadata(entry, path, error));
            continue;
        }
        if (!mem_grow((void **)&tensors->items, &tensors->capacity, tensors->count + 1,
                      sizeof *tensors->items))
            return error_memory(error, (tensors->count + 1) * sizeof *tensors->items);
        safetensor *tensor = &tensors->items[tensors->count];
        *tensor = (safetensor){.name = name, .file = file};
        TRY(parse_tensor(entry, path, &part->map, data_begin, tensor, error));
        tensors->count++;
    }
    /* no tensor at all: items may be NULL still */
    safetensor *items = tensors->count > first ? &tensors->items[first] : NULL;
    return check_layout(path, &part->map, data_begin, items, tensors->count - first, error);
}

/* ------------------------------------------------------------------ all files ------------ */

static cento_status add_names(safetensors *tensors, cento_error *error) {
    TRY(strmap_reserve(&tensors->names, tensors->count, error));
    for (size_t i = 0; i < tensors->count; i++) {
        const safetensor *tensor = &tensors->items[i];
        uint32_t other = strmap_get(&tensors->names, tensor->name, strlen(tensor->name));
        if (other != STRMAP_MISSING)
            return error_set(error, CENTO_INVALID_MODEL, "%s: tensor '%s' is also in %s",
                             tensors->shards[tensor->file].path, tensor->name,
                             path_name(tensors->shards[tensors->items[other].file].path));
        TRY(strmap_set(&tensors->names, tensor->name, strlen(tensor->name), (uint32_t)i, error));
    }
    return CENTO_OK;
}

/* A plain name beside the index: no folder, nothing hidden, nothing that leaves the folder. */
static bool plain_file_name(const char *name) {
    size_t bytes = strlen(name), suffix_bytes = strlen(".safetensors");
    if (bytes <= suffix_bytes || name[0] == '.' || strchr(name, '/') != NULL || strchr(name, '\\') != NULL)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        if (iscntrl((unsigned char)name[i]))
            return false;
    }
    return strcmp(name + bytes - suffix_bytes, ".safetensors") == 0;
}

static cento_status open_shard(safetensors *tensors, const char *folder, const char *name,
                               cento_error *error) {
    shard *part = &tensors->shards[tensors->shard_count];
    part->path = path_join(folder, name);
    if (part->path == NULL)
        return error_memory(error, strlen(folder) + strlen(name) + 2);
    tensors->shard_count++; /* from here on close releases it */
    TRY(file_map_open(part->path, &part->map, error));
    part->mapped = true;
    return parse_header(tensors, tensors->shard_count - 1, error);
}

/* Opens each file that the weight map names, once. */
static cento_status open_shards(safetensors *tensors, const char *folder, const char *index_path,
                                const json_t *weight_map, strmap *files, cento_error *error) {
    const char *name;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)weight_map, name, value) {
        const char *file = json_string_value(value);
        if (file == NULL || !plain_file_name(file))
            return error_set(
                error, CENTO_INVALID_MODEL,
                "%s: tensor '%.256s' is in file '%.128s', expected the name of a .safetensors file "
                "beside the index",
                index_path, name, file == NULL ? json_type_name(value) : file);
        if (strmap_get(files, file, strlen(file)) != STRMAP_MISSING)
            continue;
        if (tensors->shard_count == FILES_MAX)
            return error_set(error, CENTO_UNSUPPORTED, "%s: names more than %d files", index_path, FILES_MAX);
        void *grown = mem_realloc(tensors->shards, tensors->shard_count + 1, sizeof *tensors->shards);
        if (grown == NULL)
            return error_memory(error, (tensors->shard_count + 1) * sizeof *tensors->shards);
        tensors->shards = grown;
        tensors->shards[tensors->shard_count] = (shard){0};
        TRY(strmap_set(files, file, strlen(file), tensors->shard_count, error));
        cento_status status = open_shard(tensors, folder, file, error);
        if (status == CENTO_NOT_FOUND)
            return error_set(error, CENTO_NOT_FOUND,
                             "%s: tensor '%.256s' is in file '%s', which is not there", index_path, name,
                             file);
        TRY(status);
    }
    return CENTO_OK;
}

static cento_status check_index(const safetensors *tensors, const char *index_path, const json_t *weight_map,
                                const strmap *files, cento_error *error) {
    const char *name;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)weight_map, name, value) {
        const char *file = json_string_value(value);
        const safetensor *tensor = safetensors_find(tensors, name);
        if (tensor == NULL || tensor->file != strmap_get(files, file, strlen(file)))
            return error_set(error, CENTO_INVALID_MODEL,
                             "%s: tensor '%.256s' is not in file '%s' (found: %s)", index_path, name, file,
                             tensor == NULL ? "nowhere" : path_name(tensors->shards[tensor->file].path));
    }
    return CENTO_OK;
}

static cento_status open_sharded(safetensors *tensors, const char *folder, const char *index_path,
                                 cento_error *error) {
    json_t *index = NULL;
    strmap files = {0}; /* file name → shard */
    TRY(json_read_file(index_path, INDEX_BYTES_MAX, &index, error));
    const json_t *weight_map = json_object_get(index, "weight_map");
    cento_status status = CENTO_OK;
    if (!json_is_object(weight_map) || json_object_size(weight_map) == 0)
        status = error_set(error, CENTO_INVALID_MODEL,
                           "%s: 'weight_map' must be an object of tensor names and their files, found %s",
                           index_path, json_type_name(weight_map));
    if (status == CENTO_OK)
        status = open_shards(tensors, folder, index_path, weight_map, &files, error);
    if (status == CENTO_OK)
        status = add_names(tensors, error);
    if (status == CENTO_OK)
        status = check_index(tensors, index_path, weight_map, &files, error);
    strmap_free(&files);
    json_decref(index);
    return status;
}

static cento_status open_single(safetensors *tensors, const char *folder, cento_error *error) {
    tensors->shards = mem_zalloc(1, sizeof *tensors->shards);
    if (tensors->shards == NULL)
        return error_memory(error, sizeof *tensors->shards);
    TRY(open_shard(tensors, folder, "model.safetensors", error));
    return add_names(tensors, error);
}

cento_status safetensors_open(const char *folder, safetensors **result, cento_error *error) {
    cento_status status;
    safetensors *tensors = mem_zalloc(1, sizeof *tensors);
    char *single_path = path_join(folder, "model.safetensors");
    char *index_path = path_join(folder, "model.safetensors.index.json");
    if (tensors == NULL || single_path == NULL || index_path == NULL)
        status = error_memory(error, sizeof *tensors);
    else if (file_exists(single_path))
        status = open_single(tensors, folder, error);
    else if (file_exists(index_path))
        status = open_sharded(tensors, folder, index_path, error);
    else
        status = error_set(error, CENTO_NOT_FOUND,
                           "%s: neither model.safetensors nor model.safetensors.index.json is there", folder);
    mem_free(single_path);
    mem_free(index_path);
    if (status == CENTO_OK)
        *result = tensors;
    else
        safetensors_close(tensors);
    return status;
}

cento_status safetensors_open_bytes(const char *where, const void *data, size_t bytes, safetensors **result,
                                    cento_error *error) {
    cento_status status;
    safetensors *tensors = mem_zalloc(1, sizeof *tensors);
    if (tensors == NULL)
        return error_memory(error, sizeof *tensors);
    tensors->shards = mem_zalloc(1, sizeof *tensors->shards);
    char *path = mem_strdup(where);
    if (tensors->shards == NULL || path == NULL) {
        mem_free(path);
        status = error_memory(error, sizeof *tensors->shards);
        goto failed;
    }
    tensors->shard_count = 1;
    tensors->shards[0] = (shard){.path = path, .map = {.data = data, .bytes = bytes}};
    TRY_GOTO(status, parse_header(tensors, 0, error), failed);
    TRY_GOTO(status, add_names(tensors, error), failed);
    *result = tensors;
    return CENTO_OK;
failed:
    safetensors_close(tensors);
    return status;
}

void safetensors_close(safetensors *tensors) {
    if (tensors == NULL)
        return;
    for (uint32_t i = 0; i < tensors->shard_count; i++) {
        if (tensors->shards[i].mapped)
            file_map_close(&tensors->shards[i].map);
        json_decref(tensors->shards[i].header);
        mem_free(tensors->shards[i].path);
    }
    strmap_free(&tensors->names);
    mem_free(tensors->items);
    mem_free(tensors->shards);
    mem_free(tensors);
}

size_t safetensors_count(const safetensors *tensors) {
    return tensors->count;
}

const safetensor *safetensors_at(const safetensors *tensors, size_t index) {
    return &tensors->items[index];
}

const safetensor *safetensors_find(const safetensors *tensors, const char *name) {
    uint32_t index = strmap_get(&tensors->names, name, strlen(name));
    return index == STRMAP_MISSING ? NULL : &tensors->items[index];
}

uint32_t safetensors_file_count(const safetensors *tensors) {
    return tensors->shard_count;
}

const char *safetensors_path(const safetensors *tensors, uint32_t file) {
    return tensors->shards[file].path;
}

uint64_t safetensors_file_bytes(const safetensors *tensors, uint32_t file) {
    return tensors->shards[file].map.bytes;
}

void safetensors_drop(const safetensors *tensors) {
    for (uint32_t i = 0; i < tensors->shard_count; i++) {
        if (tensors->shards[i].mapped)
            file_map_drop(&tensors->shards[i].map, 0, tensors->shards[i].map.bytes);
    }
}
