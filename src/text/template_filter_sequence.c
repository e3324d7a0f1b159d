/*
 * Filters that take or give sequences, numbers or any value; those of text are in
 * template_filter_text.c. Where Jinja gives a generator, the items are made at once and handed out as
 * an iterator, which can be gone through once. One render per thread.
 */
#include "template.h"

#include <math.h>
#include <string.h>

static const call_args no_arguments = {.count = 0};

static bool is_given(value v) {
    return v.type != VALUE_MISSING;
}

/* An optional flag. */
static cento_status flag(render *r, value v, bool fallback, bool *result) {
    *result = fallback;
    return is_given(v) ? value_truth(r, v, result) : CENTO_OK;
}

/* An optional flag where Python takes nothing but an integer. */
static cento_status integer_flag(render *r, value v, bool *result) {
    int64_t number = 0;
    if (is_given(v) && !value_as_int(v, &number))
        return render_fail(r, "'%s' object cannot be interpreted as an integer", value_type_name(v));
    *result = number != 0;
    return CENTO_OK;
}

/* An optional integer. */
static cento_status integer(render *r, value v, int64_t fallback, int64_t *result) {
    *result = fallback;
    if (is_given(v) && !value_as_int(v, result))
        return render_fail(r, "'%s' object cannot be interpreted as an integer", value_type_name(v));
    return CENTO_OK;
}

/* A copy of the items, to be changed. */
static cento_status copy_items(render *r, value v, value **items, size_t *count) {
    const value *source;
    TRY(value_items(r, v, &source, count));
    *items = render_alloc(r, *count, sizeof **items);
    if (*items == NULL)
        return render_memory(r);
    for (size_t i = 0; i < *count; i++)
        (*items)[i] = source[i];
    return render_step(r, *count * sizeof **items);
}

static cento_status lower_text(render *r, value *v) {
    if (v->type != VALUE_TEXT)
        return CENTO_OK;
    return builtin_call(r, template_method(*v, "lower", 5), *v, &no_arguments, v);
}

/* What filters with attribute= and case_sensitive= compare by. */
static cento_status make_key(render *r, value item, value attribute, value fallback, bool case_sensitive,
                             value *key) {
    TRY(value_path(r, item, attribute, fallback, key));
    return case_sensitive ? CENTO_OK : lower_text(r, key);
}

static cento_status make_keys(render *r, const value *items, size_t count, value attribute, value fallback,
                              bool case_sensitive, value **keys) {
    *keys = render_alloc(r, count, sizeof **keys);
    if (*keys == NULL)
        return render_memory(r);
    for (size_t i = 0; i < count; i++)
        TRY(make_key(r, items[i], attribute, fallback, case_sensitive, &(*keys)[i]));
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------- any value ---- */

static cento_status filter_default(render *r, value self, const call_args *arguments, value *result) {
    bool by_truth, truth = true;
    TRY(flag(r, arguments->positional[1], false, &by_truth));
    if (by_truth)
        TRY(value_truth(r, self, &truth));
    *result = self;
    if (self.type != VALUE_UNDEFINED && truth)
        return CENTO_OK;
    *result = arguments->positional[0];
    return is_given(*result) ? CENTO_OK : value_text(r, "", 0, result);
}

static cento_status filter_length(render *r, value self, const call_args *arguments, value *result) {
    size_t length;
    (void)arguments;
    if (self.type == VALUE_LOOP)
        TRY(template_loop_length(r, self.as.loop, &length));
    else
        TRY(value_length(r, self, &length));
    *result = value_int((int64_t)length);
    return CENTO_OK;
}

static cento_status filter_list(render *r, value self, const call_args *arguments, value *result) {
    value *items;
    size_t count;
    (void)arguments;
    TRY(copy_items(r, self, &items, &count));
    return value_sequence(r, VALUE_LIST, items, count, result);
}

static cento_status filter_first(render *r, value self, const call_args *arguments, value *result) {
    const value *items;
    size_t count;
    (void)arguments;
    if (self.type == VALUE_ITERATOR && self.as.iterator->next < self.as.iterator->count) {
        *result = self.as.iterator->items[self.as.iterator->next++];
        return CENTO_OK;
    }
    TRY(value_items(r, self, &items, &count));
    if (count == 0)
        return value_undefined(r, "No first item, sequence was empty.", NULL, value_none(), result);
    *result = items[0];
    return CENTO_OK;
}

static bool is_reversible(value v) {
    return value_is_iterable(v) && v.type != VALUE_ITERATOR && v.type != VALUE_LOOP;
}

static cento_status filter_last(render *r, value self, const call_args *arguments, value *result) {
    const value *items;
    size_t count;
    (void)arguments;
    if (!is_reversible(self))
        return render_fail(r, "'%s' object is not reversible", value_type_name(self));
    TRY(value_items(r, self, &items, &count));
    if (count == 0)
        return value_undefined(r, "No last item, sequence was empty.", NULL, value_none(), result);
    *result = items[count - 1];
    return CENTO_OK;
}

static cento_status filter_reverse(render *r, value self, const call_args *arguments, value *result) {
    value *items;
    size_t count;
    (void)arguments;
    if (self.type == VALUE_TEXT)
        return value_slice(r, self, value_none(), value_none(), value_int(-1), result);
    TRY(copy_items(r, self, &items, &count));
    for (size_t i = 0; i < count / 2; i++) {
        value swapped = items[i];
        items[i] = items[count - 1 - i];
        items[count - 1 - i] = swapped;
    }
    if (!is_reversible(self)) /* reversed() does not take it: Jinja reverses a list of it */
        return value_sequence(r, VALUE_LIST, items, count, result);
    return value_iterator(r, "list_reverseiterator", items, count, result);
}

static cento_status filter_items(render *r, value self, const call_args *arguments, value *result) {
    value view_value;
    value *items;
    size_t count;
    (void)arguments;
    if (self.type == VALUE_UNDEFINED)
        return value_iterator(r, "generator", NULL, 0, result);
    if (self.type != VALUE_DICT)
        return render_fail(r, "Can only get item pairs from a mapping.");
    TRY(builtin_call(r, template_method(self, "items", 5), self, &no_arguments, &view_value));
    TRY(copy_items(r, view_value, &items, &count));
    return value_iterator(r, "generator", items, count, result);
}

static cento_status filter_attr(render *r, value self, const call_args *arguments, value *result) {
    value name = arguments->positional[0];
    if (name.type != VALUE_TEXT)
        return render_fail(r, "attribute name must be string, not '%s'", value_type_name(name));
    if (self.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, self);
    if (self.type == VALUE_DICT) { /* attributes only, no items */
        const builtin *function = template_method(self, name.as.text->data, name.as.text->bytes);
        if (function == NULL)
            return value_undefined(r, NULL, value_object_type(self), name, result);
    }
    return value_attribute(r, self, name.as.text, result);
}

/* ------------------------------------------------------------------------- map and select ---- */

static cento_status map_attribute(render *r, const call_args *arguments, value *attribute, value *fallback) {
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        const keyword_arg *given = &arguments->keywords[i];
        if (text_is(given->name, "attribute"))
            *attribute = given->item;
        else if (text_is(given->name, "default"))
            *fallback = given->item;
        else
            return render_fail(r, "Unexpected keyword argument '%s'", given->name->data);
    }
    return CENTO_OK;
}

/* Python: a falsy value gives nothing, before arguments are looked at. */
static cento_status items_if_true(render *r, value self, value **items, size_t *count) {
    bool truth;
    *count = 0;
    *items = NULL;
    TRY(value_truth(r, self, &truth));
    return truth ? copy_items(r, self, items, count) : CENTO_OK;
}

static bool has_keyword(const call_args *arguments, const char *name) {
    for (size_t i = 0; i < arguments->keyword_count; i++)
        if (text_is(arguments->keywords[i].name, name))
            return true;
    return false;
}

static cento_status filter_map(render *r, value self, const call_args *arguments, value *result) {
    value *items;
    size_t count;
    TRY(items_if_true(r, self, &items, &count));
    if (count > 0 && arguments->count == 0 && has_keyword(arguments, "attribute")) {
        value attribute = value_none(), fallback = value_none();
        TRY(map_attribute(r, arguments, &attribute, &fallback));
        for (size_t i = 0; i < count; i++)
            TRY(value_path(r, items[i], attribute, fallback, &items[i]));
    } else if (count > 0) {
        if (arguments->count == 0)
            return render_fail(r, "map requires a filter argument");
        call_args rest = *arguments;
        rest.positional++;
        rest.count--;
        for (size_t i = 0; i < count; i++)
            TRY(template_apply_filter(r, arguments->positional[0], items[i], &rest, &items[i]));
    }
    return value_iterator(r, "generator", items, count, result);
}

static cento_status select_items(render *r, value self, const call_args *arguments, bool by_attribute,
                                 bool wanted, value *result) {
    value *items;
    size_t count, kept = 0, offset = by_attribute ? 1 : 0;
    TRY(items_if_true(r, self, &items, &count));
    if (count > 0 && arguments->count < offset)
        return render_fail(r, "Missing parameter for attribute name");
    for (size_t i = 0; i < count; i++) {
        value tested = items[i];
        bool holds;
        if (by_attribute)
            TRY(value_path(r, items[i], arguments->positional[0], value_none(), &tested));
        if (arguments->count > offset) {
            call_args rest = *arguments;
            rest.positional += offset + 1;
            rest.count -= offset + 1;
            TRY(template_apply_test(r, arguments->positional[offset], tested, &rest, &holds));
        } else {
            TRY(value_truth(r, tested, &holds));
        }
        if (holds == wanted)
            items[kept++] = items[i];
    }
    return value_iterator(r, "generator", items, kept, result);
}

static cento_status filter_select(render *r, value self, const call_args *arguments, value *result) {
    return select_items(r, self, arguments, false, true, result);
}

static cento_status filter_reject(render *r, value self, const call_args *arguments, value *result) {
    return select_items(r, self, arguments, false, false, result);
}

static cento_status filter_selectattr(render *r, value self, const call_args *arguments, value *result) {
    return select_items(r, self, arguments, true, true, result);
}

static cento_status filter_rejectattr(render *r, value self, const call_args *arguments, value *result) {
    return select_items(r, self, arguments, true, false, result);
}

/* -------------------------------------------------------------------- sorting and grouping ---- */

/* "a,b.c": each sort key is the list of these attributes. */
static cento_status sort_key(render *r, value item, value attribute, bool case_sensitive, value *key) {
    size_t parts = 1, count = 0;
    if (attribute.type == VALUE_TEXT)
        for (size_t i = 0; i < attribute.as.text->bytes; i++)
            parts += attribute.as.text->data[i] == ',';
    value *keys = render_alloc(r, parts, sizeof *keys);
    if (keys == NULL)
        return render_memory(r);
    if (attribute.type != VALUE_TEXT) {
        TRY(make_key(r, item, attribute, value_none(), case_sensitive, &keys[0]));
        return value_sequence(r, VALUE_LIST, keys, 1, key);
    }
    const char *part = attribute.as.text->data, *end = part + attribute.as.text->bytes;
    for (;;) {
        const char *comma = memchr(part, ',', (size_t)(end - part));
        value path;
        TRY(value_text(r, part, (size_t)((comma == NULL ? end : comma) - part), &path));
        TRY(make_key(r, item, path, value_none(), case_sensitive, &keys[count++]));
        if (comma == NULL)
            break;
        part = comma + 1;
    }
    return value_sequence(r, VALUE_LIST, keys, count, key);
}

static cento_status filter_sort(render *r, value self, const call_args *arguments, value *result) {
    value *items, *keys;
    size_t count;
    bool reverse, case_sensitive;
    TRY(integer_flag(r, arguments->positional[0], &reverse));
    TRY(flag(r, arguments->positional[1], false, &case_sensitive));
    TRY(copy_items(r, self, &items, &count));
    keys = render_alloc(r, count, sizeof *keys);
    if (keys == NULL)
        return render_memory(r);
    for (size_t i = 0; i < count; i++)
        TRY(sort_key(r, items[i], arguments->positional[2], case_sensitive, &keys[i]));
    TRY(value_sort(r, items, keys, count, reverse));
    return value_sequence(r, VALUE_LIST, items, count, result);
}

static cento_status filter_dictsort(render *r, value self, const call_args *arguments, value *result) {
    value *items, *keys;
    size_t count, by = 0;
    bool case_sensitive, reverse;
    TRY(flag(r, arguments->positional[0], false, &case_sensitive));
    TRY(integer_flag(r, arguments->positional[2], &reverse));
    value wanted = arguments->positional[1];
    if (is_given(wanted)) {
        if (wanted.type != VALUE_TEXT ||
            (!text_is(wanted.as.text, "key") && !text_is(wanted.as.text, "value")))
            return render_fail(r, "You can only sort by either \"key\" or \"value\"");
        by = text_is(wanted.as.text, "value");
    }
    if (self.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, self);
    if (self.type != VALUE_DICT)
        return render_fail(r, "'%s' object has no attribute 'items'", value_type_name(self));
    value view_value;
    TRY(builtin_call(r, template_method(self, "items", 5), self, &no_arguments, &view_value));
    TRY(copy_items(r, view_value, &items, &count));
    keys = render_alloc(r, count, sizeof *keys);
    if (keys == NULL)
        return render_memory(r);
    for (size_t i = 0; i < count; i++)
        TRY(make_key(r, items[i].as.list->items[by], value_none(), value_none(), case_sensitive, &keys[i]));
    TRY(value_sort(r, items, keys, count, reverse));
    return value_sequence(r, VALUE_LIST, items, count, result);
}

static cento_status filter_unique(render *r, value self, const call_args *arguments, value *result) {
    value *items;
    size_t count, kept = 0;
    bool case_sensitive;
    dict *seen;
    TRY(flag(r, arguments->positional[0], false, &case_sensitive));
    TRY(copy_items(r, self, &items, &count));
    TRY(dict_new(r, 0, &seen));
    for (size_t i = 0; i < count; i++) {
        value key;
        size_t before = seen->count;
        TRY(make_key(r, items[i], arguments->positional[1], value_none(), case_sensitive, &key));
        TRY(dict_set(r, seen, key, value_none()));
        if (seen->count > before)
            items[kept++] = items[i];
    }
    return value_iterator(r, "generator", items, kept, result);
}

static cento_status extreme(render *r, value self, const call_args *arguments, operation better,
                            value *result) {
    value *keys;
    const value *items;
    size_t count, best = 0;
    bool case_sensitive;
    TRY(flag(r, arguments->positional[0], false, &case_sensitive));
    TRY(value_items(r, self, &items, &count));
    if (count == 0)
        return value_undefined(r, "No aggregated item, sequence was empty.", NULL, value_none(), result);
    TRY(make_keys(r, items, count, arguments->positional[1], value_none(), case_sensitive, &keys));
    for (size_t i = 1; i < count; i++) {
        bool holds;
        TRY(value_compare(r, better, keys[i], keys[best], &holds));
        if (holds)
            best = i;
    }
    *result = items[best];
    return CENTO_OK;
}

static cento_status filter_min(render *r, value self, const call_args *arguments, value *result) {
    return extreme(r, self, arguments, OPERATION_LESS, result);
}

static cento_status filter_max(render *r, value self, const call_args *arguments, value *result) {
    return extreme(r, self, arguments, OPERATION_GREATER, result);
}

static cento_status make_group(render *r, value grouper, const value *items, size_t count, value *result) {
    value *pair = render_alloc(r, 2, sizeof *pair);
    list *made = render_alloc(r, 1, sizeof *made);
    if (pair == NULL || made == NULL)
        return render_memory(r);
    pair[0] = grouper;
    TRY(value_sequence(r, VALUE_LIST, items, count, &pair[1]));
    *made = (list){.items = pair, .count = 2, .group = true};
    *result = (value){.type = VALUE_TUPLE, .as.list = made};
    return CENTO_OK;
}

static cento_status filter_groupby(render *r, value self, const call_args *arguments, value *result) {
    value *items, *keys, *groups;
    size_t count, group_count = 0;
    bool case_sensitive;
    value attribute = arguments->positional[0], fallback = arguments->positional[1];
    TRY(flag(r, arguments->positional[2], false, &case_sensitive));
    TRY(copy_items(r, self, &items, &count));
    TRY(make_keys(r, items, count, attribute, fallback, case_sensitive, &keys));
    TRY(value_sort(r, items, keys, count, false));
    TRY(make_keys(r, items, count, attribute, fallback, case_sensitive, &keys));
    groups = render_alloc(r, count, sizeof *groups);
    if (groups == NULL)
        return render_memory(r);
    for (size_t begin = 0, end; begin < count; begin = end) {
        value grouper;
        bool equal = true;
        for (end = begin + 1; end < count; end++) {
            TRY(value_equal(r, keys[begin], keys[end], &equal));
            if (!equal)
                break;
        }
        TRY(value_path(r, items[begin], attribute, fallback, &grouper));
        TRY(make_group(r, grouper, items + begin, end - begin, &groups[group_count++]));
    }
    return value_sequence(r, VALUE_LIST, groups, group_count, result);
}

/* Batches are full when they have `size` items: with 0 only the first, empty one ever is, and with what
 * is no number none. */
static void batch_size(value v, size_t *size) {
    double real;
    *size = SIZE_MAX;
    if (value_as_real(v, &real) && real >= 0 && real < 1e15 && real == floor(real))
        *size = (size_t)real;
}

static cento_status filter_batch(render *r, value self, const call_args *arguments, value *result) {
    size_t size, count, batch_count = 0, begin = 0;
    const value *items;
    value fill = arguments->positional[1];
    bool filled = is_given(fill) && fill.type != VALUE_NONE;
    batch_size(arguments->positional[0], &size);
    TRY(value_items(r, self, &items, &count));
    value *batches = render_alloc(r, count + 1, sizeof *batches);
    if (batches == NULL)
        return render_memory(r);
    if (size == 0 && count > 0) {
        TRY(value_sequence(r, VALUE_LIST, NULL, 0, &batches[batch_count++]));
        size = SIZE_MAX;
        filled = false;
    }
    if (size == SIZE_MAX && filled && count > 0)
        return render_fail(r, "a batch that is filled up needs a size");
    while (begin < count) {
        size_t have = count - begin < size ? count - begin : size;
        size_t length = filled ? size : have;
        value *batch = render_alloc(r, length, sizeof *batch);
        if (batch == NULL)
            return render_memory(r);
        TRY(render_step(r, length * sizeof *batch));
        for (size_t i = 0; i < length; i++)
            batch[i] = i < have ? items[begin + i] : fill;
        TRY(value_sequence(r, VALUE_LIST, batch, length, &batches[batch_count++]));
        begin += have;
    }
    return value_iterator(r, "generator", batches, batch_count, result);
}

static cento_status filter_slice(render *r, value self, const call_args *arguments, value *result) {
    int64_t wanted;
    const value *items;
    size_t count, begin = 0;
    value fill = arguments->positional[1];
    TRY(integer(r, arguments->positional[0], 0, &wanted));
    TRY(value_items(r, self, &items, &count));
    if (wanted == 0)
        return render_fail(r, "integer division or modulo by zero");
    size_t slices = wanted < 0 ? 0 : (size_t)wanted;
    value *made = render_alloc(r, slices, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    for (size_t i = 0; i < slices; i++) {
        bool extra = i < count % slices;
        bool filled = !extra && is_given(fill) && fill.type != VALUE_NONE;
        size_t have = count / slices + extra;
        value *slice = render_alloc(r, have + filled, sizeof *slice);
        if (slice == NULL)
            return render_memory(r);
        TRY(render_step(r, have * sizeof *slice));
        for (size_t j = 0; j < have; j++)
            slice[j] = items[begin + j];
        if (filled)
            slice[have] = fill;
        TRY(value_sequence(r, VALUE_LIST, slice, have + filled, &made[i]));
        begin += have;
    }
    return value_iterator(r, "generator", made, slices, result);
}

/* ------------------------------------------------------------------------------- numbers ---- */

static cento_status filter_sum(render *r, value self, const call_args *arguments, value *result) {
    const value *items;
    size_t count;
    value attribute = arguments->positional[0];
    *result = is_given(arguments->positional[1]) ? arguments->positional[1] : value_int(0);
    TRY(value_items(r, self, &items, &count));
    if (result->type == VALUE_TEXT)
        return render_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; i < count; i++) {
        value item;
        TRY(value_path(r, items[i], attribute, value_none(), &item));
        TRY(value_arithmetic(r, OPERATION_ADD, *result, item, result));
    }
    return CENTO_OK;
}

static cento_status filter_abs(render *r, value self, const call_args *arguments, value *result) {
    int64_t number;
    (void)arguments;
    if (self.type == VALUE_FLOAT)
        *result = value_float(fabs(self.as.real));
    else if (value_as_int(self, &number))
        return value_negate(r, value_int(number), number < 0, result);
    else
        return render_fail(r, "bad operand type for abs(): '%s'", value_type_name(self));
    return CENTO_OK;
}

static cento_status filter_int(render *r, value self, const call_args *arguments, value *result) {
    int64_t base, number = 0;
    double real = 0;
    bool converted;
    value base_value = arguments->positional[1];
    base = 10;
    converted = self.type != VALUE_TEXT || !is_given(base_value) || value_as_int(base_value, &base);
    if (converted)
        TRY(convert_int(r, self, base, &converted, &number));
    if (!converted) { /* "4.7" is 4 */
        TRY(convert_float(r, self, &converted, &real));
        converted = converted && isfinite(real);
        if (converted)
            TRY(convert_int(r, value_float(real), 10, &converted, &number));
    }
    *result = value_int(number);
    if (!converted)
        *result = is_given(arguments->positional[0]) ? arguments->positional[0] : value_int(0);
    return CENTO_OK;
}

static cento_status filter_float(render *r, value self, const call_args *arguments, value *result) {
    double real = 0;
    bool converted;
    TRY(convert_float(r, self, &converted, &real));
    *result = value_float(real);
    if (!converted)
        *result = is_given(arguments->positional[0]) ? arguments->positional[0] : value_float(0.0);
    return CENTO_OK;
}

static cento_status round_up_or_down(render *r, value self, int64_t places, bool up, value *result) {
    value scale, scaled, rounded;
    TRY(value_arithmetic(r, OPERATION_POWER, value_int(10), value_int(places), &scale));
    TRY(value_arithmetic(r, OPERATION_MULTIPLY, self, scale, &scaled));
    rounded = scaled;
    if (scaled.type == VALUE_FLOAT) {
        int64_t number;
        bool converted;
        double whole = up ? ceil(scaled.as.real) : floor(scaled.as.real);
        TRY(convert_int(r, value_float(whole), 10, &converted, &number));
        if (!converted)
            return render_fail(r, "cannot convert float NaN to integer");
        rounded = value_int(number);
    } else if (scaled.type != VALUE_INT) {
        return render_fail(r, "must be real number, not %s", value_type_name(scaled));
    }
    return value_arithmetic(r, OPERATION_DIVIDE, rounded, scale, result);
}

static cento_status filter_round(render *r, value self, const call_args *arguments, value *result) {
    int64_t places;
    value method_value = arguments->positional[1];
    TRY(integer(r, arguments->positional[0], 0, &places));
    if (!is_given(method_value) ||
        (method_value.type == VALUE_TEXT && text_is(method_value.as.text, "common")))
        return convert_round(r, self, places, result);
    bool up = method_value.type == VALUE_TEXT && text_is(method_value.as.text, "ceil");
    if (!up && (method_value.type != VALUE_TEXT || !text_is(method_value.as.text, "floor")))
        return render_fail(r, "method must be common, ceil or floor");
    return round_up_or_down(r, self, places, up, result);
}

const builtin filters_sequence[] = {
    {"abs", "", filter_abs},
    {"attr", "name", filter_attr},
    {"batch", "linecount fill_with?", filter_batch},
    {"count", "", filter_length},
    {"d", "default_value? boolean?", filter_default},
    {"default", "default_value? boolean?", filter_default},
    {"dictsort", "case_sensitive? by? reverse?", filter_dictsort},
    {"first", "", filter_first},
    {"float", "default?", filter_float},
    {"groupby", "attribute default? case_sensitive?", filter_groupby},
    {"int", "default? base?", filter_int},
    {"items", "", filter_items},
    {"last", "", filter_last},
    {"length", "", filter_length},
    {"list", "", filter_list},
    {"map", NULL, filter_map},
    {"max", "case_sensitive? attribute?", filter_max},
    {"min", "case_sensitive? attribute?", filter_min},
    {"random", NULL, NULL},
    {"reject", NULL, filter_reject},
    {"rejectattr", NULL, filter_rejectattr},
    {"reverse", "", filter_reverse},
    {"round", "precision? method?", filter_round},
    {"select", NULL, filter_select},
    {"selectattr", NULL, filter_selectattr},
    {"slice", "slices fill_with?", filter_slice},
    {"sort", "reverse? case_sensitive? attribute?", filter_sort},
    {"sum", "attribute? start?", filter_sum},
    {"unique", "case_sensitive? attribute?", filter_unique},
    {NULL, NULL, NULL},
};
