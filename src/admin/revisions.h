/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/revisions.h - the configurations that were in force, kept on disk under a number each.
 *
 * A revision is the text of postern.yaml and conf.d/ as it was applied, with who, when and why;
 * files that the text names (passwords, keys, lists) are not copied. `state.json` beside them says
 * which is in force, which waits for its confirmation and until when. Each file is replaced whole,
 * durably. One thread writes, any may read.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "config/load.h"

enum { REVISION_HASH_SIZE = 65, REVISIONS_KEPT = 200, REVISIONS_BYTES = 64 * 1024 * 1024 };

struct revision {
    unsigned number;
    int64_t made_ns; /* wall */
    struct str actor;
    struct str reason;
    struct str fate;               /* empty, or how it ended: "reverted", "rolled back" */
    char hash[REVISION_HASH_SIZE]; /* of the texts */
    struct config_texts texts;
};

struct revisions_state {
    unsigned current; /* in force; 0: none yet */
    unsigned last;    /* the highest number given */
    unsigned pending; /* waits for its confirmation, or gets a share of the sessions; 0: none */
    unsigned share;   /* of 100 new sessions, for `pending`; 0: all */
    int64_t confirm_by_ns;              /* wall; 0: no deadline */
    int64_t applied_ns;                 /* wall */
    char file_hash[REVISION_HASH_SIZE]; /* of the files on disk when the state was decided */
};

struct revisions;

/* Make the folder (0700) if need be, read the state. FAILED when it cannot be used. */
enum result revisions_open(struct str folder, struct revisions **out, struct error *err);
void revisions_close(struct revisions *revisions); /* NULL is allowed */

struct revisions_state revisions_state(struct revisions *revisions);
enum result revisions_set_state(struct revisions *revisions, const struct revisions_state *state,
                                struct error *err);
/* The same on a full disk, in room that was kept for it: one time until there is room again. */
enum result revisions_set_state_in_spare(struct revisions *revisions,
                                         const struct revisions_state *state);
/* The same where the disk does not take it: until it does (with revisions_set_state), a restart
 * finds what was before. */
void revisions_assume_state(struct revisions *revisions, const struct revisions_state *state);

/* Keep the texts as the next number, which the state then has as its `last`; prunes the oldest
 * beyond REVISIONS_KEPT and REVISIONS_BYTES, never those that the state names. */
enum result revisions_add(struct revisions *revisions, const struct config_texts *texts,
                          struct str actor, struct str reason, unsigned *out_number,
                          struct error *err);
/* FAILED with ERROR_PERMANENT: there is no such number. Texts in `arena`. */
enum result revisions_read(struct revisions *revisions, unsigned number, struct arena *arena,
                           struct revision *out, struct error *err);
enum result revisions_set_fate(struct revisions *revisions, unsigned number, struct str fate,
                               struct error *err);
/* Numbers that are kept, ascending; in `arena`. */
unsigned *revisions_numbers(struct revisions *revisions, struct arena *arena, size_t *out_count);

/* Equal for equal texts under equal names beside their main file, wherever that is. */
void revisions_hash(const struct config_texts *texts, char out[REVISION_HASH_SIZE]);
/* "r41" or "41"; false: neither. */
bool revision_parse(struct str text, unsigned *out_number);
