/*
 * split_regex: the regular expressions of tokenizers. They are written for Oniguruma (Ruby's syntax), and
 * run here on PCRE2 with JIT, so they are translated first: what the two mean differently (\s, \w, \b, \h,
 * \v, \uHHHH, {n,m}+, scripts, POSIX classes) is rewritten, what cannot be is refused by name. A compiled
 * expression is immutable and shared by all threads; each call has its own regex_scratch.
 */
#ifndef CENTO_TEXT_SPLIT_REGEX_H
#define CENTO_TEXT_SPLIT_REGEX_H

#include "base/strbuf.h"

typedef struct split_regex split_regex;

/* literal: the pattern's characters stand for themselves. `where` begins error messages. */
cento_status split_regex_compile(const char *where, const char *pattern, size_t bytes, bool literal,
                                 split_regex **result, cento_error *error);
void split_regex_free(split_regex *regex);

/* The translation alone, for tests: appends the PCRE2 pattern. */
cento_status split_regex_translate(const char *where, const char *pattern, size_t bytes, strbuf *translated,
                                   cento_error *error);

/* What one thread needs to match: zero-initialise, made on first use, freed by regex_scratch_free. */
typedef struct regex_scratch {
    void *match_data;
    void *match_context;
} regex_scratch;
void regex_scratch_free(regex_scratch *scratch);

/* Walks over the matches in text (valid UTF-8), left to right, without overlap. An empty match right behind
 * the match before it is passed over. Nothing before text is seen by lookbehind. */
typedef struct regex_walk {
    const split_regex *regex;
    regex_scratch *scratch; /* borrowed */
    const char *text;
    size_t bytes;
    size_t next;         /* where the search goes on */
    size_t last_end;     /* of the match before */
    bool matched, ended; /* a match was given; no more will be */
} regex_walk;
void regex_walk_begin(regex_walk *walk, const split_regex *regex, regex_scratch *scratch, const char *text,
                      size_t bytes);
/* *found false: there are no more. */
cento_status regex_walk_next(regex_walk *walk, bool *found, size_t *begin, size_t *end, cento_error *error);

#endif
