/* SPDX-License-Identifier: Apache-2.0 */
/* content/unpack_test.h - for unit tests: archives made in memory by libarchive. */
#pragma once

#include "base/check.h"
#include "base/memory.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

enum test_format {
    TEST_ZIP,
    TEST_SECRET_ZIP,
    TEST_TAR,
    TEST_TAR_GZ,
    TEST_SEVEN_ZIP,
    TEST_ISO,
    TEST_CPIO,
    TEST_GZ,
    TEST_XZ,
    TEST_ZSTD,
    TEST_BZ2
};

enum { TEST_ARCHIVE_MAX = 32 << 20 };

struct test_archive {
    struct archive *writer;
    char *bytes;
    size_t len;
};

static inline void test_archive_open(struct test_archive *made, enum test_format format)
{
    struct archive *writer = archive_write_new();
    made->writer = writer;
    made->bytes = memory_alloc(TEST_ARCHIVE_MAX);
    switch (format) {
    case TEST_SECRET_ZIP:
        check(archive_write_set_format_zip(writer) == ARCHIVE_OK);
        check(archive_write_set_options(writer, "zip:encryption=zipcrypt") == ARCHIVE_OK);
        check(archive_write_set_passphrase(writer, "secret") == ARCHIVE_OK);
        break;
    case TEST_ZIP:
        check(archive_write_set_format_zip(writer) == ARCHIVE_OK);
        break;
    case TEST_TAR_GZ:
        check(archive_write_add_filter_gzip(writer) == ARCHIVE_OK);
        check(archive_write_set_format_ustar(writer) == ARCHIVE_OK);
        break;
    case TEST_TAR:
        check(archive_write_set_format_ustar(writer) == ARCHIVE_OK);
        break;
    case TEST_SEVEN_ZIP:
        check(archive_write_set_format_7zip(writer) == ARCHIVE_OK);
        break;
    case TEST_ISO:
        check(archive_write_set_format_iso9660(writer) == ARCHIVE_OK);
        break;
    case TEST_CPIO:
        check(archive_write_set_format_cpio_newc(writer) == ARCHIVE_OK);
        break;
    case TEST_GZ:
    case TEST_XZ:
    case TEST_ZSTD:
    case TEST_BZ2:
        check((format == TEST_GZ     ? archive_write_add_filter_gzip(writer)
               : format == TEST_XZ   ? archive_write_add_filter_xz(writer)
               : format == TEST_ZSTD ? archive_write_add_filter_zstd(writer)
                                     : archive_write_add_filter_bzip2(writer)) == ARCHIVE_OK);
        check(archive_write_set_format_raw(writer) == ARCHIVE_OK);
        break;
    }
    archive_write_set_bytes_in_last_block(writer, 1);
    check(archive_write_open_memory(writer, made->bytes, TEST_ARCHIVE_MAX, &made->len) ==
          ARCHIVE_OK);
}

static inline void test_archive_add(struct test_archive *made, const char *name, struct str content)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname_utf8(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)content.len);
    int done = archive_write_header(made->writer, entry);
    check(done == ARCHIVE_OK || done == ARCHIVE_WARN);
    check(archive_write_data(made->writer, content.ptr, content.len) == (la_ssize_t)content.len);
    archive_entry_free(entry);
}

/* Free its ptr. */
static inline struct str test_archive_close(struct test_archive *made)
{
    check(archive_write_close(made->writer) == ARCHIVE_OK);
    archive_write_free(made->writer);
    return str_of(made->bytes, made->len);
}

static inline struct str test_archive_of(enum test_format format, const char *name,
                                         struct str content)
{
    struct test_archive made;
    test_archive_open(&made, format);
    test_archive_add(&made, name, content);
    return test_archive_close(&made);
}
