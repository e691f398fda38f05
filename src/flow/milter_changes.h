/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/milter_changes.h - what a milter wants changed, made of it what a run can do.
 *
 * All of it is understood before any of it is done: a message is never left half changed.
 */
#pragma once

#include "content/milter.h"
#include "flow/header_edit.h"

enum milter_recipients {                           /* which it may add */
                         MILTER_RECIPIENTS_NONE,   /* nor take away */
                         MILTER_RECIPIENTS_LISTED, /* of domains that the file lists */
                         MILTER_RECIPIENTS_ANY
};

struct milter_changes {
    struct header_edit edit; /* begun by the caller, who showed its fields */
    bool has_fields;
    bool has_sender;
    struct str sender;
    const struct mail_sender *sender_parameters; /* NULL: as they were */
    bool has_recipients;
    struct mail_recipient *recipients;
    struct str *keys;
    long *came_as;
    size_t recipient_count, recipient_cap;
    struct str quarantine; /* why; NULL pointer: not wanted */
    unsigned fields_changed, recipients_added, recipients_deleted;
};

/* FAILED: something in it cannot be done, and why. */
enum result milter_changes_read(struct milter_changes *changes, struct flow_running *running,
                                const struct milter_opinion *opinion,
                                enum milter_recipients allowed, struct error *err);
/* Takes over the body of the opinion. FAILED with ERROR_LIMIT: nothing was done. */
enum result milter_changes_apply(const struct milter_changes *changes, struct flow_running *running,
                                 struct milter_opinion *opinion, struct error *err);
/* "2 fields, the body" for the trace; empty: none. */
struct str milter_changes_words(const struct milter_changes *changes,
                                const struct milter_opinion *opinion, struct arena *arena);
