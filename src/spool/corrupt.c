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

bool spool_set_aside(struct spool *spool, const struct spool_damage *damage, struct str bytes)
{
    char name[96];
    name_of(damage, name);
    int fd = openat(spool->corrupt_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0 && errno == EEXIST)
        return false; /* an earlier start told of it */
    if (fd >= 0) {
        struct iovec piece = {(void *)(uintptr_t)bytes.ptr, bytes.len};
        struct error ignored;
        if (spool_files_write(fd, &piece, bytes.len ? 1 : 0, 0, &ignored) == OK)
            (void)spool_files_sync(spool, fd, &ignored);
        close(fd);
        (void)spool_files_sync_folder(spool, spool->corrupt_fd, &ignored);
    }
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
