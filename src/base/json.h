/*
 * JSON through jansson, with errors that name the file, the key and what was expected. `where` is what
 * the message begins with, usually the file's name ("config.json").
 */
#ifndef CENTO_BASE_JSON_H
#define CENTO_BASE_JSON_H

#include <jansson.h>

#include "status.h"

/* Reads a whole file. *root is a new reference (json_decref). Duplicate keys are refused. */
cento_status json_read_file(const char *path, size_t bytes_max, json_t **root, cento_error *error);
cento_status json_read_bytes(const char *where, const char *text, size_t bytes, json_t **root,
                             cento_error *error);

/* Optional fields keep *value when the key is missing or null; required ones (`_required`) are an
 * error then. Integers must lie in [min, max]; numbers must be finite. */
cento_status json_get_u32(const json_t *object, const char *where, const char *key, uint32_t min,
                          uint32_t max, uint32_t *value, cento_error *error);
cento_status json_get_u32_required(const json_t *object, const char *where, const char *key, uint32_t min,
                                   uint32_t max, uint32_t *value, cento_error *error);
cento_status json_get_double(const json_t *object, const char *where, const char *key, double min, double max,
                             double *value, cento_error *error);
cento_status json_get_bool(const json_t *object, const char *where, const char *key, bool *value,
                           cento_error *error);
/* *value points into the JSON tree. */
cento_status json_get_string(const json_t *object, const char *where, const char *key, const char **value,
                             cento_error *error);

const char *json_type_name(const json_t *value); /* "an object", "a string", …; "nothing" for NULL */

#endif
