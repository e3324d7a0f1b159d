/* The option parser; see options.h. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "term.h"

enum { NAMES_MAX = 128, NAME_BYTES_MAX = 48 };

/* ------------------------------------------------------------------------------ numbers --- */

bool parse_u64(const char *text, uint64_t *value) {
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    char *end;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *value = parsed;
    return true;
}

bool parse_i32(const char *text, int32_t *value) {
    bool negative = *text == '-';
    uint64_t magnitude;
    if (!parse_u64(text + negative, &magnitude) || magnitude > INT32_MAX)
        return false;
    *value = negative ? -(int32_t)magnitude : (int32_t)magnitude;
    return true;
}

bool parse_number(const char *text, double *value) {
    /* strtod also reads blanks, hexadecimal, "inf" and "nan", which nobody means here */
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    errno = 0;
    char *end;
    double parsed = strtod(text, &end);
    if (*end != '\0' || !isfinite(parsed))
        return false;
    *value = parsed;
    return true;
}

static bool parse_bytes(const char *text, uint64_t *value) {
    static const char units[] = "KMGT";
    char digits[24];
    size_t count = strspn(text, "0123456789");
    if (count == 0 || count >= sizeof digits)
        return false;
    memcpy(digits, text, count);
    digits[count] = '\0';
    const char *unit = text[count] == '\0' ? NULL : strchr(units, text[count]);
    if (!parse_u64(digits, value) || (text[count] != '\0' && (unit == NULL || text[count + 1] != '\0')))
        return false;
    unsigned shift = unit == NULL ? 0 : 10 * (unsigned)(unit - units + 1);
    if (*value > UINT64_MAX >> shift)
        return false;
    *value <<= shift;
    return true;
}

/* -------------------------------------------------------------------------- suggestions --- */

/* Edits (insert, delete, replace, swap of neighbours) that turn one word into the other. */
static size_t edit_distance(const char *from, const char *to) {
    size_t rows[3][NAME_BYTES_MAX + 1];
    size_t from_bytes = strlen(from), to_bytes = strlen(to);
    if (from_bytes > NAME_BYTES_MAX || to_bytes > NAME_BYTES_MAX)
        return NAME_BYTES_MAX;
    for (size_t j = 0; j <= to_bytes; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= from_bytes; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *above_two = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= to_bytes; j++) {
            size_t best = above[j - 1] + (from[i - 1] != to[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] &&
                above_two[j - 2] + 1 < best)
                best = above_two[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[from_bytes % 3][to_bytes];
}

const char *nearest_name(const char *word, const char *const *names, size_t count) {
    const char *nearest = NULL;
    size_t nearest_distance = strlen(word) / 3 + 2; /* farther ones are other words */
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, names[i]);
        if (distance < nearest_distance) {
            nearest = names[i];
            nearest_distance = distance;
        }
    }
    return nearest;
}

/* ------------------------------------------------------------------------------ messages --- */

int usage_error(const command *self, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    message_error("%s", message);
    fprintf(stderr, "usage: cento %s %s\nMore: cento help %s\n", self->name, self->usage, self->name);
    return EXIT_STATUS_USAGE;
}

static int unknown_option(const command *self, const option_group *groups, size_t group_count,
                          const char *name) {
    const char *names[NAMES_MAX];
    size_t count = 0;
    names[count++] = "help";
    for (size_t g = 0; g < group_count; g++)
        for (size_t s = 0; s < groups[g].spec_count && count < NAMES_MAX; s++)
            names[count++] = groups[g].specs[s].name;
    const char *nearest = nearest_name(name, names, count);
    if (nearest != NULL)
        return usage_error(self, "unknown option --%s; did you mean --%s?", name, nearest);
    return usage_error(self, "unknown option --%s", name);
}

/* ---------------------------------------------------------------------------- help page --- */

static void print_option(const option_spec *spec, size_t columns) {
    enum { INDENT = 30 };
    strbuf head = {0};
    strbuf_printf(&head, "  --%s", spec->name);
    if (spec->value_name != NULL)
        strbuf_printf(&head, " %s", spec->value_name);
    size_t width = text_width(head.data, head.bytes);
    printf("%s", head.data);
    if (width + 2 > INDENT)
        printf("\n%*s", INDENT, "");
    else
        printf("%*s", (int)(INDENT - width), "");
    strbuf_free(&head);
    print_wrapped(stdout, spec->help, INDENT, columns);
}

static void print_help(const command *self, const option_group *groups, size_t group_count) {
    size_t columns = term_columns(stdout);
    if (columns > 100)
        columns = 100;
    const char *bold = style(stdout, STYLE_BOLD), *plain = style(stdout, STYLE_PLAIN);
    printf("%susage:%s cento %s %s\n\n", bold, plain, self->name, self->usage);
    print_wrapped(stdout, self->details, 0, columns);
    for (size_t g = 0; g < group_count; g++) {
        printf("\n%s%s%s\n", bold, groups[g].title, plain);
        for (size_t s = 0; s < groups[g].spec_count; s++)
            print_option(&groups[g].specs[s], columns);
    }
    if (self->examples != NULL)
        printf("\n%sExamples%s\n%s", bold, plain, self->examples);
}

/* ------------------------------------------------------------------------------ parsing --- */

void option_list_free(option_list *list) {
    mem_free(list->items);
    *list = (option_list){0};
}

static int store_choice(const command *self, const option_spec *spec, int *target, const char *text) {
    size_t bytes = strlen(text);
    const char *word = spec->value_name;
    for (int index = 0;; index++) {
        size_t word_bytes = strcspn(word, "|");
        if (bytes == word_bytes && memcmp(word, text, bytes) == 0) {
            *target = index;
            return -1;
        }
        if (word[word_bytes] == '\0')
            return usage_error(self, "--%s: expected %s, found '%s'", spec->name, spec->value_name, text);
        word += word_bytes + 1;
    }
}

static int store(const command *self, const option_group *group, const option_spec *spec, const char *text) {
    void *target = (char *)group->target + spec->offset;
    uint64_t integer = 0;
    double number = 0;
    switch (spec->type) {
    case OPTION_FLAG:
        *(bool *)target = true;
        return -1;
    case OPTION_TEXT:
        *(const char **)target = text;
        return -1;
    case OPTION_U32:
        if (!parse_u64(text, &integer) || (double)integer < spec->min || (double)integer > spec->max)
            return spec->max >= OPTION_COUNT_MAX - 1
                       ? usage_error(self, "--%s: expected a whole number, %.0f or more, found '%s'",
                                     spec->name, spec->min, text)
                       : usage_error(self, "--%s: expected a whole number from %.0f to %.0f, found '%s'",
                                     spec->name, spec->min, spec->max, text);
        *(uint32_t *)target = (uint32_t)integer;
        return -1;
    case OPTION_U64:
        if (!parse_u64(text, &integer))
            return usage_error(self,
                               "--%s: expected a whole number from 0 to 18446744073709551615, found '%s'",
                               spec->name, text);
        *(option_u64 *)target = (option_u64){.set = true, .value = integer};
        return -1;
    case OPTION_NUMBER:
        if (!parse_number(text, &number) || number < spec->min || number > spec->max)
            return usage_error(self, "--%s: expected a number from %g to %g, found '%s'", spec->name,
                               spec->min, spec->max, text);
        *(float *)target = (float)number;
        return -1;
    case OPTION_BYTES:
        if (!parse_bytes(text, &integer) || (double)integer < spec->min)
            return usage_error(
                self, "--%s: expected a number of bytes, %.0f or more, as in 100000, 64M or 2G, found '%s'",
                spec->name, spec->min, text);
        *(uint64_t *)target = integer;
        return -1;
    case OPTION_CHOICE:
        return store_choice(self, spec, target, text);
    case OPTION_LIST: {
        option_list *list = target;
        if (!mem_grow((void **)&list->items, &list->capacity, list->count + 1, sizeof *list->items)) {
            message_error("out of memory");
            return EXIT_STATUS_FAILURE;
        }
        list->items[list->count++] = (option_value){.spec = spec, .text = text};
        return -1;
    }
    }
    return -1;
}

static const option_spec *find_option(const option_group *groups, size_t group_count, const char *name,
                                      const option_group **group) {
    for (size_t g = 0; g < group_count; g++)
        for (size_t s = 0; s < groups[g].spec_count; s++)
            if (strcmp(groups[g].specs[s].name, name) == 0) {
                *group = &groups[g];
                return &groups[g].specs[s];
            }
    return NULL;
}

/* One option at argv[*index]; moves *index over its value. */
static int parse_option(const command *self, const option_group *groups, size_t group_count, int argc,
                        char **argv, int *index) {
    const char *argument = argv[*index] + 2;
    size_t name_bytes = strcspn(argument, "=");
    if (name_bytes > NAME_BYTES_MAX)
        return usage_error(self, "unknown option --%.20s…", argument);
    char name[NAME_BYTES_MAX + 1];
    memcpy(name, argument, name_bytes);
    name[name_bytes] = '\0';
    const char *value = argument[name_bytes] == '=' ? argument + name_bytes + 1 : NULL;

    const option_group *group = NULL;
    const option_spec *spec = find_option(groups, group_count, name, &group);
    if (spec == NULL)
        return unknown_option(self, groups, group_count, name);
    if (spec->type == OPTION_FLAG) {
        if (value != NULL)
            return usage_error(self, "--%s takes no value, found '%s'", name, value);
        return store(self, group, spec, NULL);
    }
    if (value == NULL) {
        const char *next = *index + 1 < argc ? argv[*index + 1] : NULL;
        const option_group *unused;
        /* a forgotten value would swallow the option after it */
        if (next != NULL && strncmp(next, "--", 2) == 0 &&
            find_option(groups, group_count, next + 2, &unused) != NULL)
            return usage_error(self, "--%s: expected %s, found the option %s (--%s=%s if you mean that)",
                               name, spec->value_name, next, name, next);
        if (next == NULL)
            return usage_error(self, "--%s: expected %s after it", name, spec->value_name);
        value = next;
        ++*index;
    }
    return store(self, group, spec, value);
}

int options_parse(const command *self, const option_group *groups, size_t group_count, int *argc,
                  char **argv) {
    int positional_count = 0;
    bool options_ended = false;
    for (int i = 0; i < *argc; i++) {
        char *argument = argv[i];
        if (options_ended || argument[0] != '-' || argument[1] == '\0') {
            argv[positional_count++] = argument;
        } else if (strcmp(argument, "--") == 0) {
            options_ended = true;
        } else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            print_help(self, groups, group_count);
            return EXIT_STATUS_OK;
        } else if (argument[1] != '-') {
            return usage_error(self, "unknown option %s; options have two dashes, and \"--\" ends them",
                               argument);
        } else {
            int status = parse_option(self, groups, group_count, *argc, argv, &i);
            if (status >= 0)
                return status;
        }
    }
    *argc = positional_count;
    return -1;
}
