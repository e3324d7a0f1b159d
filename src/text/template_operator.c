/*
 * What operators and subscripts do: arithmetic as Python's, attributes and items as Jinja's sandbox
 * gives them. Integers have 64 bits; where Python's would grow, it is an error. One render per thread.
 */
#include "template.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------------------- arithmetic ---- */

static cento_status overflow(render *r) {
    return render_fail(r, "the integer does not fit in 64 bits");
}

static cento_status integer_power(render *r, int64_t base, int64_t exponent, value *result) {
    if (exponent < 0) {
        if (base == 0)
            return render_fail(r, "0.0 cannot be raised to a negative power");
        *result = value_float(pow((double)base, (double)exponent));
        return CENTO_OK;
    }
    int64_t power = 1;
    while (exponent > 0) {
        if (exponent & 1 && __builtin_mul_overflow(power, base, &power))
            return overflow(r);
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
            return overflow(r);
    }
    *result = value_int(power);
    return CENTO_OK;
}

/* Rounds down and leaves a remainder with the divisor's sign, as Python does. */
static cento_status integer_divide(render *r, operation operator_, int64_t a, int64_t b, value *result) {
    if (b == 0)
        return render_fail(r, operator_ == OPERATION_MODULO ? "integer modulo by zero"
                                                            : "integer division or modulo by zero");
    if (b == -1) { /* INT64_MIN / -1 traps */
        if (operator_ == OPERATION_MODULO)
            *result = value_int(0);
        else if (a == INT64_MIN)
            return overflow(r);
        else
            *result = value_int(-a);
        return CENTO_OK;
    }
    int64_t quotient = a / b, remainder = a % b;
    if (remainder != 0 && (remainder < 0) != (b < 0)) {
        quotient--;
        remainder += b;
    }
    *result = value_int(operator_ == OPERATION_MODULO ? remainder : quotient);
    return CENTO_OK;
}

static cento_status integer_arithmetic(render *r, operation operator_, int64_t a, int64_t b, value *result) {
    int64_t made;
    switch (operator_) {
    case OPERATION_ADD:
        if (__builtin_add_overflow(a, b, &made))
            return overflow(r);
        break;
    case OPERATION_SUBTRACT:
        if (__builtin_sub_overflow(a, b, &made))
            return overflow(r);
        break;
    case OPERATION_MULTIPLY:
        if (__builtin_mul_overflow(a, b, &made))
            return overflow(r);
        break;
    case OPERATION_DIVIDE:
        if (b == 0)
            return render_fail(r, "division by zero");
        *result = value_float((double)((long double)a / (long double)b));
        return CENTO_OK;
    case OPERATION_POWER:
        return integer_power(r, a, b, result);
    default:
        return integer_divide(r, operator_, a, b, result);
    }
    *result = value_int(made);
    return CENTO_OK;
}

/* Python's float_divmod. */
static void float_divmod(double a, double b, double *quotient, double *remainder) {
    double mod = fmod(a, b);
    double div = (a - mod) / b;
    if (mod != 0.0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1.0;
        }
    } else {
        mod = copysign(0.0, b);
    }
    if (div != 0.0) {
        *quotient = floor(div);
        if (div - *quotient > 0.5)
            *quotient += 1.0;
    } else {
        *quotient = copysign(0.0, a / b);
    }
    *remainder = mod;
}

static cento_status float_power(render *r, double a, double b, double *made) {
    if (a == 0.0 && b < 0.0)
        return render_fail(r, "0.0 cannot be raised to a negative power");
    if (a < 0.0 && isfinite(a) && isfinite(b) && b != floor(b))
        return render_fail(r, "complex numbers are not supported");
    *made = pow(a, b);
    if (isinf(*made) && isfinite(a) && isfinite(b))
        return render_fail(r, "Numerical result out of range");
    return CENTO_OK;
}

static cento_status float_arithmetic(render *r, operation operator_, double a, double b, value *result) {
    double made = 0.0, other;
    switch (operator_) {
    case OPERATION_ADD:
        made = a + b;
        break;
    case OPERATION_SUBTRACT:
        made = a - b;
        break;
    case OPERATION_MULTIPLY:
        made = a * b;
        break;
    case OPERATION_POWER:
        TRY(float_power(r, a, b, &made));
        break;
    default:
        if (b == 0.0)
            return render_fail(r, operator_ == OPERATION_MODULO ? "float modulo" : "float division by zero");
        if (operator_ == OPERATION_DIVIDE)
            made = a / b;
        else if (operator_ == OPERATION_MODULO)
            float_divmod(a, b, &other, &made);
        else
            float_divmod(a, b, &made, &other);
    }
    *result = value_float(made);
    return CENTO_OK;
}

/* HTML in a marked text stays, all else is escaped. */
cento_status text_escape_html(render *r, value v, value *result) {
    static const struct {
        char character;
        const char *escaped;
    } table[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    value plain;
    if (v.type == VALUE_TEXT && v.as.text->markup) {
        *result = v;
        return CENTO_OK;
    }
    TRY(value_to_text(r, v, &plain));
    const string *t = plain.as.text;
    size_t begin = render_begin(r), copied = 0;
    for (size_t i = 0; i < t->bytes; i++) {
        for (size_t j = 0; j < sizeof table / sizeof *table; j++) {
            if (t->data[i] != table[j].character)
                continue;
            TRY(render_append(r, t->data + copied, i - copied));
            TRY(render_append(r, table[j].escaped, strlen(table[j].escaped)));
            copied = i + 1;
        }
    }
    TRY(render_append(r, t->data + copied, t->bytes - copied));
    TRY(render_end(r, begin, &plain));
    return value_text_view(r, plain.as.text->data, plain.as.text->bytes, true, result);
}

static cento_status text_add(render *r, value a, value b, value *result) {
    bool markup = a.as.text->markup || b.as.text->markup;
    if (markup) {
        TRY(text_escape_html(r, a, &a));
        TRY(text_escape_html(r, b, &b));
    }
    size_t bytes = a.as.text->bytes + b.as.text->bytes;
    if (bytes > r->options->output_bytes_max)
        return render_fail(r, "the text is too long");
    char *joined = render_alloc(r, bytes + 1, 1);
    if (joined == NULL)
        return render_memory(r);
    memcpy(joined, a.as.text->data, a.as.text->bytes);
    memcpy(joined + a.as.text->bytes, b.as.text->data, b.as.text->bytes);
    return value_text_view(r, joined, bytes, markup, result);
}

static cento_status text_repeat(render *r, const string *t, int64_t times, value *result) {
    size_t bytes;
    if (times <= 0)
        times = 0;
    if (__builtin_mul_overflow(t->bytes, (size_t)times, &bytes) || bytes > r->options->output_bytes_max)
        return render_fail(r, "the text is too long");
    char *repeated = render_alloc(r, bytes + 1, 1);
    if (repeated == NULL)
        return render_memory(r);
    for (size_t at = 0; at < bytes; at += t->bytes)
        memcpy(repeated + at, t->data, t->bytes);
    return value_text_view(r, repeated, bytes, t->markup, result);
}

static cento_status list_add(render *r, value a, value b, value *result) {
    size_t left = a.as.list->count, count = left + b.as.list->count;
    value *items = render_alloc(r, count, sizeof *items);
    if (items == NULL)
        return render_memory(r);
    for (size_t i = 0; i < count; i++)
        items[i] = i < left ? a.as.list->items[i] : b.as.list->items[i - left];
    TRY(render_step(r, count * sizeof *items));
    return value_sequence(r, a.type, items, count, result);
}

static cento_status list_repeat(render *r, value a, int64_t times, value *result) {
    size_t count, have = a.as.list->count;
    if (times <= 0)
        times = 0;
    if (__builtin_mul_overflow(have, (size_t)times, &count) ||
        count > r->options->memory_bytes_max / sizeof(value))
        return render_fail(r, "the list is too long");
    value *items = render_alloc(r, count, sizeof *items);
    if (items == NULL)
        return render_memory(r);
    for (size_t i = 0; i < count; i++)
        items[i] = a.as.list->items[i % have];
    TRY(render_step(r, count * sizeof *items));
    return value_sequence(r, a.type, items, count, result);
}

static bool is_list(value v) {
    return v.type == VALUE_LIST || v.type == VALUE_TUPLE;
}

cento_status value_arithmetic(render *r, operation operator_, value a, value b, value *result) {
    static const char *const signs[] = {
        [OPERATION_ADD] = "+",
        [OPERATION_SUBTRACT] = "-",
        [OPERATION_MULTIPLY] = "*",
        [OPERATION_DIVIDE] = "/",
        [OPERATION_FLOOR_DIVIDE] = "//",
        [OPERATION_MODULO] = "%",
        [OPERATION_POWER] = "** or pow()",
    };
    int64_t left, right;
    double left_real, right_real;
    if (value_as_int(a, &left) && value_as_int(b, &right))
        return integer_arithmetic(r, operator_, left, right, result);
    if (value_as_real(a, &left_real) && value_as_real(b, &right_real))
        return float_arithmetic(r, operator_, left_real, right_real, result);
    if (operator_ == OPERATION_MODULO && a.type == VALUE_TEXT)
        return text_percent(r, a, b, result);
    if (a.type == VALUE_UNDEFINED || b.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, a.type == VALUE_UNDEFINED ? a : b);
    if (operator_ == OPERATION_ADD && a.type == VALUE_TEXT && b.type == VALUE_TEXT)
        return text_add(r, a, b, result);
    if (operator_ == OPERATION_ADD && is_list(a) && a.type == b.type)
        return list_add(r, a, b, result);
    if (operator_ == OPERATION_MULTIPLY && value_as_int(a, &left)) {
        value swapped = a;
        a = b;
        b = swapped;
    }
    if (operator_ == OPERATION_MULTIPLY && value_as_int(b, &right)) {
        if (a.type == VALUE_TEXT)
            return text_repeat(r, a.as.text, right, result);
        if (is_list(a))
            return list_repeat(r, a, right, result);
    }
    if (operator_ == OPERATION_ADD && a.type == VALUE_TEXT)
        return render_fail(r, "can only concatenate str (not \"%s\") to str", value_type_name(b));
    return render_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", signs[operator_],
                       value_type_name(a), value_type_name(b));
}

cento_status value_negate(render *r, value v, bool negative, value *result) {
    int64_t integer;
    if (v.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, v);
    if (v.type == VALUE_FLOAT) {
        *result = value_float(negative ? -v.as.real : v.as.real);
        return CENTO_OK;
    }
    if (!value_as_int(v, &integer))
        return render_fail(r, "bad operand type for unary %c: '%s'", negative ? '-' : '+',
                           value_type_name(v));
    if (negative && __builtin_sub_overflow(0, integer, &integer))
        return overflow(r);
    *result = value_int(integer);
    return CENTO_OK;
}

/* ---------------------------------------------------------------------------- attributes ---- */

static cento_status bound_method(render *r, value self, const builtin *function, value *result) {
    method *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (method){.self = self, .function = function};
    *result = (value){.type = VALUE_METHOD, .as.method = made};
    return CENTO_OK;
}

static cento_status loop_attribute(render *r, value object, const string *name, bool *found, value *result) {
    loop_state *loop = object.as.loop;
    size_t length;
    bool more;
    if (text_is(name, "index")) {
        *result = value_int((int64_t)loop->index + 1);
    } else if (text_is(name, "index0")) {
        *result = value_int((int64_t)loop->index);
    } else if (text_is(name, "first")) {
        *result = value_bool(loop->index == 0);
    } else if (text_is(name, "last")) {
        TRY(template_loop_peek(r, loop, &more));
        *result = value_bool(!more);
    } else if (text_is(name, "length") || text_is(name, "revindex") || text_is(name, "revindex0")) {
        TRY(template_loop_length(r, loop, &length));
        size_t before = text_is(name, "length")     ? 0
                        : text_is(name, "revindex") ? loop->index
                                                    : loop->index + 1;
        *result = value_int((int64_t)(length - before));
    } else if (text_is(name, "depth")) {
        *result = value_int(loop->depth + 1);
    } else if (text_is(name, "depth0")) {
        *result = value_int(loop->depth);
    } else if (text_is(name, "previtem")) {
        if (loop->index == 0)
            return value_undefined(r, "there is no previous item", NULL, value_none(), result);
        *result = loop->accepted[loop->index - 1];
    } else if (text_is(name, "nextitem")) {
        TRY(template_loop_peek(r, loop, &more));
        if (!more)
            return value_undefined(r, "there is no next item", NULL, value_none(), result);
        *result = loop->accepted[loop->index + 1];
    } else if (text_is(name, "cycle")) {
        return bound_method(r, object, &loop_cycle, result);
    } else if (text_is(name, "changed")) {
        return bound_method(r, object, &loop_changed, result);
    } else {
        *found = false;
    }
    return CENTO_OK;
}

static cento_status macro_attribute(render *r, value object, const string *name, bool *found, value *result) {
    const node_macro *definition = object.as.macro->definition;
    if (text_is(name, "name")) {
        *result = definition->name == NULL ? value_none()
                                           : (value){.type = VALUE_TEXT, .as.text = definition->name};
    } else if (text_is(name, "catch_kwargs")) {
        *result = value_bool(definition->uses_keywords);
    } else if (text_is(name, "catch_varargs")) {
        *result = value_bool(definition->uses_rest);
    } else if (text_is(name, "caller")) {
        *result = value_bool(definition->uses_caller);
    } else if (text_is(name, "arguments")) {
        value *names = render_alloc(r, definition->parameter_count, sizeof *names);
        if (names == NULL)
            return render_memory(r);
        size_t count = 0;
        for (const node *p = definition->parameters; p != NULL; p = p->next)
            names[count++] = (value){.type = VALUE_TEXT, .as.text = p->as.name.name};
        return value_sequence(r, VALUE_TUPLE, names, count, result);
    } else {
        *found = false;
    }
    return CENTO_OK;
}

static cento_status cycler_attribute(render *r, value object, const string *name, bool *found,
                                     value *result) {
    const cycler *c = object.as.cycler;
    if (text_is(name, "current"))
        *result = c->items[c->position];
    else if (text_is(name, "next"))
        return bound_method(r, object, &cycler_next, result);
    else if (text_is(name, "reset"))
        return bound_method(r, object, &cycler_reset, result);
    else
        *found = false;
    return CENTO_OK;
}

/* Methods that would change a list or dict are refused by the sandbox as soon as they are used. */
static bool is_unsafe(value object, const string *name) {
    static const char *const of_lists[] = {"append", "clear",  "pop",    "reverse", "insert",
                                           "sort",   "extend", "remove", NULL};
    static const char *const of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    const char *const *names = object.type == VALUE_LIST   ? of_lists
                               : object.type == VALUE_DICT ? of_dicts
                                                           : NULL;
    for (; names != NULL && *names != NULL; names++)
        if (text_is(name, *names))
            return true;
    return false;
}

static cento_status unsafe_attribute(render *r, value object, const string *name, value *result) {
    size_t begin = render_begin(r);
    value message;
    strbuf_printf(r->output, "access to attribute '%.100s' of '%s' object is unsafe", name->data,
                  value_type_name(object));
    TRY(render_end(r, begin, &message));
    return value_undefined(r, message.as.text->data, NULL, value_none(), result);
}

/* What getattr() finds in Python; *found is false if it finds nothing. */
static cento_status python_attribute(render *r, value object, const string *name, bool *found,
                                     value *result) {
    *found = true;
    const value *item;
    switch (object.type) {
    case VALUE_LOOP:
        return loop_attribute(r, object, name, found, result);
    case VALUE_MACRO:
        return macro_attribute(r, object, name, found, result);
    case VALUE_CYCLER:
        return cycler_attribute(r, object, name, found, result);
    case VALUE_NAMESPACE:
        item = dict_get_text(object.as.dict, name->data, name->bytes);
        *found = item != NULL;
        if (item != NULL)
            *result = *item;
        return CENTO_OK;
    case VALUE_TUPLE:
        if (object.as.list->group && (text_is(name, "grouper") || text_is(name, "list"))) {
            *result = object.as.list->items[text_is(name, "list")];
            return CENTO_OK;
        }
        break;
    case VALUE_RANGE:
        if (text_is(name, "start") || text_is(name, "stop") || text_is(name, "step")) {
            const range *v = object.as.range;
            *result = value_int(text_is(name, "start")  ? v->start
                                : text_is(name, "stop") ? v->stop
                                                        : v->step);
            return CENTO_OK;
        }
        break;
    default:
        break;
    }
    if (is_unsafe(object, name))
        return unsafe_attribute(r, object, name, result);
    const builtin *function = template_method(object, name->data, name->bytes);
    if (function != NULL)
        return bound_method(r, object, function, result);
    *found = false;
    return CENTO_OK;
}

static cento_status no_attribute(render *r, value object, value name, value *result) {
    return value_undefined(r, NULL, value_object_type(object), name, result);
}

/* object.name: a method or other attribute, else the item of that name. */
cento_status value_attribute(render *r, value object, const string *name, value *result) {
    bool found;
    if (object.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, object);
    TRY(python_attribute(r, object, name, &found, result));
    if (found)
        return CENTO_OK;
    if (object.type == VALUE_DICT) {
        const value *item = dict_get_text(object.as.dict, name->data, name->bytes);
        if (item != NULL) {
            *result = *item;
            return CENTO_OK;
        }
    }
    return no_attribute(r, object, (value){.type = VALUE_TEXT, .as.text = name}, result);
}

/* --------------------------------------------------------------------------------- items ---- */

static bool python_index(int64_t index, size_t count, size_t *found) {
    if (index < 0)
        index += (int64_t)count;
    if (index < 0 || (uint64_t)index >= count)
        return false;
    *found = (size_t)index;
    return true;
}

static cento_status text_slice_view(render *r, const string *t, size_t first, size_t count, value *result) {
    size_t begin = text_offset(t, first);
    size_t end = t->bytes == t->characters ? begin + count : begin;
    for (size_t i = 0; end < t->bytes && t->bytes != t->characters; end++)
        if (((unsigned char)t->data[end] & 0xC0) != 0x80 && i++ == count)
            break;
    return value_text_view(r, t->data + begin, end - begin, t->markup, result);
}

/* The item at an integer index; *found is false when there is none. */
static cento_status indexed(render *r, value object, int64_t index, bool *found, value *result) {
    size_t at, count;
    *found = false;
    if (object.type != VALUE_TEXT && object.type != VALUE_RANGE && !is_list(object))
        return CENTO_OK;
    TRY(value_length(r, object, &count));
    *found = python_index(index, count, &at);
    if (!*found)
        return CENTO_OK;
    if (object.type == VALUE_TEXT)
        return text_slice_view(r, object.as.text, at, 1, result);
    if (object.type == VALUE_RANGE)
        *result = value_int(object.as.range->start + (int64_t)at * object.as.range->step);
    else
        *result = object.as.list->items[at];
    return CENTO_OK;
}

static bool is_hashable(value v) {
    if (v.type == VALUE_TUPLE) {
        for (size_t i = 0; i < v.as.list->count; i++)
            if (v.as.list->items[i].type == VALUE_TUPLE || !is_hashable(v.as.list->items[i]))
                return false; /* nested tuples: never keys of what a template is given */
        return true;
    }
    return v.type != VALUE_LIST && v.type != VALUE_DICT && v.type != VALUE_VIEW;
}

/* object[index]: the item, else the attribute of that name, else undefined. */
cento_status value_item(render *r, value object, value index, value *result) {
    bool found = false;
    int64_t integer;
    if (object.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, object);
    if (object.type == VALUE_DICT && is_hashable(index)) {
        const value *item;
        TRY(dict_get(r, object.as.dict, index, &item));
        found = item != NULL;
        if (found)
            *result = *item;
    } else if (value_as_int(index, &integer)) {
        TRY(indexed(r, object, integer, &found, result));
    }
    if (!found && index.type == VALUE_TEXT)
        TRY(python_attribute(r, object, index.as.text, &found, result));
    return found ? CENTO_OK : no_attribute(r, object, index, result);
}

static cento_status slice_bound(render *r, value v, bool *given, int64_t *integer) {
    *given = v.type != VALUE_NONE;
    if (v.type == VALUE_UNDEFINED)
        return render_fail(r, "slice indices must be integers or None");
    if (*given && !value_as_int(v, integer))
        return render_fail(r, "slice indices must be integers or None");
    return CENTO_OK;
}

static int64_t clamp(int64_t index, int64_t count, int64_t low, int64_t high) {
    if (index < 0)
        index = index + count < low ? low : index + count;
    return index > high ? high : index < low ? low : index;
}

static cento_status range_slice(render *r, const range *v, int64_t start, int64_t stop, int64_t step,
                                size_t count, value *result) {
    range *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (range){.start = v->start + start * v->step, .stop = v->start + stop * v->step, .count = count};
    if (__builtin_mul_overflow(v->step, step, &made->step))
        return overflow(r);
    *result = (value){.type = VALUE_RANGE, .as.range = made};
    return CENTO_OK;
}

cento_status value_slice(render *r, value object, value start_value, value stop_value, value step_value,
                         value *result) {
    bool has_start, has_stop, has_step;
    int64_t start = 0, stop = 0, step = 1;
    size_t length;
    if (object.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, object);
    if (object.type != VALUE_TEXT && object.type != VALUE_RANGE && !is_list(object))
        return render_fail(r, "'%s' object is not subscriptable by a slice", value_type_name(object));
    TRY(slice_bound(r, start_value, &has_start, &start));
    TRY(slice_bound(r, stop_value, &has_stop, &stop));
    TRY(slice_bound(r, step_value, &has_step, &step));
    if (step == 0)
        return render_fail(r, "slice step cannot be zero");
    TRY(value_length(r, object, &length));
    int64_t count = (int64_t)length, low = step < 0 ? -1 : 0, high = step < 0 ? count - 1 : count;
    start = has_start ? clamp(start, count, low, high) : step < 0 ? high : low;
    stop = has_stop ? clamp(stop, count, low, high) : step < 0 ? low : high;
    int64_t distance = step < 0 ? start - stop : stop - start;
    uint64_t stride = step < 0 ? 0 - (uint64_t)step : (uint64_t)step;
    size_t taken = distance <= 0 ? 0 : (size_t)(((uint64_t)distance - 1) / stride + 1);
    if (object.type == VALUE_TEXT && (step == 1 || taken == 0))
        return text_slice_view(r, object.as.text, taken == 0 ? 0 : (size_t)start, taken, result);
    if (object.type == VALUE_RANGE)
        return range_slice(r, object.as.range, start, stop, step, taken, result);
    const value *source;
    TRY(value_items(r, object, &source, &length));
    value *items = render_alloc(r, taken, sizeof *items);
    if (items == NULL)
        return render_memory(r);
    for (size_t i = 0; i < taken; i++)
        items[i] = source[start + (int64_t)i * step];
    TRY(render_step(r, taken * sizeof *items));
    if (object.type != VALUE_TEXT)
        return value_sequence(r, object.type == VALUE_TUPLE ? VALUE_TUPLE : VALUE_LIST, items, taken, result);
    size_t begin = render_begin(r);
    for (size_t i = 0; i < taken; i++)
        TRY(value_print(r, items[i]));
    return render_end(r, begin, result);
}

/* Jinja's make_attrgetter. */
cento_status value_path(render *r, value object, value path, value fallback, value *result) {
    *result = object;
    if (path.type == VALUE_NONE || path.type == VALUE_MISSING)
        return CENTO_OK;
    if (path.type != VALUE_TEXT)
        return value_item(r, object, path, result);
    const char *part = path.as.text->data, *end = part + path.as.text->bytes;
    for (;;) {
        const char *dot = memchr(part, '.', (size_t)(end - part));
        size_t bytes = (size_t)((dot == NULL ? end : dot) - part);
        bool number = bytes > 0 && bytes < 18;
        int64_t integer = 0;
        for (size_t i = 0; i < bytes && number; i++) {
            number = part[i] >= '0' && part[i] <= '9';
            integer = integer * 10 + (part[i] - '0');
        }
        value name = value_int(integer);
        if (!number)
            TRY(value_text(r, part, bytes, &name));
        TRY(value_item(r, *result, name, result));
        if (fallback.type != VALUE_NONE && fallback.type != VALUE_MISSING && result->type == VALUE_UNDEFINED)
            *result = fallback;
        if (dot == NULL)
            return CENTO_OK;
        part = dot + 1;
    }
}
