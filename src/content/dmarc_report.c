/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dmarc_report.c - the door to expat, which reads; writing needs no library.
 *
 * Reports come from anybody: no DTD and so no entities, no element deeper than the format has,
 * texts and rows with ceilings.
 */
#include "content/dmarc_report.h"

#include <expat.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 8, TEXT_MAX = 1024, PATH_MAX_LEN = 256, SPACE_MAX = 256 * 1024 * 1024 };

/* ---- writing ---- */

/* Values come from mail: what XML cannot hold becomes a question mark. */
static void write_text(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '<')
            buf_append(out, STR("&lt;"));
        else if (c == '>')
            buf_append(out, STR("&gt;"));
        else if (c == '&')
            buf_append(out, STR("&amp;"));
        else
            buf_append_byte(out, c < ' ' || c > 126 ? '?' : (char)c);
    }
}

static void write_element(struct buf *out, unsigned depth, const char *name, struct str value)
{
    if (!value.len)
        return;
    buf_printf(out, "%*s<%s>", (int)depth * 2, "", name);
    write_text(out, value);
    buf_printf(out, "</%s>\n", name);
}

static void write_auth(struct buf *out, const struct dmarc_report_auth *auth)
{
    const char *kind = auth->is_spf ? "spf" : "dkim";
    buf_printf(out, "      <%s>\n", kind);
    write_element(out, 4, "domain", auth->domain);
    write_element(out, 4, "selector", auth->selector);
    write_element(out, 4, "scope", auth->scope);
    write_element(out, 4, "result", auth->result);
    buf_printf(out, "      </%s>\n", kind);
}

static void write_row(struct buf *out, const struct dmarc_report_row *row)
{
    buf_append(out, STR("  <record>\n    <row>\n"));
    write_element(out, 3, "source_ip", row->source_ip);
    buf_printf(out, "      <count>%llu</count>\n      <policy_evaluated>\n",
               (unsigned long long)row->count);
    write_element(out, 4, "disposition", row->disposition);
    write_element(out, 4, "dkim", row->dkim);
    write_element(out, 4, "spf", row->spf);
    if (row->reason.len) {
        buf_append(out, STR("        <reason>\n"));
        write_element(out, 5, "type", row->reason);
        write_element(out, 5, "comment", row->comment);
        buf_append(out, STR("        </reason>\n"));
    }
    buf_append(out, STR("      </policy_evaluated>\n    </row>\n    <identifiers>\n"));
    write_element(out, 3, "envelope_from", row->envelope_from);
    write_element(out, 3, "header_from", row->header_from);
    buf_append(out, STR("    </identifiers>\n    <auth_results>\n"));
    for (int spf = 0; spf < 2; spf++) /* in the order of the schema */
        for (size_t i = 0; i < row->auth_count; i++)
            if (row->auths[i].is_spf == (spf == 1))
                write_auth(out, &row->auths[i]);
    buf_append(out, STR("    </auth_results>\n  </record>\n"));
}

void dmarc_report_write(const struct dmarc_report *report, struct buf *out)
{
    buf_append(out, STR("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<feedback>\n"
                        "  <version>1.0</version>\n  <report_metadata>\n"));
    write_element(out, 2, "org_name", report->organization);
    write_element(out, 2, "email", report->email);
    write_element(out, 2, "extra_contact_info", report->contact);
    write_element(out, 2, "report_id", report->id);
    buf_printf(out,
               "    <date_range>\n      <begin>%lld</begin>\n      <end>%lld</end>\n"
               "    </date_range>\n  </report_metadata>\n  <policy_published>\n",
               (long long)report->begin_s, (long long)report->end_s);
    write_element(out, 2, "domain", report->domain);
    write_element(out, 2, "adkim", report->adkim);
    write_element(out, 2, "aspf", report->aspf);
    write_element(out, 2, "p", report->p);
    write_element(out, 2, "sp", report->sp);
    write_element(out, 2, "np", report->np);
    write_element(out, 2, "testing", report->testing);
    buf_append(out, STR("  </policy_published>\n"));
    for (size_t i = 0; i < report->row_count; i++)
        write_row(out, &report->rows[i]);
    buf_append(out, STR("</feedback>\n"));
}

/* ---- reading ---- */

struct reading {
    struct arena *arena;
    struct dmarc_report *out;
    XML_Parser parser;
    const char *fault;
    char path[PATH_MAX_LEN]; /* "feedback/record/row" */
    unsigned depth;
    char text[TEXT_MAX];
    size_t text_len;
    size_t row_cap;
    bool is_feedback;
};

static void stop(struct reading *reading, const char *fault)
{
    if (!reading->fault)
        reading->fault = fault;
    XML_StopParser(reading->parser, XML_FALSE);
}

/* Some write the elements in a namespace. */
static const char *local_name(const char *name)
{
    const char *colon = strrchr(name, ':');
    return colon ? colon + 1 : name;
}

static struct dmarc_report_row *row_of(struct reading *reading)
{
    struct dmarc_report *out = reading->out;
    return out->row_count ? &out->rows[out->row_count - 1] : NULL;
}

static void add_row(struct reading *reading)
{
    struct dmarc_report *out = reading->out;
    if (out->row_count == DMARC_REPORT_ROWS_MAX || arena_used(reading->arena) > SPACE_MAX) {
        stop(reading, "it has too many records");
        return;
    }
    if (out->row_count == reading->row_cap) {
        size_t cap = reading->row_cap ? reading->row_cap * 2 : 64;
        struct dmarc_report_row *rows = arena_alloc_array(reading->arena, cap, sizeof *rows);
        if (out->row_count)
            memcpy(rows, out->rows, out->row_count * sizeof *rows);
        out->rows = rows;
        reading->row_cap = cap;
    }
    struct dmarc_report_row *row = &out->rows[out->row_count++];
    *row = (struct dmarc_report_row){.source_ip = STR_EMPTY,
                                     .disposition = STR_EMPTY,
                                     .dkim = STR_EMPTY,
                                     .spf = STR_EMPTY,
                                     .reason = STR_EMPTY,
                                     .comment = STR_EMPTY,
                                     .header_from = STR_EMPTY,
                                     .envelope_from = STR_EMPTY};
}

static void add_auth(struct reading *reading, bool is_spf)
{
    struct dmarc_report_row *row = row_of(reading);
    if (!row || row->auth_count == DMARC_REPORT_AUTHS_MAX)
        return;
    row->auths[row->auth_count++] = (struct dmarc_report_auth){.is_spf = is_spf,
                                                               .domain = STR_EMPTY,
                                                               .selector = STR_EMPTY,
                                                               .result = STR_EMPTY,
                                                               .scope = STR_EMPTY};
}

static void XMLCALL begin_element(void *context, const XML_Char *name, const XML_Char **attributes)
{
    struct reading *reading = context;
    size_t len = strlen(reading->path);
    (void)attributes;
    name = local_name(name);
    reading->text_len = 0;
    if (++reading->depth > DEPTH_MAX || len + strlen(name) + 2 > sizeof reading->path) {
        stop(reading, "it is nested too deep");
        return;
    }
    if (len)
        reading->path[len++] = '/';
    memcpy(reading->path + len, name, strlen(name) + 1);
    if (strcmp(reading->path, "feedback") == 0)
        reading->is_feedback = true;
    else if (strcmp(reading->path, "feedback/record") == 0)
        add_row(reading);
    else if (strcmp(reading->path, "feedback/record/auth_results/dkim") == 0)
        add_auth(reading, /* is_spf= */ false);
    else if (strcmp(reading->path, "feedback/record/auth_results/spf") == 0)
        add_auth(reading, /* is_spf= */ true);
}

static void XMLCALL take_text(void *context, const XML_Char *text, int length)
{
    struct reading *reading = context;
    size_t room = sizeof reading->text - reading->text_len;
    size_t take = (size_t)length < room ? (size_t)length : room;
    memcpy(reading->text + reading->text_len, text, take);
    reading->text_len += take;
}

static struct str value_of(struct reading *reading)
{
    return arena_str(reading->arena, str_trim(str_of(reading->text, reading->text_len)));
}

/* Where each text goes: a member of the report or of its last row. */
static struct str *report_member(struct dmarc_report *out, const char *path)
{
    const struct {
        const char *path;
        struct str *member;
    } members[] = {
        {"report_metadata/org_name", &out->organization},
        {"report_metadata/email", &out->email},
        {"report_metadata/extra_contact_info", &out->contact},
        {"report_metadata/report_id", &out->id},
        {"policy_published/domain", &out->domain},
        {"policy_published/p", &out->p},
        {"policy_published/sp", &out->sp},
        {"policy_published/np", &out->np},
        {"policy_published/adkim", &out->adkim},
        {"policy_published/aspf", &out->aspf},
        {"policy_published/testing", &out->testing},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (strcmp(members[i].path, path) == 0)
            return members[i].member;
    return NULL;
}

static struct str *row_member(struct dmarc_report_row *row, const char *path)
{
    struct dmarc_report_auth *auth = row->auth_count ? &row->auths[row->auth_count - 1] : NULL;
    const struct {
        const char *path;
        struct str *member;
    } members[] = {
        {"row/source_ip", &row->source_ip},
        {"row/policy_evaluated/disposition", &row->disposition},
        {"row/policy_evaluated/dkim", &row->dkim},
        {"row/policy_evaluated/spf", &row->spf},
        {"row/policy_evaluated/reason/type", &row->reason},
        {"row/policy_evaluated/reason/comment", &row->comment},
        {"identifiers/header_from", &row->header_from},
        {"identifiers/envelope_from", &row->envelope_from},
        {"auth_results/dkim/domain", auth ? &auth->domain : NULL},
        {"auth_results/dkim/selector", auth ? &auth->selector : NULL},
        {"auth_results/dkim/result", auth ? &auth->result : NULL},
        {"auth_results/spf/domain", auth ? &auth->domain : NULL},
        {"auth_results/spf/scope", auth ? &auth->scope : NULL},
        {"auth_results/spf/result", auth ? &auth->result : NULL},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (strcmp(members[i].path, path) == 0)
            return members[i].member;
    return NULL;
}

static void take_number(struct reading *reading, const char *path)
{
    struct dmarc_report_row *row = row_of(reading);
    uint64_t number;
    if (!str_to_uint(value_of(reading), INT64_MAX, &number))
        return;
    if (strcmp(path, "report_metadata/date_range/begin") == 0)
        reading->out->begin_s = (int64_t)number;
    else if (strcmp(path, "report_metadata/date_range/end") == 0)
        reading->out->end_s = (int64_t)number;
    else if (row && strcmp(path, "record/row/count") == 0)
        row->count = number;
}

static void XMLCALL end_element(void *context, const XML_Char *name)
{
    struct reading *reading = context;
    struct str path = str_c(reading->path);
    struct dmarc_report_row *row = row_of(reading);
    struct str *member = NULL;
    (void)name;
    if (str_starts(path, STR("feedback/")) && reading->text_len) {
        const char *inner = reading->path + 9;
        if (row && str_starts(str_c(inner), STR("record/")))
            member = row_member(row, inner + 7);
        else
            member = report_member(reading->out, inner);
        if (member && !member->len) /* of several the first counts */
            *member = value_of(reading);
        take_number(reading, inner);
    }
    reading->text_len = 0;
    reading->depth--;
    ptrdiff_t slash = str_find_last(path, '/');
    reading->path[slash > 0 ? slash : 0] = '\0';
}

static void XMLCALL refuse_doctype(void *context, const XML_Char *name, const XML_Char *system_id,
                                   const XML_Char *public_id, int has_internal_subset)
{
    (void)name, (void)system_id, (void)public_id, (void)has_internal_subset;
    stop(context, "it declares a document type");
}

enum result dmarc_report_read(struct str xml, struct arena *arena, struct dmarc_report *out,
                              struct error *err)
{
    struct reading reading = {.arena = arena, .out = out, .parser = XML_ParserCreate(NULL)};
    *out = (struct dmarc_report){.organization = STR_EMPTY,
                                 .email = STR_EMPTY,
                                 .contact = STR_EMPTY,
                                 .id = STR_EMPTY,
                                 .domain = STR_EMPTY,
                                 .p = STR_EMPTY,
                                 .sp = STR_EMPTY,
                                 .np = STR_EMPTY,
                                 .adkim = STR_EMPTY,
                                 .aspf = STR_EMPTY,
                                 .testing = STR_EMPTY};
    if (!reading.parser)
        return fail(err, ERROR_TEMPORARY, "no memory for the XML reader");
    XML_SetUserData(reading.parser, &reading);
    XML_SetElementHandler(reading.parser, begin_element, end_element);
    XML_SetCharacterDataHandler(reading.parser, take_text);
    XML_SetStartDoctypeDeclHandler(reading.parser, refuse_doctype);
    enum result result = OK;
    if (xml.len > DMARC_REPORT_XML_MAX)
        result = fail(err, ERROR_LIMIT, "the report is over %d bytes", DMARC_REPORT_XML_MAX);
    else if (XML_Parse(reading.parser, xml.ptr, (int)xml.len, XML_TRUE) != XML_STATUS_OK)
        result =
            fail(err, ERROR_PROTOCOL, "no report: %s in line %lu",
                 reading.fault ? reading.fault : XML_ErrorString(XML_GetErrorCode(reading.parser)),
                 (unsigned long)XML_GetCurrentLineNumber(reading.parser));
    else if (!reading.is_feedback || !out->domain.len)
        result = fail(err, ERROR_PROTOCOL, "no report: it names no domain");
    XML_ParserFree(reading.parser);
    return result;
}
