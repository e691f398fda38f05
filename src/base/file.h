/* SPDX-License-Identifier: Apache-2.0 */
/* base/file.h - whole files: into memory, as far as the ceiling of a buf lets them, and onto the
 * disk. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <sys/types.h>

/* Append what is left of `fd` to `out`. Blocks. FAILED: it cannot be read (errno's text), or it is
 * larger than what `out` may hold (ERROR_LIMIT); no name is told. */
enum result file_read(int fd, struct buf *out, struct error *err);
/* The same of a file, whose name is not told either; a pipe or device does not hang it. */
enum result file_read_path(const char *path, struct buf *out, struct error *err);

/* All of `text` at the end of `fd`; OK: it is on the disk. Blocks. No name is told. */
enum result file_write(int fd, struct str text, struct error *err);
/* `text` in place of what stands at `path`, all of it or nothing, by way of `path`.new beside it; a
 * file that is new gets `mode`. OK: it outlives a power cut. Blocks. The error names the file. */
enum result file_replace(const char *path, mode_t mode, struct str text, struct error *err);
