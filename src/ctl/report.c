/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/report.c - `postern report …`: aggregate reports of DMARC, those that others sent and ours.
 *
 * What came by mail is unpacked and parsed by a child without files, network or much memory
 * (base/confine.h): reports come from anybody.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/confine.h"
#include "content/dmarc_report.h"
#include "ctl/ctl.h"
#include "ctl/list.h"
#include "ctl/report_unpack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { INPUT_MAX = 64 * 1024 * 1024, CHILD_MEMORY = 1024 * 1024 * 1024, CHILD_SECONDS = 60 };

/* ---- printing, in the child ---- */

static void print_day(int64_t seconds, char out[TIME_RFC3339_SIZE])
{
    struct str text = clock_format_rfc3339(seconds * NS_PER_S, out);
    out[text.len < 10 ? text.len : 10] = '\0';
}

static void print_head(const struct dmarc_report *report)
{
    char begin[TIME_RFC3339_SIZE], end[TIME_RFC3339_SIZE];
    print_day(report->begin_s, begin);
    print_day(report->end_s, end);
    printf("%.*s, %s", STR_ARG(report->domain), begin);
    if (strcmp(begin, end) != 0)
        printf(" to %s", end);
    printf(", by %.*s: policy %.*s\n", STR_ARG(report->organization),
           STR_ARG(report->p.len ? report->p : STR("none")));
    printf("%8s  %-39s %-5s %-5s %-10s %s\n", "messages", "from", "spf", "dkim", "action",
           "header from");
}

static json_t *auths_json(const struct dmarc_report_row *row)
{
    json_t *list = json_array();
    for (size_t i = 0; i < row->auth_count; i++) {
        const struct dmarc_report_auth *auth = &row->auths[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:s%, s:s%}", "by", auth->is_spf ? "spf" : "dkim",
                                        "domain", auth->domain.ptr, auth->domain.len, "result",
                                        auth->result.ptr, auth->result.len));
    }
    return list;
}

static void print_row_json(const struct ctl *ctl, const struct dmarc_report *report,
                           const struct dmarc_report_row *row)
{
    json_t *item = json_pack(
        "{s:s%, s:s%, s:I, s:I, s:s%, s:I, s:s%, s:s%, s:s%, s:s%, s:o}", "domain",
        report->domain.ptr, report->domain.len, "organization", report->organization.ptr,
        report->organization.len, "begin", (json_int_t)report->begin_s, "end",
        (json_int_t)report->end_s, "source_ip", row->source_ip.ptr, row->source_ip.len, "count",
        (json_int_t)row->count, "spf", row->spf.ptr, row->spf.len, "dkim", row->dkim.ptr,
        row->dkim.len, "disposition", row->disposition.ptr, row->disposition.len, "header_from",
        row->header_from.ptr, row->header_from.len, "results", auths_json(row));
    if (item)
        ctl_print_item(ctl, item, NULL);
    json_decref(item);
}

static void print_report(const struct ctl *ctl, const struct dmarc_report *report)
{
    uint64_t passed = 0, total = 0;
    if (!ctl->json)
        print_head(report);
    for (size_t i = 0; i < report->row_count; i++) {
        const struct dmarc_report_row *row = &report->rows[i];
        bool passes = str_equal(row->spf, STR("pass")) || str_equal(row->dkim, STR("pass"));
        total += row->count;
        passed += passes ? row->count : 0;
        if (ctl->json) {
            print_row_json(ctl, report, row);
            continue;
        }
        printf("%8llu  ", (unsigned long long)row->count);
        char line[1024];
        snprintf(line, sizeof line, "%-39.*s %-5.*s %-5.*s %-10.*s %.*s", STR_ARG(row->source_ip),
                 STR_ARG(row->spf), STR_ARG(row->dkim), STR_ARG(row->disposition),
                 STR_ARG(row->header_from));
        ctl_print_text(line);
        printf("%s\n", passes ? "" : "   <-- neither is yours");
    }
    if (!ctl->json)
        printf("%llu of %llu passed\n", (unsigned long long)passed, (unsigned long long)total);
}

static bool take_xml(struct str xml, void *context)
{
    struct ctl *ctl = context;
    struct arena *arena = arena_new(0);
    struct dmarc_report report;
    struct error err;
    bool good = dmarc_report_read(xml, arena, &report, &err) == OK;
    if (good)
        print_report(ctl, &report);
    else
        fprintf(stderr, "postern: %s\n", err.text);
    arena_free(arena);
    return good;
}

/* ---- the child ---- */

static void read_input(struct ctl *ctl, struct str input)
{
    /* no files, no network; from here on it is not trusted */
    const struct confine_limits limits = {
        .memory = CHILD_MEMORY, .seconds = CHILD_SECONDS, .keep_descriptor = -1};
    struct error err;
    if (confine(&limits, &err) != OK) {
        fprintf(stderr, "postern: cannot confine the reader of reports: %s\n", err.text);
        exit(CTL_NO);
    }
    bool good = report_unpack(input, take_xml, ctl, &err) == OK;
    if (!good)
        fprintf(stderr, "postern: %s\n", err.text);
    fflush(stdout);
    _exit(good ? CTL_YES : CTL_NO);
}

static int read_confined(struct ctl *ctl, struct str input)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        read_input(ctl, input);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return CTL_NO;
    if (WIFSIGNALED(status))
        fprintf(stderr, "postern: the reader of reports ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : CTL_NO;
}

static bool slurp(FILE *file, struct buf *out)
{
    char *space;
    while ((space = buf_reserve(out, 65536))) {
        size_t got = fread(space, 1, 65536, file);
        out->len += got;
        if (got == 0)
            return !ferror(file);
    }
    return false;
}

int ctl_report_dmarc(struct ctl *ctl)
{
    int code = CTL_YES;
    ctl_arguments(ctl, 0, 1000);
    for (int i = 0; i < ctl->argc || (i == 0 && ctl->argc == 0); i++) {
        struct buf text BUF_CLEANUP;
        FILE *file = ctl->argc ? fopen(ctl->argv[i], "re") : stdin;
        buf_init(&text, INPUT_MAX);
        if (!file || !slurp(file, &text)) {
            fprintf(stderr, "postern: cannot read %s: %s\n", ctl->argc ? ctl->argv[i] : "the input",
                    text.overflow ? "it is too large" : strerror(errno));
            code = CTL_NO;
        } else if (read_confined(ctl, buf_str(&text)) != CTL_YES) {
            code = CTL_NO;
        }
        if (file && file != stdin)
            fclose(file);
    }
    return code;
}

/* ---- ours ---- */

static void print_waiting(json_t *report)
{
    printf("%s %8lld  ", ctl_text(report, "day"), ctl_number(report, "messages"));
    ctl_print_text(ctl_text(report, "domain"));
    printf("\n");
}

int ctl_report_list(struct ctl *ctl)
{
    const struct ctl_list list = {"/api/v1/reports/dmarc", "Report", .print = print_waiting};
    struct ctl_listed listed;
    ctl_arguments(ctl, 0, 0);
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json && listed.shown == 0)
        printf("no report waits\n");
    ctl_listed_free(&listed);
    return CTL_YES;
}

int ctl_report_send(struct ctl *ctl)
{
    struct ctl_answer answer;
    bool today = ctl_flag(ctl, "--today");
    ctl_arguments(ctl, 0, 0);
    json_t *body = json_pack("{s:b}", "today", today);
    int code = ctl_request(ctl, "POST", "/api/v1/reports/dmarc/send", body, &answer);
    json_decref(body);
    if (code != CTL_YES)
        return code;
    if (!ctl_print_change(ctl, answer.json))
        printf("%lld sent\n", ctl_number(answer.json, "sent"));
    json_decref(answer.json);
    return CTL_YES;
}
