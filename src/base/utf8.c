/* UTF-8 decoding and encoding; see utf8.h. Pure functions. */
#include "utf8.h"

/* Length by lead byte, and the range that the second byte must lie in (Unicode table 3-7). */
static size_t lead(unsigned char byte, unsigned char *second_min, unsigned char *second_max) {
    *second_min = 0x80;
    *second_max = 0xBF;
    if (byte < 0x80)
        return 1;
    if (byte >= 0xC2 && byte <= 0xDF)
        return 2;
    if (byte >= 0xE0 && byte <= 0xEF) {
        if (byte == 0xE0)
            *second_min = 0xA0;
        if (byte == 0xED)
            *second_max = 0x9F;
        return 3;
    }
    if (byte >= 0xF0 && byte <= 0xF4) {
        if (byte == 0xF0)
            *second_min = 0x90;
        if (byte == 0xF4)
            *second_max = 0x8F;
        return 4;
    }
    return 0;
}

/* How many bytes at text belong together: the whole character, or the valid start of one. */
static size_t valid_bytes(const unsigned char *text, size_t bytes, size_t *length) {
    unsigned char second_min, second_max;
    *length = lead(text[0], &second_min, &second_max);
    if (*length == 0)
        return 0;
    size_t valid = 1;
    while (valid < *length && valid < bytes) {
        unsigned char min = valid == 1 ? second_min : 0x80;
        unsigned char max = valid == 1 ? second_max : 0xBF;
        if (text[valid] < min || text[valid] > max)
            break;
        valid++;
    }
    return valid;
}

size_t utf8_decode(const char *text, size_t bytes, uint32_t *codepoint) {
    const unsigned char *byte = (const unsigned char *)text;
    if (bytes == 0)
        return 0;
    size_t length;
    if (valid_bytes(byte, bytes, &length) < length || length == 0)
        return 0;
    static const unsigned char lead_mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t value = byte[0] & lead_mask[length];
    for (size_t i = 1; i < length; i++)
        value = value << 6 | (byte[i] & 0x3F);
    *codepoint = value;
    return length;
}

size_t utf8_encode(uint32_t codepoint, char encoded[4]) {
    if (codepoint > 0x10FFFF || (codepoint >= 0xD800 && codepoint <= 0xDFFF))
        codepoint = UTF8_REPLACEMENT;
    if (codepoint < 0x80) {
        encoded[0] = (char)codepoint;
        return 1;
    }
    if (codepoint < 0x800) {
        encoded[0] = (char)(0xC0 | codepoint >> 6);
        encoded[1] = (char)(0x80 | (codepoint & 0x3F));
        return 2;
    }
    if (codepoint < 0x10000) {
        encoded[0] = (char)(0xE0 | codepoint >> 12);
        encoded[1] = (char)(0x80 | (codepoint >> 6 & 0x3F));
        encoded[2] = (char)(0x80 | (codepoint & 0x3F));
        return 3;
    }
    encoded[0] = (char)(0xF0 | codepoint >> 18);
    encoded[1] = (char)(0x80 | (codepoint >> 12 & 0x3F));
    encoded[2] = (char)(0x80 | (codepoint >> 6 & 0x3F));
    encoded[3] = (char)(0x80 | (codepoint & 0x3F));
    return 4;
}

size_t utf8_invalid_offset(const char *text, size_t bytes) {
    size_t offset = 0;
    while (offset < bytes) {
        uint32_t codepoint;
        size_t length = utf8_decode(text + offset, bytes - offset, &codepoint);
        if (length == 0)
            return offset;
        offset += length;
    }
    return SIZE_MAX;
}

size_t utf8_complete_prefix(const char *text, size_t bytes) {
    size_t back = bytes < 3 ? bytes : 3;
    for (size_t i = 1; i <= back; i++) {
        const unsigned char *start = (const unsigned char *)text + bytes - i;
        size_t length;
        if (valid_bytes(start, i, &length) == i && length > i)
            return bytes - i;
        if ((*start & 0xC0) != 0x80)
            break;
    }
    return bytes;
}

size_t utf8_invalid_subpart(const char *text, size_t bytes) {
    size_t length;
    size_t valid = valid_bytes((const unsigned char *)text, bytes, &length);
    return valid == 0 ? 1 : valid;
}
