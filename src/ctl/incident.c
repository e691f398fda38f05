/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/incident.c - `postern contain`, `postern incident …`: accounts that are not in their owner's
 * hands. */
#include "ctl/list.h"

#include <stdio.h>
#include <string.h>

static void print_named(const char *label, const char *text)
{
    if (!text[0])
        return;
    printf("  %-11s", label);
    ctl_print_text(text);
    printf("\n");
}

static void print_time(const char *label, json_t *incident, const char *name, const char *by)
{
    if (!ctl_text(incident, name)[0])
        return;
    printf("  %-11s", label);
    ctl_print_time(ctl_text(incident, name), true);
    if (ctl_text(incident, by)[0]) {
        printf(" by ");
        ctl_print_text(ctl_text(incident, by));
    }
    printf("\n");
}

static void print_shares(const char *label, json_t *shares)
{
    size_t i;
    json_t *share;
    json_array_foreach(shares, i, share)
    {
        printf("  %-11s%6lld  ", i == 0 ? label : "", ctl_number(share, "count"));
        ctl_print_text(ctl_text(share, "name"));
        printf("\n");
    }
}

static void print_queued(json_t *incident)
{
    size_t i;
    json_t *row;
    long long entries = ctl_number(incident, "queued_entries");
    printf("  %-11s%6lld  in the queue\n", "its mail", entries);
    json_array_foreach(json_object_get(incident, "queued"), i, row)
    {
        json_t *states = json_object_get(row, "states");
        printf("  %-11s%6lld  ", "", ctl_number(row, "count"));
        ctl_print_text(ctl_text(row, "transport"));
        printf(" -> ");
        ctl_print_text(ctl_text(row, "destination"));
        printf(" (%lld held)\n", ctl_number(states, "held"));
    }
}

static void print_incident(json_t *incident)
{
    printf("incident %s: ", ctl_text(incident, "incident"));
    ctl_print_text(ctl_text(incident, "user"));
    printf(" (%s)\n", ctl_text(incident, "state"));
    print_time("opened", incident, "opened", "opened_by");
    print_named("because", ctl_text(incident, "reason"));
    if (strcmp(ctl_text(incident, "by"), "user") != 0)
        print_named(ctl_text(incident, "by"), ctl_text(incident, "subject"));
    print_time("closed", incident, "closed", "closed_by");
    print_named("because", ctl_text(incident, "closing_reason"));
    if (ctl_text(incident, "since")[0]) {
        print_time("since", incident, "since", "");
        printf("  %-11s%6lld\n", "messages", ctl_number(incident, "messages"));
        printf("  %-11s%6lld  of which %lld do not exist\n", "recipients",
               ctl_number(incident, "recipients"), ctl_number(incident, "unknown_recipients"));
    }
    print_shares("to", json_object_get(incident, "domains"));
    print_shares("from", json_object_get(incident, "clients"));
    print_queued(incident);
    if (strcmp(ctl_text(incident, "state"), "open") != 0)
        return;
    printf("next: postern queue list --user ");
    ctl_print_text(ctl_text(incident, "user"));
    printf(" | incident close %s --release | --drop\n", ctl_text(incident, "incident"));
}

int ctl_incident_show(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 1);
    struct str path =
        arena_printf(ctl->arena, "/api/v1/incidents/%s", ctl_url_text(ctl, ctl->argv[0]));
    return ctl_show(ctl, path.ptr, print_incident);
}

static void print_line(json_t *incident)
{
    printf("%-5s %-9s ", ctl_text(incident, "incident"), ctl_text(incident, "state"));
    ctl_print_time(ctl_text(incident, "opened"), true);
    printf("  ");
    ctl_print_text(ctl_text(incident, "user"));
    printf("  ");
    ctl_print_text(ctl_text(incident, "reason"));
    printf("\n");
}

int ctl_incident_list(struct ctl *ctl)
{
    struct ctl_listed listed;
    bool all = ctl_flag(ctl, "--all");
    const char *limit = ctl_option(ctl, "--limit");
    ctl_arguments(ctl, 0, 0);
    const struct ctl_list list = {all ? "/api/v1/incidents?state=all" : "/api/v1/incidents",
                                  "Incident", .limit = limit, .print = print_line};
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json && listed.shown == 0)
        printf("no account is contained\n");
    else if (!ctl->json)
        printf("next: postern incident show N | close N --release | --drop\n");
    ctl_listed_free(&listed);
    return CTL_YES;
}

int ctl_incident_close(struct ctl *ctl)
{
    struct ctl_answer answer;
    bool release = ctl_flag(ctl, "--release");
    bool drop = ctl_flag(ctl, "--drop");
    ctl_arguments(ctl, 1, 1);
    if (release == drop) {
        fprintf(stderr, "postern: what becomes of the held mail? --release or --drop\n");
        return CTL_USAGE;
    }
    if (drop && !ctl->dry_run &&
        !ctl_confirm(ctl, "drop all held mail of this account, and tell nobody?"))
        return CTL_NO;
    struct str path =
        arena_printf(ctl->arena, "/api/v1/incidents/%s/closings", ctl_url_text(ctl, ctl->argv[0]));
    json_t *body = json_pack("{s:s}", "held", drop ? "drop" : "release");
    int code = ctl_request(ctl, "POST", path.ptr, body, &answer);
    json_decref(body);
    if (code)
        return code;
    if (!ctl_print_change(ctl, answer.json))
        printf("incident %s is closed, its account may log in; %lld %s%s\n", ctl->argv[0],
               ctl_number(answer.json, "count"), drop ? "dropped" : "released",
               json_is_true(json_object_get(answer.json, "done")) ? "" : ", the rest follows");
    json_decref(answer.json);
    return CTL_YES;
}

int ctl_contain(struct ctl *ctl)
{
    struct ctl_answer answer;
    ctl_arguments(ctl, 1, 1);
    json_t *body = json_pack("{s:s}", "user", ctl->argv[0]);
    int code = ctl_request(ctl, "POST", "/api/v1/incidents", body, &answer);
    json_decref(body);
    if (code)
        return code;
    if (ctl_print_change(ctl, answer.json)) {
        ;
    } else if (json_is_true(json_object_get(answer.json, "new"))) {
        printf("incident %s: ", ctl_text(answer.json, "incident"));
        ctl_print_text(ctl->argv[0]);
        printf(" is contained, %lld held.  next: postern incident show %s\n",
               ctl_number(answer.json, "held"), ctl_text(answer.json, "incident"));
    } else {
        ctl_print_text(ctl->argv[0]);
        printf(" was contained already, by incident %s\n", ctl_text(answer.json, "incident"));
    }
    json_decref(answer.json);
    return CTL_YES;
}
