/* Choosing a device by name: see backend.h, backend_create. */
#include <stdlib.h>
#include <string.h>

#include "backend.h"

enum { DEVICE_INDEX_MAX = 255 };

/* "cuda" or "cuda:N" */
static bool parse_cuda(const char *name, int *index) {
    if (strncmp(name, "cuda", 4) != 0)
        return false;
    *index = 0;
    if (name[4] == '\0')
        return true;
    if (name[4] != ':' || name[5] < '0' || name[5] > '9')
        return false;
    char *end;
    long value = strtol(name + 5, &end, 10);
    *index = (int)value;
    return *end == '\0' && value <= DEVICE_INDEX_MAX;
}

cento_status backend_device_check(const char *name, cento_error *error) {
    int index;
    if (name == NULL || strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0 || parse_cuda(name, &index))
        return CENTO_OK;
    return error_set(error, CENTO_UNSUPPORTED,
                     "device '%s': expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"", name);
}

cento_status backend_attention_check(const char *name, cento_error *error) {
    if (name == NULL || strcmp(name, "auto") == 0)
        return CENTO_OK;
    if (strcmp(name, "flashinfer") != 0)
        return error_set(error, CENTO_UNSUPPORTED, "attention '%s': expected \"auto\" or \"flashinfer\"",
                         name);
#ifdef CENTO_FLASHINFER
    return CENTO_OK;
#else
    return error_set(
        error, CENTO_UNSUPPORTED,
        "attention 'flashinfer': this build is without it; configure with -DCENTO_FLASHINFER=ON");
#endif
}

static cento_status create_cpu(const backend_options *options, backend **result, cento_error *error) {
    if (options->attention != NULL && strcmp(options->attention, "flashinfer") == 0)
        return error_set(error, CENTO_UNSUPPORTED, "attention 'flashinfer' needs an NVIDIA GPU%s%s",
                         options->note == NULL ? "" : ": ", options->note == NULL ? "" : options->note);
    return backend_cpu_create(options, result, error);
}

#ifndef CENTO_CUDA
cento_status backend_cuda_create(int device, const backend_options *options, backend **result,
                                 cento_error *error) {
    (void)device;
    (void)options;
    (void)result;
    return error_set(error, CENTO_UNSUPPORTED, "this build is without CUDA");
}
#endif

cento_status backend_create(const char *device, const backend_options *options, backend **result,
                            cento_error *error) {
    int index = 0;
    TRY(backend_device_check(device, error));
    TRY(backend_attention_check(options->attention, error));
    if (device != NULL && parse_cuda(device, &index)) {
        cento_status status = backend_cuda_create(index, options, result, error);
        if (status != CENTO_OK)
            error_prefix(error, "device '%s'", device);
        return status;
    }
#ifdef CENTO_CUDA
    if ((device == NULL || strcmp(device, "auto") == 0) && options->isa == NULL) {
        cento_error why;
        cento_status status = backend_cuda_create(0, options, result, &why);
        if (status == CENTO_OK)
            return CENTO_OK;
        if (status == CENTO_OUT_OF_MEMORY) /* not to be made up for by a slower device, silently */
            return error_set(error, status, "%s", why.message);
        backend_options instead = *options;
        instead.note = why.message;
        return create_cpu(&instead, result, error);
    }
#endif
    return create_cpu(options, result, error);
}
