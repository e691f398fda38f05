/* SPDX-License-Identifier: Apache-2.0 */
#include "content/filetype.h"

struct row {
    const char *name;
    enum filetype_group group;
    bool container;
};

static const struct row rows[FILETYPE_COUNT] = {
    [FILETYPE_UNKNOWN] = {"", FILETYPE_NONE, false},
    [FILETYPE_DOS] = {"application/vnd.microsoft.portable-executable", FILETYPE_EXECUTABLE, false},
    [FILETYPE_ELF] = {"application/x-elf", FILETYPE_EXECUTABLE, false},
    [FILETYPE_MACH] = {"application/x-mach-binary", FILETYPE_EXECUTABLE, false},
    [FILETYPE_JAVA_CLASS] = {"application/java-vm", FILETYPE_EXECUTABLE, false},
    [FILETYPE_DEX] = {"application/x-dex", FILETYPE_EXECUTABLE, false},
    [FILETYPE_WASM] = {"application/wasm", FILETYPE_EXECUTABLE, false},
    [FILETYPE_SHORTCUT] = {"application/x-ms-shortcut", FILETYPE_EXECUTABLE, false},
    [FILETYPE_HELP] = {"application/vnd.ms-htmlhelp", FILETYPE_EXECUTABLE, false},
    [FILETYPE_ONENOTE] = {"application/onenote", FILETYPE_EXECUTABLE, false},
    [FILETYPE_MSI] = {"application/x-msi", FILETYPE_EXECUTABLE, true},
    [FILETYPE_JAR] = {"application/java-archive", FILETYPE_EXECUTABLE, true},
    [FILETYPE_APK] = {"application/vnd.android.package-archive", FILETYPE_EXECUTABLE, true},
    [FILETYPE_SHEBANG] = {"text/x-shellscript", FILETYPE_SCRIPT, false},
    [FILETYPE_ENCODED_SCRIPT] = {"text/x-encoded-script", FILETYPE_SCRIPT, false},
    [FILETYPE_ZIP] = {"application/zip", FILETYPE_ARCHIVE, true},
    [FILETYPE_GZIP] = {"application/gzip", FILETYPE_ARCHIVE, true},
    [FILETYPE_BZIP2] = {"application/x-bzip2", FILETYPE_ARCHIVE, true},
    [FILETYPE_XZ] = {"application/x-xz", FILETYPE_ARCHIVE, true},
    [FILETYPE_ZSTD] = {"application/zstd", FILETYPE_ARCHIVE, true},
    [FILETYPE_LZ4] = {"application/x-lz4", FILETYPE_ARCHIVE, true},
    [FILETYPE_COMPRESS] = {"application/x-compress", FILETYPE_ARCHIVE, true},
    [FILETYPE_SEVEN_ZIP] = {"application/x-7z-compressed", FILETYPE_ARCHIVE, true},
    [FILETYPE_RAR] = {"application/vnd.rar", FILETYPE_ARCHIVE, true},
    [FILETYPE_CAB] = {"application/vnd.ms-cab-compressed", FILETYPE_ARCHIVE, true},
    [FILETYPE_LHA] = {"application/x-lzh-compressed", FILETYPE_ARCHIVE, true},
    [FILETYPE_TAR] = {"application/x-tar", FILETYPE_ARCHIVE, true},
    [FILETYPE_AR] = {"application/x-archive", FILETYPE_ARCHIVE, true},
    [FILETYPE_CPIO] = {"application/x-cpio", FILETYPE_ARCHIVE, true},
    [FILETYPE_ACE] = {"application/x-ace-compressed", FILETYPE_ARCHIVE, true},
    [FILETYPE_ARJ] = {"application/x-arj", FILETYPE_ARCHIVE, true},
    [FILETYPE_TNEF] = {"application/ms-tnef", FILETYPE_ARCHIVE, true},
    [FILETYPE_SZDD] = {"application/x-ms-compress-szdd", FILETYPE_ARCHIVE, true},
    [FILETYPE_BINHEX] = {"application/mac-binhex40", FILETYPE_ARCHIVE, true},
    [FILETYPE_UUENCODED] = {"text/x-uuencode", FILETYPE_ARCHIVE, true},
    [FILETYPE_ISO] = {"application/x-iso9660-image", FILETYPE_DISK, true},
    [FILETYPE_VHD] = {"application/x-vhd", FILETYPE_DISK, true},
    [FILETYPE_VHDX] = {"application/x-vhdx", FILETYPE_DISK, true},
    [FILETYPE_VMDK] = {"application/x-vmdk", FILETYPE_DISK, true},
    [FILETYPE_OLE] = {"application/x-ole-storage", FILETYPE_OFFICE, true},
    [FILETYPE_OOXML] = {"application/vnd.openxmlformats-officedocument", FILETYPE_OFFICE, true},
    [FILETYPE_ODF] = {"application/vnd.oasis.opendocument", FILETYPE_OFFICE, true},
    [FILETYPE_RTF] = {"application/rtf", FILETYPE_OFFICE, false},
    [FILETYPE_PDF_FILE] = {"application/pdf", FILETYPE_PDF, false},
    [FILETYPE_POSTSCRIPT] = {"application/postscript", FILETYPE_PDF, false},
    [FILETYPE_PNG] = {"image/png", FILETYPE_IMAGE, false},
    [FILETYPE_JPEG] = {"image/jpeg", FILETYPE_IMAGE, false},
    [FILETYPE_GIF] = {"image/gif", FILETYPE_IMAGE, false},
    [FILETYPE_BMP] = {"image/bmp", FILETYPE_IMAGE, false},
    [FILETYPE_TIFF] = {"image/tiff", FILETYPE_IMAGE, false},
    [FILETYPE_WEBP] = {"image/webp", FILETYPE_IMAGE, false},
    [FILETYPE_ICON] = {"image/vnd.microsoft.icon", FILETYPE_IMAGE, false},
    [FILETYPE_MP3] = {"audio/mpeg", FILETYPE_MEDIA, false},
    [FILETYPE_MP4] = {"video/mp4", FILETYPE_MEDIA, false},
    [FILETYPE_OGG] = {"application/ogg", FILETYPE_MEDIA, false},
    [FILETYPE_WAVE] = {"audio/x-wav", FILETYPE_MEDIA, false},
    [FILETYPE_AVI] = {"video/x-msvideo", FILETYPE_MEDIA, false},
    [FILETYPE_MATROSKA] = {"video/x-matroska", FILETYPE_MEDIA, false},
    [FILETYPE_HTML] = {"text/html", FILETYPE_TEXT, false},
    [FILETYPE_XML] = {"text/xml", FILETYPE_TEXT, false},
};

static const char *const group_names[FILETYPE_GROUP_COUNT] = {
    [FILETYPE_NONE] = "unknown",      [FILETYPE_EXECUTABLE] = "executable",
    [FILETYPE_SCRIPT] = "script",     [FILETYPE_ARCHIVE] = "archive",
    [FILETYPE_DISK] = "disk-image",   [FILETYPE_OFFICE] = "office",
    [FILETYPE_PDF] = "pdf",           [FILETYPE_IMAGE] = "image",
    [FILETYPE_MEDIA] = "audio-video", [FILETYPE_TEXT] = "text",
};

/* ---- by content ---- */

struct magic {
    size_t at;
    struct str bytes;
    enum filetype type;
};
#define M(offset, literal, type)                                                                   \
    {                                                                                              \
        offset, {"" literal, sizeof(literal) - 1}, type                                            \
    }

/* The first that fits counts. Short ones stand last. */
static const struct magic magics[] = {
    M(0,
      "\x7f"
      "ELF",
      FILETYPE_ELF),
    M(0, "\xfe\xed\xfa\xce", FILETYPE_MACH),
    M(0, "\xfe\xed\xfa\xcf", FILETYPE_MACH),
    M(0, "\xce\xfa\xed\xfe", FILETYPE_MACH),
    M(0, "\xcf\xfa\xed\xfe", FILETYPE_MACH),
    M(0, "dex\n", FILETYPE_DEX),
    M(0, "\0asm", FILETYPE_WASM),
    M(0, "L\0\0\0\x01\x14\x02\0", FILETYPE_SHORTCUT),
    M(0, "ITSF", FILETYPE_HELP),
    M(0, "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", FILETYPE_ONENOTE),
    M(0, "#@~^", FILETYPE_ENCODED_SCRIPT),
    M(0, "PK\x03\x04", FILETYPE_ZIP),
    M(0, "PK\x05\x06", FILETYPE_ZIP),
    M(0, "PK\x07\x08", FILETYPE_ZIP),
    M(0, "PK00PK\x03\x04", FILETYPE_ZIP),
    M(0,
      "\xfd"
      "7zXZ\0",
      FILETYPE_XZ),
    M(0, "\x28\xb5\x2f\xfd", FILETYPE_ZSTD),
    M(0, "\x04\x22\x4d\x18", FILETYPE_LZ4),
    M(0, "7z\xbc\xaf\x27\x1c", FILETYPE_SEVEN_ZIP),
    M(0, "Rar!\x1a\x07", FILETYPE_RAR),
    M(0, "MSCF\0\0\0\0", FILETYPE_CAB),
    M(257, "ustar", FILETYPE_TAR),
    M(0, "!<arch>\n", FILETYPE_AR),
    M(0, "070701", FILETYPE_CPIO),
    M(0, "070702", FILETYPE_CPIO),
    M(0, "070707", FILETYPE_CPIO),
    M(0, "\x71\xc7", FILETYPE_CPIO),
    M(0, "\xc7\x71", FILETYPE_CPIO),
    M(7, "**ACE**", FILETYPE_ACE),
    M(0, "SZDD\x88\xf0\x27\x33", FILETYPE_SZDD),
    M(0, "(This file must be converted with BinHex", FILETYPE_BINHEX),
    M(0, "\x78\x9f\x3e\x22", FILETYPE_TNEF),
    M(0, "conectix", FILETYPE_VHD),
    M(0, "vhdxfile", FILETYPE_VHDX),
    M(0, "KDMV", FILETYPE_VMDK),
    M(0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FILETYPE_OLE),
    M(0, "{\\rt", FILETYPE_RTF),
    M(0, "%!PS", FILETYPE_POSTSCRIPT),
    M(0, "\x89PNG\r\n\x1a\n", FILETYPE_PNG),
    M(0, "\xff\xd8\xff", FILETYPE_JPEG),
    M(0, "GIF87a", FILETYPE_GIF),
    M(0, "GIF89a", FILETYPE_GIF),
    M(0, "II*\0", FILETYPE_TIFF),
    M(0, "MM\0*", FILETYPE_TIFF),
    M(0, "\0\0\x01\0", FILETYPE_ICON),
    M(4, "ftyp", FILETYPE_MP4),
    M(0, "OggS", FILETYPE_OGG),
    M(0, "\x1a\x45\xdf\xa3", FILETYPE_MATROSKA),
    M(0, "ID3", FILETYPE_MP3),
    M(0, "\x1f\x8b", FILETYPE_GZIP),
    M(0, "\x1f\x9d", FILETYPE_COMPRESS),
    M(0, "\x60\xea", FILETYPE_ARJ),
    M(0, "#!", FILETYPE_SHEBANG),
    M(0x8001, "CD001", FILETYPE_ISO),
    M(0x8801, "CD001", FILETYPE_ISO),
};

static bool has_at(struct str head, size_t at, struct str bytes)
{
    return head.len >= at + bytes.len && str_starts(str_from(head, at), bytes);
}

/* Those that say more behind their first bytes. */
static enum filetype of_pieces(struct str head)
{
    if (has_at(head, 0, STR("RIFF")))
        return has_at(head, 8, STR("WEBP"))   ? FILETYPE_WEBP
               : has_at(head, 8, STR("WAVE")) ? FILETYPE_WAVE
               : has_at(head, 8, STR("AVI ")) ? FILETYPE_AVI
                                              : FILETYPE_UNKNOWN;
    /* fat Mach-O and Java's classes begin alike: a number of programs, or a version from 45 on */
    if (has_at(head, 0, STR("\xca\xfe\xba\xbe")) && head.len >= 8)
        return head.ptr[4] == 0 && head.ptr[5] == 0 && head.ptr[6] == 0 &&
                       (unsigned char)head.ptr[7] < 45
                   ? FILETYPE_MACH
                   : FILETYPE_JAVA_CLASS;
    /* a few letters alone begin many texts */
    if (has_at(head, 0, STR("BM")) && has_at(head, 6, STR("\0\0\0\0")))
        return FILETYPE_BMP;
    if ((has_at(head, 2, STR("-lh")) || has_at(head, 2, STR("-lz"))) && has_at(head, 6, STR("-")))
        return FILETYPE_LHA;
    if (has_at(head, 0, STR("BZh")) && head.len > 3 && ascii_is_digit(head.ptr[3]))
        return FILETYPE_BZIP2;
    if ((has_at(head, 0, STR("MZ")) || has_at(head, 0, STR("ZM"))) &&
        str_has_nul(str_slice(head, 0, 64)))
        return FILETYPE_DOS;
    return FILETYPE_UNKNOWN;
}

/* Readers of text pass over blanks and a byte order mark; those of PDF over 1,024 bytes of junk. */
static enum filetype of_text(struct str head)
{
    static const char *const html[] = {"<!doctype html", "<html", "<script", "<head",  "<body",
                                       "<iframe",        "<hta:", "<svg",    "<table", "<div"};
    struct str begin = str_slice(head, 0, FILETYPE_HEAD);
    if (str_find_str(begin, STR("%PDF-")) >= 0)
        return FILETYPE_PDF_FILE;
    if (str_starts(begin, STR("\xef\xbb\xbf")))
        begin = str_from(begin, 3);
    begin = str_trim(begin);
    for (size_t i = 0; i < sizeof html / sizeof *html; i++)
        if (str_starts_nocase(begin, str_c(html[i])))
            return FILETYPE_HTML;
    if (str_starts_nocase(begin, STR("<?xml")))
        return FILETYPE_XML;
    return has_at(begin, 0, STR("begin ")) && begin.len > 9 && ascii_is_digit(begin.ptr[6]) &&
                   ascii_is_digit(begin.ptr[7]) && ascii_is_digit(begin.ptr[8])
               ? FILETYPE_UUENCODED
               : FILETYPE_UNKNOWN;
}

enum filetype filetype_of(struct str head)
{
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
        if (has_at(head, magics[i].at, magics[i].bytes))
            return magics[i].type;
    enum filetype type = of_pieces(head);
    return type ? type : of_text(head);
}

const char *filetype_name(enum filetype type)
{
    return rows[type].name;
}

enum filetype_group filetype_group(enum filetype type)
{
    return rows[type].group;
}

bool filetype_is_container(enum filetype type)
{
    return rows[type].container;
}

bool filetype_group_find(struct str word, enum filetype_group *out)
{
    for (int group = 0; group < FILETYPE_GROUP_COUNT; group++)
        if (str_equal(word, str_c(group_names[group]))) {
            *out = (enum filetype_group)group;
            return true;
        }
    return false;
}

/* ---- by what is said ---- */

struct promise {
    enum filetype_group group;
    const char *words; /* with a blank around each */
};

static const struct promise extensions[] = {
    {FILETYPE_ARCHIVE, " zip gz tgz bz2 tbz tbz2 xz txz zst tzst lz4 z 7z rar cab lzh lha tar ar "
                       "deb rpm cpio ace arj "
                       "tnef "},
    {FILETYPE_DISK, " iso img vhd vhdx vmdk dmg "},
    {FILETYPE_OFFICE, " doc dot docx dotx docm dotm xls xlt xlsx xltx xlsm xltm xlsb ppt pps pot "
                      "pptx ppsx potx pptm ppsm odt ods odp odg ott rtf vsd vsdx pub msg "},
    {FILETYPE_PDF, " pdf ps eps "},
    {FILETYPE_IMAGE, " png jpg jpeg jpe gif bmp tif tiff webp ico heic "},
    {FILETYPE_MEDIA, " mp3 mp4 m4a m4v mov ogg oga ogv wav avi mkv webm flac aac wma wmv "},
    {FILETYPE_TEXT, " txt text csv log md ini xml json html htm ics vcf eml "},
    {FILETYPE_EXECUTABLE, " exe dll com scr sys pif cpl msi jar apk class lnk "},
    {FILETYPE_SCRIPT, " sh bash py pl rb ps1 bat cmd vbs vbe js jse wsf hta "},
};
static const struct promise media_types[] = {
    {FILETYPE_ARCHIVE, " application/zip application/x-zip-compressed application/x-zip "
                       "application/gzip application/x-gzip application/x-7z-compressed "
                       "application/vnd.rar application/x-rar-compressed application/x-tar "
                       "application/vnd.ms-cab-compressed application/x-bzip2 application/x-xz "},
    {FILETYPE_DISK, " application/x-iso9660-image application/x-cd-image "},
    {FILETYPE_OFFICE, " application/msword application/rtf text/rtf application/vnd.ms-excel "
                      "application/vnd.ms-powerpoint "},
    {FILETYPE_PDF, " application/pdf application/x-pdf application/postscript "},
};

/* " word " without a copy. */
static bool has_word(struct str words, struct str word)
{
    if (!word.len || str_find(word, ' ') >= 0)
        return false;
    for (struct str rest = words; rest.len > word.len + 1;) {
        ptrdiff_t at = str_find_str(rest, word);
        if (at < 1)
            return false;
        struct str behind = str_from(rest, (size_t)at + word.len);
        if (rest.ptr[at - 1] == ' ' && str_starts(behind, STR(" ")))
            return true;
        rest = str_from(rest, (size_t)at);
        rest = str_from(rest, 1);
    }
    return false;
}

enum filetype_group filetype_group_of_extension(struct str extension)
{
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
        if (has_word(str_c(extensions[i].words), extension))
            return extensions[i].group;
    return FILETYPE_NONE;
}

enum filetype_group filetype_group_of_media_type(struct str type)
{
    if (str_starts(type, STR("image/")))
        return FILETYPE_IMAGE;
    if (str_starts(type, STR("audio/")) || str_starts(type, STR("video/")))
        return FILETYPE_MEDIA;
    if (str_starts(type, STR("application/vnd.openxmlformats-officedocument.")) ||
        str_starts(type, STR("application/vnd.oasis.opendocument.")))
        return FILETYPE_OFFICE;
    for (size_t i = 0; i < sizeof media_types / sizeof *media_types; i++)
        if (has_word(str_c(media_types[i].words), type))
            return media_types[i].group;
    return str_starts(type, STR("text/")) ? FILETYPE_TEXT : FILETYPE_NONE;
}

bool filetype_keeps(enum filetype_group promised, enum filetype type)
{
    enum filetype_group is = rows[type].group;
    if (promised == FILETYPE_NONE || is == FILETYPE_NONE || promised == is)
        return true;
    switch (promised) {
    case FILETYPE_OFFICE: /* office programs write and read all of these under one name */
        return is == FILETYPE_TEXT || type == FILETYPE_ZIP;
    case FILETYPE_ARCHIVE: /* and these are zips */
        return is == FILETYPE_OFFICE || is == FILETYPE_DISK || type == FILETYPE_JAR;
    case FILETYPE_TEXT:
        return type == FILETYPE_RTF || is == FILETYPE_SCRIPT;
    case FILETYPE_SCRIPT:
        return is == FILETYPE_TEXT;
    case FILETYPE_IMAGE: /* drawings are written as XML */
        return is == FILETYPE_TEXT || type == FILETYPE_MP4;
    case FILETYPE_DISK:
        return is == FILETYPE_ARCHIVE;
    case FILETYPE_NONE:
    case FILETYPE_EXECUTABLE:
    case FILETYPE_PDF:
    case FILETYPE_MEDIA:
    case FILETYPE_GROUP_COUNT:
        break;
    }
    return false;
}
