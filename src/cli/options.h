/*
 * The option parser that all commands share. A command describes its options in tables; parsing, range
 * checks, messages, suggestions for misspelt names and the help page all come from these tables.
 *
 * Syntax: --name value, --name=value, flags without a value, "--" ends the options, --help anywhere.
 * Every failure prints a message and the usage line to standard error and gives exit status 2.
 */
#ifndef CENTO_CLI_OPTIONS_H
#define CENTO_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "commands.h"

typedef enum option_type {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char *; the last one given counts */
    OPTION_U32,    /* uint32_t in [min, max] */
    OPTION_U64,    /* option_u64 */
    OPTION_NUMBER, /* float in [min, max] */
    OPTION_BYTES,  /* uint64_t: a number, with K, M, G or T behind it a power of 1024; at least min */
    OPTION_CHOICE, /* int: which of the words of value_name ("bf16|f32") */
    OPTION_LIST,   /* option_list; may be given several times, lists may be shared to keep the order */
} option_type;

typedef struct option_spec {
    const char *name; /* without the dashes */
    option_type type;
    size_t offset;          /* of the target in the group's struct */
    const char *value_name; /* "DIR"; NULL for flags */
    double min, max;        /* U32, NUMBER; both inclusive */
    const char *help;
} option_spec;

typedef struct option_group {
    const char *title; /* heading in the help page */
    const option_spec *specs;
    size_t spec_count;
    void *target; /* the struct that the offsets are in */
} option_group;

typedef struct option_u64 {
    bool set;
    uint64_t value;
} option_u64;

typedef struct option_value {
    const option_spec *spec;
    const char *text; /* points into argv */
} option_value;

typedef struct option_list {
    option_value *items; /* owned; option_list_free */
    size_t count;
    size_t capacity;
} option_list;

void option_list_free(option_list *list);

/* A count of tokens, threads, …: what most U32 options may be at most. */
#define OPTION_COUNT_MAX 4294967295.0

/* Fills in the groups' targets. Positional arguments are moved to the front of argv, *argc is set to their
 * number. Returns -1 to go on, else the exit status (after --help or a mistake). */
int options_parse(const command *self, const option_group *groups, size_t group_count, int *argc,
                  char **argv);

/* "cento: MESSAGE", the usage line, where to read more. Returns EXIT_STATUS_USAGE. */
int usage_error(const command *self, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Of `names`, the one most like `word`; NULL if none is near. */
const char *nearest_name(const char *word, const char *const *names, size_t count);

/* Numbers as the options read them: decimal, all of the text, in the range of the type. */
bool parse_u64(const char *text, uint64_t *value);
bool parse_i32(const char *text, int32_t *value);
bool parse_number(const char *text, double *value);

#endif
