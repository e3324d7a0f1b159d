/* Errors as OpenAI's API reports them: {"error": {"message", "type", "param", "code"}} with a status of HTTP.
 */
#ifndef CENTO_SERVER_API_ERROR_H
#define CENTO_SERVER_API_ERROR_H

#include <jansson.h>

#include "base/status.h"

typedef struct api_error {
    unsigned status;  /* 400, 404, … */
    const char *code; /* NULL: none */
    char param[64];   /* which field; "": none */
    char message[1024];
} api_error;

/* Return false, for `return api_…(problem, …)` where true is success. */
bool api_error_set(api_error *problem, unsigned status, const char *code, const char *param,
                   const char *format, ...) CENTO_PRINTF(5, 6);
/* What the library said. */
bool api_error_from(api_error *problem, const cento_error *error);
bool api_error_memory(api_error *problem);
bool api_error_no_model(api_error *problem, const char *asked, const char *there);
/* A new reference; NULL when out of memory. */
json_t *api_error_json(const api_error *problem);

/* Fields of a JSON object; `param` is the field's full name ("stream_options.include_usage") and is also the
 * key behind its last dot. Missing and null ones leave *value as it is. */
bool field_string(const json_t *object, const char *param, const char **value, api_error *problem);
bool field_bool(const json_t *object, const char *param, bool *value, api_error *problem);
bool field_number(const json_t *object, const char *param, double min, double max, float *value,
                  api_error *problem);
bool field_integer(const json_t *object, const char *param, json_int_t min, json_int_t max, json_int_t *value,
                   api_error *problem);
/* *value: NULL if there is none. */
bool field_object(const json_t *object, const char *param, const json_t **value, api_error *problem);
/* NULL if it is missing or null. */
const json_t *field_of(const json_t *object, const char *param);

#endif
