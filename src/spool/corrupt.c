/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged messages: their bytes go to a file in `corrupt`, their name into an event. */
#include "event/event.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* "0000000000000003-64-01KP….raw": segment, offset, and the entry if it is known. */
static void name_of(const struct spool_damage *damage, char out[96])
{
    struct mail_id_text text = mail_id_text(damage->entry);
    snprintf(out, 96, "%016" PRIx64 "-%" PRIu64 "%s%s.raw", damage->segment, damage->begin,
             damage->named ? "-" : "", damage->named ? text.chars : "");
}

/* Its name comes when all of it is there: a crash or an error before leaves it to the next start.
 */
static void keep_bytes(struct spool *spool, const char *name, struct str bytes)
{
    char part[104];
    snprintf(part, sizeof part, "%s.part", name);
    int fd = openat(spool->corrupt_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return;
    struct iovec piece = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    struct error ignored;
    bool whole = spool_files_write(fd, &piece, bytes.len ? 1 : 0, 0, &ignored) == OK &&
                 spool_files_sync(spool, fd, &ignored) == OK;
    close(fd);
    if (whole && renameat(spool->corrupt_fd, part, spool->corrupt_fd, name) == 0)
        (void)spool_files_sync_folder(spool, spool->corrupt_fd, &ignored);
}

bool spool_set_aside(struct spool *spool, const struct spool_damage *damage, struct str bytes)
{
    char name[96];
    name_of(damage, name);
    if (faccessat(spool->corrupt_fd, name, F_OK, 0) == 0)
        return false; /* an earlier start told of it */
    keep_bytes(spool, name, bytes);
    atomic_fetch_add(&spool->damaged, 1);
    struct mail_id_text entry = mail_id_text(damage->entry);
    struct mail_id_text message = mail_id_text(damage->message);
    event_emit(EVENT_SPOOL_DAMAGED, F_C(ENTRY, damage->named ? entry.chars : ""),
               F_C(MESSAGE, damage->named ? message.chars : ""), F_C(FILE, name),
               F_INT(SEGMENT, damage->segment), F_INT(OFFSET, damage->begin),
               F_INT(SIZE, damage->end - damage->begin), F_C(WHY, damage->why));
    return true;
}

void spool_set_body_aside(struct spool *spool, uint64_t bulk)
{
    char name[SPOOL_NAME_SIZE];
    struct error ignored;
    spool_segment_name(bulk, SPOOL_SEGMENT_BULK, name);
    if (linkat(spool->bulk_fd, name, spool->corrupt_fd, name, 0) == 0)
        (void)spool_files_sync_folder(spool, spool->corrupt_fd, &ignored);
}
