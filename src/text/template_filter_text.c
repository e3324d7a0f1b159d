/*
 * Filters that take or give text. Most apply str() to what they get first, as Jinja's do. One render
 * per thread.
 */
#include "template.h"

#include <string.h>

#include "base/utf8.h"

static bool is_given(value v) {
    return v.type != VALUE_MISSING;
}

static cento_status integer(render *r, value v, int64_t fallback, int64_t *result) {
    *result = fallback;
    if (is_given(v) && !value_as_int(v, result))
        return render_fail(r, "'%s' object cannot be interpreted as an integer", value_type_name(v));
    return CENTO_OK;
}

/* str(self).name(arguments) */
static cento_status by_method(render *r, value self, const char *name, const call_args *arguments,
                              value *result) {
    TRY(value_to_text(r, self, &self));
    return builtin_call(r, template_method(self, name, strlen(name)), self, arguments, result);
}

static cento_status filter_upper(render *r, value self, const call_args *arguments, value *result) {
    return by_method(r, self, "upper", arguments, result);
}

static cento_status filter_lower(render *r, value self, const call_args *arguments, value *result) {
    return by_method(r, self, "lower", arguments, result);
}

static cento_status filter_capitalize(render *r, value self, const call_args *arguments, value *result) {
    return by_method(r, self, "capitalize", arguments, result);
}

static cento_status filter_trim(render *r, value self, const call_args *arguments, value *result) {
    return by_method(r, self, "strip", arguments, result);
}

static cento_status filter_center(render *r, value self, const call_args *arguments, value *result) {
    value width = is_given(arguments->positional[0]) ? arguments->positional[0] : value_int(80);
    const call_args given = {.positional = &width, .count = 1};
    return by_method(r, self, "center", &given, result);
}

static cento_status filter_string(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return value_to_text(r, self, result);
}

/* Drops the mark of HTML, as str() does. */
static cento_status plain_text(render *r, value v, value *result) {
    TRY(value_to_text(r, v, result));
    if (!result->as.text->markup)
        return CENTO_OK;
    return value_text_view(r, result->as.text->data, result->as.text->bytes, false, result);
}

static cento_status filter_replace(render *r, value self, const call_args *arguments, value *result) {
    value given[3] = {arguments->positional[0], arguments->positional[1], arguments->positional[2]};
    TRY(plain_text(r, self, &self));
    TRY(plain_text(r, given[0], &given[0]));
    TRY(plain_text(r, given[1], &given[1]));
    const call_args call_given = {.positional = given,
                                  .count = is_given(given[2]) && given[2].type != VALUE_NONE ? 3 : 2};
    return by_method(r, self, "replace", &call_given, result);
}

/* Words begin at the start and after white space or one of -({[< */
static cento_status filter_title(render *r, value self, const call_args *arguments, value *result) {
    static const call_args none = {.count = 0};
    (void)arguments;
    value lowered;
    TRY(value_to_text(r, self, &self));
    const string *t = self.as.text;
    size_t begin = render_begin(r);
    for (size_t at = 0; at < t->bytes;) {
        size_t end = at;
        uint32_t c = 0;
        while (end < t->bytes) { /* separators */
            size_t length = utf8_decode(t->data + end, t->bytes - end, &c);
            if (!character_is_space(c) && (c >= 128 || strchr("-({[<", (int)c) == NULL || c == 0))
                break;
            end += length;
        }
        TRY(render_append(r, t->data + at, end - at));
        at = end;
        if (at == t->bytes)
            break;
        uint32_t mapped[3];
        size_t length = utf8_decode(t->data + at, t->bytes - at, &c), count = character_upper(c, mapped);
        for (size_t i = 0; i < count; i++) {
            char encoded[4];
            TRY(render_append(r, encoded, utf8_encode(mapped[i], encoded)));
        }
        at += length;
        for (end = at; end < t->bytes; end += length) { /* the rest of the word */
            length = utf8_decode(t->data + end, t->bytes - end, &c);
            if (character_is_space(c) || (c < 128 && c != 0 && strchr("-({[<", (int)c) != NULL))
                break;
        }
        value rest;
        TRY(value_text_view(r, t->data + at, end - at, false, &rest));
        TRY(builtin_call(r, template_method(rest, "lower", 5), rest, &none, &lowered));
        TRY(value_print(r, lowered));
        at = end;
    }
    return render_end(r, begin, result);
}

static cento_status filter_join(render *r, value self, const call_args *arguments, value *result) {
    const value *items;
    size_t count;
    value separator = arguments->positional[0], attribute = arguments->positional[1];
    TRY(value_items(r, self, &items, &count));
    value *parts = render_alloc(r, count, sizeof *parts);
    if (parts == NULL)
        return render_memory(r);
    for (size_t i = 0; i < count; i++)
        TRY(value_path(r, items[i], attribute, value_none(), &parts[i]));
    size_t begin = render_begin(r);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && is_given(separator))
            TRY(value_print(r, separator));
        TRY(value_print(r, parts[i]));
    }
    return render_end(r, begin, result);
}

static cento_status append_spaces(render *r, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        TRY(render_append(r, " ", 1));
    return CENTO_OK;
}

static cento_status append_indent(render *r, value width) {
    int64_t spaces;
    if (width.type == VALUE_TEXT)
        return value_print(r, width);
    TRY(integer(r, width, 4, &spaces));
    return append_spaces(r, spaces);
}

static cento_status filter_indent(render *r, value self, const call_args *arguments, value *result) {
    static const call_args none = {.count = 0};
    value lines, ended, newline, width = arguments->positional[0];
    bool first = false, blank = false;
    int64_t spaces;
    if (width.type != VALUE_TEXT)
        TRY(integer(r, width, 4, &spaces));
    if (is_given(arguments->positional[1]))
        TRY(value_truth(r, arguments->positional[1], &first));
    if (is_given(arguments->positional[2]))
        TRY(value_truth(r, arguments->positional[2], &blank));
    TRY(value_text(r, "\n", 1, &newline));
    TRY(value_arithmetic(r, OPERATION_ADD, self, newline, &ended));
    TRY(builtin_call(r, template_method(ended, "splitlines", 10), ended, &none, &lines));
    size_t begin = render_begin(r);
    for (size_t i = 0; i < lines.as.list->count; i++) {
        value line = lines.as.list->items[i];
        if (i > 0)
            TRY(render_append(r, "\n", 1));
        if (i == 0 ? first : blank || line.as.text->bytes > 0)
            TRY(append_indent(r, width));
        TRY(value_print(r, line));
    }
    return render_end(r, begin, result);
}

static cento_status filter_truncate(render *r, value self, const call_args *arguments, value *result) {
    int64_t length, leeway;
    bool kill_words = false;
    size_t have;
    value end;
    TRY(integer(r, arguments->positional[0], 255, &length));
    if (is_given(arguments->positional[1]))
        TRY(value_truth(r, arguments->positional[1], &kill_words));
    end = arguments->positional[2];
    if (!is_given(end))
        TRY(value_text(r, "...", 3, &end));
    if (end.type != VALUE_TEXT)
        return render_fail(r, "expected str, not %s", value_type_name(end));
    value leeway_value = arguments->positional[3];
    TRY(integer(r, leeway_value.type == VALUE_NONE ? value_int(5) : leeway_value, 5, &leeway));
    if (length < (int64_t)end.as.text->characters)
        return render_fail(r, "expected length >= %zu, got %lld", end.as.text->characters, (long long)length);
    if (leeway < 0)
        return render_fail(r, "expected leeway >= 0, got %lld", (long long)leeway);
    TRY(value_length(r, self, &have));
    *result = self;
    if ((int64_t)have <= length || (int64_t)have - length <= leeway)
        return CENTO_OK;
    if (self.type != VALUE_TEXT)
        return render_fail(r, "can only truncate str, not %s", value_type_name(self));
    value kept;
    TRY(value_slice(r, self, value_none(), value_int(length - (int64_t)end.as.text->characters), value_none(),
                    &kept));
    size_t bytes = kept.as.text->bytes;
    const char *space = kill_words ? NULL : memrchr(kept.as.text->data, ' ', bytes);
    if (space != NULL)
        bytes = (size_t)(space - kept.as.text->data);
    TRY(value_text_view(r, kept.as.text->data, bytes, self.as.text->markup, &kept));
    return value_arithmetic(r, OPERATION_ADD, kept, end, result);
}

static cento_status filter_wordcount(render *r, value self, const call_args *arguments, value *result) {
    int64_t count = 0;
    bool inside = false;
    (void)arguments;
    TRY(value_to_text(r, self, &self));
    const string *t = self.as.text;
    for (size_t at = 0; at < t->bytes;) {
        uint32_t c;
        at += utf8_decode(t->data + at, t->bytes - at, &c);
        bool word = c == '_' || character_is_alpha(c) || character_is_digit(c) || character_is_numeric(c);
        count += word && !inside;
        inside = word;
    }
    *result = value_int(count);
    return render_step(r, t->bytes);
}

static cento_status filter_format(render *r, value self, const call_args *arguments, value *result) {
    value values;
    if (arguments->count > 0 && arguments->keyword_count > 0)
        return render_fail(r, "can't handle positional and keyword arguments at the same time");
    TRY(value_to_text(r, self, &self));
    if (arguments->keyword_count > 0) {
        dict *named;
        TRY(dict_new(r, arguments->keyword_count, &named));
        for (size_t i = 0; i < arguments->keyword_count; i++)
            TRY(dict_set(r, named, (value){.type = VALUE_TEXT, .as.text = arguments->keywords[i].name},
                         arguments->keywords[i].item));
        values = (value){.type = VALUE_DICT, .as.dict = named};
    } else {
        TRY(value_sequence(r, VALUE_TUPLE, arguments->positional, arguments->count, &values));
    }
    return text_percent(r, self, values, result);
}

/* --------------------------------------------------------------------------- HTML, URLs ---- */

static cento_status filter_safe(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    TRY(value_to_text(r, self, &self));
    return value_text_view(r, self.as.text->data, self.as.text->bytes, true, result);
}

static cento_status filter_escape(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return text_escape_html(r, self, result);
}

static cento_status filter_forceescape(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    TRY(plain_text(r, self, &self));
    return text_escape_html(r, self, result);
}

/* Character references of the five characters that escape makes, numeric ones, and &nbsp;. */
static size_t append_reference(render *r, const char *data, size_t bytes, cento_status *status) {
    static const struct {
        const char *name, *meaning;
    } names[] = {{"&amp;", "&"},   {"&lt;", "<"},   {"&gt;", ">"},
                 {"&quot;", "\""}, {"&apos;", "'"}, {"&nbsp;", "\xC2\xA0"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t length = strlen(names[i].name);
        if (length <= bytes && memcmp(data, names[i].name, length) == 0) {
            *status = render_append(r, names[i].meaning, strlen(names[i].meaning));
            return length;
        }
    }
    if (bytes < 4 || data[1] != '#')
        return 0;
    bool hexadecimal = (data[2] | 32) == 'x';
    uint32_t codepoint = 0;
    size_t at = hexadecimal ? 3 : 2, begin = at;
    for (; at < bytes && at < begin + 8; at++) {
        char c = data[at];
        bool digit = c >= '0' && c <= '9', letter = hexadecimal && (c | 32) >= 'a' && (c | 32) <= 'f';
        if (!digit && !letter)
            break;
        codepoint = codepoint * (hexadecimal ? 16 : 10) + (uint32_t)(digit ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (at == begin || at >= bytes || data[at] != ';' || codepoint == 0)
        return 0;
    char encoded[4];
    *status = render_append(r, encoded, utf8_encode(codepoint, encoded));
    return at + 1;
}

/* Appends t without what stands between open and close. */
static cento_status append_without(render *r, const string *t, const char *open, const char *close) {
    const char *at = t->data, *end = at + t->bytes;
    for (;;) {
        const char *begin = memmem(at, (size_t)(end - at), open, strlen(open));
        const char *stop = begin == NULL ? NULL : memmem(begin, (size_t)(end - begin), close, strlen(close));
        TRY(render_append(r, at, (size_t)((stop == NULL ? end : begin) - at)));
        if (stop == NULL)
            return CENTO_OK;
        at = stop + strlen(close);
    }
}

static cento_status filter_striptags(render *r, value self, const call_args *arguments, value *result) {
    static const call_args none = {.count = 0};
    value words, no_comments, no_tags;
    (void)arguments;
    TRY(plain_text(r, self, &self));
    size_t begin = render_begin(r);
    TRY(append_without(r, self.as.text, "<!--", "-->"));
    TRY(render_end(r, begin, &no_comments));
    TRY(append_without(r, no_comments.as.text, "<", ">"));
    TRY(render_end(r, begin, &no_tags));
    TRY(builtin_call(r, template_method(no_tags, "split", 5), no_tags, &none, &words));
    for (size_t i = 0; i < words.as.list->count; i++) {
        const string *word = words.as.list->items[i].as.text;
        if (i > 0)
            TRY(render_append(r, " ", 1));
        for (size_t at = 0; at < word->bytes;) {
            cento_status status = CENTO_OK;
            size_t length =
                word->data[at] == '&' ? append_reference(r, word->data + at, word->bytes - at, &status) : 0;
            TRY(status);
            if (length == 0)
                TRY(render_append(r, word->data + at, 1));
            at += length == 0 ? 1 : length;
        }
    }
    return render_end(r, begin, result);
}

static cento_status quote_url(render *r, value v, bool query) {
    static const char digits[] = "0123456789ABCDEF";
    value plain;
    TRY(value_to_text(r, v, &plain));
    const string *t = plain.as.text;
    for (size_t i = 0; i < t->bytes; i++) {
        unsigned char c = (unsigned char)t->data[i];
        char quoted[3] = {'%', digits[c >> 4], digits[c & 15]};
        bool kept = c < 128 && c != 0 &&
                    (character_is_alpha(c) || (c >= '0' && c <= '9') || strchr("_.-~", c) != NULL ||
                     (c == '/' && !query));
        if (query && c == ' ')
            TRY(render_append(r, "+", 1));
        else if (kept)
            TRY(render_append(r, t->data + i, 1));
        else
            TRY(render_append(r, quoted, 3));
    }
    return CENTO_OK;
}

static cento_status filter_urlencode(render *r, value self, const call_args *arguments, value *result) {
    static const call_args none = {.count = 0};
    const value *items;
    size_t count;
    (void)arguments;
    if (self.type == VALUE_TEXT || !value_is_iterable(self)) {
        TRY(value_to_text(r, self, &self));
        size_t begin = render_begin(r);
        TRY(quote_url(r, self, false));
        return render_end(r, begin, result);
    }
    if (self.type == VALUE_DICT)
        TRY(builtin_call(r, template_method(self, "items", 5), self, &none, &self));
    TRY(value_items(r, self, &items, &count));
    size_t begin = render_begin(r);
    for (size_t i = 0; i < count; i++) {
        const value *pair;
        size_t pair_count;
        TRY(value_items(r, items[i], &pair, &pair_count));
        if (pair_count != 2)
            return render_fail(r, "expected pairs of a key and a value");
        if (i > 0)
            TRY(render_append(r, "&", 1));
        TRY(quote_url(r, pair[0], true));
        TRY(render_append(r, "=", 1));
        TRY(quote_url(r, pair[1], true));
    }
    return render_end(r, begin, result);
}

/* ----------------------------------------------------------------------------------- JSON ---- */

static cento_status json_separators(render *r, value v, json_style *style) {
    const value *items;
    size_t count;
    if (!is_given(v) || v.type == VALUE_NONE)
        return CENTO_OK;
    TRY(value_items(r, v, &items, &count));
    if (count != 2 || items[0].type != VALUE_TEXT || items[1].type != VALUE_TEXT)
        return render_fail(r, "separators must be two strings");
    style->item_separator = items[0].as.text->data;
    style->item_separator_bytes = items[0].as.text->bytes;
    style->key_separator = items[1].as.text->data;
    style->key_separator_bytes = items[1].as.text->bytes;
    return CENTO_OK;
}

/* json.dumps with transformers' defaults: characters beyond ASCII stay. */
static cento_status filter_tojson(render *r, value self, const call_args *arguments, value *result) {
    json_style style = {
        .item_separator = ", ", .item_separator_bytes = 2, .key_separator = ": ", .key_separator_bytes = 2};
    value indent = arguments->positional[1];
    if (is_given(arguments->positional[0]))
        TRY(value_truth(r, arguments->positional[0], &style.ascii));
    if (is_given(arguments->positional[3]))
        TRY(value_truth(r, arguments->positional[3], &style.sorted));
    if (is_given(indent) && indent.type != VALUE_NONE) {
        int64_t spaces;
        if (indent.type != VALUE_TEXT) {
            size_t begin = render_begin(r);
            TRY(integer(r, indent, 0, &spaces));
            TRY(append_spaces(r, spaces));
            TRY(render_end(r, begin, &indent));
        }
        style.indent = indent.as.text->data;
        style.indent_bytes = indent.as.text->bytes;
        style.item_separator_bytes = 1;
    }
    TRY(json_separators(r, arguments->positional[2], &style));
    size_t begin = render_begin(r);
    TRY(value_json(r, self, &style, 0));
    return render_end(r, begin, result);
}

const builtin filters_text[] = {
    {"capitalize", "", filter_capitalize},
    {"center", "width?", filter_center},
    {"e", "", filter_escape},
    {"escape", "", filter_escape},
    {"filesizeformat", NULL, NULL},
    {"forceescape", "", filter_forceescape},
    {"format", NULL, filter_format},
    {"indent", "width? first? blank?", filter_indent},
    {"join", "d? attribute?", filter_join},
    {"lower", "", filter_lower},
    {"pprint", NULL, NULL},
    {"replace", "old new count?", filter_replace},
    {"safe", "", filter_safe},
    {"string", "", filter_string},
    {"striptags", "", filter_striptags},
    {"title", "", filter_title},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", filter_tojson},
    {"trim", "chars?", filter_trim},
    {"truncate", "length? killwords? end? leeway?", filter_truncate},
    {"upper", "", filter_upper},
    {"urlencode", "", filter_urlencode},
    {"urlize", NULL, NULL},
    {"wordcount", "", filter_wordcount},
    {"wordwrap", NULL, NULL},
    {"xmlattr", NULL, NULL},
    {NULL, NULL, NULL},
};
