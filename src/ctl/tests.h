/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/tests.h - the flow tests beside a configuration, as one step of another command. */
#pragma once

#include "ctl/ctl.h"

struct settings;

struct ctl_tally {
    size_t passed, failed, broken; /* broken: files */
    bool quiet;                    /* print what fails, for people */
};

/* Run FOLDER/tests/\*.test.yaml; no tests are no failure. */
void ctl_test_beside(struct ctl *ctl, const struct settings *settings, struct str folder,
                     struct ctl_tally *tally);
