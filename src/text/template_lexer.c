/*
 * Source to tokens, as Jinja's lexer with trim_blocks and lstrip_blocks does it:
 *
 *   - \r\n and \r become \n, and one line break at the very end is dropped;
 *   - "-" beside a delimiter strips all white space on that side;
 *   - a line break right after %} or #} is dropped, unless it is +%} or +#};
 *   - white space between the start of the line and {% or {# is dropped, unless it is {%+ or {#+;
 *   - inside brackets, }} and %} are not the end of a tag.
 *
 * Pure function of the source; runs while compiling.
 */
#include "template.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

typedef struct lexer {
    compiler *c;
    const char *source;
    size_t bytes, at;
    bool line_start;    /* what was consumed last ended in a line break */
    char brackets[256]; /* the closing brackets that are awaited */
    size_t bracket_count;
} lexer;

static cento_status add_token(lexer *l, token_type type, size_t position, value item) {
    compiler *c = l->c;
    if (!mem_grow((void **)&c->tokens, &c->token_capacity, c->token_count + 1, sizeof *c->tokens))
        return compile_memory(c);
    c->tokens[c->token_count++] = (token){.type = type, .position = (uint32_t)position, .item = item};
    return CENTO_OK;
}

static bool starts_with(const lexer *l, size_t at, const char *expected) {
    size_t bytes = strlen(expected);
    return bytes <= l->bytes - at && memcmp(l->source + at, expected, bytes) == 0;
}

static void advance(lexer *l, size_t at) {
    l->at = at;
    l->line_start = at > 0 && l->source[at - 1] == '\n';
}

static size_t skip_space(const lexer *l, size_t at) {
    return at + space_bytes_after(l->source + at, l->bytes - at);
}

static char sign_at(const lexer *l, size_t at) {
    return at < l->bytes && (l->source[at] == '-' || l->source[at] == '+') ? l->source[at] : 0;
}

/* "name" and the end of the tag, with white space around it; *end is behind it. Used for raw. */
static bool raw_tag(const lexer *l, size_t at, const char *name, bool allow_plus, size_t *end) {
    at = skip_space(l, at);
    if (!starts_with(l, at, name))
        return false;
    at = skip_space(l, at + strlen(name));
    if (starts_with(l, at, "-%}"))
        *end = skip_space(l, at + 3);
    else if (allow_plus && starts_with(l, at, "+%}"))
        *end = at + 3;
    else if (starts_with(l, at, "%}"))
        *end = at + 2 + (allow_plus && starts_with(l, at + 2, "\n") ? 1 : 0);
    else
        return false;
    return true;
}

/* Text up to a tag, stripped as the tag's sign and the options say. */
static cento_status add_data(lexer *l, size_t begin, size_t end, char sign, bool strip_line) {
    if (sign == '-') {
        end -= space_bytes_before(l->source + begin, end - begin);
    } else if (sign != '+' && strip_line) {
        size_t line = end;
        while (line > begin && l->source[line - 1] != '\n')
            line--;
        if ((line > begin || l->line_start) && end > line &&
            space_bytes_after(l->source + line, end - line) == end - line)
            end = line;
    }
    if (end == begin)
        return CENTO_OK;
    value item;
    TRY(compile_text(l->c, l->source + begin, end - begin, &item));
    return add_token(l, TOKEN_DATA, begin, item);
}

static cento_status lex_comment(lexer *l, size_t opened) {
    const char *found = NULL;
    if (l->bytes - l->at >= 2)
        found = memmem(l->source + l->at, l->bytes - l->at, "#}", 2);
    if (found == NULL)
        return compile_fail(l->c, opened, "the end of the comment is missing");
    size_t end = (size_t)(found - l->source);
    char sign = end > l->at ? sign_at(l, end - 1) : 0;
    end += 2;
    if (sign == '-')
        end = skip_space(l, end);
    else if (sign != '+' && starts_with(l, end, "\n"))
        end++;
    advance(l, end);
    return CENTO_OK;
}

static cento_status lex_raw(lexer *l, size_t opened) {
    for (size_t at = l->at; at + 1 < l->bytes; at++) {
        if (!starts_with(l, at, "{%"))
            continue;
        char sign = sign_at(l, at + 2);
        size_t end;
        if (!raw_tag(l, at + 2 + (sign != 0), "endraw", true, &end))
            continue;
        TRY(add_data(l, l->at, at, sign, true));
        advance(l, end);
        return CENTO_OK;
    }
    return compile_fail(l->c, opened, "the end of the raw block is missing");
}

/* --------------------------------------------------------------------- inside of tags ---- */

static bool is_digit(char c, int base) {
    if (base == 16)
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    return c >= '0' && c < '0' + base;
}

/* Digits with single underscores between (and, in integers, before) them; the offset behind them. */
static size_t skip_digits(const lexer *l, size_t at, int base, bool underscore_first) {
    size_t begin = at;
    while (at < l->bytes) {
        if (is_digit(l->source[at], base))
            at++;
        else if (l->source[at] == '_' && (at > begin || underscore_first) && at + 1 < l->bytes &&
                 is_digit(l->source[at + 1], base))
            at += 2;
        else
            break;
    }
    return at;
}

/* The end of the float at `at`, or `at` if there is none. */
static size_t float_end(const lexer *l, size_t at) {
    if (at > 0 && l->source[at - 1] == '.')
        return at;
    size_t whole = skip_digits(l, at, 10, false);
    if (whole == at)
        return at;
    size_t end = whole;
    if (end < l->bytes && l->source[end] == '.') {
        size_t fraction = skip_digits(l, end + 1, 10, false);
        if (fraction > end + 1)
            end = fraction;
    }
    if (end < l->bytes && (l->source[end] == 'e' || l->source[end] == 'E')) {
        size_t digits = end + 1 + (sign_at(l, end + 1) != 0);
        size_t exponent = skip_digits(l, digits, 10, false);
        if (exponent > digits)
            end = exponent;
    }
    return end == whole ? at : end;
}

static cento_status lex_float(lexer *l, size_t end) {
    char digits[64];
    size_t count = 0;
    for (size_t i = l->at; i < end; i++) {
        if (l->source[i] == '_')
            continue;
        if (count == sizeof digits - 1)
            return compile_fail(l->c, l->at, "the number is too long");
        digits[count++] = l->source[i];
    }
    digits[count] = '\0';
    TRY(add_token(l, TOKEN_FLOAT, l->at, value_float(parse_float(digits, count))));
    advance(l, end);
    return CENTO_OK;
}

static cento_status lex_integer(lexer *l) {
    size_t digits = l->at, end;
    int base = 10;
    char letter = l->source[l->at] == '0' && l->at + 1 < l->bytes ? (char)(l->source[l->at + 1] | 32) : 0;
    if (letter == 'x' || letter == 'o' || letter == 'b') {
        base = letter == 'x' ? 16 : letter == 'o' ? 8 : 2;
        digits = l->at + 2;
    }
    end = skip_digits(l, digits, base, base != 10);
    if (end == digits) { /* "0x" without digits: the integer 0, then a name */
        base = 10;
        digits = l->at;
        end = l->at + 1;
    } else if (base == 10 && l->source[digits] == '0') { /* zeros only: 01 is 0, then 1 */
        end = digits + 1;
        while (end < l->bytes && (l->source[end] == '0' ||
                                  (l->source[end] == '_' && end + 1 < l->bytes && l->source[end + 1] == '0')))
            end++;
    }
    int64_t integer = 0;
    for (size_t i = digits; i < end; i++) {
        char c = l->source[i];
        if (c == '_')
            continue;
        int digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
        if (__builtin_mul_overflow(integer, base, &integer) ||
            __builtin_add_overflow(integer, digit, &integer))
            return compile_fail(l->c, l->at, "the integer does not fit in 64 bits");
    }
    TRY(add_token(l, TOKEN_INTEGER, l->at, value_int(integer)));
    advance(l, end);
    return CENTO_OK;
}

/* \x41, \u0041, \U00000041: *at is behind the letter. */
static cento_status lex_hex_escape(lexer *l, size_t *at, size_t end, size_t digit_count, strbuf *unescaped) {
    uint32_t codepoint = 0;
    size_t begin = *at;
    for (size_t i = 0; i < digit_count; i++, (*at)++) {
        if (*at >= end || !is_digit(l->source[*at], 16))
            return compile_fail(l->c, begin - 2, "the escape needs %zu hexadecimal digits", digit_count);
        char c = l->source[*at];
        codepoint = codepoint << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (codepoint > 0x10FFFF || (codepoint >= 0xD800 && codepoint <= 0xDFFF))
        return compile_fail(l->c, begin - 2, "the escape is no character: U+%04X", codepoint);
    strbuf_put_codepoint(unescaped, codepoint);
    return CENTO_OK;
}

/* As Python's unicode-escape codec. An escape that is unknown stands for itself. */
static cento_status lex_escape(lexer *l, size_t *at, size_t end, strbuf *unescaped) {
    static const char letters[] = "\n\\'\"abfnrtv";
    static const char meanings[] = "\0\\'\"\a\b\f\n\r\t\v";
    char c = l->source[*at];
    const char *found = c == '\0' ? NULL : strchr(letters, c);
    if (found != NULL) {
        (*at)++;
        if (c != '\n')
            strbuf_putc(unescaped, meanings[found - letters]);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        (*at)++;
        TRY(lex_hex_escape(l, at, end, c == 'x' ? 2 : c == 'u' ? 4 : 8, unescaped));
    } else if (c == 'N') {
        return compile_fail(l->c, *at - 1, "\\N{…} is not supported");
    } else if (is_digit(c, 8)) {
        uint32_t codepoint = 0;
        for (int i = 0; i < 3 && *at < end && is_digit(l->source[*at], 8); i++, (*at)++)
            codepoint = codepoint << 3 | (uint32_t)(l->source[*at] - '0');
        strbuf_put_codepoint(unescaped, codepoint);
    } else if ((unsigned char)c >= 0x80) {
        /* Jinja turns é into \xe9 before it reads escapes, so that \é becomes \\xe9 */
        uint32_t codepoint = 0;
        *at += utf8_decode(l->source + *at, end - *at, &codepoint);
        strbuf_printf(unescaped,
                      codepoint > 0xFFFF ? "\\U%08x"
                      : codepoint > 0xFF ? "\\u%04x"
                                         : "\\x%02x",
                      codepoint);
    } else {
        strbuf_putc(unescaped, '\\');
    }
    return CENTO_OK;
}

static cento_status lex_string(lexer *l) {
    char quote = l->source[l->at];
    size_t end = l->at + 1;
    while (end < l->bytes && l->source[end] != quote)
        end += l->source[end] == '\\' ? 2 : 1;
    if (end >= l->bytes)
        return compile_fail(l->c, l->at, "the string is not closed");
    strbuf unescaped = {0};
    cento_status status = CENTO_OK;
    for (size_t at = l->at + 1; at < end && status == CENTO_OK;) {
        if (l->source[at] != '\\') {
            strbuf_putc(&unescaped, l->source[at++]);
        } else {
            at++;
            status = lex_escape(l, &at, end, &unescaped);
        }
    }
    value item;
    if (status == CENTO_OK && unescaped.failed)
        status = compile_memory(l->c);
    if (status == CENTO_OK)
        status = compile_text(l->c, unescaped.data == NULL ? "" : unescaped.data, unescaped.bytes, &item);
    strbuf_free(&unescaped);
    TRY(status);
    TRY(add_token(l, TOKEN_STRING, l->at, item));
    advance(l, end + 1);
    return CENTO_OK;
}

static cento_status lex_operator(lexer *l) {
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    const char *spelled = NULL;
    for (size_t i = 0; i < sizeof operators / sizeof *operators && spelled == NULL; i++)
        if (starts_with(l, l->at, operators[i]))
            spelled = operators[i];
    if (spelled == NULL) {
        uint32_t codepoint = 0;
        utf8_decode(l->source + l->at, l->bytes - l->at, &codepoint);
        return compile_fail(l->c, l->at, "unexpected character U+%04X", codepoint);
    }
    if (strchr("([{", *spelled) != NULL) {
        if (l->bracket_count == sizeof l->brackets)
            return compile_fail(l->c, l->at, "too many nested brackets");
        l->brackets[l->bracket_count++] = *spelled == '(' ? ')' : *spelled == '[' ? ']' : '}';
    } else if (strchr(")]}", *spelled) != NULL) {
        if (l->bracket_count == 0)
            return compile_fail(l->c, l->at, "unexpected '%s'", spelled);
        char expected = l->brackets[--l->bracket_count];
        if (expected != *spelled)
            return compile_fail(l->c, l->at, "unexpected '%s', expected '%c'", spelled, expected);
    }
    TRY(add_token(l, TOKEN_OPERATOR, l->at, value_none()));
    strcpy(l->c->tokens[l->c->token_count - 1].spelled, spelled);
    advance(l, l->at + strlen(spelled));
    return CENTO_OK;
}

/* The end of the name at l->at; l->at if none begins there. */
static size_t name_end(const lexer *l) {
    size_t at = l->at;
    uint32_t codepoint;
    while (at < l->bytes) {
        size_t length = utf8_decode(l->source + at, l->bytes - at, &codepoint);
        if (!character_is_identifier(codepoint, at == l->at))
            break;
        at += length;
    }
    return at;
}

static cento_status lex_tag(lexer *l, size_t opened, bool variable) {
    const char *close = variable ? "}}" : "%}";
    l->bracket_count = 0;
    while (l->at < l->bytes) {
        size_t at = l->at;
        char sign = l->bracket_count == 0 ? sign_at(l, at) : 0;
        if (variable && sign == '+')
            sign = 0;
        if (l->bracket_count == 0 && starts_with(l, at + (sign != 0), close)) {
            size_t end = at + (sign != 0) + 2;
            if (sign == '-')
                end = skip_space(l, end);
            else if (sign == 0 && !variable && starts_with(l, end, "\n"))
                end++;
            advance(l, end);
            return add_token(l, variable ? TOKEN_VARIABLE_END : TOKEN_BLOCK_END, at, value_none());
        }
        size_t end = skip_space(l, at);
        if (end > at) {
            advance(l, end);
        } else if ((end = float_end(l, at)) > at) {
            TRY(lex_float(l, end));
        } else if (is_digit(l->source[at], 10)) {
            TRY(lex_integer(l));
        } else if ((end = name_end(l)) > at) {
            const string *name;
            TRY(compile_name(l->c, l->source + at, end - at, &name));
            TRY(add_token(l, TOKEN_NAME, at, (value){.type = VALUE_TEXT, .as.text = name}));
            advance(l, end);
        } else if (l->source[at] == '\'' || l->source[at] == '"') {
            TRY(lex_string(l));
        } else {
            TRY(lex_operator(l));
        }
    }
    return compile_fail(l->c, opened, "the end of the tag, %s, is missing", close);
}

/* One stretch of text and the tag behind it. */
static cento_status lex_root(lexer *l) {
    size_t tag = l->at;
    while (tag + 1 < l->bytes &&
           (l->source[tag] != '{' || strchr("{%#", l->source[tag + 1]) == NULL || l->source[tag + 1] == '\0'))
        tag++;
    if (tag + 1 >= l->bytes) {
        TRY(add_data(l, l->at, l->bytes, '+', false));
        l->at = l->bytes;
        return CENTO_OK;
    }
    char kind = l->source[tag + 1];
    char sign = sign_at(l, tag + 2);
    size_t inside = tag + 2 + (sign != 0);
    TRY(add_data(l, l->at, tag, sign, kind != '{'));
    size_t end;
    if (kind == '%' && raw_tag(l, inside, "raw", false, &end)) {
        advance(l, end);
        return lex_raw(l, tag);
    }
    advance(l, inside);
    if (kind == '#')
        return lex_comment(l, tag);
    TRY(add_token(l, kind == '{' ? TOKEN_VARIABLE_BEGIN : TOKEN_BLOCK_BEGIN, tag, value_none()));
    return lex_tag(l, tag, kind == '{');
}

cento_status template_tokenize(compiler *c) {
    lexer l = {.c = c, .source = c->compiled->source, .bytes = c->compiled->bytes, .line_start = true};
    while (l.at < l.bytes)
        TRY(lex_root(&l));
    return add_token(&l, TOKEN_END, l.bytes, value_none());
}
