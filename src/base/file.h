/* SPDX-License-Identifier: Apache-2.0 */
/* base/file.h - whole files into memory, as far as the ceiling of a buf lets them. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

/* Append what is left of `fd` to `out`. Blocks. FAILED: it cannot be read (errno's text), or it is
 * larger than what `out` may hold (ERROR_LIMIT); no name is told. */
enum result file_read(int fd, struct buf *out, struct error *err);
/* The same of a file, whose name is not told either; a pipe or device does not hang it. */
enum result file_read_path(const char *path, struct buf *out, struct error *err);
