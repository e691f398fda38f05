/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/webhook.c - `postern webhook …`: web services that are told of events. */
#include "ctl/ctl.h"

#include "ctl/list.h"

#include <stdio.h>
#include <string.h>

static const char *path_of(struct ctl *ctl, const char *what, const char *behind)
{
    return arena_printf(ctl->arena, "/api/v1/%s/%s%s", what, ctl_url_text(ctl, ctl->argv[0]),
                        behind)
        .ptr;
}

/* ---- how it stands ---- */

static void print_webhook(json_t *webhook)
{
    printf("%s  %s  ", ctl_text(webhook, "webhook"), ctl_text(webhook, "state"));
    ctl_print_text(ctl_text(webhook, "origin"));
    printf("\n  %lld pending", ctl_number(webhook, "pending"));
    if (ctl_number(webhook, "pending"))
        printf(" (%lld bytes, the oldest %.0f s old)", ctl_number(webhook, "pending_bytes"),
               json_number_value(json_object_get(webhook, "oldest_seconds")));
    printf("; since the start %lld delivered, %lld given up, %lld dropped\n",
           ctl_number(webhook, "delivered"), ctl_number(webhook, "failed"),
           ctl_number(webhook, "dropped"));
    ctl_print_moment("  last delivered ", webhook, "last_delivered");
    if (ctl_text(webhook, "last_delivered")[0])
        printf("\n");
    if (strcmp(ctl_text(webhook, "state"), "active") == 0)
        return;
    printf("  %s", ctl_text(webhook, "state"));
    ctl_print_moment(" since ", webhook, "since");
    if (ctl_text(webhook, "by")[0]) {
        printf(" by ");
        ctl_print_text(ctl_text(webhook, "by"));
    }
    ctl_print_moment(", tried again ", webhook, "next_try");
    if (ctl_text(webhook, "error")[0]) {
        printf(": ");
        ctl_print_text(ctl_text(webhook, "error"));
    }
    printf("\n");
}

int ctl_webhook_list(struct ctl *ctl)
{
    struct ctl_listed listed;
    const struct ctl_list list = {"/api/v1/webhooks", "Webhook", .print = print_webhook};
    ctl_arguments(ctl, 0, 0);
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json && listed.shown == 0)
        printf("there are no webhooks (webhooks: in the configuration)\n");
    ctl_listed_free(&listed);
    return CTL_YES;
}

/* ---- deliveries ---- */

static void print_delivery(json_t *delivery)
{
    printf("%s  %-9s ", ctl_text(delivery, "id"), ctl_text(delivery, "state"));
    ctl_print_time(ctl_text(delivery, "created"), true);
    printf("  %s  %lld %s", ctl_text(delivery, "event"), ctl_number(delivery, "attempts"),
           ctl_number(delivery, "attempts") == 1 ? "attempt" : "attempts");
    if (ctl_number(delivery, "status"))
        printf("  status %lld", ctl_number(delivery, "status"));
    ctl_print_moment("  tried again ", delivery, "next_try");
    if (ctl_text(delivery, "error")[0]) {
        printf("  ");
        ctl_print_text(ctl_text(delivery, "error"));
    }
    printf("\n");
}

static void print_whole_delivery(json_t *delivery)
{
    char *payload = json_dumps(json_object_get(delivery, "payload"), JSON_ENSURE_ASCII);
    print_delivery(delivery);
    if (payload)
        printf("  sent      %s\n", payload);
    free(payload);
    if (!ctl_number(delivery, "status"))
        return;
    printf("  answered  in %lld ms  ", ctl_number(delivery, "took_ms"));
    ctl_print_text(ctl_text(delivery, "answer"));
    printf("\n");
}

int ctl_webhook_show(struct ctl *ctl)
{
    struct ctl_listed listed;
    ctl_arguments(ctl, 1, 1);
    int code = ctl_show(ctl, path_of(ctl, "webhooks", ""), print_webhook);
    if (code || ctl->json)
        return code;
    const struct ctl_list list = {path_of(ctl, "webhooks", "/deliveries"), "WebhookDelivery",
                                  .limit = "10", .uncounted = true, .print = print_delivery};
    code = ctl_list(ctl, &list, &listed);
    if (code == CTL_YES)
        ctl_listed_free(&listed);
    return code;
}

int ctl_webhook_deliveries(struct ctl *ctl)
{
    struct ctl_listed listed;
    bool failed = ctl_flag(ctl, "--failed"), pending = ctl_flag(ctl, "--pending");
    const char *limit = ctl_option(ctl, "--limit");
    ctl_arguments(ctl, 1, 1);
    const char *path = path_of(ctl, "webhooks",
                               failed    ? "/deliveries?state=failed"
                               : pending ? "/deliveries?state=pending"
                                         : "/deliveries");
    const struct ctl_list list = {path, "WebhookDelivery", .limit = limit ? limit : "50",
                                  .uncounted = true, .print = print_delivery};
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json && listed.shown == 0)
        printf("none\n");
    else if (!ctl->json && listed.more)
        printf("there are more: --limit N\n");
    ctl_listed_free(&listed);
    return CTL_YES;
}

int ctl_webhook_delivery(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 1);
    return ctl_show(ctl, path_of(ctl, "webhook-deliveries", ""), print_whole_delivery);
}

/* ---- orders ---- */

static int order(struct ctl *ctl, const char *path, json_t *body, void (*print)(json_t *object),
                 bool *out_delivered)
{
    struct ctl_answer answer;
    int code = ctl_request(ctl, "POST", path, body, &answer);
    json_decref(body);
    if (code)
        return code;
    if (ctl->json)
        ctl_print(ctl, answer.json);
    else
        print(answer.json);
    *out_delivered = strcmp(ctl_text(answer.json, "state"), "delivered") == 0;
    json_decref(answer.json);
    return CTL_YES;
}

int ctl_webhook_test(struct ctl *ctl)
{
    bool delivered = false;
    ctl_arguments(ctl, 1, 1);
    int code =
        order(ctl, path_of(ctl, "webhooks", "/tests"), NULL, print_whole_delivery, &delivered);
    return code ? code : delivered ? CTL_YES : CTL_NO;
}

int ctl_webhook_retry(struct ctl *ctl)
{
    bool delivered;
    ctl_arguments(ctl, 1, 1);
    return order(ctl, path_of(ctl, "webhook-deliveries", "/retries"), NULL, print_delivery,
                 &delivered);
}

static int act(struct ctl *ctl, const char *verb)
{
    bool delivered;
    ctl_arguments(ctl, 1, 1);
    return order(ctl, path_of(ctl, "webhooks", "/actions"), json_pack("{s:s}", "verb", verb),
                 print_webhook, &delivered);
}

int ctl_webhook_pause(struct ctl *ctl)
{
    return act(ctl, "pause");
}

int ctl_webhook_resume(struct ctl *ctl)
{
    return act(ctl, "resume");
}
