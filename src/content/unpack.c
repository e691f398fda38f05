/* SPDX-License-Identifier: Apache-2.0 */
#include "content/unpack.h"

#include "base/buf.h"
#include "base/map.h"
#include "base/memory.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 65536, PARTS_LIST_MAX = 256 * 1024 };

struct level { /* an archive whose members are being read */
    struct archive *archive;
    struct buf data; /* its bytes, where it came out of another */
    struct str bytes;
    bool opened;
    struct str rest;  /* of winmail.dat: what was not looked at yet */
    struct map names; /* of a zip: those that were told */
    char name[UNPACK_NAME_MAX];
    size_t name_len;
    enum filetype type;
    unsigned flags;
    char why[UNPACK_WHY_MAX];
};

struct looking {
    const struct unpack_limits *limits;
    unpack_sink sink;
    void *context;
    struct unpack_spent *spent;
    uint64_t packed; /* bytes of the file */
    size_t held;     /* of nested archives */
    bool over;       /* no more: only the levels that are open are told */
    struct level levels[UNPACK_DEPTH_MAX];
    unsigned depth;
    struct buf member; /* the one at work: its head, or all of it if it is a container */
    char piece[PIECE];
    struct error *err;
};

/* ---- what is said ---- */

static void say(struct level *level, unsigned flag, const char *why)
{
    if (!level->flags) {
        size_t len = 0;
        while (why[len] && len + 1 < sizeof level->why)
            len++;
        memcpy(level->why, why, len);
        level->why[len] = '\0';
    }
    level->flags |= flag;
}

static struct level *top(struct looking *looking)
{
    return &looking->levels[looking->depth - 1];
}

static void stop(struct looking *looking, const char *why)
{
    looking->over = true;
    say(top(looking), UNPACK_OVER, why);
}

static enum result tell(struct looking *looking, unsigned depth, struct str name,
                        enum filetype type, unsigned flags, const char *why)
{
    struct unpack_member member = {
        .depth = depth, .type = type, .flags = flags, .name = name, .why = str_c(why)};
    return looking->sink(looking->context, &member, looking->err);
}

static struct str end_of_name(struct str name)
{
    return name.len > UNPACK_NAME_MAX ? str_from(name, name.len - UNPACK_NAME_MAX) : name;
}

/* ---- opening ---- */

/* Only what the first bytes ask for: the less code reads strangers' bytes, the better. */
static bool support_known(struct archive *archive, enum filetype type)
{
    switch (type) {
    case FILETYPE_ZIP:
    case FILETYPE_JAR:
    case FILETYPE_APK:
    case FILETYPE_OOXML:
    case FILETYPE_ODF:
        return archive_read_support_format_zip(archive) == ARCHIVE_OK;
    case FILETYPE_SEVEN_ZIP:
        return archive_read_support_format_7zip(archive) == ARCHIVE_OK;
    case FILETYPE_RAR:
        return archive_read_support_format_rar(archive) == ARCHIVE_OK &&
               archive_read_support_format_rar5(archive) == ARCHIVE_OK;
    case FILETYPE_CAB:
        return archive_read_support_format_cab(archive) == ARCHIVE_OK;
    case FILETYPE_LHA:
        return archive_read_support_format_lha(archive) == ARCHIVE_OK;
    case FILETYPE_AR:
        return archive_read_support_format_ar(archive) == ARCHIVE_OK;
    case FILETYPE_CPIO:
        return archive_read_support_format_cpio(archive) == ARCHIVE_OK;
    case FILETYPE_ISO:
        return archive_read_support_format_iso9660(archive) == ARCHIVE_OK;
    case FILETYPE_TAR:
        return archive_read_support_format_tar(archive) == ARCHIVE_OK;
    default:
        return false;
    }
}

static bool support_filter(struct archive *archive, enum filetype type)
{
    int done = type == FILETYPE_GZIP       ? archive_read_support_filter_gzip(archive)
               : type == FILETYPE_BZIP2    ? archive_read_support_filter_bzip2(archive)
               : type == FILETYPE_XZ       ? archive_read_support_filter_xz(archive)
               : type == FILETYPE_ZSTD     ? archive_read_support_filter_zstd(archive)
               : type == FILETYPE_LZ4      ? archive_read_support_filter_lz4(archive)
               : type == FILETYPE_COMPRESS ? archive_read_support_filter_compress(archive)
                                           : ARCHIVE_FATAL;
    return done == ARCHIVE_OK;
}

/* Is a compressed file a tape archive that was compressed as a whole? libarchive would take zeros
 * for an empty one, and so would not look at an image that begins with them. */
static enum filetype type_in_filter(const struct level *level)
{
    char head[FILETYPE_HEAD];
    struct archive_entry *entry;
    enum filetype type = FILETYPE_UNKNOWN;
    struct archive *archive = archive_read_new();
    if (archive && support_filter(archive, level->type) &&
        archive_read_support_format_raw(archive) == ARCHIVE_OK &&
        archive_read_open_memory(archive, level->bytes.ptr, level->bytes.len) == ARCHIVE_OK &&
        archive_read_next_header(archive, &entry) == ARCHIVE_OK) {
        la_ssize_t got = archive_read_data(archive, head, sizeof head);
        if (got > 0)
            type = filetype_of(str_of(head, (size_t)got));
    }
    archive_read_free(archive);
    return type;
}

/* One compressed file, or an archive that was compressed as a whole. */
static bool support_compressed(struct level *level)
{
    if (!support_filter(level->archive, level->type))
        return false;
    switch (type_in_filter(level)) {
    case FILETYPE_TAR:
        return archive_read_support_format_tar(level->archive) == ARCHIVE_OK;
    case FILETYPE_CPIO:
        return archive_read_support_format_cpio(level->archive) == ARCHIVE_OK;
    default:
        return archive_read_support_format_empty(level->archive) == ARCHIVE_OK &&
               archive_read_support_format_raw(level->archive) == ARCHIVE_OK;
    }
}

/* A file that calls itself an archive and does not begin like one. */
static bool support_any(struct archive *archive)
{
    return archive_read_support_format_zip(archive) == ARCHIVE_OK &&
           archive_read_support_format_7zip(archive) == ARCHIVE_OK &&
           archive_read_support_format_rar(archive) == ARCHIVE_OK &&
           archive_read_support_format_cab(archive) == ARCHIVE_OK &&
           archive_read_support_format_tar(archive) == ARCHIVE_OK;
}

/* Why libarchive will not go on: a flag. */
static unsigned say_trouble(struct level *level)
{
    const char *why = archive_error_string(level->archive);
    why = why ? why : "damaged";
    /* an archive that was not opened must not be asked */
    bool encrypted = (level->opened && archive_read_has_encrypted_entries(level->archive) == 1) ||
                     str_find_str(str_c(why), STR("ncrypt")) >= 0 ||
                     str_find_str(str_c(why), STR("assphrase")) >= 0;
    unsigned flag = encrypted                                 ? UNPACK_ENCRYPTED
                    : archive_errno(level->archive) == ENOMEM ? UNPACK_OVER
                                                              : UNPACK_UNREADABLE;
    say(level, flag, why);
    return flag;
}

/* The archive in level->bytes; it has no `archive` where nothing can be read of it. */
static void open_level(struct level *level)
{
    if (level->type == FILETYPE_OLE) {
        unsigned flags = compound_look(level->bytes, &level->type);
        if (flags)
            say(level, flags, flags & UNPACK_MACRO ? "macros" : "an encrypted document");
        return;
    }
    if (level->type == FILETYPE_TNEF && tnef_begin(level->bytes, &level->rest))
        return;
    level->archive = archive_read_new();
    if (!level->archive)
        return say(level, UNPACK_OVER, "not enough memory");
    bool known = level->type == FILETYPE_UNKNOWN
                     ? support_any(level->archive)
                     : support_known(level->archive, level->type) || support_compressed(level);
    if (!known)
        say(level, UNPACK_UNREADABLE, "of a kind that cannot be read here");
    else if (archive_read_open_memory(level->archive, level->bytes.ptr, level->bytes.len) !=
             ARCHIVE_OK)
        (void)say_trouble(level);
    else
        level->opened = true;
    if (level->opened)
        return;
    archive_read_free(level->archive);
    level->archive = NULL;
}

static bool may_be_zip(enum filetype type)
{
    /* of what is unknown only a zip's directory can say so, behind whatever stands in front */
    return type == FILETYPE_UNKNOWN || type == FILETYPE_ZIP || type == FILETYPE_OOXML ||
           type == FILETYPE_ODF || type == FILETYPE_JAR || type == FILETYPE_APK;
}

/* Count one more; false: enough. */
static bool count_member(struct looking *looking)
{
    if (++looking->spent->members > looking->limits->members)
        stop(looking, "too many files in archives");
    return !looking->over;
}

/* Names that stand in the directory alone: what others open is what they say. */
static enum result tell_directory(struct looking *looking)
{
    struct level *level = top(looking);
    struct str rest = level->bytes, name;
    enum result result = OK;
    bool encrypted;
    while (result == OK && !looking->over && zip_directory_next(&rest, &name, &encrypted)) {
        name = end_of_name(name);
        if (str_ends(name, STR("/")) || map_put(&level->names, name, level) ||
            !count_member(looking))
            continue;
        if (encrypted)
            say(level, UNPACK_ENCRYPTED, "encrypted files");
        result = tell(looking, looking->depth, name, FILETYPE_UNKNOWN,
                      encrypted ? UNPACK_ENCRYPTED : 0, "");
    }
    return result;
}

static void free_level(struct level *level)
{
    archive_read_free(level->archive);
    level->archive = NULL;
    buf_done(&level->data);
    map_done(&level->names);
}

/* It and all of its members have been seen. */
static enum result close_level(struct looking *looking)
{
    struct level *level = top(looking);
    if (may_be_zip(level->type) && tell_directory(looking) != OK)
        return FAILED;
    unsigned depth = --looking->depth;
    looking->held -= level->data.len;
    free_level(level);
    if (looking->over && depth > 0)
        say(&looking->levels[depth - 1], UNPACK_OVER, level->why);
    return tell(looking, depth, str_of(level->name, level->name_len), level->type, level->flags,
                level->why);
}

/* ---- members ---- */

/* Count what came out; false: enough. */
static bool count_bytes(struct looking *looking, uint64_t more)
{
    struct unpack_spent *spent = looking->spent;
    const struct unpack_limits *limits = looking->limits;
    spent->bytes += more;
    if (spent->bytes > limits->bytes)
        stop(looking, "it unpacks to more than may be looked at");
    else if (limits->ratio && spent->bytes > UNPACK_RATIO_FROM &&
             spent->bytes / limits->ratio > looking->packed)
        stop(looking, "it unpacks to too many times its size");
    return !looking->over;
}

/* The content of a member: all of it if it is a container, else its head. *out_flag: what is to be
 * said of it. False: no more of it. */
static bool read_member(struct looking *looking, size_t keep_max, unsigned *out_flag)
{
    struct level *level = top(looking);
    struct buf *kept = &looking->member;
    bool whole = false;
    buf_clear(kept);
    *out_flag = 0;
    for (bool first = true;; first = false) {
        la_ssize_t got = archive_read_data(level->archive, looking->piece, PIECE);
        if (got == 0 || got == ARCHIVE_RETRY || got == ARCHIVE_WARN)
            return true;
        if (got < 0) {
            *out_flag = say_trouble(level);
            return false;
        }
        struct str data = str_of(looking->piece, (size_t)got);
        whole = first ? filetype_is_container(filetype_of(data)) : whole;
        if (!count_bytes(looking, data.len))
            return false;
        if (whole && data.len > UNPACK_HELD_MAX - looking->held - kept->len) {
            stop(looking, "an archive in it is too large");
            return false;
        }
        if (whole || kept->len < keep_max)
            buf_append(kept, whole ? data : str_slice(data, 0, keep_max - kept->len));
    }
}

/* What members say of the archive they are in. */
static void learn(struct level *level, struct str name, struct str content)
{
    if (str_equal_nocase(name, STR("[Content_Types].xml"))) {
        level->type = FILETYPE_OOXML;
        if (str_find_str(content, STR("vbaProject")) >= 0 ||
            str_find_str(content, STR("macroEnabled")) >= 0)
            say(level, UNPACK_MACRO, "macros");
    }
    if (str_ends_nocase(name, STR("vbaProject.bin")) ||
        str_starts_nocase(name, STR("xl/macrosheets/")) ||
        str_starts_nocase(name, STR("Basic/script-l")))
        say(level, UNPACK_MACRO, "macros");
    if (str_equal(name, STR("mimetype")) &&
        str_starts(content, STR("application/vnd.oasis.opendocument.")))
        level->type = FILETYPE_ODF;
    if (level->type == FILETYPE_ZIP && str_equal_nocase(name, STR("META-INF/MANIFEST.MF")))
        level->type = FILETYPE_JAR;
    if (str_equal(name, STR("AndroidManifest.xml")))
        level->type = FILETYPE_APK;
}

static struct str name_of(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname_utf8(entry);
    return str_c(name ? name : archive_entry_pathname(entry));
}

/* A container in a container: its bytes move to a level of their own. */
static void push(struct looking *looking, struct str name, enum filetype type)
{
    if (looking->depth >= looking->limits->depth || looking->depth >= UNPACK_DEPTH_MAX) {
        stop(looking, "archives in archives, deeper than may be looked at");
        return;
    }
    struct level *level = &looking->levels[looking->depth++];
    *level = (struct level){.type = type, .data = looking->member, .name_len = name.len};
    memcpy(level->name, name.ptr, name.len);
    looking->held += level->data.len;
    level->bytes = buf_str(&level->data);
    buf_init(&looking->member, UNPACK_HELD_MAX);
    open_level(level);
}

static bool is_encrypted(struct archive_entry *entry)
{
    return archive_entry_is_data_encrypted(entry) || archive_entry_is_metadata_encrypted(entry);
}

static enum result look_at_member(struct looking *looking, struct archive_entry *entry)
{
    char space[UNPACK_NAME_MAX];
    struct level *level = top(looking);
    struct str name = end_of_name(name_of(entry));
    unsigned depth = looking->depth;
    bool raw = archive_format(level->archive) == ARCHIVE_FORMAT_RAW;
    /* libarchive gives it memory that the next call takes back; a compressed file has no name */
    memcpy(space, name.ptr, name.len);
    name = raw ? STR_EMPTY : str_of(space, name.len);
    if (may_be_zip(level->type))
        (void)map_put(&level->names, name, level);
    if (!count_member(looking))
        return OK;
    if (archive_entry_filetype(entry) == AE_IFDIR)
        return OK;
    if (is_encrypted(entry)) {
        say(level, UNPACK_ENCRYPTED, "encrypted files");
        return tell(looking, depth, name, FILETYPE_UNKNOWN, UNPACK_ENCRYPTED, "");
    }
    size_t keep =
        str_equal_nocase(name, STR("[Content_Types].xml")) ? PARTS_LIST_MAX : FILETYPE_HEAD_ISO;
    unsigned flag;
    bool complete = read_member(looking, keep, &flag);
    struct str content = buf_str(&looking->member);
    enum filetype type = filetype_of(content);
    learn(level, name, content);
    if (complete && filetype_is_container(type)) {
        push(looking, name, type);
        return OK; /* it is told when its members have been */
    }
    return tell(looking, depth, name, type, flag, flag ? level->why : "");
}

/* An attachment in winmail.dat, under both of its names. */
static enum result step_tnef(struct looking *looking)
{
    struct level *level = top(looking);
    struct tnef_file file;
    bool damaged;
    unsigned depth = looking->depth;
    bool found = tnef_next(&level->rest, &file, &damaged);
    if (damaged)
        say(level, UNPACK_UNREADABLE, "damaged");
    if (!found)
        return close_level(looking);
    enum filetype type = filetype_of(str_slice(file.data, 0, FILETYPE_HEAD_ISO));
    struct str name = end_of_name(file.name.len ? file.name : file.title);
    if (!count_member(looking) || !count_bytes(looking, file.data.len))
        return OK;
    if (file.name.len && file.title.len &&
        tell(looking, depth, end_of_name(file.title), type, 0, "") != OK)
        return FAILED;
    if (!filetype_is_container(type))
        return tell(looking, depth, name, type, 0, "");
    if (file.data.len > UNPACK_HELD_MAX - looking->held) {
        stop(looking, "an archive in it is too large");
        return OK;
    }
    buf_clear(&looking->member);
    buf_append(&looking->member, file.data);
    push(looking, name, type);
    return OK;
}

/* One step on the level at work. */
static enum result step(struct looking *looking)
{
    struct level *level = top(looking);
    struct archive_entry *entry;
    if (!looking->over && level->type == FILETYPE_TNEF)
        return step_tnef(looking);
    if (looking->over || !level->archive)
        return close_level(looking);
    int got = archive_read_next_header(level->archive, &entry);
    if (got == ARCHIVE_EOF)
        return close_level(looking);
    if (got != ARCHIVE_OK && got != ARCHIVE_WARN) {
        (void)say_trouble(level);
        if (got == ARCHIVE_RETRY) /* a member; the next may be good; each try counts */
            return ++looking->spent->members > looking->limits->members ? close_level(looking) : OK;
        return close_level(looking);
    }
    /* gzip in gzip in gzip: filters in a row are archives in archives, too */
    if (looking->depth + (unsigned)archive_filter_count(level->archive) >
        looking->limits->depth + 2) {
        stop(looking, "compressed again and again, deeper than may be looked at");
        return OK;
    }
    return look_at_member(looking, entry);
}

enum result unpack_look(struct str data, const struct unpack_limits *limits, unpack_sink sink,
                        void *context, struct unpack_spent *out_spent, struct error *err)
{
    struct looking *looking = NEW(struct looking); /* too large for a stack */
    enum result result = OK;
    looking->limits = limits;
    looking->sink = sink;
    looking->context = context;
    looking->spent = out_spent;
    looking->packed = data.len;
    looking->err = err;
    *out_spent = (struct unpack_spent){0};
    buf_init(&looking->member, UNPACK_HELD_MAX);
    looking->levels[0] =
        (struct level){.bytes = data, .type = filetype_of(str_slice(data, 0, FILETYPE_HEAD_ISO))};
    looking->depth = 1;
    open_level(&looking->levels[0]);
    while (result == OK && looking->depth)
        result = step(looking);
    for (; looking->depth; looking->depth--)
        free_level(top(looking));
    buf_done(&looking->member);
    free(looking);
    return result;
}
