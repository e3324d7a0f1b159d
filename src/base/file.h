/* Files: reading a whole one, mapping one, joining paths. Errors name the file. */
#ifndef CENTO_BASE_FILE_H
#define CENTO_BASE_FILE_H

#include "status.h"
#include "strbuf.h"

/* A read-only mapping. An empty file is mapped as data != NULL with bytes == 0. */
typedef struct file_map {
    const uint8_t *data;
    size_t bytes;
} file_map;

cento_status file_map_open(const char *path, file_map *map, cento_error *error);
void file_map_close(file_map *map);
/* Tells the kernel that [offset, offset+bytes) is not needed any more, so that it leaves the
 * resident set. */
void file_map_drop(const file_map *map, size_t offset, size_t bytes);

/* Appends the file's bytes; "-" is standard input. At most bytes_max. */
cento_status file_read(const char *path, size_t bytes_max, strbuf *contents, cento_error *error);
/* Writes to a temporary file beside it and renames, so that the old contents stay whole on failure. */
cento_status file_write(const char *path, const void *data, size_t bytes, cento_error *error);

bool file_exists(const char *path);
bool file_is_folder(const char *path);
/* "folder/name"; released with mem_free; NULL when out of memory. */
char *path_join(const char *folder, const char *name);
/* The part after the last '/'; points into path. */
const char *path_name(const char *path);

#endif
