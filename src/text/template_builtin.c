/*
 * Calling built-in functions with the arguments their signature names, and the global functions and
 * tests. One render per thread.
 */
#include "template.h"

#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "base/utf8.h"

#define PARAMETERS_MAX 8
#define RANGE_MAX      100000 /* as in Jinja's sandbox */

/* ------------------------------------------------------------------------------- binding ---- */

typedef struct parameter {
    const char *name;
    size_t bytes;
    bool optional;
} parameter;

static size_t read_parameters(const char *spelled, parameter parameters[PARAMETERS_MAX]) {
    size_t count = 0;
    while (*spelled != '\0' && count < PARAMETERS_MAX) {
        size_t bytes = strcspn(spelled, " ");
        bool optional = bytes > 0 && spelled[bytes - 1] == '?';
        parameters[count++] = (parameter){.name = spelled, .bytes = bytes - optional, .optional = optional};
        spelled += bytes + strspn(spelled + bytes, " ");
    }
    return count;
}

static cento_status bind_keyword(render *r, const builtin *function, const keyword_arg *given,
                                 const parameter *parameters, size_t count, value *bound) {
    for (size_t i = 0; i < count; i++) {
        if (parameters[i].bytes != given->name->bytes ||
            memcmp(parameters[i].name, given->name->data, given->name->bytes) != 0)
            continue;
        if (bound[i].type != VALUE_MISSING)
            return render_fail(r, "%s() got multiple values for argument '%s'", function->name,
                               given->name->data);
        bound[i] = given->item;
        return CENTO_OK;
    }
    return render_fail(r, "%s() got an unexpected keyword argument '%s'", function->name, given->name->data);
}

cento_status builtin_call(render *r, const builtin *function, value self, const call_args *arguments,
                          value *result) {
    parameter parameters[PARAMETERS_MAX];
    const char *spelled = function->parameters;
    if (function->function == NULL)
        return render_fail(r, "'%s' is not supported", function->name);
    if (spelled == NULL)
        return function->function(r, self, arguments, result);
    bool by_position = *spelled == '/';
    size_t count = read_parameters(spelled + by_position, parameters);
    if (arguments->count > count)
        return render_fail(r, "%s() takes at most %zu arguments (%zu given)", function->name, count,
                           arguments->count);
    if (by_position && arguments->keyword_count > 0)
        return render_fail(r, "%s() takes no keyword arguments", function->name);
    value *bound = render_alloc(r, PARAMETERS_MAX, sizeof *bound);
    if (bound == NULL)
        return render_memory(r);
    for (size_t i = 0; i < arguments->count; i++)
        bound[i] = arguments->positional[i];
    for (size_t i = 0; i < arguments->keyword_count; i++)
        TRY(bind_keyword(r, function, &arguments->keywords[i], parameters, count, bound));
    for (size_t i = 0; i < count; i++)
        if (bound[i].type == VALUE_MISSING && !parameters[i].optional)
            return render_fail(r, "%s() missing required argument '%.*s'", function->name,
                               (int)parameters[i].bytes, parameters[i].name);
    call_args given = {.positional = bound, .count = count};
    return function->function(r, self, &given, result);
}

static const builtin *find_builtin(const builtin *table, const char *name, size_t bytes) {
    for (; table->name != NULL; table++)
        if (strlen(table->name) == bytes && memcmp(table->name, name, bytes) == 0)
            return table;
    return NULL;
}

const builtin *template_filter(const char *name, size_t bytes) {
    const builtin *found = find_builtin(filters_text, name, bytes);
    return found != NULL ? found : find_builtin(filters_sequence, name, bytes);
}

static cento_status no_function(render *r, const char *kind, value name) {
    size_t begin = render_begin(r);
    value spelled;
    if (name.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, name);
    TRY(value_repr(r, name));
    TRY(render_end(r, begin, &spelled));
    return render_fail(r, "no %s named %s", kind, spelled.as.text->data);
}

cento_status template_apply_filter(render *r, value name, value self, const call_args *arguments,
                                   value *result) {
    const builtin *function =
        name.type == VALUE_TEXT ? template_filter(name.as.text->data, name.as.text->bytes) : NULL;
    if (function == NULL)
        return no_function(r, "filter", name);
    TRY(render_step(r, 0));
    TRY(render_enter(r));
    TRY(builtin_call(r, function, self, arguments, result));
    render_leave(r);
    return CENTO_OK;
}

cento_status template_apply_test(render *r, value name, value self, const call_args *arguments,
                                 bool *result) {
    const builtin *function =
        name.type == VALUE_TEXT ? template_test(name.as.text->data, name.as.text->bytes) : NULL;
    value made;
    if (function == NULL)
        return no_function(r, "test", name);
    TRY(render_step(r, 0));
    TRY(builtin_call(r, function, self, arguments, &made));
    return value_truth(r, made, result);
}

/* --------------------------------------------------------------------------------- tests ---- */

static cento_status test_defined(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type != VALUE_UNDEFINED);
    return CENTO_OK;
}

static cento_status test_undefined(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_UNDEFINED);
    return CENTO_OK;
}

static cento_status test_none(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_NONE);
    return CENTO_OK;
}

static cento_status test_boolean(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_BOOL);
    return CENTO_OK;
}

static cento_status test_true(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_BOOL && self.as.boolean);
    return CENTO_OK;
}

static cento_status test_false(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_BOOL && !self.as.boolean);
    return CENTO_OK;
}

static cento_status test_integer(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_INT);
    return CENTO_OK;
}

static cento_status test_float(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_FLOAT);
    return CENTO_OK;
}

static cento_status test_number(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_INT || self.type == VALUE_FLOAT || self.type == VALUE_BOOL);
    return CENTO_OK;
}

static cento_status test_string(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_TEXT);
    return CENTO_OK;
}

static cento_status test_mapping(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_DICT);
    return CENTO_OK;
}

static cento_status test_iterable(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(value_is_iterable(self));
    return CENTO_OK;
}

static cento_status test_sequence(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_UNDEFINED || self.type == VALUE_TEXT || self.type == VALUE_LIST ||
                         self.type == VALUE_TUPLE || self.type == VALUE_DICT || self.type == VALUE_RANGE);
    return CENTO_OK;
}

static cento_status test_callable(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result =
        value_bool(self.type == VALUE_FUNCTION || self.type == VALUE_METHOD || self.type == VALUE_MACRO ||
                   self.type == VALUE_LOOP || self.type == VALUE_JOINER || self.type == VALUE_UNDEFINED);
    return CENTO_OK;
}

static cento_status test_escaped(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_TEXT && self.as.text->markup);
    return CENTO_OK;
}

static cento_status test_sameas(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    *result = value_bool(value_same(self, arguments->positional[0]));
    return CENTO_OK;
}

static cento_status remainder_is(render *r, value self, value divisor, int64_t expected, value *result) {
    value remainder;
    bool equal;
    TRY(value_arithmetic(r, OPERATION_MODULO, self, divisor, &remainder));
    TRY(value_equal(r, remainder, value_int(expected), &equal));
    *result = value_bool(equal);
    return CENTO_OK;
}

static cento_status test_odd(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return remainder_is(r, self, value_int(2), 1, result);
}

static cento_status test_even(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return remainder_is(r, self, value_int(2), 0, result);
}

static cento_status test_divisibleby(render *r, value self, const call_args *arguments, value *result) {
    return remainder_is(r, self, arguments->positional[0], 0, result);
}

static cento_status test_equal(render *r, value self, const call_args *arguments, value *result) {
    bool equal;
    TRY(value_equal(r, self, arguments->positional[0], &equal));
    *result = value_bool(equal);
    return CENTO_OK;
}

static cento_status test_not_equal(render *r, value self, const call_args *arguments, value *result) {
    TRY(test_equal(r, self, arguments, result));
    *result = value_bool(!result->as.boolean);
    return CENTO_OK;
}

static cento_status test_ordered(render *r, operation operator_, value self, const call_args *arguments,
                                 value *result) {
    bool holds;
    TRY(value_compare(r, operator_, self, arguments->positional[0], &holds));
    *result = value_bool(holds);
    return CENTO_OK;
}

static cento_status test_less(render *r, value self, const call_args *arguments, value *result) {
    return test_ordered(r, OPERATION_LESS, self, arguments, result);
}

static cento_status test_less_equal(render *r, value self, const call_args *arguments, value *result) {
    return test_ordered(r, OPERATION_LESS_EQUAL, self, arguments, result);
}

static cento_status test_greater(render *r, value self, const call_args *arguments, value *result) {
    return test_ordered(r, OPERATION_GREATER, self, arguments, result);
}

static cento_status test_greater_equal(render *r, value self, const call_args *arguments, value *result) {
    return test_ordered(r, OPERATION_GREATER_EQUAL, self, arguments, result);
}

static cento_status test_in(render *r, value self, const call_args *arguments, value *result) {
    bool holds;
    TRY(value_contains(r, arguments->positional[0], self, &holds));
    *result = value_bool(holds);
    return CENTO_OK;
}

static cento_status test_case(render *r, value self, const char *method_name, value *result) {
    static const call_args none = {.count = 0};
    TRY(value_to_text(r, self, &self));
    return builtin_call(r, template_method(self, method_name, strlen(method_name)), self, &none, result);
}

static cento_status test_lower(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return test_case(r, self, "islower", result);
}

static cento_status test_upper(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return test_case(r, self, "isupper", result);
}

static cento_status test_filter(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = value_bool(self.type == VALUE_TEXT &&
                         template_filter(self.as.text->data, self.as.text->bytes) != NULL);
    return CENTO_OK;
}

static cento_status test_test(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result =
        value_bool(self.type == VALUE_TEXT && template_test(self.as.text->data, self.as.text->bytes) != NULL);
    return CENTO_OK;
}

static const builtin tests[] = {
    {"defined", "", test_defined},
    {"undefined", "", test_undefined},
    {"none", "", test_none},
    {"boolean", "", test_boolean},
    {"true", "", test_true},
    {"false", "", test_false},
    {"integer", "", test_integer},
    {"float", "", test_float},
    {"number", "", test_number},
    {"string", "", test_string},
    {"mapping", "", test_mapping},
    {"iterable", "", test_iterable},
    {"sequence", "", test_sequence},
    {"callable", "", test_callable},
    {"escaped", "", test_escaped},
    {"sameas", "other", test_sameas},
    {"odd", "", test_odd},
    {"even", "", test_even},
    {"divisibleby", "num", test_divisibleby},
    {"==", "/other", test_equal},
    {"eq", "/other", test_equal},
    {"equalto", "/other", test_equal},
    {"!=", "/other", test_not_equal},
    {"ne", "/other", test_not_equal},
    {"<", "/other", test_less},
    {"lt", "/other", test_less},
    {"lessthan", "/other", test_less},
    {"<=", "/other", test_less_equal},
    {"le", "/other", test_less_equal},
    {">", "/other", test_greater},
    {"gt", "/other", test_greater},
    {"greaterthan", "/other", test_greater},
    {">=", "/other", test_greater_equal},
    {"ge", "/other", test_greater_equal},
    {"in", "seq", test_in},
    {"lower", "", test_lower},
    {"upper", "", test_upper},
    {"filter", "", test_filter},
    {"test", "", test_test},
    {NULL, NULL, NULL},
};

const builtin *template_test(const char *name, size_t bytes) {
    return find_builtin(tests, name, bytes);
}

/* ------------------------------------------------------------------------------- globals ---- */

static cento_status global_raise_exception(render *r, value self, const call_args *arguments, value *result) {
    value message;
    (void)self;
    (void)result;
    TRY(value_to_text(r, arguments->positional[0], &message));
    return render_fail(r, "%s", message.as.text->data);
}

static void system_local_time(struct tm *now, int *microseconds) {
    struct timeval time_of_day;
    gettimeofday(&time_of_day, NULL);
    localtime_r(&time_of_day.tv_sec, now);
    *microseconds = (int)time_of_day.tv_usec;
}

/* datetime.now().strftime(format): %f is the microseconds, %z and %Z are empty. */
static cento_status global_strftime_now(render *r, value self, const call_args *arguments, value *result) {
    value format = arguments->positional[0];
    struct tm now = {0};
    int microseconds = 0;
    (void)self;
    if (format.type != VALUE_TEXT)
        return render_fail(r, "strftime() argument 1 must be str, not %s", value_type_name(format));
    (r->options->local_time == NULL ? system_local_time : r->options->local_time)(&now, &microseconds);
    const string *t = format.as.text;
    size_t begin = render_begin(r);
    for (size_t i = 0; i < t->bytes; i++) {
        if (t->data[i] != '%' || i + 1 == t->bytes) {
            TRY(render_append(r, t->data + i, 1));
            continue;
        }
        char directive[4] = {'%', t->data[++i], 0, 0}, made[256];
        if ((directive[1] == '-' || directive[1] == '_' || directive[1] == '0' || directive[1] == '^' ||
             directive[1] == 'E' || directive[1] == 'O') &&
            i + 1 < t->bytes)
            directive[2] = t->data[++i];
        size_t bytes;
        if (directive[1] == 'f')
            bytes = (size_t)snprintf(made, sizeof made, "%06d", microseconds);
        else if (directive[1] == 'z' || directive[1] == 'Z')
            bytes = 0;
        else
            bytes = strftime(made, sizeof made, directive, &now);
        TRY(render_append(r, made, bytes));
    }
    if (r->output->bytes > begin && !utf8_valid(r->output->data + begin, r->output->bytes - begin))
        return render_fail(r, "the locale's names are not UTF-8");
    return render_end(r, begin, result);
}

static cento_status global_range(render *r, value self, const call_args *arguments, value *result) {
    int64_t bounds[3] = {0, 0, 1};
    (void)self;
    if (arguments->count < 1 || arguments->count > 3 || arguments->keyword_count > 0)
        return render_fail(r, "range expected 1 to 3 arguments, got %zu", arguments->count);
    for (size_t i = 0; i < arguments->count; i++)
        if (!value_as_int(arguments->positional[i], &bounds[arguments->count == 1 ? 1 : i]))
            return render_fail(r, "'%s' object cannot be interpreted as an integer",
                               value_type_name(arguments->positional[i]));
    int64_t start = bounds[0], stop = bounds[1], step = bounds[2];
    if (step == 0)
        return render_fail(r, "range() arg 3 must not be zero");
    uint64_t distance = 0, stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 ? start < stop : start > stop)
        distance = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t count = distance == 0 ? 0 : (distance - 1) / stride + 1;
    if (count > RANGE_MAX)
        return render_fail(r, "the range is too big: more than %d items", RANGE_MAX);
    range *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (range){.start = start, .stop = stop, .step = step, .count = (size_t)count};
    *result = (value){.type = VALUE_RANGE, .as.range = made};
    return CENTO_OK;
}

/* One pair of dict([(key, value), …]). */
static cento_status add_pair(render *r, dict *made, value pair) {
    const value *items;
    size_t count;
    TRY(value_items(r, pair, &items, &count));
    if (count != 2)
        return render_fail(r, "dictionary update sequence element has length %zu; 2 is required", count);
    return dict_set(r, made, items[0], items[1]);
}

static cento_status make_dict(render *r, const char *name, const call_args *arguments, dict **result) {
    TRY(dict_new(r, arguments->keyword_count, result));
    if (arguments->count > 1)
        return render_fail(r, "%s expected at most 1 argument, got %zu", name, arguments->count);
    if (arguments->count == 1) {
        value source = arguments->positional[0];
        if (source.type == VALUE_DICT) {
            for (size_t i = 0; i < source.as.dict->count; i++)
                TRY(dict_set(r, *result, source.as.dict->entries[i].key, source.as.dict->entries[i].item));
        } else {
            const value *items;
            size_t count;
            TRY(value_items(r, source, &items, &count));
            for (size_t i = 0; i < count; i++)
                TRY(add_pair(r, *result, items[i]));
        }
    }
    for (size_t i = 0; i < arguments->keyword_count; i++)
        TRY(dict_set(r, *result, (value){.type = VALUE_TEXT, .as.text = arguments->keywords[i].name},
                     arguments->keywords[i].item));
    return CENTO_OK;
}

static cento_status global_dict(render *r, value self, const call_args *arguments, value *result) {
    dict *made;
    (void)self;
    TRY(make_dict(r, "dict", arguments, &made));
    *result = (value){.type = VALUE_DICT, .as.dict = made};
    return CENTO_OK;
}

static cento_status global_namespace(render *r, value self, const call_args *arguments, value *result) {
    dict *made;
    (void)self;
    TRY(make_dict(r, "namespace", arguments, &made));
    for (size_t i = 0; i < made->count; i++) {
        value key = made->entries[i].key;
        if (key.type == VALUE_TEXT && key.as.text->bytes > 0 && key.as.text->data[0] == '_')
            return render_fail(r, "namespaces cannot have the underscore-prefixed attribute '%s'",
                               key.as.text->data);
    }
    *result = (value){.type = VALUE_NAMESPACE, .as.dict = made};
    return CENTO_OK;
}

static cento_status global_cycler(render *r, value self, const call_args *arguments, value *result) {
    (void)self;
    if (arguments->count == 0 || arguments->keyword_count > 0)
        return render_fail(r, "a cycler needs at least one item");
    cycler *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (cycler){.items = arguments->positional, .count = arguments->count};
    *result = (value){.type = VALUE_CYCLER, .as.cycler = made};
    return CENTO_OK;
}

static cento_status global_joiner(render *r, value self, const call_args *arguments, value *result) {
    joiner *made = render_alloc(r, 1, sizeof *made);
    (void)self;
    if (made == NULL)
        return render_memory(r);
    made->separator = arguments->positional[0];
    if (made->separator.type == VALUE_MISSING)
        TRY(value_text(r, ", ", 2, &made->separator));
    *result = (value){.type = VALUE_JOINER, .as.joiner = made};
    return CENTO_OK;
}

static cento_status method_cycle(render *r, value self, const call_args *arguments, value *result) {
    if (arguments->count == 0 || arguments->keyword_count > 0)
        return render_fail(r, "no items for cycling given");
    *result = arguments->positional[self.as.loop->index % arguments->count];
    return CENTO_OK;
}

static cento_status method_changed(render *r, value self, const call_args *arguments, value *result) {
    value given;
    bool equal = false;
    if (arguments->keyword_count > 0)
        return render_fail(r, "changed() takes no keyword arguments");
    TRY(value_sequence(r, VALUE_TUPLE, arguments->positional, arguments->count, &given));
    if (self.as.loop->changed.type != VALUE_MISSING)
        TRY(value_equal(r, self.as.loop->changed, given, &equal));
    self.as.loop->changed = given;
    *result = value_bool(!equal);
    return CENTO_OK;
}

static cento_status method_next(render *r, value self, const call_args *arguments, value *result) {
    cycler *c = self.as.cycler;
    (void)r;
    (void)arguments;
    *result = c->items[c->position];
    c->position = (c->position + 1) % c->count;
    return CENTO_OK;
}

static cento_status method_reset(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    self.as.cycler->position = 0;
    *result = value_none();
    return CENTO_OK;
}

const builtin loop_cycle = {"cycle", NULL, method_cycle};
const builtin loop_changed = {"changed", NULL, method_changed};
const builtin cycler_next = {"next", "", method_next};
const builtin cycler_reset = {"reset", "", method_reset};

static const builtin globals[] = {
    {"raise_exception", "message", global_raise_exception},
    {"strftime_now", "format", global_strftime_now},
    {"range", NULL, global_range},
    {"dict", NULL, global_dict},
    {"namespace", NULL, global_namespace},
    {"cycler", NULL, global_cycler},
    {"joiner", "sep?", global_joiner},
    {"lipsum", NULL, NULL},
    {NULL, NULL, NULL},
};

const builtin *template_global(const char *name, size_t bytes) {
    return find_builtin(globals, name, bytes);
}
