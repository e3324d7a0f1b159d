/* Runs a fuzz target once on every file of the folders and files named as arguments. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int replay_file(const char *path) {
    strbuf contents = {0};
    cento_error error;
    if (file_read(path, 64u << 20, &contents, &error) != CENTO_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    /* an exact copy without the NUL, so that reading past the end is seen by ASan */
    uint8_t *exact = malloc(contents.bytes == 0 ? 1 : contents.bytes);
    if (exact == NULL)
        return 1;
    if (contents.bytes > 0)
        memcpy(exact, contents.data, contents.bytes);
    LLVMFuzzerTestOneInput(exact, contents.bytes);
    free(exact);
    strbuf_free(&contents);
    return 0;
}

int main(int argc, char **argv) {
    int replayed = 0;
    for (int i = 1; i < argc; i++) {
        if (!file_is_folder(argv[i])) {
            if (replay_file(argv[i]) != 0)
                return 1;
            replayed++;
            continue;
        }
        DIR *folder = opendir(argv[i]);
        if (folder == NULL)
            return 1;
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            if (entry->d_name[0] == '.')
                continue;
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (replay_file(path) != 0)
                return 1;
            replayed++;
        }
        closedir(folder);
    }
    printf("%d inputs replayed\n", replayed);
    return replayed == 0;
}
