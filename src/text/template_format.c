/*
 * Formatting text: format % values, and str.format. Both come down to one field: a value, a conversion
 * and how it is padded. One render per thread.
 */
#include "template.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define PRECISION_MAX 100

typedef struct field {
    char fill[5]; /* one character, UTF-8 */
    char align;   /* < > ^ =, or 0: as the type has it */
    char sign;    /* + - or space, or 0 */
    bool alternate, comma, underscore;
    int64_t width, precision; /* -1: none */
    char type;                /* 0: none */
} field;

static cento_status repeat(render *r, const char *piece, int64_t times) {
    for (int64_t i = 0; i < times; i++)
        TRY(render_append(r, piece, strlen(piece)));
    return CENTO_OK;
}

/* prefix ("-", "0x", …) and body in the field's width. */
static cento_status append_padded(render *r, const field *f, const char *prefix, const char *body,
                                  size_t bytes, char natural_align) {
    int64_t missing = f->width - (int64_t)(strlen(prefix) + utf8_count(body, bytes));
    const char *fill = f->fill[0] == '\0' ? " " : f->fill;
    char align = f->align == 0 ? natural_align : f->align;
    int64_t before = align == '<' || align == '=' ? 0 : align == '^' ? missing / 2 : missing;
    if (missing < 0)
        missing = before = 0;
    TRY(repeat(r, fill, before));
    TRY(render_append(r, prefix, strlen(prefix)));
    if (align == '=')
        TRY(repeat(r, fill, missing));
    TRY(render_append(r, body, bytes));
    return align == '=' ? CENTO_OK : repeat(r, fill, missing - before);
}

static cento_status format_text(render *r, const field *f, const string *t) {
    size_t bytes = t->bytes;
    if (f->type != 0 && f->type != 's')
        return render_fail(r, "Unknown format code '%c' for object of type 'str'", f->type);
    if (f->sign != 0 || f->alternate || f->comma || f->underscore || f->align == '=')
        return render_fail(r, "this format is not allowed for a string");
    if (f->precision >= 0 && (uint64_t)f->precision < t->characters)
        bytes = text_offset(t, (size_t)f->precision);
    return append_padded(r, f, "", t->data, bytes, '<');
}

/* The sign to print; *number becomes positive. */
static void set_prefix(const field *f, bool negative, char prefix[8]) {
    prefix[0] = negative ? '-' : f->sign == '+' || f->sign == ' ' ? f->sign : '\0';
    prefix[1] = '\0';
}

/* Puts a separator between groups of digits of the whole part. */
static void group_digits(char *digits, size_t capacity, char separator, size_t group) {
    size_t whole = strspn(digits, "0123456789abcdefABCDEF"), bytes = strlen(digits);
    for (size_t at = whole; at > group && bytes + 2 < capacity;) {
        at -= group;
        memmove(digits + at + 1, digits + at, bytes - at + 1);
        digits[at] = separator;
        bytes++;
    }
}

static cento_status format_character(render *r, const field *f, int64_t codepoint) {
    char encoded[4];
    if (codepoint < 0 || codepoint > 0x10FFFF || (codepoint >= 0xD800 && codepoint <= 0xDFFF))
        return render_fail(r, "%%c arg not in range(0x110000)");
    return append_padded(r, f, "", encoded, utf8_encode((uint32_t)codepoint, encoded), '<');
}

static cento_status format_integer(render *r, const field *f, int64_t integer) {
    char digits[160], prefix[8];
    uint64_t magnitude = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
    set_prefix(f, integer < 0, prefix);
    switch (f->type) {
    case 0:
    case 'd':
    case 'n':
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)magnitude);
        break;
    case 'x':
    case 'X':
        snprintf(digits, sizeof digits, f->type == 'x' ? "%llx" : "%llX", (unsigned long long)magnitude);
        break;
    case 'o':
        snprintf(digits, sizeof digits, "%llo", (unsigned long long)magnitude);
        break;
    case 'b': {
        size_t at = sizeof digits - 1;
        digits[at] = '\0';
        do
            digits[--at] = (char)('0' + (magnitude & 1));
        while ((magnitude >>= 1) != 0);
        memmove(digits, digits + at, sizeof digits - at);
        break;
    }
    default:
        return render_fail(r, "Unknown format code '%c' for object of type 'int'", f->type);
    }
    if (f->alternate && strchr("xXob", f->type) != NULL && f->type != 0)
        strncat(prefix, (char[]){'0', f->type, '\0'}, 3);
    if (f->comma || f->underscore)
        group_digits(digits, sizeof digits, f->comma ? ',' : '_', f->type == 0 || f->type == 'd' ? 3 : 4);
    return append_padded(r, f, prefix, digits, strlen(digits), '>');
}

/* %.*g as Python has it when no type is given: never without a point or an exponent. */
static void format_general(char *digits, size_t capacity, double magnitude, int precision) {
    snprintf(digits, capacity, "%.*g", precision == 0 ? 1 : precision, magnitude);
    if (strpbrk(digits, ".en") == NULL && strlen(digits) + 3 < capacity)
        strcat(digits, ".0");
}

static cento_status format_float(render *r, const field *f, double real) {
    char digits[512], prefix[8], format[16];
    int precision = f->precision < 0 ? 6 : (int)f->precision;
    double magnitude = fabs(real);
    set_prefix(f, signbit(real) && !isnan(real), prefix);
    if (f->type == '%')
        magnitude *= 100;
    if (isinf(magnitude) || isnan(magnitude)) {
        strcpy(digits, isnan(magnitude) ? "nan" : "inf");
        if (f->type == 'E' || f->type == 'F' || f->type == 'G')
            strcpy(digits, isnan(magnitude) ? "NAN" : "INF");
    } else if (f->type == 0 && f->precision < 0) {
        float_repr(magnitude, digits);
    } else if (f->type == 0) {
        format_general(digits, sizeof digits, magnitude, precision);
    } else if (strchr("eEfFgG%", f->type) != NULL) {
        char letter = f->type == '%' ? 'f' : f->type;
        snprintf(format, sizeof format, "%%%s.*%c", f->alternate ? "#" : "", letter);
        snprintf(digits, sizeof digits, format, precision, magnitude);
    } else {
        return render_fail(r, "Unknown format code '%c' for object of type 'float'", f->type);
    }
    if (f->comma || f->underscore)
        group_digits(digits, sizeof digits, f->comma ? ',' : '_', 3);
    if (f->type == '%')
        strcat(digits, "%");
    return append_padded(r, f, prefix, digits, strlen(digits), '>');
}

/* --------------------------------------------------------------------------- format % values ---- */

typedef struct percent {
    render *r;
    const string *format;
    size_t at;
    value values;
    size_t used; /* of a tuple; of anything else 0 or 1 */
} percent;

static cento_status next_value(percent *p, value *result) {
    bool tuple = p->values.type == VALUE_TUPLE;
    size_t count = tuple ? p->values.as.list->count : 1;
    if (p->used >= count)
        return render_fail(p->r, "not enough arguments for format string");
    *result = tuple ? p->values.as.list->items[p->used] : p->values;
    p->used++;
    return CENTO_OK;
}

static char peek(const percent *p) {
    return p->at < p->format->bytes ? p->format->data[p->at] : '\0';
}

/* A number, or * for one from the values. */
static cento_status read_count(percent *p, int64_t *count, bool *given) {
    *given = false;
    if (peek(p) == '*') {
        value v;
        p->at++;
        TRY(next_value(p, &v));
        if (!value_as_int(v, count))
            return render_fail(p->r, "* wants int");
        *given = true;
    } else {
        *count = 0;
        while (peek(p) >= '0' && peek(p) <= '9' && *count < INT32_MAX / 10) {
            *count = *count * 10 + (peek(p) - '0');
            p->at++;
            *given = true;
        }
    }
    if (*count > INT32_MAX / 10 || *count < -INT32_MAX / 10)
        return render_fail(p->r, "width or precision too big");
    return CENTO_OK;
}

/* "(name)" */
static cento_status read_name(percent *p, bool *named, value *result) {
    *named = peek(p) == '(';
    if (!*named)
        return CENTO_OK;
    size_t begin = ++p->at, depth = 1;
    for (; p->at < p->format->bytes; p->at++) {
        depth += peek(p) == '(';
        if (peek(p) == ')' && --depth == 0)
            break;
    }
    if (p->at >= p->format->bytes)
        return render_fail(p->r, "incomplete format key");
    if (p->values.type != VALUE_DICT)
        return render_fail(p->r, "format requires a mapping");
    const value *found = dict_get_text(p->values.as.dict, p->format->data + begin, p->at - begin);
    if (found == NULL)
        return render_fail(p->r, "no value for the format key '%.*s'",
                           (int)(p->at - begin > 100 ? 100 : p->at - begin), p->format->data + begin);
    p->at++;
    *result = *found;
    return CENTO_OK;
}

static cento_status read_field(percent *p, field *f, bool *zero) {
    bool given;
    *f = (field){.width = 0, .precision = -1};
    *zero = false;
    for (;; p->at++) {
        char c = peek(p);
        if (c == '-')
            f->align = '<';
        else if (c == '+' || (c == ' ' && f->sign == 0))
            f->sign = c;
        else if (c == '#')
            f->alternate = true;
        else if (c == '0')
            *zero = true;
        else if (c != ' ')
            break;
    }
    TRY(read_count(p, &f->width, &given));
    if (f->width < 0) {
        f->align = '<';
        f->width = -f->width;
    }
    if (peek(p) == '.') {
        p->at++;
        TRY(read_count(p, &f->precision, &given));
        if (f->precision < 0)
            f->precision = 0;
    }
    while (peek(p) != '\0' && strchr("hlL", peek(p)) != NULL)
        p->at++;
    return CENTO_OK;
}

static cento_status percent_text(percent *p, field *f, char conversion, value v) {
    render *r = p->r;
    value spelled;
    size_t begin = render_begin(r);
    TRY(conversion == 's' ? value_print(r, v) : value_repr(r, v));
    TRY(render_end(r, begin, &spelled));
    f->sign = 0;
    f->alternate = false;
    f->type = 0;
    if (f->align == 0)
        f->align = '>';
    return format_text(r, f, spelled.as.text);
}

static cento_status percent_number(percent *p, field *f, char conversion, bool zero, value v) {
    render *r = p->r;
    int64_t integer;
    double real;
    if (zero && f->align == 0) {
        f->align = '=';
        f->fill[0] = '0';
    }
    f->type = conversion == 'i' || conversion == 'u' ? 'd' : conversion;
    if (v.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, v);
    if (strchr("eEfFgG", conversion) != NULL) {
        if (!value_as_real(v, &real))
            return render_fail(r, "must be real number, not %s", value_type_name(v));
        if (f->precision > PRECISION_MAX)
            return render_fail(r, "the precision is too big");
        return format_float(r, f, real);
    }
    bool converted = value_as_int(v, &integer);
    if (!converted && f->type == 'd' && v.type == VALUE_FLOAT)
        TRY(convert_int(r, v, 10, &converted, &integer));
    if (!converted)
        return render_fail(r, "%%%c format: a number is required, not %s", conversion, value_type_name(v));
    if (f->precision >= 0) /* at least so many digits: never used by templates */
        return render_fail(r, "a precision for %%%c is not supported", conversion);
    return format_integer(r, f, integer);
}

static cento_status percent_field(percent *p) {
    render *r = p->r;
    field f;
    bool named, zero;
    value v;
    TRY(read_name(p, &named, &v));
    TRY(read_field(p, &f, &zero));
    char conversion = peek(p);
    if (conversion == '\0')
        return render_fail(r, "incomplete format");
    p->at++;
    if (conversion == '%')
        return render_append(r, "%", 1);
    if (!named)
        TRY(next_value(p, &v));
    if (conversion == 's' || conversion == 'r')
        return percent_text(p, &f, conversion, v);
    if (conversion == 'c') {
        int64_t codepoint;
        f.align = f.align == 0 ? '>' : f.align;
        if (value_as_int(v, &codepoint))
            return format_character(r, &f, codepoint);
        if (v.type != VALUE_TEXT || v.as.text->characters != 1)
            return render_fail(r, "%%c requires int or char");
        return append_padded(r, &f, "", v.as.text->data, v.as.text->bytes, '>');
    }
    if (strchr("diuxXoeEfFgG", conversion) != NULL)
        return percent_number(p, &f, conversion, zero, v);
    return render_fail(r, "unsupported format character '%c'",
                       (unsigned char)conversion < 128 ? conversion : '?');
}

cento_status text_percent(render *r, value format, value arguments, value *result) {
    percent p = {.r = r, .format = format.as.text, .values = arguments};
    size_t begin = render_begin(r);
    TRY(render_enter(r));
    while (p.at < p.format->bytes) {
        const char *from = p.format->data + p.at, *sign = memchr(from, '%', p.format->bytes - p.at);
        size_t plain = sign == NULL ? p.format->bytes - p.at : (size_t)(sign - from);
        TRY(render_append(r, from, plain));
        p.at += plain;
        if (sign == NULL)
            break;
        p.at++;
        TRY(percent_field(&p));
    }
    bool tuple = arguments.type == VALUE_TUPLE;
    bool mapping = arguments.type == VALUE_DICT || arguments.type == VALUE_LIST ||
                   arguments.type == VALUE_UNDEFINED || arguments.type == VALUE_RANGE;
    if (tuple ? p.used < arguments.as.list->count : !mapping && p.used == 0)
        return render_fail(r, "not all arguments converted during string formatting");
    render_leave(r);
    return render_end(r, begin, result);
}

/* -------------------------------------------------------------------------------- str.format ---- */

typedef struct formatting {
    render *r;
    const string *format;
    const call_args *arguments;
    size_t at;
    size_t automatic; /* the next {} */
    bool numbered, counted;
} formatting;

static cento_status bad_format(render *r) {
    return render_fail(r, "Invalid format specifier");
}

/* [[fill]align][sign][#][0][width][,_][.precision][type] */
static cento_status parse_specification(render *r, const char *data, size_t bytes, field *f) {
    size_t at = 0, length;
    uint32_t codepoint;
    *f = (field){.precision = -1};
    length = utf8_decode(data, bytes, &codepoint);
    if (length > 0 && length < bytes && strchr("<>=^", data[length]) != NULL && data[length] != '\0') {
        memcpy(f->fill, data, length);
        f->align = data[length];
        at = length + 1;
    } else if (bytes > 0 && data[0] != '\0' && strchr("<>=^", data[0]) != NULL) {
        f->align = data[0];
        at = 1;
    }
    if (at < bytes && (data[at] == '+' || data[at] == '-' || data[at] == ' '))
        f->sign = data[at++];
    if (at < bytes && data[at] == '#') {
        f->alternate = true;
        at++;
    }
    if (at < bytes && data[at] == '0') {
        at++;
        if (f->align == 0)
            f->align = '=';
        if (f->fill[0] == '\0')
            f->fill[0] = '0';
    }
    while (at < bytes && data[at] >= '0' && data[at] <= '9' && f->width < INT32_MAX / 10)
        f->width = f->width * 10 + (data[at++] - '0');
    if (at < bytes && (data[at] == ',' || data[at] == '_'))
        *(data[at++] == ',' ? &f->comma : &f->underscore) = true;
    if (at < bytes && data[at] == '.') {
        at++;
        f->precision = 0;
        size_t digits = at;
        while (at < bytes && data[at] >= '0' && data[at] <= '9' && f->precision < INT32_MAX / 10)
            f->precision = f->precision * 10 + (data[at++] - '0');
        if (at == digits)
            return render_fail(r, "Format specifier missing precision");
    }
    if (at < bytes)
        f->type = data[at++];
    return at == bytes && (unsigned char)f->type < 128 ? CENTO_OK : bad_format(r);
}

static cento_status format_value(render *r, value v, const char *specification, size_t bytes) {
    field f;
    int64_t integer;
    TRY(parse_specification(r, specification, bytes, &f));
    if (bytes == 0)
        return value_print(r, v);
    if (v.type == VALUE_TEXT) {
        if (f.align == '=' && f.fill[0] == '0') /* "05" for text pads on the right in Python 3.10+ */
            f.align = '<';
        return format_text(r, &f, v.as.text);
    }
    if (v.type == VALUE_FLOAT ||
        (value_as_int(v, &integer) && f.type != 0 && strchr("eEfFgG%", f.type) != NULL)) {
        double real = 0;
        value_as_real(v, &real);
        if (f.precision > PRECISION_MAX)
            return render_fail(r, "the precision is too big");
        return format_float(r, &f, real);
    }
    if (value_as_int(v, &integer)) {
        if (f.precision >= 0)
            return render_fail(r, "Precision not allowed in integer format specifier");
        return f.type == 'c' ? format_character(r, &f, integer) : format_integer(r, &f, integer);
    }
    return render_fail(r, "unsupported format string passed to %s.__format__", value_type_name(v));
}

static bool read_number(const char *data, size_t bytes, int64_t *number) {
    *number = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] < '0' || data[i] > '9')
            return false;
        *number = *number * 10 + (data[i] - '0');
    }
    return bytes > 0 && bytes < 10;
}

/* The first part of a field's name: nothing, a number or a keyword. */
static cento_status find_argument(formatting *s, const char *name, size_t bytes, value *result) {
    render *r = s->r;
    int64_t number;
    if (bytes == 0) {
        s->counted = true;
        number = (int64_t)s->automatic++;
    } else if (read_number(name, bytes, &number)) {
        s->numbered = true;
    } else {
        for (size_t i = 0; i < s->arguments->keyword_count; i++) {
            const keyword_arg *given = &s->arguments->keywords[i];
            if (given->name->bytes == bytes && memcmp(given->name->data, name, bytes) == 0) {
                *result = given->item;
                return CENTO_OK;
            }
        }
        return render_fail(r, "no argument for the format field '%.*s'", (int)(bytes > 100 ? 100 : bytes),
                           name);
    }
    if (s->counted && s->numbered)
        return render_fail(r, "cannot switch between automatic and manual field numbering");
    if ((uint64_t)number >= s->arguments->count)
        return render_fail(r, "Replacement index %lld out of range for positional args tuple",
                           (long long)number);
    *result = s->arguments->positional[number];
    return CENTO_OK;
}

/* "name.attribute[item]" */
static cento_status find_field(formatting *s, const char *name, size_t bytes, value *result) {
    render *r = s->r;
    size_t at = 0;
    while (at < bytes && name[at] != '.' && name[at] != '[')
        at++;
    TRY(find_argument(s, name, at, result));
    while (at < bytes) {
        bool item = name[at] == '[';
        size_t begin = ++at;
        int64_t number;
        value part;
        while (at < bytes && (item ? name[at] != ']' : name[at] != '.' && name[at] != '['))
            at++;
        if (at == begin || (item && at == bytes))
            return render_fail(r, "Empty attribute in format string");
        if (item && read_number(name + begin, at - begin, &number))
            part = value_int(number);
        else
            TRY(value_text(r, name + begin, at - begin, &part));
        TRY(item ? value_item(r, *result, part, result) : value_attribute(r, *result, part.as.text, result));
        at += item;
        if (item && at < bytes && name[at] != '.' && name[at] != '[')
            return render_fail(r, "Only '.' or '[' may follow ']' in format field specifier");
    }
    return CENTO_OK;
}

/* What stands between { and }, without nested fields. */
static cento_status format_field(formatting *s, const char *data, size_t bytes) {
    render *r = s->r;
    size_t name = 0;
    value v;
    while (name < bytes && data[name] != '!' && data[name] != ':')
        name += data[name] == '[' && memchr(data + name, ']', bytes - name) != NULL
                    ? (size_t)((const char *)memchr(data + name, ']', bytes - name) - (data + name))
                    : 1;
    size_t at = name;
    char conversion = 0;
    if (at < bytes && data[at] == '!') {
        if (at + 1 >= bytes || (at + 2 < bytes && data[at + 2] != ':'))
            return render_fail(r, "expected ':' after conversion specifier");
        conversion = data[at + 1];
        at += 2;
    }
    if (memchr(data + at, '{', bytes - at) != NULL)
        return render_fail(r, "nested format fields are not supported");
    TRY(find_field(s, data, name, &v));
    if (conversion == 'r' || conversion == 's') {
        size_t begin = render_begin(r);
        TRY(conversion == 'r' ? value_repr(r, v) : value_print(r, v));
        TRY(render_end(r, begin, &v));
    } else if (conversion != 0) {
        return render_fail(r, "Unknown conversion specifier '%c'",
                           (unsigned char)conversion < 128 ? conversion : '?');
    }
    if (at < bytes)
        at++; /* ':' */
    return format_value(r, v, data + at, bytes - at);
}

static cento_status format_all(formatting *s) {
    render *r = s->r;
    const char *data = s->format->data;
    size_t bytes = s->format->bytes;
    while (s->at < bytes) {
        char c = data[s->at];
        if (c != '{' && c != '}') {
            size_t begin = s->at;
            while (s->at < bytes && data[s->at] != '{' && data[s->at] != '}')
                s->at++;
            TRY(render_append(r, data + begin, s->at - begin));
            continue;
        }
        if (s->at + 1 < bytes && data[s->at + 1] == c) {
            TRY(render_append(r, &c, 1));
            s->at += 2;
            continue;
        }
        if (c == '}')
            return render_fail(r, "Single '}' encountered in format string");
        size_t begin = ++s->at, depth = 1;
        for (; s->at < bytes; s->at++) {
            depth += data[s->at] == '{';
            if (data[s->at] == '}' && --depth == 0)
                break;
        }
        if (s->at >= bytes)
            return render_fail(r, "expected '}' before end of string");
        TRY(format_field(s, data + begin, s->at - begin));
        s->at++;
    }
    return CENTO_OK;
}

cento_status text_format(render *r, value self, const call_args *arguments, value *result) {
    formatting s = {.r = r, .format = self.as.text, .arguments = arguments};
    size_t begin = render_begin(r);
    TRY(format_all(&s));
    return render_end(r, begin, result);
}
