/*
 * Oniguruma's syntax (its default, Ruby's) into PCRE2's. Most of a pattern is copied; rewritten are
 *
 *   \s \S            White_Space; PCRE2's holds U+180E too
 *   \w \W \b \B      Alphabetic, marks, decimal digits, connectors; PCRE2's is letters, numbers, '_'
 *   \h \H \v         hex digits and U+000B; PCRE2: horizontal and vertical space
 *   \uHHHH           \x{HHHH}
 *   [[:name:]] \p{name}  POSIX names, long names of categories; scripts as sc: (not by extension)
 *   {,m}             {0,m}
 *   X{n,m}+          (?:X{n,m})+, where PCRE2 would take it as possessive
 *   (?m)             (?s)
 *   \s+$             as a whole pattern: not tried again inside a run of spaces where it just failed
 *
 * Refused: nested classes, && in classes, conditionals, absent operators, callouts, verbs, \K, \Q, {n}?.
 */
#include <string.h>

#include "base/utf8.h"
#include "split_regex.h"

#define SPACE_RANGES                                                                                         \
    "\\x{9}-\\x{d} \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORD_RANGES "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
/* outside of classes its table for Latin-1 has the superscripts and fractions as well */
#define WORD_RANGES_ALONE WORD_RANGES "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define HEX_RANGES        "0-9A-Fa-f"

#define GROUP_DEPTH_MAX 200

typedef struct translator {
    const char *where;
    const char *pattern;
    size_t bytes, at;
    strbuf *out;
    size_t atom; /* where in `out` the last atom begins: what a quantifier is about */
    size_t group_begin[GROUP_DEPTH_MAX];
    size_t depth;
    cento_error *error;
} translator;

static cento_status refuse(translator *state, const char *what) {
    return error_set(state->error, CENTO_UNSUPPORTED, "%s: %s at byte %zu of the pattern is not supported",
                     state->where, what, state->at);
}

static bool starts_with(const translator *state, const char *text) {
    size_t bytes = strlen(text);
    return state->bytes - state->at >= bytes && memcmp(state->pattern + state->at, text, bytes) == 0;
}

static char char_at(const translator *state, size_t at) {
    return at < state->bytes ? state->pattern[at] : '\0';
}

/* a set that is known as a list of class members */
static void put_members(translator *state, const char *members, bool negated, bool in_class) {
    if (in_class)
        strbuf_puts(state->out, members);
    else
        strbuf_printf(state->out, "[%s%s]", negated ? "^" : "", members);
}

/* ------------------------------------------------------------- named sets ------------------ */

typedef struct named_set {
    const char *name; /* lower case, no '_', ' ' or '-' */
    const char *members;
} named_set;

static const named_set named_sets[] = {
    {"alpha", "\\p{Alphabetic}"},
    {"alphabetic", "\\p{Alphabetic}"},
    {"digit", "\\p{Nd}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"upper", "\\p{Uppercase}"},
    {"uppercase", "\\p{Uppercase}"},
    {"lower", "\\p{Lowercase}"},
    {"lowercase", "\\p{Lowercase}"},
    {"space", SPACE_RANGES},
    {"whitespace", SPACE_RANGES},
    {"word", WORD_RANGES},
    {"punct", "\\p{P}"},
    {"cntrl", "\\p{Cc}"},
    {"xdigit", HEX_RANGES},
    {"ascii", "\\x{0}-\\x{7f}"},
    {"any", "\\x{0}-\\x{10ffff}"},
    {"letter", "\\p{L}"},
    {"casedletter", "\\p{Lu}\\p{Ll}\\p{Lt}"},
    {"uppercaseletter", "\\p{Lu}"},
    {"lowercaseletter", "\\p{Ll}"},
    {"titlecaseletter", "\\p{Lt}"},
    {"modifierletter", "\\p{Lm}"},
    {"otherletter", "\\p{Lo}"},
    {"mark", "\\p{M}"},
    {"nonspacingmark", "\\p{Mn}"},
    {"spacingmark", "\\p{Mc}"},
    {"enclosingmark", "\\p{Me}"},
    {"number", "\\p{N}"},
    {"decimalnumber", "\\p{Nd}"},
    {"letternumber", "\\p{Nl}"},
    {"othernumber", "\\p{No}"},
    {"punctuation", "\\p{P}"},
    {"connectorpunctuation", "\\p{Pc}"},
    {"dashpunctuation", "\\p{Pd}"},
    {"openpunctuation", "\\p{Ps}"},
    {"closepunctuation", "\\p{Pe}"},
    {"initialpunctuation", "\\p{Pi}"},
    {"finalpunctuation", "\\p{Pf}"},
    {"otherpunctuation", "\\p{Po}"},
    {"symbol", "\\p{S}"},
    {"mathsymbol", "\\p{Sm}"},
    {"currencysymbol", "\\p{Sc}"},
    {"modifiersymbol", "\\p{Sk}"},
    {"othersymbol", "\\p{So}"},
    {"separator", "\\p{Z}"},
    {"spaceseparator", "\\p{Zs}"},
    {"lineseparator", "\\p{Zl}"},
    {"paragraphseparator", "\\p{Zp}"},
    {"other", "\\p{C}"},
    {"control", "\\p{Cc}"},
    {"format", "\\p{Cf}"},
    {"surrogate", "\\p{Cs}"},
    {"privateuse", "\\p{Co}"},
    {"unassigned", "\\p{Cn}"},
};

static const char *const general_categories[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me",
                                                 "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi",
                                                 "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl",
                                                 "Zp", "C",  "Cc", "Cf", "Cs", "Co", "Cn"};

static char lower(char character) {
    return character >= 'A' && character <= 'Z' ? (char)(character - 'A' + 'a') : character;
}

static bool same_letters(const char *left, const char *right) {
    for (; *left != '\0' && lower(*left) == lower(*right); left++)
        right++;
    return *left == '\0' && *right == '\0';
}

/* \p{name}, \P{name}, \p{^name}; `at` stands behind the p */
static cento_status put_property(translator *state, bool negated, bool in_class) {
    if (char_at(state, state->at) != '{')
        return refuse(state, "a property without braces");
    size_t at = state->at + 1;
    if (char_at(state, at) == '^') {
        negated = !negated;
        at++;
    }
    char name[64];
    size_t length = 0;
    for (; at < state->bytes && state->pattern[at] != '}'; at++) {
        char character = state->pattern[at];
        if (character == '_' || character == ' ' || character == '-')
            continue;
        bool alphanumeric =
            (lower(character) >= 'a' && lower(character) <= 'z') || (character >= '0' && character <= '9');
        if (!alphanumeric || length + 1 == sizeof name)
            return refuse(state, "a property of this name");
        name[length++] = character;
    }
    name[length] = '\0';
    if (at >= state->bytes || length == 0)
        return refuse(state, "an unfinished property");
    state->at = at + 1;
    for (size_t i = 0; i < sizeof general_categories / sizeof *general_categories; i++)
        if (same_letters(name, general_categories[i])) {
            strbuf_printf(state->out, "\\%c{%s}", negated ? 'P' : 'p', general_categories[i]);
            return CENTO_OK;
        }
    for (size_t i = 0; i < sizeof named_sets / sizeof *named_sets; i++)
        if (same_letters(name, named_sets[i].name)) {
            if (negated && in_class)
                return refuse(state, "a negated property of this kind in a class");
            put_members(state, named_sets[i].members, negated, in_class);
            return CENTO_OK;
        }
    strbuf_printf(state->out, "\\%c{sc:%s}", negated ? 'P' : 'p', name);
    return CENTO_OK;
}

/* ------------------------------------------------------------- escapes --------------------- */

static bool is_hex(char character) {
    return (character >= '0' && character <= '9') || (lower(character) >= 'a' && lower(character) <= 'f');
}

/* \uHHHH; `at` stands behind the u */
static cento_status put_unicode_escape(translator *state) {
    for (size_t i = 0; i < 4; i++)
        if (!is_hex(char_at(state, state->at + i)))
            return refuse(state, "\\u without four hex digits");
    strbuf_printf(state->out, "\\x{%.4s}", state->pattern + state->at);
    state->at += 4;
    return CENTO_OK;
}

/* \xHH or \x{H…}; `at` stands behind the x. \x80 and above are bytes to Oniguruma. */
static cento_status put_hex_escape(translator *state) {
    if (char_at(state, state->at) == '{') {
        size_t end = state->at + 1;
        while (is_hex(char_at(state, end)))
            end++;
        if (char_at(state, end) != '}' || end == state->at + 1 || end - state->at > 9)
            return refuse(state, "this \\x{…}");
        strbuf_puts(state->out, "\\x");
        strbuf_append(state->out, state->pattern + state->at, end + 1 - state->at);
        state->at = end + 1;
        return CENTO_OK;
    }
    if (!is_hex(char_at(state, state->at)) || !is_hex(char_at(state, state->at + 1)) ||
        state->pattern[state->at] > '7')
        return refuse(state, "this \\x");
    strbuf_printf(state->out, "\\x%.2s", state->pattern + state->at);
    state->at += 2;
    return CENTO_OK;
}

/* at stands on the backslash */
static cento_status put_escape(translator *state, bool in_class) {
    char kind = char_at(state, state->at + 1);
    if (state->at + 1 >= state->bytes)
        return refuse(state, "a backslash at the end");
    size_t start = state->at;
    state->at += 2;
    switch (kind) {
    case 's':
        put_members(state, SPACE_RANGES, false, in_class);
        return CENTO_OK;
    case 'S':
        if (in_class)
            strbuf_puts(state->out, "\\P{White_Space}");
        else
            put_members(state, SPACE_RANGES, true, false);
        return CENTO_OK;
    case 'w':
        put_members(state, in_class ? WORD_RANGES : WORD_RANGES_ALONE, false, in_class);
        return CENTO_OK;
    case 'h':
        put_members(state, HEX_RANGES, false, in_class);
        return CENTO_OK;
    case 'W':
    case 'H':
        if (in_class)
            break;
        put_members(state, kind == 'W' ? WORD_RANGES_ALONE : HEX_RANGES, true, false);
        return CENTO_OK;
    case 'v':
        strbuf_puts(state->out, "\\x{b}");
        return CENTO_OK;
    case 'b':
    case 'B':
        if (in_class && kind == 'b') {
            strbuf_puts(state->out, "\\x{8}");
            return CENTO_OK;
        }
        if (in_class)
            break;
        strbuf_puts(state->out, kind == 'b' ? "(?:(?<=[" WORD_RANGES_ALONE "])(?![" WORD_RANGES_ALONE
                                              "])|(?<![" WORD_RANGES_ALONE "])(?=[" WORD_RANGES_ALONE "]))"
                                            : "(?:(?<=[" WORD_RANGES_ALONE "])(?=[" WORD_RANGES_ALONE
                                              "])|(?<![" WORD_RANGES_ALONE "])(?![" WORD_RANGES_ALONE "]))");
        return CENTO_OK;
    case 'p':
    case 'P':
        return put_property(state, kind == 'P', in_class);
    case 'u':
        return put_unicode_escape(state);
    case 'x':
        return put_hex_escape(state);
    case 'd':
    case 'D':
    case 't':
    case 'n':
    case 'r':
    case 'f':
    case 'a':
    case 'e':
        strbuf_append(state->out, state->pattern + start, 2);
        return CENTO_OK;
    case 'A':
    case 'z':
    case 'Z':
    case 'G':
    case 'R':
    case 'X':
        if (in_class)
            break;
        strbuf_append(state->out, state->pattern + start, 2);
        return CENTO_OK;
    default:
        if (kind == '0' || (lower(kind) >= 'a' && lower(kind) <= 'z') || (unsigned char)kind >= 0x80 ||
            (in_class && kind >= '0' && kind <= '9'))
            break;
        strbuf_append(state->out, state->pattern + start, 2); /* punctuation, or a back reference */
        return CENTO_OK;
    }
    state->at = start;
    return refuse(state, "this escape");
}

/* ------------------------------------------------------------- classes --------------------- */

static cento_status put_posix_class(translator *state) {
    state->at += 2;
    if (char_at(state, state->at) == '^')
        return refuse(state, "a negated POSIX class");
    char name[16];
    size_t length = 0;
    while (char_at(state, state->at) >= 'a' && char_at(state, state->at) <= 'z' && length + 1 < sizeof name)
        name[length++] = state->pattern[state->at++];
    name[length] = '\0';
    if (!starts_with(state, ":]"))
        return refuse(state, "this POSIX class");
    for (size_t i = 0; i < sizeof named_sets / sizeof *named_sets; i++)
        if (strcmp(name, named_sets[i].name) == 0) {
            strbuf_puts(state->out, named_sets[i].members);
            if (strcmp(name, "punct") == 0) /* only here are symbols part of it */
                strbuf_puts(state->out, "\\p{S}");
            state->at += 2;
            return CENTO_OK;
        }
    return refuse(state, "this POSIX class");
}

/* at stands on the bracket */
static cento_status put_class(translator *state) {
    strbuf_putc(state->out, '[');
    state->at++;
    if (char_at(state, state->at) == '^') {
        strbuf_putc(state->out, '^');
        state->at++;
    }
    if (char_at(state, state->at) == ']') {
        strbuf_puts(state->out, "\\]");
        state->at++;
    }
    while (state->at < state->bytes) {
        char character = state->pattern[state->at];
        if (character == ']') {
            strbuf_putc(state->out, ']');
            state->at++;
            return CENTO_OK;
        }
        if (character == '\\') {
            TRY(put_escape(state, true));
        } else if (starts_with(state, "[:")) {
            TRY(put_posix_class(state));
        } else if (character == '[') {
            return refuse(state, "a class inside a class");
        } else if (starts_with(state, "&&")) {
            return refuse(state, "&& in a class");
        } else {
            strbuf_putc(state->out, character);
            state->at++;
        }
    }
    return refuse(state, "an unfinished class");
}

/* ------------------------------------------------------------- groups, quantifiers --------- */

/* (?imx-imx) and (?imx-imx:; at stands behind the question mark */
static cento_status put_group_options(translator *state) {
    while (state->at < state->bytes) {
        char character = state->pattern[state->at++];
        switch (character) {
        case 'i':
        case '-':
            strbuf_putc(state->out, character);
            break;
        case 'm':
            strbuf_putc(state->out, 's');
            break;
        case ')': /* holds up to the end of the group around it */
            state->depth--;
            strbuf_putc(state->out, ')');
            return CENTO_OK;
        case ':':
            strbuf_putc(state->out, ':');
            return CENTO_OK;
        default:
            state->at--;
            return refuse(state, "this group option");
        }
    }
    return refuse(state, "an unfinished group");
}

/* at stands on the parenthesis */
static cento_status put_group(translator *state) {
    static const char *const heads[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    if (starts_with(state, "(*"))
        return refuse(state, "(*…)");
    if (starts_with(state, "(?#"))
        return refuse(state, "a comment");
    if (state->depth == GROUP_DEPTH_MAX)
        return refuse(state, "a group this deep");
    state->group_begin[state->depth++] = state->out->bytes;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (starts_with(state, heads[i])) {
            strbuf_puts(state->out, heads[i]);
            state->at += strlen(heads[i]);
            return CENTO_OK;
        }
    if (!starts_with(state, "(?")) {
        strbuf_putc(state->out, '(');
        state->at++;
        return CENTO_OK;
    }
    strbuf_puts(state->out, "(?");
    state->at += 2;
    if (char_at(state, state->at) == '<') { /* a named group: copied up to its '>' */
        while (state->at < state->bytes && state->pattern[state->at] != '>')
            strbuf_putc(state->out, state->pattern[state->at++]);
        return CENTO_OK;
    }
    return put_group_options(state);
}

/* {n}, {n,}, {n,m}, {,m}; a brace that is none of these stands for itself. at stands on the brace. */
static cento_status put_interval(translator *state) {
    size_t at = state->at + 1;
    size_t low = at;
    while (char_at(state, at) >= '0' && char_at(state, at) <= '9')
        at++;
    size_t low_digits = at - low;
    bool comma = char_at(state, at) == ',';
    if (comma)
        at++;
    size_t high = at;
    while (char_at(state, at) >= '0' && char_at(state, at) <= '9')
        at++;
    size_t high_digits = at - high;
    bool interval = char_at(state, at) == '}' && (low_digits > 0 || (comma && high_digits > 0));
    if (!interval) {
        state->atom = state->out->bytes;
        strbuf_puts(state->out, "\\{");
        state->at++;
        return CENTO_OK;
    }
    char suffix = char_at(state, at + 1);
    if (suffix == '?' && !comma)
        return refuse(state, "{n}?");
    strbuf_putc(state->out, '{');
    if (low_digits == 0)
        strbuf_putc(state->out, '0');
    strbuf_append(state->out, state->pattern + low, at + 1 - low);
    state->at = at + 1;
    if (suffix == '+' && !state->out->failed) {
        strbuf quantified = {0};
        strbuf_append(&quantified, state->out->data + state->atom, state->out->bytes - state->atom);
        state->out->bytes = state->atom;
        strbuf_printf(state->out, "(?:%s)", quantified.data == NULL ? "" : quantified.data);
        if (quantified.failed)
            state->out->failed = true;
        strbuf_free(&quantified);
    }
    return CENTO_OK;
}

cento_status split_regex_translate(const char *where, const char *pattern, size_t bytes, strbuf *translated,
                                   cento_error *error) {
    if (!utf8_valid(pattern, bytes) || memchr(pattern, '\0', bytes) != NULL)
        return error_set(error, CENTO_UNSUPPORTED, "%s: the pattern is not text", where);
    if (bytes == 4 && memcmp(pattern, "\\s+$", 4) == 0) {
        /* if it fails at the head of a run it fails at every place of the run */
        strbuf_puts(translated, "(?:(?<![" SPACE_RANGES "])|\\G)[" SPACE_RANGES "]+$");
        return strbuf_check(translated, error);
    }
    translator state = {
        .where = where, .pattern = pattern, .bytes = bytes, .out = translated, .error = error};
    while (state.at < bytes) {
        char character = pattern[state.at];
        switch (character) {
        case '\\':
            state.atom = translated->bytes;
            TRY(put_escape(&state, false));
            break;
        case '[':
            state.atom = translated->bytes;
            TRY(put_class(&state));
            break;
        case '(':
            TRY(put_group(&state));
            break;
        case ')':
            if (state.depth == 0)
                return refuse(&state, "a parenthesis that closes nothing");
            state.atom = state.group_begin[--state.depth];
            strbuf_putc(translated, ')');
            state.at++;
            break;
        case '{':
            TRY(put_interval(&state));
            break;
        case '*':
        case '+':
        case '?':
            strbuf_putc(translated, character);
            state.at++;
            break;
        default: {
            uint32_t codepoint;
            size_t length = utf8_decode(pattern + state.at, bytes - state.at, &codepoint);
            state.atom = translated->bytes;
            strbuf_append(translated, pattern + state.at, length);
            state.at += length;
            break;
        }
        }
    }
    return strbuf_check(translated, error);
}
