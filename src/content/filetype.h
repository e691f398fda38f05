/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/filetype.h - what a file is by its first bytes, and what its name and label say it is.
 *
 * A table of our own: what a gateway must tell apart is little, and a library that knows
 * everything reads what strangers wrote with a language of its own.
 */
#pragma once

#include "base/str.h"

enum filetype_group {
    FILETYPE_NONE, /* nothing that we know */
    FILETYPE_EXECUTABLE,
    FILETYPE_SCRIPT,
    FILETYPE_ARCHIVE,
    FILETYPE_DISK, /* an image of one: an archive to us */
    FILETYPE_OFFICE,
    FILETYPE_PDF,
    FILETYPE_IMAGE,
    FILETYPE_MEDIA, /* sound, film */
    FILETYPE_TEXT,
    FILETYPE_GROUP_COUNT
};

/* The numbers go between processes of one program: a new one may stand anywhere. */
enum filetype {
    FILETYPE_UNKNOWN,
    FILETYPE_DOS,
    FILETYPE_ELF,
    FILETYPE_MACH,
    FILETYPE_JAVA_CLASS,
    FILETYPE_DEX,
    FILETYPE_WASM,
    FILETYPE_SHORTCUT,
    FILETYPE_HELP,
    FILETYPE_ONENOTE,
    FILETYPE_MSI,
    FILETYPE_JAR,
    FILETYPE_APK,
    FILETYPE_SHEBANG,
    FILETYPE_ENCODED_SCRIPT,
    FILETYPE_ZIP,
    FILETYPE_GZIP,
    FILETYPE_BZIP2,
    FILETYPE_XZ,
    FILETYPE_ZSTD,
    FILETYPE_LZ4,
    FILETYPE_COMPRESS,
    FILETYPE_SEVEN_ZIP,
    FILETYPE_RAR,
    FILETYPE_CAB,
    FILETYPE_LHA,
    FILETYPE_TAR,
    FILETYPE_AR,
    FILETYPE_CPIO,
    FILETYPE_ACE,
    FILETYPE_ARJ,
    FILETYPE_TNEF,
    FILETYPE_SZDD,
    FILETYPE_BINHEX,
    FILETYPE_UUENCODED,
    FILETYPE_ISO,
    FILETYPE_VHD,
    FILETYPE_VHDX,
    FILETYPE_VMDK,
    FILETYPE_OLE,
    FILETYPE_OOXML,
    FILETYPE_ODF,
    FILETYPE_RTF,
    FILETYPE_PDF_FILE,
    FILETYPE_POSTSCRIPT,
    FILETYPE_PNG,
    FILETYPE_JPEG,
    FILETYPE_GIF,
    FILETYPE_BMP,
    FILETYPE_TIFF,
    FILETYPE_WEBP,
    FILETYPE_ICON,
    FILETYPE_MP3,
    FILETYPE_MP4,
    FILETYPE_OGG,
    FILETYPE_WAVE,
    FILETYPE_AVI,
    FILETYPE_MATROSKA,
    FILETYPE_HTML,
    FILETYPE_XML,
    FILETYPE_COUNT
};

enum {
    FILETYPE_HEAD = 1024,     /* bytes that tell most */
    FILETYPE_HEAD_ISO = 34816 /* and those that tell the image of a disc */
};

/* By the first bytes of the file, as many as there are. Pure. */
enum filetype filetype_of(struct str head);
/* "application/zip": one name a type; for FILETYPE_UNKNOWN "". */
const char *filetype_name(enum filetype type);
enum filetype_group filetype_group(enum filetype type);
/* By a word of the configuration, "executable" or "archive"; "unknown" is FILETYPE_NONE. False: no
 * such word. */
bool filetype_group_find(struct str word, enum filetype_group *out);
/* Does it hold other files, which libarchive knows to take out, or is it a compound document? */
bool filetype_is_container(enum filetype type);

/* What a name promises by its last extension ("pdf", without the dot, lower case), and what a
 * media type does. FILETYPE_NONE: nothing. */
enum filetype_group filetype_group_of_extension(struct str extension);
enum filetype_group filetype_group_of_media_type(struct str type);
/* May content of this type stand under this promise? A text may be anything that can be read. */
bool filetype_keeps(enum filetype_group promised, enum filetype type);
