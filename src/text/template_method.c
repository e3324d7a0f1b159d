/*
 * Methods of Python's str, list, tuple, dict and range that change nothing. Positions count
 * characters. A method known to Python that is not here is refused when it is called. One render per
 * thread.
 */
#include "template.h"

#include <string.h>

#include "base/utf8.h"

static bool is_given(value v) {
    return v.type != VALUE_MISSING && v.type != VALUE_NONE;
}

static cento_status need_text(render *r, value v, const string **result) {
    if (v.type != VALUE_TEXT)
        return render_fail(r, "expected str, not %s", value_type_name(v));
    *result = v.as.text;
    return CENTO_OK;
}

static cento_status optional_int(render *r, value v, int64_t fallback, int64_t *result) {
    *result = fallback;
    if (v.type != VALUE_MISSING && !value_as_int(v, result))
        return render_fail(r, "'%s' object cannot be interpreted as an integer", value_type_name(v));
    return CENTO_OK;
}

/* A bound of a part, which may be None. */
static cento_status optional_bound(render *r, value v, int64_t fallback, int64_t *result) {
    if (v.type == VALUE_NONE)
        v.type = VALUE_MISSING;
    return optional_int(r, v, fallback, result);
}

/* Part of self, without a copy. */
static cento_status view_of(render *r, const string *self, size_t begin, size_t end, value *result) {
    return value_text_view(r, self->data + begin, end - begin, self->markup, result);
}

cento_status text_finish(render *r, size_t begin, const string *self, value *result) {
    TRY(render_end(r, begin, result));
    if (!self->markup)
        return CENTO_OK;
    return value_text_view(r, result->as.text->data, result->as.text->bytes, true, result);
}

/* ----------------------------------------------------------------------------- stripping ---- */

static bool is_one_of(const char *character, size_t bytes, const string *set) {
    return memmem(set->data, set->bytes, character, bytes) != NULL;
}

static cento_status strip(render *r, value self, value characters, bool left, bool right, value *result) {
    const string *t = self.as.text, *set = NULL;
    size_t begin = 0, end = t->bytes;
    if (is_given(characters))
        TRY(need_text(r, characters, &set));
    if (set == NULL) {
        if (left)
            begin = space_bytes_after(t->data, end);
        if (right)
            end -= space_bytes_before(t->data + begin, end - begin);
        return view_of(r, t, begin, end, result);
    }
    TRY(render_step(r, t->bytes + set->bytes));
    while (left && begin < end) {
        uint32_t c;
        size_t length = utf8_decode(t->data + begin, end - begin, &c);
        if (!is_one_of(t->data + begin, length, set))
            break;
        begin += length;
    }
    while (right && end > begin) {
        size_t last = end - 1;
        while (last > begin && ((unsigned char)t->data[last] & 0xC0) == 0x80)
            last--;
        if (!is_one_of(t->data + last, end - last, set))
            break;
        end = last;
    }
    return view_of(r, t, begin, end, result);
}

static cento_status text_strip(render *r, value self, const call_args *arguments, value *result) {
    return strip(r, self, arguments->positional[0], true, true, result);
}

static cento_status text_lstrip(render *r, value self, const call_args *arguments, value *result) {
    return strip(r, self, arguments->positional[0], true, false, result);
}

static cento_status text_rstrip(render *r, value self, const call_args *arguments, value *result) {
    return strip(r, self, arguments->positional[0], false, true, result);
}

static bool begins_with(const string *t, const string *prefix) {
    return prefix->bytes <= t->bytes && memcmp(t->data, prefix->data, prefix->bytes) == 0;
}

static bool finishes_with(const string *t, const string *suffix) {
    return suffix->bytes <= t->bytes &&
           memcmp(t->data + t->bytes - suffix->bytes, suffix->data, suffix->bytes) == 0;
}

static cento_status text_removeprefix(render *r, value self, const call_args *arguments, value *result) {
    const string *prefix, *t = self.as.text;
    TRY(need_text(r, arguments->positional[0], &prefix));
    return view_of(r, t, begins_with(t, prefix) ? prefix->bytes : 0, t->bytes, result);
}

static cento_status text_removesuffix(render *r, value self, const call_args *arguments, value *result) {
    const string *suffix, *t = self.as.text;
    TRY(need_text(r, arguments->positional[0], &suffix));
    return view_of(r, t, 0, t->bytes - (finishes_with(t, suffix) ? suffix->bytes : 0), result);
}

/* ----------------------------------------------------------------------------- searching ---- */

/* self[start:end] of find() and the like; *first: where it begins, in characters. *empty when start
 * lies behind the end: then not even "" is found. */
static cento_status search_range(render *r, const string *t, const call_args *arguments, string *part,
                                 int64_t *first, bool *empty) {
    int64_t start, end, count = (int64_t)t->characters;
    TRY(optional_bound(r, arguments->positional[1], 0, &start));
    TRY(optional_bound(r, arguments->positional[2], count, &end));
    if (start < 0)
        start = start + count < 0 ? 0 : start + count;
    if (end < 0)
        end = end + count < 0 ? 0 : end + count;
    if (end > count)
        end = count;
    *empty = start > count || start > end;
    *first = start;
    *part = (string){.data = t->data};
    if (*empty)
        return CENTO_OK;
    size_t begin = text_offset(t, (size_t)start);
    part->data = t->data + begin;
    part->bytes = text_offset(t, (size_t)end) - begin;
    return render_step(r, t->bytes);
}

static const char *find_last(const string *t, const string *wanted) {
    for (size_t at = wanted->bytes > t->bytes ? 0 : t->bytes - wanted->bytes + 1; at > 0; at--)
        if (memcmp(t->data + at - 1, wanted->data, wanted->bytes) == 0)
            return t->data + at - 1;
    return NULL;
}

static cento_status search(render *r, value self, const call_args *arguments, bool last, bool must,
                           value *result) {
    const string *wanted;
    string part;
    int64_t first;
    bool empty;
    TRY(need_text(r, arguments->positional[0], &wanted));
    TRY(search_range(r, self.as.text, arguments, &part, &first, &empty));
    const char *found = NULL;
    if (!empty && wanted->bytes == 0)
        found = last ? part.data + part.bytes : part.data;
    else if (!empty)
        found = last ? find_last(&part, wanted) : memmem(part.data, part.bytes, wanted->data, wanted->bytes);
    if (found == NULL && must)
        return render_fail(r, "substring not found");
    *result =
        value_int(found == NULL ? -1 : first + (int64_t)utf8_count(part.data, (size_t)(found - part.data)));
    return render_step(r, last ? part.bytes * 4 : 0);
}

static cento_status text_find(render *r, value self, const call_args *arguments, value *result) {
    return search(r, self, arguments, false, false, result);
}

static cento_status text_rfind(render *r, value self, const call_args *arguments, value *result) {
    return search(r, self, arguments, true, false, result);
}

static cento_status text_index(render *r, value self, const call_args *arguments, value *result) {
    return search(r, self, arguments, false, true, result);
}

static cento_status text_rindex(render *r, value self, const call_args *arguments, value *result) {
    return search(r, self, arguments, true, true, result);
}

static cento_status text_count(render *r, value self, const call_args *arguments, value *result) {
    const string *wanted;
    string part;
    int64_t first, count = 0;
    bool empty;
    TRY(need_text(r, arguments->positional[0], &wanted));
    TRY(search_range(r, self.as.text, arguments, &part, &first, &empty));
    if (!empty && wanted->bytes == 0)
        count = (int64_t)utf8_count(part.data, part.bytes) + 1;
    const char *at = part.data, *end = at + part.bytes;
    while (!empty && wanted->bytes > 0 &&
           (at = memmem(at, (size_t)(end - at), wanted->data, wanted->bytes)) != NULL) {
        at += wanted->bytes;
        count++;
    }
    *result = value_int(count);
    return CENTO_OK;
}

static cento_status affix(render *r, value self, const call_args *arguments,
                          bool (*holds)(const string *, const string *), value *result) {
    string part;
    int64_t first;
    bool empty, found = false;
    value wanted = arguments->positional[0];
    TRY(search_range(r, self.as.text, arguments, &part, &first, &empty));
    if (wanted.type == VALUE_TEXT) {
        found = !empty && holds(&part, wanted.as.text);
    } else if (wanted.type == VALUE_TUPLE) {
        for (size_t i = 0; i < wanted.as.list->count && !found; i++) {
            const string *one;
            TRY(need_text(r, wanted.as.list->items[i], &one));
            found = !empty && holds(&part, one);
        }
    } else {
        return render_fail(r, "first arg must be str or a tuple of str, not %s", value_type_name(wanted));
    }
    *result = value_bool(found);
    return CENTO_OK;
}

static cento_status text_startswith(render *r, value self, const call_args *arguments, value *result) {
    return affix(r, self, arguments, begins_with, result);
}

static cento_status text_endswith(render *r, value self, const call_args *arguments, value *result) {
    return affix(r, self, arguments, finishes_with, result);
}

/* ------------------------------------------------------------------- replacing, joining ---- */

/* An empty `old` stands before every character and at the end. */
static cento_status replace(render *r, const string *t, const string *old, const string *new_text,
                            int64_t limit, value *result) {
    size_t begin = render_begin(r), at = 0;
    while (limit != 0 && at <= t->bytes) {
        const char *found = t->data + at;
        if (old->bytes > 0)
            found = memmem(t->data + at, t->bytes - at, old->data, old->bytes);
        if (found == NULL)
            break;
        size_t offset = (size_t)(found - t->data);
        TRY(render_append(r, t->data + at, offset - at));
        TRY(render_append(r, new_text->data, new_text->bytes));
        at = offset + old->bytes;
        limit--;
        if (old->bytes == 0) {
            uint32_t c;
            size_t length = utf8_decode(t->data + at, t->bytes - at, &c);
            TRY(render_append(r, t->data + at, length));
            if (length == 0)
                return text_finish(r, begin, t, result);
            at += length;
        }
    }
    TRY(render_append(r, t->data + at, t->bytes - at));
    return text_finish(r, begin, t, result);
}

static cento_status text_replace(render *r, value self, const call_args *arguments, value *result) {
    value old = arguments->positional[0], new_value = arguments->positional[1];
    const string *checked;
    int64_t limit;
    TRY(need_text(r, old, &checked));
    TRY(need_text(r, new_value, &checked));
    TRY(optional_int(r, arguments->positional[2], -1, &limit));
    if (self.as.text->markup)
        TRY(text_escape_html(r, new_value, &new_value));
    return replace(r, self.as.text, old.as.text, new_value.as.text, limit, result);
}

static cento_status text_join(render *r, value self, const call_args *arguments, value *result) {
    const value *items;
    size_t count;
    TRY(value_items(r, arguments->positional[0], &items, &count));
    size_t begin = render_begin(r);
    for (size_t i = 0; i < count; i++) {
        if (items[i].type != VALUE_TEXT)
            return render_fail(r, "sequence item %zu: expected str instance, %s found", i,
                               value_type_name(items[i]));
        if (i > 0)
            TRY(render_append(r, self.as.text->data, self.as.text->bytes));
        TRY(render_append(r, items[i].as.text->data, items[i].as.text->bytes));
    }
    return text_finish(r, begin, self.as.text, result);
}

static cento_status pad(render *r, value self, const call_args *arguments, int side, value *result) {
    const string *t = self.as.text, *fill = NULL;
    int64_t width;
    TRY(optional_int(r, arguments->positional[0], 0, &width));
    if (is_given(arguments->positional[1]))
        TRY(need_text(r, arguments->positional[1], &fill));
    if (fill != NULL && fill->characters != 1)
        return render_fail(r, "The fill character must be exactly one character long");
    int64_t missing = width - (int64_t)t->characters;
    if (width <= (int64_t)t->characters) {
        *result = self;
        return CENTO_OK;
    }
    /* Python gives the odd one of center() to the left when the width is odd */
    int64_t left = side < 0 ? 0 : side > 0 ? missing : missing / 2 + (missing & width & 1);
    size_t begin = render_begin(r);
    for (int64_t i = 0; i < missing; i++) {
        if (i == left)
            TRY(render_append(r, t->data, t->bytes));
        TRY(render_append(r, fill == NULL ? " " : fill->data, fill == NULL ? 1 : fill->bytes));
    }
    if (left == missing)
        TRY(render_append(r, t->data, t->bytes));
    return text_finish(r, begin, t, result);
}

static cento_status text_center(render *r, value self, const call_args *arguments, value *result) {
    return pad(r, self, arguments, 0, result);
}

static cento_status text_ljust(render *r, value self, const call_args *arguments, value *result) {
    return pad(r, self, arguments, -1, result);
}

static cento_status text_rjust(render *r, value self, const call_args *arguments, value *result) {
    return pad(r, self, arguments, 1, result);
}

static cento_status text_zfill(render *r, value self, const call_args *arguments, value *result) {
    const string *t = self.as.text;
    int64_t width;
    TRY(optional_int(r, arguments->positional[0], 0, &width));
    size_t begin = render_begin(r), sign = t->bytes > 0 && (t->data[0] == '-' || t->data[0] == '+');
    TRY(render_append(r, t->data, sign));
    for (int64_t i = (int64_t)t->characters; i < width; i++)
        TRY(render_append(r, "0", 1));
    TRY(render_append(r, t->data + sign, t->bytes - sign));
    return text_finish(r, begin, t, result);
}

/* ------------------------------------------------------------------------------ splitting ---- */

/* Parts of a text as they are found; in reverse when they are found from the right. */
typedef struct parts {
    render *r;
    const string *of;
    value *items;
    size_t count, capacity;
} parts;

static cento_status add_part(parts *p, size_t begin, size_t end) {
    if (p->count == p->capacity) {
        size_t capacity = p->capacity == 0 ? 8 : p->capacity * 2;
        value *items = render_alloc(p->r, capacity, sizeof *items);
        if (items == NULL)
            return render_memory(p->r);
        for (size_t i = 0; i < p->count; i++)
            items[i] = p->items[i];
        p->items = items;
        p->capacity = capacity;
    }
    return view_of(p->r, p->of, begin, end, &p->items[p->count++]);
}

static void reverse_parts(parts *p) {
    for (size_t i = 0; i < p->count / 2; i++) {
        value swapped = p->items[i];
        p->items[i] = p->items[p->count - 1 - i];
        p->items[p->count - 1 - i] = swapped;
    }
}

static size_t word_bytes(const char *data, size_t bytes) {
    size_t at = 0;
    while (at < bytes) {
        uint32_t c;
        size_t length = utf8_decode(data + at, bytes - at, &c);
        if (character_is_space(c))
            break;
        at += length;
    }
    return at;
}

static cento_status split_words(parts *p, int64_t limit) {
    const char *data = p->of->data;
    size_t end = p->of->bytes, at = space_bytes_after(data, end);
    while (at < end && limit-- != 0) {
        size_t word = word_bytes(data + at, end - at);
        TRY(add_part(p, at, at + word));
        at += word;
        at += space_bytes_after(data + at, end - at);
    }
    return at < end ? add_part(p, at, end) : CENTO_OK;
}

static size_t last_word_bytes(const char *data, size_t bytes) {
    size_t at = bytes;
    while (at > 0 && space_bytes_before(data, at) == 0) {
        at--;
        while (at > 0 && ((unsigned char)data[at] & 0xC0) == 0x80)
            at--;
    }
    return bytes - at;
}

static cento_status split_words_right(parts *p, int64_t limit) {
    const char *data = p->of->data;
    size_t end = p->of->bytes - space_bytes_before(data, p->of->bytes);
    while (end > 0 && limit-- != 0) {
        size_t word = last_word_bytes(data, end);
        TRY(add_part(p, end - word, end));
        end -= word;
        end -= space_bytes_before(data, end);
    }
    if (end > 0)
        TRY(add_part(p, 0, end));
    reverse_parts(p);
    return CENTO_OK;
}

static cento_status split_at(parts *p, const string *separator, int64_t limit) {
    size_t at = 0;
    while (limit-- != 0) {
        const char *found = memmem(p->of->data + at, p->of->bytes - at, separator->data, separator->bytes);
        if (found == NULL)
            break;
        TRY(add_part(p, at, (size_t)(found - p->of->data)));
        at = (size_t)(found - p->of->data) + separator->bytes;
    }
    return add_part(p, at, p->of->bytes);
}

static cento_status split_at_right(parts *p, const string *separator, int64_t limit) {
    string left = *p->of;
    while (limit-- != 0) {
        const char *found = find_last(&left, separator);
        if (found == NULL)
            break;
        TRY(add_part(p, (size_t)(found - left.data) + separator->bytes, left.bytes));
        left.bytes = (size_t)(found - left.data);
    }
    TRY(add_part(p, 0, left.bytes));
    reverse_parts(p);
    return CENTO_OK;
}

static cento_status split(render *r, value self, const call_args *arguments, bool right, value *result) {
    parts p = {.r = r, .of = self.as.text};
    const string *separator = NULL;
    int64_t limit;
    if (is_given(arguments->positional[0]))
        TRY(need_text(r, arguments->positional[0], &separator));
    TRY(optional_int(r, arguments->positional[1], -1, &limit));
    TRY(render_step(r, p.of->bytes * 4));
    if (separator == NULL)
        TRY(right ? split_words_right(&p, limit) : split_words(&p, limit));
    else if (separator->bytes == 0)
        return render_fail(r, "empty separator");
    else
        TRY(right ? split_at_right(&p, separator, limit) : split_at(&p, separator, limit));
    return value_sequence(r, VALUE_LIST, p.items, p.count, result);
}

static cento_status text_split(render *r, value self, const call_args *arguments, value *result) {
    return split(r, self, arguments, false, result);
}

static cento_status text_rsplit(render *r, value self, const call_args *arguments, value *result) {
    return split(r, self, arguments, true, result);
}

static cento_status text_splitlines(render *r, value self, const call_args *arguments, value *result) {
    parts p = {.r = r, .of = self.as.text};
    int64_t keep = 0;
    size_t line = 0;
    TRY(optional_int(r, arguments->positional[0], 0, &keep));
    for (size_t at = 0; at < p.of->bytes;) {
        uint32_t c;
        size_t end = at;
        at += utf8_decode(p.of->data + at, p.of->bytes - at, &c);
        if (!character_is_line_break(c))
            continue;
        if (c == '\r' && at < p.of->bytes && p.of->data[at] == '\n')
            at++;
        TRY(add_part(&p, line, keep != 0 ? at : end));
        line = at;
    }
    if (line < p.of->bytes)
        TRY(add_part(&p, line, p.of->bytes));
    return value_sequence(r, VALUE_LIST, p.items, p.count, result);
}

static cento_status partition(render *r, value self, const call_args *arguments, bool right, value *result) {
    parts p = {.r = r, .of = self.as.text};
    const string *separator;
    TRY(need_text(r, arguments->positional[0], &separator));
    if (separator->bytes == 0)
        return render_fail(r, "empty separator");
    TRY(render_step(r, p.of->bytes * 4));
    const char *found = right ? find_last(p.of, separator)
                              : memmem(p.of->data, p.of->bytes, separator->data, separator->bytes);
    size_t end = p.of->bytes, before = found != NULL ? (size_t)(found - p.of->data) : right ? 0 : end;
    size_t after = found != NULL ? before + separator->bytes : right ? 0 : end;
    TRY(add_part(&p, 0, before));
    TRY(add_part(&p, before, after));
    TRY(add_part(&p, after, end));
    return value_sequence(r, VALUE_TUPLE, p.items, p.count, result);
}

static cento_status text_partition(render *r, value self, const call_args *arguments, value *result) {
    return partition(r, self, arguments, false, result);
}

static cento_status text_rpartition(render *r, value self, const call_args *arguments, value *result) {
    return partition(r, self, arguments, true, result);
}

/* ----------------------------------------------------------------------- lists and dicts ---- */

static cento_status sequence_index(render *r, value self, const call_args *arguments, value *result) {
    const value *items;
    size_t count;
    TRY(value_items(r, self, &items, &count));
    int64_t first, end;
    TRY(optional_int(r, arguments->positional[1], 0, &first));
    TRY(optional_int(r, arguments->positional[2], (int64_t)count, &end));
    if (first < 0)
        first = first + (int64_t)count < 0 ? 0 : first + (int64_t)count;
    if (end < 0)
        end += (int64_t)count;
    for (int64_t i = first; i < (int64_t)count && i < end; i++) {
        bool equal;
        TRY(value_equal(r, items[i], arguments->positional[0], &equal));
        if (equal) {
            *result = value_int(i);
            return CENTO_OK;
        }
    }
    return render_fail(r, "the value is not in the %s", value_type_name(self));
}

static cento_status sequence_count(render *r, value self, const call_args *arguments, value *result) {
    const value *items;
    size_t count;
    int64_t found = 0;
    TRY(value_items(r, self, &items, &count));
    for (size_t i = 0; i < count; i++) {
        bool equal;
        TRY(value_equal(r, items[i], arguments->positional[0], &equal));
        found += equal;
    }
    *result = value_int(found);
    return CENTO_OK;
}

/* Nothing in the sandbox can change it: the copy may be the same. */
static cento_status container_copy(render *r, value self, const call_args *arguments, value *result) {
    (void)r;
    (void)arguments;
    *result = self;
    return CENTO_OK;
}

static cento_status dict_view(render *r, value self, view_kind kind, value *result) {
    view *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    *made = (view){.dict = self.as.dict, .kind = kind};
    *result = (value){.type = VALUE_VIEW, .as.view = made};
    return CENTO_OK;
}

static cento_status dict_keys(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return dict_view(r, self, VIEW_KEYS, result);
}

static cento_status dict_values(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return dict_view(r, self, VIEW_VALUES, result);
}

static cento_status dict_items(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return dict_view(r, self, VIEW_ITEMS, result);
}

static cento_status dict_get_method(render *r, value self, const call_args *arguments, value *result) {
    const value *item;
    TRY(dict_get(r, self.as.dict, arguments->positional[0], &item));
    *result = item != NULL ? *item : arguments->positional[1];
    if (result->type == VALUE_MISSING)
        *result = value_none();
    return CENTO_OK;
}

/* -------------------------------------------------------------------------------- tables ---- */

static const builtin text_methods[] = {
    {"capitalize", "", text_capitalize},
    {"casefold", "", NULL},
    {"center", "/width fillchar?", text_center},
    {"count", "/sub start? end?", text_count},
    {"encode", NULL, NULL},
    {"endswith", "/suffix start? end?", text_endswith},
    {"expandtabs", NULL, NULL},
    {"find", "/sub start? end?", text_find},
    {"format", NULL, text_format},
    {"format_map", NULL, NULL},
    {"index", "/sub start? end?", text_index},
    {"isalnum", "", text_isalnum},
    {"isalpha", "", text_isalpha},
    {"isascii", "", text_isascii},
    {"isdecimal", "", text_isdecimal},
    {"isdigit", "", text_isdigit},
    {"isidentifier", NULL, NULL},
    {"islower", "", text_islower},
    {"isnumeric", "", text_isnumeric},
    {"isprintable", "", text_isprintable},
    {"isspace", "", text_isspace},
    {"istitle", NULL, NULL},
    {"isupper", "", text_isupper},
    {"join", "/iterable", text_join},
    {"ljust", "/width fillchar?", text_ljust},
    {"lower", "", text_lower},
    {"lstrip", "/chars?", text_lstrip},
    {"maketrans", NULL, NULL},
    {"partition", "/sep", text_partition},
    {"removeprefix", "/prefix", text_removeprefix},
    {"removesuffix", "/suffix", text_removesuffix},
    {"replace", "/old new count?", text_replace},
    {"rfind", "/sub start? end?", text_rfind},
    {"rindex", "/sub start? end?", text_rindex},
    {"rjust", "/width fillchar?", text_rjust},
    {"rpartition", "/sep", text_rpartition},
    {"rsplit", "sep? maxsplit?", text_rsplit},
    {"rstrip", "/chars?", text_rstrip},
    {"split", "sep? maxsplit?", text_split},
    {"splitlines", "keepends?", text_splitlines},
    {"startswith", "/prefix start? end?", text_startswith},
    {"strip", "/chars?", text_strip},
    {"swapcase", "", text_swapcase},
    {"title", "", text_title},
    {"translate", NULL, NULL},
    {"upper", "", text_upper},
    {"zfill", "/width", text_zfill},
    {NULL, NULL, NULL},
};

static const builtin list_methods[] = {
    {"copy", "", container_copy},
    {"count", "/value", sequence_count},
    {"index", "/value start? stop?", sequence_index},
    {NULL, NULL, NULL},
};

static const builtin dict_methods[] = {
    {"copy", "", container_copy}, {"fromkeys", NULL, NULL}, {"get", "/key default?", dict_get_method},
    {"items", "", dict_items},    {"keys", "", dict_keys},  {"values", "", dict_values},
    {NULL, NULL, NULL},
};

const builtin *template_method(value self, const char *name, size_t bytes) {
    const builtin *table = NULL;
    if (self.type == VALUE_TEXT)
        table = text_methods;
    else if (self.type == VALUE_LIST)
        table = list_methods;
    else if (self.type == VALUE_TUPLE || self.type == VALUE_RANGE)
        table = list_methods + 1;
    else if (self.type == VALUE_DICT)
        table = dict_methods;
    for (; table != NULL && table->name != NULL; table++)
        if (strlen(table->name) == bytes && memcmp(table->name, name, bytes) == 0)
            return table;
    return NULL;
}
