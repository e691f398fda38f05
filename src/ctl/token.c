/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/token.c - `postern token …`: who may use the API over TCP. */
#include "ctl/list.h"

#include <stdio.h>

int ctl_token_create(struct ctl *ctl)
{
    const char *scope = ctl_option(ctl, "--scope");
    const char *expires = ctl_option(ctl, "--expires");
    ctl_arguments(ctl, 1, 1);
    json_t *body = json_pack("{s:s, s:s}", "name", ctl->argv[0], "scope", scope ? scope : "read");
    if (expires)
        json_object_set_new(body, "expires", json_string(expires));
    struct ctl_answer answer;
    int code = ctl_request(ctl, "POST", "/api/v1/tokens", body, &answer);
    json_decref(body);
    if (code)
        return code;
    if (!ctl_print_change(ctl, answer.json)) {
        fprintf(stderr, "keep it safe, it is not shown again:\n");
        printf("%s\n", ctl_text(answer.json, "token"));
    }
    json_decref(answer.json);
    return CTL_YES;
}

static void print_time(json_t *token, const char *name, const char *otherwise)
{
    if (ctl_text(token, name)[0])
        ctl_print_time(ctl_text(token, name), true);
    else
        printf("%-19s", otherwise);
    printf("  ");
}

static void print_token(json_t *token)
{
    printf("%-20s %-8s ", ctl_text(token, "name"), ctl_text(token, "scope"));
    print_time(token, "created", "-");
    print_time(token, "expires", "never");
    print_time(token, "last_used", "-");
    ctl_print_text(ctl_text(token, "by"));
    printf("\n");
}

int ctl_token_list(struct ctl *ctl)
{
    const struct ctl_list list = {"/api/v1/tokens", "Token", .print = print_token};
    struct ctl_listed listed;
    ctl_arguments(ctl, 0, 0);
    if (!ctl->json)
        printf("%-20s %-8s %-19s  %-19s  %-19s  %s\n", "NAME", "SCOPE", "CREATED", "EXPIRES",
               "LAST USED", "BY");
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json && listed.shown == 0)
        printf("there are no tokens\n");
    ctl_listed_free(&listed);
    return CTL_YES;
}

int ctl_token_revoke(struct ctl *ctl)
{
    struct ctl_answer answer;
    ctl_arguments(ctl, 1, 1);
    struct str path =
        arena_printf(ctl->arena, "/api/v1/tokens/%s", ctl_url_text(ctl, ctl->argv[0]));
    int code = ctl_request(ctl, "DELETE", path.ptr, NULL, &answer);
    if (code)
        return code;
    if (!ctl_print_change(ctl, answer.json))
        printf("%s is worthless from now on\n", ctl->argv[0]);
    json_decref(answer.json);
    return CTL_YES;
}
