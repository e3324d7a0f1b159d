/* Memory on the device, what fails there, and how host arrays get there. See cuda.h. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cuda.h"

cento_status cuda_error(cudaError_t code, const char *call, cento_error *error) {
    cudaGetLastError(); /* what is not fatal does not show up in the next call */
    return error_set(error, code == cudaErrorMemoryAllocation ? CENTO_OUT_OF_MEMORY : CENTO_BACKEND,
                     "CUDA: %s: %s (%.*s)", cudaGetErrorName(code), cudaGetErrorString(code),
                     (int)strcspn(call, "("), call);
}

cento_status cuda_allocate(size_t bytes, const char *purpose, void **memory, cento_error *error) {
    cudaError_t code = cudaMalloc(memory, bytes == 0 ? 1 : bytes);
    if (code == cudaSuccess)
        return CENTO_OK;
    if (code != cudaErrorMemoryAllocation)
        return cuda_error(code, "cudaMalloc", error);
    cudaGetLastError();
    size_t available = 0, total = 0;
    cudaMemGetInfo(&available, &total);
    return error_set(error, CENTO_OUT_OF_MEMORY,
                     "the GPU is out of memory: %.1f MB wanted for %s, %.1f of %.1f MB free",
                     (double)bytes / 1e6, purpose, (double)available / 1e6, (double)total / 1e6);
}

cento_status device_buffer_reserve(cuda_backend *self, device_buffer *buffer, size_t bytes,
                                   const char *purpose, cento_error *error) {
    if (bytes <= buffer->bytes)
        return CENTO_OK;
    size_t grown = bytes < buffer->bytes + buffer->bytes / 2 ? buffer->bytes + buffer->bytes / 2 : bytes;
    void *memory = NULL;
    TRY(cuda_allocate(grown, purpose, &memory, error));
    CUDA_TRY(cudaStreamSynchronize(self->stream), error); /* the old one may be in use */
    self->addresses += buffer->memory != NULL;
    cudaFree(buffer->memory);
    *buffer = (device_buffer){memory, grown};
    return CENTO_OK;
}

void device_buffer_free(device_buffer *buffer) {
    cudaFree(buffer->memory); /* NULL is allowed */
    *buffer = (device_buffer){0};
}

/* ------------------------------------------------------------------------------- staging ---- */

cento_status cuda_staging_create(cuda_staging *staging, cento_error *error) {
    CUDA_TRY(cudaHostAlloc((void **)&staging->memory, STAGING_PARTS * (size_t)STAGING_PART_BYTES,
                           cudaHostAllocDefault),
             error);
    for (int part = 0; part < STAGING_PARTS; part++)
        CUDA_TRY(cudaEventCreateWithFlags(&staging->done[part], cudaEventDisableTiming), error);
    return CENTO_OK;
}

void cuda_staging_free(cuda_staging *staging) {
    for (int part = 0; part < STAGING_PARTS; part++)
        if (staging->done[part] != NULL)
            cudaEventDestroy(staging->done[part]);
    if (staging->memory != NULL)
        cudaFreeHost(staging->memory);
    *staging = (cuda_staging){0};
}

cento_status cuda_stage(cuda_backend *self, void *to, const void *from, size_t bytes, cento_error *error) {
    cuda_staging *staging = &self->staging;
    for (size_t done = 0; done < bytes;) {
        size_t taken = bytes - done < STAGING_PART_BYTES ? bytes - done : STAGING_PART_BYTES;
        uint32_t part = staging->part;
        char *memory = staging->memory + (size_t)part * STAGING_PART_BYTES;
        CUDA_TRY(cudaEventSynchronize(staging->done[part]), error); /* true at once if it never ran */
        memcpy(memory, (const char *)from + done, taken);
        CUDA_TRY(cudaMemcpyAsync((char *)to + done, memory, taken, cudaMemcpyHostToDevice, self->stream),
                 error);
        CUDA_TRY(cudaEventRecord(staging->done[part], self->stream), error);
        staging->part = (part + 1) % STAGING_PARTS;
        done += taken;
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------------- arrays of a step -- */

cento_status cuda_upload_array(cuda_backend *self, cuda_upload *upload, const void *host, size_t bytes,
                               const void **memory, cento_error *error) {
    if (upload->held == NULL || upload->held_bytes != bytes || memcmp(upload->held, host, bytes) != 0) {
        upload->held_bytes = 0; /* nothing is held if this fails */
        if (bytes > upload->held_capacity || upload->held == NULL) {
            void *held = mem_realloc(upload->held, bytes, 1);
            if (held == NULL)
                return error_memory(error, bytes);
            upload->held = held;
            upload->held_capacity = bytes;
        }
        TRY(device_buffer_reserve(self, &upload->device, bytes, "the rows of a step", error));
        TRY(cuda_stage(self, upload->device.memory, host, bytes, error));
        memcpy(upload->held, host, bytes);
        upload->held_bytes = bytes;
    }
    *memory = upload->device.memory;
    return CENTO_OK;
}

void cuda_upload_free(cuda_upload *upload) {
    device_buffer_free(&upload->device);
    mem_free(upload->held);
    *upload = (cuda_upload){0};
}

cento_status cuda_turns(cuda_backend *self, const rope_table *rope, uint32_t half, const double **turns,
                        cento_error *error) {
    if (self->turns_count != half || memcmp(self->inv_freq, rope->inv_freq, half * sizeof(double)) != 0) {
        self->turns_count = 0;
        double *inv_freq = mem_realloc(self->inv_freq, half, sizeof *inv_freq);
        if (inv_freq == NULL)
            return error_memory(error, half * sizeof *inv_freq);
        self->inv_freq = inv_freq;
        for (uint32_t i = 0; i < half; i++)
            inv_freq[i] = rope->inv_freq[i] / M_PI;
        TRY(device_buffer_reserve(self, &self->turns, half * sizeof *inv_freq, "rotary angles", error));
        TRY(cuda_stage(self, self->turns.memory, inv_freq, half * sizeof *inv_freq, error));
        memcpy(inv_freq, rope->inv_freq, half * sizeof *inv_freq);
        self->turns_count = half;
    }
    *turns = self->turns.memory;
    return CENTO_OK;
}
