/* The public header's small things: version, names of enumerated values, defaults, parsing of a mode. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"

const char *cento_version(void) {
    return CENTO_VERSION;
}

const char *cento_kind_name(cento_kind kind) {
    switch (kind) {
    case CENTO_KIND_SYSTEM:
        return "system";
    case CENTO_KIND_CONTEXT:
        return "context";
    case CENTO_KIND_QUERY:
        return "query";
    case CENTO_KIND_OUTPUT:
        return "output";
    case CENTO_KIND_TOOL:
        return "tool";
    }
    return "unknown";
}

const char *cento_finish_name(cento_finish finish) {
    switch (finish) {
    case CENTO_FINISH_STOP:
        return "stop";
    case CENTO_FINISH_LENGTH:
        return "length";
    case CENTO_FINISH_CANCELLED:
        return "cancelled";
    }
    return "unknown";
}

const char *cento_source_name(cento_source source) {
    switch (source) {
    case CENTO_SOURCE_COMPUTED:
        return "computed";
    case CENTO_SOURCE_EXACT:
        return "exact";
    case CENTO_SOURCE_APPROXIMATE:
        return "approximate";
    }
    return "unknown";
}

cento_options cento_options_default(void) {
    return (cento_options){
        .device = "auto",
        .attention = "auto",
        .compute_dtype = CENTO_DTYPE_BF16,
        .enable_cascade = true,
        .enable_reuse = true,
        .chunk_page_borrow = true,
    };
}

cento_request cento_request_default(void) {
    return (cento_request){
        .mode = CENTO_MODE_EXACT,
        .sampling = {.temperature = 0, .top_p = 1, .repetition_penalty = 1},
    };
}

cento_status cento_mode_parse(const char *text, cento_mode *mode, uint32_t *link_tokens, cento_error *error) {
    if (text != NULL && strcmp(text, "exact") == 0) {
        *mode = CENTO_MODE_EXACT;
        *link_tokens = 0;
        return CENTO_OK;
    }
    if (text != NULL && strcmp(text, "independent") == 0) {
        *mode = CENTO_MODE_INDEPENDENT;
        *link_tokens = 0;
        return CENTO_OK;
    }
    if (text != NULL && strncmp(text, "link:", 5) == 0) {
        const char *digits = text + 5;
        size_t digit_count = strspn(digits, "0123456789");
        if (digit_count >= 1 && digit_count <= 9 && digits[digit_count] == '\0') {
            *mode = CENTO_MODE_LINK;
            *link_tokens = (uint32_t)strtoul(digits, NULL, 10);
            return CENTO_OK;
        }
    }
    return error_set(error, CENTO_INVALID_ARGUMENT,
                     "mode '%s': expected \"exact\", \"independent\" or \"link:\" and a number of tokens",
                     text == NULL ? "" : text);
}

void cento_free(void *memory) {
    mem_free(memory);
}
