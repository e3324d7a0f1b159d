/* The input is a chat template; it is compiled and rendered with a fixed context. */
#include <stdlib.h>

#include "base/mem.h"
#include "text/template.h"

static const char context_text[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": "
    "\"h\xC3\xA9 "
    "\xF0\x9F\x98\x80 <b>\"}, {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": "
    "\"123456789\", "
    "\"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1, \"y\": [1.5, true, null]}}}]}], \"tools\": "
    "[{\"type\": "
    "\"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\"}}}], \"a\": 3, "
    "\"f\": 2.5, "
    "\"s\": \"a b,c\", \"l\": [3, 1, 2], \"d\": {\"k\": \"v\", \"2\": {}}, \"add_generation_prompt\": true}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static json_t *context;
    static const template_options options = {
        .steps_max = 100000, .output_bytes_max = 1u << 20, .memory_bytes_max = 16u << 20};
    if (context == NULL)
        context = json_loads(context_text, 0, NULL);
    cento_error error;
    chat_template *compiled;
    if (context == NULL)
        abort();
    if (chat_template_compile("fuzz", (const char *)data, bytes, &compiled, &error) != CENTO_OK)
        return 0;
    strbuf text = {0};
    if (template_render(compiled, context, &options, &text, &error) == CENTO_OK &&
        text.bytes > options.output_bytes_max)
        abort();
    strbuf_free(&text);
    chat_template_free(compiled);
    return 0;
}
