/* Files; see file.h. Callable from any thread. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"

static cento_status system_error(cento_error *error, const char *path, const char *what) {
    cento_status status = errno == ENOENT ? CENTO_NOT_FOUND : CENTO_IO;
    return error_set(error, status, "%s: %s: %s", path, what, strerror(errno));
}

static const uint8_t empty_map[1];

cento_status file_map_open(const char *path, file_map *map, cento_error *error) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return system_error(error, path, "cannot open");
    struct stat info;
    if (fstat(descriptor, &info) != 0) {
        cento_status status = system_error(error, path, "cannot stat");
        close(descriptor);
        return status;
    }
    if (!S_ISREG(info.st_mode)) {
        close(descriptor);
        return error_set(error, CENTO_IO, "%s: not a regular file", path);
    }
    if (info.st_size == 0) {
        close(descriptor);
        *map = (file_map){.data = empty_map, .bytes = 0};
        return CENTO_OK;
    }
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data == MAP_FAILED) {
        cento_status status = system_error(error, path, "cannot map");
        close(descriptor);
        return status;
    }
    close(descriptor);
    *map = (file_map){.data = data, .bytes = (size_t)info.st_size};
    return CENTO_OK;
}

void file_map_close(file_map *map) {
    if (map->data != NULL && map->data != empty_map)
        munmap((void *)(uintptr_t)map->data, map->bytes);
    *map = (file_map){0};
}

void file_map_drop(const file_map *map, size_t offset, size_t bytes) {
    if (map->data == NULL || map->data == empty_map || bytes == 0)
        return;
    /* inner whole pages only: neighbours may still be in use */
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t begin = (offset + page - 1) / page * page;
    size_t end = offset + bytes == map->bytes ? map->bytes : (offset + bytes) / page * page;
    if (end > begin)
        madvise((void *)(uintptr_t)(map->data + begin), end - begin, MADV_DONTNEED);
}

cento_status file_read(const char *path, size_t bytes_max, strbuf *contents, cento_error *error) {
    bool standard_input = strcmp(path, "-") == 0;
    FILE *file = standard_input ? stdin : fopen(path, "rb");
    if (file == NULL)
        return system_error(error, path, "cannot open");
    cento_status status = CENTO_OK;
    size_t total = 0;
    for (;;) {
        char block[16384];
        size_t count = fread(block, 1, sizeof block, file);
        total += count;
        if (total > bytes_max) {
            status = error_set(error, CENTO_IO, "%s: larger than %zu bytes", path, bytes_max);
            break;
        }
        strbuf_append(contents, block, count);
        if (count < sizeof block) {
            if (ferror(file))
                status = system_error(error, path, "cannot read");
            break;
        }
    }
    if (!standard_input)
        fclose(file);
    return status == CENTO_OK ? strbuf_check(contents, error) : status;
}

cento_status file_write(const char *path, const void *data, size_t bytes, cento_error *error) {
    strbuf temporary = {0};
    strbuf_printf(&temporary, "%s.%ld.tmp", path, (long)getpid());
    TRY(strbuf_check(&temporary, error));
    cento_status status = CENTO_OK;
    FILE *file = fopen(temporary.data, "wb");
    if (file == NULL) {
        status = system_error(error, path, "cannot write");
    } else {
        bool written = fwrite(data, 1, bytes, file) == bytes;
        written = fclose(file) == 0 && written;
        if (!written || rename(temporary.data, path) != 0) {
            status = system_error(error, path, "cannot write");
            unlink(temporary.data);
        }
    }
    strbuf_free(&temporary);
    return status;
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool file_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

char *path_join(const char *folder, const char *name) {
    strbuf path = {0};
    size_t bytes = strlen(folder);
    strbuf_printf(&path, "%s%s%s", folder, bytes > 0 && folder[bytes - 1] == '/' ? "" : "/", name);
    return strbuf_take(&path, NULL);
}

const char *path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}
