/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/unpack.h - what is in an archive, in archives in it, and in Office documents.
 *
 * The door to libarchive. It reads what strangers wrote with a library that was not written for
 * them: to be called in a confined process only (content/unpacker.h). Nothing is written anywhere:
 * members are read to find out what they are, and are forgotten.
 */
#pragma once

#include "base/error.h"
#include "content/filetype.h"

enum {
    UNPACK_DEPTH_MAX = 10,
    UNPACK_HELD_MAX = 64 * 1024 * 1024, /* bytes of archives in archives held at a time */
    UNPACK_NAME_MAX = 400,              /* of a longer name this many bytes at its end are told */
    UNPACK_WHY_MAX = 200,
    UNPACK_RATIO_FROM =
        10 * 1024 * 1024 /* bytes unpacked: before that the ratio is not looked at */
};

struct unpack_limits {
    unsigned depth;   /* of archives: 1 is the file alone; at most UNPACK_DEPTH_MAX */
    uint64_t ratio;   /* unpacked to packed; 0: any */
    uint64_t members; /* of all archives of the file */
    uint64_t bytes;   /* unpacked */
};
struct unpack_spent {
    uint64_t members, bytes;
};

enum { /* what is said of a file: a set */
       UNPACK_ENCRYPTED = 1,
       UNPACK_MACRO = 2,
       UNPACK_UNREADABLE = 4, /* damaged, or of a kind that is not known */
       UNPACK_OVER = 8,       /* a limit was reached: not all of it was seen */
};

struct unpack_member {
    unsigned depth; /* 0: the file itself, told last; 1: in it */
    enum filetype type;
    unsigned flags;
    struct str name; /* bytes, as the archive has them; of the file itself: empty */
    struct str why;  /* of the flags; may be empty. May have bytes of the archive in it */
};
/* Texts are valid during the call. FAILED ends the reading. */
typedef enum result (*unpack_sink)(void *context, const struct unpack_member *member,
                                   struct error *err);

/* Tell every member of `data`, in depth first order, a container behind its members. Time and
 * memory are bounded by the limits. FAILED: the sink's. */
enum result unpack_look(struct str data, const struct unpack_limits *limits, unpack_sink sink,
                        void *context, struct unpack_spent *out_spent, struct error *err);

/* ---- the directory of a zip: content/zip_directory.c ---- */

/* libarchive names files by what stands in front of each; Windows, by the directory at the end.
 * The next entry of one in *rest, wherever it lies; false: there are no more. */
bool zip_directory_next(struct str *rest, struct str *out_name, bool *out_encrypted);

/* ---- winmail.dat: content/tnef.c ---- */

struct tnef_file {
    struct str title; /* the short name */
    struct str name;  /* the long one; "" */
    struct str data;
    char space[UNPACK_NAME_MAX]; /* of the name: it must not be moved */
};
bool tnef_begin(struct str data, struct str *out_rest);
/* The next attachment; false: there are no more. *out_damaged: what stands behind is lost. */
bool tnef_next(struct str *rest, struct tnef_file *out, bool *out_damaged);

/* ---- compound documents (OLE): content/compound.c ---- */

/* Looks at every place where an entry of a directory can stand, whatever the chains of sectors
 * say: linear. A set of flags; *out_type: FILETYPE_OLE, or FILETYPE_MSI for an installer. */
unsigned compound_look(struct str data, enum filetype *out_type);
