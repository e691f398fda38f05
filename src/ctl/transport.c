/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/transport.c - `postern transport …`: the ways out, and what holds on them. */
#include "ctl/list.h"

#include <stdio.h>

static void print_rate(json_t *object)
{
    if (json_is_true(json_object_get(object, "paused")))
        printf("  PAUSED");
    if (ctl_text(object, "slow")[0])
        printf("  slowed to %s", ctl_text(object, "slow"));
}

static void print_counts(json_t *object)
{
    json_t *states = json_object_get(object, "states");
    printf("%6lld ready %6lld waiting %4lld inflight %4lld held %6lld paused  %lld/min  "
           "%lld connected",
           ctl_number(states, "ready"), ctl_number(states, "waiting"),
           ctl_number(states, "inflight"), ctl_number(states, "held"), ctl_number(states, "paused"),
           ctl_number(object, "per_minute"), ctl_number(object, "connections"));
}

static void print_transport(json_t *transport)
{
    printf("%s  %s%s%s", ctl_text(transport, "transport"), ctl_text(transport, "method"),
           ctl_text(transport, "server")[0] ? " " : "", ctl_text(transport, "server"));
    print_rate(transport);
    printf("\n ");
    print_counts(transport);
    if (ctl_number(transport, "backed_off"))
        printf("  %lld backed off", ctl_number(transport, "backed_off"));
    printf("\n");
}

static void print_place(json_t *place)
{
    printf("  ");
    ctl_print_text(ctl_text(place, "destination"));
    print_rate(place);
    printf("\n   ");
    print_counts(place);
    if (ctl_number(place, "connections_max"))
        printf(" of %lld, at most %lld", ctl_number(place, "connections_allowed"),
               ctl_number(place, "connections_max"));
    ctl_print_moment("  oldest ", place, "oldest");
    printf("\n");
    if (ctl_number(place, "failures") == 0)
        return;
    printf("    failures in a row: %lld", ctl_number(place, "failures"));
    ctl_print_moment(", last ", place, "last_failure");
    ctl_print_moment(", backed off, tried again ", place, "next_probe");
    printf(": ");
    ctl_print_text(ctl_text(place, "error"));
    printf("\n");
}

static void print_orders(json_t *transport)
{
    size_t i;
    json_t *order;
    json_array_foreach(json_object_get(transport, "orders"), i, order)
    {
        printf("  %s%s%s ", ctl_text(order, "verb"), ctl_text(order, "messages")[0] ? " " : "",
               ctl_text(order, "messages"));
        ctl_print_text(ctl_text(order, "destination")[0] ? ctl_text(order, "destination")
                                                         : "(all)");
        ctl_print_moment("  since ", order, "since");
        printf(" by ");
        ctl_print_text(ctl_text(order, "actor"));
        printf("%s", ctl_text(order, "reason")[0] ? ": " : "");
        ctl_print_text(ctl_text(order, "reason"));
        printf("\n");
    }
}

int ctl_transport_list(struct ctl *ctl)
{
    const struct ctl_list list = {"/api/v1/transports", "Transport", .print = print_transport};
    struct ctl_listed listed;
    ctl_arguments(ctl, 0, 0);
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json)
        printf("next: postern transport show NAME | queue causes\n");
    ctl_listed_free(&listed);
    return CTL_YES;
}

static void add_place(json_t *place, void *places)
{
    json_array_append(places, place);
}

/* With all of its destinations, which come in pages. */
int ctl_transport_show(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 2);
    const char *name = ctl_url_text(ctl, ctl->argv[0]);
    const char *query =
        ctl->argc > 1
            ? arena_printf(ctl->arena, "?destination=%s", ctl_url_text(ctl, ctl->argv[1])).ptr
            : "";
    struct ctl_answer answer;
    struct ctl_listed listed;
    json_t *places = json_array();
    const struct ctl_list list = {
        arena_printf(ctl->arena, "/api/v1/transports/%s/destinations%s", name, query).ptr, "Place",
        .print = ctl->json ? NULL : print_place, .look = ctl->json ? add_place : NULL,
        .context = places};
    struct str path = arena_printf(ctl->arena, "/api/v1/transports/%s?limit=1", name);
    int code = ctl_request(ctl, "GET", path.ptr, NULL, &answer);
    if (code == CTL_YES && !ctl->json) {
        print_transport(answer.json);
        print_orders(answer.json);
    }
    int listing = code == CTL_YES ? ctl_list(ctl, &list, &listed) : code;
    if (listing == CTL_YES && ctl->json) {
        json_object_set(answer.json, "destinations", places);
        json_object_del(answer.json, "next");
        ctl_print(ctl, answer.json);
    } else if (listing == CTL_YES) {
        if (listed.shown == 0)
            printf("  no mail went there lately\n");
        printf("next: postern transport pause|slow|resume|test %s [DEST]\n",
               ctl_text(answer.json, "transport"));
    }
    if (listing == CTL_YES)
        ctl_listed_free(&listed);
    if (code == CTL_YES)
        json_decref(answer.json);
    json_decref(places);
    return listing;
}

/* POST to a transport with its optional destination in the body; `body` is taken. */
static int post(struct ctl *ctl, const char *what, json_t *body, struct ctl_answer *answer)
{
    ctl_arguments(ctl, 1, 2);
    json_object_set_new(body, "destination", json_string(ctl->argc > 1 ? ctl->argv[1] : ""));
    struct str path =
        arena_printf(ctl->arena, "/api/v1/transports/%s/%s", ctl_url_text(ctl, ctl->argv[0]), what);
    int code = ctl_request(ctl, "POST", path.ptr, body, answer);
    json_decref(body);
    return code;
}

static int steer(struct ctl *ctl, const char *verb, const char *messages)
{
    struct ctl_answer answer;
    json_t *body = json_pack("{s:s, s:s}", "verb", verb, "messages", messages ? messages : "");
    int code = post(ctl, "actions", body, &answer);
    if (code)
        return code;
    long long count = ctl_number(answer.json, "count");
    if (ctl_print_change(ctl, answer.json))
        ;
    else if (count == 0)
        printf("nothing was paused or slowed there\n");
    else
        printf("%s: done; it outlives a restart.  next: postern transport show %s\n", verb,
               ctl->argv[0]);
    json_decref(answer.json);
    return count ? CTL_YES : CTL_NO;
}

int ctl_transport_pause(struct ctl *ctl)
{
    return steer(ctl, "pause", NULL);
}

int ctl_transport_resume(struct ctl *ctl)
{
    return steer(ctl, "resume", NULL);
}

int ctl_transport_slow(struct ctl *ctl)
{
    const char *messages = ctl_option(ctl, "--messages");
    if (!messages) {
        fprintf(stderr, "postern: how slow? --messages 100/1m\n");
        return CTL_USAGE;
    }
    return steer(ctl, "slow", messages);
}

static void print_target(json_t *target)
{
    bool ready = json_is_true(json_object_get(target, "ready"));
    printf("%s %s (%s)", ready ? "ok    " : "failed", ctl_text(target, "host"),
           ctl_text(target, "address"));
    printf("  connect %lld ms, greeting %lld ms", ctl_number(target, "connect_us") / 1000,
           ctl_number(target, "greeting_us") / 1000);
    if (ctl_text(target, "tls")[0])
        printf(", %s %s %lld ms", ctl_text(target, "tls"), ctl_text(target, "cipher"),
               ctl_number(target, "tls_us") / 1000);
    else if (ready)
        printf(", no TLS");
    if (!ready) {
        printf(": ");
        ctl_print_text(ctl_text(target, "error"));
    }
    printf("\n");
}

int ctl_transport_test(struct ctl *ctl)
{
    struct ctl_answer answer;
    int code = post(ctl, "tests", json_object(), &answer);
    if (code)
        return code;
    bool ready = json_is_true(json_object_get(answer.json, "ready"));
    if (ctl->json) {
        ctl_print(ctl, answer.json);
    } else {
        size_t i;
        json_t *target;
        json_array_foreach(json_object_get(answer.json, "items"), i, target)
        {
            print_target(target);
        }
        if (ctl_text(answer.json, "error")[0])
            ctl_print_text(ctl_text(answer.json, "error"));
        printf("%s\n", ready ? "it would take mail" : "no host would take mail");
    }
    json_decref(answer.json);
    return ready ? CTL_YES : CTL_NO;
}
