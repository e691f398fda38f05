/* SPDX-License-Identifier: Apache-2.0 */
#include "content/signed_names.h"

/* Those of RFC 6376 5.4.1. What is `guarded` is named once more than it is there: then nobody can
 * put another From, Subject, … on top of the message, for readers to see and us to vouch for. */
static const struct signed_field {
    const char *name;
    bool guarded;
} signed_fields[] = {
    {"From", true},
    {"To", true},
    {"Cc", true},
    {"Subject", true},
    {"Date", true},
    {"Message-ID", true},
    {"Reply-To", true},
    {"MIME-Version", true},
    {"Content-Type", true},
    {"Content-Transfer-Encoding", true},
    {"Content-Disposition", true},
    {"Content-ID", true},
    {"Content-Description", true},
    {"Sender", false},
    {"In-Reply-To", false},
    {"References", false},
    {"Resent-Date", false},
    {"Resent-From", false},
    {"Resent-To", false},
    {"Resent-Cc", false},
    {"Resent-Message-ID", false},
    {"List-Id", false},
    {"List-Help", false},
    {"List-Unsubscribe", false},
    {"List-Unsubscribe-Post", false},
    {"List-Subscribe", false},
    {"List-Post", false},
    {"List-Owner", false},
    {"List-Archive", false},
    {"Feedback-ID", false},
};

enum result signed_names_choose(const struct fields *fields, struct str names[SIGNED_NAMES_MAX],
                                size_t *out_count, struct error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < sizeof signed_fields / sizeof *signed_fields; i++) {
        struct str name = str_c(signed_fields[i].name);
        int times = fields_count(fields, name) + (signed_fields[i].guarded ? 1 : 0);
        for (int n = 0; n < times; n++) {
            if (count == SIGNED_NAMES_MAX)
                return fail(err, ERROR_LIMIT, "over %d fields to sign", SIGNED_NAMES_MAX);
            names[count++] = name;
        }
    }
    *out_count = count;
    return OK;
}
