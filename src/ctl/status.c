/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/status.c - `postern status`: one screen. */
#include "base/clock.h"
#include "ctl/list.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOOKS_AGAIN = 5, LOOK_AGAIN_MS = 100 };

static void print_listeners(json_t *listeners)
{
    size_t i;
    json_t *listener;
    json_array_foreach(listeners, i, listener)
    {
        printf("  %-14s", ctl_text(listener, "name"));
        size_t k;
        json_t *address;
        json_array_foreach(json_object_get(listener, "addresses"), k, address)
            printf(" %s", json_string_value(address));
        printf("   %lld connected\n", ctl_number(listener, "sessions"));
    }
}

/* Held by an operator and held by a rule are counted apart, and listed together. */
static void print_queue(json_t *queue, json_t *totals)
{
    printf("queue      %lld ready, %lld waiting, %lld inflight, %lld held",
           ctl_number(queue, "ready"), ctl_number(queue, "waiting"), ctl_number(queue, "inflight"),
           ctl_number(queue, "held") + ctl_number(totals, "quarantined"));
    double oldest = json_number_value(json_object_get(queue, "oldest_seconds"));
    if (oldest >= 1)
        printf("; oldest %.0f s", oldest);
    printf("\n");
}

static void print_totals(json_t *totals, bool balanced)
{
    printf("totals     %lld accepted, %lld generated = %lld delivered, %lld failed (%lld without "
           "a notice), %lld discarded, %lld dropped",
           ctl_number(totals, "accepted"), ctl_number(totals, "generated"),
           ctl_number(totals, "delivered"),
           ctl_number(totals, "failed_dsn") + ctl_number(totals, "failed_silent"),
           ctl_number(totals, "failed_silent"), ctl_number(totals, "discarded"),
           ctl_number(totals, "dropped"));
    long long damaged = ctl_number(totals, "damaged");
    if (damaged)
        printf(", %lld damaged", damaged);
    printf(" + queue%s\n", balanced ? "" : "   THE BOOKS DIFFER");
}

static void print_configuration(json_t *status)
{
    json_t *pending = json_object_get(status, "config_pending");
    if (strcmp(ctl_text(status, "config_file"), "differs") == 0)
        printf("           the file is not what is in force: postern config diff\n");
    if (!json_is_object(pending))
        return;
    long long share = ctl_number(pending, "share");
    printf("           %s ", ctl_text(pending, "revision"));
    if (share)
        printf("gets %lld%% of the new sessions; ", share);
    ctl_print_moment("is taken back ", pending, "confirm_by");
    printf("%s: postern config confirm\n",
           ctl_text(pending, "confirm_by")[0] ? " unless confirmed" : "for all of them");
}

int ctl_status(struct ctl *ctl)
{
    bool ready = ctl_flag(ctl, "--ready");
    ctl_arguments(ctl, 0, 0);
    struct ctl_answer answer;
    int code = ctl_request(ctl, "GET", "/api/v1/status", NULL, &answer);
    /* what is just moving is in no column: look again before saying that something is lost */
    for (int i = 0; code == CTL_YES && i < LOOKS_AGAIN; i++) {
        if (json_is_true(json_object_get(answer.json, "balanced")))
            break;
        json_decref(answer.json);
        nanosleep(&(struct timespec){.tv_nsec = LOOK_AGAIN_MS * NS_PER_MS}, NULL);
        code = ctl_request(ctl, "GET", "/api/v1/status", NULL, &answer);
    }
    if (code)
        return code;
    json_t *status = answer.json;
    bool good = str_starts(str_c(ctl_text(status, "health")), STR("ok")); /* loading is well, too */
    if (ctl->json) {
        ctl_print(ctl, status);
    } else if (!ready) {
        printf("postern %s on %s: %s\n", ctl_text(status, "version"), ctl_text(status, "hostname"),
               good ? "mail is flowing" : ctl_text(status, "health"));
        ctl_print_moment("since      ", status, "started");
        printf(", %lld workers, configuration %s (%s)\n", ctl_number(status, "workers"),
               ctl_text(status, "config"), ctl_text(status, "revision"));
        print_configuration(status);
        printf("listeners\n");
        print_listeners(json_object_get(status, "listeners"));
        print_queue(json_object_get(status, "queue"), json_object_get(status, "totals"));
        print_totals(json_object_get(status, "totals"),
                     json_is_true(json_object_get(status, "balanced")));
        if (ctl_number(status, "incidents_open"))
            printf("incidents  %lld open: postern incident list\n",
                   ctl_number(status, "incidents_open"));
        if (ctl_number(status, "domains_unhealthy"))
            printf("domains    %lld with something wrong in DNS: postern domain list\n",
                   ctl_number(status, "domains_unhealthy"));
        printf("mailboxes  %lld protected\n", ctl_number(status, "protected_mailboxes"));
        if (ctl_number(status, "events_dropped") || ctl_number(status, "log_lost"))
            printf("log        %lld events dropped, %lld lines lost\n",
                   ctl_number(status, "events_dropped"), ctl_number(status, "log_lost"));
        printf("next: postern queue list\n");
    }
    json_decref(status);
    return good ? CTL_YES : CTL_NO;
}

int ctl_metrics(struct ctl *ctl)
{
    struct ctl_answer answer;
    ctl_arguments(ctl, 0, 0);
    int code = ctl_request(ctl, "GET", "/metrics", NULL, &answer);
    if (code != CTL_YES)
        return code;
    ctl_print_file(answer.body);
    return CTL_YES;
}
