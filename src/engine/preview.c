/* cento_compose_preview: what a request's prompt would find and cost now. On the caller's thread; registry
 * and tree are asked, not touched. */
#include "base/mem.h"
#include "generation.h"

/* A chunk computed apart that ends the prompt has its last token computed again for its logits. */
static void leave_last_token(cento_generation *generation) {
    const cascade_layout *layout = &generation->layout;
    if (layout->own_tokens > 0 || layout->segment_count == 0)
        return;
    size_t last = layout->segment_count - 1;
    if (generation->segment_cached[last] == layout->segments[last].token_count)
        generation->segment_cached[last]--;
}

static cento_status fill(cento_generation *generation, cento_preview *preview, cento_error *error) {
    cento_engine *engine = generation->engine;
    cento_segment *segments = mem_zalloc(generation->part_count, sizeof *segments);
    if (segments == NULL)
        return error_memory(error, generation->part_count * sizeof *segments);
    layout_preview found;
    generation_describe(generation, segments);
    cascade_layout_preview(&generation->layout, generation->tokens, engine->registry, engine->tree, &found,
                           generation->segment_cached);
    leave_last_token(generation);
    cached_sums sums = result_describe_cached(generation, segments);
    *preview = (cento_preview){
        .prompt_tokens = generation->prompt_tokens,
        .cached_tokens = sums.exact + sums.approximate,
        .exact_tokens = sums.exact,
        .approximate_tokens = sums.approximate,
        .computed_tokens = found.computed_tokens,
        .pages_held = found.pages_held,
        .pages_new = found.pages_new,
        .pages_available = chunk_registry_pages_available(engine->registry, PAGE_CHUNK),
        .segments = segments,
        .segment_count = generation->part_count,
    };
    return CENTO_OK;
}

cento_status cento_compose_preview(cento_engine *engine, const cento_request *request,
                                   cento_preview **preview, cento_error *error) {
    if (engine == NULL || request == NULL || preview == NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s is NULL",
                         engine == NULL    ? "engine"
                         : request == NULL ? "request"
                                           : "preview");
    cento_preview *fresh = mem_zalloc(1, sizeof *fresh);
    if (fresh == NULL)
        return error_memory(error, sizeof *fresh);
    cento_generation *generation = NULL;
    cento_status status = generation_create(engine, request, false, &generation, error);
    if (status == CENTO_OK) {
        status = fill(generation, fresh, error);
        generation_release(generation);
    }
    if (status == CENTO_OK)
        *preview = fresh;
    else
        mem_free(fresh);
    return status;
}

void cento_preview_free(cento_preview *preview) {
    if (preview == NULL)
        return;
    mem_free((void *)preview->segments);
    mem_free(preview);
}
