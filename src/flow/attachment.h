/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/attachment.h - what is wrong with a file, by its name and by what it is: rules without a
 * message. Shared by the block `attachment` and its tests.
 */
#pragma once

#include "content/filename.h"
#include "content/filetype.h"

/* In the order of their weight: of several the first counts. */
enum attachment_fault {
    ATTACHMENT_FORBIDDEN,
    ATTACHMENT_DISGUISED,
    ATTACHMENT_LIMIT,
    ATTACHMENT_ERROR,
    ATTACHMENT_MACRO,
    ATTACHMENT_ENCRYPTED,
    ATTACHMENT_UNREADABLE,
    ATTACHMENT_MISMATCH,
    ATTACHMENT_NONE, /* nothing is wrong */
};

enum { ATTACHMENT_PATTERNS_MAX = 200 };

struct attachment_patterns { /* lower case */
    const struct str *items;
    size_t count;
};
struct attachment_rules {
    struct attachment_patterns names;
    bool dangerous_names;
    struct attachment_patterns except; /* names that are allowed all the same */
    struct attachment_patterns types;  /* of media types: "image/?*" */
    unsigned groups;                   /* 1 << enum filetype_group */
};

/* By one of its names. *out_why in words where there is a fault. */
enum attachment_fault attachment_judge_name(const struct attachment_rules *rules,
                                            const struct filename *name, const char **out_why);
/* By what it is (FILETYPE_UNKNOWN: nothing that we know), and what `declared`, its Content-Type
 * (may be empty), and `name` (NULL: none) promise. */
enum attachment_fault attachment_judge_type(const struct attachment_rules *rules,
                                            enum filetype type, struct str declared,
                                            const struct filename *name, const char **out_why);
