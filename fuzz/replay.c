/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz/replay.c - runs a fuzz target over every file of its corpus, as a plain test.
 *
 * Each input is also cut at every point (up to 512), which finds reads beyond the end; with `whole`
 * behind the folder it is not, so that what one input costs can be measured.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_exact(const uint8_t *data, size_t size)
{
    /* a copy of the exact size, so that AddressSanitizer sees one byte too many */
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_file(const char *path, size_t cuts)
{
    static uint8_t data[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file)
        return;
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    for (size_t cut = 0; cut < size && cut < cuts; cut++)
        run_exact(data, cut);
    run_exact(data, size);
}

int main(int argc, char **argv)
{
    size_t cuts = argc == 3 && strcmp(argv[2], "whole") == 0 ? 0 : 512;
    if (argc != 2 && cuts) {
        fprintf(stderr, "usage: replay CORPUS_FOLDER [whole]\n");
        return 2;
    }
    DIR *dir = opendir(argv[1]);
    if (!dir) {
        fprintf(stderr, "replay: no folder %s\n", argv[1]);
        return 2;
    }
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        run_file(path, cuts);
        count++;
    }
    closedir(dir);
    printf("replayed %u inputs\n", count);
    return count ? 0 : 1; /* an empty corpus tests nothing */
}
