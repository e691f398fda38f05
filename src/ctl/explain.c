/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/explain.c - `postern explain ADDRESS`: what would become of a message, by the file alone.
 */
#include "ctl/explain.h"
#include "ctl/list.h"

#include "admin/explanation.h"
#include "base/buf.h"

#include <stdio.h>
#include <string.h>

enum { REPORT_MAX = 1024 * 1024 };

/* ---- printing ---- */

static void print_head(json_t *out)
{
    const char *user = ctl_text(out, "user");
    printf("listener %s, ", ctl_text(out, "listener"));
    if (user[0]) {
        printf("user ");
        ctl_print_text(user);
    } else {
        printf("%s",
               json_is_true(json_object_get(out, "trusted")) ? "a trusted client" : "a stranger");
    }
    printf("%s\n", json_is_true(json_object_get(out, "tls")) ? ", with TLS" : "");
    if (json_object_get(out, "authentication"))
        explain_print_flow("authentication", json_object_get(out, "authentication"));
    if (ctl_text(out, "domain")[0])
        printf("domain %s  (%s)\n", ctl_text(out, "domain"), ctl_text(out, "domain_place"));
    if (ctl_text(out, "postmaster")[0])
        printf("  taken without asking: mail for postmaster goes to %s\n",
               ctl_text(out, "postmaster"));
}

static void print_answer(json_t *out, int code)
{
    json_t *recipients = json_object_get(out, "recipients");
    bool depends = json_array_size(json_object_get(recipients, "may")) > 1;
    const char *word = code == CTL_YES ? "accepted" : code == CTL_NO ? "refused" : "deferred";
    if (ctl_text(out, "reply")[0])
        printf("%s: %s\n", word, ctl_text(out, "reply"));
    else if (depends && code == CTL_YES)
        printf("it can be accepted: the branches above depend on what is not known here\n");
    else
        printf("it would be %s\n", word);
}

/* What steps may make of it that are not sure to be come past. */
static void print_other_ways(json_t *out)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(out, "or_transports"), i, one)
    {
        explain_print_transport(one, "or, if a step chooses it, transport");
    }
    json_array_foreach(json_object_get(out, "rewritten_by"), i, one)
    {
        printf("the recipient may be another behind %s: explain that address, too\n",
               json_string_value(one));
    }
}

static void print_all(json_t *out, int code)
{
    json_t *recipients = json_object_get(out, "recipients");
    json_t *content = json_object_get(out, "content");
    print_head(out);
    if (recipients)
        explain_print_flow("recipient", recipients);
    if (content) {
        explain_print_flow("content", content);
        if (json_is_true(json_object_get(content, "queued")))
            printf("  (after the message is accepted: processing is queued)\n");
        explain_print_transport(json_object_get(out, "transport"), "transport");
        print_other_ways(out);
    }
    print_answer(out, code);
}

/* ---- the command ---- */

static bool load(struct ctl *ctl, const char *path, struct settings **out_settings)
{
    struct config_report report;
    struct error err;
    config_report_init(&report, ctl->arena);
    if (settings_load(path, &report, out_settings, &err) == OK)
        return true;
    struct buf text BUF_CLEANUP;
    buf_init(&text, REPORT_MAX);
    config_report_print(&report, ctl->colour, &text);
    fwrite(buf_str(&text).ptr, 1, text.len, stderr);
    fprintf(stderr, "postern: %s: %s\n", path, err.text);
    return false;
}

static int run(struct ctl *ctl, const char *path, const struct explanation_question *question)
{
    struct settings *settings = NULL;
    struct error err;
    int code = CTL_USAGE;
    if (!load(ctl, path, &settings)) {
        settings_unref(settings);
        return CTL_USAGE;
    }
    json_t *out = explanation_make(settings, question, ctl->arena, &err);
    if (out) {
        const char *answer = ctl_text(out, "answer");
        code = strcmp(answer, "accept") == 0   ? CTL_YES
               : strcmp(answer, "reject") == 0 ? CTL_NO
                                               : CTL_TRY_AGAIN;
        if (ctl->json)
            ctl_print(ctl, out);
        else
            print_all(out, code);
    } else {
        fprintf(stderr, "postern: %s\n", err.text);
    }
    json_decref(out);
    settings_unref(settings);
    return code;
}

int ctl_explain(struct ctl *ctl)
{
    const char *from = ctl_option(ctl, "--from");
    const char *client = ctl_option(ctl, "--client");
    const char *user = ctl_option(ctl, "--user");
    const char *listener = ctl_option(ctl, "--listener");
    struct explanation_question question = {.has_from = from != NULL,
                                            .from = str_c(from),
                                            .client = str_c(client),
                                            .user = str_c(user),
                                            .listener = str_c(listener),
                                            .tls = ctl_flag(ctl, "--tls"),
                                            .dns = ctl_flag(ctl, "--dns")};
    ctl_arguments(ctl, 1, 2);
    question.address = str_c(ctl->argv[0]);
    return run(ctl, ctl->argc > 1 ? ctl->argv[1] : ctl_config_path(ctl), &question);
}
