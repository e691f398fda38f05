/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dmarc_report.h - aggregate reports of DMARC as XML (RFC 9990, and RFC 7489 appendix C,
 * which most of the world still speaks): written and read.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

enum {
    DMARC_REPORT_XML_MAX = 64 * 1024 * 1024,
    DMARC_REPORT_ROWS_MAX = 200000,
    DMARC_REPORT_AUTHS_MAX = 20, /* results of one row */
};

struct dmarc_report_auth { /* one result of DKIM or SPF */
    bool is_spf;
    struct str domain, selector, result;
    struct str scope; /* SPF: mfrom or helo */
};

struct dmarc_report_row {
    struct str source_ip;
    uint64_t count;
    struct str disposition;     /* none, quarantine, reject */
    struct str dkim, spf;       /* aligned: pass or fail */
    struct str reason, comment; /* of an override; or empty */
    struct str header_from, envelope_from;
    struct dmarc_report_auth auths[DMARC_REPORT_AUTHS_MAX];
    size_t auth_count;
};

struct dmarc_report {
    struct str organization, email, contact, id;
    int64_t begin_s, end_s; /* seconds since 1970 */
    struct str domain;      /* whose policy it is */
    struct str p, sp, np, adkim, aspf, testing;
    struct dmarc_report_row *rows;
    size_t row_count;
};

void dmarc_report_write(const struct dmarc_report *report, struct buf *out);

/* Texts and rows in `arena`, whatever else is in the XML passed over. FAILED: it is none, or it
 * declares a DTD, or has too much of something. */
enum result dmarc_report_read(struct str xml, struct arena *arena, struct dmarc_report *out,
                              struct error *err);
