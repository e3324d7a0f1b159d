/* UTF-8 as in RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef CENTO_BASE_UTF8_H
#define CENTO_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_REPLACEMENT 0xFFFDu

/* Bytes of the character that starts at text (1 to 4) and its code point; 0 if what stands there is
 * not a whole, valid character. */
size_t utf8_decode(const char *text, size_t bytes, uint32_t *codepoint);

/* Writes 1 to 4 bytes; code points that cannot be encoded become U+FFFD. */
size_t utf8_encode(uint32_t codepoint, char encoded[4]);

/* SIZE_MAX if all is valid, else the offset of the first byte that is not. */
size_t utf8_invalid_offset(const char *text, size_t bytes);
static inline bool utf8_valid(const char *text, size_t bytes) {
    return utf8_invalid_offset(text, bytes) == SIZE_MAX;
}

/* Length of the longest prefix that does not end inside a character: what may be streamed. A tail
 * that can never become valid counts as complete. */
size_t utf8_complete_prefix(const char *text, size_t bytes);

/* Bytes of the maximal invalid subpart at text (Unicode 3.9, U+FFFD substitution; W3C practice as in
 * Python and Rust), at least 1. To be called where utf8_decode gave 0 and bytes > 0. */
size_t utf8_invalid_subpart(const char *text, size_t bytes);

#endif
