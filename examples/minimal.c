/* The smallest program that embeds cento: one document, one question, one answer. */
#include <cento.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *document = "Crystalton is a quiet town. It lies in Wernmark and stands on the river Vell.";
    const char *question = "Where is Crystalton?";
    cento_error error;
    cento_engine *engine = NULL;
    cento_result *result = NULL;

    cento_options options = cento_options_default();
    options.model_path = argc > 1 ? argv[1] : "models/cento-tiny";
    cento_status status = cento_open(&options, &engine, &error);
    if (status == CENTO_OK) {
        cento_piece pieces[] = {
            {.kind = CENTO_KIND_CONTEXT, .text = document, .text_bytes = strlen(document)},
            {.kind = CENTO_KIND_QUERY, .text = question, .text_bytes = strlen(question)},
        };
        cento_request request = cento_request_default();
        request.pieces = pieces;
        request.piece_count = sizeof pieces / sizeof pieces[0];
        status = cento_generate(engine, &request, &result, &error);
    }
    if (status == CENTO_OK)
        printf("%s\n", result->text);
    else
        fprintf(stderr, "minimal: %s\n", error.message);
    cento_result_free(result);
    cento_close(engine);
    return status == CENTO_OK ? 0 : 1;
}
