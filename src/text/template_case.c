/*
 * Methods of str that change the case of characters or ask for their kind. One render per thread.
 */
#include "template.h"

#include <utf8proc.h>

#include "base/utf8.h"

/* ---------------------------------------------------------------------------------- case ---- */

typedef enum case_mode { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_SWAP } case_mode;

static bool is_cased(uint32_t c) {
    return character_is_upper(c) || character_is_lower(c) || character_is_title(c);
}

static bool is_case_ignorable(uint32_t c) {
    utf8proc_category_t kind = utf8proc_category((utf8proc_int32_t)c);
    return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_ME || kind == UTF8PROC_CATEGORY_CF ||
           kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' ||
           c == ':' || c == 0xB7 || c == 0x387 || c == 0x2018 || c == 0x2019 || c == 0x2024 || c == 0x2027;
}

/* A capital sigma at the end of a word has a small form of its own. */
static bool is_final_sigma(const string *t, size_t at) {
    uint32_t c;
    bool before = false;
    for (size_t i = 0; i < at;) {
        i += utf8_decode(t->data + i, t->bytes - i, &c);
        if (!is_case_ignorable(c))
            before = is_cased(c);
    }
    for (size_t i = at + 2; i < t->bytes && before;) {
        i += utf8_decode(t->data + i, t->bytes - i, &c);
        if (!is_case_ignorable(c))
            return !is_cased(c);
    }
    return before;
}

static cento_status change_case(render *r, const string *t, case_mode mode, value *result) {
    size_t begin = render_begin(r);
    bool after_cased = false;
    for (size_t at = 0; at < t->bytes;) {
        uint32_t c, mapped[3] = {0, 0, 0};
        size_t length = utf8_decode(t->data + at, t->bytes - at, &c), count;
        bool lower = mode == CASE_LOWER || (mode == CASE_TITLE && after_cased) ||
                     (mode == CASE_CAPITAL && at > 0) || (mode == CASE_SWAP && character_is_upper(c));
        if (lower && c == 0x3A3) {
            TRY(render_step(r, t->bytes));
            mapped[0] = is_final_sigma(t, at) ? 0x3C2 : 0x3C3;
            count = 1;
        } else if (lower) {
            count = character_lower(c, mapped);
        } else if (mode == CASE_TITLE || mode == CASE_CAPITAL) {
            count = character_title(c, mapped);
        } else if (mode == CASE_SWAP && !character_is_lower(c)) {
            mapped[0] = c;
            count = 1;
        } else {
            count = character_upper(c, mapped);
        }
        for (size_t i = 0; i < count; i++) {
            char encoded[4];
            TRY(render_append(r, encoded, utf8_encode(mapped[i], encoded)));
        }
        after_cased = is_cased(c);
        at += length;
    }
    return text_finish(r, begin, t, result);
}

cento_status text_upper(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return change_case(r, self.as.text, CASE_UPPER, result);
}

cento_status text_lower(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return change_case(r, self.as.text, CASE_LOWER, result);
}

cento_status text_title(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return change_case(r, self.as.text, CASE_TITLE, result);
}

cento_status text_capitalize(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return change_case(r, self.as.text, CASE_CAPITAL, result);
}

cento_status text_swapcase(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return change_case(r, self.as.text, CASE_SWAP, result);
}

/* --------------------------------------------------------------------------- character kinds ---- */

static cento_status all_characters(render *r, value self, bool (*holds)(uint32_t), bool if_empty,
                                   value *result) {
    const string *t = self.as.text;
    bool all = t->bytes > 0 || if_empty;
    for (size_t at = 0; at < t->bytes && all;) {
        uint32_t c;
        at += utf8_decode(t->data + at, t->bytes - at, &c);
        all = holds(c);
    }
    *result = value_bool(all);
    return render_step(r, t->bytes);
}

static bool is_alnum(uint32_t c) {
    return character_is_alpha(c) || character_is_digit(c) || character_is_numeric(c);
}

static bool is_numeric(uint32_t c) {
    return character_is_digit(c) || character_is_numeric(c);
}

static bool is_ascii(uint32_t c) {
    return c < 128;
}

cento_status text_isalnum(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return all_characters(r, self, is_alnum, false, result);
}

cento_status text_isalpha(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return all_characters(r, self, character_is_alpha, false, result);
}

cento_status text_isascii(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return all_characters(r, self, is_ascii, true, result);
}

cento_status text_isdecimal(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return all_characters(r, self, character_is_decimal, false, result);
}

cento_status text_isdigit(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return all_characters(r, self, character_is_digit, false, result);
}

cento_status text_isnumeric(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return all_characters(r, self, is_numeric, false, result);
}

cento_status text_isspace(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return all_characters(r, self, character_is_space, false, result);
}

cento_status text_isprintable(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return all_characters(r, self, character_is_printable, true, result);
}

/* At least one cased character, and none of the other case. */
static cento_status one_case(render *r, value self, bool upper, value *result) {
    const string *t = self.as.text;
    bool found = false;
    *result = value_bool(false);
    for (size_t at = 0; at < t->bytes;) {
        uint32_t c;
        at += utf8_decode(t->data + at, t->bytes - at, &c);
        if (character_is_title(c) || (upper ? character_is_lower(c) : character_is_upper(c)))
            return CENTO_OK;
        found = found || is_cased(c);
    }
    *result = value_bool(found);
    return render_step(r, t->bytes);
}

cento_status text_isupper(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return one_case(r, self, true, result);
}

cento_status text_islower(render *r, value self, const call_args *arguments, value *result) {
    (void)arguments;
    return one_case(r, self, false, result);
}
