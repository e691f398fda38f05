/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/trace.c - `postern trace`: the story of a message or a refusal, for people. */
#include "ctl/ctl.h"
#include "event/event.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- pieces ---- */

static bool has(json_t *object, const char *name)
{
    return ctl_text(object, name)[0] != '\0';
}

static void print_pair(const char *before, json_t *object, const char *name)
{
    if (!has(object, name))
        return;
    printf("%s", before);
    ctl_print_text(ctl_text(object, name));
}

static void print_duration(long long us)
{
    if (us < 1000000)
        printf("%.1f ms", (double)us / 1000);
    else
        printf("%.1f s", (double)us / 1000000);
}

/* ---- parts of the story ---- */

/* Of no client's session, and of no message. */
static bool is_own(json_t *story)
{
    return !has(story, "message") && !has(json_object_get(story, "session"), "client");
}

static void print_session(json_t *story)
{
    json_t *session = json_object_get(story, "session");
    if (!session || is_own(story))
        return;
    printf("  ");
    ctl_print_text(ctl_text(session, "client"));
    print_pair("  helo ", session, "helo");
    print_pair("  listener ", session, "listener");
    if (has(session, "tls"))
        print_pair("  ", session, "tls");
    else
        printf("  no TLS");
    if (has(session, "user"))
        print_pair("  user ", session, "user");
    else
        printf("  not logged in");
    printf("\n");
}

/* "found Eicar-Signature (virus), …" */
static void print_findings(json_t *findings)
{
    enum { SHOWN = 8 };
    size_t i;
    json_t *finding;
    size_t count = json_array_size(findings);
    json_array_foreach(findings, i, finding)
    {
        if (i == SHOWN)
            break;
        printf("%s", i ? ", " : "        found ");
        ctl_print_text(ctl_text(finding, "name"));
        print_pair(" (", finding, "text");
        if (has(finding, "text"))
            printf(")");
    }
    if (count > SHOWN)
        printf(", and %zu more (--json)", count - SHOWN);
    if (count)
        printf("\n");
}

/* "spf pass, score 4.2": what conditions behind the step read */
static void print_values(json_t *values)
{
    const char *name;
    json_t *value;
    bool any = false;
    json_object_foreach(values, name, value)
    {
        printf("%s", any ? ", " : "        values ");
        ctl_print_text(name);
        printf(" ");
        if (json_is_real(value))
            printf("%g", json_real_value(value));
        else
            ctl_print_text(json_string_value(value) ? json_string_value(value) : "");
        any = true;
    }
    if (any)
        printf("\n");
}

static void print_steps(json_t *place)
{
    size_t i;
    json_t *step;
    const char *flow = "";
    json_array_foreach(json_object_get(place, "steps"), i, step)
    {
        if (strcmp(flow, ctl_text(step, "flow")) != 0) {
            flow = ctl_text(step, "flow");
            printf("    %s flow ", ctl_text(step, "type"));
            ctl_print_text(flow);
            printf("\n");
        }
        printf("      %-24s ", ctl_text(step, "step"));
        printf("%-12s %-9s ", ctl_text(step, "outcome"), ctl_text(step, "action"));
        print_duration(ctl_number(step, "duration_us"));
        if (json_is_true(json_object_get(step, "observed")))
            printf("  (observed only)");
        print_pair("  ", step, "detail");
        printf("\n");
        print_findings(json_object_get(step, "findings"));
        print_values(json_object_get(step, "values"));
    }
}

static void print_stages(json_t *attempt)
{
    const char *name;
    json_t *value;
    bool any = false;
    json_t *stages = json_object_get(attempt, "stages_us");
    if (has(attempt, "ip") && ctl_number(stages, "connect") <= 0) {
        printf("      on a connection that was open");
        any = true;
    }
    json_object_foreach(stages, name, value)
    {
        if (json_integer_value(value) <= 0)
            continue;
        printf("%s%s ", any ? ", " : "      ", name);
        print_duration(json_integer_value(value));
        any = true;
    }
    if (any)
        printf("\n");
}

static void print_attempt(json_t *attempt)
{
    printf("    ");
    ctl_print_time(ctl_text(attempt, "time"), true);
    printf("  %s", ctl_text(attempt, "result"));
    print_pair(" by ", attempt, "transport");
    print_pair(" to ", attempt, "mx");
    print_pair(" ", attempt, "ip");
    print_pair(", ", attempt, "tls");
    if (has(attempt, "ip") && !has(attempt, "tls"))
        printf(", no TLS");
    printf("\n");
    print_stages(attempt);
    if (has(attempt, "reply")) {
        /* without a server, or a code, the words are ours */
        bool theirs = has(attempt, "ip") && ctl_number(attempt, "code");
        printf("      %s: ", theirs ? "they said" : "because");
        if (ctl_number(attempt, "code"))
            printf("%lld ", ctl_number(attempt, "code"));
        print_pair("", attempt, "enhanced");
        print_pair(" ", attempt, "reply");
        printf("\n");
    }
    if (has(attempt, "error") || has(attempt, "detail")) {
        print_pair("      ", attempt, "error");
        print_pair("      ", attempt, "detail");
        printf("\n");
    }
    if (has(attempt, "next_try")) {
        printf("      next try ");
        ctl_print_time(ctl_text(attempt, "next_try"), true);
        if (has(attempt, "give_up")) {
            printf(", gives up ");
            ctl_print_time(ctl_text(attempt, "give_up"), true);
        }
        printf("\n");
    }
}

/* What the client was told, and why: of a recipient, or of an outcome. */
static void print_refusal(json_t *refusal)
{
    if (has(refusal, "reply")) {
        printf("    %lld", ctl_number(refusal, "code"));
        print_pair(" ", refusal, "enhanced");
        print_pair(" ", refusal, "reply");
        printf("\n");
    }
    if (has(refusal, "reason")) {
        print_pair("    reason ", refusal, "reason");
        print_pair(", step ", refusal, "step");
        printf("\n");
    }
    if (has(refusal, "detail")) {
        print_pair("    ", refusal, "detail");
        printf("\n");
    }
}

static void print_recipient(json_t *recipient)
{
    printf("  to <");
    ctl_print_text(ctl_text(recipient, "to"));
    printf(">");
    print_pair("  domain ", recipient, "domain");
    print_pair("  ", recipient, "verdict");
    printf("\n");
    print_steps(recipient);
    print_refusal(recipient);
}

static void print_delivery(json_t *recipient)
{
    size_t i;
    json_t *attempt;
    json_t *attempts = json_object_get(recipient, "attempts");
    if (json_array_size(attempts) == 0)
        return;
    printf("  delivery to <");
    ctl_print_text(ctl_text(recipient, "to"));
    printf(">\n");
    json_array_foreach(attempts, i, attempt) print_attempt(attempt);
}

/* What the event means, as the reference of events says it. */
static const char *meaning_of(const char *event)
{
    for (int type = 0; type < EVENT_TYPE_COUNT; type++)
        if (strcmp(event_name((enum event_type)type), event) == 0)
            return event_text((enum event_type)type);
    return "";
}

static void print_value(const char *name, json_t *value)
{
    printf("%s ", name);
    if (json_is_string(value))
        ctl_print_text(json_string_value(value));
    else if (json_is_integer(value))
        printf("%lld", json_integer_value(value));
    else
        printf("%s", json_is_true(value) ? "yes" : "no");
}

static void print_outcome(json_t *outcome)
{
    static const char *const own[] = {"event", "time",   "client", "user", "code",   "enhanced",
                                      "reply", "reason", "step",   "ref",  "detail", "helo"};
    const char *name;
    json_t *value;
    bool any = false;
    if (strcmp(ctl_text(outcome, "event"), "message.accepted") == 0)
        return; /* the head of the story is made of it */
    printf("  ");
    ctl_print_time(ctl_text(outcome, "time"), false);
    printf("  %s: %s\n", ctl_text(outcome, "event"), meaning_of(ctl_text(outcome, "event")));
    print_refusal(outcome);
    json_object_foreach(outcome, name, value)
    {
        bool skip = false;
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            skip = skip || strcmp(name, own[i]) == 0;
        if (skip)
            continue;
        printf("%s", any ? "  " : "    ");
        print_value(name, value);
        any = true;
    }
    if (any)
        printf("\n");
}

static bool is_for_now(json_t *outcome)
{
    long long code = ctl_number(outcome, "code");
    return code >= 400 && code < 500;
}

/* "Refused at RCPT", "Message …". */
static void print_title(json_t *story)
{
    json_t *recipient = json_array_get(json_object_get(story, "recipients"), 0);
    json_t *outcomes = json_object_get(story, "outcomes");
    size_t count = json_array_size(outcomes);
    if (!has(story, "ref")) {
        printf("%s %s",
               is_own(story)           ? "The gateway itself"
               : has(story, "message") ? "Message"
                                       : "Session",
               ctl_text(story, "id"));
    } else if (count) {
        json_t *outcome = json_array_get(outcomes, count - 1);
        printf("%s: %s", is_for_now(outcome) ? "Deferred" : "Refused", ctl_text(outcome, "event"));
    } else {
        printf("%s at RCPT",
               strcmp(ctl_text(recipient, "verdict"), "deferred") == 0 ? "Deferred" : "Refused");
    }
    printf(", ");
    ctl_print_time(ctl_text(story, "begin"), true);
    print_pair(", revision ", story, "rev");
    print_pair(", ref ", story, "ref");
    printf("\n");
}

static void print_story(json_t *story)
{
    size_t i;
    json_t *item;
    print_title(story);
    print_session(story);
    print_steps(json_object_get(story, "authentication"));
    if (json_object_get(story, "from")) {
        printf("  from <");
        ctl_print_text(ctl_text(story, "from"));
        printf(">");
        if (json_object_get(story, "size"))
            printf("  %lld bytes", ctl_number(story, "size"));
        print_pair("  message-id ", story, "message_id");
        print_pair("\n  subject ", story, "subject");
        printf("\n");
    }
    json_array_foreach(json_object_get(story, "recipients"), i, item) print_recipient(item);
    print_steps(json_object_get(story, "content"));
    json_array_foreach(json_object_get(story, "recipients"), i, item) print_delivery(item);
    json_array_foreach(json_object_get(story, "outcomes"), i, item) print_outcome(item);
    const char *client = ctl_text(json_object_get(story, "session"), "client");
    if (has(story, "ref") && client[0]) {
        printf("more of this client: postern find 'client:");
        ctl_print_text(client);
        printf(" today'\n");
    }
}

/* For the sender, to be copied. */
static void print_words(json_t *story)
{
    if (has(story, "explanation"))
        ctl_print_text(ctl_text(story, "explanation"));
    else
        printf("This is of the gateway itself, and of no mail.");
    printf("\n");
}

int ctl_trace(struct ctl *ctl)
{
    bool raw = ctl_flag(ctl, "--raw");
    bool words = ctl_flag(ctl, "--story");
    ctl_arguments(ctl, 1, 1);
    ctl_require_id(ctl->argv[0]);
    if (raw)
        return ctl_message_events(ctl);
    struct str path =
        arena_printf(ctl->arena, "/api/v1/messages/%s/trace", ctl_url_text(ctl, ctl->argv[0]));
    return ctl_show(ctl, path.ptr, words ? print_words : print_story);
}
