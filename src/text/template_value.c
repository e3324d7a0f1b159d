/*
 * Values: making them, and what Python does with any two of them: truth, equality, order, membership,
 * iteration. One render per thread.
 */
#include "template.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"

value value_none(void) {
    return (value){.type = VALUE_NONE};
}

value value_bool(bool boolean) {
    return (value){.type = VALUE_BOOL, .as.boolean = boolean};
}

value value_int(int64_t integer) {
    return (value){.type = VALUE_INT, .as.integer = integer};
}

value value_float(double real) {
    return (value){.type = VALUE_FLOAT, .as.real = real};
}

cento_status value_text_view(render *r, const char *data, size_t bytes, bool markup, value *result) {
    string *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (string){.data = data, .bytes = bytes, .characters = utf8_count(data, bytes), .markup = markup};
    *result = (value){.type = VALUE_TEXT, .as.text = made};
    return render_step(r, bytes);
}

cento_status value_text(render *r, const char *data, size_t bytes, value *result) {
    const char *copy = arena_copy(&r->memory, data, bytes);
    if (copy == NULL)
        return render_memory(r);
    return value_text_view(r, copy, bytes, false, result);
}

static const value no_items[1]; /* what an empty sequence points at, rather than at nothing */

cento_status value_sequence(render *r, value_type type, const value *items, size_t count, value *result) {
    list *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (list){.items = items == NULL ? no_items : items, .count = count};
    *result = (value){.type = type, .as.list = made};
    return CENTO_OK;
}

cento_status value_iterator(render *r, const char *type_name, const value *items, size_t count,
                            value *result) {
    iterator *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (iterator){.items = items == NULL ? no_items : items, .count = count, .type_name = type_name};
    *result = (value){.type = VALUE_ITERATOR, .as.iterator = made};
    return CENTO_OK;
}

cento_status value_undefined(render *r, const char *hint, const char *object_type, value name,
                             value *result) {
    undefined *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (undefined){.hint = hint, .object_type = object_type, .name = name};
    *result = (value){.type = VALUE_UNDEFINED, .as.undefined = made};
    return CENTO_OK;
}

cento_status value_undefined_fail(render *r, value undefined_value) {
    const undefined *why = undefined_value.as.undefined;
    if (why->hint != NULL)
        return render_fail(r, "%s", why->hint);
    size_t begin = render_begin(r);
    value name;
    TRY(value_repr(r, why->name));
    TRY(render_end(r, begin, &name));
    if (why->object_type == NULL)
        return render_fail(r, "%s is undefined", name.as.text->data);
    if (why->name.type != VALUE_TEXT)
        return render_fail(r, "%s has no element %s", why->object_type, name.as.text->data);
    return render_fail(r, "'%s' has no attribute %s", why->object_type, name.as.text->data);
}

static cento_status text_from_json(render *r, const char *data, size_t bytes, value *result) {
    if (!utf8_valid(data, bytes))
        return render_fail(r, "a string of the context is not UTF-8");
    return value_text_view(r, data, bytes, false, result);
}

static cento_status object_from_json(render *r, const json_t *json, value *result) {
    dict *made;
    const char *key;
    json_t *member;
    TRY(dict_new(r, json_object_size(json), &made));
    /* iterating changes nothing in the object; jansson only lacks a const form of it */
    json_object_foreach((json_t *)(uintptr_t)json, key, member) {
        value key_value, item;
        TRY(text_from_json(r, key, strlen(key), &key_value));
        TRY(value_from_json(r, member, &item));
        TRY(dict_set(r, made, key_value, item));
    }
    *result = (value){.type = VALUE_DICT, .as.dict = made};
    return CENTO_OK;
}

static cento_status array_from_json(render *r, const json_t *json, value *result) {
    size_t count = json_array_size(json);
    value *items = render_alloc(r, count, sizeof *items);
    if (items == NULL)
        return render_memory(r);
    for (size_t i = 0; i < count; i++)
        TRY(value_from_json(r, json_array_get(json, i), &items[i]));
    return value_sequence(r, VALUE_LIST, items, count, result);
}

cento_status value_from_json(render *r, const json_t *json, value *result) {
    cento_status status = CENTO_OK;
    TRY(render_enter(r));
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        status = object_from_json(r, json, result);
        break;
    case JSON_ARRAY:
        status = array_from_json(r, json, result);
        break;
    case JSON_STRING:
        status = text_from_json(r, json_string_value(json), json_string_length(json), result);
        break;
    case JSON_INTEGER:
        *result = value_int(json_integer_value(json));
        break;
    case JSON_REAL:
        *result = value_float(json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *result = value_bool(json_is_true(json));
        break;
    case JSON_NULL:
        *result = value_none();
        break;
    }
    render_leave(r);
    return status;
}

/* -------------------------------------------------------------------------------- names ---- */

const char *value_type_name(value v) {
    switch (v.type) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
        return "Undefined";
    case VALUE_NONE:
        return "NoneType";
    case VALUE_BOOL:
        return "bool";
    case VALUE_INT:
        return "int";
    case VALUE_FLOAT:
        return "float";
    case VALUE_TEXT:
        return v.as.text->markup ? "Markup" : "str";
    case VALUE_LIST:
        return "list";
    case VALUE_TUPLE:
        return v.as.list->group ? "_GroupTuple" : "tuple";
    case VALUE_DICT:
        return "dict";
    case VALUE_VIEW:
        return v.as.view->kind == VIEW_KEYS     ? "dict_keys"
               : v.as.view->kind == VIEW_VALUES ? "dict_values"
                                                : "dict_items";
    case VALUE_RANGE:
        return "range";
    case VALUE_ITERATOR:
        return v.as.iterator->type_name;
    case VALUE_NAMESPACE:
        return "Namespace";
    case VALUE_MACRO:
        return "Macro";
    case VALUE_FUNCTION:
        return "function";
    case VALUE_METHOD:
        return "method";
    case VALUE_LOOP:
        return "LoopContext";
    case VALUE_CYCLER:
        return "Cycler";
    case VALUE_JOINER:
        return "Joiner";
    }
    return "object";
}

const char *value_object_type(value v) {
    switch (v.type) {
    case VALUE_NONE:
        return "None";
    case VALUE_BOOL:
        return "bool object";
    case VALUE_INT:
        return "int object";
    case VALUE_FLOAT:
        return "float object";
    case VALUE_TEXT:
        return "str object";
    case VALUE_LIST:
        return "list object";
    case VALUE_TUPLE:
        return "tuple object";
    case VALUE_DICT:
        return "dict object";
    case VALUE_NAMESPACE:
        return "namespace object";
    case VALUE_LOOP:
        return "jinja2.runtime.LoopContext object";
    case VALUE_MACRO:
        return "jinja2.runtime.Macro object";
    default:
        return value_type_name(v);
    }
}

bool text_is(const string *t, const char *expected) {
    return strlen(expected) == t->bytes && memcmp(t->data, expected, t->bytes) == 0;
}

size_t text_offset(const string *t, size_t character) {
    if (t->bytes == t->characters || character == 0)
        return character < t->bytes ? character : t->bytes;
    size_t at = 0;
    for (; at < t->bytes; at++)
        if (((unsigned char)t->data[at] & 0xC0) != 0x80 && character-- == 0)
            return at;
    return at;
}

/* ------------------------------------------------------------------------ numbers, truth ---- */

bool value_as_int(value v, int64_t *integer) {
    if (v.type == VALUE_BOOL)
        *integer = v.as.boolean;
    else if (v.type == VALUE_INT)
        *integer = v.as.integer;
    else
        return false;
    return true;
}

bool value_as_real(value v, double *real) {
    int64_t integer;
    if (v.type == VALUE_FLOAT)
        *real = v.as.real;
    else if (value_as_int(v, &integer))
        *real = (double)integer;
    else
        return false;
    return true;
}

static bool is_number(value v) {
    return v.type == VALUE_BOOL || v.type == VALUE_INT || v.type == VALUE_FLOAT;
}

/* Exact also where the integer is no double: a long double holds both. */
static long double exact(value v) {
    int64_t integer;
    return value_as_int(v, &integer) ? (long double)integer : (long double)v.as.real;
}

cento_status value_truth(render *r, value v, bool *truth) {
    size_t length;
    (void)r;
    switch (v.type) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        *truth = false;
        break;
    case VALUE_BOOL:
        *truth = v.as.boolean;
        break;
    case VALUE_INT:
        *truth = v.as.integer != 0;
        break;
    case VALUE_FLOAT:
        *truth = v.as.real != 0.0;
        break;
    case VALUE_TEXT:
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_DICT:
    case VALUE_VIEW:
    case VALUE_RANGE:
        TRY(value_length(r, v, &length));
        *truth = length > 0;
        break;
    default:
        *truth = true;
    }
    return CENTO_OK;
}

cento_status value_length(render *r, value v, size_t *length) {
    switch (v.type) {
    case VALUE_UNDEFINED:
        *length = 0;
        return CENTO_OK;
    case VALUE_TEXT:
        *length = v.as.text->characters;
        return CENTO_OK;
    case VALUE_LIST:
    case VALUE_TUPLE:
        *length = v.as.list->count;
        return CENTO_OK;
    case VALUE_DICT:
        *length = v.as.dict->count;
        return CENTO_OK;
    case VALUE_VIEW:
        *length = v.as.view->dict->count;
        return CENTO_OK;
    case VALUE_RANGE:
        *length = v.as.range->count;
        return CENTO_OK;
    default:
        return render_fail(r, "object of type '%s' has no len()", value_type_name(v));
    }
}

bool value_same(value a, value b) {
    if (a.type != b.type)
        return false;
    switch (a.type) {
    case VALUE_MISSING:
    case VALUE_NONE:
        return true;
    case VALUE_BOOL:
        return a.as.boolean == b.as.boolean;
    case VALUE_INT:
        return a.as.integer == b.as.integer;
    case VALUE_FLOAT:
        return memcmp(&a.as.real, &b.as.real, sizeof a.as.real) == 0;
    case VALUE_TEXT:
        return a.as.text == b.as.text ||
               (a.as.text->bytes == b.as.text->bytes && a.as.text->data == b.as.text->data);
    default:
        return (const void *)a.as.list == (const void *)b.as.list;
    }
}

/* ------------------------------------------------------------------------------ equality ---- */

static bool texts_equal(const string *a, const string *b) {
    return a->bytes == b->bytes && (a->data == b->data || memcmp(a->data, b->data, a->bytes) == 0);
}

static cento_status lists_equal(render *r, const list *a, const list *b, bool *equal) {
    *equal = a->count == b->count;
    for (size_t i = 0; i < a->count && *equal; i++)
        TRY(value_equal(r, a->items[i], b->items[i], equal));
    return CENTO_OK;
}

static cento_status dicts_equal(render *r, const dict *a, const dict *b, bool *equal) {
    *equal = a->count == b->count;
    for (size_t i = 0; i < a->count && *equal; i++) {
        const value *other;
        TRY(dict_get(r, b, a->entries[i].key, &other));
        *equal = other != NULL;
        if (other != NULL)
            TRY(value_equal(r, a->entries[i].item, *other, equal));
    }
    return CENTO_OK;
}

static bool ranges_equal(const range *a, const range *b) {
    if (a->count != b->count)
        return false;
    return a->count == 0 || (a->start == b->start && (a->count == 1 || a->step == b->step));
}

static cento_status items_in(render *r, value a, value b, bool *all) {
    const value *items;
    size_t count;
    TRY(value_items(r, a, &items, &count));
    *all = true;
    for (size_t i = 0; i < count && *all; i++)
        TRY(value_contains(r, b, items[i], all));
    return CENTO_OK;
}

cento_status value_equal(render *r, value a, value b, bool *equal) {
    cento_status status = CENTO_OK;
    TRY(render_step(r, 0));
    if (is_number(a) && is_number(b)) {
        *equal = exact(a) == exact(b);
        return CENTO_OK;
    }
    if (a.type != b.type) {
        *equal = false;
        return CENTO_OK;
    }
    TRY(render_enter(r));
    switch (a.type) {
    case VALUE_UNDEFINED:
        *equal = true;
        break;
    case VALUE_TEXT:
        *equal = texts_equal(a.as.text, b.as.text);
        status = render_step(r, a.as.text->bytes);
        break;
    case VALUE_LIST:
    case VALUE_TUPLE:
        status = lists_equal(r, a.as.list, b.as.list, equal);
        break;
    case VALUE_DICT:
        status = dicts_equal(r, a.as.dict, b.as.dict, equal);
        break;
    case VALUE_RANGE:
        *equal = ranges_equal(a.as.range, b.as.range);
        break;
    case VALUE_VIEW:
        *equal = a.as.view == b.as.view;
        if (a.as.view->kind == VIEW_VALUES || a.as.view->kind != b.as.view->kind)
            break;
        *equal = a.as.view->dict->count == b.as.view->dict->count;
        if (*equal)
            status = items_in(r, a, b, equal);
        break;
    case VALUE_METHOD:
        *equal = a.as.method->function == b.as.method->function &&
                 value_same(a.as.method->self, b.as.method->self);
        break;
    default:
        *equal = value_same(a, b);
    }
    render_leave(r);
    return status;
}

/* --------------------------------------------------------------------------------- order ---- */

static const char *operation_sign(operation operator_) {
    return operator_ == OPERATION_LESS         ? "<"
           : operator_ == OPERATION_LESS_EQUAL ? "<="
           : operator_ == OPERATION_GREATER    ? ">"
                                               : ">=";
}

static bool ordered(operation operator_, int order) {
    return operator_ == OPERATION_LESS         ? order < 0
           : operator_ == OPERATION_LESS_EQUAL ? order <= 0
           : operator_ == OPERATION_GREATER    ? order > 0
                                               : order >= 0;
}

static cento_status compare_lists(render *r, operation operator_, const list *a, const list *b,
                                  bool *result) {
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool equal;
        TRY(value_equal(r, a->items[i], b->items[i], &equal));
        if (!equal)
            return value_compare(r, operator_, a->items[i], b->items[i], result);
    }
    *result = ordered(operator_, a->count < b->count ? -1 : a->count > b->count);
    return CENTO_OK;
}

/* The bytes of UTF-8 are in the order of the code points. */
static int compare_texts(const string *a, const string *b) {
    size_t shorter = a->bytes < b->bytes ? a->bytes : b->bytes;
    int order = memcmp(a->data, b->data, shorter);
    return order != 0 ? order : a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

cento_status value_compare(render *r, operation operator_, value a, value b, bool *result) {
    if (is_number(a) && is_number(b)) {
        long double left = exact(a), right = exact(b);
        *result = !isnan(left) && !isnan(right) && ordered(operator_, left < right ? -1 : left > right);
        return render_step(r, 0);
    }
    if (a.type == VALUE_UNDEFINED || b.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, a.type == VALUE_UNDEFINED ? a : b);
    if (a.type == VALUE_TEXT && b.type == VALUE_TEXT) {
        *result = ordered(operator_, compare_texts(a.as.text, b.as.text));
        return render_step(r, a.as.text->bytes);
    }
    if (a.type == b.type && (a.type == VALUE_LIST || a.type == VALUE_TUPLE)) {
        TRY(render_enter(r));
        cento_status status = compare_lists(r, operator_, a.as.list, b.as.list, result);
        render_leave(r);
        return status;
    }
    return render_fail(r, "'%s' not supported between instances of '%s' and '%s'", operation_sign(operator_),
                       value_type_name(a), value_type_name(b));
}

static cento_status view_contains(render *r, const view *v, value item, bool *result) {
    const value *found;
    if (v->kind == VIEW_KEYS) {
        TRY(dict_get(r, v->dict, item, &found));
        *result = found != NULL;
        return CENTO_OK;
    }
    if (v->kind == VIEW_ITEMS) {
        *result = false;
        if (item.type != VALUE_TUPLE || item.as.list->count != 2)
            return CENTO_OK;
        TRY(dict_get(r, v->dict, item.as.list->items[0], &found));
        return found == NULL ? CENTO_OK : value_equal(r, *found, item.as.list->items[1], result);
    }
    *result = false;
    for (size_t i = 0; i < v->dict->count && !*result; i++)
        TRY(value_equal(r, v->dict->entries[i].item, item, result));
    return CENTO_OK;
}

cento_status value_contains(render *r, value container, value item, bool *result) {
    const value *items, *found;
    size_t count;
    if (container.type == VALUE_TEXT) {
        if (item.type != VALUE_TEXT)
            return render_fail(r, "'in <string>' requires string as left operand, not %s",
                               value_type_name(item));
        const string *in = container.as.text;
        *result = item.as.text->bytes == 0 ||
                  memmem(in->data, in->bytes, item.as.text->data, item.as.text->bytes) != NULL;
        return render_step(r, in->bytes);
    }
    if (container.type == VALUE_DICT) {
        TRY(dict_get(r, container.as.dict, item, &found));
        *result = found != NULL;
        return CENTO_OK;
    }
    if (container.type == VALUE_VIEW)
        return view_contains(r, container.as.view, item, result);
    if (!value_is_iterable(container))
        return render_fail(r, "argument of type '%s' is not iterable", value_type_name(container));
    TRY(value_items(r, container, &items, &count));
    *result = false;
    for (size_t i = 0; i < count && !*result; i++) {
        *result = value_same(items[i], item);
        if (!*result)
            TRY(value_equal(r, items[i], item, result));
    }
    return CENTO_OK;
}

/* ----------------------------------------------------------------------------- iteration ---- */

bool value_is_iterable(value v) {
    switch (v.type) {
    case VALUE_UNDEFINED:
    case VALUE_TEXT:
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_DICT:
    case VALUE_VIEW:
    case VALUE_RANGE:
    case VALUE_ITERATOR:
    case VALUE_LOOP:
        return true;
    default:
        return false;
    }
}

static cento_status text_items(render *r, const string *t, value *items) {
    for (size_t at = 0, i = 0; at < t->bytes; i++) {
        uint32_t codepoint;
        size_t length = utf8_decode(t->data + at, t->bytes - at, &codepoint);
        TRY(value_text_view(r, t->data + at, length, false, &items[i]));
        at += length;
    }
    return CENTO_OK;
}

static cento_status view_items(render *r, const dict *d, view_kind kind, value *items) {
    for (size_t i = 0; i < d->count; i++) {
        if (kind == VIEW_KEYS) {
            items[i] = d->entries[i].key;
        } else if (kind == VIEW_VALUES) {
            items[i] = d->entries[i].item;
        } else {
            value *pair = render_alloc(r, 2, sizeof *pair);
            if (pair == NULL)
                return render_memory(r);
            pair[0] = d->entries[i].key;
            pair[1] = d->entries[i].item;
            TRY(value_sequence(r, VALUE_TUPLE, pair, 2, &items[i]));
        }
    }
    return CENTO_OK;
}

cento_status value_items(render *r, value v, const value **items, size_t *count) {
    if (v.type == VALUE_LIST || v.type == VALUE_TUPLE) {
        *items = v.as.list->items;
        *count = v.as.list->count;
        return render_step(r, 0);
    }
    if (v.type == VALUE_ITERATOR) {
        iterator *i = v.as.iterator;
        *items = i->items + i->next;
        *count = i->count - i->next;
        i->next = i->count;
        return render_step(r, 0);
    }
    if (v.type == VALUE_LOOP || !value_is_iterable(v))
        return render_fail(r, "'%s' object is not iterable", value_type_name(v));
    TRY(value_length(r, v, count));
    value *made = render_alloc(r, *count, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    TRY(render_step(r, *count * sizeof *made));
    *items = made;
    if (v.type == VALUE_TEXT)
        return text_items(r, v.as.text, made);
    if (v.type == VALUE_DICT)
        return view_items(r, v.as.dict, VIEW_KEYS, made);
    if (v.type == VALUE_VIEW)
        return view_items(r, v.as.view->dict, v.as.view->kind, made);
    for (size_t i = 0; v.type == VALUE_RANGE && i < *count; i++)
        made[i] = value_int(v.as.range->start + (int64_t)i * v.as.range->step);
    return CENTO_OK;
}
