/* Errors and fields of the API; see api_error.h. */
#include "api_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

bool api_error_set(api_error *problem, unsigned status, const char *code, const char *param,
                   const char *format, ...) {
    va_list arguments;
    problem->status = status;
    problem->code = code;
    snprintf(problem->param, sizeof problem->param, "%s", param == NULL ? "" : param);
    va_start(arguments, format);
    vsnprintf(problem->message, sizeof problem->message, format, arguments);
    va_end(arguments);
    return false;
}

bool api_error_memory(api_error *problem) {
    return api_error_set(problem, 503, "out_of_memory", NULL, "out of memory");
}

bool api_error_no_model(api_error *problem, const char *asked, const char *there) {
    return api_error_set(problem, 404, "model_not_found", "model",
                         "there is no model '%.100s' here; this server has '%s'", asked, there);
}

bool api_error_from(api_error *problem, const cento_error *error) {
    unsigned status = 500;
    const char *code = NULL;
    switch (error->status) {
    case CENTO_INVALID_ARGUMENT:
    case CENTO_TEMPLATE:
    case CENTO_UNSUPPORTED:
        status = 400;
        break;
    case CENTO_CONTEXT_FULL:
        status = 400;
        code = "context_length_exceeded";
        break;
    case CENTO_NOT_FOUND:
        status = 404;
        code = "not_found";
        break;
    case CENTO_QUEUE_FULL:
        status = 429;
        code = "queue_full";
        break;
    case CENTO_POOL_FULL:
    case CENTO_OUT_OF_MEMORY:
    case CENTO_CLOSED:
        status = 503;
        break;
    default:
        break;
    }
    return api_error_set(problem, status, code, NULL, "%s", error->message);
}

json_t *api_error_json(const api_error *problem) {
    const char *type = problem->status == 429   ? "rate_limit_error"
                       : problem->status >= 500 ? "server_error"
                                                : "invalid_request_error";
    return json_pack("{s:{s:s, s:s, s:s?, s:s?}}", "error", "message", problem->message, "type", type,
                     "param", problem->param[0] == '\0' ? NULL : problem->param, "code", problem->code);
}

/* ------------------------------------------------------------------------------ fields ------ */

static const char *key_of(const char *param) {
    const char *dot = strrchr(param, '.');
    return dot == NULL ? param : dot + 1;
}

const json_t *field_of(const json_t *object, const char *param) {
    const json_t *value = json_object_get(object, key_of(param));
    return json_is_null(value) ? NULL : value;
}

static bool wrong_type(api_error *problem, const char *param, const char *expected, const json_t *found) {
    return api_error_set(problem, 400, "invalid_type", param, "'%s' must be %s, found %s", param, expected,
                         json_type_name(found));
}

bool field_string(const json_t *object, const char *param, const char **value, api_error *problem) {
    const json_t *found = field_of(object, param);
    if (found == NULL)
        return true;
    if (!json_is_string(found))
        return wrong_type(problem, param, "a string", found);
    if (strlen(json_string_value(found)) != json_string_length(found))
        return api_error_set(problem, 400, "invalid_value", param, "'%s' has a NUL character", param);
    *value = json_string_value(found);
    return true;
}

bool field_bool(const json_t *object, const char *param, bool *value, api_error *problem) {
    const json_t *found = field_of(object, param);
    if (found == NULL)
        return true;
    if (!json_is_boolean(found))
        return wrong_type(problem, param, "a boolean", found);
    *value = json_is_true(found);
    return true;
}

bool field_number(const json_t *object, const char *param, double min, double max, float *value,
                  api_error *problem) {
    const json_t *found = field_of(object, param);
    if (found == NULL)
        return true;
    if (!json_is_number(found))
        return wrong_type(problem, param, "a number", found);
    double number = json_number_value(found);
    if (!(number >= min && number <= max))
        return api_error_set(problem, 400, "invalid_value", param, "'%s' is %g, expected %g to %g", param,
                             number, min, max);
    *value = (float)number;
    return true;
}

bool field_integer(const json_t *object, const char *param, json_int_t min, json_int_t max, json_int_t *value,
                   api_error *problem) {
    const json_t *found = field_of(object, param);
    if (found == NULL)
        return true;
    if (!json_is_integer(found))
        return wrong_type(problem, param, "an integer", found);
    *value = json_integer_value(found);
    if (*value < min || *value > max)
        return api_error_set(problem, 400, "invalid_value", param, "'%s' is %lld, expected %lld to %lld",
                             param, (long long)*value, (long long)min, (long long)max);
    return true;
}

bool field_object(const json_t *object, const char *param, const json_t **value, api_error *problem) {
    *value = field_of(object, param);
    if (*value != NULL && !json_is_object(*value))
        return wrong_type(problem, param, "an object", *value);
    return true;
}
