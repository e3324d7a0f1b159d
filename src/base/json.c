/* JSON; see json.h. Callable from any thread, on separate trees. */
#include "json.h"

#include <math.h>
#include <string.h>

#include "file.h"

cento_status json_read_bytes(const char *where, const char *text, size_t bytes, json_t **root,
                             cento_error *error) {
    json_error_t detail;
    json_t *parsed = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &detail);
    if (parsed == NULL)
        return error_set(error, CENTO_INVALID_MODEL, "%s: line %d, column %d: %s", where, detail.line,
                         detail.column, detail.text);
    *root = parsed;
    return CENTO_OK;
}

cento_status json_read_file(const char *path, size_t bytes_max, json_t **root, cento_error *error) {
    strbuf contents = {0};
    cento_status status = file_read(path, bytes_max, &contents, error);
    if (status == CENTO_OK)
        status =
            json_read_bytes(path, contents.data == NULL ? "" : contents.data, contents.bytes, root, error);
    strbuf_free(&contents);
    return status;
}

const char *json_type_name(const json_t *value) {
    if (value == NULL)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something unknown";
}

static const json_t *member(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static cento_status wrong_type(const json_t *value, const char *where, const char *key, const char *expected,
                               cento_error *error) {
    return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' must be %s, found %s", where, key, expected,
                     json_type_name(value));
}

cento_status json_get_u32(const json_t *object, const char *where, const char *key, uint32_t min,
                          uint32_t max, uint32_t *value, cento_error *error) {
    const json_t *found = member(object, key);
    if (found == NULL)
        return CENTO_OK;
    if (!json_is_integer(found))
        return wrong_type(found, where, key, "an integer", error);
    json_int_t integer = json_integer_value(found);
    if (integer < (json_int_t)min || integer > (json_int_t)max)
        return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' is %lld, expected %u to %u", where, key,
                         (long long)integer, min, max);
    *value = (uint32_t)integer;
    return CENTO_OK;
}

cento_status json_get_u32_required(const json_t *object, const char *where, const char *key, uint32_t min,
                                   uint32_t max, uint32_t *value, cento_error *error) {
    if (member(object, key) == NULL)
        return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' is missing", where, key);
    return json_get_u32(object, where, key, min, max, value, error);
}

cento_status json_get_double(const json_t *object, const char *where, const char *key, double min, double max,
                             double *value, cento_error *error) {
    const json_t *found = member(object, key);
    if (found == NULL)
        return CENTO_OK;
    if (!json_is_number(found))
        return wrong_type(found, where, key, "a number", error);
    double number = json_number_value(found);
    if (!isfinite(number) || number < min || number > max)
        return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' is %g, expected %g to %g", where, key, number,
                         min, max);
    *value = number;
    return CENTO_OK;
}

cento_status json_get_bool(const json_t *object, const char *where, const char *key, bool *value,
                           cento_error *error) {
    const json_t *found = member(object, key);
    if (found == NULL)
        return CENTO_OK;
    if (!json_is_boolean(found))
        return wrong_type(found, where, key, "true or false", error);
    *value = json_is_true(found);
    return CENTO_OK;
}

cento_status json_get_string(const json_t *object, const char *where, const char *key, const char **value,
                             cento_error *error) {
    const json_t *found = member(object, key);
    if (found == NULL)
        return CENTO_OK;
    if (!json_is_string(found))
        return wrong_type(found, where, key, "a string", error);
    *value = json_string_value(found);
    return CENTO_OK;
}
