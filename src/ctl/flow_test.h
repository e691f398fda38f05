/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/flow_test.h - files of flow tests (tests/NAME.test.yaml), read and run for `postern test`.
 */
#pragma once

#include "config/report.h"
#include "gateway/rehearsal.h"

enum { FLOW_TEST_EXPECT_MAX = 16 };

struct flow_test_difference {
    const char *key;
    struct config_place place; /* of the expectation */
    struct str expected;
    struct str got;
};

struct flow_test_result {
    struct str name;
    struct config_place place;
    struct rehearsal rehearsal;
    struct flow_test_difference differences[FLOW_TEST_EXPECT_MAX];
    size_t difference_count; /* 0: passed */
};

/* Run every test of a file; the results live in the report's arena. FAILED: the file has errors,
 * which stand in the report, and nothing was run. */
enum result flow_test_run_file(const char *path, const struct settings *settings,
                               struct config_report *report, struct flow_test_result **out_results,
                               size_t *out_count, struct error *err);
