/*
 * Values to text: str(), repr() and json.dumps() of Python. All append to the render's output. Floats
 * are the shortest decimal that reads back as the same double. One render per thread.
 */
#include "template.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* -------------------------------------------------------------------------------- floats ---- */

double parse_float(const char *digits, size_t bytes) {
    /* strtod wants the locale's decimal point */
    char buffer[512];
    const char *point = localeconv()->decimal_point;
    size_t count = 0, point_bytes = strlen(point);
    for (size_t i = 0; i < bytes && count + point_bytes < sizeof buffer; i++) {
        if (digits[i] == '.') {
            memcpy(buffer + count, point, point_bytes);
            count += point_bytes;
        } else {
            buffer[count++] = digits[i];
        }
    }
    buffer[count < sizeof buffer ? count : sizeof buffer - 1] = '\0';
    return strtod(buffer, NULL);
}

/* Decimal digits without trailing zeros and the exponent of the first one: 1.25e3 is "125", 3. */
static size_t shortest_digits(double real, char digits[32], int *exponent) {
    char printed[64];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(printed, sizeof printed, "%.*e", precision, real);
        if (strtod(printed, NULL) == real)
            break;
    }
    size_t count = 0;
    const char *c = printed;
    for (; *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            digits[count++] = *c;
    *exponent = atoi(c + 1);
    while (count > 1 && digits[count - 1] == '0')
        count--;
    return count;
}

size_t float_repr(double real, char buffer[32]) {
    if (isnan(real))
        return (size_t)snprintf(buffer, 32, "nan");
    if (isinf(real))
        return (size_t)snprintf(buffer, 32, real > 0 ? "inf" : "-inf");
    char digits[32];
    int exponent;
    size_t count = shortest_digits(fabs(real), digits, &exponent), at = 0;
    if (signbit(real))
        buffer[at++] = '-';
    if (exponent < -4 || exponent >= 16) {
        buffer[at++] = digits[0];
        if (count > 1) {
            buffer[at++] = '.';
            memcpy(buffer + at, digits + 1, count - 1);
            at += count - 1;
        }
        return at +
               (size_t)snprintf(buffer + at, 32 - at, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    for (int place = exponent < 0 ? 0 : exponent; place >= 0; place--) { /* before the point */
        size_t digit = (size_t)(exponent - place);
        buffer[at++] = exponent >= 0 && digit < count ? digits[digit] : '0';
    }
    buffer[at++] = '.';
    size_t point = at;
    for (int place = -1; place > exponent; place--)
        buffer[at++] = '0';
    for (size_t digit = exponent < 0 ? 0 : (size_t)exponent + 1; digit < count; digit++)
        buffer[at++] = digits[digit];
    if (at == point)
        buffer[at++] = '0';
    buffer[at] = '\0';
    return at;
}

/* --------------------------------------------------------------------------- str and repr ---- */

static cento_status append_text(render *r, const char *literal) {
    return render_append(r, literal, strlen(literal));
}

static cento_status append_format(render *r, const char *format, ...) CENTO_PRINTF(2, 3);
static cento_status append_format(render *r, const char *format, ...) {
    char buffer[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    return append_text(r, buffer);
}

static cento_status append_float(render *r, double real) {
    char buffer[32];
    return render_append(r, buffer, float_repr(real, buffer));
}

static cento_status repr_character(render *r, const char *data, size_t bytes, uint32_t c, char quote) {
    if (c == (uint32_t)quote || c == '\\')
        return append_format(r, "\\%c", (char)c);
    if (c == '\n')
        return append_text(r, "\\n");
    if (c == '\r')
        return append_text(r, "\\r");
    if (c == '\t')
        return append_text(r, "\\t");
    if (character_is_printable(c))
        return render_append(r, data, bytes);
    return append_format(r, c > 0xFFFF ? "\\U%08x" : c > 0xFF ? "\\u%04x" : "\\x%02x", c);
}

static cento_status repr_text(render *r, const string *t) {
    bool single = memchr(t->data, '\'', t->bytes) != NULL, twice = memchr(t->data, '"', t->bytes) != NULL;
    char quote = single && !twice ? '"' : '\'';
    TRY(append_text(r, t->markup ? "Markup(" : ""));
    TRY(render_append(r, &quote, 1));
    for (size_t at = 0; at < t->bytes;) {
        uint32_t codepoint;
        size_t length = utf8_decode(t->data + at, t->bytes - at, &codepoint);
        TRY(repr_character(r, t->data + at, length, codepoint, quote));
        at += length;
    }
    TRY(render_append(r, &quote, 1));
    return append_text(r, t->markup ? ")" : "");
}

static cento_status repr_items(render *r, const char *open, const value *items, size_t count,
                               const char *close) {
    TRY(append_text(r, open));
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            TRY(append_text(r, ", "));
        TRY(value_repr(r, items[i]));
    }
    return append_text(r, close);
}

static cento_status repr_dict(render *r, const dict *d) {
    TRY(append_text(r, "{"));
    for (size_t i = 0; i < d->count; i++) {
        if (i > 0)
            TRY(append_text(r, ", "));
        TRY(value_repr(r, d->entries[i].key));
        TRY(append_text(r, ": "));
        TRY(value_repr(r, d->entries[i].item));
    }
    return append_text(r, "}");
}

static cento_status repr_view(render *r, value v) {
    const value *items;
    size_t count;
    TRY(value_items(r, v, &items, &count));
    TRY(append_format(r, "%s(", value_type_name(v)));
    return repr_items(r, "[", items, count, "])");
}

static cento_status repr_range(render *r, const range *v) {
    if (v->step == 1)
        return append_format(r, "range(%lld, %lld)", (long long)v->start, (long long)v->stop);
    return append_format(r, "range(%lld, %lld, %lld)", (long long)v->start, (long long)v->stop,
                         (long long)v->step);
}

static cento_status repr_object(render *r, value v) {
    size_t length;
    switch (v.type) {
    case VALUE_NONE:
        return append_text(r, "None");
    case VALUE_BOOL:
        return append_text(r, v.as.boolean ? "True" : "False");
    case VALUE_INT:
        return append_format(r, "%lld", (long long)v.as.integer);
    case VALUE_FLOAT:
        return append_float(r, v.as.real);
    case VALUE_TEXT:
        return repr_text(r, v.as.text);
    case VALUE_LIST:
        return repr_items(r, "[", v.as.list->items, v.as.list->count, "]");
    case VALUE_TUPLE:
        return repr_items(r, "(", v.as.list->items, v.as.list->count, v.as.list->count == 1 ? ",)" : ")");
    case VALUE_DICT:
        return repr_dict(r, v.as.dict);
    case VALUE_VIEW:
        return repr_view(r, v);
    case VALUE_RANGE:
        return repr_range(r, v.as.range);
    case VALUE_NAMESPACE:
        TRY(append_text(r, "<Namespace "));
        TRY(repr_dict(r, v.as.dict));
        return append_text(r, ">");
    case VALUE_MACRO:
        if (v.as.macro->definition->name == NULL)
            return append_text(r, "<Macro None>");
        return append_format(r, "<Macro '%.100s'>", v.as.macro->definition->name->data);
    case VALUE_LOOP:
        TRY(template_loop_length(r, v.as.loop, &length));
        return append_format(r, "<LoopContext %zu/%zu>", v.as.loop->index + 1, length);
    case VALUE_UNDEFINED:
    case VALUE_MISSING:
        return append_text(r, "Undefined");
    default:
        return append_format(r, "<%s object>", value_type_name(v));
    }
}

cento_status value_repr(render *r, value v) {
    TRY(render_enter(r));
    TRY(repr_object(r, v));
    render_leave(r);
    return CENTO_OK;
}

cento_status value_print(render *r, value v) {
    if (v.type == VALUE_TEXT)
        return render_append(r, v.as.text->data, v.as.text->bytes);
    if (v.type == VALUE_UNDEFINED)
        return CENTO_OK;
    return value_repr(r, v);
}

cento_status value_to_text(render *r, value v, value *result) {
    if (v.type == VALUE_TEXT) {
        *result = v;
        return CENTO_OK;
    }
    size_t begin = render_begin(r);
    TRY(value_print(r, v));
    return render_end(r, begin, result);
}

/* ----------------------------------------------------------------------------------- JSON ---- */

static cento_status json_escape(render *r, uint32_t c) {
    static const char escaped[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
    const char *found = c < 128 && c != 0 ? strchr(escaped, (int)c) : NULL;
    if (found != NULL)
        return append_format(r, "\\%c", letters[found - escaped]);
    if (c > 0xFFFF)
        return append_format(r, "\\u%04x\\u%04x", 0xD7C0 + (c >> 10), 0xDC00 + (c & 0x3FF));
    return append_format(r, "\\u%04x", c);
}

static cento_status json_text(render *r, const string *t, bool ascii) {
    size_t plain = 0; /* where what needs no escape began */
    TRY(append_text(r, "\""));
    for (size_t at = 0; at < t->bytes;) {
        uint32_t c;
        size_t length = utf8_decode(t->data + at, t->bytes - at, &c);
        if (c < 32 || c == '"' || c == '\\' || (ascii && c >= 127)) {
            TRY(render_append(r, t->data + plain, at - plain));
            TRY(json_escape(r, c));
            plain = at + length;
        }
        at += length;
    }
    TRY(render_append(r, t->data + plain, t->bytes - plain));
    return append_text(r, "\"");
}

static cento_status json_float(render *r, double real) {
    if (isnan(real))
        return append_text(r, "NaN");
    if (isinf(real))
        return append_text(r, real > 0 ? "Infinity" : "-Infinity");
    return append_float(r, real);
}

static cento_status json_line(render *r, const json_style *style, size_t level) {
    if (style->indent == NULL)
        return CENTO_OK;
    TRY(append_text(r, "\n"));
    for (size_t i = 0; i < level; i++)
        TRY(render_append(r, style->indent, style->indent_bytes));
    return CENTO_OK;
}

static cento_status json_list(render *r, const list *v, const json_style *style, size_t level) {
    if (v->count == 0)
        return append_text(r, "[]");
    TRY(append_text(r, "["));
    for (size_t i = 0; i < v->count; i++) {
        if (i > 0)
            TRY(render_append(r, style->item_separator, style->item_separator_bytes));
        TRY(json_line(r, style, level + 1));
        TRY(value_json(r, v->items[i], style, level + 1));
    }
    TRY(json_line(r, style, level));
    return append_text(r, "]");
}

static cento_status json_key(render *r, value key, const json_style *style) {
    switch (key.type) {
    case VALUE_TEXT:
        return json_text(r, key.as.text, style->ascii);
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_FLOAT:
    case VALUE_NONE:
        TRY(append_text(r, "\""));
        TRY(value_json(r, key, style, 0));
        return append_text(r, "\"");
    default:
        return render_fail(r, "keys must be str, int, float, bool or None, not %s", value_type_name(key));
    }
}

static cento_status json_dict(render *r, const dict *v, const json_style *style, size_t level) {
    if (v->count == 0)
        return append_text(r, "{}");
    value *order = render_alloc(r, v->count, sizeof *order), *keys = render_alloc(r, v->count, sizeof *keys);
    if (order == NULL || keys == NULL)
        return render_memory(r);
    for (size_t i = 0; i < v->count; i++) {
        order[i] = value_int((int64_t)i);
        keys[i] = v->entries[i].key;
    }
    if (style->sorted)
        TRY(value_sort(r, order, keys, v->count, false));
    TRY(append_text(r, "{"));
    for (size_t i = 0; i < v->count; i++) {
        const dict_entry *entry = &v->entries[order[i].as.integer];
        if (i > 0)
            TRY(render_append(r, style->item_separator, style->item_separator_bytes));
        TRY(json_line(r, style, level + 1));
        TRY(json_key(r, entry->key, style));
        TRY(render_append(r, style->key_separator, style->key_separator_bytes));
        TRY(value_json(r, entry->item, style, level + 1));
    }
    TRY(json_line(r, style, level));
    return append_text(r, "}");
}

static cento_status json_value(render *r, value v, const json_style *style, size_t level) {
    switch (v.type) {
    case VALUE_NONE:
        return append_text(r, "null");
    case VALUE_BOOL:
        return append_text(r, v.as.boolean ? "true" : "false");
    case VALUE_INT:
        return append_format(r, "%lld", (long long)v.as.integer);
    case VALUE_FLOAT:
        return json_float(r, v.as.real);
    case VALUE_TEXT:
        return json_text(r, v.as.text, style->ascii);
    case VALUE_LIST:
    case VALUE_TUPLE:
        return json_list(r, v.as.list, style, level);
    case VALUE_DICT:
        return json_dict(r, v.as.dict, style, level);
    default:
        return render_fail(r, "Object of type %s is not JSON serializable", value_type_name(v));
    }
}

cento_status value_json(render *r, value v, const json_style *style, size_t level) {
    TRY(render_enter(r));
    TRY(json_value(r, v, style, level));
    render_leave(r);
    return CENTO_OK;
}
