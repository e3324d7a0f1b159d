/* Test support; see support.h. */
#include "support.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/file.h"

static const char *formatted_path(const char *folder, const char *relative) {
    static char paths[8][4096];
    static unsigned int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, relative);
    return path;
}

static const char *source_folder(void) {
    const char *folder = getenv("CENTO_SOURCE_DIR");
    return folder == NULL ? "." : folder;
}

const char *source_path(const char *relative) {
    return formatted_path(source_folder(), relative);
}

const char *shared_data_path(const char *relative) {
    const char *folder = getenv("CENTO_TEST_DATA");
    if (folder == NULL)
        folder = formatted_path(source_folder(), "../shared/data");
    const char *path = formatted_path(folder, relative);
    if (file_exists(path))
        return path;
    printf("skipped: no test data (%s)\n", path);
    return NULL;
}

const char *test_device(void) {
    const char *name = getenv("CENTO_TEST_DEVICE");
    return name == NULL || name[0] == '\0' ? "cpu" : name;
}

bool test_on_gpu(void) {
    return strncmp(test_device(), "cuda", 4) == 0;
}

void test_device_needed(void) {
    static bool serves;
    cento_error error;
    backend *device;
    const backend_options options = {.threads = 1};
    if (serves || !test_on_gpu())
        return;
    cento_status status = backend_create(test_device(), &options, &device, &error);
    if (status == CENTO_UNSUPPORTED) {
        print_message("skipped: %s\n", error.message);
        skip();
    }
    ASSERT_OK(status);
    device->ops->destroy(device);
    serves = true;
}

static char temporary_path[64];

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

static void remove_temporary(void) {
    nftw(temporary_path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *temporary_folder(void) {
    if (temporary_path[0] == '\0') {
        snprintf(temporary_path, sizeof temporary_path, "/tmp/cento-test-XXXXXX");
        if (mkdtemp(temporary_path) == NULL)
            abort();
        atexit(remove_temporary);
    }
    return temporary_path;
}

void write_file(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0)
        abort();
}
