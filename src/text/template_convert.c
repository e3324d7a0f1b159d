/*
 * Conversions as Python's int(), float() and round() make them, and sorting. One render per thread.
 */
#include "template.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static string trimmed(const string *t) {
    size_t before = space_bytes_after(t->data, t->bytes);
    size_t after = space_bytes_before(t->data + before, t->bytes - before);
    return (string){.data = t->data + before, .bytes = t->bytes - before - after};
}

static int digit_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
}

/* Skips "0x", "0o" or "0b" where the base allows it; base 0 takes the base from it. */
static void skip_prefix(const string *t, size_t *at, int64_t *base) {
    int64_t of_prefix = 0;
    if (t->bytes - *at > 1 && t->data[*at] == '0') {
        char letter = (char)(t->data[*at + 1] | 32);
        of_prefix = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    }
    if (of_prefix != 0 && (*base == 0 || *base == of_prefix)) {
        *base = of_prefix;
        *at += 2;
        if (*at < t->bytes && t->data[*at] == '_')
            (*at)++;
    }
    if (*base == 0)
        *base = 10;
}

/* int(text, base); *converted is false where Python raises ValueError. */
static cento_status int_from_text(render *r, const string *source, int64_t base, bool *converted,
                                  int64_t *integer) {
    string t = trimmed(source);
    size_t at = 0;
    bool negative = false, digits = false;
    *converted = false;
    *integer = 0;
    if (base != 0 && (base < 2 || base > 36))
        return CENTO_OK;
    if (at < t.bytes && (t.data[at] == '-' || t.data[at] == '+'))
        negative = t.data[at++] == '-';
    skip_prefix(&t, &at, &base);
    for (; at < t.bytes; at++) {
        if (t.data[at] == '_') {
            if (!digits || at + 1 == t.bytes || t.data[at + 1] == '_')
                return CENTO_OK;
            continue;
        }
        int digit = digit_value(t.data[at]);
        if (digit >= base)
            return CENTO_OK;
        digits = true;
        if (__builtin_mul_overflow(*integer, base, integer) ||
            __builtin_add_overflow(*integer, negative ? -digit : digit, integer))
            return render_fail(r, "the integer does not fit in 64 bits");
    }
    *converted = digits;
    return CENTO_OK;
}

static bool skip_decimal_digits(const string *t, size_t *at) {
    size_t begin = *at;
    while (*at < t->bytes && ((t->data[*at] >= '0' && t->data[*at] <= '9') ||
                              (t->data[*at] == '_' && *at > begin && t->data[*at - 1] != '_' &&
                               *at + 1 < t->bytes && t->data[*at + 1] >= '0' && t->data[*at + 1] <= '9')))
        (*at)++;
    return *at > begin;
}

/* float(text) */
static cento_status float_from_text(render *r, const string *source, bool *converted, double *real) {
    string t = trimmed(source);
    size_t at = 0;
    bool negative = false;
    *converted = true;
    if (at < t.bytes && (t.data[at] == '-' || t.data[at] == '+'))
        negative = t.data[at++] == '-';
    size_t left = t.bytes - at;
    if ((left == 3 && strncasecmp(t.data + at, "inf", 3) == 0) ||
        (left == 8 && strncasecmp(t.data + at, "infinity", 8) == 0)) {
        *real = negative ? -INFINITY : INFINITY;
        return CENTO_OK;
    }
    if (left == 3 && strncasecmp(t.data + at, "nan", 3) == 0) {
        *real = NAN;
        return CENTO_OK;
    }
    size_t begin = at;
    bool whole = skip_decimal_digits(&t, &at), fraction = false;
    if (at < t.bytes && t.data[at] == '.') {
        at++;
        fraction = skip_decimal_digits(&t, &at);
    }
    *converted = whole || fraction;
    if (*converted && at < t.bytes && (t.data[at] | 32) == 'e') {
        at++;
        if (at < t.bytes && (t.data[at] == '-' || t.data[at] == '+'))
            at++;
        *converted = skip_decimal_digits(&t, &at);
    }
    *converted = *converted && at == t.bytes;
    if (!*converted)
        return CENTO_OK;
    char digits[400];
    size_t count = 0;
    for (at = begin; at < t.bytes; at++) {
        if (t.data[at] == '_')
            continue;
        if (count == sizeof digits)
            return render_fail(r, "the number is too long");
        digits[count++] = t.data[at];
    }
    *real = parse_float(digits, count);
    if (negative)
        *real = -*real;
    return CENTO_OK;
}

cento_status convert_int(render *r, value v, int64_t base, bool *converted, int64_t *integer) {
    *converted = true;
    if (v.type == VALUE_TEXT)
        return int_from_text(r, v.as.text, base, converted, integer);
    if (v.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, v);
    if (v.type == VALUE_FLOAT) {
        if (isinf(v.as.real))
            return render_fail(r, "cannot convert float infinity to integer");
        *converted = !isnan(v.as.real);
        if (!*converted)
            return CENTO_OK;
        if (!(v.as.real > -9223372036854775809.0 && v.as.real < 9223372036854775808.0))
            return render_fail(r, "the integer does not fit in 64 bits");
        *integer = (int64_t)v.as.real;
        return CENTO_OK;
    }
    *converted = value_as_int(v, integer);
    return CENTO_OK;
}

cento_status convert_float(render *r, value v, bool *converted, double *real) {
    *converted = true;
    if (v.type == VALUE_TEXT)
        return float_from_text(r, v.as.text, converted, real);
    if (v.type == VALUE_UNDEFINED)
        return value_undefined_fail(r, v);
    *converted = value_as_real(v, real);
    return CENTO_OK;
}

static cento_status round_integer(render *r, int64_t integer, int64_t places, value *result) {
    *result = value_int(integer);
    if (places >= 0)
        return CENTO_OK;
    if (places < -18) {
        *result = value_int(0);
        return CENTO_OK;
    }
    int64_t unit = 1;
    for (int64_t i = places; i < 0; i++)
        unit *= 10;
    int64_t quotient = integer / unit, rest = integer % unit;
    if (rest < 0) {
        rest += unit;
        quotient--;
    }
    if (rest > unit - rest || (rest == unit - rest && (quotient & 1)))
        quotient++;
    if (__builtin_mul_overflow(quotient, unit, &integer))
        return render_fail(r, "the integer does not fit in 64 bits");
    *result = value_int(integer);
    return CENTO_OK;
}

cento_status convert_round(render *r, value v, int64_t places, value *result) {
    int64_t integer;
    if (value_as_int(v, &integer))
        return round_integer(r, integer, places, result);
    if (v.type != VALUE_FLOAT)
        return render_fail(r, "type %s doesn't define __round__ method", value_type_name(v));
    *result = v;
    double real = v.as.real;
    if (!isfinite(real) || places > 323)
        return CENTO_OK;
    if (places < -308) {
        *result = value_float(copysign(0.0, real));
    } else if (places < 0) {
        double unit = pow(10.0, (double)-places);
        *result = value_float(nearbyint(real / unit) * unit);
    } else { /* decimal rounding of the exact binary value, ties to even: what printf does */
        char printed[720];
        snprintf(printed, sizeof printed, "%.*f", (int)places, real);
        char *point = strpbrk(printed, ",");
        if (point != NULL)
            *point = '.';
        *result = value_float(parse_float(printed, strlen(printed)));
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------------------- sorting ---- */

typedef struct sorting {
    render *r;
    const value *keys;
    bool reverse;
} sorting;

/* Whether b must stand before a, which is first now; equal keys stay as they are. */
static cento_status out_of_order(const sorting *s, size_t a, size_t b, bool *result) {
    return s->reverse ? value_compare(s->r, OPERATION_LESS, s->keys[a], s->keys[b], result)
                      : value_compare(s->r, OPERATION_LESS, s->keys[b], s->keys[a], result);
}

/* Stable merge sort of positions. */
static cento_status merge_sort(const sorting *s, size_t *order, size_t *scratch, size_t count) {
    if (count < 2)
        return CENTO_OK;
    size_t half = count / 2, left = 0, right = half, out = 0;
    TRY(merge_sort(s, order, scratch, half));
    TRY(merge_sort(s, order + half, scratch, count - half));
    while (left < half && right < count) {
        bool swap;
        TRY(out_of_order(s, order[left], order[right], &swap));
        scratch[out++] = swap ? order[right++] : order[left++];
    }
    while (left < half)
        scratch[out++] = order[left++];
    memcpy(order, scratch, out * sizeof *order);
    return CENTO_OK;
}

cento_status value_sort(render *r, value *items, const value *keys, size_t count, bool reverse) {
    size_t *order = render_alloc(r, count, sizeof *order), *scratch = render_alloc(r, count, sizeof *scratch);
    value *sorted = render_alloc(r, count, sizeof *sorted);
    if (order == NULL || scratch == NULL || sorted == NULL)
        return render_memory(r);
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    const sorting s = {.r = r, .keys = keys, .reverse = reverse};
    TRY(merge_sort(&s, order, scratch, count));
    for (size_t i = 0; i < count; i++)
        sorted[i] = items[order[i]];
    if (count > 0)
        memcpy(items, sorted, count * sizeof *items);
    return render_step(r, count * sizeof *items);
}
