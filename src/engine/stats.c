/*
 * cento_engine_stats: what the engine's thread has counted as of its last round, with what the registry says
 * now. The engine's thread counts without a lock and publishes a copy.
 */
#include "engine.h"

/* Peaks are taken here, since a round begins with the most sequences. */
void engine_count_scheduled(cento_engine *engine) {
    cascade_scheduler_read_stats(engine->scheduler, &engine->scheduled);
    const scheduler_stats *scheduled = &engine->scheduled;
    cento_stats *counted = &engine->counted;
    counted->kv_logical_bytes = scheduled->logical_tokens * (engine->page_bytes / engine->limits.page_tokens);
    counted->kv_physical_bytes = (uint64_t)scheduled->pages_referenced * engine->page_bytes;
    counted->requests_running = scheduled->running;
    counted->preemptions = scheduled->preemptions;
    if (counted->kv_logical_bytes <= counted->kv_logical_bytes_peak)
        return;
    counted->kv_logical_bytes_peak = counted->kv_logical_bytes;
    counted->kv_physical_bytes_at_peak = counted->kv_physical_bytes;
}

void engine_update_stats(cento_engine *engine) {
    cento_stats *counted = &engine->counted;
    if (engine->finished != NULL)
        engine_count_scheduled(engine);
    counted->forward_tokens = engine->device->ops->counters(engine->device)->forward_tokens;
    pthread_mutex_lock(&engine->lock);
    engine->snapshot = *counted;
    pthread_mutex_unlock(&engine->lock);
}

static double savings(uint64_t physical, uint64_t logical) {
    return logical == 0 ? 0 : 1 - (double)physical / (double)logical;
}

static void add_registry(cento_engine *engine, cento_stats *stats) {
    chunk_registry_stats held;
    chunk_registry_read_stats(engine->registry, &held);
    stats->pages_total = engine->limits.page_count;
    stats->pages_chunk_used = held.pages_chunk_used;
    stats->pages_chunk_unused = held.pages_chunk_unused;
    stats->pages_free = held.pages_free;
    stats->pages_sequence = held.pages_sequence;
    stats->metadata_bytes = held.metadata_bytes;
    stats->chunks = held.chunks;
    stats->chunks_pinned = held.chunks_pinned;
    stats->kv_states = held.kv_states;
    stats->chunk_hits = held.chunk_hits;
    stats->chunk_misses = held.chunk_misses;
    stats->kv_hits = held.kv_hits;
    stats->kv_misses = held.kv_misses;
    stats->chunk_evictions = held.evictions;
    stats->chunk_expirations = held.expirations;
}

void cento_engine_stats(cento_engine *engine, cento_stats *stats) {
    if (engine == NULL) {
        *stats = (cento_stats){0};
        return;
    }
    pthread_mutex_lock(&engine->lock);
    *stats = engine->snapshot;
    stats->requests_waiting = engine->waiting;
    pthread_mutex_unlock(&engine->lock);
    stats->load_ms = engine->load_ms;
    stats->weight_bytes = engine->weight_bytes;
    stats->kv_pool_bytes = engine->kv_pool_bytes;
    stats->context_tokens_max = engine->limits.context_tokens_max;
    stats->page_tokens = engine->limits.page_tokens;
    stats->model_name = engine->model_name;
    stats->backend = engine->backend_name;
    stats->memory_savings = savings(stats->kv_physical_bytes, stats->kv_logical_bytes);
    stats->memory_savings_peak = savings(stats->kv_physical_bytes_at_peak, stats->kv_logical_bytes_peak);
    add_registry(engine, stats);
}
